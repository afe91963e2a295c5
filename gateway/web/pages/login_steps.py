"""Logging in to an outside system: the pages of a login, drawn by one template from the steps that the adapter gives.

    /t/N/integrations/KEY/login      begin, see the step at hand, submit it
    /oauth/KIND/start                one button: begins a login and leads to the provider
    /oauth/KIND/callback             where the provider sends the person back

A login belongs to one session and one integration and holds for ten minutes. Its steps are stored sealed (`logins`), a step that
is submitted twice is done once, and what it brings is stored when it ends. Read `adapters/login.py` for the shapes.
"""

import hashlib
import json
import logging
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from pydantic import ValidationError
from quart import Blueprint, abort, redirect, request
from quart_trio.wrappers import TrioResponse as Response

from adapters.base import AdapterSettings, Tested
from adapters.login import LoginDone, LoginPlace, LoginStep
from adapters.registry import Linked, linked
from gateway.domain.errors import GatewayError
from gateway.domain.ids import IntegrationKey, Kind, TenantId, integration_key, kind_of
from gateway.domain.posts import Invalid
from gateway.domain.secret import Secret
from gateway.store import logins as store
from gateway.store.audit import insert_audit
from gateway.store.integration_states import mark_tested
from gateway.store.postgres.errors import Unsealable
from gateway.store.postgres.pool import Connection
from gateway.web.pages.change_settings import change_settings
from gateway.web.pages.form_rounds import form_shown, read_round
from gateway.web.pages.qr import qr_svg
from gateway.web.session.access import Need
from gateway.web.session.auth import Gate
from gateway.web.session.flash import Flash, lead_on, note
from gateway.web.session.guard import allows
from gateway.web.session.surroundings import flashed, look_around
from gateway.web.site import Answer, Site, tenant, viewer

log = logging.getLogger(__name__)

_LONGEST_VALUE = 4000


@dataclass(frozen=True, slots=True)
class _Under:
    """A login under way, as its session may see it."""

    transaction: str
    row: store.LoginRow
    linked: Linked
    step: LoginStep


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _may_change(number: TenantId) -> bool:
    """Whether this session may log an integration of a company in: redirects come back to an address that names none."""
    session = viewer().session
    return session is not None and allows(session, number, Need.CHANGE)


