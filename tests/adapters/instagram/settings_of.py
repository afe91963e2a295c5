"""The account of the tests."""

from typing import Any

from adapters.instagram.settings import InstagramSettings

ACCOUNT, SECRET, VERIFY = "17841400008460056", "s" * 32, "a-long-random-text"


def settings(**more: Any) -> InstagramSettings:
    """Valid settings; the token is the sandbox's."""
    return InstagramSettings.model_validate(
        {
            "page_id": ACCOUNT, "access_token": "IGAA-sandbox", "app_secret": SECRET, "webhook_verify_token": VERIFY,
            "hook_id": "h" * 43, **more,
        }
    )  # fmt: skip
