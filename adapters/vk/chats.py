"""Conversations with a community: what events hold, and the parameters that send a part. Pure.

An address is a person's number. The gateway knows messages by their `id`, which `messages.send` answers with. What the community sends
comes back as `message_reply`: ours by its `random_id`, else somebody wrote in VK itself. A message that VK has cropped brings its
whole text as a file. Sources: VK API 5.199, objects "messages_message", "callback_…". Read `client.py` for who sends.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from adapters.channel import Capabilities, ChatChannel, Outgoing
from adapters.vk.incoming import FIRST_GROUP_CHAT, message_of
from adapters.vk.settings import VkSettings
from gateway.domain.chats import (
    WHEN_RECEIVED,
    ChatEvent,
    ClientWrote,
    FileKind,
    MessageEdited,
    Person,
    ReachChanged,
    RemoteFile,
    StatusReached,
    WroteElsewhere,
    short_token,
)

MB = 1 << 20
REPEATS_DROPPED_S = 3000.0
"""For how long VK is sure to know a `random_id` again: about an hour."""
CAPABILITIES = Capabilities(
    text_limit=4000, text_unit="utf16", caption_limit=4000,
    files={"image": 50 * MB, "voice": 50 * MB, "audio": 50 * MB, "video": 50 * MB, "file": 50 * MB, "sticker": 50 * MB, "location": 0},
    statuses=frozenset({"read"}), replies=True, typing=True, edits=True,
)  # fmt: skip
WHOLE_TEXT = "full message.txt"
_NAMED = ("wall", "wall_reply", "market", "market_album", "gift", "poll", "story", "article", "podcast", "album", "event", "call",
          "money_request", "money_transfer", "mini_app", "video_playlist", "audio_playlist", "narrative", "curator", "artist")  # fmt: skip
"""Attachments that have nothing to fetch: shown by their names."""


def events(body: Mapping[str, Any], settings: VkSettings) -> Sequence[ChatEvent]:
    """What one event holds. Raises ValueError for one that cannot be understood."""
    message = message_of(body)
    match body.get("type"):
        case "message_new" if message.get("out") != 1:
            return (
                ClientWrote(
                    address=_peer(message), at=_time(message.get("date")), provider_id=_message_id(message), text=_string(message.get("text")),
                    files=_files(message), reply_to=_reply_to(message), person=_person(message, body),
                ),
            )  # fmt: skip
        case "message_reply" | "message_new":
            number = message.get("random_id")
            return (
                WroteElsewhere(
                    address=_peer(message), at=_time(message.get("date")), provider_id=_message_id(message), text=_string(message.get("text")),
                    files=_files(message), reply_to=_reply_to(message),
                    short_token=number if isinstance(number, int) and not isinstance(number, bool) else 0,
                ),
            )  # fmt: skip
        case "message_edit":
            return (
                MessageEdited(
                    address=_peer(message), at=_time(message.get("update_time") or message.get("date")), provider_id=_message_id(message),
                    text=_string(message.get("text")), by_client=message.get("out") != 1,
                ),
            )  # fmt: skip
        case "message_allow" | "message_deny" as kind:
            blocked = kind == "message_deny"
            return (ReachChanged(address=_user(message.get("user_id")), at=WHEN_RECEIVED, blocked=blocked),)
        case "message_read":
            number = message.get("read_message_id")
            known = str(number) if isinstance(number, int) and number > 0 else ""
            return (
                StatusReached(address=_peer(message), at=WHEN_RECEIVED, status="read", provider_id=known, up_to=True),
            )
    return ()


def _files(message: Mapping[str, Any]) -> tuple[RemoteFile, ...]:
    found = list[RemoteFile]()
    sent = message.get("attachments")
    for one in sent if isinstance(sent, list) else []:
        kind = one.get("type") if isinstance(one, Mapping) else None
        if isinstance(kind, str):
            inner = one.get(kind)
            found.append(_file(kind, inner if isinstance(inner, Mapping) else {}))
    place = message.get("geo")
    where = place.get("coordinates") if isinstance(place, Mapping) else None
    if isinstance(place, Mapping) and isinstance(where, Mapping):
        named = place.get("place")
        title = _string(named.get("title")) if isinstance(named, Mapping) else ""
        latitude, longitude = _degrees(where.get("latitude"), 90), _degrees(where.get("longitude"), 180)
        found.append(RemoteFile(kind="location", name=title, latitude=latitude, longitude=longitude))
    forwarded = message.get("fwd_messages")
    if isinstance(forwarded, list) and forwarded:
        found += _forwarded(forwarded)
    if message.get("is_cropped") is True:
        remote = {"message_id": int(_message_id(message))}
        found.append(RemoteFile(kind="file", name=WHOLE_TEXT, content_type="text/plain", remote=remote))
    if not found and not _string(message.get("text")):
        what = message.get("action")
        named_as = _string(what.get("type")) if isinstance(what, Mapping) else ""
        found.append(RemoteFile(kind="other", name=named_as.replace("_", " ") or "message"))
    return tuple(found)


def _forwarded(messages: Sequence[Any]) -> list[RemoteFile]:
    """Forwarded messages by their texts, with the files that they bring."""
    found = list[RemoteFile]()
    for one in messages:
        if isinstance(one, Mapping):
            text = " ".join(_string(one.get("text")).split())
            found.append(RemoteFile(kind="other", name=f"forwarded: {text}"[:200].rstrip(": ")))
            inner = one.get("attachments")
            if isinstance(inner, list) and inner:
                found += _files({"attachments": inner, "text": "-"})
    return found


def _file(kind: str, one: Mapping[str, Any]) -> RemoteFile:
    title = _string(one.get("title"))
    match kind:
        case "photo":
            return _remote("image", _largest(one), "photo.jpg", "image/jpeg")
        case "sticker":
            pictures = one.get("images")
            return _remote(
                "sticker", _widest(pictures if isinstance(pictures, list) else []), "sticker.png", "image/png"
            )
        case "graffiti":
            return _remote("image", _string(one.get("url")), "graffiti.png", "image/png")
        case "audio_message":
            return _remote(
                "voice", _string(one.get("link_ogg")) or _string(one.get("link_mp3")), "voice.ogg", "audio/ogg"
            )
        case "audio":
            named = " - ".join(filter(None, (_string(one.get("artist")), title))) or "audio"
            return _remote("audio", _string(one.get("url")), f"{named}.mp3", "audio/mpeg")
        case "doc":
            size = one.get("size")
            return _remote("file", _string(one.get("url")), title or f"document.{_string(one.get('ext')) or 'bin'}", "",
                           size if isinstance(size, int) and size > 0 else None)  # fmt: skip
        case "video":
            return RemoteFile(kind="other", name=f"video: {title} {_at_vk('video', one)}".replace("  ", " ").strip())
        case "link":
            return RemoteFile(kind="other", name=f"link: {title} {_string(one.get('url'))}".replace("  ", " ").strip())
    named = title or _string(one.get("question")) or _string(one.get("text"))
    what = kind.replace("_", " ") if kind in _NAMED or re.fullmatch(r"[a-z_]{1,40}", kind) else "attachment"
    return RemoteFile(kind="other", name=f"{what}: {named}"[:200].rstrip(": "))


def _remote(kind: FileKind, url: str, name: str, content_type: str, size: int | None = None) -> RemoteFile:
    if not url:
        return RemoteFile(kind="other", name=name)  # VK names no address to this community
    return RemoteFile(kind=kind, name=name[:200], content_type=content_type, size=size, remote={"url": url})


def _largest(photo: Mapping[str, Any]) -> str:
    original = photo.get("orig_photo")
    sizes = photo.get("sizes")
    found = _widest(sizes if isinstance(sizes, list) else [])
    return found or (_string(original.get("url")) if isinstance(original, Mapping) else "")


def _widest(pictures: Sequence[Any]) -> str:
    def area(one: Mapping[str, Any]) -> int:
        width, height = one.get("width"), one.get("height")
        return width * height if isinstance(width, int) and isinstance(height, int) else 0

    usable = [one for one in pictures if isinstance(one, Mapping) and _string(one.get("url"))]
    return _string(max(usable, key=area).get("url")) if usable else ""


def _at_vk(kind: str, one: Mapping[str, Any]) -> str:
    owner, number = one.get("owner_id"), one.get("id")
    return f"https://vk.com/{kind}{owner}_{number}" if isinstance(owner, int) and isinstance(number, int) else ""


def _person(message: Mapping[str, Any], body: Mapping[str, Any]) -> Person:
    """VK's events name people by number alone; the name is there where the client has looked it up."""
    known = body.get("person")
    known = known if isinstance(known, Mapping) else {}
    return Person(
        name=_string(known.get("name")), username=_string(known.get("username")) or f"id{message.get('from_id')}"
    )


