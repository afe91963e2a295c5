"""The menu: who sees which section, which of them is the page in view."""

from dataclasses import replace
from types import MappingProxyType
from zoneinfo import ZoneInfo

import pytest

from adapters.abilities import Registers
from adapters.registry import integrations
from gateway.domain.configuration import Tenant, integration
from gateway.domain.ids import IntegrationKey, TenantId
from gateway.domain.people import Role
from gateway.web.navigation import SECTIONS, Audience, Group, Section, grouped, menu
from gateway.web.translations import words


@pytest.fixture
def tenant() -> Tenant:
    """A company without integrations."""
    return Tenant(TenantId("0367"), "June", ZoneInfo("Europe/Minsk"), "BY", "ru")


def names(
    tenant: Tenant | None, path: str = "/", *, operator: bool = False, role: Role | None = Role.ADMIN
) -> list[str]:
    return [one.section.name for one in menu(tenant, path, operator=operator, role=role)]


def test_every_section_has_a_text() -> None:
    assert [one.name for one in SECTIONS if f"nav.{one.name}" not in words("en").texts] == []


def test_a_section_is_for_its_audience(tenant: Tenant) -> None:
    company = {one.name for one in SECTIONS if one.audience is Audience.COMPANY and one.needs is None}
    operators = {one.name for one in SECTIONS if one.audience is Audience.OPERATORS}
    own = {"security", "sessions"}
    assert set(names(tenant)) == company | own
    assert set(names(tenant, operator=True)) == company | operators | own
    assert set(names(None, operator=True)) == operators | own
    assert set(names(None)) == own


def test_a_role_sees_the_sections_that_it_may_open(tenant: Tenant) -> None:
    assert names(tenant, role=Role.AGENT) == [
        "overview", "calls", "missed", "dialling", "inbox", "customers", "orders", "security", "sessions",
    ]  # fmt: skip
    assert "dialling" not in names(tenant, role=Role.AUDITOR)
    assert {*names(tenant, role=Role.AUDITOR), "dialling"} == {*names(tenant)}
    assert names(tenant, role=None) == ["security", "sessions"]


def test_a_section_may_need_an_ability(tenant: Tenant) -> None:
    section = Section(name="extensions", address="/extensions", needs=Registers)
    for kind, adapter in integrations().items():
        for key in (IntegrationKey(kind), IntegrationKey(f"{kind}:second")):
            has = replace(tenant, integrations=MappingProxyType({key: integration(key, {})}))
            assert bool(menu(has, "/", operator=False, role=Role.ADMIN, sections=[section])) == adapter.can(Registers)
    gone = replace(tenant, integrations=MappingProxyType({IntegrationKey("no_such"): integration("no_such", {})}))
    assert not menu(gone, "/", operator=False, role=Role.ADMIN, sections=[section])


@pytest.mark.parametrize(
    ("path", "name"),
    [("/calls", "calls"), ("/calls/7.7", "calls"), ("/calls?page=2", "calls"), ("/pbxes/new", "integrations"),
     ("/integrations/telegram", "integrations"), ("/callsign", None), ("", None)],
)  # fmt: skip
def test_the_section_in_view_is_marked(tenant: Tenant, path: str, name: str | None) -> None:
    marked = [
        one.section.name
        for one in menu(tenant, f"/t/{tenant.number}{path}", operator=True, role=Role.ADMIN)
        if one.here
    ]
    assert marked == ([name] if name else [])


def test_entries_stand_in_groups_in_one_order(tenant: Tenant) -> None:
    groups = grouped(menu(tenant, "/", operator=True, role=Role.ADMIN))
    assert [group for group, _ in groups] == [*Group], "each once, so no section stands outside its group"
    assert [group for group, _ in grouped(menu(None, "/", operator=True, role=None))] == ["installation", "account"]
    assert max(len(members) for _, members in groups) <= 5, "a group that can be taken in at a glance"
    assert [one for one in Group if f"nav_group.{one}" not in words("en").texts] == []
