"""The account against a strict sandbox over real sockets: both logins, messages in and out, the token's life, what is never sent twice.

Long, because sending, receiving and the jobs stand on the same world.
"""

from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import trio

from adapters.apps import MetaApp
from adapters.base import Attempt, Delivered, Link, marked_fields
from adapters.budget import Budget
from adapters.channel import MESSAGE, Outgoing, OutgoingFile
from adapters.http import SafeDialer
from adapters.instagram import ADAPTER
from adapters.instagram.chats import events
from adapters.instagram.client import TOKEN, InstagramClient, connect
from adapters.instagram.codec import stored
from adapters.instagram.incoming import FIELDS, INBOUND
from adapters.instagram.jobs import JOBS
from adapters.jobs import JobContext, JobResult
from adapters.tokens import Exchange, FreshToken, Token
from gateway.domain.chat_fold import Book, Part, content_digest
from gateway.domain.chats import ELSEWHERE, OWNER_NONE, Person
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
from gateway.domain.ids import IntegrationKey
from gateway.domain.secret import Secret
from tests.adapters.instagram.settings_of import ACCOUNT, SECRET, VERIFY, settings
from tests.sandbox.hooks import Hooks
from tests.sandbox.instagram import PAGE_FIELDS, Instagram, Refusal
from tests.sandbox.web import Fault, Request

ANN, FIRST = "99001", "IGAA-sandbox"
PATH = "/hooks/instagram/" + "h" * 43
KEY = IntegrationKey("instagram")
DAY = timedelta(days=1)


class Files:
    """Of a company with a public address."""

    def pieces(self, file_id: str) -> AsyncIterable[bytes]:
        """Meta fetches files itself."""
        raise AssertionError

    def address(self, file_id: str) -> str:
        """With a key in it."""
        return f"https://gw.example/files/{file_id}?key=canary-of-the-file"


@dataclass
class Kept:
    """`adapters.tokens.Tokens` in memory, with the clock of the sandbox."""

    now: Callable[[], datetime]
    value: Token | None = None
    proven: list[int] = field(default_factory=list)

    async def current(self, name: str) -> Token | None:
        assert name == TOKEN
        return self.value

    async def put(self, name: str, fresh: FreshToken) -> Token:
        version = 1 if self.value is None else self.value.version + 1
        ends = None if fresh.expires_in_s is None else self.now() + timedelta(seconds=fresh.expires_in_s)
        self.value = Token(fresh.value, version, ends)
        return self.value

    async def refresh(self, name: str, exchange: Exchange, *, stale: Token | None = None) -> Token:
        assert self.value is not None
        assert stale == self.value
        return await self.put(name, await exchange(self.value))

    async def worked(self, name: str, token: Token) -> None:
        self.proven.append(token.version)


@dataclass
class World:
    """A messenger, our webhook and what connects them."""

    insta: Instagram
    hooks: Hooks
    link: Link
    kept: Kept
    login: str

    def settings(self, **more: Any) -> Any:
        return settings(login=self.login, **more)

    @property
    def now(self) -> datetime:
        return datetime.fromtimestamp(self.insta.now, UTC)

    @asynccontextmanager
    async def client(self, **more: Any) -> AsyncIterator[InstagramClient]:
        async with connect(self.link, self.settings(**{"read_timeout_s": 0.2, **more})) as client:
            yield client

    async def job(self, name: str, attempt: Attempt | None = None, **more: Any) -> JobResult | None:
        job = next(one for one in JOBS if one.name == name)
        ours = self.settings(**more)
        context = JobContext(
            tenant=self.link.tenant, key=KEY, settings=ours, link=self.link, attempt=attempt or sending()
        )
        async with connect(self.link, ours) as client:
            return await job.run(client, context)

    async def keep(self, **more: Any) -> JobResult | None:
        """The job of the token, at the sandbox's time."""
        async with self.client(**more) as client:
            return await client.keep_token(self.now)


@pytest.fixture(params=["instagram", "facebook"])
def login(request: pytest.FixtureRequest) -> str:
    """Each login in turn."""
    return str(request.param)


