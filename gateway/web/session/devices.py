"""Known devices: a signed cookie that identifies a browser from which an account has signed in before. Pure.

It gives no access. A browser with this cookie has a rate bucket of its own, so guesses from elsewhere do not slow its owner
down (`throttle.py`). It is bound to the e-mail address and lives a year; a new master key ends it.
"""

import hashlib
import hmac
import re
import secrets

LIVES_S = 365 * 86400
_SHAPE = re.compile(r"([0-9A-Za-z_-]{16})\.([0-9]{1,12})\.([0-9a-f]{64})", re.ASCII)


def new_device(key: bytes, email: str, now: float) -> str:
    """The cookie's value for a browser that has just signed in. `now` is in seconds since the epoch."""
    name, at = secrets.token_urlsafe(12), str(int(now))
    return f"{name}.{at}.{_signed(key, email, name, at)}"


def device_of(key: bytes, email: str, cookie: str, now: float) -> str | None:
    """The device's name, where the cookie is ours, is for this account, and is not too old."""
    found = _SHAPE.fullmatch(cookie)
    if found is None or not hmac.compare_digest(found[3], _signed(key, email, found[1], found[2])):
        return None
    return found[1] if now - int(found[2]) < LIVES_S else None


def _signed(key: bytes, email: str, name: str, at: str) -> str:
    return hmac.new(
        key, f"known device\0{email}\0{name}\0{at}".encode("utf-8", "surrogatepass"), hashlib.sha256
    ).hexdigest()
