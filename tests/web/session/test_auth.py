"""Sign-in, sessions, one-time links, CSRF, headers, and how fast passwords may be tried.

Over 400 lines: one sign-in passes all of it.
"""

import re
from ipaddress import ip_network
from typing import Any

import pytest
import trio
from quart import Response

from gateway.domain.ids import OPERATOR
from gateway.domain.secret import Secret
from gateway.store import users
from gateway.store.audit import select_audit
from gateway.store.postgres.pool import Connection
from gateway.web.http.addresses import client_address, network_of
from gateway.web.session import auth
from gateway.web.session.auth import safe_next
from gateway.web.session.devices import device_of, new_device
from gateway.web.session.passwords import hash_password, password_fits
from gateway.web.session.sign_in_audit import SignInAudit
from gateway.web.session.throttle import MOST_BUCKETS, Throttle
from gateway.web.session.tokens import new_token, read_token
from tests.web.conftest import SignIn
from tests.web.world import CSRF, HASHED, JUNE, MAPLE, PASSWORD, World


async def csrf_of(client: Any, path: str = "/login") -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', await (await client.get(path)).get_data(as_text=True))
    assert found is not None
    return found[1]


async def log_in(client: Any, email: str, password: str = PASSWORD, **more: str) -> Response:
    form = {"csrf": await csrf_of(client), "email": email, "password": password, **more}
    response: Response = await client.post("/login", form=form)
    return response


async def test_the_right_password_opens_a_session(world: World) -> None:
    client = world.app.test_client()
    response = await log_in(client, " Admin@0367.example ")
    assert (response.status_code, response.location) == (303, "/")
    cookie = next(c for c in response.headers.getlist("Set-Cookie") if c.startswith("session="))
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Path=/" in cookie
    home = await client.get("/")
    assert home.location == "/t/0367/"
    assert (await client.get(home.location)).status_code == 200
    token = cookie.partition("=")[2].partition(";")[0]
    rows = await world.db.engine(_sessions)
    assert token.startswith("0367.")
    assert [row["tenant_id"] for row in rows] == ["0367"]
    assert token.partition(".")[2].encode() not in rows[0]["token_hash"]


async def _sessions(conn: Connection) -> list[Any]:
    return list(await conn.fetch("SELECT tenant_id, token_hash, email FROM sessions"))


@pytest.mark.parametrize(
    ("email", "password"),
    [
        ("admin@0367.example", "another password"),
        ("nobody@0367.example", PASSWORD),
        ("admin@0367.example", ""),
        ("\x00admin@0367.example", PASSWORD),
        ("admin@0367.example", "p" * 1000),
    ],
)
async def test_anything_else_is_refused_in_the_same_words(world: World, email: str, password: str) -> None:
    client = world.app.test_client()
    response = await log_in(client, email, password)
    assert response.status_code == 401
    assert "password is wrong" in await response.get_data(as_text=True)
    assert await world.db.engine(_sessions) == []


async def test_one_address_in_two_companies_opens_the_one_whose_password_fits(world: World) -> None:
    other = hash_password(Secret("the other password"))
    await world.db.engine(users.upsert_user, MAPLE, "admin@0367.example", other)
    client = world.app.test_client()
    await log_in(client, "admin@0367.example", "the other password")
    assert (await client.get("/")).location == "/t/0368/"


async def test_signing_in_makes_a_new_token_and_ends_the_old_session(world: World) -> None:
    client = world.app.test_client()
    old = await world.session(JUNE)
    client.set_cookie("localhost", "session", old)
    form = {"csrf": CSRF, "email": "admin@0367.example", "password": PASSWORD}
    await client.post("/login", form=form)
    assert len(await world.db.engine(_sessions)) == 1
    client.set_cookie("localhost", "session", old)
    assert (await client.get("/t/0367/calls")).status_code == 303


async def test_signing_out_ends_the_session(world: World, sign_in: SignIn) -> None:
    client = await sign_in()
    assert (await client.post("/logout", form={"csrf": CSRF})).location == "/login"
    assert await world.db.engine(_sessions) == []


