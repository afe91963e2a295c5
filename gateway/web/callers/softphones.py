"""Tokens of softphones in the pages of outside systems: of one person, one company, one internal number.

A browser sends no cookie of ours to a frame in another site's page, so the person's own page gives the frame a token
(`gateway/web/frames/`). It names the session, and is worth nothing once that has ended, the person has lost the number, or
LIVES_S are over. It opens nothing but calls from that number. Signed with a key derived from the master key. Read `callers.py` next.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jwt

from gateway.domain.ids import TenantId
from gateway.store.secrets.seal import MasterKeys
from gateway.web.callers.tokens import ALGORITHM, ExpiredToken
from gateway.web.session.tokens import Token

LIVES_S = 12 * 3600
_ISSUER, _PURPOSE = "softphone", "softphone tokens"


@dataclass(frozen=True, slots=True)
class Softphone:
    """What a token says."""

    tenant: TenantId
    session: Token
    extension: str


@dataclass(frozen=True)
class SoftphoneTokens:
    """Makes and checks them."""

    master: MasterKeys
    now: Callable[[], float]
    """Seconds since 1970."""

    def new(self, softphone: Softphone) -> str:
        """A fresh token."""
        session = softphone.session
        claims = {
            "iss": _ISSUER, "sub": session.token_hash.hex(), "of": session.tenant, "tenant": softphone.tenant,
            "extension": softphone.extension, "exp": int(self.now()) + LIVES_S,
        }  # fmt: skip
        return jwt.encode(claims, self.master.derived(_PURPOSE), algorithm=ALGORITHM)

    def read(self, text: str) -> Softphone | None:
        """What a token of ours says; None for any other. Raises ExpiredToken."""
        for key in self.master.derived_of_all(_PURPOSE):
            try:
                found = jwt.decode(
                    text, key, algorithms=[ALGORITHM], issuer=_ISSUER,
                    options={"require": ["exp", "sub", "tenant", "extension"], "verify_exp": False, "verify_sub": False},
                )  # fmt: skip
            except jwt.PyJWTError:
                continue
            if found["exp"] <= self.now():
                raise ExpiredToken
            of = found.get("of")
            session = Token(TenantId(of) if of is not None else None, bytes.fromhex(found["sub"]))
            return Softphone(TenantId(found["tenant"]), session, str(found["extension"]))
        return None
