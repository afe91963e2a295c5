"""What updates hold, and what a part of a message is sent as."""

from typing import Any
from uuid import uuid4

import pytest

from adapters.channel import Outgoing, OutgoingFile, TemplateUse, length, parts_of
from adapters.instagram.chats import CAPABILITIES, address, events, payload
from gateway.domain.chat_fold import Book
from gateway.domain.chats import (
    ELSEWHERE,
    OWNER_AI,
    OWNER_QUEUE,
    ClientWrote,
    MessageDeleted,
    MessageEdited,
    Opened,
    RemoteFile,
    StatusReached,
    WroteElsewhere,
)
from gateway.domain.errors import Rejected
from gateway.domain.ids import IntegrationKey
from tests.adapters.instagram.settings_of import ACCOUNT, settings

ANN, URL = "99001", "https://lookaside.fbsbx.com/ig_messaging_cdn/?asset_id=1&signature=s"
KEY = IntegrationKey("instagram")


def item(**what: Any) -> dict[str, Any]:
    return {"sender": {"id": ANN}, "recipient": {"id": ACCOUNT}, "timestamp": 1_767_225_600_001, **what}


def ours(**what: Any) -> dict[str, Any]:
    return {**item(**what), "sender": {"id": ACCOUNT}, "recipient": {"id": ANN}}


def said(**message: Any) -> dict[str, Any]:
    return item(message={"mid": "m1", **message})


def only(body: dict[str, Any]) -> Any:
    (event,) = events(body, settings())
    return event


def test_a_text() -> None:
    event = only(said(text="Здравствуйте 👋", reply_to={"mid": "m0"}))
    assert isinstance(event, ClientWrote)
    assert (event.address, event.provider_id, event.text, event.reply_to) == (ANN, "m1", "Здравствуйте 👋", "m0")
    assert event.at.isoformat() == "2026-01-01T00:00:00.001000+00:00"
    assert event.files == ()
    assert event.person.phone == ""


def attached(kind: str, **payload: Any) -> dict[str, Any]:
    return said(attachments=[{"type": kind, "payload": payload}])


@pytest.mark.parametrize(
    ("body", "file"),
    [
        (attached("image", url=URL), RemoteFile(kind="image", remote={"url": URL})),
        (attached("video", url=URL), RemoteFile(kind="video", remote={"url": URL})),
        (attached("audio", url=URL), RemoteFile(kind="voice", remote={"url": URL})),
        (attached("file", url=URL), RemoteFile(kind="file", remote={"url": URL})),
        (attached("share", url=URL), RemoteFile(kind="image", name="shared post", remote={"url": URL})),
        (attached("ig_post", url=URL, ig_post_media_id="1", title="Winter menu"),
         RemoteFile(kind="image", name="shared post: Winter menu", remote={"url": URL})),
        (attached("ig_reel", url=URL, reel_video_id="1", title="How we bake"),
         RemoteFile(kind="image", name="shared reel: How we bake", remote={"url": URL})),
        (attached("story_mention", url=URL), RemoteFile(kind="image", name="mentioned you in a story", remote={"url": URL})),
        (attached("story_mention"), RemoteFile(kind="other", name="mentioned you in a story")),
        (attached("image"), RemoteFile(kind="other", name="image")),
        (attached("image", url="javascript:alert(1)"), RemoteFile(kind="other", name="image")),
        (attached("image", url=7), RemoteFile(kind="other", name="image")),
        (attached("like_heart"), RemoteFile(kind="other", name="like heart")),
        (attached("ephemeral"), RemoteFile(kind="other", name="ephemeral")),
        (attached("hologram", url=URL, title="A cat"), RemoteFile(kind="other", name=f"hologram A cat {URL}")),
        (said(attachments=[{"type": "fallback", "title": "June", "url": "https://june.example/"}]),
         RemoteFile(kind="other", name="fallback June https://june.example/")),
        (said(attachments=[{}]), RemoteFile(kind="other", name="attachment")),
        (said(is_unsupported=True), RemoteFile(kind="other", name="a message that Instagram does not pass on")),
        (said(), RemoteFile(kind="other", name="message")),
        (said(text="", attachments="no"), RemoteFile(kind="other", name="message")),
    ],
)  # fmt: skip
def test_what_comes_beside_texts(body: dict[str, Any], file: RemoteFile) -> None:
    event = only(body)
    assert isinstance(event, ClientWrote)
    assert event.files == (file,)


def test_a_post_that_comes_under_its_old_and_its_new_name_is_one() -> None:
    both = said(
        attachments=[
            {"type": "share", "payload": {"url": URL}},
            {"type": "ig_post", "payload": {"url": URL, "title": "Menu"}},
        ]
    )
    assert [file.name for file in only(both).files] == ["shared post: Menu"]


def test_pictures_that_are_sent_together_are_one_message() -> None:
    body = said(attachments=[{"type": "image", "payload": {"url": f"{URL}{n}"}} for n in range(3)])
    assert [file.remote["url"][-1] for file in only(body).files] == ["0", "1", "2"]


