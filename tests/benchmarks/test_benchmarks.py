"""Every benchmark runs at all, at a tiny size: what they measure is `make bench`'s business, that they do is ours."""

import json
from pathlib import Path

import pytest

from tests.benchmarks.__main__ import BENCHMARKS, run
from tests.benchmarks.harness import as_json

HERE = Path(__file__).parent


@pytest.mark.long
@pytest.mark.timeout(400)
async def test_every_benchmark_runs(tmp_path: Path) -> None:
    bench = await run(list(BENCHMARKS), quick=True, folder=tmp_path)
    # At a tiny size a count of statements, less those of idling, may come out as none.
    assert all(result.ours > 0 or result.unit == "statements" for result in bench.results)
    assert len(json.loads(as_json(bench.results))["results"]) >= len(BENCHMARKS)


def test_the_list_is_whole() -> None:
    modules = {
        path.stem
        for path in HERE.glob("[a-z]*.py")
        if path != Path(__file__) and "async def run(bench: Bench)" in path.read_text()
    }
    assert modules == set(BENCHMARKS)
