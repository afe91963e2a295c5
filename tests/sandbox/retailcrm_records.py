"""The rest of a sandbox account: customers, orders, notes, statuses and custom fields, with the API's envelope and its refusals.

Read `retailcrm.py` first. Source: the official clients' request tests; an external id belongs to one record.
"""

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from tests.sandbox.web import Request

if TYPE_CHECKING:
    from tests.sandbox.retailcrm import RetailCrm

STATUSES: tuple[tuple[str, str, str], ...] = (
    ("new", "Новый", "new"), ("client-confirmed", "Согласовано с клиентом", "approval"), ("complete", "Выполнен", "complete"),
    ("no-call", "Недозвон", "cancel"), ("cancel-other", "Отменен", "cancel"),
)  # fmt: skip
"""Code, name, group."""
CUSTOM = {
    "customer": [{"name": "Ссылка", "code": "link", "type": "string", "required": False}],
    "order": [
        {"name": "Ссылка", "code": "link", "type": "string", "required": False},
        {"name": "Повод", "code": "occasion", "type": "dictionary", "dictionary": "occasions", "required": False},
    ],
}  # fmt: skip
_CUSTOMER = frozenset(
    {"externalId", "firstName", "lastName", "patronymic", "email", "phones", "managerId", "source", "customFields"}
)
_ORDER = frozenset(
    {"externalId", "number", "firstName", "lastName", "phone", "email", "customer", "orderType", "orderMethod", "status", "managerId",
     "customerComment", "managerComment", "items", "delivery", "customFields"}
)  # fmt: skip
Handler = Callable[[Request], dict[str, Any]]


def digits(text: Any) -> str:
    """What numbers are compared by."""
    return re.sub(r"\D", "", str(text))


