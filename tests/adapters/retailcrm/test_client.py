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


def rings(users: dict[str, str | None], kind: str = "in") -> Attempt:
    body = {"event": {"phone": "+375291112233", "type": kind, "codes": ["150", "151", "152"], "callExternalId": "1"}}
    return Attempt(kind=kind, key="1:in", lane="1", body=body, users=lambda: users)


MISSING = as_json({"success": True, "notExistCodes": ["151", "152"]})
FINE = as_json({"success": True})


@pytest.mark.parametrize(
    ("users", "answers", "sent", "detail"),
    [
        ({"7": "151", "19": "150"}, [MISSING, FINE], [7], "152"),
        ({"7": "151", "8": "152"}, [MISSING, FINE], [7, 8], ""),
        ({"7": "151", "8": "152"}, [MISSING, as_json({"success": True, "notExistUsers": [8]})], [7, 8], "8"),
        ({"7": "151"}, [MISSING, as_json({"success": False, "errorMsg": "Rate limit exceeded"}, 503)], [7], "151, 152"),
        ({"19": "150", "anna": "151", "22": None}, [MISSING], None, "151, 152"),
        ({"7": "151"}, [FINE], None, ""),
    ],
)
async def test_a_user_without_a_code_is_named_by_their_id(
    remote: Remote, open_link: Link, users: dict[str, str | None], answers: list[Reply], sent: list[int] | None, detail: str
) -> None:  # fmt: skip
    remote.replies = answers
    async with connect(open_link, settings(remote.url)) as client:
        outcome = await client.deliver(rings(users))
    assert (outcome.note, outcome.detail) == ("not_exist_codes" if detail else "", detail)
    events = [json.loads(one.form()["event"]) for one in remote.seen]
    assert events[0]["codes"] == ["150", "151", "152"]
    if sent is None:
        assert len(events) == 1
    else:
        assert events[1:] == [{"phone": "+375291112233", "type": "in", "userIds": sent, "callExternalId": "1"}]


async def test_an_end_is_sent_once_whoever_has_no_code(remote: Remote, open_link: Link) -> None:
    remote.replies = [MISSING]
    async with connect(open_link, settings(remote.url)) as client:
        await client.deliver(replace(hangup(), users=lambda: {"7": "151"}))
    assert len(remote.seen) == 1


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
