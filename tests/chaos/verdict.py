"""The judgement of a run: Jepsen's four sets of what hosts posted, the PBX's calls against its truth, repeats, the order
of each call, what is durable, and how long it took to get over each blow.

The unit of the sets is one thing that the CRM should know of one call (its ring, its hangup, its upload). The contract
lets rings and hangups expire after a minute; those are counted apart, an upload is never excused.
"""

import bisect
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from tests.chaos.plan import Plan, Strike
from tests.chaos.traffic import Hosts, Notified, Phones, Played, Sink

MUST_BE_TOLD: Mapping[str, tuple[str, ...]] = {"/dial": ("in",), "/hangup": ("in", "hangup", "upload")}
"""What a post causes, once it was answered 200."""
SETTLE_S = 2.0
"""A call that went on so long under a link that then stayed must have been heard."""
KILLS = ("kill", "kill_at_200")
DELAYING = (
    "postgres_stop", "backend_killed", "disk_full", "backends_terminated", "pool_exhausted", "pause", "pbx_stall",
)  # fmt: skip
"""After these what was heard is kept later."""
STOPS = ("postgres_stop", "backend_killed", "disk_full")


@dataclass
class Blow:
    """One strike as it went."""

    strike: Strike
    began: float
    over: float = 0.0
    first_200_s: float | None = None
    """From its end to the first 200 after it; from the death, for a kill."""
    first_delivery_s: float | None = None
    pid: int | None = None
    """The process that was killed or stopped, where there are several."""
    rate_back_s: float | None = None
    """From its end until 95 % of the rate before it was reached over two seconds."""


@dataclass
class Sets:
    """Jepsen's."""

    attempted: set[Notified] = field(default_factory=set)
    acknowledged: set[Notified] = field(default_factory=set)
    delivered: set[Notified] = field(default_factory=set)
    expired: set[Notified] = field(default_factory=set)
    early: set[Notified] = field(default_factory=set)
    """Of these, what was given up too soon: a process whose clock is wrong does that. Shown, and no gate yet."""

    @property
    def lost(self) -> set[Notified]:
        return self.acknowledged - self.delivered - self.expired

    @property
    def unexpected(self) -> set[Notified]:
        return self.delivered - self.attempted

    @property
    def recovered(self) -> set[Notified]:
        return self.delivered & self.attempted - self.acknowledged


@dataclass
class Found:
    """What the database held at the end."""

    calls: list[dict[str, Any]]
    expired: list[dict[str, Any]]
    posts: list[dict[str, Any]]
    open_calls: list[dict[str, Any]]
    exit_codes: list[int] = field(default_factory=list)
    """Of gateways that ended by themselves, or not well when they were told to."""
    refused: int = 0
    """Writes of instances that had been replaced, and were refused."""
    takeovers: list[float] = field(default_factory=list)
    """Seconds, one for each shard that a death or a stop set free."""
    moved: int = 0
    two_owners: dict[str, list[str]] = field(default_factory=dict)
    """What two owners did side by side, by how it shows."""


