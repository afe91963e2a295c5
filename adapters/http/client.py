"""The one HTTP client per remote: a request, an answer, and whatever goes wrong on the wire as `gateway.domain.errors`.

    budget -> an open or new connection -> request -> bounded answer -> the adapter's reader, on the raw bytes
                                                                    +-> the log, masked

What is read is raw; what is written into an attempt, raised, or returned for people is masked (`masking.py`). `exchange` is
for tokens: nothing of it is written down. Takes from the account's budget before every request, and pauses it where the
other side requests that.

Never follows redirects, never reads proxy variables, and repeats a request only where an open connection turned out to be
closed and a repeat is harmless (GET, PUT, DELETE). Knows no outside system: what an answer means is each adapter's
own. Read `wire.py` next, then `adapters/retailcrm/client.py`.
"""

import json
import logging
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self, TypeVar, overload

import trio

from adapters.base import Attempt, Dialer, Link
from adapters.budget import Budget
from adapters.http.bodies import ABSENT, Body, Form, Upload, encode
from adapters.http.connecting import connect
from adapters.http.masking import READING_FAULTS, Mask, misread, token_words, values_of
from adapters.http.requests import Site
from adapters.http.wire import Head, Stale, Unpacker, Wire, Wires
from adapters.http_settings import HttpSettings
from gateway.domain.errors import GatewayError, LocalProtocolError, RateLimited, Unavailable
from gateway.domain.limiter import Limits, RequestBudget
from gateway.domain.secret import Secret

T = TypeVar("T")

BODY_LIMIT = 1 << 20
"""Bytes of an answer, unpacked, unless the caller names another limit."""
NO_REPLY = "no answer within {:g} s"

# At INFO the library logs every URL, and a URL may hold a token. What was sent is in the attempt, masked.
logging.getLogger("httpx2").setLevel(logging.WARNING)
logging.getLogger("httpcore2").setLevel(logging.WARNING)

_REPEATABLE = frozenset({"GET", "PUT", "DELETE"})


@dataclass(frozen=True, kw_only=True)
class Timeouts:
    """Seconds, from the adapter's settings: to connect, between two pieces, and for one request as a whole."""

    connect_s: float
    read_s: float
    whole_s: float

    @classmethod
    def of(cls, settings: HttpSettings) -> "Timeouts":
        """Those that a tenant's settings name."""
        return cls(
            connect_s=settings.connect_timeout_s, read_s=settings.read_timeout_s, whole_s=settings.request_timeout_s
        )


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back, as it came: it may repeat secrets, so it is for an adapter's reader alone. `cut`: there was
    more than the limit."""

    status: int
    raw: bytes = field(default=b"", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    cut: bool = False

    @cached_property
    def text(self) -> str:
        """The body as UTF-8."""
        return self.raw.decode("utf-8", "replace")

    def json(self) -> Any:
        """The body as JSON. Raises ValueError."""
        return json.loads(self.raw)


Read = Callable[[Answer], T]
"""An adapter's reader. What it raises or returns for people is masked on its way out."""


