"""Reports on messages of ours that are quicker than the messenger's answer, which alone names the message."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from gateway.domain.chat_fold import ECHO_WAITS, Book, Part
from gateway.domain.chats import OWNER_NONE, Conversation, StatusReached
from gateway.domain.ids import IntegrationKey

KEY = IntegrationKey("pigeon")
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def book(status: str = "queued", provider_id: str = "") -> Book:
    """A conversation with one message of ours."""
    found = Book(lambda key: OWNER_NONE, uuid4)
    known = Conversation(id=uuid4(), integration=KEY, address="2", contact=uuid4())
    found.conversations[KEY, "2"] = known
    part = Part(message=UUID(int=7), part=0, conversation=known.id, out=True, status=status, provider_id=provider_id)
    if provider_id:
        found.known[KEY, "2", provider_id] = part
    else:
        found.unconfirmed[KEY, "2"] = [part]
    return found


def report(status: Any = "delivered", provider_id: str = "11", **more: Any) -> StatusReached:
    return StatusReached(address="2", at=NOW, status=status, provider_id=provider_id, **more)


@pytest.mark.parametrize("status", ["delivered", "read", "failed"])
def test_it_waits_for_a_message_on_its_way(status: str) -> None:
    ours = book()
    assert not ours.apply(KEY, report(status), NOW, NOW)
    assert not ours.apply(KEY, report(status), NOW, NOW + ECHO_WAITS - timedelta(milliseconds=1))
    assert ours.changes.statuses == []
    answered = book("sent", "11")
    assert answered.apply(KEY, report(status, error="why"), NOW, NOW)
    (change,) = answered.changes.statuses
    assert (change.message, change.status, change.error) == (UUID(int=7), status, "why")


def test_what_was_taken_may_fail_and_what_was_seen_may_not() -> None:
    for before, after, changes in (("sent", "failed", 1), ("delivered", "failed", 0), ("failed", "delivered", 1)):
        ours = book(before, "11")
        assert ours.apply(KEY, report(after), NOW, NOW)
        assert len(ours.changes.statuses) == changes, (before, after)


def test_it_waits_no_longer_than_an_echo() -> None:
    ours = book()
    assert ours.apply(KEY, report(), NOW, NOW + ECHO_WAITS)
    assert ours.changes.statuses == [], "it is about what another program sent"


@pytest.mark.parametrize("status", ["unknown", "sent", "failed"])
def test_it_waits_for_nothing_else(status: str) -> None:
    assert book(status, "" if status == "unknown" else "10").apply(KEY, report(), NOW, NOW)
    assert book("queued").apply(KEY, report(provider_id="", up_to=True), NOW, NOW), "it names no message"
