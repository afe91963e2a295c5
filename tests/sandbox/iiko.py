"""A sandbox of the restaurant cloud (iiko and Syrve), strict about its API: it refuses what the real one refuses, in its shapes.

It owns a make-believe account: organizations, terminal groups, a menu with its stop-list, guests, deliveries with their commands,
webhooks. It knows nothing of the gateway. `cloud.fault` makes it misbehave (`web.Fault`); `violations` lists what a well-behaved client
never does; the page `/` shows guests and orders. Long, because the requests are spelled out one by one. Source: the provider's OpenAPI;
how a repeated id is refused and which word stands before the webhook's token are switches, for they are not documented.
"""

import base64
import json
import re
import secrets
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from typing import Any

import trio

from tests.sandbox.web import Drop, Fault, Request, Response, Site, as_html, as_json

ORGANIZATION, OTHER_ORGANIZATION = "7bc05553-4b68-44e8-b7bc-37be63c6d9e9", "8bc05553-4b68-44e8-b7bc-37be63c6d9e9"
TERMINAL_GROUP, OTHER_GROUP = "4fab19a5-203c-4bf5-94eb-f572aa8b117b", "5fab19a5-203c-4bf5-94eb-f572aa8b117b"
SOUP, PIZZA, COLA, CHEESE = (f"{n}0000000-0000-4000-8000-000000000001" for n in "1234")
SMALL, LARGE = "a0000000-0000-4000-8000-000000000001", "b0000000-0000-4000-8000-000000000001"
MAIN, EXTRAS = "c0000000-0000-4000-8000-000000000001", "d0000000-0000-4000-8000-000000000001"
STATUSES = (
    "Unconfirmed", "WaitCooking", "ReadyForCooking", "CookingStarted", "CookingCompleted", "Waiting", "OnWay", "Delivered", "Closed",
    "Cancelled",
)  # fmt: skip
_UUID = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}")


class Refusal(Exception):
    """An answer that says no."""

    def __init__(self, status: int, said: str, code: str | None = None) -> None:
        super().__init__(said)
        self.status, self.said, self.code = status, said, code


@dataclass
class Delivery:
    """An order at the till."""

    id: str
    fields: dict[str, Any]
    creation: str = "InProgress"
    error: dict[str, Any] | None = None
    status: str = "Unconfirmed"
    comments: list[str] = field(default_factory=list)
    at: int = 0

    def info(self) -> dict[str, Any]:
        """As the cloud answers it."""
        made = self.creation == "Success"
        order = {
            "status": self.status, "phone": self.fields["phone"], "items": self.fields["items"], "sum": 0,
            "comment": self.comments[-1] if self.comments else self.fields.get("comment"), "number": 1,
        }  # fmt: skip
        return {
            "id": self.id, "posId": None, "externalNumber": self.fields.get("externalNumber"), "organizationId": ORGANIZATION,
            "timestamp": self.at, "creationStatus": self.creation, "errorInfo": self.error, "order": order if made else None,
        }  # fmt: skip


@dataclass
class Command:
    """Something that was taken and is not done yet."""

    run: Callable[[], str]
    """Does it: "" or the code of what is wrong."""
    looks: int
    """How often it is still under way when asked about."""
    state: str = "InProgress"
    reason: str = ""


def product(ident: str, name: str, prices: Mapping[str | None, Any], **more: Any) -> dict[str, Any]:
    """A product of the nomenclature."""
    sizes = [
        {
            "sizeId": size,
            "price": {
                "currentPrice": price,
                "isIncludedInMenu": True,
                "nextPrice": None,
                "nextIncludedInMenu": True,
                "nextDatePrice": None,
            },
        }
        for size, price in prices.items()
    ]
    return {
        "id": ident, "code": "00001", "name": name, "description": "", "type": "Dish", "orderItemType": "Product", "isDeleted": False,
        "parentGroup": MAIN, "productCategoryId": None, "sizePrices": sizes, "imageLinks": [], "order": 0, "measureUnit": "порц",
        "doNotPrintInCheque": False, "useBalanceForSell": False, "canSetOpenPrice": False, "splittable": False, "modifiers": [], "groupModifiers": [], **more,
    }  # fmt: skip


