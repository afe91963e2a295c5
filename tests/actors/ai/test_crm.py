"""What the AI stores of clients and orders is told to the company's CRM in the commit of the tool's call."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace

import pytest
import trio

from actors.crm.plans import CrmPlans
from adapters.base import Adapter
from adapters.registry import integrations
from gateway.domain.configuration import Tenant, integration
from gateway.domain.ids import IntegrationKey, Kind
from gateway.store.postgres.pool import Database
from tests.actors.ai.shop import JUNE, Shop, open_shop
from tests.actors.chats.pigeons import ADAPTER, KIND
from tests.sandbox.llm import LanguageModel, called, said
from tests.store.database import db, dsn, postgres

__all__ = ["db", "dsn", "postgres"]
CRM = IntegrationKey("retailcrm")


@dataclass
class CrmShop(Shop):
    """With a CRM."""

    def __post_init__(self) -> None:
        super().__post_init__()

        def kinds() -> Mapping[Kind, Adapter]:
            return {KIND: ADAPTER, Kind("retailcrm"): integrations()[Kind("retailcrm")]}

        crm = CrmPlans(wake=lambda number, key: self.woken.append(key), adapters=kinds)
        self.conversing = replace(self.conversing, crm=crm)

    @property
    def tenant(self) -> Tenant:
        known = super().tenant
        link = integration(CRM, {"domain": "https://june.retailcrm.ru", "api_key": "k"})
        return replace(known, integrations={**known.integrations, CRM: link})


@pytest.fixture
async def model(nursery: trio.Nursery) -> AsyncIterator[LanguageModel]:
    made = LanguageModel()
    await nursery.start(made.serve)
    yield made
    nursery.cancel_scope.cancel()


async def test_what_tools_store_is_planned_with_their_calls(db: Database, model: LanguageModel) -> None:
    plain = await open_shop(db, model)
    shop = CrmShop(**{name: getattr(plain, name) for name in ("db", "model", "options", "number")})
    model.script = [
        called(
            ("save_contact", {"phone": "+375291112233"}), ("create_order", {"items": [{"catalog_id": "margherita", "quantity": 2}]}),
            ("create_order", {"items": [{"catalog_id": "nothing", "quantity": 1}]}),
        ),
        said("Повторю заказ."),
    ]  # fmt: skip
    async with shop.open():
        await shop.writes("две маргариты, мой номер +375291112233")
        await shop.until_author("ai")
    rows = await shop.rows(
        "SELECT integration_type, kind, subject_kind FROM deliveries WHERE kind <> 'message' ORDER BY delivery_id"
    )
    assert rows == [(CRM, "contact", "contact"), (CRM, "order", "order")], "and nothing of the call that was refused"
    assert shop.woken.count(CRM) == 2
    assert shop.number == JUNE
