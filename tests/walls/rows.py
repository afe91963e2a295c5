"""Two companies with a row in every table that has a tenant: A, who tries, and B, whose rows nobody else may see or change.

Found from the catalogue: a table that somebody adds is filled too, by the types of its columns, and one that cannot be filled
fails by name until `SAMPLES` has a value for it. Every text of a company's rows holds its mark, which no address, form or
answer of the other may contain; ids are unguessable too, and are what A sends. B also has *twins* of A's rows, with the same
ids: a statement that forgets its tenant finds those. Over 400 lines: a table of samples belongs in one place.
"""

import base64
import hashlib
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import cached_property
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from gateway.domain.api_keys import new_key
from gateway.domain.events import CallRinging, Direction, to_json
from gateway.domain.ids import CallId, IntegrationKey, Kind, TenantId
from gateway.domain.secret import Secret
from gateway.domain.transcripts import WORDS_PURPOSE, hashed
from gateway.store.postgres.pool import OwnConnection
from gateway.store.secrets.seal import DataKey, MasterKeys, Sealer, new_data_key

TABLES = """
    SELECT c.relname FROM pg_class c
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
    ORDER BY c.relname
"""
"""Every table of companies, without the parts of those that are in partitions."""
COLUMNS = """
    SELECT a.attname, format_type(a.atttypid, NULL) FROM pg_attribute a
    WHERE a.attrelid = $1::text::regclass AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
    ORDER BY a.attnum
"""
REFERENCES = """
    SELECT conrelid::regclass::text, confrelid::regclass::text FROM pg_constraint
    WHERE contype = 'f' AND connamespace = 'public'::regnamespace AND conrelid <> confrelid
"""


Rows = Mapping[str, Sequence[str]]
"""Rows as text, by table."""


@dataclass(frozen=True)
class Company:
    """One of the two. `mark` stands in every text of its rows and is never sent by anybody."""

    number: TenantId
    mark: str
    country: str
    master: MasterKeys
    data_key: DataKey = field(repr=False, default_factory=new_data_key)
    options: str = "{}"

    @cached_property
    def wrapped_key(self) -> str:
        """The data key as it is stored."""
        return self.master.wrap(self.number, self.data_key)

    @cached_property
    def sealer(self) -> Sealer:
        """Seals what is this company's."""
        return self.master.sealer(self.number, self.wrapped_key)

    @cached_property
    def made_once(self) -> dict[tuple[str, ...], str]:
        """Sealed values and keys, so that both databases of a test have the same."""
        return {}


def new_company(master: MasterKeys, country: str, options: str = "{}") -> Company:
    """A company whose number and mark nobody can guess."""
    number, mark = TenantId(f"n{secrets.token_hex(6)}"), f"mark{secrets.token_hex(8)}"
    return Company(number, mark, country, master, options=options)


class Stage(Enum):
    """In which state the things of one set of rows are."""

    CLOSED = "calls have ended, deliveries have failed, recordings are stored"
    OPEN = "calls ring, deliveries and posts wait, recordings are stored for no known call"
    ODD = "calls were merged, recordings are being fetched"
    GONE = "registrations are deleted, recordings have failed"


@dataclass(frozen=True)
class Ids:
    """The ids of one set of rows, all from one random tag. Sets differ in how far things are: see `Stage`."""

    kind: Kind
    stage: Stage
    tag: str = field(default_factory=lambda: secrets.token_hex(5))
    recording: UUID = field(default_factory=uuid4)
    secret: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    """The random part of the tokens of this set: session, one-time link."""

    @property
    def key(self) -> IntegrationKey:
        """The integration."""
        return IntegrationKey(f"{self.kind}:{self.tag}")

    @property
    def call_id(self) -> CallId:
        """The call; by it also the order that placed it."""
        return CallId(f"call-{self.tag}")

    @property
    def pbx(self) -> str:
        """The PBX."""
        return f"pbx-{self.tag}"

    @property
    def row(self) -> int:
        """What numbers rows: of the journal, the outbox, logs and letters."""
        return 1_000_000_000 + int(self.tag[:7], 16)

    @property
    def phone(self) -> str:
        """The internal number."""
        return f"7{int(self.tag, 16) % 10**7:07}"

    @property
    def email(self) -> str:
        """The person."""
        return f"person-{self.tag}@walls.example"

    def name(self, what: str) -> str:
        """Any other id."""
        return f"{what}-{self.tag}"

    def hash_of(self, what: str) -> bytes:
        """A hash by which something is found that only one company can have."""
        return hashlib.sha256(f"{what} {self.secret}".encode()).digest()

    @property
    def token_hash(self) -> bytes:
        """The hash of `secret`."""
        return hashlib.sha256(self.secret.encode()).digest()

    def shown(self) -> tuple[str, ...]:
        """What would betray this set of rows in an answer."""
        return (self.tag, str(self.recording), self.phone, str(self.row), self.secret)


