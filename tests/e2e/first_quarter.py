"""A new operator's first quarter of an hour, by a browser: from an empty folder to two companies whose calls reach their CRM.

    python -m tests.e2e.first_quarter FOLDER     a picture of each step into FOLDER, and the table of clicks and seconds

It does what the printed words, the pages and their links say, and types no address but the first. `test_first_quarter.py` runs it.
"""

import argparse
import re
import shlex
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio
from playwright.sync_api import Locator, Page, expect, sync_playwright

from tests.sandbox.pbx import SimulatedPbx
from tests.sandbox.product import Gateway, free_address
from tests.sandbox.retailcrm import RetailCrm

CHROMIUM = shutil.which("chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync", "--no-first-run"]
EMAIL, PASSWORD = "olga@gateway.example", "correct horse battery staple"
CLIENT = "+375296254070"


@dataclass(slots=True)
class Step:
    """One step of the walk."""

    name: str
    clicks: int = 0
    fields: int = 0
    """Fields typed into or chosen from."""
    seconds: float = 0.0


@dataclass
class Walk:
    """A page and what was done on it. `folder`: where pictures go, None for none."""

    page: Page
    folder: Path | None = None
    steps: list[Step] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", lambda one: self.complaints.append(one.text) if one.type == "error" else None)
        self.page.on("pageerror", lambda one: self.complaints.append(str(one)))

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """A step; its picture is taken at its end."""
        began = time.monotonic()
        self.steps.append(Step(name))
        yield
        self.steps[-1].seconds = time.monotonic() - began
        if self.folder is not None:
            file = f"{len(self.steps):02d}-{re.sub('[^a-z0-9]+', '-', name.lower())}.png"
            self.page.screenshot(path=self.folder / file, full_page=True)

    def click(self, what: Locator) -> None:
        """A click."""
        self.steps[-1].clicks += 1
        what.click()

    def press(self, name: str, *, exact: bool = True) -> None:
        """A click on the button of this name."""
        self.click(self.page.locator("main").get_by_role("button", name=name, exact=exact))

    def follow(self, name: str) -> None:
        """A click on the link of this name, in the page's body."""
        self.click(self.page.locator("main").get_by_role("link", name=name).first)

    def go(self, name: str) -> None:
        """A click on an entry of the menu."""
        self.click(self.page.locator("#menu").get_by_role("link", name=name))

    def fill(self, **values: str) -> None:
        """Fields by their names; those of settings forms may begin with `s.`."""
        for name, value in values.items():
            self.steps[-1].fields += 1
            found = self.page.locator(f'main :is([name="{name}"], [name="s.{name}"])').first
            if found.evaluate("one => one.tagName") == "SELECT":
                found.select_option(value)
            else:
                found.fill(value)

    def table(self) -> str:
        """The steps with what they cost."""
        width = max(len(one.name) for one in self.steps)
        lines = [f"{'step':{width}}  clicks  fields  seconds"]
        lines += [f"{one.name:{width}}  {one.clicks:6}  {one.fields:6}  {one.seconds:7.1f}" for one in self.steps]
        total = (sum(one.clicks for one in self.steps), sum(one.fields for one in self.steps))
        lines.append(f"{'all':{width}}  {total[0]:6}  {total[1]:6}  {sum(one.seconds for one in self.steps):7.1f}")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Company:
    """What the operator has in hand for one company."""

    number: str
    name: str
    pbx: SimulatedPbx
    port: int
    crm: RetailCrm

    @property
    def email(self) -> str:
        return f"admin@{self.name.lower()}.example"


@dataclass
class Place:
    """An empty folder with a gateway, and what stands around it."""

    gateway: Gateway
    url: str
    companies: list[Company]
    call: Callable[[Company], None]
    """Rings a company's number, from the browser's thread."""


def printed_command(log: str) -> tuple[list[str], str]:
    """What the gateway says to do first: the arguments of its command, and the address to open."""
    found = re.search(r"`([^`]+ user add [^`]+)`, then open (http\S+?)(?=[\s\"\\]|$)", log)
    assert found is not None, log[-3000:]
    words = [one for one in shlex.split(found[1]) if "=" not in one]
    assert words[0] == "gateway"
    return [one.replace("YOU@example.com", EMAIL) for one in words[1:]], found[2]


def set_up(walk: Walk, company: Company) -> None:
    """A company from the list of companies to its own pages with a PBX, numbers, a CRM and a prompt."""
    page, of = walk.page, f" ({company.name})"
    with walk.step("company by the form" + of):
        walk.follow("New company")
        walk.fill(number=company.number, name=company.name, email=company.email)
        walk.press("Create the company")
        expect(page.locator("main")).to_contain_text("/login/once?token=")
    with walk.step("act as it" + of):
        walk.follow("Set it up now")
        walk.fill(reason="First set-up")
        walk.press("Act as the company")
        page.wait_for_url(f"**/t/{company.number}/")
    with walk.step("PBX" + of):
        walk.follow("Connect the PBX")
        walk.fill(
            host="127.0.0.1", port=str(company.port), username=company.pbx.username, secret=company.pbx.secret,
            trunks=company.pbx.trunk, originate_context="inoffice",
        )  # fmt: skip
        walk.press("Save")
        expect(page.locator(".health .chip").first).to_have_text("Active")
    with walk.step("internal numbers" + of):
        walk.follow("Enter internal numbers")
        for number, owner in (("150", "Anna Clark"), ("151", "Ivan Stone")):
            walk.fill(number=number, owner=owner)
            walk.press("Save number")
            expect(page.locator(".phones")).to_contain_text(owner)
    with walk.step("RetailCRM" + of):
        walk.follow("Connect a CRM")
        walk.follow("RetailCRM")
        walk.fill(domain=company.crm.base, api_key=company.crm.api_key)
        walk.press("Save")
        expect(page.locator("main")).to_contain_text("Register")
    with walk.step("module registered" + of):
        walk.press("Register")
        expect(page.get_by_role("region", name="Module")).to_contain_text("Registered in RetailCRM")
    with walk.step("whose number is whose" + of):
        walk.click(page.get_by_role("region", name="Module").get_by_role("link", name="Extensions"))
        user = str(company.crm.users[0]["id"])
        walk.fill(**{f"n-{user}": "150"})
        walk.press("Save")
        expect(page.locator(f'[name="n-{user}"]')).to_have_value("150")
    with walk.step("profile" + of):
        walk.go("Profile")
        walk.fill(phone="+375172000001", **{"hours-mon": "09:00-18:00"})
        walk.press("Save")
        expect(page.locator(".week")).to_be_visible()
    with walk.step("prompt" + of):
        walk.follow("Write the prompt")
        walk.fill(name="Main")
        walk.press("Save")
        expect(page.locator("h1")).to_contain_text("Active")


