"""Requests to the Bot API: one card is sent or edited per delivery, or one part of a message sent.

Owns the decision what to try when Telegram answers "not like this": anew where the message is gone, in the new chat
where the group has moved, as plain text where the markup is refused. Nothing here makes a message appear twice:
a message whose outcome is unknown is `Doubtful` and not repeated, an edit may be. The token is in every address and
is masked in all that leaves here (`adapters/http/client.py`). What the texts contain is in `codec.py`.
"""

import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

from adapters.base import Attempt, Delivered, Link, Recordings, Tested
from adapters.channel import MESSAGE, Outgoing, OutgoingFile, OutgoingFiles, Write
from adapters.http import Http, Timeouts, Upload
from adapters.inbound import UpdateSink
from adapters.telegram import chats, codec, incoming
from adapters.telegram.settings import Place, TelegramSettings
from gateway.domain.configuration import Tenant
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

PUBLIC = "https://api.telegram.org"
UPLOAD_S, UPLOAD_READ_S = 110.0, 60.0
"""Seconds for a request with a file, and for its answer: Telegram looks at the file first."""


class TelegramClient:
    """Shows calls in the chats of one bot."""

    def __init__(
        self, http: Http, polls: Http, uploads: Http, tenant: Tenant, settings: TelegramSettings, files: OutgoingFiles | None = None,
        public_url: str = "", recordings: Recordings | None = None,
    ) -> None:  # fmt: skip
        self._files = files
        self._recordings = recordings
        self._uploads = uploads
        self._http = http
        self._polls = polls
        self._tenant = tenant
        self._settings = settings
        self._public_url = public_url

    def _buttons(self, attempt: Attempt) -> dict[str, Any] | None:
        page, recording = (str(attempt.body.get(name) or "") for name in ("page", "recording"))
        return codec.buttons(self._tenant, self._public_url, page, recording)

    async def deliver(self, attempt: Attempt) -> Delivered:
        """One attempt at one state of one card, or at one part of a message."""
        if attempt.kind == MESSAGE:
            return await self._send_part(attempt, Outgoing.read(attempt.body))
        configured, text = int(attempt.body["chat"]), str(attempt.body["text"])
        topic = int(attempt.body["topic"]) if attempt.body.get("topic") is not None else None
        shown = codec.Reference.read(attempt.reference)
        if attempt.kind == codec.RECORDING and (shown is None or not await self._has_recording(attempt)):
            return Delivered(reference=attempt.reference)
        chat = configured if shown is None or shown.chat is None else shown.chat
        if shown is not None:
            try:
                await self._edit(attempt, chat, shown.message, text)
            except codec.Gone:
                if attempt.kind == codec.RECORDING:
                    return Delivered(reference=attempt.reference)
            except codec.Migrated as moved:
                chat = moved.chat  # the numbers of messages do not move along, so the card is sent anew
            else:
                return _delivered(configured, chat, shown.message)
        try:
            return await self._send(attempt, configured, chat, topic, text)
        except codec.Migrated as moved:
            chat = moved.chat
        return await self._send(attempt, configured, chat, topic, text, last=True)

    async def _has_recording(self, attempt: Attempt) -> bool:
        """Whether it can be opened; False where it never can, or a button would be refused. Raises NotYet while it is not there."""
        if self._recordings is None or self._buttons(attempt) is None:
            return False
        try:
            await self._recordings.content_type(str(attempt.body["recording"]))
        except Rejected:
            return False
        return True

    async def _send_part(self, attempt: Attempt, part: Outgoing) -> Delivered:
        """A part of a message. What may have arrived is Doubtful: the Bot API drops no repeats."""
        method, parameters, field = chats.request(part)
        try:
            if field and part.file is not None:
                result = await self._upload(attempt, method, parameters, field, part.file)
            else:
                result = await self._call(method, parameters, attempt)
        except codec.Unclear as error:
            raise Doubtful(str(error)) from None
        except codec.NotLikeThis as error:
            raise Rejected(str(error)) from None
        except Unavailable as error:
            if error.certain:
                raise
            raise Doubtful(error.detail) from None
        number = result.get("message_id") if isinstance(result, dict) else None
        return Delivered(external_id=str(number) if isinstance(number, int) else "")

    async def _upload(
        self, attempt: Attempt, method: str, parameters: dict[str, Any], field: str, file: OutgoingFile
    ) -> Any:  # fmt: skip
        if self._files is None:
            raise Rejected("files cannot be sent from here")
        files = self._files
        upload = Upload(
            name=field, filename=file.name or file.kind, size=file.size, pieces=lambda: files.pieces(file.id),
            content_type=file.content_type or "application/octet-stream",
        )  # fmt: skip
        form = [
            (name, value if isinstance(value, str) else json.dumps(value, separators=(",", ":")))
            for name, value in parameters.items()
        ]
        return await self._uploads.send(
            "POST", f"/bot{self._settings.bot_token.reveal()}/{method}", form=form, files=[upload], attempt=attempt,
            read=lambda answer: codec.read_answer(answer.status, answer.text, answer.headers.get("retry-after")),
        )  # fmt: skip

    async def fetch(self, remote: Mapping[str, Any], write: Write, most: int) -> str:
        """A file that came with a message. Source: Bot API, "getFile": 20 MB at most, the path is good for an hour."""
        try:
            found = await self._call("getFile", {"file_id": str(remote["file_id"])})
        except codec.Unclear as error:
            raise Unavailable(str(error)) from None
        except codec.NotLikeThis as error:
            raise Rejected(str(error)) from None
        except Rejected as error:
            raise (TooLarge if "too big" in error.detail else Rejected)(error.detail) from None
        path = found.get("file_path") if isinstance(found, dict) else None
        if not isinstance(path, str) or not re.fullmatch(r"[A-Za-z0-9_./-]{1,200}", path) or ".." in path:
            raise RemoteProtocolError("getFile named no path")
        left = most
        kind = ""

        def judge(status: int, headers: Mapping[str, str]) -> None:
            nonlocal kind
            if status != 200:
                raise (
                    Rejected(f"the file: status {status}")
                    if status in (400, 403, 404)
                    else Unavailable(f"status {status}")
                )
            kind = headers.get("content-type", "")

        async def counted(piece: bytes) -> None:
            nonlocal left
            left -= len(piece)
            if left < 0:
                raise TooLarge
            await write(piece)

        await self._http.receive(f"/file/bot{self._settings.bot_token.reveal()}/{path}", judge=judge, write=counted)
        return kind

    async def typing(self, address: str, provider_id: str = "") -> None:
        """Shows for five seconds that somebody writes."""
        with suppress(codec.Unclear, codec.NotLikeThis):
            await self._call("sendChatAction", {"chat_id": int(address), "action": "typing"})

    async def _edit(self, attempt: Attempt, chat: int, message: int, text: str) -> None:
        """Raises Gone and Migrated for the caller to go on."""
        try:
            try:
                whole = codec.message(chat, text, edit=message, buttons=self._buttons(attempt))
                await self._call("editMessageText", whole, attempt)
            except codec.BadMarkup:
                await self._call("editMessageText", codec.message(chat, text, edit=message, markup=False), attempt)
        except codec.Unchanged:
            return
        except (codec.BadMarkup, codec.BadTopic) as error:
            raise Rejected(str(error)) from None
        except codec.Unclear as error:
            raise Unavailable(str(error), certain=False) from None

    async def _send(
        self, attempt: Attempt, configured: int, chat: int, topic: int | None, text: str, *, last: bool = False
    ) -> Delivered:
        """Raises Migrated for the caller to go on, unless this is the `last` chat to try."""
        try:
            try:
                whole = codec.message(chat, text, topic=topic, buttons=self._buttons(attempt))
                result = await self._call("sendMessage", whole, attempt)
            except codec.BadMarkup:
                plain = codec.message(chat, text, topic=topic, markup=False)
                result = await self._call("sendMessage", plain, attempt)
        except codec.Unclear as error:
            raise Doubtful(str(error)) from None
        except Unavailable as error:
            if error.certain:
                raise
            raise Doubtful(error.detail) from None
        except codec.NotLikeThis as error:
            if isinstance(error, codec.Migrated) and not last:
                raise
            if isinstance(error, codec.BadTopic):
                where = str(chat) if topic is None else f"{chat}/{topic}"
                raise Rejected(f"{error}. {codec.text_of(self._tenant, error.code, where)}") from None
            raise Rejected(str(error)) from None
        number = result.get("message_id") if isinstance(result, dict) else None
        return _delivered(configured, chat, number if isinstance(number, int) and number > 0 else None)

    async def _call(
        self, method: str, payload: dict[str, Any], attempt: Attempt | None = None, http: Http | None = None
    ) -> Any:
        path = f"/bot{self._settings.bot_token.reveal()}/{method}"
        return await (http or self._http).send(
            "POST", path, payload=payload, attempt=attempt,
            read=lambda answer: codec.read_answer(answer.status, answer.text, answer.headers.get("retry-after")),
        )  # fmt: skip

    async def run(self, sink: UpdateSink) -> None:
        """One session of long polls. An update is confirmed by the poll after the one that brought it, so none is before it is
        durable. Raises Unavailable; a second reader of the bot gives Telegram's own words (409)."""
        try:
            if (await self._call("getWebhookInfo", {})).get("url"):
                await self._call("deleteWebhook", {"drop_pending_updates": False})
            offset = 0
            while True:
                asked = {
                    "offset": offset,
                    "timeout": incoming.POLL_S,
                    "limit": incoming.MOST,
                    "allowed_updates": incoming.ALLOWED,
                }
                sent = await self._call("getUpdates", asked, http=self._polls)
                if not isinstance(sent, list):
                    raise RemoteProtocolError("getUpdates answered with no list")
                await sink.received(incoming.updates(sent))
                offset = incoming.next_offset(sent, offset)
        except (codec.Unclear, codec.NotLikeThis) as error:
            raise Unavailable(str(error)) from None
        except Rejected as error:
            raise BadSettings(error.detail) from None

    async def ensure_webhook(self, url: str) -> bool:
        """Makes Telegram call `url` with what people write. Whether there was something to change. Source: Bot API,
        "setWebhook"; what it stored is read back, for it takes an address it cannot reach without a word."""
        try:
            return await self._ensure_webhook(url)
        except (codec.Unclear, codec.NotLikeThis) as error:
            raise Unavailable(str(error)) from None

    async def withdraw(self, *, attempt: Attempt | None = None) -> None:
        """Takes the webhook back, where there is one of ours. Source: Bot API, "deleteWebhook"."""
        if self._settings.updates != "webhook":
            return
        try:
            if (await self._call("getWebhookInfo", {}, attempt)).get("url"):
                await self._call("deleteWebhook", {"drop_pending_updates": False}, attempt)
        except (codec.Unclear, codec.NotLikeThis) as error:
            raise Unavailable(str(error)) from None

    async def _ensure_webhook(self, url: str) -> bool:
        known = await self._call("getWebhookInfo", {})
        if isinstance(known, dict) and known.get("url") == url:
            if problem := str(known.get("last_error_message") or ""):
                raise Unavailable(f"Telegram could not call us: {problem[:200]}")
            return False
        wanted = {
            "url": url, "secret_token": incoming.webhook_secret(self._settings), "allowed_updates": incoming.ALLOWED,
            "drop_pending_updates": False,
        }  # fmt: skip
        await self._call("setWebhook", wanted)
        if (await self._call("getWebhookInfo", {})).get("url") != url:
            raise Unavailable("Telegram stored another address than the one it was given")
        return True

    async def test(self) -> Tested:
        """Whether the token is right and the bot is in its chats, in words."""
        try:
            return await self._test()
        except codec.Unclear as error:
            return self._found("unavailable", str(error))
        except GatewayError as error:
            return self._found(codec.finding(error), error.detail[:300])
        except codec.NotLikeThis as error:
            return self._found("rejected", str(error))

    async def _test(self) -> Tested:
        me = await self._call("getMe", {})
        bot = me if isinstance(me, dict) else {}
        name = codec.title({"username": bot.get("username")}, 0)
        known: list[str] = []
        wrong: dict[str, list[str]] = {}
        for place in self._settings.places:
            try:
                code, shown = await self._write_to(place, bot.get("id"))
            except codec.Migrated as moved:
                return self._found("chat_migrated", str(moved.chat))
            known.append(shown) if code == "ok" else wrong.setdefault(code, []).append(shown)
        for code in ("chat_not_found", "no_right", "topic_closed", "topic_not_found"):
            if places := wrong.get(code):
                texts = (name, ", ".join(places)) if code in ("chat_not_found", "no_right") else (", ".join(places),)
                return self._found(code, *texts)
        return self._found("ok", name, ", ".join(known)) if known else self._found("no_chats", name)

    async def _write_to(self, place: Place, bot: Any) -> tuple[str, str]:
        """Whether the bot may write to a place, as a finding's code, and how the place calls itself. Nothing is written: a
        "typing" action is all that is sent."""
        try:
            chat = await self._call("getChat", {"chat_id": place.chat})
        except Rejected:
            return "chat_not_found", str(place)
        shown = codec.place_title(chat, place)
        if place.chat < 0:
            try:
                member = await self._call("getChatMember", {"chat_id": place.chat, "user_id": bot})
            except Rejected:
                member = {}
            if not codec.may_write(chat, member):
                return "no_right", shown
        if isinstance(chat, dict) and chat.get("type") == "channel":
            return "ok", shown  # channels know no "typing"
        try:
            await self._call("sendChatAction", {**codec.to_place(place.chat, place.topic), "action": "typing"})
        except codec.BadTopic as error:
            return error.code, shown
        except Rejected:
            return "no_right", shown
        except BadCredentials:
            pass  # the token was good a moment ago: a server of one's own that does not have this method
        return "ok", shown

    def _found(self, code: str, *values: str) -> Tested:
        texts = codec.texts_of(code, *map(self._http.shown, values))
        return Tested(code in ("ok", "no_chats"), code, texts)


