"""`gateway keys rotate`: a new master key for everything that is sealed, while gateways run.

    one key in the file     a new one is put above it, durably         several     an earlier run is gone on with
      -> every gateway that runs reports that it holds the new key
      -> everything is sealed anew, batch by batch (`gateway/store/secrets/rotation.py`)
      -> the old key is forbidden in the database, in one step with a last look that nothing is under it
      -> the new key alone opens every tenant's data key
      -> the old key is taken out of the file

Each arrow may be the last thing that happens: the next run goes on from there. It prints ids of keys, never keys.
"""

import shlex
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import trio

from gateway.cli.progress import Progress
from gateway.domain.errors import Unavailable
from gateway.domain.ids import OPERATOR
from gateway.store.audit import insert_audit
from gateway.store.postgres.errors import BadMasterKey
from gateway.store.postgres.pool import Database, open_session
from gateway.store.secrets import rotation as store
from gateway.store.secrets.seal import (
    MasterKey,
    MasterKeys,
    load_master_keys,
    new_master_key,
    parse_master_keys,
    write_master_keys,
)
from gateway.store.secrets.vault import VaultKeys
from gateway.store.shards import TTL_S
from gateway.store.tenant_deletions import select_gateways

Say = Callable[..., None]
T = TypeVar("T")

INSTANCES_WITHIN_S = 15.0
"""A gateway reports its keys every second, and counts as running for four."""
PASSES = 60
PAUSE_S = 1.0
"""Between passes: who wrote under the old id reads its configuration again in this time."""
TRIES = 30
SHOWN = 20


async def rotate(dsn: str, db: Database, file: Path, text_of: Say) -> int:
    """Does it. Returns the exit code."""
    async with open_session(dsn, application_name="gateway keys rotate") as session:
        lock, progress = store.OnlyRotation(session), Progress()
        if not await lock.hold():
            text_of("another rotation is under way")
            return 1
        master = await trio.to_thread.run_sync(_read, file)
        await _refuse_unknown(db, master, file)
        if len(master.keys) == 1:
            fresh = parse_master_keys(new_master_key()).current
            if not await _write(file, [fresh, *master.keys], text_of, _by_hand(file)):
                return 1
            progress.line(f"new master key {fresh.id} written to {file}, above {master.current.id}")
            master = await trio.to_thread.run_sync(_read, file)
        else:
            progress.line(f"{file} holds several keys: going on with {master.current.id}, no other is made")
        old = [key.id for key in master.keys[1:]]
        if not await _wait_instances(db, master.current, file, text_of):
            return 1
        work = store.Rotation(db, master, progress.show)
        if not await _seal_all(work, lock, old, text_of):
            return 1
        await _verify(db, MasterKeys([master.current]))
        await lock.hold()  # or Unavailable: another rotation may have begun, and have written the file
        rest = f"everything is sealed under {master.current.id}, and {', '.join(old)} was not taken out of {file}: do it by hand"
        if not await _write(file, [master.current], text_of, rest):
            return 1
        progress.line(f"{', '.join(old)} taken out of {file}; backups of the database made before now need it still")
        _print_damaged(work, text_of)
        await db.engine(insert_audit, OPERATOR, "cli", "keys.rotated", master.current.id)
    progress.line(f"everything is sealed under {master.current.id}")
    return 0


async def rotate_in_vault(dsn: str, db: Database, master: VaultKeys, text_of: Say, *, moving: bool = False) -> int:
    """The same where Vault has the key: a new version of the transit key, or that which an earlier run made; or, `moving`, data keys
    that a key file wrapped. Returns the exit code."""
    async with open_session(dsn, application_name="gateway keys rotate") as session:
        lock, progress = store.OnlyRotation(session), Progress()
        if not await lock.hold():
            text_of("another rotation is under way")
            return 1
        if moving and (running := await db.engine(select_gateways, TTL_S)):
            text_of(
                f"{running} gateways run with the key file: stop them first, and start them with GATEWAY_VAULT_URL afterwards"
            )
            return 1
        unfinished: int = await db.engine(store.count_wrapped, master.current.id)
        if moving or unfinished:
            progress.line(f"data keys are under other keys: going on with {master.current.id}, no other is made")
        else:
            await master.rotate()
            progress.line(f"new version of the transit key {master.vault.key}: {master.current.id}")
        old = [key for key in await db.engine(store.select_wrapping_keys) if key != master.current.id]
        work = store.VaultRotation(db, master, progress.show)
        if not await _seal_all(work, lock, old, text_of):
            return 1
        _print_damaged(work, text_of)
        await db.engine(insert_audit, OPERATOR, "cli", "keys.rotated", master.current.id)
    progress.line(
        f"everything is sealed under {master.current.id}; backups made before now need the versions before it still"
    )
    return 0


