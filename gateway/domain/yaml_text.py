"""YAML that people write, read safely: no tags that make objects, and no nesting that would end the process."""

from typing import Any

import yaml

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""In C where it is there: a catalog of ten thousand items is read in a second then, not in twenty."""
MOST_LEVELS = 50
"""Lists and blocks within each other, at most."""


def load_yaml(text: str) -> Any:
    """What a text holds. Its depth is judged first: the loader in C calls itself for each level. Raises yaml.YAMLError, RecursionError
    for what is too deep, and ValueError."""
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MOST_LEVELS:
            raise RecursionError
    return yaml.load(text, Loader=_LOADER)  # noqa: S506 - a safe one
