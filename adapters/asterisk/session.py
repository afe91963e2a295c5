"""One AMI connection after another: connect, log in, resync, then every event to the tracker and on to the sink.

    connect -> banner -> login with events on -> snapshot -> stream       any failure ends `run`; it is called again

Asterisk drops a reader that does not read, so one task only reads, into a `Backlog` (memory, then disk); a second one parses
and emits, on the clock of when the bytes came. Only when the disk holds no more either is the session given up, and the next
one resyncs: memory stays bounded, and what was missed shows as `uncertain`. A link that ends while we are behind is read to
its end first. The tracker outlives sessions: the caller keeps the client and calls `run` again after its backoff.

What a PBX may cost is bounded, each for itself: bytes that wait, the memory of an answer, open calls and channels, and how long
one step holds the loop. A PBX whose events are withheld from this user is reported as such (`event_rights.py`), and one
whose events wait here for long. Longer than most modules: a session is one story from connect to loss.

`wire.py` owns the bytes of a connection. This file never logs, and the password is nowhere but in the login line, which is sent
to nothing but an Asterisk manager. Read `calls.py` for what the events mean.
"""

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime

import trio
import trio.lowlevel

from adapters.abilities import CallOrder
from adapters.asterisk import commands, event_rights
from adapters.asterisk.action_connection import NO_MANAGER, ActionLine, no_manager, open_stream
from adapters.asterisk.advice import LISTEN_ONLY
from adapters.asterisk.calls import CallTracker
from adapters.asterisk.event_rights import EventRights
from adapters.asterisk.pbx_state import MAX_OPEN_CHANNELS
from adapters.asterisk.protocol import Message
from adapters.asterisk.settings import AsteriskSettings
from adapters.asterisk.steady_clock import SteadyClock
from adapters.asterisk.versions import check_version, described, is_newer, too_old
from adapters.asterisk.wire import Wire
from adapters.base import CallSink, Finding, Link, Tested
from gateway.domain.errors import BadCredentials, BadSettings, GatewayError, RemoteProtocolError, Unavailable
from gateway.domain.events import CallEvent
from gateway.domain.health import State

