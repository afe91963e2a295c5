"""Two live companies in one process, each with its own PBX, CRM and bot: neither's log lines nor metrics name the other."""

import json
import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio

from tests.e2e.world import BOT, World, open_world
from tests.sandbox.pbx import SimulatedPbx
from tests.sandbox.retailcrm import RetailCrm
from tests.sandbox.web import Fault

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(180)]


@dataclass
class Company:
    """One of the two, with what nobody else may be shown: each text of it holds its canary."""

    number: str
    bot: str
    chat: int
    crm: RetailCrm
    pbx: SimulatedPbx
    client: str
    """The telephone number that calls it."""
    pbx_port: int = 0
    canary: str = field(default_factory=lambda: f"canary{secrets.token_hex(6)}")

    @property
    def token(self) -> str:
        return f"{self.canary}-token-of-the-posts-0123456789"

    @property
    def marks(self) -> list[str]:
        """What would betray it in a line or figure of the other."""
        return [self.canary, self.number, self.client, self.bot.partition(":")[2], str(self.chat), self.crm.api_key]

    @property
    def secrets(self) -> list[str]:
        """What no line and no figure may hold, whosever it is."""
        return [self.token, self.bot.partition(":")[2], self.crm.api_key, self.pbx.secret]

    def block(self) -> dict[str, Any]:
        """In the tenant file."""
        return {
            "number": self.number, "name": f"Company {self.canary}", "token": self.token, "timezone": "Europe/Minsk",
            "country": "BY", "language": "en",
            "phones": [{"number": number, "owner": f"Owner {self.canary}"} for number in ("150", "151", "152")],
            "users": [{"email": f"{self.canary}@june.example", "password": f"correct horse {self.canary}"}],
            "pbxes": [{
                "name": f"pbx-{self.canary}", "host": "127.0.0.1", "port": self.pbx_port, "username": self.pbx.username,
                "secret": self.pbx.secret, "trunks": [self.pbx.trunk], "originate_context": "inoffice",
            }],
            "integrations": {
                "retailcrm": {"domain": self.crm.base, "api_key": self.crm.api_key, "user_extensions": {"19": "150"}},
                f"telegram:{self.canary}": {"bot_token": self.bot, "notify_chats": [self.chat]},
            },
        }  # fmt: skip

    async def call(self, world: World, call_id: str) -> None:
        """A client calls, and somebody answers."""
        fields = {
            "Token": self.token,
            "UniqueId": call_id,
            "CallerIDNum": f"+{self.client}",
            "Extensions": ["150"],
            "CallType": 0,
        }
        for address, more in (("/dial", {}), ("/bridge", {}), ("/hangup", {"CallStatus": "2"})):
            assert (await world.post(address, **fields, **more)).status_code == 200


def new_company(world: World, number: str, bot: str, chat: int, client: str, seed: int) -> Company:
    crm, pbx = RetailCrm(rate_limits=False), SimulatedPbx(tempo=0.02, seed=seed)
    crm.api_key, pbx.secret = f"key-{secrets.token_hex(12)}", f"secret-{secrets.token_hex(12)}"
    name = f"bot{seed}_of_june_bot"
    world.telegram.bots[bot] = type(world.telegram.bots[BOT])(int(bot.partition(":")[0]), name)
    world.telegram.add_chat(chat, f"chat {seed}")
    return Company(number, bot, chat, crm, pbx, client)


async def answers(world: World, path: str) -> str:
    async with httpx2.AsyncClient(trust_env=False) as client:
        return (await client.get(f"{world.url}{path}", timeout=10)).text


def foreign(text: str, company: Company) -> list[str]:
    """Which marks of a company stand in a text, whole: the digits of a number may be part of another."""
    return [mark for mark in company.marks if re.search(rf"(?<![\w]){re.escape(mark)}(?![\w])", text)]


async def test_neithers_log_lines_and_metrics_name_the_other(tmp_path: Path) -> None:
    async with open_world(tmp_path, GATEWAY_LOG_LEVEL="DEBUG") as world, trio.open_nursery() as nursery:
        companies = [
            new_company(
                world, "7100001", "700100301:one-bot-token-0123456789abcdefg", -1009000000001, "375296254071", 21
            ),
            new_company(
                world, "7100002", "700100302:two-bot-token-0123456789abcdefg", -1009000000002, "375296254072", 22
            ),
        ]
        hidden = [text for one in companies for text in one.secrets]
        for one in companies:
            await nursery.start(one.crm.serve)
            one.pbx_port = await nursery.start(one.pbx.serve)
        await world.apply(world.tenant(), *(one.block() for one in companies))
        for one in companies:
            await world.wait_for(lambda one=one: bool(one.pbx.links))

        # Each has a call by its own hosts and calls of its PBX; then everything of one goes wrong in every way.
        for place, one in enumerate(companies):
            await one.call(world, f"90{place}.1")
            await one.pbx.play("incoming_answered")
            await world.wait_for(lambda one=one: len(one.crm.uploads) >= 2, 30)
            await world.wait_for(lambda one=one: len(world.telegram.messages(one.chat)) >= 2, 30)
        broken, well = companies
        broken.crm.fault, broken.crm.fault_count = Fault.HTTP_500, 2
        await broken.call(world, "910.1")
        await world.wait_for(lambda: any(up.data["externalId"] == "910.1" for up in broken.crm.uploads), 30)
        broken.crm.api_key = "another-key-than-the-gateway-has"
        await broken.call(world, "911.1")
        broken.pbx.cut()
        attention = "SELECT count(*) FROM integration_logs WHERE tenant_id = $1 AND status = 'attention'"
        with trio.fail_after(30):
            while not await world.look(attention, broken.number):
                await trio.sleep(0.1)
        await well.call(world, "912.1")
        await world.wait_for(lambda: any(up.data["externalId"] == "912.1" for up in well.crm.uploads), 30)
        await world.post("/dial", Token=f"{broken.token}x", UniqueId="913.1")

        metrics, stats = await answers(world, "/metrics"), await answers(world, "/stats")
        lines = [json.loads(line) for line in (world.folder / "gateway.log").read_text().splitlines()]
        nursery.cancel_scope.cancel()

    mixed, kept = [], 0
    for line in lines:
        text = json.dumps(line, ensure_ascii=False)
        named = [one for one in companies if foreign(text, one)]
        kept += len(named) == 1
        if len(named) > 1:
            mixed.append(text)
        if any(one.number != line.get("tenant") for one in named) and "tenant" in line:
            mixed.append(text)
    assert mixed == [], "\n".join(mixed[:5])
    assert kept > 20, "the log was to tell of both"
    for figure in metrics.splitlines():
        assert sum(bool(foreign(figure, one)) for one in companies) < 2, figure
    everything = "\n".join([*(json.dumps(line, ensure_ascii=False) for line in lines), metrics, stats])
    assert [text for text in hidden if text in everything] == []
    labels = [line for line in metrics.splitlines() if not line.startswith("#")]
    assert [
        line for line in labels for one in companies for mark in (one.client, f"Owner {one.canary}") if mark in line
    ] == []
