"""A messenger for tests: its updates are the events themselves, as JSON, and its settings say whether people may write."""

from collections.abc import Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

from adapters.base import Adapter, AdapterSettings
from adapters.channel import Capabilities, ChatChannel
from adapters.inbound import Inbound, Update
from gateway.domain import chats
from gateway.domain.ids import IntegrationKey, Kind

KIND, KEY = Kind("pigeon"), IntegrationKey("pigeon")
NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)
EVENTS: Mapping[str, Any] = {
    kind.__name__: kind
    for kind in (
        chats.ClientWrote, chats.WroteElsewhere, chats.MessageEdited, chats.MessageDeleted, chats.StatusReached, chats.PhoneShared,
        chats.Opened, chats.ReachChanged, chats.AddressChanged,
    )
}  # fmt: skip
CAN = Capabilities(
    text_limit=100, caption_limit=50, replies=True, typing=True, edits=True, starts=True, files=MappingProxyType({"image": 1000, "file": 1000}),
    statuses=frozenset({"delivered", "read"}),
)  # fmt: skip


def update(number: int | str, *given: Mapping[str, Any], key: str = KEY) -> Update:
    """One update with events, each `{"event": name, fields...}`; `at` is in seconds after noon."""
    return Update(str(number), {"id": str(number), "events": [dict(one) for one in given]})


def wrote(
    provider_id: int | str, text: str = "hello", address: str = "7", *, at: float = 0.0, **more: Any
) -> dict[str, Any]:
    """The client has written."""
    return {"event": "ClientWrote", "provider_id": str(provider_id), "text": text, "address": address, "at": at, **more}


def happened(event: str, address: str = "7", *, at: float = 0.0, **more: Any) -> dict[str, Any]:
    """Any event."""
    return {"event": event, "address": address, "at": at, **more}


def events(body: Mapping[str, Any], settings: Any) -> Sequence[chats.ChatEvent]:
    """The events of an update."""
    found = list[chats.ChatEvent]()
    for given in body["events"]:
        fields = {name: value for name, value in given.items() if name != "event"}
        fields["at"] = NOON + timedelta(seconds=fields["at"])
        if "person" in fields:
            fields["person"] = chats.Person(**fields["person"])
        if "files" in fields:
            fields["files"] = tuple(chats.RemoteFile(**one) for one in fields["files"])
        found.append(EVENTS[given["event"]](**fields))
    return found


def _address(text: str) -> str:
    if not text.isdigit():
        raise ValueError("digits")
    return text


@asynccontextmanager
async def connect(link: Any, settings: Any) -> Any:
    """Nothing is delivered by these tests through a client."""
    raise NotImplementedError
    yield


CHANNEL = ChatChannel(capabilities=CAN, events=events, address=_address)
ADAPTER = Adapter(
    kind=KIND, title="Pigeon", type="channel", settings=AdapterSettings, connect=connect, chat=CHANNEL,
    inbound=Inbound(verify=lambda call, settings: None, read=lambda body, settings: ()),
)  # fmt: skip
