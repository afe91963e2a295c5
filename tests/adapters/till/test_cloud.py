"""Tokens of both generations, and what answers mean."""

import base64
import json
from dataclasses import replace
from typing import Any

import pytest
import trio

from adapters.base import Link
from adapters.session_tokens import HeldTokens
from adapters.till import codec
from adapters.till.client import connect
from adapters.till.refusals import REASONS
from gateway.domain.errors import BadCredentials, BadSettings, GatewayError, RateLimited, Rejected, Unavailable
from tests.adapters.till.conftest import settings_of
from tests.sandbox.iiko import ORGANIZATION, PIZZA, SMALL, Iiko

BY_APP: dict[str, Any] = {
    "api_login": None, "api_key": Iiko.API_KEY, "app_id": Iiko.APP_ID, "client_secret": Iiko.CLIENT_SECRET,
}  # fmt: skip


@pytest.mark.parametrize("login", [{}, BY_APP])
async def test_one_token_is_shared_and_bought_again_before_it_ends(
    cloud: Iiko, open_link: Link, login: dict[str, Any]
) -> None:
    settings, tokens = settings_of(cloud, **login), HeldTokens()
    link = replace(open_link, tokens=tokens)
    async with connect(link, settings) as one, connect(link, settings) as other, trio.open_nursery() as nursery:
        for client in (one, one, one):
            nursery.start_soon(client.places.organizations)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(other.places.organizations)
    async with connect(link, settings) as later:
        await later.places.organizations()
    assert cloud.bought <= 2
    cloud.life_s = 100.0  # a token of so short a life is bought anew a minute before 80 seconds
    held = await tokens.current("session")
    assert held is not None
    assert held.expires_at is not None
    bought = cloud.bought
    cloud.tokens.clear()  # revoked: one new token, and the request once more
    async with connect(link, settings) as client:
        assert (await client.places.organizations())[0].id == ORGANIZATION
        assert cloud.bought == bought + 1
    assert cloud.violations == []


async def test_another_login_does_not_use_the_stored_token(cloud: Iiko, open_link: Link) -> None:
    link = replace(open_link, tokens=HeldTokens())
    async with connect(link, settings_of(cloud)) as client:
        await client.places.organizations()
    async with connect(link, settings_of(cloud, **BY_APP)) as client:
        await client.places.organizations()
    assert cloud.requests["/api/v2/access_token"] == 1


@pytest.mark.parametrize("wrong", [{"api_login": "wrong-login"}, {**BY_APP, "client_secret": "wrong-secret"}])
async def test_a_wrong_login_is_a_persons_matter(cloud: Iiko, open_link: Link, wrong: dict[str, Any]) -> None:
    async with connect(open_link, settings_of(cloud, **wrong)) as client:
        with pytest.raises(BadCredentials) as refused:
            await client.places.organizations()
        assert refused.value.person == REASONS["key"]
        tested = await client.test()
    assert (tested.ok, tested.code) == (False, "bad_credentials")
    assert "облако ресторана не принимает" in tested.said("ru")
    assert "wrong" not in tested.said("en")


@pytest.mark.parametrize(
    ("status", "raw", "kind"),
    [
        (401, b"", BadCredentials), (403, b"<html>", codec.Missing), (429, b"", RateLimited), (408, b"", Unavailable),
        (410, b"", codec.Gone), (502, b"<html>", Unavailable), (200, b"<html>", Unavailable), (200, b"", Unavailable),
        (200, b"[]", Unavailable), (200, b"{" * 100_000, Unavailable), (404, b"<html>", BadSettings), (302, b"", BadSettings),
        (400, b'{"errorDescription":"no","error":null}', codec.Refused), (400, b'{"error":"EXTERNAL_SYSTEM_TIMEOUT"}', Unavailable),
        (400, b'{"error":"OrganizationNotFound","errorDescription":"x"}', BadSettings), (500, b'{"errorDescription":7}', Unavailable),
        (200, b'{"correlationId":"c","errorDescription":"sorry"}', codec.Refused), (400, b"", codec.Refused),
        (413, b'{"errorDescription":"large"}', Rejected),
    ],
)  # fmt: skip
def test_what_answers_mean(status: int, raw: bytes, kind: type[GatewayError]) -> None:
    with pytest.raises(kind):
        codec.read(status, raw, "orders", 60)


def test_the_life_of_a_token_is_read_from_it_alone() -> None:
    def token(claims: Any) -> str:
        return f"h.{base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip('=')}.s"

    assert codec.life_of(token({"iat": 1000, "exp": 4600})) == 3600
    for odd in (
        "opaque",
        "a.b.c",
        "a..c",
        token([]),
        token({"exp": 1}),
        token({"iat": 5, "exp": 1}),
        token({"iat": "x", "exp": 1}),
    ):
        assert codec.life_of(odd) is None


def test_ids_of_items_lead_back() -> None:
    for size in ("", SMALL):
        assert codec.product_of(codec.item_id(PIZZA, size)) == (PIZZA, size)
        assert len(codec.item_id(PIZZA, size)) <= 64
    for odd in ("", "margherita", f"{PIZZA}.x", f"{PIZZA}.{'!' * 22}", SMALL.upper(), "0" * 36, f"{PIZZA}.{'я' * 22}"):
        assert codec.product_of(odd) is None


async def test_what_a_test_finds(cloud: Iiko, open_link: Link) -> None:
    async def tested(**more: Any) -> Any:
        async with connect(open_link, settings_of(cloud, **more)) as client:
            return await client.test()

    assert (await tested()).ok
    unchosen = await tested(organization_id="", terminal_group_id="")
    assert unchosen.ok
    assert "Connect" in unchosen.said("en")
    assert ORGANIZATION in unchosen.findings[0].detail
    other = "8bc05553-4b68-44e8-b7bc-37be63c6d9e9"
    for wrong, word in (
        ({"organization_id": other}, "организации нет среди"),
        ({"terminal_group_id": other}, "группа терминалов"),
    ):
        found = await tested(**wrong)
        assert (found.ok, found.code) == (False, "bad_settings")
        assert word in found.said("ru")
    cloud.missing = {"dictionaries"}
    assert (await tested()).code == "bad_settings"
    cloud.missing, cloud.organizations = set(), []
    assert not (await tested()).ok
