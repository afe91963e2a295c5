"""The page of security requirements: each id once, each that is met shown by a test that exists."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
LINE = re.compile(r"\| (V\d+\.\d+\.\d+) \| ([12]) \| ([^|]+) \| (met|not met) \| ([^|]+) \|")


def lines() -> list[tuple[str, ...]]:
    page = (ROOT / "docs" / "asvs.md").read_text("utf-8")
    found = [LINE.fullmatch(line) for line in page.splitlines() if line.startswith("| V")]
    assert all(found), "a line has another form"
    return [match.groups() for match in found if match is not None]


def missing(shown_by: str) -> bool:
    """Whether there is no such test."""
    named = re.fullmatch(r"`(tests/[\w/]+\.py)::(test_\w+)`", shown_by.strip())
    if named is None or not (ROOT / named[1]).is_file():
        return True
    return re.search(rf"^(?:async )?def {named[2]}\(", (ROOT / named[1]).read_text("utf-8"), re.MULTILINE) is None


def test_ids_stand_once_and_in_order() -> None:
    ids = [tuple(int(part) for part in line[0][1:].split(".")) for line in lines()]
    assert ids == sorted(set(ids))
    assert len(ids) > 60


def test_what_is_met_is_shown_by_a_test_that_exists() -> None:
    assert [line[0] for line in lines() if line[3] == "met" and missing(line[4])] == []
    assert [line[0] for line in lines() if line[3] == "not met" and "::" in line[4]] == []


def test_the_figures_are_those_of_the_table() -> None:
    states = [line[3] for line in lines()]
    page = (ROOT / "docs" / "asvs.md").read_text("utf-8")
    assert f"{states.count('met')} met, {states.count('not met')} not met." in page


def test_a_test_that_is_not_there_is_found() -> None:
    assert missing("`tests/walls/test_asvs.py::test_nothing`")
    assert missing("`tests/walls/nowhere.py::test_a_test_that_is_not_there_is_found`")
    assert not missing("`tests/walls/test_asvs.py::test_a_test_that_is_not_there_is_found`")
