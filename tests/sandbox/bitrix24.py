"""A sandbox Bitrix24 portal, strict about the REST API: it refuses what the real one refuses, in the same odd shapes.

It owns a make-believe portal: users, contacts, leads, companies, deals, tasks, calls with their cards, bound events; a webhook and
an application with its authorisation server. It knows nothing of the gateway. `portal.fault` makes it misbehave
(`web.Fault`). `violations` lists what a well-behaved client never does. The page `/` shows its calls. Long, because the methods
are spelled out one by one. Source: the REST reference, limits included: a bucket of 50 that drains 2 a second.
"""

import json
import re
import secrets
import time
from base64 import b64decode
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from html import escape
from typing import Any
from urllib.parse import parse_qsl, urlencode

import trio

from tests.sandbox.bitrix24_records import Refusal, as_list, check_fields, records_methods
from tests.sandbox.web import Drop, Fault, Request, Response, Site, as_html, as_json

CAPACITY, DRAIN_PER_S = 50, 2.0
REPEAT_S = 1800.0
STATUSES = {"200", "304", "603", "603-S", "403", "404", "486", "484", "503", "480", "402", "423", "OTHER"}
DEFAULT_USERS: tuple[dict[str, Any], ...] = (
    {"ID": "1", "NAME": "Админ", "LAST_NAME": "Портала", "EMAIL": "admin@june.example", "UF_PHONE_INNER": None},
    {"ID": "18", "NAME": "Анна", "LAST_NAME": "Кузьмина", "EMAIL": "anna@june.example", "UF_PHONE_INNER": "151"},
    {"ID": "19", "NAME": "Иван", "LAST_NAME": "Петров", "EMAIL": "ivan@june.example", "UF_PHONE_INNER": "150"},
    {"ID": "22", "NAME": "Ольга", "LAST_NAME": "Мороз", "EMAIL": "olga@june.example", "UF_PHONE_INNER": "152"},
    {"ID": "23", "NAME": "Глеб", "LAST_NAME": "Орлов", "EMAIL": "gleb@june.example", "UF_PHONE_INNER": "153", "ACTIVE": False},
)  # fmt: skip
SCOPE = ("crm", "telephony", "user", "task")


@dataclass(slots=True)
class CallRecord:
    """A registered call."""

    call_id: str
    fields: dict[str, Any]
    user: str
    at: float
    entity: tuple[str, int] | None
    cards: list[str] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)
    """Everybody who has had the card, in order."""
    finished: dict[str, Any] | None = None
    record: str = ""


def digits(text: Any) -> str:
    """What the portal compares numbers by."""
    return re.sub(r"\D", "", str(text))


def nested(query: str) -> dict[str, Any]:
    """PHP's reading of a query: brackets are maps."""
    found: dict[str, Any] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        path = name.replace("]", "").split("[")
        place = found
        for part in path[:-1]:
            place = place.setdefault(part, {})
        place[path[-1]] = value
    return found