class Verdict:
    """All figures of a run."""

    def __init__(
        self, plan: Plan, hosts: Hosts, phones: Phones, sink: Sink, blows: Sequence[Blow], found: Found
    ) -> None:
        self.plan, self.blows, self.hosts, self.sink = plan, blows, hosts, sink
        posted = {unique_id for unique_id, _ in hosts.attempted}
        self.sets = sets_of(
            hosts,
            {reported for reported in sink.times if reported.call_id in posted or _of_hosts(reported, plan)},
            found,
        )
        self.not_kept = hosts.acknowledged.keys() - {(row["unique_id"], row["address"]) for row in found.posts}
        self.repeats = {reported: times for reported, times in sink.times.items() if len(times) > 1}
        self.found = found
        self.reworded = [reported for reported, words in sink.words.items() if len(words) > 1]
        self.repeats_by = self._repeats_by()
        self.inversions = inversions(sink)
        listening = attentive(phones.listening, blows) if plan.instances > 1 else phones.listening
        self.calls = judged(phones.played, listening, blows, found, sink)
        abandoned = {
            unique_id for unique_id, address in hosts.attempted if (unique_id, "/hangup") not in hosts.acknowledged
        }
        self.left_open = [row["call_id"] for row in found.open_calls if row["call_id"] not in abandoned]

    def _repeats_by(self) -> Counter[str]:
        """Repeats by the blow that lost the answer: the one under way when it was first told, or the next."""
        ends = [blow.over for blow in self.blows]
        by: Counter[str] = Counter()
        for times in self.repeats.values():
            for before in times[:-1]:
                place = bisect.bisect_left(ends, before - 0.5)
                by[self.blows[place].strike.name if place < len(self.blows) else "after the last"] += 1
        return by

    def repeats_per_kill(self) -> float:
        """How many things a kill of the gateway made the CRM hear again, on average."""
        kills = sum(blow.strike.name in KILLS for blow in self.blows)
        return sum(self.repeats_by[name] for name in KILLS) / max(kills, 1)

    def recovery(self, *names: str) -> dict[str, list[float]]:
        """Recovery times of these nemeses: first 200, first delivery, rate."""
        blows = [blow for blow in self.blows if blow.strike.name in names]
        return {
            figure: sorted(value for blow in blows if (value := getattr(blow, figure)) is not None)
            for figure in ("first_200_s", "first_delivery_s", "rate_back_s")
        }

    def broken(self) -> list[str]:
        """The gates of every run that do not hold, in words."""
        sets, calls = self.sets, self.calls
        gates: dict[str, Collection[object]] = {
            "lost": sets.lost,
            "unexpected": sets.unexpected,
            "answered 200 and not in the journal": self.not_kept,
            "told in other words under the same id": self.reworded,
            "told without an id": range(self.sink.without_id),
            "told out of order": self.inversions,
            "refused though well formed": self.hosts.refused,
            "calls told wrong": calls.wrong,
            "calls invented": calls.invented,
            "calls missing though heard": calls.missing_though_heard,
            "calls told to the CRM and not to the database, or the reverse": calls.uploads_differ,
            "still open": self.left_open,
            "given up more than 10 s before their time": sets.early,
            "exit codes": self.found.exit_codes,
            **self.found.two_owners,
            "never got over": [blow.strike.name for blow in self.blows if blow.first_200_s is None],
        }
        return [f"{name}: {len(items)}, such as {list(items)[:3]}" for name, items in gates.items() if len(items)]

    def report(self) -> str:
        """For people."""
        sets, calls = self.sets, self.calls
        struck = Counter(blow.strike.name for blow in self.blows)
        lines = [
            f"seed {self.plan.seed}: {len(self.hosts.attempted)} posts and {len(calls.truths)} calls of the PBX in, "
            f"{len(self.blows)} blows",
            "  " + ", ".join(f"{count} {name}" for name, count in sorted(struck.items())),
            f"  answers to posts: {dict(self.hosts.answers.most_common())}",
            "posted, as things the CRM should know:",
            f"  attempted {len(sets.attempted)}, acknowledged {len(sets.acknowledged)}, delivered {len(sets.delivered)}",
            f"  lost {len(sets.lost)}, unexpected {len(sets.unexpected)}, recovered {len(sets.recovered)}, "
            f"expired {len(sets.expired & sets.acknowledged - sets.delivered)}, "
            f"of these before their time by the database's clock {len(sets.early & sets.acknowledged - sets.delivered)}",
            f"  repeated {len(self.repeats)} of {len(self.sink.times)} (all calls), in other words {len(self.reworded)}; "
            f"per kill {self.repeats_per_kill():.2f}; by what was struck {dict(self.repeats_by.most_common())}",
            f"  out of order {len(self.inversions)}, answered 200 and not in the journal {len(self.not_kept)}",
            "calls of the PBX against its truth:",
            f"  right {calls.right}, uncertain {calls.uncertain}, wrong {len(calls.wrong)}, invented {len(calls.invented)}, "
            f"missing {calls.missing} (though heard {len(calls.missing_though_heard)}), still open {len(self.left_open)}",
            "recovery, seconds (p50 / max):",
        ]
        for title, names in (
            ("kill of the gateway", KILLS),
            *((name, (name,)) for name in sorted(struck.keys() - {*KILLS})),
        ):
            if times := {figure: values for figure, values in self.recovery(*names).items() if values}:
                reported = ", ".join(
                    f"{figure} {median(values):.2f} / {values[-1]:.2f}" for figure, values in times.items()
                )
                lines.append(f"  {title}: {reported}")
        if (taken := self.found.takeovers) or self.plan.instances > 1:
            lines += [
                f"{self.plan.instances} instances: {self.found.refused} stale writes refused, "
                + ", ".join(f"{name} {len(items)}" for name, items in self.found.two_owners.items()),
                f"  {self.found.moved} changes of a shard's owner; {len(taken)} taken over from the dead and the stopped"
                + (
                    f" within p50 {at(taken, 0.5):.1f}, p99 {at(taken, 0.99):.1f}, max {taken[-1]:.1f} s"
                    if taken
                    else ""
                ),
            ]
        lines += [f"BROKEN  {gate}" for gate in self.broken()] or ["every gate holds"]
        return "\n".join(lines)


