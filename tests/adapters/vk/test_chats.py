"""What events of a community hold, and what a part of a message is sent as."""

from typing import Any

import pytest

from adapters.channel import Outgoing, parts_of
from adapters.vk.chats import CAPABILITIES, address, events, parameters
from gateway.domain.chats import (
    WHEN_RECEIVED,
    ClientWrote,
    MessageEdited,
    ReachChanged,
    RemoteFile,
    StatusReached,
    WroteElsewhere,
    short_token,
)
from tests.adapters.vk.settings_of import settings
from tests.adapters.vk.test_incoming import event


def found(body: dict[str, Any]) -> list[Any]:
    return list(events(body, settings()))


def test_a_text() -> None:
    (one,) = found(event(text="Здравствуйте", reply_message={"id": 9, "conversation_message_id": 6}))
    assert isinstance(one, ClientWrote)
    assert (one.address, one.provider_id, one.text, one.reply_to) == ("2", "10", "Здравствуйте", "9")
    assert (one.person.name, one.person.username) == ("", "id2")
    assert one.at.isoformat() == "2026-01-01T00:00:00+00:00"


def test_a_name_that_was_looked_up() -> None:
    (one,) = found({**event(), "person": {"name": "Анна Петрова", "username": "anna"}})
    assert (one.person.name, one.person.username) == ("Анна Петрова", "anna")


def attached(kind: str, **inner: Any) -> dict[str, Any]:
    return event(text="", attachments=[{"type": kind, kind: inner}])


@pytest.mark.parametrize(
    ("sent", "file"),
    [
        (attached("photo", sizes=[{"url": "https://a/s", "width": 75, "height": 75}, {"url": "https://a/l", "width": 900, "height": 900}, 7]),
         RemoteFile(kind="image", name="photo.jpg", content_type="image/jpeg", remote={"url": "https://a/l"})),
        (attached("photo", orig_photo={"url": "https://a/o"}),
         RemoteFile(kind="image", name="photo.jpg", content_type="image/jpeg", remote={"url": "https://a/o"})),
        (attached("audio_message", link_ogg="https://a/o.ogg", link_mp3="https://a/o.mp3", duration=3),
         RemoteFile(kind="voice", name="voice.ogg", content_type="audio/ogg", remote={"url": "https://a/o.ogg"})),
        (attached("doc", title="прайс.pdf", size=9, url="https://a/d", ext="pdf"),
         RemoteFile(kind="file", name="прайс.pdf", size=9, remote={"url": "https://a/d"})),
        (attached("sticker", images=[{"url": "https://a/64", "width": 64, "height": 64}]),
         RemoteFile(kind="sticker", name="sticker.png", content_type="image/png", remote={"url": "https://a/64"})),
        (attached("audio", artist="A", title="B", url=""), RemoteFile(kind="other", name="A - B.mp3")),
        (attached("video", title="Cats", owner_id=-1, id=5), RemoteFile(kind="other", name="video: Cats https://vk.com/video-1_5")),
        (attached("link", title="Shop", url="https://e.example/"), RemoteFile(kind="other", name="link: Shop https://e.example/")),
        (attached("market", title="Pizza"), RemoteFile(kind="other", name="market: Pizza")),
        (attached("wall_reply", text="yes"), RemoteFile(kind="other", name="wall reply: yes")),
        (attached("poll", question="When?"), RemoteFile(kind="other", name="poll: When?")),
        (attached("gift"), RemoteFile(kind="other", name="gift")),
        (attached("<b>new</b>"), RemoteFile(kind="other", name="attachment")),
        (event(text="", geo={"type": "point", "coordinates": {"latitude": 53.9, "longitude": 27.5}, "place": {"title": "Minsk"}}),
         RemoteFile(kind="location", name="Minsk", latitude=53.9, longitude=27.5)),
        (event(text="", fwd_messages=[{"text": "a\n b"}]), RemoteFile(kind="other", name="forwarded: a b")),
        (event(text=""), RemoteFile(kind="other", name="message")),
        (event(text="", attachments=["x", {"type": 7}, None]), RemoteFile(kind="other", name="message")),
    ],
)  # fmt: skip
def test_what_comes_beside_texts(sent: dict[str, Any], file: RemoteFile) -> None:
    (one,) = found(sent)
    assert one.files == (file,)


def test_a_forwarded_picture_comes_along() -> None:
    photo = {"type": "photo", "photo": {"sizes": [{"url": "https://a/1", "width": 1, "height": 1}]}}
    (one,) = found(event(fwd_messages=[{"text": "look", "attachments": [photo]}, {"text": ""}]))
    assert [(file.kind, file.name) for file in one.files] == [
        ("other", "forwarded: look"),
        ("image", "photo.jpg"),
        ("other", "forwarded"),
    ]


