"""What must hold for any input, tried on the whole of what both listeners serve."""

import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.registry import integrations
from gateway.cli.tenants import apply
from gateway.domain.ids import Kind
from gateway.store.postgres.pool import OwnConnection
from gateway.store.secrets.seal import new_master_key, parse_master_keys
from gateway.web.http import guesses
from tests.walls.rows import HOOKED, changed, event_token, hook_id, rows_of
from tests.walls.rows import SECRETS as SECRETS_OF
from tests.walls.site import VALUES, Person, Route, Side, Walls, open_walls
from tests.walls.tries import betrayed

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

ALPHABET = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"
SECRETS = st.text(ALPHABET, min_size=32, max_size=44)


@pytest.fixture
async def walls(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Walls]:
    monkeypatch.setattr(guesses, "BURST", 1_000_000)
    async with open_walls(dsn, tmp_path, parse_master_keys(new_master_key())) as made:
        yield made


async def holds(strategy: st.SearchStrategy[Any], work: Callable[[Any], Awaitable[None]], examples: int = 100) -> None:
    """Hypothesis in a thread, each example back here: the gateway beneath is put together once."""

    @settings(max_examples=examples, deadline=None, database=None)
    @given(strategy)
    def example(value: Any) -> None:
        trio.from_thread.run(work, value)

    await trio.to_thread.run_sync(example)


# Property 3 ------------------------------------------------------------------------------------------------------------

EVERY_COLUMN = """
    SELECT c.relname, a.attname FROM pg_class c
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
      AND a.atttypid::regtype::text IN ('text', 'text[]', 'jsonb', 'json', 'bytea', 'character varying')
"""


async def _readable(conn: OwnConnection, secrets: list[str]) -> list[str]:
    """Columns in which one of these stands as it is, in hexadecimal digits or in base 64."""
    columns = await conn.fetch(EVERY_COLUMN)
    spelt = [form for text in secrets for form in (text, text.encode().hex())]
    query = " UNION ALL ".join(
        f"SELECT '{table}.{column}' FROM {table} WHERE EXISTS "
        f"(SELECT FROM unnest($1::text[]) s (sought) WHERE strpos({column}::text, s.sought) > 0 "
        f"OR strpos({column}::text, rtrim(encode(s.sought::bytea, 'base64'), '=')) > 0)"
        for table, column in columns
    )
    return sorted({row[0] for row in await conn.fetch(query, spelt)})


async def test_no_credential_is_stored_readable(walls: Walls, tmp_path: Path) -> None:
    """Feature: modular-bot-integrations, Property 3: whatever is saved through a page, a function or a file, no column of any
    table holds a credential that can be read."""
    a, file = walls.a, tmp_path / "tenants.json"
    person = walls.person("an admin", a)
    crm = Route("POST", "/t/<number>/integrations/<key>/settings", ("key", "number"))
    pbx = Route("POST", "/t/<number>/pbxes/<name>/settings", ("name", "number"))

    async def example(values: tuple[str, str, str, str]) -> None:
        api_key, ami, token, bot = values
        form = {"domain": f"https://{a.company.mark}.crm.example", "api_key": api_key, "client_id": "***", "anyway": "1",
                "connect_timeout_s": "2.5"}  # fmt: skip
        saved = await walls.ask(person, crm, crm.path({}, a), {}, form)
        host = {"s.host": "192.0.2.10", "s.username": "u", "s.secret": ami, "host": "192.0.2.10", "username": "u",
                "secret": ami, "anyway": "1"}  # fmt: skip
        also = await walls.ask(person, pbx, pbx.path({}, a), {}, host)
        assert (saved.status, also.status) == (303, 303)
        block = {"number": "file", "name": "F", "timezone": "UTC", "country": "BY", "language": "en", "token": token,
                 "integrations": {"telegram": {"bot_token": f"700100200:{bot}"}}}  # fmt: skip
        file.write_text(json.dumps({"tenants": [block]}))
        await apply(walls.gateway.services.db, walls.companies.a.master, [str(file)], dry_run=False, prune=False)
        found = await walls.owner.run(_readable, list(values))
        assert [column for column in found if not column.startswith("flashes.body")] == []
        assert found == []

    four = st.lists(SECRETS, min_size=4, max_size=4, unique=True).map(tuple)
    before = await walls.owner.run(rows_of, a.company.number)
    await holds(four, example)
    assert {"integrations", "pbxes"} <= set(changed(before, await walls.owner.run(rows_of, a.company.number)))


