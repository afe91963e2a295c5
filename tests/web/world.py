"""Two companies with people, calls and deliveries, for the tests of the admin UI and for its pictures."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import trio
from quart_trio import QuartTrio

from actors.ai.tenant_ai import model_of
from actors.chats.conversing import Conversing
from actors.chats.typing import Typing
from actors.crm.registration import Registrations
from actors.delivery.clients import Clients
from actors.feed import Feed
from actors.runtime.directory import Directory, Slot
from actors.runtime.mailbox import Mailbox
from adapters.base import Finding, Tested
from adapters.http import SafeDialer
from gateway.cache import ConfigurationCache
from gateway.domain.calls import Call, Phase, apply
from gateway.domain.configuration import Connector, Tenant
from gateway.domain.dialling import CallRefused
from gateway.domain.events import (
    CallAnswered,
    CallEnded,
    CallEvent,
    CallRinging,
    CallTransferred,
    Direction,
    HungUpBy,
    Result,
    to_json,
)
from gateway.domain.health import State
from gateway.domain.ids import CallId, IntegrationKey, TenantId
from gateway.domain.people import Role
from gateway.domain.secret import Secret
from gateway.domain.subjects import call_subject
from gateway.store import call_batches, outbox, users
from gateway.store.call_orders import Admitted
from gateway.store.files.blobs import FolderBlobs
from gateway.store.files.chat_files import ChatFiles
from gateway.store.integration_states import mark_tested
from gateway.store.postgres.pool import Connection, Database
from gateway.store.secrets.seal import new_data_key, new_master_key, parse_master_keys
from gateway.store.tenants import INTEGRATIONS, PBXES, LinkRow, TenantRow, upsert_link, upsert_phone, upsert_tenant
from gateway.store.user_extensions import replace_map
from gateway.web.app import Deps, create_app
from gateway.web.session.passwords import hash_password
from gateway.web.session.tokens import new_token

JUNE, MAPLE = TenantId("0367"), TenantId("0368")
PASSWORD = "a long password"
HASHED = hash_password(Secret(PASSWORD))
"""Made once: hashing is slow on purpose."""
PEOPLE = {
    JUNE: {"150": "Анна Кузьмина", "151": "Иван Петров", "152": "Ольга Мороз", "153": "Павел Сидорович"},
    MAPLE: {"201": "Alice Green", "202": "Bob Stone"},
}
SECRET_KEY = "key-that-nobody-may-see"


@dataclass
class World:
    """The app and what stands behind it."""

    app: QuartTrio
    deps: Deps
    cache: ConfigurationCache
    tested: list[tuple[TenantId, IntegrationKey]] = field(default_factory=list)
    restarted: list[str] = field(default_factory=list)
    placed: list[tuple[str, str, str, str]] = field(default_factory=list)
    woken: list[tuple[TenantId, IntegrationKey]] = field(default_factory=list)
    """Integrations that were told of something to deliver."""
    looked: list[UUID] = field(default_factory=list)
    """Conversations whose messages a client's messenger may show as read."""
    made: int = 0

    @property
    def db(self) -> Database:
        """The database beneath."""
        return self.deps.db

    @property
    def feed(self) -> Feed:
        """Where the actors would ring."""
        return self.deps.feed

    @property
    def directory(self) -> Directory:
        """What is said to be alive."""
        return self.deps.directory

    def app_with(self, **changes: Any) -> QuartTrio:
        """Another app over the same world."""
        return create_app(replace(self.deps, **changes))

    async def keep(self, tenant: TenantId, events: Sequence[CallEvent], drafts: Sequence[dict[str, Any]] = ()) -> Call:
        """Records a call as the tenant's actor does."""
        recording = call_batches.CallBatch(tenant)
        call: Call | None = None
        for event in events:
            call = apply(call, event)
            assert call is not None
            body = json.dumps(to_json(event), ensure_ascii=False)
            recording.events.append(
                call_batches.EventRow(call.call_id, call.events, to_json(event)["event"], event.at, body)
            )
        assert call is not None
        recording.calls[call.call_id] = ("main", call)
        for draft in drafts:
            recording.deliveries.append(
                outbox.DeliveryRow(
                    integration=draft["integration"], lane=call.call_id, key=f"{call.call_id}:{draft['kind']}",
                    kind=draft["kind"], bucket="", subject=call_subject(call.call_id), body="{}", latest_only=False, expires_s=None,
                    keep_s=3600.0,
                )
            )  # fmt: skip
        await self.db.engine(call_batches.record, [recording])
        return call

    async def deliver(self, tenant: TenantId, kind: str, outcome: outbox.Outcome) -> None:
        """Makes one attempt at the next delivery of an integration."""
        claims = await self.db.engine(outbox.claim_deliveries, tenant, IntegrationKey(kind), 1, 30.0)
        for claim in claims:
            await self.db.engine(outbox.finish_delivery, claim, outcome)

    def call_id(self) -> CallId:
        """A fresh id."""
        self.made += 1
        return CallId(f"1763690{self.made:03d}.{self.made}")

    async def person(self, tenant: TenantId, email: str, role: Role = Role.ADMIN, phones: Sequence[str] = ()) -> str:
        """Somebody of a company, with PASSWORD, and a session of theirs."""
        await self.db.engine(users.upsert_user, tenant, email, HASHED, role)
        await self.db.engine(users.describe_user, tenant, email, role, "", phones)
        return await self.session(tenant, email)

    async def session(
        self, tenant: TenantId | None, email: str | None = None, *, acting: TenantId | None = None
    ) -> str:
        """A cookie value of someone who has signed in, and whose CSRF token is `CSRF`. An operator may be `acting`."""
        text, token = new_token(tenant)
        who = email or ("operator@gateway.example" if tenant is None else f"admin@{tenant}.example")
        await self.db.engine(users.insert_session, tenant, token.token_hash, who, CSRF)
        if acting is not None:
            assert await self.db.engine(users.begin_acting, token.token_hash, acting, "a test", 3600.0)
        return text


