"""Whether this process is healthy: the condition for messages to systemd's watchdog, beside the running event loop.

A restart repairs a process that is stuck. It does not repair a database that is away, a PBX that is off, or a network: these are
states, the gateway goes on by itself, and a restart would only lose sight of the calls that are going on. So:

    the database answered lately, or refused lately                well
    nothing came back at all for DATABASE_S                        ill: our way to it is stuck
    a PBX reader that is online took in nothing for READER_S       ill: Asterisk answers a ping every few seconds

A reader may lag behind a database that is away, so readers are judged only while it answers. Read `gateway.readiness` next.
"""

import trio

from actors.runtime.directory import Directory
from gateway.domain.health import State

DATABASE_S = 60.0
"""Twice a connect and a command, each at its own limit, fit into it."""
READER_S = 60.0


class Vitals:
    """Holds the times that matter; read by the loop itself."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._tried_at = trio.current_time()
        self._away = False
        self._readers: dict[str, tuple[object, float]] = {}
        """Path of a PBX's slot -> how many frames it had read, and since when it is so many."""

    def database_tried(self, *, away: bool) -> None:
        """A round trip has come back: with an answer, or with the news that there is none."""
        self._tried_at = trio.current_time()
        self._away = away

    def ailment(self) -> str:
        """Why a restart is due; empty while it is not."""
        now = trio.current_time()
        slow = self._slowest_reader(now)
        if now - self._tried_at > DATABASE_S:
            return f"no round trip to the database came back for {now - self._tried_at:.0f} s"
        return slow

    def _slowest_reader(self, now: float) -> str:
        readers: dict[str, tuple[object, float]] = {}
        for slot in self._directory.below():
            frames = slot.figures().get("frames_seen") if slot.figures is not None else None
            if frames is None or slot.health.state is not State.ONLINE:
                continue
            before = self._readers.get(slot.path)
            still = before is not None and before[0] == frames and not self._away
            readers[slot.path] = before if still and before is not None else (frames, now)
        self._readers = readers
        for path, (_, since) in readers.items():
            if now - since > READER_S:
                return f"the reader of {path} took in nothing for {now - since:.0f} s"
        return ""
