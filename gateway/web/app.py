"""The admin UI as a Quart app: `create_app(deps)`. Puts the pages together, adds the security headers, shows errors.

Nothing happens at import and nothing runs in the background: work without a client belongs to an actor.
Read `site.py` for what pages share, `session/auth.py` for who may see them, `pages/calls.py` for the first of them.
"""

import logging
import re
from secrets import token_urlsafe
from typing import Any, cast

from quart import abort, g, request
from quart_trio import QuartTrio
from quart_trio.wrappers import TrioRequest
from quart_trio.wrappers import TrioResponse as Response
from werkzeug.datastructures import Headers
from werkzeug.exceptions import HTTPException

from actors.crm.registration import registering
from gateway.domain.errors import GatewayError, Retryable
from gateway.store.postgres.errors import BadData
from gateway.web.api.recordings import recordings_pages
from gateway.web.content.catalog_csv import LARGEST_FILE
from gateway.web.pages.account import account_pages
from gateway.web.pages.acting import acting_pages
from gateway.web.pages.ai import ai_pages
from gateway.web.pages.alerts import alerts_pages
from gateway.web.pages.api_keys import api_keys_pages
from gateway.web.pages.audit import audit_pages, operators_audit_pages
from gateway.web.pages.calls import calls_pages
from gateway.web.pages.catalog import catalog_pages
from gateway.web.pages.companies import companies_pages
from gateway.web.pages.customers import customers_pages
from gateway.web.pages.dead_letters import dead_letters_pages
from gateway.web.pages.deals import deals_pages
from gateway.web.pages.deliveries import deliveries_pages
from gateway.web.pages.dialling import dialling_pages
from gateway.web.pages.extensions import extensions_pages, module_pages
from gateway.web.pages.field_mapping import mapping_pages
from gateway.web.pages.inbox import inbox_pages
from gateway.web.pages.installation import installation_pages
from gateway.web.pages.integrations import integrations_pages
from gateway.web.pages.login_steps import login_pages, oauth_pages
from gateway.web.pages.missed import missed_pages
from gateway.web.pages.notify import notify_pages
from gateway.web.pages.operators import operators_pages
from gateway.web.pages.orders import orders_pages
from gateway.web.pages.overview import overview_pages
from gateway.web.pages.pbxes import pbxes_pages
from gateway.web.pages.people import people_pages
from gateway.web.pages.person_data import person_data_pages
from gateway.web.pages.profile import profile_pages
from gateway.web.pages.prompts import prompts_pages
from gateway.web.pages.saved_replies import saved_replies_pages
from gateway.web.pages.search import search_pages
from gateway.web.rest.catalog import LARGEST_IMPORT
from gateway.web.rest.prompts import LARGEST as LARGEST_PROMPT
from gateway.web.session.access import ACCESS, RECORDINGS, check, declare, module_access
from gateway.web.session.auth import SAFE_METHODS, Gate, auth_pages
from gateway.web.session.guard import add_guard
from gateway.web.session.second_step import admit, code_pages
from gateway.web.session.throttle import Throttle
from gateway.web.site import Answer, Asset, Cache, Deps, Site

__all__ = ["Cache", "Deps", "create_app"]

log = logging.getLogger(__name__)

_SHOWN = frozenset({400, 401, 403, 404, 405, 413, 429, 500, 503})


class PageRequest(TrioRequest):
    """A request of which a few addresses take more than the app does: a file to import, and a long prompt. From those alone
    who bring a session or a key, as far as that can be seen before its body is read."""

    def __init__(
        self, method: str, scheme: str, path: str, query_string: bytes, headers: Headers, *args: Any,
        max_content_length: int | None = None, **more: Any,
    ) -> None:  # fmt: skip
        larger = next((limit for pattern, limit in _LARGER if pattern.fullmatch(path)), None)
        if larger is not None and max_content_length is not None and _known_as_somebody(headers):
            max_content_length = max(larger, max_content_length)
        super().__init__(
            method, scheme, path, query_string, headers, *args, max_content_length=max_content_length, **more
        )
        self.max_content_length = max_content_length
        self.max_form_memory_size = max_content_length


def _known_as_somebody(headers: Headers) -> bool:
    return "session=" in headers.get("cookie", "") or "authorization" in headers or "x-api-key" in headers


_LARGER = (
    (re.compile(r"/api/v1/catalog/import"), LARGEST_IMPORT),
    (re.compile(r"/api/v1/prompts(?:/validate|/test)?"), LARGEST_PROMPT),
    (re.compile(r"/t/[^/]+/catalog/import"), LARGEST_FILE + (64 << 10)),
    (re.compile(r"/t/[^/]+/prompts(?:/[^/]+)?"), 1 << 20),
    (re.compile(r"/t/[^/]+/deals/routes/[^/]+"), 1 << 20),
)


