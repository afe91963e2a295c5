"""Our modules in outside systems, the maps of users to internal numbers, and what users are doing.

A module's row says what it is to be (`state`) and how far the other side knows it (`version`, `told_version`). The map
itself stands in the integration's settings, where the tenant file has it too; a trigger raises `version` with them. Keys of links are sealed and the engine's
alone. It talks to no outside system: read `actors/crm/registration.py` next.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from gateway.domain.configuration import Phone
from gateway.domain.ids import IntegrationKey, TenantId
from gateway.store.outbox import storable
from gateway.store.postgres.pool import Connection

_COLUMNS = (
    "state, registration, registered_at, version, told_version, told_at, tried_at, problem, problem_detail, "
    "unknown_users, saved_at, unread"
)

MOST_STATUSES = 1000
"""Users of a module whose status is kept without a number of ours."""


@dataclass(frozen=True, slots=True)
class ModuleRow:
    """How one module stands. `state` is new, active, inactive or deleted."""

    state: str = "new"
    registration: int = 0
    registered_at: datetime | None = None
    version: int = 0
    told_version: int = 0
    told_at: datetime | None = None
    tried_at: datetime | None = None
    problem: str = ""
    problem_detail: str = ""
    unknown_users: Sequence[str] = ()
    saved_at: datetime | None = None
    unread: bool = False

    @property
    def pending(self) -> bool:
        """Whether the other side has yet to be told of something."""
        return self.state != "new" and self.told_version < self.version


@dataclass(frozen=True, slots=True)
class StatusLine:
    """What one user is doing, since when, and who said so."""

    status: str
    changed_by: str
    changed_at: datetime
    reported: bool


# The module ----------------------------------------------------------------------------------------------------------


async def select_module(conn: Connection, tenant: TenantId, kind: IntegrationKey) -> ModuleRow:
    """The module; a new one where there is no row."""
    row = await conn.fetchrow(
        f"SELECT {_COLUMNS} FROM modules WHERE tenant_id = $1 AND integration_type = $2",  # noqa: S608 - constant columns
        tenant,
        kind,
    )
    return ModuleRow(*row) if row is not None else ModuleRow()


async def select_active_modules(conn: Connection) -> list[tuple[TenantId, IntegrationKey]]:
    """Of all tenants, those that are registered."""
    rows = await conn.fetch("SELECT tenant_id, integration_type FROM modules WHERE state = 'active'")
    return [(TenantId(row[0]), IntegrationKey(row[1])) for row in rows]


async def select_pending_modules(conn: Connection) -> list[tuple[TenantId, IntegrationKey, int, str]]:
    """Of all tenants, those the other side has to be told of, with what (the version) and why it could not be yet."""
    rows = await conn.fetch(
        "SELECT tenant_id, integration_type, version, problem FROM modules WHERE state <> 'new' AND told_version < version"
    )
    return [(TenantId(row[0]), IntegrationKey(row[1]), row[2], row[3]) for row in rows]


async def delete_left_modules(conn: Connection) -> int:
    """Forgets the deleted modules of integrations that were removed before the other side could be told: nobody can tell
    it any more. Returns how many."""
    done: str = await conn.execute(
        "DELETE FROM modules m WHERE state = 'deleted' AND NOT EXISTS (SELECT FROM integrations i "
        "WHERE i.tenant_id = m.tenant_id AND i.integration_type = m.integration_type)"
    )
    return int(done.rpartition(" ")[2])


async def select_link_key(conn: Connection, tenant: TenantId, kind: IntegrationKey) -> tuple[str, int, datetime] | None:
    """The sealed key, the registration whose link it signs, and since when that is; None where the link was revoked."""
    row = await conn.fetchrow(
        "SELECT link_key, registration, registered_at FROM modules "
        "WHERE tenant_id = $1 AND integration_type = $2 AND state = 'active' AND link_key <> ''",
        tenant,
        kind,
    )
    return (row["link_key"], row["registration"], row["registered_at"]) if row is not None else None


async def begin_registration(
    conn: Connection, tenant: TenantId, kind: IntegrationKey, link_key: str, *, unread: bool
) -> None:  # fmt: skip
    """A new registration with a key of its own; what the earlier one signed or opened ends with it. `unread`: the map
    over there is to be looked at before ours is told for the first time."""
    await conn.execute(
        """
        WITH ended AS (DELETE FROM sessions WHERE tenant_id = $1 AND scope = $2)
        INSERT INTO modules AS m (tenant_id, integration_type, state, registration, link_key, registered_at, version, unread)
        VALUES ($1, $2, 'active', 1, $3, now(), 1, $4)
        ON CONFLICT (tenant_id, integration_type) DO UPDATE SET
            state = 'active', registration = m.registration + 1, link_key = excluded.link_key, registered_at = now(),
            version = m.version + 1, problem = '', problem_detail = '', unread = m.unread OR excluded.unread
        """,
        tenant,
        kind,
        link_key,
        unread,
    )


async def end_registration(
    conn: Connection, tenant: TenantId, kind: IntegrationKey, state: str, *, reported: bool = False
) -> bool:
    """The link is revoked and its sessions end. `state` is inactive or deleted; `told`: the other side did it itself.
    False where nothing was to be ended."""
    done: str = await conn.execute(
        """
        WITH ended AS (DELETE FROM sessions WHERE tenant_id = $1 AND scope = $2)
        UPDATE modules SET state = $3, link_key = '', version = version + 1, problem = '', problem_detail = '',
                           told_version = CASE WHEN $4 THEN version + 1 ELSE told_version END
        WHERE tenant_id = $1 AND integration_type = $2 AND state NOT IN ('new', 'deleted', $3)
        """,
        tenant,
        kind,
        state,
        reported,
    )
    return done.endswith(" 1")


async def note_sent(
    conn: Connection, tenant: TenantId, kind: IntegrationKey, version: int, unknown_users: Sequence[str]
) -> None:
    """The other side knows `version`."""
    await conn.execute(
        """
        UPDATE modules SET told_version = greatest(told_version, $3), told_at = now(), tried_at = now(), problem = '',
                           problem_detail = '', unknown_users = $4
        WHERE tenant_id = $1 AND integration_type = $2
        """,
        tenant,
        kind,
        version,
        list(unknown_users),
    )


async def note_problem(conn: Connection, tenant: TenantId, kind: IntegrationKey, problem: str, detail: str) -> None:
    """The other side could not be told."""
    await conn.execute(
        "UPDATE modules SET tried_at = now(), problem = $3, problem_detail = $4 "
        "WHERE tenant_id = $1 AND integration_type = $2",
        tenant,
        kind,
        problem,
        storable(detail)[:1000],
    )


async def delete_module(conn: Connection, tenant: TenantId, kind: IntegrationKey) -> None:
    """Forgets a module that is gone there too."""
    await conn.execute(
        "DELETE FROM modules WHERE tenant_id = $1 AND integration_type = $2 AND state = 'deleted'", tenant, kind
    )


# The map -------------------------------------------------------------------------------------------------------------


async def select_map(
    conn: Connection, tenant: TenantId, kind: IntegrationKey, field: str, *, lock: bool = False
) -> dict[str, str | None] | None:
    """The map as it is stored, users whose number was taken away among them; None where nothing is set up. `lock` keeps
    it from changing until the transaction ends."""
    row = await conn.fetchrow(
        f"SELECT coalesce(settings -> $3, '{{}}')::text AS map FROM integrations "  # noqa: S608 - FOR UPDATE or nothing
        f"WHERE tenant_id = $1 AND integration_type = $2 {'FOR UPDATE' if lock else ''}",
        tenant,
        kind,
        field,
    )
    if row is None:
        return None
    found = json.loads(row["map"])
    return dict(found) if isinstance(found, dict) else {}


async def update_map(
    conn: Connection, tenant: TenantId, kind: IntegrationKey, field: str, extensions: Mapping[str, str | None]
) -> None:
    """Stores a whole map."""
    await conn.execute(
        "UPDATE integrations SET settings = jsonb_set(settings, ARRAY[$3::text], $4::text::jsonb, true) "
        "WHERE tenant_id = $1 AND integration_type = $2",
        tenant,
        kind,
        field,
        json.dumps(extensions),
    )


async def touch_map(conn: Connection, tenant: TenantId, kind: IntegrationKey, *, unread: bool) -> None:
    """The map was changed here: the other side has to be told. `unread`: ours is newer than any look at theirs."""
    await conn.execute(
        """
        INSERT INTO modules AS m (tenant_id, integration_type, version, saved_at, unread) VALUES ($1, $2, 1, now(), $3)
        ON CONFLICT (tenant_id, integration_type) DO UPDATE SET
            version = m.version + 1, saved_at = coalesce(m.saved_at, now()), unread = excluded.unread
        """,
        tenant,
        kind,
        unread,
    )


async def mark_read(conn: Connection, tenant: TenantId, kind: IntegrationKey) -> None:
    """Their map was looked at, and ours says all that it said: from now on ours is what holds."""
    await conn.execute(
        """
        INSERT INTO modules AS m (tenant_id, integration_type, version, saved_at, unread) VALUES ($1, $2, 0, now(), false)
        ON CONFLICT (tenant_id, integration_type) DO UPDATE SET saved_at = coalesce(m.saved_at, now()), unread = false
        """,
        tenant,
        kind,
    )


async def select_phones(conn: Connection, tenant: TenantId) -> tuple[Phone, ...]:
    """The tenant's internal numbers, as they are this moment."""
    rows = await conn.fetch(
        "SELECT number, owner, endpoints FROM phones WHERE tenant_id = $1 ORDER BY length(number), number", tenant
    )
    return tuple(Phone(row["number"], row["owner"], tuple(row["endpoints"])) for row in rows)


