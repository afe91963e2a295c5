"""Connections of the official SDK's client: made by the dialer that judges addresses, where a company has named the server.

The SDK takes an `httpx2` client, whose transport this is. Never reads proxy variables. Read `adapters/http/addresses.py` for what is
judged.
"""

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import httpcore2
import httpx2
import trio

from adapters.base import Dialer
from adapters.http.connecting import tls_context
from gateway.domain.errors import GatewayError

AT_ONCE = 256
"""Connections to one server."""
KEEPALIVE_S = 30.0


class Forbidden(httpx2.ConnectError):
    """The dialer refuses the server's name or address."""

    def __init__(self, error: GatewayError) -> None:
        super().__init__(error.detail)
        self.error = error


class _Dialled(httpcore2.TrioBackend):
    """Connects to the addresses that the dialer allows, one after the other."""

    def __init__(self, dial: Dialer | None, *, tls: bool) -> None:
        self._dial = dial
        self._tls = tls

    async def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:  # fmt: skip
        addresses: list[str] = [host]
        if self._dial is not None:
            try:
                with trio.fail_after(timeout if timeout is not None else KEEPALIVE_S):
                    addresses = list(await self._dial.resolve_web(host, port, tls=self._tls))
            except trio.TooSlowError:
                raise httpcore2.ConnectTimeout("the name was not found in time") from None
            except GatewayError as error:
                raise Forbidden(error) from None
        failure: Exception = httpcore2.ConnectError("no address")
        for address in addresses:
            try:
                return await super().connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        raise failure


@contextmanager
def _translated() -> Iterator[None]:
    """What the connections raise, as the client's own errors."""
    try:
        yield
    except Forbidden:
        raise
    except (
        httpcore2.TimeoutException,
        httpcore2.NetworkError,
        httpcore2.ProtocolError,
        httpcore2.UnsupportedProtocol,
    ) as error:
        kind = getattr(httpx2, type(error).__name__, httpx2.TransportError)
        raise kind(str(error)) from error


class _Body(httpx2.AsyncByteStream):
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _translated():
            async for piece in self._stream:
                yield piece

    async def aclose(self) -> None:
        await self._stream.aclose()


class Transport(httpx2.AsyncBaseTransport):
    """Of one server."""

    def __init__(self, url: str, dial: Dialer | None) -> None:
        self._tls = url.startswith("https:")
        self._dial = dial
        self._pool: httpcore2.AsyncConnectionPool | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if self._pool is None:
            context = await trio.to_thread.run_sync(tls_context) if self._tls else None
            self._pool = self._pool or httpcore2.AsyncConnectionPool(
                ssl_context=context, max_connections=AT_ONCE, max_keepalive_connections=8, keepalive_expiry=KEEPALIVE_S,
                network_backend=_Dialled(self._dial, tls=self._tls),
            )  # fmt: skip
        sent = httpcore2.Request(
            method=request.method, headers=request.headers.raw, content=request.stream, extensions=request.extensions,
            url=httpcore2.URL(
                scheme=request.url.raw_scheme, host=request.url.raw_host, port=request.url.port, target=request.url.raw_path
            ),
        )  # fmt: skip
        with _translated():
            answer = await self._pool.handle_async_request(sent)
        return httpx2.Response(
            status_code=answer.status, headers=answer.headers, stream=_Body(answer.stream), extensions=answer.extensions
        )

    async def aclose(self) -> None:
        if self._pool is not None:
            await self._pool.aclose()
