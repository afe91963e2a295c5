"""`gateway doctor`: one line for each thing that must be right, exit 1 if any is not.

Checks settings (they were read to get here), the database and its schema, the master key against every tenant's secrets,
the clock, each PBX and each integration. It changes nothing outside.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from adapters.probe import probe
from adapters.registry import adapters
from gateway.cache import assemble
from gateway.domain.configuration import Tenant
from gateway.domain.errors import GatewayError
from gateway.resources import open_blobs, safe_dialer
from gateway.settings import Settings
from gateway.store import tenants as store
from gateway.store.embedded.embedded import embedded
from gateway.store.postgres.errors import Unsealable
from gateway.store.postgres.migrate import check_schema
from gateway.store.postgres.pool import Database, open_database
from gateway.store.secrets.seal import load_master_keys

CLOCK_LIMIT_S = 2.0


class Findings:
    """Prints each finding as it comes and remembers whether any was bad."""

    def __init__(self) -> None:
        self.failed = False

    def emit(self, ok: bool, what: str, detail: str = "") -> None:
        """One line."""
        self.failed |= not ok
        text = " ".join(f"{what}{f': {detail}' if detail else ''}".split())
        print(f"{'ok  ' if ok else 'FAIL'}  {text}", flush=True)


async def doctor(settings: Settings) -> int:
    """Runs every check. Returns the exit code."""
    found = Findings()
    found.emit(True, "settings")
    try:
        async with _database(settings) as (dsn, db):
            await _checks(settings, dsn, db, found)
    except GatewayError as error:
        found.emit(False, "database", error.person)
    return 1 if found.failed else 0


@asynccontextmanager
async def _database(settings: Settings) -> AsyncIterator[tuple[str, Database]]:
    if settings.database_url is not None:
        dsn = settings.database_url.reveal()
        async with open_database(dsn) as db:
            yield dsn, db
    else:
        async with embedded(settings.data_dir) as server, open_database(server.dsn) as db:
            yield server.dsn, db


async def _checks(settings: Settings, dsn: str, db: Database, found: Findings) -> None:
    await check_schema(dsn)
    await db.ping()
    found.emit(True, "database", "schema up to date, roles are safe")
    drift = abs((await db.engine(store.select_time) - datetime.now(UTC)).total_seconds())
    found.emit(drift <= CLOCK_LIMIT_S, "clock", f"{drift:.2f} s between this machine and the database")
    try:
        master = load_master_keys(
            settings.master_key_file, settings.data_dir, may_create=False,
            credentials_directory=os.environ.get("CREDENTIALS_DIRECTORY"),
        )  # fmt: skip
    except GatewayError as error:
        found.emit(False, "master key", error.person)
        return
    tenants: list[Tenant] = []
    for row in await db.engine(store.select_tenants, None):
        try:
            tenants.append(assemble(row, master))
        except Unsealable as error:
            found.emit(False, f"keys of tenant {row.tenant}", error.person)
    unfinished = "; a rotation is not finished: `gateway keys rotate` goes on" if len(master.ids) > 1 else ""
    found.emit(True, "master key", f"{master.current.id}, opens the keys of {len(tenants)} tenants{unfinished}")
    if settings.s3_url:
        async with open_blobs(settings) as blobs:
            try:
                await blobs.size(f"doctor/{'0' * 64}-{'0' * 16}")
                found.emit(True, "recordings", settings.s3_url)
            except GatewayError as error:
                found.emit(False, "recordings", f"{settings.s3_url}: {error.detail}")
    dial = await safe_dialer(settings)
    known = adapters()
    for tenant in tenants:
        for link in (*tenant.pbxes, *tenant.integrations.values()):
            if link.enabled and (adapter := known.get(link.kind)) is not None:
                base_url = settings.provider_urls.get(link.kind)
                tested = await probe(tenant, adapter, link.name, link.settings, base_url, dial)
                words = f"{tested.code.replace('_', ' ')}{f' ({tested.detail})' if tested.detail else ''}"
                found.emit(tested.ok, f"{adapter.title} {link.name} of tenant {tenant.number}", words)
