"""With what we come, how fast, and what is refused; the connection test; connecting an app; settings."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from pydantic import ValidationError

from adapters.base import Attempt, Link
from adapters.budget import Budget
from adapters.hubspot import ADAPTER
from adapters.hubspot.account import TOKEN, pair_of
from adapters.hubspot.advice import SCOPES, advice
from adapters.hubspot.jobs import prepare
from adapters.hubspot.login import open_login
from adapters.hubspot.settings import HubSpotSettings
from adapters.jobs import JobContext
from adapters.login import LoginDone, LoginPlace, LoginStep
from adapters.tokens import Token
from gateway.domain.errors import BadCredentials, BadSettings, RateLimited, Rejected
from gateway.domain.events import Result
from gateway.domain.ids import IntegrationKey
from tests.adapters.bitrix24.conftest import MemoryTokens, ended
from tests.adapters.hubspot.conftest import application, only, settings_of
from tests.sandbox.hubspot import HubSpot

Open = Callable[..., Any]
PLACE = LoginPlace("https://gw.example/oauth/x/callback", "the-state")


async def test_the_app_s_token_is_traded_when_it_ends(account: HubSpot, open_desk: Open) -> None:
    account.access, account.refresh = "ended-over-there", "refresh-0123456789abcdef"
    pair = {"access": "access-an-old-one-0123456789", "refresh": account.refresh}
    tokens = MemoryTokens(oauth=pair)
    async with open_desk(application(), tokens=tokens) as desk:
        (finish,) = desk.planned(ended())
        attempt = desk.attempt(finish, "1")
        await desk.client.deliver(attempt)
        shown = attempt.request + attempt.response
    assert account.exchanges == tokens.exchanges == 1
    assert only(account)
    secrets = (account.access, account.refresh, pair["access"], HubSpot.CLIENT_SECRET)
    assert not [one for one in secrets if one in shown]
    assert account.violations == []


async def test_a_revoked_connection_asks_for_a_person(account: HubSpot, open_desk: Open) -> None:
    pair = {"access": "access-revoked-0123456789", "refresh": "revoked-refresh-01"}
    async with open_desk(application(), tokens=MemoryTokens(oauth=pair)) as desk:
        with pytest.raises(BadCredentials, match="invalid refresh token") as raised:
            await desk.tell(ended())
    assert "connect the app again" in raised.value.person
    async with open_desk(application(client_secret="another-secret-01"), tokens=MemoryTokens(oauth=pair)) as desk:
        with pytest.raises(BadCredentials) as raised:
            await desk.tell(ended())
    assert "client id and secret" in raised.value.person
    async with open_desk(application(), tokens=MemoryTokens()) as desk:
        with pytest.raises(BadCredentials) as raised:
            await desk.tell(ended())
    assert "connect an app" in raised.value.person


async def test_a_wrong_token_is_named_and_not_shown(account: HubSpot, open_desk: Open) -> None:
    wrong = settings_of(account, api_key="pat-eu1-wrong0123456789")
    async with open_desk(wrong) as desk:
        (finish,) = desk.planned(ended())
        attempt = desk.attempt(finish, "1")
        with pytest.raises(BadCredentials) as raised:
            await desk.client.deliver(attempt)
        shown = "".join((str(raised.value), raised.value.person, attempt.request, attempt.response, repr(desk.client)))
        tested = await desk.client.test()
    assert "wrong0123456789" not in shown
    assert tested.code == "bad_credentials"
    assert "токен" in tested.said("ru")


async def test_a_missing_scope_is_named(account: HubSpot, open_desk: Open) -> None:
    account.scopes.remove("crm.objects.contacts.write")
    async with open_desk(settings_of(account)) as desk:
        with pytest.raises(BadSettings) as raised:
            await desk.tell(ended())
    assert "crm.objects.contacts.write" in raised.value.person
    account.scopes.remove("crm.objects.owners.read")
    async with open_desk(settings_of(account)) as desk:
        tested = await desk.client.test()
    assert not tested.ok
    assert "crm.objects.owners.read" in tested.said("ru")
    assert "дайте приложению" in tested.said("ru")


async def test_without_the_right_to_make_properties_calls_go_on(account: HubSpot, open_desk: Open) -> None:
    account.scopes.remove("crm.schemas.contacts.write")
    async with open_desk(settings_of(account)) as desk:
        await desk.tell(ended("1", Result.MISSED))
        assert (await desk.client.schema.current()).told == "time"
    assert "gw_call_id" not in only(account).properties
    assert account.violations == []


@pytest.mark.parametrize(
    ("unique", "repeats", "told"),
    [(True, "auto", "unique"), (True, "search", "search"), (False, "auto", "search"), (True, "unique", "unique")],
)
async def test_what_is_in_force_is_said(
    account: HubSpot, open_desk: Open, unique: bool, repeats: str, told: str
) -> None:
    account.unique_calls = unique
    async with open_desk(settings_of(account, repeats=repeats)) as desk:
        await desk.client.schema.current()
        tested = await desk.client.test()
        assert (await desk.client.schema.current()).told == told
    assert tested.ok
    codes = {one.code for one in tested.findings}
    assert {"contacts_unique", "missed_no_answer", "recordings_link", "daily"} <= codes
    assert {code.removesuffix("_yet") for code in codes if code.startswith("told_")} == {f"told_{told}"}


async def test_what_must_be_unique_and_is_not_needs_a_person(account: HubSpot, open_desk: Open) -> None:
    account.unique_calls = False
    async with open_desk(settings_of(account, repeats="unique")) as desk:
        with pytest.raises(BadSettings, match="unique"):
            await desk.tell(ended())


async def test_the_connection_test_changes_nothing(account: HubSpot, open_desk: Open) -> None:
    async with open_desk(settings_of(account)) as desk:
        assert (await desk.client.test()).ok
    assert not [one for one in account.requests if not one.startswith("GET ")]


async def test_properties_are_made_once(account: HubSpot, open_desk: Open, open_link: Link) -> None:
    settings = settings_of(account)
    async with open_desk(settings) as desk:
        context = JobContext(
            tenant=open_link.tenant, key=IntegrationKey("x"), settings=settings, link=open_link,
            attempt=Attempt(kind="properties", key="", lane="", body={}),
        )  # fmt: skip
        for _ in range(2):
            assert await prepare(desk.client, context) is None
    assert account.properties["calls"]["gw_call_id"]["unique"]
    assert account.properties["contacts"]["gw_phone"]["unique"]
    assert account.requests["POST properties/calls"] == 2, "the group and the property"


async def test_headers_slow_the_whole_account_down(account: HubSpot, open_desk: Open) -> None:
    account.others = 98
    budget = Budget(ADAPTER.limits)
    async with open_desk(settings_of(account), budget=budget) as desk:
        await desk.client.users()
    assert budget.wait_s("") > 0.5
    assert account.violations == []


async def test_a_day_s_quota_that_is_gone_waits_for_midnight(account: HubSpot, open_desk: Open) -> None:
    account.daily_left = 0
    async with open_desk(settings_of(account)) as desk:
        with pytest.raises(RateLimited) as raised:
            await desk.tell(ended())
    assert 0 < (raised.value.after_s or 0) <= 86_400
    assert "midnight" in raised.value.person


# Connecting --------------------------------------------------------------------------------------------------------------


async def test_there_and_back(account: HubSpot, open_link: Link) -> None:
    account.redirect_uri = PLACE.redirect_uri
    link = replace(open_link, base_url=account.base)
    async with open_login(link, application(), PLACE) as flow:
        step = await flow.begin()
        assert isinstance(step, LoginStep)
        asked = parse_qs(urlsplit(step.url).query)
        assert asked["scope"] == [" ".join(SCOPES)]
        async with httpx2.AsyncClient(trust_env=False) as browser:
            back = await browser.get(step.url, follow_redirects=False)
        query = {name: values[0] for name, values in parse_qs(urlsplit(back.headers["location"]).query).items()}
        assert query.pop("state") == "the-state"
        done = await flow.go_on("allow", {}, query)
        assert isinstance(done, LoginDone)
        assert pair_of(Token(done.tokens[TOKEN].value, 1)) == {"access": account.access, "refresh": account.refresh}
        assert done.tokens[TOKEN].expires_in_s == 1800.0
        assert done.settings == {"portal_id": "62515"}
        with pytest.raises(BadCredentials) as raised:
            await flow.go_on("allow", {}, query)
        assert query["code"] not in str(raised.value)
        with pytest.raises(Rejected):
            await flow.go_on("allow", {}, {"error": "access_denied"})


async def test_a_login_needs_an_app(open_link: Link) -> None:
    with pytest.raises(BadSettings):
        async with open_login(open_link, HubSpotSettings(), PLACE):
            pass


# Settings ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"api_key": "pat canary0123456789"}, "api_key"),
        ({"api_key": "pat-ключ-canary0123456789"}, "api_key"),
        ({"client_secret": "with a space canary0123456789"}, "client_secret"),
        ({"client_id": "a b"}, "client_id"),
        ({"create": "lead"}, "create"),
        ({"recordings": "upload"}, "recordings"),
        ({"call_field": "Gw-Call"}, "call_field"),
        ({"contact_field": "1x"}, "contact_field"),
        ({"call_field": "", "repeats": "unique"}, "call_field"),
        ({"default_owner": "anna"}, "default_owner"),
        ({"search_lag_s": -1}, "search_lag_s"),
        ({"task_minutes": 0}, "task_minutes"),
        ({"portal_id": "x"}, "portal_id"),
        ({"pipeline": "a b"}, "pipeline"),
    ],
)
def test_what_cannot_be_right(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as raised:
        HubSpotSettings.model_validate(fields)
    assert [error["loc"][0] for error in raised.value.errors(include_input=False, include_context=False)] == [field]
    assert "canary0123456789" not in str(raised.value)


def test_an_account_s_rate_is_shared_by_all_that_use_it() -> None:
    def key(**fields: Any) -> str:
        return ADAPTER.account(HubSpotSettings.model_validate(fields))

    assert key(api_key="pat-1") == key(api_key=" pat-1 ", create="none") != key(api_key="pat-2")
    assert (
        key(client_id="a", portal_id="1")
        == key(client_id="a", portal_id="1", client_secret="x")
        != key(client_id="b", portal_id="1")
    )
    assert key(client_id="a") == ""


def test_what_is_missing_is_named() -> None:
    assert ADAPTER.missing(HubSpotSettings(), None) == "no_access"
    assert ADAPTER.missing(HubSpotSettings.model_validate({"api_key": "pat-1"}), None) == ""
    assert ADAPTER.missing(application(), None) == ""


def test_advice_has_no_secret() -> None:
    for settings in (None, HubSpotSettings.model_validate({"api_key": "pat-canary"}), application()):
        for one in advice(settings):
            assert set(one.title) == set(one.text) == {"en", "ru"}
            assert "canary" not in one.block + str(one.text)
