"""Events of the portal: who may send them, and which calls they request."""

import json
from typing import Any

import pytest

from adapters.bitrix24.incoming import INBOUND, calls, fields_of, verify
from adapters.bitrix24.settings import Bitrix24Settings
from adapters.inbound import WebhookCall
from tests.sandbox.bitrix24 import Bitrix24

TOKEN = Bitrix24.APPLICATION_TOKEN
CLIENT = "+375291112233"


def settings(**more: Any) -> Bitrix24Settings:
    return Bitrix24Settings.model_validate({"portal": "june.bitrix24.by", **more})


def test_a_click_is_a_call() -> None:
    portal = Bitrix24()
    call_id, body = portal.request_call("19", CLIENT)
    (found,) = calls(body, settings())
    assert (found.id, found.phone, found.user_id, found.extension) == (call_id, CLIENT, "19", "")
    assert found.ids == {"call": call_id}, "an entity of id 0 is none"
    assert found.unused == {"call_id": call_id, "user_id": "19"}


def test_a_callback_rings_where_it_is_set() -> None:
    body = Bitrix24().event(
        "ONEXTERNALCALLBACKSTART", {"PHONE_NUMBER": CLIENT, "CRM_ENTITY_TYPE": "LEAD", "CRM_ENTITY_ID": "7"}
    )
    (found,) = calls(body, settings(callback_extension="150"))
    assert (found.phone, found.extension, dict(found.ids), found.unused) == (
        CLIENT,
        "150",
        {"entity": "LEAD:7", "type": "4"},
        None,
    )
    assert calls(body, settings())[0].extension == ""
    assert found.id == calls(body, settings())[0].id
    assert INBOUND.read(body, settings()) == ()


def test_json_is_taken_too() -> None:
    body = json.dumps(
        {"event": "onexternalcallstart", "data": {"PHONE_NUMBER": CLIENT, "USER_ID": 19, "CALL_ID": "c"}}
    ).encode()
    assert calls(body, settings())[0].user_id == "19"


def test_other_events_request_nothing() -> None:
    assert calls(Bitrix24().event("ONCRMDEALUPDATE", {"FIELDS": "7"}), settings()) == ()


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"data[CALL_ID]=1", b"\xff=1", b"event=ONEXTERNALCALLSTART&data[USER_ID]=19&data[CALL_ID]=c",
        b"event=ONEXTERNALCALLSTART&data[PHONE_NUMBER]=1&data[CALL_ID]=c", b"event=x&event[a]=1", b"{" * 100_000,
        b"event=ONEXTERNALCALLSTART&" + b"a[b]" + b"[c]" * 50 + b"=1", b"&".join(b"a=1" for _ in range(600)),
        b"event=ONEXTERNALCALLSTART&data[PHONE_NUMBER]=" + b"1" * 200 + b"&data[USER_ID]=19&data[CALL_ID]=c",
    ],
)  # fmt: skip
def test_what_is_no_event_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r".*"):
        calls(body, settings())


def test_only_the_right_token_passes() -> None:
    portal, strict = Bitrix24(), settings(application_token=TOKEN)
    right, wrong = portal.event("X", {}), portal.event("X", {}, token="another-token")
    assert verify(WebhookCall(method="POST", body=right), strict) is None
    for body in (wrong, b"event=X", b"", b"{", "auth[application_token]=ключ&event=X".encode()):
        refused = verify(WebhookCall(method="POST", body=body), strict)
        assert refused is not None
        assert refused.status == 403
    assert verify(WebhookCall(method="POST", body=wrong), settings()) is None, "without one the address is the proof"
    get = verify(WebhookCall(method="GET"), strict)
    assert get is not None
    assert get.status == 405


def test_brackets_are_maps() -> None:
    assert fields_of(b"a[b][c]=1&a[b][d]=2&e=") == {"a": {"b": {"c": "1", "d": "2"}}, "e": ""}
