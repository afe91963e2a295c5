"""Search from every page: groups of results, only what the viewer may see, whatever is typed."""

import html

import pytest

from tests.web.conftest import SignIn
from tests.web.world import JUNE, MAPLE, World, play

NASTY = (
    "",
    " ",
    "%",
    "\\",
    "'",
    '"><script>alert(1)</script>',
    "\x00",
    "\u202e",
    "x" * 5000,
    "+",
    "()",
    "9" * 79,
    "٣٧٥",
)


async def results(world: World, sign_in: SignIn, text: str, language: str = "en") -> str:
    client = await sign_in(JUNE, language)
    answer = await client.get("/t/0367/search", query_string={"q": text})
    assert answer.status_code == 200
    return str(await answer.get_data(as_text=True))


async def test_calls_people_connections_and_pages_are_found(world: World, sign_in: SignIn) -> None:
    calls = await play(world)
    page = await results(world, sign_in, "8 029 100-20-04")
    assert f'id="call-{calls[5].call_id}"' in page
    assert f'id="call-{calls[1].call_id}"' not in page
    assert f'id="call-{calls[3].call_id}"' in await results(world, sign_in, calls[3].call_id)
    for text in ("ольга", "Мороз", "152"):
        assert 'href="/t/0367/calls?extension=152"' in await results(world, sign_in, text)
    for text in ("retail", "RetailCRM"):
        assert 'href="/t/0367/integrations/retailcrm"' in await results(world, sign_in, text)
    assert 'href="/t/0367/pbxes/main"' in await results(world, sign_in, "192.0.2")
    assert 'href="/t/0367/deliveries"' in (await results(world, sign_in, "deliv")).partition("<main")[2]
    assert 'href="/t/0367/deliveries"' in (await results(world, sign_in, "достав", "ru")).partition("<main")[2]


async def test_nothing_of_another_company_is_found(world: World, sign_in: SignIn) -> None:
    theirs = await play(world, MAPLE)
    for text in ("7946", "+44", "Alice", "201", theirs[0].call_id):
        page = (await results(world, sign_in, text)).partition("<main")[2]
        assert "Alice Green" not in page
        assert "20 7946" not in page
        assert f'id="call-{theirs[0].call_id}"' not in page


async def test_nothing_found_says_where_else_to_look(world: World, sign_in: SignIn) -> None:
    page = await results(world, sign_in, "zzz & 1")
    assert "Nothing was found." in page
    assert html.escape("/t/0367/calls?q=zzz%20%26%201") in page
    assert "leads here from every page" in await results(world, sign_in, "")


@pytest.mark.parametrize("text", NASTY)
async def test_whatever_is_typed_is_answered_by_a_page(world: World, sign_in: SignIn, text: str) -> None:
    await play(world)
    assert "<script>alert" not in await results(world, sign_in, text)


async def test_the_box_is_on_every_page_of_a_person(world: World, sign_in: SignIn) -> None:
    for path in ("/t/0367/", "/t/0367/calls", "/t/0367/keys", "/t/0367/search"):
        page = await (await (await sign_in()).get(path)).get_data(as_text=True)
        assert 'action="/t/0367/search"' in page
        assert 'aria-keyshortcuts="/"' in page
    operators = await (await (await sign_in(None)).get("/operators/tenants")).get_data(as_text=True)
    assert 'class="find" method="get" role="search" action="/operators/tenants"' in operators
    assert 'id="find"' not in await (await world.app.test_client().get("/login")).get_data(as_text=True)
