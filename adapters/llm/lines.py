"""A stream of server-sent events as the JSON objects in it. Pure.

Events are decoded whole: a letter may be cut between two reads. Comments, what is no JSON, and whatever else servers add are passed
over. `[DONE]` ends it.
"""

import json
from collections.abc import Mapping
from typing import Any

LONGEST_EVENT = 1 << 20
"""Bytes of one event; a longer one is no answer to a client."""


class TooMuch(ValueError):
    """An event without end."""


class Events:
    """Feed bytes, take events."""

    def __init__(self) -> None:
        self.done = False
        self._rest = b""
        self._data = list[bytes]()

    def feed(self, piece: bytes) -> list[Mapping[str, Any]]:
        """The events that a piece completes; with an empty piece, what is left at the end. Raises TooMuch."""
        if not piece:
            self._rest += b"\n\n"
        *lines, self._rest = (self._rest + piece).split(b"\n")
        found = list[Mapping[str, Any]]()
        for line in lines:
            line = line.removesuffix(b"\r")
            if line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
            elif not line:
                found += self._event()
        if len(self._rest) + sum(map(len, self._data)) > LONGEST_EVENT:
            raise TooMuch
        return found

    def _event(self) -> list[Mapping[str, Any]]:
        data, self._data = b"\n".join(self._data), []
        if data.strip() == b"[DONE]":
            self.done = True
            return []
        try:
            event = json.loads(data)
        except ValueError:
            return []
        return [event] if isinstance(event, dict) else []
