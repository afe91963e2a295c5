"""A sandbox of Meta's Cloud API, strict about envelopes, the 24 hours, templates, recipients and limits.

It owns make-believe numbers and people and remembers every message; the webhooks that Meta would send wait in `webhooks`, signed,
until somebody delivers them. It knows nothing of the gateway. `fault` makes it misbehave (`web.Fault`), `refuse` answers the next
sends with a code. Not modelled: buttons, catalogues, calls, groups. Long,
because it is one method after another.
"""

import hashlib
import hmac
import json
import re
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx2
import trio

from tests.sandbox.telegram import StoredFile, read_form
from tests.sandbox.web import Drop, Fault, Request, Response, Site, as_html, as_json

VERSION = "v23.0"
DAY_S = 24 * 3600.0
AGAIN_S = 1.0
PAIR_BURST, PAIR_PER_S = 10, 6.0
LARGEST = {"image": 5 << 20, "audio": 16 << 20, "video": 16 << 20, "document": 100 << 20}
TAKES = {
    "image": {"image/jpeg", "image/png"}, "video": {"video/mp4", "video/3gpp"},
    "audio": {"audio/aac", "audio/mp4", "audio/mpeg", "audio/amr", "audio/ogg"},
}  # fmt: skip
"""What each kind of message may carry; a document may carry anything."""
_USER_ID = re.compile(r"[A-Z]{2}\.[A-Za-z0-9]{1,128}")
_PLACE = re.compile(r"\{\{\s*(\w+)\s*\}\}")


class Refusal(Exception):
    """An answer that says no."""

    def __init__(self, code: int, details: str, status: int = 400, **more: Any) -> None:
        super().__init__(details)
        self.code, self.details, self.status, self.more = code, details, status, more

    def error(self) -> dict[str, Any]:
        """As an answer or a webhook carries it."""
        return {
            "message": f"(#{self.code}) {self.details[:30]}", "type": "OAuthException", "code": self.code,
            "error_data": {"messaging_product": "whatsapp", "details": self.details}, "fbtrace_id": "Az8or2yhqkZfEZ-_4Qn_Bam",
            **self.more,
        }  # fmt: skip

    def response(self) -> Response:
        """Meta's envelope."""
        return as_json({"error": self.error()}, self.status)


@dataclass(slots=True, kw_only=True)
class Human:
    """Somebody with WhatsApp. `hides`: their webhooks have no number."""

    number: str
    name: str = "Anna"
    user_id: str = ""
    hides: bool = False
    wrote_at: float | None = None
    blocked: bool = False
    places: float = float(PAIR_BURST)
    filled_at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A message of the number's, as its recipient has it."""

    id: str
    to: str
    at: float
    payload: Mapping[str, Any]

    @property
    def text(self) -> str:
        """As a person reads it."""
        part = self.payload[self.payload["type"]]
        return str(part.get("body") or part.get("caption") or part.get("name") or self.payload["type"])


@dataclass(slots=True, kw_only=True)
class Raw:
    """One request as it came, and what it was answered with (None: not answered)."""

    method: str
    path: str
    payload: Any
    status: int | None = None
    code: int | None = None


@dataclass(frozen=True, slots=True)
class Webhook:
    """What Meta would POST: raw bytes and the header that signs them."""

    body: bytes
    signature: str

    @property
    def headers(self) -> dict[str, str]:
        """Of the request."""
        return {"x-hub-signature-256": self.signature, "content-type": "application/json"}


