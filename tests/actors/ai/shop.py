"""A company whose AI answers, on a real PostgreSQL and the sandbox language model; clients write through the journal, as updates do."""

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import trio

from actors.ai.tenant_ai import TenantAi
from actors.ai.tool import Arguments, Bound, Outcome, Tool
from actors.chats.conversing import Conversing
from actors.chats.inbox import Inbox
from actors.chats.tenant_chats import Reads, TenantChats
from actors.feed import Feed
from actors.runtime.directory import Slot
from actors.services import CHATS, Doorbells
from adapters.base import Adapter, AdapterSettings
from adapters.inbound import Update
from adapters.llm.client import ModelSettings
from gateway.domain.ai import AiBlock, settings_of
from gateway.domain.catalog import Item
from gateway.domain.chats import Conversation
from gateway.domain.configuration import Connector, Tenant
from gateway.domain.ids import IntegrationKey, Kind, TenantId
from gateway.domain.profile import Profile
from gateway.domain.secret import Secret
from gateway.domain.shards import shard_of
from gateway.store import conversations, messages, prompts
from gateway.store.business_profiles import upsert_profile
from gateway.store.catalog_items import upsert_items
from gateway.store.conversations import Beside, Filters
from gateway.store.journal import PostRow, insert_posts
from gateway.store.messages import StoredMessage
from gateway.store.postgres.pool import Connection, Database
from tests.actors.chats.pigeons import ADAPTER, CHANNEL, KEY, KIND, NOON
from tests.sandbox.llm import KEY as LLM_KEY
from tests.sandbox.llm import MODEL, LanguageModel

JUNE, MAY = TenantId("0367"), TenantId("0368")
ANNA = "human:7c9e6679-7425-40de-944b-e07fc1f90ae7"
PROMPT = """# Роль
Ты оператор компании {{business_name}} и помогаешь клиентам выбирать пиццу.
# Правила
Никогда не обещай скидок больше десяти процентов!
# Каталог
{{catalog}}"""
ITEMS = (
    {"id": "margherita", "name": "Маргарита", "price": "12.50", "currency": "BYN", "category": "Пицца"},
    {"id": "pepperoni", "name": "Пепперони", "price": "15.00", "currency": "BYN", "category": "Пицца", "available": False},
)  # fmt: skip
BELL = Kind("bell")
BELL_ADAPTER = Adapter(
    kind=BELL, title="Bell", type="channel", settings=AdapterSettings, connect=ADAPTER.connect,
    notice=lambda place, text: {"chat": place, "text": text},
)  # fmt: skip
"""A messenger in which people hear of things."""


class Task(Arguments):
    """What is to be done."""

    text: str


async def _leave_task(conn: Connection, bound: Bound, arguments: Task) -> Outcome:
    return Outcome(value={"left": True}, note=arguments.text)


LEAVE_TASK = Tool(name="leave_task", description="Leaves a task.", arguments=Task, run=_leave_task, changes=True)
"""A tool whose effect can be counted: a note beside the conversation."""


