"""Two companies with a widget each, on a real PostgreSQL: requests as browsers send them, the actors of chats running."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, cast
from zoneinfo import ZoneInfo

import trio

from actors.chats.conversing import Conversing, Sent
from actors.chats.inbox import Inbox
from actors.chats.tenant_chats import Reads, TenantChats
from actors.chats.typing import Typing
from actors.feed import Feed
from actors.runtime.directory import Slot
from actors.services import CHATS, Doorbells
from adapters.registry import adapters
from adapters.unique_settings import account_digest
from gateway.domain.configuration import Connector, Tenant
from gateway.domain.errors import Unavailable
from gateway.domain.ids import IntegrationKey, Kind, TenantId
from gateway.domain.limiter import Rate
from gateway.domain.secret import Secret
from gateway.domain.shards import shard_of
from gateway.domain.subjects import Subject
from gateway.store import messages
from gateway.store.files.chat_files import ChatFiles
from gateway.store.journal import PostRow, insert_posts
from gateway.store.outbox import Ack, Outcome, claim_deliveries, finish_and_claim
from gateway.store.postgres.pool import Connection, Database
from gateway.store.visitors import select_place
from gateway.web.http.routes import Request, Response, Table, answer
from gateway.web.widget.deps import WidgetDeps
from gateway.web.widget.table import widget_addresses
from gateway.web.widget.visitors import identity_hash

JUNE, MAPLE = TenantId("0367"), TenantId("0368")
(WIDGET,) = [kind for kind, adapter in adapters().items() if adapter.widget is not None]
KEY = IntegrationKey(WIDGET)
KEYS = {JUNE: "june-widget-key-01", MAPLE: "maple-widget-key-1"}
SECRET = "identity-secret-0123456789abcdef"
PUBLIC_URL, SHOP = "https://gateway.example", "https://shop.example"
ANNA = "human:7c9e6679-7425-40de-944b-e07fc1f90ae7"


def company(number: TenantId, **settings: Any) -> Tenant:
    """A company whose widget has these settings."""
    values = {
        "allowed_domains": "shop.example, *.june.example", "widget_key": KEYS[number], "identity_secret": Secret(SECRET),
        "hook_id": Secret(f"token-secret-of-{number}-0123456789"), **settings,
    }  # fmt: skip
    links = {KEY: Connector(KEY, WIDGET, MappingProxyType(values))}
    return Tenant(number, "June", ZoneInfo("UTC"), "BY", "ru", integrations=MappingProxyType(links))


@dataclass
class Here:
    """The addresses over a database."""

    db: Database
    tenants: dict[TenantId, Tenant] = field(default_factory=lambda: {one: company(one) for one in KEYS})
    bells: Doorbells = field(default_factory=Doorbells)
    marks: list[str] = field(default_factory=list)
    away: bool = False
    now: datetime | None = None
    public_url: str = PUBLIC_URL
    chat_files: ChatFiles | None = None

    def __post_init__(self) -> None:
        self.feed = Feed()
        self.typing = Typing(self.feed, self.marks.append)
        self.deps = WidgetDeps(
            db=self.db, feed=self.feed, typing=self.typing, adapters=adapters(), by_account=self._by_account, store=self.inbox.store,
            public_url=self.public_url, chat_files=self.chat_files, now=lambda: self.now or datetime.now(UTC),
        )  # fmt: skip
        self.table = Table(widget_addresses(self.deps))
        self.conversing = Conversing(db=self.db, feed=self.feed, wake=lambda number, key: None)

    def limited(self, per_address: Rate) -> None:
        """The same with another rate."""
        self.deps = replace(self.deps, per_address=per_address)
        self.table = Table(widget_addresses(self.deps))

    @property
    def inbox(self) -> Inbox:
        """The way into the journal."""

        async def put(row: PostRow) -> bool:
            if self.away:
                raise Unavailable("away")
            return (await self.db.engine(insert_posts, [row]))[0]

        return Inbox(put, lambda tenant: self.bells.ring(tenant, CHATS))

    def _by_account(self, kind: Kind, key: str) -> tuple[Tenant, IntegrationKey] | None:
        digest = account_digest(kind, key)
        for tenant in self.tenants.values():
            if account_digest(WIDGET, str(tenant.integrations[KEY].settings["widget_key"])) == digest:
                return tenant, KEY
        return None

    # As a browser.

    async def raw(
        self, method: str, path: str, body: Any = None, *, of: TenantId = JUNE, token: str = "", origin: str | None = PUBLIC_URL,
        query: Mapping[str, str] | None = None, **headers: str,
    ) -> Response:  # fmt: skip
        """The answer to a request."""
        address = self.table.find(method, f"/widget/{KEYS[of]}{path}" if not path.startswith("/widget") else path)
        assert not isinstance(address, Response), address
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        sent |= {"host": "gateway.example"} | ({"origin": origin} if origin is not None else {})
        sent |= {"authorization": f"Bearer {token}"} if token else {}
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        assert len(raw) <= address[0].body_limit
        request = Request(
            method=method, path=path, params=address[1], query=query or {}, headers=sent, body=raw, peer="203.0.113.7"
        )  # fmt: skip
        return await answer(address[0], request)

    async def ask(self, method: str, path: str, body: Any = None, **more: Any) -> tuple[int, Any]:
        """Its status and JSON."""
        found = await self.raw(method, path, body, **more)
        return found.status, json.loads(found.body) if found.body else None

    async def visitor(self, of: TenantId = JUNE, **identity: Any) -> str:
        """A fresh visitor's token."""
        status, found = await self.ask("POST", "/session", {"identity": identity} if identity else {}, of=of)
        assert status == 200, found
        return str(found["token"])

    async def write(self, token: str, text: str, client_id: str, **more: Any) -> int:
        """A visitor writes."""
        of = more.pop("of", JUNE)
        status, _ = await self.ask(
            "POST", "/messages", {"client_id": client_id, "text": text, **more}, token=token, of=of
        )
        return status

    async def history(self, token: str, of: TenantId = JUNE, **query: str) -> list[dict[str, Any]]:
        """What a visitor is shown."""
        status, found = await self.ask("GET", "/messages", token=token, of=of, origin=None, query=query)
        assert status == 200, found
        return list(found["items"])

    async def shown(self, token: str, count: int, of: TenantId = JUNE) -> list[dict[str, Any]]:
        """The same, once there are so many."""
        with trio.fail_after(10):
            while len(found := await self.history(token, of)) < count:
                await trio.sleep(0.01)
        assert len(found) == count
        return found

    # As the company.

    async def place(self, address: str) -> Any:
        """The conversation at an address."""
        return await self.db.tenant(JUNE, select_place, JUNE, KEY, address)

    async def answers(self, conversation: Any, text: str, author: str = ANNA) -> Sent:
        """Somebody of the company writes; the delivery is done."""
        sent = await self.conversing.send(self.tenants[JUNE], conversation, author=author, text=text)
        (claim,) = await self.db.engine(claim_deliveries, JUNE, KEY, 10, 30.0)
        done = Outcome(state="done", status="delivered", external_id=claim.key)
        await self.db.engine(finish_and_claim, [Ack(claim, done)], 30.0)
        self.feed.publish(JUNE, Subject("chat", str(conversation)))
        return sent

    async def statuses(self, conversation: Any) -> list[str | None]:
        """Of the company's messages."""
        found = await self.db.tenant(JUNE, messages.select_messages, JUNE, conversation, 100)
        return [one.status for one in found if one.direction == "out"]


