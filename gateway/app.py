"""The composition root: opens everything, in order, in one nursery, and closes it in the reverse order.

    sockets -> folder -> PostgreSQL -> schema -> configuration -> actors -> ready
    on SIGTERM: listeners -> PBX sessions -> mailboxes -> deliveries until the grace period ends -> the rest

The sockets listen from the first moment. They are served as soon as the configuration is read, so that a restart answers no
post with 503, or as soon as the database turns out to be away: then `/health` says 200, `/ready` and posts 503, for that
is a state and not a crash. Over 400 lines because it is the one place where everything meets. Read
`actors.reconciler` for what then runs.
"""

import gc
import json
import logging
import os
import resource
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

import trio

from actors.calls.click_to_call import ClickToCall
from actors.calls.posts import Posts
from actors.calls.recordings import FetchActor, retain
from actors.calls.smart_redirect import SmartRedirect
from actors.chats.inbox import Inbox
from actors.crm.registration import Registrations
from actors.crm.registration_jobs import registration_jobs
from actors.cross_instance import CrossInstance
from actors.delivery.clients import Clients
from actors.delivery.handover import Handover
from actors.feed import Feed
from actors.housekeeping import DeadLetters, LoopWatch, expire, prune, wake_due
from actors.jobs import Jobs
from actors.reconciler import Reconciler
from actors.runtime.directory import Directory, Slot
from actors.runtime.group_commit import GroupCommit
from actors.runtime.ownership import Ownership
from actors.runtime.peers import CHANNEL as PEERS_CHANNEL
from actors.runtime.peers import Peers
from actors.runtime.supervisor import open_supervisor
from actors.services import Services
from adapters.base import Tested
from adapters.http import SafeDialer
from adapters.probe import probe
from adapters.registry import adapters, integrations
from adapters.spills import Spills
from gateway.cache import ConfigurationCache
from gateway.database import Addresses, database_server
from gateway.domain.api_keys import hash_of, looks_right
from gateway.domain.configuration import Connector, Tenant
from gateway.domain.errors import NeedsAttention, Retryable, Unavailable
from gateway.domain.health import State
from gateway.domain.ids import IntegrationKey, Kind, TenantId
from gateway.domain.posts import Post
from gateway.domain.shards import SHARDS
from gateway.first_steps import log_first_steps
from gateway.listening import Listening, listening_sockets
from gateway.readiness import Notifier
from gateway.settings import Settings, shared_environment
from gateway.store import journal, outbox
from gateway.store.api_keys import ApiKey, use_api_key
from gateway.store.embedded.data_dir_lock import own_folder
from gateway.store.files.blobs import BlobStore, FolderBlobs
from gateway.store.files.recording_files import RecordingFiles
from gateway.store.files.s3 import S3Blobs
from gateway.store.files.spool import Spool
from gateway.store.postgres.errors import StoreError
from gateway.store.postgres.listen import Listener
from gateway.store.postgres.pool import Database, open_database
from gateway.store.postgres.roles import select_login
from gateway.store.secrets.seal import load_master_keys
from gateway.telemetry import COUNTERS, prometheus
from gateway.vitals import Vitals
from gateway.web.api.crm_callbacks import CallbackDeps, callback_addresses, token_hash
from gateway.web.api.extensions import ModuleCallers, module_addresses
from gateway.web.api.hooks import HookDeps, hook_addresses
from gateway.web.api.machine import MachineDeps, machine_addresses, tenant_of
from gateway.web.api.uploads import upload_addresses
from gateway.web.api.user_status import set_activity, set_status
from gateway.web.app import Deps, create_app
from gateway.web.http.guesses import Guesses
from gateway.web.http.hypercorn_server import mount, serve_people
from gateway.web.http.intake import Limits, serve_intake
from gateway.web.session.sign_in_audit import SignInAudit

log = logging.getLogger(__name__)

T = TypeVar("T")

