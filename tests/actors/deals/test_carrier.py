"""Deals from one strict portal to another: once, kept up to date, with contacts and company, and nothing twice whatever fails."""

from collections.abc import AsyncIterator

import pytest

from gateway.store.deal_runs import Replaced, select_due_runs
from gateway.store.postgres.pool import Database
from tests.actors.deals.world import JUNE, PAIR, SOURCE, TARGET, Deals, open_deals, route
from tests.sandbox.web import Fault
from tests.store.database import db, dsn, postgres

__all__ = ["db", "dsn", "postgres"]
pytestmark = pytest.mark.slow


@pytest.fixture
async def deals(db: Database) -> AsyncIterator[Deals]:
    async with open_deals(db) as opened:
        yield opened
    assert opened.target.doubles == []
    assert opened.target.violations == []


def states(outcomes: object) -> list[tuple[str, str]]:
    return [(one.state, one.cause) for one in outcomes]  # type: ignore[attr-defined] # of any kind of run


async def test_a_deal_is_carried_with_contacts_and_company_and_its_updates_follow(deals: Deals) -> None:
    anna = deals.source.add("CONTACT", "+375296254070", NAME="Анна")
    firm = deals.source.add("COMPANY", "+375171112233", TITLE="Июнь")
    there = deals.target.add("CONTACT", "+375296254070", NAME="Анна К.")
    number = deals.source.deal(
        TITLE="Окна & двери", CATEGORY_ID="1", STAGE_ID="C1:PREPARATION", OPPORTUNITY=1500, UF_CRM_SOURCE_ID="П-7",
        CONTACT_IDS=[anna], COMPANY_ID=firm,
    )  # fmt: skip
    (first,) = await deals.carry([number])
    assert (first.state, first.cause) == ("success", "")
    made = deals.of(number)
    assert first.target_id == int(made["ID"])
    assert (made["TITLE"], made["STAGE_ID"], made["OPPORTUNITY"]) == ("Окна & двери", "PREPARATION", "1500.00")
    assert (made["UF_CRM_PARTNER_ID"], made["SOURCE_DESCRIPTION"]) == ("П-7", "Import from partner.example.com")
    assert made["_contacts"] == [there], "found by phone, not made"
    (company,) = deals.target.entities["COMPANY"].values()
    assert (company["TITLE"], made["COMPANY_ID"]) == ("Июнь", company["ID"])
    assert states(await deals.carry([number])) == [("skipped", "same_state")]
    deals.source.deal(number, STAGE_ID="C1:WON", OPPORTUNITY=1700)
    (again,) = await deals.carry([number])
    assert (again.state, again.changed) == ("success", ("OPPORTUNITY", "STAGE_ID", "UF_CRM_IMPORT_DATE"))
    assert (deals.of(number)["STAGE_ID"], deals.of(number)["OPPORTUNITY"]) == ("WON", "1700.00")
    assert deals.target.made.total() == 1


async def test_a_group_of_deals_shares_requests(deals: Deals) -> None:
    numbers = [deals.source.deal(TITLE=f"Deal {n}", CATEGORY_ID="1") for n in range(20)]
    assert {one.state for one in await deals.carry(numbers)} == {"success"}
    assert deals.source.requests["batch"] <= 1
    assert deals.target.requests["batch"] <= 5
    assert len(deals.target.entities["DEAL"]) == 20


@pytest.mark.parametrize(
    "fault", [Fault.DROP, Fault.DROP_AFTER, Fault.HTTP_500, Fault.HTML, Fault.EMPTY, Fault.SUCCESS_FALSE]
)
@pytest.mark.parametrize("place", range(1, 6))
async def test_a_fault_at_any_request_makes_nothing_twice(deals: Deals, fault: Fault, place: int) -> None:
    anna = deals.source.add("CONTACT", "+375296254070", NAME="Анна")
    numbers = [deals.source.deal(TITLE=f"Deal {n}", CATEGORY_ID="1", CONTACT_IDS=[anna]) for n in range(3)]
    deals.target.every = place
    await deals.carry(numbers)
    deals.target.every = 0
    deals.target.fault, deals.target.fault_count = fault, 1
    await deals.again()
    for _ in range(3):
        await deals.again()
    for number in numbers:
        assert deals.of(number)["TITLE"].startswith("Deal")
    assert max(deals.target.made.values()) == 1
    assert len(deals.target.entities["CONTACT"]) == 1


async def test_what_was_made_by_an_attempt_that_was_killed_is_found_again(deals: Deals) -> None:
    number = deals.source.deal(TITLE="One", CATEGORY_ID="1")
    origin = f"deal:0367:{SOURCE}:{number}"
    made = deals.target.deal(TITLE="One", ORIGINATOR_ID="telephony-gateway", ORIGIN_ID=origin)
    (done,) = await deals.carry([number])
    assert (done.state, done.target_id) == ("success", made)


async def test_bad_deals_fail_by_themselves_and_say_why(deals: Deals) -> None:
    good = deals.source.deal(TITLE="Good", CATEGORY_ID="1")
    stage = deals.source.deal(TITLE="Stage", CATEGORY_ID="0", STAGE_ID="EXECUTING")
    currency = deals.source.deal(TITLE="Currency", CATEGORY_ID="1")
    deals.source.entities["DEAL"][currency]["CURRENCY_ID"] = "XTS"
    strict = route(mapping={"TITLE": "TITLE", "CURRENCY_ID": "CURRENCY_ID", "UF_CRM_NONE": "TITLE",
                            "STAGE_ID": {"field": "STAGE_ID", "values": {"C1:NEW": "NEW"}}})  # fmt: skip
    found = {one.run.deal_id: one for one in await deals.carry([good, stage, currency, 999_999], strict)}
    assert (found[good].state, found[good].note) == ("success", "UF_CRM_NONE")
    assert (found[stage].state, found[stage].cause, found[stage].detail) == (
        "failed",
        "no_value",
        "STAGE_ID: EXECUTING",
    )
    assert (found[currency].cause, found[currency].detail) == ("unknown_currency", "CURRENCY_ID: XTS")
    assert (found[999_999].state, found[999_999].cause) == ("skipped", "deal_not_found")