@dataclass(frozen=True)
class Context:
    """What a value is made from."""

    company: Company
    ids: Ids
    table: str
    twin: bool = False

    @property
    def open(self) -> bool:
        """Whether things are under way."""
        return self.ids.stage is Stage.OPEN

    @property
    def text(self) -> str:
        """Any text of this set of the company's rows."""
        return f"text {self.company.mark} {self.ids.tag}"

    def sealed(self, table: str, column: str, row: str, text: str) -> str:
        """A secret as it is stored."""
        done, place = self.company.made_once, (table, column, row, text)
        if place not in done:
            done[place] = self.company.sealer.seal(Secret(text), table=table, column=column, row=row)
        return done[place]

    def own_hash(self, what: str) -> bytes:
        """A hash that no two companies may share, so that a twin has its own."""
        return self.ids.hash_of(f"{what} {self.company.mark}" if self.twin else what)


NOW = datetime.now(UTC).replace(microsecond=0)


def _settings(c: Context) -> str:
    if c.table == "pbxes":
        return json.dumps(
            {"host": "192.0.2.10", "username": f"user-{c.company.mark}", "trunks": [f"trunk-{c.ids.tag}"]}
        )
    if c.ids.kind == "retailcrm":
        return json.dumps({"domain": f"https://{c.company.mark}.crm.example"})
    return json.dumps(HOOKED.get(c.ids.kind, {}))


HOOKED: Mapping[str, Mapping[str, Any]] = {
    "bitrix24": {"callback_extension": "150"},
    "iiko": {"organization_id": "7bc05553-4b68-44e8-b7bc-37be63c6d9e9"},
    "instagram": {"page_id": "17841400008460056"},
    "syrve": {"organization_id": "7bc05553-4b68-44e8-b7bc-37be63c6d9e9"},
    "telegram": {"notify_chats": [-100], "chat": True, "updates": "webhook"},
    "viber": {"sender_name": "June"},
    "vk": {"group_id": "1", "updates": "callback"},
    "whatsapp": {"phone_number_id": "106540352242922"},
}
"""The settings of outside systems that call an address of ours: an integration of each takes webhooks in the set of the stage OPEN."""


SECRETS: Mapping[str, Callable[[Context], Mapping[str, str]]] = {
    "pbxes": lambda c: {"secret": f"secret {c.company.mark}"},
    "retailcrm": lambda c: {"api_key": f"key-{c.company.mark}", "client_id": client_id(c)},
    "telegram": lambda c: {"bot_token": f"700100200:{c.company.mark}{'x' * 20}", "hook_id": hook_id(c)},
    "bitrix24": lambda c: {
        "webhook_url": f"https://{c.company.mark}.crm.example/rest/1/secret-{c.company.mark}/",
        "application_token": f"auth-{c.company.mark}",
        "hook_id": hook_id(c),
    },
    "salesforce": lambda c: {"client_secret": f"secret-{c.company.mark}", "hook_id": hook_id(c)},
    "hubspot": lambda c: {"api_key": f"pat-{c.company.mark}", "client_secret": f"secret-{c.company.mark}"},
    "iiko": lambda c: _of_till(c),
    "syrve": lambda c: _of_till(c),
    "viber": lambda c: {"auth_token": f"auth-{c.company.mark}", "hook_id": hook_id(c)},
    "whatsapp": lambda c: _of_meta(c),
    "instagram": lambda c: _of_meta(c),
    "vk": lambda c: {
        "access_token": f"access-{c.company.mark}",
        "secret": f"secret-{c.company.mark}"[:50],
        "hook_id": hook_id(c),
    },
}
"""The secrets of a PBX and of an integration of each kind, in plain text."""


