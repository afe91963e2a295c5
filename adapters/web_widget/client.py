"""The widget's other side is the gateway itself: a message is sent once it is stored, for visitors' browsers read it from there."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import trio

from adapters.base import Attempt, Delivered, Link, Tested
from adapters.channel import OutgoingFiles, Write
from adapters.web_widget.settings import WidgetSettings, domains_of
from gateway.domain.errors import Rejected


class WidgetClient:
    """One widget's."""

    def __init__(self, settings: WidgetSettings, files: OutgoingFiles | None = None) -> None:
        self._settings = settings
        self._files = files

    async def deliver(self, attempt: Attempt) -> Delivered:
        """Sends nothing: the message is where the visitor's browser reads it."""
        await trio.lowlevel.checkpoint()
        return Delivered(external_id=attempt.key)

    async def fetch(self, remote: Mapping[str, Any], write: Write, most: int) -> str:
        """Hands over a file that a visitor has added: it is in the gateway already. Raises Rejected, Unavailable."""
        if self._files is None:
            raise Rejected("there are no files")
        size = 0
        async for piece in self._files.pieces(remote["file"]):
            size += len(piece)
            if size > most:
                raise Rejected("the file is too large")
            await write(piece)
        return ""

    async def test(self) -> Tested:
        """Whether any page may show the widget."""
        await trio.lowlevel.checkpoint()
        found = domains_of(self._settings.allowed_domains)
        return Tested(True, "ok", ", ".join(found)) if found else Tested(False, "no_domains")


@asynccontextmanager
async def connect(link: Link, settings: WidgetSettings) -> AsyncIterator[WidgetClient]:
    """Opens nothing."""
    yield WidgetClient(settings, link.files)
    await trio.lowlevel.checkpoint()
