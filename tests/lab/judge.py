"""What an outside system must have been told of a call, and what is wrong with what it was told."""

from collections import Counter
from collections.abc import Sequence
from itertools import permutations
from typing import Any

from tests.lab.kinds import Truth
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


ACCURACY_S = 0.05
"""What recordings are held to."""
LIVE_ACCURACY_S = 0.5
"""A machine that runs telephones, PBXes and the product side by side is late now and then."""


def pairs(truths: Sequence[Truth], reported: Sequence[dict[str, Any]]) -> list[tuple[Truth, dict[str, Any]]]:
    """Each truth with the end that fits it best; as many of both."""
    orders = (list(zip(truths, order, strict=True)) for order in permutations(reported))
    return min(orders, key=lambda order: sum(len(wrong_with_end(truth, end)) for truth, end in order))


def wrong_with_ends(
    truths: Sequence[Truth], reported: Sequence[dict[str, Any]], accuracy_s: float = ACCURACY_S
) -> list[str]:
    """What is wrong with the calls as they are kept."""
    if len(reported) != len(truths):
        stored = "; ".join(f"{t['direction']} {t['caller']} -> {t['called']} {t['result']}" for t in reported)
        return [f"{len(reported)} calls, not {len(truths)}: {stored}"]
    return [problem for truth, end in pairs(truths, reported) for problem in wrong_with_end(truth, end, accuracy_s)]


def concerns_crm(truth: Truth) -> bool:
    """Whether a CRM hears of it: its clients are telephone numbers, and colleagues are none of its business."""
    client = truth.caller if truth.direction == "incoming" else truth.called
    return truth.direction != "internal" and client.startswith("+")


def wrong_with_crm(truth: Truth, events: list[dict[str, Any]], uploads: list[dict[str, Any]]) -> list[str]:
    """Everything the sandbox CRM was told of one call that is not what happened."""
    if not concerns_crm(truth):
        return [f"it was told: {reported}" for reported in [*events, *uploads]]
    problems: list[str] = []
    client = truth.caller if truth.direction == "incoming" else truth.called
    kind = "in" if truth.direction == "incoming" else "out"
    rings = [event for event in events if event["type"] == kind]
    codes = Counter(code for ring in rings for code in ring.get("codes", ()))
    expected = truth.rang if kind == "in" else (truth.caller,)
    apart = {to for _, to in truth.transfers}  # who was asked in a call apart did not ring for the client
    if Counter(codes.keys()) != codes or not set(expected) - apart <= set(codes) <= set(expected):
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
    }
    problems += [
        f"{name} {reported!r}, not {right!r}" for name, (reported, right) in wanted.items() if reported != right
    ]
    for name, reported, right in (
        ("talk", upload["duration"], truth.talk_s),
        ("wait", upload["durationWaiting"], truth.wait_s),
    ):
        if right is not None and abs(reported - right) > TOLERANCE_S:
            problems.append(f"{name} {reported} s, not {right:.2f} s")
    return problems


def wrong_with_cards(truths: Sequence[Truth], messages: Sequence[Message]) -> list[str]:
    """What is wrong with the messenger's cards: one for each call with the outside, in its last state."""
    outside = [truth for truth in truths if truth.direction != "internal"]
    if len(messages) != len(outside):
        return [f"{len(messages)} cards, not {len(outside)}"]
    texts: list[Any] = [message.text for message in messages]
    answered = [truth.extension for truth in outside if truth.result == "answered" and truth.extension]
    return [f"no card names {number}" for number in answered if not any(number in text for text in texts)]


def wrong_with_end(truth: Truth, reported: dict[str, Any], accuracy_s: float = ACCURACY_S) -> list[str]:
    """What is wrong with the call as it is kept."""
    fields = (
        "direction", "caller", "called", "trunk", "result", "hung_up_by", "extension", "last_extension", "queue"
    )  # fmt: skip
    problems = [
        f"{name} {reported[name]!r}, not {getattr(truth, name)!r}"
        for name in fields
        if reported[name] != getattr(truth, name)
    ]
    if tuple(reported["rang"]) != truth.rang:
        problems.append(f"rang {reported['rang']}, not {list(truth.rang)}")
    if reported["uncertain"]:
        problems.append("uncertain")
    for name in ("wait_s", "talk_s"):
        right, said = getattr(truth, name), reported[name]
        if (right is None) != (said is None) or (right is not None and abs(right - said) > accuracy_s):
            problems.append(f"{name} {said}, not {right}")
    return problems
