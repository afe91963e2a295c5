"""Tenants and what belongs to their configuration. Credentials stand here sealed; opening them is the reader's.

Read `gateway.cache` next: it turns these rows into snapshots.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from gateway.domain.ids import TenantId
from gateway.domain.secret import MASK
from gateway.store.postgres.pool import Connection

CLIENT_ID_TAKEN = "integrations_client_id"
"""The constraint by which two integrations never share a client id."""
ACCOUNT_TAKEN = "integrations_account"
"""The constraint by which two integrations of a kind never lead to one account of a shared webhook."""


@dataclass(frozen=True, slots=True)
class LinkRow:
    """A PBX or an integration: `settings` in the clear, `secrets` sealed."""

    name: str
    """The PBX's name; the integration's key."""
    kind: str
    enabled: bool
    settings: Mapping[str, Any]
    secrets: Mapping[str, str]
    client_id_hash: str | None = None
    """Of an integration's id that no other of the installation may have: its SHA-256 in hexadecimal digits."""
    account_hash: str | None = None
    """Of the remote account to which webhooks of a shared address are led, likewise."""


@dataclass(frozen=True, slots=True)
class TenantRow:
    """Everything of one tenant's configuration, as it is stored."""

    tenant: TenantId
    name: str
    timezone: str
    country: str
    language: str
    token_hash: bytes | None
    data_key: str
    options: Mapping[str, Any]
    version: int
    phones: tuple[tuple[str, str, tuple[str, ...]], ...]
    pbxes: tuple[LinkRow, ...]
    integrations: tuple[LinkRow, ...]
    user_extensions: Mapping[str, Mapping[str, str | None]] = field(default_factory=dict)
    """By the integration's key, then by the user's id."""
    secrets: Mapping[str, str] = field(default_factory=dict)
    """Of the options, sealed, by name."""


async def select_tenants(
    conn: Connection, only: Sequence[TenantId] | None = None, *, being_deleted: bool = False
) -> list[TenantRow]:
    """All tenants, or the named ones, each with its phones, PBXes and integrations, in one consistent look. Those that are being
    deleted exist no more, and are found by `being_deleted` alone."""
    rows = await conn.fetch(
        """
        SELECT t.tenant_id, t.name, t.timezone, t.country, t.language, t.token_hash, t.data_key, t.options::text AS options,
               t.secrets::text AS secrets,
               coalesce(v.version, 0) AS version,
               (SELECT coalesce(json_agg(json_build_array(p.number, p.owner, p.endpoints)
                                         ORDER BY length(p.number), p.number), '[]')
                FROM phones p WHERE p.tenant_id = t.tenant_id)::text AS phones,
               (SELECT coalesce(json_agg(json_build_array(x.name, x.pbx_type, x.enabled, x.settings, x.secrets)
                                         ORDER BY x.name), '[]')
                FROM pbxes x WHERE x.tenant_id = t.tenant_id)::text AS pbxes,
               (SELECT coalesce(json_agg(json_build_array(i.integration_type, split_part(i.integration_type, ':', 1), i.enabled, i.settings,
                                                          i.secrets, encode(i.client_id_hash, 'hex'), encode(i.account_hash, 'hex'))
                                         ORDER BY i.ordinal, i.integration_type), '[]')
                FROM integrations i WHERE i.tenant_id = t.tenant_id)::text AS integrations,
               (SELECT coalesce(json_object_agg(m.integration_type, m.map), '{}')
                FROM (SELECT e.integration_type, json_object_agg(e.user_id, e.extension ORDER BY length(e.user_id), e.user_id) AS map
                      FROM user_extensions e WHERE e.tenant_id = t.tenant_id GROUP BY 1) AS m)::text AS user_extensions
        FROM tenants t LEFT JOIN tenant_versions v USING (tenant_id)
        WHERE ($1::text[] IS NULL OR t.tenant_id = ANY($1::text[]))
          AND $2 = EXISTS (SELECT FROM tenant_deletions d WHERE d.tenant_id = t.tenant_id)
        ORDER BY t.tenant_id
        """,
        list(only) if only is not None else None,
        being_deleted,
    )
    return [
        TenantRow(
            tenant=TenantId(row["tenant_id"]),
            name=row["name"],
            timezone=row["timezone"],
            country=row["country"],
            language=row["language"],
            token_hash=row["token_hash"],
            data_key=row["data_key"],
            options=json.loads(row["options"]),
            version=row["version"],
            phones=tuple((number, owner, tuple(ends)) for number, owner, ends in json.loads(row["phones"])),
            pbxes=tuple(LinkRow(*link) for link in json.loads(row["pbxes"])),
            integrations=tuple(LinkRow(*link) for link in json.loads(row["integrations"])),
            user_extensions=json.loads(row["user_extensions"]),
            secrets=json.loads(row["secrets"]),
        )
        for row in rows
    ]


