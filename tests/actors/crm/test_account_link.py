"""The token of a module's link: the same each time, good for one registration, and nothing else is."""

from datetime import UTC, datetime, timedelta

import jwt
import pytest

from actors.crm.account_link import claims_of, link_is_good, sign_link
from gateway.domain.ids import IntegrationKey, TenantId
from gateway.domain.secret import Secret

KEY, JUNE, KIND = Secret("k" * 43), TenantId("0367"), IntegrationKey("retailcrm")


NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)


def good(
    token: str,
    key: Secret = KEY,
    tenant: TenantId = JUNE,
    kind: IntegrationKey = KIND,
    registration: int = 3,
    now: datetime = NOW,
) -> bool:
    return link_is_good(token, key, tenant, kind, registration, NOW - 30 * DAY, now)


def test_one_module_and_no_other() -> None:
    token = sign_link(KEY, JUNE, KIND, NOW).reveal()
    assert claims_of(token) == (JUNE, KIND)
    assert jwt.decode(token, KEY.reveal(), algorithms=["HS256"], options={"verify_exp": False, "verify_iat": False}) == {
        "enterprise_number": "0367", "source": "retailcrm", "iat": int(NOW.timestamp()),
        "exp": int((NOW + 365 * DAY).timestamp()),
    }  # fmt: skip
    assert good(token)
    assert not good(token, tenant=TenantId("0368"))
    assert not good(token, kind=IntegrationKey("another"))
    assert not good(token, key=Secret("x" * 43)), "a new registration has a key of its own"
    assert not good(token + "A")


def test_it_ends_after_a_year_and_begins_when_it_was_made() -> None:
    token = sign_link(KEY, JUNE, KIND, NOW).reveal()
    assert good(token, now=NOW + 364 * DAY)
    assert not good(token, now=NOW + 365 * DAY)
    assert not good(token, now=NOW - DAY)
    for claims in (
        {"enterprise_number": "0367", "source": "retailcrm"},
        {"enterprise_number": "0367", "source": "retailcrm", "iat": 0},
        {"enterprise_number": "0367", "source": "retailcrm", "iat": 0, "exp": "never"},
    ):
        assert not good(jwt.encode(claims, KEY.reveal(), "HS256"))


def test_a_link_of_before_ends_a_year_after_its_registration() -> None:
    old = jwt.encode({"tenant": JUNE, "kind": KIND, "registration": 3}, KEY.reveal(), "HS256")
    assert claims_of(old) == (JUNE, KIND)
    assert good(old)
    assert not good(old, registration=4)
    assert not good(old, now=NOW + 340 * DAY)


@pytest.mark.parametrize("text", ["", ".", "a.b.c", "..", "é.é.é", "a" * 5000, "a.b.c\n", "eyJhbGciOiJub25lIn0.e30."])
def test_what_is_no_token(text: str) -> None:
    assert claims_of(text) is None
    assert not good(text)
