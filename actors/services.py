"""The long-lived objects of the process that every actor is given, opened by `gateway.app`."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from actors.calls.click_to_call import ClickToCall
from actors.calls.direct_posts import DirectPosts
from actors.calls.handed_recordings import TenantRecordings
from actors.calls.smart_redirect import SmartRedirect
from actors.chats.conversing import Conversing
from actors.chats.inbox import Inbox
from actors.chats.outgoing_files import TenantFiles
from actors.delivery.clients import Clients
from actors.delivery.handover import Handover
from actors.feed import Feed
from actors.integration_tokens import IntegrationTokens, UnstoredTokens
from actors.runtime.directory import Directory
from actors.runtime.group_commit import GroupCommit
from actors.runtime.ownership import Ownership
from adapters.apps import AppCredentials
from adapters.base import Adapter, AdapterSettings, Dialer, Link
from adapters.budget import Budgets, account_of
from adapters.llm.client import ModelSettings
from adapters.login import LoginFlow, LoginPlace
from adapters.registry import Linked
from adapters.spills import Spills
from adapters.tokens import Tokens
from gateway.cache import ConfigurationCache
from gateway.domain.configuration import Tenant
from gateway.domain.hooks import hook_url
from gateway.domain.ids import IntegrationKey, TenantId
from gateway.domain.secret import Secret
from gateway.store.call_batches import CallBatch, Recorded
from gateway.store.files.chat_files import ChatFiles
from gateway.store.files.recording_files import RecordingFiles
from gateway.store.journal import PendingPost
from gateway.store.postgres.pool import Database

CHATS = "chats"
"""The bell of the actor that reads a tenant's chats; the other bells are those of integrations, by their keys."""


class Doorbells:
    """Wakes a reader of the database when there is something new for it: the delivery actor of an integration, the actor of a
    tenant's chats. Rung in the process, never by NOTIFY."""

    def __init__(self) -> None:
        self._bells: dict[tuple[TenantId, str], trio.Event] = {}

    def ring(self, tenant: TenantId, bell_of: str) -> None:
        """Wakes the listener; a ring without a listener is dropped."""
        bell = self._bells.get((tenant, bell_of))
        if bell is not None:
            bell.set()

    def listen(self, tenant: TenantId, bell_of: str) -> trio.Event:
        """The bell that the next ring sets. Take it before looking for work, so that no ring falls between."""
        bell = self._bells.get((tenant, bell_of))
        if bell is None or bell.is_set():
            bell = self._bells[tenant, bell_of] = trio.Event()
        return bell

    def forget(self, tenant: TenantId, bell_of: str) -> None:
        """Removes a bell."""
        self._bells.pop((tenant, bell_of), None)


@dataclass(frozen=True, kw_only=True)
class Services:
    """Handed to actors; none of them makes its own."""

    db: Database
    cache: ConfigurationCache
    directory: Directory
    feed: Feed
    records: GroupCommit[CallBatch, Recorded]
    """Makes what a tenant's actor recorded durable; answers with the integrations that got something to deliver."""
    pending_posts: GroupCommit[tuple[TenantId, int], list[PendingPost]]
    """Reads a tenant's posts behind a journal id; those of several tenants share a statement."""
    direct_posts: DirectPosts = field(default_factory=DirectPosts)
    """Hands posts to their tenant's actor while the senders wait."""
    outgoing: Handover
    """Leases deliveries as they are written, and stores their outcomes."""
    dial: Dialer
    budgets: Budgets = field(default_factory=Budgets)
    """Of remote accounts, shared by all that speak to them."""
    unstored_tokens: UnstoredTokens = field(default_factory=dict)
    """Fresh tokens that the database would not take yet."""
    spills: Spills = field(default_factory=Spills)
    """Where PBX sessions put what they cannot hold in memory."""
    provider_urls: Mapping[str, str] = field(default_factory=dict)
    apps: Mapping[str, AppCredentials] = field(default_factory=dict)
    """The installation's applications at outside providers, by name."""
    recording_files: RecordingFiles | None = None
    """Recordings; without it no call has one."""
    chat_files: ChatFiles | None = None
    """Files of chats; without it none can be sent."""
    public_url: str = ""
    """What links of ours begin with."""
    inbox: Inbox | None = None
    """Makes updates of messengers durable."""
    conversing: Conversing | None = None
    """What people and programs do to conversations; without it no AI answers."""
    llm: ModelSettings | None = None
    """The installation's language model."""
    sound_pieces: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(12))
    """Pieces of recordings that are in memory at a time, some tens of megabytes each, while their text is made."""
    bells: Doorbells = field(default_factory=Doorbells)
    clients: Clients
    smart_redirect: SmartRedirect
    """Finds who is responsible for a caller."""
    dialling: ClickToCall
    ownership: Ownership
    """Which tenants are this instance's."""
    """Places calls for people; receives the outcomes of its orders."""

    def tokens(self, tenant: TenantId, integration: IntegrationKey) -> Tokens:
        """The tokens of one integration that change by themselves."""
        return IntegrationTokens(self.db, self.cache.sealer, tenant, integration, self.unstored_tokens)

    def link(self, tenant: Tenant, linked: Linked, settings: AdapterSettings, *, background: bool = False) -> Link:
        """What a client of an integration is given: address, dialer, the account's budget, tokens."""
        adapter = linked.adapter
        hook_id = getattr(settings, adapter.hook_id_field, None) if adapter.hook_id_field else None
        return Link(
            tenant=tenant, name=linked.key, base_url=self.provider_urls.get(adapter.kind), dial=self.dial,
            budget=self.budgets.of(account_of(adapter, tenant.number, linked.key, settings), adapter.limits),
            background=background,
            hook_url=hook_url(self.public_url, linked.key, hook_id) if isinstance(hook_id, Secret) else None,
            tokens=self.tokens(tenant.number, linked.key), app=self.app_of(adapter), files=self.outgoing_files(tenant.number),
            public_url=self.public_url, provider_urls=self.provider_urls, recordings=self.recordings_of(tenant.number),
        )  # fmt: skip

    def outgoing_files(self, tenant: TenantId) -> TenantFiles | None:
        """The files of a company's messages, for those who send them."""
        return TenantFiles(self.chat_files, tenant, self.public_url) if self.chat_files is not None else None

    def recordings_of(self, tenant: TenantId) -> TenantRecordings | None:
        """The recordings of a company's calls, for those who hand them on."""
        return TenantRecordings(self.recording_files, tenant) if self.recording_files is not None else None

    def app_of(self, adapter: Adapter) -> AppCredentials | None:
        """The installation's application at an adapter's provider."""
        return self.apps.get(adapter.app.name) if adapter.app is not None else None

    @asynccontextmanager
    async def open_login(
        self, tenant: Tenant, linked: Linked, settings: AdapterSettings, place: LoginPlace
    ) -> AsyncIterator[LoginFlow]:
        """A login of an integration whose adapter has one."""
        assert linked.adapter.login is not None
        async with linked.adapter.login.open(self.link(tenant, linked, settings), settings, place) as flow:
            yield flow
