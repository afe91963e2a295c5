"""What people and programs do to conversations: answer, take, release, assign, close, note, send again. On any instance.

    lock the conversation --> check epoch, window, files --> one commit: message, parts, deliveries, owner --> wake the delivery actor

Nothing is sent before it is durable; the same `client_id` again answers the same and sends nothing. A person who writes takes the
conversation. Used by `gateway/web/rest/chats.py` and the pages of the inbox.
Over 400 lines: every change of a conversation follows the same lock, check and announcement.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Literal
from uuid import UUID, uuid4

from actors.chats.templates import known_templates
from actors.chats.typing import Typing
from actors.crm.plans import CrmPlans
from actors.feed import Feed
from adapters.base import Adapter, AdapterSettings
from adapters.channel import (
    MESSAGE,
    BadTemplate,
    Capabilities,
    ChatChannel,
    Outgoing,
    OutgoingFile,
    TemplateUse,
    parts_of,
)
from adapters.registry import integrations
from gateway.domain.chat_fold import content_digest
from gateway.domain.chats import (
    LONGEST_TEXT,
    MOST_FILES,
    OWNER_AI,
    OWNER_NONE,
    OWNER_QUEUE,
    Conversation,
    NewMessage,
    human,
    is_human,
)
from gateway.domain.configuration import Tenant
from gateway.domain.ids import IntegrationKey, Kind, TenantId, kind_of
from gateway.domain.posts import Invalid
from gateway.domain.subjects import Subject
from gateway.domain.text import Bilingual
from gateway.store import contacts as contact_rows
from gateway.store import conversations as rows
from gateway.store import members, messages
from gateway.store.message_templates import select_message_template
from gateway.store.messages import NewPart, StoredFile, StoredMessage
from gateway.store.outbox import DeliveryRow, storable
from gateway.store.postgres.errors import Conflict
from gateway.store.postgres.pool import Connection, Database

LONGEST_NOTE = 5000
KEEP_S = 24 * 3600.0
"""How long a message is tried; what is older would surprise the client."""


class NotThere(Exception):
    """There is no such conversation or message, or it is another company's."""


