"""Who is responsible: deadline, breaker, default, and whose numbers count."""

from dataclasses import dataclass, replace
from types import MappingProxyType
from zoneinfo import ZoneInfo

import trio

from actors.calls.smart_redirect import DEADLINE_S, FAILURES, PAUSE_S, REDIRECT_S, SmartRedirect, send_caller
from actors.delivery.clients import Clients
from adapters.abilities import Responsible
from gateway.domain.configuration import Connector, Phone, Tenant, integration
from gateway.domain.errors import Unavailable
from gateway.domain.ids import IntegrationKey, Kind, TenantId

CRM = IntegrationKey("crm")
TENANT = Tenant(
    TenantId("0367"), "June", ZoneInfo("Europe/Minsk"), "BY", "ru",
    phones=(Phone("150"), Phone("152")),
    pbxes=(Connector("main", Kind("pbx"), {}),),
    integrations=MappingProxyType({CRM: integration(CRM, {})}),
)  # fmt: skip
WITH_DEFAULT = replace(TENANT, options={"smart_redirect": {"default": "152"}})
PHONE = "+375296254070"


@dataclass
class Crm:
    extension: str | None = "150"
    takes_s: float = 0.0
    fails: bool = False
    requested: int = 0

    async def responsible(self, phone: str) -> Responsible | None:
        self.requested += 1
        await trio.sleep(self.takes_s)
        if self.fails:
            raise Unavailable("no answer")
        return Responsible(extension=self.extension) if self.extension else None


@dataclass
class FakePbx:
    fails: bool = False
    waiting: str = "1795219998.3600"
    takes_s: float = 0.0

    async def redirect(self, unique_id: str, extension: str) -> bool:
        await trio.lowlevel.checkpoint()
        if self.fails:
            raise Unavailable("away")
        await trio.sleep(self.takes_s)
        return unique_id == self.waiting


async def ask(
    crm: Crm, tenant: Tenant = TENANT, times: int = 1, smart_redirect: SmartRedirect | None = None
) -> str | None:
    clients = Clients()
    found = None
    with clients.lend(f"tenant/0367/integration/{CRM}", crm):
        smart_redirect = smart_redirect or SmartRedirect(clients)
        smart_redirect.clients = clients
        for _ in range(times):
            found = await smart_redirect.extension_for(tenant, PHONE)
    return found


async def test_the_crm_says_who(autojump_clock: trio.abc.Clock) -> None:
    assert await ask(Crm()) == "150"
    assert await ask(Crm(None)) is None
    assert await ask(Crm(None), WITH_DEFAULT) == "152"


async def test_a_number_that_is_not_the_tenants_is_never_dialled(autojump_clock: trio.abc.Clock) -> None:
    assert await ask(Crm("999")) is None
    assert await ask(Crm("+79001112233"), WITH_DEFAULT) == "152"
    odd = replace(TENANT, options={"smart_redirect": {"default": "999"}})
    assert await ask(Crm(None), odd) is None
    costly = replace(TENANT, phones=(*TENANT.phones, Phone("112"), Phone("881612345678")))
    for number in ("112", "881612345678"):
        assert await ask(Crm(number), costly) is None
        assert await ask(Crm(None), replace(costly, options={"smart_redirect": {"default": number}})) is None


async def test_a_slow_crm_costs_no_more_than_the_deadline(autojump_clock: trio.abc.Clock) -> None:
    began = trio.current_time()
    assert await ask(Crm(takes_s=60), WITH_DEFAULT) == "152"
    assert trio.current_time() - began <= DEADLINE_S + 0.001


async def test_a_crm_that_fails_is_left_alone_for_a_while(autojump_clock: trio.abc.Clock) -> None:
    crm, smart_redirect = Crm(fails=True), SmartRedirect(Clients())
    await ask(crm, times=FAILURES + 5, smart_redirect=smart_redirect)
    assert crm.requested == FAILURES
    await trio.sleep(PAUSE_S)
    crm.fails = False
    assert await ask(crm, smart_redirect=smart_redirect) == "150"


async def test_an_integration_that_is_off_is_not_asked(autojump_clock: trio.abc.Clock) -> None:
    crm = Crm()
    off = replace(TENANT, integrations=MappingProxyType({CRM: integration(CRM, {}, enabled=False)}))
    assert await ask(crm, off) is None
    assert crm.requested == 0


async def test_a_caller_is_sent_where_they_wait(autojump_clock: trio.abc.Clock) -> None:
    clients, pbx = Clients(), FakePbx()
    with clients.lend("tenant/0367/pbx/main", pbx):
        assert await send_caller(clients, TENANT, "1795219998.3600", "150")
        assert await send_caller(clients, TENANT, "main-1795219998.3600", "150")
        assert not await send_caller(clients, TENANT, "1795219998.3601", "150")
        pbx.fails = True
        assert not await send_caller(clients, TENANT, "1795219998.3600", "150")
    assert not await send_caller(clients, TENANT, "1795219998.3600", "150")


async def test_a_pbx_that_hangs_costs_the_dialplan_no_more_than_its_deadline(autojump_clock: trio.abc.Clock) -> None:
    clients, began = Clients(), trio.current_time()
    with clients.lend("tenant/0367/pbx/main", FakePbx(takes_s=60)):
        assert not await send_caller(clients, TENANT, "1795219998.3600", "150")
    assert trio.current_time() - began == REDIRECT_S
