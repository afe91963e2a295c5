"""`/widget/{key}/events`: a visitor's conversation as it goes on (server-sent events).

    message   a message, its number as the event's id; comes again behind `Last-Event-ID`, each once
    state     who answers and whether the company is at work: at the start and whenever it has changed
    typing    somebody of the company is writing; {"for_s": …}
    :         nothing for 15 s

The stream reads what changed and holds nothing. It ends with its token, its widget, or for a newer stream of the same visitor;
browsers read it by `fetch`, for an EventSource cannot send a token. Read `gateway/web/widget/client/connection.js` for that end.
"""

import hashlib
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import trio

from actors.feed import Subscription
from gateway.domain.errors import Retryable
from gateway.web.http.routes import Address, Response
from gateway.web.pages.live import HEARTBEAT_S, SHORTEST_PAUSE_S, changed_within, sse
from gateway.web.session.live_streams import LATER_MS, LiveStream
from gateway.web.widget.deps import Visit, WidgetDeps, known_visitor, of_visitor
from gateway.web.widget.shown import PAGE, Names, conversation_of, read_messages, shown_messages, state_of
from gateway.web.widget.wire import as_json

RETRY_MS = 1000
LOOK_S = 5.0
"""How often a stream looks whether its token is still good."""


def event_addresses(deps: WidgetDeps, names: Names) -> list[Address]:
    """The address."""

    async def listen(visit: Visit) -> Response:
        headers = (("Cache-Control", "no-store"), ("X-Accel-Buffering", "no"))
        events = _events(deps, names, visit) if visit.request.method == "GET" else None
        return Response(content_type="text/event-stream; charset=utf-8", headers=headers, events=events)

    return [
        Address(method="GET", path="/widget/{key}/events", handler=of_visitor(deps, listen), hidden=True,
                summary="The visitor's conversation as it goes on (server-sent events)")
    ]  # fmt: skip


async def _events(deps: WidgetDeps, names: Names, visit: Visit) -> AsyncIterator[str]:
    place, number = visit.place, visit.place.tenant.number
    owner = hashlib.sha256(f"{number} {place.integration} {visit.visitor.address}".encode()).digest()
    sent = visit.request.headers.get("last-event-id", "")
    seen = int(sent) if sent.isascii() and sent.isdigit() and len(sent) < 10 else 0
    last_state, typed_until, conversation_id = dict[str, Any](), 0.0, None

    async def alive() -> bool:
        found = deps.find(place.widget.key)
        return found is not None and known_visitor(deps, found, visit.token) is not None

    source = deps.guesses.source(visit.request)
    with deps.feed.subscribe(number) as feed, deps.streams.opened(owner, number, source) as stream:
        try:
            yield f"retry: {RETRY_MS}\n\n"
            quiet_since = trio.current_time()
            while await deps.streams.go_on(stream, alive, LOOK_S):
                conversation = await conversation_of(deps, place, visit.visitor.address)
                if conversation is not None:
                    conversation_id = conversation.id
                if conversation_id is not None:
                    while page := await read_messages(deps, place, conversation_id, seen):
                        for one in await shown_messages(names, place, page):
                            seen = one["seq"]
                            yield sse("message", as_json(one), str(seen))
                        quiet_since = trio.current_time()
                        if len(page) < PAGE:
                            break
                state = await state_of(deps, names, place, conversation)
                if state != last_state:
                    last_state, quiet_since = state, trio.current_time()
                    yield sse("state", as_json(state), str(seen))
                if conversation_id is not None:
                    until = deps.typing.until(number, conversation_id, client=False)
                    if until is not None and until > typed_until:
                        typed_until, quiet_since = until, trio.current_time()
                        yield sse("typing", as_json({"for_s": round(until - trio.current_time(), 1)}), str(seen))
                if trio.current_time() - quiet_since >= HEARTBEAT_S:
                    quiet_since = trio.current_time()
                    yield ": still here\n\n"
                await trio.sleep(SHORTEST_PAUSE_S)
                await _wait(deps, feed, stream, conversation_id, quiet_since + HEARTBEAT_S, alive)
            if stream.for_newer:
                yield f"retry: {LATER_MS}\n\n"
        except Retryable:
            return  # the browser comes again with its last id


async def _wait(
    deps: WidgetDeps, feed: Subscription, stream: LiveStream, conversation: UUID | None, deadline: float, alive: Any
) -> None:  # fmt: skip
    """Until something of this conversation has changed, or the deadline."""
    while (left := deadline - trio.current_time()) > 0:
        taken = await changed_within(feed, stream, min(left, LOOK_S))
        if not await deps.streams.go_on(stream, alive, LOOK_S):
            return
        if taken is None:
            continue
        subjects, lost = taken
        if lost or any(
            (one.kind in ("chat", "typing") and one.id == str(conversation))
            or (conversation is None and one.kind == "chat")
            for one in subjects
        ):
            return
