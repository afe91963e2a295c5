"""The JSON addresses behind a module's pages: `/<kind>-admin/api/...`, the same for every adapter that can register us. A little
long, for they are one table.

    cookie of a person | cookie of a module's session | bearer token of the module's link -> Caller -> number -> operation

Owns who may call (no session 401, another number 403) and how maps are read and answered. A module's session or token
neither sees nor changes how the outside system is reached: those fields are left out, and naming one is a 403. Unsafe
methods by cookie need the session's CSRF token in `X-CSRF-Token`; every answer to a GET brings it. Read
`actors/crm/registration.py` for the operations, `gateway/web/http/routes.py` for what a request is.
"""

import hmac
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlencode

from werkzeug.http import parse_cookie

from actors.crm.registration import Registrations, Synced, SyncResult, with_users
from actors.crm.registration_changes import StoredMap
from adapters.abilities import Registers, statuses_of
from adapters.base import Adapter, AdapterSettings, Tested, marked_fields
from adapters.registry import Linked
from gateway.domain import extensions
from gateway.domain.configuration import Connector, Tenant
from gateway.domain.errors import GatewayError, Retryable
from gateway.domain.extensions import differences
from gateway.domain.ids import IntegrationKey, TenantId
from gateway.domain.posts import Invalid
from gateway.store import users
from gateway.store.audit import ORIGIN, Kind, Origin
from gateway.store.integration_states import mark_tested
from gateway.web.http.guesses import Guesses
from gateway.web.http.multipart import Malformed, text_fields
from gateway.web.http.routes import (
    FORM,
    Address,
    Handler,
    Request,
    Response,
    answer_json,
    body_object,
    invalid,
    problem,
)
from gateway.web.pages.change_settings import change_settings, changed_settings, shown_settings
from gateway.web.session.access import Need
from gateway.web.session.auth import ABSOLUTE_S, IDLE_S, SAFE_METHODS
from gateway.web.session.embedded import module_cookie, select_and_touch
from gateway.web.session.guard import allows
from gateway.web.session.tokens import read_token
from gateway.web.translations import words

_MOST = 10_000
MAP = "user_extensions"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The caller of a request. `module` is true for what the module's link opened."""

    tenant: TenantId | None
    """The company of a module's link; None for a person."""
    who: str
    session: users.Session | None = None
    """A person's."""
    module: bool
    key: IntegrationKey | None = None
    """The integration whose link it is; None for a person, who may name any of their company."""
    csrf: str | None = None
    """The CSRF token that an unsafe request must send; None for a bearer token, which no browser sends by itself."""

    def may(self, number: str, method: str) -> bool:
        """Whether the caller may do this in the tenant of this number."""
        if self.session is None:
            return self.tenant == number
        return allows(self.session, TenantId(number), Need.READ if method in SAFE_METHODS else Need.CHANGE)


Probe = Callable[[TenantId, Connector], Awaitable[Tested]]


async def _no_probe(number: TenantId, link: Connector) -> Tested:
    return Tested(ok=True, code="not_testable")


@dataclass(frozen=True)
class ModuleCallers:
    """Identifies the caller."""

    modules: Registrations
    secure_cookies: bool
    guesses: Guesses = field(default_factory=Guesses)
    probe: Probe = _no_probe
    """Tests an integration with its stored settings."""

    async def of(self, adapter: Adapter, request: Request) -> list[Caller]:
        """All callers of a request: a browser may send a person's cookie and a module's. The person first."""
        found: list[Caller] = []
        if (text := bearer_of(request)) is not None:
            link = await self.modules.open_link(adapter.kind, text)
            if link is not None:
                self.guesses.right(text)
            return [Caller(tenant=link[0], who=link[1], module=True, key=link[1])] if link is not None else []
        cookies = parse_cookie(request.headers.get("cookie", ""))
        db = self.modules.db
        token = read_token(cookies.get("__Host-session" if self.secure_cookies else "session", ""))
        if token is not None:
            session = await db.engine(users.select_session, token.tenant, token.token_hash, IDLE_S, ABSOLUTE_S)
            if session is not None:
                found.append(Caller(tenant=None, who=session.email, session=session, module=False, csrf=session.csrf))
        token = read_token(cookies.get(module_cookie(secure=self.secure_cookies), ""))
        if token is not None:
            session = await db.engine(select_and_touch, token, adapter.kind)
            if session is not None:
                found.append(
                    Caller(tenant=session.tenant, who=session.email, module=True, key=session.scope, csrf=session.csrf)
                )
        return found


