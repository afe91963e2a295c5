"""Requests to Viber: one part of a message is sent, a file fetched, the webhook registered.

Owns the token's header. Viber drops no repeats, so a message whose outcome is not known is `Doubtful` and not sent again; a 5xx answer
says that it was not taken. What answers mean is in `codec.py`.
"""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from adapters.base import Attempt, Delivered, Link, Tested
from adapters.channel import MESSAGE, Outgoing, Write
from adapters.http import Http, Timeouts
from adapters.named_addresses import fetch_file
from adapters.viber import chats, codec
from adapters.viber.incoming import EVENTS
from adapters.viber.settings import ViberSettings
from gateway.domain.errors import Doubtful, GatewayError, Rejected, Unavailable, problem_of
from gateway.domain.secret import Secret

PUBLIC = "https://chatapi.viber.com"
REGISTRATION_S = 30.0
"""For `set_webhook`: Viber calls us before it answers."""


class ViberClient:
    """Speaks for one bot."""

    def __init__(self, http: Http, slow: Http, link: Link, settings: ViberSettings) -> None:
        self._http = http
        self._slow = slow
        self._link = link
        self._settings = settings

    async def deliver(self, attempt: Attempt) -> Delivered:
        """One attempt at one part of a message. What may have arrived is Doubtful."""
        if attempt.kind != MESSAGE:
            raise Rejected(f"Viber takes no deliveries of kind {attempt.kind}")
        part = Outgoing.read(attempt.body)
        media = ""
        if part.file is not None:
            if self._link.files is None:
                raise Rejected("files cannot be sent from here")
            media = self._link.files.address(part.file.id)
        payload = chats.payload(part, self._settings, media)
        if len(json.dumps(payload, ensure_ascii=False).encode("utf-8", "replace")) > chats.LONGEST_PAYLOAD:
            raise Rejected(f"Viber takes at most {chats.LONGEST_PAYLOAD} bytes in one message")
        hidden = [Secret(media)] if media else []
        try:
            found = await self._call("send_message", payload, attempt, hide=hidden)
        except Unavailable as error:
            if error.certain:
                raise
            raise Doubtful(error.detail) from None
        return Delivered(external_id=codec.message_token(found))

    async def fetch(self, remote: Mapping[str, Any], write: Write, most: int) -> str:
        """A file that came with a message, by its address: Viber's are good for an hour or so."""
        return await fetch_file(self._link, str(remote["url"]), write, most)

    async def ensure_webhook(self, url: Secret, attempt: Attempt | None = None) -> bool:
        """Makes Viber call `url`. Whether there was something to change. Source: Viber REST API, "Setting a webhook": Viber calls
        the address before it answers."""
        known = await self._call("get_account_info", {})
        chosen = known.get("event_types")
        complete = not isinstance(chosen, list) or set(EVENTS) <= {str(one) for one in chosen}
        if Secret(str(known.get("webhook"))) == url and complete:
            return False
        wanted = {"url": url.reveal(), "event_types": list(EVENTS), "send_name": True, "send_photo": False}
        try:
            await self._call("set_webhook", wanted, attempt, hide=[url], http=self._slow)
        except Rejected as error:
            raise Unavailable(f"Viber could not register our address: {error.detail}") from None
        return True

    async def withdraw(self, *, attempt: Attempt | None = None) -> None:
        """Takes the webhook back, where it is ours."""
        ours = self._link.hook_url
        known = await self._call("get_account_info", {})
        if ours is not None and Secret(str(known.get("webhook"))) == ours:
            await self._call("set_webhook", {"url": ""}, attempt, http=self._slow)

    async def test(self) -> Tested:
        """Whether the token is right, with the bot's name."""
        try:
            found = await self._call("get_account_info", {})
        except GatewayError as error:
            return Tested(False, problem_of(error), self._http.shown(error.detail)[:300])
        return Tested(True, "ok", self._http.shown(str(found.get("name") or ""))[:100])

    async def _call(
        self, method: str, payload: Mapping[str, Any], attempt: Attempt | None = None, *, hide: list[Secret] | None = None,
        http: Http | None = None,
    ) -> Mapping[str, Any]:  # fmt: skip
        headers = {"x-viber-auth-token": self._settings.auth_token.reveal()}
        return await (http or self._http).send(
            "POST", f"/pa/{method}", headers=headers, payload=payload, attempt=attempt, hide=hide or [],
            read=lambda answer: codec.read(answer.status, answer.raw, answer.headers.get("retry-after", "")),
        )  # fmt: skip


@asynccontextmanager
async def connect(link: Link, settings: ViberSettings) -> AsyncIterator[ViberClient]:
    """A client of one bot. Opens nothing before first use."""
    known = [settings.auth_token, settings.hook_id]
    slow = Timeouts(connect_s=settings.connect_timeout_s, read_s=REGISTRATION_S, whole_s=REGISTRATION_S)
    async with (
        Http.of(link, PUBLIC, Timeouts.of(settings), known) as http,
        Http.of(link, PUBLIC, slow, known) as registering,
    ):
        yield ViberClient(http, registering, link, settings)
