"""Requests to VK: a part of a message is sent, its file uploaded, a file fetched, people named.

Owns the token's header. VK drops a second `messages.send` with the same `random_id`, so one whose answer was lost is sent again and
not `Doubtful`, for as long as VK knows the number. The long poll is in `long_poll.py`, the callback server in `callback_server.py`; what answers mean in `codec.py`.
"""

import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

from adapters.base import Attempt, Delivered, Link, Tested
from adapters.channel import MESSAGE, Outgoing, OutgoingFile, Write
from adapters.http import Http, Timeouts, Upload
from adapters.inbound import Update, UpdateSink
from adapters.named_addresses import fetch_file, open_named
from adapters.vk import callback_server, chats, codec, long_poll
from adapters.vk.incoming import message_of
from adapters.vk.settings import VkSettings
from gateway.domain.errors import (
    Doubtful,
    GatewayError,
    Rejected,
    RemoteProtocolError,
    TooLarge,
    Unavailable,
    problem_of,
)
from gateway.domain.secret import Secret

PUBLIC = "https://api.vk.com"
UPLOAD_S = 60.0
"""For the transfer of a file; the attempt's own deadline is the caller's."""
SLOW_S = 30.0
"""For methods that make VK call us before they answer."""
MOST_NAMES = 10_000
PEOPLE_AT_ONCE = 100


