"""Every function of the store that works for a company, called as A, and the tenant conditions of its statements.

Found from the modules of `gateway.store`: whatever takes a connection and a tenant (or something that holds one). Arguments are
made by name and type from ids of A's or of B's rows; a parameter that nothing fits fails by name until `ARGUMENTS` has it. What
a function answers and changes must be the same as in a database in which B does not exist, and B's rows must stay as they are:
this is tried as the engine, which row-level security lets see everything, so that each statement's own condition is what holds.
A little longer than most, for each argument whose type does not say enough has a line.
"""

import dataclasses
import importlib
import inspect
import pkgutil
import re
import types
import typing
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Literal, NewType, get_args, get_origin
from uuid import UUID, uuid4

import asyncpg
from asyncpg.pool import PoolConnectionProxy

import gateway.store
from gateway.domain.bookings import Span
from gateway.domain.calls import apply
from gateway.domain.catalog import Item
from gateway.domain.chat_fold import Book, content_digest
from gateway.domain.chats import OWNER_NONE, ChatEvent, ClientWrote, Person, StatusReached, WroteElsewhere
from gateway.domain.dialling import Rules
from gateway.domain.events import CallRinging, Direction
from gateway.domain.ids import IntegrationKey, Kind, TenantId
from gateway.domain.notices import Due, Notice
from gateway.domain.orders import Line, Order
from gateway.domain.people import PeopleRefused, Role
from gateway.domain.profile import Profile
from gateway.domain.subjects import Subject
from gateway.store import conversations, delivery_pages
from gateway.store.audit import AuditFilter
from gateway.store.call_batches import CallBatch, EventRow, ExpectedRow
from gateway.store.changes import Horizon
from gateway.store.chat_batches import Received
from gateway.store.deal_pages import RunFilter
from gateway.store.integration_jobs import WantedJob
from gateway.store.orders import OrderFilter
from gateway.store.outbox import DeliveryRow
from gateway.store.postgres.pool import OwnConnection
from gateway.store.postgres.roles import ENGINE
from gateway.store.tenants import INTEGRATIONS, PBXES, LinkTable
from tests.walls.rows import NOW, Companies, Company, Context, Ids, Rows, Stage, changed, rows_of

Function = Callable[..., Awaitable[Any]]


@dataclass(frozen=True)
class Variant:
    """Another way to call a function: what differs in its arguments, and a statement that the owner runs before."""

    given: Mapping[str, Callable[["Call"], Any]] = field(default_factory=dict)
    prepare: Callable[["Call"], str] | None = None


PLAIN = Variant()


@dataclass(frozen=True)
class Call:
    """A function with whose ids it is called."""

    name: str
    function: Function
    company: Company
    ids: Ids
    odd: Ids
    """The set of the same rows whose recording is being fetched."""
    other: Context
    """The first set of B's rows, whoever calls with whose."""
    table: LinkTable = INTEGRATIONS
    variant: Variant = PLAIN


def _others_call(c: Call) -> str:
    """What B's call of a tool is called, and was given."""
    return Context(c.other.company, c.other.ids, "ai_tool_calls").text


