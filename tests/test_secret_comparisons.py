"""Secrets are compared in constant time: a rule over the source, for no linter of ours has one.

What is compared by `==`, `!=` or `in` and is named like a secret (or is `.reveal()`, an HMAC, a digest of a token) is found,
through `.encode()`, `.strip()` and the like. `Secret` itself compares by `hmac.compare_digest`. Exceptions stand here with
their reason.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(file for name in ("gateway", "actors", "adapters") for file in (ROOT / name).rglob("*.py"))
NAMED = re.compile(
    r"(^|_)(secret|token|password|passwd|csrf|signature|signed|hmac|mac|api_key|client_id|link_key|token_hash)$"
)
THROUGH = frozenset({"encode", "decode", "strip", "lower", "hex", "hexdigest", "digest", "casefold", "removeprefix"})
ALLOWED = {
    ("adapters/meta.py", "sent == verify_token"): "Secret compares in constant time",
    ("gateway/web/api/machine.py", "Secret(given.strip()) != deps.operator_token"): "Secret compares in constant time",
    ("adapters/vk/callback_server.py", "Secret(one.key) == client.settings.secret"): "Secret compares in constant time",
    ("gateway/domain/chat_fold.py", "self._short(key, part) == event.short_token"): "numbers of messages; no secret",
    (
        "adapters/bitrix24/records.py",
        "await attempt.known(COMMENT) == body['token']",
    ): "a mark of ours in a note; no secret",
    (
        "adapters/retailcrm/syncing.py",
        "await attempt.known(TOKEN) == body['token']",
    ): "a mark of ours in a note; no secret",
    (
        "adapters/salesforce/records.py",
        "await attempt.known(NOTED) == body['token']",
    ): "a mark of ours in a note; no secret",
    ("gateway/web/session/auth.py", "csrf != known"): "known is the browser's own cookie, and csrf may be it",
    ("adapters/asterisk/calls.py", "before != self._signature(call)"): "what a call looks like; no secret",
    ("adapters/base.py", "value != stored.get(name)"): "both are Secret",
    ("gateway/cli/tenants.py", "values.get(name) != secret"): "both are Secret; a person's own file",
    ("gateway/tenant_file.py", "v == Secret(MASK)"): "Secret; a constant",
}


def is_secret(node: ast.expr) -> bool:
    match node:
        case ast.Call(func=ast.Attribute(attr="reveal")):
            return True
        case ast.Call(func=ast.Attribute(value=inner, attr=method)) if method in THROUGH:
            return is_secret(inner)
        case ast.Call(func=ast.Attribute(attr=name)) | ast.Call(func=ast.Name(id=name)):
            return bool(NAMED.search(name))
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return bool(NAMED.search(name))
        case ast.Subscript(slice=ast.Constant(value=str(name))):
            return bool(NAMED.search(name))
        case _:
            return False


def is_known(node: ast.expr) -> bool:
    """A constant, or one of the marks that stand for a secret in a form: no secret can be learned by comparing with it."""
    return isinstance(node, ast.Constant) or (isinstance(node, ast.Name) and node.id.isupper())


def comparisons(text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Compare):
            continue
        sides = [node.left, *node.comparators]
        if not any(isinstance(op, ast.Eq | ast.NotEq | ast.In | ast.NotIn) for op in node.ops):
            continue
        containers = [s for s, op in zip(node.comparators, node.ops, strict=True) if isinstance(op, ast.In | ast.NotIn)]
        if containers or any(is_known(side) for side in sides):
            continue
        if any(is_secret(side) for side in sides):
            yield ast.unparse(node)


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_secret_is_compared_with_equals(file: Path) -> None:
    name = str(file.relative_to(ROOT))
    found = [one for one in comparisons(file.read_text("utf-8")) if (name, one) not in ALLOWED]
    assert not found, "compare with hmac.compare_digest, or say in ALLOWED why not"


@pytest.mark.parametrize(
    "text",
    [
        "sent.encode() == who.csrf.encode()", "token != self._token", "request['token'] == known", "secret.reveal() == text",
        "given == _signed(key, email)", "tenant.token_hash == digest", "signature == right", "client_id == settings.client_id",
        "a == password.strip()",
    ],
)  # fmt: skip
def test_the_rule_finds(text: str) -> None:
    assert list(comparisons(text)), text


@pytest.mark.parametrize(
    "text", ["token == ''", "secret.reveal() != MASK", "name == 'token'", "token is None", "kind == other"]
)
def test_the_rule_leaves_alone(text: str) -> None:
    assert not list(comparisons(text)), text


@pytest.mark.parametrize("file", ["gateway/domain/secret.py", "gateway/domain/recording_links.py", "gateway/web/api/machine.py",
                                  "gateway/web/session/auth.py", "gateway/web/session/embedded.py",
                                  "gateway/web/api/extensions.py", "gateway/web/session/devices.py"])  # fmt: skip
def test_these_compare_in_constant_time(file: str) -> None:
    assert "hmac.compare_digest(" in (ROOT / file).read_text("utf-8")
