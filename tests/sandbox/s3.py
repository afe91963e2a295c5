"""A sandbox S3: one bucket in memory, strict about what the real one is strict about.

It recomputes every signature by the book (Signature Version 4, written again from its description and not taken from the
gateway), checks the body against the signed digest and length, and knows PUT, GET with ranges, HEAD, DELETE and the list.
A PUT whose body breaks off never becomes an object. `refuse` makes it fail.
"""

import hashlib
import hmac
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, unquote, urlsplit

import h11
import trio


@dataclass
class S3:
    """The service."""

    bucket: str = "calls"
    region: str = "eu-test-1"
    access_key: str = "AKIDSANDBOX"
    secret_key: str = "sandbox/secret+key"
    objects: dict[str, tuple[bytes, datetime]] = field(default_factory=dict)
    requests: list[tuple[str, str, int]] = field(default_factory=list)
    refuse: int = 0
    """A status to answer everything with."""
    page: int = 1000

    async def serve(self, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled, on a loopback port; starts with its address."""
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        async with trio.open_nursery() as nursery:
            await nursery.start(trio.serve_listeners, self._connection, listeners)
            task_status.started(f"http://127.0.0.1:{port}")

    async def _connection(self, stream: trio.SocketStream) -> None:
        conn = h11.Connection(h11.SERVER)
        try:
            while True:
                head, body = None, bytearray()
                while True:
                    event = conn.next_event()
                    if event is h11.NEED_DATA:
                        conn.receive_data(await stream.receive_some(65536))
                    elif isinstance(event, h11.Request):
                        head = event
                    elif isinstance(event, h11.Data):
                        body += event.data
                    elif isinstance(event, h11.EndOfMessage):
                        break
                    else:
                        return
                assert head is not None
                method, target = head.method.decode(), head.target.decode()
                headers = {name.decode().lower(): value.decode() for name, value in head.headers}
                more: dict[str, str] = {}
                status, answer = self.refuse, b""
                if not status:
                    status, more, answer = self._answer(method, target, headers, bytes(body))
                self.requests.append((method, target, status))
                length = more.pop("content-length", str(len(answer)))
                data = conn.send(h11.Response(status_code=status, headers=[*more.items(), ("content-length", length)]))
                data = (data or b"") + ((conn.send(h11.Data(data=answer)) or b"") if method != "HEAD" else b"")
                await stream.send_all(data + (conn.send(h11.EndOfMessage()) or b""))
                if conn.our_state is not h11.DONE:
                    return
                conn.start_next_cycle()
        except (trio.BrokenResourceError, h11.RemoteProtocolError):
            pass
        finally:
            await trio.aclose_forcefully(stream)

    def _answer(
        self, method: str, target: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        path, _, query = target.partition("?")
        if not self._signed(method, path, query, headers, body):
            return 403, {}, b"<Error><Code>SignatureDoesNotMatch</Code></Error>"
        _, _, rest = urlsplit(path).path.partition("/")
        bucket, _, key = unquote(rest).partition("/")
        if bucket != self.bucket:
            return 404, {}, b"<Error><Code>NoSuchBucket</Code></Error>"
        if not key:
            return 200, {"content-type": "application/xml"}, self._list(query)
        if method == "PUT":
            if "content-length" not in headers:
                return 411, {}, b""
            self.objects[key] = (body, datetime.now(UTC))
            return 200, {}, b""
        if method == "DELETE":
            self.objects.pop(key, None)
            return 204, {}, b""
        if key not in self.objects:
            return 404, {}, b"<Error><Code>NoSuchKey</Code></Error>"
        data = self.objects[key][0]
        if method == "HEAD":
            return 200, {"content-length": str(len(data))}, b""
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", headers.get("range", ""))
        if found is None:
            return 200, {}, data
        start, end = int(found[1]), min(int(found[2]) + 1, len(data))
        if start >= len(data):
            return 416, {}, b""
        return 206, {"content-range": f"bytes {start}-{end - 1}/{len(data)}"}, data[start:end]

    def _list(self, query: str) -> bytes:
        fields = dict(part.partition("=")[::2] for part in query.split("&"))
        assert fields["list-type"] == "2"
        after = unquote(fields.get("start-after", ""))
        prefix = unquote(fields.get("prefix", ""))
        keys = sorted(key for key in self.objects if key > after and key.startswith(prefix))
        entries = "".join(
            f"<Contents><Key>{key}</Key><LastModified>{self.objects[key][1]:%Y-%m-%dT%H:%M:%S.000Z}</LastModified></Contents>"
            for key in keys[: self.page]
        )
        cut = str(len(keys) > self.page).lower()
        return f"<ListBucketResult><IsTruncated>{cut}</IsTruncated>{entries}</ListBucketResult>".encode()

    def _signed(self, method: str, path: str, query: str, headers: dict[str, str], body: bytes) -> bool:
        form = r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/s3/aws4_request,SignedHeaders=([^,]+),Signature=(\w{64})"
        found = re.fullmatch(form, headers.get("authorization", ""))
        if found is None or found[1] != self.access_key or found[3] != self.region:
            return False
        names = found[4].split(";")
        if names != sorted(names) or not {"host", "x-amz-date", "x-amz-content-sha256"} <= set(names):
            return False
        if hashlib.sha256(body).hexdigest() != headers["x-amz-content-sha256"]:
            return False
        at = datetime.strptime(headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        if abs(datetime.now(UTC) - at) > timedelta(minutes=15) or not headers["x-amz-date"].startswith(found[2]):
            return False
        fields = sorted(part.partition("=")[::2] for part in query.split("&") if part)
        lines = [method, quote(unquote(path), safe="/-_.~"), "&".join(f"{name}={value}" for name, value in fields)]
        lines += [f"{name}:{headers[name].strip()}" for name in names]
        lines += ["", found[4], headers["x-amz-content-sha256"]]
        scope = f"{found[2]}/{self.region}/s3/aws4_request"
        digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        to_sign = f"AWS4-HMAC-SHA256\n{headers['x-amz-date']}\n{scope}\n{digest}"
        key = b"AWS4" + self.secret_key.encode()
        for part in scope.split("/"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        return hmac.compare_digest(hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest(), found[5])
