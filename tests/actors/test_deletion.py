"""Deleting a company: nothing of it is left anywhere, the others lose nothing, and whatever ends it, it can be gone on with."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from actors import deletion
from actors.deletion import Deletions, Place
from adapters.http import SafeDialer
from gateway.cache import ConfigurationCache
from gateway.domain.errors import Unavailable
from gateway.domain.ids import OPERATOR, TenantId
from gateway.domain.secret import Secret
from gateway.store import tenant_deletions as store
from gateway.store.audit import acting, select_audit
from gateway.store.audit_chain import verify_trail
from gateway.store.embedded.embedded import as_login
from gateway.store.files.blobs import FolderBlobs
from gateway.store.postgres.pool import Connection, Database, OwnConnection, Session, open_database, open_session
from gateway.store.secrets.seal import new_master_key, parse_master_keys
from gateway.store.tenants import INTEGRATIONS, LinkRow, select_tenants, upsert_link
from tests.sandbox.retailcrm import RetailCrm
from tests.sandbox.telegram import Telegram
from tests.store.database import db, dsn, empty_dsn, postgres
from tests.store.every_table import fill, found_in
from tests.web.world import JUNE, MAPLE, SECRET_KEY, World, make_world, play

__all__ = ["db", "dsn", "empty_dsn", "postgres"]

TOKEN = "700100200:sandbox-token"
DIAL = SafeDialer(allowed_private_nets=["127.0.0.0/8"])


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deletion, "LATE_S", 0.0)


@dataclass
class Stage:
    """Two companies with calls, and what deletes one."""

    world: World
    owner: Session
    folder: Path
    urls: dict[str, str] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)

    def deletions(self, worker: str = "test") -> Deletions:
        assert self.world.deps.master is not None
        place = Place(DIAL, self.urls, "https://gateway.example", self.world.deps.master)
        return Deletions(self.world.db, place, FolderBlobs(self.folder, trio.CapacityLimiter(2)), lambda: worker)

    async def delete(self, number: TenantId = JUNE) -> bool:
        assert await self.world.db.engine(store.request_deletion, number, "cli")
        return await self.deletions().carry_out(number, self.said.append)

    async def left(self, number: TenantId = JUNE) -> dict[str, int]:
        return await self.owner.run(found_in, number)

    async def everything_of(self, number: TenantId) -> dict[str, int]:
        return await self.owner.run(found_in, number)


@pytest.fixture
async def stage(db: Database, dsn: str, tmp_path: Path) -> AsyncIterator[Stage]:
    world = await make_world(db)
    await play(world)
    await play(world, MAPLE)
    for number in (JUNE, MAPLE):
        (tmp_path / number / "ab").mkdir(parents=True)
        (tmp_path / number / "ab" / f"{'a' * 64}-{'b' * 16}").write_bytes(b"sound")
        (tmp_path / number / "ab" / "left-by-a-crash").write_bytes(b"sound")
    async with open_session(dsn) as owner:
        await owner.run(fill, JUNE, "words")
        await owner.run(fill, MAPLE, "words")
        yield Stage(world, owner, tmp_path)


async def test_nothing_is_left_and_the_others_lose_nothing(stage: Stage) -> None:
    maple, tables = await stage.everything_of(MAPLE), await stage.left()
    assert len(tables) > 20
    with acting("cli", "root@host"):
        assert await stage.delete()
    assert await stage.left() == {}
    assert await stage.everything_of(MAPLE) == maple
    assert [path.name for path in stage.folder.iterdir()] == [MAPLE]
    (line,) = await stage.world.db.tenant(OPERATOR, select_audit, OPERATOR, None, 9)
    assert (line.action, line.target, line.actor, line.kind, line.source) == (
        "tenant.deleted", JUNE, "cli", "cli", "root@host",
    )  # fmt: skip
    assert (await stage.world.db.engine(verify_trail, OPERATOR)).broken is None
    assert not await stage.world.db.engine(store.request_deletion, JUNE, "cli")


async def test_it_exists_for_nobody_from_the_request_on(stage: Stage) -> None:
    db, cache = stage.world.db, stage.world.cache
    before = cache.tenant(JUNE)
    assert before is not None
    assert await db.engine(store.request_deletion, JUNE, "root@gateway.example")
    await cache.load(JUNE, anew=True)
    assert cache.tenant(JUNE) is None
    assert cache.by_token(before.token_hash) is None
    assert [row.tenant for row in await db.engine(select_tenants)] == [MAPLE]
    assert await db.engine(store.select_existing, [JUNE, MAPLE]) == {MAPLE}
    (line, *_) = await db.tenant(JUNE, select_audit, JUNE, None, 1)
    assert line.action == "tenant.deletion_requested"


async def bump(conn: Connection) -> int:
    return int(await conn.fetchval("SELECT max(version) FROM tenant_versions WHERE tenant_id = '0367'"))


async def test_caches_that_poll_hear_of_it(stage: Stage) -> None:
    before = await stage.world.db.engine(bump)
    await stage.world.db.engine(store.request_deletion, JUNE, "cli")
    assert await stage.world.db.engine(bump) > before


# What is outside


async def telegram_by_webhook(stage: Stage) -> None:
    master = stage.world.deps.master
    assert master is not None
    (row,) = await stage.world.db.engine(select_tenants, [JUNE])
    sealer = master.sealer(JUNE, row.data_key)
    secrets = {
        name: sealer.seal(Secret(value), table="integrations", column=name, row="telegram")
        for name, value in (("bot_token", TOKEN), ("hook_id", "h" * 43))
    }
    plain = {"notify_chats": [-1001], "updates": "webhook", "chat": True}
    await stage.world.db.engine(upsert_link, INTEGRATIONS, JUNE, LinkRow("telegram", "telegram", True, plain, secrets))


async def test_a_module_and_a_webhook_are_taken_back(stage: Stage, nursery: trio.Nursery) -> None:
    crm, telegram = RetailCrm(SECRET_KEY, rate_limits=False), Telegram({TOKEN: "shop_bot"}, rate_limits=False)
    url = await nursery.start(crm.serve)
    stage.urls["telegram"] = await nursery.start(telegram.serve)
    await stage.world.db.engine(
        run_sql, f"""UPDATE integrations SET settings = '{{"domain": "{url}"}}' WHERE tenant_id = '0367'"""
    )
    await stage.world.db.engine(run_sql, "DELETE FROM modules")
    await stage.world.cache.load()
    modules = stage.world.deps.modules
    (linked,) = modules.set_up(stage.world.cache.tenants()[JUNE])
    assert (await modules.register(JUNE, linked, "admin")).saved
    await telegram_by_webhook(stage)
    telegram.bots[TOKEN].webhook = {"url": "https://gateway.example/hooks/telegram/x"}
    assert await stage.delete()
    (module,) = crm.modules.values()
    assert module["active"] is False
    assert not telegram.bots[TOKEN].webhook
    assert await stage.left() == {}


async def test_what_cannot_be_taken_back_is_noted_and_holds_nothing_up(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> None:
    monkeypatch.setattr(deletion, "OUTSIDE_S", 0.2)

    async def silent(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    listeners = await nursery.start(trio.serve_tcp, silent, 0)
    stage.urls["telegram"] = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
    await telegram_by_webhook(stage)
    await stage.world.db.engine(
        run_sql, """UPDATE integrations SET settings = '{"domain": "http://127.0.0.1:1"}' WHERE integration_type = 'retailcrm'""",
        "DELETE FROM modules", "INSERT INTO modules (tenant_id, integration_type, state) VALUES ('0367', 'retailcrm', 'active')",
    )  # fmt: skip
    assert await stage.delete()
    assert await stage.left() == {}
    (line,) = await stage.world.db.tenant(OPERATOR, select_audit, OPERATOR, None, 9)
    assert "telegram: no answer in time" in line.detail
    assert "retailcrm: " in line.detail


# Ended midway


async def run_sql(conn: Connection | OwnConnection, *statements: str) -> None:
    for statement in statements:
        await conn.execute(statement)


STEPS = ("_withdraw", "_settle", "_delete_rows", "_delete_table")


@pytest.mark.parametrize("step", [*STEPS, "note_withdrawn", "finish_deletion", "delete_latecomers"])
@pytest.mark.parametrize("after", [False, True])
async def test_ended_anywhere_it_goes_on(stage: Stage, monkeypatch: pytest.MonkeyPatch, step: str, after: bool) -> None:
    place: Any = Deletions if step in STEPS else store
    whole: Callable[..., Awaitable[Any]] = getattr(place, step)

    async def ended(*args: Any, **kwargs: Any) -> Any:
        if after:
            await whole(*args, **kwargs)
        raise Unavailable("killed here")

    with monkeypatch.context() as patched:
        patched.setattr(place, step, ended)
        await stage.world.db.engine(store.request_deletion, JUNE, "cli")
        with pytest.raises(Unavailable):
            await stage.deletions("first").carry_out(JUNE, stage.said.append)
    if step == "delete_latecomers" or (step == "finish_deletion" and after):
        assert await stage.world.db.engine(store.select_deletions) == []
    else:
        assert await stage.deletions("second").carry_out(JUNE, stage.said.append)
    assert await stage.left() == {}
    (line,) = await stage.world.db.tenant(OPERATOR, select_audit, OPERATOR, None, 9)
    assert line.target == JUNE


async def test_one_works_at_a_time(stage: Stage) -> None:
    await stage.world.db.engine(store.request_deletion, JUNE, "cli")
    assert await stage.world.db.engine(store.claim_deletion, JUNE, "another") is not None
    assert not await stage.deletions().carry_out(JUNE, stage.said.append)
    await stage.world.db.engine(run_sql, "UPDATE tenant_deletions SET lease_until = now() - interval '1 s'")
    assert await stage.deletions().carry_out(JUNE, stage.said.append)
    assert not await stage.deletions().carry_out(JUNE, stage.said.append)


async def test_what_comes_late_goes_too(stage: Stage) -> None:
    assert await stage.delete()
    await stage.owner.run(
        run_sql,
        "INSERT INTO dead_letters (tenant_id, actor, message, trace, version) VALUES ('0367', 'a', 'b', 'c', 'd')",
    )
    assert await stage.left() != {}
    assert await stage.world.db.engine(store.delete_latecomers, JUNE) == 1
    assert await stage.world.db.engine(store.delete_latecomers, MAPLE) == 0
    assert await stage.left() == {}


async def test_the_audit_of_a_company_that_stays_cannot_be_deleted(stage: Stage) -> None:
    from gateway.store.postgres.errors import StoreError

    with pytest.raises(StoreError):
        await stage.world.db.engine(store.delete_rows, JUNE, "audit", 10)


NUMBERS = st.from_regex(r"[0-9A-Za-z_-]{9,31}", fullmatch=True).filter(lambda text: len(set(text)) > 4)
TEXTS = st.text(
    st.characters(codec="utf-8", exclude_characters="'\0", exclude_categories=("Cs", "Cc")), min_size=1, max_size=8
)


@pytest.mark.slow
@pytest.mark.long
def test_deleting_leaves_nothing(dsn: str, tmp_path: Path) -> None:
    """Feature: modular-bot-integrations, Property 12: deleting a tenant leaves no row, no key, no session and no file of it, in
    any table or partition there is, save the operators' line, and takes nothing from a tenant whose number is nearly the same."""
    tables = st.none() | st.sets(
        st.sampled_from(["calls", "journal", "audit", "users", "api_keys", "recordings", "phones"])
    )
    seen = set[str]()

    @settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True)
    @given(number=NUMBERS, text=TEXTS, only=tables)
    @example(number="0367-with-all", text="words", only=None)
    def one(number: str, text: str, only: set[str] | None) -> None:
        if any(number[:-1] in other or other[:-1] in number for other in seen):
            return
        seen.add(number)
        near = number[:-1] + ("x" if number[-1] != "x" else "y")
        trio.run(_delete_one, dsn, TenantId(number), TenantId(near), text, only, tmp_path)

    one()
    assert len(seen) >= 100


