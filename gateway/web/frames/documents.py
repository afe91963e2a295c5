"""The softphone's document and the page where a person connects it, with their modules and style.

The document says whose pages may hold it, loads one script of theirs from one address, and holds no secret. Opened by itself, outside
those pages, it runs no script. The page that connects may be held by nobody; it shares its browsing context with the frame that
has opened it, so that it can hand over the token: to a window of our own origin alone.
"""

import hashlib
import html
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType

from adapters.frame import MODULE
from gateway.web.frames.deps import NOBODY, PATH, FrameDeps, Place, of_place
from gateway.web.http.routes import Address, Request, Response
from gateway.web.widget.wire import as_json

_KINDS = {"js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8"}
_FOR_GOOD = "public, max-age=31536000, immutable"
_HTML = "text/html; charset=utf-8"
_ALONE = {
    "en": ("Softphone", "This page works inside {title}: add it there as the address of a softphone."),
    "ru": ("Софтфон", "Эта страница работает внутри {title}: укажите её там как адрес софтфона."),
}
_CONNECT = {"en": "Connect the softphone", "ru": "Подключить софтфон"}


@dataclass(frozen=True, slots=True)
class ClientFiles:
    """The browser's side."""

    files: Mapping[str, tuple[str, bytes]]
    """Name to content type and content."""
    version: str


@cache
def client_files(packages: tuple[tuple[str, str], ...]) -> ClientFiles:
    """Read once. `packages` are the kinds that have a softphone, each with its adapter's package."""
    found = {}
    for entry in sorted(files("gateway.web.frames").joinpath("client").iterdir(), key=lambda one: one.name):
        if (kind := _KINDS.get(entry.name.rpartition(".")[2])) is not None:
            found[entry.name] = (kind, entry.read_bytes())
    for name, package in packages:
        found[f"{name}.js"] = (_KINDS["js"], files(package).joinpath(MODULE).read_bytes())
    digest = hashlib.sha256(b"".join(name.encode() + body for name, (_, body) in found.items()))
    return ClientFiles(MappingProxyType(found), digest.hexdigest()[:16])


def policy(ancestors: tuple[str, ...], scripts: tuple[str, ...]) -> str:
    """The content policy of a document."""
    return "; ".join(
        (
            "default-src 'none'", " ".join(("script-src 'self'", *scripts)), "style-src 'self'", "connect-src 'self'",
            "form-action 'none'", "base-uri 'none'",  " ".join(("frame-ancestors", *(ancestors or ("'none'",)))),
        )
    )  # fmt: skip


def document_addresses(deps: FrameDeps) -> list[Address]:
    """The addresses, open to everybody."""
    packages = tuple((str(kind), one.package) for kind, one in sorted(deps.adapters.items()) if one.frame is not None)

    async def module(request: Request) -> Response:
        held = client_files(packages)
        found = held.files.get(request.params["name"])
        if found is None:
            return NOBODY
        fresh = request.params["version"] == held.version
        headers = (("Cache-Control", _FOR_GOOD if fresh else "no-store"),)
        return Response(body=found[1], content_type=found[0], headers=headers)

    async def frame(place: Place, request: Request) -> Response:
        language = place.tenant.language
        base = f"/frames-files/{client_files(packages).version}"
        within = request.headers.get("sec-fetch-dest", "iframe") in ("iframe", "frame")
        scripts = place.frame.scripts if within else ()
        held = {
            "base": f"/frames/{place.adapter.kind}/{request.params['hook_id']}", "language": language, "tenant": place.number,
            "title": place.adapter.title, "module": f"{base}/{place.adapter.kind}.js", "scripts": list(scripts),
            "shows": place.frame.shows_incoming,
        }  # fmt: skip
        title, alone = _ALONE[language if language in _ALONE else "en"]
        body = f"<main><p>{html.escape(alone.format(title=place.adapter.title))}</p></main>" if not within else ""
        return _document(
            language, title, f"{base}/softphone.js" if within else "", f"{base}/softphone.css", held, body,
            policy(place.frame.ancestors, scripts), (("Cross-Origin-Resource-Policy", "cross-origin"),),
        )  # fmt: skip

    async def connect(place: Place, request: Request) -> Response:
        language = place.tenant.language
        base = f"/frames-files/{client_files(packages).version}"
        held = {
            "base": f"/frames/{place.adapter.kind}/{request.params['hook_id']}", "language": language, "tenant": place.number,
            "company": place.tenant.name, "title": place.adapter.title,
        }  # fmt: skip
        return _document(
            language, _CONNECT.get(language, _CONNECT["en"]), f"{base}/connect.js", f"{base}/softphone.css", held, "",
            policy((), ()), (("Cross-Origin-Opener-Policy", "unsafe-none"),),
        )  # fmt: skip

    return [
        Address(method="GET", path="/frames-files/{version}/{name}", handler=module, summary="Parts of the softphone", hidden=True),
        Address(method="GET", path=PATH, handler=of_place(deps, frame), summary="The softphone's frame", hidden=True),
        Address(method="GET", path=f"{PATH}/connect", handler=of_place(deps, connect), hidden=True,
                summary="The page where a person connects the softphone"),
    ]  # fmt: skip


def _document(
    language: str, title: str, script: str, style: str, held: Mapping[str, object], body: str, csp: str,
    more: tuple[tuple[str, str], ...],
) -> Response:  # fmt: skip
    """What people entered is escaped, and read by the script as data."""
    loads = f'<script type="module" src="{script}"></script>\n' if script else ""
    text = (
        f'<!doctype html>\n<html lang="{html.escape(language)}" data-softphone="{html.escape(as_json(dict(held)))}">\n<head>\n'
        '<meta charset="utf-8">\n<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{html.escape(title)}</title>\n<link rel="stylesheet" href="{style}">\n{loads}</head>\n<body>{body}</body>\n</html>\n'
    )
    headers = (
        ("Content-Security-Policy", csp), ("Cache-Control", "no-store"), ("Referrer-Policy", "no-referrer"),
        ("X-Content-Type-Options", "nosniff"), *more,
    )  # fmt: skip
    return Response(body=text.encode(), content_type=_HTML, headers=headers)
