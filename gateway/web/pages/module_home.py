"""What the page that an outside system opens shows beside the internal numbers: the connection, what is sent, a test, the last
attempts, saving with registration, deleting.

Whoever came by the link changes what the adapter marks `shared`, and sees how the outside system is reached with secrets masked.
Changing that needs a person's own sign-in, for the link lives for a year in another system's settings. Read `extensions.py` for
the page around it, `gateway/web/session/embedded.py` for the session.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from pydantic import ValidationError
from quart import Blueprint, redirect, request

from actors.connections import integration_status, slot_of_integration
from actors.crm.registration import SyncResult
from adapters.abilities import Registers
from adapters.base import Adapter, AdapterSettings, marked_fields, secret_fields
from adapters.registry import Linked
from gateway.domain.posts import Invalid
from gateway.store.integration_logs import select_recent_logs
from gateway.store.integration_states import mark_tested
from gateway.web.pages.change_settings import SecretsStay, change_settings, settings_of_change
from gateway.web.pages.confirm import confirm_page
from gateway.web.pages.setup import SetupForm
from gateway.web.session.embedded import ModuleGate
from gateway.web.session.flash import Flash, lead_on, note, read_tested, tested_flash
from gateway.web.session.surroundings import flashed
from gateway.web.site import Answer, Site, tenant, viewer
from gateway.web.statuses import known_of

ATTEMPTS = 10
"""So many of the last attempts are shown."""


async def home_of(site: Site, linked: Linked, at: str) -> Mapping[str, Any]:
    """What the page's template draws. `at` is where its forms go."""
    who, model = tenant(), linked.adapter.settings
    link, shared = who.integrations[linked.key], marked_fields(model, "shared")
    form = SetupForm.of(model, link.settings)
    slots = {slot.path: slot for slot in await site.deps.slots(f"tenant/{who.number}")}
    known = (await known_of(site.deps, who.number)).get(linked.key)
    tested, told = flashed("tested"), flashed("told")
    return {
        "at": at,
        "kind": linked.adapter.kind,
        "status": integration_status(slot_of_integration(slots.get, who.number, linked.key), known),
        "reached": [one for one in form.fields if one.shape.required and one.shape.attribute not in shared],
        "switches": [one for one in form.fields if one.shape.attribute in shared],
        "may_save": site.deps.master is not None,
        "registers": linked.adapter.can(Registers),
        "tested": read_tested(tested.body if tested is not None else None),
        "told": told.body if told is not None else None,
        "attempts": await site.deps.db.tenant(who.number, select_recent_logs, who.number, linked.key, None, ATTEMPTS),
    }


def add_home(pages: Blueprint, door: ModuleGate, adapter: Adapter) -> None:
    """The addresses of its buttons, in the blueprint of the module's pages."""
    site = door.gate.site
    deps = site.deps

    def linked() -> Linked:
        session = viewer().session
        assert session is not None
        assert session.scope is not None
        return Linked(session.scope, adapter)

    async def lead(flash: Flash) -> Answer:
        return await lead_on(deps, door.token(), door.page_of(tenant().number), flash)

    async def told(result: SyncResult) -> Answer:
        return await lead(Flash(kind="told", body=asdict(result)))

    @pages.post("/test")
    async def test() -> Answer:
        if (refusal := await door.needs_session()) is not None:
            return refusal
        number, link = tenant().number, tenant().integrations[linked().key]
        found = await deps.probe(number, link, language=viewer().t.language)
        if found.ok:
            await deps.db.tenant(number, mark_tested, number, link.key, passed=True)
        return await lead(tested_flash(found))

    @pages.post("/settings")
    async def settings() -> Answer:
        """Saves what is shared; `do=register` sends the outside system everything in the same step."""
        if (refusal := await door.needs_session()) is not None:
            return refusal
        if deps.master is None:
            return await lead(note("setup.not_here", "warn"))
        form, number, model = await request.form, tenant().number, adapter.settings
        shared, sent = marked_fields(model, "shared"), {name: str(value) for name, value in form.items()}

        def change(stored: Mapping[str, Any]) -> AdapterSettings:
            entered = SetupForm.entered(model, stored, sent)
            values = {**stored, **{name: entered[name] for name in shared if name in entered}}
            return settings_of_change(model, stored, values, secret_fields(model))

        try:
            changed = await change_settings(
                deps.db, deps.master, number, linked().key, change, shared, None, viewer().session_email, model
            )
        except (Invalid, ValidationError, SecretsStay):
            return await lead(note("module.not_valid", "bad"))
        if changed:
            deps.modules.changed(number, linked())
            await deps.modules.refresh(number)
        if form.get("do") == "register" and adapter.can(Registers):
            return await told(await deps.modules.update(number, linked(), viewer().session_email))
        return await lead(note("setup.saved"))

    @pages.get("/delete")
    async def confirm_delete() -> Answer:
        if (refusal := await door.needs_session()) is not None:
            return refusal
        t, back = viewer().t, door.page_of(tenant().number)
        return confirm_page(
            site, title=t("module.delete_title", title=adapter.title), text=t("module.delete_hint", title=adapter.title),
            action=f"{door.home}/delete", fields={}, button=t("module.delete_integration"), back=back,
        )  # fmt: skip

    @pages.post("/delete")
    async def delete() -> Answer:
        """Ends the registration, and with it this session."""
        if (refusal := await door.needs_session()) is not None:
            return refusal
        if (await request.form).get("sure") != "1":
            return redirect(f"{door.home}/delete", 303)
        await deps.modules.deactivate(tenant().number, linked(), viewer().session_email, delete=True)
        return await door.leave()
