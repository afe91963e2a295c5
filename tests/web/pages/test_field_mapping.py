"""The page of field mapping: chosen from the CRM's own fields, saved and audited, tried without sending; and the same by REST."""

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from actors.crm.registration import FieldsRead
from adapters.abilities import CrmField, FieldValue
from adapters.registry import Linked
from gateway.domain.ids import IntegrationKey, TenantId
from gateway.domain.people import Role
from gateway.store.audit import select_audit
from tests.web.conftest import SignIn, submitted
from tests.web.pages.test_inbox import as_person, text_of
from tests.web.rest.conftest import Api, make_api
from tests.web.world import CSRF, JUNE, World, play

HOME = "/t/0367/integrations/retailcrm/fields"
KEY = IntegrationKey("retailcrm")
STATUS = CrmField(
    name="status",
    title="Статус <b>",
    type="choice",
    values=(FieldValue("new", "Новый"), FieldValue("complete", "Выполнен")),
)
LINK = CrmField(name="customFields.link", title="Ссылка", required=True)


@dataclass
class Crm:
    """What the CRM says of its fields."""

    read: FieldsRead = field(
        default_factory=lambda: FieldsRead({"order": [STATUS, LINK], "contact": [LINK], "chat": [LINK]})
    )

    async def fields(self, number: TenantId, linked: Linked, *, anew: bool = False) -> FieldsRead:
        return self.read


@pytest.fixture
def crm(world: World, monkeypatch: pytest.MonkeyPatch) -> Crm:
    made = Crm()
    monkeypatch.setattr(world.deps.modules, "fields", made.fields)
    return made


def rules(world: World) -> list[Any]:
    tenant = world.cache.tenant(JUNE)
    assert tenant is not None
    return list(tenant.integrations[KEY].settings.get("mapping", ()))


async def test_a_rule_is_made_of_the_crms_own_lists_and_audited(world: World, crm: Crm, sign_in: SignIn) -> None:
    client = await sign_in()
    assert f'href="{HOME}"' in await text_of(client, "/t/0367/integrations/retailcrm")
    page = await text_of(client, f"{HOME}?when=order")
    assert "Статус &lt;b&gt; (status)" in page
    assert "Ссылка (customFields.link) *" in page
    page = await text_of(client, f"{HOME}?when=order&to=status&from=order.status")
    assert page.count('<option value="complete">Выполнен</option>') == 6, (
        "one list for each of our values, and the other"
    )
    form = {
        "csrf": CSRF,
        "do": "save",
        "when": "order",
        "to": "status",
        "from": "order.status",
        "value.done": "complete",
        "value.new": "",
    }
    page = await submitted(client, HOME, form)
    assert "The rule is saved." in page
    assert rules(world) == [
        {"when": "order", "to": "status", "from": "order.status", "default": None, "values": {"done": "complete"}}
    ]
    assert "<code>done</code> → Выполнен" in await text_of(client, f"{HOME}?when=order")
    (line, *_) = await world.db.tenant(JUNE, select_audit, JUNE, None, 1)
    assert line.action == "config.changed"
    assert "mapping" in str(line.new)
    await submitted(client, HOME, form | {"default": "new"})
    assert [one["default"] for one in rules(world)] == ["new"], "a second rule for the field takes the first's place"
    assert "The rule is removed." in await submitted(
        client, HOME, {"csrf": CSRF, "do": "remove", "when": "order", "to": "status"}
    )
    assert rules(world) == []


async def test_a_wrong_rule_is_named_and_nothing_is_lost(world: World, crm: Crm, sign_in: SignIn) -> None:
    client = await sign_in()
    form = {
        "csrf": CSRF,
        "when": "order",
        "to": "status",
        "from": "order.status",
        "value.done": "x" * 501,
        "value.new": "n",
        "default": "d",
    }
    page = await submitted(client, HOME, form)
    assert "at most 500 characters" in page
    assert 'value="n" selected' in page
    assert rules(world) == []
    page = await submitted(client, HOME, form | {"when": "call", "from": "call.result", "value.done": ""})
    assert "The rule is saved." not in page
    assert rules(world) == []


async def test_without_the_crms_answer_a_field_can_be_typed(world: World, crm: Crm, sign_in: SignIn) -> None:
    client = await sign_in()
    crm.read = FieldsRead({}, "bad_credentials", "403: <b>")
    page = await text_of(client, f"{HOME}?when=contact&other=customFields.x&from=contact.link")
    assert "could not be read" in page
    assert "403: &lt;b&gt;" in page
    assert 'name="to" value="customFields.x"' in page
    form = {"csrf": CSRF, "when": "contact", "to": "customFields.x", "from": "contact.link"}
    assert "The rule is saved." in await submitted(client, HOME, form)
    crm.read = FieldsRead({"contact": [LINK]})
    assert "The CRM has no such field." in await text_of(client, f"{HOME}?when=contact")


