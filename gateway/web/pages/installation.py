"""For operators: the installation on one page: instances, storage, and what waits where.

Read `gateway/store/installation.py` for the queries, `operators.py` for companies and actors.
"""

from dataclasses import dataclass
from functools import partial

from quart import Blueprint
from quart_trio.wrappers import TrioResponse as Response

from gateway.store.installation import Queue, Storage, select_queues, select_storage
from gateway.store.postgres.pool import Connection
from gateway.store.shards import Owner, select_owners
from gateway.web.session.auth import Gate
from gateway.web.session.surroundings import look_around

MOST = 200


@dataclass(frozen=True, slots=True)
class Installation:
    """What the database knows."""

    owners: list[Owner]
    storage: Storage
    queues: list[Queue]


async def _installation(conn: Connection) -> Installation:
    return Installation(await select_owners(conn), await select_storage(conn), await select_queues(conn, MOST))


def installation_pages(gate: Gate) -> Blueprint:
    """The page `/operators/installation`."""
    pages = Blueprint("installation", __name__, url_prefix="/operators/installation")
    pages.before_request(partial(look_around, gate))
    site, deps = gate.site, gate.site.deps

    @pages.get("")
    async def installation() -> Response:
        seen = await deps.db.engine(_installation)
        names = {number: found.name for number, found in deps.cache.tenants().items()}
        return site.page(
            "installation.html", seen=seen, here=deps.instance(), spool=deps.spool, names=names,
            waiting=sum(queue.waiting for queue in seen.queues), more=len(seen.queues) == MOST,
        )  # fmt: skip

    return pages
