"""Saving the settings of an integration or a PBX: checked, secrets sealed with the tenant's key, audited.

    row under its lock -> the change -> the settings class -> the row, and a line in the audit trail; one transaction

A stored secret is never sent to a changed address: it has to be entered again. Fields that a change does not name
keep their current values. A client id belongs to one integration of the
installation. Knows no adapter and no form: read
`gateway/web/pages/setup.py` and `gateway/web/api/extensions.py` for those.
"""

from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import contextmanager
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from adapters.base import AdapterSettings, marked_fields, secret_fields
from adapters.fields import required
from adapters.unique_settings import account_hash, refuse_short, unique_hash
from gateway.cache import open_secrets
from gateway.domain.configuration import Connector
from gateway.domain.ids import IntegrationKey, TenantId, kind_of
from gateway.domain.posts import Invalid
from gateway.domain.secret import MASK, Secret
from gateway.domain.text import Bilingual, path_of
from gateway.store import tenants as store
from gateway.store.audit import difference, insert_audit
from gateway.store.postgres.errors import Conflict
from gateway.store.postgres.pool import Connection, Database
from gateway.store.secrets.seal import MasterKeys, Sealer
from gateway.store.tenants import LinkRow, LinkTable
from gateway.web.pages.field_errors import ENTER_AGAIN

TAKEN = Bilingual(
    "cannot be used: leave the field empty and one is generated",
    "использовать нельзя: оставьте поле пустым, и он будет создан автоматически",
)
"""Error for a client id that another integration of the installation has. It does not reveal whose."""


ACCOUNT_TAKEN = Bilingual(
    "another integration is connected to this account already; an account can be connected once",
    "этот аккаунт уже подключён к другой интеграции; аккаунт можно подключить один раз",
)
"""Error for an account that another integration of the installation leads to. It does not reveal whose."""
_TAKEN_BY = {store.CLIENT_ID_TAKEN: ("unique", TAKEN), store.ACCOUNT_TAKEN: ("account", ACCOUNT_TAKEN)}


class SecretsStay(Exception):
    """Stored secrets would go to another address: `fields` have to be entered again."""

    def __init__(self, fields: frozenset[str]) -> None:
        super().__init__(", ".join(sorted(fields)))
        self.fields = fields


def settings_of_change(
    model: type[AdapterSettings], stored: Mapping[str, Any], values: Mapping[str, Any], unchanged: Set[str]
) -> AdapterSettings:
    """Valid settings of `values`, where the secrets in `unchanged` are the stored ones. Raises ValidationError; SecretsStay where
    one of those would go to another address than before. A generated secret is generated anew instead: nobody knows it."""
    settings = model.model_validate(dict(values))
    stay = {name for name in _left_behind(stored, settings) & unchanged if stored.get(name)}
    if renewed := {name for name in stay if _makes_itself(model.model_fields[name])}:
        settings = model.model_validate({name: value for name, value in values.items() if name not in renewed})
    if stay - renewed:
        raise SecretsStay(frozenset(stay - renewed))
    refuse_short(settings, stored)
    return settings


def _left_behind(before: Mapping[str, Any], after: AdapterSettings) -> frozenset[str]:
    """The secrets whose address differs between stored settings (by alias) and valid new ones. Whoever may set an address
    need not know the secret, so one that is stored must not be sent to the new place."""
    found: set[str] = set()
    for name, info in type(after).model_fields.items():
        leads = info.json_schema_extra.get("leads") if isinstance(info.json_schema_extra, dict) else None
        if not isinstance(leads, list) or not (new := getattr(after, name)):
            continue
        if before.get(info.alias or name, info.get_default(call_default_factory=True, validated_data={})) != new:
            found |= {str(secret) for secret in leads}
    return frozenset(found)


def _makes_itself(info: FieldInfo) -> bool:
    return bool(info.get_default(call_default_factory=True, validated_data={})) and not info.is_required()


