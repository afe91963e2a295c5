"""Routes of deals: which deals of one CRM live in another, and what becomes of their fields. Plain data and its validation.

A mapping names the target's field and where its value comes from: a field, a table of values, a text with placeholders, the time.
No code and no expressions. Read `gateway/domain/deal_mapping.py` next for what is made of it.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from gateway.domain.ids import IntegrationKey, integration_key
from gateway.domain.secret import MASK, Secret
from gateway.domain.text import CONTROL_CLASS, refused

MOST_ROUTES, MOST_FIELDS, MOST_VALUES, MOST_DOMAINS = 50, 200, 500, 50
EventName = Literal["ONCRMDEALADD", "ONCRMDEALUPDATE"]
EVENTS: tuple[EventName, ...] = ("ONCRMDEALADD", "ONCRMDEALUPDATE")
PLACEHOLDERS = ("source.domain", "source.id", "route.name")
"""What a text may hold in braces; beside these any field of the deal as `deal.FIELD`."""
KEPT = frozenset({
    "ID", "DATE_CREATE", "DATE_MODIFY", "CREATED_BY_ID", "MODIFY_BY_ID", "ORIGINATOR_ID", "ORIGIN_ID",
})  # fmt: skip
"""Fields of a target that nobody else writes: its own, and those by which a carried deal is known again."""
_PLACE = re.compile(r"\{([^{}]*)\}")
_HOST = re.compile(
    r"(\*\.)?[a-z0-9]([a-z0-9-]{0,62})?(\.[a-z0-9]([a-z0-9-]{0,62})?)*(:[0-9]{1,5})?|\[[0-9a-f:]+\](:[0-9]{1,5})?"
)


def _field_name(name: str) -> str:
    if not re.fullmatch(r"[A-Z][A-Z0-9_]{0,99}", name):
        raise refused(
            "must be the name of a deal's field, such as TITLE or UF_CRM_1700000000",
            "нужно имя поля сделки, например TITLE или UF_CRM_1700000000",
        )
    return name


def _text(text: str) -> str:
    for name in _PLACE.findall(text):
        known = name in PLACEHOLDERS or re.fullmatch(r"deal\.[A-Z][A-Z0-9_]{0,99}", name)
        if not known:
            known_names = f"{', '.join(PLACEHOLDERS)}, deal.FIELD"
            raise refused(
                f"has an unknown placeholder; there are {known_names}", f"такой подстановки нет; есть {known_names}"
            )
    if "{" in _PLACE.sub("", text) or "}" in _PLACE.sub("", text):
        raise refused("has a brace without its pair", "скобка без пары")
    return text


def _domain(text: str) -> str:
    found = text.strip().rstrip(".").lower()
    if not _HOST.fullmatch(found) or len(found) > 255:
        raise refused(
            "must be a host such as crm.example.com, or *.example.com for all below one",
            "нужно имя сервера, например crm.example.com, или *.example.com для всех под ним",
        )
    return found


def _key(text: str) -> str:
    try:
        return integration_key(text)
    except ValueError as error:
        raise refused(str(error), "нужно имя интеграции: KIND или KIND:NAME") from None


def _plain_value(value: Any) -> Any:
    """Numbers and yes or no, as YAML reads them unquoted, are the texts that a portal sends."""
    if isinstance(value, bool):
        return "Y" if value else "N"
    return str(value) if isinstance(value, int | float) else value


FieldName = Annotated[str, AfterValidator(_field_name)]
Value = Annotated[
    str, BeforeValidator(_plain_value), StringConstraints(max_length=1000, pattern=f"^[^{CONTROL_CLASS}]*$")
]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class FromField(_Frozen):
    """A field of the source, its values replaced by a table where there is one."""

    field: FieldName
    values: Mapping[Value, Value] | None = None
    otherwise: Value | None = None
    """For a value that is not in the table: `keep` leaves the target's own, anything else is written. Without it such a deal is not
    carried, and the run says which value it was."""

    @field_validator("values", mode="before")
    @classmethod
    def _keys(cls, value: Any) -> Any:
        return {_plain_value(key): one for key, one in value.items()} if isinstance(value, Mapping) else value

    @model_validator(mode="after")
    def _table(self) -> Self:
        if self.values is None and self.otherwise is not None:
            raise refused("otherwise: needs values", "otherwise: нужна таблица значений")
        if self.values is not None and not 1 <= len(self.values) <= MOST_VALUES:
            raise refused(
                f"values: must hold 1 to {MOST_VALUES} values", f"values: нужно от 1 до {MOST_VALUES} значений"
            )
        return self


class FromText(_Frozen):
    """A text with placeholders in braces."""

    text: Annotated[
        str, StringConstraints(min_length=1, max_length=2000, pattern=f"^[^{CONTROL_CLASS}]*$"), AfterValidator(_text)
    ]


class FromNow(_Frozen):
    """The time at which it is written: `iso` in UTC, or the company's `date`. Never a reason to write."""

    now: Literal["iso", "date"]


