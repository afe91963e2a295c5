"""The menu as a catalog, stop-lists, choosing the place, our webhook there."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from adapters.base import Attempt, Link
from adapters.jobs import JobContext, Menu
from adapters.login import LoginDone, LoginPlace, LoginStep
from adapters.till import menu
from adapters.till.client import connect
from adapters.till.codec import item_id
from adapters.till.jobs import JOBS, enter_webhook, read_menu, read_stop_list
from adapters.till.login import open_login
from adapters.till.refusals import REASONS
from adapters.till.settings import TillSettings
from gateway.domain.catalog import Item
from gateway.domain.errors import BadSettings, Rejected
from gateway.domain.ids import IntegrationKey
from gateway.domain.secret import Secret
from tests.adapters.till.conftest import settings_of
from tests.sandbox.iiko import (
    COLA,
    LARGE,
    ORGANIZATION,
    OTHER_GROUP,
    OTHER_ORGANIZATION,
    PIZZA,
    SMALL,
    SOUP,
    TERMINAL_GROUP,
    Iiko,
    product,
)

PLACE = LoginPlace("https://gw.example/oauth/x/callback", "the-state")
HOOK = "https://gw.example/hooks/x/unguessable-0123456789"


def context(link: Link, settings: TillSettings) -> JobContext:
    attempt = Attempt(kind="menu", key="", lane="", body={})
    return JobContext(tenant=link.tenant, key=IntegrationKey("x"), settings=settings, link=link, attempt=attempt)


async def menu_of(cloud: Iiko, link: Link, **more: Any) -> tuple[Menu, frozenset[str]]:
    settings = settings_of(cloud, **more)
    async with connect(link, settings) as client:
        read = await read_menu(client, context(link, settings))
    assert read is not None
    assert read.menu is not None
    assert read.stopped is not None
    return read.menu, read.stopped


async def test_the_menu_is_a_catalog(cloud: Iiko, open_link: Link) -> None:
    cloud.stop(COLA)
    cloud.stop(PIZZA, SMALL, balance=-1)
    cloud.stop(SOUP, balance=3)
    cloud.products.append(
        product(
            "f0000000-0000-4000-8000-000000000001",
            "Пельмени",
            {None: 30},
            useBalanceForSell=True,
            measureUnit="кг",
            order=9,
        )
    )
    cloud.products.append(product("f1000000-0000-4000-8000-000000000001", "Даром", {None: "x"}))
    read, stopped = await menu_of(cloud, open_link)
    items = [Item.model_validate(one).priced_in("BYN") for one in read.items]
    assert [(one.name, f"{one.price:f}", one.category, one.currency) for one in items] == [
        ("Борщ", "12.50", "Кухня", "BYN"), ("Маргарита, 25 см", "18.00", "Кухня", "BYN"), ("Маргарита, 35 см", "26.90", "Кухня", "BYN"),
        ("Кола", "4.00", "Кухня", "BYN"), ("Пельмени", "30.00", "Кухня", "BYN"),
    ]  # fmt: skip
    assert [one.id for one in items[:3]] == [SOUP, item_id(PIZZA, SMALL), item_id(PIZZA, LARGE)]
    assert (items[0].description, items[1].image_url) == ("Со сметаной", "https://pictures.example/margherita.jpg")
    assert items[4].attributes == {"quantity_step": "0.1"}
    assert read.left_out == 1
    assert stopped == {COLA, item_id(PIZZA, SMALL)}
    assert cloud.violations == []


async def test_an_external_menu(cloud: Iiko, open_link: Link) -> None:
    def size(ident: str | None, name: str, *prices: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        return {"sizeId": ident, "sizeName": name, "prices": list(prices), "buttonImageUrl": None, **more}

    here, there = {"organizationId": ORGANIZATION, "price": 19}, {"organizationId": OTHER_ORGANIZATION, "price": 1}
    items = [
        {"itemId": PIZZA, "name": "Маргарита", "description": None, "itemSizes": [size(SMALL, "25 см", there, here), size(LARGE, "35 см", here)]},
        {"itemId": COLA, "name": "Кола", "itemSizes": [size(None, "", {"organizationId": None, "price": 4.5})]},
        {"itemId": SOUP, "name": "Борщ", "itemSizes": [size(None, "", there)]},
        {"itemId": SOUP, "name": "Тайный", "isHidden": True, "itemSizes": [size(None, "", here)]},
    ]  # fmt: skip
    cloud.external_menus["7"] = {
        "itemCategories": [{"name": "Пицца", "items": items}, {"name": None, "items": None}, 5]
    }
    read, _ = await menu_of(cloud, open_link, external_menu_id="7")
    assert [(one["name"], one["price"], one["category"]) for one in read.items] == [
        ("Маргарита, 25 см", "19", "Пицца"), ("Маргарита, 35 см", "19", "Пицца"), ("Кола", "4.5", "Пицца"),
    ]  # fmt: skip
    assert read.left_out == 1


async def test_an_empty_menu_empties_no_catalog(cloud: Iiko, open_link: Link) -> None:
    cloud.products = []
    with pytest.raises(BadSettings) as refused:
        await menu_of(cloud, open_link)
    assert refused.value.person == REASONS["no_menu"]
    with pytest.raises(Rejected):
        await menu_of(cloud, open_link, external_menu_id="8")
    cloud.organizations = [{"id": OTHER_ORGANIZATION, "name": "Другое"}]
    with pytest.raises(BadSettings) as refused:
        await menu_of(cloud, open_link)
    assert refused.value.person == REASONS["organization"]


def test_odd_menus_are_read_loosely() -> None:
    odd = {
        "groups": "x", "sizes": [None], "products": [
            None, 7, {"id": "no-uuid", "name": "x", "type": "Dish", "sizePrices": [{"price": {"currentPrice": 1, "isIncludedInMenu": True}}]},
            product(SOUP, "  Борщ\n\x00 🌶 " + "я" * 300, {None: 1e3}, imageLinks=["javascript:x", "ftp://x"], description="a\r\nb\x07"),
            product(SOUP, "Ещё раз", {None: 2}), product(COLA, "", {None: 3}), product(PIZZA, "Без цены", {None: None}),
            product(PIZZA, "Минус", {None: -1}), product(PIZZA, "Много", {None: 1e30}), product(PIZZA, "NaN", {None: "NaN"}),
        ],
    }  # fmt: skip
    read = menu.nomenclature(odd, "")
    (soup,) = read.items
    assert Item.model_validate(soup).name.startswith("Борщ 🌶 яя")
    assert (soup["price"], soup["image_url"], soup["description"]) == ("1000", None, "a\nb")
    assert read.left_out == 6
    assert menu.stopped({"terminalGroupStopLists": [{"organizationId": ORGANIZATION, "terminalGroupId": TERMINAL_GROUP, "items": [
        {"productId": COLA, "balance": None}, {"productId": "x"}, 5]}, None]}, ORGANIZATION, TERMINAL_GROUP) == {COLA}  # fmt: skip


async def test_the_stop_list_of_the_chosen_tills(cloud: Iiko, open_link: Link) -> None:
    cloud.stop(SOUP)
    for group, found in ((TERMINAL_GROUP, {SOUP}), (OTHER_GROUP, set()), ("", {SOUP})):
        settings = settings_of(cloud, terminal_group_id=group)
        async with connect(open_link, settings) as client:
            read = await read_stop_list(client, context(open_link, settings))
        assert read is not None
        assert read.stopped == found


async def test_without_a_place_jobs_do_nothing(cloud: Iiko, open_link: Link) -> None:
    settings = settings_of(cloud, organization_id="", terminal_group_id="")
    link = replace(open_link, hook_url=Secret(HOOK))
    async with connect(link, settings) as client:
        assert [await job.run(client, context(link, settings)) for job in JOBS] == [None, None, None]
    assert not cloud.requests


async def test_our_webhook_is_entered_once_and_no_others_is_replaced(cloud: Iiko, open_link: Link) -> None:
    settings = settings_of(cloud)
    link = replace(open_link, hook_url=Secret(HOOK))
    async with connect(link, settings) as client:
        for earlier in (None, "https://gw.example/hooks/x/an-earlier-one", HOOK):
            cloud.webhook["webHooksUri"] = earlier
            await enter_webhook(client, context(link, settings))
        assert (cloud.webhook["webHooksUri"], cloud.webhook["authToken"]) == (HOOK, settings.webhook_token.reveal())
        assert cloud.requests["/api/1/webhooks/update_settings"] == 2
        cloud.webhook["webHooksUri"] = "https://another.example/iiko"
        ran = context(link, settings)
        with pytest.raises(BadSettings) as refused:
            await enter_webhook(client, ran)
        assert refused.value.person == REASONS["other_webhook"]
        assert settings.webhook_token.reveal() not in f"{ran.attempt.request}{ran.attempt.response}"
        left = settings_of(cloud, set_webhook=False)
        assert await enter_webhook(client, context(link, left)) is None
    assert cloud.webhook["webHooksUri"] == "https://another.example/iiko"


async def test_what_there_is_only_one_of_is_chosen_by_itself(cloud: Iiko, open_link: Link) -> None:
    async with open_login(open_link, settings_of(cloud, organization_id="", terminal_group_id=""), PLACE) as flow:
        done = await flow.begin()
    assert done == LoginDone(settings={"organization_id": ORGANIZATION, "terminal_group_id": TERMINAL_GROUP})


async def test_organization_and_terminal_group_are_chosen(cloud: Iiko, open_link: Link) -> None:
    cloud.organizations.append({"id": OTHER_ORGANIZATION, "name": "Другое кафе"})
    cloud.groups[ORGANIZATION].append({"id": OTHER_GROUP, "name": "Доставка"})
    async with open_login(open_link, settings_of(cloud), PLACE) as flow:
        step = await flow.begin()
        assert isinstance(step, LoginStep)
        assert dict(step.options) == {ORGANIZATION: "Кафе «Июнь»", OTHER_ORGANIZATION: "Другое кафе"}
        with pytest.raises(Rejected):
            await flow.go_on(step.id, step.state, {"choice": "no-such-organization"})
        empty = await flow.go_on(step.id, step.state, {"choice": OTHER_ORGANIZATION})
        assert empty == LoginDone(settings={"organization_id": OTHER_ORGANIZATION, "terminal_group_id": ""})
        groups = await flow.go_on(step.id, step.state, {"choice": ORGANIZATION})
        assert isinstance(groups, LoginStep)
        assert (groups.kind, list(groups.options)) == ("choice", [TERMINAL_GROUP, OTHER_GROUP, "any"])
        with pytest.raises(Rejected):
            await flow.go_on(groups.id, groups.state, {"choice": OTHER_ORGANIZATION})
        for chosen, stored in ((OTHER_GROUP, OTHER_GROUP), ("any", "")):
            done = await flow.go_on(groups.id, groups.state, {"choice": chosen})
            assert done == LoginDone(settings={"organization_id": ORGANIZATION, "terminal_group_id": stored})
        cloud.organizations = []
        with pytest.raises(BadSettings):
            await flow.begin()


async def test_fields_and_lists_that_rules_may_write_into(cloud: Iiko, open_link: Link) -> None:
    async with connect(open_link, settings_of(cloud)) as client:
        found = await client.fields()
        cloud.missing = {"dictionaries"}
        without = await client.fields()
    by_name = {one.name: one for one in found["order"]}
    assert [one.title for one in by_name["orderTypeId"].values] == ["Курьером"]
    assert [one.title for one in by_name["marketingSourceId"].values] == ["Телефон"]
    assert {one.name for one in found["contact"]} >= {"birthday", "comment"}
    assert [one.name for one in without["order"]] == [one.name for one in found["order"]]
