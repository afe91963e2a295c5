"""A real browser on the whole product: signing in, a call that comes and goes without a reload, every page in both
languages and on a phone's screen. Playwright's own loop lives in a thread; the sandboxes stay with Trio."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from playwright.sync_api import BrowserContext, Page, expect, sync_playwright

from tests.e2e.world import World, open_world
from tests.web.content.model_server import KEY, ModelServer

CHROMIUM = shutil.which("chromium")
expect.set_options(timeout=20_000)  # a machine with other work
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync", "--no-first-run"]
EMAIL, PASSWORD = "admin@june.example", "correct horse battery staple"
TOO_WIDE = """() => document.documentElement.scrollWidth <= window.innerWidth ? [] :
    [...document.querySelectorAll("main *")].filter(one => one.getBoundingClientRect().right > window.innerWidth)
        .map(one => one.tagName + ": " + one.textContent.trim().slice(0, 60))"""
"""What makes a page scroll sideways; empty where it does not."""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here"),
]


async def browse(world: World, visit: Callable[[BrowserContext], None], **context: Any) -> None:
    """Runs `visit` with a signed-in browser context in a thread of its own."""

    def in_thread() -> None:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            browsing = browser.new_context(**context)
            page = browsing.new_page()
            page.goto(f"{world.url}/")
            page.fill("#email", EMAIL)
            page.fill("#password", PASSWORD)
            page.press("#password", "Enter")
            page.wait_for_url("**/t/0367/")
            page.close()
            visit(browsing)
            browser.close()

    await world.gateway.ask("user", "add", EMAIL, "--tenant", "0367", stdin=PASSWORD + "\n")
    await trio.to_thread.run_sync(in_thread)


def open_page(browsing: BrowserContext, url: str) -> tuple[Page, list[str]]:
    """A page, and what its console complains of: blocked by the content policy, script errors, failed requests."""
    page, complaints = browsing.new_page(), list[str]()
    page.on(
        "console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    answer = page.goto(url)
    assert answer is not None
    assert answer.status == 200, url
    return page, complaints


@pytest.mark.long
async def test_a_call_appears_changes_and_ends_without_a_reload(tmp_path: Path) -> None:
    async with open_world(tmp_path, tempo=0.25) as world:
        await world.wait_link()

        async def call() -> None:
            await world.pbx.play("incoming_answered", client="+375296254070", ring_s=6, talk_s=8)

        def watch(browsing: BrowserContext) -> None:
            page, complaints = open_page(browsing, f"{world.url}/t/0367/calls")
            page.evaluate("window.sameDocument = true")
            expect(page.locator("#live-state")).to_have_text("обновляется")
            trio.from_thread.run_sync(nursery.start_soon, call)
            row = page.locator("#live tr", has_text="+375 29 625-40-70")
            expect(row).to_have_count(1)
            expect(row).to_contain_text("Звонит")
            expect(row).to_contain_text("150")
            expect(row).to_contain_text("Разговор")
            expect(row).to_have_count(0)
            ended = page.locator("#history tr", has_text="+375 29 625-40-70")
            expect(ended).to_have_count(1)
            expect(ended).to_contain_text("Отвечен")
            assert page.evaluate("window.sameDocument"), "the page was loaded anew"
            assert complaints == []
            ended.locator("a").first.click()
            expect(page.locator("main")).to_contain_text("RetailCRM")
            expect(page.locator("main")).to_contain_text("Owner 150")

        async with trio.open_nursery() as nursery:
            await browse(world, watch, locale="ru-RU")


async def test_every_page_in_both_languages_and_on_a_phone(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await world.wait_link()
        truth = await world.pbx.play("incoming_queue_answered")
        await world.wait_for(lambda: len(world.crm.uploads) == 1)
        pages = [
            "",
            "missed",
            "search?q=375",
            "calls",
            f"calls/{truth['linkedid']}",
            "integrations",
            "integrations/retailcrm",
            "pbxes/main",
            "profile",
            "catalog",
            "catalog/import",
            "prompts",
            "prompts/new",
        ]
        headings: dict[str, set[str]] = {path: set() for path in pages}

        def look(browsing: BrowserContext) -> None:
            for path in pages:
                page, complaints = open_page(browsing, f"{world.url}/t/0367/{path}")
                headings[path].add(page.locator("#menu").text_content() or "")
                assert complaints == [], path
                assert page.evaluate(TOO_WIDE) == [], path
                page.close()

        for locale in ("ru-RU", "en-GB"):
            await browse(world, look, locale=locale, viewport={"width": 360, "height": 740}, color_scheme="dark")
        assert all(len(words) == 2 for words in headings.values()), "each page speaks both languages"


@pytest.mark.long
async def test_a_prompt_is_written_with_help_and_tried(tmp_path: Path) -> None:
    model = ModelServer()
    async with trio.open_nursery() as nursery:
        await nursery.start(model.serve)
        async with open_world(
            tmp_path, GATEWAY_LLM_URL=model.url, GATEWAY_LLM_API_KEY=KEY, GATEWAY_LLM_MODEL="gpt-test"
        ) as world:

            def write(browsing: BrowserContext) -> None:
                page, complaints = open_page(browsing, f"{world.url}/t/0367/prompts/new")
                page.fill("#content", "# Role\n")
                page.locator("#content").press_sequentially("You are {{business_n")
                expect(page.locator("#completion li")).to_have_text(["business_name"])
                page.keyboard.press("Enter")
                expect(page.locator("#content")).to_have_value("# Role\nYou are {{business_name}}")
                expect(page.locator("#colours mark.known")).to_have_text("{{business_name}}")
                page.locator("#content").press_sequentially(" {{fee}}")
                expect(page.locator("#colours mark.unknown")).to_have_text("{{fee}}")
                expect(page.locator("#flaws li")).to_have_count(2)
                page.fill('[name="var-key-0"]', "fee")
                expect(page.locator("#colours mark.unknown")).to_have_count(0)
                expect(page.locator("#flaws li")).to_have_count(1)
                page.locator("#content").press_sequentially("\n# Rules\nBe kind.")
                expect(page.locator("#flaws .good")).to_be_visible()
                page.fill("#message", "Hello")
                page.click('[value="try"]')
                expect(page.locator("#reply .reply")).to_have_text("Привет")
                expect(page.locator("#reply .hint")).to_contain_text("gpt-test")
                assert complaints == []

            await browse(world, write, locale="en-GB")
        nursery.cancel_scope.cancel()
    assert model.requests[0]["body"]["messages"][0]["content"].startswith("# Role\nYou are June ")
