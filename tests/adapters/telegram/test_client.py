"""The conversation with the Bot API over a real socket: what is tried next, and what is never tried twice."""

from dataclasses import replace
from typing import Any

import pytest
import trio

from adapters import base
from adapters.base import Attempt, Delivered, Link
from adapters.telegram.client import connect
from adapters.telegram.settings import TelegramSettings
from gateway.domain.errors import BadCredentials, Doubtful, GatewayError, NotYet, RateLimited, Rejected, Unavailable
from tests.adapters.conftest import Remote, Reply, as_json
from tests.adapters.http.test_http import everything_of, unused_port
from tests.adapters.telegram.test_codec import GROUP
from tests.sandbox.telegram import Telegram

TOKEN = "7001002000:canary-secret-of-the-bot"
NEW = -1009876543210
TEXT = "<b>Звонок</b>\nAT&amp;T"


def settings(**more: Any) -> TelegramSettings:
    return TelegramSettings.model_validate({"bot_token": TOKEN, "notify_chats": [GROUP], "read_timeout_s": 0.1, **more})


def card(reference: str | None = None) -> Attempt:
    return Attempt(kind="call_card", key="1:1", lane="1", body={"chat": GROUP, "text": TEXT}, reference=reference)


def ok(message: int = 18) -> Reply:
    return as_json({"ok": True, "result": {"message_id": message, "chat": {"id": GROUP}}})


def no(code: int, description: str, **parameters: int) -> Reply:
    return as_json({"ok": False, "error_code": code, "description": description, "parameters": parameters}, code)


MIGRATED = no(400, "Bad Request: group chat was upgraded to a supergroup chat", migrate_to_chat_id=NEW)
MARKUP = no(400, "Bad Request: can't parse entities: x")
GONE = no(400, "Bad Request: message to edit not found")
UNCHANGED = no(400, "Bad Request: message is not modified: x")


@pytest.fixture
def link(open_link: Link, remote: Remote) -> Link:
    return replace(open_link, base_url=remote.url)


BUTTON = no(400, "Bad Request: BUTTON_URL_INVALID")


@pytest.mark.parametrize("reference", [None, "17"])
async def test_the_last_card_has_a_button_unless_telegram_refuses_it(
    remote: Remote, link: Link, reference: str | None
) -> None:
    attempt = replace(card(reference), body={"chat": GROUP, "text": TEXT, "page": "/t/0367/calls/7.1"})
    remote.replies = [ok(17), BUTTON, ok(17)]
    async with connect(replace(link, public_url="https://gw.example"), settings()) as client:
        for _ in range(2):
            assert await client.deliver(attempt) == Delivered(reference="17")
    first, refused, plain = (one.json() for one in remote.seen)
    ((shown,),) = first["reply_markup"]["inline_keyboard"]
    assert shown["url"] == "https://gw.example/t/0367/calls/7.1"
    assert refused == first
    assert "reply_markup" not in plain
    assert plain["text"] == "Звонок\nAT&T"


class Shelf:
    """What lies behind the links of recordings."""

    def __init__(self, *answers: str | Exception) -> None:
        self.answers = list(answers)

    async def content_type(self, link: str) -> str:
        await trio.lowlevel.checkpoint()
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_the_recordings_button_comes_when_the_recording_is_there(remote: Remote, link: Link) -> None:
    recording = "https://gw.example/recordings/file/1?s=x"
    body = {"chat": GROUP, "text": TEXT, "page": "/t/0367/calls/7.1", "recording": recording}
    attempt = replace(card("17"), kind="card_recording", body=body)
    nothing = Delivered(reference="17")
    shelf: Any = Shelf(
        NotYet("the recording is not there yet"), "audio/wav", "audio/wav", Rejected("the recording is gone")
    )
    here = replace(link, public_url="https://gw.example", recordings=shelf)
    remote.replies = [ok(17), GONE]
    async with connect(here, settings()) as client:
        with pytest.raises(NotYet):
            await client.deliver(attempt)
        assert remote.seen == []
        assert await client.deliver(attempt) == Delivered(reference="17")
        assert await client.deliver(attempt) == nothing, "the card was deleted there"
        assert await client.deliver(attempt) == nothing
        assert await client.deliver(replace(attempt, reference=None)) == Delivered(), "no card was shown"
    first, _ = (one.json() for one in remote.seen)  # and for the others nothing was asked
    assert remote.seen[0].target.endswith("/editMessageText")
    assert [one["url"] for one in first["reply_markup"]["inline_keyboard"][0]][1] == recording
    async with connect(replace(here, public_url="http://localhost:8000"), settings()) as client:
        assert await client.deliver(attempt) == nothing, "Telegram takes no such address"


