"""What answers mean, in every shape in which Salesforce writes them; its query languages; what makes settings valid."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from adapters.folder import read_folder
from adapters.salesforce import codec, requests
from adapters.salesforce.client import statuses_of
from adapters.salesforce.refusals import REASONS
from adapters.salesforce.requests import Client
from adapters.salesforce.settings import SalesforceSettings
from gateway.domain.errors import BadSettings, GatewayError, RateLimited, Rejected, Unavailable


def refusal(code: str, *fields: str) -> list[dict[str, Any]]:
    return [{"errorCode": code, "message": "no", "fields": list(fields)}]


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (300, ["/services/data/v68.0/sobjects/Task/00T1"], Rejected),
        (302, b"<html>", BadSettings),
        (400, refusal("MALFORMED_QUERY"), codec.Refused),
        (400, refusal("REQUIRED_FIELD_MISSING", "Region__c"), codec.Refused),
        (400, refusal("UNABLE_TO_LOCK_ROW"), Unavailable),
        (400, refusal("INSUFFICIENT_ACCESS_OR_READONLY"), codec.Missing),
        (400, refusal("INVALID_TYPE"), codec.Missing),
        (401, refusal("INVALID_SESSION_ID"), codec.SessionEnded),
        (401, b"", codec.SessionEnded),
        (403, refusal("REQUEST_LIMIT_EXCEEDED"), RateLimited),
        (403, refusal("API_DISABLED_FOR_ORG"), BadSettings),
        (403, refusal("INSUFFICIENT_ACCESS"), codec.Missing),
        (403, b"<html>", BadSettings),
        (404, refusal("NOT_FOUND"), codec.NotThere),
        (404, b"<html>URL No Longer Exists</html>", BadSettings),
        (409, refusal("CONFLICT"), codec.Refused),
        (414, b"", Rejected),
        (500, refusal("UNKNOWN_EXCEPTION"), Unavailable),
        (502, b"<html>", Unavailable),
        (503, refusal("SERVER_UNAVAILABLE"), Unavailable),
        (200, b"<html>maintenance</html>", Unavailable),
        (200, b"", Unavailable),
        (200, b"7", Unavailable),
        (200, b"[" * 100_000, Unavailable),
        (200, {"id": None, "success": False, "errors": [{"statusCode": "STRING_TOO_LONG", "message": "x", "fields": ["Subject"]}]},
         codec.Refused),
        (200, {"success": False, "errors": []}, Unavailable),
    ],
)  # fmt: skip
def test_refusals(status: int, body: Any, error: type[GatewayError]) -> None:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(error) as raised:
        codec.read(status, raw, "Task")
    assert type(raised.value) is error
    assert raised.value.person


def test_what_people_read_is_there_in_both_languages() -> None:
    texts = read_folder("adapters.salesforce").texts
    assert {key: text for key, text in texts["en"].items() if key.startswith("reason.")} == {
        f"reason.{name}": text for name, text in REASONS.items()
    }


def test_a_composite_of_which_a_part_was_refused() -> None:
    good = {"referenceId": "a", "httpStatusCode": 200, "body": {"records": []}}
    bad = {"referenceId": "b", "httpStatusCode": 400, "body": refusal("INVALID_FIELD", "X")}
    assert codec.read_composite({"compositeResponse": [good]}, {"a": "Lead"}) == {"a": {"records": []}}
    with pytest.raises(codec.Refused, match="INVALID_FIELD"):
        codec.read_composite({"compositeResponse": [good, bad]}, {"a": "Lead", "b": "Contact"})
    incomplete: list[Any] = [{}, {"compositeResponse": [good]}, [], {"compositeResponse": [{"referenceId": "b"}]}]
    for answer in incomplete:
        with pytest.raises(Unavailable):
            codec.read_composite(answer, {"a": "Lead", "b": "Contact"})


@pytest.mark.parametrize(
    ("header", "usage"),
    [
        ("api-usage=18/5000; per-app-api-usage=17/250(appName=x)", "18 / 5000"),
        ("per-app-api-usage=17/250(appName=x)", "None"),
        ("", "None"),
        ("api-usage=x/y", "None"),
    ],
)
def test_usage(header: str, usage: str) -> None:
    assert str(codec.usage_of({"sforce-limit-info": header})) == usage
    assert codec.Usage(90, 100).is_low
    assert not codec.Usage(0, 0).is_low


def test_texts_of_the_query_languages() -> None:
    assert codec.soql("o'1\\\n") == "'o\\'1\\\\ '"
    assert codec.sosl(["+375 29", "8-0", 'a"}']) == '"\\+375 29" OR "8\\-0" OR "a\\"\\}"'
    assert requests.by_external_id("Task", "X__c", "a/1 +") == "/sobjects/Task/X__c/a%2F1%20%2B"


@pytest.mark.parametrize(
    ("value", "found"), [("00Q000000000001", "00Q000000000001"), ("00Q000000000001AAA", "00Q000000000001AAA"), ("00Q1", ""), (1, ""), (None, ""), ("00Q00000000000é", "")]
)  # fmt: skip
def test_ids(value: Any, found: str) -> None:
    assert codec.identifier(value) == found


def test_the_best_of_what_was_found() -> None:
    def one(kind: str, number: int, phone: str, made: str) -> dict[str, Any]:
        return {
            "attributes": {"type": kind},
            "Id": f"00Q{number:012}",
            "Phone": phone,
            "CreatedDate": made,
            "OwnerId": "005000000000001",
        }

    phone = "+375291112233"
    leads = [one("Lead", 1, phone, "2025-02-01"), one("Lead", 2, "8 029 1112233", "2025-01-01")]
    found = requests.best(leads, phone, "BY")
    assert found == Client("Lead", "00Q000000000001", "005000000000001")
    assert Client.read(str(found)) == Client("Lead", "00Q000000000001")
    assert requests.best([*leads, one("Account", 3, phone, "2020-01-01")], phone, "BY") == found
    assert requests.best([one("Lead", 1, "+375291112234", ""), {}, None], phone, "BY") is None
    assert Client.read("Task:00T000000000001") is Client.read("") is Client.read(None) is None


def test_statuses_of_an_organisation() -> None:
    assert statuses_of([]) == ("Completed", "Not Started")
    rows = [
        {"ApiName": "Wait", "IsClosed": False},
        {"ApiName": "Open", "IsClosed": False, "IsDefault": True},
        {"ApiName": "Done", "IsClosed": True},
    ]
    assert statuses_of(rows) == ("Done", "Open")


def test_a_link_at_the_end_of_comments() -> None:
    assert requests.with_link("", "https://x", "Recording") == "Recording: https://x"
    long = requests.with_link("я" * 40_000, "https://x", "Recording")
    assert len(long) == requests.LONGEST_TEXT
    assert long.endswith("\nRecording: https://x")


GOOD = {"instance_url": "https://june.my.salesforce.com", "client_id": "3MVG9", "client_secret": "secret0123"}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"instance_url": ""}, "instance_url"),
        ({"instance_url": "https://login.salesforce.com"}, "instance_url"),
        ({"instance_url": "https://june.lightning.force.com"}, "instance_url"),
        ({"instance_url": "https://june.my.salesforce.com/services"}, "instance_url"),
        ({"instance_url": "https://user@june.my.salesforce.com"}, "instance_url"),
        ({"instance_url": "ftp://june.my.salesforce.com"}, "instance_url"),
        ({"instance_url": "https://169.254.169.254"}, "instance_url"),
        ({"client_id": "a b"}, "client_id"),
        ({"client_secret": ""}, "client_secret"),
        ({"client_secret": "with a space secret0123"}, "client_secret"),
        ({"grant": "password"}, "grant"),
        ({"grant": "jwt"}, "private_key"),
        (
            {
                "grant": "jwt",
                "username": "u",
                "private_key": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----",
            },
            "private_key",
        ),
        ({"private_key": "secret0123"}, "private_key"),
        ({"call_field": "Gw Call"}, "call_field"),
        ({"call_field": "X/../Y"}, "call_field"),
        ({"create": "deal"}, "create"),
        ({"default_user": "anna"}, "default_user"),
        ({"api_version": "68"}, "api_version"),
        ({"audience": "http://x"}, "audience"),
        ({"company": "a\nb"}, "company"),
    ],
)
def test_what_cannot_be_right(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as raised:
        SalesforceSettings.model_validate(GOOD | fields)
    assert [error["loc"][0] for error in raised.value.errors(include_input=False, include_context=False)] == [field]
    assert "secret0123" not in str(raised.value)


def test_addresses() -> None:
    made = SalesforceSettings.model_validate(GOOD | {"instance_url": " June--dev.sandbox.my.salesforce.com/ "})
    assert (made.instance_url, made.jwt_audience) == (
        "https://june--dev.sandbox.my.salesforce.com",
        "https://test.salesforce.com",
    )
    assert SalesforceSettings.model_validate(GOOD).jwt_audience == "https://login.salesforce.com"
    assert "secret0123" not in repr(made) + made.model_dump_json()
