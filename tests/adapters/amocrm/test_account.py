"""Where an account is, with what we come, what it refuses, who works there, and connecting it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
import trio

from adapters.amocrm.account import TOKEN, moved_to, pair_of
from adapters.amocrm.advice import advice
from adapters.amocrm.client import connect
from adapters.amocrm.jobs import stay_connected
from adapters.amocrm.login import open_login
from adapters.amocrm.refusals import REASONS
from adapters.base import Attempt, Link
from adapters.budget import Budget
from adapters.jobs import JobContext
from adapters.login import LoginDone, LoginPlace, LoginStep
from adapters.tokens import Token
from gateway.domain.errors import BadCredentials, BadSettings, GatewayError, RateLimited, Rejected, Unavailable
from gateway.domain.events import Result
from gateway.domain.ids import IntegrationKey
from gateway.domain.limiter import Limits, Rate
from tests.adapters.amocrm.conftest import CLIENT, application, connected, only, settings_of
from tests.adapters.bitrix24.conftest import MemoryTokens, ended, ringing
from tests.sandbox.amocrm import AmoCrm

Open = Callable[..., Any]
PLACE = LoginPlace("https://gw.example/oauth/x/callback", "the-state")


async def test_the_application_s_token_is_traded_when_it_ends(account: AmoCrm, open_desk: Open) -> None:
    account.add("contacts", CLIENT)
    pair = connected(account)
    tokens = MemoryTokens(oauth=pair)
    async with open_desk(application(), tokens=tokens) as desk:
        draft = desk.planned(ringing())[0]
        attempt = desk.attempt(draft, "1")
        await desk.client.deliver(attempt)
        await desk.tell(ended())
    assert account.exchanges == tokens.exchanges == 1
    stored = pair_of(tokens.stored[TOKEN])
    assert stored["access"] in account.access
    assert (stored["refresh"], stored["host"], stored["redirect_uri"]) == (
        account.refresh, pair["host"], pair["redirect_uri"],
    )  # fmt: skip
    shown = attempt.request + attempt.response
    assert not [one for one in (*account.access, account.refresh, pair["access"], pair["refresh"]) if one in shown]
    assert only(account)
    assert account.violations == []


async def test_an_exchange_whose_answer_was_lost_heals_within_the_grace(account: AmoCrm, open_desk: Open) -> None:
    account.add("contacts", CLIENT)
    account.grace_s, account.lose_exchange = 30.0, 1
    async with open_desk(application(), tokens=MemoryTokens(oauth=connected(account))) as desk:
        await desk.tell(ended())
    assert account.exchanges == 1, "the same pair once more"
    assert only(account)


async def test_without_a_grace_a_person_connects_again(account: AmoCrm, open_desk: Open) -> None:
    account.lose_exchange = 1
    async with open_desk(application(), tokens=MemoryTokens(oauth=connected(account))) as desk:
        for person in (REASONS["lost"], REASONS["grant"]):
            with pytest.raises(BadCredentials) as raised:
                await desk.tell(ended())
            assert raised.value.person == person
            assert "connect again" in person
        assert account.refresh not in str(raised.value)


async def test_what_is_not_connected_says_so(account: AmoCrm, open_desk: Open) -> None:
    async with open_desk(application(), tokens=MemoryTokens()) as desk:
        with pytest.raises(BadCredentials) as raised:
            await desk.tell(ended())
    assert raised.value.person == REASONS["connect"]


async def test_a_renamed_account_is_followed_and_remembered(
    account: AmoCrm, open_desk: Open, nursery: trio.Nursery
) -> None:
    renamed = AmoCrm(token=account.token, limits=False)
    renamed.add("contacts", CLIENT)
    account.moved_to = await nursery.start(renamed.serve)
    tokens = MemoryTokens()
    async with open_desk(tokens=tokens) as desk:
        await desk.tell(ended("1"))
    async with open_desk(tokens=tokens) as desk:
        connections = account.site.connections
        await desk.tell(ended("2"))
        assert account.site.connections == connections, "the old address is not asked again"
    assert (len(account.calls), len(renamed.calls)) == (0, 2)


@pytest.mark.parametrize(
    ("location", "origin"),
    [
        ("https://new.amocrm.ru/api/v4/calls", "https://new.amocrm.ru"),
        ("https://new.kommo.com/api/v4/calls", "https://new.kommo.com"),
        ("https://old.amocrm.ru/api/v4/calls", None),
        ("https://new.amocrm.ru.evil.example/api/v4/calls", None),
        ("http://new.amocrm.ru/api/v4/calls", None),
        ("https://new.amocrm.ru:8443/api/v4/calls", None),
        ("https://user@new.amocrm.ru/api/v4/calls", None),
        ("https://www.amocrm.ru/login", None),
        ("/api/v4/calls", None),
    ],
)
def test_where_a_redirect_may_lead(location: str, origin: str | None) -> None:
    assert moved_to(location, "https://old.amocrm.ru/api/v4/calls?page=1") == origin


# Refusals ----------------------------------------------------------------------------------------------------------------


async def test_a_block_stops_everything_and_is_a_person_s_matter(account: AmoCrm, open_desk: Open) -> None:
    account.blocked = True
    budget = Budget(Limits(rates={"": Rate(7, 1.2)}, at_once=50))
    async with open_desk(budget=budget) as desk:
        with pytest.raises(BadSettings) as raised:
            await desk.tell(ended())
        assert raised.value.person == REASONS["blocked"]
        assert budget.wait_s("") > 30
        with pytest.raises(RateLimited):
            await desk.client.users()
    assert account.violations == [], "no further request"


@pytest.mark.parametrize(
    ("status", "error", "reason"), [(402, BadSettings, "plan"), (401, BadCredentials, "key"), (500, Unavailable, "")]
)
async def test_what_a_person_has_to_do(
    account: AmoCrm, open_desk: Open, status: int, error: type[GatewayError], reason: str
) -> None:
    account.status = status
    async with open_desk() as desk:
        with pytest.raises(error) as raised:
            await desk.tell(ended())
        tested = await desk.client.test()
    assert not reason or raised.value.person == REASONS[reason]
    assert not tested.ok
    assert tested.said("ru") != tested.said("en")


async def test_a_missing_right_is_named(account: AmoCrm, open_desk: Open) -> None:
    account.no_rights = {"leads"}
    async with open_desk() as desk:
        with pytest.raises(BadSettings) as raised:
            await desk.tell(ended())
    assert raised.value.person == REASONS["right_leads"]
    account.add("contacts", CLIENT)
    account.no_rights = {"tasks", "users"}
    async with open_desk() as desk:
        desk.users = {}
        with pytest.raises(Rejected) as refused:
            await desk.insist(ended("2", Result.MISSED, rang=()))
        assert refused.value.person == REASONS["right_tasks"]
        tested = await desk.client.test()
    assert len(account.calls) == 1, "the call is there"
    assert [one.code for one in tested.findings if not one.ok] == ["users"]
    assert tested.ok


async def test_without_a_pause_of_its_own_a_429_waits(account: AmoCrm, open_desk: Open) -> None:
    account.limits = True
    async with open_desk() as desk:
        with pytest.raises(RateLimited) as raised:
            for _ in range(9):
                await desk.client.users()
    assert (raised.value.after_s or 0) >= 1


async def test_no_secret_is_shown(account: AmoCrm, open_desk: Open) -> None:
    account.add("contacts", CLIENT)
    async with open_desk() as desk:
        (draft,) = desk.planned(ended())
        attempt = desk.attempt(draft, "1")
        await desk.client.deliver(attempt)
        texts = [attempt.request, attempt.response, repr(desk.client), repr(attempt), repr(desk.settings)]
    assert not [text for text in texts if account.token in text]
    assert '"uniq": "0367-1"' in attempt.request


# People ------------------------------------------------------------------------------------------------------------------


async def test_people(account: AmoCrm, open_link: Link) -> None:
    account.users |= {number: {"id": number, "name": "x" * 300 + "🙂", "email": "", "phone_number": None}
                      for number in range(600, 900)}  # fmt: skip
    account.add("contacts", CLIENT, owner=502)
    async with connect(replace(open_link, base_url=account.base), settings_of(account)) as client:
        users = await client.users()
        assert len(users) == 305
        assert [user.user_id for user in users if not user.active] == ["504"]
        found = await client.responsible(CLIENT)
        assert found is not None
        assert found.user_id == "502"
        assert await client.responsible("+375447654321") is None
        held = await client.extensions()
        assert held is not None
        assert held.extensions == {"501": "151", "502": "150"}, "those of the profiles, of who works there"
        saved = await client.save_extensions(None, {"502": "160", "9999": "1"})  # type: ignore[arg-type] # the place is not used
        assert (saved.extensions, saved.unknown_users) == ({"502": "160"}, ("9999",))
        account.no_rights = {"users"}
        saved = await client.save_extensions(None, {"9999": "1"})  # type: ignore[arg-type] # the place is not used
        assert saved.extensions == {"9999": "1"}, "who may not look believes what is entered"


async def test_the_connection_test(account: AmoCrm, open_desk: Open) -> None:
    async with open_desk() as desk:
        tested = await desk.client.test()
        assert (tested.ok, tested.code) == (True, "ok")
        assert "June" in tested.said("ru")
        account.unsorted_on = False
        off = await desk.client.test()
        assert (off.ok, off.said("en")) == (False, REASONS["unsorted_off"])
    claims = "eyJleHAiOiAxODkzNDU2MDAwfQ"  # {"exp": 1893456000}
    account.token = f"e30.{claims}.c2lnbmF0dXJl"
    async with open_desk(settings_of(account, create="contact")) as desk:
        tested = await desk.client.test()
    assert [one.detail for one in tested.findings if one.code == "token"] == ["2030-01-01"]
    assert account.calls == []


# Connecting --------------------------------------------------------------------------------------------------------------


async def test_there_and_back(account: AmoCrm, open_link: Link) -> None:
    account.redirect_uri = PLACE.redirect_uri
    link = replace(open_link, base_url=account.base)
    async with open_login(link, application(), PLACE) as flow:
        step = await flow.begin()
        assert isinstance(step, LoginStep)
        async with httpx2.AsyncClient(trust_env=False) as browser:
            back = await browser.get(step.url, follow_redirects=False)
        query = {name: values[0] for name, values in parse_qs(urlsplit(back.headers["location"]).query).items()}
        assert query.pop("state") == "the-state"
        with pytest.raises(Rejected) as raised:
            await flow.go_on("allow", {}, {**query, "referer": "another.amocrm.ru"})
        assert raised.value.person == REASONS["other_account"]
        done = await flow.go_on("allow", {}, query)
        assert isinstance(done, LoginDone)
        pair = pair_of(Token(done.tokens[TOKEN].value, 1))
        assert pair["access"] in account.access
        assert (pair["host"], pair["redirect_uri"]) == ("june.amocrm.ru", PLACE.redirect_uri)
        assert done.tokens[TOKEN].expires_in_s == 86400.0
        with pytest.raises(BadCredentials) as spent:
            await flow.go_on("allow", {}, query)
        assert query["code"] not in str(spent.value)
        with pytest.raises(Rejected):
            await flow.go_on("allow", {}, {"error": "access_denied"})


async def test_the_provider_s_own_page(open_link: Link) -> None:
    for name, page in (
        ("june", "https://www.amocrm.ru/oauth"),
        ("june.kommo.com", "https://www.kommo.com/oauth"),
        ("api.june.amocrm.ru", "https://www.amocrm.ru/oauth"),
    ):
        async with open_login(open_link, application(subdomain=name), PLACE) as flow:
            step = await flow.begin()
        assert isinstance(step, LoginStep)
        assert step.url.partition("?")[0] == page


async def test_a_company_without_calls_stays_connected(account: AmoCrm, open_link: Link, open_desk: Open) -> None:
    tokens = MemoryTokens(oauth=connected(account))
    settings = application()
    async with open_desk(settings, tokens=tokens) as desk:
        context = JobContext(
            tenant=open_link.tenant, key=IntegrationKey("x"), settings=settings, link=open_link,
            attempt=Attempt(kind="connection", key="", lane="", body={}),
        )  # fmt: skip
        for _ in range(2):
            assert await stay_connected(desk.client, context) is None
    assert account.exchanges == 1


async def test_advice_has_no_secret(account: AmoCrm) -> None:
    for one in (*advice(None), *advice(settings_of(account)), *advice(application())):
        assert set(one.title) == set(one.text) == {"en", "ru"}
        assert account.token not in one.block
