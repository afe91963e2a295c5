"""Our registrations in outside systems, and what their users are doing.

A row of `modules` holds what a registration is to be (`state`) and how far the other side knows it (`version`, `told_version`). The map
itself stands in `user_extensions`; a trigger raises `version` with it and with the integration's settings. Keys of links are sealed and the engine's
alone. It talks to no outside system: read `actors/crm/registration.py` next.
"""

from collections.abc import Sequence
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
"""Users of a module whose status is stored without a number of ours."""


@dataclass(frozen=True, slots=True)
class RegistrationRow:
    """How one registration stands. `state` is new, active, inactive or deleted."""

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
        """Whether the other side has yet to be notified of something."""
        return self.state != "new" and self.told_version < self.version


@dataclass(frozen=True, slots=True)
class StatusLine:
    """What one user is doing, since when, and who set it."""

    status: str
    changed_by: str
    changed_at: datetime
    reported: bool


# The registration ----------------------------------------------------------------------------------------------------


async def select_registration(conn: Connection, tenant: TenantId, kind: IntegrationKey) -> RegistrationRow:
    """The registration; a new one where there is no row."""
    row = await conn.fetchrow(
        f"SELECT {_COLUMNS} FROM modules WHERE tenant_id = $1 AND integration_type = $2",  # noqa: S608 - constant columns
        tenant,
        kind,
    )
    return RegistrationRow(*row) if row is not None else RegistrationRow()


async def delete_left_registrations(conn: Connection) -> int:
    """Removes the deleted registrations of integrations that were removed before the other side could be notified. Returns how
    many."""
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
    over there is to be read before ours is sent for the first time."""
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
    """The link is revoked and its sessions end. `state` is inactive or deleted; `reported`: by the other side.
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
    """The other side could not be notified."""
    await conn.execute(
        "UPDATE modules SET tried_at = now(), problem = $3, problem_detail = $4 "
        "WHERE tenant_id = $1 AND integration_type = $2",
        tenant,
        kind,
        problem,
        storable(detail)[:1000],
    )


async def delete_registration(conn: Connection, tenant: TenantId, kind: IntegrationKey) -> None:
    """Removes a registration that is gone there too."""
    await conn.execute(
        "DELETE FROM modules WHERE tenant_id = $1 AND integration_type = $2 AND state = 'deleted'", tenant, kind
    )


# The map -------------------------------------------------------------------------------------------------------------


async def touch_map(conn: Connection, tenant: TenantId, kind: IntegrationKey, state: str, *, unread: bool) -> None:
    """The map was changed here: the other side has to be notified. `state` is that of a row which is not there yet, `unread`:
    ours is newer than any look at theirs."""
    await conn.execute(
        """
        INSERT INTO modules AS m (tenant_id, integration_type, version, saved_at, unread, state)
        VALUES ($1, $2, 1, now(), $3, $4)
        ON CONFLICT (tenant_id, integration_type) DO UPDATE SET
            version = m.version + 1, saved_at = coalesce(m.saved_at, now()), unread = excluded.unread
        """,
        tenant,
        kind,
        unread,
        state,
    )


async def mark_read(conn: Connection, tenant: TenantId, kind: IntegrationKey) -> None:
    """Their map was read and ours contains all of it: from now on ours holds."""
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
    """Stores what a user is doing now."""
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
    conn: Connection, tenant: TenantId, kind: IntegrationKey, user_id: str, status: str
) -> bool:
    """Stores the status that the other side reports. False, and nothing stored, for a user without a number in the map when
    so many others are known already: whoever calls us could name any."""
    room = await conn.fetchval(
        """
        SELECT EXISTS (SELECT FROM user_extensions WHERE tenant_id = $1 AND integration_type = $2 AND user_id = $3)
            OR EXISTS (SELECT FROM user_statuses WHERE tenant_id = $1 AND integration_type = $2 AND user_id = $3)
            OR (SELECT count(*) FROM user_statuses WHERE tenant_id = $1 AND integration_type = $2) < $4
        """,
        tenant,
        kind,
        user_id,
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
    conn: Connection, tenant: TenantId, kind: IntegrationKey, younger_than_s: float
) -> list[tuple[str, str]]:
    """What the other side does not know and is young enough to be true: user and status."""
    rows = await conn.fetch(
        "SELECT user_id, status FROM user_statuses WHERE tenant_id = $1 AND integration_type = $2 AND NOT told "
        "AND changed_at > now() - make_interval(secs => $3) ORDER BY changed_at",
        tenant,
        kind,
        younger_than_s,
    )
    return [(row[0], row[1]) for row in rows]
