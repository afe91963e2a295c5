"""One account over HTTP: where it is, with what we come, how fast.

    address -> the long-lived token, or the application's -> request -> read
                     |                          +--> 401: refreshed once, sent once more
                     +--> redirect: the account has a new name -> stored -> sent there, now and from here on

Owns the credentials. A refresh token works once: the new pair is durable before it is used (`Link.tokens`), and an exchange whose
answer was lost is tried once more with the same token, in case the other side gives the answer again. A block (403) pauses
everything that speaks to the account. Never builds a request of its own but the exchange, never judges an answer (`codec.py`).
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import urlsplit

from adapters.amocrm import codec
from adapters.amocrm.refusals import REASONS
from adapters.amocrm.settings import AmoSettings, is_account_host
from adapters.apps import oauth_app
from adapters.base import Attempt, Link
from adapters.http import ABSENT, Answer, Http, Timeouts
from adapters.renamed import Renamed
from adapters.tokens import FreshToken, Token, with_token
from gateway.domain.errors import BadCredentials, BadSettings, GatewayError, Unavailable
from gateway.domain.secret import Secret

TOKEN, RENAMED = "oauth", "account"
"""Names under which the application's tokens and the account's new address are stored."""
EXCHANGE = "/oauth2/access_token"
EXCHANGE_S = 7.0
"""For the answer of an exchange, which is not to be cut short: it holds tokens that exist nowhere else."""
BLOCKED_S = 60.0
MOST_PAGES = 40


class Account:
    """One account. Opens nothing before first use."""

    def __init__(self, link: Link, settings: AmoSettings, stack: AsyncExitStack) -> None:
        self._link = link
        self._settings = settings
        self._stack = stack
        self._https: dict[str, Http] = {}
        self._renamed = Renamed(link.tokens, RENAMED)

    async def call(
        self, method: str, address: str, payload: Any = ABSENT, *, attempt: Attempt | None = None, paid: bool = False,
        hide: Sequence[Secret] = (),
    ) -> Mapping[str, Any]:  # fmt: skip
        """The answer; empty for 204. `hide` stands in no log. `paid`: the attempt has its place in the budget already. Raises what `gateway.domain.errors` lists."""
        if (token := self._settings.access_token) is not None:
            return await self._send(self._settings.origin, [token, *hide], method, address, payload, attempt, paid)

        async def once(current: Token) -> Mapping[str, Any]:
            nonlocal paid
            pair = pair_of(current)
            origin, access = origin_of(pair, self._settings), Secret(str(pair.get("access", "")))
            first, paid = paid, False
            return await self._send(origin, [access, *hide], method, address, payload, attempt, first)

        tokens = self._link.tokens
        if tokens is None or await tokens.current(TOKEN) is None:
            raise BadCredentials("not connected yet", person=REASONS["connect"])
        return await with_token(tokens, TOKEN, self._exchange, once)

    async def pages(
        self,
        address: Any,
        name: str,
        *,
        attempt: Attempt | None = None,
        most: int = MOST_PAGES,
        hide: Sequence[Secret] = (),
    ) -> list[Mapping[str, Any]]:
        """The elements of a list, page by page: `address(number)` is a page's."""
        found: list[Mapping[str, Any]] = []
        for number in range(1, most + 1):
            page = codec.embedded(await self.call("GET", address(number), attempt=attempt, hide=hide), name)
            found += page
            if len(page) < codec.PAGE:
                break
        return found

    async def take(self) -> None:
        """Waits for a place in the account's budget. Raises RateLimited."""
        if self._link.budget is not None:
            await self._link.budget.take("", background=self._link.background)

    async def shown(self, text: str) -> str:
        """A text as it may be stored and shown."""
        return (await self._http(self._settings.origin, await self._renamed.of(self._settings.origin))).shown(text)

    async def _send(
        self, origin: str, hide: Sequence[Secret], method: str, address: str, payload: Any, attempt: Attempt | None, paid: bool
    ) -> Mapping[str, Any]:  # fmt: skip
        """`hide`: the token that is sent, and what else stands in no log."""
        renamed = await self._renamed.of(origin)
        headers = {"authorization": f"Bearer {hide[0].reveal()}", "accept": "application/json"}
        what = f"{method} {address.partition('?')[0]}"
        if attempt is not None:
            attempt.paid = attempt.paid or paid
        for turn in range(2):
            http = await self._http(origin, renamed)
            base = renamed or self._link.base_url or origin
            blocked: GatewayError | None = None
            try:
                return await http.send(
                    method, address, payload=payload, headers=headers, attempt=attempt, hide=hide, bucket="",
                    read=lambda answer: codec.read(answer.status, answer.raw, answer.headers, what),
                )  # fmt: skip
            except codec.Blocked as error:
                http.pause(BLOCKED_S)
                blocked = error
            except codec.Moved as moved:
                found = moved_to(moved.location, base.rstrip("/") + address)
                if turn or found is None:
                    break
                renamed = found
            if blocked is not None:
                raise blocked
            await self._renamed.store(origin, str(renamed))
        raise BadSettings("the account leads on to another address", person=REASONS["elsewhere"])

    async def _http(self, origin: str, renamed: str | None) -> Http:
        key = renamed or origin
        if key not in self._https:
            settings, link = self._settings, self._link
            secrets = [one for one in (settings.access_token, settings.client_secret) if one is not None]
            timeouts = Timeouts.of(settings)
            if renamed is None:
                made = Http.of(link, origin, timeouts, secrets)
            else:
                made = Http(renamed, dial=link.dial, timeouts=timeouts, secrets=secrets, budget=link.budget,
                            background=link.background)  # fmt: skip
            self._https[key] = await self._stack.enter_async_context(made)
        return self._https[key]

    # Tokens.

    async def _exchange(self, token: Token) -> FreshToken:
        """Trades the refresh token: the new pair takes the place of both."""
        pair = pair_of(token)
        fields = {"grant_type": "refresh_token", "refresh_token": str(pair.get("refresh", ""))}
        origin = origin_of(pair, self._settings)
        origin = await self._renamed.of(origin) or origin
        try:
            return await exchange(self._link, self._settings, origin, fields, pair)
        except Unavailable as error:
            if error.certain:
                raise
        try:
            return await exchange(self._link, self._settings, origin, fields, pair)
        except BadCredentials as error:
            lost = error.detail
        raise BadCredentials(lost, person=REASONS["lost"])


