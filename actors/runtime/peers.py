"""Messages between instances of the gateway, by NOTIFY on the database they share.

    mark    a hint that may be sent often: gathered for a moment, each text once          "0367 has posts"
    emit    a hint that cannot wait                                                       "an order is admitted"
    ask     a request to the owner of a tenant, or to all; returns the responses that came in time

Hints may be lost: what must not be lost is in a table, and every reader also polls. Responses are for a person or a call that
waits. An instance without others sends nothing. Read `actors/runtime/ownership.py` for who owns what, and
https://www.postgresql.org/docs/current/sql-notify.html for the limits.
"""

import json
import logging
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import trio

from actors.runtime.directory import Slot
from gateway.domain.errors import GatewayError, Unavailable
from gateway.domain.health import State
from gateway.store.postgres.pool import Database
from gateway.store.shards import notify
from gateway.telemetry import COUNTERS

log = logging.getLogger(__name__)

CHANNEL = "gateway_peers"
GATHER_S = 0.05
MARKS_AT_ONCE = 500
PIECE = 7000
"""Characters, all of them ASCII; a payload is shorter than 8,000 bytes."""
MOST_PIECES = 200
MOST_PARTIAL = 50
ASKED_ROOM = 100
ASK_WITHIN_S = 1.5

Receive = Callable[[Sequence[str]], None]
Answer = Callable[[Any], Awaitable[Any]]


@dataclass(slots=True)
class _Question:
    wanted: int
    answers: list[Any] = field(default_factory=list)
    done: trio.Event = field(default_factory=trio.Event)


@dataclass
class Peers:
    """One for the process; runs under supervision. `receive` and `answer` are filled at set-up."""

    db: Database
    me: str
    others: Callable[[], int]
    """How many other instances are alive."""
    receive: dict[str, Receive] = field(default_factory=dict)
    answer: dict[str, Answer] = field(default_factory=dict)
    """Response to a request by its kind; None sends no response, since the request was for another instance."""
    _marks: dict[str, dict[str, None]] = field(default_factory=dict)
    _marked: trio.Event = field(default_factory=trio.Event)
    _questions: dict[str, _Question] = field(default_factory=dict)
    _partial: OrderedDict[str, list[str]] = field(default_factory=OrderedDict)

    def __post_init__(self) -> None:
        self._send, self._requested = trio.open_memory_channel[tuple[str, str, Any]](ASKED_ROOM)

    # Sending.

    def mark(self, kind: str, text: str) -> None:
        """Never waits. Without other instances, or with too many marks pending, the mark is dropped."""
        if self.others():
            marks = self._marks.setdefault(kind, {})
            if len(marks) < MARKS_AT_ONCE:
                marks[text] = None
            self._marked.set()

    async def emit(self, kind: str, *texts: str) -> None:
        """Raises Unavailable where it could not be sent."""
        await self._text({"hear": {kind: texts}})

    async def ask(
        self, kind: str, what: Any, *, all_of_them: bool = False, within_s: float = ASK_WITHIN_S
    ) -> list[Any]:
        """The responses that came in time; may be empty. Never raises for a database that is away."""
        if not (others := self.others()):
            return []
        name = secrets.token_hex(8)
        question = self._questions[name] = _Question(others if all_of_them else 1)
        try:
            with trio.move_on_after(within_s):
                await self._text({"ask": name, "kind": kind, "what": what})
                await question.done.wait()
        except Unavailable as error:
            log.warning("no request to the other instances", extra={"kind": kind, "reason": error.detail})
        finally:
            del self._questions[name]
        return question.answers

    def hint(self, kind: str, *texts: str) -> list[str]:
        """The notifications that `emit` would send, for a caller that sends them within its own transaction."""
        return self._pieces({"hear": {kind: texts}})

    async def _text(self, message: dict[str, Any]) -> None:
        await self.db.engine(notify, CHANNEL, self._pieces(message))

    def _pieces(self, message: dict[str, Any]) -> list[str]:
        text = json.dumps(message, default=_plain)
        pieces = [text[at : at + PIECE] for at in range(0, len(text), PIECE)]
        if len(pieces) > MOST_PIECES:
            raise Unavailable("too long for the other instances")
        head = f"{self.me} {secrets.token_hex(4)}"
        return [f"{head} {n} {len(pieces)} {piece}" for n, piece in enumerate(pieces)]

    # Receiving.

    def received(self, payload: str) -> None:
        """A notification. Never waits, and never raises for messages of another version of the gateway."""
        sender, _, rest = payload.partition(" ")
        if sender == self.me:
            return
        try:
            message = self._whole(sender, rest)
            if message is None:
                return
            for kind, texts in message.get("hear", {}).items():
                if kind in self.receive:
                    self.receive[kind]([str(text) for text in texts])
            if "ask" in message and message.get("kind") in self.answer:
                self._send.send_nowait((message["ask"], message["kind"], message["what"]))
            if (question := self._questions.get(message.get("answer", ""))) is not None:
                question.answers.append(message["what"])
                if len(question.answers) >= question.wanted:
                    question.done.set()
        except trio.WouldBlock:
            COUNTERS["peers_not_answered"] += 1
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("a message of another instance cannot be read", extra={"reason": type(error).__name__})

    def _whole(self, sender: str, rest: str) -> dict[str, Any] | None:
        """The message, once its last piece is here. Pieces of one message come in order."""
        name, number, count, piece = rest.split(" ", 3)
        pieces = self._partial.setdefault(f"{sender} {name}", [])
        pieces.append(piece)
        if len(pieces) < int(count):
            if len(self._partial) > MOST_PARTIAL or len(pieces) > MOST_PIECES or int(number) + 1 != len(pieces):
                self._partial.popitem(last=False)
            return None
        del self._partial[f"{sender} {name}"]
        found = json.loads("".join(pieces), object_hook=_rich)
        return found if isinstance(found, dict) else None

    # Running.

    async def run(self, slot: Slot) -> None:
        """Until cancelled."""
        slot.report(State.ONLINE)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._pass_marks_on)
            async for name, kind, what in self._requested:
                if len(nursery.child_tasks) <= ASKED_ROOM:
                    nursery.start_soon(self._reply, name, kind, what)
                else:
                    COUNTERS["peers_not_answered"] += 1

    async def _pass_marks_on(self) -> None:
        while True:
            await self._marked.wait()
            await trio.sleep(GATHER_S)
            self._marked = trio.Event()
            marks, self._marks = self._marks, {}
            try:
                await self._text({"hear": {kind: list(texts) for kind, texts in marks.items()}})
            except Unavailable:
                COUNTERS["peers_not_told"] += 1

    async def _reply(self, name: str, kind: str, what: Any) -> None:
        try:
            found = await self.answer[kind](what)
            if found is not None:
                await self._text({"answer": name, "what": found})
        except GatewayError as error:
            log.warning("another instance gets no response", extra={"kind": kind, "reason": error.detail})


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return {"$at": value.isoformat()}
    raise TypeError(type(value).__name__)


def _rich(value: dict[str, Any]) -> Any:
    return datetime.fromisoformat(value["$at"]) if value.keys() == {"$at"} else value
