"""Field mapping: which rules are taken, by whom, and what they write."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from adapters.bitrix24.settings import Bitrix24Settings
from adapters.crm_drafts import LONGEST_NOTE, client_of, note_text, plan_chat, plan_contact, plan_order
from adapters.mapping import MappingRule, mapped
from adapters.retailcrm.settings import RetailcrmSettings
from gateway.domain.calls import Call, apply
from gateway.domain.crm_facts import ChatLine
from gateway.domain.crm_sources import SOURCES, Facts, When, value_of
from gateway.domain.events import Result
from gateway.tenant_file import read_tenant_files
from tests.crms.facts import TENANT, at, chat, client, incoming, order

ACCOUNT = {"domain": "https://june.retailcrm.ru", "api_key": "k"}
PORTAL = {"webhook_url": "https://june.bitrix24.ru/rest/1/abcdefgh/"}


def rule(**more: Any) -> dict[str, Any]:
    return {"when": "order", "to": "status", "from": "order.status", **more}


def problems(model: Any, base: Mapping[str, Any], *rules: Any) -> dict[tuple[Any, ...], str]:
    """What is wrong with rules, by its place."""
    with pytest.raises(ValidationError) as caught:
        model.model_validate({**base, "mapping": list(rules)})
    return {one["loc"]: one["msg"] for one in caught.value.errors(include_input=False)}


@pytest.mark.parametrize(
    ("wrong", "place", "said"),
    [
        (rule(when="task"), "when", "call"), (rule(to=""), "to", "name of a field"), (rule(to="a b"), "to", "name of a field"),
        (rule(to="x" * 101), "to", "name of a field"), (rule(**{"from": "order.state"}), "from", "did you mean order.status"),
        (rule(**{"from": "call.result"}), "from", "no such source for order"), (rule(default=["x"]), "default", "on one line"),
        (rule(default="a\nb"), "default", "on one line"), (rule(default=float("nan")), "default", "on one line"),
        (rule(values={"new": {"x": 1}}), "values", "on one line"), (rule(extra=1), "extra", "not permitted"),
    ],
)  # fmt: skip
def test_a_wrong_rule_is_named_by_its_place(wrong: Mapping[str, Any], place: str, said: str) -> None:
    found = problems(RetailcrmSettings, ACCOUNT, rule(to="first"), wrong)
    ((loc, text),) = found.items()
    assert loc[:3] == ("mapping", 1, place)
    assert said in text


def test_rules_that_do_not_go_together_are_named_all_at_once() -> None:
    found = problems(RetailcrmSettings, ACCOUNT, rule(), rule(), rule(when="call", **{"from": "call.result"}))
    assert set(found) == {("mapping", 1, "to"), ("mapping", 2, "when")}
    assert "[0]" in found["mapping", 1, "to"]
    assert "only for contact, order, chat" in found["mapping", 2, "when"]
    Bitrix24Settings.model_validate({**PORTAL, "mapping": [rule(when="call", **{"from": "call.result"})]})


def test_a_rule_is_taken_as_a_line_of_a_form() -> None:
    line = '{"when": "order", "to": "status", "from": "order.status", "values": {"new": "n", "done": 7}}'
    (one,) = RetailcrmSettings.model_validate({**ACCOUNT, "mapping": [line]}).mapping
    assert one.values == {"new": "n", "done": 7}
    for wrong in ("status", "[1]", '"x"', "{", "[" * 100_000):
        assert set(problems(RetailcrmSettings, ACCOUNT, wrong)) == {("mapping", 0)}


def test_a_tenant_file_names_the_place_of_every_wrong_rule(tmp_path: Path) -> None:
    wrong = [rule(), rule(to="x", **{"from": "order.stat"}), "nonsense", rule(to="y", values=[1])]
    links = {"retailcrm": {**ACCOUNT, "mapping": wrong}, "bitrix24": {**PORTAL, "mapping": rule()}}
    file = tmp_path / "tenants.json"
    file.write_text(json.dumps({"tenants": [{"number": "1", "name": "x", "country": "BY", "integrations": links}]}))
    places = {
        line.partition(": ")[0].removeprefix("tenants[0].integrations.") for line in read_tenant_files([str(file)])[1]
    }
    assert places == {
        "retailcrm.mapping[1].from", "retailcrm.mapping[2]", "retailcrm.mapping[3].values", "bitrix24.mapping",
    }  # fmt: skip
    assert RetailcrmSettings.model_validate({**ACCOUNT, "mapping": None}).mapping == ()


def test_rules_survive_storing() -> None:
    given = [rule(values={"true": 1, 2: False}, default=1.5), rule(to="x", when="contact", **{"from": "contact.phone"})]
    settings = RetailcrmSettings.model_validate({**ACCOUNT, "mapping": given})
    stored = settings.model_dump(mode="json", by_alias=True)["mapping"]
    again = RetailcrmSettings.model_validate({**ACCOUNT, "mapping": stored})
    assert again.mapping == settings.mapping
    assert again.mapping[0].values == {"true": 1, "2": False}


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        ({}, {"F": "missed"}), ({"values": {"missed": 12}}, {"F": 12}), ({"values": {"answered": 13}}, {}),
        ({"values": {"answered": 13}, "default": 0}, {"F": 0}), ({"from": "call.queue"}, {}), ({"from": "call.queue", "default": "none"}, {"F": "none"}),
        ({"from": "call.uncertain", "values": {"false": "no"}}, {"F": "no"}), ({"from": "call.duration_s"}, {"F": 0}),
        ({"from": "call.phone"}, {"F": "+375296254070"}), ({"from": "call.started_at"}, {"F": "2026-11-21T12:00:00+03:00"}),
    ],
)  # fmt: skip
def test_what_a_rule_writes(more: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    rules = [MappingRule.model_validate({"when": "call", "to": "F", "from": "call.result", **more})]
    call = whole(result=Result.MISSED)
    assert mapped(rules, "call", call, TENANT) == wanted
    assert mapped(rules, "order", order(client()), TENANT) == {}


def whole(**more: Any) -> Call:
    """A call as it stands after its end."""
    call: Call | None = None
    for event in incoming("main-1", "+375296254070", **more):
        call = apply(call, event)
    assert call is not None
    return call


def test_every_source_has_a_value_of_a_type_that_any_crm_takes() -> None:
    facts: Mapping[When, Facts] = {
        "call": whole(then="152"), "contact": client(emails=("v@june.example",)), "order": order(client()), "chat": chat(client()),
    }  # fmt: skip
    for when, sources in SOURCES.items():
        for name, source in sources.items():
            value = value_of(when, name, facts[when], TENANT)
            assert value is None or type(value) in (str, int, float, bool), name
            assert {"en", "ru"} == set(source.label)
            if source.type == "choice":
                assert value in source.choices, name
    assert value_of("call", "call.employee_name", facts["call"], TENANT) is None, "152 is nobody's by name"
    assert value_of("order", "contact.phone", facts["order"], TENANT) == "+375296254070"


def test_a_note_holds_the_newest_lines_and_its_link_whatever_was_said() -> None:
    lines = tuple(ChatLine(at=at(n), author="client", text=f"{n} " + "ж" * 298) for n in range(30))
    text, _ = note_text(TENANT, replace(chat(client()), lines=lines, summary="с" * 1500))
    assert len(text) <= LONGEST_NOTE
    assert f"29 {'ж' * 10}" in text
    assert f" 0 {'ж' * 10}" not in text
    assert text.endswith("/inbox/1")


def test_a_change_that_no_crm_is_told_of_is_not_sent() -> None:
    settings, made = RetailcrmSettings.model_validate(ACCOUNT), order(client(), agreed_at=None)
    agreed = replace(made, order=replace(made.order, version=2, agreed_at=at(9)))
    assert plan_order(settings, TENANT, made.order, agreed) == ()
    assert plan_order(settings, TENANT, made.order, replace(made, order=replace(made.order, version=2, comment="x")))
    told = RetailcrmSettings.model_validate({**ACCOUNT, "mapping": [rule(to="orderType", **{"from": "order.agreed"})]})
    assert plan_order(told, TENANT, made.order, agreed)[0].body["fields"] == {"orderType": True}


def test_drafts_have_equal_keys_for_equal_facts_and_share_the_clients_lane() -> None:
    settings, vera = RetailcrmSettings.model_validate(ACCOUNT), client()
    drafts = [
        *plan_contact(settings, TENANT, vera),
        *plan_chat(settings, TENANT, chat(vera)),
        *plan_order(settings, TENANT, None, order(vera)),
    ]
    assert len({one.lane for one in drafts}) == 1
    assert len({one.key for one in drafts}) == 3
    assert [one.key for one in plan_contact(settings, TENANT, vera)] == [drafts[0].key]
    assert [one.key for one in plan_contact(settings, TENANT, client(name="Vera"))] != [drafts[0].key]
    assert client_of(drafts[2].body) == vera
    assert plan_contact(settings, TENANT, client(phones=())) == ()
