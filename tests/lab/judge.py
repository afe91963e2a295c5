"""What an outside system must have been told of a call, and what is wrong with what it was told."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from tests.lab.scenarios import Truth
from tests.sandbox.retailcrm import RetailCrm
from tests.sandbox.telegram import Message

TOLERANCE_S = 1.0
_HANGUP = {
    "answered": "answered",
    "busy": "busy",
    "failed": "failed",
    "no_answer": "no answered",
    "cancelled": "cancel",
}
_UPLOAD = {"answered": "answered", "busy": "busy", "failed": "failed"}


def wrong_with_crm(truth: Truth, crm: RetailCrm, first_event: int, first_upload: int) -> list[str]:
    """Everything the sandbox CRM was told since these places that is not what happened."""
    events = [item.data for item in crm.events[first_event:]]
    uploads = [item.data for item in crm.uploads[first_upload:]]
    if truth.direction == "internal":
        return [f"an internal call was told: {told}" for told in [*events, *uploads]]
    problems: list[str] = []
    client = truth.caller if truth.direction == "incoming" else truth.called
    kind = "in" if truth.direction == "incoming" else "out"
    rings = [event for event in events if event["type"] == kind]
    codes = Counter(code for ring in rings for code in ring.get("codes", ()))
    expected = truth.rang if kind == "in" else (truth.caller,)
    if codes != Counter(expected):
        problems.append(f"rings told for {dict(codes)}, not once each for {list(expected)}")
    hangups = [event for event in events if event["type"] == "hangup"]
    if len(hangups) != 1 or len(uploads) != 1:
        return [*problems, f"{len(hangups)} hangups and {len(uploads)} uploads"]
    hangup, upload = hangups[0], uploads[0]
    status = _HANGUP.get(truth.result) or ("cancel" if truth.hung_up_by == "caller" else "no answered")
    wanted = {
        "hangup status": (hangup["hangupStatus"], status),
        "phone": ({event["phone"] for event in events}, {client}),
        "upload phone": (upload["phone"], client.removeprefix("+")),
        "upload type": (upload["type"], kind),
        "upload result": (upload["result"], _UPLOAD.get(truth.result, "no answer")),
        "code": (upload.get("code"), truth.extension or (truth.rang[0] if truth.rang else None)),
        "one id": (len({*(event["callExternalId"] for event in events), upload["externalId"]}), 1),
    }
    problems += [f"{name} {told!r}, not {right!r}" for name, (told, right) in wanted.items() if told != right]
    for name, told, right in (
        ("talk", upload["duration"], truth.talk_s),
        ("wait", upload["durationWaiting"], truth.wait_s),
    ):
        if right is not None and abs(told - right) > TOLERANCE_S:
            problems.append(f"{name} {told} s, not {right:.2f} s")
    return problems


def wrong_with_card(truth: Truth, messages: Sequence[Message]) -> list[str]:
    """What is wrong with the messenger's cards of one call: there must be one, in its last state."""
    if truth.direction == "internal":
        return ["an internal call has a card"] if messages else []
    if len(messages) != 1:
        return [f"{len(messages)} cards"]
    text: Any = messages[0].text
    if truth.result == "answered" and truth.extension and truth.extension not in text:
        return [f"the card does not name {truth.extension}"]
    return []


def wrong_with_end(truth: Truth, told: dict[str, Any]) -> list[str]:
    """What is wrong with the call as it is kept."""
    fields = ("direction", "caller", "called", "trunk", "result", "hung_up_by", "extension", "last_extension")
    problems = [
        f"{name} {told[name]!r}, not {getattr(truth, name)!r}" for name in fields if told[name] != getattr(truth, name)
    ]
    if tuple(told["rang"]) != truth.rang:
        problems.append(f"rang {told['rang']}, not {list(truth.rang)}")
    if told["uncertain"]:
        problems.append("uncertain")
    for name in ("wait_s", "talk_s"):
        right, said = getattr(truth, name), told[name]
        if (right is None) != (said is None) or (right is not None and abs(right - said) > 0.05):
            problems.append(f"{name} {said}, not {right}")
    return problems