def _of_till(c: Context) -> Mapping[str, str]:
    """Of either name of the restaurant cloud."""
    return {
        "api_login": f"login-{c.company.mark}", "webhook_token": f"token-{c.company.mark}-{'x' * 20}", "hook_id": hook_id(c),
    }  # fmt: skip


def _of_meta(c: Context) -> Mapping[str, str]:
    """Of either of Meta's messengers."""
    return {
        "access_token": f"access-{c.company.mark}", "app_secret": f"secret-{c.company.mark}",
        "webhook_verify_token": f"verify-{c.company.mark}", "hook_id": hook_id(c),
    }  # fmt: skip


def client_id(c: Context) -> str:
    """The id that a CRM sends with its requests. No two integrations share one."""
    return f"client-{c.company.mark}-{c.ids.tag}"


def hook_id(c: Context) -> str:
    """The id in the address of a webhook."""
    return f"hook-{c.company.mark}-{c.ids.tag}-0123456789"


def message(company: Company) -> str:
    """The text of messages, which an auditor does not read."""
    return f"message {company.mark}"


FILE_KEY = base64.b64encode(bytes(32)).decode()
"""Of recordings of which there is no file."""


def event_token(company: Company) -> str:
    """What Asterisk hosts of a company send."""
    return f"token-of-{company.mark}-0123456789"


def secrets_of(company: Company, sets: Sequence[Ids]) -> tuple[str, ...]:
    """What opens something of a company's, as it would stand in a page."""
    begin = tuple(
        f"{word}-{company.mark}" for word in ("key", "client", "hook", "token-of", "auth", "access", "secret", "verify")
    )
    keys = tuple(api_key(Context(company, ids, "")) for ids in sets)
    return (f"secret {company.mark}", f"700100200:{company.mark}", *begin, *keys)


def api_key(c: Context) -> str:
    """An API key in plain text."""
    made, place = c.company.made_once, ("api key", c.ids.tag, str(c.twin))
    if place not in made:
        made[place] = new_key().reveal()
    return made[place]


def _secrets(c: Context) -> str:
    table = "pbxes" if c.table == "pbxes" else "integrations"
    row = c.ids.pbx if c.table == "pbxes" else c.ids.key
    make = SECRETS.get(c.table if c.table == "pbxes" else c.ids.kind)
    plain = make(c) if make is not None else {}
    return json.dumps({name: c.sealed(table, name, row, text) for name, text in plain.items()})


def _event(c: Context) -> str:
    event = CallRinging(
        call_id=c.ids.call_id, at=NOW, direction=Direction.INCOMING, caller=c.text, called="100", trunk=None,
        extensions=(c.ids.phone,),
    )  # fmt: skip
    return json.dumps(to_json(event))


def _reached(c: Context) -> bool:
    """Of the client whose missed call waits in A: what B's twin of it is."""
    return c.twin and c.ids.stage is Stage.GONE


