"""The composition root: opens everything, in order, in one nursery, and closes it in the reverse order.

    sockets -> folder -> PostgreSQL -> schema -> configuration -> actors -> ready
    on SIGTERM: listeners -> PBX sessions -> mailboxes -> deliveries until the grace period ends -> the rest

The sockets listen from the first moment. They are served as soon as the configuration is read, so that a restart answers no
post with 503, or as soon as the database turns out to be away: then `/health` answers 200, `/ready` and posts 503, for that
is a state and not a crash. What the listeners serve is in `gateway.addresses`, what the process reports of itself in
`gateway.figures`; read `actors.reconciler` for what then runs. A little long, for the order stands in one place.
"""

import gc
import json
import logging
import resource
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any

import trio

from actors.calls.click_to_call import ClickToCall
from actors.calls.direct_posts import DirectPosts
from actors.calls.posts import Posts
from actors.calls.recordings import FetchActor, retain
from actors.calls.smart_redirect import SmartRedirect
from actors.certificate_watch import CertificateWatch, has_certificate
from actors.chats.conversing import Conversing
from actors.chats.file_fetching import FileFetchActor
from actors.chats.inbox import Inbox
from actors.chats.naming import naming_jobs
from actors.chats.signals import KIND as LOOKED
from actors.chats.signals import Signals
from actors.chats.templates import template_jobs
from actors.chats.typing import KIND as TYPING
from actors.chats.typing import Typing
from actors.crm.plans import CrmPlans
from actors.crm.registration import Registrations
from actors.crm.registration_jobs import registration_jobs
from actors.cross_instance import CrossInstance
from actors.database_watch import DatabaseWatch
from actors.deals.comparing import deal_jobs
from actors.deals.desk import DealDesk
from actors.deletion import Deletions, Place
from actors.delivery.clients import Clients
from actors.delivery.handover import Handover
from actors.feed import Feed
from actors.housekeeping import DeadLetters, LoopWatch, expire, prune, wake_due
from actors.jobs import Jobs
from actors.notices import Mails, Notices
from actors.reconciler import Reconciler
from actors.runtime.directory import Directory, Slot
from actors.runtime.group_commit import GroupCommit
from actors.runtime.ownership import Ownership
from actors.runtime.peers import CHANNEL as PEERS_CHANNEL
from actors.runtime.peers import Peers
from actors.runtime.supervisor import Run, open_supervisor
from actors.services import Services
from adapters.apps import AppCredentials
from adapters.base import marked_fields
from adapters.http import SafeDialer
from adapters.llm.client import ModelSettings
from adapters.registry import adapters, integrations
from adapters.spills import Spills
from gateway.addresses import Served
from gateway.apps_file import read_apps_file
from gateway.cache import ConfigurationCache
from gateway.database import Addresses, database_server
from gateway.domain.errors import Unavailable
from gateway.domain.health import State
from gateway.domain.ids import IntegrationKey, TenantId
from gateway.figures import Figures
from gateway.first_steps import log_first_steps
from gateway.listening import Listening, listening_sockets
from gateway.notify_file import read_notify_file
from gateway.readiness import Notifier
from gateway.registry_table import fill_registry
from gateway.resources import open_blobs, open_master_keys, safe_dialer
from gateway.settings import Settings, shared_environment
from gateway.smtp import Smtp
from gateway.store import journal
from gateway.store.embedded.data_dir_lock import own_folder
from gateway.store.files.blobs import BlobStore
from gateway.store.files.chat_files import ChatFiles
from gateway.store.files.recording_files import RecordingFiles
from gateway.store.files.spool import Spool
from gateway.store.postgres.listen import Listener
from gateway.store.postgres.pool import Database, open_database
from gateway.store.tenant_deletions import select_existing
from gateway.vitals import Vitals
from gateway.web.callers.api_keys import ApiKeys
from gateway.web.http.guesses import Guesses
from gateway.web.http.hypercorn_server import serve_people
from gateway.web.http.intake import Limits, serve_intake
from gateway.web.session.link_letters import LinkLetters
from gateway.web.session.sign_in_audit import SignInAudit

