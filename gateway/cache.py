"""The configuration in memory: immutable snapshots that readers never wait for, kept fresh by four nets. A little long, for the
indexes by which outside systems are recognised stand here too.

    NOTIFY by trigger        under a second
    version poll             every 2 s, finds what a dead LISTEN connection missed
    entry TTL (90 s)         a read of an older entry requests a new one and answers from the old
    full refresh             every 180 to 300 s, with jitter (GATEWAY_CACHE_REFRESH_S)

Many misses for one tenant make one load. While the database is away the copy stays. The enablement matrix is derived
from the same snapshot, so the two can never differ. Secrets are opened here, once, into `Secret`.
Read `actors.reconciler` next: it compares a snapshot with what runs.
"""

import hashlib
import logging
import random
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo

import trio
from cachetools import TTLCache

from adapters.unique_settings import account_digest, account_text
from gateway.domain.configuration import Connector, Phone, Tenant
from gateway.domain.errors import Unavailable
from gateway.domain.ids import IntegrationKey, Kind, TenantId, utc_text
from gateway.domain.secret import Secret
from gateway.store import tenants as store
from gateway.store.postgres.errors import Conflict, Unsealable
from gateway.store.postgres.pool import Database
from gateway.store.secrets.seal import MasterKeys, Sealer
from gateway.telemetry import HISTOGRAMS

log = logging.getLogger(__name__)

POLL_S = 2.0
OVERLAP = timedelta(seconds=60)
"""The poll looks back this far, so that a transaction that committed late is seen too."""
UNKNOWN_TTL_S = 5.0


@dataclass(frozen=True, slots=True)
class Entry:
    """One tenant's snapshot and when the reading of it began (monotonic seconds and UTC)."""

    tenant: Tenant
    read_at: float
    cached_at: datetime
    sealer: Sealer
    claimed: frozenset[str] = frozenset()
    """The integrations whose client id no other of the installation can have."""


@dataclass(slots=True, eq=False)
class _Load:
    """A load under way, for those who wait for it."""

    done: trio.Event = field(default_factory=trio.Event)
    succeeded: bool = False


@dataclass(slots=True)
class CacheStats:
    """What `/stats` shows."""

    hits: int = 0
    misses: int = 0
    invalidations: int = 0
    last_invalidation: datetime | None = None
    loads: int = 0
    last_load_s: float = 0.0
    last_full_refresh: datetime | None = None

    def invalidated(self) -> None:
        """Counts that something was changed, here or by somebody else."""
        self.invalidations += 1
        self.last_invalidation = datetime.now(UTC)


def open_secrets(row: store.LinkRow, table: str, sealer: Sealer) -> dict[str, Any]:
    """The settings with secrets opened. A secret that does not open is left out and logged without its text."""
    values = dict(row.settings)
    for name, sealed in row.secrets.items():
        try:
            values[name] = sealer.open(sealed, table=table, column=name, row=row.name)
        except Unsealable:
            log.error("a secret does not open with this master key", extra={"table": table, "row": row.name})
    return values


def assemble(row: store.TenantRow, master: MasterKeys) -> Tenant:
    """A row as the snapshot readers get. Raises Unsealable when the tenant's data key is not this master key's."""
    return _assemble(row, master.sealer(row.tenant, row.data_key))


def tenant_secrets(row: store.TenantRow, sealer: Sealer) -> dict[str, Secret]:
    """The secrets among a tenant's options, opened. One that does not open is left out and logged without its text."""
    found = dict[str, Secret]()
    for name, sealed in row.secrets.items():
        try:
            found[name] = sealer.open(sealed, table="tenants", column=name, row=row.tenant)
        except Unsealable:
            log.error("a secret does not open with this master key", extra={"table": "tenants", "row": row.tenant})
    return found


def _assemble(row: store.TenantRow, sealer: Sealer) -> Tenant:
    return Tenant(
        number=row.tenant,
        name=row.name,
        timezone=ZoneInfo(row.timezone),
        country=row.country,
        language=row.language,
        token_hash=row.token_hash or b"",
        phones=tuple(Phone(*phone) for phone in row.phones),
        pbxes=tuple(_connection(pbx, "pbxes", sealer) for pbx in row.pbxes),
        integrations=MappingProxyType(
            {IntegrationKey(link.name): _connection(link, "integrations", sealer) for link in row.integrations}
        ),
        options=MappingProxyType(dict(row.options)),
        version=row.version,
        user_extensions=MappingProxyType(
            {IntegrationKey(key): MappingProxyType(users) for key, users in row.user_extensions.items()}
        ),
        secrets=MappingProxyType(tenant_secrets(row, sealer)),
    )


