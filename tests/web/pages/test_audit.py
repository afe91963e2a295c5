"""The page of the audit trail: old and new values without secrets, filters, and the file that spreadsheets open."""

import csv
import io
from typing import Any

import pytest
from quart.typing import TestClientProtocol as Browser

from gateway.domain.ids import OPERATOR
from gateway.store.audit import Origin, insert_audit, select_audit
from tests.web.conftest import SignIn
from tests.web.world import CSRF, JUNE, MAPLE, SECRET_KEY, World


async def text_of(client: Browser, path: str) -> str:
    answer = await client.get(path)
    assert answer.status_code == 200
    return str(await answer.get_data(as_text=True))


async def write(world: World, actor: str, action: str, target: str, **more: Any) -> None:
    await world.db.tenant(JUNE, insert_audit, JUNE, actor, action, target, **more)


async def test_a_change_shows_old_and_new_and_no_secret(world: World, sign_in: SignIn) -> None:
    client = await sign_in()
    form = {
        "csrf": CSRF, "domain": "https://other.crm.example", "api_key": "another-key-of-32-characters-0001",
    }  # fmt: skip
    saved = await client.post(
        "/t/0367/integrations/retailcrm/settings", form=form, scope_base={"client": ("192.0.2.7", 5)}
    )
    assert saved.status_code == 303, await saved.get_data(as_text=True)
    await client.post("/t/0367/integrations/retailcrm/switch", form={"csrf": CSRF, "enabled": "0"})
    await client.post("/t/0367/phones", form={"csrf": CSRF, "number": "150", "owner": "Anna Other"})
    lines = await world.db.tenant(JUNE, select_audit, JUNE, None, 9)
    phone, switched, changed, *_ = lines
    assert (phone.action, phone.old, phone.new) == ("phone.saved", {"owner": "Анна Кузьмина"}, {"owner": "Anna Other"})
    assert (switched.old, switched.new) == ({"enabled": True}, {"enabled": False})
    assert changed.old is not None
    assert changed.new is not None
    assert changed.old["domain"] == "https://0367.crm.example"
    assert changed.new["domain"] == "https://other.crm.example"
    assert (changed.old["api_key"], changed.new["api_key"]) == ("***", "***")
    assert (changed.kind, changed.source) == ("person", "192.0.2.7")
    page = await text_of(client, "/t/0367/audit")
    assert "https://0367.crm.example → https://other.crm.example" in page
    assert "192.0.2.7" in page
    assert "another-key" not in page
    assert SECRET_KEY not in page


@pytest.mark.parametrize(
    ("language", "labels"),
    [
        ("en", ["Account address", "API key", "Switched on", "yes → no", "Owner", "What is sent: Call has ended"]),
        ("ru", ["Адрес аккаунта", "Ключ API", "Включено", "да → нет", "Владелец", "Что отправлять: Вызов завершён"]),
    ],
)
async def test_changes_bear_the_labels_of_the_form_and_not_stored_names(
    world: World, sign_in: SignIn, language: str, labels: list[str]
) -> None:
    client = await sign_in(language=language)
    old = {
        "domain": "https://a.example",
        "api_key": "***",
        "enabled": True,
        "send_events": {"in": True, "hangup": True},
    }
    new = {
        "domain": "https://b.example",
        "api_key": "***",
        "enabled": False,
        "send_events": {"in": True, "hangup": False},
    }
    await write(world, "anna@june.example", "config.changed", "retailcrm", old=old, new=new)
    await write(
        world,
        "anna@june.example",
        "phone.saved",
        "150",
        old={"owner": "A"},
        new={"owner": "B", "endpoints": ["150", "x"]},
    )
    await write(world, "anna@june.example", "pbx.changed", "main", old={"host": "192.0.2.1"}, new={"host": "192.0.2.2"})
    page = await text_of(client, "/t/0367/audit")
    for stored in ("domain", "api_key", "enabled", "send_events", "owner", "endpoints", "host"):
        assert f"<dt>{stored}</dt>" not in page
    for label in labels:
        assert label in page
    assert "https://a.example → https://b.example" in page
    assert "*** → ***" in page
    assert "— → 150, x" in page
    assert page.count("<dt>") == 7, "of a group, only what differs"


