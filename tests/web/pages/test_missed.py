"""The page of missed calls: who waits, marking and taking it back, and what each person may do."""

from datetime import UTC, datetime, timedelta

from gateway.domain.events import Direction, Result
from gateway.store.audit import select_audit
from tests.web.conftest import SignIn, submitted
from tests.web.world import CSRF, JUNE, MAPLE, World, answered, ended, play, ringing

HOME = "/t/0367/missed"


async def missed(world: World, client: str, minutes: float) -> str:
    """A client who called in vain so many minutes ago."""
    call = ringing(world.call_id(), datetime.now(UTC) - timedelta(minutes=minutes), client, "+375172000001", ["150"])
    await world.keep(JUNE, [call, ended(call, 15, Result.MISSED)])
    return call.call_id


async def test_marking_takes_a_client_off_and_undo_brings_them_back(world: World, sign_in: SignIn) -> None:
    first = await missed(world, "+375291110001", 50)
    await missed(world, "+375291110002", 20)
    client = await sign_in()
    page = await (await client.get(HOME)).get_data(as_text=True)
    assert page.index("111-00-01") < page.index("111-00-02"), "who waits longest comes first"
    page = await submitted(client, f"{HOME}/done", {"csrf": CSRF, "call": first})
    assert "+375 29 111-00-01 is dealt with." in page
    assert f'id="waits-{first}"' not in page
    assert "admin@0367.example" in page
    assert f'action="{HOME}/undo"' in page
    page = await submitted(client, f"{HOME}/undo", {"csrf": CSRF, "call": first})
    assert f'id="waits-{first}"' in page
    lines = await world.db.tenant(JUNE, select_audit, JUNE, None, 9)
    assert [(line.action, line.actor, line.target) for line in lines] == [
        ("missed.undone", "admin@0367.example", "+375291110001"), ("missed.done", "admin@0367.example", "+375291110001")
    ]  # fmt: skip


async def test_what_cannot_be_marked_says_so_and_changes_nothing(world: World, sign_in: SignIn) -> None:
    theirs = await play(world, MAPLE)
    client = await sign_in()
    for call in (theirs[0].call_id, "none", ""):
        for do in ("done", "undo"):
            assert "nothing to change" in await submitted(client, f"{HOME}/{do}", {"csrf": CSRF, "call": call})
    assert await world.db.tenant(JUNE, select_audit, JUNE, None, 9) == []
    other = await (await (await sign_in(MAPLE)).get("/t/0368/missed")).get_data(as_text=True)
    assert f'id="waits-{theirs[0].call_id}"' in other


async def test_a_call_back_that_was_answered_takes_the_client_off_by_itself(world: World, sign_in: SignIn) -> None:
    call = await missed(world, "+375291110001", 50)
    client = await sign_in()
    back = ringing(
        world.call_id(), datetime.now(UTC), "151", "+375291110001", [], direction=Direction.OUTGOING
    )  # fmt: skip
    await world.keep(JUNE, [back, answered(back, "151")])
    page = await (await client.get(HOME)).get_data(as_text=True)
    assert "in a call now" in page
    await world.keep(JUNE, [back, answered(back, "151"), ended(back, 60, Result.ANSWERED, "151")])
    page = await (await client.get(f"{HOME}/list")).get_data(as_text=True)
    assert f'id="waits-{call}"' not in page
    assert "Called back" in page
    assert "Иван Петров" in page


async def test_one_click_calls_back_from_the_phone_that_was_used_last(world: World, sign_in: SignIn) -> None:
    await missed(world, "+375291110001", 5)
    client = await sign_in()
    page = await (await client.get(HOME)).get_data(as_text=True)
    assert 'href="/t/0367/dialling?phone=%2B375291110001"' in page
    await client.post("/t/0367/dialling", form={"csrf": CSRF, "extension": "151", "phone": "+375291110009"})
    page = await (await client.get(HOME)).get_data(as_text=True)
    assert 'name="extension" value="151"' in page
    assert "Your phone 151 rings first" in page


async def test_marking_leads_back_to_the_page_it_was_sent_from(world: World, sign_in: SignIn) -> None:
    call = await missed(world, "+375291110001", 5)
    client = await sign_in()
    answer = await client.post(f"{HOME}/done", form={"csrf": CSRF, "call": call, "back": "overview"})
    assert answer.location is not None
    assert answer.location.startswith("/t/0367/?done=")
