"""From updates to conversations and from answers to deliveries, on a real PostgreSQL: once, in order, and nothing lost.

Long, because every case needs the same company with its journal, actor and outbox.
"""

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
import trio

from actors.chats.conversing import Conversing, NotThere, Passed, Sent
from actors.chats.inbox import Inbox
from actors.chats.tenant_chats import Reads, TenantChats
from actors.feed import Feed
from actors.runtime.directory import Slot
from actors.services import CHATS, Doorbells
from adapters.base import AdapterSettings
from adapters.inbound import Update
from gateway.domain.chats import Conversation
from gateway.domain.configuration import Connector, Tenant
from gateway.domain.health import State
from gateway.domain.ids import IntegrationKey, TenantId
from gateway.domain.posts import Invalid
from gateway.domain.shards import shard_of
from gateway.domain.subjects import Subject
from gateway.store import contact_merges, contacts, conversations, messages
from gateway.store.conversations import Filters, Seen
from gateway.store.journal import PostRow, insert_posts
from gateway.store.messages import StoredMessage
from gateway.store.outbox import Ack, Claim, Outcome, claim_deliveries, finish_and_claim
from gateway.store.postgres.pool import Connection, Database
from tests.actors.chats.pigeons import ADAPTER, CAN, CHANNEL, KEY, KIND, NOON, happened, update, wrote
from tests.store.database import db, dsn, postgres

__all__ = ["db", "dsn", "postgres"]

JUNE, MAY = TenantId("0367"), TenantId("0368")
RACES = int(os.environ.get("RACES", "20"))
ANNA = "human:7c9e6679-7425-40de-944b-e07fc1f90ae7"


def company(number: TenantId = JUNE, key: IntegrationKey = KEY) -> Tenant:
    return Tenant(
        number, "June", ZoneInfo("UTC"), "BY", "ru",
        integrations={key: Connector(key, KIND, {})},
    )  # fmt: skip


@dataclass
class Here:
    """A company's chats, and what was announced of them."""

    db: Database
    bells: Doorbells = field(default_factory=Doorbells)
    changed: list[str] = field(default_factory=list)
    woken: list[IntegrationKey] = field(default_factory=list)
    now: datetime = NOON
    slot: Slot | None = None
    """Of the actor that folds."""

    def __post_init__(self) -> None:
        self.feed = Feed(self.changed.append)
        self.conversing = Conversing(
            db=self.db, feed=self.feed, wake=lambda number, key: self.woken.append(key), adapters=lambda: {KIND: ADAPTER},
            now=lambda: self.now,
        )  # fmt: skip

    async def receives(
        self, *updates: Update, tenant: TenantId = JUNE, key: IntegrationKey = KEY, wait: bool = True
    ) -> None:
        """Updates reach the journal and are folded."""

        async def put(row: PostRow) -> bool:
            return (await self.db.engine(insert_posts, [row]))[0]

        await Inbox(put, lambda number: self.bells.ring(number, CHATS)).store(tenant, key, updates, "chats")
        if wait:
            await self.folds(tenant, key)

    async def folds(self, tenant: TenantId = JUNE, key: IntegrationKey = KEY, epoch: int = 3) -> None:
        """Runs the actor until nothing of its journal is left."""
        services: Any = type("S", (), {"db": self.db, "bells": self.bells, "feed": self.feed})()
        actor = TenantChats(company(tenant, key), services, epoch, {key: Reads(CHANNEL, AdapterSettings())})
        async with trio.open_nursery() as nursery:
            self.slot = Slot(f"tenant/{tenant}/chats")
            nursery.start_soon(actor.run, self.slot)
            with trio.fail_after(10):
                while await self.db.engine(_pending, tenant):
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel()

    async def seen(self, filters: Filters | None = None, tenant: TenantId = JUNE) -> list[Seen]:
        return await self.db.tenant(tenant, conversations.select_conversations, tenant, filters or Filters(), 100)

    async def only(self, tenant: TenantId = JUNE) -> Conversation:
        (one,) = await self.seen(tenant=tenant)
        return one.conversation

    async def said(self, conversation: UUID, tenant: TenantId = JUNE) -> list[StoredMessage]:
        return await self.db.tenant(tenant, messages.select_messages, tenant, conversation, 100)

    async def send(self, conversation: UUID, text: str, **more: Any) -> Sent:
        return await self.conversing.send(company(), conversation, author=more.pop("author", ANNA), text=text, **more)

    async def delivers(self, *answers: Outcome, key: IntegrationKey = KEY) -> list[Claim]:
        """Claims what is due and records an outcome for each, in order."""
        taken = list[Claim]()
        for answer in answers:
            (claim,) = await self.db.engine(claim_deliveries, JUNE, key, 1, 30.0)
            taken.append(claim)
            await self.db.engine(finish_and_claim, [Ack(claim, answer, False, None)], 30.0)
        return taken


