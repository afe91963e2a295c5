"""Our module in a strict sandbox CRM: registration, the link and what it opens, the map of internal numbers, statuses.

Over 400 lines: registration, link, map and statuses are one story in one sandbox, and share its desk.
"""

import base64
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
import trio

from actors.crm import registration_changes
from actors.crm.registration import Registrations, registered_as
from adapters.abilities import NamesResponsible, Responsible
from adapters.base import ActivityRequest, StatusRequest
from adapters.registry import Linked
from gateway.domain.configuration import Tenant
from gateway.domain.errors import Rejected
from gateway.domain.ids import IntegrationKey, TenantId
from gateway.domain.posts import Invalid
from gateway.store import crm_registrations as store
from gateway.store import outbox
from gateway.store.audit import select_audit
from gateway.store.integration_logs import select_recent_logs
from gateway.store.postgres.pool import Connection
from gateway.store.tenants import upsert_phone
from gateway.store.user_extensions import replace_map
from gateway.web.api.extensions import ModuleCallers, module_addresses
from gateway.web.api.user_status import set_activity, set_status
from gateway.web.http import guesses
from gateway.web.http.hypercorn_server import mount
from tests.sandbox.retailcrm import RetailCrm
from tests.sandbox.web import Fault
from tests.web.conftest import SignIn, plain, submitted
from tests.web.world import CSRF, JUNE, MAPLE, SECRET_KEY, World, ringing

KIND = IntegrationKey("retailcrm")
ADMIN = "/retailcrm-admin"
PANEL = "/t/0367/integrations/retailcrm"


@dataclass
class Stage:
    """The two companies, each with an account in a sandbox of its own, and the app with its JSON addresses."""

    world: World
    crm: RetailCrm
    other: RetailCrm
    app: Any

    @property
    def modules(self) -> Registrations:
        return self.world.deps.modules

    @property
    def linked(self) -> Linked:
        found = registered_as(KIND)
        assert found is not None
        return found

    @property
    def module(self) -> dict[str, Any]:
        """The one module the account has."""
        (found,) = self.crm.modules.values()
        return found

    @property
    def codes(self) -> dict[int, str]:
        return {item["userId"]: item["code"] for item in self.module["integrations"]["telephony"]["additionalCodes"]}

    @property
    def link(self) -> str:
        """The link that the account opens, without our host."""
        parts = urlsplit(self.module["accountUrl"])
        return f"{parts.path}?{parts.query}"

    @property
    def token(self) -> str:
        return parse_qs(urlsplit(self.link).query)["token"][0]

    async def row(self, number: TenantId = JUNE) -> store.RegistrationRow:
        return (await self.modules.stored(number, self.linked)).row

    async def person(self, number: TenantId | None = JUNE, language: str = "en") -> Any:
        client = self.app.test_client()
        client.set_cookie("localhost", "session", await self.world.session(number))
        client.set_cookie("localhost", "language", language)
        return client

    async def visitor(self, link: str | None = None) -> tuple[Any, str]:
        """A browser that came by the link, and the CSRF token of its session."""
        client = self.app.test_client()
        answer = await client.get(link or self.link)
        assert answer.status_code == 303, await answer.get_data(as_text=True)
        config = await client.get(f"{ADMIN}/api/config/0367")
        return client, config.headers["X-CSRF-Token"]

    async def register(self, number: TenantId = JUNE) -> None:
        assert (await self.modules.register(number, self.linked, "admin")).saved

    def fresh(self) -> None:
        """Forgets what was read a moment ago."""
        self.modules._readings.clear()


async def _domain(conn: Connection, number: str, url: str) -> None:
    await conn.execute(
        "UPDATE integrations SET settings = settings || jsonb_build_object('domain', $2::text) "
        "WHERE tenant_id = $1 AND integration_type = 'retailcrm'", number, url,
    )  # fmt: skip


@pytest.fixture
async def stage(world: World, nursery: trio.Nursery) -> Stage:
    accounts = RetailCrm(SECRET_KEY, rate_limits=False), RetailCrm(SECRET_KEY, rate_limits=False)
    for number, crm in zip((JUNE, MAPLE), accounts, strict=True):
        await world.db.engine(_domain, number, await nursery.start(crm.serve))
    await world.cache.load()
    addresses = module_addresses(ModuleCallers(world.deps.modules, secure_cookies=False))
    return Stage(world, *accounts, world.app_with(mounts=(partial(mount, addresses=addresses),)))


async def text_of(response: Any) -> str:
    return str(await response.get_data(as_text=True))


# Registration and its link


async def test_registered_as_puts_the_whole_module_there(stage: Stage) -> None:
    client = await stage.person()
    page = await text_of(await client.get(PANEL))
    assert "Not registered" in page
    page = await submitted(client, f"{PANEL}/module", {"csrf": CSRF, "do": "register"})
    assert "Done." in page
    module = stage.module
    assert (module["active"], module["clientId"], module["baseUrl"]) == (True, SECRET_KEY, "http://localhost:8000")
    assert module["logo"] == "http://localhost:8000/static/logo.svg"
    telephony = module["integrations"]["telephony"]
    assert telephony["makeCallUrl"] == "http://localhost:8000/retailcrm/make-call"
    assert (telephony["allowEdit"], stage.codes) == (False, {19: "150"})
    assert (await client.get("/static/logo.svg")).content_type.startswith("image/svg")
    assert stage.token not in page
    again = await client.post(f"{PANEL}/module", form={"csrf": CSRF, "do": "register"})
    assert (again.status_code, len(stage.crm.modules)) == (303, 1)
    assert (await client.post(f"{PANEL}/module", form={"csrf": CSRF, "do": "x"})).status_code == 400
    assert (await client.post(f"{PANEL}/module", form={"do": "register"})).status_code == 403
    assert (
        await client.post("/t/0367/integrations/telegram/module", form={"csrf": CSRF, "do": "register"})
    ).status_code == 404
    actions = [line.action for line in await stage.world.db.tenant(JUNE, select_audit, JUNE, None, 9)]
    assert actions == ["module.registered", "module.registered"]


