"""Jobs of an integration by the API, and the menu that it has read: what a program takes is what it was shown."""

from typing import Any

from actors.menus import keep_menu
from adapters.jobs import JobResult, Menu
from gateway.domain.ids import IntegrationKey
from gateway.store.audit import select_audit
from gateway.store.integration_jobs import WantedJob, store_wanted_jobs
from tests.web.rest.conftest import Api
from tests.web.rest.test_resources import every
from tests.web.world import JUNE, MAPLE

KEY = IntegrationKey("retailcrm")
WANTED = [WantedJob(JUNE, KEY, name, 3600.0) for name in ("menu", "registration")]


async def read(api: Api, *items: dict[str, Any]) -> None:
    tenant = api.world.cache.tenant(JUNE)
    assert tenant is not None
    await keep_menu(api.world.db, tenant, KEY, JobResult(menu=Menu(items=items, left_out=2)))


async def test_a_job_is_made_due_and_a_requested_menu_is_taken(api: Api) -> None:
    await api.world.db.engine(store_wanted_jobs, [JUNE], WANTED)
    first = await api.ask("GET", "/integrations/retailcrm/jobs", query={"limit": 1})
    assert ([one["name"] for one in first.json["items"]], bool(first.json["next"])) == (["menu"], True)
    jobs = await every(api, "/integrations/retailcrm/jobs")
    assert [one["name"] for one in jobs] == ["menu", "registration"]
    assert (await api.ask("GET", "/integrations/retailcrm/menu")).status == 404
    await read(api, {"id": "soup", "name": "Soup", "price": "5"})
    await read(api, {"id": "soup", "name": "Soup", "price": "6"}, {"id": "tea", "name": "Tea", "price": "1"})
    differs = (await api.ask("GET", "/integrations/retailcrm/menu")).json
    assert (differs["added_count"], differs["changed_count"], differs["removed_count"], differs["left_out"]) == (
        1,
        1,
        0,
        2,
    )
    assert differs["added"] == [
        {"id": "tea", "name": "Tea", "price": "1.00", "currency": "BYN", "category": None, "available": True}
    ]
    assert [(one["before"]["price"], one["after"]["price"], one["fields"]) for one in differs["changed"]] == [
        ("5.00", "6.00", ["price"])
    ]
    made = await api.ask("POST", "/integrations/retailcrm/jobs/menu")
    assert (made.status, made.json["name"]) == (202, "menu")
    assert made.json["due_at"] < jobs[0]["due_at"]
    await read(api, {"id": "soup", "name": "Soup", "price": "7"})
    assert (await api.ask("GET", "/catalog/soup")).json["price"] == 7.0
    audited = [
        line
        for line in await api.world.db.tenant(JUNE, select_audit, JUNE, None, 20)
        if line.action in ("integration.job_requested", "catalog.menu_taken")
    ]
    assert [(line.action, line.detail) for line in audited[:2]] == [
        ("catalog.menu_taken", "+0 ~1 -0"),
        ("integration.job_requested", "menu"),
    ]
    assert audited[0].actor == audited[1].actor == api.key[:16]


async def test_only_jobs_that_are_there_and_only_who_may(api: Api) -> None:
    await api.world.db.engine(store_wanted_jobs, [JUNE], WANTED)
    for path in (
        "/integrations/retailcrm/jobs/nothing",
        "/integrations/telegram/jobs/menu",
        "/integrations/no such/jobs/menu",
    ):
        assert (await api.ask("POST", path)).status == 404, path
    reader = await api.new_key("read")
    assert (await api.ask("POST", "/integrations/retailcrm/jobs/menu", x_api_key=reader)).status == 403
    assert (await api.ask("GET", "/integrations/retailcrm/jobs", x_api_key=reader)).status == 200
    theirs = await api.new_key(of=MAPLE)
    assert (await api.ask("POST", "/integrations/retailcrm/jobs/menu", x_api_key=theirs)).status == 404, (
        "they have no such job"
    )
    assert (await api.ask("GET", "/integrations/telegram/menu")).status == 404
