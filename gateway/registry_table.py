"""Fills the table of outside systems from the adapters, at each start. Read `adapters/catalogue.py` for what an entry holds."""

from typing import Any

from adapters.catalogue import entries
from gateway.domain.texts import LANGUAGES
from gateway.store.integration_registry import upsert_registry
from gateway.store.postgres.pool import Database


async def fill_registry(db: Database) -> None:
    """Makes the table what the adapters are now. Raises Unavailable."""
    first, *others = LANGUAGES
    translations: dict[str, dict[str, Any]] = {}
    for language in others:
        for one in entries(language):
            texts = {"description": one["description"], "config_schema": one["config_schema"]}
            translations.setdefault(one["provider"], {})[language] = texts
    await db.engine(upsert_registry, entries(first), translations)
