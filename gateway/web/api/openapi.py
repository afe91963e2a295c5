"""The API document: OpenAPI 3.1 made from the table of addresses, and the same as a readable page.

Owns only the two renderings; their content comes from the table. Read `gateway/web/http/routes.py` next.
"""

import hashlib
import html
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any

from gateway.web.http.routes import FORM, JSON, PROBLEM, Address, Handler, Request, Response, answer_json


def openapi(table: Sequence[Address]) -> dict[str, Any]:
    """OpenAPI 3.1 of the table."""
    paths: dict[str, dict[str, Any]] = {}
    for address in table:
        names = [part[1:-1] for part in address.path.split("/") if part.startswith("{")]
        operation: dict[str, Any] = {"summary": address.summary, "responses": {}}
        operation["operationId"] = re.sub(r"\W+", "_", f"{address.method.lower()}{address.path}").strip("_")
        if names:
            operation["parameters"] = [
                {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
            ]
        if address.schema is not None:
            content = {kind: {"schema": address.schema} for kind in (JSON, FORM)}
            operation["requestBody"] = {"required": True, "content": content}
        for status, text in address.answers.items():
            operation["responses"][str(status)] = {"description": text}
            if status >= 400:
                operation["responses"][str(status)]["content"] = {
                    PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}
                }
        if address.operator:
            operation["security"] = [{"operator": []}]
        paths.setdefault(address.path, {})[address.method.lower()] = operation
    shape = {"type": "string"}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Telephony gateway", "version": "1"},
        "paths": paths,
        "components": {
            "securitySchemes": {"operator": {"type": "http", "scheme": "bearer"}},
            "schemas": {
                "Problem": {
                    "type": "object", "required": ["title", "status", "code", "retryable"],
                    "properties": {
                        "type": shape, "title": shape, "status": {"type": "integer"}, "code": shape, "detail": shape,
                        "retryable": {"type": "boolean"}, "retry_after": {"type": "number"},
                        "errors": {"type": "array", "items": {"type": "object",
                                   "properties": {"field": shape, "message": shape}}},
                    },
                }
            },
        },
    }  # fmt: skip


def document_handler(table: list[Address]) -> Handler:
    async def document(request: Request) -> Response:
        return answer_json(openapi(table))

    return document


_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1c2127;background:#fff}"
    "h2{margin-top:2rem;font-size:1.1rem;overflow-wrap:anywhere}table{border-collapse:collapse;width:100%}"
    "td,th{border:1px solid #b6bec8;padding:.3rem .6rem;text-align:left;vertical-align:top;overflow-wrap:anywhere}"
)


def page_handler(table: list[Address]) -> Handler:
    def rows(pairs: Sequence[tuple[str, str]], first: str, second: str) -> str:
        body = "".join(f"<tr><td><code>{html.escape(a)}</code></td><td>{html.escape(b)}</td></tr>" for a, b in pairs)
        head = f"<tr><th scope=col>{first}</th><th scope=col>{second}</th></tr>"
        return f"<table><thead>{head}</thead><tbody>{body}</tbody></table>"

    def shape(schema: Mapping[str, Any]) -> str:
        kinds = schema.get("enum", schema.get("type", ""))
        listed = " or ".join("null" if kind is None else str(kind) or '""' for kind in kinds) \
            if isinstance(kinds, list) else str(kinds)  # fmt: skip
        return "; ".join(part for part in (listed, str(schema.get("description", ""))) if part)

    def section(address: Address) -> str:
        parts = [
            f"<h2><code>{address.method} {html.escape(address.path)}</code></h2><p>{html.escape(address.summary)}."
        ]
        parts.append(" For operators.</p>" if address.operator else "</p>")
        if address.schema is not None:
            needed = address.schema.get("required", ())
            pairs = [
                (name, shape(inner) + ("; required" if name in needed else ""))
                for name, inner in address.schema.get("properties", {}).items()
            ]
            # A body whose names are not fixed, such as a map, is described as a whole.
            rest = address.schema.get("additionalProperties")
            if isinstance(rest, Mapping):
                pairs.append(("any name", shape(rest)))
            if description := address.schema.get("description"):
                parts.append(f"<p>{html.escape(str(description))}</p>")
            parts.append(rows(pairs or [("the body", shape(address.schema) or "any")], "Field", "Value"))
        return "".join([*parts, rows([(str(k), v) for k, v in address.answers.items()], "Status", "Meaning")])

    style_hash = b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{style_hash}'; base-uri 'none'; frame-ancestors 'none'"

    async def page(request: Request) -> Response:
        text = (
            '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Telephony gateway: API</title>'
            f'<meta name="viewport" content="width=device-width,initial-scale=1"><style>{_STYLE}</style></head><body><main>'
            '<h1>Telephony gateway: API</h1><p>As a document: <a href="/api/openapi.json">OpenAPI 3.1</a>. Errors are '
            "<code>application/problem+json</code> with <code>code</code> and <code>retryable</code>.</p>"
            f"{''.join(map(section, table))}</main></body></html>"
        )
        headers = (("Content-Security-Policy", policy),)
        return Response(body=text.encode(), content_type="text/html; charset=utf-8", headers=headers)

    return page
