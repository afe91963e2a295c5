"""Leases on shards: who owns which, since which epoch, until when by the database's clock.

A term is (owner, epoch). Every change of owner raises the epoch; every write of a tenant's actor names the epoch it was
started under and is refused in the same statement when that is not the shard's any more (`fence` in `outbox.py`: FOR SHARE
makes a takeover wait for the write, and the write for a takeover, after which it sees the new epoch). An owner that the
database has not seen for a while still owns its shards until another one takes them: nobody else wrote meanwhile.
Before a handover the owner names the next owner, which connects to what it needs first. The engine role's alone. Read `actors/runtime/ownership.py` next.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from heapq import heapify, heapreplace

from gateway.store.postgres.pool import Connection

TTL_S = 4.0


@dataclass(frozen=True, slots=True)
class Round:
    """What one look at the leases found."""

    held: Mapping[int, int]
    """Shard -> epoch, all that this instance owns now."""
    instances: int
    """How many are alive and stay, this one included even where it leaves."""
    coming: frozenset[int] = frozenset()
    """What another instance is about to hand over to us."""
    ready: frozenset[int] = frozenset()
    """Of ours, what its heir is ready for."""


async def renew(conn: Connection, me: str, ttl_s: float = TTL_S, *, master_keys: Sequence[str] = ()) -> Round:
    """Reports that we live and which master keys we hold, and prolongs our leases. Needs no transaction: one statement each."""
    await conn.execute(
        "INSERT INTO instances (instance, master_keys) VALUES ($1, $2) "
        "ON CONFLICT (instance) DO UPDATE SET seen_at = clock_timestamp(), master_keys = excluded.master_keys",
        me,
        list(master_keys),
    )
    rows = await conn.fetch(
        "UPDATE shards SET expires_at = clock_timestamp() + make_interval(secs => $2) WHERE owner = $1 "
        "RETURNING shard, epoch, heir_ready",
        me,
        ttl_s,
    )
    seen = await conn.fetchrow(
        """
        SELECT (SELECT count(*) FROM instances WHERE instance <> $1 AND NOT leaving
                                                 AND seen_at > clock_timestamp() - make_interval(secs => $2)) AS others,
               ARRAY(SELECT shard FROM shards WHERE heir = $1 AND owner IS DISTINCT FROM $1) AS coming
        """,
        me,
        ttl_s,
    )
    assert seen is not None
    return Round(
        {row["shard"]: row["epoch"] for row in rows},
        1 + seen["others"],
        frozenset(seen["coming"]),
        frozenset(row["shard"] for row in rows if row["heir_ready"]),
    )


async def seek(conn: Connection, me: str, room: int, ttl_s: float = TTL_S) -> dict[int, int]:
    """Takes up to `room` shards that nobody owns or whose owner's time is over. Returns shard -> new epoch."""
    if room <= 0:
        return {}
    rows = await conn.fetch(
        """
        UPDATE shards s SET owner = $1, epoch = s.epoch + 1, held_since = clock_timestamp(), heir = NULL,
                            heir_ready = false, expires_at = clock_timestamp() + make_interval(secs => $3)
        FROM (SELECT shard FROM shards WHERE owner IS NULL OR (owner <> $1 AND expires_at <= clock_timestamp())
              ORDER BY random() LIMIT $2 FOR UPDATE SKIP LOCKED) free
        WHERE s.shard = free.shard RETURNING s.shard, s.epoch
        """,
        me,
        room,
        ttl_s,
    )
    return {row["shard"]: row["epoch"] for row in rows}


async def offer(conn: Connection, me: str, shards: Sequence[int], ttl_s: float = TTL_S) -> int:
    """Names the next owner (heir) for each of these shards of ours: whoever is alive, stays, and has least. Returns how many have one."""
    loads = await conn.fetch(
        """
        SELECT i.instance, count(s.shard) AS load
        FROM instances i LEFT JOIN shards s ON coalesce(s.heir, s.owner) = i.instance
        WHERE i.instance <> $1 AND NOT i.leaving AND i.seen_at > clock_timestamp() - make_interval(secs => $2)
        GROUP BY 1
        """,
        me,
        ttl_s,
    )
    heap = [(row["load"], row["instance"]) for row in loads]
    if not heap:
        return 0
    heapify(heap)
    heirs = []
    for _ in shards:
        load, heir = heap[0]
        heirs.append(heir)
        heapreplace(heap, (load + 1, heir))
    done: str = await conn.execute(
        """
        UPDATE shards s SET heir = t.heir, heir_ready = false FROM unnest($2::int[], $3::text[]) AS t (shard, heir)
        WHERE s.shard = t.shard AND s.owner = $1
        """,
        me,
        list(shards),
        heirs,
    )
    return int(done.rpartition(" ")[2])


async def withdraw(conn: Connection, me: str) -> None:
    """Takes back what was offered and not handed over."""
    await conn.execute("UPDATE shards SET heir = NULL, heir_ready = false WHERE owner = $1 AND heir IS NOT NULL", me)


async def accept(conn: Connection, me: str, shards: Sequence[int]) -> None:
    """Reports that we are ready for these, which were offered to us."""
    await conn.execute(
        "UPDATE shards SET heir_ready = true WHERE heir = $1 AND shard = ANY($2::int[])", me, list(shards)
    )


async def resign(conn: Connection, me: str, terms: Mapping[int, int], ttl_s: float = TTL_S) -> int:
    """Lets go of these terms, and of no later ones: each shard is its heir's now where that is alive, and else free for
    whoever seeks. Returns how many. The epoch rises at once, so that nothing more can be written under the old one."""
    done: str = await conn.execute(
        """
        UPDATE shards s SET owner = t.heir, epoch = s.epoch + 1, heir = NULL, heir_ready = false,
                            held_since = clock_timestamp(),
                            expires_at = CASE WHEN t.heir IS NULL THEN '-infinity'
                                              ELSE clock_timestamp() + make_interval(secs => $4) END
        FROM (SELECT given.shard, given.epoch, i.instance AS heir
              FROM unnest($2::int[], $3::bigint[]) AS given (shard, epoch) JOIN shards o ON o.shard = given.shard
              LEFT JOIN instances i ON i.instance = o.heir AND NOT i.leaving
                                    AND i.seen_at > clock_timestamp() - make_interval(secs => $4)) AS t
        WHERE s.shard = t.shard AND s.epoch = t.epoch AND s.owner = $1
        """,
        me,
        list(terms.keys()),
        list(terms.values()),
        ttl_s,
    )
    return int(done.rpartition(" ")[2])


async def begin_to_leave(conn: Connection, me: str) -> None:
    """This instance is about to stop: it is no heir any more."""
    await conn.execute("UPDATE instances SET leaving = true WHERE instance = $1", me)


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


async def notify(conn: Connection, channel: str, payloads: Sequence[str]) -> None:
    """Notifies the other instances, in this order; they also poll."""
    await conn.execute("SELECT pg_notify($1, payload) FROM unnest($2::text[]) AS payload", channel, list(payloads))
