"""A client of amoCRM that is not ours, driven against the sandbox: where both agree, the sandbox is like the real one."""

import asyncio
from typing import Any

import aioamocrm
import trio

from tests.adapters.amocrm.conftest import CLIENT
from tests.sandbox.amocrm import AmoCrm

WHERE = "https://gw.example/oauth/x/callback"


async def with_a_token(account: AmoCrm) -> dict[str, Any]:
    """What it makes and reads with a long-lived token."""
    async with aioamocrm.AmoCRMClient(
        auth=aioamocrm.LongLivedToken(account.token), base_url=account.base, rate_limit=None
    ) as amo:
        found: dict[str, Any] = {"account": (await amo.account.get()).name}
        field = {"field_code": "PHONE", "values": [{"value": CLIENT, "enum_code": "WORK"}]}
        (contact,) = await amo.contacts.create([{"name": "Анна", "custom_fields_values": [field]}])
        await amo.contacts.update([{"id": contact.id, "name": "Анна К."}])
        (lead,) = await amo.leads.create_complex([aioamocrm.Lead(name="Сделка")])
        await amo.leads.notes.create([aioamocrm.Note.common(lead.id or 0, "Заметка")])
        await amo.tasks.create(
            [{"text": "Перезвонить", "complete_till": 1_900_000_000, "entity_id": lead.id, "entity_type": "leads"}]
        )
        found["users"] = [user.name async for user in amo.users.iterate()]
        found["contacts"] = [one.name async for one in amo.contacts.iterate(query="375291112233")]
        found["nobody"] = [one async for one in amo.contacts.iterate(query="375447654321")]
        found["notes"] = [note.text async for note in amo.leads.notes.iterate(entity_id=lead.id)]
        found["pipelines"] = [one.name for one in await amo.pipelines.list()]
        call = {
            "direction": "inbound",
            "duration": 61,
            "source": "test",
            "phone": CLIENT,
            "uniq": "u-1",
            "call_status": 4,
        }
        found["calls"] = await amo.request("POST", "calls", json=[call])
        for wrong in ({"responsible_user_id": 999}, {"call_status": 8}):
            try:
                await amo.request("POST", "calls", json=[{**call, "uniq": "u-2", **wrong}])
            except aioamocrm.ValidationError as error:
                found.setdefault("refused", []).append([issue.path for issue in error.errors])
        account.status = 402
        try:
            await amo.account.get()
        except aioamocrm.PaymentRequiredError:
            found["unpaid"] = True
        account.status = 0
        return found


async def with_an_application(account: AmoCrm, code: str) -> list[str]:
    """Refresh tokens of both sides' reading: each works once."""
    storage = aioamocrm.MemoryTokenStorage()
    auth = aioamocrm.OAuth2(account.CLIENT_ID, account.CLIENT_SECRET, WHERE, storage)
    seen = []
    async with aioamocrm.AmoCRMClient(auth=auth, base_url=account.base, rate_limit=None) as amo:
        first = await amo.exchange_code(code)
        seen.append(str((await amo.account.get()).name))
        account.access.clear()  # it ends over there: the next request refreshes and goes on
        seen.append(str((await amo.account.get()).name))
        fresh = await storage.load()
        assert fresh is not None
        assert fresh.refresh_token != first.refresh_token
        await storage.save(first)
        account.access.clear()
    again = aioamocrm.OAuth2(account.CLIENT_ID, account.CLIENT_SECRET, WHERE, storage)
    async with aioamocrm.AmoCRMClient(auth=again, base_url=account.base, rate_limit=None) as amo:
        try:
            await amo.account.get()
        except aioamocrm.AuthError:
            seen.append("spent")
    return seen


async def test_what_another_client_makes_and_reads(account: AmoCrm) -> None:
    found = await trio.to_thread.run_sync(asyncio.run, with_a_token(account))
    assert (found["account"], found["contacts"], found["nobody"]) == ("June", ["Анна К."], [])
    assert len(found["users"]) == 5
    assert (found["notes"], found["pipelines"]) == (["Заметка"], ["Воронка"])
    (call,) = found["calls"]["_embedded"]["calls"]
    assert (call["entity_type"], call["entity_id"]) == ("contact", account.contacts[0]["id"])
    assert found["refused"] == [["responsible_user_id"], ["call_status"]]
    assert found["unpaid"]
    assert len(account.tasks) == 1
    assert account.violations == []


async def test_another_client_refreshes_like_ours(account: AmoCrm) -> None:
    account.redirect_uri = WHERE
    account.codes.add("the-code-0123456789")
    work = with_an_application(account, "the-code-0123456789")
    assert await trio.to_thread.run_sync(asyncio.run, work) == ["June", "June", "spent"]
