"""The files of chats: fetched from a messenger, or added by people to be sent. At most 20 MiB each.

What a file is, its bytes say (`gateway/domain/file_types.py`). How files are stored is `sealed_files.py`'s. Read
`gateway/store/chat_files.py` for the rows, `actors/chats/file_fetching.py` for fetching, `gateway/web/rest/files.py` for what
people do with them.
"""

from contextlib import suppress
from typing import cast
from uuid import UUID, uuid4

from gateway.domain.chats import LARGEST_FILE, FileKind
from gateway.domain.errors import Unavailable
from gateway.domain.file_types import clean_name, content_type, kind_of
from gateway.domain.ids import TenantId
from gateway.domain.recording_links import FILES_PATH, FILES_PURPOSE, Signer
from gateway.store import chat_files as rows
from gateway.store.chat_files import FileContent, FileFetch, OpenedFile
from gateway.store.files.sealed_files import Outcome, SealedFiles
from gateway.store.personal_data import Erased, erase_person
from gateway.store.postgres.errors import BadData
from gateway.store.postgres.pool import Connection
from gateway.store.recordings import BlobRow
from gateway.store.secrets.sealed_file import Sealed

MOST_UNSENT = 100
"""Files of one person, key or visitor that may wait to be sent."""


class TooManyUnsent(Exception):
    """So many files wait to be sent already."""


class ChatFiles(SealedFiles):
    """All files of chats of the installation."""

    largest = LARGEST_FILE

    def signer(self, tenant: TenantId) -> Signer:
        """Makes and judges the tenant's links to files. Raises Unavailable for a tenant that is not known (any more)."""
        return Signer(tenant, self.keys(tenant).derive(FILES_PURPOSE), FILES_PATH)

    async def add(
        self, tenant: TenantId, sealed: Sealed, name: str, created_by: str, wanted: FileKind | None = None
    ) -> OpenedFile:
        """Stores a file that is to be sent. Raises TooManyUnsent, Unavailable."""
        made = uuid4()

        async def arrive(conn: Connection, blob: BlobRow) -> Outcome:
            if await rows.count_unsent(conn, tenant, created_by) >= MOST_UNSENT:
                raise TooManyUnsent
            await rows.insert_file(conn, tenant, made, _content(blob, sealed, name, wanted), created_by)
            return "accepted"

        await self.store(tenant, sealed, arrive)
        found = await self.db.tenant(tenant, rows.select_opened_file, tenant, made)
        assert found is not None
        return found

    async def fill(self, fetch: FileFetch, sealed: Sealed) -> bool:
        """Gives a fetched file to the message it came with. False where that is gone, or another has fetched it."""
        filled = False

        async def arrive(conn: Connection, blob: BlobRow) -> Outcome:
            nonlocal filled
            content = _content(blob, sealed, fetch.name, cast(FileKind, fetch.kind))
            filled = await rows.fill_file(conn, fetch, content)
            return "accepted" if filled else "duplicate"

        await self.store(fetch.tenant, sealed, arrive)
        return filled

    async def erase(self, tenant: TenantId, contact: UUID, actor: str) -> Erased | None:
        """Erases a person with everything messengers brought of them, files too (`gateway/store/personal_data.py`). None where there
        is no such contact."""
        erased = await self.db.engine(erase_person, tenant, contact, actor)
        if erased is not None and erased.addresses:
            with suppress(Unavailable, BadData):  # else the janitor's, within two hours
                for name in await self.db.engine(rows.delete_unnamed_of, tenant, erased.addresses):
                    await self.blobs.delete(name)
        return erased

    async def find(self, tenant: TenantId, file: UUID) -> OpenedFile | None:
        """A stored file's row, or None."""
        return await self.db.tenant(tenant, rows.select_opened_file, tenant, file)


def _content(blob: BlobRow, sealed: Sealed, name: str, wanted: FileKind | None) -> FileContent:
    named = content_type(sealed.head, wanted or "file")
    kind = kind_of(named, wanted)
    return FileContent(blob=blob, kind=kind, name=clean_name(name, named, kind), content_type=named)
