"""AMI messages to calls: `CallTracker` follows channels and bridges and reports what a person would call a call. Pure.

The rules, none of which names a scenario:

* Channels that share a Linkedid, a Local pair, a bridge or a dial are one call, transitively.
* A leg that rings for an internal number is that number ringing.
* People talk when two legs of the call are in one bridge, or in bridges joined by Local pairs. The first time the other
  party talks is the answer; a talk with a new employee is a transfer.
* A call has ended when its last channel has. Who requested the hangup first ended it; the system where nobody did.
* After a gap, what does not follow from what was known makes the call uncertain.

Times come from `Timestamp` where the PBX sends one. This is the upper of three layers: it receives events, `call_events.py` finds
what is new, `pbx_state.py` holds the graph; what a call's facts mean is in `call_state.py`. Read `session.py` next for
where the messages come from. Longer than most modules: one handler an event.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from adapters.asterisk.call_events import Telling
from adapters.asterisk.call_state import Conversation, Mark
from adapters.asterisk.channels import Channel, ChannelState, Directory, Numbers, dialled_number, is_number, is_outside
from adapters.asterisk.pbx_state import number_of, remember
from adapters.asterisk.protocol import Message
from adapters.base import Arrival
from gateway.domain.calls import Call
from gateway.domain.configuration import Phone
from gateway.domain.events import CallEvent, Direction
from gateway.domain.numbers import bare

MAX_CHANNELS = 20_000
MAX_MARKS = 16

_REFUSALS = {"BUSY": 17, "CONGESTION": 34, "CHANUNAVAIL": 20}
"""What a DialEnd reports of the far end; anything else is the PBX's own doing. Causes of Hangup are copied from leg to leg."""

Signature = frozenset[tuple[str, int, str | None]]


