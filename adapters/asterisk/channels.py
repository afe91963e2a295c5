"""Channels, and who they belong to: the graph that calls are read from. Pure data, no story.

    PJSIP/trunk-0001-000004b0      a leg on an outside line
    PJSIP/150-000004b1             a leg of an employee's phone
    Local/150@inoffice-00000190;1  half of a pair that is nobody's: what enters one half leaves the other

    DAHDI/i2/80296254070-3         a leg on the ISDN line i2
    UnicastRTP/127.0.0.1:9998-0x7f a program that hears and speaks, such as a robot: nobody

A *leg* is a channel that ends at a person; Local halves only connect. `Directory` finds its owner, `Numbers` writes
outside numbers the one way the gateway knows. This module never decides what a call is: read `calls.py` next.
"""

import re
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from functools import lru_cache

from gateway.domain.configuration import Phone
from gateway.domain.numbers import PORTS, bare, hidden, in_dial_string, is_internal, is_short
from gateway.domain.numbers import dialled as read_dialled
from gateway.domain.numbers import outside as read_outside

outside = lru_cache(maxsize=4096)(read_outside)
"""A call needs its numbers at every event."""
dialled = lru_cache(maxsize=4096)(read_dialled)

MOST_UNLISTED = 100
"""How many internal numbers that the tenant does not list are remembered."""

_ISDN = re.compile(r"(i\d+)(?:/.*)?")
_PEOPLE = frozenset((
    *PORTS, "ALSA", "Allogsm", "Console", "Datacard", "Dongle", "Gtalk", "H323", "IAX", "IAX2", "Jingle", "LCR", "Mobile",
    "Motif", "OH323", "OOH323", "OSS", "PJSIP", "Quectel", "SCCP", "SIP", "Simcom", "Skinny", "Svistok", "USTM", "Woomera",
))  # fmt: skip
"""Technologies of phones and outside lines. A channel of another one is a leg only where something shows a person: see
`Channel.is_leg`. Sources: the channel drivers of Asterisk 11 to 23 and the better known ones outside it."""
_NOBODY = frozenset((
    "Announcer", "AsyncGoto", "AudioSocket", "Bridge", "CBAnn", "CBRec", "ExternalMedia", "Local", "Message", "MulticastRTP",
    "NBS", "Recorder", "Snoop", "Surrogate", "UnicastRTP", "WebSocket",
))  # fmt: skip
"""Technologies of channels that the PBX makes for itself or for programs, whatever they do."""


class ChannelState(IntEnum):
    """The states that matter of Asterisk's `ChannelState`."""

    DOWN = 0
    DIALING = 3
    RING = 4
    """It calls us."""
    RINGING = 5
    """We call it, and it rings."""
    UP = 6
    BUSY = 7
    """The PBX sent it busy or congestion."""

    @classmethod
    def begun(cls, state: int) -> bool:
        """Whether a channel in this state has begun to be a call: Down, Rsrvd, OffHook and the like are not yet one, and
        do not show who calls whom."""
        return cls.DIALING <= state <= cls.BUSY


class Numbers:
    """Outside numbers as E.164 where they can be read so with the tenant's country."""

    def __init__(self, country: str | None, dial_prefix: str = "") -> None:
        self._country = country or ""
        self._prefixes = (dial_prefix,) if dial_prefix else ()

    def outside(self, text: str) -> str:
        """As events carry it: E.164, `anonymous`, or as the PBX gave it."""
        return outside(text, self._country)

    def read(self, text: str) -> str | None:
        """`text` as E.164, or None when it is not an outside number that can be read."""
        number = outside(text, self._country)
        return number if number.startswith("+") else None

    def dialled(self, text: str, given: str = "") -> str:
        """The outside number that an employee dialled as `text`, of which an outside line was given `given`. What it was
        given decides, unless it only put digits of its own before what was dialled."""
        typed, sent = bare(text), bare(given)
        added = sent != typed and sent.endswith(typed.lstrip("+")) and self._dialled(typed).startswith("+")
        for number in (typed, sent) if added or not sent else (sent, typed):
            if number and (read := self._dialled(number)).startswith("+"):
                return read
        return sent if sent and typed.endswith(sent) else typed or sent

    def _dialled(self, text: str) -> str:
        return dialled(text, self._country, self._prefixes)


