"""What the pages show of an outside system from its adapter's folder: icon, sentence, documentation, tenant file block."""

import html
from dataclasses import replace

import pytest

from adapters.folder import read_folder
from adapters.registry import adapters
from gateway.domain.configuration import integration
from gateway.domain.ids import IntegrationKey
from gateway.web.translations import words
from tests.web.conftest import SignIn
from tests.web.world import JUNE, World


@pytest.mark.parametrize("kind", adapters())
async def test_an_icon_is_a_picture_and_nothing_else(world: World, kind: str) -> None:
    answer = await world.app.test_client().get(f"/icons/{kind}.svg")
    assert await answer.get_data(as_text=False) == read_folder(adapters()[kind].package).icon  # type: ignore[index]
    assert answer.content_type == "image/svg+xml"
    assert answer.headers["Content-Security-Policy"] == "default-src 'none'"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize("name", ["no_such.svg", "retailcrm", "retailcrm.png", "../static/logo.svg"])
async def test_there_are_no_other_icons(world: World, name: str) -> None:
    assert (await world.app.test_client().get(f"/icons/{name}")).status_code == 404


@pytest.mark.parametrize("language", ["en", "ru"])
async def test_cards_bear_icons_that_are_cached(world: World, sign_in: SignIn, language: str) -> None:
    client = await sign_in(language=language)
    page = await (await client.get("/t/0367/integrations")).get_data(as_text=True)
    for kind in adapters():
        address = page.partition(f'src="/icons/{kind}.svg?v=')[2].partition('"')[0]
        assert address, kind
        answer = await client.get(f"/icons/{kind}.svg?v={address}")
        assert "immutable" in answer.headers["Cache-Control"]


@pytest.mark.parametrize("language", ["en", "ru"])
async def test_a_page_says_what_the_system_is_and_its_block_of_the_file(
    world: World, sign_in: SignIn, language: str
) -> None:
    client = await sign_in(language=language)
    for kind, adapter in adapters().items():
        for name in ("main",) if adapter.is_pbx else (kind, f"{kind}:second"):
            address = f"/t/0367/{'pbxes' if adapter.is_pbx else 'integrations'}/{name}"
            page = html.unescape(await (await client.get(address)).get_data(as_text=True))
            assert words(language).about(kind) in page
            assert f'href="{adapter.docs_url}" rel="noreferrer"' in page
            assert (f'"{name}":\n  enabled: true' if ":" in name else read_folder(adapter.package).example) in page


@pytest.mark.parametrize("language", ["en", "ru"])
async def test_a_widget_s_page_has_the_line_for_the_site(world: World, sign_in: SignIn, language: str) -> None:
    (kind,) = [kind for kind, adapter in adapters().items() if adapter.widget is not None]
    client = await sign_in(language=language)
    address = f"/t/0367/integrations/{kind}"
    line = '<script async src="http://localhost:8000/widget.js" data-key='
    assert line not in html.unescape(await (await client.get(address)).get_data(as_text=True)), "there is no key yet"
    link = integration(IntegrationKey(kind), {"widget_key": "june-widget-key"}, enabled=True)
    tenant = world.cache.tenant(JUNE)
    assert tenant is not None
    changed = replace(tenant, integrations={**tenant.integrations, IntegrationKey(kind): link})
    world.cache._entries = {**world.cache._entries, JUNE: replace(world.cache._entries[JUNE], tenant=changed)}
    page = html.unescape(await (await client.get(address)).get_data(as_text=True))
    assert f'{line}"june-widget-key"></script>' in page
    assert "frame-src http://localhost:8000" in page
