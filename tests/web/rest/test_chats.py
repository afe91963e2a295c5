"""Conversations and contacts by the API: what each caller sees, what they change, and what is refused with which field."""

import json
from typing import Any
from uuid import UUID, uuid4

import pytest

from gateway.domain.people import Role
from gateway.store import members
from gateway.store.audit import select_audit
from gateway.store.outbox import Outcome, claim_deliveries
from tests.web.chats import TELEGRAM, connect, conversation_with, receives
from tests.web.rest.conftest import Api
from tests.web.rest.test_resources import every, paths
from tests.web.world import JUNE, MAPLE

PHONE = "+375296254070"


def wrote(number: int, text: str = "hello", address: str = "7", **more: Any) -> dict[str, Any]:
    return {
        "event": "ClientWrote",
        "provider_id": str(number),
        "text": text,
        "address": address,
        "at": float(number),
        **more,
    }


@pytest.fixture
async def chat(api: Api) -> str:
    """The address of a conversation in which a client has written."""
    await connect(api.world)
    await receives(api.world, wrote(1, "good morning", person={"name": "Anna", "language": "ru"}))
    return f"/conversations/{await conversation_with(api.world, '7')}"


async def test_conversations_are_listed_newest_first_and_narrowed(api: Api, chat: str) -> None:
    await receives(api.world, *(wrote(number, f"text {number}", str(number)) for number in range(20, 27)))
    found = await every(api, "/conversations")
    assert [one["last_text"] for one in found] == [f"text {number}" for number in range(26, 19, -1)] + ["good morning"]
    oldest = found[-1]
    assert oldest.keys() == {
        "id", "channel", "contact", "name", "state", "owner", "epoch", "queue", "unread", "last_message_at", "waiting_since", "last_text",
        "window_until", "blocked",
    }  # fmt: skip
    assert (oldest["channel"], oldest["name"], oldest["state"], oldest["owner"], oldest["unread"]) == (
        "telegram",
        "Anna",
        "open",
        "none",
        1,
    )
    assert oldest["waiting_since"] == oldest["last_message_at"]
    assert [one["name"] for one in await every(api, "/conversations", q="morning")] == ["Anna"]
    assert await every(api, "/conversations", state="closed") == []
    assert await every(api, "/conversations", channel="viber") == []
    assert len(await every(api, "/conversations", unread="true")) == 8
    assert paths(await api.ask("GET", "/conversations", query={"state": "lost"})) == {"state"}


async def test_messages_oldest_first_and_an_answer_takes_the_conversation(api: Api, chat: str) -> None:
    key = await api.new_key("chat")
    body = {"text": "How can I help?", "client_id": "a-1"}
    made = await api.ask("POST", f"{chat}/messages", body, x_api_key=key)
    assert (made.status, made.json["status"], made.json["direction"]) == (201, "queued", "out")
    assert made.json["author"].startswith("human:key:")
    again = await api.ask("POST", f"{chat}/messages", body, x_api_key=key)
    assert again.json["id"] == made.json["id"]
    assert api.rung == [(JUNE, TELEGRAM)]
    first, second = await every(api, f"{chat}/messages")
    assert (first["author"], first["text"], first["direction"], first["status"]) == (
        "client",
        "good morning",
        "in",
        None,
    )
    assert (second["id"], second["client_id"]) == (made.json["id"], "a-1")
    one = (await api.ask("GET", chat)).json
    assert (one["owner"], one["waiting_since"], one["unread"]) == (made.json["author"], None, 0)
    assert [note["kind"] for note in one["notes"]] == ["taken"]


async def test_deliveries_reach_the_message_and_a_failed_one_is_sent_again(api: Api, chat: str) -> None:
    made = await api.ask("POST", f"{chat}/messages", {"text": "hi", "client_id": "a-1"})
    await api.world.deliver(
        JUNE, "telegram", Outcome(state="failed", status="failed", error="bot was blocked by the user")
    )
    failed = (await api.ask("GET", f"{chat}/messages")).json["items"][1]
    assert (failed["status"], failed["error"]) == ("failed", "bot was blocked by the user")
    again = await api.ask("POST", f"/messages/{made.json['id']}/retry")
    assert (again.status, again.json["status"]) == (200, "queued")
    await api.world.deliver(JUNE, "telegram", Outcome(state="done", status="done", external_id="55"))
    sent = (await api.ask("GET", f"{chat}/messages")).json["items"][1]
    assert (sent["status"], sent["error"], sent["provider_id"]) == ("sent", None, "55")
    refused = await api.ask("POST", f"/messages/{made.json['id']}/retry")
    assert paths(refused) == {"status"}
    assert (await api.ask("POST", f"/messages/{uuid4()}/retry")).status == 404