async def _answers(conn: Connection) -> list[str]:
    return [row[0] for row in await conn.fetch("SELECT text FROM messages WHERE direction = 'out'")]


async def _pending(conn: Connection, tenant: TenantId) -> int:
    found: int = await conn.fetchval("SELECT count(*) FROM journal WHERE tenant_id = $1 AND done_at IS NULL", tenant)
    return found


async def _prepare(conn: Connection) -> None:
    for number in (JUNE, MAY):
        await conn.execute(
            "INSERT INTO tenants (tenant_id, name, timezone, country, language, data_key) VALUES ($1, 'June', 'UTC', 'BY', 'ru', $2)",
            number, f"a:{number}:c",
        )  # fmt: skip
        await conn.execute("UPDATE shards SET epoch = 3 WHERE shard = $1", shard_of(number))


@pytest.fixture
async def here(db: Database) -> Here:
    await db.engine(_prepare)
    return Here(db)


def done(external_id: str) -> Outcome:
    return Outcome(state="done", status="done", external_id=external_id)


async def count(here: Here, table: str) -> int:
    async def counted(conn: Connection) -> int:
        found: int = await conn.fetchval(f"SELECT count(*) FROM {table}")
        return found

    return await here.db.engine(counted)


# In --------------------------------------------------------------------------------------------------------------------


async def test_what_a_client_writes_is_a_conversation_with_messages(here: Here) -> None:
    await here.receives(
        update(1, wrote(1, "first \0", person={"name": "Anna", "username": "anna", "language": "ru"})),
        update(2, wrote(2, "second", at=5, reply_to="1")),
    )
    (one,) = await here.seen()
    known = one.conversation
    assert (one.contact_name, one.last_text, one.last_author, known.unread, known.owner) == (
        "Anna",
        "second",
        "client",
        2,
        "none",
    )
    assert known.waiting_since == NOON
    first, second = await here.said(known.id)
    assert (first.seq, first.text, first.author, first.direction, first.provider_id) == (
        1,
        "first \ufffd",
        "client",
        "in",
        "1",
    )
    assert second.reply_to == first.id
    assert f"{JUNE} chat {known.id}" in here.changed


async def test_a_webhook_sent_again_and_the_same_message_in_another_update_change_nothing(here: Here) -> None:
    await here.receives(update(1, wrote(1)), update(1, wrote(1)))
    await here.receives(update(2, wrote(1)), update(1, wrote(1)))
    known = await here.only()
    assert (len(await here.said(known.id)), known.unread) == (1, 1)


async def test_the_same_address_in_two_channels_is_two_conversations(here: Here) -> None:
    await here.receives(update(1, wrote(1)))
    await here.receives(update(1, wrote(1)), key=IntegrationKey("pigeon:support"))
    assert {one.conversation.integration for one in await here.seen()} == {"pigeon", "pigeon:support"}


@pytest.mark.usefixtures("expected_errors")
async def test_one_bad_update_is_set_aside_and_the_others_are_kept(here: Here) -> None:
    await here.receives(
        update(1, wrote(1)), Update("2", {"events": [{"event": "ClientWrote", "at": 0}]}), Update("3", {"nothing": 1}), update(4, wrote(4)),
        wait=False,
    )  # fmt: skip
    await here.folds()
    assert [one.provider_id for one in await here.said((await here.only()).id)] == ["1", "4"]
    assert await count(here, "dead_letters") == 2


