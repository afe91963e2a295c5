"""Our registration in an outside system, the map of its users' internal numbers, and their statuses: changed here, then there.

    new --register--> active --deactivate--> inactive --register--> active
                         +--------delete--------+--> deleted --the other side knows--> (no row)

Commit, then notify: what a person wants is committed first (a row's `version`), then the other side is notified; while it does
not answer, the change waits and a job repeats it (`actors/crm/registration_jobs.py`). One lock an integration keeps an
instance's requests in order, and each request holds the whole of what is stored at that moment, so a repeat is harmless; what
two instances sent at once the next comparison settles. It knows no system by name: clients come from the registry. A system
that only has numbers of its users (`KeepsExtensions`) needs no registration: its row is active from the first number on.
Over 400 lines, because every operation on a registration is here. Read `registration_changes.py` next for what an operation
stores, `account_link.py` for the link.
"""

import logging
import secrets
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any, TypeVar

import trio
from pydantic import ValidationError

from actors.crm import registration_changes as rows
from actors.crm.account_link import claims_of, link_is_good, sign_link
from actors.crm.registration_changes import StoredMap
from actors.delivery.clients import Clients
from actors.runtime.directory import utc_now
from adapters.abilities import (
    CrmField,
    CrmUser,
    HeldExtensions,
    KeepsExtensions,
    ListsUsers,
    ReadsFields,
    Registers,
    Registration,
    RegistrationPlace,
    SetsStatus,
    statuses_of,
)
from adapters.apps import AppCredentials
from adapters.base import Adapter, Attempt, Dialer, Link
from adapters.budget import Budgets, account_of
from adapters.registry import Linked, integrations
from adapters.tokens import Tokens
from gateway.cache import ConfigurationCache
from gateway.domain.configuration import Tenant
from gateway.domain.crm_sources import When
from gateway.domain.errors import (
    REFUSED,
    BadSettings,
    GatewayError,
    RateLimited,
    Unavailable,
    log_status_of,
    problem_of,
)
from gateway.domain.extensions import Difference, Moved, clashes, differences, not_among
from gateway.domain.hooks import hook_url
from gateway.domain.ids import IntegrationKey, Kind, TenantId, kind_of
from gateway.domain.posts import Invalid
from gateway.domain.secret import Secret
from gateway.domain.text import Bilingual
from gateway.store import crm_registrations as store
from gateway.store.audit import insert_audit
from gateway.store.integration_logs import insert_log
from gateway.store.postgres.pool import Database
from gateway.store.secrets.seal import Sealer
from gateway.store.tenants import select_tenants

log = logging.getLogger(__name__)
T = TypeVar("T")

NOTIFY_DEADLINE_S = 12.0
READ_DEADLINE_S = 8.0
FIELDS_FRESH_S = 60.0
FRESH_S = 15.0
"""Seconds for which a response is reused when a page is opened again."""
SLOW_DOWN_S = 1.1
REFUSED_REST_S = 86_400.0
"""Seconds between repeats of what was refused; a change made meanwhile is sent soon."""


@dataclass(frozen=True, slots=True)
class SyncResult:
    """Whether the other side knows what is stored here; otherwise why not, as a code and the response."""

    saved: bool
    code: str = ""
    detail: str = ""
    unknown_users: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Saved:
    """A map that was changed here, and the result of sending it there."""

    extensions: Mapping[str, str]
    moved: tuple[Moved, ...]
    reported: SyncResult


@dataclass(frozen=True, slots=True)
class Synced:
    """What a comparison found: `settled` was put right over there, `imported` was taken over from there."""

    settled: tuple[Difference, ...]
    imported: Mapping[str, str]
    no_phones: tuple[str, ...]
    reported: SyncResult


@dataclass(frozen=True, slots=True)
class Reading:
    """What the other side answered just now; with a `problem` there was no usable answer."""

    users: tuple[CrmUser, ...] = ()
    held: HeldExtensions | None = None
    """Its map; None where it has none of ours."""
    problem: str = ""
    detail: str = ""
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class FieldsRead:
    """The other side's fields by what a rule is for; with a `problem` there was no usable answer."""

    fields: Mapping[When, Sequence[CrmField]]
    problem: str = ""
    detail: str = ""
    at: float = 0.0


def registering() -> Mapping[Kind, Adapter]:
    """The adapters whose clients can register us."""
    return {kind: adapter for kind, adapter in integrations().items() if adapter.can(Registers)}


