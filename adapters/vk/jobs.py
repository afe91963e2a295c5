"""What a community does by itself: its callback server is added when it is switched on and looked at each hour; where the gateway
polls, one from before is taken away, so that nothing comes twice."""

from contextlib import suppress

from adapters.jobs import Job, JobContext, JobResult
from adapters.vk import callback_server
from adapters.vk.client import VkClient
from adapters.vk.settings import VkSettings
from gateway.domain.errors import BadSettings, Rejected

CONFIRMING_S = 60.0
"""Seconds until the next look while VK has yet to confirm our address."""


async def check_webhook(client: VkClient, context: JobContext) -> JobResult | None:
    """Raises what VK's answers come to."""
    settings: VkSettings = context.settings
    if settings.updates == "longpoll":
        with suppress(BadSettings, Rejected):  # a token that may not manage the community has added none either
            await callback_server.remove(client, context.attempt)
        return None
    if (url := context.hook_url) is None:
        return None
    confirmed = await callback_server.ensure(client, url, context.attempt)
    return None if confirmed else JobResult(after_s=CONFIRMING_S)


JOBS = (Job("webhook", 3600.0, check_webhook),)
