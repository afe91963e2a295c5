"""What a run of scripted conversations came to: as lines for a person, as JSON, and beside an earlier run. Pure."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from actors.ai.replay.running import Played
from actors.ai.replay.scoring import CHECKS

VERSION = 1
LONGEST_SHOWN = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What was run."""

    prompt: str
    """The name of a company's prompt; `corpus` for those of the file."""
    prompt_version: str
    """Its version, or the beginning of a hash of the file's prompts."""
    model: str
    corpus: str
    """The beginning of a hash of the file: only runs of one file can be compared step by step."""
    at: str


def report_of(about: About, played: Sequence[Played]) -> dict[str, Any]:
    """The report as it is stored. It holds the conversations, but no request."""
    steps = [step for one in played for step in one.steps]
    checks = {
        name: {"right": sum(step.checks[name] for step in has), "of": len(has)}
        for name in CHECKS if (has := [step for step in steps if name in step.checks])
    }  # fmt: skip
    firsts = sorted(step.first_token_ms for step in steps if step.first_token_ms is not None)
    took = sorted(step.took_ms for step in steps)
    return {
        "version": VERSION, **asdict(about), "conversations": len(played), "steps": len(steps), "right": sum(step.right for step in steps),
        "checks": checks, "prompt_tokens": sum(step.prompt_tokens for step in steps),
        "completion_tokens": sum(step.completion_tokens for step in steps), "took_ms": {"p50": _at(took, 50), "p90": _at(took, 90)},
        "first_token_ms": {"p50": _at(firsts, 50), "p90": _at(firsts, 90)},
        "problems": dict(Counter(step.problem for step in steps if step.problem)),
        "results": [
            {"id": one.id, "steps": [
                {name: value for name, value in asdict(step).items() if name != "requests"} | {"right": step.right} for step in one.steps
            ]}
            for one in played
        ],
    }  # fmt: skip


def _at(values: Sequence[int], percent: int) -> int | None:
    return values[min(len(values) - 1, len(values) * percent // 100)] if values else None


def lines_of(report: Mapping[str, Any]) -> Iterator[str]:
    """For a person: what went wrong, then the figures."""
    for one in report["results"]:
        for place, step in enumerate(one["steps"], 1):
            if step["right"]:
                continue
            wrong = ", ".join(name for name, right in step["checks"].items() if not right)
            yield f"{one['id']} step {place}: {wrong}{' (' + step['problem'] + ')' if step['problem'] else ''}"
            yield f"    client: {_short(step['client'])}"
            yield f"    answer: {_short(step['answer']) or '-'}"
            if step["tools"]:
                yield f"    tools:  {', '.join(step['tools'])}"
            if step["removed"]:
                yield f"    cut:    {', '.join(map(_short, step['removed']))}"
    yield f"prompt {report['prompt']} {report['prompt_version']}, model {report['model']}, corpus {report['corpus']}, {report['at']}"
    for name, found in report["checks"].items():
        yield f"  {name:<17}{found['right']:>5} of {found['of']}"
    tokens = f"tokens {report['prompt_tokens']} + {report['completion_tokens']}"
    times = ", ".join(
        f"{label} p50 {report[name]['p50']} p90 {report[name]['p90']} ms"
        for name, label in (("first_token_ms", "first token"), ("took_ms", "answer"))
        if report[name]["p50"] is not None
    )
    yield f"  {tokens}; {times}"
    yield f"steps right: {report['right']} of {report['steps']} in {report['conversations']} conversations"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_SHOWN else f"{line[:LONGEST_SHOWN]}…"


class NoReport(Exception):
    """A text is no report of ours."""


def read_report(text: str) -> dict[str, Any]:
    """A stored report. Raises NoReport."""
    try:
        found = json.loads(text)
        assert found["version"] == VERSION
        for one in found["results"]:
            str(one["id"]), [bool(step["right"]) for step in one["steps"]]
        for name in (
            "right",
            "steps",
            "prompt_tokens",
            "completion_tokens",
            "prompt",
            "prompt_version",
            "model",
            "corpus",
        ):
            found[name]
        for one in found["checks"].values():
            int(one["right"]), int(one["of"])
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError):
        raise NoReport from None
    return dict(found)


def compared(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """What is better and what is worse than in an earlier run."""
    yield (
        f"before: prompt {before['prompt']} {before['prompt_version']}, model {before['model']}; "
        f"now: prompt {now['prompt']} {now['prompt_version']}, model {now['model']}"
    )
    if before["corpus"] != now["corpus"]:
        yield "  the runs are of different conversations: only steps of the same name and place are compared"
    old = {(one["id"], place): step["right"] for one in before["results"] for place, step in enumerate(one["steps"], 1)}
    new = {(one["id"], place): step["right"] for one in now["results"] for place, step in enumerate(one["steps"], 1)}
    for label, wanted in (("better", True), ("worse", False)):
        found = [
            f"{name} step {place}"
            for name, place in new
            if (name, place) in old and new[name, place] is wanted is not old[name, place]
        ]
        yield f"  {label}: {len(found)}{': ' + ', '.join(found) if found else ''}"
    for name in CHECKS:
        if name in before["checks"] and name in now["checks"]:
            one, two = before["checks"][name], now["checks"][name]
            if one != two:
                yield f"  {name}: {one['right']} of {one['of']} -> {two['right']} of {two['of']}"
    yield f"  tokens: {before['prompt_tokens']} + {before['completion_tokens']} -> {now['prompt_tokens']} + {now['completion_tokens']}"
    yield f"  steps right: {before['right']} of {before['steps']} -> {now['right']} of {now['steps']}"
