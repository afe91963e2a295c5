"""The module of the CRM in a real browser: registered, opened by its link, numbers saved, switched off. In both languages,
on a phone's screen and with the keyboard."""

import os
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trio
from playwright.sync_api import BrowserContext, expect

from tests.e2e.test_browser import browse, open_page
from tests.e2e.test_browser import pytestmark as browser_marks
from tests.e2e.world import World, open_world

pytestmark = [*browser_marks, pytest.mark.long]

SHOTS = os.environ.get("SHOTS")
"""A folder for pictures, for a person to look at."""


def codes(world: World) -> dict[int, str]:
    (module,) = world.crm.modules.values()
    return {item["userId"]: item["code"] for item in module["integrations"]["telephony"]["additionalCodes"]}


async def test_from_registration_to_a_refused_link(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        world.crm.users += [
            {"id": 31, "firstName": "Konstantin", "lastName": "Konstantinopolsky-Vyazemsky", "email": "k@june.example"}
        ]
        panel = f"{world.url}/t/0367/integrations/retailcrm"

        def visit(browsing: BrowserContext) -> None:
            page, complaints = open_page(browsing, panel)
            page.get_by_role("button", name="Register").click()
            expect(page.get_by_text("Done.")).to_be_visible()
            (module,) = world.crm.modules.values()
            assert codes(world) == {19: "150"}
            link = module["accountUrl"]
            assert link.startswith(f"{world.url}/retailcrm-admin/?enterprise_number=0367&token=")

            assert browsing.browser is not None
            elsewhere = browsing.browser.new_context(locale="en-GB")  # a CRM user who has no account with us
            crm, grumbles = open_page(elsewhere, link)
            assert crm.url == f"{world.url}/retailcrm-admin/?enterprise_number=0367"
            assert crm.evaluate("document.referrer") == ""
            assert "token" not in crm.evaluate("history.length + location.href")
            crm.get_by_label("Internal number: Анна Кузьмина").select_option("151")
            crm.get_by_label("Status: Иван Петров").select_option("dinner")
            crm.locator("form[action$='/extensions/save']").get_by_role("button", name="Save").click()
            expect(crm.get_by_text("Saved here and in RetailCRM.")).to_be_visible()
            assert codes(world) == {18: "151", 19: "150"}
            assert next(user for user in world.crm.users if user["id"] == 19)["status"] == "dinner"
            crm.get_by_label("Internal number: Ольга Мороз").focus()
            crm.keyboard.type("150")
            crm.locator("form[action$='/extensions/save']").get_by_role("button", name="Save").focus()
            crm.keyboard.press("Enter")
            expect(crm.get_by_text("150 has moved from Иван Петров to Ольга Мороз.")).to_be_visible()
            assert codes(world) == {18: "151", 22: "150"}
            assert grumbles == []

            page.get_by_role("button", name="Deactivate").click()
            expect(page.get_by_text("Switched off in RetailCRM.")).to_be_visible()
            (module,) = world.crm.modules.values()
            assert (module["active"], codes(world)) == (False, {18: "151", 22: "150"})
            answer = crm.goto(link)
            assert answer is not None
            assert answer.status == 401
            expect(crm.get_by_text("This link is not valid")).to_be_visible()
            answer = crm.goto(f"{world.url}/retailcrm-admin/?enterprise_number=0367")
            assert answer is not None
            assert answer.status == 401, "the session ended with the registration"
            assert "/login" in (crm.goto(f"{world.url}/t/0367/calls") or answer).url
            assert complaints == []

        await browse(world, visit, locale="en-GB")
        log = (tmp_path / "gateway.log").read_text()
        assert "token=" not in log
        assert "eyJ" not in log


async def test_the_page_in_both_languages_and_on_a_phone(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:

        def look(browsing: BrowserContext, name: str) -> None:
            page, complaints = open_page(browsing, f"{world.url}/t/0367/integrations/retailcrm")
            page.locator('button[value="register"]').click()
            page.wait_for_load_state()
            if SHOTS:
                page.screenshot(path=Path(SHOTS) / f"panel-{name}.png", full_page=True)
            (module,) = world.crm.modules.values()
            module["integrations"]["telephony"]["additionalCodes"].append({"userId": 22, "code": "155"})
            for place, url in (("extensions", f"{world.url}/t/0367/extensions"), ("module", module["accountUrl"])):
                trio.from_thread.run(trio.sleep, 0)
                page, more = open_page(browsing, url)
                expect(page.locator("#n-19")).to_have_value("150")
                too_wide = page.evaluate("document.documentElement.scrollWidth > window.innerWidth")
                assert not too_wide, (place, name)
                assert urlsplit(page.url).query.find("token") == -1
                complaints += more
                if SHOTS:
                    page.screenshot(path=Path(SHOTS) / f"{place}-{name}.png", full_page=True)
            assert complaints == []

        for locale, width, scheme in (
            ("ru-RU", 1280, "light"), ("en-GB", 1280, "dark"), ("ru-RU", 360, "dark"), ("en-GB", 360, "light"),
        ):  # fmt: skip
            name = f"{locale[:2]}-{width}"

            def visit(browsing: BrowserContext, name: str = name) -> None:
                look(browsing, name)

            await browse(world, visit, locale=locale, viewport={"width": width, "height": 800}, color_scheme=scheme)


@pytest.mark.parametrize("number", ["0367"])
async def test_a_map_waits_for_a_crm_that_is_away(tmp_path: Path, number: str) -> None:
    async with open_world(tmp_path) as world:

        def register(browsing: BrowserContext) -> None:
            page, _ = open_page(browsing, f"{world.url}/t/{number}/integrations/retailcrm")
            page.get_by_role("button", name="Register").click()
            expect(page.get_by_text("Done.")).to_be_visible()
            world.crm.fault = "http_500"
            page, _ = open_page(browsing, f"{world.url}/t/{number}/extensions")
            expect(page.get_by_text("does not answer now")).to_be_visible()
            expect(page.locator("#n-19")).to_have_value("150")
            page.locator("#n-19").select_option("153")
            page.get_by_role("button", name="Save", exact=True).click()
            expect(page.get_by_text("has not been updated yet; this is retried automatically").first).to_be_visible()
            world.crm.fault = "none"

        await browse(world, register, locale="en-GB")
        await world.wait_for(lambda: codes(world) == {19: "153"}, within_s=60)
