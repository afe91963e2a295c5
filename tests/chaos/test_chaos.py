"""The small run of the harness, once, and what it has to show, row by row of `rows.py`. The seed is fixed here; SEED in the
environment takes another. `make chaos` is the long one."""

import functools
import json
import os
from pathlib import Path

import pytest
import trio

from tests.chaos.plan import Plan
from tests.chaos.run import found_in, run
from tests.chaos.stage import open_stage
from tests.chaos.traffic import Line, Notified, Phones, Sink
from tests.chaos.verdict import STOPS, Verdict, inversions, judged
from tests.sandbox.retailcrm import RetailCrm
from tests.sandbox.web import Fault

pytestmark = [pytest.mark.long, pytest.mark.timeout(420)]

PLAN = Plan(
    seed=int(os.environ.get("SEED") or 1), events=2000, kills=4, pg_stops=2, others=1, minutes=1.0, pbx_calls=60, tenants=6,
    only=("crm_hang", "pbx_cut", "hosts_cut", "pause", "pool_exhausted", "backends_terminated", "disk_full", "clock_step"),
)  # fmt: skip
RATE_BACK_S = 10.0
FLOOD_PER_S = 10_000


@pytest.fixture(scope="module")
def verdict(tmp_path_factory: pytest.TempPathFactory) -> Verdict:
    folder: Path = tmp_path_factory.mktemp("chaos")
    found = trio.run(functools.partial(run, PLAN, folder))
    print(found.report())
    return found


def test_row_1_nothing_accepted_is_lost(verdict: Verdict) -> None:
    assert verdict.broken() == [], verdict.report()
    assert len(verdict.sets.delivered) > PLAN.events / 2
    assert verdict.calls.right > PLAN.pbx_calls / 4


def test_row_2_nothing_is_lost_when_postgresql_dies(verdict: Verdict) -> None:
    assert verdict.sets.lost == set()
    struck = [blow for blow in verdict.blows if blow.strike.name in (*STOPS, "backends_terminated", "pool_exhausted")]
    assert len({blow.strike.name for blow in struck}) == 4
    assert all(blow.first_200_s is not None and blow.first_200_s < RATE_BACK_S for blow in struck)
    assert all(value <= RATE_BACK_S for value in verdict.recovery(*STOPS)["rate_back_s"])


def test_row_3_a_repeat_is_the_same_word_for_word(verdict: Verdict) -> None:
    assert verdict.reworded == []
    assert verdict.sink.without_id == 0


def test_row_4_every_200_is_durable(verdict: Verdict) -> None:
    assert verdict.not_kept == set()
    assert len(verdict.hosts.acknowledged) > PLAN.events * 0.8


def test_row_7_no_call_is_told_out_of_order(verdict: Verdict) -> None:
    assert verdict.inversions == []


async def test_row_4_killed_with_its_database_at_every_200(tmp_path: Path) -> None:
    async with open_stage(tmp_path, tenants=1, seed=4) as stage:
        number, token = next(iter(stage.tokens.items()))
        posted = [f"4.{round_}" for round_ in range(3)]
        for unique_id in posted:
            line = Line(stage.hosts_link.port)
            status, _ = await line.post("/hangup", post(token, unique_id))
            assert stage.life.child is not None
            stage.life.child.kill()
            await stage.server.stop_at_once()
            await line.aclose()
            assert status == 200
            await stage.life.child.wait()
            await stage.server.start()
            await stage.life.start()
            await stage.wait_ready()
        with trio.fail_after(60):
            while not all(Notified(unique_id, "upload") in stage.sink.times for unique_id in posted):
                await trio.sleep(0.05)
        stored = await stage.server.ask("SELECT unique_id FROM journal WHERE tenant_id = $1", number)
        assert sorted(row["unique_id"] for row in stored) == posted


