"""Files of Meta's messengers: whom the token is shown, what ends a transfer, and addresses that nobody may be led to."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import trio

from adapters.base import Link
from adapters.http import SafeDialer
from adapters.meta_files import fetch
from adapters.named_addresses import MOST_HOPS
from gateway.domain.errors import BadCredentials, BadSettings, GatewayError, Rejected, TooLarge, Unavailable
from gateway.domain.secret import Secret
from tests.adapters.conftest import Remote, Reply, _listen

TOKEN = Secret("EAAG-canary-token")


@pytest.fixture
async def stranger(nursery: trio.Nursery) -> Remote:
    """A server that is none of Meta's."""
    made = Remote()
    listeners = await nursery.start(lambda task_status: _listen(made, task_status))
    made.url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
    return made


@pytest.fixture
def link(open_link: Link, remote: Remote) -> Link:
    return replace(open_link, base_url=remote.url)


def file(data: bytes = b"abc", *headers: tuple[str, str]) -> Reply:
    return Reply(200, data, (("content-type", "image/png"), *headers))


def moved(to: str) -> Reply:
    return Reply(302, b"", (("location", to),))


async def fetched(link: Link, url: str, most: int = 100) -> tuple[bytes, str]:
    got = bytearray()

    async def write(piece: bytes, /) -> None:
        await trio.lowlevel.checkpoint()
        got.extend(piece)

    kind = await fetch(link, url, write, most, token=TOKEN)
    return bytes(got), kind


async def test_the_token_is_shown_to_meta_and_to_nobody_it_leads_to(
    link: Link, remote: Remote, stranger: Remote
) -> None:
    remote.replies = [moved("/there"), moved(f"{stranger.url}/file?x=1")]
    stranger.replies = [file()]
    assert await fetched(link, f"{remote.url}/file") == (b"abc", "image/png")
    assert [one.headers.get("authorization") for one in remote.seen] == [f"Bearer {TOKEN.reveal()}"] * 2
    (seen,) = stranger.seen
    assert (seen.target, seen.headers.get("authorization")) == ("/file?x=1", None)


async def test_it_is_not_led_round_for_ever(link: Link, remote: Remote) -> None:
    remote.replies = [moved("/file")] * 10
    with pytest.raises(Rejected, match="redirects"):
        await fetched(link, f"{remote.url}/file")
    assert len(remote.seen) == MOST_HOPS


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (lambda: file(b"x" * 101), TooLarge), (lambda: Reply(401), BadCredentials), (lambda: Reply(403), Rejected),
        (lambda: Reply(404), Rejected), (lambda: Reply(410), Rejected), (lambda: Reply(500), Unavailable), (lambda: Reply(204), Unavailable),
        (lambda: Reply(302), Unavailable), (lambda: Reply(drop=True), Unavailable),
    ],
)  # fmt: skip
async def test_what_ends_a_transfer(
    link: Link, remote: Remote, reply: Callable[[], Reply], error: type[GatewayError]
) -> None:
    remote.replies = [reply()]
    with pytest.raises(error):
        await fetched(link, f"{remote.url}/file")


async def test_a_file_longer_than_it_says_ends_at_the_limit(link: Link, remote: Remote) -> None:
    async def endless(stream: trio.SocketStream) -> None:
        await stream.send_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(1000):
            await stream.send_all(b"a\r\n0123456789\r\n")

    remote.replies = [Reply(raw=endless)]
    with pytest.raises(TooLarge):
        await fetched(link, f"{remote.url}/file")


@pytest.mark.parametrize(
    "url", ["", "file:///etc/passwd", "http://", "ftp://x/y", "https://user:word@x.example/", "http://[::1"]
)
async def test_what_is_no_address(link: Link, url: str) -> None:
    with pytest.raises((BadSettings, Rejected, Unavailable)):
        await fetched(link, url)


async def test_no_private_address_is_reached_by_a_redirect(link: Link, remote: Remote, stranger: Remote) -> None:
    remote.replies = [moved(stranger.url)]
    with pytest.raises((BadSettings, Rejected)):
        await fetched(replace(link, dial=SafeDialer()), f"{remote.url}/file")
    assert stranger.seen == []
