"""`make demo`: the real gateway as a child process, and around it the sandbox world, all on loopback sockets.

It owns the children it starts and the files under ./var/demo. Nothing in the product knows that this is a demo.

    sandboxes and PBXes up -> gateway run -> /ready -> apply, users, links -> modules registered -> calls until Ctrl-C

GATEWAY_BIND, GATEWAY_INTAKE_BIND and the like are taken from the environment; without them 8000 and 8001, or free ports.
Over 400 lines, for all of the world is set up here.
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
from urllib.parse import urlsplit

import httpx2
import trio

from gateway.cli import open_store
from gateway.cli.tenants import apply
from gateway.domain.ids import TenantId
from gateway.domain.secret import Secret
from gateway.settings import Settings, read_settings
from gateway.store import users
from gateway.web.session.passwords import hash_password
from gateway.web.session.tokens import login_link, new_token
from tests.sandbox.amocrm import AmoCrm
from tests.sandbox.bitrix24 import Bitrix24
from tests.sandbox.call_texts import CallTexts
from tests.sandbox.monitor import Monitor
from tests.sandbox.pbx import SimulatedPbx
from tests.sandbox.phone import Phone, TelegramLine, WhatsappLine
from tests.sandbox.plays import Truth
from tests.sandbox.product import Gateway, free_address, write_private
from tests.sandbox.retailcrm import RetailCrm
from tests.sandbox.shop import Shop
from tests.sandbox.telegram import Telegram
from tests.sandbox.whatsapp import Whatsapp, template

VAR = Path("var")
DEMO = VAR / "demo"
FIRST_USER = 18
CLIENT = 55501
"""The number of the first company's client in messengers."""
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
    client: str
    """Who writes to the company in messengers."""
    without_phone: str
    """Somebody whom the CRM knows and who has no internal number yet."""
    has_portal: bool = False
    """Whether it has a second CRM, a portal."""
    key_refused: bool = False
    """Its CRM refuses the key that the gateway was given: what a failing integration looks like."""

    @property
    def email(self) -> str:
        """Its administrator."""
        return f"admin@{self.name.lower()}.example"

    @property
    def users(self) -> dict[str, str]:
        """The CRM's users with a number, as the gateway is told of them."""
        return {str(user): number for user, number in enumerate(self.people, FIRST_USER)}

    @property
    def crm_users(self) -> tuple[dict[str, Any], ...]:
        """All users of the CRM, as it has them."""
        names = [name.split(" ", 1) for name in (*self.people.values(), self.without_phone)]
        return tuple(
            {"id": user, "firstName": first, "lastName": last, "email": f"user{user}@{self.name.lower()}.example",
             "groups": [{"id": 1, "name": "Продажи" if self.language == "ru" else "Sales", "code": "sales"}]}
            for user, (first, last) in enumerate(names, FIRST_USER)
        )  # fmt: skip

    @property
    def account_users(self) -> tuple[dict[str, Any], ...]:
        """The same people as its account has them; the first is the one whose token it is."""
        named = (
            {**user, "name": f"{user['firstName']} {user['lastName']}", "phone_number": None} for user in self.crm_users
        )
        return ({"id": 500, "name": "Admin", "email": self.email, "phone_number": None}, *named)

    @property
    def portal_users(self) -> tuple[dict[str, Any], ...]:
        """The same people as its portal has them; the first is the one whose webhook it is."""
        return tuple(
            {"ID": str(user["id"]), "NAME": user["firstName"], "LAST_NAME": user["lastName"], "EMAIL": user["email"],
             "UF_PHONE_INNER": self.users.get(str(user["id"]))}
            for user in ({"id": 1, "firstName": "Admin", "lastName": "", "email": self.email}, *self.crm_users)
        )  # fmt: skip


