"""Orders by the API: made at the catalog's prices, found again, changed, refused with every field, and seen by whom they are for."""

import json
from typing import Any
from uuid import uuid4

import pytest

from gateway.domain.people import Role
from gateway.domain.profile import Profile
from gateway.store.business_profiles import upsert_profile
from gateway.store.catalog_items import upsert_items
from gateway.web.content.catalog import read_item
from tests.web.chats import connect, conversation_with, receives
from tests.web.rest.conftest import Api
from tests.web.rest.test_changes import listening
from tests.web.rest.test_chats import wrote
from tests.web.rest.test_resources import every, paths
from tests.web.world import JUNE, MAPLE

ANNA = {"name": "Anna", "phones": ["8 029 625-40-70"], "emails": ["anna@june.example"]}
PIZZAS = [{"catalog_id": "pizza", "quantity": 2}, {"catalog_id": "tea"}]
ORDER = {"kind": "order", "contact": ANNA, "items": PIZZAS}
TABLE = {"kind": "booking", "contact": ANNA, "items": [{"catalog_id": "table"}]}
FAR = "2027-06-11"
"""A Friday that is not past for long."""


@pytest.fixture
async def api(api: Api) -> Api:
    """With goods to sell."""
    goods: list[dict[str, Any]] = [
        {"id": "pizza", "name": "Margherita", "price": "12.50"}, {"id": "tea", "name": "Tea", "price": "3"},
        {"id": "off", "name": "Off", "price": "1", "available": False},
        {"id": "table", "name": "Table", "price": "0", "attributes": {"capacity": "1", "duration_min": "90"}},
    ]  # fmt: skip
    for of in (JUNE, MAPLE):
        await api.world.db.tenant(of, upsert_items, of, [read_item(one, "BYN") for one in goods])
    hours = [{"days": ["mon", "tue", "wed", "thu", "fri"], "from": "10:00", "to": "22:00"}]
    await api.world.db.tenant(JUNE, upsert_profile, JUNE, Profile.model_validate({"working_hours": hours}))
    return api


async def make(api: Api, **more: Any) -> dict[str, Any]:
    made = await api.ask("POST", "/orders", {**ORDER, **more})
    assert made.status == 201, made.json
    found: dict[str, Any] = made.json
    return found


async def test_an_order_has_the_fields_of_the_contract_at_the_catalogs_prices(api: Api) -> None:
    one = await make(api, comment="no onions", delivery={"address": "Lenina 1"})
    assert {"id", "kind", "contact", "conversation", "items", "starts_at", "duration_min", "party", "total", "currency", "status", "comment",
            "delivery", "external"} <= one.keys()  # fmt: skip
    assert one["items"] == [
        {"catalog_id": "pizza", "name": "Margherita", "quantity": 2, "price": 12.5},
        {"catalog_id": "tea", "name": "Tea", "quantity": 1, "price": 3.0},
    ]  # fmt: skip
    assert (one["total"], one["currency"], one["status"], one["number"], one["agreed"], one["external"]) == (
        28.0,
        "BYN",
        "new",
        1,
        True,
        [],
    )
    assert one["delivery"] == {"address": "Lenina 1"}
    assert one["corrections"] == []
    there = [{"integration": "retailcrm", "id": None, "state": "pending"}]
    assert (await api.ask("GET", f"/orders/{one['id']}")).json == {**one, "external": there}
    again = await make(api, kind="request", items=[], comment="call me", call={"phone": "8 029 625-40-70"})
    assert again["contact"] == one["contact"], "found before made"
    assert again["call"] == {"phone": "+375296254070", "at": None}
    person = (await api.ask("GET", f"/contacts/{one['contact']}")).json
    assert (person["name"], person["phones"]) == ("Anna", ["+375296254070"])
    assert (await make(api, contact=one["contact"]))["contact"] == one["contact"]


