"""Settings come back as they were saved, whatever they are, and no secret is ever shown."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import strategies as st

from adapters.base import secret_fields
from adapters.fields import shapes_of
from adapters.registry import adapters
from gateway.domain.configuration import Connector, integration
from gateway.domain.ids import Kind
from gateway.domain.secret import MASK, Secret
from gateway.store.postgres.pool import Connection
from gateway.store.tenants import INTEGRATIONS, PBXES
from gateway.web.pages.change_settings import save_settings
from gateway.web.pages.setup import SetupForm
from tests.properties import holds
from tests.web.world import JUNE, World

VISIBLE = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=24, max_size=60)
SWITCHES = st.fixed_dictionaries({}, optional={name: st.booleans() for name in ("in", "out", "hangup", "upload")})
VALUES: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "retailcrm": st.fixed_dictionaries(
        {"domain": st.from_regex(r"https://[a-z]{1,20}\.example", fullmatch=True), "api_key": VISIBLE, "client_id": VISIBLE},
        optional={
            "send_events": SWITCHES, "responsible_any_status": st.booleans(), "module_code": st.from_regex(r"[0-9A-Za-z_-]{0,64}", fullmatch=True),
            "legacy_client_nets": st.lists(st.ip_addresses(v=4).map(lambda one: f"{one}/32"), max_size=3),
        },
    ),
    "telegram": st.fixed_dictionaries(
        {"bot_token": st.from_regex(r"[1-9][0-9]{0,9}:[A-Za-z0-9_-]{1,40}", fullmatch=True)},
        optional={
            "notify_chats": st.lists(st.integers(1, 1 << 40).map(lambda one: -one), max_size=5), "chat": st.booleans(),
            "updates": st.sampled_from(["poll", "webhook"]), "hook_id": st.from_regex(r"[0-9A-Za-z_-]{24,60}", fullmatch=True),
        },
    ),
    "asterisk": st.fixed_dictionaries(
        {"host": st.from_regex(r"[a-z]{1,20}\.example", fullmatch=True), "username": st.from_regex(r"[a-z]{1,20}", fullmatch=True), "secret": VISIBLE},
        optional={"port": st.integers(1, 65535), "trunks": st.lists(st.from_regex(r"trunk-[0-9]{1,4}", fullmatch=True), max_size=4)},
    ),
}  # fmt: skip


async def _rows(conn: Connection) -> str:
    return str(
        await conn.fetchval(
            "SELECT string_agg(settings::text || secrets::text, '') FROM (SELECT settings, secrets FROM integrations "
            "UNION ALL SELECT settings, secrets FROM pbxes) AS every"
        )
    )


async def keeps(world: World, kind: str, drawn: Mapping[str, Any]) -> None:
    """One example."""
    adapter, master = adapters()[Kind(kind)], world.deps.master
    assert master is not None
    secrets = secret_fields(adapter.settings)
    made = adapter.settings.model_validate({k: Secret(v) if k in secrets else v for k, v in drawn.items()})
    link = Connector("main", Kind(kind), {}) if adapter.is_pbx else integration(f"{kind}:kept", {})
    table = PBXES if adapter.is_pbx else INTEGRATIONS
    await save_settings(world.db, master, table, JUNE, link, made, "anna@june.example")

    await world.cache.load(JUNE, anew=True)
    tenant = world.cache.tenant(JUNE)
    assert tenant is not None
    pbxes: Mapping[str, Connector] = {one.name: one for one in tenant.pbxes}
    stored = (pbxes["main"] if adapter.is_pbx else tenant.integrations[link.key]).settings
    assert adapter.settings.model_validate(dict(stored)) == made

    form = SetupForm.of(adapter.settings, stored)
    shown = {field.name: field for field in form.fields}
    for shape in shapes_of(adapter.settings):
        value = getattr(made, shape.attribute)
        if shape.widget == "secret":
            assert shown[shape.name].value == (MASK if value else "")
    plain = [
        value.reveal()
        for name in secrets
        if isinstance(value := getattr(made, name), Secret) and len(value.reveal()) >= 8
    ]
    assert not any(secret in str([form.fields, stored]) for secret in plain)
    in_the_database = await world.db.engine(_rows)
    assert not any(secret in in_the_database for secret in plain)

    sent = {
        field.name: "1" if field.value is True else str(field.value or "")
        for field in form.fields
        if not field.children
    }
    sent |= {f"{f.name}.{c.name}": "1" if c.value else "" for f in form.fields for c in f.children}
    again = SetupForm.of(adapter.settings, stored, sent)
    assert again.settings == made, again.problems


@pytest.mark.slow
async def test_settings_survive_save_and_read(world: World) -> None:
    """Feature: modular-bot-integrations, Property 9: settings survive save and read; secrets are masked where they are shown, and
    a masked one that is sent back stays what it was."""
    examples = [st.tuples(st.just(kind), values) for kind, values in VALUES.items()]
    await holds(lambda one: keeps(world, *one), st.one_of(examples))
