"""The parts that all tests are run in: each `long` test in exactly one, and nothing that fails looks like a success."""

import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests import parts
from tests.parts import Part, closing_line, counts_of, rest, run

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("line", "counts"),
    [
        ("======= 1 failed, 6998 passed in 230.74s (0:03:50) =======", {"failed": 1, "passed": 6998}),
        ("2 passed, 3 skipped, 1 warning in 0.10s", {"passed": 2, "skipped": 3, "warning": 1}),
        ("1 passed, 2 errors in 5.00s", {"passed": 1, "error": 2}),
        ("5 deselected in 0.40s", {"deselected": 5}),
        ("no tests ran in 0.01s", {}),
        ("FAILED tests/x.py::test_y - 3 passed in 1s", {}),
    ],
)
def test_a_closing_line_is_read(line: str, counts: dict[str, int]) -> None:
    assert counts_of(line) == Counter(counts)


def test_the_last_line_is_a_test_runners() -> None:
    assert closing_line(Counter(passed=7254, deselected=9), 1146.2) == "7254 passed in 1146.20s (0:19:06)"
    assert closing_line(Counter(failed=1, passed=2, error=1), 3) == "1 failed, 2 passed, 1 error in 3.00s"
    assert counts_of(closing_line(Counter(failed=1, passed=2), 3)) == Counter(failed=1, passed=2)


def test_paths_exist_and_none_is_in_two_parts() -> None:
    paths = [word for part in rest() for word in part.arguments if word.startswith("tests/")]
    assert all((ROOT / path).exists() for path in paths)
    assert len(paths) == len(set(paths))
    (others,) = (part for part in rest() if part.name == "others")
    assert {f"--ignore={path}" for path in paths} <= set(others.arguments)


@pytest.mark.long
@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("def test_it(): assert True", Counter(passed=1)),
        ("def test_it(): assert False", Counter(failed=1)),
        ("x = 1", Counter(failed=1)),
        ("import os\ndef test_it(): os._exit(0)", Counter(failed=1)),
        ("import pytest\n@pytest.mark.skip\ndef test_it(): pass", Counter(skipped=1, failed=1)),
        ("import nothing_of_the_kind", Counter(error=1)),
    ],
    ids=["good", "bad", "no tests", "ended early", "all skipped", "not importable"],
)
def test_what_runs_nothing_has_failed(
    text: str, counts: Counter[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(parts, "LOGS", tmp_path)
    file = tmp_path / "test_one.py"
    file.write_text(text + "\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    outcome = run(Part("one", (str(file), "-c", str(tmp_path / "pytest.ini"), "-q")))
    assert outcome.counts == counts
    assert outcome.good is (counts == Counter(passed=1))
    assert capsys.readouterr().out.startswith("ok  " if outcome.good else "FAIL")


_LOADED = """
import pathlib
import pytest

@pytest.mark.parametrize("number", range({count}))
def test_it(number):
    seen = pathlib.Path(__file__).with_name(f"seen-{{number}}")
    again = seen.exists()
    seen.touch()
    assert again or number >= {failing}

def test_other():
    pass
"""


@pytest.mark.long
@pytest.mark.parametrize(("failing", "good"), [(0, True), (1, True), (parts.ALONE, True), (parts.ALONE + 1, False)])
def test_a_few_that_fail_beside_others_are_tried_once_more_alone(
    failing: int, good: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(parts, "LOGS", tmp_path)
    file = tmp_path / "test_one.py"
    file.write_text(_LOADED.format(count=6, failing=failing))
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    outcome = run(Part("one", (str(file), "-c", str(tmp_path / "pytest.ini"), "-q")))
    assert outcome.good is good
    assert outcome.counts == (Counter(passed=7) if good else Counter(failed=failing, passed=7 - failing))
    printed = capsys.readouterr().out
    assert printed.count("passed when run alone: ") == (failing if good else 0)


def test_make_test_is_the_quick_part() -> None:
    done = subprocess.run(["make", "-n", "test"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "tests.parts --quick" in done.stdout
    assert parts.QUICK[:2] == ("-m", "not long")
