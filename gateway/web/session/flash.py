"""What a page shows once after a redirect: every POST leads on with 303, and its result waits here for the page.

    POST -> operation -> a row of the session -> 303 ...?done=ID -> the page reads the row and shows it

So reloading, the back button and the switches of language and theme meet a GET. Whatever a person typed into a field for
secrets and could not be saved yet is sealed with the tenant's key. Texts stand here as codes or in both languages: the page
may be read in another one than the form. Read `surroundings.py` for who reads the row.
"""

import re
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import urlencode

from quart import redirect

from adapters.base import Finding, Tested
from gateway.domain.ids import TenantId
from gateway.domain.secret import Secret
from gateway.store import flashes as store
from gateway.store.flashes import FlashRow
from gateway.store.postgres.errors import Unsealable
from gateway.store.tenants import select_tenants
from gateway.web.session.sealing import open_personal, seal_personal
from gateway.web.session.tokens import Token
from gateway.web.site import Answer, Deps

PARAMETER = "done"
_TABLE = "flashes"
_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Flash:
    """What is shown. `kind` names the body's type: note, tested, form, saved, synced, link, key, refused."""

    kind: str
    body: Mapping[str, Any] = field(default_factory=dict)
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    flash_id: str = ""


def note(text: str, tone: str = "ok", *, undo: tuple[str, Mapping[str, str]] | None = None, **values: Any) -> Flash:
    """A sentence of the UI's texts, shown at the head of whichever page comes next. `undo`: the address and the fields of
    the form that takes the operation back; the sentence then brings its button."""
    body: dict[str, Any] = {"text": text, "tone": tone, "values": values}
    return Flash(
        kind="note", body=body if undo is None else {**body, "undo": {"action": undo[0], "fields": dict(undo[1])}}
    )


def tested_flash(tested: Tested, **more: Any) -> Flash:
    """The outcome of a connection test."""
    return Flash(kind="tested", body={**asdict(tested), **more})


def read_tested(body: Mapping[str, Any] | None) -> Tested | None:
    """The inverse."""
    if body is None:
        return None
    findings = tuple(Finding(**one) for one in body.get("findings", ()))
    return Tested(bool(body["ok"]), body["code"], body["detail"], findings)


async def _sealer(deps: Deps, tenant: TenantId) -> Any:
    rows = await deps.db.engine(select_tenants, [tenant])
    assert deps.master is not None
    return deps.master.sealer(tenant, rows[0].data_key)


async def lead_on(
    deps: Deps, token: Token | None, onward: str, flash: Flash, *, tenant: TenantId | None = None
) -> Answer:
    """303 to `onward`, which shows `flash`. Secrets are sealed with the key of `tenant`; on pages of no company, by the
    master key."""
    if token is None:
        return redirect(onward, 303)
    flash_id = secrets.token_urlsafe(16)
    sealed: dict[str, str] = {}
    if flash.secrets and tenant is None and deps.master is not None:
        sealed = {
            name: seal_personal(deps.master, value, f"{_TABLE}/{flash_id}/{name}")
            for name, value in flash.secrets.items()
        }
    if flash.secrets and tenant is not None and deps.master is not None:
        sealer = await _sealer(deps, tenant)
        sealed = {
            name: sealer.seal(value, table=_TABLE, column=name, row=flash_id) for name, value in flash.secrets.items()
        }
    row = FlashRow(flash.kind, flash.body, sealed)
    await deps.db.engine(store.insert_flash, token.tenant, token.token_hash, flash_id, row)
    address, mark, fragment = onward.partition("#")
    joined = address + ("&" if "?" in address else "?") + urlencode({PARAMETER: flash_id})
    return redirect(joined + mark + fragment, 303)


async def read_flash(deps: Deps, token: Token | None, flash_id: str, *, tenant: TenantId | None = None) -> Flash | None:
    """What waits under this id for this session. A result that is shown once (`key`) is deleted with it."""
    if token is None or not _ID.fullmatch(flash_id):
        return None
    row = await deps.db.engine(store.select_flash, token.tenant, token.token_hash, flash_id)
    if row is None:
        return None
    opened: dict[str, Secret] = {}
    if row.sealed and deps.master is not None:
        try:
            if tenant is None:
                opened = {
                    name: open_personal(deps.master, text, f"{_TABLE}/{flash_id}/{name}")
                    for name, text in row.sealed.items()
                }
                return await _taken(deps, token, flash_id, row, opened)
            sealer = await _sealer(deps, tenant)
            opened = {
                name: sealer.open(text, table=_TABLE, column=name, row=flash_id) for name, text in row.sealed.items()
            }
        except Unsealable:
            return None  # the keys were changed meanwhile
    return await _taken(deps, token, flash_id, row, opened)


async def _taken(deps: Deps, token: Token, flash_id: str, row: FlashRow, opened: Mapping[str, Secret]) -> Flash:
    if row.kind == "key":
        await deps.db.engine(store.delete_flash, token.tenant, token.token_hash, flash_id)
    return Flash(kind=row.kind, body=row.body, secrets=opened, flash_id=flash_id)
