"""What visitors' browsers send and read: `/widget/{key}/session`, `state`, `messages`, `read`, `typing`, `person`.

What a visitor writes goes the way of every messenger's updates: durable before it is answered, a repeat of `client_id` changes
nothing, then the actor of the tenant's chats. Read `events.py` for the stream, `deps.py` for who may call.
"""

import json
import re
import secrets
from typing import Any

from adapters.widget import MOST_TEXT, Given, message, moved, person, read
from gateway.domain.numbers import outside
from gateway.domain.posts import Invalid
from gateway.domain.text import Bilingual
from gateway.store.visitors import select_unread_tokens
from gateway.telemetry import COUNTERS
from gateway.web.http.routes import Address, Request, Response, answer_json, body_object, problem
from gateway.web.widget.deps import Place, Visit, WidgetDeps, bearer, known_visitor, of_place, of_visitor
from gateway.web.widget.files import attached
from gateway.web.widget.shown import PAGE, Names, conversation_of, read_messages, shown_messages, state_of
from gateway.web.widget.visitors import Visitor, given_from, identified, stranger, token_of

MOST_READ = 200
_CLIENT_ID = re.compile(r"[0-9A-Za-z_.:-]{1,64}")
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(?:-[0-9A-Za-z]{1,8}){0,2}")


