"""Which shard a tenant belongs to: what instances of the gateway share among themselves. Pure.

The number of shards is fixed: changing it would move every tenant. Read `gateway/store/shards.py` for who owns them.
"""

import hashlib
from functools import lru_cache

from gateway.domain.ids import TenantId

SHARDS = 256


@lru_cache(maxsize=65_536)
def shard_of(tenant: TenantId) -> int:
    """0 to 255, the same on every machine and for ever."""
    return hashlib.sha256(tenant.encode()).digest()[0]


def fair_share(instances: int) -> int:
    """How many shards each of so many instances holds at most."""
    return -(-SHARDS // max(1, instances))
