"""What answers mean, in every shape in which the portal writes them; batches; redirects."""

import json
from typing import Any

import pytest

from adapters.bitrix24 import codec, requests
from adapters.bitrix24.codec import Command
from adapters.bitrix24.refusals import REASONS
from adapters.bitrix24.requests import Entity
from adapters.folder import read_folder
from gateway.domain.errors import (
    BadCredentials,
    BadSettings,
    GatewayError,
    NotYet,
    RateLimited,
    Rejected,
    Unavailable,
)


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (401, {"error": "expired_token"}, BadCredentials),
        (401, {"error": "NO_AUTH_FOUND"}, BadCredentials),
        (403, {"error": "INVALID_CREDENTIALS"}, BadCredentials),
        (403, {"error": "insufficient_scope"}, codec.Missing),
        (403, {"error": "ACCESS_DENIED", "error_description": "REST is available only on commercial plans."}, codec.Missing),
        (403, {"error": "WRONG_AUTH_TYPE"}, BadSettings),
        (402, {"error": "PAYMENT_REQUIRED"}, BadSettings),
        (503, {"error": "OVERLOAD_LIMIT"}, BadSettings),
        (500, {"error": "PORTAL_DELETED"}, BadSettings),
        (503, {"error": "QUERY_LIMIT_EXCEEDED"}, RateLimited),
        (429, {"error": "OPERATION_TIME_LIMIT"}, NotYet),
        (500, {"error": "INTERNAL_SERVER_ERROR"}, Unavailable),
        (200, {"error": "ERROR_UNEXPECTED_ANSWER"}, Unavailable),
        (400, {"error": "", "error_description": "Call is not found (call should be registered prior to finishing)"}, Rejected),
        (400, {"error": "ERROR_CORE", "error_description": "Unsupported phone number format."}, Rejected),
        (400, {"error": "Communication type is not defined"}, Rejected),
        (404, {"error": "ERROR_METHOD_NOT_FOUND"}, Rejected),
        (200, {"error": "", "error_description": ""}, Unavailable),
        (200, {}, Unavailable),
        (200, b"<html>503</html>", Unavailable),
        (200, b"", Unavailable),
        (200, b"[]", Unavailable),
        (503, b"<html>", RateLimited),
        (502, b"<html>", Unavailable),
        (404, b"<html>", BadSettings),
        (200, b"[" * 100_000, Unavailable),
    ],
)  # fmt: skip
def test_refusals(status: int, body: Any, error: type[GatewayError]) -> None:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(error) as raised:
        codec.read(status, raw, {}, "telephony.externalcall.finish")
    assert type(raised.value) is error
    assert raised.value.person


def test_what_people_read_is_there_in_both_languages() -> None:
    texts = read_folder("adapters.bitrix24").texts
    assert {key: text for key, text in texts["en"].items() if key.startswith("reason.")} == {
        f"reason.{name}": text for name, text in REASONS.items()
    }


@pytest.mark.parametrize("value", [0, False, [], {}, "", None])
def test_an_empty_result_is_one(value: Any) -> None:
    assert codec.read(200, json.dumps({"result": value, "time": []}).encode(), {}, "x").value == value


def test_time_is_counted_by_the_portal_s_own_clock() -> None:
    """Whatever our clock says."""
    time = {"operating": 470.5, "operating_reset_at": 1000_300, "finish": 1000_000.0}
    found = codec.read(200, json.dumps({"result": 1, "time": time}).encode(), {}, "x")
    assert (found.operating_s, found.resets_in_s) == (470.5, 300.0)
    with pytest.raises(NotYet) as raised:
        codec.read(429, json.dumps({"error": "OPERATION_TIME_LIMIT", "time": time}).encode(), {}, "x")
    assert raised.value.after_s == 300.0


def test_a_batch_with_php_s_empty_lists() -> None:
    commands = {"a": Command("crm.duplicate.findbycomm"), "b": Command("telephony.externalcall.finish")}
    answer = {
        "result": [],
        "result_error": {"b": {"error": "", "error_description": "Call is not found"}},
        "result_time": [],
    }
    batch = codec.read_batch(codec.Result(answer), commands)
    assert batch.of("a") is None
    with pytest.raises(Rejected, match=r"telephony\.externalcall\.finish.*Call is not found"):
        batch.of("b")
    worked = {"result": {"a": []}, "result_error": [], "result_time": {"a": {"operating": 455}}}
    batch = codec.read_batch(codec.Result(worked), commands)
    assert (batch.of("a"), batch.operating["crm.duplicate.findbycomm"].operating_s) == ([], 455)


def test_a_command_is_a_query_of_php() -> None:
    command = Command("m", {"VALUES": ["+375 29", "8"], "FIELDS": {"A": "x&y=1", "B": 7}, "FLAG": True})
    assert command.query() == "m?VALUES%5B0%5D=%2B375+29&VALUES%5B1%5D=8&FIELDS%5BA%5D=x%26y%3D1&FIELDS%5BB%5D=7&FLAG=1"


@pytest.mark.parametrize(
    ("location", "origin"),
    [
        ("https://new.bitrix24.ru/rest/1/s/m", "https://new.bitrix24.ru"),
        ("https://old.bitrix24.ru/rest/1/s/m", None),
        ("http://new.bitrix24.ru/rest/1/s/m", None),
        ("https://user@new.bitrix24.ru/rest/1/s/m", None),
        ("https://new.bitrix24.ru/login/", None),
        ("/rest/1/s/m", None),
        ("", None),
    ],
)
def test_where_a_redirect_leads(location: str, origin: str | None) -> None:
    assert codec.moved_to(location, "https://old.bitrix24.ru/rest/1/s/m") == origin


@pytest.mark.parametrize(
    ("value", "found"), [("7", "7"), (7, "7"), ("007", "7"), (0, ""), ("0", ""), (True, ""), (None, ""), ("٣", ""), ("1" * 19, "")]
)  # fmt: skip
def test_ids(value: Any, found: str) -> None:
    assert codec.identifier(value) == found


def test_who_a_call_is_with() -> None:
    assert requests.entity_of({"CRM_ENTITY_TYPE": "CONTACT", "CRM_ENTITY_ID": "12"}) == Entity("CONTACT", "12")
    assert requests.entity_of({"CRM_CREATED_LEAD": 5, "CRM_CREATED_ENTITIES": []}) == Entity("LEAD", "5")
    assert requests.entity_of({"CRM_CREATED_ENTITIES": {"1": {"ENTITY_TYPE": "DEAL", "ENTITY_ID": 8}}}) == Entity(
        "DEAL", "8"
    )
    assert requests.entity_of([]) is None


def test_the_best_of_what_was_found() -> None:
    assert requests.best({"CONTACT": [], "COMPANY": {"COMPANY": [9, "4"]}, "LEAD": {"LEAD": {"0": 1}}}) == Entity(
        "COMPANY", "4"
    )
    assert requests.best({"LEAD": {"LEAD": [3, 10]}}) == Entity("LEAD", "10")
    assert requests.best({}) is None


@pytest.mark.parametrize(
    ("kind", "name"), [("audio/mpeg", "a-1.mp3"), ("audio/x-wav; q=1", "a-1.wav"), ("audio/ogg", None), ("", None)]
)
def test_names_of_recordings(kind: str, name: str | None) -> None:
    assert requests.file_name("a/1", kind) == name
