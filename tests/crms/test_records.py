"""Clients of chats, notes and orders in every CRM: found before they are made, once each, moved, and with the mapped fields."""

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
import trio

from gateway.domain.crm_facts import OrderFacts
from gateway.domain.orders import Line
from tests.crms.conftest import Bench
from tests.crms.facts import CAKE, chat, client, incoming, order
from tests.crms.test_calls import tail
from tests.sandbox.web import Fault

LONG = "Ж" * 300 + " 🎂"
ODD: tuple[Mapping[str, Any], ...] = (
    {"name": LONG}, {"name": "O'Brien; DROP TABLE <b>&amp;</b>"}, {"name": "[b]Вера[/b]"}, {"name": "🎂🎂"}, {"phones": ("+4915112345678",)},
)  # fmt: skip


def found(bench: Bench, phone: str) -> list[str]:
    """The ids of those who have a number."""
    return [one.id for one in bench.sandbox.clients() if tail(phone) in {tail(number) for number in one.phones}]


async def test_a_client_becomes_known_once(bench: Bench) -> None:
    outbox, vera = await bench.open(), client()
    outbox.contact(client(name="", phones=()))
    await outbox.idle()
    assert not bench.sandbox.clients(), "there is nothing to find them by"
    outbox.contact(vera)
    outbox.contact(vera)
    outbox.contact(replace(vera, name="Вера Лис-Громова", emails=("vera@june.example",)))
    await outbox.idle()
    assert not outbox.refused
    (one,) = bench.sandbox.clients()
    assert "Вера" in one.name
    assert found(bench, "+375296254070") == [one.id]
    assert not bench.sandbox.violations


async def test_a_client_who_is_there_is_found_in_any_form_of_the_number(bench: Bench) -> None:
    known = bench.sandbox.add_client("8 (029) 625-40-70", "Vera L.")
    outbox, vera = await bench.open(), client()
    outbox.contact(vera)
    outbox.chat(chat(vera))
    outbox.order(None, order(vera))
    await outbox.idle()
    assert not outbox.refused
    assert [one.id for one in bench.sandbox.clients()] == [known]
    assert bench.sandbox.clients()[0].name == "Vera L.", "what is there already stays as it is"
    assert [one.client for one in bench.sandbox.notes()] == [known] * bench.crm.notes
    assert [one.client for one in bench.sandbox.orders()] == [known]
    assert not bench.sandbox.violations


async def test_somebody_with_many_numbers_and_addresses_is_found_by_the_last_and_told_of_once(bench: Bench) -> None:
    phones = tuple(f"+37529111{number:04}" for number in range(10))
    emails = tuple(f"a.rather.long.address.of.vera.{number}@june.example" for number in range(10))
    known = bench.sandbox.add_client(f"8 029 111-00-0{9 if bench.crm.every_phone else 0}", "Vera")
    outbox = await bench.open()
    outbox.contact(client(phones=phones, emails=emails))
    await outbox.idle()
    assert [one.id for one in bench.sandbox.clients()] == [known]
    others = tuple(one.replace("vera", "olga") for one in emails)
    olga = client(2, phones=("+375292220000",), emails=others)
    outbox.contact(olga)
    outbox.contact(replace(olga, phones=(*olga.phones, "+375292220001")))
    outbox.contact(replace(olga, phones=(*olga.phones, "+375292220001"), name="Olga"))
    await outbox.idle()
    assert not outbox.refused
    assert len(bench.sandbox.clients()) == 2
    assert not bench.sandbox.violations


async def test_whoever_calls_and_writes_at_once_is_one_client(bench: Bench) -> None:
    outbox, vera = await bench.open(), client()
    if bench.crm.calls:
        outbox.call(*incoming("main-1", vera.phones[0]))
    outbox.contact(vera)
    outbox.order(None, order(vera))
    await outbox.idle()
    assert not outbox.refused
    assert len(found(bench, vera.phones[0])) == 1
    assert not bench.sandbox.violations


async def test_a_chat_is_one_note_with_its_last_lines(bench: Bench) -> None:
    outbox, vera = await bench.open(), client()
    told = chat(vera, summary="Хочет торт к субботе")
    outbox.chat(told)
    outbox.chat(told)
    await outbox.idle()
    assert not outbox.refused
    if not bench.crm.notes:
        assert not bench.sandbox.notes(), "nothing is there to note it at"
        return
    (note,) = bench.sandbox.notes()
    for said in ("Telegram", "Анна Кузьмина", "Хочет торт к субботе", "торт", "Есть.", told.link):
        assert said in note.text, said
    assert [one.id for one in bench.sandbox.clients()] == [note.client]
    outbox.chat(replace(told, stretch=12, cause="handed_over"))
    await outbox.idle()
    assert len(bench.sandbox.notes()) == 2, "it went on, and is told of anew"
    assert not bench.sandbox.violations


async def test_a_chat_of_somebody_without_a_number_has_its_note(bench: Bench) -> None:
    outbox, unknown = await bench.open(), client(name="", phones=())
    outbox.chat(chat(unknown))
    await outbox.idle()
    assert not outbox.refused
    if not bench.crm.notes:
        assert not bench.sandbox.clients()
        return
    (one,) = bench.sandbox.clients()
    assert one.name == "vera"
    assert [note.client for note in bench.sandbox.notes()] == [one.id]
    assert not bench.sandbox.violations


def moved(facts: OrderFacts, version: int, **changes: Any) -> OrderFacts:
    """The order in a later version."""
    return replace(facts, order=replace(facts.order, version=version, **changes))


