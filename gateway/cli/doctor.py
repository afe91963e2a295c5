"""`gateway doctor`: one line for each thing that must be right, exit 1 if any is not.

Checks settings (they were read to get here), the database and its schema, the master key against every tenant's secrets,
the clock, each PBX and each integration. It changes nothing outside.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from adapters.apps import AppCredentials
from adapters.probe import probe
from adapters.registry import adapters
from gateway.apps_file import read_apps_file
from gateway.cache import assemble
from gateway.database import database_server
from gateway.domain.configuration import Tenant
from gateway.domain.errors import GatewayError
from gateway.resources import open_blobs, open_master_keys, safe_dialer
from gateway.settings import Settings
from gateway.smtp import Smtp
from gateway.store import tenants as store
from gateway.store.postgres.errors import Unsealable
from gateway.store.postgres.migrate import check_schema
from gateway.store.postgres.pool import Database, open_database
from gateway.store.postgres.roles import select_login
from gateway.web.translations import words

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


async def doctor(settings: Settings, taken: Sequence[str] = ()) -> int:
    """Runs every check. Returns the exit code. `taken` are the variables that a running gateway supplied."""
    found = Findings()
    apps = read_apps_file(settings.apps_file)
    found.emit(True, "settings", f"{', '.join(taken)} of the gateway that runs on {settings.data_dir}" if taken else "")
    try:
        async with database_server(settings) as (addresses, _), open_database(addresses.pool) as db:
            await _checks(settings, addresses.owner, db, found, apps)
    except GatewayError as error:
        found.emit(False, "database", error.person)
    return 1 if found.failed else 0


async def _checks(
    settings: Settings, dsn: str, db: Database, found: Findings, apps: Mapping[str, AppCredentials]
) -> None:
    await check_schema(dsn)
    await db.ping()
    login = await db.engine(select_login)
    user = login.problem or f"the login {login.name} is neither superuser nor owner"
    found.emit(True, "database", f"schema up to date, roles are safe; {user}")
    drift = abs((await db.engine(store.select_time) - datetime.now(UTC)).total_seconds())
    found.emit(drift <= CLOCK_LIMIT_S, "clock", f"{drift:.2f} s between this machine and the database")
    try:
        master = await open_master_keys(settings, may_create=False)
    except GatewayError as error:
        found.emit(False, "master key", error.person)
        return
    tenants: list[Tenant] = []
    rows = await db.engine(store.select_tenants, None)
    await master.prepare([(row.tenant, row.data_key) for row in rows])
    for row in rows:
        try:
            tenants.append(assemble(row, master))
        except Unsealable as error:
            found.emit(False, f"keys of tenant {row.tenant}", error.person)
    unfinished = "; a rotation is not finished: `gateway keys rotate` goes on" if len(master.ids) > 1 else ""
    where = f"in Vault at {settings.vault_url}, version " if settings.vault_url else ""
    found.emit(True, "master key", f"{where}{master.current.id}, opens the keys of {len(tenants)} tenants{unfinished}")
    if settings.s3_url:
        async with open_blobs(settings) as blobs:
            try:
                await blobs.size(f"doctor/{'0' * 64}-{'0' * 16}")
                found.emit(True, "recordings", settings.s3_url)
            except GatewayError as error:
                found.emit(False, "recordings", f"{settings.s3_url}: {error.detail}")
    if settings.smtp_url is not None:
        where = f"{settings.smtp_url.host}:{settings.smtp_url.port}"
        try:
            await Smtp(settings.smtp_url).test()
            found.emit(True, "mail", f"{where} takes our user")
        except GatewayError as error:
            found.emit(False, "mail", error.detail)
    dial = await safe_dialer(settings)
    known = adapters()
    for tenant in tenants:
        reader = replace(tenant, language="en")  # as all else that is printed
        for link in (*tenant.pbxes, *tenant.integrations.values()):
            if link.enabled and (adapter := known.get(link.kind)) is not None:
                base_url = settings.provider_urls.get(link.kind)
                app = apps.get(adapter.app.name) if adapter.app is not None else None
                tested = await probe(
                    reader,
                    adapter,
                    link.name,
                    link.settings,
                    base_url,
                    dial,
                    app=app,
                    provider_urls=settings.provider_urls,
                )
                outcome = words("en").code("tested", tested.code, link.kind)
                found.emit(
                    tested.ok,
                    f"{adapter.title} {link.name} of tenant {tenant.number}",
                    f"{outcome} {tested.said('en')}",
                )
