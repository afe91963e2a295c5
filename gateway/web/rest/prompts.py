"""`/prompts`: what bots are to say and how; versions, the active one, validation, and a try on the installation's model.

What is a mistake and what saving does is `gateway/web/content/prompts.py`'s; read that first.
"""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydantic import ConfigDict, Field, StrictInt
from pydantic.config import JsonDict

from adapters.llm.protocol import ModelFailed
from gateway.domain.ids import TenantId
from gateway.domain.posts import Invalid
from gateway.domain.prompts import LONGEST_DRAFT, LONGEST_NAME, LONGEST_NOTE, MOST_VARIABLES, Flaw, Variable
from gateway.domain.text import texts_of
from gateway.store import prompts as store
from gateway.store.postgres.pool import Connection
from gateway.store.prompts import PromptRow, VersionRow
from gateway.web.content import prompts as content
from gateway.web.content.prompts import Saved, shown_flaws, shown_prompt, shown_version
from gateway.web.content.sandbox import LONGEST_MESSAGE
from gateway.web.http.routes import Give, Response, problem
from gateway.web.pages.live import sse
from gateway.web.rest.deps import RestDeps
from gateway.web.rest.endpoints import Call, Endpoint, ListQuery, Missing, Model, Page, Shown, reply

LARGEST = 1 << 20
"""Bytes of a body: every letter of the longest draft may be written as an escape."""
_VARIABLE: JsonDict = {"key": "delivery_fee", "label": "Delivery", "default_value": "5 BYN", "source": "custom"}
_CONTENT = "# Role\nYou are the operator of {{business_name}}.\n# Rules\nBe kind.\n# Catalog\n{{catalog}}"
_PROMPT: JsonDict = {
    "id": "3f0c9a1b2d4e5f60", "business_id": "0367", "name": "Main", "content": _CONTENT, "variables": [_VARIABLE],
    "is_active": True, "active_version": 3, "version": 3, "created_at": "2026-11-21T08:00:00Z",
    "updated_at": "2026-11-22T08:00:00Z",
}  # fmt: skip
_NO_PROMPT = "There is no such prompt."


def _example(values: JsonDict) -> ConfigDict:
    return ConfigDict(frozen=True, json_schema_extra={"examples": [values]})


class VariableItem(Shown):
    """A placeholder that the prompt explains."""

    key: str
    label: str
    default_value: str
    source: str = Field(json_schema_extra={"enum": ["business_profile", "menu", "custom"]})


class PromptItem(Shown):
    """A prompt with its newest version."""

    model_config = _example(_PROMPT)

    id: str
    business_id: str
    name: str
    content: str
    variables: list[VariableItem]
    is_active: bool = Field(description="bots get this prompt")
    active_version: int | None = Field(description="which version they get: an older one while the newest is a draft")
    version: int
    created_at: datetime
    updated_at: datetime


class Mistake(Shown):
    """What is wrong in a text, and where: from 1, in characters; 1, 1 where it has no place."""

    message: str
    line: int
    column: int


class SavedPrompt(PromptItem):
    """A prompt after a change, and what keeps its newest version from being active."""

    model_config = _example({**_PROMPT, "errors": []})

    errors: list[Mistake]


class PromptsPage(Page[PromptItem]):
    """Prompts, the active one first, then by name."""


class VersionItem(Shown):
    """One version. It never changes."""

    model_config = _example({
        "id": "3f0c9a1b2d4e5f60:3", "prompt_id": "3f0c9a1b2d4e5f60", "version": 3, "content": _CONTENT, "variables": [_VARIABLE],
        "note": "delivery", "changed_by": "admin@june.example", "created_at": "2026-11-22T08:00:00Z",
    })  # fmt: skip

    id: str
    prompt_id: str
    content: str
    variables: list[VariableItem]
    version: int
    note: str
    changed_by: str
    created_at: datetime


class HistoryPage(Page[VersionItem]):
    """Versions, newest first."""