# What users are doing ------------------------------------------------------------------------------------------------


async def upsert_status(
    conn: Connection,
    tenant: TenantId,
    kind: IntegrationKey,
    user_id: str,
    status: str,
    changed_by: str,
    *,
    reported: bool,
) -> None:
    """Keeps what a user is doing now."""
    await conn.execute(
        """
        INSERT INTO user_statuses (tenant_id, integration_type, user_id, status, changed_by, told)
        VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (tenant_id, integration_type, user_id) DO UPDATE SET
            status = excluded.status, changed_by = excluded.changed_by, changed_at = now(), told = excluded.told
        """,
        tenant,
        kind,
        user_id,
        status,
        changed_by,
        reported,
    )


async def upsert_received_status(
    conn: Connection, tenant: TenantId, kind: IntegrationKey, field: str, user_id: str, status: str
) -> bool:
    """Keeps what the other side says a user is doing. False, and nothing kept, for a user who has no number in the map when
    so many others are known already: whoever calls us could name any."""
    room = await conn.fetchval(
        """
        SELECT EXISTS (SELECT FROM integrations WHERE tenant_id = $1 AND integration_type = $2 AND (settings -> $4) ? $3)
            OR EXISTS (SELECT FROM user_statuses WHERE tenant_id = $1 AND integration_type = $2 AND user_id = $3)
            OR (SELECT count(*) FROM user_statuses WHERE tenant_id = $1 AND integration_type = $2) < $5
        """,
        tenant,
        kind,
        user_id,
        field,
        MOST_STATUSES,
    )
    if room:
        await upsert_status(conn, tenant, kind, user_id, status, kind, reported=True)
    return bool(room)