async def test_what_was_sent_and_differs_is_put_right_and_told(api: Api) -> None:
    items = [{"catalog_id": "pizza", "quantity": "2", "name": "Gold", "price": 0.01}]
    one = await make(api, items=items, total="0.02", currency="USD")
    assert (one["total"], one["items"][0]["name"]) == (25.0, "Margherita")
    assert [each["path"] for each in one["corrections"]] == ["items[0].price", "total", "currency"]
    shown = [{**each} for each in one["items"]]
    same = await api.ask("PATCH", f"/orders/{one['id']}", {"items": shown})
    assert (same.status, same.json["version"], same.json["corrections"]) == (200, 1, [])


@pytest.mark.parametrize(("body", "wrong"), [
    ({**ORDER, "contact": None}, {"contact"}), ({**ORDER, "contact": "anna"}, {"contact"}), ({**ORDER, "contact": {}}, {"contact.name"}),
    ({**ORDER, "contact": {"phones": ["x"]}}, {"contact.phones[0]"}), ({**ORDER, "contact": {"name": 5, "age": 1}}, {"contact.name", "contact.age"}),
    ({**ORDER, "contact": str(uuid4())}, {"contact"}), ({**ORDER, "conversation": str(uuid4())}, {"conversation"}),
    ({**ORDER, "items": []}, {"items"}), ({"kind": "order", "contact": ANNA}, {"items"}),
    ({**ORDER, "items": [{"catalog_id": "no"}, {"catalog_id": "off"}]}, {"items[0].catalog_id", "items[1].catalog_id"}),
    ({**ORDER, "items": [{"catalog_id": "pizza", "quantity": 1.5}]}, {"items[0].quantity"}),
    ({**ORDER, "items": [{"catalog_id": "pizza", "quantity": "many"}, {"name": "x"}]}, {"items[0].quantity", "items[1].catalog_id"}),
    ({**ORDER, "kind": "wish", "status": "done", "x": 1}, {"kind", "status", "x"}),
    ({**ORDER, "party": 0, "comment": "x" * 2001, "delivery": [1]}, {"party", "comment", "delivery"}),
    ({**ORDER, "starts_at": f"{FAR}T12:00"}, {"starts_at"}), ({**ORDER, "call": {"phone": "+375296254070"}}, {"call"}),
    ({**TABLE}, {"starts_at"}), ({**TABLE, "starts_at": "soon"}, {"starts_at"}), ({**TABLE, "starts_at": f"{FAR}T09:00"}, {"starts_at"}),
    ({**TABLE, "starts_at": f"{FAR}T21:00"}, {"starts_at"}), ({**TABLE, "starts_at": "2027-06-12T12:00"}, {"starts_at"}),
    ({**TABLE, "starts_at": "2020-06-12T12:00"}, {"starts_at"}), ({**TABLE, "starts_at": f"{FAR}T12:00", "items": PIZZAS}, {"items"}),
    ({"kind": "request", "contact": ANNA, "call": {"phone": "nobody"}}, {"call.phone"}),
    ({"kind": "request", "contact": ANNA, "call": {"phone": "+375296254070", "at": "2020-01-01T10:00"}}, {"call.at"}),
])  # fmt: skip
async def test_bad_orders_name_every_field_and_store_nothing(api: Api, body: Any, wrong: set[str]) -> None:
    refused = await api.ask("POST", "/orders", body)
    assert (refused.status, paths(refused)) == (422, wrong)
    assert await every(api, "/orders") == []
    assert (await api.ask("GET", "/contacts")).json["items"] == []