async def test_the_link_becomes_a_session_and_leaves_the_address(stage: Stage) -> None:
    await stage.register()
    client = stage.app.test_client()
    answer = await client.get(stage.link + "&clientId=" + SECRET_KEY)
    assert (answer.status_code, answer.location) == (303, f"{ADMIN}/?enterprise_number=0367")
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith("module=0367.")
    assert all(part in cookie for part in ("HttpOnly", "Path=/retailcrm-admin", "SameSite=Lax"))
    assert (answer.headers["Referrer-Policy"], answer.headers["Cache-Control"]) == ("no-referrer", "no-store")
    page = await client.get(answer.location)
    text = await text_of(page)
    assert page.status_code == 200
    assert "Иван Петров" in text
    assert stage.token not in text
    assert SECRET_KEY not in text
    assert page.headers["Referrer-Policy"] == "no-referrer"
    post = await stage.app.test_client().post(f"{ADMIN}/", form={"enterprise_number": "0367", "token": stage.token})
    assert (post.status_code, post.location) == (303, f"{ADMIN}/?enterprise_number=0367")
    post = await stage.app.test_client().post(stage.link, form={"clientId": "x"})
    assert post.status_code == 303
    looked = await stage.app.test_client().head(stage.link)
    assert (looked.status_code, "module" in str(looked.headers)) == (204, False)
    ahead = await stage.app.test_client().get(stage.link, headers={"Sec-Purpose": "prefetch"})
    assert "module=" not in str(ahead.headers)


async def test_secure_cookies_have_their_prefix(stage: Stage) -> None:
    await stage.register()
    answer = await stage.world.app_with(secure_cookies=True).test_client().get(stage.link)
    assert answer.headers["Set-Cookie"].startswith("__Secure-module=")
    assert "Secure" in answer.headers["Set-Cookie"]


def forged(**claims: Any) -> list[str]:
    """Tokens that are not ours: no signature, another key, another algorithm by name."""

    def part(data: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(data).encode()).rstrip(b"=").decode()

    body = {"enterprise_number": "0367", "source": "retailcrm", "iat": 0, "exp": 4102444800, **claims}
    return [
        f"{part({'alg': 'none', 'typ': 'JWT'})}.{part(body)}.",
        f"{part({'alg': 'none', 'typ': 'JWT'})}.{part(body)}.AAAA",
        f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{part(body)}.AAAA",
        f"{part({'alg': 'RS256', 'typ': 'JWT'})}.{part(body)}.AAAA",
        jwt.encode(body, "k" * 43, "HS256"),
        jwt.encode(body, "k" * 64, "HS512"),
    ]


async def test_forged_links_open_nothing(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guesses, "BURST", 1000)  # so many would be slowed
    await stage.register()
    await stage.register(MAPLE)
    (theirs,) = stage.other.modules.values()
    maples = parse_qs(urlsplit(theirs["accountUrl"]).query)["token"][0]
    head, body, signature = stage.token.split(".")
    tokens = [
        *forged(), *forged(enterprise_number="0368"), *forged(enterprise_number="9999"),
        *forged(enterprise_number="../x"), *forged(enterprise_number=7), *forged(tenant="0367", registration=1), maples,
        f"{head}.{body}.{signature[:-2]}AA", f"{head}.{maples.split('.')[1]}.{signature}", "x", "a.b.c", "[" * 900,
        base64.urlsafe_b64encode(b"[" * 600).decode() + ".e30.AAAA", "é.é.é", "a" * 5000, f"{stage.token} ",
    ]  # fmt: skip
    for token in tokens:
        client = stage.app.test_client()
        answer = await client.get(f"{ADMIN}/", query_string={"enterprise_number": "0367", "token": token})
        assert answer.status_code == 401, token
        assert "Set-Cookie" not in answer.headers or "module" not in answer.headers["Set-Cookie"]
        page = await text_of(answer)
        assert "This link is not valid" in page
        assert len(token) < 9 or token not in page
        bearer = await client.get(
            f"{ADMIN}/api/config/0367", headers={"Authorization": f"Bearer {token.encode('ascii', 'replace').decode()}"}
        )
        assert bearer.status_code == (403 if token == maples else 401) or token.endswith(" "), token
    right = await stage.app.test_client().get(
        f"{ADMIN}/", query_string={"enterprise_number": "0368", "token": stage.token}
    )
    assert right.status_code == 401


async def test_a_new_registration_ends_earlier_links_and_sessions(stage: Stage) -> None:
    await stage.register()
    old, (client, _) = stage.link, await stage.visitor()
    client_id, code = stage.module["clientId"], stage.module["code"]
    await stage.register()
    assert (stage.module["clientId"], stage.module["code"]) == (client_id, code)
    assert stage.link != old
    assert (await stage.app.test_client().get(old)).status_code == 401
    assert (await client.get(f"{ADMIN}/?enterprise_number=0367")).status_code == 401
    assert (await client.get(f"{ADMIN}/api/config/0367")).status_code == 401
    await stage.visitor()
    saved = stage.link
    await stage.modules.save(JUNE, stage.linked, {"18": "151"}, "admin")
    answer = await stage.app.test_client().get(saved)
    assert answer.status_code == 303, "a saved map is no new registration"


async def test_switching_off_and_deleting(stage: Stage) -> None:
    client = await stage.person()
    await stage.register()
    link, (visitor, _) = stage.link, await stage.visitor()
    for _ in range(2):
        await submitted(client, f"{PANEL}/module", {"csrf": CSRF, "do": "deactivate"})
        assert (stage.module["active"], stage.module["freeze"]) == (False, False)
    assert stage.codes == {19: "150"}
    assert "token" not in stage.module["accountUrl"]
    assert (await stage.app.test_client().get(link)).status_code == 401
    assert (await visitor.get(f"{ADMIN}/?enterprise_number=0367")).status_code == 401
    asked = await submitted(client, f"{PANEL}/module", {"csrf": CSRF, "do": "delete"})
    assert "Delete the module in RetailCRM?" in asked
    assert stage.module["freeze"] is False
    for _ in range(2):
        await submitted(client, f"{PANEL}/module", {"csrf": CSRF, "do": "delete", "sure": "1"})
        assert stage.module["freeze"] is True
    assert await stage.row() == store.RegistrationRow()
    await stage.register()
    assert len(stage.crm.modules) == 1
    assert (await stage.app.test_client().get(link)).status_code == 401