class Directory:
    """Whose a leg is: an employee's internal number, or the outside."""

    def __init__(self, trunks: tuple[str, ...], phones: tuple[Phone, ...]) -> None:
        self._trunks = frozenset(trunks)
        self._numbers = frozenset(phone.number for phone in phones)
        self._devices = {device: phone.number for phone in phones for device in phone.devices}
        self.unlisted: OrderedDict[tuple[str, str], datetime] = OrderedDict()
        """Internal numbers that the tenant does not list, each with the device that had it and when that was last seen;
        at most `MOST_UNLISTED`, the latest last."""

    def is_internal(self, number: str) -> bool:
        """Whether a number is one of ours. Where the tenant lists no phones, those of 2 to 5 digits are."""
        return number in self._numbers if self._numbers else is_internal(number, ())

    def is_colleague(self, number: str) -> bool:
        """Whether a number is one of ours or, by its length, reads as one that is not listed."""
        return number in self._numbers or is_short(number)

    def trunk(self, channel: "Channel") -> str | None:
        """The outside line of this leg by the name that the tenant lists; None where it lists none such."""
        return next((name for name in (channel.endpoint, channel.device) if name in self._trunks), None)

    def owner(self, channel: "Channel", number: str, dialled_number: str = "") -> str | None:
        """The internal number whose leg this is, None for the outside. `number` is what the PBX calls the leg,
        `dialled_number` what its device was given to dial."""
        if self.trunk(channel) is not None:
            return None
        for device in (channel.endpoint, channel.device):
            if device in self._devices:
                return self._devices[device]
        names = [name for name in (channel.own_number, number, dialled_number) if name]
        listed = next((name for name in names if self.is_internal(name)), None)
        if listed is None and not is_short(channel.own_number) and is_outside(dialled_number):
            return None
        return listed or next((name for name in names if is_short(name)), None)

    def is_listed(self, channel: "Channel") -> bool:
        """Whether the tenant names this device, as a line or as a phone's."""
        return self.trunk(channel) is not None or channel.endpoint in self._devices or channel.device in self._devices

    def note(self, number: str, channel: "Channel", at: datetime) -> None:
        """Remembers an employee's number with its device, where the tenant does not list it."""
        if number in self._numbers:
            return
        key = (number, channel.device)
        self.unlisted[key] = at
        self.unlisted.move_to_end(key)
        if len(self.unlisted) > MOST_UNLISTED:
            self.unlisted.popitem(last=False)


