"""Files that came with messages, fetched from Meta's servers: bounded, and the token is shown to Meta alone.

Follows a redirect itself, each hop under the policy on addresses. Read `adapters/download.py` for the transfer.
"""

import re
from collections.abc import Mapping
from urllib.parse import urljoin, urlsplit

from adapters.base import Link
from adapters.channel import Write
from adapters.download import download
from adapters.meta import bearer
from gateway.domain.errors import BadCredentials, Rejected, TooLarge, Unavailable
from gateway.domain.secret import Secret

MOST_HOPS = 3
_HOSTS = ("facebook.com", "fbsbx.com", "fbcdn.net", "whatsapp.net", "cdninstagram.com", "instagram.com")
_METAS = re.compile(rf"(?:[a-z0-9-]+\.)*(?:{'|'.join(map(re.escape, _HOSTS))})")


class _Moved(Exception):
    """The file is at another address."""

    def __init__(self, to: str) -> None:
        super().__init__("the file is at another address")
        self.to = to


async def fetch(link: Link, url: str, write: Write, most: int, *, token: Secret | None = None) -> str:
    """Hands the file over piece by piece; returns the content type that the server names. Raises as `FetchesFiles.fetch`."""
    kind, left = "", most

    def judge(status: int, headers: Mapping[str, str]) -> None:
        nonlocal kind
        if status in (301, 302, 303, 307, 308) and headers.get("location"):
            raise _Moved(headers["location"])
        if status == 401:
            raise BadCredentials(f"the file: status {status}")
        if status in (400, 403, 404, 410):
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
        ours = link.base_url is not None and _origin(url) == _origin(link.base_url)
        shown = bearer(token) if token is not None and (ours or _is_metas(url)) else None
        try:
            await download(Secret(url), dial=None if ours else link.dial, judge=judge, write=counted, headers=shown)
        except _Moved as moved:
            url = urljoin(url, moved.to)
        else:
            return kind
    raise Rejected("the file is behind too many redirects")


def _origin(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        raise Rejected("the address of the file is not usable") from None
    return f"{parts.scheme}://{parts.netloc}"


def _is_metas(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "https" and _METAS.fullmatch(parts.hostname or "") is not None