log = logging.getLogger(__name__)

CHANNEL = "gateway_configuration"
GC_THRESHOLD = (50_000, 50, 1000)
"""Actors are many objects that live long: at the default pace the collector looks through them for half of the start,
and holds the loop (measured: 2,500 tenants start in 3 to 4 s instead of 6 to 10). What stands at the start is frozen."""
OPEN_FILES = 16_384
HOLD_S = 5.0
"""How long connections wait at the start for the configuration, unless the database is known to be away."""
HEIRS_WITHIN_S = 3.0
"""How long a stop waits for other instances to connect to what they take over."""


class Gateway:
    """One running installation: what lives as long as the process, put together."""

    def __init__(
        self, settings: Settings, db: Database, cache: ConfigurationCache, dial: SafeDialer, blobs: BlobStore,
        apps: Mapping[str, AppCredentials] = MappingProxyType({}),
    ) -> None:  # fmt: skip
        self.settings = settings
        self.cache = cache
        self.tenants: Reconciler | None = None
        self.stopping = False
        directory, clients = Directory(), Clients()
        self.vitals = Vitals(directory)
        self.ownership = Ownership(db, master_keys=cache.master.look)
        self.peers = Peers(db, self.ownership.me, lambda: self.ownership.instances - 1)
        self.sign_ins = SignInAudit(db)
        self.api_keys = ApiKeys(db)
        self.guesses = Guesses(settings.trusted_proxies)
        self.dead_letters = DeadLetters(db)
        direct_posts = DirectPosts()
        self.posts = Posts(
            lambda rows: db.engine(journal.insert_posts, rows),
            Spool(settings.data_dir / "spool", settings.spool_mib << 20),
            arrived=self._ring,
            set_aside=self.dead_letters.put,
            direct=direct_posts,
            existing=lambda numbers: db.engine(select_existing, numbers),
        )
        inbox = Inbox(self.posts.put, self._ring)
        feed = Feed(partial(self.peers.mark, "changed"))
        self.signals = Signals(db, cache, clients, partial(self.peers.mark, LOOKED))
        self.typing = Typing(feed, partial(self.peers.mark, TYPING), self.signals.wrote)
        self.peers.receive[TYPING] = self.typing.received
        self.peers.receive[LOOKED] = self.signals.received
        crm = CrmPlans(public_url=settings.base_url, wake=self._deliver)
        conversing = Conversing(
            db=db, feed=feed, wake=self._deliver, typing=self.typing, looked=self.signals.looked, crm=crm
        )
        llm = ModelSettings(url=settings.llm_url, key=settings.llm_api_key, model=settings.llm_model)
        outgoing = Handover(db)
        self.recording_files = RecordingFiles(db, blobs, settings.data_dir / "incoming", cache.sealer)
        self.chat_files = ChatFiles(db, blobs, settings.data_dir / "incoming", cache.sealer)
        self.services = Services(
            inbox=inbox,
            conversing=conversing,
            llm=llm if llm.url else None,
            direct_posts=direct_posts,
            db=db,
            cache=cache,
            directory=directory,
            feed=feed,
            records=GroupCommit("outbox", outgoing.record),
            pending_posts=GroupCommit(
                "journal", lambda wanted: db.engine(journal.select_pending_posts, wanted), metric="journal_read"
            ),
            outgoing=outgoing,
            dial=dial,
            spills=Spills(settings.data_dir / "spool", settings.spool_mib << 20, threads=trio.CapacityLimiter(2)),
            provider_urls=settings.provider_urls,
            apps=apps,
            clients=clients,
            smart_redirect=SmartRedirect(clients),
            dialling=ClickToCall(db, directory, clients, self.ownership.epoch_of, partial(self.peers.hint, "order")),
            ownership=self.ownership,
            recording_files=self.recording_files,
            chat_files=self.chat_files,
            public_url=settings.base_url,
        )
        self.together = CrossInstance(self.ownership, self.peers, self.services, ring=self._ring_here)
        self.modules = Registrations(
            db, cache, clients, dial, settings.provider_urls, settings.base_url.rstrip("/"), self.services.budgets,
            apps, self.services.tokens,
        )  # fmt: skip
        place = Place(dial, settings.provider_urls, settings.base_url.rstrip("/"), cache.master)
        self.deletions = Deletions(db, place, blobs, lambda: self.ownership.me)
        letters = LinkLetters(db, cache, settings.base_url)
        self.mails = Mails(db, Smtp(settings.smtp_url), letters.write) if settings.smtp_url is not None else None
        operators, through = read_notify_file(settings.notify_file)
        self.notices = Notices(
            self.services, adapters(), self.together.slots, mail=self.mails is not None, operators=operators, through=through
        )  # fmt: skip
        self.certificate = CertificateWatch(settings.base_url) if has_certificate(settings.base_url) else None
        deal_desk = DealDesk(services=self.services)
        more = (
            registration_jobs(self.modules), template_jobs(db), naming_jobs(db, self.services.feed), deal_jobs(deal_desk),
        )  # fmt: skip
        self.jobs = Jobs(self.services, adapters(), lambda adapter: [job for jobs in more for job in jobs(adapter)])
        self.listener = Listener(db, [CHANNEL, PEERS_CHANNEL], heartbeat_s=1.0, dead_after_s=3.0)
        self.database = DatabaseWatch(
            db,
            cache,
            self.ownership,
            self._ring_here,
            lambda away: self.vitals.database_tried(away=away),
            partial(fill_registry, db),
        )
        self.figures = Figures(
            services=self.services,
            posts=self.posts,
            listener=self.listener,
            database=self.database,
            tenants_settled=lambda: self.tenants is not None and self.tenants.settled.is_set(),
            stopping=lambda: self.stopping,
        )
        self.served = Served(
            settings=settings,
            services=self.services,
            posts=self.posts,
            figures=self.figures,
            modules=self.modules,
            together=self.together,
            inbox=inbox,
            typing=self.typing,
            conversing=conversing,
            recording_files=self.recording_files,
            guesses=self.guesses,
            sign_ins=self.sign_ins,
            api_keys=self.api_keys,
            deal_desk=deal_desk,
        )

    def _ring(self, number: TenantId) -> None:
        self.together.ring(number)

    def _deliver(self, number: TenantId, key: IntegrationKey) -> None:
        self.together.deliver(number, key)

    def _ring_here(self, number: TenantId) -> None:
        if self.tenants is not None:
            self.tenants.ring(number)

    # Actors, in the order in which they start.

    def first_actors(self, database: Addresses) -> dict[str, Run]:
        """Those that need no configuration: they take posts, and bring the database up."""
        services = self.services
        return {
            "journal": self.posts.run,
            "outbox": _ignoring_slot(services.records.run),
            "reads": _ignoring_slot(services.pending_posts.run),
            "acks": _ignoring_slot(services.outgoing.acks.run),
            "letters": self.dead_letters.run,
            "database": partial(self._database, database),
        }

    def actors(self, owner_dsn: str, tenants: Reconciler) -> dict[str, Run]:
        """Those that follow once the configuration is read."""
        services = self.services
        return {
            "configuration": _ignoring_slot(self.cache.run),
            "notifications": _ignoring_slot(partial(self.listener.serve_notifications, self.notified, self.reset)),
            "ownership": self.ownership.run,
            "peers": self.peers.run,
            "dialling": services.dialling.run,  # looks into a table that the migrations make
            "tenants": tenants.run,
            "due": partial(wake_due, services),
            "expiry": partial(expire, services),
            "pruning": partial(prune, services, owner_dsn),
            "sign-ins": self.sign_ins.run,
            "api-keys": self.api_keys.run,
            "jobs": self.jobs.run,
            "deletions": self.deletions.run,
            "notices": self.notices.run,
            **({"certificate": self.certificate.run} if self.certificate is not None else {}),
            **({"mails": self.mails.run} if self.mails is not None else {}),
            "recordings": FetchActor(services, self.recording_files).run,
            "chat-signals": self.signals.run,
            "chat-files": FileFetchActor(services, self.chat_files).run,
            "retention": partial(retain, services, self.recording_files),
        }

    async def _database(self, database: Addresses, slot: Slot) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.database.run, database.migrate, slot)
            await self.database.usable.wait()
            self.posts.usable.set()

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


