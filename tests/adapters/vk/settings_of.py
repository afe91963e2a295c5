"""Settings of a community for the tests."""

from typing import Any

from adapters.vk.settings import VkSettings

GROUP = 123456789


def settings(**more: Any) -> VkSettings:
    """Of one community whose answers come at once."""
    values = {
        "group_id": str(GROUP), "access_token": "vk1.a.sandbox", "secret": "s3cr3t", "hook_id": "h" * 43, "updates": "callback",
        "read_timeout_s": 0.2, **more,
    }  # fmt: skip
    return VkSettings.model_validate(values)
