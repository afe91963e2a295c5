"""Clients who call somebody else, or nobody: forwarding, do-not-disturb, dead ends, limits, hidden numbers. Read `lines.py` next."""

from trio import sleep

from tests.lab.kinds.truth import DIRECT, MOBILE, Truth, did, incoming, kind, times
from tests.lab.machine import Scene


@kind("forward-on-busy")
async def forward_on_busy(s: Scene) -> Truth:
    """150 is busy, 152 rings and answers."""
    one, other = s.smart_redirect("150"), s.smart_redirect("152")
    client = s.outside().call(did(24))
    (await one.called()).refuse()
    leg = await other.rings()
    await sleep(1)
    leg.answer()
    await sleep(2)
    client.hang_up()
    await leg.ends()
    return incoming(did(24), rang=("152",), extension="152", last_extension="152", **times(leg, leg, client))


@kind("forward-on-no-answer")
async def forward_on_no_answer(s: Scene) -> Truth:
    """150 rings three seconds, then 152, who answers."""
    one, other = s.smart_redirect("150"), s.smart_redirect("152")
    client = s.outside().call(did(25))
    first = await one.rings()
    leg = await other.rings()
    await sleep(1)
    leg.answer()
    await sleep(2)
    client.hang_up()
    await leg.ends()
    rang = ("150", "152")
    return incoming(did(25), rang=rang, extension="152", last_extension="152", **times(first, leg, client))


@kind("forward-on-no-answer-mobile")
async def forward_to_mobile(s: Scene) -> Truth:
    """150 rings three seconds, then the mobile of the same person, who answers there."""
    one, line = s.smart_redirect("150"), s.outside()
    client = line.call(did(26))
    first = await one.rings()
    mobile = await line.rings()
    await sleep(1)
    mobile.answer()
    await sleep(2)
    client.hang_up()
    await mobile.ends()
    return incoming(did(26), rang=("150",), extension="150", last_extension="150", **times(first, mobile, client))


@kind("forward-always-mobile")
async def forward_always(s: Scene) -> Truth:
    """158 has no phone, only a forward to a mobile, which answers."""
    line = s.outside()
    client = line.call(did(27))
    mobile = await line.rings()
    await sleep(1.5)
    mobile.answer()
    await sleep(2)
    client.hang_up()
    await mobile.ends()
    return incoming(did(27), rang=("158",), extension="158", last_extension="158", **times(mobile, mobile, client))


@kind("forward-always-mobile-missed")
async def forward_always_missed(s: Scene) -> Truth:
    """The same; the mobile rings, the client gives up."""
    line = s.outside()
    client = line.call(did(27))
    mobile = await line.rings()
    await sleep(1.5)
    client.hang_up()
    await mobile.ends()
    return incoming(did(27), "missed", rang=("158",))


@kind("forward-302-colleague", audio=True)
async def forward_302(s: Scene) -> Truth:
    """The phone of 150 itself forwards (302) to 152, who answers."""
    one, other = s.smart_redirect("150"), s.smart_redirect("152")
    client = s.outside().call(DIRECT)
    (await one.called()).redirect("152")
    leg = await other.rings()
    await sleep(1.5)
    leg.answer()
    await sleep(2)
    client.hang_up()
    await leg.ends()
    return incoming(DIRECT, rang=("152",), extension="152", last_extension="152", **times(leg, leg, client))


@kind("forward-302-mobile", audio=True)
async def forward_302_mobile(s: Scene) -> Truth:
    """The phone of 150 forwards (302) to a mobile, which answers: it is 150's call."""
    one, line = s.smart_redirect("150"), s.outside()
    client = line.call(DIRECT)
    (await one.called()).redirect(MOBILE)
    mobile = await line.rings()
    await sleep(1.5)
    mobile.answer()
    await sleep(2)
    client.hang_up()
    await mobile.ends()
    return incoming(DIRECT, rang=("150",), extension="150", last_extension="150", **times(mobile, mobile, client))


@kind("do-not-disturb")
async def do_not_disturb(s: Scene) -> Truth:
    """155 does not want to be disturbed: the PBX says busy without calling the phone."""
    client = s.outside().call(did(28))
    await client.ends()
    return incoming(did(28), "busy", by="system")


@kind("did-without-destination")
async def did_without_destination(s: Scene) -> Truth:
    """The number leads nowhere."""
    client = s.outside().call(did(32))
    await client.ends()
    return incoming(did(32), "failed", by="system")


@kind("congestion")
async def congestion(s: Scene) -> Truth:
    """The PBX says congestion."""
    client = s.outside().call(did(33))
    await client.ends()
    return incoming(did(33), "failed", by="system")


@kind("limit-of-talk")
async def limit_of_talk(s: Scene) -> Truth:
    """The PBX ends the talk after three seconds."""
    one = s.smart_redirect("150")
    client = s.outside().call(did(34))
    first = await one.rings()
    await sleep(1)
    first.answer()
    await client.ends()
    ended = min(leg.ended_at or 0 for leg in (client, first))
    truth = times(first, first, client) | {"ended_at": ended}
    return incoming(did(34), by="system", rang=("150",), extension="150", last_extension="150", **truth)


@kind("anonymous-caller")
async def anonymous_caller(s: Scene) -> Truth:
    """The caller hides the number (From anonymous, Privacy id)."""
    one = s.smart_redirect("150")
    client = s.outside().call(DIRECT, private=True)
    first = await one.rings()
    await sleep(1)
    first.answer()
    await client.answers()
    await sleep(1.5)
    client.hang_up()
    await first.ends()
    return incoming(
        DIRECT, caller="anonymous", rang=("150",), extension="150", last_extension="150", **times(first, first, client)
    )


@kind("hidden-presentation")
async def hidden_presentation(s: Scene) -> Truth:
    """The provider tells the number to the PBX, which must not show it."""
    one = s.smart_redirect("150")
    client = s.outside().call(did(39))
    first = await one.rings()
    await sleep(1.5)
    client.hang_up()
    await first.ends()
    return incoming(did(39), "missed", caller="anonymous", rang=("150",))
