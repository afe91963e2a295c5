"""Secrets at rest: envelope encryption with AES-256-GCM.

    master key   in a file outside the database; wraps data keys
    data key     one a tenant, wrapped, in the tenant's row; seals values
    value        enc:v1:<master key id>:<data key version>:<nonce>:<ciphertext>

A value is bound to tenant, table, column and row: copied anywhere else, or changed, it does not open. The key file may
hold several keys, one a line: the first seals, the others only open, until `gateway keys rotate` is through. A value bears the id
of the master key under which its data key was wrapped at the time: that shows what a rotation has still to do.

Never talks to the database. The caller stores wrapped keys and sealed values; read `gateway/store/tenants.py` next, `rotation.py` for how
a master key is replaced.
"""

import base64
import binascii
import hashlib
import hmac
import logging
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from gateway.domain.ids import TenantId
from gateway.domain.secret import Secret
from gateway.store.postgres.errors import BadMasterKey, Unsealable

KEY_FILE = "master.key"
"""Name in DATA_DIR and in systemd's credentials directory."""

_HEADER = "gateway-master-key-v1"
_VALUE = "enc:v1"
_WRAPPED = "dek:v1"
_KEY_BYTES = 32
_NONCE_BYTES = 12
_ID = re.compile(r"[0-9a-z]{8}")
LOOK_S = 0.5
"""The key file is looked at no more often, however many unknown keys are requested."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DataKey:
    """A tenant's key in the clear, in memory only."""

    version: int
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class MasterKey:
    """One line of the key file."""

    id: str
    key: bytes = field(repr=False)

    def line(self) -> str:
        """As it stands in the file: header, id, key, checksum."""
        text = f"{_HEADER} {self.id} {_text(self.key)}"
        return f"{text} {_checksum(text)}"

    def wrap(self, tenant: TenantId, data_key: DataKey) -> str:
        """The data key for the tenant's row."""
        head = f"{_WRAPPED}:{self.id}:{data_key.version}"
        return f"{head}:{_encrypt(self.key, data_key.key, _bound(head, tenant))}"


class MasterKeys:
    """The keys of the file. The first is current. A key that is added to the file while the process runs is found; one that
    is taken out stays until the process ends."""

    def __init__(self, keys: Sequence[MasterKey], file: "_WatchedFile | None" = None) -> None:
        self.current = keys[0]
        self._by_id = {key.id: key for key in keys}
        self._file = file

    @property
    def keys(self) -> tuple[MasterKey, ...]:
        """All of them, the current one first."""
        return tuple(self._by_id.values())

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of all keys, the current one first."""
        return tuple(self._by_id)

    def derived(self, purpose: str) -> bytes:
        """A key of its own for one purpose, of the current master key; another master key has another."""
        return _derived(self.current, purpose)

    def derived_of_all(self, purpose: str) -> tuple[bytes, ...]:
        """The same of every key of the file, the current one first: what another one has signed is still good while keys change."""
        return tuple(_derived(key, purpose) for key in self.keys)

    def look(self) -> tuple[str, ...]:
        """Takes in what was added to the file, and returns the ids. Blocks for the moment that a small file takes, only where
        the file has changed, at most twice a second."""
        found = self._file.changed() if self._file is not None else None
        if found is not None:
            self._by_id = {key.id: key for key in (*found, *self._by_id.values())}
            self.current = found[0]
            log.info("the key file has changed", extra={"master_keys": self.ids})
        return self.ids

    def wrap(self, tenant: TenantId, data_key: DataKey) -> str:
        """Wrapped by the current key."""
        return self.current.wrap(tenant, data_key)

    def unwrap(self, tenant: TenantId, wrapped: str) -> DataKey:
        """Raises Unsealable for a key of another tenant, a changed text and a master key that is not in the file."""
        master, version, sealed = _parts(wrapped, _WRAPPED)
        if master not in self._by_id:
            self.look()
        key = self._by_id.get(master)
        if key is None:
            raise Unsealable(
                f"tenant {tenant}: wrapped by master key {master}, which is not in the key file",
                person=f"The secrets need the master key {master}, which the key file does not hold.",
            )
        head = f"{_WRAPPED}:{master}:{version}"
        return DataKey(version, _decrypt(key.key, sealed, _bound(head, tenant), f"data key of tenant {tenant}"))

    def sealer(self, tenant: TenantId, wrapped: str, *older: str) -> "Sealer":
        """Unwraps the tenant's current data key, and those still in use beside it."""
        keys = [self.unwrap(tenant, text) for text in (wrapped, *older)]
        return Sealer(tenant, keys[0], *keys[1:], master_id=wrapping_key(wrapped))


def _derived(master: MasterKey, purpose: str) -> bytes:
    return hmac.new(master.key, f"derived\0{purpose}".encode(), hashlib.sha256).digest()


