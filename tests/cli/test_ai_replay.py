"""`gateway ai replay`: with a company's own prompt, on a database that is thrown away, and every way in which it is refused."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.cli import ai_replay
from gateway.store.embedded.embedded import as_login
from gateway.store.postgres.pool import Database, open_database
from gateway.store.secrets.seal import MasterKeys, new_master_key, parse_master_keys
from tests.cli.conftest import Command
from tests.cli.test_apply import write
from tests.cli.test_apply_content import with_content
from tests.store.database import Postgres

MINE = """
conversations:
  - id: two
    steps:
      - {client: "Two Margheritas, please", expect: {items: {margherita: 2}, total: "25.00"}}
      - {client: "Yes", expect: {agreed: true}}
  - id: person
    steps:
      - {client: "A person, please", expect: {hand_over: true}}
"""


@pytest.fixture
def scratch(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database of the tests' server in the place of a server of its own."""
    dsn = as_login(postgres.new_database())

    @asynccontextmanager
    async def scratch_database() -> AsyncIterator[tuple[Database, MasterKeys]]:
        async with open_database(dsn) as db:
            yield db, parse_master_keys(new_master_key())

    monkeypatch.setattr(ai_replay, "scratch_database", scratch_database)


@pytest.mark.slow
def test_a_companys_prompt_is_played_and_compared(command: Command, installation: Path, scratch: None) -> None:
    assert command("apply", write(installation, with_content())).code == 0
    file, report = installation / "mine.yaml", installation / "report.json"
    file.write_text(MINE, "utf-8")
    played = ("ai", "replay", str(file), "--tenant", "0367", "--by-the-book")
    ran = command(*played, "--report", str(report), "--least", "100")
    assert (ran.code, ran.lines[-1]) == (0, "steps right: 3 of 3 in 2 conversations")
    assert "prompt Main version 1, model by-the-book" in ran.out
    stored = json.loads(report.read_text("utf-8"))
    assert (stored["prompt"], stored["right"], [one["id"] for one in stored["results"]]) == (
        "Main",
        3,
        ["two", "person"],
    )
    ran = command(
        *played, "--prompt", "Main", "--version", "1", "--only", "two", "--compare", str(report), "--print-requests"
    )
    bodies = [json.loads(line)["body"] for line in ran.lines]
    assert len(bodies) == 4
    assert "Fee: 5 BYN" in bodies[0]["messages"][0]["content"]
    assert "worse: 0" in ran.err
    wrong = MINE.replace('"25.00"', '"24.00"')
    file.write_text(wrong, "utf-8")
    ran = command(*played, "--least", "90")
    assert (ran.code, ran.lines[0]) == (1, "two step 1: total")
    for more, words in (
        (("--tenant", "0399"), "there is no tenant 0399"),
        (("--tenant", "0367", "--prompt", "Other"), "no prompt called Other"),
        (("--tenant", "0367", "--prompt", "Main", "--version", "7"), "has no version 7"),
        (("--compare", str(file), "--tenant", "0367"), "is no report"),
        (("--tenant", "0367", "--only", "three"), "there is no conversation three"),
        ((), "conversation two names no company: give one by --tenant"),
    ):
        ran = command("ai", "replay", str(file), "--by-the-book", *more)
        assert (ran.code, words in ran.err) == (1, True), (more, ran.err)
    ours = command("ai", "replay", "--by-the-book", "--tenant", "0367", "--only", "pizza-two")
    assert "has a company of its own" in ours.err


def test_what_cannot_be_played_is_said(command: Command, tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("conversations: [{id: x, steps: [{client: a, expects: {}}]}]", "utf-8")
    ran = command("ai", "replay", str(bad), "--by-the-book")
    assert (ran.code, "bad.yaml: conversations[0].steps[0].expects" in ran.err) == (1, True)
    assert command("ai", "replay", str(tmp_path / "none.yaml"), "--by-the-book").code == 1
    assert command("ai", "replay", "--prompt", "x").code == 2
    assert command("ai", "replay", "--tenant", "0367", "--version", "3").code == 2
    assert command("ai", "replay", "--at-once", "0").code == 2
    ran = command("ai", "replay", "--only", "salon-price")
    assert (ran.code, "--by-the-book" in ran.err) == (1, True)
