"""When a delivery is tried again, from what came over the wire to the second of the next attempt; and that no lane ever
turns round, whatever fails."""

import itertools
import random
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio

import actors.delivery.worker
from actors.delivery.handover import ATTEMPT_DEADLINE_S
from adapters.base import Attempt, Delivered, Limits, Rate, Retry
from adapters.retailcrm.client import RetailcrmClient
from adapters.retailcrm.settings import RetailcrmSettings
from gateway.domain.errors import Doubtful, RateLimited, Rejected, Unavailable
from gateway.domain.health import State
from tests.actors.delivery.test_worker import KIND, TENANT, World, clock, world

__all__ = ["clock"]

SETTINGS = RetailcrmSettings.model_validate({"domain": "https://june.crm.example", "api_key": "k", "client_id": "c"})
KEPT = [0.5, 1, 2, 30, 60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]
LIVE = [0.5, 1, 2, 5, 5, 5, 5, 5, 5, 5, 5, 5]


class Wire:
    """What stands for the network under a real client: one answer, or none."""

    def __init__(self, status: int = 0, text: str = "", headers: Mapping[str, str] | None = None, error: Any = None):
        self.answer = SimpleNamespace(status=status, text=text, headers=headers or {})
        self.error = error

    async def send(self, *args: Any, **kwargs: Any) -> Any:
        await trio.lowlevel.checkpoint()
        if self.error is not None:
            raise self.error
        return kwargs["read"](self.answer)


async def what_it_means(wire: Wire) -> Exception:
    client = RetailcrmClient(cast(Any, wire), TENANT, SETTINGS)
    attempt = Attempt(kind="upload", key="1", lane="1", body={"calls": [{"externalId": "1"}]})
    with pytest.raises(Exception) as raised:
        await client.deliver(attempt)
    return raised.value


def in_the_band(pauses: list[float], wanted: list[float], spent: float = 0.0, late: float = 0.05) -> bool:
    return len(pauses) >= len(wanted) and all(
        w * 0.8 - 0.001 <= pause - spent <= w * 1.2 + late for pause, w in zip(pauses, wanted, strict=False)
    )


@pytest.mark.parametrize("live", [False, True], ids=["kept", "live"])
@pytest.mark.parametrize(
    "wire",
    [
        Wire(500, "<html>oops"),
        Wire(502, '{"success": false}'),
        Wire(504, ""),
        Wire(error=Unavailable("no answer within 10 s", certain=False)),
        Wire(error=Unavailable("connection reset", certain=False)),
        Wire(error=Unavailable("connection refused")),
        None,
    ],
    ids=["500", "502", "504", "timeout", "reset", "refused", "hangs"],
)
async def test_the_published_schedule(
    wire: Wire | None, live: bool, autojump_clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actors.delivery.worker, "BREAKER_FAILURES", 1000)
    async with world() as here:
        here.answers = [await what_it_means(wire) if wire is not None else 1000.0]
        spent = 0.0 if wire is not None else ATTEMPT_DEADLINE_S
        row = here.add(expires_s=60.0 if live else None)
        await trio.sleep(80.0 if live else 14 * 3600)
        if not live:
            assert in_the_band(here.pauses, KEPT, spent), here.pauses
            assert row.state == "pending"
        else:
            assert in_the_band(here.pauses, LIVE[: 2 if spent else 10], spent), here.pauses
            assert row.state == "expired", "a ring a minute old helps nobody"
            assert here.attempts[-1][0] - here.attempts[0][0] <= 60
        assert [attempt.number for _, attempt in here.attempts] == list(range(1, len(here.attempts) + 1))


@pytest.mark.parametrize(
    ("status", "text"), [(429, '{"success": false, "errorMsg": "Too many"}'), (503, "<html>"), (429, "")]
)
async def test_retry_after_is_obeyed_to_the_second(status: int, text: str, autojump_clock: trio.abc.Clock) -> None:
    async with world() as here:
        limited = await what_it_means(Wire(status, text, {"retry-after": "17"}))
        here.answers = [limited] * 5 + [None]
        row = here.add()
        await trio.sleep(100)
        assert here.pauses == [pytest.approx(17.0, abs=0.05)] * 5
        assert {attempt.number for _, attempt in here.attempts} == {1}, "and it uses no attempt"
        assert row.state == "done"


