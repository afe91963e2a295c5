"""Who writes is shown by the messenger of the conversation, now and then, by the instance that has its client."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
import trio

from actors.chats.shown_typing import EVERY_S, ShownTyping
from actors.chats.typing import Typing
from actors.delivery.clients import Clients
from actors.feed import Feed
from actors.runtime.directory import Slot
from gateway.domain.errors import Unavailable
from tests.actors.chats.pigeons import KEY, update, wrote
from tests.actors.chats.test_conversations import ANNA, JUNE, Here, db, dsn, here, postgres

__all__ = ["db", "dsn", "here", "postgres"]


@dataclass
class Messenger:
    """A client that shows it."""

    shown: list[tuple[str, str]] = field(default_factory=list)
    away: bool = False
    asked: int = 0

    async def typing(self, address: str, provider_id: str = "") -> None:
        """Remembers for whom."""
        await trio.lowlevel.checkpoint()
        self.asked += 1
        if self.away:
            raise Unavailable("away")
        self.shown.append((address, provider_id))


@dataclass
class Shows:
    """A conversation, and who may write in it."""

    typing: Typing
    shown: ShownTyping
    messenger: Messenger
    chat: UUID
    now: list[float]

    async def until(self, count: int) -> list[tuple[str, str]]:
        """What the messenger has shown, once it is so much."""
        with trio.fail_after(5):
            while len(self.messenger.shown) < count:
                await trio.sleep(0.01)
        return self.messenger.shown


@pytest.fixture
async def shows(here: Here, nursery: trio.Nursery) -> AsyncIterator[Shows]:
    await here.receives(update(1, wrote(1)), update(2, wrote(2)))
    (one,) = await here.seen()
    clients, messenger, now = Clients(), Messenger(), [100.0]
    owned = SimpleNamespace(epoch_of=lambda number: 3 if number == JUNE else None)
    services: Any = SimpleNamespace(db=here.db, clients=clients, ownership=owned)
    shown = ShownTyping(services, lambda: now[0])
    nursery.start_soon(shown.run, Slot("typing"))
    with clients.lend(f"tenant/{JUNE}/integration/{KEY}", messenger):
        yield Shows(Typing(Feed(lambda text: None), shown=shown.noted), shown, messenger, one.conversation.id, now)


async def test_the_messenger_is_asked_now_and_then(shows: Shows) -> None:
    for _ in range(3):
        shows.typing.wrote(JUNE, shows.chat, ANNA)
    assert await shows.until(1) == [("7", "2")]
    shows.now[0] += EVERY_S
    shows.typing.received([f"{JUNE} {shows.chat} {ANNA}"])
    assert await shows.until(2) == [("7", "2")] * 2


async def test_the_client_s_own_typing_and_other_conversations_ask_nobody(shows: Shows) -> None:
    shows.typing.wrote(JUNE, shows.chat, "client")
    shows.typing.wrote(JUNE, UUID(int=7), ANNA)
    shows.shown.noted(type(JUNE)("0999"), shows.chat)
    shows.typing.wrote(JUNE, shows.chat, ANNA)
    assert await shows.until(1) == [("7", "2")]


async def test_a_messenger_that_is_away_ends_nothing(shows: Shows) -> None:
    shows.messenger.away = True
    shows.typing.wrote(JUNE, shows.chat, ANNA)
    with trio.fail_after(5):
        while not shows.messenger.asked:
            await trio.sleep(0.01)
    shows.messenger.away = False
    shows.now[0] += EVERY_S
    shows.typing.wrote(JUNE, shows.chat, ANNA)
    assert await shows.until(1) == [("7", "2")]
