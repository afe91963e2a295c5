"""A call's summary becomes one note on the customer, whom the CRM finds by the number; and nobody reads it in the log."""

from dataclasses import replace
from typing import Any

import pytest
import trio

from adapters.base import Attempt, Link
from adapters.retailcrm import ADAPTER
from adapters.retailcrm.client import connect
from adapters.retailcrm.settings import RetailcrmSettings
from gateway.domain.errors import Rejected, Unavailable
from gateway.domain.events import Direction
from tests.adapters.desk import Ids
from tests.adapters.summaries import RECORDING, SUMMARY, Summaries, answered_call, unshown
from tests.sandbox.retailcrm import RetailCrm
from tests.sandbox.web import Fault

OTHER = {"id": 3, "firstName": "Олег", "phones": [{"number": "+7 495 129 111 22 33"}]}
ANNA = {
    "id": 7,
    "firstName": "Анна",
    "site": "shop",
    "phones": [{"number": "8 (029) 111-22-33"}, {"number": "375291112233"}],
}


@pytest.fixture
async def crm(nursery: trio.Nursery) -> RetailCrm:
    made = RetailCrm(api_key="canary-key-0123456789", rate_limits=False)
    made.customers = [OTHER, ANNA]
    await nursery.start(made.serve)
    return made


def settings(crm: RetailCrm) -> RetailcrmSettings:
    return RetailcrmSettings.model_validate(
        {"domain": crm.base, "api_key": crm.api_key, "client_id": "canary-client-0123456789"}
    )


def attempt(link: Link, crm: RetailCrm, ids: Any, number: int = 1) -> Attempt:
    assert ADAPTER.plan_summary is not None
    (draft,) = ADAPTER.plan_summary(settings(crm), link.tenant, answered_call(), RECORDING)
    assert unshown(str(draft))
    return Attempt(kind=draft.kind, key=draft.key, lane=draft.lane, body=draft.body, number=number, ids=ids)


async def test_a_note_on_the_customer(crm: RetailCrm, open_link: Link) -> None:
    link, ids = replace(open_link, recordings=Summaries()), Ids()
    one = attempt(link, crm, ids)
    async with connect(link, settings(crm)) as client:
        assert (await client.deliver(one)).note == ""
        await client.deliver(attempt(link, crm, ids, 2))
    (note,) = crm.notes
    assert note["customer"] == {"id": 7}
    assert note["text"] == f"Звонок 21.11.2025 03:13, +375291112233\n{SUMMARY}"
    assert unshown(one.request + one.response)
    assert "***" in one.request


@pytest.mark.parametrize("fault", [Fault.DROP, Fault.HTTP_500])
async def test_a_fault_loses_nothing(crm: RetailCrm, open_link: Link, fault: Fault) -> None:
    link, ids = replace(open_link, recordings=Summaries()), Ids()
    async with connect(link, settings(crm)) as client:
        crm.fault, crm.fault_count = fault, 1
        with pytest.raises(Unavailable):
            await client.deliver(attempt(link, crm, ids))
        await client.deliver(attempt(link, crm, ids, 2))
    assert len(crm.notes) == 1


async def test_a_note_whose_answer_was_lost_is_found(crm: RetailCrm, open_link: Link) -> None:
    link = replace(open_link, recordings=Summaries())
    async with connect(link, settings(crm)) as client:
        await client.deliver(attempt(link, crm, Ids()))
        one = attempt(link, crm, Ids(), 2)  # nothing is remembered
        await client.deliver(one)
    assert len(crm.notes) == 1
    assert unshown(one.request + one.response)


async def test_nobody_s_number_and_a_summary_that_is_gone(crm: RetailCrm, open_link: Link) -> None:
    link = replace(open_link, recordings=Summaries())
    crm.customers = [OTHER]
    async with connect(link, settings(crm)) as client:
        assert (await client.deliver(attempt(link, crm, Ids()))).note == "no_customer"
    async with connect(replace(link, recordings=Summaries({})), settings(crm)) as client:
        with pytest.raises(Rejected, match="gone"):
            await client.deliver(attempt(link, crm, Ids()))
    async with connect(open_link, settings(crm)) as client:
        with pytest.raises(Rejected):
            await client.deliver(attempt(open_link, crm, Ids()))
    assert crm.notes == []


async def test_calls_of_nobody_make_no_note(crm: RetailCrm, open_link: Link) -> None:
    assert ADAPTER.plan_summary is not None
    for call in (answered_call("anonymous"), answered_call(direction=Direction.INTERNAL)):
        assert not ADAPTER.plan_summary(settings(crm), open_link.tenant, call, RECORDING)
