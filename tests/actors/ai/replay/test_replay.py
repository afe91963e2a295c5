"""Scripted conversations are played by the code that answers clients; what is right counts as right, and each kind of mistake as one."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from actors.ai.replay.by_the_book import ByTheBook
from actors.ai.replay.corpus import BadCorpus, Corpus, Today, read_corpus
from actors.ai.replay.report import About, NoReport, compared, lines_of, read_report, report_of
from actors.ai.replay.running import Played, Player
from actors.ai.replay.scoring import invented_prices
from adapters.llm.protocol import ModelFailed, Question, Said, ToolCall
from gateway.domain.ai import AiBlock
from gateway.domain.profile import BUSINESS_TYPES
from gateway.store.postgres.pool import Database
from gateway.store.secrets.seal import new_master_key, parse_master_keys
from tests.sandbox.llm import check_chat, check_responses
from tests.store.database import db, dsn, postgres

__all__ = ["db", "dsn", "postgres"]

OURS = read_corpus()
FIRST = tuple(next(one.id for one in OURS.conversations if one.company == name) for name in OURS.companies)
"""A conversation of each company."""
ABOUT = About(prompt="corpus", prompt_version="1", model="book", corpus="c", at="2026-12-01T12:00:00+00:00")


class Wrong(ByTheBook):
    """Plays by the book, and makes one mistake wherever it can."""

    mistake: Callable[[Said], Said]

    async def ask(self, question: Question, *, tries: int = 1, ended: bool = False) -> Said:
        return self.mistake(await super().ask(question, tries=tries, ended=ended))


def player(db: Database, mistake: Callable[[Said], Said] | None = None, **more: Any) -> Player:
    def model(conversation: Any, company: Any, today: Today) -> ByTheBook:
        made = Wrong(today, conversation.language or company.language)
        made.mistake = mistake or (lambda said: said)
        return made

    return Player(
        db=db, master=parse_master_keys(new_master_key()), models=model, settings=AiBlock(enabled=True, per_conversation_day=1000), **more
    )  # fmt: skip


def wrong_checks(played: list[Played]) -> list[tuple[int, list[str]]]:
    """The places of steps that went wrong, with their checks."""
    steps = [step for one in played for step in one.steps]
    return [
        (place, [name for name, right in step.checks.items() if not right])
        for place, step in enumerate(steps, 1) if not step.right
    ]  # fmt: skip


def test_ours_are_sixty_of_nine_kinds_in_two_languages() -> None:
    assert len(OURS.conversations) == 60
    assert {one.profile.business_type for one in OURS.companies.values()} == set(BUSINESS_TYPES)
    assert {one.language for one in OURS.conversations} == {"ru", "en"}
    steps = [step.expect for one in OURS.conversations for step in one.steps]
    assert sum(one.hand_over for one in steps) >= 10
    assert sum(one.items is not None for one in steps) >= 20
    assert sum(one.booking is not None for one in steps) >= 12


async def test_one_of_each_kind_goes_right(db: Database) -> None:
    played = await player(db, keep_requests=True).play(OURS, FIRST)
    assert wrong_checks(played) == []
    for one in played:
        for step in one.steps:
            for body in step.requests:
                check_chat(body)
    asked = [body for one in played for step in one.steps for body in step.requests]
    assert len(asked) > 2 * len(FIRST)
    assert "Пиццерия Июнь" in asked[0]["messages"][0]["content"]
    assert all(step.prompt_tokens > 100 for one in played for step in one.steps)


@pytest.mark.long
async def test_all_of_ours_go_right_with_both_interfaces(db: Database) -> None:
    played = await player(db, keep_requests=True, api="responses").play(OURS)
    assert wrong_checks(played) == []
    assert sum(len(one.steps) for one in played) == 118
    for one in played:
        for step in one.steps:
            for body in step.requests:
                check_responses(body)


def one_more(said: Said) -> Said:
    return replace(said, calls=tuple(replace(one, arguments=one.arguments.replace('"2"', '"3"')) for one in said.calls))


def never_hands_over(said: Said) -> Said:
    if said.calls and said.calls[0].name == "hand_over":
        return replace(said, calls=(), text="Сейчас разберёмся.")
    return said


def hands_over(said: Said) -> Said:
    call = ToolCall("call_x", "hand_over", json.dumps({"reason": "other", "summary": "x"}))
    return replace(said, text="", calls=(call,)) if not said.calls else said


def says_too(words: str) -> Callable[[Said], Said]:
    return lambda said: replace(said, text=f"{said.text} {words}") if not said.calls else said


def says_otherwise(said: Said) -> Said:
    return replace(said, text="Уточните, пожалуйста.") if not said.calls and "Маргарита:" not in said.text else said


@pytest.mark.parametrize(
    ("name", "mistake", "found"),
    [
        ("pizza-two", one_more, [(2, ["item", "total"]), (3, ["item", "total"])]),
        ("pizza-two", says_otherwise, [(1, ["words"])]),
        ("pizza-two", says_too("Всего 99 BYN"), [(n, ["nothing_invented"]) for n in (1, 2, 3)]),
        ("pizza-two", says_too("Смотрите на pizza-scam.example/x"), [(n, ["nothing_invented"]) for n in (1, 2, 3)]),
        ("pizza-two", says_too("Звоните +375 29 999-88-77"), [(n, ["nothing_invented"]) for n in (1, 2, 3)]),
        ("pizza-complaint", never_hands_over, [(1, ["hand_over"])]),
        ("pizza-two", hands_over, [(1, ["answered", "hand_over", "words"]), (2, ["answered", "item", "total", "hand_over"]),
                                   (3, ["answered", "item", "total", "agreed", "hand_over"])]),
    ],
)  # fmt: skip
async def test_each_mistake_is_one(
    db: Database, name: str, mistake: Callable[[Said], Said], found: list[tuple[int, list[str]]]
) -> None:
    assert wrong_checks(await player(db, mistake).play(OURS, [name])) == found


async def test_a_model_that_fails_is_no_answer(db: Database) -> None:
    class Away:
        async def ask(self, question: Question, *, tries: int = 1, ended: bool = False) -> Said:
            raise ModelFailed("quota")

    away = player(db)
    away.models = lambda conversation, company, today: Away()
    (one,) = await away.play(OURS, ["salon-price"])
    assert (one.steps[0].problem, one.steps[0].checks["answered"]) == ("quota", False)
    assert one.steps[1].problem == "not_ours", "it went to people"
    assert "quota" in "\n".join(lines_of(report_of(ABOUT, [one])))


async def test_a_report_is_read_again_and_compared(db: Database) -> None:
    good = report_of(ABOUT, await player(db).play(OURS, ["pizza-two", "salon-price"]))
    bad = report_of(
        replace(ABOUT, prompt_version="2"), await player(db, says_otherwise).play(OURS, ["pizza-two", "salon-price"])
    )
    again = read_report(json.dumps(good))
    lines = "\n".join(compared(again, bad))
    assert "prompt corpus 1, model book; now: prompt corpus 2, model book" in lines
    assert "better: 0\n" in lines
    assert "worse: 2: pizza-two step 1, salon-price step 1" in lines
    assert "words: 2 of 2 -> 0 of 2" in lines
    assert "steps right: 5 of 5 -> 3 of 5" in lines
    assert "step 1: words" in "\n".join(lines_of(bad))
    for text in (
        "",
        "[]",
        "{}",
        '{"version": 1}',
        json.dumps({**good, "results": 5}),
        json.dumps({**good, "version": 2}),
    ):
        with pytest.raises(NoReport):
            read_report(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[", "line "),
        ("- a", "must be an object"),
        ("conversations: []", "conversations"),
        ("conversations: [{id: X y, steps: [{client: a}]}]", "conversations[0].id"),
        ("conversations: [{id: x, steps: [{}]}]", "has either `client` or `person`"),
        ("conversations: [{id: x, steps: [{client: a, expect: {itens: {}}}]}]", "conversations[0].steps[0].expect.itens"),
        ("conversations: [{id: x, company: y, steps: [{client: a}]}]", "there is no company y"),
        ("conversations: [{id: x, steps: [{client: a}]}, {id: x, steps: [{client: a}]}]", "two conversations are called x"),
        ("companies: {a: {name: A, language: en, prompt: hello}}\nconversations: [{id: x, steps: [{client: a}]}]", "prompt: line 1"),
        ("companies: {a: {name: A, language: en, timezone: Mars, prompt: hello}}\nconversations: [{id: x, steps: [{client: a}]}]", "time zone"),
        (f"{'[' * 5000}", ""),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_named(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text, "utf-8")
    with pytest.raises(BadCorpus) as caught:
        read_corpus(file)
    assert words in str(caught.value)
    assert "mine.yaml" in str(caught.value)


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadCorpus, match="not UTF-8"):
        read_corpus(file)
    file.write_text("[" * 200_000)
    with pytest.raises(BadCorpus, match="nested too deeply"):
        read_corpus(file)


def test_prices_that_nobody_gave() -> None:
    given = "- Маргарита — 12.50 BYN\nИтого: 1\u00a0997.20 BYN, доставка от 20 BYN, 185000.00 BYN"
    assert invented_prices("Маргарита 12,50 руб., всего 1 997,20 BYN; от 20 рублей. Дом 185 000 BYN", given) == []
    assert invented_prices("Маргарита 13 BYN, $5, 7 €", given) == ["13", "5", "7"]
    assert invented_prices("Пицца 30 см на 4 куска, в 19:00, № 17", given) == []


def test_days_of_a_text() -> None:
    today = Today(date(2026, 12, 30))
    assert today.filled("на {tomorrow} или {in_2_days}") == "на 31.12.2026 или 01.01.2027"
    assert isinstance(OURS, Corpus)
