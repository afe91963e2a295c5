"""Codes, once each and only near their time; recovery codes; what a company demands; how the second factor is set up and lost."""

import re
import time
from typing import Any

import pyotp
import pytest

from gateway.domain.people import Role
from gateway.store import own_account, second_factors, users
from gateway.store.audit import select_audit
from gateway.store.postgres.pool import Connection
from gateway.store.secrets.rotation import Rotation
from gateway.store.secrets.seal import parse_master_keys
from gateway.web.session.second_factor import STEP_S, judge, new_recovery_codes, recovery_hash
from tests.web.conftest import SignIn, submitted
from tests.web.session.test_auth import csrf_of, log_in
from tests.web.world import CSRF, HASHED, JUNE, MAPLE, PASSWORD, World

SECRET = pyotp.random_base32()
NOW = 1_800_000_000.0
ADMIN, OPERATOR = "admin@0367.example", "operator@gateway.example"


def code_at(offset_s: float, secret: str = SECRET, now: float = NOW) -> str:
    return pyotp.TOTP(secret).at(int(now + offset_s))


@pytest.mark.parametrize(
    ("offset_s", "good"), [(0, True), (-STEP_S, True), (STEP_S, True), (-3 * STEP_S, False), (3 * STEP_S, False)]
)
def test_a_code_of_now_and_of_its_neighbours(offset_s: int, good: bool) -> None:
    judged = judge(SECRET, code_at(offset_s), NOW, 0)
    assert (judged.step is not None) is good
    if not good:
        assert (judged.wrong, judged.off_s) == ("clock", offset_s)
    spaced = code_at(offset_s)[:3] + " " + code_at(offset_s)[3:]
    assert judge(SECRET, spaced, NOW, 0) == judged


def test_no_code_twice_and_none_older_than_the_last() -> None:
    step = judge(SECRET, code_at(0), NOW, 0).step
    assert step is not None
    assert judge(SECRET, code_at(0), NOW, step).wrong == "used"
    assert judge(SECRET, code_at(-STEP_S), NOW, step).wrong == "used"
    assert judge(SECRET, code_at(STEP_S), NOW, step).step == step + 1
    for text in ("", "12345", "1234567", "abcdef", "٠١٢٣٤٥", code_at(-600)):
        assert judge(SECRET, text, NOW, 0).wrong == "wrong"


def test_recovery_codes_are_ten_and_read_in_any_form() -> None:
    codes = new_recovery_codes()
    assert len({*codes}) == 10
    assert all(re.fullmatch("[a-z2-7]{4}(-[a-z2-7]{4}){3}", code) for code in codes)
    assert recovery_hash(codes[0]) == recovery_hash(codes[0].upper().replace("-", " "))
    assert codes[0].encode() not in recovery_hash(codes[0])


async def set_up(client: Any, csrf: str = CSRF) -> tuple[str, list[str]]:
    """Switches it on as a person does. Returns the secret and the recovery codes."""
    page = str(await (await client.get("/account/security")).get_data(as_text=True))
    secret = re.findall("<code>([A-Z2-7]{32})</code>", page)[0]
    assert "<svg" in page
    shown = await submitted(
        client, "/account/security/factor", {"csrf": csrf, "code": pyotp.TOTP(secret).at(int(time.time()) - STEP_S)}
    )
    codes = re.findall("[a-z2-7]{4}(?:-[a-z2-7]{4}){3}", shown)
    assert len(codes) == 10
    return secret, codes


async def stored(world: World) -> str:
    async def texts(conn: Connection) -> str:
        rows = (
            await conn.fetch("SELECT * FROM users")
            + await conn.fetch("SELECT * FROM flashes")
            + await conn.fetch("SELECT * FROM audit")
        )
        return "\n".join(str(tuple(row)) for row in rows)

    return await world.db.engine(texts)


