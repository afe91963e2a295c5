"""The tokens of one integration: stored before they are used, refreshed by one at a time among all instances.

    current                            from memory for half a minute, else the row
    refresh  -> may we?  --yes-> exchange -> stored, the one before beside it -> returned
                      +-------- no --> wait for what the other brings
    worked                             the one before is dropped

The exchange is shielded, within `EXCHANGE_S`: a response under way when the caller is cancelled holds a token that exists
nowhere else. Where it cannot be stored it is held in memory and stored by the next caller. A process that dies
between the two leaves the old token, and the row free after `LEASE_S`. No token and no answer of an exchange is ever logged.

Read `gateway/store/integration_tokens.py` for the rows, `adapters/tokens.py` for how an adapter uses this.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from secrets import token_hex

import trio

from adapters.tokens import Exchange, FreshToken, Token
from gateway.domain.errors import BadCredentials, Unavailable
from gateway.domain.ids import IntegrationKey, TenantId
from gateway.domain.secret import Secret
from gateway.store import integration_tokens as store
from gateway.store.postgres.pool import Database
from gateway.store.secrets.seal import Sealer

log = logging.getLogger(__name__)

CACHE_S = 30.0
EXCHANGE_S = 8.0
"""For the other side's answer, a second try with the token before included."""
STORE_S = 4.0
LEASE_S = EXCHANGE_S + 2 * STORE_S
WAIT_S = 6.0
"""Seconds to wait for another's exchange."""
LOOK_S = 0.1


@dataclass(frozen=True, slots=True)
class Unstored:
    """A fresh token that the database would not take yet."""

    version: int
    fresh: FreshToken = field(repr=False)
    before: Secret = field(repr=False)
    expires_at: float | None
    """By Trio's clock."""


UnstoredTokens = dict[tuple[TenantId, IntegrationKey, str], Unstored]


