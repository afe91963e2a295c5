"""Secrets at rest: envelope encryption with AES-256-GCM.

    master key   in a file outside the database; wraps data keys
    data key     one a tenant, wrapped, in the tenant's row; seals values
    value        enc:v1:<master key id>:<data key version>:<nonce>:<ciphertext>

A value is bound to tenant, table, column and row: copied anywhere else, or changed, it does not open. The key file may
hold several keys, one a line: the first seals, the others only open, until `gateway keys rotate` is through.

Never talks to the database. The caller keeps wrapped keys and sealed values; read `tenants.py` next.
"""

import base64
import binascii
import hashlib
import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from gateway.domain.ids import TenantId
from gateway.domain.secret import Secret
from gateway.store.errors import BadMasterKey, Unsealable

KEY_FILE = "master.key"
"""Name in DATA_DIR and in systemd's credentials directory."""

_HEADER = "gateway-master-key-v1"
_VALUE = "enc:v1"
_WRAPPED = "dek:v1"
_KEY_BYTES = 32
_NONCE_BYTES = 12
_ID = re.compile(r"[0-9a-z]{8}")

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
    """The keys of the file. The first is current."""

    def __init__(self, keys: Sequence[MasterKey]) -> None:
        self.current = keys[0]
        self._by_id = {key.id: key for key in keys}

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of all keys, the current one first."""
        return tuple(self._by_id)

    def wrap(self, tenant: TenantId, data_key: DataKey) -> str:
        """Wrapped by the current key."""
        return self.current.wrap(tenant, data_key)

    def unwrap(self, tenant: TenantId, wrapped: str) -> DataKey:
        """Raises Unsealable for a key of another tenant, a changed text and a master key that is not in the file."""
        master, version, sealed = _parts(wrapped, _WRAPPED)
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
        return Sealer(tenant, keys[0], *keys[1:], master_id=self.current.id)


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
    try:
        if may_create and path is None and file == data_dir / KEY_FILE and not file.exists():
            _create(file)
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
    return parse_master_keys(text, source=str(file))


def write_master_keys(file: Path, keys: Sequence[MasterKey]) -> None:
    """Replaces the file as a whole, mode 0600, durably: a power cut leaves the old keys or the new ones."""
    fresh = _write_beside(file, "".join(f"{key.line()}\n" for key in keys))
    fresh.replace(file)
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


def _write_beside(file: Path, text: str) -> Path:
    fresh = file.with_name(f"{file.name}.{os.getpid()}.new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as output:
        output.write(text)
        output.flush()
        os.fsync(output.fileno())
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
