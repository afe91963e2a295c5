"""`gateway apply` and `gateway export`: tenants declared in a file, and the same file back.

`apply` is idempotent: it compares with what is stored, secrets opened, and writes only what differs. Read
`gateway.tenant_file` for what a file may contain.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import yaml
from pydantic import ValidationError

from adapters.registry import adapters
from adapters.unique_settings import account_hash, unique_hash
from gateway.cache import assemble, open_secrets, tenant_secrets
from gateway.cli.api_keys import ACTOR
from gateway.cli.changes import Changes
from gateway.cli.tenant_content import EMPTY, StoredContent, compare_content, export_content, select_content
from gateway.domain.ai import secrets_of
from gateway.domain.ids import IntegrationKey, Kind, TenantId
from gateway.domain.new_passwords import wrong_with_password
from gateway.domain.people import Role
from gateway.domain.secret import MASK, Secret
from gateway.store import members, users
from gateway.store import tenants as store
from gateway.store.audit import insert_audit
from gateway.store.postgres.errors import BadData, BadMasterKey, Conflict
from gateway.store.postgres.pool import Connection, Database
from gateway.store.secrets.seal import MasterKeys, Sealer, new_data_key
from gateway.store.tenant_deletions import select_deletions
from gateway.store.user_extensions import replace_map
from gateway.tenant_file import (
    MAP,
    LinkBlock,
    Problems,
    TenantFile,
    complete,
    plain_and_secret,
    read_tenant_files,
    token_hash,
)
from gateway.web.session.passwords import hash_password, password_fits

_TAKEN = {
    store.CLIENT_ID_TAKEN: "another integration has this client id; client ids must differ",
    store.ACCOUNT_TAKEN: "another integration is connected to this account; an account can be connected once",
}


class Refused(Exception):
    """The files are not applied; `problems` lists everything wrong with them."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


async def apply(db: Database, master: MasterKeys, paths: list[str], *, dry_run: bool, prune: bool) -> list[str]:
    """Applies the files, all or nothing. Returns a line for every change. Raises Refused and changes nothing."""
    tenants, problems = read_tenant_files(paths)
    known = {row.tenant: row for row in await db.engine(store.select_tenants, None)}
    accounts = await db.engine(users.select_all_accounts)
    people = {(account.tenant, account.email): account for account in accounts}
    going = {one.tenant for one in await db.engine(select_deletions)}
    everything = Changes()
    everything.owners = {
        hashed: (row.tenant, link.name)
        for row in known.values() for link in row.integrations for hashed in (link.client_id_hash, link.account_hash) if hashed
    }  # fmt: skip
    found = Problems(problems)
    for tenant in tenants:
        if tenant.number in going:
            found.add(f"{tenant.path}.number", "this company is being deleted; apply it again when it is gone")
    await master.prepare([(number, row.data_key) for number, row in known.items()])
    for tenant in tenants:
        row = known.get(tenant.number)
        data_key = row.data_key if row is not None else await master.wrapped(tenant.number, new_data_key())
        _compare(tenant, row, data_key, people, master, prune, everything, found)
        content = (
            await db.engine(select_content, tenant.number) if row is not None and (prune or tenant.content) else EMPTY
        )
        _compare_content(tenant, content, prune, everything, found)
    tokens = {row.token_hash: row.tenant for row in known.values() if row.token_hash}
    for tenant in tenants:
        token = tenant.block.token
        if token is not None and token.reveal() != MASK:
            owner = tokens.setdefault(token_hash(token), tenant.number)
            if owner != tenant.number:
                found.add(f"{tenant.path}.token", "another tenant has this token; tokens must differ")
    if found.found:
        raise Refused(found.found)
    if not dry_run and everything.steps:
        try:
            await db.engine(_carry_out, everything)
        except Conflict as conflict:
            if conflict.constraint not in _TAKEN:
                raise
            raise Refused([_TAKEN[conflict.constraint]]) from None
        except BadData as error:
            if error.constraint != "master_key_in_force":
                raise
            raise BadMasterKey(
                person="The master key was replaced while this ran; nothing was changed. Run it again."
            ) from None
    return everything.lines


async def _carry_out(conn: Connection, changes: Changes) -> None:
    async with conn.transaction():
        for function, args in changes.steps:
            await function(conn, *args)
        # By tenant: two applies hold trails in the same order.
        for tenant, action, target, old, new in sorted(changes.trail, key=lambda line: line[0]):
            await insert_audit(conn, tenant, ACTOR, action, target, old=old, new=new)


