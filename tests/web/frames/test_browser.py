"""A real browser on a page of another site that holds the softphone, with a stand-in for the site's own script: connect in a window of
ours, a client who rings opens their record, a clicked number is dialled; axe-core over the frame."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from axe_playwright_python.sync_playwright import Axe
from hypercorn.config import Config
from hypercorn.trio import serve
from playwright.sync_api import Browser, Page, expect
from quart_trio import QuartTrio
from quart_trio.wrappers import TrioResponse

from gateway.domain.subjects import call_subject
from gateway.store.postgres.pool import Database
from gateway.web.http.hypercorn_server import mount
from tests.sandbox.product import free_address
from tests.web.frames.here import PATH, Here
from tests.web.test_accessibility import TAGS
from tests.web.widget.test_browser import browse
from tests.web.world import JUNE, make_world, ringing

pytestmark = [
    pytest.mark.browser,
    pytest.mark.long,
    pytest.mark.timeout(300),
    pytest.mark.skipif(shutil.which("chromium") is None, reason="no Chromium here"),
]
CLIENT = "+375296254070"
SCRIPT = """
window.popped = [];
window.sforce = { opencti: {
  CALL_TYPE: { INBOUND: "inbound" },
  enableClickToDial: (given) => { window.enabled = true; given.callback({ success: true }); },
  onClickToDial: (given) => { window.click = given.listener; },
  searchAndScreenPop: (given) => { window.popped.push([given.searchParams, given.callType]); },
  setSoftphonePanelVisibility: (given) => { window.visible = given.visible; },
} };
"""


def their_pages(gateway: str) -> QuartTrio:
    app = QuartTrio("pages")

    @app.get("/")
    async def page() -> TrioResponse:
        text = (
            '<!doctype html><html lang="en"><head><title>CRM</title></head><body><main><h1>CRM</h1>'
            f'<iframe title="Softphone" width="320" height="420" src="{gateway}{PATH}"></iframe></main></body></html>'
        )
        return TrioResponse(text, content_type="text/html; charset=utf-8")

    @app.get("/support/api/68.0/lightning/opencti_min.js")
    async def script() -> TrioResponse:
        return TrioResponse(SCRIPT, content_type="text/javascript")

    @app.get("/favicon.ico")
    async def favicon() -> TrioResponse:
        return TrioResponse("", 204)

    return app


@asynccontextmanager
async def open_pages(db: Database, *, held_by: str = "") -> AsyncIterator[tuple[Here, str, str]]:
    """The gateway and the other site, served on two sites: their cookies are apart."""
    world = await make_world(db)
    bind, port = free_address(0), free_address(0).rpartition(":")[2]
    gateway, theirs = f"http://{bind}", f"http://localhost:{port}"
    here = Here(world, url=held_by or theirs)
    app = world.app_with(mounts=(partial(mount, addresses=here.addresses),))
    async with trio.open_nursery() as nursery:
        for one, address in ((app, bind), (their_pages(gateway), f"localhost:{port}")):
            config = Config()
            config.bind = [address]
            await nursery.start(partial(serve, one, config))
        yield here, gateway, theirs
        nursery.cancel_scope.cancel()


async def ring(here: Here) -> None:
    event = ringing(here.world.call_id(), datetime.now(UTC), CLIENT, "+375172000001", ["150"])
    await here.world.keep(JUNE, [event])
    here.world.feed.publish(JUNE, call_subject(event.call_id))


def axe(page: Page, frame: Any) -> list[str]:
    found = Axe().run(frame, options={"runOnly": {"type": "tag", "values": TAGS}}).response["violations"]
    return [f"{one['id']}: {node['html'][:160]}" for one in found for node in one["nodes"]]


async def test_connect_ring_and_dial(db: Database, tmp_path: Path) -> None:
    async with open_pages(db) as (here, gateway, theirs):
        cookie = await here.world.session(JUNE)

        def visit(browser: Browser) -> None:
            context = browser.new_context(locale="ru-RU")
            page = context.new_page()
            complaints: list[str] = []
            page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.goto(theirs)
            frame = page.frames[1]
            connect = page.frame_locator("iframe").get_by_role("button", name="Подключить")
            expect(connect).to_be_visible()
            assert axe(page, frame) == []
            with page.expect_popup() as opened:
                connect.click()
            expect(opened.value.get_by_role("link", name="Войти")).to_be_visible()
            opened.value.close()
            # A shop's page is another site: what it holds gets no cookie of ours, the window does.
            context.add_cookies(
                [{"name": "session", "value": cookie, "url": gateway, "httpOnly": True, "sameSite": "Lax"}]
            )
            with page.expect_popup() as opened:
                connect.click()
            window = opened.value
            window.get_by_label("Ваш внутренний номер").select_option("150")
            assert axe(window, window) == []
            window.screenshot(path=tmp_path / "connect.png")
            window.get_by_role("button", name="Подключить").click()
            expect(page.frame_locator("iframe").get_by_text("Внутренний номер 150")).to_be_visible()
            assert frame.evaluate("document.cookie") == ""
            trio.from_thread.run(ring, here)
            expect(page.frame_locator("iframe").get_by_role("listitem")).to_contain_text(CLIENT)
            frame.wait_for_function("window.popped.length === 1")
            assert frame.evaluate("window.popped") == [["296254070", "inbound"]]
            assert frame.evaluate("window.visible") is True
            assert axe(page, frame) == []
            page.screenshot(path=tmp_path / "softphone.png")
            frame.evaluate(f"window.click({{ number: '{CLIENT}' }})")
            expect(page.frame_locator("iframe").get_by_role("status")).to_contain_text("Зазвонит ваш телефон")
            page.frame_locator("iframe").get_by_label("Номер для звонка").fill("+7 999")
            page.keyboard.press("Enter")
            expect(page.frame_locator("iframe").get_by_role("status")).not_to_contain_text("Зазвонит")
            # The other site's page can neither make our page hand it a token, nor be taken for the window.
            page.evaluate("w = window.frames[0]; w.postMessage({ softphone: 'x.y.z', extension: '151' }, '*')")
            expect(page.frame_locator("iframe").get_by_text("Внутренний номер 150")).to_be_visible()
            page.frame_locator("iframe").get_by_role("button", name="Отключить").click()
            expect(connect).to_be_visible()
            page.reload()
            expect(connect).to_be_visible()
            assert [one for one in complaints if "status of 4" not in one] == []

        await browse(visit)
        assert here.world.placed[0] == (JUNE, "150", CLIENT, "admin@0367.example")


async def test_another_page_does_not_hold_it(db: Database) -> None:
    async with open_pages(db, held_by="http://localhost:9") as (_, _, theirs):

        def visit(browser: Browser) -> None:
            page = browser.new_page()
            complaints: list[str] = []
            page.on("console", lambda said: complaints.append(said.text))
            page.goto(theirs)
            page.wait_for_timeout(300)
            assert any("frame-ancestors" in one for one in complaints)

        await browse(visit)
