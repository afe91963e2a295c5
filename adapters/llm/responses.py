"""The responses API: the body of a request, and what is read of the answer. Pure.

Nothing is stored at the server; what it wants to have back of its reasoning is carried within one answer.
"""

from collections.abc import Mapping
from typing import Any

from adapters.llm.protocol import Called, Question, Result, Said, Text, ToolCall, Turn, count

PATH = "responses"
_LAST = {"response.completed", "response.incomplete", "response.failed", "error"}


def body_of(question: Question, model: str) -> dict[str, Any]:
    """The request."""
    rules = [turn.text for turn in question.turns if isinstance(turn, Text) and turn.role == "system"]
    body: dict[str, Any] = {
        "model": model, "stream": True, "store": False, "include": ["reasoning.encrypted_content"],
        "input": [item for turn in question.turns for item in _items(turn)],
    }  # fmt: skip
    if rules:
        body["instructions"] = "\n\n".join(rules)
    if question.tools:
        body["tools"] = [
            {"type": "function", "name": one.name, "description": one.description, "parameters": dict(one.schema), "strict": False}
            for one in question.tools
        ]  # fmt: skip
    if question.max_tokens is not None:
        body["max_output_tokens"] = question.max_tokens
    return body


def _items(turn: Turn) -> list[dict[str, Any]]:
    match turn:
        case Text(role="system"):
            return []
        case Text():
            return [{"role": turn.role, "content": turn.text}]
        case Called():
            said = [{"role": "assistant", "content": turn.text}] if turn.text else []
            calls = [
                {"type": "function_call", "call_id": one.id, "name": one.name, "arguments": one.arguments}
                for one in turn.calls
            ]
            return [*map(dict, turn.carried), *said, *calls]
        case Result():
            return [{"type": "function_call_output", "call_id": turn.call_id, "output": turn.text}]


class ResponsesReader:
    """One answer."""

    def __init__(self) -> None:
        self.error: Any = None
        self.size = 0
        self.begun = False
        self.closed = False
        self._text = list[str]()
        self._refusal = list[str]()
        self._items = list[Mapping[str, Any]]()
        self._last: Mapping[str, Any] = {}

    def feed(self, event: Mapping[str, Any]) -> str:
        """Takes an event; returns the text that it adds."""
        kind, delta = str(event.get("type") or ""), event.get("delta")
        if kind.endswith((".delta", "output_item.added")):
            self.begun = True
        if kind in _LAST:
            self.closed = True
            response = event.get("response")
            self._last = response if isinstance(response, Mapping) else {}
            self.error = self._last.get("error") or (event if kind == "error" else None)
            if kind == "response.failed" and self.error is None:
                self.error = {"code": "server_error"}
        elif event.get("error"):
            self.error, self.closed = event["error"], True
        elif kind == "response.output_item.done" and isinstance(item := event.get("item"), Mapping):
            self._items.append(item)
        elif kind == "response.function_call_arguments.delta" and isinstance(delta, str):
            self.size += len(delta)
        elif kind in ("response.output_text.delta", "response.refusal.delta") and isinstance(delta, str):
            (self._text if kind == "response.output_text.delta" else self._refusal).append(delta)
            self.size += len(delta)
            return delta
        return ""

    def whole(self, body: Mapping[str, Any]) -> str:
        """Takes an answer that came at once."""
        self.closed, self._last, self.error = True, body, body.get("error")
        self._items = [item for item in body.get("output") or () if isinstance(item, Mapping)]
        for part in (
            part for item in self._items if item.get("type") == "message" for part in item.get("content") or ()
        ):
            if isinstance(part, Mapping):
                self._text += [part["text"]] if isinstance(part.get("text"), str) else []
                self._refusal += [part["refusal"]] if isinstance(part.get("refusal"), str) else []
        self.begun = True
        return "".join(self._text)

    def said(self, model: str) -> Said:
        """What there is."""
        if not self._items and not self._text:
            self.whole({**self._last, "error": self.error})
        calls = tuple(
            ToolCall(str(item.get("call_id") or f"call_{place}"), str(item.get("name") or ""), str(item.get("arguments") or ""))
            for place, item in enumerate(self._items) if item.get("type") == "function_call"
        )  # fmt: skip
        usage, why = self._last.get("usage"), self._last.get("incomplete_details")
        usage = usage if isinstance(usage, Mapping) else {}
        reason = why.get("reason") if isinstance(why, Mapping) else None
        text = "".join(self._text)
        return Said(
            text=text or "".join(self._refusal), model=str(self._last.get("model") or model), calls=calls,
            carried=tuple(
                {name: value for name, value in item.items() if name != "status"}
                for item in self._items if item.get("type") == "reasoning" and item.get("encrypted_content")
            ),
            prompt_tokens=count(usage.get("input_tokens")), completion_tokens=count(usage.get("output_tokens")),
            cut=reason == "max_output_tokens", ended=bool(self._last),
            refused=(not text and bool(self._refusal)) or reason == "content_filter",
        )  # fmt: skip
