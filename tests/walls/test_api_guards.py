"""Who reaches which operation of `/api/v1`, and each check of it dropped in turn: it must be seen to be down.

Like `test_guards.py`: what each caller may is stated here by rules of its own, operations are replaced by one that only says that it
was reached, and no body or query is judged, so that nothing but the guard answers.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from pydantic import BaseModel

from gateway.domain.api_keys import SCOPES
from gateway.domain.ids import TenantId
from gateway.domain.people import Role
from gateway.store.postgres.pool import OwnConnection
from gateway.store.secrets.seal import new_master_key, parse_master_keys
from gateway.web.callers import callers
from gateway.web.callers.callers import SESSION_SCOPES, Access, Caller, Callers
from gateway.web.http import guesses
from gateway.web.http.routes import Address, Response
from gateway.web.rest import table
from gateway.web.rest.endpoints import ROOT, Call, Endpoint, rest_addresses
from tests.conftest import Sample
from tests.walls.report import report
from tests.walls.site import CSRF, PEOPLE, Person, Route, Walls, open_walls

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

REACHED = 299
SAFE = ("GET", "HEAD", "OPTIONS")


class _Anything(BaseModel):
    """A query of any kind."""


async def _reached(call: Call) -> Response:
    return Response(status=REACHED)


Change = Callable[[Endpoint], Endpoint]


def _unchanged(endpoint: Endpoint) -> Endpoint:
    return endpoint


@contextmanager
def hollow(walls: Walls, change: Change = _unchanged) -> Iterator[None]:
    """The same addresses with nothing behind their guards."""

    def empty(endpoint: Endpoint) -> Endpoint:
        return replace(
            change(endpoint), operation=_reached, query=_Anything, body=None, accepts=MappingProxyType({}), makes=False
        )

    def addresses(deps: Any, endpoints: Sequence[Endpoint]) -> list[Address]:
        return rest_addresses(deps, [empty(one) for one in endpoints])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table, "rest_addresses", addresses)
        walls.rebuild()
    yield


@pytest.fixture
async def walls(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Walls]:
    monkeypatch.setattr(guesses, "BURST", 1_000_000)
    async with open_walls(dsn, tmp_path, parse_master_keys(new_master_key())) as made:
        yield made


# Who may what, by rules ------------------------------------------------------------------------------------------------

OTHERWISE: Mapping[tuple[str, str], frozenset[str]] = {
    ("GET", "/bot-config"): frozenset({"bot"}),
    ("GET", "/changes"): frozenset({"bot", "read"}),
    ("POST", "/calls"): frozenset({"call"}),
    ("GET", "/catalog/<id>/slots"): frozenset({"chat", "read"}),
    ("POST", "/prompts/validate"): frozenset({"read", "write"}),
    ("GET", "/integrations/available"): frozenset(SCOPES),
    ("POST", "/token"): frozenset(SCOPES),
    ("GET", "/contacts/<id>/export"): frozenset({"write"}),
    ("DELETE", "/contacts/<id>"): frozenset({"write"}),
    ("PUT", "/deals/routes/<name>"): frozenset({"write"}),
    ("DELETE", "/deals/routes/<name>"): frozenset({"write"}),
}
"""Everywhere else what shows wants `read`, and what changes `write`."""
CHATS = ("/conversations", "/messages", "/templates", "/contacts", "/files", "/orders")
"""There what shows wants `chat` or `read`, and what changes `chat`."""
DEALS = "/deals"
"""There the scope `deals` does as well, but for a change of a route."""
KEYS_ALONE = ("/bot-config", "/token")
AGENTS = (("GET", "/calls"), ("GET", "/calls/<id>"), ("POST", "/calls"), ("GET", "/contacts/<id>"))
AGENTS_CHATS = ("/conversations", "/messages/", "/templates", "/files", "/orders")
"""All of it below these."""


def scopes_for(route: Route) -> frozenset[str]:
    """One of these is needed."""
    place = (route.method.replace("HEAD", "GET"), route.rule.removeprefix(ROOT))
    if place[1].startswith(CHATS) and place not in OTHERWISE:
        return frozenset({"chat", "read"} if route.method in SAFE else {"chat"})
    if place[1].startswith(DEALS) and place not in OTHERWISE:
        return frozenset({"read", "deals"} if route.method in SAFE else {"write", "deals"})
    return OTHERWISE.get(place, frozenset({"read" if route.method in SAFE else "write"}))


def may_reach(who: str, route: Route) -> bool:
    """Whether a caller may get to the operation."""
    rule, wanted = route.rule.removeprefix(ROOT), scopes_for(route)
    _, _, scope = who.partition(" with the scope ")
    if scope:
        return scope in wanted
    if who == "a token with every scope":
        return True
    if rule in KEYS_ALONE:
        return False
    if who in ("an admin", "an operator who acts as the company"):
        return True
    if who == "an auditor":
        return "read" in wanted
    return who == "an agent" and ((route.method, rule) in AGENTS or rule.startswith(AGENTS_CHATS))


def operations(walls: Walls) -> list[Route]:
    """The addresses of the API that want a caller."""
    return [
        route for route in walls.routes()
        if route.rule.startswith(f"{ROOT}/") and route.served and route.method in ("GET", "POST", "PUT", "PATCH", "DELETE")
        and not route.intake
    ]  # fmt: skip


async def status(walls: Walls, person: Person, route: Route, query: Mapping[str, str], csrf: str = CSRF) -> int:
    """Of the answer."""
    person = replace(person, fields={}, headers={**person.headers, "x-csrf-token": csrf})
    answer = await walls.ask(
        person, route, route.path({}, person.side), query, {} if route.method not in SAFE else None
    )
    return answer.status


async def wrong_with(walls: Walls, routes: Sequence[Route], whom: Sequence[str] = PEOPLE) -> list[str]:
    """What is wrong with who gets where."""
    found, other = [], {"tenant": walls.b.company.number}
    for who in whom:
        person = walls.person(who, walls.a)
        for route in routes:
            may = may_reach(who, route)
            if (await status(walls, person, route, {}) == REACHED) != may:
                found.append(f"{who}, {route}: {'is kept out' if may else 'gets in'}")
            if await status(walls, person, route, other) == REACHED:
                found.append(f"{who}, {route}: gets in to another company")
            by_cookie = may and bool(person.cookies) and route.method not in SAFE
            if by_cookie and await status(walls, person, route, {}, csrf="wrong") == REACHED:
                found.append(f"{who}, {route}: is let in without the session's token")
    return found


async def test_everybody_reaches_what_they_may_and_nothing_else(walls: Walls) -> None:
    with hollow(walls):
        every = operations(walls)
        assert len(every) > 45
        found = await wrong_with(walls, every)
        assert found == [], "\n".join(found)
        await walls.owner.run(_demand_second_factor, walls.a.company.number)
        people = [walls.person(who, walls.a) for who in ("an admin", "an agent", "an auditor")]
        let_in = [
            f"{one.name}, {route}"
            for one in people
            for route in every
            if await status(walls, one, route, {}) == REACHED
        ]
        assert let_in == [], "without a second factor where it is demanded"


async def _demand_second_factor(conn: OwnConnection, number: TenantId) -> None:
    await conn.execute(
        """UPDATE tenants SET options = '{"security": {"require_second_factor": true}}' WHERE tenant_id = $1""", number
    )


# Dropped ---------------------------------------------------------------------------------------------------------------

EVERY = frozenset(SCOPES)


def endpoint_mutations(walls: Walls) -> list[tuple[Route, str, Change]]:
    """Each check that an endpoint states, stated weaker."""
    found: list[tuple[Route, str, Change]] = []
    for route in operations(walls):

        def changed(route: Route = route, **changes: Any) -> Change:
            place = (route.method, route.rule.removeprefix(ROOT).replace("<", "{").replace(">", "}"))
            return lambda one: replace(one, **changes) if (one.method, one.path) == place else one

        found += [
            (route, f"scope {scope} is enough", changed(scopes=(*scopes_for(route), scope)))
            for scope in sorted(EVERY - scopes_for(route))
        ]
        if route.rule.removeprefix(ROOT) in KEYS_ALONE:
            found.append((route, "sessions too", changed(sessions=True)))
        elif scopes_for(route) & SESSION_SCOPES[Role.AGENT] and not may_reach("an agent", route):
            found.append((route, "agents too", changed(agents=True)))
    return found


async def test_each_check_of_an_endpoint_dropped_is_noticed(walls: Walls, sample: Sample[Any]) -> None:
    chosen, survivors = sample(endpoint_mutations(walls)), []
    for route, what, change in chosen:
        with hollow(walls, change):
            if not await wrong_with(walls, [route]):
                survivors.append(f"{route}: {what}")
    report("checks of the API's endpoints", len(chosen), survivors)
    assert survivors == []


Drop = Callable[[pytest.MonkeyPatch], None]
_real = callers.session_access


def _access(change: Callable[[Any, str, Any], Any]) -> Drop:
    """`session_access` whose answer is changed."""
    return lambda patch: patch.setattr(
        callers, "session_access", lambda session, wanted: change(session, wanted, _real(session, wanted))
    )


def _scopes(role: Role) -> Drop:
    return lambda patch: patch.setattr(callers, "SESSION_SCOPES", {**SESSION_SCOPES, role: EVERY})


def _unlimited(session: Any, wanted: str, found: Any) -> Any:
    return replace(found, only=None) if isinstance(found, Access) else found


def _any_company(session: Any, wanted: str, found: Any) -> Any:
    return Access(TenantId(wanted), EVERY) if wanted else found


def _any_operator(session: Any, wanted: str, found: Any) -> Any:
    if session.operator and not isinstance(found, Access) and not wanted:
        return Access(TenantId(_some_company[0]), EVERY)
    return found


_some_company = [""]
"""Set by the test: a company that an operator does not act as."""


def _admitted(self: Callers, caller: Caller, *_: Any) -> Caller:
    return caller


class _Equal:
    """Compares everything as equal."""

    compare_digest = staticmethod(lambda *_: True)


CHECKS: Mapping[str, Drop] = {
    "session_access: an auditor has every scope": _scopes(Role.AUDITOR),
    "session_access: an agent is not kept to their numbers": _access(_unlimited),
    "session_access: any company is the session's": _access(_any_company),
    "session_access: an operator need not act": _access(_any_operator),
    "the scope": lambda patch: patch.setattr(Callers, "_admitted", _admitted),
    "the session's token": lambda patch: patch.setattr(callers, "hmac", _Equal),
    "the company of a key": lambda patch: patch.setattr(callers, "_of_company", lambda caller, _: caller),
}


def _open_to_agents(endpoint: Endpoint) -> Endpoint:
    return replace(endpoint, agents=True)


@pytest.mark.long
async def test_each_check_of_callers_dropped_is_noticed(walls: Walls) -> None:
    survivors = []
    _some_company[0] = walls.a.company.number
    with hollow(walls):
        every = operations(walls)
        for name, drop in CHECKS.items():
            with pytest.MonkeyPatch.context() as patch:
                drop(patch)
                if not await wrong_with(walls, every):
                    survivors.append(name)
        with hollow(walls, _open_to_agents), pytest.MonkeyPatch.context() as patch:
            # Endpoints keep agents out by themselves, too: with these open, their scopes are what is left.
            by_scopes = await wrong_with(walls, every, ["an agent"])
            _scopes(Role.AGENT)(patch)
            if await wrong_with(walls, every, ["an agent"]) == by_scopes:
                survivors.append("session_access: an agent has every scope")
    with hollow(walls):
        await walls.owner.run(_demand_second_factor, walls.a.company.number)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("gateway.domain.people.Membership.locked", property(lambda _: False))
            admin = walls.person("an admin", walls.a)
            if not [route for route in every if await status(walls, admin, route, {}) == REACHED]:
                survivors.append("session_access: the second factor that is demanded")
    report("checks of callers", len(CHECKS) + 2, survivors)
    assert survivors == []
