"""The page of API keys: made, replaced and revoked; a warning before one ends."""

import re
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from gateway.domain.api_keys import WARN_BEFORE, KeyOwner, looks_right, new_key
from gateway.domain.ids import TenantId
from gateway.domain.people import Role
from gateway.store.api_keys import select_api_keys
from gateway.store.audit import select_audit
from gateway.store.members import change_member, list_members
from gateway.web.callers.key_changes import create_key
from tests.web.conftest import SignIn, submitted
from tests.web.world import CSRF, JUNE, World

HOME = "/t/0367/keys"


async def shown_key(client: Any, path: str, **form: str) -> str:
    page = await submitted(client, path, {"csrf": CSRF, **form})
    found = re.search(r'<pre class="key"[^>]*>([^<]+)</pre>', page)
    assert found is not None
    assert looks_right(found[1])
    assert found[1] not in await (await client.get(HOME)).get_data(as_text=True), "shown once"
    return found[1]


async def make(world: World, name: str, ends: datetime | None, of: TenantId = JUNE) -> str:
    key = new_key()
    await world.db.engine(create_key, of, key, name, ["read"], ends, "cli")
    return key.reveal()


async def test_a_key_with_an_end_is_made_and_replaced(world: World, sign_in: SignIn) -> None:
    client = await sign_in()
    old = await shown_key(client, HOME, name="crm sync", scope="read", days="30")
    (line,) = await world.db.tenant(JUNE, select_api_keys, JUNE)
    assert line.expires_at is not None
    assert abs(line.expires_at - datetime.now(UTC) - timedelta(days=30)) < timedelta(minutes=1)
    asked = await client.post(f"{HOME}/rotate", form={"csrf": CSRF, "hint": old[:16]})
    assert (asked.status_code, asked.location) == (303, f"{HOME}/rotate?hint={old[:16]}")
    assert (await client.get(asked.location)).status_code == 200
    new = await shown_key(client, f"{HOME}/rotate", hint=old[:16], sure="1")
    after, before = await world.db.tenant(JUNE, select_api_keys, JUNE)
    assert (after.hint, before.hint) == (new[:16], old[:16])
    assert before.rotated_at is not None
    trail = await world.db.tenant(JUNE, select_audit, JUNE, None, 10)
    assert [(one.action, one.target) for one in trail] == [
        ("api_key.rotated", old[:16]), ("api_key.created", old[:16]),
    ]  # fmt: skip
    again = await submitted(client, f"{HOME}/rotate", {"csrf": CSRF, "hint": old[:16], "sure": "1"})
    assert "was replaced already" in again


async def test_a_key_of_another_company_is_not_replaced(world: World, sign_in: SignIn) -> None:
    client, theirs = await sign_in(), await make(world, "theirs", None, TenantId("0368"))
    assert (await client.get(f"{HOME}/rotate?hint={theirs[:16]}")).status_code == 404
    await submitted(client, f"{HOME}/rotate", {"csrf": CSRF, "hint": theirs[:16], "sure": "1"})
    (line,) = await world.db.tenant(TenantId("0368"), select_api_keys, TenantId("0368"))
    assert line.rotated_at is None


async def test_ten_days_before_its_end_a_key_is_warned_of_until_it_is_replaced(world: World, sign_in: SignIn) -> None:
    client, now = await sign_in(), datetime.now(UTC)
    soon = await make(world, "soon", now + WARN_BEFORE - timedelta(hours=1))
    await make(world, "later", now + WARN_BEFORE + timedelta(hours=1))
    await make(world, "over", now - timedelta(hours=1))
    page = await (await client.get(HOME)).get_data(as_text=True)
    assert re.findall(r"The key (\w+) expires soon", page) == ["soon"]
    assert page.count(">Expired<") == 1
    await shown_key(client, f"{HOME}/rotate", hint=soon[:16], sure="1")
    page = await (await client.get(HOME)).get_data(as_text=True)
    # The new one lives as long as the old one was to: it ends within ten days too.
    assert page.count("expires soon") == 1
    assert page.count("(replaced)") == 1


async def test_whose_a_key_is_and_that_they_are_no_admin_any_more(world: World, sign_in: SignIn) -> None:
    client, anna = await sign_in(), "anna@june.example"
    theirs = world.app.test_client()
    theirs.set_cookie("localhost", "session", await world.person(JUNE, anna, Role.ADMIN))
    key = await shown_key(theirs, HOME, name="crm sync", scope="read", days="")
    await make(world, "by command", None)
    page = await (await client.get(HOME)).get_data(as_text=True)
    assert anna in page
    assert "command line" in page
    assert "Not an admin any more" not in page
    (member,) = [one for one in await world.db.engine(list_members, JUNE) if one.email == anna]
    asked = await (await client.get(f"/t/0367/people/{member.user_id}/remove")).get_data(as_text=True)
    assert "Their API keys end too" in asked
    assert "crm sync" in asked
    assert "by command" not in asked
    await world.db.engine(
        partial(change_member, tenant=JUNE, user_id=member.user_id, by="x@june.example", role=Role.AUDITOR)
    )
    page = await (await client.get(HOME)).get_data(as_text=True)
    assert page.count("Not an admin any more") == 1
    # Who replaces it owns the new one, which stays when the old owner goes.
    new = await shown_key(client, f"{HOME}/rotate", hint=key[:16], sure="1")
    await submitted(client, f"/t/0367/people/{member.user_id}/remove", {"csrf": CSRF, "sure": "1"})
    lines = {one.hint: one for one in await world.db.tenant(JUNE, select_api_keys, JUNE)}
    assert lines[key[:16]].revoked_at is not None
    assert lines[new[:16]].revoked_at is None
    assert lines[new[:16]].owner == KeyOwner("person", "admin@0367.example")
    asked = await (await client.get(HOME)).get_data(as_text=True)
    assert "Not an admin any more" not in asked, "a key that has ended needs nobody"
