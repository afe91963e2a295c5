"""The summary of a call as a note on the customer: what is planned, and what it says. Pure. Read `syncing.py` for who delivers it."""

import re

from adapters.base import Attempt, Draft
from adapters.retailcrm.settings import RetailcrmSettings
from gateway.domain.calls import Call
from gateway.domain.configuration import Tenant
from gateway.domain.events import Direction
from gateway.domain.text import Bilingual

SUMMARY = "summary"
NO_CUSTOMER = "no_customer"
"""The note of a summary of a call with somebody whom the CRM does not know."""
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


def note_text(attempt: Attempt, summary: str) -> str:
    """What stands in the note."""
    return f"{attempt.body['title']}\n{summary}"[:LONGEST_NOTE]
