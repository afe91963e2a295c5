"""What the inbox is in a browser: live, answered without a reload, saved replies behind a slash, by keyboard alone, without a script."""

import shutil
from functools import partial
from typing import Any

import pytest
import trio
from playwright.sync_api import BrowserContext, Page, expect

from tests.web.chats import connect, conversation_with, fill_chats, receives
from tests.web.test_accessibility import browse, listen, served, sign_in
from tests.web.world import JUNE, World

pytestmark = [
    pytest.mark.browser,
    pytest.mark.long,
    pytest.mark.timeout(300),
    pytest.mark.skipif(shutil.which("chromium") is None, reason="no Chromium here"),
]


def wrote(text: str, address: str = "7", number: int = 1, name: str = "Anna") -> dict[str, Any]:
    return {
        "event": "ClientWrote",
        "provider_id": str(number),
        "text": text,
        "address": address,
        "person": {"name": name},
    }


async def test_a_conversation_goes_on_without_a_reload(world: World) -> None:
    await connect(world)
    await receives(world, wrote("first"), ago_s=30.0)
    chat = await conversation_with(world, "7")
    cookie = await world.session(JUNE)

    async def happens(*events: dict[str, Any]) -> None:
        await receives(world, *events, ago_s=1.0)

    def talk(url: str, browsing: BrowserContext) -> None:
        sign_in(browsing, url, cookie)
        page, complaints = browsing.new_page(), list[str]()
        listen(page, complaints)
        page.goto(f"{url}/t/{JUNE}/inbox/{chat}")
        expect(page.locator("#inbox-state")).to_have_class("link-state on")
        page.evaluate("window.sameDocument = true")
        expect(page.locator("form[data-read]")).to_have_count(0)  # looked at by somebody: read
        expect(page.locator("#chat-list .badge")).to_have_count(0)
        box = page.locator("#reply-text")
        box.fill("a draft")
        trio.from_thread.run(partial(happens, wrote("second", number=2), wrote("other", "8", 3, "Boris") | {"at": 0.5}))
        expect(page.locator(".thread .bubble")).to_have_count(2)
        expect(page.locator("#chat-list .chats li")).to_have_count(2)
        expect(page.locator("#chat-list .chats li").first).to_contain_text("other")
        assert box.input_value() == "a draft", "what is being written stays"
        box.fill("an answer")
        box.press("Control+Enter")
        expect(page.locator(".bubble.out")).to_contain_text("an answer")
        expect(page.locator("#chat-head")).to_contain_text("yours")
        expect(page.locator("#reply-text")).to_have_value("")
        expect(page.locator("#reply-text")).to_be_focused()
        page.locator("#reply-text").fill("another")
        page.locator("#send").dblclick()
        expect(page.locator(".bubble.out")).to_have_count(2)
        assert page.evaluate("window.sameDocument"), "the page was loaded anew"
        assert complaints == []

    async with served(world) as url:
        await browse(partial(talk, url), locale="en", viewport={"width": 1440, "height": 900})


async def test_saved_replies_and_the_list_by_keyboard(world: World) -> None:
    chats = await fill_chats(world)
    cookie = await world.session(JUNE)

    def press(url: str, browsing: BrowserContext) -> None:
        sign_in(browsing, url, cookie)
        page = browsing.new_page()
        page.goto(f"{url}/t/{JUNE}/inbox/{chats.boris}")
        page.locator("#reply-text").focus()
        page.keyboard.type("/")
        choices = page.locator("#saved-choices")
        expect(choices).to_be_visible()
        page.keyboard.press("Escape")
        expect(choices).to_be_hidden()
        page.keyboard.type("1")
        expect(choices).to_be_visible()
        page.keyboard.press("Enter")
        assert page.locator("#reply-text").input_value() == "09:00 - 18:00"
        page.locator("#reply-text").fill("/zzz")
        expect(choices).to_be_hidden()
        page.locator(".chats a").first.focus()
        page.keyboard.press("ArrowDown")
        assert page.evaluate("document.activeElement.closest('li').id") == f"chat-{chats.boris}"
        page.keyboard.press("ArrowUp")
        page.keyboard.press("Enter")
        page.wait_for_url(f"**/inbox/{chats.anna}")
        lines = page.locator("#lines")
        assert lines.evaluate(
            "one => one.scrollHeight - one.clientHeight + one.scrollTop < 3 || one.scrollTop >= -1"
        ), "the end is in view"

    async with served(world) as url:
        await browse(partial(press, url), locale="en", viewport={"width": 1440, "height": 900})