async def test_what_was_never_registered_is_not_made_by_switching_it_off(stage: Stage) -> None:
    for delete in (False, True):
        await stage.modules.deactivate(JUNE, stage.linked, "admin", delete=delete)
    stage.crm.fault = Fault.HTTP_500
    assert not (await stage.modules.register(JUNE, stage.linked, "admin")).saved
    stage.crm.fault = Fault.NONE
    assert (await stage.modules.deactivate(JUNE, stage.linked, "admin")).saved
    assert stage.crm.modules == {}


async def test_a_crm_that_is_away_hears_of_it_later(stage: Stage) -> None:
    stage.crm.fault = Fault.DROP
    told = await stage.modules.register(JUNE, stage.linked, "admin")
    assert (told.saved, told.code) == (False, "unavailable")
    row = await stage.row()
    assert (row.state, row.pending, row.problem) == ("active", True, "unavailable")
    client = await stage.person()
    assert "does not have the latest changes" in await text_of(await client.get(PANEL))
    assert not (await stage.modules.repeat(JUNE, stage.linked)).saved
    stage.crm.fault = Fault.NONE
    assert (await stage.modules.repeat(JUNE, stage.linked)).saved
    row = await stage.row()
    assert (row.pending, row.problem) == (False, "")
    assert stage.module["active"]
    requested = len(stage.crm.requests)
    assert (await stage.modules.repeat(JUNE, stage.linked)).saved
    assert len(stage.crm.requests) == requested
    stage.crm.fault = Fault.DROP
    await stage.modules.deactivate(JUNE, stage.linked, "admin", delete=True)
    assert (await stage.row()).state == "deleted"
    stage.crm.fault = Fault.NONE
    assert (await stage.modules.repeat(JUNE, stage.linked)).saved
    assert await stage.row() == store.RegistrationRow()


