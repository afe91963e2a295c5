"""`/calls`: history with filters, one call with what happened in it, and click-to-call."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import AwareDatetime, ConfigDict, Field
from pydantic.config import JsonDict

from gateway.domain.calls import Call as PhoneCall
from gateway.domain.dialling import CallRefused
from gateway.domain.ids import TenantId
from gateway.domain.numbers import outside
from gateway.domain.people import is_of
from gateway.store import call_pages as store
from gateway.store.call_pages import DeliveryLine, Filters, Place
from gateway.store.postgres.pool import Connection
from gateway.web.api.crm_callbacks import CALL_ANSWERS, CALL_SCOPE, refusal
from gateway.web.http.routes import Response, problem
from gateway.web.rest.deps import RestDeps
from gateway.web.rest.endpoints import Call, Endpoint, ListQuery, Missing, Model, Page, Shown

_EXAMPLE: JsonDict = {
    "id": "1795219998.3600", "phase": "ended", "direction": "incoming", "caller": "+375296254070", "called": "+375172000001",
    "trunk": "trunk-0001", "rang": ["150", "151"], "extension": "150", "last_extension": "150",
    "started_at": "2026-11-21T00:13:18.948Z", "answered_at": "2026-11-21T00:13:25.110Z", "ended_at": "2026-11-21T00:14:41.500Z",
    "result": "answered", "wait_s": 6.2, "talk_s": 76.4, "hung_up_by": "caller", "queue": None, "uncertain": False,
    "merged_into": None,
}  # fmt: skip


class CallItem(Shown):
    """A call as a person counts it."""

    model_config = ConfigDict(frozen=True, json_schema_extra={"examples": [_EXAMPLE]})

    id: str
    phase: Literal["ringing", "talking", "ended", "merged"]
    direction: Literal["incoming", "outgoing", "internal"]
    caller: str
    called: str
    trunk: str | None
    rang: list[str] = Field(description="internal numbers that rang, in order")
    extension: str | None = Field(description="the employee of the call")
    last_extension: str | None = Field(description="who talked last")
    started_at: datetime
    answered_at: datetime | None
    ended_at: datetime | None
    result: Literal["answered", "missed", "busy", "failed", "no_answer", "cancelled"] | None
    wait_s: float | None
    talk_s: float | None
    hung_up_by: Literal["caller", "callee", "system"] | None
    queue: str | None
    uncertain: bool = Field(description="a gap in the link to the PBX hides the truth")
    merged_into: str | None


class CallDelivery(Shown):
    """What an outside system was to be notified of about the call."""

    id: int
    integration: str
    kind: str
    state: str
    attempt: int
    created_at: datetime
    finished_at: datetime | None


class CallDetails(CallItem):
    """A call with its events and deliveries."""

    events: list[dict[str, Any]] = Field(description="as `gateway replay` prints them, in order")
    deliveries: list[CallDelivery]
    joined: list[str] = Field(description="consultation calls that a transfer joined to this one")


class CallsPage(Page[CallItem]):
    """Calls, newest first."""


class CallsQuery(ListQuery):
    """Which calls."""

    since: AwareDatetime | None = Field(
        None, alias="from", description="begun at this moment or later; ISO with a zone"
    )
    until: AwareDatetime | None = Field(None, alias="to", description="begun before this moment")
    number: str | None = Field(
        None, min_length=1, max_length=64, description="a number of either party, or a part of it"
    )
    extension: str | None = Field(None, pattern=r"^[0-9]{1,15}$", description="an employee's internal number")
    direction: Literal["incoming", "outgoing", "internal"] | None = None
    result: Literal["answered", "missed", "busy", "failed", "no_answer", "cancelled"] | None = None
    uncertain: bool = Field(False, description="only those that are")


class CallOrder(Model):
    """A call to be placed: the employee's phone rings first."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, json_schema_extra={"examples": [{"extension": "150", "phone": "+375296254070"}]}
    )

    extension: str = Field(min_length=1, max_length=64)
    phone: str = Field(min_length=1, max_length=128)


class PlacedCall(Shown):
    """The order was accepted."""

    model_config = ConfigDict(frozen=True, json_schema_extra={"examples": [{"status": "accepted", "id": "gw-3600"}]})

    status: Literal["accepted"] = "accepted"
    id: str


