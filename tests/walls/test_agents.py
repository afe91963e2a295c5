"""An agent's pages are the same as if nobody else of the company had ever had a call, and each filter that does it is noticed when
it is dropped.

The filters are found: every function that takes `only`, the internal numbers of an agent, and every use of `is_of` and `took_part`.
Answers are compared as a whole, so that a figure that counts others' calls is noticed like a call that is shown.
"""

import functools
import importlib
import inspect
import json
import pkgutil
import re
import typing
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from difflib import unified_diff
from pathlib import Path
from typing import Any

import pytest

import gateway.store
import gateway.web
from gateway.domain import people
from gateway.store import call_pages
from gateway.store.call_pages import Filters
from gateway.store.postgres.pool import OwnConnection
from gateway.store.secrets.seal import new_master_key, parse_master_keys
from gateway.web.formats import Formats
from gateway.web.http import guesses
from gateway.web.session.access import Need
from tests.conftest import Sample
from tests.walls.report import report
from tests.walls.rows import SPOKEN_WORD, changed, rows_of
from tests.walls.site import Person, Route, Side, Walls, open_walls

pytestmark = [pytest.mark.long, pytest.mark.slow, pytest.mark.timeout(900)]

NONCE = re.compile(r"nonce-?[=\"']*[\w+/=-]{16,}")
DECIMAL = re.compile(r"\d+\.\d+")
TIMER = re.compile(r"(?<=data-age=\"N\">)[\d:]+")
"""Lengths of what goes on, in seconds and as they are read."""


@pytest.fixture
async def walls(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Walls]:
    monkeypatch.setattr(guesses, "BURST", 1_000_000)
    monkeypatch.setattr(Formats, "span", lambda self, seconds: "a while")
    async with open_walls(dsn, tmp_path, parse_master_keys(new_master_key())) as made:
        person = made.person("an agent", made.a)
        await made.owner.run(_more_calls, person.side, made.colleagues(person))
        await made.owner.run(_save_marks)
        yield made


# Calls of all kinds ----------------------------------------------------------------------------------------------------

COPY = """
    INSERT INTO calls SELECT (jsonb_populate_record(c, $3::text::jsonb)).* FROM calls c WHERE tenant_id = $1 AND call_id = $2
"""
HEARD = "00000000-0000-4000-8000-00000000aaaa"
"""The recording of a call that rang at the agent's, and in which somebody else talked."""


async def _more_calls(conn: OwnConnection, side: Side, others: Sequence[Side]) -> None:
    """Others have calls that ring and that joined one of the agent's; the agent has one that a colleague took."""
    number, own = side.company.number, side.ids
    for one in others:
        theirs = {"caller": f"caller {one.ids.tag}", "called": f"called {one.ids.tag}", "trunk": f"line {one.ids.tag}",
                  "rang": [one.ids.phone], "extension": one.ids.phone, "last_extension": one.ids.phone}  # fmt: skip
        for what, more in (
            ("rings", {"phase": "ringing", "ringing": [one.ids.phone]}),
            ("talks", {"phase": "talking", "ringing": []}),
            ("joined", {"phase": "merged", "ringing": [], "merged_into": own.call_id}),
            (
                "missed",
                {"phase": "ended", "ringing": [], "result": "missed", "extension": None, "last_extension": None},
            ),
        ):
            call = {"call_id": f"{what}-{one.ids.tag}", "unique_id": f"{what}-{one.ids.tag}", **theirs, **more}
            await conn.execute(COPY, number, own.call_id, json.dumps(call))
    taker = others[0].ids.phone
    taken = {"call_id": f"taken-{own.tag}", "phase": "ended", "ringing": [], "result": "answered", "extension": taker,
             "last_extension": taker, "caller": "+375296254071"}  # fmt: skip
    await conn.execute(COPY, number, own.call_id, json.dumps(taken))
    await conn.execute(
        "INSERT INTO recordings SELECT (jsonb_populate_record(r, jsonb_build_object('recording_id', $3::text, 'call_id', $4::text, "
        "'loose', false))).* FROM recordings r WHERE tenant_id = $1 AND recording_id = $2",
        number, own.recording, HEARD, f"taken-{own.tag}",
    )  # fmt: skip


async def _save_marks(conn: OwnConnection) -> None:
    await conn.execute("CREATE TEMPORARY TABLE marks AS SELECT * FROM missed_calls_done")


