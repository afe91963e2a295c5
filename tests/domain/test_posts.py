"""What is accepted as a posted call event, and that everything wrong with one is told at once."""

import json
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.configuration import Tenant
from gateway.domain.events import Direction
from gateway.domain.ids import TenantId
from gateway.domain.posts import ADDRESSES, DISPATCH, Invalid, Post, Status, Step, parse_post, token_of

NOW = datetime(2026, 11, 21, 7, 0, tzinfo=UTC)
TENANT = Tenant(
    number=TenantId("0367"), name="June", timezone=ZoneInfo("Europe/Minsk"), country="BY", language="ru"
)  # fmt: skip
FULL: dict[str, Any] = {
    "Token": "t" * 40, "UniqueId": "1700000000.7", "CallerIDNum": "+375291234567", "Extensions": ["150", 151],
    "ConnectedLineNum": 150, "CallType": 0, "CallStatus": "ANSWER", "StartTime": "2026-11-21 10:00:00",
    "EndTime": "2026-11-21T07:01:30Z", "Trunk": "trunk-0001", "Mood": {"kept": [1, None]},
}  # fmt: skip


def post(address: str = "/dial", /, **fields: Any) -> Post:
    return parse_post(address, {**FULL, **fields}, TENANT, NOW)


def problems(address: str = "/dial", /, data: Any = None, **fields: Any) -> list[str]:
    with pytest.raises(Invalid) as caught:
        parse_post(address, {**FULL, **fields} if data is None else data, TENANT, NOW)
    return [field for field, _ in caught.value.problems]


def test_everything_is_read() -> None:
    read = post("/hangup")
    assert (read.step, read.unique_id, read.caller_id) == (Step.HANGUP, "1700000000.7", "+375291234567")
    assert (read.connected_line, read.extensions, read.trunk) == ("150", ("150", "151"), "trunk-0001")
    assert (read.direction, read.status) == (Direction.INCOMING, Status.ANSWERED)
    assert read.start_time == datetime(2026, 11, 21, 7, 0, tzinfo=UTC)
    assert read.end_time == datetime(2026, 11, 21, 7, 1, 30, tzinfo=UTC)


def test_the_body_keeps_what_is_unknown_and_leaves_the_token_out() -> None:
    read = post()
    assert FULL["Token"] not in read.body
    assert json.loads(read.body)["Mood"] == {"kept": [1, None]}


def test_the_body_is_all_a_restart_needs() -> None:
    for address in ADDRESSES:
        data = {"token": "t" * 40, "uniqueId": "7", "event_type": "dial", "raw": FULL} if address == DISPATCH else FULL
        read = parse_post(address, data, TENANT, NOW)
        assert parse_post(address, json.loads(read.body), TENANT, NOW) == read
        assert FULL["Token"] not in read.body


def test_a_repeat_is_address_id_and_body() -> None:
    first = post()
    backwards = dict(reversed(FULL.items()))
    assert parse_post("/dial", backwards, TENANT, NOW).digest == first.digest
    assert post(Token="another").digest == first.digest
    digests = {first.digest, post("/hangup").digest, post(UniqueId="8").digest, post(Mood=1).digest}
    assert len(digests) == 4


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (["150", "151"], ("150", "151")),
        ("150, 151,,150", ("150", "151")),
        (150, ("150",)),
        ([150, None, " 151 "], ("150", "151")),
        ("SIP/150&SIP/151,30,tr", ("SIP/150", "SIP/151")),
        (["150&151"], ("150", "151")),
        (None, ()),
        ("", ()),
        ([], ()),
    ],
)
def test_extensions(given: Any, read: tuple[str, ...]) -> None:
    assert post(Extensions=given).extensions == read


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("ANSWER", Status.ANSWERED), ("answered", Status.ANSWERED), (2, Status.ANSWERED), ("2", Status.ANSWERED),
        ("BUSY", Status.BUSY), ("NOANSWER", Status.NO_ANSWER), ("NO ANSWER", Status.NO_ANSWER),
        ("CANCEL", Status.CANCELLED), ("CONGESTION", Status.FAILED), ("CHANUNAVAIL", Status.FAILED),
        (0, Status.NO_ANSWER), ("16", Status.NO_ANSWER), (None, None), ("", None), ("TORTURE", None),
    ],
)  # fmt: skip
def test_status(given: Any, read: Status | None) -> None:
    assert post(CallStatus=given).status is read


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("2026-11-21 10:00:00", "2026-11-21T07:00:00"),
        ("2026-11-21T10:00", "2026-11-21T07:00:00"),
        ("2026-11-21T10:00:00.123456789+02:00", "2026-11-21T08:00:00.123456"),
        ("2026-11-21T10:00:00Z", "2026-11-21T10:00:00"),
        ("2026-11-21T10:00:00+0300", "2026-11-21T07:00:00"),
    ],
)
def test_times(given: str, read: str) -> None:
    assert post(StartTime=given).start_time == datetime.fromisoformat(read).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    "given",
    [
        "yesterday", "2026-02-30 10:00:00", "2026-11-21 25:00:00", "2026-11-21", "20261121T100000", "0000-00-00 00:00:00",
        "0001-01-01 00:00:00", "9999-12-31 23:59:59", 1700000000, ["2026-11-21 10:00:00"], True, "2026-11-21 10:00:00+99",
        "2026-11-21 10:00:00" + "0" * 5000,
    ],
)  # fmt: skip
def test_impossible_times(given: Any) -> None:
    assert problems(StartTime=given) == ["StartTime"]


