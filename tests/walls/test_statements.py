"""No function of the store answers or changes anything of another company, and each tenant condition dropped is noticed."""

from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from dataclasses import dataclass

import pytest

from gateway.store import crm_registrations, flashes, saved_replies
from gateway.store.postgres.pool import OwnConnection, Session, open_session
from gateway.store.secrets.seal import new_master_key, parse_master_keys
from tests.conftest import Sample
from tests.store.database import Postgres
from tests.walls.report import report
from tests.walls.rows import Companies, Rows, changed, fill_both, new_companies, rows_of
from tests.walls.store_functions import (
    Call,
    Mutated,
    Outcome,
    Unknown,
    arguments,
    calls_of,
    conditions,
    functions,
    try_call,
)

pytestmark = pytest.mark.long


@dataclass(frozen=True)
class Place:
    """A database with both companies, and one with A alone."""

    of: Companies
    both: Session
    alone: Session
    before: Rows

    async def tried(self, call: Call, seen: dict[str, None], mutated: Mutated | None = None) -> Outcome:
        return await self.both.run(try_call, call, self.of, self.before, seen, mutated)

    async def expected(self, call: Call) -> Outcome:
        return await self.alone.run(try_call, call, self.of, {}, {}, None)


@pytest.fixture
def other_dsn(postgres: Postgres) -> Iterator[str]:
    address = postgres.new_database()
    yield address
    postgres.drop_database(address)


@pytest.fixture
async def place(dsn: str, other_dsn: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    monkeypatch.setattr(crm_registrations, "MOST_STATUSES", 0)  # limits that these rows reach
    monkeypatch.setattr(flashes, "MOST", 1)
    monkeypatch.setattr(saved_replies, "MOST", 5)
    # Whatever takes the first company that it finds takes B's options.
    of = new_companies(parse_master_keys(new_master_key()), '{"security": {"require_second_factor": true}}')
    async with open_session(dsn) as both, open_session(other_dsn) as alone:
        await both.run(fill_both, of)
        await alone.run(_fill_alone, of)
        yield Place(of, both, alone, await both.run(rows_of, of.b.number))


async def _fill_alone(conn: OwnConnection, of: Companies) -> None:
    await fill_both(conn, of, alone=True)


def difference(there: Outcome, expected: Outcome) -> str:
    """What a function did that it would not have done without B."""
    if there.foreign:
        return f"changed rows of B in {there.foreign}"
    if there.refused != expected.refused:
        return f"refused: {there.refused} instead of {expected.refused}"
    if there.answer != expected.answer:
        return f"answered {there.answer[:400]} instead of {expected.answer[:400]}"
    return f"made other rows of A in {[(t, there.own.get(t), expected.own.get(t)) for t in changed(there.own, expected.own)]}"[
        :1500
    ]


def test_every_function_for_a_company_can_be_called() -> None:
    of = new_companies(parse_master_keys(new_master_key()))
    found, unknown = functions(), []
    assert len(found) > 100
    for name, function in found.items():
        try:
            for call in calls_of(of, name, function):
                arguments(call)
        except Unknown as error:
            unknown.append(f"{name}: {error}")
    assert unknown == [], "add arguments to ARGUMENTS in tests/walls/store_functions.py"


UNPROVEN: Mapping[str, str] = {}
"""Functions of which a tenant condition can be dropped and nothing can notice it, each with the reason."""


@pytest.mark.sampled
@pytest.mark.timeout(300)
async def test_no_function_answers_or_changes_anything_of_another_company(
    place: Place, request: pytest.FixtureRequest
) -> None:
    leaks, answered = [], 0
    step = 1 if request.config.getoption("--whole") else 4  # the first of A's rows and of B's
    for name, function in functions().items():
        for call in calls_of(place.of, name, function)[::step]:
            there, expected = await place.tried(call, {}), await place.expected(call)
            if not (there.refused or "23").startswith(("23", "rule")):
                leaks.append(f"{name}: {there.refused}")
            answered += there.refused is None
            if there.foreign or there.seen != expected.seen:
                leaks.append(f"{name}({call.ids.kind}): {difference(there, expected)}")
    print(f"\nfunctions of the store: {len(functions())}, calls {answered} answered")
    assert leaks == [], "\n".join(leaks)


@pytest.mark.timeout(600)
async def test_each_tenant_condition_dropped_is_noticed(place: Place, sample: Sample[tuple[str, int]]) -> None:
    callers: dict[str, list[Call]] = {}
    expected: dict[int, Outcome] = {}
    for name, function in functions().items():
        for call in calls_of(place.of, name, function):
            seen: dict[str, None] = {}
            there = await place.tried(call, seen)
            expected[id(call)] = await place.expected(call)
            assert (there.foreign, there.seen) == ((), expected[id(call)].seen), name  # else all would seem noticed
            for sql in seen:
                callers.setdefault(sql, []).append(call)
    mutations = [(sql, n) for sql in callers for n in range(len(conditions(sql)))]

    async def noticed(sql: str, places: Collection[int]) -> bool:
        for call in callers[sql]:
            there = await place.tried(call, {}, (sql, places))
            assert not (there.refused or "").startswith("42"), (sql, places, there.refused)
            if there.foreign or there.seen != expected[id(call)].seen:
                return True
        return False

    chosen, doubled, survivors = sample(mutations), 0, []
    for sql, n in chosen:
        if await noticed(sql, {n}):
            continue
        every = conditions(sql)
        if len(every) > 1 and await noticed(sql, range(len(every))):
            doubled += 1  # another condition of the same statement keeps the company in
            continue
        text = " ".join(sql[max(0, every[n].start() - 110) : every[n].end() + 40].split())
        survivors.append(f"{callers[sql][0].name}: {every[n][0]} in … {text} …")
    report("tenant conditions of statements", len(chosen), survivors)
    print(f"  of these noticed only once the other conditions of the statement are dropped too: {doubled}")
    assert [one for one in survivors if one.partition(": ")[0] not in UNPROVEN] == []