async def _remove_person(conn: Connection, number: TenantId, email: str, changes: Changes) -> None:
    for hint in await members.end_membership(conn, number, email):
        ended = members.key_ended(email)
        changes.trail.append((number, "api_key.revoked", hint, ended["old"], ended["new"]))


def _compare(
    tenant: TenantFile, row: store.TenantRow | None, data_key: str, people: Mapping[tuple[TenantId | None, str], users.Account],
    master: MasterKeys, prune: bool, out: Changes, problems: Problems,
) -> None:  # fmt: skip
    number, block, path, label = tenant.number, tenant.block, tenant.path, f"tenant {tenant.number}"
    sealer = master.sealer(number, data_key)
    masked = block.token is not None and block.token.reveal() == MASK
    if masked and (row is None or row.token_hash is None):
        problems.add(f"{path}.token", "*** keeps the stored token, and none is stored")
    kept = row.token_hash if row else None
    hashed = token_hash(block.token) if block.token is not None and not masked else kept
    opened = tenant_secrets(row, sealer) if row is not None else {}
    wanted = dict[str, Secret]()
    for name, secret in tenant.secrets.items():
        if secret.reveal() == MASK and name not in opened:
            problems.add(f"{path}.ai.{name}", "*** keeps the stored secret, and none is stored")
        wanted[name] = opened.get(name, secret) if secret.reveal() == MASK else secret
    same = wanted == opened and row is not None
    own = store.TenantRow(
        number, block.name, block.timezone, block.country, block.language, hashed, data_key, tenant.options, 0, (), (), (),
        secrets=row.secrets if same and row is not None else {
            name: sealer.seal(secret, table="tenants", column=name, row=number) for name, secret in wanted.items()
        },
    )  # fmt: skip
    if row is None:
        out.add(f"{label}: created", store.upsert_tenant, own)
        out.record(number, "tenant.created", number, None, _shown_tenant(own) | wanted)
    else:
        fields = ("name", "timezone", "country", "language", "token_hash", "options", "secrets")
        differ = [name.removesuffix("_hash") for name in fields if getattr(row, name) != getattr(own, name)]
        if differ:
            out.add(f"{label}: {', '.join(differ)} changed", store.upsert_tenant, own)
            out.record(number, "tenant.changed", number, _shown_tenant(row) | opened, _shown_tenant(own) | wanted)
    _compare_phones(tenant, row, prune, label, out)
    _compare_links(
        tenant.pbxes, row.pbxes if row else (), store.PBXES, sealer, (number, label, path), prune, out, problems
    )
    _compare_links(
        tenant.integrations, row.integrations if row else (), store.INTEGRATIONS, sealer, (number, label, path), prune, out,
        problems, row.user_extensions if row else {},
    )  # fmt: skip
    for place, user in enumerate(block.users):
        stored = people.get((number, user.email))
        described = user.role, user.name, user.phones
        if user.password.reveal() == MASK:
            if stored is None:
                problems.add(f"{path}.users[{place}].password", "*** keeps the stored password, and none is stored")
                continue
        elif stored is None or not password_fits(stored.password_hash, user.password):
            if wrong := wrong_with_password(user.password.reveal(), user.email):
                problems.add(f"{path}.users[{place}].password", wrong)
                continue
            word = "added" if stored is None else "password changed"
            action = "user.added" if stored is None else "user.password_set"
            out.record(number, action, user.email, None, {"password": user.password})
            out.add(f"{label}: user {user.email} {word}", users.upsert_user, number, user.email,
                    hash_password(user.password))  # fmt: skip
        if described != ((stored.role, stored.name, stored.phones) if stored is not None else (Role.ADMIN, "", ())):
            step = (users.describe_user, (number, user.email, *described))
            if stored is None:
                out.steps.append(step)
            else:
                out.add(f"{label}: user {user.email} changed", step[0], *step[1])
    if prune:
        named = {user.email for user in block.users}
        for owner, email in people:
            if owner == number and email not in named:
                out.add(f"{label}: user {email} removed", _remove_person, number, email, out)
                out.record(number, "user.removed", email, {"email": email}, None)