async def test_an_operator_is_named_as_one(world: World, sign_in: SignIn) -> None:
    client = world.app.test_client()
    client.set_cookie("localhost", "session", await world.session(None, acting=JUNE))
    await client.post("/t/0367/integrations/retailcrm/switch", form={"csrf": CSRF, "enabled": "0"})
    (line, *_) = await world.db.tenant(JUNE, select_audit, JUNE, None, 9)
    assert (line.actor, line.kind) == ("operator@gateway.example", "operator")


@pytest.mark.slow
async def test_filters_narrow_the_page_and_stay_in_its_links(world: World, sign_in: SignIn) -> None:
    client = await sign_in()
    for number in range(55):
        await write(world, "anna@june.example", "phone.saved", f"1{number:02d}")
    await write(world, "cli", "pbx.added", "north")
    page = await text_of(client, "/t/0367/audit?who=anna&kind=person&what=phone.saved&object=1")
    assert "north" not in page
    assert "154" in page
    assert 'href="/t/0367/audit?who=anna&amp;kind=person&amp;what=phone.saved&amp;object=1&amp;before=' in page
    assert 'href="/t/0367/audit.csv?who=anna&amp;kind=person&amp;what=phone.saved&amp;object=1"' in page
    only = await text_of(client, "/t/0367/audit?kind=cli&who=<b>&since=2001-01-01&until=nonsense")
    assert "north" not in only
    assert "<b>" not in only
    assert "Nothing matches" in only
    assert "Nothing matches" in await text_of(client, "/t/0367/audit?until=2001-01-01")
    assert "north" in await text_of(client, "/t/0367/audit?kind=cli")


async def rows_of(client: Browser, path: str, separator: str = ",") -> list[list[str]]:
    answer = await client.get(path)
    assert answer.content_type == "text/csv; charset=utf-8"
    text = bytes(await answer.get_data(as_text=False)).decode("utf-8-sig")
    return list(csv.reader(io.StringIO(text, newline=""), delimiter=separator))


@pytest.mark.slow
async def test_the_file_holds_everything_that_the_filter_finds(world: World, sign_in: SignIn) -> None:
    client = await sign_in()
    for number in range(1203):
        await world.db.engine(
            insert_audit, JUNE, "a@june.example", "phone.saved", str(number), 'a "b", c; d\ne', new={"owner": "=1+1"},
            origin=Origin("person", "192.0.2.7"),
        )  # fmt: skip
    await world.db.tenant(MAPLE, insert_audit, MAPLE, "cli", "phone.saved", "of another company")
    heads, *rows = await rows_of(client, "/t/0367/audit.csv?what=phone.saved")
    assert len(heads) == 9
    assert [row[5] for row in rows] == [str(number) for number in reversed(range(1203))]
    assert rows[0][1:] == [
        "person", "a@june.example", "192.0.2.7", "Internal number saved", "1202", 'a "b", c; d\ne', "",
        '{"owner": "=1+1"}',
    ]  # fmt: skip
    client.set_cookie("localhost", "language", "ru")
    assert len((await rows_of(client, "/t/0367/audit.csv?object=1202", ";"))[1]) == 9


async def test_no_spreadsheet_takes_a_value_for_a_formula(world: World, sign_in: SignIn) -> None:
    await write(world, "anna@june.example", "phone.saved", "=1+1")
    rows = await rows_of(await sign_in(JUNE, "en"), "/t/0367/audit.csv")
    assert "'=1+1" in rows[1]


async def test_operators_have_a_trail_of_their_own(world: World, sign_in: SignIn) -> None:
    await world.db.engine(insert_audit, OPERATOR, "cli", "user.added", "root@gateway.example")
    operator = world.app.test_client()
    operator.set_cookie("localhost", "session", await world.session(None))
    assert "root@gateway.example" in await text_of(operator, "/operators/audit")
    assert "root@gateway.example" in (await rows_of(operator, "/operators/audit.csv"))[1]
    client = await sign_in()
    for path in ("/operators/audit", "/operators/audit.csv", "/t/0368/audit.csv", "/t/*/audit.csv"):
        assert (await client.get(path)).status_code == 404
