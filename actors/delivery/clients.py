"""The clients that are connected now, for whoever must ask an outside system something while a person or a call waits.

An actor lends its client for as long as it lives; nobody keeps one longer than a question takes. Read
`adapters/abilities.py` for what can be asked.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from gateway.domain.ids import IntegrationKey, TenantId


class Clients:
    """By the path of the actor that lends them."""

    def __init__(self) -> None:
        self._clients: dict[str, object] = {}

    @contextmanager
    def lend(self, path: str, client: object) -> Iterator[None]:
        """Within it the client can be had."""
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
