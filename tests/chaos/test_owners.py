"""What counts as two owners side by side, and what does not."""

from typing import cast

from tests.chaos.owners import Change, Owners, told_by_a_stale_owner, told_by_two
from tests.chaos.plan import LONG_PAUSE, Plan, Strike
from tests.chaos.server import OwnServer
from tests.chaos.traffic import Notified, Sink
from tests.chaos.verdict import Blow, attentive

RING = Notified("1.1", "in")


def sink(*received: tuple[float, int]) -> Sink:
    made = Sink()
    made.times[RING], made.by[RING] = [at for at, _ in received], [by for _, by in received]
    return made


def owners() -> Owners:
    """Process 10, the first instance's, owned everything from 0 on; 20, the second's, from 100 on."""
    made = Owners(cast(OwnServer, None))
    for shard in range(256):
        made.changes[shard] = [Change(0.0, None, 10), Change(100.0, 10, 20)]
    return made


def test_told_by_two_is_by_different_ones_and_close() -> None:
    assert told_by_two(sink((1.0, 0), (2.0, 1)))
    assert not told_by_two(sink((1.0, 0), (2.0, 0), (30.0, 1)))


def test_a_stale_owner_tells_after_another_has_taken() -> None:
    pids = [{10: 0.0}, {20: 0.0}]

    def stale(*received: tuple[float, int]) -> int:
        return len(told_by_a_stale_owner(sink(*received), owners(), {"1.1": "0301"}, "0300", pids))

    assert (stale((50.0, 0)), stale((50.0, 1))) == (0, 1)
    assert (stale((100.5, 0)), stale((99.5, 1))) == (0, 0)  # the change was seen late
    assert (stale((103.0, 0)), stale((103.0, 1))) == (1, 0)


def test_a_takeover_is_from_the_one_that_was_struck() -> None:
    kill = Strike(97.0, "kill", 0.0, 0.1)
    assert owners().takeovers([Blow(kill, 97.0, pid=10)]) == [3.0] * 256
    assert owners().takeovers([Blow(kill, 97.0, pid=20), Blow(kill, 97.0), Blow(kill, 120.0, pid=10)]) == []


def test_a_stopped_owner_does_not_listen() -> None:
    pause = Blow(Strike(10.0, "pause", 8.0, 0.1), 10.0, 18.0)
    assert attentive([(0.0, 30.0)], [pause]) == [(0.0, 8.0), (18.0, 30.0)]
    assert attentive([(0.0, 14.0), (14.0, 30.0)], [pause]) == [(0.0, 8.0), (14.0, 30.0)]


def test_an_owner_stands_still_for_longer_than_its_lease() -> None:
    plan = Plan(seed=3, kills=0, pg_stops=0, others=5, only=("pause",), instances=2)
    assert all(LONG_PAUSE[0] <= strike.length_s <= LONG_PAUSE[1] for strike in plan.strikes())
