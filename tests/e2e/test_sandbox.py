"""The sandbox world refuses what the real one refuses, and its PBX never contradicts itself.

Over 400 lines: one for each refusal of three sandboxes.
"""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
import trio
from trio.testing import MockClock

from adapters.asterisk.calls import CallTracker
from adapters.asterisk.protocol import parse
from gateway.domain.events import CallEnded, CallEvent, CallMerged
from tests.sandbox import plays
from tests.sandbox.pbx import SimulatedPbx
from tests.sandbox.retailcrm import RetailCrm
from tests.sandbox.telegram import MAX_TEXT, Telegram
from tests.sandbox.web import Fault

KEY = {"X-API-KEY": "sandbox-key"}
EVENT = {"phone": "+375296254070", "type": "in", "codes": ["150"], "callExternalId": "1.1"}
HANGUP = {"phone": "+375296254070", "type": "hangup", "hangupStatus": "answered", "callExternalId": "1.1"}
CALL = {
    "date": "2026-05-04 10:20:30", "type": "in", "phone": "375296254070", "code": "150", "result": "answered",
    "duration": 61, "durationWaiting": 9, "externalId": "1.1",
}  # fmt: skip
MODULE = {
    "code": "gw-1", "integrationCode": "gw", "active": True, "name": "Gateway", "logo": "https://gw.example/logo.svg",
    "clientId": "secret", "baseUrl": "https://gw.example", "actions": {"activity": "/activity"},
    "integrations": {"telephony": {"makeCallUrl": "https://gw.example/call", "additionalCodes": [{"userId": 18, "code": "151"}]}},
}  # fmt: skip
BAD = "Errors in the entity format"
BAD_INPUT = "Errors in the input parameters"
TOKEN = "700100200:sandbox-token"


@pytest.fixture
async def crm(nursery: trio.Nursery) -> RetailCrm:
    crm = RetailCrm(rate_limits=False)
    await nursery.start(crm.serve)
    return crm


@pytest.fixture
async def telegram(nursery: trio.Nursery) -> Telegram:
    telegram = Telegram()
    await nursery.start(telegram.serve)
    telegram.add_chat(-1001, "Calls", "supergroup")
    return telegram


async def reported(crm: RetailCrm, field: str, value: Any, path: str | None = None, **more: Any) -> httpx2.Response:
    paths = {"event": "/api/v5/telephony/call/event", "calls": "/api/v5/telephony/calls/upload"}
    text = value if isinstance(value, str) else json.dumps(value)
    async with httpx2.AsyncClient(base_url=crm.base, headers=KEY) as client:
        return await client.post(path or paths[field], data={field: text, **more})


async def requested(telegram: Telegram, method: str, token: str = TOKEN, **params: Any) -> tuple[int, dict[str, Any]]:
    async with httpx2.AsyncClient(base_url=telegram.base) as client:
        answer = await client.post(f"/bot{token}/{method}", json=params)
        return answer.status_code, answer.json()


async def until(condition: Callable[[], bool]) -> None:
    """Waits for what another task brings about."""
    while not condition():
        await trio.sleep(0.001)


# --- the server


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"POST /api/v5/telephony/call/event HTTP/1.1\r\nHost: x\r\nX-API-KEY: sandbox-key\r\nContent-Length: 99\r\n\r\nevent=", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n" + b"x" * (1 << 20) + b"y", 413),
        (b"POST / HTTP/1.1\r\n\r\n", 400),
        (b"NONSENSE\r\n\r\n", 400),
    ],
    ids=["short body", "large body", "no host", "no http"],
)  # fmt: skip
async def test_what_is_not_a_whole_request_reaches_no_handler(
    crm: RetailCrm, request_bytes: bytes, status: int
) -> None:
    stream = await trio.open_tcp_stream("127.0.0.1", urlsplit(crm.base).port or 0)
    async with stream:
        await stream.send_all(request_bytes)
        await stream.send_eof()
        answer = await stream.receive_some(4096)
    assert answer.startswith(b"HTTP/1.1 %d" % status)
    assert not crm.requests
    assert crm.site.refused == 1


async def test_connections_are_kept(crm: RetailCrm) -> None:
    async with httpx2.AsyncClient(base_url=crm.base, headers=KEY) as client:
        for _ in range(3):
            assert (await client.get("/api/credentials")).json()["success"] is True
            assert crm.site.connections == 1


