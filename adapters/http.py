"""Safe outgoing HTTP: where a tenant's addresses may lead, and the one client per remote that goes there.

Owns the policy on addresses (`AddressPolicy`), its application to names on every connect (`SafeDialer`), and `Http`,
which turns whatever goes wrong on the wire into `gateway.domain.errors`. A name is resolved once per connect and the very
address that was judged is dialled, while TLS and the Host header keep the name: a name that changes its mind between
the look-up and the connect gains nothing.

It is one module, longer than most, because its two halves are safe only together: a judgement that the connection does
not obey, or a connection that nobody judged, is the hole.

Never follows redirects, never reads proxy variables, never repeats a request, knows no outside system. What an answer
means is each adapter's `codec.py`. Read `adapters/retailcrm/client.py` next.
"""

import html
import json
import logging
import re
import socket
import ssl
import threading
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Self
from urllib.parse import quote, quote_plus, urlencode

import httpcore2
import httpx2
import trio

from adapters.base import Attempt, Dialer
from adapters.http_settings import Timeouts
from gateway.domain.errors import BadSettings, GatewayError, LocalProtocolError, Unavailable
from gateway.domain.secret import Secret, masked

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network

WEB_PORTS = frozenset({443, 8443})
"""The ports an address outside the allowed nets may be asked on, by https alone."""

BODY_LIMIT = 1 << 20
SHOWN_LIMIT = 4096

# At INFO the client logs every URL, and a URL may hold a token. What was sent is in the attempt, masked.
logging.getLogger("httpx2").setLevel(logging.WARNING)
logging.getLogger("httpcore2").setLevel(logging.WARNING)


# Where one may go ----------------------------------------------------------------------------------------------------

_REFUSED: tuple[tuple[IPNetwork, str], ...] = tuple(
    (ip_network(net), why)
    for net, why in {
        "0.0.0.0/8": "this host",
        "10.0.0.0/8": "private",
        "100.64.0.0/10": "shared",
        "127.0.0.0/8": "loopback",
        "168.63.129.16/32": "metadata",
        "169.254.0.0/16": "link-local",
        "172.16.0.0/12": "private",
        "192.0.0.0/24": "reserved",
        "192.0.2.0/24": "documentation",
        "192.88.99.0/24": "reserved",
        "192.168.0.0/16": "private",
        "198.18.0.0/15": "benchmarking",
        "198.51.100.0/24": "documentation",
        "203.0.113.0/24": "documentation",
        "224.0.0.0/4": "multicast",
        "240.0.0.0/4": "reserved",
        "::1/128": "loopback",
        "fc00::/7": "private",
        "fe80::/10": "link-local",
        "ff00::/8": "multicast",
        "2001::/23": "reserved",  # Teredo, benchmarking, ORCHID and other protocol assignments
        "2001:db8::/32": "documentation",
        "3fff::/20": "documentation",
    }.items()
)
_GLOBAL_V6 = IPv6Network("2000::/3")
_SIX_TO_FOUR = IPv6Network("2002::/16")
_NAT64 = IPv6Network("64:ff9b::/96")


def _canonical(address: IPAddress) -> IPAddress:
    """An IPv4 address written as IPv6 is judged, and compared, as the IPv4 address it is."""
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def _hidden_v4(address: IPAddress) -> IPv4Address | None:
    """The IPv4 address that a translated IPv6 address leads to in the end."""
    if isinstance(address, IPv6Address):
        if address in _SIX_TO_FOUR:
            return address.sixtofour
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFF_FFFF)
    return None


