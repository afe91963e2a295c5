"""Settings that are stored or tested, and the jobs that try them."""

from datetime import UTC, datetime

from gateway.domain.ids import IntegrationKey, TenantId
from gateway.store.integration_jobs import WantedJob, claim_jobs, finish_job, select_jobs, store_wanted_jobs
from gateway.store.integration_states import mark_tested
from gateway.store.postgres.pool import Connection, Database
from gateway.store.tenants import INTEGRATIONS, LinkRow, upsert_link
from tests.store.database import db, dsn, postgres

__all__ = ["db", "dsn", "postgres"]

JUNE, KEY = TenantId("0367"), IntegrationKey("dove")


async def _begin(conn: Connection) -> None:
    await conn.execute(
        "INSERT INTO tenants (tenant_id, name, timezone, country, language, data_key) VALUES ($1, 'June', 'UTC', 'BY', 'ru', 'a:b:c')", JUNE
    )  # fmt: skip
    await upsert_link(conn, INTEGRATIONS, JUNE, LinkRow("dove", "dove", True, {}, {}))


async def ran(db: Database, name: str, problem: str, detail: str = "", times: int = 1) -> None:
    """A job has run so often, each time with this result."""
    await db.engine(
        store_wanted_jobs, [JUNE], [WantedJob(JUNE, KEY, one, 9999.0) for one in {name, *await known_jobs(db)}]
    )
    for _ in range(times):
        await db.engine(_due, name)
        (claim,) = await db.engine(claim_jobs, [JUNE], [f"dove/{name}"], [], 9, 60.0)
        assert await db.engine(finish_job, claim, 3600.0, problem, detail)


async def _due(conn: Connection, name: str) -> None:
    await conn.execute("UPDATE integration_jobs SET due_at = now() WHERE name = $1", name)


async def known_jobs(db: Database) -> list[str]:
    return [one.name for one in await db.tenant(JUNE, select_jobs, JUNE, KEY)]


async def test_settings_that_are_stored_anew_are_tried_at_once(db: Database) -> None:
    await db.engine(_begin)
    await ran(db, "token", "bad_credentials", times=3)
    await ran(db, "registration", "")
    before = {one.name: one.due_at for one in await db.tenant(JUNE, select_jobs, JUNE, KEY)}
    await db.tenant(JUNE, _tested)
    after = {one.name: one for one in await db.tenant(JUNE, select_jobs, JUNE, KEY)}
    assert after["token"].due_at <= datetime.now(UTC)
    assert after["token"].attempts == 0
    assert after["registration"].due_at == before["registration"]


async def _tested(conn: Connection) -> None:
    await mark_tested(conn, JUNE, KEY, passed=True)