class Sealer:
    """Seals and opens one tenant's secrets."""

    def __init__(self, tenant: TenantId, data_key: DataKey, *older: DataKey, master_id: str) -> None:
        self.tenant = tenant
        self._current = data_key
        self._by_version = {key.version: key for key in (data_key, *older)}
        self._master_id = master_id

    def seal(self, secret: Secret, *, table: str, column: str, row: str) -> str:
        """The text to store in that place, and in no other."""
        head = f"{_VALUE}:{self._master_id}:{self._current.version}"
        bound = _bound(head, self.tenant, table, column, row)
        return f"{head}:{_encrypt(self._current.key, secret.reveal().encode('utf-8', 'surrogatepass'), bound)}"

    def open(self, sealed: str, *, table: str, column: str, row: str) -> Secret:
        """Raises Unsealable for anything that was not sealed for this very place."""
        where = f"{table}.{column} of {row}, tenant {self.tenant}"
        master, version, ciphertext = _parts(sealed, _VALUE)
        key = self._by_version.get(version)
        if key is None:
            raise Unsealable(f"{where}: sealed by data key {version}, which the tenant does not have")
        bound = _bound(f"{_VALUE}:{master}:{version}", self.tenant, table, column, row)
        return Secret(_decrypt(key.key, ciphertext, bound, where).decode("utf-8", "surrogatepass"))

    def derive(self, purpose: str) -> bytes:
        """A key of the tenant's for one purpose, the same as long as its data key is: nothing of it need be stored."""
        info = _bound("derived:v1", self.tenant, purpose)
        return HKDF(hashes.SHA256(), _KEY_BYTES, salt=None, info=info).derive(self._current.key)

    def is_current(self, sealed: str) -> bool:
        """False for what a rotation has still to seal again."""
        return sealed.startswith(f"{_VALUE}:{self._master_id}:{self._current.version}:")


class _WatchedFile:
    """The key file of a process that runs on."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._seen = self._mark()
        self._next_look = float("-inf")

    def _mark(self) -> tuple[int, int, int] | None:
        try:
            found = self._file.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def changed(self) -> tuple[MasterKey, ...] | None:
        """The file's keys where it is another file than before, and one that makes sense."""
        now = time.monotonic()
        if now < self._next_look:
            return None
        self._next_look = now + LOOK_S
        mark = self._mark()
        if mark is None or mark == self._seen:
            return None
        self._seen = mark
        try:
            return parse_master_keys(self._file.read_text("utf-8"), source=str(self._file)).keys
        except (OSError, UnicodeError, BadMasterKey) as error:
            log.error(
                "the key file has changed and cannot be used; the keys read before stay in force",
                extra={"reason": error.person if isinstance(error, BadMasterKey) else type(error).__name__},
            )
            return None


def wrapping_key(wrapped: str) -> str:
    """The id of the master key by which a data key is wrapped. Raises Unsealable for what is none."""
    return _parts(wrapped, _WRAPPED)[0]


def new_data_key(version: int = 1) -> DataKey:
    """A fresh key for a tenant."""
    return DataKey(version, AESGCM.generate_key(bit_length=_KEY_BYTES * 8))


def new_master_key() -> str:
    """A fresh line for the key file, as `gateway keys new` prints it."""
    alphabet = "0123456789abcdefghijklmnopqrstuvwxyz"
    name = "".join(alphabet[byte % 36] for byte in os.urandom(8))
    return MasterKey(name, AESGCM.generate_key(bit_length=_KEY_BYTES * 8)).line()


def parse_master_keys(text: str, *, source: str = "the master key") -> MasterKeys:
    """The keys of a file's text. Raises BadMasterKey, which never quotes the text."""
    keys: list[MasterKey] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 4 or words[0] != _HEADER or not _ID.fullmatch(words[1]):
            raise BadMasterKey(person=f"{source}: line {number} is not a master key; `gateway keys new` makes one.")
        key = _bytes(words[2])
        if key is None or len(key) != _KEY_BYTES or words[3] != _checksum(" ".join(words[:3])):
            raise BadMasterKey(person=f"{source}: line {number} is damaged (its checksum does not fit).")
        if any(words[1] == other.id for other in keys):
            raise BadMasterKey(person=f"{source}: line {number} repeats the key {words[1]}.")
        keys.append(MasterKey(words[1], key))
    if not keys:
        raise BadMasterKey(person=f"{source} holds no key; `gateway keys new` makes one.")
    return MasterKeys(keys)


