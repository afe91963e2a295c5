"""The tenant file: what `gateway apply` reads and `gateway export` writes (YAML or JSON).

Validation returns every problem at once, each with its path, and knows the adapters' settings classes. It opens no
database. A little over 400 lines, for one block defines all that a tenant may be. Read `gateway.cli.tenants` next.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import phonenumbers
import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from adapters.abilities import KeepsExtensions
from adapters.base import Adapter, AdapterSettings, marked_fields, secret_fields
from adapters.deals import CarriesDeals
from adapters.fields import required
from adapters.registry import adapters, integrations
from adapters.unique_settings import refuse_short
from gateway.domain.ai import API_KEY, CALLS_API_KEY, AiBlock
from gateway.domain.chats import KEEP_DAYS as CHAT_KEEP_DAYS
from gateway.domain.configuration import is_device_name
from gateway.domain.deal_routes import Routes, secret_name
from gateway.domain.extensions import clashes, read_map
from gateway.domain.ids import Kind, TenantId, integration_key, kind_of
from gateway.domain.internal_numbers import (
    LONGEST,
    MOST_DIGITS,
    SHORTEST,
    InternalNumberRules,
    explained,
    wrong_with,
)
from gateway.domain.new_passwords import LEAST, MOST
from gateway.domain.orders import OrderRules
from gateway.domain.people import LONGEST_NAME, MEMBER_ROLES, MOST_PHONES, Role
from gateway.domain.recording_links import KEEP_DAYS
from gateway.domain.secret import MASK, Secret
from gateway.domain.text import CONTROL_CLASS
from gateway.domain.yaml_text import load_yaml
from gateway.notify_block import NotifyBlock, email_address
from gateway.tenant_content import BLOCKS, ContentBlock, read_content

MAP = "user_extensions"
"""The field of an integration's block that is no setting: it has a table of its own."""

Text = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=f"^[^{CONTROL_CLASS}]*$")
]


def _timezone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("is not a time zone; write one such as Europe/Minsk") from None
    return name


def _country(code: str) -> str:
    if code not in phonenumbers.SUPPORTED_REGIONS:
        raise ValueError("is not a country code; write two letters such as BY")
    return code


def _member_role(role: Role) -> Role:
    if role not in MEMBER_ROLES:
        raise ValueError(f"must be one of {', '.join(MEMBER_ROLES)}")
    return role


def _long_password(secret: Secret) -> Secret:
    """One of 8 that is stored already may stay as it is: what is new is judged where that is known."""
    if secret.reveal() != MASK and not 8 <= len(secret.reveal()) <= MOST:
        raise ValueError(f"must be {LEAST} to {MOST} characters long")
    return secret


def _long_token(secret: Secret) -> Secret:
    if secret.reveal() != MASK and not 32 <= len(secret.reveal()) <= 256:
        raise ValueError("must be 32 to 256 characters long")
    return secret


def _device(name: str) -> str:
    if not is_device_name(name):
        raise ValueError("must be the name of a device, such as 151, DAHDI/7 or 101@acme")
    return name


class _Block(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class UserBlock(_Block):
    """A person who signs in."""

    email: Annotated[str, AfterValidator(email_address)]
    password: Annotated[Secret, AfterValidator(_long_password)]
    role: Annotated[Role, AfterValidator(_member_role)] = Role.ADMIN
    name: Annotated[str, StringConstraints(max_length=LONGEST_NAME, pattern=f"^[^{CONTROL_CLASS}]*$")] = ""
    phones: Annotated[
        tuple[Annotated[str, StringConstraints(pattern=r"^[0-9]{1,15}$")], ...], Field(max_length=MOST_PHONES)
    ] = ()


class PhoneBlock(_Block):
    """An internal number."""

    number: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,15}$")]
    owner: Annotated[str, StringConstraints(max_length=200, pattern=f"^[^{CONTROL_CLASS}]*$")] = ""
    endpoints: tuple[Annotated[str, AfterValidator(_device)], ...] = ()


