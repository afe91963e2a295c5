"""What the answers to Instagram's requests mean, and a token that is renewed. Pure.

Built on `code` and `error_subcode`; where a subcode is not certain, the words decide too. What a message fails with begins with a code, by
which `texts.toml` has words for people (`message_error.CODE`). Sources: Meta, Messenger Platform, "Error
codes"; Graph API, "Handle errors"; "Business Login for Instagram, Refresh a long-lived token". Read `client.py` for the requests.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from adapters.http import Answer
from adapters.meta import GraphError, child, common, objects, read_answer, string
from adapters.tokens import FreshToken
from gateway.domain.errors import BadCredentials, BadSettings, GatewayError, Rejected, Unavailable
from gateway.domain.secret import Secret

MEDIA_TRIES = 3
"""How often a file is offered that Meta could not fetch."""

_WINDOW = frozenset({2534022, 2018278})
_NOBODY = frozenset({2018001, 2534014, 2534015})
_AWAY = frozenset({1545041})
_UNFETCHED = frozenset({2018008, 2018047, 2018294})
_ENDED = {
    458: "the app was removed from the account: connect it again and enter the new token",
    460: "the account's password was changed: make a new token and enter it",
    463: "it has ended: make a new token and enter it",
}
"""Why a token is not good, by subcode."""
_RIGHTS = (
    "The token needs the right to messages, and the Instagram app must allow access to them: Settings, Messages and story replies, "
    "Message controls, Connected tools, Allow access to messages"
)


def judged(error: GraphError, attempt: int = 1) -> GatewayError | None:
    """What codes come to where Instagram's differ from those of all of Meta's. `attempt` counts from 1."""
    code, subcode, detail = error.code, error.subcode, error.detail
    if code == 190:
        why = _ENDED.get(subcode, "make a new one and enter it")
        return BadCredentials(detail, person=f"Meta does not take the access token any more: {why}.")
    if subcode in _WINDOW or (code == 10 and "window" in detail.lower()):
        return Rejected("2534022: more than 24 hours since the client's last message: they have to write again first")
    if code == 551 or subcode in _AWAY:
        return Rejected("551: this person cannot be reached: the account is closed or restricted, or has blocked yours")
    if subcode in _NOBODY:
        return Rejected("2018001: Instagram does not know this person, or they wrote to another account")
    if subcode in _UNFETCHED:
        if attempt < MEDIA_TRIES:
            return Unavailable(detail, after_s=error.after_s)
        return Rejected(f"2018008: Meta could not fetch the file from our public address ({detail})")
    found = common(error)
    if isinstance(found, BadSettings):
        return BadSettings(detail, person=f"Meta: {detail}. {_RIGHTS}.")
    return found


def read(answer: Answer, attempt: int = 1) -> Mapping[str, Any]:
    """The object of a good answer. Raises ours, and `adapters.meta.Unclear`."""
    return read_answer(answer, partial(judged, attempt=attempt))


def judged_person(error: BadSettings) -> GatewayError:
    """A person who has not agreed to be named is no matter of settings: code 230, which has other meanings too."""
    return Rejected(error.detail) if error.detail.startswith("230:") and "consent" in error.detail.lower() else error


def message_id(found: Mapping[str, Any]) -> str:
    """What Instagram calls the message that was sent."""
    return string(found.get("message_id"))


# The account -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Account:
    """The professional account that a token is of. `id` is what webhooks name; empty where no account is linked."""

    id: str
    name: str

    def __str__(self) -> str:
        return f"{self.id} {self.name}".strip()


def account(found: Mapping[str, Any]) -> Account:
    """Of an answer to either login's question. A page without an account has a name alone."""
    listed = objects(found.get("data"))
    one = listed[0] if listed else found
    linked = one.get("instagram_business_account")
    if isinstance(linked, Mapping):
        return Account(string(linked.get("id")), f"@{string(linked.get('username'))}")
    named = string(one.get("username"))
    return Account(string(one.get("user_id")), f"@{named}" if named else string(one.get("name")))


def subscribed(found: Mapping[str, Any], wanted: frozenset[str], app_id: str) -> bool:
    """Whether an application is among those that get the account's news, with what is wanted. Without an id any is taken for ours."""
    return any(fields is None or wanted <= fields for fields in _fields(found, app_id))


def only_subscribed(found: Mapping[str, Any], wanted: frozenset[str], app_id: str) -> bool:
    """Whether it gets nothing but what is wanted."""
    known = _fields(found, app_id)
    return bool(known) and all(fields is not None and fields <= wanted for fields in known)


def _fields(found: Mapping[str, Any], app_id: str) -> list[frozenset[str] | None]:
    """What an application gets, None where Meta does not say it."""
    known = list[frozenset[str] | None]()
    for one in objects(found.get("data")):
        named = string(one.get("app_id")) or string(one.get("id"))
        if not app_id or not named or named == app_id:
            fields = one.get("subscribed_fields")
            known.append(frozenset(map(_field, fields)) if isinstance(fields, list) else None)
    return known


def _field(value: Any) -> str:
    return string(value) or string(child(value, "name"))


# Tokens ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Renewed:
    """The token in force: `seed` tells from which entered one it came, so that another one that a person enters goes before it."""

    token: Secret
    seed: str
    since: datetime
    """When it was made, or first seen."""

    def stored(self, expires_in_s: float | None = None) -> FreshToken:
        """As it is stored."""
        value = {"token": self.token.reveal(), "seed": self.seed, "since": self.since.isoformat()}
        return FreshToken(Secret(json.dumps(value)), expires_in_s)


def stored(value: Secret) -> Renewed:
    """The inverse of `Renewed.stored`."""
    found = json.loads(value.reveal())
    return Renewed(Secret(found["token"]), found["seed"], datetime.fromisoformat(found["since"]))


def seed_of(entered: Secret) -> str:
    """Tells one entered token from another, without being one."""
    return hashlib.sha256(b"instagram token\0" + entered.reveal().encode()).hexdigest()[:32]


def renewed(answer: Answer, seed: str, now: datetime) -> FreshToken:
    """The answer to a renewal. Raises ours, `Unclear`; Unavailable for one without a token."""
    found = read(answer)
    token, expires_in = string(found.get("access_token")), found.get("expires_in")
    if not token or not isinstance(expires_in, int) or isinstance(expires_in, bool) or expires_in <= 0:
        raise Unavailable("an answer without a token")
    return Renewed(Secret(token), seed, now).stored(float(expires_in))