async def select_versions(conn: Connection) -> dict[TenantId, int]:
    """The version of every tenant that exists: what the caches compare themselves with."""
    rows = await conn.fetch(
        "SELECT t.tenant_id, coalesce(v.version, 0) FROM tenants t LEFT JOIN tenant_versions v USING (tenant_id) "
        "WHERE NOT EXISTS (SELECT FROM tenant_deletions d WHERE d.tenant_id = t.tenant_id)"
    )
    return {TenantId(row[0]): int(row[1]) for row in rows}


async def select_changed_since(conn: Connection, moment: datetime | None) -> tuple[dict[TenantId, int], datetime]:
    """Versions that changed after `moment` (all of them for None), and the database's time for the next query.

    The caller queries from some seconds before that time: a transaction that was open meanwhile is then seen too.
    """
    rows = await conn.fetch(
        """
        SELECT tenant_id, version FROM tenant_versions WHERE $1::timestamptz IS NULL OR changed_at > $1
        """,
        moment,
    )
    now: datetime = await conn.fetchval("SELECT clock_timestamp()")
    return {TenantId(row[0]): int(row[1]) for row in rows}, now


async def select_numbering(conn: Connection, tenant: TenantId) -> tuple[str, Mapping[str, Any]]:
    """The tenant's country and options, by which its internal numbers are judged."""
    row = await conn.fetchrow("SELECT country, options::text AS options FROM tenants WHERE tenant_id = $1", tenant)
    return (row["country"], json.loads(row["options"])) if row is not None else ("", {})


async def lock_options(conn: Connection, tenant: TenantId) -> dict[str, Any]:
    """The tenant's options as they are now; nobody changes them until the transaction ends."""
    text = await conn.fetchval("SELECT options::text FROM tenants WHERE tenant_id = $1 FOR UPDATE", tenant)
    found: dict[str, Any] = json.loads(text) if text is not None else {}
    return found


async def set_options(conn: Connection, tenant: TenantId, options: Mapping[str, Any]) -> None:
    """Replaces the tenant's options."""
    await conn.execute("UPDATE tenants SET options = $2 WHERE tenant_id = $1", tenant, json.dumps(options))


async def select_secrets(conn: Connection, tenant: TenantId) -> dict[str, str]:
    """The secrets among the tenant's own settings, sealed, by name. The engine's."""
    text = await conn.fetchval("SELECT secrets::text FROM tenants WHERE tenant_id = $1", tenant)
    found: dict[str, str] = json.loads(text) if text is not None else {}
    return found


async def set_secrets(conn: Connection, tenant: TenantId, sealed: Mapping[str, str]) -> None:
    """Replaces the sealed secrets among the tenant's own settings. The engine's."""
    await conn.execute("UPDATE tenants SET secrets = $2 WHERE tenant_id = $1", tenant, json.dumps(sealed))


async def set_tenant_secret(conn: Connection, tenant: TenantId, name: str, sealed: str | None) -> None:
    """Stores one of the secrets among a tenant's options, sealed; None removes it. The engine's alone."""
    await conn.execute(
        "UPDATE tenants SET secrets = CASE WHEN $3::text IS NULL THEN secrets - $2 ELSE secrets || jsonb_build_object($2::text, $3::text) END "
        "WHERE tenant_id = $1",
        tenant,
        name,
        sealed,
    )


