"""Limits a tenant's refusals in the audit trail: the first of a minute get a line each, the rest one line with their count.

Whoever holds a key can be refused a thousand times a second, which would flood the trail. Counts in memory, for each tenant
that was refused in the last minute, and writes nothing itself: `click_to_call.py` does.
"""

from dataclasses import dataclass

from gateway.domain.ids import TenantId

PER_MINUTE = 30
MINUTE_S = 60.0


@dataclass(slots=True)
class _Minute:
    since: float
    reported: int = 0
    held_back: int = 0


class Refusals:
    """One for the process."""

    def __init__(self) -> None:
        self._minutes: dict[TenantId, _Minute] = {}

    def admit(self, tenant: TenantId, now: float) -> bool:
        """Whether this one gets a line of its own; if not, it is counted."""
        minute = self._minutes.get(tenant)
        if minute is None or (now - minute.since >= MINUTE_S and not minute.held_back):
            minute = self._minutes[tenant] = _Minute(now)
        if minute.reported < PER_MINUTE and now - minute.since < MINUTE_S:
            minute.reported += 1
            return True
        minute.held_back += 1
        return False

    def take_counted(self, now: float) -> list[tuple[TenantId, int]]:
        """What was counted in minutes that are over; each is given once."""
        over = {tenant: minute for tenant, minute in self._minutes.items() if now - minute.since >= MINUTE_S}
        for tenant in over:
            del self._minutes[tenant]
        return [(tenant, minute.held_back) for tenant, minute in over.items() if minute.held_back]

    def put_back(self, tenant: TenantId, count: int, now: float) -> None:
        """What could not be written down yet."""
        self._minutes.setdefault(tenant, _Minute(now, PER_MINUTE)).held_back += count
