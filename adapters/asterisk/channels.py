"""Channels, and who they belong to: the graph that calls are read from. Pure data, no story.

    PJSIP/trunk-0001-000004b0      a leg on an outside line
    PJSIP/150-000004b1             a leg of an employee's phone
    Local/150@inoffice-00000190;1  half of a pair that is nobody's: what enters one half leaves the other

A *leg* is a channel that ends at a person; Local halves only connect. `Directory` says whose a leg is, `Numbers` writes
outside numbers the one way the gateway knows. This module never decides what a call is: read `calls.py` next.
"""

import re
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from functools import lru_cache

from gateway.domain.configuration import Phone
from gateway.domain.numbers import hidden, is_internal
from gateway.domain.numbers import outside as read_outside

outside = lru_cache(maxsize=4096)(read_outside)
"""A call asks for its numbers at every event."""

_DIALLED = re.compile(r"(?:.*[/:])?([^/:@]*)")
_NOBODY = frozenset(
    ("Announcer", "AsyncGoto", "Bridge", "CBAnn", "CBRec", "Message", "MulticastRTP", "Recorder", "Snoop", "Surrogate")
)
"""Technologies of channels that the PBX makes for itself."""


class ChannelState(IntEnum):
    """The states that matter of Asterisk's `ChannelState`."""

    DOWN = 0
    RING = 4
    """It calls us."""
    RINGING = 5
    """We call it, and it rings."""
    UP = 6
    BUSY = 7
    """It was told busy or congestion."""


class Numbers:
    """Outside numbers as E.164 where they can be read so with the tenant's country."""

    def __init__(self, country: str | None) -> None:
        self._country = country or ""

    def outside(self, text: str) -> str:
        """As events carry it: E.164, `anonymous`, or as the PBX gave it."""
        return outside(text, self._country)

    def read(self, text: str) -> str | None:
        """`text` as E.164, or None when it is not an outside number that can be read."""
        number = outside(text, self._country)
        return number if number.startswith("+") else None


class Directory:
    """Whose a leg is: an employee's internal number, or the outside."""

    def __init__(self, trunks: tuple[str, ...], phones: tuple[Phone, ...]) -> None:
        self._trunks = frozenset(trunks)
        self._numbers = frozenset(phone.number for phone in phones)
        self._devices = {device: phone.number for phone in phones for device in phone.devices}

    def is_internal(self, number: str) -> bool:
        """Whether a number is one of ours. Where the tenant lists no phones, those of 2 to 5 digits are."""
        return number in self._numbers if self._numbers else is_internal(number, ())

    def is_trunk(self, channel: "Channel") -> bool:
        """Whether the leg is on a line that the tenant calls an outside line."""
        return channel.endpoint in self._trunks or channel.device in self._trunks

    def owner(self, channel: "Channel", number: str) -> str | None:
        """The internal number whose leg this is, None for the outside. `number` is what the PBX calls the leg."""
        if self.is_trunk(channel):
            return None
        for device in (channel.endpoint, channel.device):
            if device in self._devices:
                return self._devices[device]
        for name in (channel.endpoint, number):
            if self.is_internal(name):
                return name
        return None


@dataclass(slots=True, eq=False)
class Channel:
    """One live channel."""

    uniqueid: str
    name: str
    began: datetime
    state: int = ChannelState.DOWN
    exten: str = ""
    """Where in the dialplan it is, as last heard."""
    caller_id: str = ""
    hidden: bool = False
    """Its caller asked that the number is not shown."""
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
    """Why its far end did not take the call (Q.850), where the PBX told; 0 when the PBX itself stopped calling it."""
    technology: str = field(default="", init=False)
    endpoint: str = field(default="", init=False)

    def __post_init__(self) -> None:
        self.rename(self.name)

    def rename(self, name: str) -> None:
        """A masquerade gives a channel the name, and so the device, of another."""
        self.name = name
        self.technology, _, rest = name.partition("/")
        self.endpoint = rest.rpartition("-")[0] or rest

    @property
    def device(self) -> str:
        """The endpoint with its technology: PJSIP/150."""
        return f"{self.technology}/{self.endpoint}"

    @property
    def is_local(self) -> bool:
        """Half of a Local pair."""
        return self.technology == "Local"

    @property
    def is_leg(self) -> bool:
        """Whether a person is at the end of it."""
        return self.technology != "Local" and self.technology not in _NOBODY

    @property
    def local_number(self) -> str:
        """The number a Local channel stands for: 150 of Local/150@inoffice-00000190;2."""
        return self.endpoint.partition("@")[0]


def dialled_number(dial_string: str) -> str:
    """The number in a dial string: `150`, `+375296254070@trunk-0001`, `trunk/sip:375296254070@host:5060`."""
    found = _DIALLED.fullmatch(dial_string.partition("@")[0])
    return found.group(1) if found else ""


def is_number(text: str) -> bool:
    """Whether the PBX named a number at all."""
    return not hidden(text) and text != "s"


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
