"""The reply box where the messenger takes no free text: a template is chosen, filled in and sent, without a script."""

import re
from html import unescape
from typing import Any

import pytest

from adapters.channel import MessageTemplate
from gateway.domain.people import Role
from gateway.store.outbox import Outcome
from tests.web.chats import READY, WHATSAPP, connect_whatsapp, conversation_with, receives
from tests.web.conftest import SignIn, submitted
from tests.web.pages.test_inbox import HOME, as_person, hidden, said, text_of
from tests.web.world import CSRF, JUNE, World

ODD = MessageTemplate(
    name="odd<b>",
    language="en_US",
    text="<script>{{header.name}}</script> {{button.0}}",
    fields=("header.name", "button.0"),
)
ADDRESS = "375291002001"


@pytest.fixture
async def chat(world: World) -> str:
    """A conversation whose client wrote two days ago."""
    await connect_whatsapp(world, READY, ODD)
    wrote = {"event": "ClientWrote", "provider_id": "wamid.1", "text": "hello", "address": ADDRESS}
    await receives(world, wrote, key=WHATSAPP, ago_s=2 * 86_400.0)
    return f"{HOME}/{await conversation_with(world, ADDRESS)}"


def choice(page: str, name: str) -> str:
    found = re.search(rf'href="([^"]*template=[^"]*{name}[^"]*)#reply"', page)
    assert found is not None
    return unescape(found[1])


def form(page: str, **values: str) -> dict[str, str]:
    return {
        "csrf": CSRF, "form_id": hidden(page, "form_id"), "epoch": hidden(page, "epoch"), "template": unescape(hidden(page, "template")),
        **{f"value.{name.replace('_', '.')}": text for name, text in values.items()},
    }  # fmt: skip


async def test_a_template_is_chosen_filled_in_and_sent_once(world: World, chat: str, sign_in: SignIn) -> None:
    client = await sign_in()
    page = await text_of(client, chat)
    assert "takes free texts only within 24 hours" in page
    assert "reply-form" not in page
    page = await text_of(client, choice(page, "order_ready"))
    assert page.count("Field 1</mark>") == page.count("Field 2</mark>") == 1
    assert re.findall(r'name="(value\.[^"]*)"', page) == ["value.body.1", "value.body.2"]
    filled = form(page, body_1="15", body_2="9")
    assert "№ 15: 9 BYN" in await submitted(client, f"{chat}/messages", filled)
    await submitted(client, f"{chat}/messages", filled)
    assert [one.text for one in await said(world, chat)] == ["hello", "№ 15: 9 BYN"]


async def test_an_empty_field_is_named_and_the_others_stay(world: World, chat: str, sign_in: SignIn) -> None:
    client = await sign_in()
    page = await text_of(client, choice(await text_of(client, chat), "order_ready"))
    page = await submitted(client, f"{chat}/messages", form(page, body_1="fifteen", body_2="  "))
    assert "reply-problem" in page
    assert 'value="fifteen"' in page
    assert hidden(page, "template") == "ru:order_ready"
    assert len(await said(world, chat)) == 1


async def test_a_template_is_text_and_no_markup(chat: str, sign_in: SignIn) -> None:
    client = await sign_in()
    page = await text_of(client, choice(await text_of(client, chat), "odd"))
    assert "<script>Field" not in page
    assert "odd<b>" not in page
    assert "Field name of the heading" in page
    assert "End of the link of button 1" in page


@pytest.mark.parametrize("mark", ["ru:gone", "nonsense", "", "ru:order_ready%00", "x" * 2000])
async def test_a_template_that_is_not_there(world: World, chat: str, sign_in: SignIn, mark: str) -> None:
    client = await sign_in()
    page = await text_of(client, f"{chat}?template={mark}")
    assert 'id="templates"' in page
    sent: dict[str, Any] = {
        "csrf": CSRF,
        "form_id": "f",
        "epoch": hidden(page, "epoch") if "epoch" in page else "0",
        "template": mark,
    }
    page = await submitted(client, f"{chat}/messages", sent)
    assert "reply-problem" in page
    assert len(await said(world, chat)) == 1


async def test_an_auditor_is_offered_none(world: World, chat: str) -> None:
    olga = await as_person(world, "olga@june.example", Role.AUDITOR)
    page = await text_of(olga, f"{chat}?template=ru:order_ready")
    assert "template-form" not in page
    assert "BYN" not in page


async def test_no_templates_says_what_to_do_in_both_languages(world: World, chat: str, sign_in: SignIn) -> None:
    await connect_whatsapp(world)
    client = await sign_in()
    assert "make one at the messenger" in await text_of(client, chat)
    client.set_cookie("localhost", "language", "ru")
    assert "создайте их в мессенджере" in await text_of(client, chat)


async def test_why_it_failed_and_what_to_do_stands_at_the_message(world: World, chat: str, sign_in: SignIn) -> None:
    client = await sign_in()
    page = await text_of(client, choice(await text_of(client, chat), "order_ready"))
    await submitted(client, f"{chat}/messages", form(page, body_1="15", body_2="9"))
    await world.deliver(
        JUNE, "whatsapp", Outcome(state="failed", status="failed", error="131026: Message undeliverable")
    )
    page = await text_of(client, chat)
    assert "the number has no WhatsApp" in page
    assert "(131026)" in page
    client.set_cookie("localhost", "language", "ru")
    page = await text_of(client, chat)
    assert "на номере нет WhatsApp" in page
    assert "undeliverable" not in page
