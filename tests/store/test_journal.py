"""Posted events on a real server: kept once, read in order, taken away when they are old."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from gateway.domain.ids import TenantId
from gateway.store import dead_letters, journal
from gateway.store.dead_letters import DeadLetterRow, insert_dead_letters
from gateway.store.journal import PostRow, insert_posts, select_pending_posts
from gateway.store.postgres.pool import Connection, Database

A, B = TenantId("0367"), TenantId("0368")
AT = datetime(2026, 11, 21, 10, tzinfo=UTC)


def post(name: str, tenant: TenantId = A) -> PostRow:
    return PostRow(tenant, "/dial", name, f"digest of {name}".encode(), f'{{"UniqueId": "{name}"}}', AT)


async def run_sql(connection: Connection, *statements: str) -> None:
    for statement in statements:
        await connection.execute(statement)


async def pending(db: Database, tenant: TenantId = A, after: int = 0, most: int = 100) -> list[str]:
    (found,) = await db.engine(select_pending_posts, [(tenant, after)], most)
    return [one.unique_id for one in found]


async def test_a_repeat_is_known_within_a_group_and_across_groups(db: Database) -> None:
    assert await db.engine(insert_posts, [post("1"), post("2"), post("1"), post("1")]) == [True, True, False, False]
    assert await db.engine(insert_posts, [post("2"), post("3")]) == [False, True]
    assert await pending(db) == ["1", "2", "3"]


async def test_the_same_post_of_another_tenant_is_another_post(db: Database) -> None:
    assert await db.engine(insert_posts, [post("1"), post("1", B)]) == [True, True]
    assert await pending(db, B) == ["1"]
    assert await db.engine(journal.select_tenants_with_posts) in ([A, B], [B, A])


async def test_posts_come_back_in_order_as_they_were(db: Database) -> None:
    await db.engine(insert_posts, [post(str(number)) for number in range(30)])
    (read,) = await db.engine(select_pending_posts, [(A, 0)], 10)
    assert [one.unique_id for one in read] == [str(number) for number in range(10)]
    assert (read[0].address, read[0].body, read[0].received_at) == ("/dial", '{"UniqueId": "0"}', AT)
    assert await pending(db, after=read[-1].journal_id) == [str(number) for number in range(10, 30)]
    assert len({one.identity for one in read}) == 10


async def test_a_finished_post_is_not_read_again_and_still_known(db: Database) -> None:
    await db.engine(insert_posts, [post("1"), post("2")])
    ((first, _),) = await db.engine(select_pending_posts, [(A, 0)])
    row = dead_letters.DeadLetterRow(A, "tenant/0367", "a post", "why", first.journal_id)
    await db.engine(dead_letters.insert_dead_letters, [row], "1.0")
    assert await pending(db) == ["2"]
    assert await db.engine(insert_posts, [post("1")]) == [False]


async def test_digests_are_forgotten_when_they_are_old_of_tenants_that_are_gone_too(db: Database) -> None:
    await db.engine(insert_posts, [post(str(number), tenant) for number in range(5) for tenant in (A, B)])
    await db.engine(
        run_sql,
        "UPDATE journal_digests SET received_at = now() - interval '15 days' WHERE digest <> 'digest of 4'::bytea",
    )
    assert await db.engine(journal.delete_old_digests, 14 * 86400.0, 3) == 3
    assert await db.engine(journal.delete_old_digests, 14 * 86400.0, 30) == 5
    assert await db.engine(journal.delete_old_digests, 14 * 86400.0, 30) == 0
    assert await db.engine(insert_posts, [post("4"), post("4", B)]) == [False, False]


async def test_a_post_out_of_all_days_is_kept_and_removed_when_it_is_old_and_done(db: Database) -> None:
    long_ago = replace(post("1"), received_at=datetime(2020, 1, 1, tzinfo=UTC))
    assert await db.engine(insert_posts, [long_ago, post("2")]) == [True, True]
    assert await pending(db) == ["1", "2"]
    assert await db.engine(journal.delete_old_rest, 14 * 86400.0, 10) == 0
    ((first, *_),) = await db.engine(select_pending_posts, [(A, 0)])
    await db.engine(insert_dead_letters, [DeadLetterRow(A, "tenant/1001", "a post", "why", first.journal_id)], "1")
    assert await db.engine(journal.delete_old_rest, 14 * 86400.0, 10) == 1
    assert await pending(db) == ["2"]


async def test_posts_of_many_tenants_are_read_together_and_apart(db: Database) -> None:
    tenants = [TenantId(f"{number:04}") for number in range(20)]
    await db.engine(insert_posts, [post(str(number), tenant) for number in range(5) for tenant in tenants])
    wanted = [(tenant, 0) for tenant in (*reversed(tenants), TenantId("nobody"), tenants[3])]
    found = await db.engine(select_pending_posts, wanted, 3)
    assert [[one.unique_id for one in posts] for posts in found] == [["0", "1", "2"]] * 20 + [[], ["0", "1", "2"]]
    assert len({one.journal_id for posts in found[:20] for one in posts}) == 60
    again = await db.engine(select_pending_posts, [(tenants[0], found[19][-1].journal_id)], 3)
    assert [one.unique_id for one in again[0]] == ["3", "4"]


@pytest.mark.parametrize("size", [1, 500])
async def test_a_group_of_any_size_is_answered_in_order(db: Database, size: int) -> None:
    rows = [post(str(number // 2)) for number in range(size)]
    assert await db.engine(insert_posts, rows) == [number % 2 == 0 for number in range(size)]