async def world_of(login: str, nursery: trio.Nursery, open_link: Link) -> World:
    insta, hooks = Instagram(login=login), Hooks(INBOUND, settings(login=login), PATH)
    base, url = await nursery.start(insta.serve), await nursery.start(hooks.serve)
    kept = Kept(lambda: datetime.fromtimestamp(insta.now, UTC))
    link = replace(open_link, base_url=base, hook_url=Secret(url), files=Files(), tokens=kept)
    insta.add(ANN)
    return World(insta, hooks, link, kept, login)


@pytest.fixture
async def world(login: str, nursery: trio.Nursery, open_link: Link) -> World:
    """By both logins."""
    return await world_of(login, nursery, open_link)


@pytest.fixture
async def direct(nursery: trio.Nursery, open_link: Link) -> World:
    """By Instagram's login."""
    return await world_of("instagram", nursery, open_link)


@pytest.fixture
async def paged(nursery: trio.Nursery, open_link: Link) -> World:
    """Through a page."""
    return await world_of("facebook", nursery, open_link)


async def begin(world: World) -> World:
    """The webhook is entered at Meta, its news are subscribed to, and Ann has written."""
    assert world.link.hook_url is not None
    assert await world.insta.register(world.link.hook_url.reveal(), VERIFY)
    assert await world.job("subscription") is None
    await world.insta.write(ANN, "Здравствуйте")
    await world.hooks.wait_taken(1)
    world.insta.calls.clear()
    return world


def sending(part: Outgoing | None = None, number: int = 1) -> Attempt:
    part = part or Outgoing(to=ANN, text="Добрый день", token="m.0")
    return Attempt(kind=MESSAGE, key=part.token, lane="chat 1", body=part.body(), number=number)


def attached(kind: Any = "image", content_type: str = "image/png", name: str = "f1") -> Outgoing:
    return Outgoing(
        to=ANN, file=OutgoingFile(id=name, kind=kind, name="a", content_type=content_type, size=9), token="m.1"
    )


# Webhooks and news -----------------------------------------------------------------------------------------------------


async def test_the_job_subscribes_once_and_repairs(world: World) -> None:
    made = sending()
    assert await world.job("subscription", made) is None
    assert "subscribed_apps" in made.request
    wanted = FIELDS if world.login == "instagram" else PAGE_FIELDS & FIELDS
    assert world.insta.subscriptions <= wanted
    assert "messages" in world.insta.subscriptions
    again = sending()
    assert await world.job("subscription", again) is None
    assert again.request == "", "nothing was changed, so nothing is logged"
    world.insta.subscriptions = set()
    assert await world.job("subscription") is None
    assert "messages" in world.insta.subscriptions
    assert world.insta.violations == []
    assert FIRST not in made.request + made.response


async def test_news_that_meta_has_cut_down_are_subscribed_to_anew(direct: World) -> None:
    direct.insta.subscriptions = {"messages"}
    assert await direct.job("subscription") is None
    assert direct.insta.subscriptions == FIELDS


async def test_what_cannot_be_read_is_subscribed_to_anew(direct: World, monkeypatch: pytest.MonkeyPatch) -> None:
    routed = direct.insta._routed

    async def unreadable(request: Request, body: Any) -> dict[str, Any]:
        if (request.method, request.parts.get("edge")) == ("GET", "subscribed_apps"):
            raise Refusal(100, "Unsupported get request")
        return await routed(request, body)

    monkeypatch.setattr(direct.insta, "_routed", unreadable)
    assert await direct.job("subscription") is None
    assert direct.insta.subscriptions == FIELDS


async def test_a_page_s_other_subscriptions_stay(paged: World) -> None:
    paged.insta.subscriptions = {"feed", "messages"}
    assert await paged.job("subscription") is None
    assert paged.insta.subscriptions == {"feed", "messages"}


async def test_the_subscription_is_ended_where_it_serves_nothing_else(world: World) -> None:
    assert await world.job("subscription") is None
    made = sending()
    async with world.client() as client:
        await client.withdraw(attempt=made)
        assert world.insta.subscriptions == set()
        assert "DELETE" in made.request
        world.insta.subscriptions = {"feed", "messages"}
        await client.withdraw()
        assert world.insta.subscriptions == ({"feed", "messages"} if world.login == "facebook" else set())
    assert world.insta.violations == []


