"""Links to outside systems: a card each, then a page each with its health, its outbox, its log, a test and a switch.

Everything is drawn from the registry, the directory and the store: no outside system is known here by name. The switch
changes a row, and the actors follow the row. Read `setup.py` next for the set-up form.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from quart import Blueprint, abort, redirect, request
from quart_trio.wrappers import TrioResponse as Response

from actors.connections import integration_status, pbx_status, slot_of_integration
from actors.crm.disconnecting import disconnect
from actors.runtime.directory import Slot
from adapters import registry
from adapters.abilities import ReadsFields, Registers
from adapters.base import PUBLIC_URL, SystemType, Tested
from adapters.registry import Linked
from gateway.domain.configuration import Connector, integration
from gateway.domain.health import Health, State
from gateway.domain.hooks import frame_url, hook_url
from gateway.domain.ids import IntegrationKey, Kind, TenantId, integration_key, kind_of, titled
from gateway.domain.posts import Invalid
from gateway.domain.secret import Secret
from gateway.domain.statuses import Known, Status
from gateway.store import integration_logs
from gateway.store.audit import insert_audit
from gateway.store.integration_jobs import JobRow, hasten_job, select_jobs
from gateway.store.integration_states import mark_tested, select_known
from gateway.store.postgres.pool import Connection
from gateway.store.tenants import INTEGRATIONS, lock_link, set_link_enabled
from gateway.web.pages.change_settings import save_settings
from gateway.web.pages.confirm import confirm_page
from gateway.web.pages.form_rounds import form_at, form_shown, read_round, with_problems
from gateway.web.pages.setup import SetupForm
from gateway.web.session.auth import Gate
from gateway.web.session.flash import Flash, lead_on, note, read_tested, tested_flash
from gateway.web.session.surroundings import flashed, look_around
from gateway.web.site import Answer, Site, older_than, tenant, viewer
from gateway.web.statuses import warnings_of

LOG_PAGE = 50
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One PBX or integration as its card shows it."""

    kind: Kind
    name: str
    """A PBX's name; an integration's key."""
    title: str
    given: str = ""
    """What the company calls an integration, where it has said so."""
    type: SystemType
    href: str
    login: bool = False
    """Whether a person can sign in to it."""
    maps: bool = False
    """Whether it has a page of field mapping."""
    set_up: bool = True
    enabled: bool = True
    health: Health
    status: Status
    restarts: int = 0
    figures: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[Any] = ()
    unlisted: Sequence[Mapping[str, Any]] = ()
    """Internal numbers seen on a PBX that the company does not list: `number`, `device`, `at`."""
    """PBX events that were ignored, newest first, with the reason."""
    outbox: integration_logs.OutboxFigures = field(default_factory=integration_logs.OutboxFigures)
    hour: Mapping[str, int] = field(default_factory=dict)
    last: integration_logs.LogLine | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """What the store knows of a tenant's integrations."""

    known: Mapping[IntegrationKey, Known]

    switches: Mapping[str, bool]
    outbox: Mapping[str, integration_logs.OutboxFigures]
    hour: Mapping[str, Mapping[str, int]]
    last: Mapping[str, integration_logs.LogLine]


async def _stored(conn: Connection, number: TenantId, since: datetime) -> Stored:
    return Stored(
        await select_known(conn, number),
        await integration_logs.select_switches(conn, number),
        await integration_logs.select_outbox_figures(conn, number),
        await integration_logs.count_recent_logs(conn, number, since),
        await integration_logs.select_last_logs(conn, number),
    )


async def _switch(conn: Connection, number: TenantId, key: IntegrationKey, enabled: bool, person: str) -> bool:
    known = await lock_link(conn, INTEGRATIONS, number, key)
    if known is None:
        return False
    await set_link_enabled(conn, INTEGRATIONS, number, key, enabled)
    await insert_audit(
        conn, number, person, "config.changed", key, "enabled: " + ("true" if enabled else "false"),
        old={"enabled": known.enabled}, new={"enabled": enabled},
    )  # fmt: skip
    return True


async def _stored_and_logs(
    conn: Connection, number: TenantId, key: str, since: datetime, before: int | None
) -> tuple[Stored, list[integration_logs.LogLine], list[JobRow]]:
    stored = await _stored(conn, number, since)
    lines = await integration_logs.select_recent_logs(conn, number, key, before, LOG_PAGE + 1)
    return stored, lines, await select_jobs(conn, number, IntegrationKey(key))


