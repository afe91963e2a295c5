"""Calls that users of outside systems request by a webhook: placed under the rules of click-to-call, each once.

    request -> whose phone -> order, ids and a delivery in one commit -> the PBX
                         +--> refused: audited, and the outside system is told to clean up

Never dials by itself (`click_to_call.py`). Read `adapters/inbound.py` for a request's shape.
"""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import trio

from actors.calls.click_to_call import ClickToCall
from actors.delivery.clients import Clients
from actors.runtime.directory import utc_now
from adapters.abilities import NamesResponsible
from adapters.inbound import UNUSED_CALL, RequestedCall
from gateway.domain.configuration import Tenant
from gateway.domain.dialling import CallRefused
from gateway.domain.errors import GatewayError
from gateway.domain.ids import IntegrationKey, TenantId
from gateway.domain.subjects import Subject, call_subject
from gateway.store.call_orders import NewOrder
from gateway.store.external_ids import insert_external_ids, select_external_ids
from gateway.store.messages import insert_deliveries
from gateway.store.outbox import DeliveryRow
from gateway.store.postgres.pool import Connection, Database
from gateway.telemetry import COUNTERS

log = logging.getLogger(__name__)

RESPONSIBLE_WITHIN_S = 3.0
KEEP_S = 3600.0
"""For how long the cleaning up is tried."""
_ORDER = "order"


def _request_subject(request: RequestedCall) -> Subject:
    """Under which the order of a request is found again."""
    return call_subject(f"request:{request.id}")


@dataclass(frozen=True, slots=True)
class _Request:
    """What goes beside an order (`click_to_call.Beside`)."""

    tenant: TenantId
    key: IntegrationKey
    request: RequestedCall

    async def known(self, conn: Connection) -> str:
        found = await select_external_ids(conn, self.tenant, self.key, _request_subject(self.request))
        return found.get(_ORDER, "")

    async def store(self, conn: Connection, order: NewOrder) -> None:
        ids = {_ORDER: order.order_id}
        await insert_external_ids(conn, self.tenant, self.key, _request_subject(self.request), ids)
        if self.request.ids:
            await insert_external_ids(conn, self.tenant, self.key, call_subject(order.call_id), self.request.ids)
        if self.request.unused is not None:
            await insert_deliveries(conn, self.tenant, [self.delivery(order.call_id, "")])

    async def refuse(self, conn: Connection, reason: str) -> None:
        if self.request.unused is None:
            return
        await insert_deliveries(conn, self.tenant, [self.delivery(_request_subject(self.request).id, reason)])

    def delivery(self, call_id: str, refused: str) -> DeliveryRow:
        body = {**(self.request.unused or {}), "at": utc_now().timestamp(), **({"refused": refused} if refused else {})}
        name = f"{call_id}:{UNUSED_CALL}"
        return DeliveryRow(
            integration=self.key, lane=name, key=name, kind=UNUSED_CALL, bucket="", subject=call_subject(call_id),
            body=json.dumps(body, ensure_ascii=False), latest_only=False, expires_s=None, keep_s=KEEP_S,
        )  # fmt: skip


class RequestedCalls:
    """One for the process. `ring` wakes the delivery actor of an integration."""

    def __init__(
        self, db: Database, dialling: ClickToCall, clients: Clients, ring: Callable[[TenantId, str], None]
    ) -> None:
        self._db = db
        self._dialling = dialling
        self._clients = clients
        self._ring = ring

    async def place(self, tenant: Tenant, key: IntegrationKey, requests: Sequence[RequestedCall]) -> None:
        """Returns when each is admitted or refused, durably. Raises Unavailable when nothing could be stored."""
        for request in requests:
            beside = _Request(tenant.number, key, request)
            try:
                extension = await self._extension(tenant, key, request)
                found = await self._dialling.ask(
                    tenant, extension=extension, phone=request.phone, asked_by=key, beside=beside
                )
                COUNTERS["calls_requested"] += 1
                if found.repeated and not await self._db.tenant(tenant.number, beside.known):
                    # Another click on the same number, a moment ago: there is one call, and this request has none.
                    await self._db.tenant(tenant.number, beside.refuse, "the same call is being placed already")
            except CallRefused as refused:
                COUNTERS["calls_requested_refused"] += 1
                log.warning("a requested call is refused", extra={"reason": refused.code})
                await self._db.tenant(tenant.number, beside.refuse, refused.detail)
            if request.unused is not None:
                self._ring(tenant.number, key)

    async def _extension(self, tenant: Tenant, key: IntegrationKey, request: RequestedCall) -> str:
        """The internal number that rings first. Raises CallRefused where there is none."""
        found = request.extension or tenant.extension_of(key, request.user_id)
        client = self._clients.integration(tenant.number, key)
        if not found and not request.user_id and isinstance(client, NamesResponsible):
            with trio.move_on_after(RESPONSIBLE_WITHIN_S):
                try:
                    person = await client.responsible(request.phone)
                    found = (person and (person.extension or tenant.extension_of(key, person.user_id or ""))) or ""
                except GatewayError as error:
                    log.info("nobody is known to be responsible", extra={"reason": str(error)})
        if not found:
            raise CallRefused(
                "no_extension", f"code: user {request.user_id or '?'} of {key} has no internal number of this company"
            )
        return found
