"""The product between its sandboxes, on a database that can be hurt: what a run and the single rows are played on."""

import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import trio

from gateway.store.embedded.embedded import as_login
from tests.chaos.nemeses import Clock, Life
from tests.chaos.proxy import Proxy
from tests.chaos.server import OwnServer, own_server
from tests.chaos.traffic import Sink
from tests.sandbox.pbx import SimulatedPbx
from tests.sandbox.product import Gateway, free_address, write_private
from tests.sandbox.retailcrm import RetailCrm
from tests.store.database import make_login

PROJECT = Path(__file__).resolve().parents[2]
PHONES = tuple(str(number) for number in range(150, 170))
TEMPO = 0.12
"""Calls of the PBX last from one to some thirty seconds at this pace."""
READY_S = 60.0


@dataclass(frozen=True)
class Instance:
    """One gateway, with links of its own."""

    place: int
    product: Gateway
    life: Life
    clock: Clock
    crm_link: Proxy
    hosts_link: Proxy
    bind: str

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


@dataclass(frozen=True)
class Stage:
    """Everything there is. The first tenant has the PBX."""

    server: OwnServer
    instances: tuple[Instance, ...]
    crm: RetailCrm
    sink: Sink
    pbx: SimulatedPbx
    pbx_link: Proxy
    tokens: dict[str, str]
    """The tenants' numbers and what their hosts send."""

    @property
    def life(self) -> Life:
        """The first instance's, often the only one."""
        return self.instances[0].life

    @property
    def hosts_link(self) -> Proxy:
        """Where the first instance is posted to."""
        return self.instances[0].hosts_link

    async def wait_ready(self) -> None:
        """Until /ready of each instance says so."""
        for instance in self.instances:
            await instance.wait_ready()


@asynccontextmanager
async def open_stage(
    folder: Path, *, tenants: int, seed: int, second_crm: str = "", instances: int = 1
) -> AsyncIterator[Stage]:
    """The database, the sandboxes and the links; the schema and the tenants are in, the gateway runs and is ready. The
    last tenant's CRM is at `second_crm` where that is given."""
    crm, sink = RetailCrm(rate_limits=False), Sink()
    crm.listeners.append(lambda kind, data: sink.receive(kind, data, crm.asked_at))
    pbx = SimulatedPbx(
        tempo=TEMPO, seed=seed, timestamps=True, extensions={phone: f"Owner {phone}" for phone in PHONES}
    )
    pbx_link, links = Proxy(), [(Proxy(), Proxy()) for _ in range(instances)]
    tokens = {f"{300 + number:04}": secrets.token_urlsafe(32) for number in range(tenants)}
    async with own_server(folder / "database") as server, trio.open_nursery() as nursery:
        await make_login(server.dsn)
        await nursery.start(crm.serve)
        crm_port = int(crm.base.rpartition(":")[2])
        pbx_link.target = ("127.0.0.1", await nursery.start(pbx.serve))
        await nursery.start(pbx_link.serve)
        key, token, there = folder / "master.key", secrets.token_urlsafe(24), list[Instance]()
        for place, (crm_link, hosts_link) in enumerate(links):
            bind, intake = free_address(0), free_address(0)
            crm_link.target = ("127.0.0.1", crm_port)
            hosts_link.target = ("127.0.0.1", int(intake.rpartition(":")[2]))
            await nursery.start(crm_link.serve)
            await nursery.start(hosts_link.serve)
            clock, log = Clock(folder / f"clock-{place}"), folder / f"gateway-{place}.log"
            environment = {
                "GATEWAY_DATA_DIR": str(folder / f"var-{place}"), "GATEWAY_BIND": bind, "GATEWAY_INTAKE_BIND": intake,
                "GATEWAY_ALLOWED_PRIVATE_NETS": "127.0.0.0/8", "GATEWAY_LOG_FORMAT": "json",
                "GATEWAY_DATABASE_URL": as_login(server.dsn), "GATEWAY_DATABASE_OWNER_URL": server.dsn, "GATEWAY_MASTER_KEY_FILE": str(key),
                "GATEWAY_OPERATOR_TOKEN": token, "CHAOS_CLOCK": str(clock.file), "PYTHONPATH": str(PROJECT),
            }  # fmt: skip
            if instances > 1:  # so that the CRM knows which of them told it something
                environment["GATEWAY_PROVIDER_URLS"] = json.dumps({"retailcrm": f"http://127.0.0.1:{crm_link.port}"})
            product = Gateway(environment, log)
            life = Life(product.environment, log)
            there.append(Instance(place, product, life, clock, crm_link, hosts_link, bind))
            sink.instances[f"127.0.0.1:{crm_link.port}"] = place
        stage = Stage(server, tuple(there), crm, sink, pbx, pbx_link, tokens)
        first = there[0].product
        write_private(key, await first.ask("keys", "new"))
        await first.ask("migrate")
        await first.ask("apply", _tenants(stage, folder, second_crm))
        try:
            for instance in there:
                await instance.life.start()
            await _share_out(stage)
            yield stage
        finally:
            for instance in there:
                await instance.life.stop()
        nursery.cancel_scope.cancel()


async def _share_out(stage: Stage) -> None:
    """Until all are ready. Meanwhile each believes to be one of many, or the first would take every shard and keep them
    all for half a minute."""
    query = """
        INSERT INTO instances (instance) SELECT 'chaos-' || place FROM generate_series(2, $1) AS place
        ON CONFLICT (instance) DO UPDATE SET seen_at = clock_timestamp()
    """
    async with trio.open_nursery() as nursery:

        async def pretend() -> None:
            while len(stage.instances) > 1:
                await stage.server.ask(query, len(stage.instances))
                await trio.sleep(0.5)

        nursery.start_soon(pretend)
        await stage.wait_ready()
        nursery.cancel_scope.cancel()
    while len(stage.instances) > 1:
        if not await stage.server.ask("SELECT FROM shards WHERE owner IS NULL"):
            return
        await trio.sleep(0.2)


def _tenants(stage: Stage, folder: Path, second_crm: str) -> str:
    """The tenants' file."""
    crm, pbx = f"http://127.0.0.1:{stage.instances[0].crm_link.port}", stage.pbx
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