def _is_local(address: IPAddress) -> bool:
    """True for an address of this machine: the kernel lets one bind to its own addresses and to no others."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True


@dataclass(frozen=True)
class AddressPolicy:
    """Which addresses tenants may make us connect to. Built by the composition root, from settings and listeners."""

    allowed: tuple[IPNetwork, ...] = ()
    own: frozenset[tuple[IPAddress, int]] = frozenset()

    def inside(self, address: IPAddress) -> bool:
        """True within the nets that the operator has opened."""
        return any(net.version == address.version and address in net for net in self.allowed)

    def _is_own(self, address: IPAddress, port: int) -> bool:
        listening = [at for at, own_port in self.own if own_port == port]
        return address in listening or (any(at.is_unspecified for at in listening) and _is_local(address))

    def refusal(self, address: IPAddress, port: int) -> str | None:
        """Why this address is out of bounds, in a word; None where it is not."""
        address = _canonical(address)
        if self._is_own(address, port):
            return "our own listener"
        if address.is_unspecified:
            return "this host"
        if self.inside(address):
            return None
        if (hidden := _hidden_v4(address)) is not None:
            return self.refusal(hidden, port)
        for net, why in _REFUSED:
            if net.version == address.version and address in net:
                return why
        if isinstance(address, IPv6Address) and address not in _GLOBAL_V6:
            return "reserved"
        return None

    def web_refusal(self, address: IPAddress, port: int, *, tls: bool) -> str | None:
        """The same for an HTTP request: outside the allowed nets only https, on its usual ports."""
        if (why := self.refusal(address, port)) is not None:
            return why
        if self.inside(_canonical(address)) or (tls and port in WEB_PORTS):
            return None
        return f"port {port}" if tls else "plain http"


class SafeDialer:
    """The `Dialer` of the whole program: looks names up, and hands out only addresses that the policy lets pass.

    `own` lists our listeners and database as (address, port), never to be reached whatever else is allowed; an
    unspecified address (`0.0.0.0`, `::`) stands for every address of this machine. `keep_off` adds one that is known
    only once it is open.
    """

    def __init__(
        self, *, allowed_private_nets: Iterable[IPNetwork | str] = (), own: Iterable[tuple[str, int]] = ()
    ) -> None:
        self.policy = AddressPolicy(tuple(ip_network(net) for net in allowed_private_nets))
        for address, port in own:
            self.keep_off(address, port)

    def keep_off(self, address: str, port: int) -> None:
        """From now on (address, port) is ours and out of bounds."""
        entry = (_canonical(ip_address(address)), port)
        self.policy = AddressPolicy(self.policy.allowed, self.policy.own | {entry})

    async def resolve(self, host: str, port: int) -> str:
        """The first address of `host` that may be dialled, on any port, by whatever protocol."""
        found = await _look_up(host, port)
        return _pass(host, [(a, self.policy.refusal(a, port)) for a in found])[0]

    async def resolve_web(self, host: str, port: int, *, tls: bool) -> Sequence[str]:
        """Every address of `host` that an HTTP request may be sent to."""
        found = await _look_up(host, port)
        return _pass(host, [(a, self.policy.web_refusal(a, port, tls=tls)) for a in found])


def _pass(host: str, judged: Sequence[tuple[IPAddress, str | None]]) -> list[str]:
    if allowed := [str(address) for address, why in judged if why is None]:
        return allowed
    # The address stays out of the text: what inner names resolve to is not the tenant's to learn.
    reasons = sorted({why for _, why in judged if why is not None})
    raise BadSettings(
        f"{host[:100]} may not be connected to: {', '.join(reasons)}",
        person="The address leads to a place that may not be connected to. Enter another address in the settings.",
    )


async def _look_up(host: str, port: int) -> list[IPAddress]:
    """Both A and AAAA, in the system's order. Numeric spellings such as `0x7f.1` come out as what they mean."""
    name, failure = host.rstrip("."), None
    try:
        if not name.isprintable() or not name or " " in name:
            raise UnicodeError
        rows = await trio.socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        failure = f"{host[:100]}: {error.strerror or 'not found'}"
    except ValueError:  # what cannot be a name: an empty or overlong label, say
        raise BadSettings(f"not a host name: {host[:100]!r}") from None
    if failure is not None:
        raise Unavailable(failure)
    return list(dict.fromkeys(ip_address(row[4][0]) for row in rows))


