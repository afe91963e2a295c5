"""Deals of a portal, many at once: each method here is one batch of 50 commands, or a few. A mixin of the client.

`ORIGINATOR_ID` and `ORIGIN_ID` of what we make are ours: before anything is made it is looked for by them. A pipeline is changed by
`crm.item.update` alone, and a stage with it; `CONTACT_IDS` replaces the whole set. Read `codec.py` for what the answers mean.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from adapters.base import Attempt
from adapters.bitrix24 import codec, requests
from adapters.bitrix24.codec import Command, identifier, items, mapping, text
from adapters.bitrix24.portal import Portal
from adapters.deals import DealRead, DealWrite, Found, PartyKind, PartyWanted
from gateway.domain.deal_mapping import DealSchema, SchemaField
from gateway.domain.errors import GatewayError, NeedsAttention, Rejected, Retryable, Unavailable

DEAL_GET, DEAL_CONTACTS, DEAL_ADD, DEAL_UPDATE, DEAL_LIST = (
    "crm.deal.get", "crm.deal.contact.items.get", "crm.deal.add", "crm.deal.update", "crm.deal.list",
)  # fmt: skip
ITEM_UPDATE, FIELDS, CURRENCIES, PIPELINES, STATUSES = (
    "crm.item.update", "crm.deal.fields", "crm.currency.list", "crm.category.list", "crm.status.list",
)  # fmt: skip
NOT_THERE = ("not found", "не найден", "is not exist", "does not exist")
_DEAL = 2
_SONET = {"params": {"REGISTER_SONET_EVENT": "Y"}}
_CONTACT_FIELDS = (
    "NAME", "LAST_NAME", "SECOND_NAME", "HONORIFIC", "BIRTHDATE", "POST", "COMMENTS", "ADDRESS", "ADDRESS_CITY",
)  # fmt: skip
_COMPANY_FIELDS = ("TITLE", "COMMENTS", "ADDRESS", "ADDRESS_CITY", "BANKING_DETAILS")
_MULTIPLE = ("PHONE", "EMAIL", "WEB", "IM")
_MOST_NUMBERS = 20


class PortalDeals:
    """The ability `CarriesDeals` of one portal."""

    portal: Portal

    async def read_deals(
        self, ids: Sequence[int], *, links: bool, attempt: Attempt | None = None
    ) -> Mapping[int, DealRead | GatewayError | None]:
        """See `adapters.deals`."""
        answered = await self._run(_reading(ids, links=links), attempt)
        return {one: _deal(one, answered, links=links) for one in ids}

    async def read_parties(
        self, kind: PartyKind, ids: Sequence[int], *, attempt: Attempt | None = None
    ) -> Mapping[int, Mapping[str, Any] | None]:
        """See `adapters.deals`."""
        answered = await self._run({f"p{one}": Command(f"crm.{kind}.get", {"id": one}) for one in ids}, attempt)
        found: dict[int, Mapping[str, Any] | None] = {}
        for one in ids:
            try:
                found[one] = mapping(_of(answered, f"p{one}")) or None
            except Rejected:
                found[one] = None
        return found

    async def look_up(
        self, deals: Sequence[int], origins: Sequence[str], contacts: Sequence[PartyWanted], companies: Sequence[PartyWanted],
        *, links: bool = False, attempt: Attempt | None = None,
    ) -> Found:  # fmt: skip
        """See `adapters.deals`."""
        commands = _reading(deals, links=links)
        commands |= {f"o{n}": Command(DEAL_LIST, requests.by_origin(one)) for n, one in enumerate(origins)}
        parties: list[tuple[str, PartyKind, PartyWanted]] = []
        for kind, letter, wanted in (("contact", "k", contacts), ("company", "f", companies)):
            for n, one in enumerate(wanted):
                parties.append((f"{letter}{n}", "contact" if kind == "contact" else "company", one))
                commands |= _finding(f"{letter}{n}", kind, one)
        answered = await self._run(commands, attempt)
        found_deals: dict[int, DealRead | None] = {}
        for number in deals:
            read = _deal(number, answered, links=links)
            if isinstance(read, GatewayError):
                raise read
            found_deals[number] = read
        by_origin = {one: made for n, one in enumerate(origins) if (made := _first(_of(answered, f"o{n}")))}
        return Found(
            deals=found_deals, by_origin=by_origin,
            parties={one.origin: there for name, kind, one in parties if (there := _there(name, kind, one, answered))},
        )  # fmt: skip

    async def make_parties(
        self, kind: PartyKind, wanted: Sequence[PartyWanted], *, attempt: Attempt | None = None
    ) -> Mapping[str, int | GatewayError]:
        """See `adapters.deals`."""
        commands = {
            f"m{n}": Command(f"crm.{kind}.add", {"fields": _party(kind, one), **_SONET}) for n, one in enumerate(wanted)
        }
        answered = await self._run(commands, attempt)
        return {one.origin: _made(answered, f"m{n}", f"crm.{kind}.add") for n, one in enumerate(wanted)}

    async def write_deals(
        self, writes: Sequence[DealWrite], *, attempt: Attempt | None = None
    ) -> Mapping[int, int | GatewayError]:
        """See `adapters.deals`."""
        answered = codec.Batch()
        # A move and the change behind it stand in one request: a group is cut before its commands are.
        groups = [_writing(one) for one in writes]
        pending: dict[str, Command] = {}
        for group in groups:
            if len(pending) + len(group) > codec.BATCH:
                answered = _joined(answered, await self._run(pending, attempt))
                pending = {}
            pending |= group
        answered = _joined(answered, await self._run(pending, attempt))
        return {one.key: _written(answered, one) for one in writes}

    async def deal_schema(self, *, attempt: Attempt | None = None) -> DealSchema:
        """See `adapters.deals`."""
        answered = await self._run(
            {
                "fields": Command(FIELDS), "currencies": Command(CURRENCIES),
                "pipelines": Command(PIPELINES, {"entityTypeId": _DEAL}), "s0": _stages("0"),
            },
            attempt,
        )  # fmt: skip
        pipelines = {"0": ""}
        for one in items(mapping(_quiet(answered, "pipelines")).get("categories")):
            number = text(mapping(one).get("id"))
            if number.isdigit():
                pipelines[number] = text(mapping(one).get("name"))
        more = await self._run({f"s{one}": _stages(one) for one in pipelines if one != "0"}, attempt)
        answered = _joined(answered, more)
        stages = {
            pipeline: {
                status: text(mapping(one).get("NAME")) or status
                for one in items(_quiet(answered, f"s{pipeline}"))
                if (status := text(mapping(one).get("STATUS_ID")))
            }
            for pipeline in pipelines
        }
        currencies = {
            code: text(mapping(one).get("FULL_NAME")) or code
            for one in items(_quiet(answered, "currencies"))
            if (code := text(mapping(one).get("CURRENCY")))
        }
        return DealSchema(
            fields={str(name): _field(str(name), mapping(one)) for name, one in mapping(_quiet(answered, "fields")).items()},
            stages={pipeline: found for pipeline, found in stages.items() if found}, pipelines=pipelines, currencies=currencies,
        )  # fmt: skip

    async def changed_deals(self, since: datetime, most: int, *, attempt: Attempt | None = None) -> list[int]:
        """See `adapters.deals`."""
        found: list[int] = []
        start: int | None = 0
        while start is not None and len(found) < most:
            params = {
                "filter": {">DATE_MODIFY": since.isoformat(timespec="seconds")}, "select": ["ID"],
                "order": {"DATE_MODIFY": "ASC"}, "start": start,
            }  # fmt: skip
            answer = await self.portal.page(DEAL_LIST, params, attempt)
            found += [int(number) for one in items(answer.value) if (number := identifier(mapping(one).get("ID")))]
            start = answer.next
        return found[:most]

    async def _run(self, commands: Mapping[str, Command], attempt: Attempt | None) -> codec.Batch:
        """All commands, in as many requests as they need."""
        answered = codec.Batch()
        pairs = list(commands.items())
        for place in range(0, len(pairs), codec.BATCH):
            some = dict(pairs[place : place + codec.BATCH])
            answered = _joined(answered, await self.portal.batch(some, attempt=attempt))
        return answered


def _of(answered: codec.Batch, name: str) -> Any:
    """One command's answer. Raises what it was refused with, and Unavailable for one that the portal has not come to."""
    value = answered.of(name)
    if name not in answered.results:
        raise Unavailable("the portal left a command of a batch without an answer", certain=False)
    return value