async def test_taking_releasing_assigning_closing_and_notes(api: Api, chat: str) -> None:
    epoch = (await api.ask("GET", chat)).json["epoch"]
    taken = await api.ask("POST", f"{chat}/take", {"expected_epoch": epoch})
    assert taken.json == {"owner": taken.json["owner"], "epoch": epoch + 1, "state": "open"}
    late = await api.ask("POST", f"{chat}/take", {"expected_epoch": epoch}, x_api_key=await api.new_key("chat"))
    assert (late.status, late.json["epoch"], late.json["owner"]) == (409, epoch + 1, taken.json["owner"])
    person = (await api.world.db.engine(members.list_members, JUNE))[0]
    assigned = await api.ask("POST", f"{chat}/assign", {"user": str(person.user_id)})
    assert (assigned.json["owner"], assigned.json["epoch"]) == (f"human:{person.user_id}", epoch + 2)
    assert paths(await api.ask("POST", f"{chat}/assign", {"user": str(uuid4())})) == {"user"}
    assert (await api.ask("POST", f"{chat}/note", {"text": "calls back at 5"})).status == 200
    assert paths(await api.ask("POST", f"{chat}/note", {"text": " "})) == {"text"}
    released = await api.ask("POST", f"{chat}/release", {"to": "queue"})
    assert released.json["owner"] == "queue"
    assert (await api.ask("GET", chat)).json["queue"] == "default"
    assert paths(await api.ask("POST", f"{chat}/release", {"to": "nobody"})) == {"to"}
    closed = await api.ask("POST", f"{chat}/close")
    assert closed.json["state"] == "closed"
    notes = (await api.ask("GET", chat)).json["notes"]
    assert [(note["kind"], note["text"]) for note in notes if note["kind"] == "note"] == [("note", "calls back at 5")]


async def test_bad_messages_name_the_field(api: Api, chat: str) -> None:
    for body, field in (
        ({"text": "hi"}, "client_id"), ({"client_id": "a"}, "text"), ({"text": "x" * 50_000, "client_id": "a"}, "text"),
        ({"attachments": [str(uuid4())], "client_id": "a"}, "attachments"), ({"text": "a", "client_id": "a", "to": "x"}, "to"),
    ):  # fmt: skip
        assert field in paths(await api.ask("POST", f"{chat}/messages", body)), body
    for given, field in (
        ({"channel": "telegram", "to": "42", "text": "hi"}, "to"), ({"channel": "viber", "to": "42", "text": "hi"}, "channel"),
        ({"channel": "no such", "to": "42", "text": "hi"}, "channel"), ({"channel": "telegram", "to": "x y", "text": "hi"}, "to"),
        ({"channel": "telegram", "to": str(uuid4()), "text": "hi"}, "to"), ({"channel": "telegram", "to": "7"}, "text"),
    ):  # fmt: skip
        assert field in paths(await api.ask("POST", "/messages", given)), given
    known = await api.ask("POST", "/messages", {"channel": "telegram", "to": "7", "text": "your order is ready"})
    assert (known.status, f"/conversations/{known.json['conversation']}") == (201, chat)


async def test_scopes_roles_and_companies(api: Api, chat: str) -> None:
    for scope, status in (("read", 200), ("chat", 200), ("call", 403), ("bot", 403)):
        assert (await api.ask("GET", chat, x_api_key=await api.new_key(scope))).status == status, scope
    for scope, status in (("read", 403), ("write", 403), ("chat", 200)):
        assert (await api.ask("POST", f"{chat}/take", x_api_key=await api.new_key(scope))).status == status, scope
    theirs = await api.new_key("read", "chat", of=MAPLE)
    for method, path, body in (
        ("GET", chat, None), ("GET", f"{chat}/messages", None), ("POST", f"{chat}/take", None),
        ("POST", f"{chat}/messages", {"text": "hi", "client_id": "a"}), ("POST", f"{chat}/note", {"text": "hi"}),
    ):  # fmt: skip
        assert (await api.ask(method, path, body, x_api_key=theirs)).status == 404, path
    assert (await api.ask("GET", "/conversations", x_api_key=theirs)).json["items"] == []


