"""The gateway's intake and nothing behind it: listener, validation and group commit into the journal, in a process of its
own. The like of `fastapi_service`, which makes nothing of the posts either. Started with the same arguments.
"""

import hashlib
import sys
from functools import partial
from typing import Any, Literal
from zoneinfo import ZoneInfo

import trio

from actors.runtime.group_commit import GroupCommit
from gateway.domain.configuration import Phone, Tenant
from gateway.domain.ids import TenantId
from gateway.domain.posts import Post
from gateway.store.embedded.embedded import as_login
from gateway.store.journal import PostRow, insert_posts
from gateway.store.postgres.pool import open_database
from gateway.web.api.machine import MachineDeps, machine_addresses
from gateway.web.http.intake import serve_intake


async def serve(dsn: str, token: str, port: int) -> None:
    """Until cancelled."""
    tenant = Tenant(
        TenantId("0367"), "June", ZoneInfo("Europe/Minsk"), "BY", "ru", phones=(Phone("150"), Phone("151")),
        token_hash=hashlib.sha256(token.encode()).digest(),
    )  # fmt: skip
    async with open_database(as_login(dsn)) as db, trio.open_nursery() as nursery:
        posts: GroupCommit[PostRow, bool] = GroupCommit("journal", lambda rows: db.engine(insert_posts, rows))
        nursery.start_soon(posts.run)

        async def journal(_: Tenant, post: Post) -> Literal["accepted", "duplicate"]:
            row = PostRow(tenant.number, post.address, post.unique_id, post.digest, post.body, post.received_at)
            return "accepted" if await posts.put(row) else "duplicate"

        async def invalidate(number: str) -> bool:
            return False

        def nothing(*_: Any) -> Any:
            return {}

        deps = MachineDeps(
            tenant_by_token=lambda found: tenant if found == tenant.token_hash else None, journal=journal,
            ready=list, stats=nothing, metrics=str, enablement=nothing, invalidate=invalidate, operator_token=None,
            operator_open=False,
        )  # fmt: skip
        listeners = await trio.open_tcp_listeners(port, host="127.0.0.1")
        await serve_intake(listeners, machine_addresses(deps))


if __name__ == "__main__":
    trio.run(partial(serve, sys.argv[1], sys.argv[2], int(sys.argv[3])))