# Property 8 ------------------------------------------------------------------------------------------------------------


async def test_results_hold_only_the_askers_own(walls: Walls) -> None:
    """Feature: modular-bot-integrations, Property 8: whatever a person looks for, results hold their own company's alone."""
    person = walls.person("an admin", walls.a)
    lists = [r for r in walls.routes() if r.method == "GET" and r.rule.startswith("/t/") and not r.machine]
    lists = [r for r in lists if "live" not in r.rule]
    shown = 0

    async def example(drawn: tuple[int, dict[str, str], bool]) -> None:
        nonlocal shown
        place, query, foreign = drawn
        route = lists[place % len(lists)]
        side = walls.b if foreign else walls.a
        sent = {
            name: (text if text != "*" else str(VALUES.get(name, VALUES["text"])(side))) for name, text in query.items()
        }
        path = route.path({}, walls.a)
        answer = await walls.ask(person, route, path, sent, None)
        assert betrayed(walls.companies.foreign(), (path, sent, None), answer) == [], route
        assert answer.status < 500
        shown += walls.a.company.mark in answer.text

    names = sorted({*VALUES, "direction", "result", "since", "until", "state", "after", "q", "page"})
    values = st.sampled_from(["*", "", "%", "_", "' OR 1=1 --", "0", "2026-01-01", "failed"]) | st.text(max_size=12)
    query = st.dictionaries(st.sampled_from(names), values.filter(str.isprintable), max_size=6)
    await holds(st.tuples(st.integers(0, 1000), query, st.booleans()), example, 200)
    assert shown > 20


# Property 10 -----------------------------------------------------------------------------------------------------------


Sent = tuple[Mapping[str, str], bytes]
"""Headers and body."""


def _telegram(secrets: Mapping[str, str], update: dict[str, Any]) -> Sent:
    signature = hmac.new(secrets["hook_id"].encode(), secrets["bot_token"].encode(), hashlib.sha256).hexdigest()
    body = {"update_id": update["id"], "message": {
        "message_id": 1, "date": 0, "chat": {"id": 5, "type": "private"}, "from": {"id": 5, "is_bot": False,
        "first_name": "O"}, "text": update["text"]}}  # fmt: skip
    return {"x-telegram-bot-api-secret-token": signature}, json.dumps(body).encode()


def _viber(secrets: Mapping[str, str], update: dict[str, Any]) -> Sent:
    body = json.dumps({"event": "message", "timestamp": 1767225600000, "message_token": update["id"],
        "sender": {"id": "01234567890A=", "name": "O"}, "message": {"type": "text", "text": update["text"]}}).encode()  # fmt: skip
    return {
        "x-viber-content-signature": hmac.new(secrets["auth_token"].encode(), body, hashlib.sha256).hexdigest()
    }, body


def _vk(secrets: Mapping[str, str], update: dict[str, Any]) -> Sent:
    message = {"id": update["id"], "date": 1767225600, "peer_id": 5, "from_id": 5, "text": update["text"], "out": 0,
               "conversation_message_id": update["id"]}  # fmt: skip
    body = {"type": "message_new", "group_id": 1, "event_id": f"e{update['id']}", "v": "5.199",
            "secret": secrets["secret"], "object": {"message": message, "client_info": {}}}  # fmt: skip
    return {}, json.dumps(body).encode()


