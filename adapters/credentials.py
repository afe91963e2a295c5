"""Settings fields that many adapters have: ids of ours that outside systems send back, unguessable and made when absent."""

import re
import secrets
from typing import Annotated, Any

from pydantic import AfterValidator

from adapters.base import BadValue, setting
from gateway.domain.secret import Secret


def _shape(value: Secret) -> Secret:
    if not re.fullmatch(r"[0-9A-Za-z_-]{24,128}", value.reveal()):
        raise BadValue(
            "must be 24 to 128 letters, digits, - and _; leave it empty, and one is made",
            "от 24 до 128 латинских букв, цифр, - и _; оставьте пустым, и он создастся сам",
        )
    return value


UrlId = Annotated[Secret, AfterValidator(_shape)]
"""A secret that may be part of an address."""


def hook_id() -> Any:
    """The last part of the address that the outside system calls, `/hooks/KIND/HOOK_ID`."""
    return setting(
        en="Last part of the webhook's address",
        ru="Последняя часть адреса вебхука",
        help_en="Made by itself; nobody can guess it",
        help_ru="Создаётся сама; угадать её нельзя",
        secret=True,
        advanced=True,
        default_factory=lambda: Secret(secrets.token_urlsafe(32)),
    )


def made_secret(*, en: str, ru: str, help_en: str, help_ru: str) -> Any:
    """A `UrlId` of ours that is made where none is entered."""
    return setting(
        en=en, ru=ru, help_en=help_en, help_ru=help_ru, secret=True, advanced=True,
        default_factory=lambda: Secret(secrets.token_urlsafe(32)),
    )  # fmt: skip
