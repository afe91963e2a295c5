"""A conversation goes to a person: once, with its cause and summary, and everybody who has to know is told, in one transaction.

    owner becomes the queue -> the client is told -> a note beside the conversation -> chats of `notify` -> a timer
    nobody takes it in time -> the client is told what happens next -> a note that a client waits

A stretch in which it waits is one epoch of the conversation: it is handed over once, however many messages come meanwhile.
"""

import json
from dataclasses import dataclass
from uuid import UUID

from actors.chats.conversing import Conversing, owned
from gateway.domain.ai import AiBlock, Cause, client_language
from gateway.domain.chats import AI, OWNER_QUEUE, SYSTEM, Conversation
from gateway.domain.configuration import Tenant
from gateway.domain.ids import IntegrationKey, kind_of
from gateway.domain.posts import Invalid
from gateway.domain.subjects import Subject
from gateway.domain.text import Bilingual
from gateway.store.ai_hand_overs import HandOverRow, insert_hand_over, mark_overdue
from gateway.store.conversations import insert_happening, lock_conversation, update_conversation
from gateway.store.messages import insert_deliveries
from gateway.store.outbox import DeliveryRow
from gateway.store.postgres.pool import Connection

NOTICE = "notice"
"""The kind of a delivery that is a plain text for a chat of people."""
KEEP_S = 3600.0
LONGEST_SUMMARY = 1500
NEEDED = Bilingual("A person is needed in a chat", "В чате нужен человек")
WHY: dict[str, Bilingual] = {
    "asked": Bilingual("the client asks for a person", "клиент просит человека"),
    "model": Bilingual("the AI cannot help with this", "ИИ не может с этим помочь"),
    "failed": Bilingual("the AI does not answer", "ИИ не отвечает"),
    "limit": Bilingual("a limit of the AI is reached", "достигнут лимит ИИ"),
    "abuse": Bilingual("the client swears or threatens", "клиент ругается или угрожает"),
    "prompt": Bilingual("there is no prompt that can be used", "нет промта, который можно использовать"),
}


@dataclass(frozen=True, kw_only=True)
class HandingOver:
    """Of one company."""

    tenant: Tenant
    settings: AiBlock
    conversing: Conversing
    public_url: str = ""

    async def hand_over(
        self, conn: Connection, known: Conversation, cause: Cause, reason: str = "", summary: str = ""
    ) -> list[IntegrationKey]:
        """Hands over a conversation that is locked. Returns the integrations that have something to deliver; none where that was done
        before."""
        number, changed = self.tenant.number, owned(known, OWNER_QUEUE)
        row = HandOverRow(
            conversation=known.id, epoch=changed.epoch, cause=cause, reason=reason, summary=summary[:LONGEST_SUMMARY]
        )
        if not await insert_hand_over(conn, number, row, self.settings.handoff.timeout_s):
            return []
        woken = await self._tell_client(conn, known, changed, cause)
        language = self.tenant.language
        why = WHY[cause].texts[language]
        await insert_happening(conn, number, known.id, "handed_over", AI, f"{why}. {summary[:LONGEST_SUMMARY]}".strip())
        told = await self.conversing.crm.chat(
            conn, self.tenant, changed, "handed_over", summary=summary[:LONGEST_SUMMARY]
        )
        return [*woken, *told, *await self._tell_people(conn, changed, f"{why}. {summary}".strip())]

    async def announce(self, conn: Connection, conversation: UUID) -> list[IntegrationKey]:
        """The same for a conversation whose client asked for a person by themselves."""
        known = await lock_conversation(conn, self.tenant.number, conversation)
        if known is None or known.owner != OWNER_QUEUE:
            return []
        return await self.hand_over(conn, known, "asked")

    async def overdue(self, conn: Connection, conversation: UUID, epoch: int) -> list[IntegrationKey]:
        """Nobody has taken it in time."""
        number = self.tenant.number
        known = await lock_conversation(conn, number, conversation)
        if known is None or known.owner != OWNER_QUEUE or known.epoch != epoch:
            return []
        if not await mark_overdue(conn, number, conversation, epoch):
            return []
        woken = await self._tell_client(conn, known, known, "timeout")
        await insert_happening(conn, number, conversation, "missed_chat", AI)
        return woken

    async def _tell_client(
        self, conn: Connection, known: Conversation, changed: Conversation, cause: Cause
    ) -> list[IntegrationKey]:
        text = self.settings.handoff.text(cause, client_language(known.language, self.tenant.language))
        try:
            await self.conversing.store(
                conn, self.tenant, known, author=SYSTEM, text=text, owner=changed.owner, answers=False
            )
        except Invalid:  # the messenger's window is over, or the channel was switched off: people see it all the same
            await update_conversation(conn, self.tenant.number, changed)
            return []
        return [known.integration]

    async def _tell_people(self, conn: Connection, chat: Conversation, why: str) -> list[IntegrationKey]:
        """Queues a text for the chats of the messengers that the company names."""
        language, woken = self.tenant.language, list[IntegrationKey]()
        adapters, notify = self.conversing.adapters(), self.tenant.options.get("notify") or {}
        link = f"\n{self.public_url.rstrip('/')}/t/{self.tenant.number}/inbox/{chat.id}" if self.public_url else ""
        text = f"{NEEDED.texts[language]}: {chat.name or chat.username or chat.address}\n{why}{link}"
        for key, one in sorted(self.tenant.integrations.items()):
            adapter = adapters.get(one.kind)
            named = key in self.settings.handoff.notify or kind_of(key) in self.settings.handoff.notify
            if not named or not one.enabled or adapter is None or adapter.notice is None:
                continue
            places = notify.get(one.kind) or one.settings.get("notify_chats") or ()
            rows = list[DeliveryRow]()
            for place in dict.fromkeys(map(str, places)):
                try:
                    body = adapter.notice(place, text)
                except ValueError:
                    continue
                token = f"hand-over {chat.id} {chat.epoch} {place}"
                rows.append(
                    DeliveryRow(
                        integration=key, lane=token, key=token, kind=NOTICE, bucket="", subject=Subject("chat", str(chat.id)),
                        body=json.dumps(dict(body), ensure_ascii=False), latest_only=False, expires_s=None, keep_s=KEEP_S,
                    )
                )  # fmt: skip
            if rows:
                await insert_deliveries(conn, self.tenant.number, rows)
                woken.append(key)
        return woken
