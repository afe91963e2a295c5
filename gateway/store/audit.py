"""The trail of who did what and who was refused what. Rows are added, never changed, and
removed when their time is over; secrets never stand in them.

A trigger chains each row to the one before (`audit_chain.py`). The kind of the actor and the address it acts from come from
`ORIGIN`, which the listeners and the command line set, so that no function between has to hand them on.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_args

from gateway.domain.ids import TenantId
from gateway.domain.secret import MASK, Secret
from gateway.store.outbox import storable
from gateway.store.postgres.pool import Connection

Kind = Literal["person", "key", "cli", "operator", "system"]
KINDS: tuple[Kind, ...] = get_args(Kind)
LONGEST_VALUE = 2000
"""Characters of one text in `old` or `new`."""
MOST_NAMES = 200
LIKE_SPECIAL = str.maketrans({"\\": r"\\", "%": r"\%", "_": r"\_"})


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an operation comes from."""

    kind: Kind | None = None
    """None: by the name of the actor."""
    address: str = ""


ORIGIN: ContextVar[Origin] = ContextVar("audit_origin", default=Origin())  # noqa: B039 - frozen


@contextmanager
def acting(kind: Kind | None, address: str = "") -> Iterator[None]:
    """Everything recorded inside the block comes from there."""
    token = ORIGIN.set(Origin(kind, address))
    try:
        yield
    finally:
        ORIGIN.reset(token)


@dataclass(frozen=True, slots=True)
class AuditLine:
    """One operation. `action` names a text of the UI, such as `call.refused`."""

    audit_id: int
    at: datetime
    actor: str
    action: str
    target: str
    detail: str
    kind: str = "system"
    source: str = ""
    """The address it came from; empty where there is none."""
    old: Mapping[str, Any] | None = None
    """What differs, by name; secrets are `***`. None where there was nothing before."""
    new: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """Which operations are looked for; an empty field does not narrow."""

    actor: str = ""
    """A part of the actor's name or address."""
    kind: str = ""
    action: str = ""
    target: str = ""
    """A part of the object."""
    since: datetime | None = None
    until: datetime | None = None


def kind_of_actor(actor: str, origin: Origin) -> Kind:
    """What the actor is: as the origin states where a person, a key or the command line acts, else by its name. The subject of an
    outside service's token is whatever that service calls it, an address of e-mail too: by its origin it stays a key."""
    if origin.kind == "key":
        return "key" if actor else "system"
    if actor == "cli" or origin.kind == "cli":
        return "cli"
    if "@" in actor:
        return "operator" if origin.kind == "operator" else "person"
    if actor.startswith("gw_") or actor == "token":
        return "key"
    return "system"


async def insert_audit(
    conn: Connection, tenant: TenantId, actor: str, action: str, target: str, detail: str = "", *,
    old: Mapping[str, Any] | None = None, new: Mapping[str, Any] | None = None, origin: Origin | None = None,
) -> None:  # fmt: skip
    """Records one operation. `old` and `new` hold what differs, by name; a `Secret` becomes `***`. The tenant's trail is held
    until the transaction ends, so this comes last in it."""
    place = origin if origin is not None else ORIGIN.get()
    await conn.execute(
        "INSERT INTO audit (tenant_id, actor_kind, actor, source, action, target, detail, old, new) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        tenant,
        kind_of_actor(actor, place),
        storable(actor)[:200],
        storable(place.address)[:100],
        action,
        storable(target)[:200],
        storable(detail)[:2000],
        _json(old),
        _json(new),
    )


def difference(
    before: Mapping[str, Any] | None, after: Mapping[str, Any] | None
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """The names whose values differ, with the old and the new ones: what `insert_audit` takes."""
    ours, theirs = before or {}, after or {}
    names = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
    old = {name: ours[name] for name in names if name in ours}
    new = {name: theirs[name] for name in names if name in theirs}
    return (old if before is not None else None), (new if after is not None else None)


def _json(values: Mapping[str, Any] | None) -> str | None:
    if values is None:
        return None
    named = dict(list(values.items())[:MOST_NAMES])
    return json.dumps(_plain(named), ensure_ascii=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Secret):
        return MASK
    if isinstance(value, Mapping):
        return {storable(str(name))[:200]: _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(one) for one in list(value)[:MOST_NAMES]]
    if value is None or isinstance(value, bool | int | float):
        return value
    return storable(str(value))[:LONGEST_VALUE]


async def select_audit(
    conn: Connection, tenant: TenantId, before: int | None, limit: int, wanted: AuditFilter = AuditFilter()
) -> list[AuditLine]:
    """The latest operations, newest first; older than `before` where it is given."""
    rows = await conn.fetch(
        """
        SELECT audit_id, at, actor, action, target, detail, actor_kind, source, old::text AS old, new::text AS new FROM audit
        WHERE tenant_id = $1 AND ($2::bigint IS NULL OR audit_id < $2)
          AND ($4 = '' OR actor ILIKE '%' || $4 || '%') AND ($5 = '' OR actor_kind = $5) AND ($6 = '' OR action = $6)
          AND ($7 = '' OR target ILIKE '%' || $7 || '%')
          AND ($8::timestamptz IS NULL OR at >= $8) AND ($9::timestamptz IS NULL OR at < $9)
        ORDER BY audit_id DESC LIMIT $3
        """,
        tenant,
        before,
        limit,
        storable(wanted.actor).translate(LIKE_SPECIAL),
        wanted.kind,
        storable(wanted.action),
        storable(wanted.target).translate(LIKE_SPECIAL),
        wanted.since,
        wanted.until,
    )
    return [
        AuditLine(
            row["audit_id"], row["at"], row["actor"], row["action"], row["target"], row["detail"], row["actor_kind"],
            row["source"], _read(row["old"]), _read(row["new"]),
        )
        for row in rows
    ]  # fmt: skip


def _read(text: str | None) -> Mapping[str, Any] | None:
    found: Mapping[str, Any] | None = json.loads(text) if text is not None else None
    return found


async def select_actions(conn: Connection, tenant: TenantId) -> list[str]:
    """The kinds of operation in the tenant's trail."""
    rows = await conn.fetch("SELECT DISTINCT action FROM audit WHERE tenant_id = $1 ORDER BY action", tenant)
    return [row[0] for row in rows]
