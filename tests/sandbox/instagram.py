"""A sandbox Instagram, strict about tokens, fields, the window of 24 hours, lengths, and who may be written to.

It owns one make-believe professional account, reached by either login, and the people who write to it. It knows nothing of the gateway.
`instagram.fault` makes it misbehave (`web.Fault`); what no well-behaved client sends is refused and counted in `violations`. Time is
`now`, seconds that a test moves on. Not modelled: comments, carousels, quick replies, handing a thread to another application. Long, because two
logins and the life of a token are one account.
"""

import hashlib
import hmac
import json
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx2
import trio

from tests.sandbox.web import Drop, Fault, Request, Response, Site, as_html, as_json

LONGEST_TEXT = 1000
"""Bytes."""
WINDOW_S, YOUNGEST_S, TOKEN_S = 24 * 3600.0, 24 * 3600.0, 60 * 24 * 3600.0
TRIES = 5
FIELDS = frozenset(
    {"messages", "messaging_postbacks", "messaging_seen", "message_reactions", "messaging_referral", "messaging_optins", "comments"}
)  # fmt: skip
PAGE_FIELDS = frozenset({"messages", "messaging_postbacks", "message_reads", "message_reactions", "feed"})
ATTACHMENTS = frozenset({"image", "video", "audio", "file"})
ACTIONS = frozenset({"typing_on", "typing_off", "mark_seen"})
_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Webhooks of the tests are on loopback: reading the authorities for each would take longer than the call."""


class Refusal(Exception):
    """An answer with an `error`."""

    def __init__(self, code: int, message: str, *, subcode: int = 0, status: int = 400) -> None:
        super().__init__(message)
        self.status = status
        self.error = {"message": message, "type": "OAuthException", "code": code, "fbtrace_id": "A1b2"}
        if subcode:
            self.error["error_subcode"] = subcode


@dataclass(slots=True, kw_only=True)
class Member:
    """One person, by the id that this account knows them by."""

    id: str
    username: str
    name: str = "Ann Kuzmina"
    wrote_at: float | None = None
    gone: bool = False
    """Has closed the account, or blocked ours."""
    messages: list[dict[str, Any]] = field(default_factory=list)
    """What they were sent, with `mid`."""
    actions: list[str] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Issued:
    """A token's life."""

    at: float
    until: float | None
    revoked: bool = False


