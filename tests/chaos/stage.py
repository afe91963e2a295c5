"""The product between its sandboxes, on a database that can be hurt: what a run and the single rows are played on."""

import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import trio

from tests.chaos.nemeses import Clock, Life
from tests.chaos.proxy import Proxy
from tests.chaos.server import OwnServer, own_server
from tests.chaos.traffic import Sink
from tests.sandbox.pbx import SimulatedPbx
from tests.sandbox.product import Gateway, free_address, write_private
from tests.sandbox.retailcrm import RetailCrm

PROJECT = Path(__file__).resolve().parents[2]
PHONES = tuple(str(number) for number in range(150, 170))
TEMPO = 0.12
"""Calls of the PBX last from one to some thirty seconds at this pace."""
READY_S = 60.0


@dataclass(frozen=True)
class Stage:
    """Everything there is. The first tenant has the PBX."""

    server: OwnServer
    product: Gateway
    life: Life
    clock: Clock
    crm: RetailCrm
    crm_link: Proxy
    sink: Sink
    pbx: SimulatedPbx
    pbx_link: Proxy
    hosts_link: Proxy
    bind: str
    tokens: dict[str, str]
    """The tenants' numbers and what their hosts send."""

    async def wait_ready(self) -> None:
        """Until /ready says so."""
        host, _, port = self.bind.rpartition(":")
        with trio.fail_after(READY_S):
            while True:
                with suppress(OSError, trio.BrokenResourceError):
                    async with await trio.open_tcp_stream(host, int(port)) as stream:
                        await stream.send_all(b"GET /ready HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n")
                        if (await stream.receive_some(64)).startswith(b"HTTP/1.1 200"):
                            return
                await trio.sleep(0.05)


@asynccontextmanager
async def open_stage(folder: Path, *, tenants: int, seed: int, second_crm: str = "") -> AsyncIterator[Stage]:
    """The database, the sandboxes and the links; the schema and the tenants are in, the gateway runs and is ready. The
    last tenant's CRM is at `second_crm` where that is given."""
    crm, sink = RetailCrm(rate_limits=False), Sink()
    crm.listeners.append(sink.hear)
    pbx = SimulatedPbx(
        tempo=TEMPO, seed=seed, timestamps=True, extensions={phone: f"Owner {phone}" for phone in PHONES}
    )
    crm_link, pbx_link, hosts_link = Proxy(), Proxy(), Proxy()
    tokens = {f"{300 + number:04}": secrets.token_urlsafe(32) for number in range(tenants)}
    async with own_server(folder / "database") as server, trio.open_nursery() as nursery:
        await nursery.start(crm.serve)
        crm_link.target = ("127.0.0.1", int(crm.base.rpartition(":")[2]))
        pbx_link.target = ("127.0.0.1", await nursery.start(pbx.serve))
        bind, intake = free_address(0), free_address(0)
        hosts_link.target = ("127.0.0.1", int(intake.rpartition(":")[2]))
        for proxy in (crm_link, pbx_link, hosts_link):
            await nursery.start(proxy.serve)
        clock = Clock(folder / "clock")
        product = await _installed(folder, server, bind, intake, clock)
        life = Life(product.environment, folder / "gateway.log")
        stage = Stage(server, product, life, clock, crm, crm_link, sink, pbx, pbx_link, hosts_link, bind, tokens)
        await product.ask("apply", _tenants(stage, folder, second_crm))
        try:
            await life.start()
            await stage.wait_ready()
            yield stage
        finally:
            await life.stop()
        nursery.cancel_scope.cancel()


async def _installed(folder: Path, server: OwnServer, bind: str, intake: str, clock: Clock) -> Gateway:
    """The product with its settings, and the schema."""
    key = folder / "master.key"
    environment = {
        "GATEWAY_DATA_DIR": str(folder / "var"), "GATEWAY_BIND": bind, "GATEWAY_INTAKE_BIND": intake,
        "GATEWAY_ALLOWED_PRIVATE_NETS": "127.0.0.0/8", "GATEWAY_LOG_FORMAT": "json",
        "GATEWAY_DATABASE_URL": server.dsn, "GATEWAY_MASTER_KEY_FILE": str(key),
        "GATEWAY_OPERATOR_TOKEN": secrets.token_urlsafe(24), "CHAOS_CLOCK": str(clock.file),
        "PYTHONPATH": str(PROJECT),
    }  # fmt: skip
    product = Gateway(environment, folder / "gateway.log")
    write_private(key, await product.ask("keys", "new"))
    await product.ask("migrate")
    return product


def _tenants(stage: Stage, folder: Path, second_crm: str) -> str:
    """The tenants' file."""
    crm, pbx = f"http://127.0.0.1:{stage.crm_link.port}", stage.pbx
    blocks: list[dict[str, object]] = [
        {
            "number": number, "name": f"Tenant {number}", "token": token, "timezone": "Europe/Minsk", "country": "BY",
            "phones": [{"number": phone} for phone in PHONES],
            "integrations": {"retailcrm": {
                "domain": crm, "api_key": stage.crm.api_key, "user_extensions": {"19": "150"},
            }},
        }
        for number, token in stage.tokens.items()
    ]  # fmt: skip
    blocks[0]["pbxes"] = [{
        "name": "main", "host": "127.0.0.1", "port": stage.pbx_link.port, "username": pbx.username,
        "secret": pbx.secret, "trunks": [pbx.trunk], "originate_context": "inoffice",
    }]  # fmt: skip
    if second_crm:
        blocks[-1]["integrations"] = {"retailcrm": {"domain": second_crm, "api_key": stage.crm.api_key}}
    file = folder / "tenants.json"
    write_private(file, json.dumps({"tenants": blocks}))
    return str(file)