class Passed(Exception):
    """Somebody was quicker: the conversation's epoch is another."""

    def __init__(self, conversation: Conversation) -> None:
        super().__init__("the conversation has another owner meanwhile")
        self.conversation = conversation


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A message that is stored and on its way."""

    message: StoredMessage
    conversation: Conversation
    unread: int = 0
    """Messages of the client that nobody had looked at before."""


@dataclass(frozen=True, kw_only=True)
class Conversing:
    """One for the process."""

    db: Database
    feed: Feed
    wake: Callable[[TenantId, IntegrationKey], None]
    """Tells the delivery actor of an integration that there is something to deliver, wherever it lives."""
    adapters: Callable[[], dict[Kind, Adapter]] = field(default=lambda: dict(integrations()))
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    crm: CrmPlans = field(default_factory=CrmPlans)
    """What CRMs are sent of a conversation."""
    typing: Typing | None = None
    """Who is writing: `wrote` shows it to the client, `until` whether the client does."""
    looked: Callable[[TenantId, UUID], None] = lambda tenant, conversation: None
    """Somebody has seen what the client wrote there: their messenger may show it. Never waits."""

    # What a channel is.

    def channel(self, tenant: Tenant, key: IntegrationKey) -> tuple[ChatChannel, AdapterSettings] | None:
        """The channel of an integration that people can write to, with its settings; None where it is off, or is none."""
        link, adapter = tenant.integrations.get(key), self.adapters().get(kind_of(key))
        if link is None or not link.enabled or adapter is None or adapter.chat is None:
            return None
        try:
            settings = adapter.settings.model_validate(dict(link.settings))
        except ValueError:
            return None
        return (adapter.chat, settings) if adapter.chat.enabled(settings) else None

    def channels(self, tenant: Tenant) -> dict[IntegrationKey, Capabilities]:
        """All of a company, by key."""
        found = ((key, self.channel(tenant, key)) for key in sorted(tenant.integrations))
        return {key: channel[0].capabilities for key, channel in found if channel is not None}

    # Messages.

    async def send(
        self, tenant: Tenant, conversation: UUID, *, author: str, text: str = "", files: Sequence[UUID] = (), client_id: str | None = None,
        reply_to: UUID | None = None, expected_epoch: int | None = None, template: TemplateUse | None = None,
    ) -> Sent:  # fmt: skip
        """Stores a message and its deliveries; a template instead of text and files. A person takes the conversation by it. Raises
        NotThere, Passed, Invalid, Unavailable."""
        text = text.strip() if any(one.isprintable() and not one.isspace() for one in text) else ""
        problems = list[tuple[str, str]]()
        if len(text) > LONGEST_TEXT:
            problems.append(("text", _at_most(LONGEST_TEXT)))
        if template is not None and (text or files):
            problems.append(("template", Bilingual(
                "a template is sent alone, without a text and files", "шаблон отправляется один, без текста и файлов",
            )))  # fmt: skip
        elif not text and not files and template is None:
            problems.append(("text", Bilingual("write a text or attach a file", "напишите текст или приложите файл")))
        if len(files) > MOST_FILES:
            problems.append(("attachments", Bilingual(f"at most {MOST_FILES} files", f"не больше {MOST_FILES} файлов")))
        if problems:
            raise Invalid(tuple(problems))
        sent, woken = await self.db.tenant(
            tenant.number, self._send, tenant, conversation, author, text, list(files), client_id, reply_to, expected_epoch, template
        )  # fmt: skip
        if woken is not None:
            self.changed(tenant.number, conversation, woken)
        if self.typing is not None:
            self.typing.stopped(tenant.number, conversation, author)
        if sent.unread:
            self.looked(tenant.number, conversation)
        return sent

    async def _send(
        self, conn: Connection, tenant: Tenant, conversation: UUID, author: str, text: str, files: Sequence[UUID],
        client_id: str | None, reply_to: UUID | None, expected_epoch: int | None, template: TemplateUse | None,
    ) -> tuple[Sent, IntegrationKey | None]:  # fmt: skip
        number = tenant.number
        known = await rows.lock_conversation(conn, number, conversation)
        if known is None:
            raise NotThere
        if client_id is not None:
            before = await messages.select_by_client_id(conn, number, conversation, client_id)
            if before is not None:
                return Sent(message=before, conversation=known), None
        _check_epoch(known, expected_epoch)
        owner = author if is_human(author) else known.owner
        sent = await self.store(
            conn, tenant, known, author=author, text=text, files=files, client_id=client_id, reply_to=reply_to, owner=owner,
            template=template,
        )  # fmt: skip
        if sent.conversation.owner != known.owner:
            await rows.insert_happening(conn, number, conversation, "taken", author)
        return sent, known.integration

    async def store(
        self, conn: Connection, tenant: Tenant, known: Conversation, *, author: str, text: str, files: Sequence[UUID] = (),
        client_id: str | None = None, reply_to: UUID | None = None, owner: str, answers: bool = True, template: TemplateUse | None = None,
    ) -> Sent:  # fmt: skip
        """Stores a message with its deliveries in a conversation that the caller has locked, in the caller's transaction; `changed`
        announces it once that is committed. It is `owner`'s then; where it `answers` nothing, the client goes on waiting. Raises
        Invalid."""
        number = tenant.number
        channel = self.channel(tenant, known.integration)
        found = await messages.select_files(conn, number, files)
        self._check(known, channel, text, files, found, templated=template is not None)
        assert channel is not None
        if template is not None:
            template, text = await _filled(conn, number, known.integration, template)
        answered = await _answered(conn, number, known.id, reply_to) if reply_to is not None else None
        now = self.now()
        message = NewMessage(
            id=uuid4(), conversation=known.id, seq=known.last_seq + 1, direction="out", author=author, text=text, at=now,
            reply_to=reply_to, status="queued", client_id=client_id, template=template.body() if template is not None else None,
        )  # fmt: skip
        parts = _parts(known, message.id, text, channel[0], found, answered or "", template)
        await messages.insert_message(conn, number, message, known.integration, known.address, parts, files)
        changed = replace(
            owned(known, owner), state="open", unread=0 if answers else known.unread,
            waiting_since=None if answers else known.waiting_since, last_seq=message.seq,
            last_message_at=max(now, known.last_message_at or now),
        )  # fmt: skip
        await rows.update_conversation(conn, number, changed)
        stored = await messages.select_message(conn, number, message.id)
        assert stored is not None
        return Sent(message=stored, conversation=changed, unread=known.unread)

    def _check(
        self, known: Conversation, channel: tuple[ChatChannel, AdapterSettings] | None, text: str, files: Sequence[UUID],
        found: Sequence[StoredFile], *, templated: bool = False,
    ) -> None:  # fmt: skip
        """Raises Invalid where the message cannot be sent like this."""
        problems = list[tuple[str, str]]()
        if channel is None:
            raise Invalid((("channel", Bilingual(
                f"{known.integration} is switched off or not set up: nothing can be sent there",
                f"{known.integration} выключена или не настроена: отправить туда нельзя",
            )),))  # fmt: skip
        can = channel[0].capabilities
        if templated and not can.templates:
            problems.append(("template", Bilingual(
                "this messenger has no templates: write a text", "у этого мессенджера нет шаблонов: напишите текст",
            )))  # fmt: skip
        elif not templated and not can.open_at(known.client_wrote_at, self.now()):
            hours = round((can.window_s or 0) / 3600)
            problems.append(("text", Bilingual(
                f"the messenger takes a free text only within {hours} hours after the client's last message"
                + ("; choose a template" if can.templates else ""),
                f"мессенджер принимает свободный текст только в течение {hours} ч после последнего сообщения клиента"
                + ("; выберите шаблон" if can.templates else ""),
            )))  # fmt: skip
        missing = set(files) - {one.id for one in found}
        if missing:
            problems.append(("attachments", Bilingual(
                "there is no such file, or it was sent already: add it first",
                "такого файла нет, или он уже отправлен: сначала добавьте его",
            )))  # fmt: skip
        for one in found:
            most = can.takes(one.kind)  # type: ignore[arg-type] # the column's check knows the kinds
            if most is None:
                problems.append(("attachments", Bilingual(
                    f"{one.name}: this messenger takes no file of kind {one.kind}",
                    f"{one.name}: этот мессенджер не принимает файлы вида {one.kind}",
                )))  # fmt: skip
            elif (one.size or 0) > most:
                problems.append(("attachments", Bilingual(
                    f"{one.name} is too large: this messenger takes at most {most} bytes",
                    f"{one.name}: файл слишком велик, мессенджер принимает не больше {most} байт",
                )))  # fmt: skip
        if problems:
            raise Invalid(tuple(problems))

    async def start(
        self, tenant: Tenant, key: IntegrationKey, to: str, *, author: str, text: str = "", client_id: str | None = None,
        template: TemplateUse | None = None,
    ) -> Sent:  # fmt: skip
        """Writes first: `to` is an address of the channel, or a contact's id. Raises NotThere, Invalid, Unavailable."""
        channel = self.channel(tenant, key)
        if channel is None:
            raise Invalid((("channel", Bilingual(
                "there is no such channel, or it is switched off", "такого канала нет, или он выключен"
            )),))  # fmt: skip
        if not text.strip() and template is None:
            raise Invalid(
                (("text", Bilingual("write a text or choose a template", "напишите текст или выберите шаблон")),)
            )
        contact = _uuid(to)
        begin = partial(
            self._start, tenant=tenant, key=key, channel=channel[0], to=to, contact=contact, template=template
        )
        try:
            conversation = await self.db.tenant(tenant.number, begin)
        except Conflict:  # the client wrote at this moment: theirs is the conversation
            conversation = await self.db.tenant(tenant.number, begin)
        return await self.send(tenant, conversation, author=author, text=text, client_id=client_id, template=template)

    async def _start(
        self, conn: Connection, tenant: Tenant, key: IntegrationKey, channel: ChatChannel, to: str, contact: UUID | None,
        template: TemplateUse | None,
    ) -> UUID:  # fmt: skip
        number = tenant.number
        if contact is not None:
            for seen in await rows.select_conversations_of_contact(conn, number, contact):
                if seen.conversation.integration == key:
                    return seen.conversation.id
            person = await contact_rows.select_contact(conn, number, contact)
            if person is None:
                raise Invalid((("to", Bilingual("there is no such contact", "такого контакта нет")),))
            address = next((one.phone for one in person.phones if _address(channel, one.phone) is not None), None)
            if address is None or not channel.capabilities.starts:
                raise Invalid((("to", Bilingual(
                    "the contact has no address in this channel: they have to write first",
                    "у контакта нет адреса в этом канале: клиент должен написать первым",
                )),))  # fmt: skip
            to, contact = address, person.id
        address = _address(channel, to)
        if address is None:
            raise Invalid((("to", Bilingual("is no address of this channel", "не является адресом этого канала")),))
        known = await rows.lock_address(conn, number, key, address)
        if known is not None:
            return known.id
        if not channel.capabilities.starts:
            raise Invalid((("to", Bilingual(
                "this messenger does not let a company write first: the client has to write",
                "этот мессенджер не даёт компании писать первой: клиент должен написать сам",
            )),))  # fmt: skip
        if template is not None and channel.capabilities.templates:
            await _filled(conn, number, key, template)
        elif channel.capabilities.window_s is not None:
            raise Invalid((("text", Bilingual(
                "the client has not written yet: this messenger takes only a template",
                "клиент ещё не писал: этот мессенджер примет только шаблон",
            )),))  # fmt: skip
        if contact is None:
            contact = await contact_rows.insert_contact(conn, number, "", (), ())
        made = Conversation(id=uuid4(), integration=key, address=address, contact=contact, owner=OWNER_NONE)
        if not await rows.insert_conversation(conn, number, made):
            raise Conflict("conversations")
        return made.id

    async def retry(self, tenant: Tenant, message: UUID) -> StoredMessage:
        """Sends a message again that failed or whose outcome is not known. Raises NotThere, Invalid, Unavailable."""

        async def again(conn: Connection) -> tuple[StoredMessage, list[IntegrationKey]]:
            found = await messages.select_message(conn, tenant.number, message)
            if found is None:
                raise NotThere
            if found.direction != "out" or found.status not in ("failed", "unknown"):
                raise Invalid((("status", Bilingual(
                    "only a message that failed, or whose outcome is unknown, can be sent again",
                    "ещё раз можно отправить только сообщение, которое не ушло или чья судьба неизвестна",
                )),))  # fmt: skip
            known = await rows.lock_conversation(conn, tenant.number, found.conversation)
            assert known is not None
            woken = await messages.retry_message(conn, tenant.number, message, KEEP_S)
            if lost := await messages.queue_lost_parts(conn, tenant.number, message):
                await self._deliver_lost(conn, tenant, known, found, lost)
                woken = [*woken, known.integration]
            changed = await messages.select_message(conn, tenant.number, message)
            assert changed is not None
            return changed, woken

        stored, woken = await self.db.tenant(tenant.number, again)
        for key in woken:
            self.changed(tenant.number, stored.conversation, key)
        return stored

    async def _deliver_lost(
        self, conn: Connection, tenant: Tenant, known: Conversation, message: StoredMessage, lost: Sequence[str]
    ) -> None:  # fmt: skip
        """Stores deliveries again that were cleared away meanwhile."""
        channel = self.channel(tenant, known.integration)
        stored = await select_message_template(conn, tenant.number, message.id)
        template = TemplateUse(**stored) if stored is not None else None
        self._check(known, channel, message.text, (), message.files, templated=template is not None)
        assert channel is not None
        answered = (
            await messages.select_provider_id(conn, tenant.number, message.reply_to) if message.reply_to else None
        )
        parts = _parts(known, message.id, message.text, channel[0], message.files, answered or "", template)
        await messages.insert_deliveries(
            conn, tenant.number, [one.delivery for one in parts if one.delivery.key in lost]
        )

    # Owners.

    async def take(
        self, tenant: Tenant, conversation: UUID, who: str, *, expected_epoch: int | None = None
    ) -> Conversation:
        """Makes a person the owner. Raises NotThere, Passed, Unavailable."""
        return await self._own(tenant, conversation, who, who, "taken", expected_epoch)

    async def assign(
        self, tenant: Tenant, conversation: UUID, who: str, to: UUID, *, expected_epoch: int | None = None
    ) -> Conversation:
        """Makes another person the owner. Raises Invalid where nobody of the company has that id, NotThere, Passed, Unavailable."""
        if await self.db.engine(members.select_member, tenant.number, to) is None:
            raise Invalid((("user", Bilingual(
                "there is no such person in this company", "такого человека в этой компании нет"
            )),))  # fmt: skip
        return await self._own(tenant, conversation, human(str(to)), who, "assigned", expected_epoch)

    async def release(
        self, tenant: Tenant, conversation: UUID, who: str, to: Literal["ai", "queue"], *, expected_epoch: int | None = None
    ) -> Conversation:  # fmt: skip
        """Gives it back to the AI or to whoever takes it next."""
        return await self._own(
            tenant, conversation, OWNER_AI if to == "ai" else OWNER_QUEUE, who, "released", expected_epoch
        )

    async def _own(
        self, tenant: Tenant, conversation: UUID, owner: str, who: str, kind: str, expected_epoch: int | None
    ) -> Conversation:
        def change(known: Conversation) -> Conversation:
            return replace(owned(known, owner), state="open")

        return await self._change(
            tenant, conversation, who, kind, change, expected_epoch, owner if owner != who else ""
        )

    async def close(
        self, tenant: Tenant, conversation: UUID, who: str, *, expected_epoch: int | None = None
    ) -> Conversation:
        """Ends it for now; a message of the client opens it again."""

        def change(known: Conversation) -> Conversation:
            return replace(owned(known, OWNER_NONE), state="closed", unread=0, waiting_since=None)

        return await self._change(
            tenant, conversation, who, "closed", change, expected_epoch, told=await self._name(tenant, who)
        )

    async def mark_read(self, tenant: Tenant, conversation: UUID) -> Conversation:
        """Somebody has looked at it. Raises NotThere, Unavailable."""
        unread = 0

        def change(known: Conversation) -> Conversation:
            nonlocal unread
            unread = known.unread
            return replace(known, unread=0)

        found = await self._change(tenant, conversation, "", "", change, None)
        if unread:
            self.looked(tenant.number, conversation)
        return found

    def client_types_s(self, tenant: Tenant, conversation: UUID) -> float:
        """For how many seconds the client counts as writing; 0: they do not."""
        until = self.typing.until(tenant.number, conversation, client=True) if self.typing is not None else None
        return max(0.0, until - self.typing.clock()) if until is not None and self.typing is not None else 0.0

    def wrote(self, tenant: Tenant, conversation: UUID, who: str) -> None:
        """Somebody presses keys in the reply box: to be said again every few seconds. Never waits."""
        if self.typing is not None:
            self.typing.wrote(tenant.number, conversation, who)

    async def note(self, tenant: Tenant, conversation: UUID, who: str, text: str) -> Conversation:
        """A note that only colleagues see. Raises Invalid, NotThere, Unavailable."""
        text = text.strip()
        if not text:
            raise Invalid((("text", Bilingual("write the note", "напишите заметку")),))
        if len(text) > LONGEST_NOTE:
            raise Invalid((("text", _at_most(LONGEST_NOTE)),))
        return await self._change(tenant, conversation, who, "note", lambda known: known, None, text)

    async def _change(
        self, tenant: Tenant, conversation: UUID, who: str, kind: str, change: Callable[[Conversation], Conversation],
        expected_epoch: int | None, text: str = "", told: str | None = None,
    ) -> Conversation:  # fmt: skip
        """`told`: CRMs are told that it is closed, and by whom."""
        woken = list[IntegrationKey]()

        async def work(conn: Connection) -> tuple[Conversation, bool]:
            known = await rows.lock_conversation(conn, tenant.number, conversation)
            if known is None:
                raise NotThere
            _check_epoch(known, expected_epoch)
            changed = change(known)
            if changed != known:
                await rows.update_conversation(conn, tenant.number, changed)
            beside = bool(kind) and (changed != known or kind == "note")
            if beside:
                await rows.insert_happening(conn, tenant.number, conversation, kind, who, text)
            if told is not None and known.state != changed.state:
                woken[:] = await self.crm.chat(conn, tenant, changed, "closed", employee=told)
            return changed, beside or changed != known

        found, happened = await self.db.tenant(tenant.number, work)
        if happened:
            self.feed.publish(tenant.number, Subject("chat", str(conversation)))
        self.crm.woken(tenant, woken)
        return found

    async def _name(self, tenant: Tenant, who: str) -> str:
        """A person's name or address, for others to read; empty for a key of the API."""
        ident = _uuid(who.removeprefix("human:"))
        found = await self.db.engine(members.select_member, tenant.number, ident) if ident is not None else None
        return found.name or found.email if found is not None else ""

    def changed(self, number: TenantId, conversation: UUID, key: IntegrationKey) -> None:
        """Something was committed that is to be delivered by an integration."""
        self.wake(number, key)
        self.feed.publish(number, Subject("chat", str(conversation)))


