"""A sandbox language model with OpenAI's two APIs: scripted, streaming, and strict about what it is sent.

It refuses what OpenAI refuses: unknown parameters, a call of a tool without its result, a result without its call, empty contents, a
wrong key, a model that is not there. What it answers is a `Step`, taken from `script` or made by `reply`; a step can also go wrong in
each way that a server can. It knows nothing of the gateway. Over 400 lines, for it speaks both APIs.
"""

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import h11
import trio

KEY = "sk-sandbox-key-that-nobody-may-see"
MODEL = "gpt-test"
_CHAT = {
    "model", "messages", "stream", "stream_options", "tools", "tool_choice", "parallel_tool_calls", "max_completion_tokens", "max_tokens",
}  # fmt: skip
_RESPONSES = {
    "model",
    "input",
    "instructions",
    "stream",
    "store",
    "include",
    "tools",
    "tool_choice",
    "max_output_tokens",
}
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One answer, or one way to fail."""

    text: str = ""
    calls: tuple[tuple[str, Any], ...] = ()
    """Tools and their arguments: an object, or a text as it is sent."""
    finish: str = ""
    """By default what fits: stop, or tool_calls; `length` and `content_filter` otherwise."""
    refusal: str = ""
    status: int = 200
    code: str | int | None = None
    """Of the error, with a status of 400 or more, or within the stream."""
    retry_after: str = ""
    in_stream_error: bool = False
    cut: bool = False
    """The connection ends in the middle."""
    silent: bool = False
    """Nothing is ever answered, not even a head."""
    stall: bool = False
    """After the first piece nothing more comes."""
    at_once: bool = False
    """As one JSON document, although a stream was requested."""
    usage: bool = True
    before: Callable[[], Awaitable[Any]] | None = None
    """Waited for before the first piece."""


def said(text: str, **more: Any) -> Step:
    """An answer in words."""
    return Step(text=text, **more)


def called(*calls: tuple[str, Any], **more: Any) -> Step:
    """An answer that names tools."""
    return Step(calls=calls, **more)


class _Refusal(Exception):
    def __init__(self, status: int, message: str, code: str | int | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param


@dataclass
class LanguageModel:
    """One server. `requests` are the bodies it took, `refusals` why it took others not."""

    script: list[Step] = field(default_factory=list)
    reply: Callable[[dict[str, Any]], Step] = lambda body: said("Здравствуйте!")
    unsupported: frozenset[str] = frozenset()
    """Parameters that this model does not know."""
    key: str = KEY
    requests: list[dict[str, Any]] = field(default_factory=list)
    heads: list[dict[str, str]] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    under_way: int = 0
    most_at_once: int = 0
    url: str = ""

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["LanguageModel"]:
        """Serves for the duration of the block."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.serve)
            yield self
            nursery.cancel_scope.cancel()

    async def serve(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serves until cancelled."""
        async with trio.open_nursery() as nursery:
            (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
            self.url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}/v1"
            nursery.start_soon(trio.serve_listeners, self._connection, [listener])
            task_status.started()

    async def _connection(self, stream: trio.SocketStream) -> None:
        conn = h11.Connection(h11.SERVER)
        try:
            while True:
                head, body = await _request(conn, stream)
                if head is None:
                    return
                self.under_way += 1
                self.most_at_once = max(self.most_at_once, self.under_way)
                try:
                    goes_on = await self._answer(conn, stream, head, body)
                finally:
                    self.under_way -= 1
                if not goes_on or conn.our_state is not h11.DONE:
                    return
                conn.start_next_cycle()
        except (trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError):
            pass
        finally:
            await trio.aclose_forcefully(stream)

    async def _answer(self, conn: h11.Connection, stream: trio.SocketStream, head: h11.Request, raw: bytes) -> bool:
        """Whether the connection goes on."""
        try:
            api, body = self._read(head, raw)
        except _Refusal as refusal:
            self.refusals.append(str(refusal))
            error = {
                "message": refusal.message,
                "type": "invalid_request_error",
                "param": refusal.param,
                "code": refusal.code,
            }
            await _send_whole(conn, stream, refusal.status, {"error": error})
            return True
        self.requests.append(body)
        step = self.script.pop(0) if self.script else self.reply(body)
        if step.before is not None:
            await step.before()
        if step.silent:
            await _until_gone(stream)
            return False
        if step.status != 200:
            error = {"message": f"no, {self.key}", "type": "x", "param": None, "code": step.code}
            headers = [("retry-after", step.retry_after)] if step.retry_after else []
            await _send_whole(conn, stream, step.status, {"error": error}, headers)
            return True
        events = list(_chat_events(step) if api == "chat" else _response_events(step))
        if step.at_once:
            await _send_whole(conn, stream, 200, _chat_whole(step) if api == "chat" else _response_whole(step))
            return True
        await stream.send_all(
            conn.send(h11.Response(status_code=200, headers=[("content-type", "text/event-stream"), ("transfer-encoding", "chunked")]))
            or b""
        )  # fmt: skip
        if step.in_stream_error:
            error = {"message": "no", "type": "x", "param": None, "code": step.code}
            half = events[: max(1, len(events) // 2)]
            events = [
                *half,
                {"error": error} if api == "chat" else {"type": "error", "message": "no", "code": step.code},
            ]
        for place, event in enumerate(events):
            if (step.cut or step.stall) and place == max(1, len(events) // 2):
                if step.stall:
                    await _until_gone(stream)
                return False
            named = f"event: {event['type']}\n" if api == "responses" else ": comment\n"
            data = f"{named}data: {json.dumps(event, ensure_ascii=False)}\n\n".encode()
            for part in (data[: len(data) // 2], data[len(data) // 2 :]):  # a letter may be cut in two
                await stream.send_all(conn.send(h11.Data(data=part)) or b"")
        if api == "chat" and not step.in_stream_error:
            await stream.send_all(conn.send(h11.Data(data=b"data: [DONE]\n\n")) or b"")
        await stream.send_all(conn.send(h11.EndOfMessage()) or b"")
        return True

    def _read(self, head: h11.Request, raw: bytes) -> tuple[str, dict[str, Any]]:
        headers = {name.decode(): value.decode() for name, value in head.headers}
        self.heads.append(headers)
        if head.method != b"POST" or head.target not in (b"/v1/chat/completions", b"/v1/responses"):
            raise _Refusal(404, f"no such address: {head.method.decode()} {head.target.decode()}")
        if headers.get("authorization") != f"Bearer {self.key}":
            raise _Refusal(401, f"Incorrect API key provided: {headers.get('authorization')}", "invalid_api_key")
        body = json.loads(raw)
        api = "chat" if head.target.endswith(b"completions") else "responses"
        for name in body:
            if name not in (_CHAT if api == "chat" else _RESPONSES) or name in self.unsupported:
                raise _Refusal(400, f"Unsupported parameter: '{name}'.", "unsupported_parameter", name)
        if body.get("model") != MODEL:
            raise _Refusal(404, "The model does not exist", "model_not_found")
        (check_chat if api == "chat" else check_responses)(body)
        return api, body


# What is refused -------------------------------------------------------------------------------------------------------


def _must(right: bool, message: str) -> None:
    if not right:
        raise _Refusal(400, message)


def check_chat(body: Mapping[str, Any]) -> None:
    """Raises for chat completions that a server would refuse."""
    _must(not {"max_tokens", "max_completion_tokens"} <= body.keys(), "max_tokens and max_completion_tokens")
    _must(isinstance(body.get("messages"), list) and bool(body["messages"]), "messages: an array that is not empty")
    waiting = list[str]()
    last = ""
    for place, one in enumerate(body["messages"]):
        role, where = one.get("role"), f"messages.[{place}]"
        if role == "tool":
            _must(set(one) == {"role", "tool_call_id", "content"}, f"{where}: fields")
            _must(one["tool_call_id"] in waiting, f"{where}: a tool message must follow its tool_calls")
            _must(isinstance(one["content"], str), f"{where}: content")
            waiting.remove(one["tool_call_id"])
            last = "tool"
            continue
        _must(not waiting, f"{where}: tool_call_ids did not have response messages: {waiting}")
        _must(role in ("system", "user", "assistant"), f"{where}: role {role}")
        _must(role != "system" or place == 0, f"{where}: the system message must be at the beginning")
        _must(
            role == "system" or role != last or bool(one.get("tool_calls")),
            f"{where}: roles must alternate user/assistant",
        )
        if calls := one.get("tool_calls"):
            _must(role == "assistant" and len({call["id"] for call in calls}) == len(calls), f"{where}: tool_calls")
            for call in calls:
                _must(
                    set(call) == {"id", "type", "function"} and set(call["function"]) == {"name", "arguments"},
                    f"{where}: a call",
                )
                _must(isinstance(call["function"]["arguments"], str) and bool(call["id"]), f"{where}: arguments")
            waiting = [call["id"] for call in calls]
        else:
            _must(isinstance(one.get("content"), str) and bool(one["content"].strip()), f"{where}: content is empty")
        last = role
    _must(not waiting, "tool_call_ids did not have response messages")
    for tool in body.get("tools", ()):
        _must(tool["type"] == "function", "tools: type")
        _check_tool(tool["function"])


def check_responses(body: Mapping[str, Any]) -> None:
    """The same for responses."""
    _must(body.get("store") is False, "store")
    waiting, known = set[str](), set[str]()
    for place, one in enumerate(body["input"]):
        where = f"input[{place}]"
        match one.get("type"):
            case "function_call":
                _must(set(one) == {"type", "call_id", "name", "arguments"}, f"{where}: fields")
                waiting.add(one["call_id"])
            case "function_call_output":
                _must(one["call_id"] in waiting - known, f"{where}: no tool call found for {one['call_id']}")
                known.add(one["call_id"])
            case "reasoning":
                _must(bool(one.get("encrypted_content")), f"{where}: reasoning")
            case None:
                _must(one.get("role") in ("user", "assistant") and bool(one["content"].strip()), f"{where}: a message")
            case other:
                _must(False, f"{where}: type {other}")
    _must(waiting == known, f"no tool output found for {waiting - known}")
    for tool in body.get("tools", ()):
        _must(tool["type"] == "function", "tools: type")
        _check_tool({name: value for name, value in tool.items() if name not in ("type", "strict")})


def _check_tool(tool: Mapping[str, Any]) -> None:
    _must(set(tool) == {"name", "description", "parameters"}, f"a tool's fields: {sorted(tool)}")
    _must(bool(_NAME.fullmatch(tool["name"])) and 0 < len(tool["description"]) <= 1024, f"a tool: {tool['name']}")
    schema = tool["parameters"]
    _must(schema.get("type") == "object" and schema.get("additionalProperties") is False, f"{tool['name']}: parameters")
    _must("$ref" not in json.dumps(schema), f"{tool['name']}: references are not resolved by every server")


# What is answered ------------------------------------------------------------------------------------------------------


def _pieces(text: str) -> list[str]:
    size = max(7, len(text) // 500)
    return [text[at : at + size] for at in range(0, len(text), size)]


def _arguments(given: Any) -> str:
    return given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)


def _finish(step: Step) -> str:
    return step.finish or ("tool_calls" if step.calls else "stop")


_USED = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
_USED_TOO = {"input_tokens": 100, "output_tokens": 20, "total_tokens": 120}


def _chat_events(step: Step) -> Iterator[dict[str, Any]]:
    def chunk(delta: Mapping[str, Any], finish: str | None = None) -> dict[str, Any]:
        return {
            "id": "c1", "object": "chat.completion.chunk", "created": 1, "model": MODEL,
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], "obfuscation": "xyz",
        }  # fmt: skip

    yield chunk({"role": "assistant", "content": "" if step.text else None})
    for piece in _pieces(step.text):
        yield chunk({"content": piece})
    if step.refusal:
        yield chunk({"refusal": step.refusal})
    for index, (name, given) in enumerate(step.calls):
        yield chunk(
            {
                "tool_calls": [
                    {
                        "index": index,
                        "id": f"call_{name}_{index}",
                        "type": "function",
                        "function": {"name": name, "arguments": ""},
                    }
                ]
            }
        )
        for piece in _pieces(_arguments(given)):
            yield chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    yield chunk({}, _finish(step))
    if step.usage:
        yield {
            "id": "c1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": MODEL,
            "choices": [],
            "usage": _USED,
        }


def _chat_whole(step: Step) -> dict[str, Any]:
    calls = [
        {"id": f"call_{name}_{index}", "type": "function", "function": {"name": name, "arguments": _arguments(given)}}
        for index, (name, given) in enumerate(step.calls)
    ]  # fmt: skip
    message = {
        "role": "assistant",
        "content": step.text or None,
        "refusal": step.refusal or None,
        **({"tool_calls": calls} if calls else {}),
    }
    choice = {"index": 0, "message": message, "finish_reason": _finish(step)}
    return {"id": "c1", "object": "chat.completion", "model": MODEL, "choices": [choice], "usage": _USED}


def _response_items(step: Step) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = [
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA", "status": "completed"}
    ]
    content = [{"type": "output_text", "text": step.text, "annotations": []}] if step.text else []
    content += [{"type": "refusal", "refusal": step.refusal}] if step.refusal else []
    if content:
        items.append({"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": content})
    return items + [
        {"type": "function_call", "id": f"fc_{index}", "call_id": f"call_{name}_{index}", "name": name, "arguments": _arguments(given), "status": "completed"}
        for index, (name, given) in enumerate(step.calls)
    ]  # fmt: skip


def _response_whole(step: Step) -> dict[str, Any]:
    why = {"length": "max_output_tokens", "content_filter": "content_filter"}.get(step.finish)
    return {
        "id": "resp_1", "object": "response", "model": MODEL, "status": "incomplete" if why else "completed", "error": None,
        "incomplete_details": {"reason": why} if why else None, "output": _response_items(step), "usage": _USED_TOO if step.usage else None,
    }  # fmt: skip


def _response_events(step: Step) -> Iterator[dict[str, Any]]:
    whole = _response_whole(step)
    yield {"type": "response.created", "response": {**whole, "output": [], "status": "in_progress"}}
    for place, item in enumerate(whole["output"]):
        yield {"type": "response.output_item.added", "output_index": place, "item": {**item, "status": "in_progress"}}
        if item["type"] == "message":
            for piece in _pieces(step.text):
                yield {"type": "response.output_text.delta", "output_index": place, "delta": piece}
            if step.refusal:
                yield {"type": "response.refusal.delta", "output_index": place, "delta": step.refusal}
        elif item["type"] == "function_call":
            for piece in _pieces(item["arguments"]):
                yield {"type": "response.function_call_arguments.delta", "output_index": place, "delta": piece}
        yield {"type": "response.output_item.done", "output_index": place, "item": item}
    yield {"type": "response.completed" if whole["status"] == "completed" else "response.incomplete", "response": whole}


# The wire --------------------------------------------------------------------------------------------------------------


async def _request(conn: h11.Connection, stream: trio.SocketStream) -> tuple[h11.Request | None, bytes]:
    head, body = None, b""
    while True:
        event = conn.next_event()
        if event is h11.NEED_DATA:
            conn.receive_data(await stream.receive_some())
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            return head, body
        else:
            return None, b""


async def _send_whole(
    conn: h11.Connection, stream: trio.SocketStream, status: int, value: Any, headers: list[tuple[str, str]] | None = None
) -> None:  # fmt: skip
    raw = json.dumps(value, ensure_ascii=False).encode()
    fields = [("content-type", "application/json"), ("content-length", str(len(raw))), *(headers or [])]
    for event in (h11.Response(status_code=status, headers=fields), h11.Data(data=raw), h11.EndOfMessage()):
        await stream.send_all(conn.send(event) or b"")


async def _until_gone(stream: trio.SocketStream) -> None:
    while await stream.receive_some():
        pass
