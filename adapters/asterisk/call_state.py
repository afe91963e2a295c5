"""One call while it lasts: the facts the channels gave, and what they mean to a person. Pure.

    nobody rang -> ringing -> talking -> ended                  emitted as CallRinging, CallAnswered, CallEnded
         |                        ^
         +------------------------+

Facts are only ever added; `story`, `result` and `ending` read them. Nothing here knows AMI: `calls.py` feeds it. Longer than
most modules: one record with everything that is read from it.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from adapters.asterisk.channels import Channel, ChannelState, Directory, Numbers, is_number
from gateway.domain.calls import Call, Phase
from gateway.domain.events import CallEnded, Direction, HungUpBy, Result
from gateway.domain.ids import CallId
from gateway.domain.numbers import ANONYMOUS, bare

BUSY_CAUSE = 17
NO_ROUTE_CAUSE = 3
"""No such phone, or none that is registered."""
ABSENT_CAUSES = frozenset((NO_ROUTE_CAUSE, 20, 27))
"""A phone that cannot be reached: who calls a company and finds it so was missed."""
WRONG_NUMBER_CAUSES = frozenset((1, 2, 3, 22, 28))
TROUBLE_CAUSES = frozenset(
    (
        20,
        21,
        25,
        27,
        29,
        34,
        38,
        41,
        42,
        43,
        44,
        47,
        49,
        50,
        52,
        57,
        58,
        63,
        65,
        66,
        69,
        70,
        79,
        81,
        88,
        *range(95, 112),
    )
)
"""ITU-T Q.850: congestion, refusals and faults, which are failures unless the phone had rung. 127 is not among them:
Asterisk gives it to every leg of a call whose caller gave up."""

MARK_CLUSTER = timedelta(seconds=1)
"""Hangup requests closer than this belong to one ending: the first is who ended it, the others follow."""

SHORTEST_UNAIDED = len("+37529111")
"""A number that no line was dialled for is an outside one only when it is longer: shorter ones may be codes."""

SAME_DIGITS = 8
"""Numbers that end in so many equal digits are the same behind what a dialplan puts before them."""

TOGETHER = timedelta(seconds=0.2)
"""Phones of one ring group begin to ring within this."""


@dataclass(frozen=True, slots=True)
class Story:
    """A call in one line, seen from the company."""

    direction: Direction
    caller: str
    called: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A leg requested the hangup. `refusal` when it had not been picked up."""

    at: datetime
    leg: Channel
    refusal: bool = False


@dataclass(slots=True)
class Tally:
    """What became of the legs dialled on one side."""

    dialled: int = 0
    busy: int = 0
    wrong: int = 0
    trouble: int = 0

    @property
    def all_busy(self) -> bool:
        """Every phone that could be reached was busy."""
        return self.busy > 0 and self.busy == self.dialled - self.wrong - self.trouble

    def add(self, other: "Tally") -> None:
        """The legs of a call that joined this one."""
        self.dialled += other.dialled
        self.busy += other.busy
        self.wrong += other.wrong
        self.trouble += other.trouble