async def test_an_order_is_made_once_changed_and_moved(bench: Bench) -> None:
    outbox, vera = await bench.open(), client()
    made = order(vera)
    outbox.order(None, made)
    await outbox.idle()
    assert not outbox.refused
    (one,) = bench.sandbox.orders()
    assert str(made.order.id) in one.key
    assert one.total == pytest.approx(25.5)
    assert one.items == (("Торт «Июнь»", 2.0, 12.0), ("Свеча", 1.0, 1.5))
    assert one.client == found(bench, vera.phones[0])[0]
    assert one.stage == bench.crm.stages.get("new", one.stage)
    line = Line(CAKE, "Торт «Июнь»", Decimal("0.5"), Decimal("12.00"))
    less = moved(made, 2, lines=(line,), total=Decimal("6.00"))
    outbox.order(made.order, less)
    stands = less
    for version, status in enumerate(("confirmed", "done", "in_progress", "cancelled"), 3):
        after = moved(stands, version, status=status)
        outbox.order(stands.order, after)
        await outbox.idle()
        (one,) = bench.sandbox.orders()
        assert one.stage == bench.crm.stages.get(status, one.stage), status
        stands = after
    assert not outbox.refused
    if bench.crm.changes_items:
        assert one.items == (("Торт «Июнь»", 0.5, 12.0),)
        assert one.total == pytest.approx(6.0)
    assert not bench.sandbox.violations


@pytest.mark.where(only=lambda crm: crm.versions)
async def test_an_older_version_that_is_sent_again_takes_nothing_back(bench: Bench) -> None:
    outbox, made = await bench.open(), order(client())
    outbox.order(None, made)
    outbox.order(made.order, moved(made, 2, status="done"))
    await outbox.idle()
    before = bench.sandbox.orders()
    outbox._keys.clear()  # somebody presses "send again" for the first
    outbox.order(None, made)
    await outbox.idle()
    assert not outbox.refused
    assert bench.sandbox.orders() == before


@pytest.mark.where(only=lambda crm: crm.stage_rule or crm.contact_rule)
async def test_rules_of_mapping_move_orders_and_fill_fields(bench: Bench) -> None:
    crm = bench.crm
    rules = [rule for rule in (crm.stage_rule, crm.contact_rule) if rule]
    outbox, vera = await bench.open(mapping=rules), client()
    stands = order(vera)
    outbox.order(None, stands)
    await outbox.idle()
    for version, (status, stage) in enumerate(crm.mapped_stages.items(), 2):
        after = moved(stands, version, status=status)
        outbox.order(stands.order, after)
        await outbox.idle()
        assert [one.stage for one in bench.sandbox.orders()] == [stage], status
        stands = after
    assert not outbox.refused
    if crm.contact_rule:
        (one,) = bench.sandbox.clients()
        assert vera.link in str(one.fields)
    assert not bench.sandbox.violations


@pytest.mark.slow
async def test_faults_make_nothing_twice_and_lose_nothing(bench: Bench) -> None:
    outbox = await bench.open()
    people = [client(number, phones=(f"+3752962540{number:02}",), name=f"Клиент {number}") for number in range(1, 11)]

    async def disturb() -> None:
        while True:
            for fault in bench.crm.faults:
                bench.sandbox.disturb(fault)
                await trio.sleep(bench.crm.fault_every_s)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(disturb)
        for place, one in enumerate(people, 1):
            made = order(one, place)
            outbox.contact(one)
            outbox.chat(chat(one, place))
            outbox.order(None, made)
            outbox.order(made.order, moved(made, 2, status="confirmed"))
            await trio.sleep(0.005)
        await outbox.idle()
        nursery.cancel_scope.cancel()
    assert not outbox.refused
    assert sorted(tail(one) for seen in bench.sandbox.clients() for one in seen.phones) == [
        f"2962540{n:02}" for n in range(1, 11)
    ]
    assert len(bench.sandbox.notes()) == 10 * bench.crm.notes
    assert sorted(one.key[-4:] for one in bench.sandbox.orders()) == sorted(
        str(UUID(int=2000 + n))[-4:] for n in range(1, 11)
    )
    assert not bench.sandbox.violations


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: next(iter(odd)))
async def test_odd_clients_are_taken_whole_or_cut(bench: Bench, odd: Mapping[str, Any]) -> None:
    outbox, one = await bench.open(), client(**odd)
    outbox.contact(one)
    outbox.chat(chat(one))
    outbox.order(None, order(one, comment="[url=http://x]Жми[/url] 🎂", delivery="ул. <Ленина>, 1"))
    await outbox.idle()
    assert not outbox.refused
    assert len(bench.sandbox.clients()) == len(bench.sandbox.orders()) == 1
    assert len(bench.sandbox.notes()) == bench.crm.notes
    assert not bench.sandbox.violations


@pytest.mark.answers(Fault.HTML, Fault.EMPTY, Fault.HTTP_500, Fault.DROP, Fault.DROP_AFTER)
async def test_one_bad_answer_to_each_request_in_turn(bench: Bench, fault: Fault) -> None:
    """Whichever request is answered badly, there is one of each in the end."""
    outbox, vera = await bench.open(), client()
    for turn in range(1, 4):
        bench.sandbox.disturb(fault, turn)
        outbox.order(None, order(vera, turn))
        outbox.chat(chat(vera, turn))
        await outbox.idle()
    assert not outbox.refused
    assert (len(bench.sandbox.clients()), len(bench.sandbox.orders())) == (1, 3)
    assert not bench.crm.notes or len(bench.sandbox.notes()) == 3
    assert not bench.sandbox.violations
