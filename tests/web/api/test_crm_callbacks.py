"""What outside systems ask: whose it is, what it comes to, and that nothing secret is answered."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import ip_network
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import trio
import trio.lowlevel

from adapters.base import ActivityRequest, StatusRequest
from adapters.registry import integrations
from gateway.domain.configuration import Phone, Tenant, integration
from gateway.domain.dialling import CallRefused
from gateway.domain.ids import IntegrationKey, TenantId
from gateway.domain.secret import Secret
from gateway.store.call_orders import Admitted
from gateway.web.api.crm_callbacks import CallbackDeps, callback_addresses
from gateway.web.callers.callers import Caller
from gateway.web.http.guesses import BURST, Guesses
from gateway.web.http.routes import Address, Request, Response, Table, answer, answer_json, header_values, problem

CRM = IntegrationKey(next(kind for kind, adapter in integrations().items() if adapter.client_id_field))
CLIENT_ID = "an-unguessable-client-id"
KEY = "gw_live_key"


def tenant(**settings: Any) -> Tenant:
    enabled = settings.pop("enabled", True)
    known = {"client_id": Secret(CLIENT_ID), **settings}
    return Tenant(
        TenantId("0367"), "June", ZoneInfo("Europe/Minsk"), "BY", "ru", phones=(Phone("150"), Phone("151")),
        integrations=MappingProxyType({CRM: integration(CRM, known, enabled=enabled)}),
        user_extensions=MappingProxyType({CRM: {"19": "150", "22": None}}),
    )  # fmt: skip


@dataclass
class Here:
    """A gateway that notes what it was asked."""

    tenant: Tenant = field(default_factory=tenant)
    requested: list[Any] = field(default_factory=list)
    refuse: CallRefused | None = None
    scopes: tuple[str, ...] = ("call",)
    guesses: Guesses = field(default_factory=Guesses)

    async def place(self, tenant: Tenant, **what: str) -> Admitted:
        await trio.lowlevel.checkpoint()
        self.requested.append(what)
        if self.refuse is not None:
            raise self.refuse
        return Admitted("gw-1")

    async def responsible(self, tenant: Tenant, *what: Any) -> tuple[str | None, bool]:
        await trio.lowlevel.checkpoint()
        self.requested.append(what)
        return "150", what[-1]

    async def note(self, tenant: Tenant, kind: IntegrationKey, requested: StatusRequest | ActivityRequest) -> Response:
        await trio.lowlevel.checkpoint()
        self.requested.append(requested)
        return answer_json({"status": "accepted"})

    async def authorize(self, request: Request, text: str, scopes: Sequence[str]) -> Caller | Response:
        """As `Callers.of_credential`, with one key."""
        if text != KEY:
            return await self.guesses.wrong(request, text, problem(401, "AUTH_FAILED", "The API key is not valid."))
        if not set(scopes).intersection(self.scopes):
            return problem(403, "FORBIDDEN", "lacks the scope", reason="scope")
        return Caller(
            kind="key", tenant=TenantId("0367"), scopes=frozenset(self.scopes), actor="gw_live_hint", identity="1"
        )

    def deps(self) -> CallbackDeps:
        """What the addresses ask."""
        return CallbackDeps(
            tenant_by_token=lambda text: self.tenant if text == "t" * 32 else None,
            tenant_by_client=lambda kind, text: (self.tenant, CRM) if (kind, text) == (CRM, CLIENT_ID) else None,
            tenant=lambda number: self.tenant if number == "0367" else None,
            authorize=self.authorize, place=self.place, responsible=self.responsible, set_status=self.note, set_activity=self.note,
            trusted_proxies=(ip_network("10.0.0.0/8"),), guesses=self.guesses,
        )  # fmt: skip

    async def get(
        self, path: str, method: str = "GET", peer: str = "203.0.113.7", headers: Sequence[tuple[str, str]] = (),
        **query: str,
    ) -> tuple[int, Any]:  # fmt: skip
        deps = self.deps()
        found = Table(callback_addresses(deps, integrations())).find(method, path)
        assert not isinstance(found, Response)
        address: Address = found[0]
        request = Request(method=method, path=path, query=query, peer=peer, headers=header_values(headers))
        response = await answer(address, request)
        return response.status, json.loads(response.body)


async def test_an_explicit_code_wins_over_the_users_number() -> None:
    here = Here()
    requested: dict[str, Any] = {"clientId": CLIENT_ID, "userId": "19", "phone": "+375296254070"}
    assert await here.get("/retailcrm/make-call", **requested) == (200, {"status": "accepted", "id": "gw-1"})
    assert await here.get("/retailcrm/make-call", **requested, code="151") == (
        200,
        {"status": "accepted", "id": "gw-1"},
    )
    assert [what["extension"] for what in here.requested] == ["150", "151"]
    for user in ("22", "77", ""):
        status, body = await here.get("/retailcrm/make-call", **{**requested, "userId": user})
        assert (status, body["errors"][0]["field"]) == (400, "userId")
    assert len(here.requested) == 2


async def test_who_is_not_known_is_told_nothing_more() -> None:
    here = Here()
    for client in ("wrong", "0367", ""):
        status, body = await here.get("/retailcrm/make-call", clientId=client, userId="19", phone="+375296254070")
        assert status == (401 if client else 422)
        assert CLIENT_ID not in str(body)
    assert here.requested == []


@pytest.mark.parametrize(
    ("path", "method", "name", "right", "more"),
    [
        ("/retailcrm/make-call", "GET", "clientId", CLIENT_ID, {"userId": "19", "phone": "+375296254070"}),
        ("/retailcrm/status", "GET", "clientId", CLIENT_ID, {"userId": "19", "status": "free"}),
        ("/api/makecallexternal", "GET", "clientId", KEY, {"code": "150", "phone": "+375296254070"}),
        ("/retailcrm/api/smart-redirect", "POST", "Token", "t" * 32, {"UniqueId": "7.1", "phone": "+375296254070"}),
    ],
)  # fmt: skip
async def test_guessing_is_slowed_and_who_is_right_is_not(
    path: str, method: str, name: str, right: str, more: dict[str, Any], autojump_clock: trio.abc.Clock
) -> None:
    here, began = Here(), trio.current_time()
    ask: Any = here.get
    seen = [(await ask(path, method, **{name: f"guess-{turn}"}, **more))[0] for turn in range(60)]
    assert seen == [401] * BURST + [429] * (60 - BURST)
    took = trio.current_time() - began
    assert took > 20
    assert (await ask(path, method, **{name: right}, **more))[0] == 200
    assert trio.current_time() - began == took, "at once, from the same address"
    assert (await ask(path, method, peer="203.0.113.8", **{name: "guess"}, **more))[0] == 401


async def test_the_companys_number_stands_for_the_id_where_settings_and_address_say_so() -> None:
    here = Here(tenant(legacy_client_id=True, legacy_client_nets=("198.51.100.0/24",)))
    requested: dict[str, Any] = {"clientId": "0367", "userId": "19", "phone": "+375296254070"}
    assert (await here.get("/retailcrm/make-call", **requested))[0] == 401
    assert (await here.get("/retailcrm/make-call", peer="198.51.100.9", **requested))[0] == 200


async def test_an_address_that_the_client_made_up_stands_for_nothing() -> None:
    """Some proxies add a line of their own behind the client's, instead of going on with it."""
    here = Here(tenant(legacy_client_id=True, legacy_client_nets=("198.51.100.0/24",)))
    requested: dict[str, Any] = {"clientId": "0367", "userId": "19", "phone": "+375296254070", "peer": "10.0.0.1"}
    for forwarded, status in (
        (["198.51.100.9"], 200),
        (["203.0.113.7, 198.51.100.9"], 200),
        (["198.51.100.9", "203.0.113.7"], 401),
        (["198.51.100.9, 203.0.113.7"], 401),
        (["198.51.100.9", "203.0.113.7", "10.0.0.2"], 401),
    ):
        headers = [("x-forwarded-for", one) for one in forwarded]
        assert (await here.get("/retailcrm/make-call", headers=headers, **requested))[0] == status, forwarded


