"""The whole product between its sandboxes: what hosts post and PBXes tell arrives in the CRM and in the chats, once.

One installation serves the whole module, on a Trio loop of its own thread; every test has calls of its own.
Over 400 lines: it is one installation's life.
"""

import json
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
import trio

from gateway.store.postgres.pool import OwnConnection, open_session
from tests.e2e.world import BOT, CHAT, World, open_world
from tests.loop_thread import LoopThread
from tests.sandbox.web import Fault

pytestmark = pytest.mark.slow

T = TypeVar("T")
CLIENT = "375296254070"
PASSWORD = "canary-password-of-a-person"
CLIENT_ID = "canary-client-id-0123456789"


class Stage(LoopThread):
    """A World that outlives one test: its loop runs in a thread, tests hand work over."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.world: World
        super().__init__("world", self._opened_world)

    @asynccontextmanager
    async def _opened_world(self) -> AsyncIterator[None]:
        async with open_world(self.folder) as self.world:
            self.world.crm.api_key = "canary-api-key-of-the-crm"
            await self.world.apply(block(self.world))
            await self.world.wait_link()
            yield


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    stage = Stage(tmp_path_factory.mktemp("world"))
    stage.start()
    yield stage
    stage.stop()


def block(world: World, timeout_s: float = 0.5) -> dict[str, Any]:
    """The tenant, with a client id and a person; a CRM that hangs is given up soon."""
    tenant = world.tenant(users=[{"email": "anna@june.example", "password": PASSWORD}])
    tenant["integrations"]["retailcrm"] |= {"client_id": CLIENT_ID, "request_timeout_s": timeout_s}
    return tenant


class Notified:
    """What the sandboxes were told of one call."""

    def __init__(self, world: World, call_id: str) -> None:
        self.world, self.call_id = world, call_id

    @property
    def events(self) -> list[dict[str, Any]]:
        return [dict(one.data) for one in self.world.crm.events if one.data.get("callExternalId") == self.call_id]

    @property
    def types(self) -> list[str]:
        return [event["type"] for event in self.events]

    @property
    def uploads(self) -> list[dict[str, Any]]:
        return [dict(one.data) for one in self.world.crm.uploads if one.data.get("externalId") == self.call_id]

    async def uploaded(self, within_s: float = 15.0) -> None:
        await self.world.wait_for(lambda: self.uploads, within_s)


async def answered_call(world: World, unique_id: str, **more: Any) -> Notified:
    fields = {"UniqueId": unique_id, "CallerIDNum": CLIENT, "Extensions": ["150"], "CallType": 0, **more}
    for address in ("/start", "/dial", "/bridge", "/hangup"):
        status = {"CallStatus": "2"} if address == "/hangup" else {}
        answer = await world.post(address, **fields, **status)
        assert (answer.status_code, answer.json()) == (200, {"status": "accepted"})
    return Notified(world, unique_id)


async def database(world: World, work: Callable[..., Awaitable[T]], *args: Any) -> T:
    """On a plain connection to the gateway's own server, as its superuser."""
    dsn = json.loads((world.folder / "var" / "postgres.lock").read_text())["dsn"]
    async with open_session(dsn, application_name="psql") as session:
        return await session.run(work, *args)


async def run_sql(connection: OwnConnection, *statements: str) -> None:
    for statement in statements:
        await connection.execute(statement)


async def rows(connection: OwnConnection, query: str, *args: Any) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await connection.fetch(query, *args)]


def test_a_posted_call_reaches_the_crm_and_the_chat(stage: Stage) -> None:
    async def scenario() -> None:
        world = stage.world
        reported = await answered_call(world, "100.1")
        await reported.uploaded()
        assert reported.types == ["in", "hangup"]
        assert reported.events[0]["codes"] == ["150"]
        assert reported.events[1]["hangupStatus"] == "answered"
        (upload,) = reported.uploads
        assert (upload["type"], upload["phone"], upload["code"], upload["result"]) == ("in", CLIENT, "150", "answered")
        assert world.crm.uploads[-1].client_id == CLIENT_ID
        await world.wait_for(lambda: any("Состоялся" in m.shown for m in world.telegram.messages(CHAT)))

    stage.do(scenario)


def test_a_repeat_is_answered_and_told_to_nobody(stage: Stage) -> None:
    async def scenario() -> None:
        world = stage.world
        reported = await answered_call(world, "101.1")
        await reported.uploaded()
        before = len(world.crm.requests)
        for address in ("/start", "/dial", "/bridge", "/hangup"):
            status = {"CallStatus": "2"} if address == "/hangup" else {}
            answer = await world.post(
                address, UniqueId="101.1", CallerIDNum=CLIENT, Extensions=["150"], CallType=0, **status
            )
            assert answer.json() == {"status": "duplicate"}
        sentinel = await answered_call(world, "101.2")
        await sentinel.uploaded()
        assert reported.types == ["in", "hangup"]
        assert len(reported.uploads) == 1
        assert len(world.crm.requests) == before + 3

    stage.do(scenario)


