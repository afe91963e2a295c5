"""Conversations of a WhatsApp number: what updates hold, and the requests that send a part of a message. Pure.

An address is the client's business-scoped user id (`BY.13491208655302741918`) where WhatsApp names one, else the number in digits:
people may hide their numbers, and a conversation that began under the number moves to the id. Statuses bring back our token
(`biz_opaque_callback_data`) in any order. Sources: Meta, WhatsApp Cloud API, "Messages", "messages webhook reference",
"Business-scoped user IDs". Read `incoming.py` for how updates come, `client.py` for who sends.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from adapters.channel import Capabilities, ChatChannel, Outgoing
from adapters.meta import child, error_of, moment, objects, string
from adapters.whatsapp import codec
from adapters.whatsapp.settings import WhatsappSettings
from gateway.domain.chats import (
    AddressChanged,
    ChatEvent,
    ClientWrote,
    FileKind,
    MessageDeleted,
    MessageEdited,
    Person,
    RemoteFile,
    StatusReached,
    WroteElsewhere,
)

MB = 1 << 20
DAY_S = 24 * 3600.0
CAPABILITIES = Capabilities(
    text_limit=4096, text_unit="utf16", caption_limit=1024,
    files={"image": 5 * MB, "voice": 16 * MB, "audio": 16 * MB, "video": 16 * MB, "file": 20 * MB, "sticker": 20 * MB, "location": 0},
    window_s=DAY_S, templates=True, starts=True, statuses=frozenset({"delivered", "read"}), replies=True, typing=True, edits=True,
    formatting=frozenset({"bold", "italic", "code"}),
)  # fmt: skip
_USER_ID = re.compile(r"[A-Z]{2}\.[A-Za-z0-9.]{1,140}")
_NUMBER = re.compile(r"[1-9][0-9]{5,14}")
_STATUSES: Mapping[str, Literal["sent", "delivered", "read", "failed"]] = {
    "sent": "sent", "delivered": "delivered", "read": "read", "played": "read", "failed": "failed",
}  # fmt: skip
_FILES: Mapping[str, FileKind] = {
    "image": "image", "video": "video", "audio": "audio", "document": "file", "sticker": "sticker",
}  # fmt: skip


def events(body: Mapping[str, Any], settings: WhatsappSettings) -> Sequence[ChatEvent]:
    """What one update holds. Raises ValueError for one that cannot be understood."""
    item, contact = body["item"], body.get("contact") or {}
    match body.get("kind"):
        case "message":
            return _message(item, contact)
        case "status":
            return _status(item)
        case "echo":
            return _echo(item, contact)
    return ()


# What people write -----------------------------------------------------------------------------------------------------


def _message(item: Mapping[str, Any], contact: Mapping[str, Any]) -> Sequence[ChatEvent]:
    at = moment(item.get("timestamp"))
    if item.get("type") == "system":
        return _system(item, at)
    number, user_id = (
        _number(item.get("from") or contact.get("wa_id")),
        _user_id(item.get("from_user_id") or contact.get("user_id")),
    )
    address = _place(number, user_id)
    found = list[ChatEvent](_moved(number, user_id, at))
    kind, provider_id = string(item.get("type")), string(item.get("id"))
    if kind == "edit":
        edited = child(item, "edit", "message") or {}
        original = string(child(item, "edit", "original_message_id"))
        return (*found, MessageEdited(address=address, at=at, provider_id=original, text=_text(edited)))
    if kind == "revoke":
        original = string(child(item, "revoke", "original_message_id"))
        return (*found, MessageDeleted(address=address, at=at, provider_id=original))
    if kind == "reaction" and not child(item, "reaction", "emoji"):
        return tuple(found)  # taken back
    if not provider_id:
        raise ValueError("a message without an id")
    person = Person(
        name=string(child(contact, "profile", "name")), username=string(child(contact, "profile", "username")),
        phone=f"+{number}" if number else "",
    )  # fmt: skip
    answers = child(item, "reaction", "message_id") if kind == "reaction" else child(item, "context", "id")
    return (
        *found,
        ClientWrote(
            address=address, at=at, provider_id=provider_id, text=_text(item), files=_files(item), person=person,
            reply_to=string(answers),
        ),
    )  # fmt: skip


def _moved(number: str, user_id: str, at: datetime) -> Sequence[AddressChanged]:
    """A conversation that we know by the number goes on under the id; where it does already, nothing happens."""
    return (
        (AddressChanged(address=number, at=at, new_address=user_id, phone=f"+{number}"),) if number and user_id else ()
    )


def _system(item: Mapping[str, Any], at: datetime) -> Sequence[ChatEvent]:
    system = child(item, "system") or {}
    match system.get("type"):
        case "user_changed_number" | "customer_changed_number":
            before = _number(item.get("from"))
            after = _number(system.get("wa_id") or system.get("new_wa_id"))
            if before and after:
                return (
                    AddressChanged(address=before, at=at, new_address=after, phone=f"+{after}", old_phone=f"+{before}"),
                )
        case "user_changed_user_id":
            was, now = _user_id(system.get("previous_user_id")), _user_id(system.get("user_id"))
            if was and now:
                return (AddressChanged(address=was, at=at, new_address=now),)
    return ()  # about keys of their phone: nothing that anybody wrote


def _echo(item: Mapping[str, Any], contact: Mapping[str, Any]) -> Sequence[ChatEvent]:
    """The company wrote in the WhatsApp Business app, for a number that both share."""
    at, number = moment(item.get("timestamp")), _number(item.get("to") or contact.get("wa_id"))
    user_id = _user_id(item.get("to_user_id") or contact.get("user_id"))
    address, provider_id = _place(number, user_id), string(item.get("id"))
    moved = _moved(number, user_id, at)
    if item.get("type") == "edit":
        edited = child(item, "edit", "message") or {}
        original = string(child(item, "edit", "original_message_id"))
        return (
            *moved,
            MessageEdited(address=address, at=at, provider_id=original, text=_text(edited), by_client=False),
        )
    if item.get("type") == "revoke":
        original = string(child(item, "revoke", "original_message_id"))
        return (*moved, MessageDeleted(address=address, at=at, provider_id=original, by_client=False))
    if not provider_id:
        raise ValueError("a message without an id")
    return (
        *moved,
        WroteElsewhere(
            address=address, at=at, provider_id=provider_id, text=_text(item), files=_files(item),
            reply_to=string(child(item, "context", "id")), token=string(item.get("biz_opaque_callback_data")),
        ),
    )  # fmt: skip


def _status(item: Mapping[str, Any]) -> Sequence[ChatEvent]:
    status = _STATUSES.get(string(item.get("status")))
    if status is None:
        return ()
    errors = objects(item.get("errors"))
    address = (
        _user_id(item.get("recipient_user_id"))
        or _user_id(item.get("recipient_id"))
        or _number(item.get("recipient_id"))
    )
    return (
        StatusReached(
            address=address, at=moment(item.get("timestamp")), status=status, provider_id=string(item.get("id")),
            token=string(item.get("biz_opaque_callback_data")),
            error=error_of(errors[0]).detail if errors and status == "failed" else "",
        ),
    )  # fmt: skip


def _text(item: Mapping[str, Any]) -> str:
    kind = string(item.get("type"))
    part = item.get(kind)
    match kind:
        case "text":
            return string(child(part, "body"))
        case "button":
            return string(child(part, "text"))
        case "interactive":
            return _interactive(part)
        case "order":
            lines = [
                f"{string(one.get('product_retailer_id'))} × {one.get('quantity')} ({one.get('item_price')} {string(one.get('currency'))})"
                for one in objects(child(part, "product_items"))
            ]
            return "\n".join(filter(None, (string(child(part, "text")), *lines)))
    return string(child(part, "caption"))


def _interactive(part: Any) -> str:
    for name in ("button_reply", "list_reply"):
        if chosen := child(part, name):
            return "\n".join(filter(None, (string(child(chosen, "title")), string(child(chosen, "description")))))
    form = child(part, "nfm_reply")
    return "\n".join(filter(None, (string(child(form, "body")), string(child(form, "response_json")))))


def _files(item: Mapping[str, Any]) -> tuple[RemoteFile, ...]:
    kind = string(item.get("type"))
    part = item.get(kind)
    found = list[RemoteFile]()
    if kind in _FILES and string(child(part, "id")):
        voice = kind == "audio" and child(part, "voice") is True
        found.append(
            RemoteFile(
                kind="voice" if voice else _FILES[kind], name=string(child(part, "filename")),
                content_type=string(child(part, "mime_type")), remote={"media_id": string(child(part, "id"))},
            )
        )  # fmt: skip
    elif kind == "location":
        names = (string(child(part, "name")), string(child(part, "address")))
        found.append(
            RemoteFile(
                kind="location", name=", ".join(filter(None, names)), latitude=_degrees(part, "latitude", 90), longitude=_degrees(part, "longitude", 180),
            )
        )  # fmt: skip
    elif kind == "contacts":
        found += [RemoteFile(kind="contact", name=_card(one)) for one in objects(part)]
    elif kind == "reaction":
        found.append(RemoteFile(kind="other", name=f"reaction {string(child(part, 'emoji'))}"))
    elif kind not in ("text", "button") and (kind != "interactive" or not _interactive(part)):
        found.append(RemoteFile(kind="other", name=_named(kind, item)))
    if isinstance(ad := item.get("referral"), Mapping):
        words = (string(ad.get("headline")), string(ad.get("source_url")))
        found.append(RemoteFile(kind="other", name=f"wrote from an ad: {' '.join(filter(None, words))}"))
    return tuple(found)


def _degrees(place: Any, name: str, most: int) -> float:
    value = child(place, name)
    if not isinstance(value, int | float) or not -most <= value <= most:
        raise ValueError(f"a place without its {name}")
    return float(value)


def _card(one: Mapping[str, Any]) -> str:
    phones = [string(phone.get("phone")) for phone in objects(one.get("phones"))]
    return " ".join(filter(None, (string(child(one, "name", "formatted_name")), *phones)))


def _named(kind: str, item: Mapping[str, Any]) -> str:
    """What a message is that we cannot show otherwise."""
    if kind != "unsupported":
        return kind.replace("_", " ") or "message"
    what = string(child(item, "unsupported", "type"))
    return f"a message that WhatsApp does not pass on{f': {what}' if what else ''}"


# Addresses -------------------------------------------------------------------------------------------------------------


def _number(value: Any) -> str:
    digits = re.sub(r"[^0-9]", "", string(value)) if not _USER_ID.fullmatch(string(value)) else ""
    return digits if _NUMBER.fullmatch(digits) else ""


def _user_id(value: Any) -> str:
    return string(value) if _USER_ID.fullmatch(string(value)) else ""


def _place(number: str, user_id: str) -> str:
    if not number and not user_id:
        raise ValueError("a message of nobody")
    return user_id or number


def address(text: str) -> str:
    """A business-scoped user id, or a number with its country in digits. Raises ValueError."""
    given = text.strip()
    if _USER_ID.fullmatch(given):
        return given
    digits = re.sub(r"[\s().+-]", "", given)
    if not _NUMBER.fullmatch(digits):
        raise ValueError("a number with its country, such as +375291112233")
    return digits


# Sending ---------------------------------------------------------------------------------------------------------------

_AS_PICTURE = frozenset({"image/jpeg", "image/png"})
_AS_VIDEO = frozenset({"video/mp4", "video/3gpp"})
_AS_AUDIO = frozenset({"audio/aac", "audio/mp4", "audio/mpeg", "audio/amr", "audio/ogg"})


def content_type_of(part: Outgoing) -> str:
    """Of the part's file, without parameters."""
    named = part.file.content_type.partition(";")[0].strip().lower() if part.file is not None else ""
    return named or "application/octet-stream"