# --- RetailCRM


@pytest.mark.parametrize(
    ("field", "value", "message", "error"),
    [
        ("event", {**EVENT, "type": "start"}, BAD, "type"),
        ("event", {**EVENT, "siteCode": "shop"}, BAD, "siteCode"),
        ("event", {**EVENT, "codes": "150"}, BAD, "codes"),
        ("event", {**EVENT, "codes": [150]}, BAD, "codes"),
        ("event", {**EVENT, "codes": []}, BAD, "codes"),
        ("event", {**EVENT, "userIds": ["18"]}, BAD, "userIds"),
        ("event", {**EVENT, "phone": 375296254070}, BAD, "phone"),
        ("event", {**EVENT, "phone": "anonymous"}, BAD, "phone"),
        ("event", {"type": "in", "codes": ["150"]}, BAD, "phone"),
        ("event", {**EVENT, "hangupStatus": "answered"}, BAD, "hangupStatus"),
        ("event", {**HANGUP, "hangupStatus": "no answer"}, BAD, "hangupStatus"),
        ("event", {"phone": "1234567", "type": "hangup"}, BAD, "hangupStatus"),
        ("event", [EVENT], BAD, ""),
        ("event", "{", BAD_INPUT, "event"),
        ("event", "", "Parameter 'event' is missing", None),
        ("calls", "", "Parameter 'calls' is missing", None),
        ("calls", CALL, BAD_INPUT, "calls"),
        ("calls", [], BAD_INPUT, "calls"),
        ("calls", [CALL] * 51, BAD_INPUT, "calls"),
        ("calls", [{**CALL, "result": "no answered"}], BAD, "[0].result"),
        ("calls", [{**CALL, "result": "cancel"}], BAD, "[0].result"),
        ("calls", [CALL, {**CALL, "date": "2026-05-04T10:20:30Z"}], BAD, "[1].date"),
        ("calls", [{**CALL, "date": "2026-02-30 10:20:30"}], BAD, "[0].date"),
        ("calls", [{**CALL, "code": ["150"]}], BAD, "[0].code"),
        ("calls", [{**CALL, "duration": "61"}], BAD, "[0].duration"),
        ("calls", [{**CALL, "duration": 61.5}], BAD, "[0].duration"),
        ("calls", [{**CALL, "duration": True}], BAD, "[0].duration"),
        ("calls", [{**CALL, "type": "hangup"}], BAD, "[0].type"),
        ("calls", [{**CALL, "recordUrl": "/r/1"}], BAD, "[0].recordUrl"),
        ("calls", [{**CALL, "hangupStatus": "answered"}], BAD, "[0].hangupStatus"),
    ],
)
async def test_retailcrm_refuses(crm: RetailCrm, field: str, value: Any, message: str, error: str | None) -> None:
    answer = await reported(crm, field, value)
    assert answer.status_code == 400
    body = answer.json()
    assert (body["success"], body["errorMsg"]) == (False, message)
    assert list(body.get("errors", ())) == ([error] if error is not None else [])
    assert not crm.events
    assert not crm.uploads


async def test_retailcrm_wants_its_key_a_form_and_a_method_it_knows(crm: RetailCrm) -> None:
    async with httpx2.AsyncClient(base_url=crm.base) as client:
        missing = await client.get("/api/credentials")
        wrong = await client.get("/api/credentials", headers={"X-API-KEY": "other"})
        as_json = await client.post("/api/v5/telephony/call/event", json={"event": EVENT}, headers=KEY)
        unknown = await client.get("/api/v5/credentials", headers=KEY)
        pages = await client.get("/api/v5/users?limit=10", headers=KEY)
    assert (missing.status_code, missing.json()["errorMsg"]) == (403, '"apiKey" is missing.')
    assert (wrong.status_code, wrong.json()["errorMsg"]) == (403, 'Wrong "apiKey" value.')
    assert (as_json.status_code, as_json.json()["errorMsg"]) == (400, "Parameter 'event' is missing")
    assert (unknown.status_code, unknown.json()["errorMsg"]) == (404, "API method not found")
    assert (pages.status_code, list(pages.json()["errors"])) == (400, ["limit"])


