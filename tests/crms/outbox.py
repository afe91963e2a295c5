"""The outbox in memory: drafts of a lane in order, each until it is delivered or refused for good. No pauses but the least.

What is planned and delivered is the adapter's own; the keys, lanes, repeats and remembered ids are as the real one has them
(`gateway/store/outbox.py`, `actors/delivery/worker.py`), so that a CRM is tried in thousandths of its time.
"""

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import trio

from adapters.base import Adapter, Attempt, Delivered, Draft
from gateway.domain.calls import Call, apply
from gateway.domain.configuration import Tenant
from gateway.domain.crm_facts import ChatFacts, ClientFacts, OrderFacts
from gateway.domain.errors import NeedsAttention, Permanent, RateLimited, Retryable
from gateway.domain.events import CallEvent
from gateway.domain.orders import Order
from gateway.domain.subjects import Subject, call_subject

PAUSE_S, LONGEST_PAUSE_S, MOST_TRIES = 0.005, 0.05, 150


class Died(BaseException):
    """The process was killed: raised by whoever plays a kill."""


@dataclass
class Ids:
    """External ids, durable at once."""

    outbox: "Outbox"
    subject: Subject

    async def remember(self, name: str, external_id: str, of: Subject | None = None) -> None:
        assert name
        assert 0 < len(external_id) <= 500
        self.outbox.ids[of or self.subject][name] = external_id

    async def known(self, name: str, of: Subject | None = None) -> str | None:
        return self.outbox.ids[of or self.subject].get(name)


@dataclass
class Outbox:
    """One integration's. `nursery` runs its lanes."""

    adapter: Adapter
    settings: Any
    tenant: Tenant
    client: Any
    nursery: trio.Nursery
    users: Mapping[str, str | None] = field(default_factory=dict)
    ids: dict[Subject, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    done: list[tuple[Draft, Delivered]] = field(default_factory=list)
    refused: list[tuple[Draft, Exception]] = field(default_factory=list)
    attention: list[Exception] = field(default_factory=list)
    """What would have stopped the integration until a person or a while came."""
    calls: dict[str, Call] = field(default_factory=dict)
    took_s: dict[str, float] = field(default_factory=dict)
    """From a lane's first draft to its delivery: of a call, from the ring to its card."""
    _keys: set[str] = field(default_factory=set)
    _put_at: dict[str, float] = field(default_factory=dict)
    _lanes: dict[str, deque[tuple[Subject, Draft]]] = field(default_factory=dict)
    _idle: trio.Event = field(default_factory=trio.Event)

    # What happens.

    def call(self, *events: CallEvent) -> None:
        """Events of calls."""
        assert self.adapter.plan_call is not None
        for event in events:
            before = self.calls.get(event.call_id)
            if (after := apply(before, event)) is None:
                continue
            self.calls[event.call_id] = after
            self.put(
                call_subject(event.call_id), self.adapter.plan_call(self.settings, self.tenant, before, after, event)
            )

    def contact(self, client: ClientFacts) -> None:
        """Something of a client has become known."""
        assert self.adapter.plan_contact is not None
        self.put(Subject("contact", client.id), self.adapter.plan_contact(self.settings, self.tenant, client))

    def chat(self, chat: ChatFacts) -> None:
        """A chat was closed or handed over."""
        assert self.adapter.plan_chat is not None
        self.put(Subject("chat", chat.id), self.adapter.plan_chat(self.settings, self.tenant, chat))

    def order(self, before: Order | None, order: OrderFacts) -> None:
        """An order was made or has changed."""
        assert self.adapter.plan_order is not None
        self.put(
            Subject("order", str(order.order.id)), self.adapter.plan_order(self.settings, self.tenant, before, order)
        )

    # Delivering.

    def put(self, subject: Subject, drafts: Iterable[Draft]) -> None:
        """Drafts of one commit; a key that is known is dropped."""
        for draft in drafts:
            if draft.key in self._keys:
                continue
            self._keys.add(draft.key)
            self._put_at[draft.key] = trio.current_time()
            lane = draft.lane or str(subject)
            waiting = self._lanes.get(lane)
            if waiting is not None:
                waiting.append((subject, draft))
                continue
            self._lanes[lane] = deque([(subject, draft)])
            self.nursery.start_soon(self._run, lane)

    async def idle(self, within_s: float = 60.0) -> None:
        """Until everything is delivered or refused."""
        with trio.fail_after(within_s):
            while self._lanes:
                self._idle = trio.Event()
                await self._idle.wait()

    async def _run(self, lane: str) -> None:
        waiting = self._lanes[lane]
        while waiting:
            await self._one(*waiting[0], lane)
            waiting.popleft()
        del self._lanes[lane]
        self._idle.set()

    async def _one(self, subject: Subject, draft: Draft, lane: str) -> None:
        number = 1
        for _ in range(MOST_TRIES):
            attempt = Attempt(
                kind=draft.kind, key=draft.key, lane=lane, body=draft.body, number=number, users=lambda: self.users, ids=Ids(self, subject),
                bucket=draft.bucket,
            )  # fmt: skip
            pause_s = PAUSE_S
            try:
                self.done.append((draft, await self.client.deliver(attempt)))
                self.took_s.setdefault(lane, trio.current_time() - self._put_at[draft.key])
                return
            except Permanent as error:
                self.refused.append((draft, error))
                return
            except NeedsAttention as error:
                self.attention.append(error)
                number += 1
            except Retryable as error:
                pause_s = min(max(PAUSE_S, error.after_s or 0.0), LONGEST_PAUSE_S)
                number += not isinstance(error, RateLimited)
            await trio.sleep(pause_s)
        raise AssertionError(f"{draft.kind} of {subject} was not delivered in {MOST_TRIES} attempts")
