"""Fetches expected recordings, and maintains the stored ones.

    expected -> fetching -> stored          the state is in the row: a restart goes on where the last one was
                  |   ^
                  +---+--> failed           after a day, or where trying again cannot help; a person may press Retry

A file is fetched by its PBX's template, or from the address that a post gave. Files appear some time after the hangup, so
a 404 is no failure for a day. `FetchActor` fetches a few at a time, shared fairly among tenants; `retain` gives loose
recordings to their calls, removes what is past its retention, and sweeps up what crashes have left.
Read `gateway/store/files/recording_files.py` for where the files go.
"""

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial

import trio

from actors.fetching import Fetching
from actors.runtime.directory import Slot, utc_now
from actors.services import Services
from adapters.base import KeepsRecordings, RecordingSource
from adapters.download import download, file_name
from adapters.registry import adapters
from gateway.domain import audio
from gateway.domain.configuration import Tenant
from gateway.domain.errors import (
    BadCredentials,
    BadSettings,
    GatewayError,
    NeedsAttention,
    Rejected,
    Retryable,
    Unavailable,
)
from gateway.domain.health import State
from gateway.domain.recording_links import KEEP_DAYS
from gateway.domain.secret import Secret
from gateway.domain.templates import fill
from gateway.store import recording_queue as store
from gateway.store.files.recording_files import LARGEST, RecordingFiles, TooLarge
from gateway.store.postgres.errors import BadData
from gateway.store.recording_queue import Fetch
from gateway.telemetry import COUNTERS, bound

log = logging.getLogger(__name__)

AT_ONCE = 16
OF_ONE_TENANT = 2
"""A slow server occupies a place for ten minutes. There are many places, and few for each tenant, so that it takes many such
tenants to delay the others."""
LEASE_S = 900.0
FETCH_S = 600.0
"""For one file as a whole."""
FIRST_DELAYS_S = (3.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0)
DELAY_CAP_S = 1800.0
PATIENCE = timedelta(hours=24)

JOIN_EVERY_S = 2.0
JOIN_YOUNG_S = 900.0
KEEP_EVERY_S = 600.0
SWEEP_EVERY_S = 86400.0
ABANDONED_S = 3600.0
"""Seconds. A younger object that no row names may be one whose row is about to be written."""
BATCH = 500


def delay_s(attempt: int) -> float:
    """Until the next try after this many."""
    return FIRST_DELAYS_S[attempt - 1] if attempt <= len(FIRST_DELAYS_S) else DELAY_CAP_S


class _NotYetError(Unavailable):
    """The file is not there yet."""


def _judge(status: int, headers: Mapping[str, str]) -> None:
    if status in (401, 403):
        raise BadCredentials(f"status {status}")
    if status in (404, 410):
        raise _NotYetError(f"status {status}")
    if 300 <= status < 400:
        raise BadSettings(f"status {status}: the address leads on to another one")
    if status != 200:
        raise Unavailable(f"status {status}")
    length = headers.get("content-length", "")
    if length.isdigit() and int(length[:20]) > LARGEST:
        raise TooLarge


class FetchActor(Fetching[Fetch]):
    """Fetches recordings."""

    most_at_once = AT_ONCE

    def __init__(self, services: Services, recording_files: RecordingFiles) -> None:
        super().__init__(services)
        self._recording_files = recording_files

    async def claim(self, most: int) -> Sequence[Fetch]:
        """A few of each tenant."""
        return await self._services.db.engine(store.claim_fetches, most, OF_ONE_TENANT, LEASE_S)

    async def release(self, before: datetime) -> None:
        """Of processes that have died."""
        await self._services.db.engine(store.release_fetches, before, LEASE_S)

    async def fetch(self, one: Fetch) -> None:
        """By its PBX's template or its address."""
        with bound(tenant=one.tenant, call=one.call_id):
            await self._try(one)

    async def _try(self, fetch: Fetch) -> None:
        try:
            found = self._where(fetch)
            if found is None:
                await self._services.db.engine(store.wait_to_be_sent, fetch)
                return
            with trio.move_on_after(FETCH_S) as patience:
                await self._fetch(fetch, *found)
            if patience.cancelled_caught:
                raise Unavailable("the file came too slowly")
            COUNTERS["recordings_fetched"] += 1
        except GatewayError as error:
            await self._note(fetch, error)

    def _where(self, fetch: Fetch) -> tuple[Secret, RecordingSource | None] | None:
        """The address, and what opens it. None where no address is known: then the file is to be sent to us."""
        if fetch.url is not None:
            return self._recording_files.open_url(fetch.tenant, fetch.url), None
        tenant = self._services.cache.tenant(fetch.tenant)
        if tenant is None:
            raise Unavailable("the tenant is not known yet")
        source = recording_source(tenant, fetch.pbx)
        if source is None or not fetch.reported:
            return None
        url = fill(
            source.template, reported=fetch.reported, call_id=fetch.call_id, pbx=fetch.pbx, begins_at=fetch.begins_at,
            zone=tenant.timezone,
        )  # fmt: skip
        if url is None:
            raise Rejected("the PBX gave a file name that cannot be part of an address")
        return Secret(url), source

    async def _fetch(self, fetch: Fetch, url: Secret, source: RecordingSource | None) -> None:
        async with await self._recording_files.new_file() as incoming:
            await download(
                url, dial=self._services.dial, judge=_judge, write=incoming.write,
                user=source.user if source else "", password=source.password if source else None,
            )  # fmt: skip
            if not incoming.size:
                raise _NotYetError("the file is empty")
            name = file_name(url)
            sealed = await incoming.finish(name)
            if sealed.content_type == audio.UNKNOWN:
                raise Rejected("what lies there is not sound")
            await self._recording_files.keep_fetched(fetch, sealed, name)

    async def _note(self, fetch: Fetch, error: GatewayError) -> None:
        """The outcome of a failed try."""
        problem, lasting = _problem(error)
        late = utc_now() - fetch.asked_at > PATIENCE
        again = None if lasting or late else delay_s(fetch.attempt)
        COUNTERS["recordings_not_fetched"] += 1
        log.info("recording not fetched", extra={"problem": problem, "attempt": fetch.attempt, "final": again is None})
        try:
            await self._services.db.engine(store.fail_fetch, fetch, problem, error.detail, again)
        except Unavailable:
            return  # the lease ends by itself, and it is tried again


