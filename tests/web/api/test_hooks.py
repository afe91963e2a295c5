"""`/hooks/{kind}/{hook_id}` and `/hooks/{kind}`: whose it is, whether it is genuine, durable before it is answered, a repeat is harmless."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import trio

from adapters.apps import App, AppCredentials, AppSecret
from adapters.base import Adapter, AdapterSettings, setting
from adapters.inbound import Inbound, OrderNews, Reply, RequestedCall, SharedHook, Stream, Update, WebhookCall
from gateway.domain.configuration import Tenant, integration
from gateway.domain.errors import Unavailable
from gateway.domain.ids import IntegrationKey, Kind, TenantId
from gateway.domain.secret import Secret
from gateway.telemetry import COUNTERS
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
    sent = json.loads(body)
    if not isinstance(sent, list) or not all(isinstance(one, dict) and "id" in one for one in sent):
        raise ValueError("not a list of updates")
    return [Update(str(one["id"]), one) for one in sent]


def calls(body: bytes, settings: Settings) -> Sequence[RequestedCall]:
    return [
        RequestedCall(id=str(one["id"]), phone=one["call"], user_id="7") for one in json.loads(body) if "call" in one
    ]


def orders(body: bytes, settings: Settings) -> Sequence[OrderNews]:
    return [OrderNews(order_id=str(one["id"]), status=one["moved"]) for one in json.loads(body) if "moved" in one]


def jobs(body: bytes, settings: Settings) -> Sequence[str]:
    return [one["job"] for one in json.loads(body) if "job" in one]


class PigeonApp(AppCredentials):
    app_secret: AppSecret


def verify_shared(call: WebhookCall, app: PigeonApp) -> Reply | None:
    return None if call.headers.get("x-word") == app.app_secret.reveal() else Reply(403)


def accounts(body: bytes) -> Mapping[str, bytes]:
    return {account: json.dumps(part).encode() for account, part in dict(json.loads(body)).items()}


PIGEON = Adapter(
    kind=Kind("pigeon"), title="Pigeon", type="channel", settings=Settings, connect=lambda link, settings: NotImplemented, hook_id_field="hook_id",
    inbound=Inbound(verify=verify, read=read, calls=calls, orders=orders, jobs=jobs, accepts=lambda s: s.webhooks, accepted=Reply(200, b"ok"),
                    answered=lambda updates, s: Reply(200, b"hi") if any("opened" in one.body for one in updates) else None,
                    shared=SharedHook(verify=verify_shared, accounts=accounts)), app=App("pigeon", PigeonApp),
)  # fmt: skip


@dataclass
class Here:
    """A gateway that notes what it stored."""

    settings: dict[str, Any] = field(default_factory=lambda: {"word": "coo"})
    enabled: bool = True
    away: bool = False
    app: bool = True
    placed: list[tuple[IntegrationKey, str]] = field(default_factory=list)
    stored: list[tuple[TenantId, IntegrationKey, str, Stream]] = field(default_factory=list)

    def by_hook(self, kind: Kind, hashed: bytes) -> tuple[Tenant, IntegrationKey] | None:
        if (kind, hashed) != ("pigeon", hashlib.sha256(HOOK.encode()).digest()):
            return None
        links: Mapping[IntegrationKey, Any] = {KEY: integration(KEY, self.settings, enabled=self.enabled)}
        tenant = Tenant(JUNE, "June", ZoneInfo("UTC"), "BY", "ru", integrations=MappingProxyType(links))
        return tenant, KEY

    def by_account(self, kind: Kind, account: str) -> tuple[Tenant, IntegrationKey] | None:
        return self.by_hook(kind, hashlib.sha256(HOOK.encode()).digest()) if account == "70-1" else None

    async def store(self, tenant: TenantId, key: IntegrationKey, updates: Sequence[Update], stream: Stream) -> None:
        await trio.lowlevel.checkpoint()
        if self.away:
            raise Unavailable("away")
        self.stored += [(tenant, key, one.id, stream) for one in updates]

    async def place(self, tenant: Tenant, key: IntegrationKey, requested: Sequence[RequestedCall]) -> None:
        if self.away:
            raise Unavailable("away")
        self.placed += [(key, one.phone) for one in requested]

    async def moved(self, tenant: Tenant, key: IntegrationKey, news: Sequence[OrderNews]) -> None:
        if self.away:
            raise Unavailable("away")
        self.placed += [(key, f"{one.order_id} {one.status}") for one in news]

    async def hastened(self, tenant: Tenant, key: IntegrationKey, names: Sequence[str]) -> None:
        self.placed += [(key, name) for name in names]

    def deps(self) -> HookDeps:
        """What the addresses ask."""
        return HookDeps(
            by_hook=self.by_hook, store=self.store, call=self.place, orders=self.moved, hasten=self.hastened, by_account=self.by_account,
            app=lambda adapter: PigeonApp(app_secret="of-the-app") if self.app else None,
        )  # fmt: skip

    async def call(self, path: str = f"/hooks/pigeon/{HOOK}", body: Any = (), method: str = "POST", word: str | None = "coo",
                   query: Mapping[str, str] | None = None) -> Response:  # fmt: skip
        table = Table(hook_addresses(self.deps(), {PIGEON.kind: PIGEON}))
        found = table.find(method, path)
        assert not isinstance(found, Response), found
        address, params = found
        assert address.body_limit == HOOK_LIMIT
        assert address.intake
        raw = body if isinstance(body, bytes) else json.dumps(body if isinstance(body, dict) else list(body)).encode()
        headers = {"x-word": word} if word is not None else {}
        return await answer(
            address, Request(method=method, path=path, params=params, query=query or {}, headers=headers, body=raw)
        )


async def test_updates_are_stored_before_the_answer() -> None:
    here = Here()
    reply = await here.call(body=[{"id": 1}, {"id": 2}])
    assert (reply.status, reply.body) == (200, b"ok")
    assert here.stored == [(JUNE, KEY, "1", "chats"), (JUNE, KEY, "2", "chats")]
    assert (await here.call(body=[{"id": 4, "opened": True}])).body == b"hi"
    here.away = True
    assert (await here.call(body=[{"id": 3}])).status == 503
    assert (await here.call(body=[{"id": 5, "opened": True}])).body != b"hi"


async def test_a_requested_call_is_placed_for_who_is_genuine() -> None:
    here, body = Here(), [{"id": 1}, {"id": 2, "call": "+375291112233"}]
    assert (await here.call(body=body)).status == 200
    assert here.placed == [(KEY, "+375291112233")]
    assert (await here.call(body=body, word="another")).status == 403
    assert (await here.call(body=[{"id": 3}])).status == 200
    assert len(here.placed) == 1
    here.away = True
    assert (await here.call(body=body)).status == 503


async def test_orders_are_moved_and_jobs_made_due_for_who_is_genuine() -> None:
    here, body = Here(), [{"id": 7, "moved": "done"}, {"id": 8, "job": "menu"}]
    assert (await here.call(body=body, word="another")).status == 403
    assert not here.placed
    assert (await here.call(body=body)).status == 200
    assert here.placed == [(KEY, "7 done"), (KEY, "menu")]
    here.away = True
    assert (await here.call(body=body)).status == 503


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


# One address for all accounts of the installation's application.


async def shared(here: Here, body: Any, word: str = "of-the-app", path: str = "/hooks/pigeon") -> int:
    return (await here.call(path, body=body, word=word)).status


async def test_each_account_s_part_is_led_to_its_integration() -> None:
    here, unknown = Here(), COUNTERS["hooks_unknown"]
    assert await shared(here, {"70-2": [{"id": 1}], "70-1": [{"id": 2}]}) == 200
    assert here.stored == [(JUNE, KEY, "2", "chats")]
    assert COUNTERS["hooks_unknown"] == unknown + 1


async def test_a_shared_webhook_that_is_not_the_application_s_is_refused() -> None:
    here = Here()
    assert (await shared(here, {"70-1": [{"id": 2}]}, "coo"), here.stored) == (403, [])


@pytest.mark.parametrize("path", ["/hooks/pigeon", "/hooks/nobody"])
async def test_without_an_application_there_is_no_shared_address(path: str) -> None:
    assert await shared(Here(app=False), {}, path=path) == 404


async def test_what_cannot_be_stored_is_sent_again() -> None:
    assert await shared(Here(away=True), {"70-1": [{"id": 2}]}) == 503
    assert await shared(Here(settings={}), {"70-1": [{"id": 2}]}) == 503


async def test_one_account_s_nonsense_holds_nobody_else_up() -> None:
    here = Here()
    assert await shared(here, {"70-1": [{"no": "id"}, 7]}) == 200
    assert here.stored == []
    assert await shared(here, b"[") == 422


async def test_a_part_of_an_integration_that_is_switched_off_is_dropped() -> None:
    here = Here(enabled=False)
    assert (await shared(here, {"70-1": [{"id": 2}]}), here.stored) == (200, [])