async def select_time(conn: Connection) -> datetime:
    """The database's clock, which decides leases and expiry."""
    moment: datetime = await conn.fetchval("SELECT clock_timestamp()")
    return moment


async def upsert_tenant(conn: Connection, row: TenantRow) -> None:
    """Inserts or updates the tenant's own row. The data key of an existing tenant is never overwritten."""
    await conn.execute(
        """
        INSERT INTO tenants AS t (tenant_id, name, timezone, country, language, token_hash, data_key, options, secrets)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
        ON CONFLICT (tenant_id) DO UPDATE SET
            name = excluded.name, timezone = excluded.timezone, country = excluded.country,
            language = excluded.language, token_hash = excluded.token_hash, options = excluded.options, secrets = excluded.secrets
        """,
        row.tenant,
        row.name,
        row.timezone,
        row.country,
        row.language,
        row.token_hash,
        row.data_key,
        json.dumps(row.options),
        json.dumps(row.secrets),
    )


async def insert_tenant(conn: Connection, row: TenantRow) -> bool:
    """Inserts a tenant's own row. False where the number is taken: then nothing was written."""
    done: str = await conn.execute(
        """
        INSERT INTO tenants (tenant_id, name, timezone, country, language, token_hash, data_key, options)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (tenant_id) DO NOTHING
        """,
        row.tenant,
        row.name,
        row.timezone,
        row.country,
        row.language,
        row.token_hash,
        row.data_key,
        json.dumps(row.options),
    )
    return done.endswith(" 1")


async def upsert_phone(conn: Connection, tenant: TenantId, number: str, owner: str, endpoints: Sequence[str]) -> None:
    """Inserts or updates one internal number."""
    await conn.execute(
        """
        INSERT INTO phones (tenant_id, number, owner, endpoints) VALUES ($1, $2, $3, $4)
        ON CONFLICT (tenant_id, number) DO UPDATE SET owner = excluded.owner, endpoints = excluded.endpoints
        """,
        tenant,
        number,
        owner,
        list(endpoints),
    )


@dataclass(frozen=True, slots=True)
class LinkTable:
    """A table of connections: PBXes are known by a name and have a kind, integrations by a key in which the kind stands."""

    table: str
    name: str
    kind: str
    """The column with the kind; empty where the name shows it."""

    def kind_of(self, name: str) -> str:
        """An expression for the kind of a row."""
        return self.kind or f"split_part({name}, ':', 1)"

    def hash_text(self, column: str) -> str:
        """An expression for a hash of a row, `client_id_hash` or `account_hash`: integrations alone have them."""
        return "NULL" if self.kind else f"encode({column}, 'hex')"


PBXES = LinkTable("pbxes", "name", "pbx_type")
INTEGRATIONS = LinkTable("integrations", "integration_type", "")


async def upsert_link(conn: Connection, of: LinkTable, tenant: TenantId, row: LinkRow) -> None:
    """Inserts or updates one PBX or integration. Raises Conflict with CLIENT_ID_TAKEN or ACCOUNT_TAKEN where another has its
    client id or account."""
    last: dict[str, tuple[str, str | None]] = {
        "client_id_hash": ("decode($6, 'hex')", row.client_id_hash), "account_hash": ("decode($7, 'hex')", row.account_hash),
    }  # fmt: skip
    if of.kind:
        last = {of.kind: ("$6", row.kind)}
    await conn.execute(
        f"""
        INSERT INTO {of.table} (tenant_id, {of.name}, enabled, settings, secrets, {", ".join(last)})
        VALUES ($1, $2, $3, $4, $5, {", ".join(value for value, _ in last.values())})
        ON CONFLICT (tenant_id, {of.name}) DO UPDATE SET
            enabled = excluded.enabled, settings = excluded.settings, secrets = excluded.secrets,
            {", ".join(f"{name} = excluded.{name}" for name in last)}
        """,  # noqa: S608 - names of a LinkTable, which are constants
        tenant,
        row.name,
        row.enabled,
        json.dumps(row.settings),
        json.dumps(row.secrets),
        *(given for _, given in last.values()),
    )