ARGUMENTS: Mapping[str, Callable[[Call], Any]] = {
    "call_id": lambda c: c.ids.call_id,
    "call_ids": lambda c: [c.ids.call_id],
    "calls": lambda c: [c.ids.call_id],
    "ids": lambda c: [c.ids.call_id],
    "leave_deliveries.ids": lambda c: [c.ids.row],
    "note_deliveries.ids": lambda c: [c.ids.row],
    "user_id": lambda c: c.ids.name("user"),
    "number": lambda c: c.ids.phone,
    "email": lambda c: c.ids.email,
    "order_id": lambda c: c.ids.name("order"),
    "flash_id": lambda c: c.ids.name("flash"),
    "address": lambda c: c.ids.name("address"),
    "pbx": lambda c: c.ids.pbx,
    "integration": lambda c: c.ids.key,
    "key": lambda c: c.ids.key,
    "kind": lambda c: c.ids.key,
    "select_module_session.kind": lambda c: c.ids.kind,
    "DeliveryRow.key": lambda c: c.ids.name("new-key"),
    "DeliveryRow.kind": lambda c: "call",
    "Claim.key": lambda c: c.ids.name("key"),
    "Claim.kind": lambda c: "call",
    "scope": lambda c: c.ids.key,
    "integration_type": lambda c: c.ids.key,
    "select_token.name": lambda c: c.ids.name("token"),
    "begin_exchange.name": lambda c: c.ids.name("token"),
    "finish_exchange.name": lambda c: c.ids.name("token"),
    "abandon_exchange.name": lambda c: c.ids.name("token"),
    "upsert_token.name": lambda c: c.ids.name("token"),
    "drop_previous.name": lambda c: c.ids.name("token"),
    "begin_exchange.version": lambda c: 2,
    "finish_exchange.version": lambda c: 2,
    "drop_previous.version": lambda c: 2,
    "abandon_exchange.holder": lambda c: "holder",
    "upsert_external_id.name": lambda c: c.ids.name("made"),
    "insert_external_ids.ids": lambda c: {c.ids.name("another"): "7"},
    "hasten_job.name": lambda c: c.ids.name("job"),
    "JobClaim.name": lambda c: c.ids.name("job"),
    "WantedJob.name": lambda c: c.ids.name("job"),
    "names": lambda c: [f"{c.ids.kind}/{c.ids.name('job')}"],
    "lock_link.name": lambda c: c.ids.key if c.table is INTEGRATIONS else c.ids.pbx,
    "delete_link.name": lambda c: c.ids.key if c.table is INTEGRATIONS else c.ids.pbx,
    "set_link_enabled.name": lambda c: c.ids.key if c.table is INTEGRATIONS else c.ids.pbx,
    "LinkRow.name": lambda c: c.ids.key if c.table is INTEGRATIONS else c.ids.pbx,
    "LinkRow.kind": lambda c: c.ids.kind if c.table is INTEGRATIONS else "asterisk",
    "LinkRow.settings": lambda c: {},
    "LinkRow.secrets": lambda c: {},
    "client_id_hash": lambda c: "0" * 64,
    "enabled": lambda c: False,
    "which": lambda c: str(c.ids.recording),
    "KeyOwner.kind": lambda c: "person",
    "KeyOwner.name": lambda c: c.ids.email,
    "key_hash": lambda c: c.ids.hash_of("new key"),
    "token_hash": lambda c: c.ids.token_hash,
    "session_hash": lambda c: c.ids.token_hash,
    "transaction_hash": lambda c: c.ids.hash_of("new transaction"),
    "digest": lambda c: c.ids.hash_of("digest"),
    "letter_id": lambda c: c.ids.row,
    "delivery_id": lambda c: c.ids.row,
    "journal_id": lambda c: c.ids.row,
    "lane": lambda c: c.ids.call_id,
    "unique_id": lambda c: c.ids.call_id,
    "epoch": lambda c: 1,
    "pair": lambda c: (c.ids.key, c.ids.key),
    "route": lambda c: c.ids.name("route"),
    "search_runs.wanted": lambda c: RunFilter(),
    "replay_runs.wanted": lambda c: RunFilter(),
    "select_target.source": lambda c: c.ids.key,
    "select_target.target": lambda c: c.ids.key,
    "select_target.deal": lambda c: c.ids.row,
    "select_last_domain.source": lambda c: c.ids.key,
    "select_links.deals": lambda c: [c.ids.row],
    "select_led_back.deals": lambda c: [c.ids.row],
    "select_parties.kind": lambda c: "contact",
    "select_parties.ids": lambda c: [c.ids.row],
    "upsert_parties.kind": lambda c: "contact",
    "upsert_parties.ids": lambda c: {c.ids.row: 5},
    "upsert_links.ids": lambda c: {c.ids.row: 5},
    "adopt_links.found": lambda c: [(c.ids.key, c.ids.key, 77, 7)],
    "wake_runs.pairs": lambda c: [(c.ids.key, c.ids.key)] if c.ids.stage is Stage.OPEN else [],
    "Run.run_id": lambda c: c.ids.row,
    "Run.attempt": lambda c: 1,
    "RunOutcome.state": lambda c: "success",
    "finish_runs.digests": lambda c: {c.ids.row: {"route": "digest"}},
    "store_runs.done": lambda c: [(c.ids.row, NOW)],
    "set_tenant_secret.sealed": lambda c: "sealed",
    "claim_deliveries.epoch": lambda c: None,
    "CallBatch.epoch": lambda c: None,
    "fill_recording.epoch": lambda c: None,
    "record_updates.epoch": lambda c: 1,
    "version": lambda c: 2,
    "insert_dead_letters.version": lambda c: "1.0",
    "registration": lambda c: 1,
    "idle_s": lambda c: 1e8,
    "absolute_s": lambda c: 1e8,
    "younger_than_s": lambda c: 1e9,
    "every_s": lambda c: -1e6,
    "again_s": lambda c: 1.0,
    "latest_only": lambda c: True,
    "state": lambda c: "refused",
    "Outcome.state": lambda c: "done",
    "end_registration.state": lambda c: "inactive",
    "touch_map.state": lambda c: "active",
    "status": lambda c: "away",
    "mark_status_sent.status": lambda c: "dinner",
    "language": lambda c: "ru",
    "csrf": lambda c: "c" * 43,
    "timezone": lambda c: "Europe/Minsk",
    "country": lambda c: "BY",
    "since": lambda c: NOW - timedelta(days=1),
    "as_of": lambda c: NOW + timedelta(days=1),
    "now": lambda c: NOW,
    "after": lambda c: 0,
    "search_calls.after": lambda c: None,
    "subject": lambda c: Subject("call", c.ids.call_id),
    "body": lambda c: '{"event": "x"}',
    "data_key": lambda c: c.company.wrapped_key,
    "TenantRow.phones": lambda c: (),
    "TenantRow.pbxes": lambda c: (),
    "TenantRow.integrations": lambda c: (),
    "TenantRow.options": lambda c: {},
    "TenantRow.token_hash": lambda c: c.ids.hash_of("token"),
    "stream": lambda c: "calls",
    "wanted": lambda c: [(c.company.number, 0)],
    "record_and_claim.wanted": lambda c: [(c.company.number, c.ids.key, "")],
    "store_wanted_jobs.wanted": lambda c: [_built(c, "WantedJob", WantedJob)],
    "of": lambda c: c.table,
    "book": lambda c: Book(lambda key: OWNER_NONE, uuid4),
    "updates": lambda c: [
        _update(c, ClientWrote(address=c.ids.name("address"), at=NOW, provider_id="new", text="new"))
    ],
    "fold_updates.now": lambda c: NOW + timedelta(days=1),
    "select_by_phone.phones": lambda c: [c.ids.phone],
    "select_by_phones.phones": lambda c: [c.ids.phone],
    "select_contacts_by_phone.phone": lambda c: c.ids.phone,
    "select_client_calls.numbers": lambda c: [c.ids.name("caller")],
    "merge_contacts.other": lambda c: c.odd.recording,
    "addresses": lambda c: [c.ids.name("address")],
    "rules": lambda c: Rules(per_user_day=1),
    "batch": lambda c: [_batch(c)],
    "extensions": lambda c: {c.ids.name("another"): c.ids.phone},
    "in_hand": lambda c: [],
    "empty_buckets": lambda c: [],
    "while_off": lambda c: [],
    "objects": lambda c: [(c.company.number, c.ids.name("object"))],
    "BlobRow.object": lambda c: c.ids.name("object"),
    "NewOrder.number": lambda c: c.ids.phone,
    "NewOrder.extension": lambda c: c.ids.phone,
    "NewOrder.order_id": lambda c: c.ids.name("new-order"),
    "Join.call_id": lambda c: c.ids.name("sent"),
    "Join.known_as": lambda c: c.odd.call_id,
    "new_id": lambda c: c.odd.recording,
    "sought": lambda c: delivery_pages.Filters(),
    "tenants": lambda c: [c.company.number],
    "only": lambda c: [c.ids.phone],
    "find_calls.only": lambda c: None,
    "search_contacts.only": lambda c: None,
    "count_waiting.only": lambda c: None,
    "count_open.only": lambda c: None,
    "select_by_phones.only": lambda c: None,
    "find_calls.text": lambda c: c.ids.call_id,
    "select_prompt_named.name": lambda c: c.ids.name("prompt"),
    "select_tenants.only": lambda c: [c.company.number],
    "end_sessions.only": lambda c: c.ids.token_hash,
    "Filters.only": lambda c: None,
    "Filters.number": lambda c: "",
    "select_api_keys.after": lambda c: None,
    "select_audit.wanted": lambda c: AuditFilter(),
    "key_id": lambda c: str(c.ids.recording),
    "uses": lambda c: [(c.company.number, str(c.ids.recording), NOW + timedelta(minutes=1))],
    "select_member.user_id": lambda c: c.ids.recording,
    "change_member.user_id": lambda c: c.ids.recording,
    "change_member.name": lambda c: "another name",
    "remove_member.user_id": lambda c: c.ids.recording,
    "role": lambda c: Role.AUDITOR,
    "describe_user.phones": lambda c: [c.ids.phone],
    "add_member.email": lambda c: c.ids.name("new") + "@walls.example",
    "select_call_changes.seen": lambda c: Horizon("1:1:", NOW - timedelta(days=1), 0),
    "select_call_changes.until": lambda c: Horizon("1000000:1000000:", NOW + timedelta(days=1), 1_000_000_000),
    "select_call_changes.after": lambda c: None,
    "select_order_changes.seen": lambda c: Horizon("1:1:", NOW - timedelta(days=1), 0),
    "select_order_changes.until": lambda c: Horizon("1000000:1000000:", NOW + timedelta(days=1), 1_000_000_000),
    "select_order_changes.after": lambda c: None,
    "select_conversation_changes.seen": lambda c: Horizon("1:1:", NOW - timedelta(days=1), 0),
    "select_conversation_changes.until": lambda c: Horizon("1000000:1000000:", NOW + timedelta(days=1), 1_000_000_000),
    "select_conversation_changes.after": lambda c: None,
    "select_orders.wanted": lambda c: OrderFilter(),
    "select_order.only": lambda c: None,
    "count_orders.only": lambda c: None,
    "insert_order.made": lambda c: _order(c, UUID(int=7), 7),
    "update_order.changed": lambda c: _order(c, c.ids.recording, 8),
    "update_order.lines": lambda c: True,
    "find_items.texts": lambda c: [c.ids.name("item"), c.other.text],
    "select_items_by_id.ids": lambda c: [c.ids.name("item")],
    "Span.start": lambda c: NOW - timedelta(hours=1),
    "Span.end": lambda c: NOW + timedelta(hours=2),
    "places": lambda c: [1],
    "insert_slots.span": lambda c: Span(NOW + timedelta(hours=5), NOW + timedelta(hours=6)),
    "insert_slots.hold_min": lambda c: 5,
    "find_contact.phones": lambda c: [Context(c.company, c.ids, "").text, c.other.text],
    "find_contact.emails": lambda c: [],
    "request_hash": lambda c: c.ids.hash_of("request"),
    "zone": lambda c: "Europe/Minsk",
    "Trouble.key": lambda c: c.ids.name("trouble"),
    "Trouble.kind": lambda c: "pbx",
    "found": lambda c: Due(over=(_notice(c),), still=()),
    "Message.subject": lambda c: "subject",
    "Mail.subject": lambda c: "subject",
    "Mail.mail_id": lambda c: c.ids.row,
    "hashes": lambda c: {c.company.number: "hash"},
    "store_factor.sealed": lambda c: {c.company.number: "sealed anew"},
    "code_hash": lambda c: c.ids.hash_of("code"),
    "demanded": lambda c: True,
    "delete_rows.table": lambda c: "mails",
    "delete_rows.batch": lambda c: 5,
    "worker": lambda c: Context(c.company, c.ids, "tenant_deletions").text,
    "carry_session.old": lambda c: c.ids.token_hash,
    "carry_session.tenants": lambda c: [],
    "replace_wrapped.keys": lambda c: [(c.company.number, c.company.wrapped_key, c.company.wrapped_key)],
    "scopes": lambda c: ("call",),
    "endpoints": lambda c: [],
    "Recording.state": lambda c: "stored",
    "content_type": lambda c: "audio/wav",
    "Place": lambda c: None,
    "prompt_id": lambda c: c.ids.name("prompt"),
    "item_id": lambda c: c.ids.name("item"),
    "delete_items.ids": lambda c: [c.ids.name("item")],
    "profile": lambda c: Profile(description="new"),
    "items": lambda c: [Item.model_validate({"id": c.ids.name("item"), "name": "new", "price": 1, "currency": "BYN"})],
    "update_menu_state.counts": lambda c: (1, 2, 3),
    "select_items_after.after": lambda c: None,
    "select_items.order": lambda c: "order",
    "search": lambda c: "",
    "variables": lambda c: (),
    "select_version.version": lambda c: 1,
    "set_active.version": lambda c: 1,
    "before": lambda c: None,
    "keys": lambda c: [c.ids.key],
    "day": lambda c: NOW.date(),
    "days": lambda c: {c.company.number: NOW.date()},
    "select_day_use.since": lambda c: NOW.date() - timedelta(days=3),
    "select_day_use.until": lambda c: NOW.date() + timedelta(days=3),
    "select_day_hand_overs.since": lambda c: NOW.date() - timedelta(days=3),
    "select_day_hand_overs.until": lambda c: NOW.date() + timedelta(days=3),
    "Summary.seq": lambda c: 9,
    "Summary.made_by": lambda c: "model",
    "EndedAnswer.state": lambda c: "sent",
    "HandOverRow.cause": lambda c: "asked",
    "select_same_call.name": lambda c: Context(c.company, c.ids, "ai_tool_calls").text,
    "select_same_call.arguments": lambda c: Context(c.company, c.ids, "ai_tool_calls").text,
    "after_seq": lambda c: 0,
    "search_items.query": lambda c: Context(c.company, c.ids, "catalog_items").text,
    "select_mentioned.texts": lambda c: [c.company.mark, c.other.company.mark],
    "select_waiting.only": lambda c: [c.ids.recording] if c.name.startswith("ai_work.") else [c.ids.phone],
    "select_unannounced.only": lambda c: [c.ids.recording],
    "templates": lambda c: [],
    "words": lambda c: [c.ids.row],
    "Work.recording_id": lambda c: c.ids.recording,
    "end_work.state": lambda c: "failed",
    "select_transcripts_of_phones.phones": lambda c: [Context(c.company, c.ids, "calls").text, c.ids.name("caller")],
    "erase_transcripts.phones": lambda c: [Context(c.company, c.ids, "calls").text, c.ids.name("caller")],
    "give_up_old.older_than_s": lambda c: -1e6,
}
"""Arguments by `owner.name` or by name alone, where their type does not say enough. `company` is the one who calls."""
VARIANTS: Mapping[str, Sequence[Variant]] = {
    "notices.insert_link_mail": [
        Variant(
            {"recipient": lambda c: "both@example.net", "purpose": lambda c: "reset"},
            lambda c: "UPDATE mails SET recipient = 'both@example.net', link_purpose = 'reset'",
        )
    ],
    "call_transcripts.release_work": [Variant(prepare=lambda c: "UPDATE call_transcripts SET lease_until = now()")],
    "ai_work.select_waiting": [
        Variant({"only": lambda c: None}, lambda c: "UPDATE conversations SET owner = 'ai', state = 'open'"),
        Variant(
            prepare=lambda c: (
                "UPDATE conversations SET owner = 'ai', state = 'open'; "
                "UPDATE messages SET direction = 'in', created_at = now()"
            )
        ),
    ],
    "deal_runs.wake_runs": [
        Variant(
            prepare=lambda c: (
                "UPDATE deal_runs SET state = 'waiting', finished_at = NULL, cause = 'bad_settings', due_at = now() + interval '1 hour'"
            )
        )
    ],
    "ai_work.select_unannounced": [
        Variant(
            {"only": lambda c: None},
            lambda c: (
                "UPDATE conversations SET state = 'open', owner = 'queue', epoch = 77; UPDATE conversation_happenings SET kind = 'person_requested'"
            ),
        ),
    ],
    "ai_answers.select_same_call": [
        Variant({"conversation": lambda c: c.other.ids.recording, "name": _others_call, "arguments": _others_call})
    ],
    "ai_hand_overs.select_overdue": [
        Variant(
            prepare=lambda c: (
                "UPDATE conversations SET state = 'open', owner = 'queue', epoch = 1; UPDATE ai_hand_overs SET epoch = 1"
            )
        )
    ],
    "chat_batches.fold_updates": [
        # What only B's twin has: the message, the sender's number, the token, the unconfirmed part; and a message of another direction.
        Variant({"updates": lambda c: [_update(c, _written(c, text_of_b(c)))]}),
        Variant({"updates": lambda c: [_update(c, _written(c, "new"))]}, lambda c: _without_own(c, "conversations")),
        Variant(
            {"updates": lambda c: [_update(c, _written(c, "new", c.ids.phone))]},
            lambda c: _without_own(c, "contact_phones"),
        ),
        Variant(
            {"updates": lambda c: [_update(c, _elsewhere(c, token=c.ids.name("key")))]},
            lambda c: _without_own(c, "message_parts"),
        ),
        Variant(
            {"updates": lambda c: [_update(c, _elsewhere(c))]},
            lambda c: (
                f"{_without_own(c, 'message_parts')}; "
                f"UPDATE message_parts SET provider_id = NULL, digest = '{content_digest('elsewhere')}'"
            ),
        ),
        Variant(
            {"updates": lambda c: [_update(c, _delivered(c))]},
            lambda c: (
                f"UPDATE messages SET direction = 'in', seq = seq + 1 WHERE tenant_id = '{c.other.company.number}'"
            ),
        ),
    ],
    "client_names.select_unnamed": [Variant(prepare=lambda c: _unnamed())],
    "client_names.name_client": [
        Variant(prepare=lambda c: f"{_unnamed()}; UPDATE contacts SET name = ''"),
        Variant(prepare=lambda c: f"{_unnamed()}; UPDATE contacts SET name = ''; {_without_own(c, 'conversations')}"),
    ],
    "chat_files.count_unsent": [
        Variant(prepare=lambda c: "UPDATE chat_files SET message_id = NULL, created_by = 'some text'")
    ],
    "chat_files.delete_unnamed_of": [
        Variant(prepare=lambda c: "DELETE FROM recordings; DELETE FROM chat_files"),
        Variant(prepare=lambda c: f"{_without_own(c, 'recordings')}; DELETE FROM chat_files"),
        Variant(prepare=lambda c: f"DELETE FROM recordings; {_without_own(c, 'chat_files')}"),
    ],
    "contacts.update_contact": [
        Variant(
            {"phones": lambda c: ["+10000000000"], "emails": lambda c: ["new@walls.example"]}, lambda c: _merged_in_b(c)
        ),
        Variant({"phones": lambda c: [c.odd.phone]}, lambda c: _merged_in_b(c)),
        Variant({"phones": lambda c: [c.ids.phone]}, lambda c: _without_own(c, "contact_phones")),
    ],
    "messages.select_by_client_id": [
        Variant({"client_id": lambda c: f"text {c.company.mark} {c.ids.tag}"}),
        Variant({"client_id": lambda c: text_of_b(c)}),
    ],
    "messages.select_files": [Variant(prepare=lambda c: "UPDATE chat_files SET message_id = NULL")],
    "messages.retry_message": [
        Variant(prepare=lambda c: "UPDATE message_parts SET status = 'failed'"),
        Variant(
            prepare=lambda c: f"UPDATE message_parts SET status = 'failed' WHERE tenant_id = '{c.other.company.number}'"
        ),
    ],
    "messages.queue_lost_parts": [
        Variant(prepare=lambda c: "UPDATE message_parts SET status = 'failed'; DELETE FROM deliveries"),
        Variant(prepare=lambda c: f"UPDATE message_parts SET status = 'failed'; {_without_own(c, 'deliveries')}"),
    ],
    "personal_data.erase_person": [
        Variant(prepare=lambda c: _of_the_chat(c)),
        # B's twin of the person has the number of A's caller.
        Variant(
            prepare=lambda c: (
                f"UPDATE contact_phones SET phone = '{Context(c.company, c.ids, 'calls').text}' "
                f"WHERE tenant_id = '{c.other.company.number}' AND contact_id = '{c.ids.recording}'"
            )
        ),
    ],
    "contacts.search_contacts": [
        Variant({"q": lambda c: c.other.company.mark}),
        Variant({"q": lambda c: c.other.company.mark, "texts": lambda c: False}),
    ],
    "conversations.select_conversations": [
        Variant({"filters": lambda c: conversations.Filters(q=c.other.company.mark)}),
        Variant({"filters": lambda c: conversations.Filters(q=c.other.company.mark, texts=False)}),
    ],
    "members.add_member": [Variant({"phones": lambda c: [c.ids.phone]})],
    "members.change_member": [Variant({"phones": lambda c: [c.other.ids.phone]})],
    "notices.note_told": [Variant({"found": lambda c: Due(over=(), still=(_notice(c),))})],
    "contacts.find_contact": [Variant({"phones": lambda c: [], "emails": lambda c: [c.ids.email, c.other.ids.email]})],
    "orders.select_orders": [
        Variant({"wanted": lambda c: OrderFilter(q=c.other.company.mark)}),
        Variant({"wanted": lambda c: OrderFilter(contact=c.ids.recording)}),
        Variant({"wanted": lambda c: OrderFilter(conversation=c.ids.recording)}),
        Variant({"wanted": lambda c: OrderFilter(only="human:nobody")}),
        Variant(
            {"wanted": lambda c: OrderFilter(only="human:nobody")}, lambda c: "UPDATE orders SET conversation_id = NULL"
        ),
    ],
    "orders.select_order": [
        Variant({"only": lambda c: "human:nobody"}),
        Variant({"only": lambda c: "human:nobody"}, lambda c: "UPDATE orders SET conversation_id = NULL"),
    ],
    "orders.count_orders": [
        Variant({"only": lambda c: "human:nobody"}),
        Variant({"only": lambda c: "human:nobody"}, lambda c: "UPDATE orders SET conversation_id = NULL"),
    ],
    "secrets.rotation.replace_wrapped": [
        Variant({"keys": lambda c: [(c.company.number, c.other.company.wrapped_key, c.company.wrapped_key)]})
    ],
    "tenant_deletions.finish_deletion": [Variant({"worker": lambda c: c.other.text})],
    "tenant_deletions.release_deletion": [Variant({"worker": lambda c: c.other.text})],
    "tenant_deletions.select_existing": [
        Variant(prepare=lambda c: "DELETE FROM tenant_deletions"),
        Variant(prepare=lambda c: f"DELETE FROM tenant_deletions WHERE tenant_id = '{c.company.number}'"),
    ],
    "users.take_login_link": [
        Variant({"password": lambda c: True}),
        Variant(
            {"password": lambda c: True},
            lambda c: f"DELETE FROM users WHERE tenant_id = '{c.company.number}' AND email = '{c.ids.email}'",
        ),
    ],
}
"""Functions that the one way does not reach all conditions of."""
SKIPPED: Mapping[str, str] = {
    "audit_chain.verify_trail": "reads in a transaction of its own: see tests/store/test_audit_chain.py",
    "tenant_deletions.delete_latecomers": "changes nothing while its company exists: see tests/actors/test_deletion.py",
}
"""Functions that are not called, each with the reason."""

