"""Conversations with a bot: what callbacks hold, and the messages that send a part. Pure.

An address is the id that Viber gives a person for this bot alone. Viber tells bots nothing of edits and deletions. Files of ours go by a
public address that Viber fetches. Sources: Viber REST API, "Callbacks", "Send message". Read `client.py` for who sends.
"""

import mimetypes
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from adapters.channel import Capabilities, ChatChannel, Outgoing, OutgoingFile
from adapters.viber.settings import ViberSettings
from gateway.domain.chats import (
    ChatEvent,
    ClientWrote,
    FileKind,
    Opened,
    Person,
    ReachChanged,
    RemoteFile,
    StatusReached,
)

MB = 1 << 20
LARGEST_PICTURE = 1 * MB
"""What Viber shows as a picture; a larger one is sent as a file."""
LARGEST_VIDEO = 26 * MB
LONGEST_FILE_NAME = 256
LONGEST_PAYLOAD = 30 << 10
"""Bytes of the JSON of a message."""
CAPABILITIES = Capabilities(
    fetch_within_s=3600.0,
    text_limit=7000, text_unit="utf16",
    files={"image": 50 * MB, "voice": 50 * MB, "audio": 50 * MB, "video": 50 * MB, "file": 50 * MB, "sticker": 50 * MB, "location": 0},
    statuses=frozenset({"delivered", "read"}),
)  # fmt: skip
_PICTURES = frozenset({"image/jpeg", "image/png", "image/gif"})
_STATUSES: Mapping[str, Any] = {"delivered": "delivered", "seen": "read", "failed": "failed"}
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_KINDS: Mapping[str, tuple[FileKind, str]] = {
    "picture": ("image", "photo.jpg"), "video": ("video", "video.mp4"), "file": ("file", "file"), "sticker": ("sticker", "sticker.png"),
}  # fmt: skip
"""Types with a file behind them -> our kind, and a name where Viber gives none."""


def events(body: Mapping[str, Any], settings: ViberSettings) -> Sequence[ChatEvent]:
    """What one callback holds. Raises ValueError for one that cannot be understood."""
    at, kind = _time(body.get("timestamp")), body.get("event")
    match kind:
        case "message":
            sender, message = _object(body.get("sender"), "sender"), _object(body.get("message"), "message")
            return (
                ClientWrote(
                    address=_id(sender.get("id")), at=at, provider_id=_string(body.get("message_token")), person=_person(sender),
                    text=_text(message), files=_files(message),
                ),
            )  # fmt: skip
        case "conversation_started":
            user = _object(body.get("user"), "user")
            context = _string(body.get("context"))[:1000]
            return (Opened(address=_id(user.get("id")), at=at, person=_person(user), payload=context),)
        case "subscribed":
            return (ReachChanged(address=_id(_object(body.get("user"), "user").get("id")), at=at, blocked=False),)
        case "unsubscribed":
            return (ReachChanged(address=_id(body.get("user_id")), at=at, blocked=True),)
        case "delivered" | "seen" | "failed":
            return (
                StatusReached(
                    address=_id(body.get("user_id")), at=at, status=_STATUSES[kind], error=_string(body.get("desc"))[:500],
                    provider_id=_string(body.get("message_token")),
                ),
            )  # fmt: skip
    return ()


def _files(message: Mapping[str, Any]) -> tuple[RemoteFile, ...]:
    kind = _string(message.get("type"))
    if kind in _KINDS and _string(message.get("media")):
        ours, name = _KINDS[kind]
        size = message.get("size")
        return (
            RemoteFile(
                kind=ours, name=_string(message.get("file_name")) or name, remote={"url": _string(message.get("media"))},
                size=size if isinstance(size, int) and not isinstance(size, bool) and size > 0 else None,
            ),
        )  # fmt: skip
    match kind:
        case "text" | "url":
            return ()
        case "location":
            place = _object(message.get("location"), "location")
            return (
                RemoteFile(
                    kind="location", latitude=_degrees(place.get("lat"), 90), longitude=_degrees(place.get("lon"), 180)
                ),
            )
        case "contact":
            card = _object(message.get("contact"), "contact")
            named = f"{_string(card.get('name'))} {_string(card.get('phone_number'))}".strip()
            return (RemoteFile(kind="contact", name=named or "contact"),)
        case "sticker":
            return (RemoteFile(kind="other", name="sticker"),)
    return (RemoteFile(kind="other", name=kind.replace("_", " ") or "message"),)


def _text(message: Mapping[str, Any]) -> str:
    text = _string(message.get("text"))
    link = _string(message.get("media")) if message.get("type") == "url" else ""
    return "\n".join(filter(None, (text, link if link not in text else "")))


def _person(user: Mapping[str, Any]) -> Person:
    return Person(name=_string(user.get("name")), language=_string(user.get("language"))[:16])


def _degrees(value: Any, most: int) -> float:
    try:
        found = float(value)
    except (TypeError, ValueError):
        raise ValueError("a place without coordinates") from None
    if not -most <= found <= most:
        raise ValueError("a place that is not on the earth")
    return found


def _object(value: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"a callback without `{name}`")
    return value


def _id(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > 200:
        raise ValueError("a callback without a person's id")
    return value


def _string(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _time(value: Any) -> datetime:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 1 << 47:
        raise ValueError("a callback without a time")
    return datetime.fromtimestamp(value / 1000, UTC)


def address(text: str) -> str:
    """A person's id. Raises ValueError."""
    if not re.fullmatch(r"[A-Za-z0-9+/=_-]{8,64}", text):
        raise ValueError("the id of a person is letters, digits, + / and = as Viber gives them")
    return text


# Sending ---------------------------------------------------------------------------------------------------------------


def payload(part: Outgoing, settings: ViberSettings, media: str = "") -> dict[str, Any]:
    """The body of `send_message`; `media` is the public address of the part's file."""
    common = {"receiver": part.to, "sender": {"name": settings.sender_name}, "min_api_version": 1}
    if part.file is not None:
        return {**common, **_media(part.file, media)}
    if part.latitude is not None:
        return {**common, "type": "location", "location": {"lat": str(part.latitude), "lon": str(part.longitude)}}
    return {**common, "type": "text", "text": _CONTROLS.sub("", part.text)}


def _media(file: OutgoingFile, media: str) -> dict[str, Any]:
    plain = file.content_type.partition(";")[0].strip().lower()
    if file.kind == "image" and plain in _PICTURES and file.size <= LARGEST_PICTURE:
        return {"type": "picture", "text": "", "media": media}
    if file.kind == "video" and plain == "video/mp4" and file.size <= LARGEST_VIDEO:
        return {"type": "video", "media": media, "size": file.size}
    return {"type": "file", "media": media, "size": file.size, "file_name": _file_name(file.name or file.kind, plain)}


def _file_name(name: str, content_type: str) -> str:
    """With an extension, by which phones choose what opens it; what is too long is cut before it."""
    stem, dot, ending = _CONTROLS.sub("", name).rpartition(".")
    if not dot or not 0 < len(ending) <= 10:
        stem, ending = name, (mimetypes.guess_extension(content_type) or ".bin")[1:]
    return f"{stem[: LONGEST_FILE_NAME - len(ending) - 1]}.{ending}"


CHANNEL = ChatChannel(capabilities=CAPABILITIES, events=events, address=address)