def sent_as(part: Outgoing) -> str:
    """The type of message that carries a file: what WhatsApp shows as no picture, video or sound goes as a document."""
    if part.file is None:
        return ""
    kind, content_type = part.file.kind, content_type_of(part)
    if kind == "image" and content_type in _AS_PICTURE:
        return "image"
    if kind == "video" and content_type in _AS_VIDEO:
        return "video"
    return "audio" if kind in ("voice", "audio") and content_type in _AS_AUDIO else "document"


def payload(part: Outgoing, media_id: str = "") -> dict[str, Any]:
    """The message of one part. `media_id` is the upload's."""
    found: dict[str, Any] = {"messaging_product": "whatsapp", "recipient_type": "individual"}
    found["recipient" if _USER_ID.fullmatch(part.to) else "to"] = part.to
    if part.reply_to:
        found["context"] = {"message_id": part.reply_to}
    if part.token:
        found["biz_opaque_callback_data"] = part.token
    if part.template is not None:
        return {**found, "type": "template", "template": codec.template_payload(part.template)}
    if part.file is not None:
        kind = sent_as(part)
        media: dict[str, Any] = {"id": media_id}
        if kind == "audio" and part.file.kind == "voice" and content_type_of(part) == "audio/ogg":
            media["voice"] = True
        if part.text and kind != "audio":
            media["caption"] = part.text
        if kind == "document":
            media["filename"] = part.file.name or part.file.kind
        return {**found, "type": kind, kind: media}
    if part.latitude is not None:
        return {**found, "type": "location", "location": {"latitude": part.latitude, "longitude": part.longitude}}
    return {**found, "type": "text", "text": {"body": part.text, "preview_url": False}}


CHANNEL = ChatChannel(capabilities=CAPABILITIES, events=events, address=address, bucket=codec.pair)
