"""Who a visitor of a widget is: the token that their browser holds, and the identity that the company's site vouches for. Pure.

A token is signed and stored nowhere: it names the widget, the visitor's address, when it was made, and how the site calls them. It
is good for one widget alone and for TOKEN_DAYS; a new secret in the settings ends them all.
"""

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from adapters.widget import ANONYMOUS, IDENTIFIED, Given, Widget
from gateway.domain.ids import TenantId
from gateway.domain.people import wrong_with_email
from gateway.domain.posts import Invalid
from gateway.domain.secret import Secret
from gateway.domain.text import Bilingual, has_breaking

TOKEN_DAYS = 365
LONGEST_ID, LONGEST_NAME, LONGEST_PHONE, LONGEST_TOKEN = 200, 200, 40, 4000
_VERSION = "v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """One visitor of one widget."""

    address: str
    given: Given = field(default_factory=Given)

    @property
    def identified(self) -> bool:
        """Whether the company's site vouches for who this is."""
        return self.address.startswith(IDENTIFIED)


def stranger() -> Visitor:
    """Somebody new."""
    return Visitor(address=ANONYMOUS + secrets.token_urlsafe(16))


def token_of(widget: Widget, tenant: TenantId, visitor: Visitor, now: datetime) -> str:
    """A visitor's token."""
    given = visitor.given
    held = {
        "k": widget.key, "a": visitor.address, "t": int(now.timestamp()), "n": given.name, "e": given.email, "p": given.phone,
    }  # fmt: skip
    body = _base64(json.dumps(held, ensure_ascii=False, separators=(",", ":")).encode())
    return f"{_VERSION}.{body}.{_signature(widget.token_secret, tenant, body)}"


def visitor_of(widget: Widget, tenant: TenantId, token: str, now: datetime) -> Visitor | None:
    """Whose token it is; None for one that is forged, too old, of another widget, or of somebody who has to be identified now."""
    version, _, rest = token.partition(".")
    body, _, signature = rest.partition(".")
    sent = signature.encode("utf-8", "surrogatepass")
    if len(token) > LONGEST_TOKEN or version != _VERSION:
        return None
    if not hmac.compare_digest(sent, _signature(widget.token_secret, tenant, body).encode()):
        return None
    held = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    age = now.timestamp() - held["t"]
    if held["k"] != widget.key or not -86_400 <= age < timedelta(days=TOKEN_DAYS).total_seconds():
        return None
    visitor = Visitor(address=held["a"], given=Given(name=held["n"], email=held["e"], phone=held["p"]))
    return visitor if visitor.identified or not widget.identity_required else None


def _signature(secret: Secret, tenant: TenantId, body: str) -> str:
    signed = hmac.new(
        secret.reveal().encode(), f"visitor {tenant} {body}".encode("utf-8", "surrogatepass"), hashlib.sha256
    )
    return _base64(signed.digest())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def identity_hash(secret: Secret, identity: str) -> str:
    """What the company's site sends with a visitor's id: HMAC-SHA256 in hexadecimal digits."""
    return hmac.new(secret.reveal().encode(), identity.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


def identified(widget: Widget, sent: Mapping[str, Any]) -> Visitor | None:
    """The visitor that the company's site names; None where its signature is wrong. Raises Invalid."""
    problems = list[tuple[str, str]]()
    ident = sent.get("id")
    ident = str(ident) if isinstance(ident, int) and not isinstance(ident, bool) else ident
    if not isinstance(ident, str) or not ident.strip() or len(ident) > LONGEST_ID or has_breaking(ident):
        problems.append(("identity.id", Bilingual(
            f"must be the visitor's id at your site: a text of 1 to {LONGEST_ID} characters",
            f"должен быть идентификатор посетителя на вашем сайте: от 1 до {LONGEST_ID} знаков",
        )))  # fmt: skip
    given = given_from(sent, problems, "identity.")
    shown = sent.get("hash")
    if not isinstance(shown, str):
        problems.append(("identity.hash", Bilingual(
            "must be HMAC-SHA256 of id by the widget's identity_secret, in hexadecimal digits",
            "должен быть HMAC-SHA256 от id с секретом identity_secret виджета, шестнадцатеричными цифрами",
        )))  # fmt: skip
    if problems:
        raise Invalid(tuple(problems))
    assert isinstance(ident, str)
    assert isinstance(shown, str)
    right = identity_hash(widget.identity_secret, ident)
    if not hmac.compare_digest(shown.lower().encode("utf-8", "surrogatepass"), right.encode()):
        return None
    return Visitor(address=IDENTIFIED + ident, given=given)


def given_from(sent: Mapping[str, Any], problems: list[tuple[str, str]], before: str = "") -> Given:
    """Name, e-mail and phone as they were sent; adds what is wrong with them to `problems`."""
    found = dict[str, str]()
    for name, most in (("name", LONGEST_NAME), ("email", 254), ("phone", LONGEST_PHONE)):
        value = sent.get(name)
        value = "" if value is None else value
        if not isinstance(value, str) or len(value) > most or has_breaking(value):
            problems.append((before + name, Bilingual(
                f"must be one line of at most {most} characters", f"должна быть одна строка не длиннее {most} знаков"
            )))  # fmt: skip
            value = ""
        found[name] = value.strip()
    if found["email"] and wrong_with_email(found["email"]):
        problems.append((before + "email", Bilingual(
            "is no e-mail address: write it as anna@june.example", "не адрес почты: напишите, например, anna@june.example"
        )))  # fmt: skip
    return Given(**found)
