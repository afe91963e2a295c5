"""An integration as the API shows it: its settings masked, and its status as its pages show it.

Read `gateway/web/statuses.py` for the status, `integrations.py` for the addresses.
"""

from datetime import datetime
from typing import Any, Literal

from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from adapters.base import Adapter
from gateway.domain.configuration import Connector
from gateway.domain.ids import titled
from gateway.domain.statuses import Status
from gateway.web.pages.change_settings import shown_settings
from gateway.web.rest.endpoints import Shown
from gateway.web.statuses import status_json
from gateway.web.translations import words

_EXAMPLE: JsonDict = {
    "key": "crm:main", "provider": "crm", "type": "crm", "name": "Main CRM", "enabled": True,
    "settings": {"domain": "https://june.example", "api_key": "***"}, "status": "error", "code": "bad_credentials",
    "message": "The other side refused the user, the password or the key.", "what_to_do": "Enter a new key.",
    "since": "2026-11-21T08:00:00Z", "next_try": "2026-11-21T08:05:00Z", "last_sync_at": "2026-11-20T21:10:00Z",
}  # fmt: skip


class IntegrationItem(Shown):
    """A connected integration."""

    model_config = ConfigDict(frozen=True, json_schema_extra={"examples": [_EXAMPLE]})

    key: str = Field(description="KIND, or KIND:NAME")
    provider: str
    type: Literal["crm", "channel", "pbx"]
    name: str
    enabled: bool
    settings: dict[str, Any] = Field(
        description="secrets are `***`, which leaves them as they are when it is sent back"
    )
    status: Literal["active", "inactive", "pending", "error"]
    code: str = Field(description="why, for programs; empty where all is well")
    message: str = Field(description="why, for people")
    what_to_do: str | None
    since: datetime | None
    next_try: datetime | None
    last_sync_at: datetime | None = Field(description="the last successful delivery")


def item_of(link: Connector, adapter: Adapter, status: Status, name: str, language: str) -> IntegrationItem:
    """A connected integration."""
    return IntegrationItem(
        key=link.key, provider=adapter.kind, type=adapter.type, name=name or titled(adapter.title, link.key),
        enabled=link.enabled, settings=shown_settings(adapter.settings, link.settings),
        **status_json(status, words(language), adapter.kind),
    )  # fmt: skip
