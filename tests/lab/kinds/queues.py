"""Clients in a queue: ring-all and linear, agents behind Local channels, retries, rejection, wrap-up. Read `outgoing.py` next."""

from typing import Any

from trio import sleep

from tests.lab.kinds.truth import Truth, did, incoming, kind, times
from tests.lab.machine import Scene

BOTH = ("150", "151")


@kind("queue-linear")
async def queue_linear(s: Scene) -> Truth:
    """150 rings three seconds, then 151, who answers."""
    one, two = s.smart_redirect("150"), s.smart_redirect("151")
    client = s.outside().call(did(11))
    first = await one.rings()
    leg = await two.rings()
    await sleep(1)
    leg.answer()
    await sleep(2)
    client.hang_up()
    await leg.ends()
    return incoming(
        did(11), queue="linear", rang=BOTH, extension="151", last_extension="151", **times(first, leg, client)
    )


@kind("queue-linear-abandoned")
async def queue_linear_abandoned(s: Scene) -> Truth:
    """150, then 151 ring; the client hangs up."""
    one, two = s.smart_redirect("150"), s.smart_redirect("151")
    client = s.outside().call(did(11))
    await one.rings()
    leg = await two.rings()
    await sleep(1.5)
    client.hang_up()
    await leg.ends()
    return incoming(did(11), "missed", queue="linear", rang=BOTH)


@kind("queue-locals-rung-twice")
async def queue_rung_twice(s: Scene) -> Truth:
    """Agents behind Local channels ring, stop and ring again; 150 answers the second time."""
    one, two = s.smart_redirect("150"), s.smart_redirect("151")
    client = s.outside().call(did(12))
    first = await one.rings()
    await two.rings()
    await first.ends()
    leg = await one.rings()
    await two.rings()
    await sleep(1)
    leg.answer()
    await sleep(2)
    client.hang_up()
    await leg.ends()
    return incoming(
        did(12), queue="locals", rang=BOTH, extension="150", last_extension="150", **times(first, leg, client)
    )


@kind("queue-locals-abandoned")
async def queue_locals_abandoned(s: Scene) -> Truth:
    """Agents behind Local channels ring twice; the client hangs up."""
    one, two = s.smart_redirect("150"), s.smart_redirect("151")
    client = s.outside().call(did(12))
    first = await one.rings()
    await two.rings()
    await first.ends()
    leg = await one.rings()
    await two.rings()
    await sleep(1)
    client.hang_up()
    await leg.ends()
    return incoming(did(12), "missed", queue="locals", rang=BOTH)


@kind("queue-locals-optimised", audio=True)
async def queue_optimised(s: Scene) -> Truth:
    """Agents behind Local channels that give way once 151 talks; 151 hangs up."""
    one, two = s.smart_redirect("150"), s.smart_redirect("151")
    client = s.outside().call(did(13))
    first, leg = await one.rings(), await two.rings()
    await sleep(1.5)
    leg.answer()
    await sleep(3)
    leg.hang_up()
    await client.ends()
    truth = times(first, leg, leg)
    return incoming(
        did(13), by="callee", queue="locals-optimised", rang=BOTH, extension="151", last_extension="151", **truth
    )


@kind("queue-agent-declines-then-takes")
async def queue_declined(s: Scene) -> Truth:
    """The agent presses the red button; the queue calls again, and the agent answers."""
    one = s.smart_redirect("150")
    client = s.outside().call(did(15))
    first = await one.rings()
    await sleep(1)
    first.refuse(603, "Decline")
    leg = await one.rings()
    await sleep(1)
    leg.answer()
    await sleep(2)
    client.hang_up()
    await leg.ends()
    return incoming(
        did(15), queue="wrapup", rang=("150",), extension="150", last_extension="150", **times(first, leg, client)
    )


