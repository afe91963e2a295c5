"""The chain of the audit trail: what is changed, taken out or added is found, whoever writes at once, and pruning breaks nothing."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

from gateway.domain.ids import OPERATOR, TenantId
from gateway.domain.secret import Secret
from gateway.store.audit import AuditFilter, Origin, acting, difference, insert_audit, select_audit
from gateway.store.audit_chain import delete_old_audit, select_chained, verify_trail
from gateway.store.postgres.errors import StoreError
from gateway.store.postgres.migrate import read_migrations
from gateway.store.postgres.pool import Connection, Database, OwnConnection, Session, open_session

A, B = TenantId("0367"), TenantId("0368")
YEAR_S = 365 * 86400.0


@pytest.fixture
async def owner(dsn: str, db: Database) -> AsyncIterator[Session]:
    """The superuser, before whom no policy and no trigger stands."""
    async with open_session(dsn) as session:
        yield session


async def run_sql(conn: Connection | OwnConnection, *statements: str) -> None:
    for statement in statements:
        await conn.execute(statement)


async def forge(owner: Session, *statements: str) -> None:
    await owner.run(run_sql, "SET session_replication_role = replica", *statements, "RESET session_replication_role")


async def write(db: Database, tenant: TenantId, many: int) -> None:
    for number in range(many):
        await db.tenant(
            tenant, insert_audit, tenant, "admin@june.example", "config.changed", f"o{number}", "ключ \U0001f511",
            old={"domain": None, "n": number}, new={"domain": "https://é.example", "key": Secret("sesame")},
        )  # fmt: skip


async def broken(db: Database, tenant: TenantId, **more: Any) -> tuple[int, str] | None:
    found = (await db.engine(verify_trail, tenant, **more)).broken
    return (found.position, found.what) if found is not None else None


async def test_a_trail_that_nobody_touched_is_whole(db: Database) -> None:
    await write(db, A, 5)
    await write(db, B, 2)
    found = await db.engine(verify_trail, A)
    assert (found.rows, found.position, found.broken) == (5, 5, None)
    assert await broken(db, B) is None
    assert set(await db.engine(select_chained)) == {A, B}
    (line, *_) = await db.tenant(A, select_audit, A, None, 1)
    assert (line.kind, line.old, line.new) == (
        "person", {"n": 4, "domain": None}, {"key": "***", "domain": "https://é.example"},
    )  # fmt: skip


COLUMNS = (
    "actor = 'eve@june.example'", "actor_kind = 'cli'", "source = '192.0.2.1'", "action = 'call.placed'", "target = 'x'",
    "detail = ''", "old = NULL", "new = '{}'", "at = at + interval '1 microsecond'", "hash = sha256('x')",
)  # fmt: skip


@pytest.mark.parametrize("change", COLUMNS)
@pytest.mark.parametrize("position", [1, 3, 5])
async def test_a_changed_row_is_named(db: Database, owner: Session, change: str, position: int) -> None:
    await write(db, A, 5)
    await forge(owner, f"UPDATE audit SET {change} WHERE position = {position}")
    assert await broken(db, A) == (position, "changed")


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("DELETE FROM audit WHERE position = 3", (3, "missing")),
        ("DELETE FROM audit WHERE position <= 2", (1, "missing")),
        ("DELETE FROM audit WHERE position = 5", (5, "newest")),
        ("DELETE FROM audit WHERE position > 1", (2, "newest")),
        ("DELETE FROM audit", (1, "newest")),
        ("UPDATE audit SET position = 9 WHERE position = 5", (5, "missing")),
        ("UPDATE audit_chains SET position = 4", (5, "added")),
        ("DELETE FROM audit_chains", (0, "chain")),
        ("UPDATE audit_chains SET begins_after = 2", (2, "before")),
    ],
)
async def test_what_is_taken_out_or_added_is_named(
    db: Database, owner: Session, statement: str, expected: tuple[int, str]
) -> None:
    await write(db, A, 5)
    await forge(owner, statement)
    assert await broken(db, A) == expected


async def test_the_newest_rewritten_with_its_hash_differs_from_the_one_that_stands_apart(
    db: Database, owner: Session
) -> None:
    await write(db, A, 3)
    await forge(
        owner, "UPDATE audit SET target = 'x' WHERE position = 3",
        "UPDATE audit a SET hash = audit_hash((SELECT hash FROM audit WHERE position = 2), a) WHERE position = 3",
    )  # fmt: skip
    assert await broken(db, A) == (3, "changed")


async def test_a_chain_made_anew_is_found_by_what_was_written_down_elsewhere(db: Database, owner: Session) -> None:
    await write(db, A, 3)
    before = await db.engine(verify_trail, A)
    known = before.position, before.hash
    await write(db, A, 2)
    assert await broken(db, A, known=known) is None
    await forge(
        owner, "UPDATE audit SET target = 'x' WHERE position = 3",
        *(f"UPDATE audit a SET hash = audit_hash((SELECT hash FROM audit WHERE position = {n - 1}), a) WHERE position = {n}"
          for n in (3, 4, 5)),
        "UPDATE audit_chains SET hash = (SELECT hash FROM audit WHERE position = 5)",
    )  # fmt: skip
    assert await broken(db, A) is None
    assert await broken(db, A, known=known) == (3, "changed")
    assert await broken(db, A, known=(9, b"h" * 32)) == (6, "newest")


async def test_writers_at_once_do_not_fork_it(db: Database) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(6):
            nursery.start_soon(write, db, A, 8)
    found = await db.engine(verify_trail, A)
    assert (found.rows, found.position, found.broken) == (48, 48, None)


async def test_what_is_rolled_back_leaves_no_hole(db: Database) -> None:
    async def and_fail(conn: Connection) -> None:
        await insert_audit(conn, A, "cli", "config.changed", "x")
        raise ZeroDivisionError

    await write(db, A, 1)
    with pytest.raises(ZeroDivisionError):
        await db.tenant(A, and_fail)
    await write(db, A, 1)
    assert (await db.engine(verify_trail, A)).position == 2
    assert await broken(db, A) is None


async def age(owner: Session, tenant: TenantId, positions: str) -> None:
    """Rows as they would be had they been written long ago, hashes included."""
    await forge(
        owner,
        f"UPDATE audit SET at = now() - interval '400 days' WHERE tenant_id = '{tenant}' AND position {positions}",
    )
    await owner.run(rehash, tenant)


async def rehash(conn: OwnConnection, tenant: TenantId) -> None:
    await conn.execute(
        f"""
        DO $$ DECLARE line audit; last bytea := ''; BEGIN
            FOR line IN SELECT * FROM audit WHERE tenant_id = '{tenant}' ORDER BY position LOOP
                last := audit_hash(last, line);
                UPDATE audit SET hash = last WHERE tenant_id = line.tenant_id AND position = line.position;
            END LOOP;
            UPDATE audit_chains SET hash = last WHERE tenant_id = '{tenant}';
        END $$
        """
    )


async def test_pruning_moves_the_beginning_and_nothing_breaks(db: Database, owner: Session) -> None:
    await write(db, A, 6)
    await write(db, B, 2)
    await age(owner, A, "<= 4")
    await age(owner, B, "<= 1")
    assert [await db.engine(delete_old_audit, YEAR_S, 3) for _ in range(3)] == [3, 2, 0]
    found = await db.engine(verify_trail, A)
    assert (found.rows, found.begins_after, found.position, found.broken) == (2, 4, 6, None)
    assert (await db.engine(verify_trail, B)).broken is None
    await write(db, A, 1)
    assert await broken(db, A) is None
    await forge(owner, "DELETE FROM audit WHERE tenant_id = '0367' AND position = 5")
    assert await broken(db, A) == (5, "missing")


async def test_pruning_records_what_was_broken_before_the_traces_go(db: Database, owner: Session) -> None:
    await write(db, A, 6)
    await age(owner, A, "<= 4")
    await forge(owner, "DELETE FROM audit WHERE position = 2")
    assert await db.engine(delete_old_audit, YEAR_S, 10) == 3
    (line, *_) = await db.tenant(A, select_audit, A, None, 1)
    assert (line.action, line.target, line.kind) == ("audit.broken", "2", "system")
    assert await broken(db, A) is None


async def test_one_that_is_old_behind_one_that_is_young_stays(db: Database, owner: Session) -> None:
    await write(db, A, 3)
    await age(owner, A, "= 2")
    assert await db.engine(delete_old_audit, YEAR_S, 10) == 0


async def test_young_rows_cannot_be_removed(db: Database) -> None:
    await write(db, A, 2)
    with pytest.raises(StoreError):
        await db.engine(delete_old_audit, 0.0, 10)
    assert await broken(db, A) is None


@pytest.mark.parametrize(
    ("actor", "origin", "kind"),
    [
        ("admin@june.example", Origin("person", "192.0.2.1"), "person"),
        ("root@gateway.example", Origin("operator"), "operator"),
        ("gw_live_abcdefgh", Origin("key"), "key"),
        ("token", Origin(), "key"),
        ("retailcrm", Origin("key"), "key"),
        ("sync@identity.example", Origin("key"), "key"),
        ("cli", Origin("key"), "key"),
        ("", Origin("key"), "system"),
        ("retailcrm", Origin(), "system"),
        ("cli", Origin(), "cli"),
        ("", Origin("person"), "system"),
    ],
)
async def test_who_and_from_where(db: Database, actor: str, origin: Origin, kind: str) -> None:
    with acting(origin.kind, origin.address):
        await db.tenant(A, insert_audit, A, actor, "config.changed", "x")
    (line,) = await db.tenant(A, select_audit, A, None, 9)
    assert (line.kind, line.source) == (kind, origin.address)


async def test_the_filter(db: Database) -> None:
    await write(db, A, 3)
    await db.tenant(A, insert_audit, A, "cli", "phone.saved", "150%")
    await db.engine(insert_audit, OPERATOR, "cli", "tenant.deleted", "0368")

    async def targets(**wanted: Any) -> list[str]:
        return [line.target for line in await db.tenant(A, select_audit, A, None, 9, AuditFilter(**wanted))]

    assert await targets() == ["150%", "o2", "o1", "o0"]
    assert await targets(actor="JUNE") == ["o2", "o1", "o0"]
    assert await targets(target="0%") == ["150%"]
    assert await targets(kind="cli") == ["150%"]
    assert await targets(action="phone.saved") == ["150%"]
    (line, *_) = await db.tenant(A, select_audit, A, None, 1)
    assert await targets(since=line.at) == ["150%"]
    assert await targets(until=line.at) == ["o2", "o1", "o0"]


async def test_texts_that_a_database_refuses_are_stored_as_what_can_be(db: Database) -> None:
    await db.tenant(A, insert_audit, A, "cli", "x", "\0", old={"a\0": ["\ud800", {"b": "\0"}]}, new={"c": "x" * 9000})
    (line,) = await db.tenant(A, select_audit, A, None, 9)
    assert line.old == {"a\ufffd": ["?", {"b": "\ufffd"}]}
    assert line.new is not None
    assert len(line.new["c"]) == 2000
    assert await broken(db, A) is None


def test_only_what_differs_is_recorded() -> None:
    assert difference({"a": 1, "b": Secret("x")}, {"a": 1, "b": Secret("y"), "c": 3}) == (
        {"b": Secret("x")}, {"b": Secret("y"), "c": 3},
    )  # fmt: skip
    assert difference(None, {"a": 1}) == (None, {"a": 1})
    assert difference({"a": 1}, None) == ({"a": 1}, None)


async def test_rows_of_before_the_chain_are_chained_by_the_migration(owner: Session, db: Database) -> None:
    """The migration's own loop, over rows as an older version wrote them."""
    await write(db, A, 2)
    await write(db, B, 1)
    await forge(
        owner, "ALTER TABLE audit ALTER COLUMN position DROP NOT NULL, ALTER COLUMN hash DROP NOT NULL",
        "DELETE FROM audit_chains", "UPDATE audit SET position = NULL, hash = NULL, actor_kind = 'system'",
    )  # fmt: skip
    (sql,) = [one.sql for one in read_migrations() if one.name.endswith("audit_chain")]
    await owner.run(run_sql, sql[sql.index("ALTER TABLE audit NO FORCE") : sql.index("CREATE UNIQUE INDEX")])
    assert await broken(db, A) is None
    assert (await db.engine(verify_trail, A)).rows == 2
    await write(db, A, 1)
    assert (await db.engine(verify_trail, A)).position == 3
    (line, *_) = await db.tenant(A, select_audit, A, None, 1)
    assert line.kind == "person"
