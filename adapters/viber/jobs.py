"""What a bot does by itself: its webhook is registered when it is switched on and looked at each hour."""

from adapters.jobs import Job, JobContext, JobResult
from adapters.viber.client import ViberClient


async def check_webhook(client: ViberClient, context: JobContext) -> JobResult | None:
    """Registers the webhook where it is not, or is another. Raises what Viber's answers come to."""
    if (url := context.hook_url) is not None:
        await client.ensure_webhook(url, context.attempt)
    return None


JOBS = (Job("webhook", 3600.0, check_webhook),)
