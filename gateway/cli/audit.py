"""`gateway audit verify`: whether an entry of the audit trail was changed or taken out since it was written."""

import binascii
from collections.abc import Callable

from gateway.domain.ids import OPERATOR, TenantId
from gateway.store.audit_chain import Broken, Verified, select_chained, verify_trail
from gateway.store.postgres.pool import Database

Say = Callable[..., None]
SAYS = {
    "changed": "entry {position} was changed after it was written{at}",
    "missing": "entry {position} was taken out{after}",
    "newest": "entry {position} was taken out: it was the newest, or one of the newest{after}",
    "added": "entry {position} was added past the chain{at}",
    "chain": "the chain's beginning and end were taken out: nothing can be verified",
    "before": "entry {position} or an earlier one stands before the chain's beginning, where there is nothing but what was pruned",
}


def read_known(text: str) -> tuple[int, bytes] | None:
    """`POSITION:HASH`; None for what is not."""
    position, _, digest = text.partition(":")
    try:
        found = int(position), bytes.fromhex(digest)
    except (ValueError, binascii.Error):
        return None
    return found if found[0] > 0 and len(found[1]) == 32 else None


async def verify(db: Database, only: TenantId | None, known: tuple[int, bytes] | None, text_of: Say) -> int:
    """Prints a line for each trail. Returns the exit code: 1 where one is broken."""
    numbers = await db.engine(select_chained)
    if only is not None and only not in numbers:
        text_of(f"no tenant {only}")
        return 1
    broken = 0
    for number in [only] if only is not None else numbers:
        found = await db.engine(verify_trail, number, known)
        name = "operators" if number == OPERATOR else f"tenant {number}"
        if found.broken is not None:
            broken += 1
            text_of(f"{name}: {_sentence(found.broken)}")
        else:
            print(f"{name}: {_good(found)}")
    return 1 if broken else 0


def _good(found: Verified) -> str:
    if not found.position:
        return "nothing recorded yet"
    pruned = f", {found.begins_after} older ones were pruned" if found.begins_after else ""
    return f"{found.rows} entries in order{pruned}; newest {found.position}:{found.hash.hex()}"


def _sentence(broken: Broken) -> str:
    moment = f"{broken.at:%Y-%m-%d %H:%M:%S} UTC" if broken.at is not None else ""
    return SAYS[broken.what].format(
        position=broken.position,
        at=f" ({moment})" if moment else "",
        after=f"; the one before it is of {moment}" if moment else "",
    )