class Logins:
    """What the pages do, without their drawing."""

    def __init__(self, site: Site, gate: Gate) -> None:
        self._site = site
        self._gate = gate

    def _session(self) -> bytes:
        token = self._gate.token()
        if token is None:
            abort(403)
        return token.token_hash

    def _settings(self, link: Linked) -> AdapterSettings:
        known = tenant().integrations.get(link.key)
        if known is None:
            raise Invalid((("body", "set the integration up first"),))
        try:
            return link.adapter.settings.model_validate(dict(known.settings))
        except ValidationError:
            raise Invalid((("body", "correct the integration's settings first"),)) from None

    def _place(self, kind: Kind, transaction: str) -> LoginPlace:
        return LoginPlace(f"{self._site.deps.public_url.rstrip('/')}/oauth/{kind}/callback", transaction)

    async def begin(self, link: Linked) -> tuple[str, LoginStep | LoginDone]:
        """A login in place of any other of this integration: its transaction, and the first step. Raises Invalid where there
        is nothing to log in with, and the other side's errors."""
        settings, transaction = self._settings(link), secrets.token_urlsafe(32)
        deps, number = self._site.deps, tenant().number
        await deps.db.engine(store.insert_login, number, link.key, _hash(transaction), self._session())
        async with deps.login(tenant(), link, settings, self._place(link.adapter.kind, transaction)) as flow:
            step = await flow.begin()
        await self._store(link, transaction, step)
        return transaction, step

    async def find(self, transaction: str, kind: Kind | None = None) -> _Under | None:
        """The login of a transaction, where it is this session's and company's and not over."""
        row = await self._site.deps.db.engine(store.select_login, _hash(transaction))
        if row is None or row.session_hash != self._session() or not _may_change(row.tenant):
            return None
        if kind is not None and kind_of(row.integration) != kind:
            return None
        link = linked(row.integration)
        step = self._opened(row) if link is not None else None
        return _Under(transaction, row, link, step) if link is not None and step is not None else None

    def _opened(self, row: store.LoginRow) -> LoginStep | None:
        sealer = self._site.deps.cache.sealer(row.tenant)
        if sealer is None or not row.shown:
            return None
        try:
            text = sealer.open(row.shown, table=store.TABLE, column="shown", row=row.integration)
        except Unsealable:
            return None
        return LoginStep(**json.loads(text.reveal()))

    async def go_on(self, under: _Under, step: str, values: Mapping[str, Any]) -> LoginStep | LoginDone | None:
        """Does a step, once: None where it is not its turn or somebody does it already. Raises the other side's errors; the
        step is then as it was."""
        deps, hashed = self._site.deps, _hash(under.transaction)
        if await deps.db.engine(store.take_step, hashed, step) is None:
            return None
        link = under.linked
        following: LoginStep | LoginDone = under.step
        try:
            place = self._place(link.adapter.kind, under.transaction)
            async with deps.login(tenant(), link, self._settings(link), place) as flow:
                following = await flow.go_on(step, under.step.state, values)
        finally:
            if not isinstance(following, LoginDone):
                await self._store(link, under.transaction, following)
        if isinstance(following, LoginDone):
            await self._store(link, under.transaction, following)
        return following

    async def _store(self, link: Linked, transaction: str, step: LoginStep | LoginDone) -> None:
        deps, number = self._site.deps, tenant().number
        if isinstance(step, LoginDone):
            await self._finish(link, transaction, step)
            return
        sealer = deps.cache.sealer(number)
        assert sealer is not None, "a company that is shown has a key"
        text = json.dumps({name: _plain(getattr(step, name)) for name in step.__dataclass_fields__})
        sealed = sealer.seal(Secret(text), table=store.TABLE, column="shown", row=link.key)
        await deps.db.engine(store.store_step, _hash(transaction), step.id, sealed)

    async def _finish(self, link: Linked, transaction: str, done: LoginDone) -> None:
        """Tokens first, then settings, then the end: whatever fails, the login can be made again."""
        deps, number = self._site.deps, tenant().number
        session = viewer().session
        who = session.email if session is not None else ""
        tokens = deps.tokens(number, link.key)
        for name, fresh in done.tokens.items():
            await tokens.put(name, fresh)
        if done.settings and deps.master is not None:

            def change(stored: Mapping[str, Any]) -> AdapterSettings:
                return link.adapter.settings.model_validate({**stored, **done.settings})

            await change_settings(
                deps.db,
                deps.master,
                number,
                link.key,
                change,
                set(done.settings),
                None,
                who,
                link.adapter.settings,
            )
        await deps.db.tenant(number, mark_tested, number, link.key, passed=True)
        audited = partial(_audited, number=number, who=who, key=link.key)
        await deps.db.engine(store.end_login, _hash(transaction), [audited])
        await deps.modules.refresh(number)
        deps.ring(number, link.key)
        log.info("an integration was logged in", extra={"tenant": number, "integration": link.key})


async def _audited(conn: Connection, *, number: Any, who: str, key: IntegrationKey) -> None:
    await insert_audit(conn, number, who, "integration.logged_in", key)


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value


def _link(text: str) -> Linked:
    """The integration of a key, where its adapter has a login; else 404."""
    try:
        found = linked(integration_key(text))
    except ValueError:
        found = None
    if found is None or found.adapter.login is None or found.key not in tenant().integrations:
        abort(404)
    return found


