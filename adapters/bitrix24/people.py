"""The portal's employees: their ids by internal number, ours first, then the portal's own. Reads; never writes.

Read `client.py` next.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import trio

from adapters.abilities import CrmUser
from adapters.base import Attempt
from adapters.bitrix24 import codec, requests
from adapters.bitrix24.portal import Portal
from adapters.bitrix24.requests import Person

FRESH_S = 600.0
"""For how long the portal's own numbers are believed."""


class People:
    """Of one portal."""

    def __init__(self, portal: Portal) -> None:
        self._portal = portal
        self._numbers: Mapping[str, str] = {}
        self._read_at = -FRESH_S

    async def ids(self, numbers: Sequence[str], attempt: Attempt) -> tuple[list[str], list[str]]:
        """The users of these internal numbers, and the numbers that are nobody's."""
        ours = {number: user for user, number in attempt.users().items() if number}
        theirs: Mapping[str, str] = {}
        if any(number not in ours for number in numbers):
            theirs = await self._by_number(attempt)
        found = {number: ours.get(number) or theirs.get(number, "") for number in numbers}
        return list(dict.fromkeys(user for user in found.values() if user)), [one for one in numbers if not found[one]]

    def person(self, number: str, attempt: Attempt) -> Person:
        """Somebody as a method takes them, without a look at the portal."""
        user = next((user for user, ours in attempt.users().items() if ours == number), "")
        return Person(user_id=codec.identifier(user), extension=number)

    async def users(self, attempt: Attempt | None = None) -> list[Mapping[str, Any]]:
        """All of them, the inactive too."""
        return [codec.mapping(one) for one in await self._portal.pages(requests.USERS, {}, attempt)]

    async def _by_number(self, attempt: Attempt) -> Mapping[str, str]:
        if trio.current_time() - self._read_at >= FRESH_S:
            try:
                self._numbers = extensions_of(await self.users(attempt), by_number=True)
            except codec.Missing:
                self._numbers = {}  # without the right to read users, ours are all there are; the test names it
            self._read_at = trio.current_time()
        return self._numbers


def extensions_of(users: Sequence[Mapping[str, Any]], *, by_number: bool = False) -> dict[str, str]:
    """User id -> internal number of those who work there, or the other way round. A number of two is the first one's."""
    found: dict[str, str] = {}
    for user in sorted(users, key=lambda one: int(codec.identifier(one.get("ID")) or 0)):
        user_id, number = codec.identifier(user.get("ID")), codec.text(user.get("UF_PHONE_INNER"))
        if user_id and number and number not in found.values() and is_active(user):
            found[user_id] = number
    return {number: user for user, number in found.items()} if by_number else found


def is_active(user: Mapping[str, Any]) -> bool:
    """Whether somebody works there; the portal writes it in several ways."""
    return user.get("ACTIVE") not in (False, 0, "0", "N", "false")


def crm_user(user: Mapping[str, Any]) -> CrmUser | None:
    """Somebody for our pages; None without an id that makes sense."""
    if not (user_id := codec.identifier(user.get("ID"))):
        return None
    email = codec.text(user.get("EMAIL"))
    name = " ".join(part for field in ("NAME", "LAST_NAME") if (part := codec.text(user.get(field))))
    return CrmUser(user_id=user_id, name=name or email or user_id, email=email, active=is_active(user))
