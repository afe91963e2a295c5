"""Who calls: a request and the scopes of which one is needed make a `Caller`, or the problem to answer with.

    address's rate -> key, token or session -> scope -> key's rate -> Caller

    Authorization: Bearer KEY | TOKEN, or X-API-Key: KEY | TOKEN     never from the query
    a person's session cookie                                        unsafe methods with the session's X-CSRF-Token

A key's tenant is its own; a session's is its company. Only `session_access` decides what a session may. Read `api_keys.py`,
`tokens.py` and `identity_service.py` for the three kinds of credential, `limits.py` for the rates.
"""

import hmac
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal

from werkzeug.http import parse_cookie

from gateway.domain.api_keys import SCOPES, KeyOwner
from gateway.domain.ids import TenantId
from gateway.domain.people import Role
from gateway.store import users
from gateway.store.api_keys import ApiKey
from gateway.store.postgres.pool import Connection, Database
from gateway.store.users import Session
from gateway.telemetry import COUNTERS
from gateway.web.callers.api_keys import ApiKeys
from gateway.web.callers.identity_service import IdentityService
from gateway.web.callers.limits import Allowance, CallLimits
from gateway.web.callers.softphones import SoftphoneTokens
from gateway.web.callers.tokens import ALGORITHM, ExpiredToken, Tokens, algorithm_of, is_token
from gateway.web.http.guesses import Guesses
from gateway.web.http.routes import Request, Response, problem
from gateway.web.session.auth import ABSOLUTE_S, IDLE_S, SAFE_METHODS
from gateway.web.session.tokens import Token, read_token

log = logging.getLogger(__name__)

Headers = tuple[tuple[str, str], ...]
CALL = "call"
"""The scope of click-to-call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who makes a request, of which company, and what they may do there."""

    kind: Literal["key", "token", "session"]
    tenant: TenantId
    scopes: frozenset[str]
    actor: str
    """For the audit: a key's first characters, the subject of an outside token, a person's address."""
    identity: str
    """What limits, idempotency keys and streams count by: the key's id, whichever token was made from it."""
    key: ApiKey | None = None
    """The key, where the request brought it or a token of it."""
    only: tuple[str, ...] | None = None
    """The internal numbers of an agent, whose calls alone they see and place; None for everybody else."""
    operator: bool = False
    """Whether it is an operator who acts as the company."""
    csrf: str | None = None
    """The session's CSRF token; None where no browser sends the credential by itself."""
    token: Token | None = None
    """The session's."""
    headers: Headers = ()
    """What the answer has to bring: what is left of the rates, the session's CSRF token."""

    @property
    def reads_messages(self) -> bool:
        """Whether texts of messages are theirs to read: an auditor's session sees everything else."""
        return self.kind != "session" or bool(self.scopes & {"write", "chat"})

    @property
    def owner(self) -> KeyOwner:
        """Whose the keys are that the caller makes: of a key, that key's owner's."""
        if self.key is not None:
            return self.key.owner
        kind: Literal["operator", "person"] = "operator" if self.operator else "person"
        return KeyOwner(kind if self.kind == "session" else "outside", self.actor)


@dataclass(frozen=True, slots=True)
class Access:
    """What a session may do, and in which company."""

    tenant: TenantId
    scopes: frozenset[str]
    only: tuple[str, ...] | None = None
    """As in `Caller`."""


SESSION_SCOPES: Mapping[Role, frozenset[str]] = MappingProxyType({
    Role.ADMIN: frozenset(SCOPES), Role.AUDITOR: frozenset({"read"}), Role.AGENT: frozenset({"read", "call", "chat"}),
})  # fmt: skip


def session_access(session: Session, wanted: str) -> Access | Response:
    """What a person's session may by machine addresses; `wanted` is the `?tenant=` of the request. The one place that decides it:
    an operator acts for a company only while acting as it, an auditor reads, an agent has what is their own."""
    acting = session.acting.tenant if session.acting is not None else None
    tenant = TenantId(wanted) if wanted else acting or session.tenant
    member = session.membership(tenant) if tenant is not None and session.scope is None else None
    if member is not None and member.locked:
        return problem(403, "FORBIDDEN", "This company demands a second factor. Set it up on your page first.")
    if tenant is None or member is None:
        if session.operator:
            return problem(403, "FORBIDDEN", "An operator enters a company's data only while acting as that company.")
        return problem(403, "FORBIDDEN", "This company is not the session's.")
    return Access(tenant, SESSION_SCOPES[member.role], member.phones if member.role is Role.AGENT else None)


def may_call_from(access: Access, extension: str) -> bool:
    """Whether a person may call from an internal number: an agent from their own."""
    return access.only is None or extension in access.only


