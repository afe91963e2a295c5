"""`/changes`: what changes in the company, as it does (server-sent events).

    config    the configuration has another version; data: {"version": …}
    call      an event of a call was stored; data: the event, as `gateway replay` prints it
    order     an order was made or changed; data: what it is now, without what the client wrote
    conversation  one began or changed: a message, an owner; data: what it is now, without what was written
    resync    what was missed is older than ten minutes: read everything anew
    :         nothing for 15 s; brings an `id` by itself, so that a quiet client does not grow old

Every event has an `id`. A client that comes again with it as `Last-Event-ID` gets what it has missed, from any instance and after
a restart, each event once (`gateway/store/changes.py`). Doorbells of this process and of the others only wake the stream; it
also reads every POLL_S. Nothing is held for a client: pages of 200 events are read as it takes them, and one that takes nothing
is ended by the listener. It ends with its key, token or session.
"""

import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import trio

from gateway.domain.errors import Retryable
from gateway.domain.ids import TenantId
from gateway.store.changes import (
    STREAMS,
    Change,
    Horizon,
    Place,
    Stream,
    select_call_changes,
    select_conversation_changes,
    select_horizon,
    select_order_changes,
)
from gateway.web.callers.callers import credential_of
from gateway.web.http.routes import Response
from gateway.web.pages.live import HEARTBEAT_S, RETRY_MS, SHORTEST_PAUSE_S, changed_within, sse
from gateway.web.rest.deps import RestDeps
from gateway.web.rest.endpoints import Call, Endpoint
from gateway.web.session.live_streams import LATER_MS

HELD = timedelta(minutes=10)
"""How far back a stream goes on."""
POLL_S = 5.0
LOOK_S = 0.5
"""How often a stream looks whether its key is still good, and at the configuration's version."""
PAGE = 200
LONGEST_SNAPSHOT = 2000
READ, BOT = "read", "bot"
_PLACE = "changes"
_READ: Mapping[Stream, Callable[..., Awaitable[list[Change]]]] = {
    "call": select_call_changes,
    "order": select_order_changes,
    "conversation": select_conversation_changes,
}


@dataclass(frozen=True, slots=True)
class Seen:
    """How far a client has seen: everything of `seen`; of what `until` shows beside it, everything up to `place`."""

    seen: Horizon
    until: Horizon | None = None
    place: Place | None = None

    def values(self) -> list[str | int]:
        """For an id."""
        found: list[str | int] = [*_values(self.seen)]
        if self.until is not None and self.place is not None:
            place = self.place
            found += [*_values(self.until), place.recorded_at.isoformat(), place.call_id, place.seq, place.stream]
        return found

    @property
    def at(self) -> datetime:
        """When that was, by the database's clock."""
        return (self.until or self.seen).at


def _values(horizon: Horizon) -> list[str | int]:
    return [horizon.snapshot, horizon.at.isoformat(), horizon.version]


def _horizon(values: list[str | int]) -> Horizon:
    return Horizon(str(values[0]), datetime.fromisoformat(str(values[1])), int(values[2]))


def seen_from(values: list[str | int]) -> Seen:
    """The inverse of `Seen.values`."""
    if len(values) == 3:
        return Seen(_horizon(values))
    stream = next((one for one in STREAMS if values[9:] == [one]), STREAMS[0])
    place = Place(datetime.fromisoformat(str(values[6])), str(values[7]), int(values[8]), stream)
    return Seen(_horizon(values[:3]), _horizon(values[3:6]), place)


def _short(horizon: Horizon) -> Horizon:
    """A snapshot of so many open transactions that it makes no id is taken for an older one: then events may come twice."""
    if len(horizon.snapshot) <= LONGEST_SNAPSHOT:
        return horizon
    oldest = horizon.snapshot.split(":")[0]
    return replace(horizon, snapshot=f"{oldest}:{oldest}:")