def _compare_content(tenant: TenantFile, stored: StoredContent, prune: bool, out: Changes, problems: Problems) -> None:
    if prune or tenant.content:
        compare_content(
            tenant.number, tenant.block.country, tenant.content, stored, tenant.path, prune, out, problems.add
        )


def _compare_phones(tenant: TenantFile, row: store.TenantRow | None, prune: bool, label: str, out: Changes) -> None:
    stored = {number: (owner, tuple(ends)) for number, owner, ends in row.phones} if row else {}
    for phone in tenant.block.phones:
        if stored.get(phone.number) != (phone.owner, phone.endpoints):
            word = "changed" if phone.number in stored else "added"
            before = _shown_phone(*stored[phone.number]) if phone.number in stored else None
            out.record(tenant.number, "phone.saved", phone.number, before, _shown_phone(phone.owner, phone.endpoints))
            out.add(f"{label}: phone {phone.number} {word}", store.upsert_phone, tenant.number, phone.number, phone.owner,
                    phone.endpoints)  # fmt: skip
    if prune:
        for number in stored.keys() - {phone.number for phone in tenant.block.phones}:
            out.add(f"{label}: phone {number} removed", store.delete_phone, tenant.number, number)
            out.record(tenant.number, "phone.removed", number, _shown_phone(*stored[number]), None)


def _compare_links(
    links: tuple[LinkBlock, ...], rows: tuple[store.LinkRow, ...], of: store.LinkTable, sealer: Sealer,
    where: tuple[TenantId, str, str], prune: bool, out: Changes, problems: Problems,
    maps: Mapping[str, Mapping[str, str | None]] = MappingProxyType({}),
) -> None:  # fmt: skip
    number, label, path = where
    stored = {row.name: row for row in rows}
    table = of.table
    for place, link in enumerate(links):
        row = stored.get(link.name)
        values = open_secrets(row, table, sealer) if row else {}
        try:
            settings = complete(link, values)
        except ValidationError as error:
            spot = f"[{place}]" if table == "pbxes" else f".{link.name}"
            problems.pydantic(f"{path}.{table}{spot}", error, of=link.adapter.settings)
            continue
        plain, secrets = plain_and_secret(settings)
        differ = [] if row and row.enabled == link.enabled else ["enabled"]
        differ += [name for name in plain if row is None or row.settings.get(name) != plain[name]]
        differ += [name for name, secret in secrets.items() if values.get(name) != secret]
        same = row is not None and not differ and row.kind == link.adapter.kind
        new_map = link.extensions if link.extensions not in (None, maps.get(link.name, {})) else None
        if new_map is not None:
            differ.append(MAP)
        if same and new_map is None:
            continue
        sealed = {
            name: sealer.seal(secret, table=table, column=name, row=link.name)
            for name, secret in sorted(secrets.items())
        }
        word = f"{', '.join(sorted(differ))} changed" if row else "added"
        mine, hashes = (number, link.name), dict[str, str | None]()
        if of is store.INTEGRATIONS:
            hashes = {
                store.CLIENT_ID_TAKEN: unique_hash(settings), store.ACCOUNT_TAKEN: account_hash(link.adapter.kind, settings),
            }  # fmt: skip
        for constraint, hashed in hashes.items():
            if hashed is not None and out.owners.setdefault(hashed, mine) != mine:
                problems.add(f"{path}.{table}.{link.name}", _TAKEN[constraint])
        new = store.LinkRow(link.name, link.adapter.kind, link.enabled, plain, sealed, *hashes.values())
        out.lines.append(f"{label}: {table}.{link.name} {word}")
        before = {"enabled": row.enabled, **values} if row is not None else None
        after = {"enabled": link.enabled, **plain, **secrets}
        if new_map is not None:
            after[MAP] = new_map
            before = {**before, MAP: maps.get(link.name, {})} if before is not None else None
        out.record(number, _action(of, row), link.name, before, after)
        if not same:
            out.steps.append((store.upsert_link, (of, number, new)))
        if new_map is not None:
            out.steps.append((replace_map, (number, IntegrationKey(link.name), new_map)))
    if of is store.INTEGRATIONS:
        wanted = [link.name for link in links]
        if [*(name for name in stored if name in wanted), *(name for name in wanted if name not in stored)] != wanted:
            out.add(f"{label}: order of integrations changed", store.order_integrations, number, wanted)
    if prune:
        for name in stored.keys() - {link.name for link in links}:
            out.add(f"{label}: {table}.{name} removed", store.delete_link, of, number, name)
            action = "pbx.removed" if of is store.PBXES else "integration.removed"
            out.record(number, action, name, store.shown_link(stored[name]), None)


