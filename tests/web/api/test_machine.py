"""The table of machine addresses: events, tokens, bodies, operators and the API document."""

import base64
import hashlib
import json
import logging
import re
from typing import Any
from urllib.parse import urlencode

import pytest
import trio

from gateway.domain.configuration import Tenant
from gateway.domain.posts import ADDRESSES, DISPATCH, Post
from gateway.domain.secret import Secret
from gateway.web.api.machine import machine_addresses
from gateway.web.api.openapi import openapi
from gateway.web.http.routes import Address, Request, Response, Table, answer, is_forwarded
from tests.web.api.held_gateway import TOKEN, Gateway, event

CODES = {
    "VALIDATION_ERROR", "AUTH_FAILED", "NOT_FOUND", "CONFLICT", "RATE_LIMITED", "FORBIDDEN", "CONNECTION_FAILED",
    "EXTERNAL_SERVICE_ERROR", "CONFIG_INVALID", "PAYLOAD_TOO_LARGE", "UNAVAILABLE",
}  # fmt: skip


async def ask(table: list[Address], method: str, path: str, body: bytes = b"", **more: Any) -> tuple[int, Any]:
    found = Table(table).find(method, path)
    if isinstance(found, Response):
        response = found
    else:
        address, params = found
        response = await answer(address, Request(method=method, path=path, params=params, body=body, **more))
    said = json.loads(response.body)
    if response.status >= 400:
        assert response.content_type == "application/problem+json"
        assert said["code"] in CODES
        assert said["status"] == response.status
        assert isinstance(said["retryable"], bool)
    return response.status, said


async def post(gateway: Gateway, body: bytes | dict[str, Any], path: str = "/dial", kind: str = "") -> tuple[int, Any]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await ask(gateway.addresses(), "POST", path, data, headers={"content-type": kind})


async def test_an_event_is_accepted_once(gateway: Gateway) -> None:
    assert await post(gateway, event()) == (200, {"status": "accepted"})
    assert await post(gateway, event()) == (200, {"status": "duplicate"})
    assert await post(gateway, event(), "/hangup") == (200, {"status": "accepted"})
    assert [one.address for one in gateway.journaled] == ["/dial", "/hangup"]
    assert not any(TOKEN in one.body for one in gateway.journaled)


async def test_dispatch(gateway: Gateway) -> None:
    body = {"token": TOKEN, "uniqueId": "7.1", "event_type": "hangup", "raw": event()}
    assert await post(gateway, body, DISPATCH) == (200, {"status": "accepted"})
    assert gateway.journaled[0].extensions == ("150",)


async def test_forms(gateway: Gateway) -> None:
    form = "application/x-www-form-urlencoded; charset=utf-8"
    pairs = [("Token", TOKEN), ("UniqueId", "7.2"), ("CallType", "0"), ("Extensions[]", "150"), ("Extensions[]", "151")]
    assert (await post(gateway, urlencode(pairs).encode(), kind=form))[0] == 200
    assert (await post(gateway, json.dumps(event()).encode(), kind=form))[0] == 200
    assert (await post(gateway, f"Token={TOKEN}&UniqueId=7.3&Extensions=150%2C151".encode(), kind=form))[0] == 200
    assert [one.extensions for one in gateway.journaled] == [("150", "151"), ("150",), ("150", "151")]


@pytest.mark.parametrize("token", ["wrong", "", None, 7, TOKEN + "x", "\ud800"])
async def test_wrong_tokens(gateway: Gateway, token: Any) -> None:
    status, said = await post(gateway, event(Token=token, UniqueId=""))
    assert (status, said["code"]) == (401, "AUTH_FAILED")


async def test_guessing_tokens_is_slowed_and_who_is_right_is_not(
    gateway: Gateway, autojump_clock: trio.abc.Clock
) -> None:
    began = trio.current_time()
    for path in ("/dial", DISPATCH):
        for turn in range(40):
            body = {
                "token": f"guess-{turn}",
                "Token": f"guess-{turn}",
                "uniqueId": "7.1",
                "event_type": "hangup",
                "raw": {},
            }
            assert (await post(gateway, body, path))[0] in (401, 429)
    took = trio.current_time() - began
    assert took > 30
    assert (await post(gateway, event()))[0] == 200
    assert trio.current_time() - began == took


async def test_guessing_the_operators_token_is_slowed(gateway: Gateway, autojump_clock: trio.abc.Clock) -> None:
    table, began = gateway.addresses(operator_token=Secret("o" * 32)), trio.current_time()

    async def scrape(token: str) -> int:
        return (await ask(table, "GET", "/stats", headers={"authorization": f"Bearer {token}"}))[0]

    seen = [await scrape(f"guess-{turn}") for turn in range(40)]
    assert (seen[0], seen[-1]) == (401, 429)
    assert trio.current_time() - began > 10
    assert await scrape("o" * 32) == 200


