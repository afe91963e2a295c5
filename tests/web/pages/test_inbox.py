"""The inbox: who sees which conversation, answering once, being slower than a colleague, notes, states, filters, and the stream."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import trio

from gateway.domain.events import Result
from gateway.domain.people import Role
from gateway.domain.subjects import Subject
from gateway.store import conversations, messages
from gateway.store.files.blobs import FolderBlobs
from gateway.store.files.recording_files import RecordingFiles
from gateway.store.outbox import Outcome
from tests.sound import wav
from tests.web.chats import TELEGRAM, author, connect, conversation_with, receives
from tests.web.conftest import SignIn, submitted
from tests.web.pages.test_live import streaming
from tests.web.world import CSRF, JUNE, MAPLE, World, answered, ended, play, ringing

HOME = f"/t/{JUNE}/inbox"
ADMIN = f"admin@{JUNE}.example"


def wrote(text: str, address: str = "7", number: int = 1, at: float = 0.0, **more: Any) -> dict[str, Any]:
    return {"event": "ClientWrote", "provider_id": str(number), "text": text, "address": address, "at": at, **more}


@pytest.fixture
async def chat(world: World) -> str:
    """The address of a conversation in which a client has written."""
    await connect(world)
    await receives(world, wrote("good morning", person={"name": "Anna"}))
    return f"{HOME}/{await conversation_with(world, '7')}"


async def text_of(client: Any, path: str, status: int = 200) -> str:
    answer = await client.get(path)
    assert answer.status_code == status, path
    return str(await answer.get_data(as_text=True))


async def as_person(world: World, email: str, role: Role, language: str = "en") -> Any:
    client = world.app.test_client()
    client.set_cookie("localhost", "session", await world.person(JUNE, email, role))
    client.set_cookie("localhost", "language", language)
    return client


def hidden(page: str, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]*)"', page)
    assert found is not None, name
    return found[1]


async def said(world: World, chat: str) -> list[messages.StoredMessage]:
    ident = UUID(chat.rpartition("/")[2])
    return await world.db.tenant(JUNE, messages.select_messages, JUNE, ident, 100)


async def owner(world: World, chat: str) -> str:
    seen = await world.db.tenant(JUNE, conversations.select_conversation, JUNE, UUID(chat.rpartition("/")[2]))
    assert seen is not None
    return seen.conversation.owner


def reply_form(page: str, text: str) -> dict[str, str]:
    """The reply form as the browser would send it."""
    part = page.partition('id="reply-form"')[2]
    return {"csrf": CSRF, "form_id": hidden(part, "form_id"), "epoch": hidden(part, "epoch"), "text": text}


async def test_a_conversation_is_listed_opened_and_answered_once(world: World, chat: str, sign_in: SignIn) -> None:
    client = await sign_in()
    page = await text_of(client, HOME)
    assert "Anna" in page
    assert "good morning" in page
    assert "nobody&#39;s yet" in page
    form = reply_form(await text_of(client, chat), "how can I help?")
    page = await submitted(client, f"{chat}/messages", form)
    assert "how can I help?" in page
    assert "on its way" in page
    assert await owner(world, chat) == await author(world, ADMIN), "whoever answers has it"
    assert world.woken == [(JUNE, TELEGRAM)]
    await submitted(client, f"{chat}/messages", form)
    assert [one.text for one in await said(world, chat)] == ["good morning", "how can I help?"], (
        "a second click sends nothing"
    )
    form["text"] = "and another thing"
    form["epoch"] = reply_form(await text_of(client, chat), "")["epoch"]
    await submitted(client, f"{chat}/messages", form)
    assert len(await said(world, chat)) == 3, "another text from a page that was gone back to is another message"
    await world.deliver(JUNE, "telegram", Outcome(state="done", status="done", external_id="11"))
    assert "✓ sent" in await text_of(client, chat)


async def test_whoever_is_slower_learns_it_and_keeps_the_text(world: World, chat: str, sign_in: SignIn) -> None:
    first, second = await sign_in(), await as_person(world, "vera@june.example", Role.ADMIN)
    early, late = await text_of(first, chat), await text_of(second, chat)
    await submitted(first, f"{chat}/messages", reply_form(early, "from the first"))
    page = await submitted(second, f"{chat}/messages", reply_form(late, "from the second"))
    assert "Somebody was quicker" in page
    assert ADMIN in page
    assert "from the second</textarea>" in page
    assert [one.text for one in await said(world, chat)] == ["good morning", "from the first"]
    page = await submitted(second, f"{chat}/messages", reply_form(page, "from the second"))
    assert [one.text for one in await said(world, chat)][-1] == "from the second", "it can be sent all the same"


async def test_an_agent_sees_what_waits_and_their_own_alone(world: World, chat: str, sign_in: SignIn) -> None:
    admin = await sign_in()
    ivan = await as_person(world, "ivan@june.example", Role.AGENT)
    vera = await as_person(world, "vera@june.example", Role.AGENT)
    assert "Anna" in await text_of(vera, HOME)
    late = await text_of(vera, chat)
    page = await submitted(ivan, f"{chat}/take", {"csrf": CSRF, "epoch": hidden(late, "epoch")})
    assert "yours" in page
    assert "Anna" not in await text_of(vera, HOME)
    assert "Anna" not in await text_of(vera, f"{HOME}/list?state=any&q=good")
    for path in (chat, f"{chat}/thread", f"{chat}/person"):
        await text_of(vera, path, 404)
    for path in ("messages", "take", "note", "close", "release", "assign", "read"):
        answer = await vera.post(f"{chat}/{path}", form={**reply_form(late, "let me"), "to": ""})
        assert answer.status_code == 404, path
    assert len(await said(world, chat)) == 1
    assert "Anna" in await text_of(admin, HOME)
    page = await submitted(ivan, f"{chat}/release", {"csrf": CSRF, "epoch": hidden(await text_of(ivan, chat), "epoch")})
    assert "back in the queue" in page
    assert "Anna" in await text_of(vera, HOME)


async def test_giving_it_away_leads_an_agent_back_to_the_list(world: World, chat: str, sign_in: SignIn) -> None:
    ivan = await as_person(world, "ivan@june.example", Role.AGENT)
    page = await text_of(ivan, chat)
    to = (await author(world, ADMIN)).removeprefix("human:")
    page = await submitted(ivan, f"{chat}/assign", {"csrf": CSRF, "epoch": hidden(page, "epoch"), "to": to})
    assert "Assigned to" in page
    assert "Anna" not in page
    assert await owner(world, chat) == await author(world, ADMIN)
    page = await text_of(await sign_in(), chat)
    assert "Assigned it" in page


async def test_nobody_who_may_not_answer_is_assigned(world: World, chat: str, sign_in: SignIn) -> None:
    await as_person(world, "olga@june.example", Role.AUDITOR)
    client = await sign_in()
    page = await text_of(client, chat)
    assert "olga@june.example" not in page
    to = (await author(world, "olga@june.example")).removeprefix("human:")
    page = await submitted(client, f"{chat}/assign", {"csrf": CSRF, "epoch": hidden(page, "epoch"), "to": to})
    assert "Choose a colleague" in page
    assert await owner(world, chat) == "none"


async def test_an_auditor_reads_no_text_and_does_nothing(world: World, chat: str, sign_in: SignIn) -> None:
    await submitted(await sign_in(), f"{chat}/note", {"csrf": CSRF, "text": "a secret note"})
    olga = await as_person(world, "olga@june.example", Role.AUDITOR)
    for path in (HOME, chat, f"{chat}/thread", f"{HOME}/list", f"{HOME}/list?q=morning"):
        page = await text_of(olga, path)
        assert "good morning" not in page
        assert "secret" not in page
        assert 'method="post"' not in page.partition("<main")[2]
    assert "Anna" in await text_of(olga, f"{HOME}/list")
    assert "Anna" not in await text_of(olga, f"{HOME}/list?q=morning"), "a search would tell what a text holds"
    assert "Anna" in await text_of(olga, f"{HOME}/list?q=ann")
    for path in ("messages", "take", "note", "close"):
        answer = await olga.post(f"{chat}/{path}", form={"csrf": CSRF, "text": "x"})
        assert answer.status_code == 403, path


async def test_another_companys_conversation_is_not_there(world: World, chat: str, sign_in: SignIn) -> None:
    foreign = chat.replace(f"/t/{JUNE}/", f"/t/{MAPLE}/")
    client = await sign_in(MAPLE)
    for path in (foreign, f"{foreign}/thread", f"{foreign}/person"):
        await text_of(client, path, 404)
    for path in ("messages", "take", "note"):
        assert (await client.post(f"{foreign}/{path}", form={"csrf": CSRF, "text": "x"})).status_code == 404
    assert "good morning" not in await text_of(client, f"/t/{MAPLE}/inbox?state=any")


async def test_notes_edits_and_deletions_stand_where_they_belong(world: World, chat: str, sign_in: SignIn) -> None:
    client = await sign_in()
    await submitted(client, f"{chat}/note", {"csrf": CSRF, "text": "calls back at 5"})
    await receives(
        world, {"event": "MessageEdited", "provider_id": "1", "text": "good evening", "address": "7"}, ago_s=30.0
    )
    page = await text_of(client, chat)
    assert "calls back at 5" in page
    thread = page.partition('class="thread"')[2]
    assert thread.index("good evening") < thread.index("good morning"), "as it reads now, then what it was"
    await receives(world, {"event": "MessageDeleted", "provider_id": "1", "address": "7"}, ago_s=20.0)
    page = await text_of(client, chat)
    assert "Taken back" in page
    assert "good evening" in page, "it stays to be seen"
    for bad, why in (("", "write the note"), ("x" * 5001, "at most 5000 characters")):
        page = await submitted(client, f"{chat}/note", {"csrf": CSRF, "text": bad})
        assert why in page
        assert bad in page


async def test_closing_and_writing_again(world: World, chat: str, sign_in: SignIn) -> None:
    client = await sign_in()
    page = await submitted(
        client, f"{chat}/close", {"csrf": CSRF, "epoch": hidden(await text_of(client, chat), "epoch")}
    )
    assert "Closed." in page
    assert "Anna" not in await text_of(client, f"{HOME}/list")
    assert "Anna" in await text_of(client, f"{HOME}/list?state=closed")
    await receives(world, wrote("one more thing", number=2), ago_s=10.0)
    assert "Anna" in await text_of(client, f"{HOME}/list?part=unanswered")


async def test_a_message_that_failed_is_sent_again(world: World, chat: str, sign_in: SignIn) -> None:
    client = await sign_in()
    await submitted(client, f"{chat}/messages", reply_form(await text_of(client, chat), "hello"))
    await world.deliver(JUNE, "telegram", Outcome(state="failed", status="failed", error="403 Forbidden"))
    page = await text_of(client, chat)
    assert "not sent" in page
    message = (await said(world, chat))[-1].id
    page = await submitted(client, f"{chat}/messages/{message}/retry", {"csrf": CSRF})
    assert "on its way again" in page
    assert (await said(world, chat))[-1].status == "queued"
    page = await submitted(client, f"{chat}/messages/{message}/retry", {"csrf": CSRF})
    assert "needs no second try" in page
    first = (await said(world, chat))[0].id
    await receives(world, wrote("hi", address="8", number=5))
    other = f"{HOME}/{await conversation_with(world, '8')}"
    assert (await client.post(f"{other}/messages/{first}/retry", form={"csrf": CSRF})).status_code == 404


async def test_what_cannot_be_sent_says_why_and_is_not_lost(world: World, chat: str, sign_in: SignIn) -> None:
    client = await sign_in()
    page = await submitted(client, f"{chat}/messages", reply_form(await text_of(client, chat), "  "), language="ru")
    assert "reply-problem" in page
    await connect(world, enabled=False)
    page = await text_of(client, chat)
    assert "выключен" in page
    assert "reply-form" not in page
    client.set_cookie("localhost", "language", "en")
    assert "switched off" in await text_of(client, chat)


async def test_filters_narrow_and_the_counts_stay(world: World, chat: str, sign_in: SignIn) -> None:
    client = await sign_in()
    await receives(world, wrote("hi", address="8", number=5, person={"name": "Boris"}))
    await submitted(client, f"{chat}/take", {"csrf": CSRF, "epoch": "0"})
    for query, found in (
        ("", "Anna Boris"), ("part=mine", "Anna"), ("part=queue", "Boris"), ("part=unanswered", "Anna Boris"),
        ("channel=telegram", "Anna Boris"), ("channel=viber", ""), ("q=bor", "Boris"), ("q=MORNING", "Anna"), ("unread=1", "Anna Boris"),
        ("state=closed", ""), ("part=nonsense&state=x&after=zz", "Anna Boris"), ("q=%00", "Anna Boris"),
    ):  # fmt: skip
        page = await text_of(client, f"{HOME}/list?{query}")
        assert [name for name in ("Anna", "Boris") if name in page] == found.split(), query
        counts = re.findall(r'class="count">(\d+)<', page)
        assert counts == ["2", "1", "1", "2"], query


async def test_a_long_list_and_a_long_history_come_in_pages(
    world: World, chat: str, sign_in: SignIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.web.pages.inbox_view.PAGE", 2)
    monkeypatch.setattr("gateway.web.pages.inbox_view.THREAD", 3)
    client = await sign_in()
    await receives(world, *(wrote(f"text {n}", address=str(n), number=n, at=float(n)) for n in range(10, 15)))
    found, path = [], f"{HOME}?"
    while path:
        page = await text_of(client, path)
        found += re.findall(r"text \d\d|good morning", page.partition('class="chats"')[2])
        onward = re.search(r'href="([^"]*after=[^"]*)"', page)
        path = onward[1] if onward else ""
    assert found == ["text 14", "text 13", "text 12", "text 11", "text 10", "good morning"]
    await receives(world, *(wrote(f"line {n}", number=n, at=float(n)) for n in range(20, 27)), ago_s=40.0)
    found, path = [], chat
    while path:
        page = await text_of(client, path)
        found = (
            re.findall(r'"text">(line \d\d|good morning)<', page.partition('class="thread"')[2].partition("</ol>")[0])
            + found
        )
        onward = re.search(r'id="earlier" href="([^"]*)"', page)
        path = onward[1].replace("&amp;", "&") if onward else ""
    assert found == ["good morning", *(f"line {n}" for n in range(20, 27))]


async def test_looking_does_not_mark_as_read_and_the_button_does(world: World, chat: str, sign_in: SignIn) -> None:
    client = await sign_in()
    assert 'data-unread="1"' in await text_of(client, chat)
    page = await submitted(client, f"{chat}/read", {"csrf": CSRF})
    assert 'data-unread="0"' in page


async def test_nothing_that_a_client_writes_is_markup(world: World, chat: str, sign_in: SignIn) -> None:
    await receives(
        world,
        wrote("<script>alert(1)</script> javascript:alert(1) https://june.example/\"onload=x", number=2, person={"name": "<b>Anna"}),
        ago_s=10.0,
    )  # fmt: skip
    page = await text_of(await sign_in(), chat)
    assert "<script>alert" not in page
    assert "<b>Anna" not in page
    assert 'href="javascript' not in page
    link = page.partition('href="https://june.example/')[2].partition(">")[0]
    assert "noopener" in link
    assert "onload" not in link.partition('"')[2]


async def test_the_stream_says_that_something_changed_and_no_more(world: World, chat: str) -> None:
    ident = chat.rpartition("/")[2]
    async with streaming(world, path=f"{HOME}/live", query=f"open={ident}") as stream:
        assert "retry" in await stream.next()
        assert [(await stream.next())["event"] for _ in range(2)] == ["shown", "list"], (
            "at first all of it is read anew"
        )
        world.feed.publish(MAPLE, Subject("chat", ident))
        world.feed.publish(JUNE, Subject("call", "1"))
        world.feed.publish(JUNE, Subject("chat", "another"))
        assert await stream.next() == {"event": "list", "id": "", "data": "changed"}
        world.feed.publish(JUNE, Subject("chat", ident))
        assert await stream.next() == {"event": "shown", "id": "", "data": "changed"}


async def test_the_person_pane_shows_calls_and_other_conversations(world: World, chat: str, sign_in: SignIn) -> None:
    calls = await play(world)
    await receives(world, {"event": "PhoneShared", "phone": calls[5].outside, "address": "7"}, ago_s=20.0)
    page = await text_of(await sign_in(), f"{chat}/person")
    assert f"/calls/{calls[5].call_id}" in page
    assert f"/calls/{calls[6].call_id}" not in page
    assert "confirmed" in page
    assert f"/t/{JUNE}/dialling" in page
    agent = world.app.test_client()
    agent.set_cookie("localhost", "session", await world.person(JUNE, "ivan@june.example", Role.AGENT, ["153"]))
    assert f"/calls/{calls[5].call_id}" not in await text_of(agent, f"{chat}/person"), "an agent's own calls alone"


async def test_an_agent_hears_the_calls_they_took_part_in_alone(world: World, chat: str, tmp_path: Path) -> None:
    recording_files = RecordingFiles(
        world.db, FolderBlobs(tmp_path / "recordings", trio.CapacityLimiter(4)), tmp_path / "in", world.cache.sealer
    )
    recording_files.clean_spool()
    phone = "+375291110000"
    sound = ringing(world.call_id(), datetime.now(UTC) - timedelta(minutes=1), phone, "100", ["150", "153"])
    await world.keep(JUNE, [sound, answered(sound, "150"), ended(sound, 10, Result.ANSWERED, "150")])
    async with await recording_files.new_file() as incoming:
        await incoming.write(wav(2.0))
        await recording_files.keep(JUNE, await incoming.finish("a.wav"), sound.call_id, [], "a.wav")
    await receives(world, {"event": "PhoneShared", "phone": phone, "address": "7"}, ago_s=20.0)
    for email, extension, hears in (("anna@june.example", "150", True), ("ivan@june.example", "153", False)):
        agent = world.app.test_client()
        agent.set_cookie("localhost", "session", await world.person(JUNE, email, Role.AGENT, [extension]))
        page = await text_of(agent, f"{chat}/person")
        assert f"/calls/{sound.call_id}" in page, "it rang at both"
        assert ("<audio" in page) is hears, email


async def test_a_saved_reply_fills_the_box(world: World, chat: str, sign_in: SignIn) -> None:
    client = await sign_in()
    form = {"csrf": CSRF, "shortcut": "/hours", "text": "09:00 to 18:00"}
    assert "/hours is saved" in await submitted(client, f"{HOME}/replies", form)
    page = await text_of(client, chat)
    assert 'data-shortcut="hours"' in page
    link = re.search(r'href="([^"]*reply=[^"]*)"', page)
    assert link is not None
    page = await text_of(client, link[1].partition("#")[0].replace("&amp;", "&"))
    assert "09:00 to 18:00</textarea>" in page
    for wrong, why in (
        ({"shortcut": "hours"}, "Another saved reply"), ({"shortcut": "HOURS"}, "Another saved reply"), ({"shortcut": "two words"}, "One word"),
        ({"shortcut": ""}, "One word"), ({"shortcut": "x" * 41}, "One word"), ({"shortcut": "a", "text": " "}, "1 to 40000"),
    ):  # fmt: skip
        page = await submitted(client, f"{HOME}/replies", {"csrf": CSRF, "text": "kept text", **wrong})
        assert why in page, wrong
        if wrong.get("text") is None:
            assert "kept text" in page
    agent = await as_person(world, "ivan@june.example", Role.AGENT)
    assert "/hours" in await text_of(agent, f"{HOME}/replies")
    assert (await agent.post(f"{HOME}/replies", form={**form, "shortcut": "b"})).status_code == 403
