"""The recorded streams of `tests/fixtures/asterisk` (Asterisk 22 and 16) and what really happened in each."""

import gzip
import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from adapters.asterisk.replay import replay
from gateway.domain.events import CallEnded, CallEvent
from gateway.domain.numbers import outside

HERE = Path(__file__).parents[2] / "fixtures" / "asterisk"
TRUNKS = ("trunk-0001",)
COUNTRY = "BY"
_RESULTS = {
    "missed (busy)": "busy",
    "no answer": "no_answer",
    "employee did not answer": "cancelled",
}
_SIDES = {"pbx": "system", "client": "callee", "called": "callee", "callee": "callee", "caller": "caller"}


@dataclass(frozen=True)
class Capture:
    """One recording."""

    path: Path

    def __str__(self) -> str:
        return f"{self.path.parent.name}/{self.path.name.split('.')[0]}"

    @property
    def data(self) -> bytes:
        return _read(self.path)

    @property
    def index(self) -> str:
        plain = self.path.name.removesuffix(".gz")
        return _read(self.path.with_name(plain + ".idx" + (".gz" if self.path.suffix == ".gz" else ""))).decode()

    @property
    def truth(self) -> dict[str, Any]:
        name = self.path.name.split(".")[0] + ".truth.json"
        truth: dict[str, Any] = json.loads(self.path.with_name(name).read_text())
        return truth

    def events(self, trunks: tuple[str, ...] = TRUNKS, country: str | None = COUNTRY) -> list[CallEvent]:
        return list(replay(self.data, self.index, trunks, country))


def _read(path: Path) -> bytes:
    data = path.read_bytes()
    return gzip.decompress(data) if path.suffix == ".gz" else data


SCENARIOS = [Capture(path) for path in sorted(HERE.glob("*/*.ami")) if path.parent.name != "field"]
LOADS = [Capture(path) for path in sorted(HERE.glob("[0-9][0-9]/*.ami.gz"))]


def capture(name: str) -> Capture:
    """The recording `22/01-incoming-answered`, by the beginning of its name."""
    return next(c for c in SCENARIOS if str(c).startswith(name))


def expected(call: dict[str, Any]) -> dict[str, Any]:
    """A call of a truth file in the contract's words."""
    direction = call["direction"].split()[0]
    result = call["result"]
    result = "answered" if result.startswith("answered") else _RESULTS.get(result, result.split(" (")[0])
    hung_up_by = call["hung_up_by"]
    if hung_up_by not in _SIDES:
        hung_up_by = "caller" if hung_up_by == call["caller"] else "callee"
    answered_by = (call.get("answered_by") or "").split(",")[0] or None
    return {
        "call_id": call["linkedid"],
        "direction": direction,
        "caller": outside(call["caller"], COUNTRY),
        "called": outside(call["called"], COUNTRY),
        "trunk": call.get("trunk"),
        "rang": [number for number in call["rang"] if len(number) <= 5],
        "extension": call["caller"] if direction == "outgoing" else answered_by,
        "result": result,
        "hung_up_by": _SIDES.get(hung_up_by, hung_up_by),
        "queue": call.get("queue"),
        "uncertain": False,
    }


def reported(event: CallEnded, country: str = COUNTRY) -> dict[str, Any]:
    """What the tracker told, for comparing with `expected`; numbers as that country reads them."""
    return {
        "call_id": event.call_id,
        "direction": event.direction.value,
        "caller": outside(event.caller, country),
        "called": outside(event.called, country),
        "trunk": event.trunk,
        "rang": list(event.rang),
        "extension": event.extension,
        "result": event.result.value,
        "hung_up_by": event.hung_up_by.value if event.hung_up_by else None,
        "queue": event.queue,
        "uncertain": event.uncertain,
    }


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
