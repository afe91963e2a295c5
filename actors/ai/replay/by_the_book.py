"""Stands in for a model: names the tools and says the words that the corpus expects. For a look at what a model would be asked, where
there is none, and for tests of the scoring.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from actors.ai.replay.corpus import Step, Today
from adapters.llm.protocol import Called, Question, Result, Said, Text, ToolCall, Turn
from gateway.domain.ai import tokens_of

NAME = "by-the-book"
_RIGHT = {"ru": "Всё верно?", "en": "Is that right?"}
_PLAIN = {"ru": "Хорошо, записала. Что-нибудь ещё?", "en": "Fine, I have noted it. Anything else?"}
_HERE = {"ru": "Отвечаю на ваш вопрос:", "en": "To answer your question:"}


@dataclass
class ByTheBook:
    """Plays one conversation. `turn_to` names its step before the model is asked."""

    today: Today
    language: str
    plan: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    words: tuple[str, ...] = ()
    ordered: bool = False
    made: int = 0

    def turn_to(self, step: Step) -> None:
        """What it does in answer to this step."""
        wanted = step.expect
        self.plan, self.words = [], tuple(one.partition("|")[0] for one in wanted.says)
        if wanted.contact is not None:
            self.plan.append(("save_contact", wanted.contact.model_dump(exclude_none=True)))
        if wanted.items is not None and not wanted.agreed:
            items = [{"catalog_id": name, "quantity": str(many)} for name, many in wanted.items.items()]
            self.plan.append(("update_order" if self.ordered else "create_order", {"items": items}))
            self.ordered = True
        if wanted.booking is not None and not wanted.agreed:
            starts = f"{self.today.of(wanted.booking.day).isoformat()}T{wanted.booking.at}"
            party = {"party": wanted.booking.party} if wanted.booking.party is not None else {}
            item = {} if self.ordered else {"item": wanted.booking.item}
            self.plan.append(
                ("update_order" if self.ordered else "create_booking", {**item, "starts_at": starts, **party})
            )
            self.ordered = True
        if wanted.agreed:
            self.plan.append(("update_order", {"agreed": True}))
        if wanted.cancelled:
            self.plan.append(("update_order", {"cancel": True}))
        if wanted.call is not None:
            self.plan.append(("call_me_back", {"phone": wanted.call, "text": "call"}))
        elif wanted.request:
            self.plan.append(("create_request", {"text": step.client or "request"}))
        if wanted.hand_over:
            self.plan.append(("hand_over", {"reason": "other", "summary": step.client or "-"}))

    async def ask(self, question: Question, *, tries: int = 1, ended: bool = False) -> Said:
        """What the corpus expects of the step."""
        asked = sum(tokens_of(getattr(turn, "text", "")) for turn in question.turns)
        if self.plan and question.tools:
            name, arguments = self.plan.pop(0)
            self.made += 1
            call = ToolCall(f"call_{self.made}", name, json.dumps(arguments, ensure_ascii=False))
            return Said(text="", model=NAME, calls=(call,), prompt_tokens=asked, completion_tokens=20)
        text = self.said(question.turns)
        return Said(text=text, model=NAME, prompt_tokens=asked, completion_tokens=tokens_of(text))

    def said(self, turns: Sequence[Turn]) -> str:
        """The answer's words."""
        since = next((place for place, turn in reversed(list(enumerate(turns))) if _written(turn)), 0)
        repeats = [found for turn in turns[since:] if isinstance(turn, Result) and (found := _repeat(turn.text))]
        parts = [*repeats[-1:], *([_RIGHT[self.language]] if repeats else [])]
        if self.words:
            parts = [f"{_HERE[self.language]} {', '.join(self.words)}.", *parts]
        return "\n".join(parts) or _PLAIN[self.language]


def _written(turn: Turn) -> bool:
    return isinstance(turn, Text) and turn.role == "user" and not isinstance(turn, Called)


def _repeat(text: str) -> str:
    try:
        found = json.loads(text)
    except ValueError:
        return ""
    return str(found.get("repeat", "")) if isinstance(found, dict) else ""
