"""The catalog: items kept exact, counted and audited; a CSV file read row by row, ten thousand of them too."""

import gc
import time
from decimal import Decimal
from typing import Any

import pytest
import trio

from gateway.domain.catalog import MOST_ITEMS, Item
from gateway.domain.posts import Invalid
from gateway.store import catalog_items as store
from gateway.store.audit import select_audit
from gateway.store.postgres.errors import QueryFailed
from gateway.store.postgres.pool import Database
from gateway.store.tenants import select_versions
from gateway.web.content import catalog
from gateway.web.content.catalog_csv import catalog_file, read_catalog_file
from gateway.web.content.profile import get_profile, put_profile, shown_profile
from tests.web.content.conftest import JUNE, MAPLE, WHO


async def items(db: Database) -> list[Item]:
    return await db.tenant(JUNE.number, store.select_items, JUNE.number)


async def version(db: Database) -> int:
    return (await db.engine(select_versions))[JUNE.number]


async def test_an_item_is_stored_as_it_was_entered(two: Database) -> None:
    await put_profile(two, JUNE, {"currency": "EUR"}, WHO)
    data = {
        "id": "m",
        "name": "Маргарита",
        "price": "12,5",
        "category": "Пицца",
        "attributes": {"size": "30 см", "hot": True, "kcal": 1.5},
    }
    added = await catalog.add_item(two, JUNE, data, WHO)
    (stored,) = await items(two)
    assert stored == added
    assert (str(stored.price), stored.currency, stored.attributes) == ("12.50", "EUR", data["attributes"])
    made = await catalog.add_item(two, JUNE, {"name": "Tea", "price": 3, "currency": "JPY", "sort_order": -1}, WHO)
    assert [one.id for one in await items(two)] == [made.id, "m"]
    changed = await catalog.change_item(two, JUNE, "m", {"name": "Margherita", "price": 13, "currency": "BYN"}, WHO)
    assert changed is not None
    assert (await items(two))[1].plain() == {
        "id": "m", "name": "Margherita", "description": None, "price": "13.00", "currency": "BYN", "category": None,
        "image_url": None, "available": True, "attributes": {}, "sort_order": 0,
    }  # fmt: skip
    assert await catalog.remove_items(two, JUNE, ["m", "nobody"], WHO) == 1
    trail = [
        (one.action, one.target, one.detail)
        for one in await two.tenant(JUNE.number, select_audit, JUNE.number, None, 10)
    ]
    assert trail == [
        ("catalog.removed", "m, nobody", "1"), ("catalog.saved", "m", "Margherita"), ("catalog.saved", made.id, "Tea"),
        ("catalog.saved", "m", "Маргарита"), ("profile.saved", "", "currency"),
    ]  # fmt: skip


async def test_what_is_refused(two: Database) -> None:
    await catalog.add_item(two, JUNE, {"id": "a", "name": "A", "price": 1}, WHO)
    for data, paths in (
        ({"id": "a", "name": "A", "price": 1}, ["id"]),
        ({"name": "", "price": "x", "colour": 1}, ["name", "price", "colour"]),
        ({"name": "A", "price": "1.005"}, ["price"]),
    ):
        with pytest.raises(Invalid) as refused:
            await catalog.add_item(two, JUNE, data, WHO)
        assert [path for path, _ in refused.value.problems] == paths
    assert await catalog.change_item(two, JUNE, "nobody", {"name": "A", "price": 1}, WHO) is None
    with pytest.raises(Invalid):
        await catalog.change_item(two, JUNE, "a", {"id": "b", "name": "A", "price": 1}, WHO)
    assert await catalog.change_item(two, MAPLE, "a", {"name": "A", "price": 1}, WHO) is None, "another company's"
    assert await two.tenant(MAPLE.number, store.count_items, JUNE.number) == 0
    with pytest.raises(QueryFailed):
        await two.tenant(MAPLE.number, store.upsert_items, JUNE.number, await items(two))


async def test_equal_items_are_no_change(two: Database) -> None:
    await catalog.add_item(two, JUNE, {"id": "a", "name": "A", "price": 1}, WHO)
    before = await version(two)
    await catalog.change_item(two, JUNE, "a", {"name": "A", "price": "1.00"}, WHO)
    assert await version(two) == before
    assert (await catalog.import_items(two, JUNE, b"id;name;price\na;A;1\n", WHO, dry_run=False)).stored == 0
    assert await version(two) == before
    assert shown_profile(JUNE, await get_profile(two, JUNE))["currency"] == "BYN"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1251", "utf-16"])