async def test_an_integration_that_is_off_dials_nothing() -> None:
    here = Here()
    link = integration(CRM, here.tenant.integrations[CRM].settings, enabled=False)
    object.__setattr__(here.tenant, "integrations", MappingProxyType({CRM: link}))
    status, body = await here.get("/retailcrm/make-call", clientId=CLIENT_ID, userId="19", phone="+375296254070")
    assert (status, body["code"]) == (403, "FORBIDDEN")
    assert here.requested == []


async def test_refusals_have_the_contracts_codes() -> None:
    for code, status, named in (
        ("bad_number", 422, "VALIDATION_ERROR"), ("no_extension", 400, "VALIDATION_ERROR"),
        ("not_allowed", 403, "FORBIDDEN"), ("premium", 403, "FORBIDDEN"), ("hours", 403, "FORBIDDEN"),
        ("per_user_minute", 429, "RATE_LIMITED"), ("per_company_minute", 429, "RATE_LIMITED"),
        ("bad_extension", 403, "FORBIDDEN"), ("concurrent", 429, "RATE_LIMITED"),
        ("pbx_away", 503, "UNAVAILABLE"), ("no_pbx", 503, "CONFIG_INVALID"),
    ):  # fmt: skip
        here = Here(refuse=CallRefused(code, "phone: no", retry_after_s=7))  # type: ignore[arg-type]
        got, body = await here.get("/retailcrm/make-call", clientId=CLIENT_ID, userId="19", phone="+375296254070")
        assert (got, body["code"], body["reason"]) == (status, named, code)
        assert body["retry_after"] == 7