def see_a_call(walk: Walk, place: Place, company: Company) -> None:
    """A call, on the overview and then in its CRM."""
    page = walk.page
    with walk.step(f"a call, live ({company.name})"):
        walk.go("Overview")
        expect(page.locator("#live-state")).to_have_class("link-state on")
        place.call(company)
        row = page.locator("#live tr", has_text="+375 29 625-40-70")
        expect(row).to_contain_text("Anna Clark")
        expect(row).to_contain_text("Talking")
    with walk.step(f"the call, told to the CRM ({company.name})"):
        expect(row).to_have_count(0)
        walk.go("Calls")
        walk.click(page.locator("#history").get_by_role("link", name="+375 29 625-40-70"))
        delivered = page.locator("main", has_text="entry in the call log")
        expect(delivered).to_be_visible()


def walk_through(place: Place, page: Page, folder: Path | None, add_user: Callable[[list[str]], None]) -> Walk:
    """The whole walk."""
    walk = Walk(page, folder)
    with walk.step("first user by the printed words"):
        arguments, address = printed_command(place.gateway.log.read_text("utf-8", "replace"))
        add_user(arguments)
        page.goto(address)
    with walk.step("sign in"):
        walk.fill(email=EMAIL, password=PASSWORD)
        walk.press("Sign in")
        page.wait_for_url("**/operators/tenants")
    for at, company in enumerate(place.companies):
        if at:
            with walk.step("back to the companies"):
                walk.go("Companies")
        set_up(walk, company)
        see_a_call(walk, place, company)
    return walk


@asynccontextmanager
async def open_place(folder: Path) -> AsyncIterator[Place]:
    """`gateway run` on an empty folder, and a PBX and a CRM for each of two companies."""
    bind, intake = free_address(0), free_address(0)
    environment = {
        "GATEWAY_DATA_DIR": str(folder / "var"), "GATEWAY_BIND": bind, "GATEWAY_INTAKE_BIND": intake,
        "GATEWAY_ALLOWED_PRIVATE_NETS": "127.0.0.0/8",
    }  # fmt: skip
    gateway = Gateway(environment, folder / "gateway.log")
    async with trio.open_nursery() as nursery:
        companies = []
        for number, name in (("0367", "June"), ("0368", "Maple")):
            pbx, crm = SimulatedPbx(tempo=0.25, seed=7), RetailCrm(rate_limits=False)
            await nursery.start(crm.serve)
            companies.append(Company(number, name, pbx, await nursery.start(pbx.serve), crm))

        def call(company: Company) -> None:
            async def play() -> None:
                await company.pbx.play("incoming_answered", client=CLIENT, ring_s=6, talk_s=8)

            trio.from_thread.run_sync(nursery.start_soon, play)

        async with gateway.running() as child:
            await gateway.wait_ready(child, f"http://{bind}")
            yield Place(gateway, f"http://{bind}", companies, call)
        nursery.cancel_scope.cancel()


async def first_quarter(folder: Path, pictures: Path | None = None) -> tuple[Walk, Place]:
    """Walks it in an empty `folder`."""
    async with open_place(folder) as place:

        def add_user(arguments: list[str]) -> None:
            async def add() -> None:
                await place.gateway.ask(*arguments, stdin=PASSWORD + "\n")

            trio.from_thread.run(add)

        def in_thread() -> Walk:
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
                page = browser.new_context(locale="en-GB", viewport={"width": 1280, "height": 900}).new_page()
                page.set_default_timeout(20_000)
                try:
                    return walk_through(place, page, pictures, add_user)
                except BaseException:
                    if pictures is not None:
                        page.screenshot(path=pictures / "stuck.png", full_page=True)
                        shutil.copy(place.gateway.log, pictures)
                    raise
                finally:
                    browser.close()

        walk = await trio.to_thread.run_sync(in_thread)
        with trio.fail_after(30):
            while not all(company.crm.uploads for company in place.companies):
                await trio.sleep(0.05)
        return walk, place


def main() -> None:
    """Walks, and prints the table."""
    parser = argparse.ArgumentParser(description="A new operator's first quarter of an hour, in pictures.")
    parser.add_argument("folder", type=Path)
    pictures: Path = parser.parse_args().folder
    pictures.mkdir(parents=True, exist_ok=True)
    expect.set_options(timeout=20_000)
    with tempfile.TemporaryDirectory() as empty:
        walk, _ = trio.run(first_quarter, Path(empty), pictures)
    print(walk.table())


if __name__ == "__main__":
    main()
