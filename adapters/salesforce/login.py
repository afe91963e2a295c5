"""Connecting by a person: they allow the access in Salesforce, and come back with a code. With proof of possession (PKCE).

Only for the way of signing in that wants a refresh token. Read `access.py` for what becomes of the tokens.
"""

import hashlib
import secrets
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

from adapters.base import Link
from adapters.login import LoginDone, LoginPlace, LoginStep
from adapters.salesforce import codec
from adapters.salesforce.access import TOKEN, exchange
from adapters.salesforce.refusals import REASONS
from adapters.salesforce.settings import SalesforceSettings
from gateway.domain.errors import BadSettings, Rejected


class SalesforceLogin:
    """There, and back with a code."""

    def __init__(self, link: Link, settings: SalesforceSettings, place: LoginPlace) -> None:
        self._link = link
        self._settings = settings
        self._place = place

    async def begin(self) -> LoginStep:
        """Leads to the organisation."""
        settings = self._settings
        if settings.grant != "refresh":
            raise BadSettings("signing in by a person is not chosen", person=REASONS["no_refresh"])
        verifier = secrets.token_urlsafe(48)
        challenge = urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
        query = urlencode({
            "response_type": "code", "client_id": settings.client_id, "redirect_uri": self._place.redirect_uri,
            "state": self._place.state, "scope": "api refresh_token", "code_challenge": challenge, "code_challenge_method": "S256",
        })  # fmt: skip
        base = (self._link.base_url or settings.instance_url).rstrip("/")
        title = {"en": "Allow access in Salesforce", "ru": "Разрешите доступ в Salesforce"}
        return LoginStep(
            id="allow", kind="redirect", title=title, url=f"{base}/services/oauth2/authorize?{query}", state={"verifier": verifier}
        )  # fmt: skip

    async def go_on(self, step: str, state: Mapping[str, Any], values: Mapping[str, Any]) -> LoginStep | LoginDone:
        """Trades the code."""
        code = codec.text(values.get("code"))
        if not code:
            said = codec.text(values.get("error")) or "no code"
            raise Rejected(said[:100], person=REASONS["not_allowed"])
        fresh = await exchange(
            self._link, self._settings, {}, code=code, redirect_uri=self._place.redirect_uri,
            code_verifier=str(state.get("verifier", "")),
        )  # fmt: skip
        return LoginDone(tokens={TOKEN: fresh})


@asynccontextmanager
async def open_login(link: Link, settings: SalesforceSettings, place: LoginPlace) -> AsyncIterator[SalesforceLogin]:
    """A login."""
    yield SalesforceLogin(link, settings, place)
