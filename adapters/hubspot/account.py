"""One HubSpot account over HTTP: with what we come, how fast.

    request -> the private app's token, or the access token of the connection -> sent -> read
                                                    +--> refused: refreshed once, sent once more

Owns the credentials. The rates are the account's budget, that of searches its own bucket; what an answer's headers say of the
limit slows everything down before HubSpot refuses. Never builds a request of its own but the refresh (`requests.py`), never judges
an answer (`codec.py`).
"""

import json
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from adapters.apps import oauth_app
from adapters.base import Attempt, Link
from adapters.http import ABSENT, Answer, Http, Timeouts
from adapters.hubspot import codec, requests
from adapters.hubspot.plan import SEARCH
from adapters.hubspot.refusals import REASONS
from adapters.hubspot.settings import HubSpotSettings
from adapters.tokens import FreshToken, Token, with_token
from gateway.domain.errors import BadCredentials, BadSettings
from gateway.domain.secret import Secret

BASE = "https://api.hubapi.com"
TOKEN = "oauth"  # noqa: S105 - the name under which the tokens of a connection are stored
MOST_PAGES = 50
LARGEST_ANSWER = 4 << 20
_UTC = ZoneInfo("UTC")


class Account:
    """One account. Opens nothing before first use."""

    def __init__(self, link: Link, settings: HubSpotSettings, stack: AsyncExitStack) -> None:
        self._link = link
        self._settings = settings
        self._stack = stack
        self._open: Http | None = None
        self.zone = link.tenant.timezone
        """The account's own, once it is known: its day ends at its midnight."""
        self.pace = codec.Pace()
        """What the last answer said of the limits."""

    async def call(
        self,
        method: str,
        path: str,
        payload: Any = ABSENT,
        *,
        attempt: Attempt | None = None,
        hide: tuple[Secret, ...] = (),
    ) -> Mapping[str, Any]:
        """What a request answered. Raises what `gateway.domain.errors` lists."""
        if (key := self._settings.api_key) is not None:
            return await self._send(method, path, payload, key, attempt, hide)

        async def once(token: Token) -> Mapping[str, Any]:
            access = Secret(codec.text(pair_of(token).get("access"), 4000))
            return await self._send(method, path, payload, access, attempt, hide)

        if self._link.tokens is None or await self._link.tokens.current(TOKEN) is None:
            raise BadCredentials("not connected yet", person=REASONS["not_connected"])
        return await with_token(self._link.tokens, TOKEN, self._exchange, once)

    async def search(self, kind: str, wanted: Mapping[str, Any], *, attempt: Attempt | None = None) -> list[Any]:
        """What a search finds: its first page. Something made within the last seconds may be missing."""
        return requests.found(await self.call("POST", f"{requests.path(kind)}/search", wanted, attempt=attempt))

    async def pages(self, path: str, query: str, *, attempt: Attempt | None = None) -> list[Any]:
        """All pages of a list."""
        found: list[Any] = []
        after = ""
        for _ in range(MOST_PAGES):
            answer = await self.call("GET", f"{path}?{query}{f'&after={after}' if after else ''}", attempt=attempt)
            found += requests.found(answer)
            after = codec.next_page(answer)
            if not after or not after.isalnum():
                break
        return found

    async def shown(self, text: str) -> str:
        """A text as it may stand in a log."""
        return (await self._http()).shown(text)

    async def _send(
        self, method: str, path: str, payload: Any, token: Secret, attempt: Attempt | None, hide: tuple[Secret, ...]
    ) -> Mapping[str, Any]:
        http, bucket = await self._http(), SEARCH if path.endswith("/search") else ""
        where = f"{method} {path.partition('?')[0]}"

        def read(answer: Answer) -> Mapping[str, Any]:
            if not bucket and (told := codec.pace(answer.headers)) != codec.Pace():
                self.pace = told
            return codec.read(
                answer.status,
                answer.raw,
                answer.headers,
                where=where,
                zone=self.zone,
                now=datetime.now(UTC),
                bucket=bucket,
            )

        answer = await http.send(
            method, path, payload=payload, headers={"authorization": f"Bearer {token.reveal()}"}, attempt=attempt,
            hide=[token, *hide], bucket=bucket, limit=LARGEST_ANSWER, read=read,
        )  # fmt: skip
        if not bucket and (pause := self.pace.pause_s()):
            self.pace = replace(self.pace, left=None)
            http.pause(pause)
        return answer

    async def _http(self) -> Http:
        if self._open is None:
            settings = self._settings
            known = [one for one in (settings.api_key, settings.client_secret) if one is not None]
            made = Http.of(self._link, BASE, Timeouts.of(settings), known)
            self._open = await self._stack.enter_async_context(made)
        return self._open

    async def _exchange(self, token: Token) -> FreshToken:
        """Trades the refresh token, which stays valid: an answer that was lost costs nothing."""
        refresh = codec.text(pair_of(token).get("refresh"), 4000)
        return await exchange(
            self._link, self._settings, {"grant_type": "refresh_token", "refresh_token": refresh}, refresh
        )


def pair_of(token: Token) -> Mapping[str, Any]:
    """What a stored token holds: access, refresh."""
    try:
        return codec.mapping(json.loads(token.value.reveal()))
    except ValueError:
        return {}


async def exchange(link: Link, settings: HubSpotSettings, fields: Mapping[str, str], refresh: str = "") -> FreshToken:
    """Tokens for a code or a refresh token. Raises BadCredentials where HubSpot takes neither, and what `gateway.domain.errors`
    lists."""
    app = oauth_app(link.app, settings.client_id, settings.client_secret)
    form = {**fields, "client_id": app.client_id, "client_secret": app.client_secret.reveal()}
    async with Http.of(link, BASE, Timeouts.of(settings), [app.client_secret]) as http:
        return await http.exchange(
            "POST", "/oauth/v1/token", form=form, read=lambda answer: read_tokens(answer, refresh)
        )


def read_tokens(answer: Answer, refresh: str) -> FreshToken:
    """The pair in an answer. A refresh token that it leaves out stays as it was."""
    try:
        given = codec.mapping(answer.json())
    except (ValueError, RecursionError):
        given = {}
    access, next_refresh = given.get("access_token"), given.get("refresh_token") or refresh
    if answer.status >= 400 or not isinstance(access, str) or not isinstance(next_refresh, str) or not access:
        zone, now = _UTC, datetime.now(UTC)
        told = {**given, "category": given.get("category") or given.get("status")}
        error = codec.judge(answer.status, told, answer.headers, where="oauth", zone=zone, now=now)
        said = f"{codec.text(given.get('status'))} {codec.text(given.get('message'))} {codec.text(given.get('error'))}".lower()
        if answer.status in (400, 401, 403, 404) and not isinstance(error, BadSettings):
            client = "client" in said and "refresh" not in said and "code" not in said
            error = BadCredentials(error.detail, person=REASONS["client" if client else "grant"])
        raise error
    expires = codec.identifier(given.get("expires_in"))
    pair = {"access": access, "refresh": next_refresh}
    return FreshToken(Secret(json.dumps(pair)), float(expires) if expires else 1800.0)
