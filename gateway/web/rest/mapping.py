"""`/integrations/{key}/fields` and `/integrations/{key}/mapping/test`: a CRM's own fields and stages, and field mapping tried on what there
really is. The rules themselves are settings of the integration: `mapping`, changed by PUT or PATCH.

Read `adapters/mapping.py` for the rules, `actors/crm/mapping_trial.py` for the trial.
"""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from actors.crm.mapping_trial import trial
from adapters import registry
from adapters.abilities import ReadsFields
from adapters.crm_settings import CrmSettings
from adapters.mapping import MOST_RULES, MappingRule, check_rules
from adapters.registry import Linked
from gateway.domain.crm_sources import SOURCES, When
from gateway.domain.ids import integration_key
from gateway.domain.posts import Invalid
from gateway.web.http.routes import Response, problem
from gateway.web.rest.deps import RestDeps
from gateway.web.rest.endpoints import Call, Endpoint, Missing, Model, Shown, problems_of
from gateway.web.translations import words


class ValueItem(Shown):
    """A value of a list that the CRM has, such as a stage."""

    value: str
    title: str


class FieldItem(Shown):
    """A field of the CRM."""

    name: str = Field(description="`to` of a rule")
    title: str
    type: Literal["text", "number", "time", "flag", "choice", "other"]
    required: bool
    values: list[ValueItem]


class SourceItem(Shown):
    """A value of ours."""

    name: str = Field(description="`from` of a rule")
    title: str
    type: Literal["text", "number", "time", "flag", "choice"]
    values: list[str] = Field(description="all values of a choice")


class WhenItem(Shown):
    """What rules of one sort can take and write."""

    when: When
    fields: list[FieldItem]
    sources: list[SourceItem]


class FieldsAnswer(Shown):
    """The fields of a CRM, by what a rule is for."""

    model_config = ConfigDict(frozen=True, json_schema_extra={"examples": [{"items": [{
        "when": "order",
        "fields": [{"name": "STAGE_ID", "title": "Stage", "type": "choice", "required": False, "values": [{"value": "WON", "title": "Won"}]}],
        "sources": [{"name": "order.status", "title": "Status", "type": "choice", "values": ["new", "done"]}],
    }]}]})  # fmt: skip

    items: list[WhenItem]


class TrialBody(Model):
    """What rules are tried on."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, json_schema_extra={"examples": [{"when": "order", "id": "12"}]}
    )

    when: When
    id: str = Field(
        "", max_length=200,
        description="a call's id; an order's number or id; a contact's id, name or phone; a conversation's id or client. Empty: the newest",
    )  # fmt: skip
    mapping: list[dict[str, Any]] | None = Field(
        None, max_length=MOST_RULES, description="rules to try without saving them; absent: the stored ones"
    )


class WrittenItem(Shown):
    """What one rule would write."""

    to: str
    source: str
    source_value: str | int | float | bool | None
    value: str | int | float | bool | None = Field(description="null: nothing is written")
    problem: Literal["no_field", "no_value"] | None = Field(
        description="the CRM has no such field, or no such value in its list"
    )


class TrialAnswer(Shown):
    """What would be written; nothing was sent."""

    model_config = ConfigDict(frozen=True, json_schema_extra={"examples": [{
        "subject": "12", "fields": {"STAGE_ID": "WON"},
        "rules": [{"to": "STAGE_ID", "source": "order.status", "source_value": "done", "value": "WON", "problem": None}],
    }]})  # fmt: skip

    subject: str
    fields: dict[str, str | int | float | bool]
    rules: list[WrittenItem]


_RULES = TypeAdapter(tuple[MappingRule, ...])


def mapping(deps: RestDeps) -> list[Endpoint]:
    """The endpoints."""

    def mapped(call: Call) -> tuple[Linked, CrmSettings]:
        try:
            found = registry.linked(integration_key(call.param("key")))
        except ValueError:
            found = None
        link = call.tenant.integrations.get(found.key) if found is not None else None
        if found is None or link is None:
            raise Missing("This integration is not connected.")
        if not found.adapter.can(ReadsFields) or not issubclass(found.adapter.settings, CrmSettings):
            raise Missing("This integration has no field mapping.")
        try:
            settings = found.adapter.settings.model_validate(dict(link.settings))
        except ValidationError as error:
            raise Invalid(tuple((f"settings.{name}", text) for name, text in problems_of(error))) from None
        assert isinstance(settings, CrmSettings)
        return found, settings

    async def fields(call: Call) -> FieldsAnswer | Response:
        linked, settings = mapped(call)
        read = await deps.modules.fields(call.tenant.number, linked)
        if read.problem:
            t = words(call.language)
            why = t.optional("module_problem", read.problem, linked.adapter.kind) or read.problem
            return problem(
                502, "EXTERNAL_SERVICE_ERROR", f"{why} {read.detail}".strip(), reason=read.problem,
            )  # fmt: skip
        items = []
        for when, sources in SOURCES.items():
            if when not in settings.MAPS:
                continue
            own = [
                FieldItem(
                    name=one.name, title=one.title, type=one.type, required=one.required,
                    values=[ValueItem(value=value.value, title=value.title) for value in one.values],
                )
                for one in read.fields.get(when, ())
            ]  # fmt: skip
            ours = [
                SourceItem(name=one.name, title=one.label[call.language], type=one.type, values=list(one.choices))
                for one in sources.values()
            ]
            items.append(WhenItem(when=when, fields=own, sources=ours))
        return FieldsAnswer(items=items)

    async def tried(call: Call) -> TrialAnswer:
        linked, settings = mapped(call)
        body: TrialBody = call.body
        rules = settings.mapping if body.mapping is None else _rules(body.mapping, settings.MAPS)
        if body.when not in settings.MAPS:
            raise Invalid((("when", f"this CRM takes no fields for {body.when}, only for {', '.join(settings.MAPS)}"),))
        read = await deps.modules.fields(call.tenant.number, linked)
        known = None if read.problem else list(read.fields.get(body.when, ()))
        found = await deps.db.tenant(call.tenant.number, trial, deps.crm, call.tenant, rules, body.when, body.id, known)
        if found is None:
            raise Missing(f"There is no such {body.when}.")
        return TrialAnswer(
            subject=found.subject, fields={one.rule.to: one.value for one in found.written if one.value is not None},
            rules=[
                WrittenItem(to=one.rule.to, source=one.rule.from_, source_value=one.source, value=one.value, problem=one.problem or None)
                for one in found.written
            ],
        )  # fmt: skip

    return [
        Endpoint(method="GET", path="/integrations/{key}/fields", operation=fields, scopes=("read",), answer=FieldsAnswer,
                 problems={502: "The CRM did not give its fields"}, summary="A CRM's own fields, lists and stages, and what can be written into them"),
        Endpoint(method="POST", path="/integrations/{key}/mapping/test", operation=tried, scopes=("write",), body=TrialBody, answer=TrialAnswer,
                 summary="Show what field mapping would write of a call, contact, order or chat; sends nothing"),
    ]  # fmt: skip


def _rules(given: Sequence[Any], whens: Sequence[str]) -> tuple[MappingRule, ...]:
    """Rules of a request. Raises Invalid with every problem by its path."""
    try:
        return check_rules(_RULES.validate_python(tuple(given)), whens)
    except ValidationError as error:
        raise Invalid(
            tuple((f"mapping{name if name.startswith('[') else f'.{name}'}", text) for name, text in problems_of(error))
        ) from None
