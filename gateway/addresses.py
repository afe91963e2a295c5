"""What the two listeners serve: addresses for machines, and the site for people, put together from what the process has.

Knows no socket and starts nothing. Read `gateway/web/api/machine.py` for the addresses and `gateway/web/site.py` for the site.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Literal, TypeVar

import trio
from quart_trio import QuartTrio

from actors.ai.tenant_ai import model_of
from actors.calls.posts import Posts
from actors.calls.requested_calls import RequestedCalls
from actors.chats.conversing import Conversing
from actors.chats.inbox import Inbox
from actors.chats.typing import Typing
from actors.connections import WaitingForPerson
from actors.crm.registration import Registrations
from actors.cross_instance import CrossInstance
from actors.deals.desk import DealDesk
from actors.orders.outside import OutsideOrders
from actors.services import Services
from adapters.base import Tested
from adapters.probe import probe
from adapters.registry import adapters
from adapters.unique_settings import account_digest
from gateway.domain.configuration import Connector, Tenant
from gateway.domain.errors import Unavailable
from gateway.domain.ids import IntegrationKey, Kind, TenantId
from gateway.domain.posts import Post
from gateway.figures import Figures
from gateway.settings import Settings
from gateway.store.files.recording_files import RecordingFiles
from gateway.store.integration_jobs import hasten_job
from gateway.store.integration_states import select_known
from gateway.store.journal import PostRow
from gateway.web.api.crm_callbacks import CallbackDeps, callback_addresses, token_hash
from gateway.web.api.deals import DealDeps, RouteBook, deal_addresses
from gateway.web.api.extensions import ModuleCallers, module_addresses
from gateway.web.api.hooks import HookDeps, hook_addresses
from gateway.web.api.machine import MachineDeps, machine_addresses, tenant_of
from gateway.web.api.uploads import upload_addresses
from gateway.web.api.user_status import set_activity, set_status
from gateway.web.app import Deps, create_app
from gateway.web.callers.api_keys import ApiKeys
from gateway.web.callers.callers import Callers
from gateway.web.callers.identity_service import IdentityService
from gateway.web.callers.limits import CallLimits
from gateway.web.callers.softphones import SoftphoneTokens
from gateway.web.callers.tokens import Tokens
from gateway.web.content.bot_config import select_bot_content
from gateway.web.content.bot_configs import BotConfigs
from gateway.web.content.deal_work import DealWork
from gateway.web.content.sandbox import Sandbox
from gateway.web.frames.deps import FrameDeps
from gateway.web.frames.table import frame_addresses
from gateway.web.http.guesses import Guesses
from gateway.web.http.hypercorn_server import mount
from gateway.web.http.routes import Address
from gateway.web.rest.deps import RestDeps
from gateway.web.rest.files import linked_files
from gateway.web.rest.idempotency import Idempotency
from gateway.web.rest.table import api_addresses
from gateway.web.session.sign_in_audit import SignInAudit
from gateway.web.widget.deps import WidgetDeps
from gateway.web.widget.table import widget_addresses

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Served:
    """What both listeners are made of."""

    settings: Settings
    services: Services
    posts: Posts
    figures: Figures
    modules: Registrations
    together: CrossInstance
    recording_files: RecordingFiles
    inbox: Inbox
    typing: Typing
    conversing: Conversing
    guesses: Guesses
    sign_ins: SignInAudit
    api_keys: ApiKeys
    deal_desk: DealDesk

    @cached_property
    def _sandbox(self) -> Sandbox:
        """One for pages and programs, for it counts what is under way."""
        return Sandbox(self.services.llm)

    @property
    def _secure(self) -> bool:
        return self.settings.base_url.startswith("https://")

    # For machines.

    def _known(self, found: T | None) -> T | None:
        """Raises Unavailable before the configuration was read: then no request can be refused for good."""
        if not self.services.cache.loaded.is_set():
            raise Unavailable("the configuration has not been read yet", after_s=2.0)
        return found

    def _by_hook(self, kind: Kind, hashed: bytes) -> tuple[Tenant, IntegrationKey] | None:
        return self._known(self.services.cache.by_hook(kind, hashed))

    def _by_account(self, kind: Kind, account: str) -> tuple[Tenant, IntegrationKey] | None:
        return self._known(self.services.cache.by_account(kind, account_digest(kind, account)))

    def _tenant_by_token(self, digest: bytes) -> Tenant | None:
        return self._known(self.services.cache.by_token(digest))

    async def _journal(self, tenant: Tenant, post: Post) -> Literal["accepted", "duplicate"]:
        row = PostRow(tenant.number, post.address, post.unique_id, post.digest, post.body, post.received_at)
        return "accepted" if await self.posts.put(row, post) else "duplicate"

    async def _invalidate(self, number: str) -> bool:
        return await self.services.cache.invalidate(TenantId(number))

    def _callers(self) -> Callers:
        """Who may call by key, token or session; one for both listeners."""
        settings, cache = self.settings, self.services.cache
        outside = None
        if settings.jwks_url:
            outside = IdentityService(settings.jwks_url, settings.jwt_audience, self.services.dial, time.time)
        return Callers(
            self.services.db, self.api_keys, Tokens(cache.master, time.time), outside,
            known_tenant=lambda number: self._known(cache.tenant(number)),
            limits=CallLimits(settings.api_per_key, settings.api_per_address), guesses=self.guesses,
            secure_cookies=self._secure, softphones=SoftphoneTokens(cache.master, time.time),
        )  # fmt: skip

    def machines(self) -> list[Address]:
        """The table of addresses for machines."""
        cache, settings, callers = self.services.cache, self.settings, self._callers()
        deps = MachineDeps(
            tenant_by_token=self._tenant_by_token,
            journal=self._journal,
            ready=self.figures.ready,
            degraded=self.figures.degraded,
            stats=self.figures.stats,
            metrics=self.figures.metrics,
            enablement=lambda number: cache.enablement(TenantId(number)),
            invalidate=self._invalidate,
            operator_token=settings.operator_token,
            operator_open=settings.operator_open,
            guesses=self.guesses,
            base_url=settings.base_url.rstrip("/"),
        )
        callbacks = CallbackDeps(
            tenant_by_token=lambda text: self._tenant_by_token(token_hash(text)),
            tenant_by_client=lambda kind, text: self._known(cache.by_caller(kind, token_hash(text))),
            tenant=lambda number: self._known(cache.tenant(TenantId(number))),
            authorize=callers.of_credential,
            place=self.services.dialling.ask,
            responsible=self.together.responsible,
            set_status=partial(set_status, self.modules),
            set_activity=partial(set_activity, self.modules),
            trusted_proxies=settings.trusted_proxies,
            guesses=self.guesses,
        )
        hooks = HookDeps(
            by_hook=self._by_hook, by_account=self._by_account, app=self.services.app_of, store=self.inbox.store,
            guesses=self.guesses, call=self._requested.place, orders=self._outside_orders.follow, hasten=self._hasten,
        )  # fmt: skip
        others = [
            *callback_addresses(callbacks, adapters()),
            *hook_addresses(hooks, adapters()),
            *deal_addresses(self._deals(callers)),
            *module_addresses(
                ModuleCallers(self.modules, secure_cookies=self._secure, guesses=self.guesses, probe=self._probe)
            ),
            *upload_addresses(self.recording_files, partial(tenant_of, deps), self.guesses),
            *api_addresses(self._rest(callers)),
            *widget_addresses(self._widgets()),
            *frame_addresses(self._frames(callers)),
        ]
        if (files := self.services.chat_files) is not None:
            others += linked_files(files, cache.tenant)
        return machine_addresses(deps, others)

    def _frames(self, callers: Callers) -> FrameDeps:
        services = self.services
        return FrameDeps(
            db=services.db, feed=services.feed, adapters=adapters(), by_hook=self._by_hook, callers=callers,
            tokens=SoftphoneTokens(services.cache.master, time.time), provider_urls=self.settings.provider_urls,
        )  # fmt: skip

    async def _hasten(self, tenant: Tenant, key: IntegrationKey, names: Sequence[str]) -> None:
        for name in names:
            await self.services.db.engine(hasten_job, tenant.number, key, name)

    def _deals(self, callers: Callers) -> DealDeps:
        services = self.services
        return DealDeps(
            callers=callers, tenant=lambda number: self._known(services.cache.tenant(number)),
            book=RouteBook(self._tenants, adapters()), put=self.posts.put, ring=self.together.ring, answers=services.deal_answers,
            db=services.db, mine=lambda number: services.ownership.epoch_of(number) is not None, guesses=self.guesses,
        )  # fmt: skip

    def _tenants(self) -> Mapping[TenantId, Tenant]:
        self._known(None)
        return self.services.cache.tenants()

    def _widgets(self) -> WidgetDeps:
        services = self.services
        return WidgetDeps(
            db=services.db, feed=services.feed, typing=self.typing, adapters=adapters(), by_account=self._by_account,
            store=self.inbox.store, public_url=self.settings.base_url, per_address=self.settings.api_per_address,
            guesses=self.guesses, chat_files=services.chat_files,
        )  # fmt: skip

    def _bot_configs(self) -> BotConfigs:
        db, cache = self.services.db, self.services.cache
        return BotConfigs(
            tenant=lambda number: self._known(cache.tenant(number)),
            content=lambda number: db.tenant(number, select_bot_content, number),
            broken=WaitingForPerson(
                slots=self.together.slot_at, known=lambda number: db.tenant(number, select_known, number)
            ),
        )

    def _rest(self, callers: Callers) -> RestDeps:
        services = self.services
        return RestDeps(
            db=services.db, callers=callers, master=services.cache.master,
            tenant=lambda number: self._known(services.cache.tenant(number)), refresh=self.modules.refresh,
            idempotency=Idempotency(services.db, services.cache.sealer), slots=self.together.slots, probe=self._probe,
            place=services.dialling.ask, modules=self.modules, feed=services.feed, ring=services.bells.ring,
            conversing=self.conversing, chat_files=services.chat_files,
            deal_work=DealWork(db=services.db, ring=self.together.ring, desk=self.deal_desk), bot_configs=self._bot_configs(), sandbox=self._sandbox, public_url=self.settings.base_url, origins=self.settings.cors_origins,
        )  # fmt: skip

    @cached_property
    def _requested(self) -> RequestedCalls:
        """Places the calls that webhooks request."""
        services = self.services
        return RequestedCalls(services.db, services.dialling, services.clients, services.bells.ring)

    @cached_property
    def _outside_orders(self) -> OutsideOrders:
        """Moves the orders that outside systems have moved."""
        services = self.services
        return OutsideOrders(db=services.db, feed=services.feed, crm=self.conversing.crm)

    # For people.

    async def _probe(self, number: TenantId, link: Connector, *, language: str = "") -> Tested:
        """Tests a PBX or an integration with these settings, stored or not; what is found is in the reader's language."""
        tenant, adapter = self.services.cache.tenant(number), adapters().get(link.kind)
        if tenant is None or adapter is None:
            return Tested(ok=False, code="not_configured")
        base_url = self.settings.provider_urls.get(link.kind)
        reader = replace(tenant, language=language) if language else tenant
        return await probe(
            reader, adapter, link.name, link.settings, base_url, self.services.dial, self.services.budgets,
            self.services.tokens(number, link.key), self.services.app_of(adapter), self.settings.provider_urls,
        )  # fmt: skip

    def site(self, addresses: list[Address]) -> QuartTrio:
        """The site, with the addresses for machines beside its pages."""
        services = self.services
        return create_app(
            Deps(
                db=services.db,
                cache=services.cache,
                directory=services.directory,
                feed=services.feed,
                public_url=self.settings.base_url,
                secure_cookies=self._secure,
                trusted_proxies=self.settings.trusted_proxies,
                guesses=self.guesses,
                sign_ins=self.sign_ins,
                hash_limiter=trio.CapacityLimiter(2),
                probe=self._probe,
                place=services.dialling.ask,
                login=services.open_login,
                tokens=services.tokens,
                instance=lambda: services.ownership.me,
                ask_slots=self.together.slots,
                master=services.cache.master,
                mail=self.settings.smtp_url is not None,
                modules=self.modules,
                recording_files=self.recording_files,
                chat_files=self.services.chat_files,
                sandbox=self._sandbox,
                models=partial(model_of, default=services.llm, dial=services.dial),
                deal_desk=self.deal_desk,
                spool=self.posts.spool,
                conversing=self.conversing,
                ring=services.bells.ring,
                ring_posts=self.together.ring,
                mounts=(partial(mount, addresses=addresses),),
            )
        )
