"""The API's document: OpenAPI 3.1 made from the table of addresses. `reference.py` makes the readable page of it.

An address describes its query, body and answers by models, or its body by a JSON Schema; where it names neither, that is what the
document says. Read `gateway/web/http/routes.py` for the table.
"""

import re
from collections.abc import Sequence
from typing import Any

import trio
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from gateway import __version__
from gateway.web.http.routes import FORM, JSON, PROBLEM, Address, Handler, Request, Response, answer_json

KEY_SCHEMES: tuple[dict[str, list[str]], ...] = ({"bearer": []}, {"apiKey": []}, {"session": []})
_REF = "#/components/schemas/{model}"
_TENANT = "#/components/parameters/tenant"
_PROBLEM_EXAMPLE = {
    "type": "about:blank", "title": "Unprocessable content", "status": 422, "code": "VALIDATION_ERROR",
    "detail": "The request is not valid.", "retryable": False,
    "errors": [{"path": "limit", "message": "Input should be less than or equal to 200", "field": "limit"}],
}  # fmt: skip
_CODES = (
    "VALIDATION_ERROR", "AUTH_FAILED", "NOT_FOUND", "CONFLICT", "RATE_LIMITED", "FORBIDDEN", "CONNECTION_FAILED",
    "EXTERNAL_SERVICE_ERROR", "CONFIG_INVALID", "PAYLOAD_TOO_LARGE", "UNAVAILABLE",
)  # fmt: skip


def openapi(table: Sequence[Address]) -> dict[str, Any]:
    """OpenAPI 3.1 of the table."""
    shown = [address for address in table if not address.hidden]
    references, schemas = _schemas(shown)
    paths: dict[str, dict[str, Any]] = {}
    for address in shown:
        paths.setdefault(address.path, {})[address.method.lower()] = _operation(address, references)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Telephony gateway", "version": __version__, "description": (
            "Errors are `application/problem+json` with `code` and `retryable`. A key or a token of one goes into `Authorization: "
            "Bearer …` or `X-API-Key`, never into the address.")},
        "paths": paths,
        "tags": [{"name": name} for name in dict.fromkeys(address.section for address in shown)],
        "components": {
            "securitySchemes": {
                "operator": {"type": "http", "scheme": "bearer", "description": "GATEWAY_OPERATOR_TOKEN"},
                "bearer": {"type": "http", "scheme": "bearer", "description": "an API key, or a token made from one"},
                "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                "session": {"type": "apiKey", "in": "cookie", "name": "session", "description":
                            "a signed-in person; POST, PUT, PATCH and DELETE with the X-CSRF-Token that every answer to a GET brings"},
            },
            "parameters": {"tenant": {
                "name": "tenant", "in": "query", "required": False, "schema": {"type": "string"}, "description":
                "by session: the company, where a person belongs to several; an operator's while acting as it. A key's is its own"}},
            "schemas": {**schemas, "Problem": _problem_schema()},
        },
    }  # fmt: skip


def _problem_schema() -> dict[str, Any]:
    text = {"type": "string"}
    return {
        "type": "object", "required": ["type", "title", "status", "code", "detail", "retryable"],
        "properties": {
            "type": text, "title": text, "status": {"type": "integer"}, "code": {"enum": list(_CODES)}, "detail": text,
            "retryable": {"type": "boolean"}, "retry_after": {"type": "number", "description": "seconds"},
            "errors": {"type": "array", "items": {
                "type": "object", "required": ["path", "message"],
                "properties": {"path": text, "message": text, "field": {"type": "string", "deprecated": True,
                                                                       "description": "the same as path"}}}},
        },
        "examples": [_PROBLEM_EXAMPLE],
    }  # fmt: skip


def _schemas(table: Sequence[Address]) -> tuple[dict[Any, dict[str, Any]], dict[str, Any]]:
    """References to the models of all addresses, by model and direction, and the schemas that they lead to."""
    wanted: dict[tuple[type[BaseModel], str], None] = {}
    for address in table:
        if address.body is not None:
            wanted[address.body, "validation"] = None
        if address.query is not None:
            wanted[address.query, "validation"] = None
        for model in address.replies.values():
            wanted[model, "serialization"] = None
    if not wanted:
        return {}, {}
    references, definitions = models_json_schema(list(wanted), ref_template=_REF)  # type: ignore[arg-type] # a list of pairs, whose modes mypy reads as str
    return dict(references), definitions.get("$defs", {})


