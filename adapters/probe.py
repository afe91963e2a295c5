"""Tests one PBX or integration with its settings, for the page's button and for `gateway doctor`. Changes nothing outside.

Read `adapters/base.py` for what a client's `test` finds.
"""

from collections.abc import Mapping
from typing import Any

import trio
from pydantic import ValidationError

from adapters.apps import AppCredentials
from adapters.base import Adapter, Dialer, Link, Testable, Tested
from adapters.budget import Budgets, account_of
from adapters.tokens import Tokens
from gateway.domain.configuration import Tenant
from gateway.domain.errors import GatewayError

DEADLINE_S = 10.0


async def probe(
    tenant: Tenant, adapter: Adapter, name: str, values: Mapping[str, Any], base_url: str | None, dial: Dialer,
    budgets: Budgets | None = None, tokens: Tokens | None = None, app: AppCredentials | None = None, provider_urls: Mapping[str, str] | None = None,
) -> Tested:  # fmt: skip
    """What the test found. Never raises for what the other side does or for settings that are wrong."""
    try:
        settings = adapter.settings.model_validate(dict(values))
    except ValidationError as error:
        # Field names alone: the input may hold a secret.
        fields = (".".join(map(str, item["loc"])) for item in error.errors(include_input=False, include_context=False))
        return Tested(ok=False, code="bad_settings", detail=", ".join(fields))
    with trio.move_on_after(DEADLINE_S):
        try:
            budget = (
                budgets.of(account_of(adapter, tenant.number, name, settings), adapter.limits)
                if budgets is not None
                else None
            )
            link = Link(
                tenant, name, base_url, dial, budget=budget, tokens=tokens, app=app, provider_urls=provider_urls or {}
            )
            async with adapter.connect(link, settings) as client:
                return await client.test() if isinstance(client, Testable) else Tested(ok=True, code="not_testable")
        except GatewayError as error:
            return Tested(ok=False, code="unavailable", detail=error.person)
    return Tested(ok=False, code="timeout")
