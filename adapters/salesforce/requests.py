"""What stands in the requests: paths below `/services/data/vNN.0`, fields as Salesforce calls them. Pure.

`call_field` is a unique external id of ours on Activity: a task is upserted by it, so a repeat makes nothing twice. Without the
field, and for other records, what an earlier attempt has made is looked for first. Read `codec.py` for the answers.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode

from adapters.salesforce.codec import LONGEST_NAME, identifier, items, mapping, select, soql, sosl, text
from adapters.salesforce.settings import SalesforceSettings
from gateway.domain.numbers import outside, spellings

CONTACT, LEAD, ACCOUNT = "Contact", "Lead", "Account"
PHONES: Mapping[str, tuple[str, ...]] = {
    CONTACT: ("Phone", "MobilePhone", "HomePhone", "OtherPhone"),
    LEAD: ("Phone", "MobilePhone"),
    ACCOUNT: ("Phone",),
}
"""Where a number is looked for, the best first."""
_MOST_FOUND = 200
USERS = select(("Id", "Name", "Email", "Extension", "IsActive"), "User", "UserType = 'Standard'")
STATUSES = select(("ApiName", "IsClosed", "IsDefault"), "TaskStatus", order="SortOrder")
LIMITS = "/limits"
_LONGEST_SUBJECT, LONGEST_TEXT = 255, 32_000


@dataclass(frozen=True, slots=True)
class Client:
    """Somebody's record."""

    type: str
    id: str
    owner: str = ""
    """The id of the user who owns it; empty for a queue's and where it is not known."""

    def __str__(self) -> str:
        return f"{self.type}:{self.id}"

    @classmethod
    def read(cls, stored: str | None) -> "Client | None":
        """The inverse of `str`; None where nothing is stored."""
        kind, _, number = (stored or "").partition(":")
        return cls(kind, number) if kind in PHONES and identifier(number) else None

    def links(self) -> dict[str, str]:
        """How a task is linked to it. One with a lead may be linked to nothing else."""
        return {"WhatId": self.id} if self.type == ACCOUNT else {"WhoId": self.id}


# Clients -----------------------------------------------------------------------------------------------------------------


def search(phone: str, country: str) -> str:
    """The path that looks for a number in every spelling, among contacts, leads that are still leads, and accounts."""
    returning = ", ".join(
        f"{kind}(Id, OwnerId, CreatedDate, {', '.join(fields)}{' WHERE IsConverted = false' if kind == LEAD else ''})"
        for kind, fields in PHONES.items()
    )
    words = [word for word in spellings(phone, country) if len(word) > 1]
    query = f"FIND {{{sosl(words)}}} IN PHONE FIELDS RETURNING {returning} LIMIT {_MOST_FOUND}"
    return f"/search/?{urlencode({'q': query}, quote_via=quote)}"


def best(records: Iterable[Any], phone: str, country: str) -> Client | None:
    """The one to take of what was found: the number is compared here. Of contacts and accounts the first that was made, of leads
    the last."""
    wanted = {"".join(c for c in word if c.isdigit()) for word in spellings(phone, country)}
    found: dict[str, list[tuple[str, Client]]] = {kind: [] for kind in PHONES}
    for one in records:
        fields = mapping(one)
        kind, number = text(mapping(fields.get("attributes")).get("type")), identifier(fields.get("Id"))
        if kind not in PHONES or not number:
            continue
        written = [text(fields.get(name)) for name in PHONES[kind]]
        if any(_same(value, phone, country, wanted) for value in written if value):
            client = Client(kind, number, user_of(fields.get("OwnerId")))
            found[kind].append((text(fields.get("CreatedDate")), client))
    for kind, clients in found.items():
        if clients:
            ordered = sorted(clients, key=lambda pair: (pair[0], pair[1].id))
            return ordered[-1 if kind == LEAD else 0][1]
    return None


def search_email(emails: Sequence[str]) -> str:
    """The path that looks for addresses among contacts and leads that are still leads."""
    returning = (
        "Contact(Id, OwnerId, CreatedDate, Email), Lead(Id, OwnerId, CreatedDate, Email WHERE IsConverted = false)"
    )
    found = f"FIND {{{sosl(emails)}}} IN EMAIL FIELDS RETURNING {returning} LIMIT {_MOST_FOUND}"
    return f"/search/?{urlencode({'q': found}, quote_via=quote)}"


def just_made_email(emails: Sequence[str], since: datetime) -> dict[str, tuple[str, str]]:
    """As `just_made`, by address."""
    values = ", ".join(map(soql, emails))
    moment = since.strftime("%Y-%m-%dT%H:%M:%SZ")
    fields = ("Id", "OwnerId", "CreatedDate", "Email")
    return {
        kind.lower(): (
            kind,
            query(select(fields, kind, f"CreatedDate >= {moment} AND Email IN ({values})", "CreatedDate", 50)),
        )
        for kind in (CONTACT, LEAD)
    }


