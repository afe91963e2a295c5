"""The tools there are: every module beside this one gives its own in a tuple `TOOLS`. Read `actors/ai/tool.py` first."""

import importlib
import pkgutil
from functools import cache
from types import MappingProxyType
from typing import Any

from actors.ai.tool import Tool
from gateway.domain.ai import AiBlock
from gateway.domain.configuration import Tenant


@cache
def all_tools() -> MappingProxyType[str, Tool[Any]]:
    """By name, in the order of names. Raises ValueError where two have one name."""
    found: dict[str, Tool[Any]] = {}
    for module in pkgutil.iter_modules(__path__):
        for tool in importlib.import_module(f"{__name__}.{module.name}").TOOLS:
            if tool.name in found:
                raise ValueError(f"two tools are called {tool.name}")
            found[tool.name] = tool
    return MappingProxyType(dict(sorted(found.items())))


def tools_of(tenant: Tenant, settings: AiBlock) -> dict[str, Tool[Any]]:
    """Those that a company's model is told of."""
    return {name: tool for name, tool in all_tools().items() if tool.offered(tenant, settings)}
