"""The softphone's addresses and those of the API over a world, asked as a browser asks them but for the socket."""

import hashlib
import json
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from adapters.registry import adapters
from gateway.domain.configuration import Tenant, integration
from gateway.domain.ids import IntegrationKey, Kind
from gateway.domain.secret import Secret
from gateway.web.callers.softphones import SoftphoneTokens
from gateway.web.frames.deps import FrameDeps
from gateway.web.frames.table import frame_addresses
from gateway.web.http.routes import Address, Request, Response, Table, answer
from gateway.web.rest.table import api_addresses
from tests.web.rest.conftest import Api, make_api
from tests.web.world import CSRF, JUNE, World

(KIND,) = [kind for kind, adapter in adapters().items() if adapter.frame is not None]
KEY = IntegrationKey(KIND)
HOOK = "hook-of-june-0123456789abcdef"
PATH = f"/frames/{KIND}/{HOOK}"
SETTINGS: dict[str, Any] = {
    "instance_url": "https://june.my.salesforce.com", "client_id": "3MVG9", "client_secret": Secret("secret-of-the-app"),
    "hook_id": Secret(HOOK),
}  # fmt: skip


@dataclass
class Here:
    """The addresses. `url` stands in the place of the outside system's address."""

    world: World
    url: str = ""
    settings: dict[str, Any] = field(default_factory=lambda: dict(SETTINGS))
    enabled: bool = True

    def __post_init__(self) -> None:
        api = make_api(self.world)
        self.clock = api.clock
        tokens = SoftphoneTokens(self.world.cache.master, api.clock)
        self.callers = replace(api.deps.callers, softphones=tokens)
        self.api = Api(self.world, replace(api.deps, callers=self.callers), api.clock)
        self.deps = FrameDeps(
            db=self.world.db, feed=self.world.feed, adapters=adapters(), by_hook=self._by_hook, callers=self.callers, tokens=tokens,
            provider_urls={KIND: self.url} if self.url else {},
        )  # fmt: skip
        self.table = Table(self.addresses)

    @property
    def addresses(self) -> list[Address]:
        """All of them."""
        return [*frame_addresses(self.deps), *api_addresses(self.api.deps)]

    @property
    def tenant(self) -> Tenant:
        """The company with its softphone."""
        found = self.world.cache.tenant(JUNE)
        assert found is not None
        link = integration(KEY, MappingProxyType(self.settings), enabled=self.enabled)
        return replace(found, integrations=MappingProxyType({KEY: link}))

    def _by_hook(self, kind: Kind, hashed: bytes) -> tuple[Tenant, IntegrationKey] | None:
        right = hashlib.sha256(HOOK.encode()).digest()
        return (self.tenant, KEY) if (kind, hashed) == (KIND, right) else None

    async def raw(
        self, method: str, path: str, body: Any = None, *, token: str = "", cookie: str = "", **headers: str
    ) -> Response:
        """The answer to a request."""
        target, _, query = path.partition("?")
        found = self.table.find(method, target)
        if isinstance(found, Response):
            return found
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        sent |= {"authorization": f"Bearer {token}"} if token else {}
        sent |= {"cookie": f"session={cookie}"} if cookie else {}
        raw = b"" if body is None else json.dumps(body).encode()
        asked = dict(one.split("=", 1) for one in query.split("&") if one)
        request = Request(
            method=method, path=target, params=found[1], query=asked, headers=sent, body=raw, peer="203.0.113.7"
        )
        return await answer(found[0], request)

    async def ask(self, method: str, path: str, body: Any = None, **more: str) -> tuple[int, Any]:
        """Its status and JSON."""
        got = await self.raw(method, path, body, **more)
        return got.status, json.loads(got.body) if got.body and "json" in got.content_type else got.body.decode()

    async def connect(self, cookie: str, extension: str = "150") -> tuple[int, Any]:
        """A person connects the softphone."""
        return await self.ask(
            "POST", f"{PATH}/session?tenant={JUNE}", {"extension": extension}, cookie=cookie, x_csrf_token=CSRF
        )
