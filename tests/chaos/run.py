"""One run from beginning to end: `python -m tests.chaos.run`, that is `make chaos`.

SEED, EVENTS, KILLS, PG_STOPS, OTHERS, MINUTES, PBX_CALLS, TENANTS and INSTANCES in the environment change its size. Everything is
on loopback and in a temporary folder, which is kept when a gate does not hold. Read `verdict.py` for what is judged.
"""

import bisect
import functools
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import trio

from gateway.domain.errors import GatewayError
from tests.chaos.nemeses import Nemeses
from tests.chaos.owners import Owners, tenants_of, told_by_a_stale_owner, told_by_two
from tests.chaos.plan import Plan, plan_of
from tests.chaos.server import OwnServer
from tests.chaos.stage import Stage, open_stage
from tests.chaos.traffic import Hosts, Phones, Sink
from tests.chaos.verdict import KILLS, STOPS, Blow, Found, Verdict

PATIENCE_S = 60.0
"""Within which the product must be at work again after any blow."""
RATE_OVER_S = 2.0
"""Over how long a rate is measured, twice in a row: posts that waited come in a burst."""
RATE_PATIENCE_S = 20.0
END_S = 180.0
"""Within which everything must be told after the last post."""


async def run(plan: Plan, folder: Path, text_of: Callable[[str], None] = print) -> Verdict:
    """One run. Raises nothing for a gate that does not hold: that is for whoever reads the verdict."""
    blows: list[Blow] = []
    async with (
        open_stage(folder, tenants=plan.tenants, seed=plan.seed, instances=plan.instances) as stage,
        trio.open_nursery() as nursery,
    ):
        ports = [instance.hosts_link.port for instance in stage.instances]
        hosts = Hosts(ports, stage.tokens, plan.events, plan.rate_per_s, plan.seed)
        phones = Phones(stage.pbx, plan.seed)
        owners = Owners(stage.server)
        if plan.instances > 1:
            nursery.start_soon(owners.watch)
        for instance in stage.instances:
            nursery.start_soon(instance.life.keep)
        nursery.start_soon(phones.watch)
        nursery.start_soon(_tell_progress, plan, hosts, stage.sink, blows, text_of)
        async with trio.open_nursery() as traffic:
            traffic.start_soon(hosts.run)
            traffic.start_soon(phones.run, plan.pbx_calls, plan.minutes * 57)
            await _strike_all(plan, Nemeses(stage, hosts), blows, text_of)
            hosts.enough, hosts.hurry = True, 3.0  # what the blows delayed
        await _until_all_told(stage.server, hosts)
        found = await found_in(stage.server)
        nursery.cancel_scope.cancel()
    lives = [instance.life for instance in stage.instances]
    found.exit_codes = [code for life in lives for code in (*life.died, life.last_code) if code]
    if plan.instances > 1:
        _find_owners(found, stage, hosts, owners, blows)
    return Verdict(plan, hosts, phones, stage.sink, blows, found)


def _find_owners(found: Found, stage: Stage, hosts: Hosts, owners: Owners, blows: list[Blow]) -> None:
    """What several instances did with and to each other."""
    found.takeovers, found.moved = owners.takeovers(blows), owners.moved()
    found.refused = sum(
        log.read_text("utf-8", "replace").count("a stale write was refused")
        for log in (instance.product.log for instance in stage.instances)
    )
    pids = [instance.life.pids for instance in stage.instances]
    found.two_owners = {
        "epochs that went back": owners.broken,
        "told by two at once": told_by_two(stage.sink),
        "told by a stale owner": told_by_a_stale_owner(
            stage.sink, owners, tenants_of(hosts), next(iter(stage.tokens)), pids
        ),
    }


async def _strike_all(plan: Plan, nemeses: Nemeses, blows: list[Blow], text_of: Callable[[str], None]) -> None:
    began = trio.current_time()
    hosts, sink = nemeses.hosts, nemeses.stage.sink
    for strike in plan.strikes():
        await trio.sleep_until(began + strike.at_s)
        blow = Blow(strike, trio.current_time())
        blows.append(blow)
        if plan.instances > 1 and strike.name in (*KILLS, "pause"):
            child = nemeses.struck(strike).life.child
            blow.pid = child.pid if child is not None else None
        await nemeses.strike(strike)
        blow.over = trio.current_time()
        with trio.move_on_after(PATIENCE_S):
            blow.first_200_s = await _first(hosts.last_200, blow)
            blow.first_delivery_s = await _first(sink.last_told, blow)
        if blow.first_200_s is None or blow.first_delivery_s is None:
            text_of(f"not over it after {PATIENCE_S:g} s: {strike}")
        if strike.name in STOPS:
            blow.rate_back_s = await _rate_back(hosts, blow)


