"""A sandbox Viber, strict about the token's header, message types, lengths, who may be written to, and the webhook at registration.

It owns one make-believe bot and its people. It knows nothing of the gateway. `viber.fault` makes it misbehave (`web.Fault`); what no
well-behaved client sends is refused and counted in `violations`. Not modelled: broadcasts, keyboards, rich media.
"""

import hashlib
import hmac
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2
import trio

from tests.sandbox.web import Drop, Fault, Request, Response, Site, as_html, as_json

LONGEST_NAME, LONGEST_TEXT, LARGEST_JSON, LARGEST_FILE = 28, 7000, 30 << 10, 50 << 20
LONGEST_URL, LONGEST_FILE_NAME = 2000, 256
UNANSWERED = 100
EVENTS = frozenset({"delivered", "seen", "failed", "subscribed", "unsubscribed", "conversation_started"})
TRIES = 5
FIRST_TOKEN = 5_741_311_803_571_721_087
"""Above 2^53, as Viber's are."""


class Refusal(Exception):
    """An answer that says no, with HTTP 200."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


@dataclass(slots=True, kw_only=True)
class Member:
    """One person, as the bot knows them."""

    id: str
    name: str
    reachable: bool = False
    """Has written or subscribed."""
    old: bool = False
    """The application is too old for anything but texts."""
    unanswered: int = 0
    messages: list[dict[str, Any]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """As a callback names them."""
        return {"id": self.id, "name": self.name, "language": "ru", "country": "BY", "api_version": 10}


class Viber:
    """`base = await nursery.start(viber.serve)`; then look at `members`, `calls` and `violations`."""

    def __init__(self, token: str = "4453b6ac-sandbox") -> None:
        self.token = token
        self.members: dict[str, Member] = {}
        self.webhook = ""
        self.event_types: list[str] = []
        self.calls: list[tuple[str, Mapping[str, Any]]] = []
        self.violations: list[str] = []
        self.blocked = 0
        """The status of everything while it is not 0, such as 7: the bot is blocked."""
        self.fault: Fault = Fault.NONE
        self.hang_s = 30.0
        self.allow_http = True
        """Loopback addresses are http."""
        self._next = FIRST_TOKEN
        methods = {"set_webhook": self._set_webhook, "get_account_info": self._account, "send_message": self._send}
        self._methods = methods
        self.site = Site({("*", "/pa/{method}"): self._call}, self._not_found)

    async def serve(self, port: int = 0, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        """Runs until cancelled; starts with the base URL."""
        await self.site.serve(port, task_status=task_status)

    def add(self, person: str, name: str = "Ann", *, reachable: bool = True) -> Member:
        """A person who has Viber; the bot can write to them where they have written first."""
        found = self.members[person] = Member(id=person, name=name, reachable=reachable)
        return found

    # --- what people do

    async def write(self, person: str, message: Mapping[str, Any]) -> str:
        """A person writes to the bot. Returns the message's token."""
        member = self.members[person]
        member.reachable, member.unanswered = True, 0
        return await self._report({"event": "message", "sender": member.as_json(), "message": message, "silent": False})

    async def open(self, person: str, context: str = "") -> str:
        """A person opens the conversation, by a link perhaps."""
        member = self.members[person]
        return await self._report(
            {"event": "conversation_started", "type": "open", "context": context, "user": member.as_json(), "subscribed": member.reachable}
        )  # fmt: skip

    async def subscribe(self, person: str, on: bool) -> str:
        """A person subscribes to the bot, or leaves it."""
        member = self.members[person]
        member.reachable = on
        if on:
            return await self._report({"event": "subscribed", "user": member.as_json()})
        return await self._report({"event": "unsubscribed", "user_id": person})

    async def status(self, event: str, person: str, token: int, desc: str = "") -> str:
        """A phone reports on a message of the bot."""
        more = {"desc": desc} if desc else {}
        return await self._report({"event": event, "user_id": person, **more}, token)

    async def _report(self, event: Mapping[str, Any], token: int = 0) -> str:
        """Calls the webhook, again until it is taken."""
        if event["event"] != "message" and event["event"] not in self.event_types:
            return ""
        token = token or self._token()
        body = json.dumps(
            {**event, "timestamp": int(time.time() * 1000), "message_token": token}, ensure_ascii=False
        ).encode()
        for _ in range(TRIES):
            if await self.call_webhook(self.webhook, body) == 200:
                return str(token)
        raise AssertionError("the webhook does not take a callback")

    async def call_webhook(self, url: str, body: bytes, signature: str | None = None) -> int:
        """One request to a webhook, signed unless a signature is given. Its status, 0 where nobody is there."""
        signed = signature if signature is not None else hmac.new(self.token.encode(), body, hashlib.sha256).hexdigest()
        headers = {"content-type": "application/json", "x-viber-content-signature": signed}
        try:
            async with httpx2.AsyncClient(trust_env=False, timeout=5) as client:
                return (await client.post(url, content=body, headers=headers)).status_code
        except httpx2.HTTPError:
            return 0

    def _token(self) -> int:
        self._next += 1
        return self._next

    # --- the API

    async def _call(self, request: Request) -> Response:
        method, body = request.parts["method"], self._body(request)
        self.calls.append((method, body))
        fault, self.fault = self.fault, Fault.NONE
        match fault:
            case Fault.DROP:
                raise Drop
            case Fault.HTTP_500 | Fault.HTTP_503:
                return as_html("<html>internal error</html>", 500 if fault is Fault.HTTP_500 else 503)
            case Fault.HTML:
                return as_html("<html>welcome</html>")
            case Fault.EMPTY:
                return Response(200, b"")
        try:
            if request.method != "POST" or request.content_type != "application/json":
                self._violation(3, f"{request.method} with {request.content_type or 'no type'}")
            given = request.headers.get("x-viber-auth-token", "")
            if not hmac.compare_digest(given.encode(), self.token.encode()):
                raise Refusal(2, "invalidAuthToken")
            if self.blocked:
                raise Refusal(self.blocked, "refused")
            if method not in self._methods:
                self._violation(3, f"no such method: {method}")
            if len(request.body) > LARGEST_JSON:
                self._violation(3, "the request is larger than 30 kB")
            answer = {"status": 0, "status_message": "ok", **await self._methods[method](body)}
        except Refusal as no:
            answer = {"status": no.status, "status_message": no.message}
        if fault is Fault.DROP_AFTER:
            raise Drop
        if fault is Fault.HANG:
            await trio.sleep(self.hang_s)
        return as_json(answer)

    def _violation(self, status: int, what: str) -> None:
        self.violations.append(what)
        raise Refusal(status, what)

    def _body(self, request: Request) -> dict[str, Any]:
        try:
            found = json.loads(request.body or b"{}")
        except ValueError:
            found = None
        if not isinstance(found, dict):
            self.violations.append("a body that is no JSON object")
            return {}
        return found

    async def _account(self, body: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "id": "pa:1", "name": "June", "uri": "june", "webhook": self.webhook, "event_types": self.event_types,
            "subscribers_count": len(self.members),
        }  # fmt: skip

    async def _set_webhook(self, body: Mapping[str, Any]) -> dict[str, Any]:
        url, wanted = body.get("url"), body.get("event_types", sorted(EVENTS))
        if not isinstance(url, str):
            self._violation(4, "a webhook without `url`")
        if not url:
            self.webhook, self.event_types = "", []
            return {"event_types": []}
        if not isinstance(wanted, list) or not set(wanted) <= EVENTS:
            self._violation(3, "unknown event types")
        if not str(url).startswith("https://") and not self.allow_http:
            self._violation(1, "a webhook has to be https")
        hello = {"event": "webhook", "timestamp": int(time.time() * 1000), "message_token": self._token()}
        status = await self.call_webhook(str(url), json.dumps(hello).encode())
        if status != 200:
            raise Refusal(1, f"Result [webhook status {status}]")
        self.webhook, self.event_types = str(url), list(wanted)
        return {"event_types": self.event_types}

    async def _send(self, body: Mapping[str, Any]) -> dict[str, Any]:
        if not self.webhook:
            raise Refusal(10, "webhookNotSet")
        name = (body.get("sender") or {}).get("name")
        if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME:
            self._violation(3, "sender.name is missing or too long")
        self._check(body)
        member = self.members.get(str(body.get("receiver")))
        if member is None:
            raise Refusal(5, "receiverNotRegistered")
        if not member.reachable:
            raise Refusal(6, "receiverNotSubscribed")
        if member.old and body["type"] != "text":
            raise Refusal(13, "apiVersionNotSupported")
        if member.unanswered >= UNANSWERED:
            raise Refusal(12, "tooManyRequests")
        member.unanswered += 1
        token = self._token()
        member.messages.append({**body, "token": token})
        return {"message_token": token, "chat_hostname": "SN-CHAT-01_"}

    def _check(self, body: Mapping[str, Any]) -> None:
        match body.get("type"):
            case "text":
                text = body.get("text")
                if not isinstance(text, str) or not text.strip() or len(text) > LONGEST_TEXT:
                    self._violation(3, "a text that is empty or too long")
            case "picture":
                if not isinstance(body.get("text"), str) or len(body["text"]) > 120:
                    self._violation(3, "a picture without text, or with too long a one")
                self._media(body)
            case "video" | "file" as kind:
                self._media(body)
                size = body.get("size")
                if not isinstance(size, int) or not 0 < size <= LARGEST_FILE:
                    self._violation(3, f"a {kind} without its size")
                if kind == "file" and not 0 < len(str(body.get("file_name") or "")) <= LONGEST_FILE_NAME:
                    self._violation(3, "a file without a name")
            case "location":
                place = body.get("location") or {}
                if not all(math.isfinite(float(place.get(one, "nan"))) for one in ("lat", "lon")):
                    self._violation(3, "a place without coordinates")
            case kind:
                self._violation(3, f"unknown type {kind}")

    def _media(self, body: Mapping[str, Any]) -> None:
        url = body.get("media")
        if not isinstance(url, str) or not url.startswith("https://") or len(url) > LONGEST_URL:
            self._violation(3, "media is no https address")

    async def _not_found(self, request: Request) -> Response:
        self.violations.append(f"{request.method} {request.path}")
        return as_html("not found", 404)
