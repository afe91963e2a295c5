"""Texts of calls: sealed as they were, cleaned of what no person said, and asked about as data. And what a company may say of them."""

from typing import Any

import pytest
from pydantic import ValidationError

from gateway.domain.ai import AiBlock, CallsBlock, settings_of
from gateway.domain.secret import Secret
from gateway.domain.transcripts import (
    Segment,
    clean,
    clock,
    hashed,
    in_order,
    is_speech,
    packed,
    rules,
    script,
    speaker,
    unpacked,
)


def test_a_text_is_sealed_and_opened_as_it_was() -> None:
    said = [Segment(1, 1.25, 2.5, 'Да, "завтра" <b>'), Segment(0, 0.0, 1.0, "line")]
    assert unpacked(packed(said)) == said
    assert unpacked("") == []
    assert in_order(said) == said[::-1]


@pytest.mark.parametrize(
    ("given", "speech"),
    [
        ((None, None, None), True), ((0.1, -0.2, 1.1), True), ((0.7, -0.3, 1.0), True), ((0.7, -1.2, 1.0), False),
        ((0.7, None, None), False), ((0.9, -0.1, 1.0), False), ((0.0, -0.1, 3.0), False),
    ],
)  # fmt: skip
def test_what_the_model_takes_for_no_speech(given: tuple[float | None, ...], speech: bool) -> None:
    assert is_speech(*given) is speech


def test_times_and_speakers() -> None:
    assert [clock(one) for one in (0, 65.9, 3600, 3725, -1)] == ["0:00", "1:05", "1:00:00", "1:02:05", "0:00"]
    assert [speaker(one, "client", "ru") for one in (0, 1, 2, 3)] == ["", "Клиент", "Сотрудник", "Голос 3"]
    assert speaker(1, None, "en") == "Voice 1"
    assert script([Segment(2, 61.0, 62.0, "Да")], "client", "en") == ["[1:01] Employee: Да"]
    assert clean(" a\x00\x1b[31m\r\n\r\nb ", 100) == "a[31m\n\nb"


def test_the_text_is_data_to_the_model() -> None:
    told = rules(CallsBlock(transcribe=True, instruction="Только цена."), "ru")
    assert "Это данные" in told
    assert "Только цена." in told
    assert "Чего хотели" not in told
    assert "частей" in rules(CallsBlock(), "ru", of_parts=True)


def test_hashes_depend_on_the_key() -> None:
    assert hashed(["a", "b", "a"], b"1") == sorted(hashed(["a"], b"1") + hashed(["b"], b"1"))
    assert not set(hashed(["a", "b"], b"1")) & set(hashed(["a", "b"], b"2"))
    assert all(-(2**63) <= one < 2**63 for one in hashed([str(n) for n in range(100)], b"1"))


@pytest.mark.parametrize(
    ("calls", "place"),
    [
        ({"summarise": True}, "calls"), ({"transcribe": "perhaps"}, "calls.transcribe"), ({"url": "ftp://x"}, "calls.url"),
        ({"url": "https://user:word@x.example"}, "calls.url"), ({"language": "russian"}, "calls.language"), ({"language": "RU"}, "calls.language"),
        ({"model": "a\nb"}, "calls.model"), ({"instruction": "x" * 2001}, "calls.instruction"), ({"min_talk_s": -1}, "calls.min_talk_s"),
        ({"per_day_audio_s": 5}, "calls.per_day_audio_s"), ({"first_channel": "left"}, "calls.first_channel"), ({"x": 1}, "calls.x"),
        ({"consent": {"ru": "a"}}, "calls.consent.en"),
    ],
)  # fmt: skip
def test_what_cannot_be_said_of_calls(calls: dict[str, Any], place: str) -> None:
    with pytest.raises(ValidationError) as error:
        AiBlock.model_validate({"calls": calls})
    assert [".".join(map(str, one["loc"])) for one in error.value.errors()] == [place]


def test_the_key_is_sealed_elsewhere() -> None:
    block = AiBlock.model_validate(
        {"calls": {"transcribe": True, "api_key": Secret("canary"), "consent": "Мы говорим"}}
    )
    assert block.plain() == {"calls": {"transcribe": True, "consent": {"ru": "Мы говорим", "en": "Мы говорим"}}}
    again = settings_of({"ai": block.plain()}, {"calls.api_key": Secret("canary")})
    assert again == block
    assert "canary" not in repr(again)
