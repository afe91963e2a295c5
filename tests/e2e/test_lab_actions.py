"""What we ask a real Asterisk to do: calls placed for employees, callers sent to whoever is responsible."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio

from adapters.asterisk.advice import OURS, manager_conf
from adapters.asterisk.calls import WANTED
from adapters.asterisk.protocol import Framer, encode_action
from tests.e2e.test_click import CLIENT_ID, NASTY
from tests.e2e.world import open_world
from tests.lab.machine import ROOTS, SECRET, TRUNK, Party, missing, running_lab
from tests.lab.play import Stage

pytestmark = [
    pytest.mark.lab,
    pytest.mark.long,
    pytest.mark.timeout(300),
    pytest.mark.skipif(bool(missing()), reason=missing() or "ready"),
]
CLIENT = "+375296254070"
DIRECT = "375172000004"
RINGING = "SIP/2.0 180"
HTTP_LIMIT_MS = 300


@asynccontextmanager
async def open_stage(folder: Path, offset: int, **changes: Any) -> AsyncIterator[Stage]:
    """The product beside a running Asterisk, with a known client id."""
    async with running_lab("22", offset) as lab, open_world(folder) as world:
        stage = Stage(world, lab)
        block = world.tenant(**changes)
        block["pbxes"] = [{
            "name": "main", "host": "127.0.0.1", "port": lab.ami_port, "username": lab.user, "secret": SECRET,
            "trunks": [TRUNK], "originate_context": "inoffice",
        }]  # fmt: skip
        block["integrations"]["retailcrm"]["client_id"] = CLIENT_ID
        await world.apply(block)
        with trio.fail_after(20):
            while (await ask(stage, phone="+79161234567")).json()["code"] != "FORBIDDEN":
                await trio.sleep(0.1)
            while (actors := (await stage.world.get("/stats"))["actors"])["online"] != actors["total"]:
                await trio.sleep(0.1)
        yield stage


async def ask(stage: Stage, **fields: str) -> httpx2.Response:
    """RetailCRM's request."""
    async with httpx2.AsyncClient(trust_env=False) as client:
        query = {"clientId": CLIENT_ID, "code": "150", "phone": CLIENT, **fields}
        return await client.get(f"{stage.world.url}/retailcrm/make-call", params=query, timeout=10)


def when(party: Party, pattern: str) -> float:
    at = party.sent(pattern)
    assert at is not None
    return at


async def test_a_click_rings_the_desk_phone_and_the_card_is_right(tmp_path: Path) -> None:
    async with open_stage(tmp_path, 2000) as stage, stage.lab.scene() as scene:
        crm = stage.world.crm
        employee = await scene.phone("150", ring_s=1)
        client = await scene.provider(ring_s=1.5, talk_s=2)
        await trio.sleep(0.5)
        requested = time.time()
        await ask(stage, phone="+79161234567")
        refused_ms = (time.time() - requested) * 1000
        requested = time.time()
        answer = await ask(stage)
        answered_ms = (time.time() - requested) * 1000
        assert answer.status_code == 200, answer.text
        assert answered_ms < max(HTTP_LIMIT_MS, 10 * refused_ms), "it waits for the PBX"
        again = await ask(stage)
        assert again.json() == answer.json()
        await scene.finish()
        await stage.world.wait_for(lambda: crm.uploads)
        rang_ms = (when(employee, RINGING) - requested) * 1000
        (out,) = (event.data for event in crm.events if event.data["type"] == "out")
        (hangup,) = (event.data for event in crm.events if event.data["type"] == "hangup")
        (upload,) = (item.data for item in crm.uploads)
        assert (out["codes"], out["phone"]) == (["150"], CLIENT)
        assert out["callExternalId"] == answer.json()["id"] == upload["externalId"]
        assert hangup["hangupStatus"] == "answered"
        assert upload == upload | {"type": "out", "code": "150", "phone": CLIENT[1:], "result": "answered"}
        assert abs(upload["duration"] - 2) <= 1
        invites = [message for message in client.messages() if message.text.startswith("INVITE")]
        assert len({message.text for message in invites}) == 1
        print(f"click-to-call: {answered_ms:.0f} ms to the HTTP answer, {rang_ms:.0f} ms to the employee's ring")


async def test_nothing_typed_becomes_more_than_one_action(tmp_path: Path) -> None:
    async with open_stage(tmp_path, 2020) as stage, stage.lab.scene() as scene:
        for nasty in NASTY:
            for field in ("phone", "code", "userId", "externalPhone", "clientId"):
                for value in (nasty, CLIENT + nasty, nasty + CLIENT, "150" + nasty):
                    fields = {"phone": "+375", **({"code": ""} if field == "userId" else {}), field: value}
                    answer = await ask(stage, **fields)
                    assert answer.status_code in (400, 401, 403, 422, 429), (fields, answer.text)
        await trio.sleep(1)
        made = [m for m in scene.manager.seen if m.get("Event") in ("DialBegin", "Newchannel", "OriginateResponse")]
        assert made == []