async def test_a_new_password_signs_everyone_out(world: World, sign_in: SignIn) -> None:
    client = await sign_in()
    await world.db.engine(users.upsert_user, JUNE, "admin@0367.example", HASHED)
    assert (await client.get("/t/0367/calls")).location.startswith("/login")


@pytest.mark.parametrize("column", ["seen_at = now() - interval '13 hours'", "created_at = now() - interval '8 days'"])
async def test_sessions_end_by_idleness_and_by_age(world: World, sign_in: SignIn, column: str) -> None:
    async def grow_old(conn: Connection) -> None:
        await conn.execute(f"UPDATE sessions SET {column}")

    client = await sign_in()
    assert (await client.get("/t/0367/calls")).status_code == 200
    await world.db.engine(grow_old)
    assert (await client.get("/t/0367/calls")).status_code == 303
    await world.db.engine(users.delete_stale_sessions)
    assert await world.db.engine(_sessions) == []


async def test_a_link_signs_in_once_and_leaves_the_address_bar(world: World) -> None:
    text, token = new_token(MAPLE)
    await world.db.engine(users.insert_login_link, MAPLE, token.token_hash, "admin@0368.example")
    client = world.app.test_client()
    assert (await client.head(f"/login/once?token={text}")).status_code == 204
    looked = await client.get(f"/login/once?token={text}", headers={"Sec-Purpose": "prefetch"})
    assert looked.status_code == 204
    response = await client.get(f"/login/once?token={text}")
    assert (response.status_code, response.location) == (303, "/")
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert (await client.get("/")).location == "/t/0368/"
    again = await world.app.test_client().get(f"/login/once?token={text}")
    assert again.status_code == 410


async def test_a_link_dies_of_age_and_with_its_person(world: World) -> None:
    for email, live_s in (("admin@0367.example", -1.0), ("gone@0367.example", 900.0)):
        text, token = new_token(JUNE)
        await world.db.engine(users.insert_login_link, JUNE, token.token_hash, email, live_s)
        assert (await world.app.test_client().get(f"/login/once?token={text}")).status_code == 410


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/logout", {}),
        ("/preferences", {"language": "ru"}),
        ("/t/0367/integrations/retailcrm/test", {}),
        ("/t/0367/integrations/retailcrm/switch", {"enabled": "0"}),
        ("/t/0367/integrations/retailcrm/settings", {}),
    ],
)
async def test_a_form_without_its_token_is_refused(
    world: World, sign_in: SignIn, path: str, form: dict[str, str]
) -> None:
    client = await sign_in()
    for sent in ({}, {"csrf": "x" * 43}, {"csrf": "ж"}):
        assert (await client.post(path, form={**form, **sent})).status_code == 403
    crossing = {"Sec-Fetch-Site": "cross-site"}
    assert (await client.post(path, form={**form, "csrf": CSRF}, headers=crossing)).status_code == 403
    assert (await client.post(path, json={"csrf": CSRF})).status_code == 403
    assert len(await world.db.engine(_sessions)) == 1
    assert world.tested == []


async def test_sign_in_itself_needs_its_token(world: World) -> None:
    form = {"email": "admin@0367.example", "password": PASSWORD}
    assert (await world.app.test_client().post("/login", form=form)).status_code == 403


async def test_headers_of_pages(world: World, sign_in: SignIn) -> None:
    client = await sign_in()
    for path in ("/login", "/t/0367/calls", "/nowhere"):
        response = await client.get(path)
        policy = response.headers["Content-Security-Policy"] if response.mimetype == "text/html" else ""
        if response.status_code != 303:
            nonce = re.search(r"script-src 'nonce-([^']+)'", policy)
            assert nonce is not None
            page = await response.get_data(as_text=True)
            loaded = re.findall(r'<script[^>]*>|<link rel="stylesheet"[^>]*>', page)
            assert len(loaded) >= 2
            assert all(f'nonce="{nonce[1]}"' in one for one in loaded)
            assert "<script>" not in page
            assert " style=" not in page
            for part in ("default-src 'none'", "object-src 'none'", "base-uri 'none'", "frame-ancestors 'none'"):
                assert part in policy
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["Referrer-Policy"] == "no-referrer"
        assert "Strict-Transport-Security" not in response.headers


