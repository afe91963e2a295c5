"""Identifiers that must not be confused, and UTC time as the contract writes it."""

import os
import re
import time
from datetime import UTC, datetime
from typing import NewType
from uuid import UUID

from gateway.domain.text import Bilingual, texts_of

TenantId = NewType("TenantId", str)
"""The number of an enterprise, such as "0367"; also the tenant's key in every table."""

CallId = NewType("CallId", str)
"""Asterisk's Linkedid of a call's first channel, with "PBXNAME-" before it where the tenant has several PBXes."""

Kind = NewType("Kind", str)
"""The name of an adapter: "asterisk", "retailcrm", "telegram"."""

IntegrationKey = NewType("IntegrationKey", str)
"""By what an integration of a tenant is known everywhere: `KIND`, or `KIND:NAME` where a tenant has several of a kind
(contract 10). Column `integration_type` holds it."""

KEY_NAME = r"[a-z0-9][a-z0-9_-]{0,30}"
"""What may stand behind the colon of an integration key."""
_KEY = re.compile(rf"[a-z][a-z0-9_]{{0,30}}(:{KEY_NAME})?", re.ASCII)


def kind_of(key: IntegrationKey) -> Kind:
    """The adapter's kind of an integration key."""
    return Kind(key.partition(":")[0])


def titled(title: str, key: IntegrationKey) -> str:
    """An integration as people read it: the title of its outside system, and its name where it has one."""
    name = key.partition(":")[2]
    if not name:
        return title
    return Bilingual(*(f"{one} · {name}" for one in texts_of(title).values()))


def integration_key(text: str) -> IntegrationKey:
    """A key as it was written. Raises ValueError for what is none."""
    if not _KEY.fullmatch(text):
        raise ValueError("must be KIND or KIND:NAME, NAME of a to z, 0 to 9, _ and -, at most 31 characters")
    return IntegrationKey(text)


OPERATOR = TenantId("*")
"""Stands for operators of the installation where a tenant is expected in an audit row. No tenant can have this number."""


def utc_text(moment: datetime) -> str:
    """`2026-11-21T00:13:18.948Z`: UTC with milliseconds, as events carry it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def utc_from_text(text: str) -> datetime:
    """The inverse of `utc_text`. Raises ValueError for anything that is not an ISO time with a zone."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"a time without a zone: {text!r}")
    return moment.astimezone(UTC)


def uuid7() -> UUID:
    """A version 7 UUID: its order is the order of time (RFC 9562)."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    return UUID(int=value & ~(0xF << 76) & ~(0x3 << 62) | 0x7 << 76 | 0x2 << 62)
