"""What a bot does by itself: its webhook is registered when it is switched on and looked at each hour.

A bot that polls, or takes no messages, has none: `client.py` takes a webhook away before it polls.
"""

from adapters.jobs import Job, JobContext, JobResult
from adapters.telegram.client import TelegramClient
from adapters.telegram.settings import TelegramSettings


async def check_webhook(client: TelegramClient, context: JobContext) -> JobResult | None:
    """Registers the webhook where it is not, or is another. Raises what the Bot API's answers come to."""
    settings: TelegramSettings = context.settings
    if not settings.chat or settings.updates != "webhook" or (url := context.hook_url) is None:
        return None
    await client.ensure_webhook(url.reveal())
    return None


JOBS = (Job("webhook", 3600.0, check_webhook),)
