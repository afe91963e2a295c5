"""The commands, run in this process as a person runs them, on a database of their own."""

import io
import logging
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.cli import main
from gateway.settings import PREFIX
from gateway.store.embedded.embedded import as_login
from gateway.store.secrets.seal import new_master_key
from tests.store.database import dsn, postgres

__all__ = ["command", "dsn", "installation", "own_environment", "postgres"]


@dataclass(frozen=True)
class Ran:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def errors(self) -> list[str]:
        return self.err.splitlines()


Command = Callable[..., Ran]


@pytest.fixture
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the settings of whoever runs the tests."""
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)


@pytest.fixture
def command(
    own_environment: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Command]:
    """`command("export", "0367")`. The log's handlers are put back afterwards."""

    def run(*arguments: str, stdin: str = "") -> Ran:
        capsys.readouterr()
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        printed = capsys.readouterr()
        return Ran(int(ended.value.code or 0), printed.out, printed.err)

    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield run
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def installation(own_environment: None, dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The environment of an installation whose database is empty. Returns a folder for files."""
    key = tmp_path / "master.key"
    key.touch(0o600)
    key.write_text(new_master_key())
    monkeypatch.setenv("GATEWAY_DATABASE_URL", as_login(dsn))
    monkeypatch.setenv("GATEWAY_DATABASE_OWNER_URL", dsn)
    monkeypatch.setenv("GATEWAY_MASTER_KEY_FILE", str(key))
    monkeypatch.setenv("GATEWAY_ALLOWED_PRIVATE_NETS", "127.0.0.0/8")
    monkeypatch.setenv("GATEWAY_LOG_LEVEL", "ERROR")
    return tmp_path
