"""The page of people, invitations and resets, and what is one's own: password and sessions."""

import re
from typing import Any, cast

import pytest

from actors.notices import Mails
from gateway.domain.errors import Unavailable
from gateway.domain.people import Role
from gateway.smtp import Smtp
from gateway.store import members, users
from gateway.store.audit import select_audit
from gateway.store.postgres.pool import Connection
from gateway.web.pages.account import device_name
from gateway.web.session.link_letters import LinkLetters
from tests.web.conftest import SignIn, submitted
from tests.web.session.test_auth import csrf_of, log_in
from tests.web.world import CSRF, HASHED, JUNE, PASSWORD, World

NEW = "several new words"
PEOPLE = "/t/0367/people"


async def text(client: Any, path: str) -> str:
    return str(await (await client.get(path)).get_data(as_text=True))


async def invited(client: Any, email: str = "anna@june.example", **more: str) -> tuple[str, str]:
    """Invites somebody. Returns their page and the link's path."""
    form = {"csrf": CSRF, "email": email, "name": "Anna", "role": "agent", "phones": "150, 151", **more}
    page = await submitted(client, PEOPLE, form)
    link = re.findall(r"http://localhost:8000(/welcome\?token=[\w.-]+)", page)
    person = re.findall(rf'href="({PEOPLE}/[0-9a-f-]{{36}})" aria-label="Edit {email}"', page)
    return person[0], link[0]


async def accepted(world: World, link: str, password: str = NEW) -> Any:
    client = world.app.test_client()
    client.set_cookie("localhost", "language", "en")
    form = {"csrf": await csrf_of(client, link), "token": link.partition("=")[2], "password": password}
    return client, await client.post("/welcome", form=form)


async def test_an_invitation_from_the_page_to_the_first_call(world: World, sign_in: SignIn) -> None:
    admin = await sign_in()
    person, link = await invited(admin)
    assert link not in await text(admin, PEOPLE), "shown once"
    assert "Invited" in await text(admin, person)
    assert (await log_in(world.app.test_client(), "anna@june.example", NEW)).status_code == 401
    page = await text(world.app.test_client(), link)
    assert "June" in page
    client, answer = await accepted(world, link, "password12")
    assert answer.location.endswith("&wrong=common")
    assert "tried first" in await text(client, answer.location)
    client, answer = await accepted(world, link)
    assert answer.location == "/"
    assert (await client.get("/t/0367/calls")).status_code == 200
    assert (await client.get("/t/0367/keys")).status_code == 403
    assert "Anna" in await text(admin, PEOPLE)
    again = await world.app.test_client().get(link, headers={"Accept-Language": "en"})
    assert again.status_code == 410
    assert "used already" in await again.get_data(as_text=True)
    lines = [(line.actor, line.action) for line in reversed(await world.db.tenant(JUNE, select_audit, JUNE, None, 9))]
    assert lines == [
        ("admin@0367.example", "user.added"), ("admin@0367.example", "user.invitation"),
        ("anna@june.example", "user.invitation_used"),
    ]  # fmt: skip


async def test_links_say_what_has_become_of_them(world: World, sign_in: SignIn) -> None:
    async def grow_old(conn: Connection) -> None:
        await conn.execute("UPDATE login_links SET expires_at = now() - interval '1 minute' WHERE used_at IS NULL")

    admin = await sign_in()
    person, first = await invited(admin)
    page = await submitted(admin, f"{person}/link", {"csrf": CSRF})
    second = re.findall(r"(/welcome\?token=[\w.-]+)", page)[0]
    client = world.app.test_client()
    client.set_cookie("localhost", "language", "en")
    assert "newer one has taken its place" in await text(client, first)
    await world.db.engine(grow_old)
    assert "has expired" in await text(client, second)
    for link in ("/welcome?token=0367." + "x" * 43, "/welcome", "/welcome?token=" + "x" * 3000):
        assert "no such link" in await text(client, link)
    for link in (first, second):
        form = {"csrf": await csrf_of(client), "token": link.partition("=")[2], "password": NEW}
        assert (await client.post("/welcome", form=form)).location.startswith("/welcome?token=")
    assert (await log_in(client, "anna@june.example", NEW)).status_code == 401
    assert (await client.get(f"/login/once?token={second.partition('=')[2]}")).status_code == 410, (
        "no way to sign in by it"
    )


