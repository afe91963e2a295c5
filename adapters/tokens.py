"""Tokens that change by themselves, such as those of OAuth: what an adapter is given, and how it calls with one.

`with_token` refreshes a token shortly before it ends, and once more where it is refused. Stores nothing: `Link.tokens` does
(`actors/integration_tokens.py`).
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol, TypeVar

from gateway.domain.errors import BadCredentials
from gateway.domain.secret import Secret

T = TypeVar("T")

EARLY = timedelta(seconds=60)
"""How long before its end a token is refreshed."""


@dataclass(frozen=True, slots=True)
class Token:
    """A stored token in the clear. `value` is the adapter's own text, such as JSON with an access and a refresh token."""

    value: Secret
    version: int
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class FreshToken:
    """What an exchange brought. `expires_in_s` from now; None where it is not known."""

    value: Secret
    expires_in_s: float | None = None


Exchange = Callable[[Token], Awaitable[FreshToken]]
"""Trades a token for a new one, by `Http.exchange`. Raises BadCredentials where the other side does not take it."""


class Tokens(Protocol):
    """The tokens of one integration, stored outside its settings: a refresh restarts nothing."""

    async def current(self, name: str) -> Token | None:
        """The token in force, None without one. Raises Unavailable."""
        ...

    async def refresh(self, name: str, exchange: Exchange, *, stale: Token | None = None) -> Token:
        """A newer token than `stale` (without it: than the one in force when this is called), made by `exchange` unless
        another has made it meanwhile. It is stored before it is returned. Raises what `exchange` raises, BadCredentials
        where there is none to trade, Unavailable where another holds the exchange for too long."""
        ...

    async def worked(self, name: str, token: Token) -> None:
        """The other side has taken the token: the one before is not needed any more."""
        ...

    async def put(self, name: str, fresh: FreshToken) -> Token:
        """A token that a person's login brought, in place of any other."""
        ...


async def with_token(tokens: Tokens | None, name: str, exchange: Exchange, call: Callable[[Token], Awaitable[T]]) -> T:
    """What `call` returns for the token in force. Raises BadCredentials without a token, or where a fresh one is refused too;
    else what `exchange` and `call` raise. `call` is repeated only where the other side refused the token."""
    token = await tokens.current(name) if tokens is not None else None
    if tokens is None or token is None:
        raise BadCredentials("not signed in yet")
    if token.expires_at is not None and token.expires_at - EARLY < datetime.now(UTC):
        token = await tokens.refresh(name, exchange, stale=token)
    refused = False
    try:
        result = await call(token)
    except BadCredentials:
        refused = True
    if refused:
        token = await tokens.refresh(name, exchange, stale=token)
        result = await call(token)
    await tokens.worked(name, token)
    return result