def call_values(call: PhoneCall) -> dict[str, Any]:
    """A call's fields as the API shows them."""
    return {
        "id": call.call_id, "phase": call.phase.value, "direction": call.direction.value, "caller": call.caller,
        "called": call.called, "trunk": call.trunk, "rang": list(call.rang), "extension": call.employee,
        "last_extension": call.last_extension, "started_at": call.started_at, "answered_at": call.answered_at,
        "ended_at": call.ended_at, "result": call.result.value if call.result else None, "wait_s": call.wait_s,
        "talk_s": call.talk_s, "hung_up_by": call.hung_up_by.value if call.hung_up_by else None, "queue": call.queue,
        "uncertain": call.uncertain, "merged_into": call.merged_into,
    }  # fmt: skip


async def _details(
    conn: Connection, tenant: TenantId, call_id: str, only: Sequence[str] | None
) -> dict[str, Any] | None:
    """`only`: the internal numbers of an agent, who sees neither others' calls nor what systems were sent."""
    found = await store.select_call(conn, tenant, call_id)
    if found is None or (only is not None and not is_of(found[1], only)):
        return None
    events = await store.select_call_events(conn, tenant, call_id)
    deliveries = await store.select_call_deliveries(conn, tenant, call_id) if only is None else ()
    return {
        **call_values(found[1]), "events": [json.loads(line.body) for line in events],
        "deliveries": [_delivery(line) for line in deliveries],
        "joined": await store.select_merged_calls(conn, tenant, call_id, only),
    }  # fmt: skip


def _delivery(line: DeliveryLine) -> dict[str, Any]:
    return {
        "id": line.delivery_id, "integration": line.integration, "kind": line.kind, "state": line.state,
        "attempt": line.attempt, "created_at": line.created_at, "finished_at": line.finished_at,
    }  # fmt: skip


def calls(deps: RestDeps) -> list[Endpoint]:
    """The endpoints."""

    async def listed(call: Call) -> CallsPage:
        query: CallsQuery = call.query
        number, limit = call.tenant.number, query.limit
        after = deps.cursors.wanted(number, "calls", query.cursor)
        filters = Filters(
            number=query.number or "", e164=outside(query.number, call.tenant.country) if query.number else None,
            extension=query.extension, direction=query.direction, result=query.result, since=query.since, until=query.until,
            uncertain=query.uncertain, open_too=True, only=call.caller.only,
        )  # fmt: skip
        place = Place(datetime.fromisoformat(str(after[0])), str(after[1])) if after else None
        found = await deps.db.tenant(number, store.search_calls, number, filters, place, limit + 1)
        last = found[limit - 1] if len(found) > limit else None
        onward = None
        if last is not None:
            onward = deps.cursors.new(number, "calls", [last.started_at.astimezone(UTC).isoformat(), last.call_id])
        return CallsPage(items=[CallItem.model_validate(call_values(one)) for one in found[:limit]], next=onward)

    async def one(call: Call) -> CallDetails:
        found = await deps.db.tenant(
            call.tenant.number, _details, call.tenant.number, call.param("id")[:200], call.caller.only
        )
        if found is None:
            raise Missing("There is no such call.")
        return CallDetails.model_validate(found)

    async def place(call: Call) -> PlacedCall | Response:
        order: CallOrder = call.body
        if call.caller.only is not None and order.extension not in call.caller.only:
            return problem(403, "FORBIDDEN", "An agent calls from their own internal numbers.")
        try:
            admitted = await deps.place(
                call.tenant, extension=order.extension, phone=order.phone, asked_by=call.caller.actor
            )
        except CallRefused as refused:
            return refusal(refused)
        return PlacedCall(id=admitted.order_id)

    return [
        Endpoint(method="GET", path="/calls", operation=listed, scopes=("read",), summary="Calls, newest first", query=CallsQuery,
                 answer=CallsPage, agents=True),
        Endpoint(method="POST", path="/calls", operation=place, scopes=(CALL_SCOPE,), body=CallOrder, answer=PlacedCall, makes=True, agents=True,
                 summary="Click-to-call: rings the employee, then calls the number",
                 problems={status: text for status, text in CALL_ANSWERS.items() if status not in (200, 401)}),
        Endpoint(method="GET", path="/calls/{id}", operation=one, scopes=("read",), answer=CallDetails, agents=True,
                 summary="One call with its events and deliveries"),
    ]  # fmt: skip
