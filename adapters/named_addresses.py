"""Addresses that an outside system names in its answers: where a file lies, where to upload one, where to poll.

Each is under the policy on addresses like one that a tenant enters, anew on every connect and every redirect; only the operator's
own replacement of the provider (`PROVIDER_URLS`) is trusted. Nothing of ours, such as a token, is sent along but where the caller
says so of an address. Read `adapters/download.py` for the transfer.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from urllib.parse import urljoin, urlsplit

from adapters.base import Dialer, Link
from adapters.channel import Write
from adapters.download import download
from adapters.http import Http, Timeouts
from gateway.domain.errors import BadCredentials, Rejected, RemoteProtocolError, TooLarge, Unavailable
from gateway.domain.secret import Secret

MOST_HOPS = 4
"""Requests for one file, redirects included."""


class _Moved(Exception):
    """The file is at another address."""

    def __init__(self, to: str) -> None:
        super().__init__("the file is at another address")
        self.to = to


def open_named(link: Link, url: str, timeouts: Timeouts, secrets: Iterable[Secret | str] = ()) -> tuple[Http, str]:
    """A client of the site of an address, and the rest of the address. Counts to no rate. Raises RemoteProtocolError."""
    parts = _parts(url)
    path = (parts[2] or "/") + (f"?{parts[3]}" if parts[3] else "")
    return Http(f"{parts[0]}://{parts[1]}", dial=_dialer(link, url), timeouts=timeouts, secrets=secrets), path


async def fetch_file(
    link: Link,
    url: str,
    write: Write,
    most: int,
    *,
    headers: Callable[[str], Mapping[str, str] | None] = lambda url: None,
) -> str:
    """Hands a file over piece by piece; returns the content type that the server names. `headers(url)`: what is shown to an
    address, redirects included. Raises as `FetchesFiles.fetch`."""
    kind, left = "", most
    shown: Mapping[str, str] | None = None

    def judge(status: int, headers: Mapping[str, str]) -> None:
        nonlocal kind
        if status in (301, 302, 303, 307, 308) and headers.get("location"):
            raise _Moved(headers["location"])
        if status == 401 and shown is not None:
            raise BadCredentials(f"the file: status {status}")
        if status in (400, 401, 403, 404, 410):
            raise Rejected(f"the file: status {status}")
        if status != 200:
            raise Unavailable(f"the file: status {status}")
        length = headers.get("content-length", "")
        if re.fullmatch("[0-9]{1,18}", length) and int(length) > most:
            raise TooLarge
        kind = headers.get("content-type", "")

    async def counted(piece: bytes) -> None:
        nonlocal left
        left -= len(piece)
        if left < 0:
            raise TooLarge
        await write(piece)

    for _ in range(MOST_HOPS):
        try:
            _parts(url)
        except RemoteProtocolError as error:
            raise Rejected(error.detail) from None
        shown = headers(url)
        try:
            await download(Secret(url), dial=_dialer(link, url), judge=judge, write=counted, headers=shown)
        except _Moved as moved:
            url = urljoin(url, moved.to)
        else:
            return kind
    raise Rejected("the file is behind too many redirects")


def is_replacement(link: Link, url: str) -> bool:
    """Whether an address is at the operator's replacement of the provider."""
    return link.base_url is not None and _parts(url)[:2] == _parts(link.base_url)[:2]


def _dialer(link: Link, url: str) -> Dialer | None:
    return None if is_replacement(link, url) else link.dial


def _parts(url: str) -> tuple[str, str, str, str]:
    """Scheme, host with port, path and query. Raises RemoteProtocolError, without the address: it may be a secret."""
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise RemoteProtocolError("the other side named an address that is not usable")
    return parts.scheme, parts.netloc, parts.path, parts.query
