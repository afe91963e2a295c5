"""A simulated Asterisk that speaks AMI over TCP: the model of channels and bridges, and its manager sessions.

It owns what is true in the PBX at any moment; every change goes through one method here, which tells all sessions, so
a list of channels asked for in the middle of a call is never at odds with the events. What happens in a call is in
`plays.py`. Read classes and permissions of manager users are not modelled: whoever logs in sees everything.
Long, because the model and the sessions that tell of it share one state.

    play -> SimulatedPbx.channel/state/dial_begin/enter/hangup... -> model -> emit -> sessions and listeners
"""

import hashlib
import json
import random
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import trio

from tests.sandbox import plays

Headers = list[tuple[str, str]]
Listener = Callable[[float, bytes], None]
"""Hears every event as the sessions get it, with its time in seconds since the epoch."""

BANNER = b"Asterisk Call Manager/11.0.0\r\n"
STATES = {0: "Down", 3: "Dialing", 4: "Ring", 5: "Ringing", 6: "Up", 7: "Busy"}
CAUSES = {
    0: "Unknown", 1: "Unallocated (unassigned) number", 16: "Normal Clearing", 17: "User busy",
    19: "User alerting, no answer", 26: "Answered elsewhere", 34: "Circuit/channel congestion",
    127: "Interworking, unspecified",
}  # fmt: skip
UNKNOWN = "<unknown>"
MAX_OUTBOX = 8 << 20
MAX_ACTION = 64 << 10
EXTENSIONS: Mapping[str, str] = {"150": "Ivan Petrov", "151": "Анна Кузьмина", "152": "Office Manager"}


@dataclass(slots=True, eq=False)
class Bridge:
    """A mixing bridge. It ends with its last channel."""

    uniqueid: str
    creator: str = UNKNOWN
    channels: list["Channel"] = field(default_factory=list)


@dataclass(slots=True, eq=False, kw_only=True)
class Channel:
    """One leg. What its snapshot carries, and where it is."""

    name: str
    uniqueid: str
    linkedid: str
    device: str
    context: str
    exten: str
    state: int
    created: float
    num: str = UNKNOWN
    cid_name: str = UNKNOWN
    connected: str = UNKNOWN
    connected_name: str = UNKNOWN
    priority: int = 1
    application: str = ""
    data: str = ""
    bridge: Bridge | None = None
    cause_source: str = ""

    def snapshot(self, prefix: str = "") -> Headers:
        """The headers of a channel, as every event about it repeats them."""
        return [
            (f"{prefix}Channel", self.name),
            (f"{prefix}ChannelState", str(self.state)),
            (f"{prefix}ChannelStateDesc", STATES[self.state]),
            (f"{prefix}CallerIDNum", self.num),
            (f"{prefix}CallerIDName", self.cid_name),
            (f"{prefix}ConnectedLineNum", self.connected),
            (f"{prefix}ConnectedLineName", self.connected_name),
            (f"{prefix}Language", "en"),
            (f"{prefix}AccountCode", ""),
            (f"{prefix}Context", self.context),
            (f"{prefix}Exten", self.exten),
            (f"{prefix}Priority", str(self.priority)),
            (f"{prefix}Uniqueid", self.uniqueid),
            (f"{prefix}Linkedid", self.linkedid),
        ]


class Link:
    """One manager session: its stream, what waits to be written, and what it asked for."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.username: str | None = None
        self.events = False
        self.stalled = False
        self.challenge = ""
        self.white: list[re.Pattern[str]] = []
        self.black: list[re.Pattern[str]] = []
        self._outbox = bytearray()
        self._wake = trio.Event()
        self._ending = False

    @property
    def waiting(self) -> int:
        """How many bytes the client has not read yet, beside what the sockets hold."""
        return len(self._outbox)

    def write(self, data: bytes) -> None:
        """Queues bytes; a session that does not read loses its link, as Asterisk would have it."""
        self._outbox += data
        if len(self._outbox) > MAX_OUTBOX:
            self.end()
        self._wake.set()

    def tell(self, message: bytes) -> None:
        """Queues an event, if the session wants it."""
        if not self.events:
            return
        if self.white or self.black:
            text = message.decode().removesuffix("\r\n")
            if any(pattern.search(text) for pattern in self.black):
                return
            if self.white and not any(pattern.search(text) for pattern in self.white):
                return
        self.write(message)

    def end(self) -> None:
        """Ends the link after what is queued."""
        self._ending = True
        self._wake.set()

    def resume(self) -> None:
        """Ends a stall."""
        self.stalled = False
        self._wake.set()

    async def pump(self) -> None:
        """Writes until the link ends."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            while self._outbox and not self.stalled:
                data, self._outbox = self._outbox, bytearray()
                await self.stream.send_all(data)
            if self._ending and not self.stalled:
                return


