"""How a connection stands, in the four words that people, pages and programs share: active, inactive, pending, error.

    switched off, not set up                                    inactive
    the actor: FAILED, ATTENTION, OFFLINE                       error
    the attempts stored since it last worked                    error      so that a restart forgets nothing
    the registration: refused / not there yet                   error / pending
    a login not finished, never yet connected, connecting       pending
    starting with a code: a setting is still missing            pending
    a job found what a person has to do at the other side       active, or pending before it first worked
    everything else                                             active     also with a code: works, with problems

The one judgement of trouble: pages' warnings, programs, notices, the operators' list and what bots get all ask `status_of`. Pure;
its input comes from the directory of actors and from `gateway/store/integration_states.py`, by `actors/connections.py`. `code` names
the sentence for people (`health.CODE`) and what to do about it (`remedy.CODE`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from gateway.domain.health import URGENCY, Health, State
from gateway.domain.ids import Kind, TenantId

WINDOW = timedelta(minutes=15)
"""Outcomes older than this say nothing about how many fail now."""
FAILING, ENOUGH = 0.9, 3
"""The share of final failures from which on it is failing altogether, and their least number."""
UNANSWERED = 5
"""So many attempts in a row without an answer: the other side is away."""
_GIVEN_UP = frozenset({"failed", "expired", "doubtful"})
_UNANSWERED = frozenset({"retry", "bug"})


class Standing(StrEnum):
    """The four words."""

    ACTIVE = "active"
    INACTIVE = "inactive"
    PENDING = "pending"
    ERROR = "error"


WORST = (Standing.ERROR, Standing.PENDING, Standing.ACTIVE, Standing.INACTIVE)
"""The worst first."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """An attempt as its log has it: `status` is that of `integration_logs`."""

    status: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrationStanding:
    """How our registration in the outside system stands."""

    waits: bool
    """Whether the other side has yet to be notified of something."""
    problem: str = ""
    refused: bool = False
    """Whether it has refused, so that a repeat will not help."""
    since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is stored of a connection."""

    set_up: bool = True
    enabled: bool = True
    name: str = ""
    """What the company calls it, where it has said so."""
    remembers: bool = True
    """Whether attempts are stored for it; a PBX's session alone shows whether it is connected."""
    tested_at: datetime | None = None
    """When these settings last passed a test."""
    changed_at: datetime | None = None
    """When settings were stored that had passed none."""
    synced_at: datetime | None = None
    """When something last arrived there."""
    recent: Sequence[Outcome] = field(default=())
    """The latest attempts, newest first."""
    login: bool = False
    """Whether a person is in the middle of a login."""
    registration: RegistrationStanding | None = None
    problem: tuple[str, str] | None = None
    """What a job has found that a person has to do at the other side, such as a token that ends: code and detail."""

    @property
    def worked_at(self) -> datetime | None:
        """When it last worked with the settings of now."""
        moments = [one for one in (self.tested_at, self.synced_at) if one is not None]
        latest = max(moments, default=None)
        return None if latest is None or (self.changed_at is not None and latest < self.changed_at) else latest


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How a connection stands. `detail` is the variable part of the sentence and holds no secret."""

    standing: Standing
    code: str
    detail: str = ""
    since: datetime | None = None
    next_try: datetime | None = None
    last_sync_at: datetime | None = None
    troubled: bool = False
    """Active, with problems that people should know of."""
    needs_person: bool = False
    """An error that no retry ends: settings, a key or a registration that was refused."""

    @property
    def warns(self) -> bool:
        """Whether every page of the company shows it."""
        return self.troubled or self.standing in (Standing.ERROR, Standing.PENDING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """A PBX or an integration of a company, and how it stands."""

    tenant: TenantId
    name: str
    """A PBX's name; an integration's key."""
    kind: Kind
    is_pbx: bool
    title: str
    status: Status

    @property
    def href(self) -> str:
        """Its page."""
        return f"/t/{self.tenant}/{'pbxes' if self.is_pbx else 'integrations'}/{self.name}"


def troubles_of(connections: Iterable[Connection]) -> list[Connection]:
    """Those that a person should know of, the worst first."""
    return sorted((one for one in connections if one.status.warns), key=lambda one: WORST.index(one.status.standing))


def most_urgent(healths: Iterable[Health | None]) -> Health | None:
    """The health, of several actors of one connection, that a person should know of first."""
    alive = [one for one in healths if one is not None]
    troubled = [one for one in alive if one.state.troubled]
    return min(troubled, key=lambda one: URGENCY.index(one.state)) if troubled else next(iter(alive), None)


def status_of(health: Health | None, known: Known, now: datetime) -> Status:
    """The status of one connection. `health` is its most urgent actor's, None where none runs."""

    def stands(
        standing: Standing, code: str, detail: str = "", since: datetime | None = None, *, needs_person: bool = False
    ) -> Status:
        return Status(
            standing=standing, code=code, detail=detail, since=since, last_sync_at=known.synced_at, needs_person=needs_person
        )  # fmt: skip

    def by(health: Health, standing: Standing, *, troubled: bool = False) -> Status:
        return Status(
            standing=standing, code=health.code or (str(health.state) if standing is Standing.ERROR else ""), detail=health.detail, since=health.since, next_try=health.next_try,
            last_sync_at=known.synced_at, troubled=troubled, needs_person=health.state is State.ATTENTION,
        )  # fmt: skip

    if not known.set_up:
        return stands(Standing.INACTIVE, "not_set_up")
    if not known.enabled:
        return stands(Standing.INACTIVE, "switched_off")
    if health is not None and health.state.broken:
        return by(health, Standing.ERROR)
    connected = known.worked_at is not None
    if known.login and not connected:
        return stands(Standing.PENDING, "login_under_way")
    if (failure := _failure(known, now)) is not None:
        return stands(Standing.ERROR, *failure, needs_person=failure[0] == "needs_attention")
    registration = known.registration
    if registration is not None and registration.waits and registration.problem:
        if registration.refused:
            return stands(
                Standing.ERROR, "registration_refused", registration.problem, registration.since, needs_person=True
            )
        return stands(Standing.PENDING, "registration_waits", registration.problem, registration.since)
    if health is None or health.state is State.STOPPED:
        return stands(Standing.PENDING, "not_running")
    if health.state is State.STARTING and health.code:
        return stands(Standing.PENDING, health.code, health.detail, health.since)
    if health.state in (State.STARTING, State.CONNECTING) and not connected:
        return stands(Standing.PENDING, health.code or "connecting", health.detail, health.since)
    if known.problem is not None and health.state is not State.DEGRADED:
        return replace(stands(Standing.ACTIVE if connected else Standing.PENDING, *known.problem), troubled=connected)
    if known.remembers and not connected and health.code in ("", "ready"):
        return stands(Standing.PENDING, "never_connected", since=known.changed_at)
    return by(health, Standing.ACTIVE, troubled=health.state is State.DEGRADED)


