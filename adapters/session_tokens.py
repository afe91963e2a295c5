"""Tokens that a static key buys, such as a login's for an hour: bought once for all who share them, renewed before they end, and once
more where the other side refuses one.

`SessionToken` keeps a token where `Link.tokens` does, so that deliveries, jobs and other instances share it; where nothing can be
stored, such as in a test of unsaved settings, in memory. A stored token that another key has bought is not used. Read `tokens.py` for
tokens that trade themselves.
"""

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import trio

from adapters.tokens import Exchange, FreshToken, Token, Tokens, with_token
from gateway.domain.secret import Secret

T = TypeVar("T")

RENEW_AT = 0.8
"""Of its life: from here on a token is bought anew before it is used."""
LEAST_S = 65.0
"""Seconds that a token is held to live at least: `with_token` renews a minute early."""


class HeldTokens:
    """Tokens that live as long as their client."""

    def __init__(self) -> None:
        self._tokens: dict[str, Token] = {}
        self._lock = trio.Lock()

    async def current(self, name: str) -> Token | None:
        """The token in force."""
        return self._tokens.get(name)

    async def refresh(self, name: str, exchange: Exchange, *, stale: Token | None = None) -> Token:
        """A newer token than `stale`."""
        async with self._lock:
            known = self._tokens[name]
            if stale is None or known.version == stale.version:
                self._tokens[name] = _token(await exchange(known), known.version + 1)
            return self._tokens[name]

    async def worked(self, name: str, token: Token) -> None:
        """Nothing is held beside it."""

    async def put(self, name: str, fresh: FreshToken) -> Token:
        """Takes the place of any other."""
        known = self._tokens.get(name)
        self._tokens[name] = _token(fresh, known.version + 1 if known is not None else 1)
        return self._tokens[name]


def _token(fresh: FreshToken, version: int) -> Token:
    ends = datetime.now(UTC) + timedelta(seconds=fresh.expires_in_s) if fresh.expires_in_s is not None else None
    return Token(fresh.value, version, ends)


class SessionToken:
    """The token of one key. `buy` returns it with the seconds that it lives, None where that is not known; `key` names what buys it and
    is no secret, such as a hash."""

    def __init__(
        self, tokens: Tokens | None, name: str, key: str, buy: Callable[[], Awaitable[tuple[Secret, float | None]]]
    ) -> None:
        self._tokens: Tokens = tokens if tokens is not None else HeldTokens()
        self._name = name
        self._key = key
        self._buy = buy
        self._lock = trio.Lock()

    async def use(self, call: Callable[[Secret], Awaitable[T]]) -> T:
        """What `call` returns for a token in force; it is repeated once where it raises BadCredentials. Raises what `call` and
        `buy` raise."""
        async with self._lock:
            known = await self._tokens.current(self._name)
            if known is None:
                await self._tokens.put(self._name, await self._bought())
            elif _parts(known)[0] != self._key:
                await self._tokens.refresh(self._name, self._exchange, stale=known)
        return await with_token(self._tokens, self._name, self._exchange, lambda token: call(Secret(_parts(token)[1])))

    async def _exchange(self, old: Token) -> FreshToken:
        return await self._bought()

    async def _bought(self) -> FreshToken:
        token, life_s = await self._buy()
        text = json.dumps({"key": self._key, "token": token.reveal()})
        return FreshToken(Secret(text), max(life_s * RENEW_AT, LEAST_S) if life_s is not None else None)


def _parts(token: Token) -> tuple[str, str]:
    """Whose key has bought it, and the token."""
    try:
        read = json.loads(token.value.reveal())
        return str(read["key"]), str(read["token"])
    except (ValueError, KeyError, TypeError):
        return "", ""
