"""Which CRMs the suite runs over: all that there are."""

from adapters.registry import adapters
from tests.crms.crm import registered


def test_every_crm_is_in_the_suite() -> None:
    """A CRM that gets calls, clients or orders and has no `of_KIND.py` here is tried by nobody."""
    assert {str(kind) for kind, one in adapters().items() if one.type == "crm"} == {one.kind for one in registered()}
