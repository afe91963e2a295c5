"""A TCP relay on loopback whose links can be reset, held up, or left half open. It never looks at what it carries."""

import socket
import struct
from contextlib import suppress
from dataclasses import dataclass, field

import trio

GONE = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)


@dataclass(eq=False)
class Pair:
    """One link: who connected, and the connection made for them."""

    near: trio.SocketStream
    far: trio.SocketStream
    dead: trio.Event = field(default_factory=trio.Event)
    """Set when the far side is gone and the near side is not to know."""


class Proxy:
    """`port = await nursery.start(proxy.serve)`; `target` may be set later and changed."""

    def __init__(self, target: tuple[str, int] | None = None) -> None:
        self.target = target
        self.port = 0
        self.pairs: set[Pair] = set()
        self.connections = 0
        """How many links were ever made."""
        self._flows = trio.Event()
        self._flows.set()

    async def serve(self, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
        """Runs until cancelled on a free loopback port and starts with its number."""
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        async with trio.open_nursery() as nursery:
            await nursery.start(trio.serve_listeners, self._link, listeners)
            self.port = int(listeners[0].socket.getsockname()[1])
            task_status.started(self.port)

    def cut(self) -> int:
        """Resets every link on both sides. Returns how many there were."""
        pairs = list(self.pairs)
        for pair in pairs:
            for stream in (pair.near, pair.far):
                reset(stream)
        return len(pairs)

    def stall(self, stalled: bool = True) -> None:
        """Nothing passes in either direction until `stall(False)`; nothing is lost by it."""
        if stalled:
            self._flows = trio.Event()
        else:
            self._flows.set()

    def half_open(self) -> int:
        """The far side of every link is gone, and the near side is never told: what it sends is swallowed. New links
        are as ever. Returns how many there were."""
        pairs = list(self.pairs)
        for pair in pairs:
            pair.dead.set()
            reset(pair.far)
        return len(pairs)

    async def _link(self, near: trio.SocketStream) -> None:
        try:
            if self.target is None:
                raise OSError("nobody to connect to")
            far = await trio.open_tcp_stream(*self.target)
        except OSError:
            reset(near)
            return
        pair = Pair(near, far)
        self.pairs.add(pair)
        self.connections += 1
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._pump, pair, near, far, nursery.cancel_scope)
                nursery.start_soon(self._pump, pair, far, near, nursery.cancel_scope)
        finally:
            self.pairs.discard(pair)
            for stream in (near, far):
                with trio.CancelScope(shield=True):
                    await trio.aclose_forcefully(stream)

    async def _pump(
        self, pair: Pair, source: trio.SocketStream, sink: trio.SocketStream, scope: trio.CancelScope
    ) -> None:
        """One direction. The end of either direction ends the link, but for one that is half open."""
        try:
            while True:
                data = await source.receive_some(65536)
                await self._flows.wait()
                if pair.dead.is_set():
                    break
                if not data:
                    break
                await sink.send_all(data)
        except GONE:
            pass
        if pair.dead.is_set():
            if source is pair.far:
                return  # the other direction swallows until the near side gives up
            with suppress(*GONE):
                while await source.receive_some(65536):
                    pass
        scope.cancel()


def reset(stream: trio.SocketStream) -> None:
    """Ends a connection by RST, as a process that died or a wall between would."""
    with suppress(OSError):
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()