@dataclass(slots=True, eq=False)
class Channel:
    """One live channel."""

    uniqueid: str
    name: str
    began: datetime
    state: int = ChannelState.DOWN
    exten: str = ""
    """Where in the dialplan it is, as last reported."""
    caller_id: str = ""
    hidden: bool = False
    """Its caller hides the number."""
    employee: str | None = None
    known: bool = False
    """Whether it is settled whose leg this is."""
    dialled: bool = False
    """The PBX calls it, rather than it the PBX."""
    dialled_by: "Channel | None" = None
    dialled_number: str = ""
    on_behalf: str | None = None
    """The internal number for which an outside leg was dialled, as by call forwarding."""
    other_half: str | None = None
    bridge: str | None = None
    rang: bool = False
    refusal: int | None = None
    """Why its far end did not take the call (Q.850), where the PBX sent it; 0 when the PBX itself stopped calling it."""
    begun: bool = False
    """Whether it calls, is called or has talked: a handset that is only lifted has not begun."""
    called: bool = False
    """Something shows that the PBX calls it: it was dialled, rings, or was first seen after its beginning."""
    person: bool = False
    """Something shows that a person is at its end, though its technology is not known."""
    is_leg: bool = field(default=False, init=False)
    """Whether a person is at the end of it."""
    technology: str = field(default="", init=False)
    endpoint: str = field(default="", init=False)

    def __post_init__(self) -> None:
        self.rename(self.name)

    def rename(self, name: str) -> None:
        """A masquerade gives a channel the name, and so the device, of another."""
        self.name = name
        self.technology, _, rest = name.partition("/")
        self.endpoint = rest.rpartition("-")[0] or rest
        if self.technology in ("DAHDI", "Zap") and (line := _ISDN.fullmatch(self.endpoint)):
            self.endpoint = line.group(1)  # DAHDI/i2/NUMBER-x, where NUMBER may be anything
        self.is_leg = self._is_leg()

    @property
    def device(self) -> str:
        """The endpoint with its technology: PJSIP/150."""
        return f"{self.technology}/{self.endpoint}"

    @property
    def is_local(self) -> bool:
        """Half of a Local pair."""
        return self.technology == "Local"

    def _is_leg(self) -> bool:
        if self.technology in _PEOPLE:
            return self.endpoint != "pseudo"
        return self.person and self.technology not in _NOBODY

    def shows_person(self) -> bool:
        """It calls, rings, is a device that the tenant names or was given a number to dial. True where that is news."""
        if self.person:
            return False
        was, self.person = self.is_leg, True
        self.is_leg = self._is_leg()
        return self.is_leg and not was

    @property
    def own_number(self) -> str:
        """The number that its device is named by: 101 of `SIP/101` or `Skinny/101@desk`; empty for a port."""
        return "" if self.technology in PORTS else self.endpoint.partition("@")[0]

    @property
    def local_number(self) -> str:
        """The number a Local channel stands for: 150 of Local/150@inoffice-00000190;2."""
        return self.endpoint.partition("@")[0]


def dialled_number(dial_string: str, technology: str) -> str:
    """The number in a dial string as DialBegin gives it, without its technology; empty where it names a port alone, and
    the device where it names that."""
    if technology == "MGCP" or (technology in PORTS and "/" not in dial_string):
        return ""
    return in_dial_string(dial_string) or dial_string.partition("@")[0].rpartition("/")[2]


def is_number(text: str) -> bool:
    """Whether the PBX named a number at all."""
    return not hidden(text) and text != "s"


def is_outside(number: str) -> bool:
    """Whether a number is too long, or too foreign, for an internal one."""
    digits = number.removeprefix("+")
    return digits.isdigit() and (digits != number or len(digits) > 5)


class Bridges:
    """Which channels are in which bridge, and who hears whom through Local pairs."""

    def __init__(self) -> None:
        self._members: dict[str, dict[str, Channel]] = {}

    def __len__(self) -> int:
        return len(self._members)

    def enter(self, bridge: str, channel: Channel) -> dict[str, Channel]:
        """Who is in the bridge, now that `channel` is."""
        if channel.bridge != bridge:
            self.leave(channel)
            channel.bridge = bridge
        members = self._members.setdefault(bridge, {})
        members[channel.uniqueid] = channel
        return members

    def leave(self, channel: Channel) -> None:
        """`channel` is in no bridge from now on."""
        if channel.bridge is None:
            return
        members = self._members.get(channel.bridge)
        if members is not None:
            members.pop(channel.uniqueid, None)
            if not members:
                del self._members[channel.bridge]
        channel.bridge = None

    def size(self, bridge: str | None) -> int:
        """How many channels are in a bridge."""
        return len(self._members.get(bridge or "", ()))

    def company(self, channel: Channel, channels: dict[str, Channel]) -> list[Channel]:
        """The legs that `channel` talks with, itself included: those of its bridge, and on through Local pairs."""
        legs: list[Channel] = []
        todo, seen = [channel], {channel.uniqueid}
        while todo:
            at = todo.pop()
            if at.is_leg:
                legs.append(at)
            near = list(self._members.get(at.bridge, {}).values()) if at.bridge else []
            if at.other_half and (half := channels.get(at.other_half)):
                near.append(half)
            for other in near:
                if other.uniqueid not in seen:
                    seen.add(other.uniqueid)
                    todo.append(other)
        return legs