CSRF = "c" * 43


def ringing(
    call_id: CallId, at: datetime, caller: str, called: str, extensions: Sequence[str], **more: Any
) -> CallRinging:
    """The first event of a call."""
    return CallRinging(
        call_id=call_id, at=at, direction=more.get("direction", Direction.INCOMING), caller=caller, called=called,
        trunk=more.get("trunk", "trunk-0001"), extensions=tuple(extensions),
    )  # fmt: skip


def ended(first: CallRinging, after_s: float, result: Result, extension: str | None = None, **more: Any) -> CallEnded:
    """The last event of a call."""
    talked = result is Result.ANSWERED
    return CallEnded(
        call_id=first.call_id, at=first.at + timedelta(seconds=after_s), direction=first.direction, caller=first.caller,
        called=first.called, trunk=first.trunk, extension=extension, last_extension=more.get("last", extension),
        rang=first.extensions, result=result, wait_s=more.get("wait_s", 4.0) if talked else None,
        talk_s=after_s - more.get("wait_s", 4.0) if talked else None, hung_up_by=more.get("by", HungUpBy.CALLER),
        queue=more.get("queue"), uncertain=more.get("uncertain", False),
    )  # fmt: skip


def answered(first: CallRinging, extension: str, wait_s: float = 4.0) -> CallAnswered:
    """The answer."""
    return CallAnswered(
        call_id=first.call_id, at=first.at + timedelta(seconds=wait_s), extension=extension, wait_s=wait_s
    )


async def _configure(
    conn: Connection, rows: Sequence[TenantRow], links: Sequence[tuple[TenantId, LinkRow, bool]]
) -> None:
    for row in rows:
        await upsert_tenant(conn, row)
        for number, owner in PEOPLE[row.tenant].items():
            await upsert_phone(conn, row.tenant, number, owner, [])
        await users.upsert_user(conn, row.tenant, f"admin@{row.tenant}.example", HASHED)
    await users.upsert_user(conn, None, "operator@gateway.example", HASHED)
    for tenant, link, is_pbx in links:
        await upsert_link(conn, PBXES if is_pbx else INTEGRATIONS, tenant, link)
        if not is_pbx:
            await replace_map(conn, tenant, IntegrationKey(link.name), {"19": "150"})
            await mark_tested(conn, tenant, IntegrationKey(link.name), passed=True)


def chat_files(db: Database, cache: ConfigurationCache, folder: Path) -> ChatFiles:
    """Files of chats below a folder, which must be there as soon as there is one."""
    return ChatFiles(db, FolderBlobs(folder / "recordings", trio.CapacityLimiter(4)), folder / "incoming", cache.sealer)


