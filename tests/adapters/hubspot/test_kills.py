"""A process that dies between any two steps of a call: the next one makes nothing twice and loses nothing."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from gateway.domain.events import Result
from gateway.domain.subjects import Subject
from tests.adapters.bitrix24.conftest import ended
from tests.adapters.desk import Ids
from tests.adapters.hubspot.conftest import settings_of
from tests.sandbox.hubspot import HubSpot

Open = Callable[..., Any]
LINK = "https://gw.example/recordings/file/1"


class Died(BaseException):
    """The process was killed."""


@dataclass
class Life:
    """Dies at one of its steps: before a request leaves, before an id is durable, or right after."""

    left: int

    def step(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Died


@dataclass
class Mortal(Ids):
    """Ids of such a process."""

    life: Life | None = None

    async def remember(self, name: str, external_id: str, of: Subject | None = None) -> None:
        assert self.life is not None
        self.life.step()
        await super().remember(name, external_id, of)
        self.life.step()


@pytest.mark.slow
@pytest.mark.parametrize(("call_field", "contact_field"), [("gw_call_id", "gw_phone"), ("gw_call_id", ""), ("", "")])
async def test_a_kill_at_any_step_doubles_and_loses_nothing(
    account: HubSpot, open_desk: Open, call_field: str, contact_field: str
) -> None:
    account.lag_s, account.limits, account.unique_calls = 0.0, False, bool(contact_field)
    settings = settings_of(account, call_field=call_field, contact_field=contact_field)
    async with open_desk(settings) as desk:
        await desk.client.schema.current()
    steps, finished = 0, False
    while not finished:
        call, life = f"k{steps}", Life(steps)
        ids = Mortal(life=life)
        finished = True
        for second in (False, True):
            async with open_desk(settings) as desk:  # a process of its own
                desk.ids[call] = ids
                drafts = desk.planned(ended(call, Result.MISSED, phone=f"+37529111{steps:04}", recording=LINK))
                try:
                    for draft in drafts:
                        attempt = desk.attempt(draft, call, 2 if second else 1)
                        attempt.permit = life.step
                        await desk.client.deliver(attempt)
                except Died:
                    assert not second
                    finished, life.left = False, 10_000
                else:
                    break
        steps += 1
    print(f"\n{steps - 1} steps")
    assert steps > 10
    counts = [len(account.all(kind)) for kind in ("calls", "contacts", "tasks")]
    assert counts == [steps] * 3
    assert all(one.properties["hs_call_recording_url"] == LINK and one.contacts for one in account.all("calls"))
    assert account.violations == []
