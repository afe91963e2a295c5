"""A new master key on a real server: every sealed column, in batches, ended anywhere and gone on with."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
import trio

from gateway.domain.ids import TenantId
from gateway.domain.secret import Secret
from gateway.store.postgres.errors import BadData, Busy, Unsealable
from gateway.store.postgres.pool import Connection, Database
from gateway.store.secrets import rotation
from gateway.store.secrets.rotation import PLACES, Place, Rotation
from gateway.store.secrets.seal import MasterKeys, Sealer, new_data_key, new_master_key, parse_master_keys
from gateway.store.shards import renew

TENANTS = [TenantId(f"{number:04d}") for number in range(360, 367)]
CANARY = "hunter2"


@dataclass
class Store:
    """A database full of secrets under one key, and a newer key."""

    db: Database
    old: MasterKeys
    both: MasterKeys
    derived: dict[TenantId, bytes]

    @property
    def new(self) -> MasterKeys:
        return MasterKeys([self.both.current])

    def rotation(self, batch: int = 3, progress: Callable[[str, int, int], None] = lambda *_: None) -> Rotation:
        return Rotation(self.db, self.both, progress, batch)

    async def run(self, query: str, *values: Any) -> list[Any]:
        async def work(conn: Connection) -> list[Any]:
            return list(await conn.fetch(query, *values))

        return await self.db.engine(work)

    async def sealers(self, master: MasterKeys) -> dict[TenantId, Sealer]:
        rows = await self.db.engine(rotation.select_wrapped)
        return {tenant: master.sealer(tenant, wrapped) for tenant, wrapped in rows}

    async def opened(self, master: MasterKeys) -> dict[str, str]:
        """Everything there is, opened in its place."""
        sealers, found = await self.sealers(master), {}
        for place in PLACES:
            for row in await self.run(
                f"SELECT tenant_id, {place.row_key}::text AS key, {place.column} AS sealed FROM {place.table} x "
                f"WHERE {place.column} IS NOT NULL"
            ):
                bound = row["key"] if place.row_is_key else ""
                cells = json.loads(row["sealed"]) if place.fields else {place.column: row["sealed"]}
                for column, sealed in cells.items():
                    secret = sealers[row["tenant_id"]].open(sealed, table=place.table, column=column, row=bound)
                    found[f"{place.table}.{column}/{row['key']} of {row['tenant_id']}"] = secret.reveal()
        return found


@pytest.fixture
async def store(db: Database) -> Store:
    old = parse_master_keys(new_master_key())
    both = MasterKeys([parse_master_keys(new_master_key()).current, *old.keys])
    derived = {}

    async def fill(conn: Connection) -> None:
        for tenant in TENANTS:
            wrapped = old.wrap(tenant, new_data_key())
            sealer = old.sealer(tenant, wrapped)
            derived[tenant] = sealer.derive("links")

            def seal(table: str, column: str, row: str, sealer: Sealer = sealer) -> str:
                return sealer.seal(Secret(f"{CANARY} {column} {row}"), table=table, column=column, row=row)

            await conn.execute(
                "INSERT INTO tenants (tenant_id, name, timezone, country, language, data_key, secrets) "
                "VALUES ($1, 'x', 'UTC', 'BY', 'en', $2, $3)", tenant, wrapped,
                json.dumps({"llm.api_key": seal("tenants", "llm.api_key", tenant)}),
            )  # fmt: skip
            for name in ("main", "spare"):
                fields = {column: seal("pbxes", column, name) for column in ("secret", "ari_password")}
                await conn.execute(
                    "INSERT INTO pbxes (tenant_id, name, pbx_type, secrets) VALUES ($1, $2, 'asterisk', $3)",
                    tenant, name, json.dumps(fields),
                )  # fmt: skip
            await conn.execute(
                "INSERT INTO integrations (tenant_id, integration_type, secrets) VALUES ($1, 'crm', $2), ($1, 'empty', '{}')",
                tenant, json.dumps({"api_key": seal("integrations", "api_key", "crm")}),
            )  # fmt: skip
            for name in ("oauth", "bot"):
                row = f"crm/{name}"
                await conn.execute(
                    "INSERT INTO integration_tokens (tenant_id, integration_type, name, sealed, previous_sealed) "
                    "VALUES ($1, 'crm', $2, $3, $4)", tenant, name, seal("integration_tokens", "sealed", row),
                    seal("integration_tokens", "previous_sealed", row),
                )  # fmt: skip
            await conn.execute(
                "INSERT INTO modules (tenant_id, integration_type, state, link_key, version, told_version) "
                "VALUES ($1, 'crm', 'active', $2, 1, 1)", tenant, seal("modules", "link_key", "crm"),
            )  # fmt: skip
            await conn.execute(
                "INSERT INTO users (tenant_id, email, password_hash, factor) VALUES ($1, 'a@x.example', 'h', $2)",
                tenant, seal("users", "factor", "a@x.example"),
            )  # fmt: skip
            for number in range(4):
                address = f"{number:064x}"
                await conn.execute(
                    "INSERT INTO recording_blobs (tenant_id, address, object, file_key, size) VALUES ($1, $2, $2, $3, 1)",
                    tenant, address, seal("recording_blobs", "file_key", address),
                )  # fmt: skip
                await conn.execute(
                    "INSERT INTO recordings (tenant_id, recording_id, call_id, state, url) "
                    "VALUES ($1, gen_random_uuid(), 'a', 'expected', $2), ($1, gen_random_uuid(), 'b', 'expected', NULL)",
                    tenant, seal("recordings", "url", ""),
                )  # fmt: skip
            for ident in (UUID(int=1), UUID(int=2)):
                texts = seal("call_transcripts", "body", str(ident)), seal("call_transcripts", "summary", str(ident))
                await conn.execute(
                    "INSERT INTO recordings (tenant_id, recording_id, call_id, state) VALUES ($1, $2, 'c', 'expected')",
                    tenant,
                    ident,
                )
                await conn.execute(
                    "INSERT INTO call_transcripts (tenant_id, recording_id, body, summary) VALUES ($1, $2, $3, $4)",
                    tenant,
                    ident,
                    *texts,
                )

    await db.engine(fill)
    return Store(db, old, both, derived)


async def test_everything_is_under_the_new_key_and_nothing_opens_with_the_old_one(store: Store) -> None:
    before = await store.opened(store.old)
    assert len(before) == len(TENANTS) * (4 + 1 + 1 + 1 + 4 + 1 + 4 + 4 + 4)
    versions = [tuple(row) for row in await store.run("SELECT tenant_id, version FROM tenant_versions ORDER BY 1")]
    reported: list[tuple[str, int, int]] = []
    work = store.rotation(progress=lambda *step: reported.append(step))
    assert await work.run_pass() == 0
    assert (work.damaged, work.lost) == (set(), {})
    assert await store.opened(store.new) == before
    for tenant, wrapped in await store.db.engine(rotation.select_wrapped):
        with pytest.raises(Unsealable, match=store.both.current.id):
            store.old.unwrap(tenant, wrapped)
    assert {
        tenant: sealer.derive("links") for tenant, sealer in (await store.sealers(store.new)).items()
    } == store.derived
    # Nobody was made to read a configuration that has not changed, nor to tell a CRM of it.
    assert [tuple(r) for r in await store.run("SELECT tenant_id, version FROM tenant_versions ORDER BY 1")] == versions
    assert await store.run("SELECT FROM modules WHERE told_version < version") == []
    places = list(dict.fromkeys(what for what, _, _ in reported))
    assert places == ["tenants", *(f"{place.table}.{place.column}" for place in PLACES)]
    for what in places:
        steps = [(done, total) for name, done, total in reported if name == what]
        assert steps == sorted(steps)
        assert steps[-1][0] == steps[-1][1]
    told_before = len(reported)
    assert await work.run_pass() == 0
    assert len(reported) == told_before


async def test_no_sealed_column_is_forgotten(store: Store) -> None:
    """Whatever text or JSON of the whole database bears the old key's id afterwards is one that PLACES lacks."""
    columns = await store.run(
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public' "
        "AND data_type IN ('text', 'jsonb', 'ARRAY') AND table_name NOT IN ('schema_migrations')"
    )

    async def holding(key: str) -> set[str]:
        found = set()
        for table, column in columns:
            if await store.run(f"SELECT FROM {table} WHERE strpos({column}::text, $1) > 0 LIMIT 1", key):
                found.add(f"{table}.{column}")
        return found

    expected = {"tenants.data_key", *(f"{place.table}.{place.column}" for place in PLACES)}
    assert await holding(store.old.current.id) == expected
    assert await store.rotation().run_pass() == 0
    assert await holding(store.old.current.id) == set()
    assert await holding(store.both.current.id) == expected


