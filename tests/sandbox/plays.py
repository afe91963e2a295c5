"""The calls that a simulated PBX plays: what happens in each kind, step by step, and the truth of it afterwards.

Every kind moves the model of `pbx.py` and nothing else; the shapes follow recordings of real ones. `Play` is one call:
its people, its clock, and what a person would say of it. A Redirect by a manager client is obeyed while an incoming
call rings or talks. Not taken from a recording: voicemail, the wrong number, the silent employee, a blind transfer that
is answered, and the attended transfer. Long, because every kind of call is spelled out in the order of its events.
"""

import random
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import trio

if TYPE_CHECKING:
    from tests.sandbox.pbx import Channel, SimulatedPbx

Truth = dict[str, Any]
"""A finished call in the contract's words: the fields of `call_ended`, its `kind`, and `merged`, the linkedids of
consultation calls that joined it."""

QUEUE = "sales"
RETURNING = 0.35
UNKNOWN = "<unknown>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An Originate: ring the employee, then dial the number. `shape` says through what channels."""

    employee: str
    number: str
    shape: str = "pairs"
    """pairs (two Local pairs), exten (one pair, then the dialplan) or direct (the phone's own channel)."""
    context: str = "inoffice"
    caller_num: str = ""
    caller_name: str = "Click to call"
    action_id: str = ""
    channel: str = ""
    application: str = ""
    data: str = ""
    timeout_s: float = 30.0
    variables: tuple[tuple[str, str], ...] = ()
    channel_id: str | None = None
    other_channel_id: str | None = None


def order_of(action: Mapping[str, str]) -> Order | None:
    """What an Originate action asks for; keys are lower case."""
    found = re.fullmatch(r"(Local|PJSIP|SIP)/([^@/]+)(?:@([^/]+))?(?:/\w+)?", action.get("channel", ""))
    if not found:
        return None
    technology, employee, context = found.groups()
    number, shape = action.get("exten", ""), "exten"
    if action.get("application", "").lower() == "dial":
        dialled = re.match(r"\w+/([^@,&]+)", action.get("data", ""))
        number, shape = dialled.group(1) if dialled else "", "pairs"
    caller = re.match(r'\s*"?([^"<]*?)"?\s*(?:<([^>]*)>)?\s*$', action.get("callerid", ""))
    name, num = caller.groups() if caller else ("", "")
    channel_id = action.get("channelid") or None
    pairs = (item.partition("=") for item in action.get("variable", "").split(",") if item)
    return Order(
        employee=employee, number=number, shape="direct" if technology != "Local" else shape,
        context=context or action.get("context", "inoffice"), caller_num=num or name or number, caller_name=name,
        action_id=action.get("actionid", ""), channel=action["channel"], application=action.get("application", ""),
        data=action.get("data", ""), timeout_s=int(action.get("timeout") or 30_000) / 1000,
        variables=tuple((key, value) for key, _, value in pairs), channel_id=channel_id,
        other_channel_id=action.get("otherchannelid") or (channel_id and f"{channel_id};2"),
    )  # fmt: skip


def originate_response(pbx: "SimulatedPbx", order: Order, channel: "Channel | None", *, reason: int) -> None:
    """What became of the employee's leg: 4 answered, 3 not answered, 0 no such phone."""
    headers = [("ActionID", order.action_id)] if order.action_id else []
    headers += [("Response", "Success" if reason == 4 else "Failure")]
    headers += [("Channel", channel.name if channel else order.channel)]
    if order.application:
        headers += [("Application", order.application), ("Data", order.data)]
    else:
        headers += [("Context", order.context), ("Exten", order.number)]
    headers += [("Reason", str(reason)), ("Uniqueid", channel.uniqueid if channel and reason == 4 else UNKNOWN)]
    headers += [("CallerIDNum", order.caller_num or UNKNOWN), ("CallerIDName", order.caller_name or UNKNOWN)]
    pbx.emit("OriginateResponse", headers)


def random_number(rng: random.Random, region: str) -> str:
    """A mobile number of a region in E.164; the British ones are of the range kept for plays."""
    digits = "".join(rng.choices("0123456789", k=9))
    match region:
        case "BY":
            return (
                "+375"
                + rng.choice(("291", "293", "296", "299", "292", "295", "297", "298", "257", "336", "445"))
                + digits[:6]
            )
        case "RU":
            return "+79" + rng.choice(("03", "05", "10", "16", "21", "25", "37", "52", "61", "85", "99")) + digits[:7]
        case "PL":
            return "+48" + rng.choice(("501", "512", "530", "601", "664", "696", "721", "788", "880")) + digits[:6]
        case "GB":
            return "+447700900" + digits[:3]
    raise ValueError(region)


