"""What every page of a person shows besides its own content: problems in the company, and the result of the last button.

A hook of a blueprint, behind its guards; pages alone pay for it, not fragments and streams. Read `flash.py` for results.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

from quart import g, request

from actors.runtime.directory import Slot
from gateway.domain.health import Health, State
from gateway.domain.ids import TenantId
from gateway.store.call_pages import any_call
from gateway.web.first_steps import next_step
from gateway.web.session.auth import SAFE_METHODS, Gate
from gateway.web.session.flash import PARAMETER, Flash, read_flash
from gateway.web.session.tokens import Token
from gateway.web.site import viewer

WELL = (State.ONLINE, State.STOPPED, State.STARTING, State.CONNECTING)
UPDATES = "/updates"
"""What the path of an integration's stream ends with, behind that of its deliveries."""
_URGENCY = (State.FAILED, State.ATTENTION, State.OFFLINE, State.DEGRADED)


@dataclass(frozen=True, slots=True)
class Trouble:
    """A PBX or an integration that does not do what it should."""

    title: str
    href: str
    health: Health


def troubles_of(number: TenantId, slots: Iterable[Slot]) -> list[Trouble]:
    """What a company's people should know of, the worst first."""
    found = []
    for slot in slots:
        kind, _, name = slot.path.removeprefix(f"tenant/{number}/").removesuffix(UPDATES).partition("/")
        room = {"pbx": "pbxes", "integration": "integrations"}.get(kind)
        if room is None or not name or "/" in name or slot.health.state in WELL:
            continue
        found.append(Trouble(slot.title or name, f"/t/{number}/{room}/{name}", slot.health))
    return sorted(found, key=lambda one: _URGENCY.index(one.health.state))


def most_urgent(slots: Iterable[Slot | None]) -> Slot | None:
    """The slot of several of one connection that a person should know of first."""
    alive = [slot for slot in slots if slot is not None]
    in_trouble = [slot for slot in alive if slot.health.state in _URGENCY]
    return (
        min(in_trouble, key=lambda slot: _URGENCY.index(slot.health.state)) if in_trouble else next(iter(alive), None)
    )


def flashed(kind: str) -> Flash | None:
    """The result to show on this page, if it is of this kind."""
    found = cast("Flash | None", g.get("flash"))
    return found if found is not None and found.kind == kind else None


def troubles() -> Sequence[Trouble]:
    """What is wrong in the company in view."""
    return cast("Sequence[Trouble]", g.get("troubles", ()))


async def look_around(gate: Gate, token: Token | None = None) -> None:
    """Reads both. `token` is that of the session where it is not a person's."""
    if request.method not in SAFE_METHODS or request.headers.get("X-Fragment"):
        return
    if "text/event-stream" in request.headers.get("Accept", "") or viewer().session is None:
        return
    deps, tenant = gate.site.deps, viewer().tenant
    number = tenant.number if tenant is not None else None
    if flash_id := request.args.get(PARAMETER, ""):
        # An operator's page may be about a company that is not in view; the row belongs to the session in any case.
        about = number or (request.view_args or {}).get("number")
        g.flash = await read_flash(deps, token or gate.token(), flash_id, tenant=about)
    if number is not None and viewer().person:
        g.troubles = troubles_of(number, await deps.slots(f"tenant/{number}"))
    if tenant is not None and viewer().person and viewer().may_change and (step := next_step(tenant)) is not None:
        # A company that only posts events needs no connection of ours: its calls show that it is set up.
        g.next_step = None if await deps.db.tenant(tenant.number, any_call, tenant.number) else step
