"""Whoever comes in between: never two answers to one message, never an answer over a person, and nothing lost with an instance."""

import random
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from uuid import UUID, uuid4

import pytest
import trio

from actors.ai import answering
from actors.ai.answering import Answers
from actors.ai.calling import Dropped
from actors.ai.handing_over import HandingOver
from actors.runtime.directory import Slot
from adapters.llm.protocol import Question, Said
from gateway.domain.chats import Conversation, NewMessage
from gateway.store import contacts, conversations, messages
from gateway.store.ai_work import Waiting, select_waiting
from gateway.store.postgres.pool import Connection, Database
from tests.actors.ai.shop import ANNA, JUNE, LEAVE_TASK, Shop, open_shop
from tests.actors.chats.pigeons import KEY
from tests.sandbox.llm import LanguageModel, Step, called, said
from tests.store.database import db, dsn, postgres

__all__ = ["db", "dsn", "postgres"]


@pytest.fixture
async def model(nursery: trio.Nursery) -> AsyncIterator[LanguageModel]:
    made = LanguageModel()
    await nursery.start(made.serve)
    yield made
    nursery.cancel_scope.cancel()


@pytest.fixture
async def shop(db: Database, model: LanguageModel) -> Shop:
    return await open_shop(db, model)


async def test_a_company_that_is_handed_over_in_the_middle_of_an_answer(
    shop: Shop, model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answering, "tools_of", lambda tenant, settings: {"leave_task": LEAVE_TASK})
    request = {"text": "Перезвонить завтра"}
    model.script = [
        called(("leave_task", request)),
        Step(text="Уже почти ответил", stall=True),
        said("Передала, вам перезвонят."),
    ]
    async with shop.open():
        await shop.writes("перезвоните завтра")
        await shop.until(lambda: len(model.requests) == 2 and model.under_way)
    assert "ai" not in [author for author, _ in await shop.texts()]
    async with shop.open():  # another instance: it has nothing but the database
        assert (await shop.until_author("ai"))[-1] == ("ai", "Передала, вам перезвонят.")
    assert [one["role"] for one in model.requests[2]["messages"]] == ["system", "user", "assistant", "tool"]
    assert [one.text for one in await shop.beside() if one.kind == "request"] == [request["text"]]
    assert await shop.rows("SELECT state FROM ai_answers ORDER BY began_at") == [("dropped",), ("sent",)]


async def test_a_crash_leaves_nothing_undone(shop: Shop, model: LanguageModel) -> None:
    model.script = [Step(text="Уже почти ответил", stall=True)]
    async with trio.open_nursery() as nursery, shop.open():
        await shop.writes("Привет")
        await shop.until(lambda: model.under_way)
        nursery.cancel_scope.cancel()
        await trio.lowlevel.checkpoint()
    async with shop.open():
        await shop.until_author("ai")
    assert [author for author, _ in await shop.texts()] == ["client", "ai"]


async def test_the_next_life_of_an_actor_takes_up_what_the_last_one_left(shop: Shop, model: LanguageModel) -> None:
    model.script = [Step(text="Уже почти ответил", stall=True)]
    actor = shop.actor()
    async with shop.open(actor):
        await shop.writes("Привет")
        await shop.until(lambda: model.under_way)
    async with shop.open(actor):
        await shop.until_author("ai")
    assert [author for author, _ in await shop.texts()] == ["client", "ai"]


async def test_two_instances_at_once_answer_once(shop: Shop, model: LanguageModel, nursery: trio.Nursery) -> None:
    gate = trio.Event()
    model.reply = lambda body: said(f"Ответ {len(model.requests)}", before=gate.wait)
    async with shop.open():
        nursery.start_soon(shop.actor().run, Slot("tenant/0367/ai-too"))
        await shop.writes("Привет")
        await shop.until(lambda: model.under_way == 2)
        gate.set()
        await shop.until_author("ai")
        await shop.until(
            lambda: shop.rows("SELECT FROM ai_answers HAVING count(*) FILTER (WHERE state = 'dropped') = 1")
        )
        await shop.until(lambda: not model.under_way)
    assert [author for author, _ in await shop.texts()] == ["client", "ai"]
    nursery.cancel_scope.cancel()


