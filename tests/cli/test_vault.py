"""The steps of docs/vault.md against a strict sandbox of Vault: start, doctor, move from a file, rotate, and what is said when it is away."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.store.secrets.seal import new_master_key
from tests.cli.conftest import Command
from tests.cli.test_apply import june, write
from tests.cli.test_keys import ask, wrapped
from tests.sandbox.vault import POLICY, Vault

pytestmark = [pytest.mark.slow]

TOKEN = "hvs.sandbox"
CRM = {"retailcrm": {"domain": "https://example.retailcrm.ru", "api_key": "crm-key", "client_id": "c" * 40}}


@pytest.fixture
def vault() -> Iterator[Vault]:
    with Vault() as running:
        yield running


@pytest.fixture
def in_vault(installation: Path, vault: Vault, monkeypatch: pytest.MonkeyPatch) -> Path:
    (installation / "vault-token").write_text(TOKEN)
    monkeypatch.setenv("GATEWAY_VAULT_URL", vault.url)
    monkeypatch.setenv("GATEWAY_VAULT_TOKEN_FILE", str(installation / "vault-token"))
    monkeypatch.delenv("GATEWAY_MASTER_KEY_FILE")
    return installation


def ids() -> set[str]:
    return {text.split(":")[2] for _, text in wrapped()}


@pytest.mark.long
def test_apply_export_rotate(command: Command, in_vault: Path, vault: Vault) -> None:
    maple = june(number="0368", name="Maple", token="m" * 40, users=[])
    file = write(in_vault, june(), maple)
    assert command("apply", file).code == 0
    assert command("apply", file).lines == ["nothing to change"]
    revealed = command("export", "0367", "--reveal").out
    assert "crm-key" in revealed
    assert ids() == {"v0000001"}
    plain = list(vault.plain)
    assert plain
    assert not any(text.encode() in one for one in plain for text in ("crm-key", "ami-secret")), (
        "data keys alone go there"
    )
    rotated = command("keys", "rotate")
    assert rotated.code == 0, rotated.err
    assert rotated.lines[-1].startswith("everything is sealed under v0000002")
    assert (vault.latest, ids()) == (2, {"v0000002"})
    assert {row[0] for row in ask("SELECT split_part(value, ':', 3) FROM integrations, jsonb_each_text(secrets)")} == {
        "v0000002"
    }
    del vault.versions[1]
    assert command("export", "0367", "--reveal").out == revealed
    doctor = command("doctor")
    assert f"ok    master key: in Vault at {vault.url}, version v0000002, opens the keys of 2 tenants" in doctor.out


@pytest.mark.long
def test_a_rotation_that_was_ended_goes_on_and_makes_no_other(command: Command, in_vault: Path, vault: Vault) -> None:
    assert command("apply", write(in_vault, june())).code == 0
    vault.tokens = {TOKEN: POLICY - {"update rewrap"}}
    ended = command("keys", "rotate")
    assert ended.code == 1
    assert "does not allow transit/rewrap/gateway" in ended.err
    assert vault.latest == 2
    vault.tokens = {TOKEN: POLICY}
    assert command("keys", "rotate").code == 0
    assert (vault.latest, ids()) == (2, {"v0000002"})


def test_from_a_key_file_to_vault(
    command: Command, installation: Path, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command("apply", write(installation, june())).code == 0
    revealed = command("export", "0367", "--reveal").out
    key = installation / "master.key"
    assert command("keys", "rotate", "--from-file", str(key)).code == 2
    monkeypatch.setenv("GATEWAY_VAULT_URL", vault.url)
    (installation / "vault-token").write_text(TOKEN)
    monkeypatch.setenv("GATEWAY_VAULT_TOKEN_FILE", str(installation / "vault-token"))
    both = command("export", "0367")
    assert both.code == 2
    assert "GATEWAY_MASTER_KEY_FILE: set together with GATEWAY_VAULT_URL" in both.err
    monkeypatch.delenv("GATEWAY_MASTER_KEY_FILE")
    closed = command("export", "0367", "--reveal")
    assert closed.code == 1
    assert "--from-file" in closed.err
    moved = command("keys", "rotate", "--from-file", str(key))
    assert moved.code == 0, moved.err
    assert ids() == {"v0000001"}
    key.write_text(new_master_key())
    assert command("export", "0367", "--reveal").out == revealed


def test_what_is_said_when_vault_does_not_answer_as_it_should(command: Command, in_vault: Path, vault: Vault) -> None:
    vault.sealed = True
    for arguments in (("apply", write(in_vault, june())), ("run",)):
        away = command(*arguments)
        assert away.code == 1
        assert "is sealed: unseal it" in away.err
        assert TOKEN not in away.err
    assert len(command("export", "0367").errors) == 1
    vault.sealed = False
    vault.tokens = {}
    assert "refuses the token in" in command("apply", write(in_vault, june())).err
