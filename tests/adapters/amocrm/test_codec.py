"""What answers mean, in every shape in which the account writes them; what is searched for; texts."""

import json
from typing import Any

import pytest

from adapters.amocrm import codec, requests
from adapters.amocrm.refusals import REASONS
from adapters.amocrm.requests import Entity
from adapters.folder import read_folder
from gateway.domain.errors import BadCredentials, BadSettings, GatewayError, RateLimited, Unavailable

PROBLEM = {"title": "t", "type": "about:blank", "detail": "d"}


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (401, PROBLEM, BadCredentials),
        (402, PROBLEM, BadSettings),
        (403, PROBLEM, codec.Missing),
        (403, {**PROBLEM, "detail": "Account is blocked"}, codec.Blocked),
        (403, b"<html>403</html>", codec.Blocked),
        (403, b"", codec.Blocked),
        (400, PROBLEM, codec.Refused),
        (404, PROBLEM, codec.Refused),
        (422, PROBLEM, codec.Refused),
        (404, b"<html>404</html>", BadSettings),
        (429, b"Too many", RateLimited),
        (429, PROBLEM, RateLimited),
        (500, PROBLEM, Unavailable),
        (502, b"<html>", Unavailable),
        (503, b"", Unavailable),
        (504, b"<html>", codec.TooHeavy),
        (200, b"<html>200</html>", Unavailable),
        (200, b"", Unavailable),
        (200, b'"no"', Unavailable),
        (200, b"[" * 100_000, Unavailable),
        (302, b"", Unavailable),
    ],
)
def test_refusals(status: int, body: Any, error: type[GatewayError]) -> None:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(error) as raised:
        codec.read(status, raw, {"x-request-id": "r-17"}, "POST /api/v4/leads")
    assert type(raised.value) is error
    assert "r-17" in raised.value.detail
    assert raised.value.person
    if isinstance(raised.value, Unavailable):
        assert not raised.value.certain, "it may have been written"


def test_answers() -> None:
    assert codec.read(204, b"", {}, "GET /x") == {}
    assert codec.read(200, b'{"a": 1}', {}, "GET /x") == {"a": 1}
    assert codec.read(200, b'[{"id": 1}]', {}, "GET /x") == {codec.PLAIN: [{"id": 1}]}
    assert codec.read(202, b" ", {}, "POST /api/v2/events") == {}
    with pytest.raises(codec.Moved):
        codec.read(301, b"", {"location": "https://a.amocrm.ru/x"}, "GET /x")


@pytest.mark.parametrize(
    ("path", "right"), [("contacts", "contacts"), ("companies/7", "contacts"), ("leads/unsorted/sip", "leads"), ("tasks", "create tasks"),
                        ("users?limit=1", "administrator"), ("calls", "contacts, companies, leads and tasks")],
)  # fmt: skip
def test_a_missing_right_is_named(path: str, right: str) -> None:
    with pytest.raises(codec.Missing) as raised:
        codec.read(403, json.dumps(PROBLEM).encode(), {}, f"GET /api/v4/{path}")
    assert right in raised.value.person


def test_a_refusal_names_its_elements() -> None:
    body = {
        **PROBLEM,
        "validation-errors": [
            {"request_id": "b", "errors": [{"code": "x", "path": "responsible_user_id", "detail": "gone"}]},
            {"request_id": "c", "errors": {"0": {"path": "uniq", "detail": "Not unique"}}},
        ],
    }
    with pytest.raises(codec.Refused, match="responsible_user_id: gone; uniq: Not unique") as raised:
        codec.read(400, json.dumps(body).encode(), {}, "POST /api/v4/calls")
    error = raised.value
    assert codec.part(error, "a") is None
    user, repeat = codec.part(error, "b"), codec.part(error, "c")
    assert user is not None
    assert user.about_user()
    assert not error.about_user(), "not all of it"
    assert repeat is not None
    assert repeat.about_repeat()


def test_elements_are_matched_whatever_their_order() -> None:
    answer = {"_embedded": {"calls": {"1": {"request_id": "b", "id": 2}, "0": {"request_id": "a", "id": 1}}}}
    assert codec.by_request(answer, "calls", "a") == {"request_id": "a", "id": 1}
    assert codec.by_request(answer, "calls", "c") is None
    assert codec.embedded([], "calls") == []


def test_what_people_read_is_there_in_both_languages() -> None:
    texts = read_folder("adapters.amocrm").texts
    assert {key: text for key, text in texts["en"].items() if key.startswith("reason.")} == {
        f"reason.{name}": text for name, text in REASONS.items()
    }


@pytest.mark.parametrize(
    ("written", "same"),
    [("+375 (29) 111-22-33", True), ("80291112233", True), ("291112233", True), ("1112233", False), ("+375291112234", False),
     ("", False), (None, False), ("доб. 150", False), ("375291112233 доб. 1", False)],
)  # fmt: skip
def test_whose_number_it_is(written: Any, same: bool) -> None:
    assert requests.same(written, "+375291112233", "BY") is same


def test_what_is_searched_for() -> None:
    assert requests.queries("+79001112233", "RU", missed=True) == (), "its last 10 digits are all its spellings"
    assert requests.queries("+375291112233", "BY", missed=True) == ("80291112233", "291112233")
    assert requests.queries("+79001112233", "RU")[:3] == ("79001112233", "89001112233", "9001112233")


@pytest.mark.parametrize(
    ("answer", "entity"),
    [({"entity_type": "contact", "entity_id": 7}, Entity("contacts", "7")), ({"entity_type": "leads", "entity_id": "7"}, Entity("leads", "7")),
     ({"entity_type": "customer", "entity_id": 7}, None), ({}, None), ({"entity_type": "lead", "entity_id": 0}, None)],
)  # fmt: skip
def test_whom_a_call_was_given_to(answer: Any, entity: Entity | None) -> None:
    assert requests.entity_of(answer) == entity
    assert Entity.read(str(entity)) == entity