class Play:
    """One call in progress. Durations are seconds at tempo 1."""

    def __init__(
        self, pbx: "SimulatedPbx", *, client: str | None = None, employee: str | None = None, colleague: str | None = None,
        group: Sequence[str] | None = None, company: str | None = None, presented: str | None = None,
        ring_s: float = 3.0, talk_s: float = 5.0, patience_s: float = 6.0, hung_up_by: str | None = None,
        order: Order | None = None,
    ) -> None:  # fmt: skip
        everyone = list(pbx.extensions)
        self.pbx = pbx
        self.employee = employee or everyone[0]
        self.colleague = colleague or next(ext for ext in reversed(everyone) if ext != self.employee)
        self.group = tuple(group or everyone[:2])
        self.company = company
        self.client = client or pbx.pick_client()
        self.presented = presented or self.client
        self.ring_s, self.talk_s, self.patience_s = ring_s, talk_s, patience_s
        self.by = hung_up_by
        self.order = order
        self.channels: set[Channel] = set()
        self.merged: list[str] = []
        self.linkedid = ""
        self.direction, self.caller, self.called = "incoming", self.client, ""
        self.trunk: str | None = pbx.trunk
        self.rang: list[str] = []
        self.extension: str | None = None
        self.last_extension: str | None = None
        self.result = "missed"
        self.hung_up_by: str | None = None
        self.queue: str | None = None
        self.ring_at: float | None = None
        self.answer_at: float | None = None
        self.end_at: float | None = None
        self.started = pbx.now()
        self._moved = trio.Event()
        self._target: tuple[str, bool] | None = None
        self._movable: Channel | None = None

    def truth(self, kind: str, *, lost: bool) -> Truth:
        """What happened. `lost`: the PBX died in the middle of it."""
        wait = talk = None
        if self.answer_at is not None and self.end_at is not None:
            wait = round(self.answer_at - self.ring_at, 3) if self.ring_at is not None else None
            talk = round(self.end_at - self.answer_at, 3)
        return {
            "kind": kind, "linkedid": self.linkedid, "direction": self.direction, "caller": self.caller,
            "called": self.called, "trunk": self.trunk, "rang": self.rang, "extension": self.extension,
            "last_extension": self.last_extension, "result": None if lost else self.result, "wait_s": wait,
            "talk_s": talk, "hung_up_by": self.hung_up_by, "queue": self.queue, "merged": self.merged,
            "uncertain": lost,
        }  # fmt: skip

    # --- waiting, and being moved by a manager client

    async def pause(self, seconds: float) -> bool:
        """Waits; true at once when a manager client has moved the call."""
        if self._target is None:
            with trio.move_on_after(seconds * self.pbx.tempo):
                await self._moved.wait()
        return self._target is not None

    def can_move(self, channel: "Channel", *, blind: bool) -> bool:
        """Whether a Redirect of this channel, or a BlindTransfer by it, is something this call can do now."""
        movable = self._movable
        if movable is None:
            return False
        if blind:
            return movable.bridge is not None and channel in movable.bridge.channels and channel is not movable
        return channel is movable

    def move(self, target: str, *, blind: bool = False) -> None:
        """Sends the outside party to another phone."""
        self._target = (target, blind)
        self._moved.set()

    def _take_target(self) -> tuple[str, bool]:
        assert self._target is not None
        target, self._target, self._moved = self._target, None, trio.Event()
        return target

    # --- what people do

    def own(self, channel: "Channel") -> "Channel":
        """A channel of this call; the first names it."""
        self.channels.add(channel)
        self.linkedid = self.linkedid or channel.linkedid
        return channel

    def from_outside(self, did: str, *, answered_by_pbx: bool = False) -> "Channel":
        """A call comes in on the trunk for one of the company's numbers."""
        self.called = "+" + did
        trunk = self.own(
            self.pbx.channel(
                self.pbx.trunk, context="from-trunk", exten=did, state=4, num=self.presented, name=self.presented
            )
        )
        if answered_by_pbx:
            self.pbx.run_app(trunk, "Answer")
            self.pbx.state(trunk, 6)
        return trunk

    def from_phone(self, extension: str, number: str) -> "Channel":
        """An employee dials."""
        name = self.pbx.extensions[extension]
        return self.own(
            self.pbx.channel(extension, context="inoffice", exten=number, state=4, num=extension, name=name)
        )

    def ring(self, source: "Channel", extensions: Sequence[str], *, rings: bool = True) -> dict[str, "Channel"]:
        """A channel dials phones, which ring or (`rings=False`) are about to refuse."""
        legs: dict[str, Channel] = {}
        for extension in extensions:
            name = self.pbx.extensions.get(extension, UNKNOWN)
            leg = self.pbx.channel(
                extension, context="inoffice", exten="s", state=0, num=extension, name=name, linked=source
            )
            legs[extension] = self.own(leg)
            leg.exten, leg.connected, leg.connected_name = source.exten, source.num, source.cid_name
            self.pbx.run_app(leg, "AppDial", "(Outgoing Line)")
            self.pbx.connect(leg, source.num, source.cid_name)
        for extension, leg in legs.items():
            self.pbx.dial_begin(source, leg, extension)
        if len(legs) == 1:
            self.pbx.connect(source, extensions[0], self.pbx.extensions.get(extensions[0], UNKNOWN))
        if rings:
            for leg in legs.values():
                self.pbx.state(leg, 5)
            for leg in legs.values():
                self.pbx.dial_state(source, leg)
            self.rings(extensions)
        return legs

    def rings(self, extensions: Sequence[str] = ()) -> None:
        """Phones ring. Outside a click-to-call's first leg, that is when waiting begins."""
        self.rang += [ext for ext in extensions if ext not in self.rang]
        if self.direction != "outgoing" or not extensions:
            self.ring_at = self.ring_at if self.ring_at is not None else self.pbx.now()

    def answer(self, source: "Channel", legs: Mapping[str, "Channel"], winner: str) -> None:
        """One phone is picked up: the others stop, two parties are in a bridge."""
        leg = legs[winner]
        self.pbx.state(leg, 6)
        self.talks(winner)
        if len(legs) > 1:
            self.pbx.connect(source, winner, self.pbx.extensions[winner])
        others = [other for other in legs.values() if other is not leg]
        for other in others:
            self.pbx.dial_end(source, other, "CANCEL")
        leg.exten = ""
        self.pbx.dial_end(source, leg, "ANSWER")
        if source.state != 6:
            self.pbx.state(source, 6)
        for other in others:
            self.pbx.hangup(other, 26)
        bridge = self.pbx.bridge()
        self.pbx.enter(bridge, leg)
        self.pbx.enter(bridge, source)

    def talks(self, extension: str) -> None:
        """An employee and the other party talk."""
        self.result = "answered"
        self.answer_at = self.answer_at if self.answer_at is not None else self.pbx.now()
        self.extension = self.extension or extension
        self.last_extension = extension

    def ended(self, by: str, result: str | None = None) -> None:
        """The call is over, by caller, callee or system."""
        self.end_at = self.pbx.now()
        self.hung_up_by = by
        self.result = result or self.result

    def part(self, source: "Channel", leg: "Channel", by: str) -> None:
        """One of two who talk hangs up."""
        self.ended(by)
        first, second = (source, leg) if by == "caller" else (leg, source)
        self.pbx.hangup_request(first)
        self.pbx.leave(first)
        self.pbx.leave(second)
        self.pbx.soft_hangup(source)
        self.pbx.hangup(leg)
        self.pbx.cdr(source, leg, "ANSWERED", self.started, self.answer_at)
        self.pbx.hangup(source)

    def give_up(self, source: "Channel", legs: Sequence["Channel"], cause: int = 127) -> None:
        """The caller hangs up while it rings, or in a menu."""
        self.ended("caller")
        tech = 487 if cause == 127 else None
        self.pbx.hangup_request(source, cause, tech)
        for leg in legs:
            self.pbx.dial_end(source, leg, "CANCEL")
        for leg in legs:
            self.pbx.hangup(leg, cause)
        self.pbx.soft_hangup(source, 16, tech)
        self.pbx.cdr(source, legs[0] if legs else None, "NO ANSWER", self.started, None)
        self.pbx.hangup(source, cause, tech)

    def dialplan_ends(self, source: "Channel", status: str, cause: int, tech: int | None = None) -> None:
        """The dialplan goes on to hang up with a cause."""
        self.pbx.run_app(source, "Goto", f"hang-{status},1", priority=2)
        source.exten = f"hang-{status}"
        self.pbx.run_app(source, "Hangup", str(cause), priority=1)
        self.pbx.soft_hangup(source)
        disposition = {"BUSY": "BUSY", "NOANSWER": "NO ANSWER"}.get(status, "FAILED")
        self.pbx.cdr(source, None, disposition, self.started, None)
        self.pbx.hangup(source, cause, tech)

    def dial_out(self, source: "Channel", number: str, name: str = UNKNOWN) -> "Channel":
        """A channel dials an outside number through the trunk."""
        self.trunk = self.pbx.trunk
        out = self.pbx.channel(self.pbx.trunk, context="from-trunk", exten="s", state=0, linked=source)
        self.own(out)
        out.exten, out.num, out.cid_name = number, number, name
        out.connected, out.connected_name = source.num, source.cid_name
        self.pbx.run_app(out, "AppDial", "(Outgoing Line)")
        self.pbx.caller_id(out, number, name)
        self.pbx.connect(out, source.num, source.cid_name)
        self.pbx.dial_begin(source, out, f"{number}@{self.pbx.trunk}")
        self.pbx.connect(source, number, name)
        return out

    def refused(self, source: "Channel", leg: "Channel", status: str, cause: int, tech: int) -> None:
        """The far end of a leg says no."""
        self.pbx.hangup_request(leg, cause, tech)
        self.pbx.dial_end(source, leg, status)
        self.pbx.hangup(leg, cause, tech)

    # --- incoming calls, with all that may happen to them

    async def incoming(
        self, extensions: Sequence[str], number: int, winner: str | None, *, timeout: bool = False,
        ringing_move: str | None = None, talking_move: str | None = None, blind: bool = False,
    ) -> None:  # fmt: skip
        """The company's number rings phones; scripted moves and those of a manager client are alike."""
        trunk = self.from_outside(self.did(number))
        self.pbx.run_app(trunk, "Dial", "&".join(f"PJSIP/{ext}" for ext in extensions) + ",30,tT")
        legs = self.ring(trunk, extensions)
        self._movable = trunk
        moved = await self.pause(self.ring_s if winner or ringing_move else 30.0 if timeout else self.patience_s)
        if not moved and ringing_move:
            self.move(ringing_move)
            moved = True
        while moved:
            winner, _ = self._take_target()
            trunk.context, trunk.exten = "inoffice", winner
            for leg in legs.values():
                self.pbx.dial_end(trunk, leg, "CANCEL")
            self.pbx.run_app(trunk, "Dial", f"PJSIP/{winner},30,tT")
            for leg in legs.values():
                self.pbx.hangup(leg, 16)
            legs = self.ring(trunk, [winner])
            moved = await self.pause(2.0)
        if winner is None:
            self._movable = None
            if timeout:
                self.time_out(trunk, legs)
                self.ended("system")
                self.dialplan_ends(trunk, "NOANSWER", 19, 480)
            else:
                self.give_up(trunk, list(legs.values()))
            return
        self.answer(trunk, legs, winner)
        moved = await self.pause(self.talk_s)
        if not moved and talking_move:
            self.move(talking_move, blind=blind)
            moved = True
        while moved:
            winner, was_blind = self._take_target()
            legs = self._move_talking(trunk, legs, winner, was_blind)
            moved = await self.pause(2.0)
            if not moved:
                self.answer(trunk, legs, winner)
                moved = await self.pause(self.talk_s)
        self._movable = None
        self.part(trunk, legs[winner], self.by or "caller")

    def _move_talking(
        self, trunk: "Channel", legs: Mapping[str, "Channel"], target: str, blind: bool
    ) -> dict[str, "Channel"]:
        for leg in [leg for leg in legs.values() if leg.name in self.pbx.channels]:
            if blind and leg.bridge is not None:
                self.pbx.blind_transfer(leg, trunk, target)
            if leg.bridge is None:
                self.pbx.dial_end(trunk, leg, "CANCEL")
            trunk.context, trunk.exten = "inoffice", target
            self.pbx.run_app(trunk, trunk.application, trunk.data)
            if leg.bridge is not None:
                self.pbx.leave(trunk)
                self.pbx.leave(leg)
            self.pbx.hangup(leg)
        trunk.data = f"PJSIP/{target},30,tT"
        return self.ring(trunk, [target])

    def time_out(self, source: "Channel", legs: Mapping[str, "Channel"]) -> None:
        """Nobody answered in the time the dialplan gives."""
        for leg in legs.values():
            self.pbx.dial_end(source, leg, "NOANSWER")
        for leg in legs.values():
            self.pbx.hangup(leg, 0)

    def did(self, number: int) -> str:
        """The company's numbers differ in the last digit: 1 the ring group, 3 a queue, 4 one employee, 5 a menu."""
        return self.company or self.pbx.company[:-1] + str(number)