def _failure(known: Known, now: datetime) -> tuple[str, str, datetime] | None:
    """What the attempts since it last worked come to: code, detail, since when; None where they say nothing."""
    after = max((one for one in (known.tested_at, known.changed_at) if one is not None), default=None)
    since = [one for one in known.recent if after is None or one.at > after]
    if since and since[0].status == "attention":
        return "needs_attention", "", _begin(since, frozenset({"attention"}))
    fresh = [one for one in since if now - one.at <= WINDOW]
    if len(fresh) >= UNANSWERED and all(one.status in _UNANSWERED for one in fresh[:UNANSWERED]):
        return "unavailable", "", _begin(fresh, _UNANSWERED)
    final = [one for one in fresh if one.status == "done" or one.status in _GIVEN_UP]
    failed = [one for one in final if one.status in _GIVEN_UP]
    if len(failed) >= ENOUGH and len(failed) / len(final) >= FAILING:
        return "deliveries_failing", f"{len(failed)}/{len(final)}", failed[-1].at
    return None


def _begin(outcomes: Sequence[Outcome], alike: frozenset[str]) -> datetime:
    """When the unbroken row of such outcomes at the front of `outcomes` began."""
    moment = outcomes[0].at
    for one in outcomes:
        if one.status not in alike:
            break
        moment = one.at
    return moment
