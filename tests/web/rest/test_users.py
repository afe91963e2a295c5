"""People by the API: invited, changed and removed by the rules that hold on the pages."""

from uuid import uuid4

import pytest
import trio

from gateway.domain.people import Role
from gateway.store.postgres.pool import Connection
from gateway.store.second_factors import store_factor
from gateway.web.callers.api_keys import FRESH_S
from gateway.web.session.tokens import read_token
from tests.web.rest.conftest import Api
from tests.web.rest.test_resources import every, paths
from tests.web.world import CSRF, JUNE, MAPLE

ANNA = {"email": "Anna@june.example", "role": "agent", "name": "Anna", "phones": ["150"]}


async def test_an_invitation_is_shown_once_and_works(api: Api) -> None:
    made = await api.ask("POST", "/users", ANNA)
    assert made.status == 201, made.json
    assert (made.json["email"], made.json["role"], made.json["phones"], made.json["invited"]) == (
        "anna@june.example", "agent", ["150"], True,
    )  # fmt: skip
    link = made.json["invitation_link"]
    assert link.startswith("https://gateway.example/welcome?token=0367.")
    welcome = await api.world.app.test_client().get(link.removeprefix("https://gateway.example"))
    assert welcome.status_code == 200
    listed = await every(api, "/users")
    assert [one["email"] for one in listed] == ["admin@0367.example", "anna@june.example"]
    assert "invitation_link" not in listed[1]
    token = read_token(link.partition("token=")[2])
    assert token is not None
    assert link.partition("token=0367.")[2] not in str(await every(api, "/audit"))
    assert [one["action"] for one in await every(api, "/audit")][:2] == ["user.invitation", "user.added"]
    again = await api.ask("POST", f"/users/{made.json['id']}/link")
    assert (again.status, again.json["purpose"]) == (201, "invitation")
    old = await api.world.app.test_client().get(link.removeprefix("https://gateway.example"))
    assert old.status_code != 200, "of two invitations the last holds"


async def test_the_same_idempotency_key_invites_once(api: Api) -> None:
    first = await api.ask("POST", "/users", ANNA, idempotency_key="k")
    again = await api.ask("POST", "/users", ANNA, idempotency_key="k")
    assert (again.status, again.body) == (201, first.body)
    other = await api.ask("POST", "/users", ANNA)
    assert (other.status, other.json["reason"], other.json["errors"][0]["path"]) == (409, "taken", "email")
    assert len(await every(api, "/users")) == 2


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"email": "nobody"}, "email"), ({"role": "operator"}, "role"), ({"role": "king"}, "role"), ({"name": "x" * 101}, "name"),
        ({"phones": ["999"]}, "phones"), ({"password": "x"}, "password"), ({"name": "a\nb"}, "name"),
    ],
    ids=str,
)  # fmt: skip
async def test_what_is_wrong_is_named(api: Api, change: dict[str, str], path: str) -> None:
    assert paths(await api.ask("POST", "/users", {**ANNA, **change})) == {path}
    assert len(await every(api, "/users")) == 1


async def test_changing_somebody(api: Api) -> None:
    where = f"/users/{(await api.ask('POST', '/users', ANNA)).json['id']}"
    changed = await api.ask("PATCH", where, {"role": "auditor", "phones": []})
    assert (changed.status, changed.json["role"], changed.json["phones"], changed.json["name"]) == (
        200,
        "auditor",
        [],
        "Anna",
    )
    assert (await api.ask("GET", where)).json == changed.json
    assert paths(await api.ask("PATCH", where, {"phones": ["999"]})) == {"phones"}
    theirs = await api.new_key(of=MAPLE)
    for method, body in (("GET", None), ("PATCH", {"name": "x"}), ("DELETE", None)):
        assert (await api.ask(method, where, body, x_api_key=theirs)).status == 404
    assert (await api.ask("GET", f"/users/{uuid4()}")).status == 404
    assert (await api.ask("GET", "/users/x")).status == 404


async def test_the_last_admin_stays(api: Api) -> None:
    (admin,) = await every(api, "/users")
    for method, body in (("PATCH", {"role": "agent"}), ("DELETE", None)):
        got = await api.ask(method, f"/users/{admin['id']}", body)
        assert (got.status, got.json["reason"], got.json["errors"][0]["path"]) == (409, "last_admin", "role")
    cookie = await api.world.session(JUNE)
    own = await api.ask(
        "PATCH", f"/users/{admin['id']}", {"role": "agent"}, cookie=f"session={cookie}", x_csrf_token=CSRF
    )
    assert (own.status, own.json["reason"]) == (422, "own_role")


async def test_removing_somebody_ends_what_is_theirs(api: Api) -> None:
    email = "anna@june.example"
    cookie = await api.world.person(JUNE, email, Role.ADMIN)
    headers = {"cookie": f"session={cookie}"}
    assert (await api.ask("GET", "/calls", None, query={}, **headers)).status == 200
    (anna,) = [one for one in await every(api, "/users") if one["email"] == email]
    await api.ask("POST", f"/users/{anna['id']}/link")
    assert (await api.ask("DELETE", f"/users/{anna['id']}")).status == 204
    assert (await api.ask("GET", "/calls", None, query={}, **headers)).status == 401

    async def left(conn: Connection) -> int:
        found: int = await conn.fetchval(
            "SELECT (SELECT count(*) FROM users WHERE email = $1) + (SELECT count(*) FROM sessions WHERE email = $1) "
            "+ (SELECT count(*) FROM login_links WHERE email = $1)",
            email,
        )
        return found

    assert await api.world.db.engine(left) == 0
    assert "user.removed" in [one["action"] for one in await every(api, "/audit")]