class VkClient:
    """Speaks for one community."""

    def __init__(self, http: Http, slow: Http, link: Link, settings: VkSettings) -> None:
        self._http = http
        self._slow = slow
        self.link = link
        self.settings = settings
        self.now: Callable[[], float] = time.time
        self._names: OrderedDict[int, Mapping[str, str]] = OrderedDict()

    async def call(
        self, method: str, parameters: Mapping[str, str], attempt: Attempt | None = None, *, hide: Sequence[Secret] = (), slow: bool = False
    ) -> Any:  # fmt: skip
        """One method's `response`. Raises what `codec.read` does. Source: VK API, "Query format": form fields, never JSON."""
        headers = {"authorization": f"Bearer {self.settings.access_token.reveal()}"}
        return await (self._slow if slow else self._http).send(
            "POST", f"/method/{method}", headers=headers, form={**parameters, "v": codec.VERSION}, attempt=attempt, hide=hide,
            read=lambda answer: codec.read(answer.status, answer.raw, answer.headers.get("retry-after", "")),
        )  # fmt: skip

    async def deliver(self, attempt: Attempt) -> Delivered:
        """One attempt at one part of a message. An upload that an earlier attempt finished is not made again."""
        if attempt.kind != MESSAGE:
            raise Rejected(f"VK takes no deliveries of kind {attempt.kind}")
        part = Outgoing.read(attempt.body)
        attached = await self._attached(attempt, part) if part.file is not None else ""
        unclear = f"unclear {part.token}"
        since = await attempt.known(unclear) if attempt.number > 1 else None
        if since is not None and self.now() - float(since) > chats.REPEATS_DROPPED_S:
            raise Doubtful("an earlier attempt may have arrived, too long ago for VK to know a repeat")
        try:
            sent = await self.call("messages.send", chats.parameters(part, attached), attempt)
        except Unavailable as error:
            if not error.certain and since is None:
                await attempt.remember(unclear, str(self.now()))
            raise
        return Delivered(external_id=str(sent) if isinstance(sent, int) and not isinstance(sent, bool) else "")

    async def _attached(self, attempt: Attempt, part: Outgoing) -> str:
        assert part.file is not None
        name = f"upload {part.token}"
        if known := await attempt.known(name):
            return known
        made = await self._upload(attempt, part.to, part.file)
        await attempt.remember(name, made)
        return made

    async def _upload(self, attempt: Attempt, to: str, file: OutgoingFile) -> str:
        """In VK's three steps: the server's address, the file, and its registration. Source: VK, "Uploading files"."""
        plain = file.content_type.partition(";")[0].strip().lower()
        if file.kind == "image" and plain in ("image/jpeg", "image/png", "image/gif"):
            server = await self.call("photos.getMessagesUploadServer", {"peer_id": to}, attempt)
            given = await self._transfer(server, "photo", file)
            if given.get("photo", "[]") in ("", "[]"):
                raise Rejected("VK does not take this picture")
            saved = {name: given[name] for name in ("photo", "server", "hash") if name in given}
            return codec.attachment("photo", await self.call("photos.saveMessagesPhoto", saved, attempt))
        kind = "audio_message" if file.kind == "voice" and plain in ("audio/ogg", "audio/opus") else "doc"
        server = await self.call("docs.getMessagesUploadServer", {"peer_id": to, "type": kind}, attempt)
        given = await self._transfer(server, "file", file)
        if not given.get("file"):
            raise Rejected("VK does not take this file")
        saved = {"file": given["file"], "title": file.name or file.kind}
        return codec.attachment("doc", await self.call("docs.save", saved, attempt))

    async def _transfer(self, server: Any, name: str, file: OutgoingFile) -> Mapping[str, str]:
        """Uploads to the address that VK named. Its query holds a key, so nothing of the request is logged."""
        files, url = self.link.files, server.get("upload_url") if isinstance(server, dict) else None
        if files is None:
            raise Rejected("files cannot be sent from here")
        if not isinstance(url, str):
            raise RemoteProtocolError("VK named no address for the upload")
        upload = Upload(
            name=name, filename=file.name or file.kind, size=file.size, pieces=lambda: files.pieces(file.id),
            content_type=file.content_type or "application/octet-stream",
        )  # fmt: skip
        timeouts = Timeouts(connect_s=self.settings.connect_timeout_s, read_s=UPLOAD_S, whole_s=UPLOAD_S)
        http, path = open_named(self.link, url, timeouts, [Secret(url)])
        async with http:
            try:
                return await http.send(
                    "POST", path, files=[upload], read=lambda answer: codec.read_upload(answer.status, answer.raw)
                )
            except Unavailable as error:
                error.certain = True  # a file that lies there unsaved is seen by nobody
                raise

    async def fetch(self, remote: Mapping[str, Any], write: Write, most: int) -> str:
        """A file that came with a message, by its address; or the whole text of a message that VK cropped."""
        if "message_id" not in remote:
            return await fetch_file(self.link, str(remote["url"]), write, most)
        whole = (await self._messages([int(remote["message_id"])])).get(int(remote["message_id"]))
        if whole is None:
            raise Rejected("VK does not have this message any more")
        text = str(whole.get("text") or "").encode("utf-8", "replace")
        if len(text) > most:
            raise TooLarge
        await write(text)
        return "text/plain; charset=utf-8"

    async def typing(self, address: str, provider_id: str = "") -> None:
        """Shows for some seconds that somebody writes."""
        with suppress(Rejected):
            await self.call("messages.setActivity", {"peer_id": address, "type": "typing"})

    async def mark_read(self, address: str, provider_id: str) -> None:
        """The whole conversation: VK takes no message of a community in its place."""
        await self.call("messages.markAsRead", {"peer_id": address, "mark_conversation_as_read": "1"})

    async def run(self, sink: UpdateSink) -> None:
        """One session of long polls."""
        await long_poll.run(self, sink)

    async def completed(self, updates: Sequence[Update]) -> Sequence[Update]:
        """With the names of those who wrote, and whole texts in the place of cropped ones, as far as VK gives them now: what it does
        not give holds up no message."""
        with suppress(GatewayError):
            await self._learn_names(
                [message_of(one.body).get("from_id") for one in updates if one.body["type"] == "message_new"]
            )
        whole: Mapping[int, Mapping[str, Any]] = {}
        cropped = [message_of(one.body).get("id") for one in updates if message_of(one.body).get("is_cropped") is True]
        with suppress(GatewayError):
            whole = await self._messages([number for number in cropped if isinstance(number, int) and number > 0])
        return [self._complete(one, whole) for one in updates]

    def _complete(self, update: Update, whole: Mapping[int, Mapping[str, Any]]) -> Update:
        body, message = dict(update.body), message_of(update.body)
        known = self._names.get(message.get("from_id", 0))
        if known is not None and body["type"] == "message_new":
            body["person"] = known
        found = whole.get(message.get("id", 0))
        if found is not None and found.get("is_cropped") is not True:
            full = {**message, **found, "is_cropped": False}
            body["object"] = {**body["object"], "message": full} if "message" in body["object"] else full
        return replace(update, body=body)

    async def _learn_names(self, people: Sequence[Any]) -> None:
        new = sorted({one for one in people if isinstance(one, int) and one > 0 and one not in self._names})
        for start in range(0, len(new), PEOPLE_AT_ONCE):
            ids = ",".join(map(str, new[start : start + PEOPLE_AT_ONCE]))
            found = await self.call("users.get", {"user_ids": ids, "fields": "screen_name"})
            for one in found if isinstance(found, list) else []:
                if isinstance(one, dict) and isinstance(one.get("id"), int):
                    named = " ".join(str(one[part]) for part in ("first_name", "last_name") if one.get(part))
                    self._names[one["id"]] = {"name": named, "username": str(one.get("screen_name") or "")}
        while len(self._names) > MOST_NAMES:
            self._names.popitem(last=False)

    async def _messages(self, numbers: Sequence[int]) -> Mapping[int, Mapping[str, Any]]:
        if not numbers:
            return {}
        asked = {"message_ids": ",".join(map(str, numbers)), "group_id": self.settings.group_id}
        found = await self.call("messages.getById", asked)
        items = found.get("items") if isinstance(found, dict) else None
        return {
            one["id"]: one for one in (items if isinstance(items, list) else []) if isinstance(one, dict) and isinstance(one.get("id"), int)
        }  # fmt: skip

    async def withdraw(self, *, attempt: Attempt | None = None) -> None:
        """Takes our callback server back, where there is one."""
        await callback_server.remove(self, attempt)

    async def test(self) -> Tested:
        """Whether the token is this community's, with its name."""
        try:
            found = await self.call("groups.getById", {"group_id": self.settings.group_id})
        except GatewayError as error:
            return Tested(False, problem_of(error), self._http.shown(error.detail)[:300])
        items = found.get("groups") if isinstance(found, dict) else found
        first = items[0] if isinstance(items, list) and items and isinstance(items[0], dict) else {}
        return Tested(True, "ok", self._http.shown(str(first.get("name") or ""))[:100])


@asynccontextmanager
async def connect(link: Link, settings: VkSettings) -> AsyncIterator[VkClient]:
    """A client of one community. Opens nothing before first use."""
    known = [settings.access_token, settings.secret, settings.hook_id]
    slow = Timeouts(connect_s=settings.connect_timeout_s, read_s=SLOW_S, whole_s=SLOW_S)
    async with (
        Http.of(link, PUBLIC, Timeouts.of(settings), known) as http,
        Http.of(link, PUBLIC, slow, known) as waiting,
    ):
        yield VkClient(http, waiting, link, settings)
