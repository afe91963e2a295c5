"""Deleting a company on the operators' page: the number is typed, and from then on it exists for nobody."""

from gateway.store.tenant_deletions import select_deletions
from tests.web.conftest import SignIn, plain, submitted
from tests.web.world import CSRF, JUNE, World

PAGE = "/operators/tenants/0367/delete"


async def test_the_number_has_to_be_typed(world: World, sign_in: SignIn) -> None:
    client = await sign_in(None)
    page = await (await client.get("/operators/tenants")).get_data(as_text=True)
    assert f'href="{PAGE}"' in page
    wrong = await submitted(client, PAGE, {"csrf": CSRF, "number": "0368"})
    assert 'id="number-error"' in wrong
    assert await world.db.engine(select_deletions) == []
    answer = await client.post(PAGE, form={"csrf": CSRF, "number": " 0367 "})
    assert (answer.status_code, plain(answer.location)) == (303, "/operators/tenants")
    (one,) = await world.db.engine(select_deletions)
    assert (one.tenant, one.stage, one.requested_by) == (JUNE, "requested", "operator@gateway.example")
    page = await (await client.get(str(answer.location))).get_data(as_text=True)
    assert "The company 0367 is being deleted" in page
    assert "being taken back from outside systems" in page
    assert (await client.get(PAGE)).status_code == 404
    assert (await client.get("/t/0367/calls")).status_code == 404


async def test_nobody_else_may(world: World, sign_in: SignIn) -> None:
    client = await sign_in(JUNE)
    assert (await client.get(PAGE)).status_code == 404
    assert (await client.post(PAGE, form={"csrf": CSRF, "number": "0367"})).status_code == 404
    operator = await sign_in(None)
    assert (await operator.post(PAGE, form={"csrf": "x" * 43, "number": "0367"})).status_code == 403
    assert (await operator.get("/operators/tenants/9999/delete")).status_code == 404
    assert await world.db.engine(select_deletions) == []
