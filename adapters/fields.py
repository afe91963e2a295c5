"""The fields of a settings class as people fill them in: the one source of set-up forms and of the registry's `config_schema`.

What a field is follows from its type: a switch for bool, a number, a list to choose from for a Literal, a line, a line for each
item, a line `key = value` for each pair, a group of fields for a nested class; rules, a line of JSON for each. It draws nothing and reads no value: read
`gateway/web/pages/setup.py` for the form and `adapters/catalogue.py` for the schema.
"""

import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from adapters.base import AdapterSettings, secret_fields

Widget = Literal["switch", "number", "secret", "line", "url", "select", "lines", "pairs", "group", "rules"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldShape:
    """One field of a settings class."""

    name: str
    """As it stands in a tenant file and in a form: its alias, where it has one."""
    attribute: str
    """As it is called in the class."""
    widget: Widget
    label: Mapping[str, str]
    help: Mapping[str, str]
    placeholder: str = ""
    advanced: bool = False
    required: bool = False
    default: Any = None
    """What it is where nothing is entered; None for a secret, for what is made by itself and for what has none."""
    options: Sequence[tuple[str, Mapping[str, str]]] = ()
    """The values of a select with their labels."""
    inner: type[AdapterSettings] | None = None
    """The class of a group."""
    children: Sequence["FieldShape"] = field(default=())


def required(model: type[AdapterSettings], name: str) -> str:
    """The English sentence for a field that is missing: where the outside system shows it."""
    help_en = next((shape.help.get("en") for shape in shapes_of(model) if shape.name == name), None)
    return f"field required: {help_en}" if help_en else "field required"


@cache
def shapes_of(model: type[AdapterSettings]) -> Sequence[FieldShape]:
    """The fields of a settings class, in its order."""
    secrets = secret_fields(model)
    return tuple(_shape(name, info, secret=name in secrets) for name, info in model.model_fields.items())


def _shape(name: str, info: FieldInfo, *, secret: bool) -> FieldShape:
    extra: Mapping[str, Any] = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    widget, inner = _widget(info, extra, secret=secret), _inner(info)
    key = info.alias or name
    default = None if secret or info.default is PydanticUndefined else info.default
    return FieldShape(
        name=key, attribute=name, widget=widget, label=extra.get("label") or {"en": key, "ru": key}, help=extra.get("help") or {},
        placeholder=str(extra.get("placeholder") or ""), advanced=bool(extra.get("advanced")), required=info.is_required(),
        default=default, options=_options(inner, extra) if widget == "select" else (),
        inner=inner if widget == "group" else None, children=shapes_of(inner) if widget == "group" else (),
    )  # fmt: skip


def _inner(info: FieldInfo) -> Any:
    """The type without `| None`."""
    kind = info.annotation
    if get_origin(kind) in (Union, types.UnionType):
        kind = next(part for part in get_args(kind) if part is not type(None))
    return kind


def _widget(info: FieldInfo, extra: Mapping[str, Any], *, secret: bool) -> Widget:
    kind = _inner(info)
    if secret:
        return "secret"
    if kind is bool:
        return "switch"
    if kind in (int, float):
        return "number"
    if get_origin(kind) is Literal:
        return "select"
    if extra.get("widget") == "url":
        return "url"
    if extra.get("widget") == "rules":
        return "rules"
    if isinstance(kind, type) and issubclass(kind, AdapterSettings):
        return "group"
    origin = get_origin(kind)
    if origin in (tuple, list, set, frozenset):
        return "lines"
    return "pairs" if isinstance(origin, type) and issubclass(origin, Mapping) else "line"


def _options(kind: Any, extra: Mapping[str, Any]) -> list[tuple[str, Mapping[str, str]]]:
    """The values of a `Literal`, each with its label or with itself."""
    labels = extra.get("options") or {}
    return [(str(value), labels.get(str(value), {"en": str(value), "ru": str(value)})) for value in get_args(kind)]