def _joined(one: codec.Batch, other: codec.Batch) -> codec.Batch:
    return codec.Batch(
        {**one.results, **other.results}, {**one.errors, **other.errors}, {**one.operating, **other.operating}
    )


def _quiet(answered: codec.Batch, name: str) -> Any:
    """An answer that may be missing: what is not told is not known. Raises where it can be had later."""
    error = answered.errors.get(name)
    if isinstance(error, Retryable):
        raise error
    return answered.results.get(name) if error is None else None


# Reading ------------------------------------------------------------------------------------------------------------------


def _reading(ids: Sequence[int], *, links: bool) -> dict[str, Command]:
    commands = {f"d{one}": Command(DEAL_GET, {"id": one}) for one in ids}
    return commands | ({f"c{one}": Command(DEAL_CONTACTS, {"id": one}) for one in ids} if links else {})


def _deal(number: int, answered: codec.Batch, *, links: bool) -> DealRead | GatewayError | None:
    try:
        fields = mapping(_of(answered, f"d{number}"))
    except GatewayError as error:
        return None if codec.is_about(error, NOT_THERE) else error
    if not fields:
        return None
    contacts: list[int] = []
    if links:
        try:
            listed = sorted(
                items(_of(answered, f"c{number}")), key=lambda one: text(mapping(one).get("IS_PRIMARY")) != "Y"
            )
            contacts = [int(one) for each in listed if (one := identifier(mapping(each).get("CONTACT_ID")))]
        except (Retryable, NeedsAttention) as error:
            return error
        except GatewayError:
            given = items(fields.get("CONTACT_IDS")) or [fields.get("CONTACT_ID")]
            contacts = [int(found) for one in given if (found := identifier(one))]
    company = identifier(fields.get("COMPANY_ID"))
    ours = text(fields.get("ORIGINATOR_ID")) == requests.ORIGINATOR
    return DealRead(
        fields=fields, contacts=tuple(dict.fromkeys(contacts)), company=int(company) if company else None,
        origin=text(fields.get("ORIGIN_ID")) if ours else "",
    )  # fmt: skip


