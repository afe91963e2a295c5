"""Real calls on a real Asterisk through the whole product, each judged by what the strict sandbox CRM was told.

The kinds here are the quick ones; `make lab` plays all of them, also on Asterisk 16.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.e2e.world import open_world
from tests.lab.machine import missing, running_lab
from tests.lab.play import Stage

FULL = (
    "incoming-answered", "incoming-busy", "incoming-queue", "outgoing-answered", "outgoing-wrong-number",
    "internal-answered", "click-local-application", "redirect-talking", "blind-transfer-lost",
)  # fmt: skip
READ_ONLY = ("incoming-answered", "incoming-gave-up", "click-direct")

pytestmark = [
    pytest.mark.lab,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(bool(missing()), reason=missing() or "ready"),
]


@asynccontextmanager
async def open_stage(folder: Path, user: str, offset: int) -> AsyncIterator[Stage]:
    """The product beside a running Asterisk."""
    async with running_lab("22", offset, user) as lab, open_world(folder) as world:
        stage = Stage(world, lab)
        await stage.prepare()
        yield stage


async def test_real_calls_are_told_to_the_crm_as_they_were(tmp_path: Path) -> None:
    async with open_stage(tmp_path, "lab", 340) as stage:
        wrong = {name: problems for name in FULL if (problems := await stage.play(name))}
        assert wrong == {}
        assert not stage.world.crm.repeats, "each thing was told once"


async def test_the_least_rights_are_enough(tmp_path: Path) -> None:
    async with open_stage(tmp_path, "lab-ro", 360) as stage:
        assert {name: problems for name in READ_ONLY if (problems := await stage.play(name))} == {}
