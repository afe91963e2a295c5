"""Recordings become texts and summaries: by channel, sealed, once; and what is stored and said where there is nothing to hear, or nobody
who hears. Over 400 lines: each of these is a call of its own."""

import random
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import trio

from actors.ai import transcribing
from gateway.domain.ai import AiBlock
from gateway.domain.errors import Rejected
from gateway.domain.health import State
from gateway.domain.transcripts import WORDS_PURPOSE, Segment, hashed, unpacked
from gateway.store import call_transcripts as store
from gateway.store.personal_data import erase_person
from gateway.store.personal_export import export_person
from gateway.store.postgres.pool import Database
from tests.actors.ai.calls import CLIENT, JUNE, Office, open_office, stereo, wav_of
from tests.sandbox.llm import LanguageModel, Step, said
from tests.sandbox.transcriber import Asked, Transcriber, segment
from tests.sandbox.web import Response, as_json
from tests.sound import dialogue
from tests.store.database import db, dsn, postgres

__all__ = ["db", "dsn", "postgres"]
SUMMARY = "Клиент хотел пиццу.\nДоговорились: доставка к семи.\nДальше: Анна перезвонит."
FLAT = struct.pack("<8000h", *([40, -40] * 4000))
"""A second of a line's own noise."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transcribing, "EVERY_S", 0.02)
    monkeypatch.setattr(transcribing, "PAUSE_S", 0.01)
    monkeypatch.setattr(transcribing, "PAUSE_CAP_S", 0.05)
    monkeypatch.setattr(transcribing, "DELAY_S", 0.02)


@pytest.fixture
async def office(nursery: trio.Nursery, db: Database, tmp_path: Path) -> AsyncIterator[Office]:
    speech, model = Transcriber(), LanguageModel(reply=lambda body: said(SUMMARY))
    await nursery.start(speech.serve)
    await nursery.start(model.serve)
    yield await open_office(db, tmp_path, speech, model)
    nursery.cancel_scope.cancel()


def by_side(asked: Asked) -> list[dict[str, Any]]:
    """The louder side is the employee."""
    if asked.loudest > 6_000:
        return [segment("Пиццерия, добрый день.", 0.0, 1.5), segment("Доставим к семи.", 5.0, 6.5)]
    return [segment("Хочу заказать две маргариты.", 2.0, 4.0)]


def quieter(samples: bytes) -> bytes:
    """Half as loud."""
    return struct.pack(
        f"<{len(samples) // 2}h", *(one // 2 for one in struct.unpack(f"<{len(samples) // 2}h", samples))
    )


async def test_a_call_becomes_a_text_by_channels_and_a_summary(office: Office) -> None:
    office.speech.hear = by_side
    office.calls |= {"first_channel": "client"}
    await office.call()
    await office.record(stereo(quieter(dialogue(8)), dialogue(8)))
    async with office.working():
        row = await office.until_over()
    assert (row.state, row.problem, row.transcribed, row.language, row.model) == (
        "done",
        "",
        True,
        "russian",
        "whisper-1",
    )
    assert unpacked(office.opened(row, "body")) == [
        Segment(2, 0.0, 1.5, "Пиццерия, добрый день."), Segment(1, 2.0, 4.0, "Хочу заказать две маргариты."),
        Segment(2, 5.0, 6.5, "Доставим к семи."),
    ]  # fmt: skip
    assert office.opened(row, "summary") == SUMMARY
    assert [(one.fields, round(one.seconds)) for one in office.speech.asked] == [
        ({"model": "whisper-1", "response_format": "verbose_json", "language": "ru"}, 8)
    ] * 2
    assert office.speech.refusals == office.model.refusals == []
    (body,) = office.model.requests
    system, user = body["messages"]
    assert "Чего хотели, о чём договорились, что дальше" in system["content"]
    assert user["content"] == (
        "<call>\n[0:00] Сотрудник: Пиццерия, добрый день.\n[0:02] Клиент: Хочу заказать две маргариты.\n"
        "[0:05] Сотрудник: Доставим к семи.\n\n</call>"
    )
    assert await office.query("SELECT answers, prompt_tokens, completion_tokens, round(audio_s) FROM ai_days") == [
        (0, 100, 20, 16)
    ]
    assert office.slot.health.state is State.ONLINE
    # One note for each CRM, of the same commit, without a word of what was said; and the client reads it when it delivers.
    assert [(call.call_id, recording) for call, recording in office.planned] == [("7.1", str(row.recording_id))]
    ((kind, subject, text),) = await office.query("SELECT kind, subject_id, body FROM deliveries")
    assert (kind, subject) == ("summary", "7.1")
    assert await office.recordings.summary(str(row.recording_id)) == SUMMARY
    whole = str(await office.query("SELECT t::text FROM call_transcripts t")) + text
    assert not [word for word in ("маргарит", "пицц", "Анна", "семи") if word in whole.lower()], "sealed"


async def test_words_are_found_by_their_hashes_alone(office: Office) -> None:
    await office.call()
    await office.record(wav_of(dialogue(8)))
    async with office.working():
        row = await office.until_over()

    async def find(text: str, key: bytes | None = None) -> list[str]:
        lexemes = await office.db.tenant(JUNE, store.select_lexemes, text)
        words = hashed(lexemes, key or office.keys.derive(WORDS_PURPOSE))
        return await office.db.tenant(JUNE, store.find_calls_by_words, JUNE, words, 10)

    assert await find("заказывали пиццу") == []
    assert await find("Пиццы заказать") == ["7.1"], "in any form of the word"
    assert await find("перезвонит") == ["7.1"], "the summary too"
    assert await find("пицца", b"x" * 32) == [], "by the tenant's key"
    assert row.state == "done"


@pytest.mark.parametrize(
    ("sound", "heard", "asked"),
    [
        (wav_of(FLAT * 20), [], 0),
        (stereo(FLAT * 20, FLAT * 20), [], 0),
        (wav_of(b""), [], 0),
        (wav_of(dialogue(20)), [], 1),
        (wav_of(dialogue(20)), [segment("Спасибо за просмотр!", 0, 4, no_speech_prob=0.93)], 1),
        (wav_of(dialogue(20)), [segment("Субтитры", 0, 4, no_speech_prob=0.7, avg_logprob=-1.3)], 1),
        (wav_of(dialogue(20)), [segment("а а а а а а", 0, 4, compression_ratio=5.0)], 1),
    ],
    ids=["silence", "silence on both sides", "nothing", "nothing heard", "noise", "noise, unsure", "a loop"],
)
async def test_where_nobody_speaks_there_is_no_text_and_no_summary(
    office: Office, sound: bytes, heard: list[dict[str, Any]], asked: int
) -> None:
    office.speech.hear = lambda one: heard
    await office.call()
    await office.record(sound)
    async with office.working():
        row = await office.until_over()
    assert (row.state, row.problem, row.summary, row.transcribed) == ("done", "", "", True)
    assert office.opened(row, "body") == "[]"
    assert (len(office.speech.asked), office.model.requests, office.planned) == (asked, [], [])


async def test_both_sides_alike_are_sent_once(office: Office) -> None:
    await office.call()
    await office.record(stereo(dialogue(8), dialogue(8)))
    async with office.working():
        row = await office.until_over()
    assert [one.channel for one in unpacked(office.opened(row, "body"))] == [0]
    assert len(office.speech.asked) == 1


async def test_a_model_without_segments(office: Office) -> None:
    office.speech.plain = True
    await office.call()
    await office.record(wav_of(dialogue(8)))
    async with office.working():
        row = await office.until_over()
        await office.call("7.2")
        await office.record(wav_of(dialogue(9)), "7.2")
        await office.until_over("7.2")
    assert unpacked(office.opened(row, "body")) == [Segment(0, 0.0, 8.0, "Здравствуйте, хочу заказать пиццу.")]
    assert [one.fields["response_format"] for one in office.speech.asked] == ["json", "json"]
    assert len(office.speech.refusals) == 1, "what it does not know is asked once"


async def test_a_server_that_is_down_is_tried_again(office: Office) -> None:
    office.speech.down = 503
    await office.call()
    await office.record(wav_of(dialogue(8)))
    async with office.working():
        row = await office.until(lambda one: one.problem)
        assert (row.state, row.problem, row.transcribed) == ("waiting", "unavailable", False)
        health = office.slot.health
        assert (health.state, health.code, health.detail) == (State.DEGRADED, "transcripts_failing", "unavailable")
        office.speech.down = 0
        office.speech.faults = ["html", as_json({"error": {"code": "rate_limit_exceeded"}}, 429), Response(200, b"[]")]
        row = await office.until_over()
    assert (row.state, row.problem) == ("done", "")
    assert office.slot.health.state is State.ONLINE
    assert len(office.planned) == 1


@pytest.mark.parametrize(
    ("answer", "code", "detail"),
    [
        (as_json({"error": {"message": "x", "code": "invalid_api_key"}}, 401), "transcripts_refused", "bad_key"),
        (as_json({"error": {"message": "x", "code": "insufficient_quota"}}, 429), "transcripts_refused", "quota"),
        (as_json({"error": {"message": "x", "code": "model_not_found"}}, 404), "transcripts_refused", "no_model"),
    ],
)
async def test_what_a_person_has_to_change_is_said_and_nothing_is_lost(
    office: Office, answer: Response, code: str, detail: str
) -> None:
    office.speech.faults = [answer]
    await office.call()
    await office.record(wav_of(dialogue(8)))
    async with office.working():
        await office.until(lambda one: one.problem)
        health = office.slot.health
        assert (health.state, health.code, health.detail) == (State.ATTENTION, code, detail)
        assert (await office.until_over()).state == "done"


async def test_no_server_at_all(office: Office) -> None:
    office.speech.site.base = ""
    await office.call()
    await office.record(wav_of(dialogue(8)))
    async with office.working():
        row = await office.until(lambda one: one.problem)
    assert (row.state, row.problem) == ("waiting", "no_model")


async def test_the_summary_alone_is_made_later(office: Office) -> None:
    office.model.script = [Step(status=500), Step(cut=True, text="x"), said(SUMMARY)]
    await office.call()
    await office.record(wav_of(dialogue(8)))
    async with office.working():
        row = await office.until(lambda one: one.problem)
        assert (row.state, row.transcribed, row.summary) == ("waiting", True, "")
        row = await office.until_over()
    assert (office.opened(row, "summary"), len(office.speech.asked)) == (SUMMARY, 1), "the text is not paid for again"


@pytest.mark.parametrize(
    ("step", "problem"), [(said(" \n"), "summary_empty"), (Step(refusal="no"), "summary_refused"), (Step(status=400, code="context_length_exceeded"), "summary_too_long")]
)  # fmt: skip
async def test_a_model_that_makes_no_summary(office: Office, step: Step, problem: str) -> None:
    office.model.reply = lambda body: step
    await office.call()
    await office.record(wav_of(dialogue(8)))
    async with office.working():
        row = await office.until_over()
    assert (row.state, row.problem, row.summary, row.transcribed, office.planned) == ("done", problem, "", True, [])


async def test_what_is_left_out(office: Office) -> None:
    await office.call("7.1", answered=False)
    await office.call("7.2", talk_s=3.0)
    await office.call("7.3", open=True)
    for call_id, seconds in (("7.1", 8), ("7.2", 9), ("7.3", 10)):
        await office.record(wav_of(dialogue(seconds)), call_id)
    async with office.working():
        assert [(await office.until_over(one)).problem for one in ("7.1", "7.2")] == ["not_answered", "too_short"]
        assert [row.state for row in await office.rows("7.3")] == ["waiting"], "the call goes on"
        await office.call("7.3")
        assert (await office.until_over("7.3")).state == "done"
    assert len(office.speech.asked) == 1


async def test_nothing_is_made_where_it_is_not_switched_on(office: Office) -> None:
    office.calls = {}
    assert office.settings == AiBlock()
    await office.store_options()
    await office.call()
    await office.record(wav_of(dialogue(8)))
    assert await office.query("SELECT FROM call_transcripts") == []


async def test_a_budget_of_sound_and_one_of_tokens(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transcribing, "AT_ONCE", 1)
    office.calls |= {"per_day_audio_s": 60}
    for number in (1, 2):
        await office.call(f"7.{number}")
        await office.record(wav_of(dialogue(39 + number)), f"7.{number}")
    async with office.working():
        row = await office.until(lambda one: one.problem, "7.2")
        assert (row.state, row.problem) == ("waiting", "used_up_audio")
        assert (await office.until_over("7.1")).state == "done"
    assert await office.query(
        "SELECT run_at > now() + interval '50 seconds' FROM call_transcripts WHERE state = 'waiting'"
    ) == [(True,)]
    office.calls, office.more = {"transcribe": True, "summarise": True}, {"per_day_tokens": 1000}
    await office.query("UPDATE ai_days SET prompt_tokens = 999, completion_tokens = 1")
    await office.query("UPDATE call_transcripts SET run_at = now()")
    async with office.working():
        row = await office.until(lambda one: one.problem == "used_up_tokens", "7.2")
    assert (row.transcribed, row.summary) == (True, "")


@pytest.mark.parametrize(
    ("data", "name", "problem"),
    [(b"gsm \0\0\0" * 9, "a.gsm", "format"), (b"what is this" * 9, "a.dat", "format"), (b"OggS" + bytes(25_000_000), "a.ogg", "too_large")],
)  # fmt: skip
async def test_files_that_no_server_takes(office: Office, data: bytes, name: str, problem: str) -> None:
    await office.call()
    await office.record(data, name=name)
    async with office.working():
        row = await office.until_over()
    assert (row.state, row.problem, office.speech.tries) == ("failed", problem, 0)


@pytest.mark.usefixtures("expected_errors")
async def test_a_crash_costs_one_recording(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    async def crashes(*args: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(transcribing, "transcribe", crashes)
    await office.call()
    await office.record(wav_of(dialogue(8)))
    async with office.working():
        row = await office.until_over()
        assert (row.state, row.problem) == ("failed", "crashed")
        monkeypatch.undo()
        assert await office.db.tenant(JUNE, store.retry_transcript, JUNE, row.recording_id)
        row = await office.until(lambda one: one.state == "done")
        assert not await office.db.tenant(JUNE, store.retry_transcript, JUNE, row.recording_id)


@pytest.mark.usefixtures("expected_errors")
async def test_a_planner_that_crashes_costs_its_note(office: Office) -> None:
    def crashes(*args: Any) -> Any:
        raise ZeroDivisionError

    await office.call()
    await office.record(wav_of(dialogue(8)))
    async with office.working(planners={"other": crashes}):
        row = await office.until_over()
    assert (row.state, len(await office.query("SELECT FROM deliveries"))) == ("done", 1)


async def test_it_goes_with_its_recording_and_on_request(office: Office) -> None:
    for number in (1, 2):
        await office.call(f"7.{number}")
        await office.record(wav_of(dialogue(7 + number)), f"7.{number}")
    async with office.working():
        await office.until_over("7.1")
        row = await office.until_over("7.2")
    assert await office.db.engine(store.erase_transcripts, JUNE, [CLIENT]) in (["7.1", "7.2"], ["7.2", "7.1"])
    assert await office.query("SELECT DISTINCT state, body, summary, words FROM call_transcripts") == [
        ("erased", "", "", [])
    ]
    with pytest.raises(Rejected):
        await office.recordings.summary(str(row.recording_id))
    await office.query("DELETE FROM recordings WHERE call_id = '7.1'")
    assert (len(await office.rows("7.1")), len(await office.rows("7.2"))) == (0, 1)


async def test_a_person_s_texts_are_handed_out_and_erased(office: Office) -> None:
    await office.call()
    await office.record(wav_of(dialogue(8)))
    async with office.working():
        await office.until_over()
    person, stranger = UUID(int=1), UUID(int=2)
    for contact, confirmed in ((person, True), (stranger, False)):
        await office.query("INSERT INTO contacts (tenant_id, contact_id, root_id) VALUES ($1, $2, $2)", JUNE, contact)
        await office.query(
            "INSERT INTO contact_phones (tenant_id, contact_id, phone, confirmed) VALUES ($1, $2, $3, $4)",
            JUNE,
            contact,
            CLIENT,
            confirmed,
        )
    data = await office.db.tenant(JUNE, export_person, JUNE, person, "cli", office.keys)
    assert data is not None
    (call,) = data["calls"]
    assert (call["call"], call["summary"], call["text"][0]["text"]) == (
        "7.1",
        SUMMARY,
        "Здравствуйте, хочу заказать пиццу.",
    )
    data = await office.db.tenant(JUNE, export_person, JUNE, stranger, "cli", office.keys)
    assert data is not None
    assert data["calls"] == [], "a number that was only typed says nothing of who somebody is"
    erased = await office.db.engine(erase_person, JUNE, stranger, "cli")
    assert erased is not None
    assert (erased.transcripts, [row.state for row in await office.rows()]) == (0, ["done"])
    erased = await office.db.engine(erase_person, JUNE, person, "cli")
    assert erased is not None
    assert (erased.transcripts, [(row.state, row.body, row.summary) for row in await office.rows()]) == (
        1,
        [("erased", "", "")],
    )


async def test_what_waited_for_days_is_given_up(office: Office) -> None:
    office.speech.down = 503
    await office.call()
    await office.record(wav_of(dialogue(8)))
    async with office.working():
        await office.until(lambda one: one.problem)
        await office.query("UPDATE call_transcripts SET made_at = made_at - interval '80 hours'")
        row = await office.until_over()
    assert (row.state, row.problem) == ("failed", "unavailable")


@pytest.mark.long
async def test_an_hour_in_pieces_and_nothing_twice_after_a_restart(office: Office) -> None:
    """Sixty minutes of two channels: 115 MB. The process ends in the middle."""
    turn = dialogue(60)
    rate = random.Random(1).uniform(0.5, 0.9)
    left = quieter(turn[: int(len(turn) * rate) // 2 * 2]).ljust(len(turn), b"\0") * 60
    await office.call(talk_s=3600.0)
    await office.record(stereo(left, turn * 60))
    office.speech.hear = lambda one: [
        segment(f"Часть {len(office.speech.asked)}", 1.0, 3.0),
        segment("конец", one.seconds - 2, one.seconds + 40),
    ]
    async with office.working():
        await office.until(lambda one: one.reached_s > 1000, within_s=60)
    before = len(office.speech.asked)
    assert 8 <= before < 24
    async with office.working():
        row = await office.until_over(within_s=60)
    segments = unpacked(office.opened(row, "body"))
    assert len(office.speech.asked) in range(24, 28), "twelve pieces of each side and a rest, and at most one again"
    assert max(one.size for one in office.speech.asked) < 6_000_100
    assert [one.start_s for one in segments] == sorted(one.start_s for one in segments)
    assert segments[-1].end_s == pytest.approx(3600.0, abs=0.2)
    assert {one.channel for one in segments} == {1, 2}
    ((seconds,),) = await office.query("SELECT audio_s FROM ai_days")
    assert seconds == pytest.approx(7200.0, abs=6.0)
    assert row.state == "done"
