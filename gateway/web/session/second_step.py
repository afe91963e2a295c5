"""The second step of a sign-in: after the right password or link, a code, where any of the memberships has a second factor.

    password or link -> signed cookie for STEP_LIVES_S -> /login/code -> code, used once -> session

The cookie is bound to the passwords of that moment. Codes are tried as slowly as passwords are, and by the same buckets of
network and installation; nobody is locked out. Read `second_factor.py` for what a code is worth.
"""

import base64
import hashlib
import hmac
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import trio
from quart import Blueprint, g, redirect, request
from quart_trio.wrappers import TrioResponse as Response

from gateway.domain.errors import Unavailable
from gateway.domain.ids import TenantId
from gateway.domain.secret import Secret
from gateway.store import second_factors as store
from gateway.store import users
from gateway.store.second_factors import Factor
from gateway.store.secrets.rotation import factor_place
from gateway.web.http.addresses import network_of
from gateway.web.http.in_work import leave_place
from gateway.web.session.auth import Gate
from gateway.web.session.sealing import open_personal, seal_personal
from gateway.web.session.second_factor import Judged, judge, recovery_hash
from gateway.web.site import Answer, Deps

log = logging.getLogger(__name__)

STEP_LIVES_S = 300.0


@dataclass(frozen=True, slots=True)
class Step:
    """Who has still to enter a code, and where it leads."""

    email: str
    tenants: tuple[TenantId | None, ...]
    onward: str
    link: bool


def _signed(key: bytes, text: str) -> str:
    return hmac.new(key, b"second step\0" + text.encode(), hashlib.sha256).hexdigest()


def _passwords(accounts: Sequence[users.Account], tenants: Sequence[TenantId | None]) -> str:
    mine = sorted(f"{one.tenant}\0{one.password_hash}" for one in accounts if one.tenant in tenants)
    return hashlib.sha256("\0".join(mine).encode()).hexdigest()


def seal_factor(deps: Deps, tenant: TenantId | None, email: str, secret: str) -> str:
    """The text to store for a membership. Raises Unavailable where there is no key."""
    if deps.master is not None and tenant is None:
        return seal_personal(deps.master, Secret(secret), factor_place(email))
    sealer = deps.cache.sealer(tenant) if tenant is not None else None
    if sealer is None:
        raise Unavailable(person="There is no key for second factors.")
    return sealer.seal(Secret(secret), table=store.TABLE, column=store.COLUMN, row=email)


def _open_factor(deps: Deps, email: str, factor: Factor) -> str:
    if deps.master is not None and factor.tenant is None:
        return open_personal(deps.master, factor.sealed, factor_place(email)).reveal()
    sealer = deps.cache.sealer(factor.tenant) if factor.tenant is not None else None
    if sealer is None:
        raise Unavailable(person="There is no key for second factors.")
    return sealer.open(factor.sealed, table=store.TABLE, column=store.COLUMN, row=email).reveal()


async def check_code(
    deps: Deps, email: str, tenants: Sequence[TenantId | None], code: str
) -> tuple[list[TenantId | None], Judged]:
    """The memberships whose second factor this code is, used up now; and, for none, why."""
    by_recovery = await deps.db.engine(store.use_recovery_code, email, tenants, recovery_hash(code))
    if by_recovery:
        return by_recovery, Judged()
    fitting: list[TenantId | None] = []
    verdict, step = Judged(wrong="wrong"), 0
    for factor in await deps.db.engine(store.select_factors, email, tenants):
        if not factor.sealed:
            continue
        judged = judge(_open_factor(deps, email, factor), code, time.time(), factor.last_step)
        if judged.step is not None:
            fitting.append(factor.tenant)
            step = judged.step
        elif judged.wrong != "wrong":
            verdict = judged
    if not fitting:
        return [], verdict
    if not await deps.db.engine(store.use_step, email, fitting, step):
        return [], Judged(wrong="used")
    return fitting, Judged(step=step)


async def admit(
    gate: Gate, email: str, tenants: Sequence[TenantId | None], onward: str, *, link: bool = False
) -> Answer:
    """Opens a session for somebody who has proven these memberships, or asks for the code first."""
    deps = gate.site.deps
    factors = await deps.db.engine(store.select_factors, email, tenants)
    if not any(factor.sealed for factor in factors):
        return await gate.open_session(tenants, email, onward, link=link)
    if deps.master is None:
        raise Unavailable(person="There is no key for second factors.")
    accounts = await deps.db.engine(users.select_accounts, email)
    body = {
        "email": email, "tenants": list(tenants), "onward": onward, "link": link, "until": time.time() + STEP_LIVES_S,
        "passwords": _passwords(accounts, tenants),
    }  # fmt: skip
    text = base64.urlsafe_b64encode(json.dumps(body).encode()).decode()
    response = redirect("/login/code", 303)
    gate.set_cookie(response, "step", f"{text}.{_signed(deps.master.derived('second step'), text)}", STEP_LIVES_S)
    return response


async def _read_step(gate: Gate) -> Step | None:
    text, _, signature = request.cookies.get(gate.cookie("step"), "").partition(".")
    deps = gate.site.deps
    if deps.master is None or not hmac.compare_digest(
        _signed(deps.master.derived("second step"), text).encode(), signature.encode()
    ):
        return None
    body: dict[str, Any] = json.loads(base64.urlsafe_b64decode(text))
    tenants = tuple(TenantId(one) if one is not None else None for one in body["tenants"])
    accounts = await deps.db.engine(users.select_accounts, body["email"])
    if time.time() > body["until"] or body["passwords"] != _passwords(accounts, tenants):
        return None
    return Step(body["email"], tenants, body["onward"], body["link"])


def code_pages(gate: Gate) -> Blueprint:
    """The page `/login/code`."""
    pages = Blueprint("second_step", __name__)
    site = gate.site

    def show(status: int = 200, **more: Any) -> Response:
        return site.page("login_code.html", status, **{"error": "", "wait": 0, "off": 0, **more})

    @pages.get("/login/code")
    async def code_form() -> Answer:
        return show() if await _read_step(gate) is not None else redirect("/login", 303)

    @pages.post("/login/code")
    async def enter_code() -> Answer:
        step = await _read_step(gate)
        if step is None:
            return redirect("/login", 303)
        code, network = (await request.form).get("code", "")[:64], network_of(gate.address())
        verdict = gate.throttle.attempt(f"{step.email} code", network, trio.current_time())
        if verdict.refused_s is not None:
            wait = max(1, round(verdict.refused_s))
            answer = show(429, error="too_fast", wait=wait)
            answer.headers["Retry-After"] = str(wait)
            return answer
        leave_place()
        await trio.sleep(verdict.delay_s)
        verified, judged = await check_code(site.deps, step.email, step.tenants, code)
        if not verified:
            accounts = await site.deps.db.engine(users.select_accounts, step.email)
            gate.audit.refused([one for one in accounts if one.tenant in step.tenants], step.email, network)
            log.warning("a code was refused", extra={"network": network})
            return show(401, error=judged.wrong, off=judged.off_s)
        gate.throttle.succeeded(f"{step.email} code", network, trio.current_time())
        factors = await site.deps.db.engine(store.select_factors, step.email, step.tenants)
        opened = [one.tenant for one in factors if not one.sealed or one.tenant in verified]
        response = await gate.open_session(opened, step.email, step.onward, link=step.link)
        response.delete_cookie(gate.cookie("step"), path="/", secure=site.deps.secure_cookies)
        g.form_cookie = None
        return response

    return pages