async def test_a_new_card_on_the_wire(remote: Remote, link: Link) -> None:
    remote.replies = [ok(18)]
    attempt = card()
    async with connect(link, settings()) as client:
        assert isinstance(client, base.Delivers)
        assert isinstance(client, base.Testable)
        assert await client.deliver(attempt) == Delivered(reference="18")
    (seen,) = remote.seen
    assert (seen.method, seen.target) == ("POST", f"/bot{TOKEN}/sendMessage")
    assert seen.json() == {
        "chat_id": GROUP,
        "text": TEXT,
        "parse_mode": "HTML",
        "link_preview_options": {"is_disabled": True},
    }
    assert attempt.request.startswith(f"POST {remote.url}/bot***/sendMessage\n")
    assert "Звонок" in attempt.request


@pytest.mark.parametrize(
    ("reference", "replies", "calls", "outcome"),
    [
        ("17", [ok(17)], [("editMessageText", GROUP, 17)], Delivered(reference="17")),
        ("17", [UNCHANGED], [("editMessageText", GROUP, 17)], Delivered(reference="17")),
        (
            "17",
            [GONE, ok(18)],
            [("editMessageText", GROUP, 17), ("sendMessage", GROUP, None)],
            Delivered(reference="18"),
        ),
        ("garbage", [ok(18)], [("sendMessage", GROUP, None)], Delivered(reference="18")),
        (
            None,
            [MIGRATED, ok(2)],
            [("sendMessage", GROUP, None), ("sendMessage", NEW, None)],
            Delivered(reference=f"2@{NEW}", note="chat_migrated", detail=str(NEW)),
        ),
        (
            f"2@{NEW}",
            [ok(2)],
            [("editMessageText", NEW, 2)],
            Delivered(reference=f"2@{NEW}", note="chat_migrated", detail=str(NEW)),
        ),
        (
            "17",
            [MIGRATED, ok(3)],
            [("editMessageText", GROUP, 17), ("sendMessage", NEW, None)],
            Delivered(reference=f"3@{NEW}", note="chat_migrated", detail=str(NEW)),
        ),
        (None, [as_json({"ok": True, "result": True})], [("sendMessage", GROUP, None)], Delivered()),
    ],
)
async def test_what_is_tried(
    remote: Remote, link: Link, reference: str | None, replies: list[Reply], calls: list[Any], outcome: Delivered
) -> None:
    remote.replies = list(replies)
    async with connect(link, settings()) as client:
        assert await client.deliver(card(reference)) == outcome
    made = [
        (seen.target.rpartition("/")[2], seen.json()["chat_id"], seen.json().get("message_id")) for seen in remote.seen
    ]
    assert made == calls


@pytest.mark.parametrize("reference", [None, "17"])
async def test_bad_markup_goes_out_as_plain_text(remote: Remote, link: Link, reference: str | None) -> None:
    remote.replies = [MARKUP, ok(17)]
    async with connect(link, settings()) as client:
        assert await client.deliver(card(reference)) == Delivered(reference="17")
    again = remote.seen[1].json()
    assert again["text"] == "Звонок\nAT&T"
    assert "parse_mode" not in again


