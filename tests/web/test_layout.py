"""Every page at three widths, measured: nothing wider than the screen, no text over text, no page blank, the heading in view,
nothing cut off. And a list of pages that leaves none of the site's out."""

import shutil
from functools import partial
from typing import Any

import pytest
from playwright.sync_api import BrowserContext

from gateway.web.session.access import RECORDINGS
from tests.web.every_page import prepare
from tests.web.shots import WIDTHS, dress
from tests.web.test_accessibility import browse, served
from tests.web.world import World

NO_PAGES = {
    "auth.home", "auth.login_once", "oauth.callback", "oauth.start",  # lead on
    "overview.day_fragment", "overview.waiting_fragment", "calls.live", "alerts.alerts", "missed.missed_list", "dialling.orders",
    "integrations.trouble_banner", "integrations.cards", "integrations.health", "pbxes.health", "operators.actors_picture",
    "calls.calls_csv", "deliveries.deliveries_csv", "audit.audit_file", "operators_audit.audit_file", "catalog.file",
    "inbox.list_fragment", "inbox.thread_fragment", "inbox.person_fragment", "inbox.live", "orders.live", "orders.part", "person_data.export",
    "static_file", "icon", *RECORDINGS,
    "integrations.another",  # leads on to the form of an integration
    "login_steps.look",  # none of our own adapters has a login
    "module_retailcrm.confirm_delete",  # by a module's link alone: tests/web/pages/test_module_home.py
    "companies.created",  # shown once: tests/e2e/first_quarter.py comes by
}  # fmt: skip
"""Addresses that give parts of pages, files or redirects."""

MEASURE = """() => {
  const wrong = [], width = document.documentElement.clientWidth, shown = (one) => {
    const style = getComputedStyle(one);
    return one.checkVisibility({visibilityProperty: true, opacityProperty: true}) && style.clipPath === "none";
  };
  if (document.documentElement.scrollWidth > width) wrong.push("scrolls sideways");
  const main = document.querySelector("main"), heading = main.querySelector("h1")?.getBoundingClientRect();
  if (!heading || heading.height === 0) wrong.push("has no heading");
  else if ((heading.top > innerHeight * 0.75 && !document.querySelector("#menu:target")) || heading.left < 0 || heading.right > width + 1) wrong.push("its heading is out of view");
  if (main.innerText.trim().length < 20 || main.getBoundingClientRect().height < 80) wrong.push("is blank");
  if (!document.querySelector("body.bare") && innerWidth > 820) {
    const nav = document.querySelector("#menu"), prefs = document.querySelector(".prefs").getBoundingClientRect();
    if (nav && prefs.bottom > innerHeight + 1) wrong.push("its menu does not fit: sign out is at " + Math.round(prefs.bottom));
  }
  const boxes = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const parent = node.parentElement;
    if (!node.data.trim() || parent.closest("svg, pre, textarea, option, #colours, .skip, script, style, .toast") || !shown(parent)) continue;
    let hidden = false;
    for (let one = parent; one && one !== document.body; one = one.parentElement) hidden ||= getComputedStyle(one).clipPath !== "none";
    if (hidden) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    for (const drawn of range.getClientRects()) {
      const box = {left: drawn.left, right: drawn.right, top: drawn.top, bottom: drawn.bottom};
      for (let one = parent; one && one !== document.body; one = one.parentElement) if (getComputedStyle(one).overflowX !== "visible") {
        const edge = one.getBoundingClientRect();
        box.left = Math.max(box.left, edge.left); box.right = Math.min(box.right, edge.right);
        box.top = Math.max(box.top, edge.top); box.bottom = Math.min(box.bottom, edge.bottom);
      }
      if (box.right - box.left > 2 && box.bottom - box.top > 2) boxes.push([box, node.data.trim().slice(0, 40), parent]);
    }
  }
  boxes.sort((a, b) => a[0].top - b[0].top);
  for (let i = 0; i < boxes.length; i++)
    for (let j = i + 1; j < boxes.length && boxes[j][0].top < boxes[i][0].bottom - 4; j++) {
      const [a, b] = [boxes[i][0], boxes[j][0]];
      if (boxes[i][2] === boxes[j][2]) continue;
      const across = Math.min(a.right, b.right) - Math.max(a.left, b.left), down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (across > 3 && down > 4) wrong.push(`text over text: "${boxes[i][1]}" and "${boxes[j][1]}"`);
    }
  for (const one of document.querySelectorAll("main button, main .button, main .chip, main label.check, th")) {
    if (shown(one) && one.scrollWidth > one.clientWidth + 2 && one.clientWidth > 0) wrong.push("cut off: " + one.innerText.slice(0, 40));
  }
  for (const one of document.querySelectorAll("main input:not([type=hidden]), main select, main textarea, main button, main a.button")) {
    const box = one.getBoundingClientRect();
    if (shown(one) && box.width > 0 && !one.closest(".picture, .panel:has(> .actors), .chart") && (box.right > width + 1 || box.left < -1))
      wrong.push("outside the screen: " + (one.name || one.innerText).slice(0, 40));
    if (shown(one) && one.matches("input:not([type=checkbox]), select, textarea") && box.width > 0 && box.width < 44) wrong.push("too narrow: " + one.name);
  }
  return [...new Set(wrong)].slice(0, 12);
}"""
"""What is wrong with a page's layout, in words."""


async def test_the_list_of_pages_leaves_none_out(world: World) -> None:
    _, pages = await prepare(world)
    adapter = world.app.url_map.bind("localhost")
    reached = {str(adapter.match(one.path.partition("?")[0], method="GET")[0]) for one in pages.values()}
    all_of_them = {
        str(rule.endpoint) for rule in world.app.url_map.iter_rules() if rule.methods and "GET" in rule.methods
    }
    assert all_of_them - NO_PAGES - reached == set()
    assert NO_PAGES - all_of_them <= set(RECORDINGS)


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.skipif(shutil.which("chromium") is None, reason="no Chromium here")
@pytest.mark.parametrize("width", WIDTHS)
async def test_the_layout_of_every_page(world: World, width: int) -> None:
    cookies, pages = await prepare(world)
    found: dict[str, list[str]] = {}

    def look(url: str, browsing: BrowserContext) -> None:
        page = browsing.new_page()
        for name, shown in pages.items():
            page.goto("about:blank")  # else the page of before loads itself anew when its session is gone
            dress(browsing, url, cookies, shown)
            answer = page.goto(url + shown.path, wait_until="load")
            assert answer is not None
            assert answer.status == shown.status, name
            if wrong := page.evaluate(MEASURE):
                found[name] = wrong
            if width == 360 and shown.whose and page.locator("#menu").count():
                page.locator(".menu-link").click()
                if not page.locator("#menu a").first.is_visible() or page.evaluate(MEASURE):
                    found[f"{name}, menu"] = page.evaluate(MEASURE)

    async with served(world) as url:
        context: dict[str, Any] = {"viewport": {"width": width, "height": 900}, "reduced_motion": "reduce"}
        await browse(partial(look, url), locale="ru-RU", **context)
    assert found == {}, "\n".join(f"{name}: {one}" for name, wrong in found.items() for one in wrong)
