"""The pages of prompts: the editor without JavaScript and with what it asks for, the history, the sandbox."""

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

from adapters.llm.client import ModelSettings
from gateway.store import prompts as store
from gateway.web.content.sandbox import Sandbox
from gateway.web.http.routes import Give
from gateway.web.http.streamed import streamed
from gateway.web.pages.prompts import difference
from tests.web.conftest import SignIn, plain, submitted
from tests.web.content.model_server import KEY, ModelServer
from tests.web.world import CSRF, JUNE, MAPLE, World

HOME = "/t/0367/prompts"
GOOD = "# Role\r\nYou are {{business_name}} <b>.\r\n# Rules\r\nFee: {{delivery_fee}}\r\n"
FORM = {
    "csrf": CSRF, "do": "save", "name": "Main", "content": GOOD, "note": "first", "message": "hello", "var-key-0": "delivery_fee",
    "var-label-0": "Delivery", "var-value-0": "5 BYN", "var-key-1": "", "var-value-1": "",
}  # fmt: skip
SCRIPT = {"X-Fragment": "1"}


async def rows(world: World) -> list[store.PromptRow]:
    return await world.db.tenant(JUNE, store.select_prompts, JUNE)


async def test_a_prompt_is_written_saved_and_changed(world: World, sign_in: SignIn) -> None:
    client = await sign_in()
    page = await (await client.get(f"{HOME}/new")).get_data(as_text=True)
    assert "# Role\nYou are the operator of {{business_name}}." in page
    page = await submitted(client, f"{HOME}/new", FORM)
    assert "Version 1 was saved; bots get it." in page
    assert "You are {{business_name}} &lt;b&gt;." in page
    (row,) = await rows(world)
    assert (row.name, row.content, row.active_version) == ("Main", GOOD.replace("\r\n", "\n"), 1)
    assert [one.plain() for one in row.variables] == [
        {"key": "delivery_fee", "label": "Delivery", "default_value": "5 BYN", "source": "custom"}
    ]
    page = await submitted(
        client, f"{HOME}/{row.prompt_id}", {**FORM, "content": "# Role\n{{nobody}}", "do": "save"}, "ru"
    )
    assert "Версия 2 сохранена как черновик, найдено ошибок: 2." in page
    assert "Строка 2, столбец 1:" in page
    page = await (await client.get(HOME)).get_data(as_text=True)
    assert "у ботов версия 1" in page
    refused = await submitted(client, f"{HOME}/{row.prompt_id}/activate", {"csrf": CSRF}, "en")
    assert "A prompt with mistakes cannot be active." in refused
    page = await submitted(client, f"{HOME}/{row.prompt_id}", {**FORM, "content": GOOD + "More", "do": "draft"})
    assert "Version 3 was saved as a draft." in page
    assert "Bots now get “Main”." in await submitted(client, f"{HOME}/{row.prompt_id}/activate", {"csrf": CSRF})
    assert (await rows(world))[0].active_version == 3


async def test_what_was_typed_is_not_lost(world: World, sign_in: SignIn) -> None:
    client = await sign_in()
    wrong = {**FORM, "name": "x" * 101, "var-key-1": "Bad Key", "var-value-1": "kept"}
    page = await submitted(client, f"{HOME}/new", wrong)
    assert "Nothing was saved yet:" in page
    assert "<code>variables[1].key</code>: must begin with a to z" in page
    assert 'value="kept"' in page
    assert "Fee: {{delivery_fee}}" in page
    checked = await submitted(client, f"{HOME}/new", {**FORM, "do": "check", "content": "# Role\nunsaved"})
    assert "This text is not saved yet." in checked
    assert "the section &#34;Rules&#34; is missing" in checked
    assert await rows(world) == []
    assert (await client.post(f"{HOME}/new", form={**FORM, "do": "nothing"})).status_code == 400


async def test_the_check_while_typing_is_the_same(sign_in: SignIn) -> None:
    client = await sign_in(language="ru")
    answer = await client.post(
        f"{HOME}/new", form={**FORM, "do": "check", "content": "# Role\n{{nobody}} {{delivery_fee}}"}, headers=SCRIPT
    )
    assert json.loads(await answer.get_data(as_text=True)) == {
        "errors": [
            {"message": "нет раздела «Правила»: нужен заголовок, например «# Правила»", "line": 1, "column": 1},
            {"message": "нет подстановки {{nobody}}", "line": 2, "column": 1},
        ]
    }


async def test_the_history_shows_differences_and_restores(world: World, sign_in: SignIn) -> None:
    client = await sign_in()
    await submitted(client, f"{HOME}/new", FORM)
    (row,) = await rows(world)
    here = f"{HOME}/{row.prompt_id}"
    await submitted(client, here, {**FORM, "content": GOOD.replace("Fee", "Cost"), "note": "<i>"})
    page = await (await client.get(f"{here}/history")).get_data(as_text=True)
    assert "From version 1 to 2" in page
    assert re.findall(r'<tr class="(\w+)">', page) == ["same", "same", "same", "gone", "new"]
    assert "&lt;i&gt;" in page
    done = await submitted(client, f"{here}/restore", {"csrf": CSRF, "version": "1"})
    assert "Version 1 was saved again as version 3." in done
    (row,) = await rows(world)
    assert (row.version, row.content, row.active_version) == (3, GOOD.replace("\r\n", "\n"), 3)
    same = await (await client.get(f"{here}/history?a=1&b=3")).get_data(as_text=True)
    assert "The texts are the same." in same
    for path in ("history?a=9", "history?a=x&b=99999999999"):
        assert (await client.get(f"{here}/{path}")).status_code in (200, 404)
    for version in ("9", "x", ""):
        assert (await client.post(f"{here}/restore", form={"csrf": CSRF, "version": version})).status_code == 404