def bearer_of(request: Request) -> str | None:
    """The bearer token of a request; None where it brings none."""
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    return text.strip() if scheme.lower() == "bearer" else None


Operation = Callable[[Linked, Tenant, Caller, Request], Awaitable[Response]]


def _guarded(callers: ModuleCallers, adapter: Adapter, operation: Operation) -> Handler:
    async def checked(request: Request) -> Response:
        bearer = bearer_of(request)
        if bearer and (slowed := callers.guesses.refusal(request, bearer)) is not None:
            return slowed
        found = await callers.of(adapter, request)
        if not found:
            needed = problem(401, "AUTH_FAILED", "Sign in, or send the token of the module's link as a bearer token.",
                             headers=(("WWW-Authenticate", "Bearer"),))  # fmt: skip
            return await callers.guesses.wrong(request, bearer, needed)
        number = request.params["number"]
        mine = [caller for caller in found if caller.may(number, request.method)]
        if not mine:
            return problem(403, "FORBIDDEN", "This company is not the session's, or its role may not do this.")
        if request.method not in SAFE_METHODS:
            sent = request.headers.get("x-csrf-token", "")
            foreign = request.headers.get("sec-fetch-site", "same-origin") == "cross-site"
            mine = [
                caller for caller in mine
                if caller.csrf is None or (not foreign and hmac.compare_digest(sent.encode(), caller.csrf.encode()))
            ]  # fmt: skip
            if not mine:
                return problem(403, "FORBIDDEN", "The header X-CSRF-Token is missing or not this session's.")
        caller, tenant = mine[0], callers.modules.cache.tenant(TenantId(number))
        kind: Kind = "key" if caller.module else "operator" if caller.tenant is None else "person"
        ORIGIN.set(Origin(kind, callers.guesses.client(request)))
        if tenant is None:
            return problem(404, "NOT_FOUND", "There is no such enterprise.")
        link = _connector_of(adapter, tenant, caller, request.query.get("integration", ""))
        if link is None:
            return problem(404, "NOT_FOUND", "This integration is not set up. Enter its settings first.")
        try:
            response = await operation(Linked(link.key, adapter), tenant, caller, _as_plain_form(request))
        except BadBody as error:
            return problem(400, "VALIDATION_ERROR", "The body cannot be read.", errors=error.problems)
        except Invalid as error:
            return invalid(error)
        except GatewayError as error:
            if isinstance(error, Retryable):
                raise
            return problem(422, error.problem_code, error.person)
        if request.method in SAFE_METHODS and caller.csrf is not None:
            more = (*response.headers, ("X-CSRF-Token", caller.csrf))
            response = Response(
                status=response.status, body=response.body, content_type=response.content_type, headers=more
            )
        return response

    return checked


class BadBody(Invalid):
    """There is no body, or it is neither JSON nor a form: nothing in it can be named."""


def _as_plain_form(request: Request) -> Request:
    """A request whose multipart form is one that `body_object` reads. Raises BadBody."""
    kind = request.headers.get("content-type", "")
    if kind.partition(";")[0].strip().lower() != "multipart/form-data":
        return request
    try:
        body = urlencode(text_fields(kind, request.body)).encode()
    except Malformed:
        raise BadBody((("body", "must be a multipart form to its end"),)) from None
    return replace(request, body=body, headers={**request.headers, "content-type": FORM})


