"""Field mapping: which of our values a CRM gets in which of its fields. A list of rules in the settings of every CRM. Pure.

    {when: order, to: STAGE_ID, from: order.status, values: {new: NEW, done: WON}, default: EXECUTING}

`mapped` is the one place where rules are applied: what a codec gets is `{to: value}`, ready to be sent. A rule whose value is not known
or stands not among its `values` writes its `default`; without one it writes nothing. Read `gateway/domain/crm_sources.py` for the sources.
"""

import difflib
import json
import re
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_core import InitErrorDetails

from adapters.base import AdapterSettings, BadValue
from gateway.domain.configuration import Tenant
from gateway.domain.crm_sources import SOURCES, Facts, Value, When, value_of
from gateway.domain.text import has_breaking, refused

MOST_RULES = 100
MOST_VALUES = 200
LONGEST_VALUE = 500
_TO = re.compile(r"[^\s\x00-\x1f\x7f]{1,100}")


def _scalar(value: Any) -> Any:
    """A text, a number, or true and false, as files and programs write it; never a list or a map."""
    if isinstance(value, bool | int | float) and value == value and value not in (float("inf"), float("-inf")):
        return value
    if isinstance(value, str) and len(value) <= LONGEST_VALUE and not has_breaking(value):
        return value
    raise refused(
        f"must be a text of at most {LONGEST_VALUE} characters on one line, a number, true or false",
        f"нужен текст до {LONGEST_VALUE} знаков в одну строку, число, true или false",
    )


def _key(value: Any) -> Any:
    """A value of ours as it is compared: numbers and switches of a file become their texts."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


Scalar = Annotated[Value, BeforeValidator(_scalar)]


class MappingRule(AdapterSettings):
    """One rule."""

    when: When = Field(description="what it is for: call, contact, order or chat")
    to: str = Field(description="the CRM's name of the field")
    from_: str = Field(alias="from", description="the source, such as call.result")
    default: Scalar | None = Field(None, description="what is written where the source is not known")
    values: dict[Annotated[str, BeforeValidator(_key)], Scalar] = Field(
        default_factory=dict, max_length=MOST_VALUES, description="the CRM's value for each of ours"
    )

    @model_validator(mode="before")
    @classmethod
    def _line(cls, value: Any) -> Any:
        """As a line of a form holds it."""
        if not isinstance(value, str):
            return value
        try:
            found = json.loads(value)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise BadValue(
                'a rule such as {"when": "call", "to": "UF_CRM_1", "from": "call.result"} is expected',
                'нужно правило вида {"when": "call", "to": "UF_CRM_1", "from": "call.result"}',
            )
        return found

    @field_validator("to")
    @classmethod
    def _field_name(cls, value: str) -> str:
        if not _TO.fullmatch(value):
            raise BadValue(
                "the CRM's name of a field is expected, such as UF_CRM_1: 1 to 100 characters without spaces",
                "нужно имя поля в CRM, например UF_CRM_1: 1–100 знаков без пробелов",
            )
        return value

    @field_validator("from_")
    @classmethod
    def _source(cls, value: str, info: ValidationInfo) -> str:
        when = info.data.get("when")
        if when is None or value in SOURCES[when]:
            return value
        near = difflib.get_close_matches(value, list(SOURCES[when]), n=3, cutoff=0.5)
        hint = ", ".join(near or list(SOURCES[when])[:3])
        raise BadValue(
            f"there is no such source for {when}; did you mean {hint}",
            f"такого источника для {when} нет; возможно, {hint}",
        )


def check_rules(rules: Sequence[MappingRule], whens: Sequence[str]) -> tuple[MappingRule, ...]:
    """The rules, where a CRM takes all of them. Raises ValidationError with every one that it does not, by its place."""
    seen: dict[tuple[str, str], int] = {}
    problems: list[InitErrorDetails] = []

    def add(place: int, name: str, en: str, ru: str) -> None:
        problems.append({"type": refused(en, ru), "loc": (place, name), "input": None})

    for place, rule in enumerate(rules):
        if rule.when not in whens:
            add(
                place, "when", f"this CRM takes no fields for {rule.when}, only for {', '.join(whens) or 'nothing'}",
                f"эта CRM не принимает поля для {rule.when}, только для {', '.join(whens) or 'ничего'}",
            )  # fmt: skip
        elif (before := seen.setdefault((rule.when, rule.to), place)) != place:
            add(
                place, "to", f"the rule [{before}] writes into {rule.to} already",
                f"в {rule.to} уже пишет правило [{before}]",
            )  # fmt: skip
    if problems:
        raise ValidationError.from_exception_data("mapping", problems, hide_input=True)
    return tuple(rules)


def mapped(rules: Sequence[MappingRule], when: When, facts: Facts, tenant: Tenant) -> dict[str, Value]:
    """What is to be written into which field."""
    found: dict[str, Value] = {}
    for rule in rules:
        if rule.when != when:
            continue
        value = value_of(when, rule.from_, facts, tenant)
        if rule.values and value is not None:
            value = rule.values.get(_key(value))
        if value is None:
            value = rule.default
        if value is not None:
            found[rule.to] = value
    return found


def rules_of(settings: Any) -> Sequence[MappingRule]:
    """The rules of an integration; none where it is no CRM."""
    return getattr(settings, "mapping", ())
