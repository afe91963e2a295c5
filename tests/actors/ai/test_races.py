"""Whoever comes in between: never two answers to one message, never an answer over a person, and nothing lost with an instance."""

from collections.abc import AsyncIterator
from functools import partial

import pytest
import trio

from actors.ai import answering
from actors.runtime.directory import Slot
from gateway.store.postgres.pool import Database
from tests.actors.ai.shop import ANNA, LEAVE_TASK, Shop, open_shop
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


@pytest.mark.parametrize(
    "races", [pytest.param(60, marks=pytest.mark.slow), pytest.param(1000, marks=pytest.mark.long)]
)
async def test_a_take_over_never_meets_an_answer(shop: Shop, model: LanguageModel, races: int) -> None:
    """A person takes each conversation at about the moment when its answer is queued."""
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
