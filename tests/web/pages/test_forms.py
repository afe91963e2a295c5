"""Set-up forms: what is wrong is said in the reader's language, nothing that was typed is lost, and what does not work is tried
before it is stored."""

import html
import re
from typing import Any

import pytest

from gateway.domain.ids import IntegrationKey
from gateway.domain.secret import Secret
from gateway.store.audit import select_audit
from gateway.store.postgres.pool import Connection
from tests.web.conftest import SignIn, submitted
from tests.web.world import CSRF, JUNE, World

CRM = "/t/0367/integrations/retailcrm"
PBX = "/t/0367/pbxes/main"
GOOD = {
    "csrf": CSRF,
    "domain": "https://0367.crm.example",
    "api_key": "***",
    "client_id": "***",
    "user_extensions": "19 = 150",
}
PBX_GOOD = {
    "csrf": CSRF,
    "s.host": "192.0.2.10",
    "s.port": "5038",
    "s.username": "gateway",
    "s.secret": "***",
    "s.number_format": "plus",
}


async def _flashes(conn: Connection) -> list[str]:
    return [str(row[0]) for row in await conn.fetch("SELECT body::text || sealed::text FROM flashes")]


@pytest.mark.parametrize(
    ("field", "value", "en", "ru"),
    [
        ("s.host", "", "Required.", "Обязательное поле."),
        ("s.host", "http://pbx", "without http://", "без http://"),
        ("s.port", "99999", "At most 65535", "не больше 65535"),
        ("s.port", "x", "A whole number", "целое число"),
        ("s.dial_prefix", "abc", "contains characters that are not allowed", "символы, которых"),
        ("s.employee_rings_s", "0", "More than 0", "больше 0"),
        ("s.number_format", "other", "Choose one of", "Выберите одно"),
        ("s.trunks", "a\tb/c\x07", "not the name of an endpoint", "не имя линии"),
        ("s.originate_context", "a b", "a context is", "контекст — только"),
    ],
)
async def test_errors_are_in_the_readers_language_beside_the_field(
    world: World, sign_in: SignIn, field: str, value: str, en: str, ru: str
) -> None:
    client = await sign_in(JUNE, "en")
    page = await submitted(client, f"{PBX}/settings", {**PBX_GOOD, field: value})
    assert en in html.unescape(page)
    assert f'href="#f-{field}"' in page, "a list at the top leads to the field"
    found = re.search(rf'<(?:input|select|textarea) id="f-{re.escape(field)}"[^>]*>', page)
    assert found is not None
    assert 'aria-invalid="true" autofocus' in found[0]
    assert page.count(" autofocus") == 1
    russian = html.unescape(await submitted(await sign_in(JUNE, "ru"), f"{PBX}/settings", {**PBX_GOOD, field: value}))
    assert ru in russian
    assert en not in russian


async def test_the_result_follows_the_reader_into_the_other_language(world: World, sign_in: SignIn) -> None:
    client = await sign_in(JUNE, "en")
    page = await submitted(client, f"{CRM}/settings", {**GOOD, "domain": "ftp://x"}, "ru")
    assert "нужен адрес вида" in page
    assert 'value="ftp://x"' in page


async def test_what_does_not_work_is_not_stored_unless_somebody_knows_better(world: World, sign_in: SignIn) -> None:
    client = await sign_in(JUNE, "en")
    sent = {**GOOD, "domain": "https://nowhere.example", "api_key": "typed-just-now"}
    answer = await client.post(f"{CRM}/settings", form=sent)
    assert "typed-just-now" not in str(answer.location)
    page = await (await client.get(answer.location.partition("#")[0])).get_data(as_text=True)
    assert "Not saved: the connection test failed." in page
    assert "https://nowhere.example does not answer" in page
    assert 'value="https://nowhere.example"' in page
    assert "typed-just-now" not in page
    assert not any("typed-just-now" in text for text in await world.db.engine(_flashes)), "a secret waits sealed"
    tenant = world.cache.tenant(JUNE)
    assert tenant is not None
    assert tenant.integrations[IntegrationKey("retailcrm")].settings["domain"] == "https://0367.crm.example"

    pending = re.search(r'name="pending" value="([^"]+)"', page)
    assert pending is not None
    again = {**sent, "api_key": "***", "pending": pending[1], "anyway": "1"}
    assert "Saved." in await submitted(client, f"{CRM}/settings", again)
    tenant = world.cache.tenant(JUNE)
    assert tenant is not None
    settings = tenant.integrations[IntegrationKey("retailcrm")].settings
    assert (settings["domain"], settings["api_key"]) == ("https://nowhere.example", Secret("typed-just-now"))
    line, *_ = await world.db.tenant(JUNE, select_audit, JUNE, None, 1)
    assert "api_key: *** -> *** changed" in line.detail
    assert "typed-just-now" not in line.detail


async def test_what_waits_is_the_sessions_own(world: World, sign_in: SignIn) -> None:
    client, other = await sign_in(JUNE, "en"), await sign_in(JUNE, "en")
    answer = await client.post(f"{CRM}/test", form={"csrf": CSRF})
    assert "Test passed." in await (await client.get(answer.location)).get_data(as_text=True)
    for odd in (answer.location, f"{CRM}?done={'x' * 500}", f"{CRM}?done=%00", f"{CRM}?done=%D1%8F"):
        page = await other.get(odd)
        assert page.status_code == 200
        assert "Test passed." not in await page.get_data(as_text=True)


@pytest.mark.parametrize("host", ["169.254.169.254"])
async def test_an_address_that_may_not_be_reached_is_refused_when_saved(
    world: World, sign_in: SignIn, host: str
) -> None:
    client = await sign_in(JUNE, "en")
    page = await submitted(client, f"{PBX}/settings", {**PBX_GOOD, "s.host": host, "s.secret": "a-word"})
    assert 'aria-invalid="true"' in page
    assert "Save anyway" not in page
    page = await submitted(
        client, "/t/0367/pbxes/new", {**PBX_GOOD, "name": "other", "s.host": host, "s.secret": "a-word"}
    )
    assert 'aria-invalid="true"' in page
    assert "a-word" not in page
    assert 'value="other"' in page


async def test_a_list_to_choose_from_is_drawn_from_the_class(world: World, sign_in: SignIn) -> None:
    page = await (await (await sign_in(JUNE, "ru")).get(PBX)).get_data(as_text=True)
    found: Any = re.search(r'(?s)<select id="f-s.number_format".*?</select>', page)
    assert list(re.findall(r'value="(\w+)"', found[0])) == ["plus", "digits", "national"]
    assert "как внутри страны" in found[0]
    assert "203.0.113.9/255.255.255.255" in page, "the address from which we connect stands in manager.conf"


async def test_what_is_wrong_stands_on_every_page_of_the_company(world: World, sign_in: SignIn) -> None:
    for language, words in (("en", "Problems:"), ("ru", "Неполадки:")):
        client = await sign_in(JUNE, language)
        for path in ("/t/0367/calls", "/t/0367/keys", "/t/0367/audit", "/t/0367/dialling"):
            page = await (await client.get(path)).get_data(as_text=True)
            assert re.search(rf'id="trouble-badge"><span class="hidden">{words}</span> <span data-count>1<', page)
            assert '<a href="/t/0367/integrations/retailcrm">RetailCRM</a>' in page
    for slot in world.directory.below("tenant/0367"):
        slot.report(type(slot.health.state).ONLINE)
    page = await (await (await sign_in(JUNE, "en")).get("/t/0367/calls")).get_data(as_text=True)
    assert 'id="trouble-badge" hidden' in page
    assert 'class="trouble ' not in page
