"""Rules of every test: an unexpected ERROR in the log fails it, and no test reaches beyond this machine.

A test marked `long` runs in `make test-all` and CI alone. One that tries every place of something asks `sample` which: some
of them, always the same, in `make test`, and all with --whole.
"""

import logging
import os
import socket
from collections.abc import Callable, Generator, Iterable, Iterator
from ipaddress import ip_address
from typing import Any, TypeVar
from zlib import crc32

import pytest

T = TypeVar("T")
Sample = Callable[[Iterable[T]], list[T]]
SAMPLE = 10


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds --whole."""
    parser.addoption("--whole", action="store_true", help="try every place, where a test else tries a sample")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests that make do with a sample."""
    for item in items:
        if "sample" in getattr(item, "fixturenames", ()):
            item.add_marker("sampled")


@pytest.fixture
def sample(request: pytest.FixtureRequest) -> Sample[Any]:
    """Picks some of many places, evenly, and not the same ones for each parameter of the test; with --whole all."""

    def pick(places: Iterable[T]) -> list[T]:
        found = list(places)
        if request.config.getoption("--whole") or len(found) <= SAMPLE:
            return found
        step = len(found) / SAMPLE
        begin = crc32(request.node.name.encode()) % 1000 / 1000
        return [found[int((n + begin) * step)] for n in range(SAMPLE)]

    return pick


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With CI=true a test that is skipped has failed: every part it needs must have been installed."""
    report = yield
    if report.skipped and os.environ.get("CI") == "true":
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {report.longrepr}"
    return report


class _Errors(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(f"{record.name}: {record.getMessage()} {getattr(record, 'trace', '')}")


@pytest.fixture(autouse=True)
def no_unexpected_errors(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a test that logs an ERROR, unless it asks for `expected_errors`."""
    handler = _Errors()
    logging.getLogger().addHandler(handler)
    yield
    logging.getLogger().removeHandler(handler)
    if handler.texts and "expected_errors" not in request.fixturenames:
        pytest.fail("logged as ERROR: " + "\n".join(handler.texts))


@pytest.fixture
def expected_errors() -> None:
    """Named by tests in which something is meant to go wrong."""


_connect = socket.socket.connect


def _only_here(self: socket.socket, address: Any) -> None:
    if self.family in (socket.AF_INET, socket.AF_INET6) and not ip_address(address[0]).is_loopback:
        raise AssertionError(f"a test tried to reach {address[0]}")
    _connect(self, address)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections leave for loopback alone."""
    monkeypatch.setattr(socket.socket, "connect", _only_here)
