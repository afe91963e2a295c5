"""What bots get: whole for any company, without what is off or waits for a person, and the same tag until something changes."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.registry import integrations
from gateway.domain.catalog import Item
from gateway.domain.configuration import Connector, Tenant, integration
from gateway.domain.ids import IntegrationKey, Kind, TenantId
from gateway.domain.profile import BUSINESS_TYPES, Profile
from gateway.domain.prompts import MENU_KEYS, PROFILE_KEYS, Variable
from gateway.domain.secret import Secret
from gateway.store.prompts import VersionRow
from gateway.web.content.bot_config import Content, build_core, finish

NOW = datetime(2026, 11, 28, 22, 30, tzinfo=UTC)
BY_TYPE = {
    kind: [one for one, adapter in integrations().items() if adapter.type == kind] for kind in ("crm", "channel")
}


def links_of(keys: Mapping[str, bool], **more: Any) -> MappingProxyType[IntegrationKey, Connector]:
    made = {}
    for key, enabled in keys.items():
        link = integration(key, {"api_key": Secret(f"k-{key}"), "bot_token": Secret(f"t-{key}"), "auth_token": Secret(f"t-{key}"), "access_token": Secret(f"t-{key}"), "domain": "https://x.example",
                                 "client_id": Secret("ours") if key.startswith("retailcrm") else "an-application", "hook_id": Secret("ours"), **more.get(key, {})}, enabled=enabled)  # fmt: skip
        made[link.key] = link
    return MappingProxyType(made)


def tenant(keys: Mapping[str, bool] | None = None, **more: Any) -> Tenant:
    return Tenant(
        TenantId("0367"), "June", ZoneInfo("Europe/Minsk"), "BY", "ru", integrations=links_of(keys or {}, **more)
    )


def prompt(content: str, variables: tuple[Variable, ...] = ()) -> tuple[str, VersionRow]:
    return ("Main", VersionRow("p1", 3, content, variables, "", "who", NOW))


def catalog(*items: Item) -> str:
    return json.dumps([{**one.plain(), "business_id": "0367", "price": float(one.price)} for one in items])


def shown(
    of: Tenant, content: Content, broken: frozenset[IntegrationKey] = frozenset(), at: datetime = NOW
) -> dict[str, Any]:
    found = json.loads(finish(build_core(of, content), broken).body(at))
    assert isinstance(found, dict)
    return found


names = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"], exclude_characters="{}"), min_size=1, max_size=30
)
profiles = st.builds(
    Profile,
    business_type=st.sampled_from(BUSINESS_TYPES), description=names, address=names, currency=st.sampled_from(["", "BYN", "JPY"]),
    working_hours=st.just([{"days": ["mon"], "from": "10:00", "to": "26:00"}]) | st.just([]),
)  # fmt: skip
items = st.lists(
    st.builds(
        lambda n, name, price, category, available: Item(
            id=f"i{n}", name=f"x{name}", price=price, category=category, available=available, currency="BYN"
        ).priced_in("BYN"),
        st.integers(0, 99), names, st.decimals(0, 999, places=2), names | st.none(), st.booleans(),
    ), max_size=6, unique_by=lambda one: one.id,
)  # fmt: skip
keys = st.sampled_from([*PROFILE_KEYS, *MENU_KEYS, "own"])
wanted = st.dictionaries(
    st.sampled_from([*BY_TYPE["crm"], *BY_TYPE["channel"], *(f"{kind}:two" for kind in integrations())]),
    st.booleans(),
    max_size=5,
)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(profiles, items, st.lists(st.tuples(names, keys), max_size=6), st.booleans(), wanted, st.data())
def test_the_configuration_is_whole_for_any_company(
    profile: Profile,
    sold: list[Item],
    text: list[tuple[str, str]],
    has_prompt: bool,
    links: dict[str, bool],
    data: st.DataObject,
) -> None:
    """Feature: modular-bot-integrations, Property 4: bot-config is whole for any valid key: the active prompt rendered, every
    channel and CRM that is on and works with its credentials, the profile and the whole catalog.

    And the half of Property 2 that concerns bot-config: what is switched off or broken is not in it."""
    of = tenant(links)
    broken = frozenset(IntegrationKey(key) for key in links if data.draw(st.booleans()))
    content = "".join(f"{before}{{{{{key}}}}}" for before, key in text)
    own = Variable(key="own", default_value="{{phone}}")
    document = shown(of, Content(profile, prompt(content, (own,)) if has_prompt else None, catalog(*sold)), broken)
    assert list(document) == [
        "business_id", "business_name", "business_type", "version", "prompt", "prompt_source", "channels", "crm", "crms", "catalog",
        "settings",
    ]  # fmt: skip
    assert (document["business_id"], document["business_name"], document["business_type"]) == (
        "0367",
        "June",
        profile.business_type,
    )
    if has_prompt:
        assert re.search(r"\{\{[a-z_]+\}\}", document["prompt"].replace("{{phone}}", "")) is None
        assert all(before in document["prompt"] for before, _ in text)
        assert document["prompt_source"] == {
            "id": "p1", "name": "Main", "version": 3, "content": content, "variables": [own.plain()],
        }  # fmt: skip
    else:
        assert (document["prompt"], document["prompt_source"]) == (None, None)
    here = [key for key, enabled in links.items() if enabled and key not in broken]
    channels = [key for key in here if key.partition(":")[0] in BY_TYPE["channel"]]
    crms = [key for key in here if key.partition(":")[0] in BY_TYPE["crm"]]
    assert [(one["integration"], one["enabled"]) for one in document["channels"]] == [(key, True) for key in channels]
    assert [one["integration"] for one in document["crms"]] == crms
    assert document["crm"] == (document["crms"][0] if crms else None)
    for one in document["channels"] + document["crms"]:
        assert one["provider"] == one["integration"].partition(":")[0]
        assert one["credentials"] or not any(
            field.is_required() for field in integrations()[Kind(one["provider"])].settings.model_fields.values()
        )
        assert "ours" not in json.dumps(one)
    assert [one["id"] for one in document["catalog"]] == [one.id for one in sold]
    assert [one["price"] for one in document["catalog"]] == [float(one.price) for one in sold]
    assert document["settings"] == {
        "language": "ru", "timezone": "Europe/Minsk", "working_hours": profile.plain()["working_hours"],
    }  # fmt: skip


def test_credentials_are_what_a_bot_connects_with() -> None:
    of = tenant({"telegram:support": True, "retailcrm": True})
    document = shown(of, Content(Profile(), None, "[]"))
    assert document["channels"] == [
        {"provider": "telegram", "integration": "telegram:support", "credentials": {"bot_token": "t-telegram:support"}, "enabled": True}
    ]  # fmt: skip
    assert document["crm"] == {
        "provider": "retailcrm", "integration": "retailcrm", "credentials": {"domain": "https://x.example", "api_key": "k-retailcrm"},
        "sync_contacts": True, "sync_orders": True,
    }  # fmt: skip


def test_the_primary_crm_is_the_one() -> None:
    links = {"retailcrm": True, "retailcrm:b": True}
    content = Content(Profile(), None, "[]")
    assert shown(tenant(links), content)["crm"]["integration"] == "retailcrm"
    of = tenant(links, **{"retailcrm:b": {"primary": True}})
    assert shown(of, content)["crm"]["integration"] == "retailcrm:b"
    assert shown(of, content, frozenset([IntegrationKey("retailcrm:b")]))["crm"]["integration"] == "retailcrm"


def test_the_tag_is_of_everything_but_the_clock() -> None:
    of = tenant({"telegram": True})
    content = Content(Profile(description="Pizza"), prompt("It is {{today}}, {{now}}. {{description}}"), "[]")
    answer = finish(build_core(of, content), frozenset())
    assert answer.late
    first, second = (json.loads(answer.body(at)) for at in (NOW, NOW.replace(hour=23)))
    assert first["prompt"] == "It is 2026-11-29, воскресенье, 2026-11-29 01:30. Pizza"
    assert second["prompt"] == "It is 2026-11-29, воскресенье, 2026-11-29 02:30. Pizza"
    assert first["version"] == second["version"] == answer.etag
    tags = {answer.etag}
    for changed, other in (
        (replace(of, name="July"), content), (replace(of, integrations=MappingProxyType({})), content),
        (of, replace(content, profile=Profile(description="Pasta"))), (of, replace(content, prompt=None)),
        (of, replace(content, prompt=prompt("It is {{now}}, {{now}}. {{description}}"))),
        (of, replace(content, catalog='[{"id": "a", "price": 1}]', prompt=None)),
    ):  # fmt: skip
        tags.add(finish(build_core(changed, other), frozenset()).etag)
    assert len(tags) == 7
    assert finish(build_core(of, content), frozenset([IntegrationKey("telegram")])).etag != answer.etag
    assert "t-telegram" not in repr(answer)
    assert b"t-telegram" in answer.body(NOW)
    assert not finish(build_core(of, replace(content, prompt=prompt("{{phone}}"))), frozenset()).late
