"""People as authors of messages and owners of conversations: `human:ID` of whoever is signed in, and their names for pages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote
from uuid import UUID

from gateway.domain.chats import human
from gateway.domain.ids import TenantId
from gateway.domain.people import Role
from gateway.store import members
from gateway.store.postgres.pool import Database


async def author_of_person(db: Database, tenant: TenantId | None, email: str) -> str:
    """A person as an author; `tenant` is None for an operator of the installation."""
    found = await db.engine(members.select_user_id, tenant, email)
    return human(str(found) if found is not None else quote(email, safe="@.")[:60])


@dataclass(frozen=True, slots=True)
class Colleague:
    """Somebody of a company who may answer clients."""

    user_id: UUID
    author: str
    name: str


@dataclass(frozen=True, slots=True)
class Colleagues:
    """Those of a company who may answer, and everybody's name by author."""

    answering: Sequence[Colleague]
    names: Mapping[str, str]


async def colleagues_of(db: Database, tenant: TenantId) -> Colleagues:
    """A company's people by name."""
    found = [
        (one, human(str(one.user_id)), one.name or one.email) for one in await db.engine(members.list_members, tenant)
    ]
    answering = [Colleague(one.user_id, author, name) for one, author, name in found if one.role is not Role.AUDITOR]
    return Colleagues(
        sorted(answering, key=lambda one: one.name.casefold()), {author: name for _, author, name in found}
    )
