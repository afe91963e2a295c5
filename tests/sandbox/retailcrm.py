"""A sandbox RetailCRM, strict about the wire format of API v5: it refuses what the real one refuses.

It owns a make-believe account: its key, users, extension codes and module, and a record of all it was told. It knows
nothing of the gateway. `crm.fault` makes it misbehave (`web.Fault`). The page `/` shows what it received, by call.
Long, because the wire format is spelled out field by field.
"""

import json
import re
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from html import escape
from typing import Any
from urllib.parse import parse_qsl

import trio

from tests.sandbox.retailcrm_records import records_routes
from tests.sandbox.web import Drop, Fault, Request, Response, Site, as_html, as_json

HANGUP_STATUSES = ("answered", "busy", "cancel", "failed", "no answered")
USER_STATUSES = ("free", "busy", "dinner", "break")
RESULTS = ("answered", "busy", "failed", "no answer", "not allowed", "unknown")
PAGE_SIZES = ("20", "50", "100")
KEEP = 100_000
_PHONE = re.compile(r"\+?[\d\s()\-]{3,25}")
_DATE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")

Check = Callable[[Any], str | None]
"""Says what is wrong with a value, or None."""


class Refusal(Exception):
    """An answer that says no."""

    def __init__(self, status: int, message: str, errors: Any = None) -> None:
        super().__init__(message)
        self.response = refusal(status, message, errors)


def refusal(status: int, message: str, errors: Any = None) -> Response:
    """RetailCRM's error envelope."""
    body: dict[str, Any] = {"success": False, "errorMsg": message}
    if errors is not None:
        body["errors"] = errors
    return as_json(body, status)


def text(value: Any) -> str | None:
    """Any string but an empty one."""
    if not isinstance(value, str):
        return "This value should be of type string."
    return None if value else "This value should not be blank."


def phone(value: Any) -> str | None:
    """Digits, a plus before them, and the usual separators."""
    return text(value) or (None if _PHONE.fullmatch(value) else "This value is not valid.")


def number(value: Any) -> str | None:
    """A whole number that is not negative; true and false are no numbers."""
    if isinstance(value, bool) or not isinstance(value, int):
        return "This value should be of type integer."
    return None if value >= 0 else "This value should be greater than or equal to 0."


def flag(value: Any) -> str | None:
    """True or false."""
    return None if isinstance(value, bool) else "This value should be of type boolean."


def date(value: Any) -> str | None:
    """`YYYY-MM-DD HH:MM:SS`, and a date that exists."""
    if not isinstance(value, str) or not _DATE.fullmatch(value):
        return "This value is not a valid datetime."
    try:
        datetime.strptime(value, "%Y-%m-%d %H:%M:%S")  # noqa: DTZ007 - the format carries no zone
    except ValueError:
        return "This value is not a valid datetime."
    return None


def url(value: Any) -> str | None:
    """An absolute http or https address."""
    return text(value) or (None if re.match(r"https?://[^/\s]+", value) else "This value is not a valid URL.")


def logo(value: Any) -> str | None:
    """An absolute address of an SVG."""
    return url(value) or (None if value.split("?")[0].endswith(".svg") else "The logo must be an SVG image.")


def one_of(*values: str) -> Check:
    """One of an enum's values."""
    return lambda value: None if value in values else "The value you selected is not a valid choice."


def list_of(check: Check) -> Check:
    """A list, every item of which passes."""

    def checked(value: Any) -> str | None:
        if not isinstance(value, list):
            return "This value should be of type array."
        return next((error for item in value if (error := check(item))), None)

    return checked


def entity(fields: Mapping[str, Check], required: tuple[str, ...] = ()) -> Check:
    """An object with these fields and no others; the first error is told with its field."""

    def checked(value: Any) -> str | None:
        errors = problems(value, fields, required)
        return next((f"{name}: {error}" for name, error in errors.items()), None)

    return checked


def problems(value: Any, fields: Mapping[str, Check], required: tuple[str, ...]) -> dict[str, str]:
    """Everything wrong with an object, by field."""
    if not isinstance(value, dict):
        return {"": "This value should be of type object."}
    errors = {name: "This field is missing." for name in required if name not in value}
    for name, item in value.items():
        error = fields[name](item) if name in fields else "This field was not expected."
        if error:
            errors[name] = error
    return errors


