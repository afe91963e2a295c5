"""The set-up form of an integration or a PBX, made from its adapter's settings class: nothing here knows which one.

What an input is says `adapters/fields.py`. A secret is shown as `***`, which leaves it unchanged. The settings class validates the
input, and errors are shown by field. Read `gateway/web/pages/change_settings.py` for how settings are stored.
"""

import json
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from adapters.base import AdapterSettings, secret_fields
from adapters.fields import FieldShape, Widget, shapes_of
from gateway.domain.secret import MASK, Secret
from gateway.web.pages.change_settings import SecretsStay, settings_of_change
from gateway.web.pages.field_errors import ENTER_AGAIN, Texts, whole_and_fields
from gateway.web.session.flash import Flash

LONGEST_VALUE, LONGEST_RULES = 20_000, 200_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One input of the form: what it is, and what stands in it."""

    shape: FieldShape
    value: Any = ""
    error: Texts | None = None
    """What is wrong with it, by language."""
    first: bool = False
    """The first that is wrong: it gets the focus."""
    children: Sequence["Field"] = ()

    @property
    def name(self) -> str:
        """The name of the input."""
        return self.shape.name

    @property
    def widget(self) -> Widget:
        """The sort of input."""
        return self.shape.widget

    @property
    def advanced(self) -> bool:
        """Whether it is folded away."""
        return self.shape.advanced


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
    def entered(model: type[AdapterSettings], stored: Mapping[str, Any], sent: Mapping[str, str]) -> dict[str, Any]:
        """What was sent, as the settings class takes it, by the names of the form."""
        return _values(model, stored, sent)

    @staticmethod
    def settings_of(model: type[AdapterSettings], stored: Mapping[str, Any]) -> AdapterSettings | None:
        """Stored settings, or None where they are not valid any more."""
        try:
            return model.model_validate(dict(stored))
        except ValidationError:
            return None


def _fields(
    model: type[AdapterSettings],
    values: Mapping[str, Any],
    problems: Mapping[str, Texts],
    again: Set[str] = frozenset(),
) -> list[Field]:
    """`again`: stored secrets that are to be entered anew, so that nothing stands for them."""
    made: list[Field] = []
    for shape in shapes_of(model):
        key, info = shape.name, model.model_fields[shape.attribute]
        value = values.get(
            key, values.get(shape.attribute, info.get_default(call_default_factory=True, validated_data={}))
        )
        children: list[Field] = []
        if shape.inner is not None:
            inner = value.model_dump(by_alias=True) if isinstance(value, AdapterSettings) else value
            children = _fields(shape.inner, inner if isinstance(inner, Mapping) else {}, {})
        made.append(
            Field(
                shape=shape, value="" if shape.attribute in again else _shown(shape.widget, value),
                error=(wrong := problems.get(key, problems.get(shape.attribute))),
                first=wrong is not None and not any(one.first for one in made), children=children,
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
        case "rules":
            return "" if absent else "\n".join(_rule(one) for one in value)
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


def _rule(one: Any) -> str:
    """A rule as a line; a line that was no rule as it was entered."""
    if isinstance(one, AdapterSettings):
        one = one.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return one if isinstance(one, str) else json.dumps(one, ensure_ascii=False)


def _values(
    model: type[AdapterSettings], stored: Mapping[str, Any], sent: Mapping[str, str], at: str = ""
) -> dict[str, Any]:
    """What was sent, as the settings class takes it. What is missing or empty is left to the class's default."""
    values: dict[str, Any] = {}
    for shape in shapes_of(model):
        key = shape.name
        text = sent.get(at + key, "")[: LONGEST_RULES if shape.widget == "rules" else LONGEST_VALUE]
        match shape.widget:
            case "group" if shape.inner is not None:
                inner = stored.get(key, {})
                values[key] = _values(shape.inner, inner if isinstance(inner, Mapping) else {}, sent, f"{at}{key}.")
            case "switch":
                values[key] = text == "1"
            case "secret":
                if text.strip() == MASK:
                    if (current := stored.get(key)) is not None:
                        values[key] = current
                elif text.strip():
                    values[key] = Secret(text.strip())
            case "lines" | "rules":
                values[key] = tuple(line.strip() for line in text.splitlines() if line.strip())
            case "pairs":
                pairs = [line.partition("=") for line in text.splitlines() if line.strip()]
                values[key] = {left.strip(): right.strip() or None for left, _, right in pairs}
            case _:
                if text.strip():
                    values[key] = text.strip()
    return values