async def _delete_one(
    dsn: str, number: TenantId, near: TenantId, text: str, only: set[str] | None, folder: Path
) -> None:
    keys = parse_master_keys(new_master_key())
    async with open_database(as_login(dsn), size=1, engine_size=2) as db, open_session(dsn) as owner:
        await owner.run(fill, number, text, only=only)
        await owner.run(fill, near, text, only=only)
        neighbour = await owner.run(found_in, near, anywhere=True)
        (folder / number / "00").mkdir(parents=True)
        (folder / number / "00" / "file").write_bytes(os.urandom(8))
        deletions = Deletions(
            db,
            Place(DIAL, {}, "https://gateway.example", keys),
            FolderBlobs(folder, trio.CapacityLimiter(1)),
            lambda: "test",
        )
        assert await db.engine(store.request_deletion, number, "cli")
        assert await deletions.carry_out(number, lambda text: None)
        assert await owner.run(found_in, number, anywhere=True) == {}
        assert not (folder / number).exists()
        assert await owner.run(found_in, near, anywhere=True) == neighbour
        cache = ConfigurationCache(db, keys)
        await cache.load(number)
        assert cache.tenant(number) is None
        assert await db.engine(store.request_deletion, near, "cli")
        assert await deletions.carry_out(near, lambda text: None)
