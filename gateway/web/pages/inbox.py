"""The inbox: conversations with clients in three panes, and what people do to them. Works as pages; a script makes it live.

    list (filters) -> conversation (messages, notes, changes of owner; reply box) -> person (phones, chats, calls)

Every change goes through `actors/chats/conversing.py` and names the owner's epoch that its page showed, so that whoever was slower
learns it and loses no text. Read `inbox_view.py` for what is shown, `live.py` for the stream, `static/inbox.js` for the script.
"""

import hashlib
import json
import secrets
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Literal
from uuid import UUID

from quart import Blueprint, abort, redirect, request
from quart_trio.wrappers import TrioResponse as Response

from actors.chats.conversing import LONGEST_NOTE, Conversing, NotThere, Passed
from adapters.channel import TemplateUse
from gateway.domain.ai import settings_of
from gateway.domain.catalog import price_text
from gateway.domain.chats import LONGEST_TEXT, Conversation
from gateway.domain.configuration import Tenant
from gateway.domain.ids import IntegrationKey
from gateway.domain.people import Role
from gateway.domain.posts import Invalid
from gateway.domain.text import texts_of
from gateway.domain.texts import LANGUAGES
from gateway.store import conversations, messages
from gateway.store.conversations import Seen
from gateway.store.messages import StoredMessage
from gateway.store.saved_replies import SavedReply, select_saved_replies, select_saved_reply
from gateway.web.authors import Colleagues, author_of_person, colleagues_of
from gateway.web.pages.inbox_view import (
    PARTS,
    STATES,
    Listed,
    Offered,
    Person,
    Thread,
    Wanted,
    named,
    read_list,
    read_person,
    read_place,
    read_templates,
    read_thread,
    read_wanted,
    reply_of,
    tenant_channels,
    visible,
)
from gateway.web.pages.live import live_chats
from gateway.web.session.access import ROLES, Need
from gateway.web.session.auth import Gate
from gateway.web.session.flash import Flash, lead_on, note
from gateway.web.session.surroundings import flashed, look_around
from gateway.web.site import Answer, older_than, tenant, viewer
from gateway.web.translations import words

UPLOADS = "/api/v1/files"
LONGEST_MARK, LONGEST_VALUE, MOST_VALUES = 540, 1024, 100
"""Of a template in a form: characters of its mark and of a value, and values."""


def conversing_of(gate: Gate) -> Conversing:
    """What people do to conversations; 404 in an installation without it."""
    found = gate.site.deps.conversing
    if found is None:
        abort(404)
    return found


async def myself(gate: Gate) -> str:
    """The viewer as an author and owner."""
    who = viewer()
    number = None if who.acting is not None else tenant().number
    return await author_of_person(gate.site.deps.db, number, who.session_email)


def only_of(me: str) -> str | None:
    """The owner whose conversations alone an agent sees beside those of nobody; None where the viewer sees all."""
    return me if viewer().role is Role.AGENT else None


def reads_texts() -> bool:
    """Whether texts of messages are the viewer's to read."""
    return viewer().role in ROLES[Need.WRITE_CHATS]


def words_for(gate: Gate, colleagues: Colleagues) -> dict[str, Any]:
    """What the templates of chats need besides their content."""
    t = viewer().t
    return {
        "whole": reads_texts(), "named": lambda author: named(t, colleagues.names, author),
        "mine": request.cookies.get(gate.cookie("extension"), ""), "links_to": f"/t/{tenant().number}", "money": price_text,
    }  # fmt: skip


def _content_id(form_id: str, text: str, files: list[UUID]) -> str:
    """The sender's id of a message: of the form and of what it holds, so that a second click sends nothing, and another text in a
    page that was gone back to is another message."""
    content = "\0".join([text, *map(str, files)])
    return f"{form_id[:60]}:{hashlib.sha256(content.encode('utf-8', 'replace')).hexdigest()[:24]}"


