"""The table of promises names tests that exist, and the plan of a run is what its seed says."""

import ast
from pathlib import Path

import pytest

from tests.chaos.nemeses import Nemeses
from tests.chaos.plan import LENGTHS, Plan, plan_of
from tests.chaos.rows import ROWS

PROJECT = Path(__file__).parents[2]


@pytest.mark.parametrize("node", sorted({node for row in ROWS.values() for node in row.tests}))
def test_every_test_of_the_table_is_there(node: str) -> None:
    file, _, name = node.partition("::")
    tree = ast.parse((PROJECT / file).read_text("utf-8"))
    assert name in {item.name for item in tree.body if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_a_seed_decides_everything() -> None:
    assert Plan(seed=5).strikes() == Plan(seed=5).strikes() != Plan(seed=6).strikes()
    plan = Plan(seed=7, kills=3, pg_stops=2, others=1, minutes=2)
    names = [strike.name for strike in plan.strikes()]
    assert (names.count("kill") + names.count("kill_at_200"), names.count("postgres_stop")) == (3, 2)
    assert set(names) == set(LENGTHS)
    assert all(strike.at_s < plan.minutes * 60 for strike in plan.strikes())


def test_every_nemesis_is_there() -> None:
    assert [name for name in LENGTHS if not hasattr(Nemeses, f"_{name}")] == []


def test_the_environment_sets_the_size() -> None:
    plan = plan_of({"SEED": "4", "EVENTS": "30", "KILLS": "0", "PG_STOPS": "1", "MINUTES": "0.5", "TENANTS": "0"})
    assert (plan.seed, plan.events, plan.kills, plan.pg_stops, plan.minutes, plan.tenants) == (4, 30, 0, 1, 0.5, 1)
