"""The same widget in Firefox, which keeps a frame of another site apart: writing, an answer, history after a reload, a refusal."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import trio

from gateway.store.postgres.pool import Database
from tests.web.widget.firefox import Firefox, open_firefox
from tests.web.widget.here import JUNE, KEYS
from tests.web.widget.test_browser import Shop, conversation, open_shop

FIREFOX = shutil.which("firefox-esr") or shutil.which("firefox")
FRAME = "return document.querySelector('body > div').shadowRoot.querySelector('iframe')"
ITEMS = "return [...document.querySelectorAll('li')].map((one) => one.querySelector('.text').textContent)"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.long,
    pytest.mark.timeout(300),
    pytest.mark.skipif(FIREFOX is None, reason="no Firefox here"),
]


async def browse(folder: Path, visit: Any) -> None:
    """Runs `visit` with a Firefox in a thread of its own."""

    def in_thread() -> None:
        assert FIREFOX is not None
        with open_firefox(FIREFOX, folder) as firefox:
            visit(firefox)

    await trio.to_thread.run_sync(in_thread)


def open_chat(firefox: Firefox, shop: Shop) -> None:
    firefox.goto(shop.url)
    firefox.until(
        "return window.gatewayChat && !document.querySelector('body > div').shadowRoot.querySelector('button').hidden"
    )
    firefox.run("gatewayChat.open()")
    firefox.enter(firefox.run(FRAME))


async def test_firefox_writes_is_answered_and_finds_it_again(db: Database, tmp_path: Path) -> None:
    async with open_shop(db) as shop:

        def visit(firefox: Firefox) -> None:
            firefox.goto(shop.url)
            assert firefox.run("return [localStorage.length, document.cookie]") == [0, ""]
            open_chat(firefox, shop)
            assert firefox.run("return document.documentElement.lang") == "ru"
            firefox.run(
                "document.querySelector('textarea').value = 'привет'; document.querySelector('form').requestSubmit()"
            )
            firefox.until(f"{ITEMS}.length === 1 && !document.querySelector('li').textContent.includes('отправляется')")
            known = shop.run(conversation, shop.here)
            shop.run(shop.here.answers, known, "добрый день")
            firefox.until(f"{ITEMS}.length === 2")
            firefox.enter(None)
            assert firefox.run("return Object.keys(localStorage)") == [f"gatewayChat.{KEYS[JUNE]}"]
            open_chat(firefox, shop)
            assert firefox.until(f"const found = (() => {{ {ITEMS} }})(); return found.length === 2 && found") == [
                "привет",
                "добрый день",
            ]

        await browse(tmp_path, visit)


async def test_firefox_shows_nothing_on_a_site_that_is_not_allowed(db: Database, tmp_path: Path) -> None:
    async with open_shop(db, allowed=False) as shop:

        def visit(firefox: Firefox) -> None:
            firefox.goto(shop.url)
            firefox.until("return window.gatewayChat && !document.querySelector('body > div')")

        await browse(tmp_path, visit)
