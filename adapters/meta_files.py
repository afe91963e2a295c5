"""Files that came with messages, fetched from Meta's servers: the token is shown to Meta alone.

Read `adapters/named_addresses.py` for redirects, bounds and the policy on addresses.
"""

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from adapters.base import Link
from adapters.channel import Write
from adapters.meta import bearer
from adapters.named_addresses import fetch_file, is_replacement
from gateway.domain.secret import Secret

_HOSTS = ("facebook.com", "fbsbx.com", "fbcdn.net", "whatsapp.net", "cdninstagram.com", "instagram.com")
_METAS = re.compile(rf"(?:[a-z0-9-]+\.)*(?:{'|'.join(map(re.escape, _HOSTS))})")


async def fetch(link: Link, url: str, write: Write, most: int, *, token: Secret | None = None) -> str:
    """Hands the file over piece by piece; returns the content type that the server names. Raises as `FetchesFiles.fetch`."""

    def headers(at: str) -> Mapping[str, str] | None:
        return bearer(token) if token is not None and (is_replacement(link, at) or _is_metas(at)) else None

    return await fetch_file(link, url, write, most, headers=headers)


def _is_metas(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "https" and _METAS.fullmatch(parts.hostname or "") is not None