async def mark_status_sent(conn: Connection, tenant: TenantId, kind: IntegrationKey, user_id: str, status: str) -> None:
    """The other side knows it, unless it was changed meanwhile."""
    await conn.execute(
        "UPDATE user_statuses SET told = true "
        "WHERE tenant_id = $1 AND integration_type = $2 AND user_id = $3 AND status = $4",
        tenant,
        kind,
        user_id,
        status,
    )


async def select_statuses(conn: Connection, tenant: TenantId, kind: IntegrationKey) -> dict[str, StatusLine]:
    """What the users are doing, by id."""
    rows = await conn.fetch(
        "SELECT user_id, status, changed_by, changed_at, told FROM user_statuses "
        "WHERE tenant_id = $1 AND integration_type = $2",
        tenant,
        kind,
    )
    return {row["user_id"]: StatusLine(*tuple(row)[1:]) for row in rows}


async def select_untold_statuses(
    conn: Connection, younger_than_s: float
) -> list[tuple[TenantId, IntegrationKey, str, str]]:
    """Of all tenants, what the other side has not heard and is young enough to be true: tenant, kind, user, status."""
    rows = await conn.fetch(
        "SELECT tenant_id, integration_type, user_id, status FROM user_statuses "
        "WHERE NOT told AND changed_at > now() - make_interval(secs => $1)",
        younger_than_s,
    )
    return [(TenantId(row[0]), IntegrationKey(row[1]), row[2], row[3]) for row in rows]