@pytest.mark.parametrize("delimiter", [";", ",", "\t"])
def test_files_as_spreadsheets_write_them(encoding: str, delimiter: str) -> None:
    lines = [
        ["Артикул", "Название", "Цена", "В наличии", "Размер"],
        ["m", "Пицца «Мар»", '"12,50"', "да", "30 см"],
        [],
        ["t", '"Чай, ""Эрл"""', "3", "нет", ""],
    ]
    raw = "\r\n".join(delimiter.join(line) for line in lines).encode(encoding)
    assert read_catalog_file(raw) == [
        (
            2,
            {"id": "m", "name": "Пицца «Мар»", "price": "12,50", "available": True, "attributes": {"Размер": "30 см"}},
            False,
        ),
        (4, {"id": "t", "name": 'Чай, "Эрл"', "price": "3", "available": False}, False),
    ]


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"", "the file is empty"), (b"\n;;\n", "the file is empty"), (b"\xff\xd8\xff\x00", "not text in UTF-8"),
        (b"id;title\na;b", "no column price"), (b"name;price;Name\na;1;b", "two columns are name"),
        (b'name;price\n"a;1\n', "a quotation mark"), (b"name;price\n" + b"a;1\n" * (MOST_ITEMS + 1), "more than 10000 rows"),
        (b"x" * (9 << 20), "larger than 4 MiB"),
    ],
)  # fmt: skip
def test_files_that_cannot_be_read(raw: bytes, told: str) -> None:
    with pytest.raises(Invalid) as refused:
        read_catalog_file(raw)
    assert all(path == "file" for path, _ in refused.value.problems)
    assert any(told in text for _, text in refused.value.problems)


async def test_rows_with_problems_are_named_and_left_out(two: Database) -> None:
    raw = "name;price;id;available\nGood;12,50;a;да\n;free;b;perhaps\nAgain;1;a;\nLong;1;d;1;more\nNo id;2;;\n".encode()
    dry = await catalog.import_items(two, JUNE, raw, WHO, dry_run=True)
    assert (dry.stored, dry.wrong, await items(two)) == (2, 3, [])
    assert [(row.row, row.id, [path for path, _ in row.errors]) for row in dry.rows[:4]] == [
        (2, "a", []), (3, "b", ["name", "price", "available"]), (4, "a", ["id"]), (5, "d", [""]),
    ]  # fmt: skip
    assert dry.rows[2].plain() == {"row": 4, "id": "a", "errors": [{"path": "id", "message": "row 2 has the same id"}]}
    done = await catalog.import_items(two, JUNE, raw, WHO, dry_run=False)
    assert done.stored == 2
    assert {one.name for one in await items(two)} == {"Good", "No id"}
    assert (await catalog.import_items(two, JUNE, raw, WHO, dry_run=False)).stored == 0, (
        "a row without id is found again"
    )


async def test_a_catalog_leaves_and_comes_back(two: Database) -> None:
    data: dict[str, Any] = {
        "id": "m", "name": "=Sum(1)", "description": "two\nlines; and \"more\"", "price": "1234.50", "attributes": {"a": "б"}, "available": False,
    }  # fmt: skip
    await catalog.add_item(two, JUNE, data, WHO)
    raw = catalog_file(await items(two))
    assert "'=Sum(1)" in raw.decode("utf-8-sig"), "no formula for a spreadsheet"
    data["name"] = "plain"
    await catalog.change_item(two, JUNE, "m", data, WHO)
    assert (await catalog.import_items(two, JUNE, catalog_file(await items(two)), WHO, dry_run=False)).stored == 0


async def test_pages_of_a_list(two: Database) -> None:
    rows = "".join(f"{n:02d};Item {n % 7};{n};{n % 3}\n" for n in range(20))
    await catalog.import_items(two, JUNE, f"id;name;price;sort_order\n{rows}".encode(), WHO, dry_run=False)
    whole = [one.id for one in await items(two)]
    seen: list[str] = []
    after = None
    while page := await two.tenant(JUNE.number, store.select_items_after, JUNE.number, after, 6):
        seen += [one.id for one in page]
        after = (page[-1].sort_order, page[-1].name, page[-1].id)
    assert seen == whole
    assert await two.tenant(JUNE.number, store.count_items, JUNE.number, "ITEM 3") == 3
    assert len(await two.tenant(JUNE.number, store.select_items, JUNE.number, search="item 3", limit=2)) == 2


@pytest.mark.slow
async def test_ten_thousand_rows_and_not_one_more(two: Database) -> None:
    rows = "".join(f"i{n};Пицца {n};{n % 100},50;Раздел {n % 40}\n" for n in range(MOST_ITEMS))
    raw = f"id;name;price;category\n{rows}".encode("cp1251")
    gc.collect()
    gc.freeze()  # what other tests left in this process is no work of the import
    longest, begun = 0.0, time.perf_counter()

    async def watch() -> None:
        nonlocal longest
        while True:
            before = time.perf_counter()
            await trio.sleep(0.005)
            longest = max(longest, time.perf_counter() - before)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        before = await version(two)
        done = await catalog.import_items(two, JUNE, raw, WHO, dry_run=False)
        whole = time.perf_counter() - begun
        nursery.cancel_scope.cancel()
    gc.unfreeze()
    assert (done.stored, done.wrong) == (MOST_ITEMS, 0)
    assert await version(two) > before
    assert longest < whole / 2, "the loop goes on meanwhile"
    assert await two.tenant(JUNE.number, store.count_items, JUNE.number) == MOST_ITEMS
    assert (await items(two))[0].price == Decimal("0.50")
    for refused in (
        catalog.add_item(two, JUNE, {"name": "one more", "price": 1}, WHO),
        catalog.import_items(two, JUNE, b"name;price\nOne more;1\n", WHO, dry_run=True),
    ):
        with pytest.raises(Invalid):
            await refused
    assert (await catalog.import_items(two, JUNE, b"id;name;price\ni7;Changed;1\n", WHO, dry_run=False)).stored == 1
