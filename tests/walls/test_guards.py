"""Each check by which the web keeps people to what is theirs, dropped in turn: it must be seen to be down.

What each kind of person may reach is stated here by rules of its own, not by `access.py`. Handlers are replaced by one that only
says that it was reached, so a whole round over every page takes moments. What handlers do by themselves is in `test_routes.py`.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from quart_trio import QuartTrio

from gateway.store.secrets.seal import new_master_key, parse_master_keys
from gateway.web.http import guesses
from gateway.web.session import auth, guard
from gateway.web.session.access import Need, declared
from tests.conftest import Sample
from tests.walls.report import report
from tests.walls.site import CSRF, Person, Route, Walls, open_walls

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

REACHED = 299
"""The status of the handler in place of the real ones."""
WATCHED = ("nobody", "an admin", "an agent", "an auditor", "an operator", "an operator who acts as the company")


async def _reached(**_: Any) -> tuple[str, int]:
    return "", REACHED


@pytest.fixture
async def walls(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Walls]:
    monkeypatch.setattr(guesses, "BURST", 1_000_000)
    async with open_walls(dsn, tmp_path, parse_master_keys(new_master_key())) as made:
        _hollow(made.app)
        yield made


def _hollow(app: QuartTrio) -> None:
    """Leaves nothing of an app but its guard: neither handlers nor what blueprints do before and after them."""
    app.view_functions = dict.fromkeys(app.view_functions, _reached)
    app.before_request_funcs = defaultdict(list, {None: app.before_request_funcs[None]})


# Who may what, by rules ------------------------------------------------------------------------------------------------

AGENT_SEES = ("/overview", "/calls", "/search", "/missed", "/dialling", "/inbox", "/customers", "/orders", "/alerts")
AGENT_DOES = (
    "/missed/done",
    "/missed/undo",
    "/dialling",
    "/inbox/<uuid:chat>/",
    "/customers/<uuid:contact>/",
    "/orders/",
)
ADMIN_SEES = (
    "/inbox/replies/<",
    "/customers/new",
    "/customers/<uuid:contact>/export",
    "/customers/<uuid:contact>/erase",
    "/orders/rules",
)
"""What an agent does not see below AGENT_SEES."""
OPEN = ("/", "/login", "/login/", "/logout", "/preferences", "/welcome", "/oauth/")
ADMIN_ONLY_FORMS = (
    "/remove", "/disconnect", "/rotate", "/revoke", "/delete", "/replay", "/login", "/pbxes/new", "/dialling", "/dialling/orders", "/orders/new", "<uuid:ident>/edit", "<uuid:user_id>",
    "/catalog/import", "/another", "/replies/<uuid:reply>", "/deals/routes/<name>/try", "/customers/new", "<uuid:contact>/edit", "<uuid:contact>/merge",
    "<uuid:contact>/export", "<uuid:contact>/erase",
)  # fmt: skip
"""Pages below `/t/` that are nothing but a form, or a person's data."""


def may_reach(who: str, route: Route) -> bool:
    """Whether a person may get to the handler of a page."""
    rule, change = route.rule, route.method not in ("GET", "HEAD", "OPTIONS")
    if rule in OPEN or any(rule.startswith(one) for one in OPEN if one != "/" and one.endswith("/")):
        return True
    if who == "nobody":
        return False
    if rule.startswith("/operators"):
        return who.startswith("an operator")
    if not rule.startswith("/t/"):
        return True
    own = rule.removeprefix("/t/<number>")
    if who == "an operator":
        return False
    if who == "an agent":
        if own.startswith(ADMIN_SEES):
            return False
        return own.startswith(AGENT_DOES) if change else own in ("", "/") or own.startswith(AGENT_SEES)
    if who == "an auditor":
        return not change and not own.endswith(ADMIN_ONLY_FORMS)
    return True


def rule_of_company(route: Route) -> bool:
    """Whether the page is inside one company."""
    return route.rule.startswith("/t/<number>")


def pages(walls: Walls) -> list[Route]:
    """Those that the guard looks after."""
    return [
        route for route in walls.routes()
        if not route.machine and route.method in ("GET", "POST", "DELETE") and route.need not in (Need.OWN, Need.NOTHING)
    ]  # fmt: skip


