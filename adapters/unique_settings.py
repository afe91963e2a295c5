"""Settings fields that are one integration's alone: credentials of ours, such as the id by which a CRM identifies itself, and
the id of the remote account to which a shared webhook is led.

Owns their least length and the hash by which the store tells them apart (`gateway/store/tenants.py`). Pure. Read
`adapters/base.py` for how a field is marked.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from adapters.base import AdapterSettings, marked_fields
from gateway.domain.ids import Kind
from gateway.domain.secret import MASK, Secret
from gateway.domain.text import Bilingual, texts_of

LEAST_UNIQUE = 24


def unique_hash(settings: AdapterSettings) -> str | None:
    """The SHA-256, in hexadecimal digits, of the field that is unique in the installation; None where there is none."""
    for name in marked_fields(type(settings), "unique"):
        if isinstance(value := getattr(settings, name), Secret) and value:
            return hashlib.sha256(value.reveal().encode("utf-8", "surrogatepass")).hexdigest()
    return None


def account_hash(kind: Kind, settings: AdapterSettings) -> str | None:
    """The SHA-256, in hexadecimal digits, of the remote account's id; None where there is none."""
    for name in marked_fields(type(settings), "account"):
        if value := account_text(getattr(settings, name)):
            return account_digest(kind, value).hex()
    return None


def account_text(value: Any) -> str:
    """The id of an account as it is compared; empty where there is none."""
    return (value.reveal() if isinstance(value, Secret) else str(value or "")).strip()


def account_digest(kind: Kind, account: str) -> bytes:
    """By what an account of a kind is told from any other."""
    return hashlib.sha256(f"{kind}:{account}".encode("utf-8", "surrogatepass")).digest()


def refuse_short(settings: AdapterSettings, stored: Mapping[str, Any]) -> None:
    """Raises ValidationError for a unique credential that was chosen anew and is short enough to be guessed. One that is
    stored already stays."""
    for name in marked_fields(type(settings), "unique"):
        value = getattr(settings, name)
        if isinstance(value, Secret) and value != stored.get(name) and len(value.reveal()) < LEAST_UNIQUE:
            text = Bilingual(
                f"must be at least {LEAST_UNIQUE} characters long; leave it out to have one made",
                f"не короче {LEAST_UNIQUE} знаков; оставьте пустым, и он создастся сам",
            )
            raise refused_field(type(settings), name, text)


def refused_field(model: type[AdapterSettings], name: str, text: str) -> ValidationError:
    """The error of one field, as pydantic would raise it. `text` repeats nothing that was entered."""
    return ValidationError.from_exception_data(
        model.__name__,
        [
            {
                "type": PydanticCustomError("refused", "{text}", {"text": text, "texts": dict(texts_of(text))}),
                "loc": (name,),
                "input": MASK,
            }
        ],
    )
