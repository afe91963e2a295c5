"""A sandbox for speech to text, with OpenAI's `/audio/transcriptions`: strict about the form and the sound that it is sent.

It refuses what OpenAI refuses: unknown fields, a file larger than 25 MB, a name without a known ending, a wrong key, a model that is not
there, a format that the model does not know. Of the sound it takes what every server takes: 16-bit WAV of one channel, and MP3. What it
hears is made by `hear`, by default one sentence for each sound; `faults` go wrong first, each once. It knows nothing of the gateway.
"""

import re
import struct
from array import array
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import trio

from tests.sandbox.web import Request, Response, Site, as_html, as_json

KEY = "sk-sandbox-speech-key"
MODEL = "whisper-1"
LARGEST = 25 * 1024 * 1024
_FIELDS = {"model", "language", "response_format", "prompt", "temperature", "timestamp_granularities[]"}
_ENDINGS = ("flac", "mp3", "mp4", "mpeg", "mpga", "m4a", "ogg", "wav", "webm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request that was taken."""

    fields: dict[str, str]
    name: str
    size: int
    seconds: float
    loudest: int
    """Of 32767; 0 for what is no WAV file."""
    content: bytes = field(repr=False)


def segment(text: str, start: float, end: float, **more: Any) -> dict[str, Any]:
    """One segment as whisper answers it."""
    return {
        "id": 0, "seek": 0, "start": start, "end": end, "text": f" {text}", "tokens": [1], "temperature": 0.0,
        "avg_logprob": -0.3, "compression_ratio": 1.2, "no_speech_prob": 0.02, **more,
    }  # fmt: skip


def _said(asked: Asked) -> list[dict[str, Any]]:
    return [segment("Здравствуйте, хочу заказать пиццу.", 0.0, min(2.0, asked.seconds))]


class _Refusal(Exception):
    def __init__(self, status: int, message: str, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.response = as_json(
            {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}, status
        )


@dataclass
class Transcriber:
    """One server. `asked` is what it was sent, `refusals` why it took others not."""

    hear: Callable[[Asked], list[dict[str, Any]]] = _said
    plain: bool = False
    """Whether its model knows no segments, as gpt-4o-transcribe."""
    down: int = 0
    """The status of all answers, while it is down."""
    faults: list[Response | str] = field(default_factory=list)
    """Answers that go wrong, one request each; `silent` never answers, `html` is a proxy's page."""
    key: str = KEY
    asked: list[Asked] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    tries: int = 0

    def __post_init__(self) -> None:
        self.site = Site({("POST", "/v1/audio/transcriptions"): self._transcribe}, self._nothing, LARGEST + 100_000)

    @property
    def url(self) -> str:
        """Its address, once it serves."""
        return f"{self.site.base}/v1"

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["Transcriber"]:
        """Serves for the duration of the block."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.site.serve)
            yield self
            nursery.cancel_scope.cancel()

    async def serve(self, port: int = 0, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        """Runs until cancelled; starts with its origin."""
        await self.site.serve(port, task_status=task_status)

    async def _nothing(self, request: Request) -> Response:
        return as_json({"error": {"message": f"no such address: {request.path}", "code": None}}, 404)

    async def _transcribe(self, request: Request) -> Response:
        self.tries += 1
        if self.down:
            return as_json({"error": {"message": "down", "type": "server_error", "code": None}}, self.down)
        if self.faults:
            fault = self.faults.pop(0)
            if fault == "silent":
                await trio.sleep_forever()
            return as_html("<html>Bad gateway</html>") if isinstance(fault, str) else fault
        try:
            asked = self._read(request)
        except _Refusal as refusal:
            self.refusals.append(str(refusal))
            return refusal.response
        self.asked.append(replace(asked, content=b""))
        segments = self.hear(asked)
        text = "".join(one["text"] for one in segments).strip()
        if asked.fields.get("response_format") != "verbose_json":
            return as_json({"text": text, "usage": {"type": "duration", "seconds": int(asked.seconds)}})
        numbered = [{**one, "id": place} for place, one in enumerate(segments)]
        return as_json(
            {"task": "transcribe", "language": "russian", "duration": asked.seconds, "text": text, "segments": numbered}
        )

    def _read(self, request: Request) -> Asked:
        if request.headers.get("authorization") != f"Bearer {self.key}":
            raise _Refusal(401, "Incorrect API key provided", "invalid_api_key")
        fields, files = _form(request)
        for name in fields:
            if name not in _FIELDS:
                raise _Refusal(400, f"Unknown parameter: '{name}'.", "unknown_parameter", name)
        if fields.get("model") != MODEL:
            raise _Refusal(404, "The model does not exist", "model_not_found")
        if self.plain and fields.get("response_format", "json") not in ("json", "text"):
            raise _Refusal(
                400,
                f"response_format '{fields['response_format']}' is not compatible with model",
                None,
                "response_format",
            )
        if len(fields.get("language", "ru")) != 2:
            raise _Refusal(400, "Language parameter must be specified in ISO-639-1 format", None, "language")
        if set(files) != {"file"}:
            raise _Refusal(400, "file: field required", None, "file")
        name, content = files["file"]
        if len(content) > LARGEST:
            raise _Refusal(413, "Maximum content size limit (26214400) exceeded")
        if name.rpartition(".")[2] not in _ENDINGS:
            raise _Refusal(400, f"Unrecognized file format. Supported formats: {_ENDINGS}", None, "file")
        seconds, loudest = (10.0, 0) if name.endswith(".mp3") and content else _wav(content)
        return Asked(fields=fields, name=name, size=len(content), seconds=seconds, loudest=loudest, content=content)


def _form(request: Request) -> tuple[dict[str, str], dict[str, tuple[str, bytes]]]:
    kind = request.headers.get("content-type", "")
    found = re.fullmatch(r"multipart/form-data; ?boundary=\"?([0-9A-Za-z'()+_,./:=?-]{1,70})\"?", kind)
    if found is None:
        raise _Refusal(400, "expected multipart/form-data with a boundary")
    first, *parts, last = (b"\r\n" + request.body).split(b"\r\n--" + found[1].encode())
    if first or last.strip() != b"--":
        raise _Refusal(400, "the form does not end")
    fields, files = dict[str, str](), dict[str, tuple[str, bytes]]()
    for part in parts:
        head, _, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        named = re.search(r'name="([^"]*)"(?:; filename="([^"]*)")?', head.decode())
        if named is None:
            raise _Refusal(400, "a part without a name")
        if named[2] is not None:
            files[named[1]] = named[2], content
        else:
            fields[named[1]] = content.decode()
    return fields, files


def _wav(content: bytes) -> tuple[float, int]:
    """Seconds and the loudest sample of a file that is as every server takes it."""
    wrong = _Refusal(400, "Audio file might be corrupted or unsupported", "invalid_value", "file")
    if content[:4] != b"RIFF" or content[8:16] != b"WAVEfmt " or content[36:40] != b"data":
        raise wrong
    (whole,), (size,) = struct.unpack("<I", content[4:8]), struct.unpack("<I", content[40:44])
    code, channels, rate, _, _, bits = struct.unpack("<HHIIHH", content[20:36])
    if (code, channels, bits) != (1, 1, 16) or size != len(content) - 44 or whole != len(content) - 8 or not size:
        raise wrong
    samples = array("h", content[44:])
    return size / 2 / rate, max(max(samples), -min(samples))
