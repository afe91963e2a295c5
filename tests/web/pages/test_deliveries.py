"""The outbox on its page, doing it again after being told what that is, and the operators' dead letters. Long:
it is one story of one page."""

import html
import json
import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from actors.delivery.replanning import drafts_now
from gateway.domain.events import CallEvent, Result, to_json
from gateway.domain.ids import CallId, IntegrationKey, TenantId
from gateway.domain.subjects import call_subject
from gateway.store import call_batches, dead_letters, delivery_pages, outbox
from gateway.store.call_batches import CallBatch
from gateway.store.delivery_pages import Filters
from gateway.store.journal import PostRow, insert_posts, select_pending_posts
from gateway.store.outbox import DeliveryRow, Outcome
from gateway.store.postgres.pool import Connection
from gateway.web.pages import deliveries
from gateway.web.pages.deliveries import read_filters, shown_body
from tests.web.conftest import SignIn, submitted
from tests.web.world import CSRF, JUNE, MAPLE, World, ended, play, ringing

CRM, CHAT = IntegrationKey("retailcrm"), IntegrationKey("telegram")
FAILED = Outcome(state="failed", status="failed", error="400 Bad Request: <b>Wrong phone</b>")
DOUBTFUL = Outcome(state="doubtful", status="doubtful", error="it may have arrived")
DONE = Outcome(state="done", status="done")


async def text_of(response: Any) -> str:
    return html.unescape(str(await response.get_data(as_text=True)))


async def rows(conn: Connection, query: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await conn.fetch(query)]


async def run_sql(conn: Connection, *statements: str) -> None:
    for statement in statements:
        await conn.execute(statement)


def row(key: str, **changes: Any) -> DeliveryRow:
    values: dict[str, Any] = {
        "integration": CRM, "lane": key.split(":")[0], "key": key, "kind": "upload", "bucket": "", "subject": call_subject("7.1"),
        "body": '{"calls": [{"externalId": "7.1"}], "clientId": "canary-secret"}', "latest_only": False,
        "expires_s": None, "keep_s": 48 * 3600.0,
    }  # fmt: skip
    return DeliveryRow(**values | changes)


async def keep(world: World, *made: DeliveryRow, tenant: TenantId = JUNE) -> None:
    await world.db.engine(call_batches.record, [CallBatch(tenant, deliveries=list(made))])


async def finish(world: World, outcome: Outcome, integration: IntegrationKey = CRM, tenant: TenantId = JUNE) -> None:
    for claim in await world.db.engine(outbox.claim_deliveries, tenant, integration, 10_000, 30.0):
        await world.db.engine(outbox.finish_delivery, claim, outcome)


async def states(world: World) -> dict[str, str]:
    return dict(await world.db.engine(rows, "SELECT key, state FROM deliveries"))


async def test_what_failed_is_shown_with_its_cause_and_body(world: World, sign_in: SignIn) -> None:
    await keep(world, row("1:upload"))
    await finish(world, FAILED)
    client = await sign_in()
    response = await client.get("/t/0367/deliveries")
    raw = str(await response.get_data(as_text=True))
    page = html.unescape(raw)
    assert "400 Bad Request: <b>Wrong phone</b>" in page
    assert "<b>Wrong phone" not in raw
    assert '"externalId": "7.1"' in page
    assert "canary-secret" not in page
    assert "/t/0367/calls/7.1" in page
    (log_id,) = (one[0] for one in await world.db.engine(rows, "SELECT log_id FROM integration_logs"))
    assert f"/t/0367/integrations/retailcrm?before={log_id + 1}#log-title" in page
    assert "/t/0367/deliveries/replay?id=" in page
    assert "1 attempt" in page


async def test_filters_narrow(world: World, sign_in: SignIn) -> None:
    await keep(
        world,
        row("1:upload"),
        row("2:in", kind="in", subject=call_subject("7.2")),
        row("3:card", integration=CHAT, kind="call_card"),
    )
    await finish(world, FAILED)
    await keep(world, row("4:waits"))
    client = await sign_in()

    async def shown(query: str) -> int:
        return (await text_of(await client.get(f"/t/0367/deliveries{query}"))).count('<article class="delivery"')

    today, tomorrow = datetime.now(UTC).date(), datetime.now(UTC).date() + timedelta(days=2)
    for query, count in {
        "": 4, "?integration=telegram": 1, "?state=failed": 2, "?state=pending": 2, "?state=done": 0, "?kind=in": 1,
        "?call=7.2": 1, f"?since={today - timedelta(days=1)}": 4, f"?since={tomorrow}": 0, f"?until={today - timedelta(days=2)}": 0,
        "?id=nonsense": 0, "?id=99999999999999999999": 0, "?state=nonsense": 4, "?before=nonsense": 4, "?replayed=x": 4,
    }.items():  # fmt: skip
        assert await shown(query) == count, query


