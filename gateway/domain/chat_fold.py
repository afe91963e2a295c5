"""Applies what messengers send to conversations: a book of the rows that a batch touches, and the changes it makes. Pure.

    events in the order of their receipt --> Book.apply --> changes: contacts, conversations, messages, statuses, happenings

Repeats change nothing: an event about a message that is known by the messenger's id is an echo or a second delivery. An answer that
we did not send takes the conversation from the AI. Read `gateway/store/chat_batches.py` for how a book is read and written.
Over 400 lines, for each kind of event has its method.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, TypeAlias
from uuid import UUID

from gateway.domain.chats import (
    CLIENT,
    ELSEWHERE,
    LONGEST_TEXT,
    MOST_FILES,
    OWNER_AI,
    OWNER_NONE,
    OWNER_QUEUE,
    RANKS,
    WHEN_RECEIVED,
    AddressChanged,
    ChatEvent,
    ClientWrote,
    ContactGiven,
    Conversation,
    Happening,
    MessageDeleted,
    MessageEdited,
    NewMessage,
    Opened,
    Person,
    PersonRequested,
    PhoneShared,
    ReachChanged,
    RemoteFile,
    StatusReached,
    WroteElsewhere,
    is_human,
    short_name,
    short_token,
)
from gateway.domain.ids import IntegrationKey

ECHO_WAITS = timedelta(seconds=15)
"""How long an echo or a report that may be about a message on its way waits for the answer to that one."""
Place: TypeAlias = tuple[IntegrationKey, str]
"""Integration and address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A piece of a message that the messenger knows, or will."""

    message: UUID
    part: int
    conversation: UUID
    out: bool
    status: str = "sent"
    provider_id: str = ""
    digest: str = ""
    """Of an outgoing part's content (`content_digest`): an echo is recognised by it before we know the id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewFile:
    """A file that came with a message."""

    id: UUID
    message: UUID
    place: int
    file: RemoteFile


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusChange:
    """A part has reached a status."""

    message: UUID
    part: int
    status: str
    at: datetime
    error: str = ""
    provider_id: str = ""


@dataclass(slots=True)
class Changes:
    """What a batch makes, to be committed at once."""

    contacts: dict[UUID, str] = field(default_factory=dict)
    """New contacts -> their names."""
    names: dict[UUID, str] = field(default_factory=dict)
    """Names for contacts that have none."""
    phones: list[tuple[UUID, str]] = field(default_factory=list)
    """Contact and a number that the messenger confirmed."""
    typed_phones: list[tuple[UUID, str]] = field(default_factory=list)
    """Contact and a number that nobody confirmed."""
    emails: list[tuple[UUID, str]] = field(default_factory=list)
    merges: list[tuple[UUID, UUID]] = field(default_factory=list)
    """Into which contact, and which: the messenger confirmed that they are one person."""
    new_conversations: set[UUID] = field(default_factory=set)
    conversations: dict[UUID, Conversation] = field(default_factory=dict)
    """The last state of those that changed."""
    messages: list[NewMessage] = field(default_factory=list)
    parts: list[tuple[IntegrationKey, str, Part, datetime]] = field(default_factory=list)
    files: list[NewFile] = field(default_factory=list)
    statuses: list[StatusChange] = field(default_factory=list)
    up_to: list[tuple[UUID, str, datetime]] = field(default_factory=list)
    """Conversation, status, time: every earlier message of ours there has reached it."""
    moves: list[tuple[IntegrationKey, str, str]] = field(default_factory=list)
    """Integration, address, and the address that its messages are at from now on."""
    happenings: list[Happening] = field(default_factory=list)

    @property
    def touched(self) -> set[UUID]:
        """The conversations that look different now."""
        found = set(self.conversations) | {message.conversation for message in self.messages}
        return found | {one.conversation for one in self.happenings} | {one[0] for one in self.up_to}


def content_digest(text: str, kind: str = "") -> str:
    """By what an outgoing part and its echo are compared. Echoes do not tell a voice message from other sound."""
    kind = "audio" if kind == "voice" else kind
    return hashlib.sha256(f"{kind}\0{' '.join(text.split())}".encode("utf-8", "replace")).hexdigest()[:32]


