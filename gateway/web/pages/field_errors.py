"""The validation errors of a settings class, as sentences in both languages.

pydantic's own kinds of error have texts under `field_error`; an adapter's validator brings its text in both languages
(`adapters.base.BadValue`). Knows no adapter. Read `setup.py` next.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from adapters.base import BadValue
from gateway.domain.texts import LANGUAGES
from gateway.web.translations import words

Texts = Mapping[str, str]
"""A sentence by language."""

TAKEN: Texts = MappingProxyType({language: words(language)("setup.taken") for language in LANGUAGES})
"""Error for a client id that another integration of the installation has. It does not reveal whose."""

ENTER_AGAIN: Texts = MappingProxyType({language: words(language)("setup.enter_again") for language in LANGUAGES})

_LIMITS = ("min_length", "max_length", "gt", "ge", "lt", "le", "expected", "actual_length")


def sentence_of(error: Mapping[str, Any]) -> Texts:
    """The sentence for one error of `ValidationError.errors()`, with its context."""
    context = error.get("ctx") or {}
    cause = context.get("error")
    if isinstance(cause, BadValue):
        return cause.texts
    if isinstance(texts := context.get("texts"), dict):
        return texts
    kind = str(error["type"])
    if kind == "value_error":
        # A library's ValueError, or a validator with one language only: its text is English.
        text = str(error["msg"]).removeprefix("Value error, ")
        return {language: text if language == "en" else words(language)("field_error.other") for language in LANGUAGES}
    values = {
        name: f"{value:g}" if isinstance(value, float) else str(value)
        for name, value in context.items()
        if name in _LIMITS
    }
    made = {}
    for language in LANGUAGES:
        t = words(language)
        key = f"field_error.{kind}"
        try:
            made[language] = t(key, **values)
        except KeyError:
            made[language] = t("field_error.other")
    return made


def whole_and_fields(error: ValidationError) -> tuple[list[Texts], dict[str, Texts]]:
    """Errors of the whole form, and errors by field. The place within a list or map stands before the sentence."""
    whole: list[Texts] = []
    fields: dict[str, Texts] = {}
    for one in error.errors(include_input=False, include_url=False):
        sentence = sentence_of(one)
        if not one["loc"]:
            whole.append(sentence)
            continue
        place = " ".join(str(part + 1 if isinstance(part, int) else part) for part in one["loc"][1:] if part != "[key]")
        fields.setdefault(
            str(one["loc"][0]),
            {language: f"{place}: {text}" for language, text in sentence.items()} if place else sentence,
        )
    return whole, fields