async def incoming_answered(play: Play) -> None:
    """A ring group of two; one answers."""
    await play.incoming(play.group, 1, play.group[0])


async def incoming_missed_gave_up(play: Play) -> None:
    """A ring group; the client gives up."""
    await play.incoming(play.group, 1, None)


async def incoming_missed_timeout(play: Play) -> None:
    """A ring group; the PBX gives up."""
    await play.incoming(play.group, 1, None, timeout=True)


async def incoming_hidden(play: Play) -> None:
    """A client who hides the number."""
    play.client = play.caller = play.presented = "anonymous"
    await play.incoming([play.employee], 4, play.employee)


async def redirect_ringing(play: Play) -> None:
    """While the employee's phone rings the client is sent to a colleague, who answers."""
    await play.incoming([play.employee], 4, None, ringing_move=play.colleague)


async def redirect_talking(play: Play) -> None:
    """In the talk the client is sent to a colleague by a Redirect."""
    await play.incoming([play.employee], 4, play.employee, talking_move=play.colleague)


async def blind_transfer(play: Play) -> None:
    """In the talk the employee sends the client to a colleague."""
    await play.incoming([play.employee], 4, play.employee, talking_move=play.colleague, blind=True)


async def incoming_busy(play: Play) -> None:
    """Every phone of the group says busy."""
    trunk = play.from_outside(play.did(1))
    play.pbx.run_app(trunk, "Dial", "&".join(f"PJSIP/{ext}" for ext in play.group) + ",30,tT")
    for leg in play.ring(trunk, play.group, rings=False).values():
        await play.pause(0.4)
        play.refused(trunk, leg, "BUSY", 17, 486)
    play.ended("system", "busy")
    play.dialplan_ends(trunk, "BUSY", 17, 486)