class ClickToCallBlock(_Block):
    """Who may make us dial what."""

    countries: tuple[Annotated[str, AfterValidator(_country)], ...] = ()
    prefixes: tuple[Annotated[str, StringConstraints(pattern=r"^\+?[0-9]{1,15}$")], ...] = ()
    per_user_minute: Annotated[int, Field(ge=0, le=1000)] = 10
    per_user_day: Annotated[int, Field(ge=0, le=100_000)] = 200
    per_company_minute: Annotated[int, Field(ge=0, le=10_000)] = 60
    concurrent: Annotated[int, Field(ge=0, le=1000)] = 10
    hours: Annotated[str, StringConstraints(pattern=r"^([01]\d|2[0-3]):[0-5]\d-(([01]\d|2[0-3]):[0-5]\d|24:00)$")] = (
        "00:00-24:00"
    )


class InternalNumbersBlock(_Block):
    """What may be an internal number beyond the usual: an operator's decision, so it stands in this file alone."""

    longest: Annotated[int, Field(ge=SHORTEST, le=MOST_DIGITS)] = LONGEST
    service_numbers: tuple[Annotated[str, StringConstraints(pattern=r"^[0-9x]{2,15}$")], ...] = ()


class SmartRedirectBlock(_Block):
    """Sending callers to whoever is responsible for them."""

    by_gateway: bool = False
    """By ourselves when a call comes in; otherwise only when the dialplan requests it."""
    default: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,15}$")] | None = None
    """The internal number for callers nobody is responsible for; null leaves them where they are."""


class RecordingsBlock(_Block):
    """How long recordings are kept, and whether hosts that post calls send one of each answered call."""

    keep_days: Annotated[int, Field(ge=1, le=3650)] = KEEP_DAYS
    posted: bool = False


class ChatsBlock(_Block):
    """How long messages are kept, with their files."""

    keep_days: Annotated[int, Field(ge=1, le=3650)] = CHAT_KEEP_DAYS


class SecurityBlock(_Block):
    """How the company's people sign in."""

    require_second_factor: bool = False
    """Nothing opens for those who have none before they have set one up."""


class TenantBlock(_Block):
    """One enterprise. PBXes and integrations are validated by their adapters."""

    number: Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z_-]{1,32}$")]
    name: Text
    token: Annotated[Secret, AfterValidator(_long_token)] | None = None
    timezone: Annotated[str, AfterValidator(_timezone)] = "UTC"
    country: Annotated[str, AfterValidator(_country)]
    language: Annotated[str, StringConstraints(pattern="^(ru|en)$")] = "ru"
    legacy_call_token: bool = False
    users: tuple[UserBlock, ...] = ()
    phones: tuple[PhoneBlock, ...] = ()
    click_to_call: ClickToCallBlock = ClickToCallBlock()
    internal_numbers: InternalNumbersBlock = InternalNumbersBlock()
    smart_redirect: SmartRedirectBlock = SmartRedirectBlock()
    recordings: RecordingsBlock = RecordingsBlock()
    chats: ChatsBlock = ChatsBlock()
    orders: OrderRules = OrderRules()
    security: SecurityBlock = SecurityBlock()
    notify: NotifyBlock = NotifyBlock()
    ai: AiBlock = AiBlock()
    deal_routes: Routes = ()


@dataclass(frozen=True, slots=True)
class LinkBlock:
    """A PBX or an integration as the file gives it: only the fields that stand there, secrets as `Secret`."""

    name: str
    adapter: Adapter
    enabled: bool
    given: Mapping[str, Any]
    extensions: Mapping[str, str | None] | None = None
    """Internal numbers of its users; None where the file does not name them and they stay as they are."""