BY_TOKEN = ("users.select_session", "users.carry_session")
"""Functions that find a session by its token, whichever company it is said to be of: whoever has it is in. They are called with
A's own tokens alone."""


def text_of_b(c: Call) -> str:
    """Any text of B's twin of a row."""
    return f"text {c.other.company.mark} {c.ids.tag}"


def _unnamed() -> str:
    return "UPDATE conversations SET name = '', username = '', named_at = NULL"


def _without_own(c: Call, table: str) -> str:
    return f"DELETE FROM {table} WHERE tenant_id = '{c.company.number}'"


def _merged_in_b(c: Call) -> str:
    """What is two persons in A is one in B."""
    return (
        f"UPDATE contacts SET root_id = '{c.ids.recording}' "
        f"WHERE tenant_id = '{c.other.company.number}' AND contact_id = '{c.odd.recording}' "
        f"AND EXISTS (SELECT FROM contacts o WHERE o.tenant_id = contacts.tenant_id AND o.contact_id = '{c.ids.recording}')"
    )


def _of_the_chat(c: Call) -> str:
    """Everything that names the conversation, in both companies."""
    place, subject = c.ids.name("address"), f"subject_kind = 'chat', subject_id = '{c.ids.recording}'"
    return (
        f"UPDATE deliveries SET {subject} WHERE delivery_id = {c.ids.row};"
        f"UPDATE integration_logs SET {subject} WHERE log_id = {c.ids.row};"
        f"UPDATE external_ids SET {subject} WHERE name = '{c.ids.name('made')}';"
        f"UPDATE journal SET address = 'hook/{c.ids.key}', done_at = now(), body = '\"{place}\"' WHERE journal_id = {c.ids.row};"
        f"UPDATE dead_letters SET actor = 'tenant/{c.company.number}/chats', message = '{place}' WHERE letter_id = {c.ids.row}"
    )