Rule = FromField | FromText | FromNow


def _rule(value: Any) -> Any:
    """A name alone is a field. Raises ValueError in the words of the rule that was meant."""
    if isinstance(value, FromField | FromText | FromNow):
        return value
    if isinstance(value, str):
        return FromField(field=value)
    if not isinstance(value, Mapping):
        raise refused(
            "must be a field's name, or a block with field, text or now",
            "нужно имя поля или блок с field, text или now",
        )
    kinds: dict[str, type[BaseModel]] = {"field": FromField, "text": FromText, "now": FromNow}
    meant = [kind for name, kind in kinds.items() if name in value]
    if len(meant) != 1:
        raise refused("must have exactly one of field, text and now", "нужно ровно одно из field, text и now")
    try:
        return meant[0].model_validate(value)
    except ValidationError as error:
        english, russian = [], []
        for one in error.errors(include_url=False, include_input=False):
            texts = (one.get("ctx") or {}).get("texts") or {"en": one["msg"], "ru": "значение не подходит"}
            place = ".".join(str(step) for step in one["loc"] if step != "[key]")
            english.append(f"{place}: {texts['en']}" if place else texts["en"])
            russian.append(f"{place}: {texts['ru']}" if place else texts["ru"])
        raise refused("; ".join(english), "; ".join(russian)) from None


