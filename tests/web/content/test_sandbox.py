"""A prompt tried on a model: filled in, streamed, and every failure in words for a person."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import trio

from adapters.llm.client import ModelSettings
from adapters.llm.protocol import FAILURES, ModelFailed
from gateway.domain.posts import Invalid
from gateway.store.postgres.pool import Database
from gateway.web.content import sandbox
from gateway.web.content.catalog import add_item
from gateway.web.content.sandbox import AT_ONCE_EACH, Reply, Sandbox, ask
from tests.web.content.conftest import JUNE, WHO
from tests.web.content.model_server import DONE, KEY, ModelServer, chunk


@pytest.fixture
async def server(nursery: trio.Nursery) -> AsyncIterator[ModelServer]:
    made = ModelServer()
    await nursery.start(made.serve)
    yield made
    nursery.cancel_scope.cancel()


async def failure(server: ModelServer, **changes: Any) -> ModelFailed:
    for name, value in changes.items():
        setattr(server, name, value)
    with pytest.raises(ModelFailed) as failed:
        await ask(server.settings, "x", "y")
    assert KEY not in repr(failed.value) + str(failed.value.text)
    return failed.value


async def test_the_answer_comes_in_pieces(server: ModelServer) -> None:
    pieces: list[str] = []

    async def piece(text: str) -> None:
        await trio.lowlevel.checkpoint()
        pieces.append(text)

    reply = await ask(server.settings, "be kind", "hello", piece)
    assert reply == Reply("Привет", "gpt-test", 9, 2)
    assert pieces == ["При", "вет"]
    (request,) = server.requests
    assert request["line"] == "POST /v1/chat/completions HTTP/1.1"
    assert request["headers"]["authorization"] == f"Bearer {KEY}"
    assert request["body"]["messages"] == [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "hello"},
    ]


async def test_a_piece_is_passed_on_before_the_next_one_is_there(server: ModelServer) -> None:
    first = trio.Event()

    async def pause(place: int) -> None:
        if place == 2:
            await first.wait()

    async def piece(text: str) -> None:
        await trio.lowlevel.checkpoint()
        first.set()

    server.pause = pause
    with trio.fail_after(5):
        assert (await ask(server.settings, "x", "y", piece)).response == "Привет"


async def test_servers_that_answer_otherwise(server: ModelServer) -> None:
    server.body = [chunk("a"), "\n: comment\nevent: x\ndata: {broken\n\n", chunk("b", obfuscation="xx")]
    assert await ask(server.settings, "x", "y") == Reply("ab", "gpt-test"), "neither usage nor [DONE]"
    whole = {
        "model": "m",
        "choices": [{"message": {"content": "at once"}, "finish_reason": "length"}],
        "usage": {"prompt_tokens": 1},
    }
    server.body, server.content_type = [json.dumps(whole)], "application/json"
    assert await ask(server.settings, "x", "y") == Reply("at once", "m", 1, None, cut=True)
    server.body = [json.dumps({"choices": [{"message": {"content": None, "refusal": "I cannot"}}]})]
    assert (await ask(server.settings, "x", "y")).response == "I cannot"
    await ask(replace(server.settings, key=None), "x", "y")
    assert "authorization" not in server.requests[-1]["headers"]


@pytest.mark.parametrize(
    ("status", "code", "told", "retryable"),
    [
        (401, "invalid_api_key", "bad_key", False), (403, None, "bad_key", False), (404, "model_not_found", "no_model", False),
        (429, "rate_limit_exceeded", "rate_limited", True), (429, "insufficient_quota", "quota", False),
        (400, "context_length_exceeded", "too_long", False), (400, "unsupported_value", "refused", False),
        (500, 500, "unavailable", True), (503, "server_is_overloaded", "unavailable", True), (408, None, "unavailable", True),
    ],
)  # fmt: skip
async def test_refusals_are_told_apart(server: ModelServer, status: int, code: Any, told: str, retryable: bool) -> None:
    body = [json.dumps({"error": {"message": f"Incorrect key {KEY}", "type": "x", "param": None, "code": code}})]
    failed = await failure(server, status=status, body=body, headers="retry-after: 7\r\n")
    assert (failed.code, failed.retryable, failed.retry_after_s) == (told, retryable, 7.0)


async def test_streams_that_go_wrong(server: ModelServer) -> None:
    error = 'data: {"error": {"message": "x", "code": "rate_limit_exceeded"}}\n\n'
    assert (await failure(server, body=[chunk("a"), error])).code == "rate_limited"
    assert (await failure(server, body=[chunk("a"), chunk("b")], cut=True)).code == "cut_off"
    server.cut = False
    assert (await failure(server, body=[chunk(""), DONE])).code == "empty"
    assert (await failure(server, body=["x" * (2 << 20)])).code == "cut_off"
    assert (await failure(server, status=502, body=["<html>"], content_type="text/html")).code == "unavailable"
    server.url = "http://127.0.0.1:1/v1"
    assert (await failure(server)).code == "unavailable"
    server.url = "ftp://nowhere"
    assert (await failure(server)).code == "no_model"


async def test_a_model_that_says_nothing(server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async def pause(place: int) -> None:
        await trio.sleep_forever()

    server.pause = pause
    quick = replace(sandbox.TIMEOUTS, first_s=0.05)
    monkeypatch.setattr(sandbox, "TIMEOUTS", quick)
    assert (await failure(server)).code == "timeout"
    monkeypatch.setattr(sandbox, "TIMEOUTS", replace(sandbox.TIMEOUTS, whole_s=0.05))
    assert (await failure(server)).code == "timeout"


async def test_the_prompt_is_filled_in(two: Database, server: ModelServer) -> None:
    await add_item(two, JUNE, {"id": "m", "name": "Margherita", "price": "12.50"}, WHO)
    tried = Sandbox(server.settings)
    variables = [{"key": "fee", "default_value": "{{phone}}"}]
    reply = await tried.test_prompt(
        two, JUNE, "{{business_name}} {{today}} {{fee}} {{nobody}}\n{{catalog}}", "Привет!", variables
    )
    assert reply.plain() == {"response": "Привет", "prompt_tokens": 9, "completion_tokens": 2, "model": "gpt-test"}
    system, user = server.requests[0]["body"]["messages"]
    assert system["content"].startswith("June 20")
    assert system["content"].endswith("{{phone}} {{nobody}}\n- Margherita — 12.50 BYN")
    assert user["content"] == "Привет!"
    for content, message, paths in (("", "x", ["content"]), ("x", " ", ["message"]), (7, None, ["content", "message"])):
        with pytest.raises(Invalid) as refused:
            await tried.test_prompt(two, JUNE, content, message)
        assert [path for path, _ in refused.value.problems] == paths


async def test_few_at_once(two: Database, server: ModelServer, nursery: trio.Nursery) -> None:
    gate, started = trio.Event(), trio.Event()

    async def pause(place: int) -> None:
        if len(server.requests) == AT_ONCE_EACH:
            started.set()
        await gate.wait()

    server.pause = pause
    tried = Sandbox(server.settings)
    for _ in range(AT_ONCE_EACH):
        nursery.start_soon(tried.test_prompt, two, JUNE, "x", "y")
    await started.wait()
    with pytest.raises(ModelFailed, match="busy"):
        await tried.test_prompt(two, JUNE, "x", "y")
    gate.set()
    with trio.fail_after(5):
        while tried._under_way:
            await trio.sleep(0.01)
    await tried.test_prompt(two, JUNE, "x", "y")


async def test_without_a_model(two: Database) -> None:
    for model in (None, ModelSettings(url="")):
        with pytest.raises(ModelFailed, match="not_configured") as failed:
            await Sandbox(model).test_prompt(two, JUNE, "x", "y")
        assert failed.value.text == FAILURES["not_configured"]
        assert "не подключена" in failed.value.text.texts["ru"]
