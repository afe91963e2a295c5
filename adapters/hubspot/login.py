"""Connecting an account as an app: a person allows the access at HubSpot, and comes back with a code.

HubSpot sends people back to the address that stands in the app, and wants it named both times. The account's number is stored with
the connection: all that speak to one account by one app share its rate. Read `account.py` for what becomes of the tokens.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from adapters.apps import OAuthApp, oauth_app
from adapters.base import Link
from adapters.http import Answer, Http, Timeouts
from adapters.hubspot import codec
from adapters.hubspot.account import BASE, TOKEN, exchange, pair_of
from adapters.hubspot.advice import OPTIONAL_SCOPES, SCOPES
from adapters.hubspot.refusals import REASONS
from adapters.hubspot.requests import DETAILS
from adapters.hubspot.settings import HubSpotSettings
from adapters.login import LoginDone, LoginPlace, LoginStep
from adapters.tokens import FreshToken, Token
from gateway.domain.errors import GatewayError, Rejected
from gateway.domain.secret import Secret

AUTHORIZE = "https://app.hubspot.com"


class HubSpotLogin:
    """There, and back with a code."""

    def __init__(self, link: Link, settings: HubSpotSettings, app: OAuthApp, place: LoginPlace) -> None:
        self._link = link
        self._settings = settings
        self._app = app
        self._place = place

    async def begin(self) -> LoginStep:
        """Leads to HubSpot."""
        query = urlencode({
            "client_id": self._app.client_id, "redirect_uri": self._place.redirect_uri, "scope": " ".join(SCOPES),
            "optional_scope": " ".join(OPTIONAL_SCOPES), "state": self._place.state,
        })  # fmt: skip
        base = (self._link.base_url or AUTHORIZE).rstrip("/")
        title = {"en": "Allow access in HubSpot", "ru": "Разрешите доступ в HubSpot"}
        return LoginStep(id="allow", kind="redirect", title=title, url=f"{base}/oauth/authorize?{query}")

    async def go_on(self, step: str, state: Mapping[str, Any], values: Mapping[str, Any]) -> LoginStep | LoginDone:
        """Trades the code."""
        code = codec.text(values.get("code"), 1000)
        if not code:
            said = codec.text(values.get("error")) or "no code"
            raise Rejected(said[:100], person=REASONS["not_allowed"])
        fields = {"grant_type": "authorization_code", "code": code, "redirect_uri": self._place.redirect_uri}
        fresh = await exchange(self._link, self._settings, fields)
        portal_id = await self._portal_id(fresh)
        return LoginDone(settings={"portal_id": portal_id} if portal_id else {}, tokens={TOKEN: fresh})

    async def _portal_id(self, fresh: FreshToken) -> str:
        """The account's number; empty where HubSpot does not tell it now."""
        access = Secret(codec.text(pair_of(Token(fresh.value, 0)).get("access"), 4000))

        def read(answer: Answer) -> str:
            given = codec.read(
                answer.status,
                answer.raw,
                answer.headers,
                where=DETAILS,
                zone=self._link.tenant.timezone,
                now=datetime.now(UTC),
            )
            return codec.identifier(given.get("portalId"))

        try:
            async with Http.of(self._link, BASE, Timeouts.of(self._settings), [access]) as http:
                return await http.send(
                    "GET", DETAILS, headers={"authorization": f"Bearer {access.reveal()}"}, read=read
                )
        except GatewayError:
            return ""


@asynccontextmanager
async def open_login(link: Link, settings: HubSpotSettings, place: LoginPlace) -> AsyncIterator[HubSpotLogin]:
    """A login."""
    yield HubSpotLogin(link, settings, oauth_app(link.app, settings.client_id, settings.client_secret), place)