async def test_another_application_s_subscription_is_not_ours(paged: World) -> None:
    paged.link = replace(
        paged.link, app=MetaApp.model_validate({"app_id": "777", "app_secret": "s", "verify_token": "v"})
    )
    paged.insta.subscriptions = {"feed"}
    assert await paged.job("subscription") is None
    assert paged.insta.subscriptions == {"messages"}


async def test_a_token_of_another_account_is_a_problem(world: World) -> None:
    world.insta.account = "17841400000000007"
    found = await world.job("subscription")
    assert found is not None
    assert (found.problem, found.detail) == ("wrong_account", "17841400000000007 @june.shop")
    assert world.insta.subscriptions == set()
    async with world.client() as client:
        tested = await client.test()
    assert (tested.ok, tested.code) == (False, "wrong_account")


async def test_an_account_without_an_id_is_not_judged(direct: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct.insta, "_me", lambda query: {"username": "june.shop"})
    assert await direct.job("subscription") is None
    async with direct.client() as client:
        assert (await client.test()).ok


async def test_a_page_without_an_account(paged: World) -> None:
    paged.insta.linked = False
    found = await paged.job("subscription")
    assert found is not None
    assert (found.problem, found.detail) == ("no_account", "June")
    async with paged.client() as client:
        assert (await client.test()).code == "no_account"


async def test_a_good_connection_names_the_account(world: World) -> None:
    async with world.client() as client:
        tested = await client.test()
    assert (tested.ok, tested.code, tested.said("ru")) == (True, "ok", "@june.shop")


@pytest.mark.parametrize(
    ("more", "app", "code"),
    [({"app_secret": ""}, False, "no_app_secret"), ({"webhook_verify_token": ""}, False, "no_verify_token"),
     ({"app_secret": "", "webhook_verify_token": ""}, True, "")],
)  # fmt: skip
async def test_what_is_not_entered_yet(direct: World, more: dict[str, str], app: bool, code: str) -> None:
    whole = MetaApp.model_validate({"app_id": "777", "app_secret": "s", "verify_token": "v"}) if app else None
    assert ADAPTER.missing(direct.settings(**more), whole) == code
    direct.link = replace(direct.link, app=whole)
    async with direct.client(**more) as client:
        assert (await client.test()).code == (code or "ok")


async def test_an_installation_that_meta_cannot_reach_says_so(direct: World) -> None:
    direct.link = replace(direct.link, base_url=None, hook_url=Secret("http://10.0.0.7" + PATH))
    with pytest.raises(BadSettings, match="https"):
        await direct.job("subscription")


async def test_a_wrong_verify_token_is_no_handshake(direct: World) -> None:
    assert direct.link.hook_url is not None
    assert not await direct.insta.register(direct.link.hook_url.reveal(), "another")
    assert direct.hooks.answers == [403]


# A conversation --------------------------------------------------------------------------------------------------------


async def test_a_conversation_right_of_steps(world: World) -> None:
    """Hello, picture, voice, answer, echo, read, reaction, a person's answer in the app, a message taken back: each as our events."""
    await begin(world)
    insta, url = world.insta, "https://lookaside.fbsbx.example/1"
    pictured = await insta.write(ANN, attachments=[{"type": "image", "payload": {"url": url}}])
    await insta.write(ANN, attachments=[{"type": "audio", "payload": {"url": url}}])
    async with world.client() as client:
        sent = await client.deliver(sending())
    (message,) = insta.members[ANN].messages
    assert sent == Delivered(external_id=message["mid"])
    await insta.see(ANN, message["mid"])
    await insta.react(ANN, message["mid"])
    answered = await insta.answer(ANN, "from the app")
    await insta.unsend(ANN, pictured)
    taken = await world.hooks.wait_taken(8)
    found = [event for update in taken for event in events(update.body, world.settings())]
    assert [type(event).__name__ for event in found] == [
        "ClientWrote", "ClientWrote", "ClientWrote", "WroteElsewhere", "StatusReached", "ClientWrote", "WroteElsewhere", "MessageDeleted",
    ]  # fmt: skip
    assert {event.address for event in found} == {ANN}
    assert [getattr(event, "provider_id", "") for event in found[3:5]] == [sent.external_id, sent.external_id]
    assert getattr(found[6], "provider_id", "") == answered
    assert insta.violations == []


