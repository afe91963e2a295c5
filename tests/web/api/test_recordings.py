"""`/recordings/file/…`: ranges, validators, who may listen, and what is said while there is nothing to hear."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pytest
import trio

from gateway.domain.errors import Unavailable
from gateway.domain.events import Result
from gateway.domain.ids import TenantId
from gateway.store import recording_queue as work
from gateway.store.files.blobs import FolderBlobs
from gateway.store.files.recording_files import RecordingFiles
from gateway.web.http.file_answers import Span, read_range
from tests.sound import wav
from tests.web.conftest import SignIn, submitted
from tests.web.world import CSRF, JUNE, MAPLE, World, answered, ended, ringing

SOUND = wav(2.0)
LATER = timedelta(minutes=5)


class LinkStage:
    """An app with a shelf, and one call of June's that was recorded."""

    def __init__(self, world: World, recording_files: RecordingFiles) -> None:
        self.world, self.recording_files = world, recording_files
        self.app = world.app_with(recording_files=recording_files)
        self.id = recording_files.signer(JUNE).recording_id("7.1")

    def link(self, tenant: TenantId = JUNE, life: timedelta = LATER, recording: UUID | None = None) -> str:
        whole = self.recording_files.signer(tenant).link("", recording or self.id, datetime.now(UTC) + life)
        parts = urlsplit(whole)
        return f"{parts.path}?{parts.query}"

    async def get(self, path: str, method: str = "GET", **headers: str) -> Any:
        client: Any = self.app.test_client()  # its protocol wants a `json` that its client does not
        return await client.open(
            path, method=method, headers={name.replace("_", "-"): value for name, value in headers.items()}
        )


@pytest.fixture
async def stage(world: World, tmp_path: Path) -> LinkStage:
    blobs = FolderBlobs(tmp_path / "recordings", trio.CapacityLimiter(4))
    recording_files = RecordingFiles(world.db, blobs, tmp_path / "incoming", world.cache.sealer)
    recording_files.clean_spool()
    first = ringing(world.call_id(), datetime.now(UTC) - timedelta(seconds=30), "+375291110000", "100", ["150"])
    object.__setattr__(first, "call_id", "7.1")
    await world.keep(JUNE, [first, answered(first, "150"), ended(first, 10, Result.ANSWERED, "150")])
    stage = LinkStage(world, recording_files)
    await keep(stage, SOUND)
    return stage


async def keep(stage: LinkStage, data: bytes, call: str = "7.1", tenant: TenantId = JUNE, name: str = "a.wav") -> None:
    async with await stage.recording_files.new_file() as incoming:
        await incoming.write(data)
        assert await stage.recording_files.keep(tenant, await incoming.finish(name), call, [], name) == "accepted"


async def test_the_whole_of_it(stage: LinkStage) -> None:
    answer = await stage.get(stage.link())
    assert (answer.status_code, await answer.get_data()) == (200, SOUND)
    headers = answer.headers
    assert headers["Content-Type"] == "audio/wav"
    assert headers["Content-Length"] == str(len(SOUND))
    assert headers["Accept-Ranges"] == "bytes"
    assert headers["Cache-Control"] == "private, no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Disposition"] == 'inline; filename="7.1.wav"'
    assert headers["Cross-Origin-Resource-Policy"] == "cross-origin"


async def test_head_says_the_same_without_the_sound(stage: LinkStage) -> None:
    answer = await stage.get(stage.link(), "HEAD", Range="bytes=0-9")
    assert (answer.status_code, await answer.get_data()) == (200, b"")
    assert answer.headers["Content-Type"] == "audio/wav"


@pytest.mark.parametrize(
    ("requested", "start", "end"),
    [("bytes=0-0", 0, 1), ("bytes=100-199", 100, 200), ("bytes=100-", 100, None), ("bytes=-50", -50, None),
     ("bytes=0-999999999", 0, None)],
)  # fmt: skip
async def test_ranges(stage: LinkStage, requested: str, start: int, end: int | None) -> None:
    answer = await stage.get(stage.link(), Range=requested)
    body = await answer.get_data()
    assert (answer.status_code, body) == (206, SOUND[start:end])
    first = start if start >= 0 else len(SOUND) + start
    assert answer.headers["Content-Range"] == f"bytes {first}-{first + len(body) - 1}/{len(SOUND)}"


