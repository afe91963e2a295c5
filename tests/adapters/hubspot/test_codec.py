"""What answers mean, in every shape in which HubSpot and what stands before it write them."""

import json
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from adapters.folder import read_folder
from adapters.hubspot import codec, requests
from adapters.hubspot.refusals import REASONS
from adapters.hubspot.settings import HubSpotSettings
from gateway.domain.errors import BadCredentials, GatewayError, NotYet, RateLimited, Rejected, Unavailable

ZONE, NOW = ZoneInfo("Europe/Minsk"), datetime(2026, 5, 4, 20, 0, tzinfo=UTC)


def read(status: int, body: Any, headers: dict[str, str] | None = None, bucket: str = "") -> Any:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return codec.read(status, raw, headers or {}, where="POST /x", zone=ZONE, now=NOW, bucket=bucket)


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (401, {"status": "error", "category": "INVALID_AUTHENTICATION"}, BadCredentials),
        (401, {"status": "error", "category": "EXPIRED_AUTHENTICATION"}, BadCredentials),
        (401, b"<html>", BadCredentials),
        (403, {"status": "error", "category": "MISSING_SCOPES", "context": {"missingScopes": ["crm.objects.owners.read"]}}, codec.Missing),
        (403, {"message": "This portal's plan has no access"}, codec.Missing),
        (404, {"status": "error", "category": "OBJECT_NOT_FOUND"}, codec.NotFound),
        (409, {"status": "error", "category": "CONFLICT", "message": "Contact already exists. Existing ID: 301"}, codec.Conflict),
        (400, {"category": "VALIDATION_ERROR", "message": "Cannot set it. 301 already has that value."}, codec.Conflict),
        (400, {"status": "error", "category": "VALIDATION_ERROR", "message": "no"}, codec.Refused),
        (400, b"no", Rejected),
        (414, b"", Rejected),
        (423, {"message": "locked"}, NotYet),
        (429, {"errorType": "RATE_LIMIT", "policyName": "TEN_SECONDLY_ROLLING"}, RateLimited),
        (429, b"<html>", RateLimited),
        (477, {"message": "Migration in progress"}, Unavailable),
        (500, {"status": "error", "category": "INTERNAL_ERROR"}, Unavailable),
        (502, b"<html>", Unavailable),
        (524, b"", Unavailable),
        (200, b"<html>", Unavailable),
        (200, b"", Unavailable),
        (200, b"[" * 100_000, Unavailable),
        (200, {"status": "error", "message": "There was a problem with the request."}, Unavailable),
        (302, b"", Unavailable),
    ],
)  # fmt: skip
def test_refusals(status: int, body: Any, error: type[GatewayError]) -> None:
    with pytest.raises(error) as raised:
        read(status, body)
    assert type(raised.value) is error
    assert raised.value.person


def test_what_is_no_refusal() -> None:
    assert read(204, b"") == {}
    assert read(200, [{"id": "1"}]) == {"results": [{"id": "1"}]}
    assert read(207, {"status": "COMPLETE", "results": []})["status"] == "COMPLETE"


@pytest.mark.parametrize(
    ("body", "headers", "bucket", "after_s", "of"),
    [
        ({"policyName": "TEN_SECONDLY_ROLLING"}, {}, "", 10.0, ""),
        ({"policyName": "SECONDLY"}, {}, "", 1.0, ""),
        ({"policyName": "SECONDLY"}, {}, "search", 1.0, "search"),
        ({"policyName": "TEN_SECONDLY_ROLLING"}, {"retry-after": "3"}, "", 3.0, ""),
        ({}, {}, "", 10.0, ""),
        ({"policyName": "DAILY"}, {}, "", 3600.0, ""),  # 23:00 in Minsk
        ({"policyName": "DAILY"}, {"date": "Mon, 04 May 2026 20:59:00 GMT"}, "search", 60.0, ""),  # by HubSpot's own clock
        ({"message": "You have reached your daily limit."}, {"date": "nonsense"}, "", 3600.0, ""),
    ],
)  # fmt: skip
def test_limits_by_their_policy(body: Any, headers: dict[str, str], bucket: str, after_s: float, of: str) -> None:
    with pytest.raises(RateLimited) as raised:
        read(429, {"status": "error", "errorType": "RATE_LIMIT", **body}, headers, bucket)
    assert (raised.value.after_s, raised.value.bucket) == (after_s, of)


