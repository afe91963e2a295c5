"""What an account's connection does by itself: a refresh token that nobody uses for three months ends, so a company without calls
asks for its account once a day. That trades the token, and shows early that a connection was taken back.
"""

from adapters.amocrm import requests
from adapters.amocrm.client import AmoClient
from adapters.jobs import Job, JobContext, JobResult


async def stay_connected(client: AmoClient, context: JobContext) -> JobResult | None:
    """One request in the name of the token in force. Bears a repeat."""
    await client.account.call("GET", requests.ACCOUNT, attempt=context.attempt)
    return None


JOBS = (Job("connection", 24 * 3600.0, stay_connected, first_s=24 * 3600.0),)
