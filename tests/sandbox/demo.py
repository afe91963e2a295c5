"""`make demo`: the real gateway as a child process, and around it the sandbox world, all on loopback sockets.

It owns the children it starts and the files under ./var/demo. Nothing in the product knows that this is a demo.

    sandboxes and PBXes up -> gateway run -> /ready -> apply -> users and links -> calls until Ctrl-C
"""

import argparse
import json
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import trio

from tests.sandbox.pbx import SimulatedPbx
from tests.sandbox.plays import Truth
from tests.sandbox.product import Gateway, free_address, write_private
from tests.sandbox.retailcrm import RetailCrm
from tests.sandbox.telegram import Telegram

VAR = Path("var")
DEMO = VAR / "demo"
TEMPO = 0.5
"""Talks in the demo are half as long as in life: there is more to see."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Company:
    """One demo tenant: who works there, and in which language, country and zone."""

    number: str
    name: str
    language: str
    country: str
    timezone: str
    regions: tuple[str, ...]
    company: str
    chat: int
    people: Mapping[str, str]
    users: Mapping[str, str]

    @property
    def email(self) -> str:
        """Its administrator."""
        return f"admin@{self.name.lower()}.example"


COMPANIES = (
    Company(
        number="0367", name="June", language="ru", country="BY", timezone="Europe/Minsk", regions=("BY", "BY", "BY", "RU"),
        company="375172000001", chat=-1001234567890,
        people={"150": "Иван Петров", "151": "Анна Кузьмина", "152": "Ольга Мороз", "153": "Павел Сидорович", "154": "Вера Климова", "155": "Олег Дорош"},
        users={"19": "150", "18": "151", "22": "152"},
    ),
    Company(
        number="0368", name="Maple", language="en", country="GB", timezone="Europe/London", regions=("GB",),
        company="442079460001", chat=-1009876543210,
        people={"201": "Alice Green", "202": "Bob Stone", "203": "Carol Hill", "204": "Daniel Reed", "205": "Emma Wood"},
        users={"18": "201", "19": "202", "22": "203"},
    ),
)  # fmt: skip
OPERATOR = "operator@gateway.example"


def text_of(text: str = "") -> None:
    """A line for the person at the terminal, at once."""
    print(text, flush=True)


def tenant_of(company: Company, pbx: SimulatedPbx, port: int, crm: RetailCrm, crm_url: str, bot: str) -> dict[str, Any]:
    """The tenant's block of the file for `gateway apply`."""
    return {
        "number": company.number, "name": company.name, "token": secrets.token_urlsafe(32),
        "timezone": company.timezone, "country": company.country, "language": company.language,
        "phones": [{"number": number, "owner": owner} for number, owner in company.people.items()],
        "pbxes": [{
            "name": "main", "host": "127.0.0.1", "port": port, "tls": False, "username": pbx.username,
            "secret": pbx.secret, "trunks": [pbx.trunk], "originate_context": "inoffice",
        }],
        "integrations": {
            "retailcrm": {
                "enabled": True, "domain": crm_url, "api_key": crm.api_key, "user_extensions": dict(company.users),
            },
            "telegram": {"enabled": True, "bot_token": bot, "notify_chats": [company.chat]},
        },
    }  # fmt: skip


async def play(company: Company, pbx: SimulatedPbx, rate: float) -> None:
    """Calls until cancelled, each told in a line when it has ended."""

    def emit(call: Truth) -> None:
        talk = f", {call['talk_s']:.0f} s" if call["talk_s"] else ""
        text_of(f"  {company.number}  {call['caller']} -> {call['called']}  {call['direction']} {call['result']}{talk}")

    pbx.finished.append(emit)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(pbx.play, "incoming_answered", ring_s=4, talk_s=20))
        nursery.start_soon(pbx.run, rate / 60)


async def must_live(child: trio.Process, log: Path) -> None:
    """Raises SystemExit when the gateway ends by itself."""
    await child.wait()
    raise SystemExit(f"the gateway ended by itself; see {log}")


