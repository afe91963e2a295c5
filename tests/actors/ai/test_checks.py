"""Answers that are not sent as they are: an order is repeated in full, what no client may read is said otherwise, swearing leads to
people; and what no longer fits into a question is told in short."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

from gateway.store.postgres.pool import Database
from tests.actors.ai.shop import ANNA, Shop, open_shop, turns_of
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


def _answers_or_shortens(body: dict[str, Any]) -> Step:
    if "You shorten" in body["messages"][0]["content"]:
        return said("Клиент задал первые вопросы про буквы.")
    return said("Ответ: " + "слово " * 100)


async def test_what_no_longer_fits_is_told_in_short_and_the_question_is_always_there(
    shop: Shop, model: LanguageModel
) -> None:
    shop.options["history_tokens"] = 500
    model.reply = _answers_or_shortens
    async with shop.open():
        for n in range(1, 6):
            await shop.writes(f"Вопрос номер {n}: " + "буквы " * 60)
            await shop.until_author("ai", count=n)
    text = turns_of(model.requests[-1])
    assert "Вопрос номер 5" in text
    assert "Вопрос номер 1" not in text
    assert 'in short:\\n<data from=\\"summary\\">\\nКлиент задал первые вопросы про буквы.' in text
    shortened = [body for body in model.requests if "You shorten" in body["messages"][0]["content"]]
    assert 1 <= len(shortened) < 5
    assert "Вопрос номер 1" in turns_of(shortened[0])
    assert all("tools" not in body for body in shortened)
    ((seq, made_by),) = await shop.rows("SELECT seq, made_by FROM ai_summaries")
    assert (2 <= seq < 10, made_by) == (True, "model")
    assert await shop.rows("SELECT sum(prompt_tokens) FROM ai_days") == [(100 * len(model.requests),)]
    assert model.refusals == []


async def test_without_the_model_what_is_cut_becomes_a_digest(shop: Shop, model: LanguageModel) -> None:
    shop.options["history_tokens"] = 500

    def reply(body: dict[str, Any]) -> Step:
        found = _answers_or_shortens(body)
        return Step(status=400, code="x") if "You shorten" in body["messages"][0]["content"] else found

    model.reply = reply
    async with shop.open():
        for n in range(1, 4):
            await shop.writes(f"Вопрос номер {n}: " + "буквы " * 60)
            await shop.until_author("ai", count=n)
    ((text, made_by),) = await shop.rows("SELECT text, made_by FROM ai_summaries")
    assert made_by == "digest"
    assert text.startswith("client: Вопрос номер 1: буквы")
    assert len(text) < 1000
    assert "client: Вопрос номер 1" in turns_of(model.requests[-1])


async def test_an_order_is_repeated_word_for_word_whatever_the_model_says(shop: Shop, model: LanguageModel) -> None:
    order = called(("create_order", {"items": [{"catalog_id": "margherita", "quantity": 2}]}))
    model.script = [order, said("Заказала две пиццы за 20 рублей, ждите!"), said("Две пиццы, 20 рублей. Так?")]
    async with shop.open():
        await shop.writes("две маргариты")
        answer = (await shop.until_author("ai"))[-1][1]
        assert "20 рублей" not in answer
        assert "Маргарита: 2 × 12.50 = 25.00 BYN" in answer
        assert answer.endswith("Всё верно?")
        assert "word for word" in model.requests[2]["messages"][-1]["content"]
        model.script = [called(("update_order", {"agreed": True})), said("Приняли!")]
        await shop.writes("да")
        await shop.until_author("ai", count=2)
    assert await shop.rows("SELECT status, total FROM orders") == [("confirmed", 25)]


async def test_an_order_that_a_dropped_answer_made_is_repeated_by_the_next(shop: Shop, model: LanguageModel) -> None:
    order = called(("create_order", {"items": [{"catalog_id": "margherita", "quantity": 2}]}))
    model.script = [order, Step(text="Сейчас", stall=True)]
    async with shop.open():
        await shop.writes("две маргариты")
        await shop.until(lambda: len(model.requests) == 2 and model.under_way)
        model.script = [said("Записала."), said("Записала!")]
        await shop.writes("и побыстрее")
        assert "Итого: 25.00 BYN" in (await shop.until_author("ai"))[-1][1]


@pytest.mark.parametrize(
    ("answers", "problem"),
    [
        (["Hello, our Margherita costs twelve fifty.", "Sorry, our Margherita costs twelve fifty."], "wrong_language"),
        (["Добро пожаловать в Додо Пиццу!", "Вы обратились в «Додо»."], "wrong_company"),
        (["Да пошли вы на хуй!", "Бля, маргарита стоит 12.50."], "wrong_swearing"),
    ],
)
async def test_what_no_client_may_read_is_said_otherwise_or_goes_to_a_person(
    shop: Shop, model: LanguageModel, answers: list[str], problem: str
) -> None:
    model.script = [said(answers[0]), said("Маргарита стоит 12.50 BYN.")]
    async with shop.open():
        await shop.writes("сколько стоит маргарита?")
        assert (await shop.until_author("ai"))[-1] == ("ai", "Маргарита стоит 12.50 BYN.")
        model.script = [said(one) for one in answers]
        await shop.writes("а пепперони?")
        await shop.until_author("system")
        assert (await shop.one()).owner == "queue"
    assert await shop.rows("SELECT cause, reason FROM ai_hand_overs") == [("failed", problem)]


async def test_swearing_and_threats_go_to_a_person_unasked(shop: Shop, model: LanguageModel) -> None:
    async with shop.open():
        await shop.writes("где моя пицца, подам на вас в суд")
        await shop.until_author("system")
        chat = await shop.one()
        assert chat.owner == "queue"
        await shop.conversing.release(shop.tenant, chat.id, ANNA, "ai")
        assert (await shop.until_author("ai"))[-1] == (
            "ai",
            "Здравствуйте!",
        )  # what a colleague has seen is not judged again
    assert await shop.rows("SELECT cause, reason FROM ai_hand_overs") == [("abuse", "client_words")]


async def test_earlier_orders_are_known_in_another_conversation(shop: Shop, model: LanguageModel) -> None:
    model.script = [called(("create_order", {"items": [{"catalog_id": "margherita", "quantity": 3}]}))]
    async with shop.open():
        await shop.writes("три маргариты")
        await shop.until_author("ai")
        await shop.writes("что я заказывал?")
        await shop.until_author("ai", count=2)
    system = model.requests[-1]["messages"][0]["content"]
    assert '"items": "Маргарита x 3", "total": "37.50 BYN"' in system
