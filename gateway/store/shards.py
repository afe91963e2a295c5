"""Leases on shards: who owns which, since which epoch, until when by the database's clock.

A term is (owner, epoch). Every change of owner raises the epoch; every write of a tenant's actor names the epoch it was
started under and is refused in the same statement when that is not the shard's any more (`fence` in `outbox.py`: FOR SHARE makes a takeover wait for the
write, and the write for a takeover, after which it sees the new epoch). An owner that the
database did not hear from for a while still owns its shards until another one takes them: nobody else wrote meanwhile.
The engine's alone. Read `actors/ownership.py` next.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from gateway.store.pool import Connection

TTL_S = 4.0


@dataclass(frozen=True, slots=True)
class Round:
    """What one look at the leases found."""

    held: Mapping[int, int]
    """Shard -> epoch, all that this instance owns now."""
    instances: int
    """How many are alive, this one included."""


async def renew(conn: Connection, me: str, ttl_s: float = TTL_S) -> Round:
    """Says that we live and prolongs what we own. Wants no transaction: one statement each."""
    await conn.execute(
        "INSERT INTO instances (instance) VALUES ($1) ON CONFLICT (instance) DO UPDATE SET seen_at = clock_timestamp()",
        me,
    )
    rows = await conn.fetch(
        "UPDATE shards SET expires_at = clock_timestamp() + make_interval(secs => $2) WHERE owner = $1 "
        "RETURNING shard, epoch",
        me,
        ttl_s,
    )
    instances = await conn.fetchval(
        "SELECT count(*) FROM instances WHERE seen_at > clock_timestamp() - make_interval(secs => $1)", ttl_s
    )
    return Round({row["shard"]: row["epoch"] for row in rows}, max(1, instances))


async def seek(conn: Connection, me: str, room: int, ttl_s: float = TTL_S) -> dict[int, int]:
    """Takes up to `room` shards that nobody owns or whose owner's time is over. Returns shard -> new epoch."""
    if room <= 0:
        return {}
    rows = await conn.fetch(
        """
        UPDATE shards s SET owner = $1, epoch = s.epoch + 1, held_since = clock_timestamp(),
                            expires_at = clock_timestamp() + make_interval(secs => $3)
        FROM (SELECT shard FROM shards WHERE owner IS NULL OR (owner <> $1 AND expires_at <= clock_timestamp())
              ORDER BY random() LIMIT $2 FOR UPDATE SKIP LOCKED) free
        WHERE s.shard = free.shard RETURNING s.shard, s.epoch
        """,
        me,
        room,
        ttl_s,
    )
    return {row["shard"]: row["epoch"] for row in rows}


async def resign(conn: Connection, me: str, terms: Mapping[int, int]) -> int:
    """Lets go of these terms, and of no later ones. Returns how many."""
    done: str = await conn.execute(
        """
        UPDATE shards s SET owner = NULL, expires_at = '-infinity'
        FROM unnest($2::int[], $3::bigint[]) AS t (shard, epoch)
        WHERE s.shard = t.shard AND s.epoch = t.epoch AND s.owner = $1
        """,
        me,
        list(terms.keys()),
        list(terms.values()),
    )
    return int(done.rpartition(" ")[2])


async def leave(conn: Connection, me: str) -> None:
    """This instance is gone; others need not wait for its time to pass. Long forgotten ones are cleared away too."""
    await conn.execute(
        "DELETE FROM instances WHERE instance = $1 OR seen_at < clock_timestamp() - interval '1 day'", me
    )


@dataclass(frozen=True, slots=True)
class Owner:
    """One instance, as operators see it."""

    instance: str
    seen_at: datetime | None
    shards: int
    alive: bool


async def select_owners(conn: Connection, ttl_s: float = TTL_S) -> list[Owner]:
    """Who is there, and how many shards each owns; shards without an owner stand under an empty name."""
    rows = await conn.fetch(
        """
        SELECT coalesce(i.instance, s.owner, '') AS instance, i.seen_at, count(s.shard)::int AS shards,
               coalesce(i.seen_at > clock_timestamp() - make_interval(secs => $1), false) AS alive
        FROM instances i FULL JOIN shards s ON s.owner = i.instance
        GROUP BY 1, 2 HAVING count(s.shard) > 0 OR i.seen_at > clock_timestamp() - make_interval(secs => $1)
        ORDER BY 1
        """,
        ttl_s,
    )
    return [Owner(*row) for row in rows]


async def select_owner_of(conn: Connection, shards: Sequence[int]) -> dict[int, str]:
    """Shard -> its owner, for those that have one."""
    rows = await conn.fetch("SELECT shard, owner FROM shards WHERE shard = ANY($1::int[])", list(shards))
    return {row["shard"]: row["owner"] for row in rows if row["owner"] is not None}


async def notify(conn: Connection, channel: str, payload: str) -> None:
    """Rings at the other instances; they listen, and look by themselves too."""
    await conn.execute("SELECT pg_notify($1, $2)", channel, payload)