def _object_of(request: Request) -> dict[str, Any]:
    """The body as an object. Raises BadBody where it is none, or empty."""
    if not request.body.strip():
        raise BadBody((("body", "is empty; a JSON object or a form is expected"),))
    try:
        return body_object(request)
    except Invalid as error:
        raise BadBody(error.problems) from None


def _connector_of(adapter: Adapter, tenant: Tenant, caller: Caller, named: str) -> Connector | None:
    """The integration that a request is about: the link's own, the one it names, else the first of its kind."""
    known = tenant.of_kind(adapter.kind)
    wanted = caller.key or named
    return next((one for one in known if one.key == wanted), None) if wanted else next(iter(known), None)


def read_map(request: Request, adapter: Adapter) -> dict[str, str | None]:
    """A map of users to internal numbers: `{"user_extensions": {...}}`, the map by itself, or a list of
    `{userId, extension}`. Raises Invalid with every problem."""
    text = request.body.decode("utf-8", "replace").lstrip("\ufeff \t\r\n")
    sent: Any
    if text.startswith("["):
        try:
            sent = json.loads(text)
        except (ValueError, RecursionError):
            raise BadBody((("body", "must be JSON"),)) from None
    else:
        sent = _object_of(request)
        sent = sent.get("user_extensions", sent)
    if isinstance(sent, str):
        try:
            sent = json.loads(sent)
        except (ValueError, RecursionError):
            sent = None
    pairs: list[tuple[Any, Any]] = []
    problems: list[tuple[str, str]] = []
    if isinstance(sent, Mapping):
        pairs = list(sent.items())
    elif isinstance(sent, list):
        for place, item in enumerate(sent):
            if isinstance(item, Mapping) and "userId" in item and "extension" in item:
                pairs.append((item["userId"], item["extension"]))
            else:
                problems.append((f"user_extensions[{place}]", "must have userId and extension"))
    else:
        problems.append(("user_extensions", "must map users to internal numbers"))
    if len(pairs) > _MOST:
        raise Invalid((("user_extensions", f"may name at most {_MOST} users"),))
    changes, wrong = extensions.read_map(pairs, adapter.user_id)
    problems += [(f"user_extensions.{user}" if user else "user_extensions", text) for user, text in wrong]
    if problems:
        raise Invalid(tuple(problems))
    return changes


def _crm(result: SyncResult) -> dict[str, Any]:
    """Whether the other side knows what is stored here; if not, why, for a person and for a program."""
    if result.saved:
        return {"crm": "saved"}
    text = words("en").code("module_problem", result.code)
    return {"crm": "waiting", "reason": f"{text} {result.detail}".strip(), "reason_code": result.code}


def _difference(user: str, ours: str | None, theirs: str | None) -> dict[str, str | None]:
    return {"userId": user, "ours": ours, "theirs": theirs}


def _synced(done: Synced) -> dict[str, Any]:
    return {
        "differences": [_difference(d.user_id, d.ours, d.theirs) for d in done.settled],
        "imported": dict(done.imported), "unknown_phones": list(done.no_phones),
        "unknown_users": list(done.reported.unknown_users), **_crm(done.reported),
    }  # fmt: skip


def _module(stored: StoredMap) -> dict[str, Any]:
    row = stored.row
    return {
        "state": row.state, "registered_at": row.registered_at, "told_at": row.told_at, "pending": row.pending,
        "problem": row.problem or None, "unknown_users": list(row.unknown_users),
    }  # fmt: skip


def _shown(adapter: Adapter, link: Connector, *, module: bool) -> dict[str, Any]:
    """The settings as this caller may see them: secrets masked, and for a module only what is shared."""
    shared = marked_fields(adapter.settings, "shared")
    shown = shown_settings(adapter.settings, link.settings)
    names = {info.alias or name: name for name, info in adapter.settings.model_fields.items()}
    return {key: value for key, value in shown.items() if not module or names[key] in shared}


