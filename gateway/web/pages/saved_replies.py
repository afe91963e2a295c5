"""Saved replies: texts that are sent often, offered in the reply box of the inbox behind a slash. Admins edit them."""

import re
from functools import partial
from uuid import UUID, uuid4

from quart import Blueprint, abort, redirect, request
from quart_trio.wrappers import TrioResponse as Response

from gateway.domain.chats import LONGEST_TEXT
from gateway.domain.ids import TenantId
from gateway.store import saved_replies as store
from gateway.store.audit import difference, insert_audit
from gateway.store.postgres.errors import Conflict
from gateway.store.postgres.pool import Connection
from gateway.web.pages.confirm import confirm_page
from gateway.web.session.auth import Gate
from gateway.web.session.flash import Flash, lead_on, note
from gateway.web.session.surroundings import flashed, look_around
from gateway.web.site import Answer, tenant, viewer

_SHORTCUT = re.compile(r"[^\s/\x00-\x1f\x7f]{1,40}")


def wrong_with(shortcut: str, text: str) -> str:
    """The end of a text's key that says what is wrong; empty where nothing is."""
    if not _SHORTCUT.fullmatch(shortcut):
        return "shortcut"
    return "text" if not text or len(text) > LONGEST_TEXT else ""


async def _save(conn: Connection, number: TenantId, reply: UUID | None, shortcut: str, text: str, by: str) -> str:
    """Stores a reply; None is a new one. Returns what is wrong, or nothing. Raises Conflict for a shortcut that is taken."""
    before = await store.select_saved_reply(conn, number, reply) if reply is not None else None
    if reply is not None and before is None:
        return "gone"
    if not await store.upsert_saved_reply(conn, number, reply or uuid4(), shortcut, text, by):
        return "most"
    old = {"shortcut": before.shortcut, "text": before.text} if before is not None else None
    was, now = difference(old, {"shortcut": shortcut, "text": text})
    await insert_audit(conn, number, by, "saved_reply.saved", shortcut, old=was, new=now)
    return ""


async def _remove(conn: Connection, number: TenantId, reply: UUID, by: str) -> str | None:
    shortcut = await store.delete_saved_reply(conn, number, reply)
    if shortcut is not None:
        await insert_audit(conn, number, by, "saved_reply.removed", shortcut)
    return shortcut


def saved_replies_pages(gate: Gate) -> Blueprint:
    """The pages below `/t/<number>/inbox/replies`."""
    pages = Blueprint("saved_replies", __name__, url_prefix="/t/<number>/inbox/replies")
    pages.before_request(partial(look_around, gate))
    site, db = gate.site, gate.site.deps.db

    def home() -> str:
        return f"/t/{tenant().number}/inbox/replies"

    def sent() -> dict[str, str]:
        """What could not be stored, and why."""
        flash = flashed("refused")
        return {"shortcut": "", "text": "", "code": "", **(flash.body if flash is not None else {})}

    async def known(reply: UUID) -> store.SavedReply:
        found = await db.tenant(tenant().number, store.select_saved_reply, tenant().number, reply)
        if found is None:
            abort(404)
        return found

    @pages.get("")
    async def listed(number: str) -> Response:
        found = await db.tenant(tenant().number, store.select_saved_replies, tenant().number)
        return site.page("saved_replies.html", saved=found, sent=sent(), longest=LONGEST_TEXT)

    @pages.get("/<uuid:reply>")
    async def one(number: str, reply: UUID) -> Response:
        found = await known(reply)
        filled = sent()
        if not filled["code"]:
            filled |= {"shortcut": found.shortcut, "text": found.text}
        return site.page("saved_reply.html", reply=found, sent=filled, longest=LONGEST_TEXT)

    @pages.post("", defaults={"reply": None})
    @pages.post("/<uuid:reply>")
    async def save(number: str, reply: UUID | None) -> Answer:
        form = await request.form
        shortcut = form.get("shortcut", "").strip().removeprefix("/")
        text = form.get("text", "").replace("\r\n", "\n").strip()
        onward = home() if reply is None else f"{home()}/{reply}"
        wrong = wrong_with(shortcut, text)
        if not wrong:
            try:
                wrong = await db.tenant(
                    tenant().number, _save, tenant().number, reply, shortcut, text, viewer().session_email
                )
            except Conflict:
                wrong = "taken"
        if wrong == "gone":
            abort(404)
        if wrong:
            body = {"shortcut": shortcut[:200], "text": text[: 2 * LONGEST_TEXT], "code": wrong}
            return await lead_on(site.deps, gate.token(), onward, Flash(kind="refused", body=body))
        return await lead_on(site.deps, gate.token(), home(), note("saved_replies.saved", shortcut=shortcut))

    @pages.get("/<uuid:reply>/remove")
    async def confirm_remove(number: str, reply: UUID) -> Response:
        found, t = await known(reply), viewer().t
        return confirm_page(
            site, title=t("saved_replies.remove_title", shortcut=found.shortcut), text=t("saved_replies.remove_text"),
            action=f"{home()}/{reply}/remove", fields={}, button=t("saved_replies.remove"), back=f"{home()}/{reply}",
        )  # fmt: skip

    @pages.post("/<uuid:reply>/remove")
    async def remove(number: str, reply: UUID) -> Answer:
        if (await request.form).get("sure") != "1":
            return redirect(f"{home()}/{reply}/remove", 303)
        shortcut = await db.tenant(tenant().number, _remove, tenant().number, reply, viewer().session_email)
        if shortcut is None:
            abort(404)
        return await lead_on(site.deps, gate.token(), home(), note("saved_replies.removed", shortcut=shortcut))

    return pages