def _sha(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _session_hash(c: Context) -> bytes:
    """A session is found by its token alone, with every membership it has: a twin's would let A's person into B."""
    return _sha(f"twin {c.ids.secret}") if c.twin else c.ids.token_hash


ROLES: Mapping[Stage, str] = {Stage.CLOSED: "admin", Stage.OPEN: "agent", Stage.GONE: "auditor"}
"""What the person of each set is; the company's only admin is one. That of the set without a line has a module's session."""
NO_ROW: Mapping[str, Callable[["Context"], bool]] = {
    "missed_calls_done": lambda c: (
        c.ids.stage is Stage.GONE and not c.twin
    ),  # a client who waits, and whose twin does not
}
"""Sets of which a table has no row."""


SPOKEN = '[[0,0.0,1.0,"{}"]]'
"""The text of a call in which one thing was said."""
SPOKEN_WORD = "spoken"
"""Said in each."""
SAMPLES: Mapping[str, Callable[[Context], Any]] = {
    "mails.link_purpose": lambda c: "reset",
    # Of every table that has the column.
    "tenant_id": lambda c: c.company.number,
    "integration_type": lambda c: c.ids.key,
    "call_id": lambda c: c.ids.call_id,
    "subject_id": lambda c: c.ids.call_id,
    "subject_kind": lambda c: "call",
    "lane": lambda c: c.ids.call_id,
    "merged_into": lambda c: c.ids.call_id if c.ids.stage is Stage.ODD else None,
    "unique_id": lambda c: c.ids.call_id,
    "order_id": lambda c: c.ids.name("order"),
    "recording_id": lambda c: c.ids.recording,
    "journal_id": lambda c: c.ids.row,
    "delivery_id": lambda c: c.ids.row,
    "log_id": lambda c: c.ids.row,
    "letter_id": lambda c: c.ids.row,
    "audit_id": lambda c: c.ids.row,
    "user_id": lambda c: c.ids.name("user"),
    "email": lambda c: c.ids.email,
    "pbx": lambda c: c.ids.pbx,
    "source": lambda c: c.ids.pbx,
    "extension": lambda c: c.ids.phone,
    "last_extension": lambda c: c.ids.phone,
    "extensions": lambda c: [c.ids.phone],
    "ringing": lambda c: [c.ids.phone] if c.open else [],
    "rang": lambda c: [c.ids.phone],
    "token_hash": _session_hash,
    "session_hash": _session_hash,
    "flash_id": lambda c: c.ids.name("flash"),
    "settings": _settings,
    "secrets": _secrets,
    "options": lambda c: c.company.options,
    "language": lambda c: "en",
    "timezone": lambda c: "Europe/Minsk",
    "country": lambda c: c.company.country,
    "digest": lambda c: c.ids.hash_of("digest"),
    "address": lambda c: c.ids.name("address"),
    "enabled": lambda c: True,
    "epoch": lambda c: 1,
    "attempt": lambda c: 1,
    "version": lambda c: 2,
    "told_version": lambda c: 1,
    "registration": lambda c: 1,
    "lease_until": lambda c: None,
    "expires_at": lambda c: NOW + timedelta(days=300),
    "keep_until": lambda c: NOW + timedelta(days=300),
    "run_at": lambda c: NOW - timedelta(hours=1),
    "due_at": lambda c: NOW - timedelta(hours=1),
    # Of one table.
    "tenants.token_hash": lambda c: _sha(event_token(c.company)),
    "tenants.data_key": lambda c: c.company.wrapped_key,
    "tenants.name": lambda c: f"Company {c.company.mark}",
    "tenants.secrets": lambda c: json.dumps(
        {"llm.api_key": c.sealed("tenants", "llm.api_key", c.company.number, f"sk-{c.company.mark}")}
    ),
    "phones.number": lambda c: c.ids.phone,
    "pbxes.name": lambda c: c.ids.pbx,
    "pbxes.pbx_type": lambda c: "asterisk",
    "integrations.account_hash": lambda c: c.own_hash(f"integrations {c.ids.kind}"),
    "integrations.client_id_hash": lambda c: _sha(client_id(c)) if c.ids.kind == "retailcrm" else None,
    "integration_tokens.name": lambda c: c.ids.name("token"),
    "integration_tokens.exchange_until": lambda c: None,
    "integration_jobs.name": lambda c: c.ids.name("job"),
    "catalog_items.item_id": lambda c: c.ids.name("item"),
    "catalog_menus.items": lambda c: json.dumps(
        [{"id": c.ids.name("item"), "name": c.text, "price": "5.00", "currency": "BYN"}]
    ),
    "catalog_menus.taken": lambda c: json.dumps([c.ids.name("item")]),
    "catalog_menus.stopped": lambda c: "[]",
    "catalog_items.currency": lambda c: "BYN",
    "prompt_id": lambda c: c.ids.name("prompt"),
    "prompt_templates.is_active": lambda c: c.ids.stage is Stage.CLOSED and not c.twin,
    "prompt_templates.active_version": lambda c: 1 if c.ids.stage is Stage.CLOSED and not c.twin else None,
    "prompt_templates.name": lambda c: c.ids.name("prompt"),
    "prompt_templates.version": lambda c: 1,
    "prompt_templates.variables": lambda c: "[]",
    "prompt_history.version": lambda c: 1,
    "prompt_history.variables": lambda c: "[]",
    "business_profiles.profile": lambda c: json.dumps({"description": c.company.mark}),
    "external_ids.name": lambda c: c.ids.name("made"),
    "flashes.created_at": lambda c: NOW + timedelta(hours=1),  # it lives for minutes, and these tests last longer
    "users.language": lambda c: None,
    "users.user_id": lambda c: c.ids.recording,
    "users.role": lambda c: ROLES.get(c.ids.stage, "agent"),
    "users.phones": lambda c: [c.ids.phone],
    "users.factor": lambda c: "sealed" if c.ids.stage is Stage.ODD else "",
    "users.recovery_codes": lambda c: [c.ids.hash_of("code")],
    "idempotent_requests.request_hash": lambda c: c.ids.hash_of("request"),
    "idempotent_requests.answer": lambda c: None if c.open else c.text,
    "idempotent_requests.busy_until": lambda c: NOW - timedelta(hours=1),
    "users.factor_step": lambda c: 0,
    "sessions.acting_as": lambda c: None,
    "sessions.acting_until": lambda c: None,
    "login_links.purpose": lambda c: "invitation",
    "login_links.used_at": lambda c: None,
    "audit.actor_kind": lambda c: "person",
    "tenant_deletions.stage": lambda c: "requested",
    "tenant_deletions.requested_kind": lambda c: "cli",
    "tenant_deletions.lease_until": lambda c: NOW - timedelta(days=1),
    "notices.key": lambda c: c.ids.name("trouble"),
    "notices.calm_since": lambda c: None,
    "notice_limits.sent": lambda c: [NOW] * (1 if c.company.country == "BY" else 2),
    "mails.mail_id": lambda c: c.ids.row,
    "mails.created_at": lambda c: NOW - timedelta(days=3 if c.ids.stage is Stage.GONE else 0),
    "sessions.scope": lambda c: c.ids.key if c.ids.stage is Stage.ODD else None,
    "sessions.registration": lambda c: 1 if c.ids.stage is Stage.ODD else None,
    "sessions.csrf": lambda c: "c" * 43,
    "api_keys.key_hash": lambda c: _sha(api_key(c)),
    "api_keys.hint": lambda c: api_key(c)[:16],
    "api_keys.scopes": lambda c: ["call"],
    "api_keys.revoked_at": lambda c: None,
    "api_keys.owner_kind": lambda c: "person",
    "api_keys.owner": lambda c: c.ids.email,
    "api_keys.rotated_at": lambda c: None,
    "logins.transaction_hash": lambda c: c.own_hash("transaction"),
    "logins.busy_until": lambda c: None,
    "logins.step": lambda c: "code",
    "journal.stream": lambda c: "calls",
    "journal.address": lambda c: "/dial",
    "journal.done_at": lambda c: None if c.open else NOW,
    "journal.received_at": lambda c: NOW,
    "calls.phase": lambda c: {Stage.OPEN: "ringing", Stage.ODD: "merged"}.get(c.ids.stage, "ended"),
    "calls.direction": lambda c: "incoming",
    "calls.result": lambda c: None if c.open else "answered" if _reached(c) else "missed",
    "calls.started_at": lambda c: NOW + timedelta(minutes=1) if _reached(c) else NOW,
    "calls.caller": lambda c: c.ids.name("caller") if c.ids.stage is Stage.GONE else c.text,
    "calls.hung_up_by": lambda c: None,
    "calls.answered_at": lambda c: None,
    "calls.ended_at": lambda c: None if c.open else NOW,
    "calls.recording": lambda c: None,
    "calls.events": lambda c: 1,
    "call_events.seq": lambda c: 1,
    "call_events.event": lambda c: "call_ringing",
    "call_events.body": _event,
    "deliveries.key": lambda c: c.ids.name("key"),
    "deliveries.state": lambda c: "pending" if c.open else "failed",
    "deliveries.bucket": lambda c: "",
    "deliveries.note": lambda c: "" if c.open else f"odd: {message(c.company)}",
    "deliveries.body": lambda c: json.dumps({"text": message(c.company)}),
    "integration_logs.request_data": lambda c: "POST /send\n" + json.dumps({"text": message(c.company)}),
    "integration_logs.response_data": lambda c: "200 OK\n" + json.dumps({"result": {"text": message(c.company)}}),
    "integration_logs.error_message": lambda c: message(c.company),
    "deliveries.latest_only": lambda c: c.open,
    "deliveries.attempt": lambda c: 0 if c.open else 1,
    "integration_logs.status": lambda c: "failed",
    "dead_letters.version": lambda c: "1.0",
    "dead_letters.actor": lambda c: f"tenant/{c.company.number}/{c.company.mark}",
    "call_orders.state": lambda c: "asked",
    "call_orders.person": lambda c: c.ids.phone,
    "audit.action": lambda c: "pbx.changed" if c.company.country == "BY" else "phone.saved",
    "modules.state": lambda c: "deleted" if c.ids.stage is Stage.GONE else "active",
    "modules.problem": lambda c: "",
    "user_statuses.told": lambda c: False,
    "recordings.state": lambda c: {Stage.ODD: "fetching", Stage.GONE: "failed"}.get(c.ids.stage, "stored"),
    "recordings.url": lambda c: None,
    "recordings.address": lambda c: None if c.ids.stage in (Stage.ODD, Stage.GONE) else c.ids.name("address"),
    "recordings.run_at": lambda c: NOW,
    "recordings.content_type": lambda c: "audio/wav",
    "recordings.loose": lambda c: c.open,
    "recording_blobs.file_key": lambda c: c.sealed("recording_blobs", "file_key", c.ids.name("address"), FILE_KEY),
    "recording_blobs.object": lambda c: c.ids.name("object"),
    "call_transcripts.state": lambda c: "done" if c.open else "waiting",
    "call_transcripts.body": lambda c: c.sealed(
        "call_transcripts", "body", str(c.ids.recording), SPOKEN.format(c.text)
    ),
    "call_transcripts.summary": lambda c: c.sealed("call_transcripts", "summary", str(c.ids.recording), c.text),
    "call_transcripts.words": lambda c: [
        c.ids.row,  # a twin's hashes are by another key
        *hashed([SPOKEN_WORD], c.company.sealer.derive(WORDS_PURPOSE)),
    ],
    "contact_phones.phone": lambda c: c.ids.phone,
    "contact_phones.confirmed": lambda c: True,
    "contact_emails.email": lambda c: c.ids.email,
    "contact_merges.moved": lambda c: [c.ids.recording],
    "contact_merges.undone_at": lambda c: None,
    "conversations.state": lambda c: "closed" if c.ids.stage is Stage.GONE else "open",
    "conversations.owner": lambda c: f"human:{c.ids.recording}",  # each is its own agent's
    "conversations.blocked_at": lambda c: None,
    "messages.direction": lambda c: "out" if c.open else "in",
    "messages.status": lambda c: "queued" if c.open else None,
    "messages.text": lambda c: message(c.company),
    "messages.template": lambda c: json.dumps({"name": message(c.company), "language": "ru", "values": {}}),
    "message_parts.digest": lambda c: "",
    "message_parts.token": lambda c: c.ids.name("key"),
    "message_parts.status": lambda c: "queued" if c.open else "sent",
    "chat_files.kind": lambda c: "file",
    "chat_files.state": lambda c: "expected" if c.open else "stored",
    "chat_files.address": lambda c: None if c.open else c.ids.name("address"),
    "chat_files.content_type": lambda c: "text/plain",
    "chat_files.lease_until": lambda c: None,
    "chat_files.run_at": lambda c: NOW - timedelta(hours=1),
    "conversation_happenings.kind": lambda c: "note",
    "conversation_happenings.text": lambda c: message(c.company),
    "orders.order_id": lambda c: c.ids.recording,
    "orders.number": lambda c: c.ids.row,
    "orders.kind": lambda c: "booking",
    "orders.status": lambda c: {Stage.GONE: "cancelled", Stage.ODD: "done"}.get(c.ids.stage, "new"),
    "orders.currency": lambda c: "BYN",
    "orders.comment": lambda c: message(c.company),
    "orders.delivery": lambda c: json.dumps(message(c.company)),
    "orders.created_by": lambda c: "ai",
    "orders.agreed_at": lambda c: None if c.open else NOW,
    "order_items.order_id": lambda c: c.ids.recording,
    "order_items.catalog_id": lambda c: c.ids.name("item"),
    "booking_places.item_id": lambda c: c.ids.name("item"),
    "booking_places.place_key": lambda c: c.ids.row + (500_000_000 if c.twin else 0),
    "booking_slots.order_id": lambda c: c.ids.recording,
    "booking_slots.place_key": lambda c: c.ids.row + (500_000_000 if c.twin else 0),
    "booking_slots.ends_at": lambda c: NOW + timedelta(hours=1),
    "booking_slots.held_until": lambda c: NOW - timedelta(hours=1) if c.open else None,
    **{
        f"deal_{table}.{end}": lambda c: c.ids.key
        for table in ("runs", "links", "parties")
        for end in ("source", "target")
    },
    **{f"deal_{table}.route": lambda c: c.ids.name("route") for table in ("runs", "comparisons", "differences")},
    "deal_runs.attempt": lambda c: 1,
    "deal_runs.state": lambda c: "waiting" if c.open else "failed",
    "deal_runs.finished_at": lambda c: None if c.open else NOW,
    "deal_runs.due_at": lambda c: NOW - timedelta(hours=1),
    "deal_runs.expires_at": lambda c: NOW + timedelta(hours=1),
    "deal_runs.detail": lambda c: message(c.company),
    "deal_links.digests": lambda c: "{}",
    "deal_parties.kind": lambda c: "contact",
    "deal_comparisons.finished_at": lambda c: None if c.open else NOW,
    "deal_differences.fields": lambda c: json.dumps(
        [{"field": "TITLE", "wanted": message(c.company), "there": message(c.company)}]
    ),
    "ai_answers.state": lambda c: "begun" if c.open else "sent",
    "ai_answers.began_at": lambda c: NOW,
    "ai_tool_calls.refused": lambda c: False,
    "ai_tool_calls.seq": lambda c: 5,
    "ai_tool_calls.outcome": lambda c: message(c.company),
    "ai_summaries.seq": lambda c: 5,
    "ai_summaries.text": lambda c: message(c.company),
    "ai_summaries.made_by": lambda c: "model",
    "ai_hand_overs.cause": lambda c: "asked",
    "ai_hand_overs.summary": lambda c: message(c.company),
    "ai_hand_overs.due_at": lambda c: NOW - timedelta(hours=1),
    "ai_hand_overs.overdue_at": lambda c: None,
    # Everybody of a company sees its saved replies and the names of its people: these do not say whose rows they are.
    "saved_replies.shortcut": lambda c: c.ids.hash_of("shortcut").hex()[:12],
    "saved_replies.text": lambda c: f"saved {c.company.mark}",
    "saved_replies.changed_by": lambda c: f"by {c.company.mark}",
    "users.name": lambda c: f"person {c.company.mark}",
    "message_templates.templates": lambda c: json.dumps(
        [{"name": "name", "language": "ru", "text": message(c.company), "fields": [], "category": ""}]
    ),
    "user_statuses.status": lambda c: "dinner",
    "user_extensions.user_id": lambda c: c.ids.name("twin" if c.twin else "user"),
    "integration_tokens.exchange_by": lambda c: "holder",
    "call_orders.number": lambda c: c.ids.phone,
    "call_orders.asked_at": lambda c: NOW + timedelta(hours=1 if c.ids.stage is Stage.CLOSED else -1),
}
BY_TYPE: Mapping[str, Callable[[Context], Any]] = {
    "text": lambda c: c.text,
    "character varying": lambda c: c.text,
    "text[]": lambda c: [c.text],
    "bytea[]": lambda c: [c.own_hash(c.table)],
    "timestamp with time zone[]": lambda c: [NOW],
    "jsonb": lambda c: json.dumps({"text": c.text}),
    "json": lambda c: json.dumps({"text": c.text}),
    "bytea": lambda c: c.own_hash(c.table),
    "bigint": lambda c: c.ids.row,
    "integer": lambda c: 1,
    "smallint": lambda c: 1,
    "boolean": lambda c: False,
    "double precision": lambda c: 1.0,
    "numeric": lambda c: 1,
    "uuid": lambda c: c.ids.recording,
    "date": lambda c: NOW.date(),
    "timestamp with time zone": lambda c: NOW,
}


OTHER_PART: Mapping[str, Callable[[Context], Any]] = {
    "journal.received_at": lambda c: NOW.replace(year=2001),
    "journal.journal_id": lambda c: c.ids.row + 1,
}
"""What differs in a second row, for tables that are in partitions: each part has its row."""


async def tables_of(conn: OwnConnection) -> list[str]:
    """The tables of companies, each behind those that it refers to."""
    names = [row[0] for row in await conn.fetch(TABLES)]
    needs = {name: set[str]() for name in names}
    for table, other in await conn.fetch(REFERENCES):
        if table in needs and other in needs:
            needs[table].add(other)
    ordered: list[str] = []
    while len(ordered) < len(names):
        ready = [name for name in names if name not in ordered and needs[name] <= set(ordered)]
        assert ready, f"tables refer to each other in a circle: {sorted(set(names) - set(ordered))}"
        ordered += ready
    return ordered


async def fill(conn: OwnConnection, company: Company, ids: Ids, *, twin: bool = False) -> None:
    """One row in every table but those of `NO_ROW`, and an integration of each of `HOOKED`. Raises AssertionError with the name of
    a table for which there is no sample."""
    parted = {name.partition(".")[0] for name in OTHER_PART}
    wanted = [(name, False, ids) for name in await tables_of(conn)] + [(name, True, ids) for name in sorted(parted)]
    if ids.stage is Stage.OPEN:
        wanted += [("integrations", False, replace(ids, kind=Kind(kind))) for kind in HOOKED if kind != ids.kind]
    for table, part, named in wanted:
        c = Context(company, named, table, twin)
        if table in NO_ROW and NO_ROW[table](c):
            continue
        columns, values = [], []
        for name, kind in await conn.fetch(COLUMNS, table):
            make = (
                (OTHER_PART.get(f"{table}.{name}") if part else None)
                or SAMPLES.get(f"{table}.{name}")
                or SAMPLES.get(name)
                or BY_TYPE.get(kind)
            )
            assert make is not None, f"{table}.{name} is of the type {kind}: add a value to SAMPLES in {__name__}"
            columns.append(name)
            values.append(make(c))
        places = ", ".join(f"${n + 1}" for n in range(len(values)))
        try:
            async with conn.transaction():
                await conn.execute(
                    f"INSERT INTO {table} ({', '.join(columns)}) OVERRIDING SYSTEM VALUE VALUES ({places}) "
                    "ON CONFLICT DO NOTHING",
                    *values,
                )
        except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise AssertionError(f"{table} has no sample row: {error}. Add values to SAMPLES in {__name__}") from None


@dataclass(frozen=True)
class Companies:
    """A and B with their rows."""

    a: Company
    b: Company
    of_a: Sequence[Ids]
    of_b: Sequence[Ids]
    nobody: Company
    """A number under which there are no rows."""

    def foreign(self) -> tuple[str, ...]:
        """What would betray B in anything that A is shown."""
        return (self.b.mark, self.b.number, *(text for ids in self.of_b for text in ids.shown()))


def new_companies(master: MasterKeys, options_of_b: str = "{}") -> Companies:
    """Both, without rows yet."""

    def sets() -> tuple[Ids, ...]:
        kinds = {Stage.OPEN: Kind("telegram")}
        return tuple(Ids(kinds.get(stage, Kind("retailcrm")), stage) for stage in Stage)

    a, b = new_company(master, "BY"), new_company(master, "KZ", options_of_b)
    return Companies(a, b, sets(), sets(), new_company(master, "BY"))


async def fill_both(conn: OwnConnection, of: Companies, *, alone: bool = False) -> None:
    """The rows of A, and before them, unless `alone`, those of B with the twins of A's: whatever takes the first row that it
    finds, takes B's. The connection is the owner's."""
    if not alone:
        for ids in of.of_b:
            await fill(conn, of.b, ids)
        for ids in of.of_a:
            await fill(conn, of.b, ids, twin=True)
    for ids in of.of_a:
        await fill(conn, of.a, ids)
    await conn.execute("UPDATE tenant_versions SET version = 2")  # whatever the triggers counted


_ALL_ROWS: list[str] = []
"""The query that reads every row of a company, made once: the schema is the same in every database of the tests."""


async def rows_of(conn: OwnConnection, *numbers: TenantId) -> Rows:
    """Every row of a company as text, by table. The connection is the owner's."""
    if not _ALL_ROWS:
        one = "SELECT '{0}' AS name, tenant_id, x::text FROM {0} x WHERE tenant_id = ANY($1)"
        _ALL_ROWS.append(" UNION ALL ".join(one.format(table) for table in await tables_of(conn)))
    found: dict[str, list[str]] = {}
    for table, _, text in await conn.fetch(_ALL_ROWS[0], list(numbers)):
        found.setdefault(table, []).append(text)
    return {table: sorted(texts) for table, texts in found.items()}


def changed(before: Rows, after: Rows) -> list[str]:
    """The tables in which rows differ."""
    return sorted(table for table in {*before, *after} if before.get(table) != after.get(table))
