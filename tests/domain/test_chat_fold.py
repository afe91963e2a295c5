"""What follows from a messenger's events, without a database: repeats, echoes, statuses in any order, owners, one person."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from gateway.domain.chat_fold import ECHO_WAITS, Book, Part, content_digest
from gateway.domain.chats import (
    AddressChanged,
    ChatEvent,
    ClientWrote,
    ContactGiven,
    Conversation,
    MessageDeleted,
    MessageEdited,
    Opened,
    Person,
    PersonRequested,
    PhoneShared,
    ReachChanged,
    RemoteFile,
    StatusReached,
    WroteElsewhere,
)
from gateway.domain.ids import IntegrationKey

KEY = IntegrationKey("telegram")
NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)
AT = "7"


def book(owner: str = "none") -> Book:
    return Book(lambda key: owner, uuid4)


def apply(to: Book, *events: ChatEvent, after_s: float = 0.0) -> list[bool]:
    return [to.apply(KEY, event, NOON, NOON + timedelta(seconds=after_s)) for event in events]


def wrote(number: int, text: str = "hello", **more: object) -> ClientWrote:
    return ClientWrote(address=AT, at=NOON + timedelta(seconds=number), provider_id=str(number), text=text, **more)  # type: ignore[arg-type]


def only(to: Book) -> Conversation:
    (one,) = to.changes.conversations.values()
    return one


def ours(to: Book, provider_id: str = "", status: str = "queued", text: str = "yes") -> Part:
    """A part that we sent, as the store would have read it."""
    if (KEY, AT) not in to.conversations:
        to.conversations[KEY, AT] = Conversation(id=uuid4(), integration=KEY, address=AT, contact=uuid4())
    part = Part(
        message=uuid4(), part=0, conversation=to.conversations[KEY, AT].id, out=True, status=status, provider_id=provider_id,
        digest=content_digest(text),
    )  # fmt: skip
    if provider_id:
        to.known[KEY, AT, provider_id] = part
    else:
        to.unconfirmed.setdefault((KEY, AT), []).append(part)
    to.tokens[KEY, f"{part.message}.0"] = part
    return part


def test_a_message_makes_a_contact_and_a_conversation_and_a_repeat_nothing() -> None:
    one = book()
    apply(one, wrote(1, person=Person(name="Anna\nK", username="anna", language="ru")), wrote(1), wrote(2, "again"))
    known = only(one)
    assert (len(one.changes.messages), len(one.changes.contacts), known.unread, known.last_seq) == (2, 1, 2, 2)
    assert (known.name, known.username, known.language, known.owner) == ("Anna K", "anna", "ru", "none")
    assert known.waiting_since == NOON + timedelta(seconds=1)
    assert [message.seq for message in one.changes.messages] == [1, 2]
    assert list(one.changes.contacts.values()) == ["Anna K"]


def test_album_parts_are_messages_of_one_conversation() -> None:
    one = book()
    picture = RemoteFile(kind="image", name="photo.jpg", remote={"file_id": "x"})
    apply(one, *(wrote(number, "", files=(picture,)) for number in (1, 2, 3)))
    assert (len(one.changes.new_conversations), len(one.changes.messages), len(one.changes.files)) == (1, 3, 3)


def test_a_closed_conversation_opens_again_with_its_default_owner() -> None:
    one = book("ai")
    one.conversations[KEY, AT] = Conversation(
        id=uuid4(), integration=KEY, address=AT, contact=uuid4(), state="closed", owner="none", epoch=4, last_seq=9
    )
    apply(one, wrote(1))
    assert (only(one).state, only(one).owner, only(one).epoch, only(one).last_seq) == ("open", "ai", 5, 10)
    assert [happening.kind for happening in one.changes.happenings] == ["reopened"]


def test_an_echo_by_id_token_or_content_is_no_second_message() -> None:
    for echo in (
        WroteElsewhere(address=AT, at=NOON, provider_id="55", text="yes"),
        WroteElsewhere(address=AT, at=NOON, provider_id="55", text=" yes\n"),
    ):
        one = book()
        part = ours(one)
        assert apply(one, echo) == [True]
        assert one.changes.messages == []
        (status,) = one.changes.statuses
        assert (status.message, status.status, status.provider_id) == (part.message, "sent", "55")
    one = book()
    part = ours(one, text="cut by the messenger")
    apply(one, WroteElsewhere(address=AT, at=NOON, provider_id="55", text="cut", token=f"{part.message}.0"))
    assert one.changes.messages == []
    one = book()
    ours(one, provider_id="55", status="sent")
    apply(one, WroteElsewhere(address=AT, at=NOON, provider_id="55", text="anything"))
    assert one.changes.messages == []


def test_what_may_be_an_echo_waits_for_the_answer_to_what_is_on_its_way() -> None:
    one = book()
    ours(one)
    other = WroteElsewhere(address=AT, at=NOON, provider_id="55", text="from the phone's application")
    assert apply(one, other) == [False]
    assert one.changes.messages == []
    assert apply(one, other, after_s=ECHO_WAITS.total_seconds() + 1) == [True]
    assert [message.author for message in one.changes.messages] == ["elsewhere"]


def test_an_answer_from_elsewhere_takes_the_conversation_from_the_ai() -> None:
    one = book("ai")
    apply(one, wrote(1))
    before = only(one)
    assert (before.owner, before.waiting_since is None) == ("ai", False)
    apply(one, WroteElsewhere(address=AT, at=NOON, provider_id="9", text="hi"))
    after = only(one)
    assert (after.owner, after.epoch, after.waiting_since, after.unread) == ("queue", before.epoch + 1, None, 0)
    assert one.changes.messages[-1].status == "sent"


def test_a_persons_conversation_stays_theirs_when_somebody_answers_elsewhere() -> None:
    one = book()
    ours(one, "1", "sent")
    one.conversations[KEY, AT] = replace(one.conversations[KEY, AT], owner="human:anna", epoch=2)
    apply(one, WroteElsewhere(address=AT, at=NOON, provider_id="9", text="hi"))
    assert (only(one).owner, only(one).epoch) == ("human:anna", 2)


@pytest.mark.parametrize(
    ("reached", "expected"),
    [
        (("read", "delivered", "sent"), "read"), (("sent", "delivered"), "delivered"), (("failed", "sent"), "failed"),
        (("sent", "failed"), "failed"), (("delivered", "failed"), "delivered"),
    ],
)  # fmt: skip
def test_statuses_in_any_order_keep_the_furthest(reached: Sequence[str], expected: str) -> None:
    one = book()
    ours(one, "55", "queued")
    apply(one, *(StatusReached(address=AT, at=NOON, provider_id="55", status=status) for status in reached))  # type: ignore[arg-type]
    assert one.known[KEY, AT, "55"].status == expected


def test_a_number_that_changed_stays_one_persons_wherever_they_write_from_next() -> None:
    """The conversation is at an address that is no number, and so is the next one."""
    one, old, new = book(), "+375296254070", "+375296254071"
    apply(one, ClientWrote(address="BY.1", at=NOON, provider_id="1", person=Person(phone=old)))
    apply(one, AddressChanged(address=old[1:], at=NOON, new_address=new[1:], phone=new, old_phone=old))
    apply(one, ClientWrote(address="PL.2", at=NOON, provider_id="2", person=Person(phone=new)))
    assert len(one.conversations) == 2
    assert len({conversation.contact for conversation in one.conversations.values()}) == 1


def test_a_status_of_the_clients_message_or_of_an_unknown_one_changes_nothing() -> None:
    one = book()
    apply(one, wrote(1))
    apply(
        one,
        StatusReached(address=AT, at=NOON, provider_id="1", status="read"),
        StatusReached(address=AT, at=NOON, provider_id="2", status="read"),
    )
    assert one.changes.statuses == []


def test_a_lost_answer_is_resolved_by_a_status_with_our_token() -> None:
    one = book()
    part = ours(one, status="unknown")
    apply(one, StatusReached(address=AT, at=NOON, provider_id="55", token=f"{part.message}.0", status="delivered"))
    (status,) = one.changes.statuses
    assert (status.status, status.provider_id) == ("delivered", "55")
    assert one.unconfirmed[KEY, AT] == []


def test_edits_and_deletions_stand_beside_the_message() -> None:
    one = book()
    apply(
        one,
        wrote(1),
        MessageEdited(address=AT, at=NOON, provider_id="1", text="other"),
        MessageDeleted(address=AT, at=NOON, provider_id="1"),
    )
    apply(one, MessageEdited(address=AT, at=NOON, provider_id="404", text="unknown"))
    assert [message.text for message in one.changes.messages] == ["hello"]
    (message,) = one.changes.messages
    assert [(each.kind, each.text, each.message) for each in one.changes.happenings] == [
        ("edited", "other", message.id), ("deleted", "", message.id),
    ]  # fmt: skip


def test_a_confirmed_phone_that_is_known_makes_one_person_and_leaves_the_conversation_where_it_is() -> None:
    one = book()
    known = uuid4()
    one.people["+375296254070"] = known
    apply(one, wrote(1), PhoneShared(address=AT, at=NOON, phone="+375296254070", name="Anna"))
    assert one.changes.merges == [(known, only(one).contact)]
    assert only(one).contact != known
    assert one.changes.phones == [(only(one).contact, "+375296254070")]


def test_a_phone_that_comes_with_the_message_finds_the_person() -> None:
    one = book()
    known = uuid4()
    one.people["+375296254070"] = known
    apply(one, wrote(1, person=Person(name="Anna", phone="+375296254070")))
    assert only(one).contact == known
    assert one.changes.contacts == {}
    two = book()
    apply(two, wrote(1, person=Person(name="Anna", phone="+375296254070")))
    assert two.changes.phones == [(only(two).contact, "+375296254070")]


def test_one_person_whose_number_becomes_known_later_is_merged_with_it() -> None:
    """A messenger that shows the number only after some messages must not leave one person twice."""
    one = book()
    apply(one, wrote(1))
    known = uuid4()
    one.people["+375296254070"] = known
    apply(one, wrote(2, person=Person(phone="+375296254070")))
    assert one.changes.merges == [(known, only(one).contact)]
    apply(one, wrote(3, person=Person(phone="+375296254070")))
    assert len(one.changes.merges) == 1


def test_blocking_and_unblocking() -> None:
    one = book()
    apply(one, ReachChanged(address="404", at=NOON, blocked=True), wrote(1))
    apply(one, ReachChanged(address=AT, at=NOON, blocked=True), ReachChanged(address=AT, at=NOON, blocked=True))
    assert only(one).blocked_at == NOON
    apply(one, wrote(2))
    assert only(one).blocked_at is None
    assert [each.kind for each in one.changes.happenings] == ["blocked"]


def test_opening_is_no_message_and_keeps_what_the_link_said() -> None:
    one = book()
    apply(one, Opened(address=AT, at=NOON, person=Person(name="Anna"), payload="spring"))
    assert (one.changes.messages, only(one).unread, only(one).waiting_since) == ([], 0, None)
    assert [(each.kind, each.text) for each in one.changes.happenings] == [("opened", "spring")]


def test_a_new_address_takes_conversation_and_messages_along() -> None:
    one = book()
    apply(one, wrote(1), AddressChanged(address=AT, at=NOON, new_address="8", phone="+375296254071"))
    assert only(one).address == "8"
    assert one.changes.moves == [(KEY, AT, "8")]
    apply(one, ClientWrote(address="8", at=NOON, provider_id="2", text="here", reply_to="1"))
    assert (len(one.changes.new_conversations), one.changes.messages[1].reply_to) == (1, one.changes.messages[0].id)
    apply(one, ClientWrote(address="8", at=NOON, provider_id="1", text="a repeat after the move"))
    assert len(one.changes.messages) == 2


def test_long_texts_and_many_files_are_bounded() -> None:
    one = book()
    apply(one, wrote(1, "x" * 50_000, files=tuple(RemoteFile(kind="other", name="x") for _ in range(30))))
    assert (len(one.changes.messages[0].text), len(one.changes.files)) == (40_000, 10)


def test_ids_are_of_the_conversation_alone() -> None:
    one = book()
    apply(one, wrote(1), replace(wrote(1), address="8"))
    assert len(one.changes.messages) == 2
    assert len({message.conversation for message in one.changes.messages}) == 2
    assert isinstance(one.changes.messages[0].id, UUID)


@pytest.mark.parametrize(
    ("owner", "becomes", "epoch"), [("ai", "queue", 1), ("none", "queue", 1), ("queue", "queue", 0)]
)
def test_a_client_who_wants_a_person_waits_for_one(owner: str, becomes: str, epoch: int) -> None:
    one = book(owner)
    apply(one, wrote(1), PersonRequested(address=AT, at=NOON + timedelta(seconds=2)))
    known = only(one)
    assert (known.owner, known.epoch, known.state) == (becomes, epoch, "open")
    assert known.waiting_since == NOON + timedelta(seconds=1)
    assert [happening.kind for happening in one.changes.happenings] == ["person_requested"]


def test_whoever_has_the_conversation_keeps_it_when_a_person_is_wanted() -> None:
    one = book("human:7")
    apply(one, wrote(1), PersonRequested(address=AT, at=NOON))
    assert (only(one).owner, one.changes.happenings) == ("human:7", [])


def test_what_a_client_typed_confirms_nothing() -> None:
    one = book()
    other = uuid4()
    one.people["+375296254070"] = other
    apply(
        one, wrote(1), ContactGiven(address=AT, at=NOON, name="Anna", email="anna@june.example", phone="+375296254070")
    )
    contact = only(one).contact
    assert contact != other
    assert (one.changes.emails, one.changes.typed_phones) == (
        [(contact, "anna@june.example")],
        [(contact, "+375296254070")],
    )
    assert (one.changes.phones, one.changes.merges) == ([], [])