async def test_https_binds_cookies_to_the_host_and_says_so(world: World) -> None:
    client = world.app_with(secure_cookies=True).test_client()
    response = await client.get("/login", scheme="https")
    assert response.headers["Strict-Transport-Security"].startswith("max-age=31536000")
    cookie = response.headers["Set-Cookie"]
    assert cookie.startswith("__Host-form=")
    assert "Secure" in cookie
    assert "Domain" not in cookie


async def test_fast_guesses_are_sent_away_and_the_owner_is_not(world: World) -> None:
    stranger, owner = world.app.test_client(), world.app.test_client()
    assert (await log_in(owner, "admin@0367.example")).status_code == 303
    elsewhere = {"scope_base": {"client": ("198.51.100.7", 1)}}
    csrf = await csrf_of(stranger)
    form = {"csrf": csrf, "email": "admin@0367.example", "password": "guess"}
    seen = [(await stranger.post("/login", form=form, **elsewhere)) for _ in range(6)]
    assert [response.status_code for response in seen] == [401] * 5 + [429]
    assert int(seen[-1].headers["Retry-After"]) >= 1
    assert "Too many attempts" in await seen[-1].get_data(as_text=True)
    await owner.post("/logout", form={"csrf": await csrf_of(owner, "/t/0367/calls")})
    assert (await log_in(owner, "admin@0367.example")).status_code == 303


def test_buckets_fill_again_and_are_bounded() -> None:
    throttle = Throttle()
    for second in range(5):
        assert throttle.attempt("a", "n", second / 10).delay_s == 0
    assert throttle.attempt("a", "n", 0.5).refused_s is not None
    assert 0 < throttle.attempt("a", "n", 2.5).delay_s < 4
    assert throttle.attempt("a", "n", 60.0).delay_s == 0
    for number in range(MOST_BUCKETS + 50):
        throttle.attempt(f"a{number}", f"n{number}", number * 1.0)
        throttle.succeeded(f"a{number}", f"n{number}", number * 1.0)
    assert len(throttle) <= 3 * MOST_BUCKETS


def test_neighbours_count_as_one() -> None:
    assert network_of("203.0.113.9") == network_of("203.0.113.200") == network_of("::ffff:203.0.113.1")
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff:1")
    assert network_of("2001:db8:0:1::1") != network_of("2001:db8::1")
    assert network_of("nonsense") == "unknown"


@pytest.mark.parametrize(
    "address",
    ["//evil.example", "/\\evil.example", "https://evil.example", "", None, "/a\nb", "evil", "/x\\y", "/" * 3000],
)
def test_only_our_own_addresses_are_gone_on_to(address: str | None) -> None:
    assert safe_next(address) == "/"


def test_our_own_address_is_kept() -> None:
    assert safe_next("/t/0367/calls?q=1") == "/t/0367/calls?q=1"


def test_tokens_read_back_and_nothing_else_does() -> None:
    for tenant in (None, JUNE):
        text, token = new_token(tenant)
        assert read_token(text) == token
    for text in ("", "-", "-.short", "0367." + "x" * 44, "a/b." + "x" * 43, "0367." + "ж" * 43):
        assert read_token(text) is None


def test_passwords_fit_their_own_hash_alone() -> None:
    assert password_fits(HASHED, Secret(PASSWORD))
    assert not password_fits(HASHED, Secret("x"))
    assert not password_fits("not a hash", Secret(PASSWORD))
    assert HASHED.startswith("$argon2id$")


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "address"),
    [
        ("198.51.100.7", "", "198.51.100.7"),
        ("198.51.100.7", "203.0.113.1", "198.51.100.7"),  # not a proxy of ours: its header is not believed
        ("127.0.0.1", "", "127.0.0.1"),
        ("127.0.0.1", "203.0.113.1", "203.0.113.1"),
        ("127.0.0.1", "10.9.9.9, 203.0.113.1, 127.0.0.2", "203.0.113.1"),  # what the client wrote stands to the left
        ("127.0.0.1", "203.0.113.1, nonsense", "nonsense"),
    ],
)
def test_the_address_behind_a_trusted_proxy(peer: str, forwarded_for: str, address: str) -> None:
    assert client_address(peer, forwarded_for, (ip_network("127.0.0.0/8"),)) == address