def changed_settings(
    model: type[AdapterSettings], stored: Mapping[str, Any], sent: Mapping[str, Any]
) -> AdapterSettings:
    """Valid settings of the stored ones with the fields that a program sent in their place; a secret sent as its mask stays. Raises
    Invalid with every problem by field."""
    secrets = secret_fields(model)
    unchanged = {name for name in secrets if sent.get(name, MASK) == MASK}
    named = {name: value for name, value in sent.items() if name not in unchanged}
    values = {name: Secret(v) if name in secrets and isinstance(v, str) else v for name, v in named.items()}
    try:
        return settings_of_change(model, stored, {**stored, **values}, unchanged)
    except SecretsStay as stay:
        raise Invalid(tuple((name, ENTER_AGAIN["en"]) for name in sorted(stay.fields))) from None
    except ValidationError as error:
        raise Invalid(settings_problems(error, model)) from None


def settings_problems(error: ValidationError, model: type[AdapterSettings]) -> tuple[tuple[str, str], ...]:
    """Every problem by field, in English, without what was sent."""
    found: dict[str, str] = {}
    for item in error.errors(include_input=False, include_context=False, include_url=False):
        place = path_of([part for part in item["loc"] if isinstance(part, int) or "[" not in part]) or "body"
        text = "no such field" if item["type"] == "extra_forbidden" else item["msg"].removeprefix("Value error, ")
        if item["type"] == "missing" and len(item["loc"]) == 1:
            text = required(model, place)
        found.setdefault(place[:100], text)
    return tuple(found.items())


def shown_settings(model: type[AdapterSettings], stored: Mapping[str, Any]) -> dict[str, Any]:
    """Stored settings as they may be shown: what is missing by its default, secrets masked."""
    secrets, values = secret_fields(model), dict[str, Any]()
    for name, info in model.model_fields.items():
        key = info.alias or name
        value = stored.get(key, info.get_default(call_default_factory=True) if not info.is_required() else None)
        if isinstance(value, AdapterSettings):
            value = value.model_dump(mode="json", by_alias=True)
        elif isinstance(value, tuple):
            value = [
                one.model_dump(mode="json", by_alias=True) if isinstance(one, AdapterSettings) else one for one in value
            ]
        values[key] = (MASK if value else None) if name in secrets else value
    return values


async def save_settings(
    db: Database, master: MasterKeys, of: LinkTable, number: TenantId, link: Connector, settings: AdapterSettings, person: str,
    *, enabled: bool | None = None,
) -> None:  # fmt: skip
    """Stores a PBX's or an integration's valid settings, all of them. One that was not set up yet is switched on by this,
    unless `enabled` says otherwise. Raises Invalid where another integration has its client id or account."""
    sealer = await sealer_of(db, master, number)
    with _taken_named(type(settings)):
        await db.tenant(number, _save, of, number, link, settings, sealer, person, enabled)


async def change_settings(
    db: Database, master: MasterKeys, number: TenantId, key: IntegrationKey, change: Callable[[Mapping[str, Any]], AdapterSettings],
    named: Set[str], enabled: bool | None, person: str, model: type[AdapterSettings],
) -> bool:  # fmt: skip
    """Changes the fields that are `named`, and the switch unless None: `change` makes valid settings of the stored ones, and
    what it raises changes nothing. Whether there was something to do. Raises Invalid where nothing is set up, or another integration has the client id."""
    sealer = await sealer_of(db, master, number)
    with _taken_named(model):
        return await db.tenant(number, _change, number, key, change, named, enabled, sealer, person)


@contextmanager
def _taken_named(model: type[AdapterSettings]) -> Iterator[None]:
    try:
        yield
    except Conflict as conflict:
        if conflict.constraint not in _TAKEN_BY:
            raise
        mark, text = _TAKEN_BY[conflict.constraint]
        raise Invalid(tuple((name, text) for name in sorted(marked_fields(model, mark)))) from None


async def sealer_of(db: Database, master: MasterKeys, number: TenantId) -> Sealer:
    """What seals the secrets of a company."""
    row = (await db.engine(store.select_tenants, [number]))[0]
    await master.prepare([(number, row.data_key)])
    return master.sealer(number, row.data_key)


