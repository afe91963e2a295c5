"""Every CRM in turn: its sandbox on loopback, and an outbox before it."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest
import trio

from adapters.base import Adapter, Link
from adapters.http import SafeDialer
from adapters.registry import integrations
from gateway.domain.configuration import Phone, Tenant
from gateway.domain.ids import Kind
from tests.crms.crm import Crm, Sandbox, registered
from tests.crms.facts import TENANT
from tests.crms.outbox import Outbox

CRMS = registered()


@dataclass
class Bench:
    """One CRM at work."""

    crm: Crm
    sandbox: Sandbox
    adapter: Adapter
    stack: AsyncExitStack
    nursery: trio.Nursery

    async def open(self, **more: Any) -> Outbox:
        """An outbox of an integration with these settings beside those of the account."""
        settings = self.adapter.settings.model_validate({**self.sandbox.settings(), **more})
        link = Link(
            TENANT,
            self.crm.kind,
            getattr(self.sandbox, "base_url", None),
            SafeDialer(allowed_private_nets=["127.0.0.0/8"]),
        )
        client = await self.stack.enter_async_context(self.adapter.connect(link, settings))
        users: Mapping[str, str | None] = {user: number for number, user in self.sandbox.people.items()}
        return Outbox(self.adapter, settings, TENANT, client, self.nursery, users)


Where = Callable[[Crm], bool]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One case for each CRM, or for those that the mark `where` lets through; with the mark `answers` one for each of its faults that
    the CRM's sandbox has."""
    if "bench" in metafunc.fixturenames:
        mark = metafunc.definition.get_closest_marker("where")
        chosen = [one for one in CRMS if mark is None or mark.kwargs["only"](one)]
        if (mark := metafunc.definition.get_closest_marker("answers")) is None:
            metafunc.parametrize("bench", chosen, ids=[one.kind for one in chosen], indirect=True)
            return
        pairs = [(one, fault) for one in chosen for fault in mark.args if fault in one.faults]
        ids = [f"{one.kind}-{fault}" for one, fault in pairs]
        metafunc.parametrize(("bench", "fault"), pairs, ids=ids, indirect=["bench"])


@pytest.fixture
async def bench(request: pytest.FixtureRequest, nursery: trio.Nursery) -> AsyncIterator[Bench]:
    """One for each CRM."""
    crm: Crm = request.param
    sandbox = crm.make()
    await nursery.start(sandbox.serve)
    async with AsyncExitStack() as stack:
        yield Bench(crm, sandbox, integrations()[Kind(crm.kind)], stack, nursery)


__all__ = ["Bench", "Phone", "Tenant"]