@dataclass(frozen=True, slots=True)
class TenantFile:
    """One tenant of a valid file, and where it stands there."""

    path: str
    block: TenantBlock
    pbxes: tuple[LinkBlock, ...]
    integrations: tuple[LinkBlock, ...]
    content: ContentBlock = field(default_factory=ContentBlock)

    @property
    def number(self) -> TenantId:
        """The tenant."""
        return TenantId(self.block.number)

    @property
    def options(self) -> dict[str, Any]:
        """What is stored in the tenant's options: only what differs from the defaults."""
        given = self.block.model_dump(
            mode="json",
            include={
                "chats",
                "click_to_call",
                "internal_numbers",
                "legacy_call_token",
                "notify",
                "orders",
                "recordings",
                "security",
                "smart_redirect",
            },
            exclude_defaults=True,
        )
        found = {name: value for name, value in given.items() if value} | {"ai": self.block.ai.plain()}
        found["deal_routes"] = [route.plain() for route in self.block.deal_routes]
        return {name: value for name, value in found.items() if value}

    @property
    def secrets(self) -> dict[str, Secret]:
        """The secrets among the options, by name; `***` stands for the stored one."""
        keys = {API_KEY: self.block.ai.llm.api_key, CALLS_API_KEY: self.block.ai.calls.api_key}
        keys |= {secret_name(route.name): route.application_token for route in self.block.deal_routes}
        return {name: key for name, key in keys.items() if key is not None}

    def place_of_secret(self, name: str) -> str:
        """Where a secret among the options stands in the file."""
        for place, route in enumerate(self.block.deal_routes):
            if secret_name(route.name) == name:
                return f"{self.path}.deal_routes[{place}].application_token"
        return f"{self.path}.ai.{name}"


@dataclass(slots=True)
class Problems:
    """Everything wrong with a file; `found` is complete before anything is changed."""

    found: list[str] = field(default_factory=list)

    def add(self, path: str, text: str) -> None:
        """One problem at one place."""
        self.found.append(f"{path}: {text}" if path else text)

    def pydantic(
        self, path: str, error: ValidationError, known: frozenset[str] = frozenset(), of: type[AdapterSettings] | None = None
    ) -> None:  # fmt: skip
        """Every problem of one block. Inputs are left out: they may hold secrets. Fields of `known` may be missing. `of`: whose
        settings they are."""
        found: dict[str, str] = {}
        for item in error.errors(include_url=False, include_input=False):
            if item["type"] == "missing" and str(item["loc"][-1]) in known:
                continue
            place = path
            for step in item["loc"]:
                if isinstance(step, int):
                    place += f"[{step}]"
                elif "[" not in step:  # a step such as `is-instance[Secret]` is the way, not the place
                    place += f".{step}"
            text = item["msg"].removeprefix("Value error, ")
            if of is not None and item["type"] == "missing" and len(item["loc"]) == 1:
                text = required(of, str(item["loc"][0]))
            found[place] = "no such field" if item["type"] == "extra_forbidden" else text[:1].lower() + text[1:]
        for place, text in found.items():
            self.add(place, text)


def read_tenant_files(paths: Iterable[str]) -> tuple[list[TenantFile], list[str]]:
    """The tenants of all files, and every problem found; with a problem nothing may be applied."""
    tenants: list[TenantFile] = []
    problems = Problems()
    files = list(paths)
    for path in files:
        try:
            data = load_yaml(Path(path).read_text("utf-8"))
        except OSError as error:
            problems.add(path, error.strerror or "cannot be read")
        except UnicodeDecodeError:
            problems.add(path, "is not UTF-8 text")
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
            problems.add(
                path, f"is neither YAML nor JSON{where}: {getattr(error, 'problem', '') or 'cannot be parsed'}"
            )
        except (ValueError, RecursionError):  # a date such as 2026-99-99, or lists without end
            problems.add(path, "holds a value that YAML cannot be made of")
        else:
            tenants += _read(data, f"{path}: " if len(files) > 1 else "", problems)
    for number, times in Counter(tenant.number for tenant in tenants).items():
        if times > 1:
            problems.add("tenants", f"{number} is there {times} times")
    return tenants, problems.found


