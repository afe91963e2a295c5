"""What of the settings is valid, in whose words it is refused, and that both names have every text."""

from typing import Any

import pytest
from pydantic import ValidationError

from adapters.folder import read_folder
from adapters.iiko import ADAPTER as IIKO
from adapters.iiko.settings import IikoSettings
from adapters.syrve import ADAPTER as SYRVE
from adapters.syrve.settings import SyrveSettings
from adapters.till.advice import advice
from adapters.till.refusals import REASONS
from gateway.domain.secret import Secret
from tests.sandbox.iiko import ORGANIZATION, TERMINAL_GROUP, Iiko

KEY = {"api_key": Iiko.API_KEY, "app_id": Iiko.APP_ID, "client_secret": Iiko.CLIENT_SECRET}


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({}, "api_login"), ({"api_login": "  "}, "api_login"), ({"api_login": "два слова"}, "api_login"), ({**KEY, "app_id": ""}, "app_id"),
        ({**KEY, "client_secret": None}, "client_secret"), ({"app_id": Iiko.APP_ID}, "api_key"), ({**KEY, "app_id": "my-app"}, "app_id"),
        ({"api_login": "x", "organization_id": "Кафе"}, "organization_id"), ({"api_login": "x", "terminal_group_id": TERMINAL_GROUP}, "organization_id"),
        ({"api_login": "x", "url": "ftp://x"}, "url"), ({"api_login": "x", "url": "https://x.example/api"}, "url"),
        ({"api_login": "x", "url": "https://x:99999"}, "url"), ({"api_login": "x", "attention": "loud"}, "attention"),
        ({"api_login": "x", "token_minutes": 1}, "token_minutes"), ({"api_login": "x", "source_key": "a b"}, "source_key"),
        ({"api_login": "x", "mapping": [{"when": "call", "to": "x", "from": "call.result"}]}, "mapping"),
    ],
)  # fmt: skip
def test_what_is_refused_names_its_field(values: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as refused:
        IikoSettings.model_validate(values)
    (error, *_) = refused.value.errors()
    assert error["loc"][0] == field
    assert "secret-01" not in str(refused.value)


def test_ids_and_hosts() -> None:
    made = IikoSettings.model_validate({"api_login": " x ", "organization_id": f" {ORGANIZATION.upper()} "})
    assert (made.organization_id, made.origin, made.api_login) == (
        ORGANIZATION,
        "https://api-ru.iiko.services",
        Secret("x"),
    )
    assert IIKO.missing(made, None) == ""
    bare = SyrveSettings.model_validate({**KEY, "api_login": ""})
    assert (bare.origin, SYRVE.missing(bare, None)) == ("https://api-eu.syrve.live", "no_organization")
    older = SyrveSettings.model_validate({"api_login": "x", "url": "api-eu.iiko.services/"})
    assert older.origin == "https://api-eu.iiko.services"
    assert IIKO.account(made) != SYRVE.account(bare)


@pytest.mark.parametrize("adapter", [IIKO, SYRVE])
def test_every_reason_stands_in_both_languages(adapter: Any) -> None:
    texts = read_folder(adapter.package).texts
    for language in ("en", "ru"):
        found = {
            key.removeprefix("reason."): text for key, text in texts[language].items() if key.startswith("reason.")
        }
        assert found.keys() == REASONS.keys()
        if language == "en":
            assert found == REASONS
    assert adapter.title in str(texts["ru"]["about"])


def test_advice_has_no_secret() -> None:
    for given in (None, IikoSettings.model_validate({"api_login": "login-0123456789", "set_webhook": False})):
        for one in advice(given):
            assert set(one.title) == set(one.text) == {"en", "ru"}
            assert "login-0123456789" not in f"{one}"
