"""Orders as the cloud takes them and gives them back. Pure.

Our order's id is the order's id there, so a repeat is known as one. 200 is a command that was taken, not an order that was made:
`creationStatus` and the command's state say what becomes of it. Read `client.py` for how they are asked.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from adapters.till import codec
from adapters.till.refusals import REASONS
from adapters.till.settings import TillSettings
from gateway.domain.errors import Rejected
from gateway.domain.orders import OrderStatus

CREATE, BY_ID, CANCEL, COMMENT = (
    "/api/1/deliveries/create", "/api/1/deliveries/by_id", "/api/1/deliveries/cancel", "/api/1/deliveries/change_comment",
)  # fmt: skip
BY_PHONE, STATUS, ALIVE, NOTIFY = (
    "/api/1/deliveries/by_delivery_date_and_phone", "/api/1/commands/status", "/api/1/terminal_groups/is_alive",
    "/api/1/notifications/send",
)  # fmt: skip
LONGEST_COMMENT = 500
FRONT_TIMEOUT_S = 8
"""For how long the cloud tries to give an order to the till before its command is an error."""
STATUSES: Mapping[str, OrderStatus | None] = {
    "Unconfirmed": None, "WaitCooking": "confirmed", "ReadyForCooking": "confirmed", "CookingStarted": "in_progress",
    "CookingCompleted": "in_progress", "Waiting": "in_progress", "OnWay": "in_progress", "Delivered": "done", "Closed": "done",
    "Cancelled": "cancelled",
}  # fmt: skip
"""A delivery's way, as ours; None is what ours is at first anyway."""
OVER = frozenset({"Delivered", "Closed", "Cancelled"})
ORDER_FIELDS = frozenset({"orderTypeId", "marketingSourceId", "operatorId", "menuId"})
"""What of an order field mapping may write into, beside the comment."""
_PHONE = re.compile(r"\+[0-9]{8,40}")
_PICKED_UP = re.compile(r"самовывоз|с собой|заберу|pick.?up|take.?away|collect", re.IGNORECASE)
_PLACES = ("city", "street", "house", "building", "flat", "entrance", "floor", "doorphone")


def phone_of(body: Mapping[str, Any]) -> str:
    """The phone of whoever ordered. Raises Rejected where it is none that the till takes."""
    found = next((one for one in body["client"]["phones"] if _PHONE.fullmatch(one)), "")
    if not found:
        raise Rejected("the order has no phone that the till takes", person=REASONS["no_phone"])
    return found


def create(body: Mapping[str, Any], settings: TillSettings, guest: str) -> dict[str, Any]:
    """The request that makes an order; `guest` is a guest's id, or nothing. Raises Rejected where it cannot be one, before anything is
    sent."""
    order, fields, name = body["order"], body["fields"], codec.text(body["client"]["name"], 100)
    address, said = _address(body.get("place"), settings)
    phone = phone_of(body)
    known = {"type": "regular", "id": guest, **({"name": name} if name else {})}
    made: dict[str, Any] = {
        "id": order["id"], "externalNumber": str(order["number"]), "phone": phone, "sourceKey": settings.source_key,
        "customer": known if guest else {"type": "one-time", "name": name or phone},
        "items": [_item(one) for one in order["lines"]], **{to: value for to, value in fields.items() if to in ORDER_FIELDS},
    }  # fmt: skip
    if settings.order_type_id or "orderTypeId" in fields:
        made.setdefault("orderTypeId", settings.order_type_id)
    else:
        made["orderServiceType"] = "DeliveryByCourier" if address or said else "DeliveryByClient"
    if address:
        made["deliveryPoint"] = {"address": address}
    if comment := comment_of(body, settings):
        made["comment"] = comment
    whole: dict[str, Any] = {
        "organizationId": settings.organization_id, "order": made,
        "createOrderSettings": {"transportToFrontTimeout": FRONT_TIMEOUT_S, "checkStopList": settings.check_stop_list},
    }  # fmt: skip
    return {**whole, "terminalGroupId": settings.terminal_group_id} if settings.terminal_group_id else whole


def comment_of(body: Mapping[str, Any], settings: TillSettings, *more: str) -> str:
    """What is read beside an order at the till."""
    _, said = _address(body.get("place"), settings)
    parts = [
        codec.text(body["fields"].get("comment"), 200),
        codec.text(body["order"].get("comment"), LONGEST_COMMENT),
        said,
        *more,
    ]
    return "; ".join(part for part in parts if part)[:LONGEST_COMMENT]