async def test_set_up_then_asked_for(world: World, sign_in: SignIn) -> None:
    client, elsewhere = await sign_in(), await sign_in()
    secret, codes = await set_up(client)
    assert (await elsewhere.get("/t/0367/calls")).status_code == 303, "other sessions ended"
    rows = await stored(world)
    assert secret not in rows
    assert not [code for code in codes if code in rows]
    again = str(await (await client.get("/account/security")).get_data(as_text=True))
    assert not [code for code in codes if code in again], "shown once"
    fresh = world.app.test_client()
    fresh.set_cookie("localhost", "language", "en")
    assert (await log_in(fresh, ADMIN)).location == "/login/code"
    assert (await fresh.get("/t/0367/calls")).status_code == 303, "the password alone opens nothing"
    form = {"csrf": await csrf_of(fresh, "/login/code")}
    code = pyotp.TOTP(secret).now()
    for wrong, text in (
        ("000000", "code is wrong"),
        (pyotp.TOTP(secret).at(int(time.time()) + 4 * STEP_S - 15), "seconds fast"),
    ):
        answer = await fresh.post("/login/code", form={**form, "code": wrong})
        assert answer.status_code == 401
        assert text in await answer.get_data(as_text=True)
    answer = await fresh.post("/login/code", form={**form, "code": code})
    assert (answer.status_code, answer.location) == (303, "/")
    assert (await fresh.get("/t/0367/calls")).status_code == 200
    replay = world.app.test_client()
    replay.set_cookie("localhost", "language", "en")
    await log_in(replay, ADMIN)
    form = {"csrf": await csrf_of(replay, "/login/code")}
    answer = await replay.post("/login/code", form={**form, "code": code})
    assert answer.status_code == 401
    assert "used already" in await answer.get_data(as_text=True)
    assert (await replay.post("/login/code", form={**form, "code": codes[3].upper()})).status_code == 303
    last = world.app.test_client()
    await log_in(last, ADMIN)
    answer = await last.post("/login/code", form={"csrf": await csrf_of(last, "/login/code"), "code": codes[3]})
    assert answer.status_code == 401, "a recovery code works once"


async def test_a_link_is_no_way_round_it(world: World, sign_in: SignIn) -> None:
    from gateway.web.session.tokens import new_token

    await set_up(await sign_in())
    text, token = new_token(JUNE)
    await world.db.engine(users.insert_login_link, JUNE, token.token_hash, ADMIN)
    client = world.app.test_client()
    assert (await client.get(f"/login/once?token={text}")).location == "/login/code"
    assert (await client.get("/t/0367/calls")).status_code == 303


async def test_the_second_step_needs_the_first(world: World, sign_in: SignIn) -> None:
    secret, _ = await set_up(await sign_in())
    client = world.app.test_client()
    csrf = await csrf_of(client)
    for cookie in ("", "x", "e30=.00", "x" * 3000):
        if cookie:
            client.set_cookie("localhost", "step", cookie)
        answer = await client.post("/login/code", form={"csrf": csrf, "code": pyotp.TOTP(secret).now()})
        assert answer.location == "/login"
    await log_in(client, ADMIN)
    await world.db.engine(users.upsert_user, JUNE, ADMIN, HASHED + " ")
    assert (await client.get("/login/code")).location == "/login", "the password is another one since"


async def test_codes_are_guessed_slowly(world: World, sign_in: SignIn) -> None:
    await set_up(await sign_in())
    client = world.app.test_client()
    client.set_cookie("localhost", "language", "en")
    await log_in(client, ADMIN)
    form = {"csrf": await csrf_of(client, "/login/code")}
    seen = [await client.post("/login/code", form={**form, "code": "000000"}) for _ in range(6)]
    assert [answer.status_code for answer in seen] == [401] * 5 + [429]
    assert int(seen[-1].headers["Retry-After"]) >= 1
    assert "Too many attempts" in await seen[-1].get_data(as_text=True)


async def test_what_a_company_demands(world: World) -> None:
    await world.db.engine(own_account.set_demand, JUNE, True, "a test")
    client = world.app.test_client()
    client.set_cookie("localhost", "session", await world.person(JUNE, "a@0367.example", Role.AGENT, ["150"]))
    client.set_cookie("localhost", "language", "en")
    for path in ("/t/0367/calls", "/t/0367/dialling", "/t/0367/keys"):
        answer = await client.get(path)
        assert (answer.status_code, answer.location) == (303, "/account/security?required=1")
    assert (await client.get("/t/0367/calls/live", headers={"Accept": "text/event-stream"})).status_code == 401
    assert "demands a second factor" in str(await (await client.get("/account/security")).get_data(as_text=True))
    secret, _ = await set_up(client)
    assert (await client.get("/t/0367/calls")).status_code == 200
    await submitted(client, "/account/security/factor/remove", {"csrf": CSRF, "code": pyotp.TOTP(secret).now()})
    assert (await client.get("/t/0367/calls")).status_code == 303
    await world.db.engine(own_account.set_demand, JUNE, False, "a test")
    assert (await client.get("/t/0367/calls")).status_code == 200
    assert not await world.db.engine(own_account.select_demand, JUNE)