async def test_two_readers_at_once_make_one_conversation(here: Here) -> None:
    """Two instances that both believe they own the company: the fence and the keys leave every message once."""
    await here.receives(*(update(number, wrote(number, address=str(number % 5))) for number in range(60)), wait=False)
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(here.folds)
    assert len(await here.seen()) == 5
    assert (await count(here, "messages"), await count(here, "conversations")) == (60, 5)


async def test_a_replaced_reader_writes_nothing(here: Here) -> None:
    await here.receives(update(1, wrote(1)), wait=False)
    with pytest.raises(trio.TooSlowError):
        with trio.fail_after(0.3):
            await here.folds(epoch=2)
    assert await here.seen() == []


async def test_companies_never_see_each_others_conversations(here: Here) -> None:
    await here.receives(update(1, wrote(1, "june's")))
    await here.receives(update(1, wrote(1, "may's")), tenant=MAY)
    assert [one.last_text for one in await here.seen(tenant=MAY)] == ["may's"]
    june = await here.only()
    assert await here.db.tenant(MAY, conversations.select_conversation, MAY, june.id) is None
    with pytest.raises(NotThere):
        await here.conversing.send(company(MAY), june.id, author=ANNA, text="hi")
    with pytest.raises(NotThere):
        await here.conversing.take(company(MAY), june.id, ANNA)


# Out -------------------------------------------------------------------------------------------------------------------


async def test_an_answer_is_a_delivery_and_takes_the_conversation(here: Here) -> None:
    await here.receives(update(1, wrote(1)))
    known = await here.only()
    sent = await here.send(known.id, "good morning", client_id="a-1", reply_to=(await here.said(known.id))[0].id)
    assert (sent.message.status, sent.conversation.owner, sent.conversation.epoch) == ("queued", ANNA, known.epoch + 1)
    assert here.woken == [KEY]
    after = await here.only()
    assert (after.waiting_since, after.unread, after.last_seq) == (None, 0, 2)
    again = await here.send(known.id, "good morning", client_id="a-1")
    assert (again.message.id, here.woken) == (sent.message.id, [KEY])
    (claim,) = await here.delivers(done("55"))
    assert json.loads(claim.body) == {
        "to": "7",
        "text": "good morning",
        "reply_to": "1",
        "token": f"{sent.message.id}.0",
    }
    assert claim.subject == Subject("chat", str(known.id))
    stored = (await here.said(known.id))[1]
    assert (stored.status, stored.provider_id, stored.error) == ("sent", "55", "")


async def test_the_same_client_id_at_the_same_moment_is_one_message(here: Here) -> None:
    await here.receives(update(1, wrote(1)))
    known = await here.only()
    answers = list[Sent]()

    async def one() -> None:
        answers.append(await here.send(known.id, "hi", client_id="a-1"))

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(one)
    assert len({sent.message.id for sent in answers}) == 1
    assert (len(await here.said(known.id)), await count(here, "deliveries")) == (2, 1)


async def test_an_echo_before_and_after_the_answer_is_no_second_message(here: Here) -> None:
    await here.receives(update(1, wrote(1)))
    known = await here.only()
    await here.send(known.id, "yes")
    await here.receives(
        update(2, happened("WroteElsewhere", provider_id="55", text="yes"))
    )  # before the messenger answered us
    await here.delivers(done("55"))
    await here.receives(update(3, happened("WroteElsewhere", provider_id="55", text="yes")))
    await here.send(known.id, "and")
    await here.delivers(done("56"))
    await here.receives(update(4, happened("WroteElsewhere", provider_id="56", text="and")))
    assert [(one.author, one.provider_id, one.status) for one in (await here.said(known.id))[1:]] == [
        (ANNA, "55", "sent"), (ANNA, "56", "sent"),
    ]  # fmt: skip


