"""`gateway tenant delete NUMBER`: a company and everything of it, whether or not a gateway runs.

Asks for the number again. Whatever ends it, the next run goes on from there, and so does a gateway that runs.
"""

import os
import socket
import sys
from collections.abc import Callable

import trio

from actors.deletion import LATE_S, Deletions, Place
from gateway.cli.api_keys import ACTOR
from gateway.domain.ids import TenantId
from gateway.resources import open_blobs, safe_dialer
from gateway.settings import Settings
from gateway.store.postgres.pool import Database
from gateway.store.secrets.seal import MasterKeys
from gateway.store.tenant_deletions import request_deletion, select_deletions
from gateway.store.tenants import select_tenants

Say = Callable[..., None]
LOOK_S = 1.0


async def sure(db: Database, number: TenantId, text_of: Say) -> bool:
    """Whether a person has typed the number once more. A deletion that was begun is not asked for again."""
    if any(one.tenant == number for one in await db.engine(select_deletions)):
        return True
    rows = await db.engine(select_tenants, [number])
    if not rows:
        return True  # `delete` says so
    print(
        f"Everything of {number} ({rows[0].name}) will be deleted: calls, recordings, integrations, people, keys. This cannot be "
        f"undone. `gateway export {number} --reveal` prints its settings before.\nType the number to go on: ",
        end="", flush=True,
    )  # fmt: skip
    typed = await trio.to_thread.run_sync(sys.stdin.readline)
    if typed.strip() != number:
        text_of("that is not the number; nothing was deleted")
        return False
    return True


async def delete(settings: Settings, db: Database, master: MasterKeys, number: TenantId, text_of: Say) -> int:
    """Does it. Returns the exit code."""
    if not await db.engine(request_deletion, number, ACTOR):
        text_of(f"no tenant {number}")
        return 1
    place = Place(await safe_dialer(settings), settings.provider_urls, settings.base_url.rstrip("/"), master)
    worker, waits = f"command {os.getpid()}@{socket.gethostname()}", False
    async with open_blobs(settings) as blobs:
        deletions = Deletions(db, place, blobs, lambda: worker)
        while not await deletions.carry_out(number, lambda text: print(text, flush=True)):
            if not any(one.tenant == number for one in await db.engine(select_deletions)):
                await trio.sleep(LATE_S)  # whoever did it looks once more
                break
            if not waits:
                print("somebody else works on it: waiting", flush=True)
            waits = True
            await trio.sleep(LOOK_S)
    print(f"tenant {number}: deleted")
    if posts := await trio.to_thread.run_sync(_spooled, settings):
        text_of(
            f"{posts} files of posts wait in {settings.data_dir / 'spool'}: those of this company are dropped when they are read"
        )
    return 0


def _spooled(settings: Settings) -> int:
    folder = settings.data_dir / "spool"
    return sum(1 for _ in folder.glob("*.posts*")) if folder.is_dir() else 0