async def test_an_operators_second_factor(world: World, sign_in: SignIn) -> None:
    secret, _ = await set_up(await sign_in(None))
    client = world.app.test_client()
    assert (await log_in(client, OPERATOR)).location == "/login/code"
    form = {"csrf": await csrf_of(client, "/login/code"), "code": pyotp.TOTP(secret).now()}
    assert (await client.post("/login/code", form=form)).status_code == 303
    assert (await client.get("/operators/tenants")).status_code == 200


async def test_one_code_for_all_of_a_persons_companies(world: World) -> None:
    await world.db.engine(users.upsert_user, MAPLE, ADMIN, HASHED)
    client = world.app.test_client()
    await log_in(client, ADMIN)
    secret, _ = await set_up(client, await csrf_of(client, "/t/0367/calls"))
    fresh = world.app.test_client()
    await log_in(fresh, ADMIN)
    await fresh.post(
        "/login/code", form={"csrf": await csrf_of(fresh, "/login/code"), "code": pyotp.TOTP(secret).now()}
    )
    assert [(await fresh.get(f"/t/{number}/calls")).status_code for number in (JUNE, MAPLE)] == [200, 200]
    factors = await world.db.engine(second_factors.select_factors, ADMIN, [JUNE, MAPLE])
    assert len({one.sealed for one in factors}) == 2, "sealed with each company's own key"


async def test_two_requests_with_one_code_open_one_session(world: World, sign_in: SignIn) -> None:
    await set_up(await sign_in())
    factors = await world.db.engine(second_factors.select_factors, ADMIN, [JUNE])
    step = factors[0].last_step + 1
    assert [await world.db.engine(second_factors.use_step, ADMIN, [JUNE], step) for _ in range(2)] == [True, False]


async def test_a_new_master_key_takes_second_factors_with_it(world: World, sign_in: SignIn) -> None:
    from gateway.store.secrets.seal import new_master_key

    for tenant in (JUNE, None):
        await set_up(await sign_in(tenant))
    master = world.deps.master
    assert master is not None
    both = parse_master_keys("\n".join([new_master_key(), *(key.line() for key in master.keys)]))
    rotation = Rotation(world.db, both, lambda *_: None)
    while await rotation.run_pass():
        pass
    assert not rotation.damaged
    rows = [
        *await world.db.engine(second_factors.select_factors, ADMIN, [JUNE]),
        *await world.db.engine(second_factors.select_factors, OPERATOR, [None]),
    ]
    assert [row.sealed.split(":")[2] for row in rows] == [both.current.id] * 2


async def test_what_is_done_to_it_is_in_the_audit(world: World, sign_in: SignIn) -> None:
    client = await sign_in()
    _, codes = await set_up(client)
    shown = await submitted(client, "/account/security/codes", {"csrf": CSRF, "code": codes[0]})
    fresh = re.findall("[a-z2-7]{4}(?:-[a-z2-7]{4}){3}", shown)
    assert len({*fresh} - {*codes}) == 10
    await client.post("/account/security/factor/remove", form={"csrf": CSRF, "code": codes[1]})
    assert (await world.db.engine(second_factors.select_factors, ADMIN, [JUNE]))[0].sealed, (
        "an old code is none any more"
    )
    await client.post("/account/security/factor/remove", form={"csrf": CSRF, "code": fresh[1]})
    assert (await world.db.engine(second_factors.select_factors, ADMIN, [JUNE]))[0] == second_factors.Factor(
        JUNE, "", 0, 0
    )
    lines = await world.db.tenant(JUNE, select_audit, JUNE, None, 9)
    assert [line.action for line in reversed(lines)] == [
        "user.factor_added",
        "user.recovery_codes",
        "user.factor_removed",
    ]
    assert (await log_in(world.app.test_client(), ADMIN, PASSWORD)).location == "/"
