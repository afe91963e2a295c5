"""Pictures of the pages for a person to look at: `python -m tests.web.shots FOLDER`. Not a test.

Serves the app over an embedded PostgreSQL with the calls of `tests.web.world` and photographs it with Chromium, narrow
and wide, light and dark, in both languages.
"""

import argparse
import tempfile
from functools import partial
from pathlib import Path

import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from playwright.sync_api import sync_playwright

from gateway.domain.dialling import Rules
from gateway.domain.profile import Profile
from gateway.domain.prompts import Variable
from gateway.store.audit import insert_audit
from gateway.store.business_profiles import upsert_profile
from gateway.store.call_orders import NewOrder, admit, finish_order
from gateway.store.catalog_items import upsert_items
from gateway.store.dead_letters import DeadLetterRow, insert_dead_letters
from gateway.store.embedded.embedded import as_login, embedded
from gateway.store.postgres.migrate import migrate
from gateway.store.postgres.pool import Connection, open_database
from gateway.store.postgres.roles import LOGIN
from gateway.web.content.catalog import read_item
from gateway.web.content.prompts import save_version
from tests.web.world import JUNE, MAPLE, World, make_world, play

CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


def photograph(url: str, folder: Path, cookies: dict[str, str], pages: dict[str, tuple[str, str]], only: str) -> None:
    """Every page in every dress. `pages`: name -> (whose cookie, path)."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for width, theme, language in (
            (1440, "light", "ru"),
            (1440, "dark", "en"),
            (768, "light", "en"),
            (768, "dark", "ru"),
            (360, "light", "en"),
            (360, "dark", "ru"),
        ):
            context = browser.new_context(
                viewport={"width": width, "height": 900}, color_scheme="light" if theme == "light" else "dark",
                locale=language,
            )  # fmt: skip
            for name, (whose, path) in pages.items():
                if only not in name:
                    continue
                context.clear_cookies()
                if whose:
                    context.add_cookies([{"name": "session", "value": cookies[whose], "url": url}])
                page = context.new_page()
                page.on("console", lambda message: print("console:", message.text))
                page.on("pageerror", lambda error: print("error:", error))
                page.goto(url + path)
                page.wait_for_timeout(500)
                too_wide = page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
                print(f"{name}-{width}-{theme}-{language}.png", "OVERFLOWS" if too_wide else "")
                page.screenshot(path=folder / f"{name}-{width}-{theme}-{language}.png", full_page=True)
                page.close()
            context.close()
        browser.close()


async def fill_orders(conn: Connection) -> None:
    """Orders in every state, and a trail."""
    for place, state, reason in (
        (1, "asked", ""),
        (2, "refused", "no_device"),
        (3, "doubtful", "left"),
        (4, "taken", ""),
    ):
        order = NewOrder(
            order_id=f"gw-{place}", call_id=f"gw-{place}", pbx="main", asked_by="retailcrm", extension="150",
            number=f"+37529625407{place}",
        )  # fmt: skip
        await admit(conn, JUNE, order, Rules())
        await finish_order(conn, JUNE, order.order_id, state, reason)
        await insert_audit(conn, JUNE, "retailcrm", "call.placed", f"150 -> {order.number}", order.order_id)
    await insert_audit(conn, JUNE, "admin@june.example", "call.refused", "150 -> +79161234567", "not_allowed")
    await insert_audit(conn, JUNE, "admin@june.example", "pbx.changed", "main", "host, port")


async def fill_content(conn: Connection) -> str:
    """A profile, some items, and a prompt of two versions; its id."""
    hours = [
        {"days": ["mon", "tue", "wed", "thu"], "from": "09:00", "to": "18:00"},
        {"days": ["fri", "sat"], "from": "12:00", "to": "26:00"},
    ]
    profile = {
        "business_type": "restaurant",
        "phone": "+375291112233",
        "working_hours": hours,
        "holidays": ["2026-12-31"],
    }
    await upsert_profile(conn, JUNE, Profile.model_validate(profile))
    for place, (item_id, name, price) in enumerate(
        (("margherita", "Маргарита", "12.50"), ("funghi", "Фунги", "14"), ("tea", "Чай", "3"))
    ):
        data = {
            "id": item_id,
            "name": name,
            "price": price,
            "category": "Пицца" if place < 2 else None,
            "sort_order": place,
        }
        await upsert_items(conn, JUNE, [read_item(data, "BYN")])
    text = "# Роль\nТы оператор компании {{business_name}}.\n\n# Правила\nДоставка: {{delivery_fee}}. Часы: {{working_hours}}.\n\n# Каталог\n{{catalog}}\n"
    fee = Variable(key="delivery_fee", label="Доставка", default_value="5 BYN")
    await save_version(conn, JUNE, "Основной", text, (fee,), "", "admin@june.example")
    saved = await save_version(
        conn,
        JUNE,
        "Основной",
        text.replace("оператор", "вежливый оператор") + "{{nobody}} {{open",
        (fee,),
        "проба",
        "admin@june.example",
    )
    return saved.prompt.prompt_id


async def prepare(world: World) -> tuple[dict[str, str], dict[str, tuple[str, str]]]:
    """Cookies by person, and pages by name."""
    calls = await play(world)
    await play(world, MAPLE)
    await world.db.tenant(JUNE, fill_orders)
    trace = 'Traceback (most recent call last):\n  File "actors/calls/tenant_calls.py", line 244, in _route\nValueError: a bug'
    dead_letters = [
        DeadLetterRow(JUNE, "tenant/0367/integration/retailcrm", '{"event": "call_ended", "call_id": "7.1"}', trace)
    ]
    await world.db.engine(insert_dead_letters, dead_letters, "1.0")
    prompt = await world.db.tenant(JUNE, fill_content)
    cookies = {"june": await world.session(JUNE), "operator": await world.session(None, acting=MAPLE)}
    pages = {
        "login": ("", "/login"),
        "overview": ("june", "/t/0367/"),
        "missed-calls": ("june", "/t/0367/missed"),
        "search": ("june", "/t/0367/search?q=15"),
        "search-none": ("june", "/t/0367/search?q=zzz"),
        "calls": ("june", "/t/0367/calls"),
        "calls-none": ("june", "/t/0367/calls?q=zzz&result=busy"),
        "call": ("june", f"/t/0367/calls/{calls[5].call_id}"),
        "call-failed": ("june", f"/t/0367/calls/{calls[2].call_id}"),
        "integrations": ("june", "/t/0367/integrations"),
        "integration": ("june", "/t/0367/integrations/retailcrm"),
        "setup": ("june", "/t/0367/integrations/telegram"),
        "pbx": ("operator", "/t/0368/pbxes/main"),
        "pbx-new": ("june", "/t/0367/pbxes/new"),
        "dialling": ("june", "/t/0367/dialling?phone=%2B375296254070"),
        "audit": ("june", "/t/0367/audit"),
        "deliveries": ("june", "/t/0367/deliveries"),
        "deliveries-replay": ("june", "/t/0367/deliveries/replay"),
        "letters": ("operator", "/operators/letters"),
        "tenants": ("operator", "/operators/tenants"),
        "company-new": ("operator", "/operators/tenants/new"),
        "installation": ("operator", "/operators/installation"),
        "actors": ("operator", "/operators/actors"),
        "content-profile": ("june", "/t/0367/profile"),
        "content-catalog": ("june", "/t/0367/catalog"),
        "content-item": ("june", "/t/0367/catalog/item/margherita"),
        "content-import": ("june", "/t/0367/catalog/import"),
        "content-prompts": ("june", "/t/0367/prompts"),
        "content-prompt": ("june", f"/t/0367/prompts/{prompt}"),
        "content-history": ("june", f"/t/0367/prompts/{prompt}/history"),
        "missing": ("june", "/t/0368/calls"),
    }
    return cookies, pages


async def main(folder: Path, only: str) -> None:
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
                take = partial(photograph, urls[0], folder, cookies, pages, only)
                await trio.to_thread.run_sync(take)
                nursery.cancel_scope.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Pictures of the admin UI.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="", help="part of a page's name")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    trio.run(main, arguments.folder, arguments.only)
