"""What an account's connection does by itself: properties of ours are made before the first call needs them, and what is there is
read. Where the app may make none, nothing is wrong: repeats are recognised the slower way (`schema.py`).
"""

from adapters.hubspot.client import HubSpotClient
from adapters.jobs import Job, JobContext, JobResult


async def prepare(client: HubSpotClient, context: JobContext) -> JobResult | None:
    """Makes what is missing. Bears a repeat."""
    client.schema.forget()
    await client.schema.current(context.attempt)
    return None


JOBS = (Job("properties", 24 * 3600.0, prepare, first_s=5.0),)
