"""The conversation with Ledger, small enough for one file: codec, client, login and job."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

from adapters.apps import OAuthApp, oauth_app
from adapters.base import Attempt, Delivered, Draft, Link
from adapters.http import Answer, Http, Timeouts
from adapters.jobs import Job, JobContext
from adapters.login import LoginDone, LoginPlace, LoginStep
from adapters.tokens import FreshToken, Token, with_token
from gateway.domain.calls import Call
from gateway.domain.configuration import Tenant
from gateway.domain.errors import BadCredentials, Rejected, Unavailable
from gateway.domain.events import CallEnded, CallEvent
from gateway.domain.secret import Secret
from ledger.settings import LedgerSettings

TIMES = Timeouts(connect_s=3.0, read_s=5.0, whole_s=10.0)
TOKEN = "oauth"


def plan(
    settings: LedgerSettings, tenant: Tenant, before: Call | None, call: Call, event: CallEvent
) -> Sequence[Draft]:
    """A record of each call that was with a client."""
    if not isinstance(event, CallEnded) or event.direction == "internal":
        return ()
    phone = call.caller if event.direction == "incoming" else call.called
    return (
        Draft(
            kind="call", key=f"{call.call_id}:call", body={"phone": phone, "result": event.result, "as": settings.makes}
        ),
    )


def _read(answer: Answer) -> Any:
    """The JSON of an answer, or one of our errors."""
    if answer.status == 401:
        raise BadCredentials("the token is refused")
    if answer.status >= 500:
        raise Unavailable(f"status {answer.status}")
    if answer.status not in (200, 201):
        raise Rejected(f"status {answer.status}")
    return json.loads(answer.text)


def _fresh(answer: Answer) -> FreshToken:
    given = _read(answer)
    pair = {"access": given["access_token"], "refresh": given["refresh_token"]}
    return FreshToken(Secret(json.dumps(pair)), float(given["expires_in"]))


def app_of(link: Link, settings: LedgerSettings) -> OAuthApp:
    """The integration's own application, else the installation's. Raises BadSettings."""
    return oauth_app(link.app, settings.client_id, settings.client_secret)


def _hidden(link: Link, settings: LedgerSettings) -> list[Secret]:
    own = [settings.client_secret] if settings.client_secret is not None else []
    return [*own, link.app.client_secret] if isinstance(link.app, OAuthApp) else own


class LedgerClient:
    """One account's."""

    def __init__(self, http: Http, link: Link, settings: LedgerSettings) -> None:
        self._http = http
        self._link = link
        self._settings = settings

    async def _exchange(self, token: Token) -> FreshToken:
        app = app_of(self._link, self._settings)
        form = {
            "grant_type": "refresh_token", "refresh_token": json.loads(token.value.reveal())["refresh"],
            "client_id": app.client_id, "client_secret": app.client_secret.reveal(),
        }  # fmt: skip
        return await self._http.exchange("POST", "/oauth/token", read=_fresh, form=form)

    async def call(self, method: str, path: str, payload: Any = None, attempt: Attempt | None = None) -> Any:
        """One request with the token in force; a refused one is traded and the request made once more."""

        async def once(token: Token) -> Any:
            access = json.loads(token.value.reveal())["access"]
            more = {"payload": payload} if payload is not None else {}
            return await self._http.send(
                method,
                path,
                headers={"authorization": f"Bearer {access}"},
                read=_read,
                attempt=attempt,
                hide=[access],
                **more,
            )

        return await with_token(self._link.tokens, TOKEN, self._exchange, once)

    async def deliver(self, attempt: Attempt) -> Delivered:
        """Find the client, make one where there is none, then log the call with it: midway killed, nothing is made twice."""
        phone = str(attempt.body["phone"])
        client = await attempt.known("client")
        if client is None:
            found = await self.call("GET", f"/clients?{urlencode({'phone': phone})}", attempt=attempt)
            made = found[0] if found else await self.call("POST", "/clients", {"phone": phone}, attempt)
            client = str(made["id"])
            await attempt.remember("client", client)
        body = {"key": attempt.key, "client": client, "result": attempt.body["result"], "as": attempt.body["as"]}
        logged = await self.call("POST", "/calls", body, attempt)
        return Delivered(reference=str(logged["id"]))


async def read_stages(client: LedgerClient, context: JobContext) -> None:
    """Reads the stages of the account."""
    await client.call("GET", "/stages")


JOBS = (Job("stages", 3600.0, read_stages),)


class LedgerLogin:
    """OAuth: there, and back with a code."""

    def __init__(self, http: Http, app: OAuthApp, place: LoginPlace, base: str) -> None:
        self._http = http
        self._app = app
        self._place = place
        self._base = base

    async def begin(self) -> LoginStep:
        """Leads to the provider."""
        query = {
            "client_id": self._app.client_id,
            "redirect_uri": self._place.redirect_uri,
            "state": self._place.state,
        }
        title = {"en": "Allow access in Ledger", "ru": "Разрешите доступ в Ledger"}
        return LoginStep(
            id="allow", kind="redirect", title=title, url=f"{self._base}/oauth/authorize?{urlencode(query)}"
        )

    async def go_on(self, step: str, state: Mapping[str, Any], values: Mapping[str, Any]) -> LoginStep | LoginDone:
        """Trades the code."""
        if "code" not in values:
            raise Rejected(str(values.get("error", "no code"))[:100], person="Ledger did not allow the access.")
        form = {
            "grant_type": "authorization_code", "code": values["code"], "redirect_uri": self._place.redirect_uri,
            "client_id": self._app.client_id, "client_secret": self._app.client_secret.reveal(),
        }  # fmt: skip
        return LoginDone(tokens={TOKEN: await self._http.exchange("POST", "/oauth/token", read=_fresh, form=form)})


@asynccontextmanager
async def connect(link: Link, settings: LedgerSettings) -> AsyncIterator[LedgerClient]:
    """A client of one account. Opens nothing before first use."""
    async with Http.of(link, settings.address, TIMES, _hidden(link, settings)) as http:
        yield LedgerClient(http, link, settings)


@asynccontextmanager
async def open_login(link: Link, settings: LedgerSettings, place: LoginPlace) -> AsyncIterator[LedgerLogin]:
    """A login."""
    app = app_of(link, settings)
    async with Http.of(link, settings.address, TIMES, [app.client_secret]) as http:
        yield LedgerLogin(http, app, place, link.base_url or settings.address)
