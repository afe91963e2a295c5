"""Field mapping of a CRM: which of our values it gets in which of its fields, chosen from its own fields, lists and stages, and tried on
a real call, client, order or chat before anything is sent.

    the rules there are -> a rule: field and source, then the CRM's value for each of ours -> saved like any setting, audited
    try it: what would be written, read from what there is; a GET, for it changes nothing

Works without the CRM's answer too: a field's name can be typed. Knows no CRM by name. Read `adapters/mapping.py` for the rules.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlencode

from pydantic import ValidationError
from quart import Blueprint, abort, request
from quart_trio.wrappers import TrioResponse as Response

from actors.crm.mapping_trial import Trial, trial
from adapters import registry
from adapters.abilities import CrmField, ReadsFields
from adapters.crm_settings import CrmSettings
from adapters.mapping import LONGEST_VALUE, MOST_RULES, MappingRule
from adapters.registry import Linked
from gateway.domain.crm_sources import SOURCES, Source, When
from gateway.domain.ids import integration_key, kind_of, titled
from gateway.domain.posts import Invalid
from gateway.domain.text import texts_of
from gateway.web.pages.change_settings import change_settings, changed_settings
from gateway.web.pages.field_errors import whole_and_fields
from gateway.web.session.auth import Gate
from gateway.web.session.flash import Flash, lead_on, note
from gateway.web.session.surroundings import flashed, look_around
from gateway.web.site import Answer, tenant, viewer

MAPPING = "mapping"
VALUE = "value."
"""What stands before one of our values in the name of an input."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One rule as the page lists it."""

    rule: MappingRule
    place: int
    field: CrmField | None
    """None where the CRM did not say that there is such a field."""
    source: Source
    values: Sequence[tuple[str, str]]
    """Each of our values with what the CRM gets, as its people call it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edited:
    """The rule that is being entered."""

    to: str
    source: Source
    field: CrmField | None
    values: Mapping[str, str]
    default: str
    problems: Mapping[str, Mapping[str, str]]
    """What is wrong, by field and language."""


def mapping_pages(gate: Gate) -> Blueprint:
    """The pages below `/t/<number>/integrations/<key>/fields`."""
    pages = Blueprint("mapping", __name__, url_prefix="/t/<number>/integrations/<key>/fields")
    pages.before_request(partial(look_around, gate))
    site = gate.site

    async def lead(onward: str, flash: Flash) -> Answer:
        return await lead_on(site.deps, gate.token(), onward, flash, tenant=tenant().number)

    async def show(linked: Linked, status: int = 200) -> Response:
        settings, model = stored(linked), linked.adapter.settings
        assert issubclass(model, CrmSettings)
        whens = [when for when in SOURCES if when in model.MAPS]
        wanted = request.args.get("when", "")
        when: When = next((one for one in whens if one == wanted), whens[0])
        read = await site.deps.modules.fields(tenant().number, linked, anew=request.args.get("anew") == "1")
        fields = list(read.fields.get(when, ()))
        rules = settings.mapping
        flash = flashed("mapping")
        tried: Trial | None = None
        if "try" in request.args and viewer().may_change:
            known = fields if not read.problem else None
            ident = request.args.get("try", "")
            tried = await site.deps.db.tenant(
                tenant().number, trial, site.deps.crm, tenant(), rules, when, ident, known
            )
        title = titled(linked.adapter.title, linked.key)
        return site.page(
            "field_mapping.html", status, title=texts_of(title)[viewer().t.language], here=here(linked), home=f"/t/{tenant().number}/integrations/{linked.key}",
            whens=whens, when=when, fields=fields, sources=list(SOURCES[when].values()), problem=read.problem, detail=read.detail,
            rules=_shown(rules, when, fields), edited=_edited(when, fields, rules, flash), tried=tried, asked=request.args.get("try"),
            kind=linked.adapter.kind, may_save=site.deps.master is not None and viewer().may_change, longest=LONGEST_VALUE,
        )  # fmt: skip

    def linked_of(key: str) -> Linked:
        """An integration that is set up and whose rules can be entered. Aborts with 404."""
        try:
            found = registry.linked(integration_key(key))
        except ValueError:
            found = None
        known = found is not None and found.key in tenant().integrations and kind_of(found.key) == found.adapter.kind
        if (
            found is None
            or not known
            or not found.adapter.can(ReadsFields)
            or not issubclass(found.adapter.settings, CrmSettings)
        ):
            abort(404)
        return found

    def stored(linked: Linked) -> CrmSettings:
        try:
            found = linked.adapter.settings.model_validate(dict(tenant().integrations[linked.key].settings))
        except ValidationError:
            abort(404)  # its settings have to be put right first, on the page of the integration
        assert isinstance(found, CrmSettings)
        return found

    def here(linked: Linked) -> str:
        return f"/t/{tenant().number}/integrations/{linked.key}/fields"

    async def save(linked: Linked, rules: Sequence[Mapping[str, Any]]) -> None:
        """Stores the rules. Raises Invalid."""
        model, master = linked.adapter.settings, site.deps.master
        if master is None:
            abort(404)
        await change_settings(
            site.deps.db, master, tenant().number, linked.key, lambda known: changed_settings(model, known, {MAPPING: list(rules)}),
            {MAPPING}, None, viewer().session_email, model,
        )  # fmt: skip
        await site.deps.modules.refresh(tenant().number)

    @pages.get("")
    async def rules(number: str, key: str) -> Response:
        return await show(linked_of(key))

    @pages.post("")
    async def change(number: str, key: str) -> Answer:
        linked, form = linked_of(key), await request.form
        when = form.get("when", "")
        back = f"{here(linked)}?{urlencode({'when': when})}"
        known = [_plain(one) for one in stored(linked).mapping]
        if form.get("do") == "remove":
            left = [one for one in known if (one["when"], one["to"]) != (when, form.get("to", ""))]
            await save(linked, left)
            return await lead(back, note("mapping.removed"))
        entered = _entered(form)
        others = [one for one in known if (one["when"], one["to"]) != (entered["when"], entered["to"])]
        if len(others) >= MOST_RULES:
            return await lead(back, note("mapping.too_many", "warn"))
        try:
            MappingRule.model_validate(entered)
            await save(linked, [*others, entered])
        except ValidationError as error:
            whole, problems = whole_and_fields(error)
            return await lead(f"{back}#rule", _refused(entered, problems or {"to": whole[0]}))
        except Invalid as refused:
            problems = {name: texts_of(text) for name, text in refused.problems}
            return await lead(f"{back}#rule", _refused(entered, problems))
        return await lead(back, note("mapping.saved"))

    return pages


def _refused(entered: Mapping[str, Any], problems: Mapping[str, Mapping[str, str]]) -> Flash:
    return Flash(
        kind="mapping", body={"entered": dict(entered), "problems": {name: dict(one) for name, one in problems.items()}}
    )


def _plain(rule: MappingRule) -> dict[str, Any]:
    return rule.model_dump(mode="json", by_alias=True, exclude_defaults=True)


def _entered(form: Mapping[str, str]) -> dict[str, Any]:
    """A rule as the form gives it; what is empty is left out."""
    values = {
        name.removeprefix(VALUE): value.strip()[: LONGEST_VALUE + 1]
        for name, value in form.items() if name.startswith(VALUE) and value.strip()
    }  # fmt: skip
    default = form.get("default", "").strip()[: LONGEST_VALUE + 1]
    return {
        "when": form.get("when", ""), "to": (form.get("to") or "").strip()[:200], "from": form.get("from", "")[:100],
        **({"default": default} if default else {}), **({"values": values} if values else {}),
    }  # fmt: skip


def _shown(rules: Sequence[MappingRule], when: When, fields: Sequence[CrmField]) -> list[Shown]:
    known = {one.name: one for one in fields}
    found = []
    for place, rule in enumerate(rules):
        if rule.when != when:
            continue
        field = known.get(rule.to)
        titles = {one.value: one.title for one in field.values} if field is not None else {}
        values = [(ours, titles.get(str(theirs), str(theirs))) for ours, theirs in rule.values.items()]
        found.append(Shown(rule=rule, place=place, field=field, source=SOURCES[when][rule.from_], values=values))
    return found


def _edited(when: When, fields: Sequence[CrmField], rules: Sequence[MappingRule], flash: Flash | None) -> Edited | None:
    """The rule that is being entered: as it was refused, or as the address names it."""
    if flash is not None:
        sent = flash.body["entered"]
        problems = flash.body["problems"]
    else:
        sent = {
            "to": (request.args.get("other") or request.args.get("to") or "").strip()[:200],
            "from": request.args.get("from", "")[:100],
        }
        problems = {}
        same = next((one for one in rules if one.when == when and one.to == sent["to"]), None)
        if same is not None and sent["from"] in ("", same.from_):
            sent = _plain(same)
    source = SOURCES[when].get(sent["from"])
    if source is None or not sent["to"]:
        return None
    values = {str(ours): str(theirs) for ours, theirs in sent.get("values", {}).items()}
    if source.type == "flag":
        values = {"true": "", "false": "", **values}
    return Edited(
        to=sent["to"], source=source, field=next((one for one in fields if one.name == sent["to"]), None), problems=problems,
        values={**dict.fromkeys(source.choices, ""), **values}, default=str(sent.get("default", "")),
    )  # fmt: skip
