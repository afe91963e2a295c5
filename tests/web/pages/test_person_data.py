"""One person's data by hand: all of it as an archive, or gone for good; by admins alone, and never without a trace in the audit."""

import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
import trio

from gateway.domain.people import Role
from gateway.store import contacts, conversations, messages
from gateway.store.audit import select_audit
from gateway.store.files.chat_files import ChatFiles
from gateway.store.postgres.pool import Connection
from gateway.web.app import create_app
from tests.web.chats import connect, receives
from tests.web.conftest import SignIn, submitted
from tests.web.pages.test_inbox import as_person, text_of, wrote
from tests.web.world import CSRF, JUNE, MAPLE, World, chat_files

HOME = f"/t/{JUNE}/customers"
PNG = bytes.fromhex("89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489") + b"\0" * 1000


async def person(world: World) -> UUID:
    await connect(world)
    await receives(
        world, wrote("the red one, please", person={"name": "Анна"}), wrote("or the blue one", number=2, at=1.0)
    )
    (anna,) = await world.db.tenant(JUNE, contacts.search_contacts, JUNE, "", 10)
    return anna.id


async def add_file(world: World, files: ChatFiles, name: str = "чек/1.png") -> UUID:
    """A stored file that came with the first message of the only conversation."""
    files.clean_spool()
    (seen,) = await world.db.tenant(JUNE, conversations.select_conversations, JUNE, conversations.Filters(), 10)
    first = (await world.db.tenant(JUNE, messages.select_messages, JUNE, seen.conversation.id, 10))[0]
    async with await files.new_file() as incoming:
        await incoming.write(PNG)
        found = await files.add(JUNE, await incoming.finish(name), name, "human:1")
    await world.db.engine(_attach, found.file_id, first.id, name)
    return found.file_id


async def _attach(conn: Connection, file: UUID, message: UUID, name: str) -> None:
    await conn.execute("UPDATE chat_files SET message_id = $2, name = $3 WHERE file_id = $1", file, message, name)


async def audit(world: World) -> list[tuple[str, str]]:
    return [(one.action, one.actor) for one in await world.db.tenant(JUNE, select_audit, JUNE, None, 50)]


async def test_everything_of_a_person_is_handed_out(world: World, sign_in: SignIn, tmp_path: Path) -> None:
    contact, files = await person(world), chat_files(world.db, world.cache, tmp_path)
    file, gone = await add_file(world, files), await add_file(world, files, "gone.png")
    world.app = create_app(replace(world.deps, chat_files=files))
    client = await sign_in()
    assert f'href="{HOME}/{contact}/export"' in await text_of(client, f"{HOME}/{contact}")
    found = await files.find(JUNE, gone)
    assert found is not None
    await world.db.engine(_lose, gone)
    assert (await client.head(f"{HOME}/{contact}/export")).status_code == 200
    assert await audit(world) == [], "nobody has taken anything yet"
    answer = await client.get(f"{HOME}/{contact}/export")
    assert (answer.status_code, answer.content_type) == (200, "application/zip")
    assert answer.headers["Content-Disposition"] == f'attachment; filename="customer-{contact}.zip"'
    assert answer.headers["Cache-Control"] == "no-store"
    with zipfile.ZipFile(io.BytesIO(bytes(await answer.get_data(as_text=False)))) as archive:
        assert archive.testzip() is None
        data = json.loads(archive.read("contact.json"))
        (path,) = [name for name in archive.namelist() if name != "contact.json"]
        assert path == f"files/{file}-чек-1.png", "a name leads to no other folder"
        assert archive.read(path) == PNG
    (conversation,) = data["conversations"]
    assert [one["text"] for one in conversation["messages"]] == ["the red one, please", "or the blue one"]
    assert [one["path"] for one in conversation["messages"][0]["files"]] == [path, None]
    assert data["name"] == "Анна"
    assert await audit(world) == [("contact.exported", f"admin@{JUNE}.example")]


async def _lose(conn: Connection, file: UUID) -> None:
    await conn.execute("UPDATE chat_files SET address = NULL, state = 'failed' WHERE file_id = $1", file)


async def test_a_person_is_erased_when_somebody_is_sure(world: World, sign_in: SignIn) -> None:
    contact, client = await person(world), await sign_in()
    page = await text_of(client, f"{HOME}/{contact}/erase")
    assert "Erase Анна with everything" in page
    answer = await client.post(f"{HOME}/{contact}/erase", form={"csrf": CSRF})
    assert (answer.status_code, answer.headers["Location"]) == (303, f"{HOME}/{contact}/erase")
    assert len(await world.db.tenant(JUNE, contacts.search_contacts, JUNE, "", 10)) == 1
    with world.feed.subscribe(JUNE) as feed:
        page = await submitted(client, f"{HOME}/{contact}/erase", {"csrf": CSRF, "sure": "1"})
        with trio.fail_after(1):
            assert (await feed.changed())[0][0].id == str(contact), "open pages look again"
    assert "The customer is erased." in page
    assert await world.db.tenant(JUNE, contacts.search_contacts, JUNE, "", 10) == []
    assert await world.db.tenant(JUNE, conversations.select_conversations, JUNE, conversations.Filters(), 10) == []
    for path in ("", "/erase", "/export"):
        await text_of(client, f"{HOME}/{contact}{path}", 404)
    assert (await client.post(f"{HOME}/{contact}/erase", form={"csrf": CSRF, "sure": "1"})).status_code == 404
    assert await audit(world) == [("contact.erased", f"admin@{JUNE}.example")]
    await receives(world, wrote("me again", number=3))
    assert len(await world.db.tenant(JUNE, contacts.search_contacts, JUNE, "", 10)) == 1, (
        "who writes again is somebody new"
    )


@pytest.mark.parametrize("role", [Role.AGENT, Role.AUDITOR])
async def test_admins_alone(world: World, role: Role) -> None:
    contact, client = await person(world), await as_person(world, "x@june.example", role)
    assert "/export" not in await text_of(client, f"{HOME}/{contact}")
    for path in ("export", "erase"):
        assert (await client.get(f"{HOME}/{contact}/{path}")).status_code == 403
    assert (await client.post(f"{HOME}/{contact}/erase", form={"csrf": CSRF, "sure": "1"})).status_code == 403
    assert await audit(world) == []


async def test_another_company_s_admin_gets_nothing(world: World, sign_in: SignIn) -> None:
    contact, other = await person(world), await sign_in(MAPLE)
    for path in ("export", "erase"):
        await text_of(other, f"/t/{MAPLE}/customers/{contact}/{path}", 404)
    answer = await other.post(f"/t/{MAPLE}/customers/{contact}/erase", form={"csrf": CSRF, "sure": "1"})
    assert answer.status_code == 404
    assert len(await world.db.tenant(JUNE, contacts.search_contacts, JUNE, "", 10)) == 1


async def test_in_russian(world: World, sign_in: SignIn) -> None:
    contact, client = await person(world), await as_person(world, "vera@june.example", Role.ADMIN, "ru")
    assert "Удалить клиента «Анна» со всем, что было написано?" in await text_of(client, f"{HOME}/{contact}/erase")
