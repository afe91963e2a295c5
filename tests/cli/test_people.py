"""`gateway user reset-second-factor`, and what `apply --prune` ends with a person."""

from pathlib import Path

import pytest

from tests.cli.conftest import Command
from tests.cli.test_apply import june, write
from tests.cli.test_audit import forge
from tests.cli.test_keys import ask

pytestmark = [pytest.mark.slow]

ROOT, ANNA = "root@gateway.example", "anna@june.example"
FACTORS = (
    "SELECT coalesce(tenant_id, '*'), factor, cardinality(recovery_codes) FROM users WHERE email = '{}' ORDER BY 1"
)


def rows(query: str) -> list[tuple[object, ...]]:
    return [tuple(row) for row in ask(query)]


def set_up(email: str) -> None:
    """A second factor for every account of an address, with a session each."""
    forge(
        f"UPDATE users SET factor = 'sealed', recovery_codes = ARRAY['\\x00'::bytea] WHERE email = '{email}'",
        "INSERT INTO sessions (tenant_id, token_hash, email, csrf) "
        f"SELECT tenant_id, sha256(convert_to(coalesce(tenant_id, '*'), 'UTF8')), email, 'c' FROM users WHERE email = '{email}'",
    )


def test_an_operator_who_has_lost_the_second_factor_gets_in_again(command: Command, installation: Path) -> None:
    assert command("user", "add", ROOT, "--operator", stdin="ledger-otter-winding-9\n").code == 0
    none = command("user", "reset-second-factor", ROOT)
    assert (none.code, "has no second factor" in none.err) == (1, True)
    set_up(ROOT)
    done = command("user", "reset-second-factor", ROOT.upper())
    assert (done.code, done.out) == (0, f"{ROOT}: second factor taken away, sessions ended (operator)\n")
    assert rows(FACTORS.format(ROOT)) == [("*", "", 0)]
    assert rows("SELECT email FROM sessions") == []
    assert rows("SELECT action, target, actor FROM audit WHERE tenant_id = '*' ORDER BY position DESC LIMIT 1") == [
        ("user.factor_reset", ROOT, "cli")
    ]
    assert command("user", "reset-second-factor", "nobody@gateway.example").code == 1
    assert command("user", "reset-second-factor", ROOT, "--tenant", "0999").code == 1
    assert command("user", "reset-second-factor", ROOT, "--tenant", "0999", "--operator").code == 2


def test_of_several_accounts_one_is_named_and_only_that_one_is_reset(command: Command, installation: Path) -> None:
    users = [{"email": ANNA, "password": "correct horse"}]
    assert (
        command("apply", write(installation, june(users=users), june(number="0368", users=users, token="x" * 40))).code
        == 0
    )
    set_up(ANNA)
    which = command("user", "reset-second-factor", ANNA)
    assert (which.code, "--tenant 0367 or --tenant 0368" in which.err) == (1, True)
    assert command("user", "reset-second-factor", ANNA, "--tenant", "0367").code == 0
    assert rows(FACTORS.format(ANNA)) == [("0367", "", 0), ("0368", "sealed", 1)]
    assert rows("SELECT tenant_id FROM sessions") == [("0368",)]


def test_a_person_whom_a_file_no_longer_names_takes_their_api_keys_along(command: Command, installation: Path) -> None:
    users = [{"email": ANNA, "password": "correct horse"}, {"email": "b@june.example", "password": "correct horse"}]
    assert command("apply", write(installation, june(users=users))).code == 0
    keys = [command("api-key", "create", "0367", "--name", name).out.strip()[:16] for name in ("hers", "ours")]
    forge(f"UPDATE api_keys SET owner_kind = 'person', owner = '{ANNA}' WHERE hint = '{keys[0]}'")
    assert (
        "tenant 0367: user anna@june.example removed"
        in command("apply", "--prune", write(installation, june(users=users[1:]))).lines
    )
    assert rows("SELECT hint, revoked_at IS NULL FROM api_keys ORDER BY name") == [(keys[0], False), (keys[1], True)]
    last = rows("SELECT action, target, actor, new::text FROM audit ORDER BY position DESC LIMIT 2")
    assert last[0] == ("api_key.revoked", keys[0], "cli", f'{{"revoked": true, "owner_removed": "{ANNA}"}}')
    assert command("audit", "verify").code == 0
