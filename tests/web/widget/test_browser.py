"""A real browser on a shop's page of another site, whose content policy allows no more than it must: the launcher, the chat, what is
stored and when, a lost line, a domain that is not allowed, the page's own interface, and axe-core over the frame. A little long, for it is one story after another."""

import base64
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from axe_playwright_python.sync_playwright import Axe
from hypercorn.config import Config
from hypercorn.trio import serve
from playwright.sync_api import Browser, FilePayload, FrameLocator, Page, expect, sync_playwright
from quart_trio import QuartTrio
from quart_trio.wrappers import TrioResponse

from gateway.domain.profile import Profile
from gateway.store import conversations, messages
from gateway.store.business_profiles import upsert_profile
from gateway.store.contacts import search_contacts
from gateway.store.files.blobs import FolderBlobs
from gateway.store.files.chat_files import ChatFiles
from gateway.store.postgres.pool import Database
from gateway.web.http.hypercorn_server import mount
from gateway.web.widget.table import widget_addresses
from tests.sandbox.product import free_address
from tests.web.shots import FLAGS
from tests.web.test_accessibility import TAGS
from tests.web.widget.here import ANNA, JUNE, KEYS, Here, company, open_here, vouched
from tests.web.world import make_world

CHROMIUM = shutil.which("chromium")
PICTURE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAEElEQVR4nGOQqo8CIgYIBQAZogPNT/ekpQAAAABJRU5ErkJggg=="
)
expect.set_options(timeout=20_000)  # a machine with other work
pytestmark = [
    pytest.mark.browser,
    pytest.mark.long,
    pytest.mark.timeout(300),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here"),
]


@dataclass
class Shop:
    """A gateway with a widget, and a shop's page that shows it."""

    here: Here
    gateway: str
    url: str
    complaints: list[str] = field(default_factory=list)
    requested: list[str] = field(default_factory=list)

    def open(self, browser: Browser, **context: Any) -> Page:
        """The shop's page in a fresh browser."""
        page = browser.new_context(**{"locale": "en-GB", **context}).new_page()
        page.on(
            "console", lambda said: self.complaints.append(said.text) if said.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.requested.append(request.url))
        page.goto(self.url)
        return page

    def run(self, work: Callable[..., Any], *given: Any) -> Any:
        """Something of the gateway's loop."""
        return trio.from_thread.run(work, *given)


def _shop_page(gateway: str) -> QuartTrio:
    app = QuartTrio("shop")

    @app.get("/")
    async def page() -> TrioResponse:
        text = (
            '<!doctype html><html lang="en"><head><meta name="viewport" content="width=device-width"><title>Shop</title></head><body><main><h1>Shop</h1><a href="/">Things</a></main>'
            f'<script async src="{gateway}/widget.js" data-key="{KEYS[JUNE]}"></script></body></html>'
        )
        policy = f"default-src 'none'; script-src {gateway}; frame-src {gateway}; img-src 'self'"
        headers = {"Content-Security-Policy": policy, "Cross-Origin-Opener-Policy": "same-origin"}
        return TrioResponse(text, headers=headers, content_type="text/html; charset=utf-8")

    @app.get("/favicon.ico")
    async def favicon() -> TrioResponse:
        return TrioResponse("", 204)

    return app


@asynccontextmanager
async def open_shop(
    db: Database, *, allowed: bool = True, folder: Path | None = None, **settings: Any
) -> AsyncIterator[Shop]:
    """Both, served; with files in a folder."""
    world = await make_world(db)
    files = None
    if folder is not None:
        blobs = FolderBlobs(folder / "files", trio.CapacityLimiter(4))
        files = ChatFiles(db, blobs, folder / "in", world.cache.sealer)
        files.clean_spool()
    bind, shop_bind = free_address(0), free_address(0)
    gateway, port = f"http://{bind}", shop_bind.rpartition(":")[2]
    here = Here(db, public_url=gateway, chat_files=files)
    domains = f"localhost:{port}" if allowed else "other.example"
    here.tenants[JUNE] = company(
        JUNE, allowed_domains=domains, title="June", greeting="Hello! How can we help?", **settings
    )
    app = world.app_with(mounts=(partial(mount, addresses=widget_addresses(here.deps)),))
    async with open_here(db, here), trio.open_nursery() as nursery:
        for one, address in ((app, bind), (_shop_page(gateway), f"localhost:{port}")):
            config = Config()
            config.bind = [address]
            await nursery.start(partial(serve, one, config))
        yield Shop(here, gateway, f"http://localhost:{port}/")
        nursery.cancel_scope.cancel()


