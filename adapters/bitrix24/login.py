"""Connecting a portal as an application: a person allows the access there, and comes back with a code that lives 30 seconds.

The portal sends people back to the address that stands in the application; ours is shown on the integration's page. Read
`portal.py` for what becomes of the tokens.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

from adapters.apps import OAuthApp, oauth_app
from adapters.base import Link
from adapters.bitrix24 import codec
from adapters.bitrix24.portal import TOKEN, exchange
from adapters.bitrix24.refusals import REASONS
from adapters.bitrix24.settings import Bitrix24Settings
from adapters.login import LoginDone, LoginPlace, LoginStep
from gateway.domain.errors import BadSettings, Rejected


class Bitrix24Login:
    """There, and back with a code."""

    def __init__(self, link: Link, settings: Bitrix24Settings, app: OAuthApp, place: LoginPlace) -> None:
        self._link = link
        self._settings = settings
        self._app = app
        self._place = place

    async def begin(self) -> LoginStep:
        """Leads to the portal."""
        if not self._settings.portal:
            raise BadSettings("no portal", person=REASONS["no_portal"])
        query = urlencode({"client_id": self._app.client_id, "state": self._place.state})
        base = (self._link.base_url or self._settings.portal).rstrip("/")
        title = {"en": "Allow access in Bitrix24", "ru": "Разрешите доступ в Битрикс24"}
        return LoginStep(id="allow", kind="redirect", title=title, url=f"{base}/oauth/authorize/?{query}")

    async def go_on(self, step: str, state: Mapping[str, Any], values: Mapping[str, Any]) -> LoginStep | LoginDone:
        """Trades the code."""
        code = codec.text(values.get("code"))
        if not code:
            said = codec.text(values.get("error")) or "no code"
            raise Rejected(said[:100], person=REASONS["not_allowed"])
        fields = {"grant_type": "authorization_code", "code": code}
        return LoginDone(tokens={TOKEN: await exchange(self._link, self._settings, fields, {})})


@asynccontextmanager
async def open_login(link: Link, settings: Bitrix24Settings, place: LoginPlace) -> AsyncIterator[Bitrix24Login]:
    """A login."""
    yield Bitrix24Login(link, settings, oauth_app(link.app, settings.client_id, settings.client_secret), place)
