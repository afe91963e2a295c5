"""Calls that go on with somebody else: blind, attended and blonde transfers, redirects. Read `sharing.py` next.

150 has the client; 152 is who gets him. A transfer is made by the phone (REFER), by feature code, or by AMI.
Over 400 lines: one function a kind.
"""

from typing import Any

from trio import sleep

from tests.lab.kinds.truth import DIRECT, MOBILE, Truth, incoming, internal, kind, times
from tests.lab.machine import CLIENT, TRUNK, Scene
from tests.lab.sip import Leg

TOOK: dict[str, Any] = {
    "rang": ("150", "152"),
    "extension": "150",
    "last_extension": "152",
    "transfers": (("150", "152"),),
}
LOST: dict[str, Any] = {"rang": ("150", "152"), "extension": "150", "last_extension": "150"}
STAYED: dict[str, Any] = {"rang": ("150",), "extension": "150", "last_extension": "150"}


async def talking(s: Scene) -> tuple[Leg, Leg]:
    """The client and 150, talking for a second."""
    client = s.outside().call(DIRECT)
    first = await s.smart_redirect("150").rings()
    await sleep(1)
    first.answer()
    await client.answers()
    await sleep(1)
    return client, first


async def answered_by(s: Scene, number: str) -> Leg:
    """That phone rings and answers."""
    leg = await s.smart_redirect(number).rings()
    await sleep(1)
    leg.answer()
    await sleep(1.5)
    return leg


@kind("blind-phone")
async def blind_phone(s: Scene) -> Truth:
    """REFER to 152, who answers and hangs up."""
    client, first = await talking(s)
    first.transfer("152")
    third = await answered_by(s, "152")
    third.hang_up()
    await client.ends()
    return incoming(DIRECT, by="callee", **TOOK, **times(first, first, third))


@kind("blind-phone-no-answer")
async def blind_phone_lost(s: Scene) -> Truth:
    """REFER to 152, who rings; the client gives up: answered."""
    client, first = await talking(s)
    first.transfer("152")
    third = await s.smart_redirect("152").rings()
    await sleep(1.5)
    client.hang_up()
    await third.ends()
    return incoming(DIRECT, **LOST, **times(first, first, client))


@kind("blind-phone-busy")
async def blind_phone_busy(s: Scene) -> Truth:
    """REFER to 152, who is busy; the PBX hangs up: answered."""
    other = s.smart_redirect("152")
    client, first = await talking(s)
    first.transfer("152")
    (await other.called()).refuse()
    await client.ends()
    return incoming(DIRECT, by="system", **STAYED, **times(first, first, client))


@kind("blind-busy-comes-back")
async def blind_back_busy(s: Scene) -> Truth:
    """REFER to 152, who is busy; 150 rings again and answers."""
    one, other = s.smart_redirect("150"), s.smart_redirect("152")
    client, first = await talking(s)
    first.transfer("*9152")
    (await other.called()).refuse()
    again = await one.rings()
    await sleep(1)
    again.answer()
    await sleep(1.5)
    client.hang_up()
    await again.ends()
    return incoming(DIRECT, **STAYED, **times(first, first, client))


@kind("blind-no-answer-comes-back")
async def blind_back(s: Scene) -> Truth:
    """REFER to 152, who does not answer; 150 rings again and answers."""
    one, other = s.smart_redirect("150"), s.smart_redirect("152")
    client, first = await talking(s)
    first.transfer("*9152")
    await other.rings()
    again = await one.rings()
    await sleep(1)
    again.answer()
    await sleep(1.5)
    client.hang_up()
    await again.ends()
    return incoming(DIRECT, **LOST, **times(first, first, client))


@kind("blind-phone-wrong-number")
async def blind_wrong(s: Scene) -> Truth:
    """REFER to a number that does not exist is refused: they go on talking."""
    client, first = await talking(s)
    first.transfer("444")
    await sleep(1)
    first.hang_up()
    await client.ends()
    return incoming(DIRECT, by="callee", **STAYED, **times(first, first, first))


@kind("blind-to-mobile")
async def blind_to_mobile(s: Scene) -> Truth:
    """REFER to an outside number, which answers."""
    client, first = await talking(s)
    first.transfer(MOBILE)
    far = await s.outside().rings()
    await sleep(1)
    far.answer()
    await sleep(1.5)
    client.hang_up()
    await far.ends()
    return incoming(DIRECT, **STAYED, **times(first, first, client))


@kind("blind-ami")
async def blind_ami(s: Scene) -> Truth:
    """AMI BlindTransfer to 152, who answers."""
    client, first = await talking(s)
    channel = (await s.event(Event="^BridgeEnter$", Channel="^PJSIP/150-"))["Channel"]
    await s.manager.act("BlindTransfer", Channel=channel, Context="inoffice", Exten="152")
    third = await answered_by(s, "152")
    client.hang_up()
    await third.ends()
    return incoming(DIRECT, **TOOK, **times(first, first, client))