async def test_a_look_up_that_errs_is_not_believed(gateway: Gateway) -> None:
    def anybody(digest: bytes) -> Tenant | None:
        return gateway.deps.tenant_by_token(hashlib.sha256(TOKEN.encode()).digest())

    body = json.dumps(event(Token="wrong")).encode()
    status, _ = await ask(gateway.addresses(tenant_by_token=anybody), "POST", "/dial", body)
    assert status == 401


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b"7", b'"text"', b"\xff\xfe", b"\x00", b'{"a": NaN}', b"[" * 100_000, b'{"a":' * 5000,
        b"1" * 10_000, b"Token=x",
    ],
)  # fmt: skip
async def test_malformed(gateway: Gateway, body: bytes) -> None:
    status, said = await post(gateway, body)
    assert (status, said["code"]) == (422, "VALIDATION_ERROR")
    assert said["errors"][0]["field"] == "body"


async def test_every_problem_is_listed(gateway: Gateway) -> None:
    status, said = await post(gateway, event(UniqueId="", CallType=9, StartTime="never"))
    assert status == 422
    assert [one["field"] for one in said["errors"]] == ["UniqueId", "CallType", "StartTime"]


async def test_not_stored(gateway: Gateway) -> None:
    gateway.full = True
    status, said = await post(gateway, event())
    assert (status, said["code"], said["retryable"], said["retry_after"]) == (503, "UNAVAILABLE", True, 7)
    assert "disk" not in said["detail"]


