"""What the AI did, in the inbox and the API: where an answer comes from, what it left for people, and giving a conversation back."""

from uuid import UUID, uuid4

import pytest

from gateway.domain.chats import AI
from gateway.domain.people import Role
from gateway.store.ai_answers import BegunAnswer, CallRow, EndedAnswer, end_answer, insert_answer, insert_tool_call
from gateway.store.conversations import insert_happening
from gateway.store.postgres.pool import Connection
from gateway.store.tenants import set_options
from tests.web.chats import connect, conversation_with, receives
from tests.web.conftest import SignIn, submitted
from tests.web.pages.test_inbox import HOME, as_person, hidden, owner, text_of, wrote
from tests.web.world import CSRF, JUNE, World

SUMMARY = "Wants <b>two</b> pizzas"


@pytest.fixture
async def chat(world: World) -> str:
    """The address of a conversation that the AI has answered and handed over."""
    await world.db.engine(set_options, JUNE, {"ai": {"enabled": True}})
    await connect(world)
    await receives(world, wrote("good morning", person={"name": "Anna"}))
    ident = await conversation_with(world, "7")
    company, conversing = world.cache.tenant(JUNE), world.deps.conversing
    assert company is not None
    assert conversing is not None
    sent = await conversing.send(company, ident, author=AI, text="Hello, Anna")
    await world.db.tenant(JUNE, _answered, ident, sent.message.id)
    return f"{HOME}/{ident}"


async def _answered(conn: Connection, conversation: UUID, message: UUID) -> None:
    answer = uuid4()
    begun = BegunAnswer(
        id=answer, conversation=conversation, epoch=0, seq=1, prompt_id="main", prompt_name="Main <i>", prompt_version=3, model="gpt-test"
    )  # fmt: skip
    await insert_answer(conn, JUNE, begun)
    call = CallRow(
        id=uuid4(), answer=answer, conversation=conversation, seq=1, round=1, place=0, name="search_catalog", arguments="{}", outcome="{}"
    )  # fmt: skip
    await insert_tool_call(conn, JUNE, call)
    ended = EndedAnswer(state="sent", prompt_tokens=100, completion_tokens=20, removed=("https://evil.example",))
    assert await end_answer(conn, JUNE, answer, ended, message)
    assert not await end_answer(conn, JUNE, answer, ended, message), "once"
    for kind, text in (
        ("handed_over", SUMMARY),
        ("request", "Call back"),
        ("missed_chat", ""),
        ("person_requested", ""),
    ):
        await insert_happening(conn, JUNE, conversation, kind, AI, text)


@pytest.mark.parametrize("language", ["en", "ru"])
async def test_an_answer_shows_where_it_comes_from(world: World, chat: str, language: str) -> None:
    client = await as_person(world, "anna@june.example", Role.ADMIN, language)
    page = await text_of(client, chat)
    expected = {
        "en": ("Prompt Main &lt;i&gt;, version 3", "120 tokens", "cut: 1", "The AI asks for a person", "A task from the chat", "Nobody took", "Give to the AI"),
        "ru": ("Промт Main &lt;i&gt;, версия 3", "токенов: 120", "вырезано: 1", "ИИ зовёт сотрудника", "Задача из чата", "Никто не взял", "Отдать ИИ"),
    }[language]  # fmt: skip
    for text in (*expected, "gpt-test", "search_catalog", "Wants &lt;b&gt;two&lt;/b&gt; pizzas"):
        assert text in page, text
    assert "<b>two" not in page


async def test_an_auditor_reads_no_summary(world: World, chat: str) -> None:
    page = await text_of(await as_person(world, "max@june.example", Role.AUDITOR), chat)
    assert "pizzas" not in page
    assert "gpt-test" in page
    assert 'id="release-ai"' not in page


async def test_a_conversation_is_given_back_to_the_ai(world: World, chat: str, sign_in: SignIn) -> None:
    client = await sign_in()
    page = await text_of(client, chat)
    form = {"csrf": CSRF, "epoch": hidden(page, "epoch"), "to": "ai"}
    await submitted(client, f"{chat}/release", form)
    assert await owner(world, chat) == "ai"
    page = await text_of(client, chat)
    assert "Gave it to the AI" in page
    assert 'id="release-ai"' not in page
    await world.db.engine(set_options, JUNE, {})
    await world.cache.load()
    await submitted(client, f"{chat}/take", {"csrf": CSRF, "epoch": hidden(page, "epoch")})
    assert 'id="release-ai"' not in await text_of(client, chat), "there is no AI any more"
