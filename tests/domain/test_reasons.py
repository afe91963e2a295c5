"""Reasons of failed connections: each in both languages, found within longer texts, values untouched."""

import ipaddress
import re

import pytest

from adapters.http import addresses
from gateway.domain.reasons import REASONS, WHYS, in_language, reason

LATIN = re.compile("[A-Za-z]")


@pytest.mark.parametrize("name", REASONS)
def test_each_reason_is_found_and_put_into_the_other_language(name: str) -> None:
    text = reason(name, host="203.0.113.7", why="link-local, port 81")
    russian = in_language(text, "ru")
    assert in_language(text, "en") == text
    assert not LATIN.search(re.sub("TLS|https?|PUBLIC_URL", "", russian)), russian
    assert ("203.0.113.7" in russian) is ("203.0.113.7" in text)
    assert in_language(f"502: {text} (retried)", "ru") == f"502: {russian} (retried)"


@pytest.mark.parametrize("why", [*dict(addresses._REFUSED).values(), "our own listener", "plain http", "port 8080"])
def test_each_refusal_of_the_dialer_has_words(why: str) -> None:
    assert why in WHYS or why.startswith("port ")
    text = reason("forbidden", host="crm.example", why=why)
    assert in_language(text, "ru").startswith("с crm.example соединяться нельзя: ")
    assert why not in in_language(text, "ru")


@pytest.mark.parametrize("text", ["", "153", "400 Bad Request: Wrong phone", "[x] there is", "a" * 10_000])
def test_other_texts_stay(text: str) -> None:
    assert in_language(text, "ru") == text


def test_the_dialer_speaks_by_these_reasons() -> None:
    policy = addresses.AddressPolicy()
    why = policy.refusal(ipaddress.ip_address("169.254.169.254"), 80)
    assert why in WHYS