async def test_an_agent_sees_what_waits_and_their_own_and_an_auditor_no_texts(api: Api, chat: str) -> None:
    agent = await api.world.person(JUNE, "agent@0367.example", Role.AGENT)
    cookie = f"session={agent}"
    assert (await api.ask("GET", chat, cookie=cookie)).json["last_text"] == "good morning"
    await api.ask("POST", f"{chat}/take")
    assert (await api.ask("GET", chat, cookie=cookie)).status == 404
    assert (await api.ask("GET", "/conversations", cookie=cookie)).json["items"] == []
    auditor = f"session={await api.world.person(JUNE, 'auditor@0367.example', Role.AUDITOR)}"
    one = (await api.ask("GET", chat, cookie=auditor)).json
    assert one["last_text"] == "***"
    messages = (await api.ask("GET", f"{chat}/messages", cookie=auditor)).json["items"]
    assert [message["text"] for message in messages] == ["***"]
    assert (await api.ask("GET", "/conversations", query={"q": "evening"}, cookie=auditor)).json["items"] != [], (
        "no oracle of texts"
    )


async def test_typing_and_reading_are_shown_to_the_client(api: Api, chat: str) -> None:
    conversing, ident = api.deps.conversing, UUID(chat.rpartition("/")[2])
    assert conversing is not None
    assert conversing.typing is not None
    key = await api.new_key("chat")
    assert (await api.ask("POST", f"{chat}/typing", x_api_key=key)).status == 204
    assert conversing.typing.until(JUNE, ident, client=False) is not None
    assert conversing.typing.until(JUNE, ident, client=True) is None
    assert (await api.ask("POST", f"{chat}/typing", x_api_key=await api.new_key("read"))).status == 403
    assert (await api.ask("POST", f"/conversations/{uuid4()}/typing", x_api_key=key)).status == 404
    assert (await api.ask("POST", f"{chat}/read", {}, x_api_key=key)).status == 200
    assert (await api.ask("POST", f"{chat}/read", {}, x_api_key=key)).status == 200
    assert api.world.looked == [ident], "what was read already is not read again"
    await receives(api.world, wrote(2, "still there?"))
    assert (await api.ask("POST", f"{chat}/messages", {"text": "yes", "client_id": "a-1"}, x_api_key=key)).status == 201
    assert api.world.looked == [ident, ident], "whoever answers has read it"
    assert conversing.typing.until(JUNE, ident, client=False) is None, "what was being written is sent"
    assert (await every(api, "/conversations"))[0]["owner"].startswith("human:key:"), (
        "typing takes nothing, an answer does"
    )


async def test_an_answer_names_a_message_of_its_own_conversation(api: Api, chat: str) -> None:
    await receives(api.world, wrote(5, "of somebody else", "8"))
    other = f"/conversations/{await conversation_with(api.world, '8')}"
    (first,), (foreign,) = await every(api, f"{chat}/messages"), await every(api, f"{other}/messages")
    for answered in (foreign["id"], str(uuid4())):
        refused = await api.ask("POST", f"{chat}/messages", {"text": "hi", "client_id": "a-1", "reply_to": answered})
        assert (refused.status, paths(refused)) == (422, {"reply_to"})
    made = await api.ask("POST", f"{chat}/messages", {"text": "hi", "client_id": "a-1", "reply_to": first["id"]})
    assert (made.status, made.json["reply_to"]) == (201, first["id"])
    (claim,) = await api.world.db.engine(claim_deliveries, JUNE, TELEGRAM, 1, 30.0)
    assert json.loads(claim.body)["reply_to"] == first["provider_id"]


