"""What is one's own: password, second factor with recovery codes, sessions; and the way in by an invitation or a reset.

    /welcome            sets a password by a one-time link, then signs in
    /account/security   password, second factor, recovery codes
    /account/sessions   where one is signed in; ends one or all others

A person is the memberships that their session opened: a new password and a second factor are for all of these, and every other
session of theirs ends. Read `gateway/web/session/second_step.py` for codes, `people.py` for what an admin does.
"""

import hashlib
import hmac
import time
from collections.abc import Mapping
from functools import partial
from typing import Any
from urllib.parse import urlencode

import trio
from quart import Blueprint, abort, redirect, request
from quart_trio.wrappers import TrioResponse as Response

from gateway.domain.errors import Unavailable
from gateway.domain.ids import OPERATOR, TenantId
from gateway.domain.new_passwords import password_problem
from gateway.domain.secret import Secret
from gateway.store import own_account, second_factors, users
from gateway.store.audit import insert_audit
from gateway.store.postgres.pool import Connection
from gateway.store.users import Session
from gateway.web.http.addresses import network_of
from gateway.web.http.in_work import leave_place
from gateway.web.pages.qr import qr_svg
from gateway.web.session.auth import ABSOLUTE_S, IDLE_S, Gate
from gateway.web.session.flash import Flash, lead_on, note
from gateway.web.session.passwords import hash_password, password_fits
from gateway.web.session.second_factor import (
    address_of,
    judge,
    new_recovery_codes,
    recovery_hash,
    secret_for,
)
from gateway.web.session.second_step import admit, check_code, seal_factor
from gateway.web.session.surroundings import flashed, look_around
from gateway.web.session.tokens import Token, read_token
from gateway.web.site import Answer, viewer

SECURITY, SESSIONS = "/account/security", "/account/sessions"
_BROWSERS = (
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("YaBrowser", "Yandex Browser"),
    ("Firefox", "Firefox"),
    ("Chrome", "Chrome"),
    ("Safari", "Safari"),
    ("curl", "curl"),
    ("python", "Python"),
)
_SYSTEMS = (
    ("Windows", "Windows"),
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Mac OS X", "macOS"),
    ("Linux", "Linux"),
)


def device_name(agent: str) -> str:
    """What a browser calls itself, as people know it; the beginning of it where nobody does."""
    names = [next((name for mark, name in known if mark in agent), "") for known in (_BROWSERS, _SYSTEMS)]
    return ", ".join(filter(None, names)) or agent[:40]


def session_id(token_hash: bytes) -> str:
    """By which a form names a session: nobody can open it with that."""
    return hashlib.sha256(b"session\0" + token_hash).hexdigest()[:24]


async def _set_factor(
    conn: Connection,
    email: str,
    sealed: Mapping[TenantId | None, str],
    step: int,
    hashes: list[bytes],
    keep: bytes,
    action: str,
) -> list[bytes]:
    async with conn.transaction():
        await second_factors.store_factor(conn, email, sealed, step, hashes)
        for tenant in sealed:
            await insert_audit(conn, tenant or OPERATOR, email, action, email)
        return await own_account.end_sessions(conn, email, [*sealed], but=keep)


async def _new_codes(conn: Connection, email: str, tenants: list[TenantId | None], hashes: list[bytes]) -> None:
    async with conn.transaction():
        await second_factors.store_recovery_codes(conn, email, tenants, hashes)
        for tenant in tenants:
            await insert_audit(conn, tenant or OPERATOR, email, "user.recovery_codes", email)


