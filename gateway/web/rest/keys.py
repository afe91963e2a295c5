"""`/keys` and `/token`: API keys of the company, and short tokens instead of them."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, ConfigDict, Field, StringConstraints, field_validator
from pydantic.config import JsonDict

from gateway.domain.api_keys import LONGEST_NAME, SCOPES, ends_soon, new_key
from gateway.domain.ids import TenantId
from gateway.domain.secret import Secret
from gateway.store.api_keys import ApiKeyLine, select_api_keys
from gateway.store.postgres.pool import Connection
from gateway.web.callers.key_changes import create_key, revoke_keys, rotate_key
from gateway.web.callers.tokens import LIVES_S
from gateway.web.http.routes import Response, problem
from gateway.web.rest.deps import RestDeps
from gateway.web.rest.endpoints import Call, Endpoint, ListQuery, Missing, Model, Page, Shown, reply
from gateway.web.rest.idempotency import Stored


def _known(text: str) -> str:
    if text not in SCOPES:
        raise ValueError(f"must be one of {', '.join(SCOPES)}")
    return text


Scope = Annotated[str, AfterValidator(_known), Field(json_schema_extra={"enum": list(SCOPES)})]
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_PRINTABLE = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]+")
_EXAMPLE: JsonDict = {
    "id": "0b1c2d3e-5f60-4a7b-8c9d-0e1f2a3b4c5d", "name": "CRM sync", "prefix": "gw_live_3kTz90Qa", "scopes": ["read"],
    "created_at": "2026-11-21T08:00:00Z", "last_used_at": None, "expires_at": "2026-12-21T08:00:00Z", "rotated_at": None,
    "revoked_at": None, "ends_soon": False, "owner": "anna@june.example", "owner_kind": "person",
}  # fmt: skip


class ApiKeyItem(Shown):
    """An API key; never its secret."""

    model_config = ConfigDict(frozen=True, json_schema_extra={"examples": [_EXAMPLE]})

    id: str
    name: str
    prefix: str = Field(description="its first characters, by which people tell it from others")
    scopes: list[str]
    created_at: datetime
    last_used_at: datetime | None = Field(description="written at most once a minute")
    expires_at: datetime | None
    rotated_at: datetime | None = Field(description="since when another key stands in its place")
    revoked_at: datetime | None
    ends_soon: bool = Field(description="it ends within ten days, and no other stands in its place")
    owner: str | None = Field(description="the address of the person or operator who made it, or had made the key by which it was "
                                          "made; the subject of an outside token. The keys of a person end when they are removed")  # fmt: skip
    owner_kind: Literal["person", "operator", "cli", "outside", "unknown"] = Field(
        description="`cli`: made by `gateway api-key`"
    )


class NewApiKey(ApiKeyItem):
    """A fresh API key, with its text: shown once, in this answer."""

    model_config = ConfigDict(
        frozen=True, json_schema_extra={"examples": [{**_EXAMPLE, "key": "gw_live_3kTz90Qa…"}]}
    )  # fmt: skip

    key: str


class ApiKeys(Page[ApiKeyItem]):
    """Keys, newest first."""


class ApiKeyBody(Model):
    """What a new key is for and may do."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, json_schema_extra={"examples": [{"name": "CRM sync", "scopes": ["read"]}]}
    )

    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=LONGEST_NAME)]
    scopes: list[Scope] = Field(min_length=1, max_length=len(SCOPES))
    expires_at: AwareDatetime | None = Field(None, description="ISO with a zone; absent: until it is revoked")

    @field_validator("name")
    @classmethod
    def _printable(cls, text: str) -> str:
        if not _PRINTABLE.fullmatch(text):
            raise ValueError("must be printable")
        return text

    @field_validator("expires_at")
    @classmethod
    def _future(cls, moment: datetime | None) -> datetime | None:
        if moment is not None and not datetime.now(UTC) < moment.astimezone(UTC) < datetime(2200, 1, 1, tzinfo=UTC):
            raise ValueError("must be in the future, before the year 2200")
        return moment


