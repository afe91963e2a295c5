"""One organisation over HTTP: where it is, with what we come, how much of the day's requests is left.

    method, path -> access token (`access.py`) -> request -> read
                      +--> refused: another token, once -> sent once more
                    answer's header -> usage -> from 90 % on we slow down

Owns no request (`requests.py`) and judges no answer (`codec.py`).
"""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

from adapters.base import Attempt, Link
from adapters.http import Answer, Http, Timeouts
from adapters.salesforce import codec, requests
from adapters.salesforce.access import Access, pair_of
from adapters.salesforce.settings import SalesforceSettings
from adapters.tokens import Token
from gateway.domain.errors import Unavailable
from gateway.domain.secret import Secret

SLOWER_S = 1.0
"""Between two requests, once little of the day's is left."""
LONGEST_ANSWER = 4 << 20
MOST_PAGES = 50


class Org:
    """One organisation. Opens nothing before first use."""

    def __init__(self, link: Link, settings: SalesforceSettings, stack: AsyncExitStack) -> None:
        self._link = link
        self._settings = settings
        self._stack = stack
        self._access = Access(link, settings)
        self._https: dict[str, Http] = {}
        self.usage: codec.Usage | None = None
        """How much of the day's requests is used, as the last answer said."""

    async def call(
        self, method: str, path: str, payload: Mapping[str, Any] | None = None, *, thing: str = "",
        headers: Mapping[str, str] | None = None, attempt: Attempt | None = None,
    ) -> Any:  # fmt: skip
        """What a request answered: `path` is below the API's version. `thing` is what it is about. Raises what
        `gateway.domain.errors` lists."""
        return await self._absolute(
            method, f"/services/data/{self._settings.api_version}{path}", payload, thing, headers, attempt
        )

    async def pages(self, statement: str, *, thing: str, attempt: Attempt | None = None) -> list[Any]:
        """All records that a query finds."""
        answer = codec.mapping(await self.call("GET", requests.query(statement), thing=thing, attempt=attempt))
        found = codec.items(answer.get("records"))
        for _ in range(MOST_PAGES):
            following = answer.get("nextRecordsUrl")
            if not isinstance(following, str) or not following.startswith("/services/data/"):
                break
            answer = codec.mapping(await self._absolute("GET", following, None, thing, None, attempt))
            found += codec.items(answer.get("records"))
        return found

    async def together(
        self, parts: Mapping[str, tuple[str, str]], *, attempt: Attempt | None = None
    ) -> Mapping[str, Any]:  # fmt: skip
        """Some requests that read as one, which counts as one: their answers by name."""
        body = requests.composite(self._settings.api_version, parts)
        answer = await self.call("POST", "/composite", body, thing="composite", attempt=attempt)
        return codec.read_composite(answer, {name: thing for name, (thing, _) in parts.items()})

    async def user(self) -> str:
        """The id of the user in whose name we work, or nothing where it is not known."""
        return codec.identifier(pair_of(await self._access.current()).get("user"))

    # One request.

    async def _absolute(
        self, method: str, target: str, payload: Mapping[str, Any] | None, thing: str,
        headers: Mapping[str, str] | None, attempt: Attempt | None,
    ) -> Any:  # fmt: skip
        token = await self._access.current()
        refused = False
        result: Any = None
        try:
            result = await self._send(token, method, target, payload, thing, headers, attempt)
        except codec.SessionEnded:
            refused = True
        if refused:
            token = await self._access.after(token)
            result = await self._send(token, method, target, payload, thing, headers, attempt)
        await self._access.worked(token)
        return result

    async def _send(
        self, token: Token, method: str, target: str, payload: Mapping[str, Any] | None, thing: str,
        headers: Mapping[str, str] | None, attempt: Attempt | None,
    ) -> Any:  # fmt: skip
        pair = pair_of(token)
        access = str(pair.get("access", ""))
        http = await self._http(str(pair.get("instance") or self._settings.instance_url))
        sent = {"authorization": f"Bearer {access}", "accept": "application/json", **(headers or {})}
        more: dict[str, Any] = {} if payload is None else {"payload": dict(payload)}

        def read(answer: Answer) -> Any:
            self._count(http, answer)
            if answer.cut:
                raise Unavailable(f"{thing}: the answer is too large", certain=False)
            return codec.read(answer.status, answer.raw, thing)

        return await http.send(
            method, target, headers=sent, attempt=attempt, hide=[Secret(access)], read=read, limit=LONGEST_ANSWER, **more
        )  # fmt: skip

    def _count(self, http: Http, answer: Answer) -> None:
        if (usage := codec.usage_of(answer.headers)) is not None:
            self.usage = usage
            if usage.is_low:
                http.pause(SLOWER_S)

    async def _http(self, origin: str) -> Http:
        if origin not in self._https:
            settings = self._settings
            known = [one for one in (settings.client_secret, settings.private_key) if one is not None]
            made = Http.of(self._link, origin, Timeouts.of(settings), known)
            self._https[origin] = await self._stack.enter_async_context(made)
        return self._https[origin]
