"""Requests to RetailCRM: one for a delivery, for the connection test, and for each look-up.

Owns the API key's header. Never builds a request or classifies an answer (`codec.py`, `modules.py`), never repeats
one (`actors/delivery/worker.py`, `actors/crm/registration.py`), never connects itself (`adapters/http/`).
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from adapters.abilities import (
    CrmField,
    CrmUser,
    HeldExtensions,
    Registration,
    RegistrationPlace,
    Responsible,
    UserStatus,
)
from adapters.base import Attempt, Delivered, Link, Recordings, Tested
from adapters.http import Answer, Http, Timeouts
from adapters.retailcrm import codec, modules
from adapters.retailcrm.settings import RetailcrmSettings
from adapters.retailcrm.syncing import KINDS, Syncing
from gateway.domain.configuration import Tenant
from gateway.domain.crm_sources import When
from gateway.domain.errors import GatewayError
from gateway.domain.secret import Secret


class RetailcrmClient:
    """Notifies one account of calls; reads and updates its users."""

    def __init__(
        self, http: Http, tenant: Tenant, settings: RetailcrmSettings, recordings: Recordings | None = None
    ) -> None:
        self._http = http
        self._tenant = tenant
        self._settings = settings
        self._syncing = Syncing(http, tenant, settings, recordings)

    async def deliver(self, attempt: Attempt) -> Delivered:
        """One attempt at one delivery. Only an answer counts; the deadline is the caller's. Where RetailCRM does not know an
        internal number that our map gives to a user, that user is shown the call by their id."""
        if attempt.kind in KINDS:
            return await self._syncing.deliver(attempt)
        delivered = await self._send(attempt)
        named = codec.by_user_ids(attempt, delivered)
        if named is None:
            return delivered
        event, unknown = named
        try:
            return codec.shown_to_users(await self._send(attempt, event), unknown)
        except GatewayError:
            return delivered  # it has arrived; a repeat would bring all of it again

    async def _send(self, attempt: Attempt, event: Mapping[str, Any] | None = None) -> Delivered:
        path, form = codec.request(self._settings, attempt, event)
        return await self._http.send(
            "POST", path, headers=self._key(), form=form, attempt=attempt,
            read=lambda answer: codec.read_delivered(
                answer.status, answer.text, attempt, answer.headers.get("retry-after")
            ),
        )  # fmt: skip

    async def test(self) -> Tested:
        """Whether address and key are right, in words."""
        try:
            return await self._http.send(
                "GET", codec.CREDENTIALS_PATH, headers=self._key(),
                read=lambda answer: codec.read_tested(answer.status, answer.text),
            )  # fmt: skip
        except GatewayError as error:
            return codec.failed_test(error)

    async def users(self) -> Sequence[CrmUser]:
        """All users, the inactive too, page by page."""
        found: list[CrmUser] = []
        page = 1

        def read(answer: Answer) -> modules.UsersPage:
            return modules.read_users(answer.status, answer.text, page)

        while True:
            part = await self._http.send("GET", modules.users_path(page), headers=self._key(), read=read)
            found += part.users
            if part.last:
                return tuple({user.user_id: user for user in found}.values())
            page += 1

    async def fields(self) -> Mapping[When, Sequence[CrmField]]:
        """The fields of customers and orders, with the values of lists."""
        return await self._syncing.fields()

    async def registration(self, *, attempt: Attempt | None = None) -> Registration | None:
        """Our module as the account holds it."""
        path = modules.module_path(self._settings)
        return await self._http.send(
            "GET", path, headers=self._key(), attempt=attempt,
            read=lambda answer: modules.read_module(answer.status, answer.text),
        )  # fmt: skip

    async def extensions(self, *, attempt: Attempt | None = None) -> HeldExtensions | None:
        """The codes of our module."""
        module = await self.registration(attempt=attempt)
        return module.held if module is not None else None

    async def register(
        self, place: RegistrationPlace, extensions: Mapping[str, str], *, attempt: Attempt | None = None
    ) -> Registration:
        """Makes or updates our module, whole."""
        return Registration(active=True, held=await self.save_extensions(place, extensions, attempt=attempt))

    async def save_extensions(
        self, place: RegistrationPlace, extensions: Mapping[str, str], *, attempt: Attempt | None = None
    ) -> HeldExtensions:
        """The codes go with the whole of our module."""
        return await self._edit(place, extensions, active=True, freeze=False, attempt=attempt)

    async def deactivate(
        self,
        place: RegistrationPlace,
        extensions: Mapping[str, str],
        *,
        delete: bool = False,
        attempt: Attempt | None = None,
    ) -> None:
        """Switches our module off, `delete` freezes it: the API cannot take one away. Reads first, because an edit of a
        module that is not there would make it."""
        if await self.registration(attempt=attempt) is not None:
            await self._edit(place, extensions, active=False, freeze=delete, attempt=attempt)

    async def _edit(
        self,
        place: RegistrationPlace,
        extensions: Mapping[str, str],
        *,
        active: bool,
        freeze: bool,
        attempt: Attempt | None,
    ) -> HeldExtensions:
        form = modules.edit_form(self._settings, place, extensions, active=active, freeze=freeze)
        # The token alone too: an answer may quote the link in a spelling of its own.
        link = place.account_url.reveal()
        hide = [place.account_url, *(Secret(v) for k, v in parse_qsl(urlsplit(link).query) if k == "token")]
        path = modules.edit_path(self._settings)
        return await self._http.send(
            "POST", path, headers=self._key(), form=form, attempt=attempt, hide=hide,
            read=lambda answer: modules.read_edited(answer.status, answer.text, extensions),
        )  # fmt: skip

    async def responsible(self, phone: str) -> Responsible | None:
        """Who is responsible for a number, as RetailCRM has it now."""
        path = modules.manager_path(phone, any_status=self._settings.responsible_any_status)
        return await self._http.send(
            "GET", path, headers=self._key(), bucket=codec.BUCKET,
            read=lambda answer: modules.read_responsible(answer.status, answer.text),
        )  # fmt: skip

    @staticmethod
    def statuses() -> Sequence[UserStatus]:
        """RetailCRM's words."""
        return modules.STATUSES

    async def set_status(self, user_id: str, status: str, *, attempt: Attempt | None = None) -> None:
        """Reports that a user is free, busy or away."""
        path = modules.status_path(user_id)
        await self._http.send(
            "POST", path, headers=self._key(), form={"status": status}, attempt=attempt,
            read=lambda answer: codec.read_answer(answer.status, answer.text),
        )  # fmt: skip

    def _key(self) -> dict[str, str]:
        return {"x-api-key": self._settings.api_key.reveal()}


@asynccontextmanager
async def connect(link: Link, settings: RetailcrmSettings) -> AsyncIterator[RetailcrmClient]:
    """A client of one tenant's account. Opens nothing before first use."""
    secrets = settings.api_key, settings.client_id
    async with Http.of(link, settings.domain, Timeouts.of(settings), secrets) as http:
        yield RetailcrmClient(http, link.tenant, settings, link.recordings)
