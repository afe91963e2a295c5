"""Routes, mapping, events and tries of deals: tables of cases."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError

from gateway.domain.deal_events import MOST_EVENTS, StoredEvent, read_events
from gateway.domain.deal_mapping import DealSchema, Place, SchemaField, compare, digest, judged, map_deal, passes, same
from gateway.domain.deal_routes import DealRoute, routes_of, secret_name
from gateway.domain.deal_runs import again_after
from gateway.domain.ids import uuid7
from gateway.domain.posts import Invalid
from gateway.domain.secret import Secret

NOW = datetime(2026, 11, 29, 22, 30, tzinfo=UTC)
PLACE = Place("partner.example.com", NOW, ZoneInfo("Europe/Minsk"))
BASE: dict[str, Any] = {"name": "one", "source": "crm:partner", "target": "crm", "mapping": {"TITLE": "TITLE"}}


def route(**more: Any) -> DealRoute:
    return DealRoute.model_validate(BASE | more)


@pytest.mark.parametrize(("given", "field"), [
    ({"name": "A B"}, "name"), ({"source": "crm"}, ""), ({"target": "Crm!"}, "target"), ({"events": ["ONCRMLEADADD"]}, "events"),
    ({"events": []}, "events"), ({"answer_within_ms": -1}, "answer_within_ms"), ({"source_field": "uf"}, "source_field"),
    ({"allowed_domains": ["*"]}, "allowed_domains"), ({"allowed_domains": ["http://x"]}, "allowed_domains"),
    ({"application_token": "a b c d e f"}, "application_token"), ({"mapping": {}}, "mapping"), ({"mapping": {"id": "X"}}, "mapping"),
    ({"mapping": {"ID": "TITLE"}}, "mapping"), ({"mapping": {"TITLE": 7}}, "mapping"), ({"mapping": {"TITLE": {"text": "{x}"}}}, "mapping"),
    ({"mapping": {"TITLE": {"text": "a {"}}}, "mapping"), ({"mapping": {"TITLE": {"now": "yesterday"}}}, "mapping"),
    ({"mapping": {"TITLE": {"field": "A", "text": "b"}}}, "mapping"), ({"mapping": {"TITLE": {"field": "A", "values": {}}}}, "mapping"),
    ({"mapping": {"TITLE": {"field": "A", "otherwise": "keep"}}}, "mapping"), ({"filter": {"a": ["1"]}}, "filter"),
    ({"filter": {"STAGE_ID": []}}, "filter"), ({"contacts": True, "mapping": {"CONTACT_IDS": "A"}}, ""), ({"more": 1}, "more"),
])  # fmt: skip
def test_bad_fields_are_named_in_both_languages_and_secrets_are_not_repeated(given: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        route(**given)
    assert {str(one["loc"][0]) if one["loc"] else "" for one in caught.value.errors()} == {field}
    assert "input_value" not in str(caught.value)


def test_a_route_is_stored_without_its_token_and_reads_back() -> None:
    made = route(application_token="token-0123", filter={"CATEGORY_ID": 1}, mapping={
        "TITLE": {"field": "TITLE"}, "STAGE_ID": {"field": "STAGE_ID", "values": {"C1:NEW": "NEW", 7: 8}, "otherwise": "keep"},
        "UF_CRM_WHEN": {"now": "iso"},
    })  # fmt: skip
    stored = json.loads(json.dumps(made.plain()))
    assert "token-0123" not in json.dumps(stored)
    assert stored["mapping"]["TITLE"] == "TITLE"
    assert routes_of({"deal_routes": [stored]}, {secret_name("one"): Secret("token-0123")}) == (made,)


@pytest.mark.parametrize(("listed", "domain", "rank"), [
    (["*.example.com"], "a.example.com", 1), (["*.example.com"], "a.b.example.com", 1), (["*.example.com"], "evilexample.com", 0),
    (["*.example.com"], "example.com", 0), (["*.example.com"], ".example.com", 0), (["*.example.com"], "a.example.com.evil.org", 0),
    (["a.example.com"], "A.Example.COM.", 2), (["a.example.com"], "a.example.com:8443", 2), (["a.example.com:8443"], "a.example.com", 0),
    (["a.example.com"], "own.example.com", 0), (["*.example.com"], "own.example.com", 3), ([], "own.example.com", 3), ([], "", 0),
])  # fmt: skip
def test_domains(listed: list[str], domain: str, rank: int) -> None:
    assert route(allowed_domains=listed).fit(domain, "own.example.com")[0] == rank


DEAL = {
    "ID": "7", "TITLE": "Окна", "STAGE_ID": "C1:WON", "OPPORTUNITY": "10.00", "KIND": ["44", "45"], "EMPTY": None, "CATEGORY_ID": "1",
}  # fmt: skip


@pytest.mark.parametrize(("rule", "wanted"), [
    ("TITLE", "Окна"), ("EMPTY", ""), ("NONE", ""), ("KIND", ["44", "45"]),
    ({"field": "STAGE_ID", "values": {"C1:WON": "WON"}}, "WON"), ({"field": "KIND", "values": {"44": "1", "45": "2"}}, ["1", "2"]),
    ({"field": "STAGE_ID", "values": {"X": "Y"}, "otherwise": "NEW"}, "NEW"), ({"now": "date"}, "2026-11-30"),
    ({"now": "iso"}, "2026-11-29T22:30:00+00:00"),
    ({"text": "{source.domain} {source.id} {route.name} {deal.TITLE}{deal.EMPTY}"}, "partner.example.com 7 one Окна"),
])  # fmt: skip
def test_rules(rule: Any, wanted: Any) -> None:
    mapped = map_deal(route(mapping={"UF_X": rule}), DEAL, PLACE)
    assert mapped.fields == {"UF_X": wanted}


def test_a_value_that_is_in_no_table_keeps_or_refuses() -> None:
    table = {"field": "STAGE_ID", "values": {"X": "Y"}}
    keeps = map_deal(route(mapping={"STAGE_ID": {**table, "otherwise": "keep"}}), DEAL, PLACE)
    assert (keeps.fields, keeps.kept) == ({}, ("STAGE_ID",))
    refuses = map_deal(route(mapping={"STAGE_ID": table}), DEAL, PLACE)
    assert [(one.field, one.code, one.value) for one in refuses.refused] == [("STAGE_ID", "no_value", "C1:WON")]


def test_the_time_is_no_reason_to_write() -> None:
    timed = route(mapping={"TITLE": "TITLE", "UF_X": {"now": "iso"}})
    later = Place(PLACE.source_domain, NOW + timedelta(hours=5), PLACE.timezone)
    assert digest(map_deal(timed, DEAL, PLACE), ["1"], "") == digest(map_deal(timed, DEAL, later), ["1"], "")
    assert digest(map_deal(timed, DEAL, PLACE), ["1"], "") != digest(map_deal(timed, DEAL, PLACE), ["2"], "")
    assert digest(map_deal(timed, DEAL, PLACE), [], "") != digest(map_deal(timed, DEAL | {"TITLE": "x"}, PLACE), [], "")


def test_what_the_target_does_not_know_is_left_out_or_refused() -> None:
    schema = DealSchema(
        fields={"TITLE": SchemaField("Title"), "STAGE_ID": SchemaField("Stage"), "CURRENCY_ID": SchemaField("Currency"),
                "DATE": SchemaField("Date", read_only=True)},
        stages={"0": {"NEW": "New"}}, currencies={"BYN": "Ruble"},
    )  # fmt: skip
    all_ = route(
        mapping={"TITLE": "TITLE", "STAGE_ID": "STAGE_ID", "CURRENCY_ID": "TITLE", "DATE": "TITLE", "UF_X": "TITLE"}
    )
    mapped, unknown = judged(map_deal(all_, DEAL, PLACE), schema, "0")
    assert {one.field for one in unknown} == {"DATE", "UF_X"}
    assert {(one.field, one.code) for one in mapped.refused} == {
        ("STAGE_ID", "unknown_stage"),
        ("CURRENCY_ID", "unknown_currency"),
    }
    assert not judged(map_deal(all_, DEAL, PLACE), DealSchema(), "0")[0].refused, "what is not known is not judged"


def test_filter_and_comparison() -> None:
    assert passes(route(filter={"CATEGORY_ID": ["1", "2"]}), DEAL) == ""
    assert passes(route(filter={"CATEGORY_ID": ["2"]}), DEAL) == "CATEGORY_ID"
    assert passes(route(filter={"KIND": ["45"]}), DEAL) == ""
    two = route(mapping={"TITLE": "TITLE", "OPPORTUNITY": "OPPORTUNITY", "UF_X": "TITLE"})
    rows = compare(two, DEAL, map_deal(two, DEAL, PLACE), {"TITLE": "Двери", "OPPORTUNITY": "10"})
    assert [(one.field, one.result) for one in rows] == [
        ("TITLE", "changed"),
        ("OPPORTUNITY", "same"),
        ("UF_X", "empty_there"),
    ]


@pytest.mark.parametrize(("ours", "theirs", "wanted"), [
    ("100", "100.00", True), ("", None, True), ([], None, True), (["1", "2"], [1, 2], True), ("1", "2", False), ("Y", "1", True),
    ("2026-11-29T12:00:00+03:00", "2026-11-29T09:00:00+00:00", True), ("a", ["a"], True), ("a", "A", False), ("x", "", False),
])  # fmt: skip
def test_values_that_are_one(ours: Any, theirs: Any, wanted: bool) -> None:
    assert same(ours, theirs) is wanted


EVENT = {
    "event": "ONCRMDEALUPDATE",
    "data": {"FIELDS": {"ID": 7}},
    "auth": {"domain": "a.example.com", "application_token": "t"},
    "ts": 1,
}


def test_events_by_json_form_and_list() -> None:
    ((one,), several) = read_events(json.dumps(EVENT).encode(), form=False)
    assert (one.event, one.deal_id, one.domain, one.token, several) == (
        "ONCRMDEALUPDATE",
        7,
        "a.example.com",
        "t",
        False,
    )
    form = b"event=OnCrmDealUpdate&data[FIELDS][ID]=7&ts=1&auth[domain]=A.example.com&auth[application_token]=t"
    ((other,), _) = read_events(form, form=True)
    assert (other.event, other.deal_id, other.domain) == (one.event, one.deal_id, one.domain)
    found, several = read_events(json.dumps([EVENT, EVENT | {"ts": 2}]).encode(), form=False)
    assert several
    assert found[0].digest == one.digest != found[1].digest
    ids = uuid7()
    stored = StoredEvent.read(one.body(["r"], ids))
    assert (stored.deal_id, stored.routes, stored.correlation) == (7, ("r",), ids)
    assert '"t"' not in one.body(["r"], ids)


@pytest.mark.parametrize(("body", "paths"), [
    ({}, {"event", "data.FIELDS.ID", "auth.domain"}), ({**EVENT, "data": {"FIELDS": {"ID": "x"}}}, {"data.FIELDS.ID"}),
    ({**EVENT, "data": {"FIELDS": {"ID": 0}}}, {"data.FIELDS.ID"}), ({**EVENT, "data": {"FIELDS": {"ID": True}}}, {"data.FIELDS.ID"}),
    ({**EVENT, "data": []}, {"data.FIELDS.ID"}), ({**EVENT, "ts": {}}, {"ts"}), ({**EVENT, "auth": {"domain": 5}}, {"auth.domain"}),
    ([EVENT, {**EVENT, "event": ""}], {"[1].event"}), ([], {"body"}), ([EVENT] * (MOST_EVENTS + 1), {"body"}), ([7], {"[0]"}), ("x", {"body"}),
])  # fmt: skip
def test_bad_events_name_every_field(body: Any, paths: set[str]) -> None:
    with pytest.raises(Invalid) as caught:
        read_events(json.dumps(body).encode(), form=False)
    assert {path for path, _ in caught.value.problems} == paths


@pytest.mark.parametrize("body", [b"\xff", b"{", b"[" * 100_000, b'{"a": NaN}', b"a[b=1&a=2"])
def test_what_is_no_event_at_all(body: bytes) -> None:
    for form in (False, True):
        with pytest.raises(Invalid):
            read_events(body, form=form)


def test_tries_are_quick_then_slow_until_two_days_are_over() -> None:
    assert [again_after(n, spread=0.0) for n in range(1, 6)] == [1.0, 2.0, 4.0, 60.0, 120.0]
    assert again_after(1, spread=1.0) == pytest.approx(1.1)
    assert again_after(40, spread=0.0) == 3600.0
    assert again_after(1, 90.0, 0.0) == 90.0


def test_ids_of_events_are_in_the_order_of_time() -> None:
    made = [uuid7() for _ in range(3)]
    assert {one.version for one in made} == {7}
    assert all(one.variant == "specified in RFC 4122" for one in made)
