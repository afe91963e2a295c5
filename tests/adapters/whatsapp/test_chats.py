"""What updates of WhatsApp hold, and what parts of messages become. Shapes as Meta's reference of webhooks has them."""

from datetime import UTC, datetime
from typing import Any

import pytest

from adapters.channel import Outgoing, OutgoingFile, TemplateUse, parts_of
from adapters.whatsapp.chats import CAPABILITIES, CHANNEL, address, events, payload
from gateway.domain.chats import (
    AddressChanged,
    ClientWrote,
    MessageDeleted,
    MessageEdited,
    Person,
    RemoteFile,
    StatusReached,
    WroteElsewhere,
)
from tests.adapters.whatsapp.test_incoming import settings

NUMBER, USER = "375291002001", "BY.13491208655302741918"
AT = datetime(2026, 1, 1, tzinfo=UTC)
IDS = {"id": "wamid.1", "timestamp": "1767225600"}


def heard(item: dict[str, Any], contact: dict[str, Any] | None = None, kind: str = "message") -> list[Any]:
    return list(events({"kind": kind, "item": {**IDS, **item}, "contact": contact or {}}, settings()))


def wrote(item: dict[str, Any], contact: dict[str, Any] | None = None) -> ClientWrote:
    (found,) = heard({"from": NUMBER, **item}, contact)
    assert isinstance(found, ClientWrote)
    return found


def test_a_text_with_a_name_and_a_number() -> None:
    contact = {"wa_id": NUMBER, "profile": {"name": "Анна", "username": "anna"}}
    assert wrote({"type": "text", "text": {"body": "Привет 👋"}, "context": {"from": "1", "id": "wamid.0"}}, contact) == ClientWrote(
        address=NUMBER, at=AT, provider_id="wamid.1", text="Привет 👋", reply_to="wamid.0",
        person=Person(name="Анна", username="anna", phone=f"+{NUMBER}"),
    )  # fmt: skip


def test_somebody_who_hides_their_number() -> None:
    (found,) = heard(
        {"from_user_id": USER, "type": "text", "text": {"body": "a"}}, {"user_id": USER, "profile": {"name": "A"}}
    )
    assert (found.address, found.person.phone) == (USER, "")


def test_with_number_and_user_id_the_conversation_of_the_number_moves_first() -> None:
    moved, found = heard({"from": NUMBER, "from_user_id": USER, "type": "text", "text": {"body": "a"}})
    assert moved == AddressChanged(address=NUMBER, at=AT, new_address=USER, phone=f"+{NUMBER}")
    assert (found.address, found.person.phone) == (USER, f"+{NUMBER}")


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ({"type": "image", "image": {"id": "11", "mime_type": "image/jpeg", "caption": "вот"}},
         RemoteFile(kind="image", content_type="image/jpeg", remote={"media_id": "11"})),
        ({"type": "audio", "audio": {"id": "12", "mime_type": "audio/ogg; codecs=opus", "voice": True}},
         RemoteFile(kind="voice", content_type="audio/ogg; codecs=opus", remote={"media_id": "12"})),
        ({"type": "audio", "audio": {"id": "12", "mime_type": "audio/mpeg", "voice": False}},
         RemoteFile(kind="audio", content_type="audio/mpeg", remote={"media_id": "12"})),
        ({"type": "document", "document": {"id": "13", "mime_type": "application/pdf", "filename": "прайс.pdf"}},
         RemoteFile(kind="file", name="прайс.pdf", content_type="application/pdf", remote={"media_id": "13"})),
        ({"type": "sticker", "sticker": {"id": "14", "mime_type": "image/webp"}},
         RemoteFile(kind="sticker", content_type="image/webp", remote={"media_id": "14"})),
        ({"type": "location", "location": {"latitude": 53.9, "longitude": 27.56, "name": "Дом", "address": "ул. 1"}},
         RemoteFile(kind="location", name="Дом, ул. 1", latitude=53.9, longitude=27.56)),
        ({"type": "contacts", "contacts": [{"name": {"formatted_name": "Иван"}, "phones": [{"phone": "+1"}]}]},
         RemoteFile(kind="contact", name="Иван +1")),
        ({"type": "reaction", "reaction": {"message_id": "wamid.0", "emoji": "👍"}}, RemoteFile(kind="other", name="reaction 👍")),
        ({"type": "unsupported", "errors": [{"code": 131051}]}, RemoteFile(kind="other", name="a message that WhatsApp does not pass on")),
        ({"type": "poll_creation", "poll_creation": {}}, RemoteFile(kind="other", name="poll creation")),
        ({}, RemoteFile(kind="other", name="message")),
    ],
)  # fmt: skip
def test_what_is_not_text_is_shown_as_what_it_is(item: dict[str, Any], expected: RemoteFile) -> None:
    assert wrote(item).files == (expected,)


