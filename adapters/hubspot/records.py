"""One call is one record, whatever is repeated.

    id of the record remembered                -> it
    "unique"  a repeat reads the call by our id, which needs no search; a second one of that id HubSpot refuses
    "search"  a repeat waits for the search's lag, then looks for our id
    "time"    likewise, by the moment and the number

Calls that end while others are being written go together, up to 100 in one request. Its answer names what became of each by
trace ids (207): those that failed are tried again, alone. A batch that is refused as a whole is sent call by call. Read `schema.py`
for which of the three it is.
"""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import trio

from adapters.base import Attempt
from adapters.batching import Batches
from adapters.hubspot import codec, requests
from adapters.hubspot.account import Account
from adapters.hubspot.schema import Schema, SchemaReader
from adapters.hubspot.settings import HubSpotSettings
from adapters.hubspot.writing import Writer
from gateway.domain.errors import GatewayError, NotYet, Rejected
from gateway.domain.ids import TenantId

CALL, MAKING = "call", "call_making"
"""Names under which a call's record, and the moment at which it was about to be made, are remembered."""


@dataclass(frozen=True, slots=True)
class _Input:
    attempt: Attempt
    trace: str
    wanted: Mapping[str, Any]


class CallRecords:
    """Of one account."""

    def __init__(
        self, account: Account, schema: SchemaReader, writer: Writer, tenant: TenantId, settings: HubSpotSettings
    ) -> None:
        self._account = account
        self._schema = schema
        self._writer = writer
        self._tenant = tenant
        self._settings = settings
        # The account's budget is taken from by the request itself.
        self._batches: Batches[_Input, Mapping[str, Any]] = Batches(self._send, trio.lowlevel.checkpoint, codec.BATCH)

    async def write(
        self, attempt: Attempt, body: Mapping[str, Any], *, owner: str, contact: str
    ) -> tuple[str, tuple[str, ...]]:  # fmt: skip
        """The id of the call's record, made now or before, and the properties that HubSpot refused. Raises Rejected where it is not
        taken, and what `gateway.domain.errors` lists."""
        if known := await attempt.known(CALL):
            return known, ()
        schema, key = await self._schema.current(attempt), f"{self._tenant}-{body['call']}"
        made, left_out = await self._before(attempt, schema, body, key), tuple[str, ...]()
        if not made:
            made, left_out = await self._make(attempt, schema, body, key, owner=owner, contact=contact)
        await attempt.remember(CALL, made)
        return made, left_out

    async def _make(
        self, attempt: Attempt, schema: Schema, body: Mapping[str, Any], key: str, *, owner: str, contact: str
    ) -> tuple[str, tuple[str, ...]]:  # fmt: skip
        wanted = requests.call(
            body,
            self._settings,
            owner=owner,
            contact=contact,
            missed_status=schema.missed_status,
            outcomes=schema.outcomes,
            fields=body["fields"],
        )
        needed: tuple[str, ...] = (requests.START,)
        if schema.told == "time":
            await self._writer.mark(attempt, MAKING)
            return await self._writer.make(attempt, requests.CALLS, wanted, needed=needed)
        field = self._settings.call_field
        ours = {**wanted, "properties": {**wanted["properties"], field: key}}
        if schema.told == "search":
            await self._writer.mark(attempt, MAKING)

        async def gathered(one: Mapping[str, Any]) -> Mapping[str, Any]:
            return await self._batches.one(_Input(attempt, key, one))

        try:
            return await self._writer.make(attempt, requests.CALLS, ours, send=gathered, needed=(*needed, field))
        except codec.Conflict as error:
            if found := await self._by_key(attempt, key) or error.existing:
                return found, ()
            raise
        except codec.Refused as error:
            if field in error.properties:
                self._schema.forget()
                raise NotYet(f"the property {field} is gone or is another: it is read again", after_s=1.0) from None
            raise

    async def _before(self, attempt: Attempt, schema: Schema, body: Mapping[str, Any], key: str) -> str:
        """The record that an earlier attempt made, whose answer was lost; empty where there is none."""
        if schema.told == "unique":
            return await self._by_key(attempt, key) if attempt.number > 1 else ""
        if not await self._writer.in_doubt(attempt, MAKING):
            return ""
        if schema.told == "search":
            wanted = requests.calls_by_key(self._settings.call_field, key)
            listed = await self._account.search(requests.CALLS, wanted, attempt=attempt)
        else:
            listed = await self._account.search(requests.CALLS, requests.calls_at(body), attempt=attempt)
            listed = [one for one in listed if requests.same_call(one, body)]
        return next((found for one in listed if (found := codec.identifier(codec.mapping(one).get("id")))), "")

    async def _by_key(self, attempt: Attempt, key: str) -> str:
        path = f"{requests.path(requests.CALLS, quote(key, safe=''))}?idProperty={self._settings.call_field}"
        try:
            return codec.identifier((await self._account.call("GET", path, attempt=attempt)).get("id"))
        except codec.NotFound:
            return ""
        except Rejected as error:
            self._schema.forget()
            raise NotYet(f"calls cannot be read by our id any more: {error.detail}", after_s=1.0) from None

    # Several at once.

    async def _send(self, inputs: Sequence[_Input]) -> Sequence[Mapping[str, Any] | GatewayError]:
        if len(inputs) == 1:
            return [await self._one(inputs[0])]
        first, path = inputs[0].attempt, f"{requests.path(requests.CALLS)}/batch/create"
        payload = {"inputs": [{**one.wanted, "objectWriteTraceId": one.trace} for one in inputs]}
        try:
            answer = await self._account.call("POST", path, payload, attempt=first)
        except Rejected:
            return await self._one_by_one(inputs)
        batch = codec.read_batch(
            answer, [one.trace for one in inputs], self._settings.call_field, where="POST calls/batch/create",
            zone=self._account.zone, now=datetime.now(UTC),
        )  # fmt: skip
        for one in inputs[1:]:
            await self._show(one, batch)
        return [batch.results.get(one.trace) or batch.errors[one.trace] for one in inputs]

    async def _one(self, one: _Input) -> Mapping[str, Any]:
        return await self._account.call("POST", requests.path(requests.CALLS), one.wanted, attempt=one.attempt)

    async def _one_by_one(self, inputs: Sequence[_Input]) -> Sequence[Mapping[str, Any] | GatewayError]:
        """One of them spoils the others: each alone, so that only that one is refused."""
        outcomes: list[Mapping[str, Any] | GatewayError] = []
        for one in inputs:
            try:
                outcomes.append(await self._one(one))
            except Rejected as error:
                outcomes.append(error)
            except GatewayError as error:
                return [*outcomes, *[copy(error) for _ in inputs[len(outcomes) :]]]
        return outcomes

    async def _show(self, one: _Input, batch: codec.Batch) -> None:
        """Its own part of a batch, in the log of its attempt."""
        part = await self._account.shown(f"POST calls/batch/create, a part of it\n{dict(one.wanted)}")
        one.attempt.request = f"{one.attempt.request}\n\n{part}" if one.attempt.request else part
        result = batch.results.get(one.trace) or batch.errors.get(one.trace)
        one.attempt.response = await self._account.shown(str(result))
