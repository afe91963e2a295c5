"""What clients are told of a recording behind a link: there, not yet, or never."""

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest

from actors.calls.handed_recordings import TenantRecordings
from gateway.domain.errors import NotYet, Rejected
from gateway.domain.ids import TenantId
from gateway.store.recordings import select_opened

JUNE, ONE = TenantId("0367"), UUID(int=7)
LINK = f"https://gw.example/recordings/file/{ONE}?tenant=0367&expires=1&signature=x"


class Rows:
    """The row of one recording."""

    def __init__(self, **row: Any) -> None:
        self.row = SimpleNamespace(**row) if row else None
        self.asked: list[tuple[TenantId, UUID]] = []

    async def tenant(self, tenant: TenantId, work: Any, *args: Any) -> Any:
        self.asked.append((tenant, args[1]))
        return self.row


def recordings(rows: Rows) -> TenantRecordings:
    return TenantRecordings(cast(Any, SimpleNamespace(db=rows)), JUNE)


async def test_a_stored_one_has_its_type() -> None:
    rows = Rows(state="stored", content_type="audio/mpeg", problem="")
    assert await recordings(rows).content_type(LINK) == "audio/mpeg"
    assert rows.asked == [(JUNE, ONE)], "of this company alone"


@pytest.mark.parametrize("state", ["expected", "fetching"])
async def test_one_that_is_awaited_is_not_there_yet(state: str) -> None:
    with pytest.raises(NotYet):
        await recordings(Rows(state=state, content_type="", problem="")).content_type(LINK)


async def test_one_that_will_not_come() -> None:
    with pytest.raises(Rejected, match="never_came"):
        await recordings(Rows(state="failed", content_type="", problem="never_came")).content_type(LINK)
    with pytest.raises(Rejected, match="gone"):
        await recordings(Rows()).content_type(LINK)


@pytest.mark.parametrize(
    "link", ["", "https://gw.example/", "https://gw.example/recordings/file/x", "/recordings/file/"]
)
async def test_what_is_no_link_of_ours(link: str) -> None:
    rows = Rows()
    with pytest.raises(Rejected, match="no recording of ours"):
        await recordings(rows).content_type(link)
    assert rows.asked == []


class Opened:
    """A file that opens."""

    size = 6

    async def read(self, start: int, end: int) -> AsyncIterator[bytes]:
        for piece in (b"RIF", b"Fxy"):
            yield piece


class Files(Rows):
    """A stored recording with its file."""

    async def tenant(self, tenant: TenantId, work: Any, *args: Any) -> Any:
        found = await super().tenant(tenant, work, *args)
        return (found, "blob") if work is select_opened else found

    async def open(self, tenant: TenantId, blob: str) -> Opened:
        assert (tenant, blob) == (JUNE, "blob")
        return Opened()


async def test_the_sound_itself_is_given_where_it_is_not_too_large() -> None:
    files = Files(state="stored", content_type="audio/wav", problem="", recording_id=ONE)
    made = TenantRecordings(cast(Any, SimpleNamespace(db=files, open=files.open)), JUNE)
    assert await made.content(LINK, 6) == b"RIFFxy"
    assert await made.content(LINK, 5) is None
    with pytest.raises(NotYet):
        await recordings(Rows(state="expected", content_type="", problem="")).content(LINK, 6)
