"""Organizations and terminal groups of an account, and what lists of its own an organization has. Reads; never writes.

Organizations are those that the login was given. Read `login.py` for how a person chooses among them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adapters.abilities import CrmField, FieldValue
from adapters.till import codec
from adapters.till.cloud import Cloud
from adapters.till.guests import FIELDS as GUEST_FIELDS
from adapters.till.menu import ORGANIZATIONS
from adapters.till.orders import ORDER_FIELDS
from adapters.till.refusals import REASONS
from gateway.domain.crm_sources import When
from gateway.domain.currency import is_currency
from gateway.domain.errors import BadSettings, Rejected

_LISTS: Mapping[str, tuple[str, str]] = {
    "marketingSourceId": ("/api/1/marketing_sources", "marketingSources"),
    "orderTypeId": ("/api/1/deliveries/order_types", "orderTypes"),
}


@dataclass(frozen=True, slots=True)
class Place:
    """An organization or a terminal group."""

    id: str
    name: str
    currency: str = ""
    """ISO 4217, where the organization names one that prices can be in."""


class Places:
    """Of one account."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    async def organizations(self) -> list[Place]:
        """Those of the login."""
        body = {"organizationIds": None, "returnAdditionalInfo": True, "includeDisabled": False}
        answer = await self._cloud.call(ORGANIZATIONS, body, "dictionaries")
        return [
            Place(ident, codec.text(one.get("name"), 200) or ident, _currency(one))
            for one in codec.items(answer.get("organizations"))
            if (ident := codec.identifier(one.get("id")))
        ]

    async def organization(self, ident: str) -> Place | None:
        """One of them, or None."""
        return next((one for one in await self.organizations() if one.id == ident), None)

    async def terminal_groups(self, organization: str) -> list[Place]:
        """Those of an organization, asleep ones too."""
        body = {"organizationIds": [organization], "includeDisabled": False}
        answer = await self._cloud.call("/api/1/terminal_groups", body, "dictionaries")
        found: dict[str, Place] = {}
        for listed in ("terminalGroups", "terminalGroupsInSleep"):
            for group in codec.items(answer.get(listed)):
                for one in codec.items(group.get("items")):
                    if ident := codec.identifier(one.get("id")):
                        found.setdefault(ident, Place(ident, codec.text(one.get("name"), 200) or ident))
        return list(found.values())

    def not_ours(self) -> BadSettings:
        """The error for an organization that the login does not have."""
        return BadSettings(REASONS["organization"], person=REASONS["organization"])

    async def fields(self, organization: str) -> Mapping[When, Sequence[CrmField]]:
        """What rules may write into."""
        made = [CrmField(name="comment", title="comment")]
        for name in sorted(ORDER_FIELDS):
            values = await self._values(organization, name) if name in _LISTS else ()
            made.append(CrmField(name=name, title=name, type="choice" if values else "text", values=values))
        return {"order": made, "contact": [CrmField(name=name, title=name) for name in sorted(GUEST_FIELDS)]}

    async def _values(self, organization: str, name: str) -> tuple[FieldValue, ...]:
        """The values of a list of the organization's; none where its login may not read them."""
        path, key = _LISTS[name]
        try:
            answer = await self._cloud.call(path, {"organizationIds": [organization]}, "dictionaries")
        except (codec.Missing, Rejected):
            return ()
        return tuple(_listed(answer.get(key)))


def _listed(value: Any) -> list[FieldValue]:
    """Items, whether they stand by organization or not."""
    found: list[FieldValue] = []
    for one in codec.items(value):
        for item in codec.items(one.get("items")) or [one]:
            ident = codec.identifier(item.get("id"))
            if ident and item.get("isDeleted") is not True:
                found.append(FieldValue(ident, codec.text(item.get("name"), 200) or ident))
    return found


def _currency(one: Mapping[str, Any]) -> str:
    found = codec.text(one.get("currencyIsoName"), 10).upper().replace("RUR", "RUB")
    return found if is_currency(found) else ""