def _field(name: str, one: Mapping[str, Any]) -> SchemaField:
    labels = (text(one.get(key)) for key in ("formLabel", "listLabel", "title"))
    return SchemaField(
        title=next((label for label in labels if label and label != name), name), type=text(one.get("type")) or "string",
        required=_yes(one.get("isRequired")), read_only=_yes(one.get("isReadOnly")), multiple=_yes(one.get("isMultiple")),
        options={
            number: text(mapping(option).get("VALUE"))
            for option in items(one.get("items"))
            if (number := text(mapping(option).get("ID")))
        },
    )  # fmt: skip


def _yes(value: Any) -> bool:
    return value is True or value in ("Y", "1", 1, "true")


def _stages(pipeline: str) -> Command:
    entity = "DEAL_STAGE" if pipeline == "0" else f"DEAL_STAGE_{pipeline}"
    return Command(STATUSES, {"filter": {"ENTITY_ID": entity}, "order": {"SORT": "ASC"}})


# Contacts and companies -----------------------------------------------------------------------------------------------------


def _finding(name: str, kind: str, one: PartyWanted) -> dict[str, Command]:
    commands = {f"{name}o": Command(f"crm.{kind}.list", requests.by_origin(one.origin))}
    if one.known is not None:
        commands[f"{name}i"] = Command(f"crm.{kind}.get", {"id": one.known})
    for field, letter in (("PHONE", "p"), ("EMAIL", "e")):
        if values := _values(one.fields, field):
            params = {"type": field, "entity_type": kind.upper(), "values": values}
            commands[f"{name}{letter}"] = Command(requests.FIND, params)
    return commands


def _values(fields: Mapping[str, Any], field: str) -> list[str]:
    found = [text(mapping(one).get("VALUE")) for one in items(fields.get(field))]
    return list(dict.fromkeys(one for one in found if one))[:_MOST_NUMBERS]


