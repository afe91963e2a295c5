"""Who is looking: sign-in by password or one-time link, sessions and the CSRF check.

    cookie -> session in the database -> Viewer -> CSRF on unsafe methods -> guard -> page

Cookies hold random tokens, the database their hashes. A number that is not the session's is a 404 like one that does not
exist. Hashing happens in a thread behind a limiter. It never reveals whether an e-mail address is known, neither by text nor
by timing. Read `guard.py` for who may open what, `throttle.py` for how fast passwords may be tried, `gateway/web/pages/calls.py` for a page.
"""

import hmac
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from urllib.parse import quote
from zoneinfo import ZoneInfo

import trio
from quart import Blueprint, abort, g, redirect, request
from quart_trio.wrappers import TrioResponse as Response

from gateway.domain.ids import TenantId
from gateway.domain.secret import Secret
from gateway.domain.texts import LANGUAGES
from gateway.store import users
from gateway.store.audit import ORIGIN, Origin
from gateway.store.postgres.pool import Connection
from gateway.web.http.addresses import client_address, network_of, source_of
from gateway.web.http.in_work import leave_place
from gateway.web.session.devices import LIVES_S, device_of, new_device
from gateway.web.session.live_streams import LiveStreams
from gateway.web.session.passwords import LONGEST, NOBODY, password_fits
from gateway.web.session.sign_in_audit import SignInAudit, note_acting
from gateway.web.session.throttle import Throttle
from gateway.web.session.tokens import Token, new_token, read_token
from gateway.web.site import Answer, Site, Viewer, viewer
from gateway.web.translations import preferred

log = logging.getLogger(__name__)

