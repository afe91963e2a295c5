"""What the demo's servers make of a recording: a conversation in a pizzeria, as long as the sound is, and what came of it."""

from dataclasses import dataclass, field
from typing import Any

from tests.sandbox.llm import KEY, MODEL, LanguageModel, Step, said
from tests.sandbox.transcriber import Asked, Transcriber, segment
from tests.sound import TURN_S

SAID = (
    "Пиццерия, добрый день!", "Здравствуйте, хочу заказать две маргариты.", "Конечно. К какому времени?", "К семи вечера, если можно.",
    "Можно. Куда доставить?", "На Садовую, дом пять.", "Записала. С вас двадцать пять рублей.", "Хорошо, спасибо.",
)  # fmt: skip
SUMMARY = "Клиент заказал две маргариты с доставкой на Садовую, 5.\nДоговорились: к 19:00, 25 рублей.\nДальше: передать заказ на кухню."


def heard(asked: Asked) -> list[dict[str, Any]]:
    """One sentence a turn."""
    turns = int(asked.seconds / TURN_S)
    return [segment(SAID[n % len(SAID)], n * TURN_S, (n + 1) * TURN_S - 0.3) for n in range(turns)]


def _summary(body: dict[str, Any]) -> Step:
    return said(SUMMARY)


@dataclass(frozen=True)
class CallTexts:
    """Both servers."""

    speech: Transcriber = field(default_factory=lambda: Transcriber(hear=heard))
    model: LanguageModel = field(default_factory=lambda: LanguageModel(reply=_summary))

    def block(self) -> dict[str, Any]:
        """The block `ai` of a company that uses them."""
        return {
            "llm": {"url": self.model.url, "api_key": KEY, "model": MODEL},
            "calls": {
                "transcribe": True, "summarise": True, "url": self.speech.url, "api_key": self.speech.key, "min_talk_s": 2,
                "consent": {"ru": "Об этом говорит приветствие.", "en": "The greeting says so."},
            },
        }  # fmt: skip
