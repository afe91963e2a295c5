"""The CRMs of `make demo` beside RetailCRM: of each kind one company has an account, with the same people in it.

A `SecondCrm` is a sandbox that serves, with a page that shows what it holds, and what the tenant file says of it. Read
`demo_messengers.py` for the messengers, `demo.py` for the rest of the world.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import trio

from tests.sandbox.amocrm import AmoCrm
from tests.sandbox.bitrix24 import Bitrix24
from tests.sandbox.hubspot import HubSpot
from tests.sandbox.iiko import ORGANIZATION, TERMINAL_GROUP, Iiko
from tests.sandbox.salesforce import Salesforce

ADMIN = "Admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondCrm:
    """A company's account in one CRM."""

    name: str
    kind: str
    base: str
    """Where it serves, with a page at `/`."""
    settings: Mapping[str, Any]
    """As the tenant file has them."""
    urls: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """What it adds to `GATEWAY_PROVIDER_URLS`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Staff:
    """A company's people."""

    company: str
    country: str
    admin: str
    """E-mail of whoever set the CRM up."""
    people: Sequence[tuple[int, str, str, str]]
    """Id, first name, last name, e-mail."""
    extensions: Mapping[str, str]
    """Ids -> internal numbers."""


async def open_crms(kinds: Sequence[str], staff: Staff, nursery: trio.Nursery) -> list[SecondCrm]:
    """Those of these kinds, serving in the nursery."""
    return [await _MADE[kind](staff, nursery) for kind in kinds]


async def _bitrix24(staff: Staff, nursery: trio.Nursery) -> SecondCrm:
    users = [
        {"ID": str(ident), "NAME": first, "LAST_NAME": last, "EMAIL": email, "UF_PHONE_INNER": staff.extensions.get(str(ident))}
        for ident, first, last, email in ((1, ADMIN, "", staff.admin), *staff.people)
    ]  # fmt: skip
    made = Bitrix24(name=f"Bitrix24 of {staff.company}", users=tuple(users))
    await nursery.start(made.serve)
    settings = {"webhook_url": made.webhook_url, "user_extensions": dict(staff.extensions)}
    return SecondCrm(name=made.name, kind="bitrix24", base=made.base, settings=settings)


async def _amocrm(staff: Staff, nursery: trio.Nursery) -> SecondCrm:
    users = [
        {"id": ident, "name": f"{first} {last}".strip(), "email": email, "phone_number": None}
        for ident, first, last, email in ((500, ADMIN, "", staff.admin), *staff.people)
    ]
    made = AmoCrm(name=staff.company, users=tuple(users))
    url = await nursery.start(made.serve)
    settings = {
        "subdomain": staff.company.lower(), "access_token": made.token, "user_extensions": dict(staff.extensions),
    }  # fmt: skip
    return SecondCrm(
        name=f"amoCRM of {staff.company}", kind="amocrm", base=url, settings=settings, urls={"amocrm": url}
    )


async def _hubspot(staff: Staff, nursery: trio.Nursery) -> SecondCrm:
    owners = [
        {"id": ident, "firstName": first, "lastName": last, "email": email}
        for ident, first, last, email in staff.people
    ]
    made = HubSpot(name=f"HubSpot of {staff.company}", owners=tuple(owners), country=staff.country)
    url = await nursery.start(made.serve)
    settings = {"api_key": made.token, "user_extensions": dict(staff.extensions)}
    return SecondCrm(name=made.name, kind="hubspot", base=url, settings=settings, urls={"hubspot": url})


async def _salesforce(staff: Staff, nursery: trio.Nursery) -> SecondCrm:
    def written(ident: int) -> str:
        return f"005{ident:012}AAA"

    users = [
        {"Id": written(ident), "Name": f"{first} {last}", "Email": email, "Extension": staff.extensions.get(str(ident))}
        for ident, first, last, email in ((1, "Integration", "User", staff.admin), *staff.people)
    ]
    made = Salesforce(name=f"Salesforce of {staff.company}", users=tuple(users))
    await nursery.start(made.serve)
    settings = {
        "instance_url": made.base, "client_id": made.CLIENT_ID, "client_secret": made.client_secret, "call_field": made.call_field,
        "user_extensions": {written(int(ident)): number for ident, number in staff.extensions.items()},
    }  # fmt: skip
    return SecondCrm(name=made.name, kind="salesforce", base=made.base, settings=settings)


async def _till(kind: str, title: str, staff: Staff, nursery: trio.Nursery) -> SecondCrm:
    made = Iiko(name=f"{title} of {staff.company}")
    url = await nursery.start(made.serve)
    settings = {
        "api_login": made.API_LOGIN, "organization_id": ORGANIZATION, "terminal_group_id": TERMINAL_GROUP, "create": "contact",
        "attention": "order_attention", "set_webhook": False,
    }  # fmt: skip
    return SecondCrm(name=made.name, kind=kind, base=url, settings=settings, urls={kind: url})


async def _iiko(staff: Staff, nursery: trio.Nursery) -> SecondCrm:
    return await _till("iiko", "iiko", staff, nursery)


async def _syrve(staff: Staff, nursery: trio.Nursery) -> SecondCrm:
    return await _till("syrve", "Syrve", staff, nursery)


_MADE: Mapping[str, Callable[[Staff, trio.Nursery], Awaitable[SecondCrm]]] = {
    "amocrm": _amocrm,
    "bitrix24": _bitrix24,
    "hubspot": _hubspot,
    "iiko": _iiko,
    "salesforce": _salesforce,
    "syrve": _syrve,
}