CHANNEL = "gateway_configuration"
GC_THRESHOLD = (50_000, 50, 1000)
"""Actors are many objects that live long: at the default pace the collector looks through them for half of the start,
and holds the loop (measured: 2,500 tenants start in 3 to 4 s instead of 6 to 10). What stands at the start is frozen."""
OPEN_FILES = 16_384
HOLD_S = 5.0
"""How long connections wait at the start for the configuration, unless the database is known to be away."""
HEIRS_WITHIN_S = 3.0
"""How long a stop waits for other instances to connect to what they take over."""
_FINISHED = ("done", "retry", "expired", "failed", "doubtful")
"""Outcomes of attempts that `/stats` counts, since this process started."""


class Gateway:
    """One running installation: what the listeners ask, and the order of starting and stopping."""

    def __init__(
        self, settings: Settings, db: Database, cache: ConfigurationCache, dial: SafeDialer, blobs: BlobStore
    ) -> None:
        self.settings = settings
        self.db = db
        self.cache = cache
        self.directory = Directory()
        self.ownership = Ownership(db, master_keys=cache.master.look)
        self.peers = Peers(db, self.ownership.me, lambda: self.ownership.instances - 1)
        self.feed = Feed(partial(self.peers.mark, "changed"))
        self.sign_ins = SignInAudit(db)
        self.guesses = Guesses(settings.trusted_proxies)
        self.started = time.monotonic()
        self.dead_letters = DeadLetters(db)
        self.posts = Posts(
            lambda rows: db.engine(journal.insert_posts, rows),
            Spool(settings.data_dir / "spool", settings.spool_mib << 20),
            arrived=self._ring,
            set_aside=self.dead_letters.put,
        )
        self.outgoing = Handover(db)
        self.records: GroupCommit[outbox.CallBatch, frozenset[IntegrationKey] | None] = GroupCommit(
            "outbox", self.outgoing.record
        )
        clients = Clients()
        self.recording_files = RecordingFiles(db, blobs, settings.data_dir / "incoming", cache.sealer)
        self.inbox = Inbox(self.posts.put, self._ring)
        self.services = Services(
            inbox=self.inbox,
            db=db,
            cache=cache,
            directory=self.directory,
            feed=self.feed,
            records=self.records,
            outgoing=self.outgoing,
            dial=dial,
            spills=Spills(settings.data_dir / "spool", settings.spool_mib << 20, threads=trio.CapacityLimiter(2)),
            provider_urls=settings.provider_urls,
            clients=clients,
            smart_redirect=SmartRedirect(clients),
            dialling=ClickToCall(
                db, self.directory, clients, self.ownership.epoch_of, partial(self.peers.hint, "order")
            ),
            ownership=self.ownership,
            recording_files=self.recording_files,
            public_url=settings.base_url,
        )
        self.together = CrossInstance(self.ownership, self.peers, self.services, ring=self._ring_here)
        self.modules = Registrations(
            db, cache, clients, dial, settings.provider_urls, settings.base_url.rstrip("/"), self.services.budgets
        )
        self.jobs = Jobs(self.services, adapters(), registration_jobs(self.modules))
        self.listener = Listener(db, [CHANNEL, PEERS_CHANNEL], heartbeat_s=1.0, dead_after_s=3.0)
        self.tenants: Reconciler | None = None
        self.database_problem = "the database has not answered yet"
        self.database_known = trio.Event()
        """Set once it has answered, or was found to be away."""
        self.vitals = Vitals(self.directory)
        self.pending: dict[str, int] = {"pending": 0, "oldest_pending_s": 0}
        self.stopping = False

    # What the machine addresses ask.

    def tenant_by_token(self, token_hash: bytes) -> Tenant | None:
        """Whose token this is. Raises Unavailable before the configuration was read: then nobody can be told no."""
        if not self.cache.loaded.is_set():
            raise Unavailable("the configuration has not been read yet", after_s=2.0)
        return self.cache.by_token(token_hash)

    async def journal_post(self, tenant: Tenant, post: Post) -> Literal["accepted", "duplicate"]:
        """Makes a posted event durable. "accepted", or "duplicate" for a repeat. Raises Unavailable."""
        row = journal.PostRow(tenant.number, post.address, post.unique_id, post.digest, post.body, post.received_at)
        new = await self.posts.put(row)
        self._ring(tenant.number)  # for a repeat too: nobody may have looked since the first was kept
        return "accepted" if new else "duplicate"

    def _ring(self, number: TenantId) -> None:
        if self.tenants is not None:
            self.tenants.ring(number)
            if self.ownership.epoch_of(number) is None:
                self.peers.mark("posts", number)

    def _ring_here(self, number: TenantId) -> None:
        if self.tenants is not None:
            self.tenants.ring(number)

    def ready(self) -> list[str]:
        """Why posts are not taken; empty when they are. A database that goes away later is the spool's business."""
        reasons = []
        if self.tenants is None:
            reasons.append(self.database_problem or "tenants are being started")
        elif not self.tenants.settled.is_set():
            reasons.append("tenants are being started")
        if self.posts.refusing:
            reasons += [self.database_problem] if self.database_problem else []
            reasons.append(self.posts.refusing)
        if self.stopping:
            reasons.append("stopping")
        return list(dict.fromkeys(reasons))

    def degraded(self) -> list[str]:
        """What does not work, or later than it should, while posts are taken."""
        reasons = [self.database_problem] if self.database_problem else []
        if waiting := self.posts.spool.records:
            reasons.append(f"spool: {waiting} events wait")
        return reasons

    def status(self) -> str:
        """One line for `systemctl status`."""
        if self.tenants is None or not self.tenants.settled.is_set():
            return f"waiting: {self.database_problem or 'tenants are being started'}"
        lines = [slot for slot in self.directory.below() if "/pbx/" in slot.path]
        online = sum(slot.health.state is State.ONLINE for slot in lines)
        said = f"serving {len(self.cache)} tenants; PBXes online: {online} of {len(lines)}"
        return f"{said}; {self.database_problem}" if self.database_problem else said

    def stats(self) -> dict[str, Any]:
        """The JSON of `/stats`."""
        cached = self.cache.stats
        looked = cached.hits + cached.misses
        states: dict[str, int] = {}
        for slot in self.directory.below():
            states[slot.health.state] = states.get(slot.health.state, 0) + 1
        refreshed = cached.last_full_refresh
        return {
            "uptime_seconds": round(time.monotonic() - self.started, 3),
            "database_queries": self.db.queries,
            "database_connections": self.db.connections,
            "cache_stats": {
                "total_entries": len(self.cache),
                "hits": cached.hits,
                "misses": cached.misses,
                "hit_ratio": round(cached.hits / looked, 4) if looked else None,
                "last_full_refresh": refreshed.isoformat() if refreshed else None,
                "invalidations": cached.invalidations,
                "loads": cached.loads,
                "last_load_seconds": round(cached.last_load_s, 4),
                "listen_connected": self.listener.connected,
                "listen_connects": self.listener.connects,
            },
            "spool": {
                "records": self.posts.spool.records,
                "bytes": self.posts.spool.size,
                "limit_bytes": self.posts.spool.limit,
                "oldest_seconds": round(self.posts.spool.oldest_s, 1),
            },
            "deliveries": self.pending | {state: COUNTERS[f"deliveries_{state}"] for state in _FINISHED},
            "actors": {"total": len(self.directory), **states},
            "ownership": {
                "instance": self.ownership.me,
                "instances": self.ownership.instances,
                "shards": len(self.ownership.held),
                "shards_in_all": SHARDS,
                "trusted": self.ownership.trusted,
            },
            "counters": dict(sorted(COUNTERS.items())),
        }

    def metrics(self) -> str:
        """The text of `/metrics`. Labels name states alone: no tenant, no secret."""
        stats = self.stats()
        gauges: dict[str, float] = {
            "uptime_seconds": stats["uptime_seconds"],
            "database_queries": self.db.queries,
            "cache_entries": len(self.cache),
            "cache_hits": self.cache.stats.hits,
            "cache_misses": self.cache.stats.misses,
            "cache_invalidations": self.cache.stats.invalidations,
            "cache_last_load_seconds": self.cache.stats.last_load_s,
            "cache_last_full_refresh_timestamp": (
                self.cache.stats.last_full_refresh.timestamp() if self.cache.stats.last_full_refresh else 0
            ),
            "listen_connected": float(self.listener.connected),
            "ready": float(not self.ready()),
        }
        gauges["spool_records"] = self.posts.spool.records
        gauges["spool_bytes"] = self.posts.spool.size
        gauges["spool_limit_bytes"] = self.posts.spool.limit
        gauges["spool_oldest_seconds"] = self.posts.spool.oldest_s
        gauges["pbx_spill_bytes"] = self.services.spills.used
        figures = [
            slot.figures() for slot in self.directory.below() if "/pbx/" in slot.path and slot.figures is not None
        ]
        for name, gauge in (
            ("lag_s", "pbx_lag_seconds_max"),
            ("behind_s", "pbx_behind_seconds_max"),
            ("read_gap_s", "pbx_read_gap_seconds_max"),
        ):
            gauges[gauge] = max((one.get(name) or 0 for one in figures), default=0)
        gauges["degraded"] = float(bool(self.degraded()))
        gauges["deliveries_pending"] = self.pending["pending"]
        gauges["oldest_pending_seconds"] = self.pending["oldest_pending_s"]
        for name, count in stats["actors"].items():
            if name != "total":
                gauges[f'actors{{state="{name}"}}'] = count
        return prometheus(gauges)

    async def probe(self, number: TenantId, link: Connector, *, language: str = "") -> Tested:
        """Tests a PBX or an integration with these settings, stored or not; what is found is in the reader's language."""
        tenant, adapter = self.cache.tenant(number), adapters().get(link.kind)
        if tenant is None or adapter is None:
            return Tested(ok=False, code="not_configured")
        base_url = self.settings.provider_urls.get(link.kind)
        reader = replace(tenant, language=language) if language else tenant
        return await probe(
            reader, adapter, link.name, link.settings, base_url, self.services.dial, self.services.budgets,
            self.services.tokens(number, link.key),
        )  # fmt: skip

    # Starting and stopping.

    async def bring_up(self, database: Addresses, tenants: Reconciler, slot: Slot) -> None:
        """Until cancelled: schema, configuration, actors, as soon as the database lets us; then keeps watching it."""
        pause = 0.2
        while True:
            try:
                await database.migrate()
                await self.db.ping()
                if problem := (await self.db.engine(select_login)).problem:
                    log.warning("the database's login has more rights than it needs", extra={"reason": problem})
                await self.cache.load()
                await self.cache.claim_client_ids()
                break
            except (Retryable, StoreError, NeedsAttention) as error:
                self.database_problem = f"database: {error.person}"
                self.database_known.set()
                state = State.ATTENTION if isinstance(error, NeedsAttention) else State.OFFLINE
                slot.report(state, "database_away", str(error))
                log.warning("the database is not usable yet", extra={"reason": str(error)})
                await trio.sleep(pause)
                pause = min(pause * 2, 5.0)
        self._database_answered()
        self.tenants = tenants
        self.posts.usable.set()
        slot.report(State.ONLINE)
        for number in await self._tenants_with_posts():
            tenants.ring(number)
        while True:
            try:
                await self.db.ping()
                if self.ownership.instances > 1:  # beneath the doorbell that rings between instances
                    for number in await self._tenants_with_posts():
                        tenants.ring(number)
                self.pending = await self.db.engine(outbox.count_pending)
                self._database_answered()
                slot.report(State.ONLINE)
            except (Retryable, StoreError, NeedsAttention) as error:
                self.database_problem = f"database: {error.person}"
                self.vitals.database_tried(away=True)
                slot.report(State.OFFLINE, "database_away", str(error))
            await trio.sleep(2.0)

    def _database_answered(self) -> None:
        self.database_problem = ""
        self.database_known.set()
        self.vitals.database_tried(away=False)

    async def _tenants_with_posts(self) -> list[TenantId]:
        try:
            return await self.db.engine(journal.select_tenants_with_posts)
        except Unavailable:
            return []  # every tenant's actor looks for itself when it starts

    async def notified(self, channel: str, payload: str) -> None:
        """A hint from the database's triggers, or from another instance."""
        if channel == PEERS_CHANNEL:
            self.peers.received(payload)
            return
        _, _, number = payload.partition('"tenant_id" : "')
        self.cache.notified(TenantId(number.partition('"')[0]) if number else None)

    async def reset(self) -> None:
        """The LISTEN connection is new: anything may have changed."""
        self.cache.notified(None)


