"""The peer of `intake`: the service that FastAPI, uvicorn and asyncpg make of the same job, one insert a request.

The same address, fields, limits and digest; the token is looked up in memory; a repeat is `duplicate`. It keeps the post
and does nothing more with it. Started with the address of its database, a token and a port.
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


def create(dsn: str, token: str) -> FastAPI:
    """The app."""
    tenants = {hashlib.sha256(token.encode()).digest(): "0367"}

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with asyncpg.create_pool(dsn, min_size=8, max_size=8) as app.state.pool:
            await app.state.pool.execute(TABLE)
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
        new = await request.app.state.pool.fetchval(
            "INSERT INTO peer_journal (tenant_id, address, unique_id, digest, body, received_at) "
            "VALUES ($1, $6, $2, $3, $4, $5) ON CONFLICT (tenant_id, digest) DO NOTHING RETURNING 1",
            tenant, post.UniqueId, digest, stored, datetime.now(UTC), address,
        )  # fmt: skip
        return {"status": "accepted" if new else "duplicate"}

    return app


if __name__ == "__main__":
    uvicorn.run(
        create(sys.argv[1], sys.argv[2]), host="127.0.0.1", port=int(sys.argv[3]), loop="uvloop", http="httptools",
        access_log=False, log_level="warning",
    )  # fmt: skip
