"""Tokens made from keys: their claims, their end, and whatever is none of ours."""

import base64
import json

import jwt
import pytest

from gateway.domain.ids import TenantId
from gateway.store.api_keys import ApiKey
from gateway.store.secrets.seal import MasterKeys, new_master_key, parse_master_keys
from gateway.web.callers.tokens import LIVES_S, Claims, ExpiredToken, Tokens, algorithm_of, is_token

KEY = ApiKey(
    tenant=TenantId("0367"), key_id="0b1c2d3e-0000-4000-8000-000000000001", name="n", hint="h", scopes=("read", "call")
)


class Now:
    """A clock that is set."""

    at = 1_800_000_000.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def tokens() -> Tokens:
    return Tokens(parse_master_keys(new_master_key()), Now())


def test_a_token_says_its_key_tenant_and_scopes(tokens: Tokens) -> None:
    text = tokens.new(KEY)
    assert is_token(text)
    assert algorithm_of(text) == "HS256"
    assert tokens.read(text) == Claims(KEY.tenant, KEY.key_id, frozenset({"read", "call"}))


def test_it_ends_after_fifteen_minutes(tokens: Tokens) -> None:
    text, now = tokens.new(KEY), tokens.now
    assert isinstance(now, Now)
    now.at += LIVES_S - 1
    assert tokens.read(text) is not None
    now.at += 1
    with pytest.raises(ExpiredToken):
        tokens.read(text)


def test_every_instance_reads_it_also_while_master_keys_change(tokens: Tokens) -> None:
    old, new = tokens.master.keys[0], parse_master_keys(new_master_key()).keys[0]
    text = tokens.new(KEY)
    assert Tokens(MasterKeys([new, old]), tokens.now).read(text) is not None
    assert Tokens(MasterKeys([new]), tokens.now).read(text) is None


@pytest.mark.parametrize("change", ["none", "signature", "claims", "other key", "no exp", "no uuid", "words"])
def test_what_is_none_of_ours(tokens: Tokens, change: str) -> None:
    head, body, signature = tokens.new(KEY).split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    secret = tokens.master.derived("api tokens")
    if change == "none":
        text = jwt.encode(claims, None, algorithm="none")  # type: ignore[arg-type] # as a forger would
    elif change == "signature":
        text = f"{head}.{body}.{signature[:-4]}AAAA"
    elif change == "claims":
        other = base64.urlsafe_b64encode(json.dumps({**claims, "tenant": "0368"}).encode()).decode().rstrip("=")
        text = f"{head}.{other}.{signature}"
    elif change == "other key":
        text = jwt.encode(claims, "x" * 32, algorithm="HS256")
    elif change == "no exp":
        text = jwt.encode({name: value for name, value in claims.items() if name != "exp"}, secret, algorithm="HS256")
    elif change == "no uuid":
        text = jwt.encode({**claims, "sub": "x' OR 1=1"}, secret, algorithm="HS256")
    else:
        text = "a.b.c"
    assert tokens.read(text) is None