def test_an_answer_to_a_story_shows_the_story() -> None:
    event = only(said(text="how much?", reply_to={"story": {"id": "17", "url": URL}}))
    assert (event.text, event.reply_to) == ("how much?", "")
    assert event.files == (RemoteFile(kind="image", name="answer to your story", remote={"url": URL}),)
    gone = only(said(text="how much?", reply_to={"story": {"id": "17"}}))
    assert gone.files == (RemoteFile(kind="other", name="answer to your story"),)


@pytest.mark.parametrize(
    ("referral", "name"),
    [
        ({"ref": "promo-7", "source": "ADS", "type": "OPEN_THREAD", "ad_id": "6", "ads_context_data": {"ad_title": "Cakes"}},
         "wrote from an ad: Cakes promo-7"),
        ({"product": {"id": "p-17"}}, "wrote about a product: p-17"), ({"ref": "qr"}, "came by a link: qr"), ({}, "came by a link"),
    ],
)  # fmt: skip
def test_how_a_person_came(referral: dict[str, Any], name: str) -> None:
    for body in (said(text="hi", referral=referral), item(postback={"mid": "m1", "title": "hi", "referral": referral})):
        assert only(body).files == (RemoteFile(kind="other", name=name),)


def test_a_link_that_opens_the_conversation() -> None:
    event = only(item(referral={"ref": "spring", "source": "IG_ME", "type": "OPEN_THREAD"}))
    assert isinstance(event, Opened)
    assert (event.address, event.payload) == (ANN, "spring")


def test_a_question_that_was_tapped() -> None:
    event = only(item(postback={"mid": "m9", "title": "Opening hours", "payload": "HOURS"}))
    assert (event.provider_id, event.text) == ("m9", "Opening hours")
    assert only(item(postback={"mid": "m9", "payload": "HOURS"})).text == "HOURS"


def test_a_reaction_is_shown_as_an_answer_and_taken_back_it_is_no_news() -> None:
    event = only(item(reaction={"mid": "m1", "action": "react", "reaction": "love", "emoji": "❤️"}))
    assert (event.reply_to, event.files) == ("m1", (RemoteFile(kind="other", name="reaction ❤️"),))
    assert event.provider_id not in ("", "m1")
    assert events(item(reaction={"mid": "m1", "action": "unreact"}), settings()) == ()
    assert events(ours(reaction={"mid": "m1", "action": "react", "emoji": "❤️"}), settings()) == ()


def test_a_message_that_was_taken_back() -> None:
    event = only(said(is_deleted=True))
    assert isinstance(event, MessageDeleted)
    assert (event.address, event.provider_id, event.by_client) == (ANN, "m1", True)
    by_us = only(ours(message={"mid": "m1", "is_deleted": True, "is_echo": True}))
    assert (by_us.address, by_us.by_client) == (ANN, False)


def test_an_edit() -> None:
    event = only(item(message_edit={"mid": "m1", "text": "two, please", "num_edit": 1}))
    assert isinstance(event, MessageEdited)
    assert (event.provider_id, event.text, event.by_client) == ("m1", "two, please", True)


def test_what_was_read_is_read_up_to_there() -> None:
    event = only(item(read={"mid": "m7"}))
    assert event == StatusReached(address=ANN, at=event.at, status="read", provider_id="m7", up_to=True)
    assert events(ours(read={"mid": "m7"}), settings()) == ()


def test_an_echo_is_of_the_conversation_with_the_person() -> None:
    event = only(ours(message={"mid": "m5", "text": "Добрый день", "is_echo": True, "app_id": 1}))
    assert isinstance(event, WroteElsewhere)
    assert (event.address, event.provider_id, event.text) == (ANN, "m5", "Добрый день")
    without_the_mark = only(ours(message={"mid": "m5", "text": "Добрый день"}))
    assert isinstance(without_the_mark, WroteElsewhere), "a bot never answers itself"


def test_a_note_to_oneself_is_nobody_s() -> None:
    alone = {**ours(message={"mid": "m", "text": "x", "is_echo": True, "is_self": True}), "recipient": {"id": ACCOUNT}}
    assert events(alone, settings()) == ()
    alone["message"].pop("is_self")
    assert events(alone, settings()) == ()


