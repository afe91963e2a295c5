"""Operators create companies by a form and see the installation: the file's rules, what is shown once, orders of the list."""

import html
import re
from typing import Any

import pytest

from gateway.domain.ids import TenantId
from gateway.domain.secret import Secret
from gateway.store import installation
from gateway.store.audit import select_audit
from gateway.store.integration_states import select_known_of
from gateway.store.postgres.pool import Connection
from gateway.store.tenants import select_tenants
from gateway.tenant_file import token_hash
from gateway.web.pages.companies import read_company
from gateway.web.pages.operators import sorted_lines, tenant_lines
from tests.web.conftest import SignIn, submitted
from tests.web.world import CSRF, JUNE, MAPLE, World, play

NEW = "/operators/tenants/new"
GOOD = {
    "number": "0400", "name": "Cedar <b>", "country": "by", "timezone": "Europe/Minsk", "language": "ru",
    "email": "Anna@Cedar.example",
}  # fmt: skip


def shown(page: str) -> list[str]:
    """The secrets on a page."""
    return [html.unescape(one) for one in re.findall(r'<pre class="key"[^>]*>([^<]*)</pre>', page)]


async def test_a_company_is_created_and_its_administrator_signs_in_by_the_link(world: World, sign_in: SignIn) -> None:
    client: Any = await sign_in(None)
    answer = await client.post(NEW, form={**GOOD, "csrf": CSRF})
    assert answer.status_code == 303
    page = await (await client.get(answer.location)).get_data(as_text=True)
    link, token = shown(page)
    assert "Cedar &lt;b&gt;" in page
    (row,) = await world.db.engine(select_tenants, [TenantId("0400")])
    assert (row.name, row.country, row.timezone, row.language) == ("Cedar <b>", "BY", "Europe/Minsk", "ru")
    assert row.token_hash == token_hash(Secret(token))
    (line,) = await world.db.tenant(row.tenant, select_audit, row.tenant, None, 9)
    assert (line.actor, line.action) == ("operator@gateway.example", "tenant.created")
    again = await submitted(client, NEW, {**GOOD, "csrf": CSRF})
    assert "A company with this number exists" in again
    assert token not in await (await client.get("/operators/tenants/0400/created")).get_data(as_text=True)
    gone = await client.get(answer.location)
    assert gone.status_code == 303, "what is shown once is gone on the second look"
    await world.cache.load()
    person = world.app.test_client()
    signed = await person.get(link.removeprefix("http://localhost:8000"))
    assert (signed.status_code, signed.location) == (303, "/")
    assert (await person.get("/t/0400/")).status_code == 200
    assert (await person.get("/t/0367/")).status_code == 404


@pytest.mark.parametrize(
    ("field", "value"),
    [("number", ""), ("number", "a b"), ("number", "x" * 33), ("number", "../x"), ("name", ""), ("name", "a\x00b"),
     ("name", "x" * 201), ("country", "XX"), ("country", ""), ("timezone", "Mars/Olympus"), ("timezone", "../etc/passwd"),
     ("language", "de"), ("email", "anna"), ("email", "a b@c.d"), ("email", "")],
)  # fmt: skip
async def test_bad_input_names_its_field_and_loses_nothing(
    world: World, sign_in: SignIn, field: str, value: str
) -> None:
    assert read_company({**GOOD, field: value}) == (None, [field])
    client = await sign_in(None)
    page = await submitted(client, NEW, {**GOOD, field: value, "csrf": CSRF})
    assert f'id="f-{field}-problem"' in page
    assert page.count('class="problem"') == 1
    for name, typed in GOOD.items():
        if name not in (field, "language"):
            assert f'value="{html.escape(typed)}"' in page, name
    assert len(await world.db.engine(select_tenants, None)) == 2


async def test_an_existing_company_is_never_overwritten(world: World, sign_in: SignIn) -> None:
    (before,) = await world.db.engine(select_tenants, [JUNE])
    client = await sign_in(None)
    page = await submitted(client, NEW, {**GOOD, "number": "0367", "csrf": CSRF})
    assert "A company with this number exists" in page
    assert await world.db.engine(select_tenants, [JUNE]) == [before]


async def test_what_is_shown_once_belongs_to_the_session_that_made_it(world: World, sign_in: SignIn) -> None:
    client, other = await sign_in(None), await sign_in(None)
    answer = await client.post(NEW, form={**GOOD, "csrf": CSRF})
    assert answer.location is not None
    assert (await other.get(answer.location)).status_code == 303
    assert len(shown(await (await client.get(answer.location)).get_data(as_text=True))) == 2

    async def stored(conn: Connection) -> int:
        count: int = await conn.fetchval("SELECT count(*) FROM flashes WHERE kind = 'key'")
        return count

    assert await world.db.engine(stored) == 0


async def test_companies_in_order_of_trouble_name_and_what_waits(world: World, sign_in: SignIn) -> None:
    tenants = world.cache.tenants().values()
    known = await world.db.engine(select_known_of, [one.number for one in tenants])
    lines = tenant_lines(tenants, world.directory.below(), known, {"0367": 3})
    assert [line.tenant.number for line in sorted_lines(lines, "trouble")] == [MAPLE, JUNE]
    assert [line.tenant.number for line in sorted_lines(lines, "waiting")] == [JUNE, MAPLE]
    assert [line.tenant.number for line in sorted_lines(lines, "name")] == [JUNE, MAPLE]
    assert [line.tenant.number for line in sorted_lines(lines, "number")] == [JUNE, MAPLE]
    client = await sign_in(None)
    for sort, first in (("", "0368"), ("trouble", "0368"), ("number", "0367"), ("nonsense", "0368")):
        page = await (await client.get("/operators/tenants", query_string={"sort": sort})).get_data(as_text=True)
        assert re.findall(r'href="/operators/act-as\?tenant=(\d+)"', page)[0] == first
        assert page.count("aria-sort=") == 1


async def test_storage_and_queues(world: World, sign_in: SignIn) -> None:
    await play(world)
    storage = await world.db.engine(installation.select_storage)
    assert storage.database is not None
    assert storage.database > 1_000_000
    names = dict(storage.tables)
    assert len(names) == 8
    assert all(size >= 0 for size in names.values())
    assert not [name for name in names if re.search(r"\d{8}", name)], "partitions count for their table"
    queues = await world.db.engine(installation.select_queues)
    assert [(queue.tenant, queue.integration) for queue in queues] == [(JUNE, "retailcrm")]

    async def pending(conn: Connection) -> int:
        count: int = await conn.fetchval("SELECT count(*) FROM deliveries WHERE state = 'pending'")
        return count

    assert queues[0].waiting == await world.db.engine(pending)
    page = await (await (await sign_in(None)).get("/operators/installation")).get_data(as_text=True)
    assert f">{queues[0].waiting}</td>" in page
    assert "MiB" in page
