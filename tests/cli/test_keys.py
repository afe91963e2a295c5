"""`gateway keys rotate` as a person runs it: to the end, where a file may not be written, beside gateways that lack the key."""

import errno
import os
import re
import threading
from pathlib import Path
from typing import Any

import pytest
import trio

from gateway.domain.ids import TenantId
from gateway.store.postgres.errors import Unsealable
from gateway.store.postgres.pool import Connection, OwnConnection, open_database, open_session
from gateway.store.secrets.rotation import LOCK_KEY, select_wrapped
from gateway.store.secrets.seal import MasterKeys, new_data_key, new_master_key, parse_master_keys, write_master_keys
from tests.cli.conftest import Command
from tests.cli.test_apply import SECRETS, june, write

pytestmark = [pytest.mark.slow]


def keys_of(folder: Path) -> MasterKeys:
    return parse_master_keys((folder / "master.key").read_text())


def ask(query: str, *values: Any) -> list[Any]:
    """In a loop of its own."""

    async def work(conn: Connection) -> list[Any]:
        return list(await conn.fetch(query, *values))

    async def main() -> list[Any]:
        async with open_database(os.environ["GATEWAY_DATABASE_URL"], size=1, engine_size=1) as db:
            return await db.engine(work)

    return trio.run(main)


def wrapped() -> list[tuple[TenantId, str]]:
    async def main() -> list[tuple[TenantId, str]]:
        async with open_database(os.environ["GATEWAY_DATABASE_URL"], size=1, engine_size=1) as db:
            return await db.engine(select_wrapped)

    return trio.run(main)


@pytest.fixture
def june_applied(command: Command, installation: Path) -> Path:
    """An installation with two tenants. Returns its folder."""
    maple = june(number="0368", name="Maple", token="m" * 40, users=[])
    assert command("apply", write(installation, june(), maple)).code == 0
    return installation


def test_to_the_end(command: Command, june_applied: Path) -> None:
    file = june_applied / "master.key"
    file.chmod(0o440)
    before, secrets = keys_of(june_applied), command("export", "0367", "--reveal").out
    ran = command("keys", "rotate")
    assert (ran.code, ran.err) == (0, "")
    after = keys_of(june_applied)
    assert (len(after.ids), file.stat().st_mode & 0o777) == (1, 0o440)
    assert after.ids != before.ids
    assert ran.lines[0] == f"new master key {after.current.id} written to {file}, above {before.current.id}"
    assert ran.lines[-2].startswith(f"{before.current.id} taken out of {file}")
    assert ran.lines[-1] == f"everything is sealed under {after.current.id}"
    assert any(re.fullmatch(r"tenants +2/2", line) for line in ran.lines)
    assert any(re.fullmatch(r"integrations\.secrets +4/4", line) for line in ran.lines)
    assert command("export", "0367", "--reveal").out == secrets
    assert "nothing to change" in command("apply", write(june_applied, june())).out
    for key in (*before.keys, *after.keys):
        assert key.line().split()[2] not in ran.out
    assert not [secret for secret in SECRETS if secret in ran.out]
    for tenant, text in wrapped():
        with pytest.raises(Unsealable):
            before.unwrap(tenant, text)
    # The old key alone is refused, in words; a second rotation makes a third key.
    write_master_keys(file, before.keys)
    refused = command("keys", "rotate")
    assert (refused.code, refused.out, len(refused.errors)) == (1, "", 1)
    assert f"{after.current.id} (2 tenants)" in refused.err
    assert keys_of(june_applied).ids == before.ids
    write_master_keys(file, after.keys)
    assert command("keys", "rotate").code == 0
    assert keys_of(june_applied).current.id not in (after.current.id, before.current.id)


def test_an_empty_installation(command: Command, installation: Path) -> None:
    before = keys_of(installation)
    assert command("keys", "rotate").code == 0
    assert keys_of(installation).ids != before.ids