def user_id(value: Any) -> str | None:
    """A user's id: an integer, or its digits."""
    return None if isinstance(value, str) and value.isdigit() else number(value)


EVENT: Mapping[str, Check] = {
    "phone": phone,
    "type": one_of("in", "out", "hangup"),
    "codes": list_of(text),
    "userIds": list_of(number),
    "hangupStatus": one_of(*HANGUP_STATUSES),
    "externalPhone": text,
    "callExternalId": text,
    "webAnalyticsData": entity({"campaign": entity({"name": text, "code": text}), "queryString": text}),
    "site": text,
}
CALL: Mapping[str, Check] = {
    "date": date,
    "type": one_of("in", "out"),
    "phone": phone,
    "code": text,
    "userId": number,
    "result": one_of(*RESULTS),
    "duration": number,
    "durationWaiting": number,
    "externalId": text,
    "recordUrl": url,
    "externalPhone": text,
    "site": text,
    "source": entity(dict.fromkeys(("source", "medium", "campaign", "keyword", "content"), text)),
    "clientId": text,
}
TELEPHONY: Mapping[str, Check] = {
    "makeCallUrl": url,
    "changeUserStatusUrl": url,
    "allowEdit": flag,
    "inputEventSupported": flag,
    "outputEventSupported": flag,
    "hangupEventSupported": flag,
    "additionalCodes": list_of(entity({"userId": user_id, "code": text}, ("userId", "code"))),
    "externalPhones": list_of(entity({"siteCode": text, "externalPhone": text}, ("siteCode", "externalPhone"))),
}
MODULE: Mapping[str, Check] = {
    "code": text,
    "integrationCode": text,
    "active": flag,
    "freeze": flag,
    "native": flag,
    "name": text,
    "logo": logo,
    "clientId": text,
    "baseUrl": url,
    "actions": entity({"activity": text}),
    "accountUrl": url,
    "availableCountries": list_of(text),
    "integrations": entity(
        {
            "telephony": entity(TELEPHONY),
            "mgTransport": entity({"webhookUrl": url, "refreshToken": flag, "actions": lambda value: None}),
        }
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """One thing the account was told: an accepted event, or one accepted call of an upload."""

    at: float
    wall: float
    client_id: str | None
    data: dict[str, Any]


@dataclass(slots=True, kw_only=True)
class Raw:
    """One request as it came, the key left out, and the status it was answered with (None: not answered)."""

    at: float
    wall: float
    method: str
    path: str
    query: tuple[tuple[str, str], ...]
    body: bytes
    status: int | None = None


@dataclass(slots=True)
class Story:
    """What the account knows of one call, for the page."""

    rings: list[Mapping[str, Any]] = field(default_factory=list)
    hangup: Mapping[str, Any] | None = None
    upload: Mapping[str, Any] | None = None
    wall: float = 0.0


_SALES, _SUPPORT = {"id": 1, "name": "Продажи", "code": "sales"}, {"id": 2, "name": "Поддержка", "code": "support"}
DEFAULT_USERS: tuple[dict[str, Any], ...] = (
    {"id": 18, "firstName": "Анна", "lastName": "Кузьмина", "email": "anna@june.example", "groups": [_SALES]},
    {"id": 19, "firstName": "Иван", "lastName": "Петров", "email": "ivan@june.example", "groups": [_SALES, _SUPPORT]},
    {"id": 22, "firstName": "Ольга", "lastName": "Мороз", "email": "olga@june.example", "groups": [_SUPPORT]},
    {"id": 23, "firstName": "Глеб", "lastName": "Орлов", "email": "gleb@june.example", "active": False},
)


class RetailCrm:
    """One account. `base = await nursery.start(crm.serve, port)`; then look at `events`, `uploads`, `requests`."""

    def __init__(
        self,
        api_key: str = "sandbox-key",
        *,
        name: str = "RetailCRM",
        codes: set[str] | None = None,
        users: tuple[dict[str, Any], ...] = DEFAULT_USERS,
        rate_limits: bool = True,
    ) -> None:
        self.api_key = api_key
        self.name = name
        self.codes = codes
        """The extension codes that users have; None takes any. Registering a module replaces it with the module's."""
        self.users = [dict(user) for user in users]
        self.rate_limits = rate_limits
        self.clock: Callable[[], float] = time.monotonic
        """What the limits go by."""
        self.telephony_enabled = True
        self.fault: Fault | str = Fault.NONE
        self.fault_count: int | None = None
        """How many more requests the fault is for; None: until it is taken back."""
        self.hang_s = 30.0
        self.events: list[Heard] = []
        self.uploads: list[Heard] = []
        self.requests: deque[Raw] = deque(maxlen=KEEP)
        self.repeats: Counter[str] = Counter()
        """How often an accepted event or uploaded call came again exactly as before, by its JSON."""
        self.duplicates: list[str] = []
        """External ids that were uploaded again."""
        self.listeners: list[Callable[[str, Mapping[str, Any]], None]] = []
        """Told "event" or "call" and its data whenever one is accepted, again too."""
        self.asked_at = ""
        """The Host header of the request that is being obeyed."""
        self.modules: dict[str, dict[str, Any]] = {}
        self.managers: dict[str, dict[str, Any]] = {}
        """Answers of `telephony/manager` by the digits of a phone."""
        self.scopes = ["integration_read", "integration_write", "telephony_read", "telephony_write", "user_read"]
        self.customers: list[dict[str, Any]] = []
        self.orders: dict[int, dict[str, Any]] = {}
        self.notes: list[dict[str, Any]] = []
        """On customers."""
        self.violations: list[str] = []
        self.denied: tuple[str, ...] = ()
        """Beginnings of paths that the key has no right for."""
        self.required = ""
        """A custom field without which no customer and no order is made, such as customFields.link."""
        self._known: set[str] = set()
        self._seen: set[str] = set()
        self._stories: OrderedDict[str, Story] = OrderedDict()
        self._spent: dict[str, deque[float]] = {"telephony": deque(), "": deque()}
        api = {
            ("GET", "/api/credentials"): self._credentials,
            ("GET", "/api/api-versions"): self._versions,
            ("GET", "/api/v5/users"): self._users,
            ("POST", "/api/v5/users/{id}/status"): self._set_status,
            ("GET", "/api/v5/telephony/manager"): self._manager,
            ("POST", "/api/v5/telephony/call/event"): self._event,
            ("POST", "/api/v5/telephony/calls/upload"): self._upload,
            ("POST", "/api/v5/integration-modules/{code}/edit"): self._edit_module,
            ("GET", "/api/v5/integration-modules/{code}"): self._module,
            **records_routes(self),
        }
        self.site = Site(
            {("GET", "/"): self._page, **{route: self._guarded(handler) for route, handler in api.items()}},
            self._guarded(self._no_such_method),
        )

    def add_customer(self, phone: str, name: str) -> int:
        """Somebody who was there before."""
        number = 5000 + len(self.customers)
        self.customers.append({"id": number, "firstName": name, "phones": [{"number": phone}]})
        return number

    @property
    def base(self) -> str:
        """The base URL, once it serves."""
        return self.site.base

    async def serve(self, port: int = 0, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        """Runs until cancelled; starts with the account's base URL."""
        await self.site.serve(port, task_status=task_status)

    # --- what every call of the API goes through

    def _guarded(self, handler: Callable[[Request], dict[str, Any]]) -> Callable[[Request], Any]:
        async def guarded(request: Request) -> Response:
            raw = Raw(
                at=request.at, wall=request.wall, method=request.method, path=request.path,
                query=request.query, body=request.body,
            )  # fmt: skip
            self.requests.append(raw)
            fault = self._take_fault()
            if (spoiled := self._spoil(fault, request)) is not None:
                raw.status = spoiled.status
                return spoiled
            self.asked_at = request.headers.get("host", "")
            try:
                self._admit(request)
                response = as_json({"success": True, **handler(request)})
            except Refusal as no:
                response = no.response
            if fault is Fault.DROP_AFTER:
                raise Drop
            if fault is Fault.HANG:
                await trio.sleep(self.hang_s)
            raw.status = response.status
            return response

        return guarded

    def _take_fault(self) -> Fault:
        fault = Fault(self.fault)
        if fault is not Fault.NONE and self.fault_count is not None:
            self.fault_count -= 1
            if self.fault_count <= 0:
                self.fault, self.fault_count = Fault.NONE, None
        return fault

    def _spoil(self, fault: Fault, request: Request) -> Response | None:
        """The answer of a fault that keeps the request from being obeyed."""
        match fault:
            case Fault.DROP:
                raise Drop
            case Fault.HTML:
                return as_html(
                    "<html><body>Account does not exist</body></html>", 404 if request.method == "GET" else 405
                )
            case Fault.EMPTY:
                return Response(200, b"")
            case Fault.SUCCESS_FALSE:
                return refusal(200, "Telephony not enabled or not supports calls upload")
            case Fault.HTTP_500:
                return refusal(500, "Internal server error")
            case Fault.HTTP_503:
                return refusal(503, "Rate limit exceeded")
        return None

    def _admit(self, request: Request) -> None:
        key = request.headers.get("x-api-key")
        if not key:
            raise Refusal(403, '"apiKey" is missing.')
        if key != self.api_key:
            raise Refusal(403, 'Wrong "apiKey" value.')
        if self.denied and request.path.startswith(self.denied):
            raise Refusal(403, "Access denied.")
        bucket, limit = ("telephony", 40) if "/telephony/" in request.path else ("", 10)
        spent = self._spent[bucket]
        now = self.clock()
        while spent and spent[0] <= now - 1.0:
            spent.popleft()
        if self.rate_limits and len(spent) >= limit:
            raise Refusal(503, "Rate limit exceeded")
        spent.append(now)

    def form_of(self, request: Request, name: str, *beside: str) -> tuple[Any, dict[str, str]]:
        """The JSON of the one form field that matters, and the plain fields beside it."""
        fields: dict[str, str] = {}
        if request.content_type == "application/x-www-form-urlencoded":
            try:
                pairs = parse_qsl(request.body.decode("ascii"), keep_blank_values=True, errors="strict")
            except ValueError:
                raise Refusal(400, "Errors in the input parameters") from None
            for key, value in pairs:
                if key in fields or key not in (name, *beside):
                    raise Refusal(400, "Errors in the input parameters", {key: "This field was not expected."})
                fields[key] = value
        if not fields.get(name):
            raise Refusal(400, f"Parameter '{name}' is missing")
        try:
            return json.loads(fields[name]), fields
        except ValueError:
            raise Refusal(400, "Errors in the input parameters", {name: "This value is not valid JSON."}) from None

    # --- telephony

    def _event(self, request: Request) -> dict[str, Any]:
        event, form = self.form_of(request, "event", "clientId")
        errors = problems(event, EVENT, ("phone", "type"))
        if not errors and event["type"] == "hangup" and "hangupStatus" not in event:
            errors["hangupStatus"] = "This field is missing."
        if not errors and event["type"] != "hangup":
            if "hangupStatus" in event:
                errors["hangupStatus"] = "This field was not expected."
            if not event.get("codes") and not event.get("userIds"):
                errors["codes"] = "This value should not be blank."
        if errors:
            raise Refusal(400, "Errors in the entity format", errors)
        self._telephony()
        self._note("event", event)
        self.events.append(
            Heard(at=request.at, wall=request.wall, client_id=form.get("clientId"), data=event)
        )  # fmt: skip
        story = self._story(event.get("callExternalId") or event["phone"], request.wall)
        if event["type"] == "hangup":
            story.hangup = event
        else:
            story.rings.append(event)
        answer: dict[str, Any] = {}
        if self.codes is not None and (unknown := [code for code in event.get("codes", ()) if code not in self.codes]):
            answer["notExistCodes"] = unknown
        ids = {user["id"] for user in self.users}
        if strangers := [user for user in event.get("userIds", ()) if user not in ids]:
            answer["notExistUsers"] = strangers
        return answer

    def _upload(self, request: Request) -> dict[str, Any]:
        calls, form = self.form_of(request, "calls", "clientId")
        if not isinstance(calls, list) or not calls:
            raise Refusal(400, "Errors in the input parameters", {"calls": "This value should be of type array."})
        if len(calls) > 50:
            raise Refusal(
                400, "Errors in the input parameters", {"calls": "This collection should contain 50 elements or less."}
            )
        errors = {
            f"[{index}].{name}".rstrip("."): error
            for index, call in enumerate(calls)
            for name, error in problems(call, CALL, ("date", "type", "phone", "result")).items()
        }
        if errors:
            raise Refusal(400, "Errors in the entity format", errors)
        self._telephony()
        duplicates: list[str] = []
        processed = 0
        for call in calls:
            self._note("call", call)
            known = call.get("externalId")
            if known in self._known:
                duplicates.append(known)
                continue
            processed += 1
            if known:
                self._known.add(known)
            self.uploads.append(Heard(at=request.at, wall=request.wall, client_id=form.get("clientId"), data=call))
            self._story(known or f"{call['phone']} {call['date']}", request.wall).upload = call
        self.duplicates += duplicates
        return {"processedCallsCount": processed, "duplicateCalls": duplicates}

    def _manager(self, request: Request) -> dict[str, Any]:
        query = dict(request.query)
        if not query.get("phone"):
            raise Refusal(400, "Parameter 'phone' is missing")
        for name in ("details", "ignoreStatus"):
            if query.get(name, "0") not in ("0", "1"):
                raise Refusal(400, "Errors in the input parameters", {name: "This value is not valid."})
        answer = dict(self.managers.get(re.sub(r"\D", "", query["phone"]), {"manager": None, "customer": None}))
        if query.get("details") != "1":
            answer.pop("links", None)
        return answer

    def _telephony(self) -> None:
        if not self.telephony_enabled:
            raise Refusal(400, "Telephony not enabled")

    def _note(self, kind: str, data: Mapping[str, Any]) -> None:
        as_text = f"{kind} {json.dumps(data, sort_keys=True, ensure_ascii=False)}"
        if as_text in self._seen:
            self.repeats[as_text] += 1
        self._seen.add(as_text)
        for listener in self.listeners:
            listener(kind, data)
        for full in (self.events, self.uploads):
            if len(full) >= KEEP:
                del full[: KEEP // 2]

    # --- the rest of the account

    def _credentials(self, request: Request) -> dict[str, Any]:
        return {"siteAccess": "access_full", "sitesAvailable": ["shop"], "scopes": self.scopes, "credentials": []}

    def _versions(self, request: Request) -> dict[str, Any]:
        return {"versions": ["3.0", "4.0", "5"]}

    def _users(self, request: Request) -> dict[str, Any]:
        query = dict(request.query)
        size, page = query.get("limit", "20"), query.get("page", "1")
        errors = {}
        if size not in PAGE_SIZES:
            errors["limit"] = "The value you selected is not a valid choice."
        if not page.isdigit() or page == "0":
            errors["page"] = "This value is not valid."
        if errors:
            raise Refusal(400, "Errors in the input parameters", errors)
        if (active := query.get("filter[active]", "")) not in ("", "0", "1"):
            errors["filter[active]"] = "This value is not valid."
        if unexpected := query.keys() - {"limit", "page", "filter[active]"}:
            errors |= dict.fromkeys(unexpected, "This field was not expected.")
        if errors:
            raise Refusal(400, "Errors in the input parameters", errors)
        everyone = [
            {"active": True, "isAdmin": False, "isManager": True, "status": "free", "groups": [], **user}
            for user in self.users
            if not active or user.get("active", True) == (active == "1")
        ]
        first = (int(page) - 1) * int(size)
        return {
            "users": everyone[first : first + int(size)],
            "pagination": {
                "limit": int(size), "totalCount": len(everyone), "currentPage": int(page),
                "totalPageCount": -(-len(everyone) // int(size)),
            },
        }  # fmt: skip

    def _set_status(self, request: Request) -> dict[str, Any]:
        fields: dict[str, str] = {}
        if request.content_type == "application/x-www-form-urlencoded":
            fields = dict(parse_qsl(request.body.decode("ascii", "replace"), keep_blank_values=True))
        if "status" not in fields:
            raise Refusal(400, "Parameter 'status' is missing")
        if fields.keys() != {"status"} or fields["status"] not in USER_STATUSES:
            raise Refusal(400, "Errors in the input parameters", {"status": "This value is not valid."})
        user = next((user for user in self.users if str(user["id"]) == request.parts["id"]), None)
        if user is None:
            raise Refusal(404, "Not found")
        user["status"] = fields["status"]
        return {}

    def _edit_module(self, request: Request) -> dict[str, Any]:
        code = request.parts["code"]
        module, _ = self.form_of(request, "integrationModule")
        errors = problems(module, MODULE, ("code", "integrationCode", "name", "clientId", "baseUrl"))
        if not errors and module["code"] != code:
            errors["code"] = "This value should be equal to the code of the address."
        if errors:
            raise Refusal(400, "Errors in the entity format", errors)
        self.modules[code] = module
        codes = module.get("integrations", {}).get("telephony", {}).get("additionalCodes", [])
        self.codes = {str(item["code"]) for item in codes}
        strangers = [
            int(item["userId"]) for item in codes if int(item["userId"]) not in {user["id"] for user in self.users}
        ]
        return {"info": {"notExistUsersIds": strangers} if strangers else []}

    def _module(self, request: Request) -> dict[str, Any]:
        module = self.modules.get(request.parts["code"])
        if module is None:
            raise Refusal(404, "Not found")
        return {"integrationModule": module, "info": []}

    def _no_such_method(self, request: Request) -> dict[str, Any]:
        raise Refusal(404, "API method not found")

    # --- the page

    def _story(self, call: str, wall: float) -> Story:
        story = self._stories.setdefault(call, Story())
        story.wall = wall
        self._stories.move_to_end(call)
        while len(self._stories) > 200:
            self._stories.popitem(last=False)
        return story

    def _module_line(self, module: Mapping[str, Any]) -> str:
        """A module, with the link by which people open its pages from here."""
        state = "frozen" if module.get("freeze") else "on" if module.get("active", True) else "off"
        link = f'<a rel="noreferrer" href="{escape(module.get("accountUrl", ""))}">open</a>'
        return f"<p>Module {escape(module['name'])}: {state}. {link}</p>"

    async def _page(self, request: Request) -> Response:
        rows = []
        for call, story in reversed(list(self._stories.items())[-60:]):
            last = story.upload or story.hangup or (story.rings[-1] if story.rings else {})
            rings = "<br>".join(
                f"{escape(ring['type'])} &rarr; {escape(', '.join([*ring.get('codes', ()), *map(str, ring.get('userIds', ()))]))}"
                for ring in story.rings
            )
            hangup = escape(str(story.hangup["hangupStatus"])) if story.hangup else ""
            upload = ""
            if story.upload:
                reported = story.upload
                upload = f"{escape(reported['result'])}, {reported.get('duration', 0)} s, waited {reported.get('durationWaiting', 0)} s"
                if reported.get("recordUrl"):
                    upload += ", recording"
            cells = (
                time.strftime("%H:%M:%S", time.localtime(story.wall)),
                escape(str(last.get("phone", ""))),
                rings,
                hangup,
                upload,
                escape(call),
            )
            rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
        return as_html(
            f"""<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="2">
<meta name="viewport" content="width=device-width"><title>Sandbox {escape(self.name)}</title>
<style>body{{font:15px/1.45 system-ui;margin:1.5rem;color:#1d2530}}table{{border-collapse:collapse;width:100%}}
td,th{{text-align:left;padding:.35rem .8rem .35rem 0;border-bottom:1px solid #dde3ea;vertical-align:top}}</style>
<h1>Sandbox {escape(self.name)}</h1><p>{len(self.events)} events, {len(self.uploads)} calls uploaded,
{len(self.customers)} customers, {len(self.orders)} orders, {len(self.notes)} notes,
{sum(self.repeats.values())} exact repeats, {len(self.duplicates)} duplicate uploads,
{sum(1 for raw in self.requests if raw.status and raw.status >= 400)} requests refused.
Extension codes: {escape(", ".join(sorted(self.codes))) if self.codes else "any" if self.codes is None else "none"}.</p>
{"".join(self._module_line(module) for module in self.modules.values())}
<table><tr><th>last heard<th>phone<th>rings<th>hangup<th>call log<th>call</tr>{"".join(rows)}</table></html>"""
        )
