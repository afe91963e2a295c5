"""Who hears of the installation's own trouble: `GATEWAY_NOTIFY_FILE`, read at the start.

email: [ops@gateway.example]
when: [error]
MESSENGER: [-1001234567890]         chats of a messenger
through: "0001"                     the company whose integration of that messenger writes there
"""

from pathlib import Path

import yaml
from pydantic import ValidationError

from actors.notices import Plan
from adapters.registry import adapters
from gateway.domain.ids import TenantId
from gateway.notify_block import NotifyBlock
from gateway.settings import SettingsError

NAME = "GATEWAY_NOTIFY_FILE"


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