def _connection(row: store.LinkRow, table: str, sealer: Sealer) -> Connector:
    return Connector(row.name, Kind(row.kind), MappingProxyType(open_secrets(row, table, sealer)), row.enabled)


@dataclass
class ConfigurationCache:
    """All tenants' snapshots. `run` keeps them fresh; everything else answers at once."""

    db: Database
    master: MasterKeys
    kinds: tuple[Kind, ...] = ()
    """Integration kinds the enablement matrix always names, switched on or not."""
    caller_fields: Mapping[Kind, str] = field(default_factory=dict)
    """The settings field by which each kind's outside system identifies itself when it calls us."""
    hook_fields: Mapping[Kind, str] = field(default_factory=dict)
    """The settings field with the last part of the address that each kind's outside system calls."""
    account_fields: Mapping[Kind, str] = field(default_factory=dict)
    """The settings field with the remote account's id, of kinds whose webhooks share an address."""
    ttl_s: float = 90.0
    """After how long an entry that is read is read anew from the database."""
    refresh_s: tuple[float, float] = (180.0, 300.0)
    """Between which the pause between two readings of everything is."""
    clock: Callable[[], float] = time.monotonic
    stats: CacheStats = field(default_factory=CacheStats)
    loaded: trio.Event = field(default_factory=trio.Event)
    _entries: Mapping[TenantId, Entry] = field(default_factory=lambda: MappingProxyType({}))
    _by_token: Mapping[bytes, TenantId] = field(default_factory=lambda: MappingProxyType({}))
    _by_caller: Mapping[tuple[Kind, bytes], tuple[TenantId, IntegrationKey]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    _by_hook: Mapping[tuple[Kind, bytes], tuple[TenantId, IntegrationKey]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    _by_account: Mapping[tuple[Kind, bytes], tuple[TenantId, IntegrationKey]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    _loading: dict[TenantId | None, _Load] = field(default_factory=dict)
    _wanted: set[TenantId] = field(default_factory=set)
    _want: trio.Event = field(default_factory=trio.Event)
    _changed: trio.Event = field(default_factory=trio.Event)
    _unknown: TTLCache[TenantId, float] = field(default_factory=lambda: TTLCache(maxsize=10_000, ttl=UNKNOWN_TTL_S))
    """Numbers that were not found lately, and when the search for them began."""
    _polled_at: datetime | None = None
    _full_wanted: bool = False

    # Reading: from memory, never waiting.

    def tenant(self, number: TenantId) -> Tenant | None:
        """The tenant's snapshot, or None when there is no such tenant as far as is known."""
        entry = self._entries.get(number)
        if entry is None:
            self.stats.misses += 1
            if number not in self._unknown:
                self._ask_for(number)
            return None
        self.stats.hits += 1
        if self.clock() - entry.read_at > self.ttl_s:
            self._ask_for(number)
        return entry.tenant

    def tenants(self) -> Mapping[TenantId, Tenant]:
        """Every tenant's snapshot, as one consistent copy."""
        return {number: entry.tenant for number, entry in self._entries.items()}

    def sealer(self, number: TenantId) -> Sealer | None:
        """What seals and opens the tenant's own, or None when there is no such tenant as far as is known."""
        entry = self._entries.get(number)
        return entry.sealer if entry is not None else None

    def by_token(self, token_hash: bytes) -> Tenant | None:
        """The tenant whose Asterisk hosts send the token with this SHA-256."""
        number = self._by_token.get(token_hash)
        return self.tenant(number) if number is not None else None

    def by_caller(self, kind: Kind, secret_hash: bytes) -> tuple[Tenant, IntegrationKey] | None:
        """The tenant, and which of its integrations of this kind, whose outside system sends the id with this SHA-256."""
        found = self._by_caller.get((kind, secret_hash))
        tenant = self.tenant(found[0]) if found is not None else None
        return (tenant, found[1]) if found is not None and tenant is not None else None

    def by_hook(self, kind: Kind, hook_hash: bytes) -> tuple[Tenant, IntegrationKey] | None:
        """The tenant, and which of its integrations of this kind, whose hook address ends in the id with this SHA-256."""
        found = self._by_hook.get((kind, hook_hash))
        tenant = self.tenant(found[0]) if found is not None else None
        return (tenant, found[1]) if found is not None and tenant is not None else None

    def by_account(self, kind: Kind, digest: bytes) -> tuple[Tenant, IntegrationKey] | None:
        """The tenant, and which of its integrations of this kind, that has the remote account with this digest."""
        found = self._by_account.get((kind, digest))
        tenant = self.tenant(found[0]) if found is not None else None
        return (tenant, found[1]) if found is not None and tenant is not None else None

    def enablement(self, number: TenantId) -> dict[str, Any] | None:
        """The tenant's row of the enablement matrix as `GET /integrations/{number}` answers it."""
        tenant = self.tenant(number)
        if tenant is None:
            return None
        entry = self._entries[number]
        return {
            "enterprise_number": number,
            "integrations": {
                key: key in tenant.integrations and tenant.integrations[key].enabled
                for key in sorted({*map(IntegrationKey, self.kinds), *tenant.integrations})
            },
            "cached_at": utc_text(entry.cached_at),
            "age_seconds": round(self.clock() - entry.read_at, 3),
        }

    def __len__(self) -> int:
        return len(self._entries)

    # Refreshing.

    async def find(self, number: TenantId) -> Tenant | None:
        """As `tenant`, but a number never seen is looked up once before it is called unknown; many callers, one load."""
        if (found := self.tenant(number)) is not None or number in self._unknown:
            return found
        await self.load(number)
        entry = self._entries.get(number)
        return entry.tenant if entry is not None else None

    async def invalidate(self, number: TenantId) -> bool:
        """Forgets what is known of a tenant and reads it anew. False when there is none. Raises Unavailable."""
        self.stats.invalidated()
        await self.load(number, anew=True)
        return number in self._entries

    async def load(self, number: TenantId | None = None, *, anew: bool = False) -> None:
        """Reads one tenant, or all, and swaps the copy. A load under way is waited for, not repeated; `anew`, only one
        that begins from now on counts.

        Raises Unavailable when the database is away; the copy stays.
        """
        under_way = self._loading.get(number)
        if under_way is not None and anew:
            await under_way.done.wait()
            under_way = self._loading.get(number)
        if under_way is not None:
            await under_way.done.wait()
            if not under_way.succeeded:
                raise Unavailable("the configuration could not be read")
            return
        this = self._loading[number] = _Load()
        started, began = time.perf_counter(), self.clock()
        try:
            rows = await self.db.engine(store.select_tenants, None if number is None else [number])
            await self.master.prepare([(row.tenant, row.data_key) for row in rows])
            if self.master.problem and not self.loaded.is_set():
                raise Unavailable(self.master.problem)  # nothing is open yet, so there is nothing to go on with
            self._swap(rows, number, began)
            this.succeeded = True
            self.stats.loads += 1
            self.stats.last_load_s = time.perf_counter() - started
            HISTOGRAMS["configuration_load"].observe(self.stats.last_load_s)
        finally:
            del self._loading[number]
            this.done.set()

    def _swap(self, rows: Iterable[store.TenantRow], only: TenantId | None, began: float) -> None:
        """Takes in what a load has read. What another load, begun later, has already taken in is left as it is."""
        wall = datetime.now(UTC)
        entries = {n: e for n, e in self._entries.items() if e.read_at > began or (only is not None and n != only)}
        for row in rows:
            if row.tenant in entries or self._unknown.get(row.tenant, began) > began:
                continue
            self._unknown.pop(row.tenant, None)
            try:
                sealer = self.master.sealer(row.tenant, row.data_key)
                claimed = frozenset(link.name for link in row.integrations if link.client_id_hash)
                entries[row.tenant] = Entry(_assemble(row, sealer), began, wall, sealer, claimed)
            except (Unsealable, ValueError, KeyError) as error:
                # One tenant's row that makes no sense must not prevent reading the others'.
                reason = error.detail if isinstance(error, Unsealable) else type(error).__name__
                log.error("a tenant's configuration cannot be read", extra={"tenant": row.tenant, "reason": reason})
                if row.tenant in self._entries:
                    entries[row.tenant] = self._entries[row.tenant]
        if only is not None and only not in entries:
            self._unknown[only] = began
        before = self._entries
        self._entries = MappingProxyType(entries)
        self._by_token = MappingProxyType(
            {entry.tenant.token_hash: number for number, entry in entries.items() if entry.tenant.token_hash}
        )
        self._by_caller = _by_secret(entries, self.caller_fields)
        self._by_hook = _by_secret(entries, self.hook_fields)
        self._by_account = MappingProxyType(
            {
                (link.kind, account_digest(link.kind, account)): (number, key)
                for number, entry in entries.items()
                for key, link in entry.tenant.integrations.items()
                if (name := self.account_fields.get(link.kind)) and (account := account_text(link.settings.get(name)))
            }
        )
        if only is None:
            self.stats.last_full_refresh = wall
            self.loaded.set()
        changed = {n for n in entries.keys() | before.keys() if _version(entries.get(n)) != _version(before.get(n))}
        for number in changed:
            log.info("configuration", extra={"tenant": number, "version": _version(entries.get(number))})
        if changed or only is None:
            self._changed.set()

    async def claim_client_ids(self) -> None:
        """Claims the client ids that were stored before two integrations were forbidden to share one. Of those that
        do share one, the first by the tenant's number has it; the others are named in the log and found by nobody."""
        filled = False
        for number, entry in sorted(self._entries.items()):
            for key, link in entry.tenant.integrations.items():
                secret = link.settings.get(self.caller_fields.get(link.kind, ""))
                if key in entry.claimed or not isinstance(secret, Secret):
                    continue
                digest = hashlib.sha256(secret.reveal().encode("utf-8", "surrogatepass")).hexdigest()
                try:
                    await self.db.engine(store.fill_client_id, number, key, digest)
                    filled = True
                except Conflict:
                    log.error("two integrations have one client id", extra={"tenant": number, "integration": key})
        if filled:
            await self.load(anew=True)

    async def changed(self) -> None:
        """Waits until a snapshot has changed since the last call."""
        await self._changed.wait()
        self._changed = trio.Event()

    def notified(self, number: TenantId | None) -> None:
        """A hint from the database: this tenant changed, or (None) anything may have."""
        if number is None:
            self._full_wanted = True
        else:
            self.stats.invalidated()
            self._wanted.add(number)
        self._want.set()

    def _ask_for(self, number: TenantId) -> None:
        if len(self._wanted) < 10_000:
            self._wanted.add(number)
            self._want.set()

    async def run(self) -> None:
        """Keeps the copy fresh until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._serve_wanted)
            nursery.start_soon(self._poll_versions)
            nursery.start_soon(self._refresh_fully)

    async def _serve_wanted(self) -> None:
        while True:
            await self._want.wait()
            self._want = trio.Event()
            full, self._full_wanted = self._full_wanted, False
            wanted, self._wanted = self._wanted, set()
            try:
                if full or len(wanted) > 50:
                    await self.load(anew=True)
                else:
                    for number in wanted:
                        await self.load(number, anew=True)
            except Unavailable:
                self._full_wanted |= full
                self._wanted |= wanted
                await trio.sleep(POLL_S)
                self._want.set()

    async def _poll_versions(self) -> None:
        while True:
            await trio.sleep(POLL_S)
            try:
                since = self._polled_at - OVERLAP if self._polled_at is not None else None
                versions, self._polled_at = await self.db.engine(store.select_changed_since, since)
            except Unavailable:
                continue
            for number, version in versions.items():
                known = _version(self._entries.get(number))
                # Versions are drawn before they are committed, so a later change may bear the smaller one.
                if known != version and (known is not None or number not in self._unknown):
                    self._ask_for(number)

    async def _refresh_fully(self) -> None:
        while True:
            await trio.sleep(random.uniform(*self.refresh_s))
            try:
                await self.load()
            except Unavailable:
                log.warning("configuration could not be refreshed; the copy stays")


def _version(entry: Entry | None) -> int | None:
    return entry.tenant.version if entry is not None else None


def _by_secret(
    entries: Mapping[TenantId, Entry], fields: Mapping[Kind, str]
) -> Mapping[tuple[Kind, bytes], tuple[TenantId, IntegrationKey]]:
    """Integrations by their kind and the SHA-256 of a secret setting that outside systems send."""
    return MappingProxyType(
        {
            (link.kind, hashlib.sha256(secret.reveal().encode()).digest()): (number, key)
            # Client ids of before that are not claimed yet come first: where two have one, it is the claimed one's.
            for claimed in (False, True)
            for number, entry in entries.items()
            for key, link in entry.tenant.integrations.items()
            if (key in entry.claimed) is claimed
            and isinstance(secret := link.settings.get(fields.get(link.kind, "")), Secret)
        }
    )
