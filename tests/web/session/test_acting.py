"""Operators act as a company: with a reason, in sight, for an hour, audited on both sides. And people of several companies."""

import re
from typing import Any

from gateway.domain.ids import TenantId
from gateway.domain.people import Role
from gateway.store import users
from gateway.store.audit import OPERATORS, select_audit
from gateway.store.postgres.pool import Connection
from tests.web.conftest import SignIn, submitted
from tests.web.session.test_auth import csrf_of, log_in
from tests.web.world import CSRF, HASHED, JUNE, MAPLE, World

OPERATOR = "operator@gateway.example"


async def text(client: Any, path: str) -> str:
    return str(await (await client.get(path)).get_data(as_text=True))


async def trail(world: World, whose: TenantId) -> list[tuple[str, str, str]]:
    lines = await world.db.engine(select_audit, whose, None, 50)
    return [(line.action, line.target, line.detail) for line in reversed(lines) if line.actor == OPERATOR]


async def test_a_companys_pages_open_for_an_operator_only_while_acting(world: World, sign_in: SignIn) -> None:
    client = await sign_in(None)
    answer = await client.get("/t/0367/integrations?x=1")
    page = await answer.get_data(as_text=True)
    assert answer.status_code == 404
    hint = re.search(r'href="(/operators/act-as\?[^"]+)"', page)
    assert hint is not None
    assert 'name="next" value="/t/0367/integrations?x=1"' in await text(client, hint[1].replace("&amp;", "&"))
    assert "act-as" not in await text(client, "/t/9999/integrations"), "there is no such company"
    form = {"csrf": CSRF, "tenant": "0367", "reason": "ticket 17 <b>", "next": "/t/0367/integrations"}
    answer = await client.post("/operators/act-as", form=form)
    assert (answer.status_code, answer.location) == (303, "/t/0367/integrations")
    for path in ("/t/0367/integrations", "/operators/tenants", "/operators/audit"):
        page = await text(client, path)
        assert 'id="acting"' in page, path
        assert "ticket 17 &lt;b&gt;" in page
    assert (await client.get("/t/0368/calls")).status_code == 404
    page = await submitted(client, "/operators/act-as/end", {"csrf": CSRF})
    assert 'id="acting"' not in page
    assert (await client.get("/t/0367/calls")).status_code == 404
    noted = [("operator.acting", "0367", "ticket 17 <b>"), ("operator.acting_ended", "0367", "")]
    assert await trail(world, JUNE) == await trail(world, OPERATORS) == noted
    assert "ticket 17" in await text(await sign_in(), "/t/0367/audit")
    assert "ticket 17" in await text(client, "/operators/audit")


async def test_a_program_acts_by_json(world: World, sign_in: SignIn) -> None:
    client = await sign_in(None)
    token = {"X-CSRF-Token": (await client.get("/operators/tenants")).headers["X-CSRF-Token"]}
    sent = {"tenant": "0367", "reason": "ticket 17"}
    assert (await client.post("/operators/act-as", json=sent)).status_code == 403
    assert (await client.post("/operators/act-as", json=sent, headers={"X-CSRF-Token": "x"})).status_code == 403
    for wrong, fields in (
        ({}, ["tenant", "reason"]),
        ({"tenant": "9999", "reason": "x" * 301}, ["tenant", "reason"]),
        ([1], ["body"]),
    ):
        answer = await client.post("/operators/act-as", json=wrong, headers=token)
        assert answer.status_code == 422
        assert answer.mimetype == "application/problem+json"
        assert [one["field"] for one in (await answer.get_json())["errors"]] == fields
    answer = await client.post("/operators/act-as", json=sent, headers=token)
    assert (answer.status_code, (await answer.get_json())["tenant"]) == (200, "0367")
    assert (await client.get("/t/0367/calls")).status_code == 200
    await client.post("/operators/act-as", json={**sent, "tenant": "0368"}, headers=token)
    assert [(await client.get(f"/t/{number}/calls")).status_code for number in (JUNE, MAPLE)] == [404, 200]
    assert (await client.delete("/operators/act-as")).status_code == 403
    assert (await client.delete("/operators/act-as", headers=token)).status_code == 204
    assert (await client.delete("/operators/act-as", headers=token)).status_code == 204
    assert (await client.get("/t/0368/calls")).status_code == 404
    assert [action for action, *_ in await trail(world, JUNE)] == ["operator.acting", "operator.acting_ended"]


