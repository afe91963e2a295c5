"""What the process reports of itself: `/ready`, `/stats`, `/metrics`, and the line that `systemctl status` shows.

Reads, and never changes anything. What the figures mean is in docs/operations.md; read `gateway.vitals` for what withholds
the watchdog.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from actors.calls.posts import Posts
from actors.database_watch import DatabaseWatch
from actors.services import Services
from gateway.domain.health import State
from gateway.domain.shards import SHARDS
from gateway.store.postgres.listen import Listener
from gateway.telemetry import COUNTERS, prometheus

_FINISHED = ("done", "retry", "expired", "failed", "doubtful")
"""Outcomes of attempts that `/stats` counts, since this process started."""
_PBX_GAUGES = {
    "lag_s": "pbx_lag_seconds_max", "behind_s": "pbx_behind_seconds_max", "read_gap_s": "pbx_read_gap_seconds_max",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Figures:
    """One for the process."""

    services: Services
    posts: Posts
    listener: Listener
    database: DatabaseWatch
    tenants_settled: Callable[[], bool]
    """Whether everything that was configured at the start has been started."""
    stopping: Callable[[], bool]
    started: float = field(default_factory=time.monotonic)

    def ready(self) -> list[str]:
        """Why posts are not taken; empty when they are. While the database is away later on, the spool takes them."""
        reasons = []
        if not self.database.usable.is_set():
            reasons.append(self.database.problem or "tenants are being started")
        elif not self.tenants_settled():
            reasons.append("tenants are being started")
        if self.posts.refusing:
            reasons += [self.database.problem] if self.database.problem else []
            reasons.append(self.posts.refusing)
        if self.stopping():
            reasons.append("stopping")
        return list(dict.fromkeys(reasons))

    def degraded(self) -> list[str]:
        """What does not work, or later than it should, while posts are taken."""
        reasons = [self.database.problem] if self.database.problem else []
        if waiting := self.posts.spool.records:
            reasons.append(f"spool: {waiting} events wait")
        return reasons

    def status(self) -> str:
        """One line for `systemctl status`."""
        if not self.tenants_settled():
            return f"waiting: {self.database.problem or 'tenants are being started'}"
        lines = [slot for slot in self.services.directory.below() if "/pbx/" in slot.path]
        online = sum(slot.health.state is State.ONLINE for slot in lines)
        line = f"serving {len(self.services.cache)} tenants; PBXes online: {online} of {len(lines)}"
        return f"{line}; {self.database.problem}" if self.database.problem else line

    def _actors(self) -> dict[str, int]:
        states: dict[str, int] = {}
        for slot in self.services.directory.below():
            states[slot.health.state] = states.get(slot.health.state, 0) + 1
        return states

    def stats(self) -> dict[str, Any]:
        """The JSON of `/stats`."""
        services = self.services
        cached, spool, ownership = services.cache.stats, self.posts.spool, services.ownership
        looked = cached.hits + cached.misses
        refreshed = cached.last_full_refresh
        return {
            "uptime_seconds": round(time.monotonic() - self.started, 3),
            "database_queries": services.db.queries,
            "database_connections": services.db.connections,
            "cache_stats": {
                "total_entries": len(services.cache),
                "hits": cached.hits,
                "misses": cached.misses,
                "hit_ratio": round(cached.hits / looked, 4) if looked else None,
                "last_full_refresh": refreshed.isoformat() if refreshed else None,
                "invalidations": cached.invalidations,
                "last_invalidation": cached.last_invalidation.isoformat() if cached.last_invalidation else None,
                "loads": cached.loads,
                "last_load_seconds": round(cached.last_load_s, 4),
                "listen_connected": self.listener.connected,
                "listen_connects": self.listener.connects,
            },
            "spool": {
                "records": spool.records,
                "bytes": spool.size,
                "limit_bytes": spool.limit,
                "oldest_seconds": round(spool.oldest_s, 1),
            },
            "deliveries": self.database.pending | {state: COUNTERS[f"deliveries_{state}"] for state in _FINISHED},
            "actors": {"total": len(services.directory), **self._actors()},
            "ownership": {
                "instance": ownership.me,
                "instances": ownership.instances,
                "shards": len(ownership.held),
                "shards_in_all": SHARDS,
                "trusted": ownership.trusted,
            },
            "counters": dict(sorted(COUNTERS.items())),
        }

    def metrics(self) -> str:
        """The Prometheus text of `/metrics`."""
        services, spool = self.services, self.posts.spool
        cached = services.cache.stats
        gauges: dict[str, float] = {
            "uptime_seconds": round(time.monotonic() - self.started, 3),
            "database_queries": services.db.queries,
            "cache_entries": len(services.cache),
            "cache_hits": cached.hits,
            "cache_misses": cached.misses,
            "cache_invalidations": cached.invalidations,
            "cache_last_load_seconds": cached.last_load_s,
            "cache_last_full_refresh_timestamp": (
                cached.last_full_refresh.timestamp() if cached.last_full_refresh else 0
            ),
            "listen_connected": float(self.listener.connected),
            "ready": float(not self.ready()),
            "spool_records": spool.records,
            "spool_bytes": spool.size,
            "spool_limit_bytes": spool.limit,
            "spool_oldest_seconds": spool.oldest_s,
            "pbx_spill_bytes": services.spills.used,
        }
        figures = [
            slot.figures() for slot in services.directory.below() if "/pbx/" in slot.path and slot.figures is not None
        ]
        for name, gauge in _PBX_GAUGES.items():
            gauges[gauge] = max((one.get(name) or 0 for one in figures), default=0)
        gauges["degraded"] = float(bool(self.degraded()))
        gauges["deliveries_pending"] = self.database.pending["pending"]
        gauges["oldest_pending_seconds"] = self.database.pending["oldest_pending_s"]
        for name, count in self._actors().items():
            gauges[f'actors{{state="{name}"}}'] = count
        return prometheus(gauges)
