"""The file that `GATEWAY_APPS_FILE` names: credentials of the installation's applications at outside providers, JSON or YAML.

    {meta: {app_id: …, app_secret: …, verify_token: …}, telegram: {api_id: …, api_hash: …}, …}

Read once, at the start. Errors name the place and never repeat a value. Read `adapters/apps.py` for what applications have.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import yaml
from pydantic import ValidationError

from adapters.apps import AppCredentials
from adapters.registry import apps
from gateway.settings import PREFIX, SettingsError

VARIABLE = f"{PREFIX}APPS_FILE"


def read_apps_file(path: Path | None) -> Mapping[str, AppCredentials]:
    """The applications by name; none without a file. Raises SettingsError with every problem at once."""
    if path is None:
        return MappingProxyType({})
    try:
        data = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise SettingsError([f"{VARIABLE}: cannot be read: {error.strerror}"]) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        # Without the cause: a parser's message may quote the line, and a line may hold a secret.
        raise SettingsError([f"{VARIABLE}: is neither JSON nor YAML{where}"]) from None
    if data is None:
        return MappingProxyType({})
    if not isinstance(data, dict):
        raise SettingsError([f"{VARIABLE}: must hold blocks by the application's name, such as `name: {{…}}`"])
    known, problems, found = apps(), list[str](), dict[str, AppCredentials]()
    for name, block in data.items():
        if not isinstance(name, str) or name not in known:
            problems.append(f"{VARIABLE}: {str(name)[:64]}: no such application; there are {', '.join(sorted(known))}")
            continue
        if not isinstance(block, dict):
            problems.append(f"{VARIABLE}: {name}: must be a block with {', '.join(known[name].model_fields)}")
            continue
        try:
            found[name] = known[name].model_validate({str(field): value for field, value in block.items()})
        except ValidationError as error:
            for item in error.errors(include_url=False, include_input=False, include_context=False):
                text = {"extra_forbidden": "no such field", "missing": "is missing"}.get(item["type"], item["msg"])
                place = ".".join([name, *(str(step)[:64] for step in item["loc"][:1])])
                problems.append(f"{VARIABLE}: {place}: {text.removeprefix('Value error, ')}")
    if problems:
        raise SettingsError(problems)
    return MappingProxyType(found)
