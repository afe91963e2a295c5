"""`/integrations`: connect, change, test, watch and disconnect. Nothing here knows an outside system by its name.

Settings are checked by the adapter's class under the lock of their row, as on the page. Read `integration_items.py` for what an
item is, `gateway/web/pages/change_settings.py` for how settings are stored.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Literal

from pydantic import ConfigDict, Field

from actors.connections import integration_status, slot_of_integration
from actors.crm.disconnecting import disconnect
from adapters import registry
from adapters.abilities import Registers
from adapters.base import AdapterSettings, Tested
from adapters.registry import Linked
from gateway.domain.configuration import Connector, Tenant, integration
from gateway.domain.ids import IntegrationKey, TenantId, integration_key, kind_of
from gateway.domain.posts import Invalid
from gateway.domain.secret import MASK
from gateway.store import integration_logs
from gateway.store.audit import insert_audit
from gateway.store.integration_logs import LogLine
from gateway.store.integration_states import mark_tested, select_known
from gateway.store.postgres.pool import Connection
from gateway.store.tenants import INTEGRATIONS, set_integration_name
from gateway.web.http.routes import Response, problem
from gateway.web.masking import without_texts
from gateway.web.pages.change_settings import change_settings, changed_settings, save_settings
from gateway.web.rest.deps import RestDeps
from gateway.web.rest.endpoints import Call, Endpoint, ListQuery, Missing, Model, Page, Shown
from gateway.web.rest.integration_items import IntegrationItem, item_of
from gateway.web.translations import words


class IntegrationsPage(Page[IntegrationItem]):
    """Connected integrations, by key."""


class PutQuery(Model):
    """Whether to try the settings first."""

    test: bool = Field(True, description="try the connection before saving; not needed where it is saved switched off")


class IntegrationBody(Model):
    """Settings of an integration. A field that is not named keeps its value, and so does a secret sent as `***`."""

    model_config = ConfigDict(
        extra="forbid", frozen=True,
        json_schema_extra={"examples": [{"settings": {"api_key": "…"}, "enabled": True, "name": "Main CRM"}]},
    )  # fmt: skip

    settings: dict[str, Any] = Field(default_factory=dict, max_length=200)
    enabled: bool | None = Field(None, description="absent: as it is; a new one is switched on")
    name: str | None = Field(None, max_length=100, description="what the company calls it")


class TestBody(Model):
    """Settings to try without saving them."""

    __test__ = False
    model_config = ConfigDict(
        extra="forbid", frozen=True, json_schema_extra={"examples": [{"provider": "crm", "settings": {"api_key": "…"}}]}
    )

    provider: str = Field(min_length=1, max_length=64)
    settings: dict[str, Any] = Field(default_factory=dict, max_length=200)


class FindingItem(Shown):
    """One thing that a test looked at."""

    ok: bool
    code: str
    message: str
    detail: str


class TestResult(Shown):
    """What a connection test found."""

    __test__ = False
    model_config = ConfigDict(
        frozen=True, json_schema_extra={"examples": [{"success": True, "error": None, "code": "ok", "findings": []}]}
    )

    success: bool
    error: str | None = Field(description="what is wrong, for people; null where nothing is")
    code: str
    findings: list[FindingItem]


class SubjectItem(Shown):
    """What an attempt was about."""

    kind: str
    id: str


class LogItem(Shown):
    """One attempt. Secrets are masked."""

    id: int
    integration: str
    event: str
    status: Literal["success", "error"]
    outcome: str = Field(description="finer: done, retry, expired, failed…")
    code: str | None = Field(description="why it failed, one of the codes of problems; null where it did not")
    message: str | None = Field(description="why it failed, for people")
    request: str
    response: str
    created_at: datetime
    attempt: int
    duration_ms: int
    delivery_id: int | None
    subject: SubjectItem | None


class LogsPage(Page[LogItem]):
    """Attempts, newest first."""


def _result(tested: Tested, kind: str, language: str) -> TestResult:
    t = words(language)
    text = t.optional("tested", tested.code, kind) or t.optional("health", tested.code, kind) or tested.code
    said = tested.said(language)
    error = None if tested.ok else f"{text} ({said})" if said else text
    found = [
        FindingItem(ok=one.ok, code=one.code, message=t.code("finding", one.code, kind), detail=one.detail)
        for one in tested.findings
    ]
    return TestResult(success=tested.ok, error=error, code=tested.code, findings=found)


def _log(line: LogLine, *, whole: bool) -> LogItem:
    if not whole:
        line = replace(
            line, error=MASK if line.error else line.error, request=without_texts(line.request),
            response=without_texts(line.response),
        )  # fmt: skip
    return LogItem.model_validate(line.exported())


async def _name(conn: Connection, number: TenantId, key: IntegrationKey, name: str, actor: str) -> None:
    before = await set_integration_name(conn, number, key, name)
    if before is not None:
        await insert_audit(conn, number, actor, "config.changed", key, "name", old={"name": before}, new={"name": name})


def _values(settings: AdapterSettings) -> dict[str, Any]:
    return {info.alias or name: getattr(settings, name) for name, info in type(settings).model_fields.items()}


def _below_settings(error: Invalid) -> Invalid:
    """The problems with their path in the body."""
    return Invalid(tuple((name if name == "body" else f"settings.{name}", text) for name, text in error.problems))


def integrations(deps: RestDeps) -> list[Endpoint]:
    """The endpoints."""

    def linked(text: str) -> Linked:
        try:
            key = integration_key(text)
        except ValueError as error:
            raise Missing(f"There is no such integration: the key {error}.") from None
        adapter = registry.integrations().get(kind_of(key))
        if adapter is None:
            raise Missing("There is no such kind of integration.")
        return Linked(key, adapter)

    def connected(call: Call) -> tuple[Linked, Connector]:
        known = linked(call.param("key"))
        link = call.tenant.integrations.get(known.key)
        if link is None:
            raise Missing("This integration is not connected.")
        return known, link

    async def items(tenant: Tenant, language: str) -> list[IntegrationItem]:
        number = tenant.number
        known = await deps.db.tenant(number, select_known, number)
        slots = {slot.path: slot for slot in await deps.slots(f"tenant/{number}")}
        found = []
        for key, link in sorted(tenant.integrations.items()):
            adapter = registry.integrations().get(link.kind)
            if adapter is not None:
                stored = known.get(key)
                status = integration_status(slot_of_integration(slots.get, number, key), stored)
                found.append(item_of(link, adapter, status, stored.name if stored is not None else "", language))
        return found

    async def listed(call: Call) -> IntegrationsPage:
        number, limit = call.tenant.number, call.query.limit
        after = deps.cursors.wanted(number, "integrations", call.query.cursor)
        found = [one for one in await items(call.tenant, call.language) if after is None or one.key > str(after[0])]
        onward = deps.cursors.new(number, "integrations", [found[limit - 1].key]) if len(found) > limit else None
        return IntegrationsPage(items=found[:limit], next=onward)

    async def one_of(number: TenantId, key: IntegrationKey, language: str) -> IntegrationItem:
        tenant = deps.tenant(number)
        for item in await items(tenant, language) if tenant is not None else ():
            if item.key == key:
                return item
        raise Missing("This integration is not connected.")

    async def show(call: Call) -> IntegrationItem:
        known, _ = connected(call)
        return await one_of(call.tenant.number, known.key, call.language)

    def wanted(known: Linked, stored: Mapping[str, Any], sent: Mapping[str, Any]) -> AdapterSettings:
        try:
            return changed_settings(known.adapter.settings, stored, sent)
        except Invalid as error:
            raise _below_settings(error) from None

    async def put(call: Call) -> IntegrationItem | Response:
        known, number, body = linked(call.param("key")), call.tenant.number, call.body
        link = call.tenant.integrations.get(known.key)
        settings = wanted(known, link.settings if link is not None else {}, body.settings)
        enabled = body.enabled if body.enabled is not None else link.enabled if link is not None else True
        passed = enabled and call.query.test and bool(body.settings or link is None or not link.enabled)
        if passed:
            tested = await deps.probe(number, integration(known.key, _values(settings)), language=call.language)
            if not tested.ok:
                return refused(_result(tested, known.adapter.kind, call.language))
        await save(call, known, link, settings, enabled=enabled)
        if passed or body.settings or link is None:
            await deps.db.tenant(number, mark_tested, number, known.key, passed=passed)
        if body.name is not None:
            await deps.db.tenant(number, _name, number, known.key, body.name.strip(), call.caller.actor)
        await deps.refresh(number)
        if known.adapter.can(Registers):
            deps.modules.changed(number, known)
        return await one_of(number, known.key, call.language)

    async def patch(call: Call) -> IntegrationItem | Response:
        connected(call)
        return await put(call)

    async def save(
        call: Call, known: Linked, link: Connector | None, settings: AdapterSettings, *, enabled: bool
    ) -> None:
        number, body, actor = call.tenant.number, call.body, call.caller.actor
        try:
            if link is None:
                new = integration(known.key, {})
                await save_settings(deps.db, deps.master, INTEGRATIONS, number, new, settings, actor, enabled=enabled)
            else:
                await change_settings(
                    deps.db, deps.master, number, known.key, lambda stored: wanted(known, stored, body.settings),
                    body.settings.keys(), body.enabled, actor, known.adapter.settings,
                )  # fmt: skip
        except Invalid as error:
            again = all(name.startswith("settings.") or name == "body" for name, _ in error.problems)
            raise (error if again else _below_settings(error)) from None

    async def delete(call: Call) -> None:
        known, _ = connected(call)
        if await disconnect(deps.modules, call.tenant.number, known, call.caller.actor) is None:
            raise Missing("This integration is not connected.")

    async def test(call: Call) -> TestResult:
        known, link = connected(call)
        number = call.tenant.number
        tested = await deps.probe(number, link, language=call.language)
        if tested.ok:
            await deps.db.tenant(number, mark_tested, number, known.key, passed=True)
        return _result(tested, known.adapter.kind, call.language)

    async def test_before(call: Call) -> TestResult:
        body: TestBody = call.body
        try:
            known = linked(body.provider)
        except Missing:
            raise Invalid((("provider", "is no kind of integration"),)) from None
        link = call.tenant.integrations.get(known.key)
        settings = wanted(known, link.settings if link is not None else {}, body.settings)
        tested = await deps.probe(call.tenant.number, integration(known.key, _values(settings)), language=call.language)
        return _result(tested, known.adapter.kind, call.language)

    async def logs(call: Call) -> LogsPage:
        known, _ = connected(call)
        number, limit = call.tenant.number, call.query.limit
        place = f"logs {known.key}"
        after = deps.cursors.wanted(number, place, call.query.cursor)
        lines = await deps.db.tenant(
            number, integration_logs.select_recent_logs, number, known.key, int(after[0]) if after else None, limit + 1
        )
        onward = deps.cursors.new(number, place, [lines[limit - 1].log_id]) if len(lines) > limit else None
        return LogsPage(items=[_log(line, whole=call.caller.reads_messages) for line in lines[:limit]], next=onward)

    return [
        Endpoint(method="GET", path="/integrations", operation=listed, scopes=("read",), query=ListQuery, answer=IntegrationsPage,
                 summary="Connected integrations with their status"),
        Endpoint(method="POST", path="/integrations/test", operation=test_before, scopes=("write",), body=TestBody, answer=TestResult,
                 summary="Try settings without saving them"),
        Endpoint(method="GET", path="/integrations/{key}", operation=show, scopes=("read",), answer=IntegrationItem,
                 summary="One integration with its status"),
        Endpoint(method="PUT", path="/integrations/{key}", operation=put, scopes=("write",), query=PutQuery, body=IntegrationBody,
                 answer=IntegrationItem, summary="Connect an integration, or change it"),
        Endpoint(method="PATCH", path="/integrations/{key}", operation=patch, scopes=("write",), query=PutQuery, body=IntegrationBody,
                 answer=IntegrationItem, summary="Change a connected integration, such as its field mapping"),
        Endpoint(method="DELETE", path="/integrations/{key}", operation=delete, scopes=("write",), summary="Disconnect an integration"),
        Endpoint(method="POST", path="/integrations/{key}/test", operation=test, scopes=("write",), answer=TestResult,
                 summary="Try the stored settings"),
        Endpoint(method="GET", path="/integrations/{key}/logs", operation=logs, scopes=("read",), query=ListQuery, answer=LogsPage,
                 summary="Attempts at this integration, newest first"),
    ]  # fmt: skip


def refused(result: TestResult) -> Response:
    """The answer where a connection test fails before saving: nothing was changed."""
    code = "CONFIG_INVALID" if result.code == "bad_settings" else "CONNECTION_FAILED"
    return problem(
        422, code, f"The connection test failed, and nothing was saved: {result.error}", errors=[("settings", result.error or "")],
        findings=[one.model_dump() for one in result.findings], reason=result.code,
    )  # fmt: skip
