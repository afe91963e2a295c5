"""Webhooks of the cloud: who may send them, and what they tell of orders."""

import json
from typing import Any

import pytest

from adapters.iiko.settings import IikoSettings
from adapters.inbound import OrderNews, WebhookCall
from adapters.till.incoming import INBOUND, jobs, orders, verify
from tests.sandbox.iiko import ORGANIZATION, OTHER_ORGANIZATION, STATUSES, Delivery, Iiko

TOKEN = "token-of-webhooks-0123456789"


def settings(**more: Any) -> IikoSettings:
    return IikoSettings.model_validate(
        {"api_login": "x", "organization_id": ORGANIZATION, "webhook_token": TOKEN, **more}
    )


@pytest.mark.parametrize("word", ["", "Bearer ", "bearer  "])
def test_only_the_right_token_passes_with_or_without_a_word(word: str) -> None:
    cloud = Iiko()
    cloud.word, cloud.webhook["authToken"] = word, TOKEN
    body, headers = cloud.event("DeliveryOrderUpdate", {})
    assert verify(WebhookCall(method="POST", headers=headers, body=body), settings()) is None
    for wrong in ({}, {"authorization": ""}, {"authorization": f"{word}another"}, {"authorization": "Bearer ключ"}):
        refused = verify(WebhookCall(method="POST", headers=wrong, body=body), settings())
        assert refused is not None
        assert refused.status == 403
    loose = settings(require_token=False)
    assert verify(WebhookCall(method="POST", body=body), loose) is None
    assert verify(WebhookCall(method="POST", headers={"authorization": "Bearer x"}, body=body), loose) is not None
    get = verify(WebhookCall(method="GET", headers=headers), settings())
    assert get is not None
    assert get.status == 405


def test_how_far_orders_are_in_the_order_of_the_till() -> None:
    cloud = Iiko()
    made = cloud.orders["0f3a2c9e-5f50-4c7e-9b7e-1c1c9b6f2a11"] = Delivery(
        "0f3a2c9e-5f50-4c7e-9b7e-1c1c9b6f2a11", {"phone": "", "items": []}
    )
    told = [json.loads(cloud.move(made.id, status, at)[0])[0] for at, status in reversed(list(enumerate(STATUSES)))]
    found = orders(json.dumps(told).encode(), settings())
    assert [one.status for one in found] == ["confirmed"] * 2 + ["in_progress"] * 4 + ["done"] * 2 + ["cancelled"]
    assert found[0] == OrderNews(order_id=made.id, status="confirmed")
    elsewhere = json.dumps([{**told[0], "organizationId": OTHER_ORGANIZATION}]).encode()
    assert not orders(elsewhere, settings())
    failed, _ = cloud.event("DeliveryOrderError", made.info())
    assert not orders(failed, settings())


def test_other_events_make_jobs_due() -> None:
    cloud = Iiko()
    assert jobs(cloud.event("StopListUpdate", {})[0], settings()) == ["stop_lists"]
    assert jobs(cloud.event("NomenclatureUpdate", {})[0], settings()) == ["menu"]
    assert jobs(cloud.event("PersonalShift", {})[0], settings()) == []


@pytest.mark.parametrize(
    "body", [b"", b"{", b"7", b"null", b'["x"]', b"[{}]", b'[{"eventType":7.5e400}]', b"[" * 100_000, b"\xff", json.dumps([{"eventType": "x"}] * 1001).encode()]
)  # fmt: skip
def test_what_is_no_list_of_events_is_refused(body: bytes) -> None:
    if body == b'[{"eventType":7.5e400}]':
        assert orders(body, settings()) == []
        return
    for read in (INBOUND.read, orders, jobs):
        with pytest.raises(ValueError, match=r".*"):
            read(body, settings())


@pytest.mark.parametrize(
    "info",
    [None, 5, {"id": "x"}, {"id": ORGANIZATION, "order": []}, {"id": ORGANIZATION, "order": {"status": ["Closed"]}}],
)
def test_odd_infos_tell_nothing(info: Any) -> None:
    body = json.dumps(
        [{"eventType": "DeliveryOrderUpdate", "organizationId": ORGANIZATION, "eventInfo": info}]
    ).encode()
    assert orders(body, settings()) == []
