"""Rows of a tenant in every table of the catalogue, made from the catalogue itself; and a look at every column for a number.

A table that is added later gets a row too. Where a check or a foreign key wants something special, VALUES says so.
"""

from collections.abc import Mapping
from typing import Any

from gateway.domain.ids import OPERATOR
from gateway.store.postgres.pool import Connection, OwnConnection
from gateway.store.tenant_deletions import select_tables

Any_ = Connection | OwnConnection

# By table and column: an SQL expression. $N stands for the number, $K for the row's own text.
_ONE = "md5($N || $K)::uuid"
"""Of rows that refer to each other."""
VALUES: Mapping[str, Mapping[str, str]] = {
    "contacts": {"contact_id": _ONE, "root_id": _ONE},
    "contact_phones": {"contact_id": _ONE},
    "contact_emails": {"contact_id": _ONE},
    "contact_merges": {"into_id": _ONE, "other_id": _ONE, "moved": "ARRAY[gen_random_uuid()]"},
    "conversations": {"conversation_id": _ONE, "contact_id": _ONE, "owner": "'none'"},
    "conversation_happenings": {"conversation_id": _ONE},
    "messages": {"message_id": _ONE, "conversation_id": _ONE, "direction": "'in'"},
    "message_parts": {"message_id": _ONE, "status": "'sent'"},
    "orders": {
        "order_id": _ONE,
        "number": "1",
        "contact_id": _ONE,
        "conversation_id": _ONE,
        "kind": "'request'",
        "status": "'new'",
        "currency": "'BYN'",
        "starts_at": "NULL",
        "duration_min": "NULL",
    },
    "order_items": {"order_id": _ONE, "quantity": "1"},
    "booking_places": {"place": "1"},
    "booking_slots": {
        "place_key": "(SELECT max(place_key) FROM booking_places WHERE tenant_id = $N)",
        "order_id": _ONE,
        "starts_at": "now()",
        "ends_at": "now() + interval '1 h'",
    },
    "deal_parties": {"kind": "'contact'"},
    "saved_replies": {"shortcut": "'hello'"},
    "ai_answers": {"answer_id": _ONE, "conversation_id": _ONE, "message_id": _ONE, "state": "'sent'"},
    "ai_tool_calls": {"answer_id": _ONE, "conversation_id": _ONE},
    "ai_summaries": {"conversation_id": _ONE, "seq": "1", "made_by": "'model'"},
    "ai_hand_overs": {"conversation_id": _ONE, "cause": "'asked'"},
    "chat_files": {"message_id": _ONE, "kind": "'image'", "state": "'stored'", "address": "$K"},
    "tenants": {
        "country": "'BY'",
        "language": "'ru'",
        "timezone": "'Europe/Minsk'",
        "data_key": "'dek:v1:aaaaaaaa:1:x:y'",
    },
    "users": {"email": "'u' || md5($N || $K) || '@june.example'", "language": "'en'", "password_hash": "'x'"},
    "sessions": {"scope": "NULL", "registration": "NULL"},
    "phones": {"number": "'1' || length($K)"},
    "pbxes": {"name": "'p' || md5($K)::varchar(20)"},
    "calls": {"phase": "'ended'"},
    "deliveries": {"state": "'pending'", "subject_kind": "'call'"},
    "integration_logs": {"subject_kind": "'call'"},
    "external_ids": {"subject_kind": "'call'"},
    "recordings": {"recording_id": _ONE, "state": "'expected'", "address": "NULL"},
    "call_transcripts": {"recording_id": _ONE},
    "call_orders": {"state": "'asked'"},
    "modules": {"state": "'active'"},
    "integrations": {"client_id_hash": "sha256(convert_to($N || $K, 'UTF8'))"},
    "tenant_deletions": {"stage": "'requested'", "requested_kind": "'cli'", "lease_until": "'-infinity'"},
    "audit": {"actor_kind": "'cli'"},
    "catalog_items": {"currency": "'BYN'"},
    "journal": {"stream": "'calls'"},
}
SKIPPED = {"audit_chains", "tenant_versions", "tenant_deletions"}
"""Made by triggers, or by what is tested."""
UNIQUE = {"token_hash", "key_hash", "transaction_hash", "digest", "client_id_hash", "key", "delivery_id"}
BY_TYPE = {
    "text": "$K", "bytea": "sha256(convert_to($N || $K, 'UTF8'))", "jsonb": "'{}'::jsonb", "boolean": "false",
    "integer": "1", "bigint": "1", "double precision": "1.0", "timestamp with time zone": "now()", "uuid": "gen_random_uuid()",
    "text[]": "ARRAY[$K]", "date": "current_date", "numeric": "1", "smallint": "1",
}  # fmt: skip


async def fill(conn: Any_, number: str, text: str, *, only: set[str] | None = None) -> set[str]:
    """One row in each table (the tenant's own first); `text` stands in its columns. Returns the tables that have one now."""
    tables = [name for name, _ in await select_tables(conn)]  # type: ignore[arg-type]
    filled = set()
    for table in reversed(tables):
        needed = table in ("tenants", "integrations", "recording_blobs")
        if table in SKIPPED or (only is not None and table not in only and not needed):
            continue
        await conn.execute(_statement(table, await _columns(conn, table), number, text))
        filled.add(table)
    return filled


async def _columns(conn: Any_, table: str) -> list[Any]:
    return list(
        await conn.fetch(
            """
            SELECT a.attname AS name, format_type(a.atttypid, NULL) AS type, a.attnotnull AND NOT a.atthasdef AS needed
            FROM pg_attribute a WHERE a.attrelid = $1::text::regclass AND a.attnum > 0 AND NOT a.attisdropped
              AND a.attgenerated = '' AND a.attidentity = ''
            """,
            table,
        )
    )


def _statement(table: str, columns: list[Any], number: str, text: str) -> str:
    special, names, values = VALUES.get(table, {}), [], []
    for column in columns:
        name, kind = column["name"], column["type"]
        if name == "tenant_id":
            value = "$N"
        elif name in special:
            value = special[name]
        elif name == "integration_type":
            value = "'retailcrm'"
        elif table == "audit" and name in ("position", "hash", "at"):
            continue
        elif column["needed"] or name in UNIQUE:
            value = BY_TYPE[kind]
        else:
            continue
        names.append(f'"{name}"')
        values.append(value)
    quoted = {"$N": f"'{number}'::text", "$K": f"'{text}'::text"}
    filled = [value.replace("$N", quoted["$N"]).replace("$K", quoted["$K"]) for value in values]
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join(filled)}) ON CONFLICT DO NOTHING"


async def found_in(conn: Any_, number: str, *, anywhere: bool = False) -> dict[str, int]:
    """The tables, partitions too, in whose rows the number stands anywhere, with how many such rows; but for the one that the
    operators' audit keeps. A short number may stand in the middle of a hash: it counts as a word of its own, unless `anywhere`."""
    looked = "strpos(x::text, $1) > 0" if anywhere else "x::text ~ ('(^|[^0-9A-Za-z])' || $1 || '($|[^0-9A-Za-z])')"
    names = await conn.fetch(
        "SELECT c.oid::regclass::text AS name FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r'"
    )
    found = {}
    for row in names:
        kept = (
            f" AND NOT (x.tenant_id = '{OPERATOR}' AND x.action = 'tenant.deleted')" if row["name"] == "audit" else ""
        )
        count = await conn.fetchval(
            f"SELECT count(*) FROM {row['name']} x WHERE {looked}{kept}",
            number,
        )
        if count:
            found[row["name"]] = count
    return found
