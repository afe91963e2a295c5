"""What operations on a registration store: one transaction each, with its line in the audit trail.

Owns the rules that only the stored map can decide (whose number it was, whether it is one of the company's). It contacts no
outside system and reads no cache: these run on the database's thread. Read `registration.py` for when,
`gateway/store/crm_registrations.py` for the statements.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from adapters.abilities import Registers
from adapters.registry import Linked
from gateway.domain.configuration import Phone
from gateway.domain.errors import GatewayError
from gateway.domain.extensions import Moved, adopt, change, differences, given, not_among, read_map
from gateway.domain.ids import IntegrationKey, TenantId
from gateway.domain.internal_numbers import problem_with
from gateway.domain.posts import Invalid
from gateway.domain.text import Bilingual
from gateway.store import audit
from gateway.store import crm_registrations as store
from gateway.store.audit import insert_audit
from gateway.store.integration_logs import insert_log, select_notes
from gateway.store.postgres.pool import Connection
from gateway.store.tenants import select_numbering
from gateway.store.user_extensions import replace_map, select_map

NOT_EXIST = "not_exist_codes: "


@dataclass(frozen=True, slots=True)
class StoredMap:
    """What is stored here."""

    row: store.RegistrationRow
    extensions: Mapping[str, str]
    phones: tuple[Phone, ...]
    statuses: Mapping[str, store.StatusLine] = field(default_factory=dict)
    not_exist: frozenset[str] = frozenset()
    """Internal numbers that the other side reported as nobody's, since the map was last sent."""


async def select_stored_map(conn: Connection, tenant: TenantId, linked: Linked) -> StoredMap:
    """What is stored here of one integration."""
    kind = linked.key
    row = await store.select_registration(conn, tenant, kind)
    stored = await select_map(conn, tenant, kind) or {}
    numbers: set[str] = set()
    for note, at in await select_notes(conn, tenant, kind):
        if note.startswith(NOT_EXIST) and (row.told_at is None or at > row.told_at):
            numbers |= set(note.removeprefix(NOT_EXIST).split(", "))
    return StoredMap(
        row, given(stored), await store.select_phones(conn, tenant), await store.select_statuses(conn, tenant, kind),
        frozenset(numbers),
    )  # fmt: skip


async def begin(conn: Connection, number: TenantId, kind: IntegrationKey, key: str, who: str, *, unread: bool) -> None:
    """A new registration."""
    async with conn.transaction():
        await store.begin_registration(conn, number, kind, key, unread=unread)
        await insert_audit(conn, number, who, "module.registered", kind)


async def end(
    conn: Connection, number: TenantId, kind: IntegrationKey, who: str, state: str, *, reported: bool = False
) -> None:  # fmt: skip
    """The end of one; nothing where there was none."""
    async with conn.transaction():
        if await store.end_registration(conn, number, kind, state, reported=reported):
            await insert_audit(conn, number, who, f"module.{state}", kind)


async def note(
    conn: Connection, number: TenantId, kind: IntegrationKey, row: store.RegistrationRow, event: str, fields: dict[str, Any], code: str,
    failure: GatewayError | None, unknown_users: Sequence[str],
) -> None:  # fmt: skip
    """Stores the result of notifying the other side of `row`, with request and response."""
    async with conn.transaction():
        await insert_log(conn, number, kind, event, **fields)
        if failure is not None:
            await store.note_problem(conn, number, kind, code, failure.detail)
            return
        await store.note_sent(conn, number, kind, row.version, unknown_users)
        if row.state == "deleted":
            await store.delete_registration(conn, number, kind)