async def browse(visit: Callable[[Browser], None]) -> None:
    """Runs `visit` with a browser in a thread of its own."""

    def in_thread() -> None:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            visit(browser)
            browser.close()

    await trio.to_thread.run_sync(in_thread)


def chat(page: Page) -> FrameLocator:
    """The chat in its frame."""
    return page.frame_locator("iframe")


def stored(page: Page) -> Any:
    """All that the page and its frame keep in the browser."""
    here: Any = page.evaluate("() => [Object.keys(localStorage), Object.keys(sessionStorage), document.cookie]")
    return [
        *here,
        page.context.cookies(),
        [len(one["localStorage"]) for one in page.context.storage_state()["origins"]],
    ]


def axe(page: Page) -> list[str]:
    """What axe-core finds on the page and in the frame."""
    found = Axe().run(page, options={"runOnly": {"type": "tag", "values": TAGS}}).response["violations"]
    frame = Axe().run(page.frames[1], options={"runOnly": {"type": "tag", "values": TAGS}}).response["violations"]
    return [f"{one['id']}: {node['html'][:160]}" for one in [*found, *frame] for node in one["nodes"]]


async def conversation(here: Here) -> Any:
    """The only one."""
    with trio.fail_after(20):
        while not (
            found := await here.db.tenant(JUNE, conversations.select_conversations, JUNE, conversations.Filters(), 10)
        ):
            await trio.sleep(0.02)
    return found[0].conversation.id


async def test_a_visitor_writes_is_answered_and_finds_it_again(db: Database) -> None:
    async with open_shop(db) as shop:

        def visit(browser: Browser) -> None:
            page = shop.open(browser)
            launcher = page.get_by_role("button", name="Open the chat")
            expect(launcher).to_be_visible()
            expect(launcher).to_have_attribute("aria-expanded", "false")
            page.wait_for_timeout(200)
            assert stored(page) == [[], [], "", [], []], "nothing before the visitor writes"
            launcher.focus()
            page.keyboard.press("Enter")
            box = chat(page).get_by_role("textbox", name="Write a message")
            expect(box).to_be_focused()
            expect(chat(page).get_by_text("Hello! How can we help?")).to_be_visible()
            assert axe(page) == []
            assert stored(page) == [[], [], "", [], []]
            box.fill("Do you deliver?\nTo <b>Minsk</b> \u202ereversed")
            page.keyboard.press("Enter")
            expect(chat(page).get_by_role("listitem")).to_have_count(1)
            expect(chat(page).get_by_role("listitem")).to_contain_text("To <b>Minsk</b>")
            kept, _, cookie, cookies, _ = stored(page)
            assert (kept, cookie, cookies) == ([f"gatewayChat.{KEYS[JUNE]}"], "", [])
            known = shop.run(conversation, shop.here)
            shop.run(shop.here.answers, known, "Yes: https://june.example/delivery", "ai")
            answer = chat(page).get_by_role("listitem").nth(1)
            expect(answer).to_contain_text("AI assistant")
            expect(answer.get_by_role("link")).to_have_attribute("rel", "noopener noreferrer nofollow")
            assert axe(page) == []
            page.keyboard.press("Escape")
            expect(page.locator("iframe")).to_be_hidden()
            expect(launcher).to_be_focused()
            shop.run(shop.here.answers, known, "Anything else?")
            expect(page.get_by_role("button", name="Open the chat. 1 new message")).to_be_visible()
            page.reload()
            page.get_by_role("button", name="Open the chat. 1 new message").click()
            expect(chat(page).get_by_role("listitem")).to_have_count(3)
            expect(page.get_by_role("button", name="Close the chat").first).to_be_visible()
            with_token = [url for url in shop.requested if "v1." in url or "token" in url]
            assert with_token == []
            assert shop.complaints == []

        await browse(visit)
        known = await conversation(shop.here)
        with trio.move_on_after(10):
            while await shop.here.statuses(known) != ["read", "read"]:
                await trio.sleep(0.02)
        assert await shop.here.statuses(known) == ["read", "read"]


