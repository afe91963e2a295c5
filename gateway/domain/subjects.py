"""What a delivery, a log line and a change on a page are about: a call, a chat, a contact, an order or a deal."""

from collections.abc import Iterable
from typing import Any, Literal, NamedTuple, get_args

from gateway.domain.ids import CallId

SubjectKind = Literal["call", "chat", "contact", "order", "deal", "typing"]
"""`typing`, of a conversation: somebody writes there; on pages alone, nothing of it is stored."""
SUBJECT_KINDS: tuple[SubjectKind, ...] = get_args(SubjectKind)


class Subject(NamedTuple):
    """One thing of a tenant; deliveries about it stay in order. Columns `subject_kind` and `subject_id`."""

    kind: SubjectKind
    id: str

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"

    @property
    def call_id(self) -> CallId | None:
        """The call it is, if it is one."""
        return CallId(self.id) if self.kind == "call" else None


def with_subject(row: Iterable[Any], place: int) -> list[Any]:
    """The values of a row of the database, its columns subject_kind and subject_id at `place` made one Subject."""
    values = list(row)
    values[place : place + 2] = [Subject(*values[place : place + 2])]
    return values


def call_subject(call_id: str) -> Subject:
    """A call as a subject."""
    return Subject("call", call_id)


def subject_from(text: str) -> Subject:
    """The inverse of `str(subject)`. Raises ValueError for anything else."""
    kind, space, ident = text.partition(" ")
    for known in SUBJECT_KINDS:
        if kind == known and space and ident:
            return Subject(known, ident)
    raise ValueError(f"no subject: {text[:40]!r}")