def ours_in(book: Book, digest: str, mid: str = "") -> Part:
    """A part of ours, on its way or with the id that the answer named."""
    part = Part(
        message=uuid4(),
        part=0,
        conversation=uuid4(),
        out=True,
        status="sent" if mid else "queued",
        provider_id=mid,
        digest=digest,
    )
    if mid:
        book.known[KEY, ANN, mid] = part
    else:
        book.unconfirmed[KEY, ANN] = [part]
    return part


@pytest.mark.parametrize("answered", [True, False])
@pytest.mark.parametrize(
    ("part", "digest"),
    [(None, content_digest("Добрый день")), (attached(), content_digest("", "image")), (attached("voice", "audio/mp4"), content_digest("", "voice")),
     (attached("audio", "audio/aac"), content_digest("", "audio")), (attached("file", "application/pdf"), content_digest("", "file"))],
)  # fmt: skip
async def test_our_own_echo_is_no_answer_from_elsewhere(
    direct: World, part: Outgoing | None, digest: str, answered: bool
) -> None:
    """Neither after the answer to our request nor before it."""
    await begin(direct)
    async with direct.client() as client:
        sent = await client.deliver(sending(part))
    (_, echo) = await direct.hooks.wait_taken(2)
    book = Book(lambda key: OWNER_NONE, uuid4)
    ours_in(book, digest, sent.external_id if answered else "")
    (event,) = events(echo.body, direct.settings())
    assert book.apply(KEY, event, event.at, event.at)
    assert book.changes.messages == []
    assert [one.provider_id for one in book.changes.statuses] == ([] if answered else [sent.external_id])


async def test_an_answer_from_the_app_is_of_author_elsewhere(direct: World) -> None:
    await begin(direct)
    await direct.insta.answer(ANN, "Добрый день")
    book = Book(lambda key: OWNER_NONE, uuid4)
    for update in await direct.hooks.wait_taken(2):
        for event in events(update.body, direct.settings()):
            assert book.apply(KEY, event, event.at, event.at)
    assert [message.author for message in book.changes.messages] == ["client", ELSEWHERE]


async def test_what_another_application_answers_is_left_alone(direct: World) -> None:
    await begin(direct)
    standby = [direct.insta.item(ANN, message={"mid": "elsewhere", "text": "for the bot of another"})]
    await direct.insta.report(standby, under="standby")
    await direct.insta.write(ANN, "for us")
    taken = await direct.hooks.wait_taken(2)
    assert [update.body["message"].get("text") for update in taken] == ["Здравствуйте", "for us"]


async def test_a_webhook_that_was_not_taken_comes_again_and_is_one_update(direct: World) -> None:
    await begin(direct)
    direct.hooks.away = 3
    await direct.insta.write(ANN, "once")
    await direct.insta.call_webhook(direct.insta.deliveries[-1])
    assert len(await direct.hooks.wait_taken(2)) == 2


async def test_a_forged_or_truncated_webhook_changes_nothing(direct: World) -> None:
    await begin(direct)
    body = direct.insta.deliveries[-1].replace(b"timestamp", b"Timestamp")
    assert await direct.insta.call_webhook(body, "0" * 64) == 403
    assert await direct.insta.call_webhook(body[:-5]) == 422
    direct.insta.secret = "another company's"
    assert await direct.insta.call_webhook(body) == 403
    assert len(direct.hooks.taken) == 1


# Sending ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "error"),
    [(Fault.DROP, Doubtful), (Fault.DROP_AFTER, Doubtful), (Fault.HANG, Doubtful), (Fault.EMPTY, Doubtful), (Fault.HTML, Doubtful),
     (Fault.HTTP_500, Unavailable), (Fault.HTTP_503, Unavailable), (Fault.SUCCESS_FALSE, Unavailable)],
)  # fmt: skip
async def test_what_may_have_arrived_is_not_repeated(direct: World, fault: Fault, error: type[GatewayError]) -> None:
    await begin(direct)
    direct.insta.fault = fault
    async with direct.client() as client:
        with pytest.raises(error):
            await client.deliver(sending())
    assert len(direct.insta.calls) == 1


async def test_a_server_that_is_not_there_can_be_tried_again(direct: World) -> None:
    direct.link = replace(direct.link, base_url="http://127.0.0.1:9")
    async with direct.client() as client:
        with pytest.raises(Unavailable) as raised:
            await client.deliver(sending())
    assert raised.value.certain