@pytest.mark.parametrize(
    ("reference", "replies", "error"),
    [
        (None, [no(401, f"Unauthorized {TOKEN}")], BadCredentials),
        (None, [no(404, "Not Found")], BadCredentials),
        (None, [no(403, "Forbidden: bot was kicked from the group chat")], Rejected),
        (None, [no(400, "Bad Request: chat not found")], Rejected),
        (None, [MIGRATED, MIGRATED], Rejected),
        (None, [MARKUP, MARKUP], Rejected),
        ("17", [MARKUP, MARKUP], Rejected),
        (None, [GONE], Rejected),
        (None, [Reply(drop=True)], Doubtful),
        (None, [Reply(hang=True)], Doubtful),
        (None, [Reply(200, TOKEN.encode())], Doubtful),
        (None, [Reply(504, b"<html>")], Doubtful),
        ("17", [GONE, Reply(drop=True)], Doubtful),
        (None, [Reply(502, b"<html>")], Unavailable),
        (None, [no(500, "Internal Server Error: restart")], Unavailable),
        ("17", [Reply(200, b"")], Unavailable),
        ("17", [Reply(drop=True)], Unavailable),
        ("17", [Reply(hang=True)], Unavailable),
        ("17", [no(429, "Too Many Requests: retry after 7", retry_after=7)], RateLimited),
    ],
)
async def test_trouble_and_no_token_in_it(
    remote: Remote, link: Link, reference: str | None, replies: list[Reply], error: type[GatewayError]
) -> None:
    remote.replies = list(replies)
    attempt = card(reference)
    async with connect(link, settings()) as client:
        with pytest.raises(error) as raised:
            await client.deliver(attempt)
        texts = [*everything_of(raised.value), repr(attempt), repr(client), repr(vars(client))]
    assert not [text for text in texts if "canary" in text]
    assert len(remote.seen) == len(replies)
    if isinstance(raised.value, Unavailable):
        assert raised.value.certain is (reference is None)
    if isinstance(raised.value, RateLimited):
        assert raised.value.after_s == 7


async def test_nobody_there_is_certain_and_so_repeated(link: Link) -> None:
    async with connect(replace(link, base_url=await unused_port()), settings()) as client:
        with pytest.raises(Unavailable) as raised:
            await client.deliver(card())
        assert raised.value.certain
        assert not [text for text in everything_of(raised.value) if "canary" in text]
        assert (await client.test()).code == "unavailable"


BOT = as_json({"ok": True, "result": {"id": 7001002000, "is_bot": True, "first_name": "Shop", "username": "shop_bot"}})
CHAT = as_json({"ok": True, "result": {"id": GROUP, "type": "supergroup", "title": "Продажи"}})


DONE = as_json({"ok": True, "result": True})
SILENT = as_json({"ok": True, "result": {"id": GROUP, "type": "supergroup", "title": "Продажи",
                                          "permissions": {"can_send_messages": False}}})  # fmt: skip
CHANNEL = as_json({"ok": True, "result": {"id": GROUP, "type": "channel", "title": "Новости"}})


def member(status: str, **rights: bool) -> Reply:
    return as_json({"ok": True, "result": {"user": {"id": 7001002000, "is_bot": True}, "status": status, **rights}})


MEMBER = member("member")


@pytest.mark.parametrize(
    ("replies", "code", "said"),
    [
        ([BOT, CHAT, MEMBER, DONE], "ok", "Бот @shop_bot может писать в: Продажи"),
        ([BOT, CHAT, member("administrator"), no(404, "Not Found")], "ok", "может писать в: Продажи"),
        ([BOT, CHAT, member("restricted", is_member=True, can_send_messages=False)], "no_right", "Продажи"),
        ([BOT, CHAT, member("left")], "no_right", "Продажи"),
        ([BOT, SILENT, MEMBER], "no_right", "Продажи"),
        ([BOT, SILENT, member("administrator"), DONE], "ok", "Продажи"),
        ([BOT, CHANNEL, member("administrator", can_post_messages=False)], "no_right", "Новости"),
        ([BOT, CHANNEL, member("administrator", can_post_messages=True)], "ok", "Новости"),
        ([BOT, CHAT, MEMBER, no(400, "Bad Request: TOPIC_CLOSED")], "topic_closed", "укажите другую тему"),
        ([BOT, CHAT, MEMBER, no(400, "Bad Request: message thread not found")], "topic_not_found", "Такой темы нет"),
        ([BOT, CHAT, MEMBER, no(403, "Forbidden: bot was kicked from the group chat")], "no_right", "Продажи"),
        ([BOT, no(400, "Bad Request: chat not found")], "chat_not_found", str(GROUP)),
        ([BOT, MIGRATED], "chat_migrated", str(NEW)),
        ([no(401, "Unauthorized")], "bad_credentials", "токен"),
        ([Reply(200, b"")], "unavailable", "не отвечает"),
        ([Reply(drop=True)], "unavailable", "не отвечает"),
        ([UNCHANGED], "rejected", "отклонил"),
        ([no(429, "x", retry_after=1)], "rate_limited", "подождать"),
    ],
)
async def test_the_connection_test(remote: Remote, link: Link, replies: list[Reply], code: str, said: str) -> None:
    remote.replies = list(replies)
    async with connect(link, settings()) as client:
        found = await client.test()
    assert (found.ok, found.code) == (code == "ok", code)
    assert said in found.said("ru")
    assert "canary" not in found.said("ru")