# Known devices, equal time, links from elsewhere, and the audit


async def test_a_known_device_is_not_held_up_by_guesses_from_elsewhere(world: World) -> None:
    """Neither by those at its account, nor by a flood at all accounts, wherever the owner is now."""
    owner, stranger = world.app.test_client(), world.app.test_client()
    first = await log_in(owner, "admin@0367.example")
    cookie = next(c for c in first.headers.getlist("Set-Cookie") if c.startswith("device="))
    assert "HttpOnly" in cookie
    assert "Max-Age=31536000" in cookie
    await owner.post("/logout", form={"csrf": await csrf_of(owner, "/t/0367/calls")})
    form = {"csrf": await csrf_of(stranger), "email": "admin@0367.example", "password": "guess"}
    for turn in range(12):
        await stranger.post("/login", form=form, scope_base={"client": (f"198.51.{turn}.7", 1)})
    refused = await stranger.post("/login", form=form, scope_base={"client": ("203.0.113.7", 1)})
    assert refused.status_code == 429
    form = {"csrf": await csrf_of(owner), "email": "admin@0367.example", "password": PASSWORD}
    elsewhere = {"scope_base": {"client": ("203.0.113.7", 1)}}  # a network that has never signed in
    assert (await owner.post("/login", form=form, **elsewhere)).status_code == 303


def test_a_device_is_an_accounts_own_and_cannot_be_made_up() -> None:
    key, now = b"k" * 32, 1_800_000_000.0
    cookie = new_device(key, "a@june.example", now)
    assert device_of(key, "a@june.example", cookie, now) == cookie.partition(".")[0]
    assert device_of(key, "b@june.example", cookie, now) is None
    assert device_of(b"x" * 32, "a@june.example", cookie, now) is None
    assert device_of(key, "a@june.example", cookie, now + 366 * 86400) is None
    for made_up in (
        "",
        "x",
        cookie[:-1] + ("1" if cookie[-1] == "0" else "0"),
        cookie.replace(".", ".1", 1),
        "a" * 16 + cookie[16:] + "0",
    ):
        assert device_of(key, "a@june.example", made_up, now) is None
    throttle = Throttle()
    for _ in range(200):
        throttle.attempt("a", "n", 0.0)
    assert throttle.attempt("a", "n", 0.0).refused_s is not None
    assert throttle.attempt("a", "n", 0.0, "device").delay_s == 0.0
    for _ in range(5):
        throttle.attempt("a", "n", 0.0, "device")
    assert throttle.attempt("a", "n", 0.0, "device").refused_s is not None, "who stole it guesses no faster"