async def change_map(
    conn: Connection, number: TenantId, linked: Linked, changes: Mapping[str, str | None], who: str
) -> tuple[Mapping[str, str], tuple[Moved, ...]]:
    """Changes the map under its lock. Raises Invalid with every problem; the map is then as it was."""
    stored = await select_map(conn, number, linked.key, lock=True)
    if stored is None:
        raise Invalid((("user_extensions", Bilingual("set the integration up first", "сначала настройте интеграцию")),))
    phones = [phone.number for phone in await store.select_phones(conn, number)]
    ours = given(stored)
    news = [value for user, value in changes.items() if value and ours.get(user) != value]
    if strangers := not_among(news, phones):
        problems = tuple(
            (f"user_extensions.{user}", Bilingual(
                f"{value} is not an internal number of this company", f"{value} — не внутренний номер этой компании"
            ))
            for user, value in changes.items() if value in strangers and ours.get(user) != value
        )  # fmt: skip
        raise Invalid(problems)
    country, options = await select_numbering(conn, number)
    if bad := tuple(
        (f"user_extensions.{user}", text)
        for user, value in changes.items()
        if value and ours.get(user) != value and (text := problem_with(value, country, options))
    ):
        raise Invalid(bad)
    made = change(ours, changes)
    # Who has lost a number stays named: what the other side still holds for them is not taken over again.
    taken_away = {user: None for user in stored if user not in made.extensions}
    row = await store.select_registration(conn, number, linked.key)
    if made.extensions != ours or row.saved_at is None:
        if problems_found := _problems(linked, made.extensions):
            raise Invalid(tuple(("user_extensions", text) for text in problems_found))
        await replace_map(conn, number, linked.key, {**taken_away, **made.extensions})
        # Without a registration there is nothing to wait for: the map is sent from its first number on.
        state = "new" if linked.adapter.can(Registers) else "active"
        await store.touch_map(
            conn, number, linked.key, state, unread=row.unread or (row.saved_at is None and not ours)
        )  # fmt: skip
        lines = [f"{d.user_id}: {d.ours or '-'} -> {d.theirs or '-'}" for d in differences(ours, made.extensions)]
        old, new = audit.difference(ours, made.extensions)
        await insert_audit(conn, number, who, "extensions.saved", linked.key, "; ".join(lines), old=old, new=new)
    return made.extensions, made.moved


def _problems(linked: Linked, extensions: Mapping[str, str]) -> list[str]:
    """What is wrong with a map for this outside system."""
    return [
        f"{user}: {text}" if user else text for user, text in read_map(extensions.items(), linked.adapter.user_id)[1]
    ]


async def adopt_map(
    conn: Connection, number: TenantId, linked: Linked, theirs: Mapping[str, str], who: str
) -> Mapping[str, str]:
    """Imports the entries of their map that ours lacks. Returns those entries."""
    stored = await select_map(conn, number, linked.key, lock=True)
    if stored is None:
        return {}
    ours = given(stored)
    country, options = await select_numbering(conn, number)
    usable = {
        user: extension for user, extension in theirs.items()
        if user not in stored and not problem_with(extension, country, options)
        and not _problems(linked, {user: extension})
    }  # fmt: skip
    if never := [f"{user}: {value}" for user, value in theirs.items() if problem_with(value, country, options)]:
        await insert_audit(conn, number, who or linked.key, "extensions.refused", linked.key, "; ".join(never))
    merged = adopt(ours, usable)
    taken = {user: value for user, value in merged.items() if user not in ours}
    if taken:
        await replace_map(conn, number, linked.key, {**stored, **merged})
        lines = "; ".join(f"{user}: {value}" for user, value in taken.items())
        await insert_audit(conn, number, who or linked.key, "extensions.imported", linked.key, lines, new=taken)
    await store.mark_read(conn, number, linked.key)
    return taken


async def store_status(
    conn: Connection, number: TenantId, kind: IntegrationKey, user_id: str, status: str, who: str
) -> None:
    """Stores a user's status as a person set it."""
    await store.upsert_status(conn, number, kind, user_id, status, who, reported=False)
    await insert_audit(conn, number, who, "status.set", user_id, status, new={"status": status})