def first_of(records: Iterable[Any], emails: Sequence[str]) -> Client | None:
    """The one to take of those with one of these addresses: a contact before a lead, the first that was made."""
    wanted = {one.casefold() for one in emails}
    found = []
    for one in records:
        fields = mapping(one)
        kind, number = text(mapping(fields.get("attributes")).get("type")), identifier(fields.get("Id"))
        if kind in (CONTACT, LEAD) and number and text(fields.get("Email")).casefold() in wanted:
            made = text(fields.get("CreatedDate"))
            found.append((kind != CONTACT, made, Client(kind, number, user_of(fields.get("OwnerId")))))
    return min(found, key=lambda one: one[:2])[2] if found else None


def _same(value: str, phone: str, country: str, wanted: set[str]) -> bool:
    return outside(value, country) == phone or "".join(c for c in value if c.isdigit()) in wanted


def user_of(value: Any) -> str:
    """The id of a user; empty for a queue or nothing."""
    found = identifier(value)
    return found if found.startswith("005") else ""


def just_made(phone: str, country: str, since: datetime) -> dict[str, tuple[str, str]]:
    """Queries for what was made lately, which the search does not find yet: by name, what each is about, and its path."""
    values = ", ".join(soql(one) for one in spellings(phone, country))
    moment = since.strftime("%Y-%m-%dT%H:%M:%SZ")
    found = {}
    for kind in (CONTACT, LEAD):
        fields = PHONES[kind]
        numbers = " OR ".join(f"{name} IN ({values})" for name in fields)
        converted = " AND IsConverted = false" if kind == LEAD else ""
        statement = select(
            ("Id", "OwnerId", "CreatedDate", *fields), kind, f"CreatedDate >= {moment}{converted} AND ({numbers})",
            "CreatedDate", 50,
        )  # fmt: skip
        found[kind.lower()] = kind, query(statement)
    return found


def new_client(kind: str, phone: str, owner: str, settings: SalesforceSettings) -> dict[str, Any]:
    """A client of whom only the number is known."""
    return {
        "LastName": phone[:LONGEST_NAME],
        "Phone": phone[:40],
        **({"Company": settings.company} if kind == LEAD else {}),
        **({"OwnerId": owner} if owner else {}),
        **({"LeadSource": settings.source} if settings.source else {}),
    }


# Tasks -------------------------------------------------------------------------------------------------------------------


def task(
    body: Mapping[str, Any], settings: SalesforceSettings, *, status: str, client: Client | None, owner: str, subtype: bool
) -> dict[str, Any]:  # fmt: skip
    """A call that is over."""
    return {
        "Subject": str(body["subject"])[:_LONGEST_SUBJECT],
        "Status": status,
        "Priority": "Normal",
        "ActivityDate": body["day"],
        "CallType": body["type"],
        "CallDurationInSeconds": int(body["duration"]),
        "CallDisposition": str(body["result"])[:255],
        "CallObject": str(body["id"])[:255],
        **({"Description": str(body["text"])[:LONGEST_TEXT]} if body.get("text") else {}),
        **({"TaskSubtype": "Call"} if subtype else {}),
        **({"OwnerId": owner} if owner else {}),
        **(client.links() if client is not None else {}),
        **body.get("fields", {}),
    }


def call_back(
    body: Mapping[str, Any], *, status: str, client: Client | None, owner: str
) -> dict[str, Any]:  # fmt: skip
    """To call back. Its `CallObject` is ours too: a repeat is recognised by it."""
    return {
        "Subject": str(body["subject"])[:_LONGEST_SUBJECT],
        "Status": status,
        "Priority": "High",
        "ActivityDate": body["day"],
        "CallObject": str(body["id"])[:255],
        "Description": str(body["text"])[:LONGEST_TEXT],
        **({"OwnerId": owner} if owner else {}),
        **(client.links() if client is not None else {}),
    }


def with_link(description: str, link: str, label: str) -> str:
    """A task's comments with the link at their end; as they are where they have it already."""
    if link in description:
        return description
    line = f"{label}: {link}"
    kept = description[: LONGEST_TEXT - len(line) - 1].rstrip()
    return f"{kept}\n{line}" if kept else line


# Paths -------------------------------------------------------------------------------------------------------------------


def query(statement: str) -> str:
    """The path of a query."""
    return f"/query?{urlencode({'q': statement}, quote_via=quote)}"


def by_external_id(thing: str, name: str, value: str) -> str:
    """The path of the record with an external id."""
    return f"/sobjects/{thing}/{name}/{quote(value, safe='')}"


def record(thing: str, number: str) -> str:
    """The path of a record."""
    return f"/sobjects/{thing}/{number}"


def task_of(call: str) -> str:
    """The path that finds the tasks with this id of ours."""
    return query(select(("Id",), "Task", f"CallObject = {soql(call)}", "CreatedDate", 2))


def composite(version: str, parts: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    """Some requests that read, as one."""
    return {
        "allOrNone": False,
        "compositeRequest": [
            {"method": "GET", "url": f"/services/data/{version}{path}", "referenceId": name}
            for name, (_, path) in parts.items()
        ],
    }


def extensions(numbers: Mapping[str, str]) -> dict[str, Any]:
    """Users' internal numbers, as one request."""
    records = [{"attributes": {"type": "User"}, "Id": user, "Extension": number} for user, number in numbers.items()]
    return {"allOrNone": False, "records": records}


def ids_of(answer: Any) -> Sequence[str]:
    """The ids of what a query found."""
    return [found for one in items(mapping(answer).get("records")) if (found := identifier(mapping(one).get("Id")))]
