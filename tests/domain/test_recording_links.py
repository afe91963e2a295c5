"""Signed links: only what we signed, for whom we signed it, until we said."""

from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pytest

from gateway.domain.ids import TenantId
from gateway.domain.recording_links import Signer

NOW = datetime(2026, 11, 21, 10, 0, tzinfo=UTC)
JUNE = Signer(TenantId("0367"), b"j" * 32)
ID = JUNE.recording_id("7.1")


def parts(link: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(link).query, strict_parsing=True).items()}


def test_a_link_is_the_same_whenever_it_is_made_and_says_whose_it_is() -> None:
    link = JUNE.link("https://gw.example", ID, NOW)
    assert link == JUNE.link("https://gw.example", JUNE.recording_id("7.1"), NOW)
    assert urlsplit(link).path == f"/recordings/file/{ID}"
    assert parts(link)["tenant"] == "0367"
    assert parts(link)["expires"] == str(int(NOW.timestamp()))


def test_it_works_until_its_time_and_not_a_second_longer() -> None:
    reported = parts(JUNE.link("", ID, NOW))
    assert JUNE.allows(ID, reported["expires"], reported["signature"], NOW - timedelta(seconds=1))
    assert not JUNE.allows(ID, reported["expires"], reported["signature"], NOW)


@pytest.mark.parametrize(
    ("other", "recording"),
    [
        (Signer(TenantId("0368"), b"j" * 32), ID),
        (Signer(TenantId("0367"), b"k" * 32), ID),
        (JUNE, UUID(int=7)),
    ],
)
def test_nobody_else_s_link_opens_it(other: Signer, recording: UUID) -> None:
    reported = parts(JUNE.link("", ID, NOW + timedelta(days=1)))
    assert not other.allows(recording, reported["expires"], reported["signature"], NOW)


@pytest.mark.parametrize("expires", ["", "1e9", "-1", "٣", " 9999999999", "09999999999", "9" * 40, "9999999999\n"])
def test_what_is_no_time_opens_nothing(expires: str) -> None:
    assert not JUNE.allows(ID, expires, JUNE.signature(ID, 9999999999), NOW)


@pytest.mark.parametrize("signature", ["", "x", "\udcff", "é" * 43])
def test_what_is_no_signature_opens_nothing(signature: str) -> None:
    assert not JUNE.allows(ID, "9999999999", signature, NOW)


def test_ids_differ_by_tenant_call_and_more() -> None:
    ids = {
        JUNE.recording_id("7.1"), JUNE.recording_id("7.2"), JUNE.recording_id("7.1", "a"),
        Signer(TenantId("0368"), b"j" * 32).recording_id("7.1"), JUNE.recording_id("7.", "1"),
    }  # fmt: skip
    assert len(ids) == 5


def test_the_key_is_not_shown() -> None:
    assert "jjj" not in repr(JUNE)
