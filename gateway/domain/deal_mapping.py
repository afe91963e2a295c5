"""What a deal of the source becomes in the target, by a route's mapping. Pure: time and domains are arguments.

    deal -> filter -> rules -> fields to be written, and why not where that is so -> digest of them

The digest leaves out what the time alone changes: the same state of a deal has the same digest however often it is reported.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from zoneinfo import ZoneInfo

from gateway.domain.deal_routes import _PLACE, DealRoute, FromField, FromNow, FromText, Rule

NO_VALUE, UNKNOWN_FIELD, UNKNOWN_STAGE, UNKNOWN_CURRENCY = (
    "no_value", "unknown_field", "unknown_stage", "unknown_currency",
)  # fmt: skip
LONGEST_TEXT = 60_000


@dataclass(frozen=True, slots=True)
class Place:
    """Where and when a deal is carried."""

    source_domain: str
    now: datetime
    """With a zone."""
    timezone: ZoneInfo


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a field has no value: a code and the value that it is about."""

    field: str
    code: str
    value: str = ""


@dataclass(frozen=True, slots=True)
class Mapped:
    """What is to be written. `fields` hold no field that keeps the target's value."""

    fields: Mapping[str, Any] = field(default_factory=dict)
    refused: tuple[Refusal, ...] = ()
    kept: tuple[str, ...] = ()
    """Fields that keep the target's value."""
    timed: tuple[str, ...] = ()
    """Fields whose value is the time alone."""


@dataclass(frozen=True, slots=True)
class DealSchema:
    """What a CRM knows of its deals; an empty part is not known."""

    fields: Mapping[str, "SchemaField"] = field(default_factory=dict)
    stages: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By pipeline: stage ids and their names."""
    pipelines: Mapping[str, str] = field(default_factory=dict)
    currencies: Mapping[str, str] = field(default_factory=dict)

    def stage_names(self) -> dict[str, str]:
        """All stages, with the pipeline's name before those of several."""
        several = len(self.stages) > 1
        return {
            stage: f"{self.pipelines.get(pipeline, pipeline)}: {name}" if several else name
            for pipeline, stages in self.stages.items()
            for stage, name in stages.items()
        }


@dataclass(frozen=True, slots=True)
class SchemaField:
    """One field of deals."""

    title: str
    type: str = "string"
    required: bool = False
    read_only: bool = False
    multiple: bool = False
    options: Mapping[str, str] = field(default_factory=dict)
    """Of a list: ids and their texts."""


def passes(route: DealRoute, deal: Mapping[str, Any]) -> str:
    """The first field of the filter that the deal does not fit; empty where it fits."""
    for name, wanted in route.filter.items():
        if not {_plain(one) for one in _list(deal.get(name))} & set(wanted):
            return name
    return ""


def map_deal(route: DealRoute, deal: Mapping[str, Any], place: Place) -> Mapped:
    """What the target is to hold."""
    fields: dict[str, Any] = {}
    refused: list[Refusal] = []
    kept: list[str] = []
    timed: list[str] = []
    for target, rule in route.mapping.items():
        match rule:
            case FromNow():
                timed.append(target)
                local = place.now.astimezone(place.timezone)
                fields[target] = (
                    place.now.isoformat(timespec="seconds") if rule.now == "iso" else local.date().isoformat()
                )
            case FromText():
                fields[target] = _filled(rule.text, route, deal, place)[:LONGEST_TEXT]
            case FromField(values=None):
                fields[target] = _value(deal.get(rule.field))
            case FromField():
                found = _looked_up(rule, deal.get(rule.field))
                if found is _KEEP:
                    kept.append(target)
                elif isinstance(found, Refusal):
                    refused.append(Refusal(target, found.code, found.value))
                else:
                    fields[target] = found
    return Mapped(fields, tuple(refused), tuple(kept), tuple(timed))


_KEEP = object()


def _looked_up(rule: FromField, value: Any) -> Any:
    values, given = rule.values or {}, value if isinstance(value, list | tuple) else [value]
    found: list[str] = []
    for one in given:
        text = _plain(one)
        if text in values:
            found.append(values[text])
        elif rule.otherwise == "keep":
            return _KEEP
        elif rule.otherwise is not None:
            found.append(rule.otherwise)
        else:
            return Refusal("", NO_VALUE, text[:200])
    return found if isinstance(value, list | tuple) else found[0]


def _filled(text: str, route: DealRoute, deal: Mapping[str, Any], place: Place) -> str:
    known = {"source.domain": place.source_domain, "source.id": _plain(deal.get("ID")), "route.name": route.name}
    return _PLACE.sub(
        lambda found: known[found[1]] if found[1] in known else _plain(deal.get(found[1].removeprefix("deal."))), text
    )


