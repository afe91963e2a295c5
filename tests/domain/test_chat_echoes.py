"""What a messenger repeats of our own messages by a short token, and events for which it names no time."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from gateway.domain.chat_fold import Book, Part, content_digest
from gateway.domain.chats import (
    OWNER_AI,
    OWNER_QUEUE,
    WHEN_RECEIVED,
    Conversation,
    ReachChanged,
    WroteElsewhere,
    short_token,
)
from gateway.domain.ids import IntegrationKey

KEY = IntegrationKey("pigeon")
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
TOKEN = "6f1c0a52-1d2f-4c7e-9f0e-0d8f3a8f7a11.0"


def book(text: str = "Добрый день") -> Book:
    """A conversation of the AI's with one message on its way."""
    found = Book(lambda key: OWNER_AI, uuid4)
    known = Conversation(id=uuid4(), integration=KEY, address="2", contact=uuid4(), owner=OWNER_AI)
    found.conversations[KEY, "2"] = known
    part = Part(
        message=UUID(int=7), part=0, conversation=known.id, out=True, status="queued", digest=content_digest(text)
    )
    found.unconfirmed[KEY, "2"] = [part]
    found.tokens[KEY, TOKEN] = part
    return found


def written(number: int, text: str = "Добрый день") -> WroteElsewhere:
    return WroteElsewhere(address="2", at=NOW, provider_id="11", text=text, short_token=number)


def test_an_echo_is_known_by_its_number_whatever_became_of_the_text() -> None:
    ours = book()
    assert ours.apply(KEY, written(short_token(TOKEN), "Добрый&nbsp;день"), NOW, NOW)
    assert ours.changes.messages == []
    (status,) = ours.changes.statuses
    assert (status.message, status.status, status.provider_id) == (UUID(int=7), "sent", "11")


def test_another_number_is_somebody_else_at_once_even_with_the_same_text() -> None:
    ours = book()
    assert ours.apply(KEY, written(424242), NOW, NOW), "there is nothing to wait for"
    (message,) = ours.changes.messages
    assert message.author == "elsewhere"
    assert ours.conversations[KEY, "2"].owner == OWNER_QUEUE
    assert ours.changes.statuses == []


def test_without_a_number_the_text_decides_and_a_doubt_waits() -> None:
    assert book().apply(KEY, written(0), NOW, NOW)
    assert book().apply(KEY, written(0, "other"), NOW, NOW) is False
    assert book().apply(KEY, written(0, "other"), NOW - timedelta(minutes=1), NOW)


def test_the_number_of_another_integration_is_not_ours() -> None:
    ours = book()
    ours.tokens = {(IntegrationKey("pigeon:other"), TOKEN): ours.tokens[KEY, TOKEN]}
    ours.apply(KEY, written(short_token(TOKEN)), NOW, NOW)
    assert [message.author for message in ours.changes.messages] == ["elsewhere"]


def test_the_time_of_receipt_stands_in_for_none() -> None:
    ours = book()
    ours.apply(KEY, ReachChanged(address="2", at=WHEN_RECEIVED, blocked=True), NOW, NOW + timedelta(seconds=9))
    assert ours.conversations[KEY, "2"].blocked_at == NOW


@pytest.mark.parametrize("token", ["", "a", TOKEN, "x" * 1000])
def test_a_short_token_fits_in_32_bits_and_is_never_0(token: str) -> None:
    assert -(1 << 31) <= short_token(token) < 1 << 31
    assert short_token(token) != 0
    assert short_token(token) == short_token(token)
