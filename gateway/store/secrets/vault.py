"""The master key in HashiCorp Vault: its transit engine wraps and unwraps data keys, and the key itself never comes here.

    wrapped   dek:vault:<id>:<data key version>:<ciphertext>        id: v and the version of the transit key, 8 characters

Used in the place of `MasterKeys`. What needs Vault is asynchronous and comes first: `prepare` opens wrapped keys, many in one
request, and `wrapped` makes one; `unwrap` answers from memory alone. So what is open stays open while Vault is sealed or away.
A data key is bound to its tenant inside what is encrypted, for `rewrap` takes no associated data. The token's file is read
for each request: an agent may renew it. Read `gateway/cli/keys.py` for the rotation.
"""

import base64
import hashlib
import hmac
import json
import logging
import re
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import httpx2
import trio

from gateway.domain.errors import Unavailable
from gateway.domain.ids import TenantId
from gateway.domain.secret import masked
from gateway.store.postgres.errors import BadMasterKey, Unsealable
from gateway.store.secrets.seal import DataKey, MasterKey, MasterKeys, bound_texts

log = logging.getLogger(__name__)

MOUNT = "transit"
CONNECT_S, READ_S, WHOLE_S = 3.0, 5.0, 10.0
AT_ONCE = 250
LARGEST_ANSWER = 4 * 1024 * 1024
_HEADER = "gateway-data-key-v1"
_WRAPPED = re.compile(r"dek:vault:(v[0-9]{7}):([0-9]{1,9}):([A-Za-z0-9+/=]+)")
_CIPHERTEXT = re.compile(r"vault:v([0-9]{1,7}):([A-Za-z0-9+/=]+)")


class VaultAway(Unavailable):
    """Vault does not do what it is asked."""


class Vault:
    """Requests to one transit key. Blocking underneath, in a thread of its own with a deadline."""

    def __init__(self, url: str, token_file: Path, key: str) -> None:
        self.url = url.rstrip("/")
        self.key = key
        self._token_file = token_file
        self._thread = trio.CapacityLimiter(2)
        self._tls = ssl.create_default_context()

    async def call(self, method: str, path: str, payload: dict[str, Any] | None = None) -> dict[str, Any]:
        """`data` of the answer. Raises VaultAway with words for a person."""
        try:
            with trio.fail_after(WHOLE_S):
                status, text = await trio.to_thread.run_sync(
                    self._send, method, f"{MOUNT}/{path}", payload, limiter=self._thread, abandon_on_cancel=True
                )
        except trio.TooSlowError:
            self._refuse(f"does not answer within {WHOLE_S:.0f} s")
        return self._read(status, text, path)

    def _send(self, method: str, path: str, payload: dict[str, Any] | None) -> tuple[int, bytes]:
        try:
            token = self._token_file.read_text("utf-8").strip()
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8"
            raise self._away(f"the token's file {self._token_file} cannot be read: {reason}") from None
        if not token.isascii() or not token.isprintable() or not token or " " in token:
            raise self._away(f"{self._token_file} holds no token")
        failure = ""
        try:
            with (
                httpx2.Client(
                    timeout=httpx2.Timeout(READ_S, connect=CONNECT_S),
                    verify=self._tls,
                    follow_redirects=False,
                    trust_env=False,
                ) as client,
                client.stream(
                    method,
                    f"{self.url}/v1/{path}",
                    headers={"x-vault-token": token, "x-vault-request": "true"},
                    json=payload,
                ) as answer,
            ):
                body = bytearray()
                for piece in answer.iter_raw():
                    body += piece
                    if len(body) > LARGEST_ANSWER:
                        raise self._away("answers with more than it should: that is not Vault")
                return answer.status_code, bytes(body)
        except httpx2.HTTPError as error:
            failure = masked(str(error), token)[:200] or type(error).__name__
        raise self._away(f"does not answer: {failure}")

    def _read(self, status: int, text: bytes, path: str) -> dict[str, Any]:
        try:
            answer = json.loads(text) if text else {}
        except ValueError:
            answer = None
        data = answer.get("data") if isinstance(answer, dict) else None
        if status in (200, 204) or (status == 400 and isinstance(data, dict) and "batch_results" in data):
            if isinstance(data, dict):
                return data
            if status == 204:
                return {}
            self._refuse("gives an answer that is not Vault's")
        errors = answer.get("errors") if isinstance(answer, dict) else None
        said = "; ".join(str(one) for one in errors)[:200] if isinstance(errors, list) else ""
        if status == 503 and "sealed" in said.lower():
            self._refuse("is sealed: unseal it (`vault operator unseal`)")
        if status == 403:
            self._refuse(
                f"refuses the token in {self._token_file} ({said or 'permission denied'}): it has expired, or its policy does not "
                f"allow {MOUNT}/{path}"
            )
        if status == 404:
            self._refuse(f"has no key {self.key} in the mount {MOUNT}: `vault write -f {MOUNT}/keys/{self.key}`")
        if status in (301, 302, 307, 308):
            self._refuse(f"leads elsewhere (status {status}): name the address of the active node")
        raise self._away(f"answers with status {status}{f': {said}' if said else ''}")

    def _away(self, what: str) -> VaultAway:
        text = f"Vault at {self.url} {what}" if not what.startswith(("the token", str(self._token_file))) else what
        return VaultAway(text, person=f"{text[0].upper()}{text[1:]}.")

    def _refuse(self, what: str) -> NoReturn:
        raise self._away(what)