def _whatsapp(secrets: Mapping[str, str], update: dict[str, Any]) -> Sent:
    message = {"from": "375296254070", "id": f"wamid.{update['id']}", "timestamp": "1767225600", "type": "text",
               "text": {"body": update["text"]}}  # fmt: skip
    value = {"messaging_product": "whatsapp", "metadata": {"phone_number_id": "106540352242922"}, "messages": [message]}
    changes = [{"field": "messages", "value": value}]
    body = json.dumps({"object": "whatsapp_business_account", "entry": [{"id": "1", "changes": changes}]}).encode()
    return {
        "x-hub-signature-256": f"sha256={hmac.new(secrets['app_secret'].encode(), body, hashlib.sha256).hexdigest()}"
    }, body


def _instagram(secrets: Mapping[str, str], update: dict[str, Any]) -> Sent:
    item = {"sender": {"id": "99001"}, "recipient": {"id": "17841400008460056"}, "timestamp": 1_767_225_600_001,
            "message": {"mid": f"mid.{update['id']}", "text": update["text"]}}  # fmt: skip
    entry = {"id": "17841400008460056", "time": 1_767_225_600_123, "messaging": [item]}
    body = json.dumps({"object": "instagram", "entry": [entry]}).encode()
    return {
        "x-hub-signature-256": f"sha256={hmac.new(secrets['app_secret'].encode(), body, hashlib.sha256).hexdigest()}"
    }, body


def _bitrix24(secrets: Mapping[str, str], update: dict[str, Any]) -> Sent:
    data = {
        "PHONE_NUMBER": "+375296254070",
        "CALL_ID": f"externalCall.{update['id']}",
        "USER_ID": "1",
        "NOTE": update["text"],
    }
    fields = {"event": "ONEXTERNALCALLSTART", **{f"data[{name}]": value for name, value in data.items()},
              "auth[application_token]": secrets["application_token"]}  # fmt: skip
    return {"content-type": "application/x-www-form-urlencoded"}, urlencode(fields).encode("utf-8", "replace")


def _till(secrets: Mapping[str, str], update: dict[str, Any]) -> Sent:
    order = {"status": "OnWay", "comment": update["text"]}
    info = {
        "id": "0f3a2c9e-5f50-4c7e-9b7e-1c1c9b6f2a11",
        "timestamp": update["id"],
        "creationStatus": "Success",
        "order": order,
    }
    event = {
        "eventType": "DeliveryOrderUpdate",
        "organizationId": "7bc05553-4b68-44e8-b7bc-37be63c6d9e9",
        "eventInfo": info,
    }
    return {"authorization": f"Bearer {secrets['webhook_token']}"}, json.dumps([event]).encode()


SIGNED: Mapping[str, Callable[[Mapping[str, str], dict[str, Any]], Sent]] = {
    "bitrix24": _bitrix24,
    "iiko": _till,
    "instagram": _instagram,
    "syrve": _till,
    "telegram": _telegram,
    "viber": _viber,
    "vk": _vk,
    "whatsapp": _whatsapp,
}
"""How each outside system signs what it sends, by the secrets of its integration."""
EVENTS = ("/start", "/dial", "/bridge", "/hangup")


def test_every_adapter_with_webhooks_has_a_signed_sample() -> None:
    inbound = {kind for kind, adapter in integrations().items() if adapter.inbound is not None}
    assert inbound == set(SIGNED), "add how it signs to SIGNED"
    assert inbound == set(HOOKED), "add its integration to HOOKED"


def hooked(side: Side, kind: str) -> Side:
    """The side with its integration of this kind that takes webhooks."""
    return replace(side, ids=replace(side.open, kind=Kind(kind)))


