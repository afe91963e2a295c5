"""The conversation with the Cloud API over a real socket, against the strict sandbox: what arrives, and what is never sent twice."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trio

from adapters import base
from adapters.base import Attempt, Delivered, Link
from adapters.channel import (
    MESSAGE,
    FetchesFiles,
    ListsTemplates,
    MarksRead,
    Outgoing,
    OutgoingFile,
    ShowsTyping,
    TemplateUse,
)
from adapters.jobs import JobResult
from adapters.whatsapp.client import WhatsappClient, connect
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
from gateway.domain.secret import Secret
from tests.adapters.http.test_http import everything_of
from tests.adapters.whatsapp.test_incoming import APP, settings
from tests.sandbox.web import Fault
from tests.sandbox.whatsapp import VERSION, Refusal, Whatsapp, template

ANNA = "375291002001"
TOKEN = "EAAG-sandbox-token"
HOOK = "https://gw.example/hooks/whatsapp/very-secret"


@dataclass
class Files:
    """What is to be sent."""

    data: dict[str, bytes] = field(default_factory=dict)

    async def _pieces(self, file: str) -> AsyncIterator[bytes]:
        await trio.lowlevel.checkpoint()
        yield self.data[file]

    def pieces(self, file: str) -> AsyncIterator[bytes]:
        return self._pieces(file)

    def address(self, file: str) -> str:
        raise BadSettings("there is no address")


@pytest.fixture
async def whatsapp(nursery: trio.Nursery) -> Whatsapp:
    made = Whatsapp(callback=HOOK)
    await nursery.start(made.serve)
    made.human(ANNA)
    return made


@pytest.fixture
def files() -> Files:
    return Files({"1": b"%PDF-1.7 price list"})


Opened = Callable[..., Any]


@pytest.fixture
def opened(open_link: Link, whatsapp: Whatsapp, files: Files) -> Opened:
    link = replace(open_link, base_url=whatsapp.base, files=files, hook_url=Secret(HOOK))

    @asynccontextmanager
    async def opening(app: Any = None, **more: Any) -> AsyncIterator[WhatsappClient]:
        async with connect(
            replace(link, app=app), settings(**{"read_timeout_s": 10.0, "request_timeout_s": 20.0, **more})
        ) as client:
            yield client

    return opening


def attempt(text: str = "hi", number: int = 1, **more: Any) -> Attempt:
    body = Outgoing(to=ANNA, text=text, token="t.0", **more).body()
    return Attempt(kind=MESSAGE, key="t.0", lane="chat 1", body=body, number=number)


PDF = OutgoingFile(id="1", kind="file", name="прайс.pdf", content_type="application/pdf", size=19)


async def test_what_a_client_can_do(opened: Opened) -> None:
    async with opened() as client:
        for ability in (base.Delivers, base.Testable, FetchesFiles, ShowsTyping, MarksRead, ListsTemplates):
            assert isinstance(client, ability)


async def test_a_text_arrives_and_the_log_shows_no_token(opened: Opened, whatsapp: Whatsapp) -> None:
    whatsapp.writes(ANNA, "Здравствуйте")
    made = attempt("Добрый день 👋")
    async with opened() as client:
        assert await client.deliver(made) == Delivered(external_id=whatsapp.sent[0].id)
    (sent,) = whatsapp.sent
    assert (sent.to, sent.payload["text"]["body"], sent.payload["biz_opaque_callback_data"]) == (
        ANNA,
        "Добрый день 👋",
        "t.0",
    )
    assert "Добрый день" in made.request
    assert TOKEN not in made.request + made.response


async def test_a_file_goes_up_first_with_its_name_and_type(opened: Opened, whatsapp: Whatsapp) -> None:
    whatsapp.writes(ANNA, "price?")
    async with opened() as client:
        await client.deliver(attempt("вот", file=PDF))
    part = whatsapp.sent[0].payload["document"]
    stored = whatsapp.files[part["id"]]
    assert (stored.data, stored.name, part["filename"], part["caption"]) == (
        b"%PDF-1.7 price list",
        "прайс.pdf",
        "прайс.pdf",
        "вот",
    )
    assert whatsapp.types[part["id"]] == "application/pdf"


async def test_a_template_arrives_outside_the_window_and_a_text_does_not(opened: Opened, whatsapp: Whatsapp) -> None:
    whatsapp.templates.append(template("ready", "Заказ {{1}} готов"))
    use = TemplateUse(name="ready", language="ru", values={"body.1": "15"})
    async with opened() as client:
        with pytest.raises(Rejected, match="131047"):
            await client.deliver(attempt())
        await client.deliver(attempt("Заказ 15 готов", template=use))
        with pytest.raises(Rejected, match="132001"):
            await client.deliver(attempt("x", template=replace(use, name="gone")))
        with pytest.raises(Rejected, match="132000"):
            await client.deliver(attempt("x", template=replace(use, values={})))
    assert [one.payload["type"] for one in whatsapp.sent] == ["template"]


@pytest.mark.parametrize(
    ("fault", "error", "arrived"),
    [
        (Fault.DROP, Doubtful, 0), (Fault.DROP_AFTER, Doubtful, 1), (Fault.HANG, Doubtful, 1), (Fault.EMPTY, Doubtful, 0),
        (Fault.HTTP_503, Unavailable, 0), (Fault.HTML, Unavailable, 0),
    ],
)  # fmt: skip
async def test_what_may_have_arrived_is_not_repeated(
    opened: Opened, whatsapp: Whatsapp, fault: Fault, error: type[GatewayError], arrived: int
) -> None:
    whatsapp.writes(ANNA)
    whatsapp.fault, whatsapp.fault_count, whatsapp.hang_s = fault, 1, 1.0
    patience = {"read_timeout_s": 0.2, "request_timeout_s": 0.2} if fault is Fault.HANG else {}
    async with opened(**patience) as client:
        with pytest.raises(error):
            await client.deliver(attempt())
    assert len(whatsapp.sent) == arrived
    assert len(whatsapp.calls) == 1


@pytest.mark.parametrize("fault", [Fault.DROP, Fault.DROP_AFTER, Fault.EMPTY, Fault.HTTP_503])
async def test_an_upload_may_be_repeated(opened: Opened, whatsapp: Whatsapp, fault: Fault) -> None:
    whatsapp.writes(ANNA)
    whatsapp.fault, whatsapp.fault_count = fault, 1
    async with opened() as client:
        with pytest.raises(Unavailable):
            await client.deliver(attempt(file=PDF))
        await client.deliver(attempt(file=PDF, number=2))
    assert len(whatsapp.sent) == 1


async def test_nobody_is_there_to_connect_to(opened: Opened, open_link: Link) -> None:
    async with connect(replace(open_link, base_url="http://127.0.0.1:1"), settings()) as client:
        with pytest.raises(Unavailable) as raised:
            await client.deliver(attempt())
    assert raised.value.certain


async def test_too_much_to_one_recipient_waits_alone(opened: Opened, whatsapp: Whatsapp) -> None:
    whatsapp.writes(ANNA)
    whatsapp.refuse.append(Refusal(131056, "pair rate"))
    async with opened() as client:
        with pytest.raises(RateLimited) as raised:
            await client.deliver(attempt())
    assert raised.value.bucket == f"pair:{ANNA}"


async def test_a_token_revoked_in_the_middle(opened: Opened, whatsapp: Whatsapp) -> None:
    whatsapp.writes(ANNA)
    async with opened() as client:
        await client.deliver(attempt())
        whatsapp.revoked = True
        with pytest.raises(BadCredentials) as raised:
            await client.deliver(attempt())
        assert TOKEN not in everything_of(raised.value)
        with pytest.raises(BadCredentials):
            await client.check_token()
        assert (await client.test()).code == "bad_credentials"


async def test_reading_and_typing(opened: Opened, whatsapp: Whatsapp) -> None:
    message = whatsapp.writes(ANNA)
    async with opened() as client:
        await client.mark_read(ANNA, message)
        await client.typing(ANNA, message)
        await client.typing(ANNA)
    assert [one.get("typing_indicator") for one in whatsapp.seen] == [None, {"type": "text"}]


async def fetched(client: WhatsappClient, media: str, most: int = 1000) -> tuple[bytes, str]:
    got = bytearray()

    async def write(piece: bytes, /) -> None:
        await trio.lowlevel.checkpoint()
        got.extend(piece)

    kind = await client.fetch({"media_id": media}, write, most)
    return bytes(got), kind


@pytest.mark.parametrize("redirects", [False, True])
async def test_a_clients_file_is_fetched_with_the_token(opened: Opened, whatsapp: Whatsapp, redirects: bool) -> None:
    whatsapp.redirects = redirects
    whatsapp.brings(ANNA, "image", b"\x89PNG", "image/png")
    (media,) = whatsapp.files
    async with opened() as client:
        assert await fetched(client, media) == (b"\x89PNG", "image/png")
        with pytest.raises(TooLarge):
            await fetched(client, media, 3)
        del whatsapp.files[media]
        with pytest.raises(Rejected):
            await fetched(client, media)
        for odd in ("../1", "1?x=1", "", "ё"):
            with pytest.raises(Rejected):
                await fetched(client, odd)


async def test_templates_of_all_pages(opened: Opened, whatsapp: Whatsapp) -> None:
    whatsapp.templates += [template(f"t{n:03}", "Hi {{1}}") for n in range(150)]
    whatsapp.templates += [template("old", "x", status="REJECTED"), template("t000", "Hi", language="en_US")]
    async with opened() as client:
        found = await client.templates()
    assert len(found) == 151
    assert [(one.name, one.language) for one in found[:2]] == [("t000", "en_US"), ("t000", "ru")]
    async with opened(waba_id=None) as client:
        assert await client.templates() == []


async def test_the_account_is_subscribed_once(opened: Opened, whatsapp: Whatsapp) -> None:
    async with opened() as client:
        for _ in range(2):
            assert await client.ensure_subscribed() is None
    assert [one.method for one in whatsapp.calls if one.path.endswith("subscribed_apps")] == ["GET", "POST", "GET"]


@pytest.mark.parametrize(
    ("callback", "problem"), [("", "no_webhook"), ("https://other.example/", "other_webhook"), (HOOK, None)]
)
async def test_a_webhook_that_leads_elsewhere_is_a_problem(
    opened: Opened, whatsapp: Whatsapp, callback: str, problem: str | None
) -> None:
    whatsapp.callback = callback
    async with opened() as client:
        found = await client.ensure_subscribed()
    assert (found.problem if found else None) == problem


async def test_an_application_of_the_installation_has_one_address(opened: Opened, whatsapp: Whatsapp) -> None:
    whatsapp.callback = "https://gw.example/hooks/whatsapp"
    whatsapp.app_id = APP.app_id
    async with opened(app=APP, app_secret="", webhook_verify_token="") as client:
        assert await client.ensure_subscribed() is None
        assert (await client.test()).code == "ok"
    assert whatsapp.subscribed == {APP.app_id}


@pytest.mark.parametrize(("days", "problem"), [(0, None), (60, None), (9, "token_ends")])
async def test_a_token_that_ends_is_told_ten_days_before(
    opened: Opened, whatsapp: Whatsapp, days: int, problem: str | None
) -> None:
    whatsapp.expires_at = int((datetime.now(UTC) + timedelta(days=days)).timestamp()) if days else 0
    async with opened() as client:
        found: JobResult | None = await client.check_token()
    assert (found.problem if found else None) == problem


async def test_a_number_of_low_quality(opened: Opened, whatsapp: Whatsapp) -> None:
    async with opened() as client:
        assert await client.check_number() is None
        whatsapp.quality = "RED"
        assert (await client.check_number()) == JobResult(problem="quality_low")


@pytest.mark.parametrize(
    ("more", "ok", "code"),
    [
        ({}, True, "ok"), ({"waba_id": None}, True, "no_waba"), ({"app_secret": ""}, False, "no_app_secret"),
        ({"webhook_verify_token": ""}, False, "no_verify_token"), ({"phone_number_id": "1"}, False, "no_number"),
        ({"access_token": "EAAGother"}, False, "bad_credentials"),
    ],
)  # fmt: skip
async def test_the_connection_test(opened: Opened, more: dict[str, Any], ok: bool, code: str) -> None:
    async with opened(**more) as client:
        found = await client.test()
    assert (found.ok, found.code) == (ok, code)
    assert not ok or found.detail == "+15550199 June"


async def test_every_path_has_the_version(opened: Opened, whatsapp: Whatsapp) -> None:
    async with opened() as client:
        calls: list[Callable[[], Awaitable[Any]]] = [
            client.test,
            client.check_token,
            client.check_number,
            client.templates,
        ]
        for call in calls:
            await call()
    assert all(one.path.startswith(f"/{VERSION}/") for one in whatsapp.calls)
