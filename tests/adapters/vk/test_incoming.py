"""Whose callbacks are genuine, how VK's question is answered, and which events are ours."""

import json
from typing import Any
from urllib.parse import parse_qsl

import pytest

from adapters.inbound import WebhookCall
from adapters.vk.incoming import INBOUND, confirmation_query, polls, read, updates, verify
from adapters.vk.settings import VkSettings
from tests.adapters.vk.settings_of import GROUP, settings


def event(kind: str = "message_new", secret: Any = "s3cr3t", group: Any = GROUP, **message: Any) -> dict[str, Any]:
    inner = {
        "id": 10,
        "date": 1_767_225_600,
        "peer_id": 2,
        "from_id": 2,
        "text": "hi",
        "out": 0,
        "conversation_message_id": 7,
        **message,
    }
    found = {"type": kind, "group_id": group, "event_id": "c68d", "v": "5.199"}
    found["object"] = {"message": inner, "client_info": {}} if kind == "message_new" else inner
    return {**found, "secret": secret} if secret is not None else found


def call(body: Any, query: dict[str, str] | None = None, method: str = "POST") -> WebhookCall:
    return WebhookCall(
        method=method, query=query or {}, body=body if isinstance(body, bytes) else json.dumps(body).encode()
    )


def test_a_genuine_callback() -> None:
    assert verify(call(event()), settings()) is None
    assert INBOUND.accepted.body == b"ok"


@pytest.mark.parametrize("secret", [None, "", "S3CR3T", "s3cr3t ", 7, ["s3cr3t"], "ключ", "\ud800"])
def test_a_callback_of_somebody_else(secret: Any) -> None:
    reply = verify(call(event(secret=secret)), settings())
    assert reply is not None
    assert reply.status == 403


@pytest.mark.parametrize("group", [1, None, "", f"{GROUP} ", -GROUP, True])
def test_the_secret_is_bound_to_the_community(group: Any) -> None:
    reply = verify(call(event(group=group)), settings())
    assert reply is not None
    assert reply.status == 403


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"\xff", b"[" * 100_000, b"not json", b'{"group_id": 1'])
def test_what_is_no_event_is_refused_and_unread(body: bytes) -> None:
    reply = verify(call(body), settings())
    assert reply is not None
    assert reply.status == 403
    with pytest.raises(ValueError):
        read(body, settings())


def test_only_posts_are_callbacks() -> None:
    reply = verify(call(event(), method="GET"), settings())
    assert reply is not None
    assert reply.status == 405


def question(group: Any = GROUP) -> dict[str, Any]:
    return {"type": "confirmation", "group_id": group, "event_id": "c", "v": "5.199"}


def test_the_code_in_our_address_is_the_answer() -> None:
    ours = settings()
    query = dict(parse_qsl(confirmation_query("a1b2", ours).removeprefix("?")))
    reply = verify(call(question(), query), ours)
    assert reply is not None
    assert (reply.status, reply.body) == (200, b"a1b2")


def test_a_code_that_we_have_not_signed_is_no_answer() -> None:
    ours = settings()
    query = dict(parse_qsl(confirmation_query("a1b2", ours).removeprefix("?")))
    other = dict(parse_qsl(confirmation_query("a1b2", settings(hook_id="i" * 43)).removeprefix("?")))
    for wrong in ({**query, "confirmation": "zzzz"}, {"confirmation": "a1b2"}, other, {**query, "sign": "ключ"}, {}):
        reply = verify(call(question(), wrong), ours)
        assert reply is not None
        assert (reply.status, reply.body) == (403, b"")


def test_a_code_in_the_settings_answers_for_a_server_added_by_hand() -> None:
    ours = settings(confirmation="abc123")
    assert confirmation_query("abc123", ours) == "", "the plain address is registered"
    reply = verify(call(question()), ours)
    assert reply is not None
    assert (reply.status, reply.body) == (200, b"abc123")
    fresh = dict(parse_qsl(confirmation_query("new", ours).removeprefix("?")))
    answered = verify(call(question(), fresh), ours)
    assert answered is not None
    assert answered.body == b"new", "the code of our own server goes first"
    refused = verify(call(question(group=1)), ours)
    assert refused is not None
    assert refused.status == 403


def test_a_message_is_one_update_by_either_way() -> None:
    pushed = read(json.dumps(event()).encode(), settings())
    polled = updates([{**event(secret=None), "event_id": "another"}], settings())
    assert [one.id for one in pushed] == [one.id for one in polled] == ["message_new 2 7"]
    assert "secret" not in pushed[0].body


def test_other_events_are_known_by_their_ids() -> None:
    first, second = event("message_edit"), {**event("message_edit"), "event_id": "d2"}
    ids = [one.id for one in updates([first, first, second], settings())]
    assert ids == ["message_edit c68d", "message_edit c68d", "message_edit d2"]
    bare = {name: value for name, value in event("message_edit").items() if name != "event_id"}
    one, two, other = updates([bare, {**bare, "secret": "x"}, {**bare, "object": {"id": 2}}], settings())
    assert one.id == two.id != other.id
    (unnumbered,) = updates([event(conversation_message_id=None)], settings())
    assert unnumbered.id == "message_new c68d"


@pytest.mark.parametrize(
    "left",
    [event(peer_id=2_000_000_001), event(peer_id=-5), event("wall_post_new"), event("message_typing_state"), event(group=1), "x", None, 7, {}],
)  # fmt: skip
def test_group_chats_and_other_events_are_left_alone(left: Any) -> None:
    assert [one.id for one in updates([left, event()], settings())] == ["message_new 2 7"]


@pytest.mark.parametrize("body", [b"{}", b'{"type": 1}'])
def test_what_has_no_type_is_no_event(body: bytes) -> None:
    with pytest.raises(ValueError):
        read(body, settings())


@pytest.mark.parametrize(("how", "reads", "takes"), [("longpoll", True, False), ("callback", False, True)])
def test_one_way_at_a_time(how: str, reads: bool, takes: bool) -> None:
    ours = settings(updates=how)
    assert (polls(ours), INBOUND.accepts(ours)) == (reads, takes)


@pytest.mark.parametrize(
    "text", [123456789, "123456789", "club123456789", " https://vk.com/public123456789 ", "vk.ru/event123456789"]
)
def test_a_community_s_number(text: Any) -> None:
    assert settings(group_id=text).group_id == "123456789"


@pytest.mark.parametrize("text", ["", "june", "-5", "0", 0, True, None, "1e9", "1" * 16, "123 456"])
def test_what_is_no_community(text: Any) -> None:
    with pytest.raises(ValueError, match="number of a community"):
        settings(group_id=text)


@pytest.mark.parametrize(("field", "value"), [("secret", ""), ("secret", "x" * 51), ("secret", "two words"), ("confirmation", "a b"),
                                              ("access_token", ""), ("access_token", "a\nb"), ("updates", "both")])  # fmt: skip
def test_settings_that_vk_does_not_take(field: str, value: str) -> None:
    with pytest.raises(ValueError):
        settings(**{field: value})


def test_a_secret_is_made_where_none_is_entered() -> None:
    first, second = (VkSettings.model_validate({"group_id": "1", "access_token": "t"}) for _ in range(2))
    assert first.secret != second.secret
    assert 20 <= len(first.secret.reveal()) <= 50
