"""Requests from the CRM who is responsible for a caller, while the caller waits: a hard deadline, a breaker, a default.

    phone -> every integration with the ability, until one answers -> an internal number of the tenant's, or the default

The answer is a number that the tenant has, or none: a CRM does not choose what the PBX dials. Read
`actors/calls/pbx_session.py` for who sends the call there by itself.
"""

import logging
from dataclasses import dataclass, field

import trio

from actors.delivery.clients import Clients
from adapters.abilities import NamesResponsible, RedirectsCalls
from gateway.domain.configuration import Tenant
from gateway.domain.dialling import may_ring
from gateway.domain.errors import GatewayError
from gateway.domain.ids import IntegrationKey, TenantId
from gateway.domain.numbers import ANONYMOUS, outside
from gateway.telemetry import COUNTERS

log = logging.getLogger(__name__)

DEADLINE_S = 0.7
REDIRECT_S = 2.0
"""A dialplan waits for the answer, and its caller with it."""
FAILURES = 3
"""After so many requests in a row without a response, none is sent for `PAUSE_S`."""
PAUSE_S = 30.0


def default_extension(tenant: Tenant) -> str | None:
    """The number for callers without a known responsible user; None leaves the call where it is."""
    default = tenant.options.get("smart_redirect", {}).get("default")
    return default if may_ring(tenant, default) else None


@dataclass(slots=True)
class _Breaker:
    failures: int = 0
    closed_until: float = 0.0


@dataclass
class SmartRedirect:
    """One for the process. Holds nothing but the breakers."""

    clients: Clients
    _breakers: dict[tuple[TenantId, IntegrationKey], _Breaker] = field(default_factory=dict)

    async def extension_for(self, tenant: Tenant, phone: str) -> str | None:
        """The internal number to send this caller to, within `DEADLINE_S`; None leaves the call where it is."""
        with trio.move_on_after(DEADLINE_S):
            for kind, link in tenant.integrations.items():
                client = self.clients.integration(tenant.number, kind)
                if not link.enabled or not isinstance(client, NamesResponsible) or phone == ANONYMOUS:
                    continue
                extension = await self._ask(tenant, kind, client, phone)
                if may_ring(tenant, extension):
                    return extension
        return default_extension(tenant)

    async def _ask(self, tenant: Tenant, kind: IntegrationKey, client: NamesResponsible, phone: str) -> str | None:
        """The number that the outside system names, or that of the user it names."""
        breaker = self._breakers.setdefault((tenant.number, kind), _Breaker())
        if trio.current_time() < breaker.closed_until:
            COUNTERS["responsible_not_asked"] += 1
            return None
        answered = False
        try:
            found = await client.responsible(phone)
            answered = True
        except GatewayError as error:
            log.warning("nobody could say who is responsible", extra={"tenant": tenant.number, "reason": str(error)})
            return None
        finally:
            breaker.failures = 0 if answered else breaker.failures + 1
            if breaker.failures >= FAILURES:
                breaker.closed_until = trio.current_time() + PAUSE_S
            COUNTERS["responsible_answered" if answered else "responsible_failed"] += 1
        if found is None:
            return None
        return found.extension or tenant.extension_of(kind, found.user_id or "") or None


async def send_caller(clients: Clients, tenant: Tenant, unique_id: str, extension: str) -> bool:
    """Sends a waiting caller to an internal number, at whichever PBX the call is. False when nobody waits there (any
    more) or the request to the PBX failed or had no response within `REDIRECT_S`."""
    sent = False
    with trio.move_on_after(REDIRECT_S) as deadline:
        sent = await _send_caller(clients, tenant, unique_id, extension)
    if deadline.cancelled_caught:
        log.warning("a caller could not be redirected", extra={"reason": "the PBX did not answer in time"})
    COUNTERS["redirects_made" if sent else "redirects_not_made"] += 1
    return sent


async def _send_caller(clients: Clients, tenant: Tenant, unique_id: str, extension: str) -> bool:
    for pbx in tenant.pbxes:
        client = clients.pbx(tenant.number, pbx.name)
        if not isinstance(client, RedirectsCalls):
            continue
        try:
            if await client.redirect(unique_id.removeprefix(f"{pbx.name}-"), extension):
                return True
        except GatewayError as error:
            log.warning("a caller could not be redirected", extra={"reason": str(error)})
    return False


async def send_to_responsible(
    smart_redirect: SmartRedirect, clients: Clients, tenant: Tenant, unique_id: str, phone: str, *, redirect: bool
) -> tuple[str | None, bool]:
    """The number of the user responsible for a caller, and whether the call was sent there. Needs this instance's clients."""
    extension = await smart_redirect.extension_for(tenant, outside(phone, tenant.country))
    sent = False
    if extension is not None and redirect:
        sent = await send_caller(clients, tenant, unique_id, extension)
    return extension, sent