async def test_a_retry_after_without_end_is_cut() -> None:
    limited = await what_it_means(Wire(429, "{}", {"retry-after": "999999"}))
    assert isinstance(limited, RateLimited)
    assert limited.after_s == 3600
    for nonsense in ("soon", "-3", "1e9", "Wed, 21 Oct 2026 07:28:00 GMT"):
        error = await what_it_means(Wire(429, "{}", {"retry-after": nonsense}))
        assert isinstance(error, RateLimited)
        assert error.after_s is None


async def test_an_outage_that_names_its_end_is_believed(autojump_clock: trio.abc.Clock) -> None:
    async with world() as here:
        here.answers = [await what_it_means(Wire(502, "", {"retry-after": "40"})), None]
        here.add()
        await trio.sleep(100)
        assert here.pauses == [pytest.approx(40.0, abs=0.05)]


async def test_410_parks(autojump_clock: trio.abc.Clock) -> None:
    """From the API itself: this delivery has failed, its lane goes on. As a page: there is no account any more."""
    async with world() as here:
        here.answers = [await what_it_means(Wire(410, '{"success": false, "errorMsg": "Gone"}')), None]
        first, second = here.add("lane"), here.add("lane")
        await trio.sleep(3600)
        assert (first.state, second.state, len(here.attempts)) == ("failed", "done", 2)
        here.answers = [await what_it_means(Wire(410, "<html>"))]
        parked = here.add()
        await trio.sleep(299)
        assert (parked.state, len(here.attempts)) == ("pending", 3)
        assert here.slot.health.state is State.ATTENTION


@pytest.mark.parametrize("seed", range(12))
async def test_no_lane_ever_turns_round(
    seed: int, autojump_clock: trio.abc.Clock, expected_errors: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random failures of every sort, rates, and an actor that is killed again and again: each lane is told in order."""
    dice = random.Random(seed)
    monkeypatch.setattr(actors.delivery.worker, "BREAKER_FAILURES", dice.choice([5, 1000]))
    buckets = {"": Rate(30), "chat": Rate(3)} if seed % 3 == 0 else {}
    done: dict[str, list[int]] = {}

    async def deliver(self: World, attempt: Attempt) -> Any:
        self.attempts.append((trio.current_time(), attempt))
        await trio.sleep(dice.choice([0, 0.01, 0.2, 3.0]))
        if dice.random() < 0.35:
            raise dice.choice(
                [
                    Unavailable("500"), Unavailable("reset", certain=False), RateLimited("429", after_s=dice.random()),
                    ValueError("a bug"), Rejected("400"), Doubtful("?"),
                ]
            )  # fmt: skip
        done.setdefault(attempt.lane, []).append(int(attempt.key.split()[1]))
        return Delivered()

    monkeypatch.setattr(World, "deliver", deliver)
    limits = Limits(rates=buckets, at_once=16)
    async with world(limits, Retry(quick_s=(0.5, 1.0), slow_s=2.0, cap_s=4.0)) as here:
        for _ in range(400):
            lane = dice.randrange(40)
            here.outbox.add(f"lane {lane}", bucket=dice.choice(["", f"chat:{lane % 5}"]))
        here.bells.ring(TENANT.number, KIND)
        for _ in range(6):
            await trio.sleep(dice.uniform(0.5, 9))
            await here.stop()  # what is in hand may have arrived or not
            here.start()
        with trio.fail_after(4 * 3600):
            while any(row.state == "pending" for row in here.outbox.rows):
                await trio.sleep(1)
        tried: dict[str, list[int]] = {}
        for _, attempt in here.attempts:
            tried.setdefault(attempt.lane, []).append(int(attempt.key.split()[1]))
        assert len(tried) == 40
        inversions = sum(
            earlier > later for reported in tried.values() for earlier, later in itertools.pairwise(reported)
        )
        assert inversions == 0
        assert sum(len(set(reported)) for reported in tried.values()) == 400
        assert len(here.attempts) > 400