def _read(data: Any, file: str, problems: Problems) -> list[TenantFile]:
    blocks = data.get("tenants") if isinstance(data, dict) else None
    if not isinstance(blocks, list):
        problems.add(f"{file}tenants", "the file must hold a list under this name")
        return []
    assert isinstance(data, dict)
    for name in data:
        if name != "tenants":
            problems.add(f"{file}{name}", "no such field")
    found = [_tenant(block, f"{file}tenants[{place}]", problems) for place, block in enumerate(blocks)]
    return [tenant for tenant in found if tenant is not None]


def _tenant(data: Any, path: str, problems: Problems) -> TenantFile | None:
    if not isinstance(data, dict):
        problems.add(path, "must be a block of fields")
        return None
    own = {str(k): v for k, v in data.items() if k not in ("pbxes", "integrations", *BLOCKS)}
    block: TenantBlock | None = None
    try:
        block = TenantBlock.model_validate(own)
    except ValidationError as error:
        problems.pydantic(path, error)
    pbxes = _pbxes(data.get("pbxes"), f"{path}.pbxes", problems)
    links = _integrations(data.get("integrations"), f"{path}.integrations", problems)
    content = read_content(data, path, problems.add)
    if block is None:
        return None
    _repeats((phone.number for phone in block.phones), f"{path}.phones", problems)
    _judge_numbers(block, links, path, problems)
    _judge_routes(block, path, problems)
    _repeats((user.email for user in block.users), f"{path}.users", problems)
    return TenantFile(path, block, pbxes, links, content)


def _judge_numbers(block: TenantBlock, links: Iterable[LinkBlock], path: str, problems: Problems) -> None:
    rules = InternalNumberRules(block.internal_numbers.longest, block.internal_numbers.service_numbers)
    given = [(f"{path}.phones[{place}].number", phone.number) for place, phone in enumerate(block.phones)]
    if block.smart_redirect.default is not None:
        given.append((f"{path}.smart_redirect.default", block.smart_redirect.default))
    for link in links:
        stated = (link.extensions or {}).items()
        given += [(f"{path}.integrations.{link.name}.{MAP}.{user}", value) for user, value in stated if value]
    for where, number in given:
        if (reason := wrong_with(number, block.country, rules)) is not None:
            problems.add(where, explained(reason, number, block.country, rules))


def _judge_routes(block: TenantBlock, path: str, problems: Problems) -> None:
    """Both ends are of kinds that can do it. Whether they are there is judged where stored integrations are known."""
    able = [kind for kind, adapter in integrations().items() if adapter.can(CarriesDeals)]
    for place, route in enumerate(block.deal_routes):
        for end, key in zip(("source", "target"), route.pair, strict=True):
            if kind_of(key) not in able:
                problems.add(
                    f"{path}.deal_routes[{place}].{end}",
                    f"must be an integration that carries deals: {', '.join(able)}, each also as KIND:NAME",
                )


def _repeats(names: Iterable[str], path: str, problems: Problems) -> None:
    for name, times in Counter(names).items():
        if times > 1:
            problems.add(path, f"{name} is there {times} times")


def _pbxes(data: Any, path: str, problems: Problems) -> tuple[LinkBlock, ...]:
    if data is None:
        return ()
    if not isinstance(data, list):
        problems.add(path, "must be a list")
        return ()
    kinds = {kind: adapter for kind, adapter in adapters().items() if adapter.is_pbx}
    found: list[LinkBlock] = []
    for place, item in enumerate(data):
        where = f"{path}[{place}]"
        if not isinstance(item, dict):
            problems.add(where, "must be a block of fields")
            continue
        fields = {str(k): v for k, v in item.items()}
        name, kind = fields.pop("name", ""), fields.pop("type", next(iter(kinds)))
        if not isinstance(name, str) or not re.fullmatch("[0-9A-Za-z_-]{1,32}", name):
            problems.add(f"{where}.name", "must be 1 to 32 letters, digits, - or _")
        if not isinstance(kind, str) or kind not in kinds:
            problems.add(f"{where}.type", f"must be one of {', '.join(kinds)}")
            continue
        link = _link(str(name), kinds[Kind(kind)], fields, where, problems)
        if link is not None:
            found.append(link)
    _repeats((link.name for link in found), path, problems)
    return tuple(found)