async def test_contacts_are_entered_found_changed_and_merged(api: Api, chat: str) -> None:
    made = await api.ask(
        "POST", "/contacts", {"name": "Анна К", "phones": ["8 029 625-40-70"], "emails": ["Anna@June.example"]}
    )
    assert (made.status, made.json["phones"], made.json["emails"]) == (201, [PHONE], ["anna@june.example"])
    assert made.json["confirmed_phones"] == []
    path = f"/contacts/{made.json['id']}"
    for q in ("анна", "25296254", "june.example", PHONE):
        if q != "25296254":
            assert made.json["id"] in {
                one["id"] for one in (await api.ask("GET", "/contacts", query={"q": q})).json["items"]
            }, q
    changed = await api.ask("PATCH", path, {"name": "Анна Кузьмина"})
    assert (changed.json["name"], changed.json["phones"]) == ("Анна Кузьмина", [PHONE])
    person = (await api.ask("GET", chat)).json["contact"]
    merged = await api.ask("POST", path + "/merge", {"other": person})
    assert (merged.status, merged.json["merged"], len(merged.json["conversations"])) == (200, 1, 1)
    assert (await api.ask("GET", f"/contacts/{person}")).json["id"] == made.json["id"]
    assert paths(await api.ask("POST", path + "/merge", {"other": person})) == {"other"}
    assert paths(await api.ask("POST", path + "/merge", {"other": str(uuid4())})) == {"other"}
    undone = await api.ask("POST", path + "/unmerge")
    assert undone.json["conversations"] == []
    assert (await api.ask("GET", f"/contacts/{person}")).json["id"] == person
    assert (await api.ask("POST", path + "/unmerge")).status == 404
    for body, field in (
        ({}, "name"), ({"name": "a\nb"}, "name"), ({"phones": ["tel"]}, "phones[0]"), ({"emails": ["a@b"]}, "emails[0]"), ({"nam": "x"}, "nam"),
    ):  # fmt: skip
        assert field in paths(await api.ask("POST", "/contacts", body)), body
    other = await api.new_key("chat", "read", of=MAPLE)
    assert (await api.ask("GET", path, x_api_key=other)).status == 404
    assert (await api.ask("PATCH", path, {"name": "x"}, x_api_key=other)).status == 404
    assert (await api.ask("POST", path + "/merge", {"other": person}, x_api_key=other)).status == 404
    assert UUID(person)


async def test_a_person_s_data_are_handed_out_and_erased(api: Api, chat: str) -> None:
    api = api.changed(chat_files=api.world.deps.chat_files)
    contact = (await api.ask("GET", chat)).json["contact"]
    await api.ask("POST", f"{chat}/note", {"text": "calls back"})
    writes = await api.new_key("write")
    given = await api.ask("GET", f"/contacts/{contact}/export", x_api_key=writes)
    assert (given.status, given.json["name"]) == (200, "Anna")
    (conversation,) = given.json["conversations"]
    assert (conversation["channel"], conversation["address"], conversation["language"]) == ("telegram", "7", "ru")
    assert [(one["text"], one["files"]) for one in conversation["messages"]] == [("good morning", [])]
    assert "calls back" in [one["text"] for one in conversation["events"]]
    for scope in ("read", "chat", "bot"):
        key = await api.new_key(scope)
        assert (await api.ask("GET", f"/contacts/{contact}/export", x_api_key=key)).status == 403
        assert (await api.ask("DELETE", f"/contacts/{contact}", x_api_key=key)).status == 403
    olga = f"session={await api.world.person(JUNE, 'olga@june.example', Role.AUDITOR)}"
    assert (await api.ask("GET", f"/contacts/{contact}/export", cookie=olga)).status == 403
    foreign = await api.new_key("write", of=MAPLE)
    assert (await api.ask("GET", f"/contacts/{contact}/export", x_api_key=foreign)).status == 404
    assert (await api.ask("DELETE", f"/contacts/{contact}", x_api_key=foreign)).status == 404
    assert (await api.ask("GET", chat)).status == 200
    assert (await api.ask("DELETE", f"/contacts/{contact}", x_api_key=writes)).status == 204
    assert (await api.ask("GET", chat)).status == 404
    for method, path in (("DELETE", ""), ("GET", "/export"), ("DELETE", "x"), ("GET", "x/export")):
        assert (await api.ask(method, f"/contacts/{contact}{path}", x_api_key=writes)).status == 404
    noted = await api.world.db.tenant(JUNE, select_audit, JUNE, None, 10)
    found = [(one.action, one.kind) for one in noted if one.action.startswith("contact.")]
    assert found == [("contact.erased", "key"), ("contact.exported", "key")]
