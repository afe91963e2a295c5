"""The pages of the catalog: edited in place, item by item, and from a file with a preview; all without JavaScript."""

import io
import re
from typing import Any

import pytest
from quart.datastructures import FileStorage

from gateway.domain.catalog import MOST_ITEMS, Item
from gateway.store import catalog_items as store
from tests.web.conftest import SignIn, plain, submitted
from tests.web.world import CSRF, JUNE, MAPLE, World

HOME = "/t/0367/catalog"
NEW = {
    "csrf": CSRF,
    "shown": "1",
    "name": "Маргарита <b>",
    "category": "Pizza",
    "price": "12,50",
    "currency": "",
    "available": "1",
}


async def items(world: World) -> list[Item]:
    return await world.db.tenant(JUNE, store.select_items, JUNE)


async def sent(client: Any, raw: bytes) -> str:
    """A file sent, and the page it leads to."""
    answer = await client.post(
        f"{HOME}/import", form={"csrf": CSRF}, files={"file": FileStorage(io.BytesIO(raw), filename="catalog.csv")}
    )
    assert answer.status_code == 303
    page = await client.get(answer.location)
    assert page.status_code == 200
    return str(await page.get_data(as_text=True))


async def test_items_are_added_edited_in_place_and_removed(world: World, sign_in: SignIn) -> None:
    client = await sign_in()
    page = await submitted(client, HOME, NEW)
    assert "Маргарита &lt;b&gt;" in page
    (item,) = await items(world)
    assert (item.name, str(item.price), item.currency, item.available) == ("Маргарита <b>", "12.50", "BYN", True)
    row = {
        "csrf": CSRF,
        "shown": "1",
        "name": "Margherita",
        "category": "",
        "price": "13",
        "currency": "BYN",
        "sort_order": "5",
    }
    await submitted(client, f"{HOME}/item/{item.id}?q=marg&page=1", row)
    (item,) = await items(world)
    assert (item.name, item.category, str(item.price), item.available, item.sort_order) == (
        "Margherita",
        None,
        "13.00",
        False,
        5,
    )
    whole = {
        **row,
        "description": "Thin\nand hot",
        "image_url": "https://june.example/m.jpg",
        "attributes": "size = 30 cm\nhot=yes",
        "available": "1",
    }
    await submitted(client, f"{HOME}/item/{item.id}", whole)
    (item,) = await items(world)
    assert (item.description, item.image_url, item.attributes) == (
        "Thin\nand hot",
        "https://june.example/m.jpg",
        {"size": "30 cm", "hot": "yes"},
    )
    await submitted(client, f"{HOME}/item/{item.id}", row)
    assert (await items(world))[0].attributes == {"size": "30 cm", "hot": "yes"}, (
        "a row leaves alone what it does not show"
    )
    asked = await client.post(f"{HOME}/item/{item.id}/remove", form={"csrf": CSRF})
    assert plain(asked.location) == f"{HOME}/item/{item.id}/remove"
    assert "Remove “Margherita” from the catalog?" in await (await client.get(asked.location)).get_data(as_text=True)
    await submitted(client, f"{HOME}/item/{item.id}/remove", {"csrf": CSRF, "sure": "1"})
    assert await items(world) == []


async def test_what_is_refused_stays_in_its_row(world: World, sign_in: SignIn) -> None:
    client = await sign_in()
    page = await submitted(client, HOME, {**NEW, "price": "free", "name": "Keep me"})
    assert 'value="Keep me"' in page
    assert page.count('aria-invalid="true"') == 1
    assert "Price: must be a price such as 12.50" in page
    await submitted(client, HOME, NEW)
    (item,) = await items(world)
    page = await submitted(
        client, f"{HOME}/item/{item.id}", {"csrf": CSRF, "shown": "1", "name": "", "price": "1.005"}, "ru"
    )
    assert page.count('aria-invalid="true"') == 1, "the row's own fields are judged before its digits"
    page = await submitted(
        client, f"{HOME}/item/{item.id}", {"csrf": CSRF, "shown": "1", "name": "x", "price": "1.005"}, "ru"
    )
    assert "у BYN знаков после запятой: 2" in page
    assert 'value="1.005"' in page
    page = await submitted(
        client,
        f"{HOME}/item/{item.id}",
        {**NEW, "description": "d", "image_url": "javascript:x", "attributes": "", "sort_order": "x"},
    )
    assert page.count('class="problem"') == 2
    assert (await items(world))[0].name == "Маргарита <b>"


