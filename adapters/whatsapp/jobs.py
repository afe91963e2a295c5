"""What a number does by itself: keeps the account's webhooks coming, and looks at its token and its standing at Meta."""

from adapters.jobs import Job, JobContext, JobResult
from adapters.whatsapp.client import WhatsappClient


async def check_webhook(client: WhatsappClient, context: JobContext) -> JobResult | None:
    """Subscribes the application to the account where it is not any more. A problem: what a person has to enter at Meta."""
    return await client.ensure_subscribed()


async def check_number(client: WhatsappClient, context: JobContext) -> JobResult | None:
    """The most pressing problem: of the token, then of the number."""
    return await client.check_token() or await client.check_number()


JOBS = (Job("webhook", 3600.0, check_webhook), Job("number", 6 * 3600.0, check_number))