def _problem(error: GatewayError) -> tuple[str, bool]:
    """A code for the page, and whether a retry is useless."""
    match error:
        case TooLarge():
            return "too_large", True
        case _NotYetError():
            return "not_there", False
        case BadCredentials():
            return "refused", False  # a person may be putting the password right
        case NeedsAttention():
            return "bad_address", False
        case Rejected() if "not sound" in error.detail:
            return "not_sound", False  # a proxy's page of errors, perhaps
        case Rejected():
            return "rejected", True
        case Retryable():
            return "unavailable", False
        case _:
            return "failed", False


def recording_source(tenant: Tenant, name: str) -> RecordingSource | None:
    """Where the files of one of the tenant's PBXes can be fetched, by its settings."""
    pbx = next((pbx for pbx in tenant.pbxes if pbx.name == name), None)
    adapter = adapters().get(pbx.kind) if pbx is not None else None
    if pbx is None or adapter is None:
        return None
    try:
        settings = adapter.settings.model_validate(dict(pbx.settings))
    except ValueError:
        return None
    return settings.recording_source() if isinstance(settings, KeepsRecordings) else None


# Retention


async def retain(services: Services, recording_files: RecordingFiles, slot: Slot) -> None:
    """Until cancelled: joins loose recordings, gives up on those that never came, removes what is past its time."""
    stored_at = swept_at = -float("inf")
    while True:
        try:
            now = trio.current_time()
            young = now - stored_at < KEEP_EVERY_S
            await _join(services, recording_files, JOIN_YOUNG_S if young else PATIENCE.total_seconds() * 2)
            if not young:
                stored_at = now
                await _expire(services, recording_files)
            if now - swept_at >= SWEEP_EVERY_S:
                swept_at = now
                await _sweep(services, recording_files)
            slot.report(State.ONLINE)
        except Unavailable as error:
            slot.report(State.DEGRADED, "database_away", error.detail)
        await trio.sleep(JOIN_EVERY_S)


async def _join(services: Services, recording_files: RecordingFiles, young_s: float) -> None:
    for join in await services.db.engine(store.select_joins, young_s, BATCH):
        if services.cache.sealer(join.tenant) is None:
            continue  # one tenant whose configuration cannot be read does not block the others
        new_id = recording_files.signer(join.tenant).recording_id(join.known_as)
        await services.db.engine(store.join_recording, join, new_id)


async def _expire(services: Services, recording_files: RecordingFiles) -> None:
    for remove in (
        partial(store.give_up_waiting, after_s=PATIENCE.total_seconds(), most=BATCH),
        partial(store.delete_expired, default_days=KEEP_DAYS, most=BATCH),
    ):
        while await services.db.engine(remove) == BATCH:
            pass
    objects = [""] * BATCH
    while len(objects) == BATCH:
        try:
            objects = await services.db.engine(store.delete_unnamed_blobs, ABANDONED_S, BATCH)
        except BadData:
            return  # one of them has just been named again; the next time
        for name in objects:
            await recording_files.blobs.delete(name)
        COUNTERS["recordings_removed"] += len(objects)


async def _sweep(services: Services, recording_files: RecordingFiles) -> None:
    """Objects that no row names: left by a crash between the file and its row."""
    async for names in recording_files.blobs.old_names(ABANDONED_S):
        if not names:
            continue
        pairs = [(name.partition("/")[0], name) for name in names]
        known = await services.db.engine(store.select_known_objects, pairs)
        for name in names:
            if name not in known:
                log.info("abandoned recording removed", extra={"tenant": name.partition("/")[0]})
                await recording_files.blobs.delete(name)
