"""Connecting an account as an application: a person allows the access there, and comes back with a code that lives 20 minutes.

The account that was chosen comes back as `referer`. It has to be the one that is entered here: a token of another account would
be given to whoever entered this one. The redirect address is stored beside the tokens, because every refresh has to repeat it.
Read `account.py` for what becomes of the tokens.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

from adapters.amocrm import codec
from adapters.amocrm.account import TOKEN, exchange
from adapters.amocrm.refusals import REASONS
from adapters.amocrm.settings import DOMAINS, AmoSettings, is_account_host
from adapters.apps import OAuthApp, oauth_app
from adapters.base import Link
from adapters.login import LoginDone, LoginPlace, LoginStep
from gateway.domain.errors import Rejected


class AmoLogin:
    """There, and back with a code."""

    def __init__(self, link: Link, settings: AmoSettings, app: OAuthApp, place: LoginPlace) -> None:
        self._link = link
        self._settings = settings
        self._app = app
        self._place = place

    async def begin(self) -> LoginStep:
        """Leads to the provider."""
        query = urlencode({"client_id": self._app.client_id, "state": self._place.state, "mode": "popup"})
        domain = next(one for one in DOMAINS if self._settings.host.endswith(f".{one}"))
        base = (self._link.base_url or f"https://www.{domain}").rstrip("/")
        title = {"en": "Allow access in amoCRM", "ru": "Разрешите доступ в amoCRM"}
        return LoginStep(id="allow", kind="redirect", title=title, url=f"{base}/oauth?{query}")

    async def go_on(self, step: str, state: Mapping[str, Any], values: Mapping[str, Any]) -> LoginStep | LoginDone:
        """Trades the code."""
        code = str(values.get("code") or "")[:4000]
        if not code:
            said = codec.text(values.get("error")) or "no code"
            raise Rejected(said[:100], person=REASONS["not_allowed"])
        host = codec.text(values.get("referer")).lower().rstrip(".")
        if host and host != self._settings.host:
            raise Rejected("another account allowed the access", person=REASONS["other_account"])
        known = {"redirect_uri": self._place.redirect_uri, **({"host": host} if is_account_host(host) else {})}
        fields = {"grant_type": "authorization_code", "code": code}
        fresh = await exchange(self._link, self._settings, self._settings.origin, fields, known)
        return LoginDone(tokens={TOKEN: fresh})


@asynccontextmanager
async def open_login(link: Link, settings: AmoSettings, place: LoginPlace) -> AsyncIterator[AmoLogin]:
    """A login."""
    yield AmoLogin(link, settings, oauth_app(link.app, settings.client_id, settings.client_secret), place)
