"""The PBXes of a tenant: add, set up, test, watch, switch off, remove; and what to paste on the PBX's side.

Like an integration's page, drawn from the adapter's settings class, the directory and the store. Changes go to rows, and
the actors follow the rows. Read `setup.py` for the form, `adapters/asterisk/` for what its texts come from.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from quart import Blueprint, abort, redirect, request
from quart_trio.wrappers import TrioResponse as Response

from adapters import registry
from adapters.base import GATEWAY_ADDRESS, Adapter, Advice, Tested
from gateway.domain.configuration import Connector
from gateway.domain.ids import Kind, TenantId
from gateway.store.audit import insert_audit
from gateway.store.postgres.pool import Connection
from gateway.store.tenants import PBXES, delete_link, lock_link, set_link_enabled, shown_link
from gateway.web.local_address import ANYWHERE
from gateway.web.pages.change_settings import save_settings
from gateway.web.pages.confirm import confirm_page
from gateway.web.pages.form_rounds import form_at, form_shown, read_round
from gateway.web.pages.integrations import pbx_card, slots_of
from gateway.web.pages.setup import SetupForm
from gateway.web.session.auth import Gate
from gateway.web.session.flash import Flash, lead_on, note, read_tested, tested_flash
from gateway.web.session.surroundings import flashed, look_around
from gateway.web.site import Answer, tenant, viewer

_NAME = re.compile("[0-9A-Za-z_-]{1,32}")
NEW = "new"
"""The address of the form for one that does not exist yet, so no PBX can bear this name."""


async def _switch(conn: Connection, number: TenantId, name: str, enabled: bool, person: str) -> bool:
    known = await lock_link(conn, PBXES, number, name)
    if known is None:
        return False
    await set_link_enabled(conn, PBXES, number, name, enabled)
    action = "pbx.switched_on" if enabled else "pbx.switched_off"
    await insert_audit(
        conn, number, person, action, name, old={"enabled": known.enabled}, new={"enabled": enabled}
    )  # fmt: skip
    return True


async def _delete(conn: Connection, number: TenantId, name: str, person: str) -> None:
    known = await lock_link(conn, PBXES, number, name)
    await delete_link(conn, PBXES, number, name)
    await insert_audit(conn, number, person, "pbx.removed", name, old=shown_link(known) if known is not None else None)


def pbxes_pages(gate: Gate) -> Blueprint:
    """The pages below `/t/<number>/pbxes`."""
    pages = Blueprint("pbxes", __name__, url_prefix="/t/<number>/pbxes")
    pages.before_request(partial(look_around, gate))
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

    async def lead(onward: str, flash: Flash) -> Answer:
        return await lead_on(site.deps, gate.token(), onward, flash, tenant=tenant().number)

    async def advice_of(adapter: Adapter, stored: Mapping[str, Any]) -> Sequence[Advice]:
        if adapter.advice is None:
            return ()
        given = adapter.advice(SetupForm.settings_of(adapter.settings, stored))
        address = await site.deps.local_address(str(stored.get("host") or ANYWHERE), int(stored.get("port") or 5038))
        return [replace(one, block=one.block.replace(GATEWAY_ADDRESS, address or GATEWAY_ADDRESS)) for one in given]

    async def show(name: str) -> Response:
        found, adapter = one(name)
        form, refused = form_shown(adapter.settings, found.settings, "s.")
        tested = flashed("tested")
        return site.page(
            "pbx.html", card=pbx_card(await slots_of(site, tenant().number), tenant().number, found), form=form,
            tested=read_tested(tested.body if tested else None), refused=refused, may_save=site.deps.master is not None,
            advice=await advice_of(adapter, found.settings),
        )  # fmt: skip

    async def probed(name: str, kind: Kind, values: Mapping[str, Any]) -> Tested:
        link = Connector(name, kind, values)
        return await site.deps.probe(tenant().number, link, language=viewer().t.language)

    @pages.get(f"/{NEW}")
    async def new(number: str) -> Response:
        adapter, flash = kinds[first], flashed("form")
        form, refused = form_shown(adapter.settings, {}, "s.")
        name = flash.body["name"] if flash is not None else "" if tenant().pbxes else "main"
        problem = viewer().t(flash.body["problem"]) if flash is not None and flash.body["problem"] else ""
        return site.page(
            "pbx_new.html", form=form, refused=refused, name=name, problem=problem, title=adapter.title,
            may_save=site.deps.master is not None, advice=await advice_of(adapter, {}),
        )  # fmt: skip

    @pages.post(f"/{NEW}")
    async def add(number: str) -> Answer:
        if site.deps.master is None:
            abort(404)
        name = (await request.form).get("name", "").strip()
        problem = ""
        if not _NAME.fullmatch(name) or name == NEW:
            problem = "pbx.bad_name"
        elif any(pbx.name == name for pbx in tenant().pbxes):
            problem = "pbx.name_taken"
        accepted, flash = await read_round(
            gate, kinds[first].settings, {}, partial(probed, name, first), at="s.",
            more={"name": name[:64], "problem": problem},
        )  # fmt: skip
        if accepted is None:
            return await lead(f"/t/{number}/pbxes/{NEW}", flash)
        link = Connector(name, first, {})
        await save_settings(db, site.deps.master, PBXES, tenant().number, link, accepted, person())
        await site.deps.modules.refresh(tenant().number)
        return await lead(f"/t/{number}/pbxes/{name}?saved=1", note("setup.saved"))

    @pages.get("/<name>")
    async def pbx(number: str, name: str) -> Response:
        if request.args.get("saved") and all(known.name != name for known in tenant().pbxes):
            # The row is there; the copy in memory follows within a moment.
            return site.page("pbx_soon.html", 200, name=name[:32])
        return await show(name)

    @pages.get("/<name>/health")
    async def health(number: str, name: str) -> Response:
        found, _ = one(name)
        return site.page(
            "pbx_health.html", card=pbx_card(await slots_of(site, tenant().number), tenant().number, found)
        )

    @pages.post("/<name>/settings")
    async def settings(number: str, name: str) -> Answer:
        found, adapter = one(name)
        if site.deps.master is None:
            abort(404)
        probe = partial(probed, name, found.kind) if found.enabled else None
        accepted, flash = await read_round(gate, adapter.settings, found.settings, probe, at="s.")
        if accepted is None:
            return await lead(form_at(f"/t/{number}/pbxes/{name}", flash), flash)
        await save_settings(db, site.deps.master, PBXES, tenant().number, found, accepted, person())
        await site.deps.modules.refresh(tenant().number)
        return await lead(f"/t/{number}/pbxes/{name}", note("setup.saved"))

    @pages.post("/<name>/test")
    async def test(number: str, name: str) -> Answer:
        found, _ = one(name)
        tested = await site.deps.probe(tenant().number, found, language=viewer().t.language)
        return await lead(f"/t/{number}/pbxes/{name}", tested_flash(tested))

    @pages.post("/<name>/switch")
    async def switch(number: str, name: str) -> Answer:
        enabled = (await request.form).get("enabled") == "1"
        if not await db.tenant(tenant().number, _switch, tenant().number, name, enabled, person()):
            abort(404)
        await site.deps.modules.refresh(tenant().number)
        message = note("integration.switched_on" if enabled else "integration.switched_off")
        return await lead(f"/t/{number}/pbxes/{name}", message)

    @pages.get("/<name>/remove")
    async def confirm_remove(number: str, name: str) -> Response:
        one(name)
        t, home = viewer().t, f"/t/{number}/pbxes/{name}"
        return confirm_page(
            site, title=t("pbx.remove_title", name=name), text=t("pbx.remove_text"), action=f"{home}/remove", fields={},
            button=t("pbx.remove"), back=home,
        )  # fmt: skip

    @pages.post("/<name>/remove")
    async def remove(number: str, name: str) -> Answer:
        one(name)
        if (await request.form).get("sure") != "1":
            return redirect(f"/t/{number}/pbxes/{name}/remove", 303)
        await db.tenant(tenant().number, _delete, tenant().number, name, person())
        await site.deps.modules.refresh(tenant().number)
        return await lead(f"/t/{number}/integrations", note("pbx.removed", name=name))

    return pages
