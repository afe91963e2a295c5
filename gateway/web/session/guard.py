"""Enforces `access.py`: before any handler runs, the request has what its endpoint needs.

    no session                     to the sign-in page; 401 for streams and fragments
    another company, none at all   404, in the same words
    an operator, not acting as it  404 with a link to the page where acting begins
    no second factor, demanded     to the page where one is set up
    a role that may not            403

`allows` is the same judgement for addresses that find out by themselves which company a request is about.
"""

from urllib.parse import quote

from quart import Quart, abort, g, redirect, request

from gateway.domain.ids import TenantId
from gateway.store.users import Session
from gateway.web.session.access import ROLES, Need, declared
from gateway.web.session.auth import SAFE_METHODS, Gate
from gateway.web.site import Answer, viewer


def allows(session: Session, tenant: TenantId, need: Need) -> bool:
    """Whether a person's session may do this in a company."""
    member = session.membership(tenant) if session.scope is None else None
    return member is not None and member.role in ROLES[need] and not member.locked


def add_guard(app: Quart, gate: Gate) -> None:
    """Puts the guard before everything else of the app."""

    @app.before_request
    async def guard() -> Answer | None:
        endpoint = request.endpoint
        if endpoint is None:
            return None  # no such address, or not with this method
        need = declared(app)[endpoint]
        if need in (Need.NOTHING, Need.OWN):
            return None
        await gate.look()
        if need is Need.OPEN:
            return None
        if viewer().session is None:
            return _sign_in_first()
        if need is Need.OPERATOR and not viewer().operator:
            abort(404)
        return _in_company(gate, need) if need in ROLES else None


def _sign_in_first() -> Answer:
    if "text/event-stream" in request.headers.get("Accept", "") or request.headers.get("X-Fragment"):
        abort(401)
    onward = viewer().path if request.method in SAFE_METHODS else "/"
    return redirect(f"/login?next={quote(onward, safe='')}", 303)


def _in_company(gate: Gate, need: Need) -> Answer | None:
    who, number = viewer(), TenantId((request.view_args or {})["number"])
    session = who.session
    assert session is not None
    found = gate.in_tenant(who, number)
    if found is None:
        if session.operator and gate.site.deps.cache.tenant(number) is not None:
            return gate.site.page("error.html", 404, code=404, key="not_acting", onward=number, back=who.path)
        abort(404)
    g.viewer = found
    member = session.membership(number)
    if member is not None and member.locked:
        if "text/event-stream" in request.headers.get("Accept", "") or request.headers.get("X-Fragment"):
            abort(401)
        return redirect("/account/security?required=1", 303)
    if not allows(session, number, need):
        return gate.site.page("error.html", 403, code=403, key="role")
    return None
