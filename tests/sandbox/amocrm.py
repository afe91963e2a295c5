"""A sandbox amoCRM account, strict about the API: it refuses what the real one refuses, in its shapes.

It owns a make-believe account: users, contacts, companies, leads, incoming leads, notes, tasks, cards on screens; a long-lived token
and an application whose refresh tokens work once. It knows nothing of the gateway. `account.fault` makes it misbehave
(`web.Fault`). `violations` lists what a well-behaved client never does. The page `/` shows what it holds. Long, because the
addresses are spelled out one by one. Source: the API reference, version 4; 7 requests a second, 50 elements a request.
"""

import json
import re
import secrets
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping
from html import escape
from typing import Any
from urllib.parse import urlencode

import trio

from tests.sandbox.web import Drop, Fault, Request, Response, Site, as_html, as_json

RATE = 7
BATCH = 50
KINDS = ("contacts", "companies", "leads")
CLOSED = (142, 143)
INCOMING = 9
STAGES = {
    INCOMING: "Неразобранное",
    1: "Первичный контакт",
    2: "Собран",
    142: "Успешно реализовано",
    143: "Закрыто и не реализовано",
}
DEFAULT_USERS: tuple[dict[str, Any], ...] = (
    {"id": 500, "name": "Админ Аккаунта", "email": "admin@june.example", "phone_number": None},
    {"id": 501, "name": "Анна Кузьмина", "email": "anna@june.example", "phone_number": "151"},
    {"id": 502, "name": "Иван Петров", "email": "ivan@june.example", "phone_number": "150"},
    {"id": 503, "name": "Ольга Мороз", "email": "olga@june.example", "phone_number": None},
    {"id": 504, "name": "Глеб Орлов", "email": "gleb@june.example", "phone_number": "153", "active": False},
)


class Refusal(Exception):
    """An answer that says no: the fields of its problem document."""

    def __init__(self, status: int, detail: str, **more: Any) -> None:
        super().__init__(detail)
        self.status, self.body = (
            status,
            {"title": "Bad Request", "type": "about:blank", "status": status, "detail": detail, **more},
        )


def digits(text: Any) -> str:
    """The digits of a number."""
    return re.sub(r"\D", "", str(text))


def phones_of(entity: Mapping[str, Any]) -> list[str]:
    """The numbers of a contact or company as they were written down."""
    fields = entity.get("custom_fields_values") or []
    return [str(one["value"]) for field in fields if field.get("field_code") == "PHONE" for one in field["values"]]