async def test_a_long_answer_is_sent_in_parts_and_is_as_far_as_the_last_of_them(here: Here) -> None:
    await here.receives(update(1, wrote(1)))
    known = await here.only()
    text = "word " * 50
    sent = await here.send(known.id, text)
    claims = await here.delivers(done("1a"), done("1b"))
    assert [one.status for one in (await here.said(known.id))[1:]] == ["queued"]
    claims += await here.delivers(done("1c"))
    assert " ".join(json.loads(claim.body)["text"] for claim in claims) == text.strip()
    assert [claim.key for claim in claims] == [f"{sent.message.id}.{place}" for place in range(3)]
    await here.receives(
        update(
            2,
            happened("StatusReached", provider_id="1a", status="read", at=1),
            happened("StatusReached", provider_id="1b", status="delivered", at=1),
        )
    )
    assert (await here.said(known.id))[1].status == "sent"
    await here.receives(update(3, happened("StatusReached", provider_id="1c", status="delivered", at=1)))
    assert (await here.said(known.id))[1].status == "delivered"
    await here.receives(update(4, happened("StatusReached", status="read", up_to=True, at=3_000_000)))
    assert (await here.said(known.id))[1].status == "read"


@pytest.mark.parametrize(("state", "status"), [("failed", "failed"), ("doubtful", "unknown"), ("expired", "failed")])
async def test_what_did_not_arrive_says_why_and_can_be_sent_again(here: Here, state: Any, status: str) -> None:
    await here.receives(update(1, wrote(1)))
    known = await here.only()
    sent = await here.send(known.id, "yes")
    await here.delivers(Outcome(state=state, status=state, error="the chat is gone"))
    stored = (await here.said(known.id))[1]
    assert (stored.status, stored.error) == (status, "the chat is gone")
    again = await here.conversing.retry(company(), sent.message.id)
    assert again.status == "queued"
    await here.delivers(done("56"))
    stored = (await here.said(known.id))[1]
    assert (stored.status, stored.error, stored.provider_id) == ("sent", "", "56")
    with pytest.raises(Invalid, match="status"):
        await here.conversing.retry(company(), sent.message.id)


async def test_a_message_whose_delivery_is_cleared_away_can_still_be_sent_again(here: Here) -> None:
    await here.receives(update(1, wrote(1)))
    known = await here.only()
    sent = await here.send(known.id, "word " * 30)
    await here.delivers(done("1a"), Outcome(state="failed", status="failed", error="gone"))

    async def clear(conn: Connection) -> None:
        await conn.execute("DELETE FROM deliveries")

    await here.db.engine(clear)
    assert (await here.conversing.retry(company(), sent.message.id)).status == "queued"
    (claim,) = await here.delivers(done("1b"))
    assert claim.key == f"{sent.message.id}.1"
    assert (await here.said(known.id))[1].status == "sent"


async def test_an_unknown_outcome_is_cleared_by_what_the_messenger_says_later(here: Here) -> None:
    await here.receives(update(1, wrote(1)))
    known = await here.only()
    sent = await here.send(known.id, "yes")
    await here.delivers(Outcome(state="doubtful", status="doubtful", error="the connection was lost"))
    assert (await here.said(known.id))[1].status == "unknown"
    await here.receives(
        update(2, happened("StatusReached", provider_id="55", token=f"{sent.message.id}.0", status="delivered"))
    )
    stored = (await here.said(known.id))[1]
    assert (stored.status, stored.provider_id, stored.error) == ("delivered", "55", "")


async def test_a_report_that_is_quicker_than_the_answer_waits_for_it(here: Here) -> None:
    await here.receives(update(1, wrote(1)))
    known = await here.only()
    await here.send(known.id, "yes")
    (claim,) = await here.db.engine(claim_deliveries, JUNE, KEY, 1, 30.0)
    report = update(2, happened("StatusReached", provider_id="55", status="failed", error="no device"))
    await here.receives(report, update(3, wrote(4, "?")), wait=False)
    here.slot = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(here.folds)
        with trio.fail_after(10):
            while here.slot is None or here.slot.health.state is not State.ONLINE:  # both were looked at once
                await trio.sleep(0.01)
        assert await here.db.engine(_pending, JUNE) == 2, (
            "the report waits, and what came after it in this conversation"
        )
        assert [one.status for one in await here.said(known.id) if one.direction == "out"] == ["queued"]
        await here.db.engine(finish_and_claim, [Ack(claim, done("55"), False, None)], 30.0)
    said = await here.said(known.id)
    assert [(one.text, one.status, one.error) for one in said] == [
        ("hello", None, ""), ("yes", "failed", "no device"), ("?", None, ""),
    ]  # fmt: skip