async def test_row_6_a_crm_that_hangs_harms_its_own_tenant_alone(tmp_path: Path) -> None:
    dead, received = RetailCrm(rate_limits=False), Sink()
    dead.listeners.append(received.receive)
    async with trio.open_nursery() as nursery:
        await nursery.start(dead.serve)
        async with open_stage(tmp_path, tenants=3, seed=6, second_crm=dead.base) as stage:
            _, well, ill = stage.tokens.values()  # the first has a PBX, and its posts wait for what AMI says

            async def waits(prefix: str, sink: Sink, token: str, calls: int) -> list[float]:
                """From the post of each call's end to its line in the CRM."""
                line, sent = Line(stage.hosts_link.port), dict[str, float]()
                for number in range(calls):
                    sent[f"{prefix}.{number}"] = trio.current_time()
                    assert (await line.post("/hangup", post(token, f"{prefix}.{number}")))[0] == 200
                    await trio.sleep(0.1)
                await line.aclose()
                with trio.fail_after(30):
                    while not all(Notified(unique_id, "upload") in sink.times for unique_id in sent):
                        await trio.sleep(0.05)
                return sorted(sink.times[Notified(unique_id, "upload")][0] - at for unique_id, at in sent.items())

            await waits("warm", stage.sink, well, 10)
            await waits("also", received, ill, 5)
            before = await waits("before", stage.sink, well, 50)
            dead.fault = Fault.HANG
            line = Line(stage.hosts_link.port)
            for number in range(60):
                assert (await line.post("/hangup", post(ill, f"ill.{number}")))[0] == 200
            await line.aclose()
            during = await waits("during", stage.sink, well, 50)
            assert not any(Notified(f"ill.{number}", "upload") in received.times for number in range(60)), "it hangs"
            dead.fault = Fault.NONE
            since = trio.current_time()
            with trio.fail_after(75):
                while not all(Notified(f"ill.{number}", "upload") in received.times for number in range(60)):
                    await trio.sleep(0.05)
            print(
                f"at most {before[-1]:.3f} s before, {during[-1]:.3f} s during; told {trio.current_time() - since:.1f} s after"
            )
            assert during[-1] <= max(before[-1] * 3, 1.0), "a neighbour's hang is one of twelve seconds"
            assert inversions(received) == []
        nursery.cancel_scope.cancel()


async def test_row_11_a_flood_while_postgresql_is_away(tmp_path: Path) -> None:
    async with open_stage(tmp_path, tenants=1, seed=11) as stage:
        pbx, phones = stage.pbx, Phones(stage.pbx, 11)
        pbx.tempo = 0.03
        with trio.fail_after(20):
            while not (pbx.links and pbx.links[0].events):
                await trio.sleep(0.02)
        link, connections = pbx.links[0], stage.pbx_link.connections
        memory, most_waiting = stage.life.memory_kib(), 0

        async def flood() -> None:
            nonlocal most_waiting
            noise = [("Channel", "PJSIP/150-00000000"), ("Variable", "NOISE"), ("Value", "x" * 200)]
            with trio.move_on_after(8):
                while True:
                    for _ in range(FLOOD_PER_S // 50):
                        pbx.emit("VarSet", noise, "dialplan,all")
                    most_waiting = max(most_waiting, link.waiting)
                    await trio.sleep(1 / 50)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(phones.watch)
            async with trio.open_nursery() as traffic:
                traffic.start_soon(flood)
                traffic.start_soon(phones.run, 12, 6.0)
                await trio.sleep(2)
                await stage.server.stop_at_once()
                await trio.sleep(3)
                await stage.server.start()
            with trio.fail_after(30):
                while True:
                    phases = [row["phase"] for row in await stage.server.ask("SELECT phase FROM calls")]
                    if len(phases) >= 12 and {"ringing", "talking"}.isdisjoint(phases):
                        break
                    await trio.sleep(0.1)
            nursery.cancel_scope.cancel()
        grown = stage.life.memory_kib() - memory
        print(f"at most {most_waiting} bytes waited in the PBX, memory +{grown >> 10} MiB")
        assert pbx.links[0] is link
        assert stage.pbx_link.connections == connections, "the link was never made anew"
        assert most_waiting < 4 << 20
        assert grown < 150 << 10
        calls = judged(phones.played, phones.listening, [], await found_in(stage.server), stage.sink)
        assert (calls.missing, calls.wrong, calls.invented, calls.right) == (0, [], [], 12)


def post(token: str, unique_id: str) -> bytes:
    """The end of a call that nobody answered."""
    fields = {
        "Token": token,
        "UniqueId": unique_id,
        "CallerIDNum": "375296254070",
        "Extensions": ["150"],
        "CallType": 0,
    }
    return json.dumps(fields | {"CallStatus": "0"}).encode()
