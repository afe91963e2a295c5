"""Orders: what is admitted, what is refused, and that nothing is ever placed twice."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import trio
import trio.lowlevel

from actors.calls.click_to_call import ClickToCall
from actors.calls.refusals import MINUTE_S, PER_MINUTE
from actors.delivery.clients import Clients
from actors.runtime.directory import Directory, Slot
from adapters.abilities import CallOrder
from gateway.domain.configuration import Connector, Phone, Tenant
from gateway.domain.dialling import CallRefused
from gateway.domain.errors import Doubtful, GatewayError, Rejected, Unavailable
from gateway.domain.health import State
from gateway.domain.ids import Kind, TenantId
from gateway.store.call_orders import Admitted, Limited, doubt_left_orders
from gateway.store.postgres.errors import BadData

JUNE = TenantId("0367")
TENANT = Tenant(
    JUNE, "June", ZoneInfo("Europe/Minsk"), "BY", "ru",
    phones=(Phone("150", "Anna"), Phone("151")),
    pbxes=(Connector("off", Kind("pbx"), {}, False), Connector("main", Kind("pbx"), {}), Connector("second", Kind("pbx"), {})),
)  # fmt: skip
CALL: dict[str, Any] = {"extension": "150", "phone": "+375296254070", "asked_by": "crm"}


@dataclass
class Here:
    """A database of two answers, and PBXes that remember."""

    answer: Admitted | Limited | None = None
    away: int = 0
    refuses: str = ""
    """An order whose outcome cannot be kept."""
    takes: list[Any] = field(default_factory=list)
    admitted: list[Any] = field(default_factory=list)
    finished: list[tuple[str, str]] = field(default_factory=list)
    audited: list[tuple[str, ...]] = field(default_factory=list)

    async def tenant(self, tenant: TenantId, work: Any, *args: Any) -> Any:
        await trio.lowlevel.checkpoint()
        match work.__name__:
            case "_admit":
                self.admitted.append(args[1])
                return self.answer or Admitted(args[1].order_id)
            case "take_order":
                self.takes.append(args[1:])
                return ("150", "+375296254070")
            case "finish_order" if args[1] == self.refuses:
                raise BadData("CharacterNotInRepertoireError")
            case "finish_order":
                if self.away:
                    self.away -= 1
                    raise Unavailable
                self.finished.append(args[2:])
                return None
            case _:
                self.audited.append(args[1:])
                return None

    async def engine(self, work: Any) -> int:
        await trio.lowlevel.checkpoint()
        assert work is doubt_left_orders
        return 0


@dataclass
class FakePbx:
    able: bool = True
    error: GatewayError | None = None
    takes_s: float = 0.0
    placed: list[CallOrder] = field(default_factory=list)

    def can_place(self) -> bool:
        return self.able

    def call_of(self, order_id: str) -> str:
        return f"main-{order_id}"

    async def place(self, order: CallOrder) -> None:
        self.placed.append(order)
        await trio.sleep(self.takes_s)
        if self.error is not None:
            raise self.error


@asynccontextmanager
async def dialling(here: Here, online: bool = True, **pbxes: FakePbx) -> AsyncIterator[ClickToCall]:
    directory, clients = Directory(), Clients()
    for name in pbxes:
        slot = Slot(f"tenant/0367/pbx/{name}", name)
        directory.add(slot)
        slot.report(State.ONLINE if online else State.OFFLINE)
    smart_redirect = ClickToCall(here, directory, clients)  # type: ignore[arg-type]
    async with trio.open_nursery() as nursery:
        with (
            clients.lend("tenant/0367/pbx/main", pbxes.get("main")),
            clients.lend("tenant/0367/pbx/second", pbxes.get("second")),
        ):
            nursery.start_soon(smart_redirect.run, Slot("system/dialling", "dialling"))
            yield smart_redirect
            await trio.sleep(30)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("number", ["101", "112", "02", "375902123456", "881612345678"])
async def test_a_phone_that_reads_as_an_outside_or_emergency_number_is_not_rung(
    number: str, autojump_clock: trio.abc.Clock
) -> None:
    """Toll fraud: whoever could list such a "phone" had it rung, at the company's cost."""
    tenant = replace(TENANT, phones=(Phone(number), Phone("150")))
    here, pbx = Here(), FakePbx()
    async with dialling(here, main=pbx) as orders:
        with pytest.raises(CallRefused) as refused:
            await orders.ask(tenant, **(CALL | {"extension": number}))
        # Admitted elsewhere by an earlier version: refused where it is to be placed.
        orders.received(JUNE, "gw-other", replace(TENANT, phones=(Phone("151"),)))
    assert refused.value.code == "bad_extension"
    assert (here.admitted, pbx.placed) == ([], [])
    assert here.finished == [("refused", "the internal number may not be rung")]


async def test_an_order_is_durable_before_it_is_placed_and_placed_once(autojump_clock: trio.abc.Clock) -> None:
    here, pbx = Here(), FakePbx()
    async with dialling(here, main=pbx) as smart_redirect:
        admitted = await smart_redirect.ask(TENANT, **CALL)
        assert [order.order_id for order in here.admitted] == [admitted.order_id]
        assert here.admitted[0].call_id == f"main-{admitted.order_id}"
    assert [(order.extension, order.number) for order in pbx.placed] == [("150", "+375296254070")]
    assert here.finished == [("taken", "")]


