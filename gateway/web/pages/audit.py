"""The audit trail: who did what to which object, old and new, with filters; and the same as a CSV file.

A company's people see its trail, operators of the installation their own beside it. The file is written as it is read, page by
page. Read `gateway/store/audit.py` for what a line is, `gateway/store/audit_chain.py` for how the trail is protected.
"""

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from types import MappingProxyType
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from quart import Blueprint, request
from quart_trio.wrappers import TrioResponse as Response

from adapters.abilities import statuses_of
from adapters.base import Adapter
from adapters.fields import FieldShape, shapes_of
from adapters.registry import adapters
from gateway.domain.ids import OPERATOR, Kind, TenantId
from gateway.store.audit import KINDS, AuditFilter, AuditLine, select_actions, select_audit
from gateway.store.postgres.pool import Connection
from gateway.web.csv_download import BATCH, batches, csv_download, separator
from gateway.web.pages.change_settings import CHANGED_MARK
from gateway.web.session.auth import UTC_ZONE, Gate
from gateway.web.session.surroundings import look_around
from gateway.web.site import Site, older_than, tenant, viewer
from gateway.web.translations import Words

SHOWN = 50
COLUMNS = ("at", "kind", "actor", "source", "action", "target", "detail", "old", "new")
FIELDS = ("who", "kind", "what", "object", "since", "until")
LONGEST_SHOWN = 120
_ROLE = re.compile(r"role: (\w+)")


def audit_texts(line: AuditLine, t: Words) -> tuple[str, str]:
    """Target and detail of a line as a person reads them: names of systems and of settings instead of codes."""
    known = adapters()
    target = found.title if (found := known.get(Kind(line.target.partition(":")[0]))) is not None else line.target
    if line.action.startswith("call."):
        target = target.replace(" ext. ", f" {t('audit.ext')} ")  # dialled once the call stands
    match line.action:
        case "call.refused":
            return target, t.code("refused", line.detail)
        case "status.set":
            words = (one for adapter in known.values() for one in statuses_of(adapter) if one.word == line.detail)
            status = next(words, None)
            return target, status.label[t.language] if status is not None else line.detail
        case "user.added" | "user.changed" | "user.invited" if line.detail:
            return target, _ROLE.sub(lambda found: f"{t('people.role')}: {t.code('role', found[1])}", line.detail)
        case "api_key.created":
            return target, ", ".join(t.code("keys", f"scope_{scope}") for scope in line.detail.split(", "))
        case "config.changed" | "pbx.changed" if line.detail:
            shapes = _shapes(_owner(line))
            return target, ", ".join(_changed_setting(part, shapes, t) for part in line.detail.split(", "))
        case _:
            return target, line.detail


def _owner(line: AuditLine) -> Adapter | None:
    """Whose settings a line is about: an integration names its kind, a PBX does not."""
    known = adapters()
    if line.action.startswith("pbx."):
        return next((one for one in known.values() if one.is_pbx), None)
    return known.get(Kind(line.target.partition(":")[0]))


def _shapes(owner: Adapter | None) -> Mapping[str, FieldShape]:
    shapes = shapes_of(owner.settings) if owner is not None else ()
    return {name: shape for shape in shapes for name in (shape.attribute, shape.name)}


def _label(name: str, shape: FieldShape | None, t: Words) -> str:
    """A stored name as the settings form, or the page of it, words it."""
    if shape is not None:
        return shape.label.get(t.language, name)
    if (adapter := adapters().get(Kind(name))) is not None:
        return adapter.title
    return t.optional("audit_field", name) or name


def _changed_setting(part: str, shapes: Mapping[str, FieldShape], t: Words) -> str:
    """`api_key: *** -> *** changed`, `domain` or `enabled: true` in the reader's words."""
    name, colon, rest = part.partition(": ")
    if name == "enabled":
        return t("audit.off" if rest == "false" else "audit.on")
    shown = _label(name, shapes.get(name), t)
    return f"{shown}: {t('audit.secret_changed')}" if colon and rest in CHANGED_MARK else shown


_ORDER_CODES = MappingProxyType(
    {"kind": "orders.kind", "status": "orders.status", "change_until": "orders.until", "cancel_until": "orders.until"}
)
"""Values of orders that are codes, by name: under what their texts stand."""


def changed_values(line: AuditLine, t: Words) -> list[tuple[str, str, str]]:
    """What differs, each with its label, the old and the new value as the reader's form words them. Secrets are `***`."""
    coded = _ORDER_CODES if line.action.startswith("order.") else {}
    old, new = (
        {
            name: t.code(coded[name], value) if name in coded and value else value
            for name, value in (values or {}).items()
        }
        for values in (line.old, line.new)
    )
    return list(_differing(old, new, _shapes(_owner(line)), t))


def _differing(
    old: Mapping[str, Any], new: Mapping[str, Any], shapes: Mapping[str, FieldShape], t: Words
) -> Iterator[tuple[str, str, str]]:
    for name in {**old, **new}:
        shape, before, after = shapes.get(name), old.get(name), new.get(name)
        label = _label(name, shape, t)
        if isinstance(before, dict) and isinstance(after, dict):
            inner = {one.name: one for one in shape.children} if shape is not None else {}
            differ = [part for part in {**before, **after} if before.get(part) != after.get(part)]
            ours, theirs = ({part: of[part] for part in differ if part in of} for of in (before, after))
            for part, was, now in _differing(ours, theirs, inner, t):
                yield f"{label}: {part}", was, now
        else:
            yield label, _cut(_worded(before, shape, t)), _cut(_worded(after, shape, t))


