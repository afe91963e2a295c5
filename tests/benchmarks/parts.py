"""Real parts of the gateway, put together in one process without its listeners: what benchmarks of actors run on."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_network
from typing import cast

import trio

from actors.clients import Clients
from actors.dialling import Dialling
from actors.directory import Directory
from actors.feed import Feed
from actors.journal import GroupCommit
from actors.outgoing import Outgoing
from actors.ownership import Ownership
from actors.responsible import Desk
from actors.services import Services
from adapters.http import SafeDialer
from gateway.cache import ConfigurationCache
from gateway.domain.ids import Kind
from gateway.store import outbox
from gateway.store.pool import open_database


def dialer() -> SafeDialer:
    """One that may go to loopback."""
    return SafeDialer(allowed_private_nets=(ip_network("127.0.0.0/8"),), own=set())


@asynccontextmanager
async def open_services(dsn: str) -> AsyncIterator[Services]:
    """What actors are given, as `gateway.app` makes it, with the group commit running."""
    async with open_database(dsn, size=8) as db, trio.open_nursery() as nursery:
        outgoing = Outgoing(db)
        records: GroupCommit[outbox.Recording, frozenset[Kind] | None] = GroupCommit("outbox", outgoing.record)
        nursery.start_soon(records.run)
        nursery.start_soon(outgoing.acks.run)
        directory, clients, ownership = Directory(), Clients(), Ownership(db)
        yield Services(
            db=db, cache=cast(ConfigurationCache, None), directory=directory, feed=Feed(), records=records,
            dial=dialer(), clients=clients, desk=Desk(clients), outgoing=outgoing, ownership=ownership,
            dialling=Dialling(db, directory, clients, ownership.epoch_of),
        )  # fmt: skip
        nursery.cancel_scope.cancel()
