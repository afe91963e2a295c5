"""The card of a call as it goes on, and what Telegram's answers come to."""

import html
import json
import re
from dataclasses import replace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import settings as limited
from hypothesis import strategies as st
from pydantic import ValidationError

from adapters.base import Draft
from adapters.telegram import codec
from adapters.telegram.settings import TelegramSettings
from gateway.domain.calls import Call, apply
from gateway.domain.configuration import Phone, Tenant
from gateway.domain.errors import BadCredentials, BadSettings, GatewayError, RateLimited, Rejected, Unavailable
from gateway.domain.events import (
    CallAnswered,
    CallEnded,
    CallEvent,
    CallMerged,
    CallRinging,
    CallTransferred,
    Direction,
    Result,
)
from gateway.domain.ids import CallId, TenantId
from tests.adapters.conftest import at

ID = CallId("1763684000.42")
PRIVATE, GROUP = 55501, -1001234567890
RING = CallRinging(
    call_id=ID, at=at(), direction=Direction.INCOMING, caller="+375291112233", called="+375171234567", trunk="t",
    extensions=("150", "151"),
)  # fmt: skip
ANSWER = CallAnswered(call_id=ID, at=at(9), extension="150", wait_s=8.6)
MOVE = CallTransferred(call_id=ID, at=at(30), from_extension="150", to_extension="151")
END = CallEnded(
    call_id=ID, at=at(70), direction=Direction.INCOMING, caller="+375291112233", called="+375171234567", trunk="t",
    extension="150", last_extension="151", rang=("150", "151"), result=Result.ANSWERED, wait_s=8.6, talk_s=61.2,
    hung_up_by=None,
)  # fmt: skip
MISSED = replace(END, result=Result.MISSED, extension=None, last_extension=None, wait_s=None, talk_s=None)


def settings(**more: Any) -> TelegramSettings:
    return TelegramSettings.model_validate({"bot_token": "700:canary", "notify_chats": [PRIVATE, GROUP], **more})


def reported(tenant: Tenant, *events: CallEvent, **more: Any) -> list[list[Draft]]:
    """The drafts of each event of a call in turn."""
    call: Call | None = None
    drafts = []
    for event in events:
        before, call = call, apply(call, event)
        assert call is not None
        drafts.append(list(codec.plan(settings(**more), tenant, before, call, event)))
    return drafts


def text(tenant: Tenant, *events: CallEvent) -> list[str]:
    """The last card of a call, by lines."""
    return str(reported(tenant, *events, notify_internal=True)[-1][0].body["text"]).split("\n")


def test_an_announced_call_has_a_card_that_its_first_ring_changes(tenant: Tenant) -> None:
    begun = apply(None, replace(RING, extensions=()))
    assert begun is not None
    first, second = codec.plan_start(settings(), tenant, replace(begun, events=0))
    assert (first.key, first.lane, first.latest_only) == (f"{ID}:55501:0", f"{ID}:55501", True)
    assert "150" not in str(first.body["text"])
    assert {"Connecting…", "Соединяем…"} & set(str(first.body["text"]).split("\n"))
    rings = reported(tenant, RING)[0][0]
    assert (rings.lane, rings.key) == (first.lane, f"{ID}:55501:1")
    assert rings.body["text"] != first.body["text"]
    unknown = codec.plan_start(settings(), tenant, replace(begun, called="s"))[0]
    assert str(unknown.body["text"]).count("\n") == str(first.body["text"]).count("\n") - 1, (
        "no line for a number nobody knows"
    )
    internal = replace(begun, direction=Direction.INTERNAL)
    assert codec.plan_start(settings(), tenant, internal) == ()
    assert len(codec.plan_start(settings(notify_internal=True), tenant, internal)) == 2
    assert second.body["chat"] == GROUP


