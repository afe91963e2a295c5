"""The bytes of one AMI connection: reading that waits for nobody, and actions with their answers.

    read (its own task) --> Backlog --> parse --> receive, ask, ask_list (the session's task)

Asterisk ends a session whose reader keeps it waiting for its write timeout, 100 ms by default, so `read` does nothing but put
bytes into the backlog. Reading ends when the PBX has gone, or is given up for silence; what had come is parsed first.
Bytes are parsed a step at a time, and others run between two steps. What waits for an answer to end has a limit of memory.
Knows no calls. Read `session.py` next for what is requested and what becomes of it.
"""

from datetime import UTC, datetime

import trio
import trio.lowlevel
from trio.abc import Stream

from adapters.asterisk.calls import MARKED, WANTED
from adapters.asterisk.protocol import Framer, Message, action_ids, encode_action
from adapters.asterisk.settings import AsteriskSettings
from adapters.backlog import Backlog
from adapters.spills import Spills
from gateway.domain.errors import RemoteProtocolError, Unavailable

READ_SIZE = 64 * 1024
"""How much is read at once."""
STEP = 32 * 1024
"""How much is parsed before others run: about 75 frames of Asterisk's, or 6,500 of the shortest there can be (11 ms)."""
MAX_WAITING = 64 * 1024 * 1024
"""How much memory may be held while an answer is waited for: a list of ten thousand channels, with the events beside it."""
LISTENED = frozenset((b"CoreShowChannel", b"CoreShowChannelsComplete", b"OriginateResponse", b"ShowDialPlanComplete"))
"""What the session itself reads, beside the tracker."""


class Wire:
    """The bytes of one connection: a reader, a backlog, actions and their answers."""

    def __init__(self, stream: Stream, settings: AsteriskSettings, spills: Spills | None = None) -> None:
        self._stream = stream
        self._settings = settings
        self._framer = Framer(WANTED | LISTENED, MARKED)
        self._ids = action_ids()
        self.backlog = Backlog(settings.buffer_mib * 1024 * 1024, spills)
        self.received_at_s = _now()
        """When what was parsed last had come."""
        self.read_gap_s = 0.0
        self._read_at = trio.current_time()
        self._reading = trio.CancelScope()
        self._read_all = False
        self._end = "the PBX closed the connection"
        self._aside: list[Message] = []
        """Events that came while an answer was waited for."""
        self._counted = 0
        self._sending = trio.Lock()

    @property
    def banner(self) -> str:
        """What the server calls itself."""
        return self._framer.banner or ""

    @property
    def behind(self) -> bool:
        """Whether bytes wait that were not parsed yet."""
        return len(self.backlog) > 0

    async def read(self) -> None:
        """Only reads. Runs until the peer is gone or given up; what came before is still parsed.

        Raises Unavailable when neither memory nor disk hold what comes.
        """
        more = False
        try:
            with self._reading:
                while True:
                    data = await self._stream.receive_some(READ_SIZE)
                    if not data:
                        return
                    now = trio.current_time()
                    if more:  # the read before was full: this one had nothing to wait for
                        self.read_gap_s = max(self.read_gap_s, now - self._read_at)
                    self._read_at, more = now, len(data) >= READ_SIZE
                    self.backlog.put_nowait(data, _now())
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return
        finally:
            self._read_all = True
            self.backlog.close()

    def _give_up(self, reason: str) -> None:
        """No more is read. Once what has come was parsed, the session ends with this reason."""
        if not self._read_all:
            self._end = reason
            self._reading.cancel()

    async def keep_alive(self) -> None:
        """Pings, which also wakes a manager thread that overslept. Ends the reading after too long a silence."""
        settings = self._settings
        while not self._read_all:
            await trio.sleep(settings.ping_every_s)
            if trio.current_time() - self._read_at > settings.dead_after_s:
                return self._give_up(f"not a byte for {settings.dead_after_s:g} s")
            with trio.move_on_after(settings.dead_after_s) as scope:
                try:
                    await self.send("Ping")
                except Unavailable as error:
                    return self._give_up(error.detail)
            if scope.cancelled_caught:
                return self._give_up(f"it takes nothing from us for {settings.dead_after_s:g} s")
        return None

    async def send(self, action: str, *headers: tuple[str, str]) -> str:
        """Sends one action, returns its ActionID."""
        action_id = next(self._ids)
        data = encode_action(action, (("ActionID", action_id), *headers))
        async with self._sending:
            try:
                await self._stream.send_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                raise Unavailable("the connection broke") from None
        return action_id

    async def greeting(self) -> None:
        """Waits until the other end has called itself an Asterisk manager. Raises Unavailable or RemoteProtocolError."""
        while self._framer.banner is None:
            self._aside += await self._next()

    async def ask(self, action: str, *headers: tuple[str, str]) -> Message:
        """Sends one action, returns its answer. Events that come meanwhile wait for `receive`. Raises RemoteProtocolError
        when more of them come than Asterisk sends while it answers."""
        action_id = await self.send(action, *headers)
        before = self._framer.cost
        while True:
            batch = await self._next()
            self._check_waiting(before)
            for number, message in enumerate(batch):
                if message.get("ActionID") == action_id and "Response" in message:
                    self._aside += batch[number + 1 :]
                    return message
                self._aside.append(message)

    async def ask_list(
        self, action: str, item: str, end: str, *headers: tuple[str, str]
    ) -> tuple[Message, list[Message]]:
        """The answer to an action that makes a list, and the list. Raises like `ask`, also for a list without end."""
        before = self._framer.cost
        answer = await self.ask(action, *headers)
        items: list[Message] = []
        if answer.get("Response") != "Success":
            return answer, items
        stored: list[Message] = []
        batch, self._aside = self._aside, []
        while True:
            for number, message in enumerate(batch):
                event = message.get("Event")
                if event == end:
                    self._aside = stored + batch[number + 1 :]
                    return answer, items
                (items if event == item else stored).append(message)
            batch = await self._next()
            self._check_waiting(before)

    async def wait_event(self, event: str, action_id: str) -> Message:
        """The event of this name that an action makes. Raises like `ask`."""
        before = self._framer.cost
        batch, self._aside = self._aside, []
        while True:
            for number, message in enumerate(batch):
                if message.get("Event") == event and message.get("ActionID") == action_id:
                    self._aside += batch[number + 1 :]
                    return message
                self._aside.append(message)
            batch = await self._next()
            self._check_waiting(before)

    async def receive(self) -> list[Message]:
        """The next messages, in order."""
        if self._aside:
            batch, self._aside = self._aside, []
            return batch
        return await self._next()

    def take_count(self) -> int:
        """How many frames came since the last time."""
        count, self._counted = self._framer.frames - self._counted, self._framer.frames
        return count

    async def _next(self) -> list[Message]:
        try:
            chunk = await self.backlog.take()
        except trio.EndOfChannel:
            raise Unavailable(self._end) from None
        self.received_at_s = chunk.at
        messages: list[Message] = []
        for start in range(0, len(chunk.data), STEP):
            if start:  # not to be cancelled here: what was parsed would be lost
                await trio.lowlevel.cancel_shielded_checkpoint()
            messages += self._framer.feed(chunk.data[start : start + STEP])
        return messages

    def _check_waiting(self, before: int) -> None:
        if self._framer.cost - before > MAX_WAITING:
            raise RemoteProtocolError(
                "more came beside an answer than Asterisk ever sends", code="asterisk_too_much", shown=""
            )


def _now() -> datetime:
    return datetime.now(UTC)
