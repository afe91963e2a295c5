"""A PBX session under its actor: backoff with jitter, no storm of logins, a fresh start after a good minute."""

import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast
from zoneinfo import ZoneInfo

import trio

from actors.calls.pbx_session import KEPT_WITHIN_S, PbxActor
from actors.calls.tenant_calls import PbxEvents
from actors.delivery.clients import Clients
from actors.runtime.directory import Directory, Slot
from actors.runtime.mailbox import Mailbox
from actors.runtime.sessions import BACKOFF_CAP_S
from actors.runtime.supervisor import open_supervisor
from actors.services import Services
from adapters.base import Adapter, AdapterSettings, CallSink
from gateway.domain.configuration import Connector, Tenant
from gateway.domain.errors import BadCredentials, RemoteProtocolError, Unavailable
from gateway.domain.events import CallRinging, Direction
from gateway.domain.health import State
from gateway.domain.ids import CallId, Kind, TenantId

TENANT = Tenant(TenantId("0367"), "June", ZoneInfo("UTC"), "BY", "ru", pbxes=(Connector("main", Kind("pbx"), {}),))


class World:
    """The actor, and a PBX whose every session is scripted."""

    def __init__(self) -> None:
        self.starts: list[float] = []
        self.session: Callable[[int, CallSink], Any] = self._refuse
        self.mailbox = Mailbox[PbxEvents](100)
        self.slot = Slot("tenant/0367/pbx/main")
        self.reads = 0
        self.away = 0
        adapter = Adapter(kind=Kind("pbx"), title="PBX", type="pbx", settings=AdapterSettings, connect=self._connect)
        services = cast(Services, SimpleNamespace(db=self, clients=Clients(), spills=None, provider_urls={}, dial=None))
        self.actor = PbxActor(TENANT, "main", adapter, AdapterSettings(), self.mailbox, services)

    async def tenant(self, *args: Any) -> list[Any]:
        self.reads += 1
        if self.away:
            self.away -= 1
            raise Unavailable("away")
        return []

    @asynccontextmanager
    async def _connect(self, link: object, settings: object) -> AsyncIterator["World"]:
        yield self

    async def run(self, sink: CallSink) -> None:
        self.starts.append(trio.current_time())
        await self.session(len(self.starts), sink)

    async def _refuse(self, number: int, sink: CallSink) -> None:
        raise Unavailable("connection refused")

    @property
    def pauses(self) -> list[float]:
        return [later - earlier for earlier, later in itertools.pairwise(self.starts)]


@asynccontextmanager
async def world(session: Callable[[int, CallSink], Any] | None = None) -> AsyncIterator[World]:
    here = World()
    here.session = session or here.session
    async with open_supervisor(Directory()) as supervisor:
        supervisor.start(here.slot, here.actor.run)
        yield here


async def test_backoff_doubles_with_jitter_to_its_cap(autojump_clock: trio.abc.Clock) -> None:
    async with world() as here:
        await trio.sleep(3600)
        for number, pause in enumerate(here.pauses):
            longest = min(BACKOFF_CAP_S, 2.0**number)
            assert longest / 2 <= pause <= longest + 0.001
        assert len({round(pause, 3) for pause in here.pauses[8:]}) > 3, "there is jitter"
        assert here.slot.health.state is State.OFFLINE
        assert here.slot.health.next_try is not None


async def test_a_day_offline_is_no_crash(autojump_clock: trio.abc.Clock) -> None:
    async with world() as here:
        await trio.sleep(24 * 3600)
        assert len(here.starts) > 1024
        assert here.slot.restarts == 0


async def test_a_refused_login_is_no_storm(autojump_clock: trio.abc.Clock) -> None:
    async def refused(number: int, sink: CallSink) -> None:
        raise BadCredentials("refused")

    async with world(refused) as here:
        await trio.sleep(3600)
        assert len(here.starts) <= 8
        assert min(here.pauses) >= 500
        assert here.slot.health.state is State.ATTENTION
        assert here.slot.health.code == "bad_credentials"


async def test_backoff_starts_over_after_a_good_minute_and_not_on_connect(autojump_clock: trio.abc.Clock) -> None:
    lasts = {7: 90.0, 9: 5.0}

    async def session(number: int, sink: CallSink) -> None:
        await trio.sleep(lasts.get(number, 0.0))
        raise RemoteProtocolError("cut")

    async with world(session) as here:
        await trio.sleep(900)
        assert here.pauses[5] >= 16
        assert here.pauses[6] - 90 <= 1.001, "online for a minute and a half"
        assert here.pauses[8] - 5 >= 1, "five seconds are no proof"


async def test_what_is_heard_goes_to_the_mailbox_and_a_full_one_makes_the_session_wait(
    autojump_clock: trio.abc.Clock,
) -> None:
    ring = CallRinging(
        call_id=CallId("1.1"), at=datetime(2026, 11, 21, tzinfo=UTC), direction=Direction.INCOMING, caller="+1", called="",
        trunk=None, extensions=("150",),
    )  # fmt: skip
    reported = 0

    async def session(number: int, sink: CallSink) -> None:
        nonlocal reported
        while True:
            await sink.emit([ring])
            reported += 1

    async with world(session) as here:
        await trio.sleep(1)
        assert reported == 100
        await here.mailbox.take_all()
        here.mailbox.done()
        await trio.sleep(1)
        assert reported == 200


async def test_the_open_calls_are_asked_for_when_what_was_told_is_kept(autojump_clock: trio.abc.Clock) -> None:
    """A call whose beginning still waits in the mailbox would be missing among them, and never end."""
    at: list[float] = []

    async def session(number: int, sink: CallSink) -> None:
        await sink.open_calls()
        at.append(trio.current_time())
        await trio.sleep_forever()

    async with world(session) as here:
        await here.mailbox.post(PbxEvents("main", (), datetime(2026, 11, 21, tzinfo=UTC)))
        began = trio.current_time()
        await trio.sleep(2)
        assert at == []
        await here.mailbox.take_all()
        here.mailbox.done()
        await trio.sleep(0.1)
        assert at[0] - began < 2.1
        # A tenant that is down must not keep its PBX from being heard for ever, nor a database that is away.
        here.away = 3
        await here.mailbox.post(PbxEvents("main", (), datetime(2026, 11, 21, tzinfo=UTC)))
        assert here.slot.restart is not None
        here.slot.restart()
        await trio.sleep(KEPT_WITHIN_S + 5)
        assert len(at) == 2