def test_the_last_card_leads_to_the_calls_page(tenant: Tenant) -> None:
    drafts = reported(tenant, RING, ANSWER, replace(END, call_id=ID))
    assert ["page" in step[0].body for step in drafts] == [False, False, True]
    page = drafts[-1][0].body["page"]
    assert page == f"/t/{tenant.number}/calls/{ID}"
    made = codec.buttons(tenant, "https://gw.example/", page)
    assert made is not None
    assert made["inline_keyboard"][0][0]["url"] == f"https://gw.example{page}"
    assert codec.buttons(tenant, "http://localhost:8000", page) is None, "Telegram would refuse the whole message"
    assert codec.buttons(tenant, "https://gw.example", "") is None


def test_a_recording_comes_with_the_card_once_more(tenant: Tenant) -> None:
    link = "https://gw.example/recordings/file/1?s=x"
    *_, last = reported(tenant, RING, ANSWER, replace(END, call_id=ID, recording=link))
    cards, later = last[:2], last[2:]
    assert [draft.kind for draft in last] == ["call_card"] * 2 + ["card_recording"] * 2
    assert [draft.body for draft in later] == [{**draft.body, "recording": link} for draft in cards]
    assert [draft.lane for draft in later] == [draft.lane for draft in cards]
    assert {(draft.latest_only, draft.expires_s) for draft in later} == {(False, 600.0)}
    made = codec.buttons(tenant, "https://gw.example/", later[0].body["page"], link)
    assert made is not None
    assert [one["url"] for one in made["inline_keyboard"][0]] == [f"https://gw.example{later[0].body['page']}", link]
    for none in ("", "file:///x.wav"):
        assert len(reported(tenant, RING, ANSWER, replace(END, recording=none))[-1]) == 2


def test_one_card_a_chat_and_a_key_a_state(tenant: Tenant) -> None:
    drafts = reported(tenant, RING, ANSWER, MOVE, END)
    assert [len(step) for step in drafts] == [2, 2, 2, 2]
    assert [draft.key for step in drafts for draft in step][:3] == [f"{ID}:55501:1", f"{ID}:{GROUP}:1", f"{ID}:55501:2"]
    assert {draft.lane for step in drafts for draft in step} == {f"{ID}:55501", f"{ID}:{GROUP}"}
    assert {draft.bucket for draft in drafts[0]} == {f"chat:{PRIVATE}", f"group:{GROUP}"}
    assert all(draft.latest_only and draft.kind == "call_card" and draft.expires_s == 3600 for draft in drafts[0])
    assert drafts[0][1].body == {"chat": GROUP, "text": drafts[0][0].body["text"]}


def test_the_card_from_ring_to_end(tenant: Tenant) -> None:
    head = ["От: +375291112233", "На номер: +375171234567", "Начало: 21.11 03:13:20"]
    oleg = "151 &lt;Олег&gt; &amp; Ко"
    assert text(tenant, RING) == ["<b>📞 Входящий звонок</b>", *head, f"Звонит: 150 Анна, {oleg}"]
    assert text(tenant, RING, ANSWER) == [
        "<b>📞 Входящий звонок</b>", *head, "Разговаривает: 150 Анна", "Ожидание: 0:09",
    ]  # fmt: skip
    assert text(tenant, RING, ANSWER, MOVE)[-2:] == [f"Переведён на: {oleg}", "Ожидание: 0:09"]
    assert text(tenant, RING, ANSWER, MOVE, END) == [
        "<b>📞 Входящий звонок</b> — ✅ Состоялся", *head, "Разговаривал: 150 Анна", f"Переведён на: {oleg}",
        "Длительность: 1:01", "Ожидание: 0:09",
    ]  # fmt: skip
    assert text(tenant, RING, MISSED) == [
        "<b>📞 Входящий звонок</b> — ❌ Пропущен", *head, f"Звонили: 150 Анна, {oleg}", "Ожидание: 1:10",
    ]  # fmt: skip


def test_in_english(tenant: Tenant) -> None:
    lines = text(replace(tenant, language="en"), replace(RING, caller="anonymous"), replace(MISSED, queue="sales"))
    assert lines[0] == "<b>📞 Incoming call</b> — ❌ Missed"
    assert "Queue: sales" in lines
    assert text(replace(tenant, language="en"), replace(RING, caller="anonymous"))[1] == "From: hidden number"