async def _open_spool(spool: Spool) -> None:
    try:
        await spool.open()
    except Unavailable as error:
        # Posts are taken without it while PostgreSQL answers; what may lie there waits for the next start.
        log.error("the spool cannot be used", extra={"reason": error.detail})


async def run(settings: Settings) -> int:
    """`gateway run`: serves until SIGTERM or SIGINT. Returns the exit code. Raises SettingsError."""
    apps = read_apps_file(settings.apps_file)
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
        master = await open_master_keys(settings, may_create=settings.embedded)
        db = await stack.enter_async_context(
            open_database(addresses.pool, size=settings.database_size, engine_size=settings.database_size)
        )
        callers = {kind: adapter.client_id_field for kind, adapter in integrations().items() if adapter.client_id_field}
        hooks = {kind: adapter.hook_id_field for kind, adapter in integrations().items() if adapter.hook_id_field}
        accounts = {
            kind: name
            for kind, adapter in integrations().items()
            for name in marked_fields(adapter.settings, "account")
        }
        cache = ConfigurationCache(
            db,
            master,
            tuple(integrations()),
            caller_fields=callers,
            hook_fields=hooks,
            account_fields=accounts,
            ttl_s=settings.cache_ttl_s,
            refresh_s=settings.cache_refresh_s,
        )
        blobs = await stack.enter_async_context(open_blobs(settings))
        gateway = Gateway(settings, db, cache, await safe_dialer(settings), blobs, apps)
        gateway.recording_files.clean_spool()
        stack.push_async_callback(gateway.posts.spool.aclose)
        await _open_spool(gateway.posts.spool)
        systemd.status, systemd.ailment = gateway.figures.status, gateway.vitals.ailment
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
    settings = gateway.settings
    stop_listening = trio.Event()
    addresses = gateway.served.machines()
    web = gateway.served.site(addresses)
    intake = [trio.SocketListener(trio.socket.from_stdlib_socket(listening.machines))]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_server)
        async with open_supervisor(gateway.services.directory, set_aside=gateway.dead_letters.put) as supervisor:
            tenants = gateway.tenants = Reconciler(gateway.services, supervisor, adapters())
            gateway.ownership.let_go, gateway.ownership.prepare = tenants.let_go, tenants.prepare

            def start(actors: dict[str, Run]) -> None:
                for name, task in actors.items():
                    supervisor.start(Slot(f"system/{name}", name), task)

            start(gateway.first_actors(database))
            # The block ends when both listeners have finished what was in hand; PBX sessions go on until then.
            async with trio.open_nursery() as listeners:
                with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                    async with trio.open_nursery() as starting:
                        starting.start_soon(_first_signal, signals, starting.cancel_scope)
                        with trio.move_on_after(HOLD_S):
                            await gateway.database.known.wait()
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
                        await gateway.cache.loaded.wait()
                        start(gateway.actors(database.owner, tenants))
                        await tenants.settled.wait()
                        gc.freeze()
                        systemd.ready()
                        log.info("ready", extra={"tenants": len(gateway.cache), "url": settings.base_url})
                        await log_first_steps(gateway.services.db, settings, companies=len(gateway.cache))
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


async def _first_signal(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    async for _ in signals:
        scope.cancel()
        return


def _ignoring_slot(task: Callable[[], Awaitable[Any]]) -> Callable[[Slot], Awaitable[None]]:
    async def run_task(slot: Slot) -> None:
        slot.report(State.ONLINE)
        await task()

    return run_task