def _body(values: JsonDict) -> ConfigDict:
    return ConfigDict(extra="forbid", frozen=True, json_schema_extra={"examples": [values]})


_VARIABLES = Field(None, max_length=MOST_VARIABLES, description="placeholders of its own; absent: as they are")


class PromptBody(Model):
    """A text to save as a new version."""

    model_config = _body({"name": "Main", "content": _CONTENT, "variables": [_VARIABLE], "note": "delivery"})

    name: str | None = Field(
        None, json_schema_extra={"maxLength": LONGEST_NAME}, description="of which prompt; absent: of the active one"
    )
    content: str = Field(json_schema_extra={"maxLength": LONGEST_DRAFT})
    variables: list[Variable] | None = _VARIABLES
    note: str | None = Field(None, json_schema_extra={"maxLength": LONGEST_NOTE}, description="for the history")
    draft: bool = Field(False, description="bots do not get it even without mistakes")


class RestoreBody(Model):
    """Which version."""

    model_config = _body({"version": 2})

    version: StrictInt = Field(ge=1, le=(1 << 31) - 1)


class ValidateBody(Model):
    """A text to look through."""

    model_config = _body({"content": _CONTENT, "variables": []})

    content: str
    variables: list[Variable] | None = Field(None, max_length=MOST_VARIABLES)


class Validated(Shown):
    """Whether the text could be active."""

    model_config = _example({
        "valid": False, "errors": [{"message": "{{delivery}} is not known", "line": 4, "column": 7}], "variables": ["delivery"],
    })  # fmt: skip

    valid: bool
    errors: list[Mistake]
    variables: list[str] = Field(description="keys of the placeholders in the text")


class TryBody(Model):
    """A prompt, saved or not, and what a customer says."""

    model_config = _body({"content": _CONTENT, "message": "Do you deliver?"})

    content: str
    message: str = Field(json_schema_extra={"maxLength": LONGEST_MESSAGE})
    variables: list[Variable] | None = Field(None, max_length=MOST_VARIABLES)


class TryAnswer(Shown):
    """What the model said. Counts are null where its server does not name them."""

    model_config = _example(
        {"response": "Yes, for 5 BYN.", "prompt_tokens": 412, "completion_tokens": 9, "model": "gpt-5.2"}
    )

    response: str
    prompt_tokens: int | None
    completion_tokens: int | None
    model: str


def _saved(number: TenantId, prompt: PromptRow, flaws: Sequence[Flaw], language: str) -> SavedPrompt:
    return SavedPrompt.model_validate({**shown_prompt(number, prompt), "errors": shown_flaws(flaws, language)})


def _order(prompt: PromptRow) -> list[str | int]:
    return [0 if prompt.is_active else 1, prompt.name.lower(), prompt.prompt_id]


def _plain(variables: Sequence[Variable] | None) -> list[dict[str, Any]] | None:
    return None if variables is None else [one.plain() for one in variables]


async def _active(conn: Connection, number: TenantId) -> tuple[PromptRow, VersionRow] | None:
    found = await store.select_active(conn, number)
    row = await store.select_prompt(conn, number, found[1].prompt_id) if found is not None else None
    return (row, found[1]) if row is not None and found is not None else None


def failure(failed: ModelFailed, language: str) -> Response:
    """The problem that a model's failure comes to."""
    status, code = {
        "busy": (429, "RATE_LIMITED"), "rate_limited": (429, "RATE_LIMITED"), "too_long": (422, "VALIDATION_ERROR"),
        "not_configured": (503, "CONFIG_INVALID"), "bad_key": (503, "CONFIG_INVALID"), "no_model": (503, "CONFIG_INVALID"),
    }.get(failed.code, (502, "EXTERNAL_SERVICE_ERROR"))  # fmt: skip
    errors = [("content", str(failed.text))] if status == 422 else []
    return problem(
        status, code, texts_of(failed.text)[language], retryable=failed.retryable,
        retry_after=(failed.retry_after_s or 5.0) if failed.retryable else None, errors=errors, reason=failed.code,
    )  # fmt: skip