async def test_what_no_column_takes_loses_no_message(here: Here) -> None:
    file = {"kind": "file", "name": "a\x00b", "size": 10**30, "remote": {"url": "https://e.example/\x00\udcff"}}
    await here.receives(update(1, wrote(1, "a\x00\udcff\u202eb", files=[file])))
    (one,) = await here.said((await here.only()).id)
    assert one.text == "a\ufffd?\u202eb", "the marks that only change the direction are the client's"
    (stored,) = one.files
    assert (stored.name, stored.size, stored.state) == ("a\ufffdb", None, "expected")


async def test_wrong_messages_are_refused_with_the_field(here: Here) -> None:
    await here.receives(update(1, wrote(1)))
    known = await here.only()
    for given, where in (
        ({"text": " "}, "text"),
        ({"text": "\x00\u200f\u202e\u2066"}, "text"),
        ({"text": "x" * 50_000}, "text"),
        ({"text": "", "files": [uuid4()]}, "attachments"),
    ):
        with pytest.raises(Invalid, match=where):
            await here.send(known.id, **given)
    off = replace(company(), integrations={})
    with pytest.raises(Invalid, match="channel"):
        await here.conversing.send(off, known.id, author=ANNA, text="hi")
    assert len(await here.said(known.id)) == 1


async def test_first_messages_go_where_the_messenger_allows_them(here: Here) -> None:
    sent = await here.conversing.start(company(), KEY, "42", author=ANNA, text="your order is ready")
    assert ((await here.only()).address, sent.message.status) == ("42", "queued")
    again = await here.conversing.start(company(), KEY, "42", author=ANNA, text="second")
    assert again.conversation.id == sent.conversation.id
    (one,) = await here.seen()
    third = await here.conversing.start(company(), KEY, str(one.root), author=ANNA, text="third")
    assert third.conversation.id == sent.conversation.id
    for to in ("nobody", str(uuid4())):
        with pytest.raises(Invalid, match="to"):
            await here.conversing.start(company(), KEY, to, author=ANNA, text="hi")


async def test_a_channel_with_a_window_takes_free_texts_only_within_it(here: Here) -> None:
    windowed = replace(ADAPTER, chat=replace(CHANNEL, capabilities=replace(CAN, window_s=86400.0)))
    here.conversing = Conversing(
        db=here.db,
        feed=here.feed,
        wake=lambda number, key: None,
        adapters=lambda: {KIND: windowed},
        now=lambda: here.now,
    )
    await here.receives(update(1, wrote(1)))
    known = await here.only()
    await here.send(known.id, "in time")
    here.now = datetime(2026, 11, 30, 12, 0, 1, tzinfo=UTC)
    with pytest.raises(Invalid, match="24 hours"):
        await here.send(known.id, "too late")
    with pytest.raises(Invalid, match="template"):
        await here.conversing.start(company(), KEY, "43", author=ANNA, text="hi")


# Owners ----------------------------------------------------------------------------------------------------------------


async def test_who_is_quicker_takes_it_and_the_other_is_told(here: Here) -> None:
    await here.receives(update(1, wrote(1)))
    known = await here.only()
    taken, refused = list[Conversation](), list[Passed]()

    async def take(who: str) -> None:
        try:
            taken.append(await here.conversing.take(company(), known.id, who, expected_epoch=known.epoch))
        except Passed as passed:
            refused.append(passed)

    async with trio.open_nursery() as nursery:
        for number in range(6):
            nursery.start_soon(take, f"human:{number}")
    assert (len(taken), len(refused)) == (1, 5)
    assert {passed.conversation.owner for passed in refused} == {taken[0].owner}