def _update(c: Call, event: ChatEvent) -> Received:
    return Received(c.ids.row, NOW, c.ids.key, "update", "{}", (event,))


def _written(c: Call, provider_id: str, phone: str = "") -> ChatEvent:
    who = Person(phone=phone or c.other.ids.phone)
    return ClientWrote(address=c.ids.name("address"), at=NOW, provider_id=provider_id, text="new", person=who)


def _elsewhere(c: Call, token: str = "") -> ChatEvent:
    return WroteElsewhere(address=c.ids.name("address"), at=NOW, provider_id="new", text="elsewhere", token=token)


def _delivered(c: Call) -> ChatEvent:
    own = f"text {c.company.mark} {c.ids.tag}"
    return StatusReached(address=c.ids.name("address"), at=NOW, status="delivered", provider_id=own)


def _notice(c: Call) -> Notice:
    return Notice(c.ids.name("trouble"), "pbx", "title", "detail", NOW, None, None, None)


def _order(c: Call, ident: UUID, number: int) -> Order:
    lines = (Line(c.ids.name("item"), "name", Decimal(1), Decimal(1)),)
    return Order(
        id=ident, number=number, kind="booking", status="new", contact=c.ids.recording, lines=lines, starts_at=NOW, duration_min=60, total=Decimal(1), currency="BYN",
        created_by="ai", created_at=NOW, updated_at=NOW,
    )  # fmt: skip


