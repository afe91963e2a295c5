"""Every test there is, in parts: `python -m tests.parts`. The first is `make test`; the rest run side by side.

Owns the test runners it starts. A part that runs no test, is cut off or ends with any code but 0 has failed. Each writes to
`var/tests/NAME.log`; what failed is printed. A few tests that fail while others load the machine are run once more alone, and
those that pass then are printed by name. The last line is that of a test runner, with all parts summed.

    --quick    only the first part, its output as it comes
    --rest     all but the first, for whoever has run it
"""

import argparse
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOGS = ROOT / "var" / "tests"
SIDE_BY_SIDE = 2
PART_LIMIT_S = 45 * 60
SHOWN = 80
"""Lines of a failed part's log that are printed."""
ALONE = 3
"""Failures of a part, at most, that may be the machine's: they are tried again alone. More are a defect."""
QUICK = ("-m", "not long", "-n", "auto", "--maxprocesses", "4", "--dist", "worksteal")
"""What `make test` runs."""
_REST = ("-m", "long or sampled", "--whole")
_E2E = "tests/e2e/test_"
_PATHS = {
    "walls": ("tests/walls",),
    "pages": ("tests/web",),
    "lab": tuple(f"{_E2E}{name}.py" for name in ("lab", "lab_actions", "lab_stress")),
    "processes": tuple(f"{_E2E}{name}.py" for name in ("restart", "kill", "spool", "instances", "rotation")),
    "chaos": ("tests/chaos",),
}
"""Slow to fast. What is in none of them is the part `others`, about as long as the walls: it begins beside them."""
_KINDS = ("failed", "passed", "skipped", "deselected", "xfailed", "xpassed", "warning", "error")
_CLOSING = re.compile(r"^=*\s*((?:\d+ [a-z]+(?:, )?)+) in [\d.]+s")


@dataclass(frozen=True, slots=True)
class Part:
    """One run of pytest."""

    name: str
    arguments: tuple[str, ...]


@dataclass(slots=True)
class Outcome:
    """What came of a part."""

    part: Part
    code: int
    seconds: float
    log: Path
    counts: Counter[str] = field(default_factory=Counter)
    closing: str = ""
    alone: tuple[str, ...] = ()
    """Tests that failed beside others and passed alone."""

    @property
    def good(self) -> bool:
        """Whether every test of it passed, and there was one."""
        return self.code == 0 and self.counts["passed"] > 0 and not self.counts["failed"] + self.counts["error"]


def rest() -> list[Part]:
    """Everything that `make test` leaves out or only samples. Each such test is in exactly one part."""
    parts = [Part(name, (*paths, *_REST)) for name, paths in _PATHS.items()]
    named = [f"--ignore={path}" for paths in _PATHS.values() for path in paths]
    return [Part("others", ("tests", *named, *_REST)), *parts]


def counts_of(closing: str) -> Counter[str]:
    """The counts of a closing line: `1 failed, 12 passed in 3.40s`; singular and plural are one."""
    found = _CLOSING.match(closing.strip())
    counts: Counter[str] = Counter()
    for number, word in re.findall(r"(\d+) ([a-z]+)", found.group(1) if found else ""):
        counts[next((kind for kind in _KINDS if word.rstrip("s") == kind.rstrip("s")), word)] += int(number)
    return counts


def closing_line(counts: Counter[str], seconds: float) -> str:
    """As pytest closes."""
    shown = [f"{counts[kind]} {kind}" for kind in ("failed", "passed", "skipped", "error") if counts[kind]]
    minutes = f" ({int(seconds // 3600)}:{int(seconds // 60 % 60):02}:{int(seconds % 60):02})" if seconds >= 60 else ""
    return f"{', '.join(shown) or 'no tests ran'} in {seconds:.2f}s{minutes}"


def run(part: Part) -> Outcome:
    """Runs a part to its end."""
    began = time.monotonic()
    outcome = _pytest(part, (), began)
    if 0 < outcome.counts["failed"] <= ALONE and outcome.code == 1 and not outcome.counts["error"]:
        alone = _pytest(Part(f"{part.name}-alone", part.arguments), ("--last-failed", "-n", "0", "-rA"), began)
        if alone.good and alone.counts["passed"] == outcome.counts["failed"]:
            outcome.counts["passed"] += outcome.counts.pop("failed")
            outcome.code, outcome.alone = (
                0,
                tuple(re.findall(r"^PASSED (.+)$", alone.log.read_text("utf-8", "replace"), re.M)),
            )
    if not outcome.good and not outcome.counts["failed"] + outcome.counts["error"]:
        outcome.counts["failed"] += 1  # it ran nothing, or was cut off: that counts as one
    emit(outcome)
    return outcome


def _pytest(part: Part, more: tuple[str, ...], began: float) -> Outcome:
    """One run of pytest, which remembers what failed."""
    log = LOGS / f"{part.name}.log"
    memory = LOGS / f"{part.name.removesuffix('-alone')}.cache"
    command = [sys.executable, "-m", "pytest", "--color=no", *part.arguments, *more]
    with log.open("wb") as out, subprocess.Popen(
        [*command, "-o", f"cache_dir={memory}"], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out,
        stderr=out, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as child:  # fmt: skip
        try:
            code = child.wait(PART_LIMIT_S)
        except subprocess.TimeoutExpired:
            child.kill()
            code = child.wait()
    lines = log.read_text("utf-8", "replace").splitlines()
    closing = next((line for line in reversed(lines) if _CLOSING.match(line.strip())), "")
    return Outcome(part, code, time.monotonic() - began, log, counts_of(closing), closing.strip("= "))


def emit(outcome: Outcome) -> None:
    """A line for what went well, the end of the log for what did not."""
    word = "ok  " if outcome.good else "FAIL"
    text = outcome.closing or f"ended with code {outcome.code} after {outcome.seconds:.0f} s and no result"
    lines = [
        f"{word}  {outcome.part.name}: {text}",
        *(f"      passed when run alone: {name}" for name in outcome.alone),
    ]
    if not outcome.good:
        lines += [f"      {line}" for line in outcome.log.read_text("utf-8", "replace").splitlines()[-SHOWN:]]
    print("\n".join(lines), flush=True)


def total(outcomes: Sequence[Outcome]) -> Counter[str]:
    """All parts summed; what a part deselected is in another."""
    counts: Counter[str] = Counter()
    for outcome in outcomes:
        counts += outcome.counts
    return counts


def main() -> int:
    """Runs the parts. Returns the exit code."""
    parser = argparse.ArgumentParser(description="All tests, in parts.")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--quick", action="store_true", help="what make test runs, and nothing else")
    which.add_argument("--rest", action="store_true", help="leave out what make test runs")
    arguments = parser.parse_args()
    if arguments.quick:
        return subprocess.run([sys.executable, "-m", "pytest", *QUICK], cwd=ROOT, check=False).returncode
    LOGS.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    outcomes = [] if arguments.rest else [run(Part("quick", QUICK))]
    with ThreadPoolExecutor(SIDE_BY_SIDE) as side_by_side:
        outcomes += side_by_side.map(run, rest())
    print(closing_line(total(outcomes), time.monotonic() - began))
    return 0 if all(outcome.good for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