class _Operations:
    """What the addresses do."""

    def __init__(self, modules: Registrations, probe: Probe) -> None:
        self._modules = modules
        self._probe = probe

    async def config(self, linked: Linked, tenant: Tenant, caller: Caller, request: Request) -> Response:
        link = tenant.integrations[linked.key]
        stored = await self._modules.stored(tenant.number, linked)
        return answer_json(
            {
                "enterprise_number": tenant.number, "integration": linked.key, "enabled": link.enabled,
                **_shown(linked.adapter, link, module=caller.module), "module": _module(stored),
            }
        )  # fmt: skip

    async def put_config(self, linked: Linked, tenant: Tenant, caller: Caller, request: Request) -> Response:
        sent, model = _object_of(request), linked.adapter.settings
        allowed = marked_fields(model, "shared") if caller.module else frozenset(model.model_fields) | {"enabled"}
        if caller.module and (locked := sorted(sent.keys() - allowed)):
            return problem(403, "FORBIDDEN", "The module's pages may not change this.",
                           errors=[(name[:60], "may not be changed here") for name in locked])  # fmt: skip
        enabled = sent.pop("enabled", None)
        enabled = (
            {"true": True, "1": True, "false": False, "0": False}.get(enabled, enabled)
            if isinstance(enabled, str)
            else enabled
        )
        if enabled is not None and not isinstance(enabled, bool):
            raise Invalid((("enabled", "must be true or false"),))
        if MAP in sent:
            raise Invalid(((MAP, "is saved by save-extensions"),))

        def change(stored: Mapping[str, Any]) -> AdapterSettings:
            return changed_settings(model, stored, sent)

        number, master = tenant.number, self._modules.cache.master
        if await change_settings(
            self._modules.db, master, number, linked.key, change, sent.keys(), enabled, caller.who, model
        ):
            self._modules.changed(number, linked)
            await self._modules.refresh(number)
        return await self.config(linked, self._modules.cache.tenant(number) or tenant, caller, request)

    async def register(self, linked: Linked, tenant: Tenant, caller: Caller, request: Request) -> Response:
        # The link's own holder updates the registration; a new one would end the session of this request.
        operation = self._modules.update if caller.module else self._modules.register
        result = await operation(tenant.number, linked, caller.who)
        stored = await self._modules.stored(tenant.number, linked)
        return answer_json(
            {"status": "registered" if result.saved else "waiting", **_crm(result), "unknown_users": list(result.unknown_users),
             "module": _module(stored)}
        )  # fmt: skip

    async def test(self, linked: Linked, tenant: Tenant, caller: Caller, request: Request) -> Response:
        tested = await self._probe(tenant.number, tenant.integrations[linked.key])
        if tested.ok:
            await self._modules.db.tenant(tenant.number, mark_tested, tenant.number, linked.key, passed=True)
        said, kind = words("en"), linked.adapter.kind
        text = f"{said.code('tested', tested.code, kind)} {tested.detail}".strip()
        findings = [
            {
                "ok": one.ok,
                "code": one.code,
                "message": said.code("finding", one.code, kind),
                "detail": one.detail or None,
            }
            for one in tested.findings
        ]
        return answer_json({"success": tested.ok, "code": tested.code, "message": text, "findings": findings,
                            **({} if tested.ok else {"error": text})})  # fmt: skip

    async def phones(self, linked: Linked, tenant: Tenant, caller: Caller, request: Request) -> Response:
        stored = await self._modules.stored(tenant.number, linked)
        holders = {number: user for user, number in stored.extensions.items()}
        phones = [{"number": p.number, "owner": p.owner, "userId": holders.get(p.number)} for p in stored.phones]
        return answer_json({"enterprise_number": tenant.number, "phones": phones})

    async def extensions(self, linked: Linked, tenant: Tenant, caller: Caller, request: Request) -> Response:
        reading = await self._modules.read(tenant.number, linked)
        stored = await self._modules.stored(tenant.number, linked)
        differ = differences(stored.extensions, reading.held.extensions) if reading.held is not None else ()
        presence = {one.word: one.presence for one in statuses_of(linked.adapter)}
        return answer_json(
            {
                "enterprise_number": tenant.number, "user_extensions": dict(stored.extensions),
                "users": [
                    {"userId": user.user_id, "name": user.name, "email": user.email, "groups": list(user.groups),
                     "active": user.active, "status": user.status, "presence": presence.get(user.status), "extension": stored.extensions.get(user.user_id)}
                    for user in reading.users
                ],
                "differences": [_difference(d.user_id, d.ours, d.theirs) for d in differ],
                "not_exist_codes": sorted(stored.not_exist),
                "crm": "unavailable" if reading.problem else "ok", "pending": stored.row.pending,
                **({"reason": _crm(SyncResult(False, reading.problem, reading.detail))["reason"]} if reading.problem else {}),
            }
        )  # fmt: skip

    async def save(self, linked: Linked, tenant: Tenant, caller: Caller, request: Request) -> Response:
        saved = await self._modules.save(tenant.number, linked, read_map(request, linked.adapter), caller.who)
        stored = await self._modules.stored(tenant.number, linked)
        return answer_json(
            {
                "saved": dict(saved.extensions),
                "moved": [{"extension": m.number, "from": m.old_user, "to": m.new_user} for m in saved.moved],
                "unknown_users": list(saved.reported.unknown_users), "not_exist_codes": sorted(stored.not_exist),
                **_crm(saved.reported),
            }
        )  # fmt: skip

    async def sync(self, linked: Linked, tenant: Tenant, caller: Caller, request: Request) -> Response:
        return answer_json(_synced(await self._modules.sync(tenant.number, linked, caller.who)))


