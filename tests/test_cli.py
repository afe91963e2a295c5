"""The commands that need no database: help, usage, keys, replay, and mistakes in the environment or a file."""

import fcntl
import json
import subprocess
import sys
from pathlib import Path

import pytest

from gateway import __version__
from gateway.cli import main
from gateway.store.embedded import data_dir_lock
from gateway.store.secrets.seal import parse_master_keys
from gateway.tenant_file import read_tenant_files
from tests.cli.conftest import Command, command, own_environment
from tests.readme_tables import commands

__all__ = ["command", "own_environment"]

COMMANDS = [*commands(), "user", "keys"]
FIXTURE = Path(__file__).parent / "fixtures" / "asterisk" / "22" / "01-incoming-answered.ami"


@pytest.mark.parametrize("words", ["", *COMMANDS])
def test_help(words: str, command: Command) -> None:
    ran = command(*words.split(), "--help")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(f"usage: gateway {words}".rstrip())


def test_version(command: Command) -> None:
    assert command("--version").out == f"{__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fly"],
        ["apply"],
        ["export"],
        ["export", "0367", "0368"],
        ["user"],
        ["user", "add", "a@b.example"],
        ["user", "add", "a@b.example", "--operator", "--tenant", "0367"],
        ["keys"],
        ["replay"],
        ["run", "--fast"],
    ],
)
def test_bad_usage_is_2(arguments: list[str], command: Command) -> None:
    ran = command(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert "Traceback" not in ran.err


def test_a_bad_environment_is_2_and_lists_everything(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_BIND", "8000")
    monkeypatch.setenv("GATEWAY_BINDE", "127.0.0.1:8000")
    ran = command("run")
    assert (ran.code, ran.out) == (2, "")
    assert [line.split(":")[1].strip() for line in ran.errors] == ["GATEWAY_BINDE", "GATEWAY_BIND"]


def test_a_real_server_without_a_master_key_says_how_to_make_one(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GATEWAY_DATABASE_URL", "postgresql://gateway@127.0.0.1:1/gateway")
    monkeypatch.setenv("GATEWAY_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("GATEWAY_BIND", "127.0.0.1:0")
    monkeypatch.setenv("GATEWAY_INTAKE_BIND", "127.0.0.1:0")
    ran = command("run")
    assert ran.code == 1
    assert "gateway keys new >" in ran.errors[-1]
    assert "Traceback" not in ran.err


def test_a_second_gateway_on_one_folder_is_refused_in_one_line(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With a DATABASE_URL too, where no lock of an embedded server stands between them."""
    monkeypatch.setenv("GATEWAY_DATABASE_URL", "postgresql://gateway@127.0.0.1:1/gateway")
    monkeypatch.setenv("GATEWAY_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("GATEWAY_BIND", "127.0.0.1:0")
    monkeypatch.setenv("GATEWAY_INTAKE_BIND", "127.0.0.1:0")
    monkeypatch.setattr(data_dir_lock, "WAIT_S", 0.0)
    with (tmp_path / data_dir_lock.NAME).open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        held.write("4711\n")
        held.flush()
        ran = command("run")
        assert (ran.code, len(ran.errors)) == (1, 1)
        assert "GATEWAY_DATA_DIR" in ran.err
        assert "process 4711" in ran.err
        # Other commands work beside it: this one gets as far as the database.
        assert "GATEWAY_DATA_DIR" not in command("migrate").err


def test_a_database_that_is_away_is_one_line(command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GATEWAY_DATABASE_URL", "postgresql://gateway:hunter2@127.0.0.1:1/gateway")
    monkeypatch.setenv("GATEWAY_DATA_DIR", str(tmp_path))
    ran = command("migrate")
    assert (ran.code, ran.out, len(ran.errors)) == (1, "", 1)
    assert "hunter2" not in ran.err


def test_keys_new(command: Command, tmp_path: Path) -> None:
    ran = command("keys", "new")
    assert ran.code == 0
    assert ran.out.endswith("\n")
    assert len(parse_master_keys(ran.out).ids) == 1
    assert command("keys", "new").out != ran.out


def test_replay(command: Command) -> None:
    ran = command("replay", str(FIXTURE), "--trunk", "trunk-0001", "--country", "BY")
    assert (ran.code, ran.err) == (0, "")
    events = [json.loads(line) for line in ran.lines]
    assert [event["event"] for event in events if event["event"] != "call_ringing"] == ["call_answered", "call_ended"]
    assert (events[-1]["result"], events[-1]["uncertain"]) == ("answered", False)


def test_replay_of_what_is_no_capture(command: Command, tmp_path: Path) -> None:
    ran = command("replay", str(tmp_path / "missing.ami"))
    assert (ran.code, ran.out, len(ran.errors)) == (1, "", 1)


def test_the_module_is_the_console_script() -> None:
    done = subprocess.run([sys.executable, "-m", "gateway", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"{__version__}\n"
    script = Path(sys.executable).with_name("gateway")
    assert main.__module__ in script.read_text()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("tenants: [", "is neither YAML nor JSON at line"),
        ("- 1", "tenants: the file must hold a list"),
        ("tenants: 5", "tenants: the file must hold a list"),
        ("tenants: [5]", "tenants[0]: must be a block of fields"),
        ("tenants: []\nteams: []", "teams: no such field"),
        ("tenants: []\n5: []", "5: no such field"),
        ("tenants: [{number: '0367', name: June, country: BY, since: 2026-99-99}]", "cannot be made of"),
        ("[" * 600, "cannot be made of"),
        ("[" * 300_000 + "]" * 300_000, "cannot be made of"),
        ("- " * 300_000, "cannot be made of"),
        ("tenants: [{number: 0367, name: June, country: BY}]", "tenants[0].number: input should be a valid string"),
        ("tenants: [{number: '1', name: A, country: BY}, {number: '1', name: B, country: BY}]", "1 is there 2 times"),
        (
            "tenants: [{number: '1', name: A, country: BY, phones: [{number: '150'}, {number: '150'}]}]",
            "150 is there 2",
        ),
        ("tenants: [{number: '1', name: A, country: BY, pbxes: {}}]", "tenants[0].pbxes: must be a list"),
        ("tenants: [{number: '1', name: A, country: BY, pbxes: [{type: [x]}]}]", "tenants[0].pbxes[0].type: must be"),
        ("tenants: [{number: '1', name: A, country: BY, pbxes: [{name: null}]}]", "tenants[0].pbxes[0].name: must be"),
        (
            "tenants: [{number: '1', name: A, country: BY, integrations: []}]",
            "tenants[0].integrations: must be a block",
        ),
        (
            "tenants: [{number: '1', name: A, country: BY, integrations: {retailcrm: 5}}]",
            "tenants[0].integrations.retailcrm: must be a block of fields",
        ),
        (
            "tenants: [{number: '1', name: A, country: BY, integrations: {telegram: {enabled: maybe, bot_token: '***'}}}]",
            "tenants[0].integrations.telegram.enabled: must be true or false",
        ),
        (
            "tenants: [{number: '1', name: A, country: BY, click_to_call: {hours: '08:00-24:30'}}]",
            "tenants[0].click_to_call.hours: ",
        ),
        (
            "tenants: [{number: '1', name: A, country: BY, integrations: {retailcrm: "
            "{domain: e.example, api_key: k, user_extensions: {19: '150', 18: '150'}}}}]",
            "a number with two owners",
        ),
    ],
)
def test_mistakes_in_a_file(text: str, problem: str, tmp_path: Path) -> None:
    file = tmp_path / "tenants.yaml"
    file.write_text(text)
    _, problems = read_tenant_files([str(file)])
    assert any(problem in one for one in problems), problems


def test_a_file_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    _, problems = read_tenant_files([str(tmp_path / "missing"), str(tmp_path / "bytes")])
    assert problems == [
        f"{tmp_path / 'missing'}: No such file or directory",
        f"{tmp_path / 'bytes'}: is not UTF-8 text",
    ]
