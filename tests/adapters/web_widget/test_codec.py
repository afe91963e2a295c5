"""Settings of a widget, what visitors' updates hold, and what our own delivery comes to."""

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from adapters.base import Attempt
from adapters.web_widget import ADAPTER
from adapters.web_widget.client import WidgetClient
from adapters.web_widget.codec import address, widget
from adapters.web_widget.settings import WidgetSettings, domains_of, ink_on
from adapters.widget import Given, client_id_of, events, message, moved, person, provider_id, read
from gateway.domain.chats import AddressChanged, ClientWrote, ContactGiven, PersonRequested, StatusReached

NOON = datetime(2026, 11, 29, 12, 0, 0, 123456, tzinfo=UTC)


def test_what_is_absent_is_made() -> None:
    one, other = WidgetSettings(), WidgetSettings()
    assert one.widget_key != other.widget_key
    assert one.identity_secret != other.identity_secret
    assert len(one.identity_secret.reveal()) >= 32
    assert widget(one).domains == ()


@pytest.mark.parametrize(
    ("given", "read_as"),
    [
        ("shop.example, *.june.example", "shop.example, *.june.example"),
        (["Shop.Example", "https://shop.example/cart"], "shop.example"),
        ("localhost:5000;127.0.0.1:81", "localhost:5000, 127.0.0.1:81"),
        ("магазин.рф", "xn--80aairftm.xn--p1ai"),
        ("", ""),
    ],
)
def test_domains_are_read_as_people_write_them(given: Any, read_as: str) -> None:
    assert WidgetSettings(allowed_domains=given).allowed_domains == read_as


@pytest.mark.parametrize(
    "given", ["*", "shop.example; script-src *'", "a b'c", "shop.example:0", "shop.example:http", "*.*.example", "-a.example", "'self'"]
)  # fmt: skip
def test_nothing_but_domains_reaches_the_policy(given: str) -> None:
    with pytest.raises(ValidationError, match="allowed_domains"):
        WidgetSettings(allowed_domains=given)


@pytest.mark.parametrize(
    "field",
    [{"color": "red"}, {"widget_key": "short"}, {"identity_secret": "short"}, {"title": "a\nb"}, {"identity": "no"}],
)
def test_what_cannot_be_right_names_its_field(field: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(field))):
        WidgetSettings(**field)


@pytest.mark.parametrize(
    ("color", "ink"), [("#000000", "#ffffff"), ("#ffffff", "#000000"), ("#1a7f5a", "#ffffff"), ("#ffd400", "#000000")]
)
def test_the_ink_can_be_read_on_the_colour(color: str, ink: str) -> None:
    assert ink_on(color) == ink


def test_a_message_is_read_as_it_was_sent() -> None:
    sent = message("visitor:a", "c1", "hello", Given(name="Anna", email="a@june.example"), "ru", NOON)
    wrote, given = events(sent.body, None)
    assert isinstance(wrote, ClientWrote)
    assert (wrote.address, wrote.text, wrote.at, client_id_of(wrote.provider_id)) == ("visitor:a", "hello", NOON, "c1")
    assert (wrote.person.name, wrote.person.language) == ("Anna", "ru")
    assert given == ContactGiven(address="visitor:a", at=NOON, email="a@june.example")
    assert message("visitor:a", "c1", "else", Given(), "", NOON).id == sent.id, "the same id again is a repeat"
    assert message("visitor:b", "c1", "hello", Given(), "", NOON).id != sent.id
    assert client_id_of("0367.0") is None
    assert provider_id("a") != "a"


def test_what_else_visitors_do() -> None:
    assert events(read("visitor:a", 5, ["m.0"], NOON).body, None) == (
        StatusReached(address="visitor:a", at=NOON, status="read", token="m.0", provider_id="m.0"),
    )
    assert events(person("visitor:a", "n", NOON).body, None) == (PersonRequested(address="visitor:a", at=NOON),)
    assert events(moved("visitor:a", "id:7", NOON).body, None) == (
        AddressChanged(address="visitor:a", at=NOON, new_address="id:7"),
    )


@pytest.mark.parametrize(
    "body",
    [{}, {"kind": "odd", "address": "a", "at": NOON.isoformat()}, {"kind": "message", "address": "a", "at": "x"}],
)
def test_what_is_no_update_of_ours_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        events(body, None)


def test_an_address_is_a_visitor_s() -> None:
    assert address("id:7") == "id:7"
    with pytest.raises(ValueError):
        address("+375291112233")


async def test_a_message_is_sent_once_it_is_stored() -> None:
    client = WidgetClient(WidgetSettings())
    done = await client.deliver(Attempt(kind="message", key="m.0", lane="chat 1", body={}))
    assert done.external_id == "m.0"


async def test_a_test_asks_for_a_domain() -> None:
    assert (await WidgetClient(WidgetSettings()).test()).code == "no_domains"
    found = await WidgetClient(WidgetSettings(allowed_domains="shop.example")).test()
    assert (found.ok, found.detail) == (True, "shop.example")
    assert domains_of("") == ()
    assert ADAPTER.chat is not None
