"""axe-core over every page of the UI: nothing found, in both themes and languages, on a phone and on a wide screen; and what
only a browser shows: keyboard, focus, messages. `tests/web/every_page.py` lists the pages."""

import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
import trio
from axe_playwright_python.sync_playwright import Axe
from hypercorn.config import Config
from hypercorn.trio import serve
from playwright.sync_api import BrowserContext, Page, expect, sync_playwright

from gateway.domain.events import CallEvent, Result
from gateway.domain.ids import CallId
from gateway.domain.people import Role
from gateway.domain.subjects import call_subject
from tests.web.chats import connect, receives
from tests.web.every_page import prepare
from tests.web.pages.test_inbox import wrote
from tests.web.shots import FLAGS, dress
from tests.web.world import JUNE, World, ended, ringing

CHROMIUM = shutil.which("chromium")
expect.set_options(timeout=20_000)  # a machine with other work
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
TOO_WIDE = "document.documentElement.scrollWidth > document.documentElement.clientWidth"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.long,
    pytest.mark.timeout(600),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here"),
]


@asynccontextmanager
async def served(world: World) -> AsyncIterator[str]:
    """The app of a world on a port of its own."""
    config = Config()
    config.bind = ["127.0.0.1:0"]
    async with trio.open_nursery() as nursery:
        urls = await nursery.start(partial(serve, world.app, config))
        yield urls[0]
        nursery.cancel_scope.cancel()


async def browse(visit: Callable[[BrowserContext], None], **context: Any) -> None:
    """Runs `visit` with a browser in a thread of its own."""

    def in_thread() -> None:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            visit(browser.new_context(**context))
            browser.close()

    await trio.to_thread.run_sync(in_thread)


def findings(page: Page) -> list[str]:
    """What axe-core finds on a page: the rule, and the elements."""
    found = Axe().run(page, options={"runOnly": {"type": "tag", "values": TAGS}}).response["violations"]
    return [f"{one['id']}: {node['html'][:160]}" for one in found for node in one["nodes"]]