async def test_after_a_day_of_silence_only_the_client_can_go_on(world: World) -> None:
    await begin(world)
    world.insta.now += 24 * 3600
    async with world.client() as client:
        with pytest.raises(Rejected, match="they have to write again"):
            await client.deliver(sending())
        await world.insta.write(ANN, "still there?")
        assert (await client.deliver(sending())).external_id
    assert world.insta.violations == []


async def test_who_cannot_be_written_to(direct: World) -> None:
    await begin(direct)
    direct.insta.add("99002")
    async with direct.client() as client:
        with pytest.raises(Rejected, match="more than 24 hours"):
            await client.deliver(sending(Outgoing(to="99002", text="buy", token="m.0")))
        with pytest.raises(Rejected, match="does not know"):
            await client.deliver(sending(Outgoing(to="99003", text="hi", token="m.0")))
        direct.insta.members[ANN].gone = True
        with pytest.raises(Rejected, match="cannot be reached"):
            await client.deliver(sending())
        with pytest.raises(Rejected, match="no deliveries of kind"):
            await client.deliver(replace(sending(), kind="call_card"))
    assert direct.insta.violations == []


async def test_a_token_that_is_revoked_in_the_middle(world: World) -> None:
    await begin(world)
    world.insta.tokens[FIRST].revoked = True
    made = sending()
    async with world.client() as client:
        with pytest.raises(BadCredentials) as raised:
            await client.deliver(made)
        tested = await client.test()
    assert "make a new token" in raised.value.person
    assert (tested.ok, tested.code) == (False, "bad_credentials")
    for name in ("subscription", "token"):
        found = await world.job(name)
        assert found is not None
        assert found.problem == "token_refused"
    assert FIRST not in f"{raised.value} {made.request} {made.response} {tested}"


async def test_a_limit_pauses_the_account(direct: World) -> None:
    await begin(direct)
    direct.insta.refusal = Refusal(613, "Calls to this api have exceeded the rate limit")
    async with direct.client() as client:
        with pytest.raises(RateLimited) as raised:
            await client.deliver(sending())
    assert raised.value.after_s == 30.0


@pytest.mark.parametrize(("kind", "content_type", "sent_as"), [("image", "image/png", "image"), ("video", "video/mp4", "video"),
                                                              ("voice", "audio/mp4", "audio"), ("file", "application/pdf", "file")])  # fmt: skip
async def test_files_go_by_their_address(world: World, kind: Any, content_type: str, sent_as: str) -> None:
    await begin(world)
    made = sending(attached(kind, content_type))
    async with world.client() as client:
        assert (await client.deliver(made)).external_id
    (message,) = world.insta.members[ANN].messages
    url = "https://gw.example/files/f1?key=canary-of-the-file"
    assert message["attachment"] == {"type": sent_as, "payload": {"url": url}}
    assert "canary-of-the-file" not in made.request + made.response
    assert world.insta.violations == []


async def test_a_file_that_instagram_does_not_take_is_not_sent(direct: World) -> None:
    await begin(direct)
    async with direct.client() as client:
        with pytest.raises(Rejected, match="documents as PDF"):
            await client.deliver(sending(attached("file", "application/zip")))
    assert direct.insta.calls == []


async def test_a_file_that_meta_cannot_fetch(direct: World) -> None:
    await begin(direct)
    async with direct.client() as client:
        with pytest.raises(Unavailable):
            await client.deliver(sending(attached(name="unreachable"), 1))
        with pytest.raises(Rejected, match="public address"):
            await client.deliver(sending(attached(name="unreachable"), 3))


async def test_sound_and_video_have_a_rate_of_their_own(direct: World) -> None:
    await begin(direct)
    direct.link = replace(direct.link, budget=Budget(ADAPTER.limits))
    assert direct.link.budget is not None
    direct.link.budget.pause(60.0, "media")
    async with direct.client() as client:
        with pytest.raises(RateLimited) as raised:
            await client.deliver(sending(attached("video", "video/mp4")))
        assert raised.value.bucket == "media"
        assert (await client.deliver(sending())).external_id, "texts go on"


