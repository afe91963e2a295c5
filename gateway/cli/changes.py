"""What `gateway apply` would do, or did: lines for a person, and the statements that do it."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Changes:
    """Grows while a file is compared with what is stored. A step is a function of a connection and its further arguments."""

    lines: list[str] = field(default_factory=list)
    steps: list[Any] = field(default_factory=list)
    client_ids: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Whose each client id is, by its hash."""

    def add(self, line: str, function: Any, *args: Any) -> None:
        """One change."""
        self.lines.append(line)
        self.steps.append((function, args))
