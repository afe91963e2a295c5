"""How somebody of A tries an address, and what of it may not happen."""

import html
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from urllib.parse import unquote
from zlib import crc32

from tests.walls.site import ANY, VALUES, Answer, Person, Route, Side, Walls, field_names

Request = tuple[str, Mapping[str, str], Mapping[str, str] | None]
"""Path, query, form."""
Kind = tuple[str, Request]
"""A request with what is tried by it."""


def requests(route: Route, a: Side, b: Side) -> Iterator[tuple[str, Request]]:
    """Every way in which somebody of A would try an address; the first is the right one."""
    if "hook_id" in route.arguments:
        b = replace(b, ids=b.open)
    writes = route.method in ("POST", "PUT", "PATCH", "DELETE")
    own = {name: make(a) for name, make in VALUES.items()}
    yield "as it is meant", (route.path({}, a), {}, {**own, "sure": "1"} if writes else None)
    if not route.served:
        return
    others = [name for name in route.arguments if name not in ("number", "kind")]
    for name in others:
        yield f"B's {name}", (route.path({name: b}, a), {}, own if writes else None)
    if len(others) > 1:
        yield "all ids of B", (route.path(dict.fromkeys(others, b), a), {}, own if writes else None)
    if "number" in route.arguments:
        yield "B's number", (route.path({}, b), {}, own if writes else None)
        yield "B's number, A's ids", (route.path({"number": b}, a), {}, own if writes else None)
    names = field_names()
    foreign = {name: VALUES[name](b) for name in names if name in VALUES}
    unknown = [name for name in names if name not in VALUES]
    for such in ANY:
        fields = {**{name: VALUES[such](b) for name in unknown}, **foreign, "sure": "1"}
        yield f"B's {such} in the query", (route.path({}, a), fields, own if writes else None)
        if writes:
            yield f"B's {such} in the body", (route.path({}, a), {}, fields)


def betrayed(secrets: Iterable[str], sent: Request, answer: Answer) -> list[str]:
    """Which of these texts are in an answer and were not in the request."""
    path, query, form = sent
    known = unquote(path) + repr(query) + repr(form)
    whole = html.unescape(unquote(answer.whole))
    return [text for text in secrets if text in whole and text not in known]


def some(person: Person, route: Route, every: Iterable[Kind]) -> list[Kind]:
    """The right request and two others, not the same ones for each person and address."""
    first, *rest = every
    begin = crc32(f"{person.name} {route}".encode())
    return [first, *(rest[(begin + n * (len(rest) // 2)) % len(rest)] for n in range(min(2, len(rest))))]


def quick(every: Iterable[Kind]) -> list[Kind]:
    """Requests that name what is B's in the address, and one of those that name it elsewhere."""
    kinds = list(every)
    return [kind for kind in kinds if " in the " not in kind[0]] + [kind for kind in kinds if " in the " in kind[0]][:1]


async def tried(
    walls: Walls,
    person: Person,
    route: Route,
    *,
    whole: bool | None,
    other: Side | None = None,
    hidden: Sequence[str] = (),
) -> tuple[list[str], int]:
    """What went wrong with the requests of a person to an address, and the status of the first. `whole` is False for a few of
    them, None for those that no guard may let through. Tried are the ids of B's, or of another `side` from which the texts of
    `hidden` must stay; these may never be in an answer, asked for or not."""
    wrong, first = [], 0
    foreign = (*walls.companies.foreign(), *hidden)
    every = requests(route, person.side, other or walls.b)
    chosen = every if whole is True else quick(every) if whole is None else some(person, route, every)
    for what, sent in chosen:
        answer = await walls.ask(person, route, *sent)
        first = first or answer.status
        if found := betrayed(foreign, sent, answer):
            wrong.append(f"{person.name}, {route}, {what}: {answer.status} with {found}")
        elsewhere = other is None and what in ("B's number", "B's number, A's ids") and route.method != "OPTIONS"
        if elsewhere and answer.status not in (303, 401, 403, 404, 405):
            wrong.append(f"{person.name}, {route}, {what}: {answer.status}")
        if answer.status == 500:
            wrong.append(f"{person.name}, {route}, {what}: 500")
    return wrong, first