@pytest.mark.parametrize(("by_dialplan", "offset"), [(False, 2040), (True, 2060)])
async def test_a_caller_is_sent_to_whoever_is_responsible(tmp_path: Path, by_dialplan: bool, offset: int) -> None:
    """By ourselves as the call comes in, or when the dialplan asks."""
    settings = {"by_gateway": not by_dialplan, "default": "152"}
    async with open_stage(tmp_path, offset, smart_redirect=settings) as stage, stage.lab.scene() as scene:
        await scene.phone("150", ring_s=30)
        responsible = await scene.phone("152", ring_s=1)
        client = await scene.client(CLIENT, DIRECT, talk_s=1)
        if by_dialplan:
            begun = await scene.event(Event="^Newchannel$", Channel=f"^PJSIP/{TRUNK}")
            async with httpx2.AsyncClient(trust_env=False) as http:
                question = {"Token": stage.world.token, "UniqueId": begun["Uniqueid"], "phone": CLIENT}
                answer = await http.post(f"{stage.world.intake}/retailcrm/api/smart-redirect", json=question)
            assert answer.json() == {"extension": "152", "redirected": True}
        await client.process.wait()
        with trio.move_on_after(5):
            await responsible.process.wait()
        for party in scene.parties:  # the other phone may never have been called
            if party.process.poll() is None:
                party.process.kill()
            await party.process.wait()
        await stage.world.wait_for(lambda: stage.world.crm.uploads)
        (upload,) = (item.data for item in stage.world.crm.uploads)
        assert upload == upload | {"type": "in", "code": "152", "result": "answered"}
        took_ms = (when(responsible, RINGING) - when(client, "INVITE")) * 1000
        print(
            f"smart redirect ({'asked' if by_dialplan else 'by itself'}): {took_ms:.0f} ms from INVITE to 152 ringing"
        )
        scene.parties.clear()


LABS = [("22", 2080), *([("16", 2100)] if (ROOTS["16"] / ".lab-asterisk-done").exists() else [])]
"""Only the newest Asterisk is installed by the tests themselves; an older one is judged where somebody has installed it."""


@pytest.mark.parametrize(("version", "offset"), LABS)
async def test_the_section_that_we_advise_is_all_that_is_needed(tmp_path: Path, version: str, offset: int) -> None:
    """The very text of the page in manager.conf: rights and event filters suffice, and nothing else is sent."""
    async with running_lab(version, offset) as lab, open_world(tmp_path) as world:
        section = manager_conf("advised").replace("PASSWORD", SECRET).replace("GATEWAY_ADDRESS", "127.0.0.1")
        with (ROOTS[version] / "srv" / f"lab-{offset}" / "etc" / "manager.conf").open("a") as conf:
            conf.write("\n" + section)
        async with lab.scene() as scene:
            await scene.manager.act("Command", Command="manager reload")
        lab.user = "advised"
        stage = Stage(world, lab)
        block = world.tenant()
        block["integrations"]["retailcrm"]["client_id"] = CLIENT_ID
        world.tenant = lambda **changes: block | changes  # type: ignore[method-assign] # the stage's PBX joins it
        await stage.prepare()
        for kind in ("incoming-answered", "incoming-recorded", "incoming-busy", "outgoing-answered"):
            assert await stage.play(kind) == [], kind
        async with lab.scene() as scene:
            await scene.phone("150", ring_s=0.5)
            await scene.provider(ring_s=0.5, talk_s=1)
            await trio.sleep(0.5)
            seen = len(world.crm.uploads)
            assert (await ask(stage)).status_code == 200
            await scene.finish()
            await world.wait_for(lambda: len(world.crm.uploads) > seen)
        received = await heard_events(lab.ami_port)
        assert received <= {event.decode() for event in WANTED | OURS} | {"FullyBooted"}


async def heard_events(port: int) -> set[str]:
    """Names of the events that the advised user is sent during one originated call."""
    names: set[str] = set()
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    login = (("Username", "advised"), ("Secret", SECRET), ("Events", "on"))
    order = (("Channel", "Local/150@inoffice"), ("Context", "inoffice"), ("Exten", "151"), ("Priority", "1"))
    async with stream:
        await stream.send_all(encode_action("Login", login) + encode_action("Originate", (*order, ("Async", "true"))))
        framer = Framer(None)
        with trio.move_on_after(4):
            while data := await stream.receive_some(65536):
                names |= {message["Event"] for message in framer.feed(bytes(data)) if "Event" in message}
    assert "Newchannel" in names
    return names
