"""The text of a call on its page: what was said and its summary, why there is none, whose it is to read; and found by its words."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import trio

from actors.connections import TRANSCRIPTS
from actors.runtime.directory import Slot
from gateway.domain.events import Result
from gateway.domain.health import State
from gateway.domain.people import Role
from gateway.domain.secret import Secret
from gateway.domain.transcripts import WORDS_PURPOSE, Segment, hashed, packed
from gateway.store import call_transcripts as store
from gateway.store.files.blobs import FolderBlobs
from gateway.store.files.recording_files import RecordingFiles
from gateway.store.postgres.pool import Connection
from tests.sound import wav
from tests.web.conftest import SignIn
from tests.web.world import CSRF, JUNE, World, answered, ended, ringing

SAID = (
    Segment(1, 0.0, 1.0, "Пиццерия, <b>добрый</b> день."),
    Segment(2, 65.0, 66.5, "Хочу заказать две маргариты."),
)
SUMMARY = "Клиент хотел две пиццы.\nДальше: <script>перезвонить</script>"


class Stage:
    """One call with a recording, and its text as the test wants it."""

    def __init__(self, world: World, call_id: str, recording: UUID) -> None:
        self.world, self.call_id, self.recording = world, call_id, recording
        self.page = f"/t/{JUNE}/calls/{call_id}"

    async def set(self, **columns: Any) -> None:
        keys = self.world.cache.sealer(JUNE)
        assert keys is not None
        for name in ("body", "summary"):
            if columns.get(name):
                columns[name] = keys.seal(
                    Secret(columns[name]), table=store.TABLE, column=name, row=str(self.recording)
                )

        async def save(conn: Connection) -> None:
            if text := columns.pop("said", ""):
                columns["words"] = hashed(await store.select_lexemes(conn, text), keys.derive(WORDS_PURPOSE))
            await conn.execute(
                "INSERT INTO call_transcripts (tenant_id, recording_id) VALUES ($1, $2) ON CONFLICT DO NOTHING",
                JUNE,
                self.recording,
            )
            for name, value in columns.items():
                await conn.execute(
                    f"UPDATE call_transcripts SET {name} = $3 WHERE tenant_id = $1 AND recording_id = $2",
                    JUNE,
                    self.recording,
                    value,
                )

        await self.world.db.engine(save)

    async def switch(self, **calls: Any) -> None:
        options = json.dumps({"ai": {"calls": {"transcribe": True, **calls}}})

        async def save(conn: Connection) -> None:
            await conn.execute("UPDATE tenants SET options = options || $2::jsonb WHERE tenant_id = $1", JUNE, options)

        await self.world.db.engine(save)
        await self.world.cache.load()


@pytest.fixture
async def stage(world: World, tmp_path: Path) -> Stage:
    files = RecordingFiles(
        world.db, FolderBlobs(tmp_path / "recordings", trio.CapacityLimiter(4)), tmp_path / "in", world.cache.sealer
    )
    files.clean_spool()
    call = ringing(world.call_id(), datetime.now(UTC) - timedelta(minutes=1), "+375291110000", "100", ["150", "153"])
    await world.keep(JUNE, [call, answered(call, "150"), ended(call, 10, Result.ANSWERED, "150")])
    async with await files.new_file() as incoming:
        await incoming.write(wav(2.0))
        await files.keep(JUNE, await incoming.finish("a.wav"), call.call_id, [], "a.wav")
    return Stage(world, call.call_id, files.signer(JUNE).recording_id(call.call_id))


async def text_of(client: Any, path: str, **query: str) -> str:
    answer = await client.get(path, **({"query_string": query} if query else {}))
    assert answer.status_code == 200
    return str(await answer.get_data(as_text=True))


async def test_what_was_said_and_its_summary(stage: Stage, sign_in: SignIn) -> None:
    await stage.switch(first_channel="employee", consent={"ru": "Мы говорим в начале", "en": "We say so first"})
    await stage.set(
        state="done", body=packed(SAID), summary=SUMMARY, transcribed_at=datetime.now(UTC), model="whisper-1"
    )
    page = await text_of(await sign_in(JUNE), stage.page)
    source = f"/recordings/file/{stage.recording}?tenant={JUNE}"
    assert f'<a href="{source}#t=65.0" data-seek="65.0" aria-label="Play from 1:05">1:05</a>' in page
    assert "<strong>Employee:</strong> Пиццерия, &lt;b&gt;добрый&lt;/b&gt; день." in page
    assert "<strong>Client:</strong> Хочу заказать две маргариты." in page
    assert "<p>Клиент хотел две пиццы.</p><p>Дальше: &lt;script&gt;перезвонить&lt;/script&gt;</p>" in page
    assert "We say so first" in page
    assert "whisper-1" in page
    assert f"/t/{JUNE}/transcripts/" not in page, "nothing to ask for again"
    page = await text_of(await sign_in(JUNE, "ru"), stage.page)
    assert "<strong>Клиент:</strong>" in page
    assert "Мы говорим в начале" in page


@pytest.mark.parametrize(
    ("row", "said", "retries"),
    [
        ({"state": "waiting"}, "will be transcribed in a moment", False),
        ({"state": "waiting", "lease_until": datetime.now(UTC) + timedelta(hours=1), "reached_s": 61.0}, "is being transcribed", False),
        ({"state": "waiting", "problem": "unavailable"}, "The server for it cannot be reached", True),
        ({"state": "waiting", "problem": "used_up_audio"}, "goes on tomorrow", True),
        ({"state": "failed", "problem": "format"}, "Servers for transcription do not take files of this kind", True),
        ({"state": "skipped", "problem": "too_short"}, "The call was too short.", False),
        ({"state": "erased"}, "erased with the person", False),
        ({"state": "done", "body": "[]", "transcribed_at": datetime.now(UTC)}, "Nobody speaks in this recording", False),
        ({"state": "done", "body": packed(SAID), "problem": "summary_empty"}, "The language model made no summary.", True),
    ],
)  # fmt: skip
async def test_why_there_is_none(stage: Stage, sign_in: SignIn, row: dict[str, Any], said: str, retries: bool) -> None:
    await stage.switch()
    await stage.set(**row)
    client = await sign_in(JUNE)
    page = await text_of(client, stage.page)
    assert said in page
    assert "have to be told" in page, "no consent is entered"
    action = f"/t/{JUNE}/transcripts/{stage.recording}/retry"
    assert (action in page) is retries
    if retries:
        answer = await client.post(action, form={"csrf": CSRF})
        assert (answer.status_code, answer.headers["Location"].partition("?")[0]) == (303, stage.page)
        page = await text_of(client, answer.headers["Location"])
        assert "The text will be made again." in page
        rows = await stage.world.db.tenant(JUNE, store.select_transcripts, JUNE, stage.call_id)
        assert [(one.state, one.problem) for one in rows] == [("waiting", "")]


async def test_what_does_not_open_is_said(stage: Stage, sign_in: SignIn) -> None:
    await stage.set(state="done", body=packed(SAID))
    await stage.set(summary_model="x")

    async def swap(conn: Connection) -> None:
        await conn.execute("UPDATE call_transcripts SET summary = body")

    await stage.world.db.engine(swap)
    assert "does not open with the keys" in await text_of(await sign_in(JUNE), stage.page)


async def test_it_is_read_and_found_by_those_who_may_hear_it(stage: Stage, sign_in: SignIn) -> None:
    await stage.set(state="done", body=packed(SAID), said="Хочу заказать две маргариты")
    home = f"/t/{JUNE}/search"
    found = f'id="call-{stage.call_id}"'
    assert found in await text_of(await sign_in(JUNE), home, q="маргарита")
    assert found in await text_of(await sign_in(JUNE, "ru"), home, q="заказали МАРГАРИТУ")
    assert found not in await text_of(await sign_in(JUNE), home, q="маргарита пепперони")
    for email, extension, hears in (("anna@june.example", "150", True), ("ivan@june.example", "153", False)):
        agent = stage.world.app.test_client()
        agent.set_cookie("localhost", "session", await stage.world.person(JUNE, email, Role.AGENT, [extension]))
        assert ("маргариты" in await text_of(agent, stage.page)) is hears
        assert (found in await text_of(agent, home, q="маргарита")) is hears
        refused = await agent.post(f"/t/{JUNE}/transcripts/{stage.recording}/retry", form={"csrf": CSRF})
        assert refused.status_code == 403


async def test_a_server_that_is_down_is_on_every_page(stage: Stage, sign_in: SignIn) -> None:
    slot = Slot(f"tenant/{JUNE}{TRANSCRIPTS}", "June")
    stage.world.directory.add(slot)
    slot.report(State.DEGRADED, "transcripts_failing", "unavailable")
    page = await text_of(await sign_in(JUNE), f"/t/{JUNE}/integrations")
    assert "The server that makes texts of calls does not answer." in page
    assert "Look whether the server of ai.calls" in page
    slot.report(State.ONLINE)
    assert "The server that makes texts" not in await text_of(await sign_in(JUNE), f"/t/{JUNE}/integrations")
