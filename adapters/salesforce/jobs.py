"""What an organisation's connection does by itself: looks how much of the day's requests is left, before it is out."""

from adapters.jobs import Job, JobContext, JobResult
from adapters.salesforce import codec, requests
from adapters.salesforce.client import QUOTA_LOW, SalesforceClient
from adapters.salesforce.tested import quota_of

AGAIN_S = 900.0
"""Once little is left."""


async def look_at_quota(client: SalesforceClient, context: JobContext) -> JobResult | None:
    """Says so where little is left. Bears a repeat."""
    answer = await client.org.call("GET", requests.LIMITS, thing="limits", attempt=context.attempt)
    usage = quota_of(answer) or client.org.usage or codec.Usage(0, 0)
    return JobResult(after_s=AGAIN_S, problem=QUOTA_LOW, detail=str(usage)) if usage.is_low else None


JOBS = (Job("quota", 3600.0, look_at_quota, first_s=30.0),)
