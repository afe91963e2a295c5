"""The way of a request: credentials, sessions, other origins."""

from typing import Any

import pytest
from pydantic import ValidationError

from gateway.web.http.routes import Table
from gateway.web.rest.endpoints import problems_of
from gateway.web.rest.integrations import IntegrationBody
from tests.web.rest.conftest import Api
from tests.web.world import CSRF, JUNE


async def test_every_answer_to_a_get_by_session_brings_the_csrf_token(api: Api) -> None:
    cookie = f"session={await api.world.session(JUNE)}"
    for path in ("/calls", "/calls/none", "/integrations"):
        got = await api.ask("GET", path, cookie=cookie)
        assert got.headers["X-CSRF-Token"] == CSRF
        assert int(got.headers["RateLimit-Remaining"]) > 0
    assert "X-CSRF-Token" not in (await api.ask("GET", "/calls")).headers
    operator = await api.ask("GET", "/calls", cookie=f"session={await api.world.session(None)}", query=None)
    assert operator.status == 403


async def test_a_key_in_the_query_is_no_key(api: Api) -> None:
    key, api.key = api.key, ""
    for name in ("key", "api_key", "access_token", "token", "authorization"):
        assert (await api.ask("GET", "/calls", query={name: key})).status == 401


async def test_other_origins(api: Api) -> None:
    here = api.changed(origins=("https://crm.example",))
    allowed = await here.ask("GET", "/calls", origin="https://crm.example")
    assert allowed.headers["Access-Control-Allow-Origin"] == "https://crm.example"
    assert "Access-Control-Allow-Credentials" not in allowed.headers
    refused = await here.ask("GET", "/calls", origin="https://evil.example")
    assert "Access-Control-Allow-Origin" not in refused.headers
    assert refused.headers["Vary"] == "Origin"
    here.key = ""
    unknown = await here.ask("GET", "/calls", origin="https://crm.example")
    assert (unknown.status, unknown.headers["Access-Control-Allow-Origin"]) == (401, "https://crm.example")
    assert not [
        name for name in (await api.ask("GET", "/calls", origin="https://crm.example")).headers if "Access" in name
    ]


async def test_preflight_requests(api: Api) -> None:
    asked: dict[str, Any] = {"origin": "https://crm.example", "access_control_request_method": "PUT"}
    here = api.changed(origins=("https://crm.example",))
    here.key = ""
    good = await here.ask("OPTIONS", "/integrations/crm", **asked)
    assert (good.status, good.body) == (204, b"")
    assert good.headers["Access-Control-Allow-Methods"] == "DELETE, GET, HEAD, OPTIONS, PATCH, PUT"
    assert "Authorization" in good.headers["Access-Control-Allow-Headers"]
    assert "Access-Control-Allow-Credentials" not in good.headers
    for other in (
        await here.ask("OPTIONS", "/calls", **{**asked, "origin": "https://evil.example"}),
        await api.ask("OPTIONS", "/calls", **asked),
    ):
        assert other.status == 204
        assert not [name for name in other.headers if "Access" in name]
        assert other.headers["Allow"] == "GET, HEAD, OPTIONS, POST"
    everyone = await api.changed(origins=("*",)).ask("GET", "/calls", origin="https://any.example")
    assert everyone.headers["Access-Control-Allow-Origin"] == "*"


async def test_the_wrong_method_and_address(api: Api) -> None:
    assert isinstance(api.table, Table)
    assert (await api.ask("PATCH", "/calls")).status == 405
    assert (await api.ask("GET", "/nothing")).status == 404


def test_paths_of_problems() -> None:
    with pytest.raises(ValidationError) as raised:
        IntegrationBody.model_validate({"settings": 1, "enabled": "maybe", "x": {}})
    assert [path for path, _ in problems_of(raised.value)] == ["settings", "enabled", "x"]
