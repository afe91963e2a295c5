"""Missed calls of the last days: the clients who wait to be called back first, and what became of the others.

A client leaves the list by itself when a later call with them is answered, in either direction, or when somebody marks them as
dealt with; that can be undone. Read `gateway/store/missed_calls.py` for what is stored.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from quart import Blueprint, request
from quart_trio.wrappers import TrioResponse as Response

from gateway.domain.calls import Call
from gateway.domain.ids import TenantId
from gateway.store import missed_calls as store
from gateway.store.audit import insert_audit
from gateway.store.calls import select_open_calls
from gateway.store.conversations import select_by_phones
from gateway.store.missed_calls import MissedFigures, Settled, Waiting
from gateway.store.postgres.pool import Connection
from gateway.web.pages.inbox import myself, only_of
from gateway.web.pages.live import day_begins
from gateway.web.session.auth import Gate
from gateway.web.session.flash import lead_on, note
from gateway.web.session.surroundings import look_around
from gateway.web.site import Answer, tenant, viewer

DAYS = 7
"""How far back a missed call is worth a call back."""
MOST = 100
SETTLED = 50


def missed_since(zone: ZoneInfo) -> datetime:
    """The moment from which missed calls are looked at."""
    return day_begins(zone) - timedelta(days=DAYS - 1)


def in_talk(calls: Sequence[Call]) -> dict[str, Call]:
    """Calls of this moment by the client's number: whoever waits and is being called needs no second call."""
    return {call.outside: call for call in calls}


@dataclass(frozen=True, slots=True)
class Missed:
    """What the page shows."""

    figures: MissedFigures
    waiting: Sequence[Waiting]
    clients: int
    """Of which `waiting` are those who wait longest."""
    settled: Sequence[Settled]
    now: dict[str, Call]
    chats: dict[str, UUID]
    """Conversations of the clients who wait, by number."""


async def _missed(
    conn: Connection, number: TenantId, since: datetime, today: datetime, only: Sequence[str] | None, agent: str | None
) -> Missed:
    waiting, clients = await store.select_waiting(conn, number, since, MOST, only)
    return Missed(
        await store.select_missed_figures(conn, number, since, today, only), waiting, clients,
        await store.select_settled(conn, number, since, SETTLED, only),
        in_talk([call for _, call in await select_open_calls(conn, number)]),
        await select_by_phones(conn, number, [one.client for one in waiting], agent),
    )  # fmt: skip


async def _mark(
    conn: Connection, number: TenantId, call_id: str, since: datetime, person: str, only: Sequence[str] | None
) -> str | None:
    client = await store.mark_done(conn, number, call_id, since, person, only)
    if client is not None:
        await insert_audit(conn, number, person, "missed.done", client, call_id)
    return client


async def _undo(
    conn: Connection, number: TenantId, call_id: str, person: str, only: Sequence[str] | None
) -> str | None:
    client = await store.undo_done(conn, number, call_id, only)
    if client is not None:
        await insert_audit(conn, number, person, "missed.undone", client, call_id)
    return client


def missed_pages(gate: Gate) -> Blueprint:
    """The pages below `/t/<number>/missed`."""
    pages = Blueprint("missed", __name__, url_prefix="/t/<number>/missed")
    pages.before_request(partial(look_around, gate))
    site, db = gate.site, gate.site.deps.db

    async def parts() -> dict[str, Any]:
        who = tenant()
        since, today = missed_since(who.timezone), day_begins(who.timezone)
        agent = only_of(await myself(gate))
        seen = await db.tenant(who.number, _missed, who.number, since, today, viewer().only, agent)
        return {"seen": seen, "days": DAYS, "mine": request.cookies.get(gate.cookie("extension"), "")}

    def person() -> str:
        session = viewer().session
        assert session is not None
        return session.email

    async def back() -> tuple[str, str]:
        """The call of the form, and the page to lead to: the one from which it was sent."""
        form = await request.form
        home = f"/t/{tenant().number}/"
        return form.get("call", "")[:200], home if form.get("back") == "overview" else f"{home}missed"

    @pages.get("")
    async def missed(number: str) -> Response:
        return site.page("missed.html", **await parts())

    @pages.get("/list")
    async def missed_list(number: str) -> Response:
        return site.page("missed_list.html", **await parts())

    @pages.post("/done")
    async def done(number: str) -> Answer:
        who, (call_id, onward) = tenant(), await back()
        client = await db.tenant(
            who.number, _mark, who.number, call_id, missed_since(who.timezone), person(), viewer().only
        )
        if client is None:
            return await lead_on(site.deps, gate.token(), onward, note("missed.nothing", "calm"))
        undo = f"/t/{who.number}/missed/undo", {"call": call_id, "back": "overview" if onward.endswith("/") else ""}
        return await lead_on(
            site.deps, gate.token(), onward, note("missed.marked", undo=undo, client=viewer().f.party(client))
        )

    @pages.post("/undo")
    async def undo(number: str) -> Answer:
        who, (call_id, onward) = tenant(), await back()
        client = await db.tenant(who.number, _undo, who.number, call_id, person(), viewer().only)
        if client is None:
            return await lead_on(site.deps, gate.token(), onward, note("missed.nothing", "calm"))
        return await lead_on(site.deps, gate.token(), onward, note("missed.undone", client=viewer().f.party(client)))

    return pages