def login_pages(gate: Gate) -> Blueprint:
    """The pages below `/t/<number>/integrations/<key>/login`."""
    pages = Blueprint("login_steps", __name__, url_prefix="/t/<number>/integrations/<key>/login")
    pages.before_request(partial(look_around, gate))
    site, logins = gate.site, Logins(gate.site, gate)

    def show(link: Linked, under: _Under | None, status: int = 200, problem: str = "") -> Response:
        model = _form_of(link, under)
        response = site.page(
            "login_step.html", status, key=link.key, step=under.step if under is not None else None,
            form=form_shown(model, {}, "s.")[0] if model is not None else None,
            transaction=under.transaction if under is not None else "", problem=problem,
            qr=qr_svg(under.step.qr) if under is not None and under.step.qr else "",
        )  # fmt: skip
        if under is not None and under.step.kind == "redirect" and flashed("note") is None:
            # Not as the answer to a form: our own policy lets no form lead to another site.
            response.headers["Refresh"] = f"0; url={under.step.url}"
        return response

    async def lead(onward: str, flash: Flash | None = None) -> Answer:
        if flash is None:
            return redirect(onward, 303)
        return await lead_on(site.deps, gate.token(), onward, flash, tenant=tenant().number)

    @pages.get("")
    async def look(number: str, key: str) -> Answer:
        link, transaction = _link(key), request.args.get("transaction", "")
        under = await logins.find(transaction, link.adapter.kind) if transaction else None
        if transaction and under is None:
            return show(link, None, 410, problem="login_steps.over")
        return show(link, under)

    @pages.post("")
    async def submit(number: str, key: str) -> Answer:
        link, sent = _link(key), await request.form
        home = f"/t/{tenant().number}/integrations/{link.key}"
        transaction, step = sent.get("transaction", ""), sent.get("step", "")
        try:
            if not transaction:
                transaction, following = await logins.begin(link)
            else:
                under = await logins.find(transaction, link.adapter.kind)
                if under is None:
                    return await lead(f"{home}/login?transaction=")
                values: Mapping[str, Any] = {}
                if under.step.kind == "choice":
                    values = {"choice": sent.get("choice", "")[:_LONGEST_VALUE]}
                model = _form_of(link, under)
                if model is not None and step == under.step.id:
                    accepted, flash = await read_round(gate, model, {}, _nothing_to_test, at="s.")
                    if accepted is None:
                        return await lead(f"{home}/login?transaction={transaction}", flash)
                    values = {name: getattr(accepted, name) for name in model.model_fields}
                following = await logins.go_on(under, step, values) or under.step
        except Invalid:
            return await lead(home)
        except GatewayError as error:
            log.warning("a login step failed", extra={"integration": link.key, "reason": str(error)})
            problem = note("login_steps.problem", "bad", why=viewer().t.detail(error.person))
            return await lead(f"{home}/login?transaction={transaction}", problem)
        if isinstance(following, LoginDone):
            return await lead(home, note("login_steps.done"))
        return await lead(f"{home}/login?transaction={transaction}")

    return pages


def _form_of(link: Linked, under: _Under | None) -> type[AdapterSettings] | None:
    """The form of the step at hand, if it has one."""
    login = link.adapter.login
    return login.forms.get(under.step.id) if under is not None and login is not None else None


async def _nothing_to_test(values: Mapping[str, Any]) -> Tested:
    return Tested(ok=True, code="ok")


def oauth_pages(gate: Gate) -> Blueprint:
    """`/oauth/KIND/start?integration=KEY` and `/oauth/KIND/callback`: one login of one step, a redirect."""
    pages = Blueprint("oauth", __name__, url_prefix="/oauth/<kind>")
    site, logins = gate.site, Logins(gate.site, gate)

    def failed(problem: str, status: int) -> Response:
        return site.page("login_failed.html", status, problem=problem)

    @pages.get("/callback")
    async def callback(kind: str) -> Answer:
        if viewer().session is None:
            return failed("login_steps.no_session", 401)
        query = {name: value[:_LONGEST_VALUE] for name, value in request.args.items()}
        under = await logins.find(query.pop("state", ""), Kind(kind))
        if under is None or under.step.kind != "redirect":
            return failed("login_steps.over", 410)
        if not gate.enter(under.row.tenant) or not _may_change(under.row.tenant):
            return failed("login_steps.over", 410)
        try:
            following = await logins.go_on(under, under.step.id, query)
        except Invalid:
            return failed("login_steps.over", 410)
        except GatewayError as error:
            log.warning("a login step failed", extra={"integration": under.linked.key, "reason": str(error)})
            return failed(viewer().t.detail(error.person), 502)
        home = f"/t/{under.row.tenant}/integrations/{under.linked.key}"
        if isinstance(following, LoginStep) and following.kind != "redirect":
            return redirect(f"{home}/login?transaction={under.transaction}", 303)
        return await lead_on(site.deps, gate.token(), home, note("login_steps.done"), tenant=under.row.tenant)

    @pages.get("/start")
    async def start(kind: str) -> Answer:
        """Leads to the page with the button: what begins a login is a POST, so that no other site can begin one."""
        key = request.args.get("integration", "")
        session = viewer().session
        number = request.args.get("tenant") or (session.tenant if session is not None else None)
        if session is None or number is None:
            return failed("login_steps.no_session", 401)
        try:
            found = integration_key(key)
        except ValueError:
            abort(404)
        if kind_of(found) != kind or not _may_change(TenantId(number)):
            abort(404)
        return redirect(f"/t/{number}/integrations/{found}/login", 303)

    return pages
