"""Chats: what can happen between a client and a company in a messenger, and the states of a conversation. Pure.

An adapter's codec turns updates of its messenger into these events; `chat_fold.py` applies them to conversations. An address is
the conversation's place in its channel: a chat's id, a phone number, an id scoped to the business, as the messenger writes it.
"""

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias, get_args
from uuid import UUID

from gateway.domain.ids import IntegrationKey
from gateway.domain.text import Bilingual

FileKind = Literal["image", "voice", "audio", "video", "file", "sticker", "location", "contact", "other"]
"""`contact` and `other` have no file: `name` says what it is, in words."""
FILE_KINDS: tuple[FileKind, ...] = get_args(FileKind)
CONTENT_KINDS: frozenset[str] = frozenset({"image", "voice", "audio", "video", "file", "sticker"})
"""Kinds with a file behind them."""
LARGEST_FILE = 20 << 20
"""Bytes of one file, in and out (contract 22)."""
LONGEST_TEXT = 40_000
"""Characters of one message that are stored; what is longer is cut there."""
LONGEST_NAME = 200
MOST_FILES = 10
KEEP_DAYS = 365
"""Days for which messages are kept, where the tenant's options set nothing else."""
FILE_PROBLEMS: Mapping[str, Bilingual] = {
    "too_large": Bilingual("The file is larger than 20 MiB.", "Файл больше 20 МиБ."),
    "gone": Bilingual("The messenger does not give the file any more.", "Мессенджер больше не отдаёт этот файл."),
    "empty": Bilingual("The messenger gave an empty file.", "Мессенджер отдал пустой файл."),
    "refused": Bilingual(
        "The messenger refused the channel's key. The file is tried again.",
        "Мессенджер отклонил ключ канала. Загрузка файла повторяется.",
    ),
    "unavailable": Bilingual("The messenger did not give the file in time.", "Мессенджер не отдал файл вовремя."),
    "switched_off": Bilingual("The channel is switched off or not set up.", "Канал выключен или не настроен."),
    "failed": Bilingual("The file could not be fetched.", "Файл не удалось загрузить."),
}
"""Why a file that came with a message is not here (yet), by code."""

Status = Literal["queued", "sent", "delivered", "read", "failed", "unknown"]
"""Of an outgoing message. `unknown`: the connection was lost after it was sent; shown, and not repeated by itself."""
RANKS: Mapping[str, int] = {"queued": 0, "unknown": 1, "sent": 2, "failed": 3, "delivered": 4, "read": 5}
"""Statuses reach us in any order: a lower rank never replaces a higher one. A messenger may report that it failed with what it had taken."""

CLIENT, AI, SYSTEM, ELSEWHERE = "client", "ai", "system", "elsewhere"
"""Authors of messages. People are `human:ID`, keys of the API `human:key:ID`; ELSEWHERE is whoever answered in the messenger's own
application."""
OWNER_AI, OWNER_QUEUE, OWNER_NONE = "ai", "queue", "none"
"""Owners of a conversation that are no person. `queue`: it waits for a person; `none`: no AI is set up and nobody took it."""
_OWNER = re.compile(r"(?:ai|queue|none|human:[!-~]{1,80})")


def human(identity: str) -> str:
    """A person, or a key of the API, as an author and owner."""
    return f"human:{identity}"


def is_human(owner: str) -> bool:
    """Whether an owner or author is a person."""
    return owner.startswith("human:")


def is_owner(text: str) -> bool:
    """Whether a text can be a conversation's owner."""
    return _OWNER.fullmatch(text) is not None