COMPANIES = (
    Company(
        number="0367", name="June", language="ru", country="BY", timezone="Europe/Minsk", regions=("BY", "BY", "BY", "RU"),
        company="375172000001", chat=-1001234567890,
        people={"150": "Иван Петров", "151": "Анна Кузьмина", "152": "Ольга Мороз", "153": "Павел Сидорович", "154": "Вера Климова", "155": "Олег Дорош"},
        client="Ольга Ветрова", without_phone="Глеб Орлов",
    ),
    Company(
        number="0368", name="Maple", language="en", country="GB", timezone="Europe/London", regions=("GB",),
        company="442079460001", chat=-1009876543210,
        people={"201": "Alice Green", "202": "Bob Stone", "203": "Carol Hill", "204": "Daniel Reed", "205": "Emma Wood"},
        client="Nora Fields", without_phone="Ian Black", has_portal=True,
    ),
    Company(
        number="0369", name="Cedar", language="en", country="GB", timezone="Europe/London", regions=("GB",),
        company="442079460002", chat=-1001112131415, key_refused=True,
        people={"301": "Frank Hall", "302": "Grace Moore", "303": "Henry Cole"},
        client="Tom Barnes", without_phone="Jane Reid",
    ),
)  # fmt: skip
OPERATOR = "operator@gateway.example"
PORTS = {"GATEWAY_BIND": 8000, "GATEWAY_INTAKE_BIND": 8001}
TAKEN = (*PORTS, "GATEWAY_PUBLIC_URL", "GATEWAY_TRUSTED_PROXIES", "GATEWAY_LOG_LEVEL")
"""Settings of the gateway that whoever starts the demo may choose."""
REGISTER_WITHIN_S = 10.0


def text_of(text: str = "") -> None:
    """A line for the person at the terminal, at once."""
    print(text, flush=True)


@dataclass(frozen=True, slots=True)
class Staged:
    """A company with its sandboxes, all of them serving."""

    company: Company
    pbx: SimulatedPbx
    port: int
    recordings: Monitor
    crm: RetailCrm
    bot: str
    shop: Shop
    number: Mapping[str, Any] | None = None
    """The settings of its WhatsApp number, where it has one."""
    portal: Bitrix24 | None = None
    account: AmoCrm | None = None
    texts: CallTexts | None = None
    """What makes texts of its calls, where it has that."""


def tenant_of(staged: Staged) -> dict[str, Any]:
    """The tenant's block of the file for `gateway apply`."""
    company, pbx, crm = staged.company, staged.pbx, staged.crm
    return {
        "number": company.number, "name": company.name, "token": secrets.token_urlsafe(32),
        "timezone": company.timezone, "country": company.country, "language": company.language,
        "phones": [{"number": number, "owner": owner} for number, owner in company.people.items()],
        "pbxes": [{
            "name": "main", "host": "127.0.0.1", "port": staged.port, "tls": False, "username": pbx.username,
            "secret": pbx.secret, "trunks": [pbx.trunk], "originate_context": "inoffice",
            "recording_url": staged.recordings.template, "recording_user": pbx.username, "recording_password": pbx.secret,
        }],
        "recordings": {"keep_days": 30},
        **({"ai": staged.texts.block()} if staged.texts is not None else {}),
        "integrations": {
            "retailcrm": {
                "enabled": True, "domain": crm.base, "user_extensions": company.users,
                "api_key": secrets.token_hex(16) if company.key_refused else crm.api_key,
            },
            **({"amocrm": {"subdomain": "june", "access_token": staged.account.token, "user_extensions": company.users}} if staged.account else {}),
            **({"bitrix24": {"webhook_url": staged.portal.webhook_url, "user_extensions": company.users}} if staged.portal else {}),
            "telegram": {"enabled": True, "bot_token": staged.bot, "notify_chats": [company.chat], "chat": True},
            "web_widget": {"enabled": True, "allowed_domains": staged.shop.domain, "widget_key": staged.shop.key},
            **({"whatsapp": {"enabled": True, **staged.number}} if staged.number is not None else {}),
        },
    }  # fmt: skip


def number_of(company: Company, base: str) -> tuple[Whatsapp, str]:
    """A company's number at Meta, with a template, and the last part of its webhook's address."""
    hook_id = secrets.token_urlsafe(32)
    ready = template("order_ready", "Заказ {{1}} готов, ждём вас до {{2}}.", company.language)
    made = Whatsapp(
        token=f"EAAG{secrets.token_hex(20)}", app_secret=secrets.token_hex(16), display=company.company, templates=[ready],
        callback=f"{base.rstrip('/')}/hooks/whatsapp/{hook_id}",
    )  # fmt: skip
    return made, hook_id