def _batch(c: Call) -> CallBatch:
    ringing = CallRinging(
        call_id=c.ids.call_id, at=NOW, direction=Direction.INCOMING, caller="1", called="2", trunk=None, extensions=()
    )
    call = apply(None, ringing)
    assert call is not None
    batch = CallBatch(c.company.number)
    batch.calls[c.ids.call_id] = ("main", call)
    batch.events.append(EventRow(c.ids.call_id, 2, "call_ringing", NOW, "{}"))
    batch.deliveries.append(_built(c, "DeliveryRow", DeliveryRow))
    batch.expected.append(_built(c, "ExpectedRow", ExpectedRow))
    batch.posts_done.append((c.ids.row, NOW))
    return batch


def functions() -> dict[str, Function]:
    """Those that work for a company, by `module.name`."""
    found: dict[str, Function] = {}
    for info in pkgutil.walk_packages(gateway.store.__path__, "gateway.store."):
        if info.name.startswith("gateway.store.postgres."):
            continue  # connections, roles and migrations: no statement of a company's
        module = importlib.import_module(info.name)
        for name, function in vars(module).items():
            if inspect.iscoroutinefunction(function) and function.__module__ == info.name and not name.startswith("_"):
                hints = typing.get_type_hints(function)
                if hints.get(next(iter(inspect.signature(function).parameters), "")) is not PoolConnectionProxy:
                    continue
                if any(_holds_tenant(hint) for key, hint in hints.items() if key != "return"):
                    found[f"{info.name.removeprefix('gateway.store.')}.{name}"] = function
    return found