@pytest.mark.slow
async def test_a_take_over_never_meets_an_answer(shop: Shop, model: LanguageModel) -> None:
    """A person takes each conversation at about the moment when its answer is queued."""
    races = 60
    model.reply = lambda body: said("Я отвечаю.", before=partial(trio.sleep, 0.04))

    async def race(n: int) -> None:
        address = str(n)
        await shop.writes(f"вопрос {n}.", address=address)
        chat = await shop.until(partial(shop.one, address))
        await shop.until(lambda: any(f"вопрос {n}." in str(body["messages"][-1]) for body in model.requests[-50:]))
        await trio.sleep(0.002 * (n % 30))
        await shop.conversing.send(shop.tenant, chat.id, author=ANNA, text="Я человек.")

    async with shop.open():
        for first in range(0, races, 4):
            async with trio.open_nursery() as racing:
                for n in range(first, first + 4):
                    racing.start_soon(race, n)
        await shop.until(lambda: not model.under_way)
    spoken = await shop.rows(
        "SELECT (SELECT min(seq) FROM messages p WHERE p.conversation_id = c.conversation_id AND p.author LIKE 'human:%'), "
        "(SELECT max(seq) FROM messages a WHERE a.conversation_id = c.conversation_id AND a.author = 'ai') FROM conversations c"
    )
    over = [(person, answer) for person, answer in spoken if answer is not None and answer > person]
    print(
        f"\n{races} races: the AI was first {sum(answer is not None for _, answer in spoken)} times; over a person {len(over)}"
    )
    assert over == []
    assert len(spoken) == races
    assert await shop.rows("SELECT FROM ai_answers WHERE state = 'begun'") == []


@dataclass
class Slow:
    """A model that answers after a while."""

    wait_s: float

    async def ask(self, question: Question, *, tries: int = 1, ended: bool = False) -> Said:
        await trio.sleep(self.wait_s)
        return Said(text="Я отвечаю.", model="slow", prompt_tokens=1, completion_tokens=1)


@pytest.mark.parametrize(
    "races", [pytest.param(40, marks=pytest.mark.slow), pytest.param(1000, marks=pytest.mark.long)]
)
async def test_of_a_thousand_races_none_has_an_answer_over_a_person(shop: Shop, races: int) -> None:
    """The same without actors and messenger: each answer meets somebody who writes at about the moment when it is queued."""
    chance = random.Random(races)
    limiter = trio.CapacityLimiter(8)
    handing = HandingOver(tenant=shop.tenant, settings=shop.settings, conversing=shop.conversing)

    async def begin(conn: Connection, n: int) -> UUID:
        person = await contacts.insert_contact(conn, JUNE, f"c{n}", (), ())
        made = Conversation(id=uuid4(), integration=KEY, address=str(n), contact=person, owner="ai")
        await conversations.insert_conversation(conn, JUNE, made)
        now = datetime.now(UTC)
        first = NewMessage(
            id=uuid4(), conversation=made.id, seq=1, direction="in", author="client", text="вопрос", at=now, status=None
        )
        await messages.insert_message(conn, JUNE, first, KEY, str(n), ())
        waiting = replace(made, last_seq=1, waiting_since=now, last_message_at=now)
        await conversations.update_conversation(conn, JUNE, waiting)
        return made.id

    async def answer(waiting: Waiting, wait_s: float) -> None:
        answers = Answers(
            tenant=shop.tenant, settings=shop.settings, services=shop.services(), model=Slow(wait_s), missing="", name="slow",
            handing=handing, now=lambda: datetime.now(UTC),
        )  # fmt: skip
        with suppress(Dropped):
            await answers.answer(waiting)

    async def race(n: int, spans: tuple[float, float]) -> None:
        async with limiter:
            chat = await shop.db.tenant(JUNE, begin, n)
            (waiting,) = await shop.db.tenant(JUNE, select_waiting, JUNE, [chat])
            async with trio.open_nursery() as both:
                both.start_soon(answer, waiting, spans[0])
                await trio.sleep(spans[1])
                await shop.conversing.send(shop.tenant, chat, author=ANNA, text="Я человек.")

    async with trio.open_nursery() as nursery:
        for n in range(races):
            nursery.start_soon(race, n, (chance.uniform(0, 0.01), 0.0 if n % 10 == 0 else chance.uniform(0, 0.15)))
    spoken = await shop.rows(
        "SELECT (SELECT min(seq) FROM messages p WHERE p.conversation_id = c.conversation_id AND p.author LIKE 'human:%'), "
        "(SELECT max(seq) FROM messages a WHERE a.conversation_id = c.conversation_id AND a.author = 'ai') FROM conversations c"
    )
    first = sum(answer is not None for _, answer in spoken)
    print(f"\n{races} races: the AI was first {first} times")
    assert len(spoken) == races
    assert [(person, answer) for person, answer in spoken if answer is not None and answer > person] == []
    assert first < races, "somebody who writes at once is first"
    assert await shop.rows("SELECT FROM ai_answers WHERE state = 'begun'") == []