def at(ordered: Sequence[float], share: float) -> float:
    """The value below which that share of them lies."""
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def attentive(listening: Sequence[tuple[float, float]], blows: Sequence[Blow]) -> list[tuple[float, float]]:
    """When somebody listened who could hear: an owner that is stopped holds its link, until another has made one."""
    stored = list(listening)
    for pause in (blow for blow in blows if blow.strike.name == "pause"):
        anew = min((since for since, _ in listening if since > pause.began), default=pause.over)
        began, over = pause.began - SETTLE_S, min(anew, pause.over)
        stored = [
            part
            for since, until in stored
            for part in ((since, min(until, began)), (max(since, over), until))
            if part[0] < part[1]
        ]
    return stored


def _of_hosts(reported: Notified, plan: Plan) -> bool:
    return reported.call_id.startswith(f"{plan.seed}.")


def sets_of(hosts: Hosts, delivered: Iterable[Notified], found: Found) -> Sets:
    """The sets of what was posted, rings without their codes."""
    sets = Sets(delivered={reported._replace(codes=()) for reported in delivered})
    for unique_id, address in hosts.attempted:
        kinds = ("in", "hangup", "upload") if address == "/hangup" else ("in",) if address == "/dial" else ()
        sets.attempted |= {Notified(unique_id, kind) for kind in kinds}
    for unique_id, address in hosts.acknowledged:
        sets.acknowledged |= {Notified(unique_id, kind) for kind in MUST_BE_TOLD.get(address, ())}
    sets.expired = {
        Notified(row["call_id"], row["kind"].removesuffix("_synthetic"))
        for row in found.expired
        if row["kind"] != "upload"
    }
    sets.early = {
        Notified(row["call_id"], row["kind"].removesuffix("_synthetic"))
        for row in found.expired
        if row["early"] and row["state"] == "expired"
    }
    return sets


def inversions(sink: Sink) -> list[str]:
    """Calls of which something was first told before what precedes it: ring, hangup, upload."""
    first: dict[str, dict[str, float]] = defaultdict(dict)
    for reported, times in sink.times.items():
        what = "ring" if reported.what in ("in", "out") else reported.what
        known = first[reported.call_id]
        known[what] = min(known.get(what, times[0]), times[0])
    steps = ("ring", "hangup", "upload")
    return [
        call_id
        for call_id, known in first.items()
        if (moments := [known[step] for step in steps if step in known]) != sorted(moments)
    ]


@dataclass
class Calls:
    """The PBX's calls, judged."""

    truths: list[Played]
    right: int = 0
    uncertain: int = 0
    wrong: list[str] = field(default_factory=list)
    invented: list[str] = field(default_factory=list)
    missing: int = 0
    missing_though_heard: list[str] = field(default_factory=list)
    uploads_differ: list[str] = field(default_factory=list)


def judged(
    played: list[Played], listening: list[tuple[float, float]], blows: Sequence[Blow], found: Found, sink: Sink
) -> Calls:
    """Every call of the PBX against what the product made of it."""
    calls = Calls(played)
    reported = {row["call_id"]: row for row in found.calls if row["source"] != "post"}
    known = {call_id for one in played for call_id in (one.truth["linkedid"], *one.truth["merged"])}
    calls.invented = [call_id for call_id in reported if call_id not in known]
    for one in played:
        truth = one.truth
        row = reported.get(truth["linkedid"])
        if row is None:
            calls.missing += 1
            stored_at = _kept_at(one.ended, blows)
            if any(since < one.ended - SETTLE_S and stored_at < until for since, until in listening):
                calls.missing_though_heard.append(f"{truth['linkedid']} {truth['kind']}")
        elif row["phase"] == "merged":
            calls.uncertain += 1  # its truth is that of the call it went into
        elif row["uncertain"]:
            calls.uncertain += 1
        elif wrong := _differs(truth, row):
            calls.wrong.append(f"{truth['linkedid']} {truth['kind']}: {wrong}")
        else:
            calls.right += 1
    expired_not = {told_.call_id for told_ in sink.times if told_.what == "upload"}
    to_crm = {
        call_id for call_id, row in reported.items()
        if row["direction"] != "internal" and row["phase"] == "ended" and row["outside"] not in ("", "anonymous")
    }  # fmt: skip
    calls.uploads_differ = sorted((expired_not & reported.keys()) ^ to_crm)
    return calls


def _kept_at(ended: float, blows: Sequence[Blow]) -> float:
    """By when the end of a call that was heard must be durable: later where the process or its database was away."""
    stored = ended + SETTLE_S
    for blow in blows:
        if blow.strike.name in DELAYING and blow.began < stored:
            stored = max(stored, blow.over + (blow.first_delivery_s or 0.0) + SETTLE_S)
    return stored


def _differs(truth: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    for name in ("direction", "result", "extension"):
        if truth[name] != row[name]:
            return f"{name} is {truth[name]}, told {row[name]}"
    for name in ("wait_s", "talk_s"):
        if (truth[name] is None) != (row[name] is None) or abs((truth[name] or 0) - (row[name] or 0)) > 1:
            return f"{name} is {truth[name]}, told {row[name]}"
    return ""
