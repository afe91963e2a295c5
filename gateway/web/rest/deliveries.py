"""`/deliveries`: what outside systems are notified of: what waits, what failed and why, and retries."""

import json
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import AwareDatetime, ConfigDict, Field
from pydantic.config import JsonDict

from gateway.domain.secret import MASK
from gateway.store import delivery_pages as store
from gateway.store.delivery_pages import Filters, Found
from gateway.web.http.routes import Response, problem
from gateway.web.masking import without_texts
from gateway.web.pages.deliveries import replay_all, shown_body
from gateway.web.rest.deps import RestDeps
from gateway.web.rest.endpoints import Call, Endpoint, ListQuery, Missing, Model, Page, Shown

State = Literal["pending", "failed", "doubtful", "expired", "done", "superseded"]
_EXAMPLE: JsonDict = {
    "id": 4711, "integration": "crm:main", "kind": "upload", "subject": {"kind": "call", "id": "1795219998.3600"},
    "state": "failed", "attempt": 12, "created_at": "2026-11-21T00:14:41.500Z", "run_at": "2026-11-21T08:00:00Z",
    "finished_at": "2026-11-21T08:00:01Z", "error": "the other side does not answer", "body": {}, "may_be_retried": True,
}  # fmt: skip


class SubjectItem(Shown):
    """What a delivery is about."""

    kind: str
    id: str


class DeliveryItem(Shown):
    """A delivery; secrets in its body are masked."""

    model_config = ConfigDict(frozen=True, json_schema_extra={"examples": [_EXAMPLE]})

    id: int
    integration: str
    kind: str
    subject: SubjectItem
    state: State
    attempt: int
    created_at: datetime
    run_at: datetime = Field(description="when the next attempt is due, or the last one was")
    finished_at: datetime | None
    error: str | None = Field(description="of the last attempt")
    body: Any
    may_be_retried: bool


class DeliveriesPage(Page[DeliveryItem]):
    """Deliveries, newest first."""


class DeliveriesQuery(ListQuery):
    """Which deliveries. Without a state: all that are not delivered."""

    state: State | None = None
    integration: str | None = Field(None, max_length=64)
    kind: str | None = Field(None, max_length=100)
    call: str | None = Field(None, max_length=200, description="of this call")
    since: AwareDatetime | None = Field(None, alias="from", description="made at this moment or later; ISO with a zone")
    until: AwareDatetime | None = Field(None, alias="to", description="made before this moment")


class RetryFilter(Model):
    """Which failed deliveries; what is absent does not narrow."""

    state: Literal["failed", "doubtful"] | None = None
    integration: str | None = Field(None, max_length=64)
    kind: str | None = Field(None, max_length=100)
    call: str | None = Field(None, max_length=200)
    since: AwareDatetime | None = Field(None, alias="from")
    until: AwareDatetime | None = Field(None, alias="to")


class RetryBody(Model):
    """A retry of many."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, json_schema_extra={"examples": [{"filter": {"integration": "crm:main"}}]}
    )

    filter: RetryFilter


class Retried(Shown):
    """What became of a retry."""

    model_config = ConfigDict(frozen=True, json_schema_extra={"examples": [{"retried": 3, "left": 0}]})

    retried: int = Field(description="deliveries that wait again")
    left: int = Field(description="deliveries that the settings of now no longer send")


def _item(one: Found, *, whole: bool) -> DeliveryItem:
    shown = shown_body(one.body)
    if shown and not whole:
        shown = without_texts(shown)
    return DeliveryItem.model_validate(
        {
            "id": one.delivery_id, "integration": one.integration, "kind": one.kind,
            "subject": {"kind": one.subject.kind, "id": one.subject.id}, "state": one.state, "attempt": one.attempt,
            "created_at": one.created_at, "run_at": one.run_at, "finished_at": one.finished_at, "error": one.error if whole or not one.error else MASK,
            "body": json.loads(shown) if shown else None, "may_be_retried": one.replayable,
        }
    )  # fmt: skip


def deliveries(deps: RestDeps) -> list[Endpoint]:
    """The endpoints."""

    def filters(sent: DeliveriesQuery | RetryFilter) -> Filters:
        return Filters(
            integration=sent.integration,
            state=sent.state,
            kind=sent.kind,
            call=sent.call,
            since=sent.since,
            until=sent.until,
        )

    async def listed(call: Call) -> DeliveriesPage:
        number, limit = call.tenant.number, call.query.limit
        after = deps.cursors.wanted(number, "deliveries", call.query.cursor)
        before = int(after[0]) if after else None
        found = await deps.db.tenant(number, store.search_deliveries, number, filters(call.query), before, limit + 1)
        onward = deps.cursors.new(number, "deliveries", [found[limit - 1].delivery_id]) if len(found) > limit else None
        return DeliveriesPage(
            items=[_item(one, whole=call.caller.reads_messages) for one in found[:limit]], next=onward
        )

    async def retry_one(call: Call) -> Retried | Response:
        number, sought = call.tenant.number, Filters(delivery_id=call.number("id"))
        found = await deps.db.tenant(number, store.search_deliveries, number, sought, None, 1)
        if not found:
            raise Missing("There is no such delivery.")
        if not found[0].replayable:
            return problem(
                409, "CONFLICT", "This delivery did not fail, or would be of no use any more.", state=found[0].state
            )
        return await retried(call, sought)

    async def retry_many(call: Call) -> Retried:
        return await retried(call, filters(call.body.filter))

    async def retried(call: Call, sought: Filters) -> Retried:
        done, left = await replay_all(deps.db, deps.ring, call.tenant, sought, datetime.now(UTC), call.caller.actor)
        return Retried(retried=done, left=left)

    return [
        Endpoint(method="GET", path="/deliveries", operation=listed, scopes=("read",), query=DeliveriesQuery, answer=DeliveriesPage,
                 summary="Deliveries to outside systems, newest first"),
        Endpoint(method="POST", path="/deliveries/retry", operation=retry_many, scopes=("write",), body=RetryBody, answer=Retried,
                 makes=True, summary="Retry what failed and fits the filter, at most 10,000"),
        Endpoint(method="POST", path="/deliveries/{id}/retry", operation=retry_one, scopes=("write",), answer=Retried, makes=True,
                 summary="Retry one delivery", problems={409: "It did not fail, or Idempotency-Key was used otherwise"}),
    ]  # fmt: skip
