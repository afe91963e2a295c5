"""The conversation with RetailCRM: one request per delivery, and one for the connection test.

Owns the key's way into the header. Never words a request or judges an answer (`codec.py`), never repeats one
(`actors/delivery.py`), never connects itself (`adapters/http.py`).
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from adapters.base import Attempt, Delivered, Link, Tested
from adapters.http import Http, Timeouts
from adapters.retailcrm import codec
from adapters.retailcrm.settings import RetailcrmSettings
from gateway.domain.configuration import Tenant
from gateway.domain.errors import GatewayError


class RetailcrmClient:
    """Tells one account of calls."""

    def __init__(self, http: Http, tenant: Tenant, settings: RetailcrmSettings) -> None:
        self._http = http
        self._tenant = tenant
        self._settings = settings

    async def deliver(self, attempt: Attempt) -> Delivered:
        """One attempt at one delivery. Only an answer counts; the deadline is the caller's."""
        path, form = codec.request(self._settings, attempt)
        answer = await self._http.send("POST", path, headers=self._key(), form=form, attempt=attempt)
        return codec.read_delivered(answer.status, answer.text, attempt)

    async def test(self) -> Tested:
        """Whether address and key are right, in words."""
        try:
            answer = await self._http.send("GET", codec.CREDENTIALS_PATH, headers=self._key())
            return codec.read_tested(self._tenant, answer.status, answer.text)
        except GatewayError as error:
            return codec.failed_test(self._tenant, error)

    def _key(self) -> dict[str, str]:
        return {"x-api-key": self._settings.api_key.reveal()}


@asynccontextmanager
async def connect(link: Link, settings: RetailcrmSettings) -> AsyncIterator[RetailcrmClient]:
    """A client of one tenant's account. Opens nothing before first use."""
    async with Http(
        link.base_url or settings.domain,
        dial=link.dial if link.base_url is None else None,
        timeouts=Timeouts(
            connect_s=settings.connect_timeout_s, read_s=settings.read_timeout_s, whole_s=settings.request_timeout_s
        ),
        secrets=(settings.api_key, settings.client_id),
    ) as http:
        yield RetailcrmClient(http, link.tenant, settings)