def _operation(address: Address, references: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    operation: dict[str, Any] = {"summary": address.summary, "tags": [address.section], "responses": {}}
    operation["operationId"] = re.sub(r"\W+", "_", f"{address.method.lower()}{address.path}").strip("_")
    if parameters := _parameters(address):
        operation["parameters"] = parameters
    if address.body is not None:
        schema = references[address.body, "validation"]
        operation["requestBody"] = {
            "required": any(field.is_required() for field in address.body.model_fields.values()),
            "content": {
                JSON: _with_example({"schema": schema}, address.body),
                **{kind: _other_body(kind, example) for kind, example in address.accepts.items()},
            },
        }
    elif address.accepts:
        binary = {"type": "string", "format": "binary"}
        content = {
            kind: {"schema": address.schema if address.schema is not None and kind.startswith("multipart/") else binary}
            for kind in address.accepts
        }
        operation["requestBody"] = {"required": True, "content": content}
    elif address.schema is not None and address.method != "GET":
        content = {kind: {"schema": address.schema} for kind in (JSON, FORM)}
        operation["requestBody"] = {"required": True, "content": content}
    for status, text in answers_of(address).items():
        answer: dict[str, Any] = {"description": text}
        if status >= 400:
            answer["content"] = {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}
        elif status not in (204, 304):
            answer["content"] = {}
            if (model := address.replies.get(status)) is not None:
                answer["content"][JSON] = _with_example({"schema": references[model, "serialization"]}, model)
            if (kind := address.content.get(status)) is not None:
                answer["content"][kind] = {"schema": {"type": "string"}}
            answer["content"] = answer["content"] or {JSON: {"schema": {}}}
        operation["responses"][str(status)] = answer
    if address.operator:
        operation["security"] = [{"operator": []}]
    elif address.scopes:
        operation["security"] = [one for one in KEY_SCHEMES if address.sessions or "session" not in one]
        operation["description"] = f"Scope: {' or '.join(f'`{scope}`' for scope in address.scopes)}."
    return operation


def answers_of(address: Address) -> dict[int, str]:
    """Every answer: the address's own, and those of the listeners to a body that does not come whole."""
    listed = dict(address.answers)
    if address.method != "GET":
        listed = {
            400: "The body is cut short", 408: "The request came too slowly", 413: f"The body is over {address.body_limit} bytes",
            **listed,
        }  # fmt: skip
    return dict(sorted(listed.items()))


def _other_body(kind: str, example: str) -> dict[str, Any]:
    """A body that is no JSON: a text, or a form with it as a file."""
    if kind != "multipart/form-data":
        return {"schema": {"type": "string"}, "example": example}
    file = {"type": "string", "format": "binary"}
    return {
        "schema": {"type": "object", "properties": {"file": file}, "required": ["file"]}, "example": {"file": example}
    }  # fmt: skip


def _with_example(content: dict[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    example = example_of(model)
    return {**content, "example": example} if example is not None else content


def example_of(model: type[BaseModel]) -> Any:
    """The example of a model; of a list of things, one with the example of a thing."""
    extra = model.model_config.get("json_schema_extra")
    if isinstance(extra, dict) and isinstance(found := extra.get("examples"), list) and found:
        return found[0]
    items = model.model_fields.get("items")
    inner = getattr(items.annotation, "__args__", (None,))[0] if items is not None else None
    if isinstance(inner, type) and issubclass(inner, BaseModel) and (one := example_of(inner)) is not None:
        return {"items": [one], "next": None}
    return None


def _parameters(address: Address) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"name": part[1:-1], "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for part in address.path.split("/")
        if part.startswith("{")
    ]
    if address.query is not None:
        schema = address.query.model_json_schema(mode="validation", ref_template=_REF)
        for name, inner in schema.get("properties", {}).items():
            described = {key: value for key, value in inner.items() if key not in ("title", "description", "default")}
            options = [one for one in described.get("anyOf", []) if one != {"type": "null"}]
            described = options[0] if len(options) == 1 else described
            if "default" in inner and inner["default"] is not None:
                described = {**described, "default": inner["default"]}
            found.append(
                {"name": name, "in": "query", "required": name in schema.get("required", ()), "schema": described,
                 "description": inner.get("description", "")}
            )  # fmt: skip
    if address.schema is not None and address.method == "GET":
        needed = address.schema.get("required", ())
        found += [
            {"name": name, "in": "query", "required": name in needed, "schema": dict(inner)}
            for name, inner in address.schema.get("properties", {}).items()
        ]
    found += [
        {"name": name, "in": "header", "required": False, "schema": {"type": "string"}, "description": text}
        for name, text in address.header_names.items()
    ]
    if address.scopes and address.sessions:
        found.append({"$ref": _TENANT})
    return found


def document_handler(table: list[Address]) -> Handler:
    """`/api/openapi.json`. It is made once, in a thread: the models of all addresses take a while."""
    made: list[Response] = []

    async def document(request: Request) -> Response:
        if not made:
            made.append(await trio.to_thread.run_sync(lambda: answer_json(openapi(table))))
        return made[0]

    return document