def test_an_outgoing_call(tenant: Tenant) -> None:
    out = replace(RING, direction=Direction.OUTGOING, caller="150", called="+375291112233", extensions=())
    assert text(tenant, out) == [
        "<b>📤 Исходящий звонок</b>", "От: 150 Анна", "Кому: +375291112233", "Начало: 21.11 03:13:20", "Соединяем…",
    ]  # fmt: skip


def test_a_merged_call_and_an_uncertain_end(tenant: Tenant) -> None:
    assert text(tenant, RING, CallMerged(call_id=ID, at=at(5), into=CallId("2")))[-1].endswith("к другому звонку")
    lines = text(tenant, RING, replace(END, uncertain=True))
    assert lines[0] == "<b>📞 Входящий звонок</b>"
    assert lines[-1].startswith("⚠️ Связь с АТС")


def test_internal_calls_are_told_only_where_wanted(tenant: Tenant) -> None:
    internal = replace(RING, direction=Direction.INTERNAL, caller="150", called="151")
    assert reported(tenant, internal) == [[]]
    assert len(reported(tenant, internal, notify_internal=True)[0]) == 2
    assert len(reported(tenant, internal, RING)[1]) == 2, (
        "a call that turns out to be an outside one is told from there on"
    )


def test_what_changes_nothing_is_not_told(tenant: Tenant) -> None:
    assert [len(step) for step in reported(tenant, RING, RING)] == [2, 0]
    assert [len(step) for step in reported(tenant, RING, END, ANSWER)] == [2, 2, 0]
    assert reported(tenant, RING, notify_chats=[]) == [[]]


NAMES = st.text(max_size=300)


@limited(max_examples=40, deadline=None)
@given(
    owners=st.lists(NAMES, max_size=3),
    caller=NAMES,
    queue=NAMES,
    rang=st.integers(0, 400),
    fill=st.sampled_from("x&<😀"),
)
def test_no_card_is_too_long_or_broken(owners: list[str], caller: str, queue: str, rang: int, fill: str) -> None:
    numbers = tuple(f"{n}" for n in range(100, 100 + rang))
    phones = tuple(Phone(n, fill * 90) for n in numbers) + tuple(Phone(f"9{i}", o) for i, o in enumerate(owners))
    tenant = Tenant(TenantId("1"), "n", ZoneInfo("UTC"), "BY", "ru", phones=phones)
    end = replace(MISSED, caller=caller, called=fill * 300, queue=queue, rang=(*numbers, "90"))
    call = apply(None, end)
    assert call is not None
    card = codec.card(tenant, call)
    assert codec.units(card) <= 4096
    assert re.fullmatch(r"(?s)<b>[^<>]*</b>[^<>]*", card)
    plain = codec.message(1, card, markup=False)["text"]
    assert "<b>" not in html.unescape(plain) or "<b>" in caller + queue + "".join(owners)
    assert len(card.split("\n")) == 6 + bool(queue)


# Answers -------------------------------------------------------------------------------------------------------------


def no(code: int, description: str, **parameters: int) -> str:
    body = {"ok": False, "error_code": code, "description": description, "parameters": parameters}
    return json.dumps({name: value for name, value in body.items() if value != {}})


