"""The pages of PBXes and of click-to-call, with what they change."""

import html
import re

from gateway.domain.api_keys import hash_of, looks_right
from gateway.domain.secret import Secret
from gateway.store.api_keys import select_key_by_hash
from gateway.store.audit import select_audit
from tests.web.conftest import SignIn, plain, submitted
from tests.web.pages.test_pages import text_of
from tests.web.world import CSRF, JUNE, MAPLE, SECRET_KEY, World

HOME = "/t/0367/pbxes"
FIELDS = {
    "s.host": "198.51.100.7",
    "s.port": "5039",
    "s.tls": "1",
    "s.username": "gw",
    "s.secret": "a-new-word",
    "s.trunks": "trunk-1\ntrunk-2",
}


async def test_a_pbx_is_added_changed_and_removed(world: World, sign_in: SignIn) -> None:
    client = await sign_in(JUNE, "en")
    assert "Saved." in await submitted(client, f"{HOME}/new", {"csrf": CSRF, "name": "second", **FIELDS})
    page = await text_of(await client.get(f"{HOME}/second"))
    assert "a-new-word" not in page
    assert "[gw]" in page
    tenant = world.cache.tenant(JUNE)
    assert tenant is not None
    pbx = next(pbx for pbx in tenant.pbxes if pbx.name == "second")
    assert (pbx.settings["host"], pbx.settings["tls"], list(pbx.settings["trunks"])) == (
        "198.51.100.7",
        True,
        ["trunk-1", "trunk-2"],
    )
    assert pbx.settings["secret"] == Secret("a-new-word")

    changed = {**FIELDS, "s.host": "198.51.100.8", "s.secret": "***"}
    for other in (changed, {**FIELDS, "s.port": "5099", "s.secret": "***"}):
        assert "Enter it again" in await submitted(client, f"{HOME}/second/settings", {"csrf": CSRF, **other})
    recordings = {"s.recording_url": "https://pbx.example/{file}", "s.recording_password": "of-the-files"}
    unmoved = {**FIELDS, "s.secret": "***", **recordings}
    assert (await client.post(f"{HOME}/second/settings", form={"csrf": CSRF, **unmoved})).status_code == 303
    await world.cache.load()
    elsewhere = {**unmoved, "s.recording_url": "https://else.example/{file}", "s.recording_password": "***"}
    assert "Enter it again" in await submitted(client, f"{HOME}/second/settings", {"csrf": CSRF, **elsewhere})
    changed["s.secret"] = "a-new-word"
    assert (await client.post(f"{HOME}/second/settings", form={"csrf": CSRF, **changed})).status_code == 303
    assert (await client.post(f"{HOME}/second/switch", form={"csrf": CSRF, "enabled": "0"})).status_code == 303
    await world.cache.load()
    tenant = world.cache.tenant(JUNE)
    assert tenant is not None
    pbx = next(pbx for pbx in tenant.pbxes if pbx.name == "second")
    assert (pbx.settings["host"], pbx.settings["secret"], pbx.enabled) == ("198.51.100.8", Secret("a-new-word"), False)

    assert (await client.post(f"{HOME}/second/remove", form={"csrf": CSRF})).status_code == 303
    await world.cache.load()
    assert (await client.get(f"{HOME}/second")).status_code == 200
    assert (await client.post(f"{HOME}/second/remove", form={"csrf": CSRF, "sure": "1"})).status_code == 303
    await world.cache.load()
    assert (await client.get(f"{HOME}/second")).status_code == 404
    lines = await world.db.tenant(JUNE, select_audit, JUNE, None, 10)
    assert [line.action for line in reversed(lines)] == [
        "pbx.added", "pbx.changed", "pbx.changed", "pbx.switched_off", "pbx.removed"
    ]  # fmt: skip
    assert lines[3].detail == "recording_password: *** -> *** changed, recording_url"
    assert lines[2].detail == "host, recording_password: *** -> *** changed, recording_url"
    assert "PBX added" in await text_of(await client.get("/t/0367/audit"))


async def test_what_is_wrong_is_said_at_its_field_and_nothing_is_lost(world: World, sign_in: SignIn) -> None:
    client = await sign_in(JUNE, "en")
    for name in ("", "a b", "new", "../x"):
        page = await submitted(client, f"{HOME}/new", {"csrf": CSRF, "name": name, **FIELDS})
        assert "A name is 1 to 32" in page
        assert "198.51.100.7" in page
    assert "already a PBX with this name" in await submitted(
        client, f"{HOME}/new", {"csrf": CSRF, "name": "main", **FIELDS}
    )
    page = await submitted(client, f"{HOME}/main/settings", {"csrf": CSRF, **FIELDS, "s.host": "http://pbx/"})
    assert "without http://" in page
    assert "trunk-2" in page
    assert SECRET_KEY not in page


async def test_a_test_says_what_it_found(world: World, sign_in: SignIn) -> None:
    client = await sign_in(JUNE, "en")
    page = html.unescape(await submitted(client, f"{HOME}/main/test", {"csrf": CSRF}))
    assert "The login is accepted" in page
    assert "Calls can be placed" in page
    assert "write = originate" in page


async def test_a_person_dials_from_their_own_phone(world: World, sign_in: SignIn) -> None:
    client = await sign_in(JUNE, "en")
    form = {"csrf": CSRF, "extension": "151", "phone": "+375296254070"}
    answer = await client.post("/t/0367/dialling", form=form)
    assert (answer.status_code, plain(answer.location)) == (303, "/t/0367/dialling")
    ((number, extension, phone, person),) = world.placed
    assert (number, extension, phone) == (JUNE, "151", "+375296254070")
    assert "@" in person
    page = await text_of(await client.get("/t/0367/dialling"))
    assert '<option value="151" selected>' in page
    page = await submitted(client, "/t/0367/dialling", {**form, "phone": "+79161234567"})
    assert "may not be dialled from here" in page
    assert 'value="+79161234567"' in page
    assert (await client.post("/t/0367/dialling", form={**form, "csrf": "wrong"})).status_code == 403


async def test_a_key_is_shown_once_and_can_be_ended(world: World, sign_in: SignIn) -> None:
    client = await sign_in(JUNE, "en")
    page = await submitted(client, "/t/0367/keys", {"csrf": CSRF, "name": "dialler", "scope": "call"})
    found = re.search(r"gw_live_[0-9A-Za-z]{58}", page)
    assert found
    assert looks_right(found[0])
    key = await world.db.engine(select_key_by_hash, hash_of(found[0]))
    assert key is not None
    assert (key.tenant, key.scopes) == (JUNE, ("call",))
    assert found[0] not in await text_of(await client.get("/t/0367/keys"))
    assert "Enter a name" in await submitted(client, "/t/0367/keys", {"csrf": CSRF, "name": "", "scope": "call"})
    other = await sign_in(MAPLE, "en")
    await other.post("/t/0368/keys/revoke", form={"csrf": CSRF, "hint": key.hint, "sure": "1"})
    assert await world.db.engine(select_key_by_hash, hash_of(found[0])) is not None
    asked = await submitted(client, "/t/0367/keys/revoke", {"csrf": CSRF, "hint": key.hint})
    assert "Revoke the key dialler?" in asked
    assert await world.db.engine(select_key_by_hash, hash_of(found[0])) is not None
    assert "revoked" in await submitted(client, "/t/0367/keys/revoke", {"csrf": CSRF, "hint": key.hint, "sure": "1"})
    assert await world.db.engine(select_key_by_hash, hash_of(found[0])) is None