class Http:
    """One remote, one client: `async with Http(url, ...) as http`, then `await http.send(...)`.

    Entering opens nothing; connections are made by requests. `dial` is None for an address that the operator has given,
    which is trusted. Whatever `send` raises or writes down has every secret masked. `budget` is the account's; `background`:
    nobody waits for what this client does.
    """

    def __init__(
        self,
        url: str,
        *,
        dial: Dialer | None,
        timeouts: Timeouts,
        secrets: Iterable[Secret | str] = (),
        at_once: int = 8,
        keepalive_s: float = 55.0,
        budget: RequestBudget | None = None,
        background: bool = False,
    ) -> None:
        self._url = url
        self._dial = dial
        self._timeouts = timeouts
        self._mask = Mask(secrets)
        self._limiter = trio.CapacityLimiter(at_once)
        self._keepalive_s = keepalive_s
        self._budget = budget if budget is not None else Budget(Limits(rates={}, at_once=at_once))
        self._background = background
        self._wires: Wires | None = None
        self._site: Site | None = None

    @classmethod
    def of(
        cls, link: Link, url: str, timeouts: Timeouts, secrets: Iterable[Secret | str] = (), *, at_once: int = 8
    ) -> Self:
        """The client of a link: the operator's address where there is one, the account's budget, the link's dialer."""
        return cls(
            link.base_url or url,
            dial=link.dial if link.base_url is None else None,
            timeouts=timeouts,
            secrets=secrets,
            at_once=at_once,
            budget=link.budget,
            background=link.background,
        )

    def __repr__(self) -> str:
        return f"<Http {self.shown(self._url)}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._wires is not None:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + self._timeouts.connect_s):
                await self._wires.aclose()

    def shown(self, text: str) -> str:
        """`text` as it may be stored and shown."""
        return self._mask.shown(text)

    @overload
    async def send(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, form: Form | None = None,
        payload: Any = ABSENT, files: Sequence[Upload] = (), attempt: Attempt | None = None,
        hide: Iterable[Secret | str] = (), bucket: str | None = None, limit: int = BODY_LIMIT,
        within_s: float | None = None,
    ) -> Answer: ...  # fmt: skip
    @overload
    async def send(
        self, method: str, path: str, *, read: Read[T], headers: Mapping[str, str] | None = None,
        form: Form | None = None, payload: Any = ABSENT, files: Sequence[Upload] = (), attempt: Attempt | None = None,
        hide: Iterable[Secret | str] = (), bucket: str | None = None, limit: int = BODY_LIMIT,
        within_s: float | None = None,
    ) -> T: ...  # fmt: skip

    async def send(
        self,
        method: str,
        path: str,
        *,
        read: Read[Any] | None = None,
        headers: Mapping[str, str] | None = None,
        form: Form | None = None,
        payload: Any = ABSENT,
        files: Sequence[Upload] = (),
        attempt: Attempt | None = None,
        hide: Iterable[Secret | str] = (),
        bucket: str | None = None,
        limit: int = BODY_LIMIT,
        within_s: float | None = None,
    ) -> Any:
        """One request, and what `read` makes of its answer; the answer itself without a reader, and then nothing that leaves
        the adapter may quote it. One body at most: `form`, `payload` as JSON of any kind, or `form` with `files`. `hide` are
        secrets of this request alone, `bucket` the budget's (by default the attempt's), `limit` the bytes of an answer.

        Raises Unavailable, whose `certain` tells whether it may have arrived, RateLimited where the budget is used up,
        BadSettings where the address may not be used, LocalProtocolError for what cannot be written as HTTP; and what
        `read` raises, masked, or Misread for a fault of its own."""
        mask = self._mask.plus(hide)
        body = _body(form, payload, files, show=attempt is not None)
        await self._take(attempt, bucket)
        if attempt is not None:
            shown = mask.shown(f"{method} {self._url.rstrip('/')}{path}\n{body.shown}".rstrip())
            attempt.request = f"{attempt.request}\n\n{shown}" if attempt.request else shown
            attempt.response, attempt.status = "", None
        pieces: list[bytes] = []
        failure: GatewayError | None = None
        answer: Answer | None = None
        try:
            answer = await self._round(method, path, headers or {}, body, attempt, pieces, limit, within_s)
        except (Unavailable, LocalProtocolError) as error:
            failure = error
        if attempt is not None:
            attempt.response = mask.shown(b"".join(pieces)[:limit].decode("utf-8", "replace"))
        if answer is None:
            assert failure is not None
            mask.error(failure)
            raise failure
        return self._read(answer, read, mask)

    async def exchange(
        self,
        method: str,
        path: str,
        *,
        read: Read[T],
        headers: Mapping[str, str] | None = None,
        form: Form | None = None,
        payload: Any = ABSENT,
        bucket: str = "",
        limit: int = BODY_LIMIT,
    ) -> T:
        """One request for tokens, and what `read` makes of the raw answer. Nothing of either is written anywhere; the text of an
        error has neither the request's values nor anything in the answer that may be a token. Raises as `send` does."""
        body = _body(form, payload, (), show=False)
        await self._budget.take(bucket, background=self._background)
        failure: GatewayError | None = None
        answer: Answer | None = None
        try:
            answer = await self._round(method, path, headers or {}, body, None, [], limit, None)
        except (Unavailable, LocalProtocolError) as error:
            failure = error
        secrets = values_of(dict(form)) if form is not None else values_of(payload)
        secrets |= values_of(dict(headers or {})) | values_of([path])
        mask = self._mask.plus(secrets)
        if answer is None:
            assert failure is not None
            mask.error(failure)
            raise failure
        made: T = self._read(answer, read, mask.plus(token_words(answer.text)))
        return made

    async def receive(
        self,
        path: str,
        *,
        judge: Callable[[int, Mapping[str, str]], None],
        write: Callable[[bytes], Awaitable[None]],
        user: str = "",
        password: Secret | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """One GET whose body goes to `write` piece by piece, for files. `judge` sees status and headers first; what either
        of them raises ends the reading and is raised. Otherwise raises like `send`; the deadline is the caller's."""
        sent = dict(headers or {})
        if user:
            login = f"{user}:{password.reveal() if password is not None else ''}"
            sent["authorization"] = f"Basic {b64encode(login.encode()).decode()}"
        await self._pour("GET", path, sent, Body(), judge, write)

    async def stream(
        self,
        path: str,
        *,
        payload: Any,
        headers: Mapping[str, str],
        judge: Callable[[int, Mapping[str, str]], None],
        write: Callable[[bytes], Awaitable[None]],
    ) -> None:
        """One POST of JSON whose answer goes to `write` as it comes, for answers that take their time. Nothing of either is
        written anywhere. Ends and raises like `receive`."""
        body = _body(None, payload, (), show=False)
        await self._pour("POST", path, headers, body, judge, write)

    async def _pour(
        self, method: str, path: str, headers: Mapping[str, str], body: Body,
        judge: Callable[[int, Mapping[str, str]], None], write: Callable[[bytes], Awaitable[None]],
    ) -> None:  # fmt: skip
        await self._budget.take(background=self._background)
        failure: GatewayError | None = None
        try:
            async with self._exchange(method, path, headers, body, lambda: None) as (head, wire):
                judge(head.status, head.headers)
                while piece := await wire.piece():
                    await write(piece)
        except (Unavailable, LocalProtocolError) as error:
            failure = error
        if failure is not None:
            self._mask.error(failure)
            raise failure

    def pause(self, seconds: float, bucket: str = "") -> None:
        """The other side requests a pause: of the account, or of one bucket of it."""
        self._budget.pause(seconds, bucket)

    async def _take(self, attempt: Attempt | None, bucket: str | None) -> None:
        """A place in the account's budget; whoever made the attempt has taken the one for its first request."""
        if attempt is not None and attempt.paid:
            attempt.paid = False
            return
        named = bucket if bucket is not None else attempt.bucket if attempt is not None else ""
        await self._budget.take(named, background=self._background)

    def _read(self, answer: Answer, read: Read[Any] | None, mask: Mask) -> Any:
        if answer.status == 429 and (after := _seconds(answer.headers.get("retry-after", ""))):
            self._budget.pause(after)
        if read is None:
            return answer
        try:
            with mask.errors():
                return mask.result(read(answer))
        except RateLimited as error:
            if error.after_s:
                self._budget.pause(error.after_s, error.bucket)
            raise
        except READING_FAULTS as error:
            fault = misread(error)
        raise fault

    async def _round(
        self, method: str, path: str, headers: Mapping[str, str], body: Body, attempt: Attempt | None,
        pieces: list[bytes], limit: int, within_s: float | None,
    ) -> Answer:  # fmt: skip
        """A request and its whole answer. What came of the body is in `pieces`, however it ends."""
        whole_s = self._timeouts.whole_s if within_s is None else within_s
        sent = False

        def leaving() -> None:
            nonlocal sent
            if attempt is not None:
                attempt.permit()  # a process may have stood still since it was decided to send; half a request is none
            sent = True

        if limit > BODY_LIMIT:
            headers = {"accept-encoding": "gzip", **headers}
        with trio.move_on_after(whole_s):
            async with (
                self._budget.place(background=self._background),
                self._limiter,
                self._exchange(method, path, headers, body, leaving) as (head, wire),
            ):
                if attempt is not None:
                    attempt.status = head.status
                unpacker = Unpacker(head.headers.get("content-encoding", ""), limit)
                while not unpacker.cut and (piece := await wire.piece()):
                    pieces.append(unpacker.feed(piece))
                unpacker.finish()
                return Answer(status=head.status, raw=b"".join(pieces), headers=head.headers, cut=unpacker.cut)
        raise Unavailable(NO_REPLY.format(whole_s), certain=not sent)

    @asynccontextmanager
    async def _exchange(
        self, method: str, path: str, headers: Mapping[str, str], body: Body, permit: Callable[[], None]
    ) -> AsyncIterator[tuple[Head, Wire]]:
        """One request and the head of its answer, on a connection that is this request's alone for as long as it lasts."""
        site, wires = self._open()
        head = site.head(method, path, headers, body)
        again = method in _REPEATABLE
        fresh = False
        for _ in range(2):
            async with wires.wire(fresh=fresh) as wire:
                try:
                    await wire.write(head, body.parts, permit)
                    answered = await wire.head()
                except Stale:
                    if not again:
                        raise Unavailable("the connection was closed", certain=False) from None
                    fresh = True
                    continue
                yield answered, wire
                return

    def _open(self) -> tuple[Site, Wires]:
        if self._site is None or self._wires is None:
            site = self._site = Site(self._url)

            async def opened() -> trio.abc.Stream:
                within_s = self._timeouts.connect_s
                return await connect(site.host, site.port, tls=site.tls, dial=self._dial, within_s=within_s)

            self._wires = Wires(opened, read_s=self._timeouts.read_s, keepalive_s=self._keepalive_s)
        return self._site, self._wires


def _body(form: Form | None, payload: Any, files: Sequence[Upload], *, show: bool) -> Body:
    try:
        return encode(form, payload, files, show=show)
    except (ValueError, TypeError):
        pass  # out here: the error may hold the value
    raise LocalProtocolError("the request's body cannot be written")


def _seconds(text: str) -> float:
    """Of a Retry-After header; 0 for a date, which the clocks of two machines would have to agree on."""
    return float(text) if text.isascii() and text.isdigit() and len(text) < 8 else 0.0
