"""What is stored of how each integration of a tenant does: switch, last success, latest attempts, login, registration.

Inside one tenant, but for the one statement that keeps what old logs knew. Read `gateway/domain/statuses.py` next: it makes a
status of this.
"""

import json
from collections.abc import Sequence
from datetime import datetime

from gateway.domain.errors import REFUSED
from gateway.domain.ids import IntegrationKey, TenantId
from gateway.domain.statuses import Known, Outcome, RegistrationStanding
from gateway.store.postgres.pool import Connection

PASSING = (*sorted(REFUSED), "rate_limited", "unavailable", "bug")
"""Problems of jobs that say no more than that the other side did not answer as it should: attempts show that, too."""
OF_REGISTRATIONS = ("extensions", "registration", "statuses")
"""Jobs whose problems are the registration's."""
LOOKED_AT = 20
"""So many attempts of an integration are looked at, the newest."""


async def select_known(conn: Connection, tenant: TenantId) -> dict[IntegrationKey, Known]:
    """Every integration that is set up."""
    return (await select_known_of(conn, [tenant])).get(tenant, {})


async def select_known_of(conn: Connection, tenants: Sequence[TenantId]) -> dict[TenantId, dict[IntegrationKey, Known]]:
    """The same of several companies; one without integrations is missing."""
    rows = await conn.fetch(
        """
        SELECT i.tenant_id, i.integration_type, i.enabled, i.display_name, s.tested_at, s.changed_at,
               greatest(s.synced_at, (SELECT l.created_at FROM (
                   SELECT log_id, status, created_at FROM integration_logs x
                   WHERE x.tenant_id = i.tenant_id AND x.integration_type = i.integration_type ORDER BY x.log_id DESC LIMIT 200
               ) l WHERE l.status = 'done' ORDER BY l.log_id DESC LIMIT 1)) AS synced_at,
               (SELECT coalesce(json_agg(json_build_array(l.status, l.created_at) ORDER BY l.log_id DESC), '[]') FROM (
                   SELECT log_id, status, created_at FROM integration_logs x
                   WHERE x.tenant_id = i.tenant_id AND x.integration_type = i.integration_type ORDER BY x.log_id DESC LIMIT $2
               ) l)::text AS recent,
               EXISTS (SELECT FROM logins g WHERE g.tenant_id = i.tenant_id AND g.integration_type = i.integration_type
                                              AND g.expires_at > clock_timestamp()) AS login,
               (SELECT json_build_array(j.problem, j.detail) FROM integration_jobs j
                WHERE j.tenant_id = i.tenant_id AND j.integration_type = i.integration_type AND j.problem ~ '^[a-z_]{3,40}$'
                  AND j.problem <> ALL($3) AND j.name <> ALL($4) ORDER BY j.name LIMIT 1)::text AS found,
               m.problem, m.tried_at, m.state IS NOT NULL AND m.state <> 'new' AND m.told_version < m.version AS waits
        FROM integrations i
        LEFT JOIN integration_states s USING (tenant_id, integration_type)
        LEFT JOIN modules m USING (tenant_id, integration_type)
        WHERE i.tenant_id = ANY($1::text[]) ORDER BY i.tenant_id, i.integration_type
        """,
        list(tenants),
        LOOKED_AT,
        list(PASSING),
        list(OF_REGISTRATIONS),
    )
    found: dict[TenantId, dict[IntegrationKey, Known]] = {}
    for row in rows:
        found.setdefault(TenantId(row["tenant_id"]), {})[IntegrationKey(row["integration_type"])] = Known(
            enabled=row["enabled"],
            name=row["display_name"],
            tested_at=row["tested_at"],
            changed_at=row["changed_at"],
            synced_at=row["synced_at"],
            recent=[Outcome(status, datetime.fromisoformat(at)) for status, at in json.loads(row["recent"])],
            login=row["login"],
            problem=_pair(row["found"]),
            registration=RegistrationStanding(
                waits=row["waits"], problem=row["problem"] or "", refused=row["problem"] in REFUSED, since=row["tried_at"]
            ),
        )  # fmt: skip
    return found


def _pair(text: str | None) -> tuple[str, str] | None:
    if text is None:
        return None
    code, detail = json.loads(text)
    return code, detail


async def mark_tested(conn: Connection, tenant: TenantId, key: IntegrationKey, *, passed: bool) -> None:
    """The stored settings passed a test just now, or (`passed` False) were stored without one: its jobs are due with them. Nothing where
    it is not set up."""
    await conn.execute(
        """
        INSERT INTO integration_states AS s (tenant_id, integration_type, tested_at, changed_at)
        SELECT tenant_id, integration_type, CASE WHEN $3 THEN clock_timestamp() END, CASE WHEN NOT $3 THEN clock_timestamp() END
        FROM integrations WHERE tenant_id = $1 AND integration_type = $2
        ON CONFLICT (tenant_id, integration_type) DO UPDATE SET
            tested_at = coalesce(excluded.tested_at, s.tested_at), changed_at = coalesce(excluded.changed_at, s.changed_at)
        """,
        tenant,
        key,
        passed,
    )
    await conn.execute(
        """
        UPDATE integration_jobs SET due_at = now(), attempts = 0
        WHERE tenant_id = $1 AND integration_type = $2 AND name <> ALL($3::text[])
        """,
        tenant,
        key,
        list(OF_REGISTRATIONS),
    )


async def keep_last_successes(conn: Connection, keep_s: float) -> None:
    """Notes the last success of every integration whose log is about to be forgotten: of rows older than `keep_s`, of any tenant."""
    await conn.execute(
        """
        INSERT INTO integration_states AS s (tenant_id, integration_type, synced_at)
        SELECT l.tenant_id, l.integration_type, max(l.created_at)
        FROM integration_logs l JOIN integrations i USING (tenant_id, integration_type)
        WHERE l.created_at < now() - make_interval(secs => $1) AND l.status = 'done'
        GROUP BY l.tenant_id, l.integration_type
        ON CONFLICT (tenant_id, integration_type) DO UPDATE SET synced_at = greatest(s.synced_at, excluded.synced_at)
        """,
        keep_s,
    )
