"""Whose callbacks are genuine, and what they hold."""

import json
from typing import Any

import pytest

from adapters.inbound import WebhookCall
from adapters.viber.chats import address, events
from adapters.viber.incoming import EVENTS, INBOUND, read, signature, verify
from adapters.viber.settings import ViberSettings
from gateway.domain.chats import ClientWrote, Opened, ReachChanged, RemoteFile, StatusReached
from tests.adapters.viber.settings_of import settings

ANN = {"id": "01234567890A=", "name": "Ann", "language": "ru", "country": "BY", "api_version": 10}
TOKEN = 4_912_661_846_655_238_145


def callback(event: str = "message", **more: Any) -> dict[str, Any]:
    return {"event": event, "timestamp": 1_767_225_600_123, "message_token": TOKEN, **more}


def message(kind: str, **more: Any) -> dict[str, Any]:
    return callback(sender=ANN, message={"type": kind, **more}, silent=False)


def found(body: dict[str, Any]) -> list[Any]:
    ours = settings()
    return [event for update in read(json.dumps(body).encode(), ours) for event in events(update.body, ours)]


def test_a_genuine_callback() -> None:
    ours = settings()
    body = json.dumps(message("text", text="Здравствуйте"), indent=3).encode()
    for signed in (signature(body, ours), signature(body, ours).upper()):
        assert (
            verify(WebhookCall(method="POST", headers={"x-viber-content-signature": signed}, body=body), ours) is None
        )


@pytest.mark.parametrize(
    "signed", [None, "", "0" * 64, "ключ", "\udcff", signature(b"{}", settings(auth_token="other"))]
)
def test_a_callback_of_somebody_else(signed: str | None) -> None:
    headers = {} if signed is None else {"x-viber-content-signature": signed}
    reply = verify(WebhookCall(method="POST", headers=headers, body=b"{}"), settings())
    assert reply is not None
    assert reply.status == 403


def test_one_changed_byte_is_noticed() -> None:
    ours = settings()
    body = json.dumps(message("text", text="5 BYN")).encode()
    headers = {"x-viber-content-signature": signature(body, ours)}
    reply = verify(WebhookCall(method="POST", headers=headers, body=body.replace(b"5 BYN", b"9 BYN")), ours)
    assert reply is not None
    assert reply.status == 403


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_only_posts_are_callbacks(method: str) -> None:
    reply = verify(WebhookCall(method=method), settings())
    assert reply is not None
    assert reply.status == 405


def test_an_id_of_64_bits_is_a_text() -> None:
    (update,) = read(json.dumps(message("text", text="hi")).encode(), settings())
    assert update.body["message_token"] == "4912661846655238145"
    assert update.id == "message 4912661846655238145"


def test_the_reports_on_a_message_are_updates_of_their_own() -> None:
    bodies = [callback(event, user_id=ANN["id"]) for event in ("delivered", "seen", "failed")]
    ids = [read(json.dumps(body).encode(), settings())[0].id for body in bodies]
    assert len(set(ids)) == 3
    assert read(json.dumps(bodies[0]).encode(), settings())[0].id == ids[0], "a repeat is known by its id"


@pytest.mark.parametrize("event", ["webhook", "client_status", "action"])
def test_what_is_of_no_interest_is_accepted(event: str) -> None:
    assert read(json.dumps(callback(event)).encode(), settings()) == ()


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"null", b"\xff", b"{}", b'{"event": 1}', b"[" * 100_000, b'{"event": "message"}',
     b'{"event": "message", "message_token": true}', b'{"event": "message", "message_token": -1}',
     b'{"event": "message", "message_token": "x"}', b'{"event": "message", "message_token": 1e300}'],
)  # fmt: skip
def test_what_is_no_callback(body: bytes) -> None:
    with pytest.raises(ValueError):
        read(body, settings())


def test_a_text() -> None:
    (event,) = found(message("text", text="Здравствуйте"))
    assert isinstance(event, ClientWrote)
    assert (event.address, event.provider_id, event.text) == (ANN["id"], str(TOKEN), "Здравствуйте")
    assert (event.person.name, event.person.language) == ("Ann", "ru")
    assert event.at.isoformat() == "2026-01-01T00:00:00.123000+00:00"


@pytest.mark.parametrize(
    ("sent", "file", "text"),
    [
        (message("picture", media="https://dl.example/1", text="это", file_name="a.png", size=9),
         RemoteFile(kind="image", name="a.png", size=9, remote={"url": "https://dl.example/1"}), "это"),
        (message("video", media="https://dl.example/2", size=9, duration=3),
         RemoteFile(kind="video", name="video.mp4", size=9, remote={"url": "https://dl.example/2"}), ""),
        (message("file", media="https://dl.example/3", file_name="price.pdf", size=True),
         RemoteFile(kind="file", name="price.pdf", remote={"url": "https://dl.example/3"}), ""),
        (message("sticker", sticker_id=40126), RemoteFile(kind="other", name="sticker"), ""),
        (message("location", location={"lat": "53.9", "lon": "27.5"}), RemoteFile(kind="location", latitude=53.9, longitude=27.5), ""),
        (message("contact", contact={"name": "Oleg", "phone_number": "+375291112233"}),
         RemoteFile(kind="contact", name="Oleg +375291112233"), ""),
        (message("rich_media"), RemoteFile(kind="other", name="rich media"), ""),
        (message("hologram"), RemoteFile(kind="other", name="hologram"), ""),
        (message("picture"), RemoteFile(kind="other", name="picture"), ""),
        ({**message("text"), "message": {}}, RemoteFile(kind="other", name="message"), ""),
    ],
)  # fmt: skip
def test_what_comes_beside_texts(sent: dict[str, Any], file: RemoteFile, text: str) -> None:
    (event,) = found(sent)
    assert event.files == (file,)
    assert event.text == text


