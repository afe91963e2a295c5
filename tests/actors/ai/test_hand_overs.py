"""Conversations go to people once, with every cause: the client is told, people are told, and a timer runs."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

from actors.ai import answering, tenant_ai
from gateway.domain.ai import TEXTS
from gateway.domain.health import State
from gateway.store.postgres.pool import Connection, Database
from tests.actors.ai.shop import ANNA, PROMPT, Shop, open_shop
from tests.sandbox.llm import LanguageModel, Step, called, said
from tests.store.database import db, dsn, postgres

__all__ = ["db", "dsn", "postgres"]

DOWN = Step(status=401, code="invalid_api_key")
"""A failure that is not tried again."""


@pytest.fixture
async def model(nursery: trio.Nursery) -> AsyncIterator[LanguageModel]:
    made = LanguageModel()
    await nursery.start(made.serve)
    yield made
    nursery.cancel_scope.cancel()


@pytest.fixture
async def shop(db: Database, model: LanguageModel) -> Shop:
    return await open_shop(db, model)


async def handed(shop: Shop) -> list[tuple[Any, ...]]:
    return await shop.rows("SELECT cause, reason, summary FROM ai_hand_overs ORDER BY at")


@pytest.mark.parametrize(("reason", "cause"), [("asked_for_person", "asked"), ("complaint", "model")])
async def test_the_model_hands_over(shop: Shop, model: LanguageModel, reason: str, cause: str) -> None:
    shop.options["handoff"] = {"notify": ["bell"]}
    model.script = [called(("hand_over", {"reason": reason, "summary": "Анна хочет вернуть пиццу."}), text="Секунду")]
    async with shop.open():
        await shop.writes("Верните деньги!", person={"name": "Анна", "language": "ru"})
        texts = await shop.until_author("system")
    assert texts == [("client", "Верните деньги!"), ("system", TEXTS[cause].texts["ru"])]  # type: ignore[index]
    chat = await shop.one()
    assert (chat.owner, chat.epoch, chat.unread) == ("queue", 1, 1)
    assert chat.waiting_since is not None, "the client still waits"
    assert await handed(shop) == [(cause, reason, "Анна хочет вернуть пиццу.")]
    (note,) = [one for one in await shop.beside() if one.kind == "handed_over"]
    assert note.text.endswith("Анна хочет вернуть пиццу.")
    ((key, body),) = await shop.rows("SELECT integration_type, body FROM deliveries WHERE kind = 'notice'")
    assert key == "bell"
    assert json.loads(body)["chat"] == "-100"
    assert "Анна" in json.loads(body)["text"]
    assert f"https://gateway.example/t/0367/inbox/{chat.id}" in json.loads(body)["text"]
    assert set(shop.woken) == {"pigeon", "bell"}
    assert await shop.rows("SELECT state FROM ai_answers") == [("handed_over",)]


@pytest.mark.parametrize("how", ["down", "slow", "nowhere"])
async def test_a_model_that_fails_hands_over_once(
    shop: Shop, model: LanguageModel, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if how == "slow":
        monkeypatch.setattr(answering, "WHOLE_S", 1.0)
    model.reply = lambda body: DOWN if how == "down" else Step(silent=True)
    async with shop.open(shop.actor(**({"url": ""} if how == "nowhere" else {}))):
        await shop.writes("Привет")
        await shop.until_author("system")
        for n in range(5):
            await shop.writes(f"Ау {n}")
        await shop.until(lambda: shop.rows("SELECT FROM messages WHERE text = 'Ау 4'"))
        assert shop.slot.health.state in (State.DEGRADED, State.ATTENTION)
    assert [author for author, _ in await shop.texts()].count("system") == 1
    assert [cause for cause, *_ in await handed(shop)] == ["failed"]
    assert len(model.requests) == (0 if how == "nowhere" else 1)


async def test_failures_are_counted_before_that(
    shop: Shop, model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenant_ai, "RETRY_S", 0.01)
    shop.options["handoff"] = {"after_failures": 3, "texts": {"failed": {"ru": "Минуту", "en": "A minute"}}}
    model.script = [DOWN, DOWN, said("Вот и я.")]
    async with shop.open():
        await shop.writes("Привет")
        assert (await shop.until_author("ai"))[-1] == ("ai", "Вот и я.")
        model.reply = lambda body: DOWN
        await shop.writes("Ещё", person={"language": "en-GB"})
        assert (await shop.until_author("system"))[-1] == ("system", "A minute")
    assert len(model.requests) == 6
    assert await shop.rows("SELECT state, count(*) FROM ai_answers GROUP BY 1 ORDER BY 1") == [
        ("failed", 5),
        ("sent", 1),
    ]


async def test_a_client_who_presses_the_button_is_told_once(shop: Shop, model: LanguageModel) -> None:
    async with shop.open():
        await shop.writes("Привет")
        await shop.until_author("ai")
        for _ in range(3):
            await shop.db.tenant(shop.number, _person_requested, shop, (await shop.one()).id)
            shop.feed.received([f"{shop.number} chat {(await shop.one()).id}"])
        await shop.until_author("system")
        await shop.writes("Алло?")
        await shop.until(lambda: shop.rows("SELECT FROM messages WHERE text = 'Алло?'"))
    assert [author for author, _ in await shop.texts()].count("system") == 1
    assert await handed(shop) == [("asked", "", "")]
    assert len(model.requests) == 1


async def _person_requested(conn: Connection, shop: Shop, conversation: Any) -> None:
    """As the fold of `PersonRequested` leaves it."""
    await conn.execute(
        "UPDATE conversations SET owner = 'queue', epoch = epoch + (owner <> 'queue')::int WHERE conversation_id = $1",
        conversation,
    )
    await conn.execute(
        "INSERT INTO conversation_happenings (tenant_id, conversation_id, kind, author, at) VALUES ($1, $2, 'person_requested', 'client', now())",
        shop.number, conversation,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"per_conversation_day": 1}, "per_conversation_day"), ({"per_day_tokens": 1000}, "per_day_tokens")],
)
async def test_budgets_hand_over(shop: Shop, model: LanguageModel, options: dict[str, Any], reason: str) -> None:
    shop.options.update(options)
    async with shop.open():
        await shop.writes("Привет")
        await shop.until_author("ai")
        if reason == "per_day_tokens":
            await shop.rows("UPDATE ai_days SET completion_tokens = 900 RETURNING 1")
        await shop.writes("Ещё")
        await shop.until_author("system")
    assert await handed(shop) == [("limit", reason, "")]
    assert len(model.requests) == 1


@pytest.mark.parametrize(
    ("prompt", "reason"), [(None, "no_prompt"), (PROMPT.replace("# Правила", "# Прочее"), "invalid_prompt")]
)
async def test_without_a_prompt_that_can_be_used(
    db: Database, model: LanguageModel, prompt: str | None, reason: str
) -> None:
    shop = await open_shop(db, model, prompt=prompt)
    async with shop.open():
        await shop.writes("Привет")
        await shop.until_author("system")
    assert await handed(shop) == [("prompt", reason, "")]
    assert model.requests == []


async def test_nobody_takes_it_in_time(shop: Shop, model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tenant_ai, "LOOK_EVERY_S", 0.02)
    model.reply = lambda body: DOWN
    async with shop.open():
        await shop.writes("Привет")
        await shop.until_author("system")
        await shop.rows("UPDATE ai_hand_overs SET due_at = now() RETURNING 1")
        busy = f"{shop.number} chat 5f0d1c0e-3c2b-4f6e-9a51-8d8f6f3a1b20"

        async def told() -> bool:
            shop.feed.received([busy])  # what goes on elsewhere holds nothing up
            return len(await shop.texts()) == 3

        await shop.until(told)
        texts = await shop.texts()
        assert texts[-1] == ("system", TEXTS["timeout"].texts["ru"])
        for _ in range(20):  # some looks long, each pause between two being longer than this
            await trio.testing.wait_all_tasks_blocked(0.005)
    assert [one.kind for one in await shop.beside()].count("missed_chat") == 1
    assert len(await shop.texts()) == 3
    assert (await shop.one()).owner == "queue"


async def test_whoever_takes_it_stops_the_timer(
    shop: Shop, model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenant_ai, "LOOK_EVERY_S", 0.02)
    model.reply = lambda body: DOWN
    async with shop.open():
        await shop.writes("Привет")
        await shop.until_author("system")
        await shop.conversing.take(shop.tenant, (await shop.one()).id, ANNA)
        await shop.rows("UPDATE ai_hand_overs SET due_at = now() RETURNING 1")
        for _ in range(20):  # some looks long, each pause between two being longer than this
            await trio.testing.wait_all_tasks_blocked(0.005)
        assert len(await shop.texts()) == 2
        model.reply = lambda body: said("Снова я.")
        await shop.conversing.release(shop.tenant, (await shop.one()).id, ANNA, "ai")
        assert (await shop.until_author("ai"))[-1] == ("ai", "Снова я."), "what has no answer is answered"


async def test_outside_its_hours_a_new_conversation_waits_for_a_person(shop: Shop, model: LanguageModel) -> None:
    async def always_open(conn: Connection) -> None:
        days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
        profile = {"business_type": "restaurant", "working_hours": [{"days": days, "from": "00:00", "to": "24:00"}]}
        await conn.execute("UPDATE business_profiles SET profile = $1::jsonb", json.dumps(profile))

    await shop.db.engine(always_open)
    for hours, owner in (("working", "ai"), ("off_hours", "queue"), ("always", "ai")):
        shop.options["hours"] = hours
        async with shop.open():
            await shop.writes("Привет", address=hours)
            await shop.until(lambda: shop.one(hours))  # noqa: B023 - waited for at once
            assert (await shop.one(hours)).owner == owner
    shop.options |= {"hours": "always", "channels": ["web_widget"]}
    async with shop.open():
        await shop.writes("Привет", address="other")
        await shop.until(lambda: shop.one("other"))
        assert (await shop.one("other")).owner == "none"


async def test_conversations_from_before_the_ai_was_on(shop: Shop, model: LanguageModel) -> None:
    shop.options["enabled"] = False
    async with shop.open():
        await shop.writes("Привет")
        await shop.until(shop.one)
        assert (await shop.one()).owner == "none"
    shop.options["enabled"] = True
    async with shop.open():
        await shop.writes("Есть кто?")
        await shop.until_author("ai")
    shop.options["enabled"] = False
    async with shop.open():
        await shop.writes("А теперь?")
        await shop.until(lambda: shop.rows("SELECT FROM conversations WHERE owner = 'none'"))


@pytest.mark.slow
async def test_a_model_that_is_away_under_two_hundred_conversations(shop: Shop, model: LanguageModel) -> None:
    model.reply = lambda body: DOWN
    async with shop.open():
        for n in range(200):
            await shop.writes("Привет", address=str(n))
        for n in range(200):
            await shop.writes("Ау", address=str(n))
        await shop.until(lambda: shop.rows("SELECT FROM ai_hand_overs HAVING count(*) = 200"), within_s=60)
        await shop.until(lambda: shop.rows("SELECT FROM messages WHERE text = 'Ау' HAVING count(*) = 200"), within_s=60)
    assert await shop.rows(
        "SELECT count(*), count(DISTINCT conversation_id) FROM messages WHERE author = 'system'"
    ) == [(200, 200)]