@dataclass(frozen=True)
class Callers:
    """Identifies callers, for every address that wants a key."""

    db: Database
    keys: ApiKeys
    tokens: Tokens
    outside: IdentityService | None = None
    known_tenant: Callable[[TenantId], object | None] = lambda number: None
    """Whether there is such a company; raises Unavailable while that is not known."""
    limits: CallLimits = field(default_factory=CallLimits)
    guesses: Guesses = field(default_factory=Guesses)
    secure_cookies: bool = False
    softphones: SoftphoneTokens | None = None
    """Tokens of softphones, which open calls from one number alone."""

    async def of(self, request: Request, scopes: Sequence[str], *, sessions: bool = True) -> Caller | Response:
        """The caller, if one of `scopes` is theirs. Raises Unavailable."""
        by_address = self.limits.address(self.guesses.source(request))
        if by_address.wait_s:
            return too_often(by_address, "this address")
        text = credential_of(request)
        if text is not None:
            if (phone := await self.of_softphone(text)) is not None:
                admitted = phone if isinstance(phone, Response) else self._admitted(phone, scopes, by_address)
                return admitted if isinstance(admitted, Response) else _of_company(admitted, request)
            found = await self.of_credential(request, text, scopes, by_address)
            return found if isinstance(found, Response) else _of_company(found, request)
        cookie = parse_cookie(request.headers.get("cookie", "")) if sessions else {}
        token = read_token(cookie.get("__Host-session" if self.secure_cookies else "session", ""))
        session = await self.db.engine(_select_and_touch, token) if token is not None else None
        if session is None or token is None:
            return problem(401, "AUTH_FAILED", "Send an API key as a bearer token or in X-API-Key, or sign in.",
                           headers=(("WWW-Authenticate", "Bearer"),))  # fmt: skip
        return self._of_session(request, session, token, scopes, by_address)

    async def of_credential(
        self, request: Request, text: str, scopes: Sequence[str], by_address: Allowance | None = None
    ) -> Caller | Response:
        """The caller with this key or token, if one of `scopes` is theirs. `by_address` is what is left of the address's rate, where
        it was counted already. Raises Unavailable."""
        if by_address is None:
            by_address = self.limits.address(self.guesses.source(request))
            if by_address.wait_s:
                return too_often(by_address, "this address")
        if (slowed := self.guesses.refusal(request, text)) is not None:
            return slowed
        try:
            caller = await self.identified(text)
        except ExpiredToken:
            return _unauthorized("The token has expired. Request a new one.")
        if caller is None:
            COUNTERS["asked_unauthorized"] += 1
            wrong = _unauthorized("The API key or token is not valid.")
            return await self.guesses.wrong(request, text, wrong)
        self.guesses.right(text)
        if caller.key is not None:
            self.keys.used(caller.key)
        return self._admitted(caller, scopes, by_address)

    async def of_softphone(self, text: str, *, touch: bool = True) -> Caller | Response | None:
        """Whose softphone's token it is, as long as the person's session lives and the number is theirs; None where it is no such
        token. `touch`: the person is at work, so their session does not grow idle. Raises Unavailable."""
        if self.softphones is None or not is_token(text) or algorithm_of(text) != ALGORITHM:
            return None
        try:
            phone = self.softphones.read(text)
        except ExpiredToken:
            return _unauthorized("The softphone was connected too long ago. Connect it again.")
        if phone is None:
            return None
        if touch:
            session = await self.db.engine(_select_and_touch, phone.session)
        else:
            session = await self.db.engine(
                users.select_session, phone.session.tenant, phone.session.token_hash, IDLE_S, ABSOLUTE_S
            )
        access = session_access(session, phone.tenant) if session is not None else None
        if session is None or not isinstance(access, Access) or not may_call_from(access, phone.extension):
            return _unauthorized("The softphone's session has ended. Connect it again.")
        return Caller(
            kind="token", tenant=phone.tenant, scopes=access.scopes & {CALL}, actor=session.email, only=(phone.extension,),
            identity=f"softphone {phone.session.token_hash.hex()} {phone.extension}",
        )  # fmt: skip

    async def identified(self, text: str) -> Caller | None:
        """Whose key or token it is; None where it is nobody's. Raises ExpiredToken, Unavailable."""
        if not is_token(text):
            key = await self.keys.by_text(text)
            return _of_key(key, "key", frozenset(key.scopes)) if key is not None else None
        if algorithm_of(text) == ALGORITHM:
            claims = self.tokens.read(text)
            key = await self.keys.by_id(claims.tenant, claims.key_id) if claims is not None else None
            if claims is None or key is None:
                return None
            return _of_key(key, "token", claims.scopes & frozenset(key.scopes))
        outside = await self.outside.read(text) if self.outside is not None else None
        if outside is None or self.known_tenant(outside.tenant) is None:
            return None
        return Caller(
            kind="token", tenant=outside.tenant, scopes=outside.scopes & frozenset(SCOPES), actor=outside.subject,
            identity=f"{outside.tenant} {outside.subject}",
        )  # fmt: skip

    def _of_session(
        self, request: Request, session: Session, token: Token, scopes: Sequence[str], by_address: Allowance
    ) -> Caller | Response:
        if request.method not in SAFE_METHODS:
            sent = request.headers.get("x-csrf-token", "")
            foreign = request.headers.get("sec-fetch-site", "same-origin") == "cross-site"
            if foreign or not hmac.compare_digest(sent.encode(), session.csrf.encode()):
                return problem(403, "FORBIDDEN", "The header X-CSRF-Token is missing or not this session's.")
        access = session_access(session, request.query.get("tenant", ""))
        if isinstance(access, Response):
            return access
        caller = Caller(
            kind="session", tenant=access.tenant, scopes=access.scopes, actor=session.email, csrf=session.csrf, only=access.only,
            operator=session.acting is not None and session.acting.tenant == access.tenant,
            identity=token.token_hash.hex(), token=token,
            headers=(("X-CSRF-Token", session.csrf),) if request.method in SAFE_METHODS else (),
        )  # fmt: skip
        return self._admitted(caller, scopes, by_address)

    def _admitted(self, caller: Caller, scopes: Sequence[str], by_address: Allowance | None) -> Caller | Response:
        if not caller.scopes.intersection(scopes):
            who = "This session" if caller.kind == "session" else f"This {caller.kind}"
            return problem(403, "FORBIDDEN", f"{who} lacks the scope {' or '.join(scopes)}.", reason="scope",
                           scope=list(scopes))  # fmt: skip
        by_key = self.limits.key(caller.identity)
        if by_key.wait_s:
            return too_often(by_key, "this key" if caller.kind != "session" else "this session")
        tighter = min((one for one in (by_key, by_address) if one is not None), key=lambda one: one.remaining)
        return _with_headers(caller, tighter.headers)

    async def still(self, caller: Caller, text: str | None, scopes: Sequence[str]) -> bool:
        """Whether what a stream was opened with is still good. Raises Unavailable."""
        if caller.token is not None:
            session = await self.db.engine(
                users.select_session, caller.token.tenant, caller.token.token_hash, IDLE_S, ABSOLUTE_S
            )
            access = session_access(session, caller.tenant) if session is not None else None
            return (
                isinstance(access, Access) and access.only == caller.only and bool(access.scopes.intersection(scopes))
            )
        try:
            now = await self.identified(text) if text is not None else None
        except ExpiredToken:
            return False
        return now is not None and bool(now.scopes.intersection(scopes))