class Instagram:
    """`base = await nursery.start(instagram.serve)`; then look at `members`, `calls` and `violations`."""

    def __init__(
        self, account: str = "17841400008460056", token: str = "IGAA-sandbox", secret: str = "s" * 32, login: str = "instagram",
        now: float = 1_767_225_600.0,
    ) -> None:  # fmt: skip
        self.account, self.secret, self.login, self.now = account, secret, login, now
        self.username = "june.shop"
        self.linked = True
        """Whether the page has an Instagram account, for Facebook's login."""
        self.tokens = {
            token: Issued(at=self.now - 2 * YOUNGEST_S, until=None if login == "facebook" else self.now + TOKEN_S)
        }
        self.members: dict[str, Member] = {}
        self.subscriptions: set[str] = set()
        self.webhook = ""
        self.echoes = True
        self.files: dict[str, tuple[str, bytes]] = {}
        self.calls: list[tuple[str, str, Mapping[str, Any]]] = []
        """Method, path and body."""
        self.violations: list[str] = []
        self.refusal: Refusal | None = None
        """The answer to every request while it is set."""
        self.fault: Fault = Fault.NONE
        self.hang_s = 30.0
        self.deliveries: list[bytes] = []
        """The bodies of webhooks that were taken."""
        self._next = 0
        self.site = Site(
            {
                ("GET", "/refresh_access_token"): self._refresh, ("GET", "/cdn/{name}"): self._file,
                ("*", "/{version}/{node}/{edge}"): self._graph, ("*", "/{version}/{node}"): self._graph,
            },
            self._not_found,
        )  # fmt: skip

    async def serve(self, port: int = 0, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        """Runs until cancelled; starts with the base URL."""
        await self.site.serve(port, task_status=task_status)

    def add(self, person: str, username: str = "ann") -> Member:
        """A person of Instagram."""
        found = self.members[person] = Member(id=person, username=username)
        return found

    @property
    def token(self) -> str:
        """The newest one."""
        return list(self.tokens)[-1]

    # --- what people do

    async def write(self, person: str, text: str = "", **more: Any) -> str:
        """A person writes to the account. Returns the message's mid."""
        self.members[person].wrote_at = self.now
        mid = self._mid()
        message = {"mid": mid, **({"text": text} if text else {}), **more}
        await self.report([self.item(person, message=message)])
        return mid

    async def unsend(self, person: str, mid: str) -> None:
        """A person takes a message back."""
        await self.report([self.item(person, message={"mid": mid, "is_deleted": True})])

    async def see(self, person: str, mid: str) -> None:
        """A person reads up to a message of the account."""
        await self.report([self.item(person, read={"mid": mid})])

    async def react(self, person: str, mid: str, emoji: str = "❤") -> None:
        """A person reacts to a message."""
        reaction = {"mid": mid, "action": "react", "reaction": "love", "emoji": emoji}
        await self.report([self.item(person, reaction=reaction)])

    async def answer(self, person: str, text: str) -> str:
        """The owner answers in the Instagram app."""
        mid = self._mid()
        await self.report([self.echo(person, {"mid": mid, "text": text})])
        return mid

    def item(self, person: str, **what: Any) -> dict[str, Any]:
        """One piece of news of a person."""
        return {
            "sender": {"id": person}, "recipient": {"id": self.account}, "timestamp": int(self.now * 1000), **what
        }  # fmt: skip

    def echo(self, person: str, message: Mapping[str, Any]) -> dict[str, Any]:
        """What the account itself sent: the other way round."""
        return {
            "sender": {"id": self.account}, "recipient": {"id": person}, "timestamp": int(self.now * 1000),
            "message": {**message, "is_echo": True},
        }  # fmt: skip

    def webhook_of(self, items: Sequence[Mapping[str, Any]], under: str = "messaging") -> dict[str, Any]:
        """A webhook about the account."""
        return {
            "object": "instagram",
            "entry": [{"id": self.account, "time": int(self.now * 1000), under: list(items)}],
        }

    async def report(self, items: Sequence[Mapping[str, Any]], under: str = "messaging") -> None:
        """Calls the webhook, again until it is taken."""
        if not self.webhook or "messages" not in self.subscriptions:
            return
        body = json.dumps(self.webhook_of(items, under)).encode()  # ASCII alone, as Meta sends it
        for _ in range(TRIES):
            if await self.call_webhook(body) == 200:
                self.deliveries.append(body)
                return
        raise AssertionError("the webhook does not take the news")

    async def call_webhook(self, body: bytes, signature: str | None = None) -> int:
        """One request to the webhook, signed unless a signature is given. Its status, 0 where nobody is there."""
        signed = hmac.new(self.secret.encode(), body, hashlib.sha256).hexdigest() if signature is None else signature
        headers = {"content-type": "application/json", "x-hub-signature-256": f"sha256={signed}"}
        try:
            async with httpx2.AsyncClient(trust_env=False, timeout=5, verify=_NO_TLS) as client:
                return (await client.post(self.webhook, content=body, headers=headers)).status_code
        except httpx2.HTTPError:
            return 0

    async def register(self, url: str, verify_token: str) -> bool:
        """Somebody enters the webhook in the app; Meta makes its handshake first."""
        query = {"hub.mode": "subscribe", "hub.verify_token": verify_token, "hub.challenge": "1158201444"}
        async with httpx2.AsyncClient(trust_env=False, timeout=5, verify=_NO_TLS) as client:
            found = await client.get(url, params=query)
        if found.status_code == 200 and found.text == "1158201444":
            self.webhook = url
            return True
        return False

    def _mid(self) -> str:
        self._next += 1
        return f"aWdfZAG1faXRlbToxOk{self._next:06d}"

    # --- the API

    async def _graph(self, request: Request) -> Response:
        return await self._answered(request, self._routed)

    async def _refresh(self, request: Request) -> Response:
        return await self._answered(request, self._renewed)

    async def _file(self, request: Request) -> Response:
        kind, content = self.files.get(request.parts["name"], ("", b""))
        if "authorization" in request.headers:
            self.violations.append("a token was shown to the server of files")
        return Response(200, content, kind) if kind else Response(403, b"URL signature expired", "text/plain")

    async def _not_found(self, request: Request) -> Response:
        self.violations.append(f"{request.method} {request.path}")
        return as_json({"error": Refusal(100, "Unsupported request").error}, 400)

    async def _answered(self, request: Request, act: Any) -> Response:
        body = self._body(request)
        self.calls.append((request.method, request.path, body))
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
            if self.refusal is not None:
                raise self.refusal
            answer, status = await act(request, body), 200
        except Refusal as no:
            answer, status = {"error": no.error}, no.status
        if fault is Fault.SUCCESS_FALSE:
            answer = {"error": Refusal(2, "Service temporarily unavailable").error}
        if fault is Fault.DROP_AFTER:
            raise Drop
        if fault is Fault.HANG:
            await trio.sleep(self.hang_s)
        return as_json(answer, status)

    def _violation(self, what: str) -> Refusal:
        """Counts it; to be raised."""
        self.violations.append(what)
        return Refusal(100, f"(#100) {what}")

    def _body(self, request: Request) -> dict[str, Any]:
        if not request.body:
            return {}
        try:
            found = json.loads(request.body)
        except ValueError:
            found = None
        if not isinstance(found, dict) or request.content_type != "application/json":
            self.violations.append("a body that is no JSON object")
            return {}
        return found

    def _alive(self, token: str) -> Issued:
        found = next(
            (issued for known, issued in self.tokens.items() if hmac.compare_digest(known.encode(), token.encode())),
            None,
        )
        if found is None or found.revoked:
            raise Refusal(
                190, "Error validating access token: the session has been invalidated", subcode=460, status=401
            )
        if found.until is not None and found.until <= self.now:
            raise Refusal(190, "Error validating access token: Session has expired", subcode=463, status=401)
        return found

    async def _routed(self, request: Request, body: Mapping[str, Any]) -> dict[str, Any]:
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        query = dict(request.query)
        if "access_token" in query or kind != "Bearer":
            raise self._violation("the token is not in the header")
        if not request.parts["version"].startswith("v"):
            raise self._violation("no version in the path")
        if request.parts["node"] == "debug_token" and self.login == "facebook":
            return self._debugged(query)
        self._alive(token)
        match request.method, request.parts["node"], request.parts.get("edge", ""):
            case "GET", "me", "":
                return self._me(query)
            case "POST", "me", "messages":
                return await self._messages(body)
            case "GET", "me", "subscribed_apps":
                data = [{"id": "555", "subscribed_fields": sorted(self.subscriptions)}] if self.subscriptions else []
                return {"data": data}
            case "POST", "me", "subscribed_apps":
                wanted = set(query.get("subscribed_fields", "").split(","))
                if not wanted <= (PAGE_FIELDS if self.login == "facebook" else FIELDS):
                    raise self._violation("unknown fields are subscribed to")
                self.subscriptions = wanted
                return {"success": True}
            case "DELETE", "me", "subscribed_apps":
                self.subscriptions = set()
                return {"success": True}
        if request.method == "GET" and request.parts["node"] in self.members:
            return self._profile(self.members[request.parts["node"]], query)
        raise self._violation(f"{request.method} {request.path}")

    def _profile(self, member: Member, query: Mapping[str, str]) -> dict[str, Any]:
        if query.get("fields") != "name,username":
            raise self._violation("unknown fields of a person")
        if member.wrote_at is None or member.gone:
            raise Refusal(230, "User consent is required to access user profile")
        return {"id": member.id, "username": member.username, **({"name": member.name} if member.name else {})}

    def _me(self, query: Mapping[str, str]) -> dict[str, Any]:
        if self.login == "facebook":
            if query.get("fields") != "name,instagram_business_account{id,username}":
                raise self._violation("unknown fields of a page")
            linked = {"instagram_business_account": {"id": self.account, "username": self.username}}
            return {"id": "102290129340398", "name": "June", **(linked if self.linked else {})}
        if query.get("fields") != "user_id,username":
            raise self._violation("unknown fields of an account")
        return {"data": [{"user_id": self.account, "username": self.username, "id": "9071"}]}

    def _debugged(self, query: Mapping[str, str]) -> dict[str, Any]:
        found = self.tokens.get(query.get("input_token", ""))
        if found is None or found.revoked:
            return {"data": {"is_valid": False, "error": {"code": 190, "message": "Invalid OAuth access token"}}}
        return {"data": {"is_valid": True, "expires_at": int(found.until or 0)}}

    async def _renewed(self, request: Request, body: Mapping[str, Any]) -> dict[str, Any]:
        query = dict(request.query)
        if (
            self.login == "facebook"
            or query.keys() != {"grant_type", "access_token"}
            or query["grant_type"] != "ig_refresh_token"
        ):
            raise self._violation("a renewal that is none")
        issued = self._alive(query["access_token"])
        if self.now - issued.at < YOUNGEST_S:
            raise Refusal(10, "The access token is too young to be refreshed")
        made = f"IGAA-renewed-{len(self.tokens)}"
        self.tokens[made] = Issued(at=self.now, until=self.now + TOKEN_S)
        return {
            "access_token": made,
            "token_type": "bearer",
            "expires_in": int(TOKEN_S),
            "permissions": "instagram_business_basic",
        }

    async def _messages(self, body: Mapping[str, Any]) -> dict[str, Any]:
        recipient = body.get("recipient")
        if not isinstance(recipient, dict) or set(recipient) != {"id"}:
            raise self._violation("a recipient without an id")
        member = self.members.get(str(recipient["id"]))
        if "sender_action" in body:
            if set(body) != {"recipient", "sender_action"} or body["sender_action"] not in ACTIONS:
                raise self._violation("an action that is none")
            if member is None:
                raise Refusal(100, "No matching user found", subcode=2018001)
            member.actions.append(body["sender_action"])
            return {"recipient_id": member.id}
        if set(body) != {"recipient", "message"}:
            raise self._violation(f"unknown fields: {sorted(set(body) - {'recipient', 'message'})}")
        message = body["message"]
        self._check(message)
        if member is None:
            raise Refusal(100, "No matching user found", subcode=2018001)
        if member.gone:
            raise Refusal(551, "This person isn't available right now.", subcode=1545041)
        if member.wrote_at is None or self.now - member.wrote_at >= WINDOW_S:
            raise Refusal(10, "This message is sent outside of allowed window.", subcode=2534022)
        mid = self._mid()
        member.messages.append({**message, "mid": mid})
        if self.echoes:
            await self.report([self.echo(member.id, {"mid": mid, **_as_echo(message)})])
        return {"recipient_id": member.id, "message_id": mid}

    def _check(self, message: Any) -> None:
        match message:
            case {"text": str(text), **more} if not more:
                if not text.strip() or len(text.encode()) > LONGEST_TEXT:
                    raise self._violation("a text that is empty or longer than 1000 bytes")
            case {"attachment": {"type": str(kind), "payload": {"url": str(url), **rest}}, **more} if (
                not more and not rest
            ):
                if kind not in ATTACHMENTS:
                    raise self._violation(f"no such attachment: {kind}")
                if not url.startswith("https://"):
                    raise self._violation("a file without a public https address")
                if "unreachable" in url:
                    raise Refusal(100, "Failed to fetch the file from the url", subcode=2018008)
            case _:
                raise self._violation("a message is a text or an attachment")


def _as_echo(message: Mapping[str, Any]) -> dict[str, Any]:
    if "text" in message:
        return {"text": message["text"]}
    attachment = message["attachment"]
    return {"attachments": [{"type": attachment["type"], "payload": {"url": "https://lookaside.fbsbx.example/1"}}]}