async def test_removing(world: World, sign_in: SignIn) -> None:
    client = await sign_in()
    await submitted(client, f"{HOME}/new", FORM)
    await submitted(client, f"{HOME}/new", {**FORM, "name": "Night"})
    main, night = await rows(world)
    asked = await client.post(f"{HOME}/{night.prompt_id}/remove", form={"csrf": CSRF})
    assert plain(asked.location) == f"{HOME}/{night.prompt_id}/remove"
    assert "Remove the prompt “Night”?" in await (await client.get(asked.location)).get_data(as_text=True)
    assert "cannot be removed" in await submitted(
        client, f"{HOME}/{main.prompt_id}/remove", {"csrf": CSRF, "sure": "1"}
    )
    await submitted(client, f"{HOME}/{night.prompt_id}/remove", {"csrf": CSRF, "sure": "1"})
    assert [row.name for row in await rows(world)] == ["Main"]


async def test_another_companys_prompts_are_not_there(world: World, sign_in: SignIn) -> None:
    await submitted(await sign_in(), f"{HOME}/new", FORM)
    (row,) = await rows(world)
    maple = await sign_in(MAPLE)
    for path in ("", "/history", "/remove"):
        assert (await maple.get(f"/t/0368/prompts/{row.prompt_id}{path}")).status_code == 404
        assert (await maple.get(f"{HOME}/{row.prompt_id}{path}")).status_code == 404
    for path in ("", "/activate", "/restore", "/remove"):
        form = {**FORM, "version": "1", "sure": "1"}
        assert (await maple.post(f"/t/0368/prompts/{row.prompt_id}{path}", form=form)).status_code == 404


@pytest.fixture
async def server(nursery: trio.Nursery) -> AsyncIterator[ModelServer]:
    made = ModelServer()
    await nursery.start(made.serve)
    yield made
    nursery.cancel_scope.cancel()


async def client_with(world: World, model: ModelSettings | None) -> Any:
    client = world.app_with(sandbox=Sandbox(model)).test_client()
    client.set_cookie("localhost", "session", await world.session(JUNE))
    client.set_cookie("localhost", "language", "en")
    return client


async def test_the_sandbox_without_javascript(world: World, server: ModelServer) -> None:
    client = await client_with(world, server.settings)
    page = await submitted(client, f"{HOME}/new", {**FORM, "do": "try"})
    assert '<pre class="reply" tabindex="0">Привет</pre>' in page
    assert "gpt-test: tokens sent: 9, received: 2." in page
    assert server.requests[0]["body"]["messages"][0]["content"].startswith("# Role\nYou are June <b>.")
    assert "Fee: 5 BYN" in server.requests[0]["body"]["messages"][0]["content"]
    server.status, server.body = 401, [f'{{"error": {{"message": "{KEY}"}}}}']
    page = await submitted(client, f"{HOME}/new", {**FORM, "do": "try"}, "ru")
    assert "сервер модели не принимает ключ" in page
    assert KEY not in page
    page = await submitted(client, f"{HOME}/new", {**FORM, "do": "try", "message": ""})
    assert "<code>message</code>" in page


async def test_the_sandbox_streams(world: World, server: ModelServer) -> None:
    client = await client_with(world, server.settings)
    answer = await client.post(f"{HOME}/new", form={**FORM, "do": "try"}, headers=SCRIPT)
    assert answer.content_type.startswith("text/event-stream")
    events = re.findall(r"event: (\w+)\nid: \ndata: (.*)\n", await answer.get_data(as_text=True))
    assert [(name, json.loads(data)) for name, data in events] == [
        ("piece", "При"), ("piece", "вет"), ("done", "gpt-test: tokens sent: 9, received: 2."),
    ]  # fmt: skip
    server.status, server.body, server.headers = 429, ["{}"], "retry-after: 3\r\n"
    answer = await client.post(f"{HOME}/new", form={**FORM, "do": "try"}, headers=SCRIPT)
    assert "event: failed" in await answer.get_data(as_text=True)


async def test_a_page_that_leaves_ends_its_try() -> None:
    ended = trio.Event()

    async def work(give: Give) -> None:
        try:
            while True:
                await give("x")
        finally:
            ended.set()

    async with streamed(work).response as body:
        async for piece in body:
            assert piece == b"x"
            break
    assert ended.is_set()


async def test_without_a_model(world: World) -> None:
    client = await client_with(world, None)
    page = await submitted(client, f"{HOME}/new", {**FORM, "do": "try"})
    assert "No language model is set up." in page
    assert re.search('value="try" disabled', page)


def test_differences_leave_out_what_is_far_away() -> None:
    old = "\n".join(map(str, range(30)))
    lines = difference(old, old.replace("15", "x"))
    assert [line.mark for line in lines] == ["skip", "same", "same", "same", "gone", "new", "same", "same", "same"]
    assert (lines[4].old, lines[5].new) == (16, 16)
    assert difference(old, old) == []