class VaultKeys(MasterKeys):
    """The transit key in the place of a key file. Made by `open_vault`. `older`: a key file from which data keys come."""

    def __init__(self, vault: Vault, version: int, base: bytes, older: MasterKeys | None = None) -> None:
        super().__init__([MasterKey(id_of(version), b"")])
        self.vault = vault
        self._base = base
        self._older = older
        self._open: dict[tuple[TenantId, str], DataKey] = {}

    def derived(self, purpose: str) -> bytes:
        """A key of its own for one purpose, of what Vault derived when it was opened."""
        return hmac.new(self._base, f"derived\0{purpose}".encode(), hashlib.sha256).digest()

    def wrap(self, tenant: TenantId, data_key: DataKey) -> str:
        """Never: Vault has to be asked, see `wrapped`."""
        raise NotImplementedError

    async def wrapped(self, tenant: TenantId, data_key: DataKey) -> str:
        """Encrypts it by the newest version of the transit key. Raises VaultAway."""
        plain = _plain(tenant, data_key)
        answer = await self.vault.call("POST", f"encrypt/{self.vault.key}", {"plaintext": plain})
        text = self._wrapped_text(answer.get("ciphertext"), data_key.version)
        self._open[tenant, text] = data_key
        return text

    async def prepare(self, keys: Sequence[tuple[TenantId, str]]) -> None:
        """Opens what is not open yet. What cannot be opened stays closed, and `problem` says why."""
        missing = [
            (tenant, text) for tenant, text in keys if (tenant, text) not in self._open and _WRAPPED.fullmatch(text)
        ]
        for start in range(0, len(missing), AT_ONCE):
            batch = missing[start : start + AT_ONCE]
            try:
                results = await self._batch("decrypt", [_ciphertext(text) for _, text in batch])
            except VaultAway as error:
                if self.problem != error.detail:
                    log.warning(
                        "data keys cannot be opened", extra={"reason": error.detail, "tenants": len(missing) - start}
                    )
                self.problem = error.detail
                return
            for (tenant, text), result in zip(batch, results, strict=True):
                data_key = _opened(tenant, text, result.get("plaintext"))
                if data_key is not None:
                    self._open[tenant, text] = data_key
        self.problem = ""

    def unwrap(self, tenant: TenantId, wrapped: str) -> DataKey:
        """From memory. Raises Unsealable for what `prepare` has not opened."""
        found = self._open.get((tenant, wrapped))
        if found is not None:
            return found
        if not wrapped.startswith("dek:vault:"):
            if self._older is not None:
                return self._older.unwrap(tenant, wrapped)
            text = "wrapped by a key file, not by Vault: `gateway keys rotate --from-file FILE` moves it"
            raise Unsealable(f"tenant {tenant}: {text}", person=f"The data key of tenant {tenant} is {text}.")
        text = self.problem or "its data key was changed, or is another tenant's"
        raise Unsealable(f"tenant {tenant}: {text}", person=f"The data key of tenant {tenant} does not open: {text}.")

    # The rotation.

    async def rotate(self) -> None:
        """Makes a new version of the transit key, which is current from then on. Raises VaultAway."""
        await self.vault.call("POST", f"keys/{self.vault.key}/rotate")
        await self.refresh()

    async def refresh(self) -> None:
        """Reads which version is current. Raises VaultAway."""
        version = await _latest(self.vault)
        self.current = MasterKey(id_of(version), b"")
        self._by_id = {self.current.id: self.current}

    async def rewrap(self, keys: Sequence[tuple[TenantId, str]]) -> dict[tuple[TenantId, str], str]:
        """The same data keys under the newest version; those that do not open are left out. Raises VaultAway."""
        await self.prepare(keys)
        if self.problem:
            raise VaultAway(self.problem, person=f"{self.problem}.")
        made: dict[tuple[TenantId, str], str] = {}
        ours = [one for one in keys if _WRAPPED.fullmatch(one[1]) and one in self._open]
        for start in range(0, len(ours), AT_ONCE):
            batch = ours[start : start + AT_ONCE]
            results = await self._batch("rewrap", [_ciphertext(text) for _, text in batch])
            for (tenant, text), result in zip(batch, results, strict=True):
                data_key = self._open[tenant, text]
                fresh = made[tenant, text] = self._wrapped_text(result.get("ciphertext"), data_key.version)
                self._open[tenant, fresh] = data_key
        for tenant, text in keys:
            if self._older is not None and not text.startswith("dek:vault:"):
                made[tenant, text] = await self.wrapped(tenant, self._older.unwrap(tenant, text))
        return made

    async def _batch(self, what: str, ciphertexts: Sequence[str]) -> Sequence[dict[str, Any]]:
        batch = [{"ciphertext": text} for text in ciphertexts]
        answer = await self.vault.call("POST", f"{what}/{self.vault.key}", {"batch_input": batch})
        results = answer.get("batch_results")
        if (
            not isinstance(results, list)
            or len(results) != len(batch)
            or not all(isinstance(one, dict) for one in results)
        ):
            raise self.vault._away("gives an answer that is not Vault's")
        return results

    def _wrapped_text(self, ciphertext: Any, version: int) -> str:
        found = _CIPHERTEXT.fullmatch(ciphertext) if isinstance(ciphertext, str) else None
        if found is None:
            raise self.vault._away("gives an answer that is not Vault's")
        return f"dek:vault:{id_of(int(found[1]))}:{version}:{found[2]}"


