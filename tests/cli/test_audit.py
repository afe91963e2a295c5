"""`gateway audit verify`, and what `apply`, `user` and `api-key` leave in the trail."""

import os
from pathlib import Path
from typing import Any

import pytest
import trio

from gateway.store.postgres.pool import OwnConnection, open_session
from tests.cli.conftest import Command
from tests.cli.test_apply import june, write
from tests.cli.test_keys import ask

pytestmark = [pytest.mark.slow]


def forge(*statements: str) -> None:
    """As a superuser who gets round every trigger."""

    async def work(conn: OwnConnection) -> None:
        for statement in ("SET session_replication_role = replica", *statements):
            await conn.execute(statement)

    async def main() -> None:
        async with open_session(os.environ["GATEWAY_DATABASE_OWNER_URL"]) as session:
            await session.run(work)

    trio.run(main)


def test_what_was_changed_or_taken_out_is_named(command: Command, installation: Path) -> None:
    assert command("apply", write(installation, june())).code == 0
    whole = command("audit", "verify")
    assert whole.code == 0, whole.err
    assert whole.lines[0].startswith("tenant 0367: ")
    known = whole.lines[0].rpartition(" ")[2]
    assert command("audit", "verify", "0367", "--known", known).code == 0
    assert command("user", "add", "root@gateway.example", "--operator", stdin="ledger-otter-winding-9\n").code == 0
    assert command("audit", "verify", "*").lines[0].startswith("operators: 1 entries in order; newest 1:")
    newest = int(known.partition(":")[0])
    forge(f"DELETE FROM audit WHERE tenant_id = '0367' AND position = {newest}")
    gone = command("audit", "verify")
    assert (gone.code, len(gone.errors)) == (1, 1)
    assert f"tenant 0367: entry {newest} was taken out: it was the newest" in gone.err
    forge("UPDATE audit SET target = 'x' WHERE tenant_id = '0367' AND position = 1")
    assert "tenant 0367: entry 1 was changed" in command("audit", "verify", "0367").err
    assert command("audit", "verify", "0999").errors == ["gateway: no tenant 0999"]
    for wrong in (("--known", known), ("0367", "--known", "1:xyz"), ("0367", "--known", "nonsense")):
        assert command("audit", "verify", *wrong).code == 2


def test_each_change_of_an_apply_is_recorded(command: Command, installation: Path) -> None:
    file = june()
    assert command("apply", write(installation, file)).code == 0
    assert command("apply", write(installation, file)).lines == ["nothing to change"]
    first = ask("SELECT action, target, actor, actor_kind, source, old::text, new::text FROM audit ORDER BY position")
    assert {row["actor_kind"] for row in first} == {"cli"}
    assert all("@" in row["source"] for row in first)
    assert [row["action"] for row in first].count("tenant.created") == 1
    texts = " ".join(f"{row['old']} {row['new']}" for row in first)
    for secret in ("password", "secret", "token", "api_key"):
        assert f'"{secret}": "***"' in texts, secret
    file["phones"] = [{"number": "150", "owner": "Other"}]
    file["name"] = "July"
    assert command("apply", "--prune", write(installation, file)).code == 0
    rows: dict[str, Any] = {
        row["action"]: (row["old"], row["new"])
        for row in ask("SELECT action, old::text, new::text FROM audit ORDER BY position OFFSET $1", len(first))
    }
    assert rows["tenant.changed"] == ('{"name": "June"}', '{"name": "July"}')
    assert '"owner": "Other"' in rows["phone.saved"][1]
    assert rows["phone.removed"][1] is None
    assert command("audit", "verify").code == 0