async def test_a_bot_without_chats_works(remote: Remote, link: Link) -> None:
    remote.replies = [BOT]
    async with connect(link, settings(notify_chats=[])) as client:
        found = await client.test()
    assert (found.ok, found.code) == (True, "no_chats")


async def test_a_card_for_a_topic_names_it_and_general_is_named_by_nothing(remote: Remote, link: Link) -> None:
    for topic, named in ((17, {"message_thread_id": 17}), (1, {}), (None, {})):
        remote.seen.clear()
        remote.replies = [MARKUP, ok(18)]
        attempt = replace(card(), body={"chat": GROUP, "text": TEXT, "topic": topic})
        async with connect(link, settings()) as client:
            assert await client.deliver(attempt) == Delivered(reference="18")
        for seen in remote.seen:
            found = seen.json()
            assert {name: found[name] for name in found if name == "message_thread_id"} == named


@pytest.mark.parametrize(
    ("text", "said"),
    [("TOPIC_CLOSED", f"Тема закрыта: {GROUP}/17. Откройте её"), ("message thread not found", "Такой темы нет")],
)
async def test_a_topic_that_takes_nothing_says_what_to_do(remote: Remote, link: Link, text: str, said: str) -> None:
    remote.replies = [no(400, f"Bad Request: {text}")]
    async with connect(link, settings()) as client:
        with pytest.raises(Rejected) as raised:
            await client.deliver(replace(card(), body={"chat": GROUP, "text": TEXT, "topic": 17}))
    assert f"400: Bad Request: {text}" in str(raised.value)
    assert said in str(raised.value)


async def test_a_bot_against_the_sandbox(open_link: Link, nursery: trio.Nursery) -> None:
    """The sandbox refuses what Telegram refuses: the right to write, closed topics, topics that are not there."""
    sandbox = Telegram({TOKEN: "shop_bot"}, rate_limits=False)
    link = replace(open_link, base_url=await nursery.start(sandbox.serve))
    forum = sandbox.add_chat(GROUP, "Продажи")
    forum.topics, forum.closed_topics = {1, 17}, {1}

    async def found(*chats: int | str) -> str:
        async with connect(link, settings(notify_chats=chats, read_timeout_s=3)) as client:
            tested: base.Tested = await client.test()
            return tested.code

    async def sent(topic: int | None) -> None:
        async with connect(link, settings(read_timeout_s=3)) as client:
            await client.deliver(replace(card(), body={"chat": GROUP, "text": TEXT, "topic": topic}))

    assert [await found(GROUP), await found(f"{GROUP}/17"), await found(f"{GROUP}/18")] == [
        "topic_closed", "ok", "topic_not_found"
    ]  # fmt: skip
    await sent(17)
    assert [message.topic for message in sandbox.messages(GROUP)] == [17]
    for topic in (None, 1, 18):
        with pytest.raises(Rejected):
            await sent(topic)
    forum.silent = True
    assert await found(f"{GROUP}/17") == "no_right"
    with pytest.raises(Rejected, match="not enough rights"):
        await sent(17)
    forum.status = "administrator"
    assert [await found(GROUP), await found(f"{GROUP}/17")] == ["ok", "ok"]
    sandbox.add_chat(-1005, "Новости", "channel").can_post_messages = False
    assert await found(-1005) == "no_right"
    assert not sandbox.messages(-1005)
    assert await found(-1006) == "chat_not_found"
