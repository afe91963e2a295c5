"""The bot against a strict sandbox over real sockets: registration, messages in and out, what is never sent twice."""

from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
import trio

from adapters.base import Attempt, Delivered, Link
from adapters.channel import MESSAGE, Outgoing, OutgoingFile, parts_of
from adapters.http import SafeDialer
from adapters.jobs import JobContext
from adapters.viber.chats import CHANNEL, events
from adapters.viber.client import ViberClient, connect
from adapters.viber.incoming import INBOUND
from adapters.viber.jobs import JOBS
from gateway.domain.errors import BadCredentials, BadSettings, Doubtful, GatewayError, Rejected, Unavailable
from gateway.domain.ids import IntegrationKey
from gateway.domain.secret import Secret
from tests.adapters.viber.settings_of import settings
from tests.sandbox.hooks import Hooks
from tests.sandbox.viber import Viber
from tests.sandbox.web import Fault, Request, Response, Site

ANN = "01234567890A="
PATH = "/hooks/viber/" + "h" * 43


class Files:
    """Of a company with a public address."""

    def pieces(self, file_id: str) -> AsyncIterable[bytes]:
        """Viber fetches files itself."""
        raise AssertionError

    def address(self, file_id: str) -> str:
        """With a key in it."""
        return f"https://gw.example/files/{file_id}?key=canary-of-the-file"


@dataclass
class World:
    """A messenger, our webhook and what connects them."""

    viber: Viber
    hooks: Hooks
    link: Link

    @asynccontextmanager
    async def client(self, **more: Any) -> AsyncIterator[ViberClient]:
        async with connect(self.link, settings(**more)) as client:
            yield client

    def context(self, attempt: Attempt) -> JobContext:
        return JobContext(
            tenant=self.link.tenant, key=IntegrationKey("viber"), settings=settings(), link=self.link, attempt=attempt
        )


@pytest.fixture
async def world(nursery: trio.Nursery, open_link: Link) -> World:
    viber, hooks = Viber(), Hooks(INBOUND, settings(), PATH)
    base, url = await nursery.start(viber.serve), await nursery.start(hooks.serve)
    return World(viber, hooks, replace(open_link, base_url=base, hook_url=Secret(url), files=Files()))


@pytest.fixture
async def ready(world: World) -> World:
    """The webhook is registered, and Ann has written."""
    async with world.client() as client:
        assert world.link.hook_url is not None
        await client.ensure_webhook(world.link.hook_url)
    world.viber.add(ANN)
    world.viber.calls.clear()
    return world


def attempt(part: Outgoing | None = None) -> Attempt:
    part = part or Outgoing(to=ANN, text="Добрый день", token="m.0")
    return Attempt(kind=MESSAGE, key=part.token, lane="chat 1", body=part.body())


async def test_without_a_public_https_address_the_job_says_what_to_set(open_link: Link) -> None:
    (job,) = JOBS
    link = replace(open_link, base_url=None, hook_url=Secret("http://192.0.2.7:8000" + PATH))
    context = JobContext(
        tenant=link.tenant, key=IntegrationKey("viber"), settings=settings(), link=link, attempt=attempt()
    )
    async with connect(link, settings()) as client:
        with pytest.raises(BadSettings, match="PUBLIC_URL"):
            await job.run(client, context)


async def test_the_job_registers_once_and_repairs(world: World) -> None:
    (job,) = JOBS
    made = attempt()
    async with world.client() as client:
        assert await job.run(client, world.context(made)) is None
        assert world.link.hook_url is not None
        assert world.viber.webhook == world.link.hook_url.reveal()
        assert world.hooks.answers == [200], "Viber called while the address was being registered"
        await job.run(client, world.context(attempt()))
        assert [method for method, _ in world.viber.calls].count("set_webhook") == 1
        world.viber.event_types = ["delivered"]
        await job.run(client, world.context(attempt()))
        assert "seen" in world.viber.event_types
        world.viber.webhook = "https://elsewhere.example/"
        await job.run(client, world.context(attempt()))
        assert world.viber.webhook == world.link.hook_url.reveal()
    assert "h" * 43 not in made.request + made.response
    assert "set_webhook" in made.request
    assert world.viber.violations == []


async def test_an_address_that_does_not_answer_is_tried_again(world: World) -> None:
    world.hooks.away = 1
    async with world.client() as client:
        assert world.link.hook_url is not None
        with pytest.raises(Unavailable, match="could not register"):
            await client.ensure_webhook(world.link.hook_url)
        assert await client.ensure_webhook(world.link.hook_url)


