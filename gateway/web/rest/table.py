"""All resources of `/api/v1`. A new one is a module with a function like the others', and its name here."""

from collections.abc import Callable, Sequence

from gateway.web.http.routes import Address
from gateway.web.rest.ai_use import ai_use
from gateway.web.rest.audit import audit
from gateway.web.rest.bot_config import bot_config
from gateway.web.rest.calls import calls
from gateway.web.rest.catalog import catalog
from gateway.web.rest.changes import changes
from gateway.web.rest.chats import chats
from gateway.web.rest.contacts import contact_endpoints
from gateway.web.rest.deals import deals
from gateway.web.rest.deliveries import deliveries
from gateway.web.rest.deps import RestDeps
from gateway.web.rest.endpoints import Endpoint, rest_addresses
from gateway.web.rest.files import file_endpoints
from gateway.web.rest.integration_jobs import integration_jobs
from gateway.web.rest.integrations import integrations
from gateway.web.rest.keys import keys
from gateway.web.rest.mapping import mapping
from gateway.web.rest.orders import order_endpoints
from gateway.web.rest.profile import profile
from gateway.web.rest.prompts import prompts
from gateway.web.rest.registry import registry
from gateway.web.rest.users import users

RESOURCES: Sequence[Callable[[RestDeps], list[Endpoint]]] = (
    registry, integrations, integration_jobs, mapping, bot_config, prompts, profile, catalog, calls, chats, contact_endpoints, file_endpoints, order_endpoints, deals, ai_use, deliveries, audit, users, keys, changes,
)  # fmt: skip


def api_addresses(deps: RestDeps) -> list[Address]:
    """The addresses for the table of machine addresses."""
    return rest_addresses(deps, [endpoint for resource in RESOURCES for endpoint in resource(deps)])
