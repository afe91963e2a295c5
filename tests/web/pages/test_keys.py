"""Several integrations of a kind: each has its page, switch, settings and card, known by its key."""

from gateway.domain.ids import IntegrationKey
from tests.web.conftest import SignIn
from tests.web.world import CSRF, JUNE, World


async def _again(world: World) -> None:
    await world.cache.load(JUNE, anew=True)


async def test_one_more_of_a_kind(world: World, sign_in: SignIn) -> None:
    client, home = await sign_in(), "/t/0367/integrations"
    led = await client.get(f"{home}/another?kind=telegram&name=Support")
    assert (led.status_code, led.location) == (303, f"{home}/telegram:support")
    wrong = await client.get(f"{home}/another?kind=telegram&name=a%20b")
    assert wrong.status_code == 422
    assert 'id="another-error"' in await wrong.get_data(as_text=True)
    assert (await client.get(f"{home}/another?kind=nobody&name=a")).status_code == 404
    assert (await client.get(f"{home}/telegram:support")).status_code == 200

    form = {"csrf": CSRF, "bot_token": "700100201:AAEhBP0av28abcdefghijklmnopqrstuvwx", "notify_chats": "-1001"}
    saved = await client.post(f"{home}/telegram:support/settings", form=form)
    assert saved.status_code == 303, await saved.get_data(as_text=True)
    await _again(world)
    tenant = world.cache.tenant(JUNE)
    assert tenant is not None
    support = tenant.integrations[IntegrationKey("telegram:support")]
    assert (support.kind, support.enabled, support.settings["notify_chats"]) == ("telegram", True, [-1001])
    assert IntegrationKey("telegram") not in tenant.integrations

    page = await (await client.get(home)).get_data(as_text=True)
    assert f'href="{home}/telegram:support"' in page
    assert "Telegram · support" in page
    off = await client.post(f"{home}/telegram:support/switch", form={"csrf": CSRF, "enabled": "0"})
    assert off.status_code == 303
    await _again(world)
    tenant = world.cache.tenant(JUNE)
    assert tenant is not None
    assert not tenant.integrations[IntegrationKey("telegram:support")].enabled
    assert tenant.integrations[IntegrationKey("retailcrm")].enabled
    matrix = world.cache.enablement(JUNE)
    assert matrix is not None
    assert matrix["integrations"]["telegram:support"] is False