async def test_without_a_public_address_a_text_still_goes(direct: World) -> None:
    class Nowhere(Files):
        def address(self, file_id: str) -> str:
            raise BadSettings("the installation has no public https address")

    await begin(direct)
    direct.link = replace(direct.link, files=Nowhere())
    async with direct.client() as client:
        with pytest.raises(Rejected, match=r"^no_address: "):
            await client.deliver(sending(attached()))
        assert (await client.deliver(sending())).external_id


async def test_without_files_a_text_still_goes(direct: World) -> None:
    await begin(direct)
    direct.link = replace(direct.link, files=None)
    async with direct.client() as client:
        with pytest.raises(Rejected, match="cannot be sent from here"):
            await client.deliver(sending(attached()))
        assert (await client.deliver(sending())).external_id


async def test_typing_and_seen(world: World) -> None:
    await begin(world)
    async with world.client() as client:
        await client.typing(ANN)
        await client.mark_read(ANN, "m")
        await client.typing("99003")  # whom nobody knows: nothing to show, and no error
    assert world.insta.members[ANN].actions == ["typing_on", "mark_seen"]
    assert world.insta.violations == []


# Files that come in ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "most", "outcome"), [("photo", 100_000, "image/jpeg"), ("photo", 99_999, TooLarge), ("gone", 9, Rejected)]
)
async def test_a_file_is_fetched_within_its_bounds(direct: World, name: str, most: int, outcome: Any) -> None:
    direct.insta.files["photo"] = ("image/jpeg", b"\xff\xd8" + b"x" * 99_998)
    got = bytearray()

    async def write(piece: bytes) -> None:
        got.extend(piece)

    async with direct.client() as client:
        url = f"{direct.link.base_url}/cdn/{name}?signature=s"
        if isinstance(outcome, str):
            assert await client.fetch({"url": url}, write, most) == outcome
            assert len(got) == 100_000
        else:
            with pytest.raises(outcome):
                await client.fetch({"url": url}, write, most)
    assert len(got) <= most
    assert direct.insta.violations == [], "no token was shown"


async def test_a_file_on_a_private_network_is_not_fetched(direct: World) -> None:
    address = f"{direct.link.base_url}/cdn/photo"
    direct.insta.files["photo"] = ("image/jpeg", b"x")
    direct.link = replace(direct.link, base_url=None, dial=SafeDialer())

    async def write(piece: bytes) -> None:
        raise AssertionError

    async with direct.client() as client:
        with pytest.raises(BadSettings):
            await client.fetch({"url": address}, write, 9)


# The token's life ------------------------------------------------------------------------------------------------------


def in_force(world: World) -> str:
    assert world.kept.value is not None
    return stored(world.kept.value.value).token.reveal()


async def test_a_token_is_renewed_at_first_sight_and_then_ten_days_before_its_end(direct: World) -> None:
    await begin(direct)
    assert await direct.keep() is None
    assert in_force(direct) == "IGAA-renewed-1"
    direct.insta.tokens[FIRST].revoked = True  # the renewed one is used
    async with direct.client() as client:
        assert (await client.deliver(sending())).external_id
    assert direct.kept.value is not None
    assert set(direct.kept.proven) == {direct.kept.value.version}
    for _ in range(49):
        direct.insta.now += DAY.total_seconds()
        assert await direct.keep() is None
    assert in_force(direct) == "IGAA-renewed-1"
    for _ in range(2):
        direct.insta.now += DAY.total_seconds()
        assert await direct.keep() is None
    assert in_force(direct) == "IGAA-renewed-2"
    for _ in range(200):
        direct.insta.now += DAY.total_seconds()
        assert await direct.keep() is None
    async with direct.client() as client:
        assert (await client.test()).ok, "most of a year later"
    assert direct.insta.violations == []


async def test_a_token_that_is_too_young_is_renewed_a_day_later(direct: World) -> None:
    direct.insta.tokens[FIRST].at = direct.insta.now - 60
    found = await direct.keep()
    assert found is not None
    assert (found.problem, in_force(direct)) == ("", FIRST)
    assert found.after_s is not None
    assert found.after_s > DAY.total_seconds()
    direct.insta.now += 3600
    waits = await direct.keep()
    assert waits is not None
    assert waits.after_s is not None
    assert waits.after_s > 23 * 3600 - 60
    direct.insta.now += found.after_s
    assert await direct.keep() is None
    assert in_force(direct) == "IGAA-renewed-1"


