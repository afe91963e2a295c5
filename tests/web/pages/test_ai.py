"""The AI operator's pages: every setting is there, what is refused loses nothing, the key is nowhere to be read, and use is counted."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

from gateway.domain.ai import CAUSES, AiBlock, CallsBlock, HandoffBlock, ModelBlock, PriceBlock, settings_of
from gateway.domain.secret import Secret
from gateway.store.audit import select_audit
from gateway.store.postgres.pool import Connection
from gateway.web.content.ai import FIELDS, block_of, form_of
from tests.sandbox.llm import KEY, MODEL, LanguageModel, Step
from tests.web.conftest import SignIn, submitted
from tests.web.world import CSRF, JUNE, World

PAGE = "/t/0367/ai"
WHOLE = {
    "enabled": True, "llm": {"url": "https://llm.example/v1", "api_key": "sk-own", "model": "gpt-own", "api": "responses"},
    "quiet_s": 1.5, "hours": "off_hours", "channels": ("telegram",), "history_tokens": 700, "max_reply_tokens": 99,
    "per_conversation_day": 7, "per_day_tokens": 5000, "allow_links": ("june.example",), "call_back": "call",
    "price": {"prompt": "1.25", "completion": "10", "currency": "EUR"},
    "calls": {
        "transcribe": True, "summarise": True, "to_crm": False, "url": "https://speech.example/v1", "api_key": "sk-speech",
        "model": "whisper-own", "language": "auto", "instruction": "В одну строку", "consent": {"ru": "Мы говорим", "en": "We say so"},
        "first_channel": "client", "min_talk_s": 7.5, "per_day_audio_s": 600,
    },
    "handoff": {"notify": ("telegram",), "after_failures": 2, "timeout_s": 60, "texts": {one: f"{one}!" for one in CAUSES}},
}  # fmt: skip


def form(block: AiBlock, **more: str | list[str]) -> dict[str, Any]:
    values = form_of(block)
    sent: dict[str, Any] = {"csrf": CSRF}
    for name, value in values.items():
        if name == "channels" and value is None:
            sent["all_channels"] = "1"
        elif value is True:
            sent[name] = "1"
        elif value:
            sent[name] = value[0] if isinstance(value, list) else value
    return {**sent, **more}


async def stored(world: World) -> AiBlock:
    await world.cache.load(JUNE, anew=True)
    tenant = world.cache.tenant(JUNE)
    assert tenant is not None
    return settings_of(tenant.options, tenant.secrets)


def leaves(model: Any, at: str = "") -> set[str]:
    """The paths of a model's settings."""
    found = set[str]()
    for name in type(model).model_fields:
        value = getattr(model, name)
        inner = isinstance(value, ModelBlock | HandoffBlock | PriceBlock | CallsBlock)
        found |= leaves(value, f"{at}{name}.") if inner else {f"{at}{name}"}
    return found


def test_the_form_has_every_setting_and_gives_it_back() -> None:
    paths = {".".join(name.split(".")[:2]) for name in FIELDS}
    assert paths == leaves(AiBlock())
    for data in ({}, WHOLE):
        block = AiBlock.model_validate(data)
        assert block_of(form_of(block), block) == block


async def test_settings_are_stored_audited_and_the_key_is_nowhere(world: World, sign_in: SignIn) -> None:
    client = await sign_in()
    block = AiBlock.model_validate(WHOLE)
    page = await submitted(client, PAGE, form(block, **{"llm.api_key": "sk-own", "calls.api_key": "sk-speech"}))
    assert "Saved." in page
    assert "sk-own" not in page
    assert 'type="password" value="***"' in page
    assert await stored(world) == block
    await submitted(client, PAGE, form(block, quiet_s="2,5"))
    assert await stored(world) == block.model_copy(update={"quiet_s": 2.5})
    lines = await world.db.tenant(JUNE, select_audit, JUNE, None, 5)
    newest, first, *_ = [line for line in lines if line.action == "ai.changed"]
    assert (newest.old, newest.new) == ({"quiet_s": 1.5}, {"quiet_s": 2.5})
    assert first.new is not None
    assert first.new["llm.api_key"] == "***"

    async def everything(conn: Connection) -> str:
        return str(await conn.fetchval("SELECT options::text || secrets::text FROM tenants WHERE tenant_id = '0367'"))

    assert "sk-own" not in await world.db.engine(everything)
    await submitted(client, PAGE, form(block, **{"llm.api_key": ""}))
    assert (await stored(world)).llm.api_key is None


