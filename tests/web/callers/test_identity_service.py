"""Tokens of an outside identity service: which are good, and when its keys are fetched."""

import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from adapters.http import SafeDialer
from gateway.domain.errors import Unavailable
from gateway.web.callers.identity_service import AGAIN_S, FRESH_S, OLDEST_S, IdentityService
from gateway.web.callers.tokens import ExpiredToken
from tests.adapters.conftest import Remote, Reply, as_json, remote

__all__ = ["remote"]

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
OTHER = ec.generate_private_key(ec.SECP256R1())
CLAIMS: dict[str, Any] = {"aud": "gateway", "sub": "svc", "tenant": "0367", "scope": "read call", "exp": 2_000_000_000}


def public(kind: str, key: Any, key_id: str) -> dict[str, Any]:
    made = jwt.get_algorithm_by_name(kind).to_jwk(key.public_key(), as_dict=True)
    return {**made, "kid": key_id, "use": "sig"}


JWKS = {
    "keys": [
        public("RS256", RSA, "r"),
        public("ES256", EC, "e"),
        public("EdDSA", ED, "d"),
        {"kty": "oct", "k": "AA"},
        7,
    ]
}


def signed(kind: str = "RS256", key: Any = RSA, key_id: str = "r", **changed: Any) -> str:
    return jwt.encode(CLAIMS | changed, key, algorithm=kind, headers={"kid": key_id})


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def service(remote: Remote, clock: Clock | None = None, dial: SafeDialer | None = None) -> IdentityService:
    dialer = dial or SafeDialer(allowed_private_nets=["127.0.0.0/8"])
    return IdentityService(f"{remote.url}/keys.json", "gateway", dialer, time.time, clock or Clock())


async def test_three_kinds_of_signature(remote: Remote) -> None:
    remote.replies = [as_json(JWKS)]
    outside = service(remote)
    for kind, key, key_id in (("RS256", RSA, "r"), ("ES256", EC, "e"), ("EdDSA", ED, "d")):
        found = await outside.read(signed(kind, key, key_id))
        assert found is not None
        assert (found.tenant, found.subject, found.scopes) == ("0367", "svc", {"read", "call"})
    assert len(remote.seen) == 1
    listed = await outside.read(signed(scope=["read"]))
    assert listed is not None
    assert listed.scopes == {"read"}


async def test_what_is_refused(remote: Remote) -> None:
    remote.replies = [as_json(JWKS)]
    outside = service(remote)
    assert await outside.read(signed()) is not None
    modulus = str(public("RS256", RSA, "r")["n"])
    for text in (
        signed(aud="another"), signed(aud=["x"]), signed("ES256", OTHER, "e"), signed("RS256", RSA, "e"), signed("PS256", RSA, "r"),
        signed(nbf=1_990_000_000), signed(tenant=7), signed(scope={"read": 1}), signed(exp="soon"),
        jwt.encode(CLAIMS, None, algorithm="none"),  # type: ignore[arg-type] # as a forger would
        jwt.encode(CLAIMS, modulus, algorithm="HS256", headers={"kid": "r"}),
        jwt.encode({k: v for k, v in CLAIMS.items() if k != "exp"}, RSA, algorithm="RS256", headers={"kid": "r"}),
        jwt.encode({k: v for k, v in CLAIMS.items() if k != "aud"}, RSA, algorithm="RS256", headers={"kid": "r"}),
        "a.b.c",
    ):  # fmt: skip
        assert await outside.read(text) is None, text
    with pytest.raises(ExpiredToken):
        await outside.read(signed(exp=int(time.time()) - 60))


async def test_an_unknown_kid_is_looked_for_every_so_often_alone(remote: Remote) -> None:
    remote.replies = [as_json({"keys": JWKS["keys"][:1]}), as_json(JWKS)]
    clock = Clock()
    outside = service(remote, clock)
    assert await outside.read(signed()) is not None
    for _ in range(20):
        assert await outside.read(signed("ES256", EC, "e")) is None
    assert len(remote.seen) == 1
    clock.now += AGAIN_S
    assert await outside.read(signed("ES256", EC, "e")) is not None, "the service has a new key"
    assert len(remote.seen) == 2


async def test_keys_hold_while_the_service_is_away_but_not_for_ever(remote: Remote) -> None:
    remote.replies = [as_json(JWKS), Reply(500, b"")]
    clock = Clock()
    outside = service(remote, clock)
    assert await outside.read(signed()) is not None
    clock.now += FRESH_S + 1
    assert await outside.read(signed()) is not None
    assert len(remote.seen) == 2
    clock.now += OLDEST_S
    with pytest.raises(Unavailable):
        await outside.read(signed())


async def test_the_address_is_judged(remote: Remote) -> None:
    with pytest.raises(Unavailable):
        await service(remote, dial=SafeDialer(allowed_private_nets=[])).read(signed())
    assert remote.seen == []