async def ask(client: Any, query: str = "") -> tuple[str, dict[str, str]]:
    """The page that asks, and the form in it."""
    page = await text_of(await client.get(f"/t/0367/deliveries/replay{query}"))
    form = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page.partition("<main")[2]))
    return page, form


async def test_one_is_done_again_with_the_same_key_and_fresh_attempts(world: World, sign_in: SignIn) -> None:
    rung: list[tuple[str, str]] = []
    app = world.app_with(ring=lambda number, kind: rung.append((number, kind)))
    await keep(world, row("1:upload"), row("2:upload"))
    await finish(world, FAILED)
    await world.db.engine(run_sql, "UPDATE deliveries SET created_at = now() - interval '47 hours', "
                          "keep_until = now() + interval '1 hour', attempt = 9")  # fmt: skip
    ((chosen,), _) = await world.db.engine(rows, "SELECT delivery_id FROM deliveries ORDER BY 1")
    client = app.test_client()
    client.set_cookie("localhost", "session", await world.session(JUNE))
    client.set_cookie("localhost", "language", "en")
    page, form = await ask(client, f"?id={chosen}")
    assert "This will retry 1 delivery" in page
    assert await states(world) == {"1:upload": "failed", "2:upload": "failed"}, "asking changes nothing"
    refused = await client.post("/t/0367/deliveries/replay", form=form | {"csrf": "forged"})
    assert refused.status_code == 403
    done = await client.post("/t/0367/deliveries/replay", form=form)
    assert (done.status_code, done.headers["Location"]) == (303, f"/t/0367/deliveries?id={chosen}&replayed=1")
    assert "1 delivery will be retried" in await text_of(await client.get(done.headers["Location"]))
    assert await states(world) == {"1:upload": "pending", "2:upload": "failed"}
    assert rung == [("0367", "retailcrm")]
    ((kept, attempt),) = await world.db.engine(
        rows, "SELECT keep_until > now() + interval '47 hours', attempt FROM deliveries WHERE state = 'pending'"
    )
    assert (kept, attempt) == (True, 0)
    assert await world.db.engine(rows, "SELECT actor, action, target, detail FROM audit") == [
        ("admin@0367.example", "delivery.replayed", str(chosen), "retailcrm: 1")
    ]
    again = await client.post("/t/0367/deliveries/replay", form=form)
    assert again.headers["Location"].endswith("replayed=0"), "twice is once"
    (claim,) = await world.db.engine(outbox.claim_deliveries, JUNE, CRM, 10, 30.0)
    assert (claim.key, claim.attempt) == ("1:upload", 1)


async def test_the_question_says_what_will_happen_and_that_alone_happens(world: World, sign_in: SignIn) -> None:
    for outcome, made in (
        (FAILED, [row(f"u{n}:upload") for n in range(12)] + [row("m1:in", kind="in", expires_s=None)]),
        (DOUBTFUL, [row(f"d{n}:upload") for n in range(2)]),
    ):
        await keep(world, *made)
        await finish(world, outcome)
    cards = [
        row(f"c{n}:card", integration=CHAT, kind="call_card", latest_only=True, subject=call_subject(f"c{n}"))
        for n in range(3)
    ]
    old = row("o:1", lane="o", integration=CHAT, kind="call_card", latest_only=True, subject=call_subject("o"))
    await keep(world, *cards, old)
    await finish(world, FAILED, CHAT)
    await keep(
        world, row("o:2", lane="o", integration=CHAT, kind="call_card", latest_only=True, subject=call_subject("o"))
    )
    await finish(world, DONE, CHAT)
    await keep(world, *[row(f"r{n}:in", kind="in", expires_s=-3600.0) for n in range(5)])
    await world.db.engine(outbox.expire_deliveries, 100)
    client = await sign_in()
    page, form = await ask(client)
    assert "This will retry 18 deliveries" in page
    assert re.search(r"RetailCRM: entry in the call log — 14 \(2 doubtful\)", page)
    assert "RetailCRM: incoming call ringing — 1<" in page
    assert "Telegram: call card — 3<" in page
    assert "2 are doubtful: they may have arrived already" in page
    assert "5 real-time events are not retried" in page
    assert "1 card is not retried" in page
    assert "Telegram is switched off" in page
    await keep(world, row("late:upload"))
    await finish(world, FAILED)
    done = await client.post("/t/0367/deliveries/replay", form=form)
    assert done.headers["Location"] == "/t/0367/deliveries?replayed=18"
    now = await states(world)
    assert now.pop("late:upload") == "failed", "it failed after the question was asked"
    assert now.pop("o:1") == "failed"
    assert now.pop("o:2") == "done"
    assert Counter(now.values()) == {"pending": 18, "expired": 5}
    page, _ = await ask(client, "?state=expired")
    assert "Nothing here can be retried" in page
    assert 'class="primary"' not in page.partition("<main")[2]


