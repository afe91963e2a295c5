"""A call's summary becomes one comment to its client, and nobody reads it in the log."""

from collections.abc import Callable
from typing import Any

import pytest

from adapters.base import Draft
from adapters.bitrix24 import ADAPTER
from gateway.domain.errors import NotYet, Rejected
from tests.adapters.bitrix24.conftest import ended, ringing, settings_of
from tests.adapters.desk import Desk, Ids
from tests.adapters.summaries import RECORDING, Summaries, answered_call, unshown
from tests.sandbox.bitrix24 import Bitrix24

Open = Callable[..., Any]


def draft_of(desk: Desk) -> Draft:
    assert ADAPTER.plan_summary is not None
    (draft,) = ADAPTER.plan_summary(desk.settings, desk.tenant, answered_call(), RECORDING)
    assert unshown(str(draft))
    return draft


async def test_a_comment_to_the_client(portal: Bitrix24, open_desk: Open) -> None:
    contact = portal.add("CONTACT", "8 (029) 111-22-33")
    async with open_desk(settings_of(portal), recordings=Summaries()) as desk:
        await desk.tell(ringing("1"))
        with pytest.raises(NotYet):
            await desk.client.deliver(desk.attempt(draft_of(desk), "1"))
        await desk.tell(ended("1"))
        one = desk.attempt(draft_of(desk), "1")
        assert (await desk.client.deliver(one)).note == ""
        await desk.client.deliver(desk.attempt(draft_of(desk), "1", 2))
        # The same where nothing of the first attempt was remembered but the call.
        desk.ids["1"] = Ids({name: value for name, value in desk.ids["1"].stored.items() if RECORDING not in name})
        again = desk.attempt(draft_of(desk), "1", 3)
        await desk.client.deliver(again)
    (comment,) = portal.comments
    assert (comment["ENTITY_ID"], comment["ENTITY_TYPE"]) == (contact, "contact")
    assert comment["COMMENT"] == (
        'Звонок 21.11.2025 03:13, +375291112233\nКлиент спросил про "две" &#91;большие] пиццы.\nДальше: Анна перезвонит & скажет цену.'
    )
    assert unshown(one.request + one.response + again.request + again.response)
    assert portal.violations == []


async def test_nobody_s_number_and_a_summary_that_is_gone(portal: Bitrix24, open_desk: Open) -> None:
    async with open_desk(settings_of(portal, create="none"), recordings=Summaries()) as desk:
        await desk.tell(ringing("1"), ended("1"))
        assert (await desk.client.deliver(desk.attempt(draft_of(desk), "1"))).note == "no_client"
    async with open_desk(settings_of(portal, create="none"), recordings=Summaries({})) as desk:
        await desk.tell(ringing("1"), ended("1"))
        with pytest.raises(Rejected, match="gone"):
            await desk.client.deliver(desk.attempt(draft_of(desk), "1"))
    assert portal.comments == []
