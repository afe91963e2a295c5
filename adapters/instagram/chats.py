"""Conversations of an Instagram account: what updates hold, and the requests that send a part of a message. Pure.

An address is the id that Instagram gives a person for this account alone (IGSID). What the account itself sends comes back as an
echo: with the id of what we sent, or as somebody's answer in the Instagram app. Names are not in updates. Sources: Meta, "Instagram
Platform Webhook Notification Examples", "Send Messages", "Upload Media for Instagram Messaging", "Instagram Post Shares: new
attachment type". Read `incoming.py` for how updates come, `client.py` for who sends.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from adapters.channel import Capabilities, ChatChannel, Outgoing, OutgoingFile
from adapters.instagram.settings import InstagramSettings
from adapters.meta import child, digest_of, moment, objects, string
from gateway.domain.chats import (
    LARGEST_FILE,
    ChatEvent,
    ClientWrote,
    FileKind,
    MessageDeleted,
    MessageEdited,
    Opened,
    RemoteFile,
    StatusReached,
    WroteElsewhere,
)
from gateway.domain.errors import Rejected

DAY_S = 24 * 3600.0
CAPABILITIES = Capabilities(
    text_limit=1000, text_unit="bytes",
    files={
        "image": 8_000_000, "voice": LARGEST_FILE, "audio": LARGEST_FILE, "video": LARGEST_FILE, "file": LARGEST_FILE, "sticker": 8_000_000,
    },
    window_s=DAY_S, statuses=frozenset({"read"}), typing=True, edits=True,
)  # fmt: skip
_ADDRESS = re.compile(r"[0-9]{1,30}")
_MS = 1000
"""Times are in milliseconds."""
_MEDIA: Mapping[str, FileKind] = {"image": "image", "video": "video", "audio": "voice", "file": "file"}
_SHARED: Mapping[str, str] = {
    "share": "shared post", "ig_post": "shared post", "ig_reel": "shared reel", "reel": "shared reel", "ig_story": "shared story",
    "story_mention": "mentioned you in a story",
}  # fmt: skip
"""What is shown as the picture or video that it is about, which Instagram gives an address of."""


def events(body: Mapping[str, Any], settings: InstagramSettings) -> Sequence[ChatEvent]:
    """What one update holds. Raises ValueError for one that cannot be understood."""
    ours = child(body, "message", "is_echo") is True or child(body, "sender", "id") == settings.page_id
    address, at = _person(body, "recipient" if ours else "sender"), moment(body.get("timestamp"), _MS)
    if isinstance(message := body.get("message"), Mapping):
        if message.get("is_self") is True or address == settings.page_id:
            return ()  # a note to oneself
        return _message(message, address, at, ours=ours)
    if isinstance(edited := body.get("message_edit"), Mapping):
        return (MessageEdited(address=address, at=at, provider_id=_mid(edited), text=string(edited.get("text")), by_client=not ours),)  # fmt: skip
    if ours:
        return ()  # what is read or liked in our own application changes nothing
    if isinstance(seen := body.get("read"), Mapping):
        return (StatusReached(address=address, at=at, status="read", provider_id=string(seen.get("mid")), up_to=True),)
    if isinstance(reaction := body.get("reaction"), Mapping):
        return _reaction(body, reaction, address, at)
    if isinstance(pressed := body.get("postback"), Mapping):
        return (
            ClientWrote(
                address=address, at=at, provider_id=string(pressed.get("mid")) or digest_of(body), files=_referred(pressed),
                text=string(pressed.get("title")) or string(pressed.get("payload")),
            ),
        )  # fmt: skip
    if isinstance(referral := body.get("referral"), Mapping):
        return (Opened(address=address, at=at, payload=string(referral.get("ref"))[:200]),)
    return ()


# What people write -----------------------------------------------------------------------------------------------------


def _message(message: Mapping[str, Any], address: str, at: datetime, *, ours: bool) -> Sequence[ChatEvent]:
    provider_id = _mid(message)
    if message.get("is_deleted") is True:
        return (MessageDeleted(address=address, at=at, provider_id=provider_id, by_client=not ours),)
    text, files = string(message.get("text")), _files(message)
    reply_to = string(child(message, "reply_to", "mid"))
    if ours:
        return (WroteElsewhere(address=address, at=at, provider_id=provider_id, text=text, files=files, reply_to=reply_to),)  # fmt: skip
    return (ClientWrote(address=address, at=at, provider_id=provider_id, text=text, files=files, reply_to=reply_to),)


def _reaction(
    body: Mapping[str, Any], reaction: Mapping[str, Any], address: str, at: datetime
) -> Sequence[ChatEvent]:  # fmt: skip
    """Shown as an answer to the message; one taken back is not news."""
    if reaction.get("action") != "react":
        return ()
    shown = string(reaction.get("emoji")) or string(reaction.get("reaction"))
    return (
        ClientWrote(
            address=address, at=at, provider_id=digest_of(body), reply_to=_mid(reaction),
            files=(RemoteFile(kind="other", name=f"reaction {shown}".strip()),),
        ),
    )  # fmt: skip


def _files(message: Mapping[str, Any]) -> tuple[RemoteFile, ...]:
    found = list[RemoteFile]()
    story = child(message, "reply_to", "story")
    if isinstance(story, Mapping):
        found.append(_linked("image", "answer to your story", story.get("url")))
    attachments = objects(message.get("attachments"))
    kinds = [string(one.get("type")) for one in attachments]
    for kind, one in zip(kinds, attachments, strict=True):
        if kind == "share" and "ig_post" in kinds:
            continue  # the same post under its old name
        found.append(_attachment(kind, one, string(message.get("text"))))
    found += _referred(message)
    if message.get("is_unsupported") is True:
        found.append(RemoteFile(kind="other", name="a message that Instagram does not pass on"))
    if not found and not string(message.get("text")):
        found.append(RemoteFile(kind="other", name="message"))
    return tuple(found)


def _attachment(kind: str, one: Mapping[str, Any], text: str) -> RemoteFile:
    payload = one.get("payload")
    url = child(payload, "url")
    if kind in _MEDIA:
        return _linked(_MEDIA[kind], "", url, otherwise=kind)
    title = string(child(payload, "title")) or string(one.get("title"))
    if kind in _SHARED:
        return _linked("image", _SHARED[kind], url, title=title)
    link = string(url) or string(one.get("url"))
    words = (kind.replace("_", " ") or "attachment", title, link if link not in text else "")
    return RemoteFile(kind="other", name=" ".join(filter(None, words)))


def _linked(kind: FileKind, name: str, url: Any, *, title: str = "", otherwise: str = "") -> RemoteFile:
    """A file that lies at an address; without a usable one, what it was. What it is, its bytes will say."""
    if not re.match(r"https?://", string(url)):
        return RemoteFile(kind="other", name=": ".join(filter(None, (name or otherwise, title))))
    return RemoteFile(kind=kind, name=": ".join(filter(None, (name, title))), remote={"url": url})


def _referred(item: Mapping[str, Any]) -> tuple[RemoteFile, ...]:
    """An advertisement, a product or a link by which the person came."""
    referral = item.get("referral")
    if not isinstance(referral, Mapping):
        return ()
    words = (
        string(child(referral, "ads_context_data", "ad_title")),
        string(referral.get("ref")),
        string(child(referral, "product", "id")),
    )
    source = string(referral.get("source"))
    came = (
        "wrote from an ad"
        if source == "ADS"
        else "wrote about a product"
        if "product" in referral
        else "came by a link"
    )
    return (RemoteFile(kind="other", name=": ".join(filter(None, (came, " ".join(filter(None, words)))))),)


def _mid(part: Mapping[str, Any]) -> str:
    if not (found := string(part.get("mid"))):
        raise ValueError("a message without an id")
    return found


def _person(body: Mapping[str, Any], role: str) -> str:
    found = string(child(body, role, "id"))
    if not _ADDRESS.fullmatch(found):
        raise ValueError("an update of nobody")
    return found


def address(text: str) -> str:
    """The id of a person who has written. Raises ValueError."""
    given = text.strip()
    if not _ADDRESS.fullmatch(given):
        raise ValueError("the id of a person who wrote is made of digits")
    return given


# Sending ---------------------------------------------------------------------------------------------------------------

_TAKEN: Mapping[str, frozenset[str]] = {
    "image": frozenset({"image/png", "image/jpeg", "image/gif"}),
    "audio": frozenset({"audio/aac", "audio/mp4", "audio/x-m4a", "audio/wav", "audio/x-wav", "audio/vnd.wave"}),
    "video": frozenset({"video/mp4", "video/ogg", "video/x-msvideo", "video/avi", "video/quicktime", "video/webm"}),
    "file": frozenset({"application/pdf"}),
}
"""What Instagram shows, by type of attachment."""
_WORDS = "Instagram takes pictures as PNG, JPEG or GIF, sound as AAC, M4A or WAV, videos as MP4, MOV, AVI, WebM or OGG, and documents as PDF"


def sent_as(file: OutgoingFile) -> str:
    """The type of attachment that carries a file. Raises Rejected where Instagram has none for it."""
    content_type = file.content_type.partition(";")[0].strip().lower()
    for kind, taken in _TAKEN.items():
        if content_type in taken:
            return kind
    raise Rejected(f"file_kind: {file.name or 'the file'} is {content_type or 'of no known type'}: {_WORDS}")


def payload(part: Outgoing, media: str = "") -> dict[str, Any]:
    """The request for one part; `media` is the public address of its file. Without a tag: what a person has not written within the
    window is not sent. Raises Rejected."""
    if part.template is not None or part.latitude is not None:
        raise Rejected("Instagram takes texts and files alone")
    if part.file is not None:
        message: dict[str, Any] = {"attachment": {"type": sent_as(part.file), "payload": {"url": media}}}
    else:
        message = {"text": part.text}
    return {"recipient": {"id": part.to}, "message": message}


CHANNEL = ChatChannel(capabilities=CAPABILITIES, events=events, address=address)