async def test_ten_thousand_in_batches_and_lanes_keep_their_order(
    world: World, sign_in: SignIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "MOST", 300)
    monkeypatch.setattr(deliveries, "BATCH", 50)
    await keep(world, *[row(f"{n % 40}:{n}") for n in range(400)])
    await world.db.engine(run_sql, "UPDATE deliveries SET state = 'failed', finished_at = now()")
    client = await sign_in()
    page, form = await ask(client, "?kind=upload")
    assert "This will retry 300 deliveries" in page
    assert "100 more are left" in page
    done = await client.post("/t/0367/deliveries/replay", form=form)
    assert done.headers["Location"].endswith("replayed=300")
    assert len(await world.db.engine(rows, "SELECT FROM audit")) == 6
    tried: dict[str, list[int]] = {}
    while claims := await world.db.engine(outbox.claim_deliveries, JUNE, CRM, 100, 30.0):
        for claim in claims:
            tried.setdefault(claim.lane, []).append(int(claim.key.split(":")[1]))
            await world.db.engine(outbox.finish_delivery, claim, DONE)
    assert sum(map(len, tried.values())) == 300
    assert all(told == sorted(told) for told in tried.values())


@pytest.mark.parametrize("as_of", ["", "nonsense", "2999-01-01T00:00:00+00:00", "2026-01-01T00:00:00"])
async def test_a_replay_that_was_not_asked_for_is_refused(world: World, sign_in: SignIn, as_of: str) -> None:
    await keep(world, row("1:upload"))
    await finish(world, FAILED)
    client = await sign_in()
    assert (await client.post("/t/0367/deliveries/replay", form={"csrf": CSRF, "as_of": as_of})).status_code == 400
    assert await states(world) == {"1:upload": "failed"}


async def test_another_company_is_not_touched(world: World, sign_in: SignIn) -> None:
    await keep(world, row("1:upload"), tenant=MAPLE)
    await finish(world, FAILED, tenant=MAPLE)
    ((theirs,),) = await world.db.engine(rows, "SELECT delivery_id FROM deliveries")
    client = await sign_in(JUNE)
    assert "Wrong phone" not in await text_of(await client.get(f"/t/0367/deliveries?id={theirs}"))
    _, form = await ask(client, f"?id={theirs}")
    assert (await client.post("/t/0367/deliveries/replay", form=form)).headers["Location"].endswith("replayed=0")
    planned = await world.db.tenant(JUNE, delivery_pages.plan_replay, MAPLE, Filters(), datetime.now(UTC), 10)
    assert planned == ([], 0), "the wall in the database"


def test_a_body_is_masked_wherever_a_secret_stands() -> None:
    body = {"a": [{"clientId": "s1", "deep": {"api_key": "s2", "phone": "1"}}], "Token": "s3"}
    shown = shown_body(json.dumps(body))
    assert not re.search("s[123]", shown)
    assert '"phone": "1"' in shown
    assert shown_body("not json") == ""


async def test_filters_from_an_address_never_fail(world: World) -> None:
    tenant = world.cache.tenant(JUNE)
    assert tenant is not None
    for value in ("²", "-1", "0" * 300, "\0", "9999-12-31", "☃", "1" * 21):
        read_filters(dict.fromkeys(("id", "since", "until", "call", "kind", "state", "integration"), value), tenant)


# --- dead letters


