"""`GET /api/v1/integrations/available`: the outside systems that a company can connect, with what each has to be given.

Answers from the adapters in memory, all of them at once, in the language of the request. Read `adapters/catalogue.py` for what is
in an entry.
"""

from typing import Any, Literal

from pydantic import ConfigDict, Field

from adapters.catalogue import entries
from gateway.domain.api_keys import SCOPES
from gateway.web.http.routes import Response
from gateway.web.rest.deps import RestDeps
from gateway.web.rest.endpoints import Call, Endpoint, Page, Shown


class OptionItem(Shown):
    """A value that can be chosen."""

    value: str
    label: str


class FieldItem(Shown):
    """One setting. What is optional is there only where there is something."""

    key: str = Field(description="its name in `settings`")
    label: str
    type: Literal["text", "password", "url", "select", "switch", "number", "list", "map", "group"]
    required: bool
    placeholder: str | None = None
    options: list[OptionItem] | None = Field(None, description="the values of a select")
    help_text: str | None = None
    advanced: bool | None = None
    default: bool | int | float | str | list[str] | None = None
    fields: list["FieldItem"] | None = Field(None, description="the settings of a group")


class AvailableItem(Shown):
    """A kind of outside system."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={
            "examples": [
                {"provider": "crm", "type": "crm", "name": "CRM", "description": "Clients and orders.", "icon_url": "/icons/crm.svg",
                 "config_schema": [{"key": "api_key", "label": "API key", "type": "password", "required": True}],
                 "docs_url": None, "is_available": True}
            ]
        },
    )  # fmt: skip

    provider: str
    type: Literal["crm", "channel", "pbx"]
    name: str
    description: str
    icon_url: str | None = Field(description="below the public address")
    config_schema: list[FieldItem]
    docs_url: str | None
    is_available: bool


class AvailablePage(Page[AvailableItem]):
    """All of them: there is never a next page."""


def registry(deps: RestDeps) -> list[Endpoint]:
    """The endpoint."""

    async def available(call: Call) -> Response:
        items: list[dict[str, Any]] = entries(call.language)
        page = AvailablePage.model_validate({"items": items, "next": None})
        return Response(body=page.model_dump_json(exclude_unset=True).encode())

    return [
        Endpoint(method="GET", path="/integrations/available", operation=available, scopes=SCOPES, answer=AvailablePage,
                 summary="Outside systems that can be connected, with the fields of their settings in the language of Accept-Language"),
    ]  # fmt: skip