_ANSWERS = {
    200: "OK", 401: "No session and no token", 403: "Not this session's company, or no CSRF token",
    400: "There is no body, or it cannot be read", 404: "The integration is not set up", 503: "The database is away; try again",
}  # fmt: skip
_MAP_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {"user_extensions": {"type": "object", "additionalProperties": {"type": ["string", "null"]}}},
}


def module_addresses(callers: ModuleCallers, adapters: Sequence[Adapter] | None = None) -> list[Address]:
    """The addresses of every adapter whose outside system registers us or has internal numbers of its users."""
    operations, table = _Operations(callers.modules, callers.probe), list[Address]()
    for adapter in adapters if adapters is not None else with_users().values():
        title = adapter.title
        for method, name, operation, summary, schema in (
            ("GET", "config", operations.config, f"Settings of {title}, secrets masked", None),
            (
                "PUT",
                "config",
                operations.put_config,
                f"Change settings of {title}; what is not named stays",
                {"type": "object"},
            ),
            ("POST", "register", operations.register, f"Register or update our module in {title}", None),
            ("POST", "test", operations.test, f"Test the connection to {title}; changes nothing there", None),
            ("GET", "internal-phones", operations.phones, "Internal numbers, their owners and users", None),
            ("GET", "user-extensions", operations.extensions, f"Users of {title} and their internal numbers", None),
            ("POST", "save-extensions", operations.save, "Give internal numbers to users, here and there", _MAP_SCHEMA),
            ("POST", "sync-extensions", operations.sync, "Compare both maps and settle the differences", None),
        ):
            if operation == operations.register and not adapter.can(Registers):
                continue
            answers = _ANSWERS | ({422: "Not valid; `errors` lists every field"} if schema is not None else {})
            table.append(
                Address(
                    method=method, path=f"/{adapter.kind}-admin/api/{name}/{{number}}", summary=summary, schema=schema,
                    handler=_guarded(callers, adapter, operation), answers=answers,
                )
            )  # fmt: skip
    return table