# How one gets there --------------------------------------------------------------------------------------------------


@cache
def _new_tls_context() -> ssl.SSLContext:
    return httpx2.create_ssl_context(trust_env=False)


_tls_lock = threading.Lock()


def tls_context() -> ssl.SSLContext:
    """The one client context of this process. To be called in a thread: reading the certificates takes 0.3 s."""
    with _tls_lock:
        return _new_tls_context()


class _Backend(httpcore2.AsyncNetworkBackend):
    """Connects for the pool: asks the dialer each time and tries what it allows, in order."""

    def __init__(self, dial: Dialer | None, *, tls: bool) -> None:
        self._dial = dial
        self._tls = tls
        self._tcp = httpcore2.TrioBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        deadline = trio.current_time() + (timeout if timeout is not None else float("inf"))
        addresses: Sequence[str] = [host]
        if self._dial is not None:
            with trio.move_on_at(deadline) as scope:
                addresses = await self._dial.resolve_web(host, port, tls=self._tls)
            if scope.cancelled_caught:
                raise httpcore2.ConnectTimeout("the name was not resolved in time")
        last: Exception = httpcore2.ConnectTimeout("no time left")
        for tried, address in enumerate(addresses):
            # An address that swallows packets leaves the next one its share of the time.
            share = (deadline - trio.current_time()) / (len(addresses) - tried)
            if share <= 0:
                break
            try:
                return await self._tcp.connect_tcp(address, port, share, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                last = error
        raise last


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back, secrets masked: a remote that repeats them does not get them into our errors. `text` is at most
    1 MiB; `cut` says that there was more."""

    status: int
    text: str
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: bool = False


_SAID = {
    "accept": "*/*", "accept-encoding": "identity", "connection": "keep-alive", "user-agent": "telephony-gateway",
}  # fmt: skip

_WIRE_ERRORS = (
    httpcore2.TimeoutException, httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.UnsupportedProtocol,
    httpx2.InvalidURL,
)  # fmt: skip


def _encoded(form: Mapping[str, str] | None, payload: Mapping[str, Any] | None) -> tuple[bytes, str]:
    """The body and its type; both empty without one."""
    if form is not None:
        return urlencode(form).encode("ascii"), "application/x-www-form-urlencoded"
    if payload is not None:
        text = json.dumps(payload, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        return text.encode(), "application/json"
    return b"", ""


def _headers_of(response: httpcore2.Response) -> dict[str, str]:
    """By name in small letters; what comes more than once is joined."""
    headers: dict[str, str] = {}
    for name, value in response.headers:
        key, said = name.decode("latin-1").lower(), value.decode("utf-8", "replace")
        headers[key] = f"{headers[key]}, {said}" if key in headers else said
    return headers


def _spellings(secret: Secret | str) -> set[str]:
    """The ways a secret can come back in a text: as it is, escaped for a URL, for JSON or for a page."""
    plain = secret.reveal() if isinstance(secret, Secret) else secret
    quoted = {quote(plain), quote(plain, safe=""), quote_plus(plain)}
    lower = {re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), text) for text in quoted}
    return {plain, json.dumps(plain)[1:-1], html.escape(plain), *quoted, *lower}


def _base_of(text: str) -> tuple[str, bool]:
    """The address that requests begin with, and whether it is https. Raises BadSettings, also for what no URL library agrees
    to read: names that begin with `xn--` and are none end in errors of the IDNA codec's own."""
    try:
        url = httpx2.URL(text)
        if url.scheme in ("http", "https") and url.host.strip(".") and url.host[0] != "." and not url.userinfo:
            # A trailing dot is the same name to DNS, and a different one to a certificate.
            return str(url.copy_with(host=url.host.rstrip("."))).rstrip("/"), url.scheme == "https"
    except (httpx2.InvalidURL, ValueError):
        raise BadSettings("not a usable address") from None
    raise BadSettings("the address is not one of a web server, or holds a password")


class Http:
    """One remote, one client: `async with Http(url, ...) as http`, then `await http.send(...)`.

    Entering opens nothing; the connection pool is made by the first request. `dial` is None for an address that the
    operator has given, which is trusted. Whatever `send` raises or writes down has every secret masked.
    """

    def __init__(
        self,
        url: str,
        *,
        dial: Dialer | None,
        timeouts: Timeouts,
        secrets: Iterable[Secret | str] = (),
        at_once: int = 8,
        keepalive_s: float = 15.0,
    ) -> None:
        self._url = url
        self._dial = dial
        self._timeouts = timeouts
        self._needles = sorted({s for secret in secrets for s in _spellings(secret)}, key=len, reverse=True)
        self._limiter = trio.CapacityLimiter(at_once)
        self._at_once = at_once
        self._keepalive_s = keepalive_s
        self._pool: httpcore2.AsyncConnectionPool | None = None
        self._base = ""

    def __repr__(self) -> str:
        return f"<Http {self.shown(self._url)}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._pool is not None:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + self._timeouts.connect_s):
                await self._pool.aclose()

    def shown(self, text: str, needles: Sequence[str] = ()) -> str:
        """`text` as it may be kept and shown: masked first, then cut, and without what a database cannot hold."""
        text = masked(text, *(needles or self._needles)).replace("\0", "\ufffd")
        return text if len(text) <= SHOWN_LIMIT else text[:SHOWN_LIMIT] + "…"

    async def send(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        payload: Mapping[str, Any] | None = None,
        attempt: Attempt | None = None,
        hide: Iterable[Secret | str] = (),
    ) -> Answer:
        """One request, one answer. `hide` are secrets of this request alone. Raises Unavailable, with `certain` telling whether it may have arrived,
        BadSettings where the address may not be used, LocalProtocolError for what cannot be written as HTTP."""
        needles = self._needles
        if more := {spelling for secret in hide for spelling in _spellings(secret)}:
            needles = sorted({*needles, *more}, key=len, reverse=True)
        note = attempt if attempt is not None else Attempt(kind="", key="", lane="", body={})
        said = "\n".join(f"{name}={value}" for name, value in form.items()) if form is not None else ""
        said += json.dumps(payload, ensure_ascii=False) if payload is not None else ""
        shown = self.shown(f"{method} {self._url.rstrip('/')}{path}\n{said}".rstrip(), needles)
        note.request = f"{note.request}\n\n{shown}" if note.request else shown
        note.response, note.status = "", None
        sent = False

        async def trace(name: str, info: Mapping[str, Any]) -> None:
            nonlocal sent
            if name.endswith(("send_request_headers.started", "send_request_body.started")):
                note.permit()  # a process may have stood still since it was decided to send; half a request is none
            sent = sent or name.endswith("send_request_headers.started")

        body = bytearray()
        answer: Answer | None = None
        failure: GatewayError = Unavailable(f"no answer within {self._timeouts.whole_s:g} s")
        with trio.move_on_after(self._timeouts.whole_s):
            try:
                content, content_type = _encoded(form, payload)
                async with (
                    self._limiter,
                    self._exchange(method, path, headers or {}, content, content_type, trace) as response,
                ):
                    note.status = response.status
                    with trio.CancelScope() as reading:
                        async for chunk in response.aiter_stream():
                            body += chunk
                            if len(body) > BODY_LIMIT:
                                reading.cancel()  # a `break` would leave the client's nested generators half open
                    answer = Answer(
                        status=response.status,
                        text=masked(body[:BODY_LIMIT].decode("utf-8", "replace"), *needles),
                        headers=_headers_of(response),
                        cut=len(body) > BODY_LIMIT,
                    )
            except _WIRE_ERRORS as error:
                failure = self._failure(error)
        # Raised out here, where no third-party exception is its context: theirs hold requests, and requests hold secrets.
        note.response = self.shown(body.decode("utf-8", "replace"), needles)
        if answer is not None:
            return answer
        if isinstance(failure, Unavailable):
            failure.certain = not sent
        raise failure

    async def receive(
        self,
        path: str,
        *,
        judge: Callable[[int, Mapping[str, str]], None],
        write: Callable[[bytes], Awaitable[None]],
        user: str = "",
        password: Secret | None = None,
    ) -> None:
        """One GET whose body goes to `write` piece by piece, for files. `judge` sees status and headers first; what either
        of them raises ends the reading and is raised. Otherwise raises like `send`; the deadline is the caller's."""
        failure: Exception | None = None
        headers: dict[str, str] = {}
        if user:
            login = f"{user}:{password.reveal() if password is not None else ''}"
            headers["authorization"] = f"Basic {b64encode(login.encode()).decode()}"
        try:
            async with self._exchange("GET", path, headers) as response:
                judge(response.status, _headers_of(response))
                with trio.CancelScope() as reading:
                    async for piece in response.aiter_stream():
                        try:
                            await write(piece)
                        except (GatewayError, ValueError) as error:
                            failure = error
                            reading.cancel()  # as in `send`
        except _WIRE_ERRORS as error:
            failure = failure or self._failure(error)
        if failure is not None:
            raise failure

    @asynccontextmanager
    async def _exchange(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        content: bytes = b"",
        content_type: str = "",
        trace: Callable[[str, Mapping[str, Any]], Awaitable[None]] | None = None,
    ) -> AsyncIterator[httpcore2.Response]:
        """One request on the pool itself: the client above it costs half as much again, for what is not used here."""
        pool = await self._open()
        url = httpx2.URL(self._base + path)
        sent = {"host": url.netloc.decode("ascii"), **_SAID, **headers}
        if content_type:
            sent["content-type"] = content_type
        if content or method != "GET":
            sent["content-length"] = str(len(content))
        limits = self._timeouts
        extensions: dict[str, Any] = {
            "timeout": {
                "connect": limits.connect_s, "read": limits.read_s, "write": limits.read_s, "pool": limits.read_s,
            }
        }  # fmt: skip
        if trace is not None:
            extensions["trace"] = trace
        target = httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        try:
            fields = [(name.encode("ascii"), value.encode("ascii")) for name, value in sent.items()]
        except UnicodeEncodeError:
            fields = []
        if not fields:  # out here: the codec's error holds the value
            raise LocalProtocolError("the request cannot be written as HTTP")
        async with pool.stream(method, target, headers=fields, content=content, extensions=extensions) as response:
            yield response

    async def _open(self) -> httpcore2.AsyncConnectionPool:
        if self._pool is not None:
            return self._pool
        base, tls = _base_of(self._url)
        context = await trio.to_thread.run_sync(tls_context) if tls else None
        if self._pool is None:
            self._base = base
            self._pool = httpcore2.AsyncConnectionPool(
                ssl_context=context,
                max_connections=self._at_once,
                max_keepalive_connections=self._at_once,
                keepalive_expiry=self._keepalive_s,
                network_backend=_Backend(self._dial, tls=tls),
            )
        return self._pool

    def _failure(self, error: Exception) -> GatewayError:
        """Ours for theirs. Only the text of a failed connect is worth quoting; the others say what the class says."""
        match error:
            case httpcore2.ConnectTimeout():
                return Unavailable("no connection in time")
            case httpcore2.ConnectError():
                return Unavailable(f"no connection: {self.shown(str(error))[:200]}")
            case httpcore2.PoolTimeout():
                return Unavailable("every connection is busy")
            case httpcore2.TimeoutException():
                return Unavailable("no answer in time")
            case httpcore2.LocalProtocolError():
                return LocalProtocolError("the request cannot be written as HTTP")
            case httpx2.InvalidURL() | httpcore2.UnsupportedProtocol():
                return BadSettings("not a usable address")
            case httpcore2.RemoteProtocolError():
                return Unavailable("the connection was closed, or what came was not HTTP")
            case _:
                return Unavailable("the connection broke")