async def open_vault(url: str, token_file: Path, key: str, older: MasterKeys | None = None) -> VaultKeys:
    """Looks whether the transit key is there and may be used. Raises BadMasterKey with a sentence for a person."""
    vault = Vault(url, token_file, key)
    if vault.url.startswith("http:") and not re.match(r"http://(127\.|localhost|\[::1\])", vault.url):
        log.warning("GATEWAY_VAULT_URL is not https: whoever is on the way reads the token and data keys")
    try:
        version = await _latest(vault)
        answer = await vault.call("POST", f"hmac/{key}", {"input": base64.b64encode(b"gateway derived v1").decode()})
        base = answer.get("hmac")
        if not isinstance(base, str) or not base.startswith("vault:v"):
            raise vault._away("gives an answer that is not Vault's")
    except VaultAway as error:
        raise BadMasterKey(error.detail, person=error.person) from None
    return VaultKeys(vault, version, base.encode(), older)


async def _latest(vault: Vault) -> int:
    version = (await vault.call("GET", f"keys/{vault.key}")).get("latest_version")
    if not isinstance(version, int) or not 0 < version < 10_000_000:
        raise vault._away("gives an answer that is not Vault's")
    return version


def id_of(version: int) -> str:
    """A version of the transit key as the id of a master key."""
    return f"v{version:07d}"


def _plain(tenant: TenantId, data_key: DataKey) -> str:
    return base64.b64encode(bound_texts(_HEADER, tenant, str(data_key.version)) + data_key.key).decode()


def _ciphertext(text: str) -> str:
    found = _WRAPPED.fullmatch(text)
    assert found is not None
    return f"vault:v{int(found[1][1:])}:{found[3]}"


def _opened(tenant: TenantId, text: str, plaintext: Any) -> DataKey | None:
    """The data key in what Vault decrypted, where it is this tenant's and of this version."""
    found = _WRAPPED.fullmatch(text)
    if found is None or not isinstance(plaintext, str):
        return None
    try:
        plain = base64.b64decode(plaintext, validate=True)
    except ValueError:
        return None
    head = bound_texts(_HEADER, tenant, found[2])
    if not hmac.compare_digest(plain[: len(head)], head) or len(plain) != len(head) + 32:
        return None
    return DataKey(int(found[2]), plain[len(head) :])