@dataclass
class Whatsapp:
    """One number of one account. `base = await nursery.start(whatsapp.serve, port)`; then look at `sent` and `calls`."""

    token: str = "EAAG-sandbox-token"
    app_secret: str = "sandbox-app-secret"
    app_id: str = "700100200300"
    number_id: str = "106540352242922"
    waba_id: str = "102290129340398"
    display: str = "15550199"
    clock: Callable[[], float] = time.time
    rate_limits: bool = True
    people: dict[str, Human] = field(default_factory=dict)
    """By number."""
    sent: list[Sent] = field(default_factory=list)
    seen: list[Mapping[str, Any]] = field(default_factory=list)
    """Marks of reading, and typing."""
    calls: deque[Raw] = field(default_factory=lambda: deque(maxlen=100_000))
    webhooks: deque[Webhook] = field(default_factory=deque)
    arrived: trio.Event = field(default_factory=trio.Event)
    files: dict[str, StoredFile] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)
    templates: list[dict[str, Any]] = field(default_factory=list)
    subscribed: set[str] = field(default_factory=set)
    callback: str = ""
    expires_at: int = 0
    quality: str = "GREEN"
    health: dict[str, Any] = field(default_factory=lambda: {"can_send_message": "AVAILABLE", "entities": []})
    statuses: tuple[str, ...] = ("sent", "delivered")
    """Of each message, at once."""
    refuse: deque[Refusal] = field(default_factory=deque)
    fail_later: deque[Refusal] = field(default_factory=deque)
    """Messages that are taken and fail by webhook."""
    fault: Fault = Fault.NONE
    fault_count: int | None = None
    hang_s: float = 30.0
    redirects: bool = False
    revoked: bool = False
    _made: int = 0

    def __post_init__(self) -> None:
        path = f"/{VERSION}/"
        self.site = Site(
            {
                ("GET", "/"): self._page,
                ("POST", f"{path}{self.number_id}/messages"): self._guarded(self._messages),
                ("POST", f"{path}{self.number_id}/media"): self._guarded(self._upload),
                ("GET", f"{path}{self.number_id}"): self._guarded(self._number),
                ("GET", f"{path}{self.waba_id}/message_templates"): self._guarded(self._templates),
                ("GET", f"{path}{self.waba_id}/subscribed_apps"): self._guarded(self._subscribed),
                ("POST", f"{path}{self.waba_id}/subscribed_apps"): self._guarded(self._subscribe),
                ("GET", f"{path}debug_token"): self._debug,
                ("GET", f"{path}{{id}}"): self._guarded(self._media),
                ("GET", "/files/{id}"): self._guarded(self._download),
                ("GET", "/elsewhere/{id}"): self._guarded(self._download),
            },
            self._not_found,
        )

    @property
    def base(self) -> str:
        """The base URL, once it serves."""
        return self.site.base

    async def serve(self, port: int = 0, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        """Runs until cancelled; starts with the API's base URL."""
        await self.site.serve(port, task_status=task_status)

    # --- what people do

    def human(self, number: str, **more: Any) -> Human:
        """Somebody, known from now on."""
        return self.people.setdefault(number, Human(number=number, **more))

    def writes(self, number: str, text: str = "", **message: Any) -> str:
        """A client writes: a text, or a message with the given fields. Returns its id."""
        who = self.human(number)
        who.wrote_at = self.clock()
        content = message or {"type": "text", "text": {"body": text}}
        return self._incoming(who, content)

    def brings(self, number: str, kind: str, data: bytes, content_type: str, **more: Any) -> str:
        """A client sends a file."""
        media = self._store(StoredFile(data, more.get("filename", "")), content_type)
        part = {"id": media, "mime_type": content_type, "sha256": hashlib.sha256(data).hexdigest(), **more}
        message: dict[str, Any] = {"type": kind, kind: part}
        return self.writes(number, **message)

    def changes_number(self, before: str, after: str) -> None:
        """A client has another number now."""
        who = self.people[after] = self.people.pop(before)
        who.number = after
        system = {"body": f"User A changed from {before} to {after}", "wa_id": after, "type": "user_changed_number"}
        self.push({"messages": [{"from": before, **self._ids(), "type": "system", "system": system}]})

    def reads(self, message: str) -> None:
        """The client has read a message of ours."""
        self._status(next(one for one in self.sent if one.id == message), "read")

    def answers_on_the_phone(self, number: str, text: str) -> None:
        """The company writes in the WhatsApp Business app."""
        who = self.human(number)
        echo = {"from": self.display, "to": number, **self._ids(), "type": "text", "text": {"body": text}}
        self.push({"contacts": [self._contact(who)], "message_echoes": [echo]}, field="smb_message_echoes")

    def push(self, *values: Mapping[str, Any], field: str = "messages") -> Webhook:
        """Queues one webhook with a change for each value."""
        changes = [
            {"field": field, "value": {"messaging_product": "whatsapp",
             "metadata": {"display_phone_number": self.display, "phone_number_id": self.number_id}, **value}}
            for value in values
        ]  # fmt: skip
        body = json.dumps(
            {"object": "whatsapp_business_account", "entry": [{"id": self.waba_id, "changes": changes}]}
        ).encode()
        made = Webhook(body, f"sha256={hmac.new(self.app_secret.encode(), body, hashlib.sha256).hexdigest()}")
        self.webhooks.append(made)
        self.arrived.set()
        return made

    async def call(self, url: str) -> None:
        """Delivers the webhooks until cancelled, in order; what is not answered 200 is sent again, as Meta does."""
        async with httpx2.AsyncClient(trust_env=False, timeout=10) as client:
            while True:
                while self.webhooks:
                    answered = 0
                    with suppress(httpx2.HTTPError):
                        waiting = self.webhooks[0]
                        answered = (await client.post(url, content=waiting.body, headers=waiting.headers)).status_code
                    if answered == 200:
                        self.webhooks.popleft()
                    else:
                        await trio.sleep(AGAIN_S)
                self.arrived = trio.Event()
                await self.arrived.wait()

    def _incoming(self, who: Human, content: Mapping[str, Any]) -> str:
        ids = self._ids()
        shown = {} if who.hides else {"from": who.number}
        known = {"from_user_id": who.user_id} if who.user_id else {}
        self.push({"contacts": [self._contact(who)], "messages": [{**shown, **known, **ids, **content}]})
        return ids["id"]

    def _contact(self, who: Human) -> dict[str, Any]:
        ids = {**({} if who.hides else {"wa_id": who.number}), **({"user_id": who.user_id} if who.user_id else {})}
        return {"profile": {"name": who.name}, **ids}

    def _ids(self) -> dict[str, str]:
        self._made += 1
        return {"id": f"wamid.{self._made:06}", "timestamp": str(int(self.clock()))}

    def _status(self, one: Sent, status: str, error: Refusal | None = None) -> None:
        found = {"id": one.id, "status": status, "timestamp": str(int(self.clock())), "recipient_id": one.to}
        if token := one.payload.get("biz_opaque_callback_data"):
            found["biz_opaque_callback_data"] = token
        errors = {"errors": [{**error.error(), "title": "no"}]} if error is not None else {}
        self.push({"statuses": [{**found, **errors}]})

    # --- what every call goes through

    def _guarded(self, method: Callable[[Request, Any], Any]) -> Callable[[Request], Any]:
        async def handle(request: Request) -> Response:
            payload: Any = None
            if request.content_type == "application/json":
                payload = json.loads(request.body)
            elif request.content_type == "multipart/form-data":
                payload = read_form(request.headers["content-type"], request.body)
            raw = Raw(method=request.method, path=request.path, payload=payload)
            self.calls.append(raw)
            fault = self._take_fault()
            if fault is Fault.DROP:
                raise Drop
            if fault is Fault.EMPTY:
                return Response(200, b"")
            if fault is Fault.HTML:
                return as_html("<html><body>502 Bad Gateway</body></html>", 502)
            try:
                if fault in (Fault.HTTP_500, Fault.HTTP_503):
                    raise Refusal(131016, "Service temporarily unavailable", 503)
                if self.revoked:
                    raise Refusal(
                        190, "Error validating access token: the session has been invalidated", 401, error_subcode=460
                    )
                if request.headers.get("authorization") != f"Bearer {self.token}":
                    raise Refusal(190, "Invalid OAuth access token", 401)
                response: Response = method(request, payload)
            except Refusal as no:
                raw.code, response = no.code, no.response()
            if fault is Fault.DROP_AFTER:
                raise Drop
            if fault is Fault.HANG:
                await trio.sleep(self.hang_s)
            raw.status = response.status
            return response

        return handle

    def _take_fault(self) -> Fault:
        fault = Fault(self.fault)
        if fault is not Fault.NONE and self.fault_count is not None:
            self.fault_count -= 1
            if self.fault_count <= 0:
                self.fault, self.fault_count = Fault.NONE, None
        return fault

    async def _not_found(self, request: Request) -> Response:
        raw = Raw(method=request.method, path=request.path, payload=None)
        self.calls.append(raw)
        no = Refusal(100, "Unsupported request. Object does not exist or cannot be loaded", error_subcode=33)
        raw.status, raw.code = 400, 100
        return no.response()

    # --- messages

    def _messages(self, request: Request, payload: Any) -> Response:
        if not isinstance(payload, dict) or payload.get("messaging_product") != "whatsapp":
            raise Refusal(100, "The parameter messaging_product is required")
        if "status" in payload:
            return self._mark(payload)
        if self.refuse:
            raise self.refuse.popleft()
        who = self._recipient(payload)
        kind = payload.get("type", "text")
        known = {
            "messaging_product", "recipient_type", "to", "recipient", "type", "context", "biz_opaque_callback_data", kind,
        }  # fmt: skip
        if unknown := payload.keys() - known:
            raise Refusal(100, f"Unexpected key {sorted(unknown)[0]}")
        if len(payload.get("biz_opaque_callback_data", "")) > 512:
            raise Refusal(100, "biz_opaque_callback_data is too long")
        self._spend(who)
        self._content(kind, payload.get(kind))
        open_now = who.wrote_at is not None and self.clock() - who.wrote_at < DAY_S
        if kind != "template" and not open_now:
            raise Refusal(
                131047, "Message failed to send because more than 24 hours have passed since the customer last replied."
            )
        if who.blocked:
            raise Refusal(131026, "Message undeliverable")
        made = Sent(id=self._ids()["id"], to=who.number, at=self.clock(), payload=payload)
        self.sent.append(made)
        if self.fail_later:
            self._status(made, "failed", self.fail_later.popleft())
        else:
            for status in self.statuses:
                self._status(made, status)
        given = payload.get("to") or payload.get("recipient")
        return as_json(
            {
                "messaging_product": "whatsapp",
                "contacts": [{"input": given, "wa_id": who.number}],
                "messages": [{"id": made.id}],
            }
        )

    def _recipient(self, payload: Mapping[str, Any]) -> Human:
        to, user_id = payload.get("to"), payload.get("recipient")
        if (to is None) == (user_id is None):
            raise Refusal(131008, "One of to and recipient is required")
        if to is not None:
            if not isinstance(to, str) or not re.fullmatch(r"\+?[1-9][0-9]{5,14}", to):
                raise Refusal(131009, "Parameter value is not valid: to")
            if to == self.display:
                raise Refusal(131021, "Recipient cannot be sender")
            found = self.people.get(to.removeprefix("+"))
        else:
            if not _USER_ID.fullmatch(str(user_id)):
                raise Refusal(131009, "Parameter value is not valid: recipient")
            found = next((one for one in self.people.values() if one.user_id == user_id), None)
        if found is None:
            raise Refusal(131026, "Message undeliverable")
        return found

    def _spend(self, who: Human) -> None:
        if not self.rate_limits:
            return
        now = self.clock()
        who.places = min(float(PAIR_BURST), who.places + (now - who.filled_at) / PAIR_PER_S)
        who.filled_at = now
        if who.places < 1:
            raise Refusal(131056, "Too many messages sent to this phone number", 400)
        who.places -= 1

    def _content(self, kind: str, part: Any) -> None:
        if not isinstance(part, dict):
            raise Refusal(131008, f"Required parameter is missing: {kind}")
        match kind:
            case "text":
                body = part.get("body")
                if not isinstance(body, str) or not body.strip() or len(body) > 4096:
                    raise Refusal(100, "Param text['body'] must be at most 4096 characters long and not empty")
            case "image" | "audio" | "video" | "document":
                self._file(kind, part)
            case "location":
                if not all(isinstance(part.get(name), int | float) for name in ("latitude", "longitude")):
                    raise Refusal(131009, "Parameter value is not valid: location")
            case "template":
                self._template(part)
            case _:
                raise Refusal(131051, "Message type is not supported")

    def _file(self, kind: str, part: Mapping[str, Any]) -> None:
        media = part.get("id")
        if media not in self.files:
            raise Refusal(131009, "Media ID is not valid")
        allowed = (
            {"id", "caption", "filename"}
            if kind == "document"
            else {"id", "voice"}
            if kind == "audio"
            else {"id", "caption"}
        )
        if unknown := part.keys() - allowed:
            raise Refusal(100, f"Unexpected key {sorted(unknown)[0]}")
        if kind in TAKES and self.types[media] not in TAKES[kind]:
            raise Refusal(131053, f"Unsupported media type {self.types[media]} for {kind}")
        if len(self.files[media].data) > LARGEST[kind]:
            raise Refusal(131053, "Media file size too big")
        if len(part.get("caption", "")) > 1024:
            raise Refusal(100, "Param caption is too long")

    def _template(self, part: Mapping[str, Any]) -> None:
        language = part.get("language", {}).get("code")
        found = next(
            (one for one in self.templates if (one["name"], one["language"]) == (part.get("name"), language)), None
        )
        if found is None:
            raise Refusal(132001, "Template name does not exist in the translation", 404)
        if found["status"] == "PAUSED":
            raise Refusal(132015, "Template is paused due to low quality")
        given = {
            (one["type"], str(one.get("index", ""))): one["parameters"] for one in part.get("components", [])
        }  # fmt: skip
        for one in found["components"]:
            kind = one["type"].lower()
            if kind in ("body", "header"):
                places = _PLACE.findall(one.get("text", ""))
                values = given.pop((kind, ""), [])
                if len(values) != len(places):
                    raise Refusal(132000, f"{kind}: number of localizable_params ({len(values)}) does not match")
                named = [value.get("parameter_name") for value in values]
                if not all(place.isdigit() for place in places) and sorted(map(str, named)) != sorted(places):
                    raise Refusal(100, "Parameter name is missing or not valid")
                if any(re.search(r"[\n\t]| {5}", value.get("text", "")) or not value.get("text") for value in values):
                    raise Refusal(132012, "Parameter format does not match")
            elif kind == "buttons":
                for place, button in enumerate(one["buttons"]):
                    if _PLACE.search(button.get("url", "")) and not given.pop(("button", str(place)), None):
                        raise Refusal(131008, "Button at index needs a parameter")
        if given:
            raise Refusal(132000, "parameters for what is not in the template")

    def _mark(self, payload: Mapping[str, Any]) -> Response:
        if payload["status"] != "read" or not str(payload.get("message_id", "")).startswith("wamid."):
            raise Refusal(100, "Invalid parameter: message_id")
        if payload.get("typing_indicator", {"type": "text"}) != {"type": "text"}:
            raise Refusal(100, "Invalid parameter: typing_indicator")
        self.seen.append(payload)
        return as_json({"success": True})

    # --- files

    def _store(self, file: StoredFile, content_type: str) -> str:
        self._made += 1
        media = f"{1_000_000_000 + self._made}"
        self.files[media], self.types[media] = file, content_type
        return media

    def _upload(self, request: Request, payload: Any) -> Response:
        if not isinstance(payload, dict) or payload.get("messaging_product") != "whatsapp":
            raise Refusal(100, "The parameter messaging_product is required")
        if not isinstance(payload.get("file"), StoredFile) or not payload.get("type"):
            raise Refusal(100, "The parameters file and type are required")
        if not payload["file"].data:
            raise Refusal(131053, "Media file is empty")
        return as_json({"id": self._store(payload["file"], payload["type"])})

    def _media(self, request: Request, payload: Any) -> Response:
        media = request.parts["id"]
        if media not in self.files:
            raise Refusal(100, "Unsupported get request. Object with ID does not exist", error_subcode=33)
        data = self.files[media].data
        return as_json({
            "url": f"{self.base}/files/{media}", "mime_type": self.types[media], "sha256": hashlib.sha256(data).hexdigest(),
            "file_size": len(data), "id": media, "messaging_product": "whatsapp",
        })  # fmt: skip

    def _download(self, request: Request, payload: Any) -> Response:
        media = request.parts["id"]
        if self.redirects and request.path.startswith("/files/"):
            return Response(302, b"", headers=(("Location", f"/elsewhere/{media}"),))
        if media not in self.files:
            return Response(404, b"")
        return Response(200, self.files[media].data, self.types[media])

    # --- the account

    def _number(self, request: Request, payload: Any) -> Response:
        known: dict[str, Any] = {
            "display_phone_number": f"+{self.display}", "verified_name": "June", "quality_rating": self.quality,
            "health_status": self.health, "webhook_configuration": {"application": self.callback} if self.callback else {},
        }  # fmt: skip
        wanted = dict(request.query).get("fields", "").split(",")
        if unknown := set(wanted) - known.keys():
            raise Refusal(100, f"Tried accessing nonexisting field ({sorted(unknown)[0]})")
        return as_json({**{name: known[name] for name in wanted}, "id": self.number_id})

    def _templates(self, request: Request, payload: Any) -> Response:
        query = dict(request.query)
        limit, begin = int(query.get("limit", 25)), int(query.get("after", "0"))
        page = self.templates[begin : begin + limit]
        behind = begin + len(page)
        paging: dict[str, Any] = {"cursors": {"before": str(begin), "after": str(behind)}}
        if behind < len(self.templates):
            paging["next"] = f"{self.base}/next"
        return as_json({"data": page, "paging": paging} if page else {"data": []})

    def _subscribed(self, request: Request, payload: Any) -> Response:
        return as_json(
            {"data": [{"whatsapp_business_api_data": {"id": one, "name": "app"}} for one in sorted(self.subscribed)]}
        )

    def _subscribe(self, request: Request, payload: Any) -> Response:
        self.subscribed.add(self.app_id)
        return as_json({"success": True})

    async def _debug(self, request: Request) -> Response:
        query = dict(request.query)
        asks = request.headers.get("authorization")
        self.calls.append(Raw(method="GET", path=request.path, payload=None))
        if asks not in (f"Bearer {self.token}", f"Bearer {self.app_id}|{self.app_secret}"):
            return Refusal(190, "Invalid OAuth access token", 401).response()
        valid = query.get("input_token") == self.token and not self.revoked
        error = {} if valid else {"error": {"code": 190, "message": "The session has been invalidated"}}
        return as_json({"data": {"app_id": self.app_id, "is_valid": valid, "expires_at": self.expires_at, **error}})

    # --- the page

    async def _page(self, request: Request) -> Response:
        lines = "".join(f"<li>{one.to}: {one.payload.get('type')}</li>" for one in self.sent[-50:])
        return as_html(f"<!doctype html><title>Sandbox WhatsApp</title><h1>Sandbox WhatsApp</h1><ul>{lines}</ul>")


def template(name: str, body: str, language: str = "ru", status: str = "APPROVED", **more: Any) -> dict[str, Any]:
    """A template of the account with a body; `more` are its other fields."""
    return {
        "name": name, "language": language, "status": status, "category": "UTILITY", "id": "1",
        "components": [{"type": "BODY", "text": body}], **more,
    }  # fmt: skip
