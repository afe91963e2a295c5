"""Chat completions: the body of a request, and what is read of the answer. Pure.

Servers differ: pieces of calls without an index or an id, arguments as an object, no counts of tokens, no last line, an error within a
stream of status 200. All of that is read.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from adapters.llm.protocol import Called, Question, Result, Said, Text, ToolCall, Turn, count

PATH = "chat/completions"


def body_of(question: Question, model: str) -> dict[str, Any]:
    """The request."""
    body: dict[str, Any] = {
        "model": model, "messages": [_message(turn) for turn in question.turns], "stream": True,
        "stream_options": {"include_usage": True},
    }  # fmt: skip
    if question.tools:
        body["tools"] = [
            {"type": "function", "function": {"name": one.name, "description": one.description, "parameters": dict(one.schema)}}
            for one in question.tools
        ]  # fmt: skip
    if question.max_tokens is not None:
        body["max_completion_tokens"] = question.max_tokens
    return body


def _message(turn: Turn) -> dict[str, Any]:
    match turn:
        case Text():
            return {"role": turn.role, "content": turn.text}
        case Called():
            calls = [
                {"id": one.id, "type": "function", "function": {"name": one.name, "arguments": one.arguments}}
                for one in turn.calls
            ]
            return {"role": "assistant", "content": turn.text or None, "tool_calls": calls}
        case Result():
            return {"role": "tool", "tool_call_id": turn.call_id, "content": turn.text}


class ChatReader:
    """One answer."""

    def __init__(self) -> None:
        self.error: Any = None
        self.size = 0
        self.begun = False
        self._model = ""
        self._text = list[str]()
        self._refusal = list[str]()
        self._usage: Mapping[str, Any] = {}
        self._finish = ""
        self._calls: dict[Any, list[str]] = {}
        """By index: id, name, arguments."""
        self.closed = False

    def feed(self, event: Mapping[str, Any]) -> str:
        """Takes an event; returns the text that it adds."""
        return self._take(event, "delta")

    def whole(self, body: Mapping[str, Any]) -> str:
        """Takes an answer that came at once."""
        return self._take(body, "message")

    def _take(self, event: Mapping[str, Any], name: str) -> str:
        if event.get("error"):
            self.error, self.closed = event["error"], True
        if isinstance(model := event.get("model"), str):
            self._model = model
        if isinstance(usage := event.get("usage"), Mapping):
            self._usage = usage
        choices = event.get("choices")
        first = choices[0] if isinstance(choices, Sequence) and choices and isinstance(choices[0], Mapping) else {}
        self._finish = str(first.get("finish_reason") or self._finish)
        given = first.get(name)
        if not isinstance(given, Mapping):
            return ""
        if any(given.get(field) for field in ("content", "refusal", "tool_calls", "reasoning_content", "reasoning")):
            self.begun = True
        for place, call in enumerate(given.get("tool_calls") or ()):
            if isinstance(call, Mapping):
                self._call(call, place)
        if isinstance(text := given.get("content"), str):
            self._text.append(text)
        elif isinstance(text := given.get("refusal"), str):
            self._refusal.append(text)
        else:
            return ""
        self.size += len(text)
        return text

    def _call(self, call: Mapping[str, Any], place: int) -> None:
        function = call.get("function")
        function = function if isinstance(function, Mapping) else {}
        named, arguments = function.get("name"), function.get("arguments")
        index = call.get("index")
        if not isinstance(index, int):
            known = [key for key, (ident, *_) in self._calls.items() if ident and ident == call.get("id")]
            # A piece that names nothing goes on with the last call; one with a name is another call.
            index = (
                known[0] if known else len(self._calls) if named or not self._calls else len(self._calls) - 1 + place
            )
        kept = self._calls.setdefault(index, ["", "", ""])
        kept[0] = kept[0] or str(call.get("id") or "")
        kept[1] = kept[1] or str(named or "")
        piece = arguments if isinstance(arguments, str) else json.dumps(arguments) if arguments is not None else ""
        kept[2] += piece
        self.size += len(piece)

    def said(self, model: str) -> Said:
        """What there is."""
        calls = tuple(
            ToolCall(ident or f"call_{place}", name, arguments)
            for place, (ident, name, arguments) in enumerate(self._calls.values()) if name
        )  # fmt: skip
        text = "".join(self._text)
        return Said(
            text=text or "".join(self._refusal), model=self._model or model, calls=calls, cut=self._finish == "length",
            prompt_tokens=count(self._usage.get("prompt_tokens")), completion_tokens=count(self._usage.get("completion_tokens")),
            ended=bool(self._finish), refused=(not text and bool(self._refusal)) or self._finish == "content_filter",
        )  # fmt: skip