async def _answered(conn: Connection, number: TenantId, conversation: UUID, message: UUID) -> str | None:
    """What the messenger calls the message that is answered. Raises Invalid for one that is not of this conversation."""
    found = await messages.select_message(conn, number, message)
    if found is None or found.conversation != conversation:
        raise Invalid((("reply_to", Bilingual(
            "there is no such message in this conversation", "в этой переписке нет такого сообщения"
        )),))  # fmt: skip
    return found.provider_id


def _at_most(characters: int) -> str:
    return Bilingual(f"at most {characters} characters", f"не больше {characters} знаков")


def _check_epoch(known: Conversation, expected: int | None) -> None:
    if expected is not None and expected != known.epoch:
        raise Passed(known)


def owned(known: Conversation, owner: str) -> Conversation:
    """The conversation as this owner's: its epoch rises where that is a change."""
    return known if known.owner == owner else replace(known, owner=owner, epoch=known.epoch + 1)


def _parts(
    known: Conversation, message: UUID, text: str, channel: ChatChannel, files: Sequence[StoredFile], reply_to: str,
    template: TemplateUse | None = None,
) -> list[NewPart]:  # fmt: skip
    outgoing = [
        OutgoingFile(id=str(one.id), kind=one.kind, name=one.name, content_type=one.content_type, size=one.size or 0)  # type: ignore[arg-type] # the column's check knows the kinds
        for one in files
    ]
    can, bucket = channel.capabilities, channel.bucket(known.address)
    if template is not None:
        made = [Outgoing(to=known.address, text=text, template=template, token=f"{message}.0")]
    else:
        made = parts_of(
            can, known.address, text, outgoing, reply_to=reply_to if can.replies else "", token=str(message)
        )
    return [
        NewPart(
            part=place, digest=content_digest(part.text, part.file.kind if part.file is not None else ""),
            delivery=DeliveryRow(
                integration=known.integration, lane=f"chat {known.id}", key=part.token, kind=MESSAGE, bucket=bucket,
                subject=Subject("chat", str(known.id)), body=json.dumps(part.body(), ensure_ascii=False), latest_only=False, expires_s=None, keep_s=KEEP_S,
            ),
        )
        for place, part in enumerate(made)
    ]  # fmt: skip