async def test_bookings_and_free_slots(api: Api) -> None:
    slots = await api.ask("GET", "/catalog/table/slots", query={"day": FAR})
    assert (slots.status, slots.json["time_zone"], slots.json["duration_min"]) == (200, "Europe/Minsk", 90)
    assert [one["starts_at"][11:16] for one in slots.json["slots"]] == [
        "07:00",
        "08:30",
        "10:00",
        "11:30",
        "13:00",
        "14:30",
        "16:00",
        "17:30",
    ]
    made = await api.ask("POST", "/orders", {**TABLE, "starts_at": f"{FAR}T13:00", "party": 3})
    assert (made.status, made.json["starts_at"], made.json["duration_min"], made.json["party"]) == (
        201,
        f"{FAR}T10:00:00Z",
        90,
        3,
    )
    taken = await api.ask("POST", "/orders", {**TABLE, "starts_at": f"{FAR}T10:30:00Z"})
    assert (taken.status, paths(taken)) == (422, {"starts_at"})
    assert "is taken; free on that day: " in taken.json["errors"][0]["message"]
    left = (await api.ask("GET", "/catalog/table/slots", query={"day": FAR})).json["slots"]
    assert f"{FAR}T10:00:00Z" not in [one["starts_at"] for one in left]
    moved = await api.ask("PATCH", f"/orders/{made.json['id']}", {"starts_at": f"{FAR}T14:30", "duration_min": 30})
    assert (moved.json["starts_at"], moved.json["duration_min"]) == (f"{FAR}T11:30:00Z", 30)
    assert paths(await api.ask("GET", "/catalog/nothing/slots", query={"day": FAR})) == {"item"}
    assert paths(await api.ask("GET", "/catalog/table/slots", query={"day": "soon"})) == {"day"}


async def test_orders_are_changed_moved_on_and_refused(api: Api) -> None:
    one = await make(api, comment="a", delivery="Lenina 1")
    at = f"/orders/{one['id']}"

    async def patch(**body: Any) -> Any:
        return await api.ask("PATCH", at, body)

    changed = (await patch(items=[{"catalog_id": "pizza", "quantity": 3}], expected_version=1)).json
    assert (changed["total"], changed["version"], changed["comment"]) == (37.5, 2, "a")
    late = await patch(status="done", expected_version=1)
    assert (late.status, late.json["version"]) == (409, 2)
    assert (await patch(delivery=None, comment="")).json["delivery"] is None
    assert (await patch(status="confirmed")).json["status"] == "confirmed"
    assert paths(await patch(status="new")) == {"status"}
    assert (await patch(status="in_progress")).json["status"] == "in_progress"
    assert (await patch(status="done")).json["status"] == "done"
    assert paths(await patch(status="cancelled")) == {"status"}
    assert paths(await patch(items=PIZZAS)) == {"status"}
    assert paths(await patch(status="lost", total=5)) == {"status", "total"}
    assert (await api.ask("PATCH", f"/orders/{uuid4()}", {"status": "done"})).status == 404
    assert (await api.ask("PATCH", "/orders/17", {"status": "done"})).status == 404
    lines = [one for one in await every(api, "/audit") if one["action"] == "order.changed"]
    assert len(lines) == 5
    assert {(one["object"], one["actor"].startswith("gw_")) for one in lines} == {("1", True)}


async def test_a_post_that_is_repeated_makes_one(api: Api) -> None:
    first = await api.ask("POST", "/orders", ORDER, idempotency_key="a-1")
    again = await api.ask("POST", "/orders", ORDER, idempotency_key="a-1")
    assert (first.status, again.status) == (201, 201)
    assert first.json == again.json
    assert len(await every(api, "/orders")) == 1


async def test_lists_are_narrowed_and_go_on(api: Api) -> None:
    for number in range(5):
        await make(api, contact={"name": f"Client {number}"}, status="confirmed" if number % 2 else "new")
    await make(api, kind="request", items=[], comment="x")
    assert [one["number"] for one in await every(api, "/orders")] == [6, 5, 4, 3, 2, 1]
    assert [one["number"] for one in await every(api, "/orders", status="confirmed")] == [4, 2]
    assert [one["number"] for one in await every(api, "/orders", kind="request")] == [6]
    assert [one["number"] for one in await every(api, "/orders", q="client 3")] == [4]
    contact = (await every(api, "/orders"))[0]["contact"]
    assert [one["number"] for one in await every(api, "/orders", contact=contact)] == [6]
    assert paths(await api.ask("GET", "/orders", query={"status": "lost", "kind": "wish"})) == {"status", "kind"}