class AccessToken(Shown):
    """A token that stands for the key for fifteen minutes."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={
            "examples": [{"access_token": "eyJhbGciOi…", "token_type": "Bearer", "expires_in": LIVES_S}]
        },
    )

    access_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 - a word of OAuth
    expires_in: int = Field(LIVES_S, description="seconds")


def _item(line: ApiKeyLine) -> dict[str, object]:
    alive = line.revoked_at is None
    return {
        "id": line.key_id, "name": line.name, "prefix": line.hint, "scopes": list(line.scopes), "created_at": line.created_at,
        "last_used_at": line.last_used_at, "expires_at": line.expires_at, "rotated_at": line.rotated_at,
        "revoked_at": line.revoked_at, "owner": line.owner.name or None, "owner_kind": line.owner.kind or "unknown",
        "ends_soon": alive and ends_soon(line.expires_at, line.rotated_at, datetime.now(UTC)),
    }  # fmt: skip


async def _line(conn: Connection, tenant: TenantId, key_id: str) -> ApiKeyLine | None:
    return next((line for line in await select_api_keys(conn, tenant, None, 10_000) if line.key_id == key_id), None)


async def _create(
    conn: Connection, call: Call, key: Secret, name: str, scopes: Sequence[str], ends: datetime | None
) -> Response:
    async with conn.transaction():
        key_id = await create_key(
            conn, call.caller.tenant, key, name, scopes, ends, call.caller.actor, call.caller.owner
        )
        return await _shown_once(conn, call.caller.tenant, key_id, key, call.stored)


async def _rotate(conn: Connection, call: Call, line: ApiKeyLine, key: Secret) -> Response | None:
    async with conn.transaction():
        new = await rotate_key(
            conn, call.caller.tenant, line.key_id, line.hint, key, call.caller.actor, call.caller.owner
        )
        return await _shown_once(conn, call.caller.tenant, new.key_id, key, call.stored) if new is not None else None


async def _shown_once(conn: Connection, tenant: TenantId, key_id: str, key: Secret, stored: Stored) -> Response:
    line = await _line(conn, tenant, key_id)
    assert line is not None
    response = reply(NewApiKey.model_validate({**_item(line), "key": key.reveal()}), 201)
    await stored.store(conn, response)
    return response


def _beyond(call: Call, scopes: Sequence[str]) -> Response | None:
    """The refusal of a key that would make one that may do more than itself."""
    more = sorted(set(scopes) - call.caller.scopes)
    if call.caller.kind == "session" or not more:
        return None
    return problem(403, "FORBIDDEN", f"A key makes no key that may do more than itself: {', '.join(more)}.",
                   errors=[("scopes", "are more than the caller's own")])  # fmt: skip


def keys(deps: RestDeps) -> list[Endpoint]:
    """The endpoints."""

    async def listed(call: Call) -> ApiKeys:
        after = deps.cursors.wanted(call.tenant.number, "keys", call.query.cursor)
        place = (datetime.fromisoformat(str(after[0])), str(after[1])) if after else None
        found = await deps.db.tenant(
            call.tenant.number, select_api_keys, call.tenant.number, place, call.query.limit + 1
        )
        more, lines = len(found) > call.query.limit, found[: call.query.limit]
        onward = (
            deps.cursors.new(call.tenant.number, "keys", [lines[-1].created_at.isoformat(), lines[-1].key_id])
            if more
            else None
        )
        return ApiKeys(items=[ApiKeyItem.model_validate(_item(line)) for line in lines], next=onward)

    async def create(call: Call) -> Response:
        body: ApiKeyBody = call.body
        scopes = list(dict.fromkeys(body.scopes))
        if (refused := _beyond(call, scopes)) is not None:
            return refused
        return await deps.db.engine(_create, call, new_key(), body.name, scopes, body.expires_at)

    async def known(call: Call) -> ApiKeyLine:
        key_id = call.param("id").lower()
        line = (
            await deps.db.tenant(call.tenant.number, _line, call.tenant.number, key_id)
            if _UUID.fullmatch(key_id)
            else None
        )
        if line is None or not line.in_force(datetime.now(UTC)):
            raise Missing("There is no such key in force.")
        return line

    async def rotate(call: Call) -> Response:
        line = await known(call)
        if (refused := _beyond(call, line.scopes)) is not None:
            return refused
        made = await deps.db.engine(_rotate, call, line, new_key())
        return made or problem(409, "CONFLICT", "Another key stands in the place of this one already.")

    async def delete(call: Call) -> None:
        line = await known(call)
        await deps.db.engine(revoke_keys, call.tenant.number, line.key_id, call.caller.actor)

    async def token(call: Call) -> AccessToken | Response:
        if call.caller.kind != "key" or call.caller.key is None:
            return problem(403, "FORBIDDEN", "A token is made from an API key, not from another token.")
        return AccessToken(access_token=deps.callers.tokens.new(call.caller.key))

    section = "API keys"
    return [
        Endpoint(method="GET", path="/keys", operation=listed, scopes=("read",), summary="API keys of the company",
                 query=ListQuery, answer=ApiKeys, section=section),
        Endpoint(method="POST", path="/keys", operation=create, scopes=("write",), summary="Make a key; its text is in this answer alone",
                 body=ApiKeyBody, answer=NewApiKey, status=201, makes=True, atomic=True, section=section),
        Endpoint(method="POST", path="/keys/{id}/rotate", operation=rotate, scopes=("write",),
                 summary="Replace a key; the old one works for one more day", answer=NewApiKey, status=201, makes=True, atomic=True,
                 section=section, problems={409: "The key is replaced already, or Idempotency-Key was used otherwise"}),
        Endpoint(method="DELETE", path="/keys/{id}", operation=delete, scopes=("write",), summary="Revoke a key and its tokens",
                 section=section),
        Endpoint(method="POST", path="/token", operation=token, scopes=SCOPES, sessions=False, answer=AccessToken, section=section,
                 summary="A token with the key's scopes, accepted for fifteen minutes wherever the key is"),
    ]  # fmt: skip