def pair_of(token: Token) -> Mapping[str, Any]:
    """What a stored token holds: access, refresh, host, redirect_uri."""
    try:
        return codec.mapping(json.loads(token.value.reveal()))
    except ValueError:
        return {}


def origin_of(pair: Mapping[str, Any], settings: AmoSettings) -> str:
    """Where the account of a pair is: as the provider named it, else as it was entered."""
    host = str(pair.get("host", ""))
    return f"https://{host}" if is_account_host(host) else settings.origin


def moved_to(location: str, asked: str) -> str | None:
    """The origin that a redirect names, where it leads to the same path of another account's host; else None. An address that the
    operator has replaced may lead to any of its own network."""
    parts, wanted = urlsplit(location), urlsplit(asked)
    real = parts.scheme == "https" and parts.port in (None, 443) and is_account_host(parts.hostname or "")
    replaced = wanted.scheme == "http" and parts.scheme == "http" and bool(parts.hostname)
    if not (real or replaced) or parts.username or parts.path.rstrip("/") != wanted.path.rstrip("/"):
        return None
    origin = f"{parts.scheme}://{parts.netloc}"
    return origin if origin != f"{wanted.scheme}://{wanted.netloc}" else None


async def exchange(
    link: Link, settings: AmoSettings, origin: str, fields: Mapping[str, str], known: Mapping[str, Any]
) -> FreshToken:
    """Tokens for a code or a refresh token. Raises BadCredentials where it takes neither, and what `gateway.domain.errors` lists."""
    app = oauth_app(link.app, settings.client_id, settings.client_secret)
    payload = {
        **fields, "client_id": app.client_id, "client_secret": app.client_secret.reveal(),
        "redirect_uri": str(known.get("redirect_uri", "")),
    }  # fmt: skip
    timeouts = Timeouts(connect_s=settings.connect_timeout_s, read_s=EXCHANGE_S, whole_s=EXCHANGE_S)
    async with Http.of(link, origin, timeouts, [app.client_secret]) as http:
        return await http.exchange("POST", EXCHANGE, payload=payload, read=lambda answer: read_tokens(answer, known))


def read_tokens(answer: Answer, known: Mapping[str, Any]) -> FreshToken:
    """The pair in an answer. What it leaves out stays as it was."""
    given: Mapping[str, Any] | None
    try:
        given = answer.json()
    except (ValueError, RecursionError):
        given = None
    found = codec.mapping(given)
    access, refresh = found.get("access_token"), found.get("refresh_token")
    if answer.status < 300 and isinstance(access, str) and isinstance(refresh, str) and access and refresh:
        expires = codec.identifier(found.get("expires_in"))
        pair = {**known, "access": access, "refresh": refresh}
        return FreshToken(Secret(json.dumps(pair)), float(expires) if expires else 86_400.0)
    error = codec.judge(answer.status, given if isinstance(given, dict) else None, answer.raw, f"POST {EXCHANGE}")
    # The shape of this refusal is not documented: 400 and 401, with or without words, mean the same.
    if answer.status in (400, 401) and isinstance(given, dict):
        error = BadCredentials(error.detail, person=REASONS["grant"])
    raise error
