"""Whether the PBX sends this user events of calls at all. Pure.

A manager user without `read = call` logs in, pings and lists channels like any other, and no event ever comes. Nothing in the
protocol names a user's read rights, so they are found by evidence:

* A list of channels that has changed since the one before, with no event of a call in between, or a moment after, proves
  that events are withheld. While nobody calls, the lists are equal and prove nothing.
* A test may try more: an Originate on a technology that no Asterisk has makes no channel and rings nobody, and its
  OriginateResponse has class `call`. Seen with Asterisk 16 and 22: it comes exactly where the user may read calls.

Read `session.py` for the caller.
"""

from collections.abc import Iterable

from adapters.asterisk.advice import READ
from adapters.asterisk.calls import WANTED
from adapters.asterisk.protocol import Message

EVERY_S = 10.0
"""How often channels are listed while no event of a call has come."""
CONFIRM_S = 3.0
"""How soon a changed list is followed by the next: time enough for an event that was under way."""
LOG_IN_AGAIN_S = 60.0
"""Rights are read at the login, so whoever has none logs in again for as long as none are seen."""

OF_CALLS = frozenset(name.decode() for name in WANTED) - {"QueueCallerJoin"} | {"OriginateResponse"}
"""Events of class `call`."""

WITH_LINKEDID = frozenset(("Newchannel", "Newstate", "Hangup"))
"""Events that name their call in every Asterisk that is supported."""

LINE = f"read = {READ}"
"""What belongs in manager.conf."""

PROBE = (
    ("Channel", "Gateway-test/0"),
    ("Application", "NoOp"),
    ("Timeout", "1000"),
    ("Async", "true"),
)  # fmt: skip
"""Headers of an Originate that cannot reach anybody."""
PROBE_S = 3.0


class EventRights:
    """Fed with lists of channels and with the fact that an event came; decides whether events are withheld."""

    def __init__(self, channels: Iterable[Message]) -> None:
        self.proven = False
        """An event of a call has come."""
        self.suspected = False
        """The last list had changed without one."""
        self._listed = _ids(channels)
        self._coming: set[str] = set()
        self.action_id = ""
        """Of the list that was requested last."""

    def saw_event(self) -> None:
        """An event of a call has come."""
        self.proven, self.suspected = True, False

    def take(self, message: Message) -> bool:
        """Takes one message of a list. True when the list is whole and proves that events are withheld."""
        if not self.action_id or message.get("ActionID") != self.action_id:
            return False
        if message.get("Event") == "CoreShowChannel":
            self._coming |= _ids([message])
            return False
        if message.get("Event") != "CoreShowChannelsComplete":
            return False
        channels, self._coming = self._coming, set()
        return self.listed(channels)

    def listed(self, channels: set[str]) -> bool:
        """Takes a whole list, by Uniqueid."""
        withheld = self.suspected and not self.proven
        self.suspected = not self.proven and (self.suspected or channels != self._listed)
        self._listed = channels
        return withheld


def _ids(channels: Iterable[Message]) -> set[str]:
    """Message queues of the PBX's own are channels without events."""
    return {c.get("Uniqueid", "") for c in channels if not c.get("Channel", "").startswith("Message/")}
