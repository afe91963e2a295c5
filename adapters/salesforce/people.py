"""The organisation's users: their ids by internal number, ours first, then the Extension of their own records. Reads; never writes.

Read `client.py` next.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import trio

from adapters.abilities import CrmUser
from adapters.base import Attempt
from adapters.salesforce import codec, requests
from adapters.salesforce.org import Org

FRESH_S = 600.0
"""For how long the organisation's own numbers are believed."""


class People:
    """Of one organisation."""

    def __init__(self, org: Org) -> None:
        self._org = org
        self._theirs: Mapping[str, str] = {}
        """User id -> internal number."""
        self._read_at = -FRESH_S

    async def first(self, numbers: Sequence[str], attempt: Attempt) -> tuple[list[str], list[str]]:
        """The users of these internal numbers, and the numbers that are nobody's."""
        ours = {number: user for user, number in attempt.users().items() if number and codec.identifier(user)}
        theirs: Mapping[str, str] = {}
        if any(number not in ours for number in numbers):
            theirs = {number: user for user, number in (await self.numbers(attempt)).items()}
        found = {number: ours.get(number) or theirs.get(number, "") for number in numbers}
        return list(dict.fromkeys(user for user in found.values() if user)), [one for one in numbers if not found[one]]

    async def numbers(self, attempt: Attempt | None = None) -> Mapping[str, str]:
        """User id -> internal number, as the organisation has it."""
        if trio.current_time() - self._read_at >= FRESH_S:
            try:
                self._theirs = extensions_of(await self.users(attempt))
            except codec.Missing:
                self._theirs = {}  # without the right to read users, ours are all there are
            self._read_at = trio.current_time()
        return self._theirs

    async def users(self, attempt: Attempt | None = None) -> list[Mapping[str, Any]]:
        """All people, the inactive too."""
        return [codec.mapping(one) for one in await self._org.pages(requests.USERS, thing="User", attempt=attempt)]


def extensions_of(users: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """User id -> internal number of those who are active. A number of two is the first one's."""
    found: dict[str, str] = {}
    for user in sorted(users, key=lambda one: codec.identifier(one.get("Id"))):
        user_id, number = codec.identifier(user.get("Id")), codec.text(user.get("Extension"))
        if user_id and number and number not in found.values() and user.get("IsActive") is not False:
            found[user_id] = number
    return found


def crm_user(user: Mapping[str, Any]) -> CrmUser | None:
    """Somebody for our pages; None without an id that makes sense."""
    if not (user_id := codec.identifier(user.get("Id"))):
        return None
    email = codec.text(user.get("Email"))
    return CrmUser(
        user_id=user_id, name=codec.text(user.get("Name")) or email or user_id, email=email, active=user.get("IsActive") is not False
    )  # fmt: skip
