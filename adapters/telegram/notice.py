"""A plain text for a chat: how people hear of trouble. Pure; `client.py` delivers it as it does a card."""

import html
from typing import Any

from adapters.telegram.settings import Place

LONGEST = 4000
"""Characters; the Bot API takes 4096."""


def notice(place: str, text: str) -> dict[str, Any]:
    """The body of a delivery for a chat, or a topic of one. Raises BadValue."""
    found = Place.read(place)
    return {"chat": found.chat, "text": html.escape(text[:LONGEST], quote=False), "topic": found.topic}
