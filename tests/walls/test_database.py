"""The database's walls hold for every table and right there is, and each of them dropped is noticed."""

from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest

from gateway.store.postgres.pool import OwnConnection, Session, open_session
from gateway.store.secrets.seal import new_master_key, parse_master_keys
from tests.conftest import Sample
from tests.walls.database_walls import (
    check_force,
    check_policies,
    check_rights,
    every_table,
    right_mutations,
    table_mutations,
)
from tests.walls.report import report
from tests.walls.rows import Companies, fill_both, new_companies

Mutation = tuple[str, str]


@pytest.fixture
def companies() -> Companies:
    return new_companies(parse_master_keys(new_master_key()))


@pytest.fixture
async def owner(dsn: str, companies: Companies) -> AsyncIterator[Session]:
    """A session of the owner, both companies filled."""
    async with open_session(dsn) as session:
        await session.run(fill_both, companies)
        yield session


async def rolled_back(conn: OwnConnection, work: Callable[[], Awaitable[None]]) -> None:
    transaction = conn.transaction()
    await transaction.start()
    try:
        await work()
    finally:
        await transaction.rollback()


async def check(conn: OwnConnection, table: str, of: Companies) -> None:
    await rolled_back(conn, lambda: check_policies(conn, table, of))
    await rolled_back(conn, lambda: check_force(conn, table, of))


async def caught(conn: OwnConnection, mutation: Mutation, test: Callable[[], Awaitable[None]]) -> bool:
    """Whether a test fails once a wall is down. The wall is up again afterwards."""
    noticed = False

    async def mutated() -> None:
        nonlocal noticed
        await conn.execute(mutation[1])
        try:
            await test()
        except (AssertionError, asyncpg.PostgresError):
            noticed = True

    await rolled_back(conn, mutated)
    return noticed


@pytest.mark.long
async def test_every_table_is_walled_whatever_was_granted_and_whoever_owns_it(
    owner: Session, companies: Companies
) -> None:
    tables = await owner.run(every_table)
    assert len(tables) > 25
    for table in tables:
        await owner.run(check, table, companies)


async def test_the_roles_may_do_what_is_stated_and_nothing_else(owner: Session) -> None:
    await owner.run(check_rights)


@pytest.mark.long
async def test_each_policy_dropped_is_noticed(owner: Session, companies: Companies, sample: Sample[str]) -> None:
    made, survivors = 0, []

    async def survives(conn: OwnConnection, table: str, mutation: Mutation) -> bool:
        return not await caught(conn, mutation, lambda: check(conn, table, companies))

    for table in sample(await owner.run(every_table)):
        for mutation in table_mutations(table):
            made += 1
            if await owner.run(survives, table, mutation):
                survivors.append(mutation[0])
    report("policies and forced row security", made, survivors)
    assert survivors == []


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_each_right_given_or_taken_is_noticed(owner: Session, sample: Sample[Mutation]) -> None:
    made, survivors = 0, []

    async def survives(conn: OwnConnection, mutation: Mutation) -> bool:
        return not await caught(conn, mutation, lambda: check_rights(conn))

    for mutation in sample(await owner.run(right_mutations)):
        made += 1
        if await owner.run(survives, mutation):
            survivors.append(mutation[0])
    report("rights of the roles", made, survivors)
    assert survivors == []
