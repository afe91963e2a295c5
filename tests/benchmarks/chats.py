"""From a webhook's first byte to the text on an agent's screen, while two hundred clients of a company write ten messages each.

The screen is what the inbox's script does: it hears by the live stream that the conversation in view has changed, and reads it anew.
Ten agents look at one conversation each; a client of another company, watched alike, writes before and meanwhile. WhatsApp is the
messenger, for its webhooks are signed and carry the most. There is no peer.
"""

import random
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import httpx2
import trio

from tests.benchmarks.harness import Bench, Result, quantile
from tests.benchmarks.installation import Installation, new_installation
from tests.sandbox.whatsapp import Whatsapp

CLIENTS, MESSAGES, AGENTS = 200, 10, 10
PAUSE_S = (0.5, 1.5)
"""Between a client's messages."""
QUIET_S = 8.0
"""For how long the neighbour is watched alone."""
FRAGMENT = {"X-Requested-With": "fetch"}
NAMED = re.compile(r'href="/t/[0-9]+/inbox/([0-9a-f-]{36})')
TEXT = re.compile(r"message [0-9]+ of [0-9]+")


@dataclass
class Company:
    """One company: its number at Meta, its webhook, and the agents who look."""

    number: str
    meta: Whatsapp
    hook: str
    installation: Installation
    sent: dict[str, float] = field(default_factory=dict)
    """Texts -> when their webhook left."""
    seen: dict[str, float] = field(default_factory=dict)
    refused: int = 0

    def phone(self, client: int) -> str:
        """A client's number."""
        return f"37529{int(self.number):04}{client:03}"

    async def write(self, http: httpx2.AsyncClient, client: int, text: str) -> None:
        """One message."""
        self.meta.writes(self.phone(client), text)
        webhook = self.meta.webhooks.pop()
        self.sent[text] = time.perf_counter()
        answer = await http.post(
            f"{self.installation.intake}/hooks/whatsapp/{self.hook}", content=webhook.body, headers=webhook.headers
        )
        self.refused += answer.status_code != 200

    async def client(self, http: httpx2.AsyncClient, client: int, many: int, first: int = 0) -> None:
        """Writes messages one after the other, numbered from `first`: earlier ones still stand on the screen."""
        for number in range(first, first + many):
            await self.write(http, client, f"message {number} of {client}")
            await trio.sleep(random.uniform(*PAUSE_S))

    async def watch(
        self, http: httpx2.AsyncClient, chat: str, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """An agent with one conversation in view, until cancelled."""
        home = f"/t/{self.number}/inbox"
        async with http.stream("GET", f"{home}/live", params={"open": chat}, timeout=None) as stream:
            task_status.started()
            async for line in stream.aiter_lines():
                if line == "event: shown":
                    text = (await http.get(f"{home}/{chat}/thread", headers=FRAGMENT)).text
                    now = time.perf_counter()
                    for found in TEXT.findall(text):
                        self.seen.setdefault(found, now)

    def take(self) -> list[float]:
        """Milliseconds of all that was seen since the last time."""
        waits = [(at - self.sent[text]) * 1000 for text, at in self.seen.items() if text in self.sent]
        self.sent.clear()
        self.seen.clear()
        return waits


@asynccontextmanager
async def _signed_in(company: Company, people: int) -> AsyncIterator[httpx2.AsyncClient]:
    """An admin's browser, with room for so many streams."""
    email = f"admin@{company.number}.example"
    ask = company.installation.gateway.ask
    await ask("user", "add", email, "--tenant", company.number, stdin="four calm otters\n")
    link = (await ask("user", "link", email)).split()[0]
    limits = httpx2.Limits(max_connections=2 * people + 4)
    async with httpx2.AsyncClient(
        trust_env=False, base_url=company.installation.url, limits=limits, timeout=30
    ) as http:
        assert (await http.get(link, follow_redirects=True)).status_code == 200
        yield http


async def run(bench: Bench) -> None:
    """The neighbour alone, then everybody."""
    clients, messages, agents = (
        bench.size(full, quick) for full, quick in ((CLIENTS, 4), (MESSAGES, 2), (AGENTS, 2))
    )  # fmt: skip
    metas = [Whatsapp(rate_limits=False, number_id=f"10000{place}", waba_id=f"20000{place}") for place in (1, 2)]
    async with trio.open_nursery() as nursery:
        urls = [await nursery.start(meta.serve) for meta in metas]
        installation = await new_installation(bench, "chats", GATEWAY_PROVIDER_URLS=f'{{"whatsapp": "{urls[0]}"}}')
        companies = [Company(f"100{place}", meta, f"{place}" * 43, installation) for place, meta in enumerate(metas, 1)]
        await installation.apply([_tenant(one) for one in companies])
        async with installation.running():
            await _measure(bench, companies, clients, messages, agents)
        nursery.cancel_scope.cancel()


def _tenant(company: Company) -> dict[str, object]:
    meta = company.meta
    return {
        "number": company.number, "name": company.number, "token": f"{company.number}-a-token-of-more-than-32-characters",
        "timezone": "Europe/Minsk", "country": "BY", "language": "ru",
        "integrations": {"whatsapp": {
            "phone_number_id": meta.number_id, "waba_id": meta.waba_id, "access_token": meta.token, "app_secret": meta.app_secret,
            "webhook_verify_token": "our-own-token", "hook_id": company.hook,
        }},
    }  # fmt: skip


async def _measure(bench: Bench, companies: list[Company], clients: int, messages: int, agents: int) -> None:
    busy, quiet = companies
    async with (
        _signed_in(busy, agents) as admin, _signed_in(quiet, 1) as neighbour,
        httpx2.AsyncClient(trust_env=False, timeout=30, limits=httpx2.Limits(max_connections=64)) as meta,
        trio.open_nursery() as watching,
    ):  # fmt: skip
        for company, http, many in ((busy, admin, agents), (quiet, neighbour, 1)):
            for client in range(many):
                await company.write(meta, client, "hello")
            chats: list[str] = []
            with trio.fail_after(20):
                while len(chats) < many:
                    page = (await http.get(f"/t/{company.number}/inbox/list", headers=FRAGMENT)).text
                    chats = list(dict.fromkeys(NAMED.findall(page)))
                    await trio.sleep(0.05)
            for chat in chats:
                await watching.start(company.watch, http, chat)
        async with trio.open_nursery() as writing:
            writing.start_soon(quiet.client, meta, 0, int(bench.size(QUIET_S, 2)))
        await trio.sleep(0.5)
        alone = quiet.take()
        before = busy.installation.rss()
        began = time.perf_counter()
        async with trio.open_nursery() as writing:
            writing.start_soon(quiet.client, meta, 0, messages, 1000)
            for client in range(clients):
                writing.start_soon(partial(busy.client, meta, client, messages))
        took = time.perf_counter() - began
        await trio.sleep(bench.size(3.0, 0.5))
        meanwhile, waits = quiet.take(), busy.take()
        grown = (busy.installation.rss() - before) / 1e6
        watching.cancel_scope.cancel()
    note = (
        f"{len(waits)} of {agents * messages} seen; {clients * messages / took:.0f} webhooks a second, {busy.refused} refused; "
        f"{grown:.0f} MB more"
    )
    for q in (0.5, 0.99):
        bench.add(Result(name=f"chat webhook to screen, p{q * 100:.0f}", unit="ms", ours=quantile(waits, q), note=note))
        bench.add(
            Result(
                name=f"the same, of a neighbour, p{q * 100:.0f}", unit="ms", ours=quantile(meanwhile, q),
                note=f"{quantile(alone, q):.0f} ms alone; {len(meanwhile)} of {messages} seen",
            )
        )  # fmt: skip