async def test_retailcrm_remembers_what_it_was_told(crm: RetailCrm) -> None:
    crm.codes = {"150"}
    ring = await reported(crm, "event", {**EVENT, "codes": ["150", "104"]}, clientId="c")
    await reported(crm, "event", HANGUP)
    await reported(crm, "event", HANGUP)
    first = await reported(crm, "calls", [CALL])
    again = await reported(crm, "calls", [CALL, {**CALL, "externalId": "1.2"}])
    assert ring.json() == {"success": True, "notExistCodes": ["104"]}
    assert first.json() == {"success": True, "processedCallsCount": 1, "duplicateCalls": []}
    assert again.json() == {"success": True, "processedCallsCount": 1, "duplicateCalls": ["1.1"]}
    assert [event.data["type"] for event in crm.events] == ["in", "hangup", "hangup"]
    assert crm.events[0].client_id == "c"
    assert [call.data["externalId"] for call in crm.uploads] == ["1.1", "1.2"]
    assert sum(crm.repeats.values()) == 2
    async with httpx2.AsyncClient(base_url=crm.base) as client:
        page = (await client.get("/")).text
    assert "+375296254070" in page or "375296254070" in page
    assert "3 events, 2 calls uploaded" in page


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"logo": "https://gw.example/logo.png"}, "logo"),
        ({"actions": {"other": "/x"}}, "actions"),
        ({"code": "other"}, "code"),
        ({"baseUrl": None}, "baseUrl"),
        ({"surprise": 1}, "surprise"),
        ({"integrations": {"telephony": {"additionalCodes": [{"userId": "x", "code": "1"}]}}}, "integrations"),
    ],
)
async def test_retailcrm_refuses_a_bad_module(crm: RetailCrm, change: dict[str, Any], error: str) -> None:
    path = "/api/v5/integration-modules/gw-1/edit"
    answer = await reported(crm, "integrationModule", {**MODULE, **change}, path)
    assert (answer.status_code, list(answer.json()["errors"])) == (400, [error])


async def test_a_module_brings_the_extension_codes(crm: RetailCrm) -> None:
    path = "/api/v5/integration-modules/gw-1/edit"
    assert (await reported(crm, "integrationModule", MODULE, path)).json() == {"success": True, "info": []}
    assert crm.codes == {"151"}
    async with httpx2.AsyncClient(base_url=crm.base, headers=KEY) as client:
        there = await client.get("/api/v5/integration-modules/gw-1")
        missing = await client.get("/api/v5/integration-modules/gw-2")
    assert there.json()["integrationModule"] == MODULE
    assert (missing.status_code, missing.json()["errorMsg"]) == (404, "Not found")
    stranger = {**MODULE, "integrations": {"telephony": {"additionalCodes": [{"userId": 7, "code": "150"}]}}}
    answer = await reported(crm, "integrationModule", stranger, path)
    assert answer.json()["info"] == {"notExistUsersIds": [7]}


async def test_retailcrm_has_two_rates(crm: RetailCrm) -> None:
    crm.rate_limits, crm.clock = True, lambda: 100.0
    async with httpx2.AsyncClient(base_url=crm.base, headers=KEY) as client:
        rest = [(await client.get("/api/credentials")).status_code for _ in range(11)]
        telephony = [(await client.get("/api/v5/telephony/manager?phone=1234567")).status_code for _ in range(41)]
        over = await client.get("/api/credentials")
    assert rest == [200] * 10 + [503]
    assert telephony == [200] * 40 + [503]
    assert over.json() == {"success": False, "errorMsg": "Rate limit exceeded"}


@pytest.mark.parametrize(
    ("fault", "status", "obeyed"),
    [
        (Fault.HTML, 405, 0),
        (Fault.EMPTY, 200, 0),
        (Fault.SUCCESS_FALSE, 200, 0),
        (Fault.HTTP_500, 500, 0),
        (Fault.HTTP_503, 503, 0),
        (Fault.DROP, None, 0),
        (Fault.DROP_AFTER, None, 1),
        (Fault.HANG, 200, 1),
    ],
)
async def test_retailcrm_misbehaves_once_when_told_to(
    crm: RetailCrm, fault: Fault, status: int | None, obeyed: int
) -> None:
    crm.fault, crm.fault_count, crm.hang_s = fault, 1, 0.02
    if status is None:
        with pytest.raises(httpx2.RemoteProtocolError):
            await reported(crm, "event", EVENT)
    else:
        assert (await reported(crm, "event", EVENT)).status_code == status
    assert len(crm.events) == obeyed
    assert (await reported(crm, "event", EVENT)).json() == {"success": True}


