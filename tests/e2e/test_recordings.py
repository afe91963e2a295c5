"""Recordings from end to end: announced at the hangup, sent or fetched, heard in a real browser, refused to others; and
what a gateway leaves behind that is killed in the middle of an upload."""

import base64
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import httpx2
import pytest
import trio
from playwright.sync_api import Browser, BrowserContext, expect, sync_playwright

from gateway.domain.ids import TenantId
from gateway.domain.recording_links import PURPOSE, Signer
from gateway.store.secrets.seal import parse_master_keys
from tests.e2e.test_browser import CHROMIUM, FLAGS, browse, open_page
from tests.e2e.test_kill import requested, started
from tests.e2e.world import World, open_world
from tests.sandbox.web import Request, Response, Site
from tests.sound import wav

pytestmark = [pytest.mark.long]

CALL = "1795219998.3600"
ANSWERED = {"CallerIDNum": "+375296254070", "Extensions": ["150"], "CallType": 0, "Trunk": "trunk-0001"}
CANARY = b"the sound of a secret"


async def upload(world: World, data: bytes, call: str = CALL, **fields: str) -> httpx2.Response:
    form = {"Token": world.token, "UniqueId": call, **fields}
    async with httpx2.AsyncClient(trust_env=False, timeout=30) as client:
        return await client.post(f"{world.url}/download", data=form, files={"file": (f"{call}.wav", data, "audio/wav")})


async def get(url: str, **headers: str) -> httpx2.Response:
    async with httpx2.AsyncClient(trust_env=False, timeout=10) as client:
        return await client.get(url, headers=headers)


async def posted_call(world: World, **more: Any) -> str:
    """An answered call that hosts post; its link as the CRM was told."""
    for address in ("/dial", "/bridge", "/hangup"):
        fields = ANSWERED | ({"CallStatus": "ANSWER", **more} if address == "/hangup" else {})
        assert (await world.post(address, UniqueId=CALL, **fields)).status_code == 200
    await world.wait_for(lambda: len(world.crm.uploads) == 1)
    return str(world.crm.uploads[0].data["recordUrl"])


async def signer(world: World, number: str = "0367") -> Signer:
    """What the gateway signs with, opened as only the holder of the master key can."""
    master = parse_master_keys((world.folder / "var" / "master.key").read_text())
    (row,) = await requested(world, f"SELECT data_key FROM tenants WHERE tenant_id = '{number}'")
    return Signer(TenantId(number), master.sealer(TenantId(number), row["data_key"]).derive(PURPOSE))


def keeps_recordings(world: World, **more: Any) -> dict[str, Any]:
    return world.tenant(recordings={"keep_days": 30, "posted": True}, **more)