@asynccontextmanager
async def open_blobs(settings: Settings) -> AsyncIterator[BlobStore]:
    """Where recordings lie: a bucket where one is set, else a folder."""
    if settings.s3_url and settings.s3_access_key is not None and settings.s3_secret_key is not None:
        keys = settings.s3_access_key, settings.s3_secret_key
        async with S3Blobs(settings.s3_url, settings.s3_bucket, settings.s3_region, *keys) as bucket:
            yield bucket
        return
    yield FolderBlobs(settings.data_dir / "recordings", trio.CapacityLimiter(8))


async def safe_dialer(settings: Settings) -> SafeDialer:
    """The one dialer for addresses that tenants supply: our listeners and our database are out of its bounds."""
    dial = SafeDialer(allowed_private_nets=settings.allowed_private_nets, own={settings.bind, settings.intake_bind})
    if settings.database_url is not None:
        parts = urlsplit(settings.database_url.reveal())
        with suppress(OSError):  # a name that does not resolve now cannot be dialled either
            for found in await trio.socket.getaddrinfo(parts.hostname or "127.0.0.1", parts.port or 5432):
                dial.keep_off(str(found[4][0]), parts.port or 5432)
    return dial


async def _open_spool(spool: Spool) -> None:
    try:
        await spool.open()
    except Unavailable as error:
        # Posts are taken without it while PostgreSQL answers; what may lie there waits for the next start.
        log.error("the spool cannot be used", extra={"reason": error.detail})


