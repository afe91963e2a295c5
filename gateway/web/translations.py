"""The words of the admin UI in both languages: `texts/en.toml` and `texts/ru.toml`, equal keys, plurals by number.

A key reads like `calls.title`. A text with plural forms is a table with the forms of its language ("one", "few", "many",
"other") and takes `n`. Codes that come from actors and adapters have texts under a prefix; one without a text is shown as
it is. It never holds markup. Read `formats.py` next.
"""

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

LANGUAGES = ("en", "ru")


class Words:
    """One language."""

    def __init__(self, language: str, texts: Mapping[str, str | Mapping[str, str]]) -> None:
        self.language = language
        self.texts = texts

    def __call__(self, key: str, **values: Any) -> str:
        """The text of `key` with its values filled in. Raises KeyError: a text that is missing is a bug."""
        text = self.texts[key]
        if not isinstance(text, str):
            text = text[plural(self.language, values["n"])]
        return text.format_map(values) if values else text

    def code(self, prefix: str, code: str | None, *, owners: Iterable[str] = ()) -> str:
        """The text of a code under `prefix`, else the code itself; `owners` may have put their name before it."""
        return self.optional(prefix, code, owners=owners) or code or ""

    def optional(self, prefix: str, code: str | None, *, owners: Iterable[str] = ()) -> str:
        """The same, but empty where there is no text."""
        if not code:
            return ""
        for candidate in (code, *(code.removeprefix(f"{owner}_") for owner in owners)):
            text = self.texts.get(f"{prefix}.{candidate}")
            if isinstance(text, str):
                return text
        return ""


def plural(language: str, n: int) -> str:
    """The plural form for `n` things."""
    if language != "ru":
        return "one" if n == 1 else "other"
    if n % 10 == 1 and n % 100 != 11:
        return "one"
    return "few" if 2 <= n % 10 <= 4 and not 12 <= n % 100 <= 14 else "many"


FORMS = MappingProxyType({"en": frozenset({"one", "other"}), "ru": frozenset({"one", "few", "many"})})


def flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str | Mapping[str, str]]]:
    """Keys joined by dots. A table whose keys are all plural forms is a text."""
    for name, value in tree.items():
        key = f"{prefix}.{name}" if prefix else name
        if isinstance(value, str) or not value.keys() - {"one", "few", "many", "other"}:
            yield key, value
        else:
            yield from flat(value, key)


@cache
def words(language: str) -> Words:
    """The words of one of LANGUAGES."""
    text = files("gateway.web").joinpath("texts", f"{language}.toml").read_text("utf-8")
    return Words(language, MappingProxyType(dict(flat(tomllib.loads(text)))))


def preferred(accept_language: str) -> str | None:
    """The first of our languages in an Accept-Language header by weight, or None."""
    weighed: list[tuple[float, int, str]] = []
    for place, part in enumerate(accept_language[:500].split(",")):
        tag, _, weight = part.strip().partition(";q=")
        language = tag.partition("-")[0].lower()
        try:
            quality = float(weight) if weight else 1.0
        except ValueError:
            continue
        if language in LANGUAGES and quality > 0:
            weighed.append((-quality, place, language))
    return min(weighed)[2] if weighed else None
