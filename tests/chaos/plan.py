"""What one run does. All that is chosen at random is chosen here, from the seed, before anything starts."""

import os
import random
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

LENGTHS: Mapping[str, tuple[float, float]] = {
    "kill": (0.0, 0.0),
    "kill_at_200": (0.0, 0.0),
    "postgres_stop": (0.2, 3.0),
    "pause": (0.5, 6.0),
    "backends_terminated": (0.5, 2.0),
    "backend_killed": (0.0, 0.0),
    "pool_exhausted": (2.0, 5.0),
    "disk_full": (2.0, 4.0),
    "crm_hang": (3.0, 14.0),
    "crm_reset": (1.0, 4.0),
    "crm_cut": (0.0, 0.0),
    "crm_half_open": (0.0, 0.0),
    "hosts_cut": (0.0, 0.0),
    "pbx_cut": (0.0, 0.0),
    "pbx_stall": (0.5, 5.0),
    "pbx_half_open": (0.0, 0.0),
    "load": (2.0, 5.0),
    "clock_step": (1.0, 4.0),
}
"""Every nemesis, and how many seconds it may last; 0 is one blow."""
LONG_PAUSE: tuple[float, float] = (6.0, 24.0)
"""Where another instance can take over: longer than the lease of a shard, and now and then than that of a delivery."""


@dataclass(frozen=True, slots=True)
class Strike:
    """One thing that goes wrong, `at_s` seconds after the start, or as soon as the one before it is over."""

    at_s: float
    name: str
    length_s: float
    draw: float
    """Between 0 and 1, for what the nemesis chooses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The size of a run. `strikes` follows from it."""

    seed: int
    events: int = 100_000
    """Posts of Asterisk hosts, three to a call."""
    kills: int = 50
    pg_stops: int = 10
    others: int = 2
    """How often each of the other nemeses strikes."""
    only: tuple[str, ...] = ()
    """The other nemeses that strike; all of them where this is empty."""
    minutes: float = 12.0
    """Over how long events and strikes are spread; the end, when everything is told, comes on top."""
    pbx_calls: int = 1500
    tenants: int = 20
    instances: int = 1
    """How many gateways run on the one database; a strike at the gateway hits one of them."""

    @property
    def rate_per_s(self) -> float:
        """Posts a second."""
        return self.events / (self.minutes * 60)

    def strikes(self) -> list[Strike]:
        """In order of time. The first quarter of a minute, at most a tenth of the run, is quiet."""
        rng = random.Random(self.seed)
        others = self.only or tuple(name for name in LENGTHS if name not in ("kill", "kill_at_200", "postgres_stop"))
        names = [
            *(("kill", "kill_at_200")[number % 2] for number in range(self.kills)),
            *["postgres_stop"] * self.pg_stops,
            *(name for name in others for _ in range(self.others)),
        ]
        rng.shuffle(names)
        whole = self.minutes * 60
        quiet = min(15.0, whole / 10)
        step = (whole - quiet) / max(len(names), 1)
        lengths = {**LENGTHS, "pause": LONG_PAUSE} if self.instances > 1 else LENGTHS
        return [
            Strike(quiet + step * (number + rng.uniform(0, 0.8)), name, rng.uniform(*lengths[name]), rng.random())
            for number, name in enumerate(names)
        ]


def plan_of(environment: Mapping[str, str] = os.environ) -> Plan:
    """The plan of SEED, EVENTS, KILLS, PG_STOPS, OTHERS, MINUTES, PBX_CALLS, TENANTS and INSTANCES; a
    fresh seed where none is set."""

    def number(name: str, smallest: int = 0) -> int:
        return max(int(environment.get(name.upper()) or getattr(usual, name)), smallest)

    usual = Plan(seed=0)
    return Plan(
        seed=int(environment.get("SEED") or secrets.randbelow(1_000_000)),
        events=number("events", 3),
        kills=number("kills"),
        pg_stops=number("pg_stops"),
        others=number("others"),
        minutes=float(environment.get("MINUTES") or usual.minutes),
        pbx_calls=number("pbx_calls", 1),
        tenants=number("tenants", 1),
        instances=number("instances", 1),
    )
