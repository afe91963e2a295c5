"""The gateway is killed again and again while clients write in three messengers and people answer by the API: every message is there
once, and every answer was sent once, or says that nobody knows.

KILLS, MESSAGES and REPLIES in the environment make the long run: `KILLS=10 MESSAGES=1000 REPLIES=500 pytest tests/e2e/test_chat_kill.py -s`.
"""

import json
import os
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio

from tests.e2e.test_kill import live_and_die, requested, started
from tests.e2e.world import BOT, World, open_world
from tests.sandbox.vk import Vk
from tests.sandbox.whatsapp import Whatsapp

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]

KILLS = int(os.environ.get("KILLS", "3"))
MESSAGES = int(os.environ.get("MESSAGES", "150"))
REPLIES = int(os.environ.get("REPLIES", "75"))
PEOPLE = 12
"""Of each messenger."""
WRITERS, AGENTS = 3, 4
HOOK = "h" * 43
PACE_S = 2.6
"""Seconds of a life, its start included: what is sent is spread over all of them."""

Write = Callable[[int, str], Awaitable[None]]


@dataclass
class Chats:
    """Three messengers, their people and what they wrote."""

    world: World
    whatsapp: Whatsapp
    vk: Vk
    written: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for person in range(PEOPLE):
            self.world.telegram.add_chat(700 + person, f"Client {person}")
            self.whatsapp.human(f"3752910000{person:02}", name=f"Client {person}")
            self.vk.add(900 + person, f"Client {person}")

    async def telegram(self, person: int, text: str) -> None:
        """Queues an update."""
        await trio.lowlevel.checkpoint()
        who = {"id": 700 + person, "is_bot": False, "first_name": f"Client {person}"}
        message = {
            "message_id": len(self.written) + 1,
            "date": 1_760_000_000,
            "chat": {"id": 700 + person, "type": "private"},
        }
        self.world.telegram.push({"message": {**message, "from": who, "text": text}})

    async def meta(self, person: int, text: str) -> None:
        """Queues a webhook."""
        await trio.lowlevel.checkpoint()
        self.whatsapp.writes(f"3752910000{person:02}", text)

    async def community(self, person: int, text: str) -> None:
        """Queues an event of the long poll."""
        while self.vk.longpoll_events is None:
            await trio.sleep(0.05)
        await self.vk.write(900 + person, text)

    async def write_all(self) -> None:
        """Everything that clients write, spread over the gateway's lives."""
        rng = random.Random(5)
        ways: Sequence[Write] = (self.telegram, self.meta, self.community)
        for number, way in zip(range(MESSAGES), cycle(ways), strict=False):
            text = f"message {number} of {way.__name__}"
            self.written.append(text)
            await way(rng.randrange(PEOPLE), text)
            await trio.sleep(KILLS * PACE_S / MESSAGES)

    def shown(self) -> Counter[str]:
        """The answers that clients have on their phones."""
        telegram = [one.text for person in range(PEOPLE) for one in self.world.telegram.messages(700 + person)]
        meta = [one.text for one in self.whatsapp.sent]
        vk = [str(one["text"]) for person in self.vk.members.values() for one in person.seen]
        return Counter([*telegram, *meta, *vk])


@dataclass
class Agents:
    """People who answer by the API, and try again until they are answered."""

    world: World
    key: str
    sent: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """Texts that were taken -> the message."""
    answers: Counter[str] = field(default_factory=Counter)

    async def run(self) -> None:
        """All answers."""
        numbers = iter(range(REPLIES))
        async with trio.open_nursery() as nursery:
            for _ in range(AGENTS):
                nursery.start_soon(self._agent, numbers)

    async def _agent(self, numbers: Any) -> None:
        headers = {"X-API-Key": self.key}
        async with httpx2.AsyncClient(trust_env=False, timeout=5, base_url=self.world.url, headers=headers) as client:
            for number in numbers:
                text = f"answer {number}"
                listed: list[Any] = []
                while not listed:
                    if (found := await self._ask(client, "GET", "/api/v1/conversations?limit=50")) is not None:
                        listed = found["items"]
                    await trio.sleep(0.05)
                chat = listed[number % len(listed)]["id"]
                body = {"client_id": f"c-{number}", "text": text}
                while (made := await self._ask(client, "POST", f"/api/v1/conversations/{chat}/messages", body)) is None:
                    await trio.sleep(0.05)
                self.sent[text] = made
                await trio.sleep(KILLS * PACE_S * AGENTS / REPLIES * 0.7)

    async def _ask(self, client: httpx2.AsyncClient, method: str, path: str, body: Any = None) -> Any:
        try:
            answer = await client.request(method, path, json=body)
        except httpx2.TransportError as error:
            self.answers[type(error).__name__] += 1
            return None
        self.answers[str(answer.status_code)] += 1
        if answer.status_code >= 500 or answer.status_code == 401:  # it is about to end, or has just begun
            return None
        assert answer.status_code in (200, 201), answer.text
        return answer.json()


