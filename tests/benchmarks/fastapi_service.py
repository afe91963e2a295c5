"""The peer of `intake`: the service that FastAPI, uvicorn and asyncpg make of the same job, one insert a request.

The same address, fields, limits and digest; the token is looked up in memory; a repeat is `duplicate`. It keeps the post
and does nothing more with it. With the word `whole` behind its arguments it is the fair peer of the gateway as a whole: post,
call and event in one transaction, as one would write it. Started with the address of its database, a token and a port.
"""

import hashlib
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

import asyncpg
import uvicorn
from fastapi import FastAPI, HTTPException, Request
from pydantic import BaseModel, ConfigDict, Field

Number = Annotated[str, Field(max_length=128, pattern=r"^[^\x00-\x1f\x7f]*$")]


class CallPost(BaseModel):
    """A posted event; unknown fields are kept."""

    model_config = ConfigDict(extra="allow", coerce_numbers_to_str=True)

    Token: str
    UniqueId: Annotated[str, Field(min_length=1, max_length=128)]
    CallerIDNum: Number | None = None
    ConnectedLineNum: Number | None = None
    Extensions: list[Number] = []
    CallType: Annotated[int, Field(ge=0, le=2)] | None = None
    CallStatus: Number | None = None
    StartTime: datetime | None = None
    EndTime: datetime | None = None
    Trunk: Number | None = None


TABLE = """
    CREATE TABLE IF NOT EXISTS peer_journal (
        journal_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id text NOT NULL, address text NOT NULL,
        unique_id text NOT NULL, digest bytea NOT NULL, body text NOT NULL, received_at timestamptz NOT NULL,
        UNIQUE (tenant_id, digest)
    )
"""
"""The columns of our journal with the repeat told by a constraint, as one would write it; ours is cut into days."""

CALLS = """
    CREATE TABLE IF NOT EXISTS peer_calls (
        tenant_id text NOT NULL, call_id text NOT NULL, phase text NOT NULL, caller text NOT NULL, trunk text,
        ringing text[] NOT NULL, started_at timestamptz NOT NULL, ended_at timestamptz, result text, events int NOT NULL,
        PRIMARY KEY (tenant_id, call_id)
    );
    CREATE TABLE IF NOT EXISTS peer_events (
        tenant_id text NOT NULL, call_id text NOT NULL, seq int NOT NULL, event text NOT NULL, at timestamptz NOT NULL,
        body text NOT NULL, PRIMARY KEY (tenant_id, call_id, seq)
    )
"""
"""What the whole peer writes of a call: fewer columns than ours, and no deliveries."""
POST = """
    INSERT INTO peer_journal (tenant_id, address, unique_id, digest, body, received_at)
    VALUES ($1, $6, $2, $3, $4, $5) ON CONFLICT (tenant_id, digest) DO NOTHING RETURNING 1
"""
CALL = """
    INSERT INTO peer_calls AS c (tenant_id, call_id, phase, caller, trunk, ringing, started_at, ended_at, result, events)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 1)
    ON CONFLICT (tenant_id, call_id) DO UPDATE SET phase = excluded.phase, ended_at = excluded.ended_at,
        result = excluded.result, events = c.events + 1
    RETURNING events
"""
EVENT = "INSERT INTO peer_events (tenant_id, call_id, seq, event, at, body) VALUES ($1, $2, $3, $4, $5, $6)"


def create(dsn: str, token: str, *, whole: bool = False) -> FastAPI:
    """The app."""
    tenants = {hashlib.sha256(token.encode()).digest(): "0367"}

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with asyncpg.create_pool(dsn, min_size=8, max_size=8) as app.state.pool:
            await app.state.pool.execute(TABLE)
            await app.state.pool.execute(CALLS)
            yield

    app = FastAPI(lifespan=lifespan)

    @app.post("/dial")
    @app.post("/hangup")
    async def keep(post: CallPost, request: Request) -> dict[str, Any]:
        tenant = tenants.get(hashlib.sha256(post.Token.encode()).digest())
        if tenant is None:
            raise HTTPException(401)
        stored = json.dumps(post.model_dump(mode="json", exclude={"Token"}), sort_keys=True)
        address = request.url.path
        digest = hashlib.sha256("\0".join((address, post.UniqueId, stored)).encode()).digest()
        now = datetime.now(UTC)
        arguments = tenant, post.UniqueId, digest, stored, now, address
        if not whole:
            new = await request.app.state.pool.fetchval(POST, *arguments)
            return {"status": "accepted" if new else "duplicate"}
        async with request.app.state.pool.acquire() as connection, connection.transaction():
            if not await connection.fetchval(POST, *arguments):
                return {"status": "duplicate"}
            over = address == "/hangup"
            phase, ended_at, result = ("ended", now, "missed") if over else ("ringing", None, None)
            seq = await connection.fetchval(
                CALL, tenant, post.UniqueId, phase, post.CallerIDNum or "", post.Trunk, post.Extensions, now, ended_at,
                result,
            )  # fmt: skip
            await connection.execute(EVENT, tenant, post.UniqueId, seq, phase, now, stored)
        return {"status": "accepted"}

    return app


if __name__ == "__main__":
    uvicorn.run(
        create(sys.argv[1], sys.argv[2], whole=sys.argv[4:] == ["whole"]), host="127.0.0.1", port=int(sys.argv[3]), loop="uvloop", http="httptools",
        access_log=False, log_level="warning",
    )  # fmt: skip
