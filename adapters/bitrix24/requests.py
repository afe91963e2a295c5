"""The requests of Bitrix24's methods: what stands in each. Pure. Names and values as the portal writes them.

`EXTERNAL_CALL_ID` is ours and unique: within 30 minutes the same one brings the same `CALL_ID` back, so a repeated register makes
nothing twice. `ORIGINATOR_ID` and `ORIGIN_ID` do the same for what we make in the CRM. Read `codec.py` for the answers.
"""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from adapters.bitrix24.codec import Command, identifier, items, mapping, text
from adapters.bitrix24.settings import Bitrix24Settings

REGISTER, FINISH = "telephony.externalcall.register", "telephony.externalcall.finish"
SHOW, HIDE = "telephony.externalcall.show", "telephony.externalcall.hide"
ATTACH, SEARCH = "telephony.externalcall.attachRecord", "telephony.externalcall.searchCrmEntities"
FIND, USERS, SAVE_USER = "crm.duplicate.findbycomm", "user.get", "user.update"
ADD = {"CONTACT": "crm.contact.add", "DEAL": "crm.deal.add"}
LIST = {"CONTACT": "crm.contact.list", "DEAL": "crm.deal.list"}
GET = {"CONTACT": "crm.contact.get", "COMPANY": "crm.company.get", "LEAD": "crm.lead.get"}
ADD_TASK, FIND_TASK, ADD_TODO = "tasks.task.add", "tasks.task.list", "crm.activity.todo.add"
ORIGINATOR = "telephony-gateway"
TYPES = ("CONTACT", "COMPANY", "LEAD")
"""Where a number is looked for, the best first."""
_TASK_PREFIX = {"CONTACT": "C", "COMPANY": "CO", "LEAD": "L", "DEAL": "D"}
_TYPE_ID = {"LEAD": 1, "DEAL": 2, "CONTACT": 3, "COMPANY": 4}
MOST_NUMBERS = 20
"""Values that one search takes."""


@dataclass(frozen=True, slots=True)
class Entity:
    """Something in the CRM: a contact, a company, a lead or a deal."""

    type: str
    id: str

    def __str__(self) -> str:
        return f"{self.type}:{self.id}"

    @classmethod
    def read(cls, stored: str | None) -> "Entity | None":
        """The inverse of `str`; None where nothing is stored."""
        kind, _, number = (stored or "").partition(":")
        return cls(kind, number) if kind in _TYPE_ID and number.isdigit() else None


@dataclass(frozen=True, slots=True)
class Person:
    """An employee as a method names one: by their id where it is known, else by the internal number."""

    user_id: str = ""
    extension: str = ""

    def fields(self) -> dict[str, Any]:
        """One of the two."""
        return {"USER_ID": int(self.user_id)} if self.user_id else {"USER_PHONE_INNER": self.extension}


# Calls -------------------------------------------------------------------------------------------------------------------


def register(
    body: Mapping[str, Any], person: Person, entity: Entity | None, settings: Bitrix24Settings, *, external_id: str,
    show: bool, create: bool, type_: str = "",
) -> dict[str, Any]:  # fmt: skip
    """A call begins. `create`: the portal makes a lead where it knows nobody (or a deal, without leads)."""
    known = {"CRM_ENTITY_TYPE": entity.type, "CRM_ENTITY_ID": int(entity.id)} if entity is not None else {}
    return {
        **person.fields(),
        "PHONE_NUMBER": body["phone"],
        "TYPE": int(type_) if type_.isdigit() else body["type"],
        "CALL_START_DATE": body["started"],
        "CRM_CREATE": int(create),
        "SHOW": int(show),
        "EXTERNAL_CALL_ID": external_id,
        **({"LINE_NUMBER": body["line"]} if body.get("line") else {}),
        **({"CRM_SOURCE": settings.source} if settings.source else {}),
        **known,
    }


def finish(call_id: str, body: Mapping[str, Any], person: Person) -> dict[str, Any]:
    """A call is over."""
    return {
        "CALL_ID": call_id,
        **person.fields(),
        "DURATION": int(body.get("duration", 0)),
        "STATUS_CODE": str(body.get("status", "304")),
        **({"FAILED_REASON": str(body["reason"])[:250]} if body.get("reason") else {}),
    }


def cards(call_id: str, show: Sequence[str], hide: Sequence[str]) -> dict[str, Command]:
    """Shows and hides the card of a registered call: user ids."""
    found = {}
    if hide:
        found["hide"] = Command(HIDE, {"CALL_ID": call_id, "USER_ID": [int(user) for user in hide]})
    if show:
        found["show"] = Command(SHOW, {"CALL_ID": call_id, "USER_ID": [int(user) for user in show]})
    return found


def record(call_id: str, link: str, name: str) -> dict[str, Any]:
    """The recording of a finished call."""
    return {"CALL_ID": call_id, "FILENAME": name, "RECORD_URL": link}


