"""A server with OpenAI's chat completions that answers what a test tells it to, byte by byte where that matters."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import trio

from adapters.llm.client import ModelSettings
from gateway.domain.secret import Secret

KEY = "sk-sandbox-key-that-nobody-may-see"


def chunk(text: str | None = None, **more: Any) -> str:
    """One event of a stream."""
    delta = {} if text is None else {"content": text}
    event = {
        "object": "chat.completion.chunk",
        "model": "gpt-test",
        "choices": [{"index": 0, "delta": delta, "finish_reason": None}],
    }
    return f"data: {json.dumps({**event, **more}, ensure_ascii=False)}\n\n"


USAGE = chunk(choices=[], usage={"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11})
DONE = "data: [DONE]\n\n"


@dataclass
class ModelServer:
    """`status` and `body` are what it answers; `pause` is waited for before each of its pieces."""

    status: int = 200
    body: list[str | bytes] = field(default_factory=lambda: [": hello\n\n", chunk("При"), chunk("вет"), USAGE, DONE])
    content_type: str = "text/event-stream"
    headers: str = ""
    cut: bool = False
    pause: Callable[[int], Any] | None = None
    requests: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""

    @property
    def settings(self) -> ModelSettings:
        """What leads here."""
        return ModelSettings(url=self.url, key=Secret(KEY), model="gpt-test")

    async def serve(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serves until cancelled."""
        async with trio.open_nursery() as nursery:
            (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
            self.url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}/v1"
            nursery.start_soon(trio.serve_listeners, self._one, [listener])
            task_status.started()

    async def _one(self, stream: trio.SocketStream) -> None:
        raw = b""
        while b"\r\n\r\n" not in raw:
            raw += await stream.receive_some()
        head, _, body = raw.partition(b"\r\n\r\n")
        fields = {line.split(": ", 1)[0].lower(): line.split(": ", 1)[1] for line in head.decode().split("\r\n")[1:]}
        while len(body) < int(fields["content-length"]):
            body += await stream.receive_some()
        self.requests.append({"line": head.decode().split("\r\n")[0], "headers": fields, "body": json.loads(body)})
        try:
            await stream.send_all(
                f"HTTP/1.1 {self.status} X\r\ncontent-type: {self.content_type}\r\n{self.headers}transfer-encoding: chunked\r\n\r\n".encode()
            )
            for place, piece in enumerate(self.body):
                if self.pause is not None:
                    await self.pause(place)
                data = piece.encode() if isinstance(piece, str) else piece
                for part in (data[: len(data) // 2], data[len(data) // 2 :]):  # a letter may be cut in two
                    if part:
                        await stream.send_all(f"{len(part):x}\r\n".encode() + part + b"\r\n")
            if not self.cut:
                await stream.send_all(b"0\r\n\r\n")
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        await stream.aclose()