@dataclass(slots=True, eq=False)
class Conversation:
    """The facts of one call."""

    key: str
    """The Linkedid of its first channel."""
    call_id: CallId
    began: datetime
    channels: dict[str, Channel] = field(default_factory=dict)
    links: set[str] = field(default_factory=set)
    """Every Linkedid that is this call."""

    origin: Channel | None = None
    """The leg that called the PBX; of a call that the PBX placed, the leg it reached first."""
    placed: bool = False
    """The PBX placed it, as in click-to-call: no leg called in."""
    begun: bool = False
    """A channel of it called, was called or has talked. A handset that is lifted and put back is no call."""
    origin_number: str = ""
    origin_exten: str = ""
    origin_cause: int = 0
    employees: list[str] = field(default_factory=list)
    """Internal numbers of its legs in the order of their coming."""
    internal_hints: list[str] = field(default_factory=list)
    outside_hint: str = ""
    """An outside number that a placed call carries as caller id before its leg is dialled."""
    dialled_out: str = ""
    trunk: str | None = None
    forwards: dict[str, str] = field(default_factory=dict)
    sought: list[str] = field(default_factory=list)
    """The internal numbers that were called last, together."""
    called: list[str] = field(default_factory=list)
    """Every internal number that was called, in the order of the first time."""
    queue: str | None = None
    recording: str | None = None
    recording_due: bool = False

    rang: list[str] = field(default_factory=list)
    first_ring: dict[str, datetime] = field(default_factory=dict)
    outside_ring: datetime | None = None
    ringing: tuple[str, ...] = ()
    ring_untold: bool = False
    reported: bool = False
    inside: Tally = field(default_factory=Tally)
    outside: Tally = field(default_factory=Tally)

    answered_at: datetime | None = None
    wait_s: float | None = None
    talk_unknown: bool = False
    """Taken over from before a restart, and gone meanwhile: the length of the talk is not known."""
    extension: str | None = None
    last_extension: str | None = None
    moving_since: datetime | None = None
    """Since when the other party has talked without the last speaker, who is still on the line."""
    marks: list[Mark] = field(default_factory=list)

    hidden: bool = False
    """A gap hides part of the truth."""
    shaken: bool = False
    """It lived through a gap, and nothing has yet shown whether the gap hid anything."""
    resumed_at: datetime | None = None
    """When the last gap ended that it lived through."""
    strangers: set[str] = field(default_factory=set)
    """Channels that were named before, or without, their beginning."""
    adopted: Call | None = None

    def story(self, directory: Directory, numbers: Numbers, *, final: bool = False) -> Story | None:
        """Who called whom. None while a call that the PBX placed does not show yet; `final` settles for less."""
        if self.adopted is not None:
            return Story(self.adopted.direction, self.adopted.caller, self.adopted.called)
        if self.placed or self.origin is None:
            return self._story_of_placed(directory, numbers, final)
        if self.origin.employee is None:
            caller = ANONYMOUS if self.origin.hidden else numbers.outside(self.origin_number)
            called = numbers.outside(self.origin_exten) if is_number(self.origin_exten) else self.origin_exten
            return Story(Direction.INCOMING, caller, called)
        if not final and self._number_to_come(directory):
            return None
        caller, target = self.origin.employee, self.origin_exten
        typed = target if is_number(target) else ""
        forwarded = directory.is_internal(target) and not target.endswith(self.dialled_out)
        if self.dialled_out and not forwarded:
            return Story(Direction.OUTGOING, caller, numbers.dialled(typed, self.dialled_out))
        if self._in_vain(typed, directory, numbers):
            return Story(Direction.OUTGOING, caller, numbers.dialled(typed))
        return Story(Direction.INTERNAL, caller, target)

    def _in_vain(self, typed: str, directory: Directory, numbers: Numbers) -> bool:
        """Whether an employee dialled an outside number for which the PBX reported that it found no line. A code of many digits
        is none: the PBX takes it itself, or calls phones for it."""
        if self.called or self.inside.dialled or directory.is_internal(typed) or not _is_long(typed):
            return False
        number = numbers.dialled(typed)
        up = self.origin is not None and self.origin.state == ChannelState.UP
        return number.startswith("+") and len(number) > SHORTEST_UNAIDED and not up

    def _number_to_come(self, directory: Directory) -> bool:
        """Whether it is not known yet whether an employee calls a number outside, and which."""
        if self.dialled_out or self.called or self.answered_at is not None or not _is_long(self.origin_exten):
            return False
        return not directory.is_internal(self.origin_exten)

    def _story_of_placed(self, directory: Directory, numbers: Numbers, final: bool) -> Story | None:
        employee = next(iter((*self.employees, *self.internal_hints)), "")
        if (self.dialled_out or self.outside_hint) and (employee or final):
            return Story(Direction.OUTGOING, employee, self._placed_to(numbers))
        others = [number for number in self.employees if number != employee]
        if others:
            return Story(Direction.INTERNAL, employee, others[0])
        if not final:
            return None
        hinted = [number for number in self.internal_hints if number != employee]
        if hinted or not self.employees:
            return Story(Direction.INTERNAL, employee, hinted[0] if hinted else employee)
        return Story(Direction.OUTGOING, employee, "")

    def _placed_to(self, numbers: Numbers) -> str:
        """The outside number of a call that the PBX placed: as whoever ordered it wrote it, where the line was given the
        same with digits before it; else what the line was given."""
        ordered = self.outside_hint if self.outside_hint.startswith("+") else ""
        read = numbers.read(ordered) if ordered else None
        if read is not None and (not self.dialled_out or self.dialled_out.endswith(read[-SAME_DIGITS:])):
            return read
        return numbers.dialled(self.dialled_out or self.outside_hint)

    def hint(self, number: str, directory: Directory) -> None:
        """A number that a channel of a placed call carries."""
        number = bare(number)
        if not self.placed or not is_number(number):
            return
        if not directory.is_colleague(number):
            self.outside_hint = self.outside_hint or number
        elif number not in self.internal_hints and len(self.internal_hints) < 8:
            self.internal_hints.append(number)

    def note_origin(self, channel: Channel) -> bool:
        """Takes the caller's number, and the number dialled, from the leg that called in, where they were not known before.
        True where that is news."""
        before = self.origin_number, self.origin_exten
        if channel.employee is None and not is_number(self.origin_number) and is_number(channel.caller_id):
            self.origin_number = channel.caller_id
        exten = channel.exten
        known = is_number(self.origin_exten)
        dialled = self.inside.dialled or self.outside.dialled
        overlap = known and exten.startswith(self.origin_exten) and not dialled  # digits that came one after the other
        if is_number(exten) and (overlap or (not known and (channel.employee is not None or _is_long(exten)))):
            self.origin_exten = exten
        return before != (self.origin_number, self.origin_exten)

    def forget(self, number: str) -> None:
        """The leg of this number was not called: it calls in."""
        self.called = [one for one in self.called if one != number]
        self.employees = [one for one in self.employees if one != number]
        self.rang = [one for one in self.rang if one != number]
        self.first_ring.pop(number, None)

    def note_called(self, number: str) -> None:
        """An internal number is about to be called."""
        if number not in self.called and len(self.called) < 1000:
            self.called.append(number)

    def note_ring(self, leg: Channel, at: datetime) -> None:
        """A dialled leg rings. A leg dialled on behalf of an internal number rings for that number."""
        leg.rang = True
        number = leg.employee or leg.on_behalf
        if number is not None:
            self.first_ring.setdefault(number, at)
            if number not in self.rang:
                self.rang.insert(self._place_of(number, at), number)
        if leg.employee is None and self.outside_ring is None:
            self.outside_ring = at
            self.ring_untold = True

    def _place_of(self, number: str, at: datetime) -> int:
        """Where in `rang` a number goes: phones that ring together stand as they were called, not as they replied."""
        place = len(self.rang)
        while place and number in self.called:
            before = self.rang[place - 1]
            together = at - self.first_ring.get(before, at) <= TOGETHER
            if not together or before not in self.called[self.called.index(number) + 1 :]:
                break
            place -= 1
        return place

    def note_gone(self, leg: Channel, cause: int) -> None:
        """A leg is no more."""
        if leg is self.origin:
            self.origin_cause = cause
        if not leg.dialled or leg.state == ChannelState.UP:
            return
        tally = self.outside if leg.employee is None else self.inside
        cause = cause if leg.refusal is None else leg.refusal
        if cause == BUSY_CAUSE:
            tally.busy += 1
        elif cause in WRONG_NUMBER_CAUSES:
            tally.wrong += 1
        elif cause in TROUBLE_CAUSES and not leg.rang:
            tally.trouble += 1

    def ringing_since(self, direction: Direction, caller: str) -> datetime | None:
        """The first ring of the party sought."""
        if direction is Direction.OUTGOING:
            return self.outside_ring
        return min((at for number, at in self.first_ring.items() if number != caller), default=None)

    def absorb(self, other: "Conversation") -> None:
        """`other` turned out to be this call."""
        self.channels.update(other.channels)
        self.links |= other.links
        self.inside.add(other.inside)
        self.outside.add(other.outside)
        self.rang = list(dict.fromkeys((*self.rang, *other.rang)))
        for number, at in other.first_ring.items():
            self.first_ring.setdefault(number, at)
        self.employees = list(dict.fromkeys((*self.employees, *other.employees)))
        self.begun |= other.begun
        self.queue = self.queue or other.queue
        self.recording = self.recording or other.recording
        self.recording_due |= other.recording_due
        self.hidden |= other.hidden and other.reported
        self.shaken |= other.shaken
        self.strangers |= other.strangers

    def result(self, direction: Direction) -> Result:
        """The contract's word for how it ended."""
        if self.answered_at is not None:
            return Result.ANSWERED
        sought = self.outside if direction is Direction.OUTGOING else self.inside
        if sought.all_busy or (self.placed and not self.outside.dialled and self.inside.all_busy):
            return Result.BUSY
        if direction is not Direction.OUTGOING:
            return self._untried(direction) or Result.MISSED
        if sought.wrong or (sought.trouble and self.outside_ring is None):
            return Result.FAILED
        if self.outside_ring is not None:
            return Result.NO_ANSWER
        if not sought.dialled and (self.origin_cause in WRONG_NUMBER_CAUSES or self.origin_cause in TROUBLE_CAUSES):
            return Result.FAILED if not self.placed else Result.CANCELLED
        return Result.CANCELLED

    def _untried(self, direction: Direction) -> Result | None:
        """What the PBX signalled to a caller for whom it called nobody."""
        if self.inside.dialled or self.outside.dialled or self.rang or self.queue is not None or self.placed:
            return None
        if self.origin_cause == BUSY_CAUSE:
            return Result.BUSY  # do-not-disturb
        wrong = self.origin_cause in WRONG_NUMBER_CAUSES or self.origin_cause in TROUBLE_CAUSES
        absent = self.origin_cause in ABSENT_CAUSES and direction is Direction.INCOMING
        return Result.FAILED if wrong and not absent else None

    def ending(self, story: Story) -> tuple[HungUpBy, datetime | None]:
        """Who ended it, and when they requested it; the system when nobody did."""
        alone = self.inside.dialled + self.outside.dialled == 1 and not self.placed
        marks = [mark for mark in self.marks if alone or not mark.refusal]
        if not marks:
            return HungUpBy.SYSTEM, None
        first = marks[-1]
        for mark in reversed(marks):
            if first.at - mark.at > MARK_CLUSTER:
                break
            first = mark
        leg = first.leg
        if story.direction is Direction.INCOMING:
            by_caller = leg.employee is None and leg.on_behalf is None
        elif story.direction is Direction.OUTGOING:
            by_caller = leg.employee is not None
        else:
            by_caller = leg.employee == story.caller
        return (HungUpBy.CALLER if by_caller else HungUpBy.CALLEE), first.at

    def ended(self, story: Story, at: datetime, *, uncertain: bool) -> CallEnded:
        """The whole call, at its end."""
        by, requested = self.ending(story)
        if by is HungUpBy.SYSTEM and self.resumed_at is not None and at - self.resumed_at <= TOGETHER:
            self.hidden = True  # the gap may have hidden who requested the hangup
        end = at if requested is None or uncertain else requested
        answered = self.answered_at is not None
        talk = None
        if self.answered_at is not None:
            end = max(end, self.answered_at)
            talk = None if self.talk_unknown else (end - self.answered_at).total_seconds()
        extension = story.caller or None if story.direction is Direction.OUTGOING else self.extension
        return CallEnded(
            call_id=self.call_id, at=end, direction=story.direction, caller=story.caller, called=story.called,
            trunk=self.trunk, extension=extension, last_extension=self.last_extension, rang=tuple(self.rang),
            result=self.result(story.direction), wait_s=self.wait_s if answered else None,
            talk_s=None if talk is None else round(talk, 3), hung_up_by=None if uncertain else by, queue=self.queue,
            recording=self.recording, uncertain=uncertain or self.hidden or bool(self.strangers),
        )  # fmt: skip

    @classmethod
    def adopt(cls, call: Call, key: str) -> "Conversation":
        """A call that was reported before a restart, to be followed to its end."""
        outgoing = call.direction is Direction.OUTGOING
        conversation = cls(
            key=key, call_id=call.call_id, began=call.started_at, links={key}, adopted=call, reported=True,
            trunk=call.trunk, queue=call.queue, recording=call.recording, ringing=call.ringing,
            rang=list(dict.fromkeys((*call.rang, *call.ringing))), hidden=call.uncertain,
        )  # fmt: skip
        if outgoing and not call.ringing:
            conversation.outside_ring = call.started_at
        for number in conversation.rang:
            conversation.first_ring[number] = call.started_at
        if call.phase is Phase.TALKING:
            conversation.answered_at = call.answered_at or call.started_at
            conversation.wait_s = call.wait_s
            conversation.extension = call.extension
            conversation.last_extension = call.last_extension
        return conversation


def _is_long(text: str) -> bool:
    return text.lstrip("+").isdigit() and len(text.lstrip("+")) >= 6
