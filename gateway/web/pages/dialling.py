"""Click-to-call from our own pages: choose a phone, enter a number, see the outcome. And the audit trail.

Whoever is signed in may dial within the same rules and limits as the CRM's users; every refusal states its reason and is
audited. Read `actors/calls/click_to_call.py` for what happens then.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any
from urllib.parse import quote

from quart import Blueprint, request
from quart_trio.wrappers import TrioResponse as Response

from adapters.abilities import statuses_of
from adapters.base import Adapter
from adapters.registry import adapters
from gateway.domain.configuration import Phone
from gateway.domain.dialling import CallRefused, check_own_phone
from gateway.domain.ids import Kind
from gateway.store.audit import AuditLine, insert_audit, select_audit
from gateway.store.call_orders import select_orders
from gateway.web.pages.change_settings import CHANGED_MARK
from gateway.web.session.auth import Gate
from gateway.web.session.flash import Flash, lead_on, note
from gateway.web.session.surroundings import flashed, look_around
from gateway.web.site import Answer, older_than, tenant, viewer
from gateway.web.translations import Words

SHOWN = 50
REMEMBERED_S = 365 * 86400.0


def audit_texts(line: AuditLine, t: Words) -> tuple[str, str]:
    """Target and detail of a line as a person reads them: names of systems and of settings instead of codes."""
    known = adapters()
    target = found.title if (found := known.get(Kind(line.target.partition(":")[0]))) is not None else line.target
    match line.action:
        case "call.refused":
            return target, t.code("refused", line.detail)
        case "status.set":
            words = (one for adapter in known.values() for one in statuses_of(adapter) if one.word == line.detail)
            status = next(words, None)
            return target, status.label[t.language] if status is not None else line.detail
        case "api_key.created":
            return target, ", ".join(t.code("keys", f"scope_{scope}") for scope in line.detail.split(", "))
        case "config.changed" | "pbx.changed" if line.detail:
            owner = found or next((one for one in known.values() if one.is_pbx), None)
            return target, ", ".join(_changed_setting(part, owner, t) for part in line.detail.split(", "))
        case _:
            return target, line.detail


def _changed_setting(part: str, owner: Adapter | None, t: Words) -> str:
    """`api_key: *** -> *** changed`, `domain` or `enabled: true` in the reader's words."""
    name, colon, rest = part.partition(": ")
    if name == "enabled":
        return t("audit.off" if rest == "false" else "audit.on")
    fields = owner.settings.model_fields if owner is not None else {}
    info = next((info for field, info in fields.items() if name in (field, info.alias)), None)
    extra = info.json_schema_extra if info is not None and isinstance(info.json_schema_extra, dict) else {}
    label = extra.get("label")
    shown = str(label[t.language]) if isinstance(label, dict) and t.language in label else name
    return f"{shown}: {t('audit.secret_changed')}" if colon and rest in CHANGED_MARK else shown


def _phones() -> list[Phone]:
    """Those from which the viewer may call."""
    only = viewer().only
    return [phone for phone in tenant().phones if only is None or phone.number in only]


def dialling_pages(gate: Gate) -> Blueprint:
    """The pages `/t/<number>/dialling` and `/t/<number>/audit`."""
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

    @pages.get("/audit")
    async def audit(number: str) -> Response:
        who = tenant()
        before = request.args.get("before", "")
        lines = await db.tenant(who.number, select_audit, who.number, older_than(before), SHOWN + 1)
        t = viewer().t
        return site.page(
            "audit.html", home=f"/t/{who.number}", lines=[(line, *audit_texts(line, t)) for line in lines[:SHOWN]], older=lines[SHOWN - 1].audit_id if len(lines) > SHOWN else None,
            first=not before,
        )  # fmt: skip

    return pages
