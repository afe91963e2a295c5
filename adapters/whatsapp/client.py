"""Requests to the Cloud API for one number: parts of messages, marks of reading, files, templates, and what its jobs look at.

Owns which of them may be repeated. The Cloud API drops no repeats: a message whose outcome is unknown is `Doubtful` and not sent
again, and a status that brings our token back settles it; an upload that nobody sees may be. The token is a header, and is masked in
all that leaves here (`adapters/http/client.py`). What the requests hold is in `chats.py` and `codec.py`.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from adapters import meta, meta_files
from adapters.apps import MetaApp
from adapters.base import Attempt, Delivered, Link, Tested
from adapters.channel import MessageTemplate, Outgoing, Write
from adapters.http import Http, Timeouts, Upload
from adapters.jobs import JobResult
from adapters.meta import GRAPH, VERSION, bearer, child, objects, string
from adapters.whatsapp import chats, codec
from adapters.whatsapp.settings import WhatsappSettings
from gateway.domain.errors import (
    BadCredentials,
    BadSettings,
    Doubtful,
    GatewayError,
    Rejected,
    RemoteProtocolError,
    TooLarge,
    Unavailable,
)

UPLOAD_S, UPLOAD_READ_S = 110.0, 60.0
"""Seconds for a request with a file, and for its answer: Meta looks at the file first."""
PAGES = 20
"""Of templates, a hundred each."""


class WhatsappClient:
    """Writes as one number."""

    def __init__(self, link: Link, http: Http, uploads: Http, settings: WhatsappSettings) -> None:
        self._link = link
        self._http = http
        self._uploads = uploads
        self._settings = settings
        self._token = bearer(settings.access_token)
        self._number = f"/{VERSION}/{settings.phone_number_id}"

    # Messages.

    async def deliver(self, attempt: Attempt) -> Delivered:
        """One attempt at one part of a message. What may have arrived is Doubtful."""
        part = Outgoing.read(attempt.body)
        media_id = await self._upload(attempt, part) if part.file is not None else ""
        try:
            found = await self._http.send(
                "POST", f"{self._number}/messages", headers=self._token, payload=chats.payload(part, media_id), attempt=attempt,
                bucket="" if media_id else None,  # the upload has paid the recipient's place
                read=lambda answer: codec.read(answer, part.to, attempt.number),
            )  # fmt: skip
        except meta.Unclear as error:
            raise Doubtful(str(error)) from None
        except Unavailable as error:
            if error.certain:
                raise
            raise Doubtful(error.detail) from None
        return Delivered(external_id=codec.message_id(found))

    async def _upload(self, attempt: Attempt, part: Outgoing) -> str:
        """Meta's id of the part's file. Good for 30 days, so what a failed attempt has uploaded harms nobody."""
        file, files = part.file, self._link.files
        assert file is not None
        if files is None:
            raise Rejected("files cannot be sent from here")
        content_type = chats.content_type_of(part)
        upload = Upload(
            name="file", filename=file.name or file.kind, size=file.size, pieces=lambda: files.pieces(file.id),
            content_type=content_type,
        )  # fmt: skip
        try:
            found = await self._uploads.send(
                "POST", f"{self._number}/media", headers=self._token, form=[("messaging_product", "whatsapp"), ("type", content_type)],
                files=[upload], attempt=attempt, bucket="", read=lambda answer: codec.read(answer, attempt=attempt.number),
            )  # fmt: skip
        except meta.Unclear as error:
            raise Unavailable(str(error)) from None
        if not (media_id := string(found.get("id"))):
            raise RemoteProtocolError("the upload was answered without an id")
        return media_id

    async def mark_read(self, address: str, provider_id: str) -> None:
        """Shows the client that we have read up to a message. Source: "Mark messages as read"."""
        await self._seen(provider_id, {})

    async def typing(self, address: str, provider_id: str = "") -> None:
        """Shows that somebody writes for 25 seconds, or until the answer; the client's last message counts as read by it. Source:
        "Typing indicators"."""
        if provider_id:
            await self._seen(provider_id, {"typing_indicator": {"type": "text"}})

    async def _seen(self, provider_id: str, more: Mapping[str, Any]) -> None:
        whole = {"messaging_product": "whatsapp", "status": "read", "message_id": provider_id, **more}
        await self._ask("POST", f"{self._number}/messages", whole)

    async def fetch(self, remote: Mapping[str, Any], write: Write, most: int) -> str:
        """A file that came with a message. Source: "Media": Meta has it for seven days, its address is good for five minutes."""
        media_id = str(remote["media_id"])
        if not media_id.isascii() or not media_id.isalnum():
            raise Rejected("not an id of a file")
        found = await self._ask("GET", f"/{VERSION}/{media_id}?phone_number_id={self._settings.phone_number_id}")
        size = found.get("file_size")
        if isinstance(size, int) and size > most:
            raise TooLarge
        if not (url := string(found.get("url"))):
            raise RemoteProtocolError("the file has no address")
        return await meta_files.fetch(self._link, url, write, most, token=self._settings.access_token)

    # What jobs look at.

    async def templates(self) -> Sequence[MessageTemplate]:
        """The approved ones that texts can fill in. None without the business account's id."""
        found = dict[tuple[str, str], MessageTemplate]()
        after = ""
        for _ in range(PAGES if self._settings.waba_id else 0):
            page = await self._ask(
                "GET", f"/{VERSION}/{self._settings.waba_id}/message_templates?fields=name,language,status,category,components"
                f"&limit=100{f'&after={after}' if after else ''}",
            )  # fmt: skip
            made = filter(None, map(codec.template, objects(page.get("data"))))
            found |= {(one.name, one.language): one for one in made}
            if not (after := meta.next_page(page)):
                break
        return [found[place] for place in sorted(found)]

    async def check_token(self) -> JobResult | None:
        """Whether the token ends soon. Raises BadCredentials for one that has ended."""
        return await meta.check_token(self._http, self._settings.access_token, self._link.app, datetime.now(UTC))

    async def check_number(self) -> JobResult | None:
        """What Meta holds against the number. Source: "Messaging health status", "Phone number, quality rating"."""
        return codec.judged_number(await self._ask("GET", f"{self._number}?fields=quality_rating,health_status"))

    async def ensure_subscribed(self) -> JobResult | None:
        """Makes Meta send the account's webhooks to the application of the token; and says what a person has to enter where they lead
        elsewhere. Sources: "Subscribe to a WhatsApp Business Account", "Override webhooks"."""
        if self._settings.waba_id is None:
            return None
        path = f"/{VERSION}/{self._settings.waba_id}/subscribed_apps"
        known = {
            string(child(one, "whatsapp_business_api_data", "id"))
            for one in objects((await self._ask("GET", path)).get("data"))
        }
        app = self._link.app
        if not known or (isinstance(app, MetaApp) and app.app_id not in known):
            await self._ask("POST", path, {})
        wanted = self._wanted_url()
        if wanted is None:
            return None
        found = await self._ask("GET", f"{self._number}?fields=webhook_configuration")
        return codec.judged_webhook(found, wanted)

    def _wanted_url(self) -> str | None:
        """Where Meta is to call us: an application of the installation has one address for all."""
        if self._link.hook_url is None:
            return None
        ours = self._link.hook_url.reveal()
        return (
            ours.rpartition("/")[0] if isinstance(self._link.app, MetaApp) and not self._settings.app_secret else ours
        )

    async def test(self) -> Tested:
        """Whether the token may write as the number, in words."""
        try:
            found = await self._ask("GET", f"{self._number}?fields=display_phone_number,verified_name,quality_rating")
        except BadCredentials as error:
            return Tested(False, "bad_credentials", self._http.shown(error.detail))
        except GatewayError as error:
            refused = isinstance(error, Rejected | BadSettings)
            return Tested(False, "no_number" if refused else "unavailable", self._http.shown(error.detail))
        shown = self._http.shown(codec.number_shown(found))
        if missing := meta.missing(self._settings.webhook_verify_token, self._settings.app_secret, self._link.app):
            return Tested(False, missing, shown)
        return Tested(True, "ok" if self._settings.waba_id else "no_waba", shown)

    async def _ask(self, method: str, path: str, payload: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        """A request that may be repeated. Raises Unavailable for what is no answer, too."""
        body: dict[str, Any] = {} if payload is None else {"payload": payload}
        try:
            return await self._http.send(method, path, headers=self._token, read=codec.read, **body)
        except meta.Unclear as error:
            raise Unavailable(str(error)) from None


@asynccontextmanager
async def connect(link: Link, settings: WhatsappSettings) -> AsyncIterator[WhatsappClient]:
    """A client of one number. Opens nothing before first use."""

    def http(read_s: float, whole_s: float) -> Http:
        timeouts = Timeouts(connect_s=settings.connect_timeout_s, read_s=read_s, whole_s=whole_s)
        secrets = [one for one in (settings.access_token, settings.app_secret, settings.webhook_verify_token) if one]
        return Http.of(link, GRAPH, timeouts, secrets)

    async with (
        http(settings.read_timeout_s, settings.request_timeout_s) as short,
        http(max(settings.read_timeout_s, UPLOAD_READ_S), UPLOAD_S) as uploads,
    ):
        yield WhatsappClient(link, short, uploads, settings)
