"""Conversations for the tests and pictures of the inbox: what clients write goes through the journal and the fold, as updates do."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import trio

from actors.chats.inbox import Inbox
from actors.chats.tenant_chats import Reads, TenantChats
from actors.runtime.directory import Slot
from actors.services import CHATS, Doorbells
from adapters.base import AdapterSettings
from adapters.channel import MessageTemplate
from adapters.inbound import Update
from gateway.domain.chats import human
from gateway.domain.ids import IntegrationKey, TenantId
from gateway.domain.secret import Secret
from gateway.domain.shards import shard_of
from gateway.store import contacts, conversations, members
from gateway.store.conversations import Filters
from gateway.store.journal import PostRow, insert_posts
from gateway.store.message_templates import upsert_templates
from gateway.store.outbox import Outcome
from gateway.store.postgres.pool import Connection
from gateway.store.saved_replies import upsert_saved_reply
from gateway.store.tenants import INTEGRATIONS, LinkRow, upsert_link
from tests.actors.chats.pigeons import CHANNEL, NOON
from tests.web.world import JUNE, World

TELEGRAM, WHATSAPP = IntegrationKey("telegram"), IntegrationKey("whatsapp")
READY = MessageTemplate(
    name="order_ready",
    language="ru",
    text="№ {{body.1}}: {{body.2}} BYN",
    fields=("body.1", "body.2"),
    category="utility",
)
TOKEN = "123456789:AAEabc-def"
EPOCH = 3
ANNA, BORIS = "Анна Кузьмина", "Иван Петров"
"""Clients; names that the tests of pages know."""


async def connect(world: World, tenant: TenantId = JUNE, *, enabled: bool = True) -> None:
    """A Telegram bot to which people may write."""
    assert world.deps.master is not None
    sealer = world.cache.sealer(tenant)
    assert sealer is not None
    sealed = {"bot_token": sealer.seal(Secret(TOKEN), table="integrations", column="bot_token", row=TELEGRAM)}
    link = LinkRow(TELEGRAM, "telegram", enabled, {"chat": True}, sealed)
    await world.db.engine(upsert_link, INTEGRATIONS, tenant, link)
    await world.cache.load()


async def connect_whatsapp(world: World, *templates: MessageTemplate, tenant: TenantId = JUNE) -> None:
    """A WhatsApp number: a messenger that takes free texts for a day only, with approved templates."""
    sealer = world.cache.sealer(tenant)
    assert sealer is not None
    sealed = {
        name: sealer.seal(Secret(text), table="integrations", column=name, row=WHATSAPP)
        for name, text in {"access_token": "EAAG", "app_secret": "s" * 32, "webhook_verify_token": "v" * 32}.items()
    }
    link = LinkRow(WHATSAPP, "whatsapp", True, {"phone_number_id": "106540352242922", "waba_id": "1"}, sealed)
    await world.db.engine(upsert_link, INTEGRATIONS, tenant, link)
    await world.cache.load()
    await world.db.engine(upsert_templates, tenant, WHATSAPP, [one.stored() for one in templates])


async def receives(
    world: World, *events: Mapping[str, Any], tenant: TenantId = JUNE, key: IntegrationKey = TELEGRAM, ago_s: float = 60.0
) -> None:  # fmt: skip
    """Events of a messenger (`tests/actors/chats/pigeons.py`), `at` in seconds after a moment `ago_s` before now."""
    bells = Doorbells()
    begin = (datetime.now(UTC) - NOON).total_seconds() - ago_s

    async def put(row: PostRow) -> bool:
        return (await world.db.engine(insert_posts, [row]))[0]

    async def mine(conn: Connection) -> None:
        await conn.execute("UPDATE shards SET epoch = $2 WHERE shard = $1", shard_of(tenant), EPOCH)

    await world.db.engine(mine)
    updates = []
    for one in events:
        world.made += 1
        updates.append(
            Update(f"u{world.made}", {"id": world.made, "events": [{**one, "at": one.get("at", 0.0) + begin}]})
        )
    await Inbox(put, lambda number: bells.ring(number, CHATS)).store(tenant, key, updates, "chats")
    services: Any = type("S", (), {"db": world.db, "bells": bells, "feed": world.feed})()
    company = world.cache.tenant(tenant)
    assert company is not None
    actor = TenantChats(company, services, EPOCH, {key: Reads(CHANNEL, AdapterSettings())})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(actor.run, Slot(f"tenant/{tenant}/chats"))
        with trio.fail_after(10):
            while await world.db.engine(_pending, tenant):
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()


async def _pending(conn: Connection, tenant: TenantId) -> int:
    found: int = await conn.fetchval("SELECT count(*) FROM journal WHERE tenant_id = $1 AND done_at IS NULL", tenant)
    return found


async def conversation_with(world: World, address: str, tenant: TenantId = JUNE) -> UUID:
    """The id of a conversation by its place."""
    found = await world.db.tenant(tenant, conversations.select_conversations, tenant, Filters(), 1000)
    return next(one.conversation.id for one in found if one.conversation.address == address)


async def author(world: World, email: str, tenant: TenantId = JUNE) -> str:
    """Somebody of the company as an author."""
    found = await world.db.engine(members.select_user_id, tenant, email)
    assert found is not None
    return human(str(found))


async def _add_file(
    conn: Connection, tenant: TenantId, message: UUID, place: int, kind: str, name: str, state: str
) -> None:
    await conn.execute(
        """
        INSERT INTO chat_files (tenant_id, file_id, message_id, place, kind, name, content_type, size, state)
        VALUES ($1, gen_random_uuid(), $2, $3, $4, $5, 'application/pdf', 48213, $6)
        """,
        tenant, message, place, kind, name, state,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Chats:
    """The conversations of `fill_chats`."""

    anna: UUID
    """With everything that can stand in one; its client has called, too."""
    boris: UUID
    """Waits for somebody."""
    contact: UUID
    reply: UUID
    """A saved reply."""


async def fill_chats(world: World) -> Chats:
    """Two conversations with messages of every kind, notes, files and states; saved replies; two contacts to merge."""
    await connect(world)
    company = world.cache.tenant(JUNE)
    conversing = world.deps.conversing
    assert company is not None
    assert conversing is not None
    person = {"name": ANNA, "username": "anna_k", "language": "ru"}
    await receives(
        world,
        {"event": "ClientWrote", "provider_id": "1", "text": "12:00?\nhttps://june.example/1", "address": "71", "person": person},
        {"event": "ClientWrote", "provider_id": "2", "text": "10 × 2", "address": "71", "at": 5.0, "files": [{"kind": "contact", "name": BORIS}, {"kind": "location", "latitude": 53.9, "longitude": 27.56}]},
        {"event": "MessageEdited", "provider_id": "2", "text": "10 × 3", "address": "71", "at": 9.0},
        {"event": "ClientWrote", "provider_id": "3", "text": "…", "address": "71", "at": 12.0},
        {"event": "MessageDeleted", "provider_id": "3", "address": "71", "at": 14.0},
        {"event": "PhoneShared", "phone": "+375291002004", "address": "71", "at": 15.0},
        ago_s=900.0,
    )  # fmt: skip
    anna = await conversation_with(world, "71")
    admin = await author(world, f"admin@{JUNE}.example")
    await conversing.take(company, anna, admin)
    await conversing.note(company, anna, admin, "№ 15 → 16:00")
    for text, outcome in (
        ("14:00", Outcome(state="done", status="done", external_id="11")),
        ("15:30", Outcome(state="failed", status="failed", error="403 Forbidden")),
        ("16:00", Outcome(state="doubtful", status="doubtful")),
        ("17:00", None),
    ):
        sent = await conversing.send(company, anna, author=admin, text=text)
        if outcome is not None:
            await world.deliver(JUNE, TELEGRAM, outcome)
    await world.db.engine(_add_file, JUNE, sent.message.id, 0, "file", "1.pdf", "expected")
    await world.db.engine(_add_file, JUNE, sent.message.id, 1, "voice", "1.ogg", "failed")
    await receives(
        world,
        {"event": "ClientWrote", "provider_id": "1", "text": "+375 29 100-20-02?", "address": "72", "person": {"name": BORIS}},
        {"event": "ReachChanged", "blocked": True, "address": "72", "at": 3.0},
        ago_s=400.0,
    )  # fmt: skip
    boris = await conversation_with(world, "72")
    seen = await world.db.tenant(JUNE, conversations.select_conversation, JUNE, anna)
    assert seen is not None
    await world.db.tenant(JUNE, contacts.insert_contact, JUNE, ANNA, ["+375291002002"], ["anna@june.example"])
    reply = UUID("5f0d1c0e-3c2b-4f6e-9a51-8d8f6f3a1b20")
    await world.db.tenant(JUNE, upsert_saved_reply, JUNE, reply, "1", "09:00 - 18:00", f"admin@{JUNE}.example")
    return Chats(anna, boris, seen.root, reply)


async def fill_templates(world: World) -> UUID:
    """A conversation in which nothing but a template can be sent now."""
    await connect_whatsapp(world, READY)
    wrote = {
        "event": "ClientWrote",
        "provider_id": "1",
        "text": "15:00?",
        "address": "375291002009",
        "person": {"name": BORIS},
    }
    await receives(world, wrote, key=WHATSAPP, ago_s=2 * 86_400.0)
    return await conversation_with(world, "375291002009")