async def test_other_companies_and_keys_without_the_scope_see_none(api: Api) -> None:
    one = await make(api)
    theirs = await api.new_key("chat", of=MAPLE)
    assert (await api.ask("GET", "/orders", x_api_key=theirs)).json["items"] == []
    for method, path, body in (
        ("GET", f"/orders/{one['id']}", None),
        ("PATCH", f"/orders/{one['id']}", {"status": "done"}),
    ):
        assert (await api.ask(method, path, body, x_api_key=theirs)).status == 404
    assert paths(await api.ask("POST", "/orders", {**ORDER, "contact": one["contact"]}, x_api_key=theirs)) == {
        "contact"
    }
    read = await api.new_key("read")
    assert (await api.ask("GET", "/orders", x_api_key=read)).status == 200
    assert (await api.ask("POST", "/orders", ORDER, x_api_key=read)).status == 403
    assert (await api.ask("GET", "/orders", x_api_key=await api.new_key("bot"))).status == 403


async def test_an_agent_sees_orders_of_their_conversations_and_an_auditor_no_texts(api: Api) -> None:
    await connect(api.world)
    await receives(api.world, wrote(1, "hello", person={"name": "Anna"}), wrote(2, "hi", "8"))
    mine, hers = [str(await conversation_with(api.world, address)) for address in ("7", "8")]
    await api.ask("POST", f"/conversations/{hers}/take")
    seen = await make(api, contact=None, conversation=mine, comment="secret", delivery={"address": "Lenina 1"})
    hidden = await make(api, contact=None, conversation=hers)
    agent = f"session={await api.world.person(JUNE, 'agent@0367.example', Role.AGENT)}"
    csrf = (await api.ask("GET", "/orders", cookie=agent)).headers["X-CSRF-Token"]
    (found,) = (await api.ask("GET", "/orders", cookie=agent)).json["items"]
    assert (found["id"], found["comment"], found["delivery"]) == (seen["id"], "secret", {"address": "Lenina 1"})
    assert (await api.ask("GET", f"/orders/{hidden['id']}", cookie=agent)).status == 404
    for one, status in ((seen, 200), (hidden, 404)):
        moved = await api.ask("PATCH", f"/orders/{one['id']}", {"status": "confirmed"}, cookie=agent, x_csrf_token=csrf)
        assert moved.status == status
    refused = await api.ask("POST", "/orders", {**ORDER, "contact": hidden["contact"]}, cookie=agent, x_csrf_token=csrf)
    assert paths(refused) == {"contact"}
    auditor = f"session={await api.world.person(JUNE, 'auditor@0367.example', Role.AUDITOR)}"
    found = (await api.ask("GET", f"/orders/{seen['id']}", cookie=auditor)).json
    assert (found["comment"], found["delivery"], found["total"]) == ("***", "***", 28.0)
    csrf = (await api.ask("GET", "/orders", cookie=auditor)).headers["X-CSRF-Token"]
    refused = await api.ask("PATCH", f"/orders/{seen['id']}", {"status": "done"}, cookie=auditor, x_csrf_token=csrf)
    assert refused.status == 403


async def test_orders_come_with_the_stream_of_changes_once(api: Api) -> None:
    async with listening(api) as stream:
        await stream.ready()
        one = await make(api, comment="secret")
        event = await stream.next()
        assert event is not None
        assert event["event"] == "order"
        data = json.loads(event["data"])
        assert (data["id"], data["status"], data["version"], data["total"]) == (one["id"], "new", 1, 28.0)
        assert "secret" not in event["data"]
        first = stream.last_id
        await api.ask("PATCH", f"/orders/{one['id']}", {"status": "done"})
        event = await stream.next()
        assert event is not None
        assert json.loads(event["data"])["status"] == "done"
        last = stream.last_id
    await make(api)
    async with listening(api, first) as stream:
        statuses = [json.loads((await stream.next() or {})["data"])["status"] for _ in range(2)]
        assert statuses == ["done", "new"]
    async with listening(api, last) as stream:
        event = await stream.next()
        assert event is not None
        assert json.loads(event["data"])["number"] == 2