async def test_a_lost_answer_leaves_a_link_that_works(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = registration_changes.begin

    async def begin_read(*args: Any, unread: bool) -> None:
        await begin(*args, unread=False)  # so that the answer that is lost is that to the registration itself

    monkeypatch.setattr(registration_changes, "begin", begin_read)
    stage.crm.fault, stage.crm.fault_count = Fault.DROP_AFTER, 1
    assert not (await stage.modules.register(JUNE, stage.linked, "admin")).saved
    link = stage.link
    await stage.visitor()
    assert (await stage.modules.repeat(JUNE, stage.linked)).saved
    assert stage.link == link
    await stage.visitor()


async def test_saves_at_the_same_time(stage: Stage) -> None:
    await stage.register()
    async with trio.open_nursery() as nursery:
        for user, number in (("18", "151"), ("22", "152"), ("23", "153"), ("18", "151"), ("22", "150")):
            nursery.start_soon(stage.modules.save, JUNE, stage.linked, {user: number}, "admin")
    kept = await stage.modules.stored(JUNE, stage.linked)
    assert len(set(kept.extensions.values())) == len(kept.extensions) >= 3
    assert stage.codes == {int(user): number for user, number in kept.extensions.items()}
    assert not kept.row.pending


async def test_no_secret_gets_into_the_log_of_attempts(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    await stage.register()
    await stage.visitor()
    stage.crm.fault = Fault.HTTP_500
    await stage.modules.save(JUNE, stage.linked, {"18": "151"}, "admin")
    await stage.modules.sync(JUNE, stage.linked, "admin")
    lines = await stage.world.db.tenant(JUNE, select_recent_logs, JUNE, KIND)
    assert {line.event_type for line in lines} == {"register"}
    assert {line.status for line in lines} == {"done", "retry"}
    everything = repr(lines) + caplog.text
    assert "integrationModule=" in everything
    assert "additionalCodes" in everything
    assert stage.token not in everything
    assert stage.token.split(".")[2] not in everything
    assert SECRET_KEY not in everything


async def test_switched_off_over_there(stage: Stage) -> None:
    tenant = stage.world.cache.tenant(JUNE)
    assert tenant is not None
    await stage.register()
    link = stage.link
    answer = await set_activity(stage.modules, tenant, KIND, ActivityRequest(client_id=SECRET_KEY, active=True))
    assert (answer.status, (await stage.row()).state) == (200, "active")
    for _ in range(2):
        answer = await set_activity(stage.modules, tenant, KIND, ActivityRequest(client_id=SECRET_KEY, active=False))
        assert answer.status == 200
    row = await stage.row()
    assert (row.state, row.pending) == ("inactive", False)
    assert (await stage.app.test_client().get(link)).status_code == 401
    await stage.register()
    stage.module["active"] = False  # and we were not told
    synced = await stage.modules.sync(JUNE, stage.linked, "")
    assert synced.reported.code == "switched_off_there"
    assert (await stage.row()).state == "inactive"
    assert (
        await set_activity(
            stage.modules, tenant, IntegrationKey("telegram"), ActivityRequest(client_id="", active=True)
        )
    ).status == 404


# What a module's session sees


async def test_a_modules_session_sees_its_page_alone(stage: Stage) -> None:
    await stage.register()
    client, csrf = await stage.visitor()
    for path in ("/", "/t/0367/calls", "/t/0367/extensions", PANEL, "/t/0368/calls", "/operators/tenants"):
        answer = await client.get(path)
        assert answer.status_code in (303, 404), path
        assert answer.location.startswith("/login"), path
    assert (await client.get(f"{ADMIN}/?enterprise_number=0368")).status_code == 401
    page = await text_of(await client.get(f"{ADMIN}/?enterprise_number=0367"))
    for hidden in (SECRET_KEY, "phones/remove", 'href="/"'):
        assert hidden not in page, hidden
    assert page.count("/t/0367/") == page.count(f'href="/t/0367/integrations/{KIND}"') == 1, (
        "where the address is changed"
    )
    # The same token as a person's cookie opens nothing either.
    cookie = next(c for c in client.cookie_jar if c.name == "module").value
    thief = stage.app.test_client()
    thief.set_cookie("localhost", "session", cookie or "")
    assert (await thief.get("/t/0367/calls")).location.startswith("/login")
    assert (await thief.get(f"{ADMIN}/api/config/0367")).status_code == 401
    answer = await client.post("/t/0367/phones", form={"csrf": csrf, "number": "199"})
    assert answer.status_code == 403
    assert (await client.post(f"{PANEL}/module", form={"csrf": csrf, "do": "delete"})).status_code == 403
    assert stage.module["active"]


async def test_whoever_is_signed_in_stays_so(stage: Stage) -> None:
    await stage.register()
    client = await stage.person()
    assert (await client.get(stage.link)).status_code == 303
    assert (await client.get("/t/0367/calls")).status_code == 200
    page = await text_of(await client.get(f"{ADMIN}/?enterprise_number=0367"))
    assert "/t/0367/calls" not in page
    csrf = re.search(r'name="csrf" value="([^"]+)"', page)
    assert csrf is not None
    answer = await client.post(f"{ADMIN}/logout", form={"csrf": csrf[1]})
    assert answer.status_code == 303
    own = await client.get(f"{ADMIN}/?enterprise_number=0367")
    assert own.location == "/t/0367/extensions?kind=retailcrm", "the module's session has ended"
    assert (await client.get("/t/0367/calls")).status_code == 200


async def test_without_a_link_people_are_led_to_their_own_page(stage: Stage) -> None:
    client = await stage.person()
    answer = await client.get(f"{ADMIN}/?enterprise_number=0367")
    assert (answer.status_code, answer.location) == (303, "/t/0367/extensions?kind=retailcrm")
    assert (await client.get(f"{ADMIN}/?enterprise_number=0368")).status_code == 401
    assert (await client.get(f"{ADMIN}/")).status_code == 401
    assert (await stage.app.test_client().get(f"{ADMIN}/?enterprise_number=0367")).status_code == 401


async def test_a_link_ends_with_the_integration(stage: Stage) -> None:
    await stage.register()
    client, _ = await stage.visitor()

    async def remove(conn: Connection) -> None:
        await conn.execute("DELETE FROM integrations WHERE tenant_id = '0367'")

    await stage.world.db.engine(remove)
    await stage.world.cache.load()
    assert (await client.get(f"{ADMIN}/?enterprise_number=0367")).status_code == 401
    assert (await client.get(f"{ADMIN}/api/config/0367")).status_code == 404


async def test_the_pages_forms_need_their_csrf(stage: Stage) -> None:
    await stage.register()
    client, csrf = await stage.visitor()
    form = {"n-18": "151", "w-18": ""}
    for path in ("/extensions/save", "/extensions/sync", "/preferences", "/logout"):
        assert (await client.post(ADMIN + path, form=form)).status_code == 403
        assert (await client.post(ADMIN + path, form={**form, "csrf": CSRF})).status_code == 403
        foreign = {"Sec-Fetch-Site": "cross-site"}
        assert (await client.post(ADMIN + path, form={**form, "csrf": csrf}, headers=foreign)).status_code == 403
        assert (await stage.app.test_client().post(ADMIN + path, form={**form, "csrf": csrf})).status_code == 401
    assert stage.codes == {19: "150"}
    assert "Сохранено здесь и в RetailCRM" in await submitted(
        client, f"{ADMIN}/extensions/save", {**form, "csrf": csrf}
    )
    assert stage.codes == {18: "151", 19: "150"}
    prefers = await client.post(f"{ADMIN}/preferences", form={"csrf": csrf, "language": "ru"})
    assert prefers.location == f"{ADMIN}/?enterprise_number=0367"
    assert "Внутренние номера" in await text_of(await client.get(prefers.location))


API = (
    ("GET", "config"), ("PUT", "config"), ("POST", "register"), ("GET", "internal-phones"), ("GET", "user-extensions"),
    ("POST", "save-extensions"), ("POST", "sync-extensions"),
)  # fmt: skip


async def test_the_walls_of_every_address(stage: Stage) -> None:
    await stage.register()
    person, (visitor, csrf) = await stage.person(), await stage.visitor()
    bearer = {"Authorization": f"Bearer {stage.token}"}
    requests = len(stage.crm.requests)
    for method, name in API:
        path = f"{ADMIN}/api/{name}/"

        async def ask(client: Any, number: str, method: str = method, path: str = path, **headers: str) -> Any:
            return await client.open(path + number, method=method, json={}, headers=headers)

        nobody = await ask(stage.app.test_client(), "0367")
        assert (nobody.status_code, (await nobody.get_json())["code"]) == (401, "AUTH_FAILED")
        assert nobody.content_type == "application/problem+json"
        for number in ("0368", "9999", "0367x"):
            for answer in (
                await ask(person, number, **{"X-CSRF-Token": CSRF}),
                await ask(visitor, number, **{"X-CSRF-Token": csrf}),
                await ask(stage.app.test_client(), number, **bearer),
            ):
                assert (answer.status_code, (await answer.get_json())["code"]) == (403, "FORBIDDEN"), path
        if method != "GET":
            for wrong in ({}, {"X-CSRF-Token": "x"}, {"X-CSRF-Token": CSRF, "Sec-Fetch-Site": "cross-site"}):
                assert (await ask(person, "0367", **wrong)).status_code == 403
            assert (await ask(visitor, "0367", **{"X-CSRF-Token": CSRF})).status_code == 403
        else:
            assert (await ask(person, "0367")).status_code == 200
            assert (await ask(visitor, "0367")).status_code == 200
        assert (await visitor.open(path + "0367", method="DELETE")).status_code == 405
    assert len(stage.other.requests) == 0
    assert len(stage.crm.requests) <= requests + 2
    operator = await stage.person(None)
    assert (await operator.get(f"{ADMIN}/api/config/0368")).status_code == 403, "not while acting as nobody"
    assert (await operator.get(f"{ADMIN}/api/config/9999")).status_code == 403
    acting = stage.app.test_client()
    acting.set_cookie("localhost", "session", await stage.world.session(None, acting=MAPLE))
    assert (await acting.get(f"{ADMIN}/api/config/0368")).status_code == 200
    assert (await acting.get(f"{ADMIN}/api/config/0367")).status_code == 403


async def test_settings_of_a_person_and_of_a_module(stage: Stage) -> None:
    await stage.register()
    person, (visitor, csrf) = await stage.person(), await stage.visitor()
    seen = await (await person.get(f"{ADMIN}/api/config/0367")).get_json()
    assert (seen["domain"], seen["api_key"], seen["client_id"]) == (stage.crm.base, "***", "***")
    assert (seen["enabled"], seen["module"]["state"]) == (True, "active")
    shown = await visitor.get(f"{ADMIN}/api/config/0367")
    body = await shown.get_json()
    assert not {"domain", "api_key", "client_id", "module_code"} & body.keys()
    assert body["send_events"] == {"in": True, "out": True, "hangup": True, "upload": True}
    assert SECRET_KEY not in await text_of(shown)
    bearer = {"Authorization": f"Bearer {stage.token}"}
    for change in ({"domain": "https://x.example"}, {"api_key": "stolen-key"}, {"client_id": "x"}, {"enabled": False}):
        refused = await visitor.put(f"{ADMIN}/api/config/0367", json=change, headers={"X-CSRF-Token": csrf})
        assert (refused.status_code, (await refused.get_json())["code"]) == (403, "FORBIDDEN")
        assert (await person.put(f"{ADMIN}/api/config/0367", json=change, headers=bearer)).status_code == 403
    events = {"send_events": {"in": False, "out": True, "hangup": True, "upload": True}}
    answer = await visitor.put(f"{ADMIN}/api/config/0367", json=events, headers={"X-CSRF-Token": csrf})
    assert (answer.status_code, (await answer.get_json())["send_events"]["in"]) == (200, False)
    mine = {"X-CSRF-Token": CSRF}
    wrong = {"domain": "ftp://x", "read_timeout_s": "soon", "nonsense": 1}
    answer = await person.put(f"{ADMIN}/api/config/0367", json=wrong, headers=mine)
    assert answer.status_code == 422
    assert {error["field"] for error in (await answer.get_json())["errors"]} == {"domain", "read_timeout_s", "nonsense"}
    for bad in ({"enabled": "yes"}, {"user_extensions": {"19": "151"}}, {"api_key": 7}):
        assert (await person.put(f"{ADMIN}/api/config/0367", json=bad, headers=mine)).status_code == 422
    for moved in ({"domain": "https://x.example"}, {"domain": "https://x.example", "api_key": "***"}):
        answer = await person.put(f"{ADMIN}/api/config/0367", json=moved, headers=mine)
        assert answer.status_code == 422
        (error,) = (await answer.get_json())["errors"]
        assert (error["field"], "again" in error["message"]) == ("api_key", True)
    right = {"domain": stage.crm.base, "api_key": "***", "read_timeout_s": 2.5, "enabled": False}
    answer = await person.put(f"{ADMIN}/api/config/0367", json=right, headers=mine)
    assert answer.status_code == 200
    body = await answer.get_json()
    assert (body["enabled"], body["read_timeout_s"], body["send_events"]["in"]) == (False, 2.5, False)
    tenant = stage.world.cache.tenant(JUNE)
    assert tenant is not None
    assert tenant.integrations[KIND].settings["api_key"].reveal() == SECRET_KEY
    assert tenant.user_extensions[KIND] == {"19": "150"}


async def test_changes_at_once_do_not_undo_each_other(stage: Stage) -> None:
    """Each names its own field; the copy of the settings in memory may be older than either."""
    await stage.register()
    person, mine = await stage.person(), {"X-CSRF-Token": CSRF}

    async def put(change: dict[str, Any]) -> None:
        assert (await person.put(f"{ADMIN}/api/config/0367", json=change, headers=mine)).status_code == 200

    async def behind_the_cache(conn: Connection) -> None:
        await conn.execute(
            "UPDATE integrations SET enabled = false, settings = settings || '{\"connect_timeout_s\": 4.5}'"
        )

    await stage.world.db.engine(behind_the_cache)
    async with trio.open_nursery() as nursery:
        for change in (
            {"read_timeout_s": 2.5},
            {"module_code": "gw-x"},
            {"request_timeout_s": 9.0},
            {"api_key": "a-new-key"},
        ):
            nursery.start_soon(put, change)
    await stage.world.cache.load()
    tenant = stage.world.cache.tenant(JUNE)
    assert tenant is not None
    link = tenant.integrations[KIND]
    names = ("connect_timeout_s", "read_timeout_s", "module_code", "request_timeout_s")
    assert [link.settings[name] for name in names] == [4.5, 2.5, "gw-x", 9.0]
    assert (link.enabled, link.settings["api_key"].reveal()) == (False, "a-new-key")


# The map


@pytest.mark.parametrize(
    "body",
    [
        {"user_extensions": {"18": "151", "22": None}},
        {"18": "151", "22": ""},
        {"18": 151},
        [{"userId": 18, "extension": "151"}, {"userId": "22", "extension": None}],
        {"user_extensions": [{"userId": 18, "extension": "151"}]},
    ],
)
async def test_saving_is_one_step_here_and_there(stage: Stage, body: Any) -> None:
    await stage.register()
    client, csrf = await stage.visitor()
    answer = await client.post(f"{ADMIN}/api/save-extensions/0367", json=body, headers={"X-CSRF-Token": csrf})
    assert (answer.status_code, await answer.get_json()) == (
        200,
        {"saved": {"19": "150", "18": "151"}, "moved": [], "unknown_users": [], "not_exist_codes": [], "crm": "saved"},
    )
    assert stage.codes == {18: "151", 19: "150"}
    assert stage.module["active"]
    assert stage.module["accountUrl"].endswith(stage.token)
    seen = await (await client.get(f"{ADMIN}/api/user-extensions/0367")).get_json()
    assert (seen["user_extensions"], seen["crm"], seen["differences"]) == ({"18": "151", "19": "150"}, "ok", [])
    assert {user["userId"]: user["extension"] for user in seen["users"]} == {
        "18": "151",
        "19": "150",
        "22": None,
        "23": None,
    }
    assert next(u for u in seen["users"] if u["userId"] == "19")["groups"] == ["Продажи", "Поддержка"]
    phones = (await (await client.get(f"{ADMIN}/api/internal-phones/0367")).get_json())["phones"]
    assert {phone["number"]: phone["userId"] for phone in phones} == {
        "150": "19",
        "151": "18",
        "152": None,
        "153": None,
    }


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"18": "150", "22": "150"}, "150 is given to users 18, 22"),
        ({"18": "999"}, "999 is not an internal number"),
        ({"x": "151"}, "the id of a user is a number"),
        ({"18": {"a": 1}}, "must be an internal number"),
        ({"18": "1 1"}, "must be an internal number"),
        ({"18": True}, "must be an internal number"),
        ([{"userId": 18}], "must have userId and extension"),
        ([{"userId": 18, "extension": "151"}, {"userId": "18", "extension": "152"}], "is named twice"),
        ({"user_extensions": 7}, "must map users"),
        ("text", "must be a JSON object"),
    ],
)
async def test_maps_that_make_no_sense(stage: Stage, body: Any, said: str) -> None:
    await stage.register()
    client, csrf = await stage.visitor()
    answer = await client.post(f"{ADMIN}/api/save-extensions/0367", json=body, headers={"X-CSRF-Token": csrf})
    assert answer.status_code == (400 if isinstance(body, str) else 422)
    assert said in await text_of(answer)
    assert stage.codes == {19: "150"}