@pytest.mark.parametrize("given", [None, "", " ", 1.5, True, [], {}, "a\nb", "x" * 129, 10**30, "\ud800"])
def test_bad_unique_ids(given: Any) -> None:
    assert problems(UniqueId=given) == ["UniqueId"]


@pytest.mark.parametrize("field", ["CallerIDNum", "ConnectedLineNum", "Trunk", "Extensions"])
@pytest.mark.parametrize("given", ["15\r\n0", "1\x0050", "\x7f", "\u2028", "9" * 200, {"a": 1}, 1.5, False])
def test_bad_numbers(field: str, given: Any) -> None:
    assert problems(**{field: given}) == [field]


def test_every_problem_at_once() -> None:
    found = problems(UniqueId="", CallType=7, StartTime="soon", EndTime="late", Extensions=["\n", "\n"], CallerIDNum=[])
    assert found == ["UniqueId", "CallerIDNum", "Extensions", "CallType", "StartTime", "EndTime"]


def test_values_are_not_repeated_in_the_texts() -> None:
    with pytest.raises(Invalid) as caught:
        post(CallerIDNum="375\n29", CallType="nine", StartTime="whenever")
    assert not any(word in str(caught.value) for word in ("375", "nine", "whenever"))


@pytest.mark.parametrize("data", [[], "text", 7, [FULL], {7: 8}])
def test_not_an_object(data: Any) -> None:
    assert problems(data=data) == ["body"]


def test_limits() -> None:
    deep: Any = []
    for _ in range(100):
        deep = [deep]
    assert problems(Mood=deep) == ["body"]
    assert problems(Extensions=["1"] * 501) == ["Extensions"]
    assert problems(Mood=float("nan")) == ["body"]
    assert problems("/elsewhere") == ["address"]


def test_field_names_in_any_case() -> None:
    read = parse_post("/dial", {"uniqueid": "7", "EXTENSIONS": "150"}, TENANT, NOW)
    assert (read.unique_id, read.extensions) == ("7", ("150",))


def dispatched(**fields: Any) -> dict[str, Any]:
    return {"token": "t" * 40, "uniqueId": "7", "event_type": "hangup", "raw": dict(FULL), **fields}


def test_dispatch() -> None:
    read = parse_post(DISPATCH, dispatched(record_url="https://records.example/7.mp3"), TENANT, NOW)
    assert (read.address, read.step, read.unique_id) == (DISPATCH, Step.HANGUP, "7")
    assert (read.record_url, read.extensions) == ("https://records.example/7.mp3", ("150", "151"))
    assert parse_post(DISPATCH, dispatched(raw=json.dumps(FULL)), TENANT, NOW).caller_id == "+375291234567"


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"event_type": "start"}, ["event_type"]),
        ({"event_type": None, "uniqueId": ""}, ["uniqueId", "event_type"]),
        ({"raw": [1]}, ["raw"]),
        ({"raw": "{"}, ["raw"]),
        ({"raw": {"CallType": 9, "StartTime": "x"}}, ["raw.CallType", "raw.StartTime"]),
        ({"record_url": "file:///etc/passwd"}, ["record_url"]),
        ({"record_url": "https://x/\r\nA: b"}, ["record_url"]),
    ],
)
def test_bad_dispatch(fields: dict[str, Any], found: list[str]) -> None:
    assert problems(DISPATCH, dispatched(**fields)) == found


@pytest.mark.parametrize(
    ("data", "token"),
    [
        ({"Token": "a"}, "a"), ({"token": "a"}, "a"), ({"Token": 1}, None), ({"Token": ""}, None), ({}, None), ([], None),
    ],
)  # fmt: skip
def test_token_of(data: Any, token: str | None) -> None:
    assert token_of(data) == token


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(
    st.sampled_from(ADDRESSES),
    st.dictionaries(st.sampled_from([*FULL, "uniqueId", "event_type", "raw", "record_url", "x"]), json_values),
)
def test_anything_is_a_post_or_invalid(address: str, data: dict[str, Any]) -> None:
    try:
        read = parse_post(address, data, TENANT, NOW)
    except Invalid:
        return
    assert parse_post(address, json.loads(read.body), TENANT, NOW) == read