async def test_a_repeat_is_not_placed(autojump_clock: trio.abc.Clock) -> None:
    here, pbx = Here(answer=Admitted("gw-first", repeated=True)), FakePbx()
    async with dialling(here, main=pbx) as smart_redirect:
        assert (await smart_redirect.ask(TENANT, **CALL)).order_id == "gw-first"
    assert pbx.placed == []


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (Rejected("Permission denied"), "refused"),
        (Unavailable("the PBX closed the connection"), "refused"),
        (Doubtful("the answer was lost"), "doubtful"),
    ],
)
async def test_a_failure_is_noted_and_never_tried_again(
    error: GatewayError, state: str, autojump_clock: trio.abc.Clock
) -> None:
    here, pbx = Here(away=2), FakePbx(error=error)
    async with dialling(here, main=pbx) as smart_redirect:
        await smart_redirect.ask(TENANT, **CALL)
    assert len(pbx.placed) == 1
    assert here.finished == [(state, error.detail)]


async def test_a_pbx_that_takes_for_ever_is_in_doubt(autojump_clock: trio.abc.Clock) -> None:
    here, pbx = Here(), FakePbx(takes_s=3600)
    async with dialling(here, main=pbx) as smart_redirect:
        await smart_redirect.ask(TENANT, **CALL)
    assert [state for state, _ in here.finished] == ["doubtful"]


async def test_the_phone_that_was_not_reached_is_noted(autojump_clock: trio.abc.Clock) -> None:
    here = Here()
    async with dialling(here, main=FakePbx()) as smart_redirect:
        smart_redirect.answered(JUNE, "gw-1", "")
        smart_redirect.answered(JUNE, "gw-2", "busy")
    assert here.finished == [("refused", "busy")]


async def test_one_outcome_that_cannot_be_kept_ends_nobody_elses(
    autojump_clock: trio.abc.Clock, expected_errors: None
) -> None:
    here, pbx = Here(refuses="gw-1"), FakePbx(takes_s=5)
    async with dialling(here, main=pbx) as smart_redirect:
        await smart_redirect.ask(TENANT, **CALL)
        await trio.sleep(1)
        smart_redirect.answered(JUNE, "gw-1", "busy")
    assert here.finished == [("taken", "")]


async def test_what_waited_for_too_long_is_not_placed(autojump_clock: trio.abc.Clock) -> None:
    here, pbx = Here(), FakePbx()
    directory, clients = Directory(), Clients()
    slot = Slot("tenant/0367/pbx/main", "main")
    directory.add(slot)
    slot.report(State.ONLINE)
    smart_redirect = ClickToCall(here, directory, clients)  # type: ignore[arg-type]
    with clients.lend("tenant/0367/pbx/main", pbx):
        await smart_redirect.ask(TENANT, **CALL)
        await trio.sleep(60)  # the actor was parked meanwhile
        async with trio.open_nursery() as nursery:
            nursery.start_soon(smart_redirect.run, Slot("system/dialling", "dialling"))
            await trio.sleep(1)
            nursery.cancel_scope.cancel()
    assert pbx.placed == []
    assert here.finished == [("refused", "it had waited for too long")]


async def test_an_order_from_another_instance_is_known_by_the_pbx_that_places_it(
    autojump_clock: trio.abc.Clock,
) -> None:
    here, pbx = Here(), FakePbx()
    async with dialling(here, main=FakePbx(able=False), second=pbx) as smart_redirect:
        smart_redirect.received(JUNE, "gw-1", TENANT)
    assert here.takes == [("gw-1", "second", "main-gw-1")]
    assert [order.order_id for order in pbx.placed] == ["gw-1"]


async def test_every_refusal_is_audited_and_says_why(autojump_clock: trio.abc.Clock) -> None:
    here, pbx = Here(answer=Limited("per_user_minute", 41.2)), FakePbx()
    cases = [
        ({"extension": "999"}, "no_extension"),
        ({"phone": "150"}, "bad_number"),
        ({"phone": "+79161234567"}, "not_allowed"),
        ({}, "per_user_minute"),
    ]
    async with dialling(here, main=pbx) as smart_redirect:
        for change, code in cases:
            with pytest.raises(CallRefused) as refused:
                await smart_redirect.ask(TENANT, **{**CALL, **change})
            assert refused.value.code == code
        assert refused.value.retry_after_s == 42
    assert pbx.placed == []
    assert [line[1:] for line in here.audited] == [
        ("call.refused", f"{change.get('extension', '150')} -> {change.get('phone', CALL['phone'])}", code)
        for change, code in cases
    ]


async def test_a_flood_of_refusals_is_counted_in_one_line_a_minute(autojump_clock: trio.abc.Clock) -> None:
    here = Here()
    async with dialling(here, main=FakePbx()) as smart_redirect:
        for _ in range(2):
            for _ in range(500):
                with pytest.raises(CallRefused):
                    await smart_redirect.ask(TENANT, **{**CALL, "extension": "999"})
            await trio.sleep(2 * MINUTE_S)
    assert [line[1] for line in here.audited] == ([*["call.refused"] * PER_MINUTE, "call.refused_more"] * 2)
    assert here.audited[PER_MINUTE] == ("", "call.refused_more", "", str(500 - PER_MINUTE))


async def test_the_first_pbx_that_can_is_taken(autojump_clock: trio.abc.Clock) -> None:
    main, second = FakePbx(able=False), FakePbx()
    async with dialling(Here(), main=main, second=second) as smart_redirect:
        await smart_redirect.ask(TENANT, **CALL)
    assert (len(main.placed), len(second.placed)) == (0, 1)


@pytest.mark.parametrize(("able", "online", "code"), [(False, True, "no_pbx"), (True, False, "pbx_away")])
async def test_without_a_pbx_nothing_is_admitted(
    able: bool, online: bool, code: str, autojump_clock: trio.abc.Clock
) -> None:
    here = Here()
    async with dialling(here, online, main=FakePbx(able=able)) as smart_redirect:
        with pytest.raises(CallRefused) as refused:
            await smart_redirect.ask(TENANT, **CALL)
    assert refused.value.code == code
    assert here.admitted == []
