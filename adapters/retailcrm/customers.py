"""Customers of RetailCRM by their numbers, and notes on them: requests and answers. Pure.

The search takes a part of a name or number and answers with what resembles it, so numbers are compared here. Read `client.py` for who
sends these.
"""

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from adapters.base import Attempt, Draft
from adapters.retailcrm.codec import read_answer
from adapters.retailcrm.settings import RetailcrmSettings
from gateway.domain.calls import Call
from gateway.domain.configuration import Tenant
from gateway.domain.events import Direction
from gateway.domain.numbers import outside
from gateway.domain.text import Bilingual

SUMMARY = "summary"
NO_CUSTOMER = "no_customer"
"""The note of a summary of a call with somebody whom the CRM does not know."""
NOTES_PATH = "/api/v5/customers/notes/create"
KEEP_S = 48 * 3600.0
LONGEST_NOTE = 5000
_TITLE = Bilingual("Call of {at}, {phone}", "Звонок {at}, {phone}")


def plan_summary(settings: RetailcrmSettings, tenant: Tenant, call: Call, recording_id: str) -> list[Draft]:
    """A note on the customer. None for an internal call and for a hidden number."""
    if call.direction is Direction.INTERNAL or not re.fullmatch(r"\+[0-9]{3,25}", call.outside):
        return []
    when = call.started_at.astimezone(tenant.timezone)
    body = {
        "phone": call.outside, "recording": recording_id,
        "title": _TITLE.texts[tenant.language].format(at=f"{when:%d.%m.%Y %H:%M}", phone=call.outside),
    }  # fmt: skip
    key = f"{call.call_id}:{SUMMARY}:{recording_id}"
    return [Draft(kind=SUMMARY, key=key, lane=key, body=body, keep_s=KEEP_S)]


def find_path(phone: str) -> str:
    """The search for a number."""
    return f"/api/v5/customers?{urlencode({'filter[name]': phone.removeprefix('+'), 'limit': 20, 'page': 1})}"


def read_found(status: int, text: str, phone: str, country: str) -> Mapping[str, Any] | None:
    """The customer with this number, the oldest of several; None where there is none. Raises like `read_answer`."""
    customers = read_answer(status, text).get("customers")
    known = []
    for one in customers if isinstance(customers, list) else ():
        if not isinstance(one, Mapping) or not isinstance(one.get("id"), int):
            continue
        phones = one.get("phones")
        numbers = [
            str(item.get("number", ""))
            for item in (phones if isinstance(phones, list) else ())
            if isinstance(item, Mapping)
        ]
        if any(outside(number, country) == phone for number in numbers):
            known.append(one)
    return min(known, key=lambda one: int(one["id"]), default=None)


def note_text(attempt: Attempt, summary: str) -> str:
    """What stands in the note."""
    return f"{attempt.body['title']}\n{summary}"[:LONGEST_NOTE]


def note_form(customer: Mapping[str, Any], text: str) -> dict[str, str]:
    """The form of a note on a customer, in the customer's shop."""
    note = json.dumps({"text": text, "customer": {"id": customer["id"]}}, ensure_ascii=False)
    site = customer.get("site")
    return {"note": note, **({"site": site} if isinstance(site, str) and site else {})}


def notes_path(customer: Mapping[str, Any]) -> str:
    """The newest notes on a customer."""
    return f"/api/v5/customers/notes?{urlencode({'filter[customerIds][]': customer['id'], 'limit': 100, 'page': 1})}"


def read_notes(status: int, text: str) -> dict[str, str]:
    """Notes by their text: their ids."""
    notes = read_answer(status, text).get("notes")
    return {
        str(one.get("text", "")): str(one["id"])
        for one in (notes if isinstance(notes, list) else ())
        if isinstance(one, Mapping) and "id" in one
    }


def read_noted(status: int, text: str) -> str:
    """The id of the note that was made."""
    return str(read_answer(status, text).get("id", "") or "1")
