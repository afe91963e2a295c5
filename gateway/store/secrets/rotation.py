"""A new master key for everything that is sealed, while gateways run.

    wrapped      tenants.data_key             wrapped anew by the new key; the data key itself stays
    fields       pbxes, integrations, tenants.secrets  a JSON object, field -> sealed value
    values       modules.link_key, recording_blobs.file_key, recordings.url, integration_tokens.sealed and previous_sealed,
                 call_transcripts.body and summary, users.factor; an operator's, who has no data key, is wrapped like one

Each batch is a transaction that waits for nobody: rows that somebody holds are left for the next pass, so no other
transaction can be caught in a deadlock with it. What is done bears the new key's id, and that is all a resumed rotation
needs to know. A value that does not open in its place is left as it is and counted, never sealed anew: what was swapped or
changed stays refused. Links and the addresses of recordings are derived from data keys, and so outlive a rotation.

Never touches the key file: the caller has made the key durable before. Read `gateway/cli/keys.py` next.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.domain.ids import TenantId
from gateway.store.postgres.errors import Unsealable
from gateway.store.postgres.pool import Connection, Database, OwnConnection, Session
from gateway.store.secrets.seal import MasterKeys, wrapping_key
from gateway.store.secrets.vault import VaultKeys
from gateway.store.shards import TTL_S

BATCH = 500
LONG_S = 600.0
"""For statements that look through a whole table."""
LOCK_KEY = 0x67_61_74_65_6B_65_79_73  # "gatekeys"


@dataclass(frozen=True, slots=True)
class Place:
    """One column with sealed values. `row_is_key`: values are bound to their row's key."""

    table: str
    key: str
    column: str
    key_type: str = "text"
    first_key: str = ""
    fields: bool = False
    row_is_key: bool = True
    name: str = ""
    """A second column of the row's key, after a slash."""

    @property
    def row_key(self) -> str:
        """SQL: the key of a row `x`."""
        return f"(x.{self.key} || '/' || x.{self.name})" if self.name else f"x.{self.key}"

    @property
    def stale(self) -> str:
        """SQL: whether a row `x` holds a value that does not bear the id $1."""
        if self.fields:
            return f"EXISTS (SELECT FROM jsonb_each_text(x.{self.column}) AS f WHERE split_part(f.value, ':', 3) <> $1)"
        return f"x.{self.column} <> '' AND split_part(x.{self.column}, ':', 3) <> $1"


_FIRST_ID = "00000000-0000-0000-0000-000000000000"
PLACES = (
    Place("pbxes", "name", "secrets", fields=True),
    Place("integrations", "integration_type", "secrets", fields=True),
    Place("tenants", "tenant_id", "secrets", fields=True),
    Place("modules", "integration_type", "link_key"),
    Place("recording_blobs", "address", "file_key"),
    Place("users", "email", "factor"),
    Place("integration_tokens", "integration_type", "sealed", name="name"),
    Place("integration_tokens", "integration_type", "previous_sealed", name="name"),
    Place("recordings", "recording_id", "url", "uuid", _FIRST_ID, row_is_key=False),
    Place("call_transcripts", "recording_id", "body", "uuid", _FIRST_ID),
    Place("call_transcripts", "recording_id", "summary", "uuid", _FIRST_ID),
)
"""Every sealed column there is, `tenants.data_key` and the second factors of operators apart."""


