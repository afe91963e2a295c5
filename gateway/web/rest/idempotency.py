"""`Idempotency-Key`: a request that makes something is done once, however often it is sent.

    first            claimed -> done -> its answer stored (in the same transaction, where the operation says so)
    again            the stored answer; while the first is under way it is waited for
    another body     409
    refused          forgotten: it may be sent again
    ended midway     done anew where making and storing are one transaction; else 409, for nobody knows whether it was done

Kept for a day, over restarts and for all instances. Answers are sealed: one may hold a key that is shown once.
"""

import hashlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import trio

from gateway.domain.ids import TenantId
from gateway.domain.posts import Invalid
from gateway.domain.secret import Secret
from gateway.store import idempotent_requests as store
from gateway.store.postgres.pool import Connection, Database
from gateway.store.secrets.seal import Sealer
from gateway.web.callers.callers import Caller
from gateway.web.http.routes import JSON, Request, Response, problem

HEADER = "Idempotency-Key"
LONGEST = 200
KEEP_S = 86400.0
BUSY_S = 60.0
"""After so long, whoever is at work on a request is taken to have ended."""
WAIT_S = 10.0
POLL_S = 0.1
_TABLE, _COLUMN = "idempotent_requests", "answer"


@dataclass
class Stored:
    """The place for one request's answer. An operation that makes something stores the answer itself, in its transaction."""

    tenant: TenantId
    request_hash: bytes = b""
    sealer: Sealer | None = None
    done: bool = field(default=False)

    async def store(self, conn: Connection, response: Response) -> None:
        """Stores the answer on this connection; nothing where the request brought no Idempotency-Key."""
        if self.sealer is None:
            return
        text = json.dumps({"status": response.status, "body": response.body.decode()})
        row = self.request_hash.hex()
        sealed = self.sealer.seal(Secret(text), table=_TABLE, column=_COLUMN, row=row)
        await store.store_answer(conn, self.tenant, self.request_hash, sealed)
        self.done = True

    def read(self, sealed: str) -> Response:
        """The stored answer."""
        assert self.sealer is not None
        text = self.sealer.open(sealed, table=_TABLE, column=_COLUMN, row=self.request_hash.hex()).reveal()
        found = json.loads(text)
        return Response(
            status=found["status"], body=found["body"].encode(), content_type=JSON,
            headers=(("Idempotency-Replayed", "true"),),
        )  # fmt: skip


Perform = Callable[[Stored], Awaitable[Response]]


@dataclass(frozen=True)
class Idempotency:
    """For all addresses."""

    db: Database
    sealer: Callable[[TenantId], Sealer | None]

    async def once(self, request: Request, caller: Caller, body: object, perform: Perform, *, atomic: bool) -> Response:
        """`perform`'s answer, or that of an earlier request with the same key. Raises Invalid for a key that is none, and
        whatever `perform` raises. `atomic`: it stores the answer in the transaction of what it makes."""
        key = request.headers.get(HEADER.lower())
        if key is None:
            return await perform(Stored(caller.tenant))
        if not 0 < len(key) <= LONGEST or not key.isascii() or not key.isprintable():
            raise Invalid(((HEADER, f"must be 1 to {LONGEST} printable ASCII characters"),))
        sealer = self.sealer(caller.tenant)
        if sealer is None:
            return problem(503, "UNAVAILABLE", "The company is not loaded yet.", retryable=True, retry_after=2)
        place = "\0".join((caller.identity, request.method, request.path, key))
        stored = Stored(caller.tenant, hashlib.sha256(place.encode()).digest(), sealer)
        sent = json.dumps([sorted(request.query.items()), body], sort_keys=True).encode()
        body_hash = hashlib.sha256(sent).digest()
        if not await self.db.engine(store.claim_request, stored.tenant, stored.request_hash, body_hash, BUSY_S, KEEP_S):
            earlier = await self._earlier(stored, body_hash, atomic=atomic)
            if earlier is not None:
                return earlier
        return await self._perform(stored, perform)

    async def _earlier(self, stored: Stored, body_hash: bytes, *, atomic: bool) -> Response | None:
        """The answer to a request that is known; None where it is to be done after all."""
        place = stored.tenant, stored.request_hash
        with trio.move_on_after(WAIT_S):
            while True:
                known = await self.db.engine(store.select_request, *place)
                if known is None:
                    # Refused meanwhile: this one is as good as the first.
                    if await self.db.engine(store.claim_request, *place, body_hash, BUSY_S, KEEP_S):
                        return None
                    continue
                if known.body_hash != body_hash:
                    return problem(
                        409, "CONFLICT", f"This {HEADER} was sent with another body.", errors=[(HEADER, "was used")]
                    )
                if known.answer is not None:
                    return stored.read(known.answer)
                if not known.busy:
                    if not atomic:
                        return problem(409, "CONFLICT", "The gateway was stopped while it handled this request: look "
                                       f"whether it was done, and send a new {HEADER} if it was not.")  # fmt: skip
                    if await self.db.engine(store.reclaim_request, *place, BUSY_S):
                        return None
                await trio.sleep(POLL_S)
        return problem(409, "CONFLICT", "The same request is still under way.", retryable=True, retry_after=2)

    async def _perform(self, stored: Stored, perform: Perform) -> Response:
        kept = False
        try:
            response = await perform(stored)
            if response.status < 400:
                if not stored.done:
                    await self.db.engine(stored.store, response)
                kept = True
            return response
        finally:
            if not kept:
                with trio.move_on_after(2) as scope:
                    scope.shield = True
                    await self.db.engine(store.forget_request, stored.tenant, stored.request_hash)
