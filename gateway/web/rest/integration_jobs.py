"""`/integrations/{key}/jobs` and `/integrations/{key}/menu`: what an integration does by itself, requested now, and the menu that it read.

The job `menu` of a CRM that sells something reads its menu; requested here, what it reads is taken into the catalog as it comes. Read
`actors/menus.py` for what taking does, `integrations.py` for the integrations themselves.
"""

from datetime import datetime

from pydantic import ConfigDict, Field

from actors.menus import REQUEST_HOLDS_S, menu_difference
from adapters.jobs import MENU
from gateway.domain.catalog import Item
from gateway.domain.ids import IntegrationKey, TenantId, integration_key
from gateway.domain.menus import Changed
from gateway.store.audit import insert_audit
from gateway.store.catalog_menus import request_menu
from gateway.store.integration_jobs import JobRow, hasten_job, select_jobs
from gateway.store.postgres.pool import Connection
from gateway.web.rest.deps import RestDeps
from gateway.web.rest.endpoints import MOST, Call, Endpoint, ListQuery, Missing, Page, Shown


class JobItem(Shown):
    """A job of an integration."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={
            "examples": [
                {"name": "menu", "due_at": "2026-11-21T08:00:00Z", "last_done_at": None, "problem": "", "detail": ""}
            ]
        },
    )

    name: str
    due_at: datetime = Field(description="when it runs next")
    last_done_at: datetime | None = Field(description="its last run without a problem")
    problem: str = Field(description="why the last run came to nothing, for programs; empty where it did not")
    detail: str


class JobsPage(Page[JobItem]):
    """The jobs of an integration, by name."""


class MenuItem(Shown):
    """An item of the menu or the catalog."""

    id: str
    name: str
    price: str
    currency: str
    category: str | None
    available: bool


class MenuChange(Shown):
    """An item that differs."""

    before: MenuItem
    after: MenuItem
    fields: list[str]


class MenuDifference(Shown):
    """What taking the menu that was read last would do to the catalog now. The lists hold at most 200 items; the counts are whole."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={
            "examples": [
                {
                    "read_at": "2026-11-21T08:00:00Z", "left_out": 0, "added_count": 0, "changed_count": 0, "removed_count": 0, "added": [],
                    "changed": [], "removed": [],
                }
            ]
        },
    )  # fmt: skip

    read_at: datetime
    left_out: int = Field(description="items that could not be read")
    added_count: int
    changed_count: int
    removed_count: int
    added: list[MenuItem]
    changed: list[MenuChange]
    removed: list[MenuItem]


def _item(item: Item) -> MenuItem:
    return MenuItem(
        id=item.id, name=item.name, price=f"{item.price:f}", currency=item.currency, category=item.category, available=item.available
    )  # fmt: skip


def _change(one: Changed) -> MenuChange:
    return MenuChange(before=_item(one.before), after=_item(one.after), fields=list(one.fields))


def _job(row: JobRow) -> JobItem:
    return JobItem(
        name=row.name, due_at=row.due_at, last_done_at=row.last_done_at, problem=row.problem, detail=row.detail
    )


async def _request(conn: Connection, number: TenantId, key: IntegrationKey, name: str, actor: str) -> JobRow | None:
    """One transaction: the job is due, and what a menu's job reads is taken."""
    known = {row.name for row in await select_jobs(conn, number, key)}
    if name not in known:
        return None
    if name == MENU:
        await request_menu(conn, number, key, actor, REQUEST_HOLDS_S)
    await hasten_job(conn, number, key, name)
    await insert_audit(conn, number, actor, "integration.job_requested", key, name)
    return next(row for row in await select_jobs(conn, number, key) if row.name == name)


def integration_jobs(deps: RestDeps) -> list[Endpoint]:
    """The endpoints."""

    def connected(call: Call) -> IntegrationKey:
        try:
            key = integration_key(call.param("key"))
        except ValueError as error:
            raise Missing(f"There is no such integration: the key {error}.") from None
        if key not in call.tenant.integrations:
            raise Missing("This integration is not connected.")
        return key

    async def listed(call: Call) -> JobsPage:
        key, number, limit = connected(call), call.tenant.number, call.query.limit
        after = deps.cursors.wanted(number, f"jobs {key}", call.query.cursor)
        rows = await deps.db.tenant(number, select_jobs, number, key)
        found = [_job(row) for row in rows if after is None or row.name > str(after[0])]
        more = len(found) > limit
        onward = deps.cursors.new(number, f"jobs {key}", [found[limit - 1].name]) if more else None
        return JobsPage(items=found[:limit], next=onward)

    async def request(call: Call) -> JobItem:
        key, number = connected(call), call.tenant.number
        row = await deps.db.tenant(number, _request, number, key, call.param("job"), call.caller.actor)
        if row is None:
            raise Missing("This integration has no such job.")
        return _job(row)

    async def menu(call: Call) -> MenuDifference:
        key, number = connected(call), call.tenant.number
        found = await deps.db.tenant(number, menu_difference, number, key)
        if found is None or found[0].read_at is None:
            raise Missing("No menu has been read from this integration.")
        stored, differs = found
        return MenuDifference(
            read_at=found[0].read_at, left_out=stored.left_out, added_count=len(differs.added), changed_count=len(differs.changed),
            removed_count=len(differs.removed), added=[_item(one) for one in differs.added[:MOST]],
            changed=[_change(one) for one in differs.changed[:MOST]], removed=[_item(one) for one in differs.removed[:MOST]],
        )  # fmt: skip

    return [
        Endpoint(method="GET", path="/integrations/{key}/jobs", operation=listed, scopes=("read",), query=ListQuery, answer=JobsPage,
                 summary="What an integration does by itself, and how its last runs went"),
        Endpoint(method="POST", path="/integrations/{key}/jobs/{job}", operation=request, scopes=("write",), answer=JobItem, status=202,
                 summary="Run a job now; what the job `menu` reads is taken into the catalog"),
        Endpoint(method="GET", path="/integrations/{key}/menu", operation=menu, scopes=("read",), answer=MenuDifference,
                 summary="What taking the menu that was read last would do to the catalog"),
    ]  # fmt: skip
