"""The first page of a company, to be kept open all day: the calls of today, who waits, who is on the phone, what is wrong.

    rows of calls     by the stream of `live.py`
    the other parts   fetched again when that stream reports an ended call, and every few seconds

Each part is one bounded query or a look into memory. Figures of the day are the sums of the hours in the chart.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from quart import Blueprint, request
from quart_trio.wrappers import TrioResponse as Response

from gateway.domain.calls import Call, Phase
from gateway.domain.configuration import Tenant
from gateway.domain.events import Direction
from gateway.domain.ids import TenantId
from gateway.domain.statuses import Connection as Link
from gateway.domain.statuses import Standing
from gateway.store import call_pages, conversations, missed_calls
from gateway.store.call_pages import DayFigures, HourFigures
from gateway.store.calls import select_open_calls
from gateway.store.missed_calls import MissedFigures, Waiting
from gateway.store.postgres.pool import Connection
from gateway.web.first_steps import first_steps
from gateway.web.formats import Formats
from gateway.web.pages.hours_chart import PARTS, hours_chart
from gateway.web.pages.inbox import myself, only_of
from gateway.web.pages.integrations import slots_of
from gateway.web.pages.live import day_begins
from gateway.web.pages.missed import in_talk, missed_since
from gateway.web.session.auth import Gate
from gateway.web.session.surroundings import look_around
from gateway.web.site import Deps, tenant, viewer
from gateway.web.statuses import connections_of

SHOWN = 6
"""Clients who wait that fit on the page; the others stand on their own."""


@dataclass(frozen=True, slots=True)
class Day:
    """The calls of today, and those of this moment."""

    hours: tuple[HourFigures, ...]
    figures: DayFigures
    missed: MissedFigures
    talking: int
    ringing: int
    longest: Call | None
    """The caller who waits longest for somebody to pick up."""
    chats: tuple[int, datetime | None]
    """How many clients wait for an answer in a chat, and since when the longest does."""


def now_ringing(calls: Sequence[Call]) -> Call | None:
    """The incoming call that has rung longest."""
    waiting = [call for call in calls if call.phase is Phase.RINGING and call.direction is Direction.INCOMING]
    return min(waiting, key=lambda call: call.started_at, default=None)


async def _open_calls(conn: Connection, number: TenantId, only: Sequence[str] | None) -> list[Call]:
    calls = [call for _, call in await select_open_calls(conn, number)]
    if only is None:
        return calls
    own = set(only)
    return [
        call for call in calls
        if own & {*call.ringing, *call.rang} or own & {call.extension, call.last_extension}
        or (call.direction is not Direction.INCOMING and call.caller in own)
        or (call.direction is Direction.INTERNAL and call.called in own)
    ]  # fmt: skip


async def _day(
    conn: Connection, who: Tenant, today: datetime, since: datetime, only: Sequence[str] | None, agent: str | None
) -> Day:
    """`only` and `agent`: an agent's internal numbers, and who they are as an owner of conversations."""
    calls = await _open_calls(conn, who.number, only)
    hours = tuple(await call_pages.select_hours(conn, who.number, today, who.timezone.key, only))
    return Day(
        hours, call_pages.of_day(hours),
        await missed_calls.select_missed_figures(conn, who.number, since, today, only),
        sum(call.phase is Phase.TALKING for call in calls), sum(call.phase is Phase.RINGING for call in calls),
        now_ringing(calls), await conversations.count_waiting(conn, who.number, agent),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class CallBacks:
    """The clients whom nobody has called back."""

    waiting: list[Waiting]
    clients: int
    """Of which `waiting` are those who wait longest."""
    now: dict[str, Call]
    chats: dict[str, UUID]
    """Their conversations by number."""


async def _waiting(
    conn: Connection, number: TenantId, since: datetime, only: Sequence[str] | None, agent: str | None
) -> CallBacks:
    found, clients = await missed_calls.select_waiting(conn, number, since, SHOWN, only)
    return CallBacks(
        found, clients, in_talk(await _open_calls(conn, number, only)),
        await conversations.select_by_phones(conn, number, [one.client for one in found], agent),
    )  # fmt: skip


async def _all(
    conn: Connection, who: Tenant, today: datetime, since: datetime, only: Sequence[str] | None, agent: str | None
) -> tuple[Day, CallBacks, list[Call], bool]:
    return (
        await _day(conn, who, today, since, only, agent), await _waiting(conn, who.number, since, only, agent),
        await _open_calls(conn, who.number, only), await call_pages.any_call(conn, who.number),
    )  # fmt: skip


async def links_of(deps: Deps, who: Tenant) -> list[Link]:
    """What is connected, PBXes first; an integration that is switched off is not."""
    found = await connections_of(deps, who)
    return [one for one in found if one.is_pbx or one.status.standing is not Standing.INACTIVE]


def _chart(day: Day, f: Formats, now: datetime) -> Any:
    t = f.t
    answered, missed, unreached = (t(f"overview.{part}") for part in PARTS)
    label = t(
        "overview.chart", answered=day.figures.answered, missed=day.figures.missed, unreached=day.figures.unreached
    )
    return hours_chart(day.hours, now.hour, label, (answered, missed, unreached))


def overview_pages(gate: Gate) -> Blueprint:
    """The page `/t/<number>/` and its parts."""
    pages = Blueprint("overview", __name__, url_prefix="/t/<number>")
    pages.before_request(partial(look_around, gate))
    site, db = gate.site, gate.site.deps.db

    def times() -> tuple[datetime, datetime]:
        """When today began, and from when missed calls are looked at."""
        zone = tenant().timezone
        return day_begins(zone), missed_since(zone)

    def day_part(day: Day) -> dict[str, Any]:
        who = viewer()
        conversing = site.deps.conversing
        has_chats = bool(day.chats[0]) or (conversing is not None and bool(conversing.channels(tenant())))
        return {
            "has_chats": has_chats,
            "day": day,
            "chart": _chart(day, who.f, datetime.now(tenant().timezone)),
            "parts": PARTS,
        }

    async def waiting_part(found: CallBacks) -> dict[str, Any]:
        links = await links_of(site.deps, tenant()) if viewer().only is None else []
        mine = request.cookies.get(gate.cookie("extension"), "")
        return {
            "waiting": found.waiting, "clients": found.clients, "now": found.now, "chats": found.chats, "mine": mine, "links": links,
        }  # fmt: skip

    @pages.get("/")
    async def overview(number: str) -> Response:
        who, only, agent = tenant(), viewer().only, only_of(await myself(gate))
        day, waiting, live, calls_seen = await db.tenant(who.number, _all, who, *times(), only, agent)
        steps = first_steps(who, await slots_of(site, who.number), calls_seen=calls_seen) if only is None else []
        return site.page(
            "overview.html", live=live, steps=[] if all(step.done for step in steps) else steps,
            today=datetime.now(who.timezone), **day_part(day), **await waiting_part(waiting),
        )  # fmt: skip

    @pages.get("/overview/day")
    async def day_fragment(number: str) -> Response:
        agent = only_of(await myself(gate))
        day = await db.tenant(tenant().number, _day, tenant(), *times(), viewer().only, agent)
        return site.page("overview_day.html", **day_part(day))

    @pages.get("/overview/waiting")
    async def waiting_fragment(number: str) -> Response:
        agent = only_of(await myself(gate))
        found = await db.tenant(tenant().number, _waiting, tenant().number, times()[1], viewer().only, agent)
        return site.page("overview_waiting.html", **await waiting_part(found))

    return pages