async def test_a_reset_ends_what_was_open_and_the_old_password(world: World, sign_in: SignIn) -> None:
    admin, theirs = await sign_in(), world.app.test_client()
    theirs.set_cookie("localhost", "session", await world.person(JUNE, "anna@june.example", Role.AGENT, ["150"]))
    (anna,) = [one for one in await world.db.engine(members.list_members, JUNE) if one.email == "anna@june.example"]
    page = await submitted(admin, f"{PEOPLE}/{anna.user_id}/link", {"csrf": CSRF})
    link = re.findall(r"(/welcome\?token=[\w.-]+)", page)[0]
    assert (await theirs.get("/t/0367/calls")).status_code == 200, "nothing has happened yet"
    await accepted(world, link)
    assert (await theirs.get("/t/0367/calls")).status_code == 303
    assert (await log_in(world.app.test_client(), "anna@june.example", PASSWORD)).status_code == 401
    assert (await log_in(world.app.test_client(), "anna@june.example", NEW)).status_code == 303


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [("email", "anna", "not an e-mail"), ("email", "admin@0367.example", "already"), ("role", "operator", "one of the roles"),
     ("phones", "150, 199", "internal numbers of the company"), ("name", "x" * 101, "at most 100")],
)  # fmt: skip
async def test_bad_input_is_named_and_loses_nothing(
    world: World, sign_in: SignIn, field: str, value: str, said: str
) -> None:
    client = await sign_in()
    form = {"csrf": CSRF, "email": "anna@june.example", "name": "Anna", "role": "agent", "phones": "150"}
    page = await submitted(client, PEOPLE, {**form, field: value})
    assert said in page
    assert 'value="150' in page
    assert len(await world.db.engine(members.list_members, JUNE)) == 1


async def test_changes_and_what_is_refused_with_words(world: World, sign_in: SignIn) -> None:
    admin = await sign_in()
    person, link = await invited(admin)
    await submitted(admin, person, {"csrf": CSRF, "name": "Anna K", "role": "auditor", "phones": ""})
    (anna,) = [one for one in await world.db.engine(members.list_members, JUNE) if one.name]
    assert (anna.name, anna.role, anna.phones) == ("Anna K", Role.AUDITOR, ())
    (own,) = [one for one in await world.db.engine(members.list_members, JUNE) if not one.name]
    page = await submitted(admin, f"{PEOPLE}/{own.user_id}", {"csrf": CSRF, "name": "", "role": "agent", "phones": ""})
    assert "Nobody changes their own role" in page
    page = await submitted(admin, f"{PEOPLE}/{own.user_id}/remove", {"csrf": CSRF, "sure": "1"})
    assert "last admin" in page
    assert (await admin.post(f"{person}/remove", form={"csrf": CSRF})).location == f"{person}/remove"
    assert "Remove Anna K?" in await text(admin, f"{person}/remove")
    await submitted(admin, f"{person}/remove", {"csrf": CSRF, "sure": "1"})
    assert (await admin.get(person)).status_code == 404
    assert (await world.app.test_client().get(link)).status_code == 410


async def test_ones_own_password_ends_the_other_sessions(world: World, sign_in: SignIn) -> None:
    client, other = await sign_in(), await sign_in()
    where = "/account/security/password"
    assert "present password is wrong" in await submitted(client, where, {"csrf": CSRF, "current": "x", "new": NEW})
    assert "10 to 256" in await submitted(client, where, {"csrf": CSRF, "current": PASSWORD, "new": "short"})
    assert (await other.get("/t/0367/calls")).status_code == 200
    assert "new password is set" in await submitted(client, where, {"csrf": CSRF, "current": PASSWORD, "new": NEW})
    assert [(await one.get("/t/0367/calls")).status_code for one in (client, other)] == [200, 303]
    assert (await log_in(world.app.test_client(), "admin@0367.example", NEW)).status_code == 303


async def test_sessions_are_listed_and_ended(world: World) -> None:
    clients = []
    for agent in ("Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0", "Mozilla/5.0 (iPhone) Safari/600", "curl/8"):
        client = world.app.test_client()
        client.set_cookie("localhost", "language", "en")
        form = {"csrf": await csrf_of(client), "email": "admin@0367.example", "password": PASSWORD}
        await client.post("/login", form=form, headers={"User-Agent": agent})
        clients.append(client)
    page = await text(clients[0], "/account/sessions")
    assert [name for name in ("Firefox, Linux", "Safari, iPhone", "curl") if name in page] == [
        "Firefox, Linux",
        "Safari, iPhone",
        "curl",
    ]
    ids = re.findall(r'name="session" value="(\w+)"', page)
    assert len(ids) == 2, "not one's own"
    csrf = await csrf_of(clients[0], "/account/sessions")
    assert (await clients[0].post("/account/sessions/end", form={"csrf": csrf, "session": "x"})).status_code == 404
    await submitted(clients[0], "/account/sessions/end", {"csrf": csrf, "session": ids[0]})
    assert sorted([(await one.get("/t/0367/calls")).status_code for one in clients]) == [200, 200, 303]
    await submitted(clients[0], "/account/sessions/end-others", {"csrf": csrf})
    assert [(await one.get("/t/0367/calls")).status_code for one in clients] == [200, 303, 303]