async def test_it_ends_after_an_hour_and_by_signing_out(world: World, sign_in: SignIn) -> None:
    async def grow_old(conn: Connection) -> None:
        await conn.execute("UPDATE sessions SET acting_until = acting_until - interval '1 hour'")

    client = await sign_in(None, acting=JUNE)
    assert (await client.get("/t/0367/calls")).status_code == 200
    await world.db.engine(grow_old)
    assert (await client.get("/t/0367/calls")).status_code == 404
    client = await sign_in(None, acting=JUNE)
    await client.post("/logout", form={"csrf": CSRF})
    assert await trail(world, JUNE) == await trail(world, OPERATORS) == [("operator.acting_ended", "0367", "")]


async def test_nobody_else_acts_as_a_company(world: World, sign_in: SignIn) -> None:
    client = await sign_in(JUNE)
    form = {"csrf": CSRF, "tenant": "0368", "reason": "curious"}
    assert (await client.post("/operators/act-as", form=form)).status_code == 404
    assert (await client.get("/operators/act-as")).status_code == 404
    assert (await client.get("/t/0368/calls")).status_code == 404


# One person, several companies


async def test_one_password_opens_every_company_of_a_person(world: World) -> None:
    await world.db.engine(users.upsert_user, MAPLE, "admin@0367.example", HASHED, Role.AUDITOR)
    client = world.app.test_client()
    assert (await log_in(client, "admin@0367.example")).location == "/"
    page = await text(client, "/t/0367/calls")
    menu = page.partition('class="companies"')[2].partition("</nav>")[0]
    assert re.findall(r'href="/t/(\d+)/"( aria-current)?', menu) == [("0367", " aria-current"), ("0368", "")]
    csrf = await csrf_of(client, "/t/0368/calls")
    assert (await client.post("/t/0367/keys", form={"csrf": csrf, "name": "x", "scope": "call"})).status_code == 303
    assert (await client.post("/t/0368/keys", form={"csrf": csrf, "name": "x", "scope": "call"})).status_code == 403
    await client.post("/logout", form={"csrf": csrf})
    assert [(await client.get(f"/t/{number}/calls")).status_code for number in (JUNE, MAPLE)] == [303, 303]


async def test_a_company_cannot_give_itself_somebodys_other_companies(world: World) -> None:
    """Whoever sets a password in one company knows no other's: a membership opens by its own password alone."""
    await world.db.engine(users.upsert_user, MAPLE, "admin@0367.example", "another hash")
    client = world.app.test_client()
    await log_in(client, "admin@0367.example")
    assert [(await client.get(f"/t/{number}/calls")).status_code for number in (JUNE, MAPLE)] == [200, 404]


async def test_whoever_leaves_one_company_stays_in_the_other(world: World) -> None:
    await world.db.engine(users.upsert_user, MAPLE, "admin@0367.example", HASHED)
    client = world.app.test_client()
    await log_in(client, "admin@0367.example")
    await world.db.engine(users.delete_user, JUNE, "admin@0367.example")
    assert [(await client.get(f"/t/{number}/calls")).status_code for number in (JUNE, MAPLE)] == [404, 200]
    assert (await client.get("/")).location == "/t/0368/"


async def test_an_operator_who_is_also_somebodys_admin_needs_no_acting_there(world: World) -> None:
    await world.db.engine(users.upsert_user, JUNE, OPERATOR, HASHED)
    client = world.app.test_client()
    await log_in(client, OPERATOR)
    assert (await client.get("/")).location == "/operators/tenants"
    assert [(await client.get(f"/t/{number}/calls")).status_code for number in (JUNE, MAPLE)] == [200, 404]