@pytest.mark.usefixtures("expected_errors")
async def test_a_bug_says_nothing_and_is_logged(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    async def broken(tenant: Tenant, post: Post) -> Any:
        raise KeyError("found a secret")

    body = json.dumps(event()).encode()
    status, said = await ask(gateway.addresses(journal=broken), "POST", "/dial", body)
    assert status == 500
    assert "secret" not in json.dumps(said)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert TOKEN not in caplog.text


async def test_unknown_addresses_and_methods(gateway: Gateway) -> None:
    table = gateway.addresses()
    assert (await ask(table, "GET", "/nowhere"))[0] == 404
    assert (await ask(table, "GET", "/integrations/"))[0] == 404
    assert (await ask(table, "GET", "/dial/"))[0] == 404
    assert (await ask(table, "DELETE", "/dial"))[1]["code"] == "VALIDATION_ERROR"
    refused = Table(table).find("PUT", "/health")
    assert isinstance(refused, Response)
    assert refused.headers == (("Allow", "GET, HEAD"),)
    with pytest.raises(ValueError, match="twice"):
        Table([*table, table[0]])


async def test_health_and_readiness(gateway: Gateway) -> None:
    table = gateway.addresses()
    assert await ask(table, "GET", "/health") == (200, {"status": "ok"})
    assert (await ask(table, "HEAD", "/health"))[0] == 200
    assert await ask(table, "GET", "/ready") == (200, {"status": "ready", "reasons": [], "degraded": []})
    away = gateway.addresses(degraded=lambda: ["database: away", "spool: 7 events wait"])
    assert await ask(away, "GET", "/ready") == (
        200, {"status": "ready", "reasons": [], "degraded": ["database: away", "spool: 7 events wait"]},
    )  # fmt: skip
    gateway.reasons = ["the database is away"]
    status, said = await ask(table, "GET", "/ready")
    assert (status, said["reasons"], said["retryable"]) == (503, ["the database is away"], True)


OPERATOR = ["GET /stats", "GET /integrations/0367", "POST /cache/invalidate/0367"]


@pytest.mark.parametrize("address", OPERATOR)
async def test_operators_by_token(gateway: Gateway, address: str) -> None:
    method, path = address.split()
    table = gateway.addresses(operator_token=Secret("letmein"), operator_open=True)
    for given in ("", "Bearer", "Bearer wrong", "Basic letmein", "Bearer letmein2", "Bearer \u00e9"):
        status, said = await ask(table, method, path, peer="127.0.0.1", headers={"authorization": given})
        assert (status, said["code"]) == (401, "AUTH_FAILED")
    assert (await ask(table, method, path, peer="10.0.0.1", headers={"authorization": "bearer letmein"}))[0] == 200


@pytest.mark.parametrize("address", OPERATOR)
async def test_operators_without_a_token(gateway: Gateway, address: str) -> None:
    method, path = address.split()
    table = gateway.addresses(operator_open=True)
    host = {"host": "127.0.0.1:8000"}
    assert (await ask(table, method, path, peer="127.0.0.1", headers=host))[0] == 200
    assert (await ask(table, method, path, peer="::1", headers={"host": "localhost"}))[0] == 200
    for more in ({"origin": "http://127.0.0.1:8000"}, {"sec-fetch-site": "none"}, {"sec-fetch-site": "same-origin"}):
        assert (await ask(table, method, path, peer="127.0.0.1", headers=host | more))[0] == 200
    for peer, forwarded, headers in (
        ("127.0.0.1", False, host | {"origin": "https://evil.example"}), ("127.0.0.1", False, host | {"origin": "null"}),
        ("127.0.0.1", False, host | {"sec-fetch-site": "cross-site"}), ("127.0.0.1", False, host | {"origin": "http://[evil"}),
        ("127.0.0.1", False, host | {"sec-fetch-site": "same-site"}), ("10.0.0.1", False, host), ("127.0.0.1", True, host), ("", False, host),
        ("127.0.0.1", False, {"host": "evil.example"}), ("127.0.0.1", False, {"host": "[evil"}),
    ):  # fmt: skip
        status, said = await ask(table, method, path, peer=peer, forwarded=forwarded, headers=headers)
        assert (status, said["code"]) == (403, "FORBIDDEN")
    assert (await ask(gateway.addresses(), method, path, peer="127.0.0.1", headers=host))[0] == 403


async def test_operators_see_what_there_is(gateway: Gateway) -> None:
    table = gateway.addresses(operator_open=True)
    here: dict[str, Any] = {"peer": "127.0.0.1"}
    assert (await ask(table, "GET", "/integrations/0367", **here))[1]["integrations"] == {"retailcrm": True}
    assert (await ask(table, "GET", "/integrations/9999", **here))[0] == 404
    assert (await ask(table, "POST", "/cache/invalidate/0367", **here))[1]["status"] == "invalidated"
    assert (await ask(table, "POST", "/cache/invalidate/9999", **here))[0] == 404


def test_forwarding_headers() -> None:
    for name in ("x-forwarded-for", "x-forwarded-proto", "forwarded", "x-real-ip", "via"):
        assert is_forwarded(["host", name])
    assert not is_forwarded(["host", "user-agent"])


def test_the_intake_has_events_and_health_alone(gateway: Gateway) -> None:
    assert {one.path for one in gateway.addresses() if one.intake} == {*ADDRESSES, "/health"}


async def test_the_document_is_the_table(gateway: Gateway) -> None:
    async def hook(request: Request) -> Response:
        return Response()

    added = Address(method="POST", path="/hooks/{name}", handler=hook, summary="A <webhook>", intake=True)
    table = gateway.addresses(added)
    _, document = await ask(table, "GET", "/api/openapi.json")
    assert document == openapi(table)
    assert document["openapi"] == "3.1.0"
    assert {(m.upper(), p) for p, methods in document["paths"].items() for m in methods} == {
        (one.method, one.path) for one in table
    }
    ids = [operation["operationId"] for methods in document["paths"].values() for operation in methods.values()]
    assert len(set(ids)) == len(ids)
    found = Table(table).find("GET", "/api/docs")
    assert not isinstance(found, Response)
    page = (await answer(found[0], Request(method="GET", path="/api/docs"))).body.decode()
    assert all(one.path in page for one in table)
    assert "A &lt;webhook&gt;" in page
    assert "http" not in page.split("<body>")[0].replace("</", "")


def test_a_table_is_made_of_deps_alone(gateway: Gateway) -> None:
    assert len(machine_addresses(gateway.deps)) == len(gateway.addresses())


async def test_the_reference_is_searchable_loads_nothing_and_has_commands_to_run(gateway: Gateway) -> None:
    table = Table(gateway.addresses(base_url="https://gw.example"))
    found = table.find("GET", "/api/docs")
    assert not isinstance(found, Response)
    response = await answer(found[0], Request(method="GET", path="/api/docs"))
    page, policy = response.body.decode(), dict(response.headers)["Content-Security-Policy"]
    assert "https://gw.example/ready" in page
    assert 'id="sought"' in page
    for kind, mark in (("script", "script"), ("style", "style")):
        text = re.search(rf"(?s)<{mark}>(.*?)</{mark}>", page)
        assert text is not None
        digest = base64.b64encode(hashlib.sha256(text[1].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy
    assert not re.search(r'(?:src|href)="(?!/|#)', page)
