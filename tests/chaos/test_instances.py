"""Row 23 of `rows.py`: two gateways on one database, either of them killed or stopped for longer than its lease while hosts
post to both. `INSTANCES=2 make chaos` is the long one."""

import functools
import os
from pathlib import Path

import pytest
import trio

from tests.chaos.plan import Plan
from tests.chaos.run import run
from tests.chaos.verdict import Verdict, at

pytestmark = [pytest.mark.long, pytest.mark.timeout(420)]

PLAN = Plan(
    seed=int(os.environ.get("SEED") or 7), events=1500, kills=2, pg_stops=1, others=2, minutes=1.0, pbx_calls=40, tenants=8,
    only=("pause",), instances=2,
)  # fmt: skip
TAKEOVER_S = 20.0
"""On a machine that does much else; alone it is below 7 s."""


@pytest.fixture(scope="module")
def verdict(tmp_path_factory: pytest.TempPathFactory) -> Verdict:
    folder: Path = tmp_path_factory.mktemp("chaos")
    found = trio.run(functools.partial(run, PLAN, folder))
    print(found.report())
    return found


def test_row_23_one_owner_a_tenant(verdict: Verdict) -> None:
    assert set(verdict.found.two_owners) == {"epochs that went back", "told by two at once", "told by a stale owner"}
    assert not any(verdict.found.two_owners.values()), verdict.report()


def test_row_23_what_an_owner_leaves_is_taken_over(verdict: Verdict) -> None:
    assert verdict.found.takeovers
    assert at(verdict.found.takeovers, 0.99) < TAKEOVER_S


def test_row_23_nothing_is_lost_between_two_owners(verdict: Verdict) -> None:
    assert verdict.broken() == [], verdict.report()
    assert len(verdict.hosts.acknowledged) > PLAN.events * 0.8
    assert {instance for reported in verdict.sink.by.values() for instance in reported} == {0, 1}
