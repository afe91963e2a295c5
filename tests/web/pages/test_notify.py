"""The page of who hears of trouble: stored as the tenant file has it, audited, and tried by a message."""

from gateway.domain.ids import IntegrationKey
from gateway.store.audit import select_audit
from gateway.store.postgres.pool import Connection
from tests.web.conftest import SignIn, submitted
from tests.web.world import CSRF, JUNE, World

PAGE = "/t/0367/notify"
FORM = {
    "csrf": CSRF,
    "telegram": "-1001\n -1002/17 ",
    "email": "It@june.example",
    "when.error": "1",
    "when.pbx_offline": "1",
}


async def options(conn: Connection) -> str:
    return str(await conn.fetchval("SELECT options::text FROM tenants WHERE tenant_id = '0367'"))


async def test_who_hears_is_stored_and_audited(world: World, sign_in: SignIn) -> None:
    client = await sign_in()
    assert "Saved." in await submitted(client, PAGE, FORM)
    tenant = world.cache.tenant(JUNE)
    assert tenant is not None
    assert tenant.options["notify"] == {
        "telegram": ["-1001", "-1002/17"], "email": ["it@june.example"], "when": ["error", "pbx_offline", "certificate"],
    }  # fmt: skip
    page = await (await client.get(PAGE)).get_data(as_text=True)
    assert "-1001\n-1002/17</textarea>" in page
    assert 'name="when.backlog" value="1">' in page
    (line, *_) = await world.db.tenant(JUNE, select_audit, JUNE, None, 1)
    assert (line.action, line.old) == ("notify.changed", None)
    assert line.new is not None
    assert line.new["email"] == ["it@june.example"]
    await submitted(client, PAGE, {"csrf": CSRF})
    tenant = world.cache.tenant(JUNE)
    assert tenant is not None
    assert "notify" not in tenant.options


async def test_what_cannot_be_used_is_named_and_nothing_is_lost(world: World, sign_in: SignIn) -> None:
    client = await sign_in()
    page = await submitted(client, PAGE, FORM | {"telegram": "-1001\n@shop", "email": "x<b>"})
    assert "This cannot be used: @shop" in page
    assert "This cannot be used: x&lt;b&gt;" in page
    assert "-1001\n@shop</textarea>" in page
    assert await world.db.engine(options) == "{}"


async def test_a_test_message_is_put_on_its_way(world: World, sign_in: SignIn) -> None:
    client = await sign_in()
    await submitted(client, PAGE, FORM)
    assert "There is nobody to send it to." in await submitted(client, f"{PAGE}/test", {"csrf": CSRF}), (
        "no bot, no mail"
    )
    form = {"csrf": CSRF, "bot_token": "700100201:AAEhBP0av28abcdefghijklmnopqrstuvwx", "notify_chats": "-1001"}
    assert (await client.post("/t/0367/integrations/telegram/settings", form=form)).status_code == 303
    await world.cache.load(JUNE, anew=True)
    assert "2 messages are on their way." in await submitted(client, f"{PAGE}/test", {"csrf": CSRF})

    async def waiting(conn: Connection) -> list[str]:
        rows = await conn.fetch(
            "SELECT integration_type, body FROM deliveries WHERE kind = 'notice' ORDER BY delivery_id"
        )
        return [f"{row[0]} {row[1]}" for row in rows]

    found = await world.db.engine(waiting)
    assert len(found) == 2
    assert found[0].startswith(f'{IntegrationKey("telegram")} {{"chat": -1001, "text": "June: a test message')
