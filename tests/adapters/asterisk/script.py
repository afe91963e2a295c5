"""Hand-made streams: what an Asterisk says of a call, one event a call of a method, 0.1 s apart where nothing else is said."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from adapters.asterisk.calls import CallTracker
from adapters.asterisk.protocol import Message
from gateway.domain.events import CallEnded, CallEvent, CallRinging

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
DOWN, RSRVD, OFFHOOK, DIALING, RING, RINGING, UP, PRERING = "0", "1", "2", "3", "4", "5", "6", "9"


@dataclass
class Leg:
    """A channel as the PBX knows it."""

    name: str
    uniqueid: str
    linkedid: str
    state: str
    caller: str = "<unknown>"
    exten: str = ""

    def headers(self, prefix: str = "") -> Message:
        """What every event says of it."""
        return {
            f"{prefix}Channel": self.name, f"{prefix}ChannelState": self.state, f"{prefix}CallerIDNum": self.caller,
            f"{prefix}Exten": self.exten, f"{prefix}Uniqueid": self.uniqueid, f"{prefix}Linkedid": self.linkedid,
        }  # fmt: skip


@dataclass
class Script:
    """A tracker and the events that were fed to it."""

    tracker: CallTracker
    now: datetime = NOON
    events: list[CallEvent] = field(default_factory=list)
    channels: int = 100

    def say(self, event: str, **headers: str) -> None:
        """One event."""
        self.now += timedelta(seconds=0.1)
        self.events += self.tracker.feed({"Event": event, **headers}, self.now)

    def wait(self, seconds: float) -> None:
        """Nothing happens."""
        self.now += timedelta(seconds=seconds)
        self.events += self.tracker.tick(self.now)

    def new(self, name: str, state: str, caller: str = "<unknown>", exten: str = "", of: Leg | None = None) -> Leg:
        """A channel begins, of a call of its own or of another channel's."""
        self.channels += 1
        uniqueid = f"1795300000.{self.channels}"
        leg = Leg(name, uniqueid, of.linkedid if of is not None else uniqueid, state, caller, exten)
        self.say("Newchannel", **leg.headers())
        return leg

    def to(self, leg: Leg, state: str, exten: str | None = None) -> None:
        """Its state changes."""
        leg.state, leg.exten = state, leg.exten if exten is None else exten
        self.say("Newstate", **leg.headers())

    def callerid(self, leg: Leg, number: str, presentation: str = "0 (Presentation Allowed, Not Screened)") -> None:
        """Its number becomes known."""
        leg.caller = number
        self.say("NewCallerid", **leg.headers(), **{"CID-CallingPres": presentation})

    def dial(self, source: Leg | None, leg: Leg, string: str) -> None:
        """It is dialled."""
        who = source.headers() if source is not None else {}
        self.say("DialBegin", **who, **leg.headers("Dest"), DialString=string)

    def talk(self, *legs: Leg, bridge: str = "b1") -> None:
        """They are put together, each of them up."""
        for leg in legs:
            if leg.state != UP:
                self.to(leg, UP)
        for leg in legs:
            self.say("BridgeEnter", **leg.headers(), BridgeUniqueid=bridge, BridgeTechnology="simple_bridge")

    def hang_up(self, first: Leg, *others: Leg, cause: str = "16") -> None:
        """The first asks to, then all are gone."""
        self.say("HangupRequest", **first.headers(), Cause=cause)
        self.gone(*others, first, cause=cause)

    def gone(self, *legs: Leg, cause: str = "16") -> None:
        """The PBX ends them."""
        for leg in legs:
            self.say("Hangup", **leg.headers(), Cause=cause)

    @property
    def ends(self) -> list[CallEnded]:
        """Every call that is over; nothing may be open."""
        self.wait(5)
        assert len(self.tracker) == 0
        return [event for event in self.events if isinstance(event, CallEnded)]

    @property
    def end(self) -> CallEnded:
        """The one call, which was not uncertain."""
        (ended,) = self.ends
        assert not ended.uncertain
        return ended

    @property
    def rings(self) -> list[CallRinging]:
        """Every time it was reported to ring."""
        return [event for event in self.events if isinstance(event, CallRinging)]
