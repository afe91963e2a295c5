"""The list of adapters: the only module that names a concrete one. An installed package adds its own through the
`gateway.adapters` entry-point group, whose entries load an `Adapter`. What stands in an adapter's folder is checked here."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from types import MappingProxyType

from adapters.apps import AccountApp, AppCredentials, MetaApp, OAuthApp
from adapters.base import Adapter
from adapters.folder import read_folder
from gateway.domain.ids import IntegrationKey, Kind, kind_of


@dataclass(frozen=True, slots=True)
class Linked:
    """An integration by its key, with its adapter."""

    key: IntegrationKey
    adapter: Adapter


OURS = (
    "amocrm",
    "asterisk",
    "bitrix24",
    "hubspot",
    "iiko",
    "instagram",
    "retailcrm",
    "salesforce",
    "syrve",
    "telegram",
    "viber",
    "vk",
    "whatsapp",
    "web_widget",
)
APPS: Mapping[str, type[AppCredentials]] = MappingProxyType(
    {"meta": MetaApp, "bitrix24": OAuthApp, "amocrm": OAuthApp, "hubspot": OAuthApp, "telegram": AccountApp}
)
"""Applications of the installation that its file may always name, whether an adapter uses them or not."""


@cache
def adapters() -> Mapping[Kind, Adapter]:
    """Every adapter by kind, ours first. Raises BadFolder where one's texts, icon or example are not as they must be."""
    found: dict[Kind, Adapter] = {}
    for name in OURS:
        adapter: Adapter = import_module(f"adapters.{name}").ADAPTER
        found[adapter.kind] = adapter
    for entry in entry_points(group="gateway.adapters"):
        found.setdefault((loaded := entry.load()).kind, loaded)
    for adapter in found.values():
        read_folder(adapter.package)
    return MappingProxyType(found)


def integrations() -> Mapping[Kind, Adapter]:
    """The adapters a tenant switches on by kind; PBXes are listed apart, by name."""
    return MappingProxyType({kind: adapter for kind, adapter in adapters().items() if not adapter.is_pbx})


def linked(key: IntegrationKey) -> Linked | None:
    """The integration of a key, with its adapter; None where there is none of this kind."""
    adapter = integrations().get(kind_of(key))
    return Linked(key, adapter) if adapter is not None else None


def apps() -> Mapping[str, type[AppCredentials]]:
    """The fields of every application of the installation, by its name in the file."""
    named = {adapter.app.name: adapter.app.credentials for adapter in adapters().values() if adapter.app is not None}
    return MappingProxyType({**named, **APPS})
