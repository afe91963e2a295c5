"""The AI operator's settings: what a file may say, what is stored, and which words clients get."""

from typing import Any

import pytest
from pydantic import ValidationError

from gateway.domain.ai import API_KEY, CAUSES, TEXTS, AiBlock, client_language, settings_of, tokens_of
from gateway.domain.ids import IntegrationKey
from gateway.domain.secret import Secret

WHOLE: dict[str, Any] = {
    "enabled": True, "llm": {"url": "https://llm.example/v1/", "api_key": "sk-1", "model": "m", "api": "responses"}, "quiet_s": 3.0,
    "hours": "working", "channels": ["telegram", "web_widget:shop"], "history_tokens": 6000, "max_reply_tokens": 600,
    "per_conversation_day": 60, "per_day_tokens": 2_000_000, "allow_links": ["June.Example", "кафе.бел"],
    "handoff": {"notify": ["telegram"], "after_failures": 2, "timeout_s": 60, "texts": {"asked": "Зову", "failed": {"ru": "Ой", "en": "Oh"}}},
}  # fmt: skip


def test_what_is_stored_has_no_secret_and_no_defaults() -> None:
    block = AiBlock.model_validate(WHOLE)
    plain = block.plain()
    assert "sk-1" not in str(plain)
    assert plain["llm"] == {"url": "https://llm.example/v1", "model": "m", "api": "responses"}
    assert "history_tokens" not in plain
    assert settings_of({"ai": plain}, {API_KEY: Secret("sk-1")}) == block
    assert AiBlock().plain() == {}
    assert settings_of({}, {}) == AiBlock()
    assert "sk-1" not in repr(block)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"quiet_s": 16}, ("quiet_s",)), ({"quiet_s": -1}, ("quiet_s",)), ({"hours": "night"}, ("hours",)),
        ({"channels": ["Telegram!"]}, ("channels", 0)), ({"llm": {"url": "llm.example"}}, ("llm", "url")),
        ({"llm": {"url": "https://u:p@llm.example"}}, ("llm", "url")), ({"llm": {"url": "https://llm.example?key=1"}}, ("llm", "url")),
        ({"llm": {"api": "batch"}}, ("llm", "api")), ({"llm": {"key": "x"}}, ("llm", "key")), ({"per_day_tokens": 0}, ("per_day_tokens",)),
        ({"allow_links": ["https://june.example"]}, ("allow_links", 0)), ({"allow_links": ["example"]}, ("allow_links", 0)),
        ({"handoff": {"texts": {"bye": "x"}}}, ("handoff", "texts", "bye", "[key]")), ({"handoff": {"timeout_s": 1}}, ("handoff", "timeout_s")),
        ({"handoff": {"texts": {"asked": {"ru": "x"}}}}, ("handoff", "texts", "asked", "en")), ({"temperature": 1}, ("temperature",)),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(change: dict[str, Any], place: tuple[Any, ...]) -> None:
    with pytest.raises(ValidationError) as refused:
        AiBlock.model_validate({"enabled": True, **change})
    assert [error["loc"] for error in refused.value.errors()] == [place]


def test_where_and_when_it_answers() -> None:
    block = AiBlock.model_validate(WHOLE)
    keys = ("telegram", "telegram:two", "web_widget", "web_widget:shop", "vk")
    assert [block.answers_in(IntegrationKey(key)) for key in keys] == [True, True, False, True, False]
    assert AiBlock(enabled=True).answers_in(IntegrationKey("vk"))
    assert not AiBlock().answers_in(IntegrationKey("vk"))
    cases = {"always": (True, True, True), "working": (True, False, True), "off_hours": (False, True, True)}
    for hours, expected in cases.items():
        found = AiBlock.model_validate({"hours": hours})
        assert tuple(found.works_at(opened) for opened in (True, False, None)) == expected


def test_words_for_clients() -> None:
    assert set(TEXTS) == set(CAUSES)
    handoff = AiBlock.model_validate(WHOLE).handoff
    assert (handoff.text("asked", "en"), handoff.text("failed", "en"), handoff.text("failed", "ru")) == (
        "Зову",
        "Oh",
        "Ой",
    )
    assert handoff.text("limit", "ru") == TEXTS["limit"].texts["ru"]
    named = [client_language(code, "ru") for code in ("ru", "be-BY", "en-US", "de", "")]
    assert named == ["ru", "ru", "en", "en", "ru"]
    assert client_language("", "en") == "en"


def test_tokens_are_counted_by_letters() -> None:
    assert tokens_of("слово " * 100) > tokens_of("words " * 100) > 100
    assert tokens_of("") == 1