@pytest.mark.parametrize(
    ("left", "pause"),
    [("100", 0.0), ("6", 0.0), ("5", 1.0), ("0", 10.0), ("-1", 0.0), ("", 0.0), ("99999999999999", 0.0)],
)
def test_headers_slow_down_before_a_refusal(left: str, pause: float) -> None:
    headers = {
        "x-hubspot-ratelimit-max": "100", "x-hubspot-ratelimit-remaining": left, "x-hubspot-ratelimit-interval-milliseconds": "10000",
        "x-hubspot-ratelimit-daily": "250000", "x-hubspot-ratelimit-daily-remaining": "12",
    }  # fmt: skip
    told = codec.pace(headers)
    assert told.pause_s() == pause
    assert (told.most_daily, told.left_daily) == (250_000, 12)
    assert codec.pace({}).pause_s() == 0.0


@pytest.mark.parametrize(
    "answer",
    [
        {"context": {"missingScopes": ["a.b"]}},
        {"context": '{"missingScopes": ["a.b"]}'},
        {"errors": [{"context": {"requiredGranularScopes": ["a.b"]}}]},
        {"errors": [{"context": "{requiredScopes=[a.b]}"}]},
    ],
)
def test_the_missing_scope_is_named_however_it_is_written(answer: dict[str, Any]) -> None:
    with pytest.raises(codec.Missing) as raised:
        read(403, {"category": "MISSING_SCOPES", **answer})
    assert raised.value.person == f"{REASONS['scope']}: a.b"


@pytest.mark.parametrize(
    "answer",
    [
        {"errors": [{"context": {"propertyName": ["x_1"]}}]},
        {"validationResults": [{"isValid": False, "name": "x_1"}]},
        {"message": 'Property values were not valid: [{"isValid":false,"error":"PROPERTY_DOESNT_EXIST","name":"x_1"}]'},
        {"message": 'Property "x_1" does not exist'},
    ],
)
def test_the_refused_property_is_named_however_it_is_written(answer: dict[str, Any]) -> None:
    with pytest.raises(codec.Refused) as raised:
        read(400, {"category": "VALIDATION_ERROR", **answer})
    assert raised.value.properties == ("x_1",)


def test_a_batch_is_read_input_by_input() -> None:
    answer = {
        "results": [{"id": "1", "objectWriteTraceId": "a"}, {"id": "2", "properties": {"key": "b"}}, {"id": "3"}, {"id": "x", "objectWriteTraceId": "e"}],
        "errors": [{"category": "VALIDATION_ERROR", "message": "no", "context": {"objectWriteTraceId": ["c"]}}, "?"],
    }  # fmt: skip
    batch = codec.read_batch(answer, ["a", "b", "c", "d", "e"], "key", where="x", zone=ZONE, now=NOW)
    assert {name: one["id"] for name, one in batch.results.items()} == {"a": "1", "b": "2"}
    assert {name: type(one) for name, one in batch.errors.items()} == {
        "c": codec.Refused,
        "d": Unavailable,
        "e": Unavailable,
    }
    lost = batch.errors["d"]
    assert isinstance(lost, Unavailable)
    assert lost.certain is False, "it may have been written"


def test_what_people_read_is_there_in_both_languages() -> None:
    texts = read_folder("adapters.hubspot").texts
    assert {key: text for key, text in texts["en"].items() if key.startswith("reason.")} == {
        f"reason.{name}": text for name, text in REASONS.items()
    }


@pytest.mark.parametrize("country", ["BY", "RU", "US", ""])
def test_a_search_keeps_to_hubspot_s_bounds(country: str) -> None:
    for phone in ("+375291112233", "+79001112233", "+12125550123", "12345", "+448001111"):
        wanted = requests.contacts_of(phone, country)
        assert 0 < len(wanted["filterGroups"]) <= 5
        values = [
            one for group in wanted["filterGroups"] for filter_ in group["filters"] for one in filter_.get("values", ())
        ]
        assert not [one for one in values if "+" in one or one != one.lower()]


def test_values_are_texts() -> None:
    settings = HubSpotSettings.model_validate({"api_key": "pat-1"})
    made = requests.contact("+375291112233", "101", settings, {"a": True, "b": 1.5, "c": "x"})
    assert made["properties"]["a"] == "true"
    assert all(isinstance(one, str) for one in made["properties"].values())
    assert made["associations"] == [], "the key is required"
