"""Identifiers that must not be confused, and UTC time as the contract writes it."""

from datetime import UTC, datetime
from typing import NewType

TenantId = NewType("TenantId", str)
"""The number of an enterprise, such as "0367"; also the tenant's key in every table."""

CallId = NewType("CallId", str)
"""Asterisk's Linkedid of a call's first channel, with "PBXNAME-" before it where the tenant has several PBXes."""

Kind = NewType("Kind", str)
"""The name of an adapter: "asterisk", "retailcrm", "telegram"."""

OPERATOR = TenantId("operator")
"""The principal of installation operators where a tenant is expected in a log line or an audit row."""


def utc_text(moment: datetime) -> str:
    """`2026-11-21T00:13:18.948Z`: UTC with milliseconds, as events carry it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def utc_from_text(text: str) -> datetime:
    """The inverse of `utc_text`. Raises ValueError for anything that is not an ISO time with a zone."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"a time without a zone: {text!r}")
    return moment.astimezone(UTC)
