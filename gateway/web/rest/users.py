"""`/users`: the company's people. What is allowed is the store's to judge, in its transaction (`gateway/store/members.py`).

A key makes nobody who may do more than itself, and no link of such a person: else a key that writes were as good as an admin.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from gateway.domain.ids import TenantId
from gateway.domain.people import LONGEST_NAME, MEMBER_ROLES, MOST_PHONES, PeopleRefused, Role
from gateway.store import members, second_factors
from gateway.store.members import Member
from gateway.store.postgres.pool import Connection
from gateway.web.callers.callers import SESSION_SCOPES
from gateway.web.http.routes import Response, problem
from gateway.web.rest.deps import RestDeps
from gateway.web.rest.endpoints import Call, Endpoint, ListQuery, Missing, Model, Page, Shown, reply
from gateway.web.session.invitations import lives_s, purpose_of, store_link, welcome_link
from gateway.web.session.tokens import Token, new_token

_ROLES: JsonDict = {"enum": [role.value for role in MEMBER_ROLES]}
_EXAMPLE: JsonDict = {
    "id": "0b1c2d3e-5f60-4a7b-8c9d-0e1f2a3b4c5d", "email": "anna@june.example", "role": "agent", "name": "Anna Kuzmina",
    "phones": ["150"], "invited": False, "second_factor": True, "created_at": "2026-11-21T08:00:00Z", "seen_at": "2026-11-22T09:30:00Z",
}  # fmt: skip
_LINK: JsonDict = {
    "invitation_link": "https://gateway.example/welcome?token=…", "invitation_expires_at": "2026-11-28T08:00:00Z",
}  # fmt: skip


class UserItem(Shown):
    """One person of the company."""

    model_config = ConfigDict(frozen=True, json_schema_extra={"examples": [_EXAMPLE]})

    id: str
    email: str
    role: str = Field(json_schema_extra=_ROLES)
    name: str
    phones: list[str] = Field(description="internal numbers of their own: an agent sees the calls of these")
    invited: bool = Field(description="they have still to set a password")
    second_factor: bool = Field(description="a code is asked for after their password")
    created_at: datetime
    seen_at: datetime | None = Field(description="when a session of theirs was last in use, of those that are open")


class UsersPage(Page[UserItem]):
    """People, by address."""


class NewUser(UserItem):
    """A person who was just added, with the link by which they set their password: shown once, in this answer."""

    model_config = ConfigDict(
        frozen=True, json_schema_extra={"examples": [{**_EXAMPLE, "invited": True, "seen_at": None, **_LINK}]}
    )

    invitation_link: str = Field(description="works once, and until another is made")
    invitation_expires_at: datetime


class UserLink(Shown):
    """A link by which a person sets a password: the first, or a new one. Shown once, in this answer."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={
            "examples": [
                {"purpose": "reset", "link": _LINK["invitation_link"], "expires_at": _LINK["invitation_expires_at"]}
            ]
        },
    )

    purpose: str = Field(json_schema_extra={"enum": ["invitation", "reset"]})
    link: str
    expires_at: datetime


class UserBody(Model):
    """Somebody to invite."""

    model_config = ConfigDict(
        extra="forbid", frozen=True,
        json_schema_extra={"examples": [{"email": "anna@june.example", "role": "agent", "name": "Anna Kuzmina", "phones": ["150"]}]},
    )  # fmt: skip

    email: str = Field(max_length=254)
    role: str = Field(json_schema_extra=_ROLES)
    name: str = Field("", max_length=LONGEST_NAME)
    phones: list[str] = Field(default_factory=list, max_length=MOST_PHONES, description="internal numbers")


class UserChange(Model):
    """What is to change. What is absent stays."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, json_schema_extra={"examples": [{"role": "agent", "phones": ["150", "151"]}]}
    )

    role: str | None = Field(None, json_schema_extra=_ROLES)
    name: str | None = Field(None, max_length=LONGEST_NAME)
    phones: list[str] | None = Field(None, max_length=MOST_PHONES)


def _values(member: Member) -> dict[str, Any]:
    return {
        "id": str(member.user_id), "email": member.email, "role": member.role.value, "name": member.name,
        "phones": list(member.phones), "invited": member.invited,
        "second_factor": member.second_factor, "created_at": member.created_at, "seen_at": member.seen_at,
    }  # fmt: skip


def _refusal(error: PeopleRefused) -> Response:
    conflict = error.code in ("taken", "last_admin")
    return problem(
        409 if conflict else 422, "CONFLICT" if conflict else "VALIDATION_ERROR", f"{error.field}: {error.text}",
        errors=[(error.field, error.text)], reason=error.code,
    )  # fmt: skip


def _role(text: str) -> Role:
    """A role that the store then judges: one that is none of a company is refused there like an operator's."""
    return Role(text) if text in MEMBER_ROLES else Role.OPERATOR


def _beyond(call: Call, role: Role) -> Response | None:
    """The refusal of a key that would make somebody who may do more than itself."""
    more = sorted(SESSION_SCOPES.get(role, frozenset()) - call.caller.scopes)
    if call.caller.kind == "session" or not more:
        return None
    return problem(403, "FORBIDDEN", f"A key makes nobody who may do more than itself: {', '.join(more)}.",
                   errors=[("role", "may do more than the caller")])  # fmt: skip


