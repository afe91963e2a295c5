"""An operator acts as a company: begun with a reason, shown on every page, over after an hour, audited on both sides.

    GET  /operators/act-as       the form
    POST /operators/act-as       begins it: a form, or JSON {tenant, reason} with X-CSRF-Token
    DELETE /operators/act-as     ends it; POST /operators/act-as/end does the same for a form

Signing out ends it too. Without it no page of a company opens for an operator (`gateway/web/session/guard.py`).
"""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from quart import Blueprint, redirect, request
from quart_trio.wrappers import TrioResponse as Response

from gateway.domain.ids import TenantId
from gateway.store.postgres.pool import Connection
from gateway.store.users import Session, begin_acting, end_acting
from gateway.web.http.routes import Response as Plain
from gateway.web.http.routes import answer_json, problem
from gateway.web.session.auth import Gate, safe_next
from gateway.web.session.flash import Flash, lead_on, note
from gateway.web.session.sign_in_audit import note_acting
from gateway.web.session.surroundings import flashed, look_around
from gateway.web.session.tokens import Token
from gateway.web.site import Answer, viewer

FOR_S = 3600.0
LONGEST_REASON = 300


async def _begin(conn: Connection, token: Token, session: Session, number: TenantId, reason: str) -> Any:
    async with conn.transaction():
        if session.acting is not None:
            await note_acting(conn, session, session.acting.tenant, "operator.acting_ended", "")
        until = await begin_acting(conn, token.token_hash, number, reason, FOR_S)
        await note_acting(conn, session, number, "operator.acting", reason)
        return until


async def end(conn: Connection, token: Token, session: Session) -> None:
    """Ends it, where it goes on."""
    if session.acting is None:
        return
    async with conn.transaction():
        await end_acting(conn, token.token_hash)
        await note_acting(conn, session, session.acting.tenant, "operator.acting_ended", "")


def _invalid(wrong: Sequence[tuple[str, str]]) -> Plain:
    return problem(422, "VALIDATION_ERROR", "The request is not valid.", errors=wrong)


def _plain(answer: Plain) -> Response:
    response = Response(answer.body, answer.status, content_type=answer.content_type)
    for name, value in answer.headers:
        response.headers[name] = value
    return response


def acting_pages(gate: Gate) -> Blueprint:
    """The addresses below `/operators/act-as`."""
    pages = Blueprint("acting", __name__, url_prefix="/operators/act-as")
    pages.before_request(partial(look_around, gate))
    site, deps = gate.site, gate.site.deps

    def who() -> tuple[Token, Session]:
        token, session = gate.token(), viewer().session
        assert token is not None
        assert session is not None
        return token, session

    @pages.get("")
    async def ask() -> Response:
        flash = flashed("refused")
        sent = dict(flash.body) if flash is not None else {
            "tenant": request.args.get("tenant", "")[:32], "reason": "", "onward": safe_next(request.args.get("next")), "wrong": [],
        }  # fmt: skip
        return site.page("act_as.html", sent=sent, chosen=deps.cache.tenant(TenantId(str(sent["tenant"]))))

    @pages.post("")
    async def begin() -> Answer:
        as_json = request.mimetype == "application/json"
        given: Mapping[str, Any] = await request.form
        if as_json:
            try:
                read = json.loads(await request.get_data())
            except (ValueError, RecursionError):
                read = None
            if not isinstance(read, dict):
                return _plain(_invalid([("body", "must be a JSON object")]))
            given = read
        number, reason = (str(given.get(name) or "").strip() for name in ("tenant", "reason"))
        wrong = []
        if deps.cache.tenant(TenantId(number)) is None:
            wrong.append(("tenant", "there is no such company"))
        if not 3 <= len(reason) <= LONGEST_REASON or not reason.isprintable():
            wrong.append(("reason", f"write in 3 to {LONGEST_REASON} characters why; the company's audit shows it"))
        token, session = who()
        if wrong:
            if as_json:
                return _plain(_invalid(wrong))
            onward = safe_next(given.get("next"))
            body = {
                "tenant": number[:32],
                "reason": reason[:LONGEST_REASON],
                "onward": onward,
                "wrong": [name for name, _ in wrong],
            }
            return await lead_on(deps, token, "/operators/act-as", Flash(kind="refused", body=body))
        until = await deps.db.engine(_begin, token, session, TenantId(number), reason)
        if as_json:
            return _plain(answer_json({"tenant": number, "reason": reason, "until": until.isoformat()}))
        onward = safe_next(given.get("next"))
        return redirect(onward if onward.startswith(f"/t/{number}/") else f"/t/{number}/", 303)

    @pages.delete("")
    async def stop() -> Answer:
        await deps.db.engine(end, *who())
        return Response(b"", 204)

    @pages.post("/end")
    async def leave() -> Answer:
        token, session = who()
        number = session.acting.tenant if session.acting is not None else ""
        await deps.db.engine(end, token, session)
        gate.streams.end_session(token.token_hash)
        return await lead_on(deps, token, "/operators/tenants", note("acting.ended", number=number))

    return pages
