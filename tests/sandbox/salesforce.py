"""A sandbox Salesforce organisation, strict about the REST API: it refuses what the real one refuses, in the same shapes.

It owns a make-believe organisation: users, contacts, leads, accounts, tasks with an external id; an app with its three ways to sign
in. It knows nothing of the gateway. `org.fault` makes it misbehave (`web.Fault`). `violations` lists what a well-behaved client never
does. The page `/` shows its tasks. Long, because it reads two query languages. Source: the REST guide; new records are not found by
the search for `index_lag_s`.
"""

import base64
import hashlib
import json
import re
import secrets
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from html import escape
from typing import Any
from urllib.parse import parse_qsl, unquote_plus, urlencode

import jwt
import trio

from tests.sandbox.web import Drop, Fault, Request, Response, Site, as_html, as_json

ANNA, IVAN, OLGA, GLEB, ADMIN = (f"00500000000000{n}AAA" for n in ("1", "2", "3", "4", "9"))
DEFAULT_USERS: tuple[dict[str, Any], ...] = (
    {"Id": ADMIN, "Name": "Integration User", "Email": "admin@june.example", "Extension": None},
    {"Id": ANNA, "Name": "Anna Kuzmina", "Email": "anna@june.example", "Extension": "151"},
    {"Id": IVAN, "Name": "Ivan Petrov", "Email": "ivan@june.example", "Extension": "150"},
    {"Id": OLGA, "Name": "Olga Moroz", "Email": "olga@june.example", "Extension": "152"},
    {"Id": GLEB, "Name": "Gleb Orlov", "Email": "gleb@june.example", "Extension": "153", "IsActive": False},
)  # fmt: skip
PREFIXES = {"Task": "00T", "Lead": "00Q", "Contact": "003", "Account": "001", "Opportunity": "006"}
_FIELDS = {
    "Task": "Id Subject Status Priority ActivityDate CallType CallDurationInSeconds CallDisposition CallObject TaskSubtype WhoId WhatId "
    "OwnerId Description CreatedDate",
    "Lead": "Id FirstName LastName Company Phone MobilePhone Email OwnerId LeadSource Description IsConverted CreatedDate Title",
    "Contact": "Id FirstName LastName AccountId Phone MobilePhone HomePhone OtherPhone Email OwnerId LeadSource Description CreatedDate",
    "Account": "Id Name Phone OwnerId CreatedDate",
    "Opportunity": "Id Name StageName CloseDate Amount AccountId ContactId OwnerId Description CreatedDate",
    "OpportunityStage": "Id ApiName IsClosed IsWon IsActive SortOrder",
    "User": "Id Name Email Extension IsActive UserType",
    "TaskStatus": "Id ApiName MasterLabel IsClosed IsDefault SortOrder",
}
FIELDS: Mapping[str, frozenset[str]] = {kind: frozenset(names.split()) for kind, names in _FIELDS.items()}
REQUIRED = {"Task": ("Status",), "Lead": ("LastName", "Company"), "Contact": ("LastName",), "Account": ("Name",),
            "Opportunity": ("Name", "StageName", "CloseDate")}  # fmt: skip
LONGEST = {"Subject": 255, "CallDisposition": 255, "CallObject": 255, "LastName": 80, "Company": 255, "Phone": 40,
           "Description": 32_000, "LeadSource": 40}  # fmt: skip
CALL_TYPES = frozenset({"Inbound", "Outbound", "Internal"})
PHONES = ("Phone", "MobilePhone", "HomePhone", "OtherPhone")
RESERVED = re.compile(r"(?<!\\)[?&|!{}\[\]()^~*:'+-]")
_TOKEN = re.compile(r"\s*('(?:[^'\\]|\\.)*'|>=|<=|!=|=|\(|\)|,|[0-9A-Za-z_.:+-]+)")


class Refusal(Exception):
    """An answer that says no."""

    def __init__(self, status: int, code: str, said: str = "", fields: Sequence[str] = (), **more: Any) -> None:
        super().__init__(said)
        self.status, self.code, self.said, self.fields, self.more = status, code, said, list(fields), more

    def body(self) -> Any:
        """As it stands in an answer."""
        one = {"message": self.said, "errorCode": self.code, **self.more}
        return [{**one, "fields": self.fields} if self.fields or self.status == 400 else one]


def digits(value: Any) -> str:
    """What the search compares numbers by."""
    return re.sub(r"\D", "", str(value or ""))