def judged(mapped: Mapped, schema: DealSchema, pipeline: str) -> tuple[Mapped, tuple[Refusal, ...]]:
    """The same without what the target would refuse or quietly leave out, and what was left out. `pipeline`: where the target's deal
    is or will be."""
    fields, refused, unknown = dict(mapped.fields), list(mapped.refused), list[Refusal]()
    for name in list(fields):
        known = schema.fields.get(name)
        if schema.fields and (known is None or known.read_only):
            unknown.append(Refusal(name, UNKNOWN_FIELD))
            del fields[name]
    stage = _plain(fields.get("STAGE_ID"))
    stages = schema.stages.get(pipeline, {})
    if stage and stages and stage not in stages:
        refused.append(Refusal("STAGE_ID", UNKNOWN_STAGE, stage[:200]))
    currency = _plain(fields.get("CURRENCY_ID"))
    if currency and schema.currencies and currency not in schema.currencies:
        refused.append(Refusal("CURRENCY_ID", UNKNOWN_CURRENCY, currency[:50]))
    return Mapped(fields, tuple(refused), mapped.kept, mapped.timed), tuple(unknown)


def digest(mapped: Mapped, contacts: Sequence[str], company: str) -> str:
    """Of what would be written, links included."""
    fields = {name: value for name, value in mapped.fields.items() if name not in mapped.timed}
    text = json.dumps([fields, sorted(contacts), company], sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


Difference = Literal["same", "changed", "empty_there", "kept", "refused", "time"]


@dataclass(frozen=True, slots=True)
class Compared:
    """One field of a dry run or a comparison: what the source gives, what the target has, and what that comes to."""

    field: str
    wanted: str
    there: str
    source: str
    result: Difference
    why: str = ""
    """The code of a refusal."""


def compare(
    route: DealRoute, deal: Mapping[str, Any], mapped: Mapped, there: Mapping[str, Any] | None
) -> tuple[Compared, ...]:  # fmt: skip
    """Field by field, in the mapping's order."""
    refused = {one.field: one for one in mapped.refused}
    found: list[Compared] = []
    for name, rule in route.mapping.items():
        has = shown((there or {}).get(name))
        source = shown(deal.get(rule.field)) if isinstance(rule, FromField) else ""
        if name in refused:
            found.append(Compared(name, refused[name].value, has, source, "refused", refused[name].code))
        elif name in mapped.kept:
            found.append(Compared(name, has, has, source, "kept"))
        elif name not in mapped.fields:
            found.append(Compared(name, "", has, source, "refused", UNKNOWN_FIELD))
        else:
            wanted = shown(mapped.fields[name])
            result: Difference = (
                "time" if name in mapped.timed
                else "same" if same(mapped.fields[name], (there or {}).get(name))
                else "empty_there" if not has
                else "changed"
            )  # fmt: skip
            found.append(Compared(name, wanted, has, source, result))
    return tuple(found)


def same(ours: Any, theirs: Any) -> bool:
    """Whether two values are one: a portal writes 100 as 100.00, yes as Y or 1, and a moment in its own zone."""
    left, right = _list(ours), _list(theirs)
    left, right = [one for one in left if _plain(one)], [one for one in right if _plain(one)]
    if len(left) != len(right):
        return False
    return all(_canonical(a) == _canonical(b) for a, b in zip(left, right, strict=True))


def _canonical(value: Any) -> str:
    text = _plain(value).strip()
    if len(text) < 20:
        try:
            return f"{float(text):.6f}"
        except ValueError:
            pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return {"Y": "1.000000", "N": "0.000000"}.get(text, text)
    return str(moment.timestamp()) if moment.tzinfo is not None else moment.isoformat()


def shown(value: Any) -> str:
    """A value as people read it."""
    return ", ".join(_plain(one) for one in _list(value) if _plain(one))[:500]


def source_fields(rule: Rule) -> tuple[str, ...]:
    """Fields of the source that a rule reads."""
    if isinstance(rule, FromField):
        return (rule.field,)
    if isinstance(rule, FromText):
        return tuple(name[5:] for name in _PLACE.findall(rule.text) if name.startswith("deal."))
    return ()


def _list(value: Any) -> list[Any]:
    if isinstance(value, list | tuple):
        return list(value)
    return [] if value is None else [value]


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "Y" if value else "N"
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return "" if value is None else str(value)


def _value(value: Any) -> Any:
    """A value as it is written: nothing clears the field."""
    if isinstance(value, list | tuple):
        return list(value)
    return "" if value is None or value is False else value
