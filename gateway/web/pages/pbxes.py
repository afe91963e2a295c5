"""The PBXes of a tenant: add, set up, test, watch, switch off, remove; and what to paste on the PBX's side.

Like an integration's page, drawn from the adapter's settings class, the directory and the store. Changes go to rows, and
the actors follow the rows. Read `setup.py` for the form, `adapters/asterisk/` for what its texts come from.
"""

import re

from quart import Blueprint, abort, redirect, request
from quart_trio.wrappers import TrioResponse as Response

from adapters import registry
from adapters.base import Adapter, Tested
from gateway.domain.configuration import Connector
from gateway.domain.ids import TenantId
from gateway.store.audit import insert_audit
from gateway.store.postgres.pool import Connection
from gateway.store.tenants import PBXES, delete_link, set_link_enabled
from gateway.web.pages.change_settings import save_settings
from gateway.web.pages.integrations import pbx_card, slots_of
from gateway.web.pages.setup import SetupForm
from gateway.web.session.auth import Gate
from gateway.web.site import Answer, tenant, viewer

_NAME = re.compile("[0-9A-Za-z_-]{1,32}")
NEW = "new"
"""The address of the form for one that does not exist yet, so no PBX can bear this name."""


async def _switch(conn: Connection, number: TenantId, name: str, enabled: bool, person: str) -> bool:
    found = await set_link_enabled(conn, PBXES, number, name, enabled)
    if found:
        await insert_audit(conn, number, person, "pbx.switched_on" if enabled else "pbx.switched_off", name)
    return found


async def _delete(conn: Connection, number: TenantId, name: str, person: str) -> None:
    await delete_link(conn, PBXES, number, name)
    await insert_audit(conn, number, person, "pbx.removed", name)


def pbxes_pages(gate: Gate) -> Blueprint:
    """The pages below `/t/<number>/pbxes`."""
    pages = Blueprint("pbxes", __name__, url_prefix="/t/<number>/pbxes")
    pages.before_request(gate.look)
    pages.before_request(gate.needs_tenant)
    site, db = gate.site, gate.site.deps.db
    kinds = {kind: adapter for kind, adapter in registry.adapters().items() if adapter.is_pbx}
    first = next(iter(kinds))

    def one(name: str) -> tuple[Connector, Adapter]:
        found = next((pbx for pbx in tenant().pbxes if pbx.name == name), None)
        adapter = kinds.get(found.kind) if found is not None else None
        if found is None or adapter is None:
            abort(404)
        return found, adapter

    def person() -> str:
        session = viewer().session
        assert session is not None
        return session.email

    async def show(
        name: str, status: int = 200, tested: Tested | None = None, form: SetupForm | None = None
    ) -> Response:
        found, adapter = one(name)
        entered = form.settings if form is not None else None
        if form is None:
            form = SetupForm.of(adapter.settings, found.settings)
        return site.page(
            "pbx.html", status, card=pbx_card(await slots_of(site, tenant().number), tenant().number, found), form=form, tested=tested,
            may_save=site.deps.master is not None,
            advice=adapter.advice(entered or SetupForm.settings_of(adapter.settings, found.settings))
            if adapter.advice is not None else (),
        )  # fmt: skip

    def show_new(status: int = 200, form: SetupForm | None = None, name: str = "", problem: str = "") -> Response:
        adapter = kinds[first]
        return site.page(
            "pbx_new.html", status, form=form or SetupForm.of(adapter.settings, {}), name=name, problem=problem,
            title=adapter.title, may_save=site.deps.master is not None,
            advice=adapter.advice(form.settings if form is not None else None) if adapter.advice is not None else (),
        )  # fmt: skip

    @pages.get(f"/{NEW}")
    async def new(number: str) -> Response:
        return show_new(name="" if tenant().pbxes else "main")

    @pages.post(f"/{NEW}")
    async def add(number: str) -> Answer:
        if site.deps.master is None:
            abort(404)
        sent = await request.form
        name = sent.get("name", "").strip()
        form = SetupForm.of(kinds[first].settings, {}, sent, at="s.")
        problem = ""
        if not _NAME.fullmatch(name) or name == NEW:
            problem = viewer().t("pbx.bad_name")
        elif any(pbx.name == name for pbx in tenant().pbxes):
            problem = viewer().t("pbx.name_taken")
        if form.settings is None or problem:
            return show_new(422, form, name[:64], problem)
        await save_settings(
            db, site.deps.master, PBXES, tenant().number, Connector(name, first, {}), form.settings, person()
        )
        return redirect(f"/t/{number}/pbxes/{name}?saved=1", 303)

    @pages.get("/<name>")
    async def pbx(number: str, name: str) -> Response:
        if request.args.get("saved") and all(known.name != name for known in tenant().pbxes):
            # The row is there; the copy in memory follows within a moment.
            return site.page("pbx_soon.html", 200, name=name[:32])
        return await show(name)

    @pages.post("/<name>/settings")
    async def settings(number: str, name: str) -> Answer:
        found, adapter = one(name)
        if site.deps.master is None:
            abort(404)
        form = SetupForm.of(adapter.settings, found.settings, await request.form, at="s.")
        if form.settings is None:
            return await show(name, 422, form=form)
        await save_settings(db, site.deps.master, PBXES, tenant().number, found, form.settings, person())
        return redirect(f"/t/{number}/pbxes/{name}?saved=1", 303)

    @pages.post("/<name>/test")
    async def test(number: str, name: str) -> Response:
        found, _ = one(name)
        return await show(name, tested=await site.deps.probe(tenant().number, found))

    @pages.post("/<name>/switch")
    async def switch(number: str, name: str) -> Answer:
        enabled = (await request.form).get("enabled") == "1"
        if not await db.tenant(tenant().number, _switch, tenant().number, name, enabled, person()):
            abort(404)
        return redirect(f"/t/{number}/pbxes/{name}", 303)

    @pages.post("/<name>/remove")
    async def remove(number: str, name: str) -> Answer:
        one(name)
        if (await request.form).get("sure") != "1":
            return redirect(f"/t/{number}/pbxes/{name}", 303)
        await db.tenant(tenant().number, _delete, tenant().number, name, person())
        return redirect(f"/t/{number}/integrations", 303)

    return pages
