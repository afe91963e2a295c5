"""The connected clients, for requests to an outside system while a person or a call waits.

An actor registers its client for as long as it lives; nobody holds one longer than a request takes. Read
`adapters/abilities.py` for the possible requests.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from gateway.domain.ids import IntegrationKey, TenantId


class Clients:
    """By the path of the actor that registers them."""

    def __init__(self) -> None:
        self._clients: dict[str, object] = {}

    @contextmanager
    def lend(self, path: str, client: object) -> Iterator[None]:
        """Registers a client for the duration of the block."""
        self._clients[path] = client
        try:
            yield
        finally:
            if self._clients.get(path) is client:
                del self._clients[path]

    def pbx(self, tenant: TenantId, name: str) -> object | None:
        """The client of one PBX, or None while none is connected."""
        return self._clients.get(f"tenant/{tenant}/pbx/{name}")

    def integration(self, tenant: TenantId, kind: IntegrationKey) -> object | None:
        """The client of one integration, or None where it is off."""
        return self._clients.get(f"tenant/{tenant}/integration/{kind}")
