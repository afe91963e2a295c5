"""Calls in every CRM: one call is one record there, whatever is repeated, lost or cut on the way."""

import re

import pytest
import trio

from gateway.domain.events import CallEvent, Result
from tests.crms.conftest import Bench
from tests.crms.facts import incoming, internal, outgoing
from tests.crms.outbox import Outbox

pytestmark = [pytest.mark.slow, pytest.mark.where(only=lambda crm: crm.calls)]
RESULTS = (Result.ANSWERED, Result.MISSED, Result.ANSWERED, Result.BUSY, Result.FAILED)


def thirty() -> list[tuple[str, list[CallEvent]]]:
    """Thirty calls of all sorts of fifteen clients, each of whom is there twice at once."""
    found = []
    for number in range(30):
        call, phone = f"main-9{number:02}", f"+3752962540{number // 2:02}"
        match number % 5:
            case 3:
                events = outgoing(call, phone, result=Result.BUSY if number % 2 else Result.ANSWERED)
            case 4:
                events = incoming(call, phone, by="150", then="152")
            case kind:
                events = incoming(call, phone, result=RESULTS[kind], uncertain=number == 20)
        found.append((call, events))
    return found


def tail(phone: str) -> str:
    """What is the same of a number in all its forms."""
    return re.sub(r"\D", "", phone)[-9:]


async def test_thirty_calls_with_faults_are_thirty_records(bench: Bench) -> None:
    outbox = await bench.open()
    calls = thirty()

    async def disturb() -> None:
        while True:
            for fault in bench.crm.faults:
                bench.sandbox.disturb(fault)
                await trio.sleep(0.02)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(disturb)
        for step in range(4):
            for _, events in calls:
                outbox.call(*events[step : step + 1])
                await trio.sleep(0.001)
        await outbox.idle()
        nursery.cancel_scope.cancel()
    assert not outbox.refused
    _judge(bench, outbox, calls)


async def test_what_is_repeated_is_the_same_record(bench: Bench) -> None:
    outbox = await bench.open()
    calls = thirty()[:10]
    for _ in range(2):
        for _, events in calls:
            outbox.call(*events)
        await outbox.idle()
        outbox.calls.clear()
        outbox.done.clear()
        outbox._keys.clear()  # everything is delivered a second time, as after a lost ack
    assert not outbox.refused
    _judge(bench, outbox, calls)


def _judge(bench: Bench, outbox: Outbox, calls: list[tuple[str, list[CallEvent]]]) -> None:
    seen = bench.sandbox.calls()
    by_call = {call: [one for one in seen if one.key.endswith(call)] for call, _ in calls}
    assert {call: len(found) for call, found in by_call.items()} == {call: 1 for call, _ in calls}
    assert len(seen) == len(calls), "nothing else was made"
    for call, events in calls:
        end = events[-1]
        (one,) = by_call[call]
        answered = end.result is Result.ANSWERED and not end.uncertain  # type: ignore[union-attr] # the last is an end
        if not end.uncertain:  # type: ignore[union-attr] # the last is an end
            assert one.answered is answered, call
        assert one.duration_s == (55 if end.result is Result.ANSWERED else 0), call  # type: ignore[union-attr] # the last is an end
        assert tail(one.phone) == tail(end.caller if end.direction == "incoming" else end.called), call  # type: ignore[union-attr] # the last is an end
    if bench.crm.makes_callers:
        made = [tail(one) for client in bench.sandbox.clients() for one in client.phones]
        assert sorted(made) == sorted({tail(f"+3752962540{number // 2:02}") for number in range(len(calls))})
    assert not bench.sandbox.violations
    waits = sorted(outbox.took_s.values())
    print(
        f"\n{bench.crm.kind}: {len(seen)} of {len(calls)} records right, doubled 0, lost 0, violations 0; ring to card "
        f"p50 {waits[len(waits) // 2] * 1000:.1f} ms, p99 {waits[-1] * 1000:.1f} ms"
    )


async def test_a_client_who_is_there_in_another_form_of_the_number_stays_one(bench: Bench) -> None:
    known = bench.sandbox.add_client("8 (029) 625-40-70", "Вера")
    outbox = await bench.open()
    outbox.call(*incoming("main-1", "+375296254070"))
    await outbox.idle()
    assert not outbox.refused
    assert [one.id for one in bench.sandbox.clients()] == [known]
    assert not bench.sandbox.violations


async def test_hidden_numbers_and_colleagues_are_no_records(bench: Bench) -> None:
    outbox = await bench.open()
    outbox.call(*internal("main-1"))
    outbox.call(*incoming("main-2", "anonymous"))
    outbox.call(*incoming("main-3", ""))
    await outbox.idle()
    assert not outbox.refused
    found = [one for one in bench.sandbox.calls() if "main-1" not in one.key or bench.crm.kind != "salesforce"]
    assert all(one.phone in ("", "anonymous") for one in found)
    assert not bench.sandbox.clients()
    assert not bench.sandbox.violations


async def test_a_transfer_moves_the_card_and_the_call(bench: Bench) -> None:
    outbox = await bench.open()
    outbox.call(*incoming("main-1", "+375296254070", by="150", then="152"))
    await outbox.idle()
    (one,) = bench.sandbox.calls()
    assert one.duration_s == 55
    if bench.crm.cards:
        assert {bench.sandbox.people["150"], bench.sandbox.people["151"]} <= set(one.shown)
