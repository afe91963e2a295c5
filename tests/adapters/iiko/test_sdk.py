"""The best-known client library of the API, driven against the sandbox: where the two agree, the sandbox is not our invention alone."""

from typing import Any

import pytest
import trio

from tests.sandbox.iiko import ORGANIZATION, PIZZA, SOUP, TERMINAL_GROUP, Iiko


def drive(base: str) -> dict[str, Any]:
    """What a program with that library does in a thread: reads the place and the menu, orders, and asks how far it is; then the same through its models."""
    from pyiikocloudapi import IikoTransport

    api = IikoTransport(Iiko.API_LOGIN, base_url=base, return_dict=True)
    found: dict[str, Any] = {"organizations": api.organizations(return_additional_info=True)}
    found["groups"] = api.terminal_groups([ORGANIZATION])
    found["alive"] = api.is_alive([ORGANIZATION], [TERMINAL_GROUP])
    found["menu"] = api.nomenclature(ORGANIZATION)
    found["stops"] = api.stop_lists([ORGANIZATION])
    order = {
        "phone": "+375291112233", "orderServiceType": "DeliveryByClient", "customer": {"type": "one-time", "name": "Анна"},
        "items": [{"type": "Product", "productId": SOUP, "amount": 1}],
    }  # fmt: skip
    made = api.delivery_create(ORGANIZATION, order, terminal_group_id=TERMINAL_GROUP)
    found["made"] = made
    for _ in range(3):
        found["state"] = api.status(ORGANIZATION, made["correlationId"])
    typed = IikoTransport(Iiko.API_LOGIN, base_url=base)
    found["typed"] = [typed.organizations(), typed.terminal_groups([ORGANIZATION]), typed.nomenclature(ORGANIZATION)]
    found["refused"] = typed.delivery_create(ORGANIZATION, {**order, "phone": "1"})
    return found


@pytest.mark.filterwarnings("ignore")
async def test_the_library_understands_the_sandbox(nursery: trio.Nursery) -> None:
    cloud = Iiko()
    base = await nursery.start(cloud.serve)
    cloud.stop(PIZZA)
    found = await trio.to_thread.run_sync(drive, base)
    assert found["organizations"]["organizations"][0]["id"] == ORGANIZATION
    assert found["groups"]["terminalGroups"][0]["items"][0]["id"] == TERMINAL_GROUP
    assert found["alive"]["isAliveStatus"][0]["isAlive"] is True
    assert SOUP in [one["id"] for one in found["menu"]["products"]]
    assert found["stops"]["terminalGroupStopLists"][0]["items"][0]["items"][0]["productId"] == PIZZA
    assert found["made"]["orderInfo"]["creationStatus"] == "InProgress"
    assert found["state"]["state"] == "Success"
    assert found["typed"][0].organizations[0].name == "Кафе «Июнь»"
    assert "CustomErrorModel" not in {type(one).__name__ for one in found["typed"]}
    assert type(found["refused"]).__name__ == "CustomErrorModel"
    assert cloud.violations == []