@pytest.mark.parametrize(
    ("item", "text"),
    [
        ({"type": "image", "image": {"id": "11", "caption": "вот"}}, "вот"),
        ({"type": "button", "button": {"text": "Да", "payload": "yes"}}, "Да"),
        ({"type": "interactive", "interactive": {"type": "list_reply", "list_reply": {"id": "1", "title": "Пицца", "description": "30 см"}}}, "Пицца\n30 см"),
        ({"type": "order", "order": {"text": "привезите", "product_items": [{"product_retailer_id": "A1", "quantity": 2, "item_price": 5, "currency": "BYN"}]}}, "привезите\nA1 × 2 (5 BYN)"),
    ],
)  # fmt: skip
def test_texts_of_other_kinds(item: dict[str, Any], text: str) -> None:
    assert wrote(item).text == text


def test_edits_deletions_and_reactions_taken_back() -> None:
    edit = {
        "type": "edit",
        "edit": {"original_message_id": "wamid.0", "message": {"type": "image", "image": {"caption": "b"}}},
    }
    assert heard({"from": NUMBER, **edit}) == [MessageEdited(address=NUMBER, at=AT, provider_id="wamid.0", text="b")]
    revoke = {"type": "revoke", "revoke": {"original_message_id": "wamid.0"}}
    assert heard({"from": NUMBER, **revoke}) == [MessageDeleted(address=NUMBER, at=AT, provider_id="wamid.0")]
    assert heard({"from": NUMBER, "type": "reaction", "reaction": {"message_id": "wamid.0"}}) == []


def test_numbers_and_ids_that_change() -> None:
    system = {"type": "user_changed_number", "wa_id": "375291002009", "body": "…"}
    assert heard({"from": NUMBER, "type": "system", "system": system}) == [
        AddressChanged(address=NUMBER, at=AT, new_address="375291002009", phone="+375291002009", old_phone=f"+{NUMBER}")
    ]
    system = {"type": "user_changed_user_id", "previous_user_id": USER, "user_id": "PL.77", "body": "…"}
    assert heard({"type": "system", "system": system}) == [AddressChanged(address=USER, at=AT, new_address="PL.77")]
    assert heard({"from": NUMBER, "type": "system", "system": {"type": "customer_identity_changed"}}) == []


def test_what_the_phone_of_the_company_wrote() -> None:
    item = {"from": "15550199", "to": NUMBER, "to_user_id": USER, "type": "text", "text": {"body": "a"}}
    moved, found = heard(item, kind="echo")
    assert moved == AddressChanged(address=NUMBER, at=AT, new_address=USER, phone=f"+{NUMBER}")
    assert found == WroteElsewhere(address=USER, at=AT, provider_id="wamid.1", text="a")


@pytest.mark.parametrize(
    ("status", "expected"),
    [("sent", "sent"), ("delivered", "delivered"), ("read", "read"), ("played", "read"), ("failed", "failed")],
)
def test_statuses_bring_our_token_back(status: str, expected: str) -> None:
    errors = [{"code": 131047, "title": "Re-engagement message", "error_data": {"details": "more than 24 hours"}}]
    item = {"status": status, "recipient_id": NUMBER, "biz_opaque_callback_data": "t.0", "errors": errors}
    assert heard(item, kind="status") == [
        StatusReached(
            address=NUMBER, at=AT, status=expected, provider_id="wamid.1", token="t.0",  # type: ignore[arg-type] # one of the cases
            error="131047: more than 24 hours" if status == "failed" else "",
        )
    ]  # fmt: skip
    assert heard({**item, "status": "warning"}, kind="status") == []


