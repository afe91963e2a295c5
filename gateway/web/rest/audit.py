"""`/audit`: who did what to which object."""

from datetime import datetime

from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from gateway.store.audit import select_audit
from gateway.web.rest.deps import RestDeps
from gateway.web.rest.endpoints import Call, Endpoint, ListQuery, Page, Shown

_EXAMPLE: JsonDict = {
    "id": 12, "at": "2026-11-21T08:00:00Z", "actor": "admin@june.example", "action": "config.changed",
    "object": "crm:main", "detail": "api_key: *** -> *** changed",
}  # fmt: skip


class AuditItem(Shown):
    """One operation; secrets are masked."""

    model_config = ConfigDict(frozen=True, json_schema_extra={"examples": [_EXAMPLE]})

    id: int
    at: datetime
    actor: str = Field(description="an e-mail address, an integration, an API key's first characters, or `cli`")
    action: str
    object: str
    detail: str


class AuditPage(Page[AuditItem]):
    """Operations, newest first."""


def audit(deps: RestDeps) -> list[Endpoint]:
    """The endpoint."""

    async def listed(call: Call) -> AuditPage:
        number, limit = call.tenant.number, call.query.limit
        after = deps.cursors.wanted(number, "audit", call.query.cursor)
        found = await deps.db.tenant(number, select_audit, number, int(after[0]) if after else None, limit + 1)
        onward = deps.cursors.new(number, "audit", [found[limit - 1].audit_id]) if len(found) > limit else None
        items = [
            AuditItem(
                id=one.audit_id, at=one.at, actor=one.actor, action=one.action, object=one.target, detail=one.detail
            )
            for one in found[:limit]
        ]
        return AuditPage(items=items, next=onward)

    return [
        Endpoint(method="GET", path="/audit", operation=listed, scopes=("read",), query=ListQuery, answer=AuditPage,
                 summary="Who did what to which object, newest first")
    ]  # fmt: skip