@kind("queue-agent-busy-then-takes")
async def queue_busy(s: Scene) -> Truth:
    """The agent's phone says busy at first; the queue calls again, and the agent answers."""
    one = s.smart_redirect("150")
    client = s.outside().call(did(15))
    (await one.called()).refuse()
    leg = await one.rings()
    await sleep(1)
    leg.answer()
    await sleep(2)
    leg.hang_up()
    await client.ends()
    truth = times(leg, leg, leg)
    return incoming(did(15), by="callee", queue="wrapup", rang=("150",), extension="150", last_extension="150", **truth)


@kind("queue-wrap-up")
async def queue_wrap_up(s: Scene) -> list[Truth]:
    """A second client waits until the agent's wrap-up is over."""
    one, line = s.smart_redirect("150"), s.outside()
    client = line.call(did(15))
    first = await one.rings()
    await sleep(1)
    first.answer()
    await sleep(1.5)
    client.hang_up()
    await first.ends()
    other = line.call(did(15), number="+375297777777")
    second = await one.rings()
    await sleep(1)
    second.answer()
    await sleep(1.5)
    other.hang_up()
    await second.ends()
    same: dict[str, Any] = {"queue": "wrapup", "rang": ("150",), "extension": "150", "last_extension": "150"}
    return [
        incoming(did(15), **same, **times(first, first, client)),
        incoming(did(15), caller="+375297777777", **same, **times(second, second, other)),
    ]


@kind("queue-timeout-voicemail")
async def queue_voicemail(s: Scene) -> Truth:
    """Four seconds of queue, then voicemail, which takes a message: missed."""
    one, two = s.smart_redirect("150"), s.smart_redirect("151")
    client = s.outside().call(did(14))
    leg = await one.rings()
    await two.rings()
    await leg.ends()
    await sleep(3)
    client.hang_up()
    return incoming(did(14), "missed", queue="sales", rang=BOTH)


@kind("queue-all-busy-abandoned")
async def queue_all_busy(s: Scene) -> Truth:
    """The only agent says busy again and again; the client hangs up in the music: every called phone said busy."""
    one = s.smart_redirect("150")
    client = s.outside().call(did(15))
    (await one.called()).refuse()
    (await one.called()).refuse()
    await sleep(0.3)
    client.hang_up()
    await sleep(0.3)
    return incoming(did(15), "busy", queue="wrapup")


@kind("queue-empty")
async def queue_empty(s: Scene) -> Truth:
    """Nobody is in the queue; the PBX gives up after three seconds."""
    client = s.outside().call(did(16))
    await client.answers()
    await client.ends()
    return incoming(did(16), "missed", by="system", queue="empty")


@kind("queue-agent-transfers-blind", audio=True)
async def queue_transfer(s: Scene) -> Truth:
    """The agent transfers the client to 152 (REFER), who answers."""
    one, two, other = s.smart_redirect("150"), s.smart_redirect("151"), s.smart_redirect("152")
    client = s.outside().call(did(12))
    leg = await one.rings()
    await two.rings()
    await sleep(1)
    leg.answer()
    await sleep(1.5)
    leg.transfer("152")
    third = await other.rings()
    await sleep(1)
    third.answer()
    await sleep(1.5)
    client.hang_up()
    await third.ends()
    return incoming(
        did(12), queue="locals", rang=("150", "151", "152"), extension="150", last_extension="152",
        transfers=(("150", "152"),), **times(leg, leg, client),
    )  # fmt: skip


@kind("internal-queue")
async def internal_queue(s: Scene) -> Truth:
    """152 calls the queue's internal number; 151 answers."""
    one, two, caller = s.smart_redirect("150"), s.smart_redirect("151"), s.smart_redirect("152")
    client = caller.call("160")
    first, leg = await one.rings(), await two.rings()
    await sleep(1)
    leg.answer()
    await sleep(2)
    client.hang_up()
    await leg.ends()
    return Truth(
        direction="internal", caller="152", called="160", result="answered", hung_up_by="caller", trunk=None,
        queue="sales", rang=BOTH, extension="151", last_extension="151", **times(first, leg, client),
    )  # fmt: skip
