"""What a messenger is to chats: which events its updates hold, what it can show, and how a message is cut into what it takes.

One document per channel (`Capabilities`): the inbox, the splitter and the window read it. A message becomes parts, one delivery of
kind MESSAGE each, in the conversation's lane: the texts between words, then its files. An adapter's client delivers a part like any
other delivery and returns the messenger's id of it (`Delivered.external_id`). Pure. Read `gateway/domain/chats.py` first.
"""

import re
from collections.abc import AsyncIterable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Literal, Protocol, runtime_checkable

from gateway.domain.chats import LARGEST_FILE, ChatEvent, FileKind, Person

MESSAGE = "message"
"""The kind of a delivery that is one part of a chat message."""
Unit = Literal["characters", "utf16", "bytes"]
"""What a messenger counts a text's length in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a channel can do."""

    text_limit: int
    text_unit: Unit = "characters"
    caption_limit: int = 0
    """The longest text that a file may bring with it, in `text_unit`; 0: a file has none."""
    files: Mapping[FileKind, int] = field(default_factory=lambda: MappingProxyType({}))
    """Kinds of files that can be sent, and the largest in bytes (never above LARGEST_FILE); `location` has no size."""
    fetch_within_s: float = 24 * 3600.0
    """Seconds after a message for which the messenger gives the files that came with it."""
    window_s: float | None = None
    """Seconds after the client's last message within which a free text may be sent; None: always."""
    templates: bool = False
    """Whether an approved template may be sent outside the window."""
    starts: bool = False
    """Whether we may write first to an address of the channel."""
    statuses: frozenset[str] = frozenset()
    """Statuses beyond `sent` that the messenger reports: delivered, read."""
    replies: bool = False
    """Whether a message can answer a certain one."""
    typing: bool = False
    """Whether the client can be shown that somebody writes (`ShowsTyping`)."""
    edits: bool = False
    """Whether the client can change or take back a message; shown beside it."""
    formatting: frozenset[str] = frozenset()
    """Of bold, italic, code, link; everything else is reduced to plain text before."""

    def takes(self, kind: FileKind) -> int | None:
        """The largest file of a kind in bytes; None where it cannot be sent."""
        most = self.files.get(kind)
        return None if most is None else min(most, LARGEST_FILE)

    def window_until(self, client_wrote_at: datetime | None) -> datetime | None:
        """Until when free texts may be sent; None: always, or never yet where there is a window and nobody wrote."""
        if self.window_s is None or client_wrote_at is None:
            return None
        return client_wrote_at + timedelta(seconds=self.window_s)

    def open_at(self, client_wrote_at: datetime | None, now: datetime) -> bool:
        """Whether a free text may be sent now."""
        until = self.window_until(client_wrote_at)
        return self.window_s is None or (until is not None and now < until)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatChannel:
    """A messenger that people write to. Pure functions of its codec."""

    capabilities: Capabilities
    events: Callable[[Mapping[str, Any], Any], Sequence[ChatEvent]]
    """`events(body, settings)`: what one update (`Inbound.read`) holds, in order; empty for what is of no interest. Raises ValueError
    for an update that cannot be understood: it becomes a dead letter."""
    enabled: Callable[[Any], bool] = lambda settings: True
    """Whether these settings let people write."""
    address: Callable[[str], str] = lambda text: text
    """An address as the channel writes it, of what a person or a CRM entered. Raises ValueError."""
    bucket: Callable[[str], str] = lambda address: ""
    """Whose rate messages to an address count to (`Adapter.limits`)."""
    drops_repeats_s: float = 0.0
    """Seconds after the first try in which the same part sent twice is there once. Later, what was perhaps sent is not sent
    again by itself."""


class OutgoingFiles(Protocol):
    """The files of messages that a client sends (`OutgoingFile.id`)."""

    def pieces(self, file: str) -> AsyncIterable[bytes]:
        """The plain bytes, exactly the file's size. Raises Unavailable; Rejected where the file is gone."""
        ...

    def address(self, file: str) -> str:
        """A public address that gives the file for an hour, for messengers that fetch it themselves. Raises BadSettings where the
        installation has no public https address."""
        ...


