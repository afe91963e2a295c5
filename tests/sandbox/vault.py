"""A strict sandbox of HashiCorp Vault's HTTP API: the transit engine with one key, tokens with policies, seal and unseal.

It refuses what Vault refuses: a wrong method, plain text that is no base64, a token without the capability, a version that is
trimmed away. What it encrypts is really encrypted, with a key that never leaves it.
"""

import base64
import hashlib
import hmac
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

POLICY = frozenset(
    {"read keys", "update encrypt", "update decrypt", "update rewrap", "update hmac", "update keys/rotate"}
)


@dataclass
class Vault:
    """One server. `with vault: vault.url`; then change `sealed`, `tokens`, `fault` as it runs."""

    key: str = "gateway"
    tokens: dict[str, frozenset[str]] = field(default_factory=lambda: {"hvs.sandbox": POLICY})
    sealed: bool = False
    versions: dict[int, bytes] = field(default_factory=lambda: {1: os.urandom(32)})
    requests: list[tuple[str, str]] = field(default_factory=list)
    plain: list[bytes] = field(default_factory=list)
    """Everything that was decrypted or was to be encrypted: for tests that look whether a data key passed by."""
    fault: Callable[[BaseHTTPRequestHandler], bool] | None = None
    """Answers in its own way, or hangs; True where it has."""
    closing: Event = field(default_factory=Event)

    def __enter__(self) -> Self:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def latest(self) -> int:
        return max(self.versions)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        vault = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _take(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                vault.requests.append((self.command, self.path))
                if vault.fault is not None and vault.fault(self):
                    self.close_connection = True
                    return
                status, answer = vault.answer(self.command, self.path, self.headers.get("x-vault-token", ""), body)
                text = json.dumps(answer).encode() if answer is not None else b""
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_PUT = _take  # noqa: N815 - names of the standard library

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing."""

        return Handler

    def answer(self, method: str, path: str, token: str, body: bytes) -> tuple[int, dict[str, Any] | None]:
        """Status and JSON of one request."""
        if self.sealed:
            return 503, {"errors": ["Vault is sealed"]}
        found = re.fullmatch(r"/v1/transit/(keys|encrypt|decrypt|rewrap|hmac)/([\w.-]+)(/rotate)?", path)
        if found is None:
            return 404, {"errors": []}
        what, key, rotate = found[1], found[2], found[3] or ""
        capability = "read" if method == "GET" else "update"
        allowed = self.tokens.get(token)
        if allowed is None:
            return 403, {"errors": ["permission denied"]}
        if f"{capability} {what}{rotate}" not in allowed:
            return 403, {"errors": ["1 error occurred:\n\t* permission denied\n\n"]}
        if key != self.key:
            return 404 if what == "keys" else 400, {"errors": [] if what == "keys" else ["encryption key not found"]}
        if (what == "keys") != (method == "GET") and not rotate:
            return 405, {"errors": ["unsupported operation"]}
        if rotate:
            self.versions[self.latest + 1] = os.urandom(32)
            return 204, None
        if what == "keys":
            return 200, {
                "data": {
                    "name": key,
                    "type": "aes256-gcm96",
                    "latest_version": self.latest,
                    "min_decryption_version": min(self.versions),
                }
            }
        try:
            given = json.loads(body)
        except ValueError:
            return 400, {"errors": ["failed to parse JSON input"]}
        if what == "hmac":
            mac = hmac.new(self.versions[self.latest], base64.b64decode(given["input"]), hashlib.sha256).digest()
            return 200, {"data": {"hmac": f"vault:v{self.latest}:{base64.b64encode(mac).decode()}"}}
        batch = given.get("batch_input")
        items = batch if batch is not None else [given]
        results = [self._one(what, item) for item in items]
        if batch is None:
            return (400, {"errors": [results[0]["error"]]}) if "error" in results[0] else (200, {"data": results[0]})
        return (400 if any("error" in one for one in results) else 200), {"data": {"batch_results": results}}

    def _one(self, what: str, item: dict[str, Any]) -> dict[str, Any]:
        try:
            if what == "encrypt":
                return self._encrypted(base64.b64decode(item["plaintext"], validate=True))
            plain = self._decrypted(item["ciphertext"])
        except (KeyError, ValueError, InvalidTag) as error:
            return {"error": str(error) or "cipher: message authentication failed"}
        return self._encrypted(plain) if what == "rewrap" else self._noted(plain)

    def _noted(self, plain: bytes) -> dict[str, Any]:
        self.plain.append(plain)
        return {"plaintext": base64.b64encode(plain).decode()}

    def _encrypted(self, plain: bytes) -> dict[str, Any]:
        nonce = os.urandom(12)
        text = base64.b64encode(nonce + AESGCM(self.versions[self.latest]).encrypt(nonce, plain, None)).decode()
        return {"ciphertext": f"vault:v{self.latest}:{text}", "key_version": self.latest}

    def _decrypted(self, ciphertext: str) -> bytes:
        found = re.fullmatch(r"vault:v(\d+):([A-Za-z0-9+/=]+)", ciphertext)
        if found is None:
            raise ValueError("invalid ciphertext: no prefix")
        if int(found[1]) not in self.versions:
            raise ValueError("ciphertext or signature version is disallowed by policy (too old)")
        data = base64.b64decode(found[2], validate=True)
        return AESGCM(self.versions[int(found[1])]).decrypt(data[:12], data[12:], None)
