"""Calls faster than HubSpot takes requests: nothing is refused, for what its limits allow is not exceeded; and clocks that differ."""

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from adapters.budget import Budget
from adapters.hubspot import ADAPTER, writing
from gateway.domain.errors import NotYet, RateLimited
from tests.adapters.bitrix24.conftest import ended
from tests.adapters.hubspot.conftest import settings_of
from tests.sandbox.hubspot import HubSpot

Open = Callable[..., Any]
CALLS = 60


@pytest.mark.long  # a quarter of a minute at the account's own limits
async def test_calls_of_strangers_at_the_account_s_limits(account: HubSpot, open_desk: Open) -> None:
    budget, began = Budget(ADAPTER.limits), trio.current_time()
    places = trio.CapacityLimiter(ADAPTER.limits.at_once)  # deliveries under way, as the worker has them
    async with open_desk(settings_of(account), budget=budget) as desk:

        async def one(number: int) -> None:
            (finish,) = desk.planned(ended(f"c{number}", phone=f"+3752911122{number:02}"))
            while True:
                try:
                    async with places:
                        await desk.client.deliver(desk.attempt(finish, f"c{number}"))
                    return
                except RateLimited as error:  # as the outbox does: the budget is used up, nothing was sent
                    await trio.sleep(error.after_s or 1.0)

        async with trio.open_nursery() as nursery:
            for number in range(CALLS):
                nursery.start_soon(one, number)
    took, least = trio.current_time() - began, (CALLS - 4) / 4
    assert len(account.all("calls")) == len(account.all("contacts")) == CALLS
    assert account.violations == []
    assert account.refused["RATE_LIMITS"] == 0
    assert account.violations == []
    sent = account.requests["POST calls"] + account.requests["POST calls/batch"]
    print(
        f"\n{CALLS} calls of strangers in {took:.1f} s; by 4 searches a second at least {least:.1f} s; {sent} requests for the calls"
    )


@pytest.mark.parametrize("off_s", [-60.0, 60.0])
async def test_a_clock_that_is_off_by_a_minute(
    account: HubSpot, open_desk: Open, monkeypatch: pytest.MonkeyPatch, off_s: float
) -> None:
    """The process before this one had a clock of its own. Whatever it remembered, one waits no longer than it takes."""
    now = time.time()
    account.lag_s = 0.0
    async with open_desk(settings_of(account, call_field="", search_lag_s=30)) as desk:
        (finish,) = desk.planned(ended("1"))
        attempt = desk.attempt(finish, "1", 2)
        await attempt.remember("call_making", f"{now + off_s:.3f}")
        if off_s > 0:
            with pytest.raises(NotYet) as raised:
                await desk.client.deliver(attempt)
            assert (raised.value.after_s or 0) <= 30
            monkeypatch.setattr(writing, "time", SimpleNamespace(time=lambda: now + 91))
        await desk.client.deliver(attempt)
    assert len(account.all("calls")) == 1
    assert account.violations == []