async def test_a_call_service_needs_a_key_with_the_scope() -> None:
    requested: dict[str, Any] = {"code": "150", "phone": "+375296254070"}
    here = Here()
    assert (await here.get("/api/makecallexternal", clientId=KEY, **requested))[0] == 200
    assert here.requested[0]["asked_by"] == "gw_live_hint"
    assert (await Here(scopes=("bot",)).get("/api/makecallexternal", clientId=KEY, **requested))[0] == 403
    assert (await here.get("/api/makecallexternal", clientId="t" * 32, **requested))[0] == 401
    object.__setattr__(here.tenant, "options", {"legacy_call_token": True})
    assert (await here.get("/api/makecallexternal", clientId="t" * 32, **requested))[0] == 200
    assert (await here.get("/api/makecallexternal", code="150", phone="1"))[0] == 422


async def test_the_dialplan_asks_with_its_token() -> None:
    here = Here()
    requested: dict[str, Any] = {"UniqueId": "1795219998.3600", "phone": "+375296254070"}
    path = "/retailcrm/api/smart-redirect"
    assert await here.get(path, "POST", Token="t" * 32, **requested) == (200, {"extension": "150", "redirected": True})
    answered = await here.get(path, "POST", Token="t" * 32, redirect="false", **requested)
    assert answered == (200, {"extension": "150", "redirected": False})
    assert (await here.get(path, "POST", Token="wrong", **requested))[0] == 401
    assert (await here.get(path, "POST", Token="t" * 32, redirect="perhaps", **requested))[0] == 422


async def test_statuses_and_activity_are_noted() -> None:
    here = Here()
    assert (await here.get("/retailcrm/status", clientId=CLIENT_ID, userId="19", status="dinner"))[0] == 200
    assert (await here.get("/retailcrm/status", clientId=CLIENT_ID, userId="19", status="asleep"))[0] == 422
    activity = '{"active": false, "freeze": false}'
    assert (await here.get("/retailcrm/activity", "POST", clientId=CLIENT_ID, activity=activity))[0] == 200
    assert [type(one) for one in here.requested] == [StatusRequest, ActivityRequest]
