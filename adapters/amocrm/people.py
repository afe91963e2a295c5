"""The account's employees: their ids by internal number, ours first, then those that stand as a number in a user's profile there.
Reads; never writes: the account has no place where internal numbers could be put.

Read `client.py` next.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import trio

from adapters.abilities import CrmUser
from adapters.amocrm import codec, requests
from adapters.amocrm.account import Account
from adapters.amocrm.requests import Employee
from adapters.amocrm.settings import AmoSettings
from adapters.base import Attempt
from gateway.domain.errors import Rejected
from gateway.domain.numbers import is_short

FRESH_S = 600.0
"""For how long the account's own numbers are believed."""


class People:
    """Of one account."""

    def __init__(self, account: Account, settings: AmoSettings) -> None:
        self._account = account
        self._settings = settings
        self._numbers: Mapping[str, str] = {}
        self._read_at = -FRESH_S

    async def ids(self, numbers: Sequence[str], attempt: Attempt) -> tuple[list[str], list[str]]:
        """The users of these internal numbers, and the numbers that are nobody's."""
        ours = {number: user for user, number in attempt.users().items() if number}
        theirs: Mapping[str, str] = {}
        if any(number not in ours for number in numbers):
            theirs = await self._by_number(attempt)
        found = {number: codec.identifier(ours.get(number) or theirs.get(number, "")) for number in numbers}
        return list(dict.fromkeys(user for user in found.values() if user)), [one for one in numbers if not found[one]]

    async def employee(self, body: Mapping[str, Any], attempt: Attempt) -> tuple[Employee, str]:
        """Whose call it is: the first of its people whom the account knows, else the default user with the name that we know.
        The second is the numbers that are nobody's, where nobody was found."""
        known, unknown = await self.ids(body["people"], attempt)
        if known:
            return Employee(known[0]), ""
        return Employee(self._settings.default_user, str(body.get("name", ""))), ", ".join(unknown)

    async def users(self, attempt: Attempt | None = None) -> list[Mapping[str, Any]]:
        """All of them, the inactive too. Only administrators may read them."""

        def page(number: int) -> str:
            return requests.path(requests.USERS, limit=codec.PAGE, page=number, with_="role,group,phone_number")

        return await self._account.pages(page, "users", attempt=attempt)

    async def _by_number(self, attempt: Attempt) -> Mapping[str, str]:
        if trio.current_time() - self._read_at >= FRESH_S:
            try:
                self._numbers = numbers_of(await self.users(attempt))
            except (codec.Missing, Rejected):
                self._numbers = {}  # whoever is no administrator does without; the test says so
            self._read_at = trio.current_time()
        return self._numbers


def numbers_of(users: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Internal number -> user id of those who work there. A number of two is the first one's."""
    found: dict[str, str] = {}
    for user in sorted(users, key=lambda one: int(codec.identifier(one.get("id")) or 0)):
        number = codec.text(user.get("phone_number"))
        if codec.identifier(user.get("id")) and is_short(number) and is_active(user):
            found.setdefault(number, codec.identifier(user.get("id")))
    return found


def is_active(user: Mapping[str, Any]) -> bool:
    """Whether somebody works there."""
    return codec.mapping(user.get("rights")).get("is_active") is not False


def crm_user(user: Mapping[str, Any]) -> CrmUser | None:
    """Somebody for our pages; None without an id that makes sense."""
    if not (user_id := codec.identifier(user.get("id"))):
        return None
    email = codec.text(user.get("email"))
    groups = tuple(name for one in codec.embedded(user, "groups") if (name := codec.text(one.get("name"))))
    name = codec.text(user.get("name")) or email or user_id
    return CrmUser(user_id=user_id, name=name, email=email, groups=groups, active=is_active(user))
