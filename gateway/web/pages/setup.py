"""The set-up form of an integration or a PBX, made from its adapter's settings class: nothing here knows which one.

A field's input follows its type: a switch for bool, a number, a line, a line for each item, a line `key = value` for each
pair, a group of switches for a nested class. A secret is shown as `***` and kept when left so. What a person entered
goes through the settings class, and its complaints come back field by field. Read `adapters/base.py` for how fields are
declared, `gateway/web/pages/change_settings.py` for how they are kept.
"""

import types
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from adapters.base import AdapterSettings, secret_fields
from gateway.domain.secret import MASK, Secret
from gateway.web.pages.change_settings import ENTER_AGAIN, SecretsStay, settings_of_change

LONGEST_VALUE = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One input of the form."""

    name: str
    widget: str
    """switch, number, secret, line, lines, pairs or group."""
    label: Mapping[str, str]
    help: Mapping[str, str]
    advanced: bool = False
    required: bool = False
    value: Any = ""
    error: str = ""
    again: bool = False
    """A stored secret that is to be entered again, for it would go elsewhere."""
    children: Sequence["Field"] = ()


@dataclass(frozen=True, slots=True)
class SetupForm:
    """All inputs with their values; `settings` where what was entered is valid."""

    fields: Sequence[Field]
    settings: AdapterSettings | None = None
    errors: Sequence[str] = field(default=())
    """What is wrong with the whole and not with one field."""

    @classmethod
    def of(
        cls,
        model: type[AdapterSettings],
        stored: Mapping[str, Any],
        sent: Mapping[str, str] | None = None,
        at: str = "",
    ) -> "SetupForm":
        """The form for stored settings, or for what was sent, checked against them. `at` stands before the names of the
        inputs."""
        if sent is None:
            return cls(_fields(model, stored, {}))
        values = _values(model, stored, sent, at)
        kept = {name for name in secret_fields(model) if sent.get(at + name, "").strip() == MASK}
        try:
            settings = settings_of_change(model, stored, values, kept)
            return cls(_fields(model, values, {}), settings=settings)
        except SecretsStay as stay:
            return cls(_fields(model, values, dict.fromkeys(stay.fields, ENTER_AGAIN), stay.fields))
        except ValidationError as error:
            problems: dict[str, str] = {}
            whole = []
            for one in error.errors(include_input=False, include_context=False, include_url=False):
                text = one["msg"].removeprefix("Value error, ")
                if one["loc"]:
                    name = str(one["loc"][0])
                    place = " ".join(str(part) for part in one["loc"][1:] if part != "[key]")
                    problems.setdefault(name, f"{place}: {text}" if place else text)
                else:
                    whole.append(text)
            return cls(_fields(model, values, problems), errors=tuple(whole))

    def refused(self, problems: Mapping[str, str]) -> "SetupForm":
        """The same form where the store had something against fields that were valid by themselves."""
        return SetupForm(tuple(replace(one, error=problems.get(one.name, one.error)) for one in self.fields))

    @staticmethod
    def settings_of(model: type[AdapterSettings], stored: Mapping[str, Any]) -> AdapterSettings | None:
        """Stored settings, or None where they are not valid any more."""
        try:
            return model.model_validate(dict(stored))
        except ValidationError:
            return None


def _alias(name: str, info: FieldInfo) -> str:
    return info.alias or name


def _inner(info: FieldInfo) -> Any:
    """The type without `| None`."""
    kind = info.annotation
    if get_origin(kind) in (Union, types.UnionType):
        kind = next(part for part in get_args(kind) if part is not type(None))
    return kind


def _widget(info: FieldInfo, *, secret: bool) -> str:
    kind = _inner(info)
    if secret:
        return "secret"
    if kind is bool:
        return "switch"
    if kind in (int, float):
        return "number"
    if isinstance(kind, type) and issubclass(kind, AdapterSettings):
        return "group"
    origin = get_origin(kind)
    if origin in (tuple, list, set, frozenset):
        return "lines"
    return "pairs" if isinstance(origin, type) and issubclass(origin, Mapping) else "line"


def _fields(
    model: type[AdapterSettings], values: Mapping[str, Any], problems: Mapping[str, str], again: Set[str] = frozenset()
) -> list[Field]:
    secrets = secret_fields(model)
    made = []
    for name, info in model.model_fields.items():
        extra: Mapping[str, Any] = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
        widget = _widget(info, secret=name in secrets)
        key = _alias(name, info)
        value = values.get(key, values.get(name, info.get_default(call_default_factory=True, validated_data={})))
        children: list[Field] = []
        if widget == "group":
            inner = value.model_dump(by_alias=True) if isinstance(value, AdapterSettings) else value
            children = _fields(_inner(info), inner if isinstance(inner, Mapping) else {}, {})
        made.append(
            Field(
                name=key, widget=widget, label=extra.get("label", {"en": key, "ru": key}), help=extra.get("help", {}),
                advanced=bool(extra.get("advanced")), required=info.is_required(), again=name in again,
                value="" if name in again else _shown(widget, value),
                error=problems.get(key, problems.get(name, "")), children=children,
            )
        )  # fmt: skip
    return made


def _shown(widget: str, value: Any) -> Any:
    absent = value is None or str(type(value).__name__) == "PydanticUndefinedType"
    match widget:
        case "secret":
            return MASK if isinstance(value, Secret) and value else ""
        case "switch":
            return bool(value) if not absent else False
        case "lines":
            return "" if absent else "\n".join(map(str, value)) if not isinstance(value, str) else value
        case "pairs":
            if isinstance(value, Mapping):
                return "\n".join(f"{k} = {'' if v is None else v}" for k, v in value.items())
            return "" if absent else str(value)
        case "group":
            return ""
        case _:
            return "" if absent else str(value)


def _values(
    model: type[AdapterSettings], stored: Mapping[str, Any], sent: Mapping[str, str], at: str = ""
) -> dict[str, Any]:
    """What was sent, as the settings class takes it. What is missing or empty is left to the class's default."""
    secrets = secret_fields(model)
    values: dict[str, Any] = {}
    for name, info in model.model_fields.items():
        key = _alias(name, info)
        widget = _widget(info, secret=name in secrets)
        text = sent.get(at + key, "")[:LONGEST_VALUE]
        match widget:
            case "group":
                inner = stored.get(key, {})
                values[key] = _values(_inner(info), inner if isinstance(inner, Mapping) else {}, sent, f"{at}{key}.")
            case "switch":
                values[key] = text == "1"
            case "secret":
                if text.strip() == MASK:
                    if (kept := stored.get(key)) is not None:
                        values[key] = kept
                elif text.strip():
                    values[key] = Secret(text.strip())
            case "lines":
                values[key] = tuple(line.strip() for line in text.splitlines() if line.strip())
            case "pairs":
                pairs = [line.partition("=") for line in text.splitlines() if line.strip()]
                values[key] = {left.strip(): right.strip() or None for left, _, right in pairs}
            case _:
                if text.strip():
                    values[key] = text.strip()
    return values
