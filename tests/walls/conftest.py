"""A real PostgreSQL for these tests, and no network: whatever an address leads to is unreachable."""

import socket
from ipaddress import ip_address
from typing import Any

import pytest

from tests.store.database import db, dsn, empty_dsn, postgres

__all__ = ["db", "dsn", "empty_dsn", "postgres"]

_connect = socket.socket.connect


def _unreachable_beyond(self: socket.socket, address: Any) -> None:
    if self.family in (socket.AF_INET, socket.AF_INET6) and not ip_address(address[0]).is_loopback:
        raise OSError("nothing is out there")
    _connect(self, address)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of the fixture of all tests: handlers that look for a way out find none, instead of failing the test."""
    monkeypatch.setattr(socket.socket, "connect", _unreachable_beyond)
