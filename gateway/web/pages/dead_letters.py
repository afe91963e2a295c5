"""For operators of the installation: dead letters of every company, with their cause.

A dead letter about a post can be processed again, since the post is still in the journal; any other can be read and dismissed.
Both are audited in the company's trail. Read `gateway/store/dead_letters.py` for what a dead letter is.
"""

from functools import partial
from typing import Any
from urllib.parse import urlencode

from quart import Blueprint, abort, redirect, request
from quart_trio.wrappers import TrioResponse as Response

from gateway.domain.ids import TenantId
from gateway.store.audit import insert_audit
from gateway.store.dead_letters import Letter, count_dead_letters, delete_dead_letter, replay_post, select_dead_letters
from gateway.store.postgres.pool import Connection
from gateway.web.pages.confirm import confirm_page
from gateway.web.session.auth import Gate
from gateway.web.session.flash import lead_on, note
from gateway.web.session.surroundings import look_around
from gateway.web.site import Answer, viewer

PAGE = 50


async def _seen(conn: Connection, tenant: TenantId | None, before: int | None) -> tuple[list[Letter], int]:
    return await select_dead_letters(conn, tenant, before, PAGE + 1), await count_dead_letters(conn)


async def _dismiss(conn: Connection, tenant: TenantId, letter_id: int, person: str) -> bool:
    async with conn.transaction():
        actor = await delete_dead_letter(conn, tenant, letter_id)
        if actor is not None:
            await insert_audit(conn, tenant, person, "letter.dismissed", str(letter_id), actor)
        return actor is not None


async def _process_again(conn: Connection, tenant: TenantId, letter_id: int, person: str) -> bool:
    async with conn.transaction():
        call_id = await replay_post(conn, tenant, letter_id)
        if call_id is not None:
            await insert_audit(conn, tenant, person, "letter.replayed", str(letter_id), call_id)
        return call_id is not None


def dead_letters_pages(gate: Gate) -> Blueprint:
    """The pages below `/operators/letters`."""
    pages = Blueprint("letters", __name__, url_prefix="/operators/letters")
    pages.before_request(partial(look_around, gate))
    site, deps = gate.site, gate.site.deps

    def number_of(text: str) -> int | None:
        return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else None

    @pages.get("")
    async def dead_letters() -> Response:
        only, before = request.args.get("tenant") or None, number_of(request.args.get("before", ""))
        usable = TenantId("".join(c for c in only if c.isprintable())[:32]) if only else None
        found, count = await deps.db.engine(_seen, usable, before)
        older = found[PAGE - 1].letter_id if len(found) > PAGE else None
        return site.page(
            "dead_letters.html", dead_letters=found[:PAGE], count=count, only=usable, older=older, first=not before
        )

    async def chosen(work: Any) -> TenantId:
        form, session = await request.form, viewer().session
        tenant, letter_id = form.get("tenant", ""), number_of(form.get("letter", ""))
        if session is None or letter_id is None or deps.cache.tenant(TenantId(tenant)) is None:
            abort(404)
        if not await deps.db.engine(work, TenantId(tenant), letter_id, session.email):
            abort(404)
        return TenantId(tenant)

    @pages.get("/dismiss")
    async def confirm_dismiss() -> Response:
        number, letter_id, t = request.args.get("tenant", ""), number_of(request.args.get("letter", "")), viewer().t
        if letter_id is None or deps.cache.tenant(TenantId(number)) is None:
            abort(404)
        return confirm_page(
            site, title=t("letters.dismiss_title", number=number), text=t("letters.dismiss_text"),
            action="/operators/letters/dismiss", fields={"tenant": number, "letter": str(letter_id)},
            button=t("letters.dismiss"), back="/operators/letters",
        )  # fmt: skip

    @pages.post("/dismiss")
    async def dismiss() -> Answer:
        form = await request.form
        if form.get("sure") != "1":
            sent = {name: form.get(name, "")[:64] for name in ("tenant", "letter")}
            return redirect(f"/operators/letters/dismiss?{urlencode(sent)}", 303)
        await chosen(_dismiss)
        return await lead_on(deps, gate.token(), "/operators/letters", note("letters.dismissed"))

    @pages.post("/replay")
    async def replay() -> Answer:
        deps.ring_posts(await chosen(_process_again))
        return await lead_on(deps, gate.token(), "/operators/letters", note("letters.replayed"))

    return pages
