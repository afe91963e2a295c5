"""Addresses of recordings: made from a template, and never leading anywhere the template does not."""

from datetime import UTC, datetime
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.templates import check_template, fill

AT = datetime(2026, 11, 20, 22, 30, tzinfo=UTC)
MINSK = ZoneInfo("Europe/Minsk")


def made(template: str, reported: str = "rec-7.1.wav", call: str = "main-7.1") -> str | None:
    return fill(template, reported=reported, call_id=call, pbx="main", begins_at=AT, zone=MINSK)


@pytest.mark.parametrize(
    ("template", "url"),
    [
        ("https://pbx/{year}/{month}/{day}/{file}", "https://pbx/2026/11/21/rec-7.1.wav"),
        ("https://pbx/get?id={uniqueid}&l={linkedid}", "https://pbx/get?id=7.1&l=7.1"),
        ("https://pbx/{path}", "https://pbx/rec-7.1.wav"),
    ],
)
def test_fields_are_filled_in(template: str, url: str) -> None:
    check_template(template)
    assert made(template) == url


@pytest.mark.parametrize(
    ("reported", "url"),
    [
        ("2026/11/a b.wav", "https://pbx/2026/11/a%20b.wav"), ("a?b#c&d.wav", "https://pbx/a%3Fb%23c%26d.wav"),
        ("../../etc/passwd", None), ("a/../b", None), ("a//b", None), (".", None), ("", None), ("a\\b", None),
        ("a\r\nHost: x", None), ("%2e%2e%2f", "https://pbx/%252e%252e%252f"), ("Ж.wav", "https://pbx/%D0%96.wav"),
    ],
)  # fmt: skip
def test_what_a_pbx_tells_climbs_nowhere(reported: str, url: str | None) -> None:
    assert made("https://pbx/{path}", reported) == url


@given(reported=st.text(max_size=30), call=st.text(max_size=20))
def test_host_and_folder_stay_those_of_the_template(reported: str, call: str) -> None:
    url = made("https://pbx.example/monitor/{file}?id={uniqueid}", reported, call)
    if url is not None:
        parts = urlsplit(url)
        assert (parts.scheme, parts.netloc, parts.fragment) == ("https", "pbx.example", "")
        assert parts.path.startswith("/monitor/")
        assert parts.path.count("/") == 2
        assert not parts.path.endswith(("/..", "/."))


@pytest.mark.parametrize(
    "template",
    [
        "ftp://x/{file}", "https://{file}/x", "https://x/{secret}", "https://x/{file", "https://x/file", "https:///{file}",
        "https://u:p@x/{file}", "https://x/{file}#a", "https://x/ {file}", "https://x/\n{file}", "{file}", "https://x:0/{file}",
        "https://x:99999/{file}", "https://x\\{file}",
    ],
)  # fmt: skip
def test_a_template_that_makes_no_address_is_refused(template: str) -> None:
    with pytest.raises(ValueError):
        check_template(template)