@runtime_checkable
class FetchesFiles(Protocol):
    """A client that fetches the files which came with messages."""

    async def fetch(self, remote: Mapping[str, Any], write: "Write", most: int) -> str:
        """Hands the file over piece by piece and returns the content type that the messenger names, or "". Raises Rejected for a file
        that is gone, TooLarge for one of more than `most` bytes, and what `gateway.domain.errors` lists."""
        ...


class Write(Protocol):
    """Takes the next piece of a file."""

    async def __call__(self, piece: bytes, /) -> None:
        """Raises what ends the transfer."""
        ...


@runtime_checkable
class ShowsTyping(Protocol):
    """A client that can show a client that somebody writes."""

    async def typing(self, address: str, provider_id: str = "") -> None:
        """For a few seconds. `provider_id`: the client's last message, for messengers that need it."""
        ...


@runtime_checkable
class MarksRead(Protocol):
    """A client that can show that messages were read."""

    async def mark_read(self, address: str, provider_id: str) -> None:
        """Up to and with this message of the client."""
        ...


@runtime_checkable
class NamesPeople(Protocol):
    """A client that knows people by their addresses, for messengers whose updates do not say who writes."""

    async def person(self, address: str) -> Person:
        """What the messenger says of a client. Raises Rejected where it says nothing, and what `gateway.domain.errors` lists."""
        ...


# Approved texts for outside the window --------------------------------------------------------------------------------