def settings_of(whatsapp: Whatsapp, hook_id: str) -> dict[str, Any]:
    """A number's settings."""
    return {
        "phone_number_id": whatsapp.number_id, "waba_id": whatsapp.waba_id, "access_token": whatsapp.token,
        "app_secret": whatsapp.app_secret, "webhook_verify_token": secrets.token_urlsafe(16), "hook_id": hook_id,
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
    settings = environment()
    base = read_settings(settings).base_url
    telegram = Telegram({bots[company.number]: f"{company.name.lower()}_bot" for company in COMPANIES})
    whatsapp, hook_id = number_of(COMPANIES[0], base)
    async with trio.open_nursery() as nursery:
        telegram_url = await nursery.start(telegram.serve)
        whatsapp_url = await nursery.start(whatsapp.serve)
        account = AmoCrm(name=COMPANIES[0].name, users=COMPANIES[0].account_users)
        account_url = await nursery.start(account.serve)
        texts = CallTexts()
        await nursery.start(texts.speech.serve)
        await nursery.start(texts.model.serve)
        stage = []
        for index, company in enumerate(COMPANIES):
            telegram.add_chat(company.chat, f"{company.name}: calls")
            crm = RetailCrm(secrets.token_hex(16), name=f"RetailCRM of {company.name}", users=company.crm_users)
            pbx = SimulatedPbx(
                secret=secrets.token_hex(8), tempo=TEMPO, extensions=company.people, company=company.company,
                regions=company.regions, timestamps=bool(index), seed=secrets.randbits(32),
            )  # fmt: skip
            recordings = Monitor(pbx, pbx.username, pbx.secret)
            await nursery.start(crm.serve)
            portal = (
                Bitrix24(name=f"Bitrix24 of {company.name}", users=company.portal_users) if company.has_portal else None
            )
            if portal is not None:
                await nursery.start(portal.serve)
            await nursery.start(recordings.site.serve)
            shop = Shop(company.name, company.language, base, f"widget-of-{company.name.lower()}")
            await nursery.start(shop.site.serve)
            port = await nursery.start(pbx.serve)
            stage.append(
                Staged(
                    company=company,
                    pbx=pbx,
                    port=port,
                    recordings=recordings,
                    crm=crm,
                    bot=bots[company.number],
                    shop=shop,
                    number=settings_of(whatsapp, hook_id) if not index else None,
                    portal=portal,
                    account=account if not index else None,
                    texts=texts if not index else None,
                )
            )
        file = DEMO / "tenants.json"
        write_private(file, json.dumps({"tenants": [tenant_of(one) for one in stage]}, ensure_ascii=False, indent=2))
        settings["GATEWAY_PROVIDER_URLS"] = json.dumps(
            {"telegram": telegram_url, "whatsapp": whatsapp_url, "amocrm": account_url}
        )
        phone = Phone([
            TelegramLine(f"{one.company.name}, Telegram", telegram, telegram.bots[one.bot], CLIENT + index, one.company.client)
            for index, one in enumerate(stage)
        ] + [WhatsappLine(f"{stage[0].company.name}, WhatsApp", whatsapp, f"375291{CLIENT:06}", stage[0].company.client)])  # fmt: skip
        nursery.start_soon(whatsapp.call, f"{reachable(settings['GATEWAY_INTAKE_BIND'])}/hooks/whatsapp/{hook_id}")
        phone_url = await nursery.start(phone.site.serve)
        gateway = Gateway(settings, DEMO / "gateway.log")
        with stop:
            await run_gateway(
                gateway,
                file,
                [("Telegram", telegram_url), ("amoCRM of June", account_url)],
                phone_url,
                stage,
                rate,
                seconds,
            )
        nursery.cancel_scope.cancel()


def environment() -> dict[str, str]:
    """The gateway's settings: ours, and what was chosen by whoever starts the demo."""
    chosen = {name: os.environ[name] for name in TAKEN if os.environ.get(name)}
    free = {name: free_address(port) for name, port in PORTS.items() if name not in chosen}
    return {
        **chosen, **free, "GATEWAY_DATA_DIR": str(VAR), "GATEWAY_LOG_FORMAT": "text",
        "GATEWAY_ALLOWED_PRIVATE_NETS": "127.0.0.0/8",
    }  # fmt: skip


def own_password() -> tuple[str, bool]:
    """The password of the demo's people, the same at every start, and whether it was made just now."""
    file = DEMO / "password"
    if file.exists() and (text := file.read_text("utf-8").strip()):
        return text, False
    text = secrets.token_urlsafe(9)
    write_private(file, text + "\n")
    return text, True


async def set_up(settings: Settings, file: Path) -> tuple[dict[str, str], str]:
    """Declares the companies and their people beside the running gateway. Returns a link for everybody, and the password.

    What `gateway apply`, `user add` and `user link` do, in one process: each of them would take a second.
    """
    password, fresh = own_password()
    people = [(None, OPERATOR), *((TenantId(one.number), one.email) for one in COMPANIES)]
    links = {}
    async with open_store(settings) as (db, master):
        await apply(db, master, [str(file)], dry_run=False, prune=False)
        hashed = await trio.to_thread.run_sync(hash_password, Secret(password))
        for tenant, email in people:
            if fresh or not await db.engine(users.user_exists, tenant, email):
                await db.engine(users.upsert_user, tenant, email, hashed)
            text, token = new_token(tenant)
            await db.engine(users.insert_login_link, tenant, token.token_hash, email)
            links[email] = login_link(settings.base_url, text)
        text, token = new_token(None)
        await db.engine(users.insert_login_link, None, token.token_hash, OPERATOR)
        links[""] = login_link(settings.base_url, text)
    return links, password


async def register(url: str, link: str, numbers: Sequence[str]) -> None:
    """Registers the module in the CRM of these companies, as a person does on the integration's page."""
    async with httpx2.AsyncClient(trust_env=False, timeout=REGISTER_WITHIN_S) as browser:
        await browser.get(url + urlsplit(link)._replace(scheme="", netloc="").geturl())
        operator = {"X-CSRF-Token": (await browser.get(f"{url}/operators/tenants")).headers["x-csrf-token"]}
        for number in numbers:
            with trio.move_on_after(REGISTER_WITHIN_S):
                acting = {"tenant": number, "reason": "The demo registers the module."}
                while (await browser.post(f"{url}/operators/act-as", json=acting, headers=operator)).status_code != 200:
                    await trio.sleep(0.1)  # the gateway has not read the company yet
                while True:
                    read = await browser.get(f"{url}/retailcrm-admin/api/config/{number}")
                    if read.status_code == 200:
                        break
                    await trio.sleep(0.1)  # the gateway has not read the company yet
                token = {"X-CSRF-Token": read.headers["x-csrf-token"]}
                done = await browser.post(f"{url}/retailcrm-admin/api/register/{number}", headers=token)
                if done.status_code == 200:
                    continue
            text_of(f"  the module of {number} could not be registered")


def reachable(bind: str) -> str:
    """Where we reach what listens there: on all addresses means on loopback too."""
    host, _, port = bind.rpartition(":")
    return f"http://{ {'0.0.0.0': '127.0.0.1', '[::]': '[::1]'}.get(host, host) }:{port}"


async def run_gateway(
    gateway: Gateway, file: Path, pages: Sequence[tuple[str, str]], phone: str, stage: Sequence[Staged], rate: float,
    seconds: float,
) -> None:  # fmt: skip
    """The gateway from its start to its end, with calls in between."""
    settings = read_settings(gateway.environment)
    url = reachable(gateway.environment["GATEWAY_BIND"])
    text_of("Starting the gateway...")
    async with gateway.running() as child:
        await gateway.wait_ready(child, url)
        links, password = await set_up(settings, file)
        await register(url, links[""], [one.company.number for one in stage if not one.company.key_refused])
        text_of(f"\nThe gateway is at {settings.base_url}; each of these links signs in once:\n")
        text_of(f"  {'operator':14} {links[OPERATOR]}")
        for one in stage:
            text_of(f"  {one.company.name}, {one.company.number:8} {links[one.company.email]}")
        text_of(f"\nLater, password {password}:\n  {', '.join([OPERATOR, *(one.company.email for one in stage)])}")
        text_of("\nThe outside world, as it sees the calls:\n")
        for name, page in [*pages, *((crm.name, crm.base) for one in stage for crm in (one.crm, one.portal) if crm)]:
            text_of(f"  {name:20} {page}/{refusing(name, stage)}")
        text_of(f"\nA client's phone, with the companies' chats in messengers: {phone}/")
        text_of("\nThe companies' own sites, with the chat:\n")
        for one in stage:
            text_of(f"  {one.company.name:20} {one.shop.site.base}/")
        text_of(f"\nCalls are played at {rate:g} a minute on each PBX; log: {gateway.log}. Ctrl-C ends it all.\n")
        with trio.move_on_after(seconds):
            async with trio.open_nursery() as calls:
                calls.start_soon(must_live, child, gateway.log)
                for one in stage:
                    calls.start_soon(play, one.company, one.pbx, rate)


def refusing(name: str, stage: Sequence[Staged]) -> str:
    """A word beside the CRM that refuses us."""
    refused = {one.crm.name for one in stage if one.company.key_refused}
    return "  (refuses the gateway's key, so that you see a failing integration)" if name in refused else ""


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
