"""Fetches the files that came with messages.

    expected --> the integration's client (`FetchesFiles`) --> sealed store --> stored         pages are notified
        ^ |                                                                 \\-> failed         with the reason
        +-+ again, slower each time, for as long as the messenger gives the file (`Capabilities.fetch_within_s`)

Any instance may fetch a file: nothing is sent to anybody by it. What a file is, its bytes say. Read
`gateway/store/files/chat_files.py` next.
"""

import logging
from collections.abc import Callable, Sequence
from datetime import datetime

import trio

from actors.fetching import Fetching
from actors.runtime.directory import utc_now
from actors.services import Services
from adapters.base import AdapterSettings
from adapters.channel import FetchesFiles
from adapters.registry import Linked, linked
from gateway.domain.chats import LARGEST_FILE
from gateway.domain.configuration import Tenant
from gateway.domain.errors import GatewayError, NeedsAttention, Permanent, TooLarge, Unavailable
from gateway.domain.ids import IntegrationKey
from gateway.domain.subjects import Subject
from gateway.store import chat_files as store
from gateway.store.chat_files import FileFetch
from gateway.store.files.chat_files import ChatFiles
from gateway.telemetry import COUNTERS, bound

log = logging.getLogger(__name__)

AT_ONCE = 16
OF_ONE_TENANT = 4
FETCH_S = 150.0
"""Seconds for one file as a whole: 20 MiB over a slow line."""
LEASE_S = FETCH_S + 30.0
FIRST_DELAYS_S = (1.0, 2.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0)
DELAY_CAP_S = 900.0
LAST_S = 30.0
"""Seconds before the end of its time at which a file is tried once more, if that comes before its next try."""
UNKNOWN_S = 24 * 3600.0
"""For how long a file is tried whose channel is not known (any more)."""


def delay_s(tries: int) -> float:
    """Until the next try after so many."""
    return FIRST_DELAYS_S[tries - 1] if tries <= len(FIRST_DELAYS_S) else DELAY_CAP_S


def next_try_s(tries: int, left_s: float) -> float | None:
    """Until the next try after so many, where the messenger gives the file for another `left_s`; None: there is none."""
    wait_s = delay_s(tries)
    if wait_s <= left_s:
        return wait_s
    return left_s - LAST_S if left_s > 2 * LAST_S else None


class _SwitchedOffError(Unavailable):
    """The channel is switched off or not set up."""


class _EmptyError(Unavailable):
    """There was nothing in the file."""


class FileFetchActor(Fetching[FileFetch]):
    """Fetches files of messages."""

    most_at_once = AT_ONCE

    def __init__(
        self, services: Services, chat_files: ChatFiles, known: Callable[[IntegrationKey], Linked | None] = linked
    ) -> None:
        super().__init__(services)
        self._chat_files = chat_files
        self._linked = known

    async def claim(self, most: int) -> Sequence[FileFetch]:
        """A few of each tenant."""
        return await self._services.db.engine(store.claim_file_fetches, most, OF_ONE_TENANT, LEASE_S)

    async def release(self, before: datetime) -> None:
        """Of processes that have died."""
        await self._services.db.engine(store.release_file_fetches, before, LEASE_S)

    async def fetch(self, one: FileFetch) -> None:
        """One try, within its time."""
        with bound(tenant=one.tenant, integration=one.integration, chat=str(one.conversation)):
            try:
                if one.size is not None and one.size > LARGEST_FILE:
                    raise TooLarge
                with trio.move_on_after(FETCH_S) as patience:
                    await self._fetch(one)
                if patience.cancelled_caught:
                    raise Unavailable("the file came too slowly")
            except GatewayError as error:
                await self._note(one, error)

    def _channel(self, one: FileFetch) -> tuple[Tenant, Linked, AdapterSettings]:
        """Whose client fetches it. Raises _SwitchedOffError."""
        tenant, found = self._services.cache.tenant(one.tenant), self._linked(one.integration)
        link = tenant.integrations.get(one.integration) if tenant is not None else None
        if tenant is None or found is None or link is None or not link.enabled:
            raise _SwitchedOffError
        try:
            return tenant, found, found.adapter.settings.model_validate(dict(link.settings))
        except ValueError:
            raise _SwitchedOffError from None

    async def _fetch(self, one: FileFetch) -> None:
        tenant, found, settings = self._channel(one)
        link = self._services.link(tenant, found, settings, background=True)
        async with await self._chat_files.new_file() as incoming:
            async with found.adapter.connect(link, settings) as client:
                if not isinstance(client, FetchesFiles):
                    raise Permanent("this channel fetches no files")
                await client.fetch(one.remote, incoming.write, LARGEST_FILE)
            if not incoming.size:
                raise _EmptyError("the file is empty")
            filled = await self._chat_files.fill(one, await incoming.finish(one.name))
        if filled:
            COUNTERS["chat_files_fetched"] += 1
            self._services.feed.publish(one.tenant, Subject("chat", str(one.conversation)))

    async def _note(self, one: FileFetch, error: GatewayError) -> None:
        """The outcome of a failed try."""
        found = self._linked(one.integration)
        channel = found.adapter.chat if found is not None else None
        within_s = channel.capabilities.fetch_within_s if channel is not None else UNKNOWN_S
        left_s = within_s - (utc_now() - one.created_at).total_seconds()
        again = None if isinstance(error, Permanent) else next_try_s(one.tries, left_s)
        COUNTERS["chat_files_not_fetched"] += 1
        log.info("file not fetched", extra={"reason": error.detail, "tries": one.tries, "final": again is None})
        try:
            await self._services.db.engine(store.fail_file_fetch, one, _problem(error), again)
        except Unavailable:
            return  # the lease ends by itself, and it is tried again
        if again is None:
            self._services.feed.publish(one.tenant, Subject("chat", str(one.conversation)))


def _problem(error: GatewayError) -> str:
    """Of `gateway.domain.chats.FILE_PROBLEMS`."""
    match error:
        case TooLarge():
            return "too_large"
        case _SwitchedOffError():
            return "switched_off"
        case _EmptyError():
            return "empty"
        case NeedsAttention():
            return "refused"
        case Permanent():
            return "gone"
        case Unavailable():
            return "unavailable"
        case _:
            return "failed"
