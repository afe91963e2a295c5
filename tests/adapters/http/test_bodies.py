"""Bodies and answers of every kind: JSON, repeated fields, streamed files, large and compressed answers, and their bounds."""

import gzip
import json
import zlib
from collections.abc import AsyncIterator
from email.parser import BytesParser
from email.policy import HTTP
from functools import partial

import pytest
import trio
import trio.lowlevel

from adapters.base import Attempt
from adapters.http import BODY_LIMIT, Http, Timeouts, Upload
from adapters.http.wire import HEAD_LIMIT, MOST_HEADERS
from gateway.domain.errors import LocalProtocolError, Unavailable
from tests.adapters.conftest import Remote, Reply

CALM = Timeouts(connect_s=2, read_s=2, whole_s=5)


def client(remote: Remote, timeouts: Timeouts = CALM) -> Http:
    return Http(remote.url, dial=None, timeouts=timeouts)


def upload(data: bytes, size: int | None = None, name: str = "file", filename: str = "a.bin") -> Upload:
    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(data), 10_000):
            yield data[start : start + 10_000]

    return Upload(name=name, filename=filename, size=len(data) if size is None else size, pieces=pieces)


@pytest.mark.parametrize("payload", [{"a": "й"}, [1, [2, None]], "text", 7, 1.5, True, None, []])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_json_of_any_kind_by_any_method(remote: Remote, payload: object, method: str) -> None:
    remote.replies = [Reply(200, json.dumps(payload).encode(), (("x-page", "2"),))]
    async with client(remote) as http:
        answer = await http.send(method, "/x?a=b", payload=payload)
    seen = remote.seen[0]
    assert (seen.method, seen.target, json.loads(seen.body)) == (method, "/x?a=b", payload)
    assert seen.headers["content-type"] == "application/json"
    assert (answer.json(), answer.raw, answer.headers["x-page"]) == (payload, json.dumps(payload).encode(), "2")


@pytest.mark.parametrize("payload", [float("nan"), {1, 2}, b"bytes"])
async def test_what_json_cannot_hold_is_refused_without_its_text(remote: Remote, payload: object) -> None:
    async with client(remote) as http:
        with pytest.raises(LocalProtocolError) as raised:
            await http.send("POST", "/x", payload=payload)
        with pytest.raises(LocalProtocolError):
            await http.send("POST", "/x", payload={}, form={"a": "b"})
        with pytest.raises(LocalProtocolError):
            await http.send("TRACE", "/x")
    assert raised.value.__context__ is None
    assert remote.seen == []


async def test_a_field_that_comes_twice_and_a_get_without_a_body(remote: Remote) -> None:
    remote.replies = [Reply(), Reply()]
    async with client(remote) as http:
        await http.send("POST", "/x", form=[("id", "1"), ("id", "2 &")])
        await http.send("GET", "/путь к?q=й .")
    assert remote.seen[0].body == b"id=1&id=2+%26"
    assert "content-length" not in remote.seen[1].headers
    assert remote.seen[1].target == "/%D0%BF%D1%83%D1%82%D1%8C%20%D0%BA?q=%D0%B9%20."


async def test_the_bytes_of_a_form_with_files(remote: Remote) -> None:
    remote.replies = [Reply()]
    sound, attempt = bytes(range(256)) * 1000, Attempt(kind="k", key="1", lane="c", body={})
    files = [upload(sound, name='fi"le\r\nx', filename="звук.mp3"), upload(b"", name="none")]
    async with client(remote) as http:
        await http.send(
            "POST", "/sendAudio", form={"chat_id": "-100", "caption": "Привет\r\n--x"}, files=files, attempt=attempt
        )
    seen = remote.seen[0]
    head = f"content-type: {seen.headers['content-type']}\r\n\r\n".encode()
    parts = list(BytesParser(policy=HTTP).parsebytes(head + seen.body).iter_parts())
    assert int(seen.headers["content-length"]) == len(seen.body)
    assert [part.get_param("name", header="content-disposition") for part in parts] == [
        "chat_id", "caption", "fi%22le%0D%0Ax", "none",
    ]  # fmt: skip
    assert [part.get_payload(decode=True) for part in parts] == [b"-100", "Привет\r\n--x".encode(), sound, b""]
    assert 'filename="звук.mp3"'.encode() in seen.body
    assert attempt.request.endswith('caption=Привет\r\n--x\nfi"le\r\nx=<звук.mp3, 256000 bytes>\nnone=<a.bin, 0 bytes>')