async def test_another_companys_items_are_not_there(world: World, sign_in: SignIn) -> None:
    await submitted(await sign_in(), HOME, NEW)
    (item,) = await items(world)
    maple = await sign_in(MAPLE)
    for path in (HOME, f"/t/0368/catalog/item/{item.id}", f"/t/0368/catalog/item/{item.id}/remove"):
        assert (await maple.get(path)).status_code == 404
    for path in (f"/t/0368/catalog/item/{item.id}", f"/t/0368/catalog/item/{item.id}/remove"):
        assert (await maple.post(path, form={"csrf": CSRF, "sure": "1", "name": "x"})).status_code == 404
    assert item.id not in await (await maple.get("/t/0368/catalog")).get_data(as_text=True)


async def test_a_file_is_shown_before_it_is_stored(world: World, sign_in: SignIn) -> None:
    client = await sign_in()
    raw = "Код;Название;Цена;Размер\nm;Маргарита;12,50;30 см\nt;Чай;даром;\n".encode("cp1251")
    page = await sent(client, raw)
    assert "Rows that can be stored: 1. Rows with problems, which are left out: 1." in page
    assert "Price: must be a price such as 12.50" in page
    assert await items(world) == []
    pending = re.search(r'name="pending" value="([^"]+)"', page)
    assert pending is not None
    done = await submitted(client, f"{HOME}/import/confirm", {"csrf": CSRF, "pending": pending[1]})
    assert "Items added or changed: 1. Rows left out: 1." in done
    (item,) = await items(world)
    assert (item.id, item.name, item.attributes) == ("m", "Маргарита", {"Размер": "30 см"})
    other = await sign_in()
    gone = await submitted(other, f"{HOME}/import/confirm", {"csrf": CSRF, "pending": pending[1]})
    assert "Choose the file again" in gone, "the file is the session's own"
    exported = await client.get(f"{HOME}/file")
    assert "m;Маргарита;" in await exported.get_data(as_text=True)
    assert "attachment" in exported.headers["Content-Disposition"]


@pytest.mark.parametrize(
    ("raw", "told"),
    [(b"", "the file is empty"), (b"a;b\n1;2", "there is no column name"), (b"\xff\x00\xd8", "not text")],
)
async def test_a_file_that_cannot_be_read(sign_in: SignIn, raw: bytes, told: str) -> None:
    page = await sent(await sign_in(), raw)
    assert "The file was not accepted." in page
    assert told in page
    assert "pending" not in page


@pytest.mark.long
async def test_ten_thousand_rows(world: World, sign_in: SignIn) -> None:
    client = await sign_in()
    rows = "".join(
        f"i{n};Пицца с длинным названием номер {n};{n % 100},50;Раздел {n % 40};{'x' * 120}\n"
        for n in range(MOST_ITEMS)
    )
    raw = f"id;name;price;category;description\n{rows}".encode()
    assert len(raw) > 1 << 20
    page = await sent(client, raw)
    assert "Rows that can be stored: 10000." in page
    pending = re.search(r'name="pending" value="([^"]+)"', page)
    assert pending is not None
    assert "Items added or changed: 10000." in await submitted(
        client, f"{HOME}/import/confirm", {"csrf": CSRF, "pending": pending[1]}
    )
    page = await (await client.get(f"{HOME}?page=200&by=price&q=%D0%BF%D0%B8%D1%86%D1%86%D0%B0")).get_data(as_text=True)
    assert page.count('name="price"') == 51
    assert 'rel="next"' not in page
    assert "at most 10000 items" in await submitted(client, HOME, NEW)
    nobody = world.app.test_client()
    refused = await nobody.post(
        f"{HOME}/import", form={"csrf": CSRF}, files={"file": FileStorage(io.BytesIO(raw), filename="x.csv")}
    )
    assert refused.status_code == 413, "without a session as much as anywhere"