class CallTracker(Telling):
    """Messages in, with their time of arrival; events out, in order. One per PBX; survives reconnects."""

    def __init__(
        self,
        *,
        trunks: tuple[str, ...] = (),
        phones: tuple[Phone, ...] = (),
        country: str | None = None,
        dial_prefix: str = "",
        prefix: str = "",
    ) -> None:
        """`dial_prefix` are digits that the dialplan wants before an outside number, `prefix` stands before the ids of calls."""
        super().__init__(Directory(trunks, phones), Numbers(country, dial_prefix), prefix)
        handlers: dict[str, Callable[[Message, datetime], None]] = {
            "Newchannel": self._on_newchannel,
            "Newstate": self._on_newstate,
            "NewCallerid": self._on_callerid,
            "NewConnectedLine": self._on_callerid,
            "Newexten": self._on_newexten,
            "Rename": self._on_rename,
            "DialBegin": self._on_dial_begin,
            "DialState": self._on_dial_state,
            "DialEnd": self._on_dial_end,
            "BridgeEnter": self._on_bridge_enter,
            "BridgeLeave": self._on_bridge_leave,
            "Pickup": self._on_pickup,
            "AttendedTransfer": self._on_attended_transfer,
            "HangupRequest": self._on_hangup_request,
            "Hangup": self._on_hangup,
            "QueueCallerJoin": self._on_queue,
            "MixMonitorStart": self._on_mixmonitor,
            "VarSet": self._on_varset,
            "Cdr": self._on_cdr,
        }
        self._handlers = handlers

    # What the session queries

    def __len__(self) -> int:
        """How many calls are open."""
        return len(set(map(id, self._calls.values()))) + len(self._ending)

    @property
    def has_calls(self) -> bool:
        """Whether a call is open."""
        return bool(self._calls or self._ending)

    def unlisted(self) -> tuple[dict[str, object], ...]:
        """Internal numbers that the tenant does not list: `number`, `device` and `at`, when it was last seen; latest first."""
        seen = reversed(self._directory.unlisted.items())
        return tuple({"number": number, "device": device, "at": at} for (number, device), at in seen)

    @property
    def next_deadline(self) -> datetime | None:
        """When `tick` has something to do, by our clock."""
        endings = (due for _, _, due in self._ending.values())
        return min((*endings, *(due for _, due in self._moving.values())), default=None)

    def arrival(self, uniqueid: str) -> Arrival | None:
        """The outside caller on this channel, who has just come and whom nobody has answered; else None."""
        found = self._waiting(uniqueid)
        if found is None:
            return None
        channel, call = found
        return Arrival(
            unique_id=uniqueid,
            caller=self._numbers.outside("" if channel.hidden else channel.caller_id),
            called=self._numbers.outside(call.origin_exten),
        )

    def waiting_channel(self, uniqueid: str) -> str | None:
        """The name of the channel of an outside caller whom no employee has answered; else None."""
        found = self._waiting(uniqueid)
        return found[0].name if found is not None else None

    def _waiting(self, uniqueid: str) -> tuple[Channel, Conversation] | None:
        channel, call = self._channels.get(uniqueid), self._of_channel.get(uniqueid)
        if (
            channel is None
            or call is None
            or call.origin is not channel
            or channel.dialled
            or channel.employee
            or not channel.known
        ):
            return None
        return (channel, call) if call.answered_at is None and channel.is_leg else None

    def feed(self, message: Message, now: datetime) -> list[CallEvent]:
        """The events that one message makes. Never raises for anything a PBX may send."""
        if self._ending or self._moving:
            self._tick(now)
        handler = self._handlers.get(message.get("Event", ""))
        if handler is not None:
            handler(message, self._time_of(message, now))
            if len(self._channels) > MAX_CHANNELS:
                self._drop_oldest(now)
        return self._take()

    def tick(self, now: datetime) -> list[CallEvent]:
        """Ends what waited for its time."""
        self._tick(now)
        return self._take()

    def lost(self, now: datetime) -> None:
        """The link is lost: from here on the truth may be hidden."""
        if self._gap_at is None:
            self._gap_at = now + self._skew
        for call in self._calls.values():
            call.shaken = True

    def resync(self, snapshot: Sequence[Message], open_calls: Iterable[Call], now: datetime) -> list[CallEvent]:
        """After a (re)connect: `snapshot` are the CoreShowChannel events, `open_calls` what the gateway holds open."""
        self._end_waiting()
        self._crowded = False
        at = now + self._skew
        before = {id(call): self._signature(call) for call in self._calls.values()}
        for known in open_calls:
            key = str(known.call_id).removeprefix(self._prefix)
            if known.open and key not in self._calls and key not in self._ended:
                self._calls[key] = Conversation.adopt(known, key)
        present = {message.get("Uniqueid", "") for message in snapshot}
        for channel in [c for uniqueid, c in self._channels.items() if uniqueid not in present]:
            self._remove(channel)
        for message in sorted(snapshot, key=_is_dialled):
            self._take_over(message, at)
        self._pair_up()
        for call in list({id(call): call for call in self._calls.values()}.values()):
            if not call.channels:
                self._vanished(call, at)
                continue
            call.hidden |= self._gap_hides(call, before.get(id(call)))
            call.shaken, call.resumed_at = False, at
            self._look(call, at)
        self._gap_at = None
        return self._take()

    def close(self, now: datetime) -> list[CallEvent]:
        """The stream is over: every open call ends uncertain."""
        self._end_waiting()
        for call in list({id(call): call for call in self._calls.values()}.values()):
            for channel in list(call.channels.values()):
                self._remove(channel)
            self._end(call, now + self._skew, uncertain=True)
        return self._take()

    # The events, one handler each

    def _on_newchannel(self, message: Message, at: datetime) -> None:
        found = self._channel(message, at)
        if found is not None:
            found[1].strangers.discard(found[0].uniqueid)

    def _received(self, message: Message, at: datetime, prefix: str = "") -> tuple[Channel, Conversation] | None:
        """The channel of an event that is not its beginning."""
        known = message.get(prefix + "Uniqueid", "") in self._channels
        found = self._channel(message, at, prefix)
        if found is None:
            return None
        channel, call = found
        if not known:
            call.strangers.add(channel.uniqueid)
        exten = message.get(prefix + "Exten")
        if exten and exten != channel.exten:
            channel.exten = bare(exten)
            self._note_origin(channel, call)
        return found

    def _note_origin(self, channel: Channel, call: Conversation) -> None:
        """The leg that called in may report later who calls, and whom."""
        if channel is not call.origin or call.placed or channel.dialled or call.adopted is not None:
            return
        fresh = not is_number(call.origin_number)
        news = call.note_origin(channel)
        if fresh and is_number(call.origin_number) and channel.known and channel.employee is None:
            self._settle_again(channel, call)
        if news and call.reported and call.answered_at is None:
            call.ring_untold = True

    def _check(self, message: Message, channel: Channel, call: Conversation) -> None:
        """After a gap: a state that no event reported means that the gap hid something."""
        if call.shaken and channel.is_leg and number_of(message.get("ChannelState")) != channel.state:
            call.hidden = True

    def _on_newstate(self, message: Message, at: datetime) -> None:
        if (found := self._received(message, at)) is None:
            return
        channel, call = found
        self._now_in(channel, call, number_of(message.get("ChannelState")), at)
        self._look(call, at)

    def _now_in(self, channel: Channel, call: Conversation, state: int, at: datetime) -> None:
        if channel.state == ChannelState.UP:
            return
        channel.state = state
        channel.called |= state == ChannelState.RINGING
        if ChannelState.begun(state):
            channel.begun = call.begun = True
        if state in (ChannelState.RING, ChannelState.RINGING) and channel.shows_person():
            self._add_leg(channel, call)
        if not channel.is_leg:
            return
        if state == ChannelState.RING and not channel.called:
            self._called_in(channel, call)
        if state == ChannelState.BUSY:  # its hangup follows the PBX's busy signal, and may arrive first
            call.marks = [mark for mark in call.marks if mark.leg is not channel]
        self._settle(channel, call, channel.caller_id, final=state == ChannelState.RING)
        if state == ChannelState.RINGING and not channel.rang:
            channel.dialled = True
            call.note_ring(channel, at)
        elif state == ChannelState.UP:
            call.marks.clear()
            if channel.dialled and channel.employee and not channel.rang:
                call.note_ring(channel, at)

    def _on_callerid(self, message: Message, at: datetime) -> None:
        if (found := self._received(message, at)) is None:
            return
        channel, call = found
        number = bare(message.get("CallerIDNum", ""))
        if message.get("CID-CallingPres", "").partition("(")[2].startswith("Presentation Prohibited"):
            channel.hidden = True
        if channel.is_leg and is_number(number) and not (channel.known and is_number(channel.caller_id)):
            channel.caller_id = number
            self._note_origin(channel, call)
        if call.placed and (channel.is_leg or channel.is_local):
            call.hint(number, self._directory)
            call.hint(message.get("ConnectedLineNum", ""), self._directory)
        if call.ring_untold:
            self._look(call, at)

    def _on_newexten(self, message: Message, at: datetime) -> None:
        """Where in the dialplan a channel goes on: only a caller's whose dialled number is not known yet matters."""
        channel = self._channels.get(message.get("Uniqueid", ""))
        if channel is None or not message.get("Exten"):
            return
        call = self._of_channel[channel.uniqueid]
        if channel is call.origin and not is_number(call.origin_exten):
            channel.exten = bare(message["Exten"])
            self._note_origin(channel, call)

    def _on_rename(self, message: Message, at: datetime) -> None:
        channel = self._channels.get(message.get("Uniqueid", ""))
        name = message.get("Newname", "")
        if channel is None or not name:
            return
        call = self._of_channel[channel.uniqueid]
        if self._names.get(channel.name) is channel:
            del self._names[channel.name]
        channel.rename(name)
        self._names[name] = channel
        if "<" not in name and channel.is_leg:
            channel.known = False
            self._settle(channel, call, channel.caller_id, final=True)
            self._look(call, at)

    def _on_dial_begin(self, message: Message, at: datetime) -> None:
        if (found := self._received(message, at, "Dest")) is None:
            return
        channel, call = found
        channel.dialled = channel.begun = channel.called = True
        source = self._received(message, at) if message.get("Uniqueid") else None
        if source is not None:
            if not source[0].called:  # no state of it showed so, but who dials has called in
                source[0].begun = True
                self._called_in(*source)
            channel.dialled_by = source[0]
            call = self._join(source[1], call)
        call.begun = True
        channel.dialled_number = dialled_number(message.get("DialString", ""), channel.technology)
        if _has_digit(channel.dialled_number) and is_outside(channel.dialled_number) and channel.shows_person():
            self._add_leg(channel, call)
        call.hint(message.get("DestCallerIDNum", ""), self._directory)
        call.marks.clear()
        if not channel.is_leg:
            if channel.is_local and self._directory.is_internal(channel.local_number):
                self._seek(channel, channel.local_number, call)
            return
        number = bare(message.get("DestCallerIDNum", ""))
        self._settle(channel, call, number, channel.dialled_number, final=True)
        if channel.employee is not None:
            if source is None:
                call = self._join(self._left_alone(channel.employee, message, call) or call, call)
            call.inside.dialled += 1
            self._seek(channel, channel.employee, call)
            return
        channel.on_behalf = self._forwarded_for(channel, call)
        call.outside.dialled += 1
        call.dialled_out = channel.dialled_number or number
        if not _has_digit(call.dialled_out):
            call.dialled_out = number
        if call.ring_untold:
            self._look(call, at)

    def _left_alone(self, employee: str, message: Message, call: Conversation) -> Conversation | None:
        """The call whose outside party this employee has left, and to which a new channel calls the employee back: the PBX
        does so when a transfer came to nothing, and reports it as a separate call until they talk."""
        number = message.get("DestConnectedLineNum", "")
        if call.reported or not is_number(number):
            return None
        party = self._numbers.outside(number)
        for other in {id(one): one for one in self._calls.values()}.values():
            if (
                other is call
                or other.answered_at is None
                or other.last_extension != employee
                or self._is_talking(other)
            ):
                continue
            story = other.story(self._directory, self._numbers)
            if story is not None and party == (story.called if story.direction is Direction.OUTGOING else story.caller):
                return other
        return None

    def _seek(self, channel: Channel, number: str, call: Conversation) -> None:
        """An internal number is called: beside those that are being called, or after them."""
        others = (c for c in call.channels.values() if c is not channel and c.dialled and c.state != ChannelState.UP)
        together = any(c.employee in call.sought or (c.is_local and c.local_number in call.sought) for c in others)
        call.sought = [*call.sought, number] if together and len(call.sought) < 100 else [number]
        call.note_called(number)

    def _forwarded_for(self, leg: Channel, call: Conversation) -> str | None:
        """The internal number in whose place an outside leg is dialled: that at which the dialling channel is, else the
        one phone that was called last."""
        by, steps = leg.dialled_by, 0
        while by is not None and steps < 8:
            names = [call.forwards.get(by.local_number, ""), by.local_number] if by.is_local else []
            for number in (*names, by.exten):
                placer = call.placed and number in call.employees[:1]
                if self._directory.is_internal(number) and number != leg.dialled_number and not placer:
                    return number
            half = self._channels.get(by.other_half or "") if by.is_local else None
            by = half.dialled_by if half is not None else None
            steps += 1
        if leg.dialled_number in call.forwards:
            return call.forwards[leg.dialled_number]
        came_in = call.origin is not None and call.origin.employee is None and not call.placed
        return call.sought[0] if came_in and len(set(call.sought)) == 1 else None

    def _on_dial_state(self, message: Message, at: datetime) -> None:
        if (found := self._received(message, at, "Dest")) is None:
            return
        channel, call = found
        status = message.get("DialStatus")
        if status == "RINGING":
            self._now_in(channel, call, ChannelState.RINGING, at)
        elif status == "PROGRESS" and channel.is_leg and channel.known and not channel.employee and not channel.rang:
            call.note_ring(channel, at)  # the ringing tone comes as sound
        self._look(call, at)

    def _on_dial_end(self, message: Message, at: datetime) -> None:
        channel = self._channels.get(message.get("DestUniqueid", ""))
        if channel is None:
            return
        call = self._of_channel[channel.uniqueid]
        if channel.refusal is None and (status := message.get("DialStatus", "")) != "ANSWER":
            channel.refusal = _REFUSALS.get(status, 0)
        forward = message.get("Forward", "")
        if forward and channel.employee and len(call.forwards) < 100:
            call.forwards[dialled_number(forward, "")] = channel.employee

    def _on_bridge_enter(self, message: Message, at: datetime) -> None:
        if (found := self._received(message, at)) is None:
            return
        channel, call = found
        self._check(message, channel, call)
        if channel.state != ChannelState.UP:
            self._now_in(channel, call, ChannelState.UP, at)
        bridge = message.get("BridgeUniqueid", "")
        if not bridge or message.get("BridgeTechnology") == "holding_bridge":
            self._bridges.leave(channel)
            return
        for other in list(self._bridges.enter(bridge, channel).values()):
            call = self._join(call, self._of_channel[other.uniqueid])
        if channel.is_leg:
            call.marks.clear()
        self._check_size(message, bridge, call)
        self._look(call, at)

    def _on_bridge_leave(self, message: Message, at: datetime) -> None:
        channel = self._channels.get(message.get("Uniqueid", ""))
        if channel is None:
            return
        call = self._of_channel[channel.uniqueid]
        bridge = message.get("BridgeUniqueid", "")
        if channel.bridge != bridge:
            call.hidden |= call.shaken and channel.is_leg and message.get("BridgeTechnology") != "holding_bridge"
            return
        self._bridges.leave(channel)
        self._check_size(message, bridge, call)
        self._look(call, at)

    def _check_size(self, message: Message, bridge: str, call: Conversation) -> None:
        reported = message.get("BridgeNumChannels", "")
        if call.shaken and reported.isdecimal() and int(reported) != self._bridges.size(bridge):
            call.hidden = True

    def _on_pickup(self, message: Message, at: datetime) -> None:
        self._tie(message, at, "", "Target")

    def _on_attended_transfer(self, message: Message, at: datetime) -> None:
        self._tie(message, at, "OrigTransferer", "SecondTransferer")
        self._tie(message, at, "Transferee", "TransferTarget")

    def _tie(self, message: Message, at: datetime, one: str, two: str) -> None:
        first = self._of_channel.get(message.get(one + "Uniqueid", ""))
        second = self._of_channel.get(message.get(two + "Uniqueid", ""))
        if first is not None and second is not None and first is not second:
            self._look(self._join(first, second), at)

    def _on_hangup_request(self, message: Message, at: datetime) -> None:
        channel = self._channels.get(message.get("Uniqueid", ""))
        if channel is None or not channel.is_leg:
            return
        call = self._of_channel[channel.uniqueid]
        self._check(message, channel, call)
        if channel.dialled and channel.state != ChannelState.UP:
            channel.refusal = channel.refusal or number_of(message.get("Cause"))
        if number_of(message.get("ChannelState")) == ChannelState.BUSY:
            return
        first = channel is call.origin
        talks = channel.state == ChannelState.UP and channel.bridge is not None
        party = channel.employee is None and not channel.dialled
        waits = first and (call.answered_at is None or channel.bridge is not None)
        refuses = channel.dialled and channel.state != ChannelState.UP and not first
        if refuses and call.origin is not None and call.origin.state == ChannelState.UP:
            return
        if (talks or party or waits or refuses) and len(call.marks) < MAX_MARKS:
            call.marks.append(Mark(at, channel, refuses))

    def _on_hangup(self, message: Message, at: datetime) -> None:
        channel = self._channels.get(message.get("Uniqueid", ""))
        if channel is None:
            remember(self._dead, message.get("Uniqueid", ""))
            return
        self._check(message, channel, self._of_channel[channel.uniqueid])
        call = self._remove(channel)
        if channel.is_leg:
            call.note_gone(channel, number_of(message.get("Cause")))
            if call.marks and len(call.channels) > 1 and self._is_talking(call):
                call.marks.clear()  # one of several left; the others go on
        if not call.channels:
            self._finish(call, at)
        elif channel.is_leg:
            self._look(call, at)

    def _on_queue(self, message: Message, at: datetime) -> None:
        if (found := self._received(message, at)) is not None and message.get("Queue"):
            found[1].queue = message["Queue"]

    def _on_mixmonitor(self, message: Message, at: datetime) -> None:
        call = self._of_channel.get(message.get("Uniqueid", ""))
        if call is not None:
            call.recording_due = True

    def _on_varset(self, message: Message, at: datetime) -> None:
        call = self._of_channel.get(message.get("Uniqueid", ""))
        value = message.get("Value", "").strip()
        if call is not None and message.get("Variable") == "MIXMONITOR_FILENAME" and value:
            call.recording = value.rpartition("/")[2]

    def _on_cdr(self, message: Message, at: datetime) -> None:
        value = (message.get("RecordingFile") or message.get("recordingfile") or "").strip()
        link = message.get("LinkedID") or message.get("Linkedid") or ""
        if not value:
            return
        waiting = self._ending.get(link)
        call = waiting[0] if waiting is not None else self._calls.get(link)
        call = call or self._of_channel.get(message.get("UniqueID", ""))
        if call is not None:
            call.recording = value.rpartition("/")[2]
            if waiting is not None:
                self._end_waiting(link)

    # After a gap

    def _signature(self, call: Conversation) -> Signature:
        return frozenset((c.uniqueid, c.state if c.is_leg else 0, c.bridge) for c in call.channels.values())

    def _gap_hides(self, call: Conversation, before: Signature | None) -> bool:
        """Whether the gap may have hidden what matters of a call that is still there. `before` is None when only the
        database knew of it. While nobody rings or talks, phones may have rung and stopped unseen."""
        if call.answered_at is None and not any(c.state == ChannelState.RINGING for c in call.channels.values()):
            return True
        if before is not None:
            return before != self._signature(call) or any(
                c.dialled and c.is_leg and not c.employee and not c.dialled_number and c is not call.origin
                for c in call.channels.values()
            )
        legs = [c for c in call.channels.values() if c.is_leg and c.dialled and not c.employee and not c.on_behalf]
        if legs and call.adopted is not None and call.adopted.direction is not Direction.OUTGOING:
            return True  # for whom it was forwarded is not known any more
        if call.answered_at is None:
            return self._is_talking(call)
        return call.last_extension not in self._speakers(call)

    def _take_over(self, message: Message, at: datetime) -> None:
        """One channel of the snapshot."""
        new = message.get("Uniqueid", "") not in self._channels
        self._dead.pop(message.get("Uniqueid", ""), None)
        if (found := self._channel(message, at)) is None:
            return
        channel, call = found
        channel.called = True  # or not: the gap may have hidden it
        state = number_of(message.get("ChannelState"))
        queue = message.get("ApplicationData", "").partition(",")[0] if message.get("Application") == "Queue" else ""
        call.queue = call.queue or queue or None
        if new:
            channel.dialled = _is_dialled(message) or channel.dialled
            if call.adopted is None:
                call.hidden = True
                if channel is call.origin and channel.dialled:
                    call.placed = True
            self._settle(channel, call, channel.caller_id, final=True)
            if call.adopted is not None and call.answered_at is None and channel.is_leg and state == ChannelState.UP:
                call.hidden |= not queue  # somebody may have talked already, and handed it on to the phone that rings
            if channel.is_leg and channel.dialled and channel.employee is None:
                call.dialled_out = call.dialled_out or channel.caller_id
        if state == ChannelState.RINGING and channel.is_leg and not channel.rang:
            number = channel.employee or channel.on_behalf
            if number is None or number not in call.rang:
                call.note_ring(channel, at)
            channel.rang = True
        if channel.state != ChannelState.RINGING or state == ChannelState.UP:
            channel.state = state
        bridge = message.get("BridgeId", "")
        if bridge:
            self._bridges.enter(bridge, channel)
        else:
            self._bridges.leave(channel)

    def _pair_up(self) -> None:
        """Calls that share a bridge by now are one."""
        first: dict[str, Channel] = {}
        for channel in self._channels.values():
            if channel.bridge and not self._crowded:
                other = first.setdefault(channel.bridge, channel)
                self._join(self._of_channel[channel.uniqueid], self._of_channel[other.uniqueid])


def _is_dialled(message: Message) -> bool:
    """Whether a channel of the snapshot was called by the PBX: those that called it come first."""
    return message.get("Application", "").startswith(("AppDial", "AppQueue"))


def _has_digit(text: str) -> bool:
    return any(character.isdigit() for character in text)


WANTED = frozenset(name.encode() for name in CallTracker()._handlers) - {b"VarSet", b"Cdr", b"Newexten"}
"""The events the tracker needs, for the framer; those left out only where they name a recording or begin an extension."""
MARKED: dict[bytes, tuple[bytes, ...]] = {
    b"Newexten": (b"\r\nPriority: 1\r\n",),
    b"VarSet": (b"Variable: MIXMONITOR_FILENAME",),
    b"Cdr": (b"RecordingFile: ", b"recordingfile: "),
}