class BadTemplate(ValueError):
    """The values do not fit the template: places without a value, and values without a place."""

    def __init__(self, missing: tuple[str, ...], unknown: tuple[str, ...]) -> None:
        self.missing, self.unknown = missing, unknown
        super().__init__(f"no value for: {', '.join(missing)}" if missing else f"no such place: {', '.join(unknown)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageTemplate:
    """A text that the messenger has approved. `fields` are the places to fill in, such as `body.1` or `button.0`."""

    name: str
    language: str
    """As the messenger writes it, such as `ru` or `en_US`."""
    text: str
    """As the client will read it, with the places as `{{body.1}}`."""
    fields: tuple[str, ...] = ()
    category: str = ""

    def stored(self) -> dict[str, Any]:
        """As a row holds it; the fields of the class."""
        return {
            "name": self.name, "language": self.language, "text": self.text, "fields": list(self.fields), "category": self.category,
        }  # fmt: skip

    def filled(self, values: Mapping[str, str]) -> str:
        """The text that the client will read. Raises BadTemplate for a place without a value, or a value without a place."""
        missing = tuple(name for name in self.fields if not values.get(name, "").strip())
        unknown = tuple(sorted(values.keys() - set(self.fields)))
        if missing or unknown:
            raise BadTemplate(missing, unknown)
        return re.sub(r"\{\{([a-z]+\.[A-Za-z0-9_]+)\}\}", lambda found: values.get(found[1], found[0]), self.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateUse:
    """A template with its values, as a delivery names it."""

    name: str
    language: str
    values: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def body(self) -> dict[str, Any]:
        """As a part of a delivery's content."""
        return {"name": self.name, "language": self.language, "values": dict(self.values)}


@runtime_checkable
class ListsTemplates(Protocol):
    """A client of a channel whose capabilities say `templates`."""

    async def templates(self) -> Sequence[MessageTemplate]:
        """Those that are approved and that we can fill in, by name. Raises what `gateway.domain.errors` lists."""
        ...


# One message as deliveries ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingFile:
    """A file of ours as a delivery names it."""

    id: str
    kind: FileKind
    name: str
    content_type: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """One part of a message, the content of a delivery."""

    to: str
    text: str = ""
    file: OutgoingFile | None = None
    reply_to: str = ""
    """The messenger's id of the message that this one answers."""
    token: str = ""
    """Ours, the same for every attempt: for messengers that drop a second message with it or return it with statuses."""
    latitude: float | None = None
    longitude: float | None = None
    template: TemplateUse | None = None
    """Sent instead of `text`, which is then what the client will read."""

    def body(self) -> dict[str, Any]:
        """As a delivery's content."""
        found: dict[str, Any] = {"to": self.to, "token": self.token}
        if self.text:
            found["text"] = self.text
        if self.reply_to:
            found["reply_to"] = self.reply_to
        if self.latitude is not None:
            found |= {"latitude": self.latitude, "longitude": self.longitude}
        if self.template is not None:
            found["template"] = self.template.body()
        if self.file is not None:
            file = self.file
            found["file"] = {
                "id": file.id, "kind": file.kind, "name": file.name, "content_type": file.content_type, "size": file.size,
            }  # fmt: skip
        return found

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> "Outgoing":
        """The inverse of `body`."""
        file = body.get("file")
        return cls(
            to=body["to"], text=body.get("text", ""), reply_to=body.get("reply_to", ""), token=body.get("token", ""),
            latitude=body.get("latitude"), longitude=body.get("longitude"),
            file=OutgoingFile(**file) if file is not None else None,
            template=TemplateUse(**body["template"]) if "template" in body else None,
        )  # fmt: skip


def parts_of(
    capabilities: Capabilities, to: str, text: str, files: Sequence[OutgoingFile], *, reply_to: str = "", token: str = ""
) -> list[Outgoing]:  # fmt: skip
    """What a message is sent as: a text that fits goes with its only file, else the texts come first."""
    captioned = (
        len(files) == 1 and bool(text) and files[0].kind in ("image", "video", "file")
        and length(text, capabilities.text_unit) <= capabilities.caption_limit
    )  # fmt: skip
    found = [Outgoing(to=to, text=piece) for piece in ([] if captioned else split(text, capabilities))]
    found += [Outgoing(to=to, file=file, text=text if captioned else "") for file in files]
    return [
        Outgoing(
            to=to, text=part.text, file=part.file, reply_to=reply_to if place == 0 else "", token=f"{token}.{place}"
        )
        for place, part in enumerate(found)
    ]


def length(text: str, unit: Unit) -> int:
    """The length of a text in a messenger's unit."""
    if unit == "characters":
        return len(text)
    return (
        len(text.encode("utf-8", "replace")) if unit == "bytes" else len(text.encode("utf-16-le", "surrogatepass")) // 2
    )


_BREAK = re.compile(r"\n\n+|\n|(?<=[.!?…])\s+|\s+")


def split(text: str, capabilities: Capabilities) -> list[str]:
    """A text as pieces that the messenger takes, cut at the last paragraph, line, sentence or word that fits; only a word longer than
    the limit is cut inside, and never inside a character. Nothing but white space at the cuts is lost."""
    limit, unit = capabilities.text_limit, capabilities.text_unit
    pieces, rest = list[str](), text.strip()
    while rest:
        if length(rest, unit) <= limit:
            pieces.append(rest)
            break
        head = _fitting(rest, limit, unit)
        cut = _best_cut(rest, head)
        pieces.append(rest[:cut].rstrip())
        rest = rest[cut:].lstrip()
    return pieces


def _fitting(text: str, limit: int, unit: Unit) -> int:
    """How many characters of the beginning fit, without cutting a joined emoji or an accent from its letter."""
    low, high = 0, min(len(text), limit)
    while low < high:
        middle = (low + high + 1) // 2
        if length(text[:middle], unit) <= limit:
            low = middle
        else:
            high = middle - 1
    end = low
    while end > 0 and end < len(text) and (_joins(text[end]) or text[end - 1] == "\u200d") and low - end < 40:
        end -= 1
    return max(end or low, 1)


def _joins(character: str) -> bool:
    """Whether it belongs to the character before it."""
    code = ord(character)
    return (
        code == 0x200D or 0x300 <= code <= 0x36F or 0xFE00 <= code <= 0xFE0F or 0x1F3FB <= code <= 0x1F3FF
        or 0xE0020 <= code <= 0xE007F
    )  # fmt: skip


def _best_cut(text: str, most: int) -> int:
    """Where to cut at or before `most`: the best kind of break in the second half, else the last one of any kind."""
    best: dict[int, int] = {}
    for found in _BREAK.finditer(text, 0, min(len(text), most + 1)):
        if 0 < found.start() <= most:
            kind = 0 if "\n\n" in found[0] else 1 if "\n" in found[0] else 2 if text[found.start() - 1] in ".!?…" else 3
            best[kind] = found.start()
    for kind in sorted(best):
        if best[kind] >= most // 2:
            return best[kind]
    return max(best.values(), default=most)
