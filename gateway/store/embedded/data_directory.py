"""The embedded server's data folder: made once, given to the server's account, with a socket folder and access rules.

Owns DATA_DIR/postgres: `<major>/` is a data folder, `run/` holds the socket, `<major>.log` the server's log. Starts
no server that stays: read `server.py` next.
"""

import os
import shutil
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gateway.store.embedded.binaries import (
    Account,
    Binaries,
    choose_binaries,
    command_prefix,
    find_binaries,
    own_name,
    server_account,
)
from gateway.store.postgres.errors import NoServer
from gateway.store.postgres.roles import LOGIN

USER = DATABASE = "gateway"
"""The cluster's superuser, who owns the tables: for migrations and partitions alone."""
PORT = 5432
"""Names the socket; nothing listens on the network."""

SUN_PATH_LIMIT = 107

_TEMPORARY = "gateway-postgres-"


@dataclass(frozen=True, slots=True)
class Cluster:
    """What a server process needs."""

    binaries: Binaries
    account: Account | None
    data: Path
    socket: Path


def prepare_cluster(data_dir: Path, *, system: bool, last_socket: str) -> Cluster:
    """Everything before the process. Blocks for a second on the first start, so run it in a thread."""
    home = data_dir / "postgres"
    account = server_account(home)
    try:
        home.mkdir(mode=0o700, exist_ok=True)
        _give(home, account)
        binaries = choose_binaries(find_binaries(system=system), _majors(home), home)
        data = home / str(binaries.major)
        if not data.exists():
            _make_data(binaries, account, data)
        _forget_temporary(last_socket)
        socket = _socket_folder(home, account)
    except OSError as error:
        raise NoServer(person=f"{error.filename or home}: {error.strerror}.") from None
    return Cluster(binaries, account, data, socket)


def _majors(home: Path) -> list[int]:
    """Versions there is data of, the last one used first."""
    found = [folder for folder in home.iterdir() if folder.name.isdecimal() and (folder / "PG_VERSION").exists()]
    return [int(folder.name) for folder in sorted(found, key=_last_used, reverse=True)]


def _last_used(data: Path) -> float:
    mark = data / "postmaster.opts"  # written at every start
    return mark.stat().st_mtime if mark.exists() else 0.0


def _make_data(binaries: Binaries, account: Account | None, data: Path) -> None:
    """initdb beside the final place, then a rename: a start that was cut off leaves nothing half made."""
    fresh = data.with_name(f"{data.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    _give(fresh, account)
    prefix = command_prefix(account, (fresh, binaries.folder), dies_with_us=False)
    make = [*prefix, binaries.initdb, "-D", str(fresh), "-U", USER, "-E", "UTF8", "--locale=C", "--auth=peer"]
    # Sorting stays that of bytes; upper and lower case know Cyrillic where the system has the locale.
    done = run_command([*make, "--lc-ctype=C.UTF-8"])
    if done.returncode and "locale" in done.stderr:
        done = run_command(make)
    if not done.returncode:
        single = [*prefix, binaries.postgres, "--single", "-D", str(fresh), "-c", "log_checkpoints=off", "template1"]
        done = run_command(single, f"CREATE DATABASE {DATABASE}\n")
    if done.returncode or not (fresh / "PG_VERSION").exists():
        reason = next((line for line in reversed(done.stderr.splitlines()) if "rror" in line or "FATAL" in line), "")
        shutil.rmtree(fresh, ignore_errors=True)
        raise NoServer(person=f"The database folder {data} could not be made: {reason.strip() or 'initdb failed'}.")
    fresh.rename(data)


def run_command(command: list[str], text: str = "") -> "subprocess.CompletedProcess[str]":
    """Runs something short to its end."""
    return subprocess.run(  # noqa: S603 - our own words
        command,
        input=text,
        capture_output=True,
        text=True,
        errors="replace",
        cwd="/",
        env=server_environment(),
        check=False,
    )


def server_environment() -> dict[str, str]:
    """Ours, without PGDATA, PGPORT and the like of whoever started the gateway."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}


def _give(path: Path, account: Account | None) -> None:
    if account is not None and path.stat().st_uid != account.uid:
        os.chown(path, account.uid, account.gid)


def _socket_folder(home: Path, account: Account | None) -> Path:
    socket = home / "run"
    if len(os.fsencode(socket / f".s.PGSQL.{PORT}")) > SUN_PATH_LIMIT or set(str(socket)) & set(",\"'\\"):
        socket = Path(tempfile.mkdtemp(prefix=_TEMPORARY))
    socket.mkdir(mode=0o700, exist_ok=True)
    _give(socket, account)
    return socket


def clear_socket(socket: Path, *, keep: bool = False) -> None:
    """We hold the lock and no server of this data runs: a socket still there belongs to nobody."""
    for name in (f".s.PGSQL.{PORT}", f".s.PGSQL.{PORT}.lock"):
        (socket / name).unlink(missing_ok=True)
    if not keep and socket.name.startswith(_TEMPORARY):
        with suppress(OSError):
            socket.rmdir()


def _forget_temporary(last_socket: str) -> None:
    socket = Path(last_socket)
    if socket.name.startswith(_TEMPORARY) and socket.parent == Path(tempfile.gettempdir()):
        with suppress(OSError):
            clear_socket(socket)


def write_access(data: Path, account: Account | None) -> None:
    """Only the account the gateway runs as may come in; one without a name is let in by the folder's mode alone."""
    name = own_name()
    method = "peer map=gateway" if name else "trust"
    files = {
        "pg_hba.conf": "".join(f"local all {user} {method}\n" for user in (USER, LOGIN)),
        "pg_ident.conf": "".join(f'gateway "{name}" {user}\n' for user in (USER, LOGIN)) if name else "",
    }
    for file, text in files.items():
        path = data / file
        if path.exists() and path.read_text("utf-8") == text:
            continue
        path.write_text(text, "utf-8")
        _give(path, account)
