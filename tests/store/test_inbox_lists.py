"""The lists of the inbox and of customers: what a viewer gets, and by which indexes where there are thousands of conversations."""

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest

from gateway.domain.events import Direction, Result
from gateway.domain.ids import TenantId
from gateway.store import client_calls, contacts, conversations, saved_replies
from gateway.store.conversations import Filters
from gateway.store.postgres.errors import Conflict
from gateway.store.postgres.pool import Connection, Database, OwnConnection, open_session
from tests.store.test_missed_calls import JUNE, MANY, MAPLE, ended

MANY_CHATS = """
INSERT INTO contacts (tenant_id, contact_id, root_id, name, updated_at)
SELECT '{0}', md5('{0}c' || n)::uuid, md5('{0}c' || n)::uuid, 'Client ' || n, now() - n * interval '1 min' FROM generate_series(1, 2000) n;
INSERT INTO contact_phones (tenant_id, contact_id, phone)
SELECT '{0}', md5('{0}c' || n)::uuid, '+37529' || (1000000 + n) FROM generate_series(1, 2000) n;
INSERT INTO conversations (tenant_id, conversation_id, integration_type, address, contact_id, state, owner, last_seq, last_message_at, unread,
                           waiting_since)
SELECT '{0}', md5('{0}v' || n)::uuid, 'telegram', n::text, md5('{0}c' || n)::uuid, CASE WHEN n % 5 = 0 THEN 'closed' ELSE 'open' END,
       CASE n % 4 WHEN 0 THEN 'queue' WHEN 1 THEN 'none' WHEN 2 THEN 'human:anna' ELSE 'human:ivan' END, 3, now() - n * interval '1 min',
       n % 3, CASE WHEN n % 10 = 1 THEN now() - n * interval '1 min' END
FROM generate_series(1, 2000) n;
INSERT INTO messages (tenant_id, message_id, conversation_id, seq, direction, author, text, at, created_at)
SELECT '{0}', md5('{0}m' || n || '-' || s)::uuid, md5('{0}v' || n)::uuid, s, 'in', 'client', 'message ' || s || ' of ' || n,
       now() - n * interval '1 min', now() - n * interval '1 min' - (3 - s) * interval '1 s'
FROM generate_series(1, 2000) n, generate_series(1, 3) s;
"""


COMPANY = "INSERT INTO tenants (tenant_id, name, timezone, country, language, data_key) VALUES ($1, 'June', 'UTC', 'BY', 'ru', 'a:' || $1 || ':c')"


class Explained(Exception):
    """A statement's plan."""


class Explaining:
    """A connection that explains the first statement in place of running it."""

    def __init__(self, conn: Connection) -> None:
        self.conn = conn

    async def fetch(self, statement: str, *values: Any) -> Any:
        raise Explained("\n".join(row[0] for row in await self.conn.fetch(f"EXPLAIN {statement}", *values)))

    fetchrow = fetch


async def plan_of(db: Database, function: Callable[..., Awaitable[Any]], *values: Any) -> str:
    """How PostgreSQL runs a function's statement beneath the policies of JUNE."""

    async def explain(conn: Connection) -> str:
        try:
            await function(Explaining(conn), JUNE, *values)
        except Explained as plan:
            return str(plan)
        raise AssertionError("nothing was run")

    return await db.tenant(JUNE, explain)


@pytest.fixture
async def many(db: Database, dsn: str) -> Database:
    """Two companies with 2,000 conversations each."""

    async def fill(conn: Connection) -> None:
        for number in (JUNE, MAPLE):
            await conn.execute(COMPANY, number)
            await conn.execute(MANY_CHATS.format(number))
        await conn.execute(MANY)

    await db.engine(fill)
    async with open_session(dsn) as owner:
        await owner.run(_analyze)
    return db


async def _analyze(conn: OwnConnection) -> None:
    await conn.execute("ANALYZE contacts, contact_phones, conversations, messages, calls")


async def listed(db: Database, filters: Filters, most: int = 5000) -> list[int]:
    found = await db.tenant(JUNE, conversations.select_conversations, JUNE, filters, most)
    return [int(one.conversation.address) for one in found]