IDLE_S = 12 * 3600.0
ABSOLUTE_S = 7 * 86400.0
YEAR_S = 365 * 86400
THEMES = ("auto", "light", "dark")
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
UTC_ZONE = ZoneInfo("UTC")
_CSRF = re.compile(r"[0-9A-Za-z_-]{43}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def safe_next(text: str | None) -> str:
    """An address of ours to go on to. Anything that a browser could read as another site is `/`."""
    if (
        not text
        or text[0] != "/"
        or text[1:2] in ("/", "\\")
        or "\\" in text
        or _CONTROL.search(text)
        or len(text) > 2000
    ):
        return "/"
    return text


@dataclass(frozen=True)
class Gate:
    """Sign-in and guards of one app."""

    site: Site
    throttle: Throttle
    admit: Callable[..., Awaitable[Answer]]
    """`admit(gate, email, tenants, onward, link=)`: what follows the right password or link (`second_step.py`)."""
    streams: LiveStreams = field(default_factory=LiveStreams)

    @property
    def audit(self) -> SignInAudit:
        """Where sign-ins are noted."""
        return self.site.sign_ins

    # Who is looking.

    def address(self) -> str:
        """The client's address."""
        client = request.scope.get("client")
        forwarded_for = ",".join(request.headers.getlist("X-Forwarded-For"))
        return client_address(str(client[0]) if client else "", forwarded_for, self.site.deps.trusted_proxies)

    def source(self) -> str:
        """What counts as one client."""
        return source_of(self.address())

    def cookie(self, name: str) -> str:
        """The name of one of our cookies; with https it is bound to this host by its prefix."""
        return f"__Host-{name}" if self.site.deps.secure_cookies else name

    def set_cookie(self, response: Answer, name: str, value: str, live_s: float) -> None:
        """Sets one of our cookies."""
        response.set_cookie(
            self.cookie(name), value, max_age=int(live_s), path="/", httponly=True, samesite="Lax",
            secure=self.site.deps.secure_cookies,
        )  # fmt: skip

    def anonymous(self) -> Viewer:
        """The viewer of pages that need no session, and of errors. Reads no database."""
        known = request.cookies.get(self.cookie("form"), "")
        csrf = known if _CSRF.fullmatch(known) else secrets.token_urlsafe(32)
        g.form_cookie = csrf if csrf != known else None
        chosen = request.cookies.get(self.cookie("language"))
        language = chosen if chosen in LANGUAGES else preferred(request.headers.get("Accept-Language", "")) or "en"
        theme = request.cookies.get(self.cookie("theme"), "")
        query = request.query_string.decode("latin-1")
        return Viewer(
            t=(f := self.site.formats(language, UTC_ZONE)).t,
            f=f,
            csrf=csrf,
            nonce=secrets.token_urlsafe(16),
            path=f"{quote(request.path, safe='/:@')}?{query}" if query else quote(request.path, safe="/:@"),
            theme=theme if theme in THEMES else "auto",
        )

    def in_tenant(self, who: Viewer, number: TenantId) -> Viewer | None:
        """The viewer with a tenant in view; None where that tenant is not theirs or does not exist."""
        found = self.site.deps.cache.tenant(number) if who.may_see(number) else None
        if found is None:
            return None
        chosen = self._chosen_language(who)
        language = chosen or preferred(request.headers.get("Accept-Language", "")) or found.language
        return replace(who, tenant=found, t=(f := self.site.formats(language, found.timezone)).t, f=f)

    def _chosen_language(self, who: Viewer) -> str | None:
        if who.session is not None and who.session.language is not None:
            return who.session.language
        chosen = request.cookies.get(self.cookie("language"))
        return chosen if chosen in LANGUAGES else None

    def token(self) -> Token | None:
        """The session token that the browser sent."""
        return read_token(request.cookies.get(self.cookie("session"), ""))

    async def look(self) -> None:
        """Makes the Viewer of this request and refuses forms that are not ours. A form brings its token in a field, a program
        in `X-CSRF-Token`."""
        who = g.viewer = self.anonymous()
        token = self.token()
        if token is not None:
            session = await self.site.deps.db.engine(_select_and_touch, token)
            if session is not None:
                g.form_cookie = None
                who = replace(who, session=session, csrf=session.csrf)
                language = self._chosen_language(who)
                if language is not None:
                    who = replace(who, t=(f := self.site.formats(language, UTC_ZONE)).t, f=f)
                g.viewer = who
        ORIGIN.set(Origin("operator" if who.operator else "person", self.address()))
        if request.method not in SAFE_METHODS:
            sent = request.headers.get("X-CSRF-Token") or (await request.form).get("csrf", "")
            foreign = request.headers.get("Sec-Fetch-Site", "same-origin") == "cross-site"
            if foreign or not hmac.compare_digest(sent.encode(), who.csrf.encode()):
                abort(403)

    def enter(self, number: TenantId) -> bool:
        """Puts a company of the session's in view, for an address that does not name it. False where it is not theirs."""
        found = self.in_tenant(viewer(), number)
        if found is None:
            return False
        g.viewer = found
        return True

    async def still_signed_in(self, token: Token | None, who: Viewer) -> bool:
        """Whether a page that stays open may go on: its person is in the company what they were when it was opened."""
        if token is None or who.session is None or who.tenant is None:
            return False
        found = await self.site.deps.db.engine(users.select_session, token.tenant, token.token_hash, IDLE_S, ABSOLUTE_S)
        number = who.tenant.number
        return found is not None and found.membership(number) == who.session.membership(number)

    # Sign-in.

    async def open_session(
        self, tenants: Sequence[TenantId | None], email: str, onward: str, *, link: bool = False
    ) -> Answer:
        """Signs in, to each of the memberships: a new token always, and the old session, if any, is closed. Pages begin with
        the first."""
        text, token = new_token(tenants[0])
        old = self.token()
        await self.site.deps.db.engine(
            _replace_session,
            old,
            token,
            tenants,
            email,
            secrets.token_urlsafe(32),
            self.address(),
            request.headers.get("User-Agent", ""),
        )
        if old is not None:
            self.streams.end_session(old.token_hash)
        response = redirect(onward, 303)
        self.set_cookie(response, "session", text, ABSOLUTE_S)
        response.delete_cookie(self.cookie("form"), path="/", secure=self.site.deps.secure_cookies)
        g.form_cookie = None
        for tenant in tenants:
            self.audit.opened(tenant, email, network_of(self.address()), link=link)
        log.info("signed in", extra={"tenant": tenants[0] or "operator"})
        return response

    async def sign_in(self) -> Answer:
        """The answer to a sign-in form."""
        form = await request.form
        email, password = form.get("email", "").strip().lower(), form.get("password", "")
        onward = safe_next(form.get("next"))
        usable = 3 <= len(email) <= 254 and 0 < len(password) <= LONGEST and not _CONTROL.search(email)
        network = network_of(self.address())
        device = self._device(email)
        verdict = self.throttle.attempt(email[:254], network, trio.current_time(), device)
        if verdict.refused_s is not None:
            wait = max(1, round(verdict.refused_s))
            log.warning("sign-ins come too fast", extra={"network": network})
            answer = self.site.page("login.html", 429, error="too_fast", wait=wait, email=email[:254], onward=onward)
            answer.headers["Retry-After"] = str(wait)
            return answer
        leave_place()
        await trio.sleep(verdict.delay_s)
        accounts, compared = await self.site.deps.db.engine(users.select_sign_in, email if usable else "")
        fitting = await trio.to_thread.run_sync(
            partial(_fitting, accounts, Secret(password[:LONGEST]), compared),
            limiter=self.site.deps.hash_limiter,
        )
        if not fitting:
            self.audit.refused(accounts, email, network)
            log.warning("sign-in refused", extra={"network": network})
            return self.site.page("login.html", 401, error="wrong", wait=0, email=email[:254], onward=onward)
        self.throttle.succeeded(email, network, trio.current_time(), device)
        response = await self.admit(self, email, [one.tenant for one in fitting], onward)
        if (key := self._device_key()) is not None and device is None:
            self.set_cookie(response, "device", new_device(key, email, time.time()), LIVES_S)
        return response

    def _device_key(self) -> bytes | None:
        master = self.site.deps.master
        return master.derived("known devices") if master is not None else None

    def _device(self, email: str) -> str | None:
        """The name of the device, where this account has signed in from it before."""
        key, cookie = self._device_key(), request.cookies.get(self.cookie("device"), "")
        return device_of(key, email, cookie, time.time()) if key is not None and cookie else None


def _fitting(accounts: Sequence[users.Account], password: Secret, compared: int) -> list[users.Account]:
    """The memberships that the password opens. Makes the same number of comparisons for every address and password, so that
    the time reveals nothing."""
    found: list[users.Account] = []
    for place in range(max(compared, len(accounts), 1)):
        account = accounts[place] if place < len(accounts) else None
        fits = password_fits((account.password_hash if account is not None else "") or NOBODY, password)
        if fits and account is not None and account.password_hash:
            found.append(account)
    return found


async def _select_and_touch(conn: Connection, token: Token) -> users.Session | None:
    session = await users.select_session(conn, token.tenant, token.token_hash, IDLE_S, ABSOLUTE_S)
    if session is not None:
        await users.touch_session(conn, token.token_hash)
    return session


async def _replace_session(
    conn: Connection,
    old: Token | None,
    new: Token,
    tenants: Sequence[TenantId | None],
    email: str,
    csrf: str,
    address: str,
    device: str,
) -> None:
    async with conn.transaction():
        if old is not None:
            await users.carry_session(conn, old.token_hash, new.token_hash, email, csrf, tenants)
            await users.delete_session(conn, old.token_hash)
        for tenant in tenants:
            await users.insert_session(conn, tenant, new.token_hash, email, csrf, address, device)


async def _sign_out(conn: Connection, token: Token, session: users.Session | None) -> None:
    async with conn.transaction():
        if session is not None and session.acting is not None:
            await note_acting(conn, session, session.acting.tenant, "operator.acting_ended", "")
        await users.delete_session(conn, token.token_hash)


def auth_pages(gate: Gate) -> Blueprint:
    """Sign-in, sign-out, one-time links, language and theme."""
    pages = Blueprint("auth", __name__)
    site = gate.site

    @pages.get("/")
    async def home() -> Answer:
        session = viewer().session
        if session is None:
            return redirect("/login", 303)
        return redirect("/operators/tenants" if session.tenant is None else f"/t/{session.tenant}/", 303)

    @pages.get("/login")
    async def login() -> Answer:
        onward = safe_next(request.args.get("next"))
        if viewer().session is not None and not request.args.get("another"):
            return redirect(onward, 303)
        return site.page("login.html", error=None, wait=0, email="", onward=onward)

    @pages.post("/login")
    async def sign_in() -> Answer:
        return await gate.sign_in()

    @pages.get("/login/once")
    async def login_once() -> Answer:
        token = read_token(request.args.get("token", ""))
        looking_ahead = "prefetch" in request.headers.get("Sec-Purpose", request.headers.get("Purpose", ""))
        if request.method == "HEAD" or looking_ahead:
            return Response(status=204)  # HEAD and prefetch do not use the link up
        came_from = request.headers.get("Sec-Fetch-Site")
        by_itself = came_from in ("none", "same-origin") or (came_from is None and viewer().session is None)
        if token is not None and not by_itself:
            # Another site may have opened it, to have somebody work in a session that is not theirs.
            return site.page("confirm_link.html", link=request.args["token"])
        return await take_link(token)

    @pages.post("/login/once")
    async def confirmed() -> Answer:
        return await take_link(read_token((await request.form).get("token", "")))

    async def take_link(token: Token | None) -> Answer:
        email = None
        if token is not None:
            email = await site.deps.db.engine(users.take_login_link, token.tenant, token.token_hash)
        if token is None or email is None:
            return site.page("login.html", 410, error="link_used", wait=0, email="", onward="/")
        return await gate.admit(gate, email, [token.tenant], "/", link=True)

    @pages.post("/logout")
    async def logout() -> Answer:
        if (token := gate.token()) is not None:
            await site.deps.db.engine(_sign_out, token, viewer().session)
            gate.streams.end_session(token.token_hash)
        response = redirect("/login", 303)
        response.delete_cookie(gate.cookie("session"), path="/", secure=site.deps.secure_cookies)
        return response

    @pages.post("/preferences")
    async def preferences() -> Answer:
        form = await request.form
        response = redirect(safe_next(form.get("next")), 303)
        if (language := form.get("language")) in LANGUAGES:
            gate.set_cookie(response, "language", language, YEAR_S)
            if (token := gate.token()) is not None and viewer().session is not None:
                await site.deps.db.engine(users.update_language, token.token_hash, language)
        if (theme := form.get("theme")) in THEMES:
            gate.set_cookie(response, "theme", theme, YEAR_S)
        return response

    return pages