@dataclass
class _Stream:
    """One client's."""

    deps: RestDeps
    number: TenantId
    sees_calls: bool

    def id_of(self, seen: Seen) -> str:
        return self.deps.cursors.new(self.number, _PLACE, seen.values())

    def wanted(self, text: str) -> Seen | None:
        """What an id stands for; None for one that is none of this company's."""
        values = self.deps.cursors.read(self.number, _PLACE, text)
        return seen_from(values) if values is not None else None

    async def horizon(self) -> Horizon:
        return _short(await self.deps.db.tenant(self.number, select_horizon, self.number))

    async def page(self, reached: Seen, now: Horizon) -> tuple[list[str], Seen, bool]:
        """The next events on the way to `now`, a page at most; how far one has then seen, and whether that is all."""
        seen, until, texts = reached.seen, reached.until or now, list[str]()
        if self.sees_calls and seen.snapshot != until.snapshot:
            begin = reached.place.stream if reached.place is not None else STREAMS[0]
            for stream in STREAMS[STREAMS.index(begin) :]:
                after = reached.place if stream == begin else None
                most = PAGE - len(texts)
                page = await self.deps.db.tenant(self.number, _READ[stream], self.number, seen, until, after, most)
                texts += [sse(stream, change.body, self.id_of(Seen(seen, until, change.place))) for change in page]
                if len(page) == most:
                    return texts, Seen(seen, until, page[-1].place), False
        if until.snapshot != now.snapshot:
            return texts, Seen(replace(until, version=seen.version)), False
        if seen.version != now.version:
            texts.append(sse("config", json.dumps({"version": now.version}), self.id_of(Seen(now))))
        return texts, Seen(now), True

    def version(self) -> int | None:
        tenant = self.deps.tenant(self.number)
        return tenant.version if tenant is not None else None


async def _events(deps: RestDeps, call: Call, source: str) -> AsyncIterator[str]:
    stream = _Stream(deps, call.tenant.number, READ in call.caller.scopes)
    credential, sent = credential_of(call.request), call.request.headers.get("last-event-id", "")
    owner = hashlib.sha256(call.caller.identity.encode()).digest()

    async def alive() -> bool:
        return await deps.callers.still(call.caller, credential, (READ, BOT))

    async def going_on() -> bool:
        return await deps.streams.go_on(opened, alive, LOOK_S)

    with deps.feed.subscribe(stream.number) as feed, deps.streams.opened(owner, stream.number, source) as opened:
        try:
            now = await stream.horizon()
            reached = stream.wanted(sent) if sent else Seen(now)
            too_old = (
                reached is None
                or now.at - reached.at > HELD
                or reached.seen.next_transaction > now.next_transaction  # an id of another database
            )
            if reached is None or too_old:
                reached = Seen(now)
                yield f"retry: {RETRY_MS}\n" + sse("resync", "{}", stream.id_of(reached))
            else:
                yield f"retry: {RETRY_MS}\n\n"
            quiet_since = trio.current_time()
            while await going_on():
                texts, reached, done = await stream.page(reached, now)
                for text in texts:
                    quiet_since = trio.current_time()
                    yield text
                if not done:
                    continue
                if trio.current_time() - quiet_since >= HEARTBEAT_S or not sent:
                    quiet_since, sent = trio.current_time(), "-"
                    yield f": still here\nid: {stream.id_of(reached)}\n\n"
                read_at, woken = trio.current_time(), False
                while not woken and trio.current_time() - read_at < POLL_S and await going_on():
                    woken = await changed_within(feed, opened, LOOK_S) is not None
                    version = stream.version()
                    if version is None:
                        return
                    woken = woken or version != now.version
                await trio.sleep(SHORTEST_PAUSE_S)
                now = await stream.horizon()
            if opened.for_newer:
                yield f"retry: {LATER_MS}\n\n"
        except Retryable:
            return  # the client comes again with its last id


def changes(deps: RestDeps) -> list[Endpoint]:
    """The endpoint."""

    async def listen(call: Call) -> Response:
        headers = (("Cache-Control", "no-store"), ("X-Accel-Buffering", "no"))
        source = deps.callers.guesses.source(call.request)
        events = _events(deps, call, source) if call.request.method == "GET" else None
        return Response(content_type="text/event-stream; charset=utf-8", headers=headers, events=events)

    return [
        Endpoint(method="GET", path="/changes", operation=listen, scopes=(READ, BOT), content_type="text/event-stream",
                 summary="Changes as they happen (server-sent events): `config`, `call`, `order`, `conversation`, `resync`; a key of scope `bot` alone sees `config`",
                 headers={"Last-Event-ID": "the `id` of the last event: what was missed since comes first, up to ten minutes back"})
    ]  # fmt: skip
