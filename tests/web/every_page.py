"""Every page of the UI, filled: two companies with calls, content, people, keys and troubles, and the addresses of their pages.

For the pictures (`shots.py`) and for the tests that look at each page (`test_accessibility.py`, `test_layout.py`,
`test_one_language.py`). `test_layout.py` compares the list with the site's addresses.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

import pyotp

from gateway.domain.api_keys import hint_of, new_key
from gateway.domain.dialling import Rules
from gateway.domain.ids import TenantId
from gateway.domain.people import Role
from gateway.domain.profile import Profile
from gateway.domain.prompts import Variable
from gateway.store import users
from gateway.store.audit import insert_audit
from gateway.store.business_profiles import upsert_profile
from gateway.store.call_orders import NewOrder, admit, finish_order
from gateway.store.catalog_items import upsert_items
from gateway.store.dead_letters import DeadLetterRow, insert_dead_letters, select_dead_letters
from gateway.store.members import add_member, list_members
from gateway.store.postgres.pool import Connection
from gateway.store.second_factors import store_factor
from gateway.store.secrets.seal import new_data_key
from gateway.store.tenants import TenantRow, upsert_tenant
from gateway.web.callers.key_changes import create_key
from gateway.web.content.catalog import read_item
from gateway.web.content.prompts import save_version
from gateway.web.session.second_step import seal_factor
from gateway.web.session.tokens import new_token
from tests.web.chats import READY, fill_chats, fill_templates
from tests.web.deals import fill_deals
from tests.web.orders import fill_orders as fill_bought
from tests.web.world import HASHED, JUNE, MAPLE, PASSWORD, World, play

BIRCH = TenantId("0369")
ADMIN = f"admin@{JUNE}.example"


@dataclass(frozen=True, slots=True)
class Shown:
    """One page: whose session opens it, at which address, and with which status."""

    whose: str
    path: str
    status: int = 200


async def fill_orders(conn: Connection) -> None:
    """Orders in every state, and a trail."""
    for place, state, reason in (
        (1, "asked", ""),
        (2, "refused", "no_device"),
        (3, "doubtful", "left"),
        (4, "taken", ""),
    ):
        order = NewOrder(
            order_id=f"gw-{place}", call_id=f"gw-{place}", pbx="main", asked_by="retailcrm", extension="150",
            number=f"+37529625407{place}",
        )  # fmt: skip
        await admit(conn, JUNE, order, Rules())
        await finish_order(conn, JUNE, order.order_id, state, reason)
        await insert_audit(conn, JUNE, "retailcrm", "call.placed", f"150 -> {order.number}", order.order_id)
    await insert_audit(conn, JUNE, "admin@june.example", "call.refused", "150 -> +79161234567", "not_allowed")
    await insert_audit(conn, JUNE, "admin@june.example", "pbx.changed", "main", "host, port")


async def fill_content(conn: Connection) -> str:
    """A profile, some items, and a prompt of two versions; its id."""
    hours = [
        {"days": ["mon", "tue", "wed", "thu"], "from": "09:00", "to": "18:00"},
        {"days": ["fri", "sat"], "from": "12:00", "to": "26:00"},
    ]
    profile = {
        "business_type": "restaurant",
        "phone": "+375291112233",
        "working_hours": hours,
        "holidays": ["2026-12-31"],
    }
    await upsert_profile(conn, JUNE, Profile.model_validate(profile))
    for place, (item_id, name, price) in enumerate(
        (("margherita", "Маргарита", "12.50"), ("funghi", "Фунги", "14"), ("tea", "Чай", "3"))
    ):
        data = {
            "id": item_id,
            "name": name,
            "price": price,
            "category": "Пицца" if place < 2 else None,
            "sort_order": place,
        }
        await upsert_items(conn, JUNE, [read_item(data, "BYN")])
    text = "# Роль\nТы оператор компании {{business_name}}.\n\n# Правила\nДоставка: {{delivery_fee}}. Часы: {{working_hours}}.\n\n# Каталог\n{{catalog}}\n"
    fee = Variable(key="delivery_fee", label="Доставка", default_value="5 BYN")
    await save_version(conn, JUNE, "Основной", text, (fee,), "", "admin@june.example")
    saved = await save_version(
        conn,
        JUNE,
        "Основной",
        text.replace("оператор", "вежливый оператор") + "{{nobody}} {{open",
        (fee,),
        "проба",
        "admin@june.example",
    )
    return saved.prompt.prompt_id


async def fill_people(world: World) -> tuple[str, str]:
    """Somebody of each role, one of them invited, and one with a second factor. The id of one, and the invitation's token."""
    for email, name, role, phones in (
        ("ivan@june.example", "Иван Петров", Role.AGENT, ("151",)),
        ("audit@june.example", "Ольга Мороз", Role.AUDITOR, ()),
    ):
        await world.db.engine(users.upsert_user, JUNE, email, HASHED, role)
        await world.db.engine(users.describe_user, JUNE, email, role, name, phones)
    await world.db.engine(partial(add_member, tenant=JUNE, email="new@june.example", role=Role.AGENT, by=ADMIN))
    text, token = new_token(JUNE)
    await world.db.engine(users.insert_login_link, JUNE, token.token_hash, "new@june.example", 3600.0, "invitation")
    sealed = seal_factor(world.deps, JUNE, "ivan@june.example", pyotp.random_base32())
    await world.db.engine(store_factor, "ivan@june.example", {JUNE: sealed}, 0, [])
    lines = await world.db.engine(list_members, JUNE)
    return str(next(one.user_id for one in lines if one.email == "ivan@june.example")), text