async def incoming_queue_answered(play: Play) -> None:
    """The PBX answers with music; two phones ring; the second answers."""
    pbx = play.pbx
    play.queue = QUEUE
    trunk = play.from_outside(play.did(3), answered_by_pbx=True)
    pbx.run_app(trunk, "Queue", f"{QUEUE},tT,,,30", priority=2)
    joined = [("Queue", QUEUE), ("Position", "1")]
    pbx.emit("QueueCallerJoin", [*trunk.snapshot(), *joined, ("Count", "1")], "agent,all")
    pbx.emit("MusicOnHoldStart", [*trunk.snapshot(), ("Class", "default")])
    legs: dict[str, Channel] = {}
    for extension in play.group:
        name = pbx.extensions[extension]
        leg = play.own(
            pbx.channel(extension, context="inoffice", exten="s", state=0, num=extension, name=name, linked=trunk)
        )
        legs[extension] = leg
        member = [("Queue", QUEUE), ("Interface", f"PJSIP/{extension}"), ("MemberName", name)]
        pbx.emit("AgentCalled", [*trunk.snapshot(), *leg.snapshot("Dest"), *member], "agent,all")
        pbx.dial_begin(trunk, leg, f"PJSIP/{extension}")
        leg.exten, leg.connected, leg.connected_name = trunk.exten, trunk.num, trunk.cid_name
        pbx.state(leg, 5)
        play.rings([extension])
        pbx.run_app(leg, "AppQueue", "(Outgoing Line)")
        pbx.connect(leg, trunk.num, trunk.cid_name)
        pbx.dial_state(trunk, leg)
    await play.pause(play.ring_s)
    loser, winner = legs[play.group[0]], legs[play.group[-1]]
    extension = play.group[-1]
    member = [("Queue", QUEUE), ("Interface", f"PJSIP/{extension}"), ("MemberName", pbx.extensions[extension])]
    pbx.state(winner, 6)
    play.talks(extension)
    pbx.dial_end(trunk, winner, "ANSWER")
    pbx.dial_end(trunk, loser, "CANCEL")
    pbx.connect(trunk, extension, pbx.extensions[extension])
    pbx.dial_end(trunk, loser, "CANCEL")
    pbx.emit("MusicOnHoldStop", trunk.snapshot())
    pbx.emit("QueueCallerLeave", [*trunk.snapshot(), *joined, ("Count", "0")], "agent,all")
    held = [("HoldTime", "3"), ("RingTime", "3")]
    pbx.emit("AgentConnect", [*trunk.snapshot(), *winner.snapshot("Dest"), *member, *held], "agent,all")
    bridge = pbx.bridge()
    pbx.enter(bridge, winner)
    pbx.enter(bridge, trunk)
    pbx.hangup(loser, 26)
    await play.pause(play.talk_s)
    by = play.by or "caller"
    first = trunk if by == "caller" else winner
    play.ended(by)
    pbx.hangup_request(first, None if first is trunk else 16)
    reason = "caller" if by == "caller" else "agent"
    reported = [("HoldTime", "3"), ("TalkTime", "5"), ("Reason", reason)]
    pbx.emit("AgentComplete", [*trunk.snapshot(), *winner.snapshot("Dest"), *member, *reported], "agent,all")
    pbx.leave(first)
    pbx.leave(winner if first is trunk else trunk)
    pbx.soft_hangup(trunk)
    pbx.hangup(winner)
    pbx.cdr(trunk, winner, "ANSWERED", play.started, play.answer_at)
    pbx.hangup(trunk)