async def test_a_lost_line_is_found_again_within_two_seconds(db: Database) -> None:
    async with open_shop(db) as shop:

        def visit(browser: Browser) -> None:
            page = shop.open(browser)
            page.get_by_role("button", name="Open the chat").click()
            box = chat(page).get_by_role("textbox", name="Write a message")
            box.fill("one")
            box.press("Enter")
            expect(chat(page).get_by_role("listitem")).to_have_count(1)
            known = shop.run(conversation, shop.here)
            page.context.set_offline(True)
            box.fill("two, without a line")
            box.press("Enter")
            expect(chat(page).get_by_role("listitem")).to_have_count(2)
            shop.run(shop.here.answers, known, "an answer meanwhile")
            page.context.set_offline(False)
            expect(chat(page).get_by_role("listitem").filter(has_text="an answer meanwhile")).to_be_visible(
                timeout=2000
            )
            expect(chat(page).get_by_text("sending…")).to_have_count(0)
            page.wait_for_timeout(500)
            expect(chat(page).get_by_role("listitem")).to_have_count(3)

        await browse(visit)
        assert [one["text"] for one in await _said(shop.here)] == ["one", "an answer meanwhile", "two, without a line"]


async def _said(here: Here) -> list[dict[str, Any]]:
    known = await conversation(here)
    found = await here.db.tenant(JUNE, messages.select_messages, JUNE, known, 100)
    return [{"text": one.text} for one in found]


async def test_a_site_that_is_not_allowed_shows_nothing_and_says_why(db: Database) -> None:
    async with open_shop(db, allowed=False) as shop:

        def visit(browser: Browser) -> None:
            page = shop.open(browser)
            with page.expect_console_message(lambda said: "is not among the widget's allowed domains" in said.text):
                pass
            expect(page.locator("iframe")).to_have_count(0)
            expect(page.get_by_role("button")).to_have_count(0)

        await browse(visit)


async def test_the_page_identifies_its_visitor_and_hears_what_happens(db: Database) -> None:
    async with open_shop(db, identity="required") as shop:

        def visit(browser: Browser) -> None:
            page = shop.open(browser, locale="ru-RU")
            page.wait_for_function("() => window.gatewayChat")
            page.evaluate(
                """() => { window.happened = []; for (const one of ["open", "close", "message", "unread"])
                    gatewayChat.on(one, (value) => happened.push([one, value && value.text])); gatewayChat.open(); }"""
            )
            box = chat(page).get_by_role("textbox", name="Напишите сообщение")
            expect(box).to_be_disabled()
            expect(chat(page).get_by_text("войдите на сайт")).to_be_visible()
            page.evaluate("(who) => gatewayChat.identify(who)", {**vouched("7"), "id": "8"})
            expect(chat(page).get_by_text("не смог подтвердить")).to_be_visible()
            page.evaluate("(who) => gatewayChat.identify(who)", vouched("7", name="Anna"))
            expect(box).to_be_enabled()
            box.fill("здравствуйте")
            box.press("Enter")
            expect(chat(page).get_by_role("listitem")).to_have_count(1)
            known = shop.run(conversation, shop.here)
            shop.run(shop.here.answers, known, "добрый день")
            expect(chat(page).get_by_role("listitem")).to_have_count(2)
            page.evaluate("() => gatewayChat.setLocale('en')")
            expect(chat(page).get_by_role("button", name="Send")).to_be_visible()
            page.evaluate("() => gatewayChat.toggle()")
            expect(page.locator("iframe")).to_be_hidden()
            assert ["message", "добрый день"] in page.evaluate("() => happened")
            assert page.evaluate("() => happened[0][0]") == "open"
            page.evaluate("() => { gatewayChat.reset(); gatewayChat.open(); }")
            expect(chat(page).get_by_role("listitem")).to_have_count(0)
            expect(chat(page).get_by_text("Sign in to this site")).to_be_visible()
            assert page.evaluate("() => Object.keys(localStorage)") == []
            assert [one for one in shop.complaints if "403" not in one] == []

        await browse(visit)
        assert (await shop.here.place("id:7")) is not None