def uploaded(call_id: str, content: bytes, name: str) -> dict[str, Any]:
    """The same with the sound itself."""
    return {"CALL_ID": call_id, "FILENAME": name, "FILE_CONTENT": b64encode(content).decode("ascii")}


def file_name(call: str, content_type: str) -> str | None:
    """What a recording is called there; None for a format that the portal does not take."""
    ending = {"audio/wav": "wav", "audio/x-wav": "wav", "audio/wave": "wav", "audio/mpeg": "mp3", "audio/mp3": "mp3"}
    found = ending.get(content_type.partition(";")[0].strip().lower())
    plain = "".join(c if c.isalnum() and c.isascii() else "-" for c in call)[:100]
    return f"{plain}.{found}" if found else None


def entity_of(answer: Any) -> Entity | None:
    """Whom a registered call is with."""
    fields = mapping(answer)
    kind, number = text(fields.get("CRM_ENTITY_TYPE")), identifier(fields.get("CRM_ENTITY_ID"))
    if kind in _TYPE_ID and number:
        return Entity(kind, number)
    for made in items(fields.get("CRM_CREATED_ENTITIES")):
        kind, number = text(mapping(made).get("ENTITY_TYPE")), identifier(mapping(made).get("ENTITY_ID"))
        if kind in _TYPE_ID and number:
            return Entity(kind, number)
    lead = identifier(fields.get("CRM_CREATED_LEAD"))
    return Entity("LEAD", lead) if lead else None


# Clients -----------------------------------------------------------------------------------------------------------------


def find(numbers: Sequence[str], type_: str = "PHONE") -> dict[str, Command]:
    """Whose numbers, or addresses (EMAIL), these are, type by type: 20 of one type would hide the others."""
    values = list(numbers)[:MOST_NUMBERS]
    return {kind: Command(FIND, {"type": type_, "entity_type": kind, "values": values}) for kind in TYPES}


def best(found: Mapping[str, Any]) -> Entity | None:
    """The one to take of what was found, by type: of contacts and companies the first that was made, of leads the last."""
    for kind in TYPES:
        ids = sorted({int(number) for one in items(mapping(found.get(kind)).get(kind)) if (number := identifier(one))})
        if ids:
            return Entity(kind, str(ids[-1] if kind == "LEAD" else ids[0]))
    return None


def contact(
    phone: str, owner: str, settings: Bitrix24Settings, origin: str, more: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, Any]:
    """A client of whom only the number is known."""
    fields = {
        "NAME": phone,
        "OPENED": "Y",
        "PHONE": [{"VALUE": phone, "VALUE_TYPE": "WORK"}],
        **common(owner, settings, origin),
        **more,
    }
    return {"fields": fields, "params": {"REGISTER_SONET_EVENT": "Y"}}


def deal(phone: str, contact_id: str, owner: str, settings: Bitrix24Settings, origin: str) -> dict[str, Any]:
    """A deal of a new client."""
    fields = {"TITLE": phone, "OPENED": "Y", "CONTACT_IDS": [int(contact_id)], **common(owner, settings, origin)}
    return {"fields": fields, "params": {"REGISTER_SONET_EVENT": "Y"}}


def common(owner: str, settings: Bitrix24Settings, origin: str) -> dict[str, Any]:
    """Whose what we make is, and how it is found again."""
    return {
        **({"ASSIGNED_BY_ID": int(owner)} if owner else {}),
        **({"SOURCE_ID": settings.source} if settings.source else {}),
        "ORIGINATOR_ID": ORIGINATOR,
        "ORIGIN_ID": origin,
    }


def by_origin(origin: str) -> dict[str, Any]:
    """What an attempt whose answer was lost may have made."""
    return {"filter": {"ORIGINATOR_ID": ORIGINATOR, "ORIGIN_ID": origin}, "select": ["ID"], "order": {"ID": "ASC"}}


# Tasks -------------------------------------------------------------------------------------------------------------------


def task(body: Mapping[str, Any], responsible: str, entity: Entity | None) -> dict[str, Any]:
    """To call back."""
    linked = {"UF_CRM_TASK": [f"{_TASK_PREFIX[entity.type]}_{entity.id}"]} if entity is not None else {}
    return {
        "fields": {
            "TITLE": body["title"], "DESCRIPTION": body["text"], "RESPONSIBLE_ID": int(responsible), "DEADLINE": body["due"], **linked,
        }
    }  # fmt: skip


def todo(body: Mapping[str, Any], responsible: str, entity: Entity) -> dict[str, Any]:
    """The same as a planned activity of the client, which needs no right of its own."""
    return {
        "ownerTypeId": _TYPE_ID[entity.type], "ownerId": int(entity.id), "title": body["title"], "description": body["text"],
        "responsibleId": int(responsible), "deadline": body["due"],
    }  # fmt: skip


def tasks_titled(title: str) -> dict[str, Any]:
    """A task by its title, which has the number and the second of the call."""
    return {"filter": {"=TITLE": title}, "select": ["ID"]}