def _action(of: store.LinkTable, row: store.LinkRow | None) -> str:
    if of is store.PBXES:
        return "pbx.changed" if row is not None else "pbx.added"
    return "config.changed"


def _shown_tenant(row: store.TenantRow) -> dict[str, Any]:
    """A tenant's own fields; the token shows only that there is another one."""
    token = Secret(row.token_hash.hex()) if row.token_hash else None
    return {
        "name": row.name, "timezone": row.timezone, "country": row.country, "language": row.language, "token": token,
        **row.options,
    }  # fmt: skip


def _shown_phone(owner: str, endpoints: Sequence[str]) -> dict[str, Any]:
    return {"owner": owner, "endpoints": list(endpoints)}


async def export(db: Database, master: MasterKeys, number: TenantId, *, reveal: bool) -> str:
    """The tenant as a file. Hashed values (token, passwords) are always `***`. Raises Refused for an unknown number."""
    rows = await db.engine(store.select_tenants, [number])
    if not rows:
        raise Refused([f"no tenant {number}"])
    row = rows[0]
    await master.prepare([(row.tenant, row.data_key)])
    tenant = assemble(row, master)
    people = [account for account in await db.engine(users.select_all_accounts) if account.tenant == number]
    block: dict[str, Any] = {"number": row.tenant, "name": row.name}
    if row.token_hash:
        block["token"] = MASK
    block |= {"timezone": row.timezone, "country": row.country, "language": row.language}
    if people:
        block["users"] = [
            {
                "email": one.email, "password": MASK, **({"role": str(one.role)} if one.role is not Role.ADMIN else {}),
                **({"name": one.name} if one.name else {}), **({"phones": list(one.phones)} if one.phones else {}),
            }
            for one in people
        ]  # fmt: skip
    block["phones"] = [
        {
            "number": phone.number,
            "owner": phone.owner,
            **({"endpoints": list(phone.endpoints)} if phone.endpoints else {}),
        }
        for phone in tenant.phones
    ]
    block["pbxes"] = [
        {"name": pbx.name, **({} if pbx.enabled else {"enabled": False}), **_shown(pbx.kind, pbx.settings, reveal)}
        for pbx in tenant.pbxes
    ]
    block |= dict(row.options) | export_content(await db.engine(select_content, number))
    for name, key in secrets_of(tenant.secrets).items():
        ai = block.get("ai") or {}
        block["ai"] = {**ai, name: {**(ai.get(name) or {}), "api_key": key.reveal() if reveal else MASK}}
    block["integrations"] = {
        link.name: {
            "enabled": link.enabled,
            **_shown(link.kind, link.settings, reveal),
            **({MAP: dict(found)} if (found := tenant.user_extensions.get(link.key)) else {}),
        }
        for link in tenant.integrations.values()
    }
    # By C where it is there: ten thousand items take a second then, and half a minute otherwise.
    return str(yaml.dump({"tenants": [block]}, Dumper=_Dumper, allow_unicode=True, sort_keys=False, width=120))


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc] # one of two classes
    """Writes a text of several lines as such."""


def _text_node(dumper: Any, text: str) -> Any:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text_node)


def _shown(kind: Kind, settings: Mapping[str, Any], reveal: bool) -> dict[str, Any]:
    """Settings in the order of their form, without the advanced ones that nobody has changed."""
    adapter = adapters().get(kind)
    fields = adapter.settings.model_fields if adapter is not None else {}
    shown: dict[str, Any] = {}
    for name, value in sorted(settings.items(), key=lambda item: _place(fields, item[0])):
        field = fields.get(name)
        extra = field.json_schema_extra if field is not None else None
        advanced = field is not None and isinstance(extra, dict) and extra.get("advanced")
        if field is not None and advanced and value == field.get_default(call_default_factory=True, validated_data={}):
            continue
        shown[name] = (value.reveal() if reveal else MASK) if isinstance(value, Secret) else value
    return shown


def _place(fields: Mapping[str, Any], name: str) -> int:
    return list(fields).index(name) if name in fields else len(fields)
