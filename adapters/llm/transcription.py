"""Speech to text by `/audio/transcriptions` of OpenAI or of any server that speaks its API, by the official SDK.

    a piece of sound --> multipart (SDK) --> verbose_json, or plain json where the model knows no other --> segments

Segments that are no speech are left out here, by what the model says of them; a model that says nothing is believed. As in
`client.py` nothing is retried, and what is raised holds neither sound nor key.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx2
import trio

from adapters.llm.client import (
    LONGEST_BODY,
    Model,
    ModelTimeouts,
    Unsupported,
    connection_failure,
    official_sdk,
    status_failure,
)
from adapters.llm.protocol import ModelFailed, failure_of, shown_error
from gateway.domain.sound import Part
from gateway.domain.transcripts import LONGEST_SEGMENT, Segment, clean, is_speech

TIMEOUTS = ModelTimeouts(first_s=600.0, gap_s=60.0, whole_s=600.0)
"""A server without a graphics card takes about as long as the piece lasts."""
REPEATED = 3
"""So many equal segments in a row are one that the model could not get away from."""
_TYPES = {"wav": "audio/wav", "mp3": "audio/mpeg", "ogg": "audio/ogg", "m4a": "audio/mp4", "flac": "audio/flac"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What was said in a piece, by its own time."""

    segments: tuple[Segment, ...]
    language: str
    model: str


async def transcribe(model: Model, part: Part, seconds: float, language: str | None) -> Heard:
    """The text of a piece that lasts so long. Raises ModelFailed."""
    with trio.move_on_after(model.timeouts.whole_s):
        while True:
            fields = _fields(model, language)
            try:
                return _heard(await _send(model, part, fields), part.channel, seconds, model.settings.model)
            except Unsupported as refusal:
                name = next((one for one in ("response_format", "language") if one in refusal.names), "")
                if name in model.omitted or name not in fields or fields.get(name) == "json":
                    raise refusal.failure from None
                model.omitted.add(name)
    raise ModelFailed("timeout")


def _fields(model: Model, language: str | None) -> dict[str, Any]:
    made = {
        "model": model.settings.model,
        "response_format": "json" if "response_format" in model.omitted else "verbose_json",
    }
    if language is not None and "language" not in model.omitted:
        made["language"] = language
    return made


async def _send(model: Model, part: Part, fields: Mapping[str, Any]) -> bytes:
    sdk = official_sdk()
    unkeyed = None if model.settings.key is not None else {"Authorization": sdk.Omit()}
    kind = _TYPES.get(part.name.rpartition(".")[2], "application/octet-stream")
    begun = False
    try:
        create = model.client.audio.transcriptions.with_streaming_response.create
        async with create(file=(part.name, part.content, kind), extra_headers=unkeyed, **fields) as raw:
            response: httpx2.Response = raw.http_response
            pieces, size = list[bytes](), 0
            async for piece in response.aiter_bytes():
                begun, size = True, size + len(piece)
                if size > LONGEST_BODY:
                    raise ModelFailed("cut_off", detail="an answer without end")
                pieces.append(piece)
            return b"".join(pieces)
    except sdk.APIStatusError as error:
        raise status_failure(error) from None
    except (sdk.APIError, httpx2.HTTPError) as error:
        raise connection_failure(error, begun=begun) from None


def _heard(raw: bytes, channel: int, seconds: float, asked: str) -> Heard:
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise ModelFailed("unavailable", detail="no JSON object")
    if body.get("error"):
        raise ModelFailed(failure_of(0, body["error"]), detail=shown_error(body["error"]))
    found = list[Segment]()
    given = body.get("segments")
    if isinstance(given, list):
        for one in given:
            if isinstance(one, dict) and (segment := _segment(one, channel, seconds)) is not None:
                found.append(segment)
    elif text := clean(_text(body.get("text")), 200_000):
        found = [
            Segment(channel, 0.0, seconds, text[at : at + LONGEST_SEGMENT])
            for at in range(0, len(text), LONGEST_SEGMENT)
        ]
    model = body.get("model")
    return Heard(
        segments=tuple(_without_loops(found)), language=clean(_text(body.get("language")), 40),
        model=model if isinstance(model, str) else asked,
    )  # fmt: skip


def _segment(given: Mapping[str, Any], channel: int, seconds: float) -> Segment | None:
    text = clean(_text(given.get("text")), LONGEST_SEGMENT).replace("\n", " ")
    said = [_number(given.get(name)) for name in ("no_speech_prob", "avg_logprob", "compression_ratio")]
    start, end = _number(given.get("start")) or 0.0, _number(given.get("end"))
    if not text or not is_speech(*said) or start >= seconds + 1.0:  # models go on behind the end
        return None
    start = min(max(0.0, start), seconds)
    return Segment(channel, start, min(max(start, end if end is not None else seconds), seconds), text)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _number(value: Any) -> float | None:
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if good else None


def _without_loops(segments: list[Segment]) -> list[Segment]:
    found, at = list[Segment](), 0
    while at < len(segments):
        behind = at
        while behind < len(segments) and segments[behind].text == segments[at].text:
            behind += 1
        found += segments[at : at + 1] if behind - at > REPEATED else segments[at:behind]
        at = behind
    return found
