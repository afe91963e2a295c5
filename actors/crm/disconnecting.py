"""Disconnecting an integration: off at once, then taken back outside where that can be done, then forgotten here.

    switched off (its actors stop) -> registration, webhook taken back -> row and all that is its own removed

The outside system need not answer: what could not be taken back there is reported, and the integration goes all the same. Read
`registration.py` for registrations, `gateway/store/disconnection.py` for what is removed.
"""

from actors.crm.registration import Registrations, SyncResult
from adapters.abilities import Registers, Withdraws
from adapters.registry import Linked
from gateway.domain.ids import TenantId
from gateway.store.disconnection import delete_integration
from gateway.store.tenants import INTEGRATIONS, set_link_enabled


async def disconnect(modules: Registrations, number: TenantId, linked: Linked, who: str) -> SyncResult | None:
    """What came of taking it back outside; None where there is no such integration. Raises Unavailable while the database is
    away: then it is switched off at most, and disconnecting again finishes it."""
    if not await modules.db.engine(set_link_enabled, INTEGRATIONS, number, linked.key, False):
        return None
    await modules.refresh(number)
    taken_back = SyncResult(True)
    if linked.adapter.can(Registers):
        taken_back = await modules.deactivate(number, linked, who, delete=True)
        if taken_back.code == "not_registered" or not taken_back.code:
            taken_back = SyncResult(True)
    if linked.adapter.can(Withdraws) and not (left := await modules.withdraw(number, linked)).saved:
        taken_back = left
    if not await modules.db.engine(delete_integration, number, linked.key, who):
        return None
    await modules.refresh(number)
    return taken_back
