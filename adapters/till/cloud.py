"""One account over HTTP: where it is, with which token, how fast.

    path -> the group's budget -> POST with the token in force -> read
                                     +--> 401: the token is bought anew once, and the request sent once more

Every request is a POST of JSON, reads too. The token is bought with the login, or with the application's key and secret, and shared by
deliveries, jobs and instances. Never builds a request's body but the login's (`orders.py`, `guests.py`), never judges an answer (`codec.py`).
"""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

import trio

from adapters.base import Attempt, Link
from adapters.budget import account_key
from adapters.http import Answer, Http, Timeouts
from adapters.session_tokens import SessionToken
from adapters.till import codec
from adapters.till.refusals import REASONS
from adapters.till.settings import TillSettings
from gateway.domain.errors import BadCredentials, BadSettings, Unavailable
from gateway.domain.secret import Secret

TOKEN = "session"  # noqa: S105 - the name under which the token is stored
MENU_LIMIT = 24 << 20
"""Bytes of a menu at most."""
MENU_WITHIN_S = 45.0
MENU_IN_THREAD = 1 << 18
"""Bytes from which an answer is read in a thread."""


class Cloud:
    """One account. Opens nothing before first use."""

    def __init__(self, link: Link, settings: TillSettings, stack: AsyncExitStack) -> None:
        self._link = link
        self._settings = settings
        self._stack = stack
        self._http: Http | None = None
        key = account_key(settings.origin, *(settings.key or (settings.api_login or "",)))
        self._token = SessionToken(link.tokens, TOKEN, key, self._buy)

    async def call(
        self, path: str, body: Mapping[str, Any], group: str, *, attempt: Attempt | None = None
    ) -> Mapping[str, Any]:
        """The answer to a request of a restriction group. Raises what `gateway.domain.errors` lists."""
        answer = await self._sent(path, body, group, attempt, None, 1 << 20)
        return self._read(answer, group)

    async def big(self, path: str, body: Mapping[str, Any], group: str) -> Mapping[str, Any]:
        """The same for an answer of megabytes, which takes its time and is not written down."""
        answer = await self._sent(path, body, group, None, MENU_WITHIN_S, MENU_LIMIT)
        if answer.cut:
            raise BadSettings(f"the menu has more than {MENU_LIMIT >> 20} MiB")
        if len(answer.raw) < MENU_IN_THREAD:
            return self._read(answer, group)
        return await trio.to_thread.run_sync(self._read, answer, group)

    def _read(self, answer: Answer, group: str) -> Mapping[str, Any]:
        return codec.read(answer.status, answer.raw, group, self._settings.pause_s)

    async def _sent(
        self, path: str, body: Mapping[str, Any], group: str, attempt: Attempt | None, within_s: float | None, limit: int
    ) -> Answer:  # fmt: skip
        http = await self._client()
        timeout_s = max(1, int(within_s or self._settings.request_timeout_s) - 1)

        async def once(token: Secret) -> Answer:
            headers = {"Authorization": f"Bearer {token.reveal()}", "Timeout": str(timeout_s)}

            def read(answer: Answer) -> Answer:
                if answer.status != 200 or len(answer.raw) < MENU_IN_THREAD:
                    self._read(answer, group)  # here, so that what it raises is masked
                return answer

            return await http.send(
                "POST", path, headers=headers, payload=dict(body), attempt=attempt, hide=[token], bucket=group, limit=limit,
                within_s=within_s, read=read,
            )  # fmt: skip

        return await self._token.use(once)

    async def _client(self) -> Http:
        if self._http is None:
            settings = self._settings
            secrets = [one for one in (settings.api_login, settings.api_key, settings.client_secret) if one is not None]
            made = Http.of(
                self._link,
                settings.origin,
                Timeouts.of(settings),
                [*secrets, settings.webhook_token, settings.hook_id],
                at_once=6,
            )
            self._http = await self._stack.enter_async_context(made)
        return self._http

    async def _buy(self) -> tuple[Secret, float | None]:
        """A token, and the seconds that it lives."""
        settings = self._settings
        if (key := settings.key) is not None:
            path = "/api/v2/access_token"
            body = {"apiKey": key[0].reveal(), "appId": settings.app_id, "clientSecret": key[1].reveal()}
        else:
            login = settings.api_login.reveal() if settings.api_login is not None else ""
            path, body = "/api/1/access_token", {"apiLogin": login}

        def read(answer: Answer) -> str:
            try:
                return codec.token_of(codec.read(answer.status, answer.raw, "token", settings.pause_s))
            except codec.Refused as refused:
                # A login of the wrong shape is "400" here, and "401" there.
                raise BadCredentials(f"{REASONS['key']} ({refused.detail})", person=REASONS["key"]) from None

        token = await (await self._client()).exchange("POST", path, payload=body, read=read, bucket="token")
        if not token:
            raise Unavailable("the answer has no token", certain=False)
        life_s = codec.life_of(token)
        return Secret(token), life_s if life_s is not None else settings.token_minutes * 60.0
