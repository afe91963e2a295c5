"""Finished orders go when their company says so, with what hangs on them; all others stay."""

import pytest

from gateway.domain.orders import OrderRules
from gateway.store.orders import delete_expired_orders
from gateway.store.postgres.pool import Connection, Database
from tests.actors.orders.shop import JUNE, Shop
from tests.store.database import db, dsn, postgres

__all__ = ["db", "dsn", "postgres"]


@pytest.mark.parametrize(
    ("options", "left"), [("{}", 4), ('{"orders": {"keep_days": 30}}', 2), ('{"orders": {"keep_days": 90}}', 4)]
)
async def test_finished_orders_go_when_their_time_has_come(db: Database, options: str, left: int) -> None:
    shop = await Shop(db).open()
    chat = await shop.client("Ivan")

    async def age(conn: Connection) -> None:
        await conn.execute("UPDATE tenants SET options = $2::jsonb WHERE tenant_id = $1", JUNE, options)
        for number, status in (("1", "done"), ("2", "cancelled"), ("3", "confirmed")):
            await conn.execute(
                f"UPDATE orders SET status = '{status}', updated_at = now() - interval '31 days' WHERE number = {number}"
            )
        await conn.execute("UPDATE orders SET status = 'done' WHERE number = 4")

    for _ in range(4):
        await shop.calls(chat, "create_order", items=[{"catalog_id": "pizza", "quantity": 1}])
        await db.engine(age)
    assert await db.engine(delete_expired_orders, 0, 1) == (left < 4), "as many as were requested at most"
    await db.engine(delete_expired_orders, 0, 100)

    async def rest(conn: Connection) -> tuple[int, int]:
        counts = await conn.fetchrow("SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM order_items)")
        assert counts is not None
        return counts[0], counts[1]

    assert await db.engine(rest) == (left, left)


def test_the_rule_is_days_or_nothing() -> None:
    assert OrderRules.model_validate({"keep_days": ""}).keep_days is None
    assert OrderRules.model_validate({"keep_days": "30"}).keep_days == 30
    for bad in ("0", "soon", 99_999):
        with pytest.raises(ValueError, match="keep_days"):
            OrderRules.model_validate({"keep_days": bad})
