"""What a portal's connection does by itself: the events of click-to-call and callbacks are bound to our address, and the line is
registered. Both are an application's alone; with a webhook a person makes an outgoing one in the portal (`advice.py`).
"""

from adapters.bitrix24.bindings import bound
from adapters.bitrix24.client import Bitrix24Client
from adapters.bitrix24.incoming import EVENTS
from adapters.bitrix24.settings import Bitrix24Settings
from adapters.jobs import Job, JobContext, JobResult
from gateway.domain.errors import Rejected


async def bind_events(client: Bitrix24Client, context: JobContext) -> JobResult | None:
    """Binds what is not bound, takes away what leads to an earlier address of ours, registers the line. Bears a repeat."""
    settings: Bitrix24Settings = context.settings
    if settings.webhook is not None or context.link.hook_url is None:
        return None
    address, attempt = context.link.hook_url.reveal(), context.attempt
    known: set[str] = set()
    for event, handler in await bound(client.portal, attempt):
        if handler == address:
            known.add(event)
        elif handler.partition("/hooks/")[0] == address.partition("/hooks/")[0]:
            await client.portal.call("event.unbind", {"event": event, "handler": handler}, attempt=attempt)
    for event in EVENTS:
        if event not in known:
            await client.portal.call("event.bind", {"event": event, "handler": address}, attempt=attempt)
    if settings.line_number:
        line = {"NUMBER": settings.line_number, "NAME": settings.line_number, "CRM_AUTO_CREATE": "N"}
        try:
            await client.portal.call("telephony.externalLine.add", line, attempt=attempt)
        except Rejected as error:
            if "already exists" not in error.detail.lower():
                raise
    return None


JOBS = (Job("events", 6 * 3600.0, bind_events, first_s=5.0),)
