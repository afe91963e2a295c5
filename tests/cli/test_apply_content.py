"""`profile`, `catalog` and `prompts` of a tenant file: declared, declared again, exported, pruned, and every problem by its path."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.conftest import Command
from tests.cli.test_apply import june, write

CONTENT = "# Role\nYou are the operator of {{business_name}}…\n# Rules\nFee: {{delivery_fee}}\n# Catalog\n{{catalog}}"
PROFILE: dict[str, Any] = {
    "currency": "BYN", "business_type": "restaurant", "description": "Pizza\nand more", "phone": "+375291112233", "address": "Minsk",
    "website": "https://june.example",
    "working_hours": [{"days": ["mon", "tue"], "from": "09:00", "to": "18:00"}, {"days": ["sat"], "from": "10:00", "to": "26:00"}],
    "holidays": ["2026-12-31", {"date": "2027-01-02", "from": "12:00", "to": "16:00"}],
}  # fmt: skip
ITEM: dict[str, Any] = {
    "id": "margherita", "name": "Margherita", "description": "Thin", "price": "12.50", "currency": "BYN", "category": "Pizza",
    "available": True, "attributes": {"size": "30 cm"}, "sort_order": 1,
}  # fmt: skip
PROMPT: dict[str, Any] = {
    "name": "Main", "content": CONTENT, "active": True,
    "variables": [{"key": "delivery_fee", "label": "Delivery", "default_value": "5 BYN", "source": "custom"}],
}  # fmt: skip


def with_content(**changes: Any) -> dict[str, Any]:
    block = june(users=[], pbxes=[], phones=[], profile=PROFILE, catalog=[ITEM], prompts=[PROMPT])
    return block | changes


def as_json(folder: Path, block: dict[str, Any]) -> str:
    """A file in which everything stands in its order."""
    file = folder / "tenants.json"
    file.write_text(json.dumps({"tenants": [block]}), "utf-8")
    return str(file)


def exported(command: Command) -> dict[str, Any]:
    (tenant,) = yaml.safe_load(command("export", "0367").out)["tenants"]
    return dict(tenant)


@pytest.mark.slow
def test_content_is_declared_once_and_comes_back(command: Command, installation: Path) -> None:
    file = write(installation, with_content())
    dry = command("apply", "--dry-run", file)
    first = command("apply", file)
    assert (first.code, first.err, first.lines[:-1]) == (0, "", dry.lines[:-1])
    assert first.lines[-4:-1] == [
        "tenant 0367: profile business_type, description, phone, address, website, currency, working_hours, holidays changed",
        "tenant 0367: catalog.margherita added",
        "tenant 0367: prompts.Main version 1 saved",
    ]
    assert command("apply", file).out == "nothing to change\n"
    tenant = exported(command)
    assert tenant["profile"] == PROFILE
    assert tenant["catalog"] == [ITEM]
    assert tenant["prompts"] == [PROMPT]
    back = installation / "back.yaml"
    back.write_text(command("export", "0367").out)
    assert "content: |" in back.read_text()
    assert command("apply", str(back)).out == "nothing to change\n"
    assert command("apply", "--prune", str(back)).out == "nothing to change\n"


@pytest.mark.slow
def test_changes_and_what_is_not_named(command: Command, installation: Path) -> None:
    assert command("apply", write(installation, with_content())).code == 0
    bare = june(users=[], pbxes=[], phones=[])
    assert command("apply", write(installation, bare)).out == "nothing to change\n"
    night = {"name": "Night", "content": CONTENT, "variables": PROMPT["variables"], "active": True}
    changed = with_content(
        profile={**PROFILE, "phone": "+375291112244"}, catalog=[{**ITEM, "price": 13}, {"id": "tea", "name": "Tea", "price": "3"}],
        prompts=[{**PROMPT, "content": CONTENT + "!", "active": None}, night],
    )  # fmt: skip
    assert command("apply", write(installation, changed)).lines == [
        "tenant 0367: profile phone changed",
        "tenant 0367: catalog.margherita changed",
        "tenant 0367: catalog.tea added",
        "tenant 0367: prompts.Main version 2 saved",
        "tenant 0367: prompts.Night version 1 saved",
        "5 changed",
    ]
    assert command("apply", write(installation, changed)).out == "nothing to change\n"
    assert [(one["name"], one["active"]) for one in exported(command)["prompts"]] == [("Night", True), ("Main", False)]
    assert command("apply", write(installation, with_content(prompts=[{**PROMPT, "content": CONTENT + "!"}], catalog=[]))).lines == [
        "tenant 0367: profile phone changed", "tenant 0367: prompts.Main activated", "2 changed",
    ]  # fmt: skip
    assert command("apply", "--prune", write(installation, bare)).lines == [
        "tenant 0367: profile business_type, description, phone, address, website, currency, working_hours, holidays changed",
        "tenant 0367: catalog.tea removed",
        "tenant 0367: catalog.margherita removed",
        "tenant 0367: prompts.Main removed",
        "tenant 0367: prompts.Night removed",
        "5 changed",
    ]
    assert not {"profile", "catalog", "prompts"} & exported(command).keys()


def test_every_problem_has_its_path(command: Command, installation: Path) -> None:
    wrong = with_content(
        profile={"business_type": "bakery", "working_hours": [{"days": ["mon"], "from": "9", "to": "18:00"}], "nobody": 1},
        catalog=[{"id": "a", "name": ""}, {**ITEM, "price": "12.505"}, ITEM, 7],
        prompts=[
            {"name": "A", "content": "# Role\n{{nobody}}", "active": True},
            {"name": "A", "content": "draft", "active": True, "variables": [{"key": "x"}, {"key": "x"}]},
            {"content": 5},
        ],
    )  # fmt: skip
    answer = command("apply", write(installation, wrong))
    assert answer.code == 1
    paths = [line.split("tenants[0].")[1].partition(": ")[0] for line in answer.errors if "tenants[0]." in line]
    assert paths == [
        "profile.business_type", "profile.working_hours[0].from", "profile.nobody", "catalog[0].name", "catalog[0].price",
        "catalog[3]", "catalog", "prompts[2].name", "prompts[2].content", "prompts", "prompts[1].variables[1].key", "prompts",
        "catalog[1].price", "prompts[0].content", "prompts[0].content", "prompts[1].content", "prompts[1].content",
    ]  # fmt: skip
    assert any(
        "prompts[0].content: line 2, column 1: there is no placeholder {{nobody}}" in line for line in answer.errors
    )
    assert "no tenant 0367" in command("export", "0367").err


@pytest.mark.slow
def test_the_order_of_integrations_is_that_of_the_file(command: Command, installation: Path) -> None:
    block = june()
    assert command("apply", write(installation, block)).code == 0
    turned = {**block, "integrations": dict(reversed(block["integrations"].items()))}
    file = as_json(installation, turned)
    assert command("apply", file).lines == [
        "tenant 0367: order of integrations changed",
        "1 changed",
    ]
    assert command("apply", file).out == "nothing to change\n"
    assert list(exported(command)["integrations"]) == ["telegram", "retailcrm"]


@pytest.mark.long
def test_a_large_catalog_takes_seconds(command: Command, installation: Path) -> None:
    items = [
        {"id": f"i{n}", "name": f"Пицца {n}", "price": f"{n}.50", "category": f"Раздел {n % 40}"} for n in range(10_000)
    ]
    file = as_json(installation, with_content(catalog=items))
    began = time.perf_counter()
    assert command("apply", file).lines[-3:-1] == [
        "tenant 0367: catalog 10000 added, 0 changed, 0 removed", "tenant 0367: prompts.Main version 1 saved",
    ]  # fmt: skip
    assert command("apply", file).out == "nothing to change\n"
    assert len(exported(command)["catalog"]) == 10_000
    assert time.perf_counter() - began < 60
