"""The table `integration_registry`: every outside system that can be connected, for whoever reads the database. Written at the start.

The gateway itself answers from the adapters (`adapters/catalogue.py`); nothing in it reads the table.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from gateway.store.postgres.pool import Connection


async def upsert_registry(
    conn: Connection, entries: Sequence[Mapping[str, Any]], translations: Mapping[str, Mapping[str, Any]]
) -> None:
    """Makes the table equal to `entries`; what is no longer among them stays, as not available. `translations` by provider, then
    by language: the texts that differ."""
    rows = [{**one, "translations": translations[one["provider"]]} for one in entries]
    await conn.execute(
        """
        INSERT INTO integration_registry AS r (provider, type, name, description, icon_url, config_schema, docs_url, is_available,
                                               translations)
        SELECT provider, type, name, description, icon_url, config_schema, docs_url, is_available, translations
        FROM jsonb_to_recordset($1::text::jsonb) AS g (provider text, type text, name text, description text, icon_url text,
            config_schema jsonb, docs_url text, is_available boolean, translations jsonb)
        ON CONFLICT (provider) DO UPDATE SET
            type = excluded.type, name = excluded.name, description = excluded.description, icon_url = excluded.icon_url,
            config_schema = excluded.config_schema, docs_url = excluded.docs_url, is_available = excluded.is_available,
            translations = excluded.translations, updated_at = now()
        """,
        json.dumps(rows, ensure_ascii=False),
    )
    await conn.execute(
        "UPDATE integration_registry SET is_available = false, updated_at = now() WHERE is_available AND provider <> ALL ($1::text[])",
        [str(one["provider"]) for one in entries],
    )