@pytest.mark.parametrize(
    "item",
    [{"from": NUMBER, "timestamp": "soon"}, {"from": NUMBER, "timestamp": -1}, {"from": NUMBER, "timestamp": "9" * 16},
     {"from": "none", "type": "text"}, {"type": "text"}, {"from": NUMBER, "id": None, "type": "text"},
     {"from": NUMBER, "type": "location", "location": {"latitude": "x"}},
     {"from": NUMBER, "type": "location", "location": {"latitude": 1}},
     {"from": NUMBER, "type": "location", "location": {"latitude": float("nan"), "longitude": 1}}],
)  # fmt: skip
def test_an_update_that_cannot_be_understood(item: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        heard(item)


@pytest.mark.parametrize("text", ["👍" * 100, "\u202e\u200fabc", "a\0b", "я" * 100_000])
def test_any_text_is_text(text: str) -> None:
    assert wrote({"type": "text", "text": {"body": text}}).text == text


@pytest.mark.parametrize(
    ("given", "expected"),
    [("+375 29 100-20-01", NUMBER), ("375291002001", NUMBER), (USER, USER), (f" {USER} ", USER)],
)
def test_addresses(given: str, expected: str) -> None:
    assert address(given) == expected


@pytest.mark.parametrize("given", ["", "anna", "80291002001" * 2, "0291002001", "by.123", "BY.", "+375\n291002001x"])
def test_no_addresses(given: str) -> None:
    with pytest.raises(ValueError):
        address(given)


# Sending


def test_a_text_on_the_wire() -> None:
    part = Outgoing(to=NUMBER, text="hi", reply_to="wamid.0", token="t.0")
    assert payload(part) == {
        "messaging_product": "whatsapp", "recipient_type": "individual", "to": NUMBER, "type": "text",
        "text": {"body": "hi", "preview_url": False}, "context": {"message_id": "wamid.0"}, "biz_opaque_callback_data": "t.0",
    }  # fmt: skip
    assert payload(Outgoing(to=USER, text="hi"))["recipient"] == USER
    assert "to" not in payload(Outgoing(to=USER, text="hi"))


@pytest.mark.parametrize(
    ("kind", "content_type", "expected"),
    [
        ("image", "image/jpeg", {"type": "image", "image": {"id": "9", "caption": "вот"}}),
        ("image", "image/webp", {"type": "document", "document": {"id": "9", "caption": "вот", "filename": "f"}}),
        ("video", "video/mp4", {"type": "video", "video": {"id": "9", "caption": "вот"}}),
        ("video", "video/webm", {"type": "document", "document": {"id": "9", "caption": "вот", "filename": "f"}}),
        ("voice", "audio/ogg; codecs=opus", {"type": "audio", "audio": {"id": "9", "voice": True}}),
        ("audio", "audio/mpeg", {"type": "audio", "audio": {"id": "9"}}),
        ("audio", "audio/wav", {"type": "document", "document": {"id": "9", "caption": "вот", "filename": "f"}}),
        ("file", "application/pdf", {"type": "document", "document": {"id": "9", "caption": "вот", "filename": "f"}}),
        ("file", "", {"type": "document", "document": {"id": "9", "caption": "вот", "filename": "f"}}),
    ],
)  # fmt: skip
def test_files_on_the_wire(kind: Any, content_type: str, expected: dict[str, Any]) -> None:
    file = OutgoingFile(id="1", kind=kind, name="f", content_type=content_type, size=3)
    found = payload(Outgoing(to=NUMBER, text="вот", file=file), "9")
    assert {name: found[name] for name in ("type", found["type"])} == expected


def test_a_template_on_the_wire() -> None:
    values = {"body.1": "Анна", "body.2": "12", "body.10": "z", "header.name": "June", "button.0": "abc"}
    found = payload(
        Outgoing(to=NUMBER, text="as read", template=TemplateUse(name="ready", language="ru", values=values))
    )
    assert found["type"] == "template"
    assert "text" not in found
    assert found["template"] == {
        "name": "ready", "language": {"code": "ru"},
        "components": [
            {"type": "header", "parameters": [{"type": "text", "parameter_name": "name", "text": "June"}]},
            {"type": "body", "parameters": [{"type": "text", "text": one} for one in ("Анна", "12", "z")]},
            {"type": "button", "sub_type": "url", "index": "0", "parameters": [{"type": "text", "text": "abc"}]},
        ],
    }  # fmt: skip


def test_a_long_text_and_two_files_are_parts() -> None:
    files = [OutgoingFile(id=str(n), kind="image", name="", content_type="image/png", size=1) for n in range(2)]
    made = parts_of(CAPABILITIES, NUMBER, "слово " * 1000, files, token="t")
    assert [bool(one.file) for one in made] == [False, False, True, True]
    assert all(len(one.text) <= 4096 for one in made)
    assert [one.token for one in made] == ["t.0", "t.1", "t.2", "t.3"]


def test_each_recipient_has_a_rate() -> None:
    assert CHANNEL.bucket(NUMBER) == f"pair:{NUMBER}"