def content_of(body: Mapping[str, Any]) -> str:
    """A digest of what of an order a kitchen has to know."""
    order = body["order"]
    content = [order["lines"], body.get("place"), order.get("comment")]
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:32]


def _item(one: Mapping[str, Any]) -> dict[str, Any]:
    found = codec.product_of(str(one["id"]))
    if found is None:
        raise Rejected(f"{one.get('name') or one['id']} is not from this menu", person=REASONS["foreign_items"])
    product, size = found
    made = {"type": "Product", "productId": product, "amount": number(one["quantity"]), "price": number(one["price"])}
    return {**made, "productSizeId": size} if size else made


def number(value: Any) -> int | float:
    """A quantity or a price as a JSON number."""
    exact = Decimal(str(value))
    return int(exact) if exact == exact.to_integral_value() else float(exact)


def _address(delivery: Any, settings: TillSettings) -> tuple[dict[str, Any], str]:
    """Where it is delivered to, as the cloud takes it, and what is said beside it. Neither: it is picked up."""
    if not delivery:
        return {}, ""
    fields = (
        {str(k).strip().lower(): codec.text(v) for k, v in delivery.items()} if isinstance(delivery, Mapping) else {}
    )
    values = [value for value in fields.values() if value]
    whole = ", ".join(values) if fields else codec.text(delivery, LONGEST_COMMENT)
    if not whole or (_PICKED_UP.search(whole) and not fields.get("street")):
        return {}, ""
    if settings.address == "line1":
        return {"type": "city", "line1": whole[:250]}, ""
    if settings.address == "street" and fields.get("street") and fields.get("house"):
        street = {"name": fields["street"], **({"city": fields["city"]} if fields.get("city") else {})}
        inside = {name: fields[name] for name in _PLACES[2:] if fields.get(name)}
        rest = "; ".join(value for name, value in fields.items() if value and name not in _PLACES)
        return {"type": "legacy", "street": street, **inside}, rest
    return {}, whole


# What comes back ---------------------------------------------------------------------------------------------------------


def infos(answer: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The orders of an answer, whether by organization or not."""
    found = codec.items(answer.get("orders"))
    for one in codec.items(answer.get("ordersByOrganizations")):
        found += codec.items(one.get("orders"))
    return found


def status_of(info: Mapping[str, Any]) -> str:
    """A delivery's status, in the cloud's word."""
    return codec.text(codec.mapping(info.get("order")).get("status"))


def open_order(answer: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The newest order of an answer that is under way."""
    found = [
        one for one in infos(answer)
        if codec.identifier(one.get("id")) and status_of(one) in STATUSES and status_of(one) not in OVER
    ]  # fmt: skip
    return max(found, key=lambda one: stamp(one.get("timestamp")), default=None)


def stamp(value: Any) -> int:
    """Milliseconds since the epoch, 0 for none."""
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def refusal(info: Mapping[str, Any]) -> codec.Refused:
    """Why an order was not made."""
    found = codec.mapping(info.get("errorInfo"))
    code, said = codec.text(found.get("code")), codec.text(found.get("message"))
    said = "; ".join(dict.fromkeys(part for part in (said, codec.text(found.get("description"))) if part))
    return refused(code, said)


def refused(code: str, said: str) -> codec.Refused:
    """The same of a command."""
    person = codec.order_reason(code, said) or REASONS["order_refused"]
    return codec.Refused(f"{person} ({code} {said})"[:1000], api_code=code.strip().lower(), person=person)


def reason_of(state: Mapping[str, Any]) -> tuple[str, str]:
    """Code and words of a command that failed: its reason and exception are texts or objects."""
    parts: list[str] = []
    code = ""
    for name in ("errorReason", "exception"):
        value = state.get(name)
        inner = codec.mapping(value)
        code = code or codec.text(inner.get("code"))
        words = [codec.text(inner.get(one)) for one in ("message", "description")] if inner else [codec.text(value)]
        parts += [one for one in words if one]
    return code or (parts[0] if parts and re.fullmatch(r"[A-Za-z_]+", parts[0]) else ""), "; ".join(
        dict.fromkeys(parts)
    )


def lines_text(items: Sequence[Mapping[str, Any]]) -> str:
    """What is ordered, on one line."""
    return ", ".join(f"{codec.text(one.get('name'), 100)} × {one.get('quantity')}" for one in items)