async def _fill(conn: Connection) -> None:
    for number in KEYS:
        await conn.execute(
            "INSERT INTO tenants (tenant_id, name, timezone, country, language, data_key) VALUES ($1, 'June', 'UTC', 'BY', 'ru', 'a:b:c')",
            number,
        )


async def _own(conn: Connection) -> None:
    for number in KEYS:
        await conn.execute("UPDATE shards SET epoch = 3 WHERE shard = $1", shard_of(number))


@asynccontextmanager
async def open_here(db: Database, here: Here | None = None) -> AsyncIterator[Here]:
    """The companies, with the actors of their chats running; `here` where they are in the database already."""
    if here is None:
        await db.engine(_fill)
        here = Here(db)
    await db.engine(_own)
    services = cast(Any, type("S", (), {"db": db, "bells": here.bells, "feed": here.feed}))
    adapter = adapters()[WIDGET]
    async with trio.open_nursery() as nursery:
        for number, tenant in here.tenants.items():
            settings = adapter.settings.model_validate(dict(tenant.integrations[KEY].settings))
            actor = TenantChats(tenant, services, 3, {KEY: Reads(adapter.chat, settings)})
            nursery.start_soon(actor.run, Slot(f"tenant/{number}/chats"))
        yield here
        nursery.cancel_scope.cancel()


def vouched(ident: str, secret: str = SECRET, **more: str) -> dict[str, Any]:
    """An identity as the company's server signs it."""
    return {"id": ident, "hash": identity_hash(Secret(secret), ident), **more}
