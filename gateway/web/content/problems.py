"""Problems of what was sent, by path and in both languages: `working_hours[0].from`."""

from collections.abc import Sequence

from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from gateway.domain.posts import Invalid
from gateway.domain.text import Bilingual
from gateway.web.pages.field_errors import sentence_of

Problem = tuple[str, str]
"""A path, and a `Bilingual` sentence."""


def path_of(place: Sequence[str | int], before: str = "") -> str:
    """`before`, then the steps of a place: `items[3].price`."""
    path = before
    for step in place:
        path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else step
    return path


def problems_of(error: ValidationError, before: str = "") -> list[Problem]:
    """Every problem of a model, by its path behind `before`. Nothing that was sent is repeated."""
    found: dict[str, str] = {}
    for one in error.errors(include_input=False, include_url=False):
        texts = sentence_of(one)
        place = [step for step in one["loc"] if step != "[key]" and not str(step).startswith("function-")]
        found.setdefault(path_of(place, before), Bilingual(texts["en"], texts["ru"]))
    return list(found.items())


def sentence(error: PydanticCustomError) -> Bilingual:
    """The sentence of a refusal of ours."""
    texts = (error.context or {})["texts"]
    return Bilingual(texts["en"], texts["ru"])


def refuse(path: str, en: str, ru: str) -> Invalid:
    """One problem, to be raised."""
    return Invalid(((path, Bilingual(en, ru)),))
