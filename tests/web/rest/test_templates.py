"""Approved templates by the API: who reads them, sent where nothing else is taken, and which field is wrong."""

import json
from typing import Any

import pytest

from gateway.store.outbox import Outcome
from gateway.store.postgres.pool import Connection
from tests.web.chats import READY, WHATSAPP, connect, connect_whatsapp, conversation_with, receives
from tests.web.rest.conftest import Api
from tests.web.rest.test_resources import paths
from tests.web.world import JUNE, MAPLE

ANNA = "375291002001"
USE = {"name": "order_ready", "language": "ru", "values": {"body.1": "15", "body.2": "9"}}


@pytest.fixture
async def chat(api: Api) -> str:
    """A conversation whose client wrote two days ago."""
    await connect_whatsapp(api.world, READY)
    wrote = {"event": "ClientWrote", "provider_id": "wamid.1", "text": "hello", "address": ANNA}
    await receives(api.world, wrote, key=WHATSAPP, ago_s=2 * 86_400.0)
    return f"/conversations/{await conversation_with(api.world, ANNA)}"


async def bodies(api: Api) -> list[Any]:
    """What is to be delivered, and for whose rate."""

    async def read(conn: Connection) -> list[Any]:
        rows = await conn.fetch(
            "SELECT bucket, body FROM deliveries WHERE tenant_id = $1 AND kind = 'message' ORDER BY 1", JUNE
        )
        return [(row[0], json.loads(row[1])) for row in rows]

    return await api.world.db.engine(read)


async def test_templates_are_listed_to_whom_chats_are(api: Api, chat: str) -> None:
    found = await api.ask("GET", "/templates", query={"channel": "whatsapp"})
    assert found.json == {"items": [{"channel": "whatsapp", **READY.stored()}]}
    for scope, status in (("read", 200), ("chat", 200), ("call", 403)):
        assert (await api.ask("GET", "/templates", x_api_key=await api.new_key(scope))).status == status, scope
    theirs = await api.ask("GET", "/templates", x_api_key=await api.new_key("chat", of=MAPLE))
    assert theirs.json == {"items": []}
    await connect(api.world)
    for channel in ("telegram", "whatsapp:other", "no such"):
        assert paths(await api.ask("GET", "/templates", query={"channel": channel})) == {"channel"}


async def test_outside_the_window_only_a_template_goes_out(api: Api, chat: str) -> None:
    assert (await api.ask("GET", chat)).json["window_until"] is None
    refused = await api.ask("POST", f"{chat}/messages", {"text": "hi", "client_id": "a"})
    assert paths(refused) == {"text"}
    assert "template" in refused.json["errors"][0]["message"]
    body = {"client_id": "a", "template": {**USE, "values": {"body.1": "15", "body.2": " 9\n  50 "}}}
    sent = await api.ask("POST", f"{chat}/messages", body)
    assert (sent.status, sent.json["text"], sent.json["status"]) == (201, "№ 15: 9 50 BYN", "queued")
    again = await api.ask("POST", f"{chat}/messages", body)
    assert again.json["id"] == sent.json["id"]
    ((bucket, delivery),) = await bodies(api)
    assert bucket == f"pair:{ANNA}"
    assert delivery["template"] == {
        "name": "order_ready",
        "language": "ru",
        "values": {"body.1": "15", "body.2": "9 50"},
    }
    assert (delivery["to"], delivery["text"]) == (ANNA, "№ 15: 9 50 BYN")


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"template": {**USE, "name": "gone"}}, {"template"}), ({"template": {**USE, "language": "en_US"}}, {"template"}),
        ({"template": {**USE, "values": {"body.1": "1"}}}, {"template.values.body.2"}),
        ({"template": {**USE, "values": {"body.1": "1", "body.2": " "}}}, {"template.values.body.2"}),
        ({"template": {**USE, "values": {**USE["values"], "body.3": "x"}}}, {"template.values.body.3"}),  # type: ignore[dict-item] # a mapping
        ({"template": {**USE, "values": {"body.1": 1}}}, {"template.values.body.1"}),
        ({"template": {**USE, "values": {"body.1": "x" * 1025}}}, {"template.values.body.1"}),
        ({"template": {"name": "order_ready"}}, {"template.language"}), ({"template": "order_ready"}, {"template"}),
        ({"template": USE, "text": "hi"}, {"template"}), ({"template": {**USE, "more": 1}}, {"template.more"}),
    ],
)  # fmt: skip
async def test_what_does_not_fit_is_named(api: Api, chat: str, body: dict[str, Any], fields: set[str]) -> None:
    assert paths(await api.ask("POST", f"{chat}/messages", {"client_id": "a", **body})) == fields
    assert await bodies(api) == []


async def test_a_messenger_without_templates_says_so(api: Api) -> None:
    await connect(api.world)
    await receives(api.world, {"event": "ClientWrote", "provider_id": "1", "text": "hello", "address": "7"})
    chat = f"/conversations/{await conversation_with(api.world, '7')}"
    assert paths(await api.ask("POST", f"{chat}/messages", {"client_id": "a", "template": USE})) == {"template"}


async def test_writing_first_needs_a_template(api: Api) -> None:
    await connect_whatsapp(api.world, READY)
    to = {"channel": "whatsapp", "to": "+375 29 100-20-02"}
    assert paths(await api.ask("POST", "/messages", {**to, "text": "hi"})) == {"text"}
    assert paths(await api.ask("POST", "/messages", to)) == {"text"}
    assert paths(await api.ask("POST", "/messages", {**to, "template": {**USE, "name": "gone"}})) == {"template"}
    assert paths(await api.ask("POST", "/messages", {**to, "to": "anna", "template": USE})) == {"to"}
    assert (await api.ask("GET", "/conversations")).json["items"] == []
    sent = await api.ask("POST", "/messages", {**to, "template": USE})
    assert (sent.status, sent.json["text"]) == (201, "№ 15: 9 BYN")
    (known,) = (await api.ask("GET", "/conversations")).json["items"]
    assert known["id"] == sent.json["conversation"]


async def test_a_template_is_sent_again_as_it_was_even_long_after(api: Api, chat: str) -> None:
    sent = await api.ask("POST", f"{chat}/messages", {"client_id": "a", "template": USE})
    (first,) = await bodies(api)
    await api.world.deliver(JUNE, "whatsapp", Outcome(state="failed", status="failed", error="131049: why"))

    async def forget(conn: Connection) -> None:
        await conn.execute("DELETE FROM deliveries WHERE tenant_id = $1", JUNE)

    await api.world.db.engine(forget)
    again = await api.ask("POST", f"/messages/{sent.json['id']}/retry")
    assert (again.status, again.json["status"]) == (200, "queued")
    assert await bodies(api) == [first]