def test_a_cropped_message_brings_its_whole_text() -> None:
    (one,) = found(event(text="the beginn", is_cropped=True))
    assert one.text == "the beginn"
    (file,) = one.files
    assert (file.kind, file.remote) == ("file", {"message_id": 10})


def test_what_the_community_wrote() -> None:
    (echo,) = found(event("message_reply", out=1, from_id=-1, random_id=-77))
    (typed,) = found(event("message_reply", out=1, from_id=-1, random_id=424242, admin_author_id=5))
    (old,) = found(event("message_reply", out=1, from_id=-1))
    assert all(isinstance(one, WroteElsewhere) for one in (echo, typed, old))
    assert [one.short_token for one in (echo, typed, old)] == [-77, 424242, 0]
    (outgoing,) = found(event("message_new", out=1))
    assert isinstance(outgoing, WroteElsewhere)


def test_an_edit() -> None:
    (client,) = found(event("message_edit", text="sorry", update_time=1_767_225_660))
    (ours,) = found(event("message_edit", text="sorry", out=1))
    assert isinstance(client, MessageEdited)
    assert (client.provider_id, client.text, client.by_client, ours.by_client) == ("10", "sorry", True, False)
    assert client.at.minute == 1


def test_what_has_no_time_of_its_own() -> None:
    (allowed,), (denied,) = (
        found({"type": kind, "object": {"user_id": 2}}) for kind in ("message_allow", "message_deny")
    )
    (seen,) = found({"type": "message_read", "object": {"from_id": 2, "peer_id": 2, "read_message_id": 11}})
    assert isinstance(allowed, ReachChanged)
    assert isinstance(seen, StatusReached)
    assert (allowed.blocked, denied.blocked) == (False, True)
    assert (seen.status, seen.provider_id, seen.up_to) == ("read", "11", True)
    assert allowed.at == denied.at == seen.at == WHEN_RECEIVED


@pytest.mark.parametrize(
    "body",
    [event(peer_id=None), event(peer_id="2"), event(date=None), event(date=True), event(id=0, conversation_message_id=0),
     event(geo={"coordinates": {"latitude": 91, "longitude": 0}}), event(geo={"coordinates": {"latitude": float("nan"), "longitude": 0}}),
     {"type": "message_new", "object": None}, {"type": "message_allow", "object": {}}, {"type": "message_read"}],
)  # fmt: skip
def test_what_cannot_be_understood_is_set_aside(body: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        found(body)


def test_a_part_as_vk_takes_it() -> None:
    part = Outgoing(to="2", text="hi\0", reply_to="9", token="m.0")
    sent = parameters(part)
    assert sent == {
        "peer_id": "2",
        "random_id": str(short_token("m.0")),
        "message": "hi",
        "reply_to": "9",
        "disable_mentions": "1",
    }
    assert parameters(part) == sent, "a repeat is the same"
    assert parameters(Outgoing(to="2", token="m.1"), "doc-1_2")["attachment"] == "doc-1_2"
    place = parameters(Outgoing(to="2", token="m.2", latitude=0.0, longitude=27.5))
    assert (place["lat"], place["long"]) == ("0.0", "27.5")


def test_random_ids_differ_and_fit() -> None:
    numbers = [short_token(f"6f1c0a52-{number}.0") for number in range(5000)]
    assert len(set(numbers)) == 5000
    assert all(-(1 << 31) <= number < 1 << 31 and number for number in numbers)
    assert min(numbers) < 0 < max(numbers)


@pytest.mark.parametrize("text", ["й" * 30_000, "\U0001f600" * 9_000, "слово " * 5_000])
def test_no_text_is_longer_than_vk_takes(text: str) -> None:
    parts = parts_of(CAPABILITIES, "2", text, [])
    assert all(len(part.text.encode("utf-16-le")) // 2 <= 4000 for part in parts)
    assert "".join("".join(part.text.split()) for part in parts) == "".join(text.split())


@pytest.mark.parametrize(
    ("text", "known"), [("2", "2"), ("id2", "2"), ("https://vk.com/id2", "2"), (" vk.ru/id77 ", "77")]
)
def test_an_address(text: str, known: str) -> None:
    assert address(text) == known


@pytest.mark.parametrize("text", ["", "anna", "-5", "0", "2000000001", "2 3", "https://e.example/id2"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError):
        address(text)