@pytest.mark.parametrize("size", [99_999, 100_001])
async def test_a_file_that_is_not_as_long_as_was_said_never_arrives_whole(remote: Remote, size: int) -> None:
    remote.replies = [Reply(), Reply()]
    async with client(remote) as http:
        with pytest.raises(LocalProtocolError):
            await http.send("POST", "/x", files=[upload(b"x" * 100_000, size)])
        assert remote.seen == []
        await http.send("POST", "/y")
    assert [seen.target for seen in remote.seen] == ["/y"]


async def test_a_refusal_that_comes_before_the_whole_file_was_taken(nursery: trio.Nursery) -> None:
    async def refuse(stream: trio.SocketStream) -> None:
        await stream.receive_some(1000)
        await stream.send_all(b"HTTP/1.1 413 Too large\r\ncontent-length: 2\r\n\r\nno")
        await stream.send_eof()
        with trio.move_on_after(0.2):
            await trio.sleep_forever()
        await stream.aclose()

    listeners = await nursery.start(partial(trio.serve_tcp, refuse, 0, host="127.0.0.1"))
    url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
    async with Http(url, dial=None, timeouts=CALM) as http:
        outcome: object = None
        try:
            outcome = (await http.send("POST", "/x", files=[upload(b"x" * 30_000_000)])).status
        except Unavailable as error:  # the kernel may have thrown the answer away with the connection
            outcome = error.certain
    assert outcome in (413, False)


async def test_an_answer_as_large_as_the_adapter_allows(remote: Remote) -> None:
    menu = json.dumps([{"id": n, "name": "Пицца"} for n in range(100_000)], ensure_ascii=False).encode()
    assert len(menu) > 3 * BODY_LIMIT
    packed = gzip.compress(menu)
    remote.replies = [Reply(200, menu), Reply(200, menu), Reply(200, packed, (("content-encoding", "gzip"),))]
    async with client(remote) as http:
        assert (await http.send("GET", "/menu")).cut
        whole = await http.send("GET", "/menu", limit=8 << 20)
        assert (len(whole.json()), whole.cut) == (100_000, False)
        assert (await http.send("GET", "/menu", limit=8 << 20)).raw == menu
    assert [seen.headers["accept-encoding"] for seen in remote.seen] == ["identity", "gzip", "gzip"]


@pytest.mark.parametrize(
    ("body", "encoding", "cut"),
    [
        (gzip.compress(b"0" * 200_000_000), "gzip", True),
        (zlib.compress(b"0" * 50_000_000), "deflate", True),
        (gzip.compress(b"x") + b"\0" * 3_000_000, "gzip", True),
        (gzip.compress(b"x" * 1000)[:-9], "gzip", None),
        (b"no gzip at all", "gzip", None),
    ],
    ids=["bomb", "deflate bomb", "endless", "broken off", "nonsense"],
)
async def test_packed_answers_are_bounded(remote: Remote, body: bytes, encoding: str, cut: bool | None) -> None:
    remote.replies = [Reply(200, body, (("content-encoding", encoding),))]
    async with client(remote) as http:
        if cut is None:
            with pytest.raises(Unavailable, match="compression"):
                await http.send("GET", "/")
        else:
            answer = await http.send("GET", "/")
            assert answer.cut
            assert len(answer.raw) <= BODY_LIMIT


