"""The properties that field mapping may write, as the account has them: HubSpot's own and those that its people have made. Reads."""

from collections.abc import Mapping, Sequence

from adapters.abilities import CrmField, FieldType, FieldValue
from adapters.hubspot import codec, requests
from adapters.hubspot.account import Account
from adapters.hubspot.schema import SchemaReader
from gateway.domain.crm_sources import When
from gateway.domain.errors import Rejected

_TYPES: Mapping[str, FieldType] = {
    "string": "text", "phone_number": "text", "number": "number", "date": "time", "datetime": "time", "bool": "flag",
    "enumeration": "choice",
}  # fmt: skip
_BY_WHEN: tuple[tuple[When, str], ...] = (
    ("call", requests.CALLS), ("contact", requests.CONTACTS), ("order", requests.DEALS), ("chat", requests.CONTACTS),
)  # fmt: skip


async def read_fields(account: Account, schema: SchemaReader) -> Mapping[When, Sequence[CrmField]]:
    """By what a rule is for. Kinds of objects that the app may not read are left out. Raises what `gateway.domain.errors` lists."""
    read: dict[str, Sequence[CrmField]] = {}
    found: dict[When, Sequence[CrmField]] = {}
    for when, kind in _BY_WHEN:
        if kind not in read:
            try:
                answer = await account.call("GET", f"{requests.PROPERTIES}/{kind}?archived=false")
                stages = await _stages(schema) if kind == requests.DEALS else ()
            except (codec.Missing, Rejected):
                continue
            fields = (field_of(codec.mapping(one), stages) for one in requests.found(answer))
            read[kind] = tuple(sorted((one for one in fields if one is not None), key=lambda one: one.title.casefold()))
        found[when] = read[kind]
    return found


async def _stages(schema: SchemaReader) -> tuple[FieldValue, ...]:
    pipelines = (await schema.pipelines()).values()
    return tuple(
        FieldValue(stage.id, stage.title if len(pipelines) == 1 else f"{one.title}: {stage.title}")
        for one in pipelines
        for stage in one.stages
    )


def field_of(one: Mapping[str, object], stages: tuple[FieldValue, ...] = ()) -> CrmField | None:
    """A property that may be written; None for the others."""
    name = codec.text(one.get("name"))
    fixed = codec.mapping(one.get("modificationMetadata")).get("readOnlyValue") is True or one.get("calculated") is True
    if not name or fixed or one.get("hidden") is True or one.get("archived") is True:
        return None
    options = (codec.mapping(value) for value in codec.items(one.get("options")))
    values = tuple(
        FieldValue(value, codec.text(option.get("label")) or value)
        for option in options
        if option.get("hidden") is not True and (value := codec.text(option.get("value")))
    )
    type_ = _TYPES.get(codec.text(one.get("type")), "other")
    if name == "dealstage":
        type_, values = "choice", stages
    return CrmField(name=name, title=codec.text(one.get("label")) or name, type=type_, values=values)
