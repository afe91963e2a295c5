"""Two bots, two accounts of a CRM and two PBXes in one company, live: each with its own settings, health, log and people."""

import hashlib
import hmac
import itertools
import json
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio

from tests.e2e.world import BOT, CHAT, World, open_world
from tests.sandbox.pbx import SimulatedPbx
from tests.sandbox.retailcrm import RetailCrm

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

SUPPORT = "700100201:support-bot-token-0123456789abcdef"
OFFICE = -1009876543210
HOOK = "hook-of-the-support-bot-0123456789"
_message_ids = itertools.count(1)


def company(world: World, branch_crm: RetailCrm, branch_pbx: SimulatedPbx, port: int, **support: Any) -> dict[str, Any]:
    """The company, its second bot as `support` says."""
    block = world.tenant()
    main = block["integrations"]["retailcrm"]
    block["integrations"]["retailcrm:branch"] = {**main, "domain": branch_crm.base, "api_key": branch_crm.api_key}
    bot = {"bot_token": SUPPORT, "notify_chats": [OFFICE], "chat": True, "hook_id": HOOK, **support}
    block["integrations"]["telegram:support"] = bot
    pbx = block["pbxes"][0]
    block["pbxes"].append(
        {**pbx, "name": "branch", "port": port, "username": branch_pbx.username, "secret": branch_pbx.secret}
    )
    return block


def message(text: str, chat: str = "private") -> dict[str, Any]:
    sender = {"id": 55501, "is_bot": False, "first_name": "Ольга"}
    return {
        "message": {
            "message_id": next(_message_ids),
            "date": int(time.time()),
            "chat": {"id": 55501, "type": chat},
            "from": sender,
            "text": text,
        }
    }


async def received(world: World, part: str) -> int:
    """How many lines of the support bot's log hold a text."""
    query = (
        "SELECT count(*) FROM integration_logs WHERE integration_type = 'telegram:support' AND event_type = 'incoming' "
        "AND request_data LIKE '%' || $1 || '%'"
    )
    return int(await world.look(query, part))


async def wait_received(world: World, part: str, count: int = 1) -> None:
    with trio.fail_after(20):
        while await received(world, part) < count:
            await trio.sleep(0.1)


@pytest.mark.long
async def test_each_has_its_own_people_log_and_health(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world, trio.open_nursery() as nursery:
        branch_crm, branch_pbx = RetailCrm(rate_limits=False), SimulatedPbx(tempo=0.02, seed=8)
        branch_crm.api_key = "another-key-of-the-branch-account"
        await nursery.start(branch_crm.serve)
        port = await nursery.start(branch_pbx.serve)
        world.telegram.bots[SUPPORT] = type(world.telegram.bots[BOT])(700100201, "june_support_bot")
        world.telegram.add_chat(OFFICE, "June: office")
        world.telegram.allow_http_webhook = True
        applied = await world.apply(company(world, branch_crm, branch_pbx, port))
        assert "integrations.telegram:support added" in applied
        assert "pbxes.branch added" in applied
        await world.wait_link()
        await world.wait_for(lambda: bool(branch_pbx.links))

        # A call goes to both accounts and both chats.
        fields = {"UniqueId": "700.1", "CallerIDNum": "+375296254070", "Extensions": ["150"], "CallType": 0}
        for address in ("/dial", "/bridge", "/hangup"):
            status = {"CallStatus": "2"} if address == "/hangup" else {}
            assert (await world.post(address, **fields, **status)).status_code == 200
        for crm in (world.crm, branch_crm):
            await world.wait_for(lambda crm=crm: any(one.data["externalId"] == "700.1" for one in crm.uploads), 20)
            assert len([one for one in crm.uploads if one.data["externalId"] == "700.1"]) == 1
        for chat, username in ((CHAT, "june_bot"), (OFFICE, "june_support_bot")):
            await world.wait_for(lambda chat=chat: bool(world.telegram.messages(chat)), 20)
            assert {one.bot for one in world.telegram.messages(chat)} == {username}

        # What people write to the second bot is in its log, once, and groups are left alone.
        bot = world.telegram.bots[SUPPORT]
        world.telegram.push(message("Есть столик на вечер?"), bot)
        world.telegram.push(message("в группе", "supergroup"), bot)
        world.telegram.push(message("последнее"), bot)
        await wait_received(world, "последнее")
        assert await received(world, "столик") == 1
        assert await received(world, "в группе") == 0
        await world.wait_for(lambda: not bot.updates, 10)  # confirmed

        # Killed and started again, nothing is lost and nothing is there twice.
        world.child.kill()
        await world.child.wait()
        world.telegram.push(message("пока никого не было"), bot)
        async with world.gateway.running() as world.child:
            await world.gateway.wait_ready(world.child, world.url)
            await wait_received(world, "пока никого не было")
            assert await received(world, "последнее") == 1

            # By webhook instead: signed by its own secret, a repeat changes nothing.
            await world.apply(company(world, branch_crm, branch_pbx, port, updates="webhook"))
            with trio.fail_after(30):
                while not bot.webhook:  # registered by the job, at the address that the page shows
                    await trio.sleep(0.1)
            assert bot.webhook["url"] == f"{world.url}/hooks/telegram/{HOOK}"
            secret = hmac.new(HOOK.encode(), SUPPORT.encode(), hashlib.sha256).hexdigest()
            assert bot.webhook["secret_token"] == secret
            update = json.dumps({"update_id": 990_001, **message("по вебхуку")}).encode()
            async with httpx2.AsyncClient(trust_env=False) as client:
                for url in (world.intake, world.url):

                    async def call(path: str, sign: str, url: str = url) -> httpx2.Response:
                        headers = {"X-Telegram-Bot-Api-Secret-Token": sign, "Content-Type": "application/json"}
                        return await client.post(f"{url}{path}", content=update, headers=headers)

                    with trio.fail_after(10):
                        while (first := await call(f"/hooks/telegram/{HOOK}", secret)).status_code == 404:
                            await trio.sleep(0.1)
                    assert first.status_code == 200
                    assert (await call(f"/hooks/telegram/{HOOK}", "wrong")).status_code == 403
                    unknown = await call("/hooks/telegram/nobody-has-this-hook-id-of-theirs", secret)
                    assert (unknown.status_code, unknown.content) == (404, b"")
            await wait_received(world, "по вебхуку")
            assert await received(world, "по вебхуку") == 1

            # The second account's key is refused: its own card says so, and the first goes on.
            branch_crm.api_key = "the-key-was-changed-over-there"
            fields["UniqueId"] = "701.1"
            for address in ("/dial", "/bridge", "/hangup"):
                status = {"CallStatus": "2"} if address == "/hangup" else {}
                assert (await world.post(address, **fields, **status)).status_code == 200
            await world.wait_for(lambda: any(one.data["externalId"] == "701.1" for one in world.crm.uploads), 20)
            matrix = await world.get("/integrations/0367")
            switched_on = {name for name, enabled in matrix["integrations"].items() if enabled}
            assert switched_on == {"retailcrm", "retailcrm:branch", "telegram", "telegram:support"}
            with trio.fail_after(20):
                query = "SELECT count(*) FROM integration_logs WHERE integration_type = 'retailcrm:branch' AND status = 'attention'"
                while not await world.look(query):
                    await trio.sleep(0.1)
            clean = (
                "SELECT count(*) FROM integration_logs WHERE integration_type = 'retailcrm' AND status = 'attention'"
            )
            assert await world.look(clean) == 0
        nursery.cancel_scope.cancel()
