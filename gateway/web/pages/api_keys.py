"""API keys of a tenant: made here, shown once, ended here. The same that `gateway api-key` does.

Whoever is signed in to the tenant may do both; each is audited. Read `gateway/domain/api_keys.py` for what a key is.
"""

from quart import Blueprint, redirect, request
from quart_trio.wrappers import TrioResponse as Response

from gateway.domain.api_keys import SCOPES, hash_of, hint_of, new_key
from gateway.domain.ids import TenantId
from gateway.store.api_keys import insert_api_key, revoke_api_keys, select_api_keys
from gateway.store.audit import insert_audit
from gateway.store.postgres.pool import Connection
from gateway.web.session.auth import Gate
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
    pages.before_request(gate.look)
    pages.before_request(gate.needs_tenant)
    site, db = gate.site, gate.site.deps.db

    def person() -> str:
        session = viewer().session
        assert session is not None
        return session.email

    async def show(status: int = 200, fresh: str = "", problem: str = "") -> Response:
        lines = await db.tenant(tenant().number, select_api_keys, tenant().number)
        return site.page("api_keys.html", status, lines=lines, scopes=SCOPES, fresh=fresh, problem=problem)

    @pages.get("")
    async def keys(number: str) -> Response:
        return await show()

    @pages.post("")
    async def create(number: str) -> Response:
        form = await request.form
        name = form.get("name", "").strip()
        scopes = tuple(scope for scope in SCOPES if scope in form.getlist("scope"))
        if not name or len(name) > LONGEST_NAME or not name.isprintable() or not scopes:
            return await show(422, problem="bad_key")
        key = new_key().reveal()
        await db.engine(_create, tenant().number, hash_of(key), name, scopes, hint_of(key), person())
        return await show(fresh=key)

    @pages.post("/revoke")
    async def revoke(number: str) -> Answer:
        hint = (await request.form).get("hint", "")
        await db.engine(_revoke, tenant().number, hint, person())
        return redirect(f"/t/{number}/keys", 303)

    return pages
