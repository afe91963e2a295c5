"""Calls and chats as they happen: a stream for one open page (server-sent events). Of calls, rows of a table:

    all    the whole live table: at the start, and whenever changes were lost
    call   a row to put in its place; its id is the call's
    figures  the figures of the day: whenever a call has ended
    gone   the call with this id is over; `ended` brings its row for the history

Of orders `changed`: some order did, and the page reads its part anew. Of chats `list` (some conversation changed) and `shown` (the one in view,
or somebody writes there): the page reads these parts anew. Of all of them a comment when
nothing happened for 15 s, so that proxies keep the line open.

The stream re-reads what changed and holds no state of its own. It ends when its session does, when a newer stream takes its
place, or when the database is away; the browser then reconnects. Read `gateway/web/static/live.js` for the other end.
"""

import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, time
from zoneinfo import ZoneInfo

import trio
from quart_trio.wrappers import TrioResponse as Response

from actors.feed import Subscription
from gateway.domain.calls import Call, Phase
from gateway.domain.errors import Retryable
from gateway.domain.people import is_of
from gateway.domain.subjects import Subject
from gateway.store.call_pages import select_day_figures
from gateway.store.calls import select_calls, select_open_calls
from gateway.web.session.auth import Gate
from gateway.web.session.live_streams import CHECK_S, LATER_MS, LiveStream
from gateway.web.session.tokens import Token
from gateway.web.site import Viewer

HEARTBEAT_S = 15.0
RETRY_MS = 2000
SHORTEST_PAUSE_S = 0.1
"""Seconds for which changes of a burst are gathered."""
_LINE_ENDS = re.compile(r"\r\n|\r|\n")


def day_begins(zone: ZoneInfo) -> datetime:
    """The moment at which today began for a company."""
    return datetime.combine(datetime.now(zone).date(), time(), zone).astimezone(UTC)


def sse(event: str, data: str, event_id: str = "") -> str:
    """One event on the wire."""
    name = _LINE_ENDS.sub("", event_id).replace("\0", "")
    lines = "".join(f"data: {line}\n" for line in _LINE_ENDS.split(data.strip()))
    return f"event: {event}\nid: {name}\n{lines}\n"


def live_calls(gate: Gate, who: Viewer, token: Token | None) -> Response:
    """The stream's response, for as long as the page is open."""
    return event_stream(_calls(gate, who, token, gate.source()))


def live_chats(gate: Gate, who: Viewer, token: Token | None, shown: str) -> Response:
    """The same for the inbox; `shown` is the conversation that the page shows, or empty."""
    return event_stream(_chats(gate, who, token, gate.source(), shown))


def live_orders(gate: Gate, who: Viewer, token: Token | None) -> Response:
    """The same for the pages of orders."""
    return event_stream(_orders(gate, who, token, gate.source()))


def event_stream(events: AsyncIterator[str]) -> Response:
    """The response of a stream of server-sent events, without an end of its own."""
    response = Response(events, content_type="text/event-stream; charset=utf-8")
    response.timeout = None
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"
    return response


async def changed_within(
    subscription: Subscription, stream: LiveStream, within_s: float
) -> tuple[list[Subject], bool] | None:
    """The changes, or None on a timeout or when the stream was ended."""
    taken: tuple[list[Subject], bool] | None = None

    async def wait_end() -> None:
        await stream.ended.wait()
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.cancel_scope.deadline = trio.current_time() + within_s
        nursery.start_soon(wait_end)
        taken = await subscription.changed()
        nursery.cancel_scope.cancel()
    return taken


@dataclass(frozen=True, slots=True)
class Changed:
    """What changed since the last look."""

    subjects: Sequence[Subject]
    lost: bool
    """Whether there were too many to name: everything is to be read anew."""