async def test_a_taken_number_moves(stage: Stage) -> None:
    await stage.register()
    client = await stage.person()
    answer = await client.post(f"{ADMIN}/api/save-extensions/0367", json={"22": "150"}, headers={"X-CSRF-Token": CSRF})
    assert (await answer.get_json())["moved"] == [{"extension": "150", "from": "19", "to": "22"}]
    assert stage.codes == {22: "150"}
    form = {"csrf": CSRF, "n-18": "150", "w-18": "", "n-22": "150", "w-22": "150", "n-19": "", "w-19": ""}
    page = await submitted(client, "/t/0367/extensions/retailcrm/save", form)
    assert "150 has moved from Ольга Мороз to Анна Кузьмина" in page
    assert stage.codes == {18: "150"}
    twice = {**form, "w-18": "151", "w-22": ""}
    assert "a number belongs to one user" in await submitted(client, "/t/0367/extensions/retailcrm/save", twice)
    page = await submitted(client, "/t/0367/extensions/retailcrm/save", twice, "ru")
    assert "номер принадлежит одному пользователю" in page


async def test_strangers_and_silence(stage: Stage) -> None:
    await stage.register()
    client = await stage.person()
    headers = {"X-CSRF-Token": CSRF}
    answer = await client.post(f"{ADMIN}/api/save-extensions/0367", json={"777": "153"}, headers=headers)
    assert (await answer.get_json())["unknown_users"] == ["777"]
    page = await text_of(await client.get("/t/0367/extensions"))
    assert "unknown there" in page
    stage.crm.fault = Fault.DROP
    answer = await client.post(f"{ADMIN}/api/save-extensions/0367", json={"18": "151"}, headers=headers)
    body = await answer.get_json()
    assert (answer.status_code, body["crm"], body["saved"]["18"]) == (200, "waiting", "151")
    assert "does not answer" in body["reason"]
    stage.fresh()
    page = await text_of(await client.get("/t/0367/extensions"))
    assert "does not answer now" in page
    assert 'value="151" selected' in page
    stage.crm.fault = Fault.NONE
    assert (await stage.modules.repeat(JUNE, stage.linked)).saved
    assert stage.codes == {18: "151", 19: "150", 777: "153"}