def _holds_tenant(hint: Any) -> bool:
    if hint is TenantId:
        return True
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return any(_holds_tenant(one) for one in typing.get_type_hints(hint).values())
    return any(_holds_tenant(one) for one in get_args(hint))


class Unknown(Exception):
    """A parameter for which there is no argument."""


def _built(c: Call, owner: str, cls: type) -> Any:
    if cls is Subject:
        return Subject("call", c.ids.call_id)
    hints = typing.get_type_hints(cls)
    fields = [f for f in dataclasses.fields(cls) if f.init]
    return cls(**{
        f.name: argument(c, owner, f.name, hints[f.name]) for f in fields
        if f"{owner}.{f.name}" in ARGUMENTS or f.name in ARGUMENTS
        or (f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING)
    })  # fmt: skip


def argument(c: Call, owner: str, name: str, hint: Any) -> Any:
    """A value for a parameter. Raises Unknown."""
    if f"{owner}.{name}" in ARGUMENTS:
        return ARGUMENTS[f"{owner}.{name}"](c)
    if hint is TenantId or (TenantId in get_args(hint) and type(None) in get_args(hint)):
        return c.company.number
    if name in ARGUMENTS:
        return ARGUMENTS[name](c)
    origin, inner = get_origin(hint), get_args(hint)
    if type(None) in inner:
        return None
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return _built(c, hint.__name__, hint)
    if origin in (list, tuple, Sequence) or (origin is not None and origin is getattr(typing, "Collection", None)):
        return [argument(c, owner, name, inner[0])]
    if isinstance(origin, type) and issubclass(origin, typing.Collection) and not issubclass(origin, Mapping):
        return [argument(c, owner, name, inner[0])]
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {}
    simple: dict[Any, Any] = {
        IntegrationKey: c.ids.key, Kind: c.ids.kind, UUID: c.ids.recording, Subject: Subject("call", c.ids.call_id),
        str: "some text", int: 100, float: 30.0, bool: False, bytes: c.ids.hash_of(name), datetime: NOW,
    }  # fmt: skip
    if isinstance(hint, NewType):
        return simple.get(hint, simple.get(hint.__supertype__))
    if hint in simple:
        return simple[hint]
    if origin is Literal:
        return inner[0]
    if isinstance(hint, type) and issubclass(hint, Enum):
        return next(iter(hint))
    if origin is types.UnionType:
        return argument(c, owner, name, inner[0])
    raise Unknown(f"{owner}({name}: {hint})")


