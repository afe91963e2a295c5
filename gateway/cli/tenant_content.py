"""The blocks `profile`, `catalog` and `prompts` of a tenant file: compared with what is stored, written, exported.

A profile is replaced as a whole; items and prompts that the file does not name stay unless it is applied with `--prune`. A
prompt whose text differs gets a new version. Read `gateway/web/content/__init__.py` for the operations.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import PydanticCustomError

from gateway.cli.changes import Changes
from gateway.domain.catalog import MOST_ITEMS, Item
from gateway.domain.currency import currency_of
from gateway.domain.ids import TenantId
from gateway.domain.profile import Profile
from gateway.domain.prompts import placed, validation
from gateway.domain.text import sentence
from gateway.store import business_profiles, catalog_items
from gateway.store import prompts as prompts_store
from gateway.store.postgres.pool import Connection
from gateway.store.prompts import PromptRow, VersionRow
from gateway.tenant_content import ContentBlock, PromptBlock, Refuse
from gateway.web.content.profile import store_profile
from gateway.web.content.prompts import activate_within, save_version

PERSON = "gateway apply"
MOST_LINES = 20
"""Changed items that are named one by one."""


@dataclass(frozen=True, slots=True)
class StoredContent:
    """What is stored of one tenant."""

    profile: Profile
    items: Sequence[Item]
    prompts: Sequence[PromptRow]
    active: VersionRow | None


EMPTY = StoredContent(Profile(), (), (), None)


async def select_content(conn: Connection, tenant: TenantId) -> StoredContent:
    """What is stored of a tenant."""
    active = await prompts_store.select_active(conn, tenant)
    return StoredContent(
        await business_profiles.select_profile(conn, tenant),
        await catalog_items.select_items(conn, tenant),
        await prompts_store.select_prompts(conn, tenant),
        active[1] if active is not None else None,
    )


def compare_content(
    tenant: TenantId, country: str, block: ContentBlock, stored: StoredContent, path: str, prune: bool, out: Changes, refuse: Refuse
) -> None:  # fmt: skip
    """Adds what has to be done, and refuses what only the stored part shows to be wrong."""
    label = f"tenant {tenant}"
    profile = block.profile if block.profile is not None else Profile() if prune else stored.profile
    before, after = stored.profile.plain(), profile.plain()
    if changed := [name for name in after if before[name] != after[name]]:
        out.add(f"{label}: profile {', '.join(changed)} changed", store_profile, tenant, profile, PERSON)
    _compare_items(
        tenant, label, profile.currency or currency_of(country), block.catalog, stored.items, path, prune, out, refuse
    )
    _compare_prompts(tenant, label, profile.business_type, block.prompts, stored, path, prune, out, refuse)


def _compare_items(
    tenant: TenantId, label: str, currency: str, items: Sequence[tuple[int, Item]] | None, stored: Sequence[Item], path: str, prune: bool,
    out: Changes, refuse: Refuse,
) -> None:  # fmt: skip
    known = {item.id: item.plain() for item in stored}
    priced: list[Item] = []
    for place, item in items or ():
        try:
            priced.append(item.priced_in(currency))
        except PydanticCustomError as error:
            refuse(f"{path}.catalog[{place}].price", sentence(error))
    changed = [item for item in priced if known.get(item.id) != item.plain()]
    named = {item.id for _, item in items or ()}
    gone = [item_id for item_id in known if item_id not in named] if prune else []
    if len((known.keys() - set(gone)) | named) > MOST_ITEMS:
        refuse(f"{path}.catalog", f"with what is stored there would be more than {MOST_ITEMS} items")
    lines = [f"catalog.{item.id} {'changed' if item.id in known else 'added'}" for item in changed]
    lines += [f"catalog.{item_id} removed" for item_id in gone]
    if not lines:
        return
    if len(lines) > MOST_LINES:
        new = sum(item.id not in known for item in changed)
        lines = [f"catalog {new} added, {len(changed) - new} changed, {len(gone)} removed"]
    out.lines += [f"{label}: {line}" for line in lines]
    out.steps.append((_replace_items, (tenant, changed, gone)))


async def _replace_items(conn: Connection, tenant: TenantId, items: Sequence[Item], gone: Sequence[str]) -> None:
    await catalog_items.lock_catalog(conn, tenant)
    await catalog_items.delete_items(conn, tenant, gone)
    await catalog_items.upsert_items(conn, tenant, items)


def _compare_prompts(
    tenant: TenantId, label: str, business_type: str, prompts: Sequence[tuple[int, PromptBlock]] | None, stored: StoredContent, path: str,
    prune: bool, out: Changes, refuse: Refuse,
) -> None:  # fmt: skip
    known = {row.name: row for row in stored.prompts}
    chosen = next((prompt.name for _, prompt in prompts or () if prompt.active), None)
    for place, prompt in prompts or ():
        if prompt.active:
            for flaw in validation(prompt.content, prompt.variables, business_type):
                refuse(f"{path}.prompts[{place}].content", placed(flaw))
        row = known.get(prompt.name)
        given = (prompt.content, prompt.variables)
        live = stored.active if row is not None and row.is_active else None
        if prompt.active and live is not None and given == (live.content, live.variables):
            continue  # what bots get; a draft that is newer stays
        if row is None or given != (row.content, row.variables):
            draft = prompt.active is False or chosen not in (None, prompt.name)
            version = row.version + 1 if row is not None else 1
            out.add(f"{label}: prompts.{prompt.name} version {version} saved", save_version, tenant, prompt.name, prompt.content,
                prompt.variables, prompt.note, PERSON, draft)  # fmt: skip
        elif prompt.active:
            out.lines.append(f"{label}: prompts.{prompt.name} activated")
        if prompt.active:
            out.steps.append((_activate, (tenant, prompt.name)))
    if prune:
        named = {prompt.name for _, prompt in prompts or ()}
        for row in stored.prompts:
            if row.name not in named:
                out.add(f"{label}: prompts.{row.name} removed", prompts_store.delete_prompt, tenant, row.prompt_id)


async def _activate(conn: Connection, tenant: TenantId, name: str) -> None:
    prompt = await prompts_store.select_prompt_named(conn, tenant, name)
    assert prompt is not None
    await activate_within(conn, tenant, prompt.prompt_id, PERSON)


def export_content(stored: StoredContent) -> dict[str, Any]:
    """The blocks as a file has them; empty ones are left out. Of the active prompt the version that bots get."""
    blocks: dict[str, Any] = {}
    profile = {name: value for name, value in stored.profile.plain().items() if value}
    if profile and stored.profile != Profile():
        blocks["profile"] = profile
    if stored.items:
        blocks["catalog"] = [
            {name: value for name, value in item.plain().items() if value not in (None, {})} for item in stored.items
        ]
    if stored.prompts:
        blocks["prompts"] = [_exported(prompt, stored.active) for prompt in stored.prompts]
    return blocks


def _exported(prompt: PromptRow, active: VersionRow | None) -> dict[str, Any]:
    shown = active if prompt.is_active and active is not None else prompt
    return {
        "name": prompt.name, "content": shown.content, "active": prompt.is_active,
        **({"variables": [one.plain() for one in shown.variables]} if shown.variables else {}),
    }  # fmt: skip