def test_a_hangup_without_its_dial_sends_the_ring_first(stage: Stage) -> None:
    async def scenario() -> None:
        world = stage.world
        await world.post(
            "/hangup", UniqueId="102.1", CallerIDNum=CLIENT, Extensions=["150"], CallType=0, CallStatus="0"
        )
        reported = Notified(world, "102.1")
        await reported.uploaded()
        assert reported.types == ["in", "hangup"]

    stage.do(scenario)


@pytest.mark.parametrize("post_first", [False, True])
def test_a_call_that_ami_and_posts_tell_is_told_once(stage: Stage, post_first: bool) -> None:
    async def scenario() -> None:
        world = stage.world
        new: list[str] = []

        def receive(at: float, message: bytes) -> None:
            text = message.decode()
            if text.startswith("Event: Newchannel") and "/trunk-0001" in text:
                new.append(text.split("Uniqueid: ")[1].split("\r\n")[0])

        async def post(address: str, unique_id: str, **more: Any) -> None:
            answer = await world.post(
                address, UniqueId=unique_id, CallerIDNum=CLIENT, Extensions=["150", "151"], CallType=0, **more
            )
            assert answer.status_code == 200

        uploads = len(world.crm.uploads)
        if post_first:
            # The PBX's first id after `new` is not known beforehand; the post wins the race by stalling the link.
            world.pbx.stall()
        world.pbx.listen(receive)
        truths: list[Any] = []

        async def play() -> None:
            truths.append(await world.pbx.play("incoming_answered", client="+" + CLIENT))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(play)
            await world.wait_for(lambda: new)
            for address in ("/start", "/dial", "/bridge"):
                await post(address, new[0])
            if post_first:
                world.pbx.stall(False)
        await post("/hangup", new[0], CallStatus="2")
        world.pbx.listeners.remove(receive)
        reported = Notified(world, truths[0]["linkedid"])
        await reported.uploaded()
        sentinel = await answered_call(world, f"103.{post_first:d}")
        await sentinel.uploaded()
        assert reported.call_id == new[0]
        assert [kind for kind in reported.types if kind == "hangup"] == ["hangup"]
        codes = [code for event in reported.events if event["type"] == "in" for code in event["codes"]]
        assert len(codes) == len(set(codes))
        assert len(reported.uploads) == 1
        assert len(world.crm.uploads) == uploads + 2, "and nothing else was uploaded"

    stage.do(scenario)


@pytest.mark.parametrize(
    "fault",
    [
        "drop_after",
        *(pytest.param(one, marks=pytest.mark.long) for one in ("html", "empty", "success_false", "hang", "drop", "http_500", "http_503")),
    ],
)  # fmt: skip
def test_whatever_the_crm_does_a_call_is_uploaded_once(stage: Stage, fault: str) -> None:
    async def scenario() -> None:
        world = stage.world
        crm = world.crm
        crm.hang_s = 0.8
        before = len(crm.requests)
        crm.fault, crm.fault_count = Fault(fault), None if fault in ("html", "success_false") else 2
        reported = await answered_call(world, f"104.{fault}")
        if fault in ("html", "success_false"):
            await world.wait_for(lambda: len(crm.requests) > before)
            await wait_state(world, "attention")
            crm.fault = Fault.NONE
            await world.apply(block(world, timeout_s=0.6))  # a person has looked at it
        await reported.uploaded(25)
        crm.fault, crm.fault_count = Fault.NONE, None
        await world.apply(block(world))  # and a fresh breaker for the next
        await wait_settled(world, reported.call_id)
        assert len(reported.uploads) == 1
        assert crm.duplicates.count(reported.call_id) <= 3

    stage.do(scenario)


async def wait_state(world: World, state: str) -> None:
    async def reached() -> bool:
        return bool((await world.get("/stats"))["actors"].get(state))

    await until(reached)


async def wait_settled(world: World, call_id: str) -> None:
    """Until nothing of the call is pending any more."""
    query = "SELECT count(*) FROM deliveries WHERE subject_id = $1 AND state = 'pending'"

    async def done() -> bool:
        return not (await database(world, rows, query, call_id))[0][0]

    await until(done, 20)


async def until(what: Callable[[], Awaitable[bool]], within_s: float = 10.0) -> None:
    """Another process is looked at from outside until `what()` is true."""
    with trio.fail_after(within_s):
        while not await what():
            await trio.sleep(0.02)


async def wait_switch(world: World, on: bool) -> None:
    async def known() -> bool:
        return (await world.get("/integrations/0367"))["integrations"]["retailcrm"] is on

    await until(known)