@dataclass
class Rotation:
    """One pass after another until nothing is left. `progress(what, done, total)` is called after each batch."""

    db: Database
    master: MasterKeys
    progress: Callable[[str, int, int], None]
    batch: int = BATCH
    requested: bool = False
    """Whether gateways were notified to read their configuration again: an earlier run may have ended before it did."""
    damaged: set[str] = field(default_factory=set)
    """Where something is that does not open: table, column and row, never what stands there."""
    lost: dict[TenantId, str] = field(default_factory=dict)
    """Tenants whose data key does not open, and why."""

    async def run_pass(self) -> int:
        """Seals anew what can be. Returns how many rows are left that could be: somebody held them, or wrote them meanwhile."""
        new = self.master.current.id
        self.damaged.clear()
        self.lost.clear()
        total = await self.db.engine(count_wrapped, new)
        await self._wrap_all(total)
        await self.db.engine(self._wrap_factors)
        if total or not self.requested:
            await self.db.engine(_ask_to_read_again)
            self.requested = True
        for place in PLACES:
            total, done = await self.db.engine(count_sealed, place, new), 0
            reached: tuple[str, str] | None = ("", place.first_key)
            while reached is not None:
                reached, count = await self.db.engine(self._seal_batch, place, reached)
                done += count
                if count:
                    self.progress(f"{place.table}.{place.column}", done, total)
        return await self._left(new)

    async def _wrap_all(self, total: int) -> None:
        done, after = 0, TenantId("")
        while batch := await self.db.engine(self._wrap_batch, after):
            after, count = batch
            done += count
            self.progress("tenants", done, total)

    async def _left(self, new: str) -> int:
        left = await self.db.engine(count_wrapped, new) - len(self.lost)
        damaged_rows = {place.rpartition("#")[0] for place in self.damaged}
        for place in PLACES:
            left += await self.db.engine(count_sealed, place, new)
        return max(0, left - len(damaged_rows))

    async def _wrap_batch(self, conn: Connection, after: TenantId) -> tuple[TenantId, int] | None:
        async with conn.transaction():
            await _begin(conn)
            rows = await conn.fetch(
                "SELECT tenant_id, data_key FROM tenants WHERE tenant_id > $2 AND split_part(data_key, ':', 3) <> $1 "
                "ORDER BY tenant_id LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED",
                self.master.current.id,
                after,
                self.batch,
                timeout=LONG_S,
            )
            if not rows:
                return None
            fresh: list[tuple[str, str]] = []
            for row in rows:
                tenant = TenantId(row["tenant_id"])
                try:
                    fresh.append((tenant, self.master.wrap(tenant, self.master.unwrap(tenant, row["data_key"]))))
                except Unsealable as error:
                    self.lost[tenant] = error.detail
            await conn.execute(
                "UPDATE tenants t SET data_key = n.data_key FROM unnest($1::text[], $2::text[]) AS n (tenant_id, data_key) "
                "WHERE t.tenant_id = n.tenant_id",
                [tenant for tenant, _ in fresh],
                [wrapped for _, wrapped in fresh],
            )
        return TenantId(rows[-1]["tenant_id"]), len(rows)

    async def _wrap_factors(self, conn: Connection) -> None:
        """The second factors of operators: as many as there are operators, so in one go."""
        async with conn.transaction():
            await _begin(conn)
            rows = await conn.fetch(
                "SELECT email, factor FROM users WHERE tenant_id IS NULL AND factor <> '' "
                "AND split_part(factor, ':', 3) <> $1 FOR NO KEY UPDATE SKIP LOCKED",
                self.master.current.id,
            )
            for row in rows:
                place = TenantId(factor_place(row["email"]))
                try:
                    fresh = self.master.wrap(place, self.master.unwrap(place, row["factor"]))
                except Unsealable:
                    self.damaged.add(f"users.factor of operator {row['email']}#")
                    continue
                await conn.execute(
                    "UPDATE users SET factor = $2 WHERE tenant_id IS NULL AND email = $1", row["email"], fresh
                )

    async def _seal_batch(
        self, conn: Connection, place: Place, after: tuple[str, str]
    ) -> tuple[tuple[str, str] | None, int]:
        async with conn.transaction():
            await _begin(conn)
            rows = await conn.fetch(
                f"""
                SELECT x.tenant_id, {place.row_key}::text AS key, x.{place.column} AS sealed, t.data_key
                FROM {place.table} x JOIN tenants t USING (tenant_id)
                WHERE (x.tenant_id, {place.row_key}) > ($2, $3::text::{place.key_type}) AND {place.stale}
                ORDER BY x.tenant_id, {place.row_key} LIMIT $4 FOR NO KEY UPDATE OF x SKIP LOCKED
                """,  # noqa: S608 - one of PLACES, constants
                self.master.current.id,
                *after,
                self.batch,
                timeout=LONG_S,
            )
            if not rows:
                return None, 0
            fresh = [(row, text) for row in rows if (text := self._sealed_anew(place, row)) is not None]
            kind = "jsonb" if place.fields else "text"
            await conn.execute(
                f"""
                UPDATE {place.table} x SET {place.column} = n.sealed::{kind}
                FROM unnest($1::text[], $2::text[], $3::text[]) AS n (tenant_id, key, sealed)
                WHERE x.tenant_id = n.tenant_id AND {place.row_key} = n.key::{place.key_type}
                """,  # noqa: S608 - one of PLACES, constants
                [row["tenant_id"] for row, _ in fresh],
                [row["key"] for row, _ in fresh],
                [text for _, text in fresh],
            )
        return (rows[-1]["tenant_id"], rows[-1]["key"]), len(rows)

    def _sealed_anew(self, place: Place, row: Any) -> str | None:
        """The column's new text; None where nothing of it is to be changed."""
        tenant = TenantId(row["tenant_id"])
        where = f"{place.table}.{place.column} of tenant {tenant}, row {row['key']}"
        try:
            sealer = self.master.sealer(tenant, row["data_key"])
        except Unsealable:
            self.damaged.add(f"{where}#")
            return None
        bound = row["key"] if place.row_is_key else ""

        def again(column: str, sealed: str) -> str:
            if sealer.is_current(sealed):
                return sealed
            try:
                secret = sealer.open(sealed, table=place.table, column=column, row=bound)
            except Unsealable:
                self.damaged.add(f"{where}#{column}")
                return sealed
            return sealer.seal(secret, table=place.table, column=column, row=bound)

        if not place.fields:
            return again(place.column, row["sealed"])
        stored = json.loads(row["sealed"])
        return json.dumps({name: again(name, sealed) for name, sealed in stored.items()})


