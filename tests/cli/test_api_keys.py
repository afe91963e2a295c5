"""`gateway api-key`: create, rotate, revoke."""

from pathlib import Path

import pytest

from gateway.domain.api_keys import looks_right
from tests.cli.conftest import Command
from tests.cli.test_keys import ask, june_applied

__all__ = ["june_applied"]

pytestmark = [pytest.mark.slow]


def rows(query: str) -> list[tuple[object, ...]]:
    return [tuple(row) for row in ask(query)]


def test_a_key_is_made_replaced_and_revoked(command: Command, june_applied: Path) -> None:
    made = command("api-key", "create", "0367", "--name", "sync", "--scope", "read", "--scope", "write", "--days", "30")
    assert made.code == 0
    old = made.out.strip()
    assert looks_right(old)
    rotated = command("api-key", "rotate", "0367", "sync")
    assert rotated.code == 0
    new = rotated.out.strip()
    assert looks_right(new)
    assert new != old
    assert old not in rotated.err
    assert f"{old[:16]} still works for a day" in rotated.err
    lives = "revoked_at IS NULL AND expires_at BETWEEN now() + interval '{0} hours' AND now() + interval '{1} hours'"
    assert rows(f"SELECT hint FROM api_keys WHERE {lives.format(23, 25)}") == [(old[:16],)]
    assert rows(f"SELECT hint, scopes FROM api_keys WHERE {lives.format(719, 721)}") == [(new[:16], ["read", "write"])]
    assert command("api-key", "rotate", "0367", "nothing").code == 1
    revoked = command("api-key", "revoke", "0367", "sync")
    assert sorted(revoked.out.split()) == sorted([f"{old[:16]}:", "revoked", f"{new[:16]}:", "revoked"])
    assert command("api-key", "rotate", "0367", "sync").code == 1


def test_one_of_several_keys_of_a_name_has_to_be_named(command: Command, june_applied: Path) -> None:
    keys = [command("api-key", "create", "0367", "--name", "twin").out.strip() for _ in range(2)]
    ran = command("api-key", "rotate", "0367", "twin")
    assert (ran.code, ran.out) == (1, "")
    assert all(key[:16] in ran.err for key in keys)
    assert command("api-key", "rotate", "0367", keys[0][:16]).code == 0


def test_days(command: Command, june_applied: Path) -> None:
    for days in ("0", "-1", "soon", "99999"):
        assert command("api-key", "create", "0367", "--days", days).code == 2
