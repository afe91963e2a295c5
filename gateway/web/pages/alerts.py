"""What a browser may notify its person of, where they have chosen so: a stream of small events for one browser.

    alert     a call rings at one of their own numbers, or was missed there; a client waits in a chat that is theirs or nobody's
    over      the call with this id rings no longer, or the client of this conversation has been answered
    troubles  what is wrong in the company, whole, at the start and whenever it changes; for those who see it on every page

Everything stands on the person's pages too, in the same words. The choice is the browser's, so nothing is stored here: its script
knows what it has shown, and a stream that begins again repeats what is still so. Read `gateway/web/static/alerts.js` for that end.
"""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, suppress
from urllib.parse import quote
from uuid import UUID

import trio
from quart import Blueprint, request
from quart_trio.wrappers import TrioResponse as Response

from gateway.domain.calls import Call, Phase
from gateway.domain.chats import OWNER_NONE, OWNER_QUEUE
from gateway.domain.errors import Retryable
from gateway.domain.events import Direction, Result
from gateway.domain.ids import IntegrationKey, kind_of
from gateway.domain.statuses import Connection
from gateway.domain.subjects import Subject
from gateway.store.calls import select_calls, select_open_calls
from gateway.store.conversations import Seen, select_conversation
from gateway.web.authors import author_of_person
from gateway.web.pages.live import RETRY_MS, SHORTEST_PAUSE_S, changes_for, event_stream, sse
from gateway.web.session.access import ROLES, Need
from gateway.web.session.auth import Gate
from gateway.web.session.tokens import Token
from gateway.web.site import Viewer, viewer
from gateway.web.statuses import warnings_of

LONGEST_BODY = 120
"""Characters of a client's message in a notification."""
TROUBLES_S = 10.0
"""Seconds between two looks at what is wrong, as on the pages."""


def alert_of(who: Viewer, call: Call, own: frozenset[str]) -> dict[str, str] | None:
    """What to notify of a call, where one of a person's own numbers rings or was missed; None otherwise."""
    if who.tenant is None or call.direction is Direction.OUTGOING:
        return None
    if call.phase is Phase.RINGING:
        about, numbers = "ringing", [number for number in call.ringing if number in own]
    elif call.phase is Phase.ENDED and call.result is Result.MISSED:
        about, numbers = "missed", [number for number in call.rang if number in own]
    else:
        return None
    if not numbers:
        return None
    tenant = who.tenant
    party = who.f.party(call.caller)
    if call.direction is Direction.INTERNAL:
        party = " ".join(filter(None, (call.caller, tenant.owner_of(call.caller))))
    return {
        "key": f"{about} {call.call_id}", "tag": call.call_id, "title": f"{who.t(f'alerts.{about}')}: {party}",
        "body": ", ".join(numbers), "href": f"/t/{tenant.number}/calls/{quote(call.call_id, safe='')}",
    }  # fmt: skip


def chat_alert(who: Viewer, seen: Seen, me: str) -> dict[str, str] | None:
    """What to notify of a conversation, where a client waits for an answer of this person or of anybody; None otherwise. It is the
    same until the client has been answered, however much they write."""
    chat = seen.conversation
    if who.tenant is None or chat.waiting_since is None or chat.owner not in (OWNER_QUEUE, OWNER_NONE, me):
        return None
    return {
        "key": f"chat {chat.id} {chat.waiting_since.isoformat()}", "tag": str(chat.id),
        "title": f"{who.t('alerts.chat')}: {seen.contact_name or chat.name or chat.address}", "body": seen.last_text[:LONGEST_BODY],
        "href": f"/t/{who.tenant.number}/inbox/{chat.id}", "sound": "chat",
    }  # fmt: skip


def trouble_alert(who: Viewer, one: Connection) -> dict[str, str]:
    """What to notify of a connection in trouble: the sentence of its warning."""
    t, status = who.t, one.status
    kind = one.kind if one.is_pbx else kind_of(IntegrationKey(one.name))
    return {
        "key": f"{one.name} {status.standing} {status.code}", "tag": f"trouble {one.name}",
        "title": f"{one.title}: {t(f'status.{status.standing}')}",
        "body": t.code("health", status.code, kind) or t(f"status_says.{status.standing}"), "href": one.href,
    }  # fmt: skip


def alerts_pages(gate: Gate) -> Blueprint:
    """The stream `/t/<number>/alerts`."""
    pages = Blueprint("alerts", __name__, url_prefix="/t/<number>/alerts")

    @pages.get("")
    async def alerts(number: str) -> Response:
        if request.method == "HEAD":
            return Response(content_type="text/event-stream; charset=utf-8")
        return event_stream(_alerts(gate, viewer(), gate.token(), gate.source()))

    return pages


async def _alerts(gate: Gate, who: Viewer, token: Token | None, source: str) -> AsyncIterator[str]:
    deps, found = gate.site.deps, who.tenant
    assert found is not None
    number, own = found.number, frozenset(who.phones)
    known: str | None = None

    async def chats(subjects: Sequence[Subject]) -> list[str]:
        ids = [UUID(one.id) for one in subjects if one.kind == "chat"]
        if not ids or who.role not in ROLES[Need.WRITE_CHATS]:
            return []
        me = await author_of_person(deps.db, None if who.acting is not None else number, who.session_email)
        said = list[str]()
        for one in ids:
            seen = await deps.db.tenant(number, select_conversation, number, one)
            made = chat_alert(who, seen, me) if seen is not None else None
            if made is not None:
                said.append(sse("alert", json.dumps(made, ensure_ascii=False)))
            elif seen is not None and seen.conversation.waiting_since is None:
                said.append(sse("over", "", str(one)))
        return said

    def alert(call: Call) -> str:
        made = alert_of(who, call, own)
        return sse("alert", json.dumps(made, ensure_ascii=False)) if made is not None else ""

    async def ringing() -> list[str]:
        if not own:
            return []
        return [alert(call) for _, call in await deps.db.tenant(number, select_open_calls, number)]

    async def troubles() -> str:
        nonlocal known
        if not who.may_read:
            return ""
        tenant = deps.cache.tenant(number)
        wrong = (await warnings_of(deps, tenant)).troubles if tenant is not None else ()
        text = json.dumps([trouble_alert(who, one) for one in wrong], ensure_ascii=False)
        if text == known:
            return ""
        known = text
        return sse("troubles", text)

    looked = 0.0
    yield f"retry: {RETRY_MS}\n\n"
    with suppress(Retryable):
        async with aclosing(changes_for(gate, who, token, source)) as changes:
            async for changed in changes:
                if isinstance(changed, str):
                    yield changed
                    continue
                events = list[str]()
                if changed.lost and own:
                    events += await ringing()
                if changed.lost or trio.current_time() - looked >= TROUBLES_S:
                    looked = trio.current_time()
                    events.append(await troubles())
                calls = [call_id for subject in changed.subjects if (call_id := subject.call_id) is not None]
                for _, call in await deps.db.tenant(number, select_calls, number, calls) if calls and own else ():
                    events.append(alert(call))
                    if call.phase is not Phase.RINGING and not own.isdisjoint(call.rang):
                        events.append(sse("over", "", call.call_id))
                events += await chats(changed.subjects)
                for event in filter(None, events):
                    yield event
                await trio.sleep(SHORTEST_PAUSE_S)