async def test_files_are_added_before_the_message(world: World) -> None:
    await connect(world)
    await receives(world, wrote("first"), ago_s=30.0)
    chat = await conversation_with(world, "7")
    cookie = await world.session(JUNE)

    def add(url: str, browsing: BrowserContext) -> None:
        sign_in(browsing, url, cookie)
        page = browsing.new_page()
        sent = list[str]()

        def answer(route: Any) -> None:
            sent.append(route.request.headers["x-csrf-token"])
            if len(sent) == 1:
                route.fulfill(
                    status=201,
                    json={"id": "7c9e6679-7425-40de-944b-e07fc1f90ae7", "kind": "file", "name": "price.pdf", "size": 3},
                )
            else:
                route.fulfill(status=422, json={"detail": "x", "errors": [{"path": "file", "message": "is empty"}]})

        page.route("**/api/v1/files?tenant=0367", answer)
        page.goto(f"{url}/t/{JUNE}/inbox/{chat}")
        attach = page.locator("#attach input")
        attach.set_input_files({"name": "price.pdf", "mimeType": "application/pdf", "buffer": b"pdf"})
        expect(page.locator("#uploads li")).to_have_count(1)
        expect(page.locator("[name=attachments]")).to_have_value("7c9e6679-7425-40de-944b-e07fc1f90ae7")
        attach.set_input_files({"name": "empty.pdf", "mimeType": "application/pdf", "buffer": b""})
        expect(page.locator("#uploads .problem")).to_contain_text("empty.pdf was not added: is empty")
        page.locator("#uploads .problem button").click()
        expect(page.locator("#uploads li")).to_have_count(1)
        assert all(sent)

    async with served(world) as url:
        await browse(partial(add, url), locale="en", viewport={"width": 1440, "height": 900})


async def test_without_a_script_on_a_phone(world: World) -> None:
    chats = await fill_chats(world)
    cookie = await world.session(JUNE)

    def use(url: str, browsing: BrowserContext) -> None:
        sign_in(browsing, url, cookie)
        page: Page = browsing.new_page()
        page.goto(f"{url}/t/{JUNE}/inbox")
        expect(page.locator(".pane-chat")).to_be_hidden()
        page.locator(f"#chat-{chats.boris} a").click()
        expect(page.locator(".pane-list")).to_be_hidden()
        page.locator(".saved-list summary").click()
        page.locator(".saved-list a").click()
        assert page.locator("#reply-text").input_value() == "09:00 - 18:00"
        page.locator("#send").click()
        expect(page.locator(".bubble.out")).to_contain_text("09:00 - 18:00")
        page.locator(".to-person").click()
        expect(page.locator(".pane-chat")).to_be_hidden()
        expect(page.locator("#person-title")).to_be_visible()
        page.locator(".back-to-chat a").click()
        page.locator(".back").click()
        expect(page.locator(".pane-list")).to_be_visible()

    async with served(world) as url:
        await browse(partial(use, url), locale="en", viewport={"width": 360, "height": 780}, java_script_enabled=False)


async def test_a_message_is_quoted_and_both_sides_see_the_other_write(world: World) -> None:
    await connect(world)
    await receives(world, wrote("the red one or the blue one?"), ago_s=30.0)
    chat = await conversation_with(world, "7")
    cookie = await world.session(JUNE)
    assert world.deps.conversing is not None
    typing = world.deps.conversing.typing
    assert typing is not None

    async def client_writes() -> None:
        typing.wrote(JUNE, chat, "client")

    async def we_write() -> bool:
        return typing.until(JUNE, chat, client=False) is not None

    def talk(url: str, browsing: BrowserContext) -> None:
        sign_in(browsing, url, cookie)
        page, complaints, sent = browsing.new_page(), list[str](), list[str]()
        listen(page, complaints)
        page.on("request", lambda one: sent.append(one.url) if one.url.endswith("/typing") else None)
        page.goto(f"{url}/t/{JUNE}/inbox/{chat}")
        expect(page.locator("#inbox-state")).to_have_class("link-state on")
        page.evaluate("window.sameDocument = true")
        box = page.locator("#reply-text")
        box.fill("a draft")
        page.locator("[data-quote]").click()
        expect(page.locator("#quoting q")).to_have_text("the red one or the blue one?")
        expect(box).to_be_focused()
        page.locator("#quote-none").click()
        expect(page.locator("#quoting")).to_be_hidden()
        page.locator("[data-quote]").click()
        box.press_sequentially(", and more")
        assert len(sent) == 1, "not at every key"
        assert trio.from_thread.run(we_write)
        trio.from_thread.run(client_writes)
        types = page.locator("[data-types]")
        expect(types).to_have_text("the client is writing…")
        assert box.input_value() == "a draft, and more"
        expect(types).to_have_count(0, timeout=9000)
        box.press("Control+Enter")
        expect(page.locator(".bubble.out blockquote")).to_have_text("the red one or the blue one?")
        expect(page.locator("#quoting")).to_be_hidden()
        assert page.evaluate("window.sameDocument"), "the page was loaded anew"
        assert complaints == []

    async with served(world) as url:
        await browse(partial(talk, url), locale="en", viewport={"width": 1440, "height": 900})
