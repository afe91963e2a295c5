"""What every CRM's settings take from a tenant file, whether it means something there or not."""

from typing import Any

import pytest

from adapters.base import Adapter
from adapters.crm_settings import CrmSettings
from adapters.registry import adapters
from tests.adapters.test_contract import example

CRMS = [one for one in adapters().values() if one.type == "crm"]


@pytest.mark.parametrize("adapter", CRMS, ids=lambda one: str(one.kind))
def test_common_fields_may_stand_in_every_file(adapter: Adapter) -> None:
    common: dict[str, Any] = {
        "send_events": {"in": True, "out": False, "hangup": True, "upload": True}, "sync_contacts": False, "sync_orders": False,
        "primary": True, "hook_id": "h" * 43, "mapping": [],
    }  # fmt: skip
    settings = adapter.settings.model_validate({**example(adapter), **common})
    assert isinstance(settings, CrmSettings)
    assert (settings.primary, settings.sync_contacts, settings.sync_orders) == (True, False, False)
    assert adapter.settings.model_validate({**example(adapter), **common}) == settings
    for wrong in ({"send_events": {"on": True}}, {"hook": "x"}):
        with pytest.raises(ValueError, match="Extra inputs"):
            adapter.settings.model_validate({**example(adapter), **wrong})
