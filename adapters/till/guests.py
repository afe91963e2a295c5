"""The guests of an organization: found in every spelling of a number before one is made.

    every spelling of the number, one after the other -> found -> its id
                                                    +-> nobody -> made or updated, which the cloud does by the number: a repeat is the same guest

"Not found" is a refusal there. One number is looked for by one attempt at a time, so that a caller who calls twice at once is one guest.
Read `client.py` for who asks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from adapters.base import Attempt
from adapters.crm_drafts import CLIENT_ID
from adapters.till import codec
from adapters.till.cloud import Cloud
from adapters.till.settings import TillSettings
from adapters.turns import Turns
from gateway.domain.configuration import Tenant
from gateway.domain.errors import Rejected
from gateway.domain.numbers import spellings
from gateway.domain.subjects import Subject

PATH = "/api/1/loyalty/iiko/customer/"
FIELDS = frozenset({"name", "surName", "middleName", "birthday", "comment", "userData", "referrerId"})
"""What of a guest field mapping may write into."""
LONGEST_NAME = 100
MOST_LOOKS = 40
"""Requests that looking for one client takes at most: the cloud finds one spelling of one number at a time."""


@dataclass(frozen=True, slots=True)
class Guest:
    """Somebody in the loyalty programme."""

    id: str
    name: str = ""


class Guests:
    """Of one organization."""

    def __init__(self, cloud: Cloud, tenant: Tenant, settings: TillSettings) -> None:
        self._cloud = cloud
        self._tenant = tenant
        self._settings = settings
        self._turns = Turns()

    async def find(self, attempt: Attempt, phones: Sequence[str], email: str = "") -> Guest | None:
        """Whose numbers or address these are: the likeliest spelling of each number first, at most `MOST_LOOKS` in all."""
        written = zip_longest(*(spellings(one, self._tenant.country) for one in phones))
        wanted = [("phone", one) for same in written for one in same if one][:MOST_LOOKS]
        for kind, value in [*wanted, *([("email", email)] if email else [])]:
            body = {"organizationId": self._settings.organization_id, "type": kind, kind: value}
            try:
                answer = await self._cloud.call(f"{PATH}info", body, "guests", attempt=attempt)
            except codec.Refused:
                continue  # "not found" is 400
            if found := codec.identifier(answer.get("id")):
                name = " ".join(part for field in ("name", "surname") if (part := codec.text(answer.get(field))))
                return Guest(found, name)
        return None

    async def find_or_make(
        self, attempt: Attempt, phones: Sequence[str], *, name: str = "", email: str = "", fields: Mapping[str, Any] | None = None,
        of: Subject | None = None, anew: bool = False,
    ) -> Guest:  # fmt: skip
        """The guest, who is made where there is none. What an earlier attempt found is not looked for again, but for `anew`; it is
        remembered of the delivery's subject or of another (`of`). There is one phone at least."""
        if (known := await attempt.known(CLIENT_ID, of)) and not anew:
            return Guest(known, name)
        async with self._turns.of(phones[0]):
            found = await self.find(attempt, phones, email)
            if found is None:
                found = await self._make(attempt, phones[0], name, email, fields or {})
            await attempt.remember(CLIENT_ID, found.id, of)
        return found

    async def gone(self, attempt: Attempt, ident: str) -> bool:
        """Whether a guest that was there is not there any more."""
        body = {"organizationId": self._settings.organization_id, "type": "id", "id": ident}
        try:
            answer = await self._cloud.call(f"{PATH}info", body, "guests", attempt=attempt)
        except codec.Refused:
            return True
        return answer.get("isDeleted") is True

    async def _make(
        self, attempt: Attempt, phone: str, name: str, email: str, fields: Mapping[str, Any]
    ) -> Guest:  # fmt: skip
        body: Mapping[str, Any] = {
            "organizationId": self._settings.organization_id,
            "phone": phone,
            **({"name": cut} if (cut := codec.text(name, LONGEST_NAME)) else {}),
            **({"email": email} if email else {}),
            **{to: value for to, value in fields.items() if to in FIELDS},
        }
        answer = await self._cloud.call(f"{PATH}create_or_update", body, "guests", attempt=attempt)
        if not (made := codec.identifier(answer.get("id"))):
            raise Rejected("the answer names no guest")
        return Guest(made, name)
