"""A manager interface that plays bytes: captures at full speed, or calls cut from a capture at a given pace.

It answers what a client asks at the start (Login, CoreShowChannels, Ping) and then sends. It judges nothing.
"""

import gzip
import re
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from functools import cache, partial
from pathlib import Path

import trio

FIXTURES = Path(__file__).parent.parent / "fixtures" / "asterisk" / "22"
BANNER = b"Asterisk Call Manager/11.0.0\r\n"
OVER = b"Event: BenchOver\r\nPrivilege: system,all\r\n\r\n"
AT_ONCE = "at-once"
"""A client that logs in under this name is sent events behind the answer; others once they have asked for channels."""

_ACTION = re.compile(rb"(?im)^(Action|ActionID|Username): ([^\r\n]*)\r?$")


class Sender:
    """The way to one client, for the play and the answers alike."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._lock = trio.Lock()

    async def send_all(self, data: bytes) -> None:
        """One after the other."""
        async with self._lock:
            await self._stream.send_all(data)


Play = Callable[[Sender], Awaitable[None]]


@cache
def load_run(calls: int = 400) -> bytes:
    """The captured load run (43,281 events of 400 calls), from behind the login to before the goodbye; with fewer
    calls, its first part."""
    data = gzip.decompress((FIXTURES / "20-load-sip.ami.gz").read_bytes())
    frames = data.split(b"\r\n\r\n")[3:-2]
    return b"".join(frame + b"\r\n\r\n" for frame in frames[: len(frames) * calls // 400])


async def serve_client(play: Play, stream: trio.SocketStream) -> None:
    """One client: its questions, then the play; then the connection ends."""
    sender = Sender(stream)
    async with stream:
        await sender.send_all(BANNER)
        buffer, username = b"", ""
        async with trio.open_nursery() as nursery:
            try:
                while data := await stream.receive_some():
                    *actions, buffer = (buffer + data).split(b"\r\n\r\n")
                    for action in actions:
                        said = {name.lower(): value for name, value in _ACTION.findall(action)}
                        answer = b"Response: Success\r\nActionID: " + said.get(b"actionid", b"") + b"\r\n"
                        match said.get(b"action"):
                            case b"Login":
                                username = said.get(b"username", b"").decode()
                                await sender.send_all(answer + b"Message: Authentication accepted\r\n\r\n")
                                if username == AT_ONCE:
                                    nursery.start_soon(_playing, play, sender, nursery.cancel_scope)
                            case b"CoreShowChannels":
                                end = b"Event: CoreShowChannelsComplete\r\nEventList: Complete\r\nListItems: 0\r\n\r\n"
                                await sender.send_all(answer + b"EventList: start\r\n\r\n" + end)
                                nursery.start_soon(_playing, play, sender, nursery.cancel_scope)
                            case _:
                                await sender.send_all(answer + b"Ping: Pong\r\n\r\n")
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass
            nursery.cancel_scope.cancel()


async def _playing(play: Play, stream: Sender, scope: trio.CancelScope) -> None:
    with suppress(trio.BrokenResourceError):
        await play(stream)
    scope.cancel()


async def send_whole(data: bytes, stream: Sender) -> None:
    """All of it, as fast as the client takes it, and the mark of the end."""
    for start in range(0, len(data), 65536):
        await stream.send_all(data[start : start + 65536])
    await stream.send_all(OVER)


async def serve_ami(play: Play, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
    """Runs until cancelled; tells its port on loopback."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(trio.serve_listeners, partial(serve_client, play), listeners))
        task_status.started(listeners[0].socket.getsockname()[1])


# Calls at a pace -----------------------------------------------------------------------------------------------------


class CallScript:
    """One real incoming call (150 and 151 ring, 150 answers, the client hangs up) that can be told of any number of
    calls: the frames until both phones ring, those until the answer, and the rest."""

    RINGING, ANSWER = 45, 73

    def __init__(self) -> None:
        frames = (FIXTURES / "01-incoming-answered.ami").read_bytes().split(b"\r\n\r\n")
        first = next(n for n, frame in enumerate(frames) if b"1795219998.3600" in frame)
        parts = (frames[first : self.RINGING], frames[self.RINGING : self.ANSWER], frames[self.ANSWER : -2])
        self._parts = [b"".join(frame + b"\r\n\r\n" for frame in part) for part in parts]
        self._ids = re.compile(rb"1795219998\.360([012])|(?<=-)000004b([012])|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}")

    def call(self, epoch: int, number: int) -> tuple[str, bytes, bytes, bytes]:
        """The id of the call and its three parts."""

        def renamed(found: re.Match[bytes]) -> bytes:
            if found[1]:
                return b"%d.%d" % (epoch, number * 3 + int(found[1]))
            if found[2]:
                return b"%08x" % (number * 3 + int(found[2]))
            return b"%08x%s" % (number, found[0][8:])

        ring, answer, end = (self._ids.sub(renamed, part) for part in self._parts)
        return f"{epoch}.{number * 3}", ring, answer, end


def frames_in(parts: Iterable[bytes]) -> int:
    """How many messages there are in these bytes."""
    return sum(part.count(b"\r\n\r\n") for part in parts)
