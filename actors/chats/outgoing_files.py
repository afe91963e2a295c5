"""The files of messages that go out, as an integration's client reads them: piece by piece, or by a public address.

Implements `adapters.channel.OutgoingFiles` for one tenant. Read `gateway/store/files/chat_files.py` for the files.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from gateway.domain.errors import BadSettings, Rejected
from gateway.domain.ids import TenantId
from gateway.domain.reasons import reason
from gateway.domain.recording_links import FILES_LIFE
from gateway.store.files.blobs import Missing
from gateway.store.files.chat_files import ChatFiles
from gateway.store.files.sealed_files import Pieces
from gateway.store.postgres.errors import Unsealable


@dataclass(frozen=True, slots=True)
class TenantFiles:
    """The files of one tenant."""

    files: ChatFiles
    tenant: TenantId
    public_url: str
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def pieces(self, file: str) -> "_Plain":
        """The plain bytes. Raises Unavailable; Rejected where the file is gone."""
        return _Plain(self, UUID(file))

    def address(self, file: str) -> str:
        """A link for an hour. Raises BadSettings, Unavailable."""
        if not self.public_url.startswith("https://"):
            raise BadSettings(
                reason("no_https"),
                person="This messenger fetches files from a public https address, and the installation has none (PUBLIC_URL).",
            )
        return self.files.signer(self.tenant).link(self.public_url.rstrip("/"), UUID(file), self.now() + FILES_LIFE)


class _Plain:
    """The pieces of one file, opened at the first. No generator: a request that fails leaves it halfway."""

    def __init__(self, files: TenantFiles, file: UUID) -> None:
        self._files, self._file = files, file
        self._pieces: Pieces | None = None

    def __aiter__(self) -> "_Plain":
        return self

    async def __anext__(self) -> bytes:
        try:
            if self._pieces is None:
                self._pieces = await self._open()
            return await anext(self._pieces)
        except (Unsealable, Missing):
            failure = Rejected("the file does not open any more")
        raise failure

    async def _open(self) -> Pieces:
        files, tenant = self._files.files, self._files.tenant
        found = await files.find(tenant, self._file)
        if found is None:
            raise Rejected("the file is gone")
        opened = await files.open(tenant, found.blob)
        return opened.read(0, opened.size)
