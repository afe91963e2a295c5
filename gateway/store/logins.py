"""Logins that are under way: which step is next, who may go on, and that a step is done once.

Steps are sealed by the caller. Works across tenants: a redirect comes back with its state alone.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from gateway.domain.ids import IntegrationKey, TenantId
from gateway.store.postgres.pool import Connection, Record

TABLE = "logins"
LIVES_S = 600.0
"""A login that nobody goes on with is over."""
BUSY_S = 45.0
"""How long a step may take; then it may be submitted again."""


@dataclass(frozen=True, slots=True)
class LoginRow:
    """A login under way."""

    tenant: TenantId
    integration: IntegrationKey
    session_hash: bytes
    step: str
    shown: str
    """Sealed."""
    busy: bool


_COLUMNS = "tenant_id, integration_type, session_hash, step, shown, coalesce(busy_until > clock_timestamp(), false)"


def _row(record: Record | None) -> LoginRow | None:
    return LoginRow(*record) if record is not None else None


async def insert_login(
    conn: Connection, tenant: TenantId, key: IntegrationKey, transaction_hash: bytes, session_hash: bytes
) -> None:
    """Begins a login, in place of any other of this integration."""
    await conn.execute(
        """
        INSERT INTO logins (tenant_id, integration_type, transaction_hash, session_hash, expires_at)
        VALUES ($1, $2, $3, $4, clock_timestamp() + make_interval(secs => $5))
        ON CONFLICT (tenant_id, integration_type) DO UPDATE SET
            transaction_hash = excluded.transaction_hash, session_hash = excluded.session_hash, step = '', shown = '',
            busy_until = NULL, expires_at = excluded.expires_at
        """,
        tenant,
        key,
        transaction_hash,
        session_hash,
        LIVES_S,
    )


async def select_login(conn: Connection, transaction_hash: bytes) -> LoginRow | None:
    """The login of a transaction, unless it is over."""
    return _row(
        await conn.fetchrow(
            f"SELECT {_COLUMNS} FROM logins WHERE transaction_hash = $1 AND expires_at > clock_timestamp()",  # noqa: S608 - constant columns
            transaction_hash,
        )
    )


async def take_step(conn: Connection, transaction_hash: bytes, step: str) -> LoginRow | None:
    """The login, for whoever is to do this step now; None where it is another step's turn or somebody does it already."""
    return _row(
        await conn.fetchrow(
            f"""
            UPDATE logins SET busy_until = clock_timestamp() + make_interval(secs => $3)
            WHERE transaction_hash = $1 AND step = $2 AND expires_at > clock_timestamp()
              AND (busy_until IS NULL OR busy_until < clock_timestamp())
            RETURNING {_COLUMNS}
            """,  # noqa: S608 - constant columns
            transaction_hash,
            step,
            BUSY_S,
        )
    )


async def store_step(conn: Connection, transaction_hash: bytes, step: str, shown: str) -> bool:
    """What is next. False where the login is over meanwhile."""
    done: str = await conn.execute(
        "UPDATE logins SET step = $2, shown = $3, busy_until = NULL WHERE transaction_hash = $1",
        transaction_hash,
        step,
        shown,
    )
    return done.endswith(" 1")


async def end_login(
    conn: Connection, transaction_hash: bytes, steps: Sequence[Callable[[Connection], Awaitable[None]]] = ()
) -> bool:
    """Ends a login, and carries out `steps` in the same transaction. False, and nothing is done, where it is over already."""
    async with conn.transaction():
        done: str = await conn.execute("DELETE FROM logins WHERE transaction_hash = $1", transaction_hash)
        if not done.endswith(" 1"):
            return False
        for step in steps:
            await step(conn)
        return True


async def delete_old_logins(conn: Connection) -> None:
    """Forgets logins that are over."""
    await conn.execute("DELETE FROM logins WHERE expires_at < clock_timestamp()")