async def reaches(walls: Walls, person: Person, route: Route, *, other: bool = False, csrf: str | None = None) -> bool:
    """Whether a request gets to the handler. `other`: with the number of B's."""
    path = route.path({"number": walls.b} if other else {}, person.side)
    form: dict[str, str] | None = {} if route.method != "GET" else None
    person = person if person.cookies else replace(person, cookies={"form": CSRF})
    if csrf is not None:
        person = replace(person, headers={"x-csrf-token": csrf})
    answer = await walls.ask(person, route, path, {}, form, csrf=csrf or CSRF)
    return answer.status == REACHED


async def wrong_with(walls: Walls, routes: list[Route]) -> list[str]:
    """What is wrong with who gets where."""
    found = []
    for who in WATCHED:
        person = walls.person(who, walls.a)
        for route in routes:
            may = may_reach(who, route)
            if await reaches(walls, person, route) != may:
                found.append(f"{who}, {route}: {'is kept out' if may else 'gets in'}")
            if rule_of_company(route) and may and await reaches(walls, person, route, other=True):
                found.append(f"{who}, {route}: gets in to another company")
            if route.method != "GET" and may and await reaches(walls, person, route, csrf="wrong"):
                found.append(f"{who}, {route}: a form without its token is taken")
    return found


async def test_everybody_gets_where_they_may_and_nowhere_else(walls: Walls) -> None:
    every = pages(walls)
    assert len(every) > 120
    found = await wrong_with(walls, every)
    assert found == [], "\n".join(found)


# Dropped ---------------------------------------------------------------------------------------------------------------

WEAKER: Mapping[Need, tuple[Need, ...]] = {
    Need.CHANGE: (Need.READ, Need.SIGNED_IN, Need.OPEN),
    Need.READ: (Need.CALLS, Need.SIGNED_IN, Need.OPEN),
    Need.DIAL: (Need.CALLS, Need.SIGNED_IN, Need.OPEN),
    Need.CALLS: (Need.SIGNED_IN, Need.OPEN),
    Need.OPERATOR: (Need.SIGNED_IN, Need.OPEN),
    Need.SIGNED_IN: (Need.OPEN,),
}
Drop = Callable[[pytest.MonkeyPatch], None]


def _any_company(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        auth.Gate, "in_tenant", lambda self, who, number: who if self.site.deps.cache.tenant(number) else None
    )
    patch.setattr(guard, "allows", lambda *_: True)


class _Anything:
    """Compares everything as equal."""

    compare_digest = staticmethod(lambda *_: True)


CHECKS: Mapping[str, Drop] = {
    "in_tenant and allows": _any_company,  # each of the two keeps others out by itself
    "allows": lambda patch: patch.setattr(guard, "allows", lambda *_: True),
    "in_company": lambda patch: patch.setattr(guard, "_in_company", lambda *_: None),
    "sign in first": lambda patch: patch.setattr(guard, "_sign_in_first", lambda: None),
    "the token of a form": lambda patch: patch.setattr(auth, "hmac", _Anything),
    "Viewer.operator": lambda patch: patch.setattr("gateway.web.site.Viewer.operator", property(lambda _: True)),
}


async def test_each_need_dropped_is_noticed(walls: Walls, sample: Sample[tuple[str, Need]]) -> None:
    table: Any = declared(walls.app)
    rules = {str(rule.endpoint): rule.rule for rule in walls.app.url_map.iter_rules()}
    every = pages(walls)
    mutations = [(name, weaker) for name, need in table.items() for weaker in WEAKER.get(need, ())]
    chosen, survivors = sample(mutations), []
    for name, weaker in chosen:
        own = [route for route in every if route.rule == rules[name] and route.need is table[name]]
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(table, name, weaker)
            if not await wrong_with(walls, own):
                survivors.append(f"{name}: {weaker.name} instead of {next(r.need for r in own).name if own else '?'}")
    report("needs of pages", len(chosen), survivors)
    assert survivors == []


@pytest.mark.long
async def test_each_check_of_the_guard_dropped_is_noticed(walls: Walls, expected_errors: None) -> None:
    survivors = []
    for name, drop in CHECKS.items():
        with pytest.MonkeyPatch.context() as patch:
            drop(patch)
            try:
                noticed = bool(await wrong_with(walls, pages(walls)))
            except AssertionError:
                noticed = True
            if not noticed:
                survivors.append(name)
    report("checks of the guard", len(CHECKS), survivors)
    assert survivors == []
