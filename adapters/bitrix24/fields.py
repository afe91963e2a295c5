"""The portal's own fields, lists and stages, for field mapping. Reads; never writes. Read `records_requests.py` for what they mean."""

from collections.abc import Mapping, Sequence

from adapters.abilities import CrmField
from adapters.bitrix24 import codec
from adapters.bitrix24 import records_requests as wanted
from adapters.bitrix24.portal import Portal
from adapters.bitrix24.settings import Bitrix24Settings
from gateway.domain.crm_sources import When
from gateway.domain.errors import Rejected

_MADE = {"lead": "LEAD", "contact": "CONTACT", "deal": "DEAL"}
"""What a call makes, by the setting `create`."""


async def read_fields(portal: Portal, settings: Bitrix24Settings) -> Mapping[When, Sequence[CrmField]]:
    """By what a rule is for. A call's are those of what it makes; where it makes nothing there are none."""
    made = _MADE.get(settings.create)
    kinds = sorted({"CONTACT", "DEAL", *([made] if made is not None else [])})
    commands = {kind: codec.Command(wanted.FIELDS[kind]) for kind in kinds}
    lists = wanted.statuses_of(await portal.pages(wanted.STATUSES, {"order": {"SORT": "ASC"}}))
    answered = await portal.batch({**commands, "pipelines": codec.Command(wanted.CATEGORIES, {"entityTypeId": 2})})
    try:
        categories = codec.items(codec.mapping(answered.of("pipelines")).get("categories"))
    except Rejected:
        categories = []  # a portal with one pipeline and an older REST
    values = wanted.with_pipelines(lists, categories)
    found = {kind: wanted.fields_of(answered.of(kind), values) for kind in kinds}
    listed: dict[When, Sequence[CrmField]] = {
        "contact": found["CONTACT"],
        "chat": found["CONTACT"],
        "order": found["DEAL"],
    }
    return {**({"call": found[made]} if made is not None else {}), **listed}