@pytest.mark.parametrize("requested", ["bytes=0-1,5-9", "bytes=9-1", "lines=1-2", "bytes=a-b", "bytes=", "bytes=--5"])
async def test_what_is_no_single_range_is_answered_as_a_whole(stage: LinkStage, requested: str) -> None:
    answer = await stage.get(stage.link(), Range=requested)
    assert (answer.status_code, await answer.get_data()) == (200, SOUND)


async def test_outside_the_file(stage: LinkStage) -> None:
    for requested in (f"bytes={len(SOUND)}-", "bytes=-0"):
        answer = await stage.get(stage.link(), Range=requested)
        assert answer.status_code == 416
        assert answer.headers["Content-Range"] == f"bytes */{len(SOUND)}"


async def test_validators(stage: LinkStage) -> None:
    first = await stage.get(stage.link())
    etag, stamp = first.headers["ETag"], first.headers["Last-Modified"]
    assert (await stage.get(stage.link(), If_None_Match=etag)).status_code == 304
    for validator, status in (
        (etag, 206),
        (stamp, 206),
        ('"another"', 200),
        ("Fri, 24 May 2013 00:00:00 GMT", 200),
        ("x", 200),
    ):
        assert (await stage.get(stage.link(), Range="bytes=0-9", If_Range=validator)).status_code == status


def test_spans() -> None:
    assert read_range("", 10) == Span(0, 10, False)
    assert read_range("bytes=-100", 10) == Span(0, 10, True)
    assert read_range("bytes=10-", 10) is None


async def test_a_link_that_is_not_good_is_refused_with_the_same_words(stage: LinkStage, sign_in: SignIn) -> None:
    await keep(stage, SOUND, "8.1", MAPLE)
    good = stage.link()
    bad = {
        "expired": stage.link(life=timedelta(seconds=-1)),
        "forged": good[:-3] + "xxx",
        "unsigned": good.partition("&signature")[0],
        "unlimited": good.replace("expires", "expired"),
        "another tenant's": stage.link(MAPLE),
        "relabelled": good.replace("tenant=0367", "tenant=0368"),
        "of nobody": good.replace("tenant=0367", "tenant=9999"),
        "for what does not exist": stage.link(MAPLE, recording=UUID(int=1)).replace("tenant=0368", "tenant=0367"),
    }
    for name, path in bad.items():
        answer = await stage.get(path)
        assert answer.status_code in (403, 404), name
        assert answer.headers["Content-Type"] == "application/problem+json", name
    words = {name: await (await stage.get(path)).get_data() for name, path in bad.items() if name != "another tenant's"}
    assert len(set(words.values())) == 1, "and the words do not say why"
    signed_in = await sign_in(JUNE)
    signed_in.app = stage.app
    assert (await signed_in.get(bad["expired"])).status_code == 403, "a session does not mend a link"


@pytest.mark.parametrize("path", ["x", "..%2f..%2fetc", "00000000-0000-0000-0000-000000000000 ", "{id}x"])
async def test_what_is_no_id_is_nowhere(stage: LinkStage, path: str) -> None:
    assert (await stage.get(f"/recordings/file/{path}")).status_code == 404


async def test_a_session_hears_its_own_and_no_other(stage: LinkStage, sign_in: SignIn) -> None:
    path = f"/recordings/file/{stage.id}"
    assert (await stage.get(path)).status_code == 401
    for who, acting, status in ((JUNE, None, 200), (MAPLE, None, 404), (None, None, 404), (None, JUNE, 200)):
        client = await sign_in(who, acting=acting)
        client.app = stage.app
        answer = await client.get(path)
        assert answer.status_code == status, who
        if status == 404:
            missing = await client.get(f"/recordings/file/{UUID(int=5)}")
            assert await missing.get_data() == await answer.get_data()


