"""The account's owners: who they are, and whose internal number is whose. Reads; never writes.

HubSpot knows no internal numbers: the map is ours (`user_extensions`, by the owner's id). Read `client.py` next.
"""

from collections.abc import Sequence
from typing import Any

from adapters.abilities import CrmUser
from adapters.base import Attempt
from adapters.hubspot import codec, requests
from adapters.hubspot.account import Account


class People:
    """Of one account."""

    def __init__(self, account: Account) -> None:
        self._account = account

    async def users(self, attempt: Attempt | None = None) -> list[CrmUser]:
        """All owners, those that were deactivated too."""
        found: dict[str, CrmUser] = {}
        for archived in ("false", "true"):
            listed = await self._account.pages(requests.OWNERS, f"limit=100&archived={archived}", attempt=attempt)
            for one in listed:
                if (user := crm_user(one)) is not None:
                    found.setdefault(user.user_id, user)
        return list(found.values())


def owner_of(numbers: Sequence[str], attempt: Attempt) -> tuple[str, list[str]]:
    """The owner of the first of these internal numbers that somebody has, and the numbers before it that nobody has."""
    by_number = {number: user for user, number in attempt.users().items() if number}
    unknown: list[str] = []
    for number in numbers:
        if owner := codec.identifier(by_number.get(number)):
            return owner, unknown
        unknown.append(number)
    return "", unknown


def crm_user(owner: Any) -> CrmUser | None:
    """Somebody for our pages; None without an id that makes sense."""
    fields = codec.mapping(owner)
    if not (user_id := codec.identifier(fields.get("id"))):
        return None
    email = codec.text(fields.get("email"))
    name = " ".join(part for field in ("firstName", "lastName") if (part := codec.text(fields.get(field))))
    teams = tuple(
        team for one in codec.items(fields.get("teams")) if (team := codec.text(codec.mapping(one).get("name")))
    )
    return CrmUser(
        user_id=user_id,
        name=name or email or user_id,
        email=email,
        groups=teams,
        active=fields.get("archived") is not True,
    )