@kind("blind-feature-code")
async def blind_feature(s: Scene) -> Truth:
    """150 presses #1 and 152, who answers."""
    client, first = await talking(s)
    await first.dial("#1")
    await sleep(1)
    await first.dial("152")
    third = await answered_by(s, "152")
    client.hang_up()
    await third.ends()
    return incoming(DIRECT, **TOOK, **times(first, first, client))


@kind("attended-phone", audio=True)
async def attended_phone(s: Scene) -> Truth:
    """150 holds the client, asks 152 in a second call, joins them (REFER with Replaces)."""
    client, first = await talking(s)
    first.hold()
    asking = s.smart_redirect("150").call("152")
    requested = await answered_by(s, "152")
    first.transfer("152", asking)
    await first.gives_over(asking)
    await sleep(1.5)
    client.hang_up()
    await requested.ends()
    return incoming(DIRECT, **TOOK, **times(first, first, client))


@kind("attended-phone-refused")
async def attended_refused(s: Scene) -> list[Truth]:
    """150 holds the client and asks 152, who declines; 150 goes back to the client: two calls."""
    client, first = await talking(s)
    first.hold()
    asking = s.smart_redirect("150").call("152")
    requested = await s.smart_redirect("152").rings()
    await sleep(1)
    requested.refuse(603, "Decline")
    await asking.ends()
    first.hold(False)
    await sleep(1)
    client.hang_up()
    await first.ends()
    return [
        incoming(DIRECT, **STAYED, **times(first, first, client)),
        internal("152", "missed", by="callee", rang=("152",)),
    ]


@kind("attended-phone-goes-back")
async def attended_goes_back(s: Scene) -> list[Truth]:
    """150 asks 152, who answers but does not want him; 150 goes back to the client: two calls."""
    client, first = await talking(s)
    first.hold()
    asking = s.smart_redirect("150").call("152")
    requested = await answered_by(s, "152")
    asking.hang_up()
    await requested.ends()
    first.hold(False)
    await sleep(1)
    first.hang_up()
    await client.ends()
    return [
        incoming(DIRECT, by="callee", **STAYED, **times(first, first, first)),
        internal("152", rang=("152",), extension="152", last_extension="152", **times(requested, requested, asking)),
    ]


@kind("attended-feature-code", audio=True)
async def attended_feature(s: Scene) -> Truth:
    """150 presses *2 and 152, talks with 152, hangs up: the client talks with 152."""
    client, first = await talking(s)
    await first.dial("*2")
    await sleep(1)
    await first.dial("152")
    third = await answered_by(s, "152")
    first.hang_up()
    await sleep(1.5)
    client.hang_up()
    await third.ends()
    return incoming(DIRECT, **TOOK, **times(first, first, client))


@kind("attended-feature-code-refused")
async def attended_feature_refused(s: Scene) -> Truth:
    """150 presses *2 and 152, who declines; 150 is back with the client."""
    client, first = await talking(s)
    await first.dial("*2")
    await sleep(1)
    await first.dial("152")
    third = await s.smart_redirect("152").rings()
    await sleep(1)
    third.refuse(603, "Decline")
    await sleep(3)
    client.hang_up()
    await first.ends()
    return incoming(DIRECT, **LOST, **times(first, first, client))


@kind("attended-ami", audio=True)
async def attended_ami(s: Scene) -> Truth:
    """AMI Atxfer to 152; 150 hangs up after talking with 152."""
    client, first = await talking(s)
    channel = (await s.event(Event="^BridgeEnter$", Channel="^PJSIP/150-"))["Channel"]
    await s.manager.act("Atxfer", Channel=channel, Context="inoffice", Exten="152")
    third = await answered_by(s, "152")
    first.hang_up()
    await sleep(1.5)
    third.hang_up()
    await client.ends()
    return incoming(DIRECT, by="callee", **TOOK, **times(first, first, third))


@kind("blonde-feature-code", audio=True)
async def blonde_feature(s: Scene) -> Truth:
    """150 presses *2 and 152, hangs up while 152 rings; 152 answers."""
    client, first = await talking(s)
    await first.dial("*2")
    await sleep(1)
    await first.dial("152")
    third = await s.smart_redirect("152").rings()
    await sleep(1)
    first.hang_up()
    await sleep(1)
    third.answer()
    await sleep(1.5)
    client.hang_up()
    await third.ends()
    return incoming(DIRECT, **TOOK, **times(first, first, client))


@kind("blonde-comes-back")
async def blonde_back(s: Scene) -> Truth:
    """150 hangs up while 152 rings; 152 does not answer; 150 is called back and answers."""
    client, first = await talking(s)
    await first.dial("*2")
    await sleep(1)
    await first.dial("152")
    third = await s.smart_redirect("152").rings()
    await sleep(1)
    first.hang_up()
    again = await s.smart_redirect("150").rings()
    await third.ends()
    await sleep(1)
    again.answer()
    await sleep(1.5)
    client.hang_up()
    await again.ends()
    return incoming(DIRECT, **LOST, **times(first, first, client))


