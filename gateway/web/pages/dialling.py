"""Click-to-call from our own pages: choose a phone, enter a number, see the outcome.

Whoever is signed in may dial within the same rules and limits as the CRM's users; every refusal states its reason and is
audited. Read `actors/calls/click_to_call.py` for what happens then.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any
from urllib.parse import quote

from quart import Blueprint, request
from quart_trio.wrappers import TrioResponse as Response

from gateway.domain.configuration import Phone
from gateway.domain.dialling import CallRefused, check_own_phone
from gateway.store.audit import insert_audit
from gateway.store.call_orders import select_orders
from gateway.web.session.auth import Gate
from gateway.web.session.flash import Flash, lead_on, note
from gateway.web.session.surroundings import flashed, look_around
from gateway.web.site import Answer, tenant, viewer

SHOWN = 50
REMEMBERED_S = 365 * 86400.0


def _phones() -> list[Phone]:
    """Those from which the viewer may call."""
    only = viewer().only
    return [phone for phone in tenant().phones if only is None or phone.number in only]


def dialling_pages(gate: Gate) -> Blueprint:
    """The page `/t/<number>/dialling`."""
    pages = Blueprint("dialling", __name__, url_prefix="/t/<number>")
    pages.before_request(partial(look_around, gate))
    site, db = gate.site, gate.site.deps.db

    async def orders_of() -> dict[str, Any]:
        orders = await db.tenant(tenant().number, select_orders, tenant().number, SHOWN, viewer().only)
        return {"orders": orders, "moving": any(order.open for order in orders[:5])}

    @pages.get("/dialling")
    async def dialling(number: str) -> Response:
        flash = flashed("refused")
        refused: Mapping[str, Any] = flash.body if flash is not None else {}
        remembered = request.cookies.get(gate.cookie("extension"), "")
        return site.page(
            "dialling.html", refused=refused.get("code", ""), phone=str(refused.get("phone") or request.args.get("phone", ""))[:64],
            mine=refused.get("extension") or remembered, phones=_phones(), **await orders_of(),
        )  # fmt: skip

    @pages.get("/dialling/orders")
    async def orders(number: str) -> Response:
        return site.page("orders.html", **await orders_of())

    @pages.post("/dialling")
    async def dial(number: str) -> Answer:
        form, home = await request.form, f"/t/{quote(number)}/dialling"
        phone, extension = form.get("phone", ""), form.get("extension", "")
        session = viewer().session
        assert session is not None
        try:
            check_own_phone(viewer().only, extension)
            await site.deps.place(tenant(), extension=extension, phone=phone, asked_by=session.email)
        except CallRefused as refused:
            if refused.code == "not_own_phone":  # what else is refused has been audited where it was
                what = f"{extension[:32]} -> {phone[:64]}"
                await db.tenant(
                    tenant().number, insert_audit, tenant().number, session.email, "call.refused", what, refused.code
                )
            body = {"code": refused.code, "phone": phone[:64], "extension": extension[:64]}
            return await lead_on(site.deps, gate.token(), home, Flash(kind="refused", body=body))
        onward = await lead_on(site.deps, gate.token(), home, note("dialling.placed", number=phone[:64]))
        gate.set_cookie(onward, "extension", extension, REMEMBERED_S)
        return onward

    return pages
