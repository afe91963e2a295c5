"""One AMI connection after another: connect, log in, resync, then every event to the tracker and on to the sink.

    connect -> banner -> login with events on -> snapshot -> stream       any failure ends `run`; it is called again

Asterisk drops a reader that does not read, so one task only reads, into a `Backlog` (memory, then disk); a second one parses
and tells, on the clock of when the bytes came. Only when the disk holds no more either is the session given up, and the next
one resyncs: memory stays bounded, and what was missed shows as `uncertain`. A link that ends while we are behind is heard to
its end first. The tracker outlives sessions: the caller keeps the client and calls `run` again after its backoff.

`wire.py` has the bytes of a connection. This file never reconnects by itself, never logs, and the password is nowhere but in the
login line. Read `calls.py` for what the events mean.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime

import trio

from adapters.abilities import CallOrder
from adapters.asterisk import commands
from adapters.asterisk.action_connection import ActionLine, open_stream
from adapters.asterisk.calls import CallTracker
from adapters.asterisk.protocol import Message
from adapters.asterisk.settings import AsteriskSettings
from adapters.asterisk.wire import Wire
from adapters.base import CallSink, Finding, Link, Tested
from gateway.domain.errors import BadCredentials, BadSettings, GatewayError, RemoteProtocolError, Unavailable
from gateway.domain.events import CallEvent
from gateway.domain.health import State


class AsteriskClient:
    """One PBX. `run` is one session; the figures of this and earlier sessions stand in plain attributes."""

    def __init__(self, link: Link, settings: AsteriskSettings) -> None:
        self._link = link
        self._settings = settings
        self._prefix = f"{link.name}-" if len(link.tenant.pbxes) > 1 else ""
        self._tracker = CallTracker(
            trunks=settings.trunks, phones=link.tenant.phones, country=link.tenant.country,
            dial_prefix=settings.dial_prefix, prefix=self._prefix,
        )  # fmt: skip
        self._line = ActionLine(link, settings)
        self._untold: list[CallEvent] = []
        """What a session that broke off could not hand over; the next one begins with it."""
        self.banner = ""
        self.sessions = 0
        self.gaps = 0
        """How often a session was lost after it had been online."""
        self.frames_seen = 0
        self.last_event_at: datetime | None = None
        """When the last event came, by our clock."""
        self.lag_s: float | None = None
        """How old the last event was when it came; None where the PBX does not stamp its events."""
        self.behind_s = 0.0
        """How long the last event had waited here before it was understood."""
        self.read_gap_s = 0.0
        """The longest time between two reads of this session while the PBX had more for us."""
        self._wire: Wire | None = None

    @property
    def open_calls(self) -> int:
        """How many calls the PBX has now, as far as was heard."""
        return len(self._tracker)

    def figures(self) -> dict[str, object]:
        """What the PBX's page shows; names are keys of the UI's texts."""
        return {
            "last_event_at": self.last_event_at,
            "lag_s": self.lag_s,
            "behind_s": round(self.behind_s, 3),
            "read_gap_s": round(self.read_gap_s, 3),
            "unread_bytes": len(self._wire.backlog) if self._wire is not None else 0,
            "gaps": self.gaps,
            "sessions": self.sessions,
            "open_calls": self.open_calls,
            "frames_seen": self.frames_seen,
            "banner": self.banner,
            "ignored": tuple(self._tracker.ignored),
            "unlisted": self._tracker.unlisted(),
        }

    def call_of(self, order_id: str) -> str:
        """The id of the call that an order makes: its first channel bears the order's id."""
        return f"{self._prefix}{order_id}"

    def can_place(self) -> bool:
        """Whether a context to dial in is set."""
        return bool(self._settings.originate_context)

    async def place(self, order: CallOrder) -> None:
        """Returns when the PBX has taken the order; see `PlacesCalls`."""
        await commands.place(self._line, order, self._settings, self._link.tenant.country)

    async def redirect(self, unique_id: str, extension: str) -> bool:
        """Sends a caller whom nobody has answered to an internal number; see `RedirectsCalls`."""
        channel = self._tracker.waiting_channel(unique_id)
        return channel is not None and await commands.redirect(self._line, channel, extension, self._settings)

    async def aclose(self) -> None:
        """Ends the connection for actions; `run` ends its own."""
        await self._line.aclose()

    async def run(self, sink: CallSink) -> None:
        """One session. Raises Unavailable, BadCredentials, BadSettings or RemoteProtocolError at its end."""
        self._link.report(State.CONNECTING, "asterisk_connecting", self._settings.host)
        online = False
        try:
            async with self._session() as wire:
                snapshot = await self._snapshot(wire)
                self.sessions += 1
                online = True
                self._untold += self._tracker.resync(snapshot, await sink.open_calls(), _now())
                self._link.report(State.ONLINE, "asterisk_online", self.banner)
                await self._pump(wire, sink)
        finally:
            self.gaps += online
            self._tracker.lost(_now())

    async def test(self) -> Tested:
        """Connects, logs in, asks for the channels and for what this user may do. Changes nothing."""
        findings: list[Finding] = []
        try:
            async with self._session() as wire:
                findings.append(Finding(True, "login", self.banner))
                snapshot = await self._snapshot(wire)
                findings.append(Finding(True, "channels", str(len(snapshot))))
                findings += await self._rights(wire)
        except BadCredentials as error:
            return Tested(ok=False, code="asterisk_refused", detail=error.detail)
        except BadSettings as error:
            return Tested(ok=False, code="asterisk_bad_settings", detail=error.detail, findings=tuple(findings))
        except RemoteProtocolError as error:
            return Tested(ok=False, code="asterisk_not_asterisk", detail=error.detail)
        except GatewayError as error:
            return Tested(ok=False, code="asterisk_unreachable", detail=error.detail, findings=tuple(findings))
        return Tested(ok=True, code="asterisk_ok", findings=tuple(findings))

    async def _rights(self, wire: Wire) -> list[Finding]:
        """What the user may do beyond listening, and whether the context for click-to-call exists."""
        context = self._settings.originate_context
        found: list[Finding] = []
        try:
            with trio.fail_after(self._settings.login_timeout_s):
                allowed = await wire.ask("ListCommands")
                found += [
                    Finding(action in allowed, f"may_{action.lower()}", "" if action in allowed else f"write = {right}")
                    for action, right in (("Originate", "originate"), ("Redirect", "call"))
                ]
                if context:
                    answer, _ = await wire.ask_list(
                        "ShowDialPlan", "ListDialplan", "ShowDialPlanComplete", ("Context", context)
                    )
                    found.append(Finding(answer.get("Response") == "Success", "context", context))
                else:
                    found.append(Finding(False, "no_context"))
        except trio.TooSlowError:
            raise Unavailable(f"{self._settings.host} did not answer in time") from None
        return found

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[Wire]:
        """A connection that is logged in, with its reader and its pings."""
        stream = await open_stream(self._link, self._settings)
        wire = Wire(stream, self._settings, self._link.spills)
        self._wire = wire
        try:
            with _first_failure():
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(wire.read)
                    nursery.start_soon(wire.backlog.spill)
                    await self._log_in(wire)
                    nursery.start_soon(wire.keep_alive)
                    yield wire
                    nursery.cancel_scope.cancel()
        finally:
            self._wire = None
            wire.backlog.discard()
            await trio.aclose_forcefully(stream)

    async def _log_in(self, wire: Wire) -> None:
        settings = self._settings
        try:
            with trio.fail_after(settings.login_timeout_s):
                answer = await wire.ask(
                    "Login",
                    ("Username", settings.username),
                    ("Secret", settings.secret.reveal()),
                    ("Events", "on"),
                )
        except trio.TooSlowError:
            raise Unavailable(f"{settings.host} did not answer the login") from None
        self.banner = wire.banner
        if answer.get("Response") != "Success":
            raise BadCredentials(f"{settings.host} refused the login of {settings.username}")

    async def _snapshot(self, wire: Wire) -> list[Message]:
        settings = self._settings
        try:
            with trio.fail_after(settings.login_timeout_s):
                answer, channels = await wire.ask_list(
                    "CoreShowChannels", "CoreShowChannel", "CoreShowChannelsComplete"
                )
        except trio.TooSlowError:
            raise Unavailable(f"{settings.host} did not list its channels") from None
        if answer.get("Response") != "Success":
            raise BadSettings(f"the AMI user {settings.username} may not list channels; it needs write = reporting")
        return channels

    async def _pump(self, wire: Wire, sink: CallSink) -> None:
        """Runs until the session ends. What one read gave is one batch for the sink."""
        while True:
            if self._untold:
                batch = tuple(self._untold)
                await sink.emit(batch)
                del self._untold[: len(batch)]
            messages: list[Message] = []
            if wire.behind:
                messages = await wire.receive()  # what is due may be told by what waits
            else:
                due = self._tracker.next_deadline
                wait_s = max(0.0, (due - _now()).total_seconds()) if due is not None else float("inf")
                with trio.move_on_after(wait_s):
                    messages = await wire.receive()
            now = wire.received_at_s if messages or wire.behind else _now()
            for message in messages:
                self._untold += self._tracker.feed(message, now)
                event = message.get("Event")
                if event == "OriginateResponse":
                    if (answer := commands.order_answer(message)) is not None:
                        sink.order_answered(*answer)
                elif (
                    event in ("Newchannel", "Newstate")
                    and message.get("ChannelState") == "4"
                    and (arrival := self._tracker.arrival(message.get("Uniqueid", ""))) is not None
                ):
                    sink.arrived(arrival)
            self._untold += self._tracker.tick(now)
            self.frames_seen += wire.take_count()
            self.behind_s = max(0.0, (_now() - now).total_seconds())
            self.read_gap_s = wire.read_gap_s
            if messages:
                self.last_event_at, self.lag_s = now, self._tracker.lag_s


@asynccontextmanager
async def connect(link: Link, settings: AsteriskSettings) -> AsyncIterator[AsteriskClient]:
    """The client of one PBX. Opens nothing: `run`, `test` and the first action do."""
    client = AsteriskClient(link, settings)
    try:
        yield client
    finally:
        with trio.CancelScope(shield=True):
            await client.aclose()


@contextmanager
def _first_failure() -> Iterator[None]:
    """The nursery's group of failures as the one that says most."""
    try:
        yield
    except BaseExceptionGroup as group:
        failures = list(_leaves(group))
        ours = [error for error in failures if isinstance(error, GatewayError)]
        others = [error for error in failures if not isinstance(error, GatewayError | trio.Cancelled)]
        if others or not ours:
            raise
        raise next((error for error in ours if not isinstance(error, Unavailable)), ours[0]) from None


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _now() -> datetime:
    return datetime.now(UTC)