async def make_world(db: Database) -> World:
    """The app over two configured companies without calls."""
    master = parse_master_keys(new_master_key())
    rows, links = [], []
    for tenant, name, zone, country, language in (
        (JUNE, "June", "Europe/Minsk", "BY", "ru"),
        (MAPLE, "Maple <i>Ltd</i>", "Europe/London", "GB", "en"),
    ):
        key = master.wrap(tenant, new_data_key())
        sealer = master.sealer(tenant, key)
        rows.append(TenantRow(tenant, name, zone, country, language, tenant.encode() * 8, key, {}, 0, (), (), ()))
        pbx = {"host": "192.0.2.10", "username": "gateway", "trunks": ["trunk-0001"]}
        sealed = {"secret": sealer.seal(Secret(SECRET_KEY), table="pbxes", column="secret", row="main")}
        links.append((tenant, LinkRow("main", "asterisk", True, pbx, sealed), True))
        crm = {"domain": f"https://{tenant}.crm.example"}
        sealed = {
            name: sealer.seal(Secret(SECRET_KEY), table="integrations", column=name, row="retailcrm")
            for name in ("api_key", "client_id")
        }
        links.append((tenant, LinkRow("retailcrm", "retailcrm", True, crm, sealed), False))
    await db.engine(_configure, rows, links)
    cache = ConfigurationCache(db, master)
    await cache.load()
    tested: list[tuple[TenantId, IntegrationKey]] = []

    async def local_address(host: str, port: int) -> str | None:
        return "203.0.113.9"

    async def probe(tenant: TenantId, link: Connector, *, language: str = "") -> Tested:
        if "nowhere" in str(link.settings.get("domain")):
            return Tested(False, "unreachable", f"{link.settings['domain']} does not answer")
        if str(link.settings.get("host")) == "169.254.169.254":
            return Tested(False, "bad_settings", "169.254.169.254 is an address of this network")
        if link.kind != "asterisk":
            tested.append((tenant, link.key))
            return Tested(True, "ok", "The key is accepted; shops: <main>.")
        findings = (
            Finding(True, "login", "Asterisk Call Manager/11.0.0"),
            Finding(False, "may_originate", "write = originate"),
        )
        return Tested(True, "asterisk_ok", findings=findings)

    async def place(tenant: Tenant, *, extension: str, phone: str, asked_by: str) -> Admitted:
        world.placed.append((tenant.number, extension, phone, asked_by))
        if phone.startswith("+7"):
            raise CallRefused("not_allowed", "phone: only numbers of BY may be dialled")
        return Admitted("gw-1")

    feed, woken, looked = Feed(), list[tuple[TenantId, IntegrationKey]](), list[UUID]()
    deps = Deps(
        db=db, cache=cache, directory=Directory(), feed=feed, public_url="http://localhost:8000",
        secure_cookies=False, hash_limiter=trio.CapacityLimiter(2), probe=probe,
        place=place, master=master, local_address=local_address, login=_no_login, tokens=_no_tokens,
        modules=Registrations(db, cache, Clients(), SafeDialer(allowed_private_nets=["127.0.0.0/8"]), {}, "http://localhost:8000"),
        conversing=Conversing(
            db=db, feed=feed, wake=lambda number, key: woken.append((number, key)), typing=Typing(feed),
            looked=lambda number, conversation: looked.append(conversation),
        ),
        chat_files=chat_files(db, cache, Path(os.devnull)),
        models=partial(model_of, default=None, dial=SafeDialer(allowed_private_nets=["127.0.0.0/8"])),
    )  # fmt: skip
    world = World(create_app(deps), deps, cache, tested, woken=woken, looked=looked)
    _populate(world)
    return world


def _no_login(*_: Any) -> Any:
    raise AssertionError("no adapter of these tests has a login")


def _no_tokens(*_: Any) -> Any:
    raise AssertionError("no adapter of these tests has tokens")


def _populate(world: World) -> None:
    def slot(path: str, title: str, state: State, code: str = "", detail: str = "", **more: Any) -> None:
        made = Slot(path, title, mailbox=more.get("mailbox"), restarts=more.get("restarts", 0))
        made.figures = more.get("figures")
        made.restart = lambda: world.restarted.append(path)
        made.report(state, code, detail, more.get("next_try"))
        world.directory.add(made)

    soon = datetime.now(UTC) + timedelta(seconds=40)
    for name in ("database", "configuration", "journal", "outbox", "tenants"):
        slot(f"system/{name}", name, State.ONLINE)
    slot("tenant/0367", "June", State.ONLINE, mailbox=Mailbox[Any](1000))
    slot(
        "tenant/0367/pbx/main", "main", State.ONLINE, "asterisk_online", "Asterisk Call Manager/5.0.2",
        figures=lambda: {"last_event_at": datetime.now(UTC) - timedelta(seconds=2), "lag_s": 0.004, "gaps": 1},
    )  # fmt: skip
    slot(
        "tenant/0367/integration/retailcrm", "RetailCRM", State.DEGRADED, "not_exist_codes", "153", restarts=1,
        figures=lambda: {"in_flight": 0},
    )  # fmt: skip
    slot("tenant/0368", "Maple <i>Ltd</i>", State.ONLINE, mailbox=Mailbox[Any](1000))
    slot("tenant/0368/pbx/main", "main", State.OFFLINE, "unavailable", "192.0.2.10:5038: no answer", next_try=soon)
    slot(
        "tenant/0368/integration/retailcrm", "RetailCRM", State.ATTENTION, "bad_credentials", "403 Forbidden",
        next_try=soon,
    )  # fmt: skip


