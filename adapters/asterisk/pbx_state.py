"""Who is connected to whom: channels, their calls and their bridges, and the joining of calls. Pure; emits nothing itself.

The lowest of the three layers of the tracker: `call_events.py` turns it into events, `calls.py` feeds it.
Memory is bounded: an ended call or channel leaves only its id behind, in a short list.
"""

from collections import OrderedDict, deque
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from adapters.asterisk.call_state import Conversation
from adapters.asterisk.channels import Bridges, Channel, ChannelState, Directory, Numbers, is_number
from adapters.asterisk.protocol import Message
from gateway.domain.events import CallEvent, CallMerged, Direction
from gateway.domain.ids import CallId
from gateway.domain.numbers import bare

REMEMBERED = 20_000
"""How many ended channels and calls are remembered, to know their stragglers by."""

CLOCK_STEP_S = 5.0
"""A clock that jumps by more was set."""

MAX_LAG_S = 60.0
"""An event that seems later than this is not: the PBX's clock was set back."""

LAST_STAMP = 7e9
"""A Timestamp past this is not a time."""


MAX_CALLS = 3_000
"""Open calls and calls that wait for their recording: more than any PBX has at once."""
MAX_OPEN_CHANNELS = 10_000
MAX_CHANNELS_OF_CALL = 1_000

IGNORED = 20


@dataclass(frozen=True, slots=True)
class Ignored:
    """Something the PBX reported of which no call was made; `code` is a key of the UI's texts."""

    at: datetime
    what: str
    code: str


