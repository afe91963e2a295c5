"""Conversations with a bot: what updates hold, and the requests that send a part of a message. Pure.

An address is the id of a private chat. Telegram tells bots nothing of deletions, deliveries or reads; an edit comes as the message
anew. Source: Bot API, "Message", "Update", "sendMessage". Read `client.py` for who sends.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from adapters.channel import Capabilities, ChatChannel, Outgoing
from adapters.telegram.settings import TelegramSettings
from gateway.domain.chats import (
    ChatEvent,
    ClientWrote,
    FileKind,
    MessageEdited,
    Opened,
    Person,
    PhoneShared,
    ReachChanged,
    RemoteFile,
)

MB = 1 << 20
CAPABILITIES = Capabilities(
    text_limit=4096, text_unit="utf16", caption_limit=1024,
    files={"image": 10 * MB, "voice": 20 * MB, "audio": 20 * MB, "video": 20 * MB, "file": 20 * MB, "location": 0},
    replies=True, typing=True, edits=True, formatting=frozenset({"bold", "italic", "code", "link"}),
)  # fmt: skip
LARGEST_FETCH = 20 * MB
"""What getFile gives at most."""
_CONTACT_CARDS = ("venue", "dice", "poll", "game", "invoice", "story", "checklist", "giveaway", "paid_media")
"""What a message can be that we show by its name alone."""


def events(body: Mapping[str, Any], settings: TelegramSettings) -> Sequence[ChatEvent]:
    """What one update holds. Raises ValueError for one that cannot be understood."""
    if isinstance(message := body.get("message"), Mapping):
        return _message(message)
    if isinstance(edited := body.get("edited_message"), Mapping):
        return (
            MessageEdited(
                address=_chat(edited), provider_id=_message_id(edited), text=_text(edited),
                at=_time(edited.get("edit_date") or edited.get("date")),
            ),
        )  # fmt: skip
    if isinstance(changed := body.get("my_chat_member"), Mapping):
        status = (changed.get("new_chat_member") or {}).get("status")
        return (
            ReachChanged(address=_chat(changed), at=_time(changed.get("date")), blocked=status in ("kicked", "left")),
        )
    return ()


def _message(message: Mapping[str, Any]) -> Sequence[ChatEvent]:
    address, at = _chat(message), _time(message.get("date"))
    sender = message.get("from")
    sender = sender if isinstance(sender, Mapping) else {}
    person = Person(
        name=" ".join(filter(None, (_string(sender.get("first_name")), _string(sender.get("last_name"))))),
        username=_string(sender.get("username")), language=_string(sender.get("language_code"))[:16],
    )  # fmt: skip
    text = _text(message)
    started = re.fullmatch(r"/start(?:@\w+)?(?:\s+([A-Za-z0-9_-]{1,64}))?", text)
    if started is not None:
        return (Opened(address=address, at=at, person=person, payload=started[1] or ""),)
    found = list[ChatEvent]()
    card = message.get("contact")
    if isinstance(card, Mapping) and card.get("user_id") is not None and card.get("user_id") == sender.get("id"):
        digits = re.sub(r"[^0-9]", "", _string(card.get("phone_number")))
        if 7 <= len(digits) <= 15:
            found.append(PhoneShared(address=address, at=at, phone=f"+{digits}", name=person.name))
    reply = message.get("reply_to_message")
    found.insert(
        0,
        ClientWrote(
            address=address, at=at, provider_id=_message_id(message), text=text, files=_files(message), person=person,
            reply_to=_message_id(reply) if isinstance(reply, Mapping) and "message_id" in reply else "",
        ),
    )  # fmt: skip
    return found


def _files(message: Mapping[str, Any]) -> tuple[RemoteFile, ...]:
    if isinstance(photos := message.get("photo"), list) and photos:
        sizes = [one for one in photos if isinstance(one, Mapping)]
        best = max(sizes, key=lambda one: int(one.get("width") or 0) * int(one.get("height") or 0))
        return (_file("image", best, name="photo.jpg", content_type="image/jpeg"),)
    kinds: tuple[tuple[str, FileKind, str], ...] = (
        ("voice", "voice", "voice.ogg"), ("audio", "audio", ""), ("video", "video", ""), ("video_note", "video", "video.mp4"),
        ("animation", "video", ""), ("sticker", "sticker", "sticker.webp"), ("document", "file", ""),
    )  # fmt: skip
    for field, kind, name in kinds:
        if isinstance(one := message.get(field), Mapping):
            return (_file(kind, one, name=name or _string(one.get("file_name"))),)
    place = message.get("location")
    if isinstance(place, Mapping):
        named = message.get("venue")
        title = _string(named.get("title")) if isinstance(named, Mapping) else ""
        return (
            RemoteFile(
                kind="location", name=title, latitude=float(place["latitude"]), longitude=float(place["longitude"])
            ),
        )
    card = message.get("contact")
    if isinstance(card, Mapping):
        named_as = " ".join(filter(None, (_string(card.get("first_name")), _string(card.get("last_name")))))
        return (RemoteFile(kind="contact", name=f"{named_as} {_string(card.get('phone_number'))}".strip()),)
    if not _text(message):
        what = next((name for name in _CONTACT_CARDS if name in message), None)
        known = {
            "message_id",
            "date",
            "chat",
            "from",
            "reply_to_message",
            "via_bot",
            "forward_origin",
            "media_group_id",
        }
        what = what or next((str(name) for name in message if name not in known), "message")
        detail = message.get(what)
        title = _string(detail.get("question") or detail.get("title")) if isinstance(detail, Mapping) else ""
        return (
            RemoteFile(kind="other", name=f"{what.replace('_', ' ')}: {title}" if title else what.replace("_", " ")),
        )
    return ()


def _file(kind: FileKind, one: Mapping[str, Any], *, name: str, content_type: str = "") -> RemoteFile:
    size = one.get("file_size")
    return RemoteFile(
        kind=kind, name=name, content_type=content_type or _string(one.get("mime_type")),
        size=size if isinstance(size, int) else None, remote={"file_id": _string(one.get("file_id"))},
    )  # fmt: skip


def _chat(message: Mapping[str, Any]) -> str:
    chat = message.get("chat")
    if not isinstance(chat, Mapping) or not isinstance(chat.get("id"), int):
        raise ValueError("an update without a chat")
    return str(chat["id"])


def _message_id(message: Mapping[str, Any]) -> str:
    if not isinstance(message.get("message_id"), int):
        raise ValueError("a message without an id")
    return str(message["message_id"])


def _text(message: Mapping[str, Any]) -> str:
    return _string(message.get("text") or message.get("caption"))


def _string(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _time(value: Any) -> datetime:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 1 << 40:
        raise ValueError("an update without a time")
    return datetime.fromtimestamp(value, UTC)


def address(text: str) -> str:
    """The id of a private chat. Raises ValueError."""
    if not re.fullmatch(r"[1-9][0-9]{0,15}", text):
        raise ValueError("the id of a private chat is a positive number")
    return text


# Sending ---------------------------------------------------------------------------------------------------------------

_METHODS: Mapping[FileKind, tuple[str, str]] = {
    "image": ("sendPhoto", "photo"), "voice": ("sendVoice", "voice"), "audio": ("sendAudio", "audio"), "video": ("sendVideo", "video"),
    "file": ("sendDocument", "document"), "sticker": ("sendDocument", "document"),
}  # fmt: skip


def request(part: Outgoing) -> tuple[str, dict[str, Any], str]:
    """Method, parameters, and the name of the parameter that carries the file; empty without one."""
    parameters: dict[str, Any] = {"chat_id": int(part.to)}
    if part.reply_to:
        parameters["reply_parameters"] = {"message_id": int(part.reply_to), "allow_sending_without_reply": True}
    if part.file is not None and part.file.kind in _METHODS:
        method, field = _METHODS[part.file.kind]
        return method, {**parameters, **({"caption": part.text} if part.text else {})}, field
    if part.latitude is not None:
        return "sendLocation", {**parameters, "latitude": part.latitude, "longitude": part.longitude}, ""
    return "sendMessage", {**parameters, "text": part.text}, ""


CHANNEL = ChatChannel(capabilities=CAPABILITIES, events=events, enabled=lambda settings: settings.chat, address=address)
