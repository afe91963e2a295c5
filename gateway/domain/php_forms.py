"""Forms as PHP reads them: `data[FIELDS][ID]=7` is a map in a map. Pure."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

MOST_FIELDS = 500
MOST_LEVELS = 8


def nested_form(body: bytes, most: int = MOST_FIELDS) -> Mapping[str, Any]:
    """The nested fields of a form, every value a text. Raises ValueError for what is none."""
    found: dict[str, Any] = {}
    for name, value in parse_qsl(body.decode("utf-8"), keep_blank_values=True, max_num_fields=most):
        path = name.replace("]", "").split("[")
        if len(path) > MOST_LEVELS:
            raise ValueError("nested too deeply")
        place: dict[str, Any] = found
        for part in path[:-1]:
            inner = place.setdefault(part, {})
            if not isinstance(inner, dict):
                raise ValueError("a field is both a value and a group")
            place = inner
        place[path[-1]] = value
    return found
