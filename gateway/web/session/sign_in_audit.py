"""Sign-ins, good and failed, for the audit trails of companies and operators.

Noted in memory and written every few seconds by an actor, so that a sign-in takes as long for an address that is known as for
one that is not. A flood is one line a minute with a count (`Refusals`). What cannot be written waits, bounded.
"""

import logging
from collections import deque
from collections.abc import Sequence

import trio

from actors.calls.refusals import Refusals
from actors.runtime.directory import Slot
from gateway.domain.errors import GatewayError, Unavailable
from gateway.domain.health import State
from gateway.domain.ids import TenantId
from gateway.store.audit import OPERATORS, insert_audit
from gateway.store.postgres.pool import Connection, Database
from gateway.store.users import Account, Session
from gateway.telemetry import COUNTERS

log = logging.getLogger(__name__)

MOST_NOTES = 5000
EVERY_S = 2.0
_Note = tuple[TenantId, str, str, str]
"""Tenant, who, action, and from where."""


class SignInAudit:
    """One for the process."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._notes: deque[_Note] = deque(maxlen=MOST_NOTES)
        self._refusals = Refusals()

    def opened(self, tenant: TenantId | None, email: str, network: str, *, link: bool) -> None:
        """Somebody has signed in; an operator of the installation belongs to no company, and is in the operators' trail."""
        self._notes.append(
            (tenant or OPERATORS, email, "session.opened_by_link" if link else "session.opened", network)
        )

    def refused(self, accounts: Sequence[Account], email: str, network: str) -> None:
        """Somebody has not, with the address of these accounts."""
        for account in accounts:
            whose = account.tenant or OPERATORS
            if self._refusals.admit(whose, trio.current_time()):
                self._notes.append((whose, email, "session.refused", network))

    async def flush(self) -> None:
        """Writes what was noted. Raises Unavailable, and then has lost nothing."""
        now = trio.current_time()
        for tenant, count in self._refusals.take_counted(now):
            self._notes.append((tenant, "", "session.refused_more", str(count)))
        while self._notes:
            note = self._notes[0]
            try:
                await self._db.engine(insert_audit, note[0], note[1], note[2], note[3])
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


async def note_acting(conn: Connection, session: Session, number: TenantId, action: str, detail: str) -> None:
    """What an operator who acts as a company began or ended: in the company's trail, and in the operators'."""
    for whose in (number, OPERATORS):
        await insert_audit(conn, whose, session.email, action, number, detail)
