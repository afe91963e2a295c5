"""Integration keys: what is one, and what follows from it."""

import pytest

from gateway.domain.ids import IntegrationKey, integration_key, kind_of, titled


@pytest.mark.parametrize(
    "text", ["telegram", "web_widget", "telegram:support", "telegram:2", "retailcrm:a-b_c", "x:" + "a" * 31]
)
def test_keys(text: str) -> None:
    assert integration_key(text) == text
    assert kind_of(IntegrationKey(text)) == text.split(":")[0]


@pytest.mark.parametrize(
    "text",
    ["", ":", "telegram:", ":support", "Telegram", "telegram:Support", "telegram:-a", "telegram:_a", "telegram:a:b",
     "telegram:a b", "telegram:ä", "telegram:" + "a" * 32, "telegram:a\n", "2gram", "telegram/a", "телеграм"],
)  # fmt: skip
def test_what_is_no_key(text: str) -> None:
    with pytest.raises(ValueError, match="KIND:NAME"):
        integration_key(text)


def test_titles() -> None:
    assert titled("Telegram", IntegrationKey("telegram")) == "Telegram"
    assert titled("Telegram", IntegrationKey("telegram:support")) == "Telegram · support"
