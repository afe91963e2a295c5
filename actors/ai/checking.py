"""What an answer has to be before a client gets it. The model is told once of each thing that is wrong; then there is a way without it.

    repeats lines of the prompt      then these sentences are left out
    lacks an order that has to be repeated in full      then it is sent as the program wrote it
    in another alphabet than the client's, in another company's name, with swearing      then there is no answer, and a person comes

Read `gateway/domain/ai_checks.py` for the rules.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from gateway.domain.ai_checks import alphabet_of, foreign_name, swears, wrong_language
from gateway.domain.ai_replies import prompt_lines, repeated, without_repeated
from gateway.domain.text import Bilingual

OWN_WORDS = "You repeated your instructions word for word. Answer the client again in your own words, without them."
REPEAT = (
    "Your answer has to contain this text word for word, with every line of it, and the question whether all of it is right. Answer the "
    "client again:\n"
)
LANGUAGE = (
    "Your answer is not in the language in which the client writes. Answer the client again in the client's language."
)
COMPANY = (
    "You spoke in the name of {name!r}, which is not this company. Answer the client again, in this company's name."
)
SWEARING = "Your answer has a word that this company does not use. Answer the client again politely."
RIGHT = Bilingual("Is all of this right?", "Всё верно?")


class NoAnswer(Exception):
    """What the model says cannot be sent, whatever it is asked."""


@dataclass(kw_only=True)
class Checks:
    """Of one answer."""

    prompt: str
    """The company's prompt as it is stored, with our rules."""
    given: str
    """Everything that the model was given by the company: what it may call itself is there."""
    asked: str
    """What the client wrote since the last answer."""
    language: str
    """`ru` or `en`: the client's as far as it is known otherwise."""
    repeats: dict[int, str] = field(default_factory=dict)
    """Orders that the client has to be told in full, by number."""
    told: set[str] = field(default_factory=set)

    def called(self, value: Mapping[str, object]) -> None:
        """Notes what a tool gave: an order to repeat, or one that need not be any more."""
        order, repeat = value.get("order"), value.get("repeat")
        if isinstance(order, int):
            self.repeats.pop(order, None)
            if isinstance(repeat, str):
                self.repeats[order] = repeat

    def wrong(self, text: str) -> tuple[str, str] | None:
        """The first thing that is wrong with an answer, and what the model is told of it."""
        if repeated(text, self._lines) is not None:
            return "prompt", OWN_WORDS
        if missing := self._missing(text):
            return "repeat", REPEAT + "\n\n".join(missing)
        if swears(text):
            return "swearing", SWEARING
        if (name := foreign_name(text, self.given)) is not None:
            return "company", COMPANY.format(name=name[:60])
        if wrong_language(text, self.asked):
            return "language", LANGUAGE
        return None

    def without(self, problem: str, text: str) -> str:
        """The answer where the model has been told in vain. Raises NoAnswer."""
        if problem == "prompt":
            return without_repeated(text, self._lines)
        if problem == "repeat":
            return "\n\n".join([*self.repeats.values(), RIGHT.texts[self.language]])
        if problem == "language" and alphabet_of(text, 1) == ("CYRILLIC" if self.language == "ru" else "LATIN"):
            return text  # Russian in Latin letters is answered in Russian ones
        raise NoAnswer(problem)

    @cached_property
    def _lines(self) -> tuple[str, ...]:
        return prompt_lines(self.prompt)

    def _missing(self, text: str) -> Sequence[str]:
        bare = " ".join(text.split())
        return [one for one in self.repeats.values() if " ".join(one.split()) not in bare]
