"""The catalog as a client asks for it: inflected, begun, mistyped, in either language; and never another company's."""

import time

import pytest

from gateway.domain.catalog import Item
from gateway.domain.ids import TenantId
from gateway.store.catalog_items import select_item, upsert_items
from gateway.store.catalog_search import search_items, words_of
from gateway.store.postgres.pool import Connection, Database

JUNE, MAY = TenantId("0367"), TenantId("0368")
ITEMS = [
    ("margherita", "Маргарита", "Томаты, моцарелла, базилик", "Пицца", {"size": "30 см"}, True),
    ("pepperoni", "Пепперони", "Острая колбаса", "Пицца", {}, True),
    ("four-cheese", "Четыре сыра", "Горгонзола и пармезан", "Пицца", {}, False),
    ("latte", "Caffè Latte", "Espresso with steamed milk", "Coffee", {}, True),
    ("cheesecake", "Cheesecakes of New York", None, "Desserts", {"note": "Без глютена"}, True),
    ("hedgehog", "Пирожное «Ёжик»", None, "Десерты", {}, True),
]


async def _add(
    conn: Connection, tenant: TenantId, rows: list[tuple[str, str, str | None, str, dict[str, str], bool]]
) -> None:
    await conn.execute(
        "INSERT INTO tenants (tenant_id, name, timezone, country, language, data_key) VALUES ($1, 'x', 'UTC', 'BY', 'ru', $2) "
        "ON CONFLICT DO NOTHING",
        tenant,
        f"a:{tenant}:c",
    )
    items = [
        Item(id=row[0], name=row[1], description=row[2], price="10", currency="BYN", category=row[3], attributes=row[4], available=row[5])
        for row in rows
    ]  # fmt: skip
    await upsert_items(conn, tenant, items)


@pytest.fixture
async def catalog(db: Database) -> Database:
    await db.engine(_add, JUNE, ITEMS)
    await db.engine(_add, MAY, [("secret", "Маргарита чужая", None, "Пицца", {}, True)])
    return db


async def found(db: Database, query: str, most: int = 10) -> list[str]:
    return [item.id for item in await db.tenant(JUNE, search_items, JUNE, query, most)]


@pytest.mark.parametrize(
    ("query", "first"),
    [
        ("маргариту", "margherita"),
        ("две маргариты пожалуйста", "margherita"),
        ("МАРГ", "margherita"),
        ("маргарта", "margherita"),
        ("пепирони", "pepperoni"),
        ("pepperonni", "pepperoni"),
        ("сырами четырьмя", "four-cheese"),
        ("латте", "latte"),
        ("чизкейк", None),
        ("latte", "latte"),
        ("milk steaming", "latte"),
        ("cheesecake", "cheesecake"),
        ("глютен", "cheesecake"),
        ("ежика", "hedgehog"),
        ("ёжик", "hedgehog"),
        ("базилик", "margherita"),
        ("моцареллой", "margherita"),
        ("самолёт", None),
        ("' OR 1=1 -- & | ! :* <->", None),
        ("", None),
    ],
)
async def test_what_is_found_first(catalog: Database, query: str, first: str | None) -> None:
    result = await found(catalog, query)
    assert (result[0] if result else None) == first, result
    assert "secret" not in result


async def test_all_of_a_category_with_what_can_be_had_first(catalog: Database) -> None:
    assert await found(catalog, "какие есть пиццы?") == ["margherita", "pepperoni", "four-cheese"]
    assert len(await found(catalog, "пицца", most=2)) == 2


async def test_an_item_is_found_as_it_is_now(catalog: Database) -> None:
    async def rename(conn: Connection) -> None:
        await conn.execute(
            "UPDATE catalog_items SET name = 'Капричоза' WHERE tenant_id = $1 AND item_id = 'margherita'", JUNE
        )

    await catalog.tenant(JUNE, rename)
    assert await found(catalog, "капричозу") == ["margherita"]
    item = await catalog.tenant(JUNE, select_item, JUNE, "margherita")
    assert item is not None
    assert item.name == "Капричоза"


def test_words_are_letters_and_digits() -> None:
    assert words_of("Пицца-30 см, a 'b':* <-> ПИЦЦА") == ["пицца", "30", "см"]
    assert len(words_of(" ".join(f"word{n}" for n in range(1000)))) == 12


@pytest.mark.slow
async def test_ten_thousand_items_are_searched_while_a_client_waits(db: Database) -> None:
    rows: list[tuple[str, str, str | None, str, dict[str, str], bool]] = [
        (f"i{n}", f"Товар {n} сорт {chr(1072 + n % 30) * 3}{n % 97} модель{n % 1009}", f"Описание номер {n} для всех", f"Раздел {n % 40}", {}, True)
        for n in range(10_000)
    ]  # fmt: skip
    await db.engine(_add, JUNE, [*rows, *ITEMS])
    for query in ("маргарту с грибами пожалуйста", "товары модель77 для всех"):
        began = time.perf_counter()
        assert await found(db, query)
        print(query, round(time.perf_counter() - began, 3))
        assert time.perf_counter() - began < 2.0, query