def _worded(value: Any, shape: FieldShape | None, t: Words) -> str:
    match value:
        case None | "" | [] | {}:
            return "—"
        case bool():
            return t("word.yes" if value else "word.no")
        case list():
            return ", ".join(_worded(one, None, t) for one in value)
        case dict():
            inner = {one.name: one for one in shape.children} if shape is not None else {}
            return ", ".join(f"{_label(n, inner.get(n), t)}: {_worded(v, inner.get(n), t)}" for n, v in value.items())
        case str() if shape is not None and shape.widget == "select":
            return next((label.get(t.language, value) for known, label in shape.options if known == value), value)
        case _:
            return str(value)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


def read_filter(sent: Mapping[str, str], zone: ZoneInfo) -> AuditFilter:
    """What a person looks for. A value that makes no sense does not narrow."""

    def text(name: str) -> str:
        return "".join(c for c in sent.get(name, "").strip()[:80] if c.isprintable())

    def day(name: str, plus: int = 0) -> datetime | None:
        try:
            chosen = date.fromisoformat(sent.get(name, "")) + timedelta(days=plus)
            return datetime.combine(chosen, time(), zone).astimezone(UTC)
        except (ValueError, OverflowError):
            return None

    kind = sent.get("kind", "")
    return AuditFilter(
        actor=text("who"), kind=kind if kind in KINDS else "", action=text("what"), target=text("object"),
        since=day("since"), until=day("until", 1),
    )  # fmt: skip


async def _page(
    conn: Connection, number: TenantId, before: int | None, wanted: AuditFilter
) -> tuple[list[AuditLine], list[str]]:
    return await select_audit(conn, number, before, SHOWN + 1, wanted), await select_actions(conn, number)


async def _show(site: Site, number: TenantId, zone: ZoneInfo, home: str) -> Response:
    before, wanted = request.args.get("before", ""), read_filter(request.args, zone)
    lines, actions = await site.deps.db.tenant(number, _page, number, older_than(before), wanted)
    t, sent = viewer().t, {name: request.args.get(name, "")[:80] for name in FIELDS}
    query = urlencode({name: value for name, value in sent.items() if value})
    return site.page(
        "audit.html", lines=[(line, *audit_texts(line, t), changed_values(line, t)) for line in lines[:SHOWN]],
        older=lines[SHOWN - 1].audit_id if len(lines) > SHOWN else None, first=not before, home=home, sent=sent, query=query,
        kinds=KINDS, actions=sorted(actions, key=lambda action: t.code("audit_action", action)),
    )  # fmt: skip


def _file(site: Site, number: TenantId, zone: ZoneInfo) -> Response:
    wanted, t, f = read_filter(request.args, zone), viewer().t, viewer().f

    async def read(before: int | None) -> tuple[list[tuple[str, ...]], int | None]:
        lines = await site.deps.db.tenant(number, select_audit, number, before, BATCH, wanted)
        return [_cells(line, t, f.zone) for line in lines], lines[-1].audit_id if len(lines) == BATCH else None

    name = f"{'' if number == OPERATOR else f'{number} '}{t('audit.title')} {datetime.now(zone):%Y-%m-%d}"
    between = separator(request.args.get("separator"), t.language)
    return csv_download(name, [t(f"audit.{column}") for column in COLUMNS], batches(read), between=between)


def _cells(line: AuditLine, t: Words, zone: ZoneInfo) -> tuple[str, ...]:
    target, detail = audit_texts(line, t)
    return (
        line.at.astimezone(zone).isoformat(timespec="milliseconds"), t(f"audit_kind.{line.kind}"), line.actor, line.source,
        t.code("audit_action", line.action), target, detail, _json(line.old), _json(line.new),
    )  # fmt: skip


def _json(values: Mapping[str, Any] | None) -> str:
    return "" if values is None else json.dumps(values, ensure_ascii=False)


def audit_pages(gate: Gate) -> Blueprint:
    """The page `/t/<number>/audit` and its file."""
    pages = Blueprint("audit", __name__, url_prefix="/t/<number>")
    pages.before_request(partial(look_around, gate))

    @pages.get("/audit")
    async def audit(number: str) -> Response:
        return await _show(gate.site, tenant().number, tenant().timezone, f"/t/{number}/audit")

    @pages.get("/audit.csv")
    async def audit_file(number: str) -> Response:
        return _file(gate.site, tenant().number, tenant().timezone)

    return pages


def operators_audit_pages(gate: Gate) -> Blueprint:
    """The page `/operators/audit` and its file: what is of no company, or of one that was deleted."""
    pages = Blueprint("operators_audit", __name__, url_prefix="/operators")
    pages.before_request(partial(look_around, gate))

    @pages.get("/audit")
    async def audit() -> Response:
        return await _show(gate.site, OPERATOR, UTC_ZONE, "/operators/audit")

    @pages.get("/audit.csv")
    async def audit_file() -> Response:
        return _file(gate.site, OPERATOR, UTC_ZONE)

    return pages