async def run(settings: Settings) -> int:
    """`gateway run`: serves until SIGTERM or SIGINT. Returns the exit code."""
    trio.lowlevel.add_instrument(LoopWatch(settings.loop_held_s))
    gc.set_threshold(*GC_THRESHOLD)
    _allow_files()
    systemd = Notifier()
    async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
        stack.callback(nursery.cancel_scope.cancel)
        listening = listening_sockets(settings.bind, settings.intake_bind)
        stack.callback(listening.close)
        # Where systemd's sockets are elsewhere: links, and what tenants may not connect to, follow them.
        settings = replace(settings, bind=listening.bind, intake_bind=listening.intake_bind)
        nursery.start_soon(systemd.run)
        await stack.enter_async_context(own_folder(settings.data_dir, json.dumps(shared_environment(settings))))
        addresses, keep_server = await stack.enter_async_context(database_server(settings, role="run"))
        master = load_master_keys(
            settings.master_key_file, settings.data_dir, may_create=settings.embedded,
            credentials_directory=os.environ.get("CREDENTIALS_DIRECTORY"),
        )  # fmt: skip
        db = await stack.enter_async_context(
            open_database(addresses.pool, size=settings.database_size, engine_size=settings.database_size)
        )
        callers = {kind: adapter.client_id_field for kind, adapter in integrations().items() if adapter.client_id_field}
        hooks = {kind: adapter.hook_id_field for kind, adapter in integrations().items() if adapter.hook_id_field}
        cache = ConfigurationCache(db, master, tuple(integrations()), caller_fields=callers, hook_fields=hooks)
        blobs = await stack.enter_async_context(open_blobs(settings))
        gateway = Gateway(settings, db, cache, await safe_dialer(settings), blobs)
        gateway.recording_files.clean_spool()
        stack.push_async_callback(gateway.posts.spool.aclose)
        await _open_spool(gateway.posts.spool)
        systemd.status, systemd.ailment = gateway.status, gateway.vitals.ailment
        await _serve(gateway, addresses, keep_server, listening, systemd)
    return 0