@pytest.mark.parametrize("after", range(0, 24, 3))
async def test_ended_after_any_batch_it_goes_on(store: Store, after: int) -> None:
    """Between two batches both keys open everything, and the old one by itself whatever was not reached."""
    before = await store.opened(store.old)
    steps = 0

    class Killed(Exception):
        pass

    def progress(*_: object) -> None:
        nonlocal steps
        steps += 1
        if steps > after:
            raise Killed

    with pytest.raises(Killed):
        await store.rotation(progress=progress).run_pass()
    assert await store.opened(store.both) == before
    for tenant, wrapped in await store.db.engine(rotation.select_wrapped):
        if f":{store.old.current.id}:" in wrapped:
            assert store.old.unwrap(tenant, wrapped).version == 1
    assert await store.rotation().run_pass() == 0
    assert await store.opened(store.new) == before


@pytest.mark.slow  # waits for a lock as long as any statement may
async def test_what_somebody_holds_is_left_for_the_next_pass(store: Store) -> None:
    """No waiting: a transaction that holds rows, and then wants more of them, is never in our way or we in its."""
    before = await store.opened(store.old)

    async def during(conn: Connection, work: Callable[[], Awaitable[int]]) -> int:
        async with conn.transaction():
            await conn.execute("UPDATE integrations SET enabled = false WHERE tenant_id = '0362'")
            await conn.execute("UPDATE tenants SET name = 'y' WHERE tenant_id = '0363'")
            left = await work()
            await conn.execute("UPDATE tenants SET name = 'y' WHERE tenant_id = '0362'")
            await conn.execute("UPDATE integrations SET enabled = false WHERE tenant_id = '0363'")
        return left

    work = store.rotation()
    result: list[int] = []
    held, release = trio.Event(), trio.Event()
    token = trio.lowlevel.current_trio_token()

    async def hold() -> None:
        async def wait() -> int:
            token.run_sync_soon(held.set)
            while not release.is_set():
                await asyncio.sleep(0.01)
            return 0

        await store.db.engine(during, wait)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hold)
        await held.wait()
        result.append(await work.run_pass())
        assert not await _retired(store)
        release.set()
    assert result[0] >= 2
    assert await work.run_pass() == 0
    assert await store.opened(store.new) == before
    assert await _retired(store)


