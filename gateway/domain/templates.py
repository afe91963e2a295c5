"""Addresses of recordings, made from a PBX's template and a call: `https://pbx.example/monitor/{year}/{month}/{day}/{file}`.

Pure. Every value is percent-encoded, and one that could climb out of its folder makes no address at all. The host can hold
no field: whoever names a file does not choose the server. Read `actors/calls/recordings.py` for who fetches.
"""

import re
from collections.abc import Mapping
from datetime import datetime, tzinfo
from urllib.parse import quote, urlsplit

FIELDS = ("path", "file", "uniqueid", "linkedid", "year", "month", "day")
_FIELD = re.compile(r"\{([^{}]*)\}")


def check_template(template: str) -> None:
    """Raises ValueError, in words for a person, for what makes no address."""
    unknown = [name for name in _FIELD.findall(template) if name not in FIELDS]
    if unknown:
        raise ValueError(f"there is no field {{{unknown[0][:20]}}}; there are {', '.join(f'{{{f}}}' for f in FIELDS)}")
    if "{" in _FIELD.sub("", template) or "}" in _FIELD.sub("", template):
        raise ValueError("a brace stands alone")
    if not template.isprintable() or " " in template or "\\" in template:
        raise ValueError("must be one address without spaces")
    try:
        parts = urlsplit(template)
        port = parts.port
    except ValueError:
        raise ValueError("must be an address such as https://pbx.example/monitor/{file}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ValueError("must begin with https:// or http:// and a host")
    if "{" in parts.netloc:
        raise ValueError("the host must not hold a field")
    if "@" in parts.netloc:
        raise ValueError("must not hold a password; enter it in the fields for user and password")
    if parts.fragment:
        raise ValueError("must not hold a #")
    if not _FIELD.search(template):
        raise ValueError("must hold at least one field, such as {file}")


def _safe(value: str) -> bool:
    return bool(value) and value.isprintable() and "\\" not in value and value not in (".", "..")


def fill(template: str, *, reported: str, call_id: str, pbx: str, begins_at: datetime, zone: tzinfo) -> str | None:
    """The address of a call's recording, or None where what the PBX reported cannot be part of one."""
    segments = reported.strip("/").split("/")
    bare = call_id.removeprefix(f"{pbx}-")
    local = begins_at.astimezone(zone)
    values: Mapping[str, str] = {
        "file": segments[-1], "uniqueid": bare, "linkedid": bare,
        "year": f"{local:%Y}", "month": f"{local:%m}", "day": f"{local:%d}",
    }  # fmt: skip
    if not all(map(_safe, (*segments, bare))) or "/" in bare:
        return None

    def put(found: re.Match[str]) -> str:
        if found[1] == "path":
            return "/".join(quote(segment, safe="") for segment in segments)
        return quote(values[found[1]], safe="")

    return _FIELD.sub(put, template)
