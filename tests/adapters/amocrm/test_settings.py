"""What makes an account's settings valid, in words that name the field and show no secret."""

from typing import Any

import pytest
from pydantic import ValidationError

from adapters.amocrm.settings import AmoSettings


@pytest.mark.parametrize(
    ("entered", "host"),
    [
        ("june", "june.amocrm.ru"),
        (" June.amocrm.ru ", "june.amocrm.ru"),
        ("https://june.kommo.com/", "june.kommo.com"),
        ("june.amocrm.com", "june.amocrm.com"),
        ("api-a.june.amocrm.ru", "api-a.june.amocrm.ru"),
    ],
)
def test_an_account(entered: str, host: str) -> None:
    made = AmoSettings.model_validate({"subdomain": entered, "access_token": " token0123456789 "})
    assert (made.host, made.origin) == (host, f"https://{host}")
    assert AmoSettings.model_validate({"subdomain": made.subdomain}).host == host
    assert made.access_token is not None
    assert made.access_token.reveal() == "token0123456789"
    assert "token0123456789" not in repr(made) + made.model_dump_json()


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "subdomain"),
        ({"subdomain": ""}, "subdomain"),
        ({"subdomain": "june.example"}, "subdomain"),
        ({"subdomain": "127.0.0.1"}, "subdomain"),
        ({"subdomain": "june.amocrm.ru.evil.example"}, "subdomain"),
        ({"subdomain": "june.amocrm.ru/api"}, "subdomain"),
        ({"subdomain": "user@june.amocrm.ru"}, "subdomain"),
        ({"subdomain": "http://june.amocrm.ru"}, "subdomain"),
        ({"subdomain": "amocrm.ru"}, "subdomain"),
        ({"subdomain": "june", "access_token": "with a space token0123456789"}, "access_token"),
        ({"subdomain": "june", "client_secret": "ключ token0123456789"}, "client_secret"),
        ({"subdomain": "june", "create": "deal"}, "create"),
        ({"subdomain": "june", "default_user": "anna"}, "default_user"),
        ({"subdomain": "june", "pipeline_id": "-1"}, "pipeline_id"),
        ({"subdomain": "june", "source": "<b>"}, "source"),
        ({"subdomain": "june", "task_minutes": 0}, "task_minutes"),
    ],
)
def test_what_cannot_be_right(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as raised:
        AmoSettings.model_validate(fields)
    assert [error["loc"][0] for error in raised.value.errors(include_input=False, include_context=False)] == [field]
    assert "token0123456789" not in str(raised.value)
