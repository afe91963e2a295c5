"""What makes a portal's settings valid, in words that name the field and show no secret."""

from typing import Any

import pytest
from pydantic import ValidationError

from adapters.bitrix24.settings import Bitrix24Settings


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://june.bitrix24.by/rest/1/secret0123/", "https://june.bitrix24.by"),
        (" https://june.bitrix24.by/rest/17/secret0123 ", "https://june.bitrix24.by"),
        ("https://crm.june.example:8443/b24/rest/1/secret0123/", "https://crm.june.example:8443"),
        ("http://127.0.0.1:9000/rest/1/secret0123/", "http://127.0.0.1:9000"),
    ],
)
def test_a_webhook(url: str, origin: str) -> None:
    made = Bitrix24Settings.model_validate({"webhook_url": url})
    assert made.origin == origin
    assert made.webhook is not None
    assert made.webhook[2].reveal() == "secret0123"
    assert "secret0123" not in repr(made) + made.model_dump_json()


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "webhook_url"),
        ({"webhook_url": ""}, "webhook_url"),
        ({"webhook_url": "june.bitrix24.by"}, "webhook_url"),
        ({"webhook_url": "https://june.bitrix24.by/rest/1/secret0123/crm.deal.list"}, "webhook_url"),
        ({"webhook_url": "https://june.bitrix24.by/rest/1/secret0123/?a=1"}, "webhook_url"),
        ({"webhook_url": "https://user@june.bitrix24.by/rest/1/secret0123/"}, "webhook_url"),
        ({"webhook_url": "https://169.254.169.254/rest/1/secret0123/"}, "webhook_url"),
        ({"webhook_url": "ftp://june.bitrix24.by/rest/1/secret0123/"}, "webhook_url"),
        ({"portal": "june.bitrix24.by/crm"}, "portal"),
        ({"portal": "june..by"}, "portal"),
        ({"portal": "june.bitrix24.by", "create": "order"}, "create"),
        ({"portal": "june.bitrix24.by", "default_user": "anna"}, "default_user"),
        ({"portal": "june.bitrix24.by", "client_secret": "with a space secret0123"}, "client_secret"),
        ({"portal": "june.bitrix24.by", "task_minutes": 0}, "task_minutes"),
    ],
)
def test_what_cannot_be_right(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as raised:
        Bitrix24Settings.model_validate(fields)
    assert [error["loc"][0] for error in raised.value.errors(include_input=False, include_context=False)] == [field]
    assert "secret0123" not in str(raised.value)


def test_both_ways_at_once_are_the_webhook() -> None:
    made = Bitrix24Settings.model_validate(
        {"webhook_url": "https://a.bitrix24.by/rest/1/secret0123/", "portal": "b.bitrix24.by"}
    )
    assert made.origin == "https://a.bitrix24.by"
    assert Bitrix24Settings.model_validate({"portal": "b.bitrix24.by"}).origin == "https://b.bitrix24.by"
