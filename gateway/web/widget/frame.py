"""What a company's page loads: `/widget.js`, the frame's document `/widget/{key}`, and the frame's modules and style.

The document says whose pages may hold it and loads nothing from elsewhere. Modules are served below a hash of all of them, so that
browsers keep them for good and a new version is never mixed with an old one.
"""

import hashlib
import html
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType

from gateway.web.http.routes import Address, Request, Response
from gateway.web.widget.deps import NOBODY, Place, WidgetDeps
from gateway.web.widget.origins import ancestors
from gateway.web.widget.wire import as_json

LOADER = "loader.js"
_KINDS = {"js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8"}
_FOR_GOOD = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class ClientFiles:
    """The browser's side."""

    files: Mapping[str, tuple[str, bytes]]
    """Name to content type and content."""
    version: str


@cache
def client_files() -> ClientFiles:
    """Read once."""
    found = {}
    for entry in sorted(files("gateway.web.widget").joinpath("client").iterdir(), key=lambda one: one.name):
        if (kind := _KINDS.get(entry.name.rpartition(".")[2])) is not None:
            found[entry.name] = (kind, entry.read_bytes())
    digest = hashlib.sha256(b"".join(name.encode() + body for name, (_, body) in found.items()))
    return ClientFiles(MappingProxyType(found), digest.hexdigest()[:16])


def document_policy(place: Place | None, public_url: str) -> str:
    """The content policy of the frame's document."""
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' blob:",
            "connect-src 'self'",
            "form-action 'none'",
            "base-uri 'none'",
            f"frame-ancestors {ancestors(place.widget if place is not None else None, public_url)}",
        )
    )


def document(place: Place) -> str:
    """The frame's document. What people entered is escaped, and read by the frame's script as data."""
    base = f"/widget-files/{client_files().version}"
    widget = place.widget
    held = {
        "key": widget.key, "title": place.title, "color": widget.color, "ink": widget.ink, "greeting": widget.greeting,
        "identity": widget.identity_required, "language": place.tenant.language,
    }  # fmt: skip
    return (
        f'<!doctype html>\n<html lang="{html.escape(place.tenant.language)}" data-widget="{html.escape(as_json(held))}">\n'
        '<head>\n<meta charset="utf-8">\n<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{html.escape(place.title)}</title>\n<link rel="stylesheet" href="{base}/frame.css">\n'
        f'<script type="module" src="{base}/frame.js"></script>\n</head>\n<body></body>\n</html>\n'
    )


def frame_addresses(deps: WidgetDeps) -> list[Address]:
    """The addresses, open to everybody."""

    async def loader(request: Request) -> Response:
        kind, body = client_files().files[LOADER]
        headers = (("Cache-Control", "public, max-age=3600"), ("Cross-Origin-Resource-Policy", "cross-origin"))
        return Response(body=body, content_type=kind, headers=headers)

    async def module(request: Request) -> Response:
        held = client_files()
        found = held.files.get(request.params["name"])
        if found is None or request.params["name"] == LOADER:
            return NOBODY
        fresh = request.params["version"] == held.version
        return Response(
            body=found[1], content_type=found[0], headers=(("Cache-Control", _FOR_GOOD if fresh else "no-store"),)
        )

    async def frame(request: Request) -> Response:
        place = deps.find(request.params["key"])
        headers = (
            ("Content-Security-Policy", document_policy(place, deps.public_url)),
            ("Cross-Origin-Resource-Policy", "cross-origin"),
        )
        if place is None:
            text = "<!doctype html><title>404</title><p>There is no such widget, or it is switched off.</p>"
            return Response(status=404, body=text.encode(), content_type="text/html; charset=utf-8", headers=headers)
        return Response(body=document(place).encode(), content_type="text/html; charset=utf-8", headers=headers)

    return [
        Address(method="GET", path="/widget.js", handler=loader, summary="The widget's script for a company's pages", hidden=True),
        Address(method="GET", path="/widget-files/{version}/{name}", handler=module, summary="Parts of the widget", hidden=True),
        Address(method="GET", path="/widget/{key}", handler=frame, summary="The widget's frame", hidden=True),
    ]  # fmt: skip