async def fill_keys(world: World) -> str:
    """A key that ends soon and one without an end. The hint of the first."""
    soon, endless = new_key(), new_key()
    await world.db.engine(
        create_key, JUNE, soon, "Бот на сайте", ["bot", "read"], datetime.now(UTC) + timedelta(days=3), ADMIN
    )
    await world.db.engine(create_key, JUNE, endless, "CRM", ["call"], None, ADMIN)
    return hint_of(soon.reveal())


async def make_birch(world: World) -> None:
    """A company in which nothing is set up."""
    assert world.deps.master is not None
    key = world.deps.master.wrap(BIRCH, new_data_key())
    row = TenantRow(BIRCH, "Birch", "Europe/Minsk", "BY", "ru", b"b" * 32, key, {}, 0, (), (), ())
    await world.db.engine(upsert_tenant, row)
    await world.db.engine(users.upsert_user, BIRCH, f"admin@{BIRCH}.example", HASHED)
    await world.cache.load()


async def half_way(world: World) -> str:
    """The cookie of somebody who has entered a password and owes the code."""
    client = world.app.test_client()
    page = str(await (await client.get("/login")).get_data(as_text=True))
    csrf = page.partition('name="csrf" value="')[2].partition('"')[0]
    form = {"csrf": csrf, "email": "ivan@june.example", "password": PASSWORD}
    answer = await client.post("/login", form=form)
    assert answer.location == "/login/code", "the code is asked for"
    return str(answer.headers["Set-Cookie"]).partition("step=")[2].partition(";")[0]