def arguments(c: Call) -> dict[str, Any]:
    """All that a function wants but its connection."""
    hints = typing.get_type_hints(c.function)
    own = c.name.rpartition(".")[2]
    _, *rest = inspect.signature(c.function).parameters.values()
    given = {name: make(c) for name, make in c.variant.given.items()}
    return given | {
        one.name: argument(c, own, one.name, hints[one.name])
        for one in rest
        if one.name not in given
        if f"{own}.{one.name}" in ARGUMENTS or one.name in ARGUMENTS or one.default is inspect.Parameter.empty
    }


# Statements ------------------------------------------------------------------------------------------------------------

CONDITION = re.compile(
    r"(?:coalesce\((?:\w+\.)?tenant_id, ''\)|\b(?:\w+\.)?tenant_id)\s*(?:=\s*ANY\s*\((?P<many>\$\d+(?:::text\[\])?)\)|"
    r"=\s*(?P<other>\$\d+(?:::text)?|\w+\.tenant_id))"
)
"""What keeps a statement to one company, or joins rows of the same one."""


def conditions(sql: str) -> list[re.Match[str]]:
    """Every tenant condition of a statement."""
    return [found for found in CONDITION.finditer(sql) if "excluded." not in found[0]]


def without(sql: str, places: Collection[int]) -> str:
    """The statement with some of its conditions always true. Their parameters stay, so that their types are known."""
    for place in sorted(places, reverse=True):
        found = conditions(sql)[place]
        if found["many"]:
            true = f"(cardinality({found['many'].partition('::')[0]}::text[]) >= 0)"
        elif (other := found["other"]) and other.startswith("$"):
            true = f"({other.partition('::')[0]}::text IS NOT NULL OR true)"
        else:
            true = "true"
        sql = sql[: found.start()] + true + sql[found.end() :]
    return sql


