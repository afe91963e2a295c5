"""`gateway contact export` and `gateway contact erase`: one person's data, whether or not a gateway runs.

A person is named by the contact's id or a telephone number of theirs. Read `gateway/store/personal_export.py` for what is theirs.
"""

import os
import sys
import zipfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import trio

from gateway.cli.api_keys import ACTOR
from gateway.domain.ids import TenantId
from gateway.resources import open_blobs
from gateway.settings import Settings
from gateway.store import contacts
from gateway.store.files.chat_files import ChatFiles
from gateway.store.personal_data import select_contacts_by_phone
from gateway.store.personal_export import export_person, person_files
from gateway.store.postgres.pool import Database
from gateway.store.secrets.seal import MasterKeys
from gateway.store.tenants import select_tenants

Say = Callable[..., None]


async def export(
    settings: Settings, db: Database, master: MasterKeys, number: TenantId, who: str, to: Path | None, text_of: Say
) -> int:  # fmt: skip
    """Writes a person's data into a new folder, or a zip where `to` ends so. Returns the exit code."""
    contact = await _find(db, number, who, text_of)
    if contact is None:
        return 1
    target = to or Path(f"contact-{contact}")
    if await trio.Path(target).exists():
        text_of(f"{target} is there already: name another place by --to")
        return 1
    async with _files(settings, db, master, number) as files:
        data = await db.tenant(number, export_person, number, contact, ACTOR, files.keys(number))
        assert data is not None
        count = -1  # the description of the others is no file of the person's
        with _Target(target) as into:
            async for name, content in person_files(files, number, data, trio.CapacityLimiter(1)):
                into.write(name, content)
                count += 1
    said = sum(len(one["messages"]) for one in data["conversations"])
    print(
        f"{target}: {len(data['conversations'])} conversations, {said} messages, {count} files, {len(data['orders'])} orders, "
        f"{len(data['calls'])} texts of calls"
    )
    return 0


async def erase(
    settings: Settings, db: Database, master: MasterKeys, number: TenantId, who: str, sure: bool, text_of: Say
) -> int:  # fmt: skip
    """Erases a person for good. Returns the exit code."""
    contact = await _find(db, number, who, text_of)
    if contact is None:
        return 1
    if not sure:
        print(
            f"Contact {contact} of {number} will be erased: name, numbers, conversations, messages, files, orders and texts of calls with "
            "their confirmed numbers. Calls and recordings stay. This cannot "
            "be undone.\nType yes to go on: ",
            end="", flush=True,
        )  # fmt: skip
        if (await trio.to_thread.run_sync(sys.stdin.readline)).strip() != "yes":
            text_of("nothing was erased")
            return 1
    async with _files(settings, db, master, number) as files:
        erased = await files.erase(number, contact, ACTOR)
    if erased is None:
        text_of(f"no contact {who}")
        return 1
    print(
        f"contact {contact}: erased, with {erased.conversations} conversations, {erased.messages} messages, {erased.files} files, "
        f"{erased.orders} orders, {erased.transcripts} texts of calls"
    )
    return 0


async def _find(db: Database, number: TenantId, who: str, text_of: Say) -> UUID | None:
    if not await db.engine(select_tenants, [number]):
        text_of(f"no tenant {number}")
        return None
    try:
        found = await db.tenant(number, contacts.select_contact, number, UUID(who))
        people = [found.id] if found is not None else []
    except ValueError:
        people = await db.engine(select_contacts_by_phone, number, who)
    if len(people) > 1:
        text_of(f"several contacts have {who}: name one by its id: {', '.join(map(str, people))}")
        return None
    if not people:
        text_of(f"no contact {who}: give its id, or its number as +375296254070")
        return None
    return people[0]


@asynccontextmanager
async def _files(settings: Settings, db: Database, master: MasterKeys, number: TenantId) -> AsyncIterator[ChatFiles]:
    (row,) = await db.engine(select_tenants, [number])
    await master.prepare([(number, row.data_key)])
    sealer = master.sealer(number, row.data_key)
    async with open_blobs(settings) as blobs:
        yield ChatFiles(db, blobs, settings.data_dir / "incoming", {number: sealer}.get)


class _Target:
    """A folder or a zip, readable by its owner alone."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._zip: zipfile.ZipFile | None = None

    def __enter__(self) -> "_Target":
        if self._path.suffix == ".zip":
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            self._zip = zipfile.ZipFile(os.fdopen(fd, "wb"), "w", zipfile.ZIP_DEFLATED)
        else:
            self._path.mkdir(mode=0o700, parents=True)
        return self

    def write(self, name: str, data: bytes) -> None:
        """One file."""
        if self._zip is not None:
            self._zip.writestr(name, data)
            return
        place = self._path / name
        place.parent.mkdir(mode=0o700, exist_ok=True)
        fd = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(data)

    def __exit__(self, *_: object) -> None:
        if self._zip is not None:
            under = self._zip.fp
            self._zip.close()
            if under is not None:
                under.close()