def _delivered(configured: int, chat: int, message: int | None) -> Delivered:
    """What to remember, and a word to the people where their chat has a new id."""
    if chat == configured:
        return Delivered(reference=None if message is None else str(codec.Reference(message)))
    reference = None if message is None else str(codec.Reference(message, chat))
    return Delivered(reference=reference, note="chat_migrated", detail=str(chat))


@asynccontextmanager
async def connect(link: Link, settings: TelegramSettings) -> AsyncIterator[TelegramClient]:
    """A client of one bot. Opens nothing before first use."""
    token = settings.bot_token.reveal()

    def http(link: Link, read_s: float, whole_s: float) -> Http:
        timeouts = Timeouts(connect_s=settings.connect_timeout_s, read_s=read_s, whole_s=whole_s)
        return Http.of(link, PUBLIC, timeouts, (token, token.partition(":")[2]))

    held_s = incoming.POLL_S + settings.read_timeout_s  # a poll without updates is answered so late
    unmetered = replace(link, budget=None)  # a poll counts to no rate, and would hold a place for as long as it waits
    async with (
        http(link, settings.read_timeout_s, settings.request_timeout_s) as short,
        http(unmetered, held_s, incoming.POLL_S + settings.request_timeout_s) as polls,
        http(link, max(settings.read_timeout_s, UPLOAD_READ_S), UPLOAD_S) as uploads,
    ):
        yield TelegramClient(short, polls, uploads, link.tenant, settings, link.files, link.public_url, link.recordings)
