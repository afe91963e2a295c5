"""Streams made after faults that users of Asterisk reported in public: `gateway replay` says what happened in each.

Beside each stream lies `NAME.expect.json`: `trunks` and `country` to call it with, and of each call the fields that
`call_ended` must have. Times within 0.1 s, all else exactly; a call that rings is reported with the same words.
"""

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from adapters.asterisk.replay import replay as events_of
from gateway.cli.replay import replay
from gateway.domain.events import to_json
from tests.adapters.asterisk.captures import HERE

FIELD = HERE / "field"
ACCURACY_S = 0.1
SMALL = 20_000
"""Bytes of a stream that is also fed one byte at a time."""


@dataclass(frozen=True)
class Case:
    """One stream with what must be made of it."""

    path: Path

    def __str__(self) -> str:
        return self.path.name.split(".")[0]

    @property
    def expected(self) -> dict[str, Any]:
        read: dict[str, Any] = json.loads(self.path.with_name(f"{self}.expect.json").read_text("utf-8"))
        return read


CASES = [Case(path) for path in sorted(FIELD.glob("*.ami"))]


def wrong_with(call: dict[str, Any], lines: list[dict[str, Any]], number: int) -> list[str]:
    """Every word about a call that is not as it must be."""
    ends = [line for line in lines if line["event"] == "call_ended"]
    ended = next((e for e in ends if e["call_id"] == call["call_id"]), None) if "call_id" in call else ends[number]
    if ended is None:
        return ["no such call"]
    problems = [
        f"{name}: {ended[name]!r}, not {was!r}" for name, was in call.items() if not _same(name, ended[name], was)
    ]
    if ended["uncertain"]:
        problems.append("uncertain")
    story = [line for line in lines if line["call_id"] == ended["call_id"]]
    words = {name: call[name] for name in ("direction", "caller", "called", "trunk")}
    rings = [line for line in story if line["event"] == "call_ringing"]
    if call["rang"] and not any(words.items() <= ring.items() for ring in rings):
        problems.append(f"rang as {rings}")
    if call["direction"] == "incoming" and call["result"] == "answered":
        answers = [line["extension"] for line in story if line["event"] == "call_answered"]
        if answers != [call["extension"]]:
            problems.append(f"answered by {answers}")
    return problems


def _same(name: str, is_: Any, was: Any) -> bool:
    if name not in ("wait_s", "talk_s") or was is None or is_ is None:
        return bool(is_ == was)
    return bool(abs(is_ - was) <= ACCURACY_S)


def check(case: Case, lines: list[dict[str, Any]]) -> None:
    expected = case.expected
    problems = [wrong_with(call, lines, number) for number, call in enumerate(expected["calls"])]
    assert problems == [[] for _ in expected["calls"]]
    if expected.get("no_other_calls"):
        assert sum(line["event"] == "call_ended" for line in lines) == len(expected["calls"])


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_case_is_reported_as_it_was(case: Case) -> None:
    out = io.StringIO()
    assert replay(str(case.path), case.expected["trunks"], case.expected["country"], out) == 0
    check(case, [json.loads(line) for line in out.getvalue().splitlines()])


@pytest.mark.parametrize("case", [case for case in CASES if case.path.stat().st_size <= SMALL], ids=str)
def test_a_small_case_one_byte_at_a_time(case: Case) -> None:
    data = case.path.read_bytes()
    reads = [json.loads(line) for line in case.path.with_name(f"{case.path.name}.idx").read_text().splitlines()]
    bytewise = "\n".join(
        json.dumps({"t": read["t"], "off": read["off"] + byte, "n": 1})
        for read in reads
        if "sent" not in read
        for byte in range(read["n"])
    )
    events = events_of(data, bytewise, case.expected["trunks"], case.expected["country"])
    check(case, [to_json(event) for event in events])