def prompts(deps: RestDeps) -> list[Endpoint]:
    """The endpoints."""

    def item(call: Call, prompt: PromptRow) -> PromptItem:
        return PromptItem.model_validate(shown_prompt(call.tenant.number, prompt))

    async def listed(call: Call) -> PromptsPage:
        number, limit = call.tenant.number, call.query.limit
        after = deps.cursors.wanted(number, "prompts", call.query.cursor)
        rows = sorted(await deps.db.tenant(number, store.select_prompts, number), key=_order)
        rest = [row for row in rows if after is None or _order(row) > after]
        onward = deps.cursors.new(number, "prompts", _order(rest[limit - 1])) if len(rest) > limit else None
        return PromptsPage(items=[item(call, row) for row in rest[:limit]], next=onward)

    async def active(call: Call) -> PromptItem:
        found = await deps.db.tenant(call.tenant.number, _active, call.tenant.number)
        if found is None:
            raise Missing("No prompt is active.")
        row, version = found
        shown = {**shown_prompt(call.tenant.number, row), "content": version.content, "version": version.version}
        return PromptItem.model_validate({**shown, "variables": [one.plain() for one in version.variables]})

    async def known(call: Call) -> PromptRow:
        row = await deps.db.tenant(call.tenant.number, store.select_prompt, call.tenant.number, call.param("id"))
        if row is None:
            raise Missing(_NO_PROMPT)
        return row

    async def show(call: Call) -> PromptItem:
        return item(call, await known(call))

    def answer(call: Call, saved: Saved) -> Response:
        return reply(_saved(call.tenant.number, saved.prompt, saved.flaws, call.language), 201)

    async def save(call: Call) -> Response:
        body: PromptBody = call.body

        async def then(conn: Connection, saved: Saved) -> None:
            await call.stored.store(conn, answer(call, saved))

        data = {"name": body.name, "content": body.content, "variables": _plain(body.variables), "note": body.note}
        saved = await content.save_prompt(
            deps.db, call.tenant.number, data, call.caller.actor, draft=body.draft, then=then
        )
        return answer(call, saved)

    async def restore(call: Call) -> Response:
        async def then(conn: Connection, saved: Saved) -> None:
            await call.stored.store(conn, answer(call, saved))

        saved = await content.restore(
            deps.db, call.tenant.number, call.param("id"), call.body.version, call.caller.actor, then=then
        )
        if saved is None:
            raise Missing(_NO_PROMPT)
        return answer(call, saved)

    async def activate(call: Call) -> PromptItem:
        saved = await content.activate(deps.db, call.tenant.number, call.param("id"), call.caller.actor)
        if saved is None:
            raise Missing(_NO_PROMPT)
        return item(call, saved.prompt)

    async def delete(call: Call) -> Response | None:
        try:
            gone = await content.delete(deps.db, call.tenant.number, call.param("id"), call.caller.actor)
        except Invalid as error:
            return problem(409, "CONFLICT", "Another prompt has to be active first.", errors=error.problems)
        if not gone:
            raise Missing(_NO_PROMPT)
        return None

    async def history(call: Call) -> HistoryPage:
        row, number, limit = await known(call), call.tenant.number, call.query.limit
        place = f"prompt {row.prompt_id}"
        after = deps.cursors.wanted(number, place, call.query.cursor)
        before = int(after[0]) if after else None
        found = await deps.db.tenant(
            number, store.select_history, number, row.prompt_id, before=before, limit=limit + 1
        )
        onward = deps.cursors.new(number, place, [found[limit - 1].version]) if len(found) > limit else None
        return HistoryPage(items=[VersionItem.model_validate(shown_version(one)) for one in found[:limit]], next=onward)

    async def validate(call: Call) -> Validated:
        body: ValidateBody = call.body
        found = await content.validate_prompt(
            deps.db, call.tenant.number, body.content, _plain(body.variables) or (), call.language
        )
        return Validated.model_validate(found)

    async def test(call: Call) -> TryAnswer | Response:
        body: TryBody = call.body
        sent = (body.content, body.message, _plain(body.variables) or ())
        try:
            deps.sandbox.check(call.tenant.number, *sent)
            if "text/event-stream" in call.request.headers.get("accept", ""):
                headers = (("X-Accel-Buffering", "no"),)
                return Response(
                    content_type="text/event-stream; charset=utf-8", headers=headers, work=_streamed(call, sent)
                )
            found = await deps.sandbox.test_prompt(deps.db, call.tenant, *sent)
        except ModelFailed as failed:
            return failure(failed, call.language)
        return TryAnswer.model_validate(found.plain())

    def _streamed(call: Call, sent: tuple[Any, Any, Any]) -> Any:
        async def work(give: Give) -> None:
            async def piece(text: str) -> None:
                await give(sse("piece", json.dumps({"text": text}, ensure_ascii=False)))

            try:
                found = await deps.sandbox.test_prompt(deps.db, call.tenant, *sent, piece)
            except ModelFailed as failed:
                await give(sse("error", failure(failed, call.language).body.decode()))
            else:
                await give(sse("done", json.dumps(found.plain(), ensure_ascii=False)))

        return work

    failures = {
        422: "Not valid: `errors` names every field; or too long for the model",
        429: "Too many requests, or too many tries at once; `retry_after` in seconds",
        502: "The model's server failed", 503: "No model is set up, its key is refused, or not available at the moment",
    }  # fmt: skip
    return [
        Endpoint(method="GET", path="/prompts", operation=listed, scopes=("read",), query=ListQuery, answer=PromptsPage,
                 summary="Prompts, the active one first"),
        Endpoint(method="POST", path="/prompts", operation=save, scopes=("write",), body=PromptBody, answer=SavedPrompt, status=201,
                 makes=True, atomic=True, body_limit=LARGEST,
                 summary="Save a new version; bots get it at once if it is the active prompt's and has no mistakes"),
        Endpoint(method="GET", path="/prompts/active", operation=active, scopes=("read",), answer=PromptItem,
                 problems={404: "No prompt is active"}, summary="What bots get: the active prompt with the version that is active"),
        Endpoint(method="POST", path="/prompts/validate", operation=validate, scopes=("read", "write"), body=ValidateBody,
                 answer=Validated, body_limit=LARGEST, summary="Look through a text for mistakes, without saving it"),
        Endpoint(method="POST", path="/prompts/test", operation=test, scopes=("write",), body=TryBody, answer=TryAnswer,
                 content_type="text/event-stream", body_limit=LARGEST, problems=failures,
                 headers={"Accept": "`text/event-stream`: events `piece` {text}, then `done` as the JSON, or `error` as a problem"},
                 summary="Try a prompt on the installation's language model"),
        Endpoint(method="GET", path="/prompts/{id}", operation=show, scopes=("read",), answer=PromptItem, summary="One prompt"),
        Endpoint(method="DELETE", path="/prompts/{id}", operation=delete, scopes=("write",),
                 problems={409: "It is the active one"}, summary="Remove a prompt with its history"),
        Endpoint(method="GET", path="/prompts/{id}/history", operation=history, scopes=("read",), query=ListQuery,
                 answer=HistoryPage, summary="Versions of a prompt, newest first"),
        Endpoint(method="POST", path="/prompts/{id}/restore", operation=restore, scopes=("write",), body=RestoreBody,
                 answer=SavedPrompt, status=201, makes=True, atomic=True,
                 summary="Save a new version with the very same text as an old one"),
        Endpoint(method="POST", path="/prompts/{id}/activate", operation=activate, scopes=("write",), answer=PromptItem,
                 summary="Give bots this prompt; every other one is inactive then"),
    ]  # fmt: skip