async def order_integrations(conn: Connection, tenant: TenantId, keys: Sequence[str]) -> None:
    """Puts these integrations in this order, behind those that are not named."""
    await conn.execute(
        """
        UPDATE integrations i SET ordinal = n.ordinal
        FROM (SELECT key, nextval('integration_order') AS ordinal
              FROM (SELECT key FROM unnest($2::text[]) WITH ORDINALITY AS k (key, place) ORDER BY place) AS o) AS n
        WHERE i.tenant_id = $1 AND i.integration_type = n.key
        """,
        tenant,
        list(keys),
    )


async def lock_link(conn: Connection, of: LinkTable, tenant: TenantId, name: str) -> LinkRow | None:
    """One PBX or integration as it is now; nobody changes it until the transaction ends."""
    row = await conn.fetchrow(
        f"""
        SELECT {of.kind_of(of.name)} AS kind, enabled, settings::text, secrets::text,
               {of.hash_text("client_id_hash")} AS client_id_hash, {of.hash_text("account_hash")} AS account_hash
        FROM {of.table} WHERE tenant_id = $1 AND {of.name} = $2 FOR UPDATE
        """,  # noqa: S608 - names of a LinkTable, which are constants
        tenant,
        name,
    )
    if row is None:
        return None
    return LinkRow(
        name,
        row["kind"],
        row["enabled"],
        json.loads(row["settings"]),
        json.loads(row["secrets"]),
        row["client_id_hash"],
        row["account_hash"],
    )


def shown_link(row: LinkRow) -> dict[str, Any]:
    """A PBX or an integration for the audit trail; secrets are masked."""
    return {"enabled": row.enabled, **row.settings, **dict.fromkeys(row.secrets, MASK)}


async def select_phone(conn: Connection, tenant: TenantId, number: str) -> dict[str, Any] | None:
    """One internal number as the audit trail shows it."""
    row = await conn.fetchrow(
        "SELECT owner, endpoints FROM phones WHERE tenant_id = $1 AND number = $2", tenant, number
    )
    return {"owner": row["owner"], "endpoints": list(row["endpoints"])} if row is not None else None


async def delete_link(conn: Connection, of: LinkTable, tenant: TenantId, name: str) -> None:
    """Removes one PBX or integration."""
    await conn.execute(f"DELETE FROM {of.table} WHERE tenant_id = $1 AND {of.name} = $2", tenant, name)  # noqa: S608 - constants


async def fill_client_id(conn: Connection, tenant: TenantId, key: str, client_id_hash: str) -> None:
    """Notes the hash of a client id that was stored before there was one. Raises Conflict as `upsert_link`."""
    await conn.execute(
        "UPDATE integrations SET client_id_hash = decode($3, 'hex') "
        "WHERE tenant_id = $1 AND integration_type = $2 AND client_id_hash IS NULL",
        tenant,
        key,
        client_id_hash,
    )


async def set_link_enabled(conn: Connection, of: LinkTable, tenant: TenantId, name: str, enabled: bool) -> bool:
    """Turns a PBX or an integration on or off. False when there is no such row."""
    done: str = await conn.execute(
        f"UPDATE {of.table} SET enabled = $3 WHERE tenant_id = $1 AND {of.name} = $2",  # noqa: S608 - constants
        tenant,
        name,
        enabled,
    )
    return done.endswith(" 1")


async def delete_phone(conn: Connection, tenant: TenantId, number: str) -> None:
    """Removes one internal number."""
    await conn.execute("DELETE FROM phones WHERE tenant_id = $1 AND number = $2", tenant, number)


async def set_integration_name(conn: Connection, tenant: TenantId, key: str, name: str) -> str | None:
    """Names an integration. Returns what it was called before; None where that is its name already, or there is none."""
    before: str | None = await conn.fetchval(
        """
        UPDATE integrations i SET display_name = $3
        FROM (SELECT display_name FROM integrations WHERE tenant_id = $1 AND integration_type = $2 FOR UPDATE) AS before
        WHERE i.tenant_id = $1 AND i.integration_type = $2 AND i.display_name <> $3 RETURNING before.display_name
        """,
        tenant,
        key,
        name,
    )
    return before