async def test_it_is_tried_on_what_there_is_and_sends_nothing(world: World, crm: Crm, sign_in: SignIn) -> None:
    client = await sign_in()
    await submitted(client, HOME, {"csrf": CSRF, "when": "contact", "to": "customFields.link", "from": "contact.phone"})
    assert "There is no such thing here." in await text_of(client, f"{HOME}?when=contact&try=zzz")
    from gateway.store import contacts

    await world.db.tenant(JUNE, contacts.insert_contact, JUNE, "Anna <i>", ["+375291002004"], [])
    page = await text_of(client, f"{HOME}?when=contact&try=anna")
    assert "Anna &lt;i&gt;" in page
    assert "<code>contact.phone</code> = +375291002004" in page
    assert world.woken == []


async def test_only_who_may_change_settings_changes_and_tries_it(world: World, crm: Crm, sign_in: SignIn) -> None:
    form = {"csrf": CSRF, "when": "order", "to": "x", "from": "order.id"}
    agent = await as_person(world, "ivan@june.example", Role.AGENT)
    assert ((await agent.get(HOME)).status_code, (await agent.post(HOME, form=form)).status_code) == (403, 403)
    olga = await as_person(world, "olga@june.example", Role.AUDITOR)
    page = await text_of(olga, f"{HOME}?when=contact&try=&to=x&from=contact.name")
    assert "<form method" not in page.partition("<main")[2], "an auditor reads the rules and nothing of clients"
    assert (await olga.post(HOME, form=form)).status_code == 403
    client = await sign_in()
    for path in (
        "/t/0367/integrations/telegram/fields",
        "/t/0367/integrations/zzz/fields",
        "/t/0368/integrations/retailcrm/fields",
    ):
        assert (await client.get(path)).status_code in (403, 404), path


async def test_programs_read_fields_change_rules_and_try_them(world: World, crm: Crm) -> None:
    calls = await play(world)
    api: Api = make_api(world)
    api.key = await api.new_key("read", "write")
    answer = (await api.ask("GET", "/integrations/retailcrm/fields")).json
    assert [one["when"] for one in answer["items"]] == ["contact", "order", "chat"]
    assert answer["items"][1]["fields"][0]["values"][1] == {"value": "complete", "title": "Выполнен"}
    wrong = await api.ask("PATCH", "/integrations/retailcrm", {"settings": {"mapping": [
        {"when": "order", "to": "status", "from": "order.stat"}, {"when": "call", "to": "x", "from": "call.result"},
    ]}}, query={"test": "false"})  # fmt: skip
    assert wrong.status == 422
    assert {one["field"] for one in wrong.json["errors"]} == {"settings.mapping[0].from"}
    rule = {"when": "contact", "to": "customFields.link", "from": "contact.phone"}
    assert (
        await api.ask("PATCH", "/integrations/retailcrm", {"settings": {"mapping": [rule]}}, query={"test": "false"})
    ).status == 200
    assert len(rules(world)) == 1
    assert (await api.ask("PATCH", "/integrations/telegram:none", {"settings": {}})).status == 404
    from gateway.store import contacts

    made = await world.db.tenant(JUNE, contacts.insert_contact, JUNE, "Anna", ["+375291002004"], [])
    tried = await api.ask("POST", "/integrations/retailcrm/mapping/test", {"when": "contact", "id": str(made)})
    assert tried.json["fields"] == {"customFields.link": "+375291002004"}
    other = [{"when": "contact", "to": "nick", "from": "contact.name"}]
    tried = await api.ask(
        "POST", "/integrations/retailcrm/mapping/test", {"when": "contact", "id": "Anna", "mapping": other}
    )
    assert tried.json["rules"][0] | {"source": ""} == {
        "to": "nick", "source": "", "source_value": "Anna", "value": "Anna", "problem": "no_field",
    }  # fmt: skip
    none = await api.ask("POST", "/integrations/retailcrm/mapping/test", {"when": "order", "id": "999"})
    assert none.status == 404
    call = await api.ask("POST", "/integrations/retailcrm/mapping/test", {"when": "call", "id": calls[0].call_id})
    assert (call.status, call.json["errors"][0]["field"]) == (422, "when")
    bad = await api.ask(
        "POST",
        "/integrations/retailcrm/mapping/test",
        {"when": "contact", "mapping": [{"when": "contact", "to": "x", "from": "y"}]},
    )
    assert (bad.status, bad.json["errors"][0]["field"]) == (422, "mapping[0].from")
    crm.read = replace(crm.read, fields={}, problem="unavailable", detail="no answer")
    assert (await api.ask("GET", "/integrations/retailcrm/fields")).status == 502
    assert rules(world) == rules(world)