@pytest.mark.parametrize(
    ("status", "text", "outcome"),
    [
        (401, no(401, "Unauthorized"), BadCredentials),
        (404, no(404, "Not Found"), BadCredentials),
        (404, "<html></html>", BadCredentials),
        (403, no(403, "Forbidden: bot was blocked by the user"), Rejected),
        (400, no(400, "Bad Request: chat not found"), Rejected),
        (400, no(400, "Bad Request: message text is empty"), Rejected),
        (400, no(400, "Bad Request: message is not modified: specified new message content"), codec.Unchanged),
        (400, no(400, "Bad Request: message to edit not found"), codec.Gone),
        (400, no(400, "Bad Request: message can't be edited"), codec.Gone),
        (400, no(400, "Bad Request: MESSAGE_ID_INVALID"), codec.Gone),
        (400, no(400, "Bad Request: can't parse entities: unsupported start tag"), codec.BadMarkup),
        (
            400,
            no(400, "Bad Request: group chat was upgraded to a supergroup chat", migrate_to_chat_id=-100),
            codec.Migrated,
        ),
        (429, no(429, "Too Many Requests: retry after 7", retry_after=7), RateLimited),
        (429, "<html></html>", RateLimited),
        (409, no(409, "Conflict: terminated by other getUpdates request"), Unavailable),
        (421, no(421, "Misdirected Request: unallowed token specified"), BadSettings),
        (500, no(500, "Internal Server Error: restart"), Unavailable),
        (502, "<html>502 Bad Gateway</html>", Unavailable),
        (504, "<html>504</html>", codec.Unclear),
        (413, "<html>413</html>", Rejected),
        (200, "", codec.Unclear),
        (200, "[]", codec.Unclear),
        (200, '{"ok":"yes"}', codec.Unclear),
        (200, "[" * 100_000, codec.Unclear),
        (302, "", codec.Unclear),
    ],
)
def test_refusals(status: int, text: str, outcome: type[Exception]) -> None:
    with pytest.raises(outcome) as raised:
        codec.read_answer(status, text, "7")
    if isinstance(raised.value, RateLimited):
        assert raised.value.after_s == 7
    if isinstance(raised.value, GatewayError):
        assert raised.value.person


def test_an_answer() -> None:
    assert codec.read_answer(200, '{"ok":true,"result":{"message_id":18}}') == {"message_id": 18}


@pytest.mark.parametrize(
    ("text", "read"),
    [
        (None, None),
        ("", None),
        ("17", codec.Reference(17)),
        ("17@-1001234567890", codec.Reference(17, GROUP)),
        ("x", None),
        ("17@", None),
        ("9" * 40, None),
    ],
)
def test_references(text: str | None, read: codec.Reference | None) -> None:
    assert codec.Reference.read(text) == read
    if read is not None:
        assert str(read) == text


# Settings ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "token",
    ["", "700", "700:", ":abc", "0700:abc", "700:ab/c", "700:ab c", "700:abc\n", "https://t.me/bot", "7" * 18 + ":a", "7:" + "a" * 80, "700:абв"],
)  # fmt: skip
def test_what_is_no_token(token: str) -> None:
    with pytest.raises(ValidationError):
        settings(bot_token=token)


def test_chats_are_numbers_and_come_once() -> None:
    assert settings(notify_chats=[5, "-100", 5]).notify_chats == (5, -100)
    for wrong in ([0], ["@channel"], [1 << 60], list(range(1, 30))):
        with pytest.raises(ValidationError):
            settings(notify_chats=wrong)


def test_a_topic_stands_behind_a_slash() -> None:
    assert settings(notify_chats=["-1001234567890/17", " -100 ", -100, "-1001234567890/17"]).notify_chats == (
        "-1001234567890/17", -100,
    )  # fmt: skip
    assert [(place.chat, place.topic) for place in settings(notify_chats=["-100/2", 7]).places] == [
        (-100, 2),
        (7, None),
    ]
    for wrong in (
        "5/17",
        "-100/0",
        "-100/x",
        "-100/",
        "/17",
        "-100/17/3",
        "-100/99999999999",
        "https://t.me/c/1/2",
        True,
        1.5,
    ):
        with pytest.raises(ValidationError):
            settings(notify_chats=[wrong])


def test_a_card_goes_to_its_topic(tenant: Tenant) -> None:
    ((draft,),) = reported(tenant, RING, notify_chats=[f"{GROUP}/17"])
    assert (draft.key, draft.lane, draft.bucket) == (f"{ID}:{GROUP}/17:1", f"{ID}:{GROUP}/17", f"group:{GROUP}")
    assert (draft.body["chat"], draft.body["topic"]) == (GROUP, 17)


@pytest.mark.parametrize("called", ["", "?", "s", "unknown"])
def test_a_called_number_that_nobody_knows_is_left_out(tenant: Tenant, called: str) -> None:
    lines = text(tenant, replace(RING, called=called))
    assert not any(line.startswith(("На номер", "Кому")) for line in lines)
    assert lines[1] == "От: +375291112233"