async def test_two_people_who_answer_at_once_are_one_owner_and_one_answer(here: Here) -> None:
    """RACES in the environment: how often; of each, the answers and the taking are tried at the epoch that both saw."""
    await here.receives(update(1, wrote(1)))
    known = await here.only()
    wins, refused = Counter[str](), 0
    for race in range(RACES):
        seen = await here.conversing.release(company(), known.id, ANNA, "queue")
        owners = list[str]()

        async def answer(who: str, race: int = race, epoch: int = seen.epoch, owners: list[str] = owners) -> None:
            nonlocal refused
            try:
                if race % 2:
                    await here.conversing.take(company(), known.id, who, expected_epoch=epoch)
                    epoch += 1
                await here.send(known.id, f"{race} of {who}", author=who, expected_epoch=epoch)
                owners.append(who)
            except Passed:
                refused += 1

        async with trio.open_nursery() as nursery:
            for who in ("human:1", "human:2"):
                nursery.start_soon(answer, who)
        (owner,) = owners
        assert (await here.only()).owner == owner, "who answers is who owns it"
        wins[owner] += 1
    texts = await here.db.engine(_answers)
    assert refused == RACES
    assert len(texts) == len(set(texts)) == RACES, "nothing of the loser's was stored"
    print(f"\nraces {RACES}, owners {sum(wins.values())}, messages of the loser {len(texts) - RACES}, won {dict(wins)}")


async def test_release_close_note_and_what_stands_beside(here: Here) -> None:
    await here.receives(update(1, wrote(1)))
    known = await here.only()
    here.changed.clear()
    await here.conversing.take(company(), known.id, ANNA)
    await here.conversing.note(company(), known.id, ANNA, " calls back at 5 ")
    assert (await here.conversing.release(company(), known.id, ANNA, "queue")).owner == "queue"
    closed = await here.conversing.close(company(), known.id, ANNA)
    assert (closed.state, closed.owner, closed.waiting_since, closed.unread) == ("closed", "none", None, 0)
    beside = await here.db.tenant(JUNE, conversations.select_happenings, JUNE, known.id)
    assert [(one.kind, one.author, one.text) for one in beside] == [
        ("taken", ANNA, ""), ("note", ANNA, "calls back at 5"), ("released", ANNA, "queue"), ("closed", ANNA, ""),
    ]  # fmt: skip
    assert len(here.changed) == 4
    await here.receives(update(2, wrote(2, "again")))
    assert ((await here.only()).state, (await here.only()).id) == ("open", known.id)
    for text in ("", " ", "x" * 5001):
        with pytest.raises(Invalid, match="text"):
            await here.conversing.note(company(), known.id, ANNA, text)
    with pytest.raises(Invalid, match="user"):
        await here.conversing.assign(company(), known.id, ANNA, uuid4())


async def test_a_person_who_takes_it_while_updates_arrive_loses_nothing(here: Here) -> None:
    await here.receives(update(0, wrote(0)))
    known = await here.only()
    await here.receives(*(update(number, wrote(number, at=number)) for number in range(1, 80)), wait=False)

    async def answers() -> None:
        for number in range(20):
            await here.send(known.id, f"answer {number}")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(here.folds)
        nursery.start_soon(answers)
    said = await here.said(known.id)
    assert [one.seq for one in said] == list(range(1, 101))
    assert [one.text for one in said if one.direction == "out"] == [f"answer {number}" for number in range(20)]
    assert (await here.only()).owner == ANNA


# Persons ---------------------------------------------------------------------------------------------------------------


async def _people(here: Here, q: str = "") -> Sequence[contacts.Contact]:
    return await here.db.tenant(JUNE, contacts.search_contacts, JUNE, q, 100)


