"""What a CRM refuses, or has in another form than we left it: said by name, and the rest goes on."""

import pytest

from gateway.domain.errors import Rejected
from tests.crms.conftest import Bench
from tests.crms.crm import Deletes, Denies, Requires
from tests.crms.facts import chat, client, incoming, order
from tests.crms.test_records import moved
from tests.sandbox.web import Fault


async def test_who_is_there_twice_is_not_made_a_third_time(bench: Bench) -> None:
    first = bench.sandbox.add_client("+375 29 625-40-70", "Vera")
    second = bench.sandbox.add_client("80296254070", "Vera again")
    outbox, vera = await bench.open(), client()
    outbox.order(None, order(vera))
    outbox.chat(chat(vera))
    await outbox.idle()
    assert not outbox.refused
    assert sorted(one.id for one in bench.sandbox.clients()) == sorted((first, second))
    assert {one.client for one in bench.sandbox.orders()} <= {first, second}
    assert {one.client for one in bench.sandbox.notes()} == {one.client for one in bench.sandbox.orders()}


@pytest.mark.where(only=lambda crm: issubclass(crm.make, Deletes))
async def test_what_people_deleted_there_is_made_anew_once(bench: Bench) -> None:
    sandbox = bench.sandbox
    assert isinstance(sandbox, Deletes)
    outbox, vera = await bench.open(), client()
    made = order(vera)
    outbox.order(None, made)
    await outbox.idle()
    (known,) = bench.sandbox.clients()
    (deal,) = bench.sandbox.orders()
    sandbox.delete_order(deal.id)
    done = moved(made, 2, status="done")
    outbox.order(made.order, done)
    await outbox.idle()
    sandbox.delete_order(bench.sandbox.orders()[0].id)
    after = moved(done, 3, comment="Позвоните заранее")
    sandbox.delete_client(known.id)
    outbox.order(done.order, after)
    outbox.chat(chat(vera))
    outbox.order(after.order, moved(after, 4, comment=""))
    await outbox.idle()
    assert not outbox.refused
    assert len(bench.sandbox.clients()) == len(bench.sandbox.orders()) == len(bench.sandbox.notes()) == 1
    assert bench.sandbox.notes()[0].client == bench.sandbox.clients()[0].id
    assert bench.sandbox.orders()[0].stage == bench.crm.stages.get("done", bench.sandbox.orders()[0].stage)
    assert not bench.sandbox.violations


@pytest.mark.where(only=lambda crm: issubclass(crm.make, Denies))
async def test_a_missing_right_costs_clients_and_orders_and_no_call(bench: Bench) -> None:
    sandbox = bench.sandbox
    assert isinstance(sandbox, Denies)
    outbox, vera = await bench.open(), client()
    sandbox.deny()
    outbox.contact(vera)
    outbox.order(None, order(vera))
    if bench.crm.calls:
        outbox.call(*incoming("main-1", vera.phones[0]))
    await outbox.idle()
    assert [type(error) for _, error in outbox.refused] == [Rejected, Rejected]
    assert all("access" in error.person.lower() for _, error in outbox.refused if isinstance(error, Rejected))
    assert outbox.attention == [], "telephony goes on"
    assert len(bench.sandbox.calls()) == bench.crm.calls


@pytest.mark.where(only=lambda crm: issubclass(crm.make, Requires))
async def test_a_required_field_is_named_and_filled_by_a_rule(bench: Bench) -> None:
    sandbox = bench.sandbox
    assert isinstance(sandbox, Requires)
    name = sandbox.require()
    outbox, vera = await bench.open(), client()
    outbox.order(None, order(vera))
    await outbox.idle()
    ((_, refused),) = outbox.refused
    assert name in str(refused)
    assert not bench.sandbox.clients()
    rules = [
        {"when": "contact", "to": name, "from": "contact.link"},
        {"when": "order", "to": name, "from": "order.link"},
    ]
    filled = await bench.open(mapping=rules)
    filled.order(None, order(vera))
    await filled.idle()
    assert not filled.refused
    assert len(bench.sandbox.orders()) == 1
    assert not bench.sandbox.violations


@pytest.mark.answers(Fault.HTML, Fault.EMPTY, Fault.SUCCESS_FALSE, Fault.HTTP_500)
async def test_a_connection_test_says_what_was_answered(bench: Bench, fault: Fault) -> None:
    outbox = await bench.open()
    assert (await outbox.client.test()).ok
    bench.sandbox.disturb(fault, 3)
    tested = await outbox.client.test()
    assert not tested.ok
    assert tested.said("en")
    assert tested.said("ru")
