"""The events that a portal sends to our address: bound by an application, and taken back when it is disconnected."""

from adapters.base import Attempt, Link
from adapters.bitrix24 import codec
from adapters.bitrix24.incoming import EVENTS
from adapters.bitrix24.portal import TOKEN, Portal
from adapters.bitrix24.settings import Bitrix24Settings


async def bound(portal: Portal, attempt: Attempt | None) -> list[tuple[str, str]]:
    """The events we know that are bound for this application: name and address."""
    found = []
    for one in codec.items(await portal.call("event.get", attempt=attempt)):
        event, handler = (
            codec.text(codec.mapping(one).get("event")).upper(),
            codec.text(codec.mapping(one).get("handler")),
        )
        if event in EVENTS:
            found.append((event, handler))
    return found


async def unbind(link: Link, settings: Bitrix24Settings, portal: Portal, attempt: Attempt | None) -> None:
    """Takes back what leads to our address. Harmless where there is nothing, and a second time."""
    if settings.webhook is not None or link.hook_url is None:
        return  # a webhook binds nothing: a person made the outgoing one in the portal
    if link.tokens is None or await link.tokens.current(TOKEN) is None:
        return  # nobody has connected it
    address = link.hook_url.reveal()
    for event, handler in await bound(portal, attempt):
        if handler == address:
            await portal.call("event.unbind", {"event": event, "handler": handler}, attempt=attempt)