async def changes_for(gate: Gate, who: Viewer, token: Token | None, source: str) -> AsyncGenerator[Changed | str]:
    """Changes of the tenant in view for as long as the stream may go on, also where there are none for CHECK_S, and lines that keep
    it open. The first change is everything."""
    deps, found = gate.site.deps, who.tenant
    assert found is not None

    async def alive() -> bool:
        return await gate.still_signed_in(token, who)

    hash_of = token.token_hash if token is not None else b""
    with (
        deps.feed.subscribe(found.number) as subscription,
        gate.streams.opened(hash_of, found.number, source) as stream,
    ):
        yield Changed((), True)
        quiet_since = trio.current_time()
        while True:
            taken = await changed_within(subscription, stream, min(CHECK_S, HEARTBEAT_S))
            if not await gate.streams.go_on(stream, alive):
                if stream.for_newer:
                    yield f"retry: {LATER_MS}\n\n"
                return
            if taken is not None:
                quiet_since = trio.current_time()
            elif trio.current_time() - quiet_since >= HEARTBEAT_S:
                quiet_since = trio.current_time()
                yield ": still here\n\n"
            yield Changed(*(taken or ((), False)))


async def _calls(gate: Gate, who: Viewer, token: Token | None, source: str) -> AsyncIterator[str]:
    deps, found = gate.site.deps, who.tenant
    assert found is not None
    number, only = found.number, who.only

    def seen(call: Call) -> bool:
        return only is None or is_of(call, only)

    def row(template: str, call: Call) -> str:
        return gate.site.render(template, who, call=call, fresh=True, recorded=())

    async def figures() -> str:
        day = await deps.db.tenant(number, select_day_figures, number, day_begins(found.timezone), only)
        return sse("figures", gate.site.render("day_figures.html", who, figures=day))

    async def everything() -> str:
        calls = [call for _, call in await deps.db.tenant(number, select_open_calls, number) if seen(call)]
        return sse("all", "\n".join(row("live_row.html", call) for call in calls))

    head = f"retry: {RETRY_MS}\n\n"
    with suppress(Retryable):
        async with aclosing(changes_for(gate, who, token, source)) as changes:
            async for changed in changes:
                if isinstance(changed, str):
                    yield changed
                    continue
                if changed.lost:
                    yield head + await everything()
                    head = ""
                    yield await figures()
                    continue
                calls = [call_id for subject in changed.subjects if (call_id := subject.call_id) is not None]
                if not calls:
                    continue
                ended = False
                for _, call in await deps.db.tenant(number, select_calls, number, calls):
                    if not seen(call):
                        continue
                    if call.open:
                        yield sse("call", row("live_row.html", call), call.call_id)
                    else:
                        yield sse("gone", call.phase, call.call_id)
                        if call.phase is Phase.ENDED:
                            ended = True
                            yield sse("ended", row("call_row.html", call), call.call_id)
                if ended:
                    yield await figures()
                await trio.sleep(SHORTEST_PAUSE_S)


async def _chats(gate: Gate, who: Viewer, token: Token | None, source: str, shown: str) -> AsyncIterator[str]:
    """Says that conversations changed, and whether it is the one in view; the page reads anew what it shows, so that what a viewer
    may see is decided in one place."""
    yield f"retry: {RETRY_MS}\n\n"
    with suppress(Retryable):
        async with aclosing(changes_for(gate, who, token, source)) as changes:
            async for changed in changes:
                if isinstance(changed, str):
                    yield changed
                    continue
                chats = {subject.id for subject in changed.subjects if subject.kind in ("chat", "contact")}
                typed = {subject.id for subject in changed.subjects if subject.kind == "typing"}
                if changed.lost or shown in chats | typed:
                    yield sse("shown", "changed")
                if changed.lost or chats:
                    yield sse("list", "changed")
                    await trio.sleep(SHORTEST_PAUSE_S)


async def _orders(gate: Gate, who: Viewer, token: Token | None, source: str) -> AsyncIterator[str]:
    """Says that orders changed; the page reads anew what it shows."""
    yield f"retry: {RETRY_MS}\n\n"
    with suppress(Retryable):
        async with aclosing(changes_for(gate, who, token, source)) as changes:
            async for changed in changes:
                if isinstance(changed, str):
                    yield changed
                elif changed.lost or any(subject.kind == "order" for subject in changed.subjects):
                    yield sse("changed", "orders")
                    await trio.sleep(SHORTEST_PAUSE_S)
