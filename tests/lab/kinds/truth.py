"""What really happened in a call, in the words of a call's end, and the list of kinds. Nothing here knows AMI."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.lab.machine import CLIENT, TRUNK, Scene
from tests.lab.sip import Leg

GROUP, RECORDED, QUEUE, DIRECT, MENU = (f"37517200000{place}" for place in range(1, 6))
MOBILE = "+375297777777"
ANSWER = "SIP/2.0 200.*INVITE"
RINGING = "SIP/2.0 180"


def did(place: int) -> str:
    """A number of the company; the dialplan says where it leads."""
    return f"3751720000{place:02d}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What happened, from the SIP side and the script. Times are epoch seconds."""

    direction: str
    caller: str
    called: str
    result: str
    hung_up_by: str
    trunk: str | None = TRUNK
    rang: tuple[str, ...] = ()
    extension: str | None = None
    last_extension: str | None = None
    queue: str | None = None
    transfers: tuple[tuple[str | None, str], ...] = ()
    ring_at: float | None = None
    answered_at: float | None = None
    ended_at: float | None = None

    @property
    def wait_s(self) -> float | None:
        """From the first ring to the answer."""
        return None if self.ring_at is None or self.answered_at is None else self.answered_at - self.ring_at

    @property
    def talk_s(self) -> float | None:
        """From the answer to the end."""
        return None if self.answered_at is None or self.ended_at is None else self.ended_at - self.answered_at


Play = Callable[[Scene], Awaitable[Sequence[Truth]]]
KINDS: dict[str, Play] = {}
DEVICES: dict[str, dict[str, list[str]]] = {}
"""Kinds in which the tenant lists its phones: number to endpoints."""


def kind(
    name: str, phones: dict[str, list[str]] | None = None, *, audio: bool = False
) -> Callable[[Callable[[Scene], Awaitable[object]]], Play]:
    """Registers a kind: a coroutine that plays it and returns the truth, or the truths of its calls as they began.

    Only where there is sound does Asterisk optimise Local channels away; elsewhere it would cost the machine for nothing."""

    def register(play: Callable[[Scene], Awaitable[object]]) -> Play:
        async def played(scene: Scene) -> Sequence[Truth]:
            scene.audio = audio
            reported = await play(scene)
            if callable(reported):  # sipp's logs are read once every party has ended
                await scene.finish()
                reported = reported()
            return (reported,) if isinstance(reported, Truth) else tuple(reported)  # type: ignore[arg-type]

        assert name not in KINDS, name
        KINDS[name] = played
        if phones:
            DEVICES[name] = phones
        return played

    return register


def times(ring: Leg | None, answer: Leg, end: Leg) -> dict[str, Any]:
    """The moments of a call: the leg that first rang, the one that was answered, the one that hung up."""
    begun = ring.rang_at if ring is not None else answer.asked_at
    return {"ring_at": begun, "answered_at": answer.answered_at, "ended_at": end.ended_at}


def incoming(company: str, result: str = "answered", *, by: str = "caller", **more: object) -> Truth:
    """An incoming call of CLIENT."""
    fields = {"direction": "incoming", "caller": CLIENT, "called": f"+{company}", "hung_up_by": by, **more}
    return Truth(result=result, **fields)  # type: ignore[arg-type] # the fields are the dataclass's


def outgoing(result: str = "answered", *, by: str = "caller", **more: object) -> Truth:
    """A call by 150 to CLIENT."""
    last = "150" if result == "answered" else None
    fields = {
        "direction": "outgoing", "caller": "150", "called": CLIENT, "extension": "150", "hung_up_by": by,
        "last_extension": last, **more,
    }  # fmt: skip
    return Truth(result=result, **fields)  # type: ignore[arg-type] # as above


def internal(called: str, result: str = "answered", *, by: str = "caller", **more: object) -> Truth:
    """A call by 150 to a colleague."""
    fields = {"direction": "internal", "caller": "150", "called": called, "trunk": None, "hung_up_by": by, **more}
    return Truth(result=result, **fields)  # type: ignore[arg-type] # as above
