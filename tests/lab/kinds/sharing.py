"""Calls that several people share: pickup, parking, conferences, follow-me. The last family.

A pickup without sound joins the two up to half a second after both were answered, so these have sound.
"""

from typing import Any

from trio import sleep

from tests.lab.kinds.transfers import talking
from tests.lab.kinds.truth import DIRECT, Truth, did, incoming, internal, kind, times
from tests.lab.machine import Scene

PICKED: dict[str, Any] = {"rang": ("150",), "extension": "152", "last_extension": "152"}
PARKED: dict[str, Any] = {"rang": ("150",), "extension": "150"}


@kind("pickup-group", audio=True)
async def pickup_group(s: Scene) -> Truth:
    """150 rings; 152 presses *8 and talks."""
    client = s.outside().call(DIRECT)
    first = await s.smart_redirect("150").rings()
    await sleep(1.5)
    taker = s.smart_redirect("152").call("*8")
    await taker.answers()
    await first.ends()
    await sleep(1.5)
    client.hang_up()
    await taker.ends()
    return incoming(DIRECT, **PICKED, **times(first, taker, client))


@kind("pickup-directed", audio=True)
async def pickup_directed(s: Scene) -> Truth:
    """150 rings; 152 picks up that phone by its number and hangs up."""
    client = s.outside().call(DIRECT)
    first = await s.smart_redirect("150").rings()
    await sleep(1.5)
    taker = s.smart_redirect("152").call("*8150")
    await taker.answers()
    await first.ends()
    await sleep(1.5)
    taker.hang_up()
    await client.ends()
    return incoming(DIRECT, by="callee", **PICKED, **times(first, taker, taker))


@kind("pickup-in-queue", audio=True)
async def pickup_queue(s: Scene) -> Truth:
    """The queue rings 150 and 151; 152 presses *8 and talks."""
    client = s.outside().call(did(3))
    first = await s.smart_redirect("150").rings()
    second = await s.smart_redirect("151").rings()
    await sleep(1.5)
    taker = s.smart_redirect("152").call("*8")
    await taker.answers()
    await second.ends()
    await sleep(1.5)
    client.hang_up()
    await taker.ends()
    return incoming(
        did(3), queue="sales", rang=("150", "151"), extension="152", last_extension="152", **times(first, taker, client)
    )


@kind("pickup-internal", audio=True)
async def pickup_internal(s: Scene) -> Truth:
    """150 calls 153; 152 picks it up."""
    caller = s.smart_redirect("150").call("153")
    first = await s.smart_redirect("153").rings()
    await sleep(1.5)
    taker = s.smart_redirect("152").call("*8153")
    await taker.answers()
    await caller.answers()
    await sleep(1.5)
    caller.hang_up()
    await taker.ends()
    return internal("153", rang=("153",), extension="152", last_extension="152", **times(first, taker, caller))


@kind("park-feature-retrieved-by-colleague")
async def park_colleague(s: Scene) -> Truth:
    """150 parks the client by feature code; 152 takes him."""
    client, first = await talking(s)
    await first.dial("#72")
    await first.ends()
    await sleep(1)
    taker = s.smart_redirect("152").call("701")
    await taker.answers()
    await sleep(1.5)
    client.hang_up()
    await taker.ends()
    return incoming(DIRECT, **PARKED, last_extension="152", transfers=(("150", "152"),), **times(first, first, client))


@kind("park-phone-retrieved-by-colleague")
async def park_refer(s: Scene) -> Truth:
    """150 parks the client by REFER to 700; 152 takes him."""
    client, first = await talking(s)
    first.transfer("700")
    await first.transferred()
    await sleep(0.2)
    if first.ended_at is None:
        first.hang_up()
    await sleep(1)
    taker = s.smart_redirect("152").call("701")
    await taker.answers()
    await sleep(1.5)
    taker.hang_up()
    await client.ends()
    truth = times(first, first, taker)
    return incoming(DIRECT, by="callee", **PARKED, last_extension="152", transfers=(("150", "152"),), **truth)