def listen(page: Page, complaints: list[str]) -> None:
    """Notes what the console complains of: blocked by the content policy, errors of scripts."""
    page.on(
        "console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))


def sign_in(browsing: BrowserContext, url: str, cookie: str) -> None:
    browsing.clear_cookies()
    browsing.add_cookies([{"name": "session", "value": cookie, "url": url}])


@pytest.mark.parametrize(
    ("width", "theme", "language"),
    [
        (1440, "light", "ru"),
        (360, "dark", "en"),
        pytest.param(768, "light", "en"),
        pytest.param(1440, "dark", "ru"),
    ],
)
async def test_axe_finds_nothing_on_any_page(world: World, width: int, theme: Any, language: str) -> None:
    cookies, pages = await prepare(world)
    found: dict[str, list[str]] = {}

    def look(url: str, browsing: BrowserContext) -> None:
        for name, shown in pages.items():
            dress(browsing, url, cookies, shown)
            page, complaints = browsing.new_page(), list[str]()
            listen(page, complaints)
            answer = page.goto(url + shown.path)
            wrong = findings(page) + [one for one in complaints if f" {shown.status} " not in one]
            if answer is None or answer.status != shown.status:
                wrong.append(f"status {answer.status if answer else None}, not {shown.status}")
            if page.evaluate(TOO_WIDE):
                wrong.append("the page scrolls sideways")
            if wrong:
                found[name] = wrong
            page.close()

    async with served(world) as url:
        size = {"width": width, "height": 900}
        await browse(partial(look, url), viewport=size, color_scheme=theme, locale=language)
    assert found == {}, "\n".join(f"{name}: {one}" for name, wrong in found.items() for one in wrong)


async def test_keys_lead_to_the_search_and_through_the_page(world: World) -> None:
    cookies, _ = await prepare(world)

    def type_keys(url: str, browsing: BrowserContext) -> None:
        sign_in(browsing, url, cookies["june"][1])
        page = browsing.new_page()
        page.goto(f"{url}/t/0367/")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.keyboard.press("/")
        assert page.evaluate("document.activeElement.id") == "find"
        page.keyboard.type("1/2")
        assert page.input_value("#find") == "1/2", "within a field it is a character"
        page.fill("#find", "1002004")
        page.keyboard.press("Enter")
        page.wait_for_url("**/t/0367/search?q=1002004")
        expect(page.locator("main")).to_contain_text("+375 29 100-20-04")

    async with served(world) as url:
        await browse(partial(type_keys, url), locale="en")


async def test_a_mark_shows_a_message_with_a_way_back(world: World) -> None:
    cookies, _ = await prepare(world)

    def mark(url: str, browsing: BrowserContext) -> None:
        sign_in(browsing, url, cookies["june"][1])
        page = browsing.new_page()
        page.goto(f"{url}/t/0367/missed")
        rows = page.locator("tr[id^=waits-]")
        expect(rows).to_have_count(3)
        page.get_by_role("button", name="Dealt with").first.click()
        expect(rows).to_have_count(2)
        toast = page.locator(".toast")
        expect(toast).to_contain_text("is dealt with")
        toast.get_by_role("button", name="Undo").click()
        expect(rows).to_have_count(3)
        expect(page.locator(".toast")).to_contain_text("waits again")
        page.keyboard.press("Escape")
        expect(page.locator(".toast")).to_have_count(0)

    async with served(world) as url:
        await browse(partial(mark, url), locale="en")


async def test_the_overview_follows_calls_without_a_reload_and_leaves_the_focus(world: World) -> None:
    cookie = await world.session(JUNE)
    first = ringing(world.call_id(), datetime.now(UTC), "+375291110000", "100", ["150"])

    async def happens(*events: CallEvent) -> None:
        await world.keep(JUNE, events)
        world.feed.publish(JUNE, call_subject(first.call_id))

    def watch(url: str, browsing: BrowserContext) -> None:
        sign_in(browsing, url, cookie)
        page, complaints = browsing.new_page(), list[str]()
        listen(page, complaints)
        page.goto(f"{url}/t/0367/")
        expect(page.locator("#live-state")).to_have_class("link-state on")
        page.evaluate("window.sameDocument = true")
        page.locator(".as-table summary").focus()
        trio.from_thread.run(happens, first)
        expect(page.locator("#live tr", has_text="+375 29 111-00-00")).to_have_count(1)
        expect(page.locator(".tile").first).to_contain_text("+375 29 111-00-00")
        trio.from_thread.run(happens, first, ended(first, 9, Result.MISSED))
        expect(page.locator("#live tr", has_text="+375 29 111-00-00")).to_have_count(0)
        expect(page.locator(".tile").nth(1)).to_contain_text("1 missed")
        expect(page.locator(f'[id="waits-{first.call_id}"]')).to_have_count(1)
        expect(page.locator(".hours .missed")).to_have_count(1)
        assert page.evaluate("window.sameDocument"), "the page was loaded anew"
        assert page.evaluate("document.activeElement.id") == "as-table", "the focus stays where it was"
        assert complaints == []

    async with served(world) as url:
        await browse(partial(watch, url), locale="en")


NOTED = """(() => {
  const Real = window.Notification;
  window.noted = [];
  window.Notification = class extends Real {
    constructor(title, options) { super(title, options); window.noted.push([title, options.body, options.tag]); }
    close() { window.noted.push(["closed", this.tag]); super.close(); }
  };
  window.tones = [];
  const start = OscillatorNode.prototype.start;
  OscillatorNode.prototype.start = function (when) { window.tones.push(this.frequency.value); start.call(this, when); };
})()"""
"""Notes what the browser is made to show, and lets it."""


async def test_notifications_of_the_browser_by_choice(world: World) -> None:
    """Off until it is chosen, silent without permission; then calls at one's own numbers, once in all tabs."""
    cookie = await world.person(JUNE, "ivan@june.example", Role.AGENT, ["150"])
    now = datetime.now(UTC)
    first = ringing(CallId("5.1"), now, "+375291110000", "100", ["150"])
    second = ringing(CallId("5.2"), now, "+375291110001", "100", ["150"])
    theirs = ringing(CallId("5.3"), now, "+375291110002", "100", ["151"])

    async def happens(*events: CallEvent) -> None:
        await world.keep(JUNE, events)
        world.feed.publish(JUNE, call_subject(events[0].call_id))

    def happen(*events: CallEvent) -> None:
        trio.from_thread.run(happens, *events)

    def choose(url: str, browsing: BrowserContext) -> None:
        sign_in(browsing, url, cookie)
        browsing.add_init_script(NOTED)
        complaints = list[str]()
        page, account = browsing.new_page(), browsing.new_page()
        for one in (page, account):
            listen(one, complaints)
        page.goto(f"{url}/t/0367/calls")
        account.goto(f"{url}/account/security")
        expect(account.locator("#alerts-state")).to_have_text("Notifications are off.")
        happen(theirs)
        happen(second)
        expect(page.locator("#live tr", has_text="+375 29 111-00-01")).to_have_count(1)
        assert page.evaluate("noted") == [], "nobody has chosen it"
        happen(second, ended(second, 2, Result.ANSWERED, "150"))
        browsing.grant_permissions([], origin=url)
        account.locator("#alerts-switch").click()
        expect(account.locator("#alerts-state")).to_contain_text("does not allow them")
        account.locator("#alerts-switch").click()
        expect(account.locator("#alerts-state")).to_have_text("Notifications are off.")
        browsing.grant_permissions(["notifications"], origin=url)
        account.locator("#alerts-switch").click()
        expect(account.locator("#alerts-state")).to_have_text("Notifications are on.")
        other = browsing.new_page()
        other.goto(f"{url}/t/0367/missed")

        def shown() -> list[list[str]]:
            return [one for tab in (page, other) for one in tab.evaluate("noted")]

        page.wait_for_function("navigator.locks.query().then((found) => found.held.length === 1)")
        happen(first)
        rings = ["Incoming call: +375 29 111-00-00", "150", "5.1"]
        eventually(lambda: shown() == [rings])
        happen(first, ended(first, 9, Result.MISSED))
        eventually(lambda: shown() == [rings, ["Missed call: +375 29 111-00-00", "150", "5.1"]])
        page.reload()
        expect(page.locator("#live-state.on")).to_have_count(1)
        happen(theirs, ended(theirs, 9, Result.MISSED))
        expect(page.locator("#live-count")).to_have_text("0")
        assert page.evaluate("noted") == [], "what was shown is not shown again"
        sounds = account.locator("#alerts-sound")
        expect(sounds).not_to_be_checked()
        sounds.check()
        account.reload()
        expect(sounds).to_be_checked()
        other.evaluate("noted.length = 0")
        trio.from_thread.run(receives, world, wrote("Есть столик?", person={"name": "Anna"}))
        eventually(lambda: [one[:2] for one in shown()] == [["A client waits: Anna", "Есть столик?"]])
        assert [tones for tab in (page, other) for tones in tab.evaluate("tones")] == [660, 880]
        assert complaints == []

    await connect(world)
    async with served(world) as url:
        await browse(partial(choose, url), locale="en")


def eventually(true: Callable[[], bool]) -> None:
    """Waits until it is, in the browser's thread."""
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)
