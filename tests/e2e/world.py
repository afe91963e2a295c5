"""The whole product between its sandboxes: real processes, real sockets, a real PostgreSQL, one tenant."""

import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import trio

from gateway.store.embedded.embedded import as_login
from gateway.store.postgres.pool import Connection, open_database
from tests.sandbox.pbx import SimulatedPbx
from tests.sandbox.product import Gateway, free_address, write_private
from tests.sandbox.retailcrm import RetailCrm
from tests.sandbox.telegram import Telegram

CHAT = -1001234567890
BOT = "700100200:sandbox-bot-token-0123456789abcdef"


@dataclass
class World:
    """One installation and everything around it."""

    folder: Path
    crm: RetailCrm
    telegram: Telegram
    pbx: SimulatedPbx
    pbx_port: int = 0
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    url: str = ""
    intake: str = ""
    gateway: Gateway = field(init=False)
    child: trio.Process = field(init=False)

    def tenant(self, **changes: Any) -> dict[str, Any]:
        """The tenant's block."""
        block: dict[str, Any] = {
            "number": "0367", "name": "June", "token": self.token, "timezone": "Europe/Minsk", "country": "BY",
            "language": "ru",
            "phones": [{"number": number, "owner": f"Owner {number}"} for number in ("150", "151", "152", "153", "154", "155")],
            "pbxes": [{
                "name": "main", "host": "127.0.0.1", "port": self.pbx_port, "username": self.pbx.username,
                "secret": self.pbx.secret, "trunks": [self.pbx.trunk], "originate_context": "inoffice",
            }],
            "integrations": {
                "retailcrm": {"domain": self.crm.base, "api_key": self.crm.api_key, "user_extensions": {"19": "150"}},
                "telegram": {"bot_token": BOT, "notify_chats": [CHAT]},
            },
        }  # fmt: skip
        return block | changes

    async def apply(self, *tenants: dict[str, Any]) -> str:
        """`gateway apply` of these blocks."""
        file = self.folder / "tenants.json"
        write_private(file, json.dumps({"tenants": list(tenants)}))
        return await self.gateway.ask("apply", str(file))

    async def post(self, address: str, **fields: Any) -> httpx2.Response:
        """A posted event on the fast listener."""
        async with httpx2.AsyncClient(trust_env=False) as client:
            return await client.post(f"{self.intake}{address}", json={"Token": self.token, **fields}, timeout=10)

    async def get(self, path: str) -> Any:
        """A JSON address of the people's listener."""
        async with httpx2.AsyncClient(trust_env=False) as client:
            answer = await client.get(f"{self.url}{path}", timeout=10)
        return answer.json()

    async def look(self, query: str, *values: Any) -> Any:
        """One value of the database."""
        dsn = json.loads((self.folder / "var" / "postgres.lock").read_text())["dsn"]
        async with open_database(as_login(dsn), size=1, engine_size=1) as db:
            return await db.engine(_value, query, *values)

    async def wait_for(self, what: Any, within_s: float = 30.0) -> None:
        """Until `what()` is true. Raises AssertionError with what the sandboxes saw."""
        with trio.move_on_after(within_s):
            while not what():
                await trio.sleep(0.01)
            return
        log = (self.folder / "gateway.log").read_text()[-3000:]
        raise AssertionError(f"it did not happen in {within_s} s; uploads {len(self.crm.uploads)}\n{log}")

    async def wait_link(self) -> None:
        """Until the PBX link is up."""
        await self.wait_for(lambda: bool(self.pbx.links))
        await trio.sleep(0.2)


async def _value(conn: Connection, query: str, *values: Any) -> Any:
    return await conn.fetchval(query, *values)


@asynccontextmanager
async def open_world(folder: Path, *, tempo: float = 0.02, start: bool = True, **settings: str) -> AsyncIterator[World]:
    """Sandboxes, one tenant, and `gateway run` with it."""
    telegram = Telegram({BOT: "june_bot"}, rate_limits=False)
    telegram.add_chat(CHAT, "June: calls")
    world = World(folder, RetailCrm(rate_limits=False), telegram, SimulatedPbx(tempo=tempo, seed=7))
    async with trio.open_nursery() as nursery:
        telegram_url = await nursery.start(telegram.serve)
        await nursery.start(world.crm.serve)
        world.pbx_port = await nursery.start(world.pbx.serve)
        bind, intake = free_address(0), free_address(0)
        world.url, world.intake = f"http://{bind}", f"http://{intake}"
        world.gateway = Gateway(
            {
                "GATEWAY_DATA_DIR": str(folder / "var"), "GATEWAY_BIND": bind, "GATEWAY_INTAKE_BIND": intake,
                "GATEWAY_ALLOWED_PRIVATE_NETS": "127.0.0.0/8", "GATEWAY_LOG_FORMAT": "json",
                "GATEWAY_PROVIDER_URLS": json.dumps({"telegram": telegram_url}), **settings,
            },
            folder / "gateway.log",
        )  # fmt: skip
        if start:
            async with world.gateway.running() as world.child:
                await world.gateway.wait_ready(world.child, world.url)
                await world.apply(world.tenant())
                yield world
        else:
            yield world
        nursery.cancel_scope.cancel()