async def incoming_menu_abandoned(play: Play) -> None:
    """The PBX answers with a menu; the client hangs up in it."""
    trunk = play.from_outside(play.did(5), answered_by_pbx=True)
    play.pbx.run_app(trunk, "BackGround", "demo-menu", priority=2)
    await play.pause(play.patience_s)
    play.give_up(trunk, [], 16)


async def incoming_voicemail(play: Play) -> None:
    """Nobody answers; the client speaks to the voicemail. That is not an answer."""
    trunk = play.from_outside(play.did(4))
    play.pbx.run_app(trunk, "Dial", f"PJSIP/{play.employee},20,tT")
    legs = play.ring(trunk, [play.employee])
    await play.pause(20.0)
    play.time_out(trunk, legs)
    play.pbx.run_app(trunk, "VoiceMail", f"{play.employee}@default,u", priority=2)
    play.pbx.state(trunk, 6)
    await play.pause(play.talk_s)
    play.give_up(trunk, [], 16)


async def attended_transfer(play: Play) -> None:
    """In the talk the employee calls a colleague, then joins the two calls."""
    pbx = play.pbx
    trunk = play.from_outside(play.did(4))
    pbx.run_app(trunk, "Dial", f"PJSIP/{play.employee},30,tT")
    legs = play.ring(trunk, [play.employee])
    await play.pause(play.ring_s)
    play.answer(trunk, legs, play.employee)
    await play.pause(2.0)
    first = legs[play.employee]
    second = play.from_phone(play.employee, play.colleague)
    play.merged.append(second.linkedid)
    pbx.run_app(second, "Dial", f"PJSIP/{play.colleague},30,tT")
    consulted = play.ring(second, [play.colleague])
    await play.pause(2.0)
    play.answer(second, consulted, play.colleague)
    await play.pause(1.5)
    target = consulted[play.colleague]
    here, there = trunk.bridge, second.bridge
    assert here is not None
    assert there is not None
    pbx.merge(here, there, target)
    pbx.attended_transfer(first, second, trunk, target, here, there)
    pbx.leave(first)
    pbx.leave(second)
    pbx.connect(trunk, play.colleague, pbx.extensions[play.colleague])
    pbx.connect(target, trunk.num, trunk.cid_name)
    pbx.cdr(second, target, "ANSWERED", pbx.now(), pbx.now())
    pbx.hangup(second)
    pbx.hangup(first)
    await play.pause(play.talk_s)
    play.part(trunk, target, play.by or "caller")


