"""Texts in two languages as TOML tables: keys joined by dots, plural forms by number, and what makes two languages equal.

Pure. The admin UI's texts (`gateway/web/translations.py`) and each adapter's (`adapters/folder.py`) are read with it.
"""

from collections.abc import Iterator, Mapping
from string import Formatter
from types import MappingProxyType
from typing import Any

LANGUAGES = ("en", "ru")
FORMS = MappingProxyType({"en": frozenset({"one", "other"}), "ru": frozenset({"one", "few", "many"})})
"""The plural forms of each language."""
_ALL_FORMS = frozenset({"one", "few", "many", "other"})

Text = str | Mapping[str, str]
"""A text, or its plural forms."""
Texts = Mapping[str, Text]
"""Texts of one language by key."""


def plural(language: str, n: int) -> str:
    """The plural form for `n` things."""
    if language != "ru":
        return "one" if n == 1 else "other"
    if n % 10 == 1 and n % 100 != 11:
        return "one"
    return "few" if 2 <= n % 10 <= 4 and not 12 <= n % 100 <= 14 else "many"


def flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Text]]:
    """Keys joined by dots. A table whose keys are all plural forms is a text."""
    for name, value in tree.items():
        key = f"{prefix}.{name}" if prefix else name
        if isinstance(value, str) or (value and not value.keys() - _ALL_FORMS):
            yield key, value
        else:
            yield from flat(value, key)


def unequal(texts: Mapping[str, Texts]) -> list[str]:
    """What is wrong with texts by language: keys that one lacks, wrong plural forms, different values to fill in."""
    first, *others = (texts[language] for language in LANGUAGES)
    problems = [f"{key}: not in every language" for other in others for key in sorted(first.keys() ^ other.keys())]
    for key in sorted(set(first).intersection(*others)):
        values = []
        for language in LANGUAGES:
            text = texts[language][key]
            if not isinstance(text, str) and text.keys() != FORMS[language]:
                problems.append(f"{key}: the forms in {language} must be {', '.join(sorted(FORMS[language]))}")
            values.append(_values([text] if isinstance(text, str) else text.values()))
        if any(one != values[0] for one in values):
            problems.append(f"{key}: the languages take different values")
    return problems


def _values(texts: Any) -> frozenset[str]:
    return frozenset(name for text in texts for _, name, _, _ in Formatter().parse(text) if name)