async def test_nobody_ends_anothers_session(world: World, sign_in: SignIn) -> None:
    admin = await sign_in()
    agent = world.app.test_client()
    agent.set_cookie("localhost", "session", await world.person(JUNE, "anna@june.example", Role.AGENT))
    agent.set_cookie("localhost", "language", "en")
    page = await text(admin, "/account/sessions")
    assert "anna" not in page
    await agent.post("/account/sessions/end-others", form={"csrf": CSRF})
    assert (await admin.get("/t/0367/calls")).status_code == 200


async def test_signing_in_to_another_company_keeps_the_first(world: World) -> None:
    from gateway.domain.secret import Secret
    from gateway.web.session.passwords import hash_password
    from tests.web.world import MAPLE

    await world.db.engine(users.upsert_user, MAPLE, "admin@0367.example", hash_password(Secret(NEW)))
    client = world.app.test_client()
    await log_in(client, "admin@0367.example")
    form = {"csrf": await csrf_of(client, "/login?another=1"), "email": "admin@0367.example", "password": NEW}
    assert (await client.post("/login", form=form)).status_code == 303
    assert [(await client.get(f"/t/{number}/calls")).status_code for number in (JUNE, MAPLE)] == [200, 200]
    form = {"csrf": await csrf_of(client, "/t/0368/calls"), "email": "admin@0368.example", "password": PASSWORD}
    await client.post("/login", form=form)
    assert [(await client.get(f"/t/{number}/calls")).status_code for number in (JUNE, MAPLE)] == [404, 200], (
        "nothing of somebody else"
    )


def test_devices_have_names() -> None:
    assert device_name("Mozilla/5.0 (Windows NT 10.0) Chrome/140 Safari/537 Edg/140") == "Edge, Windows"
    assert device_name("") == ""
    assert device_name("strange" * 20) == ("strange" * 20)[:40]
    assert HASHED


class Post:
    """Takes letters, or raises."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, str]] = []
        self.error: Exception | None = None

    async def send(self, to: str, subject: str, text: str) -> None:
        if self.error is not None:
            raise self.error
        self.sent.append((to, subject, text))


async def test_an_invitation_by_mail_is_a_link_made_as_the_letter_leaves(world: World, sign_in: SignIn) -> None:
    admin, post = await sign_in(), Post()
    assert "by mail" not in await text(admin, PEOPLE), "there is no mail"
    object.__setattr__(world.deps, "mail", True)
    mails = Mails(world.db, cast(Smtp, post), LinkLetters(world.db, world.cache, "http://localhost:8000").write)
    form = {"csrf": CSRF, "email": "anna@june.example", "name": "Anna", "role": "agent", "phones": "", "by": "mail"}
    page = await submitted(admin, PEOPLE, form)
    assert "A letter with a link goes to anna@june.example" in page
    assert "/welcome?token" not in page

    async def stored(conn: Connection) -> list[tuple[Any, ...]]:
        links = await conn.fetchval("SELECT count(*) FROM login_links WHERE purpose <> 'sign_in'")
        return [(*row, links) for row in await conn.fetch("SELECT recipient, subject, body, link_purpose FROM mails")]

    assert await world.db.engine(stored) == [("anna@june.example", "", "", "invitation", 0)]
    post.error = Unavailable("mail.example does not answer")
    assert await mails.send_due() == "mail.example does not answer"
    person = re.findall(rf'href="({PEOPLE}/[0-9a-f-]{{36}})" aria-label="Edit anna@', await text(admin, PEOPLE))[0]
    post.error = None
    await submitted(admin, f"{person}/link", {"csrf": CSRF, "by": "mail"})  # in place of the one that waits
    assert await mails.send_due() == ""
    ((to, subject, letter),) = post.sent
    assert (to, subject) == ("anna@june.example", "June: приглашение"), "in the company's language"
    _, answer = await accepted(world, re.findall(r"http://localhost:8000(/welcome\?token=[\w.-]+)", letter)[0])
    assert answer.location == "/"

    await submitted(admin, f"{person}/link", {"csrf": CSRF, "by": "mail"})
    await submitted(admin, f"{person}/remove", {"csrf": CSRF, "sure": "1"})
    assert await mails.send_due() == ""
    assert len(post.sent) == 1, "nobody is there any more"
    assert await world.db.engine(stored) == []
