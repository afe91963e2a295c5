"""An integration as the API shows it: its settings masked, and its status in the contract's four words.

The status is made of the health of its actors in one function, `status_of`. Read `integrations.py` for the addresses.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from actors.runtime.directory import Slot
from adapters.base import Adapter
from gateway.domain.configuration import Connector
from gateway.domain.health import Health, State
from gateway.domain.ids import titled
from gateway.web.pages.change_settings import shown_settings
from gateway.web.rest.endpoints import Shown
from gateway.web.session.surroundings import UPDATES, most_urgent
from gateway.web.translations import Words, words

Status = Literal["active", "inactive", "pending", "error"]
_OF_STATE: Mapping[State, Status] = {
    State.STARTING: "pending", State.CONNECTING: "pending", State.STOPPED: "pending", State.ONLINE: "active",
    State.DEGRADED: "active", State.OFFLINE: "error", State.ATTENTION: "error", State.FAILED: "error",
}  # fmt: skip
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
    status: Status
    code: str = Field(description="why, for programs; empty where all is well")
    message: str = Field(description="why, for people")
    what_to_do: str | None
    since: datetime | None
    next_try: datetime | None
    last_sync_at: datetime | None = Field(description="the last successful delivery")


@dataclass(frozen=True, slots=True)
class StatusView:
    """A status with its reason."""

    status: Status
    code: str
    message: str
    what_to_do: str | None
    since: datetime | None
    next_try: datetime | None


def status_of(health: Health | None, *, enabled: bool, kind: str, t: Words) -> StatusView:
    """The status of an integration whose actors report this health; None where none runs."""
    if not enabled:
        return StatusView("inactive", "switched_off", t("health.switched_off"), None, None, None)
    if health is None:
        return StatusView("pending", "not_running", t("health.not_running"), None, None, None)
    message = t.optional("health", health.code, kind) or t(f"state_says.{health.state}")
    if health.detail:
        message = f"{message} ({health.detail})"
    remedy = t.optional("remedy", health.code, kind) or None
    return StatusView(_OF_STATE[health.state], health.code, message, remedy, health.since, health.next_try)


def item_of(
    link: Connector, adapter: Adapter, slots: Mapping[str, Slot], place: str, name: str, last_done_at: datetime | None,
    language: str,
) -> IntegrationItem:  # fmt: skip
    """A connected integration. `place` is the path of its actor."""
    slot = most_urgent(slots.get(f"{place}{part}") for part in ("", UPDATES))
    seen = status_of(
        slot.health if slot is not None else None, enabled=link.enabled, kind=adapter.kind, t=words(language)
    )
    return IntegrationItem(
        key=link.key, provider=adapter.kind, type=adapter.type, name=name or titled(adapter.title, link.key),
        enabled=link.enabled, settings=shown_settings(adapter.settings, link.settings), status=seen.status, code=seen.code,
        message=seen.message, what_to_do=seen.what_to_do, since=seen.since, next_try=seen.next_try, last_sync_at=last_done_at,
    )  # fmt: skip
