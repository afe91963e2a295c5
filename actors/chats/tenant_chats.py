"""One tenant's chats: reads updates of its messengers from the journal, in order, and commits what becomes of them.

    webhook or stream --> journal (durable, repeats known) --> this actor --> one commit: contacts, conversations, messages, updates done

What an update holds is its adapter's to say (`ChatChannel.events`); what follows from it is decided by `gateway.domain.chat_fold`. An
update that cannot be understood, or that the database refuses, becomes a dead letter; the others go on. Like the actor of calls
it writes under the epoch of the tenant's shard: an actor that another instance has replaced changes nothing.
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from types import MappingProxyType
from typing import Any
from uuid import uuid4

import trio

from actors.chats.inbox import ADDRESS
from actors.runtime.directory import Slot
from actors.runtime.supervisor import Crash, contained, outcome_of
from actors.services import CHATS, Services
from adapters.channel import ChatChannel
from gateway import __version__
from gateway.domain.ai import AiBlock
from gateway.domain.chat_fold import Book, Changes
from gateway.domain.chats import OWNER_AI, OWNER_NONE, OWNER_QUEUE, ChatEvent
from gateway.domain.configuration import Connector, Tenant
from gateway.domain.errors import Unavailable
from gateway.domain.health import State
from gateway.domain.ids import IntegrationKey
from gateway.domain.profile import is_open
from gateway.domain.subjects import Subject
from gateway.store.business_profiles import select_profile
from gateway.store.chat_batches import Folded, Received, Replaced, fold_updates
from gateway.store.dead_letters import DeadLetterRow, insert_dead_letters
from gateway.store.journal import PendingPost, select_pending_posts
from gateway.store.postgres.errors import Conflict
from gateway.store.postgres.pool import Connection
from gateway.telemetry import COUNTERS, bound

log = logging.getLogger(__name__)

STREAM = "chats"
AT_ONCE = 200
LOOK_EVERY_S = 30.0
LOOK_BACK_S = 5.0
"""After news the journal is read once more: a row may be committed behind one that was read."""
WAITING_S = 0.5
"""Pause before updates that have to wait are looked at again."""
RETRY_CAP_S = 5.0
TRIES = 5
"""Of a commit that lost a race for a new conversation."""


@dataclass(frozen=True, slots=True)
class Reads:
    """One integration that may have updates in the journal."""

    channel: ChatChannel | None
    """None where its updates say nothing of conversations."""
    settings: Any


class TenantChats:
    """Runs under supervision, one for each tenant with a messenger that people can write to."""

    def __init__(
        self, tenant: Tenant, services: Services, epoch: int, channels: Mapping[IntegrationKey, Reads] | None = None,
        ai: AiBlock | None = None, crms: Mapping[IntegrationKey, Connector] = MappingProxyType({}),
    ) -> None:  # fmt: skip
        """`crms`: the integrations that may be sent of the company's clients."""
        self.tenant = tenant
        self.company = replace(tenant, integrations=crms)
        self.services = services
        self.epoch = epoch
        self.channels = dict(channels or {})
        self.ai = ai

    async def run(self, slot: Slot) -> None:
        """Until cancelled."""
        number, bells = self.tenant.number, self.services.bells
        pause, wait_s = 0.2, 0.0
        with bound(tenant=number):
            while True:
                bell = bells.listen(number, CHATS)
                try:
                    found, waiting = await self._once(slot)
                except Unavailable:
                    slot.report(State.DEGRADED, "database_away")
                    await trio.sleep(pause)
                    pause = min(pause * 2, RETRY_CAP_S)
                    continue
                except Replaced:
                    COUNTERS["stale_writes_refused"] += 1
                    log.warning("a stale write was refused: the tenant is another instance's")
                    slot.report(State.STOPPED, "another_instance")
                    await trio.sleep_forever()
                slot.report(State.ONLINE)
                pause = 0.2
                if found == AT_ONCE and not waiting:
                    continue
                wait_s = WAITING_S if waiting else LOOK_BACK_S if found else LOOK_EVERY_S
                with trio.move_on_after(wait_s):
                    await bell.wait()

    async def _once(self, slot: Slot) -> tuple[int, int]:
        """Reads what waits and commits the results. Returns the number of rows, and of those that have to wait."""
        number, db = self.tenant.number, self.services.db
        (waiting,) = await db.engine(select_pending_posts, [(number, 0)], AT_ONCE, STREAM)
        updates = list[Received]()
        for post in waiting:
            events = contained(partial(self._events, post))
            if isinstance(events, Crash):
                await self._set_aside(slot, post.journal_id, post.body, events.trace)
            else:
                key = IntegrationKey(post.address.removeprefix(ADDRESS))
                updates.append(Received(post.journal_id, post.received_at, key, post.unique_id, post.body, events))
        left = await self._commit(slot, updates) if updates else 0
        return len(waiting), left

    def _events(self, post: PendingPost) -> tuple[ChatEvent, ...]:
        """What an update holds. Raises ValueError for one that cannot be understood."""
        reads = self.channels.get(IntegrationKey(post.address.removeprefix(ADDRESS)))
        if reads is None:
            raise ValueError(
                "the integration is switched off, or its settings are wrong: process this again afterwards"
            )
        return () if reads.channel is None else tuple(reads.channel.events(_object(post.body), reads.settings))

    async def _commit(self, slot: Slot, updates: Sequence[Received]) -> int:
        """Commits updates, or the halves of what is refused, until the one that is at fault stands alone. Returns how many wait."""
        answer: Folded | Exception = Conflict("conversations")
        owner_of = await self._owners()
        for _ in range(TRIES):
            book = Book(owner_of, uuid4)
            woken = list[IntegrationKey]()
            fold = partial(
                self.services.db.engine, fold_updates, self.tenant.number, self.epoch, updates, book, datetime.now(UTC),
                partial(self._tell_crms, woken),
            )  # fmt: skip
            answer = await outcome_of(fold)
            if not isinstance(answer, Conflict):
                break
        if isinstance(answer, Folded):
            COUNTERS["chat_messages_received"] += answer.stored
            for key in woken:
                self.services.bells.ring(self.tenant.number, key)
            for conversation in answer.touched:
                self.services.feed.publish(self.tenant.number, Subject("chat", str(conversation)))
            return answer.waiting
        if isinstance(answer, Unavailable | Replaced):
            raise answer
        if len(updates) > 1:
            middle = len(updates) // 2
            return await self._commit(slot, updates[:middle]) + await self._commit(slot, updates[middle:])
        await self._set_aside(slot, updates[0].journal_id, updates[0].body, f"{type(answer).__name__}: {answer}")
        return 0

    async def _tell_crms(self, woken: list[IntegrationKey], conn: Connection, changes: Changes) -> None:
        """Plans what CRMs are sent of clients of whom something has become known."""
        known = {one for one, _ in (*changes.phones, *changes.typed_phones, *changes.emails)} | set(changes.names)
        known |= {into for into, _ in changes.merges}
        if known and self.company.integrations and (conversing := self.services.conversing) is not None:
            woken += await conversing.crm.contacts(conn, self.company, known)

    async def _owners(self) -> Callable[[IntegrationKey], str]:
        """Whose a conversation is that begins now, by its integration."""
        ai = self.ai
        if ai is None or not ai.enabled:
            return lambda key: OWNER_NONE
        number, works = self.tenant.number, True
        if ai.hours != "always":
            profile = await self.services.db.tenant(number, select_profile, number)
            works = ai.works_at(is_open(profile, datetime.now(self.tenant.timezone)))
        return lambda key: OWNER_NONE if not ai.answers_in(key) else OWNER_AI if works else OWNER_QUEUE

    async def _set_aside(self, slot: Slot, journal_id: int, body: str, trace: str) -> None:
        log.error("an update is set aside", extra={"journal_id": journal_id})
        COUNTERS["chat_updates_set_aside"] += 1
        row = DeadLetterRow(self.tenant.number, slot.path, body, trace, journal_id)
        await self.services.db.engine(insert_dead_letters, [row], __version__)


def _object(body: str) -> Mapping[str, Any]:
    found = json.loads(body)
    if not isinstance(found, dict):
        raise ValueError("an update is an object")
    return found
