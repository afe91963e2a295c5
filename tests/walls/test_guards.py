"""Each check by which the web keeps people in their company, dropped in turn: the walls must be seen to be down.

The hooks of every blueprint are found in the app; what they rely on is listed in `CHECKS`.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from quart import g, request

import adapters.registry
from gateway.domain.ids import TenantId
from gateway.store.files.recording_files import RecordingFiles
from gateway.store.secrets.seal import new_master_key, parse_master_keys
from gateway.web import site as web_site
from gateway.web.api import extensions, machine
from gateway.web.http import guesses
from gateway.web.session import auth, embedded
from tests.conftest import Sample
from tests.walls.report import report
from tests.walls.rows import changed, rows_of
from tests.walls.site import Person, Route, Walls, open_walls
from tests.walls.tries import tried

pytestmark = [pytest.mark.long, pytest.mark.slow, pytest.mark.timeout(900)]

Drop = Callable[[pytest.MonkeyPatch], None]


@pytest.fixture
async def walls(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Walls]:
    monkeypatch.setattr(guesses, "BURST", 1_000_000)
    async with open_walls(dsn, tmp_path, parse_master_keys(new_master_key())) as made:
        yield made


def _true(*_: Any, **__: Any) -> bool:
    return True


def _always(cls: type, name: str) -> Drop:
    return lambda patch: patch.setattr(cls, name, property(_true))


def _unsigned(patch: pytest.MonkeyPatch) -> None:
    for adapter in adapters.registry.adapters().values():
        if adapter.inbound is not None:
            patch.setattr(type(adapter.inbound), "verify", lambda *_: None)


class _Anything:
    """Compares everything as equal."""

    compare_digest = staticmethod(_true)


CHECKS: dict[str, Drop] = {
    "Viewer.may_see": lambda patch: patch.setattr(web_site.Viewer, "may_see", _true),
    "Viewer.operator": _always(web_site.Viewer, "operator"),
    "the token of a person's form": lambda patch: patch.setattr(auth, "hmac", _Anything),
    "the token of a module's form": lambda patch: patch.setattr(embedded, "hmac", _Anything),
    "Caller.may_see": lambda patch: patch.setattr(extensions.Caller, "may_see", _true),
    "X-CSRF-Token": lambda patch: patch.setattr(extensions, "hmac", _Anything),
    "operators' addresses": lambda patch: patch.setattr(machine, "_for_operators", lambda deps, handler: handler),
    "the signature of a webhook": _unsigned,
    "the owner of a recording": lambda patch: patch.setattr(
        RecordingFiles, "signer", lambda self, number: type("Open", (), {"allows": staticmethod(_true)})
    ),
}


def hooks(walls: Walls) -> Iterator[tuple[str, str, int]]:
    """Every guard of every blueprint: its blueprint, its name, its place."""
    for blueprint, functions in walls.app.before_request_funcs.items():
        for place, function in enumerate(functions):
            name = getattr(function, "__name__", "")
            if blueprint is not None and name.startswith("needs"):
                yield blueprint, name, place


def _without(walls: Walls, name: str) -> Callable[[], Any]:
    """What stands in a guard's place: it lets everybody in. One that puts a company in view still does."""

    async def open_door() -> None:
        number = TenantId((request.view_args or {}).get("number", ""))
        found = walls.gateway.cache.tenant(number)
        if name == "needs_tenant" and found is not None:
            g.viewer = replace(g.viewer, tenant=found)

    return open_door


async def refused_forms(walls: Walls, person: Person, route: Route) -> list[str]:
    """A form without its token must be refused."""
    by_cookie = not route.machine or "-admin/" in route.rule  # the others ask for a token in the request itself
    if route.method == "GET" or not person.cookies or not by_cookie:
        return []
    path = route.path({}, person.side)
    wrong = replace(person, headers={"x-csrf-token": "wrong"})
    answer = await walls.ask(wrong, route, path, {}, {}, csrf="wrong")
    return (
        []
        if answer.status in (303, 400, 401, 403, 404, 405) and answer.status != 303
        else [f"{route}: {answer.status}"]
    )


async def first_wrong(walls: Walls) -> str:
    """The first thing that is wrong with the app as it is; empty where nothing is."""
    before = await walls.owner.run(rows_of, walls.b.company.number)
    everyone = walls.people(walls.a)
    routes = [route for route in walls.routes() if route.served and route.method in ("GET", "POST", "PUT")]
    for route in sorted(routes, key=lambda one: (one.machine, not one.arguments)):
        if "logout" in route.rule or route.rule in ("/login", "/login/once"):
            continue
        for person in everyone:
            machine_person = bool(person.fields or person.headers)
            if machine_person and not route.machine:
                continue
            found = await refused_forms(walls, person, route) if not machine_person else []
            if found:
                return found[0]
            wrong, status = await tried(walls, person, route, whole=None)
            if wrong:
                return wrong[0]
            if route.rule.startswith(("/operators", "/t/")) and person.name == "nobody" and status < 300:
                return f"{route}: {status} to nobody"
            if route.rule.startswith("/operators") and status != 404 and person.name == "a person":
                return f"{route}: {status} to {person.name}"
        after = await walls.owner.run(rows_of, walls.b.company.number)
        if changed(before, after):
            return f"{route}: changed rows of B in {changed(before, after)}"
    return ""


async def test_with_every_guard_in_place_nothing_is_wrong(walls: Walls) -> None:
    """Else each mutation below would seem to be noticed."""
    assert await first_wrong(walls) == ""


async def test_each_guard_dropped_is_noticed(walls: Walls, sample: Sample[Any], expected_errors: None) -> None:
    guards = [(f"{blueprint}: {name}", blueprint, place) for blueprint, name, place in hooks(walls)]
    assert len(guards) >= 10
    made, survivors = 0, []
    for what in sample([*CHECKS, *guards]):
        made += 1
        with pytest.MonkeyPatch.context() as patch:
            if isinstance(what, str):
                title = what
                CHECKS[what](patch)
                walls.rebuild()
            else:
                title, blueprint, place = what
                walls.rebuild()
                walls.app.before_request_funcs[blueprint][place] = _without(walls, title.partition(": ")[2])
            if not await first_wrong(walls):
                survivors.append(title)
    report("guards of the web", made, survivors)
    assert survivors == []
