"""Signing in by each of the three ways, and what happens when that stops to work."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
import trio
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from adapters.base import Attempt, Link
from adapters.jobs import JobContext
from adapters.login import LoginDone, LoginPlace, LoginStep
from adapters.salesforce.access import TOKEN, pair_of
from adapters.salesforce.advice import advice
from adapters.salesforce.client import connect
from adapters.salesforce.jobs import look_at_quota
from adapters.salesforce.login import open_login
from adapters.tokens import Token
from gateway.domain.errors import BadCredentials, BadSettings, GatewayError, RateLimited, Rejected, Unavailable
from gateway.domain.ids import IntegrationKey
from tests.adapters.bitrix24.conftest import CLIENT, ended
from tests.adapters.salesforce.conftest import MemoryTokens, only, settings_of
from tests.sandbox.salesforce import ADMIN, ANNA, GLEB, IVAN, OLGA, Salesforce
from tests.sandbox.web import Fault

Open = Callable[..., Any]
PLACE = LoginPlace("https://gw.example/oauth/salesforce/callback", "the-state")


@cache
def keys() -> tuple[str, str]:
    """A private key and its public one."""
    key = rsa.generate_private_key(65537, 2048)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    return private, public


async def test_a_session_that_ends_is_a_new_token(org: Salesforce, open_desk: Open) -> None:
    tokens = MemoryTokens()
    async with open_desk(settings_of(org), tokens=tokens) as desk:
        await desk.tell(ended("1"))
        org.access = {"something else"}
        (draft, *_) = desk.planned(ended("2"))
        attempt = desk.attempt(draft, "2")
        await desk.client.deliver(attempt)
        shown = attempt.request + attempt.response + repr(attempt) + repr(desk.client)
    assert (org.exchanges, len(org.tasks)) == (2, 2)
    stored = tokens.stored[TOKEN].value.reveal()
    assert not [one for one in (org.client_secret, *org.access) if one in shown]
    assert pair_of(tokens.stored[TOKEN])["user"] == ADMIN
    assert org.client_secret not in stored


async def test_settings_that_are_not_saved_sign_in_too(org: Salesforce, open_link: Link) -> None:
    async with connect(open_link, settings_of(org)) as client:
        assert (await client.test()).ok
        org.access = set()
        assert (await client.test()).ok
    assert org.exchanges == 2


async def test_other_settings_are_another_token(org: Salesforce, open_desk: Open) -> None:
    tokens = MemoryTokens()
    async with open_desk(settings_of(org), tokens=tokens) as desk:
        await desk.client.users()
    private, org.public_key = keys()
    by_key = settings_of(org, grant="jwt", username=org.USERNAME, private_key=private)
    async with open_desk(by_key, tokens=tokens) as desk:
        await desk.client.users()
    assert org.exchanges == 2


async def test_an_organisation_that_moved_is_followed(org: Salesforce, open_desk: Open, nursery: trio.Nursery) -> None:
    """Only to an address with https; the operator's replacement goes before all."""
    moved = Salesforce()
    org.instance = await nursery.start(moved.serve)
    async with open_desk(settings_of(org), tokens=MemoryTokens()) as desk:
        await desk.tell(ended("1"))
    org.instance = "https://moved.my.salesforce.example"
    async with open_desk(settings_of(org), base_url=org.base) as desk:
        await desk.tell(ended("2"))
    assert (len(org.tasks), len(moved.tasks)) == (2, 0)


@pytest.mark.parametrize("off_s", [0.0, 60.0, -60.0])
async def test_a_key_signs_in_although_clocks_differ(org: Salesforce, open_desk: Open, off_s: float) -> None:
    private, org.public_key = keys()
    there = org.wall
    org.wall = lambda: there() + off_s
    one_line = " ".join(private.splitlines())
    settings = settings_of(org, grant="jwt", username=org.USERNAME, private_key=one_line, client_secret=None)
    async with open_desk(settings) as desk:
        await desk.tell(ended())
    assert only(org)
    assert private.splitlines()[1] not in repr(settings) + settings.model_dump_json()


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        ((400, "invalid_grant", "user hasn't approved this consumer"), BadCredentials, "pre-authorise"),
        ((400, "invalid_grant", "no client credentials user enabled"), BadSettings, "run-as user"),
        ((400, "invalid_grant", "inactive user"), BadCredentials, "activate"),
        ((400, "invalid_client", "invalid client credentials"), BadCredentials, "consumer key and secret"),
        ((400, "unsupported_grant_type", "grant type not supported"), BadSettings, "allow it in the app"),
        ((400, "invalid_grant", "login rate exceeded"), RateLimited, ""),
        ((503, "", ""), Unavailable, ""),
    ],
)  # fmt: skip
async def test_refusals_of_the_sign_in(
    org: Salesforce, open_desk: Open, error: tuple[int, str, str], kind: type[GatewayError], words: str
) -> None:
    org.token_error = error
    async with open_desk(settings_of(org)) as desk:
        with pytest.raises(kind) as raised:
            await desk.tell(ended())
        assert words in raised.value.person
        if kind is not RateLimited:
            tested = await desk.client.test()
            assert not tested.ok
            assert org.client_secret not in str(raised.value) + tested.said("en") + tested.said("ru")


