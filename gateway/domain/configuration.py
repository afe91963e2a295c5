"""One tenant's configuration as the caches hold it: immutable, with a version. Secrets are `Secret`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo

from gateway.domain.ids import IntegrationKey, Kind, TenantId, kind_of
from gateway.domain.secret import Secret

LONGEST_DEVICE = 80
"""What Asterisk takes for the name of a channel or a peer (AST_CHANNEL_NAME)."""


def is_device_name(name: str) -> bool:
    """Whether a PBX can have a device of that name, with or without its technology: letters of any script, spaces within
    and signs, `DAHDI/7` and `101@acme` among them. A comma, `&` and `|` would end it in a dialplan."""
    return (
        0 < len(name) <= LONGEST_DEVICE and name.isprintable() and name == name.strip() and not set(name) & set(",&|")
    )


@dataclass(frozen=True, slots=True)
class Phone:
    """An internal number, who owns it, and the PBX endpoints (devices) that ring for it."""

    number: str
    owner: str = ""
    endpoints: tuple[str, ...] = ()

    @property
    def devices(self) -> tuple[str, ...]:
        """The endpoints; by default the one named like the number."""
        return self.endpoints or (self.number,)


@dataclass(frozen=True, slots=True)
class Connector:
    """One outside system of a tenant: a PBX or an integration. `settings` is validated by its adapter's settings class."""

    name: str
    """A PBX's name; an integration's key."""
    kind: Kind
    settings: Mapping[str, Any]
    enabled: bool = True

    @property
    def key(self) -> IntegrationKey:
        """The name of an integration, as such."""
        return IntegrationKey(self.name)


def integration(key: str, settings: Mapping[str, Any], *, enabled: bool = True) -> Connector:
    """An integration's connection: its kind follows from its key."""
    return Connector(key, kind_of(IntegrationKey(key)), settings, enabled)


@dataclass(frozen=True, slots=True)
class Tenant:
    """One enterprise. `version` changes with every change to any of its rows."""

    number: TenantId
    name: str
    timezone: ZoneInfo
    country: str
    language: str
    token_hash: bytes = b""
    phones: tuple[Phone, ...] = ()
    pbxes: tuple[Connector, ...] = ()
    integrations: Mapping[IntegrationKey, Connector] = field(default_factory=lambda: MappingProxyType({}))
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    """Tenant-wide options such as `click_to_call`, as the tenant file gives them."""
    version: int = 0
    user_extensions: Mapping[IntegrationKey, Mapping[str, str | None]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    """Internal numbers of each integration's users. No input of an actor: whoever needs one looks into the cache."""
    secrets: Mapping[str, Secret] = field(default_factory=lambda: MappingProxyType({}))
    """Secrets among the options, by name."""

    def of_kind(self, kind: Kind) -> tuple[Connector, ...]:
        """The integrations of one kind, in the order of their keys."""
        return tuple(one for key, one in sorted(self.integrations.items()) if one.kind == kind)

    def extension_of(self, key: IntegrationKey, user_id: str) -> str:
        """The internal number of an integration's user, or an empty string."""
        return self.user_extensions.get(key, {}).get(user_id) or ""

    def owner_of(self, number: str | None) -> str:
        """The owner of an internal number, or an empty string."""
        return next((phone.owner for phone in self.phones if phone.number == number), "")


def reveal(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with plain secrets, for the one place that hands them on. Never log the result."""
    return {k: v.reveal() if isinstance(v, Secret) else v for k, v in settings.items()}