# --- outgoing and internal calls


async def _outgoing(play: Play, outcome: str) -> None:
    pbx = play.pbx
    play.direction, play.caller, play.called = "outgoing", play.employee, play.client
    play.extension = play.employee
    number = play.presented
    source = play.from_phone(play.employee, number)
    pbx.run_app(source, "Dial", f"PJSIP/{number}@{pbx.trunk},30,tT")
    out = play.dial_out(source, number)
    await play.pause(0.5)
    if outcome in ("busy", "failed"):
        busy = outcome == "busy"
        play.refused(source, out, "BUSY" if busy else "NOANSWER", 17 if busy else 1, 486 if busy else 404)
        play.ended("callee", outcome)
        play.dialplan_ends(source, "BUSY" if busy else "CHANUNAVAIL", 17 if busy else 1, 486 if busy else 404)
        return
    if outcome == "cancelled":
        play.result = "cancelled"
        play.give_up(source, [out])
        return
    pbx.state(out, 5)
    pbx.dial_state(source, out)
    play.rings()
    if outcome == "no_answer":
        await play.pause(play.patience_s)
        play.result = "no_answer"
        play.give_up(source, [out])
        return
    await play.pause(play.ring_s)
    pbx.state(out, 6)
    play.talks(play.employee)
    out.exten = ""
    pbx.dial_end(source, out, "ANSWER")
    pbx.state(source, 6)
    bridge = pbx.bridge()
    pbx.enter(bridge, out)
    pbx.enter(bridge, source)
    await play.pause(play.talk_s)
    play.part(source, out, play.by or "caller")


async def outgoing_answered(play: Play) -> None:
    """The employee dials; the client answers; the employee hangs up."""
    await _outgoing(play, "answered")


async def outgoing_no_answer(play: Play) -> None:
    """It rings at the client's; the employee gives up."""
    await _outgoing(play, "no_answer")


async def outgoing_busy(play: Play) -> None:
    """The client's line is busy."""
    await _outgoing(play, "busy")


async def outgoing_cancelled(play: Play) -> None:
    """The employee hangs up before it rings."""
    await _outgoing(play, "cancelled")


async def outgoing_wrong_number(play: Play) -> None:
    """The provider knows no such number."""
    await _outgoing(play, "failed")


async def _internal(play: Play, answered: bool) -> None:
    play.direction, play.trunk = "internal", None
    play.caller, play.called = play.employee, play.colleague
    source = play.from_phone(play.employee, play.colleague)
    play.pbx.run_app(source, "Dial", f"PJSIP/{play.colleague},30,tT")
    legs = play.ring(source, [play.colleague])
    await play.pause(play.ring_s if answered else play.patience_s)
    if not answered:
        play.give_up(source, list(legs.values()))
        return
    play.answer(source, legs, play.colleague)
    await play.pause(play.talk_s)
    play.part(source, legs[play.colleague], play.by or "callee")


async def internal_answered(play: Play) -> None:
    """A colleague answers and hangs up."""
    await _internal(play, True)


async def internal_missed(play: Play) -> None:
    """A colleague does not answer; the caller gives up."""
    await _internal(play, False)


# --- click-to-call


