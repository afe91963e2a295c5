"""The lists of approved templates: read by a job, stored for all instances, and gone with their integration."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from actors.chats.templates import known_templates, template_jobs
from adapters.channel import MessageTemplate
from adapters.registry import integrations
from gateway.domain.errors import Unavailable
from gateway.domain.ids import IntegrationKey, TenantId
from gateway.store.postgres.pool import Connection, Database
from tests.store.database import db, dsn, postgres

__all__ = ["db", "dsn", "postgres"]

JUNE, KEY = TenantId("0367"), IntegrationKey("whatsapp:sales")
READY = MessageTemplate(
    name="ready", language="ru", text="Заказ {{body.1}}\0\ud800", fields=("body.1",), category="utility"
)
OTHER = MessageTemplate(name="other", language="en_US", text="Hi")


@dataclass
class Account:
    """A client of a messenger with templates."""

    found: Sequence[MessageTemplate] = ()
    error: Exception | None = None
    asked: int = field(default=0)

    async def templates(self) -> Sequence[MessageTemplate]:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return self.found


async def _company(conn: Connection) -> None:
    await conn.execute(
        "INSERT INTO tenants (tenant_id, name, timezone, country, language, data_key) VALUES ($1, 'June', 'UTC', 'BY', 'ru', 'k')",
        JUNE,
    )
    await conn.execute("INSERT INTO integrations (tenant_id, integration_type) VALUES ($1, $2)", JUNE, KEY)


@pytest.fixture
async def known(db: Database) -> Any:
    await db.engine(_company)

    async def read() -> list[MessageTemplate]:
        return await db.tenant(JUNE, known_templates, JUNE, KEY)

    return read


async def run(db: Database, client: Account) -> Any:
    adapter = integrations()["whatsapp"]  # type: ignore[index] # a kind
    (job,) = template_jobs(db)(adapter)
    context: Any = type("C", (), {"tenant": type("T", (), {"number": JUNE}), "key": KEY})
    return await job.run(client, context)


async def test_the_list_is_replaced_and_an_error_leaves_the_last_one(db: Database, known: Any) -> None:
    assert await known() == []
    assert await run(db, Account([READY, OTHER])) is None
    assert [(one.name, one.fields) for one in await known()] == [("ready", ("body.1",)), ("other", ())]
    await run(db, Account([OTHER]))
    assert await known() == [OTHER]
    with pytest.raises(Unavailable):
        await run(db, Account(error=Unavailable("away")))
    assert await known() == [OTHER]


async def test_a_list_goes_with_its_integration(db: Database, known: Any) -> None:
    await run(db, Account([OTHER]))

    async def disconnect(conn: Connection) -> None:
        await conn.execute("DELETE FROM integrations WHERE tenant_id = $1", JUNE)

    await db.engine(disconnect)
    assert await known() == []
    await run(db, Account([OTHER]))
    assert await known() == [], "a job that was under way brings nothing back"


async def test_only_messengers_with_templates_have_the_job(db: Database) -> None:
    jobs = template_jobs(db)
    assert {kind for kind, adapter in integrations().items() if jobs(adapter)} == {"whatsapp"}