def records_routes(crm: "RetailCrm") -> Mapping[tuple[str, str], Handler]:
    """The routes with their handlers."""
    from tests.sandbox.retailcrm import Refusal

    def check(entity: str, record: Any, allowed: frozenset[str]) -> None:
        if not isinstance(record, dict):
            raise Refusal(400, "Errors in the entity format", {entity: "This value should be of type object."})
        errors = dict.fromkeys(record.keys() - allowed, "This field was not expected.")
        custom = {one["code"] for one in CUSTOM[entity]}
        if crm.required and crm.required.partition(".")[2] not in dict(record.get("customFields") or {}):
            errors[crm.required] = "This value should not be blank."
        errors |= {
            f"customFields.{name}": "No such field." for name in dict(record.get("customFields") or {}).keys() - custom
        }
        if entity == "order":
            if "status" in record and record["status"] not in {code for code, _, _ in STATUSES}:
                errors["status"] = "The value you selected is not a valid choice."
            for item in record.get("items", ()):
                if not item.get("productName") or item.get("quantity", 0) <= 0 or item.get("initialPrice", -1) < 0:
                    errors["items"] = "This value is not valid."
        if errors:
            raise Refusal(400, "Errors in the entity format", errors)

    def taken(records: Mapping[int, dict[str, Any]], record: Mapping[str, Any]) -> None:
        if any(one.get("externalId") == record["externalId"] for one in records.values() if record.get("externalId")):
            raise Refusal(400, "Validation error", {"externalId": "This value is already used."})

    def find(records: Mapping[int, dict[str, Any]], request: Request, by: str) -> dict[str, Any]:
        ident = request.parts["id"]
        for number, one in records.items():
            if (by == "id" and str(number) == ident) or (by == "externalId" and one.get("externalId") == ident):
                return one
        raise Refusal(404, "Not found")

    def list_customers(request: Request) -> dict[str, Any]:
        query = dict(request.query)
        if query.get("limit") not in ("20", "50", "100"):
            raise Refusal(400, "Errors in the input parameters", {"limit": "This value is not valid."})
        wanted, email = query.get("filter[name]", ""), query.get("filter[email]", "")
        found = [
            one for one in crm.customers
            if (wanted and any(digits(phone["number"]).endswith(digits(wanted)) for phone in one.get("phones", ())))
            or (email and str(one.get("email", "")).lower() == email.lower())
        ]  # fmt: skip
        return {
            "customers": found[:20],
            "pagination": {"totalCount": len(found), "currentPage": 1, "totalPageCount": 1},
        }

    def create_customer(request: Request) -> dict[str, Any]:
        record, _ = crm.form_of(request, "customer", "site")
        check("customer", record, _CUSTOMER)
        taken(customers(), record)
        tails = {digits(phone["number"])[-9:] for phone in record.get("phones", ())}
        if any(digits(phone["number"])[-9:] in tails for one in crm.customers for phone in one.get("phones", ())):
            crm.violations.append(f"a second customer with {sorted(tails)}")
        number = 5000 + len(crm.customers)
        crm.customers.append({"id": number, **record})
        return {"id": number}

    def edit_customer(request: Request) -> dict[str, Any]:
        record, beside = crm.form_of(request, "customer", "site", "by")
        check("customer", record, _CUSTOMER)
        one = find(customers(), request, beside.get("by", "externalId"))
        one.update(record)
        return {"id": one["id"], "state": "changed"}

    def customers() -> dict[int, dict[str, Any]]:
        return {one["id"]: one for one in crm.customers}

    def show(records: Callable[[], Mapping[int, dict[str, Any]]], name: str) -> Handler:
        return lambda request: {name: find(records(), request, dict(request.query).get("by", "externalId"))}

    def create_order(request: Request) -> dict[str, Any]:
        record, _ = crm.form_of(request, "order", "site")
        check("order", record, _ORDER)
        taken(crm.orders, record)
        if record.get("customer", {}).get("id") not in customers():
            raise Refusal(400, "Errors in the entity format", {"customer": "Customer does not exist."})
        number = 9000 + len(crm.orders)
        crm.orders[number] = {"id": number, "status": "new", **record}
        return {"id": number, "order": crm.orders[number]}

    def edit_order(request: Request) -> dict[str, Any]:
        record, beside = crm.form_of(request, "order", "site", "by")
        check("order", record, _ORDER)
        one = find(crm.orders, request, beside.get("by", "externalId"))
        one.update(record)
        return {"id": one["id"], "order": one}

    def create_note(request: Request) -> dict[str, Any]:
        record, _ = crm.form_of(request, "note", "site")
        if not isinstance(record, dict) or not record.get("text"):
            raise Refusal(400, "Errors in the entity format", {"text": "This value should not be blank."})
        if record.get("customer", {}).get("id") not in customers():
            raise Refusal(400, "Errors in the entity format", {"customer": "Customer does not exist."})
        crm.notes.append({"id": len(crm.notes) + 1, **record})
        return {"id": len(crm.notes)}

    def list_notes(request: Request) -> dict[str, Any]:
        wanted = {value for name, value in request.query if name == "filter[customerIds][]"}
        return {"notes": [one for one in reversed(crm.notes) if str(one["customer"]["id"]) in wanted][:20]}

    def statuses(request: Request) -> dict[str, Any]:
        return {
            "statuses": {
                code: {"code": code, "name": name, "group": group, "active": True, "ordering": place * 10}
                for place, (code, name, group) in enumerate(STATUSES, 1)
            }
        }

    def custom_fields(request: Request) -> dict[str, Any]:
        return {"customFields": CUSTOM.get(dict(request.query).get("filter[entity]", ""), [])}

    def dictionaries(request: Request) -> dict[str, Any]:
        return {
            "customDictionaries": [
                {"name": "Поводы", "code": "occasions", "elements": [{"name": "День рождения", "code": "birthday"}]}
            ]
        }

    return {
        ("GET", "/api/v5/customers"): list_customers, ("POST", "/api/v5/customers/create"): create_customer,
        ("GET", "/api/v5/customers/notes"): list_notes, ("POST", "/api/v5/customers/notes/create"): create_note,
        ("POST", "/api/v5/customers/{id}/edit"): edit_customer, ("GET", "/api/v5/customers/{id}"): show(customers, "customer"),
        ("POST", "/api/v5/orders/create"): create_order, ("POST", "/api/v5/orders/{id}/edit"): edit_order,
        ("GET", "/api/v5/orders/{id}"): show(lambda: crm.orders, "order"), ("GET", "/api/v5/reference/statuses"): statuses,
        ("GET", "/api/v5/custom-fields"): custom_fields, ("GET", "/api/v5/custom-fields/dictionaries"): dictionaries,
    }  # fmt: skip