async def _retired(store: Store) -> bool:
    try:
        return await store.db.engine(rotation.retire, store.both.current.id, store.old.ids)
    except Busy:
        return False


@pytest.mark.parametrize("place", PLACES, ids=lambda place: str(place.table))
async def test_swapped_ciphertexts_stay_refused(store: Store, place: Place) -> None:
    """Between tenants: what did not open before is neither opened nor made to open, and all else is done."""
    await store.run(
        f"UPDATE {place.table} x SET {place.column} = "
        f"(SELECT {place.column} FROM {place.table} y WHERE y.tenant_id = '0361' AND y.{place.column}::text LIKE '%enc:%' "
        f"LIMIT 1) WHERE x.tenant_id = '0360' AND x.{place.column}::text LIKE '%enc:%'"
    )
    swapped = await store.run(f"SELECT {place.column} FROM {place.table} WHERE tenant_id = '0360' ORDER BY {place.key}")
    work = store.rotation()
    assert await work.run_pass() == 0
    assert work.lost == {}
    assert work.damaged
    assert all(where.startswith(f"{place.table}.{place.column} of tenant 0360") for where in work.damaged)
    assert "enc:" not in str(work.damaged)
    assert (
        await store.run(f"SELECT {place.column} FROM {place.table} WHERE tenant_id = '0360' ORDER BY {place.key}")
        == swapped
    )
    with pytest.raises(Unsealable):
        await store.opened(store.new)


async def test_a_tenant_made_under_the_old_key_is_caught_or_refused(store: Store) -> None:
    insert = (
        "INSERT INTO tenants (tenant_id, name, timezone, country, language, data_key) VALUES ($1, 'x', 'UTC', 'BY', 'en', $2) "
        "ON CONFLICT (tenant_id) DO UPDATE SET name = excluded.name"
    )
    first = store.old.wrap(TENANTS[0], new_data_key())
    assert await store.rotation().run_pass() == 0
    late = TenantId("0399")
    await store.run(insert, late, store.old.wrap(late, new_data_key()))
    assert not await _retired(store)
    assert await store.rotation().run_pass() == 0
    assert await _retired(store)
    later = TenantId("0400")
    with pytest.raises(BadData) as caught:
        await store.run(insert, later, store.old.wrap(later, new_data_key()))
    assert caught.value.constraint == "master_key_in_force"
    await store.run(insert, TENANTS[0], first)  # which only renames a tenant that is there
    await store.run(insert, later, store.both.wrap(later, new_data_key()))


async def test_a_data_key_that_does_not_open_keeps_the_old_key(store: Store) -> None:
    await store.run(
        "UPDATE tenants SET data_key = (SELECT data_key FROM tenants WHERE tenant_id = '0361') WHERE tenant_id = '0360'"
    )
    work = store.rotation()
    await work.run_pass()
    assert list(work.lost) == ["0360"]
    assert not await _retired(store)


async def test_recordings_of_a_tenant_that_is_gone_do_not_stop_it(store: Store) -> None:
    await store.run("DELETE FROM tenants WHERE tenant_id = '0360'")
    work = store.rotation()
    assert await work.run_pass() == 0
    assert (work.damaged, work.lost) == (set(), {})
    assert await store.run("SELECT FROM recordings WHERE tenant_id = '0360'")


async def test_instances_that_lack_a_key_are_named(store: Store) -> None:
    await store.db.engine(renew, "one", master_keys=store.old.ids)
    await store.db.engine(renew, "two", master_keys=store.both.ids)
    await store.run("INSERT INTO instances (instance, seen_at) VALUES ('dead', now() - interval '1 minute')")
    assert await store.db.engine(rotation.select_instances_without, store.both.current.id) == ["one"]
    await store.db.engine(renew, "one", master_keys=store.both.ids)
    assert await store.db.engine(rotation.select_instances_without, store.both.current.id) == []