@kind("blonde-phone")
async def blonde_phone(s: Scene) -> Truth:
    """150 asks 152 in a second call and joins them while 152 rings (REFER with Replaces); 152 answers."""
    client, first = await talking(s)
    first.hold()
    asking = s.smart_redirect("150").call("152")
    third = await s.smart_redirect("152").rings()
    await asking.rings()
    await sleep(1)
    first.transfer("152", asking)
    await first.gives_over(asking)
    await sleep(0.5)
    third.answer()
    await sleep(1.5)
    client.hang_up()
    await third.ends()
    return incoming(DIRECT, **TOOK, **times(first, first, client))


@kind("transferred-twice")
async def transferred_twice(s: Scene) -> Truth:
    """150 transfers to 152, who transfers to 153."""
    client, first = await talking(s)
    first.transfer("152")
    second = await answered_by(s, "152")
    second.transfer("153")
    third = await answered_by(s, "153")
    client.hang_up()
    await third.ends()
    return incoming(
        DIRECT, rang=("150", "152", "153"), extension="150", last_extension="153",
        transfers=(("150", "152"), ("152", "153")), **times(first, first, client),
    )  # fmt: skip


async def redirect(s: Scene, exten: str) -> None:
    """AMI Redirect of the client."""
    channel = (await s.event(Event="^Newchannel$", Channel=f"^PJSIP/{TRUNK}-"))["Channel"]
    await s.manager.act("Redirect", Channel=channel, Context="inoffice", Exten=exten, Priority="1")


@kind("redirect-ringing-to-queue")
async def redirect_to_queue(s: Scene) -> Truth:
    """150 rings; the client is redirected to the queue, where 151 answers."""
    one, two = s.smart_redirect("150"), s.smart_redirect("151")
    client = s.outside().call(DIRECT)
    first = await one.rings()
    await sleep(1.5)
    await redirect(s, "160")
    await first.ends()
    leg = await two.rings()  # 150 counts as in use until its phone is free
    await sleep(1)
    leg.answer()
    await sleep(1.5)
    client.hang_up()
    await leg.ends()
    return incoming(
        DIRECT, queue="sales", rang=("150", "151"), extension="151", last_extension="151", **times(first, leg, client)
    )


@kind("redirect-talking-to-queue")
async def redirect_talking_to_queue(s: Scene) -> Truth:
    """150 talks; the client is redirected to the queue, where 151 answers."""
    two = s.smart_redirect("151")
    client, first = await talking(s)
    await redirect(s, "160")
    await first.ends()
    leg = await two.rings()
    await sleep(1)
    leg.answer()
    await sleep(1.5)
    leg.hang_up()
    await client.ends()
    return incoming(
        DIRECT, by="callee", queue="sales", rang=("150", "151"), extension="150", last_extension="151",
        transfers=(("150", "151"),), **times(first, first, leg),
    )  # fmt: skip


@kind("redirect-ringing-to-mobile")
async def redirect_to_mobile(s: Scene) -> Truth:
    """150 rings; the client is redirected to an outside number, which answers: in place of 150."""
    line = s.outside()
    client = line.call(DIRECT)
    first = await s.smart_redirect("150").rings()
    await sleep(1.5)
    await redirect(s, MOBILE)
    far = await line.rings()
    await sleep(1)
    far.answer()
    await sleep(1.5)
    client.hang_up()
    await far.ends()
    return incoming(DIRECT, **STAYED, **times(first, far, client))


@kind("redirect-talking-to-mobile")
async def redirect_talking_to_mobile(s: Scene) -> Truth:
    """150 talks; the client is redirected to an outside number, which answers."""
    client, first = await talking(s)
    await redirect(s, MOBILE)
    far = await s.outside().rings()
    await sleep(1)
    far.answer()
    await sleep(1.5)
    client.hang_up()
    await far.ends()
    return incoming(DIRECT, **STAYED, **times(first, first, client))


@kind("redirect-outgoing")
async def redirect_outgoing(s: Scene) -> Truth:
    """150 calls the client; the client is redirected to 152, who answers."""
    caller = s.smart_redirect("150").call(CLIENT)
    far = await s.outside().rings()
    await sleep(1)
    far.answer()
    await caller.answers()
    await sleep(1)
    await redirect(s, "152")
    third = await answered_by(s, "152")
    far.hang_up()
    await third.ends()
    return Truth(
        direction="outgoing", caller="150", called=CLIENT, result="answered", hung_up_by="callee", rang=("152",),
        extension="150", last_extension="152", transfers=(("150", "152"),), **times(far, far, far),
    )  # fmt: skip
