"""Who people are to the gateway: roles, memberships in companies, and what an agent's own calls are. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from gateway.domain.calls import Call
from gateway.domain.events import Direction
from gateway.domain.ids import TenantId


class Role(StrEnum):
    """What somebody is in a company, or in the installation."""

    OPERATOR = "operator"
    """Of the installation: companies, processes, dead letters. Enters a company's pages only by acting as it."""
    ADMIN = "admin"
    """Everything of one company."""
    AGENT = "agent"
    """Calls of their own internal numbers."""
    AUDITOR = "auditor"
    """Reads everything of one company but secrets and texts of messages; changes nothing."""


LONGEST_NAME = 100
MOST_PHONES = 50

MEMBER_ROLES = (Role.ADMIN, Role.AGENT, Role.AUDITOR)
"""Those that a company's people may have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """One person in one company; without a company, an operator."""

    tenant: TenantId | None
    role: Role
    name: str = ""
    phones: tuple[str, ...] = ()
    """Internal numbers of their own: an agent sees the calls of these."""
    has_factor: bool = False
    """Whether a code is asked for after the password."""
    must_have_factor: bool = False
    """Whether the company demands one."""

    @property
    def locked(self) -> bool:
        """Whether nothing of the company opens before a second factor is set up."""
        return self.must_have_factor and not self.has_factor


@dataclass(frozen=True, slots=True)
class Acting:
    """An operator who acts as a company."""

    tenant: TenantId
    reason: str
    until: datetime


def is_of(call: Call, phones: Sequence[str]) -> bool:
    """Whether a call is one of these internal numbers': it rang there, or they took part."""
    if call.direction is Direction.INCOMING:
        return bool({*call.rang, *call.ringing, call.extension, call.last_extension} & {*phones})
    parties = {call.caller, call.called} if call.direction is Direction.INTERNAL else {call.caller}
    return bool(({*call.rang, *call.ringing, call.extension, call.last_extension} | parties) & {*phones})


def took_part(call: Call, phones: Sequence[str]) -> bool:
    """Whether one of these numbers talked in the call, so that its recording is theirs: ringing alone is not enough."""
    parties = {call.extension, call.last_extension}
    if call.direction is not Direction.INCOMING:
        parties.add(call.caller)
    if call.direction is Direction.INTERNAL:
        parties.add(call.called)
    return bool(parties & {*phones})


class PeopleRefused(Exception):
    """A change to a company's people that is not allowed. `code` names a text of the UI (`people.refused.CODE`), `field` what
    of the request is wrong; `text` is for programs."""

    def __init__(self, code: str, field: str, text: str) -> None:
        super().__init__(text)
        self.code, self.field, self.text = code, field, text


def wrong_with_email(email: str) -> bool:
    """Whether this is no e-mail address that anybody could have."""
    name, at, host = email.partition("@")
    usable = (
        name and at and "." in host and "@" not in host and email.isprintable() and not set(email) & set(" ,;<>\"'")
    )
    return not usable or len(email) > 254
