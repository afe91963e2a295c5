"""`/frames/{kind}/{hook_id}/session`: who is signed in here, and a token for the softphone; `…/events`: the calls of its number.

Why so: a frame in another site's page gets no cookie of ours, and what that page says of its user proves nothing to us (Open CTI signs
nothing). So a page of our own, in a window of its own, uses the person's session (their second factor, their role, its CSRF token),
and hands the frame a token of one number that ends with the session. A page of anybody else can neither open these answers nor
receive the token.

    call   {id, phone, search, direction, phase}    a call of the number: ringing, talking, or over
"""

import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import suppress

import phonenumbers
import trio

from gateway.domain.calls import Call, Phase
from gateway.domain.configuration import Phone
from gateway.domain.errors import Retryable
from gateway.domain.events import Direction
from gateway.domain.numbers import hidden
from gateway.store.audit import insert_audit
from gateway.store.calls import select_calls, select_open_calls
from gateway.web.callers.callers import CALL, Caller, credential_of
from gateway.web.callers.softphones import LIVES_S, Softphone
from gateway.web.frames.deps import PATH, FrameDeps, Place, of_place
from gateway.web.http.routes import Address, Request, Response, answer_json, body_object, problem
from gateway.web.pages.live import HEARTBEAT_S, RETRY_MS, changed_within, sse

LOOK_S = 5.0
"""How often a stream looks whether its token is still good."""
_OTHER = problem(403, "FORBIDDEN", "This softphone is another company's.")
_PERSON = problem(403, "FORBIDDEN", "A person connects a softphone, by their own session.")
_NO_NUMBER = problem(
    422, "VALIDATION_ERROR", "The internal number is not one of yours.", errors=[("extension", "is not yours")]
)


def session_addresses(deps: FrameDeps) -> list[Address]:
    """The addresses."""

    async def person(place: Place, request: Request) -> Caller | Response:
        caller = await deps.callers.of(request, (CALL,))
        if isinstance(caller, Response):
            return caller
        if caller.tenant != place.number:
            return _OTHER
        return caller if caller.kind == "session" else _PERSON

    async def look(place: Place, request: Request) -> Response:
        caller = await person(place, request)
        if isinstance(caller, Response):
            return caller
        numbers = [{"number": one.number, "owner": one.owner} for one in _phones(place, caller)]
        answer = answer_json({"person": caller.actor, "company": place.tenant.name, "extensions": numbers})
        return Response(status=200, body=answer.body, headers=(("Cache-Control", "no-store"), *caller.headers))

    async def connect(place: Place, request: Request) -> Response:
        caller = await person(place, request)
        if isinstance(caller, Response):
            return caller
        extension = str(body_object(request).get("extension", ""))
        if not any(one.number == extension for one in _phones(place, caller)):
            return _NO_NUMBER
        assert caller.token is not None
        await deps.db.tenant(
            place.number,
            insert_audit,
            place.number,
            caller.actor,
            "softphone.connected",
            str(place.integration),
            extension,
        )
        token = deps.tokens.new(Softphone(place.number, caller.token, extension))
        answer = answer_json({"token": token, "extension": extension, "expires_in": LIVES_S})
        return Response(status=200, body=answer.body, headers=(("Cache-Control", "no-store"),))

    async def listen(place: Place, request: Request) -> Response:
        caller = await deps.callers.of(request, (CALL,), sessions=False)
        if isinstance(caller, Response):
            return caller
        if caller.tenant != place.number or caller.only is None:
            return _OTHER
        headers = (("Cache-Control", "no-store"), ("X-Accel-Buffering", "no"))
        events = _events(deps, place, request, caller) if request.method == "GET" else None
        return Response(content_type="text/event-stream; charset=utf-8", headers=headers, events=events)

    return [
        Address(method="GET", path=f"{PATH}/session", handler=of_place(deps, look), summary="Who is signed in", hidden=True),
        Address(method="POST", path=f"{PATH}/session", handler=of_place(deps, connect), hidden=True,
                summary="A token for the softphone, by a person's session"),
        Address(method="GET", path=f"{PATH}/events", handler=of_place(deps, listen), hidden=True,
                summary="Calls of the softphone's number (server-sent events)"),
    ]  # fmt: skip


def _phones(place: Place, caller: Caller) -> list[Phone]:
    return [one for one in place.tenant.phones if caller.only is None or one.number in caller.only]


async def _events(deps: FrameDeps, place: Place, request: Request, caller: Caller) -> AsyncIterator[str]:
    number, (extension,) = place.number, caller.only or ("",)
    owner = hashlib.sha256(caller.identity.encode()).digest()
    text = credential_of(request) or ""

    async def alive() -> bool:
        return isinstance(await deps.callers.of_softphone(text, touch=False), Caller)

    source = deps.callers.guesses.source(request)
    with deps.feed.subscribe(number) as feed, deps.streams.opened(owner, number, source) as stream, suppress(Retryable):
        yield f"retry: {RETRY_MS}\n\n"
        told: dict[str, dict[str, str]] = {}
        calls = await deps.db.tenant(number, select_open_calls, number)
        quiet_since = trio.current_time()
        while True:
            for _, call in calls:
                shown = shown_call(place, call, extension)
                if shown is None or told.get(shown["id"]) == shown:
                    continue
                told[shown["id"]] = shown
                if not call.open:
                    del told[shown["id"]]
                quiet_since = trio.current_time()
                yield sse("call", json.dumps(shown))
            if not await deps.streams.go_on(stream, alive, LOOK_S):
                return
            taken = await changed_within(feed, stream, LOOK_S)
            if trio.current_time() - quiet_since >= HEARTBEAT_S:
                quiet_since = trio.current_time()
                yield ": still here\n\n"
            subjects, lost = taken if taken is not None else ([], False)
            ids = [found for subject in subjects if (found := subject.call_id) is not None]
            calls = []
            if lost:
                calls = await deps.db.tenant(number, select_open_calls, number)
            elif ids:
                calls = await deps.db.tenant(number, select_calls, number, ids)


def shown_call(place: Place, call: Call, extension: str) -> dict[str, str] | None:
    """A call as the softphone of a number shows it; None where the number has nothing to do with it. It is over for a number that rings
    no more, or has transferred it."""
    talks = call.last_extension or call.employee
    rung = extension in call.rang or extension in (call.extension, call.last_extension, call.caller)
    if not rung and extension not in call.ringing:
        return None
    phase = "ended"
    if call.open and call.phase is Phase.TALKING and talks == extension:
        phase = "talking"
    elif call.open and call.phase is Phase.RINGING and (extension in call.ringing or extension == call.caller):
        phase = "ringing"
    phone = call.caller if call.direction is Direction.INTERNAL and call.caller != extension else call.outside
    return {
        "id": call.call_id, "phone": "" if hidden(phone) else phone, "search": search_text(phone), "direction": call.direction.value,
        "phase": phase,
    }  # fmt: skip


def search_text(phone: str) -> str:
    """The digits by which a number is best searched for: as it is dialled within its country, without a prefix."""
    try:
        return phonenumbers.national_significant_number(phonenumbers.parse(phone, None))
    except phonenumbers.NumberParseException:
        return ""
