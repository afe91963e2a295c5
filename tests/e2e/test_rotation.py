"""`gateway keys rotate` under load: two gateways serve posts, recordings, links and a module's page while the master key is
replaced, the rotation is killed twice and run again, and nobody is refused anything."""

import json
import os
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
import trio

from actors.crm.account_link import sign_link
from actors.runtime.directory import utc_now
from gateway.domain.ids import IntegrationKey, TenantId
from gateway.domain.recording_links import PURPOSE, Signer
from gateway.domain.secret import Secret
from gateway.store.embedded.embedded import as_login
from gateway.store.postgres.errors import Unsealable
from gateway.store.postgres.pool import Connection, open_database
from gateway.store.secrets.rotation import PLACES, select_wrapped
from gateway.store.secrets.seal import MasterKeys, Sealer, new_data_key, parse_master_keys
from tests.e2e.test_instances import Pair, open_pair
from tests.sound import wav

pytestmark = [pytest.mark.long, pytest.mark.timeout(240)]

FIRST = TenantId("01")
KIND = IntegrationKey("retailcrm")
TENANTS, ROWS = int(os.environ.get("ROTATED_TENANTS", "2000")), int(os.environ.get("ROTATED_ROWS", "20000"))
FIELDS = {"CallerIDNum": "+375296254070", "Extensions": ["150"], "CallType": 0}


async def requested(pair: Pair, query: str, *values: Any) -> list[Any]:
    async def work(conn: Connection) -> list[Any]:
        return list(await conn.fetch(query, *values, timeout=60))

    async with open_database(as_login(pair.dsn), size=1, engine_size=1) as db:
        return await db.engine(work)


def keys(pair: Pair) -> MasterKeys:
    return parse_master_keys((pair.folder / "master.key").read_text())


async def wrapped(pair: Pair) -> list[tuple[TenantId, str]]:
    async with open_database(as_login(pair.dsn), size=1, engine_size=1) as db:
        return await db.engine(select_wrapped)


async def sealer(pair: Pair) -> Sealer:
    return keys(pair).sealer(FIRST, dict(await wrapped(pair))[FIRST])


async def fill(pair: Pair) -> Secret:
    """So much that a rotation takes a while; and a registered module. Returns the key of its link."""
    master, seals, link_key = keys(pair), await sealer(pair), Secret("key of the module's link " + "x" * 20)
    tenants = [TenantId(f"idle-{number}") for number in range(TENANTS)]
    await requested(
        pair,
        "INSERT INTO tenants (tenant_id, name, timezone, country, language, data_key) "
        "SELECT t.id, 'idle', 'UTC', 'BY', 'en', t.key FROM unnest($1::text[], $2::text[]) AS t (id, key)",
        tenants, [master.wrap(tenant, new_data_key()) for tenant in tenants],
    )  # fmt: skip
    addresses = [f"{number:064x}" for number in range(ROWS)]
    await requested(
        pair,
        "INSERT INTO recording_blobs (tenant_id, address, object, file_key, size) "
        "SELECT $1, t.address, t.address, t.key, 1 FROM unnest($2::text[], $3::text[]) AS t (address, key)",
        FIRST, addresses,
        [seals.seal(Secret(f"file key {a}"), table="recording_blobs", column="file_key", row=a) for a in addresses],
    )  # fmt: skip
    await requested(
        pair,
        "INSERT INTO recordings (tenant_id, recording_id, call_id, state, url) "
        "SELECT $1, gen_random_uuid(), 'bulk', 'expected', url FROM unnest($2::text[]) AS url",
        FIRST, [seals.seal(Secret(f"http://x/{n}"), table="recordings", column="url", row="") for n in range(ROWS)],
    )  # fmt: skip
    await requested(
        pair,
        "INSERT INTO modules (tenant_id, integration_type, state, registration, link_key, registered_at) "
        "VALUES ($1, $2, 'active', 1, $3, now())",
        FIRST, KIND, seals.seal(link_key, table="modules", column="link_key", row=KIND),
    )  # fmt: skip
    return link_key