async def test_every_sign_in_compares_as_many_passwords(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted, not timed: known or unknown, right or wrong, one company or two."""
    compared: list[str] = []

    def counted(stored: str, password: Secret) -> bool:
        compared.append(stored)
        return password_fits(stored, password)

    monkeypatch.setattr(auth, "password_fits", counted)
    counts = []
    for twice in (False, True):
        if twice:
            await world.db.engine(users.upsert_user, MAPLE, "admin@0367.example", HASHED)
        for email, password in (
            ("admin@0367.example", "wrong"), ("admin@0367.example", PASSWORD), ("admin@0368.example", "wrong"),
            ("nobody@0367.example", PASSWORD), ("no address", PASSWORD), ("operator@gateway.example", "wrong"),
        ):  # fmt: skip
            compared.clear()
            await log_in(world.app.test_client(), email, password)
            counts.append(len(compared))
    assert counts == [1] * 6 + [2] * 6


@pytest.mark.parametrize("came_from", ["cross-site", "same-site"])
@pytest.mark.parametrize("signed_in", [True, False])
async def test_a_link_from_another_site_asks_first(
    world: World, sign_in: SignIn, came_from: str, signed_in: bool
) -> None:
    text, token = new_token(MAPLE)
    await world.db.engine(users.insert_login_link, MAPLE, token.token_hash, "admin@0368.example")
    client = await sign_in() if signed_in else world.app.test_client()
    asked = await client.get(f"/login/once?token={text}", headers={"Sec-Fetch-Site": came_from})
    page = await asked.get_data(as_text=True)
    assert (asked.status_code, "Another site has opened" in page, 'action="/login/once"' in page) == (200, True, True)
    assert ("end the session" in page) is signed_in
    if signed_in:
        assert (await client.get("/")).location == "/t/0367/", "the session goes on"
    form = {"csrf": "x" * 43, "token": text}
    assert (await client.post("/login/once", form=form)).status_code == 403
    form["csrf"] = CSRF if signed_in else next(iter(re.findall(r'name="csrf" value="([^"]+)"', page)))
    assert (await client.post("/login/once", form=form)).location == "/"
    assert (await client.get("/")).location == "/t/0368/"
    assert (
        await client.post("/login/once", form={"csrf": await csrf_of(client, "/t/0368/calls"), "token": text})
    ).status_code == 410


@pytest.mark.parametrize(("came_from", "asks"), [("none", False), ("same-origin", False), (None, True)])
async def test_a_link_that_somebody_opened_themselves_asks_nothing(
    world: World, sign_in: SignIn, came_from: str | None, asks: bool
) -> None:
    """A browser that does not say where it came from is asked where a session would be lost."""
    text, token = new_token(MAPLE)
    await world.db.engine(users.insert_login_link, MAPLE, token.token_hash, "admin@0368.example")
    client = await sign_in()
    headers = {"Sec-Fetch-Site": came_from} if came_from else {}
    assert (await client.get(f"/login/once?token={text}", headers=headers)).status_code == (200 if asks else 303)


async def test_sign_ins_and_operators_stand_in_the_audit(world: World, sign_in: SignIn) -> None:
    audit = SignInAudit(world.db)
    app = world.app_with(sign_ins=audit)
    await log_in(app.test_client(), "admin@0367.example", "wrong")
    await log_in(app.test_client(), "admin@0367.example")
    await log_in(app.test_client(), "nobody@0367.example")
    text, token = new_token(JUNE)
    await world.db.engine(users.insert_login_link, JUNE, token.token_hash, "admin@0367.example")
    await app.test_client().get(f"/login/once?token={text}")
    await log_in(app.test_client(), "operator@gateway.example")
    await audit.flush()
    lines = await world.db.tenant(JUNE, select_audit, JUNE, None, 50)
    assert [(line.action, line.actor) for line in reversed(lines)] == [
        ("session.refused", "admin@0367.example"), ("session.opened", "admin@0367.example"),
        ("session.opened_by_link", "admin@0367.example"),
    ]  # fmt: skip
    lines = await world.db.engine(select_audit, OPERATOR, None, 50)
    assert [(line.action, line.actor) for line in lines] == [("session.opened", "operator@gateway.example")]
    page = await (await (await sign_in()).get("/t/0367/audit")).get_data(as_text=True)
    assert "Sign-in refused" in page


async def test_a_flood_of_failures_is_a_line_with_a_count(world: World, autojump_clock: trio.abc.Clock) -> None:
    audit = SignInAudit(world.db)
    accounts = await world.db.engine(users.select_accounts, "admin@0367.example")
    for _ in range(500):
        audit.refused(accounts, "admin@0367.example", "198.51.100.0/24")
    await trio.sleep(61)
    await audit.flush()
    lines = await world.db.tenant(JUNE, select_audit, JUNE, None, 1000)
    assert len(lines) == 31
    assert (lines[0].action, lines[0].target) == ("session.refused_more", "470")