LATE_S, CAUGHT_UP_S = 10.0, 2.0
"""From which wait on events count as late, and until which they do."""
STEP_S = 0.01
"""For how long messages are applied before others run."""
TEST_S = 4.0
"""Seconds after which a test reports that no Asterisk manager answers, whatever it found: time must not tell a closed port
from one that swallows packets, nor from another service."""


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
        self._clock = SteadyClock(lambda: self._tracker.has_calls)
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
        self._withheld = False
        """Events of calls are withheld from this user, as far as was seen."""
        self._late = False
        """Events wait here so long that calls show late."""

    @property
    def open_calls(self) -> int:
        """How many calls the PBX has now, as far as it has reported them."""
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
        while await self._run_once(sink):
            pass

    async def _run_once(self, sink: CallSink) -> bool:
        """One connection. True when it ended only because this user's rights are to be read anew."""
        online = again = False
        try:
            async with self._session() as wire:
                snapshot = await self._snapshot(wire)
                self.sessions += 1
                online = True
                self._untold += self._tracker.resync(snapshot, await sink.open_calls(), self._clock.now())
                self._check_load()
                rights, self._late = EventRights(snapshot), False
                self._report(rights)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._watch_rights, wire, rights)
                    again = await self._pump(wire, sink, rights)
                    nursery.cancel_scope.cancel()
        finally:
            self.gaps += online and not again
            self._tracker.lost(self._clock.now())
        return again

    def _report(self, rights: EventRights) -> None:
        """The health of a session that stands."""
        if rights.proven:
            self._withheld = False
        if self._withheld:
            self._link.report(State.ATTENTION, "asterisk_no_events", event_rights.LINE)
        elif self._late:
            self._link.report(State.DEGRADED, "asterisk_behind", described(self.banner))
        elif is_newer(self.banner):
            self._link.report(State.ONLINE, "asterisk_newer", described(self.banner))
        else:
            self._link.report(State.ONLINE, "asterisk_online", described(self.banner))

    async def _watch_rights(self, wire: Wire, rights: EventRights) -> None:
        """Lists the channels until an event of a call has come. Returns then."""
        while not rights.proven:
            await trio.sleep(event_rights.CONFIRM_S)
            if not rights.suspected:
                await trio.sleep(event_rights.EVERY_S - event_rights.CONFIRM_S)
            if not rights.proven:
                try:
                    rights.action_id = await wire.send("CoreShowChannels")
                except Unavailable:
                    return  # the reading ends by itself, and with the reason

    async def test(self) -> Tested:
        """Connects, logs in, requests the channels and this user's rights. Rings nobody and changes nothing."""
        began = trio.current_time()
        findings: list[Finding] = []
        try:
            async with self._session(began + TEST_S) as wire:
                findings.append(Finding(True, "login", described(self.banner)))
                snapshot = await self._snapshot(wire)
                findings.append(Finding(True, "channels", str(len(snapshot))))
                findings += await self._rights(wire)
        except GatewayError as error:
            if error.code == NO_MANAGER:
                await trio.sleep_until(began + TEST_S)
            return Tested(ok=False, code=error.code or _code(error), detail=error.shown, findings=tuple(findings))
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
        receives = await self._receives_events(wire) if "Originate" in allowed else None
        if receives is False:
            raise BadSettings(
                f"no event of class call reaches {self._settings.username}",
                code="asterisk_no_events",
                shown=event_rights.LINE,
            )
        found.insert(0, Finding(True, "events" if receives else "events_unknown"))
        return found

    async def _receives_events(self, wire: Wire) -> bool | None:
        """Whether events of calls reach this user; None where the PBX does not report it."""
        with trio.move_on_after(event_rights.PROBE_S):
            answer = await wire.ask("Originate", *event_rights.PROBE)
            if answer.get("Response") != "Success":
                return None
            await wire.wait_event("OriginateResponse", answer.get("ActionID", ""))
            return True
        return False

    @asynccontextmanager
    async def _session(self, answered_by: float = float("inf")) -> AsyncIterator[Wire]:
        """A connection that is logged in, with its reader and its pings. The other end has called itself an Asterisk
        manager by `answered_by`, on Trio's clock, or this raises Unavailable."""
        try:
            with trio.fail_at(answered_by):
                stream = await open_stream(self._link, self._settings)
        except trio.TooSlowError:
            raise no_manager(self._settings, "no answer in time") from None
        wire = Wire(stream, self._settings, self._clock, self._link.spills)
        self._wire = wire
        try:
            with _first_failure():
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(wire.read)
                    nursery.start_soon(wire.backlog.spill)
                    await self._greeted(wire, answered_by)
                    await self._log_in(wire)
                    nursery.start_soon(wire.keep_alive)
                    yield wire
                    nursery.cancel_scope.cancel()
        finally:
            self._wire = None
            wire.backlog.discard()
            await trio.aclose_forcefully(stream)

    async def _greeted(self, wire: Wire, answered_by: float) -> None:
        """Returns when the other end has called itself an Asterisk manager of a version that will do."""
        try:
            with trio.fail_at(min(answered_by, trio.current_time() + self._settings.login_timeout_s)):
                await wire.greeting()
        except trio.TooSlowError:
            raise no_manager(self._settings, "it sends nothing") from None
        except (Unavailable, RemoteProtocolError) as error:
            if not wire.banner:
                raise no_manager(self._settings, error.detail) from None
            raise
        self.banner = wire.banner
        check_version(self.banner)

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
            raise BadSettings(
                f"the AMI user {settings.username} may not list channels",
                code="asterisk_no_list",
                shown=f"write = {LISTEN_ONLY}",
            )
        if len(channels) > MAX_OPEN_CHANNELS:
            raise _too_many_calls(f"{len(channels)} channels")
        return channels

    async def _pump(self, wire: Wire, sink: CallSink, rights: EventRights) -> bool:
        """Runs until the session ends. What one read gave is one batch for the sink. Returns when events are withheld and
        it is time to log in again."""
        log_in_again = trio.current_time() + event_rights.LOG_IN_AGAIN_S
        while True:
            if self._withheld and trio.current_time() >= log_in_again:
                return True
            if self._untold:
                batch = tuple(self._untold)
                await sink.emit(batch)
                del self._untold[: len(batch)]
            messages: list[Message] = []
            if wire.behind:
                messages = await wire.receive()  # what is due may be reported by what waits
            else:
                due = self._tracker.next_deadline
                wait_s = max(0.0, (due - self._clock.now()).total_seconds()) if due is not None else float("inf")
                if self._late:
                    wait_s = min(wait_s, CAUGHT_UP_S)
                if self._withheld:
                    wait_s = min(wait_s, max(0.0, log_in_again - trio.current_time()))
                with trio.move_on_after(wait_s):
                    messages = await wire.receive()
            now = wire.received_at_s if messages or wire.behind else self._clock.now()
            step_ends = time.perf_counter() + STEP_S
            for message in messages:
                if time.perf_counter() > step_ends:
                    self._check_load()
                    await trio.lowlevel.checkpoint()
                    step_ends = time.perf_counter() + STEP_S
                self._untold += self._tracker.feed(message, now)
                event = message.get("Event")
                if not rights.proven:
                    self._learn_rights(rights, message)
                if event == "OriginateResponse":
                    if (answer := commands.order_answer(message)) is not None:
                        sink.order_answered(*answer)
                elif (
                    event in ("Newchannel", "Newstate")
                    and message.get("ChannelState") == "4"
                    and (arrival := self._tracker.arrival(message.get("Uniqueid", ""))) is not None
                ):
                    sink.arrived(arrival)
            self._check_load()
            self._untold += self._tracker.tick(now)
            self.frames_seen += wire.take_count()
            self.behind_s = max(0.0, (self._clock.now() - now).total_seconds())
            if (late := self.behind_s > (CAUGHT_UP_S if self._late else LATE_S)) is not self._late:
                self._late = late
                self._report(rights)
            self.read_gap_s = wire.read_gap_s
            if messages:
                self.last_event_at, self.lag_s = now, self._tracker.lag_s

    def _check_load(self) -> None:
        """Raises RemoteProtocolError when the PBX has more calls open than any has."""
        if self._tracker.is_full:
            raise _too_many_calls(f"{self.open_calls} calls")

    def _learn_rights(self, rights: EventRights, message: Message) -> None:
        """What one message shows of this user's rights, until an event of a call came. Raises BadSettings for events
        that do not show which channels belong together."""
        event = message.get("Event")
        if event in event_rights.WITH_LINKEDID and not message.get("Linkedid"):
            raise too_old(self.banner)
        if event in event_rights.OF_CALLS:
            rights.saw_event()
            if self._withheld:
                self._report(rights)
        elif rights.take(message) and not self._withheld:
            self._withheld = True
            self._report(rights)


@asynccontextmanager
async def connect(link: Link, settings: AsteriskSettings) -> AsyncIterator[AsteriskClient]:
    """The client of one PBX. Opens nothing: `run`, `test` and the first action do."""
    client = AsteriskClient(link, settings)
    try:
        yield client
    finally:
        with trio.CancelScope(shield=True):
            await client.aclose()


def _too_many_calls(what: str) -> RemoteProtocolError:
    return RemoteProtocolError(f"more at once than any PBX has: {what}", code="asterisk_too_many_calls", shown="")


def _code(error: GatewayError) -> str:
    """What a failed test is called."""
    match error:
        case BadCredentials():
            return "asterisk_refused"
        case BadSettings():
            return "asterisk_bad_settings"
        case RemoteProtocolError():
            return "asterisk_not_understood"
    return "asterisk_unreachable"


@contextmanager
def _first_failure() -> Iterator[None]:
    """The one failure of the nursery's group that explains most."""
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