async def test_before_the_file_is_there(stage: LinkStage) -> None:
    await stage.recording_files.ask_for(JUNE, "https://pbx.example/1.wav", "9.1", [])
    answer = await stage.get(stage.link(recording=stage.recording_files.signer(JUNE).recording_id("9.1")))
    assert answer.status_code == 404
    assert int(answer.headers["Retry-After"]) > 0
    nothing = await stage.get(stage.link(recording=UUID(int=9)))
    assert nothing.status_code == 404
    assert "Retry-After" not in nothing.headers


async def test_what_is_no_sound_is_never_shown(stage: LinkStage) -> None:
    await keep(stage, b"<html><script>alert(1)</script>", "7.2", name="x.html")
    answer = await stage.get(stage.link(recording=stage.recording_files.signer(JUNE).recording_id("7.2")))
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Content-Disposition"].startswith("attachment")


async def test_a_file_that_was_changed_is_not_played(stage: LinkStage, tmp_path: Path, expected_errors: None) -> None:
    (file,) = [path for path in (tmp_path / "recordings").rglob("*") if path.is_file()]
    data = bytearray(file.read_bytes())
    data[200] ^= 1
    file.write_bytes(data)
    answer = await stage.get(stage.link())
    assert answer.status_code == 500
    assert b"RIFF" not in await answer.get_data()


async def test_a_store_that_is_away_is_told_as_a_problem(stage: LinkStage, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(name: str, start: int, length: int) -> bytes:
        raise Unavailable("away")

    monkeypatch.setattr(stage.recording_files.blobs, "read", away)
    answer = await stage.get(stage.link())
    assert (answer.status_code, answer.headers["Content-Type"]) == (503, "application/problem+json")


async def test_the_page_has_a_player_a_link_and_an_audit_row(stage: LinkStage, sign_in: SignIn) -> None:
    client = await sign_in(JUNE)
    client.app = stage.app
    page = await (await client.get("/t/0367/calls/7.1")).get_data(as_text=True)
    assert f'src="/recordings/file/{stage.id}' in page
    assert 'data-seek="' in page
    assert "media-src 'self'" in (await client.get("/t/0367/calls/7.1")).headers["Content-Security-Policy"]
    page = await submitted(client, f"/t/0367/recordings/{stage.id}/link", {"csrf": CSRF})
    assert "signature=" in page
    text = await (
        await client.post(f"/t/0367/recordings/{stage.id}/link", form={"csrf": CSRF}, headers={"X-Fragment": "1"})
    ).get_data(as_text=True)
    parts = urlsplit(text)
    assert (await stage.get(f"{parts.path}?{parts.query}")).status_code == 200
    rows = await stage.world.db.engine(lambda conn: conn.fetch("SELECT action, actor FROM audit"))
    assert [row["action"] for row in rows] == ["recording.linked"] * 2
    assert "heard" in await (await client.get("/t/0367/calls")).get_data(as_text=True)


async def test_a_failed_one_says_why_and_can_be_tried_again(stage: LinkStage, sign_in: SignIn) -> None:
    first = ringing(stage.world.call_id(), datetime.now(UTC), "+375291110000", "100", ["150"])
    await stage.world.keep(JUNE, [first, ended(first, 5, Result.MISSED)])
    secret_url = "https://pbx.example/1.wav?key=hush"
    await stage.recording_files.ask_for(JUNE, secret_url, first.call_id, [])
    (fetch,) = await stage.world.db.engine(work.claim_fetches, 1, 1, 60.0)
    await stage.world.db.engine(work.fail_fetch, fetch, "refused", "status 403", None)
    client = await sign_in(JUNE)
    client.app = stage.app
    page = await (await client.get(f"/t/0367/calls/{first.call_id}")).get_data(as_text=True)
    assert "refused the request" in page
    assert "hush" not in page
    again = await client.post(f"/t/0367/recordings/{fetch.recording_id}/retry", form={"csrf": CSRF})
    assert again.status_code == 303
    page = await (await client.get(f"/t/0367/calls/{first.call_id}")).get_data(as_text=True)
    assert "in a moment" in page
