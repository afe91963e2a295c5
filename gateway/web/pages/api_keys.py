"""API keys of a tenant: made here, shown once, ended here. The same that `gateway api-key` does.

Whoever is signed in to the tenant may do both; each is audited. Read `gateway/domain/api_keys.py` for what a key is.
"""

from functools import partial
from urllib.parse import urlencode

from quart import Blueprint, abort, redirect, request
from quart_trio.wrappers import TrioResponse as Response

from gateway.domain.api_keys import SCOPES, hash_of, hint_of, new_key
from gateway.domain.ids import TenantId
from gateway.domain.secret import Secret
from gateway.store.api_keys import insert_api_key, revoke_api_keys, select_api_keys
from gateway.store.audit import insert_audit
from gateway.store.postgres.pool import Connection
from gateway.web.pages.confirm import confirm_page
from gateway.web.session.auth import Gate
from gateway.web.session.flash import Flash, lead_on, note
from gateway.web.session.surroundings import flashed, look_around
from gateway.web.site import Answer, tenant, viewer

LONGEST_NAME = 100


async def _create(
    conn: Connection, number: TenantId, key_hash: bytes, name: str, scopes: tuple[str, ...], hint: str, person: str
) -> None:
    async with conn.transaction():
        await insert_api_key(conn, number, key_hash, name, scopes, hint)
        await insert_audit(conn, number, person, "api_key.created", hint, ", ".join(scopes))


async def _revoke(conn: Connection, number: TenantId, hint: str, person: str) -> None:
    async with conn.transaction():
        for ended in await revoke_api_keys(conn, number, hint):
            await insert_audit(conn, number, person, "api_key.revoked", ended)


def api_keys_pages(gate: Gate) -> Blueprint:
    """The page `/t/<number>/keys`."""
    pages = Blueprint("api_keys", __name__, url_prefix="/t/<number>/keys")
    pages.before_request(partial(look_around, gate))
    site, db = gate.site, gate.site.deps.db

    def person() -> str:
        session = viewer().session
        assert session is not None
        return session.email

    async def lead(onward: str, flash: Flash) -> Answer:
        return await lead_on(site.deps, gate.token(), onward, flash, tenant=tenant().number)

    @pages.get("")
    async def keys(number: str) -> Response:
        lines = await db.tenant(tenant().number, select_api_keys, tenant().number)
        fresh, refused = flashed("key"), flashed("refused")
        return site.page(
            "api_keys.html", lines=lines, scopes=SCOPES, fresh=fresh.secrets["key"].reveal() if fresh is not None else "",
            problem=refused.body["problem"] if refused is not None else "",
            sent=refused.body if refused is not None else {"name": "", "scopes": [SCOPES[0]]},
        )  # fmt: skip

    @pages.post("")
    async def create(number: str) -> Answer:
        form = await request.form
        name = form.get("name", "").strip()
        scopes = tuple(scope for scope in SCOPES if scope in form.getlist("scope"))
        if not name or len(name) > LONGEST_NAME or not name.isprintable() or not scopes:
            body = {"problem": "bad_key", "name": name[:LONGEST_NAME], "scopes": scopes}
            return await lead(f"/t/{number}/keys", Flash(kind="refused", body=body))
        key = new_key().reveal()
        await db.engine(_create, tenant().number, hash_of(key), name, scopes, hint_of(key), person())
        return await lead(f"/t/{number}/keys", Flash(kind="key", secrets={"key": Secret(key)}))

    @pages.get("/revoke")
    async def confirm_revoke(number: str) -> Response:
        hint, t = request.args.get("hint", ""), viewer().t
        lines = await db.tenant(tenant().number, select_api_keys, tenant().number)
        line = next((line for line in lines if line.hint == hint and not line.revoked_at), None)
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
        await db.engine(_revoke, tenant().number, hint, person())
        return await lead(f"/t/{number}/keys", note("keys.ended"))

    return pages
