"""What an auditor sees of a request or response of an outside system: everything but what somebody wrote in a message. Pure.

Bodies are JSON or forms; fields that hold texts of messages are masked by their names, whichever system uses them, and a body
that reads as neither is left out as a whole. Secrets are masked for everybody before anything is stored.
"""

import json
import re
from typing import Any
from urllib.parse import parse_qsl, urlencode

from gateway.domain.secret import MASK

_TEXT = re.compile(
    r"text|caption|message|content|body|comment|note|subject|html|snippet|quote|^delivery$|_fields$|^uf_|customfields",
    re.IGNORECASE,
)
"""The last ones: what clients said of an order's delivery, and fields that mapping may fill with what they said."""
_HEAD = re.compile(r"(?:[A-Z]+ \S*|\d{3})(?=\s|$)")
"""The method and address of a request, or the status of a response, before its body."""


def _masked(value: Any, *, inside: bool = False) -> Any:
    match value:
        case dict():
            return {name: _masked(inner, inside=inside or bool(_TEXT.search(name))) for name, inner in value.items()}
        case list():
            return [_masked(inner, inside=inside) for inner in value]
        case str() if inside and value:
            return MASK
        case _:
            return value


def without_texts(said: str) -> str:
    """A request or response with texts of messages masked."""
    head = found[0] if (found := _HEAD.match(said)) is not None else ""
    body = said[len(head) :].strip()
    if not body:
        return head
    try:
        shown = json.dumps(_masked(json.loads(body)), ensure_ascii=False, indent=2)
    except (ValueError, RecursionError):
        pairs = parse_qsl(body, keep_blank_values=True) if "=" in body and not re.search(r"\s", body) else []
        shown = (
            urlencode([(name, MASK if _TEXT.search(name) else value) for name, value in pairs], safe="*")
            if pairs
            else MASK
        )
    return f"{head}\n{shown}" if head else shown
