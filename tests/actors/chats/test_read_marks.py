"""What was read is shown to the client once, by messengers that can: stored with the change, in a lane of its own."""

import json
from dataclasses import replace
from typing import Any

import pytest

from adapters.base import Attempt
from gateway.domain.subjects import Subject
from gateway.store.outbox import Claim, claim_deliveries
from tests.actors.chats.pigeons import ADAPTER, KEY, KIND, update, wrote
from tests.actors.chats.test_conversations import ANNA, JUNE, Here, company, db, dsn, here, postgres

__all__ = ["db", "dsn", "here", "postgres"]


class Pigeon:
    """A client that shows what was read."""

    async def mark_read(self, address: str, provider_id: str, attempt: Attempt | None = None) -> None:
        """Never called here."""


async def waiting(here: Here) -> list[Claim]:
    found: list[Claim] = await here.db.engine(claim_deliveries, JUNE, KEY, 20, 30.0, [], [], None)
    return [one for one in found if one.kind == "read"]


@pytest.fixture
def shows(here: Here) -> Here:
    here.conversing = replace(here.conversing, adapters=lambda: {KIND: replace(ADAPTER, client=Pigeon)})
    return here


async def chat_of(here: Here, *texts: str) -> Any:
    await here.receives(*(update(number, wrote(number, text)) for number, text in enumerate(texts, 1)))
    (one,) = await here.seen()
    return one.conversation.id


async def test_looking_shows_it_once_up_to_the_last_message(shows: Here) -> None:
    chat = await chat_of(shows, "first", "second")
    for _ in range(2):
        await shows.conversing.mark_read(company(), chat)
    (made,) = await waiting(shows)
    assert json.loads(made.body) == {"to": "7", "message": "2"}
    assert (made.lane, made.subject) == (f"read {chat}", Subject("chat", str(chat)))
    assert shows.woken == [KEY]


async def test_an_answer_shows_it_too(shows: Here) -> None:
    chat = await chat_of(shows, "first")
    await shows.conversing.send(company(), chat, author=ANNA, text="hi")
    await shows.conversing.send(company(), chat, author=ANNA, text="there")
    assert len(await waiting(shows)) == 1


async def test_other_messengers_are_asked_nothing(here: Here) -> None:
    chat = await chat_of(here, "first")
    await here.conversing.mark_read(company(), chat)
    await here.conversing.send(company(), chat, author=ANNA, text="hi")
    assert await waiting(here) == []