async def _click(play: Play, outcome: str) -> None:
    pbx = play.pbx
    order = play.order or Order(
        employee=play.employee, number=play.presented, caller_num=play.presented, application="Dial",
        data=f"Local/{play.presented}@inoffice", channel=f"Local/{play.employee}@inoffice",
    )  # fmt: skip
    number, employee, shape = order.number, order.employee, order.shape
    name = pbx.extensions[employee]
    play.direction, play.caller, play.called = "outgoing", employee, number
    play.extension = employee
    play.trunk = None  # until one is dialled
    halves: list[Channel] = []
    if shape == "direct":
        side = phone = play.own(
            pbx.channel(
                employee, context="inoffice", exten="s", state=0, num=employee, name=name, uniqueid=order.channel_id
            )
        )
        _introduce(play, order, [side])
        pbx.dial_begin(None, side, employee)
        pbx.state(side, 5)
        play.rings([employee])
    else:
        side, inner = pbx.local_pair(employee, order.context, None, order.channel_id, order.other_channel_id)
        halves = [play.own(side), play.own(inner)]
        _introduce(play, order, halves)
        pbx.local_bridge(side, inner)
        pbx.dial_begin(None, side, f"{employee}@{order.context}")
        pbx.run_app(inner, "Dial", f"PJSIP/{employee},30,tT")
        phone = play.ring(inner, [employee])[employee]
        side.num, side.cid_name = employee, name
        pbx.state(side, 5)
        pbx.caller_id(side, employee, name)
    pbx.dial_state(None, side)
    if outcome == "silent":
        await play.pause(order.timeout_s)
        _silent(play, order, side, halves, phone)
        return
    await play.pause(1.5)
    pbx.state(phone, 6)
    if shape == "direct":
        pbx.dial_end(None, side, "ANSWER")
        originate_response(pbx, order, side, reason=4)
        side.context, side.exten = order.context, number
    else:
        phone.exten = ""
        pbx.dial_end(inner, phone, "ANSWER")
        pbx.state(side, 6)
        pbx.dial_end(None, side, "ANSWER")
        pbx.state(inner, 6)
        bridge = pbx.bridge()
        originate_response(pbx, order, side, reason=4)
        pbx.enter(bridge, phone)
        pbx.enter(bridge, inner)
    source, far = side, None
    if shape == "pairs":
        far, source = pbx.local_pair(number, order.context, side)
        play.own(far), play.own(source)
        far.exten = employee
        far.connected = employee
        far.num, far.cid_name = employee, order.caller_name
        pbx.run_app(far, "AppDial", "(Outgoing Line)")
        pbx.caller_id(far, employee, order.caller_name)
        pbx.connect(far, employee, name)
        pbx.caller_id(source, employee, name)
        pbx.connect(source, employee, name)
        pbx.local_bridge(far, source)
        pbx.dial_begin(side, far, f"{number}@{order.context}")
    elif shape == "exten":
        side.exten = number
    pbx.run_app(source, "Dial", f"PJSIP/{number}@{pbx.trunk},30,tT")
    out = play.dial_out(source, number, order.caller_name)
    if outcome == "busy":
        await play.pause(0.5)
        play.ended("system", "busy")
        _client_busy(play, source, out, side, far, halves, phone)
        return
    pbx.state(out, 5)
    play.rings()
    if far is not None:
        far.num = number
        pbx.state(far, 5)
        pbx.caller_id(far, number, order.caller_name)
        pbx.dial_state(side, far)
    pbx.dial_state(source, out)
    if outcome == "no_answer":
        await play.pause(play.patience_s)
        play.ended("caller", "no_answer")
        _employee_gives_up(play, source, out, side, far, halves, phone)
        return
    await play.pause(2.5)
    pbx.state(out, 6)
    play.talks(employee)
    out.exten = ""
    pbx.dial_end(source, out, "ANSWER")
    if source.state != 6:
        pbx.state(source, 6)
    bridge = pbx.bridge()
    pbx.enter(bridge, out)
    if far is not None:
        pbx.state(far, 6)
        far.exten = ""
        pbx.dial_end(side, far, "ANSWER")
        between = pbx.bridge()
        pbx.enter(bridge, source)
        pbx.enter(between, far)
        pbx.enter(between, side)
        _optimise(play, far, source, side, 0)
    else:
        pbx.enter(bridge, side)
    if halves:
        _optimise(play, side, halves[1], out, 1)
    await play.pause(play.talk_s)
    by = play.by or "callee"
    play.ended(by)
    first, second = (out, phone) if by == "callee" else (phone, out)
    pbx.hangup_request(first)
    pbx.leave(first)
    pbx.hangup(first)
    pbx.cdr(out, phone, "ANSWERED", play.started, play.answer_at)
    pbx.hangup(second)


def _introduce(play: Play, order: Order, channels: Sequence["Channel"]) -> None:
    """The channels of an Originate get its variables and its caller id."""
    play.pbx.run_app(channels[0], "AppDial2", "(Outgoing Line)")
    for channel in channels:
        for variable, value in order.variables:
            play.pbx.set_variable(channel, variable.lstrip("_"), value)
        play.pbx.caller_id(channel, order.caller_num, order.caller_name)
        play.pbx.connect(channel, order.caller_num, order.caller_name)


def _silent(play: Play, order: Order, side: "Channel", halves: Sequence["Channel"], phone: "Channel") -> None:
    """The employee did not pick up in the time the Originate gives."""
    pbx = play.pbx
    play.ended("system", "cancelled")
    pbx.dial_end(None, side, "NOANSWER")
    originate_response(pbx, order, side, reason=3)
    if halves:
        inner = halves[1]
        pbx.hangup_request(inner, 0)
        pbx.hangup(side, 0)
        pbx.dial_end(inner, phone, "CANCEL")
        pbx.hangup(phone, 0)
        pbx.soft_hangup(inner)
        pbx.cdr(inner, phone, "NO ANSWER", play.started, None)
        pbx.hangup(inner, 0)
    else:
        pbx.cdr(side, None, "NO ANSWER", play.started, None)
        pbx.hangup(side, 0)


def _optimise(play: Play, one: "Channel", two: "Channel", source: "Channel", number: int) -> None:
    """A Local pair is taken out of the middle: `source`, bridged with `one`, takes the place of `two`."""
    pbx = play.pbx
    pbx.local_optimization(one, two, source, number)
    target = two.bridge
    assert target is not None
    pbx.leave(source)
    pbx.leave(two)
    pbx.enter(target, source, swap=two)
    pbx.local_optimization(one, two, None, number)
    pbx.hangup_request(two)
    pbx.leave(one)
    pbx.hangup(one)
    pbx.soft_hangup(two)
    pbx.cdr(two, None, "ANSWERED", play.started, play.answer_at)
    pbx.hangup(two)