async def test_only_our_webhook_is_taken_back(ready: World) -> None:
    async with ready.client() as client:
        await client.withdraw(attempt=attempt())
        assert ready.viber.webhook == ""
        ready.viber.webhook = "https://elsewhere.example/"
        await client.withdraw()
        assert ready.viber.webhook == "https://elsewhere.example/"


async def test_a_conversation_right_of_steps(ready: World) -> None:
    """Open, write, answer, delivered, seen, leave, come back: each step as our events."""
    viber, ours = ready.viber, settings()
    await viber.open(ANN, "promo-7")
    written = await viber.write(ANN, {"type": "text", "text": "Здравствуйте"})
    async with ready.client() as client:
        sent = await client.deliver(attempt())
    (message,) = viber.members[ANN].messages
    assert sent == Delivered(external_id=str(message["token"]))
    assert int(sent.external_id) > 1 << 53
    await viber.status("delivered", ANN, message["token"])
    await viber.status("seen", ANN, message["token"])
    await viber.subscribe(ANN, False)
    await viber.subscribe(ANN, True)
    taken = await ready.hooks.wait_taken(6)
    found = [event for update in taken for event in events(update.body, ours)]
    assert [type(event).__name__ for event in found] == [
        "Opened", "ClientWrote", "StatusReached", "StatusReached", "ReachChanged", "ReachChanged",
    ]  # fmt: skip
    assert [getattr(event, "provider_id", "") for event in found[1:4]] == [written, sent.external_id, sent.external_id]
    assert viber.violations == []


async def test_a_callback_that_was_not_taken_comes_again_and_is_one_update(ready: World) -> None:
    ready.hooks.away = 2
    await ready.viber.write(ANN, {"type": "text", "text": "once"})
    assert len(await ready.hooks.wait_taken(1)) == 1


async def test_a_forged_callback_changes_nothing(ready: World) -> None:
    body = b'{"event": "message", "message_token": 7}'
    assert await ready.viber.call_webhook(ready.viber.webhook, body, "0" * 64) == 403
    assert ready.hooks.taken == []


@pytest.mark.parametrize(
    ("fault", "error"),
    [(Fault.DROP, Doubtful), (Fault.DROP_AFTER, Doubtful), (Fault.HANG, Doubtful), (Fault.EMPTY, Doubtful), (Fault.HTML, Doubtful),
     (Fault.HTTP_500, Unavailable), (Fault.HTTP_503, Unavailable)],
)  # fmt: skip
async def test_what_may_have_arrived_is_not_repeated(ready: World, fault: Fault, error: type[GatewayError]) -> None:
    ready.viber.fault = fault
    async with ready.client() as client:
        with pytest.raises(error):
            await client.deliver(attempt())
    assert len(ready.viber.calls) == 1


async def test_a_server_that_is_not_there_can_be_tried_again(world: World) -> None:
    world.link = replace(world.link, base_url="http://127.0.0.1:9")
    async with world.client() as client:
        with pytest.raises(Unavailable) as raised:
            await client.deliver(attempt())
    assert raised.value.certain


@pytest.mark.parametrize(
    "text", ["ж" * 100_000, "👩‍👩‍👧‍👦" * 5000, "\u200f\u202eшалом\u2066\n" * 3000, 'a\0"\\\x1b[31m' * 2000, "日" * 7000]
)
async def test_a_text_of_any_kind_goes_in_parts_that_viber_takes(ready: World, text: str) -> None:
    ready.viber.members[ANN].unanswered = -1000
    parts = parts_of(CHANNEL.capabilities, ANN, text, [], token="m")
    async with ready.client() as client:
        for part in parts:
            assert (await client.deliver(attempt(part))).external_id
    shown = "".join(one["text"] for one in ready.viber.members[ANN].messages)
    assert "".join(shown.split()) == "".join(text.replace("\0", "").replace("\x1b", "").split())
    assert ready.viber.violations == []


async def test_who_may_be_written_to(ready: World) -> None:
    ready.viber.add("STRANGER0=", reachable=False)
    async with ready.client() as client:
        with pytest.raises(Rejected, match="6: "):
            await client.deliver(attempt(Outgoing(to="STRANGER0=", text="hi")))
        with pytest.raises(Rejected, match="5: "):
            await client.deliver(attempt(Outgoing(to="NOBODY000=", text="hi")))
        ready.viber.members[ANN].unanswered = 100
        with pytest.raises(Unavailable, match="12: "):
            await client.deliver(attempt())
        await ready.viber.write(ANN, {"type": "text", "text": "I am here"})
        assert (await client.deliver(attempt())).external_id
    assert ready.viber.violations == []