async def prepare(world: World) -> tuple[dict[str, tuple[str, str]], dict[str, Shown]]:
    """Cookies, name and value, by person, and pages by name."""
    calls = await play(world)
    await play(world, MAPLE)
    await world.db.tenant(JUNE, fill_orders)
    trace = 'Traceback (most recent call last):\n  File "actors/calls/tenant_calls.py", line 244, in _route\nValueError: a bug'
    dead_letters = [
        DeadLetterRow(JUNE, "tenant/0367/integration/retailcrm", '{"event": "call_ended", "call_id": "7.1"}', trace)
    ]
    await world.db.engine(insert_dead_letters, dead_letters, "1.0")
    (letter,) = await world.db.engine(select_dead_letters, None, None, 1)
    prompt = await world.db.tenant(JUNE, fill_content)
    person, invitation = await fill_people(world)
    hint = await fill_keys(world)
    chats = await fill_chats(world)
    orders = await fill_bought(world, chats, "margherita")
    late = await fill_templates(world)
    await fill_deals(world)
    await make_birch(world)
    cookies = {
        "june": ("session", await world.session(JUNE)),
        "ivan": ("session", await world.session(JUNE, "ivan@june.example")),
        "audit": ("session", await world.session(JUNE, "audit@june.example")),
        "birch": ("session", await world.session(BIRCH)),
        "operator": ("session", await world.session(None, acting=MAPLE)),
        "half": ("step", await half_way(world)),
    }
    pages: dict[str, Shown] = {}
    for whose, base, paths in (
        ("", "", {"login": "/login", "welcome": f"/welcome?token={invitation}"}),
        ("half", "", {"login-code": "/login/code"}),
        ("june", "/t/0367", {
            "overview": "/", "missed-calls": "/missed", "search": "/search?q=15", "search-none": "/search?q=zzz",
            "calls": "/calls", "calls-none": "/calls?q=zzz&result=busy", "call": f"/calls/{calls[5].call_id}",
            "call-failed": f"/calls/{calls[2].call_id}", "dialling": "/dialling?phone=%2B375296254070",
            "extensions": "/extensions", "phones-remove": "/phones/remove?number=150",
            "integrations": "/integrations", "integration": "/integrations/retailcrm",
            "integration-new": "/integrations/telegram", "module-delete": "/integrations/retailcrm/module/delete",
            "integration-disconnect": "/integrations/retailcrm/disconnect", "mapping": "/integrations/retailcrm/fields",
            "mapping-rule": "/integrations/retailcrm/fields?when=order&to=status&from=order.status", "mapping-tried": "/integrations/retailcrm/fields?when=order&try=",
            "pbx-new": "/pbxes/new", "pbx-remove": "/pbxes/main/remove",
            "deliveries": "/deliveries", "deliveries-replay": "/deliveries/replay",
            "people": "/people", "person": f"/people/{person}", "person-remove": f"/people/{person}/remove",
            "keys": "/keys", "key-rotate": f"/keys/rotate?hint={hint}", "key-revoke": f"/keys/revoke?hint={hint}",
            "notify": "/notify", "audit": "/audit",
            "inbox": "/inbox", "inbox-none": "/inbox?q=zzz&unread=1", "chat": f"/inbox/{chats.anna}", "chat-waits": f"/inbox/{chats.boris}",
            "chat-late": f"/inbox/{late}", "chat-template": f"/inbox/{late}?template={READY.language}:{READY.name}",
            "chat-person": f"/inbox/{chats.anna}?pane=person", "replies": "/inbox/replies", "reply": f"/inbox/replies/{chats.reply}",
            "reply-remove": f"/inbox/replies/{chats.reply}/remove",
            "customers": "/customers", "customer": f"/customers/{chats.contact}", "customer-edit": f"/customers/{chats.contact}/edit",
            "customer-merge": f"/customers/{chats.contact}/merge", "customer-new": "/customers/new", "customer-erase": f"/customers/{chats.contact}/erase",
            "orders": "/orders", "orders-list": "/orders?view=list", "orders-none": "/orders?view=list&q=zzz", "order": f"/orders/{orders.order}",
            "order-booking": f"/orders/{orders.booking}", "order-request": f"/orders/{orders.request}",
            "order-edit": f"/orders/{orders.order}/edit", "order-booking-edit": f"/orders/{orders.booking}/edit", "order-new": "/orders/new",
            "order-for": f"/orders/new?kind=booking&conversation={chats.anna}", "order-rules": "/orders/rules",
            "deals": "/deals", "deal-route": "/deals/routes/main", "deal-route-new": "/deals/routes/new", "deal-try": "/deals/routes/main/try",
            "deal-runs": "/deals/runs", "deal-runs-none": "/deals/runs?deal=7", "deal-replay": "/deals/runs/replay?state=failed",
            "deal-remove": "/deals/routes/main/remove",
            "profile": "/profile", "catalog": "/catalog", "catalog-item": "/catalog/item/margherita",
            "catalog-remove": "/catalog/item/tea/remove", "catalog-import": "/catalog/import", "catalog-menu": "/catalog/menu/retailcrm",
            "ai": "/ai", "ai-use": "/ai/use?since=2026-01-01", "prompts": "/prompts", "prompt": f"/prompts/{prompt}", "prompt-new": "/prompts/new",
            "prompt-history": f"/prompts/{prompt}/history", "prompt-remove": f"/prompts/{prompt}/remove",
        }),
        ("ivan", "/t/0367", {"agent-overview": "/", "agent-calls": "/calls", "agent-inbox": "/inbox"}),
        ("audit", "/t/0367", {"audit-inbox": "/inbox", "audit-chat": f"/inbox/{chats.anna}", "audit-orders": "/orders",
                              "audit-order": f"/orders/{orders.order}", "audit-rules": "/orders/rules", "audit-deals": "/deals/runs", "audit-route": "/deals/routes/main"}),
        ("june", "", {"account": "/account/security", "sessions": "/account/sessions"}),
        ("birch", "/t/0369", {
            f"new-{name}": f"/{name}" for name in (
                "overview", "calls", "missed", "dialling", "extensions", "integrations", "deliveries", "people",
                "keys", "notify", "profile", "catalog", "prompts", "ai", "audit", "inbox", "customers", "orders", "deals",
            )
        } | {"new-overview": "/"}),
        ("operator", "", {
            "pbx": "/t/0368/pbxes/main", "integration-ill": "/t/0368/integrations/retailcrm",
            "tenants": "/operators/tenants", "company-new": "/operators/tenants/new",
            "tenant-delete": "/operators/tenants/0368/delete", "act-as": "/operators/act-as?tenant=0367",
            "installation": "/operators/installation", "actors": "/operators/actors",
            "operators-audit": "/operators/audit", "letters": "/operators/letters",
            "letter-dismiss": f"/operators/letters/dismiss?tenant=0367&letter={letter.letter_id}",
        }),
    ):  # fmt: skip
        pages |= {name: Shown(whose, base + path) for name, path in paths.items()}
    pages["missing"] = Shown("june", "/t/0368/calls", 404)
    pages["not-acting"] = Shown("operator", "/t/0367/calls", 404)
    pages["module-refused"] = Shown("", "/retailcrm-admin/", 401)
    return cookies, pages