def account_pages(gate: Gate) -> Blueprint:
    """The pages `/account/...` and `/welcome`."""
    pages = Blueprint("account", __name__)
    pages.before_request(partial(look_around, gate))
    site, deps = gate.site, gate.site.deps

    def me() -> tuple[Token, Session, list[TenantId | None]]:
        token, session = gate.token(), viewer().session
        if token is None or session is None:
            abort(404)
        return token, session, [one.tenant for one in session.memberships]

    def ended(hashes: list[bytes]) -> None:
        for one in hashes:
            gate.streams.end_session(one)

    async def slowly(email: str) -> Answer | None:
        """As sign-in is slowed: a session that somebody left open is no way to guess by."""
        verdict = gate.throttle.attempt(f"{email} code", network_of(gate.address()), trio.current_time())
        if verdict.refused_s is not None:
            return await lead_on(
                deps, gate.token(), SECURITY, note("login.too_fast", "bad", n=max(1, round(verdict.refused_s)))
            )
        leave_place()
        await trio.sleep(verdict.delay_s)
        return None

    def calm(email: str) -> None:
        gate.throttle.succeeded(f"{email} code", network_of(gate.address()), trio.current_time())

    async def set_up_secret(token: Token, email: str, tenants: list[TenantId | None]) -> str:
        if deps.master is None:
            raise Unavailable(person="There is no key for second factors.")
        factors = await deps.db.engine(second_factors.select_factors, email, tenants)
        stored = "\0".join(one.sealed for one in factors)
        return secret_for(
            deps.master.derived("second factor set-up"), token.token_hash, email.encode(), stored.encode()
        )

    # The way in by a link.

    @pages.get("/welcome")
    async def welcome() -> Response:
        text = request.args.get("token", "")
        token = read_token(text)
        link = await deps.db.engine(users.select_link, token.tenant, token.token_hash) if token is not None else None
        if link is None or link.purpose == "sign_in" or link.state != "good":
            return site.page(
                "welcome.html",
                410,
                state=link.state if link is not None and link.purpose != "sign_in" else "unknown",
                link=None,
            )
        company = deps.cache.tenant(token.tenant) if token is not None and token.tenant is not None else None
        wrong = request.args.get("wrong", "")
        return site.page(
            "welcome.html", state="good", link=link, token=text, company=company,
            wrong=wrong if wrong in ("length", "common", "walk") else "",
        )  # fmt: skip

    @pages.post("/welcome")
    async def accept() -> Answer:
        form = await request.form
        text, password = form.get("token", "")[:200], form.get("password", "")
        token = read_token(text)
        link = await deps.db.engine(users.select_link, token.tenant, token.token_hash) if token is not None else None
        if token is None or link is None or link.purpose == "sign_in" or link.state != "good":
            return redirect(f"/welcome?{urlencode({'token': text})}", 303)
        if wrong := password_problem(password, link.email):
            return redirect(f"/welcome?{urlencode({'token': text, 'wrong': wrong})}", 303)
        hashed = await trio.to_thread.run_sync(hash_password, Secret(password), limiter=deps.hash_limiter)
        email = await deps.db.engine(users.take_login_link, token.tenant, token.token_hash, password=True)
        if email is None:
            return redirect(f"/welcome?{urlencode({'token': text})}", 303)
        ended(
            await deps.db.engine(
                own_account.set_passwords, email, {token.tenant: hashed}, None, f"user.{link.purpose}_used", email
            )
        )
        return await admit(gate, email, [token.tenant], "/", link=True)

    # Password and second factor.

    @pages.get(SECURITY)
    async def security() -> Response:
        token, session, tenants = me()
        factors = await deps.db.engine(second_factors.select_factors, session.email, tenants)
        without = [one for one in factors if not one.sealed]
        secret = await set_up_secret(token, session.email, tenants) if without and deps.master is not None else ""
        fresh, refused = flashed("key"), flashed("refused")
        return site.page(
            "account_security.html", factors=factors, has=len(without) < len(factors), missing=bool(without), secret=secret,
            qr=qr_svg(address_of(secret, session.email, deps.title)) if secret else "",
            codes=fresh.secrets["codes"].reveal().split() if fresh is not None and "codes" in fresh.secrets else (),
            left=min((one.recovery_codes for one in factors if one.sealed), default=0),
            problem=refused.body if refused is not None else {"where": "", "code": "", "off": 0}, demanded=any(one.locked for one in session.memberships),
        )  # fmt: skip

    async def refuse(where: str, code: str, **more: Any) -> Answer:
        body = {"where": where, "code": code, "off": 0, **more}
        return await lead_on(deps, gate.token(), SECURITY, Flash(kind="refused", body=body))

    @pages.post(f"{SECURITY}/password")
    async def password() -> Answer:
        token, session, tenants = me()
        form = await request.form
        current, new = Secret(form.get("current", "")[:256]), form.get("new", "")
        if (slowed := await slowly(session.email)) is not None:
            return slowed
        accounts = [one for one in await deps.db.engine(users.select_accounts, session.email) if one.tenant in tenants]

        def fitting() -> list[TenantId | None]:
            return [one.tenant for one in accounts if one.password_hash and password_fits(one.password_hash, current)]

        mine = await trio.to_thread.run_sync(fitting, limiter=deps.hash_limiter)
        if not mine:
            return await refuse("password", "current")
        calm(session.email)
        if wrong := password_problem(new, session.email):
            return await refuse("password", wrong)
        hashed = await trio.to_thread.run_sync(hash_password, Secret(new), limiter=deps.hash_limiter)
        hashes = dict.fromkeys(mine, hashed)
        ended(
            await deps.db.engine(
                own_account.set_passwords,
                session.email,
                hashes,
                token.token_hash,
                "user.password_changed",
                session.email,
            )
        )
        return await lead_on(deps, token, SECURITY, note("account.password_changed"))

    async def show_codes(codes: list[str], text: str) -> Answer:
        flash = Flash(kind="key", body={"text": text}, secrets={"codes": Secret("\n".join(codes))})
        return await lead_on(deps, gate.token(), f"{SECURITY}#codes", flash)

    @pages.post(f"{SECURITY}/factor")
    async def confirm_factor() -> Answer:
        token, session, tenants = me()
        if (slowed := await slowly(session.email)) is not None:
            return slowed
        factors = await deps.db.engine(second_factors.select_factors, session.email, tenants)
        missing = [one.tenant for one in factors if not one.sealed]
        if not missing:
            return redirect(SECURITY, 303)
        secret = await set_up_secret(token, session.email, tenants)
        judged = judge(secret, (await request.form).get("code", "")[:64], time.time(), 0)
        if judged.step is None:
            return await refuse("factor", judged.wrong, off=judged.off_s)
        calm(session.email)
        sealed = {tenant: seal_factor(deps, tenant, session.email, secret) for tenant in missing}
        codes = new_recovery_codes()
        ended(await deps.db.engine(
            _set_factor, session.email, sealed, judged.step, [recovery_hash(one) for one in codes], token.token_hash, "user.factor_added"
        ))  # fmt: skip
        return await show_codes(codes, "factor_added")

    @pages.post(f"{SECURITY}/factor/remove")
    async def remove_factor() -> Answer:
        token, session, tenants = me()
        if (slowed := await slowly(session.email)) is not None:
            return slowed
        verified, judged = await check_code(deps, session.email, tenants, (await request.form).get("code", "")[:64])
        if not verified:
            return await refuse("remove", judged.wrong, off=judged.off_s)
        calm(session.email)
        ended(await deps.db.engine(
            _set_factor, session.email, dict.fromkeys(verified, ""), 0, [], token.token_hash, "user.factor_removed"
        ))  # fmt: skip
        return await lead_on(deps, token, SECURITY, note("account.factor_removed"))

    @pages.post(f"{SECURITY}/codes")
    async def new_codes() -> Answer:
        _, session, tenants = me()
        if (slowed := await slowly(session.email)) is not None:
            return slowed
        verified, judged = await check_code(deps, session.email, tenants, (await request.form).get("code", "")[:64])
        if not verified:
            return await refuse("codes", judged.wrong, off=judged.off_s)
        calm(session.email)
        codes = new_recovery_codes()
        await deps.db.engine(_new_codes, session.email, verified, [recovery_hash(one) for one in codes])
        return await show_codes(codes, "new_codes")

    # Sessions.

    @pages.get(SESSIONS)
    async def sessions() -> Response:
        token, session, tenants = me()
        found = await deps.db.engine(own_account.list_sessions, session.email, tenants, IDLE_S, ABSOLUTE_S)
        lines = [
            (
                one,
                session_id(one.token_hash),
                device_name(one.device),
                hmac.compare_digest(one.token_hash, token.token_hash),
            )
            for one in found
        ]
        return site.page("account_sessions.html", lines=lines)

    @pages.post(f"{SESSIONS}/end")
    async def end_session() -> Answer:
        token, session, tenants = me()
        named = (await request.form).get("session", "")
        found = await deps.db.engine(own_account.list_sessions, session.email, tenants, IDLE_S, ABSOLUTE_S)
        chosen = next(
            (
                one
                for one in found
                if session_id(one.token_hash) == named and not hmac.compare_digest(one.token_hash, token.token_hash)
            ),
            None,
        )
        if chosen is None:
            abort(404)
        ended(await deps.db.engine(own_account.end_sessions, session.email, tenants, only=chosen.token_hash))
        return await lead_on(deps, token, SESSIONS, note("account.session_ended"))

    @pages.post(f"{SESSIONS}/end-others")
    async def end_others() -> Answer:
        token, session, tenants = me()
        ended(await deps.db.engine(own_account.end_sessions, session.email, tenants, but=token.token_hash))
        return await lead_on(deps, token, SESSIONS, note("account.others_ended"))

    return pages
