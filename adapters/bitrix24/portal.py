"""One portal over HTTP: where it is, with what we come, how fast.

    method -> path of the webhook, or of the application with its access token -> request -> read
                     |                                   +--> expired: refreshed once, sent once more
                     +--> 302: the portal has a new name -> stored -> sent there, now and from here on

Owns the credentials: a webhook's address or the application's tokens. The rate of 2 requests a second is the account's budget;
a method that has worked for nearly as long as it may is left alone until the portal counts anew. Never builds a request of its
own but the refresh (`requests.py`), never judges an answer (`codec.py`).
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import urlencode, urlsplit

import trio

from adapters.apps import oauth_app
from adapters.base import Attempt, Link
from adapters.bitrix24 import codec
from adapters.bitrix24.refusals import REASONS
from adapters.bitrix24.settings import Bitrix24Settings
from adapters.http import Answer, Http, Timeouts
from adapters.renamed import Renamed
from adapters.tokens import FreshToken, Token, with_token
from gateway.domain.errors import BadCredentials, BadSettings, NotYet
from gateway.domain.secret import Secret

TOKEN, RENAMED = "oauth", "portal"
"""Names under which the application's tokens and the portal's new address are stored."""
MOST_PAGES = 100
ANSWER_LIMIT = 8 << 20
"""Bytes of an answer: fifty deals with their fields, or a page of a list."""


class Portal:
    """One portal. Opens nothing before first use."""

    def __init__(self, link: Link, settings: Bitrix24Settings, stack: AsyncExitStack) -> None:
        self._link = link
        self._settings = settings
        self._stack = stack
        self._https: dict[str, Http] = {}
        self._renamed = Renamed(link.tokens, RENAMED)
        self._rest: dict[str, float] = {}
        """Methods that are left alone -> until when, by Trio's clock."""

    async def call(
        self, method: str, params: Mapping[str, Any] | None = None, *, attempt: Attempt | None = None,
        hide: Sequence[Secret] = (),
    ) -> Any:  # fmt: skip
        """A method's answer. `hide` is not shown in the log. Raises what `gateway.domain.errors` lists."""
        return (await self._result(method, params or {}, attempt, hide)).value

    async def pages(self, method: str, params: Mapping[str, Any], attempt: Attempt | None = None) -> list[Any]:
        """All pages of a list."""
        found: list[Any] = []
        start: int | None = 0
        for _ in range(MOST_PAGES):
            page = await self._result(method, {**params, "start": start}, attempt)
            found += codec.items(page.value)
            start = page.next
            if start is None:
                break
        return found

    async def page(self, method: str, params: Mapping[str, Any], attempt: Attempt | None = None) -> codec.Result:
        """One page of a list, and where the next begins."""
        return await self._result(method, params, attempt)

    async def batch(
        self, commands: Mapping[str, codec.Command], *, halt: bool = False, attempt: Attempt | None = None
    ) -> codec.Batch:
        """Several methods as one request, at most `codec.BATCH`; what became of each is in the answer."""
        for command in commands.values():
            self._may_work(command.method)
        body = {"halt": int(halt), "cmd": {name: command.query() for name, command in commands.items()}}
        result = await self._result("batch", body, attempt)
        answered = codec.read_batch(result, commands)
        for method, worked in answered.operating.items():
            self._note(method, worked)
        return answered

    async def user(self) -> str:
        """The id of the user in whose name we work, or nothing where it is not known."""
        if (webhook := self._settings.webhook) is not None:
            return webhook[1]
        token = await self._link.tokens.current(TOKEN) if self._link.tokens is not None else None
        return codec.identifier(pair_of(token).get("user_id")) if token is not None else ""

    # One request.

    async def _result(
        self, method: str, params: Mapping[str, Any], attempt: Attempt | None, hide: Sequence[Secret] = ()
    ) -> codec.Result:
        self._may_work(method)
        if (webhook := self._settings.webhook) is not None:
            path, _, secret = webhook
            result = await self._send(self._settings.origin, path, method, params, [secret, *hide], attempt)
        else:

            async def once(token: Token) -> codec.Result:
                pair = pair_of(token)
                parts = urlsplit(str(pair.get("endpoint", "")))
                origin = f"{parts.scheme}://{parts.netloc}" if parts.hostname else self._settings.origin
                access = str(pair.get("access", ""))
                path = parts.path.rstrip("/") or "/rest"
                return await self._send(
                    origin, path, method, {**params, "auth": access}, [Secret(access), *hide], attempt
                )

            result = await with_token(self._link.tokens, TOKEN, self._exchange, once)
        self._note(method, result)
        return result

    async def _send(
        self, origin: str, path: str, method: str, params: Mapping[str, Any], hide: Sequence[Secret],
        attempt: Attempt | None,
    ) -> codec.Result:  # fmt: skip
        target = f"{path}/{method}"
        renamed = await self._renamed.of(origin)
        for turn in range(2):
            http = await self._http(origin, renamed)
            base = renamed or self._link.base_url or origin
            try:
                return await http.send(
                    "POST", target, payload=dict(params), attempt=attempt, hide=hide, limit=ANSWER_LIMIT,
                    read=lambda answer: codec.read(answer.status, answer.raw, answer.headers, method),
                )  # fmt: skip
            except codec.Moved as moved:
                # What an error says is masked by now, and is compared with what was asked for, masked alike.
                found = codec.moved_to(moved.location, http.shown(base.rstrip("/") + target))
                if turn or found is None:
                    break
                renamed = found
            await self._renamed.store(origin, renamed)
        raise BadSettings("the portal leads on to another address", person=REASONS["elsewhere"])

    async def _http(self, origin: str, renamed: str | None) -> Http:
        key = renamed or origin
        if key not in self._https:
            settings = self._settings
            known = [one for one in (settings.client_secret, settings.application_token) if one is not None]
            webhook = settings.webhook
            secrets = [*known, *((webhook[2],) if webhook is not None else ())]
            timeouts = Timeouts.of(settings)
            link = self._link
            if renamed is None:
                made = Http.of(link, origin, timeouts, secrets)
            else:
                made = Http(renamed, dial=link.dial, timeouts=timeouts, secrets=secrets, budget=link.budget,
                            background=link.background)  # fmt: skip
            self._https[key] = await self._stack.enter_async_context(made)
        return self._https[key]

    # Pace.

    def _may_work(self, method: str) -> None:
        until = self._rest.get(method.lower(), 0.0)
        if until > trio.current_time():
            raise NotYet(
                f"{method} has worked for as long as it may in 10 minutes", after_s=until - trio.current_time()
            )

    def _note(self, method: str, result: codec.Result) -> None:
        if result.operating_s >= codec.NEARLY_S:
            self._rest[method.lower()] = trio.current_time() + result.resets_in_s

    # Tokens.

    async def _exchange(self, token: Token) -> FreshToken:
        """Trades the refresh token: the new pair takes the place of both."""
        return await exchange(
            self._link, self._settings, {"grant_type": "refresh_token", "refresh_token": pair_of(token).get("refresh", "")},
            pair_of(token),
        )  # fmt: skip