class VaultRotation(Rotation):
    """The same where Vault wraps: it is asked between two transactions, and a row that changed meanwhile is left for the next pass."""

    async def _wrap_all(self, total: int) -> None:
        master = self.master
        assert isinstance(master, VaultKeys)
        everything = await self.db.engine(select_wrapped)
        stale = [one for one in everything if wrapping_key(one[1]) != master.current.id]
        for start in range(0, len(stale), self.batch):
            batch = stale[start : start + self.batch]
            fresh = await master.rewrap(batch)
            for tenant, text in batch:
                if (tenant, text) not in fresh:
                    self.lost[tenant] = "its data key was changed, or is another tenant's"
            await self.db.engine(replace_wrapped, [(tenant, old, new) for (tenant, old), new in fresh.items()])
            self.progress("tenants", min(start + len(batch), total), total)
        await master.prepare(await self.db.engine(select_wrapped))


async def replace_wrapped(conn: Connection, keys: Sequence[tuple[TenantId, str, str]]) -> None:
    """Tenant, the data key as it was, and as it is now."""
    async with conn.transaction():
        await _begin(conn)
        await conn.execute(
            "UPDATE tenants t SET data_key = n.fresh FROM unnest($1::text[], $2::text[], $3::text[]) AS n (tenant_id, old, fresh) "
            "WHERE t.tenant_id = n.tenant_id AND t.data_key = n.old",
            [tenant for tenant, _, _ in keys],
            [old for _, old, _ in keys],
            [fresh for _, _, fresh in keys],
        )


async def _begin(conn: Connection) -> None:
    """For this transaction: what is sealed anew has not changed (see migration 0009), and may take its time."""
    await conn.execute("SELECT set_config('gateway.resealing', 'on', true), set_config('statement_timeout', '0', true)")


def factor_place(email: str) -> str:
    """What the second factor of an operator is bound to."""
    return f"operator/{email}/factor"


async def count_wrapped(conn: Connection, new: str) -> int:
    """How many tenants' data keys, and second factors of operators, are under another key."""
    query = (
        "SELECT (SELECT count(*) FROM tenants WHERE split_part(data_key, ':', 3) <> $1) + (SELECT count(*) FROM users "
        "WHERE tenant_id IS NULL AND factor <> '' AND split_part(factor, ':', 3) <> $1)"
    )
    return int(await conn.fetchval(query, new))


async def count_sealed(conn: Connection, place: Place, new: str) -> int:
    """How many rows of a tenant that exists hold a value that bears another key's id."""
    async with conn.transaction(readonly=True):
        await _begin(conn)
        query = f"SELECT count(*) FROM {place.table} x JOIN tenants t USING (tenant_id) WHERE {place.stale}"  # noqa: S608 - one of PLACES, constants
        return int(await conn.fetchval(query, new, timeout=LONG_S))


async def select_wrapping_keys(conn: Connection) -> dict[str, int]:
    """Master key id -> tenants whose data keys are under it."""
    rows = await conn.fetch("SELECT split_part(data_key, ':', 3) AS id, count(*) AS count FROM tenants GROUP BY 1")
    return {row["id"]: row["count"] for row in rows}


async def select_wrapped(conn: Connection) -> list[tuple[TenantId, str]]:
    """Every tenant's wrapped data key."""
    rows = await conn.fetch("SELECT tenant_id, data_key FROM tenants ORDER BY tenant_id")
    return [(TenantId(row["tenant_id"]), row["data_key"]) for row in rows]


async def select_instances_without(conn: Connection, key: str) -> list[str]:
    """Gateways that run and do not hold this master key."""
    rows = await conn.fetch(
        "SELECT instance FROM instances WHERE seen_at > clock_timestamp() - make_interval(secs => $2) "
        "AND NOT $1 = ANY (master_keys) ORDER BY instance",
        key,
        TTL_S,
    )
    return [row["instance"] for row in rows]


async def retire(conn: Connection, current: str, old: Sequence[str]) -> bool:
    """Forbids these keys for good, where nothing is under any but the current one; False where something is. Whoever is
    about to make a tenant is waited for, and who comes after is refused."""
    async with conn.transaction():
        await conn.execute("LOCK TABLE tenants IN SHARE ROW EXCLUSIVE MODE")
        if await count_wrapped(conn, current):
            return False
        await conn.execute(
            "INSERT INTO retired_master_keys (key_id) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING", list(old)
        )
    return True


async def _ask_to_read_again(conn: Connection) -> None:
    """Every gateway reads its configuration once more, and then seals under the new key's id."""
    await conn.execute("SELECT pg_notify('gateway_configuration', '{}')")


class OnlyRotation:
    """The lock that lets one rotation work at a time; held by a connection of its own."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def hold(self) -> bool:
        """Whether it is ours, now. Raises Unavailable where the connection is gone, and the lock with it."""
        return await self._session.run(_lock)


async def _lock(conn: OwnConnection) -> bool:
    return bool(await conn.fetchval("SELECT pg_try_advisory_lock($1)", LOCK_KEY))
