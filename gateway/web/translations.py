"""The words of the admin UI in both languages: `texts/en.toml` and `texts/ru.toml`, equal keys, plurals by number.

A key reads like `calls.title`. A text with plural forms is a table with the forms of its language ("one", "few", "many",
"other") and takes `n`. Codes that come from actors and adapters have texts under a prefix: an adapter's own in its folder
(`adapters/folder.py`), found by its kind; shared ones here. A code without a text is shown as it is. It never holds
markup. Read `formats.py` next.
"""

import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

from adapters.folder import read_folder
from adapters.registry import adapters
from gateway.domain.reasons import in_language
from gateway.domain.text import Bilingual
from gateway.domain.texts import LANGUAGES, Text, Texts, flat, plural


class Words:
    """One language: the UI's texts, and those of the adapters by kind."""

    def __init__(
        self, language: str, texts: Texts, of_adapters: Mapping[str, Texts] = MappingProxyType({}),
        sentences: Mapping[str, str] = MappingProxyType({}),
    ) -> None:  # fmt: skip
        """`sentences`: English ones of adapters, as errors hold them, and what they are in this language."""
        self.language = language
        self.texts = texts
        self.of_adapters = of_adapters
        self._sentences = sentences

    def __call__(self, key: str, **values: Any) -> str:
        """The text of `key` with its values filled in. Raises KeyError: a text that is missing is a bug."""
        text = self.texts[key]
        if not isinstance(text, str):
            text = text[plural(self.language, values["n"])]
        return text.format_map({name: self.shown(value) for name, value in values.items()}) if values else text

    def shown(self, value: Any) -> Any:
        """A value of a page: a sentence or a title that knows several languages in this one, everything else as it is."""
        return value.texts[self.language] if isinstance(value, Bilingual) else value

    def code(self, prefix: str, code: str | None, kind: str = "") -> str:
        """The text of a code under `prefix`, else the code itself. `kind` is the adapter that made the code, where it is
        known; a code may also bear it in front (`KIND_CODE`)."""
        return self.optional(prefix, code, kind) or code or ""

    def optional(self, prefix: str, code: str | None, kind: str = "") -> str:
        """The same, but empty where there is no text."""
        for text in self._candidates(prefix, code, kind) if code else ():
            if isinstance(text, str):
                return text
        return ""

    def detail(self, text: str | None) -> str:
        """What an error says beside its code, in this language where it is one of our own sentences."""
        said = in_language(text or "", self.language)
        for english, own in self._sentences.items():
            said = said.replace(english, own)
        return said

    def message_error(self, kind: str, text: str) -> str:
        """Why a message was not sent, `CODE: DETAIL`, with what to do about it where the adapter has words for the code."""
        code = text.partition(":")[0]
        said = self.optional("message_error", code, kind)
        return f"{said} ({code})" if said else self.detail(text)

    def template_field(self, name: str) -> str:
        """The label of a place of a template, `KIND.NAME`."""
        kind, _, place = name.partition(".")
        shown = str(int(place) + 1) if kind == "button" and place.isdecimal() else place
        return (
            self(f"inbox.template_field.{kind}", name=shown) if f"inbox.template_field.{kind}" in self.texts else name
        )

    def note(self, text: str) -> str:
        """What a delivery brought back beside success, `CODE: DETAIL`, in words."""
        code, colon, detail = text.partition(": ")
        return f"{self.optional('delivery_note', code) or self.code('health', code)}{colon and ' '}{detail}"

    def about(self, kind: str) -> str:
        """One sentence on an adapter's outside system; empty where it has none."""
        found = self.of_adapters.get(kind, {}).get("about", "")
        return found if isinstance(found, str) else ""

    def _candidates(self, prefix: str, code: str, kind: str) -> Iterator[Text | None]:
        key = f"{prefix}.{code}"
        yield self.of_adapters.get(kind, {}).get(key)
        yield self.texts.get(key)
        for owner, texts in self.of_adapters.items():
            if code.startswith(f"{owner}_"):
                bare = f"{prefix}.{code.removeprefix(f'{owner}_')}"
                yield texts.get(bare)
                yield self.texts.get(bare)
        if not kind:
            yield from (texts.get(key) for texts in self.of_adapters.values())


def words(language: str) -> Words:
    """The words of one of LANGUAGES."""
    return _words(language, tuple((kind, adapter.package) for kind, adapter in adapters().items()))


@cache
def _words(language: str, packages: tuple[tuple[str, str], ...]) -> Words:
    text = files("gateway.web").joinpath("texts", f"{language}.toml").read_text("utf-8")
    folders = {kind: read_folder(package).texts for kind, package in packages}
    of_adapters = {kind: texts[language] for kind, texts in folders.items()}
    sentences = {
        str(english): str(texts[language][key])
        for texts in folders.values() for key, english in texts["en"].items() if key.startswith("reason.") and language != "en"
    }  # fmt: skip
    return Words(language, MappingProxyType(dict(flat(tomllib.loads(text)))), MappingProxyType(of_adapters), sentences)


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
