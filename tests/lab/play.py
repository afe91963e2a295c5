"""Plays kinds of call on a real Asterisk with the whole product listening: `python -m tests.lab.play`, or `make lab`.

    sipp phones -> Asterisk -> AMI -> gateway -> sandbox RetailCRM and Telegram

Prints a table of kinds with what was wrong, and the time from the AMI bytes of a ring to the CRM's socket.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from gateway.store.pool import Connection, open_database
from tests.e2e.world import CHAT, World, open_world
from tests.lab.judge import wrong_with_card, wrong_with_crm, wrong_with_end
from tests.lab.machine import SECRET, TRUNK, Lab, Scene, missing, running_lab, script
from tests.lab.scenarios import SCENARIOS

TOLD_WITHIN_S = 5.0


@dataclass
class Stage:
    """The product beside a lab."""

    world: World
    lab: Lab
    latencies_ms: list[float] = field(default_factory=list)

    async def prepare(self) -> None:
        """Makes the lab the tenant's PBX, and waits for the link."""
        block = self.world.tenant()
        block["pbxes"] = [{
            "name": "lab", "host": "127.0.0.1", "port": self.lab.ami_port, "username": self.lab.user,
            "secret": SECRET, "trunks": [TRUNK], "originate_context": "inoffice",
        }]  # fmt: skip
        await self.world.apply(block)
        with trio.fail_after(15):
            while (await self.world.get("/stats"))["actors"].get("online", 0) < 14:
                await trio.sleep(0.1)
        await trio.sleep(0.5)

    async def play(self, name: str) -> list[str]:
        """Plays one kind. Returns what was wrong with what was told."""
        crm, telegram = self.world.crm, self.world.telegram
        events, uploads, cards = len(crm.events), len(crm.uploads), len(telegram.messages(CHAT))
        known = {call["call_id"] for call in await self._ended()}
        heard: list[tuple[float, str]] = []
        failures: list[str] = []
        try:
            async with self.lab.scene() as scene, trio.open_nursery() as nursery:
                nursery.start_soon(_note_rings, scene, heard)
                truth_of = await SCENARIOS[name](scene)
                await scene.finish()
                nursery.cancel_scope.cancel()
                truth = truth_of()
        except* (AssertionError, trio.TooSlowError) as group:
            failures = [f"the lab failed: {error!r}" for error in group.exceptions]
        if failures:
            return failures
        with trio.move_on_after(TOLD_WITHIN_S):
            while truth.direction != "internal" and len(crm.uploads) <= uploads:
                await trio.sleep(0.02)
        await trio.sleep(0.5)
        new = [call for call in await self._ended() if call["call_id"] not in known]
        problems = wrong_with_end(truth, new[0]) if len(new) == 1 else [f"{len(new)} calls were kept"]
        problems += wrong_with_crm(truth, crm, events, uploads)
        problems += wrong_with_card(truth, telegram.messages(CHAT)[cards:])
        told = next((item.at for item in crm.events[events:] if item.data["type"] == "in"), None)
        if told is not None and heard:
            self.latencies_ms.append((told - heard[0][0]) * 1000)
        return problems

    async def _ended(self) -> list[dict[str, Any]]:
        state = json.loads((self.world.folder / "var" / "postgres.lock").read_text())
        async with open_database(state["dsn"], size=1, engine_size=1) as db:
            return await db.engine(_select_ended)


async def _select_ended(conn: Connection) -> list[dict[str, Any]]:
    rows = await conn.fetch("SELECT body FROM call_events WHERE event = 'call_ended' ORDER BY at")
    return [json.loads(row[0]) for row in rows]


async def _note_rings(scene: Scene, heard: list[tuple[float, str]]) -> None:
    """Notes when a second AMI connection heard a phone ring: the gateway's own gets the same bytes at that moment."""
    place = scene.since
    while True:
        message = await scene.manager.wait(place, 60, Event="^DialState$", DialStatus="RINGING")
        heard.append((time.monotonic(), message.get("DestChannel", "")))
        place = scene.manager.seen.index(message, place) + 1


async def play_all(version: str, user: str, names: list[str], offset: int) -> int:
    """Plays the kinds whose names begin so. Returns how many were wrong."""
    chosen = [name for name in SCENARIOS if not names or any(name.startswith(part) for part in names)]
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        async with running_lab(version, offset, user) as lab, open_world(Path(folder)) as world:
            stage = Stage(world, lab)
            await stage.prepare()
            for name in chosen:
                problems = await stage.play(name)
                wrong += bool(problems)
                print(f"{version} {user:7} {name:26} {'right' if not problems else '; '.join(problems)}", flush=True)
            if stage.latencies_ms:
                ordered = sorted(stage.latencies_ms)
                print(f"AMI bytes of the ring to the CRM's socket, {len(ordered)} calls: p50 "
                      f"{statistics.median(ordered):.1f} ms, p99 {ordered[-max(1, len(ordered) // 100)]:.1f} ms")  # fmt: skip
    print(f"{version} {user}: {len(chosen) - wrong} of {len(chosen)} right")
    return wrong


def main() -> int:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="Real calls on a real Asterisk, judged by what the CRM was told.")
    parser.add_argument("--version", choices=("22", "16"), default="22")
    parser.add_argument("--user", choices=("lab", "lab-ro"), default="lab")
    parser.add_argument("--offset", type=int, default=300, help="added to every port")
    parser.add_argument("names", nargs="*", help="name prefixes; all by default")
    options = parser.parse_args()
    if os.geteuid() == 0:
        trio.run(script, "install", options.version, options.offset)
    if problem := missing():
        print(problem, file=sys.stderr)
        return 1
    return 1 if trio.run(play_all, options.version, options.user, options.names, options.offset) else 0


if __name__ == "__main__":
    sys.exit(main())