def _client_busy(
    play: Play, source: "Channel", out: "Channel", side: "Channel", far: "Channel | None", halves: Sequence["Channel"],
    phone: "Channel",
) -> None:  # fmt: skip
    pbx = play.pbx
    play.refused(source, out, "BUSY", 17, 486)
    play.dialplan_ends(source, "BUSY", 17)
    if far is not None:
        pbx.dial_end(side, far, "BUSY")
        pbx.hangup(far, 17)
        pbx.hangup(side, 17)
    if halves:
        inner = halves[1]
        pbx.hangup_request(inner, 17)
        pbx.leave(inner)
        pbx.soft_hangup(inner)
        pbx.hangup(inner, 17)
        pbx.hangup(phone)


def _employee_gives_up(
    play: Play, source: "Channel", out: "Channel", side: "Channel", far: "Channel | None", halves: Sequence["Channel"],
    phone: "Channel",
) -> None:  # fmt: skip
    pbx = play.pbx
    pbx.hangup_request(phone)
    if halves:
        inner = halves[1]
        pbx.leave(phone)
        pbx.leave(inner)
        pbx.soft_hangup(inner)
        pbx.hangup(phone)
        pbx.hangup(inner)
        pbx.hangup_request(side)
    if far is not None:
        pbx.dial_end(side, far, "CANCEL")
        pbx.hangup(side)
        pbx.hangup_request(source)
        pbx.hangup(far)
    pbx.dial_end(source, out, "CANCEL")
    pbx.hangup(out)
    pbx.soft_hangup(source)
    pbx.cdr(source, out, "NO ANSWER", play.started, None)
    pbx.hangup(source)


async def click_to_call_answered(play: Play) -> None:
    """Two Local pairs, optimised away in the talk; the client hangs up."""
    await _click(play, "answered")


async def click_to_call_employee_silent(play: Play) -> None:
    """The employee does not pick up; the client is never called."""
    await _click(play, "silent")


async def click_to_call_busy(play: Play) -> None:
    """The employee picks up; the client's line is busy."""
    await _click(play, "busy")


async def click_to_call_no_answer(play: Play) -> None:
    """The employee picks up; it rings at the client's; the employee gives up."""
    await _click(play, "no_answer")


async def originated(play: Play) -> None:
    """What a manager client's Originate asks for, with the outcome the PBX is set to."""
    await _click(play, play.pbx.originate_outcome)


KINDS: Mapping[str, Callable[[Play], Awaitable[None]]] = {
    kind.__name__: kind
    for kind in (
        incoming_answered, incoming_missed_gave_up, incoming_missed_timeout, incoming_busy, incoming_queue_answered,
        incoming_menu_abandoned, incoming_voicemail, incoming_hidden, outgoing_answered, outgoing_no_answer,
        outgoing_busy, outgoing_cancelled, outgoing_wrong_number, internal_answered, internal_missed,
        click_to_call_answered, click_to_call_employee_silent, click_to_call_busy, click_to_call_no_answer,
        redirect_ringing, redirect_talking, blind_transfer, attended_transfer, originated,
    )
}  # fmt: skip
PLAYABLE = tuple(kind for kind in KINDS if kind != "originated")
"""Every kind that needs no manager client to ask for it."""

WEIGHTS: Mapping[str, float] = {
    "incoming_answered": 30, "incoming_queue_answered": 8, "incoming_missed_gave_up": 8, "incoming_missed_timeout": 3,
    "incoming_busy": 2, "incoming_menu_abandoned": 3, "incoming_voicemail": 2, "incoming_hidden": 2,
    "outgoing_answered": 16, "outgoing_no_answer": 6, "outgoing_busy": 3, "outgoing_cancelled": 2,
    "outgoing_wrong_number": 1, "internal_answered": 4, "internal_missed": 1, "click_to_call_answered": 5,
    "click_to_call_employee_silent": 1, "redirect_ringing": 1, "redirect_talking": 1, "blind_transfer": 2,
    "attended_transfer": 2,
}  # fmt: skip
"""How often each kind happens in a believable day."""

EMPLOYEES: Mapping[str, int] = {
    "incoming_answered": 2, "incoming_queue_answered": 2, "incoming_missed_gave_up": 2, "incoming_missed_timeout": 2,
    "incoming_busy": 0, "incoming_menu_abandoned": 0, "internal_answered": 2, "internal_missed": 2,
    "redirect_ringing": 2, "redirect_talking": 2, "blind_transfer": 2, "attended_transfer": 2,
}  # fmt: skip
"""How many free employees a kind needs; one, unless told."""


def random_people(rng: random.Random, kind: str, free: Sequence[str]) -> dict[str, Any]:
    """Who takes part in a random call of a kind, and how long they take."""
    needed = EMPLOYEES.get(kind, 1)
    chosen = rng.sample(list(free), needed)
    people: dict[str, Any] = {
        "ring_s": rng.uniform(2, 14), "talk_s": min(rng.expovariate(1 / 40) + 6, 240), "patience_s": rng.uniform(4, 25),
    }  # fmt: skip
    if chosen:
        people["employee"] = chosen[0]
    if needed == 2:
        people |= {"colleague": chosen[1], "group": tuple(chosen)}
    if rng.random() < 0.4:
        people["hung_up_by"] = rng.choice(("caller", "callee"))
    return people
