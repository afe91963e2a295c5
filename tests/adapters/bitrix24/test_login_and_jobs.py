"""Connecting as an application, and what it binds by itself."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from adapters.base import Attempt, Link
from adapters.bitrix24.advice import advice
from adapters.bitrix24.jobs import bind_events
from adapters.bitrix24.login import open_login
from adapters.bitrix24.portal import TOKEN, pair_of
from adapters.bitrix24.settings import Bitrix24Settings
from adapters.jobs import JobContext
from adapters.login import LoginDone, LoginPlace, LoginStep
from adapters.tokens import Token
from gateway.domain.errors import BadCredentials, BadSettings, Rejected
from gateway.domain.ids import IntegrationKey
from gateway.domain.secret import Secret
from tests.adapters.bitrix24.conftest import MemoryTokens, application, settings_of
from tests.sandbox.bitrix24 import Bitrix24

PLACE = LoginPlace("https://gw.example/oauth/x/callback", "the-state")
HOOK = "https://gw.example/hooks/x/unguessable"


async def test_there_and_back(portal: Bitrix24, open_link: Link) -> None:
    portal.redirect_uri = PLACE.redirect_uri
    link = replace(open_link, provider_urls={"bitrix24_oauth": portal.base})
    async with open_login(link, application(portal), PLACE) as flow:
        step = await flow.begin()
        assert isinstance(step, LoginStep)
        async with httpx2.AsyncClient(trust_env=False) as browser:
            back = await browser.get(step.url, follow_redirects=False)
        query = {name: values[0] for name, values in parse_qs(urlsplit(back.headers["location"]).query).items()}
        assert query.pop("state") == "the-state"
        done = await flow.go_on("allow", {}, query)
        assert isinstance(done, LoginDone)
        pair = pair_of(Token(done.tokens[TOKEN].value, 1))
        assert (pair["access"], pair["user_id"], pair["endpoint"]) == (portal.access, "1", f"{portal.base}/rest/")
        assert done.tokens[TOKEN].expires_in_s == 3600.0
        with pytest.raises(BadCredentials) as raised:
            await flow.go_on("allow", {}, query)
        assert query["code"] not in str(raised.value)
        with pytest.raises(Rejected):
            await flow.go_on("allow", {}, {"error": "access_denied"})


async def test_a_login_needs_a_portal_and_an_application(portal: Bitrix24, open_link: Link) -> None:
    with pytest.raises(BadSettings):
        async with open_login(open_link, Bitrix24Settings.model_validate({"portal": portal.base}), PLACE):
            pass
    by_webhook = settings_of(portal, client_id=portal.CLIENT_ID, client_secret=portal.CLIENT_SECRET)
    async with open_login(open_link, by_webhook, PLACE) as flow:
        with pytest.raises(BadSettings):
            await flow.begin()


async def test_events_are_bound_once_and_moved(
    portal: Bitrix24, open_link: Link, open_desk: Callable[..., Any]
) -> None:
    portal.access = "access-0123456789"
    portal.events = {
        ("ONEXTERNALCALLSTART", "https://gw.example/hooks/x/earlier"),
        ("ONEXTERNALCALLSTART", "https://other.example/h"),
    }
    pair = {"access": portal.access, "refresh": "r", "endpoint": f"{portal.base}/rest/"}
    settings = application(portal, line_number="375171234567")
    changes: dict[str, Any] = {"tokens": MemoryTokens(oauth=pair), "hook_url": Secret(HOOK)}
    async with open_desk(settings, **changes) as desk:
        context = JobContext(
            tenant=open_link.tenant, key=IntegrationKey("x"), settings=settings, link=replace(open_link, **changes),
            attempt=Attempt(kind="events", key="", lane="", body={}),
        )  # fmt: skip
        for _ in range(2):
            assert await bind_events(desk.client, context) is None
    ours = {(event, HOOK) for event in ("ONEXTERNALCALLSTART", "ONEXTERNALCALLBACKSTART")}
    assert portal.events == {*ours, ("ONEXTERNALCALLSTART", "https://other.example/h")}
    assert portal.lines == ["375171234567"]
    assert portal.requests["event.bind"] == 2


async def test_what_was_bound_is_taken_back_when_it_is_disconnected(
    portal: Bitrix24, open_link: Link, open_desk: Callable[..., Any]
) -> None:
    portal.access = "access-0123456789"
    portal.events = {("ONEXTERNALCALLSTART", HOOK), ("ONEXTERNALCALLSTART", "https://other.example/h")}
    pair = {"access": portal.access, "refresh": "r", "endpoint": f"{portal.base}/rest/"}
    changes: dict[str, Any] = {"tokens": MemoryTokens(oauth=pair), "hook_url": Secret(HOOK)}
    async with open_desk(application(portal), **changes) as desk:
        for _ in range(2):
            await desk.client.withdraw()
    assert portal.events == {("ONEXTERNALCALLSTART", "https://other.example/h")}
    for settings, more in (
        (settings_of(portal), changes),
        (application(portal), {**changes, "tokens": MemoryTokens()}),
    ):
        before = portal.requests.total()
        async with open_desk(settings, **more) as desk:
            await desk.client.withdraw()
        assert portal.requests.total() == before, "a webhook has bound nothing, and neither has what nobody connected"


async def test_advice_has_no_secret(portal: Bitrix24) -> None:
    for one in (*advice(None), *advice(settings_of(portal)), *advice(application(portal))):
        assert set(one.title) == set(one.text) == {"en", "ru"}
        assert portal.secret not in one.block