async def _first(last: Callable[[], float], blow: Blow) -> float:
    """Seconds to the first sign of life after a blow: from its end, from the death for a kill."""
    while last() <= blow.over:
        await trio.sleep(0.01)
    return last() - (blow.began if blow.strike.name in KILLS else blow.over)


async def _rate_back(hosts: Hosts, blow: Blow) -> float | None:
    """How soon after a stop of the database posts were taken as fast as before; waits for it. None where they were not
    taken half as fast as they should before: there is nothing to compare with."""
    before = _taken(hosts, blow.began - 2 * RATE_OVER_S, 2 * RATE_OVER_S) / 2
    if before < hosts.rate * RATE_OVER_S / 2:
        return None
    wanted = 0.95 * min(before, hosts.rate * RATE_OVER_S)
    for step in range(int(RATE_PATIENCE_S * 10)):
        since = blow.over + step / 10
        await trio.sleep_until(since + 2 * RATE_OVER_S)
        if all(_taken(hosts, moment, RATE_OVER_S) >= wanted for moment in (since, since + RATE_OVER_S)):
            return step / 10
    return RATE_PATIENCE_S


def _taken(hosts: Hosts, since: float, for_s: float) -> int:
    """How many posts were answered 200 in that time."""
    return bisect.bisect_left(hosts.ok_times, since + for_s) - bisect.bisect_left(hosts.ok_times, since)


async def _until_all_told(server: OwnServer, hosts: Hosts) -> None:
    """Until every post that was taken has come to the journal, none and no delivery waits, and no call of the PBX is open;
    or the patience is over: then it shows."""
    query = """
        SELECT (SELECT count(DISTINCT (unique_id, address)) FROM journal) AS kept,
               (SELECT count(*) FROM journal WHERE done_at IS NULL)
             + (SELECT count(*) FROM deliveries WHERE state = 'pending')
             + (SELECT count(*) FROM calls WHERE source <> 'post' AND phase IN ('ringing', 'talking')) AS waiting
    """
    with trio.move_on_after(END_S):
        while True:
            with suppress(GatewayError):
                row = (await server.ask(query))[0]
                if row["waiting"] == 0 and row["kept"] >= len(hosts.acknowledged):
                    return
            await trio.sleep(0.25)


async def found_in(server: OwnServer) -> Found:
    """What the verdict needs of the database."""
    return Found(
        calls=await server.ask(
            "SELECT *, CASE WHEN direction = 'outgoing' THEN called ELSE caller END AS outside FROM calls"
            " WHERE source <> 'post'"
        ),
        expired=await server.ask(
            "SELECT subject_id AS call_id, kind, state, coalesce(finished_at < expires_at - interval '10 s', false) AS early FROM deliveries"
            " WHERE state NOT IN ('done', 'pending')"
        ),
        posts=await server.ask("SELECT unique_id, address FROM journal"),
        open_calls=await server.ask("SELECT call_id FROM calls WHERE phase IN ('ringing', 'talking')"),
    )


async def _tell_progress(
    plan: Plan, hosts: Hosts, sink: Sink, blows: list[Blow], text_of: Callable[[str], None]
) -> None:
    """Until cancelled: a line now and then."""
    began = trio.current_time()
    while True:
        await trio.sleep(30)
        text_of(
            f"{trio.current_time() - began:5.0f} s: {len(hosts.acknowledged)} of {plan.events} posts taken, "
            f"{sum(map(len, sink.times.values()))} things told, {len(blows)} of {len(plan.strikes())} blows"
        )


def main() -> int:
    """`make chaos`."""
    plan = plan_of()
    print(
        f"SEED={plan.seed} EVENTS={plan.events} KILLS={plan.kills} PG_STOPS={plan.pg_stops} MINUTES={plan.minutes:g} "
        f"INSTANCES={plan.instances}",
        flush=True,
    )
    folder = Path(tempfile.mkdtemp(prefix="gateway-chaos-")).resolve()
    began = time.monotonic()
    verdict = trio.run(functools.partial(run, plan, folder, functools.partial(print, flush=True)))
    print(verdict.report())
    print(f"{time.monotonic() - began:.0f} s in all, {os.cpu_count()} cores")
    if verdict.broken():
        print(f"kept for a look: {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
