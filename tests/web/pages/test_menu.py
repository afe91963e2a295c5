"""The page of a menu that an integration has read, and the choice of a place in a login; both without JavaScript."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from actors.menus import keep_menu
from adapters.iiko.settings import IikoSettings
from adapters.jobs import JobResult, Menu
from adapters.login import LoginDone, LoginStep
from gateway.domain.configuration import integration
from gateway.domain.errors import Rejected
from gateway.domain.ids import IntegrationKey
from gateway.store.catalog_items import select_items
from gateway.store.tenants import INTEGRATIONS
from gateway.web.pages.change_settings import save_settings
from tests.sandbox.iiko import ORGANIZATION
from tests.web.conftest import SignIn, plain, submitted
from tests.web.world import CSRF, JUNE, World

KEY, TILL = IntegrationKey("retailcrm"), IntegrationKey("iiko")
HOME = "/t/0367/catalog"


async def read(world: World, *items: dict[str, Any]) -> None:
    tenant = world.cache.tenant(JUNE)
    assert tenant is not None
    await keep_menu(world.db, tenant, KEY, JobResult(menu=Menu(items=items, left_out=1)))


async def text(client: Any, path: str, status: int = 200) -> str:
    page = await client.get(path)
    assert page.status_code == status
    return str(await page.get_data(as_text=True))


async def test_a_person_takes_what_they_have_seen(world: World, sign_in: SignIn) -> None:
    client = await sign_in(language="ru")
    assert "Меню ещё не читали" in await text(client, f"{HOME}/menu/retailcrm")
    await read(world, {"id": "soup", "name": "Борщ <b>", "price": "5"}, {"id": "old", "name": "Старое", "price": "1"})
    assert "Каталог совпадает с меню" in await text(client, f"{HOME}/menu/retailcrm")
    assert "/catalog/menu/" not in await text(client, HOME)
    await read(world, {"id": "soup", "name": "Борщ <b>", "price": "6"}, {"id": "tea", "name": "Чай", "price": "2"})
    banner = plain(await text(client, HOME))
    assert "другое меню: новых 1, изменённых 1, исчезнувших 1" in banner
    page = await text(client, f"{HOME}/menu/retailcrm")
    assert "Борщ &lt;b&gt;" in page
    shown = plain(page)
    for said in ("Цена: 5.00 BYN", "Цена: 6.00 BYN", "Чай", "Старое", "пропущены: 1"):
        assert said in shown, said
    (read_at,) = re.findall(r'name="read_at" value="([^"]+)"', page)
    await read(world, {"id": "soup", "name": "Борщ <b>", "price": "6"}, {"id": "cake", "name": "Торт", "price": "9"})
    for stale in (read_at, "", "yesterday", "x" * 1000):
        again = await submitted(client, f"{HOME}/menu/retailcrm", {"csrf": CSRF, "read_at": stale})
        assert "прочитано другое меню" in again
    (read_at,) = re.findall(r'name="read_at" value="([^"]+)"', await text(client, f"{HOME}/menu/retailcrm"))
    done = await submitted(client, f"{HOME}/menu/retailcrm", {"csrf": CSRF, "read_at": read_at})
    assert "Меню взято: добавлено 1, изменено 1, удалено 1" in plain(done)
    assert [one.id for one in await world.db.tenant(JUNE, select_items, JUNE)] == ["soup", "cake"]


async def test_a_menu_is_of_an_integration_that_is_there(world: World, sign_in: SignIn) -> None:
    client = await sign_in()
    for key in ("telegram", "no such", "RetailCRM"):
        await text(client, f"{HOME}/menu/{key}", 404)
        assert (await client.post(f"{HOME}/menu/{key}", form={"csrf": CSRF})).status_code == 404


class Flow:
    """A login whose only step is a choice."""

    async def begin(self) -> LoginStep:
        return LoginStep(
            id="place", kind="choice", title={"en": "Choose", "ru": "Выберите кафе"}, options={"a": "Кафе <А>", "b": "Кафе Б"}, state={"x": 1}
        )  # fmt: skip

    async def go_on(self, step: str, state: Any, values: Any) -> LoginStep | LoginDone:
        assert (step, state) == ("place", {"x": 1})
        if values["choice"] not in ("a", "b"):
            raise Rejected("no such place", person="choose from the list")
        return LoginDone(settings={"organization_id": ORGANIZATION})


async def test_a_step_of_a_login_may_be_a_choice(world: World) -> None:
    master = world.cache.master
    assert master is not None
    place = {"api_login": "the-login-0123456789", "url": "https://till.example"}
    settings = IikoSettings.model_validate(place)
    await save_settings(world.db, master, INTEGRATIONS, JUNE, integration(TILL, {}), settings, "admin")
    await world.cache.load()
    client = world.app_with(login=open_flow, tokens=lambda *_: None).test_client()
    client.set_cookie("localhost", "session", await world.session(JUNE))
    client.set_cookie("localhost", "language", "ru")
    login = "/t/0367/integrations/iiko/login"
    page = await submitted(client, login, {"csrf": CSRF})
    assert "Выберите кафе" in page
    assert re.findall(r'<option value="([^"]+)">([^<]+)</option>', page) == [("a", "Кафе &lt;А&gt;"), ("b", "Кафе Б")]
    (transaction,) = re.findall(r'name="transaction" value="([^"]+)"', page)
    sent = {"csrf": CSRF, "transaction": transaction, "step": "place"}
    for wrong in ({}, {"choice": "c"}, {"choice": "x" * 10_000}):
        again = await submitted(client, login, {**sent, **wrong})
        assert "выберите из списка" in again
    done = await client.post(login, form={**sent, "choice": "b"})
    assert (done.status_code, plain(done.location)) == (303, "/t/0367/integrations/iiko")
    await world.cache.load()
    tenant = world.cache.tenant(JUNE)
    assert tenant is not None
    assert tenant.integrations[TILL].settings["organization_id"] == ORGANIZATION


@asynccontextmanager
async def open_flow(*_: Any) -> AsyncIterator[Flow]:
    yield Flow()
