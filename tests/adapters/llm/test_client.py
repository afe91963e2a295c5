"""Language models by both APIs against the strict sandbox: answers, tools, and each way in which a server fails."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, Literal

import pytest
import trio

from adapters.http.addresses import SafeDialer
from adapters.llm import client as client_module
from adapters.llm.chat import ChatReader
from adapters.llm.client import Model, ModelSettings, ModelTimeouts, open_model
from adapters.llm.lines import Events, TooMuch
from adapters.llm.protocol import Called, ModelFailed, Question, Result, Said, Text, ToolCall, ToolShape
from gateway.domain.secret import Secret
from tests.sandbox.llm import KEY, MODEL, LanguageModel, Step, called, said

SEARCH = ToolShape(
    "search_catalog", "Finds items.",
    {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"], "additionalProperties": False},
)  # fmt: skip
QUESTION = Question(turns=(Text("system", "be kind"), Text("user", "hello")), max_tokens=50)
QUICK = ModelTimeouts(first_s=1.0, gap_s=1.0, whole_s=5.0)
Api = Literal["chat", "responses"]


@pytest.fixture
async def server(nursery: trio.Nursery) -> AsyncIterator[LanguageModel]:
    made = LanguageModel()
    await nursery.start(made.serve)
    yield made
    nursery.cancel_scope.cancel()


@pytest.fixture(params=["chat", "responses"])
def api(request: pytest.FixtureRequest) -> Api:
    found: Api = request.param
    return found


def settings(server: LanguageModel, api: Api = "chat", **more: Any) -> ModelSettings:
    return replace(ModelSettings(url=server.url, key=Secret(KEY), model=MODEL, api=api), **more)


async def ask(
    server: LanguageModel,
    api: Api,
    *steps: Step,
    question: Question = QUESTION,
    tries: int = 1,
    times: ModelTimeouts = QUICK,
) -> Said:
    server.script = list(steps)
    async with open_model(settings(server, api), times) as model:
        return await model.ask(question, tries=tries)


async def failure(
    server: LanguageModel, api: Api, *steps: Step, tries: int = 1, times: ModelTimeouts = QUICK
) -> ModelFailed:
    with pytest.raises(ModelFailed) as failed:
        await ask(server, api, *steps, tries=tries, times=times)
    assert KEY not in repr(failed.value) + failed.value.detail
    return failed.value


@pytest.mark.slow
async def test_an_answer_in_pieces(server: LanguageModel, api: Api) -> None:
    pieces: list[str] = []

    async def piece(text: str) -> None:
        await trio.lowlevel.checkpoint()
        pieces.append(text)

    server.script = [said("Здравствуйте, чем помочь?")]
    async with open_model(settings(server, api)) as model:
        found = await model.ask(QUESTION, piece=piece)
    assert "".join(pieces) == found.text == "Здравствуйте, чем помочь?"
    assert len(pieces) > 2
    assert (found.model, found.prompt_tokens, found.completion_tokens, found.ended, found.cut) == (
        MODEL,
        100,
        20,
        True,
        False,
    )
    assert found.first_token_s is not None
    assert 0 < found.first_token_s <= found.took_s
    (body,) = server.requests
    assert body["stream"] is True
    if api == "responses":
        assert (body["instructions"], body["store"], body["max_output_tokens"]) == ("be kind", False, 50)
    else:
        assert body["messages"][0] == {"role": "system", "content": "be kind"}
    (head,) = server.heads
    assert not {name for name in head if name.startswith("openai-")}, "variables of the SDK's own are not read"


async def test_tools_named_together_and_their_results(server: LanguageModel, api: Api) -> None:
    question = replace(QUESTION, tools=(SEARCH,))
    first = await ask(
        server,
        api,
        called(("search_catalog", {"query": "пицца"}), ("search_catalog", '{"query": "чай')),
        question=question,
    )
    assert [(one.name, one.arguments) for one in first.calls] == [
        ("search_catalog", '{"query": "пицца"}'), ("search_catalog", '{"query": "чай'),
    ]  # fmt: skip
    assert len({one.id for one in first.calls}) == 2
    turns = (
        *question.turns, Called(first.calls, carried=first.carried), *(Result(one.id, '{"items": []}') for one in first.calls),
    )  # fmt: skip
    assert (await ask(server, api, said("Нет такого."), question=replace(question, turns=turns))).text == "Нет такого."
    assert server.refusals == []
    assert bool(first.carried) == (api == "responses")


async def test_a_result_that_is_missing_is_refused_by_the_sandbox(server: LanguageModel, api: Api) -> None:
    turns = (*QUESTION.turns, Called((ToolCall("a", "search_catalog", "{}"),)), Text("user", "and?"))
    with pytest.raises(ModelFailed, match="refused"):
        await ask(server, api, said("x"), question=Question(turns=turns))
    assert len(server.refusals) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step", "code"),
    [
        (Step(status=401, code="invalid_api_key"), "bad_key"), (Step(status=404, code="model_not_found"), "no_model"),
        (Step(status=429, code="rate_limit_exceeded"), "rate_limited"), (Step(status=429, code="insufficient_quota"), "quota"),
        (Step(status=429, code="slow_down"), "rate_limited"), (Step(status=400, code="context_length_exceeded"), "too_long"),
        (Step(status=400, code="unsupported_value"), "refused"), (Step(status=500, code=500), "unavailable"),
        (Step(status=503, code=None), "unavailable"), (Step(status=409), "unavailable"),
        (Step(text="half of it and", in_stream_error=True, code="server_error"), "unavailable"),
        (Step(text="half of it and", in_stream_error=True, code="rate_limit_exceeded"), "rate_limited"),
        (Step(text="half of it and", cut=True), "cut_off"), (Step(text="half of it and more", stall=True), "timeout"),
        (Step(silent=True), "timeout"),
    ],
)  # fmt: skip
async def test_failures_are_told_apart(server: LanguageModel, api: Api, step: Step, code: str) -> None:
    assert (await failure(server, api, step)).code == code
    assert len(server.requests) == 1


async def test_what_passes_is_tried_again_and_nothing_else(
    server: LanguageModel, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "RETRY_S", 0.01)
    fine = said("fine")
    busy, cut = Step(status=503, code="server_is_overloaded"), Step(text="half of it and", cut=True)
    assert (await ask(server, api, busy, cut, fine, tries=3)).text == "fine"
    assert len(server.requests) == 3
    assert (await failure(server, api, busy, busy, busy, fine, tries=3)).code == "unavailable"
    for final in (
        Step(status=429, code="insufficient_quota"),
        Step(status=401),
        Step(status=400, code="context_length_exceeded"),
    ):
        server.requests.clear()
        await failure(server, api, final, fine, tries=3)
        assert len(server.requests) == 1


@pytest.mark.slow
async def test_a_server_says_when_to_come_again(server: LanguageModel) -> None:
    began = trio.current_time()
    limited = Step(status=429, code="rate_limit_exceeded", retry_after="1")
    times = ModelTimeouts(whole_s=5.0)
    assert (await ask(server, "chat", limited, said("fine"), tries=2, times=times)).text == "fine"
    assert 1.0 <= trio.current_time() - began < 4.0
    late = Step(status=429, code="rate_limit_exceeded", retry_after="60")
    assert (await failure(server, "chat", late, said("fine"), tries=2, times=times)).retry_after_s == 60.0
    assert trio.current_time() - began < 4.5, "what comes after the deadline is not waited for"


@pytest.mark.slow
async def test_silence_is_not_tried_again_and_the_deadline_ends_all_tries(
    server: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    with trio.fail_after(10):
        times = ModelTimeouts(first_s=0.2, whole_s=5.0)
        assert (await failure(server, "chat", *[Step(silent=True)] * 9, tries=9, times=times)).code == "timeout"
        assert len(server.requests) == 1
        monkeypatch.setattr(client_module, "RETRY_S", 0.2)
        times = ModelTimeouts(whole_s=0.5)
        assert (await failure(server, "chat", *[Step(status=503)] * 99, tries=99, times=times)).code == "unavailable"
    assert 2 <= len(server.requests) <= 5


async def test_what_servers_do_otherwise(server: LanguageModel, api: Api) -> None:
    at_once = await ask(server, api, said("at once", at_once=True))
    assert (at_once.text, at_once.prompt_tokens, at_once.ended) == ("at once", 100, True)
    both = await ask(
        server,
        api,
        called(("search_catalog", {"query": "x"}), at_once=True),
        question=replace(QUESTION, tools=(SEARCH,)),
    )
    assert [one.name for one in both.calls] == ["search_catalog"]
    assert (await ask(server, api, said("x", usage=False))).prompt_tokens is None
    short = await ask(server, api, Step(finish="length"))
    assert (short.text, short.cut) == ("", True)
    refused = await ask(server, api, Step(refusal="I cannot"))
    assert (refused.text, refused.refused) == ("I cannot", True)


@pytest.mark.parametrize(
    ("api", "unsupported", "instead"),
    [
        ("chat", {"max_completion_tokens"}, {"max_tokens"}), ("chat", {"max_completion_tokens", "max_tokens", "stream_options"}, set()),
        ("responses", {"include"}, {"max_output_tokens"}),
    ],
)  # fmt: skip
async def test_parameters_that_a_server_does_not_know(
    server: LanguageModel, api: Api, unsupported: set[str], instead: set[str]
) -> None:
    server.unsupported = frozenset(unsupported)
    async with open_model(settings(server, api)) as model:
        assert (await model.ask(QUESTION)).text
        refused = len(server.refusals)
        assert (await model.ask(QUESTION)).text
    assert refused == len(unsupported)
    assert len(server.refusals) == refused, "it is remembered"
    assert instead <= server.requests[-1].keys()
    assert not unsupported & server.requests[-1].keys()


async def test_a_wrong_key_and_none(server: LanguageModel) -> None:
    for key in (Secret("sk-other-key"), None):
        async with open_model(settings(server, key=key)) as model:
            with pytest.raises(ModelFailed, match="bad_key") as failed:
                await model.ask(QUESTION)
        assert "sk-other-key" not in failed.value.detail
    assert "authorization" not in server.heads[-1]


async def test_addresses_of_companies_are_judged(server: LanguageModel) -> None:
    async with open_model(settings(server, dial=SafeDialer())) as model:
        with pytest.raises(ModelFailed) as failed:
            await model.ask(QUESTION, tries=3)
    assert failed.value.code == "no_model"
    assert server.heads == []
    allowed = SafeDialer(allowed_private_nets=["127.0.0.0/8"])
    async with open_model(settings(server, dial=allowed)) as model:
        assert (await model.ask(QUESTION)).text
    for url in ("", "ftp://nowhere", "http://"):
        with pytest.raises(ModelFailed, match="not_configured" if not url else "no_model"):
            async with open_model(ModelSettings(url=url)):
                pass


async def test_a_cancelled_answer_closes_its_connection(server: LanguageModel, api: Api) -> None:
    server.script = [Step(text="half of it and more", stall=True)]
    async with open_model(settings(server, api)) as model:
        with trio.move_on_after(0.1) as scope:
            await model.ask(QUESTION)
        assert scope.cancelled_caught
        with trio.fail_after(2):
            while server.under_way:
                await trio.sleep(0.01)
        assert (await model.ask(QUESTION)).text


@pytest.mark.slow
async def test_an_endless_answer(server: LanguageModel, api: Api) -> None:
    found = await ask(server, api, said("x" * 100_000), times=ModelTimeouts())
    assert (len(found.text) // 1000, found.cut, found.ended) == (50, True, True)


def test_pieces_of_calls_as_some_servers_send_them() -> None:
    reader = ChatReader()
    for calls in (
        [{"id": "a", "function": {"name": "one", "arguments": {"x": 1}}}, {"function": {"name": "two", "arguments": "{"}}],
        [{"function": {"arguments": "}"}}], [{"index": None, "id": "", "function": None}, None],
    ):  # fmt: skip
        reader.feed({"choices": [{"delta": {"tool_calls": calls}}]})
    odd: Any
    for odd in (
        {},
        {"choices": None},
        {"choices": []},
        {"choices": [None]},
        {"choices": [{"delta": None}]},
        {"usage": 7, "model": 8},
    ):
        assert reader.feed(odd) == ""
    found = reader.said("m").calls
    assert [(one.name, one.arguments) for one in found] == [("one", '{"x": 1}'), ("two", "{}")]
    assert len({one.id for one in found}) == 2


def test_events_whatever_the_cuts() -> None:
    raw = ': c\r\ndata: {"a": "Привет"}\r\n\r\nevent: x\ndata: {"b":\ndata: 1}\n\ndata: no\n\ndata: 7\n\ndata: [DONE]\n\n'.encode()
    expected = [{"a": "Привет"}, {"b": 1}]
    for step in (1, 2, 3, 7, len(raw)):
        events, found = Events(), []
        for at in range(0, len(raw), step):
            found += events.feed(raw[at : at + step])
        assert (found, events.done) == (expected, True)
    rest = Events()
    assert [*rest.feed(b'data: {"a": 1}'), *rest.feed(b"")] == [{"a": 1}]
    with pytest.raises(TooMuch):
        Events().feed(b"x" * (2 << 20))


async def test_models_are_asked_at_once(server: LanguageModel, nursery: trio.Nursery) -> None:
    gate = trio.Event()
    server.reply = lambda body: said(json.dumps(len(server.requests)), before=gate.wait)

    async def one(model: Model, found: list[str]) -> None:
        found.append((await model.ask(QUESTION)).text)

    found: list[str] = []
    async with open_model(settings(server)) as model, trio.open_nursery() as asking:
        for _ in range(20):
            asking.start_soon(one, model, found)
        with trio.fail_after(5):
            while server.under_way < 20:
                await trio.sleep(0.01)
        gate.set()
    assert sorted(map(int, found)) == list(range(1, 21))
