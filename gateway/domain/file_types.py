"""What a file of a chat is, from its bytes, never from what its sender says: its type, kind and name. Pure.

`filetype` knows the signatures. What it does not know and is text without control characters is plain text, whatever markup
stands in it: HTML, SVG and scripts are never served as what they are. Read `gateway/store/files/chat_files.py` next.
"""

import codecs
import mimetypes
import unicodedata

import filetype  # type: ignore[import-untyped]

from gateway.domain.chats import LONGEST_NAME, FileKind

UNKNOWN, TEXT = "application/octet-stream", "text/plain"
_SAME = {
    "audio/x-wav": "audio/wav",
    "audio/x-flac": "audio/flac",
    "audio/x-aiff": "audio/aiff",
    "audio/m4a": "audio/mp4",
}
IMAGES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
"""What every browser and messenger shows as a picture."""
AUDIO = frozenset({"audio/wav", "audio/mpeg", "audio/ogg", "audio/mp4", "audio/flac", "audio/aac", "audio/webm"})
VIDEO = frozenset({"video/mp4", "video/webm", "video/quicktime", "video/3gpp"})
INLINE = IMAGES | AUDIO | VIDEO
"""What may be shown in a page of ours; everything else is only ever a download."""
_HOLDS_SOUND = {"video/mp4": "audio/mp4", "video/webm": "audio/webm", "video/3gpp": "audio/3gpp"}
"""Containers that may hold sound alone, and what they are then."""
_EXTENSIONS = {
    "image/jpeg": "jpg", "image/png": "png", "image/gif": "gif", "image/webp": "webp", "audio/mpeg": "mp3", "audio/ogg": "ogg",
    "audio/mp4": "m4a", "audio/wav": "wav", "audio/flac": "flac", "audio/aac": "aac", "audio/webm": "webm", "audio/amr": "amr",
    "video/mp4": "mp4", "video/webm": "webm", "video/quicktime": "mov", "video/3gpp": "3gp", "application/pdf": "pdf",
    "application/zip": "zip", "text/plain": "txt",
}  # fmt: skip
_UNTOLD = frozenset({"", UNKNOWN, "binary/octet-stream", "application/x-www-form-urlencoded", "multipart/form-data"})
"""Types by which a sender says nothing."""


def content_type(head: bytes, kind: FileKind = "file") -> str:
    """The type of a file that begins with these 8 KiB. `kind` is what its sender calls it: a container that holds sound or moving
    pictures is a sound where it was sent as one."""
    found = filetype.guess(head)
    if found is not None:
        named: str = _SAME.get(found.mime, found.mime)
    elif head[4:10] in (b"ftyp3g", b"ftypmp"):
        named = "video/3gpp" if head[8:10] == b"3g" else "video/mp4"
    else:
        named = TEXT if _is_text(head) else UNKNOWN
    return _HOLDS_SOUND.get(named, named) if kind in ("voice", "audio") else named


def _is_text(head: bytes) -> bool:
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(head)  # the last character may be cut
    except UnicodeDecodeError:
        return False
    return bool(text) and not any(unicodedata.category(sign) == "Cc" and sign not in "\t\r\n\f" for sign in text)


def kind_of(named: str, wanted: FileKind | None = None) -> FileKind:
    """The kind of a file of this type. `wanted` is what its sender calls it: it stays where the type allows it, so that what is
    shown as a picture is one."""
    family = named.partition("/")[0]
    if wanted == "file" or (wanted == "sticker" and family in ("image", "video", "application")):
        return wanted
    if wanted in ("voice", "audio") and family == "audio":
        return wanted
    if named in IMAGES:
        return "image"
    return "audio" if family == "audio" else "video" if family == "video" else "file"


def lies(told: str, named: str) -> bool:
    """Whether a file is not at all what its sender says: a picture that is none, sound that is none. What says nothing cannot."""
    told = told.partition(";")[0].strip().lower()
    family, found = told.partition("/")[0], named.partition("/")[0]
    if told in _UNTOLD:
        return False
    if told == "image/svg+xml":
        return named != TEXT
    if family in ("audio", "video"):
        return found not in ("audio", "video")  # one container holds both
    return family != found if family == "image" else told == "application/pdf" and named != told


def told_by_name(name: str) -> str:
    """The type that a name's ending stands for, or ""."""
    return mimetypes.guess_type(name.lower(), strict=False)[0] or ""


def clean_name(name: str, named: str, kind: FileKind) -> str:
    """A file's name as it is shown and stored: no path, nothing that cannot be seen or turns the direction of writing. One without
    an ending gets that of its type."""
    bare = name.replace("\\", "/").rpartition("/")[2]
    shown = "".join(sign for sign in bare if sign.isprintable() and unicodedata.category(sign) not in ("Cf", "Cs"))
    shown = " ".join(shown.split()).strip(". ")
    stem, dot, ending = shown.rpartition(".")
    if dot and stem and len(ending) <= 10:
        return f"{stem[: LONGEST_NAME - 11].rstrip()}.{ending}"
    ours = _EXTENSIONS.get(named)
    shown = shown[: LONGEST_NAME - 11].rstrip() or kind
    return f"{shown}.{ours}" if ours else shown