class Soql:
    """The part of the language that tests need: a condition over one record. Raises Refusal for what it cannot read."""

    def __init__(self, text: str, known: frozenset[str]) -> None:
        self.known = known
        self.tokens: list[str] = []
        at = 0
        while text[at:].strip():
            found = _TOKEN.match(text, at)
            if found is None:
                raise Refusal(400, "MALFORMED_QUERY", f"unexpected token: {text[at : at + 20]}")
            self.tokens.append(found[1])
            at = found.end()
        self.at = 0

    def condition(self) -> Callable[[Mapping[str, Any]], bool]:
        """The whole of it."""
        if not self.tokens:
            return lambda record: True
        made = self._or()
        if self.at != len(self.tokens):
            raise Refusal(400, "MALFORMED_QUERY", f"unexpected token: {self.tokens[self.at]}")
        return made

    def _take(self, *expected: str) -> str:
        if self.at >= len(self.tokens) or (expected and self.tokens[self.at].upper() not in expected):
            raise Refusal(400, "MALFORMED_QUERY", f"expecting {expected}")
        self.at += 1
        return self.tokens[self.at - 1]

    def _next(self, word: str) -> bool:
        if self.at < len(self.tokens) and self.tokens[self.at].upper() == word:
            self.at += 1
            return True
        return False

    def _or(self) -> Callable[[Mapping[str, Any]], bool]:
        parts = [self._and()]
        while self._next("OR"):
            parts.append(self._and())
        return lambda record: any(part(record) for part in parts)

    def _and(self) -> Callable[[Mapping[str, Any]], bool]:
        parts = [self._one()]
        while self._next("AND"):
            parts.append(self._one())
        return lambda record: all(part(record) for part in parts)

    def _one(self) -> Callable[[Mapping[str, Any]], bool]:
        if self._next("("):
            inner = self._or()
            self._take(")")
            return inner
        name = self._take()
        if name not in self.known:
            raise Refusal(400, "INVALID_FIELD", f"No such column '{name}' on entity")
        operator = self._take("=", "!=", ">=", "<=", "IN").upper()
        if operator == "IN":
            self._take("(")
            values = [self._value()]
            while self._next(","):
                values.append(self._value())
            self._take(")")
            return lambda record: record.get(name) in values
        value = self._value()
        if operator == "=":
            return lambda record: record.get(name) == value
        if operator == "!=":
            return lambda record: record.get(name) != value
        greater = operator == ">="
        return lambda record: (str(record.get(name)) >= str(value)) is greater

    def _value(self) -> Any:
        token = self._take()
        if token[0] == "'":
            return re.sub(r"\\(.)", r"\1", token[1:-1])
        return {"TRUE": True, "FALSE": False, "NULL": None}.get(
            token.upper(), int(token) if re.fullmatch("-?[0-9]{1,9}", token) else token
        )


