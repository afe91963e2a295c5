"""A sandbox HubSpot account, strict about the REST API: it refuses what the real one refuses, in the same shapes.

It owns a make-believe account: contacts, calls, tasks, notes, deals, line items with their properties and associations, owners, a
pipeline; a private app's token and an app with OAuth. It knows nothing of the gateway. New records are found by searches only
after `lag_s`. `fault` makes it misbehave (`web.Fault`), `violations` lists what a well-behaved client never does. The page `/`
shows what it holds. Source: the API reference of v3, limits included. Long, because the refusals are spelled out one by one.
"""

import json
import re
import secrets
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from typing import Any
from urllib.parse import parse_qsl, urlencode

import phonenumbers
import trio

from tests.sandbox.web import Drop, Fault, Request, Response, Site, as_html, as_json

BURST, BURST_S, SEARCHES_PER_S = 100, 10.0, 5
KINDS = ("contacts", "calls", "tasks", "notes", "deals", "line_items")
TO_CONTACT = {"calls": 194, "tasks": 204, "notes": 202, "deals": 3}
TO_DEAL = {"line_items": 20}
OUTCOMES = {
    "Busy": "9d9162e7-6cf3-4944-bf63-4dff82258764", "Connected": "f240bbac-87c9-4f6e-bf70-924b57d47db7",
    "Left voicemail": "b2cf5968-551e-4856-9783-52b3da59a7d0", "No answer": "73a0d17f-1163-4015-bdd5-ec830791da20",
}  # fmt: skip
STATUSES = (
    "BUSY", "CALLING_CRM_USER", "CANCELED", "COMPLETED", "CONNECTING", "FAILED", "IN_PROGRESS", "NO_ANSWER", "QUEUED", "RINGING",
)  # fmt: skip
SCOPES = (
    "crm.objects.contacts.read", "crm.objects.contacts.write", "crm.objects.owners.read", "crm.objects.deals.read",
    "crm.objects.deals.write", "crm.objects.line_items.read", "crm.objects.line_items.write", "crm.schemas.contacts.read",
    "crm.schemas.contacts.write", "crm.schemas.deals.write",
)  # fmt: skip
OWNERS: tuple[dict[str, Any], ...] = (
    {"id": "101", "firstName": "Иван", "lastName": "Петров", "email": "ivan@june.example", "userId": 9001},
    {"id": "102", "firstName": "Анна", "lastName": "Кузьмина", "email": "anna@june.example", "userId": 9002, "teams": [{"id": "1", "name": "Sales", "primary": True}]},
    {"id": "103", "firstName": "Ольга", "lastName": "Мороз", "email": "olga@june.example", "userId": 9003},
    {"id": "104", "firstName": "Глеб", "lastName": "Орлов", "email": "gleb@june.example", "userId": 9004, "archived": True},
)  # fmt: skip
_OPERATORS = {"EQ", "NEQ", "LT", "LTE", "GT", "GTE", "BETWEEN", "IN", "NOT_IN", "HAS_PROPERTY", "NOT_HAS_PROPERTY", "CONTAINS_TOKEN", "NOT_CONTAINS_TOKEN"}  # fmt: skip


def _defaults(missed: bool) -> dict[str, dict[str, dict[str, Any]]]:
    """The properties of each kind: type, options, and what cannot be written."""
    text: dict[str, Any] = {"type": "string"}
    fixed: dict[str, Any] = {"type": "string", "fixed": True}
    number: dict[str, Any] = {"type": "number"}

    def choice(*values: str) -> dict[str, Any]:
        return {"type": "enumeration", "options": values}

    same = {"hs_object_id": fixed, "createdate": {"type": "datetime", "fixed": True}, "hs_createdate": {"type": "datetime", "fixed": True},
            "hubspot_owner_id": {"type": "enumeration"}}  # fmt: skip
    searchable = {f"hs_searchable_calculated_{one}": fixed for one in ("phone_number", "mobile_number")}
    moment = {"hs_timestamp": {"type": "datetime"}}
    return {
        "contacts": {**same, **searchable, **dict.fromkeys(("firstname", "lastname", "phone", "mobilephone", "email", "company", "jobtitle"), text),
                     "lifecyclestage": choice("subscriber", "lead", "customer")},
        "calls": {**same, **moment, "hs_call_direction": choice("INBOUND", "OUTBOUND"), "hs_call_duration": number,
                  "hs_call_status": choice(*STATUSES, *(("MISSED",) if missed else ())), "hs_call_disposition": {"type": "enumeration"},
                  **dict.fromkeys(("hs_call_from_number", "hs_call_to_number", "hs_call_title", "hs_call_body", "hs_call_recording_url",
                                   "hs_call_external_id", "hs_activity_type"), text),
                  "hs_call_source": choice("INTEGRATIONS_PLATFORM")},
        "tasks": {**same, **moment, "hs_task_subject": text, "hs_task_body": text, "hs_task_status": choice("NOT_STARTED", "COMPLETED"),
                  "hs_task_type": choice("CALL", "EMAIL", "TODO"), "hs_task_priority": choice("LOW", "MEDIUM", "HIGH")},
        "notes": {**same, **moment, "hs_note_body": text},
        "deals": {**same, "dealname": text, "amount": number, "pipeline": {"type": "enumeration"}, "dealstage": {"type": "enumeration"},
                  "deal_currency_code": text, "description": text},
        "line_items": {**same, "name": text, "quantity": number, "price": number, "hs_sku": text},
    }  # fmt: skip