def create_app(deps: Deps) -> QuartTrio:
    """The app for one installation. The caller serves it. Raises Undeclared where somebody forgot to say who may open an
    address."""
    app = QuartTrio(__name__, static_folder=None, template_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = deps.largest_body
    app.request_class = PageRequest
    app.url_map.merge_slashes = False
    site = Site(deps)
    gate = Gate(site, Throttle(), admit)
    add_guard(app, gate)
    declare(app, {**ACCESS, **module_access(registering())})
    ours = (
        auth_pages, code_pages, account_pages, people_pages, overview_pages, calls_pages, missed_pages, search_pages,
        dialling_pages, extensions_pages, integrations_pages, mapping_pages, pbxes_pages, api_keys_pages, operators_pages, companies_pages,
        installation_pages, acting_pages, login_pages, oauth_pages, deliveries_pages, dead_letters_pages, profile_pages,
        catalog_pages, prompts_pages, ai_pages, audit_pages, operators_audit_pages, notify_pages, alerts_pages,
        inbox_pages, saved_replies_pages, customers_pages, person_data_pages, orders_pages, deals_pages,
    )  # fmt: skip
    for pages in (*(make(gate) for make in ours), *(module_pages(gate, adapter) for adapter in registering().values())):
        app.register_blueprint(pages)
    if deps.recording_files is not None:
        app.register_blueprint(recordings_pages(gate, deps.recording_files))
        declare(app, RECORDINGS)
    _add_static_files(app, site)
    _add_errors(app, gate)
    _add_headers(app, gate)
    for mount in deps.mounts:
        mount(app)
    check(app)
    return app


def _add_static_files(app: QuartTrio, site: Site) -> None:
    def served(asset: Asset | None) -> Response:
        if asset is None:
            abort(404)
        response = Response(asset.body, content_type=asset.content_type)
        fresh = request.args.get("v") == asset.version
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable" if fresh else "no-cache"
        return response

    @app.get("/static/<name>")
    async def static_file(name: str) -> Response:
        return served(site.assets.get(name))

    @app.get("/icons/<kind>.svg")
    async def icon(kind: str) -> Response:
        """The drawing of an outside system. Opened by itself it may still load and run nothing."""
        response = served(site.icons.get(kind))
        response.headers["Content-Security-Policy"] = "default-src 'none'"
        return response


def _add_errors(app: QuartTrio, gate: Gate) -> None:
    def shown(status: int) -> Response:
        # The same words for what is missing and for what is somebody else's.
        if "viewer" not in g:
            g.viewer = gate.anonymous()
        code = status if status in _SHOWN else 500 if status >= 500 else 400
        return gate.site.page("error.html", status, code=code, key=str(code))

    @app.errorhandler(HTTPException)
    async def http_error(error: HTTPException) -> Answer:
        if error.response is not None:
            return cast(Answer, error.response)
        response = shown(error.code or 500)
        for name, value in error.get_headers():
            if name.lower() in ("allow", "location", "retry-after"):
                response.headers[name] = value
        return response

    @app.errorhandler(GatewayError)
    async def gateway_error(error: GatewayError) -> Response:
        if isinstance(error, BadData):
            return shown(400)
        if isinstance(error, Retryable):
            log.warning("a page could not be shown", extra={"reason": str(error)})
            response = shown(503)
            response.headers["Retry-After"] = "5"
            return response
        log.error("a page failed", exc_info=error)
        return shown(500)


def _add_headers(app: QuartTrio, gate: Gate) -> None:
    secure = gate.site.deps.secure_cookies

    @app.after_request
    async def headers(response: Answer) -> Answer:
        ours = response.headers
        ours.setdefault("X-Content-Type-Options", "nosniff")
        ours.setdefault("Referrer-Policy", "no-referrer")
        ours.setdefault("Cross-Origin-Resource-Policy", "same-origin")
        if secure:
            ours.setdefault("Strict-Transport-Security", "max-age=31536000; includeSubDomains")
        ours.setdefault("Cache-Control", "no-store")
        if response.mimetype == "text/html":
            ours.setdefault("Cross-Origin-Opener-Policy", "same-origin")
            ours.setdefault("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
            ours.setdefault("Content-Security-Policy", _policy(g.viewer.nonce if "viewer" in g else token_urlsafe(16)))
        if request.method in SAFE_METHODS and "viewer" in g and g.viewer.person:
            ours.setdefault("X-CSRF-Token", g.viewer.csrf)  # for programs that go on by the same session
        if (csrf := g.get("form_cookie")) is not None and response.mimetype == "text/html":
            gate.set_cookie(response, "form", csrf, 86400)
        return response


def _policy(nonce: str) -> str:
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src 'nonce-{nonce}'",
            f"style-src 'nonce-{nonce}'",
            "img-src 'self'",
            "media-src 'self'",
            "connect-src 'self'",
            "form-action 'self'",
            "base-uri 'none'",
            "object-src 'none'",
            "frame-ancestors 'none'",
        )
    )
