"""Orders to an Asterisk: place a call for an employee, send a waiting caller elsewhere.

Only into the tenant's own context, never with an application; every value has passed a type that can hold digits alone,
and `encode_action` refuses a control character all the same. One order is one Originate, whatever happens to its answer.
Sources: Asterisk, AMI actions Originate and Redirect; README-SERIOUSLY.bestpractices.
"""

import re

from adapters.abilities import CallOrder
from adapters.asterisk.action_connection import ActionLine
from adapters.asterisk.protocol import Message
from adapters.asterisk.settings import AsteriskSettings
from gateway.domain.dialling import written_for_pbx
from gateway.domain.errors import BadSettings, LocalProtocolError, Rejected

ORDER = "order-"
"""Before the ids of our Originates, so that their outcome is known in the stream of events."""
SECOND = "-2"
"""After the order's id: the Uniqueid of the other half of the pair."""

_EXTENSION = re.compile(r"[0-9]{1,15}")
_NUMBER = re.compile(r"[+]?[0-9*#]{2,32}")
_ORDER_ID = re.compile(r"[0-9a-z-]{8,100}")

FAILURES = {"0": "no_device", "1": "no_answer", "3": "no_answer", "5": "busy", "8": "congestion"}
"""`Reason` of an OriginateResponse (frame control codes of Asterisk): a key of the UI's texts."""


def originate(order: CallOrder, settings: AsteriskSettings, country: str) -> tuple[tuple[str, str], ...]:
    """The headers of the one action, for a PBX in that country. Raises LocalProtocolError for what is not digits."""
    number = written_for_pbx(order.number, settings.number_format, country, settings.dial_prefix)
    if (
        not _EXTENSION.fullmatch(order.extension)
        or not _NUMBER.fullmatch(number)
        or not _ORDER_ID.fullmatch(order.order_id)
    ):
        raise LocalProtocolError("an order holds digits alone")
    context = _context(settings)
    return (
        ("Channel", f"Local/{order.extension}@{context}"),
        ("Context", context),
        ("Exten", number),
        ("Priority", "1"),
        ("CallerID", f"{order.number} <{order.number}>"),
        ("Timeout", str(round(settings.employee_rings_s * 1000))),
        ("ChannelId", order.order_id),
        ("OtherChannelId", order.order_id + SECOND),
        ("Async", "true"),
    )


def _context(settings: AsteriskSettings) -> str:
    if not settings.originate_context:
        raise BadSettings("the PBX has no context for click-to-call; enter one in its settings")
    return settings.originate_context


async def place(line: ActionLine, order: CallOrder, settings: AsteriskSettings, country: str) -> None:
    """Requests the call. Raises Rejected, and what `ActionLine.ask` raises."""
    headers = originate(order, settings, country)
    answer = await line.ask("Originate", *headers, action_id=ORDER + order.order_id)
    _accepted(answer, "originate")


async def redirect(line: ActionLine, channel: str, extension: str, settings: AsteriskSettings) -> bool:
    """Sends a channel to an internal number. False when the PBX reports that the channel is gone."""
    if not _EXTENSION.fullmatch(extension):
        raise LocalProtocolError("an internal number is digits alone")
    answer = await line.ask(
        "Redirect",
        ("Channel", channel),
        ("Context", _context(settings)),
        ("Exten", extension),
        ("Priority", "1"),
    )
    if answer.get("Response") != "Success" and "not exist" in answer.get("Message", ""):
        return False
    _accepted(answer, "call")
    return True


def _accepted(answer: Message, right: str) -> None:
    if answer.get("Response") == "Success":
        return
    said = answer.get("Message", "")
    if "ermission denied" in said:
        raise Rejected(f"the AMI user lacks write = {right}")
    raise Rejected(said or "refused without a word")


def order_answer(message: Message) -> tuple[str, str] | None:
    """The order that an OriginateResponse belongs to, and why its employee was not reached; empty when they were."""
    action_id = message.get("ActionID", "")
    order_id = action_id.removeprefix(ORDER)
    if order_id == action_id or not _ORDER_ID.fullmatch(order_id):
        return None
    failed = message.get("Response") != "Success"
    return order_id, FAILURES.get(message.get("Reason", ""), "failed") if failed else ""