def credential_of(request: Request) -> str | None:
    """The key or token of a request's headers."""
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return text.strip()
    return request.headers.get("x-api-key", "").strip() or None


def too_often(allowance: Allowance, whose: str) -> Response:
    """The answer beyond a rate."""
    COUNTERS["requests_limited"] += 1
    return problem(
        429, "RATE_LIMITED", f"Too many requests come by {whose}.", retryable=True, retry_after=max(0.001, allowance.wait_s),
        headers=allowance.headers,
    )  # fmt: skip


def _unauthorized(detail: str) -> Response:
    return problem(401, "AUTH_FAILED", detail, headers=(("WWW-Authenticate", 'Bearer error="invalid_token"'),))


def _of_key(key: ApiKey, kind: Literal["key", "token"], scopes: frozenset[str]) -> Caller:
    return Caller(kind=kind, tenant=key.tenant, scopes=scopes, actor=key.hint, identity=key.key_id, key=key)


def _of_company(caller: Caller, request: Request) -> Caller | Response:
    wanted = request.query.get("tenant", "")
    if wanted and wanted != caller.tenant:
        return problem(403, "FORBIDDEN", "This company is not the key's.")
    return caller


def _with_headers(caller: Caller, headers: Headers) -> Caller:
    return replace(caller, headers=(*caller.headers, *headers))


async def _select_and_touch(conn: Connection, token: Token) -> Session | None:
    session = await users.select_session(conn, token.tenant, token.token_hash, IDLE_S, ABSOLUTE_S)
    if session is not None:
        await users.touch_session(conn, token.token_hash)
    return session


Authorize = Callable[[Request, str, Sequence[str]], Awaitable[Caller | Response]]
"""`Callers.of_credential`, for addresses that take a key elsewhere than in a header."""
