"""The widget's other side is the gateway itself: a message is sent once it is stored, for visitors' browsers read it from there."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from adapters.base import Attempt, Delivered, Link, Tested
from adapters.web_widget.settings import WidgetSettings, domains_of


class WidgetClient:
    """One widget's."""

    def __init__(self, settings: WidgetSettings) -> None:
        self._settings = settings

    async def deliver(self, attempt: Attempt) -> Delivered:
        """Sends nothing: the message is where the visitor's browser reads it."""
        await trio.lowlevel.checkpoint()
        return Delivered(external_id=attempt.key)

    async def test(self) -> Tested:
        """Whether any page may show the widget."""
        await trio.lowlevel.checkpoint()
        found = domains_of(self._settings.allowed_domains)
        return Tested(True, "ok", ", ".join(found)) if found else Tested(False, "no_domains")


@asynccontextmanager
async def connect(link: Link, settings: WidgetSettings) -> AsyncIterator[WidgetClient]:
    """Opens nothing."""
    yield WidgetClient(settings)
    await trio.lowlevel.checkpoint()
