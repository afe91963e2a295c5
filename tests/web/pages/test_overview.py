"""The first page of a company: figures that add up, the chart, who waits, the steps of a new company, and the walls."""

import html
import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.events import Direction, Result
from gateway.domain.health import State
from gateway.domain.ids import CallId
from gateway.store import call_pages
from gateway.store.call_pages import HourFigures, of_day
from gateway.store.postgres.pool import Connection
from gateway.web.first_steps import first_steps
from gateway.web.pages.hours_chart import HEIGHT, PARTS, WIDTH, hours_chart, scale
from gateway.web.pages.overview import now_ringing
from tests.web.conftest import SignIn
from tests.web.world import JUNE, MAPLE, World, answered, ended, play, ringing

WORDS = ("Answered", "Missed", "Not reached")


def hour(at: int, answered: int = 0, missed: int = 0, unreached: int = 0) -> HourFigures:
    """An hour's calls."""
    return HourFigures(at, answered, missed, unreached, answered, answered * 4.0, answered, answered * 60.0)


hours = st.lists(
    st.builds(hour, st.integers(0, 23), st.integers(0, 5000), st.integers(0, 5000), st.integers(0, 5000)),
    unique_by=lambda one: one.hour, max_size=24,
)  # fmt: skip


@given(hours, st.integers(0, 23))
def test_columns_have_the_heights_of_their_figures_and_stay_in_the_picture(found: list[HourFigures], now: int) -> None:
    chart = ElementTree.fromstring(hours_chart(tuple(found), now, "all of it", WORDS))
    lines = scale(max((one.answered + one.missed + one.unreached for one in found), default=0))
    drawn: dict[str, float] = dict.fromkeys(PARTS, 0.0)
    for box in chart.iter("{http://www.w3.org/2000/svg}rect"):
        drawn[box.attrib["class"]] += float(box.attrib["height"])
        assert 0 <= float(box.attrib["x"]) <= WIDTH
        assert 0 <= float(box.attrib["y"]) <= HEIGHT
        assert float(box.attrib["x"]) + float(box.attrib["width"]) <= WIDTH + 0.2
    unit = (HEIGHT - 12 - 26) / lines[-1]
    for part in PARTS:
        assert drawn[part] == pytest.approx(sum(getattr(one, part) for one in found) * unit, abs=0.06 * 24)
    whole = of_day(found)
    assert whole.calls == whole.answered + whole.missed + whole.unreached


@pytest.mark.parametrize("most", [0, 1, 2, 4, 5, 8, 9, 49, 50, 999, 12345])
def test_the_scale_reaches_beyond_the_highest_column_in_few_lines(most: int) -> None:
    lines = scale(most)
    assert lines[0] == 0
    assert max(most, 1) <= lines[-1] <= 3 * max(most, 1) + 1
    assert len(lines) <= 6
    assert len({b - a for a, b in pairwise(lines)}) == 1


def test_the_chart_escapes_what_its_library_would_not() -> None:
    nasty = '"><script>alert(1)</script>'
    chart = hours_chart((hour(9, 1, 1, 1),), 9, nasty, (nasty, nasty, nasty))
    assert "<script" not in chart
    assert ElementTree.fromstring(chart).attrib["aria-label"] == nasty
    assert "style=" not in chart, "the content security policy would block it"


async def test_the_hours_add_up_to_the_day(world: World) -> None:
    midnight = datetime(2026, 11, 21, tzinfo=UTC)
    results = [*Result]
    for place in range(40):
        direction = (Direction.INCOMING, Direction.OUTGOING, Direction.INTERNAL)[place % 3]
        caller, called = ("150", "+375291110000") if direction is Direction.OUTGOING else ("+375291110000", "100")
        at = midnight + timedelta(minutes=31 * place)
        call = ringing(CallId(f"h.{place}"), at, caller, called, ["150"], direction=direction)
        result = results[place % len(results)]
        await world.keep(JUNE, [call, ended(call, 30 + place, result, "150" if result is Result.ANSWERED else None)])
    found = await world.db.tenant(JUNE, call_pages.select_hours, JUNE, midnight, "UTC")
    day = await world.db.tenant(JUNE, call_pages.select_day_figures, JUNE, midnight)
    summed = of_day(found)
    assert (summed.calls, summed.answered, summed.missed, summed.unreached) == (
        day.calls, day.answered, day.missed, day.unreached
    )  # fmt: skip
    assert (summed.wait_s, summed.talk_s) == (pytest.approx(day.wait_s), pytest.approx(day.talk_s))
    assert [one.hour for one in found] == sorted({one.hour for one in found})
    minsk = await world.db.tenant(JUNE, call_pages.select_hours, JUNE, midnight, "Europe/Minsk")
    assert minsk[0].hour == found[0].hour + 3
    own = await world.db.tenant(JUNE, call_pages.select_hours, JUNE, midnight, "UTC", ["150"])
    assert of_day(own).calls == day.calls
    assert await world.db.tenant(JUNE, call_pages.select_hours, JUNE, midnight, "UTC", ["199"]) == []
    assert await world.db.tenant(MAPLE, call_pages.select_hours, MAPLE, midnight, "UTC") == []


