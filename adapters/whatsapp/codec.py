"""What the Cloud API's answers mean, and its message templates. Pure.

Built on `code` alone; titles and HTTP statuses are not stable. An error begins with its code, by which `texts.toml` has words for
people (`message_error.CODE`). Sources: Meta, WhatsApp Cloud API, "Error codes", "Message templates",
"Throughput". Read `chats.py` for what people write.
"""

import hmac
import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from adapters.channel import MessageTemplate, TemplateUse
from adapters.http import Answer
from adapters.jobs import JobResult
from adapters.meta import GraphError, child, objects, read_answer, string
from gateway.domain.errors import BadCredentials, BadSettings, GatewayError, RateLimited, Rejected, Unavailable

NUMBER_PAUSE_S = 5.0
"""After the number's throughput is used up."""
PAIR_PAUSE_S = 6.0
"""After too many messages to one recipient: Meta lets one through in so many seconds."""
MEDIA_TRIES = 3

_SETTINGS = frozenset({131005, 131031, 131042, 131044, 131045, 133010})
"""No permission, account locked, payment, certificate, number not registered: a person has to act at Meta."""
_AGAIN = frozenset({131000, 131016, 131057, 135000})
_MEDIA = frozenset({131052, 131053})


def pair(address: str) -> str:
    """The bucket of one recipient."""
    return f"pair:{address}"


def judged(error: GraphError, to: str = "", attempt: int = 1) -> GatewayError | None:
    """What the messenger's own codes come to. `to` is the recipient, `attempt` counts from 1."""
    code = error.code
    if code == 0:
        return BadCredentials(error.detail)
    if code in _SETTINGS:
        return BadSettings(error.detail, person=f"Meta: {error.detail}")
    if code == 131056:
        return RateLimited(error.detail, after_s=error.after_s or PAIR_PAUSE_S).of(pair(to) if to else "")
    if code == 130429:
        return RateLimited(error.detail, after_s=error.after_s or NUMBER_PAUSE_S)
    if code in _AGAIN or (code in _MEDIA and attempt < MEDIA_TRIES):
        return Unavailable(error.detail, after_s=error.after_s)
    if code >= 130000:
        return Rejected(error.detail)
    return None


def read(answer: Answer, to: str = "", attempt: int = 1) -> Mapping[str, Any]:
    """The object of a good answer. Raises ours, and `adapters.meta.Unclear`."""
    return read_answer(answer, partial(judged, to=to, attempt=attempt))


def message_id(found: Mapping[str, Any]) -> str:
    """What WhatsApp calls the message that was sent."""
    sent = objects(found.get("messages"))
    return string(sent[0].get("id")) if sent else ""


# Templates -------------------------------------------------------------------------------------------------------------

_PLACE = re.compile(r"\{\{\s*([A-Za-z0-9_]+)\s*\}\}")
_PLAIN_BUTTONS = frozenset({"QUICK_REPLY", "PHONE_NUMBER", "URL", "VOICE_CALL"})


def template(item: Mapping[str, Any]) -> MessageTemplate | None:
    """An approved template that texts can fill in; None for others: with a picture above, a one-time code, a catalogue."""
    name, language = string(item.get("name")), string(item.get("language"))
    if not name or not language or item.get("status") != "APPROVED" or item.get("category") == "AUTHENTICATION":
        return None
    texts, fields = list[str](), list[str]()
    for part in objects(item.get("components")):
        match part.get("type"):
            case "HEADER" if part.get("format") != "TEXT":
                return None
            case "HEADER" | "BODY" as kind:
                text, place = string(part.get("text")), kind.lower()
                texts.append(_PLACE.sub(rf"{{{{{place}.\1}}}}", text))
                fields += [f"{place}.{name}" for name in _PLACE.findall(text)]
            case "FOOTER":
                texts.append(string(part.get("text")))
            case "BUTTONS":
                for number, button in enumerate(objects(part.get("buttons"))):
                    if button.get("type") not in _PLAIN_BUTTONS:
                        return None
                    if _PLACE.search(string(button.get("url"))):
                        fields.append(f"button.{number}")
            case _:
                return None
    return MessageTemplate(
        name=name, language=language, text="\n\n".join(filter(None, texts)), fields=tuple(dict.fromkeys(fields)),
        category=string(item.get("category")).lower(),
    )  # fmt: skip


def template_payload(use: TemplateUse) -> dict[str, Any]:
    """A template as a message names it."""
    components = list[dict[str, Any]]()
    for kind in ("header", "body"):
        values = {name.partition(".")[2]: text for name, text in use.values.items() if name.startswith(f"{kind}.")}
        if values:
            components.append({"type": kind, "parameters": _parameters(values)})
    for name, text in sorted(use.values.items()):
        place, _, number = name.partition(".")
        if place == "button":
            components.append(
                {"type": "button", "sub_type": "url", "index": number, "parameters": [{"type": "text", "text": text}]}
            )
    found: dict[str, Any] = {"name": use.name, "language": {"code": use.language}}
    return {**found, "components": components} if components else found


def _parameters(values: Mapping[str, str]) -> list[dict[str, str]]:
    if all(name.isdigit() for name in values):
        return [{"type": "text", "text": text} for _, text in sorted(values.items(), key=lambda one: int(one[0]))]
    return [{"type": "text", "parameter_name": name, "text": text} for name, text in values.items()]


# What Meta says of the number ----------------------------------------------------------------------------------------


def number_shown(found: Mapping[str, Any]) -> str:
    """How the number calls itself."""
    names = (string(found.get("display_phone_number")), string(child(found, "verified_name")))
    return " ".join(filter(None, names))[:100]


def judged_number(found: Mapping[str, Any]) -> JobResult | None:
    """What keeps the number from sending, or soon may; None for a number in good standing."""
    health = child(found, "health_status") or {}
    reasons = [
        string(error.get("error_description"))
        for entity in objects(child(health, "entities")) if entity.get("can_send_message") != "AVAILABLE"
        for error in objects(entity.get("errors"))
    ]  # fmt: skip
    detail = "; ".join(dict.fromkeys(filter(None, reasons)))[:400]
    match string(child(health, "can_send_message")):
        case "BLOCKED":
            return JobResult(problem="number_blocked", detail=detail)
        case "LIMITED":
            return JobResult(problem="number_limited", detail=detail)
    return JobResult(problem="quality_low") if found.get("quality_rating") == "RED" else None


def judged_webhook(found: Mapping[str, Any], wanted: str) -> JobResult | None:
    """Whether Meta calls `wanted` for the number: the number's own address goes before the account's, that before the application's."""
    known = child(found, "webhook_configuration") or {}
    leads_to = next(
        filter(
            None, (string(known.get(name)) for name in ("phone_number", "whatsapp_business_account", "application"))
        ),
        "",
    )
    if not leads_to:
        return JobResult(problem="no_webhook")
    same = hmac.compare_digest(leads_to.rstrip("/").encode("utf-8", "surrogatepass"), wanted.encode())
    return None if same else JobResult(problem="other_webhook")