@dataclass
class Shop:
    """One company, and what was announced of it."""

    db: Database
    model: LanguageModel
    options: dict[str, Any] = field(default_factory=dict)
    number: TenantId = JUNE
    bells: Doorbells = field(default_factory=Doorbells)
    changed: list[str] = field(default_factory=list)
    woken: list[IntegrationKey] = field(default_factory=list)
    slot: Slot = field(default_factory=lambda: Slot("tenant/0367/ai"))
    made: int = 0

    def __post_init__(self) -> None:
        self.feed = Feed(self.changed.append)
        self.conversing = Conversing(
            db=self.db, feed=self.feed, wake=lambda number, key: self.woken.append(key),
            adapters=lambda: {KIND: ADAPTER, BELL: BELL_ADAPTER},
        )  # fmt: skip

    @property
    def settings(self) -> AiBlock:
        """Of the AI: quick, and whatever `options` says."""
        return settings_of({"ai": {"enabled": True, "quiet_s": 0.02, **self.options}}, {})

    @property
    def tenant(self) -> Tenant:
        """The company."""
        links = {
            KEY: Connector(KEY, KIND, {}),
            IntegrationKey("bell"): Connector("bell", BELL, {"notify_chats": ["-100"]}),
        }
        return Tenant(self.number, "June", ZoneInfo("Europe/Minsk"), "BY", "ru", integrations=links)

    def services(self) -> Any:
        """What actors are given."""
        return SimpleNamespace(db=self.db, feed=self.feed, bells=self.bells, public_url="https://gateway.example")

    def actor(self, **more: Any) -> TenantAi:
        """The AI operator."""
        settings = ModelSettings(url=more.pop("url", self.model.url), key=Secret(LLM_KEY), model=MODEL)
        return TenantAi(self.tenant, self.settings, settings, self.services(), self.conversing, **more)

    @asynccontextmanager
    async def open(self, actor: TenantAi | None = None) -> AsyncIterator[None]:
        """The actors of chats and of the AI run."""
        async with trio.open_nursery() as nursery:
            chats = TenantChats(
                self.tenant, self.services(), 3, {KEY: Reads(CHANNEL, AdapterSettings())}, self.settings
            )
            nursery.start_soon(chats.run, Slot(f"tenant/{self.number}/chats"))
            nursery.start_soon((actor or self.actor()).run, self.slot)
            yield
            nursery.cancel_scope.cancel()

    async def receives(self, *events: Mapping[str, Any]) -> None:
        """Events of the messenger reach the journal (`tests/actors/chats/pigeons.py`)."""
        begin = (datetime.now(UTC) - NOON).total_seconds()

        async def put(row: PostRow) -> bool:
            return (await self.db.engine(insert_posts, [row]))[0]

        updates = []
        for one in events:
            self.made += 1
            given = {"address": "7", **one, "at": one.get("at", 0.0) + begin}
            updates.append(Update(f"u{self.made}", {"id": self.made, "events": [given]}))
        await Inbox(put, lambda number: self.bells.ring(number, CHATS)).store(self.number, KEY, updates, "chats")

    async def writes(self, text: str, address: str = "7", **more: Any) -> None:
        """The client writes."""
        self.made += 1
        await self.receives(
            {"event": "ClientWrote", "provider_id": f"p{self.made}", "text": text, "address": address, **more}
        )

    async def all(self) -> list[Conversation]:
        """The conversations."""
        found = await self.db.tenant(self.number, conversations.select_conversations, self.number, Filters(), 1000)
        return [one.conversation for one in found]

    async def one(self, address: str = "7") -> Conversation:
        """The conversation at an address."""
        return next(one for one in await self.all() if one.address == address)

    async def said(self, address: str = "7") -> list[StoredMessage]:
        """Its messages."""
        chat = await self.one(address)
        return await self.db.tenant(self.number, messages.select_messages, self.number, chat.id, 1000)

    async def texts(self, address: str = "7") -> list[tuple[str, str]]:
        """Authors and texts."""
        return [(one.author, one.text) for one in await self.said(address)]

    async def beside(self, address: str = "7") -> list[Beside]:
        """What stands beside the messages."""
        chat = await self.one(address)
        return await self.db.tenant(self.number, conversations.select_happenings, self.number, chat.id)

    async def until(self, condition: Callable[[], Any], within_s: float = 10.0) -> Any:
        """Waits for a condition, asynchronous or not; returns what it gave."""
        with trio.fail_after(within_s):
            while True:
                found = condition()
                if hasattr(found, "__await__"):
                    try:
                        found = await found
                    except StopIteration:
                        found = None
                    except RuntimeError:  # the conversation is not there yet
                        found = None
                if found:
                    return found
                await trio.sleep(0.01)

    async def until_author(self, author: str, address: str = "7", count: int = 1) -> list[tuple[str, str]]:
        """Waits until somebody has written so many messages; returns all."""

        async def there() -> list[tuple[str, str]] | None:
            found = await self.texts(address)
            return found if sum(one == author for one, _ in found) >= count else None

        found: list[tuple[str, str]] = await self.until(there)
        return found

    async def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Of the database, as the engine."""

        async def work(conn: Connection) -> list[tuple[Any, ...]]:
            return [tuple(row) for row in await conn.fetch(query, *values)]

        return await self.db.engine(work)


async def open_shop(db: Database, model: LanguageModel, number: TenantId = JUNE, prompt: str | None = PROMPT) -> Shop:
    """A company with its prompt, profile and catalog."""

    async def fill(conn: Connection) -> None:
        await conn.execute(
            "INSERT INTO tenants (tenant_id, name, timezone, country, language, data_key) VALUES ($1, 'June', 'Europe/Minsk', 'BY', 'ru', $2)",
            number, f"a:{number}:c",
        )  # fmt: skip
        await conn.execute("UPDATE shards SET epoch = 3 WHERE shard = $1", shard_of(number))
        profile = Profile(business_type="restaurant", phone="+375291112233", website="https://june.example")
        await upsert_profile(conn, number, profile)
        await upsert_items(conn, number, [Item.model_validate(one) for one in ITEMS])
        if prompt is not None:
            await prompts.upsert_prompt(conn, number, "main", "Основной", prompt, ())
            await prompts.insert_version(conn, number, "main", 1, prompt, (), "", "x")
            await prompts.set_active(conn, number, "main", 1)

    await db.engine(fill)
    return Shop(db, model, number=number)


def turns_of(body: Mapping[str, Any]) -> str:
    """A request as text, for what must or must not be in it."""
    return json.dumps(body, ensure_ascii=False)


def client_message(text: str) -> str:
    """A client's words as the model gets them."""
    return f'<data from="client">\n{text}\n</data>'
