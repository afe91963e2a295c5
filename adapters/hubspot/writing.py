"""Making things in HubSpot so that a repeat makes nothing twice, and so that a value it refuses costs that value alone.

Before something is made that only a search would find again, the moment is remembered; an attempt whose answer was lost waits
until the search can see what it may have made (`search_lag_s`), and looks. Read `records.py` and `contacts.py` for what is made.
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from adapters.base import Attempt
from adapters.hubspot import codec, requests
from adapters.hubspot.account import Account
from adapters.hubspot.settings import HubSpotSettings
from gateway.domain.errors import NotYet, Rejected, Unavailable

MOST_TURNS = 3
"""How often something is sent with fewer values."""
Send = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]


class Writer:
    """Of one account."""

    def __init__(self, account: Account, settings: HubSpotSettings) -> None:
        self._account = account
        self._lag_s = float(settings.search_lag_s)

    async def make(
        self,
        attempt: Attempt,
        kind: str,
        wanted: Mapping[str, Any],
        *,
        send: Send | None = None,
        needed: tuple[str, ...] = (),
    ) -> tuple[str, tuple[str, ...]]:
        """The id of what is made, and the properties that were left out because they were refused; those of `needed` are never.
        Raises Rejected where it is refused all the same, and what `gateway.domain.errors` lists."""
        made, left_out = await self._fewer(wanted, send or self._sender("POST", requests.path(kind), attempt), needed)
        if not (number := codec.identifier(made.get("id"))):
            raise Unavailable(f"the answer names none of the {kind} that it made", certain=False)
        return number, left_out

    async def change(
        self, attempt: Attempt, kind: str, number: str, values: Mapping[str, Any], *, needed: tuple[str, ...] = ()
    ) -> tuple[str, ...]:
        """Writes these properties of what is there. Returns and raises as `make` does."""
        send = self._sender("PATCH", requests.path(kind, number), attempt)
        return (await self._fewer({"properties": values}, send, needed))[1]

    async def _fewer(
        self, wanted: Mapping[str, Any], send: Send, needed: tuple[str, ...]
    ) -> tuple[Mapping[str, Any], tuple[str, ...]]:  # fmt: skip
        left_out: list[str] = []
        values = dict(codec.mapping(wanted.get("properties")))
        for turn in range(MOST_TURNS):
            try:
                return await send({**wanted, "properties": values}), tuple(left_out)
            except codec.Refused as error:
                refused = [name for name in error.properties if name in values and name not in needed]
                if not refused or turn == MOST_TURNS - 1:
                    raise
                for name in refused:
                    if values.pop(name) == "MISSED":
                        values[name] = "NO_ANSWER"
                    else:
                        left_out.append(name)
        raise Rejected("refused again and again")

    def _sender(self, method: str, path: str, attempt: Attempt) -> Send:
        async def send(wanted: Mapping[str, Any]) -> Mapping[str, Any]:
            return await self._account.call(method, path, wanted, attempt=attempt)

        return send

    async def mark(self, attempt: Attempt, name: str) -> None:
        """To be called before something is made that only a search finds."""
        await attempt.remember(name, f"{int(time.time() * 1000) / 1000:.3f}")  # never a moment that is still to come

    async def in_doubt(self, attempt: Attempt, name: str) -> bool:
        """Whether an earlier attempt may have made it. Raises NotYet while a search could not see it yet."""
        marked = await attempt.known(name)
        if marked is None:
            return False
        try:
            left_s = float(marked) + self._lag_s - time.time()
        except ValueError:
            return True
        if left_s > 0:
            raise NotYet("what an earlier attempt may have made cannot be found yet", after_s=min(left_s, self._lag_s))
        return True
