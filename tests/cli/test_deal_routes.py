"""Routes of deals in the tenant file: applied once, exported with masked tokens, every bad field named."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.conftest import Command
from tests.cli.test_apply import june, write

ROUTE: dict[str, Any] = {
    "name": "partner-to-main", "source": "bitrix24:partner", "target": "bitrix24", "allowed_domains": ["*.example.com"],
    "application_token": "token-of-the-partner-01", "mapping": {"TITLE": "TITLE", "STAGE_ID": {
        "field": "STAGE_ID", "values": {"C1:NEW": "NEW"}, "otherwise": "keep"}}, "filter": {"CATEGORY_ID": ["1"]},
}  # fmt: skip


def company(*routes: dict[str, Any]) -> dict[str, Any]:
    block = june(deal_routes=list(routes))
    block["integrations"] = {
        "bitrix24": {"webhook_url": "https://june.example.com/rest/1/abcdefgh/"},
        "bitrix24:partner": {"webhook_url": "https://partner.example.com/rest/1/abcdefgh/"},
    }
    return block


@pytest.mark.slow
def test_routes_are_applied_once_and_exported_masked(command: Command, installation: Path) -> None:
    file = write(installation, company(ROUTE))
    assert command("apply", file).code == 0
    assert command("apply", file).lines == ["nothing to change"]
    shown = command("export", "0367").out
    assert "token-of-the-partner-01" not in shown
    (block,) = yaml.safe_load(shown)["tenants"]
    assert block["deal_routes"] == [{**ROUTE, "application_token": "***"}]
    masked = write(installation, {**company({**ROUTE, "application_token": "***"})}, name="masked.yaml")
    assert command("apply", masked).lines == ["nothing to change"]
    revealed = yaml.safe_load(command("export", "0367", "--reveal").out)["tenants"][0]
    assert revealed["deal_routes"] == [ROUTE]


@pytest.mark.slow
def test_every_bad_field_of_a_route_is_named(command: Command, installation: Path) -> None:
    bad = {
        **ROUTE, "name": "B", "source": "telegram", "mapping": {"ID": "TITLE"}, "events": ["X"], "answer_within_ms": "soon", "extra": 1,
    }  # fmt: skip
    done = command("apply", write(installation, company(bad)))
    for place in ("name", "events[0]", "mapping", "answer_within_ms", "extra"):
        assert f"tenants[0].deal_routes[0].{place}" in done.err, place
    done = command("apply", write(installation, company({**ROUTE, "source": "telegram", "target": "bitrix24:none"})))
    assert "deal_routes[0].source: must be an integration that carries deals" in done.err
    done = command(
        "apply", write(installation, company({**ROUTE, "target": "bitrix24:none", "application_token": "***"}))
    )
    assert "deal_routes[0].target: there is no integration bitrix24:none" in done.err
    assert "deal_routes[0].application_token: *** keeps the stored secret" in done.err
    assert command("export", "0367").code != 0, "nothing was changed"
