r"""Tokens of integrations that change by themselves: sealed, with the one before until the new one has worked.

    begin_exchange -> (request to the other side, no transaction open) -> finish_exchange
                  \-> another instance exchanges it, or has exchanged it

Two instances must not both spend a refresh token that works once. The row's lock decides who exchanges it, in a transaction of its own, and the
row says until when: a lock that was held while the other side answers would hold one of the few connections as long, and a
server that hangs would stop every commit of the gateway. Sees no token in the clear: read `actors/integration_tokens.py`.
"""

from dataclasses import dataclass, field
from datetime import datetime

from gateway.domain.ids import IntegrationKey, TenantId
from gateway.store.postgres.pool import Connection, Record

TABLE = "integration_tokens"


@dataclass(frozen=True, slots=True)
class TokenRow:
    """One token as it is stored; `previous_sealed` is empty where there is none."""

    sealed: str = field(repr=False)
    previous_sealed: str = field(repr=False)
    expires_at: datetime | None
    version: int


def _row(record: Record | None) -> TokenRow | None:
    return TokenRow(*record) if record is not None else None


def row_key(integration: IntegrationKey, name: str) -> str:
    """What a sealed value is bound to, beside tenant, table and column."""
    return f"{integration}/{name}"


async def select_token(conn: Connection, tenant: TenantId, integration: IntegrationKey, name: str) -> TokenRow | None:
    """The token in force."""
    query = (
        "SELECT sealed, previous_sealed, expires_at, version FROM integration_tokens "
        "WHERE tenant_id = $1 AND integration_type = $2 AND name = $3"
    )
    return _row(await conn.fetchrow(query, tenant, integration, name))


async def begin_exchange(
    conn: Connection,
    tenant: TenantId,
    integration: IntegrationKey,
    name: str,
    version: int,
    holder: str,
    lease_s: float,
) -> tuple[TokenRow | None, bool]:
    """The token in force, and whether `holder` may exchange it for `lease_s`: only where it still has that version and nobody
    else exchanges it."""
    async with conn.transaction():
        record = await conn.fetchrow(
            "SELECT sealed, previous_sealed, expires_at, version, coalesce(exchange_until > clock_timestamp(), false) "
            "FROM integration_tokens "
            "WHERE tenant_id = $1 AND integration_type = $2 AND name = $3 FOR UPDATE",
            tenant,
            integration,
            name,
        )
        if record is None:
            return None, False
        *columns, taken = record
        row = TokenRow(*columns)
        if taken or row.version != version:
            return row, False
        await conn.execute(
            "UPDATE integration_tokens SET exchange_by = $4, "
            "exchange_until = clock_timestamp() + make_interval(secs => $5) "
            "WHERE tenant_id = $1 AND integration_type = $2 AND name = $3",
            tenant,
            integration,
            name,
            holder,
            lease_s,
        )
    return row, True


async def finish_exchange(
    conn: Connection, tenant: TenantId, integration: IntegrationKey, name: str, version: int, sealed: str, previous_sealed: str,
    expires_in_s: float | None,
) -> TokenRow | None:  # fmt: skip
    """Stores what a token of `version` was exchanged for. None where that is not the one in force any more."""
    return _row(
        await conn.fetchrow(
            "UPDATE integration_tokens SET sealed = $5, previous_sealed = $6, version = version + 1, exchange_by = '', "
            "exchange_until = NULL, updated_at = clock_timestamp(), "
            "expires_at = clock_timestamp() + make_interval(secs => $7::float8) "
            "WHERE tenant_id = $1 AND integration_type = $2 AND name = $3 AND version = $4 "
            "RETURNING sealed, previous_sealed, expires_at, version",
            tenant,
            integration,
            name,
            version,
            sealed,
            previous_sealed,
            expires_in_s,
        )
    )


async def abandon_exchange(
    conn: Connection, tenant: TenantId, integration: IntegrationKey, name: str, holder: str
) -> None:
    """`holder` ends its exchange without a result."""
    await conn.execute(
        "UPDATE integration_tokens SET exchange_by = '', exchange_until = NULL "
        "WHERE tenant_id = $1 AND integration_type = $2 AND name = $3 AND exchange_by = $4",
        tenant,
        integration,
        name,
        holder,
    )


async def upsert_token(
    conn: Connection, tenant: TenantId, integration: IntegrationKey, name: str, sealed: str, expires_in_s: float | None
) -> TokenRow:
    """A token that a person's login brought: in place of any other, and of the result of an exchange under way."""
    row = _row(
        await conn.fetchrow(
            "INSERT INTO integration_tokens AS t (tenant_id, integration_type, name, sealed, expires_at) "
            "VALUES ($1, $2, $3, $4, clock_timestamp() + make_interval(secs => $5::float8)) "
            "ON CONFLICT (tenant_id, integration_type, name) DO UPDATE SET sealed = excluded.sealed, previous_sealed = '', "
            "expires_at = excluded.expires_at, version = t.version + 1, exchange_by = '', exchange_until = NULL, "
            "updated_at = clock_timestamp() RETURNING sealed, previous_sealed, expires_at, version",
            tenant,
            integration,
            name,
            sealed,
            expires_in_s,
        )
    )
    assert row is not None
    return row


async def drop_previous(
    conn: Connection, tenant: TenantId, integration: IntegrationKey, name: str, version: int
) -> None:
    """The token of this version has worked."""
    await conn.execute(
        "UPDATE integration_tokens SET previous_sealed = '' "
        "WHERE tenant_id = $1 AND integration_type = $2 AND name = $3 AND version = $4 AND previous_sealed <> ''",
        tenant,
        integration,
        name,
        version,
    )
