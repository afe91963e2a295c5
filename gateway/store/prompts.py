"""Prompts and all of their versions: rows of `prompt_templates` and `prompt_history`.

A version is added and never changed. One prompt of a tenant at most is active, and which of its versions bots get stands in
`active_version`: while the newest is a draft, that is an older one. A trigger raises the tenant's version with every change.
Read `gateway/web/content/prompts.py` for the operations, which hold `lock_prompts`.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from gateway.domain.ids import TenantId
from gateway.domain.prompts import Variable
from gateway.store.postgres.pool import Connection


@dataclass(frozen=True, slots=True)
class PromptRow:
    """A prompt with its newest version."""

    prompt_id: str
    name: str
    content: str
    variables: tuple[Variable, ...]
    active_version: int | None
    """What bots get; None where this is not the active prompt."""
    version: int
    created_at: datetime
    updated_at: datetime

    @property
    def is_active(self) -> bool:
        """Whether this is the prompt that bots get."""
        return self.active_version is not None


@dataclass(frozen=True, slots=True)
class VersionRow:
    """One version of a prompt."""

    prompt_id: str
    version: int
    content: str
    variables: tuple[Variable, ...]
    note: str
    changed_by: str
    created_at: datetime


_PROMPT = "prompt_id, name, content, variables::text, active_version, version, created_at, updated_at"
_VERSION = "prompt_id, version, content, variables::text, note, changed_by, created_at"


def _variables(text: str) -> tuple[Variable, ...]:
    return tuple(Variable.model_construct(**one) for one in json.loads(text))


def _text(variables: Sequence[Variable]) -> str:
    return json.dumps([one.plain() for one in variables], ensure_ascii=False)


def _prompt(row: Any) -> PromptRow:
    return PromptRow(row[0], row[1], row[2], _variables(row[3]), row[4], row[5], row[6], row[7])


def _version(row: Any) -> VersionRow:
    return VersionRow(row[0], row[1], row[2], _variables(row[3]), row[4], row[5], row[6])


async def lock_prompts(conn: Connection, tenant: TenantId) -> None:
    """Nobody else saves or activates a prompt of the tenant until the transaction ends."""
    await conn.execute("SELECT pg_advisory_xact_lock(hashtextextended('prompts:' || $1, 0))", tenant)


async def select_prompts(conn: Connection, tenant: TenantId) -> list[PromptRow]:
    """All of them: the active one first, then by name."""
    rows = await conn.fetch(
        f"SELECT {_PROMPT} FROM prompt_templates WHERE tenant_id = $1 ORDER BY is_active DESC, lower(name), prompt_id",  # noqa: S608 - constant columns
        tenant,
    )
    return [_prompt(row) for row in rows]


async def select_prompt(conn: Connection, tenant: TenantId, prompt_id: str) -> PromptRow | None:
    """One prompt."""
    row = await conn.fetchrow(
        f"SELECT {_PROMPT} FROM prompt_templates WHERE tenant_id = $1 AND prompt_id = $2",  # noqa: S608 - constant columns
        tenant,
        prompt_id,
    )
    return _prompt(row) if row is not None else None


async def select_prompt_named(conn: Connection, tenant: TenantId, name: str) -> PromptRow | None:
    """The prompt of this name."""
    row = await conn.fetchrow(
        f"SELECT {_PROMPT} FROM prompt_templates WHERE tenant_id = $1 AND name = $2",  # noqa: S608 - constant columns
        tenant,
        name,
    )
    return _prompt(row) if row is not None else None


async def select_active(conn: Connection, tenant: TenantId) -> tuple[str, VersionRow] | None:
    """The active prompt's name and the version that bots get."""
    row = await conn.fetchrow(
        """
        SELECT t.name, h.prompt_id, h.version, h.content, h.variables::text, h.note, h.changed_by, h.created_at
        FROM prompt_templates t JOIN prompt_history h
            ON (h.tenant_id, h.prompt_id, h.version) = (t.tenant_id, t.prompt_id, t.active_version)
        WHERE t.tenant_id = $1 AND t.is_active
        """,
        tenant,
    )
    return (row[0], _version(row[1:])) if row is not None else None


async def upsert_prompt(
    conn: Connection, tenant: TenantId, prompt_id: str, name: str, content: str, variables: Sequence[Variable]
) -> int:
    """Makes a prompt or a new version of it, which the caller adds to its history. Returns the version."""
    version: int = await conn.fetchval(
        """
        INSERT INTO prompt_templates AS t (tenant_id, prompt_id, name, content, variables) VALUES ($1, $2, $3, $4, $5::jsonb)
        ON CONFLICT (tenant_id, prompt_id) DO UPDATE
        SET content = excluded.content, variables = excluded.variables, version = t.version + 1, updated_at = now()
        RETURNING version
        """,
        tenant,
        prompt_id,
        name,
        content,
        _text(variables),
    )
    return version


async def insert_version(
    conn: Connection, tenant: TenantId, prompt_id: str, version: int, content: str, variables: Sequence[Variable],
    note: str, changed_by: str,
) -> None:  # fmt: skip
    """Adds a version to a prompt's history."""
    await conn.execute(
        "INSERT INTO prompt_history (tenant_id, prompt_id, version, content, variables, note, changed_by) "
        "VALUES ($1, $2, $3, $4, $5::jsonb, $6, $7)",
        tenant,
        prompt_id,
        version,
        content,
        _text(variables),
        note,
        changed_by,
    )


async def select_history(
    conn: Connection, tenant: TenantId, prompt_id: str, *, before: int | None = None, limit: int = 200
) -> list[VersionRow]:
    """The versions of a prompt, newest first; below `before` where it is given."""
    rows = await conn.fetch(
        f"SELECT {_VERSION} FROM prompt_history WHERE tenant_id = $1 AND prompt_id = $2 "  # noqa: S608 - constant columns
        "AND ($3::integer IS NULL OR version < $3) ORDER BY version DESC LIMIT $4",
        tenant,
        prompt_id,
        before,
        limit,
    )
    return [_version(row) for row in rows]


async def select_version(conn: Connection, tenant: TenantId, prompt_id: str, version: int) -> VersionRow | None:
    """One version."""
    row = await conn.fetchrow(
        f"SELECT {_VERSION} FROM prompt_history WHERE tenant_id = $1 AND prompt_id = $2 AND version = $3",  # noqa: S608 - constant columns
        tenant,
        prompt_id,
        version,
    )
    return _version(row) if row is not None else None


async def set_active(conn: Connection, tenant: TenantId, prompt_id: str, version: int) -> None:
    """Makes this version of this prompt the one that bots get, and every other prompt inactive."""
    await conn.execute(
        "UPDATE prompt_templates SET is_active = false, active_version = NULL "
        "WHERE tenant_id = $1 AND is_active AND prompt_id <> $2",
        tenant,
        prompt_id,
    )
    await conn.execute(
        "UPDATE prompt_templates SET is_active = true, active_version = $3 "
        "WHERE tenant_id = $1 AND prompt_id = $2 AND active_version IS DISTINCT FROM $3",
        tenant,
        prompt_id,
        version,
    )


async def delete_prompt(conn: Connection, tenant: TenantId, prompt_id: str) -> None:
    """Removes a prompt with its history."""
    await conn.execute("DELETE FROM prompt_templates WHERE tenant_id = $1 AND prompt_id = $2", tenant, prompt_id)
