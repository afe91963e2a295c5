"""One language model: questions by the official SDK, with deadlines and retries of our own, and the answer piece by piece.

    question --> request (chat.py, responses.py) --> SDK: address, key, errors --> events of the stream --> what was said

The SDK retries nothing: a question that timed out may have been paid for, so how often it is put is decided here. Its own reader of
streams is not used, for it leaves generators to the garbage collector, which Trio forbids. A reading ends when the stream does, or by
cancellation; never by leaving it. What is raised holds neither the question nor the key.
"""

import importlib
import json
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx2
import trio

from adapters.base import Dialer
from adapters.llm import chat, responses
from adapters.llm.lines import Events, TooMuch
from adapters.llm.protocol import ModelFailed, Question, Reader, Said, failure_of, shown_error
from adapters.llm.transport import Forbidden, Transport
from gateway.domain.errors import BadSettings, LocalProtocolError
from gateway.domain.secret import Secret

log = logging.getLogger(__name__)

LONGEST_BODY = 16 << 20
"""Bytes of an answer that are read: a stream has some hundred for each word."""
LONGEST_TEXT = 50_000
"""Characters of an answer after which it is not read on."""
DRAIN_S = 0.2
"""For what may follow the last event of a stream."""
RETRY_S, RETRY_CAP_S = 0.5, 8.0
Piece = Callable[[str], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelTimeouts:
    """Seconds: to connect, until the answer begins, between two pieces of it, and for one request as a whole."""

    connect_s: float = 5.0
    first_s: float = 30.0
    gap_s: float = 20.0
    whole_s: float = 90.0


TIMEOUTS = ModelTimeouts()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """Which model, and where. `dial` is None for a server that the operator has given, which is trusted."""

    url: str
    key: Secret | None = None
    model: str = ""
    api: Literal["chat", "responses"] = "chat"
    dial: Dialer | None = None


@dataclass
class Model:
    """One server. Made by `open_model`."""

    settings: ModelSettings
    client: Any
    """The SDK's `AsyncOpenAI`."""
    timeouts: ModelTimeouts
    omitted: set[str] = field(default_factory=set)
    """Parameters that this server or model has refused."""

    async def ask(self, question: Question, *, piece: Piece | None = None, tries: int = 1, ended: bool = False) -> Said:
        """What the model says. With `tries`, what may pass is tried again, as long as nothing was given to `piece`, but for silence: it
        has taken its time, and may be paid for. `ended`: an answer whose end the server does not mark counts as broken off. Raises
        ModelFailed."""
        deadline = trio.current_time() + self.timeouts.whole_s
        given = list[bool]()

        async def noting(text: str) -> None:
            given.append(True)
            if piece is not None:
                await piece(text)

        for left in reversed(range(tries)):
            with trio.move_on_at(deadline):
                try:
                    said = await self._once(question, noting if piece is not None else None)
                    if ended and not said.ended:
                        raise ModelFailed("cut_off", detail="no end")
                    return said
                except ModelFailed as failure:
                    wait = failure.retry_after_s
                    if wait is None:
                        wait = min(RETRY_CAP_S, RETRY_S * 2 ** (tries - 1 - left)) * random.uniform(0.75, 1.25)
                    final = given or not failure.retryable or failure.code == "timeout"
                    if not left or final or trio.current_time() + wait >= deadline:
                        raise
                    log.info("the model is tried again", extra={"reason": failure.code})
                await trio.sleep(wait)
        raise ModelFailed("timeout")

    async def _once(self, question: Question, piece: Piece | None) -> Said:
        """One request, and once more at a time without a parameter that the server refuses."""
        while True:
            body = self._body(question)
            try:
                return await self._send(body, piece)
            except Unsupported as refusal:
                name = next((one for one in _ALTERNATIVES if one in body and one in refusal.names), None)
                if name is None:
                    raise refusal.failure from None
                self.omitted.add(name)

    def _body(self, question: Question) -> dict[str, Any]:
        body_of = responses.body_of if self.settings.api == "responses" else chat.body_of
        made = body_of(question, self.settings.model)
        for name, other in _ALTERNATIVES.items():
            if name in self.omitted and name in made:
                value = made.pop(name)
                if other and other not in self.omitted:
                    made[other] = value
        return made

    async def _send(self, body: Mapping[str, Any], piece: Piece | None) -> Said:
        began, sdk = trio.current_time(), official_sdk()
        reader: Reader = responses.ResponsesReader() if self.settings.api == "responses" else chat.ChatReader()
        create: Any = self.client.responses if self.settings.api == "responses" else self.client.chat.completions
        seen = _Seen()
        unkeyed = None if self.settings.key is not None else {"Authorization": sdk.Omit()}
        with trio.CancelScope(deadline=began + self.timeouts.first_s) as patience:
            try:
                raw = await create.with_raw_response.create(**body, extra_headers=unkeyed)
                response: httpx2.Response = raw.http_response
                try:
                    if "json" in response.headers.get("content-type", ""):
                        text = _whole(reader, await _read(response))
                        if text and piece is not None:
                            await piece(text)
                    else:
                        await self._stream(response, reader, piece, patience, seen)
                finally:
                    with trio.CancelScope(shield=True, deadline=trio.current_time() + DRAIN_S):
                        await response.aclose()
            except sdk.APIStatusError as error:
                raise status_failure(error) from None
            except sdk.APIError as error:
                raise connection_failure(error, begun=reader.begun) from None
            except httpx2.HTTPError as error:
                raise connection_failure(error, begun=reader.begun) from None
        if seen.full:
            return replace(reader.said(self.settings.model), cut=True, ended=True, took_s=trio.current_time() - began)
        if seen.too_much:
            raise ModelFailed("cut_off", detail="an answer without end")
        if patience.cancelled_caught and not reader.closed:
            raise ModelFailed("timeout")
        if reader.error is not None:
            raise ModelFailed(failure_of(0, reader.error), detail=shown_error(reader.error))
        said = reader.said(self.settings.model)
        return replace(
            said, first_token_s=seen.first - began if seen.first is not None else None, ended=said.ended or seen.done,
            took_s=trio.current_time() - began,
        )  # fmt: skip

    async def _stream(
        self, response: httpx2.Response, reader: Reader, piece: Piece | None, patience: trio.CancelScope, seen: "_Seen"
    ) -> None:
        """Reads the stream to its end."""
        events, size = Events(), 0
        async for raw in response.aiter_bytes():
            size += len(raw)
            try:
                found = events.feed(raw)
            except TooMuch:
                found, size = [], LONGEST_BODY + 1
            await _take(found, reader, piece, seen)
            if reader.size > LONGEST_TEXT:
                seen.full = True
                patience.cancel()
            elif size > LONGEST_BODY:
                seen.too_much = True
                patience.cancel()
            elif events.done or reader.closed:
                seen.done = seen.done or events.done
                reader.closed = True
                patience.deadline = min(patience.deadline, trio.current_time() + DRAIN_S)
            elif reader.begun:
                patience.deadline = trio.current_time() + self.timeouts.gap_s
        await _take(events.feed(b""), reader, piece, seen)
        seen.done = seen.done or events.done
        reader.closed = True


@dataclass(slots=True)
class _Seen:
    """How far the reading of a stream has come."""

    first: float | None = None
    """When the answer began."""
    done: bool = False
    """Whether the server's last line has come."""
    full: bool = False
    """Whether it was not read on, for it is too long."""
    too_much: bool = False


async def _take(found: Sequence[Mapping[str, Any]], reader: Reader, piece: Piece | None, seen: _Seen) -> None:
    for event in found:
        text = reader.feed(event)
        if text and piece is not None and reader.error is None:
            await piece(text)
    if seen.first is None and reader.begun:
        seen.first = trio.current_time()


_ALTERNATIVES: Mapping[str, str] = {
    "max_completion_tokens": "max_tokens",
    "max_tokens": "",
    "stream_options": "",
    "include": "",
}
"""Parameters that some servers do not know -> what they call it, or nothing."""


class Unsupported(Exception):
    """The server may not take a parameter: what it named, and the failure where it is none of ours."""

    def __init__(self, names: str, failure: ModelFailed) -> None:
        super().__init__(failure.code)
        self.names = names
        self.failure = failure


def official_sdk() -> Any:
    """The package; reading it takes most of a second the first time."""
    return importlib.import_module("openai")


def _whole(reader: Reader, raw: bytes) -> str:
    try:
        body = json.loads(raw)
    except ValueError:
        return ""
    reader.closed = True
    return reader.whole(body) if isinstance(body, dict) else ""


async def _read(response: httpx2.Response) -> bytes:
    pieces, size = list[bytes](), 0
    async for piece in response.aiter_bytes():
        size += len(piece)
        if size <= LONGEST_BODY:
            pieces.append(piece)
    return b"".join(pieces)


def status_failure(error: Any) -> Exception:
    """What a refusal of the server means: a ModelFailed, or Unsupported."""
    body = error.body if isinstance(error.body, Mapping) else {}
    after = error.response.headers.get("retry-after", "")
    wait = float(after) if after.isascii() and after.isdigit() and len(after) < 6 else None
    code = failure_of(error.status_code, body)
    failure = ModelFailed(code, retry_after_s=wait, detail=f"HTTP {error.status_code} {shown_error(body)}".strip())
    if error.status_code in (400, 422) and code == "refused":
        return Unsupported(f"{body.get('param') or ''} {body.get('message') or ''}", failure)
    return failure


def connection_failure(error: Exception, *, begun: bool) -> ModelFailed:
    """What an error of the connection means; `begun`: some of the answer had come."""
    cause = error if isinstance(error, httpx2.HTTPError) else error.__cause__
    if isinstance(cause, Forbidden):
        refused = isinstance(cause.error, BadSettings | LocalProtocolError)
        return ModelFailed("no_model" if refused else "unavailable", detail=cause.error.detail)
    if begun:
        return ModelFailed("cut_off", detail=type(cause).__name__)
    silent = isinstance(cause, httpx2.ReadTimeout)
    return ModelFailed("timeout" if silent else "unavailable", detail=type(cause).__name__)


@asynccontextmanager
async def open_model(settings: ModelSettings, timeouts: ModelTimeouts | None = None) -> AsyncIterator[Model]:
    """A model for the duration of the block. Opens no connection. Raises ModelFailed where there is no address."""
    times = timeouts or TIMEOUTS
    if urlsplit(settings.url).scheme not in ("http", "https") or not urlsplit(settings.url).hostname:
        raise ModelFailed("no_model" if settings.url else "not_configured")
    sdk = await trio.to_thread.run_sync(official_sdk)
    transport = Transport(settings.url, settings.dial)
    http = httpx2.AsyncClient(
        transport=transport, trust_env=False, follow_redirects=False,
        timeout=httpx2.Timeout(times.whole_s, connect=times.connect_s),
    )  # fmt: skip
    omit: Mapping[str, Any] = {"OpenAI-Organization": sdk.Omit(), "OpenAI-Project": sdk.Omit()}
    client = sdk.AsyncOpenAI(
        base_url=settings.url, api_key=settings.key.reveal() if settings.key is not None else "none", max_retries=0,
        http_client=http, default_headers=omit, timeout=httpx2.Timeout(times.whole_s, connect=times.connect_s),
    )  # fmt: skip
    try:
        yield Model(settings, client, times)
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + times.connect_s):
            await client.close()
