"""What codes of the Graph API come to, which templates can be filled in, and what is said of a number."""

import json
import re
from typing import Any

import pytest

from adapters.channel import MessageTemplate
from adapters.folder import read_folder
from adapters.http import Answer
from adapters.meta import Unclear
from adapters.whatsapp import codec
from gateway.domain.errors import BadCredentials, BadSettings, GatewayError, RateLimited, Rejected, Unavailable
from tests.sandbox.whatsapp import template


def answer(code: int = 0, status: int = 400, raw: bytes | None = None, **more: Any) -> Answer:
    error = {"code": code, "message": f"(#{code}) x", "error_data": {"details": "why"}, **more}
    return Answer(status=status, raw=raw if raw is not None else json.dumps({"error": error}).encode())


@pytest.mark.parametrize(
    ("code", "error"),
    [
        *((code, BadCredentials) for code in (0, 190)),
        *((code, BadSettings) for code in (3, 10, 200, 299, 368, 131005, 131031, 131042, 131044, 131045, 133010)),
        *((code, RateLimited) for code in (4, 17, 613, 80007, 130429, 131056)),
        *((code, Unavailable) for code in (1, 2, 131000, 131016, 131057, 135000, 131052, 131053)),
        *((code, Rejected) for code in (100, 130472, 131008, 131009, 131021, 131026, 131030, 131047, 131048, 131049, 131051, 131062,
                                        132000, 132001, 132015, 132016)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("status", [200, 400, 401, 403, 429, 500])
def test_errors_are_told_apart_by_code_alone(code: int, error: type[GatewayError], status: int) -> None:
    if status == 500 and code == 100:
        error = Unavailable
    with pytest.raises(error, match=f"{code}: why"):
        codec.read(answer(code, status))


def test_a_limit_of_one_recipient_is_no_limit_of_the_number() -> None:
    with pytest.raises(RateLimited) as pair:
        codec.read(answer(131056), "375291002001")
    assert (pair.value.bucket, pair.value.after_s) == ("pair:375291002001", codec.PAIR_PAUSE_S)
    with pytest.raises(RateLimited) as whole:
        codec.read(answer(130429), "375291002001")
    assert whole.value.bucket == ""


def test_a_file_is_tried_three_times() -> None:
    for attempt, error in ((1, Unavailable), (2, Unavailable), (3, Rejected)):
        with pytest.raises(error):
            codec.read(answer(131053), attempt=attempt)


@pytest.mark.parametrize(
    ("status", "raw", "error"),
    [
        (200, b"", Unclear), (200, b"[]", Unclear), (200, b"<html>", Unclear), (200, b"[" * 100_000, Unclear),
        (502, b"<html>", Unavailable), (404, b"<html>", Rejected), (401, b"", BadCredentials), (429, b"", RateLimited),
    ],
)  # fmt: skip
def test_what_is_no_answer_of_the_api(status: int, raw: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        codec.read(answer(status=status, raw=raw))


def test_every_refusal_of_a_message_has_words_in_both_languages() -> None:
    for texts in read_folder("adapters.whatsapp").texts.values():
        said = {key.partition(".")[2] for key in texts if key.startswith("message_error.")}
        assert {"131047", "131026", "131049", "132001", "131053", "100"} <= said
        assert all(re.fullmatch("[0-9]+", code) for code in said)


# Templates


def test_a_template_with_places() -> None:
    made = template(
        "ready", "", category="MARKETING", components=[
            {"type": "HEADER", "format": "TEXT", "text": "Hello, {{name}}"}, {"type": "BODY", "text": "Order {{1}} for {{ 2 }}, {{1}}"},
            {"type": "FOOTER", "text": "June"},
            {"type": "BUTTONS", "buttons": [{"type": "QUICK_REPLY", "text": "ok"}, {"type": "URL", "url": "https://june.example/{{1}}"}]},
        ]
    )  # fmt: skip
    assert codec.template(made) == MessageTemplate(
        name="ready", language="ru", text="Hello, {{header.name}}\n\nOrder {{body.1}} for {{body.2}}, {{body.1}}\n\nJune",
        fields=("header.name", "body.1", "body.2", "button.1"), category="marketing",
    )  # fmt: skip


@pytest.mark.parametrize(
    "item",
    [
        {}, {"name": "a"}, template("a", "b", status="PAUSED"), template("a", "b", category="AUTHENTICATION"),
        template("a", "b", components=[{"type": "HEADER", "format": "IMAGE"}]),
        template("a", "b", components=[{"type": "BUTTONS", "buttons": [{"type": "CATALOG"}]}]),
        template("a", "b", components=[{"type": "CAROUSEL"}]),
    ],
)  # fmt: skip
def test_templates_that_texts_cannot_fill(item: dict[str, Any]) -> None:
    assert codec.template(item) is None


def test_a_filled_template_is_what_the_client_reads() -> None:
    one = codec.template(template("ready", "Order {{1}}: {{2}}"))
    assert one is not None
    assert one.filled({"body.1": "7", "body.2": "{{body.1}} \\1"}) == "Order 7: {{body.1}} \\1"
    with pytest.raises(ValueError, match=r"body\.2"):
        one.filled({"body.1": "7", "body.2": "  "})
    with pytest.raises(ValueError, match=r"body\.3"):
        one.filled({"body.1": "7", "body.2": "8", "body.3": "9"})


# The number


@pytest.mark.parametrize(
    ("found", "problem", "detail"),
    [
        ({}, None, ""), ({"quality_rating": "GREEN", "health_status": {"can_send_message": "AVAILABLE"}}, None, ""),
        ({"quality_rating": "RED"}, "quality_low", ""),
        ({"health_status": {"can_send_message": "BLOCKED", "entities": [
            {"entity_type": "PHONE_NUMBER", "can_send_message": "AVAILABLE", "errors": [{"error_description": "no"}]},
            {"entity_type": "WABA", "can_send_message": "BLOCKED", "errors": [{"error_description": "Payment is missing"}]}]}},
         "number_blocked", "Payment is missing"),
        ({"quality_rating": "RED", "health_status": {"can_send_message": "LIMITED"}}, "number_limited", ""),
    ],
)  # fmt: skip
def test_a_numbers_standing(found: dict[str, Any], problem: str | None, detail: str) -> None:
    result = codec.judged_number(found)
    assert (result.problem if result else None, result.detail if result else "") == (problem, detail)


OURS = "https://gw.example/hooks/whatsapp/secret"


@pytest.mark.parametrize(
    ("known", "problem"),
    [
        ({}, "no_webhook"), ({"application": OURS}, None), ({"application": f"{OURS}/"}, None),
        ({"application": "https://other.example/"}, "other_webhook"), ({"application": OURS, "phone_number": "https://other.example"}, "other_webhook"),
        ({"application": "https://other.example", "whatsapp_business_account": OURS}, None),
    ],
)  # fmt: skip
def test_where_the_numbers_webhooks_lead(known: dict[str, str], problem: str | None) -> None:
    result = codec.judged_webhook({"webhook_configuration": known}, OURS)
    assert (result.problem if result else None) == problem
    assert result is None or OURS not in result.detail, "the address is a secret"
