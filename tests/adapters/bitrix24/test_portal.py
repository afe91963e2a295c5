"""Where a portal is, with what we come, what it refuses, and who works there."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import trio

from adapters.base import Attempt, Link
from adapters.bitrix24.client import connect
from adapters.bitrix24.settings import Bitrix24Settings
from gateway.domain.errors import (
    BadCredentials,
    BadSettings,
    GatewayError,
    NotYet,
)
from tests.adapters.bitrix24.conftest import (
    CLIENT,
    MemoryTokens,
    application,
    ended,
    ends_of,
    only,
    ringing,
    settings_of,
)
from tests.sandbox.bitrix24 import Bitrix24

Open = Callable[..., Any]


async def test_a_renamed_portal_is_followed_and_remembered(
    portal: Bitrix24, open_desk: Open, nursery: trio.Nursery
) -> None:
    renamed = Bitrix24(secret=portal.secret)
    portal.moved_to = await nursery.start(renamed.serve)
    tokens = MemoryTokens()
    async with open_desk(settings_of(portal), tokens=tokens) as desk:
        await desk.tell(ringing("1"))
    async with open_desk(settings_of(portal), tokens=tokens) as desk:
        connections = portal.site.connections
        await desk.tell(ringing("2"))
        assert portal.site.connections == connections, "the old address is not asked again"
    assert (len(portal.calls), len(renamed.calls)) == (0, 2)


@pytest.mark.parametrize(
    "location", ["/auth/", "https://www.bitrix24.example/login/", "ftp://x/rest/1/canary0123456789/batch"]
)
async def test_a_redirect_to_anything_else_is_not_followed(portal: Bitrix24, open_link: Link, location: str) -> None:
    tokens = MemoryTokens()
    portal.moved_to = "http://127.0.0.1:9"

    async def elsewhere(request: Any) -> Any:
        from tests.sandbox.web import Response

        return Response(302, b"", "text/html", (("Location", location),))

    portal.site.routes = {("POST", "/rest/{user}/{secret}/{method}"): elsewhere}
    async with connect(replace(open_link, tokens=tokens), settings_of(portal)) as client:
        with pytest.raises(BadSettings):
            await client.users()
    assert tokens.stored == {}


async def test_the_application_s_token_is_traded_when_it_ends(portal: Bitrix24, open_desk: Open) -> None:
    portal.access, portal.refresh = "ended-over-there", "refresh-0123456789"
    pair = {
        "access": "an-old-access-token-01",
        "refresh": portal.refresh,
        "endpoint": f"{portal.base}/rest/",
        "user_id": "1",
    }
    tokens, urls = MemoryTokens(oauth=pair), {"bitrix24_oauth": portal.base}
    async with open_desk(application(portal), tokens=tokens, provider_urls=urls) as desk:
        attempt = desk.attempt(desk.planned(ringing())[0], "1")
        await desk.client.deliver(attempt)
        await desk.tell(ended())
        shown = attempt.request + attempt.response
    assert portal.exchanges == tokens.exchanges == 1
    assert only(portal).finished is not None
    assert not [one for one in (portal.access, portal.refresh, pair["access"], pair["refresh"]) if one in shown]
    assert portal.violations == []


async def test_a_revoked_connection_asks_for_a_person(portal: Bitrix24, open_desk: Open) -> None:
    pair = {"access": "revoked-access-0001", "refresh": "revoked-refresh-01", "endpoint": f"{portal.base}/rest/"}
    urls = {"bitrix24_oauth": portal.base}
    async with open_desk(application(portal), tokens=MemoryTokens(oauth=pair), provider_urls=urls) as desk:
        with pytest.raises(BadCredentials, match="invalid_grant") as raised:
            await desk.tell(ringing())
    assert "connect the application again" in raised.value.person
    async with open_desk(application(portal), tokens=MemoryTokens()) as desk:
        with pytest.raises(BadCredentials):
            await desk.tell(ringing())


# Refusals ----------------------------------------------------------------------------------------------------------------


async def test_a_missing_right_is_named(portal: Bitrix24, open_desk: Open) -> None:
    for right in ("crm", "telephony"):
        portal.scope = [one for one in ("crm", "telephony", "user", "task") if one != right]
        async with open_desk(settings_of(portal)) as desk:
            with pytest.raises(BadSettings) as raised:
                await desk.tell(ringing())
            tested = await desk.client.test()
        assert f"the right {right}" in raised.value.person
        assert not tested.ok
        assert right in tested.said("ru")


async def test_without_the_right_to_read_users_calls_go_on(portal: Bitrix24, open_desk: Open) -> None:
    portal.scope.remove("user")
    async with open_desk(settings_of(portal)) as desk:
        noted, *_ = await desk.tell(ringing("1", "150", "151", "199"), ended())
        tested = await desk.client.test()
    assert (noted.note, noted.detail) == ("not_exist_codes", "199")
    assert ends_of(only(portal))["USER"] == "19"
    assert (tested.ok, "user" in tested.said("en")) == (False, True)


async def test_a_method_whose_time_is_nearly_over_is_left_alone(portal: Bitrix24, open_desk: Open) -> None:
    async with open_desk(settings_of(portal)) as desk:
        portal.operating["telephony.externalcall.register"] = 450.0
        await desk.tell(ringing("1"))
        with pytest.raises(NotYet) as raised:
            await desk.tell(ringing("2"))
        assert 0 < (raised.value.after_s or 0) <= 300
    async with open_desk(settings_of(portal)) as desk:
        portal.operating["telephony.externalcall.register"] = 480.0
        with pytest.raises(NotYet) as raised:
            await desk.tell(ringing("3"))
        assert 200 < (raised.value.after_s or 0) <= 301


@pytest.mark.parametrize(("secret", "error"), [("wrong0123456789", BadCredentials), ("", None)])
async def test_no_secret_is_shown(
    portal: Bitrix24, open_link: Link, secret: str, error: type[GatewayError] | None
) -> None:
    url = portal.webhook_url.replace(portal.secret, secret or portal.secret)
    async with connect(open_link, Bitrix24Settings.model_validate({"webhook_url": url})) as client:
        attempt = Attempt(kind="cards", key="1", lane="", body={
            "call": "1", "phone": CLIENT, "type": 2, "started": "2026-05-04T10:20:30+03:00", "line": "", "show": ["150"], "hide": [],
        })  # fmt: skip
        if error is None:
            await client.deliver(attempt)
        else:
            with pytest.raises(error) as raised:
                await client.deliver(attempt)
            assert secret not in str(raised.value) + raised.value.person
        texts = [attempt.request, attempt.response, repr(client), repr(attempt)]
    assert not [text for text in texts if (secret or portal.secret) in text]


async def test_the_connection_test(portal: Bitrix24, open_link: Link) -> None:
    async with connect(open_link, settings_of(portal)) as client:
        assert (await client.test()).ok
        portal.webhook_may_call = False
        refused = await client.test()
        assert "application" in refused.said("en")
        portal.secret = "another0123456789"
        assert (await client.test()).code == "bad_credentials"
    assert portal.calls == {}


# People ------------------------------------------------------------------------------------------------------------------


async def test_people(portal: Bitrix24, open_link: Link) -> None:
    portal.users |= {str(number): {"ID": str(number), "NAME": "x" * 300 + "🙂"} for number in range(100, 160)}
    portal.add("CONTACT", CLIENT, owner="19")
    async with connect(open_link, settings_of(portal)) as client:
        users = await client.users()
        assert len(users) == 65
        assert [user.user_id for user in users if not user.active] == ["23"]
        held = await client.extensions()
        assert held is not None
        assert held.extensions == {"18": "151", "19": "150", "22": "152"}
        saved = await client.save_extensions(None, {"18": "161", "19": "150", "9999": "1"})  # type: ignore[arg-type]
        assert (saved.extensions, saved.unknown_users) == ({"18": "161", "19": "150"}, ("9999",))
        found = await client.responsible(CLIENT)
        assert found is not None
        assert (found.user_id, found.extension) == ("19", "150")
        assert await client.responsible("+375447654321") is None
    assert portal.users["18"]["UF_PHONE_INNER"] == "161"
    assert portal.users["22"]["UF_PHONE_INNER"] == "152", "a number that is not ours stays"
