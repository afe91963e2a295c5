"""Nobody of one company is shown, or changes, anything of another: at every address of both listeners, with every method.

Each address is called with A's number and B's ids in each argument, with B's number, and with B's ids in query and body, by
everybody who can prove to be of A; each of them tries one address in six, not the same ones, unless `WALLS=whole`. The answer,
its headers, the log lines meanwhile and the metrics hold nothing of B's, and B's rows stay as they are.
"""

import logging
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from zlib import crc32

import pytest

from gateway.store.secrets.seal import new_master_key, parse_master_keys
from gateway.web.http import guesses
from gateway.web.session.access import Need
from tests.conftest import Sample
from tests.walls.rows import changed, rows_of
from tests.walls.site import PEOPLE, VALUES, Person, Route, Walls, open_walls
from tests.walls.tries import Kind, Request, betrayed, tried

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]
EVERY = os.environ.get("WALLS") == "whole"
"""Every address with every request for everybody, many times as much: `WALLS=whole pytest tests/walls/test_routes.py`."""


@pytest.fixture
async def walls(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Walls]:
    monkeypatch.setattr(guesses, "BURST", 1_000_000)  # wrong credentials are answered at once
    async with open_walls(dsn, tmp_path, parse_master_keys(new_master_key())) as made:
        yield made


SHARE = 6
"""One in so many addresses is called by each person, not the same ones, unless all are."""


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


@pytest.mark.parametrize("who", PEOPLE)
async def test_nobody_of_a_sees_or_changes_anything_of_b(
    walls: Walls, lines: Lines, sample: Sample[Kind], request: pytest.FixtureRequest, who: str
) -> None:
    whole = EVERY
    person = walls.person(who, walls.a)
    before = await walls.owner.run(rows_of, walls.b.company.number)
    wrong, reached = [], 0
    assert len(walls.routes()) > 600
    routes = routes_for(walls, person, whole=whole)
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


def routes_for(walls: Walls, person: Person, *, whole: bool) -> list[Route]:
    """What this person calls: what shows first, then what changes, then what ends their session."""

    def order(route: Route) -> tuple[bool, bool, str]:
        return ("logout" in route.rule or route.rule.startswith("/account"), route.method != "GET", str(route))

    routes = sorted(walls.routes(), key=order)
    if person.operator:
        routes = [
            route for route in routes if route.need is not Need.OPERATOR
        ]  # these are theirs, whichever the company
    if not whole and person.name != "nobody":
        routes = [route for route in routes if route.served]  # the others say that a method is not taken, to anybody
    if not whole and person.machine:
        routes = [route for route in routes if route.machine]  # to pages, a machine is nobody
    return routes if whole else [route for route in routes if crc32(f"{person.name} {route}".encode()) % SHARE == 0]


COMMON = (
    "/t/<number>/inbox/<uuid:chat>",
    "/t/<number>/inbox/<uuid:chat>/thread",
    "/t/<number>/inbox/replies",
)
"""Where an agent is shown the ids of things that are everybody's: saved replies, and colleagues to whom a chat can be given."""


async def test_an_agent_is_shown_nothing_of_others_calls(walls: Walls, request: pytest.FixtureRequest) -> None:
    """Nor of their people, their chats, their recordings or anything else of their own company that has another number's mark."""
    person = walls.person("an agent", walls.a)
    others = walls.colleagues(person)
    marks = [text for side in others for text in (side.ids.tag, side.ids.secret)]
    ids = [str(side.ids.recording) for side in others]
    wrong, shown = [], 0
    for route in routes_for(walls, person, whole=EVERY):
        hidden = marks if route.rule in COMMON else marks + ids
        for side in others if EVERY else others[:1]:
            found, status = await tried(walls, person, route, whole=None, other=side, hidden=hidden)
            wrong += found
            shown += status == 200
    for route in walls.routes():  # every page as it is meant, also where the rest is a sample
        if route.method == "GET" and route.served and not route.intake:
            sent: Request = (route.path({}, person.side), {}, None)
            answer = await walls.ask(person, route, *sent)
            if found := betrayed(marks if route.rule in COMMON else marks + ids, sent, answer):
                wrong.append(f"{person.name}, {route}: {answer.status} with {found}")
    assert wrong == [], "\n".join(wrong)
    assert shown > 3


async def test_a_person_is_shown_their_own_at_many_addresses(walls: Walls) -> None:
    """Else the tests above would pass over an app that shows nothing."""
    for who, least in (
        ("an admin", 30),
        ("an auditor", 25),
        ("an agent", 6),
        ("an operator who acts as the company", 30),
    ):
        for side in (walls.a, walls.b):
            person, shown = walls.person(who, side), set()
            for route in walls.routes():
                if route.method != "GET" or route.intake or route.need is Need.OPERATOR:
                    continue
                answer = await walls.ask(person, route, route.path({}, person.side), {}, None)
                if side.company.mark in answer.text:
                    shown.add(route.rule)
            assert len(shown) >= least, (who, sorted(shown))
