"""What Viber's answers mean. Pure.

An answer is HTTP 200 also where it refuses: `status` decides, 0 is good. Source: Viber REST API, "Error codes". Read `client.py` for
the requests.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from gateway.domain.errors import BadCredentials, BadSettings, GatewayError, RateLimited, Rejected, Unavailable

SILENCE_PAUSE_S = 900.0
"""Seconds until a message is tried again to a person who has not answered the 100 of the last hour."""
INVALID_URL = 1

_SAID: Mapping[int, str] = {
    5: "this person is not known to Viber any more",
    6: "this person has not written to the bot or has unsubscribed: nothing can be sent before they write",
    11: "the person's device cannot show this kind of message",
    12: "100 messages within an hour without an answer: Viber takes the next one when the person answers or an hour has passed",
    13: "the person's Viber is too old for this message",
    21: "Viber does not deliver this in the person's country",
}
_SETTINGS: Mapping[int, str] = {
    7: "Viber has blocked this bot",
    8: "Viber does not know this bot any more",
    9: "Viber has suspended this bot",
    10: "no webhook is registered for this bot; it is registered again within the hour",
    15: "this bot has no right to send; ask Viber",
    23: "the month's free messages are used up",
    24: "the account's balance at Viber is used up",
}
"""What a person has to settle with Viber before anything can be sent."""
_OURS = frozenset({INVALID_URL, 3, 4, 14, 16, 17, 18, 19, 20, 22})
"""A request that is not as it must be: repeated, it would be refused again."""


def read(http_status: int, raw: bytes, retry_after: str = "") -> Mapping[str, Any]:
    """The object of a good answer. Raises ours; Unavailable with `certain=False` where it may have been carried out."""
    if http_status != 200:
        raise _no_answer(http_status, retry_after)
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        raise Unavailable("an answer that is not Viber's", certain=False) from None
    status = found.get("status") if isinstance(found, dict) else None
    if not isinstance(status, int) or isinstance(status, bool):
        raise Unavailable("an answer without a status", certain=False)
    if status != 0:
        raise judged(status, str(found.get("status_message") or "")[:300])
    return found  # type: ignore[no-any-return] # an object, as was seen


def judged(status: int, said: str) -> GatewayError:
    """What a status other than 0 comes to."""
    detail = f"{status}: {_SAID.get(status) or _SETTINGS.get(status) or said or 'no reason given'}"
    if status == 2:
        return BadCredentials(detail)
    if status in _SETTINGS:
        return BadSettings(detail, person=_SETTINGS[status])
    if status == 12:
        return Unavailable(detail, after_s=SILENCE_PAUSE_S)
    if status in _SAID or status in _OURS:
        return Rejected(detail)
    return Unavailable(detail)


def message_token(found: Mapping[str, Any]) -> str:
    """What Viber calls the message that was sent: 64 bits, as a text."""
    token = found.get("message_token")
    return str(token) if isinstance(token, int | str) and not isinstance(token, bool) else ""


def _no_answer(status: int, retry_after: str) -> GatewayError:
    """Not Viber's own words, but those of a server before it. Of these only a gateway's timeout leaves a doubt."""
    detail = f"status {status} without an answer of Viber"
    if status == 429:
        return RateLimited(detail, after_s=float(retry_after) if re.fullmatch("[0-9]{1,6}", retry_after) else None)
    if status in (401, 403):
        return BadCredentials(detail)
    if 400 <= status < 500:
        return Rejected(detail)
    return Unavailable(detail, certain=status >= 500 and status != 504)
