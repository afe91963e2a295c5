"""The master key in Vault: what is wrapped opens for its tenant alone, every failure is said in words, and what is open stays open."""

import base64
import logging
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import trio

from gateway.domain.ids import TenantId
from gateway.domain.secret import Secret
from gateway.store.postgres.errors import BadMasterKey, Unsealable
from gateway.store.secrets import vault as module
from gateway.store.secrets.seal import MasterKeys, new_data_key, new_master_key, parse_master_keys
from gateway.store.secrets.vault import VaultKeys, open_vault
from tests.sandbox.vault import POLICY, Vault

A, B = TenantId("0367"), TenantId("0368")
TOKEN = "hvs.sandbox"


@pytest.fixture
def vault() -> Iterator[Vault]:
    with Vault() as running:
        yield running


@pytest.fixture
def token(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    return file


def write(file: Path, text: str | None) -> None:
    file.write_text(text) if text is not None else file.unlink()


async def test_what_is_wrapped_opens_for_its_tenant_alone(vault: Vault, token: Path) -> None:
    keys, data_key = await open_vault(vault.url, token, "gateway"), new_data_key()
    wrapped = await keys.wrapped(A, data_key)
    assert wrapped.startswith("dek:vault:v0000001:1:")
    sealed = keys.sealer(A, wrapped).seal(Secret("sesame"), table="t", column="c", row="r")
    fresh = await open_vault(vault.url, token, "gateway")
    with pytest.raises(Unsealable):
        fresh.unwrap(A, wrapped)
    await fresh.prepare(
        [(A, wrapped), (B, wrapped), (A, wrapped.replace(":1:", ":2:", 1)), (A, f"{wrapped[:-8]}AAAAAAA=")]
    )
    assert fresh.sealer(A, wrapped).open(sealed, table="t", column="c", row="r") == Secret("sesame")
    for tenant, text in ((B, wrapped), (A, wrapped.replace(":1:", ":2:", 1)), (A, f"{wrapped[:-8]}AAAAAAA=")):
        with pytest.raises(Unsealable):
            fresh.unwrap(tenant, text)
    assert fresh.ids == ("v0000001",)
    assert fresh.derived("devices") == keys.derived("devices") != keys.derived("other")


async def test_many_are_opened_in_few_requests(vault: Vault, token: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 4)
    keys = await open_vault(vault.url, token, "gateway")
    wrapped = [(TenantId(f"t{n}"), await keys.wrapped(TenantId(f"t{n}"), new_data_key())) for n in range(10)]
    fresh = await open_vault(vault.url, token, "gateway")
    vault.requests.clear()
    await fresh.prepare(wrapped)
    await fresh.prepare(wrapped)
    assert len(vault.requests) == 3
    assert all(fresh.unwrap(*one) == keys.unwrap(*one) for one in wrapped)


def garbage(text: bytes, status: int = 200) -> Any:
    def answer(handler: BaseHTTPRequestHandler) -> bool:
        handler.send_response(status)
        handler.send_header("content-length", str(len(text)))
        handler.end_headers()
        handler.wfile.write(text)
        return True

    return answer


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (garbage(b"<html>nginx</html>"), "not Vault's"),
        (garbage(b'{"data": {"latest_version": "x"}}'), "not Vault's"),
        (garbage(b'{"data": []}'), "not Vault's"),
        (garbage(b"[1]"), "not Vault's"),
        (garbage(b"", 500), "status 500"),
        (garbage(b'{"errors": ["local node not active but active cluster node not found"]}', 500), "active cluster node"),
        (garbage(b"", 307), "leads elsewhere"),
        (garbage(b"{}", 429), "status 429"),
        (garbage(b"x" * (5 << 20)), "more than it should"),
    ],
)  # fmt: skip
async def test_what_is_not_vault_is_said_in_words(vault: Vault, token: Path, fault: Any, words: str) -> None:
    vault.fault = fault
    with pytest.raises(BadMasterKey) as raised:
        await open_vault(vault.url, token, "gateway")
    assert words in raised.value.person
    assert TOKEN not in f"{raised.value!r} {raised.value.person} {raised.value.detail}"


