"""The community against a strict sandbox over real sockets: callback server, long poll, uploads, and repeats that are dropped.

Long, because both ways in and every step of sending stand on the same world.
"""

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import trio

from adapters.base import Attempt, Delivered, Link
from adapters.channel import MESSAGE, Outgoing, OutgoingFile, parts_of
from adapters.inbound import Update
from adapters.jobs import JobContext, JobResult
from adapters.tokens import Exchange, FreshToken, Token
from adapters.vk.chats import CHANNEL, events
from adapters.vk.client import REPEATS_DROPPED_S, VkClient, connect
from adapters.vk.incoming import EVENTS, INBOUND
from adapters.vk.jobs import JOBS
from adapters.vk.long_poll import PLACE
from gateway.domain.chats import ClientWrote, WroteElsewhere, short_token
from gateway.domain.errors import (
    BadCredentials,
    BadSettings,
    Doubtful,
    GatewayError,
    RateLimited,
    Rejected,
    TooLarge,
    Unavailable,
)
from gateway.domain.health import State
from gateway.domain.ids import IntegrationKey
from gateway.domain.secret import Secret
from gateway.domain.subjects import Subject
from tests.adapters.vk.settings_of import GROUP, settings
from tests.sandbox.hooks import Hooks
from tests.sandbox.vk import Server, Vk
from tests.sandbox.web import Fault

ANN = 2
PATH = "/hooks/vk/" + "h" * 43
CONTENT = b"\x89PNG" + b"x" * 70_000


class Files:
    """Two files of a company."""

    async def pieces(self, file_id: str) -> AsyncIterator[bytes]:
        """Some bytes, or those of a program."""
        if file_id == "program":
            yield b"MZ" + b"x" * 8
        else:
            yield CONTENT[:1000]
            yield CONTENT[1000:]

    def address(self, file_id: str) -> str:
        """VK is given the bytes."""
        raise AssertionError


class Kept:
    """`adapters.tokens.Tokens` in memory."""

    def __init__(self) -> None:
        self.values: dict[str, Token] = {}
        self.puts: list[str] = []

    async def current(self, name: str) -> Token | None:
        return self.values.get(name)

    async def put(self, name: str, fresh: FreshToken) -> Token:
        self.puts.append(fresh.value.reveal())
        found = self.values[name] = Token(fresh.value, len(self.puts))
        return found

    async def refresh(self, name: str, exchange: Exchange, *, stale: Token | None = None) -> Token:
        raise AssertionError

    async def worked(self, name: str, token: Token) -> None:
        raise AssertionError


