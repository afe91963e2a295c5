"""Passwords as argon2id hashes. Both functions take about 20 ms of a core: never call them on the event loop's thread.

Knows no database and no web. Read `gateway/web/session/auth.py` next.
"""

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from gateway.domain.secret import Secret

LONGEST = 256

_HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)

NOBODY = _HASHER.hash("the password of nobody")
"""Compared with where there is no such account, so that an unknown address takes as long as a known one."""


def hash_password(password: Secret) -> str:
    """The text to store."""
    return _HASHER.hash(password.reveal().encode("utf-8", "surrogatepass"))


def password_fits(stored: str, password: Secret) -> bool:
    """Whether this is the password that `stored` was made of."""
    try:
        return _HASHER.verify(stored, password.reveal().encode("utf-8", "surrogatepass"))
    except (VerificationError, InvalidHashError):
        return False