async def test_a_key_makes_nobody_who_may_do_more_than_itself(api: Api) -> None:
    key = await api.new_key("write", "read")
    for role, status in (("admin", 403), ("agent", 403), ("auditor", 201)):
        got = await api.ask("POST", "/users", {**ANNA, "email": f"{role}@june.example", "role": role}, x_api_key=key)
        assert (got.status, role) == (status, role)
    people = {one["email"]: one["id"] for one in await every(api, "/users")}
    auditor, admin = people["auditor@june.example"], people["admin@0367.example"]
    assert (await api.ask("PATCH", f"/users/{auditor}", {"role": "admin"}, x_api_key=key)).status == 403
    assert (await api.ask("POST", f"/users/{admin}/link", x_api_key=key)).status == 403
    assert (await api.ask("DELETE", f"/users/{admin}", x_api_key=key)).status == 403
    assert (await api.ask("DELETE", f"/users/{auditor}", x_api_key=key)).status == 204


async def test_agents_and_auditors_change_nobody(api: Api) -> None:
    for role, seen in ((Role.AGENT, 403), (Role.AUDITOR, 200)):
        cookie = await api.world.person(JUNE, f"{role}@june.example", role)
        headers = {"cookie": f"session={cookie}", "x_csrf_token": CSRF}
        assert (await api.ask("GET", "/users", None, query={}, **headers)).status == seen
        assert (await api.ask("POST", "/users", ANNA, query={}, **headers)).status == 403


async def test_who_is_removed_takes_the_keys_along_that_they_made_and_that_these_made(api: Api) -> None:
    email = "anna@june.example"
    cookie = await api.world.person(JUNE, email, Role.ADMIN)
    session = {"cookie": f"session={cookie}", "x_csrf_token": CSRF}
    body = {"name": "sync", "scopes": ["read", "write"]}
    own = (await api.ask("POST", "/keys", body, query={}, **session)).json
    assert (own["owner"], own["owner_kind"]) == (email, "person")
    made = (await api.ask("POST", "/keys", body, x_api_key=own["key"])).json
    assert (made["owner"], made["owner_kind"]) == (email, "person")
    replaced = (await api.ask("POST", f"/keys/{made['id']}/rotate", x_api_key=own["key"])).json
    others = (await api.ask("POST", "/keys", body)).json
    assert (others["owner"], others["owner_kind"]) == (None, "cli")
    token = (await api.ask("POST", "/token", x_api_key=own["key"])).json["access_token"]
    (anna,) = [one for one in await every(api, "/users") if one["email"] == email]
    assert (await api.ask("DELETE", f"/users/{anna['id']}")).status == 204
    await trio.sleep(FRESH_S)
    for key in (own["key"], made["key"], replaced["key"], token):
        assert (await api.ask("GET", "/users", authorization=f"Bearer {key}")).status == 401
    assert (await api.ask("GET", "/users", x_api_key=others["key"])).status == 200
    actions = [(one["action"], one["object"]) for one in await every(api, "/audit")]
    assert {("api_key.revoked", one["prefix"]) for one in (own, made, replaced)} <= set(actions)


async def test_a_second_factor_that_was_lost_is_taken_away(api: Api) -> None:
    email = "anna@june.example"
    cookie = await api.world.person(JUNE, email, Role.ADMIN)
    session = {"cookie": f"session={cookie}", "x_csrf_token": CSRF}

    async def set_up(conn: Connection) -> None:
        await store_factor(conn, email, {JUNE: "sealed"}, 7, [b"c" * 32])

    async def stored(conn: Connection) -> tuple[object, ...]:
        row = await conn.fetchrow("SELECT factor, cardinality(recovery_codes) FROM users WHERE email = $1", email)
        assert row is not None
        return tuple(row)

    (anna,) = [one for one in await every(api, "/users") if one["email"] == email]
    where = f"/users/{anna['id']}/second-factor"
    assert anna["second_factor"] is False
    assert (await api.ask("DELETE", where)).status == 404
    await api.world.db.engine(set_up)
    assert (await api.ask("GET", f"/users/{anna['id']}")).json["second_factor"] is True
    theirs, weak = await api.new_key(of=MAPLE), await api.new_key("write", "read")
    assert (await api.ask("DELETE", where, x_api_key=theirs)).status == 404
    assert (await api.ask("DELETE", where, x_api_key=weak)).status == 403, "a key that may do less than she"
    own = await api.ask("DELETE", where, None, query={}, **session)
    assert (own.status, "My security" in own.json["detail"]) == (409, True)
    assert await api.world.db.engine(stored) == ("sealed", 1)
    assert (await api.ask("DELETE", where)).status == 204
    assert await api.world.db.engine(stored) == ("", 0)
    assert (await api.ask("GET", "/calls", None, query={}, **session)).status == 401, "her sessions have ended"
    assert ("user.factor_reset", email) in [(one["action"], one["object"]) for one in await every(api, "/audit")]
