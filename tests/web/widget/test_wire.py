"""What visitors' browsers send and read: whose it is, durable before it is answered, once, and nobody else's."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trio

from adapters.widget import MOST_TEXT
from gateway.domain.limiter import Rate
from gateway.domain.profile import Profile
from gateway.store import contacts, conversations
from gateway.store.business_profiles import upsert_profile
from gateway.store.postgres.pool import Connection
from gateway.web.widget.visitors import TOKEN_DAYS, visitor_of
from tests.web.widget.here import ANNA, JUNE, KEY, KEYS, MAPLE, PUBLIC_URL, SHOP, WIDGET, Here, company, vouched


def address_of(here: Here, token: str) -> str:
    found = here.deps.find(KEYS[JUNE])
    assert found is not None
    visitor = visitor_of(found.widget, JUNE, token, datetime.now(UTC))
    assert visitor is not None
    return visitor.address


async def said(here: Here, token: str, *texts: str) -> Any:
    """Texts of a visitor, and their conversation."""
    for number, text in enumerate(texts):
        assert await here.write(token, text, f"c{number}") == 201
    await here.shown(token, len(texts))
    return await here.place(address_of(here, token))


async def test_what_a_visitor_writes_is_shown_once_and_in_order(here: Here) -> None:
    token = await here.visitor()
    assert await here.history(token) == []
    for number in (1, 2, 2, 3, 1):
        assert await here.write(token, f"text {number}", f"c{number}") == 201
    found = await here.shown(token, 3)
    assert [(one["seq"], one["text"], one["author"], one["client_id"]) for one in found] == [
        (1, "text 1", "client", "c1"), (2, "text 2", "client", "c2"), (3, "text 3", "client", "c3"),
    ]  # fmt: skip
    assert [one["text"] for one in await here.history(token, after="2")] == ["text 3"]
    assert [one["text"] for one in await here.history(token, before="2")] == ["text 1"]
    (seen,) = await here.db.tenant(JUNE, conversations.select_conversations, JUNE, conversations.Filters(), 10)
    assert (seen.conversation.unread, seen.conversation.integration) == (3, WIDGET)


async def test_an_answer_is_shown_with_a_name_and_no_address_and_is_read(here: Here) -> None:
    token = await here.visitor()
    conversation = await said(here, token, "hello")
    await here.answers(conversation.id, "good day")
    await here.answers(conversation.id, "how can I help?", "ai")
    found = await here.shown(token, 3)
    assert [(one["author"], one["name"], one["read"]) for one in found[1:]] == [("human", "", False), ("ai", "", False)]
    assert ANNA not in str(found)
    assert await here.statuses(conversation.id) == ["sent", "sent"]
    assert (await here.ask("POST", "/read", {"seq": 2}, token=token))[0] == 204
    with trio.fail_after(10):
        while await here.statuses(conversation.id) != ["read", "sent"]:
            await trio.sleep(0.01)
    assert [one["read"] for one in await here.history(token)] == [True, True, False]


async def test_one_visitor_never_reads_another(here: Here) -> None:
    one, other, abroad = await here.visitor(), await here.visitor(), await here.visitor(MAPLE)
    await said(here, one, "mine alone")
    assert await here.history(other) == []
    assert await here.history(abroad, MAPLE) == []
    for path, method in (("/messages", "GET"), ("/events", "GET"), ("/messages", "POST"), ("/read", "POST")):
        status, _ = await here.ask(method, path, {} if method == "POST" else None, of=MAPLE, token=one)
        assert status == 401, path


@pytest.mark.parametrize("forge", ["", "x", "v1.e30.x", "{token}x", "{token:.60}", "v2{token}"])
async def test_a_forged_token_opens_nothing(here: Here, forge: str) -> None:
    token = await here.visitor()
    sent = token[:60] if forge == "{token:.60}" else forge.replace("{token}", token[2:] if forge[:2] == "v2" else token)
    assert (await here.ask("GET", "/messages", token=sent))[0] == 401


async def test_a_token_ends_with_its_time_and_with_its_secret(here: Here) -> None:
    token = await here.visitor()
    here.now = datetime.now(UTC) + timedelta(days=TOKEN_DAYS + 1)
    assert (await here.ask("GET", "/messages", token=token))[0] == 401
    here.now = None
    assert (await here.ask("GET", "/messages", token=token))[0] == 200
    here.tenants[JUNE] = company(JUNE, hook_id="another-secret-of-tokens-0123456789")
    assert (await here.ask("GET", "/messages", token=token))[0] == 401


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (PUBLIC_URL, 200), (SHOP, 200), ("https://a.june.example", 200), ("http://shop.example", 403),
        ("https://june.example", 403), ("https://shop.example:8443", 403), ("https://shop.example.evil.example", 403),
        ("https://evil.example", 403), ("null", 403), ("", 403), (None, 403), ("https://shop.example@evil.example", 403),
    ],
)  # fmt: skip
async def test_a_session_is_given_to_allowed_origins_alone(here: Here, origin: str | None, status: int) -> None:
    assert (await here.ask("POST", "/session", {}, origin=origin))[0] == status


async def test_reading_needs_no_origin_but_comes_from_no_other_site(here: Here) -> None:
    token = await here.visitor()
    tries: list[tuple[dict[str, Any], int]] = [
        ({}, 200),
        ({"sec_fetch_site": "same-origin"}, 200),
        ({"sec_fetch_site": "cross-site"}, 403),
    ]
    for headers, status in tries:
        assert (await here.raw("GET", "/messages", token=token, origin=None, **headers)).status == status
    assert (await here.raw("GET", "/messages", token=token, origin="https://evil.example")).status == 403


async def test_a_widget_that_is_off_or_unknown_is_not_there(here: Here) -> None:
    assert (await here.ask("POST", "/widget/nobody-has-this/session", {}))[0] == 404
    token = await here.visitor()
    tenant = here.tenants[JUNE]
    object.__setattr__(tenant.integrations[KEY], "enabled", False)
    assert (await here.ask("GET", "/messages", token=token))[0] == 404
    assert (await here.ask("POST", "/session", {}))[0] == 404


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, ["client_id", "text"]), ({"client_id": "a b", "text": "x"}, ["client_id"]), ({"client_id": 7, "text": "x"}, ["client_id"]),
        ({"client_id": "a", "text": " \n\0 "}, ["text"]), ({"client_id": "a", "text": "x" * 100_000}, ["text"]),
        ({"client_id": "a", "text": 5}, ["text"]), ({"client_id": "a", "text": "x", "email": "no"}, ["email"]),
        ({"client_id": "a", "text": "x", "name": "a\nb", "phone": "1" * 50}, ["name", "phone"]),
        ([], ["body"]), (b"{", ["body"]), (b"\xff", ["body"]),
    ],
)  # fmt: skip
async def test_what_cannot_be_sent_names_the_field(here: Here, body: Any, fields: list[str]) -> None:
    token = await here.visitor()
    status, found = await here.ask("POST", "/messages", body, token=token)
    assert (status, [one["path"] for one in found["errors"]]) == (422, fields)
    assert await here.history(token) == []


async def test_odd_texts_arrive_as_text(here: Here) -> None:
    token = await here.visitor()
    texts = ["a\0b", "\u202eevil\u202c", "😀😀", "<script>alert(1)</script>", "x\r\ny\rz", "\ud800!", "א" * MOST_TEXT]
    for number, text in enumerate(texts):
        assert await here.write(token, text, f"c{number}") == 201
    found = [one["text"] for one in await here.shown(token, len(texts))]
    assert found == ["ab", "\u202eevil\u202c", "😀😀", "<script>alert(1)</script>", "x\ny\nz", "?!", "א" * MOST_TEXT]


async def test_with_the_database_away_nothing_is_called_taken(here: Here) -> None:
    token = await here.visitor()
    here.away = True
    assert await here.write(token, "hello", "c1") == 503
    here.away = False
    assert await here.write(token, "hello", "c1") == 201
    await here.shown(token, 1)


async def test_an_identified_visitor_has_one_conversation_on_every_device(here: Here) -> None:
    who = vouched("client-17", name="Anna Kuzmina", email="Anna@june.example", phone="+375 29 625-40-70")
    phone, laptop = await here.visitor(**who), await here.visitor(**who)
    await said(here, phone, "from the phone")
    assert await here.write(laptop, "from the laptop", "d1") == 201
    assert [one["text"] for one in await here.shown(laptop, 2)] == ["from the phone", "from the laptop"]
    conversation = await here.place("id:client-17")
    person = await here.db.tenant(JUNE, contacts.select_contact, JUNE, conversation.contact)
    assert person is not None
    assert (person.name, list(person.emails)) == ("Anna Kuzmina", ["anna@june.example"])
    assert [(one.phone, one.confirmed) for one in person.phones] == [("+375296254070", False)]


async def test_a_typed_number_makes_nobody_one_person(here: Here) -> None:
    one = await here.visitor(**vouched("1", phone="+375296254070"))
    other = await here.visitor(**vouched("2", phone="+375296254070"))
    first, second = await said(here, one, "a"), await said(here, other, "b")
    assert first.contact != second.contact


@pytest.mark.parametrize(
    "identity", [{"id": "7"}, {"id": "", "hash": "x"}, {"id": "a\nb", "hash": "x"}, {"id": ["7"], "hash": "x"}, "7"]
)
async def test_an_identity_without_what_it_needs_names_the_field(here: Here, identity: Any) -> None:
    status, found = await here.ask("POST", "/session", {"identity": identity})
    assert status == 422
    assert all(one["path"].startswith("identity") for one in found["errors"])


async def test_a_wrong_signature_identifies_nobody(here: Here) -> None:
    wrong = {**vouched("7"), "id": "8"}
    assert (await here.ask("POST", "/session", {"identity": wrong}))[0] == 403
    assert (await here.ask("POST", "/session", {"identity": vouched("7", "another-secret-0123456789")}))[0] == 403
    assert (await here.ask("POST", "/session", {"identity": {"id": 7, "hash": vouched("7")["hash"].upper()}}))[0] == 200


async def test_where_identity_is_required_nothing_is_taken_without_it(here: Here) -> None:
    before = await here.visitor()
    here.tenants[JUNE] = company(JUNE, identity="required")
    assert (await here.ask("POST", "/session", {}))[0] == 403
    assert (await here.ask("POST", "/session", {}, token=before))[0] == 403
    assert await here.write(before, "hello", "c1") == 401
    assert await here.write(await here.visitor(**vouched("7")), "hello", "c1") == 201


async def test_a_stranger_who_is_identified_takes_the_conversation_along(here: Here) -> None:
    stranger = await here.visitor()
    conversation = await said(here, stranger, "before")
    _, found = await here.ask("POST", "/session", {"identity": vouched("7")}, token=stranger)
    assert found["identified"] is True
    assert [one["text"] for one in await here.shown(found["token"], 1)] == ["before"]
    assert (await here.place("id:7")).id == conversation.id
    assert await here.history(stranger) == []


async def test_but_takes_nobody_else_s_over(here: Here) -> None:
    theirs = await here.visitor(**vouched("7"))
    await said(here, theirs, "theirs")
    stranger = await here.visitor()
    await said(here, stranger, "mine")
    _, found = await here.ask("POST", "/session", {"identity": vouched("7")}, token=stranger)
    await here.write(found["token"], "after", "d1")
    assert [one["text"] for one in await here.shown(theirs, 2)] == ["theirs", "after"]
    other = await here.visitor(**vouched("8"))
    _, found = await here.ask("POST", "/session", {"identity": vouched("7")}, token=other)
    assert [one["text"] for one in await here.history(found["token"])] == ["theirs", "after"]


async def test_a_session_is_renewed_and_stays_the_same_visitor_s(here: Here) -> None:
    token = await here.visitor()
    _, found = await here.ask("POST", "/session", {}, token=token)
    assert address_of(here, found["token"]) == address_of(here, token)


async def test_a_visitor_asks_for_a_person(here: Here) -> None:
    token = await here.visitor()
    conversation = await said(here, token, "hello")
    await here.conversing.release(here.tenants[JUNE], conversation.id, ANNA, "ai")
    status, found = await here.ask("GET", "/messages", token=token)
    assert (status, found["state"]["answers"]) == (200, "ai")
    assert (await here.ask("POST", "/person", {}, token=token))[0] == 201
    with trio.fail_after(10):
        while (await here.place(address_of(here, token))).owner != "queue":
            await trio.sleep(0.01)
    await here.conversing.take(here.tenants[JUNE], conversation.id, ANNA)
    assert (await here.ask("POST", "/person", {}, token=token))[0] == 201
    assert await here.write(token, "still here?", "c9") == 201
    await here.shown(token, 2)
    assert (await here.place(address_of(here, token))).owner == ANNA, "who has it keeps it"


async def test_outside_working_hours_a_visitor_leaves_an_address(here: Here) -> None:
    async def closed(conn: Connection) -> None:
        hours = [{"days": ["mon"], "from": "09:00", "to": "18:00"}]
        await upsert_profile(conn, JUNE, Profile.model_validate({"working_hours": hours}))

    token = await here.visitor()
    assert (await here.ask("GET", "/messages", token=token))[1]["state"] == {
        "answers": "nobody",
        "name": "",
        "open": None,
    }
    assert (await here.ask("GET", "/state", origin=None))[1]["open"] is None
    await here.db.tenant(JUNE, closed)
    here.now = datetime(2026, 11, 29, 12, tzinfo=UTC)  # a Sunday
    assert (await here.ask("GET", "/state", origin=None))[1]["open"] is False
    assert (await here.ask("GET", "/state", origin="https://evil.example"))[0] == 403
    token = await here.visitor()
    assert (await here.ask("GET", "/messages", token=token))[1]["state"]["open"] is False
    assert await here.write(token, "call me", "c1", name="Anna", email="anna@june.example") == 201
    (only,) = await here.shown(token, 1)
    assert only["text"] == "call me"
    found = await here.db.tenant(JUNE, contacts.search_contacts, JUNE, "anna@june.example", 10)
    assert [one.name for one in found] == ["Anna"]
    here.now = datetime(2026, 11, 30, 12, tzinfo=UTC)
    assert (await here.ask("GET", "/messages", token=await here.visitor()))[1]["state"]["open"] is True


async def test_typing_reaches_the_company_and_the_other_instances(here: Here) -> None:
    token = await here.visitor()
    assert (await here.ask("POST", "/typing", {}, token=token))[0] == 204
    assert here.marks == []
    conversation = await said(here, token, "hello")
    with here.feed.subscribe(JUNE) as feed:
        assert (await here.ask("POST", "/typing", {}, token=token))[0] == 204
        assert [one.id for one in (await feed.changed())[0]] == [str(conversation.id)]
    assert here.typing.until(JUNE, conversation.id, client=True) is not None
    assert here.typing.until(JUNE, conversation.id, client=False) is None
    (mark,) = here.marks
    elsewhere = type(here.typing)(here.feed)
    elsewhere.received([mark, "nonsense", "0367 nonsense client"])
    assert elsewhere.until(JUNE, conversation.id, client=True) is not None


async def test_too_much_at_once_is_slowed(here: Here) -> None:
    token = await here.visitor()
    found = [(await here.raw("POST", "/typing", {}, token=token)).status for _ in range(65)]
    assert set(found) == {204, 429}
    assert found[0] == 204
    here.limited(Rate(3, 10.0))
    answers = [await here.raw("POST", "/session", {}) for _ in range(4)]
    assert [one.status for one in answers] == [200, 200, 200, 429]
    assert dict(answers[-1].headers)["Retry-After"].isdigit()