class SimulatedPbx:
    """One PBX. `port = await nursery.start(pbx.serve, 0)`, then `truth = await pbx.play("incoming_answered")`.

    `tempo` scales every pause in a call: 1.0 is the pace of people, 0.01 a hundred times faster.
    """

    def __init__(
        self,
        username: str = "gateway",
        secret: str = "sandbox-secret",
        *,
        tempo: float = 1.0,
        trunk: str = "trunk-0001",
        extensions: Mapping[str, str] = EXTENSIONS,
        company: str = "375172000001",
        regions: Sequence[str] = ("BY", "BY", "BY", "RU"),
        timestamps: bool = False,
        seed: int = 0,
    ) -> None:
        self.username, self.secret = username, secret
        self.tempo = tempo
        self.trunk = trunk
        self.records = False
        """Whether call detail records name a recording."""
        self.extensions = dict(extensions)
        self.company = company
        self.regions = tuple(regions)
        self.timestamps = timestamps
        self.random = random.Random(seed)
        self.channels: dict[str, Channel] = {}
        self.bridges: dict[str, Bridge] = {}
        self.links: list[Link] = []
        self.listeners: list[Listener] = []
        self.truths: deque[plays.Truth] = deque(maxlen=10_000)
        """What happened, call by call, in the order in which calls ended."""
        self.finished: list[Callable[[plays.Truth], None]] = []
        """Told of every call when it has ended."""
        self.actions: deque[dict[str, str]] = deque(maxlen=10_000)
        """What clients asked, keys in lower case, secrets left out."""
        self.processed = 0
        self.refused_logins = 0
        self.originate_outcome = "answered"
        """What becomes of calls that a client originates: answered, silent (the employee), busy or no_answer."""
        self._plays: dict[plays.Play, trio.CancelScope] = {}
        self._busy: set[str] = set()
        self._clients: deque[str] = deque(maxlen=200)
        self._stalled = False
        self._clock: tuple[float, float] | None = None
        self._boot()

    def _boot(self) -> None:
        self._unique = self._pjsip = self._local = 0
        self._booted: float | None = self.now() if self._clock else None

    async def serve(self, port: int = 0, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
        """Runs until cancelled on a loopback port (0: a free one) and starts with its number."""
        listeners = await trio.open_tcp_listeners(port, host="127.0.0.1")
        async with trio.open_nursery() as nursery:
            await nursery.start(
                partial(trio.serve_listeners, partial(self._session, nursery), listeners, handler_nursery=nursery)
            )
            task_status.started(listeners[0].socket.getsockname()[1])

    # --- playing

    async def play(self, kind: str, **people: Any) -> plays.Truth:
        """Plays one call of a kind (`plays.KINDS`) and returns what happened, in the contract's words."""
        return await self._run_play(plays.Play(self, **people), kind)

    async def run(
        self, rate_per_s: float, weights: Mapping[str, float] = plays.WEIGHTS, *, seconds: float = float("inf")
    ) -> None:
        """Keeps playing believable calls until cancelled, or for so long: nobody takes two calls at once."""
        kinds, shares = zip(*weights.items(), strict=True)
        with trio.move_on_after(seconds):
            async with trio.open_nursery() as nursery:
                while True:
                    await trio.sleep(self.random.expovariate(rate_per_s))
                    kind = self.random.choices(kinds, shares)[0]
                    free = [ext for ext in self.extensions if ext not in self._busy]
                    if len(free) >= plays.EMPLOYEES.get(kind, 1):
                        nursery.start_soon(self._run_random, kind, free)

    async def _run_random(self, kind: str, free: list[str]) -> None:
        people = plays.random_people(self.random, kind, free)
        taken = {people.get("employee"), people.get("colleague"), *people.get("group", ())} - {None}
        self._busy |= taken
        try:
            await self.play(kind, **people)
        finally:
            self._busy -= taken

    async def _run_play(self, play: plays.Play, kind: str) -> plays.Truth:
        with trio.CancelScope() as scope:
            self._plays[play] = scope
            try:
                await plays.KINDS[kind](play)
            finally:
                del self._plays[play]
                for channel in [channel for channel in self.channels.values() if channel in play.channels]:
                    self._forget(channel)
        truth = play.truth(kind, lost=scope.cancelled_caught)
        self.processed += 1
        self.truths.append(truth)
        for reported in self.finished:
            reported(truth)
        return truth

    def pick_client(self) -> str:
        """A client's number: often one who has called before."""
        if self._clients and self.random.random() < plays.RETURNING:
            return self.random.choice(self._clients)
        self._clients.append(plays.random_number(self.random, self.random.choice(self.regions)))
        return self._clients[-1]

    # --- being unkind

    def cut(self, link: Link | None = None) -> None:
        """Closes one link, or all of them, at once; calls go on."""
        for one in [link] if link is not None else list(self.links):
            one.stalled = False
            one.stream.socket.close()

    def stall(self, stalled: bool = True) -> None:
        """Links stay open and nothing comes any more, not even answers, until `stall(False)`."""
        self._stalled = stalled
        for link in self.links:
            link.stalled = stalled
            if not stalled:
                link.resume()

    def restart(self) -> None:
        """The process dies and comes back: links close, calls and channels are forgotten, ids count from nothing."""
        self.cut()
        for scope in self._plays.values():
            scope.cancel()
        self.channels.clear()
        self.bridges.clear()
        self._boot()

    # --- the clock and the ids

    def now(self) -> float:
        """Seconds since the epoch, by Trio's clock."""
        if self._clock is None:
            self._clock = (time.time(), trio.current_time())
            self._booted = self._clock[0]
        return self._clock[0] + trio.current_time() - self._clock[1]

    def local_time(self, when: float | None = None) -> str:
        """The time as CDR and CEL write it."""
        return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(self.now() if when is None else when))

    def _next_uniqueid(self) -> str:
        self._unique += 1
        return f"{int(self.now())}.{self._unique}"

    # --- the model: every change tells the sessions

    def emit(self, name: str, headers: Iterable[tuple[str, str]], privilege: str = "call,all") -> None:
        """One event to every session that wants events."""
        now = self.now()
        lines = [f"Event: {name}", f"Privilege: {privilege}"]
        if self.timestamps:
            lines.append(f"Timestamp: {now:.6f}")
        lines += [f"{key}: {value}" for key, value in headers]
        message = ("\r\n".join(lines) + "\r\n\r\n").encode()
        for link in self.links:
            link.tell(message)
        for listener in self.listeners:
            listener(now, message)

    def listen(self, listener: Listener) -> None:
        """Hears everything without a socket."""
        self.listeners.append(listener)

    def channel(
        self, device: str, *, context: str, exten: str, state: int, num: str = UNKNOWN, name: str = UNKNOWN,
        linked: Channel | None = None, uniqueid: str | None = None,
    ) -> Channel:  # fmt: skip
        """A channel of a phone or trunk comes to be: `PJSIP/150-00000001`."""
        self._pjsip += 1
        return self._created(
            f"PJSIP/{device}-{self._pjsip:08x}", f"PJSIP/{device}", context, exten, state, num, name, linked, uniqueid
        )

    def local_pair(
        self,
        exten: str,
        context: str,
        linked: Channel | None = None,
        uniqueid: str | None = None,
        other: str | None = None,
    ) -> tuple[Channel, Channel]:
        """The two halves of a Local channel."""
        name = f"Local/{exten}@{context}-{self._local:08x}"
        self._local += 1
        device = f"Local/{exten}@{context}"
        one = self._created(f"{name};1", device, context, exten, 0, UNKNOWN, UNKNOWN, linked, uniqueid)
        two = self._created(f"{name};2", device, context, exten, 4, UNKNOWN, UNKNOWN, one, other)
        return one, two

    def _created(
        self, name: str, device: str, context: str, exten: str, state: int, num: str, cid_name: str,
        linked: Channel | None, uniqueid: str | None,
    ) -> Channel:  # fmt: skip
        unique = uniqueid or self._next_uniqueid()
        channel = Channel(
            name=name, uniqueid=unique, linkedid=linked.linkedid if linked else unique, device=device, context=context,
            exten=exten, state=state, num=num, cid_name=cid_name, created=self.now(),
        )  # fmt: skip
        self.channels[name] = channel
        self.cel("CHAN_START", channel)
        self.emit("Newchannel", channel.snapshot())
        return channel

    def run_app(self, channel: Channel, application: str, data: str = "", *, priority: int | None = None) -> None:
        """The dialplan runs an application on a channel."""
        channel.application, channel.data = application, data
        if priority is not None:
            channel.priority = priority
        extra = [("Extension", channel.exten), ("Application", application), ("AppData", data)]
        self.emit("Newexten", channel.snapshot() + extra, "dialplan,all")
        if application not in ("AppDial", "AppDial2", "AppQueue", "Goto", "Hangup"):
            self.cel("APP_START", channel)

    def caller_id(self, channel: Channel, num: str, name: str) -> None:
        """A channel is given a caller's number and name."""
        channel.num, channel.cid_name = num, name
        self.emit("NewCallerid", [*channel.snapshot(), ("CID-CallingPres", "0 (Presentation Allowed, Not Screened)")])

    def connect(self, channel: Channel, num: str, name: str) -> None:
        """A channel learns who is at the other end."""
        channel.connected, channel.connected_name = num, name
        self.emit("NewConnectedLine", channel.snapshot())

    def set_variable(self, channel: Channel, variable: str, value: str) -> None:
        """A channel variable is set."""
        self.emit("VarSet", [*channel.snapshot(), ("Variable", variable), ("Value", value)], "dialplan,all")

    def state(self, channel: Channel, state: int) -> None:
        """A channel changes its state: 5 ringing, 6 up."""
        channel.state = state
        if state == 6:
            self.cel("ANSWER", channel)
        self.emit("Newstate", channel.snapshot())
        self._device(channel.device, "RINGING" if state == 5 else "INUSE")

    def _device(self, device: str, state: str) -> None:
        self.emit("DeviceStateChange", [("Device", device), ("State", state)])

    def dial_begin(self, source: Channel | None, leg: Channel, dial_string: str) -> None:
        """A channel (none: an Originate) begins to dial a leg."""
        self._dial("DialBegin", source, leg, [("DialString", dial_string)])

    def dial_state(self, source: Channel | None, leg: Channel, status: str = "RINGING") -> None:
        """The leg says how it goes."""
        self._dial("DialState", source, leg, [("DialStatus", status)])

    def dial_end(self, source: Channel | None, leg: Channel, status: str) -> None:
        """The dialling is over: ANSWER, BUSY, NOANSWER, CANCEL, CONGESTION or CHANUNAVAIL."""
        self._dial("DialEnd", source, leg, [("DialStatus", status)])

    def _dial(self, event: str, source: Channel | None, leg: Channel, extra: Headers) -> None:
        self.emit(event, (source.snapshot() if source else []) + leg.snapshot("Dest") + extra)

    def _bridge_headers(self, bridge: Bridge, prefix: str = "") -> Headers:
        return [
            (f"{prefix}BridgeUniqueid", bridge.uniqueid),
            (f"{prefix}BridgeType", "basic"),
            (f"{prefix}BridgeTechnology", "simple_bridge"),
            (f"{prefix}BridgeCreator", bridge.creator),
            (f"{prefix}BridgeName", UNKNOWN),
            (f"{prefix}BridgeNumChannels", str(len(bridge.channels))),
            (f"{prefix}BridgeVideoSourceMode", "none"),
        ]

    def bridge(self) -> Bridge:
        """An empty bridge comes to be."""
        bits = f"{self.random.getrandbits(128):032x}"
        bridge = Bridge("-".join((bits[:8], bits[8:12], bits[12:16], bits[16:20], bits[20:])))
        self.bridges[bridge.uniqueid] = bridge
        self.emit("BridgeCreate", self._bridge_headers(bridge))
        return bridge

    def enter(self, bridge: Bridge, channel: Channel, *, swap: Channel | None = None) -> None:
        """A channel joins; all in a bridge share the oldest Linkedid."""
        bridge.channels.append(channel)
        channel.bridge = bridge
        oldest = min((one.linkedid for one in bridge.channels), key=_age)
        for one in bridge.channels:
            one.linkedid = oldest
        extra = [("SwapUniqueid", swap.uniqueid)] if swap else []
        self.emit("BridgeEnter", self._bridge_headers(bridge) + channel.snapshot() + extra)
        self.cel("BRIDGE_ENTER", channel, {"bridge_id": bridge.uniqueid, "bridge_technology": "simple_bridge"})

    def leave(self, channel: Channel, *, destroy: bool = True) -> None:
        """A channel leaves its bridge, which ends when it was the last."""
        bridge = channel.bridge
        assert bridge is not None
        bridge.channels.remove(channel)
        channel.bridge = None
        self.emit("BridgeLeave", self._bridge_headers(bridge) + channel.snapshot())
        self.cel("BRIDGE_EXIT", channel, {"bridge_id": bridge.uniqueid, "bridge_technology": "simple_bridge"})
        if destroy and not bridge.channels:
            self.destroy(bridge)

    def destroy(self, bridge: Bridge) -> None:
        """An empty bridge ends."""
        del self.bridges[bridge.uniqueid]
        self.emit("BridgeDestroy", self._bridge_headers(bridge))

    def merge(self, target: Bridge, source: Bridge, moved: Channel) -> None:
        """A channel of one bridge moves to another, as an attended transfer has it."""
        self.emit("BridgeMerge", self._bridge_headers(target, "To") + self._bridge_headers(source, "From"))
        self.leave(moved, destroy=False)
        self.enter(target, moved)

    def attended_transfer(
        self,
        first: Channel,
        second: Channel,
        transferee: Channel,
        target: Channel,
        first_bridge: Bridge,
        second_bridge: Bridge,
    ) -> None:
        """Says that a phone joined its two calls."""
        headers = [
            ("Result", "Success"),
            *first.snapshot("OrigTransferer"),
            *self._bridge_headers(first_bridge, "Orig"),
        ]
        headers += [*second.snapshot("SecondTransferer"), *self._bridge_headers(second_bridge, "Second")]
        headers += [*transferee.snapshot("Transferee"), *target.snapshot("TransferTarget")]
        headers += [("IsExternal", "Yes"), ("DestType", "Bridge"), ("DestBridgeUniqueid", first_bridge.uniqueid)]
        self.emit("AttendedTransfer", headers)

    def blind_transfer(self, transferer: Channel, transferee: Channel, extension: str) -> None:
        """Says that a phone sent its other party elsewhere."""
        assert transferer.bridge is not None
        headers = [("Result", "Success"), *transferer.snapshot("Transferer"), *transferee.snapshot("Transferee")]
        headers += [*self._bridge_headers(transferer.bridge), ("IsExternal", "Yes")]
        self.emit("BlindTransfer", [*headers, ("Context", transferer.context), ("Extension", extension)])

    def local_bridge(self, one: Channel, two: Channel) -> None:
        """Says that two halves belong together."""
        headers = one.snapshot("LocalOne") + two.snapshot("LocalTwo")
        context, exten = two.context, two.exten
        self.emit("LocalBridge", [*headers, ("Context", context), ("Exten", exten), ("LocalOptimization", "Yes")])

    def local_optimization(self, one: Channel, two: Channel, source: Channel | None, number: int) -> None:
        """Begin (with the channel that takes over) or end of optimising a Local pair away."""
        headers = one.snapshot("LocalOne") + two.snapshot("LocalTwo")
        if source is not None:
            self.emit("LocalOptimizationBegin", [*headers, *source.snapshot("Source"), ("Id", str(number))])
        else:
            self.emit("LocalOptimizationEnd", [*headers, ("Success", "No"), ("Id", str(number))])

    def hangup_request(self, channel: Channel, cause: int | None = 16, tech: int | None = None) -> None:
        """The far end of a channel wants to hang up."""
        channel.cause_source = channel.name
        self.emit("HangupRequest", channel.snapshot() + _cause(cause, tech))

    def soft_hangup(self, channel: Channel, cause: int = 16, tech: int | None = None) -> None:
        """The PBX asks a channel to hang up."""
        self.emit("SoftHangupRequest", channel.snapshot() + _cause(cause, tech))

    def hangup(self, channel: Channel, cause: int = 16, tech: int | None = None) -> None:
        """A channel is gone."""
        if channel.bridge is not None:
            self.leave(channel)
        headers = [*channel.snapshot(), ("Cause", str(cause)), ("Cause-txt", CAUSES[cause])]
        self.emit("Hangup", headers + ([("TechCause", str(tech))] if tech else []))
        self.cel("HANGUP", channel, {"hangupcause": cause, "hangupsource": channel.cause_source, "dialstatus": ""})
        self.cel("CHAN_END", channel)
        self._forget(channel)
        self._device(channel.device, "NOT_INUSE")
        if not any(one.linkedid == channel.linkedid for one in self.channels.values()):
            self.cel("LINKEDID_END", channel)

    def _forget(self, channel: Channel) -> None:
        self.channels.pop(channel.name, None)
        if (bridge := channel.bridge) is not None:
            bridge.channels.remove(channel)
            channel.bridge = None
            if not bridge.channels:
                self.bridges.pop(bridge.uniqueid, None)

    def cel(self, event: str, channel: Channel, extra: Mapping[str, Any] | None = None) -> None:
        """One line of the channel event log."""
        num, name = (("" if text == UNKNOWN else text) for text in (channel.num, channel.cid_name))
        peer = [one.name for one in channel.bridge.channels if one is not channel] if channel.bridge else []
        headers = [
            ("EventName", event), ("AccountCode", ""), ("CallerIDnum", num), ("CallerIDname", name),
            ("CallerIDani", num), ("CallerIDrdnis", ""), ("CallerIDdnid", ""), ("Exten", channel.exten),
            ("Context", channel.context), ("Channel", channel.name), ("Application", channel.application),
            ("AppData", channel.data), ("EventTime", self.local_time()), ("AMAFlags", "DOCUMENTATION"),
            ("UniqueID", channel.uniqueid), ("LinkedID", channel.linkedid), ("Userfield", ""),
            ("Peer", ",".join(peer)), ("PeerAccount", ""),
            ("Extra", json.dumps(extra, separators=(",", ":")) if extra else ""),
        ]  # fmt: skip
        self.emit("CEL", headers)

    def cdr(self, source: Channel, leg: Channel | None, disposition: str, start: float, answer: float | None) -> None:
        """One call detail record, written as its call ends."""
        now = self.now()
        headers = [
            ("AccountCode", ""), ("Source", source.num), ("Destination", source.exten),
            ("DestinationContext", source.context), ("CallerID", f'"{source.cid_name}" <{source.num}>'),
            ("Channel", source.name), ("DestinationChannel", leg.name if leg else ""),
            ("LastApplication", source.application), ("LastData", source.data),
            ("StartTime", self.local_time(start)), ("AnswerTime", self.local_time(answer) if answer else ""),
            ("EndTime", self.local_time(now)), ("Duration", str(int(now - start))),
            ("BillableSeconds", str(int(now - answer) if answer else 0)), ("Disposition", disposition),
            ("AMAFlags", "DOCUMENTATION"), ("UniqueID", source.uniqueid), ("UserField", ""),
            ("LinkedID", source.linkedid),
            ("RecordingFile", f"/monitor/rec-{source.linkedid}.wav" if self.records and disposition == "ANSWERED" else ""),
        ]  # fmt: skip
        self.emit("Cdr", headers, "cdr,all")

    # --- manager sessions

    async def _session(self, nursery: trio.Nursery, stream: trio.SocketStream) -> None:
        link = Link(stream)
        link.stalled = self._stalled
        self.links.append(link)
        link.write(BANNER)
        try:
            async with trio.open_nursery() as own:
                own.start_soon(self._read, link, nursery)
                await link.pump()
                own.cancel_scope.cancel()
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            self.links.remove(link)
            await trio.aclose_forcefully(stream)

    async def _read(self, link: Link, nursery: trio.Nursery) -> None:
        waiting = bytearray()
        while len(waiting) < MAX_ACTION:
            data = await link.stream.receive_some(65536)
            if not data:
                break
            waiting += data.replace(b"\r", b"")
            while (end := waiting.find(b"\n\n")) >= 0:
                block = waiting[:end].decode("utf-8", "replace")
                del waiting[: end + 2]
                action: dict[str, str] = {}
                variables = []
                for line in block.split("\n"):
                    key, colon, value = line.partition(":")
                    if colon and key.strip().lower() == "variable":
                        variables.append(value.strip())
                    elif colon:
                        action.setdefault(key.strip().lower(), value.strip())
                if variables:
                    action["variable"] = ",".join(variables)
                self._act(link, action, nursery)
        link.end()

    def _reply(self, link: Link, action: Mapping[str, str], response: str, headers: Headers) -> None:
        own = [("ActionID", action["actionid"])] if action.get("actionid") else []
        lines = [("Response", response), *own, *headers]
        link.write(("".join(f"{key}: {value}\r\n" for key, value in lines) + "\r\n").encode())

    def _list(
        self, link: Link, action: Mapping[str, str], message: str, events: Sequence[tuple[str, Headers]], complete: str,
        items: str = "ListItems",
    ) -> None:  # fmt: skip
        own = [("ActionID", action["actionid"])] if action.get("actionid") else []
        self._reply(link, action, "Success", [("EventList", "start"), ("Message", message)])
        blocks = [[("Event", name), *own, *headers] for name, headers in events]
        blocks.append([("Event", complete), *own, ("EventList", "Complete"), (items, str(len(events)))])
        for block in blocks:
            link.write(("".join(f"{key}: {value}\r\n" for key, value in block) + "\r\n").encode())

    def _act(self, link: Link, action: dict[str, str], nursery: trio.Nursery) -> None:
        name = action.get("action", "").lower()
        self.actions.append({key: value for key, value in action.items() if key not in ("secret", "key")})
        reply = partial(self._reply, link, action)
        if not name:
            reply("Error", [("Message", "Missing action in request")])
        elif name == "challenge":
            link.challenge = str(self.random.randrange(10**8, 10**9))
            reply("Success", [("Challenge", link.challenge)])
        elif name == "login":
            self._login(link, action)
        elif name == "logoff":
            reply("Goodbye", [("Message", "Thanks for all the fish.")])
            link.end()
        elif link.username is None:
            reply("Error", [("Message", "Permission denied")])
        elif name == "ping":
            reply("Success", [("Ping", "Pong"), ("Timestamp", f"{self.now():.6f}")])
        elif name == "events":
            link.events = action.get("eventmask", "on").lower() not in ("off", "")
            reply("Success", [("Events", "On" if link.events else "Off")])
        elif name == "filter":
            self._filter(link, action)
        elif name == "coreshowchannels":
            rows = [("CoreShowChannel", self._row(channel)) for channel in self.channels.values()]
            self._list(link, action, "Channels will follow", rows, "CoreShowChannelsComplete")
        elif name == "status":
            self._status(link, action)
        elif name == "coresettings":
            version = "22.10.1"
            reply(
                "Success",
                [("AMIversion", "11.0.0"), ("AsteriskVersion", version), ("SystemName", ""), ("CoreMaxCalls", "0")],
            )
        elif name == "corestatus":
            day, clock = self.local_time(self._booted).split()
            reply("Success", [
                ("CoreStartupDate", day), ("CoreStartupTime", clock), ("CoreReloadDate", day), ("CoreReloadTime", clock),
                ("CoreCurrentCalls", str(len(self._plays))), ("CoreProcessedCalls", str(self.processed)),
            ])  # fmt: skip
        elif name == "pjsipshowendpoints":
            self._endpoints(link, action)
        elif name == "queuestatus":
            self._queues(link, action)
        elif name == "originate":
            self._originate(link, action, nursery)
        elif name in ("redirect", "blindtransfer"):
            self._redirect(link, action, name)
        else:
            reported = (
                f"Invalid/unknown command: {action['action']}. Use Action: ListCommands to show available commands."
            )
            reply("Error", [("Message", reported)])

    def _login(self, link: Link, action: Mapping[str, str]) -> None:
        given, wanted = action.get("secret"), self.secret
        if action.get("authtype", "").lower() == "md5":
            given = action.get("key", "").lower()
            wanted = hashlib.md5((link.challenge + self.secret).encode(), usedforsecurity=False).hexdigest()
        if action.get("username") != self.username or given != wanted:
            self.refused_logins += 1
            self._reply(link, action, "Error", [("Message", "Authentication failed")])
            link.end()
            return
        link.username = self.username
        link.events = action.get("events", "on").lower() not in ("off", "")
        self._reply(link, action, "Success", [("Message", "Authentication accepted")])
        uptime = str(int(self.now() - (self._booted or self.now())))
        fully = [("Uptime", uptime), ("LastReload", uptime), ("Status", "Fully Booted")]
        lines = [("Event", "FullyBooted"), ("Privilege", "system,all"), *fully]
        link.write(("".join(f"{key}: {value}\r\n" for key, value in lines) + "\r\n").encode())

    def _filter(self, link: Link, action: Mapping[str, str]) -> None:
        given = action.get("filter", "")
        for posix, ours in (
            ("[:digit:]", "0-9"),
            ("[:alnum:]", "A-Za-z0-9"),
            ("[:alpha:]", "A-Za-z"),
            ("[:space:]", r"\s"),
        ):
            given = given.replace(posix, ours)
        try:
            pattern = re.compile(given.removeprefix("!"), re.DOTALL)
        except re.error:
            self._reply(link, action, "Error", [("Message", "Filter failed to compile")])
            return
        (link.black if given.startswith("!") else link.white).append(pattern)
        self._reply(link, action, "Success", [("Message", "Filter Added")])

    def _row(self, channel: Channel) -> Headers:
        age = int(self.now() - channel.created)
        return [
            *channel.snapshot(),
            ("Application", channel.application),
            ("ApplicationData", channel.data),
            ("Duration", f"{age // 3600:02d}:{age // 60 % 60:02d}:{age % 60:02d}"),
            ("BridgeId", channel.bridge.uniqueid if channel.bridge else ""),
        ]

    def _status(self, link: Link, action: Mapping[str, str]) -> None:
        wanted = action.get("channel")
        if wanted and wanted not in self.channels:
            self._reply(link, action, "Error", [("Message", "No such channel")])
            return
        rows: list[tuple[str, Headers]] = []
        for channel in [self.channels[wanted]] if wanted else self.channels.values():
            headers = [("Privilege", "Call"), *channel.snapshot(), ("Type", channel.name.split("/")[0]), ("DNID", "")]
            headers += [
                ("EffectiveConnectedLineNum", channel.connected),
                ("EffectiveConnectedLineName", channel.connected_name),
            ]
            headers += [("TimeToHangup", "0")]
            headers += [("BridgeID", channel.bridge.uniqueid)] if channel.bridge else []
            headers += [
                ("Application", channel.application),
                ("Data", channel.data),
                ("Seconds", str(int(self.now() - channel.created))),
            ]
            rows.append(("Status", headers))
        self._list(link, action, "Channel status will follow", rows, "StatusComplete", "Items")

    def _endpoints(self, link: Link, action: Mapping[str, str]) -> None:
        rows: list[tuple[str, Headers]] = []
        for name in [*self.extensions, self.trunk]:
            active = [one for one in self.channels.values() if one.device == f"PJSIP/{name}"]
            state = "In use" if any(one.state == 6 for one in active) else "Ringing" if active else "Not in use"
            headers = [
                ("ObjectType", "endpoint"),
                ("ObjectName", name),
                ("Transport", "loopback"),
                ("Aor", name),
                ("Auths", ""),
            ]
            headers += [("OutboundAuths", ""), ("Contacts", f"{name}/sip:{name}@127.0.0.1,"), ("DeviceState", state)]
            rows.append(("EndpointList", [*headers, ("ActiveChannels", ",".join(one.name for one in active))]))
        reported = "A listing of Endpoints follows, presented as EndpointList events"
        self._list(link, action, reported, rows, "EndpointListComplete")

    def _queues(self, link: Link, action: Mapping[str, str]) -> None:
        rows: list[tuple[str, Headers]] = [
            ("QueueParams", [("Queue", plays.QUEUE), ("Max", "0"), ("Strategy", "ringall"), ("Calls", "0")])
        ]
        for extension, name in self.extensions.items():
            where = f"PJSIP/{extension}"
            headers = [("Queue", plays.QUEUE), ("Name", name), ("Location", where), ("StateInterface", where)]
            rows.append(("QueueMember", [*headers, ("Membership", "static"), ("Status", "1"), ("Paused", "0")]))
        self._list(link, action, "Queue status will follow", rows, "QueueStatusComplete")

    def _originate(self, link: Link, action: Mapping[str, str], nursery: trio.Nursery) -> None:
        order = plays.order_of(action)
        if order is None:
            self._reply(link, action, "Error", [("Message", "Channel not specified")])
            return
        self._reply(link, action, "Success", [("Message", "Originate successfully queued")])
        if order.employee not in self.extensions:
            plays.originate_response(self, order, None, reason=0)
            return
        nursery.start_soon(self._run_play, plays.Play(self, employee=order.employee, order=order), "originated")

    def _redirect(self, link: Link, action: Mapping[str, str], name: str) -> None:
        channel = self.channels.get(action.get("channel", ""))
        if channel is None:
            reported = f"Channel does not exist: {action.get('channel', '')}"
            self._reply(link, action, "Error", [("Message", reported)])
            return
        play = next((play for play in self._plays if channel in play.channels), None)
        if play is None or not play.can_move(channel, blind=name == "blindtransfer"):
            self._reply(link, action, "Error", [("Message", "Redirect failed")])
            return
        done = "Redirect successful" if name == "redirect" else "Transfer succeeded"
        self._reply(link, action, "Success", [("Message", done)])
        play.move(action.get("exten", ""), blind=name == "blindtransfer")


def _cause(cause: int | None, tech: int | None) -> Headers:
    headers = [("Cause", str(cause))] if cause is not None else []
    return headers + ([("TechCause", str(tech))] if tech else [])


def _age(uniqueid: str) -> tuple[int, int]:
    epoch, _, counter = uniqueid.partition(".")
    return (int(epoch), int(counter)) if epoch.isdigit() and counter.isdigit() else (0, 0)