async def slots_of(site: Site, number: TenantId) -> Mapping[str, Slot]:
    """A tenant's actors by their paths."""
    return {slot.path: slot for slot in await site.deps.slots(f"tenant/{number}")}


def _alive(slot: Slot | None, *, set_up: bool, enabled: bool) -> tuple[Health, int, Mapping[str, Any]]:
    """The health of an actor, or why there is none; its restarts and figures."""
    if slot is not None and enabled:
        return slot.health, slot.restarts, slot.figures() if slot.figures is not None else {}
    code = "not_running" if enabled else "switched_off"
    return Health(state=State.STOPPED, since=LONG_AGO, code=code if set_up else "not_set_up"), 0, {}


def pbx_card(slots: Mapping[str, Slot], number: TenantId, pbx: Connector) -> Card:
    """The card of one PBX."""
    adapter = registry.adapters().get(pbx.kind)
    slot = slots.get(f"tenant/{number}/pbx/{pbx.name}")
    health, restarts, found = _alive(slot, set_up=True, enabled=pbx.enabled)
    figures = dict(found)
    notes, unlisted = figures.pop("ignored", ()), figures.pop("unlisted", ())
    return Card(
        kind=pbx.kind, name=pbx.name, title=adapter.title if adapter is not None else pbx.kind,
        type="pbx", href=f"/t/{number}/pbxes/{pbx.name}", enabled=pbx.enabled, health=health, restarts=restarts, figures=figures,
        notes=notes, unlisted=unlisted, status=pbx_status(slot, enabled=pbx.enabled),
    )  # fmt: skip


def _card(slots: Mapping[str, Slot], number: TenantId, linked: Linked, stored: Stored) -> Card:
    key = linked.key
    set_up, enabled = key in stored.switches, stored.switches.get(key, False)
    slot = slot_of_integration(slots.get, number, key)
    health, restarts, figures = _alive(slot, set_up=set_up, enabled=enabled)
    return Card(
        kind=linked.adapter.kind, name=key, title=titled(linked.adapter.title, key),
        given=stored.known[key].name if key in stored.known else "", type=linked.adapter.type, href=f"/t/{number}/integrations/{key}", set_up=set_up, enabled=enabled, health=health, restarts=restarts,
        figures=figures, outbox=stored.outbox.get(key, integration_logs.OutboxFigures()), hour=stored.hour.get(key, {}),
        last=stored.last.get(key), status=integration_status(slot, stored.known.get(key)), login=linked.adapter.login is not None, maps=linked.adapter.can(ReadsFields) and linked.key in stored.switches,
    )  # fmt: skip


def _linked(text: str) -> Linked:
    """The integration of this key, set up or not; 404 for a key of no adapter."""
    try:
        key = integration_key(text)
    except ValueError:
        abort(404)
    adapter = registry.integrations().get(kind_of(key))
    if adapter is None:
        abort(404)
    return Linked(key, adapter)


def _shown(stored: Stored) -> list[Linked]:
    """Every integration that is set up, by kind; and those kinds of which there is none yet."""
    found = []
    for kind, adapter in registry.integrations().items():
        keys = sorted(IntegrationKey(key) for key in stored.switches if kind_of(IntegrationKey(key)) == kind)
        found += [Linked(key, adapter) for key in keys or [IntegrationKey(kind)]]
    return found