async def test_operators_see_put_away_and_hear_again(world: World, sign_in: SignIn) -> None:
    rung: list[str] = []
    app = world.app_with(ring_posts=rung.append)
    await world.db.engine(insert_posts, [PostRow(JUNE, "/dial", "9.9", b"d", '{"UniqueId": "9.9"}', datetime.now(UTC))])
    ((post,),) = await world.db.engine(select_pending_posts, [(JUNE, 0)])
    made = [
        dead_letters.DeadLetterRow(
            JUNE, "tenant/0367", "POST /dial 9.9 <i>", "Traceback…\nValueError: a\0 bug", post.journal_id
        ),
        dead_letters.DeadLetterRow(
            JUNE, "tenant/0367", "POST /dial 9.9 <i>", "Traceback…\nValueError: a bug", post.journal_id
        ),
        dead_letters.DeadLetterRow(
            JUNE, "tenant/0367/integration/retailcrm", '{"event": "call_ended"}', "KeyError: 'x'"
        ),
    ]
    await world.db.engine(dead_letters.insert_dead_letters, made, "1.0")
    await world.db.engine(dead_letters.insert_dead_letters, made[:1], "1.0")
    assert await world.db.engine(dead_letters.count_dead_letters) == 2, "a post has one"
    assert await world.db.engine(select_pending_posts, [(JUNE, 0)]) == [[]], "and is dealt with"
    client = app.test_client()
    client.set_cookie("localhost", "session", await world.session(None))
    client.set_cookie("localhost", "language", "en")
    page = str(await (await client.get("/operators/letters")).get_data(as_text=True))
    assert "ValueError: a" in page
    assert "POST /dial 9.9 &lt;i&gt;" in page
    assert page.count('formaction="/operators/letters/replay"') == 1, "text cannot be heard again"
    found = await world.db.engine(dead_letters.select_dead_letters, None, None, 10)
    by_post = {one.post: one.letter_id for one in found}
    form = {"csrf": CSRF, "tenant": "0367", "letter": str(by_post[True])}
    assert (await client.post("/operators/letters/replay", form=form | {"csrf": "x"})).status_code == 403
    assert (await client.post("/operators/letters/replay", form=form | {"tenant": "0368"})).status_code == 404
    assert (await client.post("/operators/letters/replay", form=form)).status_code == 303
    assert rung == ["0367"]
    ((again,),) = await world.db.engine(select_pending_posts, [(JUNE, 0)])
    assert again.journal_id == post.journal_id
    form["letter"] = str(by_post[False])
    assert (await client.post("/operators/letters/replay", form=form)).status_code == 404
    question = await submitted(client, "/operators/letters/dismiss", form)
    assert "Dismiss this dead letter of company 0367?" in question
    assert len(await world.db.engine(dead_letters.select_dead_letters, None, None, 10)) == 1, "asked, and not done yet"
    sure = form | {"sure": "1"}
    assert (await client.post("/operators/letters/dismiss", form=sure)).status_code == 303
    assert (await client.post("/operators/letters/dismiss", form=sure)).status_code == 404
    assert await world.db.engine(rows, "SELECT action, target, detail FROM audit ORDER BY audit_id") == [
        ("letter.replayed", str(by_post[True]), "9.9"),
        ("letter.dismissed", str(by_post[False]), "tenant/0367/integration/retailcrm"),
    ]
    assert "There are none" in await text_of(await client.get("/operators/letters"))


async def test_old_letters_go(world: World) -> None:
    made = [dead_letters.DeadLetterRow(JUNE, "tenant/0367", str(n), "why") for n in range(5)]
    await world.db.engine(dead_letters.insert_dead_letters, made, "1.0")
    await world.db.engine(
        run_sql, "UPDATE dead_letters SET created_at = now() - interval '91 days' WHERE message <> '4'"
    )
    assert await world.db.engine(dead_letters.delete_old_dead_letters, 90 * 86400.0, 3) == 3
    assert await world.db.engine(dead_letters.delete_old_dead_letters, 90 * 86400.0, 3) == 1
    assert await world.db.engine(dead_letters.count_dead_letters) == 1


async def test_an_orphan_call_of_a_delivery_is_no_trouble(world: World, sign_in: SignIn) -> None:
    """The same page on the ordinary world, with calls of every sort."""
    await play(world)
    a = ringing(CallId("8.8"), datetime.now(UTC), "+375291110000", "100", ["150"])
    await world.keep(JUNE, [a, ended(a, 5, Result.MISSED)])
    assert (await (await sign_in()).get("/t/0367/deliveries")).status_code == 200


