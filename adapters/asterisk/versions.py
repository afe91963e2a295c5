"""Which Asterisk a banner names, and whether its calls can be followed. Pure.

    manager 1.x      Asterisk 1.4 to 11    events without Linkedid, and Dial and Bridge in place of DialBegin and BridgeEnter
    manager 2.x      Asterisk 12, 13
    manager n        Asterisk n + 11       3 is 14, 5 is 16, 11 is 22, 12 is 23

Source: AMI_VERSION in Asterisk's include/asterisk/manager.h, branch by branch.
"""

import re

from gateway.domain.errors import BadSettings

OLDEST, NEWEST = 13, 23
"""What is supported, as the README states."""

_VERSION = re.compile(r"Call Manager/(\d{1,3})(?:\.|$)")


def manager_version(banner: str) -> int | None:
    """The major version of the manager interface; None where the banner names none."""
    found = _VERSION.search(banner)
    return int(found[1]) if found is not None else None


def asterisk_version(banner: str) -> int | None:
    """The major version of Asterisk, the newest that it can be; None where the banner names none."""
    version = manager_version(banner)
    if version is None:
        return None
    return 11 if version < 2 else version + 11


def described(banner: str) -> str:
    """The banner, and which Asterisk that is."""
    version = asterisk_version(banner)
    if version is None or version <= 11:
        return banner
    return f"{banner} (Asterisk {version})"


def is_newer(banner: str) -> bool:
    """Whether it is newer than any that was tried."""
    return (asterisk_version(banner) or 0) > NEWEST


def check_version(banner: str) -> None:
    """Raises BadSettings for an Asterisk whose events do not show which channels belong together."""
    version = asterisk_version(banner)
    if version is not None and version <= 11:
        raise too_old(banner)


def too_old(banner: str) -> BadSettings:
    """The error for such an Asterisk."""
    return BadSettings(
        f"{banner or 'this Asterisk'} does not send Linkedid: Asterisk 11 or older; "
        f"supported are Asterisk {OLDEST} to {NEWEST}",
        code="asterisk_too_old",
        shown=banner,
    )