@pytest.mark.parametrize(
    "body",
    [
        {**said(text="x"), "sender": None}, {**said(text="x"), "sender": {"id": 7}}, {**said(text="x"), "sender": {"id": "../x"}},
        {**said(text="x"), "sender": {"id": "9" * 31}}, {**said(text="x"), "timestamp": None}, {**said(text="x"), "timestamp": -1},
        {**said(text="x"), "timestamp": 1 << 60}, {**said(text="x"), "timestamp": True}, item(message={"text": "x"}),
        item(message={"mid": "", "text": "x"}), item(reaction={"action": "react"}), item(message_edit={"text": "x"}),
    ],
)  # fmt: skip
def test_what_cannot_be_understood_is_set_aside(body: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        events(body, settings())


@pytest.mark.parametrize("text", ["x" * 100_000, "👍👍🏽👨‍👩‍👧", "\u202eabc\u202c", "a\0b\ud800"])
def test_texts_of_every_kind_come_through(text: str) -> None:
    assert only(said(text=text)).text == text


# Folded ----------------------------------------------------------------------------------------------------------------


def folded(*bodies: dict[str, Any]) -> Book:
    book = Book(lambda key: OWNER_AI, uuid4)
    for body in bodies:
        for event in events(body, settings()):
            assert book.apply(KEY, event, event.at, event.at)
    return book


def test_an_answer_from_the_app_takes_the_conversation_from_the_ai() -> None:
    book = folded(said(text="hi"), ours(message={"mid": "m2", "text": "hello", "is_echo": True}))
    ((conversation),) = book.conversations.values()
    assert conversation.owner == OWNER_QUEUE
    assert [message.author for message in book.changes.messages] == ["client", ELSEWHERE]


def test_one_person_is_one_conversation_whatever_they_do() -> None:
    book = folded(
        said(text="hi"), said(text="hi"), item(reaction={"mid": "m1", "action": "react", "emoji": "❤"}), item(read={"mid": "m1"}),
        said(is_deleted=True), item(referral={"ref": "x"}), ours(message={"mid": "m2", "text": "yes", "is_echo": True}),
    )  # fmt: skip
    assert len(book.changes.new_conversations) == 1
    assert [message.text for message in book.changes.messages] == ["hi", "", "yes"]
    assert [one.kind for one in book.changes.happenings] == ["deleted", "opened"]


def test_a_message_taken_back_before_it_is_known_makes_nothing() -> None:
    assert folded(said(is_deleted=True)).changes.messages == []


# Sending ---------------------------------------------------------------------------------------------------------------


def file(kind: Any, content_type: str, name: str = "a") -> OutgoingFile:
    return OutgoingFile(id="1", kind=kind, name=name, content_type=content_type, size=9)


def test_a_text_as_instagram_takes_it() -> None:
    assert payload(Outgoing(to=ANN, text="Добрый день", reply_to="m1", token="t.0")) == {
        "recipient": {"id": ANN}, "message": {"text": "Добрый день"},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("one", "kind"),
    [
        (file("image", "image/jpeg"), "image"), (file("image", "image/gif"), "image"), (file("file", "image/png"), "image"),
        (file("voice", "audio/mp4"), "audio"), (file("audio", "audio/x-wav"), "audio"), (file("video", "video/quicktime"), "video"),
        (file("file", "application/pdf; x=1"), "file"), (file("voice", "video/mp4"), "video"),
    ],
)  # fmt: skip
def test_a_file_as_instagram_takes_it(one: OutgoingFile, kind: str) -> None:
    sent = payload(Outgoing(to=ANN, file=one), "https://gw.example/f")
    assert sent["message"] == {"attachment": {"type": kind, "payload": {"url": "https://gw.example/f"}}}


@pytest.mark.parametrize("one", [file("image", "image/webp", "cat.webp"), file("voice", "audio/ogg"), file("file", "application/zip"),
                                 file("file", ""), file("image", "image/svg+xml")])  # fmt: skip
def test_a_file_that_instagram_does_not_take_is_named_with_what_it_takes(one: OutgoingFile) -> None:
    with pytest.raises(Rejected, match=r"PNG, JPEG or GIF.*PDF"):
        payload(Outgoing(to=ANN, file=one), "https://gw.example/f")


@pytest.mark.parametrize(
    "part",
    [Outgoing(to=ANN, latitude=53.9, longitude=27.5), Outgoing(to=ANN, template=TemplateUse(name="a", language="ru"))],
)
def test_what_there_is_no_message_for(part: Outgoing) -> None:
    with pytest.raises(Rejected):
        payload(part)


@pytest.mark.parametrize("text", ["й" * 30_000, "👍" * 2_000, "слово " * 3_000, "x" * 1001, "строка\n" * 900])
def test_no_text_is_larger_than_instagram_takes(text: str) -> None:
    parts = parts_of(CAPABILITIES, ANN, text, [], token="t")
    assert all(0 < length(part.text, "bytes") <= 1000 for part in parts)
    assert "".join("".join(part.text.split()) for part in parts) == "".join(text.split())


def test_a_file_takes_no_text_with_it() -> None:
    text, attachment = parts_of(CAPABILITIES, ANN, "here it is", [file("image", "image/png")], token="t")
    assert (text.text, text.file, attachment.text) == ("here it is", None, "")


def test_an_address() -> None:
    assert address(" 99001 ") == ANN
    for text in ("", "x", "+375291112233", "99001/x", "@ann", "9" * 31):
        with pytest.raises(ValueError, match="digits"):
            address(text)