async def test_when_nobody_is_there_an_address_is_left(db: Database) -> None:
    async with open_shop(db) as shop:
        hours = [{"days": ["mon"], "from": "09:00", "to": "09:01"}]
        shop.here.now = datetime(2026, 11, 29, 12, tzinfo=UTC)  # a Sunday
        await db.tenant(JUNE, upsert_profile, JUNE, Profile.model_validate({"working_hours": hours}))

        def visit(browser: Browser) -> None:
            page = shop.open(browser, viewport={"width": 360, "height": 640}, locale="ru-RU", reduced_motion="reduce")
            page.get_by_role("button", name="Открыть чат").click()
            email = chat(page).get_by_role("textbox", name="Почта")
            expect(email).to_be_visible()
            assert axe(page) == []
            box = chat(page).get_by_role("textbox", name="Напишите сообщение")
            box.fill("перезвоните мне")
            email.fill("anna")
            box.press("Enter")
            expect(email).to_be_focused()
            expect(chat(page).get_by_text("Напишите адрес почты, например")).to_be_visible()
            expect(box).to_have_value("перезвоните мне")
            email.fill("anna@june.example")
            chat(page).get_by_role("textbox", name="Как вас зовут").fill("Анна")
            chat(page).get_by_role("button", name="Отправить").click()
            expect(chat(page).get_by_role("listitem")).to_have_count(1)
            expect(email).to_be_hidden()
            expect(chat(page).get_by_text("отправляется…")).to_have_count(0)
            shop.run(conversation, shop.here)
            assert shop.complaints == []

        await browse(visit)
        found = await db.tenant(JUNE, search_contacts, JUNE, "anna@june.example", 10)
        assert [one.name for one in found] == ["Анна"]


async def test_files_go_both_ways(db: Database, tmp_path: Path) -> None:
    async with open_shop(db, folder=tmp_path) as shop:

        async def answer_with_a_picture(known: Any) -> None:
            files = shop.here.chat_files
            assert files is not None
            async with await files.new_file() as incoming:
                await incoming.write(PICTURE)
                made = await files.add(JUNE, await incoming.finish("price.png"), "price.png", ANNA)
            await shop.here.conversing.send(
                shop.here.tenants[JUNE], known, author=ANNA, text="Look", files=[made.file_id]
            )

        def visit(browser: Browser) -> None:
            page = shop.open(browser, reduced_motion="reduce")
            page.get_by_role("button", name="Open the chat").click()
            picked: FilePayload = {"name": "shoe.png", "mimeType": "image/png", "buffer": PICTURE}
            with page.expect_file_chooser() as chooser:
                chat(page).get_by_role("button", name="Attach a file").click()
            chooser.value.set_files([picked])
            expect(chat(page).get_by_role("listitem")).to_contain_text("shoe.png")
            lying: FilePayload = {
                "name": "shoe.png",
                "mimeType": "image/png",
                "buffer": b"<!doctype html><script>alert(1)</script>",
            }
            chat(page).locator("input[type=file]").set_input_files([lying])
            expect(chat(page).get_by_text("shoe.png could not be sent.")).to_be_visible()
            known = shop.run(conversation, shop.here)
            shop.run(answer_with_a_picture, known)
            picture = chat(page).get_by_role("img", name="price.png")
            expect(picture).to_be_visible()
            page.wait_for_timeout(100)
            assert picture.evaluate("(one) => one.naturalWidth") == 2
            with page.expect_download() as download:
                chat(page).get_by_role("button", name="price.png").click()
            assert download.value.suggested_filename == "price.png"
            assert Path(download.value.path()).read_bytes() == PICTURE
            assert axe(page) == []
            assert [one for one in shop.complaints if "422" not in one] == []

        await browse(visit)


async def test_on_a_phone_the_chat_fills_the_screen(db: Database) -> None:
    async with open_shop(db) as shop:

        def visit(browser: Browser) -> None:
            page = shop.open(
                browser,
                viewport={"width": 360, "height": 640},
                color_scheme="dark",
                has_touch=True,
                is_mobile=True,
                reduced_motion="reduce",
            )
            page.get_by_role("button", name="Open the chat").click()
            assert page.locator("iframe").bounding_box() == {"x": 0, "y": 0, "width": 360, "height": 640}
            box = chat(page).get_by_role("textbox", name="Write a message")
            box.fill("a" * 500)
            box.press("Enter")
            expect(chat(page).get_by_role("listitem")).to_have_count(1)
            assert page.frames[1].evaluate("() => document.documentElement.scrollWidth") <= 360
            assert axe(page) == []
            chat(page).get_by_role("button", name="Close the chat").click()
            expect(page.locator("iframe")).to_be_hidden()
            assert shop.complaints == []

        await browse(visit)