def pair_of(token: Token) -> Mapping[str, Any]:
    """What a stored token holds: access, refresh, endpoint, server, user_id, member_id."""
    try:
        return codec.mapping(json.loads(token.value.reveal()))
    except ValueError:
        return {}


async def exchange(
    link: Link, settings: Bitrix24Settings, fields: Mapping[str, str], known: Mapping[str, Any]
) -> FreshToken:
    """Tokens for a code or a refresh token, from the authorisation server. Raises BadCredentials where it takes neither, and what
    `gateway.domain.errors` lists."""
    app = oauth_app(link.app, settings.client_id, settings.client_secret)
    query = urlencode({**fields, "client_id": app.client_id, "client_secret": app.client_secret.reveal()})
    given = link.provider_urls.get(f"{settings_kind()}_oauth")
    server = given or str(known.get("server") or settings.auth_server)
    async with Http(server, dial=None if given else link.dial, timeouts=Timeouts.of(settings),
                    secrets=[app.client_secret]) as http:  # fmt: skip
        return await http.exchange("GET", f"/oauth/token/?{query}", read=lambda answer: read_tokens(answer, known))


def settings_kind() -> str:
    """The name under which the operator may replace the portal's address."""
    return __name__.split(".")[1]


def read_tokens(answer: Answer, known: Mapping[str, Any]) -> FreshToken:
    """The pair in an answer of the authorisation server. What it leaves out stays as it was."""
    try:
        given = codec.mapping(answer.json())
    except (ValueError, RecursionError):
        given = {}
    access, refresh = given.get("access_token"), given.get("refresh_token")
    if answer.status >= 400 or not isinstance(access, str) or not isinstance(refresh, str) or not access or not refresh:
        error = codec.judge(
            answer.status, codec.text(given.get("error")), codec.text(given.get("error_description")), "oauth"
        )
        if answer.status in (400, 401) and not isinstance(error, BadSettings):
            error = BadCredentials(error.detail, person=REASONS["grant"])
        raise error
    server = urlsplit(codec.text(given.get("server_endpoint")))
    pair = {
        **known, "access": access, "refresh": refresh,
        **({"endpoint": end} if (end := codec.text(given.get("client_endpoint"))) else {}),
        **({"server": f"https://{server.netloc}"} if server.scheme == "https" and server.hostname else {}),
        **({"user_id": user} if (user := codec.identifier(given.get("user_id"))) else {}),
        **({"member_id": member} if (member := codec.text(given.get("member_id"))) else {}),
    }  # fmt: skip
    expires = codec.identifier(given.get("expires_in"))
    return FreshToken(Secret(json.dumps(pair)), float(expires) if expires else 3600.0)
