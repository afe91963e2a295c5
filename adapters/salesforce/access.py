"""Signing in: three ways to an access token, and where it is kept. Stores what it gets outside the settings (`Link.tokens`).

    client_credentials, jwt   asked for again whenever the one in force is refused: there is no refresh token
    refresh                   a person's grant (`login.py`); a new refresh token in the answer takes the old one's place

An answer names no lifetime: a token is in force until it is refused. It names the organisation's address, which is taken from it
each time: organisations move. A JWT ends after ASSERTION_S, well within the three minutes that Salesforce allows, so that a clock
that is off by a minute does no harm. Read `org.py` for who uses it.
"""

import json
from base64 import b64encode
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlsplit

import jwt
import trio

from adapters.base import Link
from adapters.http import Answer, Http, Timeouts
from adapters.salesforce import codec
from adapters.salesforce.refusals import REASONS
from adapters.salesforce.settings import SalesforceSettings
from adapters.tokens import FreshToken, Token
from gateway.domain.errors import BadCredentials
from gateway.domain.secret import Secret

TOKEN, PATH = "oauth", "/services/oauth2/token"
"""The name under which it is stored, and where it is asked for."""
ASSERTION_S = 90
_JWT = "urn:ietf:params:oauth:grant-type:jwt-bearer"


class Access:
    """The access token of one organisation."""

    def __init__(self, link: Link, settings: SalesforceSettings) -> None:
        self._link = link
        self._settings = settings
        self._own: Token | None = None
        """Where tokens cannot be stored, such as in a test of settings that are not saved yet."""
        self._turn = trio.Lock()

    async def current(self) -> Token:
        """The token in force; a first one where there is none. Raises BadCredentials where a person has to connect first."""
        tokens = self._link.tokens
        found = await tokens.current(TOKEN) if tokens is not None else self._own
        if found is not None and not self._is_ours(found):
            found = None
        if found is not None:
            return found
        if self._settings.grant == "refresh":
            raise BadCredentials("not signed in yet", person=REASONS["connect"])
        async with self._turn:
            again = await tokens.current(TOKEN) if tokens is not None else self._own
            if again is not None and self._is_ours(again):
                return again
            return await self._put(await exchange(self._link, self._settings, {}))

    async def after(self, stale: Token) -> Token:
        """A newer token than one that was refused."""
        tokens = self._link.tokens
        if tokens is not None:
            return await tokens.refresh(TOKEN, self._exchange, stale=stale)
        async with self._turn:
            if self._own is None or self._own.version == stale.version:
                self._own = Token((await self._exchange(stale)).value, stale.version + 1)
            return self._own

    async def worked(self, token: Token) -> None:
        """Salesforce has taken it."""
        if self._link.tokens is not None:
            await self._link.tokens.worked(TOKEN, token)

    async def _exchange(self, token: Token) -> FreshToken:
        return await exchange(self._link, self._settings, pair_of(token))

    async def _put(self, fresh: FreshToken) -> Token:
        if self._link.tokens is not None:
            return await self._link.tokens.put(TOKEN, fresh)
        self._own = Token(fresh.value, 1)
        return self._own

    def _is_ours(self, token: Token) -> bool:
        """Whether it is of the app, the address and the way of signing in that the settings name now."""
        return pair_of(token).get("of") == fingerprint(self._settings)


def fingerprint(settings: SalesforceSettings) -> str:
    """What a token depends on. No secret."""
    return f"{settings.instance_url} {settings.client_id} {settings.grant} {settings.username}"


def pair_of(token: Token) -> Mapping[str, Any]:
    """What a stored token holds: access, instance, refresh, user, of."""
    try:
        return codec.mapping(json.loads(token.value.reveal()))
    except ValueError:
        return {}


def assertion(settings: SalesforceSettings, now: datetime) -> str:
    """What proves by our private key that we may work as the user."""
    assert settings.private_key is not None
    claims = {
        "iss": settings.client_id, "sub": settings.username, "aud": settings.jwt_audience, "exp": int(now.timestamp()) + ASSERTION_S,
    }  # fmt: skip
    return jwt.encode(claims, settings.private_key.reveal(), algorithm="RS256")


async def exchange(link: Link, settings: SalesforceSettings, known: Mapping[str, Any], **code: str) -> FreshToken:
    """A fresh token: by the way that the settings name, or for a `code` that a login has brought. Raises what
    `gateway.domain.errors` lists."""
    secret = settings.client_secret.reveal() if settings.client_secret is not None else ""
    headers: dict[str, str] = {}
    own = {"client_id": settings.client_id, **({"client_secret": secret} if secret else {})}
    if code:
        form = {"grant_type": "authorization_code", **own, **code}
    elif settings.grant == "refresh":
        refresh = str(known.get("refresh", ""))
        if not refresh:
            raise BadCredentials("there is no refresh token", person=REASONS["connect"])
        form = {"grant_type": "refresh_token", **own, "refresh_token": refresh}
    elif settings.grant == "jwt":
        form = {"grant_type": _JWT, "assertion": assertion(settings, datetime.now(UTC))}
    else:
        form = {"grant_type": "client_credentials"}
        pair = f"{quote(settings.client_id, safe='')}:{quote(secret, safe='')}"
        headers["authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
    hidden = [one for one in (settings.client_secret, settings.private_key) if one is not None]
    async with Http.of(link, settings.instance_url, Timeouts.of(settings), hidden) as http:
        return await http.exchange(
            "POST", PATH, form=form, headers=headers, read=lambda answer: read_token(answer, settings, known)
        )


def read_token(answer: Answer, settings: SalesforceSettings, known: Mapping[str, Any]) -> FreshToken:
    """The token in an answer. What it leaves out of a grant stays as it was."""
    try:
        given = codec.mapping(answer.json())
    except (ValueError, RecursionError):
        given = {}
    access, refresh = given.get("access_token"), given.get("refresh_token")
    if answer.status >= 400 or not isinstance(access, str) or not access:
        raise codec.judge_oauth(answer.status, answer.raw)
    user = codec.text(given.get("id")).rpartition("/")[2]
    pair = {
        "of": fingerprint(settings), "access": access, "instance": _instance(given.get("instance_url"), settings),
        "refresh": refresh if isinstance(refresh, str) and refresh else str(known.get("refresh", "")),
        "user": codec.identifier(user) or str(known.get("user", "")),
    }  # fmt: skip
    expires = given.get("expires_in")
    lives = float(expires) if isinstance(expires, int) and not isinstance(expires, bool) and expires > 0 else None
    return FreshToken(Secret(json.dumps(pair)), lives)


def _instance(value: Any, settings: SalesforceSettings) -> str:
    """The organisation's address as the answer names it, where that is one."""
    parts = urlsplit(codec.text(value))
    named = f"{parts.scheme}://{parts.netloc}".lower()
    if parts.scheme == "https" and parts.hostname and not parts.username:
        return named
    return settings.instance_url