async def until_nothing_waits(world: World) -> None:
    """A dead process's leases have to end first."""
    query = (
        "SELECT (SELECT count(*) FROM journal WHERE done_at IS NULL) AS posts, "
        "(SELECT count(*) FROM deliveries WHERE state = 'pending' AND kind = 'message') AS deliveries"
    )
    with trio.fail_after(180):
        while any((await requested(world, query))[0].values()):
            await trio.sleep(0.3)


async def test_chats_survive_kills(tmp_path: Path) -> None:
    whatsapp, vk = Whatsapp(rate_limits=False), Vk()
    async with trio.open_nursery() as outside:
        whatsapp_url, vk_url = await outside.start(whatsapp.serve), await outside.start(vk.serve)
        async with open_world(tmp_path, start=False) as world:
            urls = json.loads(world.gateway.environment["GATEWAY_PROVIDER_URLS"])
            world.gateway.environment["GATEWAY_PROVIDER_URLS"] = json.dumps(
                {**urls, "whatsapp": whatsapp_url, "vk": vk_url}
            )
            number = {
                "phone_number_id": whatsapp.number_id, "waba_id": whatsapp.waba_id, "access_token": whatsapp.token,
                "app_secret": whatsapp.app_secret, "webhook_verify_token": "our-own-token", "hook_id": HOOK,
            }  # fmt: skip
            channels = {
                "telegram": {"bot_token": BOT, "notify_chats": [], "chat": True}, "whatsapp": number,
                "vk": {"group_id": str(vk.group_id), "access_token": vk.token},
            }  # fmt: skip
            async with started(world):
                await world.apply(world.tenant(integrations=channels, pbxes=[]))
                said = await world.gateway.ask(
                    "api-key", "create", "0367", "--name", "test", "--scope", "chat", "--scope", "read"
                )
            chats = Chats(world, whatsapp, vk)
            agents = Agents(world, next(line for line in said.split() if len(line) > 30))
            outside.start_soon(whatsapp.call, f"{world.intake}/hooks/whatsapp/{HOOK}")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(chats.write_all)
                nursery.start_soon(agents.run)
                await live_and_die(world, KILLS, random.Random(3))
                async with started(world):
                    while nursery.child_tasks or whatsapp.webhooks:
                        await trio.sleep(0.05)
                    await world.wait_for(lambda: all(not bot.updates for bot in world.telegram.bots.values()))
                    await until_nothing_waits(world)
                    messages = await requested(world, "SELECT direction, text, status FROM messages")
        outside.cancel_scope.cancel()
    received = Counter(one["text"] for one in messages if one["direction"] == "in")
    ours = {one["text"]: one["status"] for one in messages if one["direction"] == "out"}
    shown = chats.shown()
    unknown = [text for text, status in ours.items() if status == "unknown"]
    print(json.dumps({
        "kills": KILLS, "messages": len(chats.written), "lost": len(set(chats.written) - received.keys()),
        "there twice": sum(n > 1 for n in received.values()), "answers": len(ours), "not sent": sum(not shown[text] for text in ours),
        "sent twice": sum(shown[text] > 1 for text in ours), "unknown": len(unknown),
        "unknown and sent": sum(shown[text] for text in unknown), "asked": dict(agents.answers),
    }))  # fmt: skip
    assert received == Counter(chats.written)
    assert ours.keys() == {f"answer {number}" for number in range(REPLIES)} == agents.sent.keys()
    assert len([one for one in messages if one["direction"] == "out"]) == REPLIES
    assert {text: shown[text] for text in ours if shown[text] > 1} == {}
    assert {text: status for text, status in ours.items() if not shown[text] and status != "unknown"} == {}
    assert len(unknown) <= KILLS * 8, "at most what was in hand when it was killed"
    assert vk.violations == []