def _there(name: str, kind: str, one: PartyWanted, answered: codec.Batch) -> int | None:
    """By its id, by our origin, by phone, by e-mail: the first that is there."""
    if one.known is not None:
        try:
            if mapping(_of(answered, f"{name}i")):
                return one.known
        except Rejected:
            pass  # removed or merged over there
    if made := _first(_of(answered, f"{name}o")):
        return made
    for letter in "pe":
        found = mapping(_of(answered, f"{name}{letter}")) if _asked(answered, f"{name}{letter}") else {}
        if ids := sorted(int(number) for each in items(found.get(kind.upper())) if (number := identifier(each))):
            return ids[0]
    return None


def _asked(answered: codec.Batch, name: str) -> bool:
    error = answered.errors.get(name)
    if isinstance(error, Retryable):
        raise error
    return name in answered.results


def _first(listed: Any) -> int | None:
    ids = sorted(int(number) for one in items(listed) if (number := identifier(mapping(one).get("ID"))))
    return ids[0] if ids else None


def _party(kind: str, one: PartyWanted) -> dict[str, Any]:
    """What of a contact or a company is carried: never its id, its owner or links to other records."""
    names = _CONTACT_FIELDS if kind == "contact" else _COMPANY_FIELDS
    fields: dict[str, Any] = {name: value for name in names if (value := one.fields.get(name)) not in (None, "", False)}
    for name in _MULTIPLE:
        given = [
            {"VALUE": value, "VALUE_TYPE": text(mapping(each).get("VALUE_TYPE")) or "WORK"}
            for each in items(one.fields.get(name))
            if (value := text(mapping(each).get("VALUE")))
        ]
        if given:
            fields[name] = given
    if kind == "company":
        fields.setdefault("TITLE", one.origin.rpartition(":")[2])
    elif not fields.get("NAME") and not fields.get("LAST_NAME"):
        fields["NAME"] = next(
            iter(_values(one.fields, "PHONE") or _values(one.fields, "EMAIL")), one.origin.rpartition(":")[2]
        )
    return {**fields, "OPENED": "Y", "ORIGINATOR_ID": requests.ORIGINATOR, "ORIGIN_ID": one.origin}


def _made(answered: codec.Batch, name: str, method: str) -> int | GatewayError:
    try:
        number = identifier(_of(answered, name))
    except GatewayError as error:
        return error
    return int(number) if number else Rejected(f"{method}: the answer names nothing that was made")


# Writing --------------------------------------------------------------------------------------------------------------------


def _writing(one: DealWrite) -> dict[str, Command]:
    fields = {name: _sent(value) for name, value in one.fields.items()}
    if one.contacts is not None:
        fields["CONTACT_IDS"] = list(one.contacts) or ""
    if one.company is not None:
        fields["COMPANY_ID"] = one.company
    if one.target_id is None:
        new = {name: value for name, value in fields.items() if value != ""}
        new |= {"ORIGINATOR_ID": requests.ORIGINATOR, "ORIGIN_ID": one.origin}
        return {f"w{one.key}": Command(DEAL_ADD, {"fields": new, **_SONET})}
    fields.pop("CATEGORY_ID", None)
    commands: dict[str, Command] = {}
    if one.pipeline:
        stage = fields.pop("STAGE_ID", None)
        moved = {"categoryId": one.pipeline, **({"stageId": stage} if stage else {})}
        commands[f"v{one.key}"] = Command(ITEM_UPDATE, {"entityTypeId": _DEAL, "id": one.target_id, "fields": moved})
    if fields:
        commands[f"w{one.key}"] = Command(DEAL_UPDATE, {"id": one.target_id, "fields": fields, **_SONET})
    return commands


def _written(answered: codec.Batch, one: DealWrite) -> int | GatewayError:
    if one.target_id is not None:
        try:
            done = [_of(answered, name) for name in _writing(one)]
        except GatewayError as error:
            return error
        return one.target_id if False not in done else Rejected(f"{DEAL_UPDATE}: the answer is false")
    return _made(answered, f"w{one.key}", DEAL_ADD)


def _sent(value: Any) -> Any:
    """As a batch takes it: nothing is an empty text, and so is an empty list."""
    if value is None or value == []:
        return ""
    if isinstance(value, bool):
        return "Y" if value else "N"
    return value