class Bitrix24:
    """One portal. `base = await nursery.start(portal.serve)`; then look at `calls`, `leads`, `tasks`, `violations`."""

    CLIENT_ID, CLIENT_SECRET, APPLICATION_TOKEN = "local.6a1b2c", "the-key-of-the-local-app-01", "51610fefc120afg4"

    def __init__(
        self, secret: str = "", *, name: str = "Bitrix24", users: tuple[dict[str, Any], ...] = DEFAULT_USERS,
        webhook_may_call: bool = True, limits: bool = True,
    ) -> None:  # fmt: skip
        self.secret = secret or secrets.token_hex(8)
        self.name = name
        self.users = {str(user["ID"]): dict(user) for user in users}
        self.webhook_may_call = webhook_may_call
        """Whether a webhook may register calls: documents say no, practice says yes."""
        self.limits = limits
        self.clock: Callable[[], float] = time.monotonic
        self.scope = list(SCOPE)
        self.fault: Fault | str = Fault.NONE
        self.fault_count: int | None = None
        self.hang_s = 30.0
        self.faulty = ""
        """The only method that the fault is for; empty: all."""
        self.moved_to = ""
        """The origin of the portal's new name: this address answers 302."""
        self.required: set[str] = set()
        """Fields without which no lead, contact or deal is made."""
        self.simple_crm = False
        """Without leads: an unknown caller becomes a contact with a deal."""
        self.operating: dict[str, float] = {}
        """Seconds that a method has worked, by its name in lower case; over 480 it is refused."""
        self.resets_in_s = 300.0
        self.record_status = 200
        """What the server of a recording answers when the portal fetches it."""
        self.rows: dict[int, list[dict[str, Any]]] = {}
        """Product rows by their deal."""
        self.comments: list[dict[str, Any]] = []
        """In the history of clients."""
        self.calls: dict[str, CallRecord] = {}
        self.entities: dict[str, dict[int, dict[str, Any]]] = {
            kind: {} for kind in ("LEAD", "CONTACT", "COMPANY", "DEAL")
        }
        self.tasks: list[dict[str, Any]] = []
        self.todos: list[dict[str, Any]] = []
        self.lines: list[str] = []
        self.events: set[tuple[str, str]] = set()
        self.requests: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.violations: list[str] = []
        self.codes: set[str] = set()
        self.access, self.refresh = "", ""
        self.spent: set[str] = set()
        self.exchanges = 0
        self.grace = False
        """Whether a refresh token that was just spent brings the same pair again. Whether the real one does is not documented."""
        self._pair: dict[str, Any] = {}
        self.redirect_uri = ""
        """What stands in the application."""
        self._level, self._leaked_at = 0.0, 0.0
        self._ids = 100
        self.site = Site(
            {
                ("GET", "/"): self._page, ("GET", "/oauth/authorize/"): self._authorize,
                ("GET", "/oauth/token/"): self._token, ("POST", "/rest/{user}/{secret}/{method}"): self._webhook,
                ("POST", "/rest/{method}"): self._application,
            },
            self._nothing,
        )  # fmt: skip
        self.methods: Mapping[str, Callable[[dict[str, Any]], Any]] = {
            "scope": lambda params: self.scope,
            "user.get": self._users, "user.update": self._update_user,
            "telephony.externalcall.register": self._register, "telephony.externalcall.finish": self._finish,
            "telephony.externalcall.show": self._show, "telephony.externalcall.hide": self._hide,
            "telephony.externalcall.attachrecord": self._attach,
            "telephony.externalcall.searchcrmentities": self._search, "telephony.externalline.add": self._add_line,
            "crm.duplicate.findbycomm": self._find, "tasks.task.add": self._add_task, "tasks.task.list": self._list_tasks,
            "crm.activity.todo.add": self._add_todo,
            "event.get": lambda params: [{"event": e, "handler": h, "auth_type": "0"} for e, h in sorted(self.events)],
            "event.bind": self._bind, "event.unbind": self._unbind,
            **records_methods(self),
            **{f"crm.{kind.lower()}.add": self._adds(kind) for kind in self.entities},
            **{f"crm.{kind.lower()}.get": self._gets(kind) for kind in self.entities},
            **{f"crm.{kind.lower()}.list": self._lists(kind) for kind in self.entities},
        }  # fmt: skip

    @property
    def base(self) -> str:
        """The portal's address, once it serves."""
        return self.site.base

    @property
    def webhook_url(self) -> str:
        """The address of its inbound webhook."""
        return f"{self.base}/rest/1/{self.secret}/"

    async def serve(self, port: int = 0, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        """Runs until cancelled; starts with the portal's address."""
        await self.site.serve(port, task_status=task_status)

    def add(self, kind: str, phone: str, owner: str = "1", **fields: Any) -> int:
        """Something that was there before."""
        self._ids += 1
        self.entities[kind][self._ids] = {
            "ID": str(self._ids), "PHONE": [{"VALUE": phone, "VALUE_TYPE": "WORK"}], "ASSIGNED_BY_ID": owner, **fields,
        }  # fmt: skip
        return self._ids

    @property
    def open_calls(self) -> list[CallRecord]:
        """Calls that were registered and never finished."""
        return [call for call in self.calls.values() if call.finished is None]

    # --- what every request goes through

    async def _webhook(self, request: Request) -> Response:
        if self.moved_to:
            where = f"{self.moved_to}{request.path}"
            return Response(302, b"", "text/html", (("Location", where),))
        if request.parts["user"] != "1" or not secrets.compare_digest(request.parts["secret"], self.secret):
            return self._answer(
                request, lambda params: self._no(401, "INVALID_CREDENTIALS", "Invalid request credentials")
            )
        return await self._served(request, application=False)

    async def _application(self, request: Request) -> Response:
        if self.moved_to:
            return Response(302, b"", "text/html", (("Location", f"{self.moved_to}{request.path}"),))
        try:
            token = json.loads(request.body).get("auth")
        except ValueError:
            token = None
        if not self.access or token != self.access:
            code = "expired_token" if token else "NO_AUTH_FOUND"
            return self._answer(request, lambda params: self._no(401, code, "The access token provided has expired."))
        return await self._served(request, application=True)

    async def _served(self, request: Request, *, application: bool) -> Response:
        method = request.parts["method"].lower().removesuffix(".json")
        fault = self._take_fault(method)
        if fault is Fault.DROP:
            raise Drop
        spoiled = {
            Fault.HTML: as_html("<html><body>Портал временно недоступен</body></html>", 200),
            Fault.EMPTY: Response(200, b""), Fault.HTTP_500: as_json({"error": "INTERNAL_SERVER_ERROR"}, 500),
            Fault.HTTP_503: as_html("<html>503</html>", 503), Fault.SUCCESS_FALSE: as_json({"error": "", "error_description": ""}, 200),
        }.get(fault)  # fmt: skip
        if spoiled is not None:
            return spoiled
        response = self._answer(request, lambda params: self._run(method, params, application=application))
        if fault is Fault.DROP_AFTER:
            raise Drop
        if fault is Fault.HANG:
            await trio.sleep(self.hang_s)
        return response

    def _take_fault(self, method: str) -> Fault:
        fault = Fault(self.fault)
        if fault is Fault.NONE or (self.faulty and self.faulty.lower() != method):
            return Fault.NONE
        if self.fault_count is not None:
            self.fault_count -= 1
            if self.fault_count <= 0:
                self.fault, self.fault_count = Fault.NONE, None
        return fault

    def _no(self, status: int, code: str, said: str = "") -> Any:
        raise Refusal(status, code, said)

    def _answer(self, request: Request, run: Callable[[dict[str, Any]], Any]) -> Response:
        try:
            self._pour()
            params = json.loads(request.body) if request.body else {}
            if not isinstance(params, dict):
                raise Refusal(400, "INVALID_REQUEST", "Invalid request.")
            answer = run(params)
        except Refusal as no:
            self.refused[no.code] += 1
            body = {"error": no.code, "error_description": no.said}
            return as_json({**body, "time": self._time(request.path)}, no.status)
        except ValueError:
            return as_json({"error": "INVALID_REQUEST", "error_description": "Invalid JSON"}, 400)
        more = answer if isinstance(answer, dict) and answer.keys() >= {"result", "total"} else {"result": answer}
        return as_json({**more, "time": self._time(request.path)})

    def _time(self, path: str) -> dict[str, Any]:
        method, now = path.rpartition("/")[2].lower(), time.time()
        return {
            "start": now, "finish": now, "duration": 0.01, "processing": 0.01, "date_start": "", "date_finish": "",
            "operating": self.operating.get(method, 0.0), "operating_reset_at": int(now + self.resets_in_s),
        }  # fmt: skip

    def _pour(self) -> None:
        now = self.clock()
        self._level = max(0.0, self._level - (now - self._leaked_at) * DRAIN_PER_S)
        self._leaked_at = now
        if self.limits and self._level + 1 > CAPACITY:
            self.violations.append("over the limit of requests")
            raise Refusal(503, "QUERY_LIMIT_EXCEEDED", "Too many requests")
        self._level += 1

    def _run(self, method: str, params: dict[str, Any], *, application: bool) -> Any:
        self.requests[method] += 1
        if method == "batch":
            return self._batch(params, application=application)
        if method not in self.methods:
            raise Refusal(404, "ERROR_METHOD_NOT_FOUND", "Method not found!")
        scope = {"tasks": "task", "event": "telephony"}.get(method.partition(".")[0], method.partition(".")[0])
        if scope != "scope" and scope not in self.scope:
            raise Refusal(
                403, "insufficient_scope", "The request requires higher privileges than provided by the access token"
            )
        app_only = method.startswith(("event.", "telephony.externalline."))
        calls = method in ("telephony.externalcall.register", "telephony.externalcall.finish")
        if not application and (app_only or (calls and not self.webhook_may_call)):
            raise Refusal(403, "WRONG_AUTH_TYPE", "Current authorization type is denied for this method")
        if self.operating.get(method, 0.0) >= 480:
            self.violations.append(f"{method} although its time is over")
            raise Refusal(429, "OPERATION_TIME_LIMIT", "Method is blocked due to operation time limit.")
        return self.methods[method](params)

    def _batch(self, params: dict[str, Any], *, application: bool) -> dict[str, Any]:
        commands = params.get("cmd")
        if not isinstance(commands, dict) or not commands:
            raise Refusal(400, "ERROR_ARGUMENT", "cmd is empty")
        if len(commands) > 50:
            raise Refusal(400, "ERROR_BATCH_LENGTH_EXCEEDED", "Max batch length exceeded")
        results: dict[str, Any] = {}
        errors: dict[str, Any] = {}
        for name, line in commands.items():
            method, _, query = str(line).partition("?")
            if method.lower() == "batch":
                raise Refusal(405, "ERROR_BATCH_METHOD_NOT_ALLOWED", "Method is not allowed for batch usage")
            try:
                results[name] = self._run(method.lower(), nested(query), application=application)
            except Refusal as no:
                errors[name] = {"error": no.code, "error_description": no.said}
                if int(params.get("halt", 0)):
                    break
        return {
            "result": results or [], "result_error": errors or [], "result_total": [], "result_next": [], "result_time": [],
        }  # fmt: skip

    # --- people

    def _users(self, params: dict[str, Any]) -> dict[str, Any]:
        start = int(params.get("start") or 0)
        everyone = [{"ACTIVE": True, **user} for user in self.users.values()]
        page = {"result": everyone[start : start + 50], "total": len(everyone)}
        return {**page, "next": start + 50} if start + 50 < len(everyone) else page

    def _update_user(self, params: dict[str, Any]) -> bool:
        user = self.users.get(str(params.get("ID")))
        if user is None:
            raise Refusal(400, "ERROR_CORE", "User not found")
        user["UF_PHONE_INNER"] = params.get("UF_PHONE_INNER")
        return True

    def _user(self, params: dict[str, Any]) -> str:
        if not params.get("USER_ID") and not params.get("USER_PHONE_INNER"):
            raise Refusal(400, "ERROR_CORE", "USER_ID or USER_PHONE_INNER should be set")
        for user_id, user in self.users.items():
            named = str(params.get("USER_ID", "")) == user_id or (
                not params.get("USER_ID") and user.get("UF_PHONE_INNER") == params.get("USER_PHONE_INNER")
            )
            if named and user.get("ACTIVE", True):
                return user_id
        raise Refusal(400, "ERROR_CORE", "User is not found or is not active")

    # --- telephony

    def _register(self, params: dict[str, Any]) -> dict[str, Any]:
        user, phone = self._user(params), str(params.get("PHONE_NUMBER", ""))
        if not re.fullmatch(r"\+?\d{3,25}", phone):
            raise Refusal(400, "ERROR_CORE", "Unsupported phone number format.")
        if str(params.get("TYPE")) not in ("1", "2", "3", "4", "5"):
            raise Refusal(400, "ERROR_CORE", "Unknown TYPE")
        started = str(params.get("CALL_START_DATE", ""))
        if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d", started):
            raise Refusal(400, "ERROR_CORE", "CALL_START_DATE should be in the ISO-8601 format")
        datetime.fromisoformat(started)
        external = str(params.get("EXTERNAL_CALL_ID", ""))
        if not external:
            self.violations.append("a call was registered without EXTERNAL_CALL_ID")
        for known in self.calls.values():
            same = ("PHONE_NUMBER", "TYPE", "LINE_NUMBER", "EXTERNAL_CALL_ID")
            if (
                self.clock() - known.at < REPEAT_S
                and all(known.fields.get(n) == params.get(n) for n in same)
                and (known.user == user)
            ):
                return self._registered(known, [])
        entity, created = self._entity(params), []
        if entity is None and str(params.get("CRM_CREATE", "0")) == "1":
            created = self._create(phone, user)
            entity = created[0] if created else None
        call = CallRecord(
            f"externalCall.{secrets.token_hex(8)}.{len(self.calls)}", dict(params), user, self.clock(), entity
        )
        self.calls[call.call_id] = call
        if str(params.get("SHOW", "1")) == "1":
            self._card(call, user)
        answer = self._registered(call, created)
        if entity is None and str(params.get("CRM_CREATE", "0")) == "1":
            answer["LEAD_CREATION_ERROR"] = f"Не заполнено обязательное поле {', '.join(sorted(self.required))}"
        return answer

    def _registered(self, call: CallRecord, created: list[tuple[str, int]]) -> dict[str, Any]:
        return {
            "CALL_ID": call.call_id, "CRM_CREATED_LEAD": created[0][1] if created and created[0][0] == "LEAD" else None,
            "CRM_CREATED_ENTITIES": [{"ENTITY_TYPE": kind, "ENTITY_ID": number} for kind, number in created],
            "CRM_ENTITY_TYPE": call.entity[0] if call.entity else None, "CRM_ENTITY_ID": call.entity[1] if call.entity else None,
        }  # fmt: skip

    def _entity(self, params: dict[str, Any]) -> tuple[str, int] | None:
        kind, number = str(params.get("CRM_ENTITY_TYPE") or ""), int(params.get("CRM_ENTITY_ID") or 0)
        if number in self.entities.get(kind, {}):
            return kind, number
        # The portal looks by itself too, by the very digits it was given.
        wanted = digits(params["PHONE_NUMBER"])
        for one in ("CONTACT", "COMPANY", "LEAD"):
            for found, item in self.entities[one].items():
                if any(digits(phone["VALUE"]) == wanted for phone in item.get("PHONE", ())):
                    return one, found
        return None

    def _create(self, phone: str, user: str) -> list[tuple[str, int]]:
        if self.required:
            return []
        self._once(phone)
        if self.simple_crm:
            contact = self.add("CONTACT", phone, user)
            return [("CONTACT", contact), ("DEAL", self.add("DEAL", "", user, CONTACT_IDS=[contact]))]
        return [("LEAD", self.add("LEAD", phone, user))]

    def _once(self, phone: str) -> None:
        """The end of a number is the same however it is written."""
        tail = digits(phone)[-9:]
        for kind in ("CONTACT", "COMPANY", "LEAD"):
            for item in self.entities[kind].values():
                if any(digits(one["VALUE"])[-9:] == tail for one in item.get("PHONE", ())):
                    self.violations.append(f"a second record for {phone}")

    def _card(self, call: CallRecord, user: str) -> None:
        if user not in call.cards:
            call.cards.append(user)
            call.shown.append(user)

    def _show(self, params: dict[str, Any]) -> bool:
        call = self.calls.get(str(params.get("CALL_ID")))
        if call is None or call.finished is not None:
            return False
        for user in as_list(params.get("USER_ID")):
            self._card(call, str(user))
        return True

    def _hide(self, params: dict[str, Any]) -> bool:
        call = self.calls.get(str(params.get("CALL_ID")))
        if call is None or call.finished is not None:
            return False
        call.cards = [user for user in call.cards if user not in {str(one) for one in as_list(params.get("USER_ID"))}]
        return True

    def _finish(self, params: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(params.get("CALL_ID"), str):
            raise Refusal(400, "INVALID_ARGUMENT", "CALL_ID must be a string")
        user = self._user(params)
        call = self.calls.get(params["CALL_ID"])
        if call is None or call.finished is not None:
            # The real one leaves the code empty here.
            raise Refusal(400, "", "Call is not found (call should be registered prior to finishing)")
        duration = int(params.get("DURATION", 0))
        status = str(params.get("STATUS_CODE") or ("200" if duration else "304"))
        if status not in STATUSES:
            raise Refusal(400, "ERROR_CORE", "Unknown status code")
        call.finished = {**params, "USER": user, "DURATION": duration, "STATUS_CODE": status}
        call.cards = []
        self._ids += 1
        return {
            "ID": self._ids, "CALL_ID": call.call_id, "CALL_START_DATE": {}, "CALL_DURATION": duration, "CALL_FAILED_CODE": status,
            "PORTAL_USER_ID": user, "CRM_ACTIVITY_ID": str(self._ids + 1000),
            "CRM_ENTITY_TYPE": call.entity[0] if call.entity else None, "CRM_ENTITY_ID": call.entity[1] if call.entity else None,
        }  # fmt: skip

    def _attach(self, params: dict[str, Any]) -> dict[str, Any]:
        call = self.calls.get(str(params.get("CALL_ID")))
        if call is None or call.finished is None:
            raise Refusal(400, "ERROR_CORE", "Call is not found in the statistic table")
        if not str(params.get("FILENAME", "")).lower().endswith((".wav", ".mp3")):
            raise Refusal(400, "ERROR_CORE", "Wrong file extension. Only wav and mp3 are allowed")
        if params.get("FILE_CONTENT"):
            call.record = f"{len(b64decode(str(params['FILE_CONTENT']), validate=True))} bytes"
            return {"FILE_ID": 12}
        if not re.match(r"https?://", str(params.get("RECORD_URL", ""))):
            raise Refusal(400, "ERROR_CORE", "URL is empty")
        if self.record_status != 200:
            raise Refusal(400, "ERROR_CORE", f"Server returns HTTP error code {self.record_status}")
        call.record = params["RECORD_URL"]
        return {"FILE_ID": 12}

    def _search(self, params: dict[str, Any]) -> list[dict[str, Any]]:
        wanted = digits(params.get("PHONE_NUMBER"))
        found = []
        for kind in ("CONTACT", "COMPANY", "LEAD"):
            for number, item in self.entities[kind].items():
                if any(digits(one["VALUE"]) == wanted for one in item.get("PHONE", ())):
                    user = self.users.get(item["ASSIGNED_BY_ID"], {})
                    found.append({
                        "CRM_ENTITY_TYPE": kind, "CRM_ENTITY_ID": number, "NAME": item.get("NAME", ""),
                        "ASSIGNED_BY": {"ID": item["ASSIGNED_BY_ID"], "TIMEMAN_STATUS": "OPENED",
                                        "USER_PHONE_INNER": user.get("UF_PHONE_INNER")},
                    })  # fmt: skip
        return found

    def _add_line(self, params: dict[str, Any]) -> dict[str, Any]:
        if params.get("NUMBER") in self.lines:
            raise Refusal(400, "ERROR_CORE", "Line already exists")
        self.lines.append(str(params.get("NUMBER")))
        return {"ID": len(self.lines)}

    def request_call(self, user: str, phone: str) -> tuple[str, bytes]:
        """Somebody clicks on a number: the CALL_ID of their card, and the event as it is sent."""
        call = CallRecord(
            f"externalCall.{secrets.token_hex(8)}.c", {"PHONE_NUMBER": phone, "TYPE": 1}, user, self.clock(), None
        )
        self.calls[call.call_id] = call
        self._card(call, user)
        return call.call_id, self.event("ONEXTERNALCALLSTART", {
            "PHONE_NUMBER": phone, "PHONE_NUMBER_INTERNATIONAL": phone, "EXTENSION": "", "USER_ID": user, "CALL_LIST_ID": "0",
            "LINE_NUMBER": "", "IS_MOBILE": "0", "CALL_ID": call.call_id, "CRM_ENTITY_TYPE": "CONTACT", "CRM_ENTITY_ID": "0",
        })  # fmt: skip

    def event(self, name: str, data: Mapping[str, str], token: str = "") -> bytes:
        """An event as the portal sends it."""
        fields = {"event": name, "event_handler_id": "9", **{f"data[{key}]": value for key, value in data.items()},
                  "ts": str(int(time.time())), "auth[domain]": "june.bitrix24.by",
                  "auth[application_token]": token or self.APPLICATION_TOKEN}  # fmt: skip
        return urlencode(fields).encode()

    # --- the CRM

    def _find(self, params: dict[str, Any]) -> dict[str, Any] | list[Any]:
        if params.get("type") not in ("PHONE", "EMAIL"):
            raise Refusal(400, "Communication type is not defined", "")
        values = as_list(params.get("values", []))
        if not values or len(values) > 20:
            raise Refusal(400, "", "Values are not defined")
        wanted, mails = {digits(value) for value in values}, {str(value).lower() for value in values}
        found: dict[str, list[int]] = {}
        for kind in (params.get("entity_type"),) if params.get("entity_type") else ("LEAD", "CONTACT", "COMPANY"):
            ids = [
                number for number, item in self.entities.get(str(kind), {}).items()
                if any(digits(one["VALUE"]) in wanted for one in item.get("PHONE", ()) if params["type"] == "PHONE")
                or any(one["VALUE"].lower() in mails for one in item.get("EMAIL", ()) if params["type"] == "EMAIL")
            ]  # fmt: skip
            if ids:
                found[str(kind)] = ids[:20]
        return found or []

    def _adds(self, kind: str) -> Callable[[dict[str, Any]], int]:
        def add(params: dict[str, Any]) -> int:
            fields = params.get("fields")
            if not isinstance(fields, dict):
                raise Refusal(400, "", "Parameter 'fields' must be array.")
            if missing := self.required - fields.keys():
                raise Refusal(400, "", f"Не заполнено обязательное поле {', '.join(sorted(missing))}")
            if phones := [one["VALUE"] for one in fields.get("PHONE", ())]:
                self._once(phones[0])
            check_fields(self, kind, fields)
            if kind == "DEAL":
                fields = {"STAGE_ID": "NEW", **fields}
            self._ids += 1
            self.entities[kind][self._ids] = {
                "ID": str(self._ids),
                **fields,
                "ASSIGNED_BY_ID": str(fields.get("ASSIGNED_BY_ID", "1")),
            }
            return self._ids

        return add

    def _gets(self, kind: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
        def get(params: dict[str, Any]) -> dict[str, Any]:
            found = self.entities[kind].get(int(params.get("id") or 0))
            if found is None:
                raise Refusal(400, "", "Not found")
            return found

        return get

    def _lists(self, kind: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
        def listed(params: dict[str, Any]) -> dict[str, Any]:
            wanted = params.get("filter", {})
            found = [item for item in self.entities[kind].values() if all(item.get(n) == v for n, v in wanted.items())]
            return {"result": [{"ID": item["ID"]} for item in found], "total": len(found)}

        return listed

    def _add_task(self, params: dict[str, Any]) -> dict[str, Any]:
        fields = params.get("fields", {})
        if not fields.get("TITLE") or str(fields.get("RESPONSIBLE_ID")) not in self.users:
            raise Refusal(400, "1048582", "TASKS_ERROR_EXCEPTION")
        self.tasks.append({**fields, "id": str(len(self.tasks) + 1)})
        return {"task": {"id": str(len(self.tasks))}}

    def _list_tasks(self, params: dict[str, Any]) -> dict[str, Any]:
        wanted = params.get("filter", {}).get("=TITLE")
        return {"tasks": [{"id": one["id"]} for one in self.tasks if wanted is None or one["TITLE"] == wanted]}

    def _add_todo(self, params: dict[str, Any]) -> dict[str, Any]:
        kind = {1: "LEAD", 2: "DEAL", 3: "CONTACT", 4: "COMPANY"}.get(int(params.get("ownerTypeId") or 0), "")
        if int(params.get("ownerId") or 0) not in self.entities.get(kind, {}):
            raise Refusal(400, "OWNER_NOT_FOUND", "Owner was not found")
        self.todos.append(params)
        return {"id": len(self.todos)}

    # --- events, the application

    def _bind(self, params: dict[str, Any]) -> bool:
        pair = str(params.get("event", "")).upper(), str(params.get("handler", ""))
        if pair in self.events:
            raise Refusal(400, "ERROR_EVENT_BINDING_EXISTS", "Handler already binded")
        self.events.add(pair)
        return True

    def _unbind(self, params: dict[str, Any]) -> dict[str, int]:
        pair = str(params.get("event", "")).upper(), str(params.get("handler", ""))
        count = int(pair in self.events)
        self.events.discard(pair)
        return {"count": count}

    async def _authorize(self, request: Request) -> Response:
        asked = dict(request.query)
        if asked.get("client_id") != self.CLIENT_ID or "redirect_uri" in asked:
            return as_json({"error": "invalid_client"}, 400)
        code = secrets.token_hex(12)
        self.codes.add(code)
        back = urlencode({
            "code": code, "state": asked.get("state", ""), "domain": "june.bitrix24.by", "member_id": "a223c6", "scope": "crm",
            "server_domain": "oauth.bitrix.info",
        })  # fmt: skip
        return Response(302, b"", "text/html", (("Location", f"{self.redirect_uri}?{back}"),))

    async def _token(self, request: Request) -> Response:
        asked = dict(request.query)
        if (asked.get("client_id"), asked.get("client_secret")) != (self.CLIENT_ID, self.CLIENT_SECRET):
            return as_json({"error": "invalid_client", "error_description": "Invalid client"}, 401)
        if asked.get("grant_type") == "authorization_code":
            if asked.get("code") not in self.codes:
                return as_json({"error": "invalid_grant", "error_description": "Invalid code"}, 400)
            self.codes.discard(asked["code"])
        elif self.grace and asked.get("refresh_token") in self.spent and self._pair:
            return as_json(self._pair)
        elif asked.get("refresh_token") != self.refresh or self.refresh in self.spent:
            self.violations.append("a refresh token was spent twice, or was none")
            return as_json({"error": "invalid_grant", "error_description": "Invalid refresh token"}, 400)
        else:
            self.spent.add(self.refresh)
        self.exchanges += 1
        self.access, self.refresh = secrets.token_hex(16), secrets.token_hex(16)
        self._pair = {
            "access_token": self.access, "refresh_token": self.refresh, "expires_in": 3600, "expires": int(time.time()) + 3600,
            "client_endpoint": f"{self.base}/rest/", "server_endpoint": "https://oauth.bitrix.info/rest/", "domain": "oauth.bitrix.info",
            "member_id": "a223c6", "scope": ",".join(self.scope), "status": "L", "user_id": 1,
        }  # fmt: skip
        return as_json(self._pair)

    async def _nothing(self, request: Request) -> Response:
        return as_html("<html><body>404</body></html>", 404)

    # --- the page

    async def _page(self, request: Request) -> Response:
        rows = []
        for call in list(self.calls.values())[-60:][::-1]:
            names = ", ".join(str(self.users.get(user, {}).get("NAME", user)) for user in call.shown)
            end = call.finished or {}
            cells = (
                str(call.fields.get("PHONE_NUMBER", "")), f"{call.entity[0]} {call.entity[1]}" if call.entity else "", names,
                f"{end['STATUS_CODE']}, {end['DURATION']} s" if end else "open", "recording" if call.record else "",
            )  # fmt: skip
            rows.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
        counts = ", ".join(f"{len(items)} {kind.lower()}s" for kind, items in self.entities.items())
        return as_html(
            f"""<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="2">
<meta name="viewport" content="width=device-width"><title>Sandbox {escape(self.name)}</title>
<style>body{{font:15px/1.45 system-ui;margin:1.5rem;color:#1d2530}}table{{border-collapse:collapse;width:100%}}
td,th{{text-align:left;padding:.35rem .8rem .35rem 0;border-bottom:1px solid #dde3ea;vertical-align:top}}</style>
<h1>Sandbox {escape(self.name)}</h1><p>{len(self.calls)} calls, {escape(counts)}, {len(self.tasks)} tasks, {len(self.comments)} comments,
{self.refused.total()} requests refused, {len(self.violations)} violations.</p>
<table><tr><th>phone<th>client<th>card shown to<th>end<th>recording</tr>{"".join(rows)}</table></html>"""
        )