def with_users() -> Mapping[Kind, Adapter]:
    """The adapters whose outside systems register us or have internal numbers of their users."""
    found = integrations().items()
    return {kind: adapter for kind, adapter in found if adapter.can(Registers) or adapter.can(KeepsExtensions)}


def registered_as(key: IntegrationKey) -> Linked | None:
    """The integration of this key, where its outside system registers us or has internal numbers of its users."""
    adapter = with_users().get(kind_of(key))
    return Linked(key, adapter) if adapter is not None else None


class Registrations:
    """Every operation on a registration, a map or a status. `who` is a person's address, or what acts in their place."""

    def __init__(
        self, db: Database, cache: ConfigurationCache, clients: Clients, dial: Dialer,
        provider_urls: Mapping[str, str], public_url: str, budgets: Budgets | None = None,
        apps: Mapping[str, AppCredentials] = MappingProxyType({}),
        tokens: Callable[[TenantId, IntegrationKey], Tokens] | None = None,
    ) -> None:  # fmt: skip
        self.db = db
        self.cache = cache
        self._clients = clients
        self._dial = dial
        self._provider_urls = provider_urls
        self._public_url = public_url
        self._budgets = budgets if budgets is not None else Budgets()
        self._apps = apps
        self._tokens = tokens
        self._locks: defaultdict[tuple[TenantId, IntegrationKey], trio.Lock] = defaultdict(trio.Lock)
        self._readings: dict[tuple[TenantId, IntegrationKey], Reading] = {}
        self._fields: dict[tuple[TenantId, IntegrationKey], FieldsRead] = {}

    # What is known.

    def set_up(self, tenant: Tenant) -> list[Linked]:
        """The integrations of this tenant whose systems register us or have numbers of their users, in the order of their keys."""
        return [found for key in sorted(tenant.integrations) if (found := registered_as(key)) is not None]

    async def stored(self, number: TenantId, linked: Linked) -> StoredMap:
        """What is stored here."""
        return await self.db.tenant(number, rows.select_stored_map, number, linked)

    async def read(self, number: TenantId, linked: Linked) -> Reading:
        """The other side's current state. Never raises for its failures; a response is cached for some seconds."""
        key = (number, linked.key)
        known = self._readings.get(key)
        if known is not None and time.monotonic() - known.at < FRESH_S / (3 if known.problem else 1):
            return known
        if len(self._readings) > 1000:
            self._readings.clear()
        failure: GatewayError = Unavailable("no answer in time")
        with trio.move_on_after(READ_DEADLINE_S):
            try:
                async with self._connected(number, linked, live=True) as client:
                    users: Sequence[CrmUser] = ()
                    if isinstance(client, ListsUsers):
                        users = await _unhurried(client.users)
                    theirs = await _unhurried(partial(_standing, client))
                held = theirs.held if theirs is not None else None
                reading = self._readings[key] = Reading(tuple(users), held, at=time.monotonic())
                return reading
            except GatewayError as error:
                failure = error
        self._readings[key] = Reading(problem=problem_of(failure), detail=failure.detail[:300], at=time.monotonic())
        return self._readings[key]

    async def fields(self, number: TenantId, linked: Linked, *, anew: bool = False) -> FieldsRead:
        """The other side's fields, for field mapping. Never raises for its failures; an answer is used for a minute, unless `anew`."""
        key = (number, linked.key)
        known = self._fields.get(key)
        if (
            known is not None
            and not anew
            and time.monotonic() - known.at < FIELDS_FRESH_S / (12 if known.problem else 1)
        ):
            return known
        if len(self._fields) > 200:
            self._fields.clear()
        failure: GatewayError = Unavailable("no answer in time")
        with trio.move_on_after(READ_DEADLINE_S):
            try:
                async with self._connected(number, linked, live=True) as client:
                    assert isinstance(client, ReadsFields)
                    found = FieldsRead(await _unhurried(client.fields), at=time.monotonic())
                self._fields[key] = found
                return found
            except GatewayError as error:
                failure = error
        self._fields[key] = FieldsRead(
            {}, problem_of(failure), (failure.detail or failure.person)[:300], time.monotonic()
        )
        return self._fields[key]

    async def refresh(self, number: TenantId) -> None:
        """Reads the tenant's configuration again, so that a change is visible at once to its author."""
        with suppress(Unavailable):
            await self.cache.load(number, anew=True)

    # The link.

    async def open_link(self, kind: Kind, token: str) -> tuple[TenantId, IntegrationKey, int] | None:
        """Tenant, integration and registration of a link; None for one that is forged, revoked or of another
        kind of outside system."""
        claimed = claims_of(token)
        if claimed is None or kind_of(claimed[1]) != kind or self.cache.tenant(claimed[0]) is None:
            return None
        number, key = claimed
        found = await self.db.engine(store.select_link_key, number, key)
        if found is None:
            return None
        sealed, registration, registered_at = found
        secret = (await self._sealer(number)).open(sealed, table="modules", column="link_key", row=key)
        good = link_is_good(token, secret, number, key, registration, registered_at, utc_now())
        return (number, key, registration) if good else None

    def page_url(self, kind: Kind) -> str:
        """Where the pages are that a registration's link opens."""
        return f"{self._public_url}/{kind}-admin/"

    async def _place(self, number: TenantId, key: IntegrationKey) -> RegistrationPlace:
        """Our link for the other side; without a token if it was revoked."""
        link = Secret(self.page_url(kind_of(key)))
        if (found := await self.db.engine(store.select_link_key, number, key)) is not None:
            secret = (await self._sealer(number)).open(found[0], table="modules", column="link_key", row=key)
            token = sign_link(secret, number, key, utc_now())
            link = Secret(f"{link.reveal()}?enterprise_number={number}&token={token.reveal()}")
        return RegistrationPlace(
            public_url=self._public_url, logo_url=f"{self._public_url}/static/logo.svg", account_url=link
        )

    async def _sealer(self, number: TenantId) -> Sealer:
        rows = await self.db.engine(select_tenants, [number])
        if not rows:
            raise BadSettings(f"no tenant {number}")
        await self.cache.master.prepare([(number, rows[0].data_key)])
        return self.cache.master.sealer(number, rows[0].data_key)

    # Operations.

    async def register(self, number: TenantId, linked: Linked, who: str) -> SyncResult:
        """Registers us, or registers us anew: earlier links and the sessions they opened end."""
        async with self._locks[number, linked.key]:
            key = (await self._sealer(number)).seal(
                Secret(secrets.token_urlsafe(32)), table="modules", column="link_key", row=linked.key
            )
            # A first registration, or one by an earlier module's code, finds a map there: it is taken over before ours is sent.
            await self.db.engine(rows.begin, number, linked.key, key, who, unread=True)
            return await self._notify(number, linked)

    async def update(self, number: TenantId, linked: Linked, who: str) -> SyncResult:
        """Sends the other side everything again; links stay good. Registers nobody."""
        async with self._locks[number, linked.key]:
            await self.db.engine(insert_audit, number, who, "module.updated", linked.key)
            return await self._notify(number, linked)

    async def deactivate(self, number: TenantId, linked: Linked, who: str, *, delete: bool = False) -> SyncResult:
        """Revokes the link at once, then switches us off over there; `delete` also removes the row here."""
        async with self._locks[number, linked.key]:
            await self.db.engine(rows.end, number, linked.key, who, "deleted" if delete else "inactive")
            row = (await self.stored(number, linked)).row
            if not row.pending:
                return SyncResult(row.state != "new", unknown_users=tuple(row.unknown_users))
            return await self._notify(number, linked)

    async def withdraw(self, number: TenantId, linked: Linked) -> SyncResult:
        """Takes back what a system that `Withdraws` has of ours. Request and response go into the log."""
        attempt, started = Attempt(kind="withdraw", key="", lane="", body={}), time.perf_counter()
        failure: GatewayError | None = Unavailable("no answer in time", certain=False)
        with trio.move_on_after(READ_DEADLINE_S):
            try:
                async with self._connected(number, linked) as client:
                    await client.withdraw(attempt=attempt)
                failure = None
            except GatewayError as error:
                failure = error
        code = problem_of(failure) if failure is not None else ""
        await self.db.engine(
            insert_log, number, linked.key, "withdraw", request=attempt.request, response=attempt.response,
            status=log_status_of(code), error=str(failure) if failure is not None else None,
            duration_ms=int((time.perf_counter() - started) * 1000),
        )  # fmt: skip
        return SyncResult(failure is None, code, failure.detail[:300] if failure is not None else "")

    async def switched(self, number: TenantId, linked: Linked, *, active: bool) -> None:
        """The other side has switched us on or off by itself. Off is applied here too; on needs a registration by us."""
        if active:
            return
        async with self._locks[number, linked.key]:
            await self.db.engine(rows.end, number, linked.key, linked.key, "inactive", reported=True)
        self._readings.pop((number, linked.key), None)

    async def save(
        self, number: TenantId, linked: Linked, changes: Mapping[str, str | None], who: str
    ) -> Saved:  # fmt: skip
        """Changes the map here, then there. Raises Invalid with every problem and then changes nothing."""
        if twice := clashes(changes):
            raise Invalid(
                tuple((f"user_extensions.{users[0]}", Bilingual(
                    f"{number_} is given to users {', '.join(users)}; a number belongs to one user",
                    f"{number_} отдан пользователям {', '.join(users)}; номер принадлежит одному пользователю",
                )) for number_, users in twice.items())
            )  # fmt: skip
        async with self._locks[number, linked.key]:
            extensions, moved = await self.db.tenant(number, rows.change_map, number, linked, changes, who)
            await self.refresh(number)
            return Saved(extensions, moved, await self._notify(number, linked))

    def changed(self, number: TenantId, linked: Linked) -> None:
        """Settings were changed: cached responses are dropped. A trigger makes the notifying job due."""
        self._readings.pop((number, linked.key), None)

    async def sync(self, number: TenantId, linked: Linked, who: str) -> Synced:
        """Compares the map with theirs. On first use theirs is taken over; after that ours is authoritative, and every
        difference is corrected over there with a line in the log."""
        kind = linked.key
        async with self._locks[number, kind]:
            stored = await self.stored(number, linked)
            row, ours = stored.row, stored.extensions
            try:
                with trio.fail_after(READ_DEADLINE_S):
                    async with self._connected(number, linked) as client:
                        theirs = await _unhurried(partial(_standing, client))
            except trio.TooSlowError:
                return Synced((), {}, (), SyncResult(False, "unavailable", "no answer in time"))
            except GatewayError as error:
                return Synced((), {}, (), SyncResult(False, problem_of(error), error.detail[:300]))
            imported: Mapping[str, str] = {}
            if theirs is not None and (row.unread or (row.saved_at is None and not ours)):
                imported = await self._import(number, linked, theirs, who)
                ours = {**ours, **imported}
            if theirs is not None and not theirs.active and row.state == "active" and not row.pending:
                await self.db.engine(rows.end, number, kind, kind, "inactive", reported=True)
                return Synced((), imported, self._no_phones(stored, imported), SyncResult(False, "switched_off_there"))
            found = tuple(
                one for one in differences(ours, _map_of(theirs))
                if one.theirs is not None or one.user_id not in row.unknown_users
            )  # fmt: skip
            if not who and (row.pending or _refused_lately(row)) and row.state != "new":
                reported = SyncResult(
                    False, row.problem, row.problem_detail
                )  # `repeat` is slower with what was refused
            elif row.state == "new" or not (found or row.pending or theirs is None):
                reported = SyncResult(row.state == "active", "" if row.state == "active" else "not_registered")
            else:
                for one in found:
                    log.info("internal number settled", extra={
                        "tenant": number, "integration": kind, "user": one.user_id, "ours": one.ours or "",
                        "theirs": one.theirs or "",
                    })  # fmt: skip
                reported = await self._notify(number, linked)
                if found:
                    lines = "\n".join(
                        f"user {d.user_id}: ours {d.ours or '-'}, theirs {d.theirs or '-'}" for d in found
                    )
                    await self.db.engine(
                        insert_log, number, kind, "settle", request=lines, response="",
                        status="done" if reported.saved else "retry", error=None, duration_ms=0,
                    )  # fmt: skip
                    await self.db.engine(insert_audit, number, who or kind, "extensions.settled", kind, lines)
            return Synced(found, imported, self._no_phones(stored, imported), reported)

    async def repeat(self, number: TenantId, linked: Linked) -> SyncResult:
        """Notifies the other side of what it does not know yet; saved where there is nothing."""
        async with self._locks[number, linked.key]:
            if not (await self.stored(number, linked)).row.pending:
                return SyncResult(True)
            return await self._notify(number, linked)

    # Notifying.

    async def _notify(self, number: TenantId, linked: Linked) -> SyncResult:
        """Sends the other side what is stored here, under the integration's lock. Request and response go into the log."""
        kind = linked.key
        self._readings.pop((number, kind), None)
        stored = await self.stored(number, linked)
        if stored.row.state == "new":
            return SyncResult(False, "not_registered")
        attempt, started = Attempt(kind=stored.row.state, key="", lane="", body={}), time.perf_counter()
        failure: GatewayError | None = Unavailable("no answer in time", certain=False)
        held = HeldExtensions()
        with trio.move_on_after(NOTIFY_DEADLINE_S):
            try:
                # A client of its own: that of the deliveries' actor ends when the settings change.
                async with self._connected(number, linked) as client:
                    if stored.row.unread and stored.row.state == "active":
                        # Where there is nothing over there yet, that is what was read.
                        theirs = await _unhurried(partial(_standing, client, attempt))
                        await self._import(number, linked, theirs or Registration(active=False), kind)
                        stored = await self.stored(number, linked)
                    held = await self._text(client, number, linked, stored, attempt)
                failure = None
            except GatewayError as error:
                failure = error
        row, code = stored.row, problem_of(failure) if failure is not None else ""
        event = {"active": "register", "inactive": "deactivate", "deleted": "delete"}[row.state]
        status = log_status_of(code)
        fields: dict[str, Any] = {
            "request": attempt.request, "response": attempt.response, "status": status,
            "error": str(failure) if failure is not None else None,
            "duration_ms": int((time.perf_counter() - started) * 1000),
        }  # fmt: skip
        await self.db.engine(rows.note, number, kind, row, event, fields, code, failure, held.unknown_users)
        if failure is not None:
            return SyncResult(False, code, failure.detail[:300])
        return SyncResult(True, unknown_users=held.unknown_users)

    async def _text(
        self, client: Any, number: TenantId, linked: Linked, stored: StoredMap, attempt: Attempt
    ) -> HeldExtensions:  # fmt: skip
        extensions, place = stored.extensions, await self._place(number, linked.key)
        if stored.row.state != "active":
            if isinstance(client, Registers):
                await client.deactivate(place, extensions, delete=stored.row.state == "deleted", attempt=attempt)
            return HeldExtensions()
        if isinstance(client, Registers):
            made = await _unhurried(partial(client.register, place, extensions, attempt=attempt))
            if made.held is not None:
                return made.held
        if isinstance(client, KeepsExtensions):
            return await _unhurried(partial(client.save_extensions, place, extensions, attempt=attempt))
        return HeldExtensions()

    async def _import(self, number: TenantId, linked: Linked, theirs: Registration, who: str) -> Mapping[str, str]:
        """Imports the entries of their map that ours lacks. Returns those entries."""
        taken = await self.db.tenant(number, rows.adopt_map, number, linked, _map_of(theirs), who)
        if taken:
            log.info("internal numbers taken over", extra={"tenant": number, "integration": linked.key, "users": len(taken)})  # fmt: skip
            await self.refresh(number)
        return taken

    def _no_phones(self, stored: StoredMap, imported: Mapping[str, str]) -> tuple[str, ...]:
        return not_among(imported.values(), [phone.number for phone in stored.phones])

    def _settings(self, number: TenantId, key: IntegrationKey) -> dict[str, Any]:
        """The integration's settings in force; empty where it is not set up."""
        tenant = self.cache.tenant(number)
        link = tenant.integrations.get(key) if tenant is not None else None
        return dict(link.settings) if link is not None else {}

    # Statuses.

    async def set_status(self, number: TenantId, linked: Linked, user_id: str, status: str, who: str) -> SyncResult:
        """Sets a user's status as a person chose it: commit, then notify the other side. Raises Invalid."""
        known = [one.word for one in statuses_of(linked.adapter)]
        if status not in known:
            words = ", ".join(known)
            raise Invalid((("status", Bilingual(f"must be one of {words}", f"должен быть одним из: {words}")),))
        if not _is_user(linked, user_id):
            raise Invalid((("userId", Bilingual("is not the id of a user", "не идентификатор пользователя")),))
        await self.db.tenant(number, rows.store_status, number, linked.key, user_id, status, who)
        return await self.send_status(number, linked, user_id, status)

    async def send_status(self, number: TenantId, linked: Linked, user_id: str, status: str) -> SyncResult:
        """Notifies the other side of a status, for the first time or again."""
        failure: GatewayError = Unavailable("no answer in time", certain=False)
        attempt, started = Attempt(kind="status", key="", lane="", body={}), time.perf_counter()
        reported = SyncResult(False, "unavailable", "no answer in time")
        with trio.move_on_after(READ_DEADLINE_S):
            try:
                async with self._connected(number, linked, live=True) as client:
                    if not isinstance(client, SetsStatus):
                        return SyncResult(False, "not_testable")
                    await client.set_status(user_id, status, attempt=attempt)
                reported = SyncResult(True)
            except GatewayError as error:
                failure, reported = error, SyncResult(False, problem_of(error), error.detail[:300])
        self._readings.pop((number, linked.key), None)
        await self.db.engine(
            insert_log, number, linked.key, "status", request=attempt.request, response=attempt.response,
            status=log_status_of(reported.code), error=None if reported.saved else str(failure),
            duration_ms=int((time.perf_counter() - started) * 1000),
        )  # fmt: skip
        # A status that was refused for good is not sent again.
        if reported.saved or reported.code == "rejected":
            await self.db.engine(store.mark_status_sent, number, linked.key, user_id, status)
        return reported

    async def receive_status(self, number: TenantId, linked: Linked, user_id: str, extension: str, status: str) -> bool:
        """Stores a user's status reported by the other side; it is never sent back. False where nobody has that number,
        or too many users without a number are known already."""
        if not user_id:
            stored = await self.stored(number, linked)
            user_id = next((user for user, held in stored.extensions.items() if held == extension), "")
        if not _is_user(linked, user_id):
            return False
        stored_here = await self.db.tenant(number, store.upsert_received_status, number, linked.key, user_id, status)
        self._readings.pop((number, linked.key), None)
        return stored_here

    # Clients.

    @asynccontextmanager
    async def _connected(self, number: TenantId, linked: Linked, *, live: bool = False) -> AsyncIterator[Any]:
        """A client for one request: with `live` the connected one, if there is one; else a new one. Raises
        BadSettings where none can be made."""
        if live and (lent := self._clients.integration(number, linked.key)) is not None:
            yield lent
            return
        tenant = self.cache.tenant(number)
        if tenant is None or linked.key not in tenant.integrations:
            raise BadSettings("not set up")
        try:
            settings = linked.adapter.settings.model_validate(self._settings(number, linked.key))
        except ValidationError as error:
            fields = (
                ".".join(map(str, one["loc"])) for one in error.errors(include_input=False, include_context=False)
            )
            raise BadSettings(", ".join(fields)) from None
        base_url = self._provider_urls.get(linked.adapter.kind)
        known = replace(tenant, integrations={}, pbxes=())
        budget = self._budgets.of(account_of(linked.adapter, number, linked.key, settings), linked.adapter.limits)
        app = self._apps.get(linked.adapter.app.name) if linked.adapter.app is not None else None
        hook_id = getattr(settings, linked.adapter.hook_id_field, None) if linked.adapter.hook_id_field else None
        link = Link(
            known, linked.key, base_url, self._dial, budget=budget, app=app, provider_urls=self._provider_urls,
            hook_url=hook_url(self._public_url, linked.key, hook_id) if isinstance(hook_id, Secret) else None,
            tokens=self._tokens(number, linked.key) if self._tokens is not None else None,
        )  # fmt: skip
        async with linked.adapter.connect(link, settings) as client:
            yield client


