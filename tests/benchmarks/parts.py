"""Real parts of the gateway, put together in one process without its listeners: what benchmarks of actors run on."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_network
from types import SimpleNamespace
from typing import Any, cast

import trio

from actors.calls.click_to_call import ClickToCall
from actors.calls.smart_redirect import SmartRedirect
from actors.delivery.clients import Clients
from actors.delivery.handover import Handover
from actors.feed import Feed
from actors.runtime.directory import Directory
from actors.runtime.group_commit import GroupCommit
from actors.runtime.ownership import Ownership
from actors.services import Services
from adapters.http import SafeDialer
from gateway.cache import ConfigurationCache
from gateway.store import call_batches
from gateway.store.embedded.embedded import as_login
from gateway.store.journal import select_pending_posts
from gateway.store.postgres.pool import open_database


def dialer() -> SafeDialer:
    """One that may go to loopback."""
    return SafeDialer(allowed_private_nets=(ip_network("127.0.0.0/8"),), own=set())


@asynccontextmanager
async def open_services(dsn: str) -> AsyncIterator[Services]:
    """What actors are given, as `gateway.app` makes it, with the group commit running."""
    async with open_database(as_login(dsn), size=8) as db, trio.open_nursery() as nursery:
        outgoing = Handover(db)
        records: GroupCommit[call_batches.CallBatch, call_batches.Recorded] = GroupCommit("outbox", outgoing.record)
        pending_posts: GroupCommit[Any, Any] = GroupCommit(
            "journal", lambda wanted: db.engine(select_pending_posts, wanted)
        )
        nursery.start_soon(records.run)
        nursery.start_soon(pending_posts.run)
        nursery.start_soon(outgoing.acks.run)
        directory, clients, ownership = Directory(), Clients(), Ownership(db)
        yield Services(
            pending_posts=pending_posts, db=db, cache=cast(ConfigurationCache, SimpleNamespace(sealer=None)), directory=directory, feed=Feed(), records=records,
            dial=dialer(), clients=clients, smart_redirect=SmartRedirect(clients), outgoing=outgoing, ownership=ownership,
            dialling=ClickToCall(db, directory, clients, ownership.epoch_of),
        )  # fmt: skip
        nursery.cancel_scope.cancel()