def master_key_path(path: Path | None, data_dir: Path, credentials_directory: str | None = None) -> Path:
    """MASTER_KEY_FILE, else systemd's credential `master.key` where there is one, else DATA_DIR/master.key."""
    if path is not None:
        return path
    credential = Path(credentials_directory, KEY_FILE) if credentials_directory else None
    return credential if credential is not None and credential.exists() else data_dir / KEY_FILE


def load_master_keys(
    path: Path | None, data_dir: Path, *, may_create: bool, credentials_directory: str | None = None
) -> MasterKeys:
    """Blocks for a moment. `may_create` makes DATA_DIR/master.key where nothing else is configured: on the first start
    in embedded mode alone, for without its old key a database's secrets are lost."""
    file = master_key_path(path, data_dir, credentials_directory)
    watched = _WatchedFile(file)
    try:
        if may_create and path is None and file == data_dir / KEY_FILE and not file.exists():
            _create(file)
            watched = _WatchedFile(file)
        text = file.read_text("utf-8")
    except FileNotFoundError:
        raise BadMasterKey(
            person=f"There is no master key at {file}. Make one: `gateway keys new > {file}`, mode 0600, "
            "and name it in GATEWAY_MASTER_KEY_FILE."
        ) from None
    except OSError as error:
        raise BadMasterKey(person=f"The master key {file} cannot be read: {error.strerror}.") from None
    except UnicodeError:
        raise BadMasterKey(person=f"{file} is not a master key; `gateway keys new` makes one.") from None
    if file.stat().st_mode & 0o007:
        log.warning("the master key %s is open to every account of this machine; chmod 600 it", file)
    return MasterKeys(parse_master_keys(text, source=str(file)).keys, watched)


def write_master_keys(file: Path, keys: Sequence[MasterKey]) -> None:
    """Replaces the file as a whole, durably: a power cut leaves the old keys or the new ones. Mode, owner and comments stay;
    a new file has mode 0600. Raises OSError, and then the old file is there."""
    file = file.resolve()  # the link stays, what it leads to is replaced
    like, comments = None, []
    if file.exists():
        like = file.stat()
        comments = [line for line in file.read_text("utf-8", "replace").splitlines() if line.startswith("#")]
    for left in file.parent.glob(f"{file.name}.*.new"):  # of a process that was killed here
        left.unlink()
    fresh = _write_beside(file, "".join(f"{line}\n" for line in (*comments, *(key.line() for key in keys))), like)
    try:
        fresh.replace(file)
    except OSError:
        fresh.unlink()
        raise
    _sync_folder(file.parent)


def _create(file: Path) -> None:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = _write_beside(file, f"# Without this key the secrets in the database cannot be read.\n{new_master_key()}\n")
    try:
        os.link(fresh, file)  # fails where another process was first: its key is the one
    except FileExistsError:
        pass
    finally:
        fresh.unlink()
    _sync_folder(file.parent)


def _write_beside(file: Path, text: str, like: os.stat_result | None = None) -> Path:
    fresh = file.with_name(f"{file.name}.{os.getpid()}.new")
    fresh.unlink(missing_ok=True)
    try:
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as output:
            output.write(text)
            if like is not None:
                if (like.st_uid, like.st_gid) != (os.geteuid(), os.fstat(fd).st_gid):
                    os.fchown(fd, like.st_uid, like.st_gid)
                os.fchmod(fd, like.st_mode & 0o7777)
            output.flush()
            os.fsync(fd)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise
    return fresh


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _bound(*parts: str) -> bytes:
    """Additional data with the length before each part: no two lists of parts read the same."""
    encoded = [part.encode("utf-8", "surrogatepass") for part in parts]
    return b"".join(len(part).to_bytes(4, "big") + part for part in encoded)


def _encrypt(key: bytes, plain: bytes, bound: bytes) -> str:
    nonce = os.urandom(_NONCE_BYTES)
    return f"{_text(nonce)}:{_text(AESGCM(key).encrypt(nonce, plain, bound))}"


def _decrypt(key: bytes, sealed: tuple[bytes, bytes], bound: bytes, where: str) -> bytes:
    try:
        return AESGCM(key).decrypt(sealed[0], sealed[1], bound)
    except InvalidTag:
        raise Unsealable(f"{where}: changed, or sealed for another place") from None


def _parts(text: str, kind: str) -> tuple[str, int, tuple[bytes, bytes]]:
    words = text.split(":")
    if len(words) == 6 and ":".join(words[:2]) == kind and words[3].isdecimal():
        nonce, ciphertext = _bytes(words[4]), _bytes(words[5])
        if nonce is not None and ciphertext is not None and len(nonce) == _NONCE_BYTES:
            return words[2], int(words[3]), (nonce, ciphertext)
    raise Unsealable(f"not a text of the form {kind}:…")


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _bytes(text: str) -> bytes | None:
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if _text(data) == text else None  # one spelling only


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:8]