def _reply_to(message: Mapping[str, Any]) -> str:
    answered = message.get("reply_message")
    number = answered.get("id") if isinstance(answered, Mapping) else None
    return str(number) if isinstance(number, int) and number > 0 else ""


def _peer(message: Mapping[str, Any]) -> str:
    return _user(message.get("peer_id"))


def _user(value: Any) -> str:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 1 << 53:
        raise ValueError("an event without a person")
    return str(value)


def _message_id(message: Mapping[str, Any]) -> str:
    for name in ("id", "conversation_message_id"):
        number = message.get(name)
        if isinstance(number, int) and not isinstance(number, bool) and number > 0:
            return str(number)
    raise ValueError("a message without an id")


def _degrees(value: Any, most: int) -> float:
    if not isinstance(value, int | float) or not -most <= value <= most:
        raise ValueError("a place without coordinates")
    return float(value)


def _string(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _time(value: Any) -> datetime:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 1 << 40:
        raise ValueError("an event without a time")
    return datetime.fromtimestamp(value, UTC)


def address(text: str) -> str:
    """A person's number, `id…` and addresses of their page too. Raises ValueError."""
    found = re.fullmatch(r"(?:(?:https://)?vk\.(?:com|ru)/)?(?:id)?([1-9][0-9]{0,14})", text.strip())
    if found is None or int(found[1]) >= FIRST_GROUP_CHAT:
        raise ValueError("the address of a person is their number, such as 123456789 of vk.com/id123456789")
    return found[1]


# Sending ---------------------------------------------------------------------------------------------------------------


def parameters(part: Outgoing, attachment: str = "") -> dict[str, str]:
    """Of `messages.send`. The same part has the same `random_id`, by which VK drops a repeat."""
    found = {
        "peer_id": part.to, "random_id": str(short_token(part.token)), "message": part.text.replace("\0", ""),
        "attachment": attachment, "reply_to": part.reply_to, "disable_mentions": "1",
    }  # fmt: skip
    if part.latitude is not None:
        found |= {"lat": str(part.latitude), "long": str(part.longitude)}
    return {name: value for name, value in found.items() if value}


CHANNEL = ChatChannel(capabilities=CAPABILITIES, events=events, address=address, drops_repeats_s=REPEATS_DROPPED_S)