def received(browser: Browser, url: str) -> dict[str, Any]:
    """What a browser without any session makes of an address: it opens it and plays."""
    page = browser.new_context().new_page()
    answer = page.goto(url)
    assert answer is not None
    if answer.status != 200 and answer.status != 206:
        return {"status": answer.status, "text": page.locator("body").inner_text()}
    played = page.evaluate(
        """async () => {
            const media = document.querySelector("video, audio");
            media.muted = true;
            if (media.readyState < 2) await new Promise((done) => media.addEventListener("loadeddata", done));
            await media.play();
            await new Promise((done) => setTimeout(done, 400));
            return {duration: media.duration, at: media.currentTime, error: media.error && media.error.code};
        }"""
    )
    return {"status": answer.status, **played}


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
async def test_a_recording_is_heard_by_its_link_and_by_nobody_else(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        maple = world.tenant(number="0368", name="Maple", token="m" * 40, pbxes=[], integrations={})
        await world.apply(keeps_recordings(world), maple)
        await trio.sleep(0.5)
        link = await posted_call(world)
        before = await get(link)
        assert (before.status_code, before.json()["code"]) == (404, "NOT_FOUND")
        assert int(before.headers["retry-after"]) > 0
        data = wav(3.0)
        assert (await upload(world, data)).json() == {"status": "accepted"}
        assert (await upload(world, data)).json() == {"status": "duplicate"}
        after = await get(link)
        assert (after.status_code, after.content, after.headers["content-type"]) == (200, data, "audio/wav")
        async with httpx2.AsyncClient(trust_env=False) as client:
            head = await client.head(link)
        assert (head.status_code, head.headers["content-length"]) == (200, str(len(data)))
        part = await get(link, Range="bytes=999999-")
        assert part.status_code == 416
        part = await get(link, Range="bytes=100-199")
        assert (part.status_code, part.content) == (206, data[100:200])

        recording = UUID(urlsplit(link).path.rpartition("/")[2])
        june, other = await signer(world), await signer(world, "0368")
        base, now = world.url, datetime.now(UTC)
        life = int(parse_qs(urlsplit(link).query)["expires"][0]) - now.timestamp()
        assert 29 * 86400 < life <= 30 * 86400, "the link in the CRM lives as long as the recording"
        refused = {
            "expired": june.link(base, recording, now - timedelta(seconds=1)),
            "forged": june.link(base, recording, now + timedelta(minutes=5))[:-2] + "xx",
            "prolonged": link.replace("expires=", "expires=1"),
            "relabelled": link.replace("tenant=0367", "tenant=0368"),
            "another tenant's": other.link(base, recording, now + timedelta(minutes=5)),
        }
        good = june.link(base, recording, now + timedelta(minutes=10))

        def listen() -> None:
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
                for one in (link, good):
                    found = received(browser, one)
                    assert found["duration"] == pytest.approx(3.0, abs=0.1), found
                    assert found["at"] > 0.1, found
                    assert found["error"] is None
                texts = {name: received(browser, one) for name, one in refused.items()}
                assert {found["status"] for found in texts.values()} <= {403, 404}, texts
                assert all(CANARY.decode() not in found["text"] for found in texts.values())
                browser.close()

        await trio.to_thread.run_sync(listen)
        missing = other.link(base, UUID(int=1), now + timedelta(minutes=5))
        assert (await get(missing)).json() == (await get(refused["another tenant's"])).json()


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
async def test_the_player_on_the_page_of_a_call(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await world.apply(keeps_recordings(world))
        await trio.sleep(0.5)
        await posted_call(world)
        page_of = f"{world.url}/t/0367/calls/{CALL}"

        def waits(browsing: BrowserContext) -> None:
            page, complaints = open_page(browsing, page_of)
            expect(page.locator(".player")).to_contain_text("ожидается")
            assert complaints == []

        await browse(world, waits, locale="ru-RU")
        await upload(world, wav(4.0))

        def listen(browsing: BrowserContext) -> None:
            page, complaints = open_page(browsing, page_of)
            assert len(page.locator(".wave path").get_attribute("d") or "") > 1000
            state = page.evaluate(
                """async () => {
                    const audio = document.querySelector(".player audio");
                    audio.muted = true;
                    if (audio.readyState < 2) await new Promise((done) => audio.addEventListener("loadeddata", done));
                    return audio.duration;
                }"""
            )
            assert state == pytest.approx(4.0, abs=0.1)
            page.locator(".marks button").last.focus()
            page.keyboard.press("Enter")
            page.wait_for_function("document.querySelector('.player audio').currentTime > 0.5")
            page.locator("form[data-link] button").press("Enter")
            field = page.locator(".said-link input")
            expect(page.locator(".said-link")).not_to_be_empty()
            if field.count():
                assert "/recordings/file/" in field.input_value()
            assert not page.evaluate("document.documentElement.scrollWidth > window.innerWidth")
            assert [text for text in complaints if "lipboard" not in text] == []
            rows, _ = open_page(browsing, f"{world.url}/t/0367/calls")
            expect(rows.locator("#history .heard")).to_have_count(1)

        for locale in ("ru-RU", "en-GB"):
            await browse(world, listen, locale=locale, viewport={"width": 360, "height": 740})


def below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def trickle(world: World, data: bytes, on_the_way: trio.Event, pieces_s: float = 0.02) -> int | None:
    """Sends a form slowly, over a socket of its own; the status that came, or None where the connection was cut."""
    boundary = "x" * 20
    head = "".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in (("Token", world.token), ("UniqueId", CALL))
    )
    head += f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    body = head.encode() + data + f"\r\n--{boundary}--\r\n".encode()
    host, port = world.url.removeprefix("http://").split(":")
    try:
        async with await trio.open_tcp_stream(host, int(port)) as stream:
            lines = ["POST /download HTTP/1.1", f"Host: {host}:{port}", f"Content-Length: {len(body)}",
                     f"Content-Type: multipart/form-data; boundary={boundary}", "Connection: close", "\r\n"]  # fmt: skip
            await stream.send_all("\r\n".join(lines).encode())
            for at in range(0, len(body), 256 * 1024):
                await stream.send_all(body[at : at + 256 * 1024])
                if at > len(body) // 4:
                    on_the_way.set()
                await trio.sleep(pieces_s)
            answer = b""
            while piece := await stream.receive_some():
                answer += piece
            return int(answer.split()[1]) if answer else None
    except (trio.BrokenResourceError, OSError):
        return None


async def test_a_kill_during_an_upload_leaves_no_half_file(tmp_path: Path) -> None:
    data = wav(1.0) + (CANARY + os.urandom(1000)) * 20_000
    async with open_world(tmp_path, start=False) as world:
        var = tmp_path / "var"
        async with started(world):
            await world.apply(keeps_recordings(world))
        for _ in range(3):
            async with started(world) as child:
                on_the_way = trio.Event()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(trickle, world, data, on_the_way)
                    await on_the_way.wait()
                    half = below(var / "incoming")
                    assert len(half) == 1, "an upload is under way"
                    child.kill()
                    await child.wait()
                    nursery.cancel_scope.cancel()
            assert below(var / "recordings") == [], "nothing is in its place before it is whole"
            assert not any(CANARY in path.read_bytes() for path in below(var / "incoming"))
        async with started(world):
            assert below(var / "incoming") == []
            assert await requested(world, "SELECT 1 FROM recordings") == []
            assert await trickle(world, data, trio.Event(), 0.0) == 200
            (stored,) = below(var / "recordings")
            assert CANARY not in stored.read_bytes()
            assert below(var / "incoming") == []
            link = (await signer(world)).link(
                world.url, (await signer(world)).recording_id(CALL), datetime.now(UTC) + timedelta(minutes=1)
            )
            assert (await get(link)).content == data
            assert (await upload(world, data)).json() == {"status": "duplicate"}


async def test_a_recording_is_fetched_by_the_template_of_its_pbx(tmp_path: Path) -> None:
    asked_for: list[str] = []
    data = wav(1.0)

    async def file(request: Request) -> Response:
        asked_for.append(request.path)
        right = base64.b64encode(b"listener:open sesame").decode()
        if request.headers.get("authorization") != f"Basic {right}":
            return Response(401)
        return Response(200, data, "audio/x-wav") if len(asked_for) > 2 else Response(404)

    site = Site({}, file)
    async with open_world(tmp_path) as world:
        await world.wait_link()
        async with trio.open_nursery() as nursery:
            base = await nursery.start(site.serve)
            world.pbx.records = True
            block = world.tenant()
            block["pbxes"][0] |= {
                "recording_url": f"{base}/monitor/{{year}}/{{month}}/{{day}}/{{file}}", "recording_user": "listener",
                "recording_password": "open sesame",
            }  # fmt: skip
            await world.apply(block)
            await trio.sleep(1.0)
            await world.wait_link()
            truth = await world.pbx.play("incoming_answered", client="+375296254070")
            await world.wait_for(lambda: len(world.crm.uploads) == 1)
            link = str(world.crm.uploads[0].data["recordUrl"])
            assert (await get(link)).status_code == 404
            with trio.fail_after(30):
                while (answer := await get(link)).status_code != 200:
                    await trio.sleep(0.2)
            assert answer.content == data
            assert asked_for[0].endswith(f"/rec-{truth['linkedid']}.wav")
            exported = await world.gateway.ask("export", "0367")
            assert "open sesame" not in exported
            log = (tmp_path / "gateway.log").read_text()
            assert "open sesame" not in log
            nursery.cancel_scope.cancel()


async def test_the_address_that_a_call_service_gives_becomes_our_link(tmp_path: Path) -> None:
    data = wav(1.0)

    async def file(request: Request) -> Response:
        return Response(200, data, "application/octet-stream")

    site = Site({}, file)
    async with open_world(tmp_path) as world, trio.open_nursery() as nursery:
        base = await nursery.start(site.serve)
        raw = ANSWERED | {"CallStatus": "ANSWER"}
        record_url = f"{base}/r/7.wav?key=do-not-tell"
        async with httpx2.AsyncClient(trust_env=False) as client:
            for kind, more in (("dial", {}), ("hangup", {"record_url": record_url})):
                body = {"token": world.token, "uniqueId": CALL, "event_type": kind, "raw": raw, **more}
                answer = await client.post(f"{world.intake}/dispatch/call-event", json=body)
                assert answer.status_code == 200, answer.text
        await world.wait_for(lambda: len(world.crm.uploads) == 1)
        link = str(world.crm.uploads[0].data["recordUrl"])
        assert link.startswith(f"{world.url}/recordings/file/")
        with trio.fail_after(20):
            while (received := await get(link)).status_code != 200:
                await trio.sleep(0.2)
        assert received.content == data
        assert "do-not-tell" not in (tmp_path / "gateway.log").read_text()
        nursery.cancel_scope.cancel()


async def announced(world: World, size: int) -> int:
    """The status that comes for a body of which only the size is known yet."""
    host, port = world.url.removeprefix("http://").split(":")
    async with await trio.open_tcp_stream(host, int(port)) as stream:
        lines = ["POST /download HTTP/1.1", f"Host: {host}", f"Content-Length: {size}",
                 "Content-Type: multipart/form-data; boundary=x", "\r\n"]  # fmt: skip
        await stream.send_all("\r\n".join(lines).encode())
        with trio.fail_after(5):
            return int((await stream.receive_some()).split()[1])


async def test_uploads_that_are_refused_leave_nothing(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        var = tmp_path / "var"
        async with httpx2.AsyncClient(trust_env=False, timeout=30) as client:

            async def send(fields: dict[str, str], data: bytes | None = b"x" * 300_000) -> tuple[int, str]:
                parts: Any = {name: (None, value) for name, value in fields.items()}
                if data is not None:
                    parts["file"] = ("a.wav", data, "audio/wav")
                answer = await client.post(f"{world.url}/download", files=parts)
                assert answer.headers["content-type"].startswith("application/problem+json")
                return answer.status_code, answer.json()["code"]

            assert await send({"UniqueId": CALL}) == (401, "AUTH_FAILED")
            assert await send({"Token": "wrong" * 8, "UniqueId": CALL}) == (401, "AUTH_FAILED")
            assert await send({"Token": world.token}) == (422, "VALIDATION_ERROR")
            assert await send({"Token": world.token, "UniqueId": CALL}, None) == (422, "VALIDATION_ERROR")
            assert await send({"Token": world.token, "UniqueId": CALL}, b"") == (422, "VALIDATION_ERROR")
            assert await announced(world, 300 << 20) == 413
            bad = await client.post(
                f"{world.url}/download", json={"Token": world.token, "UniqueId": CALL, "url": "ftp://x"}
            )
            assert bad.status_code == 422
            late: Any = [  # httpx takes a list, and says it does not
                ("file", ("a.wav", wav(0.5), "audio/wav")),
                ("UniqueId", (None, CALL)),
                ("Token", (None, world.token)),
            ]
            answer = await client.post(f"{world.url}/download", files=late)
            assert answer.json() == {"status": "accepted"}, "the parts come in any order"
        assert len(below(var / "recordings")) == 1
        assert below(var / "incoming") == []
        text = json.dumps((tmp_path / "gateway.log").read_text())
        assert world.token not in text
