"""Files from addresses that tenants supply: under the dialer's policy, piece by piece, and no secret in what is said."""

import base64
from collections.abc import Mapping

import pytest
import trio

from adapters.download import download, file_name
from adapters.http import SafeDialer
from gateway.domain.errors import BadSettings, GatewayError, Rejected, Unavailable
from gateway.domain.secret import Secret
from tests.sandbox.web import Request, Response, Site

OPEN = SafeDialer(allowed_private_nets=["127.0.0.0/8"])


class Taker:
    """Takes what comes, up to a limit."""

    def __init__(self, most: int = 1 << 30) -> None:
        self.most, self.data, self.status = most, b"", 0

    def judge(self, status: int, headers: Mapping[str, str]) -> None:
        self.status = status
        if status != 200:
            raise Unavailable(f"status {status}")

    async def write(self, data: bytes) -> None:
        self.data += data
        if len(self.data) > self.most:
            raise Rejected("too much")


async def fetch(url: str, taker: Taker, dial: SafeDialer = OPEN, **more: object) -> None:
    await download(Secret(url), dial=dial, judge=taker.judge, write=taker.write, **more)  # type: ignore[arg-type]


async def test_a_file_with_its_query_and_password(nursery: trio.Nursery) -> None:
    async def file(request: Request) -> Response:
        right = request.headers.get("authorization") == "Basic " + base64.b64encode(b"u:p\xc3\xa9").decode()
        return Response(200 if right and dict(request.query) == {"id": "7", "k": "a/b"} else 403, b"x" * 300_000)

    base = await nursery.start(Site({}, file).serve)
    taker = Taker()
    await fetch(f"{base}/r/7.wav?id=7&k=a%2Fb", taker, user="u", password=Secret("pé"))
    assert taker.data == b"x" * 300_000
    with pytest.raises(Unavailable, match="403"):
        await fetch(f"{base}/r/7.wav", Taker())


async def test_whoever_takes_may_stop(nursery: trio.Nursery) -> None:
    async def file(request: Request) -> Response:
        return Response(200, b"x" * 20_000_000)

    base = await nursery.start(Site({}, file).serve)
    taker = Taker(most=100_000)
    with pytest.raises(Rejected, match="too much"):
        await fetch(f"{base}/a", taker)
    assert len(taker.data) <= 200_000


async def test_a_redirect_is_not_followed(nursery: trio.Nursery) -> None:
    seen: list[str] = []

    async def file(request: Request) -> Response:
        seen.append(request.path)
        return Response(302, headers=(("Location", "/secret"),))

    base = await nursery.start(Site({}, file).serve)
    with pytest.raises(Unavailable, match="302"):
        await fetch(f"{base}/a", Taker())
    assert seen == ["/a"]


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/k-e-y", "http://localhost:{port}/k-e-y", "https://169.254.169.254/k-e-y",
        "http://[::1]:{port}/k-e-y", "http://0.0.0.0:{port}/k-e-y", "http://2130706433:{port}/k-e-y", "ftp://x/k-e-y",
        "file:///k-e-y", "https://u:k-e-y@pbx.example/", "https://[k-e-y/",
    ],
)  # fmt: skip
async def test_addresses_out_of_bounds(nursery: trio.Nursery, url: str) -> None:
    async def file(request: Request) -> Response:
        raise AssertionError("it was reached")

    base = await nursery.start(Site({}, file).serve)
    with pytest.raises(GatewayError) as raised:
        await fetch(url.format(port=base.rpartition(":")[2]), Taker(), SafeDialer())
    assert isinstance(raised.value, BadSettings)
    assert "k-e-y" not in f"{raised.value} {raised.value!r} {raised.value.__context__!r}"


def test_names() -> None:
    assert file_name(Secret("https://x/a/b%20c.wav?d=e/f.mp3")) == "b c.wav"


@pytest.mark.parametrize(
    "url",
    [
        "https://=.xn--a", "http://%xn--a/", "https://xn--a\\.%%", "http://\\xn--%00", "https://.%zz", "https://...", "http://[.|]",
        "https://a.xn--\u0130", "http://xn--a&`",
    ],
)  # fmt: skip
async def test_what_no_library_reads_as_an_address_is_a_bad_setting_and_no_crash(url: str) -> None:
    """One actor fetches for all tenants: an error that is none of ours would end everybody's fetches."""
    with pytest.raises((BadSettings, Unavailable)) as refused:
        await fetch(url, Taker())
    assert refused.value.__cause__ is None
