"""The conversation with RetailCRM over a real socket."""

import json
from dataclasses import replace
from typing import Any

import pytest

from adapters import base
from adapters.base import Attempt, Link
from adapters.http import SafeDialer
from adapters.retailcrm.client import connect
from adapters.retailcrm.settings import RetailcrmSettings
from gateway.domain.errors import BadCredentials, BadSettings, GatewayError, RateLimited, Unavailable
from tests.adapters.conftest import Remote, Reply, as_json
from tests.adapters.http.test_http import everything_of, unused_port

KEY, CLIENT_ID = "canary-key-0123456789", "canary-client-0123456789"


def settings(domain: str, **more: Any) -> RetailcrmSettings:
    return RetailcrmSettings.model_validate({"domain": domain, "api_key": KEY, "client_id": CLIENT_ID, **more})


def hangup() -> Attempt:
    body = {"event": {"phone": "+375291112233", "type": "hangup", "codes": ["150"], "hangupStatus": "busy"}}
    return Attempt(kind="hangup", key="1:hangup", lane="1", body=body)


async def test_a_delivery_on_the_wire(remote: Remote, open_link: Link) -> None:
    remote.replies = [as_json({"success": True, "notExistCodes": ["104", "105"]})]
    attempt = hangup()
    async with connect(open_link, settings(remote.url)) as client:
        assert isinstance(client, base.Delivers)
        assert isinstance(client, base.Testable)
        outcome = await client.deliver(attempt)
    assert (outcome.note, outcome.detail) == ("not_exist_codes", "104, 105")
    (seen,) = remote.seen
    assert (seen.method, seen.target) == ("POST", "/api/v5/telephony/call/event")
    assert seen.headers["x-api-key"] == KEY
    form = seen.form()
    assert form["clientId"] == CLIENT_ID
    assert json.loads(form["event"]) == attempt.body["event"]
    assert "***" in attempt.request
    assert KEY not in attempt.request
    assert CLIENT_ID not in attempt.request
    assert "+375291112233" in attempt.request
    assert (attempt.status, attempt.response) == (200, '{"success": true, "notExistCodes": ["104", "105"]}')


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (as_json({"success": False, "errorMsg": f'Wrong "apiKey" value {KEY}.', "errors": [CLIENT_ID]}, 403), BadCredentials),
        (as_json({"success": False, "errorMsg": "Rate limit exceeded"}, 503), RateLimited),
        (Reply(405, b"<html>" + KEY.encode()), BadSettings),
        (Reply(302, b"", (("location", "http://169.254.169.254/"),)), BadSettings),
        (Reply(500, KEY.encode()), Unavailable),
        (Reply(drop=True), Unavailable),
        (Reply(hang=True), Unavailable),
    ],
)  # fmt: skip
async def test_trouble_and_no_secret_in_it(
    remote: Remote, open_link: Link, reply: Reply, error: type[GatewayError]
) -> None:
    remote.replies = [reply]
    attempt = hangup()
    async with connect(open_link, settings(remote.url, read_timeout_s=0.1)) as client:
        with pytest.raises(error) as raised:
            await client.deliver(attempt)
        texts = [*everything_of(raised.value), repr(attempt), repr(client), repr(vars(client))]
    assert not [text for text in texts if "canary" in text]
    assert len(remote.seen) == 1


async def test_what_is_forbidden_is_never_asked(remote: Remote, open_link: Link) -> None:
    closed = replace(open_link, dial=SafeDialer())
    attempt = hangup()
    async with connect(closed, settings(remote.url)) as client:
        with pytest.raises(BadSettings) as raised:
            await client.deliver(attempt)
        assert attempt.request.startswith("POST http://127.0.0.1:")
        assert not [text for text in everything_of(raised.value) if "canary" in text]
        assert not (await client.test()).ok
    assert remote.connections == 0


async def test_the_operators_address_replaces_the_tenants(remote: Remote, open_link: Link) -> None:
    remote.replies = [as_json({"success": True})]
    link = replace(open_link, dial=SafeDialer(), base_url=f"{remote.url}/crm/")
    async with connect(link, settings("https://june.retailcrm.ru")) as client:
        await client.deliver(hangup())
    assert remote.seen[0].target == "/crm/api/v5/telephony/call/event"


@pytest.mark.parametrize(
    ("reply", "code", "said"),
    [
        (as_json({"success": True, "sitesAvailable": ["shop-a", "shop-b"]}), "ok", "shop-a, shop-b"),
        (as_json({"success": True, "sitesAvailable": [], "scopes": []}), "ok", "Ключ принят"),
        (as_json({"success": False, "errorMsg": f"Wrong apiKey {KEY}"}, 403), "bad_credentials", "не принял ключ"),
        (Reply(404, b"<html>"), "bad_settings", "нет аккаунта"),
        (as_json({"success": False, "errorMsg": "Rate limit exceeded"}, 503), "rate_limited", "подождать"),
        (Reply(drop=True), "unavailable", "не отвечает"),
        (as_json({"success": False, "errorMsg": "No."}, 400), "rejected", "отклонил"),
    ],
)
async def test_the_connection_test(remote: Remote, open_link: Link, reply: Reply, code: str, said: str) -> None:
    remote.replies = [reply]
    async with connect(open_link, settings(remote.url)) as client:
        found = await client.test()
    assert (found.ok, found.code) == (code == "ok", code)
    assert said in found.said("ru")
    assert "canary" not in found.said("ru")
    assert (remote.seen[0].method, remote.seen[0].target) == ("GET", "/api/credentials")
    assert remote.seen[0].headers["x-api-key"] == KEY


async def test_nobody_there(open_link: Link) -> None:
    async with connect(open_link, settings(await unused_port())) as client:
        with pytest.raises(Unavailable) as raised:
            await client.deliver(hangup())
        assert raised.value.certain
        assert (await client.test()).code == "unavailable"