@kind("park-retrieved-by-same")
async def park_same(s: Scene) -> Truth:
    """150 parks the client and takes him back."""
    client, first = await talking(s)
    await first.dial("#72")
    await first.ends()
    await sleep(1)
    taker = s.smart_redirect("150").call("701")
    await taker.answers()
    await sleep(1.5)
    client.hang_up()
    await taker.ends()
    return incoming(DIRECT, **PARKED, last_extension="150", **times(first, first, client))


@kind("park-comes-back")
async def park_back(s: Scene) -> Truth:
    """150 parks the client; nobody takes him; 150 rings and answers."""
    client, first = await talking(s)
    await first.dial("#72")
    await first.ends()
    again = await s.smart_redirect("150").rings()
    await sleep(1)
    again.answer()
    await sleep(1.5)
    client.hang_up()
    await again.ends()
    return incoming(DIRECT, **PARKED, last_extension="150", **times(first, first, client))


@kind("park-gave-up")
async def park_gave_up(s: Scene) -> Truth:
    """150 parks the client, who hangs up: answered."""
    client, first = await talking(s)
    await first.dial("#72")
    await first.ends()
    await sleep(1.5)
    client.hang_up()
    return incoming(DIRECT, **PARKED, last_extension="150", **times(first, first, client))


@kind("conference", audio=True)
async def conference(s: Scene) -> Truth:
    """The client waits in a conference; 150 and 152 dial in; 150 leaves."""
    client = s.outside().call(did(20))
    await client.answers()
    await sleep(1)
    one = s.smart_redirect("150").call("800")
    await one.answers()
    await sleep(1)
    two = s.smart_redirect("152").call("800")
    await two.answers()
    await sleep(1)
    one.hang_up()
    await sleep(1)
    client.hang_up()
    await sleep(0.3)
    two.hang_up()
    return incoming(
        did(20), extension="150", last_extension="152", transfers=(("150", "152"),), **times(None, one, client)
    )


@kind("conference-alone")
async def conference_alone(s: Scene) -> Truth:
    """The client waits in a conference that nobody joins: missed."""
    client = s.outside().call(did(20))
    await client.answers()
    await sleep(2)
    client.hang_up()
    return incoming(did(20), "missed")


@kind("three-way")
async def three_way(s: Scene) -> Truth:
    """150 asks 152 by feature code and makes it a talk of three (*3), then leaves."""
    client, first = await talking(s)
    await first.dial("*2")
    await sleep(1)
    await first.dial("152")
    third = await s.smart_redirect("152").rings()
    await sleep(1)
    third.answer()
    await sleep(1.5)
    await first.dial("*3")
    await sleep(2)
    first.hang_up()
    await sleep(1)
    client.hang_up()
    await third.ends()
    return incoming(
        DIRECT, rang=("150", "152"), extension="150", last_extension="152", transfers=(("150", "152"),),
        **times(first, first, client),
    )  # fmt: skip


@kind("follow-me-locals", audio=True)
async def follow_me_locals(s: Scene) -> Truth:
    """153 rings, two seconds later 152 as well, each behind a Local channel; 152 answers."""
    client = s.outside().call(did(21))
    first = await s.smart_redirect("153").rings()
    leg = await s.smart_redirect("152").rings()
    await sleep(1)
    leg.answer()
    await client.answers()
    await sleep(2)
    client.hang_up()
    await leg.ends()
    return incoming(did(21), rang=("153", "152"), extension="152", last_extension="152", **times(first, leg, client))


@kind("follow-me-desk-and-mobile")
async def follow_me_mobile(s: Scene) -> Truth:
    """150 and, for 158, a mobile ring; the mobile answers: 158 did."""
    line = s.outside()
    client = line.call(did(22))
    first = await s.smart_redirect("150").rings()
    await sleep(0.5)
    leg = await line.rings()
    await sleep(1)
    leg.answer()
    await client.answers()
    await sleep(2)
    leg.hang_up()
    await client.ends()
    return incoming(
        did(22), by="callee", rang=("150", "158"), extension="158", last_extension="158", **times(first, leg, leg)
    )