@pytest.mark.slow
async def test_filters_and_counts_agree_among_thousands(many: Database) -> None:
    opened = [n for n in range(1, 2001) if n % 5]
    assert await listed(many, Filters(state="open")) == opened, "the newest first"
    assert await listed(many, Filters(state="open", owner="nobody")) == [n for n in opened if n % 4 < 2]
    assert await listed(many, Filters(state="open", owner="human:anna")) == [n for n in opened if n % 4 == 2]
    assert await listed(many, Filters(state="open", waiting=True)) == [n for n in opened if n % 10 == 1]
    assert await listed(many, Filters(unread=True)) == [n for n in range(1, 2001) if n % 3]
    assert await listed(many, Filters(only="human:anna")) == [n for n in range(1, 2001) if n % 4 < 3]
    assert await listed(many, Filters(q="Client 1999")) == [1999]
    assert await listed(many, Filters(q="2 of 777")) == [777]
    assert await listed(many, Filters(q="2 of 777", texts=False)) == []
    assert await listed(many, Filters(q="+375291000042")) == [42]
    counts = await many.tenant(JUNE, conversations.count_open, JUNE, "human:anna")
    assert (counts.mine, counts.queue, counts.unanswered, counts.all) == (400, 800, 200, 1600)
    counts = await many.tenant(JUNE, conversations.count_open, JUNE, "human:anna", "human:anna")
    assert (counts.mine, counts.queue, counts.all) == (400, 800, 1200)
    waiting, since = await many.tenant(JUNE, conversations.count_waiting, JUNE)
    assert waiting == 200
    assert since is not None
    assert (await many.tenant(JUNE, conversations.count_waiting, JUNE, "human:anna"))[0] == 100


@pytest.mark.slow
async def test_lists_go_by_their_indexes(many: Database) -> None:
    page = await plan_of(many, conversations.select_conversations, Filters(state="open"), 41)
    assert "conversations_recent" in page
    assert "Seq Scan on conversations" not in page
    people = await plan_of(many, contacts.search_contacts, "", 51)
    assert "contacts_recent" in people
    counts = await plan_of(many, conversations.count_open, "human:anna")
    assert "conversations_open" in counts
    calls = await plan_of(many, client_calls.select_client_calls, ["+375291234567", "+375291234568"], 8)
    assert "calls_client" in calls
    chats = await plan_of(many, conversations.select_by_phones, ["+375291000042", "+375291000043"])
    assert "contact_phones_phone" in chats
    assert "Seq Scan on conversations" not in chats


async def test_calls_of_a_client_are_those_in_both_directions(db: Database) -> None:
    await ended(db, "1", 0, client="+375296254070")
    await ended(db, "2", 1, client="+375296254070", direction=Direction.OUTGOING, result=Result.ANSWERED, rang=("151",))
    await ended(db, "3", 2, client="+375296254071")
    await ended(db, "4", 3, client="+375296254070", tenant=MAPLE)

    async def found(*numbers: str, **more: Any) -> list[str]:
        async def work(conn: Connection) -> list[str]:
            calls = await client_calls.select_client_calls(conn, JUNE, numbers, 10, **more)
            return [call.call_id for call in calls]

        return await db.tenant(JUNE, work)

    assert await found("+375296254070") == ["2", "1"]
    assert await found("+375296254071", "+375296254070", "+375296254070") == ["3", "2", "1"]
    assert await found("+37529625407") == []
    assert await found() == []
    assert await found("+375296254070", only=["151"]) == ["2"]


async def test_a_shortcut_is_had_once_whatever_its_letters(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = UUID(int=1), UUID(int=2)

    async def save(reply: UUID, shortcut: str, tenant: TenantId = JUNE) -> bool:
        return await db.tenant(tenant, saved_replies.upsert_saved_reply, tenant, reply, shortcut, "text", "anna")

    async def fill(conn: Connection) -> None:
        for number in (JUNE, MAPLE):
            await conn.execute(COMPANY, number)

    await db.engine(fill)
    assert await save(first, "hours")
    assert await save(first, "Hours"), "changed"
    assert await save(first, "hours", MAPLE), "another company's"
    with pytest.raises(Conflict):
        await save(second, "HOURS")
    monkeypatch.setattr(saved_replies, "MOST", 1)
    assert not await save(second, "other")
    assert await save(first, "other"), "one that is there can be changed"
    assert await db.tenant(JUNE, saved_replies.delete_saved_reply, JUNE, first) == "other"
    assert await db.tenant(JUNE, saved_replies.delete_saved_reply, JUNE, first) is None
    assert len(await db.tenant(MAPLE, saved_replies.select_saved_replies, MAPLE)) == 1
