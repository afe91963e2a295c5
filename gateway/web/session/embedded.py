"""Sessions opened by a module's link: a token in the address becomes a cookie at once, and sees that module alone.

    link (GET or POST) -> token verified -> session row with a scope -> cookie for /<kind>-admin/ -> 303 without the token

The cookie differs from the one of people, so a signed-in person stays signed in. Such a session ends with its registration. It
never writes a token anywhere and trusts no number but the token's own. Read `auth.py` for people's sessions and
`gateway/web/pages/extensions.py` for the page.
"""

import hmac
import logging
import secrets
from dataclasses import dataclass, replace
from urllib.parse import quote, urlencode

from quart import abort, g, redirect, request
from quart_trio.wrappers import TrioResponse as Response

from adapters.base import Adapter
from gateway.domain.ids import IntegrationKey, Kind, TenantId
from gateway.domain.texts import LANGUAGES
from gateway.store import users
from gateway.store.postgres.pool import Connection
from gateway.web.http.guesses import DELAY_S
from gateway.web.session.access import Need
from gateway.web.session.auth import ABSOLUTE_S, IDLE_S, SAFE_METHODS, YEAR_S, Gate
from gateway.web.session.guard import allows
from gateway.web.session.tokens import Token, new_token, read_token
from gateway.web.site import Answer, viewer
from gateway.web.translations import preferred

log = logging.getLogger(__name__)


def module_cookie(*, secure: bool) -> str:
    """The cookie's name. Its path is not the whole site, so the prefix cannot be `__Host-`."""
    return "__Secure-module" if secure else "module"


async def select_and_touch(conn: Connection, token: Token, kind: Kind) -> users.Session | None:
    """The module session of a token, noted as in use."""
    if token.tenant is None:
        return None
    session = await users.select_module_session(conn, token.tenant, token.token_hash, kind, IDLE_S, ABSOLUTE_S)
    if session is not None:
        await users.touch_session(conn, token.token_hash)
    return session


@dataclass(frozen=True)
class ModuleGate:
    """Access to one adapter's module pages."""

    gate: Gate
    adapter: Adapter

    @property
    def home(self) -> str:
        """Where the pages are."""
        return f"/{self.adapter.kind}-admin"

    @property
    def _cookie(self) -> str:
        return module_cookie(secure=self.gate.site.deps.secure_cookies)

    def token(self) -> Token | None:
        """The token of the module's session that the browser sent."""
        return read_token(request.cookies.get(self._cookie, ""))

    async def look(self) -> None:
        """Makes the Viewer of this request. The first hook of the blueprint."""
        # Not the address as it was sent: it may hold a token, and pages lead back to where they are.
        who = g.viewer = replace(self.gate.anonymous(), path=f"{self.home}/")
        token, site = self.token(), self.gate.site
        session = None
        if token is not None:
            session = await site.deps.db.engine(select_and_touch, token, self.adapter.kind)
        found = site.deps.cache.tenant(session.tenant) if session is not None and session.tenant is not None else None
        if session is None or found is None or session.scope not in found.integrations:
            return
        g.form_cookie = None
        chosen = request.cookies.get(self.gate.cookie("language"))
        language = chosen if chosen in LANGUAGES else preferred(request.headers.get("Accept-Language", ""))
        formats = site.formats(language or found.language, found.timezone)
        g.viewer = replace(who, session=session, tenant=found, csrf=session.csrf, t=formats.t, f=formats)

    async def needs_session(self) -> Answer | None:
        """For everything but the link itself: a session of this module, and forms that are ours."""
        if viewer().session is None:
            return self.gate.site.page("module_refused.html", 401)
        if request.method not in SAFE_METHODS:
            sent = (await request.form).get("csrf", "")
            foreign = request.headers.get("Sec-Fetch-Site", "same-origin") == "cross-site"
            if foreign or not hmac.compare_digest(sent.encode(), viewer().csrf.encode()):
                abort(403)
        return None

    async def is_persons(self, number: str) -> bool:
        """Whether somebody is signed in whose company this is: they have the page among their own."""
        token = self.gate.token()
        if token is None or not number:
            return False
        db = self.gate.site.deps.db
        session = await db.engine(users.select_session, token.tenant, token.token_hash, IDLE_S, ABSOLUTE_S)
        return session is not None and allows(session, TenantId(number), Need.READ)

    async def open(self, number: str, text: str) -> Answer:
        """Exchanges the token of a link for a session."""
        if request.method == "HEAD" or "prefetch" in request.headers.get(
            "Sec-Purpose", request.headers.get("Purpose", "")
        ):
            return Response(status=204)  # HEAD and prefetch get no session
        deps = self.gate.site.deps
        source = self.gate.source()
        if deps.guesses.floods(source, text):
            return self._slowed(DELAY_S)
        found = await deps.modules.open_link(self.adapter.kind, text)
        if found is None or (number and found[0] != number):
            log.warning("a module's link was refused", extra={"integration": self.adapter.kind})
            if wait := await deps.guesses.failed(source):
                return self._slowed(wait)
            return self.gate.site.page("module_refused.html", 401)
        tenant, key, registration = found
        deps.guesses.right(text)
        cookie, token = new_token(tenant)
        await deps.db.engine(
            _replace_session, self.token(), tenant, token.token_hash, key, registration,
            secrets.token_urlsafe(32),
        )  # fmt: skip
        response = redirect(self.page_of(tenant), 303)
        response.set_cookie(
            self._cookie, cookie, max_age=int(ABSOLUTE_S), path=self.home, httponly=True, samesite="Lax",
            secure=deps.secure_cookies,
        )  # fmt: skip
        log.info("a module's pages were opened", extra={"tenant": tenant, "integration": self.adapter.kind})
        return response

    def _slowed(self, wait_s: float) -> Response:
        answer = self.gate.site.page("module_refused.html", 429)
        answer.headers["Retry-After"] = str(max(1, round(wait_s)))
        return answer

    def page_of(self, number: TenantId | str) -> str:
        """The page's address, without a token."""
        return f"{self.home}/?{urlencode({'enterprise_number': number}, quote_via=quote)}"

    async def leave(self) -> Answer:
        """Ends the session."""
        if (token := self.token()) is not None:
            await self.gate.site.deps.db.engine(users.delete_session, token.token_hash)
        response = redirect(f"{self.home}/", 303)
        response.delete_cookie(self._cookie, path=self.home, secure=self.gate.site.deps.secure_cookies)
        return response

    async def prefer(self) -> Answer:
        """Language and theme, as people choose them."""
        form = await request.form
        session = viewer().session
        response = redirect(
            self.page_of(session.tenant if session is not None and session.tenant is not None else ""), 303
        )
        if (language := form.get("language")) in LANGUAGES:
            self.gate.set_cookie(response, "language", language, YEAR_S)
        if (theme := form.get("theme")) in ("auto", "light", "dark"):
            self.gate.set_cookie(response, "theme", theme, YEAR_S)
        return response


async def _replace_session(
    conn: Connection,
    old: Token | None,
    tenant: TenantId,
    token_hash: bytes,
    key: IntegrationKey,
    registration: int,
    csrf: str,
) -> None:
    async with conn.transaction():
        if old is not None and old.tenant is not None:
            await users.delete_session(conn, old.token_hash)
        await users.insert_module_session(conn, tenant, token_hash, key, registration, csrf)
