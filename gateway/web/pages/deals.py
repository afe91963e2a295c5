"""Deals between CRMs: routes with their mapping, a dry run on a real deal, runs with filters, failures, replays, differences.

The editor reads both sides' fields and stages; where one cannot be read names are typed. Whatever changes a route or has deals carried
goes through `gateway/web/content/deal_routes.py` and `deal_work.py`, as the API's (`gateway/web/rest/deals.py`).
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from typing import Any
from urllib.parse import urlencode

from quart import Blueprint, abort, request
from quart_trio.wrappers import TrioResponse as Response

from gateway.domain.configuration import Tenant
from gateway.domain.deal_mapping import DealSchema
from gateway.domain.deal_routes import EVENTS, PLACEHOLDERS, DealRoute, secret_name
from gateway.domain.deal_runs import STATES
from gateway.domain.errors import GatewayError
from gateway.domain.ids import IntegrationKey
from gateway.domain.posts import Invalid
from gateway.domain.secret import MASK
from gateway.domain.text import texts_of
from gateway.store.deal_comparisons import select_comparisons, select_differences
from gateway.store.deal_pages import RunFilter, count_runs, search_runs, select_causes
from gateway.web.content.deal_routes import (
    KINDS,
    SPARE_ROWS,
    Row,
    able,
    filter_of,
    read_route,
    read_rows,
    remove_route,
    routes_for,
    row_of,
    rule_of,
    save_route,
)
from gateway.web.content.deal_work import DealWork
from gateway.web.pages.confirm import confirm_page
from gateway.web.session.auth import Gate
from gateway.web.session.flash import Flash, lead_on, note
from gateway.web.session.surroundings import flashed, look_around
from gateway.web.site import Answer, older_than, tenant, viewer

PAGE = 50
SHOWN_DIFFERENCES = 200
NEW = "new"
"""In place of a name: a route that is not saved yet."""
FIELDS = ("name", "source", "target", "answer_within_ms", "source_field", "domains", "token", "filter")
BOXES = ("enabled", "contacts", "company", "recreate")
RUN_FIELDS = ("route", "state", "cause", "deal", "since", "until")


def run_filter(sent: Mapping[str, str], who: Tenant) -> RunFilter:
    """What a person looks for. A value that makes no sense does not narrow, but for a number, which then fits nothing."""

    def day(name: str, plus: int = 0) -> datetime | None:
        try:
            moment = date.fromisoformat(sent.get(name, "")) + timedelta(days=plus)
            return datetime.combine(moment, time(), who.timezone).astimezone(UTC)
        except (ValueError, OverflowError):
            return None

    def number(name: str) -> int | None:
        text = sent.get(name, "").strip()
        return (int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else -1) if text else None

    def text(name: str) -> str | None:
        return "".join(c for c in sent.get(name, "").strip()[:100] if c.isprintable()) or None

    return RunFilter(
        run_id=number("id"), route=text("route"), state=sent.get("state") if sent.get("state") in STATES else None,
        cause=text("cause"), deal=number("deal"), since=day("since"), until=day("until", 1),
    )  # fmt: skip


def values_of(route: DealRoute) -> dict[str, str]:
    """A route as its form has it."""
    lines = "\n".join(f"{name} = {', '.join(values)}" for name, values in route.filter.items())
    return {
        "name": route.name, "source": route.source, "target": route.target, "answer_within_ms": str(route.answer_within_ms),
        "source_field": route.source_field or "", "domains": "\n".join(route.allowed_domains), "token": "", "filter": lines,
        **{f"event.{one}": "1" for one in route.events}, **{name: "1" for name in BOXES if getattr(route, name)},
    }  # fmt: skip


def deals_pages(gate: Gate) -> Blueprint:
    """The pages below `/t/<number>/deals`."""
    pages = Blueprint("deals", __name__, url_prefix="/t/<number>/deals")
    pages.before_request(partial(look_around, gate))
    site, db = gate.site, gate.site.deps.db
    deps = site.deps
    work = DealWork(db=db, ring=deps.ring_posts, desk=deps.deal_desk)

    def home() -> str:
        return f"/t/{tenant().number}/deals"

    async def lead(onward: str, flash: Flash) -> Answer:
        return await lead_on(deps, gate.token(), onward, flash, tenant=tenant().number)

    def known(name: str) -> DealRoute:
        """A route; 404 for any other."""
        found = next((one for one in routes_for(tenant()) if one.name == name), None)
        if found is None:
            abort(404)
        return found

    async def schemas(source: str, target: str) -> dict[str, Any]:
        """Both sides' fields and stages, and why one is not known."""
        found: dict[str, Any] = {}
        if work.desk is not None and source in tenant().integrations and target in tenant().integrations:
            read = await work.desk.schemas(tenant(), (IntegrationKey(source), IntegrationKey(target)))
            for side, one in zip(("source", "target"), read, strict=True):
                found[side] = one if isinstance(one, DealSchema) else DealSchema()
                found[f"{side}_problem"] = one.person if isinstance(one, GatewayError) else ""
        return {"source": DealSchema(), "target": DealSchema(), "source_problem": "", "target_problem": "", **found}

    @pages.get("")
    async def routes(number: str) -> Response:
        counts = await db.tenant(tenant().number, count_runs, tenant().number)
        compared = await db.tenant(tenant().number, select_comparisons, tenant().number)
        return site.page(
            "deals.html", routes=routes_for(tenant()), broken=bool(tenant().options.get("deal_routes")) and not routes_for(tenant()),
            counts=counts, compared=compared, states=STATES, able=able(tenant()), address=f"{deps.public_url}/webhook/deal",
        )  # fmt: skip

    # The editor.

    @pages.get("/routes/<name>")
    async def route(number: str, name: str) -> Response:
        stored = known(name) if name != NEW else None
        flash = flashed("deal_route")
        keys = able(tenant())
        if flash is not None:
            values, rows = flash.body["values"], [Row(*one) for one in flash.body["rows"]]
        elif stored is not None:
            values, rows = values_of(stored), [row_of(to, rule) for to, rule in stored.mapping.items()]
        else:
            source = str(keys[-1]) if len(keys) > 1 else ""
            values = {
                "source": source, "target": str(keys[0]) if keys else "", "answer_within_ms": "400",
                **{f"event.{one}": "1" for one in EVENTS}, **dict.fromkeys(BOXES, "1"),
            }  # fmt: skip
            rows = [
                Row("TITLE", "field", "TITLE"),
                Row("OPPORTUNITY", "field", "OPPORTUNITY"),
                Row("STAGE_ID", "values", "STAGE_ID"),
            ]
        both = await schemas(values.get("source", ""), values.get("target", ""))
        differing = (
            await db.tenant(tenant().number, select_differences, tenant().number, name, SHOWN_DIFFERENCES)
            if stored
            else []
        )
        compared = (await db.tenant(tenant().number, select_comparisons, tenant().number)).get(name) if stored else None
        return site.page(
            "deal_route.html", stored=stored, values=values, rows=[*rows, *[Row()] * SPARE_ROWS], keys=keys, kinds=KINDS, events=EVENTS,
            boxes=BOXES, problems=flash.body["problems"] if flash is not None else [], both=both, placeholders=PLACEHOLDERS,
            has_token=stored is not None and secret_name(stored.name) in tenant().secrets, differing=differing, compared=compared,
            most=SHOWN_DIFFERENCES,
        )  # fmt: skip

    @pages.post("/routes/<name>")
    async def save(number: str, name: str) -> Answer:
        stored = known(name) if name != NEW else None
        form = await request.form
        lists = {one: form.getlist(one) for one in ("to", "kind", "from", "values", "otherwise")}
        rows = read_rows(lists)
        values = {one: form.get(one, "").strip()[:20_000] for one in FIELDS}
        values |= {one: "1" for one in (*BOXES, *(f"event.{each}" for each in EVENTS)) if form.get(one) == "1"}
        problems: list[tuple[str, str]] = []
        mapping: dict[str, Any] = {}
        for row in rows:
            rule, bad = rule_of(row)
            if bad:
                problems.append((f"mapping.{row.to}", viewer().t("deals.bad_line", line=bad)))
            elif row.to in mapping:
                problems.append((f"mapping.{row.to}", viewer().t("deals.twice")))
            else:
                mapping[row.to] = rule
        wanted, bad = filter_of(values["filter"])
        if bad:
            problems.append(("filter", viewer().t("deals.bad_line", line=bad)))
        within = values["answer_within_ms"]
        data = {
            "name": stored.name if stored is not None else values["name"], "source": values["source"], "target": values["target"],
            "answer_within_ms": int(within) if within.isascii() and within.isdecimal() and len(within) < 9 else within or 400,
            "source_field": values["source_field"] or None, "allowed_domains": values["domains"].split(), "mapping": mapping,
            "events": [one for one in EVENTS if f"event.{one}" in values], "filter": wanted,
            "application_token": values["token"] or MASK, **{one: one in values for one in BOXES},
        }  # fmt: skip
        if stored is None and not values["token"]:
            data["application_token"] = None
        route: DealRoute | None = None
        try:
            route = read_route(data, tenant(), stored)
        except Invalid as error:
            problems += [one for one in error.problems if one not in problems]
        sealer = deps.cache.sealer(tenant().number)
        if problems or route is None or sealer is None:
            shown = [{"field": path, "text": dict(texts_of(text))} for path, text in problems]
            body = {
                "values": {**values, "token": ""}, "problems": shown,
                "rows": [[one.to, one.kind, one.source, one.values, one.otherwise] for one in rows],
            }  # fmt: skip
            return await lead(f"{home()}/routes/{name}", Flash(kind="deal_route", body=body))
        await db.engine(save_route, tenant().number, sealer, route, viewer().session_email)
        await deps.modules.refresh(tenant().number)
        return await lead(f"{home()}/routes/{route.name}", note("deals.saved", name=route.name))

    @pages.get("/routes/<name>/remove")
    async def confirm_remove(number: str, name: str) -> Response:
        t, one = viewer().t, known(name)
        return confirm_page(
            site, title=t("deals.remove_title", name=one.name), text=t("deals.remove_text"),
            action=f"{home()}/routes/{one.name}/remove", fields={}, button=t("deals.remove"), back=f"{home()}/routes/{one.name}",
        )  # fmt: skip

    @pages.post("/routes/<name>/remove")
    async def remove(number: str, name: str) -> Answer:
        one = known(name)
        await db.engine(remove_route, tenant().number, one.name, viewer().session_email)
        await deps.modules.refresh(tenant().number)
        return await lead(home(), note("deals.removed", name=one.name))

    # Trying it.

    @pages.get("/routes/<name>/try")
    async def trial(number: str, name: str) -> Response:
        one, deal = known(name), request.args.get("deal", "").strip()
        result, problem = None, ""
        usable = deal.isascii() and deal.isdecimal() and int(deal[:18] or 0) > 0 and len(deal) < 19
        if deal and not usable:
            problem = viewer().t("deals.no_number")
        elif deal and work.desk is not None:
            try:
                result = await work.desk.try_route(tenant(), one, int(deal))
            except GatewayError as error:
                problem = viewer().t.detail(error.person)
        return site.page("deal_try.html", route=one, deal=deal[:20], result=result, problem=problem)

    @pages.post("/routes/<name>/carry")
    async def carry(number: str, name: str) -> Answer:
        one, form = known(name), await request.form
        given = [
            text
            for text in form.getlist("deal")
            if text.isascii() and text.isdecimal() and len(text) < 19 and int(text) > 0
        ]
        if not given:
            return await lead(f"{home()}/routes/{one.name}", note("deals.none_chosen", "warn"))
        count = await work.carry(tenant().number, one, [int(text) for text in given], viewer().session_email)
        return await lead(f"{home()}/runs?{urlencode({'route': one.name})}", note("deals.carrying", n=count))

    @pages.post("/routes/<name>/compare")
    async def compare(number: str, name: str) -> Answer:
        one = known(name)
        begun = await work.compare(tenant().number, one.pair[0])
        said = note("deals.comparing") if begun else note("deals.not_comparing", "warn")
        return await lead(f"{home()}/routes/{one.name}#compared-title", said)

    # Runs.

    @pages.get("/runs")
    async def runs(number: str) -> Response:
        sent = {name: value for name in RUN_FIELDS if (value := request.args.get(name, "").strip()[:100])}
        before = older_than(request.args.get("before", ""))
        wanted = run_filter(sent, tenant())
        found = await db.tenant(tenant().number, search_runs, tenant().number, wanted, before, PAGE + 1)
        causes = await db.tenant(tenant().number, select_causes, tenant().number)
        older = urlencode({**sent, "before": str(found[PAGE - 1].run_id)}) if len(found) > PAGE else ""
        return site.page(
            "deal_runs.html", found=found[:PAGE], sent=sent, query=urlencode(sent), older=older, first=before is None, states=STATES,
            causes=causes, routes=[one.name for one in routes_for(tenant())],
        )  # fmt: skip

    @pages.get("/runs/replay")
    async def confirm_replay(number: str) -> Response:
        sent = {name: value for name in RUN_FIELDS if (value := request.args.get(name, "").strip()[:100])}
        t = viewer().t
        fitting = await db.tenant(tenant().number, search_runs, tenant().number, run_filter(sent, tenant()), None, 1001)
        count = len(fitting)
        return confirm_page(
            site, title=t("deals.replay_title"), text=t("deals.replay_text", n=count) if count <= 1000 else t("deals.replay_many"),
            action=f"{home()}/runs/replay", fields=sent, button=t("deals.replay"), back=f"{home()}/runs?{urlencode(sent)}",
        )  # fmt: skip

    @pages.post("/runs/replay")
    async def replay(number: str) -> Answer:
        form = await request.form
        sent = {name: value for name in (*RUN_FIELDS, "id") if (value := form.get(name, "").strip()[:100])}
        count = await work.replay(tenant().number, run_filter(sent, tenant()), viewer().session_email)
        back = {name: value for name, value in sent.items() if name != "id"}
        return await lead(f"{home()}/runs?{urlencode(back)}", note("deals.replayed", n=count))

    return pages