@pytest.mark.parametrize("listener_killed", [False, True])
def test_a_switch_flipped_in_the_database_is_known(stage: Stage, listener_killed: bool) -> None:
    async def scenario() -> None:
        world = stage.world

        async def flip(on: bool) -> float:
            await database(
                world, run_sql, *(["SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                                   "WHERE application_name = 'gateway listen'"] if listener_killed else []),
                f"UPDATE integrations SET enabled = {on} WHERE tenant_id = '0367' AND integration_type = 'retailcrm'",
            )  # fmt: skip
            started = time.monotonic()
            await wait_switch(world, on)
            return time.monotonic() - started

        try:
            assert await flip(False) < (5.0 if listener_killed else 1.0)
        finally:
            back = await flip(True)
        assert back < (5.0 if listener_killed else 1.0)

    stage.do(scenario)


def test_what_waits_while_an_integration_is_off_is_told_when_it_is_on(stage: Stage) -> None:
    async def scenario() -> None:
        world = stage.world
        switch = "UPDATE integrations SET enabled = {} WHERE tenant_id = '0367' AND integration_type = 'retailcrm'"
        world.crm.fault = Fault.HTTP_500
        before = len(world.crm.requests)
        reported = await answered_call(world, "105.1")
        await world.wait_for(lambda: len(world.crm.requests) > before)
        await database(world, run_sql, switch.format("false"))
        await wait_switch(world, False)
        world.crm.fault = Fault.NONE
        await database(world, run_sql, switch.format("true"))
        await reported.uploaded(20)
        assert len(reported.uploads) == 1

    stage.do(scenario)


def test_no_secret_leaves_its_place(stage: Stage) -> None:
    """The last one of the module: everything that went wrong above has been written down by now."""

    async def scenario() -> None:
        world = stage.world
        token = BOT.partition(":")[2]
        secrets = {
            "token": world.token, "api_key": world.crm.api_key, "bot": token, "AMI": world.pbx.secret,
            "password": PASSWORD, "client_id": CLIENT_ID,
        }  # fmt: skip
        # Errors of every kind, with each secret in play.
        world.telegram.fault, world.telegram.fault_count = Fault.HTTP_500, 2
        world.crm.fault, world.crm.fault_count = Fault.DROP, 2
        reported = await answered_call(world, "106.1")
        await world.post("/dial", Token=world.token + "x", UniqueId="106.2")
        await reported.uploaded(20)
        master = (world.folder / "var" / "master.key").read_text().split()[-2]
        secrets["master key"] = master
        places = {
            "log": (world.folder / "gateway.log").read_text(),
            "/stats": json.dumps(await world.get("/stats")),
            "/metrics": await text_of(world, "/metrics"),
            "/integrations": json.dumps(await world.get("/integrations/0367")),
            "database": await database(world, dumped),
        }
        assert "canary" not in places["log"]
        assert "106.1" in places["database"]
        leaks = [(name, place) for name, secret in secrets.items() for place, text in places.items() if secret in text]
        assert leaks == []

    stage.do(scenario)


async def text_of(world: World, path: str) -> str:
    import httpx2

    async with httpx2.AsyncClient(trust_env=False) as client:
        return (await client.get(f"{world.url}{path}", timeout=10)).text


async def dumped(connection: OwnConnection) -> str:
    """Every table as text, as a dump would have it."""
    tables = [name for (name,) in await rows(connection, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
    texts = [str(await rows(connection, f'SELECT t::text FROM "{name}" t')) for name in tables]
    assert len(tables) > 10
    return "\n".join(texts)


async def test_sigterm_finishes_what_is_in_hand_and_systemd_is_told_in_order(tmp_path: Path) -> None:
    notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    with notified:
        notified.bind(str(tmp_path / "notify"))
        async with open_world(tmp_path, NOTIFY_SOCKET=str(tmp_path / "notify")) as world:
            world.crm.fault, world.crm.hang_s = Fault.HANG, 1.0
            await world.wait_link()
            reported = await answered_call(world, "107.1")
            await world.wait_for(lambda: reported.events)
            os.kill(world.child.pid, signal.SIGTERM)
            with trio.fail_after(15):
                assert await world.child.wait() == 0
            log = [json.loads(line) for line in (world.folder / "gateway.log").read_text().splitlines()]
            said = [line["event"] for line in log]
            assert said.index("ready") < said.index("stopping") < said.index("stopped")
            assert not [line for line in log if line["level"] == "ERROR"]
            assert next(line["outcome"] for line in log if line["event"] == "delivery") == "done", "it was waited for"
            assert reported.types.count("in") == 1
            assert not world.pbx.links
        states = []
        while True:
            try:
                states.append(notified.recv(4096).decode().splitlines()[0])
            except BlockingIOError:
                break
        states = [state for state in states if not state.startswith("STATUS=")]
        waits = states.index("READY=1")
        assert {*states[:waits]} == {"EXTEND_TIMEOUT_USEC=30000000"}
        assert states[waits:] == ["READY=1", "STOPPING=1"]
