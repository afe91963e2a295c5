"""The token of a module's link: the same each time, good for one registration, and nothing else is."""

import pytest

from actors.crm.account_link import claims_of, link_is_good, sign_link
from gateway.domain.ids import IntegrationKey, TenantId
from gateway.domain.secret import Secret

KEY, JUNE, KIND = Secret("k" * 43), TenantId("0367"), IntegrationKey("retailcrm")


def test_one_registration_and_no_other() -> None:
    token = sign_link(KEY, JUNE, KIND, 3).reveal()
    assert token == sign_link(KEY, JUNE, KIND, 3).reveal()
    assert claims_of(token) == (JUNE, KIND)
    assert link_is_good(token, KEY, JUNE, KIND, 3)
    assert not link_is_good(token, KEY, JUNE, KIND, 4)
    assert not link_is_good(token, KEY, TenantId("0368"), KIND, 3)
    assert not link_is_good(token, KEY, JUNE, IntegrationKey("another"), 3)
    assert not link_is_good(token, Secret("x" * 43), JUNE, KIND, 3)
    assert not link_is_good(token + "A", KEY, JUNE, KIND, 3)


@pytest.mark.parametrize("text", ["", ".", "a.b.c", "..", "é.é.é", "a" * 5000, "a.b.c\n", "eyJhbGciOiJub25lIn0.e30."])
def test_what_is_no_token(text: str) -> None:
    assert claims_of(text) is None
    assert not link_is_good(text, KEY, JUNE, KIND, 1)
