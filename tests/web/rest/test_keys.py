"""`/keys` and `/token`."""

from datetime import UTC, datetime, timedelta

from gateway.domain.api_keys import looks_right
from gateway.domain.ids import TenantId
from tests.web.rest.conftest import Api
from tests.web.world import CSRF, JUNE


async def test_a_key_is_made_shown_once_and_revoked(api: Api) -> None:
    ends = (datetime.now(UTC) + timedelta(days=5)).isoformat()
    made = await api.ask("POST", "/keys", {"name": " sync ", "scopes": ["read", "read"], "expires_at": ends})
    assert made.status == 201
    assert looks_right(made.json["key"])
    assert (made.json["name"], made.json["scopes"], made.json["ends_soon"]) == ("sync", ["read"], True)
    listed = await api.ask("GET", "/keys")
    assert listed.json["items"][0]["id"] == made.json["id"]
    assert made.json["key"].encode() not in listed.body
    assert (await api.ask("GET", "/keys", x_api_key=made.json["key"])).status == 200
    assert (await api.ask("DELETE", f"/keys/{made.json['id']}")).status == 204
    fresh = api.changed(callers=make_callers(api))
    assert (await fresh.ask("GET", "/keys", x_api_key=made.json["key"])).status == 401
    assert (await api.ask("DELETE", f"/keys/{made.json['id']}")).status == 404


def make_callers(api: Api) -> object:
    from dataclasses import replace

    from gateway.web.callers.api_keys import ApiKeys

    return replace(api.deps.callers, keys=ApiKeys(api.world.db))


async def test_every_bad_field_is_named_at_once(api: Api) -> None:
    wrong = await api.ask("POST", "/keys", {"name": "", "scopes": ["all"], "expires_at": "2001-01-01", "more": 1})
    assert wrong.status == 422
    assert {one["path"] for one in wrong.json["errors"]} == {"name", "scopes[0]", "expires_at", "more"}
    assert wrong.content_type == "application/problem+json"
    past = await api.ask("POST", "/keys", {"name": "x", "scopes": ["read"], "expires_at": "2001-01-01T00:00:00Z"})
    assert [one["path"] for one in past.json["errors"]] == ["expires_at"]
    for body in (b"", b"[1", b'{"name": NaN}', b"\xff"):
        assert (await api.ask("POST", "/keys", body)).status == 422


async def test_a_key_makes_none_that_may_do_more_and_a_person_does(api: Api) -> None:
    lesser = await api.new_key("write", "read")
    body = {"name": "x", "scopes": ["read", "bot"]}
    refused = await api.ask("POST", "/keys", body, x_api_key=lesser)
    assert (refused.status, refused.json["errors"][0]["path"]) == (403, "scopes")
    cookie = f"session={await api.world.session(JUNE)}"
    assert (await api.ask("POST", "/keys", body, cookie=cookie)).status == 403, "without the CSRF token"
    assert (await api.ask("POST", "/keys", body, cookie=cookie, x_csrf_token=CSRF)).status == 201


async def test_rotation(api: Api) -> None:
    made = (await api.ask("POST", "/keys", {"name": "x", "scopes": ["read"]})).json
    new = await api.ask("POST", f"/keys/{made['id']}/rotate")
    assert new.status == 201
    assert new.json["key"] != made["key"]
    assert (await api.ask("POST", f"/keys/{made['id']}/rotate")).status == 409
    for key in (made["key"], new.json["key"]):
        assert (await api.ask("GET", "/keys", x_api_key=key)).status == 200


async def test_another_companys_key_does_not_exist(api: Api) -> None:
    theirs = await api.new_key("read", of=TenantId("0368"))
    (line,) = (await api.ask("GET", "/keys", x_api_key=theirs)).json["items"]
    for method, path in (
        ("DELETE", f"/keys/{line['id']}"),
        ("POST", f"/keys/{line['id']}/rotate"),
        ("DELETE", "/keys/x' OR 1=1"),
    ):
        assert (await api.ask(method, path)).status == 404
    assert (await api.ask("GET", "/keys", x_api_key=theirs)).status == 200


async def test_a_token_works_wherever_the_key_does_and_makes_no_other(api: Api) -> None:
    got = await api.ask("POST", "/token")
    assert (got.json["token_type"], got.json["expires_in"]) == ("Bearer", 900)
    bearer = f"Bearer {got.json['access_token']}"
    assert (await api.ask("GET", "/keys", authorization=bearer)).status == 200
    assert (await api.ask("POST", "/token", authorization=bearer)).status == 403
    cookie = f"session={await api.world.session(JUNE)}"
    assert (await api.ask("POST", "/token", cookie=cookie, x_csrf_token=CSRF)).status == 401
    api.clock.now += 901
    assert (await api.ask("GET", "/keys", authorization=bearer)).status == 401
