"""Nobody of one company is shown, or changes, anything of another: at every address of both listeners, with every method.

Each address is called with A's number and B's ids in each argument, with B's number, and with B's ids in query and body, by
everybody who can prove to be of A. The answer, its headers, the log lines meanwhile and the metrics hold nothing of B's, and
B's rows stay as they are.
"""

import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gateway.store.secrets.seal import new_master_key, parse_master_keys
from gateway.web.http import guesses
from tests.conftest import Sample
from tests.walls.rows import changed, rows_of
from tests.walls.site import VALUES, Walls, open_walls
from tests.walls.tries import Kind, tried

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
async def walls(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Walls]:
    monkeypatch.setattr(guesses, "BURST", 1_000_000)  # wrong credentials are answered at once
    async with open_walls(dsn, tmp_path, parse_master_keys(new_master_key())) as made:
        yield made


class Lines(logging.Handler):
    """Everything that is logged, with its fields."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if not record.name.startswith(("asyncio", "trio", "hypothesis")):
            self.texts.append(f"{record.getMessage()} {record.__dict__}")


@pytest.fixture
def lines() -> Iterator[Lines]:
    handler, root = Lines(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield handler
    root.removeHandler(handler)
    root.setLevel(level)


async def test_every_argument_of_every_address_has_a_sample(walls: Walls) -> None:
    missing = sorted({f"{route}: {name}" for route in walls.routes() for name in route.arguments if name not in VALUES})
    assert missing == [], "add values to VALUES in tests/walls/site.py"


@pytest.mark.parametrize("who", range(5))
async def test_nobody_of_a_sees_or_changes_anything_of_b(
    walls: Walls, lines: Lines, sample: Sample[Kind], request: pytest.FixtureRequest, who: int
) -> None:
    whole = bool(request.config.getoption("--whole"))
    person = walls.people(walls.a)[who]
    before = await walls.owner.run(rows_of, walls.b.company.number)
    wrong, reached = [], 0
    routes = sorted(walls.routes(), key=lambda route: (route.method != "GET", "logout" in route.rule, str(route)))
    assert len(routes) > 150
    if not whole and who:
        routes = [route for route in routes if route.served]  # the others say that a method is not taken, to anybody
    if not whole and (person.fields or person.headers):
        routes = [route for route in routes if route.machine]  # to pages, a machine is nobody
    for route in routes:
        found, status = await tried(walls, person, route, whole=whole)
        wrong += found
        reached += status < 300 or status in (409, 422)
        if route.method != "GET" or route is routes[-1]:
            after = await walls.owner.run(rows_of, walls.b.company.number)
            if tables := changed(before, after):
                wrong.append(f"{person.name}, {route}: changed rows of B in {tables}")
                before = after
    mark = walls.companies.b.mark
    wrong += [f"logged: {line[:300]}" for line in lines.texts if mark in line]
    told = walls.gateway.figures.metrics() + str(walls.gateway.figures.stats())
    wrong += [f"in the metrics: {text}" for text in walls.companies.foreign() if text in told]
    print(f"\n{person.name}: {len(routes)} of {len(walls.routes())} routes called, {reached} answered as meant")
    assert wrong == [], "\n".join(wrong)


async def test_a_person_is_shown_their_own_at_many_addresses(walls: Walls) -> None:
    """Else the test above would pass over an app that shows nothing."""
    for side in (walls.a, walls.b):
        person, shown = walls.people(side)[1], set()
        for route in walls.routes():
            if route.method != "GET" or route.intake:
                continue
            answer = await walls.ask(person, route, route.path({}, side), {}, None)
            if side.company.mark in answer.text:
                shown.add(route.rule)
        assert len(shown) >= 12, shown