Mutated = tuple[str, Collection[int]]
"""A statement, and which of its conditions are left out."""


class Watched:
    """A connection that notes each statement, and leaves conditions out of one of them."""

    def __init__(self, conn: OwnConnection, seen: dict[str, None], mutated: Mutated | None = None) -> None:
        self._conn, self._seen, self._mutated = conn, seen, mutated

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._conn, name)
        if name not in ("fetch", "fetchrow", "fetchval", "execute", "executemany"):
            return real

        def run(sql: str, *args: Any, **kwargs: Any) -> Any:
            self._seen[sql] = None
            if self._mutated is not None and sql == self._mutated[0]:
                sql = without(sql, self._mutated[1])
            return real(sql, *args, **kwargs)

        return run


_MOMENT = re.compile(
    r"datetime\.datetime\([^()]*(?:\([^()]*\))?[^()]*\)|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?\+\d\d|\b\d+\.\d{3,}(?:e-?\d+)?\b"
)


_UUID = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
_SNAPSHOT = re.compile(r"snapshot='[\d:,]+'")
_CHAINED = re.compile(r"\\+x[0-9a-f]{64}\b")


@dataclass(frozen=True)
class Outcome:
    """What a function answered, what of A's rows it has made, and which tables of B it changed."""

    answer: str
    own: Rows
    foreign: tuple[str, ...]
    refused: str | None = None

    @property
    def seen(self) -> tuple[str, Rows, str | None]:
        """What must be as in a database without B."""
        return self.answer, self.own, self.refused


SEQUENCES = "SELECT sequencename FROM pg_sequences WHERE schemaname = 'public'"


async def try_call(
    conn: OwnConnection, call: Call, of: Companies, before: Rows,
    seen: dict[str, None], mutated: Mutated | None = None,
) -> Outcome:  # fmt: skip
    """Calls a function as the engine, in a transaction that is rolled back."""
    transaction = conn.transaction()
    await transaction.start()
    answer, refused = "", None
    try:
        for (sequence,) in await conn.fetch(SEQUENCES):
            await conn.execute(f"SELECT setval('{sequence}', 4000000000)")
        await conn.execute("UPDATE shards SET epoch = 1, expires_at = now() + interval '1 day'")
        if not call.name.startswith("tenant_deletions."):
            await conn.execute("DELETE FROM tenant_deletions")  # a company that is being deleted exists for nobody
            before = {table: rows for table, rows in before.items() if table != "tenant_deletions"}
        if call.variant.prepare is not None:
            await conn.execute(call.variant.prepare(call))
            before = await rows_of(conn, of.b.number)
        await conn.execute(f"SET LOCAL ROLE {ENGINE}")
        try:
            async with conn.transaction():
                answer = repr(await call.function(Watched(conn, seen, mutated), **arguments(call)))
        except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            refused = getattr(error, "sqlstate", None) or type(error).__name__
        except PeopleRefused as error:
            refused = f"rule {error.code}"
        await conn.execute("RESET ROLE")
        own = await rows_of(conn, of.a.number)
        after = await rows_of(conn, of.b.number)
    finally:
        await transaction.rollback()
    known = {str(ids.recording) for ids in (*of.of_a, *of.of_b)}

    def lasting(text: str, table: str = "") -> str:
        """Without what no two calls share: moments, fresh ids, and hashes over these."""
        text = _SNAPSHOT.sub("SNAPSHOT", text)
        text = _UUID.sub(lambda found: found[0] if found[0] in known else "ID", _MOMENT.sub("T", text))
        return _CHAINED.sub("HASH", text) if table in ("audit", "audit_chains") else text

    rows = {table: sorted(lasting(text, table) for text in texts) for table, texts in own.items()}
    return Outcome(lasting(answer), rows, tuple(changed(before, after)), refused)


def calls_of(of: Companies, name: str, function: Function) -> list[Call]:
    """A function called as A: with the ids of its own rows, which B's twins have too, and with those of B's; and once as a company
    that has nothing at all."""
    if name in SKIPPED:
        return []
    tables = (INTEGRATIONS, PBXES) if "of" in inspect.signature(function).parameters else (INTEGRATIONS,)
    other = Context(of.b, of.of_b[0], "tenant_deletions")

    def call(company: Company, whose: Sequence[Ids], ids: Ids, table: LinkTable, variant: Variant) -> Call:
        odd = next(one for one in whose if one.stage is Stage.ODD)
        return Call(name, function, company, ids, odd, other, table, variant)

    found = [
        call(of.a, whose, ids, table, variant)
        for variant in (PLAIN, *VARIANTS.get(name, ()))
        for whose in ((of.of_a,) if name in BY_TOKEN else (of.of_a, of.of_b))
        for ids in whose
        for table in tables
    ]
    return found if name in BY_TOKEN else [*found, call(of.nobody, of.of_a, of.of_a[0], INTEGRATIONS, PLAIN)]