def clean(text: str) -> str:
    """A text without what cannot be stored: controls but tab and line end, and halves of characters."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").encode("utf-8", "replace").decode()
    return re.sub("[\x00-\x08\x0b-\x1f\x7f]", "", lines).strip()


def wire_addresses(deps: WidgetDeps, names: Names) -> list[Address]:
    """The addresses, hidden in the API's document: they are the widget's own."""

    async def session(place: Place, request: Request) -> Response:
        sent = body_object(request)
        before, visitor = known_visitor(deps, place, bearer(request)), None
        if (identity := sent.get("identity")) is not None:
            if not isinstance(identity, dict):
                raise Invalid((("identity", Bilingual("must be an object", "должен быть объект")),))
            if (slowed := deps.guesses.refusal(request, str(identity.get("hash")))) is not None:
                return slowed
            visitor = identified(place.widget, identity)
            if visitor is None:
                COUNTERS["widget_identities_refused"] += 1
                wrong = problem(403, "AUTH_FAILED", "identity.hash does not belong to identity.id.")
                return await deps.guesses.wrong(request, str(identity.get("hash")), wrong)
            if before is not None and not before.identified:
                update = moved(before.address, visitor.address, deps.now())
                await deps.store(place.tenant.number, place.integration, [update], "chats")
        elif place.widget.identity_required and (before is None or not before.identified):
            return problem(403, "AUTH_FAILED", "Only visitors whom the site has identified may write: send identity.")
        who = visitor or before or stranger()
        token = token_of(place.widget, place.tenant.number, who, deps.now())
        return answer_json({"token": token, "identified": who.identified, "title": place.title})

    async def send(visit: Visit) -> Response:
        sent, problems = body_object(visit.request), list[tuple[str, str]]()
        client_id, text = sent.get("client_id"), sent.get("text")
        if not isinstance(client_id, str) or not _CLIENT_ID.fullmatch(client_id):
            problems.append(("client_id", Bilingual(
                "must be an id of the message made by the sender: 1 to 64 letters, digits, - _ . :",
                "должен быть идентификатор сообщения от отправителя: от 1 до 64 букв, цифр, - _ . :",
            )))  # fmt: skip
        text = clean(text) if isinstance(text, str) else ""
        files = await attached(deps, visit, sent.get("attachments"), problems)
        if not text and not files:
            problems.append(("text", Bilingual("write a text or attach a file", "напишите текст или приложите файл")))
        elif len(text) > MOST_TEXT:
            problems.append(("text", Bilingual(
                f"has more than {MOST_TEXT} characters: send it in parts", f"длиннее {MOST_TEXT} знаков: отправьте частями"
            )))  # fmt: skip
        typed = given_from(sent, problems)
        if problems:
            raise Invalid(tuple(problems))
        place, now = visit.place, deps.now()
        given = _given(visit.visitor, typed, place.tenant.country)
        language = sent.get("language")
        language = language if isinstance(language, str) and _LANGUAGE.fullmatch(language) else ""
        update = message(visit.visitor.address, str(client_id), text, given, language, now, files)
        await deps.store(place.tenant.number, place.integration, [update], "chats")
        return answer_json({"client_id": client_id, "status": "accepted", "at": now.isoformat()}, 201)

    async def history(visit: Visit) -> Response:
        after, before = _number(visit.request, "after"), _number(visit.request, "before")
        conversation = await conversation_of(deps, visit.place, visit.visitor.address)
        found = [] if conversation is None else await read_messages(deps, visit.place, conversation.id, after, before)
        items = await shown_messages(names, visit.place, found)
        state = await state_of(deps, names, visit.place, conversation)
        return answer_json({"items": items, "more": len(found) == PAGE, "state": state})

    async def state(place: Place, request: Request) -> Response:
        return answer_json(await state_of(deps, names, place, None))

    async def seen(visit: Visit) -> Response:
        up_to = body_object(visit.request).get("seq")
        if not isinstance(up_to, int) or isinstance(up_to, bool) or not 0 < up_to < 1 << 31:
            raise Invalid((("seq", Bilingual("must be the number of a message", "должен быть номер сообщения")),))
        place, number = visit.place, visit.place.tenant.number
        conversation = await conversation_of(deps, place, visit.visitor.address)
        if conversation is not None:
            tokens = await deps.db.tenant(number, select_unread_tokens, number, conversation.id, up_to, MOST_READ)
            if tokens:
                update = read(visit.visitor.address, up_to, tokens, deps.now())
                await deps.store(number, place.integration, [update], "chats")
        return Response(status=204)

    async def typing(visit: Visit) -> Response:
        conversation = await conversation_of(deps, visit.place, visit.visitor.address)
        if conversation is not None:
            deps.typing.wrote(visit.place.tenant.number, conversation.id, "client")
        return Response(status=204)

    async def wants_person(visit: Visit) -> Response:
        place = visit.place
        update = person(visit.visitor.address, secrets.token_urlsafe(9), deps.now())
        await deps.store(place.tenant.number, place.integration, [update], "chats")
        return answer_json({"status": "accepted"}, 201)

    def add(method: str, name: str, handler: Any, summary: str) -> Address:
        return Address(method=method, path=f"/widget/{{key}}/{name}", handler=handler, summary=summary, hidden=True)

    return [
        add("POST", "session", of_place(deps, session), "A visitor's token"),
        add("GET", "state", of_place(deps, state), "Whether anybody is there, before a visitor has written"),
        add("POST", "messages", of_visitor(deps, send), "A visitor writes"),
        add("GET", "messages", of_visitor(deps, history), "The visitor's conversation, oldest first"),
        add("POST", "read", of_visitor(deps, seen), "The visitor has seen messages"),
        add("POST", "typing", of_visitor(deps, typing), "The visitor is writing"),
        add("POST", "person", of_visitor(deps, wants_person), "The visitor wants a person"),
    ]


def _given(visitor: Visitor, typed: Given, country: str) -> Given:
    """What was typed, or else what the site said; a phone that can be read as a number."""
    phone = outside(typed.phone or visitor.given.phone, country) if typed.phone or visitor.given.phone else ""
    return Given(
        name=typed.name or visitor.given.name, email=(typed.email or visitor.given.email).lower(),
        phone=phone if re.fullmatch(r"\+[0-9]{7,15}", phone) else "",
    )  # fmt: skip


def _number(request: Request, name: str) -> int | None:
    text = request.query.get(name)
    if text is None:
        return None
    if not re.fullmatch("[0-9]{1,9}", text):
        raise Invalid(((name, Bilingual("must be the number of a message", "должен быть номер сообщения")),))
    return int(text)


def as_json(value: Any) -> str:
    """One line of JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
