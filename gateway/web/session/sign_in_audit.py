"""Sign-ins, good and failed, and operators' reading of a company's calls, for the companies' audit trails.

Noted in memory and written every few seconds by an actor, so that a sign-in takes as long for an address that is known as for
one that is not. A flood is one line a minute with a count (`Refusals`). What cannot be written waits, bounded.
"""

import logging
from collections import OrderedDict, deque
from collections.abc import Sequence

import trio

from actors.calls.refusals import Refusals
from actors.runtime.directory import Slot
from gateway.domain.errors import GatewayError, Unavailable
from gateway.domain.health import State
from gateway.domain.ids import TenantId
from gateway.store.audit import Origin, insert_audit
from gateway.store.postgres.pool import Database
from gateway.store.users import Account
from gateway.telemetry import COUNTERS

log = logging.getLogger(__name__)

MOST_NOTES = 5000
EVERY_S = 2.0
READ_EVERY_S = 3600.0
"""How often one operator's reading of one company is written down."""

_Note = tuple[TenantId, str, str, str]
"""Tenant, who, action, and from where."""


class SignInAudit:
    """One for the process."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._notes: deque[_Note] = deque(maxlen=MOST_NOTES)
        self._refusals = Refusals()
        self._read: OrderedDict[tuple[str, TenantId], float] = OrderedDict()

    def opened(self, tenant: TenantId | None, email: str, network: str, *, link: bool) -> None:
        """Somebody has signed in. An operator of the installation belongs to no company: the log has them."""
        if tenant is not None:
            self._notes.append((tenant, email, "session.opened_by_link" if link else "session.opened", network))

    def refused(self, accounts: Sequence[Account], email: str, network: str) -> None:
        """Somebody has not, with the address of these accounts."""
        for account in accounts:
            if account.tenant is not None and self._refusals.admit(account.tenant, trio.current_time()):
                self._notes.append((account.tenant, email, "session.refused", network))

    def read(self, tenant: TenantId, email: str) -> None:
        """An operator looks at a company's pages."""
        key, now = (email, tenant), trio.current_time()
        if now - self._read.get(key, -READ_EVERY_S) < READ_EVERY_S:
            return
        self._read[key] = now
        self._read.move_to_end(key)
        while len(self._read) > MOST_NOTES:
            self._read.popitem(last=False)
        self._notes.append((tenant, email, "operator.read", ""))

    async def flush(self) -> None:
        """Writes what was noted. Raises Unavailable, and then has lost nothing."""
        now = trio.current_time()
        for tenant, count in self._refusals.take_counted(now):
            self._notes.append((tenant, "", "session.refused_more", str(count)))
        while self._notes:
            note = self._notes[0]
            try:
                await self._db.tenant(note[0], insert_audit, *note, origin=_origin(note))
            except Unavailable:
                raise
            except GatewayError as error:
                log.error("a sign-in cannot be written down", extra={"tenant": note[0], "reason": str(error)})
            if self._notes and self._notes[0] is note:
                self._notes.popleft()

    async def run(self, slot: Slot) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.flush()
                slot.report(State.ONLINE)
            except Unavailable:
                COUNTERS["sign_ins_unwritten"] += 1
                slot.report(State.DEGRADED, "database_away")
            await trio.sleep(EVERY_S)


def _origin(note: _Note) -> Origin:
    """An operator's reading has no address of its own in the company's trail; a count has none at all."""
    _, _, action, network = note
    if action == "operator.read":
        return Origin("operator")
    return Origin("person", network) if action != "session.refused_more" else Origin()