async def test_a_number_that_a_messenger_confirms_makes_one_person_and_a_typed_one_does_not(here: Here) -> None:
    typed = await here.db.tenant(JUNE, contacts.insert_contact, JUNE, "Anna from the card index", ["+375296254070"], [])
    await here.receives(
        update(1, wrote(1, address="7", person={"name": "Anna T"}), happened("PhoneShared", "7", phone="+375296254070"))
    )
    assert len(await _people(here)) == 2
    other = IntegrationKey("pigeon:w")
    await here.receives(
        update(1, wrote(1, address="375296254070", person={"name": "Anna W", "phone": "+375296254070"})), key=other
    )
    people = await _people(here)
    assert len(people) == 2
    assert typed in {one.id for one in people}
    (both,) = [one for one in people if one.id != typed]
    found = await here.db.tenant(JUNE, conversations.select_conversations_of_contact, JUNE, both.id)
    assert {one.conversation.integration for one in found} == {"pigeon", "pigeon:w"}


async def test_a_merge_that_is_undone_stays_undone(here: Here) -> None:
    await here.receives(update(1, wrote(1, address="1", person={"name": "A", "phone": "+375296254070"})))
    await here.receives(update(2, wrote(2, address="2", person={"name": "B"})))
    await here.receives(update(3, happened("PhoneShared", "2", phone="+375296254070")))
    (one,) = await _people(here)
    assert (one.name, one.merges) == ("A", 1)
    assert await here.db.tenant(JUNE, contact_merges.unmerge, JUNE, one.id) is not None
    assert len(await _people(here)) == 2
    await here.receives(update(4, wrote(4, address="2", person={"name": "B", "phone": "+375296254070"})))
    assert len(await _people(here)) == 2
    assert await here.db.tenant(JUNE, contact_merges.unmerge, JUNE, one.id) is None


async def test_merging_by_hand_in_chains_and_back(here: Here) -> None:
    tenant = here.db.tenant
    a, b, c = [
        await tenant(JUNE, contacts.insert_contact, JUNE, name, [phone], [])
        for name, phone in (("A", "+1"), ("B", "+2"), ("C", "+3"))
    ]
    assert await tenant(JUNE, contact_merges.merge_contacts, JUNE, b, c, "anna") is not None
    assert await tenant(JUNE, contact_merges.merge_contacts, JUNE, a, b, "anna") is not None
    assert await tenant(JUNE, contact_merges.merge_contacts, JUNE, a, c, "anna") is None
    (one,) = await _people(here)
    assert {phone.phone for phone in one.phones} == {"+1", "+2", "+3"}
    assert await tenant(JUNE, contact_merges.unmerge, JUNE, a) == b
    assert {person.name: len(person.phones) for person in await _people(here)} == {"A": 1, "B": 2}


async def test_lists_are_narrowed_and_searched(here: Here) -> None:
    await here.receives(
        update(1, wrote(1, "about red tulips", address="1", person={"name": "Анна"})),
        update(2, wrote(2, "100% sure_thing", address="2", at=10, person={"name": "Boris", "phone": "+375296254070"})),
        update(3, wrote(3, "third", address="3", at=20)),
    )
    first = next(one.conversation for one in await here.seen() if one.conversation.address == "1")
    here.now = NOON + timedelta(minutes=1)
    await here.send(first.id, "we have them")

    async def found(**given: Any) -> set[str]:
        return {one.conversation.address for one in await here.seen(Filters(**given))}

    assert await found(q="TULIPS") == {"1"}
    assert await found(q="анна") == {"1"}
    assert await found(q="+37529625") == {"2"}
    assert await found(q="%") == {"2"}
    assert await found(q="sure_thing") == {"2"}
    assert await found(owner=ANNA) == {"1"}
    assert await found(owner="human") == {"1"}
    assert await found(waiting=True) == {"2", "3"}
    assert await found(unread=False) == {"1"}
    assert await found(channel="pigeon") == {"1", "2", "3"}
    assert await found(channel="pig") == set()
    assert await found(only="human:other") == {"2", "3"}
    (newest, *_) = await here.seen()
    assert newest.conversation.address == "1"
    waiting, since = await here.db.tenant(JUNE, conversations.count_waiting, JUNE)
    assert (waiting, since is not None) == (2, True)
