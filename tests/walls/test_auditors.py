"""An auditor reads no secret and no message, and changes nothing; each mask dropped is noticed.

Masks are found: in templates by the words that make them, in the code where `without_texts` is used and where a function has `whole`.
"""

import html
import re
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from functools import partial, wraps
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import pytest

from gateway.store.secrets.seal import new_master_key, parse_master_keys
from gateway.web import site as web_site
from gateway.web.callers.callers import Caller
from gateway.web.http import guesses
from gateway.web.pages import deliveries as delivery_pages
from gateway.web.rest import deliveries as rest_deliveries
from gateway.web.rest import integrations as rest_integrations
from tests.conftest import Sample
from tests.walls.report import report
from tests.walls.rows import changed, message, rows_of, secrets_of
from tests.walls.site import Person, Route, Walls, open_walls
from tests.walls.test_routes import EVERY, routes_for
from tests.walls.tries import tried

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


@pytest.fixture
async def walls(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Walls]:
    monkeypatch.setattr(guesses, "BURST", 1_000_000)
    async with open_walls(dsn, tmp_path, parse_master_keys(new_master_key())) as made:
        yield made


OWN_TABLES = {"sessions", "flashes"}
"""What any session writes: when it was in use, and what its last button came to."""


async def test_an_auditor_reads_no_secret_and_no_message_and_changes_nothing(walls: Walls) -> None:
    person = walls.person("an auditor", walls.a)
    hidden = [*secrets_of(walls.companies.a, walls.companies.of_a), message(walls.companies.a)]
    hidden += [text for (number, _), text in walls.keys.items() if number == walls.a.company.number]
    side = walls.a
    before = await walls.owner.run(rows_of, side.company.number)
    wrong, shown = [], 0
    for route in routes_for(walls, person, whole=EVERY):
        for one in (person, replace(person, side=side)):
            found, status = await tried(walls, one, route, whole=None, hidden=hidden)
            wrong += found
            shown += status == 200
        if route.method not in ("GET", "HEAD"):
            after = await walls.owner.run(rows_of, side.company.number)
            if tables := {*changed(before, after)} - OWN_TABLES:
                wrong.append(f"{route}: changed rows in {tables}")
                before = after
    assert wrong == [], "\n".join(wrong)
    assert shown > 10


# Masks of messages -----------------------------------------------------------------------------------------------------

WHERE = {
    "/t/<number>/deliveries",
    "/t/<number>/deliveries/list.csv",
    "/t/<number>/calls/<path:call_id>",
    "/t/<number>/integrations/<key>",
    "/api/v1/deliveries",
    "/api/v1/integrations/<key>/logs",
}
"""Where texts of messages stand, for whoever may read them."""


def routes_with_messages(walls: Walls) -> list[Route]:
    """Pages, files and operations that show what was sent."""
    return [
        route for route in walls.routes()
        if route.method == "GET" and not route.intake
        and ("deliveries" in route.rule or "integrations" in route.rule or "/calls" in route.rule or "/deals" in route.rule)
    ]  # fmt: skip


async def shown_to(walls: Walls, person: Person) -> set[str]:
    """At which addresses a person is shown the text of a message."""
    text, found = message(walls.companies.a), set()
    for route in routes_with_messages(walls):
        answer = await walls.ask(person, route, route.path({}, walls.a), {}, None)
        if text in html.unescape(answer.text):
            found.add(route.rule)
    return found


async def test_an_auditor_sees_that_there_was_a_message_and_not_which(walls: Walls) -> None:
    assert await shown_to(walls, walls.person("an admin", walls.a)) >= WHERE
    assert await shown_to(walls, walls.person("an auditor", walls.a)) == set()


Drop = Callable[[pytest.MonkeyPatch], None]
TEMPLATE_MASK = re.compile(r"masked=not who\.may_change|if who\.may_change else (?=\"\*\*\*\"|without_texts)")
SHOWN = {"masked=not who.may_change": "masked=false", "if who.may_change else ": "if true else "}


def _whole(module: Any, name: str) -> Drop:
    """A function that masks nothing for anybody."""
    real = getattr(module, name)

    @wraps(real)
    def call(*args: Any, whole: bool = True) -> Any:
        return real(*args, whole=True)

    return lambda patch: patch.setattr(module, name, call)


class _Loader(jinja2.PackageLoader):
    """Templates of which one lacks one of its masks."""

    def __init__(self, template: str, place: int, *args: Any) -> None:
        super().__init__(*args)
        self.template, self.place = template, place

    def get_source(self, environment: jinja2.Environment, template: str) -> tuple[str, str, Callable[[], bool] | None]:
        text, name, fresh = super().get_source(environment, template)
        if template == self.template:
            found = list(TEMPLATE_MASK.finditer(text))[self.place]
            text = text[: found.start()] + SHOWN[found[0]] + text[found.end() :]
        return text, name, fresh


def _replace_loader(loader: Callable[..., _Loader], patch: pytest.MonkeyPatch) -> None:
    patch.setattr(web_site, "PackageLoader", loader)


def template_masks() -> Iterator[tuple[str, Drop]]:
    """Each mask of each template."""
    for file in sorted(files("gateway.web").joinpath("templates").iterdir(), key=lambda one: one.name):
        if file.name == "deal_route.html":
            continue  # its page wants a route that is set up: tests/web/pages/test_deals.py looks at it
        for place, found in enumerate(TEMPLATE_MASK.finditer(file.read_text())):
            yield f"{file.name}: {found[0]} ({place})", partial(_replace_loader, partial(_Loader, file.name, place))


def masks() -> dict[str, Drop]:
    """Each way in which messages would be shown to an auditor, by what is dropped."""

    def same(module: Any) -> Drop:
        return lambda patch: patch.setattr(module, "without_texts", lambda text: text)

    return {
        "Caller.reads_messages": lambda patch: patch.setattr(Caller, "reads_messages", property(lambda _: True)),
        "Viewer.may_change": lambda patch: patch.setattr(web_site.Viewer, "may_change", property(lambda _: True)),
        **{f"{one.__name__}.without_texts": same(one) for one in (web_site, rest_deliveries, rest_integrations)},
        "whole of a delivery": _whole(rest_deliveries, "_item"),
        "whole of an attempt": _whole(rest_integrations, "_log"),
        "whole of a line of the file": _whole(delivery_pages, "csv_row"),
        **dict(template_masks()),
    }


async def test_each_mask_dropped_is_noticed(walls: Walls, sample: Sample[str]) -> None:
    every, survivors = masks(), []
    assert len(every) > 12, sorted(every)
    chosen = sample(sorted(every))
    for name in chosen:
        with pytest.MonkeyPatch.context() as patch:
            every[name](patch)
            walls.rebuild()
            if not await shown_to(walls, walls.person("an auditor", walls.a)):
                survivors.append(name)
    report("masks of messages", len(chosen), survivors)
    assert survivors == []