@pytest.mark.parametrize(("text", "shown"), [("", "https://e.example/"), ("see https://e.example/", "see https://e.example/"),
                                             ("see", "see\nhttps://e.example/")])  # fmt: skip
def test_a_link_stands_in_the_text(text: str, shown: str) -> None:
    (event,) = found(message("url", media="https://e.example/", text=text))
    assert (event.text, event.files) == (shown, ())


@pytest.mark.parametrize("text", ["x" * 100_000, "👩‍👩‍👧‍👦🇧🇾" * 500, "\u200f\u202eшалом\u2066", "a\0b", "\ud83d", " "])
def test_a_text_of_any_kind_is_a_message(text: str) -> None:
    (event,) = found(message("text", text=text))
    assert isinstance(event, ClientWrote)
    assert event.text == text


@pytest.mark.parametrize("size", [-1, 0, 10**30, "9", None, 1.5])
def test_a_size_that_is_none(size: object) -> None:
    (event,) = found(message("file", media="https://dl.example/3", file_name="a.pdf", size=size))
    assert event.files[0].size in (None, 10**30), "what no column takes is left out by the store"


def test_who_opens_the_chat_is_greeted_in_the_answer() -> None:
    ours = settings(greeting="  Здравствуйте!  ")
    body = callback("conversation_started", type="open", user=ANN, subscribed=False)
    updates = read(json.dumps(body).encode(), ours)
    reply = INBOUND.answered(updates, ours)
    assert reply is not None
    assert (reply.status, reply.content_type.partition(";")[0]) == (200, "application/json")
    assert json.loads(reply.body) == {
        "sender": {"name": "June"}, "min_api_version": 1, "type": "text", "text": "Здравствуйте!",
    }  # fmt: skip
    assert INBOUND.answered(updates, ours) == reply, "Viber repeats a callback whose answer it has not seen"


@pytest.mark.parametrize(
    ("body", "greeting"),
    [(callback("conversation_started", user=ANN, subscribed=True), "Hi"), (callback("conversation_started", user=ANN), ""),
     (callback("subscribed", user=ANN), "Hi"), (message("text", text="hi"), "Hi"), (callback("webhook"), "Hi")],
)  # fmt: skip
def test_nobody_else_is_greeted(body: dict[str, Any], greeting: str) -> None:
    ours = settings(greeting=greeting)
    assert INBOUND.answered(read(json.dumps(body).encode(), ours), ours) is None


@pytest.mark.parametrize("greeting", ["x" * 1001, "a\0b"])
def test_a_greeting_that_cannot_be_sent(greeting: str) -> None:
    with pytest.raises(ValueError, match="at most 1000"):
        settings(greeting=greeting)


def test_a_shared_card_confirms_no_phone() -> None:
    (event,) = found(message("contact", contact={"name": "Ann", "phone_number": "+375291112233"}))
    assert event.person.phone == ""


def test_what_people_do_with_the_bot() -> None:
    (opened,) = found(callback("conversation_started", type="open", context="promo-7", user=ANN, subscribed=False))
    assert isinstance(opened, Opened)
    assert (opened.address, opened.payload, opened.person.name) == (ANN["id"], "promo-7", "Ann")
    (back,), (gone,) = found(callback("subscribed", user=ANN)), found(callback("unsubscribed", user_id=ANN["id"]))
    assert isinstance(back, ReachChanged)
    assert isinstance(gone, ReachChanged)
    assert (back.blocked, gone.blocked) == (False, True)


@pytest.mark.parametrize(("event", "status"), [("delivered", "delivered"), ("seen", "read"), ("failed", "failed")])
def test_what_becomes_of_our_messages(event: str, status: str) -> None:
    (reached,) = found(callback(event, user_id=ANN["id"], desc="no device"))
    assert isinstance(reached, StatusReached)
    assert (reached.status, reached.provider_id, reached.error) == (status, str(TOKEN), "no device")


@pytest.mark.parametrize(
    "body",
    [callback(sender=None, message={"type": "text"}), callback(sender={"id": ""}, message={"type": "text"}),
     callback(sender={"id": 7}, message={"type": "text"}), callback(sender=ANN, message="hi"),
     {**message("text"), "timestamp": None}, {**message("text"), "timestamp": 1 << 60},
     message("location", location={"lat": "north", "lon": "27"}), message("location", location={"lat": "nan", "lon": "27"}),
     message("location"), callback("delivered"), callback("subscribed")],
)  # fmt: skip
def test_what_cannot_be_understood_is_set_aside(body: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        found(body)


def test_all_events_that_are_chosen_are_understood() -> None:
    for event in EVENTS:
        assert found(callback(event, user=ANN, user_id=ANN["id"])), event


@pytest.mark.parametrize("text", ["", "x", "a b c d e f", "+375291112233\n", "../../etc/passwd", "Ann"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError):
        address(text)


def test_an_address() -> None:
    assert address("01234567890A=") == "01234567890A="


@pytest.mark.parametrize("name", ["", "  ", "x" * 29, "two\nlines"])
def test_a_sender_s_name_that_viber_refuses(name: str) -> None:
    with pytest.raises(ValueError, match="1 to 28"):
        ViberSettings.model_validate({"auth_token": "t", "sender_name": name})
