"""Prompts, profile and catalog by the API: what pages and the tenant file do, by the same rules."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

from gateway.domain.catalog import MOST_ITEMS
from gateway.web.content.sandbox import Sandbox
from tests.web.content.model_server import ModelServer
from tests.web.rest.conftest import Api
from tests.web.rest.test_resources import every, paths
from tests.web.world import JUNE, MAPLE

GOOD = "# Role\nYou are {{business_name}}.\n# Rules\nBe kind."
FEE = {"key": "fee", "label": "Delivery", "default_value": "5 BYN", "source": "custom"}


async def save(api: Api, content: str = GOOD, **more: Any) -> dict[str, Any]:
    got = await api.ask("POST", "/prompts", {"content": content, **more})
    assert got.status == 201, got.json
    found: dict[str, Any] = got.json
    return found


# Prompts


async def test_saving_makes_a_version_and_the_first_good_prompt_is_active(api: Api) -> None:
    assert (await api.ask("GET", "/prompts/active")).status == 404
    first = await save(api, name="Main", variables=[FEE], note="one")
    assert first.keys() == {
        "id", "business_id", "name", "content", "variables", "is_active", "active_version", "version", "created_at", "updated_at",
        "errors",
    }  # fmt: skip
    assert (first["business_id"], first["version"], first["is_active"], first["errors"]) == (JUNE, 1, True, [])
    assert first["variables"] == [FEE]
    draft = await save(api, "{{nothing}}")
    assert (draft["id"], draft["version"], draft["active_version"], draft["is_active"]) == (first["id"], 2, 1, True)
    assert draft["errors"][0].keys() == {"message", "line", "column"}
    active = (await api.ask("GET", "/prompts/active")).json
    assert (active["content"], active["version"], active["id"]) == (GOOD, 1, first["id"])
    assert (await api.ask("GET", f"/prompts/{first['id']}")).json["content"] == "{{nothing}}"


async def test_history_and_restoring_the_very_same_text(api: Api) -> None:
    texts = [GOOD, GOOD + "\r\n \ttrailing  ", GOOD + "\nпривет 🍕"]
    for text in texts:
        prompt = await save(api, text, name="Main")
    where = f"/prompts/{prompt['id']}"
    history = await every(api, f"{where}/history")
    assert [one["content"] for one in history] == texts[::-1]
    assert {"id", "prompt_id", "content", "version", "changed_by", "created_at"} <= history[0].keys()
    assert len({one["id"] for one in history}) == 3
    assert {one["changed_by"] for one in history} == {api.key[:16]}
    back = await api.ask("POST", f"{where}/restore", {"version": 2})
    assert (back.status, back.json["version"], back.json["content"]) == (201, 4, texts[1])
    assert paths(await api.ask("POST", f"{where}/restore", {"version": 9})) == {"version"}
    assert paths(await api.ask("POST", f"{where}/restore", {"version": True})) == {"version"}
    for method, rest, body in (
        ("GET", "/history", None),
        ("POST", "/restore", {"version": 1}),
        ("POST", "/activate", None),
    ):
        assert (await api.ask(method, f"/prompts/none{rest}", body)).status == 404


async def test_exactly_one_is_active_and_never_one_with_mistakes(api: Api) -> None:
    main, other = await save(api, name="Main"), await save(api, name="Other")
    wrong = await save(api, "# Role\n{{nope}}", name="Wrong")
    assert (await api.ask("POST", f"/prompts/{other['id']}/activate")).json["is_active"]
    assert [one["name"] for one in await every(api, "/prompts")] == ["Other", "Main", "Wrong"]
    assert [one["is_active"] for one in await every(api, "/prompts")] == [True, False, False]
    assert paths(await api.ask("POST", f"/prompts/{wrong['id']}/activate")) == {"content"}
    assert (await api.ask("GET", "/prompts/active")).json["id"] == other["id"]
    assert (await api.ask("DELETE", f"/prompts/{other['id']}")).status == 409
    assert (await api.ask("DELETE", f"/prompts/{main['id']}")).status == 204
    assert (await api.ask("DELETE", f"/prompts/{main['id']}")).status == 404


async def test_a_prompt_with_bad_fields_names_all_of_them(api: Api) -> None:
    assert paths(await api.ask("POST", "/prompts", {})) == {"content"}
    assert paths(await api.ask("POST", "/prompts", {"content": 1, "name": [], "variables": {}, "x": 1})) == {
        "content", "name", "variables", "x",
    }  # fmt: skip
    found = await api.ask("POST", "/prompts", {"content": GOOD, "name": "x" * 101, "note": "y" * 501})
    assert paths(found) == {"name", "note"}
    assert paths(await api.ask("POST", "/prompts", {"content": GOOD, "variables": [{**FEE, "key": "No"}]})) == {
        "variables[0].key"
    }
    assert await every(api, "/prompts") == []


async def test_the_same_idempotency_key_makes_one_version(api: Api) -> None:
    for path, body in (("/prompts", {"content": GOOD, "name": "A"}), ("/catalog", {"name": "Pizza", "price": 1})):
        made = [await api.ask("POST", path, body, idempotency_key=f"k{path}") for _ in range(3)]
        assert [one.status for one in made] == [201] * 3
        assert len({one.body for one in made}) == 1
        assert made[2].headers["Idempotency-Replayed"] == "true"
        assert len(await every(api, path)) == 1
        assert (await api.ask("POST", path, {**body, "name": "B"}, idempotency_key=f"k{path}")).status == 409
    version = (await api.ask("GET", "/prompts")).json["items"][0]["version"]
    assert version == 1


async def test_validation_names_line_and_column(api: Api) -> None:
    got = await api.ask(
        "POST", "/prompts/validate", {"content": "# Role\nx\n# Rules\n  {{oops}} {{phone}}"}, accept_language="en"
    )
    assert (got.status, got.json["valid"], got.json["variables"]) == (200, False, ["oops", "phone"])
    (mistake,) = got.json["errors"]
    assert (mistake["line"], mistake["column"]) == (4, 3)
    assert "oops" in mistake["message"]
    good = await api.ask("POST", "/prompts/validate", {"content": GOOD, "variables": [FEE]})
    assert good.json == {"valid": True, "errors": [], "variables": ["business_name"]}
    assert paths(await api.ask("POST", "/prompts/validate", {"content": GOOD, "variables": [FEE, FEE]})) == {
        "variables[1].key"
    }


@pytest.fixture
async def server(nursery: trio.Nursery) -> AsyncIterator[ModelServer]:
    """A language model."""
    made = ModelServer()
    await nursery.start(made.serve)
    yield made
    nursery.cancel_scope.cancel()


TRY = {"content": GOOD, "message": "Do you deliver?"}


async def test_trying_a_prompt(api: Api, server: ModelServer) -> None:
    tried = api.changed(sandbox=Sandbox(server.settings))
    got = await tried.ask("POST", "/prompts/test", TRY)
    assert (got.status, got.json) == (
        200, {"response": "Привет", "prompt_tokens": 9, "completion_tokens": 2, "model": "gpt-test"},
    )  # fmt: skip
    assert server.requests[0]["body"]["messages"][0]["content"] == GOOD.replace("{{business_name}}", "June")
    assert paths(await tried.ask("POST", "/prompts/test", {"content": " ", "message": ""})) == {"content", "message"}
    assert await every(api, "/prompts") == [], "nothing is stored"


async def test_trying_a_prompt_piece_by_piece(api: Api, server: ModelServer) -> None:
    tried = api.changed(sandbox=Sandbox(server.settings))
    headers = {"x-api-key": api.key, "accept": "text/event-stream"}
    response = await tried.raw("POST", "/prompts/test", {}, json.dumps(TRY).encode(), headers)
    assert response.content_type.startswith("text/event-stream")
    assert response.work is not None
    texts: list[str] = []

    async def give(text: str) -> None:
        await trio.lowlevel.checkpoint()
        texts.append(text)

    await response.work(give)
    events = [(event.split("\n")[0], json.loads(event.partition("data: ")[2])) for event in texts]
    assert events == [
        ("event: piece", {"text": "При"}), ("event: piece", {"text": "вет"}),
        ("event: done", {"response": "Привет", "prompt_tokens": 9, "completion_tokens": 2, "model": "gpt-test"}),
    ]  # fmt: skip
    texts.clear()
    server.status = 500
    response = await tried.raw("POST", "/prompts/test", {}, json.dumps(TRY).encode(), headers)
    assert response.work is not None
    await response.work(give)
    assert texts[-1].startswith("event: error")
    assert "EXTERNAL_SERVICE_ERROR" in texts[-1]
    refused = await tried.raw("POST", "/prompts/test", {}, b'{"content": "", "message": "x"}', headers)
    assert (refused.status, refused.work) == (422, None), "before anything is sent"


async def test_what_goes_wrong_with_the_model(api: Api, server: ModelServer) -> None:
    got = await api.ask("POST", "/prompts/test", TRY)
    assert (got.status, got.json["code"], got.json["reason"]) == (503, "CONFIG_INVALID", "not_configured")
    tried = api.changed(sandbox=Sandbox(server.settings))
    for status, wanted in (
        (401, (503, "CONFIG_INVALID", False)), (429, (429, "RATE_LIMITED", True)), (500, (502, "EXTERNAL_SERVICE_ERROR", True)),
    ):  # fmt: skip
        server.status = status
        got = await tried.ask("POST", "/prompts/test", TRY)
        assert (got.status, got.json["code"], got.json["retryable"]) == wanted


# Profile


async def test_the_profile_is_replaced_as_a_whole(api: Api) -> None:
    empty = (await api.ask("GET", "/profile")).json
    assert (empty["business_id"], empty["business_name"], empty["currency"]) == (JUNE, "June", "BYN")
    sent = {
        "business_type": "restaurant", "phone": "+375291112233", "website": "https://june.example",
        "working_hours": [{"days": ["mon", "fri"], "from": "10:00", "to": "26:00"}],
        "holidays": ["2026-12-31", {"date": "2027-01-02", "from": "12:00", "to": "16:00"}],
    }  # fmt: skip
    put = await api.ask("PUT", "/profile", sent)
    assert put.status == 200, put.json
    assert {name: put.json[name] for name in sent} == sent
    assert (await api.ask("GET", "/profile")).json == put.json
    assert (await api.ask("PUT", "/profile", put.json)).json == put.json, "what was read may be sent back"
    assert (await api.ask("PUT", "/profile", {})).json == empty
    theirs = await api.new_key("read", of=MAPLE)
    assert (await api.ask("GET", "/profile", x_api_key=theirs)).json["business_id"] == MAPLE
    assert [one["action"] for one in await every(api, "/audit")][:2] == ["profile.saved"] * 2


async def test_a_bad_profile_changes_nothing_and_names_every_field(api: Api) -> None:
    before = (await api.ask("PUT", "/profile", {"description": "x"})).json
    wrong = {
        "business_type": "bank", "website": "june", "currency": "XX", "x": 1, "holidays": ["tomorrow"],
        "working_hours": [{"days": ["mon"], "from": "9", "to": "18:00"}, {"days": [], "from": "09:00", "to": "08:00"}],
    }  # fmt: skip
    assert paths(await api.ask("PUT", "/profile", wrong)) >= {
        "business_type", "website", "currency", "x", "holidays[0].date", "working_hours[0].from",
    }  # fmt: skip
    assert (await api.ask("GET", "/profile")).json == before


# Catalog


async def test_items_are_added_changed_and_removed(api: Api) -> None:
    made = await api.ask(
        "POST", "/catalog", {"id": "m", "name": "Margherita", "price": "12.50", "attributes": {"size": 30}}
    )
    assert (made.status, made.json) == (201, {
        "id": "m", "business_id": JUNE, "name": "Margherita", "description": None, "price": 12.5, "currency": "BYN",
        "category": None, "image_url": None, "available": True, "attributes": {"size": 30}, "sort_order": 0,
    })  # fmt: skip
    assert paths(await api.ask("POST", "/catalog", {"id": "m", "name": "Again", "price": 1})) == {"id"}
    unnamed = (await api.ask("POST", "/catalog", {"name": "Tea", "price": 1.5})).json
    assert unnamed["id"]
    changed = await api.ask("PUT", "/catalog/m", {**made.json, "price": 13, "available": False})
    assert (changed.status, changed.json["price"], changed.json["available"]) == (200, 13.0, False)
    assert paths(await api.ask("PUT", "/catalog/m", {**made.json, "id": "n"})) == {"id"}
    assert (await api.ask("GET", "/catalog/m")).json == changed.json
    assert (await api.ask("PUT", "/catalog/n", {"name": "N", "price": 1})).status == 404
    theirs = await api.new_key("read", "write", of=MAPLE)
    assert (await api.ask("GET", "/catalog/m", x_api_key=theirs)).status == 404
    assert (await api.ask("DELETE", "/catalog/m", x_api_key=theirs)).status == 404
    assert (await api.ask("DELETE", "/catalog/m")).status == 204
    assert (await api.ask("DELETE", "/catalog/m")).status == 404
    assert [one["id"] for one in await every(api, "/catalog")] == [unnamed["id"]]


async def test_a_bad_item_names_every_field(api: Api) -> None:
    wrong = {"id": "a b", "name": "", "price": -1, "attributes": {"x": [], "y": 1}, "sort_order": "x", "colour": "red"}
    assert paths(await api.ask("POST", "/catalog", wrong)) == {
        "id", "name", "price", "attributes.x", "sort_order", "colour",
    }  # fmt: skip
    assert paths(await api.ask("POST", "/catalog", {"name": "x", "price": "1.005"})) == {"price"}
    assert (await api.ask("GET", "/catalog")).json["items"] == []


CSV = "id;name;price;size\na;Pizza;12,50;30 cm\nb;;x;\nc;Tea;1.5;\n"


async def test_a_file_is_imported_row_by_row(api: Api) -> None:
    dry = await api.ask("POST", "/catalog/import", CSV.encode(), query={"dry_run": "true"}, content_type="text/csv")
    assert dry.status == 200, dry.json
    assert (dry.json["stored"], dry.json["rows_with_errors"], dry.json["dry_run"]) == (2, 1, True)
    assert [(row["row"], row["id"], {one["path"] for one in row["errors"]}) for row in dry.json["rows"]] == [
        (2, "a", set()), (3, "b", {"name", "price"}), (4, "c", set()),
    ]  # fmt: skip
    assert await every(api, "/catalog") == []
    done = await api.ask("POST", "/catalog/import", CSV.encode(), content_type="text/csv; charset=utf-8")
    assert done.json == {**dry.json, "dry_run": False}
    assert [(one["id"], one["price"], one["attributes"]) for one in await every(api, "/catalog")] == [
        ("a", 12.5, {"size": "30 cm"}), ("c", 1.5, {}),
    ]  # fmt: skip
    same = await api.ask("POST", "/catalog/import", CSV.encode())
    assert (same.json["stored"], same.json["rows"]) == (0, dry.json["rows"])


async def test_a_form_with_the_file_is_imported_too(api: Api) -> None:
    def form(*parts: tuple[str, str, str]) -> bytes:
        made = [
            f'--x\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n{text}\r\n'
            for name, file, text in parts
        ]
        return ("".join(made) + "--x--\r\n").encode()

    kind, named = "multipart/form-data; boundary=x", '; filename="menu.csv"'
    direct = await api.ask("POST", "/catalog/import", CSV.encode(), query={"dry_run": "1"}, content_type="text/csv")
    for body in (
        form(("file", named, CSV)),
        form(("note", "", "x"), ("menu", named, CSV)),
        form(("a", named, "x"), ("file", named, CSV)),
    ):
        got = await api.ask("POST", "/catalog/import", body, query={"dry_run": "1"}, content_type=kind)
        assert (got.status, got.json) == (200, direct.json)
    items = form(("file", '; filename="items.json"', '{"items": [{"id": "a", "name": "Pizza", "price": 12.5}]}'))
    assert (await api.ask("POST", "/catalog/import", items, content_type=kind)).json["stored"] == 1
    for body in (form(("file", "", CSV)), form(("a", named, CSV), ("b", named, CSV))):
        assert paths(await api.ask("POST", "/catalog/import", body, content_type=kind)) == {"file"}


async def test_items_are_imported_as_json(api: Api) -> None:
    items = [{"id": "a", "name": "Pizza", "price": 12.5}, {"id": "a", "name": "Again", "price": 1}, 7, {"name": "Tea"}]
    done = await api.ask("POST", "/catalog/import", {"items": items})
    assert [(row["row"], {one["path"] for one in row["errors"]}) for row in done.json["rows"]] == [
        (1, set()), (2, {"id"}), (3, {"id", "name", "price", "item"}), (4, {"price"}),
    ]  # fmt: skip
    assert (await api.ask("POST", "/catalog/import", items, query={"dry_run": "1"})).json["rows_with_errors"] == 3
    back = (await api.ask("GET", "/catalog")).json["items"]
    assert (await api.ask("POST", "/catalog/import", {"items": back})).json["stored"] == 0, (
        "what was read may be sent back"
    )


@pytest.mark.parametrize(
    ("body", "kind", "path"),
    [
        (b"", "text/csv", "file"), (b"a;b\n1;2\n", "text/csv", "file"), (b'{"x": 1}', "application/json", "x"),
        (b"{", "application/json", "body"), (b"7", "application/json", "items"), (b"--x", "multipart/form-data", "body"),
        (b"--x", "multipart/form-data; boundary=x", "body"), (b"--x--\r\n", "multipart/form-data; boundary=x", "file"),
        (b'{"items": 7}', "", "items"), (b"\x00\xff", "", "file"),
    ],
    ids=str,
)  # fmt: skip
async def test_what_is_no_file_of_items_is_refused(api: Api, body: bytes, kind: str, path: str) -> None:
    got = await api.ask("POST", "/catalog/import", body, content_type=kind)
    assert path in paths(got)


@pytest.mark.slow
async def test_ten_thousand_items_pass_and_one_more_does_not(api: Api) -> None:
    rows = [f"i{n};Pizza {n};{n}.50;{'Описание ' * 5}" for n in range(MOST_ITEMS)]
    head = "id;name;price;description\n"
    done = await api.ask("POST", "/catalog/import", (head + "\n".join(rows)).encode(), idempotency_key="k")
    assert (done.status, done.json["stored"], len(done.json["rows"])) == (200, MOST_ITEMS, MOST_ITEMS)
    again = await api.ask("POST", "/catalog/import", (head + "\n".join(rows)).encode(), idempotency_key="k")
    assert (again.body, again.headers["Idempotency-Replayed"]) == (done.body, "true")
    items = [{"id": f"i{n}", "name": f"Pizza {n}", "price": n} for n in range(MOST_ITEMS)]
    assert (await api.ask("POST", "/catalog/import", {"items": items})).json["stored"] == MOST_ITEMS
    assert (await api.ask("POST", "/catalog", {"name": "One more", "price": 1})).status == 422
    more = await api.ask("POST", "/catalog/import", {"items": [{"id": "new", "name": "x", "price": 1}]})
    assert more.status == 422
    page = await api.ask("GET", "/catalog", query={"limit": 200})
    assert len(page.json["items"]) == 200
