"""Settings of a bot for the tests."""

from typing import Any

from adapters.viber.settings import ViberSettings


def settings(**more: Any) -> ViberSettings:
    """Of one bot whose answers come at once."""
    values = {
        "auth_token": "4453b6ac-sandbox",
        "sender_name": "June",
        "hook_id": "h" * 43,
        "read_timeout_s": 0.2,
        **more,
    }
    return ViberSettings.model_validate(values)