def _allow_files() -> None:
    """Both listeners' connections need more files than the 1,024 that a shell allows; what is allowed at most is taken."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _serve(
    gateway: Gateway,
    database: Addresses,
    keep_server: Callable[[], Awaitable[Any]],
    listening: Listening,
    systemd: Notifier,
) -> None:
    settings, services, cache = gateway.settings, gateway.services, gateway.cache
    dead_letters = gateway.dead_letters
    stop_listening = trio.Event()
    module_callers = ModuleCallers(
        gateway.modules, secure_cookies=settings.base_url.startswith("https://"), guesses=gateway.guesses
    )
    deps = _machine_deps(gateway)
    others = [
        *callback_addresses(_callback_deps(gateway), adapters()),
        *hook_addresses(_hook_deps(gateway), adapters()),
        *module_addresses(module_callers),
        *upload_addresses(gateway.recording_files, partial(tenant_of, deps), gateway.guesses),
    ]
    addresses = machine_addresses(deps, others)
    web = create_app(_web_deps(gateway, partial(mount, addresses=addresses)))
    intake = [trio.SocketListener(trio.socket.from_stdlib_socket(listening.machines))]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_server)
        async with open_supervisor(gateway.directory, set_aside=dead_letters.put) as supervisor:
            tenants = Reconciler(services, supervisor, adapters())
            gateway.ownership.let_go, gateway.ownership.prepare = tenants.let_go, tenants.prepare

            def system(name: str, task: Callable[[Slot], Awaitable[None]]) -> None:
                supervisor.start(Slot(f"system/{name}", name), task)

            system("journal", gateway.posts.run)
            system("outbox", _ignoring_slot(gateway.records.run))
            system("acks", _ignoring_slot(gateway.outgoing.acks.run))
            system("letters", dead_letters.run)
            system("database", partial(gateway.bring_up, database, tenants))
            # The block ends when both listeners have finished what was in hand; PBX sessions go on until then.
            async with trio.open_nursery() as listeners:
                with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                    async with trio.open_nursery() as starting:
                        starting.start_soon(_first_signal, signals, starting.cancel_scope, gateway)
                        with trio.move_on_after(HOLD_S):
                            await gateway.database_known.wait()
                        await listeners.start(
                            partial(
                                serve_people,
                                web,
                                listening.people,
                                grace_s=settings.grace_s,
                                shutdown=stop_listening,
                                trusted_proxies=settings.trusted_proxies,
                            )
                        )
                        await listeners.start(
                            _serve_until, stop_listening,
                            partial(serve_intake, intake, addresses, Limits(grace_s=settings.grace_s), settings.trusted_proxies),
                        )  # fmt: skip
                        await cache.loaded.wait()
                        system("configuration", _ignoring_slot(cache.run))
                        system(
                            "notifications",
                            _ignoring_slot(
                                partial(gateway.listener.serve_notifications, gateway.notified, gateway.reset)
                            ),
                        )
                        system("ownership", gateway.ownership.run)
                        system("peers", gateway.peers.run)
                        system("dialling", services.dialling.run)  # looks into a table that the migrations make
                        system("tenants", tenants.run)
                        system("due", partial(wake_due, services))
                        system("expiry", partial(expire, services))
                        system("pruning", partial(prune, services, database.owner))
                        system("sign-ins", gateway.sign_ins.run)
                        system("jobs", gateway.jobs.run)
                        system("recordings", FetchActor(services, gateway.recording_files).run)
                        system("retention", partial(retain, services, gateway.recording_files))
                        await tenants.settled.wait()
                        gc.freeze()
                        systemd.ready()
                        log.info("ready", extra={"tenants": len(cache), "url": settings.base_url})
                        await log_first_steps(gateway.db, settings, companies=len(cache))
                        await stop_listening.wait()  # that is, until the signal ends this block
                gateway.stopping = True
                systemd.stopping()
                log.info("stopping")
                stop_listening.set()
            await gateway.ownership.begin_to_leave(HEIRS_WITHIN_S)
            await tenants.stop(settings.grace_s)
            await gateway.ownership.resign()
        nursery.cancel_scope.cancel()
    log.info("stopped")


async def _serve_until(
    stop: trio.Event, serve: Callable[..., Awaitable[Any]], task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED
) -> None:
    """Serves until `stop`; the listener then finishes the requests in hand."""
    async with trio.open_nursery() as nursery:
        task_status.started(await nursery.start(serve))
        await stop.wait()
        nursery.cancel_scope.cancel()


async def _first_signal(signals: AsyncIterator[int], scope: trio.CancelScope, gateway: Gateway) -> None:
    async for _ in signals:
        scope.cancel()
        return


def _ignoring_slot(task: Callable[[], Awaitable[Any]]) -> Callable[[Slot], Awaitable[None]]:
    async def run_task(slot: Slot) -> None:
        slot.report(State.ONLINE)
        await task()

    return run_task


def _machine_deps(gateway: Gateway) -> MachineDeps:
    async def invalidate(number: str) -> bool:
        return await gateway.cache.invalidate(TenantId(number))

    return MachineDeps(
        tenant_by_token=gateway.tenant_by_token,
        journal=gateway.journal_post,
        ready=gateway.ready,
        degraded=gateway.degraded,
        stats=gateway.stats,
        metrics=gateway.metrics,
        enablement=lambda number: gateway.cache.enablement(TenantId(number)),
        invalidate=invalidate,
        operator_token=gateway.settings.operator_token,
        operator_open=gateway.settings.operator_open,
        guesses=gateway.guesses,
    )


def _callback_deps(gateway: Gateway) -> CallbackDeps:
    services = gateway.services

    async def key(text: str) -> ApiKey | None:
        return await gateway.db.engine(use_api_key, hash_of(text)) if looks_right(text) else None

    def known(found: T | None) -> T | None:
        if not gateway.cache.loaded.is_set():
            raise Unavailable("the configuration has not been read yet", after_s=2.0)
        return found

    return CallbackDeps(
        tenant_by_token=lambda text: gateway.tenant_by_token(token_hash(text)),
        tenant_by_client=lambda kind, text: known(gateway.cache.by_caller(kind, token_hash(text))),
        tenant=lambda number: known(gateway.cache.tenant(TenantId(number))),
        key=key,
        place=services.dialling.ask,
        responsible=gateway.together.responsible,
        set_status=partial(set_status, gateway.modules),
        set_activity=partial(set_activity, gateway.modules),
        trusted_proxies=gateway.settings.trusted_proxies,
        guesses=gateway.guesses,
    )


def _hook_deps(gateway: Gateway) -> HookDeps:
    def by_hook(kind: Kind, hashed: bytes) -> tuple[Tenant, IntegrationKey] | None:
        if not gateway.cache.loaded.is_set():
            raise Unavailable("the configuration has not been read yet", after_s=2.0)
        return gateway.cache.by_hook(kind, hashed)

    return HookDeps(by_hook=by_hook, store=gateway.inbox.store, guesses=gateway.guesses)


def _web_deps(gateway: Gateway, mount_machines: Any) -> Deps:
    settings = gateway.settings
    return Deps(
        db=gateway.db,
        cache=gateway.cache,
        directory=gateway.directory,
        feed=gateway.feed,
        public_url=settings.base_url,
        secure_cookies=settings.base_url.startswith("https://"),
        trusted_proxies=settings.trusted_proxies,
        guesses=gateway.guesses,
        sign_ins=gateway.sign_ins,
        hash_limiter=trio.CapacityLimiter(2),
        probe=gateway.probe,
        place=gateway.services.dialling.ask,
        login=gateway.services.open_login,
        tokens=gateway.services.tokens,
        instance=lambda: gateway.ownership.me,
        ask_slots=gateway.together.slots,
        master=gateway.cache.master,
        modules=gateway.modules,
        recording_files=gateway.recording_files,
        ring=gateway.services.bells.ring,
        ring_posts=lambda number: gateway.tenants.ring(number) if gateway.tenants is not None else None,
        mounts=(mount_machines,),
    )
