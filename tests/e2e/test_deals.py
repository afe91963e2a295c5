"""Deals through the whole product between two strict portals: faults, a flood, kills, routes that face each other.

`DEALS_WHOLE=1 pytest tests/e2e/test_deals.py -s` is the whole run: 5,000 deals with faults in every tenth request, 100 requests a second
for a minute, 20 kills, 1,000 updates on two facing routes. DEALS, SECONDS, KILLS and UPDATES set one of them.
"""

import random
import time
from pathlib import Path

import httpx2
import pytest
import trio

from tests.e2e.deals_world import Between, scale
from tests.e2e.world import World, open_world

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]
KEY = "gw_live_"


async def ready(between: Between) -> None:
    """Until the gateway takes the partner's events."""
    async with httpx2.AsyncClient(trust_env=False, timeout=10) as client:
        with trio.fail_after(20):
            while (await between.post(client, between.partner_event(1, 1))).status_code != 200:
                await trio.sleep(0.6)
    between.statuses.clear()
    between.took_s.clear()


async def test_a_deal_is_answered_carried_and_told_back(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery, open_world(tmp_path) as world:
        between = Between(world)
        await nursery.start(between.partner.serve)
        await nursery.start(between.main.serve)
        await between.apply(between.route(answer_within_ms=20_000, source_field="UF_CRM_TARGET_ID"))
        await ready(between)
        number = between.partner.deal(TITLE="One", CATEGORY_ID="1", STAGE_ID="C1:WON", OPPORTUNITY=10)
        async with httpx2.AsyncClient(trust_env=False, timeout=30) as client:
            answer = (await between.post(client, between.partner_event(number, 5))).json()
            again = (await between.post(client, between.partner_event(number, 5))).json()
            same = (await between.post(client, between.partner_event(number, 6))).json()
            wrong = await between.post(
                client, between.partner.event_body("ONCRMDEALUPDATE", number, 7, "not-the-token")
            )
            elsewhere = between.partner_event(number, 8).replace(b"partner.example.com", b"other.example.com")
            refused = await between.post(client, elsewhere)
            bad = await between.post(client, b"event=ONCRMDEALUPDATE")
        (made,) = between.main.entities["DEAL"].values()
        assert (answer["status"], answer["source_deal_id"], answer["target_deal_id"]) == (
            "success",
            number,
            int(made["ID"]),
        )
        assert made["STAGE_ID"] == "WON"
        assert between.partner.entities["DEAL"][number]["UF_CRM_TARGET_ID"] == made["ID"]
        assert (again["status"], again["target_deal_id"]) == ("duplicate", int(made["ID"]))
        assert (same["status"], same["reason"]) == ("skipped", "same_state")
        assert [wrong.status_code, refused.status_code, bad.status_code] == [401, 401, 422]
        assert {one["path"] for one in bad.json()["errors"]} == {"data.FIELDS.ID", "auth.domain"}
        metrics = httpx2.get(f"{world.url}/metrics", trust_env=False).text
        assert 'webhook_received_total{domain="partner.example.com"}' in metrics
        assert 'webhook_processed_total{status="success"} 1' in metrics
        assert 'webhook_errors_total{error_type="auth"} ' in metrics
        nursery.cancel_scope.cancel()


@pytest.mark.long
async def test_deals_with_faults_in_every_tenth_request_are_carried_once(tmp_path: Path) -> None:
    count = scale("DEALS", 150)
    async with trio.open_nursery() as nursery, open_world(tmp_path) as world:
        between = Between(world)
        await nursery.start(between.partner.serve)
        await nursery.start(between.main.serve)
        await between.apply(between.route(answer_within_ms=0))
        await ready(between)
        numbers = [
            between.partner.deal(TITLE=f"Deal {n}", CATEGORY_ID="1", OPPORTUNITY=n, event=False) for n in range(count)
        ]
        between.partner.every = between.main.every = 10
        began = time.monotonic()
        await between.tell(numbers)
        await between.until_carried(numbers, 60 + count)
        took_s = time.monotonic() - began
        # Each side has one request for 50 deals to read, two to look up and write; a portal takes 2 a second.
        between.report(
            "faults",
            deals=count,
            carried=between.carried(numbers),
            seconds=round(took_s, 1),
            least_s=round(count / 50 * 2 / 2, 1),
        )
        assert between.carried(numbers) == count
        assert between.main.doubles == []
        assert [*between.main.violations, *between.partner.violations] == []
        nursery.cancel_scope.cancel()


@pytest.mark.long
async def test_a_flood_of_events_is_answered_and_every_deal_carried(tmp_path: Path) -> None:
    seconds, rate = scale("SECONDS", 3), 100
    async with trio.open_nursery() as nursery, open_world(tmp_path) as world:
        between = Between(world)
        await nursery.start(between.partner.serve)
        await nursery.start(between.main.serve)
        await between.apply(between.route())
        await ready(between)
        count = seconds * rate
        numbers = [
            between.partner.deal(TITLE=f"Deal {n}", CATEGORY_ID="1", OPPORTUNITY=n, event=False)
            for n in range(count * 9 // 10)
        ]
        bodies = [between.partner_event(numbers[n % len(numbers)], 5) for n in range(count)]  # a tenth are repeats
        limits = httpx2.Limits(max_connections=100, max_keepalive_connections=100)
        async with (
            httpx2.AsyncClient(trust_env=False, timeout=30, limits=limits) as client,
            trio.open_nursery() as senders,
        ):
            began = trio.current_time()
            for place, body in enumerate(bodies):
                await trio.sleep_until(began + place / rate)
                senders.start_soon(between.post, client, body)
        between.report("flood", per_second=rate, seconds=seconds)
        assert between.statuses.total() == count
        assert between.statuses["duplicate"] == count - len(numbers)
        await between.until_carried(numbers, 60 + count / 4)
        between.report("flood, carried", carried=between.carried(numbers), deals=len(numbers))
        assert between.main.doubles == []
        nursery.cancel_scope.cancel()


@pytest.mark.long
async def test_what_was_answered_is_carried_once_though_the_gateway_is_killed(tmp_path: Path) -> None:
    kills = scale("KILLS", 3)
    rng = random.Random(7)
    async with trio.open_nursery() as nursery, open_world(tmp_path, start=False) as world:
        between = Between(world)
        await nursery.start(between.partner.serve)
        await nursery.start(between.main.serve)
        async with world.gateway.running() as child:
            await world.gateway.wait_ready(child, world.url)
            await between.apply(between.route(contacts=True))
            await ready(between)
            child.kill()
            await child.wait()
        numbers = []
        for n in range(kills * 12):
            anna = between.partner.add("CONTACT", f"+3752962{n:05}", NAME=f"Client {n}")
            numbers.append(between.partner.deal(TITLE=f"Deal {n}", CATEGORY_ID="1", CONTACT_IDS=[anna], event=False))
        nursery.start_soon(lambda: between.tell(numbers, patient=True))
        for _ in range(kills):
            await _live(world, rng.uniform(0.2, 1.5))
        async with world.gateway.running() as child:
            await world.gateway.wait_ready(child, world.url)
            await between.until_carried(numbers, 180)
            between.report("kills", kills=kills, deals=len(numbers), carried=between.carried(numbers))
        assert between.main.doubles == []
        assert len(between.main.entities["CONTACT"]) == len(numbers)
        assert max(between.main.made.values()) == 1
        nursery.cancel_scope.cancel()


async def _live(world: World, seconds: float) -> None:
    async with world.gateway.running() as child:
        await world.gateway.wait_ready(child, world.url)
        await trio.sleep(seconds)
        child.kill()
        await child.wait()


@pytest.mark.long
async def test_two_routes_that_face_each_other_make_no_loop(tmp_path: Path) -> None:
    updates = scale("UPDATES", 60)
    async with trio.open_nursery() as nursery, open_world(tmp_path) as world:
        between = Between(world)
        await nursery.start(between.partner.serve)
        await nursery.start(between.main.serve)
        stages = {"field": "TITLE"}
        await between.apply(
            between.route(answer_within_ms=0, mapping={"TITLE": stages, "OPPORTUNITY": "OPPORTUNITY"}),
            between.back(answer_within_ms=0),
        )
        await ready(between)
        url = f"{world.intake}/webhook/deal"
        between.partner.APPLICATION_TOKEN, between.main.APPLICATION_TOKEN = (
            "token-of-the-partner-01",
            "token-of-june-0001",
        )
        nursery.start_soon(between.partner.send_events, url)
        nursery.start_soon(between.main.send_events, url)
        theirs = [between.partner.deal(TITLE=f"Theirs {n}") for n in range(10)]
        ours = [between.main.deal(TITLE=f"Ours {n}") for n in range(10)]
        for n in range(updates):
            portal, numbers = (between.partner, theirs) if n % 2 else (between.main, ours)
            portal.deal(numbers[n // 2 % 10], TITLE=f"Update {n}", OPPORTUNITY=n)
            await trio.sleep(0.02)
        await between.until_carried(theirs, 60 + updates / 4)
        quiet = 0.0
        with trio.fail_after(120 + updates / 4):
            while quiet < 3:
                wrote = between.partner.writes.total() + between.main.writes.total()
                await trio.sleep(0.5)
                same = wrote == between.partner.writes.total() + between.main.writes.total()
                quiet = quiet + 0.5 if same and not between.partner.pending and not between.main.pending else 0.0
        between.report(
            "facing", updates=updates, deals=[len(between.partner.entities["DEAL"]), len(between.main.entities["DEAL"])]
        )
        assert len(between.partner.entities["DEAL"]) == len(between.main.entities["DEAL"]) == 20, "loops"
        assert not any(between.partner.writes[one] for one in theirs), "what is theirs is never written by us"
        assert not any(between.main.writes[one] for one in ours)
        nursery.cancel_scope.cancel()
