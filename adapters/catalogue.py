"""The registry of outside systems that companies can connect, made from the adapters: what each is, and what it has to be given.

`entry` is one system in one language, as REST answers it and as the table `integration_registry` holds it. Nothing here is written by
hand: a new adapter is in it. Read `adapters/fields.py` for the fields.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from adapters.base import Adapter
from adapters.fields import FieldShape, Widget, shapes_of
from adapters.folder import read_folder
from adapters.registry import adapters

TYPES: Mapping[Widget, str] = {
    "line": "text", "secret": "password", "url": "url", "select": "select", "switch": "switch", "number": "number",
    "lines": "list", "pairs": "map", "group": "group", "rules": "list",
}  # fmt: skip
"""What `config_schema` calls a field of each form."""


def entries(language: str) -> list[dict[str, Any]]:
    """Every system, in the order of the adapters."""
    return [entry(adapter, language) for adapter in adapters().values()]


def entry(adapter: Adapter, language: str) -> dict[str, Any]:
    """One system with its texts in a language."""
    folder = read_folder(adapter.package)
    return {
        "provider": str(adapter.kind),
        "type": adapter.type,
        "name": adapter.title,
        "description": folder.about(language),
        "icon_url": icon_url(adapter),
        "config_schema": config_schema(shapes_of(adapter.settings), language),
        "docs_url": adapter.docs_url or None,
        "is_available": True,
    }


def icon_url(adapter: Adapter) -> str | None:
    """Where our own drawing of it is, below our public address; None where it has none."""
    return f"/icons/{adapter.kind}.svg" if read_folder(adapter.package).icon else None


def config_schema(shapes: Sequence[FieldShape], language: str) -> list[dict[str, Any]]:
    """The fields as data: what is optional stands there only where there is something. A group has its `fields`."""
    return [_schema(shape, language) for shape in shapes]


def _schema(shape: FieldShape, language: str) -> dict[str, Any]:
    made: dict[str, Any] = {
        "key": shape.name,
        "label": shape.label[language],
        "type": TYPES[shape.widget],
        "required": shape.required,
    }
    if shape.placeholder:
        made["placeholder"] = shape.placeholder
    if shape.options:
        made["options"] = [{"value": value, "label": label[language]} for value, label in shape.options]
    if text := shape.help.get(language):
        made["help_text"] = text
    if shape.advanced:
        made["advanced"] = True
    if isinstance(shape.default, str | int | float) and shape.default != "":
        made["default"] = shape.default
    elif isinstance(shape.default, tuple | list) and shape.default:
        made["default"] = [str(one) for one in shape.default]
    if shape.children:
        made["fields"] = config_schema(shape.children, language)
    return made
