"""Syrve is the same cloud under another name: the same deliveries, at its own host, with a token of the newer kind."""

from dataclasses import replace

import trio

from adapters.base import Attempt, Link
from adapters.syrve import ADAPTER
from adapters.syrve.settings import SyrveSettings
from adapters.till.client import TillClient
from tests.adapters.till.conftest import person, settings_of
from tests.sandbox.iiko import Iiko


async def test_a_client_of_syrve_becomes_a_guest(nursery: trio.Nursery, open_link: Link) -> None:
    cloud = Iiko("Syrve")
    base = await nursery.start(cloud.serve)
    newer = {
        "api_login": None,
        "api_key": cloud.API_KEY,
        "app_id": cloud.APP_ID,
        "client_secret": cloud.CLIENT_SECRET,
        "url": "",
    }
    settings = settings_of(cloud, SyrveSettings, **newer)
    assert ADAPTER.plan_contact is not None
    (draft,) = ADAPTER.plan_contact(settings, open_link.tenant, person())
    async with ADAPTER.connect(replace(open_link, base_url=base), settings) as client:
        assert isinstance(client, TillClient)
        await client.deliver(Attempt(kind=draft.kind, key=draft.key, lane=draft.lane, body=draft.body))
        tested = await client.test()
    assert tested.ok
    assert [one["name"] for one in cloud.guests] == ["Анна"]
    assert cloud.requests["/api/v2/access_token"] == 1
