"""Plays kinds of call on a real Asterisk with the whole product listening: `python -m tests.lab.play`, or `make lab`.

    telephones -> Asterisk -> AMI -> gateway -> sandbox RetailCRM and Telegram

Prints a table of kinds with what was wrong, and the time from the AMI bytes of a ring to the CRM's socket. `--all` plays
both versions as a full and as a read-only user, side by side; `--record DIR` plays without the product, keeps what AMI
said and judges the tracker by it.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import trio

from gateway.store.embedded.embedded import as_login
from gateway.store.postgres.pool import Connection, open_database
from tests.e2e.world import CHAT, World, open_world
from tests.lab.judge import LIVE_ACCURACY_S, concerns_crm, pairs, wrong_with_cards, wrong_with_crm, wrong_with_ends
from tests.lab.kinds import KINDS
from tests.lab.machine import SECOND_TRUNK, SECRET, TRUNK, Lab, Scene, missing, running_lab, script
from tests.lab.recording import leaves, record
from tests.lab.sip import SipError

TOLD_WITHIN_S = 5.0
CARDS_WITHIN_S = 120.0
"""A group takes 20 messages a minute, and kinds are played without a pause."""
T = TypeVar("T")
ALL_ONLINE = 14
"""How many actors the product has with one tenant, one PBX and two integrations."""
COMBINATIONS = (("22", "lab"), ("22", "lab-ro"), ("16", "lab"), ("16", "lab-ro"))
NUMBERS = [str(number) for number in range(150, 160)]


@dataclass
class Stage:
    """The product beside a lab."""

    world: World
    lab: Lab
    latencies_ms: list[float] = field(default_factory=list)

    async def prepare(self) -> None:
        """Makes the lab the tenant's PBX, and waits for the link."""
        block = self.world.tenant()
        block["phones"] = [
            {"number": number, **({"endpoints": ["151", "anna-soft"]} if number == "151" else {})} for number in NUMBERS
        ]
        block["pbxes"] = [{
            "name": "lab", "host": "127.0.0.1", "port": self.lab.ami_port, "username": self.lab.user,
            "secret": SECRET, "trunks": [TRUNK, SECOND_TRUNK], "originate_context": "inoffice",
        }]  # fmt: skip
        await self.world.apply(block)
        with trio.fail_after(30):
            while (await self.world.get("/stats"))["actors"].get("online", 0) < ALL_ONLINE:
                await trio.sleep(0.1)
        await trio.sleep(0.5)

    async def play(self, name: str) -> list[str]:
        """Plays one kind. Returns what was wrong with what was told."""
        crm, telegram = self.world.crm, self.world.telegram
        events, uploads, cards = len(crm.events), len(crm.uploads), len(telegram.messages(CHAT))
        known = {call["call_id"] for call in await self.ended()}
        received: list[tuple[float, str]] = []
        failures: list[str] = []
        try:
            async with self.lab.scene() as scene, trio.open_nursery() as nursery:
                nursery.start_soon(_note_rings, scene, received)
                truths = await KINDS[name](scene)
                await scene.finish()
                await scene.quiet()
                nursery.cancel_scope.cancel()
        except* (AssertionError, IndexError, SipError, trio.TooSlowError) as group:
            failures = [f"the lab failed: {error!r}" for error in leaves(group)]
        if failures:
            return failures
        outside = sum(map(concerns_crm, truths))
        with trio.move_on_after(TOLD_WITHIN_S):
            while len(crm.uploads) < uploads + outside:
                await trio.sleep(0.02)
        await trio.sleep(0.5)
        new = [call for call in await self.ended() if call["call_id"] not in known]
        problems = wrong_with_ends(truths, new, LIVE_ACCURACY_S)
        if len(new) == len(truths):
            reported = [item.data for item in crm.events[events:]]
            stored = [item.data for item in crm.uploads[uploads:]]
            for truth, end in pairs(truths, new):
                problems += wrong_with_crm(
                    truth,
                    [event for event in reported if event["callExternalId"] == end["call_id"]],
                    [upload for upload in stored if upload["externalId"] == end["call_id"]],
                )
            strangers = {event["callExternalId"] for event in reported} - {end["call_id"] for end in new}
            problems += [f"the CRM was told of {stranger}" for stranger in strangers]
        with trio.move_on_after(CARDS_WITHIN_S):
            while await self.requested(_count_pending):
                await trio.sleep(0.5)
        problems += wrong_with_cards(truths, telegram.messages(CHAT)[cards:])
        first = next((item.at for item in crm.events[events:] if item.data["type"] == "in"), None)
        if first is not None and received:
            self.latencies_ms.append((first - received[0][0]) * 1000)
        return problems

    async def ended(self) -> list[dict[str, Any]]:
        """The ends of calls as they are kept, in their order."""
        return await self.requested(_select_ended)

    async def requested(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """What the product's database says."""
        state = json.loads((self.world.folder / "var" / "postgres.lock").read_text())
        async with open_database(as_login(state["dsn"]), size=1, engine_size=1) as db:
            return await db.engine(work)


async def _select_ended(conn: Connection) -> list[dict[str, Any]]:
    rows = await conn.fetch("SELECT body FROM call_events WHERE event = 'call_ended' ORDER BY at")
    return [json.loads(row[0]) for row in rows]


async def _count_pending(conn: Connection) -> int:
    return int(
        await conn.fetchval("SELECT count(*) FROM deliveries WHERE state = 'pending' AND kind <> 'card_recording'")
    )


async def _note_rings(scene: Scene, received: list[tuple[float, str]]) -> None:
    """Notes when a second AMI connection heard a phone ring: the gateway's own gets the same bytes at that moment."""
    place = scene.since
    while True:
        message = await scene.manager.wait(place, 120, Event="^DialState$", DialStatus="RINGING")
        received.append((time.monotonic(), message.get("DestChannel", "")))
        place = scene.manager.seen.index(message, place) + 1


Table = dict[str, dict[tuple[str, str], list[str]]]
"""Kind, then version and user, to what was wrong."""


async def play_all(version: str, user: str, names: list[str], offset: int, table: Table) -> None:
    """Plays these kinds for one version and user."""
    with tempfile.TemporaryDirectory() as folder:
        async with running_lab(version, offset, user) as lab, open_world(Path(folder)) as world:
            stage = Stage(world, lab)
            await stage.prepare()
            for name in names:
                _note(table, name, (version, user), await stage.play(name))
            if stage.latencies_ms:
                ordered = sorted(stage.latencies_ms)
                print(f"{version} {user}: AMI bytes of the ring to the CRM's socket, {len(ordered)} calls: p50 "
                      f"{statistics.median(ordered):.1f} ms, p99 {ordered[-max(1, len(ordered) // 100)]:.1f} ms")  # fmt: skip


async def record_all(
    version: str, names: list[str], offset: int, folder: Path, asks_every_s: float, table: Table
) -> None:
    """Records these kinds for one version, both users at once."""
    async with running_lab(version, offset) as lab:
        for name in names:
            _note(table, name, (version, "both"), await record(lab, name, folder, asks_every_s))


def _note(table: Table, name: str, column: tuple[str, str], problems: list[str]) -> None:
    table.setdefault(name, {})[column] = problems
    version, user = column
    print(f"{version} {user:7} {name:36} {'right' if not problems else '; '.join(problems)}", flush=True)


def print_table(table: Table) -> int:
    """Prints kinds by version and user. Returns how many were wrong."""
    columns = sorted(
        {column for row in table.values() for column in row}, key=lambda column: (-int(column[0]), column[1])
    )
    print(f"\n{'kind':36} " + " ".join(f"{version + ' ' + user:>9}" for version, user in columns))
    for name, row in table.items():
        cells = ("" if column not in row else "WRONG" if row[column] else "right" for column in columns)
        print(f"{name:36} " + " ".join(f"{cell:>9}" for cell in cells))
    played = [problems for row in table.values() for problems in row.values()]
    wrong = sum(map(bool, played))
    print(f"{len(table)} kinds, {len(played) - wrong} of {len(played)} right")
    return wrong


async def run(options: argparse.Namespace, names: list[str]) -> int:
    """What the command line asks for."""
    table: Table = {}
    versions = ("22", "16") if options.all else (options.version,)
    if os.geteuid() == 0:
        for version in versions:
            await script("install", version, options.offset)
    if problem := missing():
        print(problem, file=sys.stderr)
        return 1
    async with trio.open_nursery() as nursery:
        if options.record is not None:
            for place, version in enumerate(versions):
                port, every = options.offset + 20 * place, options.lists
                nursery.start_soon(record_all, version, names, port, options.record, every, table)
        else:
            chosen = COMBINATIONS if options.all else ((options.version, options.user),)
            for place, (version, user) in enumerate(chosen):
                nursery.start_soon(play_all, version, user, names, options.offset + 20 * place, table)
    return print_table(table)


def main() -> int:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="Real calls on a real Asterisk, judged by what the CRM was told.")
    parser.add_argument("--version", choices=("22", "16"), default="22")
    parser.add_argument("--user", choices=("lab", "lab-ro"), default="lab")
    parser.add_argument("--all", action="store_true", help="both versions and users, side by side")
    parser.add_argument("--record", type=Path, metavar="DIR", help="record instead, both users at once")
    parser.add_argument(
        "--lists", type=float, default=0.0, metavar="S", help="with --record: ask for the channels so often"
    )
    parser.add_argument("--offset", type=int, default=300, help="added to every port; labs side by side take 20 each")
    parser.add_argument("names", nargs="*", help="name prefixes; all by default")
    options = parser.parse_args()
    names = [name for name in KINDS if not options.names or any(name.startswith(part) for part in options.names)]
    return 1 if trio.run(run, options, names) else 0


if __name__ == "__main__":
    sys.exit(main())