async def _save(
    conn: Connection,
    of: LinkTable,
    number: TenantId,
    link: Connector,
    settings: AdapterSettings,
    sealer: Sealer,
    person: str,
    switch: bool | None,
) -> None:
    known = await store.lock_link(conn, of, number, link.name)
    plain, sealed = _stored(sealer, of.table, link.name, settings)
    enabled = switch if switch is not None else known.enabled if known is not None else True
    hashes = unique_hash(settings), account_hash(link.kind, settings)
    row = LinkRow(link.name, link.kind, enabled, plain, sealed, *hashes)
    await store.upsert_link(conn, of, number, row)
    opened = open_secrets(known, of.table, sealer) if known is not None else {}
    old, new = difference(opened if known is not None else None, {**plain, **_secrets(settings)})
    changed = _changed(known.settings if known is not None else {}, plain, _new_secrets(opened, settings))
    if of is store.PBXES:
        action, changed = ("pbx.changed", changed) if known is not None else ("pbx.added", "")
    else:
        action = "config.changed"
    await insert_audit(conn, number, person, action, link.name, changed, old=old, new=new)


async def _change(
    conn: Connection, number: TenantId, key: IntegrationKey, change: Callable[[Mapping[str, Any]], AdapterSettings],
    named: Set[str], enabled: bool | None, sealer: Sealer, person: str,
) -> bool:  # fmt: skip
    known = await store.lock_link(conn, store.INTEGRATIONS, number, key)
    if known is None:
        raise Invalid((("body", "set the integration up first"),))
    switched = enabled is not None and enabled != known.enabled
    if not named and not switched:
        return False
    plain, sealed, hashes = known.settings, known.secrets, (known.client_id_hash, known.account_hash)
    fresh: Set[str] = frozenset()
    before: dict[str, Any] = {"enabled": known.enabled}
    after: dict[str, Any] = {"enabled": known.enabled if enabled is None else enabled}
    if named:
        opened = open_secrets(known, "integrations", sealer)
        settings = change(opened)
        fresh = _new_secrets(opened, settings)
        plain, sealed = _stored(sealer, "integrations", key, settings)
        hashes = unique_hash(settings), account_hash(kind_of(key), settings)
        before |= opened
        after |= {**plain, **_secrets(settings)}
    row = LinkRow(key, known.kind, known.enabled if enabled is None else enabled, plain, sealed, *hashes)
    await store.upsert_link(conn, store.INTEGRATIONS, number, row)
    shown = [f"{name}{CHANGED_MARK}" if name in fresh else name for name in sorted(named)]
    detail = ", ".join([*shown, *(["enabled"] if switched else [])])
    old, new = difference(before, after)
    await insert_audit(conn, number, person, "config.changed", key, detail, old=old, new=new)
    return True


CHANGED_MARK = ": *** -> *** changed"
"""Stands in the audit behind the name of a secret whose value has changed."""


def _new_secrets(before: Mapping[str, Any], after: AdapterSettings) -> frozenset[str]:
    """The secrets whose value differs from the stored one, by name."""
    return frozenset(
        name for name in secret_fields(type(after)) if (getattr(after, name) or None) != (before.get(name) or None)
    )


def _changed(before: Mapping[str, Any], after: Mapping[str, Any], fresh: Set[str]) -> str:
    """What differs, by name; a secret's value is never shown."""
    names = {field: field for field in after if field not in before or before[field] != after[field]}
    return ", ".join(sorted({**names, **{name: f"{name}{CHANGED_MARK}" for name in fresh}}.values()))


def _secrets(settings: AdapterSettings) -> dict[str, Secret]:
    """The secrets that are set, by name; they print as `***`."""
    return {
        name: value for name in secret_fields(type(settings)) if isinstance(value := getattr(settings, name), Secret)
    }


def _stored(sealer: Sealer, table: str, row: str, settings: AdapterSettings) -> tuple[dict[str, Any], dict[str, str]]:
    """Settings as they are stored: what is not secret, and the sealed secrets."""
    secret_names = secret_fields(type(settings))
    dumped = settings.model_dump(mode="json", by_alias=True)
    plain = {name: value for name, value in dumped.items() if name not in secret_names}
    sealed = {
        name: sealer.seal(value, table=table, column=name, row=row)
        for name in secret_names
        if isinstance(value := getattr(settings, name), Secret)
    }
    return plain, sealed