async def play(world: World, tenant: TenantId = JUNE, now: datetime | None = None) -> list[Call]:
    """A few calls of every sort: two that are open, and eight that have ended. The oldest comes first."""
    now = now or datetime.now(UTC)
    first, second, third, *_ = [*PEOPLE[tenant], *PEOPLE[tenant]]
    company, client = ("+375172000001", "+37529100200{}") if tenant == JUNE else ("+442079460001", "+44207946010{}")
    calls = []

    def starts(minutes: float) -> datetime:
        return now - timedelta(minutes=minutes)

    async def keep(*events: CallEvent, emit: bool = True) -> None:
        drafts = (
            [{"integration": IntegrationKey("retailcrm"), "kind": kind} for kind in ("call_event", "upload")]
            if emit
            else []
        )
        calls.append(await world.keep(tenant, events, drafts))

    a = ringing(world.call_id(), starts(1500), client.format(1), company, [first, second])
    await keep(a, ended(a, 21, Result.MISSED))
    a = ringing(world.call_id(), starts(50), client.format(2), company, [first])
    await keep(a, answered(a, first), ended(a, 83, Result.ANSWERED, first, by=HungUpBy.CALLEE))
    a = ringing(world.call_id(), starts(44), second, client.format(3), [], direction=Direction.OUTGOING)
    await keep(a, ended(a, 18, Result.NO_ANSWER, second))
    a = ringing(world.call_id(), starts(31), "anonymous", company, [first, second], trunk="trunk-0002")
    await keep(a, ended(a, 9, Result.BUSY))
    a = ringing(world.call_id(), starts(24), first, second, [second], direction=Direction.INTERNAL, trunk=None)
    await keep(a, answered(a, second, 2.0), ended(a, 3700, Result.ANSWERED, first, wait_s=2.0), emit=False)
    a = ringing(world.call_id(), starts(15), client.format(4), company, [first, second, third])
    moved = CallTransferred(
        call_id=a.call_id, at=a.at + timedelta(seconds=40), from_extension=first, to_extension=second
    )
    await keep(
        a, answered(a, first, 6.2), moved, ended(a, 195, Result.ANSWERED, first, last=second, wait_s=6.2, queue="sales")
    )
    a = ringing(world.call_id(), starts(12), client.format(5), company, [first])
    await keep(a, ended(a, 30, Result.MISSED, uncertain=True))
    a = ringing(world.call_id(), starts(5), third, client.format(6), [], direction=Direction.OUTGOING)
    await keep(a, ended(a, 3, Result.FAILED, third))
    a = ringing(world.call_id(), starts(1.2), client.format(7), company, [first])
    await keep(a, answered(a, first, 5.0))
    a = ringing(world.call_id(), starts(0.15), client.format(8), company, [second, third])
    await keep(a)
    assert calls[-1].phase is Phase.RINGING
    said: dict[str, Any] = {
        "request": 'POST /api/v5/telephony/call/event\n{"phone": "+375291002001", "clientId": "***"}'
    }
    done = outbox.Outcome(state="done", status="done", response='200 {"success": true}', duration_ms=84, **said)
    failed = outbox.Outcome(
        state="failed", status="failed", response='400 {"success": false, "errorMsg": "Wrong phone"}',
        error="400 Bad Request: Wrong phone", duration_ms=131, **said,
    )  # fmt: skip
    again = outbox.Outcome(
        state="pending", status="retry", error="503 Service Unavailable", again_s=0.0, duration_ms=2010, **said
    )
    for outcome in (done, done, again, done, failed, *[done] * 8):
        await world.deliver(tenant, "retailcrm", outcome)
    return calls