async def test_what_is_refused_is_named_and_nothing_is_lost(world: World, sign_in: SignIn) -> None:
    client = await sign_in()
    wrong = {
        "quiet_s": "soon", "per_day_tokens": "1", "allow_links": "june.example\nhttps://x/y", "llm.url": "ftp://x", "price.currency": "rubles",
        "handoff.texts.asked.ru": "только <b>одно</b>" + "!" * 1000, "llm.api_key": "sk-typed-and-not-lost",
    }  # fmt: skip
    page = await submitted(client, PAGE, form(AiBlock(enabled=True), **wrong))
    assert page.count('class="problem"') == 6
    assert "sk-typed" not in page
    assert 'value="soon"' in page
    assert "только &lt;b&gt;одно&lt;/b&gt;!!" in page
    assert "<details open>" in page
    assert not (await stored(world)).enabled
    pending = page.partition('name="pending" value="')[2].partition('"')[0]
    await submitted(client, PAGE, form(AiBlock(enabled=True), **{"llm.api_key": "***", "pending": pending}))
    assert (await stored(world)).llm.api_key == Secret("sk-typed-and-not-lost")
    page = await submitted(client, PAGE, {name: one for name, one in form(AiBlock()).items() if name != "all_channels"})
    assert "choose at least one channel" in page
    settings = "UPDATE tenants SET options = '{\"ai\": {\"quiet_s\": 99}}' WHERE tenant_id = '0367'"

    async def spoil(conn: Connection) -> None:
        await conn.execute(settings)

    await world.db.engine(spoil)
    await world.cache.load(JUNE, anew=True)
    assert "cannot be read any more" in await (await client.get(PAGE)).get_data(as_text=True)


@pytest.fixture
async def model(nursery: trio.Nursery) -> AsyncIterator[LanguageModel]:
    made = LanguageModel()
    await nursery.start(made.serve)
    yield made
    nursery.cancel_scope.cancel()


async def test_the_model_is_tested_as_it_is_stored(world: World, sign_in: SignIn, model: LanguageModel) -> None:
    client = await sign_in()
    tried = f"{PAGE}/test"
    assert "No language model is set up" in await submitted(client, tried, {"csrf": CSRF})
    own = AiBlock.model_validate({"llm": {"url": model.url, "api_key": KEY, "model": MODEL}})
    await submitted(client, PAGE, form(own, **{"llm.api_key": KEY}))
    assert f"{MODEL} answered; the test took 120 tokens." in await submitted(client, tried, {"csrf": CSRF})
    model.script = [Step(status=401, code="invalid_api_key")]
    page = await submitted(client, tried, {"csrf": CSRF})
    assert "refuses the key" in page
    assert "It is your own model" in page
    assert KEY not in page
    near = AiBlock.model_validate({"llm": {"url": "http://169.254.169.254/v1", "model": "x"}})
    await submitted(client, PAGE, form(near))
    assert "does not know this model, or there is none" in await submitted(client, tried, {"csrf": CSRF})


async def used(conn: Connection) -> None:
    for number, secret in (("0367", "Main"), ("0368", "Secret of another")):
        await conn.execute("INSERT INTO contacts (tenant_id, contact_id, root_id) VALUES ($1, $2, $2)", number, ONE)
        await conn.execute(
            "INSERT INTO conversations (tenant_id, conversation_id, integration_type, address, contact_id, owner) "
            "VALUES ($1, $2, 'telegram', '7', $2, 'ai')",
            number,
            ONE,
        )
        for version, state, asked in ((3, "sent", 1_500_000), (3, "failed", 500_000), (4, "sent", 10)):
            await conn.execute(
                "INSERT INTO ai_answers (tenant_id, answer_id, conversation_id, epoch, seq, state, prompt_name, prompt_version, model, "
                "prompt_tokens, completion_tokens) VALUES ($1, gen_random_uuid(), $2, 0, 1, $3, $4, $5, 'gpt-test', $6, 100000)",
                number, ONE, state, secret, version, asked,
            )  # fmt: skip
        await conn.execute(
            "INSERT INTO ai_hand_overs (tenant_id, conversation_id, epoch, cause, reason, due_at) "
            "VALUES ($1, $2, 1, 'failed', 'too_slow', now()), ($1, $2, 2, 'abuse', 'client_words', now())",
            number,
            ONE,
        )


ONE = "00000000-0000-0000-0000-000000000001"


async def test_use_is_counted_by_day_prompt_and_model_with_its_cost(world: World, sign_in: SignIn) -> None:
    await world.db.engine(used)
    client = await sign_in()
    page = await (await client.get(f"{PAGE}/use")).get_data(as_text=True)
    assert "Enter the price" in page
    assert "Secret of another" not in page
    own = AiBlock.model_validate({"price": {"prompt": "1.25", "completion": "10", "currency": "EUR"}})
    await submitted(client, PAGE, form(own))
    page = await (await client.get(f"{PAGE}/use")).get_data(as_text=True)
    for words in (
        "Main · version 3", "Main · version 4", "2\u00a0000\u00a0000 + 200\u00a0000", "4.50 EUR", "5.50 EUR", "no answer within 90 seconds",
        "The client swears or threatens",
    ):  # fmt: skip
        assert words in page, words
    empty = await (await client.get(f"{PAGE}/use?since=2020-01-01&until=2020-01-05")).get_data(as_text=True)
    assert "Nothing was answered in these days." in empty
    for nonsense in ("since=x&until=9999-99-99", "since=0001-01-01", "until=9999-12-31&since=2020-01-01"):
        assert (await client.get(f"{PAGE}/use?{nonsense}")).status_code == 200
