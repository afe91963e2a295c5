"""`POST /webhook/deal`: who may, what is stored, and what is answered by when."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType, SimpleNamespace
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
import trio

from actors.deals.answers import DealAnswers
from adapters.registry import adapters
from gateway.domain.configuration import Tenant, integration
from gateway.domain.deal_routes import DealRoute
from gateway.domain.errors import Unavailable
from gateway.domain.ids import IntegrationKey, TenantId
from gateway.domain.secret import Secret
from gateway.store.deal_runs import RunState
from gateway.store.journal import PostRow
from gateway.web.api.deals import DealDeps, RouteBook, deal_addresses
from gateway.web.callers.callers import Caller
from gateway.web.http.routes import FORM, Request, Response, answer

JUNE = TenantId("0367")
TOKEN = "token-of-the-partner-01"


def tenant(*routes: dict[str, Any], number: TenantId = JUNE) -> Tenant:
    base = {
        "source": "bitrix24:partner",
        "target": "bitrix24",
        "mapping": {"TITLE": "TITLE"},
        "allowed_domains": ["*.example.com"],
    }
    made = [
        DealRoute.model_validate({"name": f"r{n}", "application_token": TOKEN, **base, **one})
        for n, one in enumerate(routes)
    ]
    links = {
        IntegrationKey(name): integration(name, {"webhook_url": Secret(f"https://{host}/rest/1/abcdefgh/")})
        for name, host in (
            ("bitrix24", "june.example.com"),
            ("bitrix24:partner", "partner.example.com"),
            ("bitrix24:b", "b.example.com"),
        )
    }
    return Tenant(
        number, "June", ZoneInfo("Europe/Minsk"), "BY", "ru", integrations=MappingProxyType(links),
        options={"deal_routes": [one.plain() for one in made]},
        secrets={f"deal_route.{one.name}": one.application_token for one in made if one.application_token is not None},
    )  # fmt: skip


@dataclass
class Held:
    """The gateway behind the address, in memory."""

    company: Tenant = field(default_factory=lambda: tenant({}))
    others: Mapping[TenantId, Tenant] = field(default_factory=dict)
    rows: list[PostRow] = field(default_factory=list)
    became: Callable[[dict[str, Any]], RunState | None] = lambda body: None
    away: bool = False

    def __post_init__(self) -> None:
        self.answers = DealAnswers()
        everybody = {self.company.number: self.company, **self.others}
        keys = {"good": frozenset({"deals"}), "weak": frozenset({"read"})}

        async def identified(text: str) -> Caller | None:
            scopes = keys.get(text)
            return None if scopes is None else Caller(kind="key", tenant=JUNE, scopes=scopes, actor="k", identity="k")

        callers: Any = SimpleNamespace(identified=identified, keys=None)
        self.deps = DealDeps(
            callers=callers, tenant=everybody.get, book=RouteBook(lambda: everybody, adapters()), put=self.put, ring=lambda number: None,
            answers=self.answers, db=SimpleNamespace(tenant=self.nothing), mine=lambda number: True,  # type: ignore[arg-type] # not asked for more
            now=lambda: datetime(2026, 11, 29, 12, 0, tzinfo=UTC),
        )  # fmt: skip
        (self.address,) = deal_addresses(self.deps)

    async def nothing(self, *_: Any) -> Any:
        return 456

    async def put(self, row: PostRow) -> bool:
        if self.away:
            raise Unavailable("the database is away")
        new = (row.tenant, row.digest) not in {(one.tenant, one.digest) for one in self.rows}
        if new:
            self.rows.append(row)
            body = json.loads(row.body)
            for _ in body["routes"]:
                if (state := self.became(body)) is not None:
                    self.answers.settle(UUID(body["correlation"]), state)
        return new

    async def send(self, body: Any, key: str = "", content_type: str = "application/json") -> tuple[int, Any]:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"content-type": content_type, **({"x-api-key": key} if key else {})}
        response: Response = await answer(
            self.address, Request(method="POST", path="/webhook/deal", headers=headers, body=raw)
        )
        return response.status, json.loads(response.body)


def event(number: int = 7, token: str = TOKEN, domain: str = "partner.example.com", **more: Any) -> dict[str, Any]:
    auth = {"domain": domain, **({"application_token": token} if token else {})}
    return {"event": "ONCRMDEALUPDATE", "data": {"FIELDS": {"ID": number}}, "auth": auth, "ts": 1, **more}


async def test_what_became_of_it_is_answered_where_it_is_known_in_time(autojump_clock: trio.abc.Clock) -> None:
    held = Held(became=lambda body: RunState("success", "", 456) if body["id"] == 7 else None)
    began = trio.current_time()
    status, told = await held.send(event())
    assert (status, told["status"], told["source_deal_id"], told["target_deal_id"]) == (200, "success", 7, 456)
    assert (told["timestamp"], UUID(told["correlation_id"]).version) == ("2026-11-29T12:00:00.000Z", 7)
    assert trio.current_time() == began
    status, told = await held.send(event(8))
    assert (told["status"], told["target_deal_id"]) == ("accepted", None)
    assert trio.current_time() - began == pytest.approx(0.4)
    assert TOKEN not in repr(held.rows)
    status, told = await held.send(event())
    assert (told["status"], told["target_deal_id"], len(held.rows)) == ("duplicate", 456, 2)
    assert len(held.answers) == 0


@pytest.mark.parametrize(("sent", "key", "wanted"), [
    (event(), "", 200), (event(token=""), "good", 200), (event(token="wrong-token"), "", 401), (event(token=""), "", 401),
    (event(domain="evilexample.com"), "", 401), (event(domain="other.org", token=""), "good", 401), (event(), "bad", 401),
    (event(), "weak", 403), (event(number=0), "", 422), (event(token="\ud800"), "", 401),
])  # fmt: skip
async def test_who_may(sent: dict[str, Any], key: str, wanted: int, autojump_clock: trio.abc.Clock) -> None:
    held = Held()
    status, told = await held.send(sent, key)
    assert status == wanted
    assert TOKEN not in json.dumps(told)
    assert bool(held.rows) == (wanted == 200)


async def test_lists_are_answered_by_lists_and_refused_whole(autojump_clock: trio.abc.Clock) -> None:
    held = Held(became=lambda body: RunState("skipped", "filtered", None))
    status, told = await held.send([event(1), event(2), event(1)])
    assert (status, sorted(one["status"] for one in told)) == (200, ["duplicate", "skipped", "skipped"])
    assert [one["source_deal_id"] for one in told] == [1, 2, 1]
    assert {one.get("reason") for one in told} == {"filtered", None}
    status, told = await held.send([event(n + 10) for n in range(51)])
    assert (status, told["errors"][0]["path"]) == (422, "body")
    assert (await held.send([event(90), event(91, token="wrong-token")]))[0] == 401
    assert len(held.rows) == 2


async def test_a_form_as_a_portal_sends_it(autojump_clock: trio.abc.Clock) -> None:
    held = Held()
    form = f"event=ONCRMDEALADD&data[FIELDS][ID]=9&ts=5&auth[domain]=partner.example.com&auth[application_token]={TOKEN}".encode()
    assert (await held.send(form, content_type=f"{FORM}; charset=utf-8"))[1]["source_deal_id"] == 9
    (row,) = held.rows
    assert (row.stream, row.unique_id, json.loads(row.body)["routes"]) == ("deals", "9", ["r0"])


async def test_the_portal_itself_is_found_among_several_routes(autojump_clock: trio.abc.Clock) -> None:
    held = Held(tenant({}, {"source": "bitrix24:b"}, {"answer_within_ms": 100}))
    assert (await held.send(event()))[0] == 200
    assert json.loads(held.rows[0].body)["routes"] == ["r0", "r2"], "those of the portal that it names"
    assert (await held.send(event(domain="b.example.com")))[0] == 200
    assert json.loads(held.rows[1].body)["routes"] == ["r1"]
    status, told = await held.send(event(domain="renamed.example.com"))
    assert (status, told["errors"][0]["path"]) == (422, "auth.domain")


async def test_what_cannot_be_stored_is_sent_again(autojump_clock: trio.abc.Clock) -> None:
    held = Held(away=True)
    status, told = await held.send([event(1), event(2)])
    assert (status, told["code"], told["retryable"]) == (503, "UNAVAILABLE", True)
    held.away = False
    assert (await held.send([event(1), event(2)]))[0] == 200
    assert len(held.rows) == 2


async def test_each_company_with_the_portals_token_gets_its_own(autojump_clock: trio.abc.Clock) -> None:
    other = TenantId("0368")
    held = Held(others={other: tenant({}, number=other)})
    assert (await held.send(event()))[0] == 200
    assert {row.tenant for row in held.rows} == {JUNE, other}
    assert (await held.send(event(token=""), key="good"))[0] == 200
    assert len(held.rows) == 2, "a key is its company's: there the event is known"