class Load:
    """What the outside does all the while. `refused` is to stay empty."""

    def __init__(self, pair: Pair, link_key: Secret, received: str, sound: bytes) -> None:
        self.pair = pair
        self.token = sign_link(link_key, FIRST, KIND, utc_now()).reveal()
        self.received = received
        self.sound = sound
        self.done: Counter[str] = Counter()
        self.refused: list[str] = []
        self.stop = trio.Event()

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            for place in (0, 1):
                for what in (self.post, self.upload, self.ask_for, self.open_page, self.receive):
                    nursery.start_soon(self._repeat, place, what)

    async def _repeat(self, place: int, what: Any) -> None:
        number = 0
        async with httpx2.AsyncClient(trust_env=False, timeout=20) as client:
            while not self.stop.is_set():
                number += 1
                try:
                    problem = await what(client, place, number)
                except httpx2.HTTPError as error:
                    problem = type(error).__name__
                self.done[what.__name__] += 1
                if problem:
                    self.refused.append(f"{what.__name__} at {place}: {problem}")
                await trio.sleep(0.02)

    async def post(self, client: httpx2.AsyncClient, place: int, number: int) -> str:
        body = {"Token": "1" * 32, "UniqueId": f"post{place}.{number}", **FIELDS}
        answers = [
            await client.post(f"{self.pair.intakes[place]}{address}", json=body | more)
            for address, more in (("/dial", {}), ("/hangup", {"CallStatus": "NOANSWER"}))
        ]
        return "".join(f"{answer.status_code} {answer.text}" for answer in answers if answer.status_code != 200)

    async def upload(self, client: httpx2.AsyncClient, place: int, number: int) -> str:
        call, url = f"sound{place}.{number}", f"{self.pair.urls[place]}/download"
        sound = self.sound + f"{place}.{number}".encode()
        answer = await client.post(url, data={"Token": "1" * 32, "UniqueId": call}, files={"file": ("a.wav", sound)})
        return "" if answer.status_code == 200 else f"{answer.status_code} {answer.text}"

    async def ask_for(self, client: httpx2.AsyncClient, place: int, number: int) -> str:
        body = {"Token": "1" * 32, "UniqueId": f"asked{place}.{number}", "url": f"http://127.0.0.1:9/{place}.{number}"}
        answer = await client.post(f"{self.pair.urls[place]}/download", json=body)
        return "" if answer.status_code == 200 else f"{answer.status_code} {answer.text}"

    async def open_page(self, client: httpx2.AsyncClient, place: int, number: int) -> str:
        client.cookies.clear()
        url = f"{self.pair.urls[place]}/retailcrm-admin/?enterprise_number={FIRST}&token={self.token}"
        answer = await client.get(url, follow_redirects=True)
        good = answer.status_code == 200 and "token=" not in str(answer.url)
        return "" if good else f"{answer.status_code} {answer.text[:200]}"

    async def receive(self, client: httpx2.AsyncClient, place: int, number: int) -> str:
        answer = await client.get(f"{self.pair.urls[0]}{self.received}")  # where its file lies
        return (
            ""
            if (answer.status_code, answer.content) == (200, self.sound)
            else f"{answer.status_code} {answer.text[:200]}"
        )


