"""Secrets out of what is shown: requests and responses in the log, texts of errors, results for people.

An answer is read raw, because a value that resembles a secret is still the value that was sent; what leaves the client for
a log or a page is masked here, in every spelling in which a secret may come back. Owns no I/O.
"""

import html
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote, quote_plus

from adapters.base import Delivered, Tested
from gateway.domain.secret import Secret, masked

SHOWN_LIMIT = 4096
"""Characters of a request or response that are stored for people."""
MOST_WORDS = 2000
"""Of an answer with tokens, that are looked for in the text of an error."""

_WORD = re.compile(r"[^\s\"'<>&=,;:{}\[\]\\]{16,}")
_CODE = re.compile(r"[a-z_]+")


class Misread(Exception):
    """An adapter's reader failed on an answer. Names the error's class and place: the error itself may hold the answer."""


def spellings(secret: Secret | str) -> set[str]:
    """The ways a secret can come back in a text: as it is, escaped for a URL, for JSON or for a page."""
    plain = secret.reveal() if isinstance(secret, Secret) else secret
    quoted = {quote(plain), quote(plain, safe=""), quote_plus(plain)}
    lower = {re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), text) for text in quoted}
    return {
        plain,
        json.dumps(plain)[1:-1],
        json.dumps(plain, ensure_ascii=False)[1:-1],
        html.escape(plain),
        *quoted,
        *lower,
    }


class Mask:
    """Some secrets in all their spellings, the longest first."""

    def __init__(self, secrets: Iterable[Secret | str] = ()) -> None:
        found = {spelling for secret in secrets for spelling in spellings(secret)}
        self.needles: Sequence[str] = sorted(found, key=len, reverse=True)

    def plus(self, secrets: Iterable[Secret | str]) -> "Mask":
        """With more secrets; itself without any."""
        if not (more := {spelling for secret in secrets for spelling in spellings(secret)}):
            return self
        made = Mask()
        made.needles = sorted({*self.needles, *more}, key=len, reverse=True)
        return made

    def text(self, text: str) -> str:
        """`text` without the secrets."""
        return masked(text, *self.needles)

    def shown(self, text: str) -> str:
        """`text` as it may be stored and shown: masked first, then cut, and without what a database cannot hold."""
        text = self.text(text).replace("\0", "\ufffd")
        return text if len(text) <= SHOWN_LIMIT else text[:SHOWN_LIMIT] + "…"

    def result(self, result: Any) -> Any:
        """What a reader made of an answer: texts for people are masked, everything else stays as it was sent."""
        match result:
            case Delivered():
                return replace(result, note=self.text(result.note), detail=self.text(result.detail))
            case Tested():
                findings = tuple(replace(one, detail=self.text(one.detail)) for one in result.findings)
                detail = result.detail
                masked_detail = (
                    self.text(detail)
                    if isinstance(detail, str)
                    else {one: self.text(text) for one, text in detail.items()}
                )
                return replace(result, detail=masked_detail, findings=findings)
            case _:
                return result

    def errors(self) -> "_Errors":
        """`with mask.errors():` whatever is raised within is masked."""
        return _Errors(self)

    def error(self, error: BaseException) -> None:
        """Masks an error in place, and cuts it off from those it hangs on."""
        error.__cause__ = error.__context__ = None
        error.args = tuple(self.text(arg) if isinstance(arg, str) else arg for arg in error.args)
        for name, value in vars(error).items():
            if isinstance(value, str):
                setattr(error, name, self.text(value))


class _Errors:
    """Sees an error pass and masks it. No `except`: nothing is handled here."""

    def __init__(self, mask: Mask) -> None:
        self._mask = mask

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:
            self._mask.error(error)


READING_FAULTS = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)
"""What a reader that does not understand an answer raises by mistake."""


def misread(error: BaseException) -> Misread:
    """The reader's fault without its text."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = f"{place.tb_frame.f_code.co_filename.rpartition('/')[2]}:{place.tb_lineno}" if place is not None else "?"
    return Misread(f"{type(error).__name__} at {where}")


def token_words(text: str) -> set[str]:
    """Whatever may be a token in an answer: long words that are no plain codes such as `unsupported_grant_type`."""
    words = set(_WORD.findall(text)[:MOST_WORDS])
    return {word for word in words if not _CODE.fullmatch(word)}


def values_of(value: Any) -> set[str]:
    """The texts of a request's fields, however deep, that are long enough to be secrets."""
    found: set[str] = set()
    waiting = [value]
    while waiting:
        match waiting.pop():
            case str(text) if len(text) >= 8 and not _CODE.fullmatch(text):
                found.add(text)
            case dict(fields):
                waiting += fields.values()
            case list(items) | tuple(items):
                waiting += items
    return found