def raw(head: bytes, then: bytes = b"") -> Reply:
    async def send(stream: trio.SocketStream) -> None:
        await stream.send_all(head)
        for _ in range(10_000 if then else 0):
            await stream.send_all(then)

    return Reply(raw=send)


@pytest.mark.parametrize(
    "reply",
    [
        raw(b"HTTP/1.1 200 OK\r\n" + b"".join(b"h%d: v\r\n" % n for n in range(MOST_HEADERS + 1)) + b"\r\n"),
        raw(b"HTTP/1.1 200 OK\r\n", b"a: " + b"b" * 1000 + b"\r\n"),
        raw(b"HTTP/1.1 200 OK\r\na: ", b"b" * HEAD_LIMIT),
        raw(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 40),
        raw(b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"),
        raw(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok"),
        raw(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nok"),
        raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n"),
        raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n-2\r\nok\r\n"),
        raw(b"\x16\x03\x01"),
        raw(b""),
    ],
)
async def test_answers_that_are_none_end_in_words(remote: Remote, reply: Reply) -> None:
    remote.replies = [reply, Reply(200, b"ok")]
    async with client(remote) as http:
        with pytest.raises(Unavailable) as raised:
            await http.send("POST", "/")
        assert not raised.value.certain
        assert raised.value.__context__ is None
        assert (await http.send("GET", "/")).raw == b"ok", "and the next request has a connection of its own"


@pytest.mark.parametrize(
    ("data", "body"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", b"until the end"),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", b"ok"),
        (b"HTTP/1.1 200 OK\ncontent-length: 2\n\nok", b"ok"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", b"ok"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2;x=y\r\nok\r\n0\r\ntrailer: z\r\n\r\n", b"ok"),
        (b"HTTP/1.1 200 OK\r\nupgrade: h2,h2c\r\nconnection: Upgrade\r\ncontent-length: 2\r\n\r\nok", b"ok"),
        (b"HTTP/1.1 204 None\r\n\r\n", b""),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil", b"ok"),
    ],
)
async def test_an_answer_is_the_same_however_it_is_cut_into_pieces(remote: Remote, data: bytes, body: bytes) -> None:
    async def one_by_one(stream: trio.SocketStream) -> None:
        for n in range(len(data)):
            await stream.send_all(data[n : n + 1])
            await trio.lowlevel.checkpoint()

    remote.replies = [raw(data), Reply(raw=one_by_one)]
    async with client(remote) as http:
        for _ in range(2):
            assert (await http.send("POST", "/")).raw == body
        assert http._wires is not None
        assert len(remote.seen) == 2


async def test_a_kept_connection_that_was_closed_is_noticed_and_only_a_harmless_request_is_repeated(
    nursery: trio.Nursery,
) -> None:
    """A server that takes one request a connection and then closes upon the next without a word."""
    requests: list[bytes] = []

    async def serve(stream: trio.SocketStream) -> None:
        requests.append(await stream.receive_some(10_000))
        await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        await stream.receive_some(1)
        await stream.aclose()

    listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
    url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
    async with Http(url, dial=None, timeouts=CALM) as http:
        for _ in range(3):
            assert (await http.send("GET", "/")).raw == b"ok"
        assert len(requests) == 3
        with pytest.raises(Unavailable) as raised:
            await http.send("POST", "/", form={"a": "b"})
        assert not raised.value.certain
        assert len(requests) == 3
        assert (await http.send("POST", "/", form={"a": "b"})).raw == b"ok"


async def test_a_connection_rests_for_as_long_as_the_other_side_says(remote: Remote) -> None:
    remote.replies = [Reply(200, b"", (("keep-alive", "timeout=1, max=100"),)), Reply(), Reply(), Reply()]
    async with client(remote) as http:
        for _ in range(2):
            await http.send("GET", "/")
        assert remote.connections == 2
        for _ in range(2):
            await http.send("GET", "/")
        assert remote.connections == 2
