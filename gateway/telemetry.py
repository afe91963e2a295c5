"""Logs with context, and counters for `/stats` and `/metrics`.

Every line carries tenant, integration and call or chat id from a context variable. Lines are JSON for machines or plain
text for a terminal; both escape control characters, and `Secret` values print as `***` by themselves.

| telemetry event      | fields                                     | meaning                                        |
|----------------------|--------------------------------------------|------------------------------------------------|
| `actor crashed`      | actor, crash, trace                        | an incarnation ended by a bug                  |
| `actor parked`       | actor, seconds                             | the restart budget is spent                    |
| `message set aside`  | actor, trace                               | a message killed its reader twice              |
| `session ended`      | tenant, integration, reason, seconds       | a PBX link was lost; the next try is in seconds|
| `delivery`           | tenant, integration, call, kind, outcome   | one attempt at one delivery                    |
| `loop held`          | seconds                                    | a step held the event loop too long            |
| `internal number settled` | tenant, integration, user, ours, theirs | a difference to the CRM, put right there  |
| `internal numbers taken over` | tenant, integration, users         | the CRM's map became ours, on first use        |
| `recording not fetched` | tenant, call, problem, attempt, final   | one try at fetching a recording came to nothing |
| `watchdog not fed`   | reason                                     | systemd is going to start the gateway again    |
| `posted events go to the spool` | reason                          | PostgreSQL did not take a group in time        |
| `the spool is empty again` | posts, seconds                       | what waited is in the journal                  |
| `posted events are refused` | reason, posts                       | neither PostgreSQL nor the spool took them     |
| `days of the journal`| made, dropped                              | partitions were made ahead or dropped          |
| `configuration`      | tenant, version                            | a tenant's configuration was read anew         |
"""

import json
import logging
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

CONTEXT: ContextVar[Mapping[str, str]] = ContextVar("log_context", default={})  # noqa: B039 - never mutated
COUNTERS: Counter[str] = Counter()
"""Everything that is only counted. Names become `gateway_<name>_total`."""
COUNTED: Counter[tuple[str, str, str]] = Counter()
"""What is counted by one label: name, label, value. Names become `<name>_total`; a value comes from the configuration or from a
list of ours, never from what was sent."""
HELP: Mapping[str, str] = {
    "webhook_received": "Events about deals that were taken, by the entry of the route's list of domains.",
    "webhook_processed": "Events about deals on their routes, by what became of them.",
    "webhook_errors": "Events about deals that were refused or could not be carried, by why.",
    "webhook_processing_duration": "Seconds that a group of deals took to be carried.",
}
_OUTSIDE_NAMES = frozenset(HELP)
"""Names that stand in requirements of others: without `gateway_` before them."""

_OURS = ("tenant", "integration", "call", "chat", "correlation", "actor")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


@contextmanager
def bound(**fields: str) -> Iterator[None]:
    """Adds fields to every log line written inside the block."""
    token = CONTEXT.set({**CONTEXT.get(), **fields})
    try:
        yield
    finally:
        CONTEXT.reset(token)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    extra = {k: v for k, v in vars(record).items() if k not in _STANDARD}
    return {**CONTEXT.get(), **extra}


class JsonLines(logging.Formatter):
    """timestamp, level, event, then the context and what the line adds."""

    def format(self, record: logging.LogRecord) -> str:
        """One JSON object; json.dumps escapes every control character."""
        line: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "event": record.getMessage(),
            "logger": record.name,
            **_fields(record),
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class TextLines(logging.Formatter):
    """The same for a person at a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, control characters escaped; a traceback follows on lines of its own."""
        stamp = time.strftime("%H:%M:%S", time.localtime(record.created))
        fields = _fields(record)
        trace = fields.pop("trace", None) or (self.formatException(record.exc_info) if record.exc_info else None)
        words = " ".join(f"{k}={_printable(v)}" for k, v in fields.items())
        line = f"{stamp} {record.levelname:<7} {_printable(record.getMessage())} {words}".rstrip()
        return f"{line}\n{trace}" if trace else line


def _printable(value: object) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(value))


def configure_logging(form: str, level: str) -> None:
    """Sends all logs to stderr in `form` ("json" or "text")."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # These name URLs, and a bot token is part of Telegram's.
    for noisy in ("httpx2", "httpcore2", "hypercorn", "quart", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


class Histogram:
    """Fixed buckets in seconds, enough for p50 and p99 on a dashboard."""

    BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

    def __init__(self) -> None:
        self.counts = [0] * (len(self.BOUNDS) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """Counts one measurement."""
        self.total += seconds
        for place, bound_s in enumerate(self.BOUNDS):
            if seconds <= bound_s:
                self.counts[place] += 1
                return
        self.counts[-1] += 1


HISTOGRAMS: defaultdict[str, Histogram] = defaultdict(Histogram)


def prometheus(gauges: Mapping[str, float]) -> str:
    """The text exposition format of Prometheus 0.0.4: counters, histograms and the given gauges."""
    lines: list[str] = []
    for name, count in sorted(COUNTERS.items()):
        lines += [f"# TYPE gateway_{name}_total counter", f"gateway_{name}_total {count}"]
    for counted in sorted({name for name, _, _ in COUNTED}):
        lines += [f"# HELP {counted}_total {HELP[counted]}", f"# TYPE {counted}_total counter"]
        for (name, label, labelled), count in sorted(COUNTED.items()):
            if name == counted:
                escaped = labelled.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
                lines.append(f'{name}_total{{{label}="{escaped}"}} {count}')
    for name, value in sorted(gauges.items()):
        family = name.split("{", 1)[0]
        kind = f"# TYPE gateway_{family} gauge"
        lines += [kind] if kind not in lines else []
        lines.append(f"gateway_{name} {value}")
    for name, histogram in sorted(HISTOGRAMS.items()):
        family = f"{name}_seconds" if name in _OUTSIDE_NAMES else f"gateway_{name}_seconds"
        lines += [f"# HELP {family} {HELP[name]}"] if name in HELP else []
        lines.append(f"# TYPE {family} histogram")
        seen = 0
        for bound_s, count in zip((*histogram.BOUNDS, "+Inf"), histogram.counts, strict=True):
            seen += count
            lines.append(f'{family}_bucket{{le="{bound_s}"}} {seen}')
        lines += [f"{family}_sum {histogram.total}", f"{family}_count {seen}"]
    return "\n".join(lines) + "\n"
