"""Pictures of the pages for a person to look at: `python -m tests.web.shots FOLDER`. Not a test.

Serves the app over an embedded PostgreSQL with the calls of `tests.web.world` and photographs it with Chromium, narrow
and wide, light and dark, in both languages.
"""

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Literal

import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from playwright.sync_api import BrowserContext, sync_playwright

from gateway.store.embedded.embedded import as_login, embedded
from gateway.store.postgres.migrate import migrate
from gateway.store.postgres.pool import open_database
from gateway.store.postgres.roles import LOGIN
from tests.web.every_page import Shown, prepare
from tests.web.world import make_world

CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
Theme = Literal["light", "dark"]
Dress = tuple[int, Theme, str]
WIDTHS = (1440, 768, 360)
FEW: Sequence[Dress] = (
    (1440, "light", "ru"), (1440, "dark", "en"), (768, "light", "en"), (768, "dark", "ru"), (360, "light", "en"), (360, "dark", "ru"),
)  # fmt: skip
"""Each width, theme and language, though not each with each."""
ALL: Sequence[Dress] = tuple(product(WIDTHS, ("light", "dark"), ("ru", "en")))


def photograph(
    url: str,
    folder: Path,
    cookies: Mapping[str, tuple[str, str]],
    pages: Mapping[str, Shown],
    only: str,
    dresses: Sequence[Dress],
) -> None:
    """Every page in every dress."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for width, theme, language in dresses:
            context = browser.new_context(
                viewport={"width": width, "height": 900}, color_scheme=theme, locale=language, reduced_motion="reduce"
            )
            page = context.new_page()
            page.on("console", lambda message: print("console:", message.text) if message.type == "error" else None)
            page.on("pageerror", lambda error: print("error:", error))
            for name, shown in pages.items():
                if only not in name:
                    continue
                dress(context, url, cookies, shown)
                page.goto(url + shown.path, wait_until="load")
                too_wide = page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
                print(f"{name}-{width}-{theme}-{language}.png", "OVERFLOWS" if too_wide else "")
                page.screenshot(path=folder / f"{name}-{width}-{theme}-{language}.png", full_page=True)
            context.close()
        browser.close()


def dress(context: BrowserContext, url: str, cookies: Mapping[str, tuple[str, str]], shown: Shown) -> None:
    """Signs in as the page's person."""
    context.clear_cookies()
    if shown.whose:
        name, value = cookies[shown.whose]
        context.add_cookies([{"name": name, "value": value, "url": url}])


async def main(folder: Path, only: str, dresses: Sequence[Dress]) -> None:
    """Starts everything, takes the pictures, stops everything."""
    with tempfile.TemporaryDirectory() as data:
        async with embedded(Path(data), settings={"fsync": "off"}) as server:
            await migrate(server.dsn, login=LOGIN, make_login=True)
            async with open_database(as_login(server.dsn)) as db, trio.open_nursery() as nursery:
                world = await make_world(db)
                cookies, pages = await prepare(world)
                config = Config()
                config.bind = ["127.0.0.1:0"]
                urls = await nursery.start(partial(serve, world.app, config))
                take = partial(photograph, urls[0], folder, cookies, pages, only, dresses)
                await trio.to_thread.run_sync(take)
                nursery.cancel_scope.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Pictures of the admin UI.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="", help="part of a page's name")
    parser.add_argument(
        "--all", action="store_true", help="each width in each theme and language: twelve of a page, not six"
    )
    parser.add_argument("--width", type=int, choices=WIDTHS, help="this width alone")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    wanted = [one for one in (ALL if arguments.all else FEW) if arguments.width in (None, one[0])]
    trio.run(main, arguments.folder, arguments.only, wanted)