# What is made again is made by the current settings


async def _settings(conn: Connection, integration: str, changes: str) -> None:
    await conn.execute(
        "INSERT INTO integrations (tenant_id, integration_type, enabled, settings, secrets) VALUES ('0367', $1, true, '{}', '{}') "
        "ON CONFLICT DO NOTHING",
        integration,
    )
    await conn.execute(
        "UPDATE integrations SET settings = settings || $2::text::jsonb WHERE tenant_id = '0367' AND integration_type = $1",
        integration,
        changes,
    )


async def _planned(world: World, integration: IntegrationKey, settings: str) -> list[DeliveryRow]:
    """The deliveries of one missed call by these settings, stored with the call and failed; and the settings themselves."""
    await world.db.engine(_settings, integration, settings)
    await world.cache.load()
    tenant = world.cache.tenant(JUNE)
    assert tenant is not None
    first = ringing(CallId("7.7"), datetime.now(UTC) - timedelta(seconds=30), "+375291110000", "100", ["150"])
    events: list[CallEvent] = [first, ended(first, 20, Result.MISSED)]
    await world.keep(JUNE, events)
    drafts = drafts_now(tenant, integration, [json.dumps(to_json(event)) for event in events])
    made = [
        row(draft.key, integration=integration, kind=draft.kind, lane=draft.lane, bucket=draft.bucket, body=json.dumps(dict(draft.body)),
            subject=call_subject("7.7"), latest_only=draft.latest_only)
        for draft in drafts
    ]  # fmt: skip
    await keep(world, *made)
    for _ in made:
        await finish(world, FAILED, integration)
    return made


async def _bodies(world: World) -> list[tuple[Any, ...]]:
    return await world.db.engine(rows, "SELECT kind, key, state, note, body FROM deliveries ORDER BY delivery_id")


async def test_a_card_that_failed_goes_to_the_chat_that_is_entered_now(world: World, sign_in: SignIn) -> None:
    made = await _planned(world, CHAT, '{"bot_token": "700:secret", "notify_chats": [-100]}')
    assert [one.kind for one in made] == ["call_card", "call_card"]
    await world.db.engine(_settings, CHAT, '{"notify_chats": ["-200/17"]}')
    await world.cache.load()
    client = await sign_in()
    _, form = await ask(client, "?integration=telegram&kind=call_card")
    await client.post("/t/0367/deliveries/replay", form=form)
    waits = [(key, json.loads(body)) for _, key, state, _, body in await _bodies(world) if state == "pending"]
    ((key, body),) = waits
    assert (key, body["chat"], body["topic"]) == ("7.7:-200/17:2", -200, 17)
    assert "-100" not in json.dumps(body)


async def test_what_is_not_sent_any_more_says_so_and_the_rest_says_what_is_true_now(
    world: World, sign_in: SignIn
) -> None:
    made = await _planned(world, CRM, '{"send_events": {"in": true, "out": true, "hangup": true, "upload": true}}')
    assert [one.kind for one in made] == ["in", "hangup", "upload"]
    await world.db.engine(run_sql, "UPDATE deliveries SET body = '{\"old\": 1}'")
    await world.db.engine(_settings, CRM, '{"send_events": {"in": true, "out": true, "hangup": false, "upload": true}}')
    await world.cache.load()
    client = await sign_in()
    _, form = await ask(client)
    answer = await client.post("/t/0367/deliveries/replay", form=form)
    page = await text_of(await client.get(answer.location))
    assert "1 was left as it is: the current settings no longer send it" in page
    assert "Not sent: the current settings" in page
    found = {kind: (state, note, body) for kind, _, state, note, body in await _bodies(world)}
    assert found["hangup"][:2] == ("failed", "not_sent_now")
    assert (found["upload"][0], json.loads(found["upload"][2])) == ("pending", json.loads(made[2].body))


async def test_what_cannot_be_planned_again_says_so(world: World, sign_in: SignIn) -> None:
    await keep(world, row("1:upload"))
    await finish(world, FAILED)
    client = await sign_in()
    _, form = await ask(client)
    answer = await client.post("/t/0367/deliveries/replay", form=form)
    assert "the events of its call are no longer stored" in await text_of(await client.get(answer.location))