async def _put_marks_back(conn: OwnConnection) -> None:
    await conn.execute("DELETE FROM missed_calls_done")
    await conn.execute("INSERT INTO missed_calls_done SELECT * FROM marks")


async def _leave_alone(conn: OwnConnection, side: Side) -> None:
    """Nothing of anybody else's calls is left."""
    number, own = side.company.number, side.ids
    mine = [own.call_id, f"taken-{own.tag}"]
    await conn.execute("DELETE FROM recordings WHERE tenant_id = $1 AND recording_id <> $2", number, own.recording)
    await conn.execute(
        "DELETE FROM missed_calls_done WHERE tenant_id = $1 AND call_id <> ALL($2::text[])", number, mine
    )
    await conn.execute("DELETE FROM call_events WHERE tenant_id = $1 AND call_id <> ALL($2::text[])", number, mine)
    await conn.execute("DELETE FROM call_orders WHERE tenant_id = $1 AND person <> $2", number, own.phone)
    await conn.execute("DELETE FROM calls WHERE tenant_id = $1 AND call_id <> ALL($2::text[])", number, mine)


# What an agent opens ---------------------------------------------------------------------------------------------------


def routes_of(walls: Walls) -> list[Route]:
    """Pages, files and operations that an agent may open."""
    api = ("/api/v1/calls", "/api/v1/calls/<id>")
    return [
        route for route in walls.routes()
        if route.method == "GET" and not route.intake
        and (route.need in (Need.CALLS, Need.DIAL) or route.rule in api or route.rule.startswith("/recordings/file/"))
    ]  # fmt: skip


async def opened(walls: Walls, person: Person, others: Sequence[Side]) -> dict[str, str]:
    """Every answer, with what no two have in common left out."""
    found = {}
    for route in routes_of(walls):
        searched = [side.ids.call_id for side in others] + [f"caller {side.ids.tag}" for side in others]
        searched += [side.ids.phone for side in others] + ["+375296254071", SPOKEN_WORD]
        asked = [{}, *({"q": text, "number": text} for text in searched if route.rule.endswith(("/search", "/calls")))]
        paths = [route.path({}, person.side)]
        if len(route.arguments) > 1 or route.rule.startswith(("/api/", "/recordings/")):
            called = [replace(side.ids) for side in others]
            paths += [route.path({}, replace(person.side, ids=ids)) for ids in called]
            more = [f"rings-{side.ids.tag}" for side in others] + [f"joined-{side.ids.tag}" for side in others]
            more += [f"taken-{person.side.ids.tag}", HEARD]
            paths += [
                paths[0].replace(person.side.ids.call_id, one).replace(str(person.side.ids.recording), one)
                for one in more
            ]
        for path in dict.fromkeys(paths):
            for query in asked:
                answer = await walls.ask(person, route, path, query, None)
                text = TIMER.sub("N", DECIMAL.sub("N", NONCE.sub("NONCE", answer.text)))
                found[f"{route} {path} {query}"] = f"{answer.status} {text}"
    return found


def refused_changes(person: Person, others: Sequence[Side]) -> list[tuple[str, Mapping[str, str]]]:
    """Forms by which an agent would change what is others'."""
    home = f"/t/{person.side.company.number}"
    calls = [f"missed-{side.ids.tag}" for side in others] + [side.ids.call_id for side in others]
    forms: list[tuple[str, Mapping[str, str]]] = [(f"{home}/missed/done", {"call": call}) for call in calls]
    forms += [(f"{home}/missed/undo", {"call": call}) for call in calls]
    return [*forms, *((f"{home}/dialling", {"extension": one.ids.phone, "phone": "+375296254070"}) for one in others)]


async def changes(walls: Walls, person: Person, others: Sequence[Side]) -> list[str]:
    """What of others' an agent's forms have changed, and calls from others' numbers that were not refused as such."""
    number, found = person.side.company.number, list[str]()
    first = before = await walls.owner.run(rows_of, number)
    for path, form in refused_changes(person, others):
        await walls.ask(person, Route("POST", path, ()), path, {}, form)
        after = await walls.owner.run(rows_of, number)
        if tables := {*changed(before, after)} - {"sessions", "flashes", "audit", "audit_chains"}:
            found.append(f"{path} {form}: changed rows in {tables}")
        before = after
    refused = [sum("not_own_phone" in line for line in rows["audit"]) for rows in (first, before)]
    if refused[1] - refused[0] != len(others):
        found.append(f"of {len(others)} calls from others' numbers {refused[1] - refused[0]} were refused")
    api = Route("POST", "/api/v1/calls", (), machine=True)
    for one in others:
        answer = await walls.ask(person, api, api.rule, {}, {"extension": one.ids.phone, "phone": "+375296254070"})
        if answer.status != 403:
            found.append(f"{api} from {one.ids.phone}: {answer.status}")
    await walls.owner.run(_put_marks_back)
    return found


