"""A file fetched from an address that a tenant supplied, piece by piece: never held whole, never followed elsewhere.

Goes through `adapters/http` and so by its policy on addresses, anew on every connect. Failures become our errors,
whose texts name neither the address nor what it holds: both may be secrets. What the bytes are is the caller's to judge.
"""

from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import unquote, urlsplit

from adapters.base import Dialer
from adapters.http import Http, Timeouts
from gateway.domain.errors import BadSettings
from gateway.domain.secret import Secret

TIMEOUTS = Timeouts(connect_s=10.0, read_s=20.0, whole_s=600.0)


async def download(
    url: Secret,
    *,
    dial: Dialer | None,
    judge: Callable[[int, Mapping[str, str]], None],
    write: Callable[[bytes], Awaitable[None]],
    user: str = "",
    password: Secret | None = None,
    headers: Mapping[str, str] | None = None,
    timeouts: Timeouts = TIMEOUTS,
) -> None:
    """Hands the body to `write` after `judge` has seen status and headers; `dial` as for `Http`. Raises Unavailable or BadSettings, and what
    those two raise of ours. The deadline for it as a whole is the caller's."""
    try:
        parts = urlsplit(url.reveal())
    except ValueError:
        parts = urlsplit("")
    if not parts.hostname or "@" in parts.netloc:
        raise BadSettings("the address of the file is not usable")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    secrets = [secret for secret in (url, password) if secret is not None]
    async with Http(f"{parts.scheme}://{parts.netloc}", dial=dial, timeouts=timeouts, secrets=secrets) as http:
        await http.receive(path, judge=judge, write=write, user=user, password=password, headers=headers)


def file_name(url: Secret) -> str:
    """The last part of an address."""
    return unquote(urlsplit(url.reveal()).path.rpartition("/")[2])[:200]