def _integrations(data: Any, path: str, problems: Problems) -> tuple[LinkBlock, ...]:
    if data is None:
        return ()
    if not isinstance(data, dict):
        problems.add(path, "must be a block of integrations by name")
        return ()
    known = integrations()
    found: list[LinkBlock] = []
    for name, item in data.items():
        where = f"{path}.{name}"
        try:
            adapter = known.get(kind_of(integration_key(str(name))))
        except ValueError as error:
            problems.add(where, str(error))
            continue
        if adapter is None:
            problems.add(where, f"no such integration; there are {', '.join(known)}, each also as KIND:NAME")
        elif not isinstance(item, dict):
            problems.add(where, "must be a block of fields")
        else:
            link = _link(str(name), adapter, {str(k): v for k, v in item.items()}, where, problems)
            if link is not None:
                found.append(link)
    return tuple(found)


def _link(name: str, adapter: Adapter, fields: dict[str, Any], path: str, problems: Problems) -> LinkBlock | None:
    enabled = fields.pop("enabled", True)
    if not isinstance(enabled, bool):
        problems.add(f"{path}.enabled", "must be true or false")
    has_map = MAP in fields and adapter.can(KeepsExtensions)
    extensions = _extensions(adapter, fields.pop(MAP), path, problems) if has_map else None
    secrets = secret_fields(adapter.settings)
    # A masked secret stands for the stored one: it is checked when it is known (`complete`).
    masked = frozenset(name for name in secrets if fields.get(name) == MASK)
    try:
        adapter.settings.model_validate({k: v for k, v in fields.items() if k not in masked})
    except ValidationError as error:
        before = len(problems.found)
        problems.pydantic(path, error, masked, adapter.settings)
        if len(problems.found) > before:
            return None
    given = {k: Secret(str(v)) if k in secrets and v is not None else v for k, v in fields.items()}
    return LinkBlock(name, adapter, bool(enabled), given, extensions)


def _extensions(adapter: Adapter, data: Any, path: str, problems: Problems) -> dict[str, str | None]:
    """A map of users to internal numbers; nothing in the file is an empty one."""
    if not isinstance(data, Mapping | None):
        problems.add(f"{path}.{MAP}", "must map users to internal numbers")
        return {}
    values, wrong = read_map((data or {}).items(), adapter.user_id)
    for user, text in wrong:
        problems.add(f"{path}.{MAP}.{user}" if user else f"{path}.{MAP}", text)
    for number, users in clashes(values).items():
        problems.add(f"{path}.{MAP}", f"a number with two owners ({number}: {', '.join(users)})")
    return values


def complete(link: LinkBlock, stored: Mapping[str, Any]) -> AdapterSettings:
    """The block's settings with what is stored in place of `***`, of secrets the file does not name, and of fields that
    our pages fill in.

    Raises ValidationError when a masked secret has nothing stored, or a new client id is short enough to be guessed.
    """
    secrets = secret_fields(link.adapter.settings)
    values = {k: v for k, v in link.given.items() if not (k in secrets and v == Secret(MASK))}
    for name in secrets | marked_fields(link.adapter.settings, "stored"):
        if name not in values and name in stored:
            values[name] = stored[name]
    settings = link.adapter.settings.model_validate(values)
    refuse_short(settings, stored)
    return settings


def plain_and_secret(settings: AdapterSettings) -> tuple[dict[str, Any], dict[str, Secret]]:
    """Settings as they are stored: what is not secret as JSON values, and the secrets apart."""
    names = secret_fields(type(settings))
    plain = json.loads(settings.model_dump_json(by_alias=True, exclude=set(names)))
    secrets = {name: value for name in names if isinstance(value := getattr(settings, name), Secret)}
    return plain, secrets


def token_hash(token: Secret) -> bytes:
    """What is stored of a tenant's token. It has 32 characters or more, so a plain SHA-256 resists guessing."""
    return hashlib.sha256(token.reveal().encode()).digest()
