"""Click-to-call from our own pages: choose your phone, enter a number, and see what became of it. And the audit trail.

Whoever is signed in may dial within the same rules and limits as the CRM's users; every refusal says why and is audited.
Read `actors/calls/click_to_call.py` for what happens then.
"""

from urllib.parse import quote

from quart import Blueprint, redirect, request
from quart_trio.wrappers import TrioResponse as Response

from gateway.domain.dialling import CallRefused
from gateway.store.audit import select_audit
from gateway.store.call_orders import select_orders
from gateway.web.session.auth import Gate
from gateway.web.site import Answer, older_than, tenant, viewer

SHOWN = 50
REMEMBERED_S = 365 * 86400.0


def dialling_pages(gate: Gate) -> Blueprint:
    """The pages `/t/<number>/dialling` and `/t/<number>/audit`."""
    pages = Blueprint("dialling", __name__, url_prefix="/t/<number>")
    pages.before_request(gate.look)
    pages.before_request(gate.needs_tenant)
    site, db = gate.site, gate.site.deps.db

    async def show(status: int = 200, refused: CallRefused | None = None, phone: str = "", mine: str = "") -> Response:
        who = tenant()
        orders = await db.tenant(who.number, select_orders, who.number, SHOWN)
        remembered = request.cookies.get(gate.cookie("extension"), "")
        return site.page(
            "dialling.html", status, orders=orders, refused=refused, phone=phone[:64], mine=mine or remembered,
            moving=any(order.open for order in orders[:5]),
        )  # fmt: skip

    @pages.get("/dialling")
    async def dialling(number: str) -> Response:
        return await show(phone=request.args.get("phone", ""))

    @pages.post("/dialling")
    async def dial(number: str) -> Answer:
        form = await request.form
        phone, extension = form.get("phone", ""), form.get("extension", "")
        session = viewer().session
        assert session is not None
        try:
            await site.deps.place(tenant(), extension=extension, phone=phone, asked_by=session.email)
        except CallRefused as refused:
            answer = await show(429 if refused.retry_after_s else 422, refused, phone, extension)
            if refused.retry_after_s:
                answer.headers["Retry-After"] = str(round(refused.retry_after_s))
            return answer
        onward = redirect(f"/t/{quote(number)}/dialling", 303)
        gate.set_cookie(onward, "extension", extension, REMEMBERED_S)
        return onward

    @pages.get("/audit")
    async def audit(number: str) -> Response:
        who = tenant()
        before = request.args.get("before", "")
        lines = await db.tenant(who.number, select_audit, who.number, older_than(before), SHOWN + 1)
        return site.page(
            "audit.html", lines=lines[:SHOWN], older=lines[SHOWN - 1].audit_id if len(lines) > SHOWN else None,
            first=not before,
        )  # fmt: skip

    return pages