class IntegrationTokens:
    """`adapters.tokens.Tokens` of one integration. `unstored` is the process's, so that a restart of the actor loses nothing."""

    def __init__(
        self,
        db: Database,
        sealer: Callable[[TenantId], Sealer | None],
        tenant: TenantId,
        integration: IntegrationKey,
        unstored: UnstoredTokens,
    ) -> None:
        self._db = db
        self._sealer_of = sealer
        self._tenant = tenant
        self._integration = integration
        self._unstored = unstored
        self._cached: dict[str, tuple[Token, float]] = {}
        self._unproven: set[tuple[str, int]] = set()
        """Names and versions of tokens beside which the one before is stored."""

    async def current(self, name: str) -> Token | None:
        """The token in force, None without one. Raises Unavailable."""
        cached = self._cached.get(name)
        if cached is not None and trio.current_time() < cached[1] and self._place(name) not in self._unstored:
            return cached[0]
        await self._store_unstored(name)
        row = await self._db.engine(store.select_token, self._tenant, self._integration, name)
        return self._opened(name, row) if row is not None else None

    async def put(self, name: str, fresh: FreshToken) -> Token:
        """A token that a person's login brought, in place of any other."""
        self._unstored.pop(self._place(name), None)
        sealed = self._seal(name, "sealed", fresh.value)
        row = await self._db.engine(
            store.upsert_token, self._tenant, self._integration, name, sealed, fresh.expires_in_s
        )
        return self._opened(name, row)

    async def worked(self, name: str, token: Token) -> None:
        """The other side has taken the token: the one before is not needed any more."""
        if (name, token.version) in self._unproven:
            await self._db.engine(store.drop_previous, self._tenant, self._integration, name, token.version)
            self._unproven.discard((name, token.version))

    async def refresh(self, name: str, exchange: Exchange, *, stale: Token | None = None) -> Token:
        """A newer token than `stale`; see `adapters.tokens.Tokens`."""
        self._cached.pop(name, None)
        if stale is None:
            stale = await self.current(name)
        if stale is None:
            raise BadCredentials("there is no token to refresh")
        until = trio.current_time() + WAIT_S
        while (found := await self._try(name, exchange, stale.version)) is None:
            if trio.current_time() >= until:
                raise Unavailable("the token is being refreshed elsewhere", after_s=1.0)
            await trio.sleep(LOOK_S)
        return found

    async def _try(self, name: str, exchange: Exchange, version: int) -> Token | None:
        """A newer token than that of `version`; None while another is making one."""
        with trio.CancelScope(shield=True, deadline=trio.current_time() + LEASE_S - STORE_S):
            await self._store_unstored(name)
            holder = token_hex(8)
            row, granted = await self._db.engine(
                store.begin_exchange, self._tenant, self._integration, name, version, holder, LEASE_S
            )
            if row is None:
                raise BadCredentials("there is no token to refresh")
            if not granted:
                return self._opened(name, row) if row.version != version else None
            finished = False
            try:
                token = await self._trade(name, row, exchange)
                finished = True
                return token
            finally:
                if not finished:
                    await self._abandon(name, holder)
        raise Unavailable("the token could not be refreshed in time", certain=False)

    async def _trade(self, name: str, row: store.TokenRow, exchange: Exchange) -> Token:
        before = self._open(name, "sealed", row.sealed)
        fresh: FreshToken | None = None
        with trio.move_on_after(EXCHANGE_S):
            try:
                fresh = await exchange(Token(before, row.version, row.expires_at))
            except BadCredentials:
                if not row.previous_sealed:
                    raise
            if fresh is None:  # the new one was never taken: back to the one that was
                before = self._open(name, "previous_sealed", row.previous_sealed)
                fresh = await exchange(Token(before, row.version - 1, None))
        if fresh is None:
            raise Unavailable("no new token in time", certain=False)
        expires_at = None if fresh.expires_in_s is None else trio.current_time() + fresh.expires_in_s
        self._unstored[self._place(name)] = Unstored(row.version, fresh, before, expires_at)
        stored: store.TokenRow | None = None
        with trio.move_on_after(STORE_S, shield=True):
            stored = await self._store_unstored(name)
        if stored is None:
            raise Unavailable("the new token could not be stored yet")
        log.info("a token was refreshed", extra={"integration": self._integration, "token": name})
        return self._opened(name, stored)

    async def _store_unstored(self, name: str) -> store.TokenRow | None:
        """Stores what waits for it, and repeats that for as long as the database is away; the deadline is the caller's.
        Returns the token in force."""
        waits = self._unstored.get(self._place(name))
        if waits is None:
            return None
        left_s = None if waits.expires_at is None else max(0.0, waits.expires_at - trio.current_time())
        sealed = self._seal(name, "sealed", waits.fresh.value)
        previous = self._seal(name, "previous_sealed", waits.before)
        failed = True
        row = None
        while failed:
            try:
                row = await self._db.engine(
                    store.finish_exchange,
                    self._tenant,
                    self._integration,
                    name,
                    waits.version,
                    sealed,
                    previous,
                    left_s,
                )
                failed = False
            except Unavailable:
                await trio.sleep(LOOK_S)
        if row is None:  # another was stored meanwhile, or this one by an attempt whose commit was not seen
            row = await self._db.engine(store.select_token, self._tenant, self._integration, name)
        if self._unstored.get(self._place(name)) is waits:
            del self._unstored[self._place(name)]
        return row

    async def _abandon(self, name: str, holder: str) -> None:
        if self._place(name) in self._unstored:
            return  # nobody else is to spend the old one as long as the lease lasts
        with trio.move_on_after(STORE_S, shield=True):
            try:
                await self._db.engine(store.abandon_exchange, self._tenant, self._integration, name, holder)
            except Unavailable:
                log.warning("a token is free for refreshing only when its lease ends", extra={"token": name})

    def _place(self, name: str) -> tuple[TenantId, IntegrationKey, str]:
        return self._tenant, self._integration, name

    def _opened(self, name: str, row: store.TokenRow) -> Token:
        token = Token(self._open(name, "sealed", row.sealed), row.version, row.expires_at)
        self._cached[name] = token, trio.current_time() + CACHE_S
        if row.previous_sealed:
            self._unproven.add((name, row.version))
        return token

    def _sealer(self) -> Sealer:
        sealer = self._sealer_of(self._tenant)
        if sealer is None:
            raise Unavailable("the company's keys have not been read yet")
        return sealer

    def _open(self, name: str, column: str, sealed: str) -> Secret:
        row = store.row_key(self._integration, name)
        return self._sealer().open(sealed, table=store.TABLE, column=column, row=row)

    def _seal(self, name: str, column: str, value: Secret) -> str:
        row = store.row_key(self._integration, name)
        return self._sealer().seal(value, table=store.TABLE, column=column, row=row)
