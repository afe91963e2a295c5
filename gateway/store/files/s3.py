"""Sealed files in an S3-compatible bucket, one request an object: PUT, GET with a range, HEAD, DELETE, and the list.

A PUT is applied fully or not at all, and its length and SHA-256 are signed, so a connection that breaks leaves nothing. Signing is
Signature Version 4, checked against the vectors that AWS publishes. The address is the operator's and therefore trusted;
the bucket belongs to this installation alone, for the janitor removes what no row names.

Never follows redirects, never logs an address with its signature. Read `blobs.py` for the contract.
"""

import hashlib
import hmac
import re
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from typing import NoReturn, Self
from urllib.parse import quote, urlsplit

import httpx2
import trio

from gateway.domain.errors import Unavailable
from gateway.domain.ids import TenantId
from gateway.domain.secret import Secret
from gateway.store.files.blobs import NAME, Missing
from gateway.store.secrets.sealed_file import Sealed, sealed_size

CONNECT_S = 5.0
READ_S = 30.0
PUT_S = 600.0
LIST_LIMIT = 4 << 20
_PIECE = 256 * 1024
_SPARE = 64 * 1024
_EMPTY = hashlib.sha256(b"").hexdigest()


def authorization(
    method: str,
    host: str,
    path: str,
    query: Mapping[str, str],
    headers: Mapping[str, str],
    payload: str,
    *,
    at: datetime,
    region: str,
    access_key: str,
    secret_key: str,
) -> dict[str, str]:
    """The headers that sign a request, `path` being encoded already. Pure. `payload` is the body's SHA-256 in hex."""
    stamp = at.strftime("%Y%m%dT%H%M%SZ")
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    reported = {name.lower(): " ".join(value.split()) for name, value in headers.items()}
    reported |= {"host": host, "x-amz-content-sha256": payload, "x-amz-date": stamp}
    names = ";".join(sorted(reported))
    pairs = sorted((quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in query.items())
    canonical = "\n".join(
        (
            method,
            path,
            "&".join(f"{name}={value}" for name, value in pairs),
            *(f"{name}:{reported[name]}" for name in sorted(reported)),
            "",
            names,
            payload,
        )
    )
    to_sign = "\n".join(("AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()))
    key = f"AWS4{secret_key}".encode()
    for part in (stamp[:8], region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), hashlib.sha256)
    signature = hmac.digest(key, to_sign.encode(), hashlib.sha256).hex()
    credential = f"Credential={access_key}/{scope},SignedHeaders={names},Signature={signature}"
    return {
        "x-amz-content-sha256": payload,
        "x-amz-date": stamp,
        "authorization": f"AWS4-HMAC-SHA256 {credential}",
    }


class S3Blobs:
    """Objects in one bucket, by path (`https://host/bucket/name`). `async with`; entering opens nothing."""

    def __init__(self, url: str, bucket: str, region: str, access_key: Secret, secret_key: Secret) -> None:
        parts = urlsplit(url)
        self._origin, self._host = f"{parts.scheme}://{parts.netloc}", parts.netloc
        self._base = f"{parts.path.rstrip('/')}/{quote(bucket, safe='')}"
        self._region, self._access_key, self._secret_key = region, access_key, secret_key
        self._client: httpx2.AsyncClient | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._client is not None:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + CONNECT_S):
                await self._client.aclose()

    async def put(self, sealed: Sealed, name: str) -> None:
        """One PUT with the file's length and digest."""
        size, digest = sealed_size(sealed.size), sealed.sealed_digest.hex()
        headers = {"content-length": str(size), "content-type": "application/octet-stream"}
        status = await self._send("PUT", name, headers, payload=digest, body=_pieces(sealed.path), whole_s=PUT_S)
        if status not in (200, 201, 204):
            self._refuse(status)

    async def read(self, name: str, start: int, length: int) -> bytes:
        """One ranged GET."""
        into = bytearray()
        status = await self._send("GET", name, {"range": f"bytes={start}-{start + length - 1}"}, into=into, most=length)
        if status == 404:
            raise Missing(name)
        if status not in (200, 206) or (status == 200 and start):
            self._refuse(status)
        return bytes(into[:length])

    async def size(self, name: str) -> int | None:
        """One HEAD."""
        received: dict[str, str] = {}
        status = await self._send("HEAD", name, {}, received=received)
        if status == 404:
            return None
        if status != 200:
            self._refuse(status)
        length = received.get("content-length", "")
        return int(length) if length.isdigit() else None

    async def delete(self, name: str) -> None:
        """One DELETE, which is content with what is not there."""
        status = await self._send("DELETE", name, {})
        if status not in (200, 202, 204, 404):
            self._refuse(status)

    async def delete_all(self, tenant: TenantId) -> None:
        """The bucket's list of what begins with the tenant, then one DELETE each."""
        async for listed in self._listed(f"{tenant}/"):
            for name, _ in listed:
                if NAME.fullmatch(name) and name.startswith(f"{tenant}/"):
                    await self.delete(name)

    async def old_names(self, older_than_s: float) -> AsyncIterator[Sequence[str]]:
        """The bucket's list, a thousand at a time."""
        before = datetime.now(UTC) - timedelta(seconds=older_than_s)
        async for listed in self._listed(""):
            yield [name for name, written in listed if NAME.fullmatch(name) and _is_before(written, before)]

    async def _listed(self, prefix: str) -> AsyncIterator[list[tuple[str, str]]]:
        """Names and when they were written."""
        after = ""
        while True:
            query = {"list-type": "2", "max-keys": "1000"}
            query |= {"prefix": prefix} if prefix else {}
            query |= {"start-after": after} if after else {}
            into = bytearray()
            status = await self._send("GET", "", {}, query=query, into=into, most=LIST_LIMIT)
            if status != 200:
                self._refuse(status)
            text = into.decode("utf-8", "replace")
            entries = re.findall(r"<Contents>(.*?)</Contents>", text, re.DOTALL)
            listed = [(_inner("Key", entry), _inner("LastModified", entry)) for entry in entries]
            yield listed
            if not listed or "<IsTruncated>true</IsTruncated>" not in text:
                return
            after = listed[-1][0]

    async def _send(
        self,
        method: str,
        name: str,
        headers: Mapping[str, str],
        *,
        query: Mapping[str, str] | None = None,
        payload: str = _EMPTY,
        body: AsyncIterator[bytes] | None = None,
        into: bytearray | None = None,
        most: int = 0,
        received: dict[str, str] | None = None,
        whole_s: float = 60.0,
    ) -> int:
        if name and not NAME.fullmatch(name):
            raise ValueError("not the name of an object")
        path = f"{self._base}/{name}" if name else self._base
        query = query or {}
        signed = authorization(
            method, self._host, path, query, headers, payload, at=datetime.now(UTC), region=self._region,
            access_key=self._access_key.reveal(), secret_key=self._secret_key.reveal(),
        )  # fmt: skip
        url = self._origin + path + (f"?{_encoded(query)}" if query else "")
        failure = Unavailable("the store of recordings: no answer in time", after_s=30.0)
        with trio.move_on_after(whole_s):
            try:
                client = await self._open()
                async with client.stream(method, url, headers={**headers, **signed}, content=body) as response:
                    if received is not None:
                        received.update(response.headers)
                    # Read to its end in any case, or the connection could not be used again.
                    wanted = into if into is not None and response.status_code in (200, 206) else bytearray()
                    with trio.CancelScope() as reading:
                        async for piece in response.aiter_raw():
                            wanted += piece
                            if len(wanted) > max(most, _SPARE):
                                reading.cancel()
                    return response.status_code
            except httpx2.HTTPError as error:
                failure = Unavailable(f"the store of recordings: {type(error).__name__}", after_s=30.0)
        raise failure

    async def _open(self) -> httpx2.AsyncClient:
        if self._client is None:
            verify: ssl.SSLContext | bool = True
            if self._origin.startswith("https:"):
                verify = await trio.to_thread.run_sync(lambda: httpx2.create_ssl_context(trust_env=False))
            self._client = self._client or httpx2.AsyncClient(
                timeout=httpx2.Timeout(READ_S, connect=CONNECT_S), verify=verify, follow_redirects=False, trust_env=False,
                headers={"accept-encoding": "identity", "user-agent": "telephony-gateway"},
            )  # fmt: skip
        return self._client

    def _refuse(self, status: int) -> NoReturn:
        raise Unavailable(f"the store of recordings: status {status}", after_s=30.0)


def _encoded(query: Mapping[str, str]) -> str:
    return "&".join(f"{quote(name, safe='-_.~')}={quote(query[name], safe='-_.~')}" for name in sorted(query))


async def _pieces(path: Path) -> AsyncIterator[bytes]:
    file = await trio.to_thread.run_sync(path.open, "rb")
    try:
        while piece := await trio.to_thread.run_sync(file.read, _PIECE):
            yield piece
    finally:
        file.close()


def _inner(name: str, entry: str) -> str:
    found = re.search(f"<{name}>(.*?)</{name}>", entry, re.DOTALL)
    return unescape(found[1]) if found else ""


def _is_before(text: str, moment: datetime) -> bool:
    try:
        return datetime.fromisoformat(text) < moment
    except (ValueError, TypeError):
        return False