class Salesforce:
    """One organisation. `base = await nursery.start(org.serve)`; then look at `tasks`, `leads`, `violations`."""

    CLIENT_ID, USERNAME = "3MVG9sandboxconsumerkey", "integration@june.example"

    def __init__(
        self, *, name: str = "Salesforce", users: tuple[dict[str, Any], ...] = DEFAULT_USERS, public_key: str = "",
        call_field: str = "GwCallId__c", order_field: str = "GwOrderId__c",
    ) -> None:  # fmt: skip
        self.name = name
        self.client_secret = secrets.token_hex(16)
        self.public_key = public_key
        """Of JWTs, in PEM."""
        self.call_field = call_field
        """The unique external id of Task; empty: there is none."""
        self.order_field = order_field
        """The same of Opportunity."""
        self.custom: set[str] = set()
        """Further fields of Task."""
        self.run_as = str(users[0]["Id"])
        """In whose name the app works."""
        self.users = {user["Id"]: {"UserType": "Standard", "IsActive": True, **user} for user in users}
        self.statuses: list[dict[str, Any]] = [
            {"Id": "01J1", "ApiName": "Not Started", "MasterLabel": "Not Started", "IsClosed": False, "IsDefault": True, "SortOrder": 1},
            {"Id": "01J2", "ApiName": "Completed", "MasterLabel": "Completed", "IsClosed": True, "IsDefault": False, "SortOrder": 2},
        ]  # fmt: skip
        self.stages: list[dict[str, Any]] = [
            {"Id": f"01J9{place}", "ApiName": name, "IsClosed": closed, "IsWon": won, "IsActive": True, "SortOrder": place}
            for place, (name, closed, won) in enumerate((
                ("Prospecting", False, False), ("Negotiation", False, False), ("Closed Won", True, True), ("Closed Lost", True, False),
            ))
        ]  # fmt: skip
        self.records: dict[str, dict[str, dict[str, Any]]] = {kind: {} for kind in PREFIXES}
        self.required: dict[str, set[str]] = {}
        """Required custom fields by object."""
        self.no_access: set[str] = set()
        """Objects that the user in whose name we work may not touch."""
        self.duplicate_rule = False
        self.upsert_status = 200
        """204: without a body, as older versions of the API answer an update."""
        self.subtype_on_update = False
        """Whether TaskSubtype may be named where a task is there already: documents do not say."""
        self.index_lag_s = 60.0
        self.most, self.used = 100_000, 18
        self.fault: Fault | str = Fault.NONE
        self.fault_count: int | None = None
        self.faulty = ""
        """A part of the paths that the fault is for, with the method before: `POST /sobjects/Lead`; empty: all."""
        self.hang_s = 30.0
        self.clock: Callable[[], float] = time.monotonic
        self.wall: Callable[[], float] = time.time
        self.instance = ""
        """What the token's answer names as the organisation's address; empty: this one."""
        self.token_error: tuple[int, str, str] | None = None
        self.access: set[str] = set()
        self.refresh = ""
        self.rotates = True
        self.codes: dict[str, str] = {}
        """Codes of the login, each with its challenge."""
        self.exchanges = 0
        self.requests: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.violations: list[str] = []
        self.at_once = self.most_at_once = 0
        self._ids = 100
        self._indexed: dict[str, float] = {}
        data = "/services/data/{version}"
        self.site = Site(
            {
                ("GET", "/"): self._page, ("GET", "/services/oauth2/authorize"): self._authorize,
                ("POST", "/services/oauth2/token"): self._token,
                **{(method, data + path): self._served for method in ("GET", "POST", "PATCH", "DELETE") for path in (
                    "/{a}", "/{a}/", "/{a}/{b}", "/{a}/{b}/", "/{a}/{b}/{c}", "/{a}/{b}/{c}/{d}")},
            },
            self._nothing,
        )  # fmt: skip

    @property
    def base(self) -> str:
        """The address, once it serves."""
        return self.site.base

    @property
    def tasks(self) -> list[dict[str, Any]]:
        """Those that are done."""
        return [one for one in self.records["Task"].values() if one["Status"] in self._closed()]

    @property
    def to_do(self) -> list[dict[str, Any]]:
        """Those that are not."""
        return [one for one in self.records["Task"].values() if one["Status"] not in self._closed()]

    @property
    def leads(self) -> list[dict[str, Any]]:
        """All leads."""
        return list(self.records["Lead"].values())

    async def serve(self, port: int = 0, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        """Runs until cancelled; starts with the address."""
        await self.site.serve(port, task_status=task_status)

    def add(self, kind: str, phone: str, owner: str = "", **fields: Any) -> str:
        """Something that was there before, and that the search finds."""
        number = self._new(kind, {"Phone": phone, "OwnerId": owner or self.run_as, "IsConverted": False, **fields})
        self._indexed[number] = float("-inf")
        return number

    def _closed(self) -> set[str]:
        return {one["ApiName"] for one in self.statuses if one["IsClosed"]}

    def _new(self, kind: str, fields: Mapping[str, Any]) -> str:
        self._ids += 1
        number = f"{PREFIXES[kind]}{self._ids:012}AAA"
        made = time.strftime("%Y-%m-%dT%H:%M:%S.000+0000", time.gmtime(self.wall()))
        base = {"IsConverted": False} if kind == "Lead" else {}
        self.records[kind][number] = {"OwnerId": self.run_as, **base, **fields, "Id": number, "CreatedDate": made}
        self._indexed[number] = self.clock() + self.index_lag_s
        return number

    # --- what every request goes through

    async def _served(self, request: Request) -> Response:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return await self._judged(request)
        finally:
            self.at_once -= 1

    async def _judged(self, request: Request) -> Response:
        path = "/" + "/".join(request.path.split("/")[4:])
        name = f"{request.method} {path}"
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme not in ("Bearer", "OAuth") or token not in self.access:
            return self._no(Refusal(401, "INVALID_SESSION_ID", "Session expired or invalid"))
        fault = self._take_fault(name)
        if fault is Fault.DROP:
            raise Drop
        spoiled = {
            Fault.HTML: as_html("<html><body>We are down for maintenance.</body></html>", 200), Fault.EMPTY: Response(200, b""),
            Fault.HTTP_500: as_json([{"errorCode": "UNKNOWN_EXCEPTION", "message": "An unexpected error occurred."}], 500),
            Fault.HTTP_503: as_json([{"errorCode": "SERVER_UNAVAILABLE", "message": "Down for maintenance"}], 503),
            Fault.SUCCESS_FALSE: as_json([{"errorCode": "UNABLE_TO_LOCK_ROW", "message": "unable to obtain exclusive access"}], 400),
        }.get(fault)  # fmt: skip
        if spoiled is not None:
            return spoiled
        self.used += 1
        if self.used > self.most:
            self.violations += ["asked on although the day's requests are used up"] * (self.used > self.most + 20)
            return self._no(Refusal(403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded."))
        self.requests[name.split("?")[0]] += 1
        try:
            if not re.fullmatch(r"v[1-9][0-9]{1,2}\.0", request.parts["version"]):
                raise Refusal(404, "NOT_FOUND", "The requested resource does not exist")
            payload = self._payload(request)
            status, body = self._route(request.method, path, dict(request.query), payload, request.headers)
        except Refusal as no:
            response = self._no(no)
        else:
            response = Response(204) if status == 204 else as_json(body, status, self._info())
        if fault is Fault.DROP_AFTER:
            raise Drop
        if fault is Fault.HANG:
            await trio.sleep(self.hang_s)
        return response

    def _payload(self, request: Request) -> Any:
        if not request.body:
            return None
        if request.content_type != "application/json":
            raise Refusal(415, "UNSUPPORTED_MEDIA_TYPE", "The request is in a format that is not supported")
        try:
            return json.loads(request.body)
        except ValueError:
            raise Refusal(400, "JSON_PARSER_ERROR", "Unexpected character") from None

    def _info(self) -> tuple[tuple[str, str], ...]:
        return (("Sforce-Limit-Info", f"api-usage={self.used}/{self.most}; per-app-api-usage=17/250(appName=gateway)"),)

    def _no(self, no: Refusal) -> Response:
        self.refused[no.code] += 1
        return as_json(no.body(), no.status, self._info())

    def _take_fault(self, name: str) -> Fault:
        fault = Fault(self.fault)
        if fault is Fault.NONE or (self.faulty and self.faulty not in name):
            return Fault.NONE
        if self.fault_count is not None:
            self.fault_count -= 1
            if self.fault_count <= 0:
                self.fault, self.fault_count = Fault.NONE, None
        return fault

    def _route(
        self, method: str, path: str, query: Mapping[str, str], payload: Any, headers: Mapping[str, str]
    ) -> tuple[int, Any]:  # fmt: skip
        parts = path.strip("/").split("/")
        match (method, *parts):
            case ("GET", "limits"):
                return 200, {"DailyApiRequests": {"Max": self.most, "Remaining": self.most - self.used}}
            case ("GET", "query"):
                return 200, self._query(query.get("q", ""))
            case ("GET", "search"):
                return 200, {"searchRecords": self._search(query.get("q", ""))}
            case ("POST", "composite"):
                return 200, self._composite(payload)
            case ("PATCH", "composite", "sobjects"):
                return 200, self._collection(payload)
            case ("GET", "sobjects", kind, "describe"):
                return 200, self._describe(kind)
            case ("POST", "sobjects", kind):
                return 201, {"id": self._create(kind, payload, headers), "success": True, "errors": []}
            case ("PATCH", "sobjects", kind, number):
                self._update(kind, number, payload)
                return 204, None
            case ("DELETE", "sobjects", kind, number):
                self._found(kind, number)
                del self.records[kind][number]
                return 204, None
            case ("GET", "sobjects", kind, number):
                return 200, self._shown(kind, self._found(kind, number), query.get("fields", ""))
            case ("PATCH" | "GET", "sobjects", kind, name, value):
                return self._external(method, kind, name, unquote_plus(value.replace("+", "%2B")), payload)
        raise Refusal(404, "NOT_FOUND", "The requested resource does not exist")

    # --- records

    def _known(self, kind: str) -> frozenset[str]:
        if kind not in FIELDS or kind in self.no_access:
            raise Refusal(400, "INVALID_TYPE", f"sObject type '{kind}' is not supported.")
        more = ({*self.custom} if kind == "Task" else set()) | ({self._external_id(kind)} - {""})
        return FIELDS[kind] | more | self.required.get(kind, set())

    def _of(self, kind: str) -> dict[str, dict[str, Any]]:
        if kind == "User":
            return self.users
        if kind == "TaskStatus":
            return {one["Id"]: one for one in self.statuses}
        if kind == "OpportunityStage":
            return {one["Id"]: one for one in self.stages}
        return self.records[kind]

    def _found(self, kind: str, number: str) -> dict[str, Any]:
        if kind not in FIELDS or kind in self.no_access:
            raise Refusal(404, "NOT_FOUND", "The requested resource does not exist")
        found = next((one for key, one in self._of(kind).items() if key[:15] == number[:15]), None)
        if found is None:
            raise Refusal(404, "NOT_FOUND", "Provided external ID field does not exist or is not accessible: " + number)
        return found

    def _shown(self, kind: str, record: Mapping[str, Any], fields: str = "") -> dict[str, Any]:
        wanted = [name.strip() for name in fields.split(",") if name.strip()] or sorted(self._known(kind))
        for name in wanted:
            if name not in self._known(kind):
                raise Refusal(400, "INVALID_FIELD", f"No such column '{name}' on entity '{kind}'")
        url = f"/services/data/v68.0/sobjects/{kind}/{record['Id']}"
        return {"attributes": {"type": kind, "url": url}, **{name: record.get(name) for name in wanted}}

    def _create(self, kind: str, fields: Any, headers: Mapping[str, str]) -> str:
        self._checked(kind, fields, new=True)
        call = fields.get("CallObject") if kind == "Task" else None
        if call and any(one.get("CallObject") == call for one in self.records["Task"].values()):
            self.violations.append(f"a second task for the call {call}")
        if kind in ("Lead", "Contact") and (phone := digits(fields.get("Phone"))):
            same = [
                (other, one["Id"]) for other in ("Lead", "Contact") for one in self.records[other].values()
                if not one.get("IsConverted") and any(digits(one.get(name)) == phone for name in PHONES)
            ]  # fmt: skip
            if same and self.duplicate_rule and headers.get("sforce-duplicate-rule-header") != "allowSave=true":
                records = [{"record": {"attributes": {"type": one[0]}, "Id": one[1]}} for one in same]
                result = {"allowSave": True, "matchResults": [{"matchRecords": records, "success": True}]}
                raise Refusal(400, "DUPLICATES_DETECTED", "Use one of these records?", duplicateResult=result)
            if same:
                self.violations.append(f"a second {kind} for {phone}")
        return self._new(kind, fields)

    def _update(self, kind: str, number: str, fields: Any) -> None:
        found = self._found(kind, number)
        self._checked(kind, fields, new=False)
        found.update(fields)

    def _external_id(self, kind: str) -> str:
        return {"Task": self.call_field, "Opportunity": self.order_field}.get(kind, "")

    def _external(self, method: str, kind: str, name: str, value: str, payload: Any) -> tuple[int, Any]:
        if not self._external_id(kind) or name != self._external_id(kind) or kind in self.no_access:
            raise Refusal(404, "NOT_FOUND", f"Provided external ID field does not exist or is not accessible: {name}")
        same = [one for one in self.records[kind].values() if one.get(name) == value]
        if len(same) > 1:
            raise Refusal(300, "", "")
        if method == "GET":
            if not same:
                raise Refusal(404, "NOT_FOUND", "The requested resource does not exist")
            return 200, self._shown(kind, same[0])
        if isinstance(payload, dict) and name in payload:
            raise Refusal(
                400, "INVALID_FIELD", f"The {name} field should not be specified in the sobject data.", [name]
            )
        if same:
            self._update(kind, same[0]["Id"], payload)
            if self.upsert_status == 204:
                return 204, None
            return 200, {"id": same[0]["Id"], "success": True, "errors": [], "created": False}
        number = self._create(kind, payload, {})
        self.records[kind][number][name] = value
        if self.upsert_status == 204:
            return 204, None
        return 201, {"id": number, "success": True, "errors": [], "created": True}

    def _checked(self, kind: str, fields: Any, *, new: bool) -> None:
        if kind in self.no_access:
            raise Refusal(404, "NOT_FOUND", "The requested resource does not exist")
        known = self._known(kind)
        if not isinstance(fields, dict):
            raise Refusal(400, "JSON_PARSER_ERROR", "Can not deserialize")
        for name, value in fields.items():
            if name not in known or name in ("Id", "CreatedDate", "IsConverted"):
                raise Refusal(400, "INVALID_FIELD", f"No such column '{name}' on sobject of type {kind}", [name])
            if isinstance(value, str) and len(value) > LONGEST.get(name, 255):
                raise Refusal(400, "STRING_TOO_LONG", f"{name}: data value too large", [name])
        missing = [
            name for name in (*REQUIRED.get(kind, ()), *sorted(self.required.get(kind, ()))) if not fields.get(name)
        ]
        if new and missing:
            raise Refusal(
                400, "REQUIRED_FIELD_MISSING", f"Required fields are missing: [{', '.join(missing)}]", missing
            )
        owner = fields.get("OwnerId")
        if owner is not None and owner not in self.users:
            raise Refusal(400, "INVALID_CROSS_REFERENCE_KEY", "Owner ID: id value of incorrect type", ["OwnerId"])
        if owner is not None and not self.users[owner]["IsActive"]:
            raise Refusal(
                400, "INACTIVE_OWNER_OR_USER", "operation performed with inactive user [005] as owner", ["OwnerId"]
            )
        if kind == "Task":
            self._checked_task(fields, new=new)
        if kind == "Opportunity":
            self._checked_opportunity(fields, new=new)

    def _checked_task(self, fields: Mapping[str, Any], *, new: bool) -> None:
        for name, allowed in (
            ("Status", {one["ApiName"] for one in self.statuses}), ("CallType", CALL_TYPES), ("TaskSubtype", {"Call", "Task"}),
        ):  # fmt: skip
            if name in fields and fields[name] not in allowed:
                raise Refusal(400, "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST", f"{name}: bad value for restricted picklist field: "
                              f"{fields[name]}", [name])  # fmt: skip
        if "TaskSubtype" in fields and not new and not self.subtype_on_update:
            raise Refusal(
                400, "INVALID_FIELD_FOR_INSERT_UPDATE", "Unable to create/update fields: TaskSubtype.", ["TaskSubtype"]
            )
        if "CallDurationInSeconds" in fields and not isinstance(fields["CallDurationInSeconds"], int):
            raise Refusal(400, "JSON_PARSER_ERROR", "Cannot deserialize instance of int")
        if "ActivityDate" in fields:
            try:
                date.fromisoformat(str(fields["ActivityDate"]))
            except ValueError:
                raise Refusal(400, "JSON_PARSER_ERROR", "Cannot deserialize instance of date") from None
        who, what = fields.get("WhoId"), fields.get("WhatId")
        if who is not None and not any(who in self.records[kind] for kind in ("Contact", "Lead")):
            raise Refusal(400, "INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id", ["WhoId"])
        if what is not None and not any(what in self.records[kind] for kind in ("Account", "Opportunity")):
            raise Refusal(400, "INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id", ["WhatId"])
        if who is not None and who in self.records["Lead"] and what is not None:
            raise Refusal(
                400, "FIELD_INTEGRITY_EXCEPTION", "Related To ID: should be null if Name is a lead", ["WhatId"]
            )

    def _checked_opportunity(self, fields: Mapping[str, Any], *, new: bool) -> None:
        if "StageName" in fields and fields["StageName"] not in {one["ApiName"] for one in self.stages}:
            raise Refusal(400, "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST", "Stage: bad value", ["StageName"])
        if "ContactId" in fields and not new:
            raise Refusal(
                400, "INVALID_FIELD_FOR_INSERT_UPDATE", "Unable to create/update fields: ContactId.", ["ContactId"]
            )
        for name, kind in (("ContactId", "Contact"), ("AccountId", "Account")):
            if fields.get(name) is not None and fields[name] not in self.records[kind]:
                raise Refusal(400, "INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id", [name])

    def _collection(self, payload: Any) -> list[Any]:
        listed = payload.get("records") if isinstance(payload, dict) else None
        if not isinstance(listed, list) or not 0 < len(listed) <= 200:
            raise Refusal(
                400, "LIMIT_EXCEEDED", "record limit reached. cannot submit more than 200 records in this request"
            )
        found: list[Any] = []
        for one in listed:
            kind, number = one["attributes"]["type"], one["Id"]
            try:
                self._update(
                    kind, number, {name: value for name, value in one.items() if name not in ("attributes", "Id")}
                )
                found.append({"id": number, "success": True, "errors": []})
            except Refusal as no:
                error = {"statusCode": no.code, "message": no.said, "fields": no.fields}
                found.append({"id": number, "success": False, "errors": [error]})
        return found

    def _composite(self, payload: Any) -> dict[str, Any]:
        listed = payload.get("compositeRequest") if isinstance(payload, dict) else None
        if not isinstance(listed, list) or not 0 < len(listed) <= 25:
            raise Refusal(400, "LIMIT_EXCEEDED", "The maximum number of subrequests is 25")
        if sum("/query" in one["url"] for one in listed) > 5:
            raise Refusal(400, "LIMIT_EXCEEDED", "at most 5 of them may be queries")
        answers = []
        for one in listed:
            target, _, query = one["url"].partition("?")
            if not target.startswith("/services/data/v") or "/search" in target:
                raise Refusal(400, "PROCESSING_HALTED", "not a resource of composite")
            path = "/" + "/".join(target.split("/")[4:])
            try:
                status, body = self._route(one["method"], path, dict(parse_qsl(query)), one.get("body"), {})
            except Refusal as no:
                status, body = no.status, no.body()
            answers.append(
                {"body": body, "httpHeaders": {}, "httpStatusCode": status, "referenceId": one["referenceId"]}
            )
        return {"compositeResponse": answers}

    def _describe(self, kind: str) -> dict[str, Any]:
        if kind not in FIELDS or kind in self.no_access:
            raise Refusal(404, "NOT_FOUND", "The requested resource does not exist")
        fields = []
        for name in sorted(self._known(kind)):
            must = name in REQUIRED.get(kind, ()) or name in self.required.get(kind, ())
            lists = {"Status": self.statuses, "StageName": self.stages}
            values = [{"value": one["ApiName"], "label": one["ApiName"], "active": True} for one in lists.get(name, ())]
            own = name == self._external_id(kind)
            fields.append({
                "name": name, "label": name.removesuffix("__c"), "type": "picklist" if values else "string", "createable": name != "Id",
                "updateable": name != "Id", "nillable": not must, "defaultedOnCreate": False, "externalId": own, "unique": own,
                "picklistValues": values, "custom": name.endswith("__c"), "length": LONGEST.get(name, 255),
            })  # fmt: skip
        return {"name": kind, "createable": True, "fields": fields}

    # --- the two query languages

    def _query(self, statement: str) -> dict[str, Any]:
        found = re.fullmatch(
            r"SELECT (?P<fields>[\w, ]+) FROM (?P<kind>\w+)(?: WHERE (?P<where>.+?))?(?: ORDER BY \w+(?: DESC)?)?(?: LIMIT (?P<limit>[0-9]+))?",
            statement.strip(), re.DOTALL,
        )  # fmt: skip
        if found is None:
            raise Refusal(400, "MALFORMED_QUERY", "unexpected token")
        kind = found["kind"]
        known = self._known(kind)
        fits = Soql(found["where"] or "", known).condition()
        matching = [one for one in self._of(kind).values() if fits(one)][: int(found["limit"] or 2000)]
        shown = [self._shown(kind, one, found["fields"]) for one in matching]
        return {"totalSize": len(shown), "done": True, "records": shown}

    def _search(self, statement: str) -> list[Any]:
        found = re.fullmatch(
            r"FIND \{(?P<find>.+?)\} IN (?P<where>PHONE|EMAIL) FIELDS RETURNING (?P<kinds>.+?)(?: LIMIT [0-9]+)?",
            statement.strip(),
        )
        if found is None:
            raise Refusal(400, "MALFORMED_SEARCH", "unexpected token")
        words = re.findall(r'"((?:[^"\\]|\\.)+)"', found["find"])
        if not words or re.sub(r'"(?:[^"\\]|\\.)+"', "", found["find"]).replace("OR", "").strip():
            raise Refusal(400, "MALFORMED_SEARCH", "the search term is not a list of phrases")
        if any(RESERVED.search(word) for word in words):
            self.violations.append("a reserved character of the search is not escaped")
        phone = found["where"] == "PHONE"
        plain = [re.sub(r"\\(.)", r"\1", word) for word in words]
        wanted = {digits(word) if phone else word.casefold() for word in plain}
        answers: list[Any] = []
        for kind, inner in re.findall(r"(\w+)\(([^()]*(?:\([^()]*\))?[^()]*)\)", found["kinds"]):
            fields, _, where = inner.partition(" WHERE ")
            fits = Soql(where, self._known(kind)).condition()
            for one in self.records[kind].values():
                numbers = (
                    {digits(one[name]) for name in PHONES if one.get(name)}
                    if phone
                    else {str(one.get("Email")).casefold()}
                )
                if self._indexed[one["Id"]] <= self.clock() and numbers & wanted and fits(one):
                    answers.append(self._shown(kind, one, fields))
        return answers[:2000]

    # --- signing in

    async def _token(self, request: Request) -> Response:
        if request.content_type != "application/x-www-form-urlencoded":
            return as_json({"error": "invalid_request", "error_description": "form expected"}, 400)
        if self.token_error is not None:
            status, code, said = self.token_error
            return as_json({"error": code, "error_description": said}, status)
        form = dict(parse_qsl(request.body.decode(), keep_blank_values=True))
        grant = form.get("grant_type", "")
        refused = {
            "client_credentials": self._credentials_no, "urn:ietf:params:oauth:grant-type:jwt-bearer": self._assertion_no,
            "refresh_token": self._refresh_no, "authorization_code": self._code_no,
        }.get(grant, self._unsupported)(form, request.headers)  # fmt: skip
        if refused is not None:
            return as_json({"error": refused[0], "error_description": refused[1]}, 400)
        self.exchanges += 1
        access = f"00D!{secrets.token_hex(24)}"
        self.access = {access}
        answer = {
            "access_token": access, "instance_url": self.instance or self.base, "id": f"{self.base}/id/00D000000000001AAA/{self.run_as}",
            "token_type": "Bearer", "issued_at": str(int(self.wall() * 1000)), "signature": "c2ln",
        }  # fmt: skip
        if grant == "authorization_code" or (grant == "refresh_token" and self.rotates):
            self.refresh = answer["refresh_token"] = f"5Aep{secrets.token_hex(24)}"
        return as_json(answer)

    def _unsupported(self, form: Mapping[str, str], headers: Mapping[str, str]) -> tuple[str, str] | None:
        return "unsupported_grant_type", "grant type not supported"

    def _credentials_no(self, form: Mapping[str, str], headers: Mapping[str, str]) -> tuple[str, str] | None:
        scheme, _, value = headers.get("authorization", "").partition(" ")
        pair = base64.b64decode(value).decode() if scheme == "Basic" else ""
        return (
            None
            if pair == f"{self.CLIENT_ID}:{self.client_secret}"
            else ("invalid_client", "invalid client credentials")
        )

    def _assertion_no(self, form: Mapping[str, str], headers: Mapping[str, str]) -> tuple[str, str] | None:
        try:
            claims = jwt.decode(
                form.get("assertion", ""), self.public_key, algorithms=["RS256"], audience="https://login.salesforce.com",
                options={"verify_exp": False},
            )  # fmt: skip
        except jwt.PyJWTError:
            return "invalid_grant", "invalid assertion"
        left = claims["exp"] - self.wall()
        if not 0 < left <= 180:
            return "invalid_grant", "expired authorization code" if left <= 0 else "assertion lives too long"
        if (claims["iss"], claims["sub"]) != (self.CLIENT_ID, self.USERNAME):
            return "invalid_grant", "user hasn't approved this consumer"
        return None

    def _refresh_no(self, form: Mapping[str, str], headers: Mapping[str, str]) -> tuple[str, str] | None:
        if (form.get("client_id"), form.get("client_secret")) != (self.CLIENT_ID, self.client_secret):
            return "invalid_client_id", "client identifier invalid"
        if not self.refresh or form.get("refresh_token") != self.refresh:
            self.violations.append("a refresh token was spent twice, or was none")
            return "invalid_grant", "expired access/refresh token"
        return None

    def _code_no(self, form: Mapping[str, str], headers: Mapping[str, str]) -> tuple[str, str] | None:
        challenge = self.codes.pop(form.get("code", ""), None)
        made = (
            base64.urlsafe_b64encode(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
            .decode()
            .rstrip("=")
        )
        if challenge is None or challenge != made:
            return "invalid_grant", "invalid authorization code"
        return None

    async def _authorize(self, request: Request) -> Response:
        asked = dict(request.query)
        if (
            asked.get("client_id") != self.CLIENT_ID
            or asked.get("response_type") != "code"
            or not asked.get("code_challenge")
        ):
            return as_html("<html>OAUTH_APPROVAL_ERROR_GENERIC</html>", 400)
        code = secrets.token_hex(12)
        self.codes[code] = asked["code_challenge"]
        back = urlencode({"code": code, "state": asked.get("state", "")})
        return Response(302, b"", "text/html", (("Location", f"{asked.get('redirect_uri', '')}?{back}"),))

    async def _nothing(self, request: Request) -> Response:
        return as_html("<html><body>URL No Longer Exists</body></html>", 404)

    # --- the page

    async def _page(self, request: Request) -> Response:
        rows = []
        for task in list(self.records["Task"].values())[-60:][::-1]:
            owner = str(self.users.get(task["OwnerId"], {}).get("Name", ""))
            cells = (
                str(task.get("Subject", "")), str(task.get("WhoId") or task.get("WhatId") or ""), owner, task["Status"],
                f"{task.get('CallDisposition') or ''}, {task.get('CallDurationInSeconds') or 0} s", str(task.get("Description") or ""),
            )  # fmt: skip
            rows.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
        counts = ", ".join(f"{len(items)} {kind.lower()}s" for kind, items in self.records.items())
        return as_html(
            f"""<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="2">
<meta name="viewport" content="width=device-width"><title>Sandbox {escape(self.name)}</title>
<style>body{{font:15px/1.45 system-ui;margin:1.5rem;color:#1d2530}}table{{border-collapse:collapse;width:100%}}
td,th{{text-align:left;padding:.35rem .8rem .35rem 0;border-bottom:1px solid #dde3ea;vertical-align:top}}</style>
<h1>Sandbox {escape(self.name)}</h1><p>{escape(counts)}; {self.used} of {self.most} requests, {self.refused.total()} refused,
{len(self.violations)} violations.</p>
<table><tr><th>subject<th>client<th>owner<th>status<th>result<th>comments</tr>{"".join(rows)}</table></html>"""
        )
