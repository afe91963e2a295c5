"""What every benchmark shares: sides in processes of their own, alternating rounds, ratios with their spread.

A *side* is a function that does one round and returns figures; it runs in a child process of this process group, kept
for all rounds, so that neither side pays the other's garbage or heap. Rounds alternate, whoever begins changes, and one
round of each warms up and is not counted. What is printed is the median of the rounds' ratios with the smallest and the
largest: on a shared machine a rate alone says little. Knows no benchmark.
"""

import json
import statistics
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import trio

from tests.benchmarks.database import Server

Figures = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Result:
    """One line of the table. `ratio` says how many times better we are; for a figure without a peer there is none."""

    name: str
    unit: str
    ours: float
    theirs: float | None = None
    against: str = ""
    ratios: tuple[float, ...] = ()
    aim: str = ""
    reached: bool | None = None
    """None where nothing is aimed at."""
    rounds: int = 1
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """The median of the rounds' ratios."""
        return statistics.median(self.ratios) if self.ratios else None


@dataclass
class Bench:
    """What a benchmark is given."""

    server: Server
    folder: Path
    quick: bool = False
    results: list[Result] = field(default_factory=list)

    def size(self, full: Any, quick: Any) -> Any:
        """The size of something in a whole run and in the quick one."""
        return quick if self.quick else full

    @property
    def rounds(self) -> int:
        """How many rounds of each side count."""
        return 1 if self.quick else 5

    def add(self, result: Result) -> None:
        """Keeps a result and prints its line at once."""
        if self.quick:
            result = replace(result, aim="", reached=None)  # at such sizes no figure means anything
        self.results.append(result)
        print(line(result), flush=True)

    def compare(
        self, name: str, unit: str, ours: Sequence[float], theirs: Sequence[float], *, against: str, aim: float | None,
        note: str = "",
    ) -> Result:  # fmt: skip
        """A result of two rows of rates, round by round; `aim` is the ratio wanted."""
        ratios = tuple(a / b for a, b in zip(ours, theirs, strict=True))
        result = Result(
            name=name, unit=unit, ours=statistics.median(ours), theirs=statistics.median(theirs), against=against,
            ratios=ratios, aim=f"{aim:g}x" if aim is not None else "",
            reached=statistics.median(ratios) >= aim if aim is not None else None, rounds=len(ratios), note=note,
        )  # fmt: skip
        self.add(result)
        return result

    def floor(self, name: str, unit: str, rates: Sequence[float], aim: float, note: str = "") -> None:
        """A rate of ours alone that is to be at least `aim`."""
        low, high = min(rates), max(rates)
        self.add(
            Result(
                name=name, unit=unit, ours=statistics.median(rates), aim=f">= {aim:,.0f}", rounds=len(rates),
                reached=statistics.median(rates) >= aim, note=f"{low:,.0f}..{high:,.0f}{'; ' if note else ''}{note}",
            )
        )  # fmt: skip

    def ceiling(self, name: str, unit: str, figure: float, aim: float, *, rounds: int = 1, note: str = "") -> None:
        """A figure of ours alone that is to be at most `aim`."""
        self.add(
            Result(
                name=name, unit=unit, ours=figure, aim=f"<= {aim:g}", reached=figure <= aim, rounds=rounds, note=note
            )
        )  # fmt: skip


class Side:
    """One side of a comparison, in its process."""

    def __init__(self, process: trio.Process, name: str) -> None:
        self._process = process
        self._name = name
        self._read = b""

    async def round(self, **arguments: Any) -> Figures:
        """One round. Raises RuntimeError when the process ends instead of answering."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        await self._process.stdin.send_all(json.dumps(arguments).encode() + b"\n")
        while b"\n" not in self._read:
            more = await self._process.stdout.receive_some()
            if not more:
                raise RuntimeError(f"{self._name} ended in the middle of a round")
            self._read += more
        answer, _, self._read = self._read.partition(b"\n")
        return dict(json.loads(answer))


@asynccontextmanager
async def open_side(function: str) -> AsyncIterator[Side]:
    """`function` is `module:name`, called with the keyword arguments of each round."""
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "tests.benchmarks.side", function], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        yield Side(process, function)
    finally:
        with trio.CancelScope(shield=True):
            if process.poll() is None:
                process.kill()
            await process.wait()


async def alternate(
    sides: Sequence[str], rounds: int, arguments: Callable[[str], Figures], *, before: Callable[[], Any] | None = None
) -> dict[str, list[Figures]]:
    """The figures of `rounds` rounds of each side, after one that warms up where there are several. `before` is awaited ahead of every round."""
    found: dict[str, list[Figures]] = {side: [] for side in sides}
    async with AsyncExitStack() as stack:
        opened = {side: await stack.enter_async_context(open_side(side)) for side in sides}
        for number in range(0 if rounds > 1 else 1, rounds + 1):
            for side in sides if number % 2 else reversed(sides):
                if before is not None:
                    await before()
                figures = await opened[side].round(**arguments(side))
                if number:
                    found[side].append(figures)
    return found


def quantile(values: Sequence[float], q: float) -> float:
    """The value that the share `q` of all does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def line(result: Result) -> str:
    """The result as one line of the table."""
    ratio = "-"
    if result.ratio is not None:
        ratio = f"{result.ratio:.2f}x [{min(result.ratios):.2f}..{max(result.ratios):.2f}]"
    reached = {None: "", True: "reached", False: "NOT reached"}[result.reached]
    return (
        f"{result.name:<48} {_number(result.ours):>9} {_number(result.theirs):>9} {result.unit:<12} {ratio:<22} "
        f"{result.rounds:>2}  {result.aim:<9} {reached:<12} {result.against}{'; ' if result.note else ''}{result.note}"
    ).rstrip()


HEAD = (
    f"{'what':<48} {'ours':>9} {'theirs':>9} {'unit':<12} {'ratio [min..max]':<22} {'n':>2}  {'aim':<9} "
    f"{'':<12} against"
)


def as_json(results: Sequence[Result], **more: Any) -> str:
    """All results, for whoever compares runs."""
    return json.dumps({**more, "results": [{**asdict(r), "ratio": r.ratio} for r in results]}, indent=1)
