"""The conversation with Pigeon: notes in a room, the poll for letters, and the login by phone and code."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from adapters.base import Attempt, Delivered, Link, Tested
from adapters.http import Http, Timeouts
from adapters.inbound import UpdateSink
from adapters.login import LoginDone, LoginPlace, LoginStep
from gateway.domain.errors import BadCredentials, GatewayError, Rejected, Unavailable
from pigeon import codec
from pigeon.settings import PigeonSettings

TIMES = Timeouts(connect_s=3.0, read_s=10.0, whole_s=15.0)


class PigeonClient:
    """One account's."""

    def __init__(self, http: Http, settings: PigeonSettings) -> None:
        self._http = http
        self._settings = settings

    async def _call(self, method: str, path: str, payload: Any = None, attempt: Attempt | None = None) -> Any:
        if self._settings.token is None:
            raise BadCredentials("nobody has signed in yet")
        headers = {"authorization": f"Bearer {self._settings.token.reveal()}"}
        more = {"payload": payload} if payload is not None else {}
        answer = await self._http.send(method, path, headers=headers, attempt=attempt, **more)
        if answer.status == 401:
            raise BadCredentials("the token is refused")
        if answer.status >= 500:
            raise Unavailable(f"status {answer.status}")
        if answer.status != 200:
            raise Rejected(f"status {answer.status}")
        return json.loads(answer.text)

    async def deliver(self, attempt: Attempt) -> Delivered:
        """One note."""
        made = await self._call("POST", "/notes", dict(attempt.body), attempt)
        return Delivered(reference=str(made["id"]))

    async def run(self, sink: UpdateSink) -> None:
        """Reads letters for as long as the session lives."""
        after = 0
        while True:
            sent = await self._call("GET", f"/letters?after={after}")
            await sink.received(codec.letters(sent))
            after = max([after, *(one["number"] for one in sent)])

    async def test(self) -> Tested:
        """Whether the token is taken."""
        try:
            return Tested(True, "ok", str((await self._call("GET", "/me"))["name"]))
        except GatewayError as error:
            return Tested(False, "rejected", error.person)


class PigeonLogin:
    """Phone, then code, then a token in the settings."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def begin(self) -> LoginStep:
        """Asks for the phone."""
        return LoginStep(id="phone", kind="fields", title={"en": "Whose account is it?", "ru": "Чей это аккаунт?"})

    async def go_on(self, step: str, state: Mapping[str, Any], values: Mapping[str, Any]) -> LoginStep | LoginDone:
        """The code after the phone, the token after the code."""
        title = {"en": "Enter the code", "ru": "Введите код"}
        if step == "phone":
            sent = await self._http.exchange("POST", "/login", read=_read, payload={"phone": values["phone"]})
            return LoginStep(id="code", kind="code", title=title, state={"ticket": sent["ticket"]})
        asked = {"ticket": state["ticket"], "code": values["code"].reveal()}
        given = await self._http.exchange("POST", "/login/code", read=_read, payload=asked)
        if "token" not in given:
            problem = {"en": "That is not the code.", "ru": "Это не тот код."}
            return LoginStep(id="code", kind="code", title=title, state=state, problem=problem)
        return LoginDone(settings={"token": given["token"]})


def _read(answer: Any) -> dict[str, Any]:
    if answer.status not in (200, 403):
        raise Unavailable(f"status {answer.status}")
    found: dict[str, Any] = json.loads(answer.text)
    return found


@asynccontextmanager
async def connect(link: Link, settings: PigeonSettings) -> AsyncIterator[PigeonClient]:
    """A client of one account. Opens nothing before first use."""
    secrets = [one for one in (settings.token, settings.signing_key) if one is not None]
    async with Http.of(link, settings.address, TIMES, secrets) as http:
        yield PigeonClient(http, settings)


@asynccontextmanager
async def open_login(link: Link, settings: PigeonSettings, place: LoginPlace) -> AsyncIterator[PigeonLogin]:
    """A login."""
    async with Http.of(link, settings.address, TIMES) as http:
        yield PigeonLogin(http)