@pytest.mark.parametrize("language", ["en", "ru"])
async def test_figures_on_the_page_add_up(world: World, sign_in: SignIn, language: str) -> None:
    await play(world)
    page = await (await (await sign_in(JUNE, language)).get("/t/0367/")).get_data(as_text=True)
    tiles = [
        [int(one) for one in re.findall(r">(\d+) ", tile.replace("0:", ""))]
        for tile in re.findall(r'(?s)<section class="tile.*?</section>', page)
    ]
    calls, missed = tiles[1], tiles[2]
    assert calls[0] == sum(calls[1:])
    assert missed[0] == sum(missed[1:])
    assert calls[2] == missed[0]
    rows = re.findall(r'(?s)<tr><th scope="row">\d\d:00</th>(.*?)</tr>', page)
    columns = [[int(one) for one in re.findall(r">(\d+)</td>", row)] for row in rows]
    assert [sum(column[:3]) for column in columns] == [column[3] for column in columns]
    assert sum(column[3] for column in columns) == calls[0]
    assert '<svg xmlns="http://www.w3.org/2000/svg"' in page
    assert 'id="live"' in page


async def test_the_parts_are_fetched_apart_and_show_nothing_of_another_company(world: World, sign_in: SignIn) -> None:
    await play(world)
    theirs = await play(world, MAPLE)
    client = await sign_in()
    for path in ("", "overview/day", "overview/waiting"):
        answer = await client.get(f"/t/0367/{path}")
        page = await answer.get_data(as_text=True)
        assert answer.status_code == 200
        assert "7946" not in page
        assert theirs[0].call_id not in page
    assert "<html" not in page


async def test_the_caller_who_waits_longest_is_named(world: World, sign_in: SignIn) -> None:
    now = datetime.now(UTC)
    for place, (client, seconds) in enumerate((("+375291110001", 40), ("+375291110002", 70), ("+375291110003", 99))):
        call = ringing(CallId(f"w.{place}"), now - timedelta(seconds=seconds), client, "100", ["150"])
        await world.keep(JUNE, [call, answered(call, "150")] if place == 2 else [call])
    page = await (await (await sign_in()).get("/t/0367/overview/day")).get_data(as_text=True)
    assert "111-00-02" in page
    assert "111-00-01" not in page
    assert "111-00-03" not in page
    assert now_ringing([]) is None


async def test_a_new_company_ticks_its_steps_off(world: World, sign_in: SignIn) -> None:
    async def remove(conn: Connection) -> None:
        for table in ("phones", "pbxes", "integrations"):
            await conn.execute(f"DELETE FROM {table} WHERE tenant_id = '0367'")

    who = world.cache.tenant(JUNE)
    assert who is not None
    slots = {slot.path: slot for slot in world.directory.below("tenant/0367")}

    def ticked(*, calls_seen: bool = False) -> list[bool]:
        assert who is not None
        return [step.done for step in first_steps(who, slots, calls_seen=calls_seen)]

    assert ticked() == [True, True, True, False]
    slots["tenant/0367/pbx/main"].report(State.OFFLINE, "unavailable", "no answer")
    slots["tenant/0367/integration/retailcrm"].report(State.ATTENTION, "bad_credentials", "403")
    assert ticked() == [False, True, False, False]
    assert ticked(calls_seen=True) == [True] * 4, "a company with calls does not get the list back"
    await world.db.engine(remove)
    await world.cache.load()
    who = world.cache.tenant(JUNE)
    assert ticked() == [False] * 4
    assert ticked(calls_seen=True) == [True, False, False, True]
    client = await sign_in()
    page = await (await client.get("/t/0367/")).get_data(as_text=True)
    steps = page.partition('class="panel first-steps"')[2].partition("</section>")[0]
    assert "0 of 4 done" in steps
    for href in re.findall(r'href="([^"]+)"', steps):
        assert (await client.get(html.unescape(href))).status_code == 200, href


async def test_a_company_that_is_set_up_sees_no_steps(world: World, sign_in: SignIn) -> None:
    await play(world)
    client = await sign_in()
    assert "first-steps" not in await (await client.get("/t/0367/")).get_data(as_text=True)
    for address in ("/", "/t/0367"):
        answer = await client.get(address)
        assert answer.status_code in (303, 308)
        assert answer.location.endswith("/t/0367/")