async def _filled(
    conn: Connection, tenant: TenantId, key: IntegrationKey, use: TemplateUse
) -> tuple[TemplateUse, str]:  # fmt: skip
    """A template with its values as they are sent, and what the client will read. Raises Invalid."""
    known = await known_templates(conn, tenant, key)
    one = next((one for one in known if (one.name, one.language) == (use.name, use.language)), None)
    if one is None:
        raise Invalid((("template", Bilingual(
            f"there is no approved template {use.name} in the language {use.language}; the list is read anew each hour",
            f"одобренного шаблона {use.name} на языке {use.language} нет; список обновляется каждый час",
        )),))  # fmt: skip
    values = {
        name: " ".join(storable(value).split()) for name, value in use.values.items()
    }  # one line is what is taken
    try:
        text = one.filled(values)
    except BadTemplate as error:
        raise Invalid((
            *((f"template.values.{name}", Bilingual("must not be empty", "не заполнено")) for name in error.missing),
            *((f"template.values.{name}", Bilingual("the template has no such field", "такого поля в шаблоне нет")) for name in error.unknown),
        )) from None  # fmt: skip
    if len(text) > LONGEST_TEXT:
        raise Invalid((("template.values", _at_most(LONGEST_TEXT)),))
    return replace(use, values=values), text


def _address(channel: ChatChannel, text: str) -> str | None:
    try:
        return channel.address(text)
    except ValueError:
        return None


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text) if len(text) == 36 else None
    except ValueError:
        return None
