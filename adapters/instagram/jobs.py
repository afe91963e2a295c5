"""What an account does by itself: its news are subscribed to when it is switched on and looked at each hour, and its token is renewed
before it ends. Where the application's webhook leads, people enter at Meta (`advice.py`)."""

from datetime import UTC, datetime

from adapters.instagram.client import InstagramClient
from adapters.jobs import Job, JobContext, JobResult
from gateway.domain.errors import BadCredentials

REFUSED = "token_refused"


async def check_subscription(client: InstagramClient, context: JobContext) -> JobResult | None:
    """Subscribes anew where Meta has ended it. Raises what Meta's answers come to, and BadSettings where Meta could not reach us. A
    token of another account is a problem: its news would come under an id that nobody waits for."""
    if context.hook_url is None:
        return None
    try:
        account = await client.account()
    except BadCredentials as error:
        return JobResult(problem=REFUSED, detail=error.detail)
    if wrong := client.judged(account):
        return JobResult(problem=wrong, detail=str(account))
    await client.ensure_subscribed(context.attempt)
    return None


async def keep_token(client: InstagramClient, context: JobContext) -> JobResult | None:
    """Says so where it has ended."""
    try:
        return await client.keep_token(datetime.now(UTC))
    except BadCredentials as error:
        return JobResult(problem=REFUSED, detail=error.detail)


JOBS = (Job("subscription", 3600.0, check_subscription), Job("token", 86_400.0, keep_token))