async def test_a_repeated_webhook_or_event_changes_nothing(walls: Walls) -> None:
    """Feature: modular-bot-integrations, Property 10: a webhook or call event that comes again, to either listener, changes
    nothing."""
    a = walls.a
    hooks = [
        r for r in walls.routes() if r.rule.startswith("/hooks/") and "hook_id" in r.arguments and r.method == "POST"
    ]
    events = [r for r in walls.routes() if r.rule in EVENTS and r.method == "POST"]
    assert len(hooks) == 2
    assert len(events) == 2 * len(EVENTS)

    async def sent(side: Side, routes: list[Route], headers: Mapping[str, str], body: bytes, times: int) -> None:
        before = None
        for n in range(times + 1):
            route = routes[n % len(routes)]
            path = route.path({}, side)
            found = await walls.ask(Person("it", side, headers=headers), route, path, {}, None, body=body)
            assert found.status == 200, (route, found)
            rows = await walls.owner.run(rows_of, a.company.number)
            assert before is None or changed(before, rows) == []
            before = rows

    async def example(drawn: tuple[str, dict[str, Any], int]) -> None:
        kind, update, times = drawn
        if kind in SIGNED:
            side = hooked(a, kind)
            headers, body = SIGNED[kind](SECRETS_OF[kind](side.context), update)
            await sent(side, hooks, headers, body, times)
            return
        event = {"Token": event_token(a.company), "UniqueId": f"{update['id']}.1", "CallerIDNum": "+375296254070",
                 "Extensions": [a.open.phone], "CallType": 0, "CallStatus": "ANSWER", "Note": update["text"]}  # fmt: skip
        await sent(
            replace(a, ids=a.open),
            [r for r in events if r.rule == kind],
            {"content-type": "application/json"},
            json.dumps(event).encode(),
            times,
        )

    update = st.fixed_dictionaries({"id": st.integers(1, 2**31), "text": st.text(ALPHABET + "ёЖ€ \"'", max_size=40)})
    await holds(st.tuples(st.sampled_from([*SIGNED, *EVENTS]), update, st.integers(1, 3)), example)


# Property 11 -----------------------------------------------------------------------------------------------------------

OPEN = {"/health", "/ready", "/api/openapi.json", "/api/docs", "/widget.js", "/widget-files/<version>/<name>",
        "/frames-files/<version>/<name>"}  # fmt: skip
"""Machine addresses that tell nothing of any company and ask for no credential."""


async def test_a_wrong_signature_or_token_is_refused_everywhere(walls: Walls) -> None:
    """Feature: modular-bot-integrations, Property 11: no machine address of either listener takes a credential that is not a
    right one, and nothing is stored for it."""
    routes = [r for r in walls.routes() if r.machine and r.served and r.rule not in OPEN]
    assert len(routes) > 15
    number = walls.a.company.number
    update = {"id": 1, "text": "forged"}

    async def example(drawn: tuple[str, bool]) -> None:
        credential, known = drawn
        names = ("Token", "token", "clientId", "client_id", "apiKey", "api_key")
        headers = {"authorization": f"Bearer {credential}", "x-api-key": credential,
                   "x-telegram-bot-api-secret-token": credential}  # fmt: skip
        for route in routes:
            taken = "hook_id" in route.arguments
            for kind in SIGNED if taken else ("telegram",):
                side, body = hooked(walls.a, kind), b""
                path = route.path({}, side)
                fields = {name: make(side) for name, make in VALUES.items()} if route.method != "GET" else None
                forged = headers
                if taken and not known:
                    path = path.replace(hook_id(side.context), credential)
                if taken and route.method == "POST":
                    more, body = SIGNED[kind](dict.fromkeys(SECRETS_OF[kind](side.context), credential), update)
                    fields, forged = None, {**headers, **more}
                person = Person(
                    "a stranger", side, {"session": f"{number}.{credential}"}, dict.fromkeys(names, credential), forged
                )
                answer = await walls.ask(person, route, path, {}, fields, body=body)
                preflight = route.method == "OPTIONS"  # tells what may be sent, and nothing of anybody
                assert answer.status in ((204,) if preflight else ()) + (400, 401, 403, 404, 405, 422, 429), (
                    route,
                    kind,
                    answer.status,
                )

    before = await walls.owner.run(rows_of, number)
    await holds(st.tuples(SECRETS, st.booleans()), example)
    assert changed(before, await walls.owner.run(rows_of, number)) == []