def users(deps: RestDeps) -> list[Endpoint]:
    """The endpoints."""

    async def listed(call: Call) -> UsersPage:
        number, limit = call.tenant.number, call.query.limit
        after = deps.cursors.wanted(number, "users", call.query.cursor)
        people = sorted(await deps.db.engine(members.list_members, number), key=lambda one: one.email)
        rest = [one for one in people if after is None or one.email > str(after[0])]
        onward = deps.cursors.new(number, "users", [rest[limit - 1].email]) if len(rest) > limit else None
        return UsersPage(items=[UserItem.model_validate(_values(one)) for one in rest[:limit]], next=onward)

    async def known(call: Call) -> Member:
        try:
            user_id = UUID(call.param("id"))
        except ValueError:
            raise Missing("There is no such person.") from None
        found = await deps.db.engine(members.select_member, call.tenant.number, user_id)
        if found is None:
            raise Missing("There is no such person.")
        return found

    async def show(call: Call) -> UserItem:
        return UserItem.model_validate(_values(await known(call)))

    def link_to(text: str, purpose: str) -> tuple[str, datetime]:
        return welcome_link(deps.public_url, text), datetime.now(UTC) + timedelta(seconds=lives_s(purpose))

    async def invite(call: Call) -> Response:
        body: UserBody = call.body
        role = _role(body.role)
        if (refused := _beyond(call, role)) is not None:
            return refused
        text, token = new_token(call.tenant.number)

        async def work(conn: Connection) -> Response:
            async with conn.transaction():
                made = await members.add_member(
                    conn, call.tenant.number, email=body.email, role=role, by=call.caller.actor, name=body.name.strip(),
                    phones=_once(body.phones),
                )  # fmt: skip
                await store_link(conn, call.tenant.number, made, token, call.caller.actor)
                link, until = link_to(text, purpose_of(made))
                shown = {**_values(made), "invitation_link": link, "invitation_expires_at": until}
                response = reply(NewUser.model_validate(shown), 201)
                await call.stored.store(conn, response)
                return response

        try:
            return await deps.db.engine(work)
        except PeopleRefused as error:
            return _refusal(error)

    async def change(call: Call) -> UserItem | Response:
        body: UserChange = call.body
        old = await known(call)
        role = _role(body.role) if body.role is not None else None
        # Both: neither is somebody made an admin, nor an admin who may do more turned into less.
        for one in (old.role, *((role,) if role is not None else ())):
            if (refused := _beyond(call, one)) is not None:
                return refused
        work = partial(
            members.change_member, tenant=call.tenant.number, user_id=old.user_id, by=call.caller.actor, role=role,
            name=body.name.strip() if body.name is not None else None,
            phones=_once(body.phones) if body.phones is not None else None,
        )  # fmt: skip
        try:
            changed = await deps.db.engine(work)
        except PeopleRefused as error:
            return _refusal(error)
        if changed is None:
            raise Missing("There is no such person.")
        return UserItem.model_validate(_values(changed))

    async def link(call: Call) -> Response:
        member = await known(call)
        if (refused := _beyond(call, member.role)) is not None:
            return refused
        text, token = new_token(call.tenant.number)
        return await deps.db.engine(_linked, call, member, token, *link_to(text, purpose_of(member)))

    async def reset_factor(call: Call) -> Response | None:
        member = await known(call)
        if (refused := _beyond(call, member.role)) is not None:
            return refused
        if call.caller.kind == "session" and member.email == call.caller.actor and not call.caller.operator:
            return problem(
                409,
                "CONFLICT",
                "One's own second factor is changed on the page My security, which asks for the password.",
            )
        if not await deps.db.engine(second_factors.reset_factor, call.tenant.number, member.email, call.caller.actor):
            raise Missing("This person has no second factor.")
        return None

    async def delete(call: Call) -> Response | None:
        member = await known(call)
        if (refused := _beyond(call, member.role)) is not None:
            return refused
        work = partial(members.remove_member, tenant=call.tenant.number, user_id=member.user_id, by=call.caller.actor)
        try:
            if await deps.db.engine(work) is None:
                raise Missing("There is no such person.")
        except PeopleRefused as error:
            return _refusal(error)
        return None

    last = "They are the company's last admin"
    return [
        Endpoint(method="GET", path="/users", operation=listed, scopes=("read",), query=ListQuery, answer=UsersPage,
                 summary="People of the company"),
        Endpoint(method="POST", path="/users", operation=invite, scopes=("write",), body=UserBody, answer=NewUser, status=201,
                 makes=True, atomic=True, problems={409: "The address is one of the company's people already, or Idempotency-Key was used otherwise"},
                 summary="Add somebody; the link to set a password is in this answer alone"),
        Endpoint(method="GET", path="/users/{id}", operation=show, scopes=("read",), answer=UserItem, summary="One person"),
        Endpoint(method="PATCH", path="/users/{id}", operation=change, scopes=("write",), body=UserChange, answer=UserItem,
                 problems={409: last}, summary="Change somebody's role, name or internal numbers"),
        Endpoint(method="DELETE", path="/users/{id}", operation=delete, scopes=("write",), problems={409: last},
                 summary="Remove somebody with their sessions, links and API keys"),
        Endpoint(method="DELETE", path="/users/{id}/second-factor", operation=reset_factor, scopes=("write",),
                 problems={409: "It is the caller's own"},
                 summary="Take the second factor of somebody who has lost it away, with its recovery codes; their sessions end"),
        Endpoint(method="POST", path="/users/{id}/link", operation=link, scopes=("write",), answer=UserLink, status=201, makes=True,
                 atomic=True, summary="A fresh link to set a password, in place of the earlier one; it is in this answer alone"),
    ]  # fmt: skip


def _once(phones: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(one.strip() for one in phones))


async def _linked(conn: Connection, call: Call, member: Member, token: Token, link: str, until: datetime) -> Response:
    number: TenantId = call.tenant.number
    async with conn.transaction():
        await store_link(conn, number, member, token, call.caller.actor)
        response = reply(UserLink(purpose=purpose_of(member), link=link, expires_at=until), 201)
        await call.stored.store(conn, response)
        return response
