"""API keys of a tenant: made here, shown once, replaced and ended here. The same that `gateway api-key` does.

Whoever is signed in to the tenant may do both; each is audited. Read `gateway/domain/api_keys.py` for what a key is.
"""

from datetime import UTC, datetime, timedelta
from functools import partial
from urllib.parse import urlencode

from quart import Blueprint, abort, redirect, request
from quart_trio.wrappers import TrioResponse as Response

from gateway.domain.api_keys import LONGEST_NAME, SCOPES, KeyOwner, new_key
from gateway.domain.people import Role
from gateway.domain.secret import Secret
from gateway.store.api_keys import ApiKeyLine, select_api_keys
from gateway.store.members import list_members
from gateway.web.callers.key_changes import create_key, revoke_keys, rotate_key
from gateway.web.pages.confirm import confirm_page
from gateway.web.session.auth import Gate
from gateway.web.session.flash import Flash, lead_on, note
from gateway.web.session.surroundings import flashed, look_around
from gateway.web.site import Answer, tenant, viewer

LIFETIMES = ("", "30", "90", "365")
"""Days that the page offers; the first is for ever."""


def api_keys_pages(gate: Gate) -> Blueprint:
    """The page `/t/<number>/keys`."""
    pages = Blueprint("api_keys", __name__, url_prefix="/t/<number>/keys")
    pages.before_request(partial(look_around, gate))
    site, db = gate.site, gate.site.deps.db

    def person() -> str:
        session = viewer().session
        assert session is not None
        return session.email

    def owner() -> KeyOwner:
        acting = viewer().acting
        return KeyOwner("operator" if acting is not None and acting.tenant == tenant().number else "person", person())

    async def in_force(hint: str) -> ApiKeyLine | None:
        lines = await db.tenant(tenant().number, select_api_keys, tenant().number)
        return next((line for line in lines if line.hint == hint and line.in_force(datetime.now(UTC))), None)

    async def lead(onward: str, flash: Flash) -> Answer:
        return await lead_on(site.deps, gate.token(), onward, flash, tenant=tenant().number)

    @pages.get("")
    async def keys(number: str) -> Response:
        lines = await db.tenant(tenant().number, select_api_keys, tenant().number)
        admins = {one.email for one in await db.engine(list_members, tenant().number) if one.role is Role.ADMIN}
        fresh, refused = flashed("key"), flashed("refused")
        return site.page(
            "api_keys.html", lines=lines, scopes=SCOPES, fresh=fresh.secrets["key"].reveal() if fresh is not None else "",
            problem=refused.body["problem"] if refused is not None else "", lifetimes=LIFETIMES,
            sent=refused.body if refused is not None else {"name": "", "scopes": [SCOPES[0]], "days": ""},
            lost={line.key_id for line in lines if line.owner.kind == "person" and line.owner.name not in admins},
            now=datetime.now(UTC),
        )  # fmt: skip

    @pages.post("")
    async def create(number: str) -> Answer:
        form = await request.form
        name = form.get("name", "").strip()
        scopes = tuple(scope for scope in SCOPES if scope in form.getlist("scope"))
        days = form.get("days", "")
        if not name or len(name) > LONGEST_NAME or not name.isprintable() or not scopes or days not in LIFETIMES:
            body = {"problem": "bad_key", "name": name[:LONGEST_NAME], "scopes": scopes, "days": days[:4]}
            return await lead(f"/t/{number}/keys", Flash(kind="refused", body=body))
        key, ends = new_key(), datetime.now(UTC) + timedelta(days=int(days)) if days else None
        await db.engine(create_key, tenant().number, key, name, scopes, ends, person(), owner())
        return await lead(f"/t/{number}/keys", Flash(kind="key", secrets={"key": Secret(key.reveal())}))

    @pages.get("/rotate")
    async def confirm_rotate(number: str) -> Response:
        hint, t = request.args.get("hint", ""), viewer().t
        line = await in_force(hint)
        if line is None or line.rotated_at:
            abort(404)
        return confirm_page(
            site, title=t("keys.rotate_title", name=line.name), text=t("keys.rotate_text"),
            action=f"/t/{number}/keys/rotate", fields={"hint": hint}, button=t("keys.rotate"), back=f"/t/{number}/keys",
        )  # fmt: skip

    @pages.post("/rotate")
    async def rotate(number: str) -> Answer:
        form = await request.form
        hint = form.get("hint", "")
        if form.get("sure") != "1":
            return redirect(f"/t/{number}/keys/rotate?{urlencode({'hint': hint[:64]})}", 303)
        line, key = await in_force(hint), new_key()
        if (
            line is None
            or await db.engine(rotate_key, tenant().number, line.key_id, hint, key, person(), owner()) is None
        ):
            return await lead(f"/t/{number}/keys", note("keys.not_rotated", "bad"))
        return await lead(f"/t/{number}/keys", Flash(kind="key", secrets={"key": Secret(key.reveal())}))

    @pages.get("/revoke")
    async def confirm_revoke(number: str) -> Response:
        hint, t = request.args.get("hint", ""), viewer().t
        line = await in_force(hint)
        if line is None:
            abort(404)
        return confirm_page(
            site, title=t("keys.revoke_title", name=line.name), text=t("keys.revoke_text"),
            action=f"/t/{number}/keys/revoke", fields={"hint": hint}, button=t("keys.revoke"), back=f"/t/{number}/keys",
        )  # fmt: skip

    @pages.post("/revoke")
    async def revoke(number: str) -> Answer:
        form = await request.form
        hint = form.get("hint", "")
        if form.get("sure") != "1":
            return redirect(f"/t/{number}/keys/revoke?{urlencode({'hint': hint[:64]})}", 303)
        await db.engine(revoke_keys, tenant().number, hint, person())
        return await lead(f"/t/{number}/keys", note("keys.ended"))

    return pages
