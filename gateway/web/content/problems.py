"""Problems of what was sent, by path and in both languages: `working_hours[0].from`. And what else a change's transaction holds."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from pydantic import ValidationError

from gateway.domain.posts import Invalid
from gateway.domain.text import Bilingual, path_of
from gateway.store.postgres.pool import Connection
from gateway.web.pages.field_errors import sentence_of

T = TypeVar("T")
Then = Callable[[Connection, T], Awaitable[None]]
"""What is done with the result of a change, in its transaction."""

Problem = tuple[str, str]
"""A path, and a `Bilingual` sentence."""


def problems_of(error: ValidationError, before: str = "") -> list[Problem]:
    """Every problem of a model, by its path behind `before`. Nothing that was sent is repeated."""
    found: dict[str, str] = {}
    for one in error.errors(include_input=False, include_url=False):
        texts = sentence_of(one)
        place = [step for step in one["loc"] if step != "[key]" and not str(step).startswith("function-")]
        found.setdefault(path_of(place, before), Bilingual(texts["en"], texts["ru"]))
    return list(found.items())


def refuse(path: str, en: str, ru: str) -> Invalid:
    """One problem, to be raised."""
    return Invalid(((path, Bilingual(en, ru)),))


async def done(conn: Connection, made: object) -> None:
    """Nothing more."""
