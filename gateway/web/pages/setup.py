"""The set-up form of an integration or a PBX, made from its adapter's settings class: nothing here knows which one.

A field's input follows its type: a switch for bool, a number, a list to choose from for a Literal, a line, a line for each
item, a line `key = value` for each pair, a group of switches for a nested class. A secret is shown as `***`, which leaves it
unchanged. The settings class validates the input, and errors are shown by field. Read `adapters/base.py` for how fields are
declared, `gateway/web/pages/change_settings.py` for how they are stored.
"""

import types
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from adapters.base import AdapterSettings, secret_fields
from gateway.domain.secret import MASK, Secret
from gateway.web.pages.change_settings import SecretsStay, settings_of_change
from gateway.web.pages.field_errors import ENTER_AGAIN, Texts, whole_and_fields
from gateway.web.session.flash import Flash

LONGEST_VALUE = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One input of the form."""

    name: str
    widget: str
    """switch, number, secret, line, url, select, lines, pairs or group."""
    label: Mapping[str, str]
    help: Mapping[str, str]
    advanced: bool = False
    required: bool = False
    value: Any = ""
    error: Texts | None = None
    """What is wrong with it, by language."""
    first: bool = False
    """The first that is wrong: it gets the focus."""
    options: Sequence[tuple[str, Mapping[str, str]]] = ()
    """The values of a select with their labels."""
    children: Sequence["Field"] = ()


@dataclass(frozen=True, slots=True)
class SetupForm:
    """All inputs with their values; `settings` where what was entered is valid."""

    fields: Sequence[Field]
    settings: AdapterSettings | None = None
    errors: Sequence[Texts] = field(default=())
    """What is wrong with the whole and not with one field."""
    problems: Mapping[str, Texts] = field(default_factory=dict)
    """What is wrong with fields, by name."""
    pending: str = ""
    """The id under which secrets that were typed wait until the form is accepted."""

    @property
    def wrong(self) -> Sequence[Field]:
        """The fields that are wrong, in the form's order."""
        return [one for one in self.fields if one.error]

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
        unchanged = {name for name in secret_fields(model) if sent.get(at + name, "").strip() == MASK}
        try:
            settings = settings_of_change(model, stored, values, unchanged)
            return cls(_fields(model, values, {}), settings=settings)
        except SecretsStay as stay:
            problems: Mapping[str, Texts] = dict.fromkeys(stay.fields, ENTER_AGAIN)
            return cls(_fields(model, values, problems, stay.fields), problems=problems)
        except ValidationError as error:
            whole, problems = whole_and_fields(error)
            return cls(_fields(model, values, problems), errors=whole, problems=problems)

    @classmethod
    def again(cls, model: type[AdapterSettings], stored: Mapping[str, Any], flash: Flash, at: str = "") -> "SetupForm":
        """The form as it was sent and not accepted, with what was wrong. Secrets that were typed are held for it."""
        sent = {**flash.body["values"], **{name: secret.reveal() for name, secret in flash.secrets.items()}}
        problems, emptied = flash.body["problems"], frozenset(flash.body["empty"])
        fields = _fields(model, _values(model, stored, sent, at), problems, emptied)
        return cls(fields, errors=flash.body["errors"], problems=problems, pending=flash.flash_id)

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
    if get_origin(kind) is Literal:
        return "select"
    if isinstance(info.json_schema_extra, dict) and (widget := info.json_schema_extra.get("widget")):
        return str(widget)
    if isinstance(kind, type) and issubclass(kind, AdapterSettings):
        return "group"
    origin = get_origin(kind)
    if origin in (tuple, list, set, frozenset):
        return "lines"
    return "pairs" if isinstance(origin, type) and issubclass(origin, Mapping) else "line"


def _fields(
    model: type[AdapterSettings],
    values: Mapping[str, Any],
    problems: Mapping[str, Texts],
    again: Set[str] = frozenset(),
) -> list[Field]:
    """`again`: stored secrets that are to be entered anew, so that nothing stands for them."""
    secrets = secret_fields(model)
    made: list[Field] = []
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
                advanced=bool(extra.get("advanced")), required=info.is_required(),
                value="" if name in again else _shown(widget, value), error=(wrong := problems.get(key, problems.get(name))),
                first=wrong is not None and not any(one.first for one in made), children=children,
                options=_options(info, extra) if widget == "select" else (),
            )
        )  # fmt: skip
    return made


def _options(info: FieldInfo, extra: Mapping[str, Any]) -> list[tuple[str, Mapping[str, str]]]:
    """The values of a `Literal`, each with its label or with itself."""
    labels = extra.get("options") or {}
    return [
        (str(value), labels.get(str(value), {"en": str(value), "ru": str(value)})) for value in get_args(_inner(info))
    ]


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
                    if (current := stored.get(key)) is not None:
                        values[key] = current
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
