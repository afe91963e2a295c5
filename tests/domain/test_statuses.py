"""The four words: what a connection's actor and what is stored of it come to."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.domain.health import Health, State
from gateway.domain.statuses import Known, Outcome, RegistrationStanding, Standing, Status, status_of

NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)


def ago(minutes: float) -> datetime:
    return NOW - timedelta(minutes=minutes)


def health(state: State, code: str = "ready") -> Health:
    return Health(state=state, since=ago(3), code=code, detail="why", next_try=NOW + timedelta(minutes=1))


def outcomes(*statuses: str, every: float = 0.5) -> list[Outcome]:
    """Newest first."""
    return [Outcome(status, ago(every * place)) for place, status in enumerate(statuses)]


WORKED: dict[str, Any] = {"tested_at": ago(60)}
WAITS = RegistrationStanding(waits=True, problem="unavailable", since=ago(2))
REFUSED = RegistrationStanding(waits=True, problem="rejected", refused=True, since=ago(2))

CASES: list[tuple[str, Health | None, Known, Standing, str]] = [
    ("not set up", None, Known(set_up=False), Standing.INACTIVE, "not_set_up"),
    ("off, whatever failed", health(State.FAILED), Known(enabled=False), Standing.INACTIVE, "switched_off"),
    ("at work", health(State.ONLINE), Known(**WORKED), Standing.ACTIVE, "ready"),
    ("with problems", health(State.DEGRADED, "rate_limited"), Known(**WORKED), Standing.ACTIVE, "rate_limited"),
    ("waits for a person", health(State.ATTENTION, "needs_attention"), Known(**WORKED), Standing.ERROR, "needs_attention"),
    ("away", health(State.OFFLINE, "unavailable"), Known(**WORKED), Standing.ERROR, "unavailable"),
    ("crashed", health(State.FAILED, "parked"), Known(**WORKED), Standing.ERROR, "parked"),
    ("saved without a test", health(State.ONLINE), Known(changed_at=ago(1)), Standing.PENDING, "never_connected"),
    ("its settings are newer than its last success", health(State.ONLINE), Known(changed_at=ago(1), synced_at=ago(2)),
     Standing.PENDING, "never_connected"),
    ("it delivered since", health(State.ONLINE), Known(changed_at=ago(2), synced_at=ago(1)), Standing.ACTIVE, "ready"),
    ("a stream is connected", health(State.ONLINE, "online"), Known(), Standing.ACTIVE, "online"),
    ("no actor yet", None, Known(**WORKED), Standing.PENDING, "not_running"),
    ("a PBX connects", health(State.CONNECTING, ""), Known(remembers=False), Standing.PENDING, "connecting"),
    ("a PBX is connected", health(State.ONLINE, ""), Known(remembers=False), Standing.ACTIVE, ""),
    ("starts again", health(State.STARTING, ""), Known(**WORKED), Standing.ACTIVE, ""),
    ("somebody signs in", health(State.ONLINE), Known(login=True), Standing.PENDING, "login_under_way"),
    ("somebody signs in again", health(State.ONLINE), Known(login=True, **WORKED), Standing.ACTIVE, "ready"),
    ("after a restart: it was refused", health(State.ONLINE), Known(recent=outcomes("attention", "done"), **WORKED),
     Standing.ERROR, "needs_attention"),
    ("refused long ago, never corrected", health(State.ONLINE), Known(recent=[Outcome("attention", ago(50))], **WORKED),
     Standing.ERROR, "needs_attention"),
    ("refused, then corrected and tested", health(State.ONLINE), Known(recent=outcomes("attention"), tested_at=NOW),
     Standing.ACTIVE, "ready"),
    ("after a restart: it was away", health(State.ONLINE), Known(recent=outcomes(*["retry"] * 5, "done"), **WORKED),
     Standing.ERROR, "unavailable"),
    ("it answered again", health(State.ONLINE), Known(recent=outcomes("done", *["retry"] * 9), **WORKED), Standing.ACTIVE, "ready"),
    ("all refused", health(State.ONLINE), Known(recent=outcomes("failed", "doubtful", "expired"), **WORKED),
     Standing.ERROR, "deliveries_failing"),
    ("some refused", health(State.ONLINE), Known(recent=outcomes("failed", "failed", "failed", "done"), **WORKED),
     Standing.ACTIVE, "ready"),
    ("two are too few to say", health(State.ONLINE), Known(recent=outcomes("failed", "failed"), **WORKED), Standing.ACTIVE, "ready"),
    ("failed an hour ago", health(State.ONLINE), Known(recent=outcomes("failed", "failed", "failed", every=20), tested_at=ago(90)),
     Standing.ACTIVE, "ready"),
    ("the registration is to be repeated", health(State.ONLINE), Known(registration=WAITS, **WORKED),
     Standing.PENDING, "registration_waits"),
    ("the registration is refused", health(State.ONLINE), Known(registration=REFUSED, **WORKED),
     Standing.ERROR, "registration_refused"),
    ("a setting is still missing", health(State.STARTING, "no_app_secret"), Known(**WORKED), Standing.PENDING, "no_app_secret"),
    ("a job found what a person has to do", health(State.ONLINE), Known(problem=("token_ends", "2026-12-01"), **WORKED),
     Standing.ACTIVE, "token_ends"),
    ("a job found it before anything was sent", health(State.ONLINE), Known(problem=("no_webhook", ""), changed_at=ago(1)),
     Standing.PENDING, "no_webhook"),
    ("a job found it, and now it is away", health(State.OFFLINE, "unavailable"), Known(problem=("token_ends", ""), **WORKED),
     Standing.ERROR, "unavailable"),
]  # fmt: skip


@pytest.mark.parametrize(("what", "actor", "known", "standing", "code"), CASES, ids=[case[0] for case in CASES])
def test_what_it_comes_to(what: str, actor: Health | None, known: Known, standing: Standing, code: str) -> None:
    found = status_of(actor, known, NOW)
    assert (found.standing, found.code) == (standing, code)
    assert found.last_sync_at == known.synced_at


def test_an_error_has_since_when_and_the_next_try() -> None:
    found = status_of(health(State.OFFLINE, "unavailable"), Known(**WORKED), NOW)
    assert (found.since, found.next_try, found.detail) == (ago(3), NOW + timedelta(minutes=1), "why")
    stored = status_of(health(State.ONLINE), Known(recent=outcomes(*["retry"] * 6, "done"), **WORKED), NOW)
    assert stored.since == ago(2.5), "when the row of failures began"


MOMENTS = st.none() | st.integers(0, 5000).map(lambda minutes: ago(minutes))
HEALTHS = st.none() | st.builds(
    health, st.sampled_from(list(State)), st.sampled_from(["", "ready", "online", "unavailable", "rate_limited"])
)
KNOWN = st.builds(
    Known,
    set_up=st.booleans(),
    enabled=st.booleans(),
    remembers=st.booleans(),
    tested_at=MOMENTS,
    changed_at=MOMENTS,
    synced_at=MOMENTS,
    login=st.booleans(),
    recent=st.lists(
        st.builds(
            Outcome,
            st.sampled_from(["done", "retry", "failed", "attention", "expired", "rate_limited", "bug"]),
            st.integers(0, 60).map(ago),
        ),
        max_size=20,
    ).map(lambda found: sorted(found, key=lambda one: one.at, reverse=True)),
    registration=st.none() | st.sampled_from([WAITS, REFUSED, RegistrationStanding(waits=False)]),
    problem=st.none() | st.just(("token_ends", "2026-12-01")),
)


@settings(max_examples=300, deadline=None)
@given(actor=HEALTHS, known=KNOWN)
def test_a_status_warns_whenever_a_person_should_know(actor: Health | None, known: Known) -> None:
    """Feature: modular-bot-integrations, Property 13: whatever an integration's actor and its history are, error and pending warn,
    off never does, and an actor in trouble is never called active without a warning."""
    found: Status = status_of(actor, known, NOW)
    assert found.warns is (found.troubled or found.standing in (Standing.ERROR, Standing.PENDING))
    if not known.set_up or not known.enabled:
        assert found.standing is Standing.INACTIVE
    elif actor is None or actor.state not in (State.ONLINE, State.STARTING, State.CONNECTING):
        assert found.warns
    assert found.code or (actor is not None and found.standing is not Standing.ERROR)
