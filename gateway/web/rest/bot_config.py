"""`/bot-config`: all that a bot needs to know of the company, by a key in a header, from memory.

Read `gateway/web/content/bot_configs.py` for what is in memory, `gateway/web/content/bot_config.py` for what it holds.
"""

from typing import Any

from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from gateway.domain.profile import BUSINESS_TYPES
from gateway.telemetry import COUNTERS
from gateway.web.http.routes import Response, problem
from gateway.web.rest.catalog import CatalogItem
from gateway.web.rest.deps import RestDeps
from gateway.web.rest.endpoints import Call, Endpoint, Shown
from gateway.web.rest.profile import HoursItem
from gateway.web.rest.prompts import VariableItem

SCOPE = "bot"
_CRM: JsonDict = {
    "provider": "crm", "integration": "crm:main", "credentials": {"api_key": "…"}, "sync_contacts": True,
    "sync_orders": True,
}  # fmt: skip
_EXAMPLE: JsonDict = {
    "business_id": "0367", "business_name": "June", "business_type": "restaurant", "version": "9f2c4be1…",
    "prompt": "# Role\nYou are the operator of June…",
    "prompt_source": {"id": "3f0c9a1b2d4e5f60", "name": "Main", "version": 3,
                      "content": "# Role\nYou are the operator of {{business_name}}…", "variables": []},
    "channels": [{"provider": "messenger", "integration": "messenger", "credentials": {"bot_token": "…"}, "enabled": True}],
    "crm": _CRM, "crms": [_CRM],
    "catalog": [{"id": "margherita", "business_id": "0367", "name": "Margherita", "description": None, "price": 12.5,
                 "currency": "BYN", "category": "Pizza", "image_url": None, "available": True, "attributes": {}, "sort_order": 0}],
    "settings": {"language": "ru", "timezone": "Europe/Minsk",
                 "working_hours": [{"days": ["mon"], "from": "09:00", "to": "18:00"}]},
}  # fmt: skip


class PromptSource(Shown):
    """What the rendered prompt was made of."""

    id: str
    name: str
    version: int
    content: str
    variables: list[VariableItem]


class ChannelConfig(Shown):
    """A messenger that the bot is to answer in."""

    provider: str
    integration: str = Field(description="its key here, as two of a provider may be connected")
    credentials: dict[str, Any]
    enabled: bool


class CrmConfig(Shown):
    """A CRM that the bot is to write to. The switches are there where this CRM has them."""

    provider: str
    integration: str
    credentials: dict[str, Any]
    sync_contacts: bool | None = None
    sync_orders: bool | None = None


class BotSettings(Shown):
    """Where and when the company is."""

    language: str
    timezone: str
    working_hours: list[HoursItem]


class BotConfig(Shown):
    """All that a bot needs to know. Only what is switched on, and does not wait for a person, is in `channels` and `crms`."""

    model_config = ConfigDict(frozen=True, json_schema_extra={"examples": [_EXAMPLE]})

    business_id: str
    business_name: str
    business_type: str = Field(json_schema_extra={"enum": list(BUSINESS_TYPES)})
    version: str = Field(description="another one after every change of what is shown; `ETag` is made of it")
    prompt: str | None = Field(description="the active prompt, filled in; null where none is active")
    prompt_source: PromptSource | None
    channels: list[ChannelConfig]
    crm: CrmConfig | None = Field(description="the first of `crms`, or that marked as primary")
    crms: list[CrmConfig]
    catalog: list[CatalogItem] = Field(description="every item; `available` says which can be sold")
    settings: BotSettings


def bot_config(deps: RestDeps) -> list[Endpoint]:
    """The endpoint."""

    async def read(call: Call) -> Response:
        found = await deps.bot_configs.get(call.tenant.number) if deps.bot_configs is not None else None
        if found is None:
            return problem(404, "NOT_FOUND", "There is no such company.")
        COUNTERS["bot_configs"] += 1
        tag = f'W/"{found.etag}"' if found.late else f'"{found.etag}"'
        headers = (("ETag", tag), ("Vary", "Authorization, X-API-Key"))
        if _has(call.request.headers.get("if-none-match", ""), found.etag):
            return Response(status=304, headers=headers)
        return Response(body=found.body(deps.now()), headers=headers)

    return [
        Endpoint(method="GET", path="/bot-config", operation=read, scopes=(SCOPE,), sessions=False, answer=BotConfig,
                 problems={304: "`If-None-Match` names what is in force", 401: "Without a valid key or token, or it was revoked",
                           404: "The company was deleted"},
                 headers={"If-None-Match": "the `ETag` of the answer that is known: 304 where nothing has changed but the time of day"},
                 summary="All that a bot needs of the company: prompt, channels, CRM, catalog", section="Bots")
    ]  # fmt: skip


def _has(header: str, etag: str) -> bool:
    tags = [tag.strip().removeprefix("W/").strip('"') for tag in header.split(",")]
    return etag in tags or tags == ["*"]
