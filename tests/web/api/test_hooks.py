"""`/hooks/{kind}/{hook_id}`: whose it is, whether it is genuine, durable before it is answered, a repeat is harmless."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import trio

from adapters.base import Adapter, AdapterSettings, setting
from adapters.inbound import Inbound, Reply, Stream, Update, WebhookCall
from gateway.domain.configuration import Tenant, integration
from gateway.domain.errors import Unavailable
from gateway.domain.ids import IntegrationKey, Kind, TenantId
from gateway.domain.secret import Secret
from gateway.web.api.hooks import HOOK_LIMIT, HookDeps, hook_addresses
from gateway.web.http.routes import Request, Response, Table, answer

JUNE, KEY, HOOK = TenantId("0367"), IntegrationKey("pigeon:support"), "an-unguessable-hook-id-of-ours"


class Settings(AdapterSettings):
    word: str = setting(en="Word", ru="Слово")
    hook_id: Secret = setting(Secret(HOOK), en="Hook", ru="Адрес", secret=True)
    webhooks: bool = setting(True, en="Webhooks", ru="Вебхуки")


def verify(call: WebhookCall, settings: Settings) -> Reply | None:
    if call.method == "GET":
        return Reply(200, call.query.get("challenge", "").encode())
    return None if call.headers.get("x-word") == settings.word else Reply(403)


def read(body: bytes, settings: Settings) -> Sequence[Update]:
    return [Update(str(one["id"]), one) for one in json.loads(body)]


PIGEON = Adapter(
    kind=Kind("pigeon"), title="Pigeon", type="channel", settings=Settings, connect=lambda link, settings: NotImplemented, hook_id_field="hook_id",
    inbound=Inbound(verify=verify, read=read, accepts=lambda s: s.webhooks, accepted=Reply(200, b"ok")),
)  # fmt: skip


@dataclass
class Here:
    """A gateway that notes what it stored."""

    settings: dict[str, Any] = field(default_factory=lambda: {"word": "coo"})
    enabled: bool = True
    away: bool = False
    stored: list[tuple[TenantId, IntegrationKey, str, Stream]] = field(default_factory=list)

    def by_hook(self, kind: Kind, hashed: bytes) -> tuple[Tenant, IntegrationKey] | None:
        if (kind, hashed) != ("pigeon", hashlib.sha256(HOOK.encode()).digest()):
            return None
        links: Mapping[IntegrationKey, Any] = {KEY: integration(KEY, self.settings, enabled=self.enabled)}
        tenant = Tenant(JUNE, "June", ZoneInfo("UTC"), "BY", "ru", integrations=MappingProxyType(links))
        return tenant, KEY

    async def store(self, tenant: TenantId, key: IntegrationKey, updates: Sequence[Update], stream: Stream) -> None:
        await trio.lowlevel.checkpoint()
        if self.away:
            raise Unavailable("away")
        self.stored += [(tenant, key, one.id, stream) for one in updates]

    async def call(self, path: str = f"/hooks/pigeon/{HOOK}", body: Any = (), method: str = "POST", word: str | None = "coo",
                   query: Mapping[str, str] | None = None) -> Response:  # fmt: skip
        table = Table(hook_addresses(HookDeps(by_hook=self.by_hook, store=self.store), {PIGEON.kind: PIGEON}))
        found = table.find(method, path)
        assert not isinstance(found, Response), found
        address, params = found
        assert address.body_limit == HOOK_LIMIT
        assert address.intake
        raw = body if isinstance(body, bytes) else json.dumps(list(body)).encode()
        headers = {"x-word": word} if word is not None else {}
        return await answer(
            address, Request(method=method, path=path, params=params, query=query or {}, headers=headers, body=raw)
        )


async def test_updates_are_stored_before_the_answer() -> None:
    here = Here()
    reply = await here.call(body=[{"id": 1}, {"id": 2}])
    assert (reply.status, reply.body) == (200, b"ok")
    assert here.stored == [(JUNE, KEY, "1", "chats"), (JUNE, KEY, "2", "chats")]
    here.away = True
    assert (await here.call(body=[{"id": 3}])).status == 503


async def test_a_handshake_is_the_adapters() -> None:
    reply = await Here().call(method="GET", query={"challenge": "1158201444"})
    assert (reply.status, reply.body) == (200, b"1158201444")


@pytest.mark.parametrize(
    "path", ["/hooks/pigeon/another", "/hooks/nobody/" + HOOK, f"/hooks/pigeon/{HOOK}x", "/hooks/pigeon/" + "x" * 5000]
)
async def test_an_address_that_nobody_has(path: str) -> None:
    reply = await Here().call(path, body=[{"id": 1}])
    assert (reply.status, reply.body) == (404, b"")


@pytest.mark.parametrize("here", [Here(enabled=False), Here(settings={"word": "coo", "webhooks": False})])
async def test_switched_off_is_as_if_it_were_not_there(here: Here) -> None:
    assert ((await here.call(body=[{"id": 1}])).status, here.stored) == (404, [])


@pytest.mark.parametrize("word", [None, "", "moo"])
async def test_nothing_that_is_not_signed_is_stored(word: str | None) -> None:
    here = Here()
    reply = await here.call(body=[{"id": 1}], word=word)
    assert (reply.status, here.stored) == (403, [])


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe"])
async def test_what_this_system_does_not_send(body: bytes) -> None:
    here = Here()
    assert ((await here.call(body=body)).status, here.stored) == (422, [])


async def test_settings_that_are_not_valid_lose_nothing() -> None:
    assert (await Here(settings={}).call(body=[{"id": 1}])).status == 503
