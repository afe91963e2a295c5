"""What `gateway apply` would do, or did: lines for a person, the statements that do it, and its lines of the audit trail."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.domain.ids import TenantId
from gateway.store.audit import difference


@dataclass(slots=True)
class Changes:
    """Grows while a file is compared with what is stored. A step is a function of a connection and its further arguments."""

    lines: list[str] = field(default_factory=list)
    steps: list[Any] = field(default_factory=list)
    owners: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Whose each client id and each account is, by its hash."""
    trail: list[tuple[TenantId, str, str, Mapping[str, Any] | None, Mapping[str, Any] | None]] = field(
        default_factory=list
    )
    """For the audit: tenant, action, target, what was and what is."""

    def record(
        self, tenant: TenantId, action: str, target: str, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None
    ) -> None:  # fmt: skip
        """One line of the audit trail for what is changed."""
        self.trail.append((tenant, action, target, *difference(before, after)))

    def add(self, line: str, function: Any, *args: Any) -> None:
        """One change."""
        self.lines.append(line)
        self.steps.append((function, args))
