"""A client who wants to be called at once is connected with an employee who is free, where the company has set `call_back: call`.

    task left and committed --> who is free: the one responsible, else the first --> click-to-call, by its rules and limits
          the PBX rings the employee, then the client; whatever comes of it, the task stays for people

Nothing is tried twice: what is refused stands beside the conversation.
"""

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING
from uuid import UUID

from gateway.domain.calls import Call
from gateway.domain.chats import AI
from gateway.domain.configuration import Tenant
from gateway.domain.dialling import CallRefused, may_ring
from gateway.domain.errors import Unavailable
from gateway.domain.events import Direction
from gateway.domain.ids import TenantId
from gateway.domain.subjects import Subject
from gateway.domain.text import Bilingual
from gateway.store.calls import select_open_calls
from gateway.store.conversations import insert_happening

if TYPE_CHECKING:
    from actors.services import Services

log = logging.getLogger(__name__)

ASKED_BY = "ai"
PLACED = Bilingual("{extension} is being called, then {phone}", "Звоним на {extension}, затем на {phone}")
NOBODY = Bilingual("Nobody is free to call {phone} back now", "Сейчас некому перезвонить на {phone}: все заняты")
REFUSED = Bilingual("{phone} could not be called: {reason}", "Не удалось позвонить на {phone}: {reason}")


def busy_of(calls: Iterable[Call]) -> set[str]:
    """The internal numbers that take part in these calls, or ring for them."""
    found = set[str]()
    for call in calls:
        found |= {*call.ringing, *filter(None, (call.extension,))}
        if call.direction is not Direction.INCOMING:
            found.add(call.caller)
        if call.direction is Direction.INTERNAL:
            found.add(call.called)
    return found


async def call_back(services: "Services", number: TenantId, conversation: UUID, phone: str) -> None:
    """Connects an employee who is free with a client. Notes beside the conversation what was done."""
    tenant = services.cache.tenant(number)
    if tenant is None:
        return
    try:
        extension = await _free(services, tenant, phone)
        if extension is None:
            text = NOBODY.texts[tenant.language].format(phone=phone)
        else:
            try:
                await services.dialling.ask(tenant, extension=extension, phone=phone, asked_by=ASKED_BY)
                text = PLACED.texts[tenant.language].format(extension=extension, phone=phone)
            except CallRefused as refused:  # audited where it was refused
                text = REFUSED.texts[tenant.language].format(phone=phone, reason=refused.detail)
        await services.db.tenant(number, insert_happening, number, conversation, "note", AI, text)
    except Unavailable as error:  # the task is left: people see it all the same
        log.warning("a client is not called back", extra={"reason": error.detail})
        return
    services.feed.publish(number, Subject("chat", str(conversation)))


async def _free(services: "Services", tenant: Tenant, phone: str) -> str | None:
    """The internal number to ring."""
    calls = await services.db.tenant(tenant.number, select_open_calls, tenant.number)
    busy = busy_of(call for _, call in calls)
    responsible = await services.smart_redirect.extension_for(tenant, phone)
    wanted = [*([responsible] if responsible is not None else []), *(one.number for one in tenant.phones)]
    return next((one for one in wanted if one not in busy and may_ring(tenant, one)), None)