def short_name(text: str) -> str:
    """What somebody calls themselves, as one line of at most LONGEST_NAME characters that can be shown."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:LONGEST_NAME]


WHEN_RECEIVED = datetime(1970, 1, 1, tzinfo=UTC)
"""`at` of an event for which the messenger names no time: the time of its receipt is put in its place."""


def short_token(token: str) -> int:
    """A token of ours as 32 bits with a sign, never 0: for messengers that take a number and return it with their echo."""
    number = zlib.crc32(token.encode())
    return (number - (1 << 32) if number >= 1 << 31 else number) or 1


# What a messenger sends ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """A file, place or card that came with a message. `remote` is what the adapter's client fetches it by; None where there is
    nothing to fetch."""

    kind: FileKind
    name: str = ""
    content_type: str = ""
    size: int | None = None
    latitude: float | None = None
    longitude: float | None = None
    remote: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """What a messenger says of a client. `phone` is E.164 and confirmed by the messenger; empty means unknown."""

    name: str = ""
    username: str = ""
    phone: str = ""
    language: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Event:
    address: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientWrote(_Event):
    """The client sent something."""

    provider_id: str
    """The messenger's id of the message, unique within the address."""
    text: str = ""
    files: tuple[RemoteFile, ...] = ()
    reply_to: str = ""
    """The provider's id of the message it answers."""
    person: Person = field(default_factory=Person)


@dataclass(frozen=True, slots=True, kw_only=True)
class WroteElsewhere(_Event):
    """The company answered in the messenger's own application, or by another program; or it is the echo of what we sent."""

    provider_id: str
    text: str = ""
    files: tuple[RemoteFile, ...] = ()
    reply_to: str = ""
    token: str = ""
    """`Outgoing.token`, where the messenger returns it with its echo."""
    short_token: int = 0
    """The same as `short_token` makes it, or another program's number; 0 where the messenger names none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageEdited(_Event):
    """A message has another text now."""

    provider_id: str
    text: str
    by_client: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageDeleted(_Event):
    """A message was taken back."""

    provider_id: str
    by_client: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusReached(_Event):
    """What became of a message of ours. One of `provider_id` and `token` may be empty."""

    status: Literal["sent", "delivered", "read", "failed"]
    provider_id: str = ""
    token: str = ""
    error: str = ""
    up_to: bool = False
    """Whether all earlier messages of the address have reached it too. Without an id: all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PhoneShared(_Event):
    """The client let the messenger give us their own phone number: E.164."""

    phone: str
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened(_Event):
    """The client opened the chat, perhaps by a link with `payload`, and has not written."""

    person: Person = field(default_factory=Person)
    payload: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReachChanged(_Event):
    """The client blocked us, or let us write again."""

    blocked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressChanged(_Event):
    """The client is at another address from now on."""

    new_address: str
    phone: str = ""
    old_phone: str = ""
    """The number that the client had before, where it is the number that changed: whoever has it has `phone` now too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonRequested(_Event):
    """The client wants a person to answer instead of the AI."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContactGiven(_Event):
    """The client typed how they can be reached, or the company's own site says it. It confirms nothing, so it never makes one
    contact of two. `phone` is E.164; what is empty is unknown."""

    name: str = ""
    email: str = ""
    phone: str = ""


ChatEvent: TypeAlias = (
    ClientWrote
    | WroteElsewhere
    | MessageEdited
    | MessageDeleted
    | StatusReached
    | PhoneShared
    | Opened
    | ReachChanged
    | AddressChanged
    | PersonRequested
    | ContactGiven
)


# What is stored --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """One client in one channel. `epoch` is raised by every change of `owner`."""

    id: UUID
    integration: IntegrationKey
    address: str
    contact: UUID
    state: Literal["open", "closed"] = "open"
    owner: str = OWNER_NONE
    epoch: int = 0
    unread: int = 0
    last_seq: int = 0
    """The number of its last message; the first is 1."""
    name: str = ""
    username: str = ""
    language: str = ""
    last_message_at: datetime | None = None
    client_wrote_at: datetime | None = None
    """When the client wrote last: what a messenger's window counts from."""
    waiting_since: datetime | None = None
    """Since the first message of the client that is not answered."""
    blocked_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMessage:
    """A message to be stored."""

    id: UUID
    conversation: UUID
    seq: int
    direction: Literal["in", "out"]
    author: str
    text: str
    at: datetime
    reply_to: UUID | None = None
    status: Status | None = None
    client_id: str | None = None
    template: Mapping[str, Any] | None = None
    """What it was made of: `name`, `language`, `values` of an approved template."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """What stands beside the messages: a note, a change of owner, an edit, a deletion. Never changed."""

    conversation: UUID
    kind: str
    author: str
    at: datetime
    text: str = ""
    message: UUID | None = None
