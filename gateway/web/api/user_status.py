"""Receives from an outside system the statuses of its users, and whether our module is switched on there.

The caller is already authenticated: these take a tenant, the adapter's kind and the request, and return the response.
A received status is stored and never sent back. Read `actors/crm/registration.py` next.
"""

from actors.crm.registration import Registrations, registered_as
from adapters.base import ActivityRequest, StatusRequest
from gateway.domain.configuration import Tenant
from gateway.domain.ids import IntegrationKey
from gateway.web.http.routes import Response, answer_json, problem


async def set_status(deps: Registrations, tenant: Tenant, key: IntegrationKey, requested: StatusRequest) -> Response:
    """A user is free, busy or away. 400 where the request names nobody that is known."""
    linked = registered_as(key)
    if linked is None:
        return problem(404, "NOT_FOUND", "This integration keeps no users here.")
    if not await deps.receive_status(tenant.number, linked, requested.user_id, requested.extension, requested.status):
        return problem(
            400, "VALIDATION_ERROR", "No such user has an internal number here.",
            errors=[("userId", "is not known") if requested.user_id else ("code", "belongs to no user")],
        )  # fmt: skip
    return answer_json({"status": "accepted"})


async def set_activity(
    deps: Registrations, tenant: Tenant, key: IntegrationKey, requested: ActivityRequest
) -> Response:
    """The module was switched off there: its link is revoked here too. Switched on, it waits for a registration."""
    linked = registered_as(key)
    if linked is None:
        return problem(404, "NOT_FOUND", "This integration has no module.")
    await deps.switched(tenant.number, linked, active=requested.active)
    return answer_json({"status": "accepted"})