class Exchange:
    """The state of one PBX as far as its events were received."""

    def __init__(self, directory: Directory, numbers: Numbers, prefix: str) -> None:
        self._directory = directory
        self._numbers = numbers
        self._prefix = prefix
        self._channels: dict[str, Channel] = {}
        self._names: dict[str, Channel] = {}
        self._bridges = Bridges()
        self._calls: dict[str, Conversation] = {}
        self._of_channel: dict[str, Conversation] = {}
        self._ending: dict[str, tuple[Conversation, datetime, datetime]] = {}
        self._moving: dict[str, tuple[Conversation, datetime]] = {}
        self._dead: OrderedDict[str, None] = OrderedDict()
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._events: list[CallEvent] = []
        self.ignored: deque[Ignored] = deque(maxlen=IGNORED)
        """Newest first."""
        self._skew = timedelta(0)
        self._stepped = 0.0
        self._most_ahead = self._last_ahead = self._last_stamp = 0.0
        self.arrivals = True
        """Whether times of arrival mean anything: not in a capture without an index."""
        self._crowded = False
        """One call has more channels than any has."""
        self._gap_at: datetime | None = None
        self.last_at: datetime | None = None
        """The time of the last event, by the PBX's clock where it sends the time."""
        self.lag_s: float | None = None
        """How long the last event was on its way, where the PBX stamps its events."""

    @property
    def is_full(self) -> bool:
        """Whether more is open than any PBX has at once: the sender is faulty or hostile, and is not to be followed."""
        return (
            self._crowded or len(self._channels) > MAX_OPEN_CHANNELS or len(self._calls) + len(self._ending) > MAX_CALLS
        )

    def _take(self) -> list[CallEvent]:
        events, self._events = self._events, []
        return events

    def _time_of(self, message: Message, now: datetime) -> datetime:
        """When it happened: by the PBX's clock where it sends one, corrected by a step of that clock meanwhile."""
        at = now
        try:
            stamp = float(message.get("Timestamp", "nan"))
        except ValueError:
            stamp = -1.0
        if 0 < stamp < LAST_STAMP:
            if self.arrivals:
                stamp -= self._step_of(stamp, now.timestamp())
            at = datetime.fromtimestamp(stamp, UTC)
            self._skew = at - now
            self.lag_s = (now - at).total_seconds()
        self.last_at = at
        return at

    def _step_of(self, stamp: float, now: float) -> float:
        """By how much the PBX's clock was set while calls are open. An event may be late, never early: a clock that runs
        ahead of all it ever was, or back behind what it showed before, was set."""
        ahead, last = stamp - now, self._last_ahead
        if not self._calls:
            self._stepped, self._most_ahead = 0.0, ahead
        elif ahead > self._most_ahead + CLOCK_STEP_S:
            self._stepped += ahead - self._most_ahead
            self._most_ahead = ahead
        elif stamp < self._last_stamp - CLOCK_STEP_S or ahead < self._most_ahead - MAX_LAG_S:
            self._stepped += ahead - last
            self._most_ahead += ahead - last
        self._most_ahead = max(self._most_ahead, ahead)
        self._last_stamp, self._last_ahead = stamp, ahead
        return self._stepped

    def _call_of(self, link: str, at: datetime, *, placed: bool) -> Conversation | None:
        call = self._calls.get(link)
        if call is None and link and link not in self._ended and link not in self._ending:
            call = Conversation(link, CallId(self._prefix + link), at, links={link}, placed=placed)
            self._calls[link] = call
        return call

    def _channel(self, message: Message, at: datetime, prefix: str = "") -> tuple[Channel, Conversation] | None:
        """The channel of a message, made where it is new."""
        uniqueid = message.get(prefix + "Uniqueid", "")
        channel = self._channels.get(uniqueid)
        if channel is None:
            name, link = message.get(prefix + "Channel", ""), message.get(prefix + "Linkedid", "")
            if not uniqueid or not name or not link or uniqueid in self._dead:
                return None
            state = number_of(message.get(prefix + "ChannelState"))
            begun = ChannelState.begun(state)
            placed = name.startswith("Local/") or not begun  # until it calls in, as many do in their second state
            call = self._call_of(link, at, placed=placed)
            if call is None:
                return None
            if uniqueid == call.key and not call.channels.keys() <= {uniqueid}:
                call.placed = placed  # the first channel, though another was received before it
            channel = Channel(
                uniqueid,
                name,
                at,
                state=state,
                exten=bare(message.get(prefix + "Exten", "")),
                begun=begun,
                called=begun,
            )
            channel.caller_id = bare(message.get(prefix + "CallerIDNum", ""))
            channel.dialled = not begun or state in (ChannelState.DIALING, ChannelState.RINGING)
            if state in (ChannelState.RING, ChannelState.RINGING) or self._directory.is_listed(channel):
                channel.shows_person()
            call.begun |= begun or channel.is_local
            self._add(channel, call)
        else:
            call = self._of_channel[uniqueid]
            link = message.get(prefix + "Linkedid", "")
            if link and link not in call.links:
                call = self._same(call, link)
        return channel, call

    def _same(self, call: Conversation, link: str) -> Conversation:
        """A channel of `call` now has another Linkedid: Asterisk joined two calls."""
        other = self._calls.get(link)
        if other is not None:
            return self._join(call, other)
        if link not in self._ended and len(call.links) < 100:
            call.links.add(link)
            self._calls[link] = call
        return call

    def _add(self, channel: Channel, call: Conversation) -> None:
        self._channels[channel.uniqueid] = self._names[channel.name] = channel
        self._of_channel[channel.uniqueid] = call
        call.channels[channel.uniqueid] = channel
        self._crowded |= len(call.channels) > MAX_CHANNELS_OF_CALL
        if channel.is_local:
            if half := self._names.get(channel.name[:-1] + ("2" if channel.name.endswith("1") else "1")):
                channel.other_half, half.other_half = half.uniqueid, channel.uniqueid
            call.hint(channel.local_number, self._directory)
            return
        if channel.is_leg:
            self._add_leg(channel, call)

    def _add_leg(self, channel: Channel, call: Conversation) -> None:
        """A channel at whose end a person is, or turns out to be."""
        late = call.origin is not None and channel.uniqueid == call.key and not call.reported
        if (call.origin is None or late) and call.adopted is None:
            if late and call.origin is not None:
                call.origin.dialled = True
            call.origin = channel
            call.origin_number, call.origin_exten = channel.caller_id, channel.exten
            if not call.placed:
                channel.dialled = False
        self._settle(channel, call, channel.caller_id, final=not channel.dialled)

    def _called_in(self, channel: Channel, call: Conversation) -> None:
        """A channel that could have been called by the PBX has called in."""
        if (
            not channel.dialled
            or channel.is_local
            or channel.dialled_by is not None
            or (call.origin is not channel and call.origin is not None)
        ):
            return
        if call.adopted is not None:
            channel.dialled = False
            return
        call.origin = channel
        call.origin_number, call.origin_exten = channel.caller_id, channel.exten
        call.placed, channel.dialled, channel.known = False, False, False
        call.internal_hints, call.outside_hint = [], ""
        if channel.employee is not None:
            call.forget(channel.employee)
        if call.trunk == self._line(channel):
            call.trunk = None
        self._settle(channel, call, channel.caller_id, final=True)

    def _settle(
        self, channel: Channel, call: Conversation, number: str, dialled_number: str = "", *, final: bool = False
    ) -> None:
        """Finds out whose a leg is, once it can be known."""
        if channel.known or not channel.is_leg:
            return
        owner = self._directory.owner(channel, number if is_number(number) else "", dialled_number)
        trunk = self._directory.trunk(channel)
        if owner is None and not (final or is_number(number) or trunk is not None):
            return
        if owner not in (None, channel.own_number) and not final and not self._directory.is_internal(owner or ""):
            return  # a line that is dialled for 600 is called 600 before its DialBegin reports the number it was given
        channel.employee, channel.known = owner, True
        if owner is None:
            came_in = call.origin is not None and call.origin is not channel and not call.origin.dialled
            if call.trunk is None or not came_in or (call.origin and call.origin.employee):
                call.trunk = self._line(channel) or call.trunk
            return
        self._directory.note(owner, channel, self.last_at or channel.began)
        if channel.dialled:
            call.note_called(owner)
        if owner not in call.employees:
            call.employees.insert(0 if channel is call.origin else len(call.employees), owner)

    def _settle_again(self, channel: Channel, call: Conversation) -> None:
        """A leg that was taken for one outside while its number was not known."""
        if call.trunk == self._line(channel):
            call.trunk = None
        channel.known = False
        self._settle(channel, call, channel.caller_id, final=True)

    def _line(self, channel: Channel) -> str:
        """The outside line of a leg, by the name that the tenant lists where it lists it."""
        return self._directory.trunk(channel) or channel.endpoint

    def _remove(self, channel: Channel) -> Conversation:
        del self._channels[channel.uniqueid]
        if self._names.get(channel.name) is channel:
            del self._names[channel.name]
        self._bridges.leave(channel)
        if channel.other_half and (half := self._channels.get(channel.other_half)):
            half.other_half = None
        remember(self._dead, channel.uniqueid)
        call = self._of_channel.pop(channel.uniqueid)
        call.channels.pop(channel.uniqueid, None)
        if channel.is_local:
            call.strangers.discard(channel.uniqueid)
        return call

    def _join(self, one: Conversation, two: Conversation) -> Conversation:
        """Two calls are one. The one with the outside party goes on, else the older."""
        if one is two:
            return one

        def rank(call: Conversation) -> tuple[bool, bool, datetime]:
            story = call.story(self._directory, self._numbers)
            inside = story is None or story.direction is Direction.INTERNAL
            return not call.reported, inside, call.began

        into, other = sorted((one, two), key=rank)
        into.absorb(other)
        self._crowded |= len(into.channels) > MAX_CHANNELS_OF_CALL
        for link in other.links:
            self._calls[link] = into
        for uniqueid in other.channels:
            self._of_channel[uniqueid] = into
        if other.reported:
            at = self.last_at or other.began
            self._events.append(CallMerged(call_id=other.call_id, at=at, into=into.call_id))
        return into


def number_of(text: str | None) -> int:
    return int(text) if text and text.isdecimal() and len(text) < 10 else 0


def remember(memory: OrderedDict[str, None], key: str) -> None:
    if key:
        memory[key] = None
        memory.move_to_end(key)
        while len(memory) > REMEMBERED:
            memory.popitem(last=False)
