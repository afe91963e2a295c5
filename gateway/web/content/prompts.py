"""A company's prompts: saved as immutable versions, restored, made active; each checked in its transaction and audited.

    save     a new version; of the active prompt, bots get it at once unless it is a draft or has mistakes
    restore  a new version with the very same text as an old one
    activate the newest version, which must have no mistakes; every other prompt is inactive then

The first prompt without mistakes becomes active by itself. Read `gateway/domain/prompts.py` for what a mistake is.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from gateway.domain.ids import TenantId
from gateway.domain.posts import Invalid
from gateway.domain.prompts import (
    DEFAULT_NAME,
    LONGEST_NAME,
    LONGEST_NOTE,
    Flaw,
    Variable,
    check_content,
    check_line,
    placed,
    placeholders,
    validation,
    wrong_variables,
)
from gateway.domain.text import Bilingual, texts_of
from gateway.store import prompts as store
from gateway.store.audit import insert_audit
from gateway.store.business_profiles import select_profile
from gateway.store.postgres.pool import Connection, Database
from gateway.store.prompts import PromptRow, VersionRow
from gateway.web.content.problems import Then, done, problems_of

MOST_PROMPTS = 200
_VARIABLES = TypeAdapter(tuple[Variable, ...])


@dataclass(frozen=True, slots=True)
class Saved:
    """A prompt after a change, and the mistakes of its newest version."""

    prompt: PromptRow
    flaws: tuple[Flaw, ...]


def read_variables(data: Any, before: str = "variables") -> tuple[Variable, ...]:
    """The variables of a prompt as people and programs write them. Raises Invalid."""
    try:
        found = _VARIABLES.validate_python(data)
    except ValidationError as error:
        raise Invalid(tuple(problems_of(error, before))) from None
    problems = wrong_variables(found, before)
    if problems:
        raise Invalid(tuple(problems))
    return found


def shown_flaws(found: Sequence[Flaw], language: str = "en") -> list[dict[str, Any]]:
    """As the REST API answers them, in one language."""
    return [{"message": texts_of(one.message)[language], "line": one.line, "column": one.column} for one in found]


async def validate_prompt(
    db: Database, number: TenantId, content: Any, variables: Any = (), language: str = "en"
) -> dict[str, Any]:
    """`{valid, errors, variables}`: the mistakes, and the placeholders that stand in the text. Raises Invalid where the text
    or the variables cannot be read at all."""
    given = read_variables(variables)
    if problems := check_content(content):
        raise Invalid(tuple(problems))
    profile = await db.tenant(number, select_profile, number)
    found = validation(content, given, profile.business_type)
    return {
        "valid": not found, "errors": shown_flaws(found, language), "variables": list(placeholders(content)),
    }  # fmt: skip


async def save_prompt(
    db: Database,
    number: TenantId,
    data: Mapping[str, Any],
    person: str,
    *,
    draft: bool = False,
    then: Then[Saved] = done,
) -> Saved:
    """Saves `content` as a new version of the prompt `name`, by default the active one. `variables` stay where they are not
    given. A `draft` is not given to bots even without mistakes. `then` is part of the transaction. Raises Invalid."""
    problems = check_content(data.get("content"))
    name, note = data.get("name"), data.get("note") or ""
    if name is not None:
        problems += check_line("name", name, LONGEST_NAME, empty=False)
    problems += check_line("note", note, LONGEST_NOTE, empty=True)
    variables = None
    try:
        if data.get("variables") is not None:
            variables = read_variables(data["variables"])
    except Invalid as error:
        problems += error.problems
    if problems:
        raise Invalid(tuple(problems))
    text = name.strip() if name is not None else None

    async def save(conn: Connection) -> Saved:
        note_of = str(note).strip()
        saved = await save_version(conn, number, text, data["content"], variables, note_of, person, draft)
        await then(conn, saved)
        return saved

    return await db.tenant(number, save)


async def save_version(
    conn: Connection, number: TenantId, name: str | None, content: str, variables: Sequence[Variable] | None, note: str,
    person: str, draft: bool = False,
) -> Saved:  # fmt: skip
    """The same for what is checked already, within the caller's transaction."""
    await store.lock_prompts(conn, number)
    prompts = await store.select_prompts(conn, number)
    active = next((one for one in prompts if one.is_active), None)
    if name is None:
        name = active.name if active is not None else DEFAULT_NAME
    known = next((one for one in prompts if one.name == name), None)
    if known is None and len(prompts) >= MOST_PROMPTS:
        raise Invalid((("name", Bilingual(f"at most {MOST_PROMPTS} prompts", f"не больше {MOST_PROMPTS} промтов")),))
    if variables is None:
        variables = known.variables if known is not None else ()
    prompt_id = known.prompt_id if known is not None else secrets.token_hex(8)
    version = await store.upsert_prompt(conn, number, prompt_id, name, content, variables)
    await store.insert_version(conn, number, prompt_id, version, content, variables, note, person)
    found = validation(content, variables, (await select_profile(conn, number)).business_type)
    if not found and not draft and (active is None or active.prompt_id == prompt_id):
        await store.set_active(conn, number, prompt_id, version)
    await insert_audit(conn, number, person, "prompt.saved", name, str(version))
    return Saved(await _prompt(conn, number, prompt_id), found)


