"""The inbox: quoting a message, and what each side sees of the other: that somebody writes, and that messages were read."""

import re
from uuid import UUID

import pytest

from gateway.domain.ids import IntegrationKey
from gateway.domain.people import Role
from gateway.store import conversations
from tests.web.chats import connect, conversation_with, receives
from tests.web.conftest import SignIn, submitted
from tests.web.pages.test_inbox import HOME, as_person, chat, hidden, reply_form, said, text_of, wrote
from tests.web.world import CSRF, JUNE, World

__all__ = ["chat"]


async def test_an_answer_quotes_a_message_of_the_conversation(world: World, chat: str, sign_in: SignIn) -> None:
    client = await sign_in()
    page = await text_of(client, chat)
    (message,) = await said(world, chat)
    assert 'id="quoting" hidden' in page
    (link,) = re.findall(r'href="([^"]*answer=[^"]*)"', page)
    assert link == f"{chat}?answer={message.id}#reply"
    page = await text_of(client, link.partition("#")[0])
    assert 'id="quoting" hidden' not in page
    assert "<q>good morning</q>" in page
    form = {**reply_form(page, ""), "reply_to": hidden(page, "reply_to")}
    page = await submitted(client, f"{chat}/messages", form)
    assert "write a text or attach a file" in page
    assert hidden(page, "reply_to") == str(message.id), "what could not be sent still quotes"
    page = await submitted(client, f"{chat}/messages", {**form, "text": "a very good one"})
    assert "<blockquote>good morning</blockquote>" in page
    assert (await said(world, chat))[1].reply_to == message.id
    await receives(world, wrote("of somebody else", "8", 2))
    other = f"{HOME}/{await conversation_with(world, '8')}"
    (foreign,) = await said(world, other)
    for text in (str(foreign.id), "nonsense", ""):
        assert 'id="quoting" hidden' in await text_of(client, f"{chat}?answer={text}")
    form = {**reply_form(await text_of(client, chat), "quoted"), "reply_to": str(foreign.id)}
    page = await submitted(client, f"{chat}/messages", form)
    assert "there is no such message in this conversation" in page
    assert "of somebody else" not in page.partition('id="thread"')[2]
    assert len(await said(world, chat)) == 2


async def test_both_sides_see_that_the_other_writes(world: World, chat: str, sign_in: SignIn) -> None:
    client, ident = await sign_in(), UUID(chat.rpartition("/")[2])
    assert world.deps.conversing is not None
    typing = world.deps.conversing.typing
    assert typing is not None
    page = await text_of(client, chat)
    assert "the client is writing" not in page
    answer = await client.post(f"{chat}/typing", form={"csrf": CSRF})
    assert answer.status_code == 303
    assert typing.until(JUNE, ident, client=False) is not None
    assert "the client is writing" not in await text_of(client, f"{chat}/thread")
    typing.wrote(JUNE, ident, "client")
    assert "the client is writing" in await text_of(client, f"{chat}/thread")
    audit = await as_person(world, "audit@june.example", Role.AUDITOR)
    assert (await audit.post(f"{chat}/typing", form={"csrf": CSRF})).status_code == 403


async def test_who_opens_a_conversation_has_read_it(world: World, chat: str, sign_in: SignIn) -> None:
    client, ident = await sign_in(), UUID(chat.rpartition("/")[2])
    await text_of(client, chat)
    assert world.looked == [], "a page that was only fetched has been read by nobody"
    await submitted(client, f"{chat}/read", {"csrf": CSRF})
    await submitted(client, f"{chat}/read", {"csrf": CSRF})
    assert world.looked == [ident]


@pytest.mark.parametrize(("language", "title"), [("en", "Web widget"), ("ru", "Чат на сайте")])
async def test_a_channel_with_a_title_in_each_language_is_shown(world: World, language: str, title: str) -> None:
    await connect(world)
    await receives(world, wrote("from the shop's page", "9", 9), key=IntegrationKey("web_widget"))
    client = await as_person(world, "vera@june.example", Role.ADMIN, language)
    ident = await conversation_with(world, "9")
    seen = await world.db.tenant(JUNE, conversations.select_conversation, JUNE, ident)
    assert seen is not None
    for path in (HOME, f"{HOME}/list", f"{HOME}/{ident}", f"{HOME}/{ident}/person", f"/t/{JUNE}/customers/{seen.root}"):
        assert title in await text_of(client, path), path