def integrations_pages(gate: Gate) -> Blueprint:
    """The pages below `/t/<number>/integrations`."""
    pages = Blueprint("integrations", __name__, url_prefix="/t/<number>")
    pages.before_request(partial(look_around, gate))
    site, db = gate.site, gate.site.deps.db

    def person() -> str:
        session = viewer().session
        assert session is not None
        return session.email

    def hour_ago() -> datetime:
        return datetime.now(UTC) - timedelta(hours=1)

    async def lead(onward: str, flash: Flash) -> Answer:
        return await lead_on(site.deps, gate.token(), onward, flash, tenant=tenant().number)

    async def show(key: str) -> Response:
        linked, who = _linked(key), tenant()
        adapter = linked.adapter
        module = await site.deps.modules.stored(who.number, linked) if adapter.can(Registers) else None
        before = request.args.get("before", "")
        stored, lines, jobs = await db.tenant(
            who.number, _stored_and_logs, who.number, key, hour_ago(), older_than(before)
        )
        card = _card(await slots_of(site, who.number), who.number, linked, stored)
        form, refused = form_shown(adapter.settings, who.integrations.get(linked.key, _NOT_SET_UP).settings)
        tested, result = flashed("tested"), flashed("told")
        stored_hook = known.settings.get(adapter.hook_id_field) if (known := who.integrations.get(linked.key)) else None
        framed = adapter.frame is not None and adapter.inbound is None
        address = frame_url if framed else hook_url
        hook = (
            address(site.deps.public_url, linked.key, stored_hook).reveal() if isinstance(stored_hook, Secret) else ""
        )
        advice = (
            adapter.advice(SetupForm.settings_of(adapter.settings, known.settings))
            if adapter.advice is not None and known
            else ()
        )
        public_url = site.deps.public_url.rstrip("/")
        return site.page(
            "integration.html",
            advice=[replace(one, block=one.block.replace(PUBLIC_URL, public_url)) for one in advice],
            card=card, lines=lines[:LOG_PAGE], tested=read_tested(tested.body if tested else None),
            form=form, refused=refused, older=lines[LOG_PAGE - 1].log_id if len(lines) > LOG_PAGE else None,
            first=not before, may_save=site.deps.master is not None, module=module if card.set_up else None,
            told=result.body if result is not None else None, hook=hook, framed=framed, jobs=jobs if card.set_up else (),
        )  # fmt: skip

    async def all_cards() -> dict[str, Any]:
        who = tenant()
        stored = await db.tenant(who.number, _stored, who.number, hour_ago())
        slots = await slots_of(site, who.number)
        return {
            "pbxes": [pbx_card(slots, who.number, pbx) for pbx in who.pbxes],
            "cards": [_card(slots, who.number, linked, stored) for linked in _shown(stored)],
        }

    async def overview(status: int = 200, another: Mapping[str, Any] | None = None) -> Response:
        kinds = list(registry.integrations().values())
        given = another or {"kind": "", "name": "", "wrong": False}
        return site.page("integrations.html", status, kinds=kinds, another=given, **await all_cards())

    @pages.get("/troubles")
    async def trouble_banner(number: str) -> Response:
        return site.page("troubles.html", warnings=await warnings_of(site.deps, tenant()))

    @pages.get("/integrations/cards")
    async def cards(number: str) -> Response:
        return site.page("integration_cards.html", **await all_cards())

    @pages.get("/integrations")
    async def integrations(number: str) -> Response:
        return await overview()

    @pages.get("/integrations/another")
    async def another(number: str) -> Answer:
        """Leads to the form of a further integration of a kind, by the name a person gave it."""
        kind, name = (request.args.get(field, "").strip()[:64] for field in ("kind", "name"))
        if kind not in registry.integrations():
            abort(404)
        try:
            found = integration_key(f"{kind}:{name.lower()}")
        except ValueError:
            return await overview(422, {"kind": kind, "name": name, "wrong": True})
        return redirect(f"/t/{number}/integrations/{found}", 303)

    @pages.get("/integrations/<key>")
    async def one(number: str, key: str) -> Response:
        return await show(key)

    @pages.get("/integrations/<key>/health")
    async def health(number: str, key: str) -> Response:
        linked, who = _linked(key), tenant()
        stored = await db.tenant(who.number, _stored, who.number, hour_ago())
        card = _card(await slots_of(site, who.number), who.number, linked, stored)
        return site.page("integration_health.html", card=card)

    @pages.post("/integrations/<key>/test")
    async def test(number: str, key: str) -> Answer:
        link = tenant().integrations.get(_linked(key).key)
        tested = Tested(ok=False, code="not_configured")
        if link is not None:
            tested = await site.deps.probe(tenant().number, link, language=viewer().t.language)
            if tested.ok:
                await db.tenant(tenant().number, mark_tested, tenant().number, link.key, passed=True)
        return await lead(f"/t/{number}/integrations/{key}", tested_flash(tested))

    @pages.post("/integrations/<key>/switch")
    async def switch(number: str, key: str) -> Answer:
        enabled = (await request.form).get("enabled") == "1"
        who = tenant()
        if not await db.tenant(who.number, _switch, who.number, _linked(key).key, enabled, person()):
            abort(404)
        await site.deps.modules.refresh(who.number)
        message = note("integration.switched_on" if enabled else "integration.switched_off")
        return await lead(f"/t/{number}/integrations/{key}", message)

    @pages.get("/integrations/<key>/disconnect")
    async def confirm_disconnect(number: str, key: str) -> Response:
        linked, home, t = _linked(key), f"/t/{number}/integrations/{key}", viewer().t
        if linked.key not in tenant().integrations:
            abort(404)
        title = titled(linked.adapter.title, linked.key)
        return confirm_page(
            site, title=t("integration.disconnect_title", title=title), text=t("integration.disconnect_text", title=title),
            action=f"{home}/disconnect", fields={}, button=t("integration.disconnect"), back=home,
        )  # fmt: skip

    @pages.post("/integrations/<key>/disconnect")
    async def disconnect_it(number: str, key: str) -> Answer:
        linked, home = _linked(key), f"/t/{number}/integrations"
        if (await request.form).get("sure") != "1":
            return redirect(f"{home}/{linked.key}/disconnect", 303)
        taken_back = await disconnect(site.deps.modules, tenant().number, linked, person())
        if taken_back is None:
            abort(404)
        title = titled(linked.adapter.title, linked.key)
        if taken_back.saved:
            return await lead(home, note("integration.disconnected", title=title))
        why = viewer().t.code("module_problem", taken_back.code)
        return await lead(home, note("integration.disconnected_here", "warn", title=title, why=why))

    @pages.get("/integrations/<key>/module/delete")
    async def confirm_delete(number: str, key: str) -> Response:
        linked, home, t = _linked(key), f"/t/{number}/integrations/{key}", viewer().t
        if not linked.adapter.can(Registers) or linked.key not in tenant().integrations:
            abort(404)
        title = titled(linked.adapter.title, linked.key)
        return confirm_page(
            site, title=t("module.delete_title", title=title), text=t("module.delete_hint", title=title),
            action=f"{home}/module", fields={"do": "delete"}, button=t("module.delete"), back=home,
        )  # fmt: skip

    @pages.post("/integrations/<key>/jobs")
    async def job(number: str, key: str) -> Answer:
        """Makes a job due now; the next look of whoever owns the company runs it."""
        name = (await request.form).get("job", "")[:64]
        if not await db.engine(hasten_job, tenant().number, _linked(key).key, name):
            abort(404)
        return await lead(f"/t/{number}/integrations/{key}", note("jobs.hastened"))

    @pages.post("/integrations/<key>/module")
    async def module(number: str, key: str) -> Answer:
        linked, who, modules = _linked(key), tenant(), site.deps.modules
        if not linked.adapter.can(Registers) or linked.key not in who.integrations:
            abort(404)
        form, home = await request.form, f"/t/{number}/integrations/{key}"
        match form.get("do"):
            case "delete" if form.get("sure") != "1":
                return redirect(f"{home}/module/delete", 303)
            case "register":
                result = await modules.register(who.number, linked, person())
            case "deactivate" | "delete" as wanted:
                result = await modules.deactivate(who.number, linked, person(), delete=wanted == "delete")
            case _:
                abort(400)
        return await lead(home, Flash(kind="told", body=asdict(result)))

    @pages.post("/integrations/<key>/settings")
    async def settings(number: str, key: str) -> Answer:
        linked, who, home = _linked(key), tenant(), f"/t/{number}/integrations/{key}"
        adapter, master = linked.adapter, site.deps.master
        if master is None:
            abort(404)

        async def probe(values: Mapping[str, Any]) -> Tested:
            return await site.deps.probe(who.number, integration(linked.key, values), language=viewer().t.language)

        known = who.integrations.get(linked.key, _NOT_SET_UP)
        off = linked.key in who.integrations and not known.enabled
        accepted, flash = await read_round(gate, adapter.settings, known.settings, None if off else probe)
        if accepted is None:
            return await lead(form_at(home, flash), flash)
        try:
            await save_settings(db, master, INTEGRATIONS, who.number, integration(linked.key, {}), accepted, person())
        except Invalid as refused:
            flash = with_problems(flash, refused)
            return await lead(form_at(home, flash), flash)
        tested = not off and (await request.form).get("anyway") != "1"
        await db.tenant(who.number, mark_tested, who.number, linked.key, passed=tested)
        await site.deps.modules.refresh(who.number)
        if adapter.can(Registers):
            site.deps.modules.changed(who.number, linked)
        return await lead(home, note("setup.saved"))

    return pages


_NOT_SET_UP = integration("", {}, enabled=False)
