"""The second factor: time-based codes (RFC 6238) of 30 s, and recovery codes for when the telephone is gone. Pure.

    step of the code    the present one, or the one before or after    accepted, and no code of that step or an earlier one again
                        up to DRIFT_STEPS away                         refused; the clock is off by so much
                        any other                                      refused

Read `gateway/store/second_factors.py` for what is stored, `gateway/web/pages/account.py` for setting one up.
"""

import base64
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

import pyotp

STEP_S = 30
WINDOW = 1
DRIFT_STEPS = 4
"""How far off a clock may be to be named as the reason."""
RECOVERY_CODES = 10


@dataclass(frozen=True, slots=True)
class Judged:
    """What a code is worth. `step` is that of a good one; otherwise `wrong` says why: wrong, used or clock."""

    step: int | None = None
    wrong: str = ""
    off_s: int = 0
    """By how much the clock that made the code is ahead (or, below zero, behind)."""


def judge(secret: str, code: str, now: float, last_step: int) -> Judged:
    """Looks at a code. `now` is in seconds since the epoch."""
    digits = re.sub(r"\s", "", code)
    if not re.fullmatch(r"[0-9]{6}", digits):
        return Judged(wrong="wrong")
    totp, present = pyotp.TOTP(secret), int(now // STEP_S)
    found = [
        away for away in range(-DRIFT_STEPS, DRIFT_STEPS + 1)
        if hmac.compare_digest(totp.generate_otp(present + away), digits)
    ]  # fmt: skip
    if not found:
        return Judged(wrong="wrong")
    away = min(found, key=abs)
    if abs(away) > WINDOW:
        return Judged(wrong="clock", off_s=away * STEP_S)
    return Judged(step=present + away) if present + away > last_step else Judged(wrong="used")


def secret_for(key: bytes, *parts: bytes) -> str:
    """The secret of a set-up under way, in base32: always the same for the same session, so that nothing need be stored
    before it is confirmed."""
    bound = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return base64.b32encode(hmac.new(key, bound, hashlib.sha256).digest()[:20]).decode()


def address_of(secret: str, email: str, issuer: str) -> str:
    """What the QR code says."""
    return pyotp.TOTP(secret).provisioning_uri(name=email, issuer_name=issuer.replace(":", " "))


def new_recovery_codes() -> list[str]:
    """Ten of 80 random bits each, in groups that can be read out."""
    made = (base64.b32encode(secrets.token_bytes(10)).decode().lower() for _ in range(RECOVERY_CODES))
    return ["-".join(re.findall("....", code)) for code in made]


def recovery_hash(code: str) -> bytes:
    """What is stored of one; signs and spaces do not matter."""
    return hashlib.sha256(re.sub(r"[^a-z2-7]", "", code.lower()).encode()).digest()