def _read(file: Path) -> MasterKeys:
    return load_master_keys(file, file.parent, may_create=False)


async def _write(file: Path, keys: list[MasterKey], text_of: Say, otherwise: str) -> bool:
    try:
        await trio.to_thread.run_sync(write_master_keys, file, keys)
    except OSError as error:
        text_of(f"the key file {file} cannot be replaced: {error.strerror}; {otherwise}")
        return False
    return True


def _by_hand(file: Path) -> str:
    name = shlex.quote(str(file))
    return (
        "nothing was changed. Make a file with a new key above the present one, "
        f"(umask 077; gateway keys new; cat {name}) > NEWFILE, put it in the place of the key file (with systemd's "
        "credentials: of the file that LoadCredential= names), restart every gateway, and run `gateway keys rotate` again"
    )


async def _refuse_unknown(db: Database, master: MasterKeys, file: Path) -> None:
    found = await db.engine(store.select_wrapping_keys)
    if unknown := {key: count for key, count in found.items() if key not in master.ids}:
        reported = ", ".join(f"{key or 'none'} ({count} tenants)" for key, count in sorted(unknown.items()))
        raise BadMasterKey(
            person=f"Data keys are under master keys that {file} does not hold: {reported}. Add them first."
        )


async def _wait_instances(db: Database, key: MasterKey, file: Path, text_of: Say) -> bool:
    """Nothing is sealed under a key that a gateway which runs could not open."""
    deadline = trio.current_time() + INSTANCES_WITHIN_S
    while True:
        missing = await _patiently(lambda: db.engine(store.select_instances_without, key.id))
        if not missing:
            return True
        if trio.current_time() > deadline:
            break
        await trio.sleep(0.2)
    text_of(
        f"these gateways run and do not hold the key {key.id}: {', '.join(missing)}",
        f"nothing was sealed under it. Put {file} in the place of their key file, restart those that read a copy made at their "
        "start (systemd's LoadCredential=), and run `gateway keys rotate` again: it goes on",
    )
    return False


async def _seal_all(work: store.Rotation, lock: store.OnlyRotation, old: list[str], text_of: Say) -> bool:
    left = 0
    for _ in range(PASSES):
        await lock.hold()
        left = await _patiently(work.run_pass)
        if work.lost:
            shown = [f"data key of tenant {tenant}: {why}" for tenant, why in sorted(work.lost.items())[:SHOWN]]
            text_of(*shown, f"{len(work.lost)} data keys do not open; {', '.join(old)} stays in the key file")
            return False
        if not left and await _patiently(
            lambda: work.db.engine(
                store.retire, work.master.current.id, old
            )  # the last look at what a key is needed for
        ):
            return True
        await trio.sleep(PAUSE_S)
    text_of(
        f"{left} rows are held by others, or are still written by a gateway that does not read its configuration; "
        f"{', '.join(old)} stays in the key file. Run `gateway keys rotate` again, it goes on"
    )
    return False


async def _verify(db: Database, alone: MasterKeys) -> None:
    """The new key by itself opens every data key. Raises Unsealable."""
    for tenant, wrapped in await db.engine(store.select_wrapped):
        alone.unwrap(tenant, wrapped)


def _print_damaged(work: store.Rotation, text_of: Say) -> None:
    places = sorted(place.replace("#", " ").strip() for place in work.damaged)
    if places:
        text_of(*[f"does not open, left as it is: {place}" for place in places[:SHOWN]])
        text_of(f"{len(places)} values did not open before either: changed, or copied from elsewhere; enter them anew")


async def _patiently(work: Callable[[], Awaitable[T]]) -> T:
    """A batch that was undone is done again; the database may be away for a while."""
    for _ in range(TRIES):
        try:
            return await work()
        except Unavailable:
            await trio.sleep(PAUSE_S)
    return await work()
