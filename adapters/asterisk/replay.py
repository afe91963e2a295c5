"""The calls of a captured AMI stream: what `gateway replay` prints. Reads no file and no clock.

`captures.py` makes what people hand over into the bytes that Asterisk sent. Beside the bytes a capture has an index, JSON lines with `t` (seconds since the start), `off` and `n` (the bytes of one
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
from adapters.asterisk.captures import Capture, read_capture
from adapters.asterisk.event_rights import WITH_LINKEDID
from adapters.asterisk.protocol import Framer, Message
from adapters.asterisk.versions import check_version, too_old
from gateway.domain.events import CallEvent

SNAPSHOT = frozenset((b"CoreShowChannel", b"CoreShowChannelsComplete"))
TIMES = 256
"""How many times as long a message may be as a connection allows: 16 MiB."""
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


def _covered(index: str) -> int:
    """How many bytes an index describes; 0 where its reads have no length."""
    rows = [json.loads(line) for line in index.splitlines() if line.strip()]
    return max((int(row["off"]) + int(row.get("n", 0)) for row in rows if "sent" not in row), default=0)


def replay(
    data: bytes, index: str | None, trunks: Sequence[str], country: str | None, *, tracker: CallTracker | None = None
) -> Iterator[CallEvent]:
    """The events of a capture, in order; without an index everything came at once. Raises ValueError for a bad index,
    RemoteProtocolError for what is not AMI and BadSettings, at its end at the latest, for an Asterisk whose calls cannot be
    followed. A `tracker` that knows the phones goes before `trunks` and `country`."""
    reads = read_index(index) if index is not None else []
    capture = read_capture(data, [offset for offset, _ in reads], _covered(index) if index is not None else 0)
    clock = _Clock(capture, [t for _, t in reads])
    if tracker is None:
        tracker = CallTracker(trunks=tuple(trunks), country=country)
    tracker.arrivals = index is not None
    linked: set[bool] = set()
    banner = ""
    for number, (start, stop, has_banner) in enumerate(capture.sessions):
        if number:
            tracker.lost(clock.at(start - 1))
        framer = Framer(WANTED | SNAPSHOT, MARKED, times=TIMES)
        if not has_banner:
            framer.banner = ""
        yield from _session(tracker, framer, capture.data, start, stop, clock, linked, gap=number > 0)
        banner = framer.banner or banner
        check_version(banner)
    if linked == {False}:
        raise too_old(banner)
    yield from tracker.close(clock.at(len(capture.data)))


def _session(
    tracker: CallTracker,
    framer: Framer,
    data: bytes,
    start: int,
    stop: int,
    clock: "_Clock",
    linked: set[bool],
    *,
    gap: bool,
) -> Iterator[CallEvent]:
    """One connection: from a banner to the next. A list of channels shows what a `gap` hid, or what had begun before the
    capture; where everything came it shows nothing new. `linked` takes whether events carry the call they belong to."""
    snapshot: list[Message] = []
    cuts = [start, *(offset for offset in clock.offsets if start < offset < stop), stop]
    for begin, end in pairwise(cuts):
        now = clock.at(begin)
        messages = framer.feed(data[begin:end])
        for message in messages:
            if message.get("Event") in WITH_LINKEDID:
                linked.add(bool(message.get("Linkedid")))
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

    def __init__(self, capture: Capture, times: Sequence[float]) -> None:
        self.offsets = capture.offsets
        self._times = times
        first = _UNIQUEID.search(capture.data)
        epoch = int(first.group(1)) if first is not None else 0
        begun = self._seconds(first.end() - 1) if first is not None else 0.0
        self._zero = datetime.fromtimestamp(epoch, UTC) - timedelta(seconds=begun)

    def _seconds(self, offset: int) -> float:
        index = bisect_right(self.offsets, offset) - 1
        return self._times[max(index, 0)] if self._times else 0.0

    def at(self, offset: int) -> datetime:
        """When the byte at `offset` came."""
        return self._zero + timedelta(seconds=self._seconds(offset))
