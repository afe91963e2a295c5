"""A captured AMI stream, told again: what `gateway replay` prints. Reads no file and no clock.

Beside the bytes a capture has an index, JSON lines with `t` (seconds since the start), `off` and `n` (the bytes of one
read): the times of arrival. They count from the epoch in the first Uniqueid, which is a whole second, so durations are
exact and the time of day may be up to a second early. A second banner is a reconnect.
"""

import json
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from adapters.asterisk.calls import MARKED, WANTED, CallTracker
from adapters.asterisk.protocol import BANNER, Framer, Message
from gateway.domain.errors import RemoteProtocolError
from gateway.domain.events import CallEvent

SNAPSHOT = frozenset((b"CoreShowChannel", b"CoreShowChannelsComplete"))
_BANNER = re.compile(re.escape(BANNER) + rb"[^\r\n]{0,100}\r?\n")
_UNIQUEID = re.compile(rb"\r\nUniqueid: (?:[^\r\n]*-)?(\d{9,11})\.\d+\r\n")

Read = tuple[int, float]
"""Where a read begins, and when it came."""


def read_index(text: str) -> list[Read]:
    """The reads of an index file. Raises ValueError for what is not one."""
    reads: list[Read] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            if "sent" not in row:
                reads.append((int(row["off"]), float(row["t"])))
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"line {number} of the index is not a read") from None
    return sorted(reads)


def replay(
    data: bytes, index: str | None, trunks: Sequence[str], country: str | None, *, tracker: CallTracker | None = None
) -> Iterator[CallEvent]:
    """The events of a capture, in order; without an index everything came at once. Raises ValueError for a bad index
    and RemoteProtocolError for what is not AMI. A `tracker` that knows the phones goes before `trunks` and `country`."""
    reads = read_index(index) if index is not None else []
    starts = [m.start() for m in _BANNER.finditer(data)]
    if not starts or data[: starts[0]].strip():
        raise RemoteProtocolError("this is not an AMI capture: it does not begin with Asterisk's banner")
    clock = _Clock(data, reads)
    if tracker is None:
        tracker = CallTracker(trunks=tuple(trunks), country=country)
    tracker.arrivals = index is not None
    for number, (start, stop) in enumerate(zip(starts, [*starts[1:], len(data)], strict=True)):
        if number:
            tracker.lost(clock.at(start - 1))
        yield from _session(tracker, data, start, stop, clock, gap=number > 0)
    yield from tracker.close(clock.at(len(data)))


def _session(
    tracker: CallTracker, data: bytes, start: int, stop: int, clock: "_Clock", *, gap: bool
) -> Iterator[CallEvent]:
    """One connection: from a banner to the next. A list of channels tells what a `gap` hid, or what had begun before the
    capture; where everything was heard it tells nothing new."""
    framer = Framer(WANTED | SNAPSHOT, MARKED)
    snapshot: list[Message] = []
    cuts = [start, *(offset for offset in clock.offsets if start < offset < stop), stop]
    for begin, end in pairwise(cuts):
        now = clock.at(begin)
        for message in framer.feed(data[begin:end]):
            match message.get("Event"):
                case "CoreShowChannel":
                    snapshot.append(message)
                case "CoreShowChannelsComplete":
                    if gap or not len(tracker):
                        yield from tracker.resync(snapshot, (), now)
                    snapshot, gap = [], False
                case _:
                    yield from tracker.feed(message, now)


class _Clock:
    """Offsets in the capture to times of arrival."""

    def __init__(self, data: bytes, reads: Sequence[Read]) -> None:
        self.offsets = [offset for offset, _ in reads]
        self._times = [t for _, t in reads]
        first = _UNIQUEID.search(data)
        epoch = int(first.group(1)) if first is not None else 0
        begun = self._seconds(first.end() - 1) if first is not None else 0.0
        self._zero = datetime.fromtimestamp(epoch, UTC) - timedelta(seconds=begun)

    def _seconds(self, offset: int) -> float:
        index = bisect_right(self.offsets, offset) - 1
        return self._times[max(index, 0)] if self._times else 0.0

    def at(self, offset: int) -> datetime:
        """When the byte at `offset` came."""
        return self._zero + timedelta(seconds=self._seconds(offset))