class Refusal(Exception):
    """An answer that says no."""

    def __init__(self, status: int, category: str, said: str, *parts: dict[str, Any], **more: Any) -> None:
        super().__init__(said)
        self.status, self.category, self.said, self.parts, self.more = status, category, said, parts, more

    def body(self) -> dict[str, Any]:
        """As it stands in an answer, or in the errors of a batch."""
        body = {
            "status": "error",
            "message": self.said,
            "correlationId": secrets.token_hex(8),
            "category": self.category,
            **self.more,
        }
        return {**body, "errors": list(self.parts)} if self.parts else body


@dataclass(slots=True)
class Record:
    """Something there."""

    id: str
    properties: dict[str, str]
    at: float
    """By the sandbox's clock, when it was made."""
    made_ms: int
    contacts: list[str] = field(default_factory=list)
    deals: list[str] = field(default_factory=list)
    archived: bool = False


class HubSpot:
    """One account. `base = await nursery.start(account.serve)`; then look at `objects`, `violations`."""

    CLIENT_ID, CLIENT_SECRET = "5a1b2c3d-0000-4444-8888-0123456789ab", "the-secret-of-the-app-0123456789"

    def __init__(
        self, token: str = "", *, name: str = "HubSpot", owners: tuple[dict[str, Any], ...] = OWNERS, limits: bool = True,
        unique_calls: bool = True, missed: bool = False, lag_s: float = 0.3, country: str = "BY",
    ) -> None:  # fmt: skip
        self.token = token or f"pat-eu1-{secrets.token_hex(8)}"
        self.name = name
        self.owners = {str(one["id"]): dict(one) for one in owners}
        self.limits = limits
        self.unique_calls = unique_calls
        """Whether calls may have properties with unique values: documents do not say."""
        self.lag_s = lag_s
        self.country = country
        self.clock: Callable[[], float] = time.monotonic
        self.scopes = list(SCOPES)
        self.fault: Fault | str = Fault.NONE
        self.fault_count: int | None = None
        self.faulty = ""
        """The only requests that the fault is for, such as "POST calls"; empty: all."""
        self.hang_s = 30.0
        self.names_properties = True
        """Whether a refusal names the properties apart from its sentence."""
        self.trace_results = True
        """Whether the results of a batch bear their trace ids."""
        self.required: set[str] = set()
        """Properties without which no contact is made."""
        self.daily_left: int | None = None
        self.time_zone = "Europe/Minsk"
        self.others = 0
        """Requests of the last ten seconds that somebody else has made by the same app."""
        self.objects: dict[str, dict[str, Record]] = {kind: {} for kind in KINDS}
        self.properties = _defaults(missed)
        self.groups: dict[str, set[str]] = {kind: {f"{kind}_information"} for kind in KINDS}
        self.requests: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.violations: list[str] = []
        self.codes: set[str] = set()
        self.access, self.refresh = "", ""
        self.exchanges = 0
        self.redirect_uri = ""
        """What stands in the app."""
        self._times: deque[float] = deque()
        self._searches: deque[float] = deque()
        self._ids = 300
        routes: dict[tuple[str, str], Callable[[Request, dict[str, Any]], Any]] = {
            ("GET", "/crm/v3/owners"): self._owners,
            ("GET", "/crm/v3/owners/"): self._owners, ("GET", "/account-info/v3/details"): self._details,
            ("GET", "/calling/v1/dispositions"): self._dispositions, ("GET", "/crm/v3/pipelines/deals"): self._pipelines,
            ("GET", "/crm/v3/properties/{kind}"): self._list_properties, ("GET", "/crm/v3/properties/{kind}/{name}"): self._property,
            ("POST", "/crm/v3/properties/{kind}"): self._make_property, ("POST", "/crm/v3/properties/{kind}/groups"): self._make_group,
            ("GET", "/crm/v3/objects/{kind}"): self._list, ("POST", "/crm/v3/objects/{kind}"): self._create,
            ("POST", "/crm/v3/objects/{kind}/search"): self._search, ("POST", "/crm/v3/objects/{kind}/batch/create"): self._batch_create,
            ("POST", "/crm/v3/objects/{kind}/batch/archive"): self._batch_archive,
            ("POST", "/crm/v3/objects/{kind}/batch/read"): self._batch_read,
            ("GET", "/crm/v4/objects/deals/{id}/associations/line_items"): self._items_of,
            ("GET", "/crm/v3/objects/{kind}/{id}"): self._get, ("PATCH", "/crm/v3/objects/{kind}/{id}"): self._patch,
            ("DELETE", "/crm/v3/objects/{kind}/{id}"): self._archive,
        }  # fmt: skip
        self.site = Site(
            {
                ("GET", "/"): self._page, ("GET", "/oauth/authorize"): self._authorize, ("POST", "/oauth/v1/token"): self._token,
                **{place: self._handler(run) for place, run in routes.items()},
            },
            self._nothing,
        )  # fmt: skip

    @property
    def base(self) -> str:
        """The address, once it serves."""
        return self.site.base

    async def serve(self, port: int = 0, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        """Runs until cancelled; starts with the address."""
        await self.site.serve(port, task_status=task_status)

    def add(self, kind: str, **properties: str) -> str:
        """Something that was there before, however it is: no rule is applied."""
        record = self._store(kind, dict(properties))
        record.at = -1e9
        return record.id

    def add_contact(self, phone: str, owner: str = "", **more: str) -> str:
        """A person that was there before."""
        return self.add("contacts", phone=phone, **({"hubspot_owner_id": owner} if owner else {}), **more)

    def all(self, kind: str) -> list[Record]:
        """What there is of a kind, without what was archived."""
        return [one for one in self.objects[kind].values() if not one.archived]

    # --- what every request goes through

    def _handler(self, run: Callable[[Request, dict[str, Any]], Any]) -> Callable[[Request], Any]:
        async def handle(request: Request) -> Response:
            kind = request.parts.get("kind", request.path.rpartition("/")[2])
            if "/properties/" in request.path:
                kind = f"properties/{kind}"
            elif "/batch/" in request.path:
                kind = f"{kind}/batch"
            self.requests[f"{request.method} {kind}"] += 1
            fault = self._take_fault(f"{request.method} {kind}{'/search' if request.path.endswith('/search') else ''}")
            if fault is Fault.DROP:
                raise Drop
            spoiled = {
                Fault.HTML: as_html("<html><body>We'll be right back</body></html>", 200), Fault.EMPTY: Response(200, b""),
                Fault.HTTP_500: as_json({"status": "error", "message": "internal error", "category": "INTERNAL_ERROR"}, 500),
                Fault.HTTP_503: as_html("<html>503</html>", 503),
                Fault.SUCCESS_FALSE: as_json({"status": "error", "message": "There was a problem with the request."}, 200),
            }.get(fault)  # fmt: skip
            if spoiled is not None:
                return spoiled
            response = self._answer(request, run)
            if fault is Fault.DROP_AFTER:
                raise Drop
            if fault is Fault.HANG:
                await trio.sleep(self.hang_s)
            return response

        return handle

    def _take_fault(self, what: str) -> Fault:
        fault = Fault(self.fault)
        if fault is Fault.NONE or (self.faulty and self.faulty != what):
            return Fault.NONE
        if self.fault_count is not None:
            self.fault_count -= 1
            if self.fault_count <= 0:
                self.fault, self.fault_count = Fault.NONE, None
        return fault

    def _answer(self, request: Request, run: Callable[[Request, dict[str, Any]], Any]) -> Response:
        search = request.path.endswith("/search")
        headers: tuple[tuple[str, str], ...] = ()
        try:
            self._authenticate(request)
            headers = self._count(search=search)
            body: Any = {}
            if request.method in ("POST", "PATCH", "PUT"):
                if request.content_type != "application/json":
                    raise Refusal(415, "UNSUPPORTED_MEDIA_TYPE", "Content-Type must be application/json")
                try:
                    body = json.loads(request.body)
                except ValueError:
                    raise Refusal(400, "VALIDATION_ERROR", "Invalid input JSON on line 1, column 1") from None
                if not isinstance(body, dict):
                    raise Refusal(400, "VALIDATION_ERROR", "Invalid input JSON")
            self._scope(request)
            answer = run(request, body)
        except Refusal as no:
            self.refused[no.category] += 1
            return as_json(no.body(), no.status, headers)
        if answer is None:
            return Response(204, b"", "application/json", headers)
        status, value = answer if isinstance(answer, tuple) else (200, answer)
        return as_json(value, status, headers)

    def _authenticate(self, request: Request) -> None:
        given = request.headers.get("authorization", "")
        if any("pat-" in value or value == self.access for _, value in request.query if value):
            self.violations.append("a token in an address")
        scheme, _, token = given.partition(" ")
        if scheme == "Bearer" and token and (token == self.token or (self.access and token == self.access)):
            return
        if self.access and token.startswith("access-"):
            raise Refusal(
                401, "EXPIRED_AUTHENTICATION", "The OAuth token used to make this call expired 5 minute(s) ago."
            )
        raise Refusal(
            401,
            "INVALID_AUTHENTICATION",
            "Authentication credentials not found. This API supports OAuth 2.0 authentication",
        )

    def _count(self, *, search: bool) -> tuple[tuple[str, str], ...]:
        now = self.clock()
        times, per_s, most = (self._searches, 1.0, SEARCHES_PER_S) if search else (self._times, BURST_S, BURST)
        while times and times[0] + per_s <= now:
            times.popleft()
        if self.daily_left is not None:
            if self.daily_left <= 0:
                raise Refusal(
                    429, "RATE_LIMITS", "You have reached your daily limit.", errorType="RATE_LIMIT", policyName="DAILY"
                )
            self.daily_left -= 1
        used = len(times) + (0 if search else self.others)
        if self.limits and used >= most:
            self.violations.append(f"over the limit of {'searches' if search else 'requests'}")
            policy = "SECONDLY" if search else "TEN_SECONDLY_ROLLING"
            said = f"You have reached your {policy.lower()} limit."
            raise Refusal(429, "RATE_LIMITS", said, errorType="RATE_LIMIT", policyName=policy)
        times.append(now)
        if search:
            return ()
        left = max(0, most - used - 1) if self.limits else most
        daily = self.daily_left if self.daily_left is not None else 249_000
        named = {
            "Daily": 250_000,
            "Daily-Remaining": daily,
            "Interval-Milliseconds": 10_000,
            "Max": most,
            "Remaining": left,
        }
        return tuple((f"X-HubSpot-RateLimit-{name}", str(value)) for name, value in named.items())

    def _scope(self, request: Request) -> None:
        kind, path = request.parts.get("kind", ""), request.path
        write = request.method != "GET" and not path.endswith("/search")
        needed = ""
        if path.startswith("/crm/v3/owners"):
            needed = "crm.objects.owners.read"
        elif path.startswith("/crm/v3/properties"):
            subject = "deals" if kind == "deals" else "contacts"
            needed = f"crm.schemas.{subject}.write" if write else f"crm.objects.{subject}.read"
        elif kind:
            subject = kind if kind in ("deals", "line_items") else "contacts"
            read = not write or path.endswith("/batch/read")
            needed = f"crm.objects.{subject}.{'read' if read else 'write'}"
        elif "pipelines" in path:
            needed = "crm.objects.deals.read"
        if needed and needed not in self.scopes:
            raise Refusal(
                403, "MISSING_SCOPES", "This app hasn't been granted all required scopes to make this call.",
                {"message": "One or more of the following scopes are required.", "context": {"requiredGranularScopes": [needed]}},
            )  # fmt: skip

    def _kind(self, request: Request) -> str:
        kind = request.parts["kind"]
        if kind not in KINDS:
            raise Refusal(400, "VALIDATION_ERROR", f"Unable to infer object type from: {kind}")
        return kind

    # --- properties

    def _described(self, kind: str, name: str) -> dict[str, Any]:
        one = self.properties[kind][name]
        options = tuple(self._options(name, one) or ())
        return {
            "name": name, "label": one.get("label", name), "type": one["type"], "fieldType": one.get("fieldType", "text"),
            "groupName": one.get("groupName", f"{kind}_information"), "hasUniqueValue": one.get("unique", False),
            "options": [{"label": str(value).title(), "value": value, "displayOrder": n, "hidden": False} for n, value in enumerate(options)],
            "calculated": False, "hidden": False, "archived": False,
            "modificationMetadata": {"archivable": True, "readOnlyDefinition": True, "readOnlyValue": one.get("fixed", False)},
        }  # fmt: skip

    def _options(self, name: str, one: Mapping[str, Any]) -> tuple[str, ...] | None:
        """The values that an enumeration may have; None where there are no bounds."""
        if name == "hubspot_owner_id":
            return tuple(number for number, owner in self.owners.items() if not owner.get("archived"))
        return {
            "hs_call_disposition": tuple(OUTCOMES.values()), "pipeline": ("default",),
            "dealstage": tuple(stage["id"] for stage in STAGES),
        }.get(name, one.get("options"))  # fmt: skip

    def _list_properties(self, request: Request, body: dict[str, Any]) -> Any:
        kind = self._kind(request)
        return {"results": [self._described(kind, name) for name in self.properties[kind]]}

    def _property(self, request: Request, body: dict[str, Any]) -> Any:
        kind, name = self._kind(request), request.parts["name"]
        if name not in self.properties[kind]:
            raise Refusal(404, "OBJECT_NOT_FOUND", f"Property with name {name} does not exist")
        return self._described(kind, name)

    def _make_group(self, request: Request, body: dict[str, Any]) -> Any:
        kind, name = self._kind(request), str(body.get("name", ""))
        if not name or not body.get("label"):
            raise Refusal(
                400,
                "VALIDATION_ERROR",
                "Invalid input JSON on line 1, column 2: Some required fields were not set: [name, label]",
            )
        if name in self.groups[kind]:
            raise Refusal(409, "CONFLICT", f"A property group named '{name}' already exists.")
        self.groups[kind].add(name)
        return 201, {"name": name, "label": body["label"], "displayOrder": -1, "archived": False}

    def _make_property(self, request: Request, body: dict[str, Any]) -> Any:
        kind, name = self._kind(request), str(body.get("name", ""))
        missing = [one for one in ("name", "label", "type", "fieldType", "groupName") if not body.get(one)]
        if missing:
            raise Refusal(400, "VALIDATION_ERROR", f"Some required fields were not set: [{', '.join(missing)}]")
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,99}", name):
            raise Refusal(400, "VALIDATION_ERROR", "Property names must be lower case")
        if body["groupName"] not in self.groups[kind]:
            raise Refusal(400, "VALIDATION_ERROR", f"The property group {body['groupName']} does not exist")
        if name in self.properties[kind]:
            raise Refusal(409, "CONFLICT", f"A property named '{name}' already exists.")
        if body.get("hasUniqueValue") and kind != "contacts" and not self.unique_calls:
            raise Refusal(400, "VALIDATION_ERROR", f"hasUniqueValue is not supported for {kind}")
        self.properties[kind][name] = {
            "type": body["type"], "label": body["label"], "fieldType": body["fieldType"], "groupName": body["groupName"],
            "unique": bool(body.get("hasUniqueValue")),
        }  # fmt: skip
        return 201, self._described(kind, name)

    # --- records

    def _judged(self, kind: str, given: Any, *, but: str = "") -> dict[str, str]:
        """The properties as they are stored. Refuses what is not known, not allowed, or taken."""
        if not isinstance(given, dict):
            raise Refusal(400, "VALIDATION_ERROR", "Invalid input JSON: properties is required")
        known, wrong, values = self.properties[kind], list[tuple[str, str, str]](), dict[str, str]()
        for name, value in given.items():
            one = known.get(name)
            if one is None:
                wrong.append((name, "PROPERTY_DOESNT_EXIST", f'Property "{name}" does not exist'))
                continue
            if not isinstance(value, str | int | float | bool) and value is not None:
                raise Refusal(400, "VALIDATION_ERROR", f"Invalid input JSON: {name} is no text")
            text = "" if value is None else str(value)
            options = self._options(name, one)
            if one.get("fixed"):
                wrong.append((name, "READ_ONLY_VALUE", f'"{name}" is a read only property; its value cannot be set.'))
            elif text and options is not None and text not in options:
                code = "INVALID_OWNER_ID" if name == "hubspot_owner_id" else "INVALID_OPTION"
                wrong.append((name, code, f"{text} was not one of the allowed options"))
            elif text and one["type"] == "number" and not re.fullmatch(r"-?\d+(\.\d+)?", text):
                wrong.append((name, "INVALID_INTEGER", f"{text} was not a valid number."))
            elif text and one["type"] == "datetime" and not _moment(text):
                wrong.append((name, "INVALID_DATE", f"{text} was not a valid date."))
            else:
                values[name] = text
        if wrong:
            listed = [{"isValid": False, "message": said, "error": code, "name": name} for name, code, said in wrong]
            parts = [{"message": said, "code": code, "context": {"propertyName": [name]}} for name, code, said in wrong]
            raise Refusal(
                400,
                "VALIDATION_ERROR",
                f"Property values were not valid: {json.dumps(listed)}",
                *(parts if self.names_properties else ()),
            )
        self._unique(kind, values, but)
        return values

    def _unique(self, kind: str, values: Mapping[str, str], but: str) -> None:
        for name, value in values.items():
            if not value:
                continue
            for other in self.objects[kind].values():
                if other.id == but or other.properties.get(name, "").lower() != value.lower():
                    continue
                if self.properties[kind][name].get("unique"):
                    raise Refusal(
                        409,
                        "CONFLICT",
                        f"Cannot set PropertyValueCoordinates on this object. {other.id} already has that value.",
                    )
                if kind == "contacts" and name == "email" and not other.archived:
                    raise Refusal(409, "CONFLICT", f"Contact already exists. Existing ID: {other.id}")

    def _made(self, kind: str, wanted: dict[str, Any]) -> Record:
        values = self._judged(kind, wanted.get("properties"))
        if "associations" not in wanted:
            self.violations.append(f"something of {kind} was made without associations")
            raise Refusal(400, "VALIDATION_ERROR", "Some required fields were not set: [associations]")
        if kind in ("calls", "tasks", "notes") and not values.get("hs_timestamp"):
            raise Refusal(
                400,
                "VALIDATION_ERROR",
                "hs_timestamp is required",
                {"message": "hs_timestamp is required", "code": "REQUIRED_FIELD"},
            )
        if kind == "contacts" and (missing := sorted(self.required - values.keys())):
            raise Refusal(
                400, "VALIDATION_ERROR", f"Error creating CONTACT. Some required properties were not set: {missing}"
            )
        if kind == "deals" and not (values.get("dealname") and values.get("dealstage")):
            raise Refusal(400, "VALIDATION_ERROR", "Some required properties were not set: [dealname, dealstage]")
        contacts, deals = self._associated(kind, wanted["associations"])
        self._once(kind, values)
        record = self._store(kind, values)
        record.contacts, record.deals = contacts, deals
        return record

    def _associated(self, kind: str, given: Any) -> tuple[list[str], list[str]]:
        contacts, deals = list[str](), list[str]()
        for one in given if isinstance(given, list) else []:
            number = str(one.get("to", {}).get("id", ""))
            for type_ in one.get("types", ()):
                if type_.get("associationCategory") != "HUBSPOT_DEFINED":
                    raise Refusal(400, "VALIDATION_ERROR", "Invalid association category")
                if type_.get("associationTypeId") == TO_CONTACT.get(kind):
                    other, into = "contacts", contacts
                elif type_.get("associationTypeId") == TO_DEAL.get(kind):
                    other, into = "deals", deals
                else:
                    raise Refusal(
                        400,
                        "VALIDATION_ERROR",
                        f"associationTypeId {type_.get('associationTypeId')} is not valid for {kind}",
                    )
                found = self.objects[other].get(number)
                if found is None or found.archived:
                    raise Refusal(400, "VALIDATION_ERROR", "One or more associations are not valid")
                into.append(number)
        return contacts, deals

    def _once(self, kind: str, values: Mapping[str, str]) -> None:
        """What is the same however it is written is made once."""
        if kind == "contacts" and values.get("phone"):
            tail = _digits(values["phone"])[-9:]
            if any(
                _digits(one.properties.get(name, ""))[-9:] == tail
                for one in self.all(kind)
                for name in ("phone", "mobilephone")
            ):
                self.violations.append(f"a second contact for {values['phone']}")
        if kind == "calls":
            own = tuple(name for name, one in self.properties[kind].items() if "groupName" in one)
            names = ("hs_timestamp", "hs_call_from_number", "hs_call_to_number", *own)
            mine = tuple(values.get(name, "") for name in names)
            if any(tuple(one.properties.get(name, "") for name in names) == mine for one in self.all(kind)):
                self.violations.append(f"a second record of the call at {mine}")
        if kind == "tasks" and any(
            one.properties.get("hs_task_subject") == values.get("hs_task_subject") for one in self.all(kind)
        ):
            self.violations.append(f"a second task {values.get('hs_task_subject')}")

    def _store(self, kind: str, values: dict[str, str]) -> Record:
        self._ids += 1
        made_ms = round(time.time() * 1000)
        record = Record(str(self._ids), values, self.clock(), made_ms)
        self.objects[kind][record.id] = record
        return record

    def _shown(self, kind: str, record: Record, wanted: tuple[str, ...] = ()) -> dict[str, Any]:
        names = wanted or tuple(record.properties)
        values = {name: self._value(kind, record, name) for name in names if name in self.properties[kind]}
        made = (
            datetime.fromtimestamp(record.made_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        )
        always = (
            {"hs_object_id": record.id, "createdate": made}
            if kind == "contacts"
            else {"hs_object_id": record.id, "hs_createdate": made}
        )
        return {
            "id": record.id,
            "properties": {**always, **values},
            "createdAt": made,
            "updatedAt": made,
            "archived": record.archived,
        }

    def _value(self, kind: str, record: Record, name: str) -> str | None:
        if name == "hs_object_id":
            return record.id
        if name in ("createdate", "hs_createdate"):
            return str(record.made_ms)
        if name.startswith("hs_searchable_calculated_"):
            return _searchable(record.properties.get("mobilephone" if "mobile" in name else "phone", ""), self.country)
        return record.properties.get(name)

    def _find(self, request: Request, kind: str) -> Record:
        query, number = dict(request.query), request.parts["id"]
        if name := query.get("idProperty"):
            if not self.properties[kind].get(name, {}).get("unique"):
                raise Refusal(400, "VALIDATION_ERROR", f"{name} is not a unique property")
            found = next((one for one in self.all(kind) if one.properties.get(name) == number), None)
        else:
            found = self.objects[kind].get(number)
        if found is None or found.archived:
            raise Refusal(404, "OBJECT_NOT_FOUND", f"Object not found.  objectId are usually numeric. {kind} {number}")
        return found

    def _list(self, request: Request, body: dict[str, Any]) -> Any:
        kind = self._kind(request)
        limit = int(dict(request.query).get("limit", "10"))
        if not 0 < limit <= 100:
            raise Refusal(400, "VALIDATION_ERROR", "limit must be between 1 and 100")
        return {"results": [self._shown(kind, one) for one in self.all(kind)[:limit]]}

    def _get(self, request: Request, body: dict[str, Any]) -> Any:
        kind = self._kind(request)
        wanted = tuple(one for name, value in request.query if name == "properties" for one in value.split(","))
        return self._shown(kind, self._find(request, kind), tuple(one for one in wanted if one))

    def _create(self, request: Request, body: dict[str, Any]) -> Any:
        kind = self._kind(request)
        return 201, self._shown(kind, self._made(kind, body))

    def _patch(self, request: Request, body: dict[str, Any]) -> Any:
        kind = self._kind(request)
        record = self._find(request, kind)
        record.properties.update(self._judged(kind, body.get("properties"), but=record.id))
        return self._shown(kind, record)

    def _archive(self, request: Request, body: dict[str, Any]) -> None:
        kind = self._kind(request)
        if (record := self.objects[kind].get(request.parts["id"])) is not None:
            record.archived = True

    def _inputs(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        inputs = body.get("inputs")
        if not isinstance(inputs, list) or not inputs:
            raise Refusal(400, "VALIDATION_ERROR", "Some required fields were not set: [inputs]")
        if len(inputs) > 100:
            raise Refusal(400, "VALIDATION_ERROR", "The maximum number of inputs is 100")
        return inputs

    def _batch_create(self, request: Request, body: dict[str, Any]) -> Any:
        kind, inputs = self._kind(request), self._inputs(body)
        traces = [str(one.get("objectWriteTraceId", "")) for one in inputs]
        several = all(traces) and len(set(traces)) == len(traces)
        results, errors = [], []
        for one in () if several else inputs:
            self._judged(kind, one.get("properties"))  # one wrong input is all that it takes
        for one, trace in zip(inputs, traces, strict=True):
            try:
                shown = self._shown(kind, self._made(kind, one))
                results.append({**shown, **({"objectWriteTraceId": trace} if trace and self.trace_results else {})})
            except Refusal as no:
                if not several:
                    for made in results:
                        del self.objects[kind][made["id"]]
                    raise
                errors.append({**no.body(), "context": {"objectWriteTraceId": [trace]}})
        at = datetime.now(UTC).isoformat()
        answer = {"status": "COMPLETE", "results": results, "startedAt": at, "completedAt": at}
        return (207, {**answer, "numErrors": len(errors), "errors": errors}) if errors else (201, answer)

    def _batch_read(self, request: Request, body: dict[str, Any]) -> Any:
        kind, wanted = self._kind(request), tuple(body.get("properties", ()))
        known = self.objects[kind]
        numbers = [str(one.get("id")) for one in self._inputs(body)]
        there = [known[number] for number in numbers if number in known and not known[number].archived]
        return {"status": "COMPLETE", "results": [self._shown(kind, one, wanted) for one in there]}

    def _items_of(self, request: Request, body: dict[str, Any]) -> Any:
        number = request.parts["id"]
        types = [{"category": "HUBSPOT_DEFINED", "typeId": 19, "label": None}]
        mine = [one.id for one in self.all("line_items") if number in one.deals]
        return {"results": [{"toObjectId": int(one), "associationTypes": types} for one in mine]}

    def _batch_archive(self, request: Request, body: dict[str, Any]) -> None:
        kind = self._kind(request)
        for one in self._inputs(body):
            if (record := self.objects[kind].get(str(one.get("id")))) is not None:
                record.archived = True

    # --- searching

    def _search(self, request: Request, body: dict[str, Any]) -> Any:
        kind, groups = self._kind(request), body.get("filterGroups", [])
        if (
            len(groups) > 5
            or any(len(one.get("filters", ())) > 6 for one in groups)
            or sum(len(one["filters"]) for one in groups) > 18
        ):
            raise Refusal(400, "VALIDATION_ERROR", "Too many filter groups or filters")
        limit = int(body.get("limit", 10))
        if not 0 < limit <= 200:
            raise Refusal(400, "VALIDATION_ERROR", "limit must be at most 200")
        for one in (filter_ for group in groups for filter_ in group["filters"]):
            name, operator = str(one.get("propertyName")), one.get("operator")
            if operator not in _OPERATORS:
                raise Refusal(400, "VALIDATION_ERROR", f"Invalid operator {operator}")
            if name not in self.properties[kind] and not name.startswith("associations."):
                raise Refusal(
                    400, "VALIDATION_ERROR", f"There was a problem with the request: {name} is not a property"
                )
            if (operator in ("IN", "NOT_IN")) != ("values" in one) or (
                operator == "IN" and any(v != v.lower() for v in one["values"])
            ):
                self.violations.append(f"a filter {operator} that finds nothing")
                raise Refusal(400, "VALIDATION_ERROR", f"invalid values for {operator}")
        now, found = self.clock(), []
        for record in self.all(kind):
            if record.at + self.lag_s > now:
                continue
            if not groups or any(all(self._matches(kind, record, one) for one in group["filters"]) for group in groups):
                found.append(record)
        wanted = tuple(body.get("properties", ()))
        return {"total": len(found), "results": [self._shown(kind, one, wanted) for one in found[:limit]]}

    def _matches(self, kind: str, record: Record, one: Mapping[str, Any]) -> bool:
        name, operator, value = one["propertyName"], one["operator"], str(one.get("value", ""))
        if name == "associations.contact":
            return value in record.contacts
        have = (self._value(kind, record, name) or "").lower()
        if name in ("phone", "mobilephone") and "+" in f"{value}{one.get('values', '')}" and operator != "IN":
            return False  # a plus is no part of a token
        match operator:
            case "EQ":
                return bool(have) and (
                    have == value.lower() or (name == "hs_timestamp" and _moment(have) == _moment(value))
                )
            case "IN":
                return have in one["values"] and "+" not in have
            case "CONTAINS_TOKEN":
                return (
                    re.search(rf"(?:^|\W){re.escape(value.lower()).replace(chr(92) + '*', '.*')}(?:$|\W)", have)
                    is not None
                )
            case "GTE":
                return bool(have) and float(have) >= float(value)
            case "HAS_PROPERTY":
                return bool(have)
        raise Refusal(400, "VALIDATION_ERROR", f"the sandbox has no {operator}")

    # --- the account

    def _owners(self, request: Request, body: dict[str, Any]) -> Any:
        query = dict(request.query)
        limit, after = int(query.get("limit", "100")), int(query.get("after", "0") or 0)
        if not 0 < limit <= 500:
            raise Refusal(400, "VALIDATION_ERROR", "limit must be at most 500")
        archived = query.get("archived") == "true"
        listed = [one for one in self.owners.values() if bool(one.get("archived")) == archived]
        page: dict[str, Any] = {
            "results": [{**_STAMPS, "type": "PERSON", **one} for one in listed[after : after + limit]]
        }
        if after + limit < len(listed):
            page["paging"] = {"next": {"after": str(after + limit), "link": "?after"}}
        return page

    def _details(self, request: Request, body: dict[str, Any]) -> Any:
        return {
            "portalId": 62515, "accountType": "STANDARD", "timeZone": self.time_zone, "companyCurrency": "BYN", "additionalCurrencies": [],
            "utcOffset": "+03:00", "utcOffsetMilliseconds": 10_800_000, "uiDomain": "app.hubspot.com", "dataHostingLocation": "eu1",
        }  # fmt: skip

    def _dispositions(self, request: Request, body: dict[str, Any]) -> Any:
        return [{"id": number, "label": label, "deleted": False} for label, number in OUTCOMES.items()]

    def _pipelines(self, request: Request, body: dict[str, Any]) -> Any:
        return {
            "results": [
                {
                    "id": "default",
                    "label": "Sales Pipeline",
                    "displayOrder": 0,
                    "stages": [{**_STAMPS, **one} for one in STAGES],
                    **_STAMPS,
                }
            ]
        }

    async def _authorize(self, request: Request) -> Response:
        asked = dict(request.query)
        if asked.get("client_id") != self.CLIENT_ID or asked.get("redirect_uri") != self.redirect_uri:
            return as_html(
                "<html>Authorization failed because the redirect URL does not match the registered value</html>", 400
            )
        code = f"code-{secrets.token_hex(8)}"
        self.codes.add(code)
        back = urlencode({"code": code, "state": asked.get("state", "")})
        return Response(302, b"", "text/html", (("Location", f"{self.redirect_uri}?{back}"),))

    async def _token(self, request: Request) -> Response:
        if request.content_type != "application/x-www-form-urlencoded":
            return as_json({"status": "BAD_REQUEST", "message": "the body is no form"}, 400)
        asked = dict(parse_qsl(request.body.decode()))
        if asked.get("client_id") != self.CLIENT_ID:
            return as_json({"status": "BAD_CLIENT_ID", "message": "missing or unknown client id"}, 400)
        if asked.get("client_secret") != self.CLIENT_SECRET:
            return as_json({"status": "BAD_CLIENT_SECRET", "message": "missing or invalid client secret"}, 400)
        if asked.get("grant_type") == "authorization_code":
            if asked.get("code") not in self.codes or asked.get("redirect_uri") != self.redirect_uri:
                return as_json({"status": "BAD_AUTH_CODE", "message": "missing or unknown auth code"}, 400)
            self.codes.discard(asked["code"])
            self.refresh = f"refresh-{secrets.token_hex(8)}"
        elif not self.refresh or asked.get("refresh_token") != self.refresh:
            return as_json({"status": "BAD_REFRESH_TOKEN", "message": "missing or invalid refresh token"}, 400)
        self.exchanges += 1
        self.access = f"access-{secrets.token_hex(16)}"
        return as_json(
            {"token_type": "bearer", "refresh_token": self.refresh, "access_token": self.access, "expires_in": 1800}
        )

    async def _nothing(self, request: Request) -> Response:
        return as_html("<html><body>404</body></html>", 404)

    # --- the page

    async def _page(self, request: Request) -> Response:
        rows = []
        for call in self.all("calls")[-60:][::-1]:
            got = call.properties
            names = ", ".join(self.objects["contacts"][one].properties.get("firstname", one) for one in call.contacts)
            owner = self.owners.get(got.get("hubspot_owner_id", ""), {})
            cells = (
                got.get("hs_call_title", ""), names, str(owner.get("firstName", "")), got.get("hs_call_status", ""),
                f"{int(float(got.get('hs_call_duration') or 0)) // 1000} s", "recording" if got.get("hs_call_recording_url") else "",
            )  # fmt: skip
            rows.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
        counts = ", ".join(f"{len(self.all(kind))} {kind.replace('_', ' ')}" for kind in KINDS)
        return as_html(
            f"""<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="2">
<meta name="viewport" content="width=device-width"><title>Sandbox {escape(self.name)}</title>
<style>body{{font:15px/1.45 system-ui;margin:1.5rem;color:#1d2530}}table{{border-collapse:collapse;width:100%}}
td,th{{text-align:left;padding:.35rem .8rem .35rem 0;border-bottom:1px solid #dde3ea;vertical-align:top}}</style>
<h1>Sandbox {escape(self.name)}</h1><p>{escape(counts)}, {self.refused.total()} requests refused, {len(self.violations)} violations.</p>
<table><tr><th>call<th>contact<th>owner<th>status<th>talk<th>recording</tr>{"".join(rows)}</table></html>"""
        )


_STAMPS: Mapping[str, Any] = {
    "createdAt": "2024-01-01T00:00:00Z",
    "updatedAt": "2024-01-01T00:00:00Z",
    "archived": False,
}
STAGES: tuple[dict[str, Any], ...] = (
    {"id": "appointmentscheduled", "label": "Appointment scheduled", "displayOrder": 0, "metadata": {"isClosed": "false", "probability": "0.2"}},
    {"id": "contractsent", "label": "Contract sent", "displayOrder": 4, "metadata": {"isClosed": "false", "probability": "0.9"}},
    {"id": "closedwon", "label": "Closed won", "displayOrder": 5, "metadata": {"isClosed": "true", "probability": "1.0"}},
    {"id": "closedlost", "label": "Closed lost", "displayOrder": 6, "metadata": {"isClosed": "true", "probability": "0.0"}},
)  # fmt: skip


def _digits(text: str) -> str:
    return re.sub(r"\D", "", text)


def _searchable(text: str, country: str) -> str:
    """The national digits of what can be read as a number of the account's country; else its digits."""
    try:
        read = phonenumbers.parse(text, country)
    except phonenumbers.NumberParseException:
        return _digits(text)
    return phonenumbers.national_significant_number(read) if phonenumbers.is_valid_number(read) else _digits(text)


def _moment(text: str) -> float:
    """Milliseconds since 1970 of what HubSpot takes for a time; 0 for anything else."""
    if text.isdigit():
        return float(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return 0.0
    return moment.timestamp() * 1000 if moment.tzinfo is not None else 0.0