async def test_a_bot_in_trouble(ready: World) -> None:
    async with ready.client() as client:
        ready.viber.blocked = 9
        with pytest.raises(BadSettings):
            await client.deliver(attempt())
        tested = await client.test()
        assert (tested.ok, tested.code) == (False, "bad_settings")
        ready.viber.blocked, ready.viber.token = 0, "reissued"
        with pytest.raises(BadCredentials) as raised:
            await client.deliver(attempt())
        assert "4453b6ac" not in str(raised.value)
        assert (await client.test()).code == "bad_credentials"


async def test_a_good_connection_names_the_bot(world: World) -> None:
    async with world.client() as client:
        tested = await client.test()
    assert (tested.ok, tested.code, tested.said("ru")) == (True, "ok", "June")


@pytest.mark.parametrize(("kind", "content_type", "sent_as"), [("image", "image/png", "picture"), ("video", "video/mp4", "video"),
                                                              ("file", "application/pdf", "file"), ("voice", "audio/ogg", "file")])  # fmt: skip
async def test_files_go_by_their_address(ready: World, kind: Any, content_type: str, sent_as: str) -> None:
    one = OutgoingFile(id="f1", kind=kind, name="a", content_type=content_type, size=9)
    made = attempt(Outgoing(to=ANN, file=one, token="m.1"))
    async with ready.client() as client:
        assert (await client.deliver(made)).external_id
    (message,) = ready.viber.members[ANN].messages
    assert (message["type"], message["media"]) == (sent_as, "https://gw.example/files/f1?key=canary-of-the-file")
    assert "canary-of-the-file" not in made.request + made.response
    assert ready.viber.violations == []


async def test_without_files_a_text_still_goes(ready: World) -> None:
    ready.link = replace(ready.link, files=None)
    one = OutgoingFile(id="f1", kind="file", name="a", content_type="application/pdf", size=9)
    async with ready.client() as client:
        with pytest.raises(Rejected, match="cannot be sent from here"):
            await client.deliver(attempt(Outgoing(to=ANN, file=one)))
        assert (await client.deliver(attempt())).external_id


class Store:
    """Files of a messenger, with redirects."""

    def __init__(self) -> None:
        self.base = ""
        self.site = Site({("GET", "/{name}"): self.file}, self.file)

    async def file(self, request: Request) -> Response:
        match request.path:
            case "/moved":
                return Response(302, b"", headers=(("Location", "/picture"),))
            case "/inward":
                return Response(302, b"", headers=(("Location", "http://169.254.169.254/latest"),))
            case "/round":
                return Response(302, b"", headers=(("Location", "/round"),))
            case "/picture":
                return Response(200, b"x" * 100_000, "image/png")
        return Response(404, b"")


@pytest.mark.parametrize(
    ("path", "most", "outcome"),
    [("/picture", 100_000, "image/png"), ("/moved", 100_000, "image/png"), ("/picture", 99_999, Rejected), ("/gone", 9, Rejected),
     ("/round", 9, Rejected), ("/inward", 9, BadSettings)],
)  # fmt: skip
async def test_a_file_is_fetched_within_its_bounds(
    world: World, nursery: trio.Nursery, path: str, most: int, outcome: Any
) -> None:
    base, got = await nursery.start(Store().site.serve), bytearray()

    async def write(piece: bytes) -> None:
        got.extend(piece)

    async with world.client() as client:
        if isinstance(outcome, str):
            assert await client.fetch({"url": base + path}, write, most) == outcome
            assert bytes(got) == b"x" * 100_000
        else:
            with pytest.raises(outcome):
                await client.fetch({"url": base + path}, write, most)
            assert len(got) <= most


@pytest.mark.parametrize("url", ["", "file:///etc/passwd", "https://user:word@e.example/", "http://[", "//e.example/a"])
async def test_what_is_no_address_of_a_file(world: World, url: str) -> None:
    async def write(piece: bytes) -> None:
        raise AssertionError

    async with world.client() as client:
        with pytest.raises(Rejected):
            await client.fetch({"url": url}, write, 9)


async def test_a_file_on_a_private_network_is_not_fetched(world: World, nursery: trio.Nursery) -> None:
    base = await nursery.start(Store().site.serve)
    world.link = replace(world.link, dial=SafeDialer())

    async def write(piece: bytes) -> None:
        raise AssertionError

    async with world.client() as client:
        with pytest.raises(BadSettings):
            await client.fetch({"url": base + "/picture"}, write, 100_000)