async def test_differences_are_settled_in_our_favour(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    await stage.register()
    client = await stage.person()
    telephony = stage.module["integrations"]["telephony"]
    telephony["additionalCodes"] = [{"userId": 19, "code": "155"}, {"userId": 22, "code": "152"}]
    stage.fresh()
    page = await text_of(await client.get("/t/0367/extensions"))
    assert "2 users have other numbers in RetailCRM" in page
    assert "In RetailCRM: 155" in page
    answer = await client.post(f"{ADMIN}/api/sync-extensions/0367", headers={"X-CSRF-Token": CSRF})
    assert (await answer.get_json())["differences"] == [
        {"userId": "19", "ours": "150", "theirs": "155"},
        {"userId": "22", "ours": None, "theirs": "152"},
    ]
    assert stage.codes == {19: "150"}
    assert len([record for record in caplog.records if record.getMessage() == "internal number settled"]) == 2
    lines = await stage.world.db.tenant(JUNE, select_recent_logs, JUNE, KIND)
    assert any(line.event_type == "settle" and "user 19: ours 150, theirs 155" in line.request for line in lines)
    again = await stage.modules.sync(JUNE, stage.linked, "")
    assert (again.settled, again.reported.saved) == ((), True)
    stage.crm.modules.clear()  # somebody took the module away
    await stage.modules.sync(JUNE, stage.linked, "")
    assert stage.codes == {19: "150"}


async def test_what_was_refused_is_not_said_again_by_every_comparison(stage: Stage) -> None:
    await stage.register()

    def tellings() -> int:
        return len([raw for raw in stage.crm.requests if raw.method == "POST"])

    async def refused(conn: Connection) -> None:
        await store.note_problem(conn, JUNE, KIND, "rejected", "code is not valid")

    stage.module["integrations"]["telephony"]["additionalCodes"] = [{"userId": 19, "code": "155"}]
    await stage.world.db.engine(refused)
    before = tellings()
    done = await stage.modules.sync(JUNE, stage.linked, "")
    assert (done.reported.saved, done.reported.code, tellings()) == (False, "rejected", before)
    person = await stage.modules.sync(JUNE, stage.linked, "admin@june.example")
    assert (person.reported.saved, stage.codes) == (True, {19: "150"}), "whoever asks for it is obeyed"

    async def long_ago(conn: Connection) -> None:
        await refused(conn)
        await conn.execute("UPDATE modules SET tried_at = now() - interval '25 hours'")

    stage.module["integrations"]["telephony"]["additionalCodes"] = [{"userId": 19, "code": "155"}]
    await stage.world.db.engine(long_ago)
    assert (await stage.modules.sync(JUNE, stage.linked, "")).reported.saved
    assert stage.codes == {19: "150"}


async def test_a_map_changed_by_a_tenant_file_is_told_too(stage: Stage) -> None:
    await stage.register()
    await stage.world.db.engine(replace_map, JUNE, KIND, {"22": "152"})
    await stage.world.cache.load()
    assert (await stage.row()).pending
    assert (await stage.modules.repeat(JUNE, stage.linked)).saved
    assert stage.codes == {22: "152"}
    assert not (await stage.row(MAPLE)).pending


async def _empty_map(conn: Connection) -> None:
    await conn.execute("DELETE FROM user_extensions")


@pytest.mark.parametrize("by", ["register", "sync", "save"])
async def test_the_map_over_there_is_taken_over_on_first_use(stage: Stage, by: str) -> None:
    await stage.register()
    codes = [{"userId": 22, "code": "152"}, {"userId": 18, "code": "999"}, {"userId": 23, "code": "1 2"},
             {"userId": 24, "code": "112"}, {"userId": 25, "code": "881612345678"}]  # fmt: skip

    async def forget(conn: Connection) -> None:
        await conn.execute("DELETE FROM modules")

    await stage.world.db.engine(forget)
    await stage.world.db.engine(_empty_map)
    await stage.world.cache.load()
    stage.module["integrations"]["telephony"]["additionalCodes"] = codes
    stage.fresh()
    client = await stage.person()
    expected = {"22": "152", "18": "999"}
    match by:
        case "register":
            await stage.register()
        case "sync":
            answer = await client.post(f"{ADMIN}/api/sync-extensions/0367", headers={"X-CSRF-Token": CSRF})
            body = await answer.get_json()
            assert (body["imported"], body["unknown_phones"]) == (expected, ["999"])
        case _:
            answer = await client.post(
                f"{ADMIN}/api/save-extensions/0367", json={"19": "150"}, headers={"X-CSRF-Token": CSRF}
            )
            assert (await answer.get_json())["crm"] == "waiting"
            await stage.register()
            expected["19"] = "150"
    kept = await stage.modules.stored(JUNE, stage.linked)
    assert kept.extensions == expected
    if by != "sync":
        assert stage.codes == {int(user): number for user, number in expected.items()}
        assert not kept.row.pending
    stage.module["integrations"]["telephony"]["additionalCodes"].append({"userId": 23, "code": "153"})
    await stage.modules.sync(JUNE, stage.linked, "")
    assert (await stage.modules.stored(JUNE, stage.linked)).extensions == expected, "only the first time"


async def test_numbers_that_nobody_has_there(stage: Stage) -> None:
    await stage.register()
    draft = {"integration": "retailcrm", "kind": "in"}
    first = ringing(stage.world.call_id(), datetime.now(UTC), "+375291", "1", ["150"])
    await stage.world.keep(JUNE, [first], [draft])
    note = outbox.Outcome(state="done", status="done", note="not_exist_codes: 150, 151")
    await stage.world.deliver(JUNE, "retailcrm", note)
    page = await text_of(await (await stage.person()).get("/t/0367/extensions"))
    assert "reports that no user there has this number" in page
    assert "150, 151" in page
    assert (await stage.modules.stored(MAPLE, stage.linked)).not_exist == frozenset()
    await stage.modules.save(JUNE, stage.linked, {"18": "151"}, "admin")
    assert (await stage.modules.stored(JUNE, stage.linked)).not_exist == frozenset(), "told anew since"


# Statuses


async def test_statuses_go_both_ways_without_a_loop(stage: Stage) -> None:
    tenant = stage.world.cache.tenant(JUNE)
    assert isinstance(tenant, Tenant)
    await stage.register()
    client = await stage.person()
    form = {"csrf": CSRF, "s-19": "dinner", "v-19": "free", "n-19": "150", "w-19": "150"}
    page = await submitted(client, "/t/0367/extensions/retailcrm/save", form)
    assert "RetailCRM has received the status" in page
    assert next(user for user in stage.crm.users if user["id"] == 19)["status"] == "dinner"
    requested = len([raw for raw in stage.crm.requests if raw.path.endswith("/status")])
    assert requested == 1
    received = await set_status(stage.modules, tenant, KIND, StatusRequest(client_id="", status="busy", user_id="19"))
    assert (received.status, json.loads(received.body)) == (200, {"status": "accepted"})
    received = await set_status(
        stage.modules, tenant, KIND, StatusRequest(client_id="", status="break", extension="150")
    )
    assert received.status == 200
    received = await set_status(
        stage.modules, tenant, KIND, StatusRequest(client_id="", status="free", extension="159")
    )
    assert received.status == 400
    received = await set_status(stage.modules, tenant, KIND, StatusRequest(client_id="", status="free", user_id="<i>"))
    assert received.status == 400
    line = (await stage.modules.stored(JUNE, stage.linked)).statuses["19"]
    assert (line.status, line.changed_by, line.reported) == ("break", "retailcrm", True)
    assert await stage.world.db.engine(store.select_untold_statuses, JUNE, KIND, 600.0) == []
    assert len([raw for raw in stage.crm.requests if raw.path.endswith("/status")]) == requested, (
        "nothing was sent back"
    )
    stage.crm.fault = Fault.DROP
    page = await submitted(client, "/t/0367/extensions/retailcrm/save", {**form, "s-19": "busy"})
    assert "has not received it yet" in page
    assert await stage.world.db.engine(store.select_untold_statuses, JUNE, KIND, 600.0) == [("19", "busy")]
    stage.crm.fault = Fault.NONE
    assert "must be one of" in await submitted(client, "/t/0367/extensions/retailcrm/save", {**form, "s-19": "asleep"})
    assert (await stage.modules.stored(MAPLE, stage.linked)).statuses == {}


async def test_who_is_responsible(stage: Stage) -> None:
    assert stage.linked.adapter.can(NamesResponsible)
    stage.crm.managers = {
        "375291112233": {"manager": {"id": 19, "firstName": "Иван"}, "customer": None, "links": {}},
        "375291112244": {"manager": {"id": 18, "firstName": "Анна", "code": "151"}},
    }
    async with stage.modules._connected(JUNE, stage.linked) as client:
        assert await client.responsible("+375291112233") == Responsible(user_id="19", name="Иван")
        assert await client.responsible("+375291112244") == Responsible(extension="151", user_id="18", name="Анна")
        assert await client.responsible("+375290000000") is None
        with pytest.raises(Rejected):
            await client.set_status("777", "busy")
        with pytest.raises(Rejected):
            await client.set_status("../19", "busy")


@pytest.mark.slow
async def test_a_limit_on_requests_is_waited_for(stage: Stage) -> None:
    stage.crm.fault, stage.crm.fault_count = Fault.HTTP_503, 1
    assert (await stage.modules.register(JUNE, stage.linked, "admin")).saved
    stage.crm.fault, stage.crm.fault_count = Fault.HTTP_503, 1
    reading = await stage.modules.read(JUNE, stage.linked)
    assert (reading.problem, len(reading.users)) == ("", 4)


async def test_numbers_that_only_the_crm_held_are_taken_over_by_a_registration(stage: Stage) -> None:
    """Ours is not empty, and theirs names further users: a first registration and one by an earlier code lose nobody."""
    await stage.register()
    theirs = stage.module["integrations"]["telephony"]["additionalCodes"]
    theirs += [{"userId": 22, "code": "152"}, {"userId": 18, "code": "150"}]

    async def forget(conn: Connection) -> None:
        await conn.execute("DELETE FROM modules WHERE tenant_id = '0367'")

    await stage.world.db.engine(forget)  # RetailCRM knows the module, we do not know that we had one
    await stage.register()
    assert stage.codes == {19: "150", 22: "152"}, "ours holds where both name a number"
    assert (await stage.modules.stored(JUNE, stage.linked)).extensions == {"19": "150", "22": "152"}
    assert not (await stage.row()).unread
    await stage.modules.save(JUNE, stage.linked, {"22": None}, "admin")
    stage.module["integrations"]["telephony"]["additionalCodes"].append({"userId": 22, "code": "152"})
    await stage.register()
    assert stage.codes == {19: "150"}, "a number that was taken away here is not taken over again"


# The company's own numbers


async def test_numbers_are_added_changed_and_removed(stage: Stage) -> None:
    await stage.register()
    client = await stage.person()
    form = {"csrf": CSRF, "number": "199", "owner": "<b>Вера</b>", "endpoints": "199, vera-soft"}
    answer = await client.post("/t/0367/phones?kind=retailcrm", form=form)
    assert (answer.status_code, plain(answer.location)) == (303, "/t/0367/extensions?kind=retailcrm#phones")
    page = await text_of(await client.get("/t/0367/extensions"))
    assert "&lt;b&gt;Вера&lt;/b&gt;" in page
    assert "vera-soft" in page
    for sent, devices in (("DAHDI/7, Вера дома", "DAHDI/7, Вера дома"), ("199 vera-soft", "199, vera-soft")):
        await client.post("/t/0367/phones?kind=retailcrm", form={**form, "endpoints": sent})
        assert devices in await text_of(await client.get("/t/0367/extensions"))
    for name, value in (
        ("number", "12a"),
        ("number", ""),
        ("number", "1" * 16),
        ("number", "7"),
        ("number", "1234567"),
        ("number", "375902123456"),
        ("number", "101"),
        ("number", "112"),
        ("number", "02"),
        ("owner", "a\x00b"),
        ("endpoints", "a|b"),
    ):
        page = await submitted(client, "/t/0367/phones", {**form, name: value})
        assert 'id="phone-problem"' in page, (name, value)
        if value in ("101", "112", "02"):
            assert "This is an emergency number" in page
    page = await text_of(await client.get("/t/0367/extensions?kind=retailcrm&edit=150"))
    assert 'name="number" value="150"' in page
    assert 'name="owner" value="Анна Кузьмина"' in page
    assert re.search(r'name="owner"[^>]* autofocus', page)
    assert 'edit=150"' in page, "browsers ignore autofocus where the address has a fragment"
    await stage.world.db.tenant(JUNE, upsert_phone, JUNE, "103", "old row", [])
    await stage.world.cache.load()
    assert "This is an emergency number" in await text_of(await client.get("/t/0367/extensions"))
    with pytest.raises(Invalid, match="emergency number in BY"):
        await stage.modules.save(JUNE, stage.linked, {"23": "103"}, "")
    asked = await submitted(client, "/t/0367/phones/remove?kind=retailcrm", {"csrf": CSRF, "number": "150"})
    assert "Remove the number 150 Анна Кузьмина?" in asked
    assert "150" in {phone.number for phone in (await stage.modules.stored(JUNE, stage.linked)).phones}
    page = await submitted(client, "/t/0367/phones/remove", {"csrf": CSRF, "number": "150", "sure": "1"})
    assert "Number 150 was removed." in page
    kept = await stage.modules.stored(JUNE, stage.linked)
    assert "150" not in {phone.number for phone in kept.phones}
    assert kept.extensions == {}
    assert stage.codes == {}
    assert {phone.number for phone in (await stage.modules.stored(MAPLE, stage.linked)).phones} == {"201", "202"}
    assert (await client.post("/t/0368/phones", form=form)).status_code == 404


async def test_without_such_a_crm_the_numbers_alone(stage: Stage, sign_in: SignIn) -> None:
    async def remove(conn: Connection) -> None:
        await conn.execute("DELETE FROM integrations WHERE tenant_id = '0367'")

    await stage.world.db.engine(remove)
    await stage.world.cache.load()
    client = await stage.person()
    page = await text_of(await client.get("/t/0367/extensions"))
    assert "150" in page
    assert "is set up yet" in page
    assert 'href="/t/0367/extensions"' in await text_of(await client.get("/t/0367/calls"))
    assert 'name="owner" value="Анна Кузьмина"' in await text_of(await client.get("/t/0367/extensions?edit=150"))
    assert (await client.get("/t/0367/extensions?kind=retailcrm")).status_code == 404
    assert (await client.get(f"{ADMIN}/api/config/0367")).status_code == 404
    answer = await client.post("/t/0367/phones", form={"csrf": CSRF, "number": "77", "owner": "", "endpoints": ""})
    assert plain(answer.location) == "/t/0367/extensions#phones"


async def test_many_users_search_and_pages(stage: Stage) -> None:
    stage.crm.users += [
        {"id": 1000 + i, "firstName": f"User {i:03}", "email": f"u{i}@june.example"} for i in range(230)
    ]
    client = await stage.person()
    page = await text_of(await client.get("/t/0367/extensions"))
    assert page.count('<select id="n-') == 50
    assert 'action="/t/0367/extensions/retailcrm/save"' in page
    assert 'action="/t/0367/extensions/retailcrm/sync"' in page
    assert "page=2" in page
    last = await text_of(await client.get("/t/0367/extensions?page=5"))
    assert last.count('<select id="n-') == 34
    assert "inactive" in last, "those who left come last"
    found = await text_of(await client.get("/t/0367/extensions?q=user 22"))
    assert found.count('<select id="n-') == 10
    assert "<zzz>" not in await text_of(await client.get("/t/0367/extensions?q=<zzz>"))
    assert (await client.get("/t/0367/extensions?page=99999999")).status_code == 200