class DealRoute(_Frozen):
    """One route. `application_token` is stored sealed, apart from the rest."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")]
    enabled: bool = True
    source: Annotated[str, AfterValidator(_key)]
    target: Annotated[str, AfterValidator(_key)]
    events: Annotated[tuple[EventName, ...], Field(min_length=1, max_length=2)] = EVENTS
    answer_within_ms: Annotated[int, Field(ge=0, le=25_000)] = 400
    source_field: FieldName | None = None
    allowed_domains: Annotated[tuple[Annotated[str, AfterValidator(_domain)], ...], Field(max_length=MOST_DOMAINS)] = ()
    """Empty: the source's own host alone."""
    application_token: Secret | None = None
    mapping: Annotated[
        Mapping[FieldName, Annotated[Rule, BeforeValidator(_rule)]], Field(min_length=1, max_length=MOST_FIELDS)
    ]
    contacts: bool = False
    company: bool = False
    recreate: bool = True
    """Whether a deal that was removed in the target is made anew when its source changes."""
    filter: Annotated[
        Mapping[FieldName, Annotated[tuple[Value, ...], Field(min_length=1, max_length=MOST_VALUES)]],
        Field(max_length=50),
    ] = {}

    @field_validator("application_token", mode="before")
    @classmethod
    def _no_token(cls, value: Any) -> Any:
        return None if isinstance(value, str) and not value.strip() else value

    @field_validator("application_token")
    @classmethod
    def _token(cls, value: Secret | None) -> Secret | None:
        if value is not None and value.reveal() != MASK and not re.fullmatch(r"[!-~]{8,500}", value.reveal()):
            raise refused("must be 8 to 500 characters without spaces", "нужно от 8 до 500 знаков без пробелов")
        return value

    @field_validator("events")
    @classmethod
    def _events(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(value))

    @field_validator("filter", mode="before")
    @classmethod
    def _filter(cls, value: Any) -> Any:
        """One value stands for a list of itself."""
        if not isinstance(value, Mapping):
            return value
        return {name: one if isinstance(one, list | tuple) else [one] for name, one in value.items()}

    @field_validator("mapping")
    @classmethod
    def _kept(cls, value: Mapping[str, Rule]) -> Mapping[str, Rule]:
        if own := sorted(value.keys() & KEPT):
            names = ", ".join(own)
            raise refused(
                f"{names} cannot be written: the target or the gateway keeps it",
                f"{names} не записывается: это поле ведёт сама CRM или шлюз",
            )
        return value

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.source == self.target:
            raise refused(
                "target: must be another integration than source", "target: нужна другая интеграция, чем source"
            )
        carried = {"CONTACT_ID", "CONTACT_IDS"} if self.contacts else set()
        carried |= {"COMPANY_ID"} if self.company else set()
        if twice := sorted(self.mapping.keys() & carried):
            names = ", ".join(twice)
            raise refused(
                f"mapping: {names} is written by contacts or company already",
                f"mapping: {names} уже записывается вместе с контактами или компанией",
            )
        return self

    @property
    def pair(self) -> tuple[IntegrationKey, IntegrationKey]:
        """From where to where."""
        return IntegrationKey(self.source), IntegrationKey(self.target)

    def plain(self) -> dict[str, Any]:
        """As the options have it: without the secret and without what is the default. A direct rule is a name again."""
        found = self.model_dump(mode="json", exclude_defaults=True, exclude={"application_token", "mapping"})
        return {**found, "mapping": {name: plain_rule(rule) for name, rule in self.mapping.items()}}

    def fit(self, domain: str, own: str = "") -> tuple[int, str]:
        """How exactly a domain fits the list, and by which entry: 0 not at all, 1 below a name with a star, 2 by itself, 3 as the
        source's own host, which is `own`."""
        wanted = domain.strip().rstrip(".").lower()
        bare = re.sub(r":[0-9]{1,5}$", "", wanted)
        if not bare or len(wanted) > 255:
            return 0, ""
        listed = self.allowed_domains or ((own.lower(),) if own else ())
        entry = next((one for one in listed if one in (wanted, bare)), "")
        rank = 2 if entry else 0
        if not entry:
            below = (one for one in listed if one.startswith("*.") and bare.endswith(one[1:]) and len(bare) >= len(one))
            entry = next(below, "")
            rank = 1 if entry else 0
        return (3, entry) if entry and own and own.lower() in (wanted, bare) else (rank, entry)


def plain_rule(rule: Rule) -> Any:
    """A rule as the tenant file has it."""
    if isinstance(rule, FromField) and rule.values is None:
        return rule.field
    return rule.model_dump(mode="json", exclude_none=True)


def secret_name(route: str) -> str:
    """Under which name a route's application token stands among the company's secrets."""
    return f"deal_route.{route}"


def _unique(routes: tuple[DealRoute, ...]) -> tuple[DealRoute, ...]:
    names = [route.name for route in routes]
    if twice := ", ".join(sorted({name for name in names if names.count(name) > 1})):
        raise refused(f"{twice} is there twice", f"{twice}: такое имя уже есть")
    return routes


Routes = Annotated[tuple[DealRoute, ...], Field(max_length=MOST_ROUTES), AfterValidator(_unique)]
_ROUTES: TypeAdapter[tuple[DealRoute, ...]] = TypeAdapter(Routes)


def routes_of(options: Mapping[str, Any], secrets: Mapping[str, Secret]) -> tuple[DealRoute, ...]:
    """A company's routes as they are stored, with their tokens. Raises ValidationError."""
    stored = options.get("deal_routes") or ()
    whole = [
        {**one, "application_token": secrets.get(secret_name(str(one.get("name"))))}
        if isinstance(one, Mapping)
        else one
        for one in stored
    ]
    return _ROUTES.validate_python(whole)
