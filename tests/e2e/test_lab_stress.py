"""A real Asterisk with its own write timeout of 100 ms, a burst of calls, and PostgreSQL that stands still meanwhile.

FREEZE_S=15 pytest tests/e2e/test_lab_stress.py -s
"""

import json
import os
from pathlib import Path

import pytest
import trio

from tests.e2e.test_spool import open_town, requested
from tests.lab.machine import SECRET, TRUNK, missing, running_lab

pytestmark = [
    pytest.mark.lab,
    pytest.mark.long,
    pytest.mark.timeout(300),
    pytest.mark.skipif(bool(missing()), reason=missing() or "ready"),
]
FREEZE_S = float(os.environ.get("FREEZE_S", "6"))
RATE = int(os.environ.get("RATE", "20"))


async def test_asterisk_never_cuts_us_while_postgresql_stands_still(tmp_path: Path) -> None:
    async with running_lab("22", 2600, "lab-strict") as lab, open_town(tmp_path) as (world, postgres):
        block = world.tenant()
        block["pbxes"] = [{
            "name": "main", "host": "127.0.0.1", "port": lab.ami_port, "username": lab.user, "secret": SECRET,
            "trunks": [TRUNK],
        }]  # fmt: skip
        await world.apply(block)
        with trio.fail_after(20):
            while (actors := (await requested(world, "/stats"))["actors"])["online"] != actors["total"]:
                await trio.sleep(0.1)
        lost_before = (await requested(world, "/stats"))["counters"].get("pbx_sessions_lost", 0)
        calls = int(RATE * (FREEZE_S + 4))
        async with lab.scene() as scene, trio.open_nursery() as nursery:

            async def place() -> None:
                began = trio.current_time()
                for number in range(calls):
                    headers = {
                        "Channel": f"Local/{1000 + number}@load", "Application": "Wait", "Data": "3", "Timeout": "10000",
                        "CallerID": f"load <{1000 + number}>", "Async": "true",
                    }  # fmt: skip
                    answer = await scene.manager.act("Originate", **headers)
                    assert answer["Response"] == "Success"
                    await trio.sleep_until(began + (number + 1) / RATE)

            nursery.start_soon(place)
            await trio.sleep(2)
            await postgres.freeze()
            try:
                await trio.sleep(FREEZE_S)
            finally:
                await postgres.thaw()
            thawed = trio.current_time()
        query = "SELECT count(*) AS n FROM calls WHERE phase = 'ended'"
        with trio.fail_after(60):
            while (await postgres.rows(query))[0]["n"] < calls:
                await trio.sleep(0.1)
        after_s = trio.current_time() - thawed
        uncertain = (await postgres.rows("SELECT count(*) AS n FROM calls WHERE uncertain"))[0]["n"]
        lost = (await requested(world, "/stats"))["counters"].get("pbx_sessions_lost", 0) - lost_before
        print("\n" + json.dumps({
            "calls": calls, "calls/s": RATE, "frozen_s": FREEZE_S, "sessions lost": lost, "uncertain": uncertain,
            "all ended in the database, s after the thaw": round(after_s, 1),
        }))  # fmt: skip
        assert (lost, uncertain) == (0, 0)
        assert (await postgres.rows("SELECT count(*) AS n FROM calls"))[0]["n"] == calls