async def test_there_and_back(org: Salesforce, open_link: Link, open_desk: Open) -> None:
    settings, tokens = settings_of(org, grant="refresh"), MemoryTokens()
    async with open_login(open_link, settings, PLACE) as flow:
        step = await flow.begin()
        assert isinstance(step, LoginStep)
        async with httpx2.AsyncClient(trust_env=False) as browser:
            back = await browser.get(step.url, follow_redirects=False)
        query = {name: values[0] for name, values in parse_qs(urlsplit(back.headers["location"]).query).items()}
        assert query.pop("state") == "the-state"
        done = await flow.go_on("allow", step.state, query)
        assert isinstance(done, LoginDone)
        with pytest.raises(BadCredentials) as raised:
            await flow.go_on("allow", step.state, query)
        assert query["code"] not in str(raised.value)
        with pytest.raises(Rejected):
            await flow.go_on("allow", {}, {"error": "access_denied"})
    tokens.stored[TOKEN] = Token(done.tokens[TOKEN].value, 1)
    async with open_desk(settings, tokens=tokens) as desk:
        for call in "12":
            org.access = set()  # the session ends, and each refresh token works once
            await desk.tell(ended(call))
        org.refresh = ""
        org.access = set()
        with pytest.raises(BadCredentials) as refused:
            await desk.tell(ended("3"))
        assert "connect again" in refused.value.person
    assert pair_of(tokens.stored[TOKEN])["refresh"]
    assert org.violations == ["a refresh token was spent twice, or was none"]


async def test_a_grant_is_kept_where_the_answer_brings_none(org: Salesforce, open_desk: Open) -> None:
    settings, tokens = settings_of(org, grant="refresh"), MemoryTokens()
    async with open_desk(settings, tokens=tokens) as desk:
        with pytest.raises(BadCredentials) as raised:
            await desk.tell(ended("1"))
        assert "press Connect" in raised.value.person
    org.rotates, org.refresh = False, "5Aep-refresh-token"
    of = f"{org.base} {org.CLIENT_ID} refresh "
    value = json.dumps({"of": of, "access": "an-old-access-token", "refresh": org.refresh, "instance": org.base})
    tokens.stored[TOKEN] = Token(type(settings.hook_id)(value), 1)
    async with open_desk(settings, tokens=tokens) as desk:
        await desk.tell(ended("1"))
    assert pair_of(tokens.stored[TOKEN])["refresh"] == org.refresh
    assert org.violations == []


async def test_only_the_way_of_connecting_connects(org: Salesforce, open_link: Link) -> None:
    async with open_login(open_link, settings_of(org), PLACE) as flow:
        with pytest.raises(BadSettings) as raised:
            await flow.begin()
    assert "choose it" in raised.value.person


async def test_people(org: Salesforce, open_desk: Open, open_link: Link) -> None:
    for number in range(100, 160):
        user = f"005{number:012}AAA"
        org.users[user] = {"Id": user, "Name": "x" * 300 + "🙂", "IsActive": True, "UserType": "Standard"}
    org.add("Contact", CLIENT, owner=IVAN)
    org.add("Lead", "+375447654321", owner="00G000000000001AAA")
    async with open_desk(settings_of(org)) as desk:
        users = await desk.client.users()
        assert len(users) == 65
        assert [user.user_id for user in users if not user.active] == [GLEB]
        held = await desk.client.extensions()
        assert held.extensions == {ANNA: "151", IVAN: "150", OLGA: "152"}
        saved = await desk.client.save_extensions(None, {ANNA: "161", IVAN: "150", "005999999999999AAA": "1"})
        assert (saved.extensions, saved.unknown_users) == ({ANNA: "161", IVAN: "150"}, ("005999999999999AAA",))
        found = await desk.client.responsible(CLIENT)
        assert (found.user_id, found.extension) == (IVAN, "150")
        assert await desk.client.responsible("+375447654321") is None, "a queue is nobody"
    assert org.users[ANNA]["Extension"] == "161"
    assert org.users[OLGA]["Extension"] == "152", "a number that is not ours stays"


async def test_the_job_says_that_little_is_left(org: Salesforce, open_desk: Open, open_link: Link) -> None:
    settings = settings_of(org)
    async with open_desk(settings) as desk:
        context = JobContext(
            tenant=open_link.tenant, key=IntegrationKey("salesforce"), settings=settings, link=replace(open_link),
            attempt=Attempt(kind="quota", key="", lane="", body={}),
        )  # fmt: skip
        assert await look_at_quota(desk.client, context) is None
        org.used = 96_000
        result = await look_at_quota(desk.client, context)
        assert result is not None
        assert (result.problem, result.detail) == ("quota_low", "96001 / 100000")


@pytest.mark.parametrize("fault", [Fault.HTML, Fault.EMPTY, Fault.HTTP_503])
async def test_the_connection_test_names_what_is_wrong(org: Salesforce, open_link: Link, fault: Fault) -> None:
    async with connect(open_link, settings_of(org)) as client:
        org.fault = fault
        assert (await client.test()).code == "unavailable"
        org.fault, org.no_access = Fault.NONE, {"Task"}
        tested = await client.test()
        assert (tested.ok, "право изменять задачи" in tested.said("ru")) == (False, True)
        attempt = Attempt(kind="call", key="1", lane="", body={
            "id": "1", "phone": "", "people": [], "subject": "x", "type": "Inbound", "day": "2026-05-04", "duration": 0, "result": "x",
        })  # fmt: skip
        with pytest.raises(BadSettings) as raised:
            await client.deliver(attempt)
        assert "edit tasks" in raised.value.person
    assert org.tasks == []


async def test_advice_has_no_secret(org: Salesforce) -> None:
    private, _ = keys()
    by_key = settings_of(org, grant="jwt", username="u@example.com", private_key=private)
    for settings in (None, settings_of(org), settings_of(org, grant="refresh"), by_key):
        for one in advice(settings):
            assert set(one.title) == set(one.text) == {"en", "ru"}
            assert org.client_secret not in one.block
