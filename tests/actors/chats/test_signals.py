"""What a client's messenger shows of us: at once, not too often, through the messenger that can, and never a reason to stop."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
import trio

from actors.chats import signals
from actors.chats.signals import AGAIN_S, MOST_WAITING, Signals
from actors.chats.typing import Typing
from actors.delivery.clients import Clients
from actors.feed import Feed
from actors.runtime.directory import Slot
from gateway.domain.chats import Conversation
from gateway.domain.errors import Rejected, Unavailable
from gateway.domain.ids import IntegrationKey, TenantId
from gateway.store import conversations, messages
from gateway.telemetry import COUNTERS

JUNE, KEY = TenantId("0367"), IntegrationKey("vk")
PATH = f"tenant/{JUNE}/integration/{KEY}"
CHAT = uuid4()


@dataclass
class Both:
    """A client that shows both."""

    shown: list[tuple[str, ...]] = field(default_factory=list)
    fails: Exception | None = None
    hangs: bool = False

    async def typing(self, address: str, provider_id: str = "") -> None:
        await self._show("typing", address, provider_id)

    async def mark_read(self, address: str, provider_id: str) -> None:
        await self._show("read", address, provider_id)

    async def _show(self, *what: str) -> None:
        await trio.lowlevel.checkpoint()
        if self.hangs:
            await trio.sleep_forever()
        if self.fails is not None:
            raise self.fails
        self.shown.append(what)


class Neither:
    """A client that shows nothing."""


@dataclass
class Here:
    """The actor over a conversation in memory."""

    monkeypatch: pytest.MonkeyPatch
    clients: Clients = field(default_factory=Clients)
    now: float = 100.0
    marks: list[str] = field(default_factory=list)
    said: list[Any] = field(default_factory=lambda: [
        SimpleNamespace(direction="in", provider_id="11"), SimpleNamespace(direction="in", provider_id="12"),
        SimpleNamespace(direction="out", provider_id="13"),
    ])  # fmt: skip
    blocked: Any = None
    reads: int = 0

    def __post_init__(self) -> None:
        tenant = SimpleNamespace(number=JUNE, integrations={KEY: None})
        cache: Any = SimpleNamespace(tenant=lambda number: tenant if number == JUNE else None)
        db: Any = SimpleNamespace(tenant=self._read)
        self.signals = Signals(db, cache, self.clients, self.marks.append, lambda: self.now)
        self.typing = Typing(Feed(), noted=self.signals.wrote, clock=lambda: self.now)

    async def _read(self, number: TenantId, work: Any, *given: Any) -> Any:
        self.reads += 1
        if work is conversations.select_conversation:
            found = Conversation(id=CHAT, integration=KEY, address="2", contact=uuid4(), blocked_at=self.blocked)
            return SimpleNamespace(conversation=found) if given[1] == CHAT else None
        self.monkeypatch.setattr(messages, "select_messages", self._messages)
        return await work(None, *given)

    async def _messages(self, conn: object, number: TenantId, chat: UUID, most: int, before: int) -> list[Any]:
        return self.said[-most:]

    @asynccontextmanager
    async def running(self, client: object) -> AsyncIterator[None]:
        with self.clients.lend(PATH, client):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.signals.run, Slot("system/chat-signals"))
                yield
                await self.settled()
                nursery.cancel_scope.cancel()

    async def settled(self) -> None:
        await trio.testing.wait_all_tasks_blocked()


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Here:
    return Here(monkeypatch)


async def test_typing_is_shown_at_once_and_again_only_after_a_while(here: Here) -> None:
    client = Both()
    async with here.running(client):
        for _ in range(5):
            here.typing.wrote(JUNE, CHAT, "human:anna")
        await here.settled()
        assert client.shown == [("typing", "2", "12")]
        here.now += AGAIN_S
        here.typing.wrote(JUNE, CHAT, "human:anna")
    assert len(client.shown) == 2


async def test_what_the_client_types_is_not_shown_to_them(here: Here) -> None:
    client = Both()
    async with here.running(client):
        here.typing.wrote(JUNE, CHAT, "client")
    assert client.shown == []


async def test_the_last_message_of_the_client_is_marked(here: Here) -> None:
    client = Both()
    async with here.running(client):
        here.signals.looked(JUNE, CHAT)
        here.signals.looked(JUNE, CHAT)
        await here.settled()
        here.said = []
        here.signals.looked(JUNE, CHAT)
    assert client.shown == [("read", "2", "12")], (
        "twice before it was shown is once; without a message there is nothing to mark"
    )
    assert here.marks == [f"{JUNE} {CHAT}"] * 3


async def test_the_instance_that_serves_the_company_shows_it(here: Here) -> None:
    client = Both()
    async with here.running(client):
        here.signals.received([f"{JUNE} {CHAT}", "nonsense", f"{JUNE} nonsense", f"0999 {CHAT}", f"{JUNE} {uuid4()}"])
        here.typing.received([f"{JUNE} {CHAT} human:anna"])
    assert sorted(one[0] for one in client.shown) == ["read", "typing"]
    assert here.marks == [], "what another instance said is not said again"


async def test_a_messenger_that_shows_nothing_is_not_looked_up(here: Here) -> None:
    async with here.running(Neither()):
        here.typing.wrote(JUNE, CHAT, "human:anna")
        here.signals.looked(JUNE, CHAT)
    assert here.reads == 0


async def test_a_client_who_blocked_us_is_left_alone(here: Here) -> None:
    client, here.blocked = Both(), object()
    async with here.running(client):
        here.signals.looked(JUNE, CHAT)
    assert client.shown == []


@pytest.mark.parametrize("failure", [Unavailable("away"), Rejected("no")])
async def test_what_a_messenger_refuses_is_dropped_and_counted(here: Here, failure: Exception) -> None:
    client, before = Both(fails=failure), COUNTERS["chat_signals_dropped"]
    async with here.running(client):
        here.signals.looked(JUNE, CHAT)
        await here.settled()
        client.fails = None
        here.signals.looked(JUNE, CHAT)
    assert len(client.shown) == 1
    assert COUNTERS["chat_signals_dropped"] == before + 1


async def test_a_fault_of_one_adapter_ends_no_other_signal(here: Here, expected_errors: None) -> None:
    client = Both(fails=KeyError("a bug"))
    async with here.running(client):
        here.signals.looked(JUNE, CHAT)
        await here.settled()
        client.fails = None
        here.signals.looked(JUNE, CHAT)
    assert len(client.shown) == 1


async def test_one_that_hangs_holds_up_nobody(here: Here, autojump_clock: trio.testing.MockClock) -> None:
    client = Both(hangs=True)
    async with here.running(client):
        for _ in range(3 * signals.AT_ONCE):
            here.signals.received([f"{JUNE} {CHAT}"])
            await here.settled()
        await trio.sleep(2 * signals.WITHIN_S)
        client.hangs = False
        here.signals.looked(JUNE, CHAT)
    assert client.shown[-1] == ("read", "2", "12")


def test_no_more_wait_than_there_is_room_for(here: Here) -> None:
    for _ in range(MOST_WAITING + 50):
        here.signals.looked(JUNE, uuid4())
        here.signals.wrote(JUNE, uuid4(), "human:anna")
    assert len(here.signals._waiting) == MOST_WAITING
    assert len(here.signals._shown) <= MOST_WAITING