# The filters -----------------------------------------------------------------------------------------------------------

Drop = Callable[[pytest.MonkeyPatch], None]


def _modules() -> list[Any]:
    """Those of the store and the web."""
    return [
        importlib.import_module(info.name)
        for package in (gateway.store, gateway.web)
        for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    ]


def _takes_only(function: Any) -> bool:
    if not inspect.isfunction(function) or not function.__module__.startswith("gateway."):
        return False
    if "only" not in inspect.signature(function).parameters:
        return False
    return bool(typing.get_type_hints(function)["only"] == (Sequence[str] | None))


def _without_only(function: Any) -> Any:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        bound = inspect.signature(function).bind(*args, **kwargs)
        bound.arguments["only"] = None
        return function(*bound.args, **bound.kwargs)

    return call


def _whole_search(conn: Any, tenant: Any, filters: Filters, *args: Any) -> Any:
    return _search_calls(conn, tenant, replace(filters, only=None), *args)


_search_calls = call_pages.search_calls


ELSEWHERE = {
    "gateway.store.client_calls.select_client_calls": "tests/web/pages/test_inbox.py",
    "gateway.web.pages.customer_history.read_history": "tests/web/pages/test_customers.py",
    "gateway.web.pages.inbox_view.read_person": "tests/web/pages/test_inbox.py",
    "gateway.web.pages.inbox_view.took_part": "tests/web/pages/test_inbox.py",
    "gateway.web.pages.inbox_view.with_players": "tests/web/pages/test_inbox.py",
}
"""Filters that the sample companies do not reach, and the tests that fail without them."""


def _let_through(module: Any, name: str, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(module, name, lambda *_: True)


def filters() -> dict[str, Drop]:
    """Every filter, by what it is called, and how it is dropped."""
    found: dict[str, Drop] = {
        "Filters.only of search_calls": lambda patch: patch.setattr(call_pages, "search_calls", _whole_search)
    }
    homes: dict[Any, list[tuple[Any, str]]] = {}
    for module in _modules():
        for name, value in vars(module).items():
            if _takes_only(value):
                homes.setdefault(value, []).append((module, name))
            elif value in (people.is_of, people.took_part):
                found[f"{module.__name__}.{name}"] = functools.partial(_let_through, module, name)
    for function, places in homes.items():

        def drop(patch: pytest.MonkeyPatch, function: Any = function, places: Any = places) -> None:
            for module, name in places:
                patch.setattr(module, name, _without_only(function))

        found[f"{function.__module__}.{function.__name__}"] = drop
    assert set(ELSEWHERE) <= set(found)
    return {name: drop for name, drop in found.items() if name not in ELSEWHERE}


async def test_an_agents_pages_are_as_if_others_had_no_calls_and_each_filter_dropped_is_noticed(
    walls: Walls, sample: Sample[str], expected_errors: None
) -> None:
    person = walls.person("an agent", walls.a)
    others = walls.colleagues(person)
    every = filters()
    assert len(every) > 20, sorted(every)
    assert await changes(walls, person, others) == []
    dropped: dict[str, tuple[dict[str, str], list[str]]] = {}
    with_everybody = await opened(walls, person, others)
    assert len(with_everybody) > 60
    for name in sample(sorted(every)):
        with pytest.MonkeyPatch.context() as patch:
            every[name](patch)
            dropped[name] = await opened(walls, person, others), []
    alone: dict[str, str] = {}
    for name in dropped:
        with pytest.MonkeyPatch.context() as patch:
            every[name](patch)
            dropped[name][1].extend(await changes(walls, person, others))
    await walls.owner.run(_leave_alone, person.side)
    alone = await opened(walls, person, others)
    differ = [place for place, text in with_everybody.items() if text != alone[place]]
    assert differ == [], "\n".join(
        line
        for place in differ
        for line in (place, *unified_diff(with_everybody[place].split("\n"), alone[place].split("\n"), n=0))
    )
    survivors = [name for name, (pages, changed_) in dropped.items() if pages == alone and not changed_]
    report("filters for agents", len(dropped), survivors)
    assert survivors == []