class Book:
    """The rows that events of one tenant can touch, and the changes so far."""

    def __init__(self, default_owner: Callable[[IntegrationKey], str], new_id: Callable[[], UUID]) -> None:
        self.conversations: dict[Place, Conversation] = {}
        self.known: dict[tuple[IntegrationKey, str, str], Part] = {}
        """By the messenger's id."""
        self.tokens: dict[tuple[IntegrationKey, str], Part] = {}
        """By our own token."""
        self.unconfirmed: dict[Place, list[Part]] = {}
        """Parts of ours whose id at the messenger is not known, oldest first."""
        self.people: dict[str, UUID] = {}
        """The person who has a number, confirmed by a messenger."""
        self.confirmed: set[tuple[UUID, str]] = set()
        """Contacts and numbers that are known to be theirs."""
        self.changes = Changes()
        self.changed_parts: dict[UUID, UUID] = {}
        """Message -> conversation of what only changed its status."""
        self._default_owner = default_owner
        self._new_id = new_id

    def apply(self, key: IntegrationKey, event: ChatEvent, received_at: datetime, now: datetime) -> bool:
        """Applies one event. False where it has to wait: it may be about a message that is on its way."""
        if event.at == WHEN_RECEIVED:
            event = replace(event, at=received_at)
        match event:
            case ClientWrote():
                self._client_wrote(key, event)
            case WroteElsewhere():
                return self._wrote_elsewhere(key, event, received_at, now)
            case StatusReached():
                return self._status_reached(key, event, received_at, now)
            case MessageEdited():
                self._beside(key, event, "edited", event.text[:LONGEST_TEXT], by_client=event.by_client)
            case MessageDeleted():
                self._beside(key, event, "deleted", "", by_client=event.by_client)
            case PhoneShared():
                self._phone_shared(key, event)
            case Opened():
                conversation = self._conversation(key, event.address, event.at, event.person)
                self._happens(conversation, "opened", CLIENT, event.at, event.payload)
            case ReachChanged():
                self._reach_changed(key, event)
            case AddressChanged():
                self._address_changed(key, event)
            case PersonRequested():
                self._person_requested(key, event)
            case ContactGiven():
                self._contact_given(key, event)
        return True

    # What the client does.

    def _client_wrote(self, key: IntegrationKey, event: ClientWrote) -> None:
        if (key, event.address, event.provider_id) in self.known:
            return
        conversation = self._conversation(key, event.address, event.at, event.person)
        default, closed = self._default_owner(key), conversation.state == "closed"
        # Nobody's since before the AI was switched on; or the AI's, and it was switched off.
        if closed or conversation.owner == OWNER_NONE or (conversation.owner == OWNER_AI and default == OWNER_NONE):
            conversation = self._owned(conversation, default)
        if closed:
            self._happens(conversation, "reopened", CLIENT, event.at)
        conversation = replace(
            conversation, state="open", unread=conversation.unread + 1, client_wrote_at=event.at, blocked_at=None,
            waiting_since=conversation.waiting_since or event.at,
        )  # fmt: skip
        self._store(key, conversation, event, "in", CLIENT)

    def _phone_shared(self, key: IntegrationKey, event: PhoneShared) -> None:
        conversation = self._conversation(key, event.address, event.at, Person(name=event.name))
        self._confirm(conversation.contact, event.phone)
        self._happens(conversation, "phone", CLIENT, event.at, event.phone)

    def _reach_changed(self, key: IntegrationKey, event: ReachChanged) -> None:
        conversation = self.conversations.get((key, event.address))
        if conversation is None or (conversation.blocked_at is not None) == event.blocked:
            return
        self._put(replace(conversation, blocked_at=event.at if event.blocked else None))
        self._happens(conversation, "blocked" if event.blocked else "unblocked", CLIENT, event.at)

    def _address_changed(self, key: IntegrationKey, event: AddressChanged) -> None:
        conversation = self.conversations.get((key, event.address))
        if event.old_phone and (contact := self.people.get(event.old_phone)) is not None:
            self._confirm(contact, event.phone)  # also where the conversation is at an address that is no number
        if conversation is None or (key, event.new_address) in self.conversations:
            return  # whoever is at the new address already is a person of their own until the messenger says more
        del self.conversations[key, event.address]
        self._put(replace(conversation, address=event.new_address))
        self.changes.moves.append((key, event.address, event.new_address))
        for owner, address, named in [place for place in self.known if place[:2] == (key, event.address)]:
            self.known[owner, event.new_address, named] = self.known.pop((owner, address, named))
        self.unconfirmed[key, event.new_address] = self.unconfirmed.pop((key, event.address), [])
        if event.phone:
            self._confirm(conversation.contact, event.phone)
        self._happens(conversation, "moved", CLIENT, event.at, event.new_address)

    def _person_requested(self, key: IntegrationKey, event: PersonRequested) -> None:
        conversation = self._conversation(key, event.address, event.at, Person())
        if is_human(conversation.owner) and conversation.state == "open":
            return  # a person has it already
        conversation = self._owned(conversation, OWNER_QUEUE)
        self._put(replace(conversation, state="open", waiting_since=conversation.waiting_since or event.at))
        self._happens(conversation, "person_requested", CLIENT, event.at)

    def _contact_given(self, key: IntegrationKey, event: ContactGiven) -> None:
        conversation = self._conversation(key, event.address, event.at, Person(name=event.name))
        if event.email:
            self.changes.emails.append((conversation.contact, event.email))
        if event.phone:
            self.changes.typed_phones.append((conversation.contact, event.phone))

    def _beside(
        self, key: IntegrationKey, event: MessageEdited | MessageDeleted, kind: str, text: str, *, by_client: bool
    ) -> None:  # fmt: skip
        part = self.known.get((key, event.address, event.provider_id))
        conversation = self.conversations.get((key, event.address))
        if part is not None and conversation is not None:
            author = CLIENT if by_client else ELSEWHERE
            self._happens(conversation, kind, author, event.at, text, part.message)

    # What we do, as the messenger sees it.

    def _wrote_elsewhere(
        self, key: IntegrationKey, event: WroteElsewhere, received_at: datetime, now: datetime
    ) -> bool:
        if (key, event.address, event.provider_id) in self.known:
            return True
        kind = event.files[0].kind if event.files else ""
        waiting = self.unconfirmed.get((key, event.address), [])
        ours = self.tokens.get((key, event.token)) if event.token else None
        if event.short_token:
            ours = ours or next((part for part in waiting if self._short(key, part) == event.short_token), None)
            waiting = []  # the messenger names what it repeats: whatever else this is, it is not what we sent
        digest = content_digest(event.text, kind)
        ours = ours or next((part for part in waiting if part.digest == digest), None)
        if ours is not None:
            self._confirm_part(key, event.address, ours, event.provider_id, "sent", event.at)
            return True
        if any(part.status == "queued" for part in waiting) and now - received_at < ECHO_WAITS:
            return False
        conversation = self._conversation(key, event.address, event.at, Person())
        if conversation.owner == OWNER_AI:
            conversation = self._owned(conversation, OWNER_QUEUE)
        conversation = replace(conversation, state="open", unread=0, waiting_since=None)
        self._store(key, conversation, event, "out", ELSEWHERE)
        return True

    def _short(self, key: IntegrationKey, part: Part) -> int:
        """The short token of a part of ours, 0 where it has none."""
        same = (token for (owner, token), known in self.tokens.items() if owner == key and (known.message, known.part) == (part.message, part.part))  # fmt: skip
        return next(map(short_token, same), 0)

    def _status_reached(self, key: IntegrationKey, event: StatusReached, received_at: datetime, now: datetime) -> bool:
        """A report may be quicker than the answer that names the message."""
        part = self.known.get((key, event.address, event.provider_id)) if event.provider_id else None
        part = part or (self.tokens.get((key, event.token)) if event.token else None)
        waiting = self.unconfirmed.get((key, event.address), [])
        fresh = now - received_at < ECHO_WAITS
        if part is None and event.provider_id and fresh and any(one.status == "queued" for one in waiting):
            return False
        if part is not None and part.out:
            self._confirm_part(key, event.address, part, event.provider_id, event.status, event.at, event.error)
        conversation = self.conversations.get((key, event.address))
        if event.up_to and conversation is not None:
            self.changes.up_to.append((conversation.id, event.status, event.at))
        return True

    def _confirm_part(
        self, key: IntegrationKey, address: str, part: Part, provider_id: str, status: str, at: datetime, error: str = ""
    ) -> None:  # fmt: skip
        named = provider_id or part.provider_id
        if named == part.provider_id and RANKS[status] <= RANKS[part.status] and part.status != "unknown":
            return
        if RANKS[status] < RANKS[part.status]:
            status = part.status
        self.changes.statuses.append(
            StatusChange(
                message=part.message, part=part.part, status=status, at=at, error=error,
                provider_id=named if named != part.provider_id else "",
            )
        )  # fmt: skip
        changed = replace(part, status=status, provider_id=named)
        self.known[key, address, named] = changed
        for token, known in self.tokens.items():
            if (known.message, known.part) == (part.message, part.part):
                self.tokens[token] = changed
        place = (key, address)
        self.unconfirmed[place] = [
            one for one in self.unconfirmed.get(place, []) if (one.message, one.part) != (part.message, part.part)
        ]
        self.changed_parts[part.message] = part.conversation

    # Rows.

    def _conversation(self, key: IntegrationKey, address: str, at: datetime, person: Person) -> Conversation:
        known = self.conversations.get((key, address))
        if known is None:
            contact = self.people.get(person.phone) if person.phone else None
            if contact is None:
                contact = self._new_id()
                self.changes.contacts[contact] = short_name(person.name) or short_name(person.username)
            known = Conversation(
                id=self._new_id(), integration=key, address=address, contact=contact, owner=self._default_owner(key),
                name=short_name(person.name), username=short_name(person.username), language=person.language[:16],
            )  # fmt: skip
            self.changes.new_conversations.add(known.id)
            self._put(known)
            if person.phone:
                self._confirm(contact, person.phone)
            return known
        named = replace(
            known, name=short_name(person.name) or known.name, username=short_name(person.username) or known.username,
            language=person.language[:16] or known.language,
        )  # fmt: skip
        if named != known:
            self._put(named)
        if person.name and not known.name:
            self.changes.names[known.contact] = short_name(person.name)
        if person.phone:
            self._confirm(known.contact, person.phone)
        return named

    def _confirm(self, contact: UUID, phone: str) -> None:
        """A messenger says that a number is a contact's. Whoever has the number already is the same person; said again, it undoes
        nothing that people have decided since."""
        if (contact, phone) in self.confirmed:
            return
        self.confirmed.add((contact, phone))
        self.changes.phones.append((contact, phone))
        known = self.people.setdefault(phone, contact)
        if known != contact:
            self.changes.merges.append((known, contact))

    def _owned(self, conversation: Conversation, owner: str) -> Conversation:
        if conversation.owner == owner:
            return conversation
        return replace(conversation, owner=owner, epoch=conversation.epoch + 1)

    def _put(self, conversation: Conversation) -> None:
        self.conversations[conversation.integration, conversation.address] = conversation
        self.changes.conversations[conversation.id] = conversation

    def _store(
        self, key: IntegrationKey, conversation: Conversation, event: ClientWrote | WroteElsewhere, direction: Any, author: str
    ) -> None:  # fmt: skip
        answered = self.known.get((key, event.address, event.reply_to)) if event.reply_to else None
        message = NewMessage(
            id=self._new_id(), conversation=conversation.id, seq=conversation.last_seq + 1, direction=direction,
            author=author, text=event.text[:LONGEST_TEXT], at=event.at,
            reply_to=answered.message if answered is not None else None, status="sent" if direction == "out" else None,
        )  # fmt: skip
        part = Part(
            message=message.id, part=0, conversation=conversation.id, out=direction == "out", provider_id=event.provider_id
        )  # fmt: skip
        self.changes.messages.append(message)
        self.changes.parts.append((key, event.address, part, event.at))
        self.known[key, event.address, event.provider_id] = part
        self.changes.files += [
            NewFile(id=self._new_id(), message=message.id, place=place, file=file)
            for place, file in enumerate(event.files[:MOST_FILES])
        ]
        last = max(filter(None, (conversation.last_message_at, event.at)))
        self._put(replace(conversation, last_seq=message.seq, last_message_at=last))

    def _happens(
        self, conversation: Conversation, kind: str, author: str, at: datetime, text: str = "", message: UUID | None = None
    ) -> None:  # fmt: skip
        self.changes.happenings.append(
            Happening(conversation=conversation.id, kind=kind, author=author, at=at, text=text, message=message)
        )