async def test_a_token_that_a_person_enters_goes_before_the_renewed_one(direct: World) -> None:
    await direct.keep()
    direct.insta.tokens["IGAA-entered"] = replace(direct.insta.tokens[FIRST])
    direct.insta.tokens["IGAA-renewed-1"].revoked = direct.insta.tokens[FIRST].revoked = True
    async with direct.client(access_token="IGAA-entered") as client:
        assert (await client.test()).ok
    assert await direct.keep(access_token="IGAA-entered") is None
    assert in_force(direct).startswith("IGAA-renewed-")
    assert in_force(direct) != "IGAA-renewed-1"


async def test_one_that_is_not_renewed_is_warned_of_ten_days_before_it_ends(direct: World) -> None:
    await direct.keep()
    direct.insta.now += 51 * DAY.total_seconds()
    direct.insta.refusal = Refusal(100, "Cannot refresh")
    found = await direct.keep()
    assert found is not None
    assert (found.problem, found.detail) == ("token_ends", "2026-03-02 00:00 UTC")
    direct.insta.refusal = None
    direct.insta.fault = Fault.HTTP_503
    with pytest.raises(Unavailable):
        await direct.keep()
    assert in_force(direct) == "IGAA-renewed-1", "it is used for as long as it is good"
    direct.insta.now += 10 * DAY.total_seconds()
    with pytest.raises(BadCredentials):
        await direct.keep()


async def test_one_that_is_never_renewed_is_a_problem_a_day_later(direct: World) -> None:
    direct.insta.refusal = Refusal(10, "Application does not have permission")
    first = await direct.keep()
    assert first is not None
    assert first.problem == ""
    direct.insta.now += 2 * DAY.total_seconds()
    found = await direct.keep()
    assert found is not None
    assert found.problem == "not_renewed"


async def test_a_refusal_as_bad_credentials_is_believed_only_of_a_token_that_is_good_for_nothing(
    direct: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(request: Any, body: Any) -> dict[str, Any]:
        raise Refusal(190, "Cannot be refreshed yet")

    monkeypatch.setattr(direct.insta, "_renewed", refused)
    found = await direct.keep()
    assert found is not None
    assert (found.problem, found.after_s is not None) == ("", True)
    direct.kept.value = None
    direct.insta.tokens[FIRST].revoked = True
    with pytest.raises(BadCredentials):
        await direct.keep()


async def test_a_page_s_token_is_looked_at_alone(paged: World) -> None:
    assert await paged.keep() is None, "it does not end"
    paged.insta.tokens[FIRST].until = paged.insta.now + 9 * DAY.total_seconds()
    found = await paged.keep()
    assert found is not None
    assert (found.problem, found.detail) == ("token_ends", "2026-01-10 00:00 UTC")
    assert paged.kept.value is None


async def test_without_a_place_for_tokens_the_entered_one_is_used(direct: World) -> None:
    direct.link = replace(direct.link, tokens=None)
    assert await direct.keep() is None
    async with direct.client() as client:
        assert (await client.test()).ok


async def test_no_token_is_written_anywhere(direct: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    await begin(direct)
    await direct.keep()
    made = sending()
    async with direct.client() as client:
        await client.deliver(made)
        shown = f"{client!r} {made.request} {made.response} {made!r}"
    for secret in (FIRST, "IGAA-renewed-1", SECRET, VERIFY):
        assert secret not in shown + caplog.text


def test_the_account_is_the_one_that_is_led_to() -> None:
    assert marked_fields(ADAPTER.settings, "account") == {"page_id"}
    assert ADAPTER.account(settings()) != ADAPTER.account(settings(access_token="another"))
    assert ACCOUNT not in ADAPTER.account(settings())


async def test_who_writes_is_looked_up(world: World) -> None:
    await begin(world)
    async with world.client() as client:
        assert await client.person(ANN) == Person(name="Ann Kuzmina", username="ann")
        world.insta.members[ANN].name = ""
        assert await client.person(ANN) == Person(username="ann")
        world.insta.add("99002")
        with pytest.raises(Rejected):
            await client.person("99002")
        world.insta.refusal = Refusal(230, "Requires instagram_business_manage_messages permission")
        with pytest.raises(BadSettings):
            await client.person(ANN)
        with pytest.raises(Rejected, match="digits"):
            await client.person("me/accounts")
    assert world.insta.violations == []
