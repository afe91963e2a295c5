"""`gateway tenant delete` as a person runs it: the number is asked for again, and a kill -9 midway is gone on with."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import trio

from gateway.store.postgres.pool import OwnConnection, open_session
from tests.cli.conftest import Command
from tests.cli.test_apply import june, write
from tests.cli.test_keys import ask
from tests.store.every_table import fill, found_in

pytestmark = [pytest.mark.slow]

NUMBER = "0367-gone"


def as_owner(work: Any, *args: Any) -> Any:
    async def main() -> Any:
        async with open_session(os.environ["GATEWAY_DATABASE_OWNER_URL"]) as session:
            return await session.run(work, *args)

    return trio.run(main)


@pytest.fixture
def applied(command: Command, installation: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GATEWAY_DATA_DIR", str(installation / "var"))
    monkeypatch.setenv("GATEWAY_PROVIDER_URLS", '{"telegram": "http://127.0.0.1:1"}')
    block = june(number=NUMBER)
    block["integrations"].pop("retailcrm")
    assert command("apply", write(installation, block)).code == 0
    as_owner(fill, NUMBER, "words")
    as_owner(run_sql, f"DELETE FROM modules WHERE tenant_id = '{NUMBER}'")
    (installation / "var" / "recordings" / NUMBER / "ab").mkdir(parents=True)
    (installation / "var" / "recordings" / NUMBER / "ab" / "file").write_bytes(b"x")
    return installation


async def run_sql(conn: OwnConnection, statement: str) -> None:
    await conn.execute(statement)


def test_it_asks_for_the_number_again(command: Command, applied: Path) -> None:
    assert command("tenant", "delete", "0999", "--yes").errors == ["gateway: no tenant 0999"]
    assert command("tenant", "delete", "0999").code == 1
    refused = command("tenant", "delete", NUMBER, stdin="yes\n")
    assert refused.code == 1
    assert f"Everything of {NUMBER} (June) will be deleted" in refused.out
    assert refused.errors == ["gateway: that is not the number; nothing was deleted"]
    assert command("export", NUMBER).code == 0
    done = command("tenant", "delete", NUMBER, stdin=f"{NUMBER}\n")
    assert done.code == 0, done.err
    assert done.lines[-1] == f"tenant {NUMBER}: deleted"
    assert as_owner(found_in, NUMBER) == {}
    assert not (applied / "var" / "recordings" / NUMBER).exists()
    assert command("export", NUMBER).code == 1
    assert command("tenant", "delete", NUMBER, "--yes").code == 1
    (row,) = ask("SELECT action, target, actor_kind FROM audit WHERE tenant_id = '*'")
    assert tuple(row) == ("tenant.deleted", NUMBER, "cli")
    assert command("audit", "verify").code == 0


def test_one_that_is_being_deleted_cannot_be_applied(command: Command, applied: Path) -> None:
    as_owner(
        run_sql,
        f"INSERT INTO tenant_deletions (tenant_id, requested_by, requested_kind) VALUES ('{NUMBER}', 'cli', 'cli')",
    )
    refused = command("apply", write(applied, june(number=NUMBER)))
    assert refused.code == 1
    assert "is being deleted" in refused.err
    assert command("tenant", "delete", NUMBER).code == 0, "one that was begun is not asked for again"


def test_a_kill_midway_is_gone_on_with(command: Command, applied: Path) -> None:
    rows = f"""INSERT INTO call_events (tenant_id, call_id, seq, event, at, body)
        SELECT '{NUMBER}', n::text, 1, 'call_ended', now(), repeat('x', 200) FROM generate_series(1, 200000) AS n"""
    as_owner(run_sql, rows)
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", "tenant", "delete", NUMBER, "--yes"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 60
    while (left := ask(f"SELECT count(*) FROM call_events WHERE tenant_id = '{NUMBER}'")[0][0]) > 190_000:
        assert time.monotonic() < deadline
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert 0 < left <= 190_000, "it was killed midway"
    assert as_owner(found_in, NUMBER)["tenants"] == 1
    as_owner(run_sql, "UPDATE tenant_deletions SET lease_until = now()")  # half a minute later
    assert command("tenant", "delete", NUMBER, "--yes").code == 0
    assert as_owner(found_in, NUMBER) == {}
