"""The thirteen properties of the platform: each has a test, tried with a hundred examples or more."""

import ast
import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TITLE = re.compile(r"Feature: modular-bot-integrations, Property (\d+):")


def found() -> dict[int, list[str]]:
    """Number of a property -> its tests."""
    tests: dict[int, list[str]] = {}
    for file in sorted(HERE.rglob("test_*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                title = TITLE.match(ast.get_docstring(node) or "")
                if title is not None:
                    tests.setdefault(int(title[1]), []).append(f"{file.relative_to(HERE.parent)}::{node.name}")
    return tests


@pytest.mark.parametrize("number", range(1, 14))
def test_each_property_has_a_test(number: int) -> None:
    assert found().get(number), f"no test's docstring begins with the title of property {number}"


def test_there_is_no_other() -> None:
    assert set(found()) == set(range(1, 14))