async def rotate(pair: Pair, kill_at: str = "") -> tuple[int, str]:
    """The command; killed by -9 when it first prints a line that begins so. Returns its code and all it printed."""
    child = await trio.lowlevel.open_process(
        [sys.executable, "-m", "gateway", "keys", "rotate"], env=pair.gateways[0].environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert child.stdout is not None
    printed = b""
    async for piece in child.stdout:
        printed += piece
        if kill_at and f"\n{kill_at}".encode() in b"\n" + printed:
            child.kill()
    return await child.wait(), printed.decode()


async def left_under(pair: Pair, key: str) -> dict[str, int]:
    """Rows of each column that bear the key's id."""
    found = {}
    for table, column in [("tenants", "data_key"), *((place.table, place.column) for place in PLACES)]:
        query = f"SELECT count(*) FROM {table} WHERE strpos({column}::text, $1) > 0"
        found[f"{table}.{column}"] = (await requested(pair, query, f"v1:{key}:"))[0][0]
    return found


async def test_a_new_master_key_under_load_killed_twice(tmp_path: Path) -> None:
    async with open_pair(tmp_path) as pair:
        one, two = pair.gateways
        async with one.running() as first, two.running() as second:
            await one.wait_ready(first, pair.urls[0])
            await two.wait_ready(second, pair.urls[1])
            await pair.apply(recordings={"keep_days": 30, "posted": True})
            backup, link_key, sound = keys(pair), await fill(pair), wav(0.2)
            await trio.sleep(3)  # everybody has read what there is
            async with httpx2.AsyncClient(trust_env=False) as client:
                files = {"file": ("a.wav", sound)}
                answer = await client.post(
                    f"{pair.urls[0]}/download", data={"Token": "1" * 32, "UniqueId": "heard.1"}, files=files
                )
            assert answer.status_code == 200
            (stored,) = await requested(pair, "SELECT recording_id FROM recordings WHERE call_id = 'heard.1'")
            derive = (await sealer(pair)).derive
            link = Signer(FIRST, derive(PURPOSE)).link("http://x", stored[0], datetime.now(UTC) + timedelta(hours=1))
            parts = urlsplit(link)
            load = Load(pair, link_key, f"{parts.path}?{parts.query}", sound)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(load.run)
                await trio.sleep(1)
                assert load.refused == []

                code, killed = await rotate(pair, "tenants")
                both = keys(pair)
                assert (code, len(both.ids), both.ids[1]) == (-9, 2, backup.current.id)
                texts = await wrapped(pair)
                under_old = [(t, text) for t, text in texts if f":{backup.current.id}:" in text]
                print(f"killed with {len(under_old)} of {len(texts)} data keys left under the old key")
                assert 0 < len(under_old) < len(texts)
                for tenant, text in under_old:
                    backup.unwrap(tenant, text)  # the backup of the key file opens it still
                for tenant, text in texts:
                    both.unwrap(tenant, text)

                code, again = await rotate(pair, "recording_blobs")
                assert (code, keys(pair).ids) == (-9, both.ids)
                left = await left_under(pair, backup.current.id)
                print(f"killed again with {left}")
                assert left["tenants.data_key"] == 0
                assert left["recording_blobs.file_key"] > 0

                began = trio.current_time()
                code, last = await rotate(pair)
                print(f"the rest took {trio.current_time() - began:.1f} s\n{last}")
                assert code == 0, last
                assert keys(pair).ids == both.ids[:1]
                await trio.sleep(2)
                load.stop.set()
            print(json.dumps(dict(load.done)), len(load.refused), "refused")
            assert load.refused == []
            assert min(load.done.values()) > 20
            assert await left_under(pair, backup.current.id) == dict.fromkeys(left, 0)
            for tenant, text in await wrapped(pair):
                keys(pair).unwrap(tenant, text)
                with pytest.raises(Unsealable):
                    backup.unwrap(tenant, text)
            seals = await sealer(pair)
            for row in await requested(pair, "SELECT address, file_key FROM recording_blobs WHERE object = address"):
                assert seals.open(
                    row["file_key"], table="recording_blobs", column="file_key", row=row["address"]
                ) == Secret(f"file key {row['address']}")
            assert "nothing to change" in await one.ask("apply", str(tmp_path / "tenants.json"))
        # The next life knows the new key alone.
        async with one.running() as first:
            await one.wait_ready(first, pair.urls[0])
            async with httpx2.AsyncClient(trust_env=False, timeout=20) as client:
                assert await load.receive(client, 0, 0) == ""
                assert await load.open_page(client, 0, 0) == ""
        reported = killed + again + last + "".join((tmp_path / f"{name}.log").read_text() for name in ("one", "two"))
        for key in (*backup.keys, *both.keys):
            assert key.line().split()[2] not in reported
        complaints = [line for line in reported.splitlines() if '"ERROR"' in line]
        assert complaints == []