class AmoCrm:
    """One account. `base = await nursery.start(account.serve)`; then look at `calls`, `contacts`, `waiting`, `violations`."""

    CLIENT_ID, CLIENT_SECRET = "0b1c2d3e-0000-4000-8000-000000000001", "the-secret-key-of-the-integration-01"

    def __init__(
        self, token: str = "", *, name: str = "June", users: tuple[dict[str, Any], ...] = DEFAULT_USERS, limits: bool = True,
    ) -> None:  # fmt: skip
        self.token = token or secrets.token_hex(24)
        self.name = name
        self.users: dict[int, dict[str, Any]] = {user["id"]: dict(user) for user in users}
        self.limits = limits
        self.clock: Callable[[], float] = time.monotonic
        self.fault: Fault | str = Fault.NONE
        self.fault_count: int | None = None
        self.hang_s = 30.0
        self.faulty = ""
        """The only address that the fault is for, such as `/api/v4/calls` or `POST /api/v4/leads`; empty: all."""
        self.status = 0
        """A status that every request is answered with, such as 402; 0: none."""
        self.blocked = False
        """403 with a page, as for a blocked address."""
        self.no_rights: set[str] = set()
        """First parts of addresses that are not allowed: contacts, leads, tasks, users."""
        self.moved_to = ""
        self.required: dict[str, str] = {}
        """Kind -> a custom field without which none is made."""
        self.custom_fields: dict[str, list[dict[str, Any]]] = {
            "contacts": [{"id": 301, "name": "Телефон", "code": "PHONE", "type": "multitext"},
                         {"id": 302, "name": "Email", "code": "EMAIL", "type": "multitext"},
                         {"id": 303, "name": "Город", "code": None, "type": "text"},
                         {"id": 304, "name": "Ссылка", "code": "LINK", "type": "url"}],
            "leads": [{"id": 404, "name": "Ссылка", "code": "LINK", "type": "url"},
                      {"id": 401, "name": "Доставка", "code": None, "type": "text"},
                      {"id": 402, "name": "Канал", "code": None, "type": "select",
                       "enums": [{"id": 1, "value": "Telegram"}, {"id": 2, "value": "Звонок"}]}],
        }  # fmt: skip
        self.unsorted_on = True
        self.refuses_repeats = False
        """Whether a call with a known `uniq` is refused: documents do not say."""
        self.matches = True
        """Whether calls find their client by the last 10 digits; else nobody's number is known."""
        self.lag_s = 0.0
        """Seconds until the search finds what was made."""
        self.filters = True
        self.heaviest = BATCH
        """Elements of a request from which on it is answered 504."""
        self.grace_s = 0.0
        """For how long a spent refresh token brings the same pair again, while that has not been used."""
        self.entities: dict[str, dict[int, dict[str, Any]]] = {kind: {} for kind in KINDS}
        self.notes: list[dict[str, Any]] = []
        self.waiting: list[dict[str, Any]] = []
        self.tasks: list[dict[str, Any]] = []
        self.cards: list[tuple[str, tuple[int, ...]]] = []
        self.requests: Counter[str] = Counter()
        self.batches: list[int] = []
        """How many calls each request brought."""
        self.violations: list[str] = []
        self.codes: set[str] = set()
        self.access: set[str] = set()
        self.refresh = ""
        self.spent: dict[str, tuple[dict[str, Any], float]] = {}
        self.redirect_uri = ""
        """What stands in the integration."""
        self.exchanges = 0
        self.lose_exchange = 0
        """How many answers of exchanges are lost on their way."""
        self.on_exchange: Callable[[str], Awaitable[None]] | None = None
        """Called with `asked`, `spent` and `answered` in an exchange of a refresh token."""
        self._gone: deque[float] = deque(maxlen=RATE)
        self._ids = 70_000
        self.site = Site(
            {
                ("GET", "/"): self._page, ("GET", "/oauth"): self._authorize, ("POST", "/oauth2/access_token"): self._exchange,
                **{(method, f"/api/{rest}"): self._api for method in ("GET", "POST", "PATCH", "DELETE") for rest in (
                    "v2/{a}", "v4/{a}", "v4/{a}/{b}", "v4/{a}/{b}/{c}",
                )},
            },
            self._nothing,
        )  # fmt: skip

    @property
    def base(self) -> str:
        """The account's address, once it serves."""
        return self.site.base

    async def serve(self, port: int = 0, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        """Runs until cancelled; starts with the account's address."""
        await self.site.serve(port, task_status=task_status)

    # --- what was there before, and what people do there

    def add(self, kind: str, *phones: str, owner: int = 500, **fields: Any) -> int:
        """Something that was there before."""
        return self._add(kind, {
            "name": phones[0] if phones else "x", "responsible_user_id": owner,
            "custom_fields_values": [{"field_code": "PHONE", "values": [{"value": one, "enum_code": "WORK"} for one in phones]}],
            **fields,
        }, waits=False, at=-1e9)  # fmt: skip

    def _add(self, kind: str, fields: dict[str, Any], *, waits: bool, at: float | None = None) -> int:
        self._ids += 1
        made_at = self.clock() if at is None else at
        self.entities[kind][self._ids] = {"id": self._ids, "waits": waits, "made_at": made_at, "lead_ids": [], **fields}
        return self._ids

    def link(self, contact: int, *, status: int = 1) -> int:
        """A lead of a contact."""
        lead = self._add("leads", {"name": "lead", "status_id": status, "responsible_user_id": 500}, waits=False)
        self.entities["contacts"][contact]["lead_ids"].append(lead)
        return lead

    def accept(self, uid: str) -> None:
        """Somebody accepts an incoming lead."""
        (found,) = [one for one in self.waiting if one["uid"] == uid]
        self.waiting.remove(found)
        for kind in ("contacts", "leads"):
            for one in found["_embedded"][kind]:
                self.entities[kind][one["id"]]["waits"] = False

    @property
    def contacts(self) -> list[dict[str, Any]]:
        """Contacts that can be seen."""
        return [one for one in self.entities["contacts"].values() if not one["waits"]]

    @property
    def calls(self) -> list[dict[str, Any]]:
        """The calls that it holds: notes of calls."""
        return [note for note in self.notes if note["note_type"] in ("call_in", "call_out")]

    # --- what every request goes through

    async def _api(self, request: Request) -> Response:
        if self.moved_to:
            return Response(301, b"", "text/html", (("Location", f"{self.moved_to}{request.path}"),))
        if self.blocked:
            self.violations.append("a request although it is blocked") if self.requests["blocked"] else None
            self.requests["blocked"] += 1
            return as_html("<html><body>403 Forbidden</body></html>", 403)
        if not self._within_rate():
            return as_html("<html>429 Too Many Requests</html>", 429)
        if self.status:
            return as_json(
                {"title": "x", "type": "about:blank", "status": self.status, "detail": "as it was set"}, self.status
            )
        sent = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not secrets.compare_digest(sent, self.token) and sent not in self.access:
            return as_json(
                {"title": "Unauthorized", "type": "about:blank", "status": 401, "detail": "Неверный токен"}, 401
            )
        for spent, (pair, _) in list(self.spent.items()):
            if pair["access_token"] == sent:
                del self.spent[spent]  # the new pair is in use: the old one is worth nothing any more
        self.requests[f"{request.method} {request.path}"] += 1
        fault = self._take_fault(request.method, request.path)
        if fault is Fault.DROP:
            raise Drop
        spoiled = {
            Fault.HTML: as_html("<html><body>Идут технические работы</body></html>", 200), Fault.EMPTY: Response(200, b""),
            Fault.HTTP_500: as_json({"status": 500}, 500), Fault.HTTP_503: as_html("<html>503</html>", 503),
            Fault.SUCCESS_FALSE: as_json("no", 200),
        }.get(fault)  # fmt: skip
        if spoiled is not None:
            return spoiled
        response = self._answer(request)
        if fault is Fault.DROP_AFTER:
            raise Drop
        if fault is Fault.HANG:
            await trio.sleep(self.hang_s)
        return response

    def _within_rate(self) -> bool:
        now = self.clock()
        if self.limits and len(self._gone) == RATE and now - self._gone[0] < 1.0:
            self.violations.append("over 7 requests in a second")
            return False
        self._gone.append(now)
        return True

    def _take_fault(self, method: str, path: str) -> Fault:
        fault = Fault(self.fault)
        if fault is Fault.NONE or (self.faulty and self.faulty not in (path, f"{method} {path}")):
            return Fault.NONE
        if self.fault_count is not None:
            self.fault_count -= 1
            if self.fault_count <= 0:
                self.fault, self.fault_count = Fault.NONE, None
        return fault

    def _answer(self, request: Request) -> Response:
        parts = request.path.removeprefix("/api/").split("/")
        if parts[1] in self.no_rights:
            return as_json({"title": "Forbidden", "type": "about:blank", "status": 403, "detail": "Нет прав"}, 403)
        try:
            body = json.loads(request.body) if request.body else None
            if request.method in ("POST", "PATCH") and request.content_type != "application/json":
                raise Refusal(400, "Content-Type must be application/json")
            answer = self._run(request.method, parts, dict(request.query), body)
        except Refusal as no:
            return as_json(no.body, no.status)
        except ValueError:
            return as_json(
                {"title": "Bad Request", "type": "about:blank", "status": 400, "detail": "Invalid JSON"}, 400
            )
        if answer is None:
            return Response(204, b"", "application/hal+json", (("X-Request-Id", secrets.token_hex(4)),))
        made = as_json(answer)
        return Response(200, made.body, "application/hal+json", (("X-Request-Id", secrets.token_hex(4)),))

    def _run(self, method: str, parts: list[str], query: dict[str, str], body: Any) -> Any:
        match method, parts:
            case "POST", ["v2", "events"]:
                return self._notify(body)
            case "GET", ["v4", "account"]:
                return {"id": 31, "name": self.name, "subdomain": "june", "current_user_id": 500}
            case "GET", ["v4", "users"]:
                return self._users(query)
            case "POST", ["v4", "calls"]:
                return self._calls(body)
            case "GET", ["v4", "tasks"]:
                return self._page_of("tasks", self._tasks_of(query), query)
            case "POST", ["v4", "tasks"]:
                return self._add_tasks(body)
            case "GET", ["v4", "leads", "pipelines"]:
                statuses = [
                    {"id": number, "name": name, "sort": 10 * place, "type": int(number == INCOMING)}
                    for place, (number, name) in enumerate(STAGES.items(), 1)
                ]
                one = {"id": 11, "name": "Воронка", "is_main": True, "is_unsorted_on": self.unsorted_on,
                       "_embedded": {"statuses": statuses}}  # fmt: skip
                return {"_total_items": 1, "_embedded": {"pipelines": [one]}}
            case "GET", ["v4", "leads", "unsorted"]:
                return self._page_of("unsorted", self.waiting[::-1], query)
            case "POST", ["v4", "leads", "unsorted", "sip"]:
                return self._add_unsorted(body)
            case "POST", ["v4", "leads", "complex"]:
                return self._add_complex(body)
            case "POST", ["v4", kind, "notes"] if kind in KINDS:
                return self._add_notes(kind, body)
            case "PATCH", ["v4", kind, "notes"] if kind in KINDS:
                return self._change_notes(body)
            case "GET", ["v4", kind, "notes"] if kind in KINDS:
                return self._page_of("notes", self._noted(query, kind), query)
            case "GET", ["v4", kind, number, "notes"] if kind in KINDS:
                return self._notes_of(kind, int(number), query)
            case "GET", ["v4", kind, "custom_fields"] if kind in KINDS:
                return self._page_of("custom_fields", self.custom_fields.get(kind, []), query)
            case "PATCH", ["v4", kind, number] if kind in KINDS:
                return self._change(kind, int(number), body)
            case "PATCH", ["v4", kind] if kind in KINDS:
                return {"_embedded": {kind: [self._change(kind, int(one["id"]), one) for one in self._elements(body)]}}
            case "GET", ["v4", kind] if kind in KINDS:
                return self._search(kind, query)
            case "POST", ["v4", kind] if kind in KINDS:
                return self._add_many(kind, body)
            case "GET", ["v4", kind, number] if kind in KINDS:
                found = self.entities[kind].get(int(number))
                return self._shown(kind, found) if found is not None else None
        raise Refusal(404, "Not found")

    # --- lists

    def _page_of(self, name: str, found: list[dict[str, Any]], query: dict[str, str]) -> Any:
        limit, page = int(query.get("limit", 50)), int(query.get("page", 1))
        if limit > 250:
            raise Refusal(400, "limit is 250 at most")
        part = found[(page - 1) * limit : page * limit]
        return {"_page": page, "_links": {}, "_embedded": {name: part}} if part else None

    def _users(self, query: dict[str, str]) -> Any:
        wanted = query.get("with", "").split(",")
        everyone = [
            {"id": one["id"], "name": one["name"], "email": one["email"], "rights": {"is_active": one.get("active", True)},
             **({"phone_number": one["phone_number"]} if "phone_number" in wanted else {})}
            for one in self.users.values()
        ]  # fmt: skip
        return self._page_of("users", everyone, query)

    def _shown(self, kind: str, entity: dict[str, Any]) -> dict[str, Any]:
        shown = {name: value for name, value in entity.items() if name not in ("waits", "made_at", "lead_ids")}
        return (
            {**shown, "_embedded": {"leads": [{"id": lead} for lead in entity["lead_ids"]]}}
            if kind == "contacts"
            else shown
        )

    def _search(self, kind: str, query: dict[str, str]) -> Any:
        wanted = query.get("query", "")

        def fits(entity: dict[str, Any]) -> bool:
            if entity["waits"] or self.clock() - entity["made_at"] < self.lag_s:
                return False
            if not wanted:
                return True
            for one in phones_of(entity):
                if digits(one) == digits(wanted):
                    return True
            fields = entity.get("custom_fields_values") or []
            values = [
                str(one["value"]).lower()
                for field in fields
                if field.get("field_code") == "EMAIL"
                for one in field["values"]
            ]
            return wanted.lower() in values or (
                wanted.lower() in str(entity.get("name", "")).lower() and not digits(wanted)
            )

        found = [self._shown(kind, one) for one in self.entities[kind].values() if fits(one)]
        return self._page_of(kind, found, query)

    # --- what is written

    def _elements(self, body: Any, most: int = BATCH) -> list[dict[str, Any]]:
        if not isinstance(body, list) or not body or not all(isinstance(one, dict) for one in body):
            raise Refusal(400, "An array of objects is expected")
        if len(body) > most:
            self.violations.append(f"{len(body)} elements in one request")
        if len(body) > self.heaviest:
            raise Refusal(504, "Gateway timeout")
        return body

    def _validated(self, body: list[dict[str, Any]], check: Callable[[dict[str, Any]], list[tuple[str, str]]]) -> None:
        found = []
        for index, one in enumerate(body):
            if wrong := check(one):
                errors = [{"code": "NotSupportedChoice", "path": path, "detail": said} for path, said in wrong]
                found.append({"request_id": str(one.get("request_id", index)), "errors": errors})
        if found:
            raise Refusal(400, "Request validation failed", **{"validation-errors": found})

    def _user_faults(self, one: Mapping[str, Any], *fields: str) -> list[tuple[str, str]]:
        wrong = []
        for name in fields:
            user = one.get(name)
            if isinstance(user, int) and not self.users.get(user, {"active": False}).get("active", True):
                wrong.append((name, "The value you selected is not a valid choice."))
        return wrong

    def _call_faults(self, one: Mapping[str, Any]) -> list[tuple[str, str]]:
        wrong = self._user_faults(one, "responsible_user_id", "call_responsible", "created_by")
        wrong += [(name, "This field is missing.") for name in ("duration", "source", "phone") if name not in one]
        if not isinstance(one.get("duration"), int):
            wrong.append(("duration", "must be an integer"))
        if one.get("call_status", 4) not in range(1, 8):
            wrong.append(("call_status", "The value you selected is not a valid choice."))
        for name in ("uniq", "phone", "source", "call_result", "link"):
            if not isinstance(one.get(name, ""), str):
                wrong.append((name, "must be a string"))
        if self.refuses_repeats and any(note["params"]["uniq"] == one.get("uniq") for note in self.calls):
            wrong.append(("uniq", "Not unique"))
        return wrong

    def _calls(self, body: Any) -> Any:
        elements = self._elements(body)
        self.batches.append(len(elements))

        def check(one: dict[str, Any]) -> list[tuple[str, str]]:
            direction = [] if one.get("direction") in ("inbound", "outbound") else [("direction", "not a valid choice")]
            return direction + self._call_faults(one)

        self._validated(elements, check)
        added, errors = [], []
        for index, one in enumerate(elements):
            number = str(one.get("request_id", index))
            if (found := self._matched(one["phone"])) is None:
                errors.append(
                    {"request_id": number, "status": 263, "title": "Entity not found", "detail": "Entity not found"}
                )
                continue
            kind, entity = found
            names = ("uniq", "duration", "source", "phone", "call_status", "call_result", "link", "call_responsible")
            params = {name: one[name] for name in names if name in one}
            note_type = "call_in" if one["direction"] == "inbound" else "call_out"
            made = self._note(kind, entity, note_type, params, one)
            single = {"contacts": "contact", "companies": "company", "leads": "lead"}[kind]
            added.append(
                {"id": made["id"], "entity_id": entity, "entity_type": single, "account_id": 31, "request_id": number}
            )
        if not added:
            raise Refusal(400, "Entity not found", errors=errors)
        return {"_total_items": len(added), "errors": errors, "_embedded": {"calls": added[::-1]}}

    def _matched(self, phone: str) -> tuple[str, int] | None:
        tail = digits(phone)[-10:]
        for kind in ("contacts", "companies") if self.matches else ():
            for number, entity in self.entities[kind].items():
                if not entity["waits"] and any(digits(one)[-10:] == tail for one in phones_of(entity)):
                    active = [
                        lead for lead in entity["lead_ids"]
                        if self.entities["leads"][lead].get("status_id") not in CLOSED
                    ]  # fmt: skip
                    return ("leads", active[0]) if len(active) == 1 else (kind, number)
        return None

    def _note(
        self, kind: str, entity: int, note_type: str, params: dict[str, Any], one: Mapping[str, Any]
    ) -> dict[str, Any]:
        uniq = params.get("uniq")
        if note_type != "common":
            if any(note["params"].get("uniq") == uniq for note in self.calls):
                self.violations.append(f"a second record of the call {uniq}")
            if any(
                w["metadata"]["uniq"] == uniq and w["metadata"].get("is_call_event_needed") for w in self.waiting
            ) and not one.get("own"):
                self.violations.append(f"a record of {uniq} beside the incoming lead")
        self._ids += 1
        made = {
            "id": self._ids, "entity_id": entity, "kind": kind, "note_type": note_type, "params": params,
            "created_at": one.get("created_at"), "responsible_user_id": one.get("responsible_user_id", 500),
        }  # fmt: skip
        self.notes.append(made)
        return made

    def _add_notes(self, kind: str, body: Any) -> Any:
        elements = self._elements(body)

        def check(one: dict[str, Any]) -> list[tuple[str, str]]:
            wrong = [] if one.get("entity_id") in self.entities[kind] else [("entity_id", "Not found")]
            if one.get("note_type") not in ("call_in", "call_out", "common"):
                return [*wrong, ("note_type", "not a valid choice")]
            wrong += self._user_faults(one, "responsible_user_id")
            params = one.get("params") or {}
            if one["note_type"] == "common":
                return (
                    wrong
                    if isinstance(params.get("text"), str)
                    else [*wrong, ("params.text", "This field is missing.")]
                )
            return wrong + [(f"params.{path}", said) for path, said in self._call_faults(params)]

        self._validated(elements, check)
        made = [
            {"id": self._note(kind, one["entity_id"], one["note_type"], one["params"], one)["id"], "entity_id": one["entity_id"],
             "request_id": str(one.get("request_id", index))}
            for index, one in enumerate(elements)
        ]  # fmt: skip
        return {"_embedded": {"notes": made}}

    def _change_notes(self, body: Any) -> Any:
        changed = []
        for one in self._elements(body):
            found = next((note for note in self.notes if note["id"] == one.get("id")), None)
            if found is None or one.get("note_type") != found["note_type"]:
                raise Refusal(400, "Note not found", **{"validation-errors": [{"request_id": "0", "errors": [
                    {"code": "NotFound", "path": "id", "detail": "Not found"}]}]})  # fmt: skip
            found["params"] = one["params"]
            changed.append({"id": found["id"], "entity_id": found["entity_id"]})
        return {"_embedded": {"notes": changed}}

    def _notes_of(self, kind: str, entity: int, query: dict[str, str]) -> Any:
        if entity not in self.entities[kind]:
            raise Refusal(404, "Not found")
        found = [note for note in self._noted(query, kind) if note["entity_id"] == entity]
        return self._page_of("notes", found, query)

    def _noted(self, query: dict[str, str], kind: str) -> list[dict[str, Any]]:
        types = {value for name, value in query.items() if name.startswith("filter[note_type]")}
        return [
            note
            for note in self.notes[::-1]
            if note["kind"] == kind and (not self.filters or not types or note["note_type"] in types)
        ]

    def _add_many(self, kind: str, body: Any) -> Any:
        elements = self._elements(body)
        self._validated(elements, lambda one: self._entity_faults(kind, one))
        made = []
        for index, one in enumerate(elements):
            number = self._made(kind, one)
            for contact in one.get("_embedded", {}).get("contacts", []):
                self.entities["contacts"][contact["id"]]["lead_ids"].append(number)
            made.append({"id": number, "request_id": str(one.get("request_id", index))})
        return {"_embedded": {kind: made}}

    def _change(self, kind: str, number: int, body: Any) -> Any:
        if number not in self.entities[kind]:
            raise Refusal(404, "Not found")
        if not isinstance(body, dict) or not body:
            raise Refusal(400, "An object is expected")
        self._validated([body], lambda one: self._entity_faults(kind, one, changed=True))
        entity = self.entities[kind][number]
        named = [(one.get("field_id"), one.get("field_code")) for one in body.get("custom_fields_values", ())]
        stay = [
            one
            for one in entity.get("custom_fields_values") or ()
            if (one.get("field_id"), one.get("field_code")) not in named
        ]
        entity |= {**body, "custom_fields_values": [*stay, *body.get("custom_fields_values", ())]}
        return {"id": number, "updated_at": int(time.time())}

    def _entity_faults(self, kind: str, one: Mapping[str, Any], *, changed: bool = False) -> list[tuple[str, str]]:
        wrong = self._user_faults(one, "responsible_user_id")
        if not isinstance(one.get("name", ""), str) or len(str(one.get("name", ""))) > 255:
            wrong.append(("name", "This value is too long."))
        for name in ("price", "status_id", "pipeline_id"):
            if name in one and (not isinstance(one[name], int) or (name == "status_id" and one[name] not in STAGES)):
                wrong.append((name, "not a valid choice"))
        given = {
            field.get("field_code") or str(field.get("field_id")) for field in one.get("custom_fields_values") or ()
        }
        if kind in self.required and not changed and self.required[kind] not in given:
            wrong.append((f"custom_fields_values.{self.required[kind]}", "This field is missing."))
        for index, field in enumerate(one.get("custom_fields_values") or ()):
            known = [each for each in self.custom_fields.get(kind, ()) if field.get("field_id", each["id"]) == each["id"]
                     and field.get("field_code", each["code"]) == each["code"]]  # fmt: skip
            values = [value["value"] for value in field["values"]]
            enums = [each["value"] for each in known[0].get("enums", ())] if known else []
            if kind != "companies" and (not known or (enums and not set(values) <= set(enums))):
                wrong.append((f"custom_fields_values.{index}.field_id", "not a valid choice"))
        return wrong

    def _made(self, kind: str, one: Mapping[str, Any], *, waits: bool = False) -> int:
        for phone in phones_of(one):
            self._once(phone)
        fields = {name: value for name, value in one.items() if name not in ("request_id", "_embedded")}
        return self._add(kind, {"responsible_user_id": 500, "status_id": 1, **fields}, waits=waits)

    def _once(self, phone: str) -> None:
        """The end of a number is the same however it is written."""
        tail = digits(phone)[-9:]
        for kind in ("contacts", "companies"):
            if any(digits(known)[-9:] == tail for one in self.entities[kind].values() for known in phones_of(one)):
                self.violations.append(f"a second record for {phone}")

    def _add_complex(self, body: Any) -> Any:
        elements = self._elements(body)
        self._validated(elements, lambda one: self._entity_faults("leads", one) + [
            fault for contact in one.get("_embedded", {}).get("contacts", []) for fault in self._entity_faults("contacts", contact)
        ])  # fmt: skip
        made = []
        for index, one in enumerate(elements):
            lead = self._made("leads", one)
            contacts = [self._made("contacts", contact) for contact in one.get("_embedded", {}).get("contacts", [])]
            for contact in contacts:
                self.entities["contacts"][contact]["lead_ids"].append(lead)
            made.append({"id": lead, "contact_id": contacts[0] if contacts else None, "company_id": None,
                         "request_id": [str(one.get("request_id", index))], "merged": False})  # fmt: skip
        return made

    def _add_unsorted(self, body: Any) -> Any:
        elements = self._elements(body)

        def check(one: dict[str, Any]) -> list[tuple[str, str]]:
            data = one.get("metadata") or {}
            wrong = [(name, "This field is missing.") for name in ("source_name", "source_uid") if not one.get(name)]
            wrong += [(f"metadata.{name}", "This field is missing.")
                      for name in ("from", "phone", "called_at", "duration", "link", "service_code", "uniq") if name not in data]  # fmt: skip
            if any(waits["source_uid"] == one.get("source_uid") for waits in self.waiting):
                wrong.append(("source_uid", "Not unique"))
            for lead in one.get("_embedded", {}).get("leads", []):
                wrong += [(f"leads.0.{path}", said) for path, said in self._entity_faults("leads", lead, changed=True)]
            return wrong + [(f"metadata.{path}", said) for path, said in self._user_faults(data, "call_responsible")]

        if not self.unsorted_on:
            raise Refusal(400, "Unsorted is switched off")
        self._validated(elements, check)
        made = []
        for one in elements:
            embedded = one.get("_embedded", {})
            ids = {
                kind: [{"id": self._made(kind, each, waits=True)} for each in embedded.get(kind, [])]
                for kind in ("contacts", "leads", "companies")
            }
            for contact in ids["contacts"]:
                self.entities["contacts"][contact["id"]]["lead_ids"] += [lead["id"] for lead in ids["leads"]]
            waits = {"uid": secrets.token_hex(16), "source_uid": one["source_uid"], "metadata": one["metadata"], "category": "sip",
                     "created_at": one.get("created_at"), "_embedded": ids}  # fmt: skip
            if one["metadata"].get("is_call_event_needed") and ids["leads"]:
                data = {**one["metadata"], "source": one["metadata"]["service_code"]}
                self._note(
                    "leads", ids["leads"][0]["id"], "call_in", data, {"own": True, "created_at": one.get("created_at")}
                )
            self.waiting.append(waits)
            made.append(
                {"uid": waits["uid"], "account_id": 31, "request_id": str(one.get("request_id")), "_embedded": ids}
            )
        return {"_total_items": len(made), "_embedded": {"unsorted": made}}

    def _add_tasks(self, body: Any) -> Any:
        elements = self._elements(body)

        def check(one: dict[str, Any]) -> list[tuple[str, str]]:
            wrong = [(name, "This field is missing.") for name in ("text", "complete_till") if not one.get(name)]
            kind, number = str(one.get("entity_type", "")), one.get("entity_id")
            if (kind or number) and number not in self.entities.get(kind, {}):
                wrong.append(("entity_id", "Not found"))
            return wrong + self._user_faults(one, "responsible_user_id")

        self._validated(elements, check)
        for one in elements:
            if any(known["text"] == one["text"] for known in self.tasks):
                self.violations.append(f"a second task: {one['text']}")
            self._ids += 1
            self.tasks.append({"id": self._ids, "responsible_user_id": 500, **one})
        made = self.tasks[-len(elements) :]
        return {
            "_embedded": {"tasks": [{"id": one["id"], "request_id": str(one.get("request_id", ""))} for one in made]}
        }

    def _tasks_of(self, query: dict[str, str]) -> list[dict[str, Any]]:
        wanted = query.get("filter[entity_id]") if self.filters else None
        return [one for one in self.tasks[::-1] if wanted is None or str(one.get("entity_id")) == wanted]

    def _notify(self, body: Any) -> Any:
        for one in (body or {}).get("add", ()):
            users = one.get("users")
            if one.get("type") != "phone_call" or not re.fullmatch(r"[0-9]{3,25}", str(one.get("phone_number"))):
                raise Refusal(400, "type or phone_number is wrong")
            if not isinstance(users, list) or not users or not all(isinstance(user, int) for user in users):
                raise Refusal(400, "users is a list of ids")
            self.cards.append((one["phone_number"], tuple(users)))
        return {"_embedded": {"items": []}}

    # --- the application

    async def _authorize(self, request: Request) -> Response:
        asked = dict(request.query)
        if asked.get("client_id") != self.CLIENT_ID:
            return as_html("<html>Интеграция не найдена</html>", 404)
        code = secrets.token_hex(12)
        self.codes.add(code)
        back = urlencode({"code": code, "state": asked.get("state", ""), "referer": "june.amocrm.ru", "platform": "1",
                          "client_id": self.CLIENT_ID})  # fmt: skip
        return Response(302, b"", "text/html", (("Location", f"{self.redirect_uri}?{back}"),))

    def _token_refusal(self, status: int, hint: str) -> Response:
        said = "В запросе отсутствует ряд параметров или параметры невалидны"
        return as_json(
            {"hint": hint, "title": "Некорректный запрос", "type": "about:blank", "status": status, "detail": said},
            status,
        )

    async def _exchange(self, request: Request) -> Response:
        if request.content_type != "application/json":
            return self._token_refusal(400, "Content-Type")
        asked = json.loads(request.body)
        if (asked.get("client_id"), asked.get("client_secret")) != (self.CLIENT_ID, self.CLIENT_SECRET):
            return self._token_refusal(401, "Client authentication failed")
        if asked.get("redirect_uri") != self.redirect_uri:
            return self._token_refusal(400, "redirect_uri")
        if asked.get("grant_type") == "authorization_code":
            if asked.get("code") not in self.codes:
                return self._token_refusal(400, "Authorization code has been revoked")
            self.codes.discard(asked["code"])
            return as_json(self._pair())
        return await self._refreshed(str(asked.get("refresh_token", "")))

    async def _refreshed(self, sent: str) -> Response:
        if self.on_exchange is not None:
            await self.on_exchange("asked")
        known = self.spent.get(sent)
        if sent == self.refresh:
            pair = self._pair()
            self.spent[sent] = pair, self.clock()
        elif known is not None and self.clock() - known[1] < self.grace_s:
            pair = known[0]
        else:
            return self._token_refusal(401, "Token has been revoked")
        if self.on_exchange is not None:
            await self.on_exchange("spent")
        if self.lose_exchange > 0:
            self.lose_exchange -= 1
            raise Drop
        return as_json(pair)

    def _pair(self) -> dict[str, Any]:
        self.exchanges += 1
        access, self.refresh = secrets.token_hex(24), secrets.token_hex(24)
        self.access = {access}
        return {"token_type": "Bearer", "expires_in": 86400, "access_token": access, "refresh_token": self.refresh}

    async def _nothing(self, request: Request) -> Response:
        return as_html("<html><body>404</body></html>", 404)

    # --- the page

    async def _page(self, request: Request) -> Response:
        rows = []
        for note in self.calls[-60:][::-1]:
            data, user = note["params"], note["params"].get("call_responsible", note["responsible_user_id"])
            name = self.users.get(user, {}).get("name", user) if isinstance(user, int) else user
            cells = (
                str(data.get("phone")), f"{note['kind']} {note['entity_id']}", str(name), f"{data.get('call_status', '')}",
                f"{data.get('duration')} s", str(data.get("call_result", "")), "recording" if data.get("link") else "",
            )  # fmt: skip
            rows.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
        counts = ", ".join(f"{len(items)} {kind}" for kind, items in self.entities.items())
        return as_html(
            f"""<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="2">
<meta name="viewport" content="width=device-width"><title>Sandbox amoCRM of {escape(self.name)}</title>
<style>body{{font:15px/1.45 system-ui;margin:1.5rem;color:#1d2530}}table{{border-collapse:collapse;width:100%}}
td,th{{text-align:left;padding:.35rem .8rem .35rem 0;border-bottom:1px solid #dde3ea;vertical-align:top}}</style>
<h1>Sandbox amoCRM of {escape(self.name)}</h1><p>{len(self.calls)} calls, {escape(counts)}, {len(self.waiting)} incoming leads,
{len(self.tasks)} tasks, {len(self.cards)} cards shown, {len(self.violations)} violations.</p>
<table><tr><th>phone<th>in<th>employee<th>status<th>talked<th>result<th>recording</tr>{"".join(rows)}</table></html>"""
        )
