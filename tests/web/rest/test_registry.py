"""`GET /api/v1/integrations/available`, and the table that is made of the same."""

import json

import pytest

from adapters.catalogue import entries
from gateway.domain.api_keys import SCOPES
from gateway.store.integration_registry import upsert_registry
from gateway.store.postgres.pool import Connection, Database
from tests.web.rest.conftest import Api

PATH = "/integrations/available"


@pytest.mark.parametrize(("sent", "language"), [("ru-RU,ru;q=0.9", "ru"), ("en", "en")])
async def test_in_the_language_of_the_request(api: Api, sent: str, language: str) -> None:
    body = (await api.ask("GET", PATH, accept_language=sent)).json
    assert body == {"items": entries(language), "next": None}
    (crm,) = [one for one in body["items"] if one["provider"] == "retailcrm"]
    assert {"domain", "api_key"} <= {one["key"] for one in crm["config_schema"]}
    assert crm["type"] == "crm"


async def test_otherwise_in_that_of_the_company(api: Api) -> None:
    for sent in ("de", ""):
        assert (await api.ask("GET", PATH, accept_language=sent)).json["items"] == entries("ru")


async def test_for_those_alone_who_have_a_key_of_any_scope(api: Api) -> None:
    for scope in SCOPES:
        assert (await api.ask("GET", PATH, x_api_key=await api.new_key(scope))).status == 200
    assert (await api.ask("GET", PATH, x_api_key="bad")).status == 401


async def table(conn: Connection) -> list[tuple[object, ...]]:
    return [
        tuple(row)
        for row in await conn.fetch(
            "SELECT provider, type, name, config_schema::text, is_available, translations::text FROM integration_registry ORDER BY 1"
        )
    ]


async def test_the_table_is_made_of_the_adapters_and_forgets_none(db: Database) -> None:
    russian = {one["provider"]: {"ru": {"description": one["description"]}} for one in entries("ru")}
    gone = {**entries("en")[0], "provider": "gone"}
    await db.engine(upsert_registry, [*entries("en"), gone], {**russian, "gone": {}})
    await db.engine(upsert_registry, entries("en"), russian)
    rows = {row[0]: row for row in await db.engine(table)}
    assert set(rows) == {"gone", *russian}
    for one in entries("en"):
        _, kind, name, schema, available, translations = rows[one["provider"]]
        assert (kind, name, json.loads(str(schema)), available) == (
            one["type"], one["name"], one["config_schema"], True,
        )  # fmt: skip
        assert json.loads(str(translations)) == russian[one["provider"]]
    assert rows["gone"][4] is False