async def test_sealed_refused_missing_and_away(vault: Vault, token: Path) -> None:
    async def words() -> str:
        with pytest.raises(BadMasterKey) as raised:
            await open_vault(vault.url, token, "gateway")
        return raised.value.person

    vault.sealed = True
    assert "is sealed: unseal it" in await words()
    vault.sealed = False
    vault.tokens = {TOKEN: POLICY - {"update hmac"}}
    assert "does not allow transit/hmac/gateway" in await words()
    vault.tokens = {}
    assert f"refuses the token in {token} (permission denied)" in await words()
    vault.tokens = {TOKEN: POLICY}
    vault.key = "another"
    assert "has no key gateway in the mount transit: `vault write -f transit/keys/gateway`" in await words()
    write(token, "two words")
    assert "holds no token" in await words()
    write(token, None)
    assert "cannot be read: No such file" in await words()
    write(token, TOKEN)
    with pytest.raises(BadMasterKey) as raised:
        await open_vault("http://127.0.0.1:1", token, "gateway")
    assert "Vault at http://127.0.0.1:1 does not answer" in raised.value.person


@pytest.mark.slow
async def test_one_that_never_answers_is_given_up(vault: Vault, token: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WHOLE_S", 0.3)

    def hang(handler: BaseHTTPRequestHandler) -> bool:
        return vault.closing.wait(30)

    vault.fault = hang
    with pytest.raises(BadMasterKey) as raised:
        await open_vault(vault.url, token, "gateway")
    assert "does not answer within" in raised.value.person
    vault.closing.set()


async def test_what_is_open_stays_open_and_the_rest_comes_later(
    vault: Vault, token: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keys = await open_vault(vault.url, token, "gateway")
    first, second = await keys.wrapped(A, new_data_key()), await keys.wrapped(B, new_data_key())
    running = await open_vault(vault.url, token, "gateway")
    await running.prepare([(A, first)])
    vault.sealed = True
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            await running.prepare([(A, first), (B, second)])
    assert len(caplog.records) == 1, "said once, not at every look"
    assert running.unwrap(A, first).version == 1
    with pytest.raises(Unsealable) as raised:
        running.unwrap(B, second)
    assert "is sealed" in raised.value.detail
    vault.sealed = False
    await running.prepare([(B, second)])
    assert running.unwrap(B, second).version == 1
    assert running.problem == ""


async def test_the_token_is_read_anew(vault: Vault, token: Path) -> None:
    keys = await open_vault(vault.url, token, "gateway")
    vault.tokens = {"hvs.renewed": POLICY}
    write(token, "hvs.renewed")
    assert await keys.wrapped(A, new_data_key())


async def test_a_rotation_in_vault_rewraps_without_showing_the_keys(vault: Vault, token: Path) -> None:
    keys = await open_vault(vault.url, token, "gateway")
    wrapped = await keys.wrapped(A, new_data_key())
    vault.plain.clear()
    await keys.rotate()
    assert keys.current.id == "v0000002"
    fresh = await keys.rewrap([(A, wrapped), (A, "dek:vault:v0000001:1:AAAA")])
    assert list(fresh) == [(A, wrapped)]
    assert fresh[A, wrapped].startswith("dek:vault:v0000002:1:")
    del vault.versions[1]
    after = await open_vault(vault.url, token, "gateway")
    await after.prepare([(A, fresh[A, wrapped]), (A, wrapped)])
    assert after.unwrap(A, fresh[A, wrapped]) == keys.unwrap(A, wrapped)
    with pytest.raises(Unsealable):
        after.unwrap(A, wrapped)


async def test_file_and_vault_name_each_other(vault: Vault, token: Path) -> None:
    file = parse_master_keys(new_master_key())
    keys = await open_vault(vault.url, token, "gateway")
    by_file, by_vault = file.wrap(A, new_data_key()), await keys.wrapped(A, new_data_key())
    with pytest.raises(Unsealable) as raised:
        keys.unwrap(A, by_file)
    assert "--from-file" in raised.value.person
    with pytest.raises(Unsealable) as raised:
        file.unwrap(A, by_vault)
    assert "GATEWAY_VAULT_URL" in raised.value.person
    moving = await open_vault(vault.url, token, "gateway", older=file)
    fresh = await moving.rewrap([(A, by_file)])
    assert moving.unwrap(A, fresh[A, by_file]) == file.unwrap(A, by_file)


async def test_neither_the_token_nor_a_key_prints(vault: Vault, token: Path) -> None:
    keys = await open_vault(vault.url, token, "gateway")
    wrapped = await keys.wrapped(A, new_data_key())
    shown = f"{keys!r} {keys.vault!r} {keys.current!r} {keys.unwrap(A, wrapped)!r}"
    assert TOKEN not in shown
    assert base64.b64encode(keys.unwrap(A, wrapped).key).decode() not in shown
    assert isinstance(keys, MasterKeys | VaultKeys)
    await trio.lowlevel.checkpoint()