def _refused_lately(row: store.RegistrationRow) -> bool:
    """Whether the other side has refused, within a day, what would be sent again unchanged."""
    tried = row.tried_at
    return row.problem in REFUSED and tried is not None and (utc_now() - tried).total_seconds() < REFUSED_REST_S


def _is_user(linked: Linked, user_id: str) -> bool:
    try:
        return linked.adapter.user_id(user_id) == user_id
    except ValueError:
        return False


async def _standing(client: Any, attempt: Attempt | None = None) -> Registration | None:
    """Our registration there, with the map. A system without registrations counts as active, with the map it holds."""
    standing: Registration | None = Registration(active=True)
    if isinstance(client, Registers):
        standing = await client.registration(attempt=attempt)
    if standing is None or standing.held is not None or not isinstance(client, KeepsExtensions):
        return standing
    held = await client.extensions(attempt=attempt)
    return replace(standing, held=held) if held is not None else None


def _map_of(standing: Registration | None) -> Mapping[str, str]:
    return standing.held.extensions if standing is not None and standing.held is not None else {}


async def _unhurried(ask: Callable[[], Awaitable[T]]) -> T:
    """The response to a request; repeated once after a rate limit."""
    try:
        return await ask()
    except RateLimited:
        await trio.sleep(SLOW_DOWN_S)
        return await ask()