async def test_a_required_field_that_is_empty_fails_and_a_target_that_may_not_be_written_waits(deals: Deals) -> None:
    number = deals.source.deal(TITLE="One", CATEGORY_ID="1")
    deals.target.required = {"COMMENTS"}
    (done,) = await deals.carry([number])
    assert (done.state, done.cause) == ("failed", "rejected")
    assert "COMMENTS" in done.detail
    deals.target.required, deals.target.read_only = set(), True
    (done,) = await deals.carry([number])
    assert (done.state, done.cause) == ("waiting", "bad_settings")
    assert done.again_s >= 60
    deals.target.read_only = False
    assert states(await deals.again()) == [("success", "")]


async def test_a_contact_that_was_merged_over_there_is_found_anew(deals: Deals) -> None:
    anna = deals.source.add("CONTACT", "+375296254070", NAME="Анна")
    number = deals.source.deal(TITLE="One", CATEGORY_ID="1", CONTACT_IDS=[anna])
    await deals.carry([number])
    (made,) = deals.target.entities["CONTACT"]
    other = deals.target.add("CONTACT", "+375170000000", NAME="Анна К.")
    deals.target.merge("CONTACT", made, other)
    deals.source.deal(number, TITLE="Two")
    assert states(await deals.carry([number])) == [("success", "")]
    assert list(deals.target.entities["CONTACT"]) == [other]
    assert other in deals.of(number)["_contacts"]


async def test_a_deal_that_was_removed_over_there_is_made_anew_or_left_alone_as_the_route_says(deals: Deals) -> None:
    number = deals.source.deal(TITLE="One", CATEGORY_ID="1")
    (first,) = await deals.carry([number])
    assert first.target_id is not None
    deals.target.remove("DEAL", first.target_id)
    deals.source.deal(number, TITLE="Two")
    calm = route(recreate=False)
    assert states(await deals.carry([number], calm)) == [("skipped", "target_removed")]
    (again,) = await deals.carry([number], calm, forced=True)
    assert again.state == "success"
    assert again.target_id != first.target_id
    assert deals.of(number)["TITLE"] == "Two"


async def test_the_filter_and_the_source_field(deals: Deals) -> None:
    wanted = route(filter={"CATEGORY_ID": ["1"]}, source_field="UF_CRM_TARGET_ID")
    yes, no = deals.source.deal(CATEGORY_ID="1"), deals.source.deal(CATEGORY_ID="0")
    found = {one.run.deal_id: one for one in await deals.carry([yes, no], wanted)}
    assert (found[no].state, found[no].cause) == ("skipped", "filtered")
    assert deals.source.entities["DEAL"][yes]["UF_CRM_TARGET_ID"] == str(found[yes].target_id)
    assert states(await deals.carry([yes], wanted)) == [("skipped", "same_state")]
    assert deals.source.writes[yes] == 1


async def test_what_we_wrote_goes_back_by_no_route(deals: Deals) -> None:
    there, back = route(), route(name="main-to-partner", source=TARGET, target=SOURCE, mapping={"TITLE": "TITLE"})
    number = deals.source.deal(TITLE="One", CATEGORY_ID="1")
    (done,) = await deals.carry([number], there, back)
    assert done.target_id is not None
    found = await deals.carry([done.target_id], there, back, pair=(TARGET, SOURCE))
    assert states(found) == [("skipped", "own_deal")]
    assert len(deals.source.entities["DEAL"]) == 1
    # One whose link is not known yet bears witness itself.
    killed = deals.target.deal(
        TITLE="Made, then killed", ORIGINATOR_ID="telephony-gateway", ORIGIN_ID=f"deal:0367:{SOURCE}:{number + 50}"
    )
    found = await deals.carry([killed], there, back, pair=(TARGET, SOURCE))
    assert states(found) == [("skipped", "own_deal")]


async def test_a_change_of_the_pipeline_is_a_move(deals: Deals) -> None:
    both = route(mapping={"TITLE": "TITLE", "CATEGORY_ID": "CATEGORY_ID", "STAGE_ID": "STAGE_ID"})
    number = deals.source.deal(TITLE="One", CATEGORY_ID="0", STAGE_ID="EXECUTING")
    await deals.carry([number], both)
    item = deals.source.entities["DEAL"][number]
    item["CATEGORY_ID"], item["STAGE_ID"] = "1", "C1:WON"
    assert states(await deals.carry([number], both)) == [("success", "")]
    assert (deals.of(number)["CATEGORY_ID"], deals.of(number)["STAGE_ID"]) == ("1", "C1:WON")


async def test_an_actor_whose_tenant_has_passed_on_makes_nothing(deals: Deals) -> None:
    number = deals.source.deal(TITLE="One", CATEGORY_ID="1")
    await deals.tell([number])
    runs = await deals.db.engine(select_due_runs, JUNE, PAIR, 50)
    with pytest.raises(Replaced):
        await deals.carrier(route(), epoch=2).carry(runs)
    assert deals.target.entities["DEAL"] == {}
