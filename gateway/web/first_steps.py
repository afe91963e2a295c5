"""What a new company still has to set up: each step ticks itself off by what is really there.

Once calls have come in, a connection counts as made while it is configured: one that fails later is reported as trouble and
does not bring the list back. Other pages lead on by one line to what is not even configured. Read `pages/overview.py` next.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from actors.runtime.directory import Slot
from adapters import registry
from gateway.domain.configuration import Connector, Tenant
from gateway.domain.health import State
from gateway.domain.ids import kind_of

_WORKS = (State.ONLINE, State.DEGRADED)


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the list."""

    name: str
    """`first_steps.NAME` is its text, `first_steps.NAME_hint` what to do."""
    done: bool
    href: str
    """Where it is done."""


def _made(links: Sequence[Connector], places: Sequence[str], slots: Mapping[str, Slot], *, calls_seen: bool) -> bool:
    """Whether one of these connections is switched on and works, or has worked."""
    for link, place in zip(links, places, strict=True):
        slot = slots.get(place)
        if link.enabled and (calls_seen or (slot is not None and slot.health.state in _WORKS)):
            return True
    return False


def _crms(who: Tenant) -> list[Connector]:
    known = registry.integrations()
    return [
        link for key, link in who.integrations.items()
        if (adapter := known.get(kind_of(key))) is not None and adapter.type == "crm"
    ]  # fmt: skip


def next_step(who: Tenant) -> Step | None:
    """The first connection that is not even configured, in a company that has seen no call yet."""
    home = f"/t/{who.number}"
    steps = (
        Step("pbx", bool(who.pbxes), f"{home}/pbxes/new"),
        Step("numbers", bool(who.phones), f"{home}/extensions"),
        Step("crm", bool(_crms(who)), f"{home}/integrations"),
    )
    return next((step for step in steps if not step.done), None)


def first_steps(who: Tenant, slots: Mapping[str, Slot], *, calls_seen: bool) -> list[Step]:
    """The steps in their order. `slots`: the company's actors by path."""
    home = f"/t/{who.number}"
    pbxes = list(who.pbxes)
    crms = _crms(who)
    has_pbx = _made(pbxes, [f"tenant/{who.number}/pbx/{one.name}" for one in pbxes], slots, calls_seen=calls_seen)
    has_crm = _made(crms, [f"tenant/{who.number}/integration/{one.key}" for one in crms], slots, calls_seen=calls_seen)
    return [
        # Hosts that post events need no connection of ours: their calls show that it is made.
        Step("pbx", has_pbx or calls_seen, f"{home}/pbxes/{pbxes[0].name}" if pbxes else f"{home}/pbxes/new"),
        Step("numbers", bool(who.phones), f"{home}/extensions"),
        Step("crm", has_crm, f"{home}/integrations/{crms[0].key}" if crms else f"{home}/integrations"),
        Step("call", calls_seen, f"{home}/calls"),
    ]
