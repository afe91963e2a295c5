"""Who hears of trouble: the block of a company in the tenant file, and `GATEWAY_NOTIFY_FILE` for the installation, read at the start.

email: [ops@gateway.example]
when: [error]
MESSENGER: [-1001234567890]         chats of a messenger
through: "0001"                     the company whose integration of that messenger writes there
"""

from pathlib import Path
from typing import Annotated

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, model_validator

from actors.notices import Plan
from adapters.registry import adapters
from gateway.domain.ids import Kind, TenantId
from gateway.domain.notices import KINDS as TROUBLES
from gateway.domain.notices import Kind as TroubleKind
from gateway.settings import SettingsError

NAME = "GATEWAY_NOTIFY_FILE"
MOST_PLACES = 20
"""Chats of one messenger that hear of trouble."""


def email_address(text: str) -> str:
    """The address in lower case. Raises ValueError for what is none."""
    name, at, host = text.partition("@")
    if not (name and at and "." in host and " " not in text and text.isprintable()):
        raise ValueError("is not an e-mail address")
    return text.lower()


class NotifyBlock(BaseModel):
    """Who hears of trouble. Beside `email` and `when`, a field for each messenger that can show a text: a list of its chats."""

    model_config = ConfigDict(frozen=True, extra="allow")

    email: tuple[Annotated[str, AfterValidator(email_address)], ...] = ()
    when: tuple[TroubleKind, ...] = TROUBLES

    @model_validator(mode="after")
    def _places(self) -> "NotifyBlock":
        able = {kind: one for kind, one in adapters().items() if one.notice is not None}
        for name, places in (self.model_extra or {}).items():
            adapter = able.get(Kind(name))
            if adapter is None or adapter.notice is None:
                raise ValueError(f"{name}: no such field; there are email, when, {', '.join(able)}")
            if not isinstance(places, list | tuple) or len(places) > MOST_PLACES:
                raise ValueError(f"{name}: must be a list of at most {MOST_PLACES} chats")
            for place in places:
                adapter.notice(str(place), "")
        return self


def read_notify_file(file: Path | None) -> tuple[Plan | None, TenantId | None]:
    """The plan, and through which company messengers write. Raises SettingsError with every problem."""
    if file is None:
        return None, None
    try:
        values = yaml.safe_load(file.read_text("utf-8")) or {}
    except OSError as error:
        raise SettingsError([f"{NAME}: {file} cannot be read: {error.strerror}"]) from None
    except (UnicodeError, yaml.YAMLError):
        raise SettingsError([f"{NAME}: {file} is not YAML"]) from None
    if not isinstance(values, dict):
        raise SettingsError([f"{NAME}: {file} must hold email, when, chats of a messenger, and through"])
    through = values.pop("through", None)
    try:
        block = NotifyBlock.model_validate(values)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        problems = [
            f"{NAME}: {'.'.join(map(str, one['loc']))}: {one['msg'].removeprefix('Value error, ')}" for one in found
        ]
        raise SettingsError(problems) from None
    if block.model_extra and not through:
        raise SettingsError([f"{NAME}: through must name the company whose integration writes to these chats"])
    return Plan.of(block.model_dump(mode="json"), adapters()), TenantId(str(through)) if through else None