# --- Telegram


@pytest.mark.parametrize(
    ("params", "code", "description"),
    [
        ({"chat_id": -1001}, 400, "Bad Request: message text is empty"),
        ({"chat_id": -1001, "text": " \n"}, 400, "Bad Request: text must be non-empty"),
        ({"chat_id": -1001, "text": "я" * (MAX_TEXT + 1)}, 400, "Bad Request: message is too long"),
        ({"chat_id": -1001, "text": "🙂" * (MAX_TEXT // 2 + 1)}, 400, "Bad Request: message is too long"),
        ({"text": "x"}, 400, "Bad Request: chat_id is empty"),
        ({"chat_id": 5, "text": "x"}, 400, "Bad Request: chat not found"),
        ({"chat_id": -1001, "text": "x", "parse_mode": "Wiki"}, 400, "Bad Request: unsupported parse_mode"),
        (
            {"chat_id": -1001, "text": "<b>x", "parse_mode": "HTML"},
            400,
            "Bad Request: can't parse entities: Can't find end tag corresponding to start tag \"b\"",
        ),
        (
            {"chat_id": -1001, "text": "я<p>x</p>", "parse_mode": "HTML"},
            400,
            'Bad Request: can\'t parse entities: Unsupported start tag "p" at byte offset 2',
        ),
        (
            {"chat_id": -1001, "text": "<b><i>x</b></i>", "parse_mode": "HTML"},
            400,
            'Bad Request: can\'t parse entities: Unmatched end tag at byte offset 7, expected "</i>", found "</b>"',
        ),
        (
            {"chat_id": -1001, "text": "x</b>", "parse_mode": "HTML"},
            400,
            "Bad Request: can't parse entities: Unexpected end tag at byte offset 1",
        ),
        (
            {"chat_id": -1001, "text": "1 < 2", "parse_mode": "HTML"},
            400,
            "Bad Request: can't parse entities: Unclosed start tag at byte offset 2",
        ),
    ],
)
async def test_telegram_refuses(telegram: Telegram, params: dict[str, Any], code: int, description: str) -> None:
    assert await requested(telegram, "sendMessage", **params) == (
        code,
        {"ok": False, "error_code": code, "description": description},
    )
    assert not telegram.messages(-1001)


async def test_telegram_knows_its_tokens_and_methods(telegram: Telegram) -> None:
    assert await requested(telegram, "getMe", token="1:other") == (
        401,
        {"ok": False, "error_code": 401, "description": "Unauthorized"},
    )
    assert (await requested(telegram, "sendTelepathy"))[0] == 404
    assert (await requested(telegram, "GETME"))[1]["result"]["username"] == "shop_bot"
    assert (await requested(telegram, "getChat", chat_id=-1001))[1]["result"]["title"] == "Calls"
    member = await requested(telegram, "getChatMember", chat_id=-1001, user_id=700100200)
    assert member[1]["result"]["status"] == "member"


async def test_telegram_edits_and_shows_the_last_state_without_a_token(telegram: Telegram) -> None:
    html = {"chat_id": "-1001", "parse_mode": "HTML"}
    _, sent = await requested(telegram, "sendMessage", text="<b>Звонок</b> &lt;150&gt;", **html)
    number = sent["result"]["message_id"]
    assert sent["result"]["text"] == "Звонок <150>"
    same = await requested(telegram, "editMessageText", message_id=number, text="<b>Звонок</b> &lt;150&gt;", **html)
    assert same[0] == 400
    assert same[1]["description"].startswith("Bad Request: message is not modified: ")
    _, edited = await requested(telegram, "editMessageText", message_id=number, text="Отвечен", **html)
    assert edited["result"]["edit_date"] >= edited["result"]["date"]
    lost = await requested(telegram, "editMessageText", message_id=99, text="x", **html)
    assert lost[1]["description"] == "Bad Request: message to edit not found"
    (message,) = telegram.messages(-1001)
    assert (message.text, message.edits) == ("Отвечен", 1)
    async with httpx2.AsyncClient(base_url=telegram.base) as client:
        page = (await client.get("/")).text
    assert "Отвечен" in page
    assert "edited" in page
    assert "sandbox-token" not in page


async def test_telegram_limits_a_chat(telegram: Telegram) -> None:
    telegram.clock = lambda: 100.0
    answers = [await requested(telegram, "sendMessage", chat_id=-1001, text=f"{n}") for n in range(6)]
    assert [code for code, _ in answers] == [200] * 5 + [429]
    assert answers[-1][1] == {
        "ok": False,
        "error_code": 429,
        "description": "Too Many Requests: retry after 1",
        "parameters": {"retry_after": 1},
    }
    telegram.clock = lambda: 101.0
    assert (await requested(telegram, "sendMessage", chat_id=-1001, text="x"))[0] == 200


async def test_telegram_sends_writers_of_a_moved_or_forbidding_chat_away(telegram: Telegram) -> None:
    telegram.chats[-1001].migrated_to = -1002
    moved = await requested(telegram, "sendMessage", chat_id=-1001, text="x")
    assert moved[1]["parameters"] == {"migrate_to_chat_id": -1002}
    telegram.add_chat(-1002).forbidden = "Forbidden: bot was blocked by the user"
    blocked = await requested(telegram, "sendMessage", chat_id=-1002, text="x")
    assert (blocked[0], blocked[1]["description"]) == (403, "Forbidden: bot was blocked by the user")


async def test_a_second_poller_ends_the_first(telegram: Telegram) -> None:
    answers: list[tuple[int, dict[str, Any]]] = []

    async def poll() -> None:
        answers.append(await requested(telegram, "getUpdates", timeout=30))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(poll)
        await until(lambda: any(bot.parked for bot in telegram.bots.values()))
        nursery.start_soon(poll)
        await until(lambda: bool(answers))
        assert answers[0][0] == 409
        assert "terminated by other getUpdates request" in answers[0][1]["description"]
        first = telegram.push({"message": {"message_id": 1}})
    assert [update["update_id"] for update in answers[1][1]["result"]] == [first]
    again = await requested(telegram, "getUpdates")
    assert len(again[1]["result"]) == 1
    assert (await requested(telegram, "getUpdates", offset=first + 1))[1]["result"] == []
    assert (await requested(telegram, "setWebhook", url="http://x.example"))[0] == 400
    assert (await requested(telegram, "setWebhook", url="https://x.example/h"))[1]["description"] == "Webhook was set"
    assert (await requested(telegram, "getUpdates"))[0] == 409
    assert (await requested(telegram, "deleteWebhook"))[1]["description"] == "Webhook was deleted"


# --- the PBX: what every stream has in common, and what the tracker makes of it


def fields(message: bytes) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in message.decode().removesuffix("\r\n\r\n").split("\r\n"))


@pytest.mark.parametrize("kind", plays.PLAYABLE)
async def test_a_stream_is_balanced(kind: str, autojump_clock: MockClock) -> None:
    pbx = SimulatedPbx()
    stream: list[dict[str, str]] = []
    open_channels: set[str] = set()
    bridged: dict[str, int] = {}

    def receive(_: float, message: bytes) -> None:
        event = fields(message)
        stream.append(event)
        match event["Event"]:
            case "Newchannel":
                assert event["Channel"] not in open_channels
                open_channels.add(event["Channel"])
            case "Hangup":
                open_channels.remove(event["Channel"])
            case "BridgeCreate":
                bridged[event["BridgeUniqueid"]] = 0
            case "BridgeEnter" | "BridgeLeave":
                bridged[event["BridgeUniqueid"]] += 1 if event["Event"] == "BridgeEnter" else -1
                assert event["BridgeNumChannels"] == str(bridged[event["BridgeUniqueid"]])
            case "BridgeDestroy":
                assert bridged.pop(event["BridgeUniqueid"]) == 0
        for name in ("Channel", "DestChannel"):
            if event.get(name) and event["Event"] not in ("Hangup", "CEL", "Cdr", "OriginateResponse"):
                assert event[name] in open_channels

    pbx.listen(receive)
    truth = await pbx.play(kind)
    assert truth["kind"] == kind
    assert truth["result"]
    assert not open_channels
    assert not bridged
    assert not pbx.channels
    assert not pbx.bridges
    began = [event["DestUniqueid"] for event in stream if event["Event"] == "DialBegin"]
    assert sorted(began) == sorted({event["DestUniqueid"] for event in stream if event["Event"] == "DialEnd"})
    assert {event["Linkedid"] for event in stream if event["Event"] == "Newchannel"} == {
        truth["linkedid"],
        *truth["merged"],
    }


class Ear:
    """Hears a PBX through a tracker, without a socket."""

    def __init__(self, pbx: SimulatedPbx, *, dialplan: bool = True) -> None:
        self.pbx = pbx
        self.dialplan = dialplan
        self.tracker = CallTracker(trunks=(pbx.trunk,), country="BY")
        self.events: list[CallEvent] = []
        pbx.listen(self.receive)

    def receive(self, now: float, message: bytes) -> None:
        if self.dialplan or b"Privilege: dialplan,all" not in message:
            self.events += self.tracker.feed(parse(message.removesuffix(b"\r\n\r\n")), datetime.fromtimestamp(now, UTC))

    def ended(self) -> dict[str, CallEnded]:
        """The calls that have ended; twice would be an error."""
        self.events += self.tracker.tick(datetime.fromtimestamp(self.pbx.now() + 1, UTC))
        calls = [event for event in self.events if isinstance(event, CallEnded)]
        assert len({call.call_id for call in calls}) == len(calls)
        return {call.call_id: call for call in calls}


def assert_true(truth: plays.Truth, call: CallEnded) -> None:
    reported = {
        name: list(value) if isinstance(value := getattr(call, name), tuple) else value
        for name in truth
        if name not in ("kind", "linkedid", "merged", "wait_s", "talk_s")
    }
    assert reported == {name: truth[name] for name in reported}
    for name in ("wait_s", "talk_s"):
        assert getattr(call, name) == (truth[name] and pytest.approx(truth[name], abs=0.05))


@pytest.mark.parametrize("dialplan", [True, False], ids=["all", "no dialplan class"])
@pytest.mark.parametrize("kind", plays.PLAYABLE)
async def test_the_tracker_tells_what_happened(kind: str, dialplan: bool, autojump_clock: MockClock) -> None:
    pbx = SimulatedPbx()
    ear = Ear(pbx, dialplan=dialplan)
    truth = await pbx.play(kind)
    ended = ear.ended()
    assert set(ended) == {truth["linkedid"]}
    assert_true(truth, ended[truth["linkedid"]])
    assert [event.call_id for event in ear.events if isinstance(event, CallMerged)] == truth["merged"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
async def test_an_hour_of_calls_is_told_as_it_was(seed: int, autojump_clock: MockClock) -> None:
    people = {f"{number}": f"Employee {number}" for number in range(150, 170)}
    pbx = SimulatedPbx(extensions=people, timestamps=bool(seed % 2), seed=seed)
    ear = Ear(pbx)
    with trio.move_on_after(3600):
        await pbx.run(0.2, dict.fromkeys(plays.WEIGHTS, 1.0))
    assert len(pbx.truths) > 300
    ended = ear.ended()
    for truth in pbx.truths:
        assert_true(truth, ended[truth["linkedid"]])
    assert {truth["kind"] for truth in pbx.truths} == set(plays.WEIGHTS)


# --- the PBX over TCP


class Manager:
    """A manager client of a few lines: sends actions, keeps what came."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.waiting = b""

    async def ask(self, action: str, **headers: str) -> dict[str, str]:
        """Sends an action; the answer to it, or whatever comes first."""
        lines = [f"Action: {action}", *(f"{key}: {value}" for key, value in headers.items())]
        await self.stream.send_all(("\r\n".join(lines) + "\r\n\r\n").encode())
        return await self.until("Response")

    async def until(self, key: str, value: str = "", **others: str) -> dict[str, str]:
        """The next message with this header (and value)."""
        while True:
            while b"\r\n\r\n" not in self.waiting:
                data = await self.stream.receive_some(65536)
                if not data:
                    raise EOFError
                self.waiting += data
            block, _, self.waiting = self.waiting.partition(b"\r\n\r\n")
            message = dict(line.split(": ", 1) for line in block.decode().split("\r\n") if ": " in line)
            if key in message and value in ("", message[key]) and others.items() <= message.items():
                return message


@asynccontextmanager
async def manager(port: int, **login: str) -> AsyncIterator[Manager]:
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        client = Manager(stream)
        banner = b""
        while not banner.endswith(b"\r\n"):
            banner += await stream.receive_some(1)
        assert banner == b"Asterisk Call Manager/11.0.0\r\n"
        if login.get("Username") != "":
            answer = await client.ask(
                "Login", **{"Username": "gateway", "Secret": "sandbox-secret", "ActionID": "1", **login}
            )
            assert answer == {"Response": "Success", "ActionID": "1", "Message": "Authentication accepted"}
        yield client


async def test_manager_sessions_are_admitted_and_answered_as_asterisk_does(nursery: trio.Nursery) -> None:
    pbx = SimulatedPbx()
    port = await nursery.start(pbx.serve)
    async with manager(port, Username="") as client:
        assert await client.ask("Ping") == {"Response": "Error", "Message": "Permission denied"}
        refused = await client.ask("Login", Username="gateway", Secret="wrong", ActionID="x")
        assert refused == {"Response": "Error", "ActionID": "x", "Message": "Authentication failed"}
        with pytest.raises(EOFError):
            await client.until("Response")
    async with manager(port) as client:
        assert (await client.until("Event", "FullyBooted"))["Status"] == "Fully Booted"
        assert (await client.ask("Ping", ActionID="2"))["Ping"] == "Pong"
        assert (await client.ask("Events", EventMask="off"))["Events"] == "Off"
        assert (await client.ask("CoreStatus"))["CoreCurrentCalls"] == "0"
        unknown = await client.ask("NoSuchAction", ActionID="3")
        assert unknown["Message"].startswith("Invalid/unknown command: NoSuchAction.")
        assert (await client.ask("Logoff"))["Response"] == "Goodbye"
        with pytest.raises(EOFError):
            await client.until("Response")
    assert all("secret" not in action for action in pbx.actions)


async def test_who_connects_in_the_middle_is_told_the_truth(nursery: trio.Nursery) -> None:
    pbx = SimulatedPbx(tempo=0.02)
    port = await nursery.start(pbx.serve)
    nursery.start_soon(partial(pbx.play, "incoming_answered", ring_s=1, talk_s=10))
    await until(lambda: any(bridge.channels for bridge in pbx.bridges.values()))
    async with manager(port) as client:
        assert (await client.ask("CoreShowChannels", ActionID="c"))["EventList"] == "start"
        rows = [await client.until("Event", "CoreShowChannel", ActionID="c") for _ in range(2)]
        assert (await client.until("Event", "CoreShowChannelsComplete"))["ListItems"] == "2"
        assert {row["BridgeId"] for row in rows} == set(pbx.bridges)
        assert len({row["Linkedid"] for row in rows}) == 1
        assert {row["ChannelStateDesc"] for row in rows} == {"Up"}
        assert (await client.until("Event", "HangupRequest"))["Linkedid"] == rows[0]["Linkedid"]


@pytest.mark.parametrize(
    ("headers", "outcome", "result"),
    [
        ({"Channel": "Local/150@inoffice", "Application": "Dial", "Data": "Local/+375296254070@inoffice"}, "answered", "answered"),
        ({"Channel": "Local/150@inoffice", "Context": "inoffice", "Exten": "+375296254070", "Priority": "1"}, "answered", "answered"),
        ({"Channel": "PJSIP/150", "Context": "inoffice", "Exten": "+375296254070", "Priority": "1"}, "answered", "answered"),
        ({"Channel": "PJSIP/150", "Context": "inoffice", "Exten": "+375296254070", "Priority": "1"}, "silent", "cancelled"),
        ({"Channel": "Local/150@inoffice", "Context": "inoffice", "Exten": "+375296254070", "Priority": "1"}, "busy", "busy"),
        ({"Channel": "PJSIP/150", "Context": "inoffice", "Exten": "+375296254070", "Priority": "1"}, "no_answer", "no_answer"),
        ({"Channel": "Local/150@inoffice", "Context": "inoffice", "Exten": "+375296254070", "Priority": "1"}, "no_answer", "no_answer"),
    ],
)  # fmt: skip
async def test_an_originate_is_a_call(
    nursery: trio.Nursery, headers: dict[str, str], outcome: str, result: str
) -> None:
    pbx = SimulatedPbx(tempo=0.004)
    pbx.originate_outcome = outcome
    ear = Ear(pbx)
    port = await nursery.start(pbx.serve)
    extra = {"ActionID": "o", "CallerID": '"Click" <+375296254070>', "Async": "true", "Variable": "GW_ID=7"}
    async with manager(port) as client:
        answer = await client.ask("Originate", **headers, **extra)
        assert answer == {"Response": "Success", "ActionID": "o", "Message": "Originate successfully queued"}
        variable = await client.until("Event", "VarSet")
        assert (variable["Variable"], variable["Value"]) == ("GW_ID", "7")
        response = await client.until("Event", "OriginateResponse")
        assert (response["ActionID"], response["Reason"]) == ("o", "3" if outcome == "silent" else "4")
        await until(lambda: bool(pbx.truths))
    (truth,) = pbx.truths
    assert (truth["direction"], truth["caller"], truth["called"]) == ("outgoing", "150", "+375296254070")
    assert truth["result"] == result
    assert_true(truth, ear.ended()[truth["linkedid"]])
    assert not pbx.channels


async def test_an_originate_for_nobody_fails(nursery: trio.Nursery) -> None:
    pbx = SimulatedPbx()
    port = await nursery.start(pbx.serve)
    async with manager(port) as client:
        await client.ask("Originate", Channel="PJSIP/999", Context="inoffice", Exten="150", Priority="1", ActionID="o")
        response = await client.until("Event", "OriginateResponse")
    assert (response["Response"], response["Reason"], response["Uniqueid"]) == ("Failure", "0", "<unknown>")


async def test_a_redirect_moves_a_ringing_call(nursery: trio.Nursery) -> None:
    pbx = SimulatedPbx(tempo=0.02)
    ear = Ear(pbx)
    port = await nursery.start(pbx.serve)
    async with manager(port) as client:
        nursery.start_soon(partial(pbx.play, "incoming_missed_gave_up", patience_s=500))
        ringing = await client.until("Event", "DialState")
        wrong = await client.ask(
            "Redirect", Channel="PJSIP/none-00000000", Context="inoffice", Exten="152", Priority="1"
        )
        assert wrong["Message"] == "Channel does not exist: PJSIP/none-00000000"
        moved = await client.ask("Redirect", Channel=ringing["Channel"], Context="inoffice", Exten="152", Priority="1")
        assert moved["Message"] == "Redirect successful"
        await until(lambda: bool(pbx.truths))
    (truth,) = pbx.truths
    assert (truth["rang"], truth["extension"]) == (["150", "151", "152"], "152")
    assert_true(truth, ear.ended()[truth["linkedid"]])


async def test_links_can_be_cut_and_stalled_and_the_pbx_restarted(nursery: trio.Nursery) -> None:
    pbx = SimulatedPbx(tempo=0.01)
    port = await nursery.start(pbx.serve)
    async with manager(port) as client:
        await client.until("Event", "FullyBooted")
        pbx.stall()
        with trio.move_on_after(0.03) as silence:
            await client.ask("Ping")
        assert silence.cancelled_caught
        pbx.stall(False)
        assert (await client.until("Response"))["Ping"] == "Pong"
        pbx.cut()
        with pytest.raises((EOFError, trio.BrokenResourceError)):
            await client.until("Response")
    lost: list[plays.Truth] = []
    pbx.finished.append(lost.append)
    nursery.start_soon(partial(pbx.play, "internal_answered", talk_s=1000))
    await until(lambda: len(pbx.channels) >= 2)
    pbx.restart()
    await until(lambda: bool(lost))
    assert lost[0]["uncertain"]
    assert lost[0]["result"] is None
    async with manager(port) as client:
        await client.ask("CoreShowChannels")
        assert (await client.until("Event", "CoreShowChannelsComplete"))["ListItems"] == "0"
    assert (await pbx.play("internal_missed"))["linkedid"].endswith(".1")