def default_products() -> list[dict[str, Any]]:
    """A small menu: with sizes, with a modifier that is none, with something deleted."""
    return [
        product(SOUP, "Борщ", {None: 12.5}, description="Со сметаной", order=1),
        product(
            PIZZA,
            "Маргарита",
            {SMALL: 18, LARGE: 26.9},
            order=2,
            imageLinks=["https://pictures.example/margherita.jpg"],
        ),
        product(COLA, "Кола", {None: 4}, type="Good", order=3),
        product(CHEESE, "Сыр", {None: 2}, type="Modifier", parentGroup=EXTRAS),
        product("e0000000-0000-4000-8000-000000000001", "Старый суп", {None: 5}, isDeleted=True),
    ]


class Iiko:
    """One account. `base = await nursery.start(cloud.serve)`; then look at `guests`, `orders`, `attentions`, `violations`."""

    API_LOGIN = "the-api-login-0123456789"
    API_KEY, APP_ID, CLIENT_SECRET = "the-api-key-0123", "550e8400-e29b-41d4-a716-446655440000", "the-client-secret-01"

    def __init__(self, name: str = "iiko") -> None:
        self.name = name
        self.organizations: list[dict[str, Any]] = [
            {"id": ORGANIZATION, "name": "Кафе «Июнь»", "currencyIsoName": "BYN"}
        ]
        self.groups: dict[str, list[dict[str, Any]]] = {
            ORGANIZATION: [{"id": TERMINAL_GROUP, "organizationId": ORGANIZATION, "name": "Касса у входа"}]
        }
        self.alive = True
        self.products = default_products()
        self.stop_list: list[dict[str, Any]] = []
        self.external_menus: dict[str, dict[str, Any]] = {}
        self.guests: list[dict[str, Any]] = []
        self.loyalty = True
        self.orders: dict[str, Delivery] = {}
        self.commands: dict[str, Command] = {}
        self.looks = 1
        """How often a command is under way when asked about, before it is done."""
        self.order_error = ""
        """The code with which the till refuses the next orders."""
        self.duplicate_as_400 = True
        """A repeated id is refused at once, or by the order's `errorInfo`."""
        self.forgets = False
        """Commands are not known any more: 410."""
        self.attentions: list[dict[str, Any]] = []
        self.webhook: dict[str, Any] = {"webHooksUri": None, "authToken": None}
        self.word = "Bearer "
        """What stands before the webhook's token."""
        self.life_s = 3600.0
        self.tokens: dict[str, float] = {}
        self.bought = 0
        self.missing: set[str] = set()
        """Groups of requests that the login has no right to."""
        self.left: dict[str, int] = {}
        """How many requests of a group are taken before 429; a group that is not here has no limit."""
        self.clock: Callable[[], float] = time.time
        self.fault: Fault | str = Fault.NONE
        self.fault_count: int | None = None
        self.hang_s = 30.0
        self.faulty = ""
        """A part of the only path that the fault is for; empty: all."""
        self.requests: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.violations: list[str] = []
        self._paths: Mapping[str, tuple[str, Callable[[dict[str, Any]], dict[str, Any]]]] = {
            "/api/1/organizations": ("dictionaries", self._organizations),
            "/api/1/terminal_groups": ("dictionaries", self._terminal_groups),
            "/api/1/terminal_groups/is_alive": ("dictionaries", self._is_alive),
            "/api/1/deliveries/order_types": ("dictionaries", self._order_types),
            "/api/1/marketing_sources": ("dictionaries", self._marketing_sources),
            "/api/1/nomenclature": ("menu", self._nomenclature), "/api/2/menu/by_id": ("menu", self._external_menu),
            "/api/1/stop_lists": ("stop_lists", self._stop_lists),
            "/api/1/loyalty/iiko/customer/info": ("guests", self._guest),
            "/api/1/loyalty/iiko/customer/create_or_update": ("guests", self._save_guest),
            "/api/1/deliveries/create": ("orders", self._create), "/api/1/deliveries/by_id": ("orders", self._by_id),
            "/api/1/deliveries/by_delivery_date_and_phone": ("orders", self._by_phone),
            "/api/1/deliveries/cancel": ("orders", self._cancel),
            "/api/1/deliveries/change_comment": ("orders", self._change_comment),
            "/api/1/commands/status": ("commands", self._status), "/api/1/notifications/send": ("notifications", self._notify),
            "/api/1/webhooks/settings": ("webhooks", self._webhook_settings),
            "/api/1/webhooks/update_settings": ("webhooks", self._update_webhook),
        }  # fmt: skip
        self.site = Site(
            {
                ("GET", "/"): self._page, ("POST", "/api/1/access_token"): self._served, ("POST", "/api/v2/access_token"): self._served,
                **{("POST", path): self._served for path in self._paths},
            },
            self._nothing,
        )  # fmt: skip

    @property
    def base(self) -> str:
        """The cloud's address, once it serves."""
        return self.site.base

    async def serve(self, port: int = 0, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        """Runs until cancelled; starts with the cloud's address."""
        await self.site.serve(port, task_status=task_status)

    def add_guest(self, phone: str, name: str = "Иван", **fields: Any) -> str:
        """A guest who was there before."""
        ident = str(uuid.uuid4())
        self.guests.append({"id": ident, "phone": phone, "name": name, "surname": None, "email": None, **fields})
        return ident

    def add_order(self, phone: str, status: str = "CookingStarted", **fields: Any) -> Delivery:
        """An order that was there before."""
        made = Delivery(
            str(uuid.uuid4()), {"phone": phone, "items": [], **fields}, "Success", None, status, at=self._now()
        )
        self.orders[made.id] = made
        return made

    def event(self, kind: str, info: Mapping[str, Any], *, token: str | None = None) -> tuple[bytes, dict[str, str]]:
        """A webhook: its body and headers."""
        moment = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.000")
        body = [{
            "eventType": kind, "eventTime": moment, "organizationId": ORGANIZATION, "correlationId": str(uuid.uuid4()),
            "eventInfo": dict(info),
        }]  # fmt: skip
        sent = token if token is not None else str(self.webhook.get("authToken"))
        headers = {"authorization": f"{self.word}{sent}", "content-type": "application/json"}
        return json.dumps(body, ensure_ascii=False).encode(), headers

    def move(self, order: str, status: str, at: int | None = None) -> tuple[bytes, dict[str, str]]:
        """Somebody at the till moves an order; the webhook of it."""
        assert status in STATUSES
        found = self.orders[order]
        found.creation, found.status, found.at = "Success", status, at if at is not None else self._now()
        return self.event("DeliveryOrderUpdate", found.info())

    def _now(self) -> int:
        return int(self.clock() * 1000)

    # --- what every request goes through

    def _sell(self, request: Request) -> Response:
        """A token for a login or a key."""
        self.requests[request.path] += 1
        try:
            given = json.loads(request.body)
            given = json.loads(given) if isinstance(given, str) else given  # as its SDK sends it
        except ValueError:
            return self._no(Refusal(400, "Invalid JSON"))
        try:
            self._spend("token")
        except Refusal as no:
            return self._no(no)
        if request.path == "/api/1/access_token":
            right = given.get("apiLogin") == self.API_LOGIN
        else:
            right = (given.get("apiKey"), given.get("appId"), given.get("clientSecret")) == (
                self.API_KEY, self.APP_ID, self.CLIENT_SECRET,
            )  # fmt: skip
        if not right:
            return self._no(Refusal(401, "Login is not authorized"))
        self.bought += 1
        token = secrets.token_hex(16)
        if request.path.startswith("/api/v2"):
            now = int(self.clock())
            parts = ({"alg": "HS256"}, {"iat": now, "exp": now + int(self.life_s)})
            coded = [base64.urlsafe_b64encode(json.dumps(one).encode()).decode().rstrip("=") for one in parts]
            token = f"{coded[0]}.{coded[1]}.{token}"
        self.tokens[token] = self.clock() + self.life_s
        return as_json({"correlationId": str(uuid.uuid4()), "token": token})

    async def _spoiled(self, request: Request) -> Response | None:
        fault = self._take_fault(request.path)
        if fault is Fault.DROP:
            raise Drop
        if fault in (Fault.DROP_AFTER, Fault.HANG):
            self._run(request)
            if fault is Fault.DROP_AFTER:
                raise Drop
            await trio.sleep(self.hang_s)
        return {
            Fault.HTML: as_html("<html><body>Сервис временно недоступен</body></html>", 200), Fault.EMPTY: Response(200, b""),
            Fault.HTTP_500: as_json({"correlationId": str(uuid.uuid4()), "errorDescription": "Internal", "error": None}, 500),
            Fault.HTTP_503: as_html("<html>503</html>", 503),
            Fault.SUCCESS_FALSE: as_json({"correlationId": str(uuid.uuid4()), "errorDescription": "EXTERNAL", "error": "EXTERNAL_SYSTEM_TIMEOUT"}, 400),
        }.get(fault)  # fmt: skip

    def _take_fault(self, path: str) -> Fault:
        fault = Fault(self.fault)
        if fault is Fault.NONE or self.faulty not in path:
            return Fault.NONE
        if self.fault_count is not None:
            self.fault_count -= 1
            if self.fault_count <= 0:
                self.fault, self.fault_count = Fault.NONE, None
        return fault

    async def _served(self, request: Request) -> Response:
        if (spoiled := await self._spoiled(request)) is not None:
            return spoiled
        return self._run(request)

    def _run(self, request: Request) -> Response:
        if request.path not in self._paths:
            return self._sell(request)
        group, run = self._paths[request.path]
        try:
            self._authorized(request)
            self._spend(group)
            if request.content_type != "application/json":
                raise Refusal(400, "Content type must be JSON")
            body = json.loads(request.body or b"{}")
            if not isinstance(body, dict):
                raise Refusal(400, "Invalid request")
            if group in self.missing:
                raise Refusal(403, "Access denied")
            self.requests[request.path] += 1
            return as_json({"correlationId": str(uuid.uuid4()), **run(body)})
        except Refusal as no:
            return self._no(no)
        except ValueError:
            return self._no(Refusal(400, "Invalid JSON"))

    def _no(self, no: Refusal) -> Response:
        self.refused[no.code or str(no.status)] += 1
        return as_json({"correlationId": str(uuid.uuid4()), "errorDescription": no.said, "error": no.code}, no.status)

    def _authorized(self, request: Request) -> None:
        word, _, token = request.headers.get("authorization", "").partition(" ")
        if word != "Bearer" or self.tokens.get(token, 0.0) <= self.clock():
            raise Refusal(401, "Token is not authorized")
        if "timeout" in request.headers and not request.headers["timeout"].isdigit():
            self.violations.append("a timeout that is no number of seconds")

    def _spend(self, group: str) -> None:
        if group in self.left:
            self.left[group] -= 1
            if self.left[group] < -1:
                self.violations.append(f"{group} although it was told to slow down")
            if self.left[group] < 0:
                raise Refusal(429, "Too many requests")

    def _ours(self, body: dict[str, Any]) -> str:
        found = body.get("organizationId")
        if not isinstance(found, str) or not _UUID.fullmatch(found):
            raise Refusal(400, "organizationId is required")
        if all(one["id"] != found for one in self.organizations):
            raise Refusal(400, "Organization not found", "OrganizationNotFound")
        return found

    def _ours_all(self, body: dict[str, Any]) -> list[str]:
        found = body.get("organizationIds")
        if not isinstance(found, list) or not found:
            raise Refusal(400, "organizationIds is required")
        return [self._ours({"organizationId": one}) for one in found]

    # --- dictionaries

    def _organizations(self, body: dict[str, Any]) -> dict[str, Any]:
        more = body.get("returnAdditionalInfo") is True
        return {
            "organizations": [{"responseType": "Simple", **(one if more else {k: one[k] for k in ("id", "name")})} for one in self.organizations]
        }  # fmt: skip

    def _terminal_groups(self, body: dict[str, Any]) -> dict[str, Any]:
        found = [{"organizationId": one, "items": self.groups.get(one, [])} for one in self._ours_all(body)]
        return {"terminalGroups": found, "terminalGroupsInSleep": []}

    def _is_alive(self, body: dict[str, Any]) -> dict[str, Any]:
        self._ours_all(body)
        return {
            "isAliveStatus": [
                {"isAlive": self.alive, "terminalGroupId": one, "organizationId": ORGANIZATION} for one in body["terminalGroupIds"]
            ]
        }  # fmt: skip

    def _order_types(self, body: dict[str, Any]) -> dict[str, Any]:
        items = [
            {
                "id": str(uuid.UUID(int=7)),
                "name": "Курьером",
                "orderServiceType": "DeliveryByCourier",
                "isDeleted": False,
            }
        ]
        return {"orderTypes": [{"organizationId": one, "items": items} for one in self._ours_all(body)]}

    def _marketing_sources(self, body: dict[str, Any]) -> dict[str, Any]:
        self._ours_all(body)
        return {"marketingSources": [{"id": str(uuid.UUID(int=8)), "name": "Телефон"}]}

    # --- menu

    def _nomenclature(self, body: dict[str, Any]) -> dict[str, Any]:
        self._ours(body)
        return {
            "groups": [
                {"id": MAIN, "name": "Кухня", "isGroupModifier": False, "imageLinks": [], "isIncludedInMenu": True, "isDeleted": False, "order": 0, "parentGroup": None},
                {"id": EXTRAS, "name": "Добавки", "isGroupModifier": True, "imageLinks": [], "isIncludedInMenu": False, "isDeleted": False, "order": 1, "parentGroup": None},
            ],
            "productCategories": [], "products": self.products,
            "sizes": [{"id": SMALL, "name": "25 см", "isDefault": True}, {"id": LARGE, "name": "35 см", "isDefault": False}],
            "revision": 1,
        }  # fmt: skip

    def _external_menu(self, body: dict[str, Any]) -> dict[str, Any]:
        self._ours_all(body)
        if body.get("version") not in (2, 3, 4):
            raise Refusal(400, "Unknown version of the menu")
        if body.get("externalMenuId") not in self.external_menus:
            raise Refusal(400, "Menu not found")
        return self.external_menus[body["externalMenuId"]]

    def _stop_lists(self, body: dict[str, Any]) -> dict[str, Any]:
        inside = [{"terminalGroupId": TERMINAL_GROUP, "items": self.stop_list}]
        return {"terminalGroupStopLists": [{"organizationId": one, "items": inside} for one in self._ours_all(body)]}

    def stop(self, item: str, size: str | None = None, balance: float = 0) -> None:
        """Puts a product on the stop-list."""
        self.stop_list.append({"productId": item, "sizeId": size, "balance": balance, "sku": "00001"})

    # --- guests

    def _loyal(self, body: dict[str, Any]) -> None:
        self._ours(body)
        if not self.loyalty:
            raise Refusal(400, "Organization is not in the loyalty programme", "Common_OrganizationNotFound")

    def _guest(self, body: dict[str, Any]) -> dict[str, Any]:
        self._loyal(body)
        kind = body.get("type")
        if kind not in ("phone", "cardTrack", "cardNumber", "email", "id") or not body.get(str(kind)):
            raise Refusal(400, "type and its value are required")
        wanted = re.sub(r"[ ()-]", "", body[kind]) if kind == "phone" else body[kind]
        for one in self.guests:
            if (re.sub(r"[ ()-]", "", one[kind]) if kind == "phone" else one.get(kind)) == wanted:
                return {**one, "cards": [], "categories": [], "walletBalances": []}
        raise Refusal(400, "There is no customer with this phone", "Validation_IncorrectPhone")

    def _save_guest(self, body: dict[str, Any]) -> dict[str, Any]:
        self._loyal(body)
        if body.get("id") is not None and all(one["id"] != body["id"] for one in self.guests):
            raise Refusal(400, "There is no customer with this id")
        if not re.fullmatch(r"\+[0-9]{8,20}", str(body.get("phone"))):
            raise Refusal(400, "Phone is incorrect", "Validation_IncorrectPhone")
        if len(str(body.get("name") or "")) > 255:
            raise Refusal(400, "Name is too long")
        fields = {k: v for k, v in body.items() if k not in ("organizationId", "id")}
        for one in self.guests:
            if one["phone"] == body["phone"]:
                one.update(fields)
                return {"id": one["id"]}
        if any(re.sub(r"\D", "", one["phone"])[-9:] == body["phone"][-9:] for one in self.guests):
            self.violations.append("a second guest of a number that is written in another way")
        return {
            "id": self.add_guest(
                body["phone"],
                str(body.get("name") or ""),
                **{k: v for k, v in fields.items() if k not in ("phone", "name")},
            )
        }

    # --- orders

    def _create(self, body: dict[str, Any]) -> dict[str, Any]:
        self._ours(body)
        order = body.get("order")
        if not isinstance(order, dict):
            raise Refusal(400, "order is required")
        group = body.get("terminalGroupId")
        if group is not None and all(one["id"] != group for one in self.groups[ORGANIZATION]):
            raise Refusal(400, "Terminal group not found", "TerminalGroupNotFound")
        ident = order.get("id") or str(uuid.uuid4())
        if not _UUID.fullmatch(str(ident)):
            raise Refusal(400, "order.id must be a UUID")
        if not re.fullmatch(r"\+[0-9]{8,40}", str(order.get("phone"))):
            raise Refusal(400, "Phone is incorrect", "InvalidPhone")
        if ("orderTypeId" in order) == ("orderServiceType" in order):
            raise Refusal(400, "Either orderTypeId or orderServiceType")
        if (
            order.get("orderServiceType") == "DeliveryByCourier"
            and "deliveryPoint" not in order
            and not order.get("comment")
        ):
            raise Refusal(400, "deliveryPoint is required")
        customer = order.get("customer", {})
        if customer.get("type") not in ("regular", "one-time") or not (customer.get("id") or customer.get("name")):
            raise Refusal(400, "customer is not valid")
        if customer.get("id") and all(one["id"] != customer["id"] for one in self.guests):
            raise Refusal(400, "Customer not found")
        items = order.get("items")
        if not items or any(not one.get("productId") or not one.get("amount") for one in items):
            raise Refusal(400, "items are required")
        if len(str(order.get("comment") or "")) > 500:
            raise Refusal(400, "comment is too long")
        if ident in self.orders:
            if self.duplicate_as_400:
                raise Refusal(400, "Order with this id exists already", "DuplicatedOrderId")
            info = {**self.orders[ident].info(), "creationStatus": "Error", "order": None}
            return {
                "orderInfo": {
                    **info,
                    "errorInfo": {"code": "DuplicatedOrderId", "message": "exists", "description": None},
                }
            }
        made = self.orders[ident] = Delivery(ident, order, at=self._now())
        command = self._command(lambda: self._made(made, body.get("createOrderSettings") or {}))
        return {"correlationId": command, "orderInfo": made.info()}

    def _made(self, made: Delivery, given: dict[str, Any]) -> str:
        """The till takes the order, or does not."""
        known = {one["id"] for one in self.products}
        stopped = {one["productId"] for one in self.stop_list if one["balance"] <= 0}
        wanted = {one["productId"] for one in made.fields["items"]}
        code = self.order_error
        if not code and not self.alive:
            code = "CreationTimeoutExpired"
        if not code and wanted - known:
            code = "ProductNotFound"
        if not code and given.get("checkStopList") and wanted & stopped:
            code = "ProductIsInStopList"
        made.creation = "Error" if code else "Success"
        made.error = {"code": code, "message": f"till: {code}", "description": None} if code else None
        made.status = "WaitCooking"
        return code

    def _command(self, run: Callable[[], str]) -> str:
        ident = str(uuid.uuid4())
        self.commands[ident] = Command(run, self.looks)
        return ident

    def _status(self, body: dict[str, Any]) -> dict[str, Any]:
        self._ours(body)
        found = self.commands.get(str(body.get("correlationId")))
        if found is None or self.forgets:
            raise Refusal(410, "Correlation id is not known")
        if found.state == "InProgress":
            if found.looks > 0:
                found.looks -= 1
                return {"state": "InProgress"}
            found.reason = found.run()
            found.state = "Error" if found.reason else "Success"
        if found.state == "Error":
            return {
                "state": "Error",
                "errorReason": found.reason,
                "exception": {"code": found.reason, "message": f"till: {found.reason}"},
            }
        return {"state": "Success"}

    def settle(self) -> None:
        """Whatever is under way is done now."""
        for one in self.commands.values():
            if one.state == "InProgress":
                one.reason = one.run()
                one.state = "Error" if one.reason else "Success"

    def _by_id(self, body: dict[str, Any]) -> dict[str, Any]:
        self._ours(body)
        return {"orders": [self.orders[one].info() for one in body.get("orderIds") or [] if one in self.orders]}

    def _by_phone(self, body: dict[str, Any]) -> dict[str, Any]:
        self._ours_all(body)
        if not all(_TIME.fullmatch(str(body.get(one))) for one in ("deliveryDateFrom", "deliveryDateTo")):
            raise Refusal(400, "deliveryDateFrom and deliveryDateTo are required")
        found = [one.info() for one in self.orders.values() if one.fields["phone"] == body.get("phone")]
        return {"maxRevision": 1, "ordersByOrganizations": [{"organizationId": ORGANIZATION, "orders": found}]}

    def _known(self, body: dict[str, Any]) -> Delivery:
        self._ours(body)
        found = self.orders.get(str(body.get("orderId")))
        if found is None or found.creation != "Success":
            raise Refusal(400, "Order not found", "OrderNotFound")
        return found

    def _cancel(self, body: dict[str, Any]) -> dict[str, Any]:
        found = self._known(body)

        def cancel() -> str:
            if found.status in ("Delivered", "Closed"):
                return "OrderIsClosed"
            found.status, found.at = "Cancelled", self._now()
            return ""

        if found.status == "Cancelled":
            self.violations.append("an order cancelled twice")
        return {"correlationId": self._command(cancel)}

    def _change_comment(self, body: dict[str, Any]) -> dict[str, Any]:
        found, said = self._known(body), str(body.get("comment"))
        if len(said) > 500:
            raise Refusal(400, "comment is too long")
        if said in found.comments:
            self.violations.append("a comment written twice")

        def write() -> str:
            found.comments.append(said)
            return ""

        return {"correlationId": self._command(write)}

    # --- the till, webhooks

    def _notify(self, body: dict[str, Any]) -> dict[str, Any]:
        self._ours(body)
        if body.get("messageType") not in ("order_attention", "delivery_attention"):
            raise Refusal(400, "messageType is not valid")
        if any(
            not isinstance(body.get(one), str) or not body[one] for one in ("orderSource", "orderId", "additionalInfo")
        ):
            raise Refusal(400, "orderSource, orderId and additionalInfo are required")
        if body["orderId"] not in self.orders:
            raise Refusal(400, "Order not found", "OrderNotFound")
        self.attentions.append(body)
        return {}

    def _webhook_settings(self, body: dict[str, Any]) -> dict[str, Any]:
        self._ours(body)
        return {"apiLoginName": "gateway", **self.webhook}

    def _update_webhook(self, body: dict[str, Any]) -> dict[str, Any]:
        self._ours(body)
        if not str(body.get("webHooksUri", "")).startswith(("http://", "https://")):
            raise Refusal(400, "webHooksUri is not valid")
        self.webhook = {k: body.get(k) for k in ("webHooksUri", "authToken", "webHooksFilter")}
        return {}

    # --- what people see

    async def _nothing(self, request: Request) -> Response:
        if request.method == "GET":
            self.violations.append(f"GET {request.path}")
        return self._no(Refusal(404, "Not found"))

    async def _page(self, request: Request) -> Response:
        def rows(cells: list[tuple[Any, ...]]) -> str:
            return "".join("<tr>" + "".join(f"<td>{escape(str(one))}</td>" for one in row) + "</tr>" for row in cells)

        orders = rows([
            (one.fields.get("externalNumber", ""), one.fields["phone"], one.creation, one.status,
             ", ".join(f"{item['productId'][:8]} × {item['amount']}" for item in one.fields["items"]), one.info()["errorInfo"] or "")
            for one in self.orders.values()
        ])  # fmt: skip
        guests = rows([(one["phone"], one["name"]) for one in self.guests])
        notices = rows([(one["messageType"], one["additionalInfo"]) for one in self.attentions])
        return as_html(
            f"<!doctype html><title>{escape(self.name)}</title><h1>{escape(self.name)}</h1><h2>Заказы</h2><table>{orders}</table>"
            f"<h2>Гости</h2><table>{guests}</table><h2>Уведомления на кассе</h2><table>{notices}</table>"
        )
