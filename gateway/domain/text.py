"""Texts: characters that cannot be in a value (controls, and whatever else breaks a line or is no character), and sentences
that machines get in English and people in their own language. Pure."""

import re
from collections.abc import Mapping, Sequence

from pydantic_core import PydanticCustomError

CONTROL_CLASS = r"\x00-\x1f\x7f"
"""C0 and DEL, for a character class of a pattern."""

_CONTROL = re.compile(f"[{CONTROL_CLASS}]")
_BREAKING = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def has_control(text: str) -> bool:
    """Whether an ASCII control character is in it: such a value cannot be part of a line of a protocol."""
    return _CONTROL.search(text) is not None


def has_breaking(text: str) -> bool:
    """The same with C1 controls, line and paragraph separators, and lone surrogates: such a text cannot be stored as one
    line of Unicode."""
    return _BREAKING.search(text) is not None


class Bilingual(str):
    """A sentence in English, as which it counts everywhere, that knows its Russian too."""

    texts: Mapping[str, str]

    def __new__(cls, en: str, ru: str) -> "Bilingual":
        """Both at once."""
        made = super().__new__(cls, en)
        made.texts = {"en": en, "ru": ru}
        return made


def texts_of(text: str) -> Mapping[str, str]:
    """A sentence by language; one that knows no other is the same in each."""
    return text.texts if isinstance(text, Bilingual) else {"en": text, "ru": text}


def refused(en: str, ru: str) -> PydanticCustomError:
    """What a pydantic validator of a model of ours raises: a sentence that pages can show in either language. It repeats no
    secret."""
    return PydanticCustomError("refused", "{text}", {"text": en, "texts": {"en": en, "ru": ru}})


def sentence(error: PydanticCustomError) -> Bilingual:
    """The sentence of a refusal of ours."""
    texts = (error.context or {})["texts"]
    return Bilingual(texts["en"], texts["ru"])


def path_of(place: Sequence[str | int], before: str = "") -> str:
    """`before`, then the steps of a place: `items[3].price`."""
    path = before
    for step in place:
        path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else step
    return path