@pytest.mark.parametrize("failing", ["open", "replace"])
def test_a_file_that_may_not_be_replaced(
    command: Command, june_applied: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """First nothing is changed and the way by hand is told; gone by hand, all but the file's last change is done."""
    file, before, sealed = june_applied / "master.key", keys_of(june_applied), wrapped()

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patched:
        if failing == "open":
            patched.setattr("gateway.store.secrets.seal.os.open", refuse)
        else:
            patched.setattr(Path, "replace", refuse)
        ran = command("keys", "rotate")
        assert (ran.code, ran.out, len(ran.errors)) == (1, "", 1)
        assert "Read-only file system; nothing was changed" in ran.err
        assert f"gateway keys new; cat {file}) > NEWFILE" in ran.err
        assert (keys_of(june_applied).ids, wrapped()) == (before.ids, sealed)
        fresh = new_master_key()
        file.write_text(f"{fresh}\n{before.current.line()}\n")
        again = command("keys", "rotate")
        assert again.code == 1
        assert f"{before.current.id} was not taken out" in again.err
        assert sorted(entry.name for entry in june_applied.iterdir()) == ["master.key", "tenants.yaml"]
    for tenant, text in wrapped():
        parse_master_keys(fresh).unwrap(tenant, text)
    last = command("keys", "rotate")
    assert (last.code, keys_of(june_applied).ids) == (0, parse_master_keys(fresh).ids)


@pytest.mark.long
def test_a_gateway_that_lacks_the_key_stops_it_before_anything_is_sealed(
    command: Command, june_applied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a copy that systemd made at the start."""
    monkeypatch.setattr("gateway.cli.keys.INSTANCES_WITHIN_S", 0.5)
    before = keys_of(june_applied)
    ask(
        "INSERT INTO instances (instance, seen_at, master_keys) VALUES ('crm-host-1', now() + interval '1 hour', $1)",
        list(before.ids),
    )
    ran = command("keys", "rotate")
    assert ran.code == 1
    fresh = keys_of(june_applied)
    assert fresh.ids[1:] == before.ids
    assert f"these gateways run and do not hold the key {fresh.current.id}: crm-host-1" in ran.err
    for tenant, text in wrapped():
        before.unwrap(tenant, text)
    assert "a rotation is not finished" in command("doctor").out
    ask("UPDATE instances SET master_keys = $1", list(fresh.ids))
    ran = command("keys", "rotate")
    assert (ran.code, ran.err) == (0, "")
    assert f"going on with {fresh.current.id}" in ran.lines[0]
    assert keys_of(june_applied).ids == fresh.ids[:1]


def test_a_tenant_is_not_made_under_a_key_that_was_replaced_meanwhile(command: Command, june_applied: Path) -> None:
    """The file that `apply` has read is an older one than the database is under."""
    ask("INSERT INTO retired_master_keys (key_id) VALUES ($1)", keys_of(june_applied).current.id)
    renamed = command("apply", write(june_applied, june(name="July")))
    assert (renamed.code, renamed.lines[0]) == (0, "tenant 0367: name changed")
    third = june(number="0369", token="t" * 40, users=[])
    refused = command("apply", write(june_applied, june(name="August"), third))
    assert (refused.code, refused.out, len(refused.errors)) == (1, "", 1)
    assert "replaced while this ran; nothing was changed. Run it again" in refused.err
    assert "July" in command("export", "0367").out


def test_a_second_machine_s_file_is_cleared_by_a_run_there(command: Command, june_applied: Path) -> None:
    file = june_applied / "master.key"
    before = keys_of(june_applied)
    assert command("keys", "rotate").code == 0
    after = keys_of(june_applied)
    write_master_keys(file, [*after.keys, *before.keys])  # as it was brought there in the middle
    ran = command("keys", "rotate")
    assert (ran.code, ran.err, keys_of(june_applied).ids) == (0, "", after.ids)


def test_one_at_a_time(command: Command, june_applied: Path) -> None:
    held, done = threading.Event(), threading.Event()

    async def lock(conn: OwnConnection) -> None:
        await conn.execute("SELECT pg_advisory_lock($1)", LOCK_KEY)

    async def hold() -> None:
        async with open_session(os.environ["GATEWAY_DATABASE_OWNER_URL"]) as session:
            await session.run(lock)
            held.set()
            await trio.to_thread.run_sync(done.wait)

    other = threading.Thread(target=trio.run, args=(hold,))
    other.start()
    assert held.wait(10)
    before = keys_of(june_applied)
    ran = command("keys", "rotate")
    done.set()
    other.join()
    assert (ran.code, ran.err) == (1, "gateway: another rotation is under way\n")
    assert keys_of(june_applied).ids == before.ids


def test_values_that_did_not_open_before_are_named(command: Command, june_applied: Path) -> None:
    ask(
        "UPDATE integrations SET secrets = (SELECT secrets FROM integrations WHERE tenant_id = '0368' AND "
        "integration_type = 'retailcrm') WHERE tenant_id = '0367' AND integration_type = 'retailcrm'"
    )
    ran = command("keys", "rotate")
    assert ran.code == 0
    assert "does not open, left as it is: integrations.secrets of tenant 0367, row retailcrm api_key" in ran.err
    assert "enc:" not in ran.err
    assert len(keys_of(june_applied).ids) == 1


def test_a_data_key_that_does_not_open_keeps_the_old_key(command: Command, june_applied: Path) -> None:
    before = keys_of(june_applied)
    ask("UPDATE tenants SET data_key = $1 WHERE tenant_id = '0367'", before.wrap(TenantId("0368"), new_data_key()))
    ran = command("keys", "rotate")
    assert ran.code == 1
    assert "data key of tenant 0367" in ran.err
    assert keys_of(june_applied).ids[1:] == before.ids