async def demo(rate: float, seconds: float, stop: trio.CancelScope) -> None:
    """The whole demo, until `stop` or for so many seconds of calls. The sandboxes outlive the gateway."""
    bots = {
        company.number: f"{700100200 + index}:{secrets.token_urlsafe(26)}" for index, company in enumerate(COMPANIES)
    }
    telegram = Telegram({bots[company.number]: f"{company.name.lower()}_bot" for company in COMPANIES})
    async with trio.open_nursery() as nursery:
        telegram_url = await nursery.start(telegram.serve)
        tenants, pages, pbxes = [], [("Telegram", telegram_url)], []
        for index, company in enumerate(COMPANIES):
            telegram.add_chat(company.chat, f"{company.name}: calls")
            crm = RetailCrm(secrets.token_hex(16), name=f"RetailCRM of {company.name}")
            crm_url = await nursery.start(crm.serve)
            pages.append((crm.name, crm_url))
            pbx = SimulatedPbx(
                secret=secrets.token_hex(8), tempo=TEMPO, extensions=company.people, company=company.company,
                regions=company.regions, timestamps=bool(index), seed=secrets.randbits(32),
            )  # fmt: skip
            port = await nursery.start(pbx.serve)
            pbxes.append((company, pbx))
            tenants.append(tenant_of(company, pbx, port, crm, crm_url, bots[company.number]))
        file = DEMO / "tenants.json"
        write_private(file, json.dumps({"tenants": tenants}, ensure_ascii=False, indent=2))
        bind = free_address(8000)
        gateway = Gateway(
            {
                "GATEWAY_DATA_DIR": str(VAR), "GATEWAY_BIND": bind, "GATEWAY_INTAKE_BIND": free_address(8001),
                "GATEWAY_ALLOWED_PRIVATE_NETS": "127.0.0.0/8", "GATEWAY_LOG_FORMAT": "text",
                "GATEWAY_PROVIDER_URLS": json.dumps({"telegram": telegram_url}),
            },
            DEMO / "gateway.log",
        )  # fmt: skip
        with stop:
            await run_gateway(gateway, file, f"http://{bind}", pages, pbxes, rate, seconds)
        nursery.cancel_scope.cancel()


async def run_gateway(
    gateway: Gateway, file: Path, url: str, pages: Sequence[tuple[str, str]], pbxes: Sequence[tuple[Company, SimulatedPbx]],
    rate: float, seconds: float,
) -> None:  # fmt: skip
    """The gateway from its start to its end, with calls in between."""
    password = secrets.token_urlsafe(9)
    text_of("Starting the gateway...")
    async with gateway.running() as child:
        await gateway.wait_ready(child, url)
        await gateway.ask("apply", str(file))
        people: list[tuple[str, tuple[str, ...]]] = [("operator", (OPERATOR, "--operator"))]
        people += [(f"{one.name}, {one.number}", (one.email, "--tenant", one.number)) for one in COMPANIES]
        links, later = [], f"{OPERATOR} or {' or '.join(one.email for one in COMPANIES)}, password {password}"
        for name, who in people:
            try:
                await gateway.ask("user", "add", *who, stdin=password + "\n")
            except SystemExit:
                later = "the users of an earlier demo, with its password"
            links.append((name, await gateway.ask("user", "link", *who)))
        text_of(f"\nThe gateway is at {url}; each of these links signs in once:\n")
        for name, link in links:
            text_of(f"  {name:14} {link}")
        text_of(f"\nLater: {later}")
        text_of("\nThe outside world, as it sees the calls:\n")
        for name, page in pages:
            text_of(f"  {name:20} {page}/")
        text_of(f"\nCalls are played at {rate:g} a minute on each PBX; log: {gateway.log}. Ctrl-C ends it all.\n")
        with trio.move_on_after(seconds):
            async with trio.open_nursery() as calls:
                calls.start_soon(must_live, child, gateway.log)
                for company, pbx in pbxes:
                    calls.start_soon(play, company, pbx, rate)


async def until_stopped(rate: float, seconds: float) -> None:
    """The demo, ended in order by Ctrl-C or SIGTERM."""
    stop = trio.CancelScope()

    async def heed(signals: AsyncIterator[int]) -> None:
        async for _ in signals:
            text_of("\nStopping...")
            stop.cancel()

    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(heed, signals)
            await demo(rate, seconds, stop)
            nursery.cancel_scope.cancel()


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="The gateway with a sandbox world around it, on loopback.")
    parser.add_argument(
        "--rate", type=float, default=float(os.environ.get("DEMO_RATE", "12")), help="calls a minute and PBX"
    )
    parser.add_argument("--seconds", type=float, default=float("inf"), help="end by itself after so long")
    arguments = parser.parse_args()
    if arguments.rate <= 0:
        parser.error("the rate must be above 0")
    try:
        VAR.mkdir(exist_ok=True)
        DEMO.mkdir(mode=0o700, exist_ok=True)
        trio.run(until_stopped, arguments.rate, arguments.seconds)
    except* SystemExit as group:
        failure: BaseException = group
        while isinstance(failure, BaseExceptionGroup):
            failure = failure.exceptions[0]
        text_of(str(failure))
        sys.exit(1)


if __name__ == "__main__":
    main()
