"""The recordings of `tests/lab/recording.py`: every kind of call, by version and AMI user, with its truth."""

import gzip
import json
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from adapters.asterisk.calls import MARKED, WANTED, CallTracker
from adapters.asterisk.protocol import Framer, Message
from adapters.asterisk.replay import read_index, replay
from gateway.domain.calls import Call, apply
from gateway.domain.configuration import Phone
from gateway.domain.events import CallEnded, CallEvent
from gateway.domain.ids import CallId

HERE = Path(__file__).parents[2] / "fixtures" / "asterisk" / "kinds"
TRUNKS = ("trunk-0001", "trunk-0002")
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)

Timed = tuple[datetime, Message]


@dataclass(frozen=True)
class Recording:
    """One kind as one AMI user of one version saw it."""

    folder: Path
    name: str

    def __str__(self) -> str:
        return f"{self.folder.name}/{self.name}"

    @cached_property
    def truth(self) -> dict[str, Any]:
        """`calls`, as they began, and the `phones` the tenant lists."""
        beside = self.folder.with_name(self.folder.name.removesuffix("-ro"))
        truth: dict[str, Any] = json.loads((beside / f"{self.name}.truth.json").read_text("utf-8"))
        return truth

    @cached_property
    def data(self) -> bytes:
        """The bytes."""
        return gzip.decompress((self.folder / f"{self.name}.ami.gz").read_bytes())

    @cached_property
    def index(self) -> str:
        """When they came."""
        return gzip.decompress((self.folder / f"{self.name}.ami.idx.gz").read_bytes()).decode()

    def tracker(self, trunks: tuple[str, ...] = TRUNKS, prefix: str = "") -> CallTracker:
        """A fresh one that knows what the tenant lists."""
        phones = tuple(Phone(number, endpoints=tuple(names)) for number, names in self.truth["phones"].items())
        return CallTracker(trunks=trunks, country="BY", phones=phones, prefix=prefix)

    def events(self, trunks: tuple[str, ...] = TRUNKS) -> list[CallEvent]:
        """What the tracker tells of it."""
        return list(replay(self.data, self.index, (), None, tracker=self.tracker(trunks)))

    def stream(self, *also: bytes) -> list[Timed]:
        """Its messages with their time of arrival; `also` are further events than those the tracker wants."""
        reads = read_index(self.index)
        offsets = [offset for offset, _ in reads]
        framer = Framer(WANTED | frozenset(also), MARKED)
        found: list[Timed] = []
        ends = [*offsets[1:], len(self.data)]
        for (begin, t), end in zip(reads, ends, strict=True):
            assert bisect_right(offsets, begin)
            at = NOON + timedelta(seconds=t)
            found += [(at, message) for message in framer.feed(self.data[begin:end]) if "Event" in message]
        return found


def recordings_in(folder: Path) -> list[Recording]:
    """Those of a folder of folders."""
    return [Recording(path.parent, path.name.removesuffix(".ami.gz")) for path in sorted(folder.glob("*/*.ami.gz"))]


RECORDINGS = recordings_in(HERE)


def ends(events: Iterable[CallEvent]) -> list[CallEnded]:
    """The ends among them."""
    return [event for event in events if isinstance(event, CallEnded)]


def calls_of(events: Iterable[CallEvent]) -> list[Call]:
    """The calls as the gateway keeps them."""
    calls: dict[CallId, Call] = {}
    for event in events:
        if (call := apply(calls.get(event.call_id), event)) is not None:
            calls[event.call_id] = call
    return list(calls.values())


class Pbx:
    """What a PBX would answer to CoreShowChannels, from everything it said so far."""

    ALSO = (b"Newexten",)
    _SHOWN = (
        "Channel", "ChannelState", "ChannelStateDesc", "CallerIDNum", "CallerIDName", "ConnectedLineNum",
        "ConnectedLineName", "Language", "AccountCode", "Context", "Exten", "Priority", "Uniqueid", "Linkedid",
    )  # fmt: skip

    def __init__(self) -> None:
        self.channels: dict[str, Message] = {}

    def receive(self, message: Message) -> None:
        """One event."""
        name = message["Event"]
        for prefix in ("", "Dest"):
            uniqueid = message.get(prefix + "Uniqueid", "")
            if name == "Newchannel" and not prefix:
                self.channels[uniqueid] = {"BridgeId": "", "Application": "", "ApplicationData": ""}
            if uniqueid in self.channels and prefix + "Channel" in message:
                shown = {key: message[prefix + key] for key in self._SHOWN if prefix + key in message}
                self.channels[uniqueid] |= shown
        channel = self.channels.get(message.get("Uniqueid", ""), {})
        match name:
            case "Newexten":
                channel |= {"Application": message["Application"], "ApplicationData": message.get("AppData", "")}
            case "DialBegin" if message["DestUniqueid"] in self.channels:
                dialled = self.channels[message["DestUniqueid"]]
                dialled |= {"Application": "AppDial", "ApplicationData": "(Outgoing Line)"}
            case "DialState" if message["DialStatus"] == "RINGING" and message["DestUniqueid"] in self.channels:
                self.channels[message["DestUniqueid"]]["ChannelState"] = "5"
            case "BridgeEnter":
                channel["BridgeId"] = message["BridgeUniqueid"]
            case "BridgeLeave" if channel.get("BridgeId") == message["BridgeUniqueid"]:
                channel["BridgeId"] = ""
            case "Rename" if channel:
                channel["Channel"] = message["Newname"]
            case "Hangup":
                self.channels.pop(message.get("Uniqueid", ""), None)

    def snapshot(self) -> list[Message]:
        """Its answer, newest channel first as the real one gives them in no promised order."""
        return [{"Event": "CoreShowChannel", **message} for message in reversed(self.channels.values())]