async def restore(
    db: Database, number: TenantId, prompt_id: str, version: Any, person: str, *, then: Then[Saved] = done
) -> Saved | None:
    """A new version with the very same text and variables as an old one. None where there is no such prompt; Invalid where it
    has no such version. `then` is part of the transaction."""

    async def work(conn: Connection) -> Saved | None:
        saved = await _restore(conn, number, prompt_id, version, person)
        if saved is not None:
            await then(conn, saved)
        return saved

    return await db.tenant(number, work)


async def _restore(conn: Connection, number: TenantId, prompt_id: str, version: Any, person: str) -> Saved | None:
    await store.lock_prompts(conn, number)
    prompt = await store.select_prompt(conn, number, prompt_id)
    if prompt is None:
        return None
    whole = isinstance(version, int) and not isinstance(version, bool) and 0 < version < 1 << 31
    old = await store.select_version(conn, number, prompt_id, version) if whole else None
    if old is None:
        raise Invalid((("version", Bilingual("there is no such version", "такой версии нет")),))
    return await save_version(conn, number, prompt.name, old.content, old.variables, f"= {old.version}", person)


async def activate(db: Database, number: TenantId, prompt_id: str, person: str) -> Saved | None:
    """Gives bots the newest version of this prompt. None where there is no such prompt; Invalid with every mistake of the
    text, and then nothing has changed."""
    return await db.tenant(number, activate_within, number, prompt_id, person)


async def activate_within(conn: Connection, number: TenantId, prompt_id: str, person: str) -> Saved | None:
    """The same within the caller's transaction."""
    await store.lock_prompts(conn, number)
    prompt = await store.select_prompt(conn, number, prompt_id)
    if prompt is None:
        return None
    found = validation(prompt.content, prompt.variables, (await select_profile(conn, number)).business_type)
    if found:
        raise Invalid(tuple(("content", placed(flaw)) for flaw in found))
    if prompt.active_version != prompt.version:
        await store.set_active(conn, number, prompt_id, prompt.version)
        await insert_audit(conn, number, person, "prompt.activated", prompt.name, str(prompt.version))
    return Saved(await _prompt(conn, number, prompt_id), ())


async def delete(db: Database, number: TenantId, prompt_id: str, person: str) -> bool:
    """Removes a prompt with its history. False where there is none. Raises Invalid for the one that bots get."""
    return await db.tenant(number, _delete, number, prompt_id, person)


async def _delete(conn: Connection, number: TenantId, prompt_id: str, person: str) -> bool:
    await store.lock_prompts(conn, number)
    prompt = await store.select_prompt(conn, number, prompt_id)
    if prompt is None:
        return False
    if prompt.is_active:
        raise Invalid((("prompt", Bilingual("the active prompt cannot be removed", "активный промт удалить нельзя")),))
    await store.delete_prompt(conn, number, prompt_id)
    await insert_audit(conn, number, person, "prompt.removed", prompt.name)
    return True


async def _prompt(conn: Connection, number: TenantId, prompt_id: str) -> PromptRow:
    found = await store.select_prompt(conn, number, prompt_id)
    assert found is not None
    return found


def shown_prompt(number: TenantId, prompt: PromptRow) -> dict[str, Any]:
    """A prompt as the REST API answers it."""
    return {
        "id": prompt.prompt_id, "business_id": number, "name": prompt.name, "content": prompt.content,
        "variables": [one.plain() for one in prompt.variables], "is_active": prompt.is_active,
        "active_version": prompt.active_version, "version": prompt.version, "created_at": prompt.created_at,
        "updated_at": prompt.updated_at,
    }  # fmt: skip


def shown_version(row: VersionRow) -> dict[str, Any]:
    """A version as the REST API answers it."""
    return {
        "id": f"{row.prompt_id}:{row.version}", "prompt_id": row.prompt_id, "version": row.version, "content": row.content,
        "variables": [one.plain() for one in row.variables], "note": row.note, "changed_by": row.changed_by,
        "created_at": row.created_at,
    }  # fmt: skip
