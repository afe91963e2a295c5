"""Accounts that were renamed at the provider: where each is now, stored beside the tokens, so that a restart and every instance
follows at once."""

import json
from collections.abc import Mapping

from adapters.tokens import FreshToken, Tokens
from gateway.domain.secret import Secret


class Renamed:
    """The new addresses of one integration's account, under a name among its tokens. Without tokens they are known in memory alone."""

    def __init__(self, tokens: Tokens | None, name: str) -> None:
        self._tokens = tokens
        self._name = name
        self._known: Mapping[str, str] | None = None
        """Old origins -> new ones, once read."""

    async def of(self, origin: str) -> str | None:
        """Where the account is now, if it was renamed since this address was entered. Raises Unavailable."""
        if self._known is None:
            token = await self._tokens.current(self._name) if self._tokens is not None else None
            self._known = _read(token.value.reveal()) if token is not None else {}
        return self._known.get(origin)

    async def store(self, origin: str, renamed: str) -> None:
        """It is there from now on. Raises Unavailable."""
        self._known = {origin: renamed}
        if self._tokens is not None:
            await self._tokens.put(self._name, FreshToken(Secret(json.dumps(self._known))))


def _read(text: str) -> Mapping[str, str]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return {str(old): str(new) for old, new in found.items()} if isinstance(found, dict) else {}
