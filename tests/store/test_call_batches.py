"""Posts that are stored with what came of them, in one statement: new ones once, and nothing where something is known."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from gateway.domain.ids import TenantId
from gateway.store import call_batches
from gateway.store.call_batches import CallBatch, EventRow, Refusal
from gateway.store.journal import PostRow, insert_posts, select_pending_posts
from gateway.store.postgres.pool import Connection, Database
from tests.store.test_outbox import CRM, A, B, call, delivery

AT = datetime(2026, 11, 21, 10, tzinfo=UTC)


def post(name: str, tenant: TenantId = A) -> PostRow:
    return PostRow(tenant, "/dial", name, f"digest of {name}".encode(), "{}", AT)


def told(*names: str, tenant: TenantId = A, **more: Any) -> CallBatch:
    """A batch of posts, each of which begins a call and makes a delivery."""
    batch = CallBatch(tenant, **more)
    for name in names:
        batch.posts.append(post(name, tenant))
        batch.calls[name] = ("post", call(call_id=name))
        batch.events.append(EventRow(name, 1, "call_ringing", AT, "{}"))
        batch.deliveries.append(delivery(name, name))
        batch.unknown |= {name, f"main-{name}"}
    return batch


async def figures(conn: Connection) -> dict[str, int]:
    tables = ("journal", "journal_digests", "calls", "call_events", "deliveries")
    return {table: await conn.fetchval(f"SELECT count(*) FROM {table}") for table in tables}


async def stored(db: Database) -> Sequence[int]:
    return list((await db.engine(figures)).values())


async def test_a_post_and_what_came_of_it_are_one_statement(db: Database) -> None:
    assert await db.engine(call_batches.record, [told("1", "2"), told("1", tenant=B)]) == [{CRM}, {CRM}]
    assert await stored(db) == [3] * 5
    assert await db.engine(select_pending_posts, [(A, 0), (B, 0)]) == [[], []], "they are done"
    assert await db.engine(insert_posts, [post("1"), post("3")]) == [False, True], "a repeat is told by the digest"


async def test_a_post_that_tells_nothing_is_stored(db: Database) -> None:
    batch = CallBatch(A, posts=[post("1")])
    assert await db.engine(call_batches.record, [batch]) == [frozenset()]
    assert await stored(db) == [1, 1, 0, 0, 0]


@pytest.mark.parametrize("known", ["post", "done post", "call", "call of a PBX", "waits"])
async def test_where_something_is_known_nothing_of_the_tenant_is_written(db: Database, known: str) -> None:
    if known == "post":
        await db.engine(insert_posts, [post("1")])
    elif known == "done post":
        await db.engine(call_batches.record, [CallBatch(A, posts=[post("1")])])
    elif known == "waits":
        await db.engine(insert_posts, [post("0")])
    else:
        name = "1" if known == "call" else "main-1"
        await db.engine(
            call_batches.record,
            [
                CallBatch(
                    A, calls={name: ("main", call(call_id=name))}, events=[EventRow(name, 1, "call_ringing", AT, "{}")]
                )
            ],
        )
    before = await stored(db)
    batches = [told("1", "2", behind_journal=known == "waits"), told("1", tenant=B, behind_journal=known == "waits")]
    assert await db.engine(call_batches.record, batches) == [Refusal.KNOWN, {CRM}]
    assert [now - then for now, then in zip(await stored(db), before, strict=True)] == [1] * 5, (
        "the other tenant's alone"
    )


async def test_a_repeat_of_the_statement_is_refused_and_changes_nothing(db: Database) -> None:
    await db.engine(call_batches.record, [told("1")])
    before = await stored(db)
    assert await db.engine(call_batches.record, [told("1")]) == [Refusal.KNOWN]
    assert await stored(db) == before


async def test_a_stale_epoch_is_told_apart(db: Database) -> None:
    assert await db.engine(call_batches.record, [told("1", epoch=99), told("1", tenant=B)]) == [Refusal.STALE, {CRM}]
    assert await stored(db) == [1] * 5
