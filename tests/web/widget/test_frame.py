"""What a company's page loads: which sites may hold the frame, what its document says, how long browsers keep what."""

import gzip
import html
import json
import re

import pytest

from gateway.web.http.routes import Response
from gateway.web.widget.frame import client_files
from gateway.web.widget.origins import ancestors
from tests.web.widget.here import JUNE, KEYS, Here, company

MOST_BEFORE_OPENING = 30_000


async def frame(here: Here) -> Response:
    return await here.raw("GET", f"/widget/{KEYS[JUNE]}", origin=None)


def policy(response: Response) -> str:
    return dict(response.headers)["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("domains", "public_url", "sources"),
    [
        ("shop.example, *.june.example", "https://gw.example", "https://shop.example https://*.june.example"),
        ("shop.example:8443", "https://gw.example", "https://shop.example:8443"),
        ("localhost:5000", "http://gw.example", "https://localhost:5000 http://localhost:5000"),
        ("", "https://gw.example", "'none'"),
    ],
)
async def test_the_allowed_domains_may_hold_the_frame(here: Here, domains: str, public_url: str, sources: str) -> None:
    here.tenants[JUNE] = company(JUNE, allowed_domains=domains)
    place = here.deps.find(KEYS[JUNE])
    assert place is not None
    assert ancestors(place.widget, public_url) == sources
    assert f"frame-ancestors {ancestors(place.widget, 'https://gateway.example')}" in policy(await frame(here))


async def test_the_document_runs_and_loads_nothing_but_ours(here: Here) -> None:
    found = policy(await frame(here))
    assert "default-src 'none'" in found
    assert "unsafe" not in found
    assert "script-src 'self'" in found
    text = (await frame(here)).body.decode()
    assert re.findall(r'(?:src|href)="([^"]+)"', text) == [
        f"/widget-files/{client_files().version}/frame.css", f"/widget-files/{client_files().version}/frame.js",
    ]  # fmt: skip


async def test_what_people_entered_stays_text(here: Here) -> None:
    evil = '"><script>alert(1)</script>'
    here.tenants[JUNE] = company(JUNE, title=evil, greeting=evil)
    text = (await frame(here)).body.decode()
    assert "<script>alert" not in text
    found = re.search(r'data-widget="([^"]*)"', text)
    assert found is not None
    held = json.loads(html.unescape(found[1]))
    assert (held["title"], held["greeting"]) == (evil, evil)
    assert "secret" not in text


async def test_a_widget_without_a_title_has_the_company_s_name(here: Here) -> None:
    assert "<title>June</title>" in (await frame(here)).body.decode()


async def test_a_widget_that_is_not_there_is_held_by_nobody(here: Here) -> None:
    found = await here.raw("GET", "/widget/nobody-has-this", origin=None)
    assert found.status == 404
    assert "frame-ancestors 'none'" in policy(found)


async def test_the_script_may_be_loaded_by_other_sites_and_the_parts_are_kept_for_good(here: Here) -> None:
    loader = await here.raw("GET", "/widget.js", origin=None)
    assert dict(loader.headers)["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert loader.content_type.startswith("text/javascript")
    version = client_files().version
    for name, kind in (
        ("frame.js", "text/javascript"),
        ("frame.css", "text/css"),
        ("connection.js", "text/javascript"),
    ):
        part = await here.raw("GET", f"/widget-files/{version}/{name}", origin=None)
        assert part.content_type.startswith(kind)
        assert "immutable" in dict(part.headers)["Cache-Control"]
        old = await here.raw("GET", f"/widget-files/0000/{name}", origin=None)
        assert (old.body, dict(old.headers)["Cache-Control"]) == (part.body, "no-store")
    for name in ("loader.js", "nothing.js", "..", "frame.py"):
        assert (await here.raw("GET", f"/widget-files/{version}/{name}", origin=None)).status == 404


async def test_all_that_is_loaded_before_opening_is_small(here: Here) -> None:
    loaded = [body for _, body in client_files().files.values()]
    loaded.append((await frame(here)).body)
    assert sum(len(gzip.compress(one)) for one in loaded) < MOST_BEFORE_OPENING