class Ids:
    """`adapters.base.ExternalIds` in memory."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    async def remember(self, name: str, external_id: str, of: Subject | None = None) -> None:
        assert of is None
        self.values[name] = external_id

    async def known(self, name: str, of: Subject | None = None) -> str | None:
        return self.values.get(name)


@dataclass
class Sink:
    """Takes updates, or dies before they are durable."""

    taken: list[Update] = field(default_factory=list)
    dies: bool = False
    news: trio.Event = field(default_factory=trio.Event)
    before: Callable[[], None] = lambda: None

    async def received(self, updates: Sequence[Update]) -> None:
        self.before()
        if self.dies:
            raise Unavailable("the process ends here")
        self.taken += updates
        self.news.set()
        self.news = trio.Event()

    async def wait(self, count: int) -> list[Update]:
        with trio.fail_after(5):
            while len(self.taken) < count:
                await self.news.wait()
        return self.taken


@dataclass
class World:
    """A messenger, our webhook and what connects them."""

    vk: Vk
    hooks: Hooks
    link: Link
    reports: list[str]
    kept: Kept

    @asynccontextmanager
    async def client(self, **more: Any) -> AsyncIterator[VkClient]:
        async with connect(self.link, settings(**more)) as client:
            yield client

    async def job(self, attempt: Attempt | None = None, **more: Any) -> JobResult | None:
        (job,) = JOBS
        ours = settings(**more)
        context = JobContext(
            tenant=self.link.tenant, key=IntegrationKey("vk"), settings=ours, link=self.link, attempt=attempt or sending()
        )  # fmt: skip
        async with connect(self.link, ours) as client:
            return await job.run(client, context)


@pytest.fixture
async def world(nursery: trio.Nursery, open_link: Link) -> World:
    vk, hooks, reports, kept = Vk(), Hooks(INBOUND, settings(), PATH), list[str](), Kept()
    base, url = await nursery.start(vk.serve), await nursery.start(hooks.serve)
    vk.add(ANN)

    def report(state: State, code: str, detail: str) -> None:
        reports.append(code)

    link = replace(open_link, base_url=base, hook_url=Secret(url), files=Files(), tokens=kept, report=report)
    return World(vk, hooks, link, reports, kept)


def sending(part: Outgoing | None = None) -> Attempt:
    part = part or Outgoing(to=str(ANN), text="Добрый день", token="m.0")
    return Attempt(kind=MESSAGE, key=part.token, lane="chat 1", body=part.body())


# The callback server ---------------------------------------------------------------------------------------------------


async def test_the_job_adds_our_server_once_and_repairs_it(world: World) -> None:
    made = sending()
    assert await world.job(made) is None
    (server,) = world.vk.servers.values()
    assert (server.status, server.secret_key, server.events) == ("ok", "s3cr3t", set(EVENTS))
    assert world.hooks.answers == [200]
    await world.job()
    names = [name for name, _ in world.vk.calls]
    assert (names.count("groups.addCallbackServer"), names.count("groups.setCallbackSettings")) == (1, 1)
    server.events = {"message_new"}
    await world.job()
    assert server.events == set(EVENTS)
    server.status = "failed"
    assert await world.job() is None
    assert (len(world.vk.servers), server.status) == (1, "ok"), "the same server, with a fresh code"
    await world.job(secret="another")
    assert (len(world.vk.servers), server.secret_key) == (1, "another")
    shown = made.request + made.response
    assert "addCallbackServer" in shown
    assert "h" * 43 not in shown
    assert "s3cr3t" not in shown
    assert world.vk.violations == []


async def test_the_plain_address_where_the_settings_have_the_code(world: World) -> None:
    world.hooks.settings = settings(confirmation="code0")
    assert await world.job(confirmation="code0") is None
    (server,) = world.vk.servers.values()
    assert world.link.hook_url is not None
    assert (server.url, server.status) == (world.link.hook_url.reveal(), "ok")


async def test_an_address_that_vk_cannot_reach(world: World) -> None:
    world.hooks.away = 1
    with pytest.raises(Unavailable, match="could not reach our address"):
        await world.job()
    assert await world.job() is None, "the next look repairs it"


async def test_while_vk_confirms_we_look_again_soon(world: World) -> None:
    await world.job()
    (server,) = world.vk.servers.values()
    server.status = "wait"
    result = await world.job()
    assert result is not None
    assert result.after_s is not None
    assert result.after_s <= 60
    assert [name for name, _ in world.vk.calls].count("groups.editCallbackServer") == 0


async def test_servers_of_others_stay(world: World) -> None:
    for number in range(1, 11):
        world.vk.servers[-number] = Server(
            id=-number, url=f"https://e.example/{number}", title="x", secret_key="canary-of-others"
        )
    made = sending()
    with pytest.raises(BadSettings, match="10 callback servers"):
        await world.job(made)
    assert "canary-of-others" not in made.request + made.response
    del world.vk.servers[-1]
    await world.job()
    async with world.client() as client:
        await client.withdraw(attempt=sending())
        await client.withdraw()
    assert len(world.vk.servers) == 9
    assert all(number < 0 for number in world.vk.servers)


async def test_without_a_public_https_address_the_job_says_what_to_set(world: World) -> None:
    (job,) = JOBS
    link = replace(world.link, base_url=None, hook_url=Secret("http://192.0.2.7:8000" + PATH))
    ours = settings()
    context = JobContext(tenant=link.tenant, key=IntegrationKey("vk"), settings=ours, link=link, attempt=sending())
    async with connect(link, ours) as client:
        with pytest.raises(BadSettings, match="PUBLIC_URL"):
            await job.run(client, context)


async def test_a_poll_takes_the_callback_server_away(world: World) -> None:
    await world.job()
    assert await world.job(updates="longpoll") is None
    assert world.vk.servers == {}
    world.vk.may_manage = False
    assert await world.job(updates="longpoll") is None


async def test_a_conversation_by_callbacks(world: World) -> None:
    """Write, edit, answer, echo, an answer in VK itself, read, deny, allow: each step as our events."""
    vk = world.vk
    await world.job()
    first = await vk.write(ANN, "Здравствуйте")
    await vk.edit(first, "Здравствуйте!")
    async with world.client() as client:
        sent = await client.deliver(sending())
    await vk.echo(ANN)
    typed = await vk.answer_by_hand(ANN, "Я отвечу сам")
    await vk.read(ANN, int(sent.external_id))
    await vk.allow(ANN, False)
    await vk.allow(ANN, True)
    found = [event for update in await world.hooks.wait_taken(7) for event in events(update.body, settings())]
    assert [type(event).__name__ for event in found] == [
        "ClientWrote", "MessageEdited", "WroteElsewhere", "WroteElsewhere", "StatusReached", "ReachChanged", "ReachChanged",
    ]  # fmt: skip
    echo, by_hand = found[2], found[3]
    assert isinstance(echo, WroteElsewhere)
    assert isinstance(by_hand, WroteElsewhere)
    assert (echo.provider_id, echo.short_token) == (sent.external_id, short_token("m.0"))
    assert by_hand.provider_id == str(typed["id"])
    assert by_hand.short_token != short_token("m.0")
    assert vk.violations == []


async def test_a_group_chat_is_answered_and_left_alone(world: World) -> None:
    await world.job()
    await world.vk.write(ANN, "hi all", peer=2_000_000_001)
    assert world.hooks.taken == []
    assert world.hooks.answers[-1] == 200


async def test_an_event_that_was_not_taken_comes_again_and_is_one_update(world: World) -> None:
    await world.job()
    world.hooks.away = 2
    await world.vk.write(ANN, "once")
    assert len(await world.hooks.wait_taken(1)) == 1


async def test_a_forged_event_changes_nothing(world: World) -> None:
    assert world.link.hook_url is not None
    forged = {"type": "message_new", "group_id": GROUP, "secret": "guess", "object": {}}
    assert await world.vk.call_webhook(world.link.hook_url.reveal(), json.dumps(forged).encode()) == (403, b"")
    assert world.hooks.taken == []


# Sending ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [Fault.DROP, Fault.DROP_AFTER, Fault.HANG, Fault.EMPTY, Fault.HTML, Fault.HTTP_500])
async def test_a_lost_answer_is_sent_again_and_seen_once(world: World, fault: Fault) -> None:
    world.vk.fault = fault
    async with world.client() as client:
        with pytest.raises(Unavailable):
            await client.deliver(sending())
        again = await client.deliver(sending())
    (seen,) = world.vk.members[ANN].seen
    assert again == Delivered(external_id=str(seen["id"]))
    assert world.vk.violations == []


async def test_what_may_have_arrived_is_sent_again_only_while_vk_knows_a_repeat(world: World) -> None:
    ids, now = Ids(), [1000.0]
    async with world.client() as client:
        client.now = lambda: now[0]
        for number, later in ((1, 0.0), (2, REPEATS_DROPPED_S), (3, REPEATS_DROPPED_S - 1)):
            world.vk.fault, now[0] = Fault.DROP_AFTER, 1000.0 + later
            with pytest.raises(Unavailable):
                await client.deliver(replace(sending(), number=number, ids=ids))
        calls, now[0] = len(world.vk.calls), 1001.0 + REPEATS_DROPPED_S
        with pytest.raises(Doubtful):
            await client.deliver(replace(sending(), number=4, ids=ids))
        assert len(world.vk.calls) == calls, "nothing was sent"
        assert (await client.deliver(replace(sending(), number=1, ids=ids))).external_id, "a person sends it again"
    assert len(world.vk.members[ANN].seen) == 1


@pytest.mark.parametrize(
    "text", ["ж" * 100_000, "👩‍👩‍👧‍👦" * 5000, "\u200f\u202eшалом\u2066\n" * 3000, "a\0b & <i>&amp;" * 2000]
)
async def test_a_text_of_any_kind_goes_in_parts_that_vk_takes(world: World, text: str) -> None:
    parts = parts_of(CHANNEL.capabilities, str(ANN), text, [], token="m")
    async with world.client() as client:
        for part in parts:
            assert (await client.deliver(sending(part))).external_id
    shown = "".join(one["text"] for one in world.vk.members[ANN].seen)
    assert "".join(shown.split()) == "".join(text.replace("\0", "").split())
    assert world.vk.violations == []


@pytest.mark.parametrize(
    ("code", "error"),
    [(6, RateLimited), (9, Unavailable), (29, RateLimited), (15, BadSettings), (5, BadCredentials), (100, Rejected)],
)
async def test_what_a_refusal_comes_to(world: World, code: int, error: type[GatewayError]) -> None:
    world.vk.error = code
    made = sending()
    async with world.client() as client:
        with pytest.raises(error):
            await client.deliver(made)
    assert "vk1.a.sandbox" not in made.request + made.response


async def test_who_may_be_written_to(world: World) -> None:
    world.vk.members[ANN].allowed = False
    async with world.client() as client:
        with pytest.raises(Rejected, match="901: this person has not allowed"):
            await client.deliver(sending())
        with pytest.raises(Rejected, match="936: "):
            await client.deliver(sending(Outgoing(to="99", text="hi", token="m.9")))
        await world.vk.allow(ANN, True)
        assert (await client.deliver(sending())).external_id


async def test_a_token_that_was_revoked(world: World) -> None:
    world.vk.token = "another"
    async with world.client() as client:
        with pytest.raises(BadCredentials):
            await client.deliver(sending())
        assert (await client.test()).code == "bad_credentials"
        world.vk.token = "vk1.a.sandbox"
        tested = await client.test()
    assert (tested.ok, tested.said("ru")) == (True, "June")


async def test_an_answer_to_a_message_and_a_place(world: World) -> None:
    asked = await world.vk.write(ANN, "where?")
    async with world.client() as client:
        await client.deliver(sending(Outgoing(to=str(ANN), text="here", reply_to=str(asked["id"]), token="m.0")))
        await client.deliver(sending(Outgoing(to=str(ANN), latitude=53.9, longitude=27.5, token="m.1")))
        await client.typing(str(ANN))
        await client.mark_read(str(ANN), str(asked["id"]))
    answer, place = world.vk.members[ANN].seen
    assert (answer["reply_to"], place["lat"]) == (str(asked["id"]), "53.9")
    assert world.vk.members[ANN].typing == 1
    assert world.vk.violations == []


def attached(kind: Any, content_type: str, file_id: str = "f1") -> Outgoing:
    size = 10 if file_id == "program" else len(CONTENT)
    one = OutgoingFile(id=file_id, kind=kind, name="a.png", content_type=content_type, size=size)
    return Outgoing(to=str(ANN), text="look", file=one, token="m.1")


@pytest.mark.parametrize(("kind", "content_type", "sent_as"), [("image", "image/png", "photo"), ("image", "image/webp", "doc"),
                                                              ("file", "application/pdf", "doc"), ("voice", "audio/ogg", "doc")])  # fmt: skip
async def test_a_file_in_its_steps(world: World, kind: Any, content_type: str, sent_as: str) -> None:
    made = sending(attached(kind, content_type))
    async with world.client() as client:
        assert (await client.deliver(made)).external_id
    (seen,) = world.vk.members[ANN].seen
    assert seen["attachment"].startswith(f"{sent_as}-{GROUP}_")
    assert seen["text"] == "look"
    assert world.vk.uploads == [CONTENT]
    assert "canary-of-the-upload" not in made.request
    assert world.vk.violations == []


async def test_a_file_is_uploaded_once_for_all_attempts(world: World) -> None:
    made = sending(attached("image", "image/png"))
    world.vk.members[ANN].allowed = False
    async with world.client() as client:
        with pytest.raises(Rejected):
            await client.deliver(made)
        world.vk.members[ANN].allowed = True
        assert (await client.deliver(made)).external_id
    assert len(world.vk.uploads) == 1


async def test_a_file_that_vk_does_not_take(world: World) -> None:
    async with world.client() as client:
        with pytest.raises(Rejected, match="invalid extension"):
            await client.deliver(sending(attached("file", "application/octet-stream", "program")))
    assert world.vk.members[ANN].seen == []


# The long poll ---------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def polling(world: World, sink: Sink) -> AsyncIterator[VkClient]:
    async with world.client(updates="longpoll") as client, trio.open_nursery() as nursery:
        nursery.start_soon(client.run, sink)
        polls = world.vk.polls
        with trio.fail_after(5):
            while world.vk.polls == polls:
                await trio.sleep(0.005)
        yield client
        nursery.cancel_scope.cancel()


async def test_updates_come_in_order_with_names(world: World) -> None:
    sink = Sink()
    async with polling(world, sink):
        for number in range(3):
            await world.vk.write(ANN, f"text {number}")
        taken = await sink.wait(3)
    found = [event for update in taken for event in events(update.body, settings()) if isinstance(event, ClientWrote)]
    assert [event.text for event in found] == ["text 0", "text 1", "text 2"]
    assert {event.person.name for event in found} == {"Анна Петрова"}
    assert [name for name, _ in world.vk.calls].count("users.get") == 1
    assert world.vk.violations == []


async def test_a_cropped_message_is_completed(world: World) -> None:
    sink, whole = Sink(), "слово " * 800
    async with polling(world, sink):
        await world.vk.write(ANN, whole, cropped="слово")
        (update,) = await sink.wait(1)
    (event,) = events(update.body, settings())
    assert (event.text, event.files) == (whole, ())  # type: ignore[union-attr]


async def test_what_vk_does_not_tell_holds_up_no_message(world: World) -> None:
    sink = Sink()
    async with polling(world, sink):
        world.vk.error = 10
        await world.vk.write(ANN, "hi")
        (update,) = await sink.wait(1)
    (event,) = events(update.body, settings())
    assert event.person.username == "id2"  # type: ignore[union-attr]


async def test_the_whole_text_of_a_cropped_callback_is_a_file(world: World) -> None:
    await world.job()
    await world.vk.write(ANN, "слово " * 800, cropped="слово")
    (update,) = await world.hooks.wait_taken(1)
    (event,) = events(update.body, settings())
    (file,) = event.files  # type: ignore[union-attr]
    got = bytearray()

    async def write(piece: bytes) -> None:
        got.extend(piece)

    assert file.remote is not None
    async with world.client() as client:
        assert (await client.fetch(file.remote, write, 1 << 20)).startswith("text/plain")
        with pytest.raises(TooLarge):
            await client.fetch(file.remote, write, 9)
        with pytest.raises(Rejected, match="any more"):
            await client.fetch({"message_id": 1}, write, 9)
    assert got.decode() == "слово " * 800


async def test_the_place_is_stored_after_the_updates(world: World) -> None:
    sink = Sink()
    sink.before = lambda: assert_not_ahead(world, sink)
    async with polling(world, sink):
        for number in range(3):
            await world.vk.write(ANN, str(number))
        await sink.wait(3)
    assert world.kept.puts[0] == f"{GROUP}:0", "the first place too, so that a restart skips nothing"


def assert_not_ahead(world: World, sink: Sink) -> None:
    assert int(world.kept.puts[-1].partition(":")[2]) <= len(sink.taken)


async def test_a_restart_goes_on_where_it_was_ended(world: World) -> None:
    first, second = Sink(), Sink()
    async with polling(world, first):
        await world.vk.write(ANN, "before")
        await first.wait(1)
    await world.vk.write(ANN, "meanwhile")
    async with polling(world, second):
        await second.wait(1)
    texts = [event.text for one in (*first.taken, *second.taken) for event in events(one.body, settings())]  # type: ignore[union-attr]
    assert list(dict.fromkeys(texts)) == ["before", "meanwhile"]
    assert "meanwhile" in texts


async def test_a_death_before_the_updates_are_durable_repeats_them(world: World) -> None:
    dying, next_one = Sink(dies=True), Sink()
    async with world.client(updates="longpoll") as client:
        world.vk.longpoll_events = set(EVENTS)
        await world.kept.put(PLACE, FreshToken(Secret(f"{GROUP}:0")))
        await world.vk.write(ANN, "not lost")
        with pytest.raises(Unavailable):
            await client.run(dying)
    assert world.kept.puts == [f"{GROUP}:0"]
    async with polling(world, next_one):
        assert len(await next_one.wait(1)) == 1


async def test_the_place_of_another_community_is_none_of_ours(world: World) -> None:
    await world.kept.put(PLACE, FreshToken(Secret("1:77")))
    async with polling(world, Sink()):
        pass
    assert world.kept.puts[-1] == f"{GROUP}:0"


@pytest.mark.parametrize(("failed", "lost"), [(1, True), (2, False), (3, True)])
async def test_a_failed_poll_goes_on(world: World, failed: int, lost: bool) -> None:
    world.vk.poll_failures = [failed]
    sink = Sink()
    async with polling(world, sink):
        with trio.fail_after(5):
            while world.vk.polls < 2:
                await trio.sleep(0.005)
        await world.vk.write(ANN, "after")
        assert len(await sink.wait(1)) == 1
    assert ("history_lost" in world.reports) is lost
    servers = [name for name, _ in world.vk.calls].count("groups.getLongPollServer")
    assert servers == (1 if failed == 1 else 2)


async def test_a_key_that_ends_loses_nothing(world: World) -> None:
    sink = Sink()
    async with polling(world, sink):
        world.vk.end_key()
        await world.vk.write(ANN, "one")
        await world.vk.write(ANN, "two")
        assert len(await sink.wait(2)) >= 2
    assert "history_lost" not in world.reports


async def test_polling_without_the_right_to_manage(world: World) -> None:
    world.vk.may_manage = False
    async with world.client(updates="longpoll") as client:
        with pytest.raises(BadSettings, match="15: "):
            await client.run(Sink())
        world.vk.longpoll_events = set(EVENTS)
    sink = Sink()
    async with polling(world, sink):
        await world.vk.write(ANN, "hi")
        assert len(await sink.wait(1)) == 1
    assert world.vk.violations == []


async def test_a_session_ends_with_a_reason_that_is_ours(world: World) -> None:
    async with world.client(updates="longpoll") as client:
        world.vk.fault = Fault.HTTP_500
        with pytest.raises(Unavailable):
            await client.run(Sink())
        world.vk.token = "another"
        with pytest.raises(BadCredentials):
            await client.run(Sink())