def inbox_pages(gate: Gate) -> Blueprint:
    """The pages below `/t/<number>/inbox`."""
    pages = Blueprint("inbox", __name__, url_prefix="/t/<number>/inbox")
    pages.before_request(partial(look_around, gate))
    site, db = gate.site, gate.site.deps.db

    async def listed(wanted: Wanted, me: str) -> dict[str, Any]:
        filters = wanted.filters(me, only_of(me), texts=reads_texts())
        before = read_place(request.args.get("after", ""))
        found: Listed = await db.tenant(tenant().number, read_list, tenant().number, filters, me, before)
        return {"listed": found, "wanted": wanted, "me": me, "after": before}

    async def opened(chat: UUID, me: str) -> Seen:
        """A conversation that the viewer may see; 404 for any other."""
        seen = await db.tenant(tenant().number, conversations.select_conversation, tenant().number, chat)
        if seen is None or not visible(seen.conversation, only_of(me)):
            abort(404)
        return seen

    async def threaded(seen: Seen) -> dict[str, Any]:
        before = older_than(request.args.get("before", ""))
        thread: Thread = await db.tenant(tenant().number, read_thread, tenant().number, seen, before)
        conversing = conversing_of(gate)
        return {
            "thread": thread, "seen": seen, "chat": seen.conversation, "reply": reply_of(conversing, tenant(), seen.conversation),
            "typing_s": conversing.client_types_s(tenant(), seen.conversation.id),
            "ai_answers": ai_answers(tenant(), seen.conversation.integration),
        }  # fmt: skip

    async def personal(seen: Seen, me: str) -> Person | None:
        return await db.tenant(tenant().number, read_person, tenant(), seen.root, viewer().only, only_of(me))

    async def quoted(chat: UUID, text: str) -> StoredMessage | None:
        """The message that an answer is to name; None where it is none of this conversation."""
        ident = next(iter(_uuids([text])), None)
        if ident is None:
            return None
        found = await db.tenant(tenant().number, messages.select_message, tenant().number, ident)
        return found if found is not None and found.conversation == chat and found.provider_id else None

    async def draft(chat: UUID) -> dict[str, Any]:
        """What the reply box holds: a text that could not be sent, else the saved reply that was chosen."""
        flash = flashed("refused")
        answers = await quoted(
            chat, request.args.get("answer", "") if flash is None else flash.body.get("reply_to", "")
        )
        if flash is not None:
            language = viewer().t.language
            return {
                "text": flash.body.get("text", ""), "files": flash.body.get("files", ()), "noted": flash.body.get("noted", ""),
                "problems": [one[language] for one in flash.body.get("problems", ())], "answers": answers,
                "template": flash.body.get("template", ""), "values": flash.body.get("values", {}),
            }  # fmt: skip
        text = ""
        if (chosen := request.args.get("reply", "")) and len(chosen) == 36:
            try:
                found: SavedReply | None = await db.tenant(
                    tenant().number, select_saved_reply, tenant().number, UUID(chosen)
                )
            except ValueError:
                found = None
            text = found.text if found is not None else ""
        return {
            "text": text,
            "files": (),
            "noted": "",
            "problems": [],
            "template": "",
            "values": {},
            "answers": answers,
        }

    async def offered(seen: Seen, kept: Mapping[str, Any]) -> Offered:
        """The templates, where nothing else can be sent now."""
        if not reply_of(conversing_of(gate), tenant(), seen.conversation).templates:
            return Offered()
        wanted = kept["template"] or request.args.get("template", "")
        found: Offered = await db.tenant(
            tenant().number, read_templates, tenant().number, seen.conversation, wanted, kept["values"]
        )
        return found

    @pages.get("")
    async def inbox(number: str) -> Response:
        me, colleagues = await myself(gate), await colleagues_of(db, tenant().number)
        return site.page(
            "inbox.html", pane="list", seen=None, channels=tenant_channels(conversing_of(gate), tenant()), parts=PARTS, states=STATES,
            **await listed(read_wanted(request.args), me), **words_for(gate, colleagues),
        )  # fmt: skip

    @pages.get("/list")
    async def list_fragment(number: str) -> Response:
        me, colleagues = await myself(gate), await colleagues_of(db, tenant().number)
        shown = request.args.get("open", "")
        return site.page(
            "inbox_list.html", open_id=shown, parts=PARTS, **await listed(read_wanted(request.args), me),
            **words_for(gate, colleagues),
        )  # fmt: skip

    @pages.get("/live")
    async def live(number: str) -> Response:
        if request.method == "HEAD":
            return Response(content_type="text/event-stream; charset=utf-8")
        return live_chats(gate, viewer(), gate.token(), request.args.get("open", ""))

    @pages.get("/<uuid:chat>")
    async def conversation(number: str, chat: UUID) -> Response:
        me, colleagues = await myself(gate), await colleagues_of(db, tenant().number)
        seen = await opened(chat, me)
        saved = await db.tenant(tenant().number, select_saved_replies, tenant().number) if reads_texts() else []
        kept = await draft(chat)
        return site.page(
            "inbox.html", pane="person" if request.args.get("pane") == "person" else "chat", person=await personal(seen, me),
            channels=tenant_channels(conversing_of(gate), tenant()), parts=PARTS, states=STATES, saved=saved, draft=kept,
            offered=await offered(seen, kept) if reads_texts() else Offered(),
            form_id=secrets.token_urlsafe(16), colleagues=colleagues.answering, longest=LONGEST_TEXT, longest_note=LONGEST_NOTE, uploads=UPLOADS,
            **await threaded(seen), **await listed(read_wanted(request.args), me), **words_for(gate, colleagues),
        )  # fmt: skip

    @pages.get("/<uuid:chat>/thread")
    async def thread_fragment(number: str, chat: UUID) -> Response:
        me, colleagues = await myself(gate), await colleagues_of(db, tenant().number)
        return site.page(
            "inbox_thread.html", colleagues=colleagues.answering, me=me, wanted=read_wanted(request.args),
            **await threaded(await opened(chat, me)), **words_for(gate, colleagues),
        )  # fmt: skip

    @pages.get("/<uuid:chat>/person")
    async def person_fragment(number: str, chat: UUID) -> Response:
        me, colleagues = await myself(gate), await colleagues_of(db, tenant().number)
        seen = await opened(chat, me)
        return site.page(
            "inbox_person.html", seen=seen, chat=seen.conversation, person=await personal(seen, me), wanted=read_wanted(request.args),
            **words_for(gate, colleagues),
        )  # fmt: skip

    async def lead(chat: UUID | None, flash: Flash | None = None, mark: str = "") -> Answer:
        """Back to the conversation, or to the list alone, as it was in view."""
        query = read_wanted(request.args).query
        home = f"/t/{tenant().number}/inbox" + (f"/{chat}" if chat is not None else "")
        onward = home + (f"?{query}" if query else "") + mark
        return redirect(onward, 303) if flash is None else await lead_on(site.deps, gate.token(), onward, flash)

    async def passed(chat: UUID, now: Conversation, kept: Mapping[str, Any]) -> Answer:
        """Somebody was quicker: who it is, and the text is still there."""
        if not visible(now, only_of(await myself(gate))):
            return await lead(None, note("inbox.gone", "warn"))
        names = (await colleagues_of(db, tenant().number)).names
        problem = {
            language: (t := words(language))("inbox.passed", who=named(t, names, now.owner)) for language in LANGUAGES
        }
        return await lead(chat, Flash(kind="refused", body={**kept, "problems": [problem]}), "#reply")

    def refused(error: Invalid, kept: Mapping[str, Any]) -> Flash:
        return Flash(kind="refused", body={**kept, "problems": [dict(texts_of(text)) for _, text in error.problems]})

    @pages.post("/<uuid:chat>/messages")
    async def send(number: str, chat: UUID) -> Answer:
        form, me = await request.form, await myself(gate)
        await opened(chat, me)
        text = form.get("text", "").replace("\r\n", "\n")
        files = _uuids(form.getlist("attachments"))
        answers = next(iter(_uuids([form.get("reply_to", "")])), None)
        chosen = _template(form)
        values = dict(chosen.values) if chosen is not None else {}
        kept = {
            "text": text[:LONGEST_TEXT], "files": [str(one) for one in files], "reply_to": str(answers) if answers else "", "values": values,
            "template": form.get("template", "")[:LONGEST_MARK] if chosen is not None else "",
        }  # fmt: skip
        content = text.strip() if chosen is None else json.dumps(chosen.body(), sort_keys=True)
        try:
            await conversing_of(gate).send(
                tenant(), chat, author=me, text=text, files=files, expected_epoch=_epoch(form), reply_to=answers, template=chosen,
                client_id=_content_id(
                    form.get("form_id") or secrets.token_urlsafe(16), content, [*files, *([answers] if answers else [])]
                ),
            )  # fmt: skip
        except Passed as error:
            return await passed(chat, error.conversation, kept)
        except Invalid as error:
            return await lead(chat, refused(error, kept), "#reply")
        except NotThere:
            abort(404)
        return await lead(chat, mark="#reply")

    @pages.post("/<uuid:chat>/messages/<uuid:message>/retry")
    async def retry(number: str, chat: UUID, message: UUID) -> Answer:
        await opened(chat, await myself(gate))
        found = await db.tenant(tenant().number, messages.select_message, tenant().number, message)
        if found is None or found.conversation != chat:
            abort(404)
        try:
            await conversing_of(gate).retry(tenant(), message)
        except Invalid:
            return await lead(chat, note("inbox.retry_settled", "calm"))
        return await lead(chat, note("inbox.retried"))

    async def take(chat: UUID, me: str, form: Mapping[str, str]) -> Flash | None:
        await conversing_of(gate).take(tenant(), chat, me, expected_epoch=_epoch(form))
        return None

    async def release(chat: UUID, me: str, form: Mapping[str, str]) -> Flash | None:
        to: Literal["ai", "queue"] = "ai" if form.get("to") == "ai" else "queue"
        await conversing_of(gate).release(tenant(), chat, me, to, expected_epoch=_epoch(form))
        return note("inbox.released_ai" if to == "ai" else "inbox.released")

    async def assign(chat: UUID, me: str, form: Mapping[str, str]) -> Flash | None:
        colleagues = await colleagues_of(db, tenant().number)
        to = next((one for one in colleagues.answering if str(one.user_id) == form.get("to")), None)
        if to is None:
            return note("inbox.assign_whom", "bad")
        await conversing_of(gate).assign(tenant(), chat, me, to.user_id, expected_epoch=_epoch(form))
        return note("inbox.assigned", who=to.name)

    async def close(chat: UUID, me: str, form: Mapping[str, str]) -> Flash | None:
        await conversing_of(gate).close(tenant(), chat, me, expected_epoch=_epoch(form))
        return note("inbox.closed")

    async def leave_note(chat: UUID, me: str, form: Mapping[str, str]) -> Flash | None:
        await conversing_of(gate).note(tenant(), chat, me, form.get("text", "").replace("\r\n", "\n"))
        return None

    async def read(chat: UUID, me: str, form: Mapping[str, str]) -> Flash | None:
        await conversing_of(gate).mark_read(tenant(), chat)
        return None

    async def typing(chat: UUID, me: str, form: Mapping[str, str]) -> Flash | None:
        conversing_of(gate).wrote(tenant(), chat, me)
        return None

    work: Mapping[str, Callable[[UUID, str, Mapping[str, str]], Awaitable[Flash | None]]] = {
        "take": take, "release": release, "assign": assign, "close": close, "note": leave_note, "read": read, "typing": typing,
    }  # fmt: skip

    @pages.post("/<uuid:chat>/<any(take, release, assign, close, note, read, typing):action>")
    async def act(number: str, chat: UUID, action: str) -> Answer:
        form, me = await request.form, await myself(gate)
        await opened(chat, me)
        try:
            flash = await work[action](chat, me, form)
        except Passed as error:
            return await passed(chat, error.conversation, {})
        except Invalid as error:
            return await lead(chat, refused(error, {"noted": form.get("text", "")[:LONGEST_TEXT]}), "#note-form")
        except NotThere:
            abort(404)
        seen = await db.tenant(tenant().number, conversations.select_conversation, tenant().number, chat)
        gone = seen is not None and not visible(seen.conversation, only_of(me))
        return await lead(None if gone else chat, flash)

    return pages


def ai_answers(company: Tenant, key: IntegrationKey) -> bool:
    """Whether a conversation can be given to the AI."""
    try:
        return settings_of(company.options, company.secrets).answers_in(key)
    except ValueError:
        return False


def _template(form: Mapping[str, str]) -> TemplateUse | None:
    """The template of a form, with the values of its fields."""
    language, colon, name = form.get("template", "")[:LONGEST_MARK].partition(":")
    if not colon:
        return None
    given = [(field.removeprefix("value."), text) for field, text in form.items() if field.startswith("value.")]
    return TemplateUse(
        name=name, language=language, values={field[:64]: text[:LONGEST_VALUE] for field, text in given[:MOST_VALUES]}
    )


def _epoch(form: Mapping[str, str]) -> int | None:
    return older_than(form.get("epoch", ""))


def _uuids(texts: list[str]) -> list[UUID]:
    """Ids of files; what is none is left out."""
    found = list[UUID]()
    for text in texts[:100]:
        with suppress(ValueError):
            found.append(UUID(text))
    return list(dict.fromkeys(found))
